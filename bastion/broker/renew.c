/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/renew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/store_internal.h"

#define PAGE "128"
#define PAGE_ROWS 128
#define COL_FIRST 3		/* id, ver and seal come before the columns */
#define NIL "00000000-0000-0000-0000-000000000000"
#define SEALED_TEXT (2 * 8192 + 3)

struct row {
	struct renew *r;
	size_t i;
	bool is_new;
	uint8_t seal[32];
	char *sealed;		/* the new secret as \x text, or NULL */
};
struct renew {
	struct sp_store *s;
	sp_renew_cb progress, done;
	void *arg;
	struct sp_renewal now;
	enum sp_table t;
	char last[SP_UUID_TEXT];
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

static enum sp_err
canon_of(const struct row *w, struct sp_buf *out)
{
	const char *values[SP_COLS_MAX];
	enum sp_table t = w->r->t;

	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		values[i] = raw(w, (int)i + COL_FIRST);
	if (w->sealed != NULL)
		values[column(t, "sealed")] = w->sealed;
	return sp_canon(out, t, values);
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
on_renewed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct row *w = arg;
	struct sp_msg_v_row_renew_r m;

	if (e == SP_OK)
		e = sp_dec_v_row_renew_r(reply->body, &m);
	if (e == SP_OK && m.state == SP_RENEWED_NOW) {
		w->is_new = true;
		memcpy(w->seal, m.mac, 32);
	} else if (e == SP_OK && m.state != SP_RENEWED_IS) {
		w->r->now.broken++;
	}
	answered(w, e);
}

static void
on_sealed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct row *w = arg;
	struct sp_msg_v_row_seal_r m;

	if (e == SP_OK)
		e = sp_dec_v_row_seal_r(reply->body, &m);
	if (e == SP_OK && m.ok != 1)
		e = SP_ERR_SEALED;
	if (e == SP_OK) {
		w->is_new = true;
		memcpy(w->seal, m.mac, 32);
	}
	answered(w, e);
}

/* The row verified as it was loaded; the vault looks again before it renews. */
static enum sp_err
ask_seal(struct row *w)
{
	SP_BUF_AUTO canon = {.max = SP_CANON_MAX + 4096};
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sp_msg_v_row_renew m = {
	    .table = sp_span_str(sp_tables[w->r->t].name)};
	struct sp_msg_v_row_seal fresh = {.table = m.table};
	struct sp_vault *v = w->r->s->b->vault;

	SP_TRY(canon_of(w, &canon));
	SP_TRY(sp_uuid_parse(m.id, sp_span_str(raw(w, 0))));
	SP_TRY(sp_u64_parse(sp_span_str(raw(w, 1)), INT64_MAX, &m.version));
	SP_TRY(sp_bytea_parse(raw(w, 2), m.mac, 32));
	m.canon = sp_buf_span(&canon);
	if (w->sealed == NULL) {
		SP_TRY(sp_enc_v_row_renew(&body, &m));
		sp_vault_call(v, SP_MSG_v_row_renew, sp_buf_span(&body),
		    SP_MSG_v_row_renew_r, on_renewed, w);
		return SP_OK;
	}
	fresh.version = m.version;
	fresh.canon = m.canon;
	memcpy(fresh.id, m.id, 16);
	SP_TRY(sp_enc_v_row_seal(&body, &fresh));
	sp_vault_call(v, SP_MSG_v_row_seal, sp_buf_span(&body),
	    SP_MSG_v_row_seal_r, on_sealed, w);
	return SP_OK;
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
	} else if (e == SP_OK && m.state != SP_RENEWED_IS) {
		w->r->now.closed++;
	}
	if (e == SP_OK)
		e = ask_seal(w);
	if (e != SP_OK)
		answered(w, e);
}

static enum sp_err
ask_secret(struct row *w)
{
	const struct sp_rows *rows = w->r->rows;
	bool is_totp = w->r->t == SP_T_TOTP;
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, sealed = {.max = 8192};
	struct sp_msg_v_rewrap m = {.kind = SP_CRED_TOTP_SEED,
	    .version = sp_rows_ver(rows, w->i)};

	if (!is_totp) {
		m.kind = (uint8_t)sp_rows_i64(rows, w->i, "kind");
		m.version = sp_rows_secret_ver(rows, w->i);
	}
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

/* ------------------------------------------------------------- one page */

static void
on_committed(void *arg, enum sp_err e)
{
	struct renew *r = arg;

	if (e != SP_OK)
		r->e = e;
	for (size_t i = 0; e == SP_OK && i < PAGE_ROWS; i++)
		r->now.renewed += r->row[i].is_new;
	drop_page(r);
	next_page(r);
}

static void
put_row(struct sp_change *c, const struct row *w)
{
	char seal[2 * 32 + 3];
	const char *p[] = {sp_tables[w->r->t].name, raw(w, 0), raw(w, 1),
	    raw(w, 2), seal, w->sealed};

	sp_bytea_text(seal, w->seal, 32);
	sp_change_sql(c, "SELECT renew_seal($1, $2::uuid, $3::bigint, $4::bytea, "
	    "$5::bytea, $6::bytea)", p, 6, 0);
}

static void
commit_page(struct renew *r)
{
	struct sp_change *c = NULL;

	for (size_t i = 0; r->e == SP_OK && i < sp_rows_n(r->rows); i++) {
		if (!r->row[i].is_new)
			continue;
		if (c == NULL)
			c = sp_change_new(r->s);
		put_row(c, &r->row[i]);
	}
	if (c != NULL)
		sp_change_commit(c, on_committed, r);
	else
		on_committed(r, r->e);
}

static void
ask_page(struct renew *r)
{
	bool has_secret = column(r->t, "sealed") >= 0;

	r->asked = 1;		/* until all are asked */
	for (size_t i = 0; r->e == SP_OK && i < sp_rows_n(r->rows); i++) {
		struct row *w = &r->row[i];
		enum sp_err e;

		r->asked++;
		e = has_secret ? ask_secret(w) : ask_seal(w);
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
