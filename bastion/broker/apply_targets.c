/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_way.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/sql.h"
#include "bastion/broker/verb_key.h"
#include "bastion/broker/verb_sql.h"
#include "bastion/broker/where.h"

#define TAGS_MAX 15	/* 511 bytes can be judged */
#define HOST_KEYS_MAX 16

struct target {
	const char *name;
	size_t row;		/* SIZE_MAX: a new one */
	uint8_t id[16];
	char id_text[SP_UUID_TEXT], path[128];
	const char *enabled, *legacy;	/* NULL: not named */
	const char *protocol;	/* NULL: SSH */
	bool has_addrs, has_keys, has_tags, has_via, has_sql;
	char sql[AP_SQL_TEXT];
	struct sp_where first;
	char port[8], more[SP_MORE_ADDRS], keys[4096], tags[512];
	char via[SP_UUID_TEXT];	/* "": none */
	char way[80];
	json_object *accounts;
	unsigned depth;
};

static void walk(struct sp_apply *a, const char *name, json_object *o,
    unsigned depth);

/* ------------------------------------------------------------------- fields */

static uint16_t
default_port(const struct target *t)
{
	return t->protocol == NULL ? 22 :
	    strcmp(t->protocol, "postgresql") == 0 ? 5432 : 3306;
}

static void
addresses(struct sp_apply *a, struct target *t, json_object *o)
{
	json_object *l = ap_list(a, o, "addresses", SP_WHERE_MAX, t->path);
	size_t n = l == NULL ? 0 : json_object_array_length(l), at = 0;
	char path[160], one[SP_WHERE_TEXT];

	t->has_addrs = l != NULL;
	if (l == NULL ? t->row == SIZE_MAX : n == 0)
		ap_error(a, t->path, "it needs addresses");
	for (size_t i = 0; i < n; i++) {
		struct sp_where w;
		const char *s;

		snprintf(path, sizeof(path), "%s/addresses/%zu", t->path, i);
		s = ap_text(a, json_object_array_get_idx(l, i), 64, path);
		if (s == NULL)
			continue;
		if (sp_where_parse(sp_span_str(s), default_port(t), &w) != SP_OK)
			ap_error(a, path, "an address is numeric, 192.0.2.7, ::1 or "
			    "[::1]:2222: names are not looked up, so that nobody "
			    "can move a target");
		else if (i == 0)
			t->first = w;
		else
			at += (size_t)snprintf(t->more + at, sizeof(t->more) - at,
			    "%s%s", at > 0 ? " " : "",
			    sp_where_text(one, w.host, w.port));
	}
	snprintf(t->port, sizeof(t->port), "%u", (unsigned)t->first.port);
}

static bool
is_legacy(const struct sp_apply *a, const struct target *t)
{
	return t->legacy != NULL ? t->legacy[0] == 't' : t->row != SIZE_MAX &&
	    sp_rows_bool(a->c->rows[AP_TARGETS], t->row, "legacy");
}

static void
host_keys(struct sp_apply *a, struct target *t, json_object *o)
{
	json_object *l = ap_list(a, o, "host_keys", HOST_KEYS_MAX, t->path);
	size_t n = l == NULL ? 0 : json_object_array_length(l), at = 0;

	t->has_keys = l != NULL;
	if (l == NULL ? t->row == SIZE_MAX : n == 0)
		ap_error(a, t->path, t->protocol != NULL ? "it needs host_keys: "
		    "sha256:HEX of its certificate" : "it needs host_keys: lines "
		    "of its /etc/ssh/ssh_host_*_key.pub");
	for (size_t i = 0; i < n; i++) {
		SP_BUF_AUTO b64 = {.max = 8192};
		struct sp_pubkey k;
		const char *s, *why = "";
		char path[160];

		snprintf(path, sizeof(path), "%s/host_keys/%zu", t->path, i);
		s = ap_text(a, json_object_array_get_idx(l, i), 8192, path);
		if (s == NULL)
			continue;
		if (t->protocol != NULL) {
			why = sp_sql_add_pin(s, t->keys, sizeof(t->keys));
			if (why != NULL)
				ap_error(a, path, "%s", why);
			continue;
		}
		if (sp_host_key_parse(sp_span_str(s), is_legacy(a, t), &k, &why) !=
		    SP_OK)
			ap_error(a, path, "%s", why);
		else if (strncmp(k.algo, "sk-", 3) == 0)
			ap_error(a, path, "a host has no security key");
		else if (sp_base64(&b64, sp_span_of(k.blob, k.n)) != SP_OK ||
		    at + strlen(k.algo) + b64.len + 3 >= sizeof(t->keys))
			ap_error(a, path, "too many host keys");
		else
			at += (size_t)snprintf(t->keys + at, sizeof(t->keys) - at,
			    "%s%s %.*s", at > 0 ? "\n" : "", k.algo, (int)b64.len,
			    (const char *)sp_buf_span(&b64).p);
	}
}

static void
tags(struct sp_apply *a, struct target *t, json_object *o)
{
	json_object *l = ap_list(a, o, "tags", TAGS_MAX, t->path);
	size_t at = 0;

	t->has_tags = l != NULL;
	for (size_t i = 0; l != NULL && i < json_object_array_length(l); i++) {
		char path[160];
		const char *s;

		snprintf(path, sizeof(path), "%s/tags/%zu", t->path, i);
		s = ap_text(a, json_object_array_get_idx(l, i), SP_NAME_MAX, path);
		if (s == NULL)
			continue;
		if (!sp_name_is_valid(sp_span_str(s)))
			ap_error(a, path, "a tag is 1 to 32 of a-z 0-9 . _ -");
		else
			at += (size_t)snprintf(t->tags + at, sizeof(t->tags) - at,
			    "%s%s", at > 0 ? " " : "", s);
	}
}

/* ---------------------------------------------------------------------- via */

/* The account that it leads over: what is named in the input comes first, so
 * that its row is there when this one names it. */
static void
via_of(struct sp_apply *a, struct target *t, json_object *o)
{
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	json_object *v = NULL, *at = NULL, *id = NULL;
	const char *s;
	size_t row;

	if (!json_object_object_get_ex(o, "via", &v))
		return;
	t->has_via = true;
	if (v == NULL || (s = ap_text(a, v, 80, t->path)) == NULL)
		return;
	snprintf(t->way, sizeof(t->way), "%s", s);
	if (!sp_split_ask(s, account, target)) {
		ap_error(a, t->path, "via is ACCOUNT@TARGET");
		return;
	}
	if (json_object_object_get_ex(a->targets, target, &at))
		walk(a, target, at, t->depth + 1);
	row = ap_at(a->account_at, s);
	if (row != SIZE_MAX)
		snprintf(t->via, sizeof(t->via), "%s",
		    sp_rows_get(a->c->rows[AP_ACCOUNTS], row, "id"));
	else if (json_object_object_get_ex(a->fresh, s, &id))
		snprintf(t->via, sizeof(t->via), "%s", json_object_get_string(id));
	else
		ap_error(a, t->path, "there is no account %s to go over",
		    sp_vis_str(s));
}

/* ------------------------------------------------------------------- writing */

static void
was_now(struct sp_apply *a, const char *what, const char *was, const char *now)
{
	if (was != NULL && now != NULL && strcmp(was, now) == 0)
		return;
	if (was != NULL && was[0] != '\0')
		ap_line(a, '-', "%s %s", what, sp_vis_str(was));
	if (now != NULL && now[0] != '\0')
		ap_line(a, '+', "%s %s", what, sp_vis_str(now));
}

static const char *
col(const struct sp_apply *a, const struct target *t, const char *name)
{
	const char *v = t->row == SIZE_MAX ? NULL :
	    sp_rows_get(a->c->rows[AP_TARGETS], t->row, name);

	return v == NULL ? "" : v;
}

static void
addr_text(char *dst, size_t cap, const char *host, unsigned port, const char *more)
{
	char one[SP_WHERE_TEXT];

	snprintf(dst, cap, "%s%s%s", sp_where_text(one, host, (uint16_t)port),
	    more[0] == '\0' ? "" : " ", more);
}

static void
target_lines(struct sp_apply *a, const struct target *t)
{
	char was[800] = "", now[800] = "", fp_was[1024], fp_now[1024];
	const char *via = col(a, t, "via");

	if (t->has_addrs) {
		if (t->row != SIZE_MAX)
			addr_text(was, sizeof(was), col(a, t, "addr"),
			    (unsigned)strtoul(col(a, t, "port"), NULL, 10),
			    col(a, t, "more_addrs"));
		addr_text(now, sizeof(now), t->first.host, t->first.port, t->more);
		was_now(a, "address", was, now);
	}
	if (t->has_keys && strcmp(col(a, t, "host_keys"), t->keys) != 0) {
		sp_target_fingerprints(col(a, t, "host_keys"), fp_was,
		    sizeof(fp_was));
		sp_target_fingerprints(t->keys, fp_now, sizeof(fp_now));
		was_now(a, "host key", fp_was, fp_now);
	}
	if (t->has_tags)
		was_now(a, "tags", col(a, t, "tags"), t->tags);
	if (t->has_via && strcmp(via, t->via) != 0) {
		if (via[0] != '\0')
			ap_line(a, '-', "via another account");
		ap_line(a, '+', t->via[0] == '\0' ? "reached directly" : "via %s",
		    t->way);
	}
	if (t->row == SIZE_MAX && t->protocol != NULL)
		was_now(a, "protocol", "", t->protocol);
	if (t->has_sql)
		was_now(a, "settings", col(a, t, "sql"), t->sql);
	if (t->legacy != NULL && (t->legacy[0] == 't') !=
	    (col(a, t, "legacy")[0] == 't'))
		ap_line(a, '~', "old algorithms %s", t->legacy[0] == 't' ?
		    "allowed" : "refused");
	if (t->enabled != NULL && (t->row == SIZE_MAX ? t->enabled[0] == 'f' :
	    strcmp(col(a, t, "enabled"), t->enabled) != 0))
		ap_line(a, '~', "%s", t->enabled[0] == 't' ? "enabled" : "disabled");
}

static void
target_put(struct sp_apply *a, const struct target *t)
{
	const struct sp_rows *r = a->c->rows[AP_TARGETS];
	struct sp_vals v;

	if (t->row == SIZE_MAX) {
		sp_vals_init(&v, SP_T_TARGETS);
		sp_vals_set(&v, "name", t->name);
		sp_vals_set(&v, "tags", "");
		sp_vals_set(&v, "enabled", "t");
	} else {
		sp_vals_from(&v, SP_T_TARGETS, r, t->row);
	}
	if (t->has_addrs) {
		sp_vals_set(&v, "addr", t->first.host);
		sp_vals_set(&v, "port", t->port);
		sp_vals_set(&v, "more_addrs", t->more[0] == '\0' ? NULL : t->more);
	}
	if (t->has_keys)
		sp_vals_set(&v, "host_keys", t->keys);
	if (t->has_tags)
		sp_vals_set(&v, "tags", t->tags);
	if (t->has_via)
		sp_vals_set(&v, "via", t->via[0] == '\0' ? NULL : t->via);
	if (t->legacy != NULL)
		sp_vals_set(&v, "legacy", t->legacy[0] == 't' ? "t" : NULL);
	if (t->row == SIZE_MAX && t->protocol != NULL)
		sp_vals_set(&v, "protocol", t->protocol);
	if (t->has_sql)
		sp_vals_set(&v, "sql", t->sql[0] == '\0' ? NULL : t->sql);
	if (t->enabled != NULL)
		sp_vals_set(&v, "enabled", t->enabled);
	if (t->row == SIZE_MAX)
		sp_change_insert(a->ch, SP_T_TARGETS, t->id, v.v);
	else
		sp_change_update(a->ch, SP_T_TARGETS, t->id, sp_rows_ver(r, t->row),
		    v.v);
}

/* The id of a new one: the vault may have sealed a secret for it already. */
static void
new_id(struct sp_apply *a, struct target *t)
{
	json_object *ids = NULL, *v = NULL;

	if (!json_object_object_get_ex(a->in, "ids", &ids) ||
	    !json_object_object_get_ex(ids, t->name, &v) ||
	    !json_object_is_type(v, json_type_string) ||
	    sp_uuid_parse(t->id, sp_span_str(json_object_get_string(v))) != SP_OK)
		sp_uuid_make(t->id);
	sp_uuid_text(t->id_text, t->id);
	json_object_object_add(a->fresh, t->name, json_object_new_string(t->id_text));
}

/* How many targets a way leads over that begins at this account. */
static bool
leads_back(const struct sp_apply *a, const char *account, const char *target)
{
	const struct sp_rows *acc = a->c->rows[AP_ACCOUNTS];
	const struct sp_rows *tg = a->c->rows[AP_TARGETS];

	for (size_t n = 0; account != NULL && account[0] != '\0'; n++) {
		size_t i = sp_rows_find(acc, "id", account), k;

		if (i == SIZE_MAX)
			return false;	/* a new one: walked by depth */
		if (n > SP_WAY_MAX ||
		    strcmp(sp_rows_get(acc, i, "target_id"), target) == 0)
			return true;
		k = sp_rows_find(tg, "id", sp_rows_get(acc, i, "target_id"));
		account = k == SIZE_MAX ? NULL : sp_rows_get(tg, k, "via");
	}
	return false;
}

static void
fields(struct sp_apply *a, struct target *t, json_object *o)
{
	json_object *v = NULL;

	if (!sp_name_is_valid(sp_span_str(t->name)))
		ap_error(a, t->path, "a target's name is 1 to 32 of a-z 0-9 . _ -");
	if (t->row != SIZE_MAX)
		t->protocol = sp_rows_get(a->c->rows[AP_TARGETS], t->row,
		    "protocol");
	t->protocol = ap_sql_protocol(a, o, t->protocol, t->row == SIZE_MAX,
	    t->path);
	t->has_sql = ap_sql_target(a, o, col(a, t, "sql"), t->sql, t->path);
	if (t->has_sql && t->protocol == NULL)
		ap_error(a, t->path, "databases and channel_binding are for "
		    "databases: protocol: postgresql");
	t->enabled = ap_bool(a, o, "enabled", t->path);
	t->legacy = ap_bool(a, o, "legacy", t->path);
	addresses(a, t, o);
	host_keys(a, t, o);
	tags(a, t, o);
	via_of(a, t, o);
	if (t->via[0] != '\0' && leads_back(a, t->via, t->id_text))
		ap_error(a, t->path, "that way would lead back, or over more than "
		    "four targets");
	if (json_object_object_get_ex(o, "accounts", &v) && v != NULL &&
	    !json_object_is_type(v, json_type_object))
		ap_error(a, t->path, "accounts are a mapping");
	else
		t->accounts = v;
}

/* One target with its accounts; those on its way before it. */
static void
walk(struct sp_apply *a, const char *name, json_object *o, unsigned depth)
{
	struct target t = {.name = name, .row = ap_at(a->target_at, name),
	    .depth = depth};
	size_t errors = json_object_array_length(a->errors);
	json_object *state = NULL;
	bool changed;

	snprintf(t.path, sizeof(t.path), "/targets/%.64s", name);
	if (json_object_object_get_ex(a->done, name, &state)) {
		if (json_object_get_boolean(state) == 0)
			ap_error(a, t.path, "its way leads in a circle");
		return;
	}
	json_object_object_add(a->done, name, json_object_new_boolean(false));
	if (depth > SP_WAY_MAX)
		ap_error(a, t.path, "a way has at most four targets");
	else if (!json_object_is_type(o, json_type_object))
		ap_error(a, t.path, "a target is a mapping");
	if (json_object_array_length(a->errors) > errors)
		return;
	if (t.row == SIZE_MAX) {
		new_id(a, &t);
	} else {
		(void)sp_rows_uuid(a->c->rows[AP_TARGETS], t.row, "id", t.id);
		sp_uuid_text(t.id_text, t.id);
	}
	fields(a, &t, o);
	if (json_object_array_length(a->errors) > errors)
		return;
	target_lines(a, &t);
	changed = ap_change(a, "target", name, t.row == SIZE_MAX ? "add" : "change");
	if (changed)
		target_put(a, &t);
	a->protocol = sp_sql_protocol(t.protocol);
	ap_accounts(a, name, t.id_text, t.accounts);
	ap_reconcile(a, o, name, t.row, changed, t.path);
	json_object_object_add(a->done, name, json_object_new_boolean(true));
}

static void
prune(struct sp_apply *a)
{
	const struct sp_rows *r = a->c->rows[AP_TARGETS];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		struct target t = {.name = sp_rows_get(r, i, "name"), .row = i,
		    .enabled = "f"};

		if (json_object_object_get_ex(a->targets, t.name, NULL) ||
		    !sp_rows_bool(r, i, "enabled"))
			continue;
		ap_line(a, '~', "disabled");
		(void)sp_rows_uuid(r, i, "id", t.id);
		if (ap_change(a, "target", t.name, "disable"))
			target_put(a, &t);
	}
}

void
ap_targets(struct sp_apply *a)
{
	if (a->targets == NULL)
		return;
	json_object_object_foreach(a->targets, name, o)
		if (!json_object_object_get_ex(a->done, name, NULL))
			walk(a, name, o, 1);
	if (a->prune)
		prune(a);
}
