/* SPDX-License-Identifier: Apache-2.0 */
/* MariaDB, both ways. The server speaks first, and what client and server can do
 * is agreed on before it is known who logs in: so the client hears the server's
 * own greeting, without what does not pass here. */
#include <stdio.h>
#include <string.h>

#include "bastion/egress-sql/sqleg.h"
#include "common/mywire.h"

/* What does not pass here: what we do ourselves (TLS), what would hide the
 * commands (compression), and files of the client's. */
#define NOT_HERE (SP_MY_CAP_SSL | SP_MY_CAP_COMPRESS | SP_MY_CAP_LOCAL_FILES |  \
	SP_MY_CAP_ATTRS | SP_MY_CAP_LENENC | SP_MY_CAP_ZSTD)
#define TURNS_MAX 8

static struct sp_my_greeting server;

static enum sp_err
far_packet(struct sp_sqleg *g, uint8_t *seq, struct sp_span *body, size_t *used,
    int64_t deadline)
{
	enum sp_err e;

	while ((e = sp_my_packet(sp_buf_span(&g->far), seq, body, used)) ==
	    SP_ERR_AGAIN)
		SP_TRY(sp_far_need(g, *used, deadline));
	return e;
}

enum sp_err
sp_my_reach(struct sp_sqleg *g, int64_t deadline)
{
	struct sp_span body;
	uint8_t seq = 0;
	size_t used = 0;

	SP_TRY(far_packet(g, &seq, &body, &used, deadline));
	if (seq != 0)
		return SP_ERR_PROTO;
	SP_TRY(sp_my_greeting_read(body, &server));
	sp_buf_consume(&g->far, used);
	return g->far.len == 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
greet(struct sp_sqleg *g)
{
	SP_BUF_AUTO out = {.max = 600};

	SP_TRY(sp_my_greeting_put(&out, &server, server.caps & ~NOT_HERE));
	return sp_user_put(g, sp_buf_span(&out));
}

/* -------------------------------------------------------------- the client */

static void
refuse(struct sp_sqleg *g, uint8_t seq, uint16_t code, const char *state,
    const char *text)
{
	SP_BUF_AUTO out = {.max = 2048};

	if (sp_my_error(&out, seq, code, state, sp_span_str(text)) == SP_OK &&
	    sp_user_put(g, sp_buf_span(&out)) != SP_OK)
		g->over = true;
}

/* ------------------------------------------------------ login at the server */

struct login {
	struct sp_sqleg *g;
	const struct sp_my_wish *w;
	int64_t deadline;
	uint32_t caps;
};

static enum sp_err
no(struct sp_sqleg *g, const char *why)
{
	snprintf(g->said, sizeof(g->said), "%s", why);
	return SP_ERR_DENIED;
}

static enum sp_err
put_head(const struct login *l, struct sp_buf *b)
{
	static const uint8_t zero[19];

	SP_TRY(sp_buf_put_u32(b, l->caps));
	SP_TRY(sp_buf_put_u32(b, l->w->packet_max));
	SP_TRY(sp_buf_put_u8(b, l->w->charset));
	SP_TRY(sp_buf_put(b, zero, sizeof(zero)));
	return sp_buf_put_u32(b, l->w->more & server.more);
}

static enum sp_err
encrypt(struct login *l)
{
	SP_BUF_AUTO b = {.max = 64}, out = {.max = 80};
	enum sp_err e;

	SP_TRY(put_head(l, &b));
	SP_TRY(sp_my_put(&out, 1, sp_buf_span(&b)));
	SP_TRY(sp_far_write(l->g, sp_buf_span(&out), l->deadline));
	SP_TRY(sp_tls_begin(l->g, l->deadline));
	if ((e = sp_tls_show_vault(l->g)) == SP_OK)
		return SP_OK;
	l->g->is_foreign = e == SP_ERR_DENIED;
	return no(l->g, e == SP_ERR_DENIED ? "the server's certificate is not the "
	    "pinned one; no credential was used" : "the vault did not accept the "
	    "server");
}

/* Without an answer yet: the server asks by its own plugin. */
static enum sp_err
introduce(struct login *l)
{
	SP_BUF_AUTO b = {.max = 512}, out = {.max = 600};

	SP_TRY(put_head(l, &b));
	SP_TRY(sp_buf_put(&b, l->g->user, strlen(l->g->user) + 1));
	SP_TRY(sp_buf_put_u8(&b, 0));
	if ((l->caps & SP_MY_CAP_DB) != 0)
		SP_TRY(sp_buf_put(&b, l->g->database,
		    strlen(l->g->database) + 1));
	SP_TRY(sp_buf_put(&b, "client_ed25519", 15));
	SP_TRY(sp_my_put(&out, 2, sp_buf_span(&b)));
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

static enum sp_err
on_switch(struct login *l, uint8_t seq, struct sp_span body)
{
	SP_BUF_AUTO answer = {.max = 256}, expect = {.max = 64}, out = {.max = 300};
	struct sp_msg_sql_prove q = {.hash = 0};
	char text[200], plugin[64];

	if (sp_my_switch_read(body, &q.mechanism, &q.challenge) != SP_OK ||
	    q.mechanism.n > 32 || q.challenge.n > 1024)
		return no(l->g, "the server asks for an unknown way to log in");
	if (!sp_span_is(q.mechanism, "client_ed25519") &&
	    !sp_span_is(q.mechanism, "mysql_native_password")) {
		snprintf(text, sizeof(text), "the server asks for %s, which would "
		    "want the password itself: give the account ed25519 or "
		    "mysql_native_password", sp_vis(plugin, sizeof(plugin),
		    q.mechanism));
		return no(l->g, text);
	}
	if (sp_vault_prove(l->g, &q, &answer, &expect) != SP_OK)
		return no(l->g, "the vault gave no answer to the server's question");
	SP_TRY(sp_my_put(&out, (uint8_t)(seq + 1), sp_buf_span(&answer)));
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

static enum sp_err
on_error(struct login *l, struct sp_span body)
{
	SP_BUF_AUTO out = {.max = SP_MY_PACKET_MAX + 8};
	char text[300];

	snprintf(l->g->said, sizeof(l->g->said), "%s", body.n > 9 ?
	    sp_vis(text, sizeof(text), sp_span_of(body.p + 9, body.n - 9)) : "?");
	SP_TRY(sp_my_put(&out, 2, body));
	SP_TRY(sp_user_put(l->g, sp_buf_span(&out)));
	return SP_ERR_EXISTS;
}

static enum sp_err
turns(struct login *l)
{
	bool has_answered = false;

	for (unsigned i = 0; i < TURNS_MAX; i++) {
		SP_BUF_AUTO out = {.max = SP_MY_PACKET_MAX + 8};
		struct sp_span body;
		uint8_t seq = 0;
		size_t used = 0;
		enum sp_err e;

		SP_TRY(far_packet(l->g, &seq, &body, &used, l->deadline));
		if (body.p[0] == 0xff)
			return on_error(l, body);
		if (body.p[0] == 0) {
			if (!has_answered)
				return no(l->g, "the server lets in without a proof: "
				    "refused");
			SP_TRY(sp_my_put(&out, 2, body));
			sp_buf_consume(&l->g->far, used);
			return sp_user_put(l->g, sp_buf_span(&out));
		}
		if (body.p[0] != 0xfe || has_answered)
			return no(l->g, "the server says what does not belong into a "
			    "login");
		e = on_switch(l, seq, body);
		sp_buf_consume(&l->g->far, used);
		SP_TRY(e);
		has_answered = true;
	}
	return no(l->g, "the login does not end");
}

static enum sp_err
log_in(struct sp_sqleg *g, const struct sp_my_wish *w)
{
	struct login l = {.g = g, .w = w,
	    .deadline = sp_boot_us() + (int64_t)g->deadline_ms * 1000};

	/* A client that is not MariaDB's says so; a server never does. */
	l.caps = (w->caps & (server.caps | SP_MY_CAP_MYSQL) &
	    ~(NOT_HERE | SP_MY_CAP_DB)) | SP_MY_CAP_SSL | SP_MY_CAP_PLUGIN |
	    SP_MY_CAP_SECURE | SP_MY_CAP_41 |
	    (g->database[0] != '\0' ? SP_MY_CAP_DB : 0);
	SP_TRY(encrypt(&l));
	SP_TRY(introduce(&l));
	SP_TRY(turns(&l));
	return sp_sql_tell(g, "login", g->database, server.thread, 0);
}

static void
login_failed(struct sp_sqleg *g, enum sp_err e)
{
	char text[600];

	if (g->said[0] == '\0')
		snprintf(g->said, sizeof(g->said), "%s", e == SP_ERR_TIMEOUT ?
		    "the server did not answer in time" : sp_err_text(e));
	if (sp_sql_tell(g, g->is_foreign ? "hostkey" : "failed", g->said, 0,
	    0) != SP_OK)
		sp_log(SP_ERROR, "broker_gone", g->session, "");
	if (e == SP_ERR_EXISTS)
		return;		/* the server has said it itself */
	snprintf(text, sizeof(text), "Sallyport: the login at the database failed: "
	    "%s. Tell an administrator of the bastion.", g->said);
	refuse(g, 2, 1045, "28000", text);
}

enum sp_err
sp_my_serve(struct sp_sqleg *g)
{
	int64_t deadline = sp_boot_us() + SP_SQL_USER_WAIT_US;
	static uint8_t copy[SP_MY_PACKET_MAX];
	struct sp_my_wish w = {.caps = 0};
	struct sp_span body;
	uint8_t seq = 0;
	size_t need = 0;
	enum sp_err e;

	SP_TRY(sp_user_need(g, 0, deadline));
	SP_TRY(greet(g));
	while ((e = sp_my_packet(sp_buf_span(&g->near), &seq, &body, &need)) ==
	    SP_ERR_AGAIN)
		SP_TRY(sp_user_need(g, need, deadline));
	if (e == SP_OK) {
		memcpy(copy, body.p, body.n);
		body.p = copy;
		sp_user_took(g, need);
		e = seq == 1 ? sp_my_wish_read(body, server.caps & ~NOT_HERE,
		    &w) : SP_ERR_PROTO;
	}
	if (e != SP_OK) {
		refuse(g, 2, 1043, "08S01", "Sallyport: this client's greeting is "
		    "not understood; it must not ask for TLS here, the way is "
		    "encrypted by SSH.");
		return e;
	}
	if (w.db.n == 0 && g->databases[0] == '\0') {
		g->database[0] = '\0';
	} else if (!sp_sql_database(g, w.db, w.user)) {
		refuse(g, 2, 1044, "42000", "Sallyport: this database is not among "
		    "those that this target allows.");
		return SP_ERR_DENIED;
	}
	e = log_in(g, &w);
	if (e != SP_OK && !g->over)
		login_failed(g, e);
	g->watch = true;
	return e;
}
