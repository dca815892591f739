/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"
#include "common/release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/where.h"

/*
 * The way to the target. Each leg is dialled, given its lease and logged in,
 * the hops first; each hop opens a forward to the next leg's address, and the
 * supervisor hands that over as the next one's connected socket. Where a leg
 * fails before its credential was used and an address is left, all legs are
 * taken down and come up anew; nothing of the failed ones is alive by then.
 */

struct sess_leg *
sess_leg_now(struct sp_session *s)
{
	return &s->legs[s->leg];
}

struct sess_leg *
sess_own_leg(struct sp_session *s)
{
	return &s->legs[s->n_legs - 1];
}

struct sp_session *
sess_find_leg(struct sp_broker *b, const uint8_t id[static 16],
    struct sess_leg **leg)
{
	for (struct sp_session *s = b->sessions->list; s != NULL; s = s->next)
		for (size_t i = 0; i < s->n_legs; i++)
			if (memcmp(s->legs[i].id, id, 16) == 0) {
				if (leg != NULL)
					*leg = &s->legs[i];
				return s;
			}
	return NULL;
}

/* ------------------------------------------------------------ what there is */

static bool
make_legs(struct sp_session *s, const struct sp_way *way)
{
	size_t n = way == NULL ? 1 : way->n + 1;

	if ((s->legs = calloc(n, sizeof(*s->legs))) == NULL)
		return false;
	s->n_legs = n;
	for (size_t i = 0; i < n; i++) {
		struct sess_leg *l = &s->legs[i];

		l->s = s;
		l->i = i;
		l->is_gone = true;	/* until one is there */
		sp_buf_init(&l->secret, 8192);
		sp_buf_init(&l->host_keys, 8192);
		sp_buf_init(&l->rule, SP_RULE_MAX);
		sp_buf_init(&l->challenge, SP_CHALLENGE_MAX);
		sp_buf_init(&l->approvals, 24576);
		l->ask = i + 1 == n ? &s->ask : malloc(sizeof(*l->ask));
		if (l->ask == NULL)
			return false;
		if (i + 1 == n) {
			memcpy(l->id, s->id, 16);
		} else {
			*l->ask = way->hops[i];
			sp_uuid_make(l->id);
		}
		memcpy(l->row, l->id, 16);
	}
	return true;
}

void
sess_free_legs(struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++) {
		sp_buf_fini(&s->legs[i].secret);
		sp_buf_fini(&s->legs[i].host_keys);
		sp_buf_fini(&s->legs[i].rule);
		sp_buf_fini(&s->legs[i].challenge);
		sp_buf_fini(&s->legs[i].approvals);
		if (s->legs[i].ask != &s->ask)
			free(s->legs[i].ask);
	}
	free(s->legs);
	s->legs = NULL;
	s->n_legs = 0;
}

struct legs_op {
	struct sp_session *s;
	void (*next)(struct sp_session *s);
};

static void
got_way(void *arg, enum sp_err e, const struct sp_way *way, const char *text)
{
	struct legs_op *o = arg;
	struct sp_session *s = o->s;
	char say[300];

	if (s->state == SESS_SERIAL && e == SP_OK &&
	    memcmp(way->digest, s->ask.way, sizeof(s->ask.way)) != 0) {
		e = SP_ERR_STATE;
		text = "it was changed just now; connect again";
	}
	if (s->state == SESS_SERIAL && e == SP_OK && !make_legs(s, way)) {
		e = SP_ERR_NOMEM;
		text = "out of memory";
	}
	if (s->state == SESS_SERIAL && e != SP_OK) {
		snprintf(say, sizeof(say), "The way to %s cannot be taken: %.200s.",
		    s->ask.target_name, text);
		sp_session_end(s, e == SP_ERR_DENIED ? SP_END_POLICY :
		    SP_END_BROKER, say);
	} else if (s->state == SESS_SERIAL) {
		o->next(s);
	}
	free(o);
	sess_release(s);
}

void
sess_need_legs(struct sp_session *s, void (*next)(struct sp_session *))
{
	struct legs_op *o;

	if (sp_uuid_is_nil(s->ask.via)) {
		if (make_legs(s, NULL))
			next(s);
		else
			sp_session_end(s, SP_END_BROKER, "Out of memory.");
		return;
	}
	if ((o = malloc(sizeof(*o))) == NULL) {
		sp_session_end(s, SP_END_BROKER, "Out of memory.");
		return;
	}
	*o = (struct legs_op){.s = s, .next = next};
	sess_hold(s);
	sp_way_load(s->b, &s->ask, got_way, o);
}

void
sess_drop_legs(struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++) {
		if (s->legs[i].egr != NULL)
			sp_peer_drop(s->legs[i].egr);
		s->legs[i].egr = NULL;
	}
}

bool
sess_legs_are_gone(const struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++)
		if (!s->legs[i].is_gone)
			return false;
	return true;
}

/* ---------------------------------------------------------------- the leases */

static void begin_anew(struct sp_session *s);

/* The vault ends a lease by itself at its time, and when the egress goes. */
static void
lease_ended(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_session *s = arg;

	(void)reply;
	if (e != SP_OK)
		sp_log(SP_INFO, "lease_end_unsure", s->id, "why=\"%s\"",
		    sp_err_text(e));
	s->n_ending--;
	begin_anew(s);
	sess_release(s);
}

void
sess_end_leases(struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++) {
		SP_BUF_AUTO body = {.max = 64};
		struct sp_msg_v_lease_end m;

		if (!s->legs[i].has_lease)
			continue;
		s->legs[i].has_lease = false;
		memcpy(m.session, s->legs[i].id, 16);
		if (sp_enc_v_lease_end(&body, &m) != SP_OK)
			continue;
		s->n_ending++;
		sess_hold(s);
		sp_vault_call(s->b->vault, SP_MSG_v_lease_end, sp_buf_span(&body),
		    SP_MSG_v_done, lease_ended, s);
	}
}

/* -------------------------------------------------------------------- dialling */

static bool
has_another(const struct sess_leg *l)
{
	struct sp_where a;

	return sp_ask_addr(l->ask, l->at + 1, &a) == SP_OK;
}

static bool
may_retry(const struct sp_session *s)
{
	for (size_t i = 0; i < s->n_legs; i++)
		if (has_another(&s->legs[i]))
			return true;
	return false;
}

static char *
address(const struct sess_leg *l, char t[static SP_WHERE_TEXT])
{
	struct sp_where a = {.port = 0};

	if (sp_ask_addr(l->ask, l->at, &a) != SP_OK)
		snprintf(t, SP_WHERE_TEXT, "?");
	else
		sp_where_text(t, a.host, a.port);
	return t;
}

void
sess_dial(struct sp_session *s)
{
	struct sess_leg *l = sess_leg_now(s);
	struct sp_where a = {.port = 0};
	struct sp_msg_session_dial m = {
	    .deadline_ms = (uint32_t)s->b->cfg.dial_timeout_ms};

	sess_set_state(s, SESS_DIAL);
	if (sp_ask_addr(l->ask, l->at, &a) != SP_OK) {
		sp_session_end(s, SP_END_TARGET, "The target has no usable address: "
		    "an administrator sets it again.");
		return;
	}
	memcpy(m.session, s->id, 16);
	memcpy(m.leg, l->id, 16);
	if (l->i > 0)
		memcpy(m.via, s->legs[l->i - 1].id, 16);
	m.addr = sp_span_str(a.host);
	m.port = a.port;
	m.sql = l->ask->protocol != SP_PROTO_SSH;
	m.more = l == sess_own_leg(s) && may_retry(s);
	s->has_spare = s->has_spare || m.more;
	sp_peer_sent(s->b->sup,
	    sp_send_session_dial(&s->b->sup->link, 0, &m, NULL));
}

/* Waits for everything of the first try to be over, then begins with leg 0. */
static void
begin_anew(struct sp_session *s)
{
	if (!s->is_retrying || s->n_ending > 0 || s->state != SESS_DIAL ||
	    !sess_legs_are_gone(s))
		return;
	s->is_retrying = false;
	s->leg = 0;
	for (size_t i = 0; i < s->n_legs; i++) {
		s->legs[i].is_told = false;
		if (i + 1 < s->n_legs)
			sp_uuid_make(s->legs[i].id);
	}
	sess_dial(s);
}

/* This leg's address did not work. false: there is no other. */
static bool
try_another(struct sess_leg *l)
{
	struct sp_session *s = l->s;

	if (!has_another(l) || s->state < SESS_DIAL || s->state > SESS_LOGIN)
		return false;
	l->at++;
	for (size_t i = l->i + 1; i < s->n_legs; i++)
		s->legs[i].at = 0;
	s->is_retrying = true;
	sess_set_state(s, SESS_DIAL);
	sess_drop_legs(s);
	sess_end_leases(s);
	begin_anew(s);
	return true;
}

static const char *
name_of(const struct sess_leg *l, char *dst, size_t cap)
{
	if (l->ask == &l->s->ask)
		snprintf(dst, cap, "%.32s", l->ask->target_name);
	else
		snprintf(dst, cap, "%.32s (on the way to %.32s)", l->ask->target_name,
		    l->s->ask.target_name);
	return dst;
}

void
sess_dial_failed(struct sp_session *s, const char *why)
{
	struct sess_leg *l = sess_leg_now(s);
	char at[SP_WHERE_TEXT], name[96], text[400];
	struct json_object *d;

	if (s->is_retrying)
		return;
	address(l, at);
	if (has_another(l)) {
		d = sess_detail(s);
		sp_detail_str(d, "at", l->ask->target_name);
		sp_detail_str(d, "address", at);
		sp_detail_str(d, "why", why);
		sp_flow_audit(s->b, "target_unreachable", s->who.name, s->id, d);
	}
	if (try_another(l))
		return;
	snprintf(text, sizeof(text), "%s at %s cannot be reached: %.200s.",
	    name_of(l, name, sizeof(name)), at, why);
	sp_session_end(s, SP_END_TARGET, text);
}

/* ------------------------------------------------------- what an egress says */

static void
broke(struct sess_leg *l, const char *what)
{
	struct sp_session *s = l->s;
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "peer", "egress");
	sp_detail_str(d, "what", what);
	sp_log(SP_WARN, "peer_broke_protocol", s->id, "peer=egress what=\"%s\"",
	    sp_vis_str(what));
	sp_flow_audit(s->b, "peer_broke_protocol", s->who.name, s->id, d);
	if (l->egr != NULL)
		sp_peer_drop(l->egr);
	l->egr = NULL;
	sp_session_end(s, SP_END_PROTOCOL,
	    "The connection to the target broke the rules of the bastion.");
}

/* The leg whose address this failure speaks against. */
static struct sess_leg *
to_blame(struct sess_leg *l, uint8_t code)
{
	return code == SP_EGR_FORWARD && l + 1 < l->s->legs + l->s->n_legs ?
	    l + 1 : l;
}

/* Never silently: the audit has it, and the user is told. */
static void
warn_mismatch(struct sess_leg *l, const char *at)
{
	struct sp_session *s = l->s;
	struct sp_prompt p = {.target = NULL};
	char text[400];

	snprintf(text, sizeof(text), "The host key of %.63s at %s is not the one "
	    "that is pinned. No credential was used there, and its next address is "
	    "tried. Tell an administrator.", l->ask->target_name, at);
	p.title = text;
	if (s->is_owned && s->ops.on_prompt != NULL)
		s->ops.on_prompt(s->arg, s, &p);
}

static void
on_failed(struct sess_leg *l, const struct sp_msg_egr_failed *m)
{
	struct sp_session *s = l->s;
	struct sess_leg *whose = to_blame(l, m->code);
	struct json_object *d = sess_detail(s);
	char why[600], text[512], name[96], at[SP_WHERE_TEXT];
	bool retry = s->state == SESS_LOGIN && m->code != SP_EGR_AUTH &&
	    m->code != SP_EGR_BROKEN && m->code != SP_EGR_VAULT && has_another(whose);

	sp_vis(why, sizeof(why), m->text);
	if (l == sess_own_leg(s))
		s->egr_fail = m->code;
	sp_detail_i64(d, "code", m->code);
	sp_detail_str(d, "at", whose->ask->target_name);
	sp_detail_str(d, "address", address(whose, at));
	sp_detail_span(d, "why", m->text);
	sp_flow_audit(s->b, m->code == SP_EGR_HOSTKEY ? "host_key_mismatch" :
	    "target_login_failed", s->who.name, s->id, d);
	if (m->code == SP_EGR_HOSTKEY && retry)
		warn_mismatch(whose, at);
	if (retry && try_another(whose))
		return;
	name_of(whose, name, sizeof(name));
	if (m->code == SP_EGR_HOSTKEY)
		snprintf(text, sizeof(text), "The host key of %s is not the one that "
		    "is pinned; no credential was used. Tell an administrator. "
		    "(%.300s)", name, why);
	else if (s->state == SESS_LIVE)
		snprintf(text, sizeof(text), "The way over %s was lost: %.300s", name,
		    why);
	else
		snprintf(text, sizeof(text), "The login at %s failed: %.380s", name,
		    why);
	sp_session_end(s, SP_END_TARGET, text);
}

static void
on_old(struct sess_leg *l, const struct sp_msg_egr_ready *m)
{
	struct json_object *d = sess_detail(l->s);

	sp_detail_str(d, "at", l->ask->target_name);
	sp_detail_span(d, "algorithms", m->algorithms);
	sp_flow_audit(l->s->b, "legacy_algorithms", l->s->who.name, l->s->id, d);
}

static void
on_ready(struct sess_leg *l, const struct sp_msg_egr_ready *m)
{
	struct sp_session *s = l->s;

	if (s->state != SESS_LOGIN || l != sess_leg_now(s) || s->asked) {
		broke(l, "a login that nobody asked for");
		return;
	}
	if (m->old != 0 && !l->ask->legacy) {
		broke(l, "old algorithms that are not allowed");
		return;
	}
	if (m->old != 0)
		on_old(l, m);
	l->egr->link.state = SP_ST_LIVE;
	if (l == sess_own_leg(s)) {
		sess_live(s);
		return;
	}
	s->leg++;
	sess_dial(s);
}

#define TAKE(name, call)                                                      \
	case SP_MSG_##name: {                                                 \
		struct sp_msg_##name m;                                       \
                                                                              \
		if (sp_dec_##name(k->body, &m) != SP_OK)                      \
			broke(l, "a broken " #name " message");               \
		else if (memcmp(m.session, l->id, 16) != 0)                   \
			broke(l, "another session's number");                 \
		else                                                          \
			call;                                                 \
		break;                                                        \
	}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sess_leg *l = arg;
	struct sp_session *s = l->s;

	(void)p;
	sp_packet_close_fds(k);
	sess_hold(s);
	switch (k->type) {
	TAKE(egr_ready, on_ready(l, &m))
	TAKE(egr_failed, on_failed(l, &m))
	TAKE(egr_prompt, sess_on_prompt(l, &m))
	TAKE(sql_event, sess_on_sql_event(l, &m))
	TAKE(sql_cancel, sess_on_sql_cancel(l, &m))
	default:
		broke(l, "a message that an egress does not send");
	}
	sess_release(s);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sess_leg *l = arg;
	struct sp_session *s = l->s;
	char text[200], name[96];

	(void)p;
	l->egr = NULL;
	sess_hold(s);
	if (fault != NULL && fault[0] != '\0') {
		broke(l, fault);
	} else if (l != sess_own_leg(s) && s->state <= SESS_LIVE) {
		snprintf(text, sizeof(text), "The way over %s was lost.",
		    name_of(l, name, sizeof(name)));
		sp_session_end(s, SP_END_LEG_DIED, text);
	} else if (s->state < SESS_LIVE) {
		sp_session_end(s, SP_END_LEG_DIED,
		    "The connection to the target was lost.");
	}
	/* Later the recorder ends it: what the target said last may still be on
	 * its way to a user who reads slowly. */
	sess_release(s);
}

/* ------------------------------------------------- what the supervisor says */

void
sp_session_on_dialed(struct sp_broker *b, const struct sp_msg_session_dialed *m,
    int fd)
{
	struct sp_session *s = sp_session_find(b, m->session);
	struct sess_leg *l;

	if (s == NULL || s->state != SESS_DIAL || s->is_retrying ||
	    (l = sess_leg_now(s))->egr != NULL || memcmp(m->leg, l->id, 16) != 0) {
		sp_close_fds(&fd, 1);
		return;
	}
	l->is_gone = false;
	if (sp_span_cstr(m->local_addr, l->local_addr, sizeof(l->local_addr)) !=
	    SP_OK)
		l->local_addr[0] = '\0';
	l->egr = sp_peer_new(b, fd, SP_ROLE_EGR, SP_ST_NEW, on_packet, on_end, l);
	if (l->egr == NULL) {
		sp_session_end(s, SP_END_BROKER, "Out of memory.");
		return;
	}
	sess_set_state(s, SESS_JUDGE);
	sess_judge_then_lease(s);
}

void
sess_leg_gone(struct sp_session *s, const uint8_t id[static 16], int sig)
{
	for (size_t i = 0; i < s->n_legs; i++)
		if (memcmp(s->legs[i].id, id, 16) == 0)
			s->legs[i].is_gone = true;
	if (sig != 0 && s->state <= SESS_LIVE && !s->is_retrying)
		sp_session_end(s, SP_END_LEG_DIED,
		    "The process that speaks to the target died.");
	begin_anew(s);
}

/* -------------------------------------------------------------- what is told */

void
sess_detail_way(const struct sp_session *s, struct json_object *d)
{
	struct json_object *a;

	if (s->n_legs < 2)
		return;
	a = json_object_new_array();
	for (size_t i = 0; i + 1 < s->n_legs; i++) {
		const struct sess_leg *l = &s->legs[i];
		struct json_object *o = sp_detail();
		char at[SP_WHERE_TEXT];

		sp_detail_str(o, "account", l->ask->account_name);
		sp_detail_str(o, "target", l->ask->target_name);
		sp_detail_str(o, "address", address(l, at));
		sp_detail_uuid(o, "leg", l->id);
		sp_detail_i64(o, "serial", (int64_t)l->serial);
		json_object_array_add(a, o);
	}
	json_object_object_add(d, "over", a);
}

void
sess_say_way(struct sp_session *s)
{
	struct sp_msg_session_settled settled;
	struct sp_msg_rec_note note = {.show = 0};
	struct json_object *d;
	char text[300], at[SP_WHERE_TEXT];

	for (size_t i = 0; i < s->n_legs; i++)
		sp_buf_reset(&s->legs[i].secret);
	if (s->has_spare) {
		memcpy(settled.session, s->id, 16);
		sp_peer_sent(s->b->sup, sp_send_session_settled(&s->b->sup->link, 0,
		    &settled, NULL));
	}
	if (s->n_legs == 1 && s->ask.more_addrs[0] == '\0')
		return;
	address(sess_own_leg(s), at);
	d = sess_detail(s);
	sp_detail_str(d, "address", at);
	sess_detail_way(s, d);
	sp_flow_audit(s->b, "session_connected", s->who.name, s->id, d);
	snprintf(text, sizeof(text), "connected to %s at %s%s%s", s->ask.target_name,
	    at, s->n_legs > 1 ? ", over " : "", s->n_legs > 1 ?
	    s->legs[0].ask->target_name : "");
	note.text = sp_span_str(text);
	if (s->rec != NULL)
		sp_peer_sent(s->rec, sp_send_rec_note(&s->rec->link, 0, &note, NULL));
}
