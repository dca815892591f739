/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SCRIBE_LINES_H
#define SP_SCRIBE_LINES_H

#include "recorder/term/term.h"

/*
 * The lines that a terminal showed: each once for each change, when nobody can
 * see it any more as it was (doc/scribe.md). Looked at where the target paused
 * (each piece that is fed), and before a screen is wiped.
 */
struct sp_lines;

/* A line, UTF-8 without blanks at its end, never empty; until it returns. */
typedef void sp_lines_fn(void *ctx, uint16_t row, struct sp_span text);

SP_MUST enum sp_err sp_lines_new(unsigned cols, unsigned rows, sp_lines_fn *fn,
    void *ctx, struct sp_lines **l);
/* Goes on from a state (sp_term_dump): SP_ERR_PROTO, SP_ERR_UNSUPPORTED. */
SP_MUST enum sp_err sp_lines_load(struct sp_span state, sp_lines_fn *fn,
    void *ctx, struct sp_lines **l);
void sp_lines_free(struct sp_lines *l);
/* SP_ERR_NOMEM: lines may be missing, the screen is right. */
SP_MUST enum sp_err sp_lines_feed(struct sp_lines *l, struct sp_span s);
SP_MUST enum sp_err sp_lines_resize(struct sp_lines *l, unsigned cols,
    unsigned rows);
/* What half of a long line has left the screen is told now. */
void sp_lines_flush(struct sp_lines *l);
/* Nothing follows: what stands on the screen is told. */
void sp_lines_end(struct sp_lines *l);
const struct sp_term *sp_lines_term(const struct sp_lines *l);

#endif
