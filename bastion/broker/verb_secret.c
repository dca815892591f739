/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets: what there is, for which account. Never what is in them: the vault
 * alone can open them, and the CLI alone hears what is to be sealed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_sql.h"
#include "common/kinds.h"

static const struct sp_col secret_cols[] = {
	{"id", "SECRET", SP_COL_TEXT}, {"kind", "KIND", SP_COL_TEXT},
	{"account", "ACCOUNT", SP_COL_TEXT}, {"version", "VERSION", SP_COL_NUMBER},
	{"state", "STATE", SP_COL_STATE}, {"made", "MADE", SP_COL_TIME},
	{"target_id", NULL, SP_COL_TEXT}, {"account_id", NULL, SP_COL_TEXT},
};
#define SECRET_COLS (sizeof(secret_cols) / sizeof(secret_cols[0]))

/* Rows of before have no version of their own. */
static uint64_t
version_of(const struct sp_rows *s, size_t i)
{
	int64_t v = sp_rows_i64(s, i, "version");

	return v > 0 ? (uint64_t)v : sp_rows_ver(s, i);
}

/* rows: 0 targets, 1 accounts, 2 secrets */
static void
add_secret(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *s = c->rows[2], *a = c->rows[1];
	const char *id = sp_rows_get(s, i, "id");
	const char *state = sp_rows_get(s, i, "state");
	size_t k = sp_rows_find(a, "secret_id", id);
	char where[160] = "", version[24];

	if (k == SIZE_MAX)
		k = sp_rows_find(a, "id", sp_rows_get(s, i, "account_id"));
	if (k != SIZE_MAX)
		snprintf(where, sizeof(where), "%.64s@%.64s",
		    sp_rows_get(a, k, "name"), sp_rows_name(c->rows[0],
		    sp_rows_get(a, k, "target_id"), "name"));
	snprintf(version, sizeof(version), "%llu",
	    (unsigned long long)version_of(s, i));
	sp_list_add(l, (const char *[]){id, sp_kind_name(sp_rows_i64(s, i, "kind")),
	    k == SIZE_MAX ? NULL : where, version, state == NULL ? "current" : state,
	    sp_rows_get(s, i, "made_us"), sp_rows_get(s, i, "owner_id"),
	    k == SIZE_MAX ? NULL : sp_rows_get(a, k, "id")});
}

static void
secrets_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(secret_cols, SECRET_COLS);
	size_t n = sp_rows_n(c->rows[2]);

	for (size_t i = 0; i < n; i++)
		add_secret(c, l, i);
	sp_call_list(c, l, "No secrets. On the host: sallyport account add "
	    "ACCOUNT@TARGET --kind key --generate");
	sp_list_free(l);
	sp_call_more(c, c->rows[2], "secret list", n == 0 ? "" :
	    sp_rows_get(c->rows[2], n - 1, "id"));
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_secret_list(struct sp_call *c)
{
	const char *after = sp_call_opt(c, "after");
	const char *target = sp_call_opt(c, "target");
	char limit[24], from[SP_UUID_TEXT] = "00000000-0000-0000-0000-000000000000";
	uint8_t id[16];

	if (!sp_call_limit(c, limit))
		return;
	if (after != NULL && sp_uuid_parse(id, sp_span_str(after)) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--after wants the id of a secret");
		return;
	}
	if (after != NULL)
		sp_uuid_text(from, id);
	target = target == NULL ? "" : target;
#define PAGE "(SELECT s.id FROM secrets s JOIN targets t ON t.id = s.owner_id "  \
	"WHERE ($1 = '' OR t.name = $1) AND s.id > $2::uuid ORDER BY s.id "       \
	"LIMIT $3::bigint)"
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE $1 = '' OR name = $1",
	    .p = {target}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE secret_id IN " PAGE " OR id IN "
	    "(SELECT account_id FROM secrets WHERE id IN " PAGE ")",
	    .p = {target, from, limit}, .n = 3},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN " PAGE " ORDER BY id",
	    .p = {target, from, limit}, .n = 3}}, 3, secrets_print);
}

/* The version that is in use; SIZE_MAX: none. */
static size_t
current(const struct sp_call *c)
{
	return sp_rows_find(c->rows[2], "id",
	    sp_rows_get(c->rows[1], 0, "secret_id"));
}

/* All versions; with --json one object: that which is in use, or null, and what
 * the CLI needs to have the next one sealed. */
static void
secret_print(struct sp_call *c)
{
	struct sp_list *l;
	size_t n = sp_rows_n(c->rows[2]), at;
	json_object *o;
	uint8_t id[16];

	if (!sp_account_found(c, id))
		return;
	at = current(c);
	if (n == 0 && !c->style.json) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has no secret (its kind is %s)",
		    c->pos[0], sp_kind_name(sp_rows_i64(c->rows[1], 0, "kind")));
		return;
	}
	l = sp_list_new(secret_cols, SECRET_COLS);
	for (size_t i = 0; i < n; i++)
		add_secret(c, l, i);
	if (c->style.json) {
		o = at != SIZE_MAX ? sp_list_json_row(l, at) :
		    json_object_new_object();
		json_object_object_add(o, "target_id", sp_json_text(
		    sp_rows_get(c->rows[1], 0, "target_id")));
		json_object_object_add(o, "next_version", json_object_new_int64(
		    n == 0 ? 1 : (int64_t)version_of(c->rows[2], 0) + 1));
		json_object_object_add(o, "versions", sp_list_json(l));
		sp_call_json(c, o);
	} else {
		sp_call_list(c, l, "");
	}
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_secret_show(struct sp_call *c)
{
	sp_account_load(c, secret_print);
}

/* ------------------------------------------------------------------- store */

struct store {
	uint8_t id[16];
	char id_text[SP_UUID_TEXT];
	uint64_t version;
	const struct sp_kind *kind;
	char sealed[16384 + 3];
};

static bool
take_args(struct sp_call *c, struct store *s)
{
	const char *id = sp_call_opt(c, "id"), *hex = sp_call_opt(c, "sealed");
	const char *version = sp_call_opt(c, "version");
	size_t n = hex == NULL ? 0 : strlen(hex);

	s->kind = sp_kind_named(sp_call_opt(c, "kind"));
	if (id == NULL || version == NULL || n == 0 || n % 2 != 0 || n > 16384 ||
	    strspn(hex, "0123456789abcdef") != n ||
	    s->kind == NULL ||
	    !sp_kind_is(s->kind->number, SP_KIND_ACCOUNT | SP_KIND_STORED) ||
	    sp_uuid_parse(s->id, sp_span_str(id)) != SP_OK ||
	    sp_u64_parse(sp_span_str(version), INT64_MAX, &s->version) != SP_OK ||
	    s->version == 0) {
		sp_call_fail(c, SP_EXIT_USAGE, "this is for the host: sallyport "
		    "secret set %s --password-stdin", sp_vis_str(c->pos[0]));
		return false;
	}
	sp_uuid_text(s->id_text, s->id);
	snprintf(s->sealed, sizeof(s->sealed), "\\x%s", hex);
	return true;
}

static void
stored(struct sp_call *c)
{
	struct store *s = c->state;

	sp_broker_changed(c->b);
	sp_call_did(c, s->id_text, "stored", "The %s of %s is stored (version "
	    "%llu).", s->kind->name, c->pos[0], (unsigned long long)s->version);
}

/* What was in use is the previous one from now on: nothing is written over. */
static void
put_rows(struct sp_call *c, struct sp_change *ch, const struct store *s)
{
	const struct sp_rows *a = c->rows[1], *old = c->rows[2];
	const char *account = sp_rows_get(a, 0, "id");
	char version[SP_NUM_TEXT], was[SP_NUM_TEXT], now[SP_NUM_TEXT];
	char number[SP_NUM_TEXT];
	size_t at = current(c);
	struct sp_vals v;
	uint8_t id[16];

	if (at != SIZE_MAX && sp_rows_uuid(old, at, "id", id)) {
		sp_vals_from(&v, SP_T_SECRETS, old, at);
		sp_vals_set(&v, "state", "previous");
		sp_vals_set(&v, "account_id", account);
		sp_vals_set(&v, "version", sp_i64_text(was,
		    (int64_t)version_of(old, at)));
		sp_change_update(ch, SP_T_SECRETS, id, sp_rows_ver(old, at), v.v);
	}
	sp_vals_init(&v, SP_T_SECRETS);
	sp_vals_set(&v, "owner_id", sp_rows_get(a, 0, "target_id"));
	sp_vals_set(&v, "kind", sp_i64_text(number, s->kind->number));
	sp_vals_set(&v, "sealed", s->sealed);
	sp_vals_set(&v, "account_id", account);
	sp_vals_set(&v, "version", sp_i64_text(version, (int64_t)s->version));
	sp_vals_set(&v, "state", "current");
	sp_vals_set(&v, "made_us", sp_i64_text(now, sp_now_us()));
	sp_change_insert(ch, SP_T_SECRETS, s->id, v.v);
	sp_vals_from(&v, SP_T_ACCOUNTS, a, 0);
	sp_vals_set(&v, "kind", number);
	sp_vals_set(&v, "secret_id", s->id_text);
	(void)sp_rows_uuid(a, 0, "id", id);
	sp_change_update(ch, SP_T_ACCOUNTS, id, sp_rows_ver(a, 0), v.v);
}

/* The blob is the vault's, sealed for this id, version and owner: what the CLI
 * says about them must be what the row will have. */
static void
store_write(struct sp_call *c)
{
	struct store *s = c->state;
	const struct sp_rows *old = c->rows[2];
	struct sp_change *ch;
	uint8_t account[16];
	char *detail, version[24];

	if (!sp_account_found(c, account) ||
	    !sp_sql_kind_goes(c, c->rows[0], s->kind->number))
		return;
	if (current(c) != SIZE_MAX &&
	    sp_rows_get(old, current(c), "rule") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has a release rule, which the "
		    "new secret would not have: take it off (secret rule %s --none), "
		    "set the secret, and give the rule again", c->pos[0], c->pos[0]);
		return;
	}
	if (sp_rows_find(old, "state", "pending") != SIZE_MAX) {
		sp_call_fail(c, SP_EXIT_LATER, "%s is being rotated: look again with "
		    "secret show %s", c->pos[0], c->pos[0]);
		return;
	}
	if (s->version != (sp_rows_n(old) == 0 ? 1 : version_of(old, 0) + 1)) {
		sp_call_fail(c, SP_EXIT_LATER,
		    "somebody else changed it just now; repeat");
		return;
	}
	snprintf(version, sizeof(version), "%llu", (unsigned long long)s->version);
	detail = sp_call_detail("account", c->pos[0], "kind", s->kind->name,
	    "version", version, NULL);
	ch = sp_change_new(c->b->store);
	put_rows(c, ch, s);
	sp_change_audit(ch, "secret_set", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "secret set", stored);
}

void
sp_verb_secret_store(struct sp_call *c)
{
	struct store *s = calloc(1, sizeof(*s));

	SP_ASSERT(s != NULL);
	c->state = s;
	c->free_state = free;
	if (take_args(c, s))
		sp_account_load(c, store_write);
}

/* ------------------------------------------------------------------ remove */

static void
secret_removed(struct sp_call *c)
{
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[2], 0, "id"), "removed", "%s has no "
	    "secret any more; nobody gets in with it. sallyport secret set %s, or "
	    "account set %s --kind cert", c->pos[0], c->pos[0], c->pos[0]);
}

static void
secret_drop(struct sp_call *c)
{
	struct sp_change *ch;
	uint8_t account[16];
	struct sp_vals v;
	char *detail;

	if (!sp_account_found(c, account))
		return;
	if (sp_rows_n(c->rows[2]) == 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has no secret", c->pos[0]);
		return;
	}
	detail = sp_call_detail("account", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_vals_from(&v, SP_T_ACCOUNTS, c->rows[1], 0);
	sp_vals_set(&v, "secret_id", NULL);
	sp_change_update(ch, SP_T_ACCOUNTS, account, sp_rows_ver(c->rows[1], 0),
	    v.v);
	sp_account_drop_secrets(c, ch);
	sp_change_audit(ch, "secret_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "secret remove", secret_removed);
}

void
sp_verb_secret_remove(struct sp_call *c)
{
	sp_account_load(c, secret_drop);
}
