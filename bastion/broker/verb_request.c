/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: file, list, show, decide. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_int.h"
#include "bastion/broker/verb_int.h"
#include "policy/rules.h"

/* Errors that mean "not now" get 75, the rest is a refusal with its reason. */
static void
refused(struct sp_call *c, enum sp_err e, const char *text)
{
	if (text == NULL || text[0] == '\0')
		sp_call_fail_err(c, e, c->verb->name);
	else
		sp_call_fail(c, e == SP_ERR_DB || e == SP_ERR_TIMEOUT ||
		    e == SP_ERR_SEALED || e == SP_ERR_EOF ? SP_EXIT_LATER :
		    SP_EXIT_REFUSED, "%s", text);
}

/* ----------------------------------------------------------------- request */

struct filing {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	char approvers[64];
	uint64_t number;
	unsigned approvals;
	int64_t seconds;
};

static void
filed_print(void *arg, enum sp_err e, const char *const *names, size_t n)
{
	struct sp_call *c = arg;
	struct filing *f = c->state;
	char id[24];

	snprintf(id, sizeof(id), "%llu", (unsigned long long)f->number);
	if (c->style.json) {
		json_object *o = json_object_new_object();
		json_object *a = json_object_new_array();

		for (size_t i = 0; e == SP_OK && i < n; i++)
			json_object_array_add(a, sp_json_text(names[i]));
		json_object_object_add(o, "id",
		    json_object_new_int64((int64_t)f->number));
		json_object_object_add(o, "state", sp_json_text("pending"));
		json_object_object_add(o, "account", sp_json_text(f->account));
		json_object_object_add(o, "target", sp_json_text(f->target));
		json_object_object_add(o, "approvals",
		    json_object_new_int64((int64_t)f->approvals));
		json_object_object_add(o, "approver_group",
		    sp_json_text(f->approvers));
		json_object_object_add(o, "approvers", a);
		sp_call_json(c, o);
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	sp_call_say(c, "Request %s: %s@%s, waiting for %u approval%s of group "
	    "%s.\n", id, f->account, f->target, f->approvals,
	    f->approvals == 1 ? "" : "s", f->approvers);
	if (e == SP_OK && n == 0)
		sp_call_say(c, "Nobody else is in that group: ask an "
		    "administrator.\n");
	for (size_t i = 0; e == SP_OK && i < n; i++)
		sp_call_say(c, "%s%s%s", i == 0 ? "Who may: " : ", ",
		    sp_vis_str(names[i]), i + 1 == n ? "\n" : "");
	sp_call_say(c, "See it: show %s   Take it back: revoke %s\n", id, id);
	sp_call_end(c, SP_EXIT_OK);
}

static void
filed(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct sp_call *c = arg;
	struct filing *f = c->state;

	if (e != SP_OK) {
		refused(c, e, text);
		return;
	}
	f->number = number;
	sp_request_approvers(c->b, c->who.person, f->approvers, filed_print, c);
}

static bool
has_text(const char *s)
{
	return s != NULL && s[strspn(s, " \t\r\n")] != '\0' &&
	    sp_utf8_is_valid(sp_span_str(s));
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_call *c = arg;
	struct filing *f = c->state;

	if (e != SP_OK || !j->verdict.allow) {
		if (e == SP_OK || e == SP_ERR_DENIED)
			sp_call_fail(c, SP_EXIT_REFUSED, "refused%s%s: %s",
			    j->verdict.rule[0] != '\0' ? " by the rule " : "",
			    j->verdict.rule, j->reasons);
		else
			refused(c, e, j == NULL ? "" : j->reasons);
		return;
	}
	if (j->verdict.approvals == 0 ||
	    (j->has_grant && sp_call_opt(c, "allow") == NULL)) {
		char left[SP_TIME_TEXT];

		sp_age_text(left, j->grant_ends_us, c->style.now_us);
		sp_call_did(c, "0", j->has_grant ? "granted" : "allowed",
		    j->has_grant ? "You may go there already; it ends %s: "
		    "ssh -J %s@BASTION %s@%s" : "No approval is needed%.0s: "
		    "ssh -J %s@BASTION %s@%s", left, c->who.name, f->account,
		    f->target);
		return;
	}
	f->approvals = j->verdict.approvals;
	snprintf(f->approvers, sizeof(f->approvers), "%s", j->verdict.approvers);
	sp_request_file(c->b, &c->who, ask, j, &(struct sp_wish){
	    .reason = sp_call_opt(c, "reason"), .ticket = sp_call_opt(c, "ticket"),
	    .allow = sp_call_opt(c, "allow"), .seconds = f->seconds}, filed, c);
}

void
sp_verb_request(struct sp_call *c)
{
	struct filing *f = calloc(1, sizeof(*f));
	const char *len = sp_call_opt(c, "for");
	int64_t us = 0;

	SP_ASSERT(f != NULL);
	c->state = f;
	c->free_state = free;
	if (c->who.is_host)
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "requests are made by people: ssh NAME@BASTION request ...");
	else if (!sp_split_ask(c->pos[0], f->account, f->target))
		sp_call_fail(c, SP_EXIT_USAGE,
		    "say it as ACCOUNT@TARGET; targets shows what there is");
	else if (!has_text(sp_call_opt(c, "reason")))
		sp_call_fail(c, SP_EXIT_USAGE, "say why: --reason TEXT");
	else if (len != NULL && (sp_duration_parse(sp_span_str(len), &us) !=
	    SP_OK || us <= 0))
		sp_call_fail(c, SP_EXIT_USAGE,
		    "--for wants a length of time such as 45m, 2h or 1h30m");
	else {
		f->seconds = us / 1000000;
		sp_judge(c->b, &c->who, f->account, f->target, judged, c);
	}
}

/* ------------------------------------------------------------------ decide */

static bool
number_arg(struct sp_call *c, uint64_t *n)
{
	if (sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, n) == SP_OK && *n > 0)
		return true;
	sp_call_fail(c, SP_EXIT_USAGE,
	    "%s wants the number of a request; requests lists them",
	    c->verb->name);
	return false;
}

static void
decided(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct sp_call *c = arg;
	const char *state = strcmp(c->verb->name, "deny") == 0 ? "denied" :
	    "revoked";
	char id[24];

	if (e != SP_OK) {
		refused(c, e, text);
		return;
	}
	snprintf(id, sizeof(id), "%llu", (unsigned long long)number);
	if (text != NULL && text[0] != '\0')
		sp_call_did(c, id, state, "%s", text);
	else
		sp_call_did(c, id, state, "Request %s %s.", id, state);
}

void
sp_verb_deny(struct sp_call *c)
{
	const char *comment = sp_call_opt(c, "comment");
	uint64_t n;

	if (number_arg(c, &n))
		sp_request_decide(c->b, &c->who, n, false,
		    comment == NULL ? "" : comment, decided, c);
}

void
sp_verb_revoke(struct sp_call *c)
{
	const char *why = sp_call_opt(c, "reason");
	uint64_t n;

	if (number_arg(c, &n))
		sp_request_revoke(c->b, &c->who, n, why == NULL ? "" : why,
		    decided, c);
}

/* ----------------------------------------------------------------- listing */

/* rows: 0 requests, 1 people, 2 accounts, 3 targets, 4 decisions, 5 grants */
static const struct sp_col request_cols[] = {
	{"id", "REQUEST", SP_COL_NUMBER}, {"state", "STATE", SP_COL_STATE},
	{"person", "WHO", SP_COL_TEXT}, {"account", NULL, SP_COL_TEXT},
	{"target", NULL, SP_COL_TEXT}, {"for", "ACCOUNT", SP_COL_TEXT},
	{"seconds", NULL, SP_COL_NUMBER}, {"length", "LENGTH", SP_COL_SPAN},
	{"approved_by", "APPROVED BY", SP_COL_WORDS},
	{"approvals", "NEEDS", SP_COL_NUMBER},
	{"approver_group", "OF", SP_COL_TEXT},
	{"created", "ASKED", SP_COL_TIME}, {"until", "UNTIL", SP_COL_TIME},
	{"ticket", "TICKET", SP_COL_TEXT}, {"rule", NULL, SP_COL_TEXT},
	{"policy_hash", NULL, SP_COL_TEXT}, {"mine", NULL, SP_COL_BOOL},
	{"may_decide", NULL, SP_COL_BOOL}, {"rules", NULL, SP_COL_JSON},
	{"purpose", "PURPOSE", SP_COL_TEXT},
	{"signature_owed", NULL, SP_COL_BOOL},
	{"allows", "ALLOWS", SP_COL_TEXT}, {"reason", "REASON", SP_COL_TEXT},
};
#define N_REQUEST_COLS (sizeof(request_cols) / sizeof(request_cols[0]))

static bool
is_mine(const struct sp_call *c, size_t i)
{
	uint8_t person[16];

	return !c->who.is_host &&
	    sp_rows_uuid(c->rows[0], i, "person_id", person) &&
	    memcmp(person, c->who.person, 16) == 0;
}

static bool
may_see(const struct sp_call *c, size_t i)
{
	return is_mine(c, i) || sp_actor_may_audit(&c->who) ||
	    sp_actor_in(&c->who, sp_rows_get(c->rows[0], i, "approver_group"));
}

static void
approved_by(const struct sp_call *c, const char *request, char *dst, size_t cap)
{
	const struct sp_rows *d = c->rows[4];
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < sp_rows_n(d); i++) {
		const char *r = sp_rows_get(d, i, "request_id");
		const char *v = sp_rows_get(d, i, "verdict");

		if (r == NULL || v == NULL || strcmp(r, request) != 0 ||
		    strcmp(v, "approve") != 0 || o + 40 > cap)
			continue;
		o += (size_t)snprintf(dst + o, cap - o, "%s%.32s",
		    o > 0 ? " " : "", sp_rows_name(c->rows[1],
		    sp_rows_get(d, i, "approver_id"), "name"));
	}
}

/* What is approved and has no grant is to be shown, once, in its time. */
static const char *
reveal_now(const struct sp_call *c, size_t i, int64_t *until)
{
	const struct sp_rows *q = c->rows[0], *d = c->rows[4];
	const char *id = sp_rows_get(q, i, "id");

	if (sp_rows_get(q, i, "shown_us") != NULL)
		return "shown";
	for (size_t k = 0; k < sp_rows_n(d); k++)
		if (strcmp(sp_rows_get(d, k, "request_id"), id) == 0)
			*until = sp_rows_i64(d, k, "at_us") +
			    sp_rows_i64(q, i, "seconds") * 1000000;
	return *until <= c->style.now_us ? "expired" : "approved";
}

/* A pending request past its time, or an approved one whose grant is over,
 * says so here even before the row does. */
static const char *
state_now(const struct sp_call *c, size_t i, int64_t *until)
{
	const char *s = sp_rows_get(c->rows[0], i, "state");
	size_t g = sp_rows_find(c->rows[5], "request_id",
	    sp_rows_get(c->rows[0], i, "id"));
	const char *gs = g == SIZE_MAX ? NULL : sp_rows_get(c->rows[5], g, "state");

	*until = sp_rows_i64(c->rows[0], i, "expires_us");
	if (s != NULL && strcmp(s, "pending") == 0)
		return *until <= c->style.now_us ? "expired" : s;
	if (g == SIZE_MAX || s == NULL || strcmp(s, "approved") != 0) {
		*until = 0;
		return s == NULL || strcmp(s, "approved") != 0 ? s :
		    reveal_now(c, i, until);
	}
	*until = sp_rows_i64(c->rows[5], g, "ends_us");
	if (gs != NULL && strcmp(gs, "active") != 0)
		return gs;
	return *until <= c->style.now_us ? "expired" : s;
}

/* What the rules of a row allow, for people and for programs. */
struct allows {
	char text[4096];
	char *json;
};

static void
allows_of(struct allows *a, const struct sp_rows *r, size_t row)
{
	struct sp_rules_blob x;
	json_object *o;

	*a = (struct allows){0};
	if (row == SIZE_MAX || sp_blob_from(&x, r, row) != SP_OK)
		return;
	sp_rules_show(a->text, sizeof(a->text), sp_blob_span(&x));
	o = sp_rules_json(sp_blob_span(&x));
	a->json = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

static void
add_request(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *q = c->rows[0];
	const char *account = sp_rows_name(c->rows[2],
	    sp_rows_get(q, i, "account_id"), "name");
	const char *target = sp_rows_name(c->rows[3],
	    sp_rows_get(q, i, "target_id"), "name");
	char by[1024], both[80], length[24], until_text[24];
	int64_t until = 0;
	const char *state = state_now(c, i, &until);
	bool mine = is_mine(c, i);
	size_t g = sp_rows_find(c->rows[5], "request_id",
	    sp_rows_get(q, i, "id"));
	struct allows may;

	allows_of(&may, g == SIZE_MAX ? q : c->rows[5], g == SIZE_MAX ? i : g);
	approved_by(c, sp_rows_get(q, i, "id"), by, sizeof(by));
	snprintf(both, sizeof(both), "%s@%s", account, target);
	snprintf(length, sizeof(length), "%lld",
	    (long long)(sp_rows_i64(q, i, "seconds") * 1000000));
	snprintf(until_text, sizeof(until_text), "%lld", (long long)until);
	sp_list_add(l, (const char *[]){sp_rows_get(q, i, "num"), state,
	    sp_rows_name(c->rows[1], sp_rows_get(q, i, "person_id"), "name"),
	    account, target, both, sp_rows_get(q, i, "seconds"), length, by,
	    sp_rows_get(q, i, "approvals"), sp_rows_get(q, i, "approver_group"),
	    sp_rows_get(q, i, "created_us"), until > 0 ? until_text : NULL,
	    sp_rows_get(q, i, "ticket"), sp_rows_get(q, i, "rule"),
	    sp_rows_get(q, i, "policy_hash"), mine ? "t" : "f",
	    !mine && state != NULL && strcmp(state, "pending") == 0 &&
	    sp_actor_in(&c->who, sp_rows_get(q, i, "approver_group")) ? "t" :
	    "f", may.json, sp_rows_get(q, i, "purpose"),
	    sp_rows_get(q, i, "challenge") != NULL ? "t" : "f", may.text, sp_rows_get(q, i, "reason")});
	free(may.json);
}

/* Everything that belongs to the requests of a condition. */
#define LOAD_REQUESTS(c, cond, n_, then, ...)                                 \
	sp_call_load((c), 0, (struct sp_need[]){                              \
	    {.t = SP_T_REQUESTS, .where = "WHERE " cond " ORDER BY num DESC", \
	    .p = {__VA_ARGS__}, .n = (n_)},                                   \
	    {.t = SP_T_PEOPLE, .where = "WHERE id IN (SELECT person_id FROM " \
	    "requests WHERE " cond ") OR id IN (SELECT approver_id FROM "     \
	    "decisions WHERE request_id IN (SELECT id FROM requests WHERE "   \
	    cond "))", .p = {__VA_ARGS__}, .n = (n_)},                        \
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN (SELECT account_id "   \
	    "FROM requests WHERE " cond ")", .p = {__VA_ARGS__}, .n = (n_)},  \
	    {.t = SP_T_TARGETS, .where = "WHERE id IN (SELECT target_id FROM " \
	    "requests WHERE " cond ")", .p = {__VA_ARGS__}, .n = (n_)},       \
	    {.t = SP_T_DECISIONS, .where = "WHERE request_id IN (SELECT id "  \
	    "FROM requests WHERE " cond ") ORDER BY at_us",                   \
	    .p = {__VA_ARGS__}, .n = (n_)},                                   \
	    {.t = SP_T_GRANTS, .where = "WHERE request_id IN (SELECT id FROM " \
	    "requests WHERE " cond ")", .p = {__VA_ARGS__}, .n = (n_)}}, 6, (then))

/* The newest of those that one may see: a page holds as many as it says, also
 * for whom most requests are none of theirs. */
#define PAGE                                                                  \
	"num IN (SELECT num FROM requests WHERE num < $1::bigint AND "        \
	"($3 = '' OR person_id::text = $3 OR approver_group::text = "         \
	"ANY($4::text[])) AND ($5::bigint = 0 OR (state = 'pending' AND "     \
	"expires_us > $5::bigint) OR id IN (SELECT request_id FROM grants "   \
	"WHERE state = 'active' AND ends_us > $5::bigint)) "                  \
	"ORDER BY num DESC LIMIT $2::bigint)"

/* Names of groups are plain: an array of them needs no quotes. */
void
sp_actor_group_array(const struct sp_actor *a, struct sp_buf *b)
{
	enum sp_err e = sp_buf_put_u8(b, '{');

	for (size_t i = 0; e == SP_OK && i < a->n_groups; i++)
		e = sp_buf_printf(b, "%s%s", i > 0 ? "," : "", a->groups[i]);
	if (e == SP_OK)
		e = sp_buf_put(b, "}", 2);
	SP_ASSERT(e == SP_OK);
}

static void
requests_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(request_cols, N_REQUEST_COLS);
	size_t n = sp_rows_n(c->rows[0]);
	char limit[24];

	for (size_t i = 0; i < n; i++)
		if (may_see(c, i))
			add_request(c, l, i);
	sp_call_list(c, l, sp_call_has(c, "all") ? "No requests." :
	    "No open requests. requests --all shows those that are over.");
	sp_list_free(l);
	if (!sp_call_limit(c, limit))
		return;
	if (n > 0 && !c->style.json && n >= strtoul(limit, NULL, 10))
		sp_call_say(c, "\nThere may be more: requests%s --before %s\n",
		    sp_call_has(c, "all") ? " --all" : "",
		    sp_rows_get(c->rows[0], n - 1, "num"));
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_requests(struct sp_call *c)
{
	const char *before = sp_call_opt(c, "before");
	SP_BUF_AUTO groups = {.max = 4096};
	char now[24] = "0", limit[24], me[SP_UUID_TEXT] = "";
	uint64_t n;

	if (!sp_call_limit(c, limit))
		return;
	if (before != NULL && sp_u64_parse(sp_span_str(before), INT64_MAX, &n) !=
	    SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--before wants the number of a "
		    "request");
		return;
	}
	if (!sp_call_has(c, "all"))
		snprintf(now, sizeof(now), "%lld", (long long)c->style.now_us);
	if (!sp_actor_may_audit(&c->who))
		sp_uuid_text(me, c->who.person);
	sp_actor_group_array(&c->who, &groups);
	LOAD_REQUESTS(c, PAGE, 5, requests_print,
	    before == NULL ? "9223372036854775807" : before, limit, me,
	    (const char *)groups.p + groups.off, now);
}

/* -------------------------------------------------------------------- show */

static struct sp_list *
decision_list(const struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"verdict", "DECISION", SP_COL_TEXT}, {"by", "BY", SP_COL_TEXT},
		{"at", "WHEN", SP_COL_TIME}, {"comment", "COMMENT", SP_COL_TEXT}};
	struct sp_list *l = sp_list_new(cols, 4);
	const struct sp_rows *d = c->rows[4];

	for (size_t i = 0; i < sp_rows_n(d); i++)
		sp_list_add(l, (const char *[]){sp_rows_get(d, i, "verdict"),
		    sp_rows_name(c->rows[1], sp_rows_get(d, i, "approver_id"),
		    "name"), sp_rows_get(d, i, "at_us"),
		    sp_rows_get(d, i, "comment")});
	return l;
}

static struct sp_list *
grant_list(const struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", "GRANT", SP_COL_ID}, {"state", "STATE", SP_COL_STATE},
		{"starts", "FROM", SP_COL_TIME}, {"ends", "UNTIL", SP_COL_TIME},
		{"ended_by", "ENDED BY", SP_COL_TEXT},
		{"rules", NULL, SP_COL_JSON}, {"allows", "ALLOWS", SP_COL_TEXT}};
	struct sp_list *l = sp_list_new(cols, 7);
	const struct sp_rows *g = c->rows[5];

	for (size_t i = 0; i < sp_rows_n(g); i++) {
		struct allows may;

		allows_of(&may, g, i);
		sp_list_add(l, (const char *[]){sp_rows_get(g, i, "id"),
		    sp_rows_get(g, i, "state"), sp_rows_get(g, i, "starts_us"),
		    sp_rows_get(g, i, "ends_us"), sp_rows_get(g, i, "ended_by"),
		    may.json, may.text});
		free(may.json);
	}
	return l;
}

static void
show_print(struct sp_call *c)
{
	struct sp_list *q = sp_list_new(request_cols, N_REQUEST_COLS), *d, *g;
	SP_BUF_AUTO out = {.max = 256 * 1024};

	if (sp_rows_n(c->rows[0]) != 1 || !may_see(c, 0)) {
		sp_list_free(q);
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no request %s that "
		    "you may see; requests --all lists yours", c->pos[0]);
		return;
	}
	add_request(c, q, 0);
	d = decision_list(c);
	g = grant_list(c);
	if (c->style.json) {
		json_object *o = sp_list_json_row(q, 0);

		json_object_object_add(o, "decisions", sp_list_json(d));
		json_object_object_add(o, "grants", sp_list_json(g));
		sp_call_json(c, o);
	} else if (sp_list_print_row(q, 0, &c->style, &out) == SP_OK &&
	    sp_buf_put(&out, "\n", 1) == SP_OK &&
	    sp_list_print(d, &c->style, "Nobody has decided yet.", &out) == SP_OK &&
	    sp_buf_put(&out, "\n", 1) == SP_OK &&
	    sp_list_print(g, &c->style, "No grant.", &out) == SP_OK) {
		sp_call_out(c, sp_buf_span(&out));
	}
	sp_list_free(q);
	sp_list_free(d);
	sp_list_free(g);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_show(struct sp_call *c)
{
	uint64_t n;

	if (strlen(c->pos[0]) >= 8 ||
	    sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, &n) != SP_OK)
		sp_verb_show_session(c, c->pos[0]);
	else
		LOAD_REQUESTS(c, "num = $1::bigint", 1, show_print, c->pos[0]);
}
