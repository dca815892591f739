/* SPDX-License-Identifier: Apache-2.0 */
/* A credential is shown to a person: asked for over SSH, approved by two others,
 * shown once on the host (vault/reveal.c), and owed a rotation from then on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_release.h"
#include "bastion/broker/owed.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_int.h"
#include "common/kinds.h"

#define LEAST 2			/* never fewer, whatever the policy says */
#define WINDOW_S 900		/* from the last approval to the showing */

/* ------------------------------------------------------------------ asking */

struct revealing {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	uint8_t request[16];
	struct sp_buf challenge, approvals;
};

static void
filed(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct sp_call *c = arg;
	struct revealing *o = c->state;
	char id[24];

	if (e != SP_OK) {
		sp_call_fail(c, e == SP_ERR_DB || e == SP_ERR_TIMEOUT ||
		    e == SP_ERR_SEALED || e == SP_ERR_EOF ? SP_EXIT_LATER :
		    SP_EXIT_REFUSED, "%s", text);
		return;
	}
	snprintf(id, sizeof(id), "%llu", (unsigned long long)number);
	sp_call_did(c, id, "pending", "Request %s to be shown the credential of "
	    "%s@%s waits for two other people. When they have approved it, it is "
	    "shown once, on the bastion's host: sallyport secret reveal %s", id,
	    o->account, o->target, id);
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_call *c = arg;
	struct sp_judgement more = *j;
	struct sp_verdict *v = &more.verdict;

	if (e != SP_OK || !v->allow) {
		sp_call_fail(c, e == SP_OK || e == SP_ERR_DENIED ||
		    e == SP_ERR_NOTFOUND ? SP_EXIT_REFUSED : SP_EXIT_LATER,
		    "refused: %s", j->reasons);
		return;
	}
	if (!sp_kind_is(ask->cred_kind, SP_KIND_STORED)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is nothing to show: %s@%s "
		    "has no stored credential", ask->account_name,
		    ask->target_name);
		return;
	}
	if (v->approvals < LEAST)
		v->approvals = LEAST;
	if (v->approvers[0] == '\0')
		snprintf(v->approvers, sizeof(v->approvers), "%s",
		    SP_GROUP_ADMINS);
	if (v->longest_us > WINDOW_S * 1000000LL)
		v->longest_us = WINDOW_S * 1000000LL;
	sp_request_file(c->b, &c->who, ask, &more, &(struct sp_wish){
	    .reason = sp_call_opt(c, "reason"), .ticket = sp_call_opt(c, "ticket"),
	    .reveal = true}, filed, c);
}

static void
revealing_free(void *state)
{
	struct revealing *o = state;

	sp_buf_fini(&o->challenge);
	sp_buf_fini(&o->approvals);
	free(o);
}

static struct revealing *
begin(struct sp_call *c)
{
	struct revealing *o = calloc(1, sizeof(*o));

	SP_ASSERT(o != NULL);
	sp_buf_init(&o->challenge, SP_CHALLENGE_MAX);
	sp_buf_init(&o->approvals, 24576);
	c->state = o;
	c->free_state = revealing_free;
	return o;
}

/* ACCOUNT@TARGET, or TARGET/ACCOUNT. */
static bool
split(const char *s, struct revealing *o)
{
	const char *slash = strchr(s, '/');

	if (slash == NULL)
		return sp_split_ask(s, o->account, o->target);
	return sp_span_cstr(sp_span_of(s, (size_t)(slash - s)), o->target,
	    sizeof(o->target)) == SP_OK &&
	    sp_span_cstr(sp_span_str(slash + 1), o->account,
	    sizeof(o->account)) == SP_OK &&
	    sp_name_is_valid(sp_span_str(o->target)) &&
	    sp_name_is_valid(sp_span_str(o->account));
}

void
sp_verb_secret_reveal(struct sp_call *c)
{
	struct revealing *o = begin(c);
	const char *why = sp_call_opt(c, "reason");

	if (c->who.is_host)
		sp_call_fail(c, SP_EXIT_REFUSED, "people ask: ssh NAME@BASTION "
		    "secret reveal ACCOUNT@TARGET --reason TEXT. What was approved "
		    "is shown by its number: sallyport secret reveal NUMBER");
	else if (!split(c->pos[0], o))
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
	else if (why == NULL || why[strspn(why, " \t")] == '\0')
		sp_call_fail(c, SP_EXIT_USAGE, "say why: --reason TEXT");
	else
		sp_judge(c->b, &c->who, o->account, o->target, judged, c);
}

/* -------------------------------------------------------- showing, by the host */

/* rows: 0 the request, 1 account, 2 secret, 3 target, 4 person, 5 decisions */
static void
ready(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_call *c = arg;
	struct revealing *o = c->state;
	struct sp_msg_v_done m = {.err = SP_ERR_PROTO};
	char id[SP_UUID_TEXT];
	json_object *j;

	if (e == SP_OK && sp_dec_v_done(reply->body, &m) == SP_OK &&
	    m.err == SP_OK) {
		sp_uuid_text(id, o->request);
		j = json_object_new_object();
		json_object_object_add(j, "id", json_object_new_string(id));
		json_object_object_add(j, "person",
		    sp_json_text(sp_rows_get(c->rows[4], 0, "name")));
		sp_call_json(c, j);
		sp_call_end(c, SP_EXIT_OK);
	} else if (e == SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "the vault does not show it: %s",
		    sp_vis_tmp(m.text));
	} else {
		sp_call_fail_err(c, e, "secret reveal");
	}
}

static void
tell_vault(struct sp_call *c)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, sealed = {.max = 8192};
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};
	const struct sp_rows *s = c->rows[2];
	struct revealing *o = c->state;
	struct sp_msg_v_reveal m = {
	    .number = (uint64_t)sp_rows_i64(c->rows[0], 0, "num"),
	    .kind = (uint8_t)sp_rows_i64(s, 0, "kind"),
	    .account = sp_span_str(sp_rows_get(c->rows[1], 0, "name")),
	    .target_name = sp_span_str(sp_rows_get(c->rows[3], 0, "name")),
	    .secret_version = sp_rows_secret_ver(s, 0),
	    .challenge = sp_buf_span(&o->challenge),
	    .approvals = sp_buf_span(&o->approvals)};
	enum sp_err e = sp_rows_bytes(s, 0, "sealed", &sealed);

	if (e == SP_OK && (e = sp_rows_bytes(s, 0, "rule", &rule)) ==
	    SP_ERR_NOTFOUND)
		e = SP_OK;
	memcpy(m.request, o->request, 16);
	if (!sp_rows_uuid(c->rows[3], 0, "id", m.target) ||
	    !sp_rows_uuid(s, 0, "id", m.secret_id) ||
	    !sp_rows_uuid(s, 0, "owner_id", m.secret_owner))
		e = SP_ERR_DB;
	m.sealed = sp_buf_span(&sealed);
	m.rule = sp_buf_span(&rule);
	if (e == SP_OK)
		e = sp_enc_v_reveal(&body, &m);
	if (e != SP_OK)
		sp_call_fail_err(c, e, "secret reveal");
	else
		sp_vault_call(c->b->vault, SP_MSG_v_reveal, sp_buf_span(&body),
		    SP_MSG_v_done, ready, c);
}

/* Said before it is done: a showing without its event cannot be. */
static void
mark_shown(struct sp_call *c)
{
	const char *account = sp_rows_get(c->rows[1], 0, "id");
	struct revealing *o = c->state;
	struct sp_change *ch = sp_change_new(c->b->store);
	char now[SP_NUM_TEXT], why[160];
	struct sp_vals v;
	char *detail;

	snprintf(why, sizeof(why), "it was shown to %.32s (request %.20s)",
	    sp_rows_get(c->rows[4], 0, "name"), c->pos[0]);
	detail = sp_call_detail("number", c->pos[0], "requester",
	    sp_rows_get(c->rows[4], 0, "name"), "account",
	    sp_rows_get(c->rows[1], 0, "name"), "target",
	    sp_rows_get(c->rows[3], 0, "name"), "reason",
	    sp_rows_get(c->rows[0], 0, "reason"), NULL);
	sp_vals_from(&v, SP_T_REQUESTS, c->rows[0], 0);
	sp_vals_set(&v, "shown_us", sp_i64_text(now, sp_now_us()));
	sp_change_update(ch, SP_T_REQUESTS, o->request,
	    sp_rows_ver(c->rows[0], 0), v.v);
	sp_owe_rotation(ch, account, c->rows[6], why);
	sp_change_audit(ch, "credential_revealed", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "secret reveal", tell_vault);
}

static void
got_signed(void *arg, enum sp_err e, struct sp_span challenge,
    struct sp_span approvals)
{
	struct sp_call *c = arg;
	struct revealing *o = c->state;

	if (e == SP_OK && (e = sp_buf_put(&o->challenge, challenge.p,
	    challenge.n)) == SP_OK)
		e = sp_buf_put(&o->approvals, approvals.p, approvals.n);
	if (e != SP_OK && e != SP_ERR_NOTFOUND)
		sp_call_fail_err(c, e, "secret reveal");
	else
		mark_shown(c);
}

/* Why it cannot be shown, or NULL. */
static const char *
fault(const struct sp_call *c, const struct sp_request *q)
{
	int64_t last = 0;
	size_t n = 0;

	if (!q->is_reveal)
		return "that request is for sessions, not to be shown something";
	if (sp_rows_get(c->rows[0], 0, "shown_us") != NULL)
		return "it was shown already, which happens once: ask anew";
	for (size_t i = 0; i < sp_rows_n(c->rows[5]); i++)
		if (strcmp(sp_rows_get(c->rows[5], i, "verdict"), "approve") == 0) {
			last = sp_rows_i64(c->rows[5], i, "at_us");
			n++;
		}
	if (strcmp(q->state, "approved") != 0 || n < LEAST ||
	    (int64_t)n < q->approvals)
		return "it is not approved";
	if (c->style.now_us >= last + q->seconds * 1000000)
		return "it was approved too long ago: ask anew";
	if (sp_rows_n(c->rows[1]) != 1 || sp_rows_n(c->rows[2]) != 1 ||
	    sp_rows_n(c->rows[3]) != 1 || sp_rows_n(c->rows[4]) != 1 ||
	    !sp_rows_bool(c->rows[4], 0, "enabled"))
		return "its account, its secret or who asked is not there any more";
	return NULL;
}

static void
collect(struct sp_call *c)
{
	struct revealing *o = c->state;
	struct sp_request q;
	const char *why;

	if (sp_rows_n(c->rows[0]) != 1 || !sp_request_from(&q, c->rows[0], 0)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no request %s",
		    c->pos[0]);
		return;
	}
	if ((why = fault(c, &q)) != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "request %s: %s", c->pos[0], why);
		return;
	}
	if (!sp_vault_is_open(c->b->vault)) {
		sp_call_fail_err(c, SP_ERR_SEALED, "secret reveal");
		return;
	}
	memcpy(o->request, q.id, 16);
	sp_release_signed(c->b, q.id, got_signed, c);
}

#define REQUEST "(SELECT id FROM requests WHERE num = $1::bigint)"
#define OF(col) "(SELECT " col " FROM requests WHERE num = $1::bigint)"

void
sp_verb_reveal_collect(struct sp_call *c)
{
	uint64_t n;

	(void)begin(c);
	if (sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, &n) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "that is no number of a request");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_REQUESTS, .where = "WHERE num = $1::bigint",
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id = " OF("account_id"),
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_SECRETS, .where = "WHERE id = (SELECT secret_id FROM "
	    "accounts WHERE id = " OF("account_id") ")", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_TARGETS, .where = "WHERE id = " OF("target_id"),
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_PEOPLE, .where = "WHERE id = " OF("person_id"),
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_DECISIONS, .where = "WHERE request_id = " REQUEST
	    " ORDER BY at_us", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_ROTATIONS, .where = "WHERE id = " OF("account_id"),
	    .p = {c->pos[0]}, .n = 1}}, 7, collect);
}
