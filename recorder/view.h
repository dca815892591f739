/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_VIEW_H
#define SP_RECORDER_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * What was derived from a terminal's bytes: the records of the lane VIEW, and
 * two of META (doc/scribe.md). None of it is evidence: whoever holds OUT and IN
 * can derive it again. The bytes of each kind are in that document. A record is
 * written a little after what it tells of, and has the time of that in it.
 */
enum sp_view_kind {
	SP_VIEW_KEYFRAME = 40,
	SP_VIEW_LINE = 41,
	SP_VIEW_COMMAND = 42,
	SP_VIEW_SECRET = 43,	/* META */
	SP_VIEW_GAP = 44,	/* META */
	SP_VIEW_LINES = 46,	/* many LINE as one */
};
#define SP_VIEW_LINE_MAX 6144	/* bytes of text */
#define SP_VIEW_COMMAND_MAX 4096
#define SP_VIEW_WHY_MAX 200
#define SP_VIEW_STATE_MAX (448u << 10)
#define SP_VIEW_AGO_MAX (UINT64_C(3600) * 1000000)

/* The channel's screen after every record of its kinds out, err and resize whose
 * time is not after at_us. */
struct sp_view_keyframe {
	uint64_t at_us;		/* since t0, like a record's time */
	uint32_t cols, rows;
	/* Some output was not read before it (kind gap): it may be wrong until
	 * the screen is drawn anew. */
	bool is_unsure;
	struct sp_span state;	/* sp_term_load */
};
/* A line of the screen that nobody sees any more as it was: it scrolled away, was
 * overwritten, or stood there at the end. */
struct sp_view_line {
	uint64_t ago_us;
	uint16_t row;		/* 0: the screen's first, or above it */
	struct sp_span text;	/* UTF-8, printable, no blanks at its end */
};
enum sp_view_source {
	SP_VIEW_SCREEN = 1,
	SP_VIEW_OSC = 2,	/* OSC 633, 133: the shell's own word */
	SP_VIEW_EXEC = 3,	/* exact: a channel's request */
};
struct sp_view_command {
	uint64_t ago_us;	/* Enter */
	enum sp_view_source source;
	uint8_t percent;	/* confidence */
	uint16_t row;
	struct sp_span text;
};
/* Both in us since the recording's t0. */
struct sp_view_span {
	uint64_t from_us, to_us;
	struct sp_span why;	/* of a gap; of a secret empty */
};

SP_MUST enum sp_err sp_view_keyframe_encode(struct sp_buf *b,
    const struct sp_view_keyframe *k);
SP_MUST enum sp_err sp_view_line_encode(struct sp_buf *b,
    const struct sp_view_line *l);
SP_MUST enum sp_err sp_view_command_encode(struct sp_buf *b,
    const struct sp_view_command *c);
SP_MUST enum sp_err sp_view_span_encode(struct sp_buf *b,
    const struct sp_view_span *s);
/* A record's data. SP_ERR_PROTO for what no writer of ours makes;
 * SP_ERR_UNSUPPORTED for a later format of keyframes. */
SP_MUST enum sp_err sp_view_keyframe_decode(struct sp_span s,
    struct sp_view_keyframe *k);
SP_MUST enum sp_err sp_view_line_decode(struct sp_span s,
    struct sp_view_line *l);
SP_MUST enum sp_err sp_view_command_decode(struct sp_span s,
    struct sp_view_command *c);
SP_MUST enum sp_err sp_view_span_decode(struct sp_span s,
    struct sp_view_span *v);

/*
 * Many lines of one channel as one record: what they have in common costs once, and
 * their text is what the target sent, which the compressor has just seen. A decoder
 * gives them out one by one (recorder/read.h).
 */
#define SP_VIEW_LINES_MAX 1024
struct sp_view_lines {
	uint64_t n, ago_ms;	/* left; of the last */
	struct sp_span agos, rows, text;
};
/* n lines, none later than the one after it. SP_ERR_INVAL, SP_ERR_TOOBIG. */
SP_MUST enum sp_err sp_view_lines_encode(struct sp_buf *b,
    const struct sp_view_line *l, size_t n);
/* Checks all of it: SP_ERR_PROTO, and it->n is 0. The data stay the caller's. */
SP_MUST enum sp_err sp_view_lines_begin(struct sp_span s,
    struct sp_view_lines *it);
bool sp_view_lines_next(struct sp_view_lines *it, struct sp_view_line *l);
/* Is this text that such a record may have: UTF-8 without controls? It came from
 * a target all the same: whoever shows it uses sp_vis. */
bool sp_view_is_text(struct sp_span s, size_t max);
/* The same; a command may have had several lines. */
bool sp_view_is_command(struct sp_span s);

#endif
