/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_S 30
#define CHANGE_MS 20		/* notifications of one change come together */
#define ALARM_US 60000000
#define SIGN_S_DEFAULT 60

struct later {
	sp_done_cb cb;
	void *arg;
	enum sp_err e;
};

static void
on_later(evutil_socket_t fd, short what, void *arg)
{
	struct later *l = arg;

	(void)fd;
	(void)what;
	l->cb(l->arg, l->e);
	free(l);
}

void
sp_later(struct sp_store *s, sp_done_cb cb, void *arg, enum sp_err e)
{
	struct later *l = malloc(sizeof(*l));

	SP_ASSERT(l != NULL);
	*l = (struct later){.cb = cb, .arg = arg, .e = e};
	SP_ASSERT(event_base_once(s->b->ev, -1, EV_TIMEOUT, on_later, l,
	    &(struct timeval){0}) == 0);
}

/* --------------------------------------------------------------- the alarm */

/* True once a minute for the same row in the same condition: what is done to
 * it next is told as well. */
static bool
is_due(struct sp_store *s, enum sp_table t, const char *id,
    enum sp_head_verdict v)
{
	int64_t now = sp_boot_us();
	struct sp_alarm *a;

	for (size_t i = 0; i < SP_ALARMS; i++) {
		a = &s->alarms[i];
		if (a->t != t || a->verdict != v || strcmp(a->id, id) != 0)
			continue;
		if (now - a->at_us < ALARM_US)
			return false;
		a->at_us = now;
		return true;
	}
	a = &s->alarms[s->next_alarm++ % SP_ALARMS];
	*a = (struct sp_alarm){.t = t, .verdict = v, .at_us = now};
	snprintf(a->id, sizeof(a->id), "%s", id);
	return true;
}

void
sp_row_alarm(struct sp_store *s, enum sp_table t, const char *id, const char *ver,
    enum sp_head_verdict v)
{
	const char *event = v == SP_HEAD_GOOD ? "row_seal_broken" :
	    v == SP_HEAD_MISSING ? "row_missing" : v == SP_HEAD_OLD ?
	    "row_rolled_back" : "row_not_in_chain";
	const char *why = v == SP_HEAD_GOOD ? "the vault did not seal this" :
	    sp_head_words(v);
	char detail[256];

	if (!is_due(s, t, id, v))
		return;
	snprintf(detail, sizeof(detail), "{\"table\": \"%s\", \"id\": "
	    "\"%.36s\", \"ver\": %.20s, \"why\": \"%s\"}", sp_tables[t].name, id, ver,
	    why);
	sp_log(SP_ERROR, event, NULL, "table=%s id=%s ver=%s why=\"%s\"",
	    sp_tables[t].name, sp_vis_str(id), sp_vis_str(ver), why);
	sp_audit(s, event, s->b->node, NULL, detail, NULL, NULL);
}

/* ---------------------------------------------------------- notifications */

static void
tell_change_soon(struct sp_store *s)
{
	if (!event_pending(s->ev_change, EV_TIMEOUT, NULL))
		event_add(s->ev_change, &(struct timeval){
		    .tv_usec = CHANGE_MS * 1000});
}

static void
on_change_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sp_store *s = arg;

	(void)fd;
	(void)what;
	if (s->on_change != NULL)
		s->on_change(s->on_change_arg);
}

static void
on_alive(void *arg, struct sp_db_result *r)
{
	(void)arg;
	(void)r;	/* an answer or a lost connection: db.c has seen to it */
}

/* A connection that only listens would never notice a frozen server. */
static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_store *s = arg;
	struct sp_db_job *j = sp_db_job_new(on_alive, s);

	(void)fd;
	(void)what;
	sp_db_job_add(j, "SELECT 1", NULL, 0);
	sp_db_submit(s->listen, j);
	if (s->on_change != NULL)
		s->on_change(s->on_change_arg);
}

static void
on_notify(void *arg, const PGnotify *n, bool is_own)
{
	struct sp_store *s = arg;

	if (strcmp(n->relname, "sallyport_audit") == 0)
		sp_follow_told(s, n->extra);
	else if (strcmp(n->relname, "sallyport_change") == 0) {
		sp_ahead_forget(s);
		if (!is_own)
			tell_change_soon(s);
	}
}

static void
on_listening(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;

	if (r->e != SP_OK) {
		sp_db_drop(s->listen, "LISTEN was refused");
		return;
	}
	/* What was said while nobody listened. */
	tell_change_soon(s);
	sp_follow_listening(s);
	sp_follow_up(s);
}

static void
on_listen_up(void *arg)
{
	struct sp_store *s = arg;
	struct sp_db_job *j = sp_db_job_new(on_listening, s);

	sp_db_job_add(j, "LISTEN sallyport_change", NULL, 0);
	sp_db_job_add(j, "LISTEN sallyport_audit", NULL, 0);
	sp_db_submit(s->listen, j);
}

/* -------------------------------------------------------------- connection */

static void
on_up(void *arg)
{
	struct sp_store *s = arg;

	sp_db_own_backend(s->listen, sp_db_backend(s->db));
	sp_chain_up(s);
	sp_heads_up(s);
	sp_commit_up(s);
	sp_follow_up(s);
}

static void
on_down(void *arg)
{
	sp_chain_down(arg);
	sp_rows_park_fail(arg, SP_ERR_DB);
}

static void
on_sign(evutil_socket_t fd, short what, void *arg)
{
	struct sp_store *s = arg;

	(void)fd;
	(void)what;
	if (sp_vault_is_open(s->b->vault) && sp_db_is_up(s->db))
		sp_audit_sign(s, NULL, NULL);
}

void
sp_audit_sign_soon(struct sp_store *s)
{
	if (!event_pending(s->chain.ev_soon, EV_TIMEOUT, NULL))
		event_add(s->chain.ev_soon, &(struct timeval){.tv_sec = 1});
}

static void
on_chain_turn(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sp_chain_turn(arg);
}

static struct event *
every(struct sp_store *s, event_callback_fn cb, uint64_t seconds)
{
	struct event *ev = event_new(s->b->ev, -1, EV_PERSIST, cb, s);

	SP_ASSERT(ev != NULL);
	event_add(ev, &(struct timeval){.tv_sec = (time_t)seconds});
	return ev;
}

struct sp_store *
sp_store_new(struct sp_broker *b, const char *conninfo)
{
	static const struct sp_db_ops ops = {.on_up = on_up, .on_down = on_down};
	static const struct sp_db_ops listen_ops = {.on_up = on_listen_up,
	    .on_notify = on_notify};
	struct sp_store *s = calloc(1, sizeof(*s));
	unsigned ms = (unsigned)b->cfg.db_timeout_ms;
	uint64_t sign_s = b->cfg.audit_sign_s;

	SP_ASSERT(s != NULL && sodium_init() >= 0 && b->node[0] != '\0');
	s->b = b;
	LIST_INIT(&s->waiting);
	LIST_INIT(&s->followers);
	LIST_INIT(&s->aheads);
	LIST_INIT(&s->parked);
	sp_heads_init(s);
	TAILQ_INIT(&s->chain.queue);
	TAILQ_INIT(&s->chain.group);
	s->db = sp_db_new(b->ev, conninfo, "statements", ms, &ops, s);
	s->listen = sp_db_new(b->ev, conninfo, "listen", ms, &listen_ops, s);
	if (s->db == NULL || s->listen == NULL) {
		sp_store_free(s);
		return NULL;
	}
	s->chain.ev_retry = evtimer_new(b->ev, on_chain_turn, s);
	s->chain.ev_soon = evtimer_new(b->ev, on_sign, s);
	s->ev_change = evtimer_new(b->ev, on_change_timer, s);
	SP_ASSERT(s->chain.ev_retry != NULL && s->chain.ev_soon != NULL &&
	    s->ev_change != NULL);
	s->chain.ev_sign = every(s, on_sign, sign_s == 0 ? SIGN_S_DEFAULT : sign_s);
	s->ev_tick = every(s, on_tick, TICK_S);
	sp_reserve_init(s);
	return s;
}

void
sp_store_free(struct sp_store *s)
{
	struct event *all[] = {s->chain.ev_retry, s->chain.ev_sign,
	    s->chain.ev_soon, s->ev_change, s->ev_tick};

	sp_chain_fini(s);
	sp_ahead_fini(s);
	while (!LIST_EMPTY(&s->waiting))
		sp_change_free(LIST_FIRST(&s->waiting));
	sp_follow_fini(s);
	sp_db_free(s->db);
	sp_db_free(s->listen);
	sp_heads_fini(s);
	sp_reserve_fini(s);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	free(s);
}

bool
sp_store_is_up(const struct sp_store *s)
{
	return sp_db_is_up(s->db);
}

void
sp_store_on_change(struct sp_store *s, void (*cb)(void *arg), void *arg)
{
	s->on_change = cb;
	s->on_change_arg = arg;
}
