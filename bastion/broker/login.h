/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_LOGIN_H
#define SP_BROKER_LOGIN_H

#include "bastion/broker/broker.h"

/* Connections: conn_new and conn_end of the supervisor come here, and the
 * links of ingress and auth processes live here. */
struct sp_logins *sp_logins_new(struct sp_broker *b);
void sp_login_conn_new(struct sp_broker *b, const struct sp_msg_conn_new *m, int fd);
void sp_login_conn_end(struct sp_broker *b, const struct sp_msg_conn_end *m);
void sp_login_auth_spawned(struct sp_broker *b, uint64_t login, int fd);
void sp_login_spawn_failed(struct sp_broker *b, uint64_t id, const char *text);
/* Disconnects every connection of a person (revoked, disabled). */
void sp_login_drop_person(struct sp_broker *b, const uint8_t person[static 16],
    const char *text);
/* A session on the channel of a verb of this connection. The callback is called
 * exactly once: ok true means that it may begin, and a true answer that the
 * verb has handed its channel over; ok false, that it stays with the verb, and
 * why. */
typedef bool (*sp_login_go_cb)(void *arg, bool ok, const char *text);
void sp_login_go(struct sp_broker *b, uint64_t conn, uint32_t chan,
    const char *account, const char *target, sp_login_go_cb cb, void *arg);
size_t sp_login_count(const struct sp_broker *b);

#endif
