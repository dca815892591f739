/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "bastion/egress-sql/sqleg.h"

#define NEAR_MAX (SP_STREAM_WINDOW + SP_STREAM_SLACK)
#define CREDIT_STEP (SP_STREAM_WINDOW / 8)
#define CLOSE_WAIT_US 1000000

/* ------------------------------------------------------------------ frames */

static enum sp_err
on_open(struct sp_sqleg *g, const struct sp_frame *f)
{
	struct sp_open o;

	SP_TRY(sp_open_decode(f->payload, &o));
	if (g->chan != 0 || o.kind != SP_OPEN_SQL) {
		SP_TRY(sp_stream_put_text(&g->rec, SP_FRAME_OPEN_FAIL, f->chan,
		    g->chan != 0 ? "a session has one database connection" :
		    "the target is a database: it takes database clients only"));
		return sp_stream_put(&g->rec, SP_FRAME_CLOSE, 0, f->chan,
		    sp_span_of(NULL, 0));
	}
	g->chan = f->chan;
	g->in_credit = NEAR_MAX;
	g->out_credit = SP_STREAM_WINDOW;
	sp_buf_init(&g->near, NEAR_MAX);
	return sp_stream_put(&g->rec, SP_FRAME_OPEN_OK, 0, f->chan,
	    sp_span_of(NULL, 0));
}

static enum sp_err
on_credit(struct sp_sqleg *g, struct sp_span s)
{
	uint32_t n;

	SP_TRY(sp_get_u32(&s, &n));
	if (n > UINT32_MAX - g->out_credit)
		return SP_ERR_PROTO;
	g->out_credit += n;
	return SP_OK;
}

static enum sp_err
take_frame(struct sp_sqleg *g, const struct sp_frame *f)
{
	if (f->type == SP_FRAME_END) {
		g->over = true;
		return SP_OK;
	}
	if (f->type == SP_FRAME_OPEN)
		return on_open(g, f);
	if (f->chan != g->chan || g->chan == 0)
		return SP_OK;	/* one that was refused */
	if (f->type == SP_FRAME_DATA) {
		if (f->payload.n > g->in_credit)
			return SP_ERR_PROTO;
		g->in_credit -= (uint32_t)f->payload.n;
		return sp_buf_put(&g->near, f->payload.p, f->payload.n);
	}
	if (f->type == SP_FRAME_CREDIT)
		return on_credit(g, f->payload);
	if (f->type == SP_FRAME_EOF)
		g->user_eof = true;
	if (f->type == SP_FRAME_CLOSE)
		g->user_eof = g->user_closed = true;
	return SP_OK;
}

enum sp_err
sp_user_frames(struct sp_sqleg *g)
{
	enum sp_err e = sp_stream_fill(&g->rec);
	struct sp_frame f;

	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	while ((e = sp_stream_next(&g->rec, &f)) == SP_OK)
		SP_TRY(take_frame(g, &f));
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

/* ----------------------------------------------------------------- waiting */

enum sp_err
sp_sql_wait(struct sp_sqleg *g, short events, int64_t deadline)
{
	int64_t left = (deadline - sp_boot_us()) / 1000;
	struct pollfd pf[3] = {{.fd = g->rec.fd, .events = POLLIN},
	    {.fd = events == 0 ? -1 : g->tcp, .events = events},
	    {.fd = g->broker.fd, .events = 0}};
	enum sp_err e = sp_stream_flush(&g->rec);

	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	if (g->over)
		return SP_ERR_EOF;
	if (left <= 0)
		return SP_ERR_TIMEOUT;
	if (sp_stream_pending(&g->rec) > 0)
		pf[0].events |= POLLOUT;
	if (poll(pf, 3, left > 600000 ? 600000 : (int)left) < 0 && errno != EINTR)
		return SP_ERR_IO;
	/* Without a broker the recorder decides what follows. */
	if ((pf[2].revents & (POLLHUP | POLLERR)) != 0)
		sp_link_fini(&g->broker);
	return sp_user_frames(g);
}

enum sp_err
sp_user_need(struct sp_sqleg *g, size_t n, int64_t deadline)
{
	while (g->chan == 0 || g->near.len < n) {
		if (g->over || g->user_eof)
			return SP_ERR_EOF;
		SP_TRY(sp_sql_wait(g, 0, deadline));
	}
	return SP_OK;
}

enum sp_err
sp_user_put(struct sp_sqleg *g, struct sp_span s)
{
	SP_ASSERT(s.n <= g->out_credit);
	while (s.n > 0) {
		size_t n = s.n > SP_FRAME_PAYLOAD_MAX ? SP_FRAME_PAYLOAD_MAX : s.n;

		SP_TRY(sp_stream_put(&g->rec, SP_FRAME_DATA, 1, g->chan,
		    sp_span_of(s.p, n)));
		g->out_credit -= (uint32_t)n;
		s = sp_span_of(s.p + n, s.n - n);
	}
	return SP_OK;
}

void
sp_user_took(struct sp_sqleg *g, size_t n)
{
	sp_buf_consume(&g->near, n);
	g->in_done += (uint32_t)n;
	if (g->in_done < CREDIT_STEP)
		return;
	if (sp_stream_put_u32(&g->rec, SP_FRAME_CREDIT, g->chan, g->in_done) !=
	    SP_OK)
		g->over = true;
	g->in_credit += g->in_done;
	g->in_done = 0;
}

void
sp_user_close(struct sp_sqleg *g)
{
	int64_t end = sp_boot_us() + CLOSE_WAIT_US;

	if (g->chan == 0 || g->close_sent || g->over)
		return;
	g->close_sent = true;
	if (!g->eof_sent && sp_stream_put(&g->rec, SP_FRAME_EOF, 0, g->chan,
	    sp_span_of(NULL, 0)) != SP_OK)
		return;
	if (sp_stream_put(&g->rec, SP_FRAME_CLOSE, 0, g->chan,
	    sp_span_of(NULL, 0)) != SP_OK)
		return;
	/* The user's side closes when it has read all of it. */
	while (!g->user_closed && sp_sql_wait(g, 0, end) == SP_OK)
		sp_user_took(g, g->near.len);
}

/* ------------------------------------------------------------- the broker */

void
sp_sql_failed(struct sp_sqleg *g, uint8_t code, const char *text)
{
	struct sp_msg_egr_failed m = {.code = code};
	char safe[400];

	memcpy(m.session, g->session, 16);
	m.text = sp_span_str(sp_vis(safe, sizeof(safe), sp_span_str(text)));
	sp_log(SP_WARN, "egress_failed", g->session, "code=%u text=\"%s\"", code,
	    safe);
	if (g->broker.fd >= 0 &&
	    sp_send_egr_failed(&g->broker, 0, &m, NULL) != SP_OK)
		sp_log(SP_ERROR, "broker_gone", g->session, "");
}

enum sp_err
sp_sql_tell(struct sp_sqleg *g, const char *what, const char *detail,
    uint32_t pid, uint32_t key)
{
	struct sp_msg_sql_event m = {.what = sp_span_str(what), .pid = pid,
	    .key = key, .bound = g->is_bound};
	char safe[500];

	if (g->broker.fd < 0)
		return SP_OK;
	memcpy(m.session, g->session, 16);
	m.detail = sp_span_str(sp_vis(safe, sizeof(safe), sp_span_str(detail)));
	return sp_send_sql_event(&g->broker, 0, &m, NULL);
}

/* --------------------------------------------------------------- databases */

static bool
is_listed(const char *list, struct sp_span name)
{
	while (*list != '\0') {
		size_t n = strcspn(list, " ");

		if (n == name.n && memcmp(list, name.p, n) == 0)
			return true;
		list += n + (list[n] == ' ');
	}
	return false;
}

bool
sp_sql_database(struct sp_sqleg *g, struct sp_span wish, struct sp_span user)
{
	size_t n = strcspn(g->databases, " ");

	/* Without a name a client says that of its user, which is nobody here. */
	if (wish.n == 0 || (g->databases[0] != '\0' && sp_span_eq(wish, user) &&
	    !is_listed(g->databases, wish)))
		wish = n > 0 ? sp_span_of(g->databases, n) : sp_span_str(g->user);
	if (g->databases[0] != '\0' && !is_listed(g->databases, wish))
		return false;
	return sp_span_cstr(wish, g->database, sizeof(g->database)) == SP_OK;
}
