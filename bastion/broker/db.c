/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/db_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"

enum sp_err
sp_db_err(const char *sqlstate)
{
	if (strcmp(sqlstate, "23505") == 0)
		return SP_ERR_EXISTS;
	if (strcmp(sqlstate, "SPS01") == 0)
		return SP_ERR_STATE;
	if (strcmp(sqlstate, "57014") == 0 || strcmp(sqlstate, "55P03") == 0)
		return SP_ERR_TIMEOUT;
	if (strncmp(sqlstate, "23", 2) == 0 || strncmp(sqlstate, "SPD", 3) == 0 ||
	    strcmp(sqlstate, "P0001") == 0 || strcmp(sqlstate, "42501") == 0)
		return SP_ERR_DENIED;
	return SP_ERR_DB;
}

/* ------------------------------------------------------------------ jobs */

struct sp_db_job *
sp_db_job_new(sp_db_cb cb, void *arg)
{
	struct sp_db_job *j = calloc(1, sizeof(*j));

	SP_ASSERT(j != NULL);
	j->cb = cb;
	j->arg = arg;
	return j;
}

static char *
copy(const char *s)
{
	char *t = strdup(s);

	SP_ASSERT(t != NULL);
	return t;
}

void
sp_db_job_add(struct sp_db_job *j, const char *sql, const char *const *params,
    size_t n)
{
	struct sp_db_stmt *st;

	if (j->n == j->cap) {
		size_t cap = j->cap == 0 ? 4 : 2 * j->cap;

		st = reallocarray(j->stmts, cap, sizeof(*st));
		SP_ASSERT(st != NULL);
		j->stmts = st;
		j->cap = cap;
	}
	st = &j->stmts[j->n++];
	*st = (struct sp_db_stmt){.sql = copy(sql), .n = n};
	st->params = calloc(n + 1, sizeof(*st->params));
	SP_ASSERT(st->params != NULL);
	for (size_t i = 0; i < n; i++)
		st->params[i] = params[i] == NULL ? NULL : copy(params[i]);
}

void
sp_db_job_free(struct sp_db_job *j)
{
	if (j == NULL)
		return;
	for (size_t i = 0; i < j->n; i++) {
		for (size_t k = 0; k < j->stmts[i].n; k++)
			free(j->stmts[i].params[k]);
		free(j->stmts[i].params);
		free(j->stmts[i].sql);
	}
	for (size_t i = 0; i < j->n_res; i++)
		PQclear(j->res[i]);
	free(j->res);
	free(j->stmts);
	free(j);
}

static void
answer(struct sp_db_job *j, struct sp_db_result *r)
{
	r->res = j->res;
	r->n = j->n_res;
	if (r->e == SP_OK && j->n_res != j->n)
		r->e = SP_ERR_DB;
	j->cb(j->arg, r);
	sp_db_job_free(j);
}

/* --------------------------------------------------------------- failing */

static void
fail_later(struct sp_db *d, struct sp_db_job *j, enum sp_err e, bool unknown)
{
	j->result = (struct sp_db_result){.e = e, .is_unknown = unknown};
	TAILQ_INSERT_TAIL(&d->over, j, link);
	event_active(d->ev_over, EV_TIMEOUT, 0);
}

void
sp_db_on_over(evutil_socket_t fd, short what, void *arg)
{
	struct sp_db *d = arg;
	struct sp_db_jobs now = TAILQ_HEAD_INITIALIZER(now);
	struct sp_db_job *j;

	(void)fd;
	(void)what;
	TAILQ_CONCAT(&now, &d->over, link);
	while ((j = TAILQ_FIRST(&now)) != NULL) {
		TAILQ_REMOVE(&now, j, link);
		answer(j, &j->result);
	}
}

/* The connection is over; e is what its jobs are told. */
void
sp_db_lost(struct sp_db *d, enum sp_err e, const char *why)
{
	struct sp_db_job *j;
	bool was_up = d->state == SP_DB_UP;

	sp_log(was_up ? SP_ERROR : SP_WARN, "db_lost", NULL,
	    "connection=%s host=\"%s\" why=\"%s\"", d->name,
	    sp_vis_str(d->hosts[d->host].host), sp_vis_str(why));
	sp_db_disconnect(d);
	while ((j = TAILQ_FIRST(&d->sent)) != NULL) {
		TAILQ_REMOVE(&d->sent, j, link);
		d->n_sent--;
		fail_later(d, j, e, true);
	}
	event_del(d->ev_deadline);
	sp_db_connect_next(d, !was_up || e == SP_ERR_TIMEOUT);
	if (was_up && d->ops.on_down != NULL)
		d->ops.on_down(d->arg);
}

void
sp_db_drop(struct sp_db *d, const char *why)
{
	if (d->state == SP_DB_UP)
		sp_db_lost(d, SP_ERR_DB, why);
}

static void
arm_deadline(struct sp_db *d)
{
	const struct sp_db_job *j = TAILQ_FIRST(&d->sent);
	int64_t left;

	if (j == NULL) {
		event_del(d->ev_deadline);
		return;
	}
	left = j->deadline_us - sp_boot_us();
	if (left < 0)
		left = 0;
	event_add(d->ev_deadline, &(struct timeval){
	    .tv_sec = (time_t)(left / 1000000),
	    .tv_usec = (suseconds_t)(left % 1000000)});
}

void
sp_db_on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct sp_db *d = arg;
	const struct sp_db_job *j = TAILQ_FIRST(&d->sent);

	(void)fd;
	(void)what;
	/* What has arrived meanwhile is not late: we may have been the ones
	 * who slept. */
	if (j != NULL && d->conn != NULL)
		sp_db_read(d);
	j = TAILQ_FIRST(&d->sent);
	if (j != NULL && j->deadline_us <= sp_boot_us())
		sp_db_lost(d, SP_ERR_TIMEOUT, "no answer in time");
	else
		arm_deadline(d);
}

/* --------------------------------------------------------------- sending */

static bool
send_job(struct sp_db *d, struct sp_db_job *j)
{
	for (size_t i = 0; i < j->n; i++)
		if (!sp_db_plan_send(d, &j->stmts[i]))
			return false;
	return PQpipelineSync(d->conn) == 1;
}

void
sp_db_flush(struct sp_db *d)
{
	int k = PQflush(d->conn);

	if (k < 0)
		sp_db_lost(d, SP_ERR_DB, PQerrorMessage(d->conn));
	else if (k > 0)
		event_add(d->ev_write, NULL);
	else
		event_del(d->ev_write);
}

void
sp_db_send(struct sp_db *d, struct sp_db_job *j)
{
	j->deadline_us = sp_boot_us() + (int64_t)d->timeout_ms * 1000;
	TAILQ_INSERT_TAIL(&d->sent, j, link);
	if (d->n_sent++ == 0)
		arm_deadline(d);
	if (!send_job(d, j))
		sp_db_lost(d, SP_ERR_DB, PQerrorMessage(d->conn));
	else
		sp_db_flush(d);
}

void
sp_db_submit(struct sp_db *d, struct sp_db_job *j)
{
	if (d->state == SP_DB_UP && d->n_sent < SP_DB_JOBS_MAX)
		sp_db_send(d, j);
	else
		fail_later(d, j, SP_ERR_DB, false);
}

/* --------------------------------------------------------------- reading */

static void
keep_error(struct sp_db_job *j, const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *rule = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
	struct sp_db_result *r = &j->result;

	if (r->e != SP_OK)
		return;	/* the first is the cause */
	snprintf(r->sqlstate, sizeof(r->sqlstate), "%.5s",
	    state == NULL ? "" : state);
	snprintf(r->text, sizeof(r->text), "%s", text == NULL ? "" : text);
	snprintf(r->constraint, sizeof(r->constraint), "%s",
	    rule == NULL ? "" : rule);
	r->e = sp_db_err(r->sqlstate);
}

static void
keep_result(struct sp_db_job *j, PGresult *res)
{
	PGresult **more;

	more = reallocarray(j->res, j->n_res + 1, sizeof(*more));
	SP_ASSERT(more != NULL);
	j->res = more;
	j->res[j->n_res++] = res;
}

/* Class 57P (shut down, killed) and read-only: the server, not the statement. */
static bool
is_fatal(const char *sqlstate)
{
	return strncmp(sqlstate, "57P", 3) == 0 || strcmp(sqlstate, "25006") == 0;
}

/* Somebody discarded them, or changed a table under them. */
static bool
is_about_plans(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "0A000") == 0;
}

static void
end_job(struct sp_db *d, struct sp_db_job *j)
{
	TAILQ_REMOVE(&d->sent, j, link);
	d->n_sent--;
	arm_deadline(d);
	if (is_fatal(j->result.sqlstate)) {
		fail_later(d, j, SP_ERR_DB, true);
		sp_db_lost(d, SP_ERR_DB, "the server does not take writes");
		return;
	}
	if (is_about_plans(j->result.sqlstate))
		sp_db_plans_forget(d);
	if (j->result.e == SP_ERR_DB || j->result.e == SP_ERR_TIMEOUT ||
	    strcmp(j->result.sqlstate, "42501") == 0)
		sp_log(SP_ERROR, "db_error", NULL, "sqlstate=%s text=\"%s\" sql=\"%.200s\"",
		    j->result.sqlstate, sp_vis_str(j->result.text),
		    j->n > 0 ? j->stmts[0].sql : "");
	answer(j, &j->result);
}

/* One result of the oldest job. */
static void
take_result(struct sp_db *d, PGresult *res)
{
	struct sp_db_job *j = TAILQ_FIRST(&d->sent);
	ExecStatusType st = PQresultStatus(res);
	bool ok = st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK;
	bool of_plan = st != PGRES_PIPELINE_SYNC && j->at < j->n &&
	    sp_db_plan_take(&j->stmts[j->at], ok);

	if (ok && !of_plan) {
		j->at++;
		keep_result(j, res);
		return;
	}
	if (ok) {
		PQclear(res);
		return;
	}
	if (st != PGRES_PIPELINE_SYNC && !of_plan)
		j->at++;
	if (st != PGRES_PIPELINE_SYNC) {
		keep_error(j, res);
		if (j->result.e == SP_OK)
			j->result.e = SP_ERR_DB;
	}
	PQclear(res);
	if (st == PGRES_PIPELINE_SYNC)
		end_job(d, j);
}

static void
take_notifies(struct sp_db *d)
{
	PGnotify *n;

	while (d->conn != NULL && (n = PQnotifies(d->conn)) != NULL) {
		if (d->ops.on_notify != NULL)
			d->ops.on_notify(d->arg, n, n->be_pid == d->own_backend);
		PQfreemem(n);
	}
}

void
sp_db_read(struct sp_db *d)
{
	uint64_t life = d->life;
	unsigned nothing = 0;

	if (PQconsumeInput(d->conn) != 1) {
		sp_db_lost(d, SP_ERR_DB, PQerrorMessage(d->conn));
		return;
	}
	take_notifies(d);
	/* A callback may lose this connection; another one may be up then. */
	while (d->life == life && d->n_sent > 0 && !PQisBusy(d->conn)) {
		PGresult *res = PQgetResult(d->conn);

		/* One stands between two statements, more say nothing. */
		if (res == NULL && ++nothing > 1)
			break;
		if (res == NULL)
			continue;
		nothing = 0;
		take_result(d, res);
	}
	if (d->life == life && PQstatus(d->conn) == CONNECTION_BAD)
		sp_db_lost(d, SP_ERR_DB, PQerrorMessage(d->conn));
	if (d->life == life)
		take_notifies(d);
	if (d->life == life)
		sp_db_flush(d);
}

int
sp_db_backend(const struct sp_db *d)
{
	return d->state == SP_DB_UP ? PQbackendPID(d->conn) : 0;
}

bool
sp_db_is_up(const struct sp_db *d)
{
	return d->state == SP_DB_UP;
}

void
sp_db_own_backend(struct sp_db *d, int pid)
{
	d->own_backend = pid;
}
