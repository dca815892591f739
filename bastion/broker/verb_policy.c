/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_int.h"

/* ---------------------------------------------------------- check and load */

static bool
from_input(struct sp_call *c)
{
	if (c->n_pos == 0 || strcmp(c->pos[0], "-") == 0)
		return true;
	sp_call_fail(c, SP_EXIT_USAGE, "files of yours are not seen here: "
	    "policy %s < FILE", c->verb->sub);
	return false;
}

/* NULL: it has errors, and they have been said. */
static struct sp_policy *
parse(struct sp_call *c, bool ends)
{
	struct sp_policy_diag d = {0};
	struct sp_policy *p = NULL;
	json_object *o;

	if (c->input.len == 0) {
		sp_call_fail(c, SP_EXIT_USAGE, "the text is empty: "
		    "policy %s < FILE", c->verb->sub);
		return NULL;
	}
	if (c->input.len > SP_POLICY_TEXT_MAX) {
		sp_call_fail(c, SP_EXIT_REFUSED, "a policy has at most %d bytes",
		    SP_POLICY_TEXT_MAX);
		return NULL;
	}
	if (sp_policy_parse(sp_buf_span(&c->input), &p, &d) == SP_OK)
		return p;
	if (!c->style.json) {
		sp_call_fail(c, SP_EXIT_REFUSED, "policy:%u:%u: %s%s", d.line,
		    d.column, sp_vis_str(d.text),
		    ends ? "" : "\nNothing was changed.");
		return NULL;
	}
	o = json_object_new_object();
	json_object_object_add(o, "id", NULL);
	json_object_object_add(o, "state", sp_json_text("wrong"));
	json_object_object_add(o, "line", json_object_new_int64(d.line));
	json_object_object_add(o, "column", json_object_new_int64(d.column));
	json_object_object_add(o, "text", sp_json_text(d.text));
	sp_call_json(c, o);
	sp_call_end(c, SP_EXIT_REFUSED);
	return NULL;
}

/* Names in the text that nobody and nothing has: rarely what was meant. */
static void
warn_unknown(struct sp_call *c, const struct sp_policy *p)
{
	const char *name;

	if (sp_call_has(c, "quiet"))
		return;
	for (size_t i = 0; (name = sp_policy_group(p, i)) != NULL; i++)
		if (sp_rows_find(c->rows[1], "group_name", name) == SIZE_MAX) {
			char line[160];

			snprintf(line, sizeof(line), "warning: nobody is in the "
			    "group %s\n", sp_vis_str(name));
			sp_call_err(c, sp_span_str(line));
		}
	for (size_t i = 0; (name = sp_policy_tag(p, i)) != NULL; i++) {
		bool known = false;
		char line[160], tags[600], want[80];

		snprintf(want, sizeof(want), " %.64s ", name);
		for (size_t k = 0; k < sp_rows_n(c->rows[2]) && !known; k++) {
			snprintf(tags, sizeof(tags), " %s ",
			    sp_rows_get(c->rows[2], k, "tags"));
			known = strstr(tags, want) != NULL;
		}
		snprintf(line, sizeof(line), "warning: no target has the tag %s\n",
		    sp_vis_str(name));
		if (!known)
			sp_call_err(c, sp_span_str(line));
	}
}

static void
check_with_names(struct sp_call *c)
{
	struct sp_policy *p = parse(c, true);
	char hash[65];
	size_t n;

	if (p == NULL)
		return;
	n = sp_policy_n_rules(p);
	warn_unknown(c, p);
	sp_policy_free(p);
	sp_sha256_text(hash, sp_buf_span(&c->input));
	sp_call_did(c, hash, "right", "The policy is right: %zu rule%s. "
	    "Its hash is %s.", n, n == 1 ? "" : "s", hash);
}

static void
loaded(struct sp_call *c)
{
	char hash[65];

	sp_sha256_text(hash, sp_buf_span(&c->input));
	sp_broker_changed(c->b);
	sp_call_did(c, hash, "loaded", "The policy holds from now on; running "
	    "sessions are judged again. Its hash is %s.", hash);
}

static void
load_with_names(struct sp_call *c)
{
	struct sp_policy *p = parse(c, false);
	struct sp_change *ch;
	char hash[65], seq[24], now[24], *body, *detail;
	uint8_t id[16];

	if (p == NULL)
		return;
	/* The text of a new bastion never takes the place of another one, be its
	 * row broken or not yet read. */
	if (sp_call_has(c, "first") && (sp_rows_n(c->rows[0]) > 0 ||
	    sp_rows_n_broken(c->rows[0]) > 0)) {
		sp_policy_free(p);
		sp_call_say(c, "kept\n");
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	warn_unknown(c, p);
	sp_policy_free(p);
	body = sp_span_dup(sp_buf_span(&c->input));
	if (body == NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "the text holds a NUL");
		return;
	}
	sp_sha256_text(hash, sp_buf_span(&c->input));
	snprintf(seq, sizeof(seq), "%lld", sp_rows_n(c->rows[0]) == 0 ? 1LL :
	    (long long)sp_rows_i64(c->rows[0], 0, "seq") + 1);
	snprintf(now, sizeof(now), "%lld", (long long)sp_now_us());
	detail = sp_call_detail("hash", hash, "seq", seq, NULL);
	sp_uuid_make(id);
	ch = sp_change_new(c->b->store);
	sp_change_insert(ch, SP_T_POLICIES, id, (const char *[]){seq, body, hash,
	    c->who.name, now});
	sp_change_audit(ch, "policy_load", c->who.name, NULL, detail);
	free(detail);
	free(body);
	sp_call_commit(c, ch, "policy load", loaded);
}

static void
with_names(struct sp_call *c, void (*then)(struct sp_call *c))
{
	if (!from_input(c))
		return;
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_POLICIES, .where = "ORDER BY seq DESC LIMIT 1"},
	    {.t = SP_T_MEMBERSHIPS, .where = ""},
	    {.t = SP_T_TARGETS, .where = ""}}, 3, then);
}

void
sp_verb_policy_check(struct sp_call *c)
{
	with_names(c, check_with_names);
}

void
sp_verb_policy_load(struct sp_call *c)
{
	with_names(c, load_with_names);
}

/* -------------------------------------------------------------------- show */

/* To a file byte by byte; to a terminal line by line, encoded. */
static void
show_body(struct sp_call *c, const char *body)
{
	char safe[4096];

	if (!c->pty) {
		sp_call_out(c, sp_span_str(body));
		return;
	}
	while (*body != '\0') {
		size_t n = strcspn(body, "\n");

		sp_call_say(c, "%s\n", sp_vis(safe, sizeof(safe),
		    sp_span_of(body, n)));
		body += n;
		body += *body == '\n';
	}
}

static void
policy_print(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", NULL, SP_COL_TEXT}, {"seq", NULL, SP_COL_NUMBER},
		{"hash", NULL, SP_COL_TEXT}, {"loaded_by", NULL, SP_COL_TEXT},
		{"loaded", NULL, SP_COL_TIME}, {"body", NULL, SP_COL_TEXT}};
	const struct sp_rows *r = c->rows[0];
	struct sp_list *l;

	if (sp_rows_n(r) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "no policy holds: everything is "
		    "denied. Load one: policy load < FILE");
		return;
	}
	if (c->style.json) {
		l = sp_list_new(cols, 6);
		sp_list_add(l, (const char *[]){sp_rows_get(r, 0, "id"),
		    sp_rows_get(r, 0, "seq"), sp_rows_get(r, 0, "hash"),
		    sp_rows_get(r, 0, "loaded_by"),
		    sp_rows_get(r, 0, "loaded_us"), sp_rows_get(r, 0, "body")});
		sp_call_json(c, sp_list_json_row(l, 0));
		sp_list_free(l);
	} else {
		show_body(c, sp_rows_get(r, 0, "body"));
	}
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_policy_show(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_POLICIES,
	    .where = "ORDER BY seq DESC LIMIT 1"}}, 1, policy_print);
}

/* ----------------------------------------------------------------- explain */

struct question {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	int64_t at_us;
};

static void
explain_json(struct sp_call *c, const struct sp_verdict *v, char *lines)
{
	json_object *o = json_object_new_object(), *a = json_object_new_array();
	char *save = NULL;

	json_object_object_add(o, "allow", json_object_new_boolean(v->allow));
	json_object_object_add(o, "rule", sp_json_text(v->rule));
	json_object_object_add(o, "approvals",
	    json_object_new_int64((int64_t)v->approvals));
	json_object_object_add(o, "approver_group", sp_json_text(v->approvers));
	json_object_object_add(o, "mfa", json_object_new_int64((int64_t)v->mfa));
	json_object_object_add(o, "longest_s",
	    json_object_new_int64(v->longest_us / 1000000));
	json_object_object_add(o, "reasons", sp_json_text(v->reasons));
	json_object_object_add(o, "rights", sp_rules_json(sp_span_of(v->rules,
	    v->n_rules)));
	json_object_object_add(o, "policy_hash", sp_json_text(c->b->policy_hash));
	for (char *s = strtok_r(lines, "\n", &save); s != NULL;
	    s = strtok_r(NULL, "\n", &save))
		json_object_array_add(a, sp_json_text(s));
	json_object_object_add(o, "rules", a);
	sp_call_json(c, o);
}

static void
explain_text(struct sp_call *c, const struct sp_verdict *v, char *lines)
{
	char longest[SP_TIME_TEXT], safe[6000], *save = NULL;

	for (char *s = strtok_r(lines, "\n", &save); s != NULL;
	    s = strtok_r(NULL, "\n", &save))
		sp_call_say(c, "%s\n", sp_vis(safe, sizeof(safe), sp_span_str(s)));
	sp_duration_text(longest, v->longest_us);
	sp_call_say(c, "\n%s%s%s\n", v->allow ? "allowed" : "denied",
	    v->rule[0] != '\0' ? " by the rule " : " by default",
	    v->rule[0] != '\0' ? sp_vis_str(v->rule) : "");
	if (v->allow)
		sp_call_say(c, "needs: %u approval%s%s%s, second factor level %d; "
		    "at most %s\n", v->approvals, v->approvals == 1 ? "" : "s",
		    v->approvals > 0 ? " of " : "", v->approvers, (int)v->mfa,
		    v->longest_us > 0 ? longest : "8h");
	sp_call_say(c, "%s\n", sp_vis(safe, sizeof(safe), sp_span_str(v->reasons)));
}

static void
explain_print(struct sp_call *c)
{
	struct question *q = c->state;
	struct sp_known k;
	static struct sp_verdict v;
	struct sp_buf lines = {.max = 1 << 20};
	const char *source = sp_call_opt(c, "source");

	if (sp_rows_n(c->rows[0]) != 1 || sp_rows_n(c->rows[2]) != 1 ||
	    sp_rows_n(c->rows[3]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no %s %s",
		    sp_rows_n(c->rows[0]) != 1 ? "person" :
		    sp_rows_n(c->rows[2]) != 1 ? "target" : "account",
		    sp_rows_n(c->rows[0]) != 1 ? sp_vis_str(c->pos[0]) :
		    sp_vis_str(c->pos[1]));
		return;
	}
	sp_known_set(&k, sp_rows_get(c->rows[0], 0, "name"), q->target,
	    q->account, sp_rows_get(c->rows[2], 0, "tags"));
	for (size_t i = 0; i < sp_rows_n(c->rows[1]); i++)
		sp_known_group(&k, sp_rows_get(c->rows[1], i, "group_name"));
	sp_known_when(&k, q->at_us, source, SP_MFA_TOTP);
	sp_policy_decide(c->b->policy, &k.f, &v);
	if (c->b->policy != NULL &&
	    sp_policy_explain(c->b->policy, &k.f, &lines) != SP_OK)
		sp_buf_reset(&lines);
	if (sp_buf_put_u8(&lines, 0) == SP_OK) {
		char *text = sp_span_dup(sp_span_of(sp_buf_span(&lines).p,
		    lines.len - 1));

		if (text != NULL && c->style.json)
			explain_json(c, &v, text);
		else if (text != NULL)
			explain_text(c, &v, text);
		free(text);
	}
	sp_buf_fini(&lines);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_policy_explain(struct sp_call *c)
{
	struct question *q = calloc(1, sizeof(*q));
	const char *at = sp_call_opt(c, "at");

	SP_ASSERT(q != NULL);
	c->state = q;
	c->free_state = free;
	q->at_us = c->style.now_us;
	if (!sp_split_ask(c->pos[1], q->account, q->target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	if (at != NULL && sp_time_parse(at, &q->at_us) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE,
		    "--at wants RFC 3339, such as 2026-01-31T14:00:00+08:00");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_PEOPLE, .where = "WHERE name = $1", .p = {c->pos[0]},
	    .n = 1},
	    {.t = SP_T_MEMBERSHIPS, .where = "WHERE person_id IN (SELECT id "
	    "FROM people WHERE name = $1)", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1", .p = {q->target},
	    .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE name = $1 AND target_id IN "
	    "(SELECT id FROM targets WHERE name = $2)",
	    .p = {q->account, q->target}, .n = 2}}, 4, explain_print);
}
