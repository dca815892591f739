/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include "bastion/broker/search.h"

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

/* It may ask as often as it likes: the supervisor keeps one for each session. */
static void
on_scribe_want(struct sp_session *s)
{
	struct sp_msg_scribe_spawn m;

	memcpy(m.session, s->id, sizeof(m.session));
	if (s->b->sup != NULL)
		sp_peer_sent(s->b->sup, sp_send_scribe_spawn(&s->b->sup->link, 0,
		    &m, NULL));
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

static void
on_rec_held(struct sp_session *s, const struct sp_msg_rec_held *m)
{
	if (!sess_on_held(s, m))
		rec_broke(s, "an impossible rec_held");
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
	TAKE(rec_scribe_want, rec_broke, on_scribe_want(s))
	TAKE(rec_opened, rec_broke, sess_on_rec_opened(s, &m))
	TAKE(rec_ready, rec_broke, sess_on_rec_ready(s, &m))
	TAKE(rec_point, rec_broke, sess_on_rec_point(s, &m))
	TAKE(rec_event, rec_broke, on_rec_event(s, &m))
	TAKE(rec_held, rec_broke, on_rec_held(s, &m))
	TAKE(rec_pong, rec_broke, sess_on_rec_pong(s, &m))
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

/* The link goes on to the recorder at once: the broker has no use for it. */
void
sp_session_on_scribe(struct sp_broker *b,
    const struct sp_msg_scribe_spawned *m, int fd)
{
	struct sp_session *s = sp_session_find(b, m->session);
	struct sp_msg_rec_scribe to;

	if (s == NULL || s->rec == NULL) {
		sp_close_fds(&fd, 1);
		return;
	}
	memcpy(to.session, s->id, sizeof(to.session));
	sp_peer_sent(s->rec, sp_send_rec_scribe(&s->rec->link, 0, &to, &fd));
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
		sess_leg_gone(s, m->leg, sig);
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
	    scan_spawn_failed(b, m->id, text) ||
	    sp_search_spawn_failed(b, m->id, text)))
		return true;
	if (recovery_spawn_failed(b, m->session, m->err_no))
		return true;
	s = sp_session_find(b, m->session);
	if (s == NULL || (s->state != SESS_SPAWN && s->state != SESS_DIAL))
		return s != NULL;
	if (s->state == SESS_DIAL) {
		sess_dial_failed(s, text);
		return true;
	}
	snprintf(say, sizeof(say), "No recorder could be started (%s), so nothing "
	    "was opened. An administrator finds the cause with sallyport doctor.",
	    text);
	sp_session_end(s, SP_END_DISK, say);
	return true;
}

/* --------------------------------------------------- what the vault reports */

void
sp_session_on_lease_used(struct sp_broker *b, const struct sp_msg_v_lease_used *m)
{
	struct sess_leg *l = NULL;
	struct sp_session *s = sess_find_leg(b, m->session, &l);
	struct json_object *d = s != NULL ? sess_detail(s) : sp_detail();

	sp_detail_i64(d, "credential", m->kind);
	if (s != NULL && l->is_told) {
		sp_detail_str(d, "at", l->ask->target_name);
		sp_flow_audit(b, "lease_used", s->who.name, s->id, d);
		if (l == sess_own_leg(s))
			s->lease_used_us = sp_now_us();	/* its row: with the end */
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
	struct sp_session *s = sess_find_leg(b, m->session, NULL);
	struct json_object *d = s != NULL ? sess_detail(s) : sp_detail();
	char event[64], why[600], text[512];

	snprintf(event, sizeof(event), "%.*s", is_word(m->what) ? (int)m->what.n : 14,
	    is_word(m->what) ? (const char *)m->what.p : "security_event");
	sp_detail_str(d, "from", from);
	sp_detail_span(d, "what", m->what);
	sp_detail_span(d, "detail", m->detail);
	sp_flow_audit(b, event, s != NULL ? s->who.name : "-", s != NULL ? s->id :
	    m->session, d);
	/* What the vault refused to one of its processes ends the session. */
	if (s == NULL || strcmp(from, "vault") != 0)
		return;
	snprintf(text, sizeof(text), "The vault refused something to this session: "
	    "%.300s", sp_vis(why, sizeof(why), m->detail.n > 0 ? m->detail : m->what));
	sp_session_end(s, SP_END_PROTOCOL, text);
}
