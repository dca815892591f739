/* SPDX-License-Identifier: Apache-2.0 */
/* The picture: a part of the recorded screen, the bar, a page over it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bastion/player/ui.h"

#define SAY_US 6000000
#define BAR_MAX 200u

void
ui_say(struct show *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->message, sizeof(s->message), fmt, ap);
	va_end(ap);
	s->message_until_us = sp_boot_us() + SAY_US;
	s->changed = true;
}

void
ui_clock(char o[static 32], uint64_t us)
{
	unsigned long long t = us / 1000000;

	snprintf(o, 32, "%llu:%02llu:%02llu", t / 3600, t / 60 % 60, t % 60);
}

/* --------------------------------------------------------------- the bar */

static int
weight(char kind)
{
	static const char order[] = "bsrfcaz!";
	const char *at = strchr(order, kind);

	return at == NULL ? 0 : (int)(at - order) + 1;
}

static void
bar(const struct show *s, char *o, unsigned width)
{
	const struct marks *k = &s->reel.index.marks;
	uint64_t end = s->reel.end_us == 0 ? 1 : s->reel.end_us;
	uint64_t known = s->reel.index.is_done ? end :
	    s->reel.index.head.now.at_us;
	unsigned here = (unsigned)(s->at_us * (width - 1) / end);

	for (unsigned i = 0; i < width; i++)
		o[i] = i < here ? '=' : (uint64_t)i * end / width <= known ? '-' :
		    ' ';
	o[width] = '\0';
	for (size_t i = 0; i < k->n; i++) {
		uint64_t at = k->m[i].at_us * (width - 1) / end;

		at = at < width ? at : width - 1;
		if (weight(k->m[i].kind) > weight(o[at]))
			o[at] = k->m[i].kind;
	}
	if (here < width)
		o[here] = '>';
}

static const char *
state_name(const struct show *s)
{
	return s->is_moving ? "..." : s->at_us >= s->reel.end_us ? "END" :
	    s->is_paused ? "||" : ">";
}

/* What is known of the recording by now: nothing to say where all of it is good. */
static void
trust_text(const struct show *s, char *o, size_t cap)
{
	const struct player *p = s->p;
	uint64_t all = p->judged.file_bytes;
	const struct actor *a = stage_actor(&s->reel.head.now, s->pin);

	o[0] = '\0';
	if (p->judge != NULL)
		snprintf(o, cap, " verified %u%%", all == 0 ? 0 :
		    (unsigned)(p->judged.good_bytes * 100 / all));
	else if (!verdict_is_good(p->report.verdict))
		snprintf(o, cap, " VERDICT: %s",
		    sp_rec_verdict_name(p->report.verdict));
	if (s->reel.is_framed && a != NULL && a->is_unsure &&
	    strlen(o) + 10 < cap)
		snprintf(o + strlen(o), cap - strlen(o), " unsure");
}

static void
left_text(const struct show *s, char *o, size_t cap)
{
	char at[32], end[32], speed[24], idle[24] = "", trust[80];

	ui_clock(at, s->at_us);
	ui_clock(end, s->reel.end_us);
	snprintf(speed, sizeof(speed), s->speed % 100 == 0 ? "%u" : "%u.%02u",
	    s->speed / 100, s->speed % 100);
	if (s->idle_us != 0)
		snprintf(idle, sizeof(idle), " idle<%.1fs",
		    (double)s->idle_us / 1e6);
	trust_text(s, trust, sizeof(trust));
	snprintf(o, cap, " %s %s/%s %sx%s%s ", state_name(s), at, end, speed,
	    idle, trust);
}

/* What part of a larger screen is seen, and of which channel. */
static void
right_text(const struct show *s, char *o, size_t cap, unsigned shown,
    bool is_short)
{
	const struct stage *now = &s->reel.head.now;
	const struct sp_term *t = stage_shown(now, s->pin);
	char rows[48] = "", cols[48] = "", chan[32] = "";
	unsigned w = s->canvas.cols;

	if (t != NULL && sp_term_rows(t) > shown)
		snprintf(rows, sizeof(rows), is_short ? " r%u-%u/%u" :
		    " rows %u-%u/%u", s->vy + 1,
		    s->vy + shown, sp_term_rows(t));
	if (t != NULL && sp_term_cols(t) > w)
		snprintf(cols, sizeof(cols), is_short ? " c%u-%u/%u" :
		    " cols %u-%u/%u", s->vx + 1,
		    s->vx + w, sp_term_cols(t));
	if (stage_n_channels(now) > 1)
		snprintf(chan, sizeof(chan), " ch %u of %u",
		    s->pin != 0 ? s->pin : now->focus, stage_n_channels(now));
	snprintf(o, cap, "%s%s%s%s", chan, rows, cols, is_short ? " ?" :
	    " ?=help ");
}

static const char *
spoken(const struct show *s, int64_t now, char *o, size_t cap)
{
	char at[32];

	if (s->find.is_busy) {
		ui_clock(at, s->find.at_us);
		snprintf(o, cap, "searching, at %s (any key stops)", at);
		return o;
	}
	if (now < s->message_until_us)
		return s->message;
	if (s->reel.notice[0] != '\0' &&
	    stage_shown(&s->reel.head.now, s->pin) == NULL)
		return s->reel.notice;
	return NULL;
}

static void
status(struct show *s, unsigned y, unsigned shown, int64_t now)
{
	char left[160], right[160], track[BAR_MAX + 1], say[MESSAGE_MAX];
	char line[1400];
	const char *text = spoken(s, now, say, sizeof(say));
	unsigned w = s->canvas.cols, used;

	if (s->mode == MODE_FIND || s->mode == MODE_TIME) {
		sp_vis(say, sizeof(say), sp_span_of(s->typed, s->n_typed));
		snprintf(line, sizeof(line), "%s%s_", s->mode == MODE_FIND ?
		    " /" : " go to: ", say);
		canvas_text(&s->canvas, y, 0, line, SP_ATTR_INVERSE);
		return;
	}
	left_text(s, left, sizeof(left));
	right_text(s, right, sizeof(right), shown, false);
	if (strlen(left) + strlen(right) > w) {
		right_text(s, right, sizeof(right), shown, true);
		left[strcspn(left, "/")] = '\0';
	}
	used = (unsigned)(strlen(left) + strlen(right)) + 2;
	track[0] = '\0';
	if (text == NULL && used + 8 <= w)
		bar(s, track, w - used < BAR_MAX ? w - used : BAR_MAX);
	if (text != NULL)
		snprintf(line, sizeof(line), "%s %s", left, text);
	else
		snprintf(line, sizeof(line), "%s%s%s%s%s", left,
		    track[0] != '\0' ? "[" : "", track,
		    track[0] != '\0' ? "]" : "", right);
	canvas_text(&s->canvas, y, 0, line, SP_ATTR_INVERSE);
}

/* ----------------------------------------------------------------- pages */

static void
page_head(struct show *s, const char *text)
{
	for (unsigned y = 0; y + 1 < s->canvas.rows; y++)
		canvas_text(&s->canvas, y, 0, "", 0);
	canvas_text(&s->canvas, 0, 0, text, SP_ATTR_BOLD);
}

static void
help_page(struct show *s)
{
	const char *what = NULL, *key;
	char line[160];
	unsigned y = 1;

	page_head(s, " Replay: what the keys do (any key goes back)");
	for (size_t i = 0; (key = ui_help(i, &what)) != NULL &&
	    y + 2 < s->canvas.rows; i++) {
		snprintf(line, sizeof(line), "  %-14s %s", key, what);
		canvas_text(&s->canvas, y++, 0, line, 0);
	}
	if (y + 1 < s->canvas.rows)
		canvas_text(&s->canvas, y, 0, " On the bar: c command, f file,"
		    " r resize, a approval, z freeze, s secret, b bastion, ! false", 0);
}

static void
channels_page(struct show *s)
{
	const struct stage *now = &s->reel.head.now;
	char line[200];
	unsigned y = 1;
	size_t at = 0;

	page_head(s, " Channels up to this moment (up, down, Enter)");
	for (size_t i = 0; i < STAGE_MAX; i++) {
		const struct actor *a = &now->actor[i];

		if (a->chan == 0 || y + 1 >= s->canvas.rows)
			continue;
		snprintf(line, sizeof(line), " %s %-5u %ux%u %s  %s",
		    at == s->pick ? ">" : " ", a->chan, sp_term_cols(a->term),
		    sp_term_rows(a->term), a->is_open ? "open  " : "closed",
		    a->what);
		canvas_text(&s->canvas, y++, 0, line,
		    at++ == s->pick ? SP_ATTR_INVERSE : 0);
	}
	if (y == 1)
		canvas_text(&s->canvas, 1, 0, "   none yet", 0);
}

static const char *
kind_name(char kind)
{
	switch (kind) {
	case MARK_COMMAND:
		return "command";
	case MARK_FILE:
		return "file";
	case MARK_RESIZE:
		return "resize";
	case MARK_APPROVAL:
		return "approval";
	case MARK_FREEZE:
		return "freeze";
	case MARK_SECRET:
		return "secret";
	case MARK_FALSE:
		return "FALSE";
	default:
		return "bastion";
	}
}

static void
events_page(struct show *s)
{
	const struct marks *k = &s->reel.index.marks;
	size_t room = s->canvas.rows > 3 ? s->canvas.rows - 3 : 1;
	size_t top = s->pick < room / 2 ? 0 : s->pick - room / 2;
	char line[400], at[32];

	page_head(s, s->reel.index.is_done ?
	    " What happened (up, down, Enter goes there)" :
	    " What happened so far: the recording is still being read");
	for (size_t i = top; i < k->n && i - top < room; i++) {
		const struct mark *m = &k->m[i];

		ui_clock(at, m->at_us);
		snprintf(line, sizeof(line), " %s %9s  %-8s %s",
		    i == s->pick ? ">" : " ", at, kind_name(m->kind),
		    marks_text(k, m));
		canvas_text(&s->canvas, (unsigned)(i - top) + 1, 0, line,
		    i == s->pick ? SP_ATTR_INVERSE : 0);
	}
	if (k->n == 0)
		canvas_text(&s->canvas, 1, 0, "   nothing yet", 0);
}

/* --------------------------------------------------------------- picture */

static void
screen(struct show *s, unsigned shown)
{
	const struct sp_term *t = stage_shown(&s->reel.head.now, s->pin);
	bool is_visible;
	unsigned x = 0, y = 0;

	if (t != NULL) {
		sp_term_cursor(t, &x, &y, &is_visible);
		s->vx = canvas_follow(s->vx, s->canvas.cols, sp_term_cols(t), x,
		    s->is_panned);
		s->vy = canvas_follow(s->vy, shown, sp_term_rows(t), y, s->is_panned);
	}
	canvas_term(&s->canvas, t, s->vx, s->vy, shown);
	if (s->find.has_match)
		canvas_mark(&s->canvas, &s->find.match, shown);
}

enum sp_err
ui_draw(struct show *s, int64_t now)
{
	struct viewer *v = &s->p->view;
	struct sp_span bytes;
	unsigned shown;
	bool has_bar;

	if (v->is_resized) {
		v->is_resized = false;
		SP_TRY(canvas_size(&s->canvas, v->cols < 2 ? 2 : v->cols,
		    v->rows < 2 ? 2 : v->rows));
	}
	has_bar = !s->no_bar || s->mode != MODE_PLAY || s->find.is_busy ||
	    now < s->message_until_us;
	shown = s->canvas.rows - (has_bar ? 1 : 0);
	screen(s, shown);
	if (s->mode == MODE_HELP)
		help_page(s);
	else if (s->mode == MODE_CHANNELS)
		channels_page(s);
	else if (s->mode == MODE_EVENTS)
		events_page(s);
	if (has_bar)
		status(s, s->canvas.rows - 1, shown, now);
	SP_TRY(canvas_draw(&s->canvas, &bytes));
	s->changed = false;
	s->drawn_us = now;
	return viewer_write(v, 1, bytes);
}
