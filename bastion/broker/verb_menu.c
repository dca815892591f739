/* SPDX-License-Identifier: Apache-2.0 */
/* What one can reach, as lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_int.h"

static const struct sp_col menu_cols[] = {
	{"name", "ACCOUNT", SP_COL_TEXT}, {"account", NULL, SP_COL_TEXT},
	{"target", NULL, SP_COL_TEXT}, {"state", "STATE", SP_COL_STATE},
	{"ends", "UNTIL", SP_COL_TIME}, {"request", "REQUEST", SP_COL_NUMBER},
	{"needs", "NEEDS", SP_COL_TEXT}, {"longest_s", "LONGEST", SP_COL_SPAN},
	{"rule", "RULE", SP_COL_TEXT}, {"tags", "TAGS", SP_COL_WORDS},
	{"reasons", NULL, SP_COL_TEXT},
};

/* The latest end of an active grant for the account; 0: none. */
static int64_t
grant_ends(const struct sp_call *c, const char *account)
{
	const struct sp_rows *g = c->rows[2];
	int64_t best = 0;

	for (size_t i = 0; i < sp_rows_n(g); i++) {
		const char *a = sp_rows_get(g, i, "account_id");
		int64_t ends = sp_rows_i64(g, i, "ends_us");

		if (a != NULL && strcmp(a, account) == 0 && ends > best &&
		    ends > c->style.now_us)
			best = ends;
	}
	return best;
}

static const char *
pending(const struct sp_call *c, const char *account)
{
	const struct sp_rows *q = c->rows[3];

	for (size_t i = 0; i < sp_rows_n(q); i++) {
		const char *a = sp_rows_get(q, i, "account_id");

		if (a != NULL && strcmp(a, account) == 0 &&
		    sp_rows_i64(q, i, "expires_us") > c->style.now_us)
			return sp_rows_get(q, i, "num");
	}
	return NULL;
}

static void
menu_row(struct sp_call *c, struct sp_list *l, size_t t, size_t a)
{
	const char *id = sp_rows_get(c->rows[1], a, "id"), *num, *state;
	struct sp_known k;
	static struct sp_verdict v;
	char name[80], needs[128] = "", ends[24] = "", longest[24];
	int64_t until;

	sp_known_set(&k, c->who.name, sp_rows_get(c->rows[0], t, "name"),
	    sp_rows_get(c->rows[1], a, "name"), sp_rows_get(c->rows[0], t, "tags"));
	sp_known_actor(&k, &c->who);
	sp_known_when(&k, c->style.now_us, c->who.addr, c->who.mfa);
	sp_policy_decide(c->b->policy, &k.f, &v);
	until = grant_ends(c, id);
	num = pending(c, id);
	if (v.allow && (int)c->who.mfa < (int)v.mfa)
		snprintf(needs, sizeof(needs), "second factor %s",
		    sp_mfa_name((uint8_t)v.mfa));
	if (!v.allow || needs[0] != '\0')
		state = "denied";
	else if (v.approvals == 0)
		state = "allowed";
	else if (until > 0)
		state = "granted";
	else
		state = num != NULL ? "waiting" : "approval owed";
	if (v.allow && v.approvals > 0)
		snprintf(needs, sizeof(needs), "%u of %s", v.approvals, v.approvers);
	if (until > 0 && strcmp(state, "granted") == 0)
		snprintf(ends, sizeof(ends), "%lld", (long long)until);
	snprintf(name, sizeof(name), "%s@%s", k.f.account, k.f.target);
	snprintf(longest, sizeof(longest), "%lld", (long long)v.longest_us);
	sp_list_add(l, (const char *[]){name, k.f.account, k.f.target, state,
	    ends[0] != '\0' ? ends : NULL, num, needs,
	    v.allow && v.longest_us > 0 ? longest : NULL, v.rule,
	    sp_rows_get(c->rows[0], t, "tags"), v.reasons});
}

static void
menu_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(menu_cols,
	    sizeof(menu_cols) / sizeof(menu_cols[0]));
	const struct sp_rows *targets = c->rows[0], *accounts = c->rows[1];

	for (size_t t = 0; t < sp_rows_n(targets); t++)
		for (size_t a = 0; a < sp_rows_n(accounts); a++) {
			const char *of = sp_rows_get(accounts, a, "target_id");

			if (of != NULL && strcmp(of,
			    sp_rows_get(targets, t, "id")) == 0)
				menu_row(c, l, t, a);
		}
	sp_call_list(c, l, "There is no target yet. An administrator adds one.");
	if (!c->style.json && sp_list_n(l) > 0)
		sp_call_say(c, "\nGo there:     ssh -J %s@BASTION ACCOUNT@TARGET"
		    "\nAsk for it:   ssh %s@BASTION request ACCOUNT@TARGET "
		    "--reason TEXT\nWhat else:    ssh %s@BASTION help\n",
		    c->who.name, c->who.name, c->who.name);
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_menu_lines(struct sp_call *c)
{
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, c->who.person);
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE enabled ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE disabled IS NOT TRUE "
	    "ORDER BY name"},
	    {.t = SP_T_GRANTS, .where = "WHERE person_id = $1 AND "
	    "state = 'active'", .p = {id}, .n = 1},
	    {.t = SP_T_REQUESTS, .where = "WHERE person_id = $1 AND "
	    "state = 'pending'", .p = {id}, .n = 1}}, 4, menu_print);
}

void
sp_verb_menu(struct sp_call *c)
{
	if (c->who.is_host)
		sp_verb_targets_list(c);
	else if (c->style.json || c->is_dumb || strcmp(c->verb->name, "menu") != 0)
		sp_menu_lines(c);
	else
		sp_menu_run(c);
}
