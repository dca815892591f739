/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdlib.h>
#include <string.h>

/*
 * Connections outlive the facts that opened them: after every change, and every
 * 30 s, the people, keys and groups behind all of them are looked up again, in
 * three questions for all. While the database or the vault is away nothing
 * changes.
 */
struct check {
	struct sp_broker *b;
	struct sp_rows *people, *keys, *groups;
	char *person_ids, *key_ids;
};

static bool
row_of(const struct sp_rows *r, const uint8_t id[static 16], size_t *at)
{
	uint8_t u[16];

	for (size_t i = 0; i < sp_rows_n(r); i++)
		if (sp_rows_uuid(r, i, "id", u) && memcmp(u, id, 16) == 0) {
			*at = i;
			return true;
		}
	return false;
}

static void
take_groups(struct sp_actor *a, const struct sp_rows *r)
{
	uint8_t u[16];

	sp_actor_no_groups(a);
	for (size_t i = 0; i < sp_rows_n(r); i++)
		if (!sp_rows_uuid(r, i, "person_id", u))
			a->more_groups = true;
		else if (memcmp(u, a->person, 16) == 0)
			sp_actor_add_group(a,
			    sp_span_str(sp_rows_get(r, i, "group_name")));
}

static const char *
fault_of(const struct check *k, const struct conn *c)
{
	uint8_t owner[16];
	size_t i;

	if (!row_of(k->people, c->who.person, &i) ||
	    !sp_rows_bool(k->people, i, "enabled") ||
	    !sp_span_is(sp_span_str(sp_rows_get(k->people, i, "name")), c->who.name))
		return "Sallyport: your account has been disabled.";
	if (!row_of(k->keys, c->key, &i) || !sp_rows_bool(k->keys, i, "enabled") ||
	    !sp_rows_uuid(k->keys, i, "person_id", owner) ||
	    memcmp(owner, c->who.person, 16) != 0)
		return "Sallyport: the key that you logged in with has been withdrawn.";
	return NULL;
}

static bool
was_asked(const struct check *k, const struct conn *c)
{
	char id[SP_UUID_TEXT], key[SP_UUID_TEXT];

	sp_uuid_text(id, c->who.person);
	sp_uuid_text(key, c->key);
	return strstr(k->person_ids, id) != NULL && strstr(k->key_ids, key) != NULL;
}

static void
apply(struct check *k)
{
	struct conn *next;

	for (struct conn *c = k->b->logins->conns; c != NULL; c = next) {
		const char *why;

		next = c->next;
		/* One that came while we asked is looked at the next time. */
		if ((c->state != CONN_KEYED && c->state != CONN_AUTHED) ||
		    !was_asked(k, c))
			continue;
		why = fault_of(k, c);
		if (why != NULL) {
			struct json_object *d = conn_detail(c);

			sp_detail_str(d, "why", why + strlen("Sallyport: "));
			conn_audit(c, "connection_ended", d);
			sp_session_end_where(k->b, NULL, c->who.person, NULL,
			    SP_END_POLICY, why + strlen("Sallyport: "));
			conn_end_with(c, why);
		} else if (c->state == CONN_AUTHED) {
			take_groups(&c->who, k->groups);
		}
	}
}

static void
check_end(struct check *k)
{
	struct sp_broker *b = k->b;

	if (k->people != NULL)
		sp_rows_free(k->people);
	if (k->keys != NULL)
		sp_rows_free(k->keys);
	if (k->groups != NULL)
		sp_rows_free(k->groups);
	free(k->person_ids);
	free(k->key_ids);
	free(k);
	b->logins->checking = false;
	if (b->logins->check_again)
		sp_logins_check(b);
}

static void
got_groups(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct check *k = arg;

	if (e == SP_OK) {
		k->groups = sp_rows_ref(r);
		apply(k);
	}
	check_end(k);
}

static void
got_keys(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct check *k = arg;
	const char *p[1] = {k->person_ids};

	if (e != SP_OK) {
		check_end(k);
		return;
	}
	k->keys = sp_rows_ref(r);
	sp_store_load(k->b->store, SP_T_MEMBERSHIPS,
	    "WHERE person_id = ANY($1::uuid[]) ORDER BY person_id, group_name", p, 1,
	    got_groups, k);
}

static void
got_people(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct check *k = arg;
	const char *p[1] = {k->key_ids};

	if (e != SP_OK) {
		check_end(k);
		return;
	}
	k->people = sp_rows_ref(r);
	sp_store_load(k->b->store, SP_T_PERSON_KEYS, "WHERE id = ANY($1::uuid[])",
	    p, 1, got_keys, k);
}

static void
add_once(uint8_t (*ids)[16], size_t *n, const uint8_t id[static 16])
{
	for (size_t i = 0; i < *n; i++)
		if (memcmp(ids[i], id, 16) == 0)
			return;
	memcpy(ids[(*n)++], id, 16);
}

static bool
collect(struct check *k)
{
	uint8_t (*people)[16] = calloc(k->b->logins->n + 1, 16);
	uint8_t (*keys)[16] = calloc(k->b->logins->n + 1, 16);
	size_t n = 0, nk = 0;

	for (struct conn *c = k->b->logins->conns; people != NULL && keys != NULL &&
	    c != NULL; c = c->next) {
		if (c->state != CONN_KEYED && c->state != CONN_AUTHED)
			continue;
		add_once(people, &n, c->who.person);
		add_once(keys, &nk, c->key);
	}
	if (n > 0) {
		k->person_ids = sp_uuid_array((const uint8_t (*)[16])people, n);
		k->key_ids = sp_uuid_array((const uint8_t (*)[16])keys, nk);
	}
	free(people);
	free(keys);
	return k->person_ids != NULL && k->key_ids != NULL;
}

void
sp_logins_check(struct sp_broker *b)
{
	struct sp_logins *l = b->logins;
	const char *p[1];
	struct check *k;

	if (l->checking) {
		l->check_again = true;
		return;
	}
	l->check_again = false;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return;
	k->b = b;
	l->checking = true;
	if (!collect(k)) {
		check_end(k);
		return;
	}
	p[0] = k->person_ids;
	sp_store_load(b->store, SP_T_PEOPLE, "WHERE id = ANY($1::uuid[])", p, 1,
	    got_people, k);
}
