/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts: add, set, disable, remove. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/session.h"
#include "bastion/broker/sql.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_sql.h"
#include "common/kinds.h"

/* --------------------------------------------------------------------- add */

struct account {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	uint8_t id[16], secret[16];
	char secret_text[SP_UUID_TEXT];
	char *sealed;		/* "\x" and hex */
	const struct sp_kind *kind;
	char number[SP_NUM_TEXT];	/* the kind's, as text */
	char sql[600];		/* of a database's account (sql.h) */
};

static void
account_free(void *state)
{
	struct account *a = state;

	free(a->sealed);
	free(a);
}

static void
account_added(struct sp_call *c)
{
	struct account *a = c->state;
	char id[SP_UUID_TEXT];

	sp_broker_changed(c->b);
	sp_uuid_text(id, a->id);
	sp_call_did(c, id, "added", "Account %s at %s added (%s).", a->account,
	    a->target, a->kind->name);
}

static void
account_insert(struct sp_call *c)
{
	struct account *a = c->state;
	struct sp_change *ch;
	char id[SP_UUID_TEXT], now[SP_NUM_TEXT];
	struct sp_vals v;
	const char *target;
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no target %s: "
		    "targets list shows them", a->target);
		return;
	}
	if (!sp_sql_kind_goes(c, c->rows[0], a->kind->number))
		return;
	target = sp_rows_get(c->rows[0], 0, "id");
	detail = sp_call_detail("account", a->account, "target", a->target, "kind",
	    a->kind->name, NULL);
	ch = sp_change_new(c->b->store);
	sp_uuid_make(a->id);
	sp_uuid_text(id, a->id);
	if (a->sealed != NULL)
		sp_change_insert(ch, SP_T_SECRETS, a->secret,
		    (const char *[SP_COLS_MAX]){target, a->number, a->sealed, id,
		    "1", "current", sp_i64_text(now, sp_now_us())});
	sp_vals_init(&v, SP_T_ACCOUNTS);
	sp_vals_set(&v, "target_id", target);
	sp_vals_set(&v, "name", a->account);
	sp_vals_set(&v, "kind", a->number);
	sp_vals_set(&v, "secret_id", a->sealed != NULL ? a->secret_text : NULL);
	sp_vals_set(&v, "sql", a->sql[0] != '\0' ? a->sql : NULL);
	sp_change_insert(ch, SP_T_ACCOUNTS, a->id, v.v);
	sp_change_audit(ch, "account_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account add", account_added);
}

/* The blob that the vault sealed for this row; the CLI brings it. */
static bool
take_sealed(struct sp_call *c, struct account *a)
{
	const char *id = sp_call_opt(c, "secret-id");
	const char *hex = sp_call_opt(c, "sealed");
	size_t n = hex == NULL ? 0 : strlen(hex);

	if (id == NULL || n == 0 || n % 2 != 0 || n > 16384 ||
	    strspn(hex, "0123456789abcdef") != n ||
	    sp_uuid_parse(a->secret, sp_span_str(id)) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "a %s is sealed by the vault on "
		    "the host: sallyport account add %s@%s --kind %s "
		    "--%s-stdin", a->kind->name, a->account, a->target,
		    a->kind->name, a->kind->name);
		return false;
	}
	sp_uuid_text(a->secret_text, a->secret);
	a->sealed = calloc(1, n + 3);
	SP_ASSERT(a->sealed != NULL);
	snprintf(a->sealed, n + 3, "\\x%s", hex);
	return true;
}

/* false: the call has ended. */
static bool
take_kind(struct sp_call *c, struct account *a)
{
	const char *sep = " is one of ";
	const struct sp_kind *k;
	const char *bad;
	SP_BUF_AUTO text = {.max = 1024};

	a->kind = sp_kind_named(sp_call_opt(c, "kind"));
	if (a->kind != NULL && (a->kind->flags & SP_KIND_ACCOUNT) != 0) {
		sp_i64_text(a->number, a->kind->number);
		bad = sp_sql_account_args(c, a->kind->number, a->sql,
		    sizeof(a->sql));
		if (bad != NULL) {
			sp_call_fail(c, SP_EXIT_USAGE, "%s", bad);
			return false;
		}
		return (a->kind->flags & SP_KIND_STORED) == 0 ||
		    take_sealed(c, a);
	}
	for (size_t i = 0; (k = sp_kind_nth(SP_KIND_ACCOUNT, i)) != NULL; i++) {
		if (sp_buf_printf(&text, "%s%s (%s)", sep, k->name, k->words) !=
		    SP_OK)
			break;
		sep = ", ";
	}
	sp_call_fail(c, SP_EXIT_USAGE, "--kind%.*s", (int)text.len,
	    (const char *)sp_buf_span(&text).p);
	return false;
}

void
sp_verb_account_add(struct sp_call *c)
{
	struct account *a = calloc(1, sizeof(*a));

	SP_ASSERT(a != NULL);
	c->state = a;
	c->free_state = account_free;
	if (!sp_split_ask(c->pos[0], a->account, a->target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	if (!take_kind(c, a))
		return;
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_TARGETS,
	    .where = "WHERE name = $1", .p = {a->target}, .n = 1}}, 1,
	    account_insert);
}

/* -------------------------------------------------------- one that is there */

#define ACCOUNT_OF "(SELECT a.id FROM accounts a JOIN targets t ON t.id = "     \
	"a.target_id WHERE a.name = $1 AND t.name = $2)"

void
sp_account_load(struct sp_call *c, void (*then)(struct sp_call *c))
{
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];

	if (!sp_split_ask(c->pos[0], account, target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1", .p = {target}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {account, target}, .n = 2},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN (SELECT secret_id FROM "
	    "accounts WHERE id IN " ACCOUNT_OF ") OR account_id IN " ACCOUNT_OF
	    " ORDER BY coalesce(version, ver) DESC",
	    .p = {account, target}, .n = 2},
	    {.t = SP_T_TARGETS, .where = "WHERE via IN " ACCOUNT_OF,
	    .p = {account, target}, .n = 2},
	    {.t = SP_T_ROTATIONS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {account, target}, .n = 2}}, 5, then);
}

bool
sp_account_found(struct sp_call *c, uint8_t id[static 16])
{
	if (sp_rows_n(c->rows[1]) == 1 && sp_rows_uuid(c->rows[1], 0, "id", id))
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED,
	    "there is no account %s: account list shows them%s",
	    sp_vis_str(c->pos[0]), sp_rows_n_broken(c->rows[1]) == 0 ? "" :
	    ". The row's seal is broken: somebody changed it by hand");
	return false;
}

/* Every version of it, and what is known of its rotation. */
void
sp_account_drop_secrets(const struct sp_call *c, struct sp_change *ch)
{
	uint8_t id[16];

	for (size_t i = 0; i < sp_rows_n(c->rows[2]); i++)
		if (sp_rows_uuid(c->rows[2], i, "id", id))
			sp_change_delete(ch, SP_T_SECRETS, id,
			    sp_rows_ver(c->rows[2], i));
	if (sp_rows_n(c->rows[4]) == 1 &&
	    sp_rows_uuid(c->rows[4], 0, "id", id))
		sp_change_delete(ch, SP_T_ROTATIONS, id,
		    sp_rows_ver(c->rows[4], 0));
}

static void
account_removed(struct sp_call *c)
{
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[1], 0, "id"), "removed", "%s removed.",
	    c->pos[0]);
}

static void
account_drop(struct sp_call *c)
{
	struct sp_change *ch;
	uint8_t id[16];
	char *detail;

	if (!sp_account_found(c, id))
		return;
	if (sp_rows_n(c->rows[3]) > 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s is the way to %s: first target "
		    "set %s --via none", c->pos[0],
		    sp_rows_get(c->rows[3], 0, "name"),
		    sp_rows_get(c->rows[3], 0, "name"));
		return;
	}
	detail = sp_call_detail("account", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[1], 0));
	sp_account_drop_secrets(c, ch);
	sp_change_audit(ch, "account_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account remove", account_removed);
}

void
sp_verb_account_remove(struct sp_call *c)
{
	sp_account_load(c, account_drop);
}

/* ---------------------------------------------------------- set and switch */

static void
account_is_set(struct sp_call *c)
{
	const char *state = strcmp(c->verb->sub, "set") == 0 ? "set" :
	    strcmp(c->verb->sub, "enable") == 0 ? "enabled" : "disabled";

	/* Sessions under way are judged again, and end where it matters. */
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[1], 0, "id"), state, "%s %s.",
	    c->pos[0], state);
}

/* To a certificate: the secret that it had goes with the change. */
static void
account_write(struct sp_call *c)
{
	const struct sp_kind *kind = sp_kind_named(sp_call_opt(c, "kind"));
	struct sp_change *ch;
	uint8_t id[16];
	struct sp_vals v;
	char *detail, number[SP_NUM_TEXT];

	if (!sp_account_found(c, id) ||
	    !sp_sql_kind_goes(c, c->rows[0], kind->number))
		return;
	detail = sp_call_detail("account", c->pos[0], "kind", kind->name, NULL);
	ch = sp_change_new(c->b->store);
	sp_vals_from(&v, SP_T_ACCOUNTS, c->rows[1], 0);
	sp_vals_set(&v, "kind", sp_i64_text(number, kind->number));
	sp_vals_set(&v, "secret_id", NULL);
	sp_change_update(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[1], 0), v.v);
	sp_account_drop_secrets(c, ch);
	sp_change_audit(ch, "account_set", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account set", account_is_set);
}

void
sp_verb_account_set(struct sp_call *c)
{
	const struct sp_kind *kind = sp_kind_named(sp_call_opt(c, "kind"));

	if ((sp_call_has(c, "rotate") || sp_call_has(c, "password-rule")) &&
	    !sp_call_has(c, "exclusive") && sp_call_opt(c, "kind") == NULL)
		sp_verb_account_set_rotation(c);
	else if (sp_call_has(c, "exclusive") && sp_call_opt(c, "kind") == NULL)
		sp_verb_account_exclusive(c);
	else if (kind == NULL || (kind->flags & SP_KIND_ACCOUNT) == 0 ||
	    sp_call_has(c, "exclusive"))
		sp_call_fail(c, SP_EXIT_USAGE, "say what is to change, one at a "
		    "time: --kind cert, --exclusive on|off, --rotate WHEN and "
		    "--password-rule RULE");
	else if ((kind->flags & SP_KIND_STORED) != 0)
		sp_call_fail(c, SP_EXIT_USAGE, "%s is sealed by the vault on the "
		    "host: sallyport secret set %s --%s-stdin", kind->words,
		    sp_vis_str(c->pos[0]), kind->name);
	else
		sp_account_load(c, account_write);
}

static void
switch_write(struct sp_call *c)
{
	bool on = strcmp(c->verb->sub, "enable") == 0;
	struct sp_change *ch;
	uint8_t id[16];
	struct sp_vals v;
	char *detail;

	if (!sp_account_found(c, id))
		return;
	detail = sp_call_detail("account", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_vals_from(&v, SP_T_ACCOUNTS, c->rows[1], 0);
	sp_vals_set(&v, "disabled", on ? NULL : "t");
	sp_change_update(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[1], 0), v.v);
	sp_change_audit(ch, on ? "account_enable" : "account_disable",
	    c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account", account_is_set);
}

void
sp_verb_account_switch(struct sp_call *c)
{
	sp_account_load(c, switch_write);
}
