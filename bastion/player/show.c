/* SPDX-License-Identifier: Apache-2.0 */
/* The clock and the keys of the interactive replay. */
#include "bastion/player/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEED_MIN 10
#define SPEED_MAX 6400
#define JUMP_US 10000000
#define FRAME_US 33000		/* a picture at most this often */
#define IDLE_US 2000000		/* when none was asked for and `i` is pressed */

struct show {
	struct player *p;
	struct reel reel;
	struct canvas canvas;
	uint64_t at_us;		/* where the clock stands in the recording */
	int64_t clock_us;	/* when it was last moved */
	int64_t drawn_us;
	uint32_t speed;		/* percent */
	uint64_t idle_us;	/* longest silence; 0: as it was */
	bool is_paused, is_moving, changed, quit;
};

/* ----------------------------------------------------------------- keys */

static void
jump(struct show *s, uint64_t at_us)
{
	s->at_us = at_us > s->reel.end_us ? s->reel.end_us : at_us;
	s->changed = s->is_moving = true;
}

static void
one_key(struct show *s, char c)
{
	switch (c) {
	case ' ':
		s->is_paused = !s->is_paused;
		break;
	case '+':
	case '=':
		s->speed = s->speed * 2 > SPEED_MAX ? SPEED_MAX : s->speed * 2;
		break;
	case '-':
	case '_':
		s->speed = s->speed / 2 < SPEED_MIN ? SPEED_MIN : s->speed / 2;
		break;
	case 'i':
		s->idle_us = s->idle_us != 0 ? 0 : s->p->start.idle_us != 0 ?
		    s->p->start.idle_us : IDLE_US;
		break;
	case '\t':
		stage_next_focus(&s->reel.now);
		break;
	case 'C':		/* of an arrow key; see keys() */
		jump(s, s->at_us + JUMP_US);
		break;
	case 'D':
		jump(s, s->at_us < JUMP_US ? 0 : s->at_us - JUMP_US);
		break;
	case 'q':
	case 3:
		s->quit = true;
		break;
	default:
		if (c >= '0' && c <= '9')
			jump(s, s->reel.end_us / 10 * (uint64_t)(c - '0'));
		break;
	}
	s->changed = true;
}

static void
keys(struct show *s)
{
	struct sp_buf *b = &s->p->view.keys;

	while (b->len > 0) {
		struct sp_span k = sp_buf_span(b);

		if (k.p[0] != 0x1b) {
			char c = (char)k.p[0];

			sp_buf_consume(b, 1);
			if (c != 'C' && c != 'D')
				one_key(s, c);
			continue;
		}
		if (k.n < 2 || ((k.p[1] == '[' || k.p[1] == 'O') && k.n < 3))
			return;
		if (k.p[1] != '[' && k.p[1] != 'O') {
			sp_buf_consume(b, 1);
			continue;
		}
		if (k.p[2] == 'C' || k.p[2] == 'D')
			one_key(s, (char)k.p[2]);
		sp_buf_consume(b, 3);
	}
}

/* -------------------------------------------------------------- picture */

static void
clock_text(char *o, size_t cap, uint64_t us)
{
	unsigned long long t = us / 1000000;

	snprintf(o, cap, "%llu:%02llu:%02llu", t / 3600, t / 60 % 60, t % 60);
}

static void
status(const struct show *s, char *o, size_t cap)
{
	const struct sp_rec_report *r = &s->p->report;
	char at[32], end[32], bar[21], chans[48] = "", idle[32] = "";
	uint64_t full = s->reel.end_us == 0 ? 20 :
	    s->at_us * 20 / s->reel.end_us;

	for (unsigned i = 0; i < 20; i++)
		bar[i] = i < full ? '#' : '.';
	bar[20] = '\0';
	clock_text(at, sizeof(at), s->at_us);
	clock_text(end, sizeof(end), s->reel.end_us);
	if (stage_n_channels(&s->reel.now) > 1)
		snprintf(chans, sizeof(chans), " channel %u (Tab)",
		    s->reel.now.focus);
	if (s->idle_us != 0)
		snprintf(idle, sizeof(idle), " idle<%.1fs",
		    (double)s->idle_us / 1e6);
	snprintf(o, cap, " %s %s/%s [%s] %u.%02ux%s%s%s%s%s%s  "
	    "space +- arrows 0-9 i q", s->reel.is_over &&
	    s->at_us >= s->reel.end_us ? "END" : s->is_moving ? "..." :
	    s->is_paused ? "||" : ">", at, end, bar, s->speed / 100,
	    s->speed % 100, idle, chans,
	    verdict_is_good(r->verdict) ? "" : " VERDICT: ",
	    verdict_is_good(r->verdict) ? "" : sp_rec_verdict_name(r->verdict),
	    s->reel.notice[0] == '\0' ? "" : " bastion: ", s->reel.notice);
}

static enum sp_err
draw(struct show *s, int64_t now)
{
	struct viewer *v = &s->p->view;
	struct sp_span bytes;
	char text[1024];

	if (v->is_resized) {
		v->is_resized = false;
		SP_TRY(canvas_size(&s->canvas, v->cols < 2 ? 2 : v->cols,
		    v->rows < 2 ? 2 : v->rows));
	}
	canvas_term(&s->canvas, stage_focused(&s->reel.now));
	status(s, text, sizeof(text));
	canvas_status(&s->canvas, text);
	SP_TRY(canvas_draw(&s->canvas, &bytes));
	s->changed = false;
	s->drawn_us = now;
	return viewer_write(v, 1, bytes);
}

/* ---------------------------------------------------------------- clock */

/* Silence longer than is wanted is passed over. */
static void
skip_idle(struct show *s)
{
	if (s->idle_us == 0 || !s->reel.has_next ||
	    s->reel.next.at_us <= s->reel.now.at_us ||
	    s->reel.next.at_us - s->reel.now.at_us <= s->idle_us)
		return;
	if (s->at_us >= s->reel.now.at_us + s->idle_us &&
	    s->at_us < s->reel.next.at_us)
		s->at_us = s->reel.next.at_us;
}

static void
tick(struct show *s, int64_t now)
{
	uint64_t gone = now > s->clock_us ? (uint64_t)(now - s->clock_us) : 0;

	s->clock_us = now;
	/* While it catches up with a jump the clock stands. */
	if (s->is_paused || s->is_moving || s->at_us >= s->reel.end_us)
		return;
	s->at_us += gone * s->speed / 100;
	skip_idle(s);
	if (s->at_us > s->reel.end_us)
		s->at_us = s->reel.end_us;
}

static int
wait_ms(const struct show *s)
{
	uint64_t left;

	if (s->is_moving)
		return 0;
	if (s->changed)
		return (int)(FRAME_US / 1000);
	if (s->is_paused || s->reel.is_over || !s->reel.has_next)
		return 500;
	left = s->reel.next.at_us > s->at_us ? (s->reel.next.at_us - s->at_us) *
	    100 / s->speed / 1000 : 0;
	if (s->idle_us != 0 && left > s->idle_us / 1000)
		left = s->idle_us * 100 / s->speed / 1000;
	return left > 500 ? 500 : (int)left + 1;
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
		if ((s->changed || s->p->view.is_resized) &&
		    now - s->drawn_us >= FRAME_US && viewer_is_idle(&s->p->view))
			SP_TRY(draw(s, now));
		SP_TRY(viewer_poll(&s->p->view, wait_ms(s)));
		keys(s);
	}
	return SP_OK;
}

enum sp_err
play_show(struct player *p)
{
	struct show *s = calloc(1, sizeof(*s));
	enum sp_err e, over;

	if (s == NULL)
		return SP_ERR_NOMEM;
	s->p = p;
	s->speed = p->start.speed < SPEED_MIN ? 100 : p->start.speed > SPEED_MAX ?
	    SPEED_MAX : p->start.speed;
	s->idle_us = p->start.idle_us;
	p->view.is_raw = p->view.is_resized = true;
	e = reel_open(&s->reel, p->file, &p->keys,
	    (uint64_t)(p->report.last_us - p->report.opened_us));
	if (e == SP_OK) {
		s->clock_us = sp_boot_us();
		jump(s, p->start.at_us);
		e = viewer_text(&p->view, 1, "\033[?1049h\033[?25l");
	}
	if (e == SP_OK)
		e = loop(s);
	over = viewer_text(&p->view, 1, "\033[0m\033[?25h\033[?1049l");
	p->view.is_raw = false;
	if (e == SP_OK)
		e = over;
	canvas_fini(&s->canvas);
	reel_close(&s->reel);
	free(s);
	return e;
}
