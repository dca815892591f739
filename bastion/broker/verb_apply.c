/* SPDX-License-Identifier: Apache-2.0 */
/* inventory export, plan and apply: what the CLI's `apply -f` speaks to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/apply.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/login.h"
#include "bastion/broker/session.h"

#define DEPTH_MAX 8
#define EVENT_BYTES 24000	/* of one audit event's detail */

static void
load(struct sp_call *c, void (*then)(struct sp_call *c))
{
	sp_call_load(c, 0, (struct sp_need[]){
	    [AP_PEOPLE] = {.t = SP_T_PEOPLE, .where = "ORDER BY name"},
	    [AP_MEMBERSHIPS] = {.t = SP_T_MEMBERSHIPS, .where =
	    "ORDER BY group_name"},
	    [AP_KEYS] = {.t = SP_T_PERSON_KEYS, .where = "ORDER BY blob"},
	    [AP_TARGETS] = {.t = SP_T_TARGETS, .where = "ORDER BY name"},
	    [AP_ACCOUNTS] = {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"},
	    [AP_SECRETS] = {.t = SP_T_SECRETS, .where = ""},
	    [AP_POLICIES] = {.t = SP_T_POLICIES, .where =
	    "ORDER BY seq DESC LIMIT 1"},
	    [AP_ROTATIONS] = {.t = SP_T_ROTATIONS, .where = ""}}, AP_ROWS, then);
}

/* A row whose seal is broken is as if it were not there: what would be planned
 * or exported then is not what somebody meant. */
static bool
is_whole(struct sp_call *c)
{
	for (size_t i = 0; i < AP_ROWS; i++)
		if (sp_rows_n_broken(c->rows[i]) > 0) {
			sp_call_fail(c, SP_EXIT_REFUSED, "%zu rows of %s have a "
			    "broken seal: somebody changed them by hand. seals "
			    "lists them; mend that first",
			    sp_rows_n_broken(c->rows[i]),
			    i == AP_PEOPLE ? "people" : i == AP_MEMBERSHIPS ?
			    "memberships" : i == AP_KEYS ? "keys" :
			    i == AP_TARGETS ? "targets" : i == AP_ACCOUNTS ?
			    "accounts" : i == AP_SECRETS ? "secrets" :
			    i == AP_POLICIES ? "policies" : "rotations");
			return false;
		}
	return true;
}

static void
export_print(struct sp_call *c)
{
	if (!is_whole(c))
		return;
	sp_call_json(c, ap_export(c));
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_inventory_export(struct sp_call *c)
{
	load(c, export_print);
}

/* --------------------------------------------------------------------- start */

static json_object *
index_of(const struct sp_rows *r, const char *col)
{
	json_object *o = json_object_new_object();

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *v = sp_rows_get(r, i, col);

		if (v != NULL)
			json_object_object_add(o, v,
			    json_object_new_int64((int64_t)i));
	}
	return o;
}

static json_object *
many_of(const struct sp_rows *r, const char *col)
{
	json_object *o = json_object_new_object();

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *v = sp_rows_get(r, i, col);
		json_object *l = NULL;

		if (v == NULL)
			continue;
		if (!json_object_object_get_ex(o, v, &l)) {
			l = json_object_new_array();
			json_object_object_add(o, v, l);
		}
		json_object_array_add(l, json_object_new_int64((int64_t)i));
	}
	return o;
}

/* "account@target": row of the account */
static json_object *
accounts_index(const struct sp_call *c)
{
	json_object *by_id = index_of(c->rows[AP_TARGETS], "id");
	json_object *o = json_object_new_object();
	const struct sp_rows *r = c->rows[AP_ACCOUNTS];
	char where[80];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		size_t t = ap_at(by_id, sp_rows_get(r, i, "target_id"));

		if (t == SIZE_MAX)
			continue;
		snprintf(where, sizeof(where), "%.32s@%.32s",
		    sp_rows_get(r, i, "name"),
		    sp_rows_get(c->rows[AP_TARGETS], t, "name"));
		json_object_object_add(o, where, json_object_new_int64((int64_t)i));
	}
	json_object_put(by_id);
	return o;
}

static void
apply_free(void *state)
{
	struct sp_apply *a = state;
	json_object *all[] = {a->in, a->changes, a->errors, a->secrets, a->notes,
	    a->lines, a->person_at, a->target_at, a->account_at, a->groups_of,
	    a->keys_of, a->key_at, a->fresh, a->done, a->off};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		json_object_put(all[i]);
	if (a->ch != NULL)
		sp_change_drop(a->ch);
	free(a);
}

/* NULL: what came is no inventory; the call has ended. */
static json_object *
parse(struct sp_call *c)
{
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	struct sp_span s = sp_buf_span(&c->input);
	json_object *o = NULL;

	SP_ASSERT(t != NULL);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (s.n > 0 && s.n <= INT32_MAX)
		o = json_tokener_parse_ex(t, (const char *)s.p, (int)s.n);
	json_tokener_free(t);
	if (json_object_is_type(o, json_type_object))
		return o;
	json_object_put(o);
	sp_call_fail(c, SP_EXIT_USAGE, "this is for the host: sallyport apply -f "
	    "FILE");
	return NULL;
}

static json_object *
part(struct sp_apply *a, const char *name)
{
	json_object *v = NULL;
	char path[64];

	if (!json_object_object_get_ex(a->in, name, &v))
		return NULL;
	snprintf(path, sizeof(path), "/%s", name);
	if (!json_object_is_type(v, json_type_object))
		ap_error(a, path, "this is a mapping of names");
	else if (json_object_object_length(v) > AP_NAMES_MAX)
		ap_error(a, path, "at most %d of them", AP_NAMES_MAX);
	else
		return v;
	return NULL;
}

static struct sp_apply *
apply_new(struct sp_call *c, json_object *in)
{
	struct sp_apply *a = calloc(1, sizeof(*a));
	json_object *v = NULL;

	SP_ASSERT(a != NULL);
	a->c = c;
	a->in = in;
	c->state = a;
	c->free_state = apply_free;
	a->changes = json_object_new_array();
	a->errors = json_object_new_array();
	a->secrets = json_object_new_array();
	a->notes = json_object_new_array();
	a->fresh = json_object_new_object();
	a->done = json_object_new_object();
	a->off = json_object_new_object();
	a->person_at = index_of(c->rows[AP_PEOPLE], "name");
	a->target_at = index_of(c->rows[AP_TARGETS], "name");
	a->key_at = index_of(c->rows[AP_KEYS], "blob");
	a->groups_of = many_of(c->rows[AP_MEMBERSHIPS], "person_id");
	a->keys_of = many_of(c->rows[AP_KEYS], "person_id");
	a->account_at = accounts_index(c);
	a->users = part(a, "users");
	a->targets = part(a, "targets");
	a->prune = json_object_object_get_ex(in, "prune", &v) &&
	    json_object_get_boolean(v);
	a->ch = sp_change_new(c->b->store);
	return a;
}

/* ---------------------------------------------------------------------- plan */

static void
digest_of(json_object *changes, size_t from, char t[static 65])
{
	json_object *rest = json_object_new_array();

	for (size_t i = from; i < json_object_array_length(changes); i++)
		json_object_array_add(rest,
		    json_object_get(json_object_array_get_idx(changes, i)));
	sp_sha256_text(t, sp_span_str(json_object_to_json_string_ext(rest,
	    JSON_C_TO_STRING_PLAIN)));
	json_object_put(rest);
}

static struct sp_apply *
make_plan(struct sp_call *c)
{
	json_object *in;
	struct sp_apply *a;

	if (!is_whole(c) || (in = parse(c)) == NULL)
		return NULL;
	a = apply_new(c, in);
	ap_people(a);
	ap_targets(a);
	ap_policy(a);
	return a;
}

static void
print_plan(struct sp_apply *a)
{
	struct sp_call *c = a->c;
	json_object *o = json_object_new_object();
	bool wrong = json_object_array_length(a->errors) > 0;
	char digest[65];

	digest_of(a->changes, 0, digest);
	json_object_object_add(o, "id", sp_json_text(digest));
	json_object_object_add(o, "state", sp_json_text(wrong ? "wrong" : "planned"));
	json_object_object_add(o, "changes", json_object_get(a->changes));
	json_object_object_add(o, "errors", json_object_get(a->errors));
	json_object_object_add(o, "secrets", json_object_get(a->secrets));
	json_object_object_add(o, "notes", json_object_get(a->notes));
	json_object_object_add(o, "ids", json_object_get(a->fresh));
	sp_call_json(c, o);
	sp_call_end(c, wrong ? SP_EXIT_REFUSED : SP_EXIT_OK);
}

static void
plan(struct sp_call *c)
{
	struct sp_apply *a = make_plan(c);

	if (a != NULL)
		print_plan(a);
}

void
sp_verb_inventory_plan(struct sp_call *c)
{
	load(c, plan);
}

/* --------------------------------------------------------------------- apply */

/* The changes of this transaction, in as many events as they need. */
static void
events(struct sp_apply *a)
{
	size_t i = 0;

	while (i < a->n_now) {
		json_object *o = json_object_new_object();
		json_object *l = json_object_new_array();
		size_t bytes = 0;

		while (i < a->n_now && bytes < EVENT_BYTES) {
			json_object *x = json_object_array_get_idx(a->changes, i++);

			bytes += strlen(json_object_to_json_string_ext(x,
			    JSON_C_TO_STRING_PLAIN));
			json_object_array_add(l, json_object_get(x));
		}
		json_object_object_add(o, "changes", l);
		sp_change_audit(a->ch, "inventory_apply", a->c->who.name, NULL,
		    json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
		    JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	}
}

static void
applied(struct sp_call *c)
{
	struct sp_apply *a = c->state;
	json_object *o = json_object_new_object();
	size_t all = json_object_array_length(a->changes);
	char rest[65];

	json_object_object_foreach(a->off, id, unused) {
		uint8_t person[16];

		(void)unused;
		if (sp_uuid_parse(person, sp_span_str(id)) != SP_OK)
			continue;
		(void)sp_session_end_where(c->b, NULL, person, NULL, SP_END_REVOKED,
		    "this person was disabled");
		sp_login_drop_person(c->b, person, "You have been disabled.");
	}
	sp_broker_changed(c->b);
	digest_of(a->changes, a->n_now, rest);
	json_object_object_add(o, "id", sp_json_text(rest));
	json_object_object_add(o, "state", sp_json_text("applied"));
	json_object_object_add(o, "done", json_object_new_int64((int64_t)a->n_now));
	json_object_object_add(o, "left",
	    json_object_new_int64((int64_t)(all - a->n_now)));
	sp_call_json(c, o);
	sp_call_end(c, SP_EXIT_OK);
}

static void
apply(struct sp_call *c)
{
	struct sp_apply *a = make_plan(c);
	struct sp_change *ch;
	char digest[65];

	if (a == NULL)
		return;
	if (json_object_array_length(a->errors) > 0) {
		print_plan(a);
		return;
	}
	digest_of(a->changes, 0, digest);
	if (strcmp(digest, c->pos[0]) != 0) {
		sp_call_fail(c, SP_EXIT_LATER, "what is there has changed since the "
		    "plan was made: nothing was applied now. Look at the plan again");
		return;
	}
	if (a->n_now == 0) {
		applied(c);
		return;
	}
	events(a);
	ch = a->ch;
	a->ch = NULL;
	sp_call_commit(c, ch, "apply", applied);
}

void
sp_verb_inventory_apply(struct sp_call *c)
{
	load(c, apply);
}
