/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/where.h"
#include "bastion/broker/rotate.h"
#include "bastion/broker/approval_release.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/sql.h"
#include "common/kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The lease is the right to one login, now: it need not outlive it by more
 * than clocks differ. */
#define LEASE_US (5LL * 60 * 1000000)

static void
fail(struct sp_session *s, uint8_t code, const char *what, const char *why)
{
	char text[400];

	snprintf(text, sizeof(text), "%s: %s.", what, why);
	sp_session_end(s, code, text);
}

/* "algo base64" lines to SSH public key blobs, each as an SSH string. */
enum sp_err
sess_host_keys(struct sp_buf *out, const char *lines)
{
	while (*lines != '\0') {
		size_t n = strcspn(lines, "\n");
		const char *b64 = memchr(lines, ' ', n);
		SP_BUF_AUTO blob = {.max = 4096};

		if (b64 != NULL) {
			size_t len = strcspn(++b64, " \r\n");

			SP_TRY(sp_unbase64(&blob, sp_span_of(b64, len)));
			SP_TRY(sp_buf_put_ssh_string(out, sp_buf_span(&blob)));
		} else if (n > 0) {
			return SP_ERR_SYNTAX;
		}
		lines += n + (lines[n] == '\n');
	}
	return SP_OK;
}

/* ------------------------------------------------------------- the secret's row */

struct secret_op {
	struct sess_leg *leg;
	void (*next)(struct sp_session *s);
};

static void need_secret(struct sp_session *s, size_t i,
    void (*next)(struct sp_session *));

static void
got_signed(void *arg, enum sp_err e, struct sp_span challenge,
    struct sp_span approvals)
{
	struct secret_op *o = arg;
	struct sess_leg *l = o->leg;
	struct sp_session *s = l->s;

	if (e == SP_OK && (e = sp_buf_put(&l->challenge, challenge.p,
	    challenge.n)) == SP_OK)
		e = sp_buf_put(&l->approvals, approvals.p, approvals.n);
	if (s->state == SESS_SERIAL && e == SP_ERR_NOTFOUND)
		fail(s, SP_END_POLICY, "The credential of this account has a release "
		    "rule", "nobody has signed for it; ask anew");
	else if (s->state == SESS_SERIAL && e != SP_OK)
		fail(s, SP_END_BROKER, "The approvals cannot be loaded",
		    sp_flow_why(e));
	else if (s->state == SESS_SERIAL)
		need_secret(s, l->i + 1, o->next);
	free(o);
	sess_release(s);
}

/* true: it has a release rule, and what was signed for it is on its way. */
static bool
needs_signed(struct secret_op *o, const struct sp_rows *r)
{
	struct sess_leg *l = o->leg;
	struct sp_session *s = l->s;
	enum sp_err e = sp_rows_bytes(r, 0, "rule", &l->rule);

	if (e == SP_ERR_NOTFOUND)
		return false;
	if (e == SP_OK && l == sess_own_leg(s) && s->j.has_grant) {
		sp_release_signed_of(s->b, s->j.grant, got_signed, o);
		return true;
	}
	got_signed(o, e == SP_OK ? SP_ERR_NOTFOUND : e, (struct sp_span){0},
	    (struct sp_span){0});
	return true;
}

static void
got_secret(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct secret_op *o = arg;
	struct sess_leg *l = o->leg;
	struct sp_session *s = l->s;

	if (s->state == SESS_SERIAL && e != SP_OK) {
		fail(s, SP_END_BROKER, "The credential cannot be loaded", sp_flow_why(e));
	} else if (s->state == SESS_SERIAL && (sp_rows_n(r) != 1 ||
	    sp_rows_i64(r, 0, "kind") != l->ask->cred_kind ||
	    !sp_rows_uuid(r, 0, "owner_id", l->secret_owner) ||
	    memcmp(l->secret_owner, l->ask->target, 16) != 0 ||
	    sp_rows_bytes(r, 0, "sealed", &l->secret) != SP_OK)) {
		fail(s, SP_END_TARGET, "The credential of this account is not usable",
		    "its row is missing or was changed; an administrator must set "
		    "it again");
	} else if (s->state == SESS_SERIAL) {
		l->secret_ver = sp_rows_secret_ver(r, 0);
		if (needs_signed(o, r))
			return;
		need_secret(s, l->i + 1, o->next);
	}
	free(o);
	sess_release(s);
}

/* A rotation says which version it logs in with. */
static void
take_given(struct sess_leg *l, const struct sess_rotation *w)
{
	struct sp_span sealed = sp_buf_span(&w->sealed);

	sp_buf_reset(&l->secret);
	SP_ASSERT(sp_buf_put(&l->secret, sealed.p, sealed.n) == SP_OK);
	memcpy(l->ask->secret, w->id, 16);
	memcpy(l->secret_owner, w->owner, 16);
	l->secret_ver = w->version;
}

static void
need_secret(struct sp_session *s, size_t i, void (*next)(struct sp_session *))
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};
	struct secret_op *o;
	struct sess_leg *l;

	while (i < s->n_legs && sp_kind_is(s->legs[i].ask->cred_kind,
	    SP_KIND_ACCOUNT) && !sp_kind_is(s->legs[i].ask->cred_kind,
	    SP_KIND_STORED))
		i++;
	if (i == s->n_legs) {
		next(s);
		return;
	}
	l = &s->legs[i];
	if (s->rotation == NULL && sp_rotation_is_running(s->b, l->ask->account)) {
		fail(s, SP_END_BROKER, "The credential of this account is being changed "
		    "just now", "try again in a moment");
		return;
	}
	if (l == sess_own_leg(s) && s->rotation != NULL) {
		take_given(l, s->rotation);
		need_secret(s, i + 1, next);
		return;
	}
	o = calloc(1, sizeof(*o));
	if (o == NULL || !sp_kind_is(l->ask->cred_kind, SP_KIND_ACCOUNT)) {
		free(o);
		fail(s, SP_END_TARGET, "The credential of this account is not usable",
		    "it is of an unknown kind");
		return;
	}
	o->leg = l;
	o->next = next;
	sess_hold(s);
	sp_uuid_text(id, l->ask->secret);
	sp_store_load(s->b->store, SP_T_SECRETS, "WHERE id = $1", p, 1,
	    got_secret, o);
}

void
sess_need_secrets(struct sp_session *s, void (*next)(struct sp_session *))
{
	need_secret(s, 0, next);
}

/* ------------------------------------------------------------------ the lease */

void
sess_start_login(struct sp_session *s)
{
	struct sess_leg *l = sess_leg_now(s);
	struct sp_where next = {.port = 0};
	struct sp_msg_egr_start m = {.account = sp_span_str(l->ask->account_name),
	    .method = l->ask->cred_kind, .host_keys = sp_buf_span(&l->host_keys),
	    .legacy = l->ask->legacy,
	    .deadline_ms = (uint32_t)s->b->cfg.dial_timeout_ms};

	if (!sp_sql_kind_fits(l->ask->protocol, l->ask->cred_kind) ||
	    (l->ask->protocol != SP_PROTO_SSH && l != sess_own_leg(s))) {
		fail(s, SP_END_TARGET, "The account cannot be used",
		    "its credential is not one of this kind of target");
		return;
	}
	if (l->ask->protocol != SP_PROTO_SSH) {
		sess_sql_start(s, l);
		return;
	}
	if (l + 1 < s->legs + s->n_legs &&
	    sp_ask_addr(l[1].ask, l[1].at, &next) != SP_OK) {
		fail(s, SP_END_TARGET, "The next target on the way has no address",
		    "an administrator sets it again");
		return;
	}
	m.rotates = l == sess_own_leg(s) && s->rotation != NULL &&
	    s->rotation->wish.len > 0;
	m.forward_port = next.port;
	m.forward_addr = sp_span_str(next.port == 0 ? "" : next.host);
	memcpy(m.session, l->id, 16);
	sess_set_state(s, SESS_LOGIN);
	l->is_told = true;
	l->egr->link.state = SP_ST_READY;
	sp_peer_sent(l->egr, sp_send_egr_start(&l->egr->link, 0, &m, NULL));
}

static void
rotation_added(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_session *s = arg;
	struct sp_msg_v_done m = {.err = 1};

	if (e == SP_OK)
		e = sp_dec_v_done(reply->body, &m);
	if (s->state == SESS_LEASE && (e != SP_OK || m.err != SP_OK))
		fail(s, SP_END_BROKER, "The vault gives no secret to set", e != SP_OK ?
		    sp_flow_why(e) : sp_vis_tmp(m.text));
	else if (s->state == SESS_LEASE && sess_leg_now(s)->egr != NULL)
		sess_start_login(s);
	sess_release(s);
}

/* The lease of a rotation has more to give than a login. */
static void
add_rotation(struct sp_session *s)
{
	SP_BUF_AUTO body = {.max = 32768};
	struct sp_msg_v_rotate_lease m;

	if (s->rotation == NULL || s->rotation->wish.len == 0 ||
	    sess_leg_now(s) != sess_own_leg(s)) {
		sess_start_login(s);
		return;
	}
	if (sp_dec_v_rotate_lease(sp_buf_span(&s->rotation->wish), &m) != SP_OK) {
		fail(s, SP_END_BROKER, "No credential", "a rotation that is broken");
		return;
	}
	memcpy(m.session, s->id, 16);
	if (sp_enc_v_rotate_lease(&body, &m) != SP_OK) {
		fail(s, SP_END_BROKER, "No credential", "out of memory");
		return;
	}
	sess_hold(s);
	sp_vault_call(s->b->vault, SP_MSG_v_rotate_lease, sp_buf_span(&body),
	    SP_MSG_v_done, rotation_added, s);
}

static void
leased(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_session *s = arg;
	struct sp_msg_v_lease_r m = {.err = 1};

	if (e == SP_OK)
		e = sp_dec_v_lease_r(reply->body, &m);
	if (s->state == SESS_LEASE && (e != SP_OK || m.err != SP_OK))
		fail(s, SP_END_TARGET, "The vault gives no credential", e != SP_OK ?
		    sp_flow_why(e) : sp_vis_tmp(m.text));
	else if (s->state == SESS_LEASE && sess_leg_now(s)->egr != NULL &&
	    sess_leg_now(s)->ask->cred_kind == SP_CRED_PG_ROLE)
		sess_role_make(s);
	else if (s->state == SESS_LEASE && sess_leg_now(s)->egr != NULL)
		add_rotation(s);
	sess_release(s);
}

/* Where the target sees a login come from. */
static const char *
cert_source(const struct sp_session *s, const struct sess_leg *l)
{
	const char *said = s->b->cfg.cert_source;

	if (strcmp(said, "none") == 0 || l->local_addr[0] == '\0')
		return "";
	return strcmp(said, "auto") == 0 ? l->local_addr : said;
}

static void
ask_lease(struct sp_session *s)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sess_leg *l = sess_leg_now(s);

	if (l->ask->cred_kind == SP_CRED_PG_ROLE)
		sess_role_name(s->role, s->id);
	struct sp_msg_v_lease m = {.kind = l->ask->cred_kind,
	    .account = sp_span_str(sess_sql_user(s, l)),
	    .target_name = sp_span_str(l->ask->target_name),
	    .host_keys = sp_buf_span(&l->host_keys),
	    .not_after = sp_now_us() + LEASE_US, .serial = l->serial,
	    .rights = l == sess_own_leg(s) ? s->j.verdict.rights :
	    SP_RIGHT_FORWARD,
	    .source = sp_span_str(cert_source(s, l)), .legacy =
	    l->ask->protocol == SP_PROTO_SSH ? l->ask->legacy :
	    sp_sql_has(l->ask->sql, SP_SQL_UNBOUND),
	    .secret_version = l->secret_ver, .sealed = sp_buf_span(&l->secret),
	    .rule = sp_buf_span(&l->rule), .challenge = sp_buf_span(&l->challenge),
	    .approvals = sp_buf_span(&l->approvals)};

	if (m.not_after > s->ends_us)
		m.not_after = s->ends_us;
	memcpy(m.session, l->id, 16);
	memcpy(m.target, l->ask->target, 16);
	if (sp_kind_is(l->ask->cred_kind, SP_KIND_STORED)) {
		memcpy(m.secret_id, l->ask->secret, 16);
		memcpy(m.secret_owner, l->secret_owner, 16);
	}
	sess_set_state(s, SESS_LEASE);
	if (sp_enc_v_lease(&body, &m) != SP_OK) {
		fail(s, SP_END_BROKER, "No credential", "out of memory");
		return;
	}
	l->has_lease = true;
	/* Before it is used, so that no crash forgets it. It waits for the end. */
	if (s->rotation == NULL && l->ask->rotates)
		sp_rotation_owe(s->b, l->ask->account, "it was used", NULL, NULL);
	sess_hold(s);
	sp_vault_call(s->b->vault, SP_MSG_v_lease, sp_buf_span(&body),
	    SP_MSG_v_lease_r, leased, s);
}

static void
judged_again(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_session *s = arg;
	uint8_t code = SP_END_POLICY;
	char text[512];

	if (s->state == SESS_JUDGE &&
	    !sess_holds(s, e, ask, j, &code, text, sizeof(text)))
		sp_session_end(s, code, text);
	else if (s->state == SESS_JUDGE && e != SP_OK)
		fail(s, SP_END_BROKER, "The session cannot begin", sp_flow_why(e));
	else if (s->state == SESS_JUDGE)
		ask_lease(s);
	sess_release(s);
}

/* Dialling took time: what was true before may not be any more. */
void
sess_judge_then_lease(struct sp_session *s)
{
	if (s->rotation != NULL || s->is_own) {
		ask_lease(s);	/* it is nobody's, and no policy's */
		return;
	}
	sess_hold(s);
	sp_judge(s->b, &s->who, s->ask.account_name, s->ask.target_name,
	    judged_again, s);
}
