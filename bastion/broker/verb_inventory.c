/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of the inventory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/where.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"
#include "bastion/broker/verb_sql.h"
#include "common/kinds.h"

/* ----------------------------------------------------------------- listing */

static const struct sp_col target_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"name", "TARGET", SP_COL_TEXT},
	{"addr", NULL, SP_COL_TEXT}, {"port", NULL, SP_COL_NUMBER},
	{"addrs", "ADDRESS", SP_COL_WORDS}, {"via", "VIA", SP_COL_TEXT},
	{"tags", "TAGS", SP_COL_WORDS}, {"enabled", "ENABLED", SP_COL_BOOL},
	{"legacy", "OLD ALGORITHMS", SP_COL_BOOL},
	{"protocol", "PROTOCOL", SP_COL_TEXT},
	{"accounts", "ACCOUNTS", SP_COL_WORDS},
	{"fingerprints", "HOST KEY", SP_COL_WORDS},
};
#define TARGET_COLS (sizeof(target_cols) / sizeof(target_cols[0]))

void
sp_target_fingerprints(const char *lines, char *dst, size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	while (lines != NULL && *lines != '\0') {
		size_t n = strcspn(lines, "\n");
		struct sp_pubkey k;
		const char *why;
		char fp[SP_FINGERPRINT_TEXT], pin[SP_SQL_PIN_TEXT];

		if (sp_host_key_parse(sp_span_of(lines, n), true, &k, &why) ==
		    SP_OK &&
		    o + sizeof(fp) < cap) {
			sp_fingerprint(fp, sp_span_of(k.blob, k.n));
			o += (size_t)snprintf(dst + o, cap - o, "%s%s",
			    o > 0 ? " " : "", fp);
		} else if (sp_sql_pin_text(sp_span_of(lines, n), pin) != NULL &&
		    o + sizeof(pin) < cap) {
			o += (size_t)snprintf(dst + o, cap - o, "%s%s",
			    o > 0 ? " " : "", pin);
		}
		lines += n;
		lines += *lines == '\n';
	}
}

static void
account_names(const struct sp_rows *accounts, const char *target, char *dst,
    size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < sp_rows_n(accounts); i++) {
		const char *t = sp_rows_get(accounts, i, "target_id");

		if (t == NULL || strcmp(t, target) != 0 ||
		    o + SP_NAME_MAX + 2 >= cap)
			continue;
		o += (size_t)snprintf(dst + o, cap - o, "%s%.32s",
		    o > 0 ? " " : "", sp_rows_get(accounts, i, "name"));
	}
}

/* "admin@core-01", or NULL; an account or target whose seal is broken is "?". */
static const char *
way_text(struct sp_call *c, size_t i, char *dst, size_t cap)
{
	const char *via = sp_rows_get(c->rows[0], i, "via"), *target = NULL;

	if (via == NULL)
		return NULL;
	for (size_t k = 0; k < sp_rows_n(c->rows[1]); k++)
		if (strcmp(sp_rows_get(c->rows[1], k, "id"), via) == 0)
			target = sp_rows_get(c->rows[1], k, "target_id");
	snprintf(dst, cap, "%s@%s", sp_rows_name(c->rows[1], via, "name"),
	    target == NULL ? "?" : sp_rows_name(c->rows[0], target, "name"));
	return dst;
}

static void
add_target(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *t = c->rows[0];
	char fp[1024], names[2048], addrs[SP_MORE_ADDRS + SP_WHERE_TEXT];
	char one[SP_WHERE_TEXT], way[80];
	const char *more = sp_rows_get(t, i, "more_addrs");

	sp_target_fingerprints(sp_rows_get(t, i, "host_keys"), fp, sizeof(fp));
	account_names(c->rows[1], sp_rows_get(t, i, "id"), names, sizeof(names));
	snprintf(addrs, sizeof(addrs), "%s%s%s", sp_where_text(one,
	    sp_rows_get(t, i, "addr"), (uint16_t)sp_rows_i64(t, i, "port")),
	    more == NULL ? "" : " ", more == NULL ? "" : more);
	sp_list_add(l, (const char *[]){sp_rows_get(t, i, "id"),
	    sp_rows_get(t, i, "name"), sp_rows_get(t, i, "addr"),
	    sp_rows_get(t, i, "port"), addrs,
	    way_text(c, i, way, sizeof(way)), sp_rows_get(t, i, "tags"),
	    sp_rows_get(t, i, "enabled"),
	    sp_rows_bool(t, i, "legacy") ? "t" : "f",
	    sp_rows_get(t, i, "protocol") == NULL ? "ssh" :
	    sp_rows_get(t, i, "protocol"), names, fp});
}

static void
targets_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(target_cols, TARGET_COLS);
	size_t n = sp_rows_n(c->rows[0]);

	for (size_t i = 0; i < n; i++)
		add_target(c, l, i);
	sp_call_list(c, l, sp_call_has(c, "after") || sp_call_has(c, "tag") ?
	    "No such targets." : "No targets yet. Add one: "
	    "target add NAME --addr ADDRESS --host-key 'ssh-ed25519 ...'");
	sp_list_free(l);
	sp_call_more(c, c->rows[0], "targets list", n == 0 ? "" :
	    sp_rows_get(c->rows[0], n - 1, "name"));
	sp_call_end(c, SP_EXIT_OK);
}

/* A page of the targets; the accounts of all, for the ways to them. */
void
sp_verb_targets_list(struct sp_call *c)
{
	const char *after = sp_call_opt(c, "after"), *tag = sp_call_opt(c, "tag");
	char limit[24];

	if (!sp_call_limit(c, limit))
		return;
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name::text > $1 AND ($2 = '' OR "
	    "$2 = ANY (string_to_array(tags, ' '))) ORDER BY name "
	    "LIMIT $3::bigint", .p = {after == NULL ? "" : after,
	    tag == NULL ? "" : tag, limit}, .n = 3},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"}}, 2, targets_print);
}

static void
target_print(struct sp_call *c)
{
	struct sp_list *l;
	SP_BUF_AUTO out = {.max = 64 * 1024};
	size_t i = sp_rows_find(c->rows[0], "name", c->pos[0]);

	if (i == SIZE_MAX) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no target %s: targets "
		    "list shows them", sp_vis_str(c->pos[0]));
		return;
	}
	l = sp_list_new(target_cols, TARGET_COLS);
	add_target(c, l, i);
	if (c->style.json) {
		json_object *o = sp_list_json_row(l, 0);

		json_object_object_add(o, "host_keys", sp_json_text(
		    sp_rows_get(c->rows[0], i, "host_keys")));
		sp_call_json(c, o);
	} else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK) {
		sp_call_out(c, sp_buf_span(&out));
	}
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

/* All targets are loaded for the name of the one that leads there. */
void
sp_verb_target_show(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1 OR id IN (SELECT "
	    "a.target_id FROM accounts a JOIN targets t ON t.via = a.id WHERE "
	    "t.name = $1)", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"}}, 2, target_print);
}

static const struct sp_col account_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"account", "ACCOUNT", SP_COL_TEXT},
	{"target", "TARGET", SP_COL_TEXT}, {"kind", "CREDENTIAL", SP_COL_TEXT},
	{"has_secret", "SECRET", SP_COL_BOOL},
	{"enabled", "ENABLED", SP_COL_BOOL},
	{"exclusive", "EXCLUSIVE", SP_COL_BOOL},
	{"secret_id", NULL, SP_COL_TEXT}, {"target_id", NULL, SP_COL_TEXT},
};
#define ACCOUNT_COLS (sizeof(account_cols) / sizeof(account_cols[0]))

static void
add_account(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *a = c->rows[1];

	sp_list_add(l, (const char *[]){sp_rows_get(a, i, "id"),
	    sp_rows_get(a, i, "name"), sp_rows_name(c->rows[0],
	    sp_rows_get(a, i, "target_id"), "name"),
	    sp_kind_name(sp_rows_i64(a, i, "kind")),
	    sp_rows_get(a, i, "secret_id") != NULL ? "t" : "f",
	    sp_rows_bool(a, i, "disabled") ? "f" : "t",
	    sp_rows_bool(a, i, "exclusive") ? "t" : "f",
	    sp_rows_get(a, i, "secret_id"), sp_rows_get(a, i, "target_id")});
}

static void
accounts_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(account_cols, ACCOUNT_COLS);
	size_t n = sp_rows_n(c->rows[1]);
	char last[2 * SP_NAME_MAX + 80] = "";

	for (size_t i = 0; i < n; i++)
		add_account(c, l, i);
	sp_call_list(c, l, sp_call_has(c, "after") || sp_call_has(c, "target") ?
	    "No such accounts." :
	    "No accounts yet. Add one: account add ACCOUNT@TARGET --kind cert");
	sp_list_free(l);
	if (n > 0)
		snprintf(last, sizeof(last), "%.64s@%.64s",
		    sp_rows_get(c->rows[1], n - 1, "name"), sp_rows_name(c->rows[0],
		    sp_rows_get(c->rows[1], n - 1, "target_id"), "name"));
	sp_call_more(c, c->rows[1], "account list", last);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_account_list(struct sp_call *c)
{
	const char *after = sp_call_opt(c, "after");
	const char *target = sp_call_opt(c, "target");
	char limit[24], name[SP_NAME_MAX + 1] = "", at[SP_NAME_MAX + 1] = "";

	if (!sp_call_limit(c, limit))
		return;
	if (after != NULL && !sp_split_ask(after, name, at)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--after wants an ACCOUNT@TARGET");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE $1 = '' OR name = $1",
	    .p = {target == NULL ? "" : target}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "JOIN targets sp_t ON sp_t.id = "
	    "accounts.target_id WHERE ($1 = '' OR sp_t.name = $1) AND "
	    "(sp_t.name::text, accounts.name) > ($2, $3) "
	    "ORDER BY sp_t.name, accounts.name LIMIT $4::bigint",
	    .p = {target == NULL ? "" : target, at, name, limit}, .n = 4}}, 2,
	    accounts_print);
}

static void
account_print(struct sp_call *c)
{
	struct sp_list *l;
	SP_BUF_AUTO out = {.max = 64 * 1024};

	if (sp_rows_n(c->rows[1]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no account %s: account "
		    "list shows them%s", sp_vis_str(c->pos[0]),
		    sp_rows_n_broken(c->rows[1]) == 0 ? "" :
		    ". The row's seal is broken: somebody changed it by hand");
		return;
	}
	l = sp_list_new(account_cols, ACCOUNT_COLS);
	add_account(c, l, 0);
	if (c->style.json)
		sp_call_json(c, sp_list_json_row(l, 0));
	else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK)
		sp_call_out(c, sp_buf_span(&out));
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_account_show(struct sp_call *c)
{
	sp_account_load(c, account_print);
}
