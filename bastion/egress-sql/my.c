/* SPDX-License-Identifier: Apache-2.0 */
/* MariaDB, both ways. The server speaks first, and what client and server can do
 * is agreed on before it is known who logs in: so the client hears the server's
 * own greeting, without what does not pass here. */
#include <stdio.h>
#include <string.h>

#include "bastion/egress-sql/sqleg.h"

#define CAP_DB 0x8u
#define CAP_COMPRESS 0x20u
#define CAP_LOCAL_FILES 0x80u	/* the server could ask the client for any file */
#define CAP_41 0x200u
#define CAP_SSL 0x800u
#define CAP_SECURE 0x8000u
#define CAP_PLUGIN 0x80000u
#define CAP_ATTRS 0x100000u
#define CAP_LENENC 0x200000u
#define CAP_ZSTD 0x4000000u
#define NOT_HERE (CAP_SSL | CAP_COMPRESS | CAP_LOCAL_FILES | CAP_ATTRS |      \
	CAP_LENENC | CAP_ZSTD)
#define PACKET_MAX 65535
#define COM_CHANGE_USER 0x11
#define TURNS_MAX 8

struct greeting {
	char version[128];
	uint32_t thread, caps, more;
	uint8_t charset;
	uint16_t status;
};
struct wish {			/* of the client */
	uint32_t caps, packet_max, more;
	uint8_t charset;
	struct sp_span user, db;
};
static struct greeting server;

static enum sp_err
put_packet(struct sp_buf *out, uint8_t seq, struct sp_span body)
{
	SP_TRY(sp_buf_put_u16(out, (uint16_t)body.n));
	SP_TRY(sp_buf_put_u8(out, 0));
	SP_TRY(sp_buf_put_u8(out, seq));
	return sp_buf_put(out, body.p, body.n);
}

/* The body of a whole packet at the front of `in`: SP_ERR_AGAIN says how much is
 * needed in *need. */
static enum sp_err
packet(struct sp_span in, uint8_t *seq, struct sp_span *body, size_t *need)
{
	size_t n;

	*need = 4;
	if (in.n < 4)
		return SP_ERR_AGAIN;
	n = (size_t)in.p[0] | (size_t)in.p[1] << 8 | (size_t)in.p[2] << 16;
	if (n == 0 || n > PACKET_MAX)
		return SP_ERR_PROTO;
	*need = 4 + n;
	if (in.n < *need)
		return SP_ERR_AGAIN;
	*seq = in.p[3];
	*body = sp_span_of(in.p + 4, n);
	return SP_OK;
}

static enum sp_err
far_packet(struct sp_sqleg *g, uint8_t *seq, struct sp_span *body, size_t *used,
    int64_t deadline)
{
	enum sp_err e;

	while ((e = packet(sp_buf_span(&g->far), seq, body, used)) == SP_ERR_AGAIN)
		SP_TRY(sp_far_need(g, *used, deadline));
	return e;
}

static enum sp_err
text_of(struct sp_span *s, struct sp_span *out)
{
	const uint8_t *end = s->n == 0 ? NULL : memchr(s->p, 0, s->n);

	if (end == NULL)
		return SP_ERR_PROTO;
	*out = sp_span_of(s->p, (size_t)(end - s->p));
	*s = sp_span_of(end + 1, s->n - out->n - 1);
	return SP_OK;
}

/* ---------------------------------------------------------------- greeting */

static enum sp_err
read_greeting(struct sp_span s)
{
	struct sp_span version;
	const uint8_t *skip, *more;
	uint16_t low, high;
	uint8_t v;

	SP_TRY(sp_get_u8(&s, &v));
	if (v != 10)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(text_of(&s, &version));
	if (sp_span_cstr(version, server.version, sizeof(server.version)) != SP_OK)
		return SP_ERR_PROTO;
	SP_TRY(sp_get_u32(&s, &server.thread));
	SP_TRY(sp_get(&s, 9, &skip));
	SP_TRY(sp_get_u16(&s, &low));
	SP_TRY(sp_get_u8(&s, &server.charset));
	SP_TRY(sp_get_u16(&s, &server.status));
	SP_TRY(sp_get_u16(&s, &high));
	SP_TRY(sp_get(&s, 7, &skip));
	SP_TRY(sp_get(&s, 4, &more));
	server.caps = (uint32_t)high << 16 | low;
	server.more = (uint32_t)more[0] | (uint32_t)more[1] << 8 |
	    (uint32_t)more[2] << 16 | (uint32_t)more[3] << 24;
	return (server.caps & CAP_SSL) != 0 && (server.caps & CAP_PLUGIN) != 0 ?
	    SP_OK : SP_ERR_UNSUPPORTED;
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
	SP_TRY(read_greeting(body));
	sp_buf_consume(&g->far, used);
	return g->far.len == 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
greet(struct sp_sqleg *g)
{
	static const char nonce[] = "no-password-is-asked";
	uint32_t caps = server.caps & ~NOT_HERE;
	SP_BUF_AUTO b = {.max = 512}, out = {.max = 600};

	SP_TRY(sp_buf_put_u8(&b, 10));
	SP_TRY(sp_buf_put(&b, server.version, strlen(server.version) + 1));
	SP_TRY(sp_buf_put_u32(&b, server.thread));
	SP_TRY(sp_buf_put(&b, nonce, 8));
	SP_TRY(sp_buf_put_u8(&b, 0));
	SP_TRY(sp_buf_put_u16(&b, (uint16_t)caps));
	SP_TRY(sp_buf_put_u8(&b, server.charset));
	SP_TRY(sp_buf_put_u16(&b, server.status));
	SP_TRY(sp_buf_put_u16(&b, (uint16_t)(caps >> 16)));
	SP_TRY(sp_buf_put_u8(&b, 21));
	SP_TRY(sp_buf_put(&b, "\0\0\0\0\0\0", 6));
	SP_TRY(sp_buf_put_u32(&b, server.more));
	SP_TRY(sp_buf_put(&b, nonce + 8, 13));
	SP_TRY(sp_buf_put(&b, "mysql_native_password", 22));
	SP_TRY(put_packet(&out, 0, sp_buf_span(&b)));
	return sp_user_put(g, sp_buf_span(&out));
}

/* -------------------------------------------------------------- the client */

static enum sp_err
skip_auth(struct sp_span *s)
{
	const uint8_t *skip;
	uint8_t n;

	SP_TRY(sp_get_u8(s, &n));
	return sp_get(s, n, &skip);
}

static enum sp_err
read_wish(struct sp_span s, struct wish *w)
{
	const uint8_t *skip;

	SP_TRY(sp_get_u32(&s, &w->caps));
	SP_TRY(sp_get_u32(&s, &w->packet_max));
	SP_TRY(sp_get_u8(&s, &w->charset));
	SP_TRY(sp_get(&s, 19, &skip));
	SP_TRY(sp_get_u32(&s, &w->more));
	if ((w->caps & (CAP_41 | CAP_SECURE)) != (CAP_41 | CAP_SECURE) ||
	    (w->caps & (CAP_SSL | CAP_COMPRESS | CAP_LENENC)) != 0)
		return SP_ERR_PROTO;
	SP_TRY(text_of(&s, &w->user));
	SP_TRY(skip_auth(&s));
	if ((w->caps & CAP_DB) != 0)
		SP_TRY(text_of(&s, &w->db));
	return SP_OK;
}

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
	const struct wish *w;
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
	SP_TRY(put_packet(&out, 1, sp_buf_span(&b)));
	SP_TRY(sp_far_write(l->g, sp_buf_span(&out), l->deadline));
	SP_TRY(sp_tls_begin(l->g, l->deadline));
	if ((e = sp_tls_show_vault(l->g)) == SP_OK)
		return SP_OK;
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
	if ((l->caps & CAP_DB) != 0)
		SP_TRY(sp_buf_put(&b, l->g->database,
		    strlen(l->g->database) + 1));
	SP_TRY(sp_buf_put(&b, "client_ed25519", 15));
	SP_TRY(put_packet(&out, 2, sp_buf_span(&b)));
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

static enum sp_err
on_switch(struct login *l, uint8_t seq, struct sp_span s)
{
	SP_BUF_AUTO answer = {.max = 256}, expect = {.max = 64}, out = {.max = 300};
	struct sp_msg_sql_prove q = {.hash = 0};
	char text[200], plugin[64];

	if (text_of(&s, &q.mechanism) != SP_OK || q.mechanism.n > 32)
		return no(l->g, "the server asks for an unknown way to log in");
	if (!sp_span_is(q.mechanism, "client_ed25519") &&
	    !sp_span_is(q.mechanism, "mysql_native_password")) {
		snprintf(text, sizeof(text), "the server asks for %s, which would "
		    "want the password itself: give the account ed25519 or "
		    "mysql_native_password", sp_vis(plugin, sizeof(plugin),
		    q.mechanism));
		return no(l->g, text);
	}
	q.challenge = s;
	if (q.challenge.n == 21 || q.challenge.n == 33)
		q.challenge.n--;	/* a NUL behind it */
	if (sp_vault_prove(l->g, &q, &answer, &expect) != SP_OK)
		return no(l->g, "the vault gave no answer to the server's question");
	SP_TRY(put_packet(&out, (uint8_t)(seq + 1), sp_buf_span(&answer)));
	return sp_far_write(l->g, sp_buf_span(&out), l->deadline);
}

static enum sp_err
on_error(struct login *l, struct sp_span body)
{
	SP_BUF_AUTO out = {.max = PACKET_MAX + 8};
	char text[300];

	snprintf(l->g->said, sizeof(l->g->said), "%s", body.n > 9 ?
	    sp_vis(text, sizeof(text), sp_span_of(body.p + 9, body.n - 9)) : "?");
	SP_TRY(put_packet(&out, 2, body));
	SP_TRY(sp_user_put(l->g, sp_buf_span(&out)));
	return SP_ERR_EXISTS;
}

static enum sp_err
turns(struct login *l)
{
	bool has_answered = false;

	for (unsigned i = 0; i < TURNS_MAX; i++) {
		SP_BUF_AUTO out = {.max = PACKET_MAX + 8};
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
			SP_TRY(put_packet(&out, 2, body));
			sp_buf_consume(&l->g->far, used);
			return sp_user_put(l->g, sp_buf_span(&out));
		}
		if (body.p[0] != 0xfe || has_answered)
			return no(l->g, "the server says what does not belong into a "
			    "login");
		e = on_switch(l, seq, sp_span_of(body.p + 1, body.n - 1));
		sp_buf_consume(&l->g->far, used);
		SP_TRY(e);
		has_answered = true;
	}
	return no(l->g, "the login does not end");
}

static enum sp_err
log_in(struct sp_sqleg *g, const struct wish *w)
{
	struct login l = {.g = g, .w = w,
	    .deadline = sp_boot_us() + (int64_t)g->deadline_ms * 1000};

	l.caps = (w->caps & server.caps & ~(NOT_HERE | CAP_DB)) | CAP_SSL |
	    CAP_PLUGIN | CAP_SECURE | CAP_41 |
	    (g->database[0] != '\0' ? CAP_DB : 0);
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
	if (sp_sql_tell(g, "failed", g->said, 0, 0) != SP_OK)
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
	static uint8_t copy[PACKET_MAX];
	struct wish w = {.caps = 0};
	struct sp_span body;
	uint8_t seq = 0;
	size_t need = 0;
	enum sp_err e;

	SP_TRY(sp_user_need(g, 0, deadline));
	SP_TRY(greet(g));
	while ((e = packet(sp_buf_span(&g->near), &seq, &body, &need)) ==
	    SP_ERR_AGAIN)
		SP_TRY(sp_user_need(g, need, deadline));
	if (e == SP_OK) {
		memcpy(copy, body.p, body.n);
		body.p = copy;
		sp_user_took(g, need);
		e = seq == 1 ? read_wish(body, &w) : SP_ERR_PROTO;
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

/* COM_CHANGE_USER would make it somebody else's session: it is what begins a
 * command, which is a packet with the number 0. */
bool
sp_my_watch(struct sp_sqleg *g, struct sp_span s)
{
	while (s.n > 0) {
		size_t n;

		if (g->n_head < sizeof(g->head)) {
			g->head[g->n_head++] = s.p[0];
			s = sp_span_of(s.p + 1, s.n - 1);
			if (g->n_head < sizeof(g->head))
				continue;
			g->packet_left = (uint32_t)g->head[0] |
			    (uint32_t)g->head[1] << 8 | (uint32_t)g->head[2] << 16;
			g->is_first = g->head[3] == 0;
			if (g->packet_left == 0)
				g->n_head = 0;
			continue;
		}
		if (g->is_first && s.p[0] == COM_CHANGE_USER)
			return false;
		g->is_first = false;
		n = s.n < g->packet_left ? s.n : g->packet_left;
		g->packet_left -= (uint32_t)n;
		s = sp_span_of(s.p + n, s.n - n);
		if (g->packet_left == 0)
			g->n_head = 0;
	}
	return true;
}
