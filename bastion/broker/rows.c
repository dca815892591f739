/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <stdlib.h>
#include <string.h>

/* Columns before those of the registry in every load. */
enum { COL_ID, COL_VER, COL_SEAL, COL_FIRST };
#define CHECKS_AHEAD 64		/* questions to the vault at once, of one load */
#define ROWS_MAX 100000

struct sp_rows *
sp_rows_new(PGresult *res)
{
	struct sp_rows *r = calloc(1, sizeof(*r));
	size_t n = (size_t)PQntuples(res);

	SP_ASSERT(r != NULL);
	r->refs = 1;
	r->res = res;
	r->n = n;
	r->map = calloc(n + 1, sizeof(*r->map));
	SP_ASSERT(r->map != NULL);
	for (size_t i = 0; i < n; i++)
		r->map[i] = i;
	return r;
}

struct sp_rows *
sp_rows_ref(struct sp_rows *r)
{
	if (r != NULL)
		r->refs++;
	return r;
}

void
sp_rows_free(struct sp_rows *r)
{
	if (r == NULL || --r->refs > 0)
		return;
	PQclear(r->res);
	free(r->map);
	free(r);
}

size_t
sp_rows_n(const struct sp_rows *r)
{
	return r == NULL ? 0 : r->n;
}

size_t
sp_rows_n_broken(const struct sp_rows *r)
{
	return r == NULL ? 0 : r->n_broken;
}

const char *
sp_rows_get(const struct sp_rows *r, size_t row, const char *col)
{
	int f, at;

	SP_ASSERT(r != NULL && row < r->n);
	f = PQfnumber(r->res, col);
	if (f < 0) {
		sp_log(SP_ERROR, "no_such_column", NULL, "column=%s", col);
		return NULL;
	}
	at = (int)r->map[row];
	return PQgetisnull(r->res, at, f) ? NULL : PQgetvalue(r->res, at, f);
}

int64_t
sp_rows_i64(const struct sp_rows *r, size_t row, const char *col)
{
	const char *s = sp_rows_get(r, row, col);
	uint64_t v = 0;
	bool minus;

	if (s == NULL)
		return 0;
	minus = *s == '-';
	if (sp_u64_parse(sp_span_str(s + minus), INT64_MAX, &v) != SP_OK)
		return 0;
	return minus ? -(int64_t)v : (int64_t)v;
}

bool
sp_rows_uuid(const struct sp_rows *r, size_t row, const char *col,
    uint8_t u[static 16])
{
	const char *s = sp_rows_get(r, row, col);

	if (s != NULL && sp_uuid_parse(u, sp_span_str(s)) == SP_OK)
		return true;
	memset(u, 0, 16);
	return false;
}

uint64_t
sp_rows_ver(const struct sp_rows *r, size_t row)
{
	return (uint64_t)sp_rows_i64(r, row, "ver");
}

uint64_t
sp_rows_secret_ver(const struct sp_rows *r, size_t row)
{
	return sp_rows_get(r, row, "version") == NULL ? sp_rows_ver(r, row) :
	    (uint64_t)sp_rows_i64(r, row, "version");
}

uint64_t
sp_rows_affected(const struct sp_rows *r)
{
	uint64_t v = 0;

	if (r == NULL || sp_u64_parse(sp_span_str(PQcmdTuples(r->res)),
	    INT64_MAX, &v) != SP_OK)
		return 0;
	return v;
}

enum sp_err
sp_rows_bytes(const struct sp_rows *r, size_t row, const char *col,
    struct sp_buf *out)
{
	const char *s = sp_rows_get(r, row, col);
	size_t n;
	uint8_t *at;

	if (s == NULL)
		return SP_ERR_NOTFOUND;
	if (s[0] != '\\' || s[1] != 'x' || (n = strlen(s + 2)) % 2 != 0)
		return SP_ERR_SYNTAX;
	SP_TRY(sp_buf_reserve(out, n / 2, &at));
	SP_TRY(sp_unhex(at, n / 2, sp_span_of(s + 2, n)));
	sp_buf_commit(out, n / 2);
	return SP_OK;
}

/* ---------------------------------------------------------------- loading */

struct load {
	struct sp_store *s;
	enum sp_table t;
	sp_rows_cb cb;
	void *arg;
	struct sp_rows *rows;
	size_t next, asked;	/* row to ask next; questions open */
	enum sp_err e;
	bool *is_good;
};
struct check {
	struct load *l;
	size_t row;
	uint8_t key[32];	/* of the question */
};

static void
finish(struct load *l)
{
	size_t good = 0;

	if (l->e == SP_OK) {
		for (size_t i = 0; i < l->rows->n; i++) {
			if (l->is_good[i])
				l->rows->map[good++] = i;
			else
				sp_row_alarm(l->s, l->t,
				    PQgetvalue(l->rows->res, (int)i, COL_ID),
				    PQgetvalue(l->rows->res, (int)i, COL_VER));
		}
		l->rows->n_broken = l->rows->n - good;
		l->rows->n = good;
	}
	l->cb(l->arg, l->e, l->e == SP_OK ? l->rows : NULL);
	sp_rows_free(l->rows);
	free(l->is_good);
	free(l);
}

/* A vault that was sealed a moment ago says no to everything: that is no
 * forgery. */
static void
on_confirmed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct load *l = arg;

	(void)reply;
	if (e != SP_OK)
		l->e = e;
	else if (!sp_vault_is_open(l->s->b->vault))
		l->e = SP_ERR_SEALED;
	finish(l);
}

static void
end_checks(struct load *l)
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

static void ask_more(struct load *l);

static void
on_checked(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct check *k = arg;
	struct load *l = k->l;
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
ask(struct load *l, size_t row)
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
ask_more(struct load *l)
{
	while (l->e == SP_OK && l->asked < CHECKS_AHEAD && l->next < l->rows->n)
		if (ask(l, l->next++) == SP_ERR_NOMEM)
			l->e = SP_ERR_NOMEM;
	if (l->asked == 0)
		end_checks(l);
}

static void
loaded(struct load *l, enum sp_err e, PGresult *res)
{
	l->e = e;
	if (e == SP_OK && PQntuples(res) > ROWS_MAX)
		l->e = SP_ERR_TOOBIG;
	if (l->e != SP_OK) {
		PQclear(res);
		/* A refusal of a SELECT is a fault of ours or of the server. */
		l->cb(l->arg, l->e == SP_ERR_TIMEOUT ? l->e : SP_ERR_DB, NULL);
		free(l);
		return;
	}
	l->rows = sp_rows_new(res);
	l->is_good = calloc(l->rows->n + 1, sizeof(bool));
	SP_ASSERT(l->is_good != NULL);
	ask_more(l);
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

void
sp_store_load(struct sp_store *s, enum sp_table t, const char *where,
    const char *const *params, size_t n, sp_rows_cb cb, void *arg)
{
	SP_BUF_AUTO sql = {.max = 16384};
	struct load *l = calloc(1, sizeof(*l));
	struct sp_db_job *j;
	const char *text;

	SP_ASSERT(l != NULL && t < SP_T_COUNT_ &&
	    sp_tables[t].n_cols <= SP_COLS_MAX);
	SP_ASSERT(sp_select_text(&sql, t, where) == SP_OK);
	text = (const char *)sql.p + sql.off;
	*l = (struct load){.s = s, .t = t, .cb = cb, .arg = arg};
	if (sp_ahead_take(s, text, params, n, on_ahead, l))
		return;
	j = sp_db_job_new(on_loaded, l);
	sp_db_job_add(j, text, params, n);
	sp_db_submit(s->db, j);
}

/* ------------------------------------------------------- plain statements */

struct query {
	sp_rows_cb cb;
	void *arg;
};

static void
on_answered(void *arg, struct sp_db_result *r)
{
	struct query *q = arg;
	struct sp_rows *rows = NULL;

	if (r->e == SP_OK) {
		rows = sp_rows_new(r->res[0]);
		r->res[0] = NULL;
	}
	q->cb(q->arg, r->e, rows);
	sp_rows_free(rows);
	free(q);
}

void
sp_store_query(struct sp_store *s, const char *sql, const char *const *params,
    size_t n, sp_rows_cb cb, void *arg)
{
	struct query *q = malloc(sizeof(*q));
	struct sp_db_job *j;

	SP_ASSERT(q != NULL);
	*q = (struct query){.cb = cb, .arg = arg};
	j = sp_db_job_new(on_answered, q);
	sp_db_job_add(j, sql, params, n);
	sp_db_submit(s->db, j);
}
