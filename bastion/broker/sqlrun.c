/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/sqlrun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session_int.h"
#include "common/mywire.h"
#include "common/pgwire.h"

#define CHAN 1
#define IN_MAX (256u << 10)
#define RUN_S 30

struct run {
	struct sp_broker *b;
	struct sp_sqlrun job;
	struct sp_session *session;
	struct sp_stream s;
	struct event *ev_read, *ev_write, *late;
	struct sp_buf in;
	bool is_open, is_in, has_stream, is_done, is_my;
	size_t at;		/* the statement that runs */
	uint32_t taken;
	char state[6], why[400];	/* of an ErrorResponse */
	sp_sqlrun_cb cb;
	void *arg;
};

/* ---------------------------------------------------------------- quoting */

static enum sp_err
quoted(struct sp_buf *b, const char *s, char q)
{
	if (s[0] == '\0')
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_put_u8(b, (uint8_t)q));
	for (; *s != '\0'; s++) {
		if (*s == '\\' && q == '\'')
			return SP_ERR_INVAL;
		if (*s == q)
			SP_TRY(sp_buf_put_u8(b, (uint8_t)q));
		SP_TRY(sp_buf_put_u8(b, (uint8_t)*s));
	}
	return sp_buf_put_u8(b, (uint8_t)q);
}

enum sp_err
sp_sql_put_name(struct sp_buf *b, const char *name)
{
	return quoted(b, name, '"');
}

enum sp_err
sp_sql_put_text(struct sp_buf *b, const char *text)
{
	return quoted(b, text, '\'');
}

/* -------------------------------------------------------------------- ends */

static void
run_free(struct run *r)
{
	struct event *all[] = {r->ev_read, r->ev_write, r->late};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	if (r->has_stream)
		sp_stream_fini(&r->s);
	sp_buf_fini(&r->in);
	free(r);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run_free(arg);
}

/* Frees from the loop: callers below may be in the middle of it. */
static void
done(struct run *r, enum sp_err e, const char *text)
{
	if (r->is_done)
		return;
	r->is_done = true;
	if (r->ev_read != NULL)
		event_del(r->ev_read);
	if (r->ev_write != NULL)
		event_del(r->ev_write);
	if (r->has_stream) {
		(void)!sp_stream_put(&r->s, SP_FRAME_CLOSE, 0, CHAN,
		    sp_span_of(NULL, 0));
		(void)!sp_stream_flush(&r->s);
		sp_stream_fini(&r->s);
		r->has_stream = false;
	}
	if (r->session != NULL) {
		struct sp_session *s = r->session;

		r->session = NULL;
		sp_session_forget(s);
	}
	r->cb(r->arg, e, text);
	event_del(r->late);
	event_active(r->late, EV_TIMEOUT, 0);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	if (r->is_done)
		on_late(fd, what, arg);
	else
		done(r, SP_ERR_TIMEOUT, "the database did not answer in time");
}

/* ---------------------------------------------------------------- messages */

static enum sp_err
say(struct run *r, struct sp_span bytes)
{
	SP_TRY(sp_stream_put(&r->s, SP_FRAME_DATA, 0, CHAN, bytes));
	return SP_OK;
}

static enum sp_err
start(struct run *r)
{
	SP_BUF_AUTO b = {.max = 512}, all = {.max = 600};
	static const char user[] = "user\0sallyport\0database";
	static const char more[] = "application_name\0sallyport\0"
	    "standard_conforming_strings\0on";

	SP_TRY(sp_buf_put(&b, user, sizeof(user)));
	SP_TRY(sp_buf_put(&b, r->job.database, strlen(r->job.database) + 1));
	SP_TRY(sp_buf_put(&b, more, sizeof(more)));
	SP_TRY(sp_buf_put_u8(&b, 0));
	SP_TRY(sp_buf_put_ssh_u32(&all, (uint32_t)b.len + 8));
	SP_TRY(sp_buf_put_ssh_u32(&all, SP_PG_STARTUP));
	SP_TRY(sp_buf_put(&all, sp_buf_span(&b).p, b.len));
	return say(r, sp_buf_span(&all));
}

/* The server answers by hanging up. */
static enum sp_err
cancel(struct run *r)
{
	SP_BUF_AUTO all = {.max = 16};

	SP_TRY(sp_buf_put_ssh_u32(&all, 16));
	SP_TRY(sp_buf_put_ssh_u32(&all, SP_PG_CANCEL));
	SP_TRY(sp_buf_put_ssh_u32(&all, r->job.cancel_pid));
	SP_TRY(sp_buf_put_ssh_u32(&all, r->job.cancel_key));
	return say(r, sp_buf_span(&all));
}

static enum sp_err
query(struct run *r)
{
	SP_BUF_AUTO out = {.max = SP_SQLRUN_TEXT + 16};
	const char *text = r->job.text[r->at];

	r->state[0] = '\0';
	SP_TRY(sp_pg_put(&out, 'Q', sp_span_of(text, strlen(text) + 1)));
	return say(r, sp_buf_span(&out));
}

static void
finish(struct run *r)
{
	static const uint8_t bye[] = {'X', 0, 0, 0, 4};

	(void)!say(r, sp_span_of(bye, sizeof(bye)));
	done(r, SP_OK, "");
}

/* ReadyForQuery: what the statement before came to, then the next. */
static enum sp_err
ready(struct run *r)
{
	char text[500];

	if (r->is_in && r->state[0] != '\0') {
		if (strcmp(r->state, r->job.done_by[r->at]) == 0) {
			finish(r);
			return SP_OK;
		}
		snprintf(text, sizeof(text), "%s %s", r->state, r->why);
		done(r, SP_ERR_DENIED, text);
		return SP_OK;
	}
	r->at += r->is_in;
	r->is_in = true;
	if (r->at < r->job.n)
		return query(r);
	finish(r);
	return SP_OK;
}

static enum sp_err
take(struct run *r, const struct sp_pg_msg *m)
{
	char text[500];

	if (m->type == 'Z')
		return ready(r);
	if (m->type != 'E')
		return SP_OK;	/* rows and tags say nothing that counts */
	(void)sp_pg_field(m->body, 'C', r->state, sizeof(r->state));
	(void)sp_pg_field(m->body, 'M', r->why, sizeof(r->why));
	if (r->state[0] == '\0')
		snprintf(r->state, sizeof(r->state), "XX000");
	if (r->is_in)
		return SP_OK;	/* ReadyForQuery follows */
	snprintf(text, sizeof(text), "%s %s", r->state, r->why);
	done(r, SP_ERR_DENIED, text);
	return SP_OK;
}

/* ----------------------------------------------------------------- MariaDB */

static enum sp_err
my_say(struct run *r, uint8_t seq, struct sp_span body)
{
	SP_BUF_AUTO out = {.max = 300};

	SP_TRY(sp_my_put(&out, seq, body));
	return say(r, sp_buf_span(&out));
}

/* To its greeting: a client without wishes. */
static enum sp_err
my_start(struct run *r)
{
	static const uint8_t zero[23];
	SP_BUF_AUTO b = {.max = 200};

	SP_TRY(sp_buf_put_u32(&b, SP_MY_CAP_41 | SP_MY_CAP_SECURE |
	    SP_MY_CAP_PLUGIN));
	SP_TRY(sp_buf_put_u32(&b, SP_MY_PACKET_MAX));
	SP_TRY(sp_buf_put_u8(&b, 45));	/* utf8mb4 */
	SP_TRY(sp_buf_put(&b, zero, sizeof(zero)));
	SP_TRY(sp_buf_put(&b, "sallyport\0", 11));
	SP_TRY(sp_buf_put(&b, "mysql_native_password", 22));
	return my_say(r, 1, sp_buf_span(&b));
}

static enum sp_err
my_kill(struct run *r)
{
	SP_BUF_AUTO b = {.max = 64};

	SP_TRY(sp_buf_printf(&b, "\003KILL %u", r->job.cancel_pid));
	return my_say(r, 0, sp_buf_span(&b));
}

/* Its greeting, its OK, its answer: that there is no such one will do. */
static enum sp_err
my_take(struct run *r, struct sp_span body)
{
	char why[300];

	if (r->at == 0) {
		r->at = 1;
		return my_start(r);
	}
	if (r->at == 1 && body.p[0] == 0) {
		r->at = 2;
		return my_kill(r);
	}
	if (r->at == 2)
		done(r, SP_OK, "");
	else
		done(r, SP_ERR_DENIED, sp_vis(why, sizeof(why), body));
	return SP_OK;
}

static enum sp_err
my_packets(struct run *r)
{
	struct sp_span body;
	size_t need = 0;
	uint8_t seq;
	enum sp_err e;

	while (!r->is_done && (e = sp_my_packet(sp_buf_span(&r->in), &seq, &body,
	    &need)) != SP_ERR_AGAIN) {
		SP_TRY(e);
		SP_TRY(my_take(r, body));
		if (!r->is_done)
			sp_buf_consume(&r->in, need);
	}
	return SP_OK;
}

static enum sp_err
on_data(struct run *r, struct sp_span bytes)
{
	struct sp_pg_msg m;
	size_t used;
	enum sp_err e = SP_OK;

	SP_TRY(sp_buf_put(&r->in, bytes.p, bytes.n));
	r->taken += (uint32_t)bytes.n;
	if (r->taken >= SP_STREAM_WINDOW / 4) {
		SP_TRY(sp_stream_put_u32(&r->s, SP_FRAME_CREDIT, CHAN, r->taken));
		r->taken = 0;
	}
	if (r->is_my)
		return my_packets(r);
	while (e == SP_OK && !r->is_done && (e = sp_pg_msg_read(
	    sp_buf_span(&r->in), &m, &used)) == SP_OK) {
		e = take(r, &m);
		if (!r->is_done)
			sp_buf_consume(&r->in, used);
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

static enum sp_err
on_frame(struct run *r, const struct sp_frame *f)
{
	struct sp_span p = f->payload, text;
	char why[500];

	if (f->chan != CHAN && f->type != SP_FRAME_END)
		return SP_OK;
	switch (f->type) {
	case SP_FRAME_OPEN_OK:
		if (r->is_open)
			return SP_ERR_PROTO;
		r->is_open = true;
		return r->is_my ? SP_OK : r->job.cancel_pid != 0 ? cancel(r) :
		    start(r);
	case SP_FRAME_DATA:
		return r->is_open ? on_data(r, p) : SP_ERR_PROTO;
	case SP_FRAME_OPEN_FAIL:
		SP_TRY(sp_get_str(&p, 1020, &text));
		done(r, SP_ERR_DENIED, sp_vis(why, sizeof(why), text));
		return SP_OK;
	case SP_FRAME_EOF:
	case SP_FRAME_CLOSE:
	case SP_FRAME_END:
		done(r, r->job.cancel_pid != 0 && !r->is_my &&
		    f->type != SP_FRAME_END ? SP_OK : SP_ERR_EOF, "the database hung up");
		return SP_OK;
	default:
		return SP_OK;
	}
}

/* -------------------------------------------------------------------- loop */

static void
push(struct run *r)
{
	enum sp_err e = r->is_done ? SP_OK : sp_stream_flush(&r->s);

	if (e == SP_ERR_AGAIN)
		event_add(r->ev_write, NULL);
	else if (e != SP_OK)
		done(r, SP_ERR_EOF, "its session has ended");
}

static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	enum sp_err fill = (what & EV_READ) == 0 ? SP_ERR_AGAIN :
	    sp_stream_fill(&r->s), e = SP_OK;
	struct sp_frame f;

	(void)fd;
	while (!r->is_done && (e = sp_stream_next(&r->s, &f)) == SP_OK)
		if ((e = on_frame(r, &f)) != SP_OK)
			break;
	if (r->is_done)
		return;
	if (e != SP_OK && e != SP_ERR_AGAIN)
		done(r, e, "the database does not speak as one");
	else if (fill == SP_ERR_EOF || fill == SP_ERR_IO)
		done(r, SP_ERR_EOF, "its session has ended");
	else
		push(r);
}

static enum sp_err
put_open(struct run *r)
{
	struct sp_open o = {.kind = SP_OPEN_SQL, .port = 5432,
	    .host = sp_span_str(r->session->ask.target_name),
	    .origin = sp_span_str("sallyport")};
	SP_BUF_AUTO b = {.max = 4096};

	SP_TRY(sp_open_encode(&b, &o));
	return sp_stream_put(&r->s, SP_FRAME_OPEN, 0, CHAN, sp_buf_span(&b));
}

static void
on_ready(void *arg, struct sp_session *s, int stream)
{
	struct run *r = arg;

	SP_ASSERT(r->session == s);
	if (sp_stream_init(&r->s, stream, false) != SP_OK) {
		sp_close_fds(&stream, 1);
		done(r, SP_ERR_NOMEM, "out of memory");
		return;
	}
	r->has_stream = true;
	r->ev_read = event_new(r->b->ev, stream, EV_READ | EV_PERSIST, on_io, r);
	r->ev_write = event_new(r->b->ev, stream, EV_WRITE, on_io, r);
	if (r->ev_read == NULL || r->ev_write == NULL ||
	    event_add(r->ev_read, NULL) != 0 || put_open(r) != SP_OK)
		done(r, SP_ERR_NOMEM, "out of memory");
	else
		push(r);
}

static void
on_end(void *arg, struct sp_session *s, uint8_t code, const char *text)
{
	struct run *r = arg;

	(void)s;
	(void)code;
	r->session = NULL;
	done(r, SP_ERR_EOF, text[0] == '\0' ? "its session has ended" : text);
}

void
sp_sqlrun_begin(struct sp_broker *b, const struct sp_ask *ask,
    const char *what, const struct sp_sqlrun *run, sp_sqlrun_cb cb, void *arg)
{
	static const struct sp_session_ops ops = {.on_ready = on_ready,
	    .on_end = on_end};
	struct timeval tv = {.tv_sec = RUN_S};
	struct run *r = calloc(1, sizeof(*r));

	if (r == NULL || ask->cred_kind != (run->cancel_pid != 0 &&
	    ask->protocol == SP_PROTO_MARIADB ? SP_CRED_MARIADB :
	    SP_CRED_PG_SCRAM) ||
	    (r->late = event_new(b->ev, -1, 0, on_time, r)) == NULL) {
		free(r);
		cb(arg, r == NULL ? SP_ERR_NOMEM : SP_ERR_INVAL, "the account must "
		    "be of kind postgresql");
		return;
	}
	r->b = b;
	r->job = *run;
	r->is_my = ask->cred_kind == SP_CRED_MARIADB;
	r->cb = cb;
	r->arg = arg;
	sp_buf_init(&r->in, IN_MAX);
	event_add(r->late, &tv);
	r->session = sp_session_begin_own(b, what, SP_RIGHT_SQL, ask, &ops, r);
	if (r->session == NULL)
		done(r, SP_ERR_NOMEM, "no session can begin now");
}
