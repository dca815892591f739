/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"
#include "policy/rules.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_US (60LL * 1000000)
#define REST_TICKS (10 * 1000 / SESS_TICK_MS)

/* --------------------------------------------------------------- judged again */

/* Errors that say nothing about the facts (database or vault away) let a
 * session be: it neither ends nor extends. */
bool
sess_holds(struct sp_session *s, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j, uint8_t *code, char *text, size_t cap)
{
	*code = SP_END_POLICY;
	if (e == SP_ERR_DENIED || e == SP_ERR_NOTFOUND) {
		snprintf(text, cap, "The policy does not allow %s@%s any more: %.300s",
		    s->ask.account_name, s->ask.target_name, j->reasons);
		return false;
	}
	if (e != SP_OK)
		return true;
	if (!j->verdict.allow || (j->verdict.approvals > 0 && !j->has_grant)) {
		*code = SP_END_REVOKED;
		snprintf(text, cap, "Your grant for %s@%s is not valid any more.",
		    s->ask.account_name, s->ask.target_name);
		return false;
	}
	if (memcmp(ask->target, s->ask.target, 16) != 0 ||
	    memcmp(ask->account, s->ask.account, 16) != 0 ||
	    strcmp(ask->host_keys, s->ask.host_keys) != 0 ||
	    strcmp(ask->addr, s->ask.addr) != 0 || ask->port != s->ask.port ||
	    strcmp(ask->more_addrs, s->ask.more_addrs) != 0 ||
	    memcmp(ask->via, s->ask.via, 16) != 0 ||
	    memcmp(ask->way, s->ask.way, 32) != 0 || ask->legacy != s->ask.legacy ||
	    ask->protocol != s->ask.protocol ||
	    strcmp(ask->sql, s->ask.sql) != 0 ||
	    strcmp(ask->role, s->ask.role) != 0 ||
	    ask->cred_kind != s->ask.cred_kind ||
	    memcmp(ask->secret, s->ask.secret, 16) != 0) {
		snprintf(text, cap, "The target %s has been changed (address, way, host "
		    "key or account): connect again.", s->ask.target_name);
		return false;
	}
	if (!sp_rules_is_within(sp_span_of(s->j.verdict.rules,
	    s->j.verdict.n_rules), sp_blob_span(&j->permits))) {
		snprintf(text, cap, "The policy has changed what you may do on "
		    "%s@%s: connect again.", s->ask.account_name, s->ask.target_name);
		return false;
	}
	/* A window can become shorter, never longer. */
	if (j->has_grant && s->j.has_grant &&
	    memcmp(j->grant, s->j.grant, 16) == 0 && j->grant_ends_us < s->ends_us &&
	    s->ends_us > 0) {
		s->ends_boot_us -= s->ends_us - j->grant_ends_us;
		s->ends_us = j->grant_ends_us;
	}
	return true;
}

/* The grant that the session began under, where the judgement found another
 * that is longer. */
static void
got_own_grant(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_session *s = arg;
	char text[200];
	const char *state;
	uint8_t id[16];

	s->is_judging = false;
	if (e == SP_OK && s->state >= SESS_LEASE && s->state <= SESS_LIVE) {
		state = sp_rows_n(r) == 1 ? sp_rows_get(r, 0, "state") : NULL;
		if (state == NULL || strcmp(state, "active") != 0 ||
		    !sp_rows_uuid(r, 0, "id", id) || memcmp(id, s->j.grant, 16) != 0) {
			snprintf(text, sizeof(text), "Your grant for %s@%s was revoked.",
			    s->ask.account_name, s->ask.target_name);
			sp_session_end(s, SP_END_REVOKED, text);
		}
	}
	sess_release(s);
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_session *s = arg;
	uint8_t code;
	char text[512], id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (s->state >= SESS_LEASE && s->state <= SESS_LIVE) {
		if (!sess_holds(s, e, ask, j, &code, text, sizeof(text))) {
			sp_session_end(s, code, text);
		} else if (e == SP_OK && s->j.has_grant &&
		    (!j->has_grant || memcmp(j->grant, s->j.grant, 16) != 0)) {
			sp_uuid_text(id, s->j.grant);
			sp_store_load(s->b->store, SP_T_GRANTS, "WHERE id = $1", p, 1,
			    got_own_grant, s);
			return;
		}
	}
	s->is_judging = false;
	sess_release(s);
}

static void
judge_one(struct sp_session *s)
{
	if (s->state < SESS_LEASE || s->state > SESS_LIVE ||
	    s->rotation != NULL || s->is_own)
		return;
	s->judge_again = s->is_judging;
	if (s->is_judging)
		return;
	s->is_judging = true;
	sess_hold(s);
	sp_judge(s->b, &s->who, s->ask.account_name, s->ask.target_name, judged, s);
}

void
sp_session_judge_all(struct sp_broker *b)
{
	struct sp_session *next;

	for (struct sp_session *s = b->sessions->list; s != NULL; s = next) {
		sess_hold(s);
		judge_one(s);
		next = s->next;
		sess_release(s);
	}
}

/* ------------------------------------------------------------------- the clock */

static void
warn(struct sp_session *s, int minutes)
{
	char text[400], at[SP_LOCAL_TEXT];
	struct sp_msg_rec_note m = {.show = 1};

	sp_local_text(at, s->ends_us);
	snprintf(text, sizeof(text), "Sallyport: %d minute%s left for %s@%s: the "
	    "session ends at %s.", minutes, minutes == 1 ? "" : "s",
	    s->ask.account_name, s->ask.target_name, at);
	m.text = sp_span_str(text);
	if (s->rec != NULL)
		sp_peer_sent(s->rec, sp_send_rec_note(&s->rec->link, 0, &m, NULL));
}

static void
look_at_clock(struct sp_session *s)
{
	int64_t left = s->ends_boot_us - sp_boot_us();
	char text[400], at[SP_LOCAL_TEXT];

	if (left <= 0) {
		sp_local_text(at, s->ends_us);
		snprintf(text, sizeof(text), "Your time for %s@%s is over (it ended at "
		    "%s). Ask again with: ssh bastion request %s@%s",
		    s->ask.account_name, s->ask.target_name, at,
		    s->ask.account_name, s->ask.target_name);
		sp_session_end(s, SP_END_EXPIRED, text);
	} else if (s->state != SESS_LIVE) {
		return;
	} else if (left <= MINUTE_US && !s->warned_1) {
		s->warned_1 = s->warned_5 = true;
		warn(s, 1);
	} else if (left <= 5 * MINUTE_US && !s->warned_5) {
		s->warned_5 = true;
		if (left > 2 * MINUTE_US)
			warn(s, (int)((left + MINUTE_US - 1) / MINUTE_US));
	}
}

/* A login needs much that a session does not: idle ones should cost little. */
static void
rest(struct sp_broker *b)
{
	struct sp_sessions *a = b->sessions;

	if (++a->ticks < REST_TICKS || a->packets == b->packets)
		return;
	a->ticks = 0;
	a->packets = b->packets;
	malloc_trim(0);
}

/* One clock for all: timers of the event loop stand still while the machine
 * sleeps, the boot clock does not. */
static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_broker *b = arg;
	struct sp_session *next;

	(void)fd;
	(void)what;
	sess_roles_tick(b);
	rest(b);
	for (struct sp_session *s = b->sessions->list; s != NULL; s = next) {
		sess_hold(s);
		if (s->state >= SESS_DIAL && s->state <= SESS_LIVE)
			look_at_clock(s);
		sess_pulse(s);
		sess_look_at_hold(s);
		if (s->judge_again)
			judge_one(s);
		next = s->next;
		sess_release(s);
	}
}

struct sp_sessions *
sp_sessions_new(struct sp_broker *b)
{
	struct sp_sessions *a = calloc(1, sizeof(*a));
	struct timeval tv = {.tv_usec = SESS_TICK_MS * 1000};

	if (a == NULL)
		return NULL;
	a->tick = event_new(b->ev, -1, EV_PERSIST, on_tick, b);
	if (a->tick == NULL || event_add(a->tick, &tv) != 0) {
		free(a);
		return NULL;
	}
	sess_due_begin(b);
	return a;
}
