/* SPDX-License-Identifier: Apache-2.0 */
/* Screens as numbers of rows: a row that was there before costs its number. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/player/page.h"

#define ROWS_MAX (1u << 20)
#define STYLES_MAX 4096
#define KEY_EACH 200		/* changes between two whole screens */
#define ROW_MAX (SP_TERM_COLS_MAX * 64)

struct name {
	uint8_t hash[16];
	uint32_t id;
	bool is_used;
};

struct names {			/* what has a number already */
	struct name *at;
	uint32_t n, cap;	/* a power of two */
};

struct screen {
	uint32_t chan;		/* 0: free */
	unsigned cols, rows, x, y, since_key;
	bool has_cursor;
	uint32_t row[SP_TERM_ROWS_MAX];
};

struct pages {
	struct sp_buf *out;
	struct names rows, styles;
	struct screen screen[STAGE_MAX];
	struct sp_buf row, text;
};

enum sp_err
pages_new(struct sp_buf *out, struct pages **g)
{
	if ((*g = calloc(1, sizeof(**g))) == NULL)
		return SP_ERR_NOMEM;
	(*g)->out = out;
	sp_buf_init(&(*g)->row, ROW_MAX * 8);
	sp_buf_init(&(*g)->text, ROW_MAX);
	return SP_OK;
}

void
pages_free(struct pages *g)
{
	if (g == NULL)
		return;
	free(g->rows.at);
	free(g->styles.at);
	sp_buf_fini(&g->row);
	sp_buf_fini(&g->text);
	free(g);
}

/* ------------------------------------------------------------------ numbers */

static struct name *
place(struct names *s, const uint8_t hash[static 16])
{
	uint32_t i;

	memcpy(&i, hash, sizeof(i));
	while (s->at[i &= s->cap - 1].is_used && memcmp(s->at[i].hash, hash, 16) != 0)
		i++;
	return &s->at[i];
}

static enum sp_err
grow(struct names *s)
{
	struct names more = {.cap = s->cap == 0 ? 256 : s->cap * 2, .n = s->n};

	if ((more.at = calloc(more.cap, sizeof(*more.at))) == NULL)
		return SP_ERR_NOMEM;
	for (uint32_t i = 0; i < s->cap; i++)
		if (s->at[i].is_used)
			*place(&more, s->at[i].hash) = s->at[i];
	free(s->at);
	*s = more;
	return SP_OK;
}

/* The number of a line of output, which is written if it is new. A hash that
 * nobody finds two texts of: a recording is hostile. */
static enum sp_err
number(struct pages *g, struct names *s, uint32_t max, struct sp_span line,
    uint32_t *id)
{
	struct name *n;
	uint8_t hash[16];

	if (s->n * 2 >= s->cap)
		SP_TRY(grow(s));
	crypto_generichash(hash, sizeof(hash), line.p, line.n, NULL, 0);
	n = place(s, hash);
	if (!n->is_used) {
		if (s->n == max)
			return SP_ERR_FULL;
		SP_TRY(sp_buf_put(g->out, line.p, line.n));
		memcpy(n->hash, hash, sizeof(hash));
		n->is_used = true;
		n->id = s->n++;
	}
	*id = n->id;
	return SP_OK;
}

/* --------------------------------------------------------------------- rows */

enum sp_err
pages_string(struct sp_buf *out, struct sp_span s)
{
	SP_BUF_AUTO b = {.max = s.n * 12 + 16};

	SP_TRY(json_string(&b, s));
	s = sp_buf_span(&b);
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '<' || s.p[i] == '>' || s.p[i] == '&')
			SP_TRY(sp_buf_printf(out, "\\u%04x", s.p[i]));
		else
			SP_TRY(sp_buf_put_u8(out, s.p[i]));
	}
	return SP_OK;
}

static int
colour(uint32_t c)
{
	return c == 0 ? -1 : c >= SP_COLOUR_RGB ? (int)(256 + (c & 0xffffff)) :
	    (int)(c & 0xff);
}

static unsigned
class_of(const struct sp_cell *c)
{
	return c->width == 2 ? 2 : c->ch < 0x80 && c->mark[0] == 0 ? 0 : 1;
}

/* Concealed text is shown; nothing blinks at an auditor. */
static uint8_t
attr_of(const struct sp_cell *c)
{
	return c->attr & (uint8_t)~(SP_ATTR_HIDDEN | SP_ATTR_BLINK);
}

static bool
is_alike(const struct sp_cell *a, const struct sp_cell *b)
{
	return a->fg == b->fg && a->bg == b->bg && attr_of(a) == attr_of(b) &&
	    class_of(a) == class_of(b);
}

static bool
is_blank(const struct sp_cell *c)
{
	return (c->ch == ' ' || c->ch == 0) && c->bg == 0 && c->width == 1 &&
	    (c->attr & (SP_ATTR_INVERSE | SP_ATTR_UNDERLINE | SP_ATTR_STRIKE)) == 0;
}

static enum sp_err
run(struct pages *g, const struct sp_cell *c, size_t n)
{
	SP_BUF_AUTO line = {.max = 64};
	uint32_t style = 0;

	SP_TRY(sp_buf_printf(&line, "[\"s\",%d,%d,%u]\n", colour(c->fg),
	    colour(c->bg), attr_of(c)));
	SP_TRY(number(g, &g->styles, STYLES_MAX, sp_buf_span(&line), &style));
	sp_buf_reset(&g->text);
	SP_TRY(sp_cells_text(c, n, true, &g->text));
	SP_TRY(sp_buf_put_u8(&g->row, ','));
	SP_TRY(pages_string(&g->row, sp_buf_span(&g->text)));
	return sp_buf_printf(&g->row, ",%u", style * 4 + class_of(c));
}

static enum sp_err
row(struct pages *g, const struct sp_cell *c, size_t n, uint32_t *id)
{
	size_t k;

	while (n > 0 && is_blank(&c[n - 1]))
		n--;
	sp_buf_reset(&g->row);
	SP_TRY(sp_buf_put(&g->row, "[\"r\"", 4));
	for (size_t i = 0; i < n; i += k) {
		for (k = 1; i + k < n && (c[i + k].width == 0 ||
		    is_alike(&c[i], &c[i + k])); k++)
			;
		SP_TRY(run(g, &c[i], k));
	}
	SP_TRY(sp_buf_put(&g->row, "]\n", 2));
	return number(g, &g->rows, ROWS_MAX, sp_buf_span(&g->row), id);
}

/* ------------------------------------------------------------------- frames */

static struct screen *
screen_of(struct pages *g, uint32_t chan)
{
	struct screen *s = NULL;

	for (size_t i = 0; i < STAGE_MAX && s == NULL; i++)
		if (g->screen[i].chan == chan)
			s = &g->screen[i];
	for (size_t i = 0; i < STAGE_MAX && s == NULL; i++)
		if (g->screen[i].chan == 0)
			s = &g->screen[i];
	if (s == NULL)
		s = &g->screen[chan % STAGE_MAX];
	if (s->chan != chan)
		*s = (struct screen){.chan = chan};
	return s;
}

static enum sp_err
whole(struct pages *g, const struct screen *s, unsigned long long ms,
    const uint32_t *is)
{
	SP_TRY(sp_buf_printf(g->out, "[\"k\",%llu,%u,%u,%u,%u,%u,%d,[", ms, s->chan,
	    s->cols, s->rows, s->x, s->y, s->has_cursor));
	for (unsigned y = 0; y < s->rows; y++)
		SP_TRY(sp_buf_printf(g->out, y == 0 ? "%u" : ",%u", is[y]));
	return sp_buf_put(g->out, "]]\n", 3);
}

static enum sp_err
changed(struct pages *g, const struct screen *s, unsigned long long ms,
    const uint32_t *is)
{
	bool is_first = true;

	SP_TRY(sp_buf_printf(g->out, "[\"d\",%llu,%u,%u,%u,%d,[", ms, s->chan, s->x,
	    s->y, s->has_cursor));
	for (unsigned y = 0; y < s->rows; y++) {
		if (is[y] == s->row[y])
			continue;
		SP_TRY(sp_buf_printf(g->out, is_first ? "%u,%u" : ",%u,%u", y,
		    is[y]));
		is_first = false;
	}
	return sp_buf_put(g->out, "]]\n", 3);
}

enum sp_err
pages_frame(struct pages *g, uint64_t at_us, uint32_t chan,
    const struct sp_term *t)
{
	struct screen *s = screen_of(g, chan), now = {.chan = chan,
	    .cols = sp_term_cols(t), .rows = sp_term_rows(t)};
	unsigned long long ms = at_us / 1000;

	for (unsigned y = 0; y < now.rows; y++)
		SP_TRY(row(g, sp_term_row(t, y), now.cols, &now.row[y]));
	sp_term_cursor(t, &now.x, &now.y, &now.has_cursor);
	if (s->cols != now.cols || s->rows != now.rows || s->since_key >= KEY_EACH) {
		SP_TRY(whole(g, &now, ms, now.row));
		*s = now;
		return SP_OK;
	}
	if (s->x == now.x && s->y == now.y && s->has_cursor == now.has_cursor &&
	    memcmp(s->row, now.row, sizeof(now.row[0]) * now.rows) == 0)
		return SP_OK;
	now.since_key = s->since_key + 1;
	s->x = now.x;
	s->y = now.y;
	s->has_cursor = now.has_cursor;
	SP_TRY(changed(g, s, ms, now.row));
	*s = now;
	return SP_OK;
}
