/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/verb_key.h"

#define KEYS_MAX 64
#define GROUPS_MAX 32

struct person {
	const char *name;
	json_object *o;
	size_t row;		/* SIZE_MAX: a new one */
	const char *display, *enabled;
	json_object *groups, *keys;
	uint8_t id[16];
	char id_text[SP_UUID_TEXT], path[128];
	bool is_changed;	/* the row itself */
};

static json_object *
rows_of(json_object *index, const char *id)
{
	json_object *v = NULL;

	return json_object_object_get_ex(index, id, &v) ? v : NULL;
}

static void
row_id(const struct sp_rows *r, size_t row, uint8_t id[static 16])
{
	SP_ASSERT(sp_rows_uuid(r, row, "id", id));
}

/* ------------------------------------------------------------------- groups */

static void
check_groups(struct sp_apply *a, const struct person *p)
{
	char path[160];

	for (size_t i = 0; p->groups != NULL &&
	    i < json_object_array_length(p->groups); i++) {
		const char *g;

		snprintf(path, sizeof(path), "%s/groups/%zu", p->path, i);
		g = ap_text(a, json_object_array_get_idx(p->groups, i),
		    SP_NAME_MAX, path);
		if (g != NULL && !sp_name_is_valid(sp_span_str(g)))
			ap_error(a, path, "a group is 1 to 32 of a-z 0-9 . _ -");
	}
}

/* Which groups are to come, and which memberships to go; put: into the change. */
static void
groups(struct sp_apply *a, const struct person *p, bool put)
{
	const struct sp_rows *m = a->c->rows[AP_MEMBERSHIPS];
	json_object *have = rows_of(a->groups_of, p->id_text);
	json_object *names = json_object_new_array();
	uint8_t id[16];

	for (size_t i = 0; have != NULL && i < json_object_array_length(have); i++) {
		size_t row = (size_t)json_object_get_int64(
		    json_object_array_get_idx(have, i));
		const char *g = sp_rows_get(m, row, "group_name");

		json_object_array_add(names, json_object_new_string(g));
		if (ap_has(p->groups, g))
			continue;
		row_id(m, row, id);
		if (put)
			sp_change_delete(a->ch, SP_T_MEMBERSHIPS, id,
			    sp_rows_ver(m, row));
		else
			ap_line(a, '-', "group %s", g);
	}
	for (size_t i = 0; i < json_object_array_length(p->groups); i++) {
		const char *g = json_object_get_string(
		    json_object_array_get_idx(p->groups, i));

		if (ap_has(names, g))
			continue;
		json_object_array_add(names, json_object_new_string(g));
		sp_uuid_make(id);
		if (put)
			sp_change_insert(a->ch, SP_T_MEMBERSHIPS, id,
			    (const char *[]){p->id_text, g});
		else
			ap_line(a, '+', "group %s", g);
	}
	json_object_put(names);
}

/* --------------------------------------------------------------------- keys */

/* Keys are large: each of these has its own on the stack, and none of another.
 * A key stands for one person. */
__attribute__((noinline)) static void
check_owner(struct sp_apply *a, const struct person *p, const struct sp_pubkey *k,
    const char *path)
{
	const struct sp_rows *r = a->c->rows[AP_KEYS];
	char hex[2 * SP_PUBKEY_BLOB_MAX + 3] = "\\x";
	const char *owner;
	size_t row;

	sp_hex(hex + 2, k->blob, k->n);
	row = ap_at(a->key_at, hex);
	if (row == SIZE_MAX)
		return;
	owner = sp_rows_name(a->c->rows[AP_PEOPLE],
	    sp_rows_get(r, row, "person_id"), "name");
	if (strcmp(owner, p->name) != 0)
		ap_error(a, path, "this key is %s's already", owner);
}

static void
check_keys(struct sp_apply *a, const struct person *p)
{
	char path[160];

	for (size_t i = 0; p->keys != NULL &&
	    i < json_object_array_length(p->keys); i++) {
		struct sp_pubkey k;
		const char *t, *why = "";

		snprintf(path, sizeof(path), "%s/keys/%zu", p->path, i);
		t = ap_text(a, json_object_array_get_idx(p->keys, i), 8192, path);
		if (t != NULL && sp_pubkey_parse(sp_span_str(t), &k, &why) != SP_OK)
			ap_error(a, path, "%s", why);
		else if (t != NULL)
			check_owner(a, p, &k, path);
	}
}

static bool
key_of(json_object *list, size_t i, struct sp_pubkey *k, char *hex)
{
	const char *why;

	if (sp_pubkey_parse(sp_span_str(json_object_get_string(
	    json_object_array_get_idx(list, i))), k, &why) != SP_OK)
		return false;
	memcpy(hex, "\\x", 2);
	sp_hex(hex + 2, k->blob, k->n);
	return true;
}

/* The place of that key in the list; SIZE_MAX: it is not there. */
__attribute__((noinline)) static size_t
key_at(json_object *list, const char *blob, size_t before)
{
	char hex[2 * SP_PUBKEY_BLOB_MAX + 3];
	struct sp_pubkey k;

	for (size_t i = 0; i < json_object_array_length(list) && i < before; i++)
		if (key_of(list, i, &k, hex) && strcmp(hex, blob) == 0)
			return i;
	return SIZE_MAX;
}

__attribute__((noinline)) static void
old_key(struct sp_apply *a, const struct person *p, size_t row, bool put)
{
	const struct sp_rows *r = a->c->rows[AP_KEYS];
	const char *blob = sp_rows_get(r, row, "blob");
	char hex[2 * SP_PUBKEY_BLOB_MAX + 3], fp[SP_FINGERPRINT_TEXT];
	size_t at = key_at(p->keys, blob, SIZE_MAX);
	SP_BUF_AUTO b = {.max = SP_PUBKEY_BLOB_MAX};
	struct sp_pubkey k;
	struct sp_vals v;
	uint8_t id[16];

	row_id(r, row, id);
	if (sp_rows_bytes(r, row, "blob", &b) != SP_OK ||
	    (at == SIZE_MAX && !sp_rows_bool(r, row, "enabled")))
		return;
	sp_fingerprint(fp, sp_buf_span(&b));
	if (at == SIZE_MAX && put) {
		sp_change_delete(a->ch, SP_T_PERSON_KEYS, id, sp_rows_ver(r, row));
	} else if (at == SIZE_MAX) {
		ap_line(a, '-', "key %s", fp);
	} else if (key_of(p->keys, at, &k, hex) &&
	    strcmp(k.comment, sp_rows_get(r, row, "comment")) != 0) {
		sp_vals_from(&v, SP_T_PERSON_KEYS, r, row);
		sp_vals_set(&v, "comment", k.comment);
		if (put)
			sp_change_update(a->ch, SP_T_PERSON_KEYS, id,
			    sp_rows_ver(r, row), v.v);
		else
			ap_line(a, '~', "key %s comment %s", fp,
			    sp_vis_str(k.comment));
	}
}

/* Keys that were shut stay as they are: they are neither exported nor removed. */
static void
keys(struct sp_apply *a, const struct person *p, bool put)
{
	const struct sp_rows *r = a->c->rows[AP_KEYS];
	json_object *have = rows_of(a->keys_of, p->id_text);
	char hex[2 * SP_PUBKEY_BLOB_MAX + 3], fp[SP_FINGERPRINT_TEXT];
	size_t n = have == NULL ? 0 : json_object_array_length(have);
	struct sp_pubkey k;
	uint8_t id[16];

	for (size_t i = 0; i < n; i++)
		old_key(a, p, (size_t)json_object_get_int64(
		    json_object_array_get_idx(have, i)), put);
	for (size_t i = 0; i < json_object_array_length(p->keys); i++) {
		bool known = !key_of(p->keys, i, &k, hex) ||
		    key_at(p->keys, hex, i) != SIZE_MAX;

		for (size_t j = 0; j < n && !known; j++)
			known = strcmp(sp_rows_get(r, (size_t)json_object_get_int64(
			    json_object_array_get_idx(have, j)), "blob"), hex) == 0;
		if (known)
			continue;
		sp_uuid_make(id);
		sp_fingerprint(fp, sp_span_of(k.blob, k.n));
		if (put)
			sp_change_insert(a->ch, SP_T_PERSON_KEYS, id,
			    (const char *[]){p->id_text, k.algo, hex, k.comment, "t"});
		else
			ap_line(a, '+', "key %s %s", fp, sp_vis_str(k.comment));
	}
}

/* ------------------------------------------------------------------ one of them */

static void
person_lines(struct sp_apply *a, struct person *p)
{
	const struct sp_rows *r = a->c->rows[AP_PEOPLE];
	const char *was = p->row == SIZE_MAX ? NULL :
	    sp_rows_get(r, p->row, "display");
	const char *on = p->row == SIZE_MAX ? NULL :
	    sp_rows_get(r, p->row, "enabled");

	if (p->display != NULL && (was == NULL || strcmp(was, p->display) != 0)) {
		if (was != NULL)
			ap_line(a, '-', "display %s", sp_vis_str(was));
		ap_line(a, '+', "display %s", sp_vis_str(p->display));
		p->is_changed = true;
	}
	if (p->enabled != NULL && (on == NULL ? p->enabled[0] == 'f' :
	    strcmp(on, p->enabled) != 0)) {
		ap_line(a, '~', "%s", p->enabled[0] == 't' ? "enabled" : "disabled");
		p->is_changed = true;
		if (p->enabled[0] == 'f' && p->row != SIZE_MAX)
			json_object_object_add(a->off, p->id_text, NULL);
	}
	if (p->groups != NULL)
		groups(a, p, false);
	if (p->keys != NULL)
		keys(a, p, false);
}

static void
person_put(struct sp_apply *a, const struct person *p)
{
	const struct sp_rows *r = a->c->rows[AP_PEOPLE];
	struct sp_vals v;

	if (p->row == SIZE_MAX) {
		sp_change_insert(a->ch, SP_T_PEOPLE, p->id, (const char *[]){
		    p->name, p->display == NULL ? p->name : p->display,
		    p->enabled == NULL ? "t" : p->enabled});
	} else if (p->is_changed) {
		sp_vals_from(&v, SP_T_PEOPLE, r, p->row);
		if (p->display != NULL)
			sp_vals_set(&v, "display", p->display);
		if (p->enabled != NULL)
			sp_vals_set(&v, "enabled", p->enabled);
		sp_change_update(a->ch, SP_T_PEOPLE, p->id,
		    sp_rows_ver(r, p->row), v.v);
	}
	if (p->groups != NULL)
		groups(a, p, true);
	if (p->keys != NULL)
		keys(a, p, true);
}

static void
person(struct sp_apply *a, const char *name, json_object *o)
{
	struct person p = {.name = name, .o = o,
	    .row = ap_at(a->person_at, name)};
	size_t errors = json_object_array_length(a->errors);
	json_object *v = NULL;

	snprintf(p.path, sizeof(p.path), "/users/%.64s", name);
	if (!sp_name_is_valid(sp_span_str(name)))
		ap_error(a, p.path, "a name is 1 to 32 of a-z 0-9 . _ -, and starts "
		    "with a letter or digit");
	if (!json_object_is_type(o, json_type_object)) {
		ap_error(a, p.path, "a person is a mapping");
		return;
	}
	p.enabled = ap_bool(a, o, "enabled", p.path);
	p.groups = ap_list(a, o, "groups", GROUPS_MAX, p.path);
	p.keys = ap_list(a, o, "keys", KEYS_MAX, p.path);
	if (json_object_object_get_ex(o, "display", &v))
		p.display = ap_text(a, v, 128, p.path);
	check_groups(a, &p);
	check_keys(a, &p);
	if (json_object_array_length(a->errors) > errors)
		return;
	if (p.row == SIZE_MAX)
		sp_uuid_make(p.id);
	else
		row_id(a->c->rows[AP_PEOPLE], p.row, p.id);
	sp_uuid_text(p.id_text, p.id);
	person_lines(a, &p);
	if (ap_change(a, "user", name, p.row == SIZE_MAX ? "add" : "change"))
		person_put(a, &p);
}

static void
prune(struct sp_apply *a)
{
	const struct sp_rows *r = a->c->rows[AP_PEOPLE];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *name = sp_rows_get(r, i, "name");
		struct sp_vals v;
		uint8_t id[16];

		if (json_object_object_get_ex(a->users, name, NULL) ||
		    !sp_rows_bool(r, i, "enabled"))
			continue;
		ap_line(a, '~', "disabled");
		if (!ap_change(a, "user", name, "disable"))
			continue;
		row_id(r, i, id);
		json_object_object_add(a->off, sp_rows_get(r, i, "id"), NULL);
		sp_vals_from(&v, SP_T_PEOPLE, r, i);
		sp_vals_set(&v, "enabled", "f");
		sp_change_update(a->ch, SP_T_PEOPLE, id, sp_rows_ver(r, i), v.v);
	}
}

void
ap_people(struct sp_apply *a)
{
	if (a->users == NULL)
		return;
	json_object_object_foreach(a->users, name, o)
		person(a, name, o);
	if (a->prune)
		prune(a);
}
