/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/login.h"
#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"

/* rows: 0 people, 1 memberships, 2 keys, 3 totp */

/* ----------------------------------------------------------------- listing */

static void
groups_of(const struct sp_rows *m, const char *person, char *dst, size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < sp_rows_n(m); i++) {
		const char *p = sp_rows_get(m, i, "person_id");

		if (p != NULL && strcmp(p, person) == 0 && o + 40 < cap)
			o += (size_t)snprintf(dst + o, cap - o, "%s%.32s",
			    o > 0 ? " " : "", sp_rows_get(m, i, "group_name"));
	}
}

static size_t
count_of(const struct sp_rows *r, const char *person)
{
	size_t n = 0;

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *p = sp_rows_get(r, i, "person_id");

		n += p != NULL && strcmp(p, person) == 0;
	}
	return n;
}

static const struct sp_col people_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"name", "NAME", SP_COL_TEXT},
	{"display", "DISPLAY", SP_COL_TEXT}, {"groups", "GROUPS", SP_COL_WORDS},
	{"keys", "KEYS", SP_COL_NUMBER}, {"totp", "TOTP", SP_COL_BOOL},
	{"enabled", "ENABLED", SP_COL_BOOL},
};

static void
add_person(struct sp_call *c, struct sp_list *l, size_t i)
{
	const char *id = sp_rows_get(c->rows[0], i, "id");
	char groups[1200], keys[24];

	groups_of(c->rows[1], id, groups, sizeof(groups));
	snprintf(keys, sizeof(keys), "%zu", count_of(c->rows[2], id));
	sp_list_add(l, (const char *[]){id, sp_rows_get(c->rows[0], i, "name"),
	    sp_rows_get(c->rows[0], i, "display"), groups, keys,
	    count_of(c->rows[3], id) > 0 ? "t" : "f",
	    sp_rows_get(c->rows[0], i, "enabled")});
}

static void
users_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(people_cols, 7);

	for (size_t i = 0; i < sp_rows_n(c->rows[0]); i++)
		add_person(c, l, i);
	sp_call_list(c, l, sp_call_has(c, "after") || sp_call_has(c, "group") ?
	    "Nobody." : "Nobody yet. Add somebody on the host: sallyport "
	    "users add NAME --display TEXT --group sysadmins --key 'ssh-ed25519 "
	    "...' --totp");
	sp_list_free(l);
	sp_call_more(c, c->rows[0], "users list", sp_rows_n(c->rows[0]) == 0 ? "" :
	    sp_rows_get(c->rows[0], sp_rows_n(c->rows[0]) - 1, "name"));
	sp_call_end(c, SP_EXIT_OK);
}

#define PAGE "(SELECT id FROM people WHERE name::text > $1 AND ($2 = '' OR id "   \
	"IN (SELECT person_id FROM memberships WHERE group_name = $2)) "      \
	"ORDER BY name LIMIT $3::bigint)"

void
sp_verb_users_list(struct sp_call *c)
{
	const char *after = sp_call_opt(c, "after"), *group = sp_call_opt(c, "group");
	char limit[24];

	if (!sp_call_limit(c, limit))
		return;
	after = after == NULL ? "" : after;
	group = group == NULL ? "" : group;
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_PEOPLE, .where = "WHERE id IN " PAGE " ORDER BY name",
	    .p = {after, group, limit}, .n = 3},
	    {.t = SP_T_MEMBERSHIPS, .where = "WHERE person_id IN " PAGE
	    " ORDER BY group_name", .p = {after, group, limit}, .n = 3},
	    {.t = SP_T_PERSON_KEYS, .where = "WHERE person_id IN " PAGE,
	    .p = {after, group, limit}, .n = 3},
	    {.t = SP_T_TOTP, .where = "WHERE person_id IN " PAGE,
	    .p = {after, group, limit}, .n = 3}}, 4, users_print);
}

static void
load_person(struct sp_call *c, void (*then)(struct sp_call *c))
{
	const char *n = c->pos[0];

#define OF_PERSON "WHERE person_id IN (SELECT id FROM people WHERE name = $1)"
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_PEOPLE, .where = "WHERE name = $1", .p = {n}, .n = 1},
	    {.t = SP_T_MEMBERSHIPS, .where = OF_PERSON " ORDER BY group_name",
	    .p = {n}, .n = 1},
	    {.t = SP_T_PERSON_KEYS, .where = OF_PERSON, .p = {n}, .n = 1},
	    {.t = SP_T_TOTP, .where = OF_PERSON, .p = {n}, .n = 1}}, 4, then);
}

/* Exactly one person with that name; else the call has ended. */
static bool
is_known(struct sp_call *c, uint8_t id[static 16])
{
	if (sp_rows_n(c->rows[0]) == 1 &&
	    sp_rows_uuid(c->rows[0], 0, "id", id))
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED, "there is nobody called %s: "
	    "users list shows who there is%s", sp_vis_str(c->pos[0]),
	    sp_rows_n_broken(c->rows[0]) > 0 ?
	    ". The row's seal is broken: somebody changed it by hand" : "");
	return false;
}

static struct sp_list *
key_list(const struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", NULL, SP_COL_TEXT}, {"algo", "KEY", SP_COL_TEXT},
		{"fingerprint", "FINGERPRINT", SP_COL_TEXT},
		{"comment", "COMMENT", SP_COL_TEXT},
		{"enabled", "ENABLED", SP_COL_BOOL}};
	struct sp_list *l = sp_list_new(cols, 5);
	const struct sp_rows *k = c->rows[2];

	for (size_t i = 0; i < sp_rows_n(k); i++) {
		SP_BUF_AUTO blob = {.max = SP_PUBKEY_BLOB_MAX};
		char fp[SP_FINGERPRINT_TEXT] = "";

		if (sp_rows_bytes(k, i, "blob", &blob) == SP_OK)
			sp_fingerprint(fp, sp_buf_span(&blob));
		sp_list_add(l, (const char *[]){sp_rows_get(k, i, "id"),
		    sp_rows_get(k, i, "algo"), fp, sp_rows_get(k, i, "comment"),
		    sp_rows_get(k, i, "enabled")});
	}
	return l;
}

static void
show_print(struct sp_call *c)
{
	struct sp_list *l, *keys;
	SP_BUF_AUTO out = {.max = 256 * 1024};
	uint8_t id[16];

	if (!is_known(c, id))
		return;
	l = sp_list_new(people_cols, 7);
	keys = key_list(c);
	add_person(c, l, 0);
	if (c->style.json) {
		json_object *o = sp_list_json_row(l, 0);
		bool has = sp_rows_n(c->rows[3]) > 0;

		json_object_object_del(o, "keys");
		json_object_object_add(o, "keys", sp_list_json(keys));
		json_object_object_add(o, "totp_id", has ?
		    sp_json_text(sp_rows_get(c->rows[3], 0, "id")) : NULL);
		json_object_object_add(o, "totp_version", json_object_new_int64(
		    has ? (int64_t)sp_rows_ver(c->rows[3], 0) : 0));
		sp_call_json(c, o);
	} else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK &&
	    sp_buf_put(&out, "\n", 1) == SP_OK &&
	    sp_list_print(keys, &c->style, "No keys.", &out) == SP_OK) {
		sp_call_out(c, sp_buf_span(&out));
	}
	sp_list_free(l);
	sp_list_free(keys);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_users_show(struct sp_call *c)
{
	load_person(c, show_print);
}

/* --------------------------------------------------------------------- add */

struct person {
	uint8_t id[16];
	char id_text[SP_UUID_TEXT];
	char done[2048];	/* what to say when it is committed */
	const char *state;
};

static struct person *
person_new(struct sp_call *c)
{
	struct person *p = calloc(1, sizeof(*p));

	SP_ASSERT(p != NULL);
	c->state = p;
	c->free_state = free;
	return p;
}

static void
changed(struct sp_call *c)
{
	struct person *p = c->state;

	sp_broker_changed(c->b);
	sp_call_did(c, p->id_text, p->state, "%s", p->done);
}

static void
insert_key(struct sp_change *ch, const char *person, const struct sp_pubkey *k)
{
	char hex[2 * SP_PUBKEY_BLOB_MAX + 3] = "\\x";
	uint8_t id[16];

	sp_hex(hex + 2, k->blob, k->n);
	sp_uuid_make(id);
	sp_change_insert(ch, SP_T_PERSON_KEYS, id, (const char *[]){person,
	    k->algo, hex, k->comment, "t"});
}

static void
insert_group(struct sp_change *ch, const char *person, const char *group)
{
	uint8_t id[16];

	sp_uuid_make(id);
	sp_change_insert(ch, SP_T_MEMBERSHIPS, id, (const char *[]){person, group});
}

/* Each of "a,b c", checked, into the change; ch NULL only checks. */
static bool
each_group(struct sp_call *c, struct sp_change *ch, const char *person)
{
	const char *v;

	for (size_t i = 0; (v = sp_call_opt_n(c, "group", i)) != NULL; i++)
		while (*v != '\0') {
			size_t n = strcspn(v, ", ");
			char name[SP_NAME_MAX + 1];

			if (n > 0 && (!sp_name_is_valid(sp_span_of(v, n)) ||
			    sp_span_cstr(sp_span_of(v, n), name,
			    sizeof(name)) != SP_OK))
				return false;
			if (n > 0 && ch != NULL)
				insert_group(ch, person, name);
			v += n;
			v += strspn(v, ", ");
		}
	return true;
}

static bool
each_key(struct sp_call *c, struct sp_change *ch, const char *person,
    const char **why)
{
	const char *v;

	for (size_t i = 0; (v = sp_call_opt_n(c, "key", i)) != NULL; i++) {
		struct sp_pubkey k;

		if (sp_pubkey_parse(sp_span_str(v), &k, why) != SP_OK)
			return false;
		if (ch != NULL)
			insert_key(ch, person, &k);
	}
	return true;
}

void
sp_verb_users_add(struct sp_call *c)
{
	struct person *p = person_new(c);
	const char *display = sp_call_opt(c, "display"), *why = "";
	struct sp_change *ch;
	char *detail;

	if (!sp_name_is_valid(sp_span_str(c->pos[0])))
		why = "a name is 1 to 32 of a-z 0-9 . _ -, and starts with a "
		    "letter or digit; --display holds any text";
	else if (display != NULL && (strlen(display) > 128 ||
	    !sp_utf8_is_valid(sp_span_str(display))))
		why = "--display is at most 128 bytes of UTF-8";
	else if (!each_group(c, NULL, NULL))
		why = "--group: a group is 1 to 32 of a-z 0-9 . _ -";
	else if (each_key(c, NULL, NULL, &why))
		why = "";
	if (why[0] != '\0') {
		sp_call_fail(c, SP_EXIT_USAGE, "%s", why);
		return;
	}
	sp_uuid_make(p->id);
	sp_uuid_text(p->id_text, p->id);
	p->state = "added";
	snprintf(p->done, sizeof(p->done), "%s added.%s", c->pos[0],
	    sp_call_has(c, "key") ? "" : " There is no key yet: users key add "
	    "NAME 'ssh-ed25519 ...'");
	detail = sp_call_detail("name", c->pos[0], "display", display, "group",
	    sp_call_opt(c, "group"), NULL);
	ch = sp_change_new(c->b->store);
	sp_change_insert(ch, SP_T_PEOPLE, p->id, (const char *[]){c->pos[0],
	    display == NULL ? c->pos[0] : display, "t"});
	(void)each_group(c, ch, p->id_text);
	(void)each_key(c, ch, p->id_text, &why);
	sp_change_audit(ch, "user_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users add", changed);
}

/* ------------------------------------------------------ disable and enable */

static void
is_set(struct sp_call *c)
{
	struct person *p = c->state;

	if (strcmp(p->state, "disabled") == 0) {
		(void)sp_session_end_where(c->b, NULL, p->id, NULL,
		    SP_END_REVOKED, "this person was disabled");
		sp_login_drop_person(c->b, p->id, "You have been disabled.");
	}
	changed(c);
}

static void
set_enabled(struct sp_call *c, bool on)
{
	struct person *p = person_new(c);
	const struct sp_rows *r = c->rows[0];
	struct sp_change *ch;
	char *detail;

	if (!is_known(c, p->id))
		return;
	sp_uuid_text(p->id_text, p->id);
	p->state = on ? "enabled" : "disabled";
	snprintf(p->done, sizeof(p->done), "%s is %s.%s", c->pos[0], p->state,
	    on ? "" : " Sessions and connections end now.");
	detail = sp_call_detail("name", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_PEOPLE, p->id, sp_rows_ver(r, 0),
	    (const char *[]){sp_rows_get(r, 0, "name"),
	    sp_rows_get(r, 0, "display"), on ? "t" : "f"});
	sp_change_audit(ch, on ? "user_enable" : "user_disable", c->who.name,
	    NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users", is_set);
}

static void
disable(struct sp_call *c)
{
	set_enabled(c, false);
}

static void
enable(struct sp_call *c)
{
	set_enabled(c, true);
}

void
sp_verb_users_disable(struct sp_call *c)
{
	load_person(c, disable);
}

void
sp_verb_users_enable(struct sp_call *c)
{
	load_person(c, enable);
}

/* -------------------------------------------------------------------- keys */

static void
key_add(struct sp_call *c)
{
	struct person *p = person_new(c);
	SP_BUF_AUTO line = {.max = 16384};
	struct sp_change *ch;
	struct sp_pubkey k;
	const char *why = "too long";
	char fp[SP_FINGERPRINT_TEXT], *detail;

	if (!is_known(c, p->id))
		return;
	/* The key may come as one word or as the words it has. */
	for (size_t i = 1; i < c->n_pos; i++)
		if (sp_buf_printf(&line, "%s%s", i > 1 ? " " : "", c->pos[i]) !=
		    SP_OK)
			sp_buf_reset(&line);
	if (sp_pubkey_parse(sp_buf_span(&line), &k, &why) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "%s", why);
		return;
	}
	sp_fingerprint(fp, sp_span_of(k.blob, k.n));
	sp_uuid_text(p->id_text, p->id);
	p->state = "added";
	snprintf(p->done, sizeof(p->done), "%s has the key %s %s.", c->pos[0],
	    k.algo, fp);
	detail = sp_call_detail("name", c->pos[0], "fingerprint", fp, NULL);
	ch = sp_change_new(c->b->store);
	insert_key(ch, p->id_text, &k);
	sp_change_audit(ch, "user_key_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users key add", changed);
}

void
sp_verb_users_key_add(struct sp_call *c)
{
	load_person(c, key_add);
}

static void
key_remove(struct sp_call *c)
{
	struct person *p = person_new(c);
	const struct sp_rows *r = c->rows[2];
	struct sp_change *ch;
	uint8_t id[16];
	char *detail;
	size_t i;

	if (!is_known(c, p->id))
		return;
	for (i = 0; i < sp_rows_n(r); i++) {
		SP_BUF_AUTO blob = {.max = SP_PUBKEY_BLOB_MAX};
		char fp[SP_FINGERPRINT_TEXT];

		if (sp_rows_bytes(r, i, "blob", &blob) != SP_OK)
			continue;
		sp_fingerprint(fp, sp_buf_span(&blob));
		if (strcmp(fp, c->pos[1]) == 0)
			break;
	}
	if (i == sp_rows_n(r) || !sp_rows_uuid(r, i, "id", id)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has no such key; users show "
		    "%s lists them", c->pos[0], c->pos[0]);
		return;
	}
	sp_uuid_text(p->id_text, p->id);
	p->state = "removed";
	snprintf(p->done, sizeof(p->done), "%s has that key no more.", c->pos[0]);
	detail = sp_call_detail("name", c->pos[0], "fingerprint", c->pos[1], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_PERSON_KEYS, id, sp_rows_ver(r, i));
	sp_change_audit(ch, "user_key_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users key remove", changed);
}

void
sp_verb_users_key_remove(struct sp_call *c)
{
	load_person(c, key_remove);
}

/* ------------------------------------------------------------------ groups */

static void
group_add(struct sp_call *c)
{
	struct person *p = person_new(c);
	struct sp_change *ch;
	char *detail;

	if (!is_known(c, p->id))
		return;
	if (!sp_name_is_valid(sp_span_str(c->pos[1]))) {
		sp_call_fail(c, SP_EXIT_USAGE,
		    "a group is 1 to 32 of a-z 0-9 . _ -");
		return;
	}
	sp_uuid_text(p->id_text, p->id);
	p->state = "added";
	snprintf(p->done, sizeof(p->done), "%s is in %s.", c->pos[0], c->pos[1]);
	detail = sp_call_detail("name", c->pos[0], "group", c->pos[1], NULL);
	ch = sp_change_new(c->b->store);
	insert_group(ch, p->id_text, c->pos[1]);
	sp_change_audit(ch, "user_group_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users group add", changed);
}

void
sp_verb_users_group_add(struct sp_call *c)
{
	load_person(c, group_add);
}

static void
group_remove(struct sp_call *c)
{
	struct person *p = person_new(c);
	size_t i = sp_rows_find(c->rows[1], "group_name", c->pos[1]);
	struct sp_change *ch;
	uint8_t id[16];
	char *detail;

	if (!is_known(c, p->id))
		return;
	if (i == SIZE_MAX || !sp_rows_uuid(c->rows[1], i, "id", id)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s is not in %s", c->pos[0],
		    sp_vis_str(c->pos[1]));
		return;
	}
	sp_uuid_text(p->id_text, p->id);
	p->state = "removed";
	snprintf(p->done, sizeof(p->done), "%s is in %s no more.", c->pos[0],
	    c->pos[1]);
	detail = sp_call_detail("name", c->pos[0], "group", c->pos[1], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_MEMBERSHIPS, id, sp_rows_ver(c->rows[1], i));
	sp_change_audit(ch, "user_group_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users group remove", changed);
}

void
sp_verb_users_group_remove(struct sp_call *c)
{
	load_person(c, group_remove);
}

/* -------------------------------------------------------------------- totp */

/* The blob is the vault's, sealed for this id, version and owner: what the CLI
 * says about them must be what the row will have. */
static void
totp_store(struct sp_call *c)
{
	struct person *p = person_new(c);
	const char *id = sp_call_opt(c, "id"), *hex = sp_call_opt(c, "sealed");
	const char *version = sp_call_opt(c, "version");
	bool has = sp_rows_n(c->rows[3]) > 0;
	uint8_t row[16] = {0};
	uint64_t ver = 0, now = has ? sp_rows_ver(c->rows[3], 0) : 0;
	struct sp_change *ch;
	char sealed[2060], *detail;

	if (!is_known(c, p->id))
		return;
	if (id == NULL || hex == NULL || version == NULL || strlen(hex) > 2048 ||
	    strlen(hex) < 2 || strlen(hex) % 2 != 0 ||
	    strspn(hex, "0123456789abcdef") != strlen(hex) ||
	    sp_uuid_parse(row, sp_span_str(id)) != SP_OK ||
	    sp_u64_parse(sp_span_str(version), INT64_MAX, &ver) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "this is for the host: sallyport "
		    "users totp %s", c->pos[0]);
		return;
	}
	if (ver != now + 1 || (has &&
	    strcmp(sp_rows_get(c->rows[3], 0, "id"), id) != 0)) {
		sp_call_fail(c, SP_EXIT_LATER,
		    "somebody else changed it just now; repeat");
		return;
	}
	sp_uuid_text(p->id_text, p->id);
	p->state = "stored";
	snprintf(p->done, sizeof(p->done), "%s has a %s second factor.", c->pos[0],
	    has ? "new" : "first");
	snprintf(sealed, sizeof(sealed), "\\x%s", hex);
	detail = sp_call_detail("name", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	if (has)
		sp_change_update(ch, SP_T_TOTP, row, now,
		    (const char *[]){p->id_text, sealed});
	else
		sp_change_insert(ch, SP_T_TOTP, row,
		    (const char *[]){p->id_text, sealed});
	sp_change_audit(ch, "user_totp", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "users totp", changed);
}

void
sp_verb_users_totp_store(struct sp_call *c)
{
	load_person(c, totp_store);
}
