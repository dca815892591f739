/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_release.h"
#include "policy/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
sp_seconds_text(char t[static SP_TIME_TEXT], int64_t seconds)
{
	sp_duration_text(t, seconds * 1000000);
	return t;
}

bool
sp_request_from(struct sp_request *q, const struct sp_rows *r, size_t row)
{
	enum sp_err e;

	memset(q, 0, sizeof(*q));
	if (!sp_rows_uuid(r, row, "id", q->id) ||
	    !sp_rows_uuid(r, row, "person_id", q->person) ||
	    !sp_rows_uuid(r, row, "account_id", q->account) ||
	    !sp_rows_uuid(r, row, "target_id", q->target) ||
	    sp_span_cstr(sp_span_str(sp_rows_get(r, row, "approver_group")),
	    q->group, sizeof(q->group)) != SP_OK ||
	    sp_span_cstr(sp_span_str(sp_rows_get(r, row, "state")), q->state,
	    sizeof(q->state)) != SP_OK ||
	    sp_span_cstr(sp_span_str(sp_rows_get(r, row, "rule")), q->rule,
	    sizeof(q->rule)) != SP_OK ||
	    sp_span_cstr(sp_span_str(sp_rows_get(r, row, "reason")), q->reason,
	    sizeof(q->reason)) != SP_OK)
		return false;
	if ((e = sp_blob_from(&q->rules, r, row)) != SP_OK && e != SP_ERR_NOTFOUND)
		return false;
	q->is_reveal = sp_span_is(sp_span_str(sp_rows_get(r, row, "purpose")),
	    "reveal");
	q->has_challenge = sp_rows_get(r, row, "challenge") != NULL;
	q->ver = sp_rows_ver(r, row);
	q->num = (uint64_t)sp_rows_i64(r, row, "num");
	q->seconds = sp_rows_i64(r, row, "seconds");
	q->approvals = sp_rows_i64(r, row, "approvals");
	q->expires_us = sp_rows_i64(r, row, "expires_us");
	return q->num > 0 && q->seconds > 0 && q->approvals > 0;
}

/* ------------------------------------------------------------------ filing */

struct filing {
	struct sp_broker *b;
	struct sp_actor who;
	struct sp_ask ask;
	struct sp_judgement j;
	char reason[1024], ticket[128], why[300];
	struct sp_rules_blob rules;
	bool has_wish, reveal;
	uint8_t id[16];
	char *challenge;	/* "\x" and hex; NULL: no signature is owed */
	int64_t seconds;
	uint64_t num;
	sp_request_cb cb;
	void *arg;
	bool again;
};

static void
filed(struct filing *f, enum sp_err e, const char *text)
{
	f->cb(f->arg, e, e == SP_OK ? f->num : 0, text);
	free(f->challenge);
	free(f);
}

static void
filed_ok(struct filing *f, const char *how, int64_t seconds, const char *reason,
    const struct sp_rules_blob *rules)
{
	char text[2600], t[SP_TIME_TEXT], why[1100], may[900];

	sp_rules_show(may, sizeof(may), sp_blob_span(rules));
	snprintf(text, sizeof(text), "Request %llu %s: %s@%s for %s (reason: %s)."
	    "%s%s%s", (unsigned long long)f->num, how, f->ask.account_name,
	    f->ask.target_name, sp_seconds_text(t, seconds),
	    sp_vis(why, sizeof(why), sp_span_str(reason)),
	    may[0] == '\0' ? "" : "\nIt asks for: ", may, may[0] == '\0' ? "" : ".");
	filed(f, SP_OK, text);
}

static void look_for_open(struct filing *f);

static void
inserted(void *arg, enum sp_err e)
{
	struct filing *f = arg;

	if (e == SP_ERR_EXISTS && !f->again) {
		f->again = true;
		look_for_open(f);
		return;
	}
	if (e != SP_OK) {
		char text[256];

		snprintf(text, sizeof(text), "The request could not be filed: %s.",
		    sp_flow_why(e));
		filed(f, e, text);
		return;
	}
	filed_ok(f, "filed", f->seconds, f->reason, &f->rules);
}

static struct json_object *
filing_detail(const struct filing *f)
{
	struct json_object *d = sp_detail();

	sp_detail_i64(d, "number", (int64_t)f->num);
	sp_detail_str(d, "target", f->ask.target_name);
	sp_detail_str(d, "account", f->ask.account_name);
	sp_detail_str(d, "reason", f->reason);
	sp_detail_str(d, "ticket", f->ticket);
	sp_detail_i64(d, "seconds", f->seconds);
	if (!f->reveal)
		sp_detail_rules(d, "rules", sp_blob_span(&f->rules));
	if (f->challenge != NULL)
		sp_detail_str(d, "approvals_by", "signature");
	sp_detail_i64(d, "approvals", f->j.verdict.approvals);
	sp_detail_str(d, "approvers", f->j.verdict.approvers);
	sp_detail_str(d, "rule", f->j.verdict.rule);
	sp_detail_str(d, "policy", f->b->policy_hash);
	sp_detail_str(d, "addr", f->who.addr);
	return d;
}

static void
insert(struct filing *f)
{
	char person[SP_UUID_TEXT], account[SP_UUID_TEXT], target[SP_UUID_TEXT];
	char num[SP_NUM_TEXT], secs[SP_NUM_TEXT], n[SP_NUM_TEXT];
	char now[SP_NUM_TEXT], end[SP_NUM_TEXT], rules[SP_BLOB_TEXT];
	int64_t at = sp_now_us();
	struct sp_change *c = sp_change_new(f->b->store);
	struct sp_vals v;

	sp_uuid_text(person, f->who.person);
	sp_uuid_text(account, f->ask.account);
	sp_uuid_text(target, f->ask.target);
	sp_vals_init(&v, SP_T_REQUESTS);
	sp_vals_set(&v, "num", sp_i64_text(num, (int64_t)f->num));
	sp_vals_set(&v, "person_id", person);
	sp_vals_set(&v, "account_id", account);
	sp_vals_set(&v, "target_id", target);
	sp_vals_set(&v, "reason", f->reason);
	sp_vals_set(&v, "ticket", f->ticket[0] == '\0' ? NULL : f->ticket);
	sp_vals_set(&v, "seconds", sp_i64_text(secs, f->seconds));
	sp_vals_set(&v, "approvals", sp_i64_text(n, f->j.verdict.approvals));
	sp_vals_set(&v, "approver_group", f->j.verdict.approvers);
	sp_vals_set(&v, "rule", f->j.verdict.rule);
	sp_vals_set(&v, "policy_hash", f->b->policy_hash);
	sp_vals_set(&v, "state", "pending");
	sp_vals_set(&v, "created_us", sp_i64_text(now, at));
	sp_vals_set(&v, "expires_us", sp_i64_text(end,
	    at + (int64_t)f->b->cfg.request_life_s * 1000000));
	sp_vals_set(&v, "rules", sp_blob_text(rules, &f->rules));
	sp_vals_set(&v, "purpose", f->reveal ? "reveal" : NULL);
	sp_vals_set(&v, "challenge", f->challenge);
	sp_change_insert(c, SP_T_REQUESTS, f->id, v.v);
	sp_flow_change_audit(c, f->reveal ? "reveal_requested" :
	    "request_filed", f->who.name, NULL,
	    filing_detail(f));
	sp_change_commit(c, inserted, f);
}

static void
got_challenge(void *arg, enum sp_err e, const char *text, struct sp_span c)
{
	struct filing *f = arg;

	if (e == SP_OK && c.n > 0 && (f->challenge = sp_bytea_param(c)) == NULL)
		e = SP_ERR_NOMEM;
	if (e != SP_OK)
		filed(f, e, text);
	else
		insert(f);
}

static void
got_number(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct filing *f = arg;

	if (e == SP_OK && (sp_rows_n(r) != 1 || sp_rows_i64(r, 0, "num") <= 0))
		e = SP_ERR_DB;
	if (e != SP_OK) {
		inserted(f, e);
		return;
	}
	f->num = (uint64_t)sp_rows_i64(r, 0, "num");
	sp_uuid_make(f->id);
	if (!f->j.has_rule) {
		insert(f);
		return;
	}
	sp_release_challenge(f->b, &f->who, &f->ask, &(struct sp_challenge_wish){
	    .kind = f->reveal ? SP_CHALLENGE_REVEAL : SP_CHALLENGE_SESSION,
	    .request = f->id, .number = f->num, .reason = f->reason,
	    .seconds = f->seconds,
	    .life_us = (int64_t)f->b->cfg.request_life_s * 1000000},
	    got_challenge, f);
}

static void
got_open(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct filing *f = arg;
	struct sp_request q;

	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++) {
		if (!sp_request_from(&q, r, i) || strcmp(q.state, "pending") != 0 ||
		    memcmp(q.person, f->who.person, 16) != 0 ||
		    strcmp(q.group, f->j.verdict.approvers) != 0 ||
		    q.approvals < (int64_t)f->j.verdict.approvals ||
		    q.is_reveal != f->reveal || q.has_challenge != f->j.has_rule ||
		    (f->has_wish && q.rules.n > 0 && !sp_rules_is_within(
		    sp_blob_span(&f->rules), sp_blob_span(&q.rules))))
			continue;
		f->num = q.num;
		filed_ok(f, "is open already", q.seconds, q.reason, &q.rules);
		return;
	}
	if (e != SP_OK) {
		f->again = true;
		inserted(f, e);
		return;
	}
	sp_store_query(f->b->store, "SELECT nextval('request_numbers') AS num",
	    NULL, 0, got_number, f);
}

static void
look_for_open(struct filing *f)
{
	char person[SP_UUID_TEXT], account[SP_UUID_TEXT], now[SP_NUM_TEXT];
	const char *p[3] = {person, account, sp_i64_text(now, sp_now_us())};

	sp_uuid_text(person, f->who.person);
	sp_uuid_text(account, f->ask.account);
	sp_store_load(f->b->store, SP_T_REQUESTS,
	    "WHERE person_id = $1 AND account_id = $2 AND state = 'pending' "
	    "AND expires_us > $3::bigint ORDER BY num LIMIT 4", p, 3, got_open, f);
}

/* What is wrong with it, or NULL. */
static const char *
filing_fault(struct filing *f, const struct sp_wish *w)
{
	const char *ticket = w->ticket;
	int64_t longest = f->j.verdict.longest_us / 1000000;

	if (!f->j.verdict.allow)
		return "The policy does not allow this, so there is nothing to ask for.";
	if (f->j.verdict.approvals == 0)
		return "No approval is needed: just connect.";
	f->rules = f->j.permits;
	f->reveal = w->reveal;
	f->has_wish = w->allow != NULL;
	if (f->has_wish && !sp_blob_wish(&f->rules, w->allow, f->why,
	    sizeof(f->why)))
		return f->why;
	if (sp_blob_rights(&f->rules) == 0)
		return "The policy allows this and gives no rights, so there is "
		    "nothing to ask for.";
	if (f->j.has_grant && !f->reveal && (!f->has_wish || sp_rules_is_within(
	    sp_blob_span(&f->rules), sp_span_of(f->j.verdict.rules,
	    f->j.verdict.n_rules))))
		return "There is a grant already: just connect.";
	if (sp_text_trim(f->reason, 1001, sp_span_str(w->reason)) != SP_OK)
		return "A reason is needed: plain text, at most 1000 bytes.";
	if (ticket != NULL && ticket[0] != '\0' &&
	    sp_text_trim(f->ticket, sizeof(f->ticket), sp_span_str(ticket)) != SP_OK)
		return "The ticket must be plain text of at most 127 bytes.";
	if (f->seconds < 0 || f->seconds > longest)
		return "That is longer than the policy allows.";
	if (f->seconds == 0)
		f->seconds = longest;
	return NULL;
}

void
sp_request_file(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_judgement *j,
    const struct sp_wish *wish, sp_request_cb cb, void *arg)
{
	struct filing *f = calloc(1, sizeof(*f));
	const char *fault;

	if (f == NULL) {
		cb(arg, SP_ERR_NOMEM, 0, "Out of memory.");
		return;
	}
	f->b = b;
	f->who = *who;
	f->ask = *ask;
	f->j = *j;
	f->seconds = wish->seconds;
	f->cb = cb;
	f->arg = arg;
	if ((fault = filing_fault(f, wish)) != NULL)
		filed(f, j->verdict.allow ? SP_ERR_INVAL : SP_ERR_DENIED, fault);
	else
		look_for_open(f);
}

/* ----------------------------------------------------------- who may decide */

struct names_op {
	struct sp_broker *b;
	uint8_t requester[16];
	sp_names_cb cb;
	void *arg;
};

static void
got_people(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct names_op *o = arg;
	const char *names[64];
	uint8_t id[16];
	size_t n = 0;

	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r) && n < 64; i++) {
		const char *name = sp_rows_get(r, i, "name");

		if (name != NULL && sp_rows_bool(r, i, "enabled") &&
		    sp_rows_uuid(r, i, "id", id) && memcmp(id, o->requester, 16) != 0)
			names[n++] = name;
	}
	o->cb(o->arg, e, names, n);
	free(o);
}

static void
got_members(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct names_op *o = arg;
	uint8_t (*ids)[16] = NULL;
	char *list = NULL;
	size_t n = 0;

	if (e == SP_OK && (ids = calloc(sp_rows_n(r) + 1, 16)) == NULL)
		e = SP_ERR_NOMEM;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++)
		n += sp_rows_uuid(r, i, "person_id", ids[n]);
	if (e == SP_OK &&
	    (list = sp_uuid_array((const uint8_t (*)[16])ids, n)) == NULL)
		e = SP_ERR_NOMEM;
	if (e == SP_OK) {
		const char *p[1] = {list};

		sp_store_load(o->b->store, SP_T_PEOPLE,
		    "WHERE id = ANY($1::uuid[]) ORDER BY name", p, 1, got_people, o);
	} else {
		o->cb(o->arg, e, NULL, 0);
		free(o);
	}
	free(ids);
	free(list);
}

void
sp_request_approvers(struct sp_broker *b, const uint8_t requester[static 16],
    const char *group, sp_names_cb cb, void *arg)
{
	struct names_op *o = calloc(1, sizeof(*o));
	const char *p[1] = {group};

	if (o == NULL) {
		cb(arg, SP_ERR_NOMEM, NULL, 0);
		return;
	}
	*o = (struct names_op){.b = b, .cb = cb, .arg = arg};
	memcpy(o->requester, requester, 16);
	sp_store_load(b->store, SP_T_MEMBERSHIPS,
	    "WHERE group_name = $1 ORDER BY person_id LIMIT 256", p, 1,
	    got_members, o);
}
