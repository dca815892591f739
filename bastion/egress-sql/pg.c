/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL, towards the server: TLS, StartupMessage, SCRAM by the vault. What
 * is not known before ReadyForQuery ends it. */
#include <stdio.h>
#include <string.h>

#include "bastion/egress-sql/sqleg.h"

#define SASL 10
#define SASL_CONTINUE 11
#define SASL_FINAL 12
#define MESSAGES_MAX 500	/* before ReadyForQuery */

enum sp_err
sp_pg_reach(struct sp_sqleg *g, int64_t deadline)
{
	SP_BUF_AUTO ask = {.max = 8};
	uint8_t yes;

	SP_TRY(sp_buf_put_ssh_u32(&ask, 8));
	SP_TRY(sp_buf_put_ssh_u32(&ask, SP_PG_SSL));
	SP_TRY(sp_far_write(g, sp_buf_span(&ask), deadline));
	SP_TRY(sp_far_need(g, 1, deadline));
	yes = sp_buf_span(&g->far).p[0];
	sp_buf_consume(&g->far, 1);
	if (yes != 'S')
		return SP_ERR_UNSUPPORTED;
	return sp_tls_begin(g, deadline);
}

/* -------------------------------------------------------- our first message */

static enum sp_err
put_pair(struct sp_buf *b, struct sp_span name, struct sp_span value)
{
	SP_TRY(sp_buf_put(b, name.p, name.n));
	SP_TRY(sp_buf_put_u8(b, 0));
	SP_TRY(sp_buf_put(b, value.p, value.n));
	return sp_buf_put_u8(b, 0);
}

/* The client's wishes for its session, but never who it is, nor protocol
 * options that we would have to understand. */
static bool
may_pass(struct sp_span name)
{
	return !sp_span_is(name, "user") && !sp_span_is(name, "database") &&
	    !sp_span_is(name, "replication") &&
	    !(name.n >= 5 && memcmp(name.p, "_pq_.", 5) == 0);
}

static enum sp_err
start(struct sp_sqleg *g, struct sp_span params, int64_t deadline)
{
	SP_BUF_AUTO b = {.max = 2 * SP_PG_START_MAX}, all = {.max = 2 * SP_PG_START_MAX};
	struct sp_span name, value;

	SP_TRY(put_pair(&b, sp_span_str("user"), sp_span_str(g->user)));
	SP_TRY(put_pair(&b, sp_span_str("database"), sp_span_str(g->database)));
	while (sp_pg_param_next(&params, &name, &value) == SP_OK)
		if (may_pass(name))
			SP_TRY(put_pair(&b, name, value));
	SP_TRY(sp_buf_put_u8(&b, 0));
	SP_TRY(sp_buf_put_ssh_u32(&all, (uint32_t)b.len + 8));
	SP_TRY(sp_buf_put_ssh_u32(&all, SP_PG_STARTUP));
	SP_TRY(sp_buf_put(&all, sp_buf_span(&b).p, b.len));
	return sp_far_write(g, sp_buf_span(&all), deadline);
}

/* ------------------------------------------------------------------- SCRAM */

struct login {
	struct sp_sqleg *g;
	int64_t deadline;
	enum { AT_START, AT_FIRST, AT_FINAL, AT_DONE, AT_OK, AT_READY } at;
	struct sp_buf expect;	/* the server's signature */
	uint32_t pid, key;
};

static enum sp_err
no(struct login *l, const char *why)
{
	snprintf(l->g->said, sizeof(l->g->said), "%s", why);
	return SP_ERR_DENIED;
}

static enum sp_err
choose(struct login *l, struct sp_span names, struct sp_msg_sql_prove *q)
{
	bool plus = false, plain = false;

	while (names.n > 0 && names.p[0] != 0) {
		const uint8_t *end = memchr(names.p, 0, names.n);
		struct sp_span one;

		if (end == NULL)
			return no(l, "the server's list of mechanisms is broken");
		one = sp_span_of(names.p, (size_t)(end - names.p));
		plus = plus || sp_span_is(one, "SCRAM-SHA-256-PLUS");
		plain = plain || sp_span_is(one, "SCRAM-SHA-256");
		names = sp_span_of(end + 1, names.n - one.n - 1);
	}
	if (plus && l->g->hash_bits != 0) {
		q->mechanism = sp_span_str("SCRAM-SHA-256-PLUS");
		q->hash = (uint16_t)l->g->hash_bits;
		l->g->is_bound = true;
		return SP_OK;
	}
	if (!plain)
		return no(l, "the server knows no SCRAM-SHA-256");
	if (!l->g->may_be_unbound)
		return no(l, "the server offers no channel binding "
		    "(SCRAM-SHA-256-PLUS), and this target does not allow to go "
		    "without: target set NAME --channel-binding optional");
	q->mechanism = sp_span_str("SCRAM-SHA-256");
	return SP_OK;
}

static enum sp_err
on_sasl(struct login *l, struct sp_span names)
{
	SP_BUF_AUTO first = {.max = 2048}, body = {.max = 4096}, out = {.max = 4096};
	struct sp_msg_sql_prove q = {.hash = 0};

	if (l->at != AT_START)
		return no(l, "the server asks twice for a login");
	SP_TRY(choose(l, names, &q));
	SP_TRY(sp_vault_prove(l->g, &q, &first, &l->expect));
	SP_TRY(sp_buf_put(&body, q.mechanism.p, q.mechanism.n));
	SP_TRY(sp_buf_put_u8(&body, 0));
	SP_TRY(sp_buf_put_ssh_string(&body, sp_buf_span(&first)));
	SP_TRY(sp_pg_put(&out, 'p', sp_buf_span(&body)));
	l->at = AT_FIRST;
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

static enum sp_err
on_continue(struct login *l, struct sp_span challenge)
{
	SP_BUF_AUTO final = {.max = 4096}, out = {.max = 4200};
	struct sp_msg_sql_prove q = {.mechanism = sp_span_str("SCRAM-SHA-256"),
	    .challenge = challenge};
	enum sp_err e;

	if (l->at != AT_FIRST || challenge.n == 0 || challenge.n > 1024)
		return no(l, "the server's challenge comes out of turn");
	if ((e = sp_vault_prove(l->g, &q, &final, &l->expect)) != SP_OK)
		return no(l, "the vault gave no proof for what the server asks "
		    "(another salt or count than the account's)");
	SP_TRY(sp_pg_put(&out, 'p', sp_buf_span(&final)));
	l->at = AT_FINAL;
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

/* The server proves that it knows the verifier as well. */
static enum sp_err
on_final(struct login *l, struct sp_span body)
{
	SP_BUF_AUTO want = {.max = 128};

	SP_TRY(sp_buf_printf(&want, "v="));
	SP_TRY(sp_base64(&want, sp_buf_span(&l->expect)));
	if (l->at != AT_FINAL || l->expect.len != 32 || want.len != body.n ||
	    CRYPTO_memcmp(sp_buf_span(&want).p, body.p, body.n) != 0)
		return no(l, "the server could not prove that it knows the account");
	l->at = AT_DONE;
	return SP_OK;
}

static enum sp_err
on_auth(struct login *l, const struct sp_pg_msg *m)
{
	struct sp_span body = m->body;
	SP_BUF_AUTO out = {.max = 64};
	uint32_t what;

	SP_TRY(sp_get_ssh_u32(&body, &what));
	switch (what) {
	case SASL:
		return on_sasl(l, body);
	case SASL_CONTINUE:
		return on_continue(l, body);
	case SASL_FINAL:
		return on_final(l, body);
	case 0:
		/* Only after both have proved themselves. */
		if (l->at != AT_DONE || body.n != 0)
			return no(l, "the server lets in without a proof: refused");
		l->at = AT_OK;
		SP_TRY(sp_pg_put(&out, 'R', m->body));
		return sp_user_put(l->g, sp_buf_span(&out));
	case 3:
	case 5:
		return no(l, "the server asks for the password itself (password or "
		    "md5 in its pg_hba.conf): it must be scram-sha-256");
	default:
		return no(l, "the server asks for a login of another kind than "
		    "SCRAM-SHA-256");
	}
}

static enum sp_err
pass(struct login *l, const struct sp_pg_msg *m)
{
	SP_BUF_AUTO out = {.max = SP_PG_MSG_MAX + 16};

	if (l->at != AT_OK)
		return no(l, "the server goes on without a login");
	SP_TRY(sp_pg_put(&out, m->type, m->body));
	if (out.len > l->g->out_credit)
		return no(l, "the server says too much before it is ready");
	return sp_user_put(l->g, sp_buf_span(&out));
}

static enum sp_err
on_error(struct login *l, const struct sp_pg_msg *m)
{
	char text[300], code[16];
	SP_BUF_AUTO out = {.max = SP_PG_MSG_MAX + 16};

	snprintf(l->g->said, sizeof(l->g->said), "%s %s",
	    sp_pg_field(m->body, 'C', code, sizeof(code)),
	    sp_pg_field(m->body, 'M', text, sizeof(text)));
	/* In the server's own words. */
	SP_TRY(sp_pg_put(&out, 'E', m->body));
	if (out.len <= l->g->out_credit)
		SP_TRY(sp_user_put(l->g, sp_buf_span(&out)));
	return SP_ERR_EXISTS;
}

static enum sp_err
take(struct login *l, const struct sp_pg_msg *m)
{
	struct sp_span body = m->body;

	switch (m->type) {
	case 'R':
		return on_auth(l, m);
	case 'E':
		return on_error(l, m);
	case 'N':
		/* Before AuthenticationOk a notice makes clients give up. */
		return l->at == AT_OK ? pass(l, m) : SP_OK;
	case 'K':
		SP_TRY(sp_get_ssh_u32(&body, &l->pid));
		SP_TRY(sp_get_ssh_u32(&body, &l->key));
		return pass(l, m);
	case 'S':
		return pass(l, m);
	case 'Z':
		SP_TRY(pass(l, m));
		l->at = AT_READY;
		return SP_OK;
	default:
		return no(l, "the server says what does not belong into a login");
	}
}

static enum sp_err
next(struct login *l, struct sp_pg_msg *m, size_t *used)
{
	enum sp_err e;
	uint32_t n = 5;

	while ((e = sp_pg_msg_read(sp_buf_span(&l->g->far), m, used)) ==
	    SP_ERR_AGAIN) {
		if (l->g->far.len >= 5) {
			struct sp_span s = sp_buf_span(&l->g->far);

			s = sp_span_of(s.p + 1, 4);
			SP_TRY(sp_get_ssh_u32(&s, &n));
			n++;
		}
		e = sp_far_need(l->g, n, l->deadline);
		if (e == SP_ERR_EOF && !l->g->over)
			return no(l, "the server hung up during the login");
		SP_TRY(e);
	}
	return e == SP_OK ? e : no(l, "the server does not speak PostgreSQL");
}

enum sp_err
sp_pg_login(struct sp_sqleg *g, struct sp_span params)
{
	struct login l = {.g = g, .expect = {.max = 64},
	    .deadline = sp_boot_us() + (int64_t)g->deadline_ms * 1000};
	enum sp_err e = start(g, params, l.deadline);

	for (unsigned i = 0; e == SP_OK && l.at != AT_READY; i++) {
		struct sp_pg_msg m;
		size_t used = 0;

		e = i >= MESSAGES_MAX ? no(&l, "the login does not end") :
		    next(&l, &m, &used);
		if (e == SP_OK)
			e = take(&l, &m);
		sp_buf_consume(&g->far, used);
	}
	sp_buf_fini(&l.expect);
	if (e == SP_OK)
		e = sp_sql_tell(g, "login", g->database, l.pid, l.key);
	return e;
}
