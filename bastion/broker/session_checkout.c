/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Leases as rows. Each leg's row is written with the session's and the audit
 * event, in one transaction, before the vault is asked for anything. An
 * exclusive account has one active lease: a unique index of the database says
 * so, whatever this process and its siblings believe. An exclusive lease lives
 * HOLD_US at a time and is renewed by its own session while the database
 * answers; a session that could not renew it ends by itself before anybody else
 * can take it, GRACE_US later by the database's clock.
 */
#define HOLD_US (10LL * 60 * 1000000)
#define GRACE "60000000"
#define RENEW_US (10LL * 1000000)
#define SWEEP_S 10

static bool
is_exclusive(const struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++)
		if (s->legs[i].ask->exclusive)
			return true;
	return false;
}

/* --------------------------------------------------------- who holds it */

struct holder_op {
	struct sp_session *s;
	size_t leg;
	void (*free_to_take)(struct sp_session *s);
};

static void ask_holder(struct sp_session *s, size_t leg,
    void (*free_to_take)(struct sp_session *s));

/* The policy allows this person the account, so that it may be said who is in
 * the way; nobody else gets here. */
static void
say_held(struct sp_session *s, const struct sess_leg *l, struct sp_rows *r)
{
	struct json_object *d = sess_detail(s);
	char text[400], at[SP_LOCAL_TEXT], who[128];
	const char *name = sp_rows_n(r) == 0 ? NULL :
	    sp_rows_get(r, 0, "person_name");

	sp_vis(who, sizeof(who), sp_span_str(name == NULL ? "somebody" : name));
	sp_detail_str(d, "at", l->ask->target_name);
	sp_detail_str(d, "held_by", who);
	s->is_held = true;
	if (name == NULL) {
		snprintf(text, sizeof(text), "%.32s@%.32s is one person's at a time, "
		    "and was taken a moment ago. Try again later.",
		    l->ask->account_name, l->ask->target_name);
	} else {
		sp_local_text(at, sp_rows_i64(r, 0, "until_us"));
		snprintf(text, sizeof(text), "%.32s@%.32s is one person's at a time: "
		    "%s holds it, until %s at the latest (session %.8s). Try again "
		    "then, or ask for it to be given back.", l->ask->account_name,
		    l->ask->target_name, who, at, sp_rows_get(r, 0, "session_id"));
	}
	sp_flow_audit(s->b, "lease_held", s->who.name, s->id, d);
	sp_session_end(s, SP_END_POLICY, text);
}

static void
got_holder(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct holder_op *o = arg;
	struct sp_session *s = o->s;

	if (s->state != SESS_SERIAL && s->state != SESS_WRITE) {
		;
	} else if (e != SP_OK) {
		sp_session_end(s, SP_END_BROKER, "It could not be seen whether the "
		    "account is free; try again in a moment.");
	} else if (sp_rows_n(r) > 0 || o->free_to_take == NULL) {
		say_held(s, &s->legs[o->leg], r);
	} else {
		ask_holder(s, o->leg + 1, o->free_to_take);
	}
	free(o);
	sess_release(s);
}

static void
ask_holder(struct sp_session *s, size_t leg,
    void (*free_to_take)(struct sp_session *s))
{
	char account[SP_UUID_TEXT];
	const char *p[1] = {account};
	struct holder_op *o;

	while (leg < s->n_legs && !s->legs[leg].ask->exclusive)
		leg++;
	if (leg == s->n_legs) {
		if (free_to_take != NULL)
			free_to_take(s);
		return;
	}
	if ((o = malloc(sizeof(*o))) == NULL) {
		sp_session_end(s, SP_END_BROKER, "Out of memory.");
		return;
	}
	*o = (struct holder_op){.s = s, .leg = leg, .free_to_take = free_to_take};
	sp_uuid_text(account, s->legs[leg].ask->account);
	sess_hold(s);
	sp_store_query(s->b->store, "SELECT person_name, until_us, session_id "
	    "FROM leases WHERE account_id = $1::uuid AND state = 'active' AND "
	    "expires_us + " GRACE " >= now_us() ORDER BY exclusive DESC LIMIT 1",
	    p, 1,
	    got_holder, o);
}

void
sess_need_free(struct sp_session *s, void (*next)(struct sp_session *s))
{
	ask_holder(s, 0, next);
}

void
sess_not_free(struct sp_session *s)
{
	if (is_exclusive(s))
		ask_holder(s, 0, NULL);
	else
		sp_session_end(s, SP_END_BROKER,
		    "The session could not be written down.");
}

/* ---------------------------------------------------------------- the rows */

static void
insert_lease(struct sp_session *s, struct sess_leg *l, struct sp_change *c)
{
	char id[SP_UUID_TEXT], session[SP_UUID_TEXT], account[SP_UUID_TEXT];
	char person[SP_UUID_TEXT], key[SP_UUID_TEXT], kind[SP_NUM_TEXT];
	char serial[SP_NUM_TEXT], now[SP_NUM_TEXT], ver[SP_NUM_TEXT];
	char hold[SP_NUM_TEXT], until[SP_NUM_TEXT];
	const char *p[] = {id, session, sp_i64_text(kind, l->ask->cred_kind),
	    l->ask->account_name, l->ask->target_name,
	    sp_i64_text(serial, (int64_t)l->serial),
	    sp_i64_text(now, s->started_us), account,
	    l->secret_ver == 0 ? NULL : sp_i64_text(ver, (int64_t)l->secret_ver),
	    person, s->who.name, sp_uuid_is_nil(s->who.key) ? NULL : key,
	    s->b->node, l->ask->exclusive ? "t" : "f", sp_i64_text(hold, HOLD_US),
	    sp_i64_text(until, s->ends_us)};

	sp_uuid_text(id, l->row);
	sp_uuid_text(session, s->id);
	sp_uuid_text(account, l->ask->account);
	sp_uuid_text(person, s->who.person);
	sp_uuid_text(key, s->who.key);
	if (l->ask->exclusive)
		sp_change_sql(c, "UPDATE leases SET state = 'expired', ended_us = "
		    "now_us() WHERE account_id = $1::uuid AND exclusive AND "
		    "state = 'active' AND expires_us + " GRACE " < now_us()",
		    (const char *[]){account}, 1, 0);
	/* What is not exclusive is due when the session is. */
	sp_change_sql(c, "INSERT INTO leases (id, session_id, kind, account, "
	    "target, serial, granted_us, account_id, secret_ver, person_id, "
	    "person_name, key_id, node, exclusive, expires_us, until_us) VALUES "
	    "($1::uuid, $2::uuid, $3::int, $4, $5, $6::bigint, $7::bigint, "
	    "$8::uuid, $9::bigint, $10::uuid, $11, $12::uuid, $13, $14::boolean, "
	    "CASE WHEN $14::boolean THEN least(now_us() + $15::bigint, "
	    "$16::bigint) ELSE $16::bigint END, $16::bigint) "
	    "ON CONFLICT (id) DO NOTHING", p, 16, 0);
}

void
sess_insert_leases(struct sp_session *s, struct sp_change *c)
{
	for (size_t i = 0; i < s->n_legs; i++)
		insert_lease(s, &s->legs[i], c);
	if (is_exclusive(s)) {
		/* Counted from before it is sent: never longer than the row. */
		s->hold_boot_us = sp_boot_us() + HOLD_US;
		s->renew_boot_us = sp_boot_us() + RENEW_US;
	}
}

void
sess_end_lease_rows(struct sp_change *c, const char *session, const char *at,
    const char *used, uint8_t end_code)
{
	const char *p[] = {session, at, used, end_code == SP_END_EXPIRED ?
	    "expired" : end_code == SP_END_REVOKED ? "revoked" : "ended"};

	sp_change_sql(c, "UPDATE leases SET ended_us = $2::bigint, used_us = "
	    "coalesce($3::bigint, used_us), state = $4 WHERE session_id = "
	    "$1::uuid AND state = 'active'", p, 4, 0);
}

/* ----------------------------------------------------------------- renewing */

struct renewal {
	struct sp_session *s;
	int64_t until_boot_us;
};

static void
lose(struct sp_session *s, const char *why)
{
	char text[300];

	snprintf(text, sizeof(text), "%.32s@%.32s is one person's at a time, and "
	    "%s.", s->ask.account_name, s->ask.target_name, why);
	sp_session_end(s, SP_END_EXPIRED, text);
}

static void
renewed(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct renewal *w = arg;
	struct sp_session *s = w->s;
	size_t n = 0;

	for (size_t i = 0; i < s->n_legs; i++)
		n += s->legs[i].ask->exclusive;
	if (s->state > SESS_LIVE)
		;
	else if (e == SP_OK && sp_rows_affected(r) != n)
		lose(s, "this lease is not valid any more");
	else if (e == SP_OK)
		s->hold_boot_us = w->until_boot_us;
	free(w);
	sess_release(s);
}

/* Only this session, with the person and the key that took it. */
static void
renew(struct sp_session *s)
{
	char session[SP_UUID_TEXT], person[SP_UUID_TEXT], key[SP_UUID_TEXT];
	char hold[SP_NUM_TEXT];
	const char *p[] = {session, person, key, sp_i64_text(hold, HOLD_US),
	    s->b->node};
	struct renewal *w = malloc(sizeof(*w));

	if (w == NULL)
		return;
	*w = (struct renewal){.s = s, .until_boot_us = sp_boot_us() + HOLD_US};
	s->renew_boot_us = sp_boot_us() + RENEW_US;
	sp_uuid_text(session, s->id);
	sp_uuid_text(person, s->who.person);
	sp_uuid_text(key, s->who.key);
	sess_hold(s);
	sp_store_query(s->b->store, "UPDATE leases SET expires_us = "
	    "least(now_us() + $4::bigint, until_us) WHERE session_id = $1::uuid "
	    "AND person_id = $2::uuid AND coalesce(key_id, "
	    "'00000000-0000-0000-0000-000000000000') = $3::uuid AND node = $5 AND "
	    "exclusive AND state = 'active'", p, 5, renewed, w);
}

void
sess_look_at_hold(struct sp_session *s)
{
	int64_t now = sp_boot_us();

	if (s->hold_boot_us == 0 || s->state <= SESS_WRITE || s->state > SESS_LIVE)
		return;
	if (now >= s->hold_boot_us)
		lose(s, "its lease could not be renewed in time");
	else if (now >= s->renew_boot_us)
		renew(s);
}

/* ------------------------------------------------------------- what is due */

struct due {
	struct sp_broker *b;
	bool is_asking;
	struct event *timer;
};

static void
due_ended(void *arg, enum sp_err e)
{
	(void)arg;
	if (e != SP_OK && e != SP_ERR_STATE)
		sp_log(SP_WARN, "lease_not_ended", NULL, "why=\"%s\"",
		    sp_err_text(e));
}

/* Its session's bastion did not end it: it is dead, or was cut off. */
static void
end_due(struct sp_broker *b, const struct sp_rows *r, size_t i)
{
	const char *id = sp_rows_get(r, i, "id");
	struct sp_change *c = sp_change_new(b->store);
	struct json_object *d = sp_detail();
	uint8_t session[16];

	sp_change_sql(c, "UPDATE leases SET state = 'expired', ended_us = now_us() "
	    "WHERE id = $1::uuid AND state = 'active' AND expires_us + " GRACE
	    " < now_us()", &id, 1, 1);
	sp_detail_str(d, "lease", id);
	sp_detail_str(d, "person", sp_rows_get(r, i, "person_name"));
	sp_detail_str(d, "account", sp_rows_get(r, i, "account"));
	sp_detail_str(d, "target", sp_rows_get(r, i, "target"));
	sp_detail_str(d, "node", sp_rows_get(r, i, "node"));
	sp_flow_change_audit(c, "lease_expired", b->node,
	    sp_rows_uuid(r, i, "session_id", session) ? session : NULL, d);
	sp_change_commit(c, due_ended, NULL);
}

static void
got_due(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct due *q = arg;

	q->is_asking = false;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++) {
		uint8_t id[16];

		/* A session of ours sees to its own. */
		if (sp_rows_uuid(r, i, "session_id", id) &&
		    sp_session_find(q->b, id) != NULL)
			continue;
		end_due(q->b, r, i);
	}
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct due *q = arg;

	(void)fd;
	(void)what;
	if (q->is_asking || q->b->stopping || !sp_store_is_up(q->b->store))
		return;
	q->is_asking = true;
	sp_store_query(q->b->store, "SELECT id, session_id, person_name, account, "
	    "target, node FROM leases WHERE state = 'active' AND expires_us < "
	    "(SELECT now_us()) - " GRACE " ORDER BY expires_us LIMIT 200", NULL, 0,
	    got_due, q);
}

void
sess_due_begin(struct sp_broker *b)
{
	static struct due due;
	struct timeval tv = {.tv_sec = SWEEP_S};

	due = (struct due){.b = b};
	due.timer = event_new(b->ev, -1, EV_PERSIST, on_due, &due);
	SP_ASSERT(due.timer != NULL);
	event_add(due.timer, &tv);
}
