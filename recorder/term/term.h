/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_TERM_H
#define SP_RECORDER_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * A terminal's screen as a model (ECMA-48 and what xterm adds): bytes of a
 * recording go in, cells come out. Nothing that goes in ever comes out as
 * bytes, so a hostile recording cannot reach a viewer's terminal. Memory is
 * fixed by the size; feeding allocates nothing. Strings (OSC, DCS, APC, PM,
 * SOS) and questions to the terminal are passed over.
 */
#define SP_TERM_COLS_MAX 500
#define SP_TERM_ROWS_MAX 250
#define SP_CELL_MARKS 2		/* combining characters on one cell */

/* Colours: 0 the default, 1 << 24 | index of 256, 2 << 24 | RGB. */
#define SP_COLOUR_INDEX (1u << 24)
#define SP_COLOUR_RGB (2u << 24)

enum sp_attr {
	SP_ATTR_BOLD = 1 << 0,
	SP_ATTR_FAINT = 1 << 1,
	SP_ATTR_ITALIC = 1 << 2,
	SP_ATTR_UNDERLINE = 1 << 3,
	SP_ATTR_BLINK = 1 << 4,
	SP_ATTR_INVERSE = 1 << 5,
	SP_ATTR_HIDDEN = 1 << 6,
	SP_ATTR_STRIKE = 1 << 7,
};

struct sp_cell {
	uint32_t ch;		/* printable, 0 and ' ' are blank */
	uint32_t mark[SP_CELL_MARKS];
	uint32_t fg, bg;
	uint8_t attr;
	uint8_t width;		/* 1, 2, or 0: the right half of a wide one */
};

struct sp_term;

/* A line that scrolled off the top of the main screen: n cells, and whether
 * it goes on in the next line. */
typedef void sp_term_line_fn(void *ctx, const struct sp_cell *cells, size_t n,
    bool is_wrapped);

/* Sizes are held within 1 and the most. line may be NULL. */
SP_MUST enum sp_err sp_term_new(unsigned cols, unsigned rows,
    sp_term_line_fn *line, void *ctx, struct sp_term **t);
void sp_term_free(struct sp_term *t);
/* A copy that goes its own way; lines are told to the same function. */
SP_MUST enum sp_err sp_term_copy(const struct sp_term *t,
    struct sp_term **copy);
/* The whole state as bytes: both screens, modes, margins, tabs, charsets, saved
 * cursors, the wrap that waits, the parser in the middle of a sequence. Loaded
 * again it goes on as the first would have: a keyframe. The layout is in
 * doc/terminal.md; at most SP_TERM_DUMP_MAX bytes. */
#define SP_TERM_DUMP_MAX (SP_TERM_COLS_MAX * SP_TERM_ROWS_MAX * 24 * 2 + 4096)
SP_MUST enum sp_err sp_term_dump(const struct sp_term *t, struct sp_buf *b);
/* Takes nothing on trust: SP_ERR_PROTO for a state that no input could have
 * made the screen of, SP_ERR_UNSUPPORTED for another layout. */
SP_MUST enum sp_err sp_term_load(struct sp_span s, sp_term_line_fn *line,
    void *ctx, struct sp_term **t);
/* Told before much of a screen goes at once: it is erased, left for the other
 * one, or made anew. The context is that of `line`. */
typedef void sp_term_wipe_fn(void *ctx);
void sp_term_on_wipe(struct sp_term *t, sp_term_wipe_fn *wipe);
void sp_term_reset(struct sp_term *t);	/* as at the start, size kept */
void sp_term_feed(struct sp_term *t, struct sp_span s);
SP_MUST enum sp_err sp_term_resize(struct sp_term *t, unsigned cols,
    unsigned rows);

unsigned sp_term_cols(const struct sp_term *t);
unsigned sp_term_rows(const struct sp_term *t);
/* The row's cells, sp_term_cols of them, until the next feed or resize. */
const struct sp_cell *sp_term_row(const struct sp_term *t, unsigned y);
bool sp_term_row_is_wrapped(const struct sp_term *t, unsigned y);
/* A `*` in place of what stands there; of a wide character two. */
void sp_term_cover(struct sp_term *t, unsigned x, unsigned y);
void sp_term_cursor(const struct sp_term *t, unsigned *x, unsigned *y,
    bool *is_visible);
bool sp_term_is_alternate(const struct sp_term *t);
/* The text of cells as UTF-8 without blanks at the end (unless `all`). */
SP_MUST enum sp_err sp_cells_text(const struct sp_cell *cells, size_t n,
    bool all, struct sp_buf *out);

#endif
