/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/vault.h"

/* Ten wrong codes lock for five minutes, each further one for twice as long,
 * up to some five hours. A code used twice opens nothing, and does not count:
 * else a burst of logins with one good code would lock its owner out. */
#define FAILS_MAX 10
#define DEADLINE_MS 1800

enum totp_state { TOTP_QUEUED, TOTP_RUNNING, TOTP_DONE };

struct totp_op {
	struct totp_op *next;
	struct sp_broker *b;
	enum totp_state state;
	bool answered;
	uint8_t person[16];
	char code[65];
	uint64_t step, version;
	struct event *deadline;
	login_totp_cb cb;
	void *arg;
};

static void run(struct totp_op *o);

static void
totp_answer(struct totp_op *o, uint8_t verdict, const char *why)
{
	if (o->answered)
		return;
	o->answered = true;
	explicit_bzero(o->code, sizeof(o->code));
	event_del(o->deadline);
	if (o->cb != NULL)
		o->cb(o->arg, verdict, why);
}

static struct totp_op *
next_queued(struct sp_logins *l, const uint8_t person[static 16])
{
	struct totp_op *last = NULL;

	/* The list is newest first: the oldest is at its end. */
	for (struct totp_op *o = l->totp; o != NULL; o = o->next)
		if (o->state == TOTP_QUEUED && memcmp(o->person, person, 16) == 0)
			last = o;
	return last;
}

static void
totp_end(struct totp_op *o, uint8_t verdict, const char *why)
{
	struct sp_logins *l = o->b->logins;
	struct totp_op **at = &l->totp, *next;

	totp_answer(o, verdict, why);
	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	next = o->state == TOTP_RUNNING ? next_queued(l, o->person) : NULL;
	event_free(o->deadline);
	free(o);
	if (next != NULL)
		run(next);
}

static void
unavailable(struct totp_op *o, enum sp_err e)
{
	totp_end(o, SP_PAM_UNAVAILABLE, sp_flow_why(e));
}

static void
spent(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct totp_op *o = arg;

	if (e != SP_OK)
		unavailable(o, e);
	else if (sp_rows_affected(r) != 1)
		totp_end(o, SP_PAM_DENY, "a code that was used before");
	else if (o->answered)
		totp_end(o, SP_PAM_DENY, "");	/* too late: the step is gone */
	else
		totp_end(o, SP_PAM_OK, "");
}

static void
counted(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct totp_op *o = arg;

	if (e != SP_OK)
		unavailable(o, e);
	else if (sp_rows_n(r) == 1 && sp_rows_i64(r, 0, "fails") >= FAILS_MAX)
		totp_end(o, SP_PAM_DENY, "a wrong code, and locked now");
	else
		totp_end(o, SP_PAM_DENY, "a wrong code");
}

static void
spend(struct totp_op *o)
{
	char person[SP_UUID_TEXT], step[SP_NUM_TEXT], now[SP_NUM_TEXT];
	char version[SP_NUM_TEXT];
	const char *p[4] = {person, sp_i64_text(step, (int64_t)o->step),
	    sp_i64_text(now, sp_now_us()),
	    sp_i64_text(version, (int64_t)o->version)};

	sp_uuid_text(person, o->person);
	sp_store_query(o->b->store,
	    "INSERT INTO totp_spent AS t (person_id, version, last_step, fails, "
	    "locked_until_us) VALUES ($1::uuid, $4::bigint, $2::bigint, 0, 0) "
	    "ON CONFLICT (person_id) DO UPDATE SET version = excluded.version, "
	    "last_step = excluded.last_step, fails = 0, locked_until_us = 0 "
	    "WHERE (t.version, t.last_step) < (excluded.version, excluded.last_step) "
	    "AND t.locked_until_us <= $3::bigint", p, 4, spent, o);
}

static void
count_fail(struct totp_op *o)
{
	char person[SP_UUID_TEXT], now[SP_NUM_TEXT];
	const char *p[2] = {person, sp_i64_text(now, sp_now_us())};

	sp_uuid_text(person, o->person);
	sp_store_query(o->b->store,
	    "INSERT INTO totp_spent AS t (person_id, last_step, fails, locked_until_us) "
	    "VALUES ($1::uuid, 0, 1, 0) ON CONFLICT (person_id) DO UPDATE "
	    "SET fails = t.fails + 1, locked_until_us = CASE WHEN t.fails + 1 >= 10 "
	    "THEN $2::bigint + 300000000::bigint * (1 << LEAST(t.fails - 9, 6)::int) "
	    "ELSE t.locked_until_us END RETURNING fails", p, 2, counted, o);
}

static void
checked(void *arg, enum sp_err e, struct sp_packet *k)
{
	struct totp_op *o = arg;
	struct sp_msg_v_totp_check_r m;

	if (e == SP_OK)
		e = sp_dec_v_totp_check_r(k->body, &m);
	if (e != SP_OK) {
		unavailable(o, e);
	} else if (m.ok == 2) {
		totp_end(o, SP_PAM_DENY, "a code that was used before");
	} else if (m.ok != 1) {
		count_fail(o);
	} else if (o->answered) {
		totp_end(o, SP_PAM_DENY, "");
	} else {
		o->step = m.step;
		spend(o);
	}
}

static void
ask_vault(struct totp_op *o, const struct sp_rows *r)
{
	SP_BUF_AUTO sealed = {.max = 1024};
	SP_BUF_AUTO body = {.max = 4096};
	struct sp_msg_v_totp_check m = {.version = sp_rows_ver(r, 0),
	    .code = sp_span_str(o->code)};
	enum sp_err e;

	memcpy(m.owner, o->person, 16);
	o->version = m.version;
	if (!sp_rows_uuid(r, 0, "id", m.id) ||
	    sp_rows_bytes(r, 0, "sealed", &sealed) != SP_OK) {
		totp_end(o, SP_PAM_DENY, "its second factor cannot be read");
		return;
	}
	m.sealed = sp_buf_span(&sealed);
	e = sp_enc_v_totp_check(&body, &m);
	if (e != SP_OK) {
		unavailable(o, e);
		return;
	}
	sp_vault_call(o->b->vault, SP_MSG_v_totp_check, sp_buf_span(&body),
	    SP_MSG_v_totp_check_r, checked, o);
}

static void
got_totp(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct totp_op *o = arg;

	if (e != SP_OK)
		unavailable(o, e);
	else if (sp_rows_n(r) != 1)
		totp_end(o, SP_PAM_DENY, "no second factor is enrolled");
	else if (o->answered)
		totp_end(o, SP_PAM_DENY, "");
	else
		ask_vault(o, r);
}

static void
got_lock(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct totp_op *o = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (e != SP_OK) {
		unavailable(o, e);
		return;
	}
	if (sp_rows_n(r) > 0 && sp_rows_i64(r, 0, "locked_until_us") > sp_now_us()) {
		totp_end(o, SP_PAM_DENY, "locked after too many wrong codes");
		return;
	}
	sp_uuid_text(id, o->person);
	sp_store_load(o->b->store, SP_T_TOTP, "WHERE person_id = $1", p, 1,
	    got_totp, o);
}

static void
run(struct totp_op *o)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	o->state = TOTP_RUNNING;
	sp_uuid_text(id, o->person);
	sp_store_query(o->b->store, "SELECT locked_until_us FROM totp_spent "
	    "WHERE person_id = $1::uuid", p, 1, got_lock, o);
}

/* A dead database or vault denies within two seconds. What is under way ends
 * by its own deadline and finds that nobody waits for it. */
static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct totp_op *o = arg;

	(void)fd;
	(void)what;
	if (o->state == TOTP_QUEUED)
		totp_end(o, SP_PAM_UNAVAILABLE, "it took too long");
	else
		totp_answer(o, SP_PAM_UNAVAILABLE, "it took too long");
}

struct totp_op *
login_totp(struct sp_broker *b, const uint8_t person[static 16],
    struct sp_span code, login_totp_cb cb, void *arg)
{
	struct totp_op *o = calloc(1, sizeof(*o));
	struct timeval tv = {.tv_usec = 0};
	bool is_running = false;

	tv.tv_sec = DEADLINE_MS / 1000;
	tv.tv_usec = DEADLINE_MS % 1000 * 1000;
	if (o == NULL || sp_span_cstr(code, o->code, sizeof(o->code)) != SP_OK ||
	    (o->deadline = event_new(b->ev, -1, 0, on_deadline, o)) == NULL ||
	    event_add(o->deadline, &tv) != 0) {
		if (o != NULL && o->deadline != NULL)
			event_free(o->deadline);
		free(o);
		return NULL;
	}
	o->b = b;
	o->cb = cb;
	o->arg = arg;
	memcpy(o->person, person, 16);
	/* One at a time for a person, so that guesses in parallel meet the lock. */
	for (struct totp_op *x = b->logins->totp; x != NULL; x = x->next)
		is_running = is_running || (x->state == TOTP_RUNNING &&
		    memcmp(x->person, person, 16) == 0);
	o->state = TOTP_QUEUED;
	o->next = b->logins->totp;
	b->logins->totp = o;
	if (!is_running)
		run(o);
	return o;
}

void
login_totp_forget(struct totp_op *o)
{
	if (o != NULL)
		o->cb = NULL;
}
