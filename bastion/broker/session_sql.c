/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions at databases: what their egress is told, and what it says. */
#include "bastion/broker/session_int.h"
#include "bastion/broker/sql.h"
#include "bastion/broker/sqlrun.h"

#include <stdio.h>
#include <string.h>

static void
databases(const struct sp_ask *a, char *dst, size_t cap)
{
	char one[SP_SQL_NAME_MAX + 1];
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; sp_sql_value(a->sql, SP_SQL_DATABASE, i, one,
	    sizeof(one)) && o + strlen(one) + 2 < cap; i++)
		o += (size_t)snprintf(dst + o, cap - o, "%s%s", o > 0 ? " " : "",
		    one);
}

void
sess_sql_database(const struct sp_ask *a, char *dst, size_t cap)
{
	if (!sp_sql_value(a->sql, SP_SQL_DATABASE, 0, dst, cap))
		snprintf(dst, cap, "postgres");
}

/* Nothing waits for it: a row that is not up to date is tried again. */
static void
forgotten(void *arg, enum sp_err e)
{
	(void)arg;
	if (e != SP_OK)
		sp_log(SP_WARN, "role_row_late", NULL, "why=\"%s\"", sp_err_text(e));
}

/* What the role may own is in the database that it is in. */
static void
note_database(struct sp_session *s, struct sp_span name)
{
	char id[SP_UUID_TEXT], db[SP_SQL_NAME_MAX + 1];
	const char *p[2] = {id, db};
	struct sp_change *c;

	if (s->role[0] == '\0' || sp_span_cstr(name, db, sizeof(db)) != SP_OK ||
	    db[0] == '\0')
		return;
	c = sp_change_new(s->b->store);
	sp_uuid_text(id, s->id);
	sp_change_sql(c, "UPDATE session_roles SET database = $2 WHERE "
	    "session_id = $1::uuid", p, 2, 0);
	sp_change_commit(c, forgotten, NULL);
}

const char *
sess_sql_user(const struct sp_session *s, const struct sess_leg *l)
{
	return l->ask->cred_kind == SP_CRED_PG_ROLE ? s->role :
	    l->ask->account_name;
}

void
sess_sql_start(struct sp_session *s, struct sess_leg *l)
{
	char dbs[1024];
	struct sp_msg_sql_start m = {.protocol = l->ask->protocol,
	    .method = l->ask->cred_kind, .user = sp_span_str(sess_sql_user(s, l)),
	    .pins = sp_buf_span(&l->host_keys),
	    .unbound = sp_sql_has(l->ask->sql, SP_SQL_UNBOUND),
	    .deadline_ms = (uint32_t)s->b->cfg.dial_timeout_ms};

	databases(l->ask, dbs, sizeof(dbs));
	m.databases = sp_span_str(dbs);
	memcpy(m.session, l->id, 16);
	sess_set_state(s, SESS_LOGIN);
	l->is_told = true;
	l->egr->link.state = SP_ST_READY;
	sp_peer_sent(l->egr, sp_send_sql_start(&l->egr->link, 0, &m, NULL));
}

void
sess_on_sql_event(struct sess_leg *l, const struct sp_msg_sql_event *m)
{
	struct sp_session *s = l->s;
	struct json_object *d = sess_detail(s);
	bool in = sp_span_is(m->what, "login");

	sp_detail_str(d, "protocol", sp_sql_protocol_name(l->ask->protocol));
	sp_detail_str(d, "user", sess_sql_user(s, l));
	sp_detail_span(d, in ? "database" : "why", m->detail);
	if (in) {
		note_database(s, m->detail);
		s->pg_pid = m->pid;
		s->pg_key = m->key;
		sp_detail_str(d, "channel_binding", m->bound == 1 ? "yes" : "no");
	}
	sp_flow_audit(s->b, in ? "sql_login" : sp_span_is(m->what, "refused") ?
	    "sql_refused" : sp_span_is(m->what, "hostkey") ? "host_key_mismatch" :
	    "target_login_failed", s->who.name, s->id, d);
}

/* A key is what the server gave to one connection: whose it was decides. */
static struct sp_session *
owner_of(const struct sp_session *s, uint32_t pid, uint32_t key)
{
	struct sp_session *o = s->b->sessions->list;

	while (o != NULL && (o->state != SESS_LIVE || pid == 0 ||
	    o->pg_pid != pid || o->pg_key != key ||
	    memcmp(o->who.person, s->who.person, 16) != 0 ||
	    memcmp(o->ask.target, s->ask.target, 16) != 0))
		o = o->next;
	return o;
}

void
sess_on_sql_cancel(struct sess_leg *l, const struct sp_msg_sql_cancel *m)
{
	struct sp_session *s = l->s, *o = owner_of(s, m->pid, m->key);
	struct sp_msg_sql_cancel_r r = {.ok = o != NULL || s->is_own};
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "ok", r.ok != 0 ? "yes" : "no");
	if (o != NULL)
		sp_detail_uuid(d, "of", o->id);
	sp_flow_audit(s->b, "sql_cancel", s->who.name, s->id, d);
	sp_peer_sent(l->egr, sp_send_sql_cancel_r(&l->egr->link, 0, &r, NULL));
}

/* ------------------------------------------------------- what goes on there */

static void
stopped(void *arg, enum sp_err e, const char *text)
{
	struct sp_session *s = arg;
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "why", e == SP_OK ? NULL : text);
	sp_flow_audit(s->b, e == SP_OK ? "sql_stopped" : "sql_not_stopped",
	    s->who.name, s->id, d);
	sess_release(s);
}

void
sess_sql_stop(struct sp_session *s)
{
	static struct sp_sqlrun run;	/* large, and all zero but for these */

	if (s->end_code == SP_END_NORMAL || s->b->stopping ||
	    (s->ask.cred_kind != SP_CRED_PG_SCRAM &&
	    s->ask.cred_kind != SP_CRED_MARIADB))
		return;
	run.cancel_pid = s->pg_pid;
	run.cancel_key = s->pg_key;
	sess_hold(s);
	sp_sqlrun_begin(s->b, &s->ask, "cancel", &run, stopped, s);
}
