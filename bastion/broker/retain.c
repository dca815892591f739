/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/retain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/ship.h"

#define SECOND 1000000LL
#define DAY_US (86400LL * SECOND)
#define ROUND_US (3600 * SECOND)	/* from one look at all to the next */
#define AGAIN_US (5 * SECOND)		/* after one that failed; doubles */
#define REFUSED_US (600 * SECOND)	/* the same, where the store refuses */
#define AGAIN_MAX 7
#define SETTLE_US (60 * SECOND)
#define PAGE "200"

struct sp_retention {
	struct sp_broker *b;
	struct event *tick;
	bool is_busy;
	int64_t next_us, settle_us;	/* boot clock: not before */
	int64_t round_us;		/* the same, of the next look at all */
	int64_t at_us;			/* where the round stands */
	char at_id[SP_UUID_TEXT];
	struct sp_retain_rules rules;
	/* the deletion that is under way */
	uint8_t session[16], head[32];
	bool has_head;
	int64_t started_us, tries;
	char rule[120];
};

static void
over(struct sp_retention *r, int64_t pause)
{
	r->is_busy = false;
	r->next_us = sp_boot_us() + pause;
	if (pause == 0)
		event_active(r->tick, EV_TIMEOUT, 0);
}

/* ------------------------------------------------------- a decision is carried out */

static void
noted(void *arg, enum sp_err e)
{
	/* What was not written down is done once more: the log has one end of it. */
	over(arg, e == SP_OK ? 0 : SECOND);
}

static void
erased(void *arg, enum sp_err e, const char *text)
{
	struct sp_retention *r = arg;
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = sp_detail();
	int64_t k = r->tries < AGAIN_MAX ? r->tries : AGAIN_MAX;
	char id[SP_UUID_TEXT], t[SP_NUM_TEXT];
	const char *p[] = {id, t, text};

	sp_uuid_text(id, r->session);
	sp_detail_str(d, "rule", r->rule);
	if (e == SP_OK) {
		sp_i64_text(t, sp_now_us());
		sp_change_sql(c, "UPDATE deletions SET done_us = $2::bigint, error = "
		    "NULL WHERE session_id = $1::uuid", p, 2, 1);
		sp_change_sql(c, "UPDATE sessions SET ship_us = NULL WHERE id = "
		    "$1::uuid", p, 1, 0);
	} else {
		sp_log(SP_WARN, "deletion_failed", r->session, "why=\"%s\"",
		    sp_vis_str(text));
		sp_i64_text(t, sp_now_us() + ((e == SP_ERR_DENIED ?
		    REFUSED_US : AGAIN_US) << k));
		sp_change_sql(c, "UPDATE deletions SET tries = tries + 1, next_us = "
		    "$2::bigint, error = $3 WHERE session_id = $1::uuid", p, 3, 1);
		sp_detail_str(d, "why", text);
	}
	if (e == SP_OK || r->tries == 0)
		sp_flow_change_audit(c, e == SP_OK ? "recording_deleted" :
		    "recording_not_deleted", r->b->node, r->session, d);
	else
		json_object_put(d);
	sp_change_commit(c, noted, r);
}

/* It stands in the transparency log, once however often it is tried: now, and not
 * before, something may go. Of a recording that is held by the leaves there it is
 * refused, whatever the database says. */
static void
logged(void *arg, enum sp_err e)
{
	struct sp_retention *r = arg;
	struct sp_ship_wish w = {.what = SP_SHIP_ERASE,
	    .started_us = r->started_us};

	if (e != SP_OK) {
		erased(r, e, e == SP_ERR_DENIED ? "the transparency log says that "
		    "it is held" : "the transparency log does not take its end");
		return;
	}
	memcpy(w.session, r->session, 16);
	sp_ship_wish(r->b, &w, erased, r);
}

static void
carry_out(struct sp_retention *r)
{
	sp_ledger_act(r->b->ledger, SP_ACT_DELETE, r->b->node, r->session,
	    r->has_head ? r->head : NULL, r->rule, logged, r);
}

static void
take_row(struct sp_retention *r, const struct sp_rows *rows, size_t i)
{
	SP_BUF_AUTO head = {.max = 64};

	(void)sp_rows_uuid(rows, i, "id", r->session);
	r->started_us = sp_rows_i64(rows, i, "started_us");
	r->has_head = sp_rows_bytes(rows, i, "head", &head) == SP_OK &&
	    head.len == 32;
	if (r->has_head)
		memcpy(r->head, sp_buf_span(&head).p, 32);
}

/* ------------------------------------------------------------------ a decision */

static void
decided(void *arg, enum sp_err e)
{
	struct sp_retention *r = arg;

	if (e == SP_OK)
		carry_out(r);
	else		/* held meanwhile, or no database: the round goes on */
		over(r, e == SP_ERR_DENIED || e == SP_ERR_STATE ||
		    e == SP_ERR_EXISTS ? 0 : 5 * SECOND);
}

/* A hold stands in the audit as well: who took its row away has deleted nothing. */
static void
decide(struct sp_retention *r, const struct sp_rows *rows, size_t i,
    const struct sp_retain_rule *k)
{
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = sp_detail();
	char id[SP_UUID_TEXT], now[SP_NUM_TEXT];
	const char *p[] = {id, r->rule, r->b->node, now};

	take_row(r, rows, i);
	r->tries = 0;
	snprintf(r->rule, sizeof(r->rule), "%s%s%s %lld days", k->what,
	    k->what[0] == '*' ? "" : "=", k->pattern, (long long)k->days);
	sp_uuid_text(id, r->session);
	sp_i64_text(now, sp_now_us());
	sp_change_sql(c, "INSERT INTO deletions (session_id, rule, by_name, "
	    "decided_us) SELECT $1::uuid, $2, $3, $4::bigint WHERE coalesce("
	    "(SELECT event FROM audit WHERE session_id = $1::uuid AND event IN "
	    "('recording_held', 'recording_released') ORDER BY at_us DESC LIMIT 1), "
	    "'') <> 'recording_held'", p, 4, 1);
	sp_detail_str(d, "rule", r->rule);
	sp_flow_change_audit(c, "recording_deletion", r->b->node, r->session, d);
	sp_change_commit(c, decided, r);
}

static void
got_page(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_retention *r = arg;
	int64_t now = sp_now_us();
	size_t n = e == SP_OK ? sp_rows_n(rows) : 0;

	if (n == 0) {
		r->at_us = 0;
		r->round_us = sp_boot_us() + (e == SP_OK ? ROUND_US : 30 * SECOND);
		over(r, 5 * SECOND);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const struct sp_retain_rule *k = sp_retain_match(&r->rules,
		    sp_rows_get(rows, i, "target_name"),
		    sp_rows_get(rows, i, "tags"), sp_rows_get(rows, i, "kind"));

		r->at_us = sp_rows_i64(rows, i, "ended_us");
		snprintf(r->at_id, sizeof(r->at_id), "%s",
		    sp_rows_get(rows, i, "id"));
		if (k == NULL || r->at_us + k->days * DAY_US > now ||
		    sp_rows_i64(rows, i, "holds") > 0 ||
		    (r->b->cfg.ship_store[0] != '\0' &&
		    sp_rows_get(rows, i, "shipped_us") == NULL))
			continue;
		decide(r, rows, i, k);
		return;
	}
	over(r, 0);
}

static void
look(struct sp_retention *r)
{
	char old[SP_NUM_TEXT], at[SP_NUM_TEXT];
	const char *p[] = {r->b->node, old, at, r->at_id, PAGE};

	sp_i64_text(old, sp_now_us() -
	    (int64_t)r->b->cfg.retention_least_days * DAY_US);
	sp_i64_text(at, r->at_us);
	if (r->at_us == 0)
		snprintf(r->at_id, sizeof(r->at_id),
		    "00000000-0000-0000-0000-000000000000");
	sp_store_query(r->b->store, SP_RETAIN_SELECT, p, 5, got_page, r);
}

/* What was decided and is not done comes first: also what a dead broker left. */
static void
got_left(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_retention *r = arg;

	if (e != SP_OK) {
		over(r, 5 * SECOND);
	} else if (sp_rows_n(rows) == 1) {
		take_row(r, rows, 0);
		r->tries = sp_rows_i64(rows, 0, "tries");
		snprintf(r->rule, sizeof(r->rule), "%s", sp_rows_get(rows, 0,
		    "rule"));
		carry_out(r);
	} else if (sp_boot_us() < r->round_us) {
		over(r, 5 * SECOND);
	} else if (sp_retain_parse(r->b->cfg.retention, &r->rules) != SP_OK) {
		sp_log(SP_ERROR, "retention", NULL, "text=\"the rules of the "
		    "configuration are none: nothing is deleted\"");
		r->round_us = sp_boot_us() + ROUND_US;
		over(r, 5 * SECOND);
	} else if (r->rules.n == 0) {
		r->round_us = sp_boot_us() + ROUND_US;
		over(r, 5 * SECOND);
	} else {
		look(r);
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_retention *r = arg;
	struct sp_broker *b = r->b;
	char now[SP_NUM_TEXT];
	const char *p[] = {b->node, now};

	(void)fd;
	(void)what;
	if (r->is_busy || b->stopping || sp_boot_us() < r->next_us ||
	    !sp_store_is_up(b->store) || !b->sessions->is_recovered)
		return;
	if (r->settle_us <= sp_boot_us()) {
		r->settle_us = sp_boot_us() + SETTLE_US;
		sp_holds_settle(b);
	}
	r->is_busy = true;
	sp_i64_text(now, sp_now_us());
	sp_store_query(b->store, "SELECT s.id, s.started_us, s.head, d.rule, d.tries "
	    "FROM deletions d JOIN sessions s ON s.id = d.session_id WHERE "
	    "d.done_us IS NULL AND d.next_us <= $2::bigint AND s.node = $1 ORDER "
	    "BY d.next_us LIMIT 1", p, 2, got_left, r);
}

struct sp_retention *
sp_retention_new(struct sp_broker *b)
{
	struct sp_retention *r = calloc(1, sizeof(*r));
	struct timeval tv = {.tv_sec = 5};

	if (r == NULL)
		return NULL;
	r->b = b;
	r->tick = event_new(b->ev, -1, EV_PERSIST, on_tick, r);
	if (r->tick == NULL || event_add(r->tick, &tv) != 0) {
		free(r);
		return NULL;
	}
	b->retention = r;
	return r;
}

void
sp_retention_reread(struct sp_broker *b)
{
	b->retention->at_us = 0;
	b->retention->next_us = b->retention->round_us = 0;
	b->retention->settle_us = 0;
	event_active(b->retention->tick, EV_TIMEOUT, 0);
}
