/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SEARCH_H
#define SP_BROKER_SEARCH_H

#include "bastion/broker/session.h"

/*
 * A search over many recordings. That it takes place, its words and what it may
 * see are written down before there is a process that could read anything.
 */
struct sp_search_ask {
	const char *words;
	uint8_t lanes, what;	/* enum sp_search_lane, SP_SEARCH_* */
	uint32_t limit;
	const char *filters;	/* as they were typed, for the audit */
	/* id, person_name, account_name, target_name, started_us; newest first */
	const struct sp_rows *sessions;
};
/* As sp_session_play. */
void sp_search(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_search_ask *ask, sp_play_cb cb, void *arg);

/* What the supervisor says. True: it was for a search (descriptors are taken). */
bool sp_search_on_spawned(struct sp_broker *b,
    const struct sp_msg_play_spawned *m, const int fds[static 2]);
bool sp_search_spawn_failed(struct sp_broker *b, uint64_t id, const char *text);
void sp_search_on_opened(struct sp_broker *b,
    const struct sp_msg_search_opened *m, const int *fds);

#endif
