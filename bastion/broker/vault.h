/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VAULT_H
#define SP_BROKER_VAULT_H

#include "bastion/broker/broker.h"

/*
 * Requests to the vault. Each has a deadline of two seconds; a vault that is
 * away, sealed or late answers SP_ERR_SEALED, SP_ERR_TIMEOUT or SP_ERR_EOF: the
 * caller denies. reply is NULL unless e is SP_OK; its spans live until the
 * callback returns. The callback is always called, exactly once, from the loop
 * (never from inside the request).
 */
typedef void (*sp_vault_cb)(void *arg, enum sp_err e, struct sp_packet *reply);

struct sp_vault *sp_vault_new(struct sp_broker *b);
void sp_vault_attach(struct sp_vault *v, int fd); /* a new link */
/* type must be a v_* request; body its encoding; reply types are checked. */
void sp_vault_call(struct sp_vault *v, uint16_t type, struct sp_span body,
    uint16_t reply_type, sp_vault_cb cb, void *arg);
/* Last v_status seen; false while there is none. Asked again on each attach
 * and every 2 s while sealed. */
bool sp_vault_is_open(const struct sp_vault *v);
const struct sp_msg_v_status_r *sp_vault_status(const struct sp_vault *v);
/* v_lease_used and security_event messages come here. */
void sp_vault_on_event(struct sp_vault *v,
    void (*cb)(void *arg, struct sp_packet *p), void *arg);

#endif
