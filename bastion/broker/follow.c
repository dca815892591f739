/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 200
/* Held by whoever follows: as long as nobody holds it, no event wakes anybody
 * (sql/0018_followers.sql knows the number). */
#define LOCK "pg_catalog.pg_advisory_lock_shared(7235419822563)"
#define UNLOCK "pg_catalog.pg_advisory_unlock_shared(7235419822563)"

static void fetch(struct sp_store *s);

/* A single row of its own, so that a follower may keep it. */
static struct sp_rows *
one_row(const PGresult *all, int row)
{
	PGresult *r = PQcopyResult(all, PG_COPYRES_ATTRS);
	int cols = PQnfields(all);

	SP_ASSERT(r != NULL);
	for (int i = 0; i < cols; i++)
		SP_ASSERT(PQsetvalue(r, 0, i, PQgetisnull(all, row, i) ? NULL :
		    PQgetvalue(all, row, i), PQgetisnull(all, row, i) ? -1 :
		    PQgetlength(all, row, i)) == 1);
	return sp_rows_new(r);
}

static void
on_followed(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;

	/* What was written until then told nobody. */
	if (r->e == SP_OK && s->is_following)
		sp_follow_up(s);
}

/* A follower came or went. */
static void
say_whether(struct sp_store *s)
{
	struct sp_db_job *j;

	if (s->is_following == !LIST_EMPTY(&s->followers) ||
	    !sp_db_is_up(s->listen))
		return;
	s->is_following = !s->is_following;
	j = sp_db_job_new(on_followed, s);
	sp_db_job_add(j, s->is_following ? "SELECT " LOCK : "SELECT " UNLOCK,
	    NULL, 0);
	sp_db_submit(s->listen, j);
}

/* A new connection holds nothing. */
void
sp_follow_listening(struct sp_store *s)
{
	s->is_following = false;
	say_whether(s);
}

static void
tell(struct sp_store *s, const PGresult *all, int row)
{
	struct sp_rows *one = one_row(all, row);
	struct sp_follower *f, *next;

	s->in_followers = true;
	LIST_FOREACH(f, &s->followers, link)
		if (!f->dead)
			f->cb(f->arg, SP_OK, one);
	s->in_followers = false;
	for (f = LIST_FIRST(&s->followers); f != NULL; f = next) {
		next = LIST_NEXT(f, link);
		if (!f->dead)
			continue;
		LIST_REMOVE(f, link);
		free(f);
	}
	say_whether(s);
	sp_rows_free(one);
}

static struct sp_seen *
find(struct sp_store *s, const char *node)
{
	for (size_t i = 0; i < s->n_seen; i++)
		if (strcmp(s->seen[i].node, node) == 0)
			return &s->seen[i];
	return NULL;
}

static void
on_fetched(void *arg, struct sp_db_result *r)
{
	struct sp_store *s = arg;
	struct sp_seen *n = NULL;
	int rows;

	s->is_fetching = false;
	if (r->e != SP_OK)
		return;		/* again with the next connection */
	rows = PQntuples(r->res[0]);
	for (int i = 0; i < rows; i++) {
		uint64_t seq = 0;

		n = find(s, PQgetvalue(r->res[0], i, 0));
		if (n == NULL || sp_u64_parse(sp_span_str(
		    PQgetvalue(r->res[0], i, 1)), INT64_MAX, &seq) != SP_OK ||
		    seq <= n->seq)
			continue;
		n->seq = seq;
		tell(s, r->res[0], i);
	}
	if (rows < BATCH && (n = find(s, PQgetvalue(r->res[1], 0, 0))) != NULL)
		n->told = n->seq;
	fetch(s);
}

static void
fetch(struct sp_store *s)
{
	struct sp_seen *n = NULL;
	struct sp_db_job *j;
	char seq[24];
	const char *params[] = {NULL, seq};

	for (size_t i = 0; i < s->n_seen && n == NULL; i++)
		if (s->seen[i].told > s->seen[i].seq)
			n = &s->seen[i];
	if (s->is_fetching || n == NULL || LIST_EMPTY(&s->followers) ||
	    !sp_db_is_up(s->db))
		return;
	s->is_fetching = true;
	snprintf(seq, sizeof(seq), "%" PRIu64, n->seq);
	params[0] = n->node;
	j = sp_db_job_new(on_fetched, s);
	sp_db_job_add(j, "SELECT node, seq, at_us, event, actor, session_id,"
	    " detail, prev, hash FROM audit WHERE node = $1 AND seq > $2"
	    " ORDER BY seq LIMIT 200", params, 2);
	sp_db_job_add(j, "SELECT $1::text", params, 1);
	sp_db_submit(s->db, j);
}

/* payload: "SEQ NODE" */
void
sp_follow_told(struct sp_store *s, const char *payload)
{
	const char *node = strchr(payload, ' ');
	struct sp_seen *n;
	uint64_t seq = 0;

	if (LIST_EMPTY(&s->followers)) {
		s->n_seen = 0;
		return;
	}
	if (node == NULL || strlen(node + 1) > 64 ||
	    sp_u64_parse(sp_span_of(payload, (size_t)(node - payload)), INT64_MAX,
	    &seq) != SP_OK || seq == 0)
		return;
	n = find(s, node + 1);
	if (n == NULL && s->n_seen < SP_NODES_MAX) {
		n = &s->seen[s->n_seen++];
		*n = (struct sp_seen){.seq = seq - 1};
		snprintf(n->node, sizeof(n->node), "%.64s", node + 1);
	}
	if (n == NULL)
		return;
	if (seq > n->told)
		n->told = seq;
	fetch(s);
}

/* After a gap in listening: nodes that were seen may have gone on. */
void
sp_follow_up(struct sp_store *s)
{
	for (size_t i = 0; i < s->n_seen; i++)
		s->seen[i].told = INT64_MAX;
	fetch(s);
}

void *
sp_audit_follow(struct sp_store *s, sp_rows_cb cb, void *arg)
{
	struct sp_follower *f = calloc(1, sizeof(*f));

	SP_ASSERT(f != NULL);
	*f = (struct sp_follower){.cb = cb, .arg = arg};
	if (LIST_EMPTY(&s->followers)) {
		/* What is told of later may be older than this moment. */
		s->n_seen = 1;
		s->seen[0] = (struct sp_seen){.seq = s->chain.seq,
		    .told = s->chain.seq};
		snprintf(s->seen[0].node, sizeof(s->seen[0].node), "%s",
		    s->b->node);
	}
	LIST_INSERT_HEAD(&s->followers, f, link);
	say_whether(s);
	return f;
}

void
sp_audit_unfollow(struct sp_store *s, void *handle)
{
	struct sp_follower *f;

	LIST_FOREACH(f, &s->followers, link)
		if (f == handle)
			break;
	if (f == NULL)
		return;
	if (s->in_followers) {
		f->dead = true;
		return;
	}
	LIST_REMOVE(f, link);
	free(f);
	say_whether(s);
}

void
sp_follow_fini(struct sp_store *s)
{
	struct sp_follower *f;

	while ((f = LIST_FIRST(&s->followers)) != NULL) {
		LIST_REMOVE(f, link);
		free(f);
	}
}
