/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/ship.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"

#define SECOND 1000000LL
#define DAY_US (86400LL * SECOND)
#define COUNT_US (30 * SECOND)
#define AGAIN_MAX 6	/* doublings */
#define WISHES_MAX 64
#define FETCHED_US DAY_US	/* what was fetched stays as long */

struct wish {
	TAILQ_ENTRY(wish) link;
	struct sp_ship_wish w;
	sp_ship_cb cb;
	void *arg;
};

struct sp_shipping {
	struct sp_broker *b;
	struct event *tick;
	struct sp_ship_status st;
	bool is_asking;			/* the database, what is due */
	uint64_t id;			/* of the job that runs; 0: none */
	uint64_t last_id;
	uint8_t what, session[16];
	int64_t started_us, pause_us, count_us;	/* boot clock: not before */
	unsigned tries;			/* of this recording, that failed */
	TAILQ_HEAD(, wish) wishes;
	struct wish *granted;		/* the job is this one's */
};

/* Doubles, up to 64 times, give or take a quarter: not all at once. */
static int64_t
pause_us(const struct sp_shipping *r, unsigned failures)
{
	unsigned k = failures == 0 ? 0 : failures - 1;
	int64_t us = (int64_t)r->b->cfg.ship_retry_s * SECOND <<
	    (k < AGAIN_MAX ? k : AGAIN_MAX);

	return us * (int64_t)(750 + randombytes_uniform(501)) / 1000;
}

/* ------------------------------------------------------------------- being seen */

static void
counted(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_shipping *r = arg;

	if (e != SP_OK || sp_rows_n(rows) != 1)
		return;
	r->st.waiting = (uint64_t)sp_rows_i64(rows, 0, "waiting");
	r->st.oldest_us = sp_rows_i64(rows, 0, "oldest");
	r->st.shipped = (uint64_t)sp_rows_i64(rows, 0, "shipped");
	r->st.local = (uint64_t)sp_rows_i64(rows, 0, "local");
}

static void
count(struct sp_shipping *r)
{
	const char *p[] = {r->b->node};

	r->count_us = sp_boot_us() + COUNT_US;
	sp_store_query(r->b->store, "SELECT count(*) AS waiting, min(ended_us) AS "
	    "oldest, (SELECT count(*) FROM shipments WHERE shipped_us IS NOT NULL) "
	    "AS shipped, (SELECT count(*) FROM shipments WHERE shipped_us IS NOT "
	    "NULL AND local) AS local FROM sessions WHERE node = $1 AND ship_us "
	    "IS NOT NULL AND ended_us IS NOT NULL AND head IS NOT NULL", p, 1,
	    counted, r);
}

const struct sp_ship_status *
sp_ship_status(const struct sp_broker *b)
{
	struct sp_shipping *r = b->shipping;

	r->st.is_on = b->cfg.ship_store[0] != '\0';
	return &r->st;
}

/* ---------------------------------------------------------------- what became of it */

static void
written(void *arg, enum sp_err e)
{
	struct sp_shipping *r = arg;

	/* It is done or asked again: a job that was done once more does no harm. */
	if (e != SP_OK)
		r->pause_us = sp_boot_us() + SECOND;
	r->count_us = 0;
	event_active(r->tick, EV_TIMEOUT, 0);
}

static void
sent(struct sp_shipping *r, const struct sp_msg_ship_result *m)
{
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = sp_detail();
	char id[SP_UUID_TEXT], now[SP_NUM_TEXT], size[SP_NUM_TEXT];
	char how[SP_NUM_TEXT], hex[67] = "\\x";
	const char *p[] = {id, r->b->node, size, hex, how, now}, *one[] = {id};

	sp_uuid_text(id, r->session);
	sp_i64_text(now, sp_now_us());
	sp_i64_text(size, (int64_t)m->size);
	sp_i64_text(how, m->how);
	sp_hex(hex + 2, m->sha256, 32);
	sp_change_sql(c, "INSERT INTO shipments (session_id, node, size, sha256, "
	    "how, shipped_us) VALUES ($1::uuid, $2, $3::bigint, $4::bytea, "
	    "$5::int, $6::bigint) ON CONFLICT (session_id) DO UPDATE SET size = "
	    "EXCLUDED.size, sha256 = EXCLUDED.sha256, how = EXCLUDED.how, "
	    "shipped_us = EXCLUDED.shipped_us, error = NULL WHERE "
	    "shipments.shipped_us IS NULL", p, 6, 0);
	sp_change_sql(c, "UPDATE sessions SET ship_us = NULL WHERE id = $1::uuid",
	    one, 1, 0);
	sp_detail_i64(d, "size", (int64_t)m->size);
	sp_detail_hex(d, "sha256", m->sha256, 32);
	sp_detail_str(d, "compared", m->how == SP_SHIP_BY_DIGEST ? "digest" :
	    "read back");
	sp_flow_change_audit(c, "recording_shipped", r->b->node, r->session, d);
	sp_change_commit(c, written, r);
	sp_ledger_act(r->b->ledger, SP_ACT_SHIP, r->b->node, r->session, m->sha256,
	    "", NULL, NULL);
}

static void
dropped(struct sp_shipping *r, const struct sp_msg_ship_result *m)
{
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = sp_detail();
	char id[SP_UUID_TEXT];
	const char *p[] = {id};

	sp_uuid_text(id, r->session);
	sp_change_sql(c, "UPDATE shipments SET local = false, error = NULL WHERE "
	    "session_id = $1::uuid", p, 1, 0);
	sp_detail_str(d, "compared", m->how == SP_SHIP_BY_DIGEST ? "digest" :
	    "read back");
	sp_flow_change_audit(c, "recording_copy_removed", r->b->node, r->session, d);
	sp_change_commit(c, written, r);
}

/* Of a try that failed: this one later, and everybody after a pause, unless it is
 * the file alone. */
static void
failed(struct sp_shipping *r, const struct sp_msg_ship_result *m)
{
	struct sp_change *c;
	char id[SP_UUID_TEXT], at[SP_NUM_TEXT], text[257];
	const char *p[] = {id, r->b->node, text, at};
	bool is_file = m->err == SP_ERR_NOTFOUND;

	sp_vis(text, sizeof(text), m->text);
	sp_uuid_text(id, r->session);
	sp_i64_text(at, sp_now_us() + pause_us(r, r->tries + 1));
	snprintf(r->st.error, sizeof(r->st.error), "%s", text);
	r->st.failed_us = sp_now_us();
	if (!is_file)
		r->pause_us = sp_boot_us() + pause_us(r, ++r->st.failures);
	sp_log(SP_WARN, "ship_failed", r->session, "what=%u in_a_row=%u "
	    "tries=%u why=\"%s\"", r->what, r->st.failures, r->tries + 1, text);
	c = sp_change_new(r->b->store);
	sp_change_sql(c, "INSERT INTO shipments (session_id, node, tries, error) "
	    "VALUES ($1::uuid, $2, 1, $3) ON CONFLICT (session_id) DO UPDATE SET "
	    "tries = shipments.tries + 1, error = EXCLUDED.error, drop_us = "
	    "$4::bigint", p, 4, 0);
	sp_change_sql(c, "UPDATE sessions SET ship_us = $4::bigint WHERE id = "
	    "$1::uuid AND ship_us IS NOT NULL AND $2::text IS NOT NULL AND "
	    "$3::text IS NOT NULL", p, 4, 0);
	if (r->st.failures == 1 || is_file) {	/* the others are in the log */
		struct json_object *d = sp_detail();

		sp_detail_str(d, "why", text);
		sp_flow_change_audit(c, "ship_failed", r->b->node, r->session, d);
	}
	sp_change_commit(c, written, r);
}

static void
fulfil(struct sp_shipping *r, struct wish *w, enum sp_err e, const char *text)
{
	struct sp_change *c;
	char id[SP_UUID_TEXT], later[SP_NUM_TEXT];
	const char *p[] = {id, r->b->node, later};

	/* Who fetched it looks at it more than once. */
	sp_i64_text(later, sp_now_us() + FETCHED_US);
	if (e == SP_OK && w->w.what == SP_SHIP_FETCH) {
		sp_uuid_text(id, w->w.session);
		c = sp_change_new(r->b->store);
		sp_change_sql(c, "UPDATE shipments SET local = true, drop_us = "
		    "$3::bigint WHERE session_id = $1::uuid AND node = $2", p, 3, 0);
		sp_flow_change_audit(c, "recording_fetched", r->b->node,
		    w->w.session, NULL);
		sp_change_commit(c, written, r);
	}
	if (w->cb != NULL)
		w->cb(w->arg, e, text);
	free(w);
}

void
sp_ship_on_result(struct sp_broker *b, const struct sp_msg_ship_result *m)
{
	struct sp_shipping *r = b->shipping;
	struct wish *w = r->granted;
	char text[257];

	if (r->id == 0 || m->id != r->id)
		return;
	r->id = 0;
	r->granted = NULL;
	if (w != NULL) {
		sp_vis(text, sizeof(text), m->text);
		fulfil(r, w, m->err < SP_ERR_COUNT_ ? (enum sp_err)m->err :
		    SP_ERR_PROTO, text);
		return;
	}
	if (m->err != SP_OK) {
		failed(r, m);
		return;
	}
	r->st.failures = 0;
	r->st.error[0] = '\0';
	if (r->what == SP_SHIP_SEND)
		sent(r, m);
	else
		dropped(r, m);
}

/* ------------------------------------------------------------------- what is due */

static void
ask(struct sp_shipping *r, const struct sp_ship_wish *w)
{
	struct sp_msg_ship_job m = {.id = ++r->last_id, .what = w->what,
	    .started_us = w->started_us, .size = w->size};

	memcpy(m.session, w->session, 16);
	memcpy(m.sha256, w->sha256, 32);
	memcpy(r->session, w->session, 16);
	r->what = w->what;
	r->id = m.id;
	if (r->b->sup != NULL)
		sp_peer_sent(r->b->sup, sp_send_ship_job(&r->b->sup->link, m.id, &m,
		    NULL));
}

static void
got_due(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_shipping *r = arg;
	struct sp_ship_wish w = {.what = SP_SHIP_SEND};

	r->is_asking = false;
	if (e != SP_OK || sp_rows_n(rows) == 0 || r->id != 0) {
		if (r->id == 0)
			r->pause_us = sp_boot_us() + 2 * SECOND;
		return;
	}
	if (!sp_rows_uuid(rows, 0, "id", w.session))
		return;
	w.what = (uint8_t)sp_rows_i64(rows, 0, "what");
	w.started_us = sp_rows_i64(rows, 0, "started_us");
	r->tries = (unsigned)sp_rows_i64(rows, 0, "tries");
	ask(r, &w);
}

/* Recordings that were never tried come first. */
static void
look(struct sp_shipping *r)
{
	char now[SP_NUM_TEXT], old[SP_NUM_TEXT];
	int64_t t = sp_now_us(), days = (int64_t)r->b->cfg.ship_local_days;
	const char *p[] = {r->b->node, sp_i64_text(now, t),
	    sp_i64_text(old, days == 0 ? -1 : t - days * DAY_US)};

	r->is_asking = true;
	sp_store_query(r->b->store, "(SELECT s.id, s.started_us, 1 AS what, "
	    "coalesce(h.tries, 0) AS tries FROM sessions s LEFT JOIN shipments h "
	    "ON h.session_id = s.id WHERE s.node = $1 AND s.ended_us IS NOT NULL "
	    "AND s.ship_us <= $2::bigint AND s.head IS NOT NULL ORDER BY s.ship_us "
	    "LIMIT 1) UNION ALL (SELECT s.id, s.started_us, 2, h.tries FROM "
	    "shipments h JOIN sessions s ON s.id = h.session_id WHERE h.node = $1 "
	    "AND h.local AND h.shipped_us <= $3::bigint AND (h.drop_us IS NULL OR "
	    "h.drop_us <= $2::bigint) ORDER BY h.shipped_us LIMIT 1) LIMIT 1", p, 3,
	    got_due, r);
}

static void
grant(struct sp_shipping *r)
{
	struct wish *w = TAILQ_FIRST(&r->wishes);

	TAILQ_REMOVE(&r->wishes, w, link);
	r->granted = w;
	ask(r, &w->w);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_shipping *r = arg;
	struct sp_broker *b = r->b;
	bool is_on = b->cfg.ship_store[0] != '\0';
	int64_t now = sp_boot_us();

	(void)fd;
	(void)what;
	if (b->stopping || r->id != 0 || r->is_asking)
		return;
	if (!TAILQ_EMPTY(&r->wishes)) {
		grant(r);
		return;
	}
	if (!is_on || !sp_store_is_up(b->store) || !b->sessions->is_recovered)
		return;
	if (r->count_us <= now)
		count(r);
	if (r->pause_us <= now && sp_vault_is_open(b->vault))
		look(r);
}

void
sp_ship_wish(struct sp_broker *b, const struct sp_ship_wish *w, sp_ship_cb cb,
    void *arg)
{
	struct sp_shipping *r = b->shipping;
	struct wish *o, *n = calloc(1, sizeof(*n));
	size_t k = 0;

	TAILQ_FOREACH(o, &r->wishes, link)
		k++;
	if (n == NULL || k >= WISHES_MAX) {
		free(n);
		cb(arg, SP_ERR_FULL, "too many recordings are waited for");
		return;
	}
	*n = (struct wish){.w = *w, .cb = cb, .arg = arg};
	TAILQ_INSERT_TAIL(&r->wishes, n, link);
	event_active(r->tick, EV_TIMEOUT, 0);
}

void
sp_ship_forget(struct sp_broker *b, const void *arg)
{
	struct sp_shipping *r = b->shipping;
	struct wish *w;

	TAILQ_FOREACH(w, &r->wishes, link)
		if (w->arg == arg)
			w->cb = NULL;
	if (r->granted != NULL && r->granted->arg == arg)
		r->granted->cb = NULL;
}

struct sp_shipping *
sp_shipping_new(struct sp_broker *b)
{
	struct sp_shipping *r = calloc(1, sizeof(*r));
	struct timeval tv = {.tv_sec = 1};

	if (r == NULL)
		return NULL;
	r->b = b;
	TAILQ_INIT(&r->wishes);
	r->tick = event_new(b->ev, -1, EV_PERSIST, on_tick, r);
	if (r->tick == NULL || event_add(r->tick, &tv) != 0) {
		free(r);
		return NULL;
	}
	b->shipping = r;
	return r;
}
