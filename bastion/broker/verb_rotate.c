/* SPDX-License-Identifier: Apache-2.0 */
/* account rotate, account rotation, account set, target reconcile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/owed.h"
#include "bastion/broker/rotate.h"
#include "bastion/broker/verb_int.h"
#include "common/kinds.h"
#include "common/passrule.h"

struct rotate {
	struct sp_call *c;
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	struct sp_rotation_run *run;
	json_object *steps;
};

static void
rotate_free(void *state)
{
	struct rotate *a = state;

	if (a->run != NULL)
		sp_rotation_forget(a->run);
	json_object_put(a->steps);
	free(a);
}

/* Splits what was typed; false: the call has ended. */
static bool
rotate_state(struct sp_call *c)
{
	struct rotate *a = calloc(1, sizeof(*a));

	SP_ASSERT(a != NULL);
	a->c = c;
	c->state = a;
	c->free_state = rotate_free;
	if (sp_split_ask(c->pos[0], a->account, a->target))
		return true;
	sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
	return false;
}

#define ACCOUNT_OF "(SELECT a.id FROM accounts a JOIN targets t ON t.id = "     \
	"a.target_id WHERE a.name = $1 AND t.name = $2)"

static bool
has_account(struct sp_call *c)
{
	if (sp_rows_n(c->rows[0]) == 1)
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED, "there is no account %s: account list "
	    "shows them", sp_vis_str(c->pos[0]));
	return false;
}

/* --------------------------------------------------------------- account rotate */

static void
on_step(void *arg, const char *step, const char *text)
{
	struct rotate *a = arg;
	json_object *o;

	if (!sp_call_has(a->c, "json")) {
		sp_call_say(a->c, "%-14s %s\n", step, text);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "step", json_object_new_string(step));
	json_object_object_add(o, "text", json_object_new_string(text));
	json_object_array_add(a->steps, o);
}

static void
on_over(void *arg, enum sp_err e, const char *text)
{
	struct rotate *a = arg;
	struct sp_call *c = a->c;
	json_object *o;
	uint8_t code = e == SP_OK ? SP_EXIT_OK : e == SP_ERR_DENIED ||
	    e == SP_ERR_INVAL || e == SP_ERR_NOTFOUND ? SP_EXIT_REFUSED :
	    SP_EXIT_LATER;

	a->run = NULL;
	if (sp_call_has(c, "json")) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_string(
		    sp_rows_get(c->rows[0], 0, "id")));
		json_object_object_add(o, "state", json_object_new_string(
		    e == SP_OK ? "rotated" : "failed"));
		json_object_object_add(o, "why", e == SP_OK ? NULL :
		    json_object_new_string(text));
		json_object_object_add(o, "steps", json_object_get(a->steps));
		sp_call_json(c, o);
		sp_call_end(c, code);
	} else if (e == SP_OK) {
		sp_call_say(c, "%s is rotated.\n", c->pos[0]);
		sp_call_end(c, code);
	} else {
		sp_call_fail(c, code, "%s was not rotated: %s", c->pos[0], text);
	}
}

static void
rotate_gone(struct sp_call *c)
{
	struct rotate *a = c->state;

	/* It goes on: to stop half-way would be the worst of all. */
	if (a->run != NULL)
		sp_rotation_forget(a->run);
	a->run = NULL;
	sp_call_end(c, SP_EXIT_LATER);
}

static void
on_owed(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;

	if (e != SP_OK)
		sp_call_fail_err(c, e, "account rotate");
	else
		sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "owed", "%s will be "
		    "rotated when no session holds it.", c->pos[0]);
}

static void
rotate_now(struct sp_call *c)
{
	static const struct sp_rotation_ops ops = {.step = on_step,
	    .over = on_over};
	struct rotate *a = c->state;
	char why[128];
	uint8_t id[16];

	if (!has_account(c))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	if (!sp_kind_is(sp_rows_i64(c->rows[0], 0, "kind"), SP_KIND_ROTATES)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has a credential that is made "
		    "for each session: there is nothing to rotate", c->pos[0]);
		return;
	}
	snprintf(why, sizeof(why), "by hand, %.63s", c->who.name);
	if (sp_rows_n(c->rows[1]) == 1 &&
	    sp_rows_get(c->rows[1], 0, "rule") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has a release rule, and nobody "
		    "has signed for a rotation: sallyport secret rule %s --none, "
		    "account rotate, and the rule again", c->pos[0], c->pos[0]);
		return;
	}
	if (sp_call_has(c, "later")) {
		sp_rotation_owe(c->b, id, why, on_owed, c);
		return;
	}
	a->steps = json_object_new_array();
	c->on_gone = rotate_gone;
	a->run = sp_rotation_begin(c->b, id, sp_call_has(c, "force"), why, &ops, a);
	if (a->run == NULL)
		sp_call_fail(c, SP_EXIT_LATER, "%s is being rotated just now",
		    c->pos[0]);
}

void
sp_verb_account_rotate(struct sp_call *c)
{
	struct rotate *a;

	if (!rotate_state(c))
		return;
	a = c->state;
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_ACCOUNTS,
	    .where = "WHERE id IN " ACCOUNT_OF, .p = {a->account, a->target},
	    .n = 2}, {.t = SP_T_SECRETS, .where = "WHERE id IN (SELECT secret_id "
	    "FROM accounts WHERE id IN " ACCOUNT_OF ")",
	    .p = {a->account, a->target}, .n = 2}}, 2, rotate_now);
}

/* ------------------------------------------------------------- account rotation */

static const struct sp_col cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"account", "ACCOUNT", SP_COL_TEXT},
	{"target", "TARGET", SP_COL_TEXT}, {"rotate", "ROTATE", SP_COL_TEXT},
	{"state", "STATE", SP_COL_TEXT}, {"last", "LAST", SP_COL_TIME},
	{"next", "NEXT", SP_COL_TIME}, {"failures", "FAILURES", SP_COL_NUMBER},
	{"owed", "OWED", SP_COL_BOOL}, {"waits_for", "WAITS FOR", SP_COL_TEXT},
	{"why", "WHY", SP_COL_TEXT}, {"versions", NULL, SP_COL_NUMBER},
	{"helper", NULL, SP_COL_TEXT},
};
#define N_COLS (sizeof(cols) / sizeof(cols[0]))

static const char *
helper_of(struct sp_call *c, const char *target)
{
	size_t i = sp_rows_find(c->rows[0], "id", target);
	const char *id = i == SIZE_MAX ? NULL :
	    sp_rows_get(c->rows[0], i, "reconcile");

	return id == NULL ? NULL : sp_rows_name(c->rows[4], id, "name");
}

static void
add_row(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *a = c->rows[1], *r = c->rows[2];
	const char *id = sp_rows_get(a, i, "id"), *waits = NULL;
	size_t at = sp_rows_find(r, "id", id);
	size_t n = sp_rows_find(c->rows[3], "account_id", id);
	bool is_there = at != SIZE_MAX;
	int64_t due = is_there ? sp_rows_i64(r, at, "due_us") : 0;
	bool owed = due > 0 && due <= c->style.now_us;

	if (n != SIZE_MAX && sp_rows_get(c->rows[3], n, "ruled") != NULL)
		waits = "release rule";
	else if (c->b->cfg.rotations_held != 0)
		waits = "rotations_held";
	sp_list_add(l, (const char *[]){id, sp_rows_get(a, i, "name"),
	    sp_rows_name(c->rows[0], sp_rows_get(a, i, "target_id"), "name"),
	    sp_rows_get(a, i, "rotate"),
	    is_there ? sp_rows_get(r, at, "state") : "never",
	    is_there ? sp_rows_get(r, at, "last_us") : NULL,
	    is_there ? sp_rows_get(r, at, "due_us") : NULL,
	    is_there ? sp_rows_get(r, at, "failures") : "0",
	    owed ? "t" : "f", owed ? waits : NULL,
	    is_there ? sp_rows_get(r, at, "why") : NULL,
	    n == SIZE_MAX ? "1" : sp_rows_get(c->rows[3], n, "n"),
	    helper_of(c, sp_rows_get(a, i, "target_id"))});
}

static void
rotation_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(cols, N_COLS);
	const struct sp_rows *a = c->rows[1];
	size_t n = sp_rows_n(a);
	char last[2 * SP_NAME_MAX + 2] = "";

	for (size_t i = 0; i < n; i++)
		add_row(c, l, i);
	sp_call_list(c, l, sp_call_has(c, "failed") ? "No rotation has failed." :
	    sp_call_has(c, "owed") ? "No rotation is owed." :
	    "No account has a password or a key. account add ACCOUNT@TARGET "
	    "--kind password");
	sp_list_free(l);
	if (n > 0)
		snprintf(last, sizeof(last), "%s@%s", sp_rows_get(a, n - 1, "name"),
		    sp_rows_name(c->rows[0], sp_rows_get(a, n - 1, "target_id"),
		    "name"));
	sp_call_more(c, a, "account rotation", last);
	sp_call_end(c, SP_EXIT_OK);
}

/* Only what can be rotated, a page of it, by the names that a person reads. */
#define KINDS_THAT_ROTATE "a.kind = ANY ($1::bigint[])"
#define LISTED                                                                \
	"(SELECT a.id FROM accounts a JOIN targets t ON t.id = a.target_id "  \
	"LEFT JOIN rotations r ON r.id = a.id WHERE " KINDS_THAT_ROTATE       \
	" AND ($2 = '' OR r.state IN ('failed', 'out_of_sync')) "             \
	"AND ($3 = '' OR r.due_us <= now_us()) "                              \
	"AND (t.name, a.name) > ($4, $5) ORDER BY t.name, a.name LIMIT $6)"

static void
kinds_that_rotate(char *dst, size_t cap)
{
	size_t at = 1;

	snprintf(dst, cap, "{");
	for (int64_t k = 0; k < 64; k++)
		if (sp_kind_is(k, SP_KIND_ROTATES) && at + 8 < cap)
			at += (size_t)snprintf(dst + at, cap - at, "%s%d",
			    at > 1 ? "," : "", (int)k);
	snprintf(dst + at, cap - at, "}");
}

void
sp_verb_account_rotation(struct sp_call *c)
{
	char kinds[256], account[SP_NAME_MAX + 1] = "", target[SP_NAME_MAX + 1] = "";
	const char *after = sp_call_opt(c, "after");
	char limit[24];
	const char *const p[6] = {kinds, sp_call_has(c, "failed") ? "1" : "",
	    sp_call_has(c, "owed") ? "1" : "", target, account, limit};
#define PAGE(...) {__VA_ARGS__, .p = {p[0], p[1], p[2], p[3], p[4], p[5]}, .n = 6}

	if (!sp_call_limit(c, limit))
		return;
	if (after != NULL && !sp_split_ask(after, account, target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--after ACCOUNT@TARGET");
		return;
	}
	kinds_that_rotate(kinds, sizeof(kinds));
	sp_call_load(c, 0, (struct sp_need[]){
	    PAGE(.t = SP_T_TARGETS, .where = "WHERE id IN (SELECT target_id FROM "
	    "accounts WHERE id IN " LISTED ")"),
	    PAGE(.t = SP_T_ACCOUNTS, .where = "WHERE id IN " LISTED " ORDER BY "
	    "(SELECT t.name FROM targets t WHERE t.id = target_id), name"),
	    PAGE(.t = SP_T_ROTATIONS, .where = "WHERE id IN " LISTED),
	    PAGE(.sql = "SELECT x.id AS account_id, count(*) AS n, max(CASE "
	    "WHEN s.rule IS NOT NULL AND x.secret_id = s.id THEN 1 END) AS ruled "
	    "FROM secrets s JOIN accounts x ON x.id = s.account_id OR "
	    "x.secret_id = s.id WHERE x.id IN " LISTED " GROUP BY x.id"),
	    PAGE(.t = SP_T_ACCOUNTS, .where = "WHERE id IN (SELECT reconcile FROM "
	    "targets WHERE id IN (SELECT target_id FROM accounts WHERE id IN "
	    LISTED "))")}, 5, rotation_print);
#undef PAGE
}

/* ------------------------------------------------------------------ account set */

static void
set_done(struct sp_call *c)
{
	sp_broker_changed(c->b);
	sp_rotation_poke(c->b);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "set", "%s is set.",
	    c->pos[0]);
}

static void
set_account(struct sp_call *c)
{
	const char *rotate = sp_call_opt(c, "rotate");
	const char *rule = sp_call_opt(c, "password-rule");
	struct sp_change *ch;
	bool after_use = false;
	int64_t seconds = 0;
	struct sp_vals v;
	uint8_t id[16];
	char *detail;

	if (!has_account(c))
		return;
	if (!sp_kind_is(sp_rows_i64(c->rows[0], 0, "kind"), SP_KIND_ROTATES)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has a credential that is made "
		    "for each session: there is nothing to rotate", c->pos[0]);
		return;
	}
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	if (rotate != NULL && strcmp(rotate, "never") == 0)
		rotate = "";
	if (sp_rotation_when(rotate, &after_use, &seconds) != SP_OK)
		rotate = NULL;	/* it was looked at already */
	sp_vals_from(&v, SP_T_ACCOUNTS, c->rows[0], 0);
	if (rotate != NULL)
		sp_vals_set(&v, "rotate", rotate[0] == '\0' ? NULL : rotate);
	if (rule != NULL)
		sp_vals_set(&v, "password_rule", rule[0] == '\0' ? NULL : rule);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[0], 0), v.v);
	if (rotate != NULL)
		sp_plan_rotation(ch, sp_rows_get(c->rows[0], 0, "id"), c->rows[1],
		    sp_rows_n(c->rows[1]) == 0 ? SIZE_MAX : 0, seconds, after_use);
	detail = sp_call_detail("account", c->pos[0], "rotate", rotate,
	    "password_rule", rule, NULL);
	sp_change_audit(ch, "account_set", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account set", set_done);
}

void
sp_verb_account_set_rotation(struct sp_call *c)
{
	const char *rotate = sp_call_opt(c, "rotate");
	const char *rule = sp_call_opt(c, "password-rule");
	struct sp_pass_rule parsed;
	struct rotate *a;
	char why[128];
	bool after_use;
	int64_t seconds;

	if (!rotate_state(c))
		return;
	a = c->state;
	if (rotate == NULL && rule == NULL) {
		sp_call_fail(c, SP_EXIT_USAGE, "say what: --rotate after-use, 30d, "
		    "\"after-use 12h\" or never; --password-rule \"length=24 "
		    "classes=luds least=1 forbid=CHARACTERS\"");
		return;
	}
	if (rotate != NULL && strcmp(rotate, "never") != 0 && (rotate[0] == '\0' ||
	    sp_rotation_when(rotate, &after_use, &seconds) != SP_OK)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--rotate is after-use, a length of "
		    "time (30m, 12h, 30d, 4w), both with a space between, or never");
		return;
	}
	if (rule != NULL && sp_pass_rule_parse(sp_span_str(rule), &parsed, why) !=
	    SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--password-rule: %s", why);
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2},
	    {.t = SP_T_ROTATIONS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2}}, 2, set_account);
}

/* ------------------------------------------------------------- target reconcile */

static void
reconcile_set(struct sp_call *c)
{
	bool is_none = strcmp(c->pos[1], "none") == 0;
	struct sp_change *ch;
	struct sp_vals v;
	uint8_t id[16];
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1 || (!is_none &&
	    sp_rows_n(c->rows[1]) != 1)) {
		sp_call_fail(c, SP_EXIT_REFUSED, sp_rows_n(c->rows[0]) != 1 ?
		    "there is no such target: targets list shows them" :
		    "the target has no such account: account add");
		return;
	}
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_vals_from(&v, SP_T_TARGETS, c->rows[0], 0);
	sp_vals_set(&v, "reconcile", is_none ? NULL :
	    sp_rows_get(c->rows[1], 0, "id"));
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_TARGETS, id, sp_rows_ver(c->rows[0], 0), v.v);
	detail = sp_call_detail("target", c->pos[0], "reconcile", is_none ? NULL :
	    c->pos[1], NULL);
	sp_change_audit(ch, "target_reconcile", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "target reconcile", set_done);
}

void
sp_verb_target_reconcile(struct sp_call *c)
{
	if (!sp_name_is_valid(sp_span_str(c->pos[0])) ||
	    !sp_name_is_valid(sp_span_str(c->pos[1]))) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as target reconcile TARGET "
		    "ACCOUNT, or TARGET none");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {c->pos[1], c->pos[0]}, .n = 2}}, 2, reconcile_set);
}
