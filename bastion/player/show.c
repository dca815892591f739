/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of the interactive replay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/ui.h"

#define FRAME_US 33000		/* a picture at most this often */
#define WORK_US 15000		/* between two looks at the keys */
#define JUDGE_BYTES (2u << 20)	/* likewise */

void
ui_jump(struct show *s, uint64_t at_us)
{
	s->at_us = at_us > s->reel.end_us ? s->reel.end_us : at_us;
	s->changed = s->is_moving = true;
}

static void
new_match(struct show *s)
{
	struct find *f = &s->find;

	if (f->has_match)
		match_fini(&f->match);
	f->has_match = match_init(&f->match, sp_span_of(s->typed, s->n_typed),
	    false, NULL) == SP_OK;
	s->n_typed = 0;
}

void
ui_find(struct show *s, bool is_back)
{
	struct find *f = &s->find;

	if (s->n_typed > 0)
		new_match(s);
	if (!f->has_match) {
		ui_say(s, "nothing to search for yet: / asks");
		return;
	}
	if (find_begin(f, &s->reel, s->at_us, is_back) != SP_OK)
		f->is_busy = false;
	s->changed = true;
}

static void
found(struct show *s)
{
	const struct find *f = &s->find;
	char at[32];

	if (!f->found) {
		ui_say(s, "not found in this recording");
		return;
	}
	s->is_paused = true;
	if (s->pin != 0 || s->reel.head.now.focus != f->chan)
		s->pin = f->chan;
	ui_jump(s, f->at_us);
	ui_clock(at, f->at_us);
	ui_say(s, "found at %s%s (n next, N previous)", at, !f->is_wrapped ? "" :
	    f->is_back ? ", from the end again" : ", from the beginning again");
}

/* ---------------------------------------------------------------- clock */

/* Silence longer than is wanted is passed over. */
static void
skip_idle(struct show *s)
{
	const struct head *h = &s->reel.head;

	if (s->idle_us == 0 || !h->has_next || h->next.at_us <= h->now.at_us ||
	    h->next.at_us - h->now.at_us <= s->idle_us)
		return;
	if (s->at_us >= h->now.at_us + s->idle_us && s->at_us < h->next.at_us)
		s->at_us = h->next.at_us;
}

static void
tick(struct show *s, int64_t now)
{
	uint64_t gone = now > s->clock_us ? (uint64_t)(now - s->clock_us) : 0;

	s->clock_us = now;
	/* While it catches up with a jump the clock stands. */
	if (s->is_paused || s->is_moving || s->at_us >= s->reel.end_us ||
	    s->mode != MODE_PLAY)
		return;
	s->at_us += gone * s->speed / 100;
	skip_idle(s);
	if (s->at_us > s->reel.end_us)
		s->at_us = s->reel.end_us;
}

static int
wait_ms(const struct show *s)
{
	const struct head *h = &s->reel.head;
	uint64_t left;

	if (s->is_moving || s->find.is_busy || !s->reel.index.is_done ||
	    s->p->judge != NULL)
		return 0;
	if (s->changed || s->key_us != 0)
		return (int)(FRAME_US / 1000);
	if (s->is_paused || h->is_over || !h->has_next || s->mode != MODE_PLAY)
		return 500;
	left = h->next.at_us > s->at_us ? (h->next.at_us - s->at_us) *
	    100 / s->speed / 1000 : 0;
	if (s->idle_us != 0 && left > s->idle_us / 1000)
		left = s->idle_us * 100 / s->speed / 1000;
	return left > 500 ? 500 : (int)left + 1;
}

static void
judge(struct show *s)
{
	struct player *p = s->p;

	if (p->judge == NULL)
		return;
	player_judge(p, JUDGE_BYTES);
	if (p->judge != NULL)
		return;
	s->changed = true;
	if (!verdict_is_good(p->report.verdict))
		ui_say(s, "VERDICT on this recording: %s: %s",
		    sp_rec_verdict_name(p->report.verdict), p->report.text);
}

static enum sp_err
go_through(struct show *s)
{
	struct index *x = &s->reel.index;
	uint64_t before = x->n_false;
	char at[32];

	SP_TRY(index_work(x, WORK_US));
	if (x->n_false == before)
		return SP_OK;
	ui_clock(at, proof_result(x->proof)->which[0].at_us);
	ui_say(s, "FALSE SCREEN: what the scribe left for %s is not what was sent; "
	    "m lists them", at);
	return SP_OK;
}

/* What there is to do besides playing; the viewer's keys come first. */
static enum sp_err
work(struct show *s)
{
	if (s->find.is_busy) {
		SP_TRY(find_work(&s->find, &s->reel, WORK_US));
		if (!s->find.is_busy)
			found(s);
		return SP_OK;
	}
	if (s->is_moving)
		return SP_OK;
	judge(s);
	return go_through(s);
}

static enum sp_err
loop(struct show *s)
{
	while (!s->quit) {
		int64_t now = sp_boot_us();
		bool is_there = false;

		tick(s, now);
		/* The last chunk's records are a little later than the chunk. */
		SP_TRY(reel_go(&s->reel, s->at_us >= s->reel.end_us ? UINT64_MAX :
		    s->at_us, &s->changed, &is_there));
		s->is_moving = !is_there;
		/* The clock is on the picture, too. */
		if (now - s->drawn_us > 500000)
			s->changed = true;
		if ((s->changed || s->p->view.is_resized) && !(s->is_moving &&
		    now - s->drawn_us < 500000) &&
		    now - s->drawn_us >= FRAME_US && viewer_is_idle(&s->p->view))
			SP_TRY(ui_draw(s, now));
		SP_TRY(work(s));
		SP_TRY(viewer_poll(&s->p->view, wait_ms(s)));
		ui_keys(s);
	}
	return SP_OK;
}

static enum sp_err
begin(struct show *s)
{
	struct player *p = s->p;

	s->speed = p->start.speed < SPEED_MIN ? 100 : p->start.speed > SPEED_MAX ?
	    SPEED_MAX : p->start.speed;
	s->idle_us = p->start.idle_us;
	p->view.is_raw = p->view.is_resized = true;
	SP_TRY(reel_open(&s->reel, p->file, &p->keys,
	    (uint64_t)(p->report.last_us - p->report.opened_us),
	    p->judge != NULL && !cover_is_on()));
	/* What is covered is not what was sent. */
	if (!cover_is_on())
		SP_TRY(index_prove(&s->reel.index));
	SP_TRY(find_open(&s->find, p->file, &p->keys));
	s->clock_us = sp_boot_us();
	ui_jump(s, p->start.at_us);
	return viewer_text(&p->view, 1, "\033[?1049h\033[?25l");
}

/* Of one that was judged while it was shown. */
static enum sp_err
say_verdict(struct player *p)
{
	char text[512];

	if (p->judge == NULL && verdict_is_good(p->report.verdict))
		return SP_OK;
	if (p->judge != NULL)
		snprintf(text, sizeof(text), "You left before all of it was "
		    "verified: `verify` says what it is.\n");
	else
		snprintf(text, sizeof(text), "verdict on this recording: %s: %s\n",
		    sp_rec_verdict_name(p->report.verdict), p->report.text);
	return viewer_text(&p->view, 2, text);
}

enum sp_err
play_show(struct player *p)
{
	struct show *s = calloc(1, sizeof(*s));
	bool is_large = p->judge != NULL;
	enum sp_err e, over;

	if (s == NULL)
		return SP_ERR_NOMEM;
	s->p = p;
	e = begin(s);
	if (e == SP_OK)
		e = loop(s);
	over = viewer_text(&p->view, 1, "\033[0m\033[?25h\033[?1049l");
	p->view.is_raw = false;
	if (is_large && e == SP_OK && over == SP_OK)
		over = say_verdict(p);
	if (e == SP_OK)
		e = over;
	if (s->reel.index.proof != NULL)
		p->screens = *proof_result(s->reel.index.proof);
	canvas_fini(&s->canvas);
	find_close(&s->find);
	reel_close(&s->reel);
	free(s);
	return e;
}
