/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_ASIDE_H
#define SP_RECORDER_ASIDE_H

#include <poll.h>

#include "common/ipc.h"
#include "common/stream.h"

/*
 * What goes on beside the relay: copies of the terminals' bytes go to the
 * session's scribe once they are safe, and what it makes of them comes back
 * into the lane VIEW (doc/scribe.md). Nothing here ever waits for it, fails the
 * session, or believes it: its death or silence costs a record of the gap.
 */
#define SP_ASIDE_TERMS 8	/* terminals of one session that are read along */
#define SP_ASIDE_COPIES (1u << 20) /* bytes that wait for it; then left out */
#define SP_ASIDE_FROM 2048	/* output that makes it worth a process */
#define SP_ASIDE_QUIET_US INT64_C(15000000) /* then it may go */
#define SP_ASIDE_MID_US INT64_C(600000000) /* not in the middle of a command */
#define SP_ASIDE_STUCK_US INT64_C(10000000) /* it took nothing for so long */
#define SP_ASIDE_ASKED_US INT64_C(30000000) /* for one to be there */
#define SP_ASIDE_FAILURES 8	/* of a session; then it goes on without */
#define SP_ASIDE_LAST_US INT64_C(6000000) /* at the end of the session */
#define SP_ASIDE_HURRY_US INT64_C(1000000) /* once the broker wants it over */

struct sp_relay;

struct sp_aside_term {
	uint32_t chan;		/* 0: free */
	uint32_t cols, rows;
	bool is_closed, is_unsure;
	bool is_new;		/* its OPEN is among the copies */
	uint64_t closed_us;	/* of its CLOSE, which was sent */
	uint64_t sure_us;	/* the time up to which it was read */
	struct sp_buf state;	/* packed: the last keyframe */
	uint32_t state_bytes;	/* unpacked; 0: none */
	/* one that is coming */
	struct sp_buf part;
	uint64_t part_at_us;
	uint32_t part_total;
};

struct sp_aside {
	struct sp_aside_term t[SP_ASIDE_TERMS];
	struct sp_link link;	/* not open: there is none */
	bool is_stopping, is_last, is_done;
	struct sp_buf copies;	/* records that were not sent yet */
	size_t safe;		/* so many bytes of them are */
	uint64_t sent_us;	/* of the last record that was sent whole */
	uint64_t output;	/* bytes of output among the copies */
	bool has_enter;
	bool is_mid_line;	/* keys came, and no end of their line */
	uint64_t copy_us;	/* the time of the record at hand */
	uint64_t skipped;	/* bytes that were left out after the copies */
	uint64_t skip_from_us;
	int64_t asked_us;	/* 0: not asked */
	int64_t last_us;	/* boot time of the last copy */
	int64_t moved_us;	/* when it last took something */
	int64_t not_before_us;	/* no new one earlier */
	unsigned failures;
	int64_t allowed;	/* bytes that it may say */
};

/* A frame that was recorded and passes. */
void sp_aside_frame(struct sp_relay *r, const struct sp_frame *f,
    bool from_user);
/* All that was recorded is committed, and forwarded. */
void sp_aside_safe(struct sp_relay *r);
/* Takes the link with a scribe; the broker sent it. */
void sp_aside_begin(struct sp_relay *r, int fd);
struct pollfd sp_aside_poll(const struct sp_relay *r);
/* What it said, into the batch at hand. */
void sp_aside_hear(struct sp_relay *r);
/* Boot time of the next call. */
int64_t sp_aside_tick(struct sp_relay *r, int64_t now);
/* Is there a terminal whose last words are still to be read? */
bool sp_aside_owes(const struct sp_relay *r);
/* Gives it a moment to say the last, before the recording is closed. */
void sp_aside_finish(struct sp_relay *r);
void sp_aside_fini(struct sp_relay *r);

/* ---- aside_copy.c */
uint64_t sp_aside_now(const struct sp_relay *r); /* us since t0 */
void sp_aside_gap(struct sp_relay *r, uint32_t chan, uint64_t from,
    const char *why);
/* ---- aside.c */
void sp_aside_forget(struct sp_aside_term *t);
/* ---- aside_hear.c */
/* SP_ERR_PROTO with fault: it says what no scribe says. */
SP_MUST enum sp_err sp_aside_take(struct sp_relay *r,
    const struct sp_packet *p, const char **fault);
struct sp_aside_term *sp_aside_term(struct sp_aside *a, uint32_t chan);
void sp_aside_put(struct sp_relay *r, uint8_t lane, uint8_t kind, uint32_t chan,
    struct sp_span data);

#endif
