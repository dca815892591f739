/* SPDX-License-Identifier: Apache-2.0 */
/* What came out: taken apart as far as it takes to know whether it answers keys. */
#include <string.h>

#include "recorder/sense/internal.h"

/* A program that draws (an editor, a pager) answers a key within this time, and
 * the round trip; what comes later came for something else. */
#define DRAW_US 700000

size_t
sp_sense_star(struct sp_span t)
{
	static const char *const stars[] = {"*", "\xe2\x80\xa2", "\xe2\x97\x8f",
	    "\xe2\x88\x99", "\xc2\xb7", "\xe2\x96\xa0", "\xef\xbc\x8a",
	    "\xe2\xac\xa4", "\xe2\x97\x8b"};

	for (size_t i = 0; i < sizeof(stars) / sizeof(stars[0]); i++) {
		size_t n = strlen(stars[i]);

		if (t.n >= n && memcmp(t.p + t.n - n, stars[i], n) == 0)
			return n;
	}
	return 0;
}

static bool
contains(struct sp_span in, struct sp_span what)
{
	return what.n > 0 && in.n >= what.n &&
	    memmem(in.p, in.n, what.p, what.n) != NULL;
}

#define RUN_BYTES 4		/* so many of them are no chance */
#define RUN_MAX 16

static size_t
run_bytes(const struct line *l, size_t i, size_t k)
{
	return (size_t)l->open[k - 1].off + l->open[k - 1].n - l->open[i].off;
}

/* Does the answer show the units from i to before k, one after the other? */
static bool
shows(const struct sp_sense *s, const struct line *l, size_t i, size_t k)
{
	size_t off = l->open[i].off, n = run_bytes(l, i, k);

	if (k - i == 1 && n > RUN_MAX)
		n = RUN_MAX;	/* of a paste: rows end somewhere in it */
	/* In a long text one letter says nothing: those before it are there. */
	for (int j = 0; j < 3 && k - i == 1 && s->n_text > 8 && off > 0; j++)
		do {
			off--;
			n++;
		} while (off > 0 && (l->typed[off] & 0xc0) == 0x80);
	return contains(sp_span_of(s->text, s->n_text),
	    sp_span_of(l->typed + off, n));
}

/* How many of the first n units it shows: all of them; the first ones and
 * nothing else; or so long a run of them that it is no chance. */
static size_t
shown(const struct sp_sense *s, const struct line *l, size_t n)
{
	/* What comes after Enter was answered may be another line's echo. */
	bool is_first = l->n_after == 0;
	size_t m;

	if (n > 0 && (is_first || run_bytes(l, 0, n) >= RUN_BYTES) &&
	    shows(s, l, 0, n))
		return n;
	for (size_t k = n; k > 1 && is_first; k--)
		if (run_bytes(l, 0, k - 1) == s->n_text &&
		    shows(s, l, 0, k - 1))
			return k - 1;
	/* An editor of lines writes the one before again, too. */
	for (size_t k = 1; k <= n && s->n_text <= RUN_BYTES && is_first; k++) {
		m = l->open[k - 1].n;
		if (m <= s->n_text && memcmp(s->text + s->n_text - m,
		    l->typed + l->open[k - 1].off, m) == 0)
			return k;
	}
	for (size_t k = n; k > 0; k--) {
		size_t i = k - 1;

		while (i > 0 && run_bytes(l, i, k) < RUN_BYTES)
			i--;
		if (run_bytes(l, i, k) >= RUN_BYTES && shows(s, l, i, k))
			return k;
	}
	/* A paste that comes back is an answer however soon it came. */
	m = l->open[0].n < RUN_MAX ? l->open[0].n : RUN_MAX;
	return n == 0 && m >= RUN_BYTES && s->n_text >= m &&
	    memcmp(s->text, l->typed + l->open[0].off, m) == 0;
}

static void
forget_units(struct line *l, size_t n)
{
	l->n_open -= n;
	memmove(l->open, l->open + n, l->n_open * sizeof(l->open[0]));
}

/* A star at the end, and none was typed for it. */
static bool
is_star(const struct sp_sense *s, const struct line *l, size_t n_units)
{
	struct sp_span t = sp_span_of(s->text, s->n_text);
	size_t n;

	while (t.n > 0 && t.p[t.n - 1] == ' ')
		t.n--;
	n = sp_sense_star(t);
	/* One alone answers the oldest. */
	if (n > 0 && t.n == n)
		n_units = 1;
	return n > 0 && (l->is_masked || !contains(sp_span_of(l->typed +
	    l->open[0].off, run_bytes(l, 0, n_units)),
	    sp_span_of(t.p + t.n - n, n)));
}

void
sp_sense_measure(struct sp_sense *s, uint64_t typed_us)
{
	uint64_t took = s->now_us - typed_us;

	if (s->rtt_us == 0 || took < s->rtt_us)
		s->rtt_us = took > 0 ? took : 1;
}

/* An editor moves by sequences, or by writing again what stands there. Once
 * Enter was answered nothing is drawn for the keys before it. */
static bool
draws(const struct sp_sense *s, const struct line *l)
{
	return l->n_after == 0 && (s->has_motion || (!l->is_entered &&
	    l->in_alternate && sp_term_is_alternate(s->term)));
}

static void
take(struct sp_sense *s, struct line *l)
{
	uint64_t within = s->rtt_us +
	    (s->rtt_us > DRAW_US ? s->rtt_us : DRAW_US);
	size_t n = 0, last;

	while (n < l->n_open && l->open[n].at_us +
	    sp_sense_least_us(s) <= s->now_us)
		n++;
	if (l->n_open == 0)
		return;
	if (n > 0 && is_star(s, l, n)) {
		l->is_masked = true;
		forget_units(l, n);
		return;
	}
	last = shown(s, l, n);
	if (last > 0) {
		sp_sense_measure(s, l->open[last - 1].at_us);
		l->n_answered += (unsigned)last;
		forget_units(l, last);
	} else if (n > 0 && draws(s, l)) {
		for (size_t i = 0; i < n; i++)
			l->n_answered += s->now_us - l->open[i].at_us <= within;
		forget_units(l, n);
	}
}

void
sp_sense_answer(struct sp_sense *s, bool is_line)
{
	bool is_visible = s->n_text > 0 || s->has_motion;

	for (size_t i = 0; i < s->n && (is_visible || is_line); i++) {
		struct line *l = &s->line[i];

		if (is_visible || draws(s, l))
			take(s, l);
		if (l->is_entered && !sp_sense_is_early(s, l))
			l->n_after++;
	}
	s->n_text = 0;
	s->has_motion = false;
}

static void
feed(struct sp_sense *s, struct sp_span b, size_t *from, size_t to)
{
	if (to > *from)
		sp_term_feed(s->term, sp_span_of(b.p + *from, to - *from));
	*from = to;
}

static void
text_byte(struct sp_sense *s, uint8_t c)
{
	if (s->n == 0)
		return;
	if (s->n_text == sizeof(s->text)) {
		s->n_text /= 2;
		memmove(s->text, s->text + s->n_text, s->n_text);
	}
	s->text[s->n_text++] = c;
}

/* A line that ends by itself (a PIN that needs no Enter) is a line. */
static void
ended_without_enter(struct sp_sense *s)
{
	struct line *l = sp_sense_open_line(s);

	if (l == NULL || l->in_alternate || !sp_sense_is_silent(l) || l->n_units < SECRET_KEYS ||
	    l->n_answered > 0 || 
	    s->now_us < l->last_us + sp_sense_least_us(s))
		return;
	l->is_entered = true;
	l->enter_us = l->last_us;
}

static void
newline(struct sp_sense *s, struct sp_span b, size_t *from, size_t i)
{
	bool is_visible;
	unsigned x, y;

	feed(s, b, from, i);
	sp_sense_answer(s, true);
	ended_without_enter(s);
	sp_term_cursor(s->term, &x, &y, &is_visible);
	if (x == 0 && s->was_return)
		x = s->return_x;
	sp_sense_left(s, x, y, LEFT_NEWLINE);
}

/* A sequence is whole: what it does to the row where the cursor stands. */
static void
sequence(struct sp_sense *s, uint8_t final, struct sp_span b, size_t *from,
    size_t to)
{
	bool is_csi = s->out == OUT_CSI, is_visible, was_alternate;
	bool is_screen = is_csi && s->out_is_private &&
	    (final == 'h' || final == 'l') && (s->out_number == 47 ||
	    s->out_number == 1047 || s->out_number == 1049);
	bool moves = is_csi ? !s->out_is_private &&
	    strchr("ABCDEFGHJKLMPSTX@`adfeILZ", final) != NULL && final != '\0' :
	    strchr("DEMc8", final) != NULL && final != '\0';
	unsigned x, y, x2, y2;

	s->out = OUT_GROUND;
	sp_term_cursor(s->term, &x, &y, &is_visible);
	if (is_screen || (moves && (final == 'J' || final == 'K')))
		sp_sense_left(s, x, y, LEFT_ELSEWHERE);
	else if (!is_csi && (final == 'D' || final == 'E'))
		sp_sense_left(s, x, y, LEFT_NEWLINE);
	was_alternate = sp_term_is_alternate(s->term);
	feed(s, b, from, to);
	s->has_motion |= moves;
	if (sp_term_is_alternate(s->term) != was_alternate) {
		sp_sense_switched(s);
		return;
	}
	sp_term_cursor(s->term, &x2, &y2, &is_visible);
	if (moves && y2 != y && is_csi && strchr("ABEFHdf", final) != NULL)
		sp_sense_left(s, x, y, y2 == y + 1 ? LEFT_DOWN : LEFT_ELSEWHERE);
}

static void
string_byte(struct sp_sense *s, uint8_t c)
{
	if (c == 0x18 || c == 0x1a) {
		s->out = OUT_GROUND;
	} else if (c == 0x07) {
		if (s->out == OUT_OSC)
			sp_sense_mark_end(s);
		s->out = OUT_GROUND;
	} else if (c == 0x1b) {
		if (s->out == OUT_OSC)
			sp_sense_mark_end(s);
		s->out = OUT_STRING_ESC;
	} else if (s->out == OUT_OSC &&
	    sp_buf_put_u8(&s->mark.text, c) != SP_OK) {
		s->mark.is_cut = true;
	}
}

static void
escape_byte(struct sp_sense *s, uint8_t c, struct sp_span b, size_t *from,
    size_t i)
{
	if (c == '[') {
		s->out = OUT_CSI;
		s->out_is_private = false;
		s->out_number = 0;
	} else if (c == ']') {
		s->out = OUT_OSC;
		sp_buf_reset(&s->mark.text);
		s->mark.is_cut = false;
	} else if (c == 'P' || c == '_' || c == '^' || c == 'X') {
		s->out = OUT_STRING;
	} else if (c == 0x18 || c == 0x1a) {
		s->out = OUT_GROUND;
	} else if (c >= 0x30 && c != 0x7f) {
		sequence(s, c, b, from, i + 1);
	}
}

static void
csi_byte(struct sp_sense *s, uint8_t c, struct sp_span b, size_t *from, size_t i)
{
	if (c >= '0' && c <= '9')
		s->out_number = s->out_number < 10000 ?
		    s->out_number * 10 + c - '0' : s->out_number;
	else if (c >= '<' && c <= '?')
		s->out_is_private = true;
	else if (c >= 0x40 && c <= 0x7e)
		sequence(s, c, b, from, i + 1);
	else if (c == 0x18 || c == 0x1a)
		s->out = OUT_GROUND;
	else if (c == 0x1b)
		s->out = OUT_ESC;
}

static void
ground_byte(struct sp_sense *s, uint8_t c, struct sp_span b, size_t *from,
    size_t i)
{
	bool is_visible;
	unsigned y;

	if (c == 0x1b) {
		feed(s, b, from, i);
		s->out = OUT_ESC;
	} else if (c >= '\n' && c <= 0x0c) {
		newline(s, b, from, i);
	} else if (c >= 0x20 && c != 0x7f) {
		text_byte(s, c);
	} else if (c == 0x07 || c == '\t') {
		s->has_motion = true;
	} else if (c == '\r' && s->n > 0 && !s->was_return) {
		feed(s, b, from, i);
		sp_term_cursor(s->term, &s->return_x, &y, &is_visible);
	}
	s->was_return = c == '\r';
}

void
sp_sense_out(struct sp_sense *s, uint64_t at_us, struct sp_span b)
{
	size_t from = 0;

	sp_sense_tick(s, at_us);
	for (size_t i = 0; i < b.n; i++) {
		uint8_t c = b.p[i];

		switch (s->out) {
		case OUT_ESC:
			escape_byte(s, c, b, &from, i);
			break;
		case OUT_STRING_ESC:
			s->out = c == '\\' ? OUT_GROUND : OUT_ESC;
			if (c != '\\')
				escape_byte(s, c, b, &from, i);
			break;
		case OUT_CSI:
			csi_byte(s, c, b, &from, i);
			break;
		case OUT_OSC:
		case OUT_STRING:
			string_byte(s, c);
			break;
		case OUT_GROUND:
		default:
			ground_byte(s, c, b, &from, i);
			break;
		}
	}
	feed(s, b, &from, b.n);
	sp_sense_answer(s, false);
	sp_sense_judge_due(s);
}
