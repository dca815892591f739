/* SPDX-License-Identifier: Apache-2.0 */
/* A running session as lines: each once, when it stands there as it will stay, or
 * when nothing has come for a moment. */
#include <stdio.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/watch.h"

#define QUIET_US 400000		/* what stands there now is shown */
#define LATEST_US 2000000	/* ... also if more comes all the time */
#define OUT_MAX (4u << 20)
#define OUT_SEND 32768

struct plain {
	struct watch *w;
	struct lines lines;
	struct sp_buf out, covered;
	uint8_t was_state;
	char was_held[1201];
	bool has_begun;		/* what scrolled away before is not told */
	enum sp_err e;
};

/* A line that was completed, and scrolled by, within one record was on no screen
 * that was covered. */
static enum sp_err
covered(struct plain *k, struct sp_span *text)
{
	uint8_t *at;

	if (!cover_is_on() || text->n == 0)
		return SP_OK;
	sp_buf_reset(&k->covered);
	SP_TRY(sp_buf_reserve(&k->covered, text->n, &at));
	memcpy(at, text->p, text->n);
	cover_text(at, text->n);
	*text = sp_span_of(at, text->n);
	return SP_OK;
}

static enum sp_err
put_line(struct plain *k, uint32_t chan, struct sp_span text)
{
	struct sp_buf *o = &k->out;

	SP_TRY(covered(k, &text));
	if (k->w->p->start.json != 0) {
		SP_TRY(sp_buf_printf(o, "{\"channel\":%u,\"line\":", chan));
		SP_TRY(json_string(o, text));
		return sp_buf_printf(o, "}\n");
	}
	if (stage_n_channels(&k->w->head.now) > 1)
		SP_TRY(sp_buf_printf(o, "[%u] ", chan));
	SP_TRY(sp_buf_put(o, text.p, text.n));
	return sp_buf_put_u8(o, '\n');
}

static enum sp_err
send_out(struct plain *k)
{
	enum sp_err e = viewer_write(&k->w->p->view, 1, sp_buf_span(&k->out));

	sp_buf_reset(&k->out);
	return e;
}

static void
on_line(void *ctx, uint32_t chan, unsigned row, struct sp_span text)
{
	struct plain *k = ctx;

	(void)row;
	if (!k->has_begun || k->e != SP_OK)
		return;
	k->e = put_line(k, chan, text);
	if (k->e == SP_OK && k->out.len > OUT_SEND)
		k->e = send_out(k);
}

static enum sp_err
look(struct plain *k)
{
	const struct stage *s = &k->w->head.now;

	for (size_t i = 0; i < STAGE_MAX; i++)
		if (s->actor[i].chan != 0)
			SP_TRY(lines_look(&k->lines, s->actor[i].chan));
	return k->e;
}

static enum sp_err
put_state(struct plain *k, const char *state, const char *text)
{
	struct sp_buf *o = &k->out;

	if (k->w->p->start.json == 0)
		return sp_buf_printf(o, "-- %s%s%s --\n", state,
		    text[0] != '\0' ? ": " : "", text);
	SP_TRY(sp_buf_printf(o, "{\"state\":\"%s\",\"text\":", state));
	SP_TRY(json_string(o, sp_span_str(text)));
	return sp_buf_printf(o, "}\n");
}

static enum sp_err
states(struct plain *k)
{
	const struct watch *w = k->w;
	uint8_t now = w->state, was = k->was_state;

	k->was_state = now;
	if (((now ^ was) & SP_LIVE_FROZEN) != 0 && (now & SP_LIVE_OVER) == 0)
		SP_TRY(put_state(k, (now & SP_LIVE_FROZEN) != 0 ? "frozen" :
		    "running", ""));
	if ((now & SP_LIVE_HELD) != 0 && strcmp(w->held, k->was_held) != 0)
		SP_TRY(put_state(k, "held", w->held));
	snprintf(k->was_held, sizeof(k->was_held), "%s",
	    (now & SP_LIVE_HELD) != 0 ? w->held : "");
	return SP_OK;
}

/* A line being typed is not shown letter by letter. */
static bool
is_quiet(const struct watch *w, int64_t now)
{
	const struct sp_rec_header *h = sp_rec_decoder_header(w->head.d);
	int64_t last = h->t0_boot_us + (int64_t)w->head.now.at_us;

	return now - last > QUIET_US || now - w->drawn_us > LATEST_US;
}

static bool
wants_to_leave(struct viewer *v)
{
	struct sp_span s = sp_buf_span(&v->keys);
	bool leaves = s.n > 0 && (memchr(s.p, 3, s.n) != NULL ||
	    memchr(s.p, 'q', s.n) != NULL);

	sp_buf_reset(&v->keys);
	return v->has_pty && leaves;
}

static enum sp_err
turn(struct plain *k)
{
	struct watch *w = k->w;
	int64_t now;

	SP_TRY(watch_hear(w));
	SP_TRY(watch_go(w));
	now = sp_boot_us();
	if (w->is_there && w->changed && (!k->has_begun || is_quiet(w, now) ||
	    w->over_us != 0)) {
		k->has_begun = true;
		w->changed = false;
		w->drawn_us = now;
		SP_TRY(look(k));
	}
	SP_TRY(k->e);
	if (k->has_begun)
		SP_TRY(states(k));
	SP_TRY(send_out(k));
	SP_TRY(viewer_poll(&w->p->view, watch_wait_ms(w)));
	w->quit = wants_to_leave(&w->p->view);
	return SP_OK;
}

enum sp_err
watch_plain(struct watch *w)
{
	struct plain k = {.w = w};
	enum sp_err e = SP_OK;

	sp_buf_init(&k.out, OUT_MAX);
	sp_buf_init(&k.covered, OUT_MAX);
	lines_init(&k.lines, &w->head.now, on_line, &k);
	w->head.now.line = lines_scrolled;
	w->head.now.ctx = &k.lines;
	while (e == SP_OK && !w->quit && !watch_is_over(w))
		e = turn(&k);
	if (e == SP_OK && w->over_us != 0) {
		e = put_state(&k, "over", w->why != NULL ? w->why : w->say);
		if (e == SP_OK)
			e = send_out(&k);
	}
	lines_fini(&k.lines);
	sp_buf_fini(&k.out);
	sp_buf_fini(&k.covered);
	return e;
}
