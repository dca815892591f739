/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/apply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/verb_key.h"
#include "common/kinds.h"
#include "policy/policy.h"

void
ap_error(struct sp_apply *a, const char *path, const char *fmt, ...)
{
	char t[600];
	json_object *o;
	va_list ap;

	if (json_object_array_length(a->errors) >= AP_ERRORS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	o = json_object_new_object();
	json_object_object_add(o, "path", sp_json_text(path));
	json_object_object_add(o, "text", sp_json_text(t));
	json_object_array_add(a->errors, o);
}

void
ap_note(struct sp_apply *a, const char *fmt, ...)
{
	char t[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	json_object_array_add(a->notes, sp_json_text(t));
}

void
ap_line(struct sp_apply *a, char mark, const char *fmt, ...)
{
	char t[1200];
	va_list ap;

	t[0] = mark;
	t[1] = ' ';
	va_start(ap, fmt);
	vsnprintf(t + 2, sizeof(t) - 2, fmt, ap);
	va_end(ap);
	if (a->lines == NULL)
		a->lines = json_object_new_array();
	json_object_array_add(a->lines, sp_json_text(t));
}

bool
ap_change(struct sp_apply *a, const char *object, const char *name,
    const char *action)
{
	json_object *o, *lines = a->lines;
	size_t n = lines == NULL ? 0 : json_object_array_length(lines), bytes;

	a->lines = NULL;
	if (n == 0 && strcmp(action, "add") != 0)
		return false;
	o = json_object_new_object();
	json_object_object_add(o, "object", sp_json_text(object));
	json_object_object_add(o, "name", sp_json_text(name));
	json_object_object_add(o, "action", sp_json_text(action));
	json_object_object_add(o, "lines", lines == NULL ?
	    json_object_new_array() : lines);
	bytes = strlen(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_array_add(a->changes, o);
	/* What does not fit comes with the next transaction, and all after it. */
	a->is_full = a->is_full || (a->n_now > 0 && (a->n_ops + n + 2 >
	    AP_OPS_MAX || a->bytes + bytes > AP_AUDIT_BYTES));
	if (a->is_full)
		return false;
	a->n_ops += n + 2;
	a->bytes += bytes;
	a->n_now++;
	return true;
}

const char *
ap_text(struct sp_apply *a, json_object *v, size_t max, const char *path)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string)) {
		ap_error(a, path, "this is a text");
		return NULL;
	}
	s = json_object_get_string(v);
	if (strlen(s) != (size_t)json_object_get_string_len(v) || s[0] == '\0' ||
	    strlen(s) > max || !sp_utf8_is_valid(sp_span_str(s))) {
		ap_error(a, path, "this is a text of 1 to %zu bytes of UTF-8", max);
		return NULL;
	}
	return s;
}

const char *
ap_bool(struct sp_apply *a, json_object *o, const char *key, const char *path)
{
	json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		return NULL;
	if (json_object_is_type(v, json_type_boolean))
		return json_object_get_boolean(v) ? "t" : "f";
	ap_error(a, path, "%s is true or false", key);
	return NULL;
}

json_object *
ap_list(struct sp_apply *a, json_object *o, const char *key, size_t max,
    const char *path)
{
	json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		return NULL;
	if (json_object_is_type(v, json_type_array) &&
	    json_object_array_length(v) <= max)
		return v;
	ap_error(a, path, "%s is a list of at most %zu", key, max);
	return NULL;
}

bool
ap_has(json_object *list, const char *text)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (strcmp(json_object_get_string(
		    json_object_array_get_idx(list, i)), text) == 0)
			return true;
	return false;
}

size_t
ap_at(json_object *index, const char *name)
{
	json_object *v = NULL;

	return json_object_object_get_ex(index, name, &v) ?
	    (size_t)json_object_get_int64(v) : SIZE_MAX;
}

/* ------------------------------------------------------------------- policy */

static size_t
lines_of(const char *s, const char **at, size_t max)
{
	size_t n = 0;

	while (*s != '\0' && n < max) {
		at[n++] = s;
		s += strcspn(s, "\n");
		s += *s == '\n';
	}
	return n;
}

static bool
has_line(const char *const *l, size_t n, const char *line, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strcspn(l[i], "\n") == len && memcmp(l[i], line, len) == 0)
			return true;
	return false;
}

#define DIFF_LINES 2000
/* Which lines are not in the other text: short, and enough to see what it is. */
static void
diff(struct sp_apply *a, const char *was, const char *now)
{
	const char **l = calloc(2 * DIFF_LINES, sizeof(*l));
	size_t n, m, shown = 0;

	SP_ASSERT(l != NULL);
	n = lines_of(was, l, DIFF_LINES);
	m = lines_of(now, l + DIFF_LINES, DIFF_LINES);
	for (size_t i = 0; i < n + m && shown < 200; i++) {
		const char *s = i < n ? l[i] : l[DIFF_LINES + i - n];
		size_t len = strcspn(s, "\n");
		char safe[400];

		if (len == 0 || (i < n ? has_line(l + DIFF_LINES, m, s, len) :
		    has_line(l, n, s, len)))
			continue;
		ap_line(a, i < n ? '-' : '+', "%s", sp_vis(safe, sizeof(safe),
		    sp_span_of(s, len)));
		shown++;
	}
	free(l);
}

static void
policy_put(struct sp_apply *a, const char *body, const char *hash)
{
	const struct sp_rows *r = a->c->rows[AP_POLICIES];
	char seq[SP_NUM_TEXT], now[SP_NUM_TEXT];
	uint8_t id[16];

	sp_i64_text(seq, sp_rows_n(r) == 0 ? 1 : sp_rows_i64(r, 0, "seq") + 1);
	sp_i64_text(now, sp_now_us());
	sp_uuid_make(id);
	sp_change_insert(a->ch, SP_T_POLICIES, id, (const char *[]){seq, body, hash,
	    a->c->who.name, now});
}

void
ap_policy(struct sp_apply *a)
{
	const struct sp_rows *r = a->c->rows[AP_POLICIES];
	struct sp_policy_diag d = {0};
	struct sp_policy *p = NULL;
	json_object *v = NULL;
	const char *body, *was = sp_rows_n(r) == 0 ? "" : sp_rows_get(r, 0, "body");
	char hash[65];

	if (!json_object_object_get_ex(a->in, "policy", &v) ||
	    (body = ap_text(a, v, SP_POLICY_TEXT_MAX, "/policy")) == NULL)
		return;
	if (sp_policy_parse(sp_span_str(body), &p, &d) != SP_OK) {
		ap_error(a, "/policy", "line %u, column %u of the policy: %s",
		    d.line, d.column, sp_vis_str(d.text));
		return;
	}
	sp_policy_free(p);
	if (strcmp(was, body) == 0)
		return;
	sp_sha256_text(hash, sp_span_str(body));
	diff(a, was, body);
	ap_line(a, '~', "hash %s", hash);
	if (ap_change(a, "policy", "policy", was[0] == '\0' ? "add" : "change"))
		policy_put(a, body, hash);
}

/* ------------------------------------------------------------------- export */

static json_object *
words_of(const char *s, char by)
{
	json_object *l = json_object_new_array();

	while (s != NULL && *s != '\0') {
		size_t n = strcspn(s, (const char[]){by, '\0'});

		if (n > 0)
			json_object_array_add(l,
			    json_object_new_string_len(s, (int)n));
		s += n;
		s += *s == by;
	}
	return l;
}

static json_object *
keys_of(const struct sp_rows *k, const char *person)
{
	json_object *l = json_object_new_array();

	for (size_t i = 0; i < sp_rows_n(k); i++) {
		SP_BUF_AUTO blob = {.max = SP_PUBKEY_BLOB_MAX};
		SP_BUF_AUTO line = {.max = 16384};
		const char *comment = sp_rows_get(k, i, "comment");

		if (strcmp(sp_rows_get(k, i, "person_id"), person) != 0 ||
		    !sp_rows_bool(k, i, "enabled") ||
		    sp_rows_bytes(k, i, "blob", &blob) != SP_OK ||
		    sp_buf_printf(&line, "%s ", sp_rows_get(k, i, "algo")) !=
		    SP_OK || sp_base64(&line, sp_buf_span(&blob)) != SP_OK ||
		    sp_buf_printf(&line, "%s%s", comment[0] == '\0' ? "" : " ",
		    comment) != SP_OK)
			continue;
		json_object_array_add(l, json_object_new_string_len(
		    (const char *)sp_buf_span(&line).p, (int)line.len));
	}
	return l;
}

static json_object *
people(struct sp_call *c)
{
	const struct sp_rows *p = c->rows[AP_PEOPLE], *m = c->rows[AP_MEMBERSHIPS];
	json_object *all = json_object_new_object();

	for (size_t i = 0; i < sp_rows_n(p); i++) {
		const char *id = sp_rows_get(p, i, "id");
		json_object *o = json_object_new_object();
		json_object *g = json_object_new_array();

		for (size_t k = 0; k < sp_rows_n(m); k++)
			if (strcmp(sp_rows_get(m, k, "person_id"), id) == 0)
				json_object_array_add(g, sp_json_text(
				    sp_rows_get(m, k, "group_name")));
		json_object_object_add(o, "display",
		    sp_json_text(sp_rows_get(p, i, "display")));
		json_object_object_add(o, "enabled", json_object_new_boolean(
		    sp_rows_bool(p, i, "enabled")));
		json_object_object_add(o, "groups", g);
		json_object_object_add(o, "keys", keys_of(c->rows[AP_KEYS], id));
		json_object_object_add(all, sp_rows_get(p, i, "name"), o);
	}
	return all;
}

static json_object *
accounts(struct sp_call *c, const char *target)
{
	const struct sp_rows *r = c->rows[AP_ACCOUNTS];
	json_object *all = json_object_new_object();

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const struct sp_kind *k = sp_kind_find(sp_rows_i64(r, i, "kind"));
		json_object *o;

		if (k == NULL || strcmp(sp_rows_get(r, i, "target_id"), target) != 0)
			continue;
		o = json_object_new_object();
		json_object_object_add(o, "kind", sp_json_text(k->name));
		if ((k->flags & SP_KIND_STORED) != 0)
			json_object_object_add(o, "secret", sp_json_text("keep"));
		json_object_object_add(o, "enabled", json_object_new_boolean(
		    !sp_rows_bool(r, i, "disabled")));
		json_object_object_add(o, "exclusive", json_object_new_boolean(
		    sp_rows_bool(r, i, "exclusive")));
		ap_sql_export_account(o, sp_rows_get(r, i, "sql"));
		ap_rotation_export(c, o, k, i);
		json_object_object_add(all, sp_rows_get(r, i, "name"), o);
	}
	return all;
}

static json_object *
via(struct sp_call *c, const char *id)
{
	size_t i = sp_rows_find(c->rows[AP_ACCOUNTS], "id", id);
	char way[80];

	if (i == SIZE_MAX)
		return NULL;
	snprintf(way, sizeof(way), "%.32s@%.32s",
	    sp_rows_get(c->rows[AP_ACCOUNTS], i, "name"),
	    sp_rows_name(c->rows[AP_TARGETS],
	    sp_rows_get(c->rows[AP_ACCOUNTS], i, "target_id"), "name"));
	return json_object_new_string(way);
}

static json_object *
target(struct sp_call *c, size_t i)
{
	const struct sp_rows *r = c->rows[AP_TARGETS];
	json_object *o = json_object_new_object();
	const char *more = sp_rows_get(r, i, "more_addrs");
	char one[SP_WHERE_TEXT], all[SP_WHERE_TEXT + SP_MORE_ADDRS];

	snprintf(all, sizeof(all), "%s%s%s", sp_where_text(one,
	    sp_rows_get(r, i, "addr"), (uint16_t)sp_rows_i64(r, i, "port")),
	    more == NULL ? "" : " ", more == NULL ? "" : more);
	json_object_object_add(o, "addresses", words_of(all, ' '));
	json_object_object_add(o, "host_keys",
	    words_of(sp_rows_get(r, i, "host_keys"), '\n'));
	ap_sql_export_target(o, r, i);
	json_object_object_add(o, "tags", words_of(sp_rows_get(r, i, "tags"), ' '));
	json_object_object_add(o, "via", via(c, sp_rows_get(r, i, "via")));
	if (sp_rows_get(r, i, "reconcile") != NULL)
		json_object_object_add(o, "reconcile", sp_json_text(sp_rows_name(
		    c->rows[AP_ACCOUNTS], sp_rows_get(r, i, "reconcile"), "name")));
	else if (sp_rows_get(r, i, "protocol") == NULL)
		json_object_object_add(o, "reconcile", NULL);
	json_object_object_add(o, "legacy",
	    json_object_new_boolean(sp_rows_bool(r, i, "legacy")));
	json_object_object_add(o, "enabled",
	    json_object_new_boolean(sp_rows_bool(r, i, "enabled")));
	json_object_object_add(o, "accounts", accounts(c, sp_rows_get(r, i, "id")));
	return o;
}

json_object *
ap_export(struct sp_call *c)
{
	json_object *o = json_object_new_object();
	json_object *all = json_object_new_object();

	for (size_t i = 0; i < sp_rows_n(c->rows[AP_TARGETS]); i++)
		json_object_object_add(all,
		    sp_rows_get(c->rows[AP_TARGETS], i, "name"), target(c, i));
	json_object_object_add(o, "users", people(c));
	json_object_object_add(o, "targets", all);
	json_object_object_add(o, "policy", sp_rows_n(c->rows[AP_POLICIES]) == 0 ?
	    NULL : sp_json_text(sp_rows_get(c->rows[AP_POLICIES], 0, "body")));
	return o;
}
