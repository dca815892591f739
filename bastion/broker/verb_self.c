/* SPDX-License-Identifier: Apache-2.0 */
/* What one is, what one can reach, how the bastion is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/login.h"
#include "bastion/broker/session.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"

static const char *
mfa_name(uint8_t mfa)
{
	static const char *const names[] = {"none", "totp", "sk", "sk-uv"};

	return mfa < 4 ? names[mfa] : "?";
}

/* One object, or its lines; frees the list and ends the call. */
static void
print_one(struct sp_call *c, struct sp_list *l)
{
	SP_BUF_AUTO out = {.max = 65536};

	if (c->style.json)
		sp_call_json(c, sp_list_json_row(l, 0));
	else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK)
		sp_call_out(c, sp_buf_span(&out));
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_whoami(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", NULL, SP_COL_TEXT}, {"name", "name", SP_COL_TEXT},
		{"from", "from", SP_COL_TEXT}, {"groups", "groups", SP_COL_WORDS},
		{"mfa", "second factor", SP_COL_TEXT},
		{"host", NULL, SP_COL_BOOL}, {"node", "bastion", SP_COL_TEXT},
	};
	struct sp_list *l = sp_list_new(cols, 7);
	SP_BUF_AUTO groups = {.max = 4096};
	char id[SP_UUID_TEXT];

	for (size_t i = 0; i < c->who.n_groups; i++)
		(void)!sp_buf_printf(&groups, "%s%s", i > 0 ? " " : "",
		    c->who.groups[i]);
	(void)!sp_buf_put_u8(&groups, 0);
	sp_uuid_text(id, c->who.person);
	sp_list_add(l, (const char *[]){c->who.is_host ? NULL : id, c->who.name,
	    c->who.addr, (const char *)sp_buf_span(&groups).p,
	    c->who.is_host ? "uid of the control socket" : mfa_name(c->who.mfa),
	    c->who.is_host ? "t" : "f", c->b->node});
	print_one(c, l);
}

/* -------------------------------------------------------------------- menu */

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
	struct sp_verdict v = {0};
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
		    mfa_name((uint8_t)v.mfa));
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
sp_verb_menu(struct sp_call *c)
{
	char id[SP_UUID_TEXT];

	if (c->who.is_host) {
		sp_verb_targets_list(c);
		return;
	}
	sp_uuid_text(id, c->who.person);
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE enabled ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"},
	    {.t = SP_T_GRANTS, .where = "WHERE person_id = $1 AND "
	    "state = 'active'", .p = {id}, .n = 1},
	    {.t = SP_T_REQUESTS, .where = "WHERE person_id = $1 AND "
	    "state = 'pending'", .p = {id}, .n = 1}}, 4, menu_print);
}

/* ------------------------------------------------------------------- vault */

/* The vault says it as a line of an authorized_keys file. */
static void
ca_line(const struct sp_msg_v_status_r *v, char *dst, size_t cap, char *fp)
{
	struct sp_pubkey k;
	const char *why;

	dst[0] = fp[0] = '\0';
	if (sp_pubkey_parse(v->ca_key, &k, &why) == SP_OK &&
	    sp_span_cstr(v->ca_key, dst, cap) == SP_OK)
		sp_fingerprint(fp, sp_span_of(k.blob, k.n));
}

static void
vault_print(void *arg, enum sp_err e, struct sp_packet *reply)
{
	static const struct sp_col cols[] = {
		{"state", "vault", SP_COL_STATE}, {"demo", "demonstration key", SP_COL_BOOL},
		{"audit_key", "audit key (Ed25519)", SP_COL_TEXT},
		{"recording_key", "recording key (X25519)", SP_COL_TEXT},
		{"ca_key", "user CA", SP_COL_TEXT},
		{"ca_fingerprint", "user CA fingerprint", SP_COL_TEXT},
	};
	struct sp_call *c = arg;
	struct sp_msg_v_status_r v;
	struct sp_list *l;
	char audit[65], rec[65], ca[600], fp[SP_FINGERPRINT_TEXT];

	if (e != SP_OK || sp_dec_v_status_r(reply->body, &v) != SP_OK) {
		sp_call_fail(c, SP_EXIT_LATER,
		    "the vault is away; on the host: sallyport status");
		return;
	}
	sp_hex(audit, v.audit_key, 32);
	sp_hex(rec, v.recording_key, 32);
	ca_line(&v, ca, sizeof(ca), fp);
	l = sp_list_new(cols, 6);
	sp_list_add(l, (const char *[]){v.sealed ? "sealed" : "open",
	    v.demo ? "t" : "f", v.sealed ? NULL : audit, v.sealed ? NULL : rec,
	    ca[0] != '\0' ? ca : NULL, fp[0] != '\0' ? fp : NULL});
	print_one(c, l);
}

/* Asked now: what was true a while ago is not what they want to know. */
void
sp_verb_vault_status(struct sp_call *c)
{
	sp_vault_call(c->b->vault, SP_MSG_v_status, (struct sp_span){0},
	    SP_MSG_v_status_r, vault_print, c);
}

/* ------------------------------------------------------------------ status */

struct status {
	struct sp_call *c;
	char running[24];	/* sessions; "" while the database is away */
};

static void
status_print(void *arg, enum sp_err e, struct sp_packet *reply)
{
	static const struct sp_col cols[] = {
		{"node", "bastion", SP_COL_TEXT},
		{"database", "database", SP_COL_STATE},
		{"vault", "vault", SP_COL_STATE},
		{"demo", "demonstration key", SP_COL_BOOL},
		{"connections", "connections", SP_COL_NUMBER},
		{"sessions", "running sessions", SP_COL_NUMBER},
		{"policy_rules", "rules of the policy", SP_COL_NUMBER},
		{"policy_hash", "policy", SP_COL_TEXT},
	};
	struct status *s = arg;
	struct sp_call *c = s->c;
	struct sp_msg_v_status_r v = {0};
	struct sp_list *l = sp_list_new(cols, 8);
	char conns[24], rules[24];
	bool known = e == SP_OK && sp_dec_v_status_r(reply->body, &v) == SP_OK;

	snprintf(conns, sizeof(conns), "%zu", sp_login_count(c->b));
	snprintf(rules, sizeof(rules), "%zu", c->b->policy == NULL ? 0 :
	    sp_policy_n_rules(c->b->policy));
	sp_list_add(l, (const char *[]){c->b->node,
	    sp_store_is_up(c->b->store) ? "ok" : "away",
	    !known ? "away" : v.sealed ? "sealed" : "open",
	    v.demo ? "t" : "f", conns, s->running[0] != '\0' ? s->running : NULL,
	    rules, c->b->policy == NULL ? "none: everything is denied" :
	    c->b->policy_hash});
	print_one(c, l);
}

/* Status answers also while the database or the vault is away: it says so. */
static void
status_counted(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct status *s = arg;

	if (e == SP_OK && sp_rows_n(rows) == 1)
		snprintf(s->running, sizeof(s->running), "%s",
		    sp_rows_get(rows, 0, "n"));
	sp_vault_call(s->c->b->vault, SP_MSG_v_status, (struct sp_span){0},
	    SP_MSG_v_status_r, status_print, s);
}

void
sp_verb_status(struct sp_call *c)
{
	struct status *s = calloc(1, sizeof(*s));

	SP_ASSERT(s != NULL);
	s->c = c;
	c->state = s;
	c->free_state = free;
	sp_store_query(c->b->store, "SELECT count(*) AS n FROM sessions "
	    "WHERE ended_us IS NULL", NULL, 0, status_counted, s);
}

/* ------------------------------------------------------------------- seals */

/* Reads every sealed row once: what the vault did not seal is counted. */
struct seals {
	struct sp_call *c;
	struct sp_list *list;
	int t;
	size_t broken;
};

static void
seals_free(void *state)
{
	struct seals *s = state;

	sp_list_free(s->list);
	free(s);
}

static void
seals_one(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct seals *s = arg;
	struct sp_call *c = s->c;
	char n[24], broken[24];

	if (e != SP_OK) {
		sp_call_fail_err(c, e, "seals");
		return;
	}
	snprintf(n, sizeof(n), "%zu", sp_rows_n(rows));
	snprintf(broken, sizeof(broken), "%zu", sp_rows_n_broken(rows));
	s->broken += sp_rows_n_broken(rows);
	sp_list_add(s->list, (const char *[]){sp_tables[s->t].name, n, broken});
	if (++s->t < SP_T_COUNT_) {
		sp_store_load(c->b->store, (enum sp_table)s->t, "", NULL, 0,
		    seals_one, s);
		return;
	}
	sp_call_list(c, s->list, "");
	sp_call_end(c, s->broken == 0 ? SP_EXIT_OK : SP_EXIT_REFUSED);
}

void
sp_verb_seals(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", "TABLE", SP_COL_TEXT}, {"rows", "ROWS", SP_COL_NUMBER},
		{"broken", "BROKEN", SP_COL_NUMBER}};
	struct seals *s = calloc(1, sizeof(*s));

	SP_ASSERT(s != NULL);
	s->c = c;
	s->list = sp_list_new(cols, 3);
	c->state = s;
	c->free_state = seals_free;
	sp_store_load(c->b->store, (enum sp_table)0, "", NULL, 0, seals_one, s);
}
