/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_WATCH_H
#define SP_BASTION_PLAYER_WATCH_H

#include "bastion/player/show.h"

/*
 * A running session, followed live (doc/watching.md). What is shown is read from
 * the recording while it is written: the session does not know of its watchers,
 * and one that stands still costs it nothing. The keys that do something to the
 * session are the broker's; here arrive only those that move the picture.
 */
struct watch {
	struct player *p;
	struct head head;
	struct canvas canvas;
	uint8_t state;		/* enum sp_live_state */
	int64_t since_us, ends_us; /* wall clock; ends_us 0: no window */
	char who[257], held[1201], say[1001];
	char notice[256];	/* the last text of the bastion to the user */
	int64_t notice_until_us;
	uint32_t pin;		/* the channel that was chosen; 0: the live one */
	unsigned vx, vy;
	bool is_panned, is_help, changed, quit;
	/* Where to go on from when the file is not as it was read: the segments that
	 * the last records came from. */
	struct sp_rec_place place[2];
	unsigned n_places, tries;
	uint64_t skip_us;	/* what is not later was fed already */
	bool has_skipped;	/* some of that: the place was right */
	uint64_t size, size_read; /* of the file; when its end was reached */
	int64_t moved_us;	/* boot time of the last record */
	bool is_there;		/* all that is recorded is on the picture */
	int64_t there_us;	/* boot time when it last was */
	int64_t drawn_us, slow_from_us;
	int64_t over_us;	/* boot time of the broker's word; 0: it runs */
	uint8_t esc;		/* 1 after ESC, 2 in a sequence */
	const char *why;	/* the end, for people; NULL: the watcher left */
};

/* What the broker said meanwhile. */
SP_MUST enum sp_err watch_hear(struct watch *w);
/* Takes what was recorded meanwhile, at most a slice of it. */
SP_MUST enum sp_err watch_go(struct watch *w);
/* Is it over, and all of it shown? */
bool watch_is_over(const struct watch *w);
/* How long until there may be something new, in milliseconds. */
int watch_wait_ms(const struct watch *w);
/* watch_draw.c */
SP_MUST enum sp_err watch_draw(struct watch *w, int64_t now);
/* watch_plain.c: lines, for who has no terminal, or asked for JSON */
SP_MUST enum sp_err watch_plain(struct watch *w);

/* SP_ERR_EOF: the viewer went away. */
SP_MUST enum sp_err play_watch(struct player *p);

#endif
