/* SPDX-License-Identifier: Apache-2.0 */
/* One push: the rows, the vault's list, a session of our own, one command. The
 * target is hostile: what it says is counted, cut and encoded, and it has half a
 * minute. */
#include "bastion/broker/krlpush_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_way.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_krl.h"

#define CHAN 1
#define RUN_S 60
#define PIECE 16384
#define TAIL 200

struct run {
	struct sp_broker *b;
	sp_krlpush_cb cb;
	void *arg;
	char account[65], target[65], path[201];
	struct sp_rows *revoked, *ended;
	struct sp_ask ask;
	struct sp_buf krl;
	struct sp_session *session;
	struct sp_stream s;
	struct event *ev_read, *ev_write, *late;
	bool has_stream, has_exited, is_over;
	unsigned calls;		/* answers that are still to come */
	uint32_t status;
	char tail[TAIL + 1];
	size_t n_tail;
};

static void
run_free(struct run *r)
{
	struct event *all[] = {r->ev_read, r->ev_write, r->late};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	sp_rows_free(r->revoked);
	sp_rows_free(r->ended);
	sp_buf_fini(&r->krl);
	free(r);
}

static void
drop_stream(struct run *r)
{
	if (!r->has_stream)
		return;
	event_del(r->ev_read);
	event_del(r->ev_write);
	(void)!sp_stream_put(&r->s, SP_FRAME_CLOSE, 0, CHAN, (struct sp_span){0});
	(void)!sp_stream_flush(&r->s);
	sp_stream_fini(&r->s);
	r->has_stream = false;
}

/* Frees from the loop: callers may be in the middle of it. */
static void
over(struct run *r, bool is_done, const char *text)
{
	struct sp_session *s = r->session;

	if (r->is_over)
		return;
	r->is_over = true;
	r->session = NULL;
	drop_stream(r);
	if (s != NULL)
		sp_session_forget(s);
	r->cb(r->arg, is_done, text);
	if (r->calls == 0)
		event_active(r->late, EV_TIMEOUT, 0);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	(void)fd;
	(void)what;
	if (!r->is_over)
		over(r, false, "the target did not end in time");
	else if (r->calls == 0)
		run_free(r);
}

/* An answer came; false: nobody wants it any more. */
static bool
came(struct run *r)
{
	r->calls--;
	if (r->is_over && r->calls == 0)
		event_active(r->late, EV_TIMEOUT, 0);
	return !r->is_over;
}

/* ------------------------------------------------------------------ the command */

static void
note(struct run *r, struct sp_span s)
{
	for (size_t i = 0; i < s.n && r->n_tail < TAIL; i++)
		r->tail[r->n_tail++] = s.p[i] == '\0' ? ' ' : (char)s.p[i];
}

static enum sp_err
put_open(struct run *r)
{
	char command[1100];
	struct sp_open o = {.kind = SP_OPEN_EXEC};
	struct sp_span rest = sp_buf_span(&r->krl);
	SP_BUF_AUTO b = {.max = 4096};

	/* A list that was cut would shut everybody out: sshd takes none then. */
	snprintf(command, sizeof(command), "umask 022; cat >%s.new && "
	    "test $(wc -c <%s.new) -eq %zu && mv -f %s.new %s", r->path, r->path,
	    rest.n, r->path, r->path);
	o.command = sp_span_str(command);
	SP_TRY(sp_open_encode(&b, &o));
	SP_TRY(sp_stream_put(&r->s, SP_FRAME_OPEN, 0, CHAN, sp_buf_span(&b)));
	while (rest.n > 0) {
		size_t n = rest.n < PIECE ? rest.n : PIECE;

		SP_TRY(sp_stream_put(&r->s, SP_FRAME_DATA, 0, CHAN,
		    sp_span_of(rest.p, n)));
		rest = sp_span_of(rest.p + n, rest.n - n);
	}
	return sp_stream_put(&r->s, SP_FRAME_EOF, 0, CHAN, (struct sp_span){0});
}

static void
judge(struct run *r)
{
	char said[4 * TAIL + 1], text[1100];

	if (r->has_exited && r->status == 0) {
		over(r, true, "");
		return;
	}
	sp_vis(said, sizeof(said), sp_span_of(r->tail, r->n_tail));
	snprintf(text, sizeof(text), "the command at the target failed: %s", said);
	over(r, false, text);
}

static enum sp_err
on_frame(struct run *r, const struct sp_frame *f)
{
	struct sp_span p = f->payload;

	if (f->type == SP_FRAME_END) {
		judge(r);
		return SP_OK;
	}
	if (f->chan != CHAN)
		return f->type == SP_FRAME_NOTICE ? SP_OK : SP_ERR_PROTO;
	switch (f->type) {
	case SP_FRAME_DATA:
		note(r, p);
		return sp_stream_put_u32(&r->s, SP_FRAME_CREDIT, CHAN,
		    (uint32_t)p.n);
	case SP_FRAME_EXIT_STATUS:
		r->has_exited = true;
		return sp_get_u32(&p, &r->status);
	case SP_FRAME_OPEN_FAIL:
		note(r, p.n > 4 ? sp_span_of(p.p + 4, p.n - 4) : p);
		judge(r);
		return SP_OK;
	case SP_FRAME_CLOSE:
		judge(r);
		return SP_OK;
	default:
		return SP_OK;
	}
}

static void
push(struct run *r)
{
	enum sp_err e = r->is_over ? SP_OK : sp_stream_flush(&r->s);

	if (e == SP_ERR_AGAIN)
		event_add(r->ev_write, NULL);
	else if (e != SP_OK)
		judge(r);
}

static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	enum sp_err fill = (what & EV_READ) == 0 ? SP_ERR_AGAIN :
	    sp_stream_fill(&r->s), e = SP_OK;
	struct sp_frame f;

	(void)fd;
	while (!r->is_over && (e = sp_stream_next(&r->s, &f)) == SP_OK)
		if ((e = on_frame(r, &f)) != SP_OK)
			break;
	if (r->is_over)
		return;
	if (e != SP_OK && e != SP_ERR_AGAIN)
		over(r, false, "its session does not speak as one");
	else if (fill == SP_ERR_EOF || fill == SP_ERR_IO)
		judge(r);
	else
		push(r);
}

static void
on_ready(void *arg, struct sp_session *s, int stream)
{
	struct run *r = arg;

	(void)s;
	if (sp_stream_init(&r->s, stream, false) != SP_OK) {
		sp_close_fds(&stream, 1);
		over(r, false, "out of memory");
		return;
	}
	r->has_stream = true;
	r->ev_read = event_new(r->b->ev, stream, EV_READ | EV_PERSIST, on_io, r);
	r->ev_write = event_new(r->b->ev, stream, EV_WRITE, on_io, r);
	SP_ASSERT(r->ev_read != NULL && r->ev_write != NULL);
	if (event_add(r->ev_read, NULL) != 0 || put_open(r) != SP_OK)
		over(r, false, "out of memory");
	else
		push(r);
}

static void
on_end(void *arg, struct sp_session *s, uint8_t code, const char *text)
{
	struct run *r = arg;
	char why[600];

	(void)s;
	(void)code;
	r->session = NULL;
	if (r->has_exited) {
		judge(r);
		return;
	}
	snprintf(why, sizeof(why), "%.590s", text);
	over(r, false, why[0] == '\0' ? "its session has ended" : why);
}

/* A target that asks for more than it was promised: nobody is there. */
static void
on_prompt(void *arg, struct sp_session *s, const struct sp_prompt *p)
{
	(void)arg;
	if (p->asks)
		sp_session_answer(s, false, "");
}

/* --------------------------------------------------------------------- the rows */

static void
got_krl(void *arg, enum sp_err e, struct sp_packet *reply)
{
	static const struct sp_session_ops ops = {.on_prompt = on_prompt,
	    .on_ready = on_ready, .on_end = on_end};
	struct sp_msg_v_krl_r m = {.err = SP_ERR_PROTO};
	struct run *r = arg;

	if (!came(r))
		return;
	if (e == SP_OK)
		e = sp_dec_v_krl_r(reply->body, &m);
	if (e == SP_OK)
		e = (enum sp_err)m.err;
	if (e == SP_OK)
		e = sp_buf_put(&r->krl, m.krl.p, m.krl.n);
	if (e != SP_OK) {
		over(r, false, sp_flow_why(e));
		return;
	}
	r->session = sp_session_begin_own(r->b, "krl", SP_RIGHT_EXEC, &r->ask, &ops,
	    r);
	if (r->session == NULL)
		over(r, false, "no session can begin now");
}

static void
ask_vault(struct run *r)
{
	SP_BUF_AUTO body = {.max = 65536};
	uint64_t version;
	enum sp_err e = sp_krl_request(&body, r->revoked, r->ended, &version);

	if (e != SP_OK) {
		over(r, false, "no list can be made of what was revoked: krl list, "
		    "sallyport doctor");
		return;
	}
	r->calls++;
	sp_vault_call(r->b->vault, SP_MSG_v_krl, sp_buf_span(&body), SP_MSG_v_krl_r,
	    got_krl, r);
}

static void
got_way(void *arg, enum sp_err e, const struct sp_way *way, const char *text)
{
	struct run *r = arg;

	if (!came(r))
		return;
	if (e != SP_OK) {
		over(r, false, text);
		return;
	}
	memcpy(r->ask.way, way->digest, sizeof(r->ask.way));
	ask_vault(r);
}

static void
got_account(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct run *r = arg;

	if (!came(r))
		return;
	if (e == SP_OK && (sp_rows_n(rows) != 1 ||
	    sp_ask_account(&r->ask, rows, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e != SP_OK) {
		over(r, false, e == SP_ERR_NOTFOUND ? "the target has no such account, "
		    "or its row was changed" : sp_flow_why(e));
	} else if (!sp_uuid_is_nil(r->ask.via)) {
		r->calls++;
		sp_way_load(r->b, &r->ask, got_way, r);
	} else {
		ask_vault(r);
	}
}

static void
got_target(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct run *r = arg;
	char id[SP_UUID_TEXT];
	const char *p[2] = {id, r->account};

	if (!came(r))
		return;
	if (e == SP_OK && (sp_rows_n(rows) != 1 ||
	    sp_ask_target(&r->ask, rows, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e != SP_OK || !sp_rows_bool(rows, 0, "enabled")) {
		over(r, false, e == SP_ERR_NOTFOUND ? "there is no such target, or its "
		    "row was changed" : e != SP_OK ? sp_flow_why(e) :
		    "the target is disabled");
		return;
	}
	sp_uuid_text(id, r->ask.target);
	r->calls++;
	sp_store_load(r->b->store, SP_T_ACCOUNTS, "WHERE target_id = $1::uuid AND "
	    "name = $2", p, 2, got_account, r);
}

static void
got_ended(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct run *r = arg;
	const char *p[1] = {r->target};

	if (!came(r))
		return;
	if (e != SP_OK) {
		over(r, false, sp_flow_why(e));
		return;
	}
	r->ended = sp_rows_ref(rows);
	r->calls++;
	sp_store_load(r->b->store, SP_T_TARGETS, "WHERE name = $1", p, 1, got_target,
	    r);
}

static void
got_revoked(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct run *r = arg;
	struct sp_need needs[2];
	char at[2][24];

	if (!came(r))
		return;
	if (e != SP_OK || sp_rows_n_broken(rows) > 0) {
		over(r, false, e != SP_OK ? sp_flow_why(e) : "a row of what was revoked "
		    "was changed in the database: sallyport doctor");
		return;
	}
	r->revoked = sp_rows_ref(rows);
	sp_krl_needs(needs, at);
	r->calls++;
	sp_store_query(r->b->store, needs[1].sql, needs[1].p, needs[1].n, got_ended,
	    r);
}

void
sp_krlpush_run(struct sp_broker *b, const char *account, const char *target,
    const char *path, sp_krlpush_cb cb, void *arg)
{
	struct timeval tv = {.tv_sec = RUN_S};
	struct run *r = calloc(1, sizeof(*r));
	struct sp_need needs[2];
	char at[2][24];

	SP_ASSERT(r != NULL);
	r->b = b;
	r->cb = cb;
	r->arg = arg;
	sp_buf_init(&r->krl, 65536);
	snprintf(r->account, sizeof(r->account), "%s", account);
	snprintf(r->target, sizeof(r->target), "%s", target);
	snprintf(r->path, sizeof(r->path), "%s", path);
	r->late = event_new(b->ev, -1, 0, on_late, r);
	SP_ASSERT(r->late != NULL);
	event_add(r->late, &tv);
	sp_krl_needs(needs, at);
	r->calls++;
	sp_store_load(b->store, needs[0].t, needs[0].where, needs[0].p, needs[0].n,
	    got_revoked, r);
}
