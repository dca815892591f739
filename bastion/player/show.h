/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_SHOW_H
#define SP_BASTION_PLAYER_SHOW_H

#include "bastion/player/player.h"
#include "recorder/term/term.h"

/*
 * The interactive replay: a recording's terminals as models, a clock, and a
 * picture of the viewer's screen that only changed cells are sent of.
 */
#define STAGE_MAX 16		/* channels at once; the oldest closed one goes */
#define SNAPSHOTS_MAX 24
#define SNAPSHOTS_BYTES (64u << 20) /* of memory, all of them */
#define SNAPSHOT_BYTES (1u << 20) /* output between two snapshots, at first */

/* The terminals at one moment. */
struct stage {
	struct actor {
		uint32_t chan;	/* 0: free */
		bool is_pty, is_open, is_small, is_sftp;
		struct sp_term *term;
	} actor[STAGE_MAX];
	uint32_t focus;		/* the channel that is shown */
	uint64_t fed;		/* bytes of output up to here */
	uint64_t at_us;		/* of the last record */
};
void stage_free(struct stage *s);
SP_MUST enum sp_err stage_copy(const struct stage *from, struct stage *to);
/* Takes one record; *changed is set when the picture may differ. */
SP_MUST enum sp_err stage_feed(struct stage *s, const struct sp_rec_record *r,
    bool *changed);
struct sp_term *stage_focused(const struct stage *s); /* NULL: nothing yet */
void stage_next_focus(struct stage *s);
unsigned stage_n_channels(const struct stage *s);
size_t stage_bytes(const struct stage *s);
/* How large a terminal may be: a user who opened many huge ones must not be
 * able to make the recording unviewable. */
void stage_cap(bool is_small, uint32_t *cols, uint32_t *rows);
#define STAGE_LARGE 4		/* terminals of any size; the others are small */

/* A recording that can be gone through in both directions. */
struct reel {
	struct sp_rec_decoder *d;
	struct stage now;
	struct snapshot {
		struct sp_rec_place place;
		struct stage stage;
	} snap[SNAPSHOTS_MAX];
	size_t n_snaps;
	uint64_t spacing;	/* bytes of output between two of them */
	uint64_t seen_off;	/* the segment that the last record came from */
	struct sp_rec_record next;
	bool has_next, is_over;
	enum sp_err why;	/* when is_over: SP_ERR_EOF, or what is damaged */
	uint64_t end_us;
	char notice[256];	/* the last text of the bastion */
};
/* end_us: how long the recording is, as its verifier found. */
SP_MUST enum sp_err reel_open(struct reel *r, int file,
    const struct sp_rec_lane_keys *keys, uint64_t end_us);
void reel_close(struct reel *r);
/* Feeds what lies up to at_us; going back restores a snapshot first. Returns
 * early, with *is_there false, after a slice of work. */
SP_MUST enum sp_err reel_go(struct reel *r, uint64_t at_us, bool *changed,
    bool *is_there);

/* The viewer's screen. */
struct canvas {
	unsigned cols, rows;
	struct sp_cell *want, *have; /* cols * rows */
	bool is_known;		/* have is what the viewer sees */
	struct sp_buf out;
	unsigned x, y;		/* where the viewer's cursor is */
	uint32_t fg, bg;
	uint8_t attr;
	bool has_pen;
};
SP_MUST enum sp_err canvas_size(struct canvas *c, unsigned cols, unsigned rows);
void canvas_fini(struct canvas *c);
void canvas_term(struct canvas *c, const struct sp_term *t);
void canvas_status(struct canvas *c, const char *text);
/* What makes the viewer's screen equal to want. */
SP_MUST enum sp_err canvas_draw(struct canvas *c, struct sp_span *bytes);

SP_MUST enum sp_err play_show(struct player *p);

#endif
