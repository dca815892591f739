/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PostgreSQL role for one session (SP_CRED_PG_ROLE). Its secret is made in the
 * vault with the session's lease; the server gets its verifier. It is a member
 * of the account's roles and nothing else: rights that are granted to a role of
 * its own fill pg_class.relacl until a table takes no more (2,444 roles). It
 * is written down before it is made; what was written down is undone, at the
 * session's end or later, until the server says that there is no such role.
 */
#include "bastion/broker/session_int.h"
#include "bastion/broker/sql.h"
#include "bastion/broker/sqlrun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROLES_AT_ONCE 4
#define BACKOFF_US 2000000LL
#define BACKOFF_MAX_US 300000000LL
#define CLAIM_US 60000000LL
#define SWEEP_S 5
#define NO_SUCH_ROLE "42704"
#define MEMBERS_MAX 16

void
sess_role_name(char dst[static 40], const uint8_t session[static 16])
{
	char hex[33];

	sp_hex(hex, session, 16);
	snprintf(dst, 40, "sp_%.24s", hex);
}

/* ------------------------------------------------------------ the statements */

/* VALID UNTIL in UTC, by the clock that the grant ends by. */
static enum sp_err
put_until(struct sp_buf *b, int64_t us)
{
	char t[SP_TIME_TEXT];

	sp_time_text(t, us, false);
	SP_TRY(sp_buf_printf(b, " VALID UNTIL "));
	return sp_sql_put_text(b, t);
}

static enum sp_err
make_text(char dst[static SP_SQLRUN_TEXT], const struct sp_session *s,
    const char *verifier)
{
	SP_BUF_AUTO b = {.max = SP_SQLRUN_TEXT};
	char one[SP_SQL_NAME_MAX + 1], limit[8];
	bool limited = sp_sql_value(s->ask.role, SP_SQL_LIMIT, 0, limit,
	    sizeof(limit));
	uint64_t n = 2;

	if (limited && sp_u64_parse(sp_span_str(limit), 1000, &n) != SP_OK)
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_printf(&b, "CREATE ROLE "));
	SP_TRY(sp_sql_put_name(&b, s->role));
	SP_TRY(sp_buf_printf(&b, " LOGIN INHERIT NOSUPERUSER NOCREATEDB "
	    "NOCREATEROLE NOREPLICATION CONNECTION LIMIT %u PASSWORD ",
	    (unsigned)n));
	SP_TRY(sp_sql_put_text(&b, verifier));
	SP_TRY(put_until(&b, s->ends_us));
	for (size_t i = 0; i < MEMBERS_MAX && sp_sql_value(s->ask.role,
	    SP_SQL_MEMBER, i, one, sizeof(one)); i++) {
		SP_TRY(sp_buf_printf(&b, i == 0 ? " IN ROLE " : ", "));
		SP_TRY(sp_sql_put_name(&b, one));
	}
	SP_TRY(sp_buf_put_u8(&b, 0));
	return sp_span_cstr(sp_span_of(sp_buf_span(&b).p, b.len - 1), dst,
	    SP_SQLRUN_TEXT);
}

/* Each is a transaction of its own: nobody logs in any more before those who are
 * in are thrown out. */
static void
drop_texts(struct sp_sqlrun *r, const char *role)
{
	static const char *const text[] = {
	    "ALTER ROLE \"%s\" NOLOGIN",
	    "GRANT \"%s\" TO CURRENT_USER",
	    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE "
	    "usename = '%s'",
	    "REASSIGN OWNED BY \"%s\" TO CURRENT_USER",
	    "DROP OWNED BY \"%s\"",
	    "DROP ROLE \"%s\"",
	};

	/* The name is ours: sp_ and hexadecimal digits. */
	for (r->n = 0; r->n < sizeof(text) / sizeof(text[0]); r->n++) {
		const char *at = strstr(text[r->n], "%s");

		snprintf(r->text[r->n], SP_SQLRUN_TEXT, "%.*s%s%s",
		    (int)(at - text[r->n]), text[r->n], role, at + 2);
		snprintf(r->done_by[r->n], sizeof(r->done_by[0]), NO_SUCH_ROLE);
	}
}

/* ------------------------------------------------------------------ making */

static void
fail(struct sp_session *s, const char *why)
{
	char text[400];

	snprintf(text, sizeof(text), "No role could be made at %s: %.300s",
	    s->ask.target_name, why);
	sp_session_end(s, SP_END_TARGET, text);
}

static void
made(void *arg, enum sp_err e, const char *text)
{
	struct sp_session *s = arg;
	struct json_object *d;

	if (s->state == SESS_LEASE) {
		d = sess_detail(s);
		sp_detail_str(d, "role", s->role);
		sp_detail_str(d, "why", e == SP_OK ? NULL : text);
		sp_flow_audit(s->b, e == SP_OK ? "sql_role_made" :
		    "sql_role_failed", s->who.name, s->id, d);
		if (e == SP_OK && sess_leg_now(s)->egr != NULL)
			sess_start_login(s);
		else
			fail(s, e == SP_OK ? "the connection was lost" : text);
	}
	sess_release(s);
}

struct making {
	struct sp_session *s;
	char verifier[257];
	struct sp_ask ask;	/* the account that makes it */
	struct sp_sqlrun run;
};

static void
written(void *arg, enum sp_err e)
{
	struct making *m = arg;
	struct sp_session *s = m->s;

	m->run.n = 1;
	sess_sql_database(&s->ask, m->run.database, sizeof(m->run.database));
	if (s->state != SESS_LEASE) {
		sess_release(s);
	} else if (e != SP_OK) {
		fail(s, sp_flow_why(e));
		sess_release(s);
	} else if (make_text(m->run.text[0], s, m->verifier) != SP_OK) {
		fail(s, "its names are not usable");
		sess_release(s);
	} else {
		sp_sqlrun_begin(s->b, &m->ask, "roles", &m->run, made, s);
	}
	free(m);
}

/* Before it is made: a crash in between leaves a row, never a role alone. */
static void
write_down(struct making *m)
{
	struct sp_session *s = m->s;
	struct sp_change *c = sp_change_new(s->b->store);
	char id[SP_UUID_TEXT], account[SP_UUID_TEXT], ends[SP_NUM_TEXT];
	char now[SP_NUM_TEXT], db[SP_SQL_NAME_MAX + 1];
	const char *p[] = {id, account, db, sp_i64_text(ends, s->ends_us),
	    sp_i64_text(now, sp_now_us())};

	sess_sql_database(&s->ask, db, sizeof(db));
	sp_uuid_text(id, s->id);
	sp_uuid_text(account, m->ask.account);
	sp_change_sql(c, "INSERT INTO session_roles (session_id, account_id, "
	    "database, ends_us, due_us) VALUES ($1::uuid, $2::uuid, $3, $4::bigint, "
	    "$5::bigint) ON CONFLICT (session_id) DO NOTHING", p, 5, 0);
	sp_change_commit(c, written, m);
}

static void
got_maker(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct making *m = arg;
	struct sp_session *s = m->s;

	if (s->state == SESS_LEASE && e == SP_OK && (sp_rows_n(r) != 1 ||
	    sp_ask_account(&m->ask, r, 0) != SP_OK ||
	    m->ask.cred_kind != SP_CRED_PG_SCRAM))
		e = SP_ERR_NOTFOUND;
	if (s->state == SESS_LEASE && e == SP_OK) {
		write_down(m);
		return;
	}
	if (s->state == SESS_LEASE)
		fail(s, e == SP_ERR_NOTFOUND ? "the account that makes its roles is "
		    "missing, or not of kind postgresql" : sp_flow_why(e));
	sess_release(s);
	free(m);
}

static void
got_verifier(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct making *m = arg;
	struct sp_session *s = m->s;
	struct sp_msg_v_sql_verifier_r v = {.ok = 0};
	char target[SP_UUID_TEXT], name[SP_NAME_MAX + 1] = "";
	const char *p[2] = {target, name};

	if (e == SP_OK)
		e = sp_dec_v_sql_verifier_r(reply->body, &v);
	if (e == SP_OK && v.ok != 1)
		e = SP_ERR_SEALED;
	if (e == SP_OK)
		e = sp_span_cstr(v.verifier, m->verifier, sizeof(m->verifier));
	if (s->state != SESS_LEASE || e != SP_OK) {
		if (s->state == SESS_LEASE)
			fail(s, sp_flow_why(e));
		sess_release(s);
		free(m);
		return;
	}
	(void)sp_sql_value(s->ask.role, SP_SQL_ADMIN, 0, name, sizeof(name));
	sp_uuid_text(target, s->ask.target);
	sp_store_load(s->b->store, SP_T_ACCOUNTS, "WHERE target_id = $1 AND "
	    "name = $2", p, 2, got_maker, m);
}

void
sess_role_make(struct sp_session *s)
{
	struct making *m = calloc(1, sizeof(*m));
	struct sp_msg_v_sql_verifier q;
	SP_BUF_AUTO body = {.max = 64};

	memcpy(q.session, s->id, 16);
	if (m == NULL || sp_enc_v_sql_verifier(&body, &q) != SP_OK) {
		free(m);
		fail(s, "out of memory");
		return;
	}
	m->s = s;
	m->ask = s->ask;
	sess_hold(s);
	sp_vault_call(s->b->vault, SP_MSG_v_sql_verifier, sp_buf_span(&body),
	    SP_MSG_v_sql_verifier_r, got_verifier, m);
}

/* ----------------------------------------------------------------- undoing */

struct undoing {
	struct sp_broker *b;
	uint8_t session[16];
	char role[40], target_id[SP_UUID_TEXT];
	int64_t tries;
	struct sp_sqlrun run;
	struct sp_ask ask;
};

/* Nothing waits for it: a row that is not up to date is tried again. */
static void
forgotten(void *arg, enum sp_err e)
{
	(void)arg;
	if (e != SP_OK)
		sp_log(SP_WARN, "role_row_late", NULL, "why=\"%s\"", sp_err_text(e));
}

static void
undone(struct undoing *u, enum sp_err e, const char *why)
{
	int64_t wait = BACKOFF_US << (u->tries < 8 ? u->tries : 8);
	char id[SP_UUID_TEXT], due[SP_NUM_TEXT], gone[SP_NUM_TEXT];
	const char *p[] = {id, sp_i64_text(due, sp_now_us() + (wait >
	    BACKOFF_MAX_US ? BACKOFF_MAX_US : wait)), e == SP_OK ?
	    sp_i64_text(gone, sp_now_us()) : NULL, e == SP_OK ? NULL : why};
	struct sp_change *c = sp_change_new(u->b->store);
	struct json_object *d = sp_detail();

	sp_uuid_text(id, u->session);
	sp_change_sql(c, "UPDATE session_roles SET due_us = $2::bigint, gone_us = "
	    "$3::bigint, why = $4, tries = tries + 1 WHERE session_id = $1::uuid",
	    p, 4, 0);
	sp_detail_str(d, "role", u->role);
	sp_detail_str(d, "target", u->ask.target_name);
	sp_detail_str(d, "why", e == SP_OK ? NULL : why);
	sp_flow_change_audit(c, e == SP_OK ? "sql_role_gone" :
	    "sql_role_left_over", "-", u->session, d);
	sp_change_commit(c, forgotten, NULL);
	u->b->sessions->n_undoing--;
	free(u);
}

static void
dropped(void *arg, enum sp_err e, const char *text)
{
	struct undoing *u = arg;

	undone(u, e, text);
}

static void
got_target(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct undoing *u = arg;

	if (e == SP_OK && (sp_rows_n(r) != 1 ||
	    sp_ask_target(&u->ask, r, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e != SP_OK) {
		undone(u, e, e == SP_ERR_NOTFOUND ? "its target is gone" :
		    sp_flow_why(e));
		return;
	}
	drop_texts(&u->run, u->role);
	sp_sqlrun_begin(u->b, &u->ask, "roles", &u->run, dropped, u);
}

static void
got_account(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct undoing *u = arg;
	const char *p[1] = {u->target_id};

	if (e == SP_OK && (sp_rows_n(r) != 1 ||
	    sp_ask_account(&u->ask, r, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e != SP_OK) {
		undone(u, e, e == SP_ERR_NOTFOUND ? "the account that made it is "
		    "gone" : sp_flow_why(e));
		return;
	}
	snprintf(u->target_id, sizeof(u->target_id), "%s",
	    sp_rows_get(r, 0, "target_id"));
	sp_store_load(u->b->store, SP_T_TARGETS, "WHERE id = $1", p, 1,
	    got_target, u);
}

static void
undo(struct sp_broker *b, const struct sp_rows *r, size_t i)
{
	struct undoing *u = calloc(1, sizeof(*u));
	const char *p[1] = {sp_rows_get(r, i, "account_id")};

	if (u == NULL || !sp_rows_uuid(r, i, "session_id", u->session) ||
	    sp_span_cstr(sp_span_str(sp_rows_get(r, i, "database")),
	    u->run.database, sizeof(u->run.database)) != SP_OK) {
		free(u);
		return;
	}
	u->b = b;
	u->tries = sp_rows_i64(r, i, "tries");
	sess_role_name(u->role, u->session);
	b->sessions->n_undoing++;
	sp_store_load(b->store, SP_T_ACCOUNTS, "WHERE id = $1", p, 1, got_account,
	    u);
}

static void
got_due(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_broker *b = arg;

	b->sessions->is_sweeping = false;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++)
		undo(b, r, i);
}

/* Those whose session is over. Claimed for a minute, so that of several bastions
 * one does it. */
void
sess_roles_sweep(struct sp_broker *b)
{
	struct sp_sessions *a = b->sessions;
	char now[SP_NUM_TEXT], then[SP_NUM_TEXT], room[SP_NUM_TEXT];
	const char *p[] = {sp_i64_text(now, sp_now_us()),
	    sp_i64_text(then, sp_now_us() + CLAIM_US),
	    sp_i64_text(room, ROLES_AT_ONCE - (int64_t)a->n_undoing)};

	a->swept_us = sp_boot_us();
	if (a->is_sweeping || a->n_undoing >= ROLES_AT_ONCE || b->stopping ||
	    !sp_vault_is_open(b->vault) || !sp_store_is_up(b->store))
		return;
	a->is_sweeping = true;
	sp_store_query(b->store, "UPDATE session_roles SET due_us = $2::bigint "
	    "WHERE session_id IN (SELECT r.session_id FROM session_roles r JOIN "
	    "sessions s ON s.id = r.session_id WHERE r.gone_us IS NULL AND r.due_us "
	    "<= $1::bigint AND (s.ended_us IS NOT NULL OR r.ends_us <= $1::bigint) "
	    "ORDER BY r.due_us LIMIT $3::int FOR UPDATE OF r SKIP LOCKED) "
	    "RETURNING session_id, account_id, database, tries", p, 3, got_due, b);
}

void
sess_roles_tick(struct sp_broker *b)
{
	if (sp_boot_us() - b->sessions->swept_us >= SWEEP_S * 1000000LL)
		sess_roles_sweep(b);
}
