/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_SHOW_H
#define SP_BASTION_PLAYER_SHOW_H

#include "bastion/player/match.h"
#include "bastion/player/player.h"
#include "bastion/player/proof.h"
#include "recorder/term/term.h"

/*
 * The interactive replay: a recording's terminals as models, a clock, and a
 * picture of the viewer's screen that only changed cells are sent of.
 */
#define STAGE_MAX 16		/* channels at once; the oldest closed one goes */
#define STAGE_LARGE 4		/* terminals of any size; the others are small */
#define WHAT_BYTES 72

/* The terminals at one moment. */
struct stage {
	struct actor {
		uint32_t chan;	/* 0: free */
		bool is_pty, is_open, is_small, is_sftp;
		bool is_unsure;	/* its keyframe came after a gap */
		uint64_t since_us; /* what is not later is on its screen already */
		char what[WHAT_BYTES]; /* "shell", a command; safe to show */
		struct sp_term *term;
	} actor[STAGE_MAX];
	uint32_t focus;		/* the channel that is shown */
	uint64_t fed;		/* bytes of output up to here */
	uint64_t at_us;		/* of the last record */
	sp_term_line_fn *line;	/* lines that scroll off, or NULL */
	void *ctx;
	uint32_t feeding;	/* the channel that such a line is of */
};
void stage_free(struct stage *s);
/* Takes one record; *changed is set when the picture may differ. */
SP_MUST enum sp_err stage_feed(struct stage *s, const struct sp_rec_record *r,
    bool *changed);
struct actor *stage_find(struct stage *s, uint32_t chan);
/* That channel, or with 0 the one that has the focus; NULL: nothing yet. */
const struct actor *stage_actor(const struct stage *s, uint32_t chan);
/* The terminal of that channel, or with 0 of the one that has the focus; NULL:
 * nothing yet. */
struct sp_term *stage_shown(const struct stage *s, uint32_t chan);
unsigned stage_n_channels(const struct stage *s);
/* The whole state as compressed bytes, and back; `line` and `ctx` of `s` stay. */
SP_MUST enum sp_err stage_pack(const struct stage *s, struct sp_buf *out);
SP_MUST enum sp_err stage_unpack(struct stage *s, struct sp_span packed);
/* How large a terminal may be: a user who opened many huge ones must not be
 * able to make the recording unviewable. */
void stage_cap(bool is_small, uint32_t *cols, uint32_t *rows);

/* A place in a recording with the terminals of that moment. */
struct head {
	struct sp_rec_decoder *d;
	struct stage now;
	struct sp_rec_record next;
	bool has_next, is_over;
	enum sp_err why;	/* when is_over: SP_ERR_EOF, or what is damaged */
	uint64_t seen_off;	/* the segment that the last record came from */
	bool is_lost;		/* its terminals are of no moment */
	bool is_behind;		/* of a snapshot: what is in it is passed over */
	uint64_t passed_us;	/* up to here */
};
SP_MUST enum sp_err head_open(struct head *h, int file,
    const struct sp_rec_lane_keys *keys);
void head_close(struct head *h);
void head_rewind(struct head *h);
/* The next record into h->next, unless there is one or it is over. */
SP_MUST enum sp_err head_fetch(struct head *h);

enum mark_kind {
	MARK_COMMAND = 'c',
	MARK_FILE = 'f',
	MARK_RESIZE = 'r',
	MARK_APPROVAL = 'a',
	MARK_FREEZE = 'z',
	MARK_SECRET = 's',
	MARK_NOTICE = 'b',	/* the bastion spoke */
	MARK_FALSE = '!',	/* the scribe's screen is not what was sent */
};
struct mark {
	uint64_t at_us;
	uint32_t chan;
	uint32_t text;		/* where it stands in the texts */
	char kind;
};
struct marks {
	struct mark *m;
	size_t n, cap;
	struct sp_buf texts;	/* C strings, safe to show */
	bool has_commands;	/* of VIEW: others are not guessed */
	bool is_enter;		/* the last key was Enter */
};
void marks_init(struct marks *k);
void marks_fini(struct marks *k);
/* Takes what a record tells; records come in the order of the file. */
void marks_take(struct marks *k, const struct sp_rec_record *r);
/* A screen of the scribe that is false. */
void marks_false(struct marks *k, const struct proof_false *f);
/* A notice of the recorder that somebody froze the session, or let it go on. */
bool is_of_freeze(struct sp_span notice);
const char *marks_text(const struct marks *k, const struct mark *m);
/* The next or previous one of that kind (0: any) from a moment; NULL. */
const struct mark *marks_next(const struct marks *k, uint64_t at_us, char kind);
const struct mark *marks_prev(const struct marks *k, uint64_t at_us, char kind);

/* What was learnt by going through the file once: states to start from, and
 * what happened when. Memory is bounded: when there are too many states every
 * other one goes, and from then on they are twice as far apart. */
#define SNAPSHOTS_MAX 8192
#define SNAPSHOTS_BYTES (96u << 20) /* of memory, all of them */
#define SNAPSHOT_SPACING (256u << 10) /* output between two of them, at first */
struct index {
	struct head head;	/* goes ahead of the viewer */
	struct snapshot {
		struct sp_rec_place place;	/* of its segment */
		bool is_inside;	/* and not at its beginning */
		uint64_t at_us, fed;
		struct sp_buf state;
	} *snap;
	size_t n_snaps, bytes;
	uint64_t spacing;
	struct marks marks;
	uint64_t until_us;	/* of the last record that it has seen */
	struct proof *proof;	/* of the scribe's screens, on the way; or NULL */
	uint64_t n_false;	/* of them, that are marked */
	bool is_done;
};
SP_MUST enum sp_err index_open(struct index *x, int file,
    const struct sp_rec_lane_keys *keys);
void index_close(struct index *x);
/* Before it has begun: let it compare the scribe's screens with what it sees. The
 * records must not be covered. */
SP_MUST enum sp_err index_prove(struct index *x);
/* Goes on for about so long. */
SP_MUST enum sp_err index_work(struct index *x, int64_t us);
/* The last snapshot at or before a moment; NULL while there is none. */
const struct snapshot *index_at(const struct index *x, uint64_t at_us);

/* A recording that can be gone through in both directions. */
struct leaper;
struct reel {
	struct head head;
	struct index index;
	struct leaper *leaper;	/* NULL: nothing is shown from keyframes */
	bool is_framed;		/* what is shown came from one */
	uint64_t end_us;
	char notice[256];	/* the last text of the bastion */
};
/* end_us: how long the recording is, as its verifier found. by_frames: one that has
 * ended; a moment that the index has not come to is shown from the scribe's
 * keyframe before it, and again without when the index has. */
SP_MUST enum sp_err reel_open(struct reel *r, int file,
    const struct sp_rec_lane_keys *keys, uint64_t end_us, bool by_frames);
void reel_close(struct reel *r);
/* Feeds what lies up to at_us. Returns early, with *is_there false, after a
 * slice of work. */
SP_MUST enum sp_err reel_go(struct reel *r, uint64_t at_us, bool *changed,
    bool *is_there);
SP_MUST enum sp_err head_restore(struct head *h, const struct snapshot *s);
/* Keeps what the bastion said. */
void reel_notice(struct reel *r, const struct sp_rec_record *n);

/* leap.c */
SP_MUST enum sp_err leaper_open(struct reel *r, int file,
    const struct sp_rec_lane_keys *keys);
void leaper_close(struct reel *r);
/* Is there a keyframe that is nearer than where the head stands? Looks it up. */
bool leap_is_wanted(struct reel *r, uint64_t at_us);
/* A slice of the way there. SP_ERR_NOTFOUND, and over: there is none after all, and
 * the head stands nowhere. */
SP_MUST enum sp_err leap_work(struct reel *r, bool *is_over);

/* The lines that came to stand on a terminal: each once when it appears. */
struct lines {
	void (*fn)(void *ctx, uint32_t chan, unsigned row, struct sp_span text);
	void *ctx;
	struct lines_of {
		uint32_t chan;
		uint64_t *was, *is; /* hashes of what stood there */
		size_t n, cap;
	} of[STAGE_MAX];
	struct sp_buf text;	/* a line that scrolls off in pieces */
	struct stage *stage;
};
void lines_init(struct lines *l, struct stage *s,
    void (*fn)(void *, uint32_t, unsigned, struct sp_span), void *ctx);
void lines_fini(struct lines *l);
/* Before the first record that is to be told: what stands there is known. */
SP_MUST enum sp_err lines_forget(struct lines *l);
/* The `line` of a stage whose `ctx` is the lines. */
void lines_scrolled(void *ctx, const struct sp_cell *c, size_t n,
    bool is_wrapped);
/* After a record of the channel was fed. */
SP_MUST enum sp_err lines_look(struct lines *l, uint32_t chan);

/* `/`, n, N. A search goes on in slices, so that a key can end it. */
struct find {
	struct match match;
	bool has_match;
	bool is_busy, is_back, is_wrapped, found;
	uint64_t from_us, at_us; /* begun from; where it is, or found */
	uint64_t hit_us;	/* backwards: the last one in this piece */
	uint32_t chan, hit_chan;
	bool has_hit;
	size_t piece;		/* backwards: the snapshot */
	uint64_t piece_end_us;
	struct head head;
	struct lines lines;
	struct row_hit {
		uint32_t chan;
		unsigned row;
		uint64_t at_us;
	} last;
};
SP_MUST enum sp_err find_open(struct find *f, int file,
    const struct sp_rec_lane_keys *keys);
void find_close(struct find *f);
SP_MUST enum sp_err find_begin(struct find *f, const struct reel *r,
    uint64_t from_us, bool is_back);
/* A slice of work; when is_busy is false again, `found` says how it ended. */
SP_MUST enum sp_err find_work(struct find *f, const struct reel *r, int64_t us);

/* The viewer's screen. */
struct canvas {
	unsigned cols, rows;
	struct sp_cell *want, *have; /* cols * rows */
	struct sp_term *line;	/* lays out a row of text */
	bool is_known;		/* have is what the viewer sees */
	struct sp_buf out;
	unsigned x, y;		/* where the viewer's cursor is */
	uint32_t fg, bg;
	uint8_t attr;
	bool has_pen;
};
SP_MUST enum sp_err canvas_size(struct canvas *c, unsigned cols, unsigned rows);
void canvas_fini(struct canvas *c);
/* The part of a terminal from (x, y) on, in the first `rows` rows. */
void canvas_term(struct canvas *c, const struct sp_term *t, unsigned x,
    unsigned y, unsigned rows);
/* Where a view of `room` over `size` must begin to show `at`. */
unsigned canvas_follow(unsigned from, unsigned room, unsigned size, unsigned at,
    bool is_panned);
/* Inverts what matches in the first `rows` rows. */
void canvas_mark(struct canvas *c, const struct match *m, unsigned rows);
/* A row of text (UTF-8), from column x to the right edge. */
void canvas_text(struct canvas *c, unsigned y, unsigned x, const char *text,
    uint8_t attr);
/* What makes the viewer's screen equal to want. */
SP_MUST enum sp_err canvas_draw(struct canvas *c, struct sp_span *bytes);

SP_MUST enum sp_err play_show(struct player *p);

#endif
