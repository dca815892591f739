/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_release.h"
#include "bastion/broker/approval_way.h"
#include "policy/rules.h"
#include "bastion/broker/verb_facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ who is it */

struct actor_op {
	struct sp_broker *b;
	struct sp_actor who;
	void (*cb)(void *arg, enum sp_err e, const struct sp_actor *fresh);
	void *arg;
};

static void
actor_done(struct actor_op *o, enum sp_err e)
{
	o->cb(o->arg, e, &o->who);
	free(o);
}

static void
got_groups(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct actor_op *o = arg;
	struct sp_actor *a = &o->who;

	sp_actor_no_groups(a);
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++)
		sp_actor_add_group(a, sp_span_str(sp_rows_get(r, i, "group_name")));
	/* A broken row may have been the one that a forbid is about. */
	if (e == SP_OK && sp_rows_n_broken(r) > 0)
		a->more_groups = true;
	actor_done(o, e);
}

static void
got_person(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct actor_op *o = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e == SP_OK && (sp_rows_n(r) != 1 || !sp_rows_bool(r, 0, "enabled") ||
	    !sp_span_is(sp_span_str(sp_rows_get(r, 0, "name")), o->who.name)))
		e = SP_ERR_NOTFOUND;
	if (e != SP_OK) {
		sp_actor_no_groups(&o->who);
		actor_done(o, e);
		return;
	}
	sp_uuid_text(id, o->who.person);
	sp_store_load(o->b->store, SP_T_MEMBERSHIPS, SP_WHERE_MEMBER, p, 1,
	    got_groups, o);
}

static void
actor_load(struct sp_broker *b, const struct sp_actor *who,
    void (*cb)(void *arg, enum sp_err e, const struct sp_actor *fresh), void *arg)
{
	struct actor_op *o = calloc(1, sizeof(*o));
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (o == NULL || who->is_host || sp_uuid_is_nil(who->person)) {
		cb(arg, o == NULL ? SP_ERR_NOMEM : SP_ERR_NOTFOUND, who);
		free(o);
		return;
	}
	*o = (struct actor_op){.b = b, .who = *who, .cb = cb, .arg = arg};
	sp_uuid_text(id, who->person);
	sp_store_load(b->store, SP_T_PEOPLE, SP_WHERE_ID, p, 1, got_person, o);
}

void
sp_actor_load(struct sp_broker *b, const struct sp_actor *who,
    void (*cb)(void *arg, enum sp_err e, const struct sp_actor *fresh), void *arg)
{
	struct sp_ahead *h = sp_ahead_new(b->store);
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, who->person);
	if (!who->is_host)
		sp_actor_ahead(h, id);
	sp_ahead_go(h);
	actor_load(b, who, cb, arg);
}

/* ------------------------------------------------------------ the verdict */

struct judge {
	struct sp_broker *b;
	struct sp_actor who;
	struct sp_ask ask;
	struct sp_judgement j;
	sp_judge_cb cb;
	void *arg;
	int64_t now;
	/* the grant at hand */
	uint8_t grant[16], request[16];
	int64_t ends_us;
	struct sp_rules_blob rules;
	struct sp_rows *grants;
	size_t at;
};

static void try_grant(struct judge *g);

static void
judged(struct judge *g, enum sp_err e)
{
	if (e != SP_OK)
		g->j.verdict.allow = false;
	if (e != SP_OK && g->j.reasons[0] == '\0')
		snprintf(g->j.reasons, sizeof(g->j.reasons), "%s", sp_flow_why(e));
	g->cb(g->arg, e, &g->ask, &g->j);
	if (g->grants != NULL)
		sp_rows_free(g->grants);
	free(g);
}

static void
no_such(struct judge *g)
{
	snprintf(g->j.reasons, sizeof(g->j.reasons),
	    "there is no account \"%s\" on a target \"%s\" that you may reach; "
	    "the verb `targets` lists yours", g->ask.account_name,
	    g->ask.target_name);
	judged(g, SP_ERR_NOTFOUND);
}

static void
decide(struct judge *g)
{
	struct sp_known k;

	sp_known_set(&k, g->who.name, g->ask.target_name, g->ask.account_name,
	    g->ask.tags);
	sp_known_actor(&k, &g->who);
	sp_known_when(&k, g->now, g->who.addr[0] == '\0' ? NULL : g->who.addr,
	    g->who.mfa);
	sp_policy_decide(g->b->policy, &k.f, &g->j.verdict);
	snprintf(g->j.reasons, sizeof(g->j.reasons), "%.850s%s", g->j.verdict.reasons,
	    !g->j.verdict.allow && g->who.more_groups ?
	    " (not all groups of this person can be read, so that a forbid on any "
	    "group applies: there are more than 32, or a row's seal is broken)" : "");
	if (g->b->policy == NULL) {
		g->j.verdict.allow = false;
		snprintf(g->j.reasons, sizeof(g->j.reasons),
		    "no policy is loaded, so nothing is allowed");
	}
	(void)sp_blob_set(&g->j.permits, sp_span_of(g->j.verdict.rules,
	    g->j.verdict.n_rules));
	if ((int)g->who.mfa < (int)g->j.verdict.mfa)
		g->j.verdict.allow = false;
	if (g->j.verdict.longest_us <= 0)
		g->j.verdict.longest_us = SP_LONGEST_CAP_US;
}

/* Of several grants the one that permits more, of two that differ the one that
 * ends later: they come in that order. */
static void
take_grant(struct judge *g)
{
	struct sp_verdict *v = &g->j.verdict;

	if (g->rules.n == 0)
		g->rules = g->j.permits;	/* of before there were rules */
	else if (sp_blob_meet(&g->rules, sp_blob_span(&g->j.permits)) != SP_OK)
		return;
	if (g->j.has_grant && (sp_rules_is_within(sp_blob_span(&g->rules),
	    sp_span_of(v->rules, v->n_rules)) ||
	    !sp_rules_is_within(sp_span_of(v->rules, v->n_rules),
	    sp_blob_span(&g->rules))))
		return;
	g->j.has_grant = true;
	memcpy(g->j.grant, g->grant, 16);
	g->j.grant_ends_us = g->ends_us;
	v->n_rules = g->rules.n;
	memcpy(v->rules, g->rules.b, g->rules.n);
	v->rights = sp_blob_rights(&g->rules);
}

/* A grant counts only if what was approved is still what the policy asks for. */
static void
got_request(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct judge *g = arg;
	struct sp_request q;

	if (e != SP_OK) {
		judged(g, e);
		return;
	}
	if (sp_rows_n(r) == 1 && sp_request_from(&q, r, 0) &&
	    strcmp(q.state, "approved") == 0 && !q.is_reveal &&
	    q.has_challenge == g->j.has_rule &&
	    memcmp(q.person, g->who.person, 16) == 0 &&
	    memcmp(q.account, g->ask.account, 16) == 0 &&
	    memcmp(q.target, g->ask.target, 16) == 0 &&
	    q.approvals >= (int64_t)g->j.verdict.approvals &&
	    strcmp(q.group, g->j.verdict.approvers) == 0)
		take_grant(g);
	g->at++;
	try_grant(g);
}

static void
try_grant(struct judge *g)
{
	uint8_t target[16], account[16], person[16];
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};
	enum sp_err e;

	for (; g->at < sp_rows_n(g->grants); g->at++) {
		const struct sp_rows *r = g->grants;
		const char *state = sp_rows_get(r, g->at, "state");

		if (state == NULL || strcmp(state, "active") != 0 ||
		    sp_rows_i64(r, g->at, "starts_us") > g->now ||
		    sp_rows_i64(r, g->at, "ends_us") <= g->now ||
		    !sp_rows_uuid(r, g->at, "id", g->grant) ||
		    !sp_rows_uuid(r, g->at, "request_id", g->request) ||
		    !sp_rows_uuid(r, g->at, "person_id", person) ||
		    !sp_rows_uuid(r, g->at, "account_id", account) ||
		    !sp_rows_uuid(r, g->at, "target_id", target) ||
		    memcmp(person, g->who.person, 16) != 0 ||
		    memcmp(account, g->ask.account, 16) != 0 ||
		    memcmp(target, g->ask.target, 16) != 0)
			continue;
		e = sp_blob_from(&g->rules, r, g->at);
		if (e != SP_OK && e != SP_ERR_NOTFOUND)
			continue;
		g->ends_us = sp_rows_i64(r, g->at, "ends_us");
		sp_uuid_text(id, g->request);
		sp_judge_learn(&g->ask, g->request);
		sp_store_load(g->b->store, SP_T_REQUESTS, SP_WHERE_ID, p, 1,
		    got_request, g);
		return;
	}
	judged(g, SP_OK);
}

static void
got_grants(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct judge *g = arg;

	if (e != SP_OK) {
		judged(g, e);
		return;
	}
	g->grants = sp_rows_ref(r);
	try_grant(g);
}

static void
look_for_grant(struct judge *g)
{
	char person[SP_UUID_TEXT], account[SP_UUID_TEXT], now[SP_NUM_TEXT];
	const char *p[3] = {person, account, sp_i64_text(now, g->now)};

	if (g->j.verdict.approvals == 0) {
		sp_judge_learn(&g->ask, (const uint8_t[16]){0});
		judged(g, SP_OK);
		return;
	}
	sp_uuid_text(person, g->who.person);
	sp_uuid_text(account, g->ask.account);
	sp_store_load(g->b->store, SP_T_GRANTS,
	    SP_WHERE_GRANTS, p, 3,
	    got_grants, g);
}

/* A target behind others is one target with its whole way. */
static void
got_way(void *arg, enum sp_err e, const struct sp_way *way, const char *text)
{
	struct judge *g = arg;

	if (e != SP_OK) {
		snprintf(g->j.reasons, sizeof(g->j.reasons), "%.300s", text);
		judged(g, e);
		return;
	}
	memcpy(g->ask.way, way->digest, sizeof(g->ask.way));
	look_for_grant(g);
}

static void
go_on(struct judge *g)
{
	if (!sp_uuid_is_nil(g->ask.via))
		sp_way_load(g->b, &g->ask, got_way, g);
	else
		look_for_grant(g);
}

static void
got_rule(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct judge *g = arg;

	if (e == SP_OK && (e = sp_release_judge(&g->j, r)) != SP_OK)
		snprintf(g->j.reasons, sizeof(g->j.reasons), "the release rule of "
		    "this account's secret cannot be read; an administrator sets "
		    "it again");
	if (e != SP_OK)
		judged(g, e);
	else
		go_on(g);
}

static void
got_account(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct judge *g = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e != SP_OK) {
		judged(g, e);
		return;
	}
	if (sp_rows_n(r) != 1 || sp_ask_account(&g->ask, r, 0) != SP_OK) {
		no_such(g);
		return;
	}
	decide(g);
	sp_uuid_text(id, g->ask.secret);
	if (!g->j.verdict.allow)
		judged(g, SP_ERR_DENIED);
	else if (!sp_uuid_is_nil(g->ask.secret))
		sp_store_load(g->b->store, SP_T_SECRETS, SP_WHERE_ID, p, 1,
		    got_rule, g);
	else
		go_on(g);
}

static void
got_target(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct judge *g = arg;
	char id[SP_UUID_TEXT];
	const char *p[2] = {id, g->ask.account_name};

	if (e != SP_OK) {
		judged(g, e);
		return;
	}
	if (sp_rows_n(r) != 1 || !sp_rows_bool(r, 0, "enabled") ||
	    (e = sp_ask_target(&g->ask, r, 0)) == SP_ERR_INVAL) {
		no_such(g);
		return;
	}
	if (e != SP_OK) {
		snprintf(g->j.reasons, sizeof(g->j.reasons), "the target's address, "
		    "host keys or tags (511 bytes) are too long to be judged; an "
		    "administrator removes the target and adds it with fewer");
		judged(g, SP_ERR_DENIED);
		return;
	}
	sp_uuid_text(id, g->ask.target);
	sp_store_load(g->b->store, SP_T_ACCOUNTS, SP_WHERE_ACCOUNT, p, 2,
	    got_account, g);
}

static void
got_actor(void *arg, enum sp_err e, const struct sp_actor *fresh)
{
	struct judge *g = arg;
	const char *p[1] = {g->ask.target_name};

	if (e != SP_OK) {
		if (e == SP_ERR_NOTFOUND) {
			snprintf(g->j.reasons, sizeof(g->j.reasons),
			    "this person is disabled or unknown");
			e = SP_ERR_DENIED;
		}
		judged(g, e);
		return;
	}
	g->who = *fresh;
	sp_store_load(g->b->store, SP_T_TARGETS, SP_WHERE_NAME, p, 1,
	    got_target, g);
}

void
sp_judge(struct sp_broker *b, const struct sp_actor *who, const char *account,
    const char *target, sp_judge_cb cb, void *arg)
{
	struct judge *g = calloc(1, sizeof(*g));
	static const struct sp_ask no_ask;
	static const struct sp_judgement no_j;

	if (g == NULL) {
		cb(arg, SP_ERR_NOMEM, &no_ask, &no_j);
		return;
	}
	g->b = b;
	g->who = *who;
	g->cb = cb;
	g->arg = arg;
	g->now = sp_now_us();
	memcpy(g->ask.person, who->person, 16);
	snprintf(g->ask.person_name, sizeof(g->ask.person_name), "%s", who->name);
	/* Encoded: it may be anything that somebody typed. */
	sp_vis(g->ask.account_name, SP_NAME_MAX + 1, sp_span_str(account));
	sp_vis(g->ask.target_name, SP_NAME_MAX + 1, sp_span_str(target));
	if (who->is_host) {
		snprintf(g->j.reasons, sizeof(g->j.reasons),
		    "sessions are for people who log in, not for the host");
		judged(g, SP_ERR_DENIED);
	} else if (!sp_name_is_valid(sp_span_str(account)) ||
	    !sp_name_is_valid(sp_span_str(target))) {
		no_such(g);
	} else {
		sp_judge_ahead(b, &g->ask, g->now);
		actor_load(b, who, got_actor, g);
	}
}
