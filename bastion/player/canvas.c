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
	struct sp_term *line = NULL;

	if (w == NULL || h == NULL ||
	    sp_term_new(cols, 1, NULL, NULL, &line) != SP_OK) {
		free(w);
		free(h);
		return SP_ERR_NOMEM;
	}
	free(c->want);
	free(c->have);
	sp_term_free(c->line);
	c->want = w;
	c->have = h;
	c->line = line;
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
	sp_term_free(c->line);
	sp_buf_fini(&c->out);
	*c = (struct canvas){0};
}

static void
fill(struct canvas *c, unsigned y, unsigned x0, unsigned x1, uint32_t ch,
    uint8_t attr)
{
	for (unsigned x = x0; x < x1 && x < c->cols; x++)
		c->want[(size_t)y * c->cols + x] = (struct sp_cell){.ch = ch,
		    .width = 1, .attr = attr};
}

/* n cells from column x of a row on; what is cut in half is blank. */
static void
copy_row(struct canvas *c, unsigned y, const struct sp_cell *from, unsigned x0,
    unsigned n)
{
	struct sp_cell *to = &c->want[(size_t)y * c->cols];

	n = x0 >= n ? 0 : n - x0;
	n = n < c->cols ? n : c->cols;
	for (unsigned x = 0; x < n; x++) {
		to[x] = from[x0 + x];
		if (to[x].ch == 0)
			to[x].ch = ' ';
		/* Concealed text and blinking have no place before an auditor. */
		to[x].attr &= (uint8_t)~(SP_ATTR_HIDDEN | SP_ATTR_BLINK);
	}
	if (n > 0 && to[0].width == 0)
		fill(c, y, 0, 1, ' ', 0);
	if (n > 0 && to[n - 1].width == 2)
		fill(c, y, n - 1, n, ' ', 0);
	fill(c, y, n, c->cols, ' ', 0);
}

/* Where the recorded screen ends and the viewer's goes on. */
static void
border(struct canvas *c, const struct sp_term *t, unsigned x0, unsigned y0,
    unsigned rows)
{
	unsigned right = sp_term_cols(t) - x0, bottom = sp_term_rows(t) - y0;

	if (right < c->cols)
		for (unsigned y = 0; y < rows && y <= bottom; y++)
			fill(c, y, right, right + 1, '|', SP_ATTR_FAINT);
	if (bottom < rows)
		fill(c, bottom, 0, right < c->cols ? right : c->cols, '-',
		    SP_ATTR_FAINT);
	if (bottom < rows && right < c->cols)
		fill(c, bottom, right, right + 1, '+', SP_ATTR_FAINT);
}

void
canvas_term(struct canvas *c, const struct sp_term *t, unsigned x0, unsigned y0,
    unsigned rows)
{
	unsigned cx = 0, cy = 0;
	bool is_visible = false;

	for (unsigned y = 0; y < rows; y++) {
		if (t != NULL && y0 + y < sp_term_rows(t))
			copy_row(c, y, sp_term_row(t, y0 + y), x0,
			    sp_term_cols(t));
		else
			fill(c, y, 0, c->cols, ' ', 0);
	}
	if (t == NULL)
		return;
	border(c, t, x0, y0, rows);
	sp_term_cursor(t, &cx, &cy, &is_visible);
	if (is_visible && cx >= x0 && cx - x0 < c->cols && cy >= y0 &&
	    cy - y0 < rows)
		c->want[(size_t)(cy - y0) * c->cols + cx - x0].attr ^=
		    SP_ATTR_INVERSE;
}

unsigned
canvas_follow(unsigned from, unsigned room, unsigned size, unsigned at,
    bool is_panned)
{
	unsigned most = size > room ? size - room : 0;

	if (!is_panned && at < from)
		from = at;
	if (!is_panned && at >= from + room)
		from = at - room + 1;
	return from < most ? from : most;
}

/* The text of a row and the column of each of its bytes. */
static size_t
row_text(const struct canvas *c, unsigned y, struct sp_buf *text,
    uint16_t *column, size_t cap)
{
	size_t n = 0;

	for (unsigned x = 0; x < c->cols; x++) {
		if (sp_cells_text(&c->want[(size_t)y * c->cols + x], 1, true,
		    text) != SP_OK || text->len > cap)
			return n;
		while (n < text->len)
			column[n++] = (uint16_t)x;
	}
	return n;
}

void
canvas_mark(struct canvas *c, const struct match *m, unsigned rows)
{
	size_t cap = (size_t)c->cols * 16, at, n;
	uint16_t *column = calloc(cap, sizeof(*column));
	SP_BUF_AUTO text = {.max = cap + 64};

	for (unsigned y = 0; column != NULL && y < rows; y++) {
		struct sp_span s;
		size_t base = 0;

		sp_buf_reset(&text);
		s = sp_span_of(NULL, row_text(c, y, &text, column, cap));
		s.p = sp_buf_span(&text).p;
		while (match_find(m, s, &at, &n) && n > 0) {
			unsigned x0 = column[base + at];
			unsigned x1 = column[base + at + n - 1];

			for (unsigned x = x0; x <= x1; x++)
				c->want[(size_t)y * c->cols + x].attr ^=
				    SP_ATTR_INVERSE | SP_ATTR_BOLD;
			base += at + n;
			s.p += at + n;
			s.n -= at + n;
		}
	}
	free(column);
}

void
canvas_text(struct canvas *c, unsigned y, unsigned x0, const char *text,
    uint8_t attr)
{
	struct sp_cell *row = &c->want[(size_t)y * c->cols];
	const struct sp_cell *from;

	sp_term_reset(c->line);
	sp_term_feed(c->line, sp_span_str("\033[?7l"));
	sp_term_feed(c->line, sp_span_str(text));
	from = sp_term_row(c->line, 0);
	for (unsigned x = x0; x < c->cols && x - x0 < sp_term_cols(c->line);
	    x++) {
		row[x] = from[x - x0];
		row[x].attr = attr;
		if (row[x].ch == 0)
			row[x].ch = ' ';
	}
	if (row[c->cols - 1].width == 2)
		fill(c, y, c->cols - 1, c->cols, ' ', attr);
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
