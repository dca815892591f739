/* SPDX-License-Identifier: Apache-2.0 */
/* The only place that writes escape sequences, and these are all of them:
 * cursor position, colours and attributes. Characters come from cells. */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/show.h"

/* A cell with its colours and moves is less than 80 bytes. */
#define OUT_MAX (8u << 20)

enum sp_err
canvas_size(struct canvas *c, unsigned cols, unsigned rows)
{
	struct sp_cell *w = calloc((size_t)cols * rows, sizeof(*w));
	struct sp_cell *h = calloc((size_t)cols * rows, sizeof(*h));

	if (w == NULL || h == NULL) {
		free(w);
		free(h);
		return SP_ERR_NOMEM;
	}
	free(c->want);
	free(c->have);
	c->want = w;
	c->have = h;
	c->cols = cols;
	c->rows = rows;
	c->is_known = false;
	c->out.max = OUT_MAX;
	return SP_OK;
}

void
canvas_fini(struct canvas *c)
{
	free(c->want);
	free(c->have);
	sp_buf_fini(&c->out);
	*c = (struct canvas){0};
}

static void
blank(struct canvas *c, unsigned y, unsigned x0, unsigned x1)
{
	for (unsigned x = x0; x < x1; x++)
		c->want[(size_t)y * c->cols + x] = (struct sp_cell){.ch = ' ',
		    .width = 1};
}

static void
copy_row(struct canvas *c, unsigned y, const struct sp_cell *from, unsigned n)
{
	struct sp_cell *to = &c->want[(size_t)y * c->cols];

	n = n < c->cols ? n : c->cols;
	for (unsigned x = 0; x < n; x++) {
		to[x] = from[x];
		if (to[x].ch == 0)
			to[x].ch = ' ';
		/* Concealed text and blinking have no place before an auditor. */
		to[x].attr &= (uint8_t)~(SP_ATTR_HIDDEN | SP_ATTR_BLINK);
	}
	if (n > 0 && to[n - 1].width == 2)
		blank(c, y, n - 1, n);
	blank(c, y, n, c->cols);
}

/* A larger terminal is shown from its left, and so that its cursor is seen. */
void
canvas_term(struct canvas *c, const struct sp_term *t)
{
	unsigned rows = c->rows - 1, top = 0, cx = 0, cy = 0;
	bool is_visible = false;

	if (t != NULL) {
		sp_term_cursor(t, &cx, &cy, &is_visible);
		if (cy >= rows)
			top = cy - rows + 1;
	}
	for (unsigned y = 0; y < rows; y++) {
		if (t != NULL && top + y < sp_term_rows(t))
			copy_row(c, y, sp_term_row(t, top + y), sp_term_cols(t));
		else
			blank(c, y, 0, c->cols);
	}
	if (is_visible && cx < c->cols && cy - top < rows)
		c->want[(size_t)(cy - top) * c->cols + cx].attr ^=
		    SP_ATTR_INVERSE;
}

void
canvas_status(struct canvas *c, const char *text)
{
	struct sp_cell *row = &c->want[(size_t)(c->rows - 1) * c->cols];

	for (unsigned x = 0; x < c->cols; x++) {
		uint8_t ch = *text != '\0' ? (uint8_t)*text++ : ' ';

		row[x] = (struct sp_cell){.ch = ch >= 0x20 && ch < 0x7f ? ch :
		    '?', .width = 1, .attr = SP_ATTR_INVERSE};
	}
}

static bool
same(const struct sp_cell *a, const struct sp_cell *b)
{
	return a->ch == b->ch && a->fg == b->fg && a->bg == b->bg &&
	    a->attr == b->attr && a->width == b->width &&
	    memcmp(a->mark, b->mark, sizeof(a->mark)) == 0;
}

static enum sp_err
colour(struct sp_buf *o, uint32_t c, bool is_bg)
{
	unsigned n = c & 0xff, base = is_bg ? 40 : 30;

	if ((c & SP_COLOUR_RGB) != 0)
		return sp_buf_printf(o, ";%u;2;%u;%u;%u", base + 8, c >> 16 & 0xff,
		    c >> 8 & 0xff, c & 0xff);
	if ((c & SP_COLOUR_INDEX) == 0)
		return SP_OK;
	if (n < 8)
		return sp_buf_printf(o, ";%u", base + n);
	if (n < 16)
		return sp_buf_printf(o, ";%u", base + 60 + n - 8);
	return sp_buf_printf(o, ";%u;5;%u", base + 8, n);
}

static enum sp_err
pen(struct canvas *c, const struct sp_cell *k)
{
	static const struct {
		uint8_t attr;
		char code;
	} codes[] = {{SP_ATTR_BOLD, '1'}, {SP_ATTR_FAINT, '2'},
	    {SP_ATTR_ITALIC, '3'}, {SP_ATTR_UNDERLINE, '4'},
	    {SP_ATTR_INVERSE, '7'}, {SP_ATTR_STRIKE, '9'}};

	if (c->has_pen && c->fg == k->fg && c->bg == k->bg && c->attr == k->attr)
		return SP_OK;
	SP_TRY(sp_buf_printf(&c->out, "\033[0"));
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if ((k->attr & codes[i].attr) != 0)
			SP_TRY(sp_buf_printf(&c->out, ";%c", codes[i].code));
	SP_TRY(colour(&c->out, k->fg, false));
	SP_TRY(colour(&c->out, k->bg, true));
	SP_TRY(sp_buf_put_u8(&c->out, 'm'));
	c->fg = k->fg;
	c->bg = k->bg;
	c->attr = k->attr;
	c->has_pen = true;
	return SP_OK;
}

static enum sp_err
put_cell(struct canvas *c, unsigned x, unsigned y, const struct sp_cell *k)
{
	if (c->x != x || c->y != y)
		SP_TRY(sp_buf_printf(&c->out, "\033[%u;%uH", y + 1, x + 1));
	SP_TRY(pen(c, k));
	SP_TRY(sp_cells_text(k, 1, true, &c->out));
	c->y = y;
	/* After the last column every terminal is somewhere else. Marks and wide
	 * characters are where terminals differ, too. */
	c->x = x + k->width < c->cols && k->width == 1 && k->mark[0] == 0 &&
	    k->ch < 0x80 ? x + 1 : UINT32_MAX;
	return SP_OK;
}

/* A few unchanged cells are shorter to write again than to pass over. */
static enum sp_err
bridge(struct canvas *c, unsigned x, unsigned y)
{
	const struct sp_cell *row = &c->want[(size_t)y * c->cols];

	if (c->y != y || c->x >= x || x - c->x > 4)
		return SP_OK;
	for (unsigned k = c->x; k < x; k++)
		if (row[k].width != 1 || row[k].ch >= 0x80 ||
		    row[k].mark[0] != 0)
			return SP_OK;
	while (c->x < x)
		SP_TRY(put_cell(c, c->x, y, &row[c->x]));
	return SP_OK;
}

enum sp_err
canvas_draw(struct canvas *c, struct sp_span *bytes)
{
	sp_buf_reset(&c->out);
	if (!c->is_known) {
		SP_TRY(sp_buf_printf(&c->out, "\033[0m\033[2J"));
		for (size_t i = 0; i < (size_t)c->cols * c->rows; i++)
			c->have[i] = (struct sp_cell){.ch = ' ', .width = 1};
		c->has_pen = false;
	}
	c->x = UINT32_MAX;
	for (unsigned y = 0; y < c->rows; y++)
		for (unsigned x = 0; x < c->cols; x++) {
			size_t i = (size_t)y * c->cols + x;
			struct sp_cell *w = &c->want[i];
			bool half = w->width == 0;

			if (same(w, &c->have[i]) && !(half && x > 0 &&
			    !same(&c->want[i - 1], &c->have[i - 1])))
				continue;
			if (!half) {
				SP_TRY(bridge(c, x, y));
				SP_TRY(put_cell(c, x, y, w));
			}
			c->have[i] = *w;
		}
	c->is_known = true;
	*bytes = sp_buf_span(&c->out);
	return SP_OK;
}
