/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/db_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"

#define HOST_S 2
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define WORDS_MAX 64

static void on_poll(evutil_socket_t fd, short what, void *arg);

/* ------------------------------------------------------------ the conninfo */

static char *
part(const char *list, size_t i)
{
	const char *end;
	char *s;

	if (list == NULL || *list == '\0')
		return NULL;
	for (; i > 0; i--) {
		if ((end = strchr(list, ',')) == NULL)
			return NULL;
		list = end + 1;
	}
	end = strchrnul(list, ',');
	s = strndup(list, (size_t)(end - list));
	SP_ASSERT(s != NULL);
	return s;
}

static size_t
parts(const char *list)
{
	size_t n = 1;

	if (list == NULL || *list == '\0')
		return 0;
	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

static const char *
option(const struct sp_db *d, const char *word)
{
	for (const PQconninfoOption *o = d->options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, word) == 0)
			return o->val;
	return NULL;
}

/* libpq would try several hosts with one deadline for all of them and never
 * get past a frozen first one. */
static void
split_hosts(struct sp_db *d)
{
	const char *host = option(d, "host"), *addr = option(d, "hostaddr");
	const char *port = option(d, "port");
	size_t n = parts(host) > parts(addr) ? parts(host) : parts(addr);

	d->n_hosts = n == 0 ? 1 : n > SP_DB_HOSTS_MAX ? SP_DB_HOSTS_MAX : n;
	for (size_t i = 0; i < d->n_hosts; i++) {
		d->hosts[i].host = part(host, i);
		d->hosts[i].hostaddr = part(addr, i);
		d->hosts[i].port = part(port, parts(port) > 1 ? i : 0);
	}
}

struct words {
	const char *word[WORDS_MAX + 1], *value[WORDS_MAX + 1];
	size_t n;
};

static void
put(struct words *w, const char *word, const char *value)
{
	if (value == NULL || w->n >= WORDS_MAX)
		return;
	w->word[w->n] = word;
	w->value[w->n++] = value;
}

static bool
is_ours(const char *word)
{
	static const char *const ours[] = {"host", "hostaddr", "port",
	    "target_session_attrs", "connect_timeout", "client_encoding",
	    "replication"};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcmp(word, ours[i]) == 0)
			return true;
	return false;
}

static void
words_of(const struct sp_db *d, struct words *w)
{
	const struct sp_db_host *h = &d->hosts[d->host];

	put(w, "host", h->host);
	put(w, "hostaddr", h->hostaddr);
	put(w, "port", h->port);
	put(w, "client_encoding", "UTF8");
	put(w, "fallback_application_name", "sallyport-broker");
	if (option(d, "gssencmode") == NULL)
		put(w, "gssencmode", "disable");
	for (const PQconninfoOption *o = d->options; o->keyword != NULL; o++)
		if (!is_ours(o->keyword))
			put(w, o->keyword, o->val);
}

/* ------------------------------------------------------------- connecting */

static void
after_ms(struct sp_db *d, unsigned ms)
{
	event_add(d->ev_connect, &(struct timeval){.tv_sec = ms / 1000,
	    .tv_usec = (suseconds_t)(ms % 1000) * 1000});
}

void
sp_db_disconnect(struct sp_db *d)
{
	d->life++;
	d->state = SP_DB_WAITING;
	if (d->ev_read != NULL)
		event_free(d->ev_read);
	if (d->ev_write != NULL)
		event_free(d->ev_write);
	d->ev_read = d->ev_write = NULL;
	if (d->conn != NULL)
		PQfinish(d->conn);
	d->conn = NULL;
	sp_db_plans_forget(d);
}

void
sp_db_connect_next(struct sp_db *d, bool is_bad)
{
	unsigned ms = 0;

	d->state = SP_DB_WAITING;
	if (is_bad) {
		d->host = (d->host + 1) % d->n_hosts;
		if (++d->n_failed % d->n_hosts == 0) {
			ms = d->backoff_ms;
			d->backoff_ms = 2 * ms > BACKOFF_MAX_MS ?
			    BACKOFF_MAX_MS : 2 * ms;
		}
	}
	after_ms(d, ms);
}

static void
wait_for(struct sp_db *d, short what)
{
	d->ev_read = event_new(d->ev, PQsocket(d->conn), what, on_poll, d);
	SP_ASSERT(d->ev_read != NULL);
	event_add(d->ev_read, NULL);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct sp_db *d = arg;

	(void)fd;
	if ((what & EV_READ) != 0)
		sp_db_read(d);
	else
		sp_db_flush(d);
}

static void
on_set(void *arg, struct sp_db_result *r)
{
	struct sp_db *d = arg;

	if (r->is_unknown)
		return;		/* lost already */
	if (r->e != SP_OK) {
		sp_db_lost(d, SP_ERR_DB, r->text);
		return;
	}
	if (strcmp(PQgetvalue(r->res[1], 0, 0), "f") != 0 ||
	    strcmp(PQgetvalue(r->res[1], 0, 1), "off") != 0) {
		sp_db_lost(d, SP_ERR_DB, "it does not take writes");
		return;
	}
	event_del(d->ev_connect);
	d->state = SP_DB_UP;
	d->n_failed = 0;
	d->backoff_ms = BACKOFF_MIN_MS;
	sp_log(SP_INFO, "db_up", NULL, "connection=%s host=\"%s\"", d->name,
	    sp_vis_str(d->hosts[d->host].host));
	if (d->ops.on_up != NULL)
		d->ops.on_up(d->arg);
}

/* What our reading of columns and our deadlines rely on. The server gives up a
 * statement a little before we give up the connection. */
static void
set_up(struct sp_db *d)
{
	struct sp_db_job *j = sp_db_job_new(on_set, d);
	char timeout[24];
	const char *param = timeout;

	snprintf(timeout, sizeof(timeout), "%u", d->timeout_ms -
	    d->timeout_ms / 5);
	sp_db_job_add(j, "SELECT set_config('TimeZone', 'UTC', false),"
	    " set_config('DateStyle', 'ISO', false),"
	    " set_config('bytea_output', 'hex', false),"
	    " set_config('standard_conforming_strings', 'on', false),"
	    " set_config('default_transaction_isolation', 'read committed', false),"
	    " set_config('search_path', 'sallyport, pg_temp', false),"
	    " set_config('statement_timeout', $1, false)", &param, 1);
	sp_db_job_add(j, "SELECT pg_is_in_recovery(),"
	    " current_setting('transaction_read_only')", NULL, 0);
	d->state = SP_DB_SETTING;
	d->ev_read = event_new(d->ev, PQsocket(d->conn), EV_READ | EV_PERSIST,
	    on_socket, d);
	d->ev_write = event_new(d->ev, PQsocket(d->conn), EV_WRITE | EV_PERSIST,
	    on_socket, d);
	SP_ASSERT(d->ev_read != NULL && d->ev_write != NULL);
	event_add(d->ev_read, NULL);
	if (PQsetnonblocking(d->conn, 1) != 0 || PQenterPipelineMode(d->conn) != 1) {
		sp_db_job_free(j);
		sp_db_lost(d, SP_ERR_DB, "no pipeline mode");
		return;
	}
	sp_db_send(d, j);
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct sp_db *d = arg;

	(void)fd;
	(void)what;
	/* libpq may close this socket and open another of the same number. */
	if (d->ev_read != NULL)
		event_free(d->ev_read);
	d->ev_read = NULL;
	switch (PQconnectPoll(d->conn)) {
	case PGRES_POLLING_READING:
		wait_for(d, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		wait_for(d, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		set_up(d);
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
	default:
		sp_db_lost(d, SP_ERR_DB, PQerrorMessage(d->conn));
	}
}

/* libpq would print them; nothing here says anything that an error does not. */
static void
on_notice(void *arg, const char *text)
{
	(void)arg;
	sp_log(SP_DEBUG, "db_notice", NULL, "text=\"%s\"", sp_vis_str(text));
}

static void
begin(struct sp_db *d)
{
	struct words w = {.n = 0};

	words_of(d, &w);
	d->state = SP_DB_CONNECTING;
	d->conn = PQconnectStartParams(w.word, w.value, 0);
	if (d->conn == NULL || PQstatus(d->conn) == CONNECTION_BAD) {
		sp_db_lost(d, SP_ERR_DB, d->conn == NULL ? "out of memory" :
		    PQerrorMessage(d->conn));
		return;
	}
	PQsetNoticeProcessor(d->conn, on_notice, d);
	after_ms(d, HOST_S * 1000);
	wait_for(d, EV_WRITE);
}

static void
on_connect_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sp_db *d = arg;

	(void)fd;
	(void)what;
	if (d->state == SP_DB_WAITING)
		begin(d);
	else if (d->state != SP_DB_UP)
		sp_db_lost(d, SP_ERR_TIMEOUT, "not connected in time");
}

struct sp_db *
sp_db_new(struct event_base *ev, const char *conninfo, const char *name,
    unsigned timeout_ms, const struct sp_db_ops *ops, void *arg)
{
	struct sp_db *d = calloc(1, sizeof(*d));
	char *why = NULL;

	SP_ASSERT(d != NULL);
	*d = (struct sp_db){.ev = ev, .name = name, .timeout_ms = timeout_ms,
	    .ops = *ops, .arg = arg, .backoff_ms = BACKOFF_MIN_MS};
	d->options = PQconninfoParse(conninfo, &why);
	if (d->options == NULL) {
		sp_log(SP_ERROR, "db_conninfo", NULL, "why=\"%s\"",
		    sp_vis_str(why == NULL ? "out of memory" : why));
		PQfreemem(why);
		free(d);
		return NULL;
	}
	TAILQ_INIT(&d->sent);
	TAILQ_INIT(&d->over);
	split_hosts(d);
	d->ev_deadline = evtimer_new(ev, sp_db_on_deadline, d);
	d->ev_connect = evtimer_new(ev, on_connect_timer, d);
	d->ev_over = event_new(ev, -1, 0, sp_db_on_over, d);
	SP_ASSERT(d->ev_deadline != NULL && d->ev_connect != NULL &&
	    d->ev_over != NULL);
	after_ms(d, 0);
	return d;
}

static void
free_jobs(struct sp_db_jobs *l)
{
	struct sp_db_job *j;

	while ((j = TAILQ_FIRST(l)) != NULL) {
		TAILQ_REMOVE(l, j, link);
		sp_db_job_free(j);
	}
}

void
sp_db_free(struct sp_db *d)
{
	if (d == NULL)
		return;
	sp_db_disconnect(d);
	free_jobs(&d->sent);
	free_jobs(&d->over);
	event_free(d->ev_deadline);
	event_free(d->ev_connect);
	event_free(d->ev_over);
	for (size_t i = 0; i < d->n_hosts; i++) {
		free(d->hosts[i].host);
		free(d->hosts[i].hostaddr);
		free(d->hosts[i].port);
	}
	PQconninfoFree(d->options);
	sp_db_plans_fini(d);
	free(d);
}
