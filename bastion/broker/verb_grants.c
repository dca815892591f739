/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: one's own, those of requests that one may decide, or all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_int.h"
#include "bastion/broker/verb_int.h"
#include "policy/rules.h"

/* rows: 0 grants, 1 people, 2 accounts, 3 targets, 4 requests */

static const struct sp_col grant_cols[] = {
	{"id", "GRANT", SP_COL_ID}, {"state", "STATE", SP_COL_STATE},
	{"request", "REQUEST", SP_COL_NUMBER}, {"person", "WHO", SP_COL_TEXT},
	{"account", NULL, SP_COL_TEXT}, {"target", NULL, SP_COL_TEXT},
	{"where", "ACCOUNT", SP_COL_TEXT}, {"starts", "SINCE", SP_COL_TIME},
	{"ends", "ENDS", SP_COL_TIME}, {"mine", NULL, SP_COL_BOOL},
	{"rights", NULL, SP_COL_JSON}, {"allows", "ALLOWS", SP_COL_TEXT},
	{"ended_by", "ENDED BY", SP_COL_TEXT},
};
#define GRANT_COLS (sizeof(grant_cols) / sizeof(grant_cols[0]))

static bool
may_see(const struct sp_call *c, size_t i, bool *mine)
{
	size_t q = sp_rows_find(c->rows[4], "id",
	    sp_rows_get(c->rows[0], i, "request_id"));
	uint8_t person[16];

	*mine = !c->who.is_host &&
	    sp_rows_uuid(c->rows[0], i, "person_id", person) &&
	    memcmp(person, c->who.person, 16) == 0;
	return *mine || sp_actor_may_audit(&c->who) || (q != SIZE_MAX &&
	    sp_actor_in(&c->who, sp_rows_get(c->rows[4], q, "approver_group")));
}

/* What is over says so here even before the row does. */
static const char *
state_now(const struct sp_call *c, size_t i)
{
	const char *s = sp_rows_get(c->rows[0], i, "state");

	return s != NULL && strcmp(s, "active") == 0 &&
	    sp_rows_i64(c->rows[0], i, "ends_us") <= c->style.now_us ? "expired" : s;
}

static void
add_grant(struct sp_call *c, struct sp_list *l, size_t i, bool mine)
{
	const struct sp_rows *g = c->rows[0];
	const char *account = sp_rows_name(c->rows[2],
	    sp_rows_get(g, i, "account_id"), "name");
	const char *target = sp_rows_name(c->rows[3],
	    sp_rows_get(g, i, "target_id"), "name");
	size_t q = sp_rows_find(c->rows[4], "id", sp_rows_get(g, i, "request_id"));
	char both[80], text[4096] = "";
	json_object *rights = NULL;
	struct sp_rules_blob x;

	snprintf(both, sizeof(both), "%.32s@%.32s", account, target);
	if (sp_blob_from(&x, g, i) == SP_OK) {
		sp_rules_show(text, sizeof(text), sp_blob_span(&x));
		rights = sp_rules_json(sp_blob_span(&x));
	}
	sp_list_add(l, (const char *[]){sp_rows_get(g, i, "id"), state_now(c, i),
	    q == SIZE_MAX ? NULL : sp_rows_get(c->rows[4], q, "num"),
	    sp_rows_name(c->rows[1], sp_rows_get(g, i, "person_id"), "name"),
	    account, target, both, sp_rows_get(g, i, "starts_us"),
	    sp_rows_get(g, i, "ends_us"), mine ? "t" : "f", rights == NULL ? NULL :
	    json_object_to_json_string_ext(rights, JSON_C_TO_STRING_PLAIN), text,
	    sp_rows_get(g, i, "ended_by")});
	json_object_put(rights);
}

static void
grants_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(grant_cols, GRANT_COLS);
	size_t n = sp_rows_n(c->rows[0]);
	bool mine;

	for (size_t i = 0; i < n; i++)
		if (may_see(c, i, &mine))
			add_grant(c, l, i, mine);
	sp_call_list(c, l, sp_call_has(c, "all") ? "No grants." :
	    "No grant holds now. grants --all shows those that are over.");
	sp_list_free(l);
	sp_call_more(c, c->rows[0], sp_call_has(c, "all") ? "grants --all" :
	    "grants", n == 0 ? "" : sp_rows_get(c->rows[0], n - 1, "id"));
	sp_call_end(c, SP_EXIT_OK);
}

#define PAGE                                                                  \
	"(SELECT g.id FROM grants g LEFT JOIN requests q ON q.id = "          \
	"g.request_id WHERE ($1 = '' OR g.person_id::text = $1 OR "           \
	"q.approver_group::text = ANY($2::text[])) AND ($3::bigint = 0 OR "   \
	"(g.state = 'active' AND g.ends_us > $3::bigint)) AND ($4 = '' OR "   \
	"(g.starts_us, g.id) < (SELECT starts_us, id FROM grants WHERE "      \
	"id::text = $4)) ORDER BY g.starts_us DESC, g.id DESC "               \
	"LIMIT $5::bigint)"
#define OF_PAGE(col) "WHERE id IN (SELECT " col " FROM grants WHERE id IN " PAGE ")"

void
sp_verb_grants(struct sp_call *c)
{
	const char *after = sp_call_opt(c, "after");
	char me[SP_UUID_TEXT] = "", now[24] = "0", limit[24];
	SP_BUF_AUTO groups = {.max = 65536};
	const char *p[5] = {me, NULL, now, after == NULL ? "" : after, limit};
	struct sp_need need[5] = {
	    {.t = SP_T_GRANTS, .where = "WHERE id IN " PAGE
	    " ORDER BY starts_us DESC, id DESC"},
	    {.t = SP_T_PEOPLE, .where = OF_PAGE("person_id")},
	    {.t = SP_T_ACCOUNTS, .where = OF_PAGE("account_id")},
	    {.t = SP_T_TARGETS, .where = OF_PAGE("target_id")},
	    {.t = SP_T_REQUESTS, .where = OF_PAGE("request_id")}};
	uint8_t id[16];

	if (!sp_call_limit(c, limit))
		return;
	if (after != NULL && sp_uuid_parse(id, sp_span_str(after)) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--after wants the id of a grant, "
		    "whole: grants --json shows it");
		return;
	}
	if (!sp_actor_may_audit(&c->who))
		sp_uuid_text(me, c->who.person);
	if (!sp_call_has(c, "all"))
		snprintf(now, sizeof(now), "%lld", (long long)c->style.now_us);
	sp_actor_group_array(&c->who, &groups);
	p[1] = (const char *)sp_buf_span(&groups).p;
	for (size_t i = 0; i < 5; i++) {
		memcpy(need[i].p, p, sizeof(p));
		need[i].n = 5;
	}
	sp_call_load(c, 0, need, 5, grants_print);
}
