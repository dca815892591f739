/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_WATCH_H
#define SP_BROKER_WATCH_H

#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"

/*
 * Somebody watches a session (doc/watching.md). The picture is a player's, which
 * reads what the target sends; whoever captures it through that must not be able
 * to press a key. So the keys that do something come to the broker and stay
 * there, and the player gets the rest.
 */
#define SP_WATCH_NOTE_MAX 400	/* bytes */

enum sp_watch_ask { SP_WATCH_NOTHING = 0, SP_WATCH_KILL, SP_WATCH_NOTE };
struct sp_watch {
	struct sp_watch *next;
	struct sp_broker *b;
	struct sp_call *c;	/* NULL: the watcher is gone */
	bool is_asked;		/* for a player; its answer is still to come */
	uint8_t session[16];
	char name[64];
	bool has_keys;		/* a terminal that is drawn on */
	bool is_shown;		/* something was; the user is told */
	int64_t from_us;
	/* the player's side */
	struct sp_stream s;
	struct event *ev, *tick;
	uint32_t status, owed;
	/* what is said to it */
	struct sp_msg_play_live was;
	char was_text[3][1201];
	bool has_said;
	char say[1000];
	int64_t say_until_us;	/* boot time */
	char over[700];
	/* keys */
	enum sp_watch_ask ask;
	int64_t asked_us;	/* boot time */
	char note[SP_WATCH_NOTE_MAX + 1];
	size_t n_note;
	uint8_t esc;
	uint64_t held;		/* what the watcher sees waiting */
	int64_t held_us;	/* boot time since when */
};

/* ---- watch.c */
/* Begins to show it; c->rows[0] is the session, c->state becomes the watch. */
void sp_watch_begin(struct sp_call *c, struct sp_session *s);
/* Says it to the player, if it is not what was said last. */
void sp_watch_tell(struct sp_watch *w);
/* For the last line, for some seconds. */
void sp_watch_say(struct sp_watch *w, const char *fmt, ...) SP_PRINTF(2, 3);
/* Keys that are not ours. */
void sp_watch_pass(struct sp_watch *w, struct sp_span keys);
/* NULL: it is over, or has not begun. */
struct sp_session *sp_watch_session(const struct sp_watch *w);
/* What waits and is shown; NULL: nothing. */
const struct sp_held *sp_watch_held(const struct sp_watch *w);
/* ---- verb_watch.c */
void sp_watch_keys(struct sp_call *c, struct sp_span bytes);

#endif
