/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/ledger.h"

/*
 * The chain of this node. Each event carries the hash of the one before, so
 * one group of events is on its way at a time: a group is one transaction of
 * all that waits (up to GROUP_MAX), together with the statements of changes
 * whose events it holds. When a group is refused its members go one by one, so
 * that only the one at fault fails. When its answer is lost, the head of the
 * chain says whether it happened. A commit costs the disk and the server far more
 * than an event: what nobody waits for is held for HOLD_MS, so that the events
 * of a login go with the session's. It stands in the log at once; as long as that
 * may what a target said be off the disk.
 */
#define GROUP_MAX 64
#define QUEUE_MAX 10000
#define RETRY_MS 500
#define HOLD_MS 100	/* what nobody waits for goes with what comes next */
#define TRIES_MAX 5

static void pump(struct sp_store *s);
static void pump_gently(struct sp_store *s);
static void read_head(struct sp_store *s);

/* ------------------------------------------------------------------- items */

static void
free_item(struct sp_link_item *it)
{
	for (size_t i = 0; i < it->n_ev; i++)
		sp_event_fini(&it->ev[i]);
	free(it);
}

/* Takes it off `from` and tells whoever waits for it. */
static void
end_item(struct sp_store *s, struct sp_link_items *from,
    struct sp_link_item *it, enum sp_err e)
{
	TAILQ_REMOVE(from, it, link);
	if (from == &s->chain.queue)
		s->chain.n_queue--;
	if (it->c != NULL) {
		sp_change_done(it->c, e);	/* frees the item too */
		return;
	}
	if (it->cb != NULL)
		it->cb(it->arg, e);
	sp_reserve_done(s, it);
	free_item(it);
}

/* It is in the chain: from now on its rows have these versions. */
static void
enter_heads(struct sp_store *s, uint64_t before)
{
	struct sp_link_item *it;

	TAILQ_FOREACH(it, &s->chain.group, link)
		for (size_t i = 0; i < it->n_ev; i++)
			if (it->ev[i].rows != NULL)
				SP_ASSERT(sp_heads_enter(s->heads, it->ev[i].rows));
	sp_heads_committed(s, before, s->chain.seq, s->chain.hash);
}

static void
end_group(struct sp_store *s, enum sp_err e)
{
	struct sp_link_item *it;

	while ((it = TAILQ_FIRST(&s->chain.group)) != NULL)
		end_item(s, &s->chain.group, it, e);
}

/* All but the first `keep` go back to the front of the queue, in order. What
 * must not be sent again, or what nobody waits for any more, ends with e. */
static void
requeue_behind(struct sp_store *s, size_t keep, enum sp_err e)
{
	struct sp_link_item *it;
	size_t n = 0;

	TAILQ_FOREACH(it, &s->chain.group, link)
		n++;
	while (n-- > keep) {
		it = TAILQ_LAST(&s->chain.group, sp_link_items);
		it->tries++;
		if (it->c != NULL && (it->c->is_told || it->tries > TRIES_MAX)) {
			end_item(s, &s->chain.group, it, e);
			continue;
		}
		TAILQ_REMOVE(&s->chain.group, it, link);
		TAILQ_INSERT_HEAD(&s->chain.queue, it, link);
		s->chain.n_queue++;
	}
}

static void
requeue(struct sp_store *s, enum sp_err e)
{
	requeue_behind(s, 0, e);
}

static void
retry_later(struct sp_store *s)
{
	s->chain.state = SP_CHAIN_UNKNOWN;
	event_add(s->chain.ev_retry, &(struct timeval){
	    .tv_usec = RETRY_MS * 1000});
}

/* ------------------------------------------------------------------ groups */

static void
add_event(struct sp_store *s, struct sp_db_job *j, const struct sp_event *ev)
{
	struct sp_chain *ch = &s->chain;
	char seq[24], at[24], sid[SP_UUID_TEXT], prev[67], hash[67];
	const char *params[] = {s->b->node, seq, at, ev->event, ev->actor,
	    ev->has_session ? sid : NULL, ev->detail, prev, hash, ev->rows};
	uint8_t h[32];

	ch->next_seq++;
	sp_event_hash(h, ch->next_hash, s->b->node, ch->next_seq, ev);
	snprintf(seq, sizeof(seq), "%" PRIu64, ch->next_seq);
	snprintf(at, sizeof(at), "%" PRId64, ev->at_us);
	sp_uuid_text(sid, ev->session);
	sp_bytea_text(prev, ch->next_hash, 32);
	sp_bytea_text(hash, h, 32);
	memcpy(ch->next_hash, h, 32);
	sp_db_job_add(j, "INSERT INTO audit (node, seq, at_us, event, actor,"
	    " session_id, detail, prev, hash, rows)"
	    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", params, 10);
}

/* The chain's own constraints: somebody else wrote into our chain, or an older
 * try of ours came through late. */
static bool
is_about_chain(const struct sp_db_result *r)
{
	return strcmp(r->sqlstate, "SPA01") == 0 ||
	    strcmp(r->constraint, "audit_pkey") == 0;
}

static bool
is_about_values(const struct sp_db_result *r)
{
	return strncmp(r->sqlstate, "22", 2) == 0 ||
	    strncmp(r->sqlstate, "23", 2) == 0;
}

/* A first try may have come through after the head was read: then the chain
 * has it by now. Once for each. */
static bool
is_doubtful(struct sp_chain *ch)
{
	struct sp_link_item *it;
	bool any = false;

	TAILQ_FOREACH(it, &ch->group, link) {
		any = any || (it->tries > 0 && !it->was_doubted);
		it->was_doubted = it->was_doubted || it->tries > 0;
	}
	return any;
}

static void
refused_alone(struct sp_store *s, struct sp_db_result *r)
{
	struct sp_chain *ch = &s->chain;
	struct sp_link_item *it = TAILQ_FIRST(&ch->group);

	if (it->c == NULL && !is_about_values(r)) {
		/* No room, no rights, a server that stops: it must not be lost. */
		sp_reserve_keep(s, it);
		s->chain.is_refused = true;
		requeue(s, r->e);
		retry_later(s);
		return;
	}
	if (it->c == NULL)
		sp_log(SP_ERROR, "audit_event_refused", NULL,
		    "sqlstate=%s text=\"%s\"", r->sqlstate, sp_vis_str(r->text));
	else
		sp_log(SP_INFO, "change_refused", NULL, "sqlstate=%s text=\"%s\"",
		    r->sqlstate, sp_vis_str(r->text));
	ch->state = SP_CHAIN_IDLE;
	end_item(s, &ch->group, it, r->e);
	pump(s);
}

/* What was committed: into the transparency log too. */
static void
log_group(struct sp_store *s)
{
	struct sp_chain *ch = &s->chain;
	uint64_t seq = ch->seq;
	struct sp_link_item *it;
	uint8_t h[32], next[32];

	if (s->b->ledger == NULL)
		return;		/* a store by itself, in a test */
	memcpy(h, ch->hash, 32);
	TAILQ_FOREACH(it, &ch->group, link)
		for (size_t i = 0; i < it->n_ev; i++) {
			sp_event_hash(next, h, s->b->node, ++seq, &it->ev[i]);
			memcpy(h, next, 32);
			sp_ledger_audit(s->b->ledger, seq, h);
		}
}

static void
on_group(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;
	struct sp_chain *ch = &s->chain;
	size_t n = 0;
	uint64_t before;
	struct sp_link_item *it;

	TAILQ_FOREACH(it, &ch->group, link)
		n++;
	if (r->e == SP_OK) {
		log_group(s);
		before = ch->seq;
		ch->seq = ch->next_seq;
		memcpy(ch->hash, ch->next_hash, 32);
		ch->state = SP_CHAIN_IDLE;
		ch->is_refused = false;
		if (ch->n_alone > 0)
			ch->n_alone--;
		enter_heads(s, before);
		end_group(s, SP_OK);
		pump_gently(s);
	} else if (r->is_unknown) {
		ch->state = SP_CHAIN_UNKNOWN;
		pump(s);	/* the connection may be back already */
	} else if (r->sqlstate[0] == '\0') {
		requeue(s, r->e);	/* it was not sent */
		ch->state = SP_CHAIN_UNKNOWN;
		pump(s);
	} else if (is_about_chain(r)) {
		retry_later(s);	/* the group stays: what of it is there? */
	} else if (is_doubtful(ch)) {
		ch->state = SP_CHAIN_UNKNOWN;
		pump(s);
	} else if (n > 1) {
		requeue(s, r->e);
		ch->n_alone = n;
		ch->state = SP_CHAIN_IDLE;
		pump(s);
	} else {
		if (ch->n_alone > 0)
			ch->n_alone--;
		refused_alone(s, r);
	}
}

static void
send_group(struct sp_store *s)
{
	struct sp_chain *ch = &s->chain;
	struct sp_db_job *j = sp_db_job_new(on_group, s);
	size_t max = ch->n_alone > 0 ? 1 : GROUP_MAX;
	struct sp_link_item *it;

	ch->next_seq = ch->seq;
	memcpy(ch->next_hash, ch->hash, 32);
	for (size_t n = 0; n < max && (it = TAILQ_FIRST(&ch->queue)) != NULL; n++) {
		TAILQ_REMOVE(&ch->queue, it, link);
		ch->n_queue--;
		TAILQ_INSERT_TAIL(&ch->group, it, link);
		if (it->c != NULL)
			sp_change_statements(it->c, j);
		for (size_t i = 0; i < it->n_ev; i++)
			add_event(s, j, &it->ev[i]);
	}
	ch->state = SP_CHAIN_BUSY;
	sp_db_submit(s->db, j);
}

static void
pump(struct sp_store *s)
{
	struct sp_chain *ch = &s->chain;

	if (!sp_db_is_up(s->db))
		return;
	if (ch->state == SP_CHAIN_UNKNOWN)
		read_head(s);
	else if (ch->state == SP_CHAIN_IDLE && !TAILQ_EMPTY(&ch->queue))
		send_group(s);
}

/* At once for whoever waits; also while there is much, or trouble. */
static bool
is_urgent(const struct sp_chain *ch)
{
	const struct sp_link_item *it;

	if (ch->state != SP_CHAIN_IDLE || ch->n_alone > 0 ||
	    ch->n_queue >= GROUP_MAX)
		return true;
	TAILQ_FOREACH(it, &ch->queue, link)
		if (it->c != NULL || it->cb != NULL)
			return true;
	return false;
}

static void
pump_gently(struct sp_store *s)
{
	struct event *ev = s->chain.ev_retry;

	if (is_urgent(&s->chain))
		pump(s);
	else if (!TAILQ_EMPTY(&s->chain.queue) &&
	    !event_pending(ev, EV_TIMEOUT, NULL))
		event_add(ev, &(struct timeval){.tv_usec = HOLD_MS * 1000});
}

/* ---------------------------------------------------------------- the head */

static void
alarm_head(struct sp_store *s, const char *event, uint64_t had, uint64_t has)
{
	char detail[128];

	snprintf(detail, sizeof(detail), "{\"had\": %" PRIu64 ", \"has\": %" PRIu64
	    "}", had, has);
	sp_log(SP_ERROR, event, NULL, "had=%" PRIu64 " has=%" PRIu64, had, has);
	sp_audit(s, event, s->b->node, NULL, detail, NULL, NULL);
}

/* How many of the group are in a chain that ends so: an older try may have had
 * fewer members. 0: none. */
static size_t
count_done(struct sp_store *s, uint64_t seq, const uint8_t hash[static 32])
{
	struct sp_chain *ch = &s->chain;
	struct sp_link_item *it;
	uint64_t at = ch->seq;
	uint8_t h[32];
	size_t n = 0;

	memcpy(h, ch->hash, 32);
	TAILQ_FOREACH(it, &ch->group, link) {
		n++;
		for (size_t i = 0; i < it->n_ev; i++)
			sp_event_hash(h, h, s->b->node, ++at, &it->ev[i]);
		if (at == seq && memcmp(h, hash, 32) == 0)
			return n;
	}
	return 0;
}

/* The group whose answer was lost: did it happen? */
static void
settle(struct sp_store *s, uint64_t seq, const uint8_t hash[static 32])
{
	struct sp_chain *ch = &s->chain;
	size_t n_done = count_done(s, seq, hash);
	bool is_same = seq == ch->seq && memcmp(hash, ch->hash, 32) == 0;
	uint64_t had = ch->seq;

	requeue_behind(s, n_done, SP_ERR_TIMEOUT);
	if (n_done > 0)
		log_group(s);
	ch->seq = seq;
	memcpy(ch->hash, hash, 32);
	ch->state = SP_CHAIN_IDLE;
	if (n_done > 0) {
		enter_heads(s, had);
		end_group(s, SP_OK);
	} else if (ch->was_read && !is_same) {
		/* Rolled back, restored, or written by somebody else. */
		alarm_head(s, seq < had ? "audit_went_back" : "audit_moved",
		    had, seq);
	}
}

static bool
read_hash(const PGresult *r, int col, uint8_t hash[static 32])
{
	return !PQgetisnull(r, 0, col) &&
	    sp_bytea_parse(PQgetvalue(r, 0, col), hash, 32) == SP_OK;
}

static uint64_t
read_seq(const PGresult *r)
{
	uint64_t v = 0;

	return sp_u64_parse(sp_span_str(PQgetvalue(r, 0, 0)), INT64_MAX, &v) ==
	    SP_OK ? v : 0;
}

/* Once at start: what was signed last must still be there. */
static void
compare_signed(struct sp_store *s, const PGresult *r, uint64_t seq)
{
	uint8_t head[32], row[32];
	uint64_t signed_seq;

	if (PQntuples(r) == 0)
		return;
	signed_seq = read_seq(r);
	s->chain.signed_seq = signed_seq;
	if (!read_hash(r, 1, head) || !read_hash(r, 2, row) ||
	    memcmp(head, row, 32) != 0)
		alarm_head(s, "audit_head_mismatch", signed_seq, seq);
}

static void
on_head(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;
	struct sp_chain *ch = &s->chain;
	uint8_t hash[32] = {0};
	uint64_t seq = 0;

	if (r->e != SP_OK) {
		retry_later(s);
		return;
	}
	if (PQntuples(r->res[0]) > 0) {
		seq = read_seq(r->res[0]);
		if (!read_hash(r->res[0], 1, hash)) {
			retry_later(s);
			return;
		}
	}
	settle(s, seq, hash);
	if (!ch->was_read) {
		ch->was_read = true;
		compare_signed(s, r->res[1], seq);
	}
	pump(s);
}

static void
read_head(struct sp_store *s)
{
	struct sp_db_job *j = sp_db_job_new(on_head, s);
	const char *node = s->b->node;

	s->chain.state = SP_CHAIN_READING;
	sp_db_job_add(j, "SELECT seq, hash FROM audit WHERE node = $1"
	    " ORDER BY seq DESC LIMIT 1", &node, 1);
	sp_db_job_add(j, "SELECT h.seq, h.head, a.hash FROM audit_heads h"
	    " LEFT JOIN audit a USING (node, seq) WHERE h.node = $1"
	    " ORDER BY h.seq DESC LIMIT 1", &node, 1);
	sp_db_submit(s->db, j);
}

void
sp_chain_turn(struct sp_store *s)
{
	pump(s);
}

void
sp_audit_flush(struct sp_store *s)
{
	if (s->chain.state == SP_CHAIN_IDLE)
		pump(s);
}

/* --------------------------------------------------------------- in and out */

void
sp_chain_push(struct sp_store *s, struct sp_change *c)
{
	TAILQ_INSERT_TAIL(&s->chain.queue, c->item, link);
	s->chain.n_queue++;
	pump(s);
}

void
sp_chain_abandon(struct sp_store *s, struct sp_change *c)
{
	struct sp_link_item *it;

	/* In the group it ends when its fate is known. */
	TAILQ_FOREACH(it, &s->chain.queue, link)
		if (it->c == c) {
			end_item(s, &s->chain.queue, it, SP_ERR_TIMEOUT);
			return;
		}
}

struct sp_link_item *
sp_audit_item(struct sp_store *s, const char *event, const char *actor,
    const uint8_t *session, const char *detail)
{
	struct sp_link_item *it = calloc(1, sizeof(*it));

	(void)s;
	SP_ASSERT(it != NULL);
	it->n_ev = 1;
	sp_event_init(&it->ev[0], event, actor, session, detail);
	return it;
}

void
sp_audit_put(struct sp_store *s, struct sp_link_item *it)
{
	TAILQ_INSERT_TAIL(&s->chain.queue, it, link);
	s->chain.n_queue++;
	if (!sp_db_is_up(s->db) || s->chain.is_refused)
		sp_reserve_keep(s, it);
	/* From the loop, so that what is said in one turn goes as one group. */
	if (s->chain.state == SP_CHAIN_IDLE && is_urgent(&s->chain))
		event_active(s->chain.ev_retry, EV_TIMEOUT, 0);
	else if (s->chain.state == SP_CHAIN_IDLE)
		pump_gently(s);
}

void
sp_audit(struct sp_store *s, const char *event, const char *actor,
    const uint8_t *session, const char *detail_json, sp_done_cb cb, void *arg)
{
	struct sp_link_item *it = sp_audit_item(s, event, actor, session,
	    detail_json);

	it->cb = cb;
	it->arg = arg;
	if (s->chain.n_queue >= QUEUE_MAX) {
		sp_log(SP_ERROR, "audit_queue_full", NULL, "waiting=%zu",
		    s->chain.n_queue);
		free_item(it);
		if (cb != NULL)
			sp_later(s, cb, arg, SP_ERR_FULL);
		return;
	}
	sp_audit_put(s, it);
}

void
sp_chain_up(struct sp_store *s)
{
	if (s->chain.state != SP_CHAIN_BUSY && s->chain.state != SP_CHAIN_READING)
		s->chain.state = SP_CHAIN_UNKNOWN;
	pump(s);
}

/* Changes that were not sent yet fail at once, events wait. */
void
sp_chain_down(struct sp_store *s)
{
	struct sp_link_item *it, *next;

	TAILQ_FOREACH(it, &s->chain.group, link)
		sp_reserve_keep(s, it);
	it = TAILQ_FIRST(&s->chain.queue);

	for (; it != NULL; it = next) {
		next = TAILQ_NEXT(it, link);
		if (it->c != NULL)
			end_item(s, &s->chain.queue, it, SP_ERR_DB);
		else
			sp_reserve_keep(s, it);
	}
}

void
sp_chain_fini(struct sp_store *s)
{
	struct sp_link_items *lists[] = {&s->chain.queue, &s->chain.group};
	struct sp_link_item *it;

	for (size_t i = 0; i < 2; i++)
		while ((it = TAILQ_FIRST(lists[i])) != NULL) {
			TAILQ_REMOVE(lists[i], it, link);
			if (it->c != NULL)
				sp_change_free(it->c);
			else
				free_item(it);
		}
}
