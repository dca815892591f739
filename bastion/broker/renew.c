/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/renew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/store_internal.h"

#define PAGE "128"
#define PAGE_ROWS 128
#define TRIES_MAX 20
#define COL_FIRST 3		/* id, ver and seal come before the columns */
#define NIL "00000000-0000-0000-0000-000000000000"
#define SEALED_TEXT (2 * 8192 + 3)

struct row {
	struct renew *r;
	size_t i;
	bool is_old, is_closed;
	char *sealed;		/* the new secret as \x text, or NULL */
};
struct renew {
	struct sp_store *s;
	sp_renew_cb progress, done;
	void *arg;
	struct sp_renewal now;
	enum sp_table t;
	char last[SP_UUID_TEXT], before[SP_UUID_TEXT];
	unsigned tries;		/* of this page */
	struct sp_rows *rows;
	struct row row[PAGE_ROWS];
	size_t asked;
	enum sp_err e;
};

static void next_page(struct renew *r);

static void
finish(struct renew *r)
{
	r->done(r->arg, r->e, &r->now);
	free(r);
}

static void
drop_page(struct renew *r)
{
	for (size_t i = 0; i < PAGE_ROWS; i++) {
		free(r->row[i].sealed);
		r->row[i] = (struct row){.r = r, .i = i};
	}
	sp_rows_free(r->rows);
	r->rows = NULL;
}

/* -------------------------------------------------------------- one row */

static const char *
raw(const struct row *w, int col)
{
	const struct sp_rows *rows = w->r->rows;
	int at = (int)rows->map[w->i];

	return PQgetisnull(rows->res, at, col) ? NULL :
	    PQgetvalue(rows->res, at, col);
}

static int
column(enum sp_table t, const char *name)
{
	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		if (strcmp(sp_tables[t].cols[i], name) == 0)
			return (int)i;
	return -1;
}

static void
values_of(const struct row *w, const char *values[static SP_COLS_MAX])
{
	enum sp_table t = w->r->t;

	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		values[i] = raw(w, (int)i + COL_FIRST);
	if (w->sealed != NULL)
		values[column(t, "sealed")] = w->sealed;
}

static void commit_page(struct renew *r);

static void
answered(struct row *w, enum sp_err e)
{
	struct renew *r = w->r;

	if (e != SP_OK && r->e == SP_OK)
		r->e = e;
	if (--r->asked == 0)
		commit_page(r);
}

static void
on_rewrapped(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct row *w = arg;
	struct sp_msg_v_rewrap_r m;

	if (e == SP_OK)
		e = sp_dec_v_rewrap_r(reply->body, &m);
	if (e == SP_OK && m.state == SP_RENEWED_NOW) {
		w->sealed = malloc(SEALED_TEXT);
		e = w->sealed == NULL ? SP_ERR_NOMEM : SP_OK;
		if (e == SP_OK)
			sp_bytea_text(w->sealed, m.sealed.p, m.sealed.n);
		w->is_old = true;
	} else if (e == SP_OK && m.state != SP_RENEWED_IS) {
		/* With its row as it is, it can still be looked into. */
		w->is_closed = true;
		w->is_old = false;
	}
	answered(w, e);
}

/* The secret of a row that has no version of its own is sealed as that of the
 * row's version, which this makes the next one. */
static enum sp_err
ask_secret(struct row *w)
{
	const struct sp_rows *rows = w->r->rows;
	bool is_totp = w->r->t == SP_T_TOTP;
	bool is_bound = is_totp || sp_rows_get(rows, w->i, "version") == NULL;
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, sealed = {.max = 8192};
	struct sp_msg_v_rewrap m = {.kind = SP_CRED_TOTP_SEED,
	    .version = sp_rows_ver(rows, w->i), .force = w->is_old && is_bound};

	if (!is_totp) {
		m.kind = (uint8_t)sp_rows_i64(rows, w->i, "kind");
		m.version = sp_rows_secret_ver(rows, w->i);
	}
	m.new_version = m.version + is_bound;
	SP_TRY(sp_rows_bytes(rows, w->i, "sealed", &sealed));
	m.sealed = sp_buf_span(&sealed);
	if (!sp_rows_uuid(rows, w->i, "id", m.id) || !sp_rows_uuid(rows, w->i,
	    is_totp ? "person_id" : "owner_id", m.owner))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_enc_v_rewrap(&body, &m));
	sp_vault_call(w->r->s->b->vault, SP_MSG_v_rewrap, sp_buf_span(&body),
	    SP_MSG_v_rewrap_r, on_rewrapped, w);
	return SP_OK;
}

static void
on_row(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct row *w = arg;
	struct sp_msg_v_row_renew_r m;
	bool has_secret = column(w->r->t, "sealed") >= 0;

	if (e == SP_OK)
		e = sp_dec_v_row_renew_r(reply->body, &m);
	if (e == SP_OK && m.state == SP_RENEWED_NOT) {
		w->r->now.broken++;
		has_secret = false;
	}
	if (e == SP_OK)
		w->is_old = m.state == SP_RENEWED_NOW;
	if (e == SP_OK && has_secret && (e = ask_secret(w)) == SP_OK)
		return;
	answered(w, e);
}

/* The row verified as it was loaded; by which epoch, the vault says here. */
static enum sp_err
ask_row(struct row *w)
{
	SP_BUF_AUTO canon = {.max = SP_CANON_MAX + 4096};
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sp_msg_v_row_renew m = {
	    .table = sp_span_str(sp_tables[w->r->t].name)};
	const char *values[SP_COLS_MAX];

	values_of(w, values);
	SP_TRY(sp_canon(&canon, w->r->t, values));
	SP_TRY(sp_uuid_parse(m.id, sp_span_str(raw(w, 0))));
	SP_TRY(sp_u64_parse(sp_span_str(raw(w, 1)), INT64_MAX, &m.version));
	SP_TRY(sp_bytea_parse(raw(w, 2), m.mac, 32));
	m.canon = sp_buf_span(&canon);
	SP_TRY(sp_enc_v_row_renew(&body, &m));
	sp_vault_call(w->r->s->b->vault, SP_MSG_v_row_renew, sp_buf_span(&body),
	    SP_MSG_v_row_renew_r, on_row, w);
	return SP_OK;
}

/* ------------------------------------------------------------- one page */

static void
on_committed(void *arg, enum sp_err e)
{
	struct renew *r = arg;

	for (size_t i = 0; e == SP_OK && i < PAGE_ROWS; i++) {
		r->now.renewed += r->row[i].is_old;
		r->now.closed += r->row[i].is_closed;
	}
	/* Somebody changed one of them meanwhile: the page is read again. */
	if (e == SP_ERR_STATE && ++r->tries < TRIES_MAX) {
		r->now.done -= (uint64_t)PQntuples(r->rows->res);
		r->now.broken -= sp_rows_n_broken(r->rows);
		memcpy(r->last, r->before, sizeof(r->last));
	} else {
		r->tries = 0;
		if (e != SP_OK)
			r->e = e;
	}
	drop_page(r);
	next_page(r);
}

static void
put_row(struct sp_change *c, const struct row *w)
{
	const char *values[SP_COLS_MAX] = {NULL};
	char was[24], now[24];
	uint64_t ver = sp_rows_ver(w->r->rows, w->i);
	uint8_t id[16];

	if (!sp_rows_uuid(w->r->rows, w->i, "id", id))
		return;
	values_of(w, values);
	sp_change_update(c, w->r->t, id, ver, values);
	if (w->r->t != SP_T_TOTP)
		return;
	/* The seed is the same: its last step stays spent. */
	snprintf(was, sizeof(was), "%llu", (unsigned long long)ver);
	snprintf(now, sizeof(now), "%llu", (unsigned long long)ver + 1);
	sp_change_sql(c, "UPDATE totp_spent SET version = $3::bigint WHERE "
	    "person_id = $1::uuid AND version = $2::bigint", (const char *[]){
	    values[column(SP_T_TOTP, "person_id")], was, now}, 3, 0);
}

static void
commit_page(struct renew *r)
{
	struct sp_change *c = NULL;

	for (size_t i = 0; r->e == SP_OK && i < sp_rows_n(r->rows); i++) {
		if (!r->row[i].is_old)
			continue;
		if (c == NULL)
			c = sp_change_new(r->s);
		put_row(c, &r->row[i]);
	}
	if (c != NULL) {
		sp_change_audit(c, "rows_sealed_anew", r->s->b->node, NULL, NULL);
		sp_change_commit(c, on_committed, r);
	} else {
		on_committed(r, r->e);
	}
}

static void
ask_page(struct renew *r)
{
	r->asked = 1;		/* until all are asked */
	for (size_t i = 0; r->e == SP_OK && i < sp_rows_n(r->rows); i++) {
		struct row *w = &r->row[i];
		enum sp_err e;

		r->asked++;
		e = ask_row(w);
		if (e != SP_OK)
			answered(w, e);
	}
	answered(&r->row[0], SP_OK);
}

static void
on_page(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct renew *r = arg;
	int n = e == SP_OK ? PQntuples(rows->res) : 0;

	if (e != SP_OK) {
		r->e = e;
		next_page(r);
		return;
	}
	if (n == 0) {
		r->t++;
		snprintf(r->last, sizeof(r->last), "%s", NIL);
		next_page(r);
		return;
	}
	memcpy(r->before, r->last, sizeof(r->before));
	snprintf(r->last, sizeof(r->last), "%s", PQgetvalue(rows->res, n - 1, 0));
	r->now.done += (uint64_t)n;
	r->now.broken += sp_rows_n_broken(rows);
	r->rows = sp_rows_ref(rows);
	ask_page(r);
}

static void
next_page(struct renew *r)
{
	const char *p[] = {r->last};

	if (r->e != SP_OK || r->t == SP_T_COUNT_) {
		finish(r);
		return;
	}
	r->progress(r->arg, SP_OK, &r->now);
	sp_store_load(r->s, r->t, "WHERE id > $1 ORDER BY id LIMIT " PAGE, p, 1,
	    on_page, r);
}

static void
on_counted(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct renew *r = arg;

	r->e = e;
	if (e == SP_OK)
		r->now.all = (uint64_t)sp_rows_i64(rows, 0, "n");
	next_page(r);
}

void
sp_renew(struct sp_store *s, sp_renew_cb progress, sp_renew_cb done, void *arg)
{
	SP_BUF_AUTO sql = {.max = 8192};
	struct renew *r = calloc(1, sizeof(*r));

	SP_ASSERT(r != NULL);
	*r = (struct renew){.s = s, .progress = progress, .done = done,
	    .arg = arg, .last = NIL};
	drop_page(r);
	SP_ASSERT(sp_buf_printf(&sql, "SELECT 0") == SP_OK);
	for (int t = 0; t < SP_T_COUNT_; t++)
		SP_ASSERT(sp_buf_printf(&sql, " + (SELECT count(*) FROM %s)",
		    sp_tables[t].name) == SP_OK);
	SP_ASSERT(sp_buf_printf(&sql, " AS n") == SP_OK &&
	    sp_buf_put_u8(&sql, 0) == SP_OK);
	sp_store_query(s, (const char *)sp_buf_span(&sql).p, NULL, 0, on_counted,
	    r);
}
