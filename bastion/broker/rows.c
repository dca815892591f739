/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <stdlib.h>
#include <string.h>


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
	free(r->broken);
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

bool
sp_rows_broken(const struct sp_rows *r, size_t i, struct sp_broken *b)
{
	if (r == NULL || i >= r->n_kept)
		return false;
	*b = r->broken[i];
	return true;
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
