/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/rotate_int.h"

/*
 * One login of a rotation: a session like any other, with a recorder, a row and
 * events, but nobody's hands. We are its user side: we name the program, and say
 * of each secret that the egress may type it now. What the secrets are is between
 * the vault and the egress.
 */
#define CHAN 1
#define PROGRAM_S 45
#define TAIL 300

struct sp_rotation_login {
	struct sp_broker *b;
	rot_login_cb cb;
	void *arg;
	struct sp_session *s;
	struct sess_rotation *rot;
	char program[32];
	struct sp_stream st;
	struct event *ev_read, *ev_write, *late, *timer;
	bool has_stream, has_exited, is_refused, is_over, is_closed;
	uint32_t status;
	char tail[TAIL + 1];	/* the last that the program said */
	size_t n_tail;
	enum rot_result result;
	char text[400];
};

static void
drop_stream(struct sp_rotation_login *l)
{
	if (!l->has_stream)
		return;
	event_free(l->ev_read);
	event_free(l->ev_write);
	sp_stream_fini(&l->st);
	l->has_stream = false;
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct sp_rotation_login *l = arg;

	(void)fd;
	(void)what;
	drop_stream(l);
	event_free(l->late);
	event_free(l->timer);
	l->cb(l->arg, l->result, l->text);
	free(l);
}

/* Never from inside the session's own calls. */
static void
over(struct sp_rotation_login *l, enum rot_result result, const char *text)
{
	if (l->is_over)
		return;
	l->is_over = true;
	l->result = result;
	snprintf(l->text, sizeof(l->text), "%.390s", text);
	event_active(l->late, EV_TIMEOUT, 0);
}

/* ------------------------------------------------------------------- the stream */

static void
flush(struct sp_rotation_login *l)
{
	enum sp_err e = sp_stream_flush(&l->st);

	if (e == SP_ERR_AGAIN)
		event_add(l->ev_write, NULL);
	else if (e != SP_OK)
		drop_stream(l);
}

static void
note_output(struct sp_rotation_login *l, struct sp_span s)
{
	/* Only what fits at the end is kept. */
	for (size_t i = 0; i < s.n; i++) {
		if (l->n_tail == TAIL) {
			memmove(l->tail, l->tail + TAIL / 2, TAIL - TAIL / 2);
			l->n_tail = TAIL - TAIL / 2;
		}
		l->tail[l->n_tail++] = s.p[i] == '\0' ? ' ' : (char)s.p[i];
	}
	l->tail[l->n_tail] = '\0';
}

static enum sp_err
one_frame(struct sp_rotation_login *l, const struct sp_frame *f)
{
	struct sp_span p = f->payload;

	if (f->type == SP_FRAME_END) {
		drop_stream(l);
		return SP_ERR_EOF;
	}
	if (f->chan != CHAN)
		return f->type == SP_FRAME_NOTICE ? SP_OK : SP_ERR_PROTO;
	switch (f->type) {
	case SP_FRAME_WANTS:
		return sp_stream_put(&l->st, SP_FRAME_SECRET, 0, CHAN,
		    sp_span_of(p.p, 1));
	case SP_FRAME_DATA:
		note_output(l, p);
		return sp_stream_put_u32(&l->st, SP_FRAME_CREDIT, CHAN,
		    (uint32_t)p.n);
	case SP_FRAME_EXIT_STATUS:
		l->has_exited = true;
		return sp_get_u32(&p, &l->status);
	case SP_FRAME_OPEN_FAIL:
		l->is_refused = true;
		note_output(l, p.n > 4 ? sp_span_of(p.p + 4, p.n - 4) : p);
		return SP_OK;
	case SP_FRAME_CLOSE:
		l->is_closed = true;
		return sp_stream_put(&l->st, SP_FRAME_CLOSE, 0, CHAN,
		    (struct sp_span){0});
	default:
		return SP_OK;	/* OPEN_OK, SECRET, EOF, EXIT_SIGNAL, NOTICE */
	}
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct sp_rotation_login *l = arg;
	enum sp_err e = sp_stream_fill(&l->st), got;
	struct sp_frame f;

	(void)fd;
	(void)what;
	while (l->has_stream && (got = sp_stream_next(&l->st, &f)) != SP_ERR_AGAIN) {
		if (got == SP_OK)
			got = one_frame(l, &f);
		if (got != SP_OK) {
			drop_stream(l);
			return;
		}
	}
	if (!l->has_stream)
		return;
	if (e == SP_ERR_EOF || (e != SP_OK && e != SP_ERR_AGAIN)) {
		drop_stream(l);
		return;
	}
	flush(l);
	/* The user side that goes away ends the session. */
	if (l->has_stream && l->is_closed && sp_stream_pending(&l->st) == 0)
		drop_stream(l);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct sp_rotation_login *l = arg;

	(void)fd;
	(void)what;
	flush(l);
	if (l->has_stream && l->is_closed && sp_stream_pending(&l->st) == 0)
		drop_stream(l);
}

static enum sp_err
open_program(struct sp_rotation_login *l)
{
	SP_BUF_AUTO open = {.max = 4096};
	struct sp_open o = {.kind = SP_OPEN_ROTATE,
	    .command = sp_span_str(l->program)};

	SP_TRY(sp_open_encode(&open, &o));
	return sp_stream_put(&l->st, SP_FRAME_OPEN, 0, CHAN, sp_buf_span(&open));
}

/* ------------------------------------------------------------------- the session */

static void
on_ready(void *arg, struct sp_session *s, int stream)
{
	struct sp_rotation_login *l = arg;
	struct timeval tv = {.tv_sec = PROGRAM_S};

	/* It has logged in: that is what stands, unless a program fails. */
	l->result = l->program[0] == '\0' ? ROT_OK : ROT_FAILED;
	if (l->program[0] == '\0') {
		sp_close_fds(&stream, 1);
		return;
	}
	if (sp_stream_init(&l->st, stream, false) != SP_OK) {
		sp_stream_fini(&l->st);
		sp_session_end(s, SP_END_BROKER, "no stream");
		return;
	}
	l->ev_read = event_new(l->b->ev, stream, EV_READ | EV_PERSIST, on_read, l);
	l->ev_write = event_new(l->b->ev, stream, EV_WRITE, on_write, l);
	SP_ASSERT(l->ev_read != NULL && l->ev_write != NULL);
	l->has_stream = true;
	event_add(l->ev_read, NULL);
	event_add(l->timer, &tv);
	if (open_program(l) != SP_OK)
		drop_stream(l);
	else
		flush(l);
}

static void
on_end(void *arg, struct sp_session *s, uint8_t code, const char *text)
{
	struct sp_rotation_login *l = arg;
	char said[4 * TAIL + 1], why[900];

	l->s = NULL;
	snprintf(why, sizeof(why), "%s", text);
	if (l->result == ROT_OK) {
		over(l, ROT_OK, "");
	} else if (l->result == ROT_FAILED && l->has_exited && l->status == 0) {
		over(l, ROT_OK, "");
	} else if (l->result == ROT_FAILED && (l->has_exited || l->is_refused ||
	    l->is_closed)) {
		sp_vis(said, sizeof(said), sp_span_of(l->tail, l->n_tail));
		snprintf(why, sizeof(why), "%s at the target did not do it: %.380s",
		    l->program, said);
		over(l, ROT_FAILED, why);
	} else if (s->egr_fail == SP_EGR_AUTH) {
		over(l, ROT_REFUSED, why);
	} else {
		(void)code;
		over(l, ROT_BROKEN, why);
	}
}

/* A target that asks for more than it was promised: nobody is there. */
static void
on_prompt(void *arg, struct sp_session *s, const struct sp_prompt *p)
{
	(void)arg;
	if (p->asks)
		sp_session_answer(s, false, "");
}

static void
on_program_time(evutil_socket_t fd, short what, void *arg)
{
	struct sp_rotation_login *l = arg;

	(void)fd;
	(void)what;
	if (l->s == NULL)
		return;
	l->result = ROT_BROKEN;
	sp_session_end(l->s, SP_END_TARGET, "The program at the target did not end "
	    "in time.");
}

/* ------------------------------------------------------------------- the start */

static enum sp_err
put_secret(struct sess_rotation *w, const struct rot_login *what)
{
	struct sp_msg_v_rotate_lease m = {.account = sp_span_str(what->whose),
	    .kind = what->new->kind, .new_version = what->new->version,
	    .new_sealed = sp_buf_span(&what->new->sealed)};

	memcpy(m.owner, w->owner, 16);
	memcpy(m.new_id, what->new->id, 16);
	if (what->old != NULL) {
		m.old_kind = what->old->kind;
		m.old_version = what->old->version;
		m.old_sealed = sp_buf_span(&what->old->sealed);
		memcpy(m.old_id, what->old->id, 16);
	}
	return sp_enc_v_rotate_lease(&w->wish, &m);
}

static struct sess_rotation *
wish_of(const struct sp_ask *ask, const struct rot_login *what)
{
	struct sess_rotation *w = calloc(1, sizeof(*w));
	enum sp_err e = SP_OK;

	SP_ASSERT(w != NULL);
	sp_buf_init(&w->wish, 32768);
	sp_buf_init(&w->sealed, 8192);
	memcpy(w->owner, ask->target, 16);
	memcpy(w->account, what->account, 16);
	if (what->with != NULL) {
		struct sp_span s = sp_buf_span(&what->with->sealed);

		w->has_secret = true;
		memcpy(w->id, what->with->id, 16);
		w->version = what->with->version;
		e = sp_buf_put(&w->sealed, s.p, s.n);
	}
	if (e == SP_OK && what->program != NULL)
		e = put_secret(w, what);
	SP_ASSERT(e == SP_OK || e == SP_ERR_NOMEM);
	return w;
}

struct sp_rotation_login *
rot_login_begin(struct sp_broker *b, const struct sp_ask *ask,
    const struct rot_login *what, rot_login_cb cb, void *arg)
{
	static const struct sp_session_ops ops = {.on_prompt = on_prompt,
	    .on_ready = on_ready, .on_end = on_end};
	struct sp_rotation_login *l = calloc(1, sizeof(*l));

	SP_ASSERT(l != NULL);
	l->b = b;
	l->cb = cb;
	l->arg = arg;
	l->result = ROT_BROKEN;
	snprintf(l->program, sizeof(l->program), "%s", what->program == NULL ? "" :
	    what->program);
	l->late = event_new(b->ev, -1, 0, on_late, l);
	l->timer = event_new(b->ev, -1, 0, on_program_time, l);
	SP_ASSERT(l->late != NULL && l->timer != NULL);
	l->s = sp_session_begin_rotation(b, ask, wish_of(ask, what), &ops, l);
	if (l->is_over)
		l->s = NULL;
	else if (l->s == NULL)
		over(l, ROT_BROKEN, "no session could be made");
	return l;
}
