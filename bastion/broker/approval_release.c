/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/store_internal.h"
#include "bastion/broker/vault.h"

#define OWN_MAX 16384

enum sp_err
sp_release_judge(struct sp_judgement *j, const struct sp_rows *secrets)
{
	SP_BUF_AUTO bytes = {.max = SP_RULE_MAX};
	struct sp_verdict *v = &j->verdict;
	struct sp_rule rule;
	enum sp_err e;

	if (sp_rows_n(secrets) != 1)
		return SP_OK;		/* and the session says that it is gone */
	e = sp_rows_bytes(secrets, 0, "rule", &bytes);
	if (e == SP_ERR_NOTFOUND)
		return SP_OK;
	if (e != SP_OK || sp_rule_decode(sp_buf_span(&bytes), &rule) != SP_OK)
		return SP_ERR_DENIED;
	j->has_rule = true;
	if (v->approvals < rule.need)
		v->approvals = rule.need;
	if (v->approvers[0] == '\0')
		snprintf(v->approvers, sizeof(v->approvers), "%s", rule.group);
	if (v->longest_us > rule.max_seconds * 1000000)
		v->longest_us = rule.max_seconds * 1000000;
	return SP_OK;
}

void
sp_release_howto(char *dst, size_t cap, uint64_t number)
{
	unsigned long long n = number;

	snprintf(dst, cap, "Request %llu needs your signature, because its secret "
	    "has a release rule:\n  ssh BASTION challenge %llu > request-%llu\n"
	    "  (read it)\n  ssh-keygen -Y sign -n " SP_APPROVE_NAMESPACE
	    " -f YOUR_KEY < request-%llu | ssh BASTION approve %llu\n"
	    "or all in one: ssh BASTION challenge %llu | ssh-keygen -Y sign -n "
	    SP_APPROVE_NAMESPACE " -f YOUR_KEY | ssh BASTION approve %llu", n, n, n,
	    n, n, n, n);
}

/* --------------------------------------------------------------- challenge */

struct asking {
	struct sp_broker *b;
	struct sp_actor who;
	struct sp_ask ask;
	uint8_t kind, request[16];
	uint64_t number;
	char reason[1100];
	int64_t seconds, life_us;
	struct sp_buf rule, own;
	sp_challenge_cb cb;
	void *arg;
};

static void
asked(struct asking *o, enum sp_err e, const char *text, struct sp_span c)
{
	o->cb(o->arg, e, text, c);
	sp_buf_fini(&o->rule);
	sp_buf_fini(&o->own);
	free(o);
}

static void
got_challenge(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_msg_v_challenge_r m = {.err = SP_ERR_PROTO};
	struct asking *o = arg;
	char text[300];

	if (e == SP_OK)
		e = sp_dec_v_challenge_r(reply->body, &m);
	if (e == SP_OK)
		e = (enum sp_err)m.err;
	snprintf(text, sizeof(text), "The vault makes no challenge: %s.",
	    m.text.n > 0 ? sp_vis_tmp(m.text) : sp_flow_why(e));
	asked(o, e, e == SP_OK ? "" : text, e == SP_OK ? m.challenge :
	    (struct sp_span){0});
}

static enum sp_err
put_own_key(struct sp_buf *b, const struct sp_rows *r, size_t row)
{
	const struct sp_table_def *t = &sp_tables[SP_T_PERSON_KEYS];
	SP_BUF_AUTO canon = {.max = OWN_MAX}, seal = {.max = 32};
	const char *values[SP_COLS_MAX];
	uint8_t id[16];

	for (size_t i = 0; i < t->n_cols; i++)
		values[i] = sp_rows_get(r, row, t->cols[i]);
	SP_TRY(sp_canon(&canon, SP_T_PERSON_KEYS, values));
	SP_TRY(sp_rows_bytes(r, row, "seal", &seal));
	if (!sp_rows_uuid(r, row, "id", id) || seal.len != 32)
		return SP_ERR_DB;
	SP_TRY(sp_buf_put(b, id, 16));
	SP_TRY(sp_buf_put_u64(b, sp_rows_ver(r, row)));
	SP_TRY(sp_buf_put(b, sp_buf_span(&seal).p, 32));
	return sp_buf_put_bytes(b, sp_buf_span(&canon));
}

/* More keys than the text has room for are judged by the rule alone, which names
 * the person of each key. */
static void
got_own_keys(void *arg, enum sp_err e, struct sp_rows *r)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct asking *o = arg;
	struct sp_msg_v_challenge m = {.number = o->number, .kind = o->kind,
	    .person_name = sp_span_str(o->who.name),
	    .account = sp_span_str(o->ask.account_name),
	    .target_name = sp_span_str(o->ask.target_name),
	    .rule = sp_buf_span(&o->rule), .reason = sp_span_str(o->reason),
	    .seconds = (uint64_t)o->seconds, .life_us = (uint64_t)o->life_us};

	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r) &&
	    i < SP_CHALLENGE_OWN_MAX; i++)
		e = put_own_key(&o->own, r, i);
	memcpy(m.request, o->request, 16);
	memcpy(m.person, o->who.person, 16);
	memcpy(m.target, o->ask.target, 16);
	m.own_keys = sp_buf_span(&o->own);
	if (e == SP_OK)
		e = sp_enc_v_challenge(&body, &m);
	if (e != SP_OK) {
		asked(o, e, "The requester's keys cannot be read.",
		    (struct sp_span){0});
		return;
	}
	sp_vault_call(o->b->vault, SP_MSG_v_challenge, sp_buf_span(&body),
	    SP_MSG_v_challenge_r, got_challenge, o);
}

static void
got_secret(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct asking *o = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e == SP_OK)
		e = sp_rows_n(r) == 1 ? sp_rows_bytes(r, 0, "rule", &o->rule) :
		    SP_ERR_NOTFOUND;
	if (e == SP_ERR_NOTFOUND) {
		asked(o, SP_OK, "", (struct sp_span){0});
		return;
	}
	if (e != SP_OK) {
		asked(o, e, sp_flow_why(e), (struct sp_span){0});
		return;
	}
	sp_uuid_text(id, o->who.person);
	sp_store_load(o->b->store, SP_T_PERSON_KEYS,
	    "WHERE person_id = $1 ORDER BY id LIMIT 64", p, 1, got_own_keys, o);
}

void
sp_release_challenge(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_challenge_wish *w,
    sp_challenge_cb cb, void *arg)
{
	struct asking *o = calloc(1, sizeof(*o));
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (o == NULL) {
		cb(arg, SP_ERR_NOMEM, "Out of memory.", (struct sp_span){0});
		return;
	}
	*o = (struct asking){.b = b, .who = *who, .ask = *ask, .kind = w->kind,
	    .number = w->number, .seconds = w->seconds, .life_us = w->life_us,
	    .rule = {.max = SP_RULE_MAX}, .own = {.max = OWN_MAX}, .cb = cb,
	    .arg = arg};
	memcpy(o->request, w->request, 16);
	snprintf(o->reason, sizeof(o->reason), "%s", w->reason);
	sp_uuid_text(id, ask->secret);
	sp_store_load(b->store, SP_T_SECRETS, "WHERE id = $1", p, 1, got_secret, o);
}

/* ---------------------------------------------------------------- approval */

struct approving {
	struct sp_broker *b;
	uint8_t person[16];
	struct sp_buf challenge, signature;
	void (*cb)(void *arg, enum sp_err e, const char *text);
	void *arg;
};

static void
approved(struct approving *o, enum sp_err e, const char *text)
{
	o->cb(o->arg, e, text);
	sp_buf_fini(&o->challenge);
	sp_buf_fini(&o->signature);
	free(o);
}

static void
got_answer(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_msg_v_approval_r m = {.err = SP_ERR_PROTO};
	struct approving *o = arg;
	char text[320];

	if (e == SP_OK)
		e = sp_dec_v_approval_r(reply->body, &m);
	if (e == SP_OK && m.err == SP_OK && memcmp(m.person, o->person, 16) != 0) {
		approved(o, SP_ERR_DENIED, "That signature is another person's: "
		    "each signs for themselves.");
		return;
	}
	if (e == SP_OK && m.err != SP_OK) {
		snprintf(text, sizeof(text), "Your signature does not count: %s.",
		    sp_vis_tmp(m.text));
		approved(o, SP_ERR_DENIED, text);
		return;
	}
	approved(o, e, e == SP_OK ? "" : sp_flow_why(e));
}

static void
got_rule(void *arg, enum sp_err e, struct sp_rows *r)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, rule = {.max = SP_RULE_MAX};
	struct sp_msg_v_approval m;
	struct approving *o = arg;

	if (e == SP_OK)
		e = sp_rows_n(r) == 1 ? sp_rows_bytes(r, 0, "rule", &rule) :
		    SP_ERR_NOTFOUND;
	if (e == SP_ERR_NOTFOUND) {
		approved(o, SP_ERR_DENIED, "The secret has no release rule any "
		    "more: the request must be made anew.");
		return;
	}
	m = (struct sp_msg_v_approval){.rule = sp_buf_span(&rule),
	    .challenge = sp_buf_span(&o->challenge),
	    .signature = sp_buf_span(&o->signature)};
	if (e == SP_OK)
		e = sp_enc_v_approval(&body, &m);
	if (e != SP_OK)
		approved(o, e, sp_flow_why(e));
	else
		sp_vault_call(o->b->vault, SP_MSG_v_approval, sp_buf_span(&body),
		    SP_MSG_v_approval_r, got_answer, o);
}

void
sp_release_approval(struct sp_broker *b, const uint8_t secret[static 16],
    struct sp_span challenge, struct sp_span signature,
    const uint8_t person[static 16],
    void (*cb)(void *arg, enum sp_err e, const char *text), void *arg)
{
	struct approving *o = calloc(1, sizeof(*o));
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (o == NULL) {
		cb(arg, SP_ERR_NOMEM, "Out of memory.");
		return;
	}
	*o = (struct approving){.b = b, .challenge = {.max = SP_CHALLENGE_MAX},
	    .signature = {.max = 8192}, .cb = cb, .arg = arg};
	memcpy(o->person, person, 16);
	if (sp_buf_put(&o->challenge, challenge.p, challenge.n) != SP_OK ||
	    sp_buf_put(&o->signature, signature.p, signature.n) != SP_OK) {
		approved(o, SP_ERR_TOOBIG, "That signature is too long.");
		return;
	}
	sp_uuid_text(id, secret);
	sp_store_load(b->store, SP_T_SECRETS, "WHERE id = $1", p, 1, got_rule, o);
}

/* ------------------------------------------------------------- what is signed */

struct collecting {
	struct sp_broker *b;
	struct sp_buf challenge;
	sp_signed_cb cb;
	void *arg;
};

static void
collected(struct collecting *o, enum sp_err e, struct sp_span approvals)
{
	o->cb(o->arg, e, e == SP_OK ? sp_buf_span(&o->challenge) :
	    (struct sp_span){0}, approvals);
	sp_buf_fini(&o->challenge);
	free(o);
}

static void
got_decisions(void *arg, enum sp_err e, struct sp_rows *r)
{
	SP_BUF_AUTO all = {.max = 24576};
	struct collecting *o = arg;

	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++) {
		SP_BUF_AUTO one = {.max = 8192};

		e = sp_rows_bytes(r, i, "signature", &one);
		if (e == SP_OK)
			e = sp_buf_put_bytes(&all, sp_buf_span(&one));
		else if (e == SP_ERR_NOTFOUND)
			e = SP_OK;
	}
	collected(o, e, sp_buf_span(&all));
}

static void
got_request(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct collecting *o = arg;
	const char *p[1];

	if (e == SP_OK)
		e = sp_rows_n(r) == 1 ? sp_rows_bytes(r, 0, "challenge",
		    &o->challenge) : SP_ERR_NOTFOUND;
	if (e != SP_OK) {
		collected(o, e, (struct sp_span){0});
		return;
	}
	p[0] = sp_rows_get(r, 0, "id");
	sp_store_load(o->b->store, SP_T_DECISIONS, "WHERE request_id = $1 AND "
	    "verdict = 'approve' ORDER BY at_us", p, 1, got_decisions, o);
}

static void
collect(struct sp_broker *b, const char *where, const uint8_t id[static 16],
    sp_signed_cb cb, void *arg)
{
	struct collecting *o = calloc(1, sizeof(*o));
	char text[SP_UUID_TEXT];
	const char *p[1] = {text};

	if (o == NULL) {
		cb(arg, SP_ERR_NOMEM, (struct sp_span){0}, (struct sp_span){0});
		return;
	}
	*o = (struct collecting){.b = b, .challenge = {.max = SP_CHALLENGE_MAX},
	    .cb = cb, .arg = arg};
	sp_uuid_text(text, id);
	sp_store_load(b->store, SP_T_REQUESTS, where, p, 1, got_request, o);
}

void
sp_release_signed(struct sp_broker *b, const uint8_t request[static 16],
    sp_signed_cb cb, void *arg)
{
	collect(b, "WHERE id = $1", request, cb, arg);
}

void
sp_release_signed_of(struct sp_broker *b, const uint8_t grant[static 16],
    sp_signed_cb cb, void *arg)
{
	collect(b, "WHERE id = (SELECT request_id FROM grants WHERE id = $1)",
	    grant, cb, arg);
}
