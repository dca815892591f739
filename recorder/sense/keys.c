/* SPDX-License-Identifier: Apache-2.0 */
/* What was typed: lines, and the pieces of each that wait for an answer. */
#include <string.h>

#include "recorder/sense/internal.h"

#define ANSWERS_MAX 4000	/* and the line in none of them */

struct line *
sp_sense_open_line(struct sp_sense *s)
{
	struct line *l = s->n > 0 ? &s->line[s->n - 1] : NULL;

	return l != NULL && !l->is_entered ? l : NULL;
}

/* Hardly a piece of it had an answer. */
bool
sp_sense_is_silent(const struct line *l)
{
	return l->n_solid >= SECRET_KEYS && l->n_units > 0 &&
	    l->n_answered * 5 <= l->n_units;
}

bool
sp_sense_is_early(const struct sp_sense *s, const struct line *l)
{
	return s->now_us + SLACK_US < l->enter_us + s->rtt_us - s->rtt_us / 16;
}

bool
sp_sense_is_late(const struct sp_sense *s, const struct line *l)
{
	return l->is_entered && l->n_after > 0 &&
	    s->now_us > l->enter_us + GRACE_US + 2 * s->rtt_us;
}

void
sp_sense_drop_first(struct sp_sense *s)
{
	s->n--;
	memmove(&s->line[0], &s->line[1], s->n * sizeof(s->line[0]));
}

static void
judge_first(struct sp_sense *s)
{
	const struct line *l = &s->line[0];
	struct sp_sense_secret r = {.first_us = l->first_us,
	    .to_us = l->is_entered ? l->enter_us : l->last_us,
	    .n_keys = l->n_keys, .is_masked = l->is_masked};
	bool is_secret = !l->is_text && sp_sense_is_silent(l);

	if (l->is_text)
		sp_sense_tell_text(s, l);
	sp_sense_drop_first(s);
	if (is_secret)
		s->ops.secret(s->ops.ctx, &r);
}

void
sp_sense_judge(struct sp_sense *s, size_t i)
{
	for (; i > 0; i--)
		judge_first(s);
}

/* A secret whose echo did not come, a line that was given up, an empty one. */
static bool
is_due(const struct sp_sense *s, const struct line *l)
{
	return (l->is_given_up && l->n_after > 0) ||
	    (l->is_entered && l->n_keys == 0 && l->is_plain) ||
	    (!l->is_text && sp_sense_is_late(s, l) && sp_sense_is_silent(l)) ||
	    l->n_after > ANSWERS_MAX;
}

void
sp_sense_judge_due(struct sp_sense *s)
{
	while (s->n > 0 && is_due(s, &s->line[0]))
		judge_first(s);
}

static struct line *
line_for_key(struct sp_sense *s)
{
	struct line *l = sp_sense_open_line(s);

	if (l != NULL)
		return l;
	if (s->n == LINES_MAX)
		judge_first(s);
	l = &s->line[s->n++];
	memset(l, 0, sizeof(*l));
	l->first_us = l->last_us = s->now_us;
	l->is_plain = true;
	for (size_t i = 0; i + 1 < s->n; i++)
		l->is_behind |= !s->line[i].is_text;
	sp_sense_start(s, l);
	return l;
}

static void
edited(struct sp_sense *s)
{
	line_for_key(s)->is_plain = false;
}

/* The piece that this byte belongs to; a full row forgets the oldest, which
 * stays without an answer. */
static void
into_unit(struct sp_sense *s, struct line *l)
{
	struct unit *u = l->n_open > 0 ? &l->open[l->n_open - 1] : NULL;

	if (u == NULL || u->at_us != s->now_us || l->last_us != s->now_us ||
	    u->off + u->n != l->n_typed || l->n_units == 0) {
		if (l->n_open == UNITS_MAX) {
			l->n_open--;
			memmove(l->open, l->open + 1,
			    l->n_open * sizeof(l->open[0]));
		}
		u = &l->open[l->n_open++];
		*u = (struct unit){.at_us = s->now_us,
		    .off = (uint16_t)l->n_typed};
		l->n_units++;
	}
	u->n++;
}

static void
typed_byte(struct sp_sense *s, uint8_t c)
{
	struct line *l = line_for_key(s);

	if ((c & 0xc0) != 0x80) {
		l->n_keys++;
		l->n_solid += c != ' ';
	}
	if (l->n_typed == sizeof(l->typed)) {
		l->is_full = true;
		return;
	}
	into_unit(s, l);
	l->last_us = s->now_us;
	l->typed[l->n_typed++] = c;
}

static void
cut_units(struct line *l)
{
	while (l->n_open > 0 && l->open[l->n_open - 1].off >= l->n_typed)
		l->n_open--;
	if (l->n_open > 0 && l->open[l->n_open - 1].off +
	    l->open[l->n_open - 1].n > l->n_typed)
		l->open[l->n_open - 1].n = (uint16_t)(l->n_typed -
		    l->open[l->n_open - 1].off);
}

static void
rub_out(struct sp_sense *s)
{
	struct line *l = line_for_key(s);

	while (l->n_typed > 0 && (l->typed[l->n_typed - 1] & 0xc0) == 0x80)
		l->n_typed--;
	if (l->n_typed > 0)
		l->n_typed--;
	cut_units(l);
}

static void
enter(struct sp_sense *s)
{
	struct line *l = line_for_key(s);

	l->is_entered = true;
	l->enter_us = s->now_us;
}

/* ^C and ^D: no line for anybody, but what was typed may have been a secret. */
static void
give_up(struct sp_sense *s)
{
	struct line *l = sp_sense_open_line(s);

	if (l == NULL)
		return;
	l->is_entered = true;
	l->is_given_up = true;
	l->enter_us = s->now_us;
}

static void
end_of_sequence(struct sp_sense *s, uint8_t c)
{
	s->key = KEY_PLAIN;
	if (c == '~' && (s->csi == 200 || s->csi == 201))
		s->in_paste = s->csi == 200;
	else if (c != 'R' && c != 'c' && c != 'n' && c != 'I' && c != 'O' &&
	    c != 't' && c != 'y')
		edited(s);	/* the rest a terminal says by itself */
}

static void
sequence_key(struct sp_sense *s, uint8_t c)
{
	switch (s->key) {
	case KEY_ESC:
		s->key = c == '[' ? KEY_CSI : c == 'O' ? KEY_SS3 : KEY_PLAIN;
		s->csi = 0;
		if (s->key == KEY_PLAIN)
			edited(s);
		break;
	case KEY_CSI:
		if (c >= '0' && c <= '9')
			s->csi = s->csi < 10000 ? s->csi * 10 + c - '0' : s->csi;
		else if (c >= 0x40 && c <= 0x7e)
			end_of_sequence(s, c);
		break;
	case KEY_PLAIN:
	case KEY_SS3:
	default:
		s->key = KEY_PLAIN;
		edited(s);
		break;
	}
}

static void
newline_in_paste(struct sp_sense *s)
{
	struct line *l = line_for_key(s);

	l->is_pasted_lines = true;
	if (l->n_typed < sizeof(l->typed))
		l->typed[l->n_typed++] = '\n';
	else
		l->is_full = true;
}

static void
control_key(struct sp_sense *s, uint8_t c)
{
	struct line *l;

	switch (c) {
	case 0x1b:
		s->key = KEY_ESC;
		break;
	case '\r':
	case '\n':
		(s->in_paste ? newline_in_paste : enter)(s);
		break;
	case 0x7f:
	case '\b':
		rub_out(s);
		break;
	case 0x15:		/* ^U */
		l = line_for_key(s);
		l->n_typed = 0;
		cut_units(l);
		break;
	case 0x03:
	case 0x04:
		give_up(s);
		break;
	case 0:
		break;
	default:
		edited(s);
		break;
	}
}

void
sp_sense_in(struct sp_sense *s, uint64_t at_us, struct sp_span b)
{
	sp_sense_tick(s, at_us);
	for (size_t i = 0; i < b.n; i++) {
		uint8_t c = b.p[i];

		if (s->key != KEY_PLAIN)
			sequence_key(s, c);
		else if (c < 0x20 || c == 0x7f)
			control_key(s, c);
		else
			typed_byte(s, c);
	}
	/* Only now: a ^C that follows at once must still find its line. */
	sp_sense_judge_due(s);
}

void
sp_sense_tick(struct sp_sense *s, uint64_t at_us)
{
	if (at_us > s->now_us)
		s->now_us = at_us;
	sp_sense_judge_due(s);
	if (s->is_held && s->now_us > s->command.at_us + GRACE_US +
	    2 * s->rtt_us && !sp_sense_goes_on(s))
		sp_sense_flush(s);
}

void
sp_sense_end(struct sp_sense *s, uint64_t at_us)
{
	sp_sense_tick(s, at_us);
	sp_sense_judge(s, s->n);
	sp_sense_flush(s);
}
