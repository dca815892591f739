/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_SESSION_H
#define SP_BROKER_VERB_SESSION_H

#include "bastion/broker/verb_int.h"

/* Finding one session by the beginning of its id; rows[0] of the call. */
#define SP_SESSION_SELECT                                                     \
	"SELECT id, person_id, person_name, account_name, target_name, "      \
	"grant_id, node, peer_addr, rule, policy_hash, started_us, ended_us, " \
	"state, end_code, reason, bytes_in, bytes_out, chunks, head, "        \
	"recovered, rules, kind FROM sessions"
void sp_session_resolve(struct sp_call *c, const char *prefix,
    void (*then)(struct sp_call *c));
bool sp_session_is_mine(const struct sp_call *c, size_t row);
/* True when there is exactly one and it is allowed; else the call has ended.
 * What one may not see looks like what is not there. */
bool sp_session_found(struct sp_call *c, bool allowed);
/* The one of rows[0], live and on this bastion; NULL: the call has ended. */
struct sp_session *sp_session_running(struct sp_call *c);

/* verb_steer.c */
struct sp_deed;
const struct sp_deed *sp_deed_named(const char *verb);
/* verb_watch.c: the names of those who watch it now, "" for nobody. */
void sp_watchers_of(const uint8_t session[static 16], char *dst, size_t cap);

#endif
