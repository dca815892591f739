/* SPDX-License-Identifier: Apache-2.0 */
/* A terminal's life and size. */
#include <stdlib.h>
#include <string.h>

#include "recorder/term/internal.h"

static unsigned
hold(unsigned v, unsigned most)
{
	return v < 1 ? 1 : v > most ? most : v;
}

static void
clear_screen(struct screen *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->cell[i] = (struct sp_cell){.ch = ' ', .width = 1};
	s->saved = (struct saved){.charset = {'B', 'B', 'B', 'B'}};
}

void
sp_term_reset(struct sp_term *t)
{
	size_t n = (size_t)t->cols * t->rows;

	clear_screen(&t->main, n);
	clear_screen(&t->alt, n);
	memset(t->main.wrapped, 0, t->rows * sizeof(bool));
	memset(t->alt.wrapped, 0, t->rows * sizeof(bool));
	for (unsigned x = 0; x < t->cols; x++)
		t->tab[x] = x % 8 == 0;
	t->now = &t->main;
	t->x = t->y = t->top = 0;
	t->bottom = t->rows;
	t->pen = (struct pen){0};
	memset(t->charset, 'B', sizeof(t->charset));
	t->gl = t->once = 0;
	t->is_pending = t->is_origin = t->is_insert = false;
	t->no_wrap = t->is_newline = t->is_hidden = false;
	t->last = 0;
	t->state = ST_GROUND;
	t->cp_left = 0;
}

static bool
make(struct screen *s, unsigned cols, unsigned rows)
{
	s->cell = calloc((size_t)cols * rows, sizeof(*s->cell));
	s->wrapped = calloc(rows, sizeof(*s->wrapped));
	s->line = calloc(rows, sizeof(*s->line));
	for (unsigned y = 0; s->line != NULL && y < rows; y++)
		s->line[y] = (uint16_t)y;
	return s->cell != NULL && s->wrapped != NULL && s->line != NULL;
}

static struct sp_cell *
blanks(unsigned cols)
{
	struct sp_cell *c = calloc(cols, sizeof(*c));

	for (unsigned x = 0; c != NULL && x < cols; x++)
		c[x] = (struct sp_cell){.ch = ' ', .width = 1};
	return c;
}

static void
drop(struct screen *s)
{
	free(s->cell);
	free(s->wrapped);
	free(s->line);
}

enum sp_err
sp_term_new(unsigned cols, unsigned rows, sp_term_line_fn *line, void *ctx,
    struct sp_term **out)
{
	struct sp_term *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return SP_ERR_NOMEM;
	t->cols = hold(cols, SP_TERM_COLS_MAX);
	t->rows = hold(rows, SP_TERM_ROWS_MAX);
	t->line = line;
	t->ctx = ctx;
	t->tab = calloc(t->cols, 1);
	t->blank = blanks(t->cols);
	if (!make(&t->main, t->cols, t->rows) ||
	    !make(&t->alt, t->cols, t->rows) || t->tab == NULL || t->blank == NULL) {
		sp_term_free(t);
		return SP_ERR_NOMEM;
	}
	sp_term_reset(t);
	*out = t;
	return SP_OK;
}

void
sp_term_free(struct sp_term *t)
{
	if (t == NULL)
		return;
	drop(&t->main);
	drop(&t->alt);
	free(t->tab);
	free(t->blank);
	free(t);
}

enum sp_err
sp_term_copy(const struct sp_term *t, struct sp_term **out)
{
	size_t n = (size_t)t->cols * t->rows;
	struct sp_term *c = NULL;
	struct sp_cell *blank;
	struct screen m, a;
	uint8_t *tab;

	SP_TRY(sp_term_new(t->cols, t->rows, t->line, t->ctx, &c));
	m = c->main;
	a = c->alt;
	tab = c->tab;
	blank = c->blank;
	*c = *t;
	c->now = t->now == &t->main ? &c->main : &c->alt;
	c->tab = tab;
	c->blank = blank;
	c->main.cell = m.cell;
	c->main.wrapped = m.wrapped;
	c->main.line = m.line;
	c->alt.cell = a.cell;
	c->alt.wrapped = a.wrapped;
	c->alt.line = a.line;
	memcpy(tab, t->tab, t->cols);
	memcpy(m.cell, t->main.cell, n * sizeof(*m.cell));
	memcpy(a.cell, t->alt.cell, n * sizeof(*a.cell));
	memcpy(m.wrapped, t->main.wrapped, t->rows * sizeof(bool));
	memcpy(a.wrapped, t->alt.wrapped, t->rows * sizeof(bool));
	memcpy(m.line, t->main.line, t->rows * sizeof(*m.line));
	memcpy(a.line, t->alt.line, t->rows * sizeof(*a.line));
	*out = c;
	return SP_OK;
}

static void
carry_over(const struct sp_term *t, const struct screen *from,
    struct screen *to, unsigned cols, unsigned rows)
{
	clear_screen(to, (size_t)cols * rows);
	to->saved = from->saved;
	for (unsigned y = 0; y < rows && y < t->rows; y++) {
		unsigned n = cols < t->cols ? cols : t->cols;

		memcpy(&to->cell[(size_t)y * cols],
		    &from->cell[(size_t)from->line[y] * t->cols], n * sizeof(struct sp_cell));
		to->wrapped[y] = from->wrapped[y] && cols >= t->cols;
	}
}

static void
mend_all(struct sp_term *t)
{
	struct screen *now = t->now;

	for (unsigned y = 0; y < t->rows; y++) {
		t->now = &t->main;
		sp_term_mend_row(t, y);
		t->now = &t->alt;
		sp_term_mend_row(t, y);
	}
	t->now = now;
}

enum sp_err
sp_term_resize(struct sp_term *t, unsigned cols, unsigned rows)
{
	struct screen m = {0}, a = {0};
	struct sp_cell *blank;
	uint8_t *tab;

	cols = hold(cols, SP_TERM_COLS_MAX);
	rows = hold(rows, SP_TERM_ROWS_MAX);
	if (cols == t->cols && rows == t->rows)
		return SP_OK;
	tab = calloc(cols, 1);
	blank = blanks(cols);
	if (!make(&m, cols, rows) || !make(&a, cols, rows) || tab == NULL ||
	    blank == NULL) {
		drop(&m);
		drop(&a);
		free(tab);
		free(blank);
		return SP_ERR_NOMEM;
	}
	/* What is above the cursor leaves at the top, not what is below it. */
	t->top = 0;
	t->bottom = t->rows;
	if (t->y >= rows) {
		sp_term_scroll_up(t, 0, t->y - rows + 1);
		t->y = rows - 1;
	}
	for (unsigned x = 0; x < cols; x++)
		tab[x] = x < t->cols ? t->tab[x] : x % 8 == 0;
	carry_over(t, &t->main, &m, cols, rows);
	carry_over(t, &t->alt, &a, cols, rows);
	drop(&t->main);
	drop(&t->alt);
	free(t->tab);
	free(t->blank);
	t->main = m;
	t->alt = a;
	t->tab = tab;
	t->blank = blank;
	t->cols = cols;
	t->rows = t->bottom = rows;
	t->x = t->x >= cols ? cols - 1 : t->x;
	t->is_pending = false;
	mend_all(t);
	return SP_OK;
}

