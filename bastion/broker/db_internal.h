/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_DB_INTERNAL_H
#define SP_BROKER_DB_INTERNAL_H

/* Shared by db.c (jobs) and db_connect.c (connecting) only. */
#include <sys/queue.h>

#include "bastion/broker/db.h"

#define SP_DB_JOBS_MAX 8192
#define SP_DB_HOSTS_MAX 16
#define SP_DB_PLANS 512		/* more than we have texts of statements */
#define SP_DB_PLAN_NAME 16

/* A statement as this connection's server has it prepared. */
struct sp_db_plan {
	char *sql;		/* NULL: a free place */
	unsigned serial;
	enum { SP_DB_PLAN_NONE, SP_DB_PLAN_ASKED, SP_DB_PLAN_READY } state;
};
struct sp_db_stmt {
	char *sql;
	char **params;
	size_t n;
	struct sp_db_plan *asked; /* its first answer is about this one */
};

struct sp_db_job {
	TAILQ_ENTRY(sp_db_job) link;
	struct sp_db_stmt *stmts;
	size_t n, cap;
	sp_db_cb cb;
	void *arg;
	int64_t deadline_us;
	PGresult **res;
	size_t n_res;
	size_t at;		/* the statement whose answer comes next */
	struct sp_db_result result;
};
TAILQ_HEAD(sp_db_jobs, sp_db_job);

struct sp_db_host {
	char *host, *hostaddr, *port;	/* NULL: as the conninfo has it */
};

enum sp_db_state { SP_DB_WAITING, SP_DB_CONNECTING, SP_DB_SETTING, SP_DB_UP };

struct sp_db {
	struct event_base *ev;
	const char *name;
	unsigned timeout_ms;
	struct sp_db_ops ops;
	void *arg;
	enum sp_db_state state;
	PGconn *conn;
	uint64_t life;			/* counts connections */
	struct sp_db_plan plans[SP_DB_PLANS];
	unsigned n_plans;
	PQconninfoOption *options;
	struct sp_db_host hosts[SP_DB_HOSTS_MAX];
	size_t n_hosts, host, n_failed;
	unsigned backoff_ms;
	int own_backend;
	struct sp_db_jobs sent, over;
	size_t n_sent;
	struct event *ev_read, *ev_write;	/* of the connection's socket */
	struct event *ev_deadline, *ev_over, *ev_connect;
};

void sp_db_on_over(evutil_socket_t fd, short what, void *arg);
void sp_db_on_deadline(evutil_socket_t fd, short what, void *arg);
void sp_db_lost(struct sp_db *d, enum sp_err e, const char *why);
void sp_db_read(struct sp_db *d);
void sp_db_flush(struct sp_db *d);
/* Sends in any state that has a connection. */
void sp_db_send(struct sp_db *d, struct sp_db_job *j);
void sp_db_disconnect(struct sp_db *d);
/* Sends one statement, prepared where that is known; false: the connection is
 * bad. Its answers: one for what was asked, then its own. */
bool sp_db_plan_send(struct sp_db *d, struct sp_db_stmt *st);
/* The next answer to this statement; true: it was the one about its plan. */
bool sp_db_plan_take(struct sp_db_stmt *st, bool is_good);
void sp_db_plans_forget(struct sp_db *d);	/* the server has none of them */
void sp_db_plans_fini(struct sp_db *d);
/* Tries again: the next host if is_bad, else the same one first. */
void sp_db_connect_next(struct sp_db *d, bool is_bad);

#endif
