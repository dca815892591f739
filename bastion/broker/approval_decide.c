/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session.h"
#include "policy/rules.h"

#define TRIES 3

struct deciding {
	struct sp_broker *b;
	struct sp_actor who;
	bool approve, is_revoke;
	uint64_t num;
	unsigned tries;
	char comment[512];
	uint8_t decision[16], grant[16];	/* made once: a retry is the same */
	struct sp_request q;
	struct sp_rules_blob rules;	/* of the grant */
	char requester[64], account[64], target[64];
	int64_t ends_us;
	bool is_final;
	size_t approvals;		/* before this one */
	struct sp_rows *row;		/* the request's */
	struct sp_rows *grants;
	uint8_t secret[16];		/* of the account */
	struct sp_buf signature;	/* SSHSIG, where one is owed */
	sp_request_cb cb;
	void *arg;
};

static void
drop_rows(struct deciding *o)
{
	if (o->row != NULL)
		sp_rows_free(o->row);
	if (o->grants != NULL)
		sp_rows_free(o->grants);
	o->row = o->grants = NULL;
}

static void
decided(struct deciding *o, enum sp_err e, const char *text)
{
	o->cb(o->arg, e, o->num, text);
	drop_rows(o);
	sp_buf_fini(&o->signature);
	free(o);
}

/* A refusal that somebody may have tried on purpose is an event. */
static void
refused(struct deciding *o, enum sp_err e, const char *text)
{
	struct json_object *d = sp_detail();

	sp_detail_i64(d, "number", (int64_t)o->num);
	sp_detail_str(d, "why", text);
	sp_detail_str(d, "requester", o->requester);
	sp_detail_str(d, "addr", o->who.addr);
	sp_flow_audit(o->b, o->is_revoke ? "revoke_refused" : o->approve ?
	    "approve_refused" : "deny_refused", o->who.name, NULL, d);
	decided(o, e, text);
}

static void
failed(struct deciding *o, enum sp_err e)
{
	char text[256];

	snprintf(text, sizeof(text), "Nothing was changed: %s. Try again; `show %llu` "
	    "says how it stands.", sp_flow_why(e), (unsigned long long)o->num);
	decided(o, e, text);
}

static struct json_object *
deciding_detail(const struct deciding *o)
{
	struct json_object *d = sp_detail();

	sp_detail_i64(d, "number", (int64_t)o->num);
	sp_detail_str(d, "requester", o->requester);
	sp_detail_str(d, "target", o->target);
	sp_detail_str(d, "account", o->account);
	sp_detail_str(d, "comment", o->comment);
	sp_detail_str(d, "addr", o->who.addr);
	if (o->q.is_reveal)
		sp_detail_str(d, "purpose", "reveal");
	if (o->approve && o->q.has_challenge)
		sp_detail_str(d, "by", "signature");
	if (o->ends_us > 0) {
		sp_detail_uuid(d, "grant", o->grant);
		sp_detail_rules(d, "rules", sp_blob_span(&o->rules));
		sp_detail_i64(d, "seconds", o->q.seconds);
		sp_detail_i64(d, "ends_us", o->ends_us);
	}
	return d;
}

/* ------------------------------------------------------------ approve, deny */

static void load_request(struct deciding *o);

static void
decide_done(void *arg, enum sp_err e)
{
	struct deciding *o = arg;
	char text[1600], end[SP_LOCAL_TEXT], may[900];

	if ((e == SP_ERR_STATE || e == SP_ERR_TIMEOUT || e == SP_ERR_DB) &&
	    ++o->tries < TRIES) {
		load_request(o);
		return;
	}
	if (e == SP_ERR_EXISTS) {
		refused(o, e, "You have decided on this request already.");
		return;
	}
	if (e == SP_ERR_DENIED) {
		refused(o, e, "The database refuses this decision.");
		return;
	}
	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (!o->approve) {
		snprintf(text, sizeof(text), "Request %llu of %s for %s@%s is denied.",
		    (unsigned long long)o->num, o->requester, o->account, o->target);
	} else if (!o->is_final) {
		snprintf(text, sizeof(text), "Your approval of request %llu is "
		    "counted; it needs more approvals of %s.",
		    (unsigned long long)o->num, o->q.group);
	} else if (o->q.is_reveal) {
		snprintf(text, sizeof(text), "Request %llu is approved: the "
		    "credential of %s@%s may be shown once within %lld minutes, on "
		    "the bastion's host, to whom %s sends there.",
		    (unsigned long long)o->num, o->account, o->target,
		    (long long)o->q.seconds / 60, o->requester);
	} else {
		sp_local_text(end, o->ends_us);
		sp_rules_show(may, sizeof(may), sp_blob_span(&o->rules));
		snprintf(text, sizeof(text), "Request %llu is approved: %s may use "
		    "%s@%s until %s%s%s.", (unsigned long long)o->num, o->requester,
		    o->account, o->target, end, may[0] == '\0' ? "" : ": ", may);
	}
	sp_approvals_poll(o->b);
	sp_menus_changed(o->b);
	decided(o, SP_OK, text);
}

static void
add_decision(struct deciding *o, struct sp_change *c, int64_t now)
{
	char request[SP_UUID_TEXT], person[SP_UUID_TEXT], who[SP_UUID_TEXT];
	char at[SP_NUM_TEXT], *sig = NULL;
	struct sp_vals v;

	sp_uuid_text(request, o->q.id);
	sp_uuid_text(person, o->q.person);
	sp_uuid_text(who, o->who.person);
	sp_vals_init(&v, SP_T_DECISIONS);
	sp_vals_set(&v, "request_id", request);
	sp_vals_set(&v, "requester_id", person);
	sp_vals_set(&v, "approver_id", who);
	sp_vals_set(&v, "verdict", o->approve ? "approve" : "deny");
	sp_vals_set(&v, "comment", o->comment);
	sp_vals_set(&v, "at_us", sp_i64_text(at, now));
	if (o->approve && o->q.has_challenge) {
		sig = sp_bytea_param(sp_buf_span(&o->signature));
		SP_ASSERT(sig != NULL);
		sp_vals_set(&v, "signature", sig);
	}
	sp_change_insert(c, SP_T_DECISIONS, o->decision, v.v);
	free(sig);
}

static void
add_grant(struct deciding *o, struct sp_change *c, int64_t now)
{
	char request[SP_UUID_TEXT], person[SP_UUID_TEXT], account[SP_UUID_TEXT];
	char target[SP_UUID_TEXT], from[SP_NUM_TEXT], to[SP_NUM_TEXT];
	char rights[SP_NUM_TEXT], rules[SP_BLOB_TEXT];
	struct sp_vals v;

	o->ends_us = now + o->q.seconds * 1000000;
	sp_uuid_text(request, o->q.id);
	sp_uuid_text(person, o->q.person);
	sp_uuid_text(account, o->q.account);
	sp_uuid_text(target, o->q.target);
	sp_vals_init(&v, SP_T_GRANTS);
	sp_vals_set(&v, "request_id", request);
	sp_vals_set(&v, "person_id", person);
	sp_vals_set(&v, "account_id", account);
	sp_vals_set(&v, "target_id", target);
	sp_vals_set(&v, "starts_us", sp_i64_text(from, now));
	sp_vals_set(&v, "ends_us", sp_i64_text(to, o->ends_us));
	sp_vals_set(&v, "rights", sp_i64_text(rights,
	    sp_blob_rights(&o->rules)));
	sp_vals_set(&v, "rules", sp_blob_text(rules, &o->rules));
	sp_vals_set(&v, "state", "active");
	sp_change_insert(c, SP_T_GRANTS, o->grant, v.v);
}

static void
write_decision(struct deciding *o, size_t approvals)
{
	struct sp_change *c = sp_change_new(o->b->store);
	int64_t now = sp_now_us();
	struct sp_vals v;

	o->is_final = !o->approve ||
	    (int64_t)approvals + 1 >= o->q.approvals;
	add_decision(o, c, now);
	/* Always written: two who decide at once meet at its version. */
	sp_vals_from(&v, SP_T_REQUESTS, o->row, 0);
	sp_vals_set(&v, "state", !o->is_final ? "pending" :
	    o->approve ? "approved" : "denied");
	sp_change_update(c, SP_T_REQUESTS, o->q.id, o->q.ver, v.v);
	o->ends_us = 0;
	if (o->approve && o->is_final && !o->q.is_reveal)
		add_grant(o, c, now);
	sp_flow_change_audit(c, !o->approve ? "request_denied" : !o->is_final ?
	    "request_approval_given" : o->q.is_reveal ? "reveal_approved" :
	    "request_approved", o->who.name, NULL, deciding_detail(o));
	sp_change_commit(c, decide_done, o);
}

/* What was asked for, cut to what the rule that it was asked under says now:
 * that is what the approver agrees to, and the policy of later can only take
 * from it. */
static bool
settle_rules(struct deciding *o)
{
	struct sp_span now = sp_policy_rules(o->b->policy, o->q.rule);

	o->rules = o->q.rules;
	if (o->rules.n == 0)
		return now.n == 0 || sp_blob_set(&o->rules, now);
	return now.n == 0 || (sp_blob_meet(&o->rules, now) == SP_OK &&
	    sp_blob_rights(&o->rules) != 0);
}

static void
signature_checked(void *arg, enum sp_err e, const char *text)
{
	struct deciding *o = arg;

	if (e == SP_OK)
		write_decision(o, o->approvals);
	else if (e == SP_ERR_DENIED)
		refused(o, e, text);
	else
		failed(o, e);
}

/* The vault asks for the same again when the secret is released. */
static void
check_signature(struct deciding *o, size_t approvals)
{
	SP_BUF_AUTO challenge = {.max = SP_CHALLENGE_MAX};
	char text[700];

	o->approvals = approvals;
	if (!o->approve || !o->q.has_challenge) {
		write_decision(o, approvals);
		return;
	}
	if (o->signature.len == 0) {
		sp_release_howto(text, sizeof(text), o->num);
		refused(o, SP_ERR_DENIED, text);
		return;
	}
	if (sp_rows_bytes(o->row, 0, "challenge", &challenge) != SP_OK)
		refused(o, SP_ERR_DENIED, "Its challenge cannot be read.");
	else
		sp_release_approval(o->b, o->secret, sp_buf_span(&challenge),
		    sp_buf_span(&o->signature), o->who.person, signature_checked,
		    o);
}

static void
got_decisions(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;
	uint8_t id[16], by[16];
	size_t approvals = 0;

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *v = sp_rows_get(r, i, "verdict");

		if (!sp_rows_uuid(r, i, "id", id) ||
		    !sp_rows_uuid(r, i, "approver_id", by) || v == NULL)
			continue;
		if (memcmp(id, o->decision, 16) == 0) {
			decide_done(o, SP_OK);	/* our reply was lost */
			return;
		}
		if (memcmp(by, o->who.person, 16) == 0) {
			refused(o, SP_ERR_EXISTS,
			    "You have decided on this request already.");
			return;
		}
		approvals += strcmp(v, "approve") == 0 &&
		    memcmp(by, o->q.person, 16) != 0;
	}
	if (strcmp(o->q.state, "pending") != 0 || o->q.expires_us <= sp_now_us()) {
		char text[128];

		snprintf(text, sizeof(text), "Request %llu is %s: nothing to decide.",
		    (unsigned long long)o->num,
		    strcmp(o->q.state, "pending") == 0 ? "expired" : o->q.state);
		decided(o, SP_ERR_STATE, text);
		return;
	}
	if (o->approve && !o->q.is_reveal && !settle_rules(o)) {
		refused(o, SP_ERR_DENIED, "The policy has changed: it permits "
		    "nothing of what was asked for any more.");
		return;
	}
	check_signature(o, approvals);
}

static void
decide_checked(struct deciding *o)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (memcmp(o->q.person, o->who.person, 16) == 0) {
		refused(o, SP_ERR_DENIED, "Nobody decides on their own request.");
		return;
	}
	if (!sp_actor_in(&o->who, o->q.group)) {
		char text[160];

		snprintf(text, sizeof(text), "Only people of group %s decide on "
		    "request %llu.", o->q.group, (unsigned long long)o->num);
		refused(o, SP_ERR_DENIED, text);
		return;
	}
	sp_uuid_text(id, o->q.id);
	sp_store_load(o->b->store, SP_T_DECISIONS, "WHERE request_id = $1", p, 1,
	    got_decisions, o);
}

/* ------------------------------------------------------------------- revoke */

static void
revoke_done(void *arg, enum sp_err e)
{
	struct deciding *o = arg;
	char text[1024], why[512];
	size_t n;

	if ((e == SP_ERR_STATE || e == SP_ERR_TIMEOUT || e == SP_ERR_DB) &&
	    ++o->tries < TRIES) {
		load_request(o);
		return;
	}
	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	sp_vis(why, sizeof(why), sp_span_str(o->comment));
	snprintf(text, sizeof(text), "Your grant for %s@%s was revoked by %s%s%s.",
	    o->account, o->target, o->who.name, why[0] == '\0' ? "" : ": ", why);
	n = o->grants == NULL || sp_rows_n(o->grants) == 0 ? 0 :
	    sp_session_end_where(o->b, o->grant, NULL, NULL, SP_END_REVOKED, text);
	sp_approvals_poll(o->b);
	sp_menus_changed(o->b);
	snprintf(text, sizeof(text), "Request %llu of %s for %s@%s is revoked; "
	    "%zu running session%s ended.", (unsigned long long)o->num,
	    o->requester, o->account, o->target, n, n == 1 ? "" : "s");
	decided(o, SP_OK, text);
}

static bool
may_revoke(const struct deciding *o)
{
	return o->who.is_host || memcmp(o->q.person, o->who.person, 16) == 0 ||
	    sp_actor_in(&o->who, o->q.group) ||
	    sp_actor_in(&o->who, SP_GROUP_ADMINS);
}

static void
write_revoke(struct deciding *o, const struct sp_rows *g, bool has_active)
{
	struct sp_change *c = sp_change_new(o->b->store);
	struct sp_vals v;

	if (strcmp(o->q.state, "revoked") != 0) {
		sp_vals_from(&v, SP_T_REQUESTS, o->row, 0);
		sp_vals_set(&v, "state", "revoked");
		sp_change_update(c, SP_T_REQUESTS, o->q.id, o->q.ver, v.v);
	}
	if (has_active) {
		sp_vals_from(&v, SP_T_GRANTS, g, 0);
		sp_vals_set(&v, "state", "revoked");
		sp_vals_set(&v, "ended_by", o->who.name);
		sp_change_update(c, SP_T_GRANTS, o->grant, sp_rows_ver(g, 0), v.v);
	}
	sp_flow_change_audit(c, has_active ? "grant_revoked" : "request_withdrawn",
	    o->who.name, NULL, deciding_detail(o));
	sp_change_commit(c, revoke_done, o);
}

static void
got_grant(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;
	bool active = false;
	const char *s;

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (sp_rows_n(r) > 0 && sp_rows_uuid(r, 0, "id", o->grant)) {
		o->grants = sp_rows_ref(r);
		s = sp_rows_get(r, 0, "state");
		active = s != NULL && strcmp(s, "active") == 0;
		o->ends_us = sp_rows_i64(r, 0, "ends_us");
	}
	if (!active && strcmp(o->q.state, "pending") != 0 &&
	    strcmp(o->q.state, "approved") != 0) {
		if (o->tries > 0 && strcmp(o->q.state, "revoked") == 0) {
			revoke_done(o, SP_OK);	/* our reply was lost */
			return;
		}
		decided(o, SP_ERR_STATE, "That request is over already.");
		return;
	}
	write_revoke(o, r, active);
}

static void
revoke_checked(struct deciding *o)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (!may_revoke(o)) {
		refused(o, SP_ERR_DENIED, "Only its owner, its approvers and "
		    "administrators may revoke it.");
		return;
	}
	sp_uuid_text(id, o->q.id);
	sp_store_load(o->b->store, SP_T_GRANTS, "WHERE request_id = $1", p, 1,
	    got_grant, o);
}

/* ----------------------------------------------------------- what both load */

static void
got_requester(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (sp_rows_n(r) == 1)
		sp_vis(o->requester, sizeof(o->requester),
		    sp_span_str(sp_rows_get(r, 0, "name")));
	if (!o->is_revoke && o->approve && (sp_rows_n(r) != 1 ||
	    !sp_rows_bool(r, 0, "enabled"))) {
		refused(o, SP_ERR_DENIED, "Who asked is disabled or unknown.");
		return;
	}
	if (o->is_revoke)
		revoke_checked(o);
	else
		decide_checked(o);
}

static void
got_account_name(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (sp_rows_n(r) == 1) {
		sp_vis(o->account, sizeof(o->account),
		    sp_span_str(sp_rows_get(r, 0, "name")));
		(void)sp_rows_uuid(r, 0, "secret_id", o->secret);
	}
	sp_uuid_text(id, o->q.person);
	sp_store_load(o->b->store, SP_T_PEOPLE, "WHERE id = $1", p, 1,
	    got_requester, o);
}

static void
got_target_name(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (sp_rows_n(r) == 1)
		sp_vis(o->target, sizeof(o->target),
		    sp_span_str(sp_rows_get(r, 0, "name")));
	sp_uuid_text(id, o->q.account);
	sp_store_load(o->b->store, SP_T_ACCOUNTS, "WHERE id = $1", p, 1,
	    got_account_name, o);
}

static void
got_row(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct deciding *o = arg;
	char id[SP_UUID_TEXT], text[128];
	const char *p[1] = {id};

	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	if (sp_rows_n(r) != 1 || !sp_request_from(&o->q, r, 0)) {
		snprintf(text, sizeof(text), "There is no request %llu; `requests` "
		    "lists them.", (unsigned long long)o->num);
		decided(o, SP_ERR_NOTFOUND, text);
		return;
	}
	o->row = sp_rows_ref(r);
	sp_uuid_text(id, o->q.target);
	sp_store_load(o->b->store, SP_T_TARGETS, "WHERE id = $1", p, 1,
	    got_target_name, o);
}

static void
load_request(struct deciding *o)
{
	char num[SP_NUM_TEXT];
	const char *p[1] = {sp_i64_text(num, (int64_t)o->num)};

	drop_rows(o);
	sp_store_load(o->b->store, SP_T_REQUESTS, "WHERE num = $1::bigint", p, 1,
	    got_row, o);
}

static void
got_fresh(void *arg, enum sp_err e, const struct sp_actor *fresh)
{
	struct deciding *o = arg;
	uint8_t mfa = o->who.mfa;

	if (e == SP_ERR_NOTFOUND) {
		refused(o, SP_ERR_DENIED, "You are disabled or unknown.");
		return;
	}
	if (e != SP_OK) {
		failed(o, e);
		return;
	}
	o->who = *fresh;
	o->who.mfa = mfa;
	load_request(o);
}

static void
begin(struct sp_broker *b, const struct sp_actor *who, const struct deciding *how,
    const char *comment)
{
	struct deciding *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		how->cb(how->arg, SP_ERR_NOMEM, how->num, "Out of memory.");
		return;
	}
	*o = *how;
	o->b = b;
	o->who = *who;
	sp_buf_init(&o->signature, 8192);
	if (how->signature.len > 0 && sp_buf_put(&o->signature,
	    how->signature.p, how->signature.len) != SP_OK) {
		decided(o, SP_ERR_TOOBIG, "That signature is too long.");
		return;
	}
	sp_uuid_make(o->decision);
	sp_uuid_make(o->grant);
	if (comment != NULL && comment[0] != '\0' &&
	    sp_text_trim(o->comment, sizeof(o->comment), sp_span_str(comment)) != SP_OK) {
		decided(o, SP_ERR_INVAL, "The comment must be plain text of at "
		    "most 500 bytes.");
		return;
	}
	if (who->is_host && o->is_revoke)
		load_request(o);
	else if (who->is_host)
		refused(o, SP_ERR_DENIED, "Approvals come from people who have "
		    "logged in with two factors, not from the host.");
	else if (who->mfa < SP_MFA_TOTP)
		refused(o, SP_ERR_DENIED, "This needs a second factor.");
	else
		sp_actor_load(b, who, got_fresh, o);
}

void
sp_request_decide(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, bool approve, const char *comment, sp_request_cb cb,
    void *arg)
{
	struct deciding how = {.approve = approve, .num = number, .cb = cb,
	    .arg = arg};

	begin(b, who, &how, comment);
}

void
sp_request_approve_signed(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, const char *comment, struct sp_span signature,
    sp_request_cb cb, void *arg)
{
	/* borrowed until begin has copied it */
	struct deciding how = {.approve = true, .num = number, .cb = cb,
	    .arg = arg, .signature = {.p = (uint8_t *)(uintptr_t)signature.p,
	    .len = signature.n}};

	begin(b, who, &how, comment);
}

void
sp_request_revoke(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, const char *why, sp_request_cb cb, void *arg)
{
	struct deciding how = {.is_revoke = true, .num = number, .cb = cb,
	    .arg = arg};

	begin(b, who, &how, why);
}
