/* SPDX-License-Identifier: Apache-2.0 */
/* Lines that came to stand on a terminal, each once when it appears: what a
 * person could have read there. A line that goes on in the next row is one. */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/show.h"

#define LINE_TEXT_MAX (SP_TERM_COLS_MAX * SP_TERM_ROWS_MAX * 12)

void
lines_init(struct lines *l, struct stage *s,
    void (*fn)(void *, uint32_t, unsigned, struct sp_span), void *ctx)
{
	*l = (struct lines){.fn = fn, .ctx = ctx, .stage = s};
	sp_buf_init(&l->text, LINE_TEXT_MAX);
}

static void
drop(struct lines_of *o)
{
	free(o->was);
	free(o->is);
	*o = (struct lines_of){0};
}

void
lines_fini(struct lines *l)
{
	for (size_t i = 0; i < STAGE_MAX; i++)
		drop(&l->of[i]);
	sp_buf_fini(&l->text);
}

/* FNV-1a over the characters: colours make no other line. */
static uint64_t
hash_cells(uint64_t h, const struct sp_cell *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		h = (h ^ (c[i].ch == 0 ? ' ' : c[i].ch)) * 0x100000001b3u;
		if (c[i].mark[0] != 0)
			h = (h ^ c[i].mark[0]) * 0x100000001b3u;
	}
	return h;
}
#define HASH_START 0xcbf29ce484222325u

/* Blanks at the end make no other line, whatever the width. */
static size_t
used(const struct sp_cell *c, size_t n)
{
	while (n > 0 && (c[n - 1].ch == ' ' || c[n - 1].ch == 0))
		n--;
	return n;
}

static struct lines_of *
of(struct lines *l, uint32_t chan, unsigned rows)
{
	struct lines_of *o = NULL;

	for (size_t i = 0; i < STAGE_MAX && o == NULL; i++)
		if (l->of[i].chan == chan)
			o = &l->of[i];
	for (size_t i = 0; i < STAGE_MAX && o == NULL; i++)
		if (l->of[i].chan == 0 ||
		    stage_find(l->stage, l->of[i].chan) == NULL)
			o = &l->of[i];
	if (o == NULL)
		o = &l->of[0];
	if (o->chan != chan)
		drop(o);
	o->chan = chan;
	if (o->cap < rows) {
		drop(o);
		o->chan = chan;
		o->was = calloc(rows, sizeof(*o->was));
		o->is = calloc(rows, sizeof(*o->is));
		o->cap = rows;
	}
	return o->was == NULL || o->is == NULL ? NULL : o;
}

static bool
was_there(const struct lines_of *o, uint64_t h)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->was[i] == h)
			return true;
	return false;
}

static enum sp_err
tell(struct lines *l, const struct sp_term *t, uint32_t chan, unsigned y,
    unsigned rows)
{
	sp_buf_reset(&l->text);
	for (unsigned i = 0; i < rows; i++)
		SP_TRY(sp_cells_text(sp_term_row(t, y + i), sp_term_cols(t),
		    i + 1 < rows, &l->text));
	l->fn(l->ctx, chan, y, sp_buf_span(&l->text));
	sp_buf_reset(&l->text);
	return SP_OK;
}

static enum sp_err
look(struct lines *l, uint32_t chan, bool is_told)
{
	const struct sp_term *t = stage_shown(l->stage, chan);
	unsigned rows, cols, n;
	struct lines_of *o;
	uint64_t *swap;
	size_t at = 0;

	if (t == NULL)
		return SP_OK;
	rows = sp_term_rows(t);
	cols = sp_term_cols(t);
	if ((o = of(l, chan, rows)) == NULL)
		return SP_ERR_NOMEM;
	for (unsigned y = 0; y < rows; y += n) {
		uint64_t h = HASH_START;

		for (n = 1; y + n < rows &&
		    sp_term_row_is_wrapped(t, y + n - 1); n++)
			h = hash_cells(h, sp_term_row(t, y + n - 1), cols);
		h = hash_cells(h, sp_term_row(t, y + n - 1),
		    used(sp_term_row(t, y + n - 1), cols));
		o->is[at++] = h;
		if (is_told && h != HASH_START && !was_there(o, h))
			SP_TRY(tell(l, t, chan, y, n));
	}
	swap = o->was;
	o->was = o->is;
	o->is = swap;
	o->n = at;
	return SP_OK;
}

enum sp_err
lines_forget(struct lines *l)
{
	sp_buf_reset(&l->text);
	for (size_t i = 0; i < STAGE_MAX; i++)
		drop(&l->of[i]);
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (l->stage->actor[i].chan != 0)
			SP_TRY(look(l, l->stage->actor[i].chan, false));
	return SP_OK;
}

enum sp_err
lines_look(struct lines *l, uint32_t chan)
{
	return look(l, chan, true);
}

/* A line that came and scrolled off within one record stands on no screen that
 * lines_look sees. */
void
lines_scrolled(void *ctx, const struct sp_cell *c, size_t n, bool is_wrapped)
{
	struct lines *l = ctx;
	uint32_t chan = l->stage->feeding;
	struct lines_of *o = NULL;
	uint64_t h;

	for (size_t i = 0; i < STAGE_MAX && o == NULL; i++)
		if (l->of[i].chan == chan)
			o = &l->of[i];
	h = hash_cells(HASH_START, c, is_wrapped ? n : used(c, n));
	if (!is_wrapped && l->text.len == 0 && (h == HASH_START ||
	    (o != NULL && was_there(o, h))))
		return;
	if (sp_cells_text(c, n, is_wrapped, &l->text) != SP_OK || is_wrapped)
		return;
	l->fn(l->ctx, chan, 0, sp_buf_span(&l->text));
	sp_buf_reset(&l->text);
}
