/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_DB_H
#define SP_BROKER_DB_H

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * One connection to PostgreSQL on the event loop, in pipeline mode. A job is a
 * list of statements that go out at once and form one transaction: all of them
 * or none. Jobs are answered in the order in which they were submitted.
 *
 * The connection is made in the background: hosts of the conninfo in turn, two
 * seconds each, back-off of 50 ms to 1 s after each round; only a server that
 * takes writes is kept. A job that is not answered in time ends the connection:
 * a frozen server looks like a slow one for as long as it is frozen.
 *
 * Host names are looked up by libpq, which blocks: give addresses (hostaddr) or
 * a socket directory.
 */
struct sp_db;
struct sp_db_job;

struct sp_db_result {
	enum sp_err e;		/* SP_OK, SP_ERR_DB, SP_ERR_TIMEOUT, or what
				 * sp_db_err made of the server's refusal */
	bool is_unknown;	/* it was sent, its answer was not seen */
	char sqlstate[6];	/* "" unless the server refused */
	char constraint[64];	/* that was violated, or "" */
	char text[256];		/* the server's words; not yet made safe */
	PGresult **res;		/* one a statement when SP_OK; set to NULL
				 * what you keep */
	size_t n;
};
typedef void (*sp_db_cb)(void *arg, struct sp_db_result *r);

struct sp_db_ops {
	void (*on_up)(void *arg);	/* connected and set up */
	void (*on_down)(void *arg);	/* was up, is not */
	void (*on_notify)(void *arg, const PGnotify *n, bool is_own);
};

/* NULL for a conninfo that libpq does not understand (logged). */
struct sp_db *sp_db_new(struct event_base *ev, const char *conninfo,
    const char *name, unsigned timeout_ms, const struct sp_db_ops *ops,
    void *arg);
void sp_db_free(struct sp_db *d);	/* jobs are dropped without a call */
bool sp_db_is_up(const struct sp_db *d);
int sp_db_backend(const struct sp_db *d);	/* its process id, 0 when down */
/* Loses the connection on purpose; what is in flight fails as unknown. */
void sp_db_drop(struct sp_db *d, const char *why);
/* Notifications from this backend are our own. */
void sp_db_own_backend(struct sp_db *d, int pid);

/* Statements and parameters are copied; parameters are text or NULL. */
struct sp_db_job *sp_db_job_new(sp_db_cb cb, void *arg);
void sp_db_job_add(struct sp_db_job *j, const char *sql,
    const char *const *params, size_t n);
void sp_db_job_free(struct sp_db_job *j);
/* Takes the job. The callback is called once, always from the loop; at once
 * with SP_ERR_DB while there is no connection. */
void sp_db_submit(struct sp_db *d, struct sp_db_job *j);

/* EXISTS for a unique violation, STATE for must_affect, DENIED for checks,
 * foreign keys, triggers and missing rights, TIMEOUT, else DB. */
enum sp_err sp_db_err(const char *sqlstate);

#endif
