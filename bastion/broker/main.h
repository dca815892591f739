/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_MAIN_H
#define SP_BROKER_MAIN_H

#include "bastion/broker/broker.h"

/* What main.c and its neighbours share. */

/* Loads the newest policy; calls itself again until the first one is there.
 * policy_load.c */
void sp_broker_policy_load(struct sp_broker *b);
/* What comes from the supervisor, the vault and the store by itself.
 * from_sup.c */
void sp_broker_on_sup_packet(struct sp_peer *p, struct sp_packet *k, void *arg);
void sp_broker_on_sup_end(struct sp_peer *p, const char *fault, void *arg);
void sp_broker_on_vault_event(void *arg, struct sp_packet *p);
void sp_broker_on_change(void *arg);
/* The system calls and files that are left after set-up. main_sandbox.c */
SP_MUST enum sp_err sp_broker_confine(char *level, size_t cap);
/* Environment of libpq: nothing of the caller's account is looked at. */
void sp_broker_environment(void);

#endif
