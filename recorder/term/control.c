/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "recorder/term/internal.h"

/* A parameter, with its default when it is absent or 0. */
static unsigned
arg(const struct sp_term *t, unsigned i, unsigned otherwise)
{
	return i < t->n_params && t->param[i] != 0 ? t->param[i] : otherwise;
}

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static void
up(struct sp_term *t, unsigned n)
{
	unsigned stop = t->y >= t->top ? t->top : 0;

	t->y -= least(n, t->y - stop);
	t->is_pending = false;
}

static void
down(struct sp_term *t, unsigned n)
{
	unsigned stop = (t->y < t->bottom ? t->bottom : t->rows) - 1;

	t->y += least(n, stop - t->y);
	t->is_pending = false;
}

static void
sideways(struct sp_term *t, unsigned x)
{
	t->x = least(x, t->cols - 1);
	t->is_pending = false;
}

static void
tab(struct sp_term *t, unsigned n)
{
	while (n-- > 0 && t->x + 1 < t->cols)
		do
			t->x++;
		while (t->x + 1 < t->cols && !t->tab[t->x]);
}

static void
tab_back(struct sp_term *t, unsigned n)
{
	while (n-- > 0 && t->x > 0)
		do
			t->x--;
		while (t->x > 0 && !t->tab[t->x]);
	t->is_pending = false;
}

static void
erase_display(struct sp_term *t, unsigned how)
{
	unsigned from = how == 0 ? t->y + 1 : 0;
	unsigned end = how == 1 ? t->y : t->rows;

	if (how > 2)
		return;
	for (unsigned y = from; y < end; y++)
		sp_term_erase(t, y, 0, t->cols);
	if (how == 0 && !t->is_pending)
		sp_term_erase(t, t->y, t->x, t->cols);
	else if (how == 1)
		sp_term_erase(t, t->y, 0, t->x + 1);
}

/* While the wrap waits, the cursor is behind the last column: nothing is to
 * its right (as in xterm.js, VTE and alacritty; ECMA-48 does not know the state). */
static void
erase_line(struct sp_term *t, unsigned how)
{
	if (how <= 2 && !(how == 0 && t->is_pending))
		sp_term_erase(t, t->y, how == 0 ? t->x : 0,
		    how == 1 ? t->x + 1 : t->cols);
}

static void
lines(struct sp_term *t, uint8_t final, unsigned n)
{
	sp_term_line_fn *line = t->line;

	if (final == 'S' || final == 'T') {
		if (final == 'S')
			sp_term_scroll_up(t, t->top, n);
		else
			sp_term_scroll_down(t, t->top, n);
		return;
	}
	if (t->y < t->top || t->y >= t->bottom)
		return;
	/* Deleted lines are no history, not even the topmost. */
	t->line = NULL;
	if (final == 'L')
		sp_term_scroll_down(t, t->y, n);
	else
		sp_term_scroll_up(t, t->y, n);
	t->line = line;
	t->x = 0;
	t->is_pending = false;
}

static void
set_region(struct sp_term *t)
{
	unsigned top = arg(t, 0, 1) - 1;
	unsigned bottom = least(arg(t, 1, t->rows), t->rows);

	if (top + 1 >= bottom)
		return;
	t->top = top;
	t->bottom = bottom;
	sp_term_goto(t, 0, 0);
}

static void
private_mode(struct sp_term *t, unsigned mode, bool on)
{
	switch (mode) {
	case 6:
		t->is_origin = on;
		sp_term_goto(t, 0, 0);
		break;
	case 7:
		t->no_wrap = !on;
		break;
	case 25:
		t->is_hidden = !on;
		break;
	case 47:
	case 1047:
		sp_term_alternate(t, on, false);
		break;
	case 1048:
		if (on)
			sp_term_save(t);
		else
			sp_term_restore(t);
		break;
	case 1049:
		if (on)
			sp_term_save(t);
		sp_term_alternate(t, on, true);
		if (!on)
			sp_term_restore(t);
		break;
	default:
		break;
	}
}

static void
modes(struct sp_term *t, bool on)
{
	for (unsigned i = 0; i < t->n_params; i++) {
		if (t->lead == '?')
			private_mode(t, t->param[i], on);
		else if (t->lead == 0 && t->param[i] == 4)
			t->is_insert = on;
		else if (t->lead == 0 && t->param[i] == 20)
			t->is_newline = on;
	}
}

static void
soft_reset(struct sp_term *t)
{
	t->is_origin = t->is_insert = t->no_wrap = t->is_hidden = false;
	t->top = 0;
	t->bottom = t->rows;
	t->pen = (struct pen){0};
	memset(t->charset, 'B', sizeof(t->charset));
	t->gl = 0;
	t->is_pending = false;
}

static void
repeat(struct sp_term *t, unsigned n)
{
	uint32_t cp = t->last;

	/* More than the screen holds shows nothing new. */
	n = least(n, t->cols * t->rows);
	while (cp != 0 && n-- > 0)
		sp_term_put(t, cp);
	t->last = 0;
}

static bool
move(struct sp_term *t, uint8_t final)
{
	unsigned n = arg(t, 0, 1);

	switch (final) {
	case 'A':
		up(t, n);
		return true;
	case 'B':
	case 'e':
		down(t, n);
		return true;
	case 'C':
	case 'a':
		sideways(t, t->x + n);
		return true;
	case 'D':
		sideways(t, t->x - least(n, t->x));
		return true;
	case 'E':
		down(t, n);
		sideways(t, 0);
		return true;
	case 'F':
		up(t, n);
		sideways(t, 0);
		return true;
	case 'G':
	case '`':
		sideways(t, n - 1);
		return true;
	case 'H':
	case 'f':
		sp_term_goto(t, arg(t, 1, 1) - 1, n - 1);
		return true;
	case 'd':
		sp_term_goto(t, t->x, n - 1);
		return true;
	case 'I':
		tab(t, n);
		return true;
	case 'Z':
		tab_back(t, n);
		return true;
	default:
		return false;
	}
}

static void
clear_tabs(struct sp_term *t)
{
	if (arg(t, 0, 0) == 0)
		t->tab[t->x] = 0;
	else if (t->param[0] == 3)
		memset(t->tab, 0, t->cols);
}

static void
edit(struct sp_term *t, uint8_t final)
{
	unsigned n = arg(t, 0, 1), how = arg(t, 0, 0);

	switch (final) {
	case '@':
		sp_term_insert_cells(t, n);
		t->is_pending = false;
		break;
	case 'P':
		sp_term_delete_cells(t, n);
		t->is_pending = false;
		break;
	case 'X':
		sp_term_erase(t, t->y, t->x, t->x + least(n, t->cols));
		t->is_pending = false;
		break;
	case 'J':
		sp_term_say_wipe(t);
		erase_display(t, how);
		break;
	case 'K':
		erase_line(t, how);
		break;
	case 'L':
	case 'M':
	case 'S':
	case 'T':
		lines(t, final, n);
		break;
	case 'b':
		repeat(t, n);
		break;
	case 'g':
		clear_tabs(t);
		break;
	case 'm':
		sp_term_sgr(t);
		break;
	case 'r':
		set_region(t);
		break;
	case 's':
		sp_term_save(t);
		break;
	case 'u':
		sp_term_restore(t);
		break;
	default:
		break;		/* reports, window operations, the unknown */
	}
}

void
sp_term_csi(struct sp_term *t, uint8_t final)
{
	if (final != 'b' || t->lead != 0 || t->inter != 0)
		t->last = 0;	/* REP repeats what stands right before it */
	if (t->inter == '!' && final == 'p' && t->lead == 0) {
		soft_reset(t);
		return;
	}
	if (t->inter != 0)
		return;
	if ((final == 'h' || final == 'l')) {
		modes(t, final == 'h');
		return;
	}
	/* DECSED and DECSEL: nothing is protected here. */
	if (t->lead == '?' && final == 'J')
		erase_display(t, arg(t, 0, 0));
	else if (t->lead == '?' && final == 'K')
		erase_line(t, arg(t, 0, 0));
	if (t->lead == 0 && !move(t, final))
		edit(t, final);
}

static void
designate(struct sp_term *t, uint8_t set)
{
	unsigned g = t->inter == '(' ? 0 : t->inter == ')' ? 1 :
	    t->inter == '*' ? 2 : t->inter == '+' ? 3 : 4;

	if (g < 4)
		t->charset[g] = set == '0' ? '0' : 'B';
	else if (t->inter == '#' && set == '8')
		sp_term_align(t);
}

void
sp_term_esc(struct sp_term *t, uint8_t final)
{
	t->last = 0;
	if (t->inter != 0) {
		designate(t, final);
		return;
	}
	switch (final) {
	case '7':
		sp_term_save(t);
		break;
	case '8':
		sp_term_restore(t);
		break;
	case 'D':
		sp_term_index(t);
		t->is_pending = false;
		break;
	case 'E':
		sp_term_index(t);
		sideways(t, 0);
		break;
	case 'H':
		t->tab[t->x] = 1;
		break;
	case 'M':
		sp_term_reverse_index(t);
		t->is_pending = false;
		break;
	case 'N':
	case 'O':
		t->once = final == 'N' ? 2 : 3;
		break;
	case 'c':
		sp_term_say_wipe(t);
		sp_term_reset(t);
		break;
	case 'n':
	case 'o':
		t->gl = final == 'n' ? 2 : 3;
		break;
	default:
		break;
	}
}

void
sp_term_c0(struct sp_term *t, uint8_t c)
{
	t->last = 0;
	switch (c) {
	case '\b':
		if (t->x > 0)
			t->x--;
		t->is_pending = false;
		break;
	case '\t':
		tab(t, 1);
		break;
	case '\n':
	case '\v':
	case '\f':
		sp_term_index(t);
		if (t->is_newline)
			t->x = 0;
		t->is_pending = false;
		break;
	case '\r':
		t->x = 0;
		t->is_pending = false;
		break;
	case 0x0e:
		t->gl = 1;
		break;
	case 0x0f:
		t->gl = 0;
		break;
	default:
		break;
	}
}
