/* SPDX-License-Identifier: Apache-2.0 */
/* A running session: the recording is read as it grows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/player/watch.h"

#define FRAME_US 33000		/* a picture at most this often */
#define SLICE_BYTES (1u << 20)
#define SLICE_RECORDS 20000
#define WAITING_MAX (32u << 10)	/* of drawings on their way */
#define LOOK_MS 25		/* for what is new, while something happens */
#define QUIET_MS 100		/* ... and when nothing does */
#define QUIET_US 2000000
#define SLOW_US 2000000		/* the watcher's terminal took nothing so long */
#define NOTICE_US 8000000
#define STUCK_US 500000		/* the file grew, and nothing came of it */
#define LAST_US 300000		/* for the last chunk, once it is over */

/* ------------------------------------------------------------- what is told */

static enum sp_err
take_live(struct watch *w, struct sp_span body)
{
	struct sp_msg_play_live m;

	SP_TRY(sp_dec_play_live(body, &m));
	SP_TRY(sp_span_cstr(m.who, w->who, sizeof(w->who)));
	SP_TRY(sp_span_cstr(m.held, w->held, sizeof(w->held)));
	SP_TRY(sp_span_cstr(m.say, w->say, sizeof(w->say)));
	w->state = m.state;
	w->since_us = m.since_us;
	w->ends_us = m.ends_us;
	if ((m.state & SP_LIVE_OVER) != 0 && w->over_us == 0)
		w->over_us = sp_boot_us();
	w->changed = true;
	return SP_OK;
}

enum sp_err
watch_hear(struct watch *w)
{
	struct sp_packet k;
	enum sp_err e;

	while ((e = sp_link_recv(&w->p->broker, &k)) == SP_OK) {
		sp_packet_close_fds(&k);
		if (k.type != SP_MSG_play_live)
			return SP_ERR_PROTO;
		SP_TRY(take_live(w, k.body));
	}
	if (e != SP_ERR_AGAIN && w->over_us == 0) {
		w->over_us = sp_boot_us();
		w->state |= SP_LIVE_OVER;
		w->why = "the bastion's broker went away";
	}
	return SP_OK;
}

static void
take_notice(struct watch *w)
{
	const struct sp_rec_record *n = &w->head.next;

	if (n->lane != SP_LANE_META || n->kind != SP_RECORD_NOTICE ||
	    w->there_us == 0)
		return;
	sp_vis(w->notice, sizeof(w->notice), n->data);
	w->notice_until_us = sp_boot_us() + NOTICE_US;
	w->changed = true;
}

/* ------------------------------------------------------ the file as it grows */

static void
keep_place(struct watch *w)
{
	struct sp_rec_place p;

	sp_rec_decoder_tell(w->head.d, &p);
	if (w->n_places > 0 && p.off == w->place[0].off)
		return;
	w->place[1] = w->place[0];
	w->place[0] = p;
	w->n_places += w->n_places < 2;
}

/* A recorder may put what it wrote in small pieces into another form while the
 * session runs: it says the same, at the same times, at another place. */
static enum sp_err
begin_again(struct watch *w)
{
	struct head *h = &w->head;

	w->skip_us = h->now.at_us;
	w->has_skipped = false;
	h->has_next = h->is_over = false;
	if (w->tries++ < w->n_places) {
		sp_rec_decoder_go(h->d, &w->place[w->tries - 1]);
		return SP_OK;
	}
	sp_rec_decoder_free(h->d);
	h->d = NULL;
	return sp_rec_decoder_new(w->p->file, &w->p->keys, &h->d);
}

/* At the end of what can be read. *again: it was not the end. */
static enum sp_err
at_end(struct watch *w, bool *again)
{
	int64_t now = sp_boot_us();
	uint64_t size = w->size;
	off_t end = lseek(w->p->file, 0, SEEK_END);
	bool is_odd;

	if (end >= 0)
		size = (uint64_t)end;
	/* Packed: the reader finds its way back by itself. */
	if (size < w->size)
		w->size_read = size;
	is_odd = w->head.why != SP_ERR_EOF || (!w->has_skipped &&
	    size != w->size_read && now - w->moved_us > STUCK_US);
	w->size = size;
	*again = is_odd && w->there_us != 0 && w->tries <= w->n_places;
	if (*again)
		return begin_again(w);
	w->size_read = size;
	w->tries = 0;
	w->has_skipped = false;
	w->is_there = true;
	w->there_us = now;
	return w->head.why == SP_ERR_EOF ? SP_OK : w->head.why;
}

static enum sp_err
feed(struct watch *w)
{
	struct head *h = &w->head;

	h->has_next = false;
	if (w->skip_us != 0 && h->next.at_us <= w->skip_us) {
		w->has_skipped = true;
		return SP_OK;
	}
	w->skip_us = 0;
	w->tries = 0;
	w->moved_us = sp_boot_us();
	take_notice(w);
	SP_TRY(stage_feed(&h->now, &h->next, &w->changed));
	keep_place(w);
	return SP_OK;
}

enum sp_err
watch_go(struct watch *w)
{
	struct head *h = &w->head;
	uint64_t until = h->now.fed + SLICE_BYTES;
	bool again = true;

	w->is_there = false;
	for (int i = 0; i < SLICE_RECORDS && h->now.fed < until; i++) {
		/* The end of the file is where the next chunk will stand. */
		if (h->is_over && h->why == SP_ERR_EOF)
			h->is_over = false;
		SP_TRY(head_fetch(h));
		if (h->has_next) {
			SP_TRY(feed(w));
			continue;
		}
		SP_TRY(at_end(w, &again));
		if (!again)
			return SP_OK;
	}
	return SP_OK;
}

bool
watch_is_over(const struct watch *w)
{
	return w->over_us != 0 && w->is_there &&
	    sp_boot_us() - w->over_us > LAST_US;
}

int
watch_wait_ms(const struct watch *w)
{
	if (!w->is_there)
		return 0;
	return sp_boot_us() - w->drawn_us > QUIET_US ? QUIET_MS : LOOK_MS;
}

/* ------------------------------------------------------------------- keys */

static void
next_channel(struct watch *w)
{
	const struct stage *s = &w->head.now;
	uint32_t now = w->pin != 0 ? w->pin : s->focus, first = 0, next = 0;

	for (size_t i = 0; i < STAGE_MAX; i++) {
		uint32_t c = s->actor[i].chan;

		if (c != 0 && (first == 0 || c < first))
			first = c;
		if (c > now && (next == 0 || c < next))
			next = c;
	}
	w->pin = next != 0 ? next : first;
	w->is_panned = false;
	w->vx = w->vy = 0;
}

static void
pan(struct watch *w, uint8_t final)
{
	unsigned dx = w->canvas.cols / 4 + 1, dy = w->canvas.rows / 4 + 1;

	if (final < 'A' || final > 'D')
		return;
	w->is_panned = true;
	if (final == 'A')
		w->vy = w->vy > dy ? w->vy - dy : 0;
	else if (final == 'B')
		w->vy += dy;
	else if (final == 'C')
		w->vx += dx;
	else
		w->vx = w->vx > dx ? w->vx - dx : 0;
}

static void
key(struct watch *w, uint8_t c)
{
	w->changed = true;
	if (w->esc != 0) {
		bool goes_on = w->esc == 1 ? c == '[' || c == 'O' :
		    c >= 0x20 && c < 0x40;

		if (w->esc == 2 && !goes_on)
			pan(w, c);
		w->esc = goes_on ? 2 : 0;
		return;
	}
	if (c == 0x1b) {
		w->esc = 1;
	} else if (w->is_help) {
		w->is_help = false;
	} else if (c == 'q' || c == 3 || c == 4) {
		w->quit = true;
	} else if (c == '?' || c == 'h') {
		w->is_help = true;
	} else if (c == 'c' || c == '\t') {
		next_channel(w);
	} else if (c == '.') {
		w->pin = 0;
		w->is_panned = false;
	} else if (c == 0x0c) {
		w->canvas.is_known = false;
	}
}

static void
keys(struct watch *w)
{
	struct sp_span s = sp_buf_span(&w->p->view.keys);

	for (size_t i = 0; i < s.n; i++)
		key(w, s.p[i]);
	sp_buf_reset(&w->p->view.keys);
}

/* ------------------------------------------------------------------- loop */

/* The picture is made of what is there when the terminal takes it: what passed
 * meanwhile is not drawn, and that is said. */
static bool
is_idle(const struct viewer *v)
{
	return sp_stream_pending(&v->s) == 0 &&
	    v->credit + WAITING_MAX >= SP_STREAM_WINDOW;
}

static void
look_at_viewer(struct watch *w, int64_t now)
{
	if (is_idle(&w->p->view)) {
		if (w->slow_from_us != 0 && now - w->slow_from_us > SLOW_US) {
			snprintf(w->notice, sizeof(w->notice), "your terminal was "
			    "slow: %lld s were not drawn",
			    (long long)(now - w->slow_from_us) / 1000000);
			w->notice_until_us = now + NOTICE_US;
			w->changed = true;
		}
		w->slow_from_us = 0;
	} else if (w->slow_from_us == 0) {
		w->slow_from_us = now;
	}
}

static bool
is_due(const struct watch *w, int64_t now)
{
	if (!is_idle(&w->p->view) || now - w->drawn_us < FRAME_US)
		return false;
	if (!w->is_there && now - w->drawn_us < 500000)
		return false;
	return w->changed || w->p->view.is_resized ||
	    now - w->drawn_us > 1000000;
}

static enum sp_err
loop(struct watch *w)
{
	while (!w->quit && !watch_is_over(w)) {
		int64_t now;

		SP_TRY(watch_hear(w));
		SP_TRY(watch_go(w));
		now = sp_boot_us();
		look_at_viewer(w, now);
		if (is_due(w, now))
			SP_TRY(watch_draw(w, now));
		SP_TRY(viewer_poll(&w->p->view, watch_wait_ms(w)));
		keys(w);
	}
	return SP_OK;
}

static enum sp_err
on_screen(struct watch *w)
{
	struct viewer *v = &w->p->view;
	char text[1100];
	enum sp_err e;

	v->is_raw = v->is_resized = true;
	SP_TRY(viewer_text(v, 1, "\033[?1049h\033[?25l"));
	e = loop(w);
	if (e == SP_ERR_EOF)
		return e;
	SP_TRY(viewer_text(v, 1, "\033[0m\033[?25h\033[?1049l"));
	v->is_raw = false;
	if (w->over_us != 0) {
		snprintf(text, sizeof(text), "%s\n", w->why != NULL ? w->why :
		    w->say[0] != '\0' ? w->say : "The session is over.");
		SP_TRY(viewer_text(v, 1, text));
	}
	return e;
}

enum sp_err
play_watch(struct player *p)
{
	struct watch *w = calloc(1, sizeof(*w));
	enum sp_err e;

	if (w == NULL)
		return SP_ERR_NOMEM;
	w->p = p;
	w->changed = true;
	snprintf(w->who, sizeof(w->who), "...");
	if (!verdict_is_good(p->report.verdict) &&
	    p->report.verdict != SP_REC_OPEN) {
		snprintf(w->notice, sizeof(w->notice), "verdict on what is recorded: "
		    "%s: %.180s", sp_rec_verdict_name(p->report.verdict),
		    p->report.text);
		w->notice_until_us = INT64_MAX;
	}
	e = head_open(&w->head, p->file, &p->keys);
	if (e == SP_OK)
		e = p->view.has_pty && !p->view.is_dumb && p->start.json == 0 ?
		    on_screen(w) : watch_plain(w);
	canvas_fini(&w->canvas);
	head_close(&w->head);
	free(w);
	return e;
}
