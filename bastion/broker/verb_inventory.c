/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts, and the lists of the inventory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/where.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"
#include "common/kinds.h"

/* ----------------------------------------------------------------- listing */

static const struct sp_col target_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"name", "TARGET", SP_COL_TEXT},
	{"addr", NULL, SP_COL_TEXT}, {"port", NULL, SP_COL_NUMBER},
	{"addrs", "ADDRESS", SP_COL_WORDS}, {"via", "VIA", SP_COL_TEXT},
	{"tags", "TAGS", SP_COL_WORDS}, {"enabled", "ENABLED", SP_COL_BOOL},
	{"legacy", "OLD ALGORITHMS", SP_COL_BOOL},
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
		char fp[SP_FINGERPRINT_TEXT];

		if (sp_host_key_parse(sp_span_of(lines, n), true, &k, &why) ==
		    SP_OK &&
		    o + sizeof(fp) < cap) {
			sp_fingerprint(fp, sp_span_of(k.blob, k.n));
			o += (size_t)snprintf(dst + o, cap - o, "%s%s",
			    o > 0 ? " " : "", fp);
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
targets_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(target_cols, TARGET_COLS);
	const struct sp_rows *t = c->rows[0];
	char fp[1024], names[2048], addrs[SP_MORE_ADDRS + SP_WHERE_TEXT];
	char one[SP_WHERE_TEXT], way[80];

	for (size_t i = 0; i < sp_rows_n(t); i++) {
		const char *more = sp_rows_get(t, i, "more_addrs");

		sp_target_fingerprints(sp_rows_get(t, i, "host_keys"), fp,
		    sizeof(fp));
		account_names(c->rows[1], sp_rows_get(t, i, "id"), names,
		    sizeof(names));
		snprintf(addrs, sizeof(addrs), "%s%s%s", sp_where_text(one,
		    sp_rows_get(t, i, "addr"), (uint16_t)sp_rows_i64(t, i, "port")),
		    more == NULL ? "" : " ", more == NULL ? "" : more);
		sp_list_add(l, (const char *[]){sp_rows_get(t, i, "id"),
		    sp_rows_get(t, i, "name"), sp_rows_get(t, i, "addr"),
		    sp_rows_get(t, i, "port"), addrs,
		    way_text(c, i, way, sizeof(way)), sp_rows_get(t, i, "tags"),
		    sp_rows_get(t, i, "enabled"),
		    sp_rows_bool(t, i, "legacy") ? "t" : "f", names, fp});
	}
	sp_call_end_list(c, l, "No targets yet. Add one: "
	    "target add NAME --addr ADDRESS --host-key 'ssh-ed25519 ...'");
}

void
sp_verb_targets_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"}}, 2, targets_print);
}

static const struct sp_col account_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"account", "ACCOUNT", SP_COL_TEXT},
	{"target", "TARGET", SP_COL_TEXT}, {"kind", "CREDENTIAL", SP_COL_TEXT},
	{"has_secret", "SECRET", SP_COL_BOOL},
};

static void
accounts_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(account_cols, 5);
	const struct sp_rows *a = c->rows[1];

	for (size_t i = 0; i < sp_rows_n(a); i++)
		sp_list_add(l, (const char *[]){sp_rows_get(a, i, "id"),
		    sp_rows_get(a, i, "name"), sp_rows_name(c->rows[0],
		    sp_rows_get(a, i, "target_id"), "name"),
		    sp_kind_name(sp_rows_i64(a, i, "kind")),
		    sp_rows_get(a, i, "secret_id") != NULL ? "t" : "f"});
	sp_call_end_list(c, l,
	    "No accounts yet. Add one: account add ACCOUNT@TARGET --kind cert");
}

void
sp_verb_account_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY target_id, name"}}, 2,
	    accounts_print);
}

/* ----------------------------------------------------------------- account */

struct account {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	uint8_t id[16], secret[16];
	char secret_text[SP_UUID_TEXT];
	char *sealed;		/* "\x" and hex */
	const struct sp_kind *kind;
	char number[SP_NUM_TEXT];	/* the kind's, as text */
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
	const char *target;
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no target %s: "
		    "targets list shows them", a->target);
		return;
	}
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
	sp_change_insert(ch, SP_T_ACCOUNTS, a->id, (const char *[SP_COLS_MAX]){target,
	    a->account, a->number, a->sealed != NULL ? a->secret_text : NULL});
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
	SP_BUF_AUTO text = {.max = 1024};

	a->kind = sp_kind_named(sp_call_opt(c, "kind"));
	if (a->kind != NULL && (a->kind->flags & SP_KIND_ACCOUNT) != 0) {
		sp_i64_text(a->number, a->kind->number);
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

static void
account_removed(struct sp_call *c)
{
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "removed", "%s removed.",
	    c->pos[0]);
}

static void
account_drop(struct sp_call *c)
{
	struct sp_change *ch;
	uint8_t id[16], secret[16];
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "there is no account %s: account list shows them",
		    sp_vis_str(c->pos[0]));
		return;
	}
	if (sp_rows_n(c->rows[2]) > 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s is the way to %s: first target "
		    "set %s --via none", c->pos[0],
		    sp_rows_get(c->rows[2], 0, "name"),
		    sp_rows_get(c->rows[2], 0, "name"));
		return;
	}
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	detail = sp_call_detail("account", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[0], 0));
	for (size_t i = 0; i < sp_rows_n(c->rows[1]); i++) {
		(void)sp_rows_uuid(c->rows[1], i, "id", secret);
		sp_change_delete(ch, SP_T_SECRETS, secret,
		    sp_rows_ver(c->rows[1], i));
	}
	if (sp_rows_n(c->rows[3]) == 1)
		sp_change_delete(ch, SP_T_ROTATIONS, id,
		    sp_rows_ver(c->rows[3], 0));
	sp_change_audit(ch, "account_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account remove", account_removed);
}

#define ACCOUNT_OF "(SELECT a.id FROM accounts a JOIN targets t ON t.id = "     \
	"a.target_id WHERE a.name = $1 AND t.name = $2)"

void
sp_verb_account_remove(struct sp_call *c)
{
	struct account *a = calloc(1, sizeof(*a));

	SP_ASSERT(a != NULL);
	c->state = a;
	c->free_state = account_free;
	if (!sp_split_ask(c->pos[0], a->account, a->target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN (SELECT secret_id FROM "
	    "accounts WHERE id IN " ACCOUNT_OF ") OR account_id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2},
	    {.t = SP_T_TARGETS, .where = "WHERE via IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2},
	    {.t = SP_T_ROTATIONS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2}}, 4, account_drop);
}
