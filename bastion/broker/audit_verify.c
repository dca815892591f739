/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/signed.h"

/*
 * The walk: every event of every node from 1 on, each hash computed anew, every
 * signed head against its event and the vault's key. A node's walk ends at the
 * first thing wrong; the other nodes are still walked.
 */
#define BATCH 500
#define NODES_SQL                                                             \
	"WITH RECURSIVE a AS ("                                               \
	"(SELECT node FROM audit ORDER BY node LIMIT 1) UNION ALL"            \
	" SELECT (SELECT node FROM audit WHERE node > a.node ORDER BY node"   \
	" LIMIT 1) FROM a WHERE a.node IS NOT NULL),"                         \
	" h AS ((SELECT node FROM audit_heads ORDER BY node LIMIT 1)"         \
	" UNION ALL SELECT (SELECT node FROM audit_heads WHERE node > h.node" \
	" ORDER BY node LIMIT 1) FROM h WHERE h.node IS NOT NULL),"           \
	" n AS (SELECT node FROM a UNION SELECT node FROM h)"                 \
	" SELECT node, coalesce((SELECT max(seq) FROM audit"                  \
	" WHERE audit.node = n.node), 0) FROM n WHERE node IS NOT NULL"       \
	" ORDER BY node"
#define ROWS_SQL                                                              \
	"SELECT a.seq, a.at_us, a.event, a.actor, a.session_id, a.detail,"    \
	" a.prev, a.hash, h.head, h.at_us, h.signature, a.rows FROM audit a"          \
	" LEFT JOIN audit_heads h USING (node, seq)"                          \
	" WHERE a.node = $1 AND a.seq > $2 ORDER BY a.seq LIMIT 500"
#define END_SQL                                                               \
	"SELECT coalesce((SELECT max(seq) FROM audit WHERE node = $1), 0),"   \
	" coalesce((SELECT max(seq) FROM audit_heads WHERE node = $1), 0)"
enum { SEQ, AT, EVENT, ACTOR, SESSION, DETAIL, PREV, HASH, H_HEAD, H_AT, H_SIG,
	ROWS };

struct walk {
	struct sp_store *s;
	void (*progress)(void *arg, uint64_t done, uint64_t all);
	void (*result)(void *arg, enum sp_err e, const char *text);
	void *arg;
	uint8_t key[32];
	PGresult *nodes;
	int node;
	uint64_t seq, signed_seq, own_seq;
	uint8_t hash[32];
	uint64_t done, all, heads, bare, wrong;
	char text[1024];
};

static void next_node(struct walk *w);
static void next_batch(struct walk *w);

static void say(struct walk *w, const char *fmt, ...) SP_PRINTF(2, 3);

static const char *
node_name(const struct walk *w)
{
	return PQgetvalue(w->nodes, w->node, 0);
}

static void
say(struct walk *w, const char *fmt, ...)
{
	size_t n = strlen(w->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text + n, sizeof(w->text) - n, fmt, ap);
	va_end(ap);
}

static void
wrong(struct walk *w, uint64_t seq, const char *what)
{
	w->wrong++;
	say(w, "node %s, event %" PRIu64 ": %s\n", sp_vis_str(node_name(w)), seq,
	    what);
}

static void
end(struct walk *w, enum sp_err e)
{
	if (e == SP_OK && w->wrong > 0)
		e = SP_ERR_CRYPTO;
	if (e == SP_OK)
		say(w, "%" PRIu64 " events of %d nodes are in order, %" PRIu64
		    " signed heads are good, %" PRIu64
		    " events are not signed yet\n", w->done, PQntuples(w->nodes),
		    w->heads, w->bare);
	else if (e != SP_ERR_CRYPTO)
		say(w, "not finished: %s\n", sp_err_text(e));
	w->result(w->arg, e, w->text);
	PQclear(w->nodes);
	free(w);
}

static uint64_t
number(const PGresult *r, int row, int col)
{
	uint64_t v = 0;

	return sp_u64_parse(sp_span_str(PQgetvalue(r, row, col)), INT64_MAX,
	    &v) == SP_OK ? v : 0;
}

/* The strings of the event are only read; its struct owns them elsewhere. */
static char *
text(const PGresult *r, int row, int col)
{
	return PQgetisnull(r, row, col) ? NULL : PQgetvalue(r, row, col);
}

static const char *
check_head(const struct walk *w, const PGresult *r, int row, uint64_t seq)
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	uint8_t head[32], sig[64];
	struct sp_span m;

	if (sp_bytea_parse(PQgetvalue(r, row, H_HEAD), head, 32) != SP_OK ||
	    sp_bytea_parse(PQgetvalue(r, row, H_SIG), sig, 64) != SP_OK ||
	    memcmp(head, w->hash, 32) != 0)
		return "the signed head is another one";
	if (sp_signed_audit(&b, seq, head, (int64_t)number(r, row, H_AT)) != SP_OK)
		return "the signed head cannot be checked";
	m = sp_buf_span(&b);
	if (crypto_sign_verify_detached(sig, m.p, m.n, w->key) != 0)
		return "the signature of the head is forged";
	return NULL;
}

static const char *
check_row(struct walk *w, const PGresult *r, int row)
{
	uint64_t seq = number(r, row, SEQ);
	struct sp_event ev = {.event = text(r, row, EVENT),
	    .actor = text(r, row, ACTOR), .detail = text(r, row, DETAIL),
	    .rows = text(r, row, ROWS),
	    .at_us = (int64_t)number(r, row, AT)};
	const char *sid = text(r, row, SESSION);
	uint8_t prev[32], hash[32], real[32];

	if (seq != w->seq + 1)
		return "events before it are missing";
	if (sp_bytea_parse(PQgetvalue(r, row, PREV), prev, 32) != SP_OK ||
	    sp_bytea_parse(PQgetvalue(r, row, HASH), hash, 32) != SP_OK ||
	    memcmp(prev, w->hash, 32) != 0)
		return "it does not follow the one before";
	ev.has_session = sid != NULL;
	if (sid != NULL && sp_uuid_parse(ev.session, sp_span_str(sid)) != SP_OK)
		return "its session is no id";
	sp_event_hash(real, w->hash, node_name(w), seq, &ev);
	if (memcmp(real, hash, 32) != 0)
		return "it was changed";
	w->seq = seq;
	memcpy(w->hash, hash, 32);
	if (PQgetisnull(r, row, H_SIG))
		return NULL;
	w->signed_seq = seq;
	w->heads++;
	return check_head(w, r, row, seq);
}

static void
on_end(void *arg, struct sp_db_result *r)
{
	struct walk *w = arg;
	uint64_t last, head;

	if (r->e != SP_OK) {
		end(w, r->e);
		return;
	}
	last = number(r->res[0], 0, 0);
	head = number(r->res[0], 0, 1);
	if (head > last)
		wrong(w, last, "the table ends here, but a later head is signed");
	else if (strcmp(node_name(w), w->s->b->node) == 0 && last < w->own_seq)
		wrong(w, last, "the table ends here, but this node wrote more");
	w->bare += w->seq - w->signed_seq;
	w->node++;
	next_node(w);
}

static void
on_rows(void *arg, struct sp_db_result *r)
{
	struct walk *w = arg;
	int n;

	if (r->e != SP_OK) {
		end(w, r->e);
		return;
	}
	n = PQntuples(r->res[0]);
	for (int i = 0; i < n; i++) {
		const char *what = check_row(w, r->res[0], i);

		if (what != NULL) {
			wrong(w, number(r->res[0], i, SEQ), what);
			w->node++;
			next_node(w);
			return;
		}
		w->done++;
	}
	if (w->progress != NULL)
		w->progress(w->arg, w->done, w->all);
	if (n == BATCH) {
		next_batch(w);
	} else {
		struct sp_db_job *j = sp_db_job_new(on_end, w);
		const char *node = node_name(w);

		sp_db_job_add(j, END_SQL, &node, 1);
		sp_db_submit(w->s->db, j);
	}
}

static void
next_batch(struct walk *w)
{
	struct sp_db_job *j = sp_db_job_new(on_rows, w);
	char seq[24];
	const char *params[] = {node_name(w), seq};

	snprintf(seq, sizeof(seq), "%" PRIu64, w->seq);
	sp_db_job_add(j, ROWS_SQL, params, 2);
	sp_db_submit(w->s->db, j);
}

static void
next_node(struct walk *w)
{
	if (w->node >= PQntuples(w->nodes)) {
		end(w, SP_OK);
		return;
	}
	w->seq = w->signed_seq = 0;
	memset(w->hash, 0, 32);
	next_batch(w);
}

static void
on_nodes(void *arg, struct sp_db_result *r)
{
	struct walk *w = arg;

	if (r->e != SP_OK) {
		end(w, r->e);
		return;
	}
	w->nodes = r->res[0];
	r->res[0] = NULL;
	for (int i = 0; i < PQntuples(w->nodes); i++)
		w->all += number(w->nodes, i, 1);
	next_node(w);
}

static void
on_no_key(void *arg, enum sp_err e)
{
	struct walk *w = arg;

	say(w, "the vault is away: signatures cannot be checked\n");
	end(w, e);
}

void
sp_audit_verify(struct sp_store *s,
    void (*progress)(void *arg, uint64_t done, uint64_t all),
    void (*result)(void *arg, enum sp_err e, const char *text), void *arg)
{
	const struct sp_msg_v_status_r *st = sp_vault_status(s->b->vault);
	struct walk *w = calloc(1, sizeof(*w));
	struct sp_db_job *j;

	SP_ASSERT(w != NULL);
	*w = (struct walk){.s = s, .progress = progress, .result = result,
	    .arg = arg, .own_seq = s->chain.seq};
	if (st == NULL || sodium_is_zero(st->audit_key, 32)) {
		sp_later(s, on_no_key, w, SP_ERR_SEALED);
		return;
	}
	memcpy(w->key, st->audit_key, 32);
	j = sp_db_job_new(on_nodes, w);
	sp_db_job_add(j, NODES_SQL, NULL, 0);
	sp_db_submit(s->db, j);
}
