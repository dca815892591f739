/* SPDX-License-Identifier: Apache-2.0 */
/* Between a watcher's terminal and the player that draws for it. */
#include "bastion/broker/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_session.h"

#define TICK_MS 250
#define SAY_US 5000000
#define CHAN 1

static struct sp_watch *watches;

static void
release(struct sp_watch *w)
{
	if (w->c == NULL && !w->is_asked)
		free(w);
}

struct sp_session *
sp_watch_session(const struct sp_watch *w)
{
	struct sp_session *s = sp_session_find(w->b, w->session);

	return s != NULL && sp_session_is_live(s) ? s : NULL;
}

void
sp_watchers_of(const uint8_t session[static 16], char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = '\0';
	for (const struct sp_watch *w = watches; w != NULL; w = w->next) {
		if (!w->is_shown || memcmp(w->session, session, 16) != 0 ||
		    n + strlen(w->name) + 3 > cap)
			continue;
		n += (size_t)snprintf(dst + n, cap - n, "%s%s", n > 0 ? ", " : "",
		    w->name);
	}
}

/* -------------------------------------------------------------- what is said */

const struct sp_held *
sp_watch_held(const struct sp_watch *w)
{
	const struct sp_session *s = sp_watch_session(w);
	const struct sp_held *first = NULL;

	for (size_t i = 0; s != NULL && i < SP_HELD_SLOTS; i++) {
		const struct sp_held *h = sp_session_held(s, i);

		if (h->number != 0 && (first == NULL ||
		    h->number < first->number))
			first = h;
	}
	return first;
}

static void
held_text(const struct sp_held *h, char *dst, size_t cap)
{
	static const char *const kinds[] = {"something", "this line",
	    "the command", "the file"};

	snprintf(dst, cap, "WAITS: %s%s%.900s   Enter releases, x refuses",
	    kinds[h->kind < 4 ? h->kind : 0], h->text[0] != '\0' ? ": " : "",
	    h->text);
}

static void
who_text(const struct sp_session *s, char *dst, size_t cap)
{
	size_t n = 0;

	for (const struct sp_watch *w = watches; w != NULL; w = w->next)
		n += memcmp(w->session, sp_session_id(s), 16) == 0;
	snprintf(dst, cap, "%.64s %.140s", sp_session_person(s),
	    sp_session_where(s));
	if (n > 1)
		snprintf(dst + strlen(dst), cap - strlen(dst), " (%zu watch)", n);
}

static void
say_text(struct sp_watch *w, struct sp_msg_play_live *m, char *dst, size_t cap)
{
	dst[0] = '\0';
	if (w->ask == SP_WATCH_KILL)
		snprintf(dst, cap, "kill this session? y or n ");
	else if (w->ask == SP_WATCH_NOTE)
		snprintf(dst, cap, "note (Enter sends, Esc does not): %.*s",
		    (int)w->n_note, w->note);
	else if (sp_boot_us() < w->say_until_us)
		snprintf(dst, cap, "%s", w->say);
	if (w->ask != SP_WATCH_NOTHING)
		m->state |= SP_LIVE_ASKS;
}

static void
state_of(struct sp_watch *w, struct sp_msg_play_live *m, char text[3][1201])
{
	const struct sp_session *s = sp_watch_session(w);
	const struct sp_held *h = sp_watch_held(w);

	*m = (struct sp_msg_play_live){0};
	text[0][0] = text[1][0] = '\0';
	if (s != NULL) {
		who_text(s, text[0], 257);
		sp_session_times(s, &m->since_us, &m->ends_us);
		m->state |= sp_session_is_frozen(s) ? SP_LIVE_FROZEN : 0;
		m->state |= h != NULL ? SP_LIVE_HELD : 0;
	}
	if (h != NULL)
		held_text(h, text[1], sizeof(text[1]));
	if (h == NULL || h->number != w->held) {
		w->held = h == NULL ? 0 : h->number;
		w->held_us = sp_boot_us();
		if (h != NULL)
			w->say_until_us = 0;	/* what waits is the news */
	}
	say_text(w, m, text[2], 1000);
	if (s == NULL) {
		m->state |= SP_LIVE_OVER;
		snprintf(text[0], sizeof(text[0]), "%s", w->was_text[0]);
		snprintf(text[2], 1000, "The session is over%s%.600s",
		    w->over[0] != '\0' ? ": " : ".", w->over);
	}
}

void
sp_watch_tell(struct sp_watch *w)
{
	const struct sp_session *s = sp_session_find(w->b, w->session);
	struct sp_msg_play_live m;
	char text[3][1201];

	if (s != NULL)
		snprintf(w->over, sizeof(w->over), "%s", sp_session_end_text(s));
	state_of(w, &m, text);
	if (w->has_said && m.state == w->was.state &&
	    m.since_us == w->was.since_us && m.ends_us == w->was.ends_us &&
	    strcmp(text[0], w->was_text[0]) == 0 &&
	    strcmp(text[1], w->was_text[1]) == 0 &&
	    strcmp(text[2], w->was_text[2]) == 0)
		return;
	w->has_said = true;
	w->was = m;
	memcpy(w->was_text, text, sizeof(text));
	m.who = sp_span_str(w->was_text[0]);
	m.held = sp_span_str(w->was_text[1]);
	m.say = sp_span_str(w->was_text[2]);
	sp_session_play_live(w->b, w, w->session, &m);
}

void
sp_watch_say(struct sp_watch *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->say, sizeof(w->say), fmt, ap);
	va_end(ap);
	w->say_until_us = sp_boot_us() + SAY_US;
	sp_watch_tell(w);
}

/* ----------------------------------------------------------- begin and end */

static void
tell_user(struct sp_watch *w, const char *what)
{
	struct sp_session *s = sp_watch_session(w);
	char text[160];

	snprintf(text, sizeof(text), "Sallyport: %.64s %s this session.", w->name,
	    what);
	if (s != NULL && w->b->cfg.watch_told == 1)
		sp_session_say(s, text);
}

/* Once, when the first of it reaches the watcher. */
static void
shown(struct sp_watch *w)
{
	if (w->is_shown)
		return;
	w->is_shown = true;
	w->from_us = sp_boot_us();
	tell_user(w, "watches");
}

static void
leave(struct sp_watch *w)
{
	struct sp_watch **at = &watches;
	char seconds[24], *detail;

	while (*at != NULL && *at != w)
		at = &(*at)->next;
	if (*at == w)
		*at = w->next;
	if (w->ev != NULL)
		event_free(w->ev);
	if (w->tick != NULL)
		event_free(w->tick);
	w->ev = w->tick = NULL;
	sp_stream_fini(&w->s);
	if (!w->is_shown)
		return;
	w->is_shown = false;
	tell_user(w, "no longer watches");
	snprintf(seconds, sizeof(seconds), "%lld",
	    (long long)(sp_boot_us() - w->from_us) / 1000000);
	detail = sp_call_detail("seconds", seconds, NULL);
	sp_audit(w->b->store, "watch_end", w->name, w->session, detail, NULL, NULL);
	free(detail);
}

static void
finish(struct sp_watch *w, uint8_t exit_code)
{
	struct sp_call *c = w->c;

	w->c = NULL;
	leave(w);
	c->state = NULL;
	c->on_gone = NULL;
	c->on_key = NULL;
	c->on_window = NULL;
	sp_call_end(c, exit_code);
	release(w);
}

static void
on_gone(struct sp_call *c)
{
	finish(c->state, SP_EXIT_REFUSED);
}

/* -------------------------------------------------------------- the player */

/* A player that says more than it was allowed is no player. */
static void
flush(struct sp_watch *w)
{
	enum sp_err e;

	if (w->owed > 0 && sp_conduit_waiting(w->c->conduit) == 0) {
		if (sp_stream_put_u32(&w->s, SP_FRAME_CREDIT, CHAN, w->owed) !=
		    SP_OK)
			return;
		w->owed = 0;
	}
	e = sp_stream_flush(&w->s);
	if (e != SP_OK && e != SP_ERR_AGAIN)
		finish(w, SP_EXIT_LATER);
}

/* false: it has ended. */
static bool
take_frame(struct sp_watch *w, const struct sp_frame *f)
{
	struct sp_span s = f->payload;

	switch (f->type) {
	case SP_FRAME_DATA:
		if ((f->lane != 1 && f->lane != 2) ||
		    s.n > SP_STREAM_WINDOW - w->owed)
			return false;
		if (f->lane == 1)
			shown(w);
		w->owed += (uint32_t)s.n;
		sp_conduit_write(w->c->conduit, w->c->chan, f->lane, s);
		return true;
	case SP_FRAME_EXIT_STATUS:
		return sp_get_u32(&s, &w->status) == SP_OK;
	case SP_FRAME_CLOSE:
	case SP_FRAME_END:
	case SP_FRAME_OPEN_FAIL:
		return false;
	default:
		return true;
	}
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct sp_watch *w = arg;
	struct sp_frame f;
	enum sp_err e;
	bool goes_on = true;

	(void)fd;
	(void)what;
	e = sp_stream_fill(&w->s);
	while (goes_on && sp_stream_next(&w->s, &f) == SP_OK)
		goes_on = take_frame(w, &f);
	if (goes_on && (e == SP_OK || e == SP_ERR_AGAIN))
		flush(w);
	else
		finish(w, w->status == 0 && !goes_on ? SP_EXIT_OK :
		    SP_EXIT_REFUSED);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_watch *w = arg;

	(void)fd;
	(void)what;
	sp_watch_tell(w);
	flush(w);
}

void
sp_watch_pass(struct sp_watch *w, struct sp_span keys)
{
	if (keys.n > 0 && w->s.fd >= 0 && sp_stream_put(&w->s, SP_FRAME_DATA, 0,
	    CHAN, keys) == SP_OK)
		flush(w);
}

static void
on_window(struct sp_call *c, uint32_t cols, uint32_t rows)
{
	struct sp_watch *w = c->state;
	SP_BUF_AUTO b = {.max = 16};

	if (sp_buf_put_u32(&b, cols) != SP_OK || sp_buf_put_u32(&b, rows) !=
	    SP_OK || sp_buf_put_u32(&b, 0) != SP_OK ||
	    sp_buf_put_u32(&b, 0) != SP_OK)
		return;
	if (w->s.fd >= 0 && sp_stream_put(&w->s, SP_FRAME_WINDOW, 0, CHAN,
	    sp_buf_span(&b)) == SP_OK)
		flush(w);
}

static enum sp_err
open_player(struct sp_watch *w, int stream)
{
	const struct timeval tick = {.tv_usec = TICK_MS * 1000};
	SP_BUF_AUTO open = {.max = 256};
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = w->c->pty,
	    .cols = w->c->cols, .rows = w->c->lines,
	    .term = sp_span_str(w->c->is_dumb ? "dumb" : "xterm")};

	SP_TRY(sp_stream_init(&w->s, stream, false));
	SP_TRY(sp_open_encode(&open, &o));
	SP_TRY(sp_stream_put(&w->s, SP_FRAME_OPEN, 0, CHAN, sp_buf_span(&open)));
	w->ev = event_new(w->b->ev, stream, EV_READ | EV_PERSIST, on_read, w);
	w->tick = event_new(w->b->ev, -1, EV_PERSIST, on_tick, w);
	return w->ev != NULL && w->tick != NULL && event_add(w->ev, NULL) == 0 &&
	    event_add(w->tick, &tick) == 0 ? SP_OK : SP_ERR_NOMEM;
}

static void
on_played(void *arg, enum sp_err e, int stream, const char *text)
{
	struct sp_watch *w = arg;
	struct sp_call *c = w->c;

	w->is_asked = false;
	if (c == NULL) {
		sp_close_fds(&stream, 1);
		release(w);
	} else if (e != SP_OK) {
		w->c = NULL;
		leave(w);
		c->state = NULL;
		c->on_gone = NULL;
		sp_call_fail(c, e == SP_ERR_DENIED || e == SP_ERR_NOTFOUND ?
		    SP_EXIT_REFUSED : SP_EXIT_LATER, "%s", text != NULL &&
		    text[0] != '\0' ? text : sp_err_text(e));
		release(w);
	} else if (open_player(w, stream) != SP_OK) {
		finish(w, SP_EXIT_LATER);
	} else {
		w->status = SP_EXIT_REFUSED;	/* until it says how it went */
		c->on_key = w->has_keys ? sp_watch_keys : NULL;
		c->on_window = on_window;
		sp_watch_tell(w);
		flush(w);
	}
}

void
sp_watch_begin(struct sp_call *c, struct sp_session *s)
{
	struct sp_watch *w = calloc(1, sizeof(*w));
	struct sp_msg_play_start how = {.mode = SP_PLAY_WATCH, .speed = 100,
	    .json = c->style.json};

	SP_ASSERT(w != NULL);
	w->b = c->b;
	w->c = c;
	w->is_asked = true;
	w->s.fd = -1;
	w->has_keys = c->pty && !c->is_dumb && !c->style.json;
	memcpy(w->session, sp_session_id(s), 16);
	snprintf(w->name, sizeof(w->name), "%s", c->who.name);
	w->next = watches;
	watches = w;
	c->state = w;
	c->on_gone = on_gone;
	sp_session_play(c->b, &c->who, w->session, &how, on_played, w);
}
