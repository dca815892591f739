/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Loading sealed rows. Each is compared with its head, the newest version that
 * the audit chain knows, at the moment when the answer comes: answers and
 * commits come in one order. Then the vault is asked for its seal. A row of
 * which the chain knows nothing may be a fresh one of another bastion: the
 * chains are read on, once, and it is compared again.
 */

/* Columns before those of the registry in every load. */
enum { COL_ID, COL_VER, COL_SEAL, COL_FIRST };
#define CHECKS_AHEAD 64		/* questions to the vault at once, of one load */
#define ROWS_MAX 100000
#define BROKEN_MAX 1000

struct sp_load {
	LIST_ENTRY(sp_load) link;	/* parked: heads are being read */
	struct sp_store *s;
	enum sp_table t;
	sp_rows_cb cb;
	void *arg;
	struct sp_rows *rows;
	size_t next, asked;	/* row to ask next; questions open */
	enum sp_err e;
	bool *is_good;		/* by the vault */
	uint8_t *verdict;	/* enum sp_head_verdict, by the chain */
	bool is_whole, is_newest; /* all of the table; the last policy */
	bool has_owner;
	uint8_t owner[16];
	size_t n_missing, n_params;
	bool has_read_on;
	char *sql, **params;	/* to ask again */
};
struct check {
	struct sp_load *l;
	size_t row;
	uint8_t key[32];	/* of the question */
};

/* ------------------------------------------------------- rows and the chain */

static enum sp_head_verdict
judge_row(const struct sp_load *l, size_t row)
{
	const PGresult *r = l->rows->res;
	uint8_t id[16], seal[32];
	uint64_t ver;
	int at = (int)row;

	if (sp_uuid_parse(id, sp_span_str(PQgetvalue(r, at, COL_ID))) != SP_OK ||
	    sp_u64_parse(sp_span_str(PQgetvalue(r, at, COL_VER)), INT64_MAX,
	    &ver) != SP_OK ||
	    sp_bytea_parse(PQgetvalue(r, at, COL_SEAL), seal, 32) != SP_OK)
		return SP_HEAD_OTHER;
	return sp_heads_judge(l->s->heads, l->t, id, ver, seal);
}

static bool
is_loaded(const struct sp_load *l, const uint8_t id[static 16])
{
	uint8_t u[16];

	for (int i = 0; i < PQntuples(l->rows->res); i++)
		if (sp_uuid_parse(u, sp_span_str(PQgetvalue(l->rows->res, i,
		    COL_ID))) == SP_OK && memcmp(u, id, 16) == 0)
			return true;
	return false;
}

/* Told, and kept for whoever lists them. */
static void
alarm_row(struct sp_load *l, const char *id, const char *ver,
    enum sp_head_verdict v)
{
	struct sp_rows *r = l->rows;
	struct sp_broken *b;

	sp_row_alarm(l->s, l->t, id, ver, v);
	if (r->broken == NULL)
		r->broken = calloc(BROKEN_MAX, sizeof(*r->broken));
	if (r->broken == NULL || r->n_kept == BROKEN_MAX)
		return;
	b = &r->broken[r->n_kept++];
	b->verdict = v;
	snprintf(b->id, sizeof(b->id), "%s", id);
	snprintf(b->ver, sizeof(b->ver), "%s", ver);
}

static void
miss(struct sp_load *l, const struct sp_head *x, bool tell)
{
	char id[SP_UUID_TEXT], ver[24];

	l->n_missing++;
	if (!tell)
		return;
	sp_uuid_text(id, x->id);
	snprintf(ver, sizeof(ver), "%llu", (unsigned long long)x->ver);
	alarm_row(l, id, ver, SP_HEAD_MISSING);
}

struct missing {
	struct sp_load *l;
	bool tell;
};

static void
look_for(void *arg, const struct sp_head *x)
{
	struct missing *m = arg;

	if (!is_loaded(m->l, x->id))
		miss(m->l, x, m->tell);
}

/* What should have come and did not: somebody deleted it by hand. Counted where
 * a row that is missing would be to somebody's gain. */
static void
count_missing(struct sp_load *l, bool tell)
{
	const struct sp_head *newest = sp_heads_policy(l->s->heads);
	struct missing m = {.l = l, .tell = tell};
	size_t n = (size_t)PQntuples(l->rows->res), want;

	l->n_missing = 0;
	if (l->is_newest && newest != NULL && !is_loaded(l, newest->id))
		miss(l, newest, tell);
	if (!l->is_whole && !l->has_owner)
		return;
	want = sp_heads_each(l->s->heads, l->t, l->has_owner ? l->owner : NULL,
	    NULL, NULL);
	for (size_t i = 0; i < (size_t)PQntuples(l->rows->res); i++)
		n -= l->verdict[i] == SP_HEAD_AHEAD || l->verdict[i] == SP_HEAD_GONE;
	if (want != n)
		(void)sp_heads_each(l->s->heads, l->t, l->has_owner ? l->owner :
		    NULL, look_for, &m);
}

/* true: the chains must be read on before it can be said. */
static bool
judge_all(struct sp_load *l)
{
	bool unsure = false;

	for (size_t i = 0; i < l->rows->n; i++) {
		l->verdict[i] = (uint8_t)judge_row(l, i);
		unsure = unsure || l->verdict[i] == SP_HEAD_AHEAD;
	}
	count_missing(l, false);
	return unsure || l->n_missing > 0;
}

static void
sort_out(struct sp_load *l)
{
	size_t good = 0, n = l->rows->n;

	count_missing(l, true);
	for (size_t i = 0; i < n; i++) {
		/* An older policy is none, though its own row is as it was. */
		bool is_older = l->is_newest && l->n_missing > 0;

		if (l->is_good[i] && l->verdict[i] == SP_HEAD_GOOD) {
			if (!is_older)
				l->rows->map[good++] = i;
			continue;
		}
		alarm_row(l, PQgetvalue(l->rows->res, (int)i, COL_ID),
		    PQgetvalue(l->rows->res, (int)i, COL_VER), l->is_good[i] ?
		    (enum sp_head_verdict)l->verdict[i] : SP_HEAD_GOOD);
	}
	l->rows->n_broken = n - good + l->n_missing;
	l->rows->n = good;
}

static void
forget_rows(struct sp_load *l)
{
	sp_rows_free(l->rows);
	free(l->is_good);
	free(l->verdict);
	l->rows = NULL;
	l->is_good = NULL;
	l->verdict = NULL;
	l->next = 0;
}

static void
free_load(struct sp_load *l)
{
	forget_rows(l);
	for (size_t i = 0; i < l->n_params; i++)
		free(l->params[i]);
	free(l->params);
	free(l->sql);
	free(l);
}

static void
finish(struct sp_load *l)
{
	if (l->e == SP_OK)
		sort_out(l);
	l->cb(l->arg, l->e, l->e == SP_OK ? l->rows : NULL);
	free_load(l);
}

/* ------------------------------------------------------- rows and the vault */

/* A vault that was sealed a moment ago says no to everything: that is no
 * forgery. */
static void
on_confirmed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_load *l = arg;

	(void)reply;
	if (e != SP_OK)
		l->e = e;
	else if (!sp_vault_is_open(l->s->b->vault))
		l->e = SP_ERR_SEALED;
	finish(l);
}

static void
end_checks(struct sp_load *l)
{
	bool all = true;

	for (size_t i = 0; i < l->rows->n; i++)
		all = all && l->is_good[i];
	if (l->e != SP_OK || all)
		finish(l);
	else
		sp_vault_call(l->s->b->vault, SP_MSG_v_status,
		    (struct sp_span){0}, SP_MSG_v_status_r, on_confirmed, l);
}

static void ask_more(struct sp_load *l);

static void
on_checked(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct check *k = arg;
	struct sp_load *l = k->l;
	struct sp_msg_v_row_check_r m;

	l->asked--;
	if (e == SP_OK)
		e = sp_dec_v_row_check_r(reply->body, &m);
	if (e != SP_OK)
		l->e = e == SP_ERR_PROTO || e == SP_ERR_TOOBIG ? SP_ERR_SEALED : e;
	else
		l->is_good[k->row] = m.ok == 1;
	if (e == SP_OK && m.ok == 1)
		sp_memo_add(l->s, k->key);
	free(k);
	ask_more(l);
}

/* SP_OK: asked. An error: the row cannot be a row of ours. */
static enum sp_err
ask(struct sp_load *l, size_t row)
{
	SP_BUF_AUTO canon = {.max = SP_CANON_MAX + 4096};
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	const char *values[SP_COLS_MAX];
	struct sp_msg_v_row_check m = {.table = sp_span_str(sp_tables[l->t].name)};
	struct check *k;
	const PGresult *r = l->rows->res;
	int at = (int)row;

	for (size_t i = 0; i < sp_tables[l->t].n_cols; i++)
		values[i] = PQgetisnull(r, at, (int)i + COL_FIRST) ? NULL :
		    PQgetvalue(r, at, (int)i + COL_FIRST);
	SP_TRY(sp_canon(&canon, l->t, values));
	SP_TRY(sp_uuid_parse(m.id, sp_span_str(PQgetvalue(r, at, COL_ID))));
	SP_TRY(sp_u64_parse(sp_span_str(PQgetvalue(r, at, COL_VER)), INT64_MAX,
	    &m.version));
	SP_TRY(sp_bytea_parse(PQgetvalue(r, at, COL_SEAL), m.mac, 32));
	m.canon = sp_buf_span(&canon);
	SP_TRY(sp_enc_v_row_check(&body, &m));
	if ((k = malloc(sizeof(*k))) == NULL)
		return SP_ERR_NOMEM;
	*k = (struct check){.l = l, .row = row};
	if (sp_memo_has(l->s, sp_buf_span(&body), k->key)) {
		l->is_good[row] = true;
		free(k);
		return SP_OK;
	}
	l->asked++;
	sp_vault_call(l->s->b->vault, SP_MSG_v_row_check, sp_buf_span(&body),
	    SP_MSG_v_row_check_r, on_checked, k);
	return SP_OK;
}

static void
ask_more(struct sp_load *l)
{
	while (l->e == SP_OK && l->asked < CHECKS_AHEAD && l->next < l->rows->n)
		if (ask(l, l->next++) == SP_ERR_NOMEM)
			l->e = SP_ERR_NOMEM;
	if (l->asked == 0)
		end_checks(l);
}

/* ------------------------------------------------------------- from outside */

static void on_loaded(void *arg, struct sp_db_result *r);

/* What the heads know by now may be newer than the answer. */
static void
load_again(struct sp_load *l)
{
	struct sp_db_job *j = sp_db_job_new(on_loaded, l);

	forget_rows(l);
	sp_db_job_add(j, l->sql, (const char *const *)l->params, l->n_params);
	sp_db_submit(l->s->db, j);
}

static void
on_read_on(void *arg, enum sp_err e)
{
	struct sp_load *l = arg;

	if (e == SP_OK) {
		load_again(l);
		return;
	}
	l->e = e == SP_ERR_TIMEOUT ? e : SP_ERR_DB;
	finish(l);
}

static void
compare(struct sp_load *l)
{
	if (!judge_all(l) || l->has_read_on) {
		ask_more(l);
		return;
	}
	l->has_read_on = true;
	sp_heads_catch_up(l->s, on_read_on, l);
}

void
sp_rows_unpark(struct sp_store *s)
{
	struct sp_loads all = s->parked;
	struct sp_load *l;

	if (LIST_FIRST(&all) != NULL)
		LIST_FIRST(&all)->link.le_prev = &LIST_FIRST(&all);
	LIST_INIT(&s->parked);
	while ((l = LIST_FIRST(&all)) != NULL) {
		LIST_REMOVE(l, link);
		load_again(l);
	}
}

void
sp_rows_park_fail(struct sp_store *s, enum sp_err e)
{
	struct sp_load *l;

	while ((l = LIST_FIRST(&s->parked)) != NULL) {
		LIST_REMOVE(l, link);
		l->e = e;
		finish(l);
	}
}

static void
loaded(struct sp_load *l, enum sp_err e, PGresult *res)
{
	l->e = e;
	if (e == SP_OK && PQntuples(res) > ROWS_MAX)
		l->e = SP_ERR_TOOBIG;
	if (l->e != SP_OK) {
		PQclear(res);
		/* A refusal of a SELECT is a fault of ours or of the server. */
		l->cb(l->arg, l->e == SP_ERR_TIMEOUT ? l->e : SP_ERR_DB, NULL);
		free_load(l);
		return;
	}
	l->rows = sp_rows_new(res);
	l->is_good = calloc(l->rows->n + 1, sizeof(bool));
	l->verdict = calloc(l->rows->n + 1, 1);
	SP_ASSERT(l->is_good != NULL && l->verdict != NULL);
	if (l->s->heads_ready)
		compare(l);
	else
		LIST_INSERT_HEAD(&l->s->parked, l, link);
}

static void
on_loaded(void *arg, struct sp_db_result *r)
{
	PGresult *res = r->e == SP_OK ? r->res[0] : NULL;

	if (r->e == SP_OK)
		r->res[0] = NULL;
	loaded(arg, r->e, res);
}

static void
on_ahead(void *arg, enum sp_err e, PGresult *res)
{
	loaded(arg, e, res);
}

enum sp_err
sp_select_text(struct sp_buf *b, enum sp_table t, const char *where)
{
	const struct sp_table_def *d = &sp_tables[t];

	SP_TRY(sp_buf_printf(b, "SELECT %s.id, %s.ver, %s.seal", d->name,
	    d->name, d->name));
	for (size_t i = 0; i < d->n_cols; i++)
		SP_TRY(sp_buf_printf(b, ", %s.%s", d->name, d->cols[i]));
	SP_TRY(sp_buf_printf(b, " FROM %s %s", d->name, where));
	return sp_buf_put_u8(b, 0);
}

/* Does the text ask for all rows of the table, or of one owner in it? */
static void
what_should_come(struct sp_load *l, const char *where, const char *const *params,
    size_t n)
{
	static const char mine[] = "WHERE person_id = $1";
	const char *rest;

	l->is_newest = l->t == SP_T_POLICIES &&
	    strcmp(where, "ORDER BY seq DESC LIMIT 1") == 0;
	l->is_whole = where[0] == '\0' || (strncmp(where, "ORDER BY ", 9) == 0 &&
	    strstr(where, " LIMIT ") == NULL);
	if (sp_table_owner(l->t) < 0 || n != 1 ||
	    strncmp(where, mine, sizeof(mine) - 1) != 0)
		return;
	rest = where + sizeof(mine) - 1;
	l->has_owner = (rest[0] == '\0' || strncmp(rest, " ORDER BY ", 10) == 0) &&
	    strstr(rest, " LIMIT ") == NULL &&
	    sp_uuid_parse(l->owner, sp_span_str(params[0])) == SP_OK;
}

static void
keep_question(struct sp_load *l, const char *text, const char *const *params,
    size_t n)
{
	l->sql = strdup(text);
	l->params = calloc(n + 1, sizeof(*l->params));
	SP_ASSERT(l->sql != NULL && l->params != NULL);
	l->n_params = n;
	for (size_t i = 0; i < n; i++)
		SP_ASSERT(params[i] == NULL ||
		    (l->params[i] = strdup(params[i])) != NULL);
}

void
sp_store_load(struct sp_store *s, enum sp_table t, const char *where,
    const char *const *params, size_t n, sp_rows_cb cb, void *arg)
{
	SP_BUF_AUTO sql = {.max = 16384};
	struct sp_load *l = calloc(1, sizeof(*l));
	struct sp_db_job *j;
	const char *text;

	SP_ASSERT(l != NULL && t < SP_T_COUNT_ &&
	    sp_tables[t].n_cols <= SP_COLS_MAX);
	SP_ASSERT(sp_select_text(&sql, t, where) == SP_OK);
	text = (const char *)sql.p + sql.off;
	*l = (struct sp_load){.s = s, .t = t, .cb = cb, .arg = arg};
	what_should_come(l, where, params, n);
	keep_question(l, text, params, n);
	if (sp_ahead_take(s, text, params, n, on_ahead, l))
		return;
	j = sp_db_job_new(on_loaded, l);
	sp_db_job_add(j, text, params, n);
	sp_db_submit(s->db, j);
}
