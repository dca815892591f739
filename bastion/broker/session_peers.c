/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 2000	/* of one session, into the audit */

/* ------------------------------------------------------- what a recorder says */

/* Events of the wire. Their names come from a sibling: known to be text only. */
static void
on_rec_event(struct sp_session *s, const struct sp_msg_rec_event *m)
{
	struct json_object *d;

	if (++s->n_events > EVENTS_MAX)
		return;
	d = sess_detail(s);
	sp_detail_span(d, "what", m->what);
	sp_detail_i64(d, "channel", m->chan);
	sp_detail_span(d, "detail", m->detail);
	if (s->n_events == EVENTS_MAX)
		sp_detail_str(d, "more", "further events of this session are not kept");
	sp_flow_audit(s->b, m->what.n >= 8 && memcmp(m->what.p, "protocol", 8) == 0 ?
	    "peer_broke_protocol" : "session_event", s->who.name, s->id, d);
}

static void
peer_broke(struct sp_session *s, const char *peer, const char *what)
{
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "peer", peer);
	sp_detail_str(d, "what", what);
	sp_log(SP_WARN, "peer_broke_protocol", s->id, "peer=%s what=\"%s\"", peer,
	    sp_vis_str(what));
	sp_flow_audit(s->b, "peer_broke_protocol", s->who.name, s->id, d);
}

/* One of its own processes is not to be trusted any more: nothing is asked of
 * any of them. */
static void
rec_broke(struct sp_session *s, const char *what)
{
	peer_broke(s, "recorder", what);
	if (s->rec != NULL)
		sp_peer_drop(s->rec);
	s->rec = NULL;
	sess_rec_lost(s);
}

#define TAKE(name, broke, call)                                               \
	case SP_MSG_##name: {                                                 \
		struct sp_msg_##name m;                                       \
                                                                              \
		if (sp_dec_##name(k->body, &m) != SP_OK)                      \
			broke(s, "a broken " #name " message");               \
		else                                                          \
			call;                                                 \
		break;                                                        \
	}

static void
on_rec_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_session *s = arg;

	(void)p;
	sp_packet_close_fds(k);
	sess_hold(s);
	switch (k->type) {
	TAKE(rec_opened, rec_broke, sess_on_rec_opened(s, &m))
	TAKE(rec_ready, rec_broke, sess_on_rec_ready(s, &m))
	TAKE(rec_event, rec_broke, on_rec_event(s, &m))
	TAKE(rec_closed, rec_broke, sess_on_rec_closed(s, &m))
	default:
		rec_broke(s, "a message that a recorder does not send");
	}
	sess_release(s);
}

static void
on_rec_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_session *s = arg;

	(void)p;
	s->rec = NULL;
	sess_hold(s);
	if (fault != NULL && fault[0] != '\0')
		peer_broke(s, "recorder", fault);
	if (!s->has_closed)
		sess_rec_lost(s);
	sess_release(s);
}

/* -------------------------------------------------------- what an egress says */

static void
egr_broke(struct sp_session *s, const char *what)
{
	peer_broke(s, "egress", what);
	if (s->egr != NULL)
		sp_peer_drop(s->egr);
	s->egr = NULL;
	sp_session_end(s, SP_END_PROTOCOL,
	    "The connection to the target broke the rules of the bastion.");
}

static void
on_egr_failed(struct sp_session *s, const struct sp_msg_egr_failed *m)
{
	struct json_object *d = sess_detail(s);
	char why[600], text[512];

	if (memcmp(m->session, s->id, 16) != 0) {
		json_object_put(d);
		egr_broke(s, "another session's number");
		return;
	}
	sp_vis(why, sizeof(why), m->text);
	sp_detail_i64(d, "code", m->code);
	sp_detail_span(d, "why", m->text);
	sp_flow_audit(s->b, m->code == SP_EGR_HOSTKEY ? "host_key_mismatch" :
	    "target_login_failed", s->who.name, s->id, d);
	snprintf(text, sizeof(text), m->code == SP_EGR_HOSTKEY ?
	    "The host key of %s is not the one that is pinned; no credential was "
	    "used. Tell an administrator. (%.300s)" :
	    "The login at %s failed: %.400s", s->ask.target_name, why);
	sp_session_end(s, SP_END_TARGET, text);
}

static void
on_egr_ready(struct sp_session *s, const struct sp_msg_egr_ready *m)
{
	if (memcmp(m->session, s->id, 16) != 0 || s->state != SESS_LOGIN)
		egr_broke(s, "a login that nobody asked for");
	else
		sess_live(s);
}

static void
on_egr_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_session *s = arg;

	(void)p;
	sp_packet_close_fds(k);
	sess_hold(s);
	switch (k->type) {
	TAKE(egr_ready, egr_broke, on_egr_ready(s, &m))
	TAKE(egr_failed, egr_broke, on_egr_failed(s, &m))
	default:
		egr_broke(s, "a message that an egress does not send");
	}
	sess_release(s);
}

static void
on_egr_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_session *s = arg;

	(void)p;
	s->egr = NULL;
	sess_hold(s);
	if (fault != NULL && fault[0] != '\0')
		egr_broke(s, fault);
	else if (s->state < SESS_LIVE)
		sp_session_end(s, SP_END_LEG_DIED,
		    "The connection to the target was lost.");
	/* Later the recorder ends it: what the target said last may still be on
	 * its way to a user who reads slowly. */
	sess_release(s);
}

/* ------------------------------------------------- what the supervisor says */

void
sp_session_on_spawned(struct sp_broker *b,
    const struct sp_msg_session_spawned *m, const int fds[static 2])
{
	struct sp_session *s = sp_session_find(b, m->session);

	if (s == NULL || s->state != SESS_SPAWN) {
		sp_close_fds(fds, 2);
		return;
	}
	s->rec = sp_peer_new(b, fds[0], SP_ROLE_REC, SP_ST_NEW, on_rec_packet,
	    on_rec_end, s);
	s->stream = fds[1];
	if (s->rec == NULL) {
		sp_session_end(s, SP_END_BROKER, "Out of memory.");
		return;
	}
	sess_spawned(s);
}

void
sp_session_on_dialed(struct sp_broker *b, const struct sp_msg_session_dialed *m,
    int fd)
{
	struct sp_session *s = sp_session_find(b, m->session);

	if (s == NULL || s->state != SESS_DIAL) {
		sp_close_fds(&fd, 1);
		return;
	}
	s->egr_is_gone = false;
	s->egr = sp_peer_new(b, fd, SP_ROLE_EGR, SP_ST_NEW, on_egr_packet,
	    on_egr_end, s);
	if (s->egr == NULL)
		sp_session_end(s, SP_END_BROKER, "Out of memory.");
	else
		sess_dialed(s);
}

void
sp_session_on_child_end(struct sp_broker *b,
    const struct sp_msg_session_child_end *m)
{
	struct sp_session *s;
	struct json_object *d;
	int sig = (int)(m->status & 0x7f);

	if (m->role == SP_ROLE_REC)
		recovery_child_end(b, m->session, m->status);
	if ((s = sp_session_find(b, m->session)) == NULL)
		return;
	sess_hold(s);
	if (sig != 0 && !(sig == 9 && s->state >= SESS_KILLED)) {
		d = sess_detail(s);
		sp_detail_str(d, "role", sp_role_name(m->role));
		sp_detail_i64(d, "signal", sig);
		sp_flow_audit(b, "leg_died", s->who.name, s->id, d);
	}
	if (m->role == SP_ROLE_REC && m->status != 0 && s->has_closed &&
	    !s->rec_is_gone && s->state >= SESS_SIGN)
		recovery_of_closed(b, s->id);
	if (m->role == SP_ROLE_REC)
		s->rec_is_gone = true;
	else
		s->egr_is_gone = true;
	if (m->role != SP_ROLE_REC && sig != 0 && s->state <= SESS_LIVE)
		sp_session_end(s, SP_END_LEG_DIED,
		    "The process that speaks to the target died.");
	sess_child_gone(s);
	sess_release(s);
}

bool
sp_session_on_spawn_failed(struct sp_broker *b,
    const struct sp_msg_spawn_failed *m, const char *text)
{
	struct sp_session *s;
	char say[400];

	if (m->id != 0 && (play_spawn_failed(b, m->id, m->err_no, text) ||
	    scan_spawn_failed(b, m->id, text)))
		return true;
	if (recovery_spawn_failed(b, m->session, m->err_no))
		return true;
	s = sp_session_find(b, m->session);
	if (s == NULL || (s->state != SESS_SPAWN && s->state != SESS_DIAL))
		return s != NULL;
	if (s->state == SESS_DIAL)
		snprintf(say, sizeof(say), "%s (%s port %u) cannot be reached: %s.",
		    s->ask.target_name, s->ask.addr, s->ask.port, text);
	else
		snprintf(say, sizeof(say), "No recorder could be started (%s), so "
		    "nothing was opened. An administrator finds the cause with "
		    "sallyport doctor.", text);
	sp_session_end(s, s->state == SESS_DIAL ? SP_END_TARGET : SP_END_DISK, say);
	return true;
}

/* --------------------------------------------------- what the vault reports */

void
sp_session_on_lease_used(struct sp_broker *b, const struct sp_msg_v_lease_used *m)
{
	struct sp_session *s = sp_session_find(b, m->session);
	struct json_object *d = s != NULL ? sess_detail(s) : sp_detail();

	sp_detail_i64(d, "credential", m->kind);
	if (s != NULL && s->state >= SESS_LOGIN) {
		sp_flow_audit(b, "lease_used", s->who.name, m->session, d);
		s->lease_used_us = sp_now_us();	/* its row: with the session's end */
		return;
	}
	sp_flow_audit(b, "lease_used_unasked", "-", m->session, d);
	if (s != NULL)
		sp_session_end(s, SP_END_PROTOCOL, "The connection to the target broke "
		    "the rules of the bastion.");
}

/* The names of events come from a sibling: only plain words become names. */
static bool
is_word(struct sp_span s)
{
	if (s.n == 0 || s.n > 40)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && s.p[i] != '_')
			return false;
	return true;
}

void
sp_session_on_security_event(struct sp_broker *b, const char *from,
    const struct sp_msg_security_event *m)
{
	struct sp_session *s = sp_session_find(b, m->session);
	struct json_object *d = s != NULL ? sess_detail(s) : sp_detail();
	char event[64], why[600], text[512];

	snprintf(event, sizeof(event), "%.*s", is_word(m->what) ? (int)m->what.n : 14,
	    is_word(m->what) ? (const char *)m->what.p : "security_event");
	sp_detail_str(d, "from", from);
	sp_detail_span(d, "what", m->what);
	sp_detail_span(d, "detail", m->detail);
	sp_flow_audit(b, event, s != NULL ? s->who.name : "-", m->session, d);
	/* What the vault refused to one of its processes ends the session. */
	if (s == NULL || strcmp(from, "vault") != 0)
		return;
	snprintf(text, sizeof(text), "The vault refused something to this session: "
	    "%.300s", sp_vis(why, sizeof(why), m->detail.n > 0 ? m->detail : m->what));
	sp_session_end(s, SP_END_PROTOCOL, text);
}
