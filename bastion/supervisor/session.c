/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct sp_session *
sp_session_find(struct sp_sup *s, const uint8_t *id)
{
	struct sp_session *x = s->sessions;

	while (x != NULL && memcmp(x->id, id, sizeof(x->id)) != 0)
		x = x->next;
	return x;
}

static struct sp_session *
session_new(struct sp_sup *s, const uint8_t *id)
{
	struct sp_session *x;

	if (s->n_sessions >= SP_SESSIONS_MAX ||
	    (x = calloc(1, sizeof(*x))) == NULL)
		return NULL;
	memcpy(x->id, id, sizeof(x->id));
	x->kept = -1;
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		x->hops[i].kept = -1;
	x->next = s->sessions;
	s->sessions = x;
	s->n_sessions++;
	return x;
}

static void
drop_if_over(struct sp_sup *s, struct sp_session *x)
{
	struct sp_session **at = &s->sessions;

	if (x->rec != NULL || sp_leg_is_any(x) || x->is_dialing || x->is_closing)
		return;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	s->n_sessions--;
	sp_close_fds(&x->kept, 1);
	free(x);
}

static void
fail(struct sp_sup *s, uint64_t corr, const uint8_t *id, int err_no,
    const char *text)
{
	struct sp_failure f = {.corr = corr, .session = id, .err_no = err_no,
	    .text = text};

	sp_reply_failure(s, &f);
}

void
sp_session_record(struct sp_sup *s, enum sp_kid_kind kind, uint64_t corr,
    const uint8_t *id, int fd)
{
	struct sp_session *x = session_new(s, id);
	struct sp_kid *k = x == NULL ? NULL : sp_kid_new(s, kind, id);
	enum sp_err e;

	if (k == NULL) {
		close(fd);
		if (x != NULL)
			drop_if_over(s, x);
		fail(s, corr, id, EAGAIN, "too many sessions");
		return;
	}
	k->corr = corr;
	x->rec = k;
	x->is_recovery = kind == SP_KID_RECOVER;
	if ((e = sp_kid_spawn(s, k, fd, -1)) == SP_OK)
		return;
	x->rec = NULL;
	drop_if_over(s, x);
	fail(s, corr, id, EMFILE, sp_err_text(e));
}

static enum sp_err
on_session_dial(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_dial m;
	struct sp_session *x;
	struct sp_dial_ask a = {.corr = p->corr};
	struct sp_leg l = {.corr = p->corr};
	const char *why;
	int fd;

	SP_TRY(sp_dec_session_dial(p->body, &m));
	x = sp_session_find(s, m.session);
	why = x == NULL ? "there is no such session" : sp_leg_refused(x, m.leg);
	if (why == NULL && !sp_uuid_is_nil(m.via)) {
		l.id = m.leg;
		l.more = m.more != 0;
		l.sql = m.sql != 0;
		if ((fd = sp_leg_take(x, m.via)) < 0)
			why = "the way there is gone";
		else if ((why = sp_leg_start(s, x, &l, fd)) == NULL)
			return SP_OK;
	}
	if (why != NULL) {
		fail(s, p->corr, m.session, ENOTCONN, why);
		return SP_OK;
	}
	a.session = m.session;
	a.leg = m.leg;
	a.more = m.more != 0;
	a.sql = m.sql != 0;
	a.addr = m.addr;
	a.port = m.port;
	a.deadline_ms = m.deadline_ms;
	x->is_dialing = x->was_dialed = true;
	sp_dial_begin(s, &a);
	return SP_OK;
}

static void
kill_scribe(struct sp_sup *s, struct sp_session *x)
{
	struct sp_kid *k = x->scribe;

	x->scribe = NULL;
	if (k != NULL)
		sp_kid_kill(s, k);
}

/* One that is there already is stopped or slow: its recorder wants another. The
 * broker hears of no failure: the recorder asks again. */
static enum sp_err
on_scribe_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_scribe_spawn m;
	struct sp_session *x;
	struct sp_kid *k;

	SP_TRY(sp_dec_scribe_spawn(p->body, &m));
	x = sp_session_find(s, m.session);
	if (x == NULL || x->rec == NULL || x->is_recovery)
		return SP_OK;
	kill_scribe(s, x);
	if ((k = sp_kid_new(s, SP_KID_SCRIBE, m.session)) == NULL)
		return SP_OK;
	x->scribe = k;
	if (sp_kid_spawn(s, k, -1, -1) != SP_OK)
		x->scribe = NULL;
	return SP_OK;
}

static enum sp_err
on_session_settled(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_settled m;
	struct sp_session *x;

	SP_TRY(sp_dec_session_settled(p->body, &m));
	x = sp_session_find(s, m.session);
	if (x == NULL)
		return SP_OK;	/* it has ended meanwhile */
	/* Also when the egress is gone already: now the recorder sees it. */
	sp_close_fds(&x->kept, 1);
	x->kept = -1;
	return SP_OK;
}

static enum sp_err
on_session_kill(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_kill m;
	struct sp_session *x;

	SP_TRY(sp_dec_session_kill(p->body, &m));
	sp_dial_abort(s, m.session, "the session was ended");
	sp_leg_kill_all(s, m.session);
	if ((x = sp_session_find(s, m.session)) != NULL && x->rec != NULL)
		sp_kid_kill(s, x->rec);
	return SP_OK;
}

static enum sp_err
on_scan_key(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_scan_key m;
	struct sp_dial_ask a = {.is_scan = true, .corr = p->corr};

	SP_TRY(sp_dec_scan_key(p->body, &m));
	a.scan_id = m.id;
	a.addr = m.addr;
	a.port = m.port;
	a.deadline_ms = m.deadline_ms;
	sp_dial_begin(s, &a);
	return SP_OK;
}

static enum sp_err
on_conn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_span body = p->body;
	struct sp_msg_conn_source source = {0};
	struct sp_kid *k;
	uint64_t id;

	/* The table has checked the body: each begins with the connection. */
	SP_TRY(sp_get_u64(&body, &id));
	k = sp_kid_find(s, id);
	if (k == NULL || k->kind != SP_KID_INGRESS)
		return SP_OK;	/* it has ended meanwhile */
	switch (p->type) {
	case SP_MSG_conn_kill:
		sp_kid_kill(s, k);
		return SP_OK;
	case SP_MSG_conn_keyed:
		k->is_keyed = true;
		return SP_OK;
	case SP_MSG_conn_authed:
		sp_source_authed(s, k);
		return SP_OK;
	default:
		SP_TRY(sp_dec_conn_source(p->body, &source));
		return sp_source_named(s, k, source.peer_addr);
	}
}

enum sp_err
sp_session_packet(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_auth_spawn auth;

	switch (p->type) {
	case SP_MSG_conn_kill:
	case SP_MSG_conn_authed:
	case SP_MSG_conn_keyed:
	case SP_MSG_conn_source:
		return on_conn(s, p);
	case SP_MSG_auth_spawn:
		SP_TRY(sp_dec_auth_spawn(p->body, &auth));
		sp_auth_spawn(s, p->corr, auth.login);
		return SP_OK;
	case SP_MSG_session_dial:
		return on_session_dial(s, p);
	case SP_MSG_session_settled:
		return on_session_settled(s, p);
	case SP_MSG_session_kill:
		return on_session_kill(s, p);
	case SP_MSG_scribe_spawn:
		return on_scribe_spawn(s, p);
	case SP_MSG_session_spawn:
	case SP_MSG_recover:
	case SP_MSG_play_spawn:
	case SP_MSG_search_open:
		return sp_recording_packet(s, p);
	case SP_MSG_search_spawn:
		return sp_on_search_spawn(s, p);
	case SP_MSG_ship_job:
		return sp_ship_ask(s, p);
	case SP_MSG_scan_key:
		return on_scan_key(s, p);
	default:
		return SP_ERR_PROTO;
	}
}

static void
tell_child_end(struct sp_sup *s, const struct sp_kid *k, uint16_t role,
    int status)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_session_child_end m = {.role = role,
	    .status = (uint32_t)status};

	if (k->pid == 0 || b == NULL)
		return;		/* it never was: spawn_failed said so */
	memcpy(m.session, k->session, sizeof(m.session));
	memcpy(m.leg, k->leg, sizeof(m.leg));
	sp_proc_sent(s, b, sp_send_session_child_end(&b->link, 0, &m, NULL));
}

/* What becomes of its file. One that ended before its first word was safe leaves a
 * file that no row names; before anything was dialled, whoever was to be told of it
 * may have died as well. */
static uint8_t
last_act(const struct sp_session *x, const struct sp_kid *k, int status)
{
	bool has_left = k->pid == 0 || WIFEXITED(status);

	if (k->kind == SP_KID_RECORDER && has_left && (k->pid == 0 ||
	    WEXITSTATUS(status) == SP_EXIT_NOTHING_RECORDED))
		return SP_FILE_REMOVE;
	if (k->pid != 0 && has_left && WEXITSTATUS(status) == 0)
		return SP_FILE_CLOSE;
	return k->kind == SP_KID_RECORDER && !x->was_dialed ? SP_FILE_DROP : 0;
}

static void
recorder_gone(struct sp_sup *s, struct sp_session *x, struct sp_kid *k,
    int status)
{
	struct sp_msg_session_child_end m = {.role = SP_ROLE_REC,
	    .status = (uint32_t)status};

	x->rec = NULL;
	x->is_closing = true;
	sp_close_fds(&x->kept, 1);
	x->kept = -1;
	kill_scribe(s, x);	/* one that is stopped sees no link end */
	memcpy(m.session, k->session, sizeof(m.session));
	memcpy(m.leg, k->leg, sizeof(m.leg));
	if (k->pid == 0)
		m.role = 0;	/* it never was: spawn_failed said so */
	sp_recording_ended(s, last_act(x, k, status), &m,
	    k->kind == SP_KID_RECORDER && !x->was_dialed);
}

void
sp_session_closed(struct sp_sup *s, const uint8_t *id)
{
	struct sp_session *x = sp_session_find(s, id);

	if (x == NULL)
		return;
	x->is_closing = false;
	if (x->is_dialing)
		sp_dial_abort(s, id, "the recorder ended");
	/* An aborted dial may have been the last of it. */
	if ((x = sp_session_find(s, id)) != NULL)
		drop_if_over(s, x);
}

static void
tell_conn_end(struct sp_sup *s, const struct sp_kid *k, int status)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_conn_end m = {.conn = k->id, .status = (uint32_t)status};

	if (k->is_known && b != NULL)
		sp_proc_sent(s, b, sp_send_conn_end(&b->link, 0, &m, NULL));
}

void
sp_session_kid_gone(struct sp_sup *s, struct sp_kid *k, int status)
{
	struct sp_session *x;

	if (k->kind == SP_KID_INGRESS) {
		tell_conn_end(s, k, status);
		return;
	}
	if ((x = sp_session_find(s, k->session)) == NULL)
		return;
	if (k->kind == SP_KID_SCRIBE) {
		if (x->scribe == k)
			x->scribe = NULL;
		return;
	}
	if (x->rec == k) {
		recorder_gone(s, x, k, status);
	} else if (sp_leg_gone(x, k)) {
		tell_child_end(s, k, SP_ROLE_EGR, status);
	}
	/* An aborted dial may have been the last of it. */
	if ((x = sp_session_find(s, k->session)) != NULL)
		drop_if_over(s, x);
}

void
sp_session_free_all(struct sp_sup *s)
{
	struct sp_session *x;

	while ((x = s->sessions) != NULL) {
		s->sessions = x->next;
		sp_close_fds(&x->kept, 1);
		for (size_t i = 0; i < SP_HOPS_MAX; i++)
			sp_close_fds(&x->hops[i].kept, 1);
		free(x);
	}
	s->n_sessions = 0;
}
