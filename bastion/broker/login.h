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
size_t sp_login_count(const struct sp_broker *b);

#endif
