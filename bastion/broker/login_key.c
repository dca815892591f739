/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/vault.h"

/* ------------------------------------------------------------- the lookup */

struct key_op {
	char *blob;		/* as a bytea parameter */
	unsigned n_open;	/* questions */
	enum sp_err e;
	bool is_person, is_key;
	uint8_t person[16], owner[16], key[16];
	login_key_cb cb;
	void *arg;
};

static void
answered(struct key_op *o, enum sp_err e)
{
	static const uint8_t nil[16];

	if (o->e == SP_OK)
		o->e = e;
	if (--o->n_open > 0)
		return;
	e = o->e;
	if (e == SP_OK && (!o->is_person || !o->is_key ||
	    memcmp(o->owner, o->person, 16) != 0))
		e = SP_ERR_NOTFOUND;
	o->cb(o->arg, e, o->person, e == SP_OK ? o->key : nil);
	free(o->blob);
	free(o);
}

static void
got_key(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct key_op *o = arg;

	o->is_key = e == SP_OK && sp_rows_n(r) == 1 &&
	    sp_rows_bool(r, 0, "enabled") && sp_rows_uuid(r, 0, "id", o->key) &&
	    sp_rows_uuid(r, 0, "person_id", o->owner);
	answered(o, e);
}

static void
got_user(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct key_op *o = arg;

	o->is_person = e == SP_OK && sp_rows_n(r) == 1 &&
	    sp_rows_bool(r, 0, "enabled") && sp_rows_uuid(r, 0, "id", o->person);
	answered(o, e);
}

/* An unknown person costs the same two questions. */
void
login_find_key(struct sp_broker *b, const char *user, struct sp_span blob,
    login_key_cb cb, void *arg)
{
	static const char keys[] = "WHERE blob = $1::bytea AND enabled "
	    "AND person_id = (SELECT id FROM people WHERE name = $2)";
	static const uint8_t nil[16];
	struct key_op *o = calloc(1, sizeof(*o));
	const char *p[2] = {user, NULL}, *k[2] = {NULL, user};
	struct sp_ahead *h;

	if (o == NULL || (o->blob = sp_bytea_param(blob)) == NULL) {
		free(o);
		cb(arg, SP_ERR_NOMEM, nil, nil);
		return;
	}
	k[0] = o->blob;
	o->n_open = 2;
	o->cb = cb;
	o->arg = arg;
	h = sp_ahead_new(b->store);
	sp_ahead_add(h, SP_T_PEOPLE, "WHERE name = $1", p, 1);
	sp_ahead_add(h, SP_T_PERSON_KEYS, keys, k, 2);
	sp_ahead_go(h);
	sp_store_load(b->store, SP_T_PEOPLE, "WHERE name = $1", p, 1, got_user, o);
	sp_store_load(b->store, SP_T_PERSON_KEYS, keys, k, 2, got_key, o);
}

/* ---------------------------------------------------------- the first factor */

struct offer {
	struct conn *c;
	uint64_t corr;
	bool is_signed;
	int64_t began_us;
	char login[256];
	struct sp_login_name name;
};

static void
accept_key(struct conn *c, uint64_t corr)
{
	struct sp_msg_auth_key_result m = {.ok = 1};

	if (c->state != CONN_ENDED)
		sp_peer_sent(c->peer,
		    sp_send_auth_key_result(&c->peer->link, corr, &m, NULL));
}

static void
key_given(struct conn *c, const struct offer *o,
    const uint8_t person[static 16], const uint8_t key[static 16])
{
	struct json_object *d;

	memcpy(c->who.person, person, 16);
	memcpy(c->key, key, 16);
	memcpy(c->who.key, key, 16);
	snprintf(c->who.name, sizeof(c->who.name), "%s", o->name.user);
	snprintf(c->who.addr, sizeof(c->who.addr), "%s", c->addr);
	snprintf(c->login, sizeof(c->login), "%s", o->login);
	c->name = o->name;
	c->why[0] = '\0';
	conn_set_state(c, CONN_KEYED);
	d = conn_detail(c);
	sp_detail_uuid(d, "key", key);
	conn_audit(c, "login_key", d);
}

/* Only the rows of who is known are shown to the vault: a name that is not
 * known must not be told apart by a vault that cannot answer. */
static enum sp_err
for_everybody(const struct sp_broker *b, enum sp_err e)
{
	const struct sp_msg_v_status_r *v = sp_vault_status(b->vault);

	if (e == SP_OK)
		return e;
	if (!sp_vault_is_open(b->vault))
		return v != NULL && v->sealed ? SP_ERR_SEALED : SP_ERR_EOF;
	return sp_store_is_up(b->store) ? e : SP_ERR_DB;
}

/* Nobody was judged: whoever waits at the door should hear that trying again
 * may help. It says nothing about who is known. */
static bool
is_away(enum sp_err e)
{
	return e == SP_ERR_DB || e == SP_ERR_TIMEOUT || e == SP_ERR_SEALED ||
	    e == SP_ERR_EOF;
}

static void
turn_away(struct conn *c, enum sp_err e)
{
	char say[300];

	snprintf(say, sizeof(say), "Nobody can log in now: %s. Try again in a "
	    "moment; if it stays, tell an administrator.", sp_flow_why(e));
	conn_end_with(c, say);
}

static void
looked_up(void *arg, enum sp_err e, const uint8_t person[static 16],
    const uint8_t key[static 16])
{
	struct offer *o = arg;
	struct conn *c = o->c;
	bool ok = e == SP_OK;

	if (c->state == CONN_ENDED) {
		conn_idle(c);
		free(o);
		return;
	}
	e = for_everybody(c->b, e);
	if (ok && c->state == CONN_KEYED && strcmp(o->login, c->login) != 0) {
		ok = false;
		conn_broke(c, "a second login name after a key was accepted");
	} else if (ok && o->is_signed && c->state == CONN_READY) {
		key_given(c, o, person, key);
	} else if (!ok) {
		snprintf(c->why, sizeof(c->why), "%s", e == SP_ERR_NOTFOUND ?
		    "no such person or key" : sp_flow_why(e));
		if (c->state == CONN_READY)
			snprintf(c->login, sizeof(c->login), "%s", o->login);
	}
	if (is_away(e) && c->state == CONN_READY)
		turn_away(c, e);
	else if (ok)
		accept_key(c, o->corr);
	else
		login_slow_refuse(c, o->corr, o->login, o->began_us);
	conn_idle(c);
	free(o);
}

void
login_on_auth_key(struct conn *c, const struct sp_msg_auth_key *m, uint64_t corr)
{
	int64_t now = sp_boot_us();
	char login[256];
	struct offer *o;

	sp_vis(login, sizeof(login), m->login);
	if (c->is_proxied && c->via[0] == '\0') {
		conn_broke(c, "a key before the address of its client");
		return;
	}
	if (++c->n_keys > CONN_ASKED_MAX) {
		login_slow_refuse(c, corr, login, now);
		return;
	}
	if (c->state == CONN_KEYED && !sp_span_is(m->login, c->login)) {
		conn_broke(c, "a second login name after a key was accepted");
		return;
	}
	o = calloc(1, sizeof(*o));
	if (o == NULL || sp_login_name_parse(m->login, &o->name) != SP_OK) {
		free(o);
		if (c->state == CONN_READY)
			memcpy(c->login, login, sizeof(c->login));
		snprintf(c->why, sizeof(c->why), "not a login name");
		login_slow_refuse(c, corr, login, now);
		return;
	}
	if (!conn_busy(c)) {
		free(o);
		return;
	}
	o->c = c;
	o->corr = corr;
	o->is_signed = m->is_signed != 0;
	o->began_us = now;
	memcpy(o->login, login, sizeof(o->login));
	login_find_key(c->b, o->name.user, m->blob, looked_up, o);
}
