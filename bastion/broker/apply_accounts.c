/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/sql.h"
#include "common/kinds.h"

struct account {
	char where[2 * SP_NAME_MAX + 8], path[200];
	const char *name, *target;	/* the target's id */
	size_t row;			/* SIZE_MAX: a new one */
	const struct sp_kind *was, *kind;
	const char *enabled, *exclusive, *how; /* how: ask, generate, keep */
	uint8_t id[16];
	char id_text[SP_UUID_TEXT], secret[SP_UUID_TEXT];
	char *sealed;
	uint64_t version;
	bool wants;			/* a secret, of ask or generate */
	bool has_sql;
	struct ap_rotation rotation;
	char sql[AP_SQL_TEXT];
};

/* ------------------------------------------------------------------- fields */

static void
kind_of(struct sp_apply *a, struct account *x, json_object *o)
{
	const struct sp_rows *r = a->c->rows[AP_ACCOUNTS];
	json_object *v = NULL;
	const char *s;

	if (x->row != SIZE_MAX)
		x->was = sp_kind_find(sp_rows_i64(r, x->row, "kind"));
	x->kind = x->was;
	if (!json_object_object_get_ex(o, "kind", &v)) {
		if (x->was == NULL)
			ap_error(a, x->path, "it needs a kind: cert, key, password");
		return;
	}
	if ((s = ap_text(a, v, 32, x->path)) == NULL)
		return;
	x->kind = sp_kind_named(s);
	if (x->kind == NULL || (x->kind->flags & SP_KIND_ACCOUNT) == 0)
		ap_error(a, x->path, "%s is no kind of credential that an account "
		    "can have", sp_vis_str(s));
	else if (!sp_sql_kind_fits(a->protocol, x->kind->number))
		ap_error(a, x->path, "this target has no accounts of kind %s",
		    x->kind->name);
}

/* Who makes the roles of a session, and what they are. */
static void
settings_of(struct sp_apply *a, struct account *x, json_object *o)
{
	const char *was = x->row == SIZE_MAX ? NULL :
	    sp_rows_get(a->c->rows[AP_ACCOUNTS], x->row, "sql");

	if (was == NULL)
		was = "";
	x->has_sql = ap_sql_account(a, o, was, x->sql, x->path);
	if (x->kind == NULL)
		return;
	if (x->kind->number != SP_CRED_PG_ROLE && x->has_sql)
		ap_error(a, x->path, "admin, limit and members are of kind pg-role");
	else if (x->kind->number == SP_CRED_PG_ROLE && (strstr(x->sql,
	    SP_SQL_ADMIN "=") != x->sql || strstr(x->sql,
	    " " SP_SQL_MEMBER "=") == NULL))
		ap_error(a, x->path, "a pg-role needs admin, the account that "
		    "makes its roles, and members");
	if (x->has_sql && strcmp(was, x->sql) != 0) {
		if (was[0] != '\0')
			ap_line(a, '-', "settings %s", sp_vis_str(was));
		if (x->sql[0] != '\0')
			ap_line(a, '+', "settings %s", sp_vis_str(x->sql));
	}
}

static bool
has_secret(const struct sp_apply *a, const struct account *x)
{
	return x->row != SIZE_MAX && x->kind == x->was &&
	    sp_rows_get(a->c->rows[AP_ACCOUNTS], x->row, "secret_id") != NULL;
}

static void
secret_of(struct sp_apply *a, struct account *x, json_object *o)
{
	json_object *v = NULL;

	x->how = "keep";
	if (json_object_object_get_ex(o, "secret", &v) &&
	    (x->how = ap_text(a, v, 16, x->path)) == NULL)
		return;
	if (x->kind == NULL)
		return;
	if (v != NULL && (x->kind->flags & SP_KIND_STORED) == 0)
		ap_error(a, x->path, "a %s has no secret", x->kind->name);
	else if (strcmp(x->how, "generate") == 0 &&
	    (x->kind->flags & SP_KIND_MADE) == 0)
		ap_error(a, x->path, "a %s is not made by the vault here, as the "
		    "target would not know it: secret: ask", x->kind->name);
	else if (strcmp(x->how, "keep") != 0 && strcmp(x->how, "ask") != 0 &&
	    strcmp(x->how, "generate") != 0)
		ap_error(a, x->path, "secret is ask, generate or keep: never the "
		    "secret itself");
	x->wants = strcmp(x->how, "keep") != 0 && !has_secret(a, x);
}

/* The newest version there is of this account's secret. */
static uint64_t
newest(const struct sp_apply *a, const struct account *x)
{
	const struct sp_rows *s = a->c->rows[AP_SECRETS];
	const char *now = x->row == SIZE_MAX ? NULL :
	    sp_rows_get(a->c->rows[AP_ACCOUNTS], x->row, "secret_id");
	uint64_t most = 0;

	for (size_t i = 0; x->row != SIZE_MAX && i < sp_rows_n(s); i++) {
		const char *of = sp_rows_get(s, i, "account_id");
		int64_t v = sp_rows_i64(s, i, "version");
		uint64_t version = v > 0 ? (uint64_t)v : sp_rows_ver(s, i);

		if (((of != NULL && strcmp(of, x->id_text) == 0) || (now != NULL &&
		    strcmp(sp_rows_get(s, i, "id"), now) == 0)) && version > most)
			most = version;
	}
	return most;
}

/* What the vault sealed for it, brought by the CLI: not there while it plans. */
static void
sealed_of(struct sp_apply *a, struct account *x)
{
	json_object *all = NULL, *o = NULL, *v = NULL;
	const char *hex;
	uint8_t id[16];
	size_t n;

	x->version = newest(a, x) + 1;
	if (!json_object_object_get_ex(a->in, "sealed", &all) ||
	    !json_object_object_get_ex(all, x->where, &o))
		return;
	if (!json_object_object_get_ex(o, "version", &v) ||
	    (uint64_t)json_object_get_int64(v) != x->version ||
	    !json_object_object_get_ex(o, "id", &v) ||
	    sp_uuid_parse(id, sp_span_str(json_object_get_string(v))) != SP_OK ||
	    !json_object_object_get_ex(o, "sealed", &v) ||
	    !json_object_is_type(v, json_type_string)) {
		ap_error(a, x->path, "what was sealed is not for this account as "
		    "it is now");
		return;
	}
	hex = json_object_get_string(v);
	n = strlen(hex);
	if (n == 0 || n % 2 != 0 || n > 16384 ||
	    strspn(hex, "0123456789abcdef") != n) {
		ap_error(a, x->path, "what was sealed is no hexadecimal");
		return;
	}
	sp_uuid_text(x->secret, id);
	x->sealed = calloc(1, n + 3);
	SP_ASSERT(x->sealed != NULL);
	snprintf(x->sealed, n + 3, "\\x%s", hex);
}

static void
want(struct sp_apply *a, const struct account *x)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "account", sp_json_text(x->where));
	json_object_object_add(o, "kind", sp_json_text(x->kind->name));
	json_object_object_add(o, "how", sp_json_text(x->how));
	json_object_object_add(o, "target_id", sp_json_text(x->target));
	json_object_object_add(o, "version",
	    json_object_new_int64((int64_t)x->version));
	json_object_array_add(a->secrets, o);
}

/* ------------------------------------------------------------------- writing */

static void
account_lines(struct sp_apply *a, const struct account *x)
{
	const struct sp_rows *r = a->c->rows[AP_ACCOUNTS];
	bool off = x->row != SIZE_MAX && sp_rows_bool(r, x->row, "disabled");

	if (x->kind != x->was) {
		if (x->was != NULL)
			ap_line(a, '-', "kind %s", x->was->name);
		ap_line(a, '+', "kind %s", x->kind->name);
	}
	if (x->enabled != NULL && (x->enabled[0] == 'f') != off)
		ap_line(a, '~', "%s", off ? "enabled" : "disabled");
	if (x->exclusive != NULL && (x->exclusive[0] == 't') !=
	    (x->row != SIZE_MAX && sp_rows_bool(r, x->row, "exclusive")))
		ap_line(a, '~', "%s", x->exclusive[0] == 't' ?
		    "one person's at a time" : "many people's at a time");
	if (x->wants)
		ap_line(a, '+', "secret (%s)", strcmp(x->how, "ask") == 0 ?
		    "asked for" : "made by the vault");
	else if ((x->kind->flags & SP_KIND_STORED) != 0 && x->kind != x->was)
		ap_note(a, "%s has no secret yet: sallyport secret set %s",
		    x->where, x->where);
}

/* All versions of another kind go; the newest is the previous one otherwise. */
static void
old_secrets(struct sp_apply *a, const struct account *x)
{
	const struct sp_rows *s = a->c->rows[AP_SECRETS];
	const char *now = sp_rows_get(a->c->rows[AP_ACCOUNTS], x->row, "secret_id");
	uint8_t id[16];

	for (size_t i = 0; i < sp_rows_n(s); i++) {
		const char *of = sp_rows_get(s, i, "account_id");

		if (((of != NULL && strcmp(of, x->id_text) == 0) || (now != NULL &&
		    strcmp(sp_rows_get(s, i, "id"), now) == 0)) &&
		    sp_rows_uuid(s, i, "id", id))
			sp_change_delete(a->ch, SP_T_SECRETS, id,
			    sp_rows_ver(s, i));
	}
}

static void
secret_put(struct sp_apply *a, const struct account *x, const char *kind)
{
	char version[SP_NUM_TEXT], now[SP_NUM_TEXT];
	struct sp_vals v;
	uint8_t id[16];

	if (sp_uuid_parse(id, sp_span_str(x->secret)) != SP_OK)
		return;
	sp_vals_init(&v, SP_T_SECRETS);
	sp_vals_set(&v, "owner_id", x->target);
	sp_vals_set(&v, "kind", kind);
	sp_vals_set(&v, "sealed", x->sealed);
	sp_vals_set(&v, "account_id", x->id_text);
	sp_vals_set(&v, "version", sp_i64_text(version, (int64_t)x->version));
	sp_vals_set(&v, "state", "current");
	sp_vals_set(&v, "made_us", sp_i64_text(now, sp_now_us()));
	sp_change_insert(a->ch, SP_T_SECRETS, id, v.v);
}

static void
account_put(struct sp_apply *a, const struct account *x)
{
	const struct sp_rows *r = a->c->rows[AP_ACCOUNTS];
	char kind[SP_NUM_TEXT];
	struct sp_vals v;

	sp_i64_text(kind, x->kind->number);
	if (x->row != SIZE_MAX && x->kind != x->was)
		old_secrets(a, x);
	if (x->sealed != NULL)
		secret_put(a, x, kind);
	if (x->row == SIZE_MAX) {
		sp_vals_init(&v, SP_T_ACCOUNTS);
		sp_vals_set(&v, "target_id", x->target);
		sp_vals_set(&v, "name", x->name);
	} else {
		sp_vals_from(&v, SP_T_ACCOUNTS, r, x->row);
	}
	sp_vals_set(&v, "kind", kind);
	if (x->sealed != NULL)
		sp_vals_set(&v, "secret_id", x->secret);
	else if (x->kind != x->was)
		sp_vals_set(&v, "secret_id", NULL);
	if (x->enabled != NULL)
		sp_vals_set(&v, "disabled", x->enabled[0] == 'f' ? "t" : NULL);
	if (x->exclusive != NULL)
		sp_vals_set(&v, "exclusive", x->exclusive[0] == 't' ? "t" : NULL);
	if (x->has_sql)
		sp_vals_set(&v, "sql", x->sql[0] == '\0' ? NULL : x->sql);
	ap_rotation_put(a, &x->rotation, x->id_text, &v);
	if (x->row == SIZE_MAX)
		sp_change_insert(a->ch, SP_T_ACCOUNTS, x->id, v.v);
	else
		sp_change_update(a->ch, SP_T_ACCOUNTS, x->id,
		    sp_rows_ver(r, x->row), v.v);
}

static void
account(struct sp_apply *a, const char *name, const char *target,
    const char *target_id, json_object *o)
{
	struct account x = {.name = name, .target = target_id};
	size_t errors = json_object_array_length(a->errors);

	snprintf(x.where, sizeof(x.where), "%.32s@%.32s", name, target);
	snprintf(x.path, sizeof(x.path), "/targets/%.64s/accounts/%.64s", target,
	    name);
	if (!sp_name_is_valid(sp_span_str(name)))
		ap_error(a, x.path, "an account is 1 to 32 of a-z 0-9 . _ -");
	if (!json_object_is_type(o, json_type_object)) {
		ap_error(a, x.path, "an account is a mapping");
		return;
	}
	x.row = ap_at(a->account_at, x.where);
	if (x.row == SIZE_MAX)
		sp_uuid_make(x.id);
	else
		(void)sp_rows_uuid(a->c->rows[AP_ACCOUNTS], x.row, "id", x.id);
	sp_uuid_text(x.id_text, x.id);
	x.enabled = ap_bool(a, o, "enabled", x.path);
	x.exclusive = ap_bool(a, o, "exclusive", x.path);
	kind_of(a, &x, o);
	settings_of(a, &x, o);
	secret_of(a, &x, o);
	ap_rotation(a, o, x.kind, x.row, x.where, x.path, &x.rotation);
	if (json_object_array_length(a->errors) == errors && x.wants)
		sealed_of(a, &x);
	if (json_object_array_length(a->errors) == errors) {
		account_lines(a, &x);
		if (x.wants && x.sealed == NULL)
			want(a, &x);
		if (ap_change(a, "account", x.where,
		    x.row == SIZE_MAX ? "add" : "change"))
			account_put(a, &x);
		if (x.row == SIZE_MAX)
			json_object_object_add(a->fresh, x.where,
			    json_object_new_string(x.id_text));
	}
	free(x.sealed);
}

static void
prune(struct sp_apply *a, const char *target, const char *id, json_object *accounts)
{
	const struct sp_rows *r = a->c->rows[AP_ACCOUNTS];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		struct account x = {.name = sp_rows_get(r, i, "name"), .row = i,
		    .enabled = "f"};

		if (strcmp(sp_rows_get(r, i, "target_id"), id) != 0 ||
		    sp_rows_bool(r, i, "disabled") ||
		    json_object_object_get_ex(accounts, x.name, NULL))
			continue;
		snprintf(x.where, sizeof(x.where), "%.32s@%.32s", x.name, target);
		x.was = x.kind = sp_kind_find(sp_rows_i64(r, i, "kind"));
		(void)sp_rows_uuid(r, i, "id", x.id);
		sp_uuid_text(x.id_text, x.id);
		ap_line(a, '~', "disabled");
		if (ap_change(a, "account", x.where, "disable") && x.kind != NULL)
			account_put(a, &x);
	}
}

void
ap_accounts(struct sp_apply *a, const char *target, const char *id,
    json_object *accounts)
{
	if (accounts == NULL)
		return;
	json_object_object_foreach(accounts, name, o)
		account(a, name, target, id, o);
	if (a->prune)
		prune(a, target, id, accounts);
}
