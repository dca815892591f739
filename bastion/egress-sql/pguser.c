/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL, towards the client: what it asks first, and what it is told. */
#include <stdio.h>
#include <string.h>

#include "bastion/egress-sql/sqleg.h"

#define BROKER_WAIT_MS 10000
#define FIRST_MAX 4	/* SSLRequest and GSSENCRequest, once each, and a bit */

void
sp_pg_refuse(struct sp_sqleg *g, const char *sqlstate, const char *text,
    const char *hint)
{
	SP_BUF_AUTO out = {.max = 8192};

	if (sp_pg_fatal(&out, sqlstate, sp_span_str(text), hint) == SP_OK &&
	    g->chan != 0 && out.len <= g->out_credit &&
	    sp_user_put(g, sp_buf_span(&out)) != SP_OK)
		g->over = true;
}

/* What it was read from is kept: near moves when more comes. */
static enum sp_err
keep(struct sp_sqleg *g, struct sp_pg_start *s, size_t used)
{
	static uint8_t copy[SP_PG_START_MAX];

	SP_ASSERT(used <= sizeof(copy));
	memcpy(copy, sp_buf_span(&g->near).p, used);
	sp_user_took(g, used);
	return sp_pg_start_read(sp_span_of(copy, used), s, &used);
}

/* The client's first packet that is not a question about encryption. */
static enum sp_err
first(struct sp_sqleg *g, struct sp_pg_start *s)
{
	int64_t deadline = sp_boot_us() + SP_SQL_USER_WAIT_US;
	size_t used = 0;
	enum sp_err e;

	for (unsigned i = 0; i < FIRST_MAX;) {
		e = sp_pg_start_read(sp_buf_span(&g->near), s, &used);
		if (e == SP_ERR_AGAIN) {
			SP_TRY(sp_user_need(g, g->near.len + 1, deadline));
			continue;
		}
		SP_TRY(e);
		if (s->what != SP_PG_SSL && s->what != SP_PG_GSS)
			return keep(g, s, used);
		/* The way here is encrypted by SSH. What stands behind the
		 * question was sent before the answer: nobody does that. */
		if (g->near.len != used)
			return SP_ERR_PROTO;
		sp_user_took(g, used);
		SP_TRY(sp_user_put(g, sp_span_str("N")));
		i++;
	}
	return SP_ERR_PROTO;
}

/* This very connection has not logged in: it can carry the cancel. */
static enum sp_err
cancel(struct sp_sqleg *g, const struct sp_pg_start *s)
{
	struct sp_msg_sql_cancel m = {.pid = s->pid, .key = s->key};
	struct sp_msg_sql_cancel_r r;
	SP_BUF_AUTO out = {.max = 16};
	struct sp_packet p;

	memcpy(m.session, g->session, 16);
	SP_TRY(sp_send_sql_cancel(&g->broker, 0, &m, NULL));
	SP_TRY(sp_link_wait(&g->broker, &p, BROKER_WAIT_MS));
	sp_packet_close_fds(&p);
	if (p.type != SP_MSG_sql_cancel_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_sql_cancel_r(p.body, &r));
	if (r.ok != 1)
		return SP_OK;	/* as a server that knows no such key */
	SP_TRY(sp_buf_put_ssh_u32(&out, 16));
	SP_TRY(sp_buf_put_ssh_u32(&out, SP_PG_CANCEL));
	SP_TRY(sp_buf_put_ssh_u32(&out, s->pid));
	SP_TRY(sp_buf_put_ssh_u32(&out, s->key));
	SP_TRY(sp_far_write(g, sp_buf_span(&out),
	    sp_boot_us() + SP_SQL_USER_WAIT_US));
	/* The server hangs up when it has done it; then the client may know. */
	while (!g->far_over && sp_far_need(g, g->far.len + 1,
	    sp_boot_us() + SP_SQL_USER_WAIT_US) == SP_OK)
		;
	return SP_OK;
}

static enum sp_err
look_at(struct sp_sqleg *g, const struct sp_pg_start *s)
{
	struct sp_span params = s->params, name, value, user = {0}, db = {0};
	bool replication = false;

	while (sp_pg_param_next(&params, &name, &value) == SP_OK) {
		if (sp_span_is(name, "user"))
			user = value;
		else if (sp_span_is(name, "database"))
			db = value;
		else if (sp_span_is(name, "replication"))
			replication = !sp_span_is(value, "false") &&
			    !sp_span_is(value, "off") && !sp_span_is(value, "0");
	}
	if (replication) {
		sp_pg_refuse(g, "28000", "Sallyport: replication connections do not "
		    "pass the bastion.", "");
		return SP_ERR_DENIED;
	}
	if (sp_sql_database(g, db, user))
		return SP_OK;
	sp_pg_refuse(g, "3D000", "Sallyport: this database is not among those that "
	    "this target allows.", "An administrator lists them: target set NAME "
	    "--database NAME");
	return SP_ERR_DENIED;
}

/* Newer clients ask for a later protocol or options of it: they hear what there
 * is (NegotiateProtocolVersion). */
static enum sp_err
negotiate(struct sp_sqleg *g, const struct sp_pg_start *s)
{
	SP_BUF_AUTO b = {.max = SP_PG_START_MAX + 64}, out = {.max = 2 * SP_PG_START_MAX};
	SP_BUF_AUTO names = {.max = SP_PG_START_MAX};
	struct sp_span params = s->params, name, value;
	uint32_t n = 0;

	while (sp_pg_param_next(&params, &name, &value) == SP_OK)
		if (name.n >= 5 && memcmp(name.p, "_pq_.", 5) == 0) {
			n++;
			SP_TRY(sp_buf_put(&names, name.p, name.n));
			SP_TRY(sp_buf_put_u8(&names, 0));
		}
	if (n == 0 && s->minor == 0)
		return SP_OK;
	SP_TRY(sp_buf_put_ssh_u32(&b, 0));
	SP_TRY(sp_buf_put_ssh_u32(&b, n));
	SP_TRY(sp_buf_put(&b, sp_buf_span(&names).p, names.len));
	SP_TRY(sp_pg_put(&out, 'v', sp_buf_span(&b)));
	return sp_user_put(g, sp_buf_span(&out));
}

static void
login_failed(struct sp_sqleg *g, enum sp_err e)
{
	char text[600];

	if (g->said[0] == '\0')
		snprintf(g->said, sizeof(g->said), "%s", e == SP_ERR_TIMEOUT ?
		    "the server did not answer in time" : sp_err_text(e));
	if (sp_sql_tell(g, "failed", g->said, 0, 0) != SP_OK)
		sp_log(SP_ERROR, "broker_gone", g->session, "");
	if (e == SP_ERR_EXISTS)
		return;		/* the server has said it itself */
	snprintf(text, sizeof(text), "Sallyport: the login at the database failed: "
	    "%s", g->said);
	sp_pg_refuse(g, "28000", text, "Tell an administrator of the bastion; the "
	    "audit log has the reason.");
}

enum sp_err
sp_pg_serve(struct sp_sqleg *g)
{
	struct sp_pg_start s;
	enum sp_err e = first(g, &s);

	if (e != SP_OK) {
		if (e == SP_ERR_PROTO)
			sp_pg_refuse(g, "08P01", "Sallyport: this is not a "
			    "PostgreSQL client.", "");
		return e;
	}
	if (s.what == SP_PG_CANCEL) {
		e = cancel(g, &s);
		return e == SP_OK ? SP_ERR_EOF : e;
	}
	SP_TRY(look_at(g, &s));
	SP_TRY(negotiate(g, &s));
	e = sp_pg_login(g, s.params);
	if (e != SP_OK && !g->over)
		login_failed(g, e);
	return e;
}
