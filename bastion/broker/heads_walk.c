/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/heads.h"

/*
 * Reading on in the chains: from where each node's was read to, every event is
 * hashed and linked, and the versions that it carries are entered. At first the
 * place itself is compared: a chain that does not have it any more was rolled
 * back or written anew; it is told, and what it says from there on is not
 * believed.
 */
#define NODES_SQL                                                             \
	"WITH RECURSIVE a AS ("                                               \
	"(SELECT node FROM audit ORDER BY node LIMIT 1) UNION ALL"            \
	" SELECT (SELECT node FROM audit WHERE node > a.node ORDER BY node"   \
	" LIMIT 1) FROM a WHERE a.node IS NOT NULL)"                          \
	" SELECT node, (SELECT max(seq) FROM audit WHERE audit.node = a.node)" \
	" FROM a WHERE node IS NOT NULL ORDER BY node"
#define PLACE_SQL "SELECT hash FROM audit WHERE node = $1 AND seq = $2::bigint"
#define ROWS_SQL                                                              \
	"SELECT seq, at_us, event, actor, session_id, detail, prev, hash, rows" \
	" FROM audit WHERE node = $1 AND seq > $2::bigint ORDER BY seq LIMIT 1000"
enum { SEQ, AT, EVENT, ACTOR, SESSION, DETAIL, PREV, HASH, ROWS };
#define BATCH 1000

struct waiter {
	LIST_ENTRY(waiter) link;
	sp_done_cb cb;
	void *arg;
};
struct sp_heads_walk {
	struct sp_store *s;
	LIST_HEAD(, waiter) waiters, next;	/* of this walk; of one after it */
	bool is_running, is_checked;	/* places compared since the connection */
	PGresult *nodes;
	int node;
	struct sp_heads_node *n;
	uint64_t place;		/* asked about; n itself goes on meanwhile */
	uint8_t place_hash[32];
};

static void walk_node(struct sp_heads_walk *w);
static void begin(struct sp_heads_walk *w);

/* --------------------------------------------------------- what events carry */

char *
sp_heads_text(const struct sp_change *c)
{
	json_object *a = json_object_new_array();
	char id[SP_UUID_TEXT], hex[65], *text;

	for (size_t i = 0; i < c->n_ops; i++) {
		const struct sp_op *o = &c->ops[i];
		json_object *r;
		bool gone = o->kind == SP_OP_DELETE || o->kind == SP_OP_GONE;
		int owner;

		if (o->kind == SP_OP_SQL)
			continue;
		r = json_object_new_array();
		sp_uuid_text(id, o->id);
		sp_hex(hex, o->seal, 32);
		owner = sp_table_owner(o->t);
		json_object_array_add(r, json_object_new_string(sp_tables[o->t].name));
		json_object_array_add(r, json_object_new_string(id));
		json_object_array_add(r, json_object_new_int64((int64_t)o->ver + 1));
		json_object_array_add(r, gone ? NULL : json_object_new_string(hex));
		if (!gone && owner >= 0 && o->values[owner] != NULL)
			json_object_array_add(r,
			    json_object_new_string(o->values[owner]));
		json_object_array_add(a, r);
	}
	text = json_object_array_length(a) == 0 ? NULL :
	    strdup(json_object_to_json_string_ext(a, JSON_C_TO_STRING_PLAIN));
	json_object_put(a);
	return text;
}

static const char *
word(const json_object *r, size_t i)
{
	json_object *o = json_object_array_get_idx(r, i);

	return json_object_is_type(o, json_type_string) ?
	    json_object_get_string(o) : NULL;
}

static bool
enter_one(struct sp_heads *h, const json_object *r)
{
	const char *table, *id, *hex, *who;
	uint8_t u[16], seal[32], owner[16];
	int64_t ver;
	size_t t;

	if (!json_object_is_type(r, json_type_array) ||
	    (table = word(r, 0)) == NULL || (id = word(r, 1)) == NULL ||
	    sp_uuid_parse(u, sp_span_str(id)) != SP_OK ||
	    (ver = json_object_get_int64(json_object_array_get_idx(r, 2))) <= 0)
		return false;
	hex = word(r, 3);
	who = word(r, 4);
	for (t = 0; t < SP_T_COUNT_; t++)
		if (strcmp(sp_tables[t].name, table) == 0)
			break;
	if (t == SP_T_COUNT_ ||
	    (hex != NULL && sp_unhex(seal, 32, sp_span_str(hex)) != SP_OK) ||
	    (who != NULL && sp_uuid_parse(owner, sp_span_str(who)) != SP_OK))
		return false;
	sp_heads_put(h, (enum sp_table)t, u, (uint64_t)ver,
	    hex == NULL ? NULL : seal, who == NULL ? NULL : owner, hex == NULL);
	return true;
}

bool
sp_heads_enter(struct sp_heads *h, const char *rows)
{
	json_object *a = json_tokener_parse(rows);
	bool ok = json_object_is_type(a, json_type_array);

	for (size_t i = 0; ok && i < json_object_array_length(a); i++)
		ok = enter_one(h, json_object_array_get_idx(a, i));
	json_object_put(a);
	return ok;
}

/* ------------------------------------------------------------------ the walk */

static void
done(struct sp_heads_walk *w, enum sp_err e)
{
	struct waiter *x;

	PQclear(w->nodes);
	w->nodes = NULL;
	w->is_running = false;
	if (e == SP_OK) {
		w->is_checked = true;
		sp_heads_save(w->s->heads);
	}
	while ((x = LIST_FIRST(&w->waiters)) != NULL) {
		LIST_REMOVE(x, link);
		x->cb(x->arg, e);
		free(x);
	}
	if (LIST_EMPTY(&w->next))
		return;
	while ((x = LIST_FIRST(&w->next)) != NULL) {
		LIST_REMOVE(x, link);
		LIST_INSERT_HEAD(&w->waiters, x, link);
	}
	begin(w);
}

static void
lost(struct sp_heads_walk *w, const char *why, uint64_t seq)
{
	json_object *d = json_object_new_object();

	json_object_object_add(d, "node", json_object_new_string(w->n->name));
	json_object_object_add(d, "seq", json_object_new_int64((int64_t)seq));
	json_object_object_add(d, "why", json_object_new_string(why));
	sp_log(SP_ERROR, "audit_rolled_back", NULL, "node=%s seq=%" PRIu64
	    " why=\"%s\"", sp_vis_str(w->n->name), seq, why);
	sp_audit(w->s, "audit_rolled_back", w->s->b->node, NULL,
	    json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN), NULL, NULL);
	json_object_put(d);
	w->n->is_lost = true;
}

static void
next_node(struct sp_heads_walk *w)
{
	w->node++;
	walk_node(w);
}

static char *
cell(const PGresult *r, int row, int col)
{
	return PQgetisnull(r, row, col) ? NULL : PQgetvalue(r, row, col);
}

static uint64_t
number(const PGresult *r, int row, int col)
{
	uint64_t v = 0;

	return sp_u64_parse(sp_span_str(PQgetvalue(r, row, col)), INT64_MAX,
	    &v) == SP_OK ? v : 0;
}

/* NULL: it goes on where we were, and was entered. */
static const char *
enter_event(struct sp_heads_walk *w, const PGresult *r, int row)
{
	uint64_t seq = number(r, row, SEQ);
	struct sp_event ev = {.event = cell(r, row, EVENT),
	    .actor = cell(r, row, ACTOR), .detail = cell(r, row, DETAIL),
	    .rows = cell(r, row, ROWS), .at_us = (int64_t)number(r, row, AT)};
	const char *sid = cell(r, row, SESSION);
	uint8_t hash[32], real[32];

	if (seq <= w->n->seq)
		return NULL;	/* we wrote it meanwhile */
	if (seq != w->n->seq + 1)
		return "events are missing";
	ev.has_session = sid != NULL;
	if ((sid != NULL && sp_uuid_parse(ev.session, sp_span_str(sid)) != SP_OK) ||
	    sp_bytea_parse(PQgetvalue(r, row, HASH), hash, 32) != SP_OK)
		return "an event cannot be read";
	sp_event_hash(real, w->n->hash, w->n->name, seq, &ev);
	if (memcmp(real, hash, 32) != 0)
		return "an event was changed";
	if (ev.rows != NULL && !sp_heads_enter(w->s->heads, ev.rows))
		return "the versions in an event cannot be read";
	if (ev.rows != NULL)
		sp_ahead_forget(w->s);	/* answers of before */
	if (strcmp(ev.event, "row_heads_begun") == 0)
		sp_heads_begin(w->s->heads);
	w->n->seq = seq;
	memcpy(w->n->hash, hash, 32);
	return NULL;
}

static void
on_rows(void *arg, struct sp_db_result *r)
{
	struct sp_heads_walk *w = arg;
	int n;

	if (r->e != SP_OK) {
		done(w, r->e);
		return;
	}
	n = PQntuples(r->res[0]);
	for (int i = 0; i < n; i++) {
		const char *why = enter_event(w, r->res[0], i);

		if (why != NULL) {
			lost(w, why, number(r->res[0], i, SEQ));
			next_node(w);
			return;
		}
	}
	if (n == BATCH)
		walk_node(w);
	else
		next_node(w);
}

static void
ask_rows(struct sp_heads_walk *w)
{
	struct sp_db_job *j = sp_db_job_new(on_rows, w);
	char seq[24];
	const char *p[] = {w->n->name, seq};

	snprintf(seq, sizeof(seq), "%" PRIu64, w->n->seq);
	sp_db_job_add(j, ROWS_SQL, p, 2);
	sp_db_submit(w->s->db, j);
}

static void
on_place(void *arg, struct sp_db_result *r)
{
	struct sp_heads_walk *w = arg;
	uint8_t hash[32];

	if (r->e != SP_OK) {
		done(w, r->e);
	} else if (PQntuples(r->res[0]) != 1) {
		lost(w, "the chain is shorter than it was", w->place);
		next_node(w);
	} else if (sp_bytea_parse(PQgetvalue(r->res[0], 0, 0), hash, 32) !=
	    SP_OK || memcmp(hash, w->place_hash, 32) != 0) {
		lost(w, "the chain was written anew", w->place);
		next_node(w);
	} else {
		ask_rows(w);
	}
}

static void
ask_place(struct sp_heads_walk *w)
{
	struct sp_db_job *j = sp_db_job_new(on_place, w);
	char seq[24];
	const char *p[] = {w->n->name, seq};

	w->place = w->n->seq;
	memcpy(w->place_hash, w->n->hash, 32);
	snprintf(seq, sizeof(seq), "%" PRIu64, w->place);
	sp_db_job_add(j, PLACE_SQL, p, 2);
	sp_db_submit(w->s->db, j);
}

static void
walk_node(struct sp_heads_walk *w)
{
	while (w->node < PQntuples(w->nodes)) {
		bool same = w->n != NULL && strcmp(w->n->name,
		    PQgetvalue(w->nodes, w->node, 0)) == 0;

		w->n = sp_heads_node(w->s->heads, PQgetvalue(w->nodes, w->node, 0));
		if (w->n != NULL && !w->n->is_lost && (same ||
		    w->n->seq == 0 || w->is_checked)) {
			if (same || number(w->nodes, w->node, 1) > w->n->seq) {
				ask_rows(w);
				return;
			}
		} else if (w->n != NULL && !w->n->is_lost) {
			ask_place(w);
			return;
		}
		w->node++;
	}
	done(w, SP_OK);
}

static void
on_nodes(void *arg, struct sp_db_result *r)
{
	struct sp_heads_walk *w = arg;

	if (r->e != SP_OK) {
		done(w, r->e);
		return;
	}
	w->nodes = r->res[0];
	r->res[0] = NULL;
	w->node = 0;
	w->n = NULL;
	walk_node(w);
}

static void
begin(struct sp_heads_walk *w)
{
	struct sp_db_job *j = sp_db_job_new(on_nodes, w);

	w->is_running = true;
	sp_db_job_add(j, NODES_SQL, NULL, 0);
	sp_db_submit(w->s->db, j);
}

void
sp_heads_catch_up(struct sp_store *s, sp_done_cb cb, void *arg)
{
	struct sp_heads_walk *w = s->heads_walk;
	struct waiter *x = malloc(sizeof(*x));

	SP_ASSERT(x != NULL);
	*x = (struct waiter){.cb = cb, .arg = arg};
	if (w->is_running) {
		/* What it has passed may have grown since. */
		LIST_INSERT_HEAD(&w->next, x, link);
		return;
	}
	LIST_INSERT_HEAD(&w->waiters, x, link);
	begin(w);
}

void
sp_heads_committed(struct sp_store *s, uint64_t before, uint64_t seq,
    const uint8_t hash[static 32])
{
	struct sp_heads_node *n = sp_heads_node(s->heads, s->b->node);

	if (n == NULL || (n->seq != before && !n->is_lost))
		return;		/* the walk gets there by itself */
	n->is_lost = false;
	n->seq = seq;
	memcpy(n->hash, hash, 32);
	sp_heads_save(s->heads);
}

/* ------------------------------------------------------------------ the start */

static void judge_parked(struct sp_store *s);

/* Rows of before the chain carried versions: entered into it once, as they
 * are. A seal that is broken stays broken. */
static void
on_old_rows(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;
	struct sp_link_item *it;

	if (r->e != SP_OK || sp_heads_has_begun(s->heads))
		return;
	sp_heads_begin(s->heads);
	for (int i = 0; i < PQntuples(r->res[0]); i++) {
		const char *rows = PQgetvalue(r->res[0], i, 0);

		it = sp_audit_item(s, "row_heads_begun", s->b->node, NULL, NULL);
		it->ev[0].rows = strdup(rows);
		SP_ASSERT(it->ev[0].rows != NULL && sp_heads_enter(s->heads, rows));
		sp_audit_put(s, it);
	}
	judge_parked(s);
}

/* Pieces of 200 rows, as the change of such a row would have said them. */
static void
ask_old_rows(struct sp_store *s)
{
	SP_BUF_AUTO sql = {.max = 32768};
	struct sp_db_job *j = sp_db_job_new(on_old_rows, s);

	SP_ASSERT(sp_buf_printf(&sql, "WITH x AS (") == SP_OK);
	for (size_t t = 0; t < SP_T_COUNT_; t++) {
		int o = sp_table_owner((enum sp_table)t);

		SP_ASSERT(sp_buf_printf(&sql, "%sSELECT %zu AS t, id, "
		    "json_build_array('%s', id, ver, encode(seal, 'hex')%s%s) AS row "
		    "FROM %s", t == 0 ? "" : " UNION ALL ", t, sp_tables[t].name,
		    o < 0 ? "" : ", ", o < 0 ? "" : sp_tables[t].cols[o],
		    sp_tables[t].name) == SP_OK);
	}
	SP_ASSERT(sp_buf_printf(&sql, "), y AS (SELECT row, (row_number() OVER "
	    "(ORDER BY t, row->>2, id) - 1) / 200 AS piece FROM x) "
	    "SELECT json_agg(row)::text FROM y GROUP BY piece UNION ALL SELECT '[]' "
	    "WHERE NOT EXISTS (SELECT FROM y)") == SP_OK &&
	    sp_buf_put_u8(&sql, 0) == SP_OK);
	sp_db_job_add(j, (const char *)sp_buf_span(&sql).p, NULL, 0);
	sp_db_submit(s->db, j);
}

static void
judge_parked(struct sp_store *s)
{
	s->heads_ready = true;
	sp_rows_unpark(s);
}

static void
on_caught_up(void *arg, enum sp_err e)
{
	struct sp_store *s = arg;

	if (e != SP_OK)
		return;		/* again with the next connection */
	if (sp_heads_has_begun(s->heads))
		judge_parked(s);
	else
		ask_old_rows(s);
}

void
sp_heads_up(struct sp_store *s)
{
	s->heads_walk->is_checked = false;
	s->heads_ready = false;
	sp_heads_catch_up(s, on_caught_up, s);
}

void
sp_heads_init(struct sp_store *s)
{
	s->heads = sp_heads_new(s->b->heads_fd > 0 ? s->b->heads_fd : -1);
	s->heads_walk = calloc(1, sizeof(*s->heads_walk));
	SP_ASSERT(s->heads_walk != NULL);
	s->heads_walk->s = s;
	LIST_INIT(&s->heads_walk->waiters);
	LIST_INIT(&s->heads_walk->next);
}

void
sp_heads_fini(struct sp_store *s)
{
	struct sp_heads_walk *w = s->heads_walk;
	struct waiter *x;

	while ((x = LIST_FIRST(&w->waiters)) != NULL ||
	    (x = LIST_FIRST(&w->next)) != NULL) {
		LIST_REMOVE(x, link);
		free(x);
	}
	PQclear(w->nodes);
	free(w);
	sp_heads_free(s->heads);
}
