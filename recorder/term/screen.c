/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "recorder/term/internal.h"

static struct sp_cell
blank(const struct sp_term *t)
{
	/* Erasing paints the background colour, as xterm does. */
	return (struct sp_cell){.ch = ' ', .bg = t->pen.bg, .width = 1};
}

struct sp_cell *
sp_term_at(struct sp_term *t, unsigned x, unsigned y)
{
	SP_ASSERT(x < t->cols && y < t->rows);
	return &t->now->cell[(size_t)t->now->line[y] * t->cols + x];
}

/* A wide character that was cut in two at x leaves blanks. */
static void
mend_at(struct sp_term *t, unsigned y, unsigned x)
{
	struct sp_cell *r = sp_term_at(t, 0, y);

	for (unsigned i = x == 0 ? 0 : x - 1; i <= x && i < t->cols; i++) {
		bool bad = r[i].width == 2 ?
		    i + 1 >= t->cols || r[i + 1].width != 0 :
		    r[i].width == 0 && (i == 0 || r[i - 1].width != 2);

		if (bad) {
			r[i].ch = ' ';
			r[i].width = 1;
			memset(r[i].mark, 0, sizeof(r[i].mark));
		}
	}
}

void
sp_term_erase(struct sp_term *t, unsigned y, unsigned x0, unsigned x1)
{
	struct sp_cell b = blank(t), *r;

	if (y >= t->rows)
		return;
	x1 = x1 > t->cols ? t->cols : x1;
	r = sp_term_at(t, 0, y);
	if (b.bg == 0 && x0 < x1)
		memcpy(r + x0, t->blank, (x1 - x0) * sizeof(b));
	for (unsigned x = x0; x < x1 && b.bg != 0; x++)
		r[x] = b;
	if (x1 == t->cols)
		t->now->wrapped[y] = false;
	mend_at(t, y, x0);
	mend_at(t, y, x1);
}

/* No half of a wide character stands alone. */
void
sp_term_mend_row(struct sp_term *t, unsigned y)
{
	struct sp_cell *r = sp_term_at(t, 0, y);

	for (unsigned x = 0; x < t->cols; x++) {
		bool bad = r[x].width == 2 ?
		    x + 1 >= t->cols || r[x + 1].width != 0 :
		    r[x].width == 0 && (x == 0 || r[x - 1].width != 2);

		if (bad) {
			r[x].ch = ' ';
			r[x].width = 1;
			memset(r[x].mark, 0, sizeof(r[x].mark));
		}
	}
}

/* Rows change places, not their cells: the first n of those from top to bottom
 * become the last, or (up false) the other way round. */
static void
rotate(struct sp_term *t, unsigned top, unsigned n, bool up)
{
	uint16_t part[SP_TERM_ROWS_MAX], *at = t->now->line + top;
	bool *w = t->now->wrapped + top;
	unsigned left = t->bottom - top - n;

	if (up) {
		memcpy(part, at, n * sizeof(*at));
		memmove(at, at + n, left * sizeof(*at));
		memcpy(at + left, part, n * sizeof(*at));
		memmove(w, w + n, left * sizeof(*w));
	} else {
		memcpy(part, at + left, n * sizeof(*at));
		memmove(at + n, at, left * sizeof(*at));
		memcpy(at, part, n * sizeof(*at));
		memmove(w + n, w, left * sizeof(*w));
	}
}

/* Lines leave the region at its top; those of the whole main screen are told. */
void
sp_term_scroll_up(struct sp_term *t, unsigned top, unsigned n)
{
	unsigned height = t->bottom - top;

	n = n > height ? height : n;
	if (top == 0 && t->now == &t->main && t->line != NULL)
		for (unsigned i = 0; i < n; i++)
			t->line(t->ctx, sp_term_at(t, 0, i), t->cols,
			    t->now->wrapped[i]);
	rotate(t, top, n, true);
	for (unsigned i = 0; i < n; i++)
		sp_term_erase(t, t->bottom - 1 - i, 0, t->cols);
}

void
sp_term_scroll_down(struct sp_term *t, unsigned top, unsigned n)
{
	unsigned height = t->bottom - top;

	n = n > height ? height : n;
	rotate(t, top, n, false);
	for (unsigned i = 0; i < n; i++)
		sp_term_erase(t, top + i, 0, t->cols);
}

void
sp_term_index(struct sp_term *t)
{
	if (t->y + 1 == t->bottom)
		sp_term_scroll_up(t, t->top, 1);
	else if (t->y + 1 < t->rows)
		t->y++;
}

void
sp_term_reverse_index(struct sp_term *t)
{
	if (t->y == t->top)
		sp_term_scroll_down(t, t->top, 1);
	else if (t->y > 0)
		t->y--;
}

/* Where the program asks to go, held within the screen, or within the region
 * in origin mode. */
void
sp_term_goto(struct sp_term *t, unsigned x, unsigned y)
{
	unsigned low = t->is_origin ? t->top : 0;
	unsigned end = t->is_origin ? t->bottom : t->rows;

	y = y > t->rows ? t->rows : y;
	y += low;
	t->y = y >= end ? end - 1 : y;
	t->x = x >= t->cols ? t->cols - 1 : x;
	t->is_pending = false;
}

void
sp_term_insert_cells(struct sp_term *t, unsigned n)
{
	unsigned left = t->cols - t->x;

	n = n > left ? left : n;
	if (n < left)
		memmove(sp_term_at(t, t->x + n, t->y), sp_term_at(t, t->x, t->y),
		    (left - n) * sizeof(struct sp_cell));
	sp_term_erase(t, t->y, t->x, t->x + n);
	sp_term_mend_row(t, t->y);
}

void
sp_term_delete_cells(struct sp_term *t, unsigned n)
{
	unsigned left = t->cols - t->x;

	n = n > left ? left : n;
	if (n < left)
		memmove(sp_term_at(t, t->x, t->y), sp_term_at(t, t->x + n, t->y),
		    (left - n) * sizeof(struct sp_cell));
	sp_term_erase(t, t->y, t->cols - n, t->cols);
	sp_term_mend_row(t, t->y);
}

static size_t
encode(uint32_t cp, uint8_t o[static 4])
{
	if (cp < 0x80) {
		o[0] = (uint8_t)cp;
		return 1;
	}
	if (cp < 0x800) {
		o[0] = (uint8_t)(0xc0 | cp >> 6);
		o[1] = (uint8_t)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		o[0] = (uint8_t)(0xe0 | cp >> 12);
		o[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
		o[2] = (uint8_t)(0x80 | (cp & 0x3f));
		return 3;
	}
	o[0] = (uint8_t)(0xf0 | cp >> 18);
	o[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
	o[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
	o[3] = (uint8_t)(0x80 | (cp & 0x3f));
	return 4;
}

/* Columns of a character: 3 for those that would change how others are shown
 * (bidirectional and invisible ones: sp_vis knows them). */
unsigned
sp_term_columns(uint32_t cp)
{
	uint8_t b[4];
	char vis[32];
	struct sp_span s = {b, 0};

	if (cp < 0x7f)
		return cp < ' ' ? 3 : 1;
	if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		return 3;
	s.n = encode(cp, b);
	sp_vis(vis, sizeof(vis), s);
	return vis[0] == '\\' ? 3 : (unsigned)sp_text_columns(s);
}

/* The same, remembered: to look a character up takes far longer. */
static unsigned
columns(struct sp_term *t, uint32_t cp)
{
	struct known *k = &t->known[cp % KNOWN];

	if (cp < 0x7f)
		return cp < ' ' ? 3 : 1;
	if (k->cp != cp)
		*k = (struct known){.cp = cp, .columns = sp_term_columns(cp)};
	return k->columns;
}

static void
add_mark(struct sp_term *t, uint32_t cp)
{
	unsigned x = t->is_pending || t->x == 0 ? t->x : t->x - 1;
	struct sp_cell *c = sp_term_at(t, x, t->y);

	if (c->width == 0 && x > 0)
		c--;
	for (size_t i = 0; i < SP_CELL_MARKS; i++)
		if (c->mark[i] == 0) {
			c->mark[i] = cp;
			return;
		}
}

/* What is left of a wide character that lost its other half. */
static struct sp_cell
painted(const struct sp_term *t)
{
	return (struct sp_cell){.ch = ' ', .fg = t->pen.fg, .bg = t->pen.bg,
	    .attr = t->pen.attr, .width = 1};
}

/* false: without wrapping, a wide character has no room at the margin. */
static bool
wrap_if_pending(struct sp_term *t, unsigned w)
{
	if (!t->is_pending && t->x + w <= t->cols)
		return true;
	if (t->no_wrap) {
		t->is_pending = false;
		t->x = t->cols - 1;
		return w == 1;
	}
	/* A wide character that does not fit leaves a blank behind. */
	if (!t->is_pending) {
		*sp_term_at(t, t->x, t->y) = painted(t);
		sp_term_mend_row(t, t->y);
	}
	t->is_pending = false;
	t->now->wrapped[t->y] = true;
	t->x = 0;
	sp_term_index(t);
	return true;
}

void
sp_term_put(struct sp_term *t, uint32_t cp)
{
	const struct sp_cell half = painted(t);
	unsigned w = columns(t, cp);
	struct sp_cell *c;

	if (w == 0) {
		add_mark(t, cp);
		return;
	}
	if (w == 3 || w > t->cols) {
		/* Joiners and selectors say nothing on a grid of cells. */
		if (cp == 0x200d || (cp >= 0xfe00 && cp <= 0xfe0f))
			return;
		cp = 0xfffd;
		w = 1;
	}
	if (!wrap_if_pending(t, w))
		return;
	if (t->is_insert)
		sp_term_insert_cells(t, w);
	c = sp_term_at(t, t->x, t->y);
	*c = (struct sp_cell){.ch = cp, .fg = t->pen.fg, .bg = t->pen.bg,
	    .attr = t->pen.attr, .width = (uint8_t)w};
	if (w == 2) {
		c[1] = *c;
		c[1].ch = 0;
		c[1].width = 0;
	}
	/* Only neighbours can have lost a half. */
	if (t->x > 0 && c[-1].width == 2)
		c[-1] = half;
	if (t->x + w < t->cols && c[w].width == 0)
		c[w] = half;
	t->last = cp;
	t->is_pending = t->x + w >= t->cols;
	t->x = t->is_pending ? t->cols - 1 : t->x + w;
}

/* Printable ASCII as it stands, where nothing but cells changes: not in the last
 * column. How many bytes it took. */
size_t
sp_term_put_ascii(struct sp_term *t, const uint8_t *p, size_t n)
{
	const struct sp_cell half = painted(t);
	struct sp_cell *c = sp_term_at(t, t->x, t->y), new = half;
	size_t m = t->is_pending || t->is_insert ? 0 : t->cols - 1 - t->x;

	m = n < m ? n : m;
	if (m == 0)
		return 0;
	if (t->x > 0 && c[-1].width == 2)
		c[-1] = half;
	for (size_t i = 0; i < m; i++) {
		new.ch = p[i];
		c[i] = new;
	}
	if (c[m].width == 0)
		c[m] = half;
	t->x += (unsigned)m;
	t->last = p[m - 1];
	return m;
}

void
sp_term_save(struct sp_term *t)
{
	struct saved *s = &t->now->saved;

	*s = (struct saved){.x = t->x, .y = t->y, .pen = t->pen, .gl = t->gl,
	    .is_origin = t->is_origin, .is_pending = t->is_pending};
	memcpy(s->charset, t->charset, sizeof(s->charset));
}

void
sp_term_restore(struct sp_term *t)
{
	const struct saved *s = &t->now->saved;

	t->pen = s->pen;
	t->gl = s->gl;
	memcpy(t->charset, s->charset, sizeof(t->charset));
	t->is_origin = s->is_origin;
	t->x = s->x >= t->cols ? t->cols - 1 : s->x;
	t->y = s->y >= t->rows ? t->rows - 1 : s->y;
	t->is_pending = s->is_pending && t->x == t->cols - 1;
}

void
sp_term_alternate(struct sp_term *t, bool on, bool clear)
{
	if (on == (t->now == &t->alt))
		return;
	sp_term_say_wipe(t);
	t->now = on ? &t->alt : &t->main;
	if (on && clear)
		for (unsigned y = 0; y < t->rows; y++)
			sp_term_erase(t, y, 0, t->cols);
}

void
sp_term_on_wipe(struct sp_term *t, sp_term_wipe_fn *wipe)
{
	t->wipe = wipe;
}

void
sp_term_say_wipe(struct sp_term *t)
{
	if (t->wipe != NULL)
		t->wipe(t->ctx);
}

void
sp_term_align(struct sp_term *t)
{
	sp_term_say_wipe(t);
	for (unsigned y = 0; y < t->rows; y++) {
		for (unsigned x = 0; x < t->cols; x++)
			*sp_term_at(t, x, y) = (struct sp_cell){.ch = 'E',
			    .width = 1};
		t->now->wrapped[y] = false;
	}
	t->top = 0;
	t->bottom = t->rows;
	sp_term_goto(t, 0, 0);
}

unsigned
sp_term_cols(const struct sp_term *t)
{
	return t->cols;
}

unsigned
sp_term_rows(const struct sp_term *t)
{
	return t->rows;
}

const struct sp_cell *
sp_term_row(const struct sp_term *t, unsigned y)
{
	SP_ASSERT(y < t->rows);
	return &t->now->cell[(size_t)t->now->line[y] * t->cols];
}

void
sp_term_cover(struct sp_term *t, unsigned x, unsigned y)
{
	struct sp_cell *k;

	SP_ASSERT(x < t->cols && y < t->rows);
	k = sp_term_at(t, x, y);
	for (unsigned n = k->width == 2 && x + 1 < t->cols ? 2 : 1; n > 0; n--, k++) {
		k->ch = '*';
		memset(k->mark, 0, sizeof(k->mark));
		k->width = 1;
	}
}

bool
sp_term_row_is_wrapped(const struct sp_term *t, unsigned y)
{
	SP_ASSERT(y < t->rows);
	return t->now->wrapped[y];
}

void
sp_term_cursor(const struct sp_term *t, unsigned *x, unsigned *y,
    bool *is_visible)
{
	*x = t->x;
	*y = t->y;
	*is_visible = !t->is_hidden;
}

bool
sp_term_is_alternate(const struct sp_term *t)
{
	return t->now == &t->alt;
}

enum sp_err
sp_cells_text(const struct sp_cell *c, size_t n, bool all, struct sp_buf *out)
{
	uint8_t b[4];

	while (!all && n > 0 && (c[n - 1].ch == ' ' || c[n - 1].ch == 0) &&
	    c[n - 1].width == 1)
		n--;
	for (size_t i = 0; i < n; i++) {
		if (c[i].width == 0)
			continue;
		SP_TRY(sp_buf_put(out, b, encode(c[i].ch == 0 ? ' ' : c[i].ch, b)));
		for (size_t k = 0; k < SP_CELL_MARKS && c[i].mark[k] != 0; k++)
			SP_TRY(sp_buf_put(out, b, encode(c[i].mark[k], b)));
	}
	return SP_OK;
}
