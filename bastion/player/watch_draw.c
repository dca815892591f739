/* SPDX-License-Identifier: Apache-2.0 */
/* The watcher's picture: the user's screen, what waits, how the session stands. */
#include <stdio.h>
#include <string.h>

#include "bastion/player/watch.h"

#define LINE_MAX_BYTES 1600

static const char *const help[][2] = {
	{"f", "freeze: nothing passes either way"},
	{"r", "resume"},
	{"k, then y", "kill the session"},
	{"n", "a note onto the user's terminal"},
	{"Enter", "release what waits"},
	{"x", "refuse what waits"},
	{"c, Tab", "the next channel"},
	{".", "back to the live channel and the cursor"},
	{"arrows", "move over a screen larger than this one"},
	{"q", "leave: the session goes on"},
};

static void
help_page(struct watch *w, unsigned rows)
{
	char line[160];

	for (unsigned y = 0; y < rows; y++)
		canvas_text(&w->canvas, y, 0, "", 0);
	if (rows > 0)
		canvas_text(&w->canvas, 0, 0,
		    " Watching: what the keys do (any key goes back)",
		    SP_ATTR_BOLD);
	for (size_t i = 0; i < sizeof(help) / sizeof(help[0]) && i + 2 < rows;
	    i++) {
		snprintf(line, sizeof(line), "  %-12s %s", help[i][0],
		    help[i][1]);
		canvas_text(&w->canvas, (unsigned)i + 2, 0, line, 0);
	}
}

/* 59s, 12m, 3h05m */
static void
span_text(char o[static 24], int64_t us)
{
	long long s = us < 0 ? 0 : us / 1000000;

	if (s < 60)
		snprintf(o, 24, "%llds", s);
	else if (s < 3600)
		snprintf(o, 24, "%lldm", s / 60);
	else
		snprintf(o, 24, "%lldh%02lldm", s / 3600 % 10000, s / 60 % 60);
}

static const char *
state_name(const struct watch *w)
{
	return (w->state & SP_LIVE_OVER) != 0 ? "OVER" :
	    (w->state & SP_LIVE_FROZEN) != 0 ? "FROZEN" :
	    (w->state & SP_LIVE_HELD) != 0 ? "HELD" : "LIVE";
}

static void
right_text(const struct watch *w, char *o, size_t cap, unsigned shown)
{
	const struct stage *now = &w->head.now;
	const struct sp_term *t = stage_shown(now, w->pin);
	unsigned cols = w->canvas.cols, n = stage_n_channels(now);
	char part[64] = "", chan[48] = "", left[48] = "", span[24];

	/* A row or two under these lines is no news. */
	if (t != NULL && (w->is_panned ? sp_term_rows(t) > shown :
	    sp_term_rows(t) > w->canvas.rows || sp_term_cols(t) > cols))
		snprintf(part, sizeof(part), " at %u,%u of %ux%u", w->vx + 1,
		    w->vy + 1, sp_term_cols(t), sp_term_rows(t));
	if (n > 1)
		snprintf(chan, sizeof(chan), " ch %u (%u)%s", w->pin != 0 ?
		    w->pin : now->focus, n, w->pin != 0 ? "" : " live");
	if (w->ends_us != 0) {
		span_text(span, w->ends_us - sp_now_us());
		snprintf(left, sizeof(left), " ends in %s", span);
	}
	snprintf(o, cap, "%s%s%s ?=help ", part, chan, left);
}

static void
status(struct watch *w, unsigned y, unsigned shown, int64_t now)
{
	char left[400], right[240], since[24], lag[40] = "";
	char line[LINE_MAX_BYTES];
	unsigned cols = w->canvas.cols, n_right, n_left;

	span_text(since, w->since_us == 0 ? 0 : sp_now_us() - w->since_us);
	if (!w->is_there && w->there_us != 0 && now - w->there_us > 1000000)
		snprintf(lag, sizeof(lag), " behind %llds",
		    (long long)(now - w->there_us) / 1000000);
	snprintf(left, sizeof(left), " %s %s for %s%s%s", state_name(w), w->who,
	    since, w->there_us == 0 ? " (reading)" : "", lag);
	right_text(w, right, sizeof(right), shown);
	n_right = (unsigned)strlen(right);
	n_left = (unsigned)strlen(left);
	if (n_left + n_right > cols)
		snprintf(line, sizeof(line), "%s%.*s", left, n_left + 3 < cols ?
		    3 : 0, " ? ");
	else
		snprintf(line, sizeof(line), "%s%*s%s", left,
		    (int)(cols - n_left - n_right), "", right);
	canvas_text(&w->canvas, y, 0, line, SP_ATTR_INVERSE);
}

/* The row above the status: what wants an answer comes first. */
static bool
spoken(struct watch *w, char *o, size_t cap, int64_t now)
{
	if ((w->state & SP_LIVE_ASKS) != 0)
		snprintf(o, cap, " %s_", w->say);
	else if (w->say[0] != '\0')
		snprintf(o, cap, " %s", w->say);
	else if ((w->state & SP_LIVE_HELD) != 0)
		snprintf(o, cap, " %s", w->held);
	else if (now < w->notice_until_us)
		snprintf(o, cap, " %s", w->notice);
	else
		return false;
	return true;
}

static void
screen(struct watch *w, unsigned shown)
{
	const struct sp_term *t = stage_shown(&w->head.now, w->pin);
	bool is_visible;
	unsigned x = 0, y = 0;

	if (t != NULL) {
		sp_term_cursor(t, &x, &y, &is_visible);
		w->vx = canvas_follow(w->vx, w->canvas.cols, sp_term_cols(t), x,
		    w->is_panned);
		w->vy = canvas_follow(w->vy, shown, sp_term_rows(t), y,
		    w->is_panned);
	}
	canvas_term(&w->canvas, t, w->vx, w->vy, shown);
	if (t == NULL && shown > 0)
		canvas_text(&w->canvas, 0, 0, w->is_there ?
		    " nothing on a screen yet" : " reading up to now", 0);
}

enum sp_err
watch_draw(struct watch *w, int64_t now)
{
	struct viewer *v = &w->p->view;
	char text[LINE_MAX_BYTES];
	struct sp_span bytes;
	unsigned rows, shown;
	bool has_text;

	if (v->is_resized) {
		v->is_resized = false;
		SP_TRY(canvas_size(&w->canvas, v->cols < 2 ? 2 : v->cols,
		    v->rows < 2 ? 2 : v->rows));
	}
	rows = w->canvas.rows;
	has_text = spoken(w, text, sizeof(text), now) && rows > 2;
	shown = rows - (has_text ? 2 : 1);
	screen(w, shown);
	if (w->is_help)
		help_page(w, shown);
	if (has_text)
		canvas_text(&w->canvas, rows - 2, 0, text,
		    SP_ATTR_INVERSE | SP_ATTR_BOLD);
	status(w, rows - 1, shown, now);
	SP_TRY(canvas_draw(&w->canvas, &bytes));
	w->changed = false;
	w->drawn_us = now;
	return viewer_write(v, 1, bytes);
}
