/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/menu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_ROWS 3	/* title, filter, heads of columns */
#define FOOT_ROWS 2	/* message, keys */
#define STATE_COLS 14

/* One line in the making: text is cut at the terminal's edge by columns. */
struct line {
	struct sp_buf b;
	unsigned left;
	bool colour;
};

size_t
sp_menu_page(const struct sp_menu *m)
{
	return m->rows > HEAD_ROWS + FOOT_ROWS ? m->rows - HEAD_ROWS - FOOT_ROWS : 1;
}

/* ------------------------------------------------------------------- lines */

static size_t
next_char(const char *s)
{
	size_t n = 1;

	while (((uint8_t)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* A line that is too long for its buffer only loses its end. */
static void
raw(struct line *l, const char *s, size_t n)
{
	if (sp_buf_put(&l->b, s, n) != SP_OK)
		l->left = 0;
}

static void
attr(struct line *l, const char *sgr)
{
	if (l->colour)
		raw(l, sgr, strlen(sgr));
}

/* Text in at most cols columns, filled up with blanks if `fill`. */
static void
put(struct line *l, const char *text, unsigned cols, bool fill)
{
	char safe[2048];
	const char *s = sp_vis(safe, sizeof(safe), sp_span_str(text));
	unsigned room = cols < l->left ? cols : l->left, used = 0;

	while (*s != '\0') {
		size_t n = next_char(s);
		unsigned w = (unsigned)sp_text_columns(sp_span_of(s, n));
		bool is_last = s[n] == '\0';

		if (used + w > room || (used + w == room && !is_last && room > 0)) {
			/* Cut, and said so, where a column is left for it. */
			if (used < room) {
				raw(l, "\xe2\x80\xa6", 3);
				used++;
			}
			break;
		}
		raw(l, s, n);
		used += w;
		s += n;
	}
	while (fill && used < room) {
		raw(l, " ", 1);
		used++;
	}
	l->left -= used < l->left ? used : l->left;
}

static void
all(struct line *l, const char *text)
{
	put(l, text, l->left, false);
}

/* ------------------------------------------------------------------- parts */

static void
title(const struct sp_menu *m, struct line *l)
{
	char right[48];
	unsigned n;

	if (m->n_match == m->n)
		snprintf(right, sizeof(right), "%zu account%s ", m->n,
		    m->n == 1 ? "" : "s");
	else
		snprintf(right, sizeof(right), "%zu of %zu ", m->n_match, m->n);
	n = (unsigned)strlen(right);
	attr(l, "\x1b[7m");
	put(l, " Sallyport  ", l->left, false);
	put(l, m->title, l->left > n ? l->left - n : l->left, true);
	put(l, right, n, true);
}

static void
filter(const struct sp_menu *m, struct line *l)
{
	all(l, "Filter: ");
	all(l, m->filter);
}

static unsigned
name_cols(const struct sp_menu *m)
{
	unsigned w = 16, most = m->cols / 2;

	for (size_t i = 0; i < m->n; i++) {
		unsigned k = (unsigned)strlen(m->items[i].name) + 2;

		w = k > w ? k : w;
	}
	return w > most ? most : w;
}

static void
heads(const struct sp_menu *m, struct line *l)
{
	attr(l, "\x1b[1m");
	put(l, "  ACCOUNT", name_cols(m) + 2, true);
	put(l, "STATE", STATE_COLS, true);
	all(l, "");
}

static void
left_text(char t[static SP_TIME_TEXT], int64_t us)
{
	/* Whole minutes while there are some: a line is not redrawn each second. */
	if (us > 60000000)
		us -= us % 60000000;
	sp_duration_text(t, us < 0 ? 0 : us);
}

static void
detail(const struct sp_menu *m, const struct sp_menu_item *i, char *t, size_t cap)
{
	char d[SP_TIME_TEXT];

	switch (i->state) {
	case SP_MENU_GRANTED:
		left_text(d, i->ends_us - m->now_us);
		snprintf(t, cap, "%s left", d);
		return;
	case SP_MENU_WAITING:
		snprintf(t, cap, "request %llu, %u of %s",
		    (unsigned long long)i->request, i->approvals, i->approvers);
		return;
	case SP_MENU_OWED:
		sp_duration_text(d, i->longest_us);
		snprintf(t, cap, "%u of %s, up to %s", i->approvals, i->approvers, d);
		return;
	case SP_MENU_ALLOWED:
		sp_duration_text(d, i->longest_us);
		snprintf(t, cap, "up to %s", d);
		return;
	}
	t[0] = '\0';
}

static void
item(const struct sp_menu *m, size_t at, struct line *l)
{
	static const char *const words[] = {[SP_MENU_ALLOWED] = "allowed",
	    [SP_MENU_GRANTED] = "granted", [SP_MENU_WAITING] = "waiting",
	    [SP_MENU_OWED] = "approval owed"};
	static const char *const colours[] = {[SP_MENU_ALLOWED] = "\x1b[32m",
	    [SP_MENU_GRANTED] = "\x1b[32m", [SP_MENU_WAITING] = "\x1b[33m",
	    [SP_MENU_OWED] = "\x1b[36m"};
	const struct sp_menu_item *i = &m->items[m->match[at]];
	char text[160];

	if (at == m->at)
		attr(l, "\x1b[7m");
	/* The mark says it also where there are no colours. */
	put(l, at == m->at ? "> " : "  ", 2, true);
	put(l, i->name, name_cols(m), true);
	if (at != m->at)
		attr(l, colours[i->state]);
	put(l, words[i->state], STATE_COLS, true);
	if (at != m->at)
		attr(l, "\x1b[0m");
	detail(m, i, text, sizeof(text));
	put(l, text, l->left, at == m->at);
}

static void
message(const struct sp_menu *m, struct line *l)
{
	const struct sp_menu_item *i = sp_menu_chosen(m);
	char text[512];

	if (m->mode == SP_MENU_REASON) {
		const char *r = m->reason;
		unsigned room = m->cols > 9 ? m->cols - 9 : 1;

		all(l, "Reason: ");
		/* The end of a long one is what is being typed. */
		while (sp_text_columns(sp_span_str(r)) > room)
			r += next_char(r);
		all(l, r);
	} else if (m->message[0] != '\0') {
		attr(l, "\x1b[1m");
		all(l, m->message);
	} else if (m->mode == SP_MENU_LIST && i != NULL) {
		snprintf(text, sizeof(text), "allows %s%s%s", i->allows,
		    i->tags[0] == '\0' ? "" : "; tags ", i->tags);
		all(l, text);
	}
}

static void
keys(const struct sp_menu *m, struct line *l)
{
	attr(l, "\x1b[2m");
	all(l, m->mode == SP_MENU_BUSY ? "One moment ...  ^C leave" :
	    m->mode == SP_MENU_REASON ?
	    "Say why you need it. Enter asks for it  Esc back" :
	    "Type to filter  Up/Down choose  Enter open or ask  ^R ask  "
	    "Esc clear  ^C leave");
}

static const char *
nothing(const struct sp_menu *m)
{
	return !m->is_loaded ? "One moment ..." : m->n == 0 ?
	    "There is nothing that you may reach. `ssh bastion targets` says why." :
	    "Nothing fits the filter. Esc clears it.";
}

static void
one_row(const struct sp_menu *m, unsigned y, struct line *l)
{
	size_t page = sp_menu_page(m), k;

	if (m->cols < SP_MENU_COLS_MIN || m->rows < SP_MENU_ROWS_MIN) {
		if (y == 0)
			all(l, "too small");
		return;
	}
	if (y == 0) {
		title(m, l);
	} else if (y == 1) {
		filter(m, l);
	} else if (y == 2) {
		heads(m, l);
	} else if (y == m->rows - 2) {
		message(m, l);
	} else if (y == m->rows - 1) {
		keys(m, l);
	} else {
		k = m->top + y - HEAD_ROWS;
		if (y - HEAD_ROWS < page && k < m->n_match)
			item(m, k, l);
		else if (m->n_match == 0 && y == HEAD_ROWS)
			all(l, nothing(m));
	}
}

/* ------------------------------------------------------------------ screen */

void
sp_menu_forget(struct sp_menu *m)
{
	for (unsigned y = 0; m->shown != NULL && y < m->shown_rows; y++)
		free(m->shown[y]);
	free(m->shown);
	m->shown = NULL;
	m->shown_rows = m->shown_cols = 0;
}

static void
scroll(struct sp_menu *m)
{
	size_t page = sp_menu_page(m);

	if (m->at >= m->n_match)
		m->at = m->n_match == 0 ? 0 : m->n_match - 1;
	if (m->at < m->top)
		m->top = m->at;
	if (m->at >= m->top + page)
		m->top = m->at - page + 1;
	if (m->top + page > m->n_match)
		m->top = m->n_match > page ? m->n_match - page : 0;
}

static enum sp_err
put_row(struct sp_menu *m, unsigned y, struct sp_buf *out)
{
	struct line l = {.b = {.max = SP_MENU_LINE_MAX}, .left = m->cols,
	    .colour = m->colour};
	enum sp_err e = SP_OK;
	char *text;

	one_row(m, y, &l);
	text = sp_span_dup(sp_buf_span(&l.b));
	sp_buf_fini(&l.b);
	if (text == NULL)
		return SP_ERR_NOMEM;
	if (m->shown[y] == NULL || strcmp(m->shown[y], text) != 0)
		/* Erased first: after its last column a line has no end left. */
		e = sp_buf_printf(out, "\x1b[%u;1H\x1b[0m\x1b[2K%s\x1b[0m",
		    y + 1, text);
	free(m->shown[y]);
	m->shown[y] = text;
	return e;
}

static enum sp_err
put_cursor(struct sp_menu *m, bool is_dirty, struct sp_buf *out)
{
	bool reason = m->mode == SP_MENU_REASON;
	size_t w = sp_text_columns(sp_span_str(reason ? m->reason : m->filter));
	unsigned x = w + 9 > m->cols ? m->cols : (unsigned)w + 9;
	unsigned y = reason ? m->rows - 1 : 2;

	if (m->cols < SP_MENU_COLS_MIN || m->rows < SP_MENU_ROWS_MIN)
		x = y = 1;
	if (!is_dirty && x == m->cursor_x && y == m->cursor_y)
		return SP_OK;
	m->cursor_x = x;
	m->cursor_y = y;
	return sp_buf_printf(out, "\x1b[%u;%uH", y, x);
}

enum sp_err
sp_menu_draw(struct sp_menu *m, struct sp_buf *out)
{
	size_t before = out->len;

	if (m->shown == NULL || m->shown_cols != m->cols ||
	    m->shown_rows != m->rows) {
		sp_menu_forget(m);
		if ((m->shown = calloc(m->rows, sizeof(*m->shown))) == NULL)
			return SP_ERR_NOMEM;
		m->shown_cols = m->cols;
		m->shown_rows = m->rows;
		SP_TRY(sp_buf_printf(out, "\x1b[0m\x1b[2J"));
	}
	scroll(m);
	for (unsigned y = 0; y < m->rows; y++)
		SP_TRY(put_row(m, y, out));
	return put_cursor(m, out->len != before, out);
}

enum sp_err
sp_menu_enter(struct sp_buf *out)
{
	return sp_buf_printf(out, "\x1b[?1049h\x1b[2J");
}

enum sp_err
sp_menu_leave(struct sp_buf *out)
{
	return sp_buf_printf(out, "\x1b[0m\x1b[?1049l");
}
