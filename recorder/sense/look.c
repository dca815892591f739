/* SPDX-License-Identifier: Apache-2.0 */
/* What stands on the screen when Enter is answered. */
#include <string.h>

#include "common/text.h"
#include "recorder/sense/internal.h"

/* How sure a reading is, in percent. What is below SP_SENSE_SURE was told to a
 * program rather than to a shell, or might be something else. */
enum {
	SURE_TYPED = 95,	/* the keys, seen again where the first one fell */
	SURE_MARKED = 90,	/* where the shell says that commands begin */
	SURE_AHEAD = 88,	/* the keys, seen again elsewhere */
	SURE_SHOWN = 85,	/* edited: what stands where the first key fell */
	SURE_SCROLLED = 80,	/* the keys; their beginning left the screen */
	SURE_PROMPT = 75,	/* edited: what stands behind the same prompt */
	SURE_LAST = 65,		/* ... behind the prompt of the command before */
	SURE_GUESSED = 60,	/* the end of the keys, behind some prompt */
	SURE_TEXT = 40,		/* shown, but without a prompt: for a program */
};

/* What ends most prompts, and blanks. */
static bool
is_prompt(struct sp_span p)
{
	static const char *const ends[] = {"$", "#", "%", ">", ":", "]", "?",
	    ")", "\xe2\x9d\xaf", "\xc2\xbb", "\xe2\x9e\x9c", "\xef\xbc\x9a",
	    "\xe2\x86\x92", "\xce\xbb", "\xe2\x9d\xb1", "\xee\x82\xb0"};
	size_t n = p.n;

	while (n > 0 && p.p[n - 1] == ' ')
		n--;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t k = strlen(ends[i]);

		if (n >= k && memcmp(p.p + n - k, ends[i], k) == 0)
			return true;
	}
	return false;
}

static struct sp_span trimmed(struct sp_span s);

/* The prompt of a command that goes on: of POSIX shells, zsh (which says what is
 * open), Python, MariaDB, SQLite, PostgreSQL. */
static bool
is_more(struct sp_span p)
{
	static const char *const whole[] = {">", "...", "->", "...>", "'>",
	    "\">", "`>"};
	static const char *const words[] = {"for", "while", "if", "then", "else",
	    "elif", "do", "case", "quote", "dquote", "bquote", "heredoc", "cmdsubst",
	    "cursh", "subsh", "function", "pipe", "cmdand", "cmdor", "until",
	    "select", "repeat"};
	const uint8_t *end;

	p = trimmed(p);
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (sp_span_is(p, whole[i]))
			return true;
	if (p.n > 2 && (p.p[p.n - 2] == '-' || p.p[p.n - 2] == '(') &&
	    (p.p[p.n - 1] == '#' || p.p[p.n - 1] == '>'))
		return true;
	if (p.n < 3 || p.p[p.n - 1] != '>')
		return false;
	end = memchr(p.p, ' ', p.n);
	p.n = end == NULL ? p.n - 1 : (size_t)(end - p.p);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (sp_span_is(p, words[i]))
			return true;
	return false;
}

static bool
begins_with(struct sp_span a, struct sp_span b)
{
	return a.n >= b.n && sp_span_eq(sp_span_of(a.p, b.n), b);
}

static bool
ends_with(struct sp_span a, struct sp_span b)
{
	return a.n >= b.n && sp_span_eq(sp_span_of(a.p + a.n - b.n, b.n), b);
}

static struct sp_span
without(struct sp_span s, size_t n)
{
	return sp_span_of(s.p + n, s.n - n);
}

static struct sp_span
trimmed(struct sp_span s)
{
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\n'))
		s.n--;
	while (s.n > 0 && s.p[0] == ' ')
		s = without(s, 1);
	return s;
}

/* A wide character that did not fit at the end of this row is the next one. */
static bool
has_gap(const struct sp_sense *s, unsigned y)
{
	unsigned cols = sp_term_cols(s->term);
	const struct sp_cell *c = sp_term_row(s->term, y);

	return cols > 1 && (c[cols - 1].ch == ' ' || c[cols - 1].ch == 0) &&
	    sp_term_row(s->term, y + 1)[0].width == 2;
}

/* From column x of row `from` to the end of row `to`. */
static bool
text_of(const struct sp_sense *s, unsigned from, unsigned x, unsigned to,
    struct sp_buf *b)
{
	sp_buf_reset(b);
	for (unsigned y = from; y <= to; y++) {
		bool goes_on = sp_term_row_is_wrapped(s->term, y) && y < to;
		unsigned skip = y == from ? x : 0, cols = sp_term_cols(s->term);
		unsigned end = goes_on && has_gap(s, y) ? cols - 1 : cols;

		if (end <= skip)
			continue;
		if (sp_cells_text(sp_term_row(s->term, y) + skip, end - skip,
		    goes_on, b) != SP_OK || (!goes_on && y < to &&
		    sp_buf_put_u8(b, '\n') != SP_OK))
			return false;
	}
	return true;
}

static unsigned
first_row(const struct sp_sense *s, unsigned y)
{
	while (y > 0 && sp_term_row_is_wrapped(s->term, y - 1))
		y--;
	return y;
}

/* The place where the shell said that its command begins, or where the first
 * key fell. */
static bool
start_of(const struct sp_sense *s, const struct line *l, uint64_t *row,
    unsigned *col)
{
	if (s->mark.has_start) {
		*row = s->mark.row;
		*col = s->mark.col;
		return true;
	}
	*row = l->row;
	*col = l->col;
	return l->has_start && l->in_alternate == sp_term_is_alternate(s->term);
}

/* The text from there to the end of the line whose last row is y, if what stood
 * before it still does. */
static bool
at_start(struct sp_sense *s, const struct line *l, unsigned y)
{
	uint64_t top = sp_term_is_alternate(s->term) ? 0 : s->scrolled, at;
	unsigned row, col;

	if (!start_of(s, l, &at, &col) || at < top || at > top + y ||
	    col >= sp_term_cols(s->term))
		return false;
	row = (unsigned)(at - top);
	if (first_row(s, y) > row && !l->is_pasted_lines)
		return false;
	sp_buf_reset(&s->at);
	if (!s->mark.has_start && (sp_cells_text(sp_term_row(s->term, row), col,
	    true, &s->at) != SP_OK || !sp_span_eq(sp_buf_span(&s->at),
	    sp_span_of(l->prompt, l->n_prompt))))
		return false;
	return text_of(s, row, col, y, &s->at);
}

/* ---------------------------------------------------------------- readings */

struct reading {
	unsigned sure;
	enum sp_sense_source source;
	struct sp_span text, prompt;
};

/* One more line of the command that was told last. */
static bool
goes_on_with(struct sp_sense *s, const struct line *l, struct sp_span text)
{
	if (!s->is_held || s->command.source != SP_SENSE_SCREEN ||
	    text.n + 1 > SP_SENSE_LINE_MAX - s->held.len ||
	    sp_buf_put_u8(&s->held, '\n') != SP_OK ||
	    sp_buf_put(&s->held, text.p, text.n) != SP_OK)
		return false;
	s->command.at_us = s->mark.entered_us = l->enter_us;
	return true;
}

void
sp_sense_tell_text(struct sp_sense *s, const struct line *l)
{
	struct sp_sense_command c = {.first_us = l->first_us,
	    .at_us = l->enter_us, .source = SP_SENSE_SCREEN,
	    .confidence = SURE_TEXT, .row = (uint16_t)l->text_row,
	    .text = trimmed(sp_span_of(l->typed, l->n_typed))};

	if (c.text.n > 0 && sp_utf8_is_valid(c.text))
		sp_sense_hold(s, &c);
}

bool
sp_sense_goes_on(struct sp_sense *s)
{
	bool is_visible;
	unsigned x, y;

	sp_term_cursor(s->term, &x, &y, &is_visible);
	sp_buf_reset(&s->at);
	return !sp_term_is_alternate(s->term) && x > 0 &&
	    x < sp_term_cols(s->term) && sp_cells_text(sp_term_row(s->term, y), x,
	    true, &s->at) == SP_OK && is_more(sp_buf_span(&s->at));
}

static void
tell(struct sp_sense *s, const struct line *l, unsigned y,
    const struct reading *r)
{
	struct sp_span text = trimmed(r->text), p = r->prompt;
	struct sp_sense_command c = {.first_us = l->first_us,
	    .at_us = l->enter_us, .source = r->source, .text = text,
	    .confidence = (uint8_t)r->sure,
	    .row = (uint16_t)y, .is_cut = l->is_full};
	bool is_ex = text.n > 0 && (text.p[0] == ':' || text.p[0] == '!') &&
	    sp_term_is_alternate(s->term);
	bool is_at_prompt = is_prompt(p) || r->source == SP_SENSE_MARK;

	s->mark.has_start = false;
	if (is_more(p) && text.n > 0 && goes_on_with(s, l, text))
		return;
	if (is_at_prompt && !is_more(p) && p.n <= sizeof(s->last) && p.n > 0) {
		memcpy(s->last, p.p, p.n);
		s->n_last = p.n;
	}
	/* An editor's text; but its commands stand on the last row. */
	if (text.n == 0 || (!is_at_prompt && sp_term_is_alternate(s->term) &&
	    !(is_ex && trimmed(p).n == 0 && y + 1 == sp_term_rows(s->term))))
		return;
	if (!is_at_prompt && !is_ex && c.confidence > SURE_TEXT)
		c.confidence = SURE_TEXT;
	s->mark.is_owed = true;
	s->mark.entered_us = l->enter_us;
	sp_sense_hold(s, &c);
}

/* The keys themselves, where the first one fell. */
static bool
typed_here(struct sp_sense *s, const struct line *l, unsigned y,
    struct sp_span typed, struct reading *r)
{
	struct sp_span at;

	if (!at_start(s, l, y))
		return false;
	at = sp_buf_span(&s->at);
	*r = (struct reading){.sure = s->mark.has_start ? SURE_MARKED :
	    SURE_TYPED, .source = s->mark.has_start ? SP_SENSE_MARK :
	    SP_SENSE_SCREEN, .text = typed,
	    .prompt = sp_span_of(l->prompt, l->n_prompt)};
	if (sp_span_eq(trimmed(at), typed))
		return true;
	/* Some prompts have a part at the right end of the row. */
	at = trimmed(at);
	return at.n > typed.n + 2 && begins_with(at, typed) &&
	    at.p[typed.n] == ' ' && at.p[typed.n + 1] == ' ';
}

/* Was it entered as it was typed, and stands it there? */
static bool
exact(struct sp_sense *s, const struct line *l, unsigned y, struct reading *r)
{
	struct sp_span typed = trimmed(sp_span_of(l->typed, l->n_typed));
	struct sp_span w, before;

	if (!l->is_plain || l->is_full || typed.n == 0)
		return false;
	if (typed_here(s, l, y, typed, r))
		return true;
	/* What a program says of a secret is no echo. */
	if (!l->is_behind && sp_sense_is_silent(l))
		return false;
	if (!text_of(s, first_row(s, y), 0, y, &s->whole))
		return false;
	w = trimmed(sp_buf_span(&s->whole));
	*r = (struct reading){.sure = SURE_AHEAD, .source = SP_SENSE_SCREEN,
	    .text = typed};
	if (!ends_with(w, typed)) {
		/* What is seen of it: no more can be said to be printable. */
		r->sure = SURE_SCROLLED;
		r->text = w;
		return first_row(s, y) == 0 && w.n > 200 && ends_with(typed, w);
	}
	before = sp_span_of(sp_buf_span(&s->whole).p,
	    (size_t)(w.p - sp_buf_span(&s->whole).p) + w.n - typed.n);
	r->prompt = before;
	return trimmed(before).n == 0 || is_prompt(before);
}

/* Behind the last thing on the row that could be a prompt stands the end of
 * what was typed: the keys before it went to something else. */
static bool
guessed(const struct line *l, struct sp_span whole, struct reading *r)
{
	struct sp_span typed = trimmed(sp_span_of(l->typed, l->n_typed));

	/* An editor's, on its last row. */
	if (whole.n > 1 && whole.p[0] == ':' && ends_with(typed,
	    trimmed(whole))) {
		*r = (struct reading){.sure = SURE_PROMPT,
		    .source = SP_SENSE_SCREEN, .text = whole};
		return true;
	}
	for (size_t i = whole.n; i > 1; i--) {
		struct sp_span before = sp_span_of(whole.p, i);
		struct sp_span rest = trimmed(without(whole, i));

		if (whole.p[i - 1] != ' ' || rest.n < 2 || !is_prompt(before) ||
		    !ends_with(typed, rest))
			continue;
		*r = (struct reading){.sure = SURE_GUESSED,
		    .source = SP_SENSE_SCREEN, .text = rest, .prompt = before};
		return true;
	}
	return false;
}

static size_t
n_newlines(struct sp_span t)
{
	size_t n = 0;

	for (size_t i = 0; i < t.n; i++)
		n += t.p[i] == '\n';
	return n;
}

static bool
is_stars(struct sp_span t)
{
	size_t n;

	for (t = trimmed(t); t.n > 0; t.n -= n)
		if ((n = sp_sense_star(t)) == 0)
			return false;
	return true;
}

/* Edited, completed, recalled: what stands behind the prompt. */
static bool
behind_prompt(struct sp_sense *s, const struct line *l, unsigned y,
    struct reading *r)
{
	struct sp_span prompt = sp_span_of(l->prompt, l->n_prompt), whole;
	struct sp_span last = sp_span_of(s->last, s->n_last);

	if (sp_sense_is_silent(l) || l->is_masked)
		return false;
	*r = (struct reading){.sure = SURE_SHOWN, .source = SP_SENSE_SCREEN,
	    .prompt = prompt};
	if ((is_prompt(prompt) || s->mark.has_start) && at_start(s, l, y)) {
		r->text = sp_buf_span(&s->at);
		if (l->is_pasted_lines && n_newlines(r->text) < n_newlines(
		    sp_span_of(l->typed, l->n_typed)))
			return false;
		if (s->mark.has_start) {
			r->source = SP_SENSE_MARK;
			r->sure = SURE_MARKED;
		}
		return true;
	}
	if (!text_of(s, first_row(s, y), 0, y, &s->whole))
		return false;
	whole = sp_buf_span(&s->whole);
	if (is_prompt(prompt) && trimmed(prompt).n > 1 &&
	    begins_with(whole, prompt)) {
		r->text = without(whole, prompt.n);
		r->sure = SURE_PROMPT;
		return true;
	}
	if (last.n > 0 && begins_with(whole, last)) {
		*r = (struct reading){.sure = SURE_LAST,
		    .source = SP_SENSE_SCREEN, .prompt = last,
		    .text = without(whole, last.n)};
		return true;
	}
	return guessed(l, whole, r);
}

/* Enter was answered, and since the first key the cursor has not moved, or
 * nothing stands there, or stars: the keys were not shown. */
static bool
is_unseen(struct sp_sense *s, const struct line *l, unsigned x, unsigned y)
{
	if (!sp_sense_is_silent(l) || l->is_behind || !at_start(s, l, y))
		return false;
	return (x == l->col && sp_sense_row(s, y) == l->row) ||
	    is_stars(sp_buf_span(&s->at));
}

static void
done(struct sp_sense *s, size_t i, unsigned y, const struct reading *r)
{
	/* What was read may stand in the line itself. */
	tell(s, &s->line[i], y, r);
	sp_sense_judge(s, i);
	sp_sense_drop_first(s);
}

/* No prompt: it was typed while something ran, and will be seen again if a shell
 * gets it; or it was for what ran. */
static bool
is_bare(const struct sp_sense *s, const struct reading *r)
{
	return r->source == SP_SENSE_SCREEN && trimmed(r->prompt).n == 0 &&
	    !sp_term_is_alternate(s->term);
}

void
sp_sense_left(struct sp_sense *s, unsigned x, unsigned y, enum leaving how)
{
	struct reading r;
	size_t first = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct line *l = &s->line[i];

		if (!l->is_entered)
			break;
		/* Where the first key fell it is an answer however soon. */
		if (sp_sense_is_early(s, l) && (!l->has_start ||
		    how != LEFT_NEWLINE))
			break;
		if (!l->is_given_up && exact(s, l, y, &r)) {
			if (!is_bare(s, &r)) {
				sp_sense_measure(s, l->enter_us);
				done(s, i, y, &r);
				return;
			}
			if (!l->is_text) {
				l->is_text = true;
				l->text_row = y;
				return;
			}
		}
		if (first == i && (l->is_text || (i + 1 < s->n &&
		    sp_sense_is_late(s, l))))
			first++;
	}
	if (first >= s->n || !s->line[first].is_entered ||
	    sp_sense_is_early(s, &s->line[first]) ||
	    s->line[first].is_given_up || how == LEFT_ELSEWHERE)
		return;
	if (behind_prompt(s, &s->line[first], y, &r))
		done(s, first, y, &r);
	else if (is_unseen(s, &s->line[first], x, y))
		sp_sense_judge(s, first + 1);
}
