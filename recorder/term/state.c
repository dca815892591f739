/* SPDX-License-Identifier: Apache-2.0 */
/* The whole state as bytes and back. What means nothing in a state (parameters
 * outside of a sequence, the pieces of no character) is written as zeros, so
 * that two terminals that will behave alike have one form. */
#include <string.h>

#include "recorder/term/internal.h"

static const uint8_t magic[5] = {'S', 'P', 'T', 'S', 1};

enum flag {
	F_ALTERNATE = 1 << 0,
	F_PENDING = 1 << 1,
	F_ORIGIN = 1 << 2,
	F_INSERT = 1 << 3,
	F_NO_WRAP = 1 << 4,
	F_NEWLINE = 1 << 5,
	F_HIDDEN = 1 << 6,
};

/* ------------------------------------------------------------------ writing */

static enum sp_err
put_pen(struct sp_buf *b, const struct pen *p)
{
	SP_TRY(sp_buf_put_u32(b, p->fg));
	SP_TRY(sp_buf_put_u32(b, p->bg));
	return sp_buf_put_u8(b, p->attr);
}

static enum sp_err
put_bits(struct sp_buf *b, const void *of, unsigned n)
{
	const uint8_t *p = of;

	for (unsigned i = 0; i < n; i += 8) {
		uint8_t v = 0;

		for (unsigned k = 0; k < 8 && i + k < n; k++)
			v |= (uint8_t)((p[i + k] != 0) << k);
		SP_TRY(sp_buf_put_u8(b, v));
	}
	return SP_OK;
}

static enum sp_err
put_cell(struct sp_buf *b, unsigned run, const struct sp_cell *c)
{
	struct pen p = {c->fg, c->bg, c->attr};

	SP_TRY(sp_buf_put_u16(b, (uint16_t)run));
	SP_TRY(sp_buf_put_u8(b, c->width));
	SP_TRY(sp_buf_put_u32(b, c->ch));
	for (size_t i = 0; i < SP_CELL_MARKS; i++)
		SP_TRY(sp_buf_put_u32(b, c->mark[i]));
	return put_pen(b, &p);
}

static bool
is_same(const struct sp_cell *a, const struct sp_cell *b)
{
	for (size_t i = 0; i < SP_CELL_MARKS; i++)
		if (a->mark[i] != b->mark[i])
			return false;
	return a->ch == b->ch && a->fg == b->fg && a->bg == b->bg &&
	    a->attr == b->attr && a->width == b->width;
}

/* The i-th from the top left. */
static const struct sp_cell *
cell(const struct sp_term *t, const struct screen *s, size_t i)
{
	return &s->cell[(size_t)s->line[i / t->cols] * t->cols + i % t->cols];
}

static enum sp_err
put_screen(struct sp_buf *b, const struct sp_term *t, const struct screen *s)
{
	size_t n = (size_t)t->cols * t->rows;
	unsigned run;

	SP_TRY(sp_buf_put_u16(b, (uint16_t)s->saved.x));
	SP_TRY(sp_buf_put_u16(b, (uint16_t)s->saved.y));
	SP_TRY(put_pen(b, &s->saved.pen));
	SP_TRY(sp_buf_put(b, s->saved.charset, sizeof(s->saved.charset)));
	SP_TRY(sp_buf_put_u8(b, s->saved.gl));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)(s->saved.is_origin ? F_ORIGIN : 0) |
	    (uint8_t)(s->saved.is_pending ? F_PENDING : 0)));
	SP_TRY(put_bits(b, s->wrapped, t->rows));
	for (size_t i = 0; i < n; i += run) {
		for (run = 1; run < UINT16_MAX && i + run < n &&
		    is_same(cell(t, s, i), cell(t, s, i + run)); run++)
			;
		SP_TRY(put_cell(b, run, cell(t, s, i)));
	}
	return SP_OK;
}

static enum sp_err
put_parser(struct sp_buf *b, const struct sp_term *t)
{
	bool in_csi = t->state == ST_CSI, in_utf8 = t->cp_left > 0;
	unsigned n = in_csi ? t->n_params : 0;

	SP_TRY(sp_buf_put_u8(b, (uint8_t)t->state));
	SP_TRY(sp_buf_put_u8(b, in_csi ? t->lead : 0));
	SP_TRY(sp_buf_put_u8(b,
	    in_csi || t->state == ST_ESC_MORE ? t->inter : 0));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)n));
	for (unsigned i = 0; i < n; i++) {
		SP_TRY(sp_buf_put_u16(b, (uint16_t)t->param[i]));
		SP_TRY(sp_buf_put_u8(b, i > 0 && t->colon[i]));
	}
	SP_TRY(sp_buf_put_u8(b, (uint8_t)t->cp_left));
	SP_TRY(sp_buf_put_u32(b, in_utf8 ? t->cp : 0));
	return sp_buf_put_u32(b, in_utf8 ? t->cp_least : 0);
}

enum sp_err
sp_term_dump(const struct sp_term *t, struct sp_buf *b)
{
	uint8_t f = (uint8_t)((t->now == &t->alt ? F_ALTERNATE : 0) |
	    (t->is_pending ? F_PENDING : 0) | (t->is_origin ? F_ORIGIN : 0) |
	    (t->is_insert ? F_INSERT : 0) | (t->no_wrap ? F_NO_WRAP : 0) |
	    (t->is_newline ? F_NEWLINE : 0) | (t->is_hidden ? F_HIDDEN : 0));
	const unsigned at[6] = {t->cols, t->rows, t->x, t->y, t->top, t->bottom};

	SP_TRY(sp_buf_put(b, magic, sizeof(magic)));
	for (size_t i = 0; i < 6; i++)
		SP_TRY(sp_buf_put_u16(b, (uint16_t)at[i]));
	SP_TRY(sp_buf_put_u8(b, f));
	SP_TRY(put_pen(b, &t->pen));
	SP_TRY(sp_buf_put(b, t->charset, sizeof(t->charset)));
	SP_TRY(sp_buf_put_u8(b, t->gl));
	SP_TRY(sp_buf_put_u8(b, t->once));
	SP_TRY(sp_buf_put_u32(b, t->last));
	SP_TRY(put_parser(b, t));
	SP_TRY(put_bits(b, t->tab, t->cols));
	SP_TRY(put_screen(b, t, &t->main));
	return put_screen(b, t, &t->alt);
}

/* ------------------------------------------------------------------ reading */

static bool
is_colour(uint32_t c)
{
	return c == 0 || (c >= SP_COLOUR_INDEX && c < SP_COLOUR_INDEX + 256) ||
	    (c >= SP_COLOUR_RGB && c < SP_COLOUR_RGB + (1u << 24));
}

static enum sp_err
get_pen(struct sp_span *s, struct pen *p)
{
	SP_TRY(sp_get_u32(s, &p->fg));
	SP_TRY(sp_get_u32(s, &p->bg));
	SP_TRY(sp_get_u8(s, &p->attr));
	return is_colour(p->fg) && is_colour(p->bg) ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
get_charset(struct sp_span *s, uint8_t charset[4], uint8_t *gl)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, 4, &p));
	for (size_t i = 0; i < 4; i++)
		if (p[i] != 'B' && p[i] != '0')
			return SP_ERR_PROTO;
	memcpy(charset, p, 4);
	SP_TRY(sp_get_u8(s, gl));
	return *gl <= 3 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
get_bits(struct sp_span *s, void *to, unsigned n)
{
	uint8_t *p = to, v = 0;

	for (unsigned i = 0; i < n; i++) {
		if (i % 8 == 0)
			SP_TRY(sp_get_u8(s, &v));
		p[i] = v >> i % 8 & 1;
	}
	return n % 8 != 0 && v >> n % 8 != 0 ? SP_ERR_PROTO : SP_OK;
}

/* The same that sp_term_put would have made. */
static bool
is_cell(const struct sp_cell *c)
{
	bool is_end = false;

	if (c->width > 2 || (c->width == 0 ? c->ch != 0 :
	    sp_term_columns(c->ch) != c->width))
		return false;
	for (size_t i = 0; i < SP_CELL_MARKS; i++) {
		if (c->mark[i] != 0 &&
		    (is_end || sp_term_columns(c->mark[i]) != 0))
			return false;
		is_end = c->mark[i] == 0;
	}
	return true;
}

static enum sp_err
get_cells(struct sp_span *s, struct sp_cell *cell, size_t n)
{
	for (size_t i = 0; i < n;) {
		struct sp_cell c = {0};
		struct pen p;
		uint16_t run;

		SP_TRY(sp_get_u16(s, &run));
		SP_TRY(sp_get_u8(s, &c.width));
		SP_TRY(sp_get_u32(s, &c.ch));
		for (size_t k = 0; k < SP_CELL_MARKS; k++)
			SP_TRY(sp_get_u32(s, &c.mark[k]));
		SP_TRY(get_pen(s, &p));
		c.fg = p.fg;
		c.bg = p.bg;
		c.attr = p.attr;
		if (run == 0 || run > n - i || !is_cell(&c))
			return SP_ERR_PROTO;
		while (run-- > 0)
			cell[i++] = c;
	}
	return SP_OK;
}

static bool
halves_are_whole(const struct sp_term *t, const struct screen *s)
{
	for (size_t i = 0; i < (size_t)t->cols * t->rows; i++) {
		size_t x = i % t->cols;

		if (s->cell[i].width == 2 &&
		    (x + 1 == t->cols || s->cell[i + 1].width != 0))
			return false;
		if (s->cell[i].width == 0 && (x == 0 || s->cell[i - 1].width != 2))
			return false;
	}
	return true;
}

static enum sp_err
get_screen(struct sp_span *s, const struct sp_term *t, struct screen *to)
{
	struct saved *v = &to->saved;
	uint16_t x, y;
	uint8_t f;

	SP_TRY(sp_get_u16(s, &x));
	SP_TRY(sp_get_u16(s, &y));
	SP_TRY(get_pen(s, &v->pen));
	SP_TRY(get_charset(s, v->charset, &v->gl));
	SP_TRY(sp_get_u8(s, &f));
	if (x >= SP_TERM_COLS_MAX || y >= SP_TERM_ROWS_MAX ||
	    (f & ~(F_ORIGIN | F_PENDING)) != 0)
		return SP_ERR_PROTO;
	v->x = x;
	v->y = y;
	v->is_origin = (f & F_ORIGIN) != 0;
	v->is_pending = (f & F_PENDING) != 0;
	SP_TRY(get_bits(s, to->wrapped, t->rows));
	SP_TRY(get_cells(s, to->cell, (size_t)t->cols * t->rows));
	return halves_are_whole(t, to) ? SP_OK : SP_ERR_PROTO;
}

static bool
parser_is_sane(const struct sp_term *t)
{
	if (t->lead != 0 && (t->lead < 0x3c || t->lead > 0x3f))
		return false;
	if (t->inter != 0 && (t->inter < 0x20 || t->inter > 0x2f))
		return false;
	if (t->cp_left == 0)
		return t->cp == 0 && t->cp_least == 0;
	return t->state == ST_GROUND && t->cp_left <= 3 &&
	    t->cp <= 0x1fffffu >> 6 * t->cp_left &&
	    (t->cp_least == 0x80 || t->cp_least == 0x800 ||
	    t->cp_least == 0x10000);
}

static enum sp_err
get_parser(struct sp_span *s, struct sp_term *t)
{
	uint8_t state, n, colon, left;
	uint16_t v;

	SP_TRY(sp_get_u8(s, &state));
	SP_TRY(sp_get_u8(s, &t->lead));
	SP_TRY(sp_get_u8(s, &t->inter));
	SP_TRY(sp_get_u8(s, &n));
	if (state > ST_STRING_ESC || n > PARAMS_MAX)
		return SP_ERR_PROTO;
	t->state = (enum state)state;
	t->n_params = n;
	for (unsigned i = 0; i < n; i++) {
		SP_TRY(sp_get_u16(s, &v));
		SP_TRY(sp_get_u8(s, &colon));
		if (colon > 1)
			return SP_ERR_PROTO;
		t->param[i] = v;
		t->colon[i] = colon;
	}
	SP_TRY(sp_get_u8(s, &left));
	SP_TRY(sp_get_u32(s, &t->cp));
	SP_TRY(sp_get_u32(s, &t->cp_least));
	t->cp_left = left;
	return parser_is_sane(t) ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
get_place(struct sp_span *s, struct sp_term *t)
{
	uint16_t x, y, top, bottom;
	uint8_t f;

	SP_TRY(sp_get_u16(s, &x));
	SP_TRY(sp_get_u16(s, &y));
	SP_TRY(sp_get_u16(s, &top));
	SP_TRY(sp_get_u16(s, &bottom));
	SP_TRY(sp_get_u8(s, &f));
	if (x >= t->cols || y >= t->rows || top >= bottom || bottom > t->rows ||
	    f >= F_HIDDEN << 1)
		return SP_ERR_PROTO;
	t->x = x;
	t->y = y;
	t->top = top;
	t->bottom = bottom;
	t->now = f & F_ALTERNATE ? &t->alt : &t->main;
	t->is_pending = (f & F_PENDING) != 0;
	t->is_origin = (f & F_ORIGIN) != 0;
	t->is_insert = (f & F_INSERT) != 0;
	t->no_wrap = (f & F_NO_WRAP) != 0;
	t->is_newline = (f & F_NEWLINE) != 0;
	t->is_hidden = (f & F_HIDDEN) != 0;
	return SP_OK;
}

static enum sp_err
get_all(struct sp_span *s, struct sp_term *t)
{
	unsigned w;

	SP_TRY(get_place(s, t));
	SP_TRY(get_pen(s, &t->pen));
	SP_TRY(get_charset(s, t->charset, &t->gl));
	SP_TRY(sp_get_u8(s, &t->once));
	SP_TRY(sp_get_u32(s, &t->last));
	w = t->last == 0 ? 1 : sp_term_columns(t->last);
	if ((t->once != 0 && t->once != 2 && t->once != 3) || w < 1 || w > 2)
		return SP_ERR_PROTO;
	SP_TRY(get_parser(s, t));
	SP_TRY(get_bits(s, t->tab, t->cols));
	SP_TRY(get_screen(s, t, &t->main));
	SP_TRY(get_screen(s, t, &t->alt));
	return s->n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_term_load(struct sp_span s, sp_term_line_fn *line, void *ctx,
    struct sp_term **out)
{
	struct sp_term *t = NULL;
	uint16_t cols, rows;
	const uint8_t *m;
	enum sp_err e;

	SP_TRY(sp_get(&s, sizeof(magic), &m));
	if (memcmp(m, magic, sizeof(magic)) != 0)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_u16(&s, &cols));
	SP_TRY(sp_get_u16(&s, &rows));
	if (cols < 1 || cols > SP_TERM_COLS_MAX || rows < 1 ||
	    rows > SP_TERM_ROWS_MAX)
		return SP_ERR_PROTO;
	SP_TRY(sp_term_new(cols, rows, line, ctx, &t));
	e = get_all(&s, t);
	if (e != SP_OK) {
		sp_term_free(t);
		return e;
	}
	*out = t;
	return SP_OK;
}
