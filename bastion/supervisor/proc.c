/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_US (30 * SP_SECOND_US)
#define LOST_US SP_SECOND_US		/* from a closed link to a kill */
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 2000u
#define STEADY_US (10 * SP_SECOND_US)	/* who lived this long starts afresh */

void
sp_sup_event(struct sp_sup *s, const char *what, const uint8_t *session,
    const char *detail)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_security_event m = {.what = sp_span_str(what)};
	char text[512];

	sp_vis(text, sizeof(text), sp_span_str(detail));
	sp_log(SP_WARN, what, session, "detail=\"%s\"", text);
	if (b == NULL)
		return;
	m.detail = sp_span_str(text);
	if (session != NULL)
		memcpy(m.session, session, sizeof(m.session));
	sp_proc_sent(s, b, sp_send_security_event(&b->link, 0, &m, NULL));
}

struct sp_proc *
sp_proc_ready(struct sp_sup *s, enum sp_rx rx)
{
	struct sp_proc *p = s->slots[rx].cur;

	return p != NULL && p->state == SP_PROC_READY ? p : NULL;
}

static enum sp_err
begin(struct sp_sup *s, enum sp_rx rx, struct sp_proc **out)
{
	struct sp_launch l = {.rx = rx};
	struct sp_proc *p;
	int pair[2];
	enum sp_err e;

	if (s->n_procs >= SP_PROCS_MAX)
		return SP_ERR_FULL;
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return SP_ERR_NOMEM;
	if ((e = sp_link_pair(pair)) != SP_OK) {
		free(p);
		return e;
	}
	l.link = pair[1];
	e = sp_launch_exec(&s->in, &l, &p->pid);
	close(pair[1]);
	if (e != SP_OK) {
		close(pair[0]);
		free(p);
		return e;
	}
	p->rx = rx;
	p->since_us = sp_boot_us();
	p->deadline_us = p->since_us + START_US;
	p->state = SP_PROC_STARTING;
	p->next = s->procs;
	s->procs = p;
	s->n_procs++;
	*out = p;
	if ((e = sp_link_init(&p->link, pair[0], SP_ROLE_SUP,
	    sp_role_rows[rx].role, SP_ST_NEW)) != SP_OK)
		sp_proc_kill(s, p, "no memory for its link");
	return SP_OK;
}

enum sp_err
sp_proc_start(struct sp_sup *s, enum sp_rx rx)
{
	SP_ASSERT(s->slots[rx].cur == NULL);
	SP_TRY(begin(s, rx, &s->slots[rx].cur));
	s->slots[rx].restart_us = 0;
	return SP_OK;
}

void
sp_proc_succeed(struct sp_sup *s, enum sp_rx rx)
{
	struct sp_slot *slot = &s->slots[rx];

	/* Who starts just now starts with all that is new. */
	if (slot->next != NULL || slot->cur == NULL ||
	    slot->cur->state != SP_PROC_READY || s->n_procs + 16 > SP_PROCS_MAX)
		return;
	if (begin(s, rx, &slot->next) != SP_OK)
		sp_say(&s->in, "cannot start another %s", sp_role_rows[rx].exe);
}

/* Back-off grows while a role cannot stay up, and is forgotten when it does. */
static void
restart_later(struct sp_sup *s, const struct sp_proc *p)
{
	struct sp_slot *slot = &s->slots[p->rx];
	int64_t now = sp_boot_us();

	if (now - p->since_us > STEADY_US || slot->backoff_ms == 0)
		slot->backoff_ms = BACKOFF_MIN_MS;
	slot->restart_us = now + (int64_t)slot->backoff_ms * 1000;
	slot->backoff_ms *= 2;
	if (slot->backoff_ms > BACKOFF_MAX_MS)
		slot->backoff_ms = BACKOFF_MAX_MS;
}

static void
lose_link(struct sp_proc *p)
{
	sp_link_fini(&p->link);
	p->state = SP_PROC_LOST;
	p->deadline_us = sp_boot_us() + LOST_US;
}

void
sp_proc_kill(struct sp_sup *s, struct sp_proc *p, const char *why)
{
	if (p->state == SP_PROC_GONE)
		return;
	sp_log(SP_ERROR, "role_killed", NULL, "role=%s role_pid=%d why=\"%s\"",
	    sp_role_rows[p->rx].exe, (int)p->pid, sp_vis_str(why));
	lose_link(p);
	p->deadline_us = 0;
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	(void)s;
}

/* What came of a send: a peer that cannot take its messages is of no use. */
void
sp_proc_sent(struct sp_sup *s, struct sp_proc *p, enum sp_err e)
{
	if (e == SP_OK || p->state == SP_PROC_LOST || p->state == SP_PROC_GONE)
		return;
	if (e == SP_ERR_EOF)
		lose_link(p);
	else
		sp_proc_kill(s, p, sp_err_text(e));
}

void
sp_proc_retire(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_stop m = {.graceful = 1};

	if (s->slots[p->rx].cur == p && s->slots[p->rx].next != NULL) {
		s->slots[p->rx].cur = NULL;	/* it is under way already */
	} else if (s->slots[p->rx].cur == p) {
		s->slots[p->rx].cur = NULL;
		restart_later(s, p);
		/* The first fresh start is at once: people wait for it. */
		if (s->slots[p->rx].backoff_ms == 2 * BACKOFF_MIN_MS)
			s->slots[p->rx].restart_us = sp_boot_us();
	}
	p->state = SP_PROC_RETIRING;
	sp_log(SP_INFO, "parent_retired", NULL, "role=%s role_pid=%d",
	    sp_role_rows[p->rx].exe, (int)p->pid);
	sp_proc_sent(s, p, sp_send_stop(&p->link, 0, &m, NULL));
}

static enum sp_err
on_hello(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	struct sp_msg_hello m;
	uint8_t ours[32];

	if (p->said_hello)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_hello(k->body, &m));
	sp_ipc_table_hash(ours);
	if (memcmp(ours, m.table, sizeof(ours)) != 0) {
		sp_say(&s->in, "%s/%s is of another build: its message table"
		    " differs from this sallyportd's", s->in.libexec_path,
		    sp_role_rows[p->rx].exe);
		if (s->phase == SP_PHASE_STARTING)
			s->has_failed = true;
		return SP_ERR_UNSUPPORTED;
	}
	p->said_hello = true;
	return sp_proc_say_start(s, p);
}

static void
take_over(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_slot *slot = &s->slots[p->rx];
	struct sp_proc *old = slot->cur;

	if (slot->next != p)
		return;
	slot->next = NULL;
	slot->cur = p;
	slot->restart_us = 0;
	if (old != NULL && old->state <= SP_PROC_READY)
		sp_proc_retire(s, old);
}

static enum sp_err
on_started(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	struct sp_msg_started m;

	if (!p->said_hello)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_started(k->body, &m));
	p->state = SP_PROC_READY;
	p->link.state = SP_ST_READY;
	p->deadline_us = 0;
	take_over(s, p);
	sp_log(SP_INFO, "role_started", NULL, "role=%s role_pid=%d sandbox=\"%s\"",
	    sp_role_rows[p->rx].exe, (int)p->pid, sp_vis_tmp(m.sandbox));
	sp_proc_meet(s, p);
	sp_credential_give(s, p);
	sp_kid_parent_ready(s, p);
	if (p->rx == SP_RX_BROKER)
		sp_unnamed_tell_all(s, p);
	return SP_OK;
}

static enum sp_err
on_packet(struct sp_sup *s, struct sp_proc *p, struct sp_packet *k)
{
	struct sp_msg_spawned spawned;
	struct sp_msg_exited exited;
	struct sp_msg_n_run run;
	struct sp_msg_n_checkpoint line;
	struct sp_msg_host_key_kept kept;

	switch (k->type) {
	case SP_MSG_hello:
		return on_hello(s, p, k);
	case SP_MSG_started:
		return on_started(s, p, k);
	case SP_MSG_spawned:
		SP_TRY(sp_dec_spawned(k->body, &spawned));
		return sp_kid_spawned(s, p, &spawned);
	case SP_MSG_exited:
		SP_TRY(sp_dec_exited(k->body, &exited));
		return sp_kid_exited(s, p, &exited);
	case SP_MSG_vault_keys:
		SP_TRY(sp_dec_vault_keys(k->body, &s->vault));
		s->has_vault_keys = true;
		return SP_OK;
	case SP_MSG_host_key_kept:
		SP_TRY(sp_dec_host_key_kept(k->body, &kept));
		sp_hostkey_kept(&s->in, kept.host_key);
		return SP_OK;
	case SP_MSG_n_run:
		SP_TRY(sp_dec_n_run(k->body, &run));
		return sp_run_ask(s, p, &run);
	case SP_MSG_n_deleting:
		return sp_ship_deleting(s, p, k);
	case SP_MSG_ship_done:
	case SP_MSG_ship_dial:
	case SP_MSG_ship_alive:
		return sp_ship_packet(s, p, k);
	case SP_MSG_n_checkpoint:
		SP_TRY(sp_dec_n_checkpoint(k->body, &line));
		sp_run_syslog(line.line);
		return SP_OK;
	default:
		return p->rx == SP_RX_BROKER ? sp_session_packet(s, k) :
		    SP_ERR_PROTO;
	}
}

void
sp_proc_read(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_packet k;
	char why[256];
	enum sp_err e;
	int budget = 256;	/* one busy peer does not starve the others */

	while (budget-- > 0 && p->state < SP_PROC_LOST) {
		e = sp_link_recv(&p->link, &k);
		if (e == SP_ERR_AGAIN)
			return;
		if (e == SP_ERR_EOF) {
			lose_link(p);
			return;
		}
		if (e == SP_OK) {
			e = on_packet(s, p, &k);
			sp_packet_close_fds(&k);
		}
		if (e == SP_OK || p->state >= SP_PROC_LOST)
			continue;
		snprintf(why, sizeof(why), "%s: %s", sp_err_text(e),
		    p->link.fault[0] != '\0' ? p->link.fault :
		    sp_ipc_name(k.type));
		sp_proc_kill(s, p, why);
		if (e == SP_ERR_PROTO || e == SP_ERR_TOOBIG)
			sp_sup_event(s, "role_broke_protocol", NULL, why);
	}
}

/* What it said before it ended still counts. */
static void
drain(struct sp_sup *s, struct sp_proc *p)
{
	for (int i = 0; i < 1024 && p->state < SP_PROC_LOST; i++)
		sp_proc_read(s, p);
}

void
sp_proc_reaped(struct sp_sup *s, struct sp_proc *p, int status)
{
	struct sp_slot *slot = &s->slots[p->rx];
	bool was_needed = slot->cur == p && s->phase <= SP_PHASE_RUNNING;
	char text[128];

	p->pid = 0;
	drain(s, p);
	snprintf(text, sizeof(text), "%s %s %d", sp_role_rows[p->rx].exe,
	    WIFSIGNALED(status) ? "died by signal" : "ended with status",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	sp_log(was_needed ? SP_ERROR : SP_INFO, "role_ended", NULL,
	    "how=\"%s\"", text);
	if (p->link.fd >= 0)
		sp_link_fini(&p->link);
	p->state = SP_PROC_GONE;
	if (slot->next == p) {
		slot->next = NULL;
		if (s->in.said[0] == '\0')
			sp_say(&s->in, "%s, and the one before it goes on", text);
		if (slot->cur == NULL)
			restart_later(s, p);
	} else if (slot->cur == p) {
		slot->cur = NULL;
		if (s->phase == SP_PHASE_STARTING && !s->has_failed) {
			s->has_failed = true;
			sp_say(&s->in, "%s during the start; the log is"
			    " %s/log/sallyport.log", text, s->in.path);
		}
		if (slot->next == NULL)
			restart_later(s, p);
	}
	sp_kid_parent_gone(s, p);
	if (p->rx == SP_RX_SHIP)
		sp_ship_gone(s, p);
	if (p->rx == SP_RX_BROKER) {
		sp_kid_broker_gone(s);
		sp_dial_drop_all(s);
		sp_files_broker_gone(s);
	}
	if (WIFSIGNALED(status) && s->phase <= SP_PHASE_RUNNING)
		sp_sup_event(s, "role_died", NULL, text);
}

static void
restart_due(struct sp_sup *s, enum sp_rx rx, int64_t now)
{
	struct sp_slot *slot = &s->slots[rx];
	enum sp_err e;

	if (slot->restart_us == 0 || slot->restart_us > now)
		return;
	if (!sp_role_is_wanted(&s->in, rx)) {
		slot->restart_us = 0;
		return;
	}
	e = sp_proc_start(s, rx);
	if (e == SP_OK)
		return;
	sp_log(SP_ERROR, "restart_failed", NULL, "role=%s error=\"%s\"",
	    sp_role_rows[rx].exe, sp_err_text(e));
	slot->restart_us = now + (int64_t)BACKOFF_MAX_MS * 1000;
}

void
sp_proc_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	for (struct sp_proc *p = s->procs; p != NULL; p = p->next) {
		if (p->state == SP_PROC_GONE)
			continue;
		if (p->deadline_us != 0 && p->deadline_us <= now)
			sp_proc_kill(s, p, p->state == SP_PROC_STARTING ?
			    "not started in time" : "its link is closed");
		sp_sooner(next, p->deadline_us);
	}
	if (s->phase != SP_PHASE_RUNNING)
		return;
	for (enum sp_rx i = 0; i < SP_RX_COUNT; i++) {
		restart_due(s, i, now);
		sp_sooner(next, s->slots[i].restart_us);
		if (s->slots[i].cur != NULL)
			sp_sooner(next, s->slots[i].cur->deadline_us);
	}
}

void
sp_proc_sweep(struct sp_sup *s)
{
	struct sp_proc **at = &s->procs, *p;

	while ((p = *at) != NULL) {
		if (p->state != SP_PROC_GONE) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		s->n_procs--;
		free(p);
	}
}

void
sp_proc_stop_all(struct sp_sup *s)
{
	struct sp_msg_stop m = {.graceful = 1};

	for (struct sp_proc *p = s->procs; p != NULL; p = p->next)
		if (p->state < SP_PROC_LOST)
			sp_proc_sent(s, p, sp_send_stop(&p->link, 0, &m, NULL));
}
