/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROTATION_US (5LL * 60 * 1000000)	/* one login of it, at most */
#define OWN_US (5LL * 60 * 1000000)	/* a session of the bastion's own */

static const char *const state_names[SESS_N_STATES_] = {
    [SESS_SERIAL] = "serial", [SESS_SPAWN] = "spawn",
    [SESS_REC_OPEN] = "rec_open", [SESS_CERT] = "cert",
    [SESS_REC_READY] = "rec_ready", [SESS_WRITE] = "write",
    [SESS_DIAL] = "dial", [SESS_JUDGE] = "judge", [SESS_LEASE] = "lease",
    [SESS_LOGIN] = "login", [SESS_LIVE] = "live", [SESS_ENDING] = "ending",
    [SESS_KILLED] = "killed", [SESS_RECOVER] = "recover", [SESS_SIGN] = "sign",
    [SESS_CLOSE] = "close", [SESS_LEAVE] = "leave", [SESS_OVER] = "over"};

uint64_t
sp_flow_next_id(struct sp_broker *b)
{
	return ++b->sessions->last_id;
}

size_t
sp_session_count(const struct sp_broker *b)
{
	return b->sessions->n;
}

void
sess_hold(struct sp_session *s)
{
	s->refs++;
}

static void
sess_rotation_free(struct sess_rotation *w)
{
	if (w == NULL)
		return;
	sp_buf_fini(&w->sealed);
	sp_buf_fini(&w->wish);
	free(w);
}

void
sess_release(struct sp_session *s)
{
	SP_ASSERT(s->refs > 0);
	if (--s->refs > 0)
		return;
	SP_ASSERT(s->state == SESS_OVER);
	event_free(s->deadline);
	sess_free_legs(s);
	sess_rotation_free(s->rotation);
	free(s->held);
	free(s);
}

/* Milliseconds that a state may last; 0: as long as it likes. */
static int64_t
deadline_of(const struct sp_session *s, enum session_state st)
{
	int64_t dial = (int64_t)s->b->cfg.dial_timeout_ms;

	switch (st) {
	case SESS_LIVE:
	case SESS_OVER:
	case SESS_RECOVER:	/* a recovery has its own */
	case SESS_N_STATES_:
		return 0;
	case SESS_DIAL:
	case SESS_LOGIN:
		return dial + 2000;
	case SESS_LEASE:	/* a role may be made meanwhile */
		return s->role[0] != '\0' ? 40000 : 8000;
	case SESS_ENDING:
	case SESS_LEAVE:
		return 1500;
	case SESS_KILLED:
		return 1000;
	case SESS_SERIAL:
	case SESS_SPAWN:
	case SESS_REC_OPEN:
	case SESS_CERT:
	case SESS_REC_READY:
	case SESS_WRITE:
	case SESS_JUDGE:
	case SESS_SIGN:
	case SESS_CLOSE:
		break;
	}
	return 8000;
}

static void
unlist(struct sp_session *s)
{
	struct sp_session **at = &s->b->sessions->list;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->b->sessions->n--;
}

static void
drop_peers(struct sp_session *s)
{
	if (s->rec != NULL)
		sp_peer_drop(s->rec);
	s->rec = NULL;
	sess_drop_legs(s);
}

/* The one setter of a session's state; what begins and ends with a state is
 * here. */
void
sess_set_state(struct sp_session *s, enum session_state st)
{
	int64_t ms = deadline_of(s, st);
	struct timeval tv;

	/* Only while its way is made does a session go back: to the next leg. */
	SP_ASSERT(st > s->state || (st == SESS_SERIAL && s->state == SESS_SERIAL) ||
	    (st == SESS_DIAL && s->state <= SESS_LOGIN));
	sp_log(SP_DEBUG, "session_state", s->id, "from=%s to=%s",
	    state_names[s->state], state_names[st]);
	s->state = st;
	event_del(s->deadline);
	if (ms > 0) {
		tv.tv_sec = (time_t)(ms / 1000);
		tv.tv_usec = (suseconds_t)(ms % 1000 * 1000);
		event_add(s->deadline, &tv);
	}
	if (st >= SESS_ENDING && s->stream >= 0) {
		sp_close_fds(&s->stream, 1);
		s->stream = -1;
	}
	if (s->rec != NULL && st >= SESS_REC_OPEN)
		s->rec->link.state = st < SESS_CERT ? SP_ST_NEW :
		    st < SESS_LIVE ? SP_ST_READY :
		    st == SESS_LIVE ? SP_ST_LIVE : SP_ST_ENDING;
	if (st == SESS_LEAVE && s->role[0] != '\0')
		sess_roles_sweep(s->b);
	else if (st == SESS_LEAVE && s->pg_pid != 0 && !s->is_own)
		sess_sql_stop(s);
	if (st == SESS_OVER) {
		drop_peers(s);
		unlist(s);
		sess_tell_end(s);
		sess_release(s);
	}
}

struct json_object *
sess_detail(const struct sp_session *s)
{
	struct json_object *d = sp_detail();

	sp_detail_str(d, "person", s->who.name);
	sp_detail_str(d, "account", s->ask.account_name);
	sp_detail_str(d, "target", s->ask.target_name);
	sp_detail_str(d, "addr", s->who.addr);
	return d;
}

void
sess_tell_end(struct sp_session *s)
{
	if (!s->is_owned)
		return;
	s->is_owned = false;
	s->ops.on_end(s->arg, s, s->end_code, s->end_text);
}

void
sess_kill(struct sp_session *s)
{
	struct sp_msg_session_kill m;

	memcpy(m.session, s->id, 16);
	sp_peer_sent(s->b->sup,
	    sp_send_session_kill(&s->b->sup->link, 0, &m, NULL));
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sess_on_deadline(arg);
}

static struct sp_session *
new_session(struct sp_broker *b, const struct sp_ask *ask,
    const struct sp_session_ops *ops, void *arg)
{
	struct sp_session *s = calloc(1, sizeof(*s));

	if (s == NULL || b->stopping ||
	    (s->deadline = event_new(b->ev, -1, 0, on_deadline, s)) == NULL) {
		free(s);
		return NULL;
	}
	s->b = b;
	s->refs = 1;
	s->stream = -1;
	s->ops = *ops;
	s->arg = arg;
	s->is_owned = true;
	s->ask = *ask;
	snprintf(s->policy_hash, sizeof(s->policy_hash), "%s", b->policy_hash);
	sp_uuid_make(s->id);
	s->next = b->sessions->list;
	b->sessions->list = s;
	b->sessions->n++;
	return s;
}

struct sp_session *
sp_session_begin_own(struct sp_broker *b, const char *what,
    uint32_t rights, const struct sp_ask *ask, const struct sp_session_ops *ops,
    void *arg)
{
	static const struct sp_rules at_sql = {.rights = SP_RIGHT_SQL},
	    at_exec = {.rights = SP_RIGHT_EXEC};
	const struct sp_rules *rules = rights == SP_RIGHT_EXEC ? &at_exec : &at_sql;
	SP_BUF_AUTO blob = {.max = SP_POLICY_RULES_MAX};
	struct sp_session *s = new_session(b, ask, ops, arg);

	if (s == NULL)
		return NULL;
	if (sp_rules_encode(&blob, rules) == SP_OK &&
	    blob.len <= sizeof(s->j.verdict.rules)) {
		s->j.verdict.n_rules = (uint16_t)blob.len;
		memcpy(s->j.verdict.rules, sp_buf_span(&blob).p, blob.len);
	}
	s->is_own = true;
	s->kind = rights == SP_RIGHT_EXEC ? what : NULL;
	s->who.is_host = true;
	snprintf(s->who.name, sizeof(s->who.name), "%s", what);
	snprintf(s->who.addr, sizeof(s->who.addr), "local");
	snprintf(s->j.verdict.rule, sizeof(s->j.verdict.rule), "%s", what);
	s->j.verdict.allow = true;
	s->j.verdict.rights = rules->rights;
	s->j.verdict.longest_us = OWN_US;
	sess_begin(s);
	return s;
}

struct sp_session *
sp_session_begin(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_judgement *j,
    const struct sp_session_ops *ops, void *arg)
{
	struct sp_session *s = new_session(b, ask, ops, arg);

	if (s == NULL)
		return NULL;
	s->who = *who;
	s->j = *j;
	sess_begin(s);
	return s;
}

struct sp_session *
sp_session_begin_rotation(struct sp_broker *b, const struct sp_ask *ask,
    struct sess_rotation *w, const struct sp_session_ops *ops, void *arg)
{
	static const struct sp_rules rules = {.rights = SP_RIGHT_ROTATE};
	SP_BUF_AUTO blob = {.max = SP_RULES_ENCODED_MAX};
	struct sp_session *s = new_session(b, ask, ops, arg);

	if (s == NULL || sp_rules_encode(&blob, &rules) != SP_OK ||
	    blob.len > sizeof(s->j.verdict.rules)) {
		SP_ASSERT(s == NULL);
		sess_rotation_free(w);
		return NULL;
	}
	s->rotation = w;
	s->kind = "rotation";
	snprintf(s->who.name, sizeof(s->who.name), "rotation");
	snprintf(s->who.addr, sizeof(s->who.addr), "local");
	snprintf(s->j.verdict.rule, sizeof(s->j.verdict.rule), "rotation");
	s->j.verdict.allow = true;
	s->j.verdict.longest_us = ROTATION_US;
	s->j.verdict.n_rules = (uint16_t)blob.len;
	memcpy(s->j.verdict.rules, sp_buf_span(&blob).p, blob.len);
	sess_begin(s);
	return s;
}

void
sp_session_forget(struct sp_session *s)
{
	s->is_owned = false;
	if (s->state < SESS_LIVE)
		sp_session_end(s, SP_END_NORMAL, "the user left before it began");
}

struct sp_session *
sp_session_find(struct sp_broker *b, const uint8_t id[static 16])
{
	for (struct sp_session *s = b->sessions->list; s != NULL; s = s->next)
		if (memcmp(s->id, id, 16) == 0)
			return s;
	return NULL;
}

struct sp_session *
sp_session_find_prefix(struct sp_broker *b, const char *prefix)
{
	struct sp_session *found = NULL;
	size_t n = strlen(prefix);
	char t[SP_UUID_TEXT];

	if (n < 4)
		return NULL;
	for (struct sp_session *s = b->sessions->list; s != NULL; s = s->next) {
		if (s->state >= SESS_ENDING)
			continue;
		sp_uuid_text(t, s->id);
		if (strncmp(t, prefix, n) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = s;
	}
	return found;
}

const uint8_t *
sp_session_id(const struct sp_session *s)
{
	return s->id;
}

const uint8_t *
sp_session_person_id(const struct sp_session *s)
{
	return s->who.person;
}

bool
sp_session_is_held(const struct sp_session *s)
{
	return s->is_held;
}

size_t
sp_session_end_where(struct sp_broker *b, const uint8_t *grant,
    const uint8_t *person, const uint8_t *target, uint8_t end_code,
    const char *text)
{
	struct sp_session *next;
	size_t n = 0;

	for (struct sp_session *s = b->sessions->list; s != NULL; s = next) {
		next = s->next;
		if (s->state >= SESS_ENDING ||
		    (grant != NULL && memcmp(grant, s->j.grant, 16) != 0) ||
		    (person != NULL && memcmp(person, s->who.person, 16) != 0) ||
		    (target != NULL && memcmp(target, s->ask.target, 16) != 0))
			continue;
		sess_hold(s);
		sp_session_end(s, end_code, text);
		next = s->next;
		sess_release(s);
		n++;
	}
	return n;
}
