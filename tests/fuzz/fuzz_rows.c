/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a database that lies hands in: rows of sealed tables, the versions that
 * an audit event carries, sealed secrets. The first byte says which. A row has
 * one canonical form that can be read back, a seal of the database's own making
 * never holds, and a secret opens exactly as it was sealed or not at all.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/store_internal.h"
#include "common/ipc_messages.h"
#include "tests/unit/vault_kit.h"
#include "vault/rows.h"
#include "vault/secrets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIRST 3		/* id, ver, seal; then the registry's columns */
static struct sp_root root;

/* The next value: u16 length and bytes up to a NUL, 0xffff or nothing left for
 * NULL; on the heap, so that a byte read beyond it is seen. */
static char *
value(struct sp_span *in)
{
	uint16_t n;
	const uint8_t *p;
	char *s;

	if (sp_get_u16(in, &n) != SP_OK || n == UINT16_MAX)
		return NULL;
	if (n > in->n)
		n = (uint16_t)in->n;
	SP_ASSERT(sp_get(in, n, &p) == SP_OK && (s = malloc((size_t)n + 1)) != NULL);
	if (n > 0)
		memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

static PGresult *
answer(enum sp_table t, char **v, size_t n)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc d[FIRST + SP_COLS_MAX];

	SP_ASSERT(res != NULL);
	memset(d, 0, sizeof(d));
	for (size_t i = 0; i < n; i++) {
		static const char *const head[FIRST] = {"id", "ver", "seal"};
		const char *name = i < FIRST ? head[i] : sp_tables[t].cols[i - FIRST];

		SP_ASSERT((d[i].name = strdup(name)) != NULL);
	}
	SP_ASSERT(PQsetResultAttrs(res, (int)n, d));
	for (size_t i = 0; i < n; i++) {
		SP_ASSERT(PQsetvalue(res, 0, (int)i, v[i],
		    v[i] == NULL ? -1 : (int)strlen(v[i])));
		free(d[i].name);
	}
	return res;
}

static void
column(const struct sp_rows *r, const char *name, const char *v,
    enum sp_col_kind kind)
{
	SP_BUF_AUTO bytes = {.max = 1U << 17};
	uint8_t u[16];
	const char *got = sp_rows_get(r, 0, name);
	bool is_id = sp_rows_uuid(r, 0, name, u);

	SP_ASSERT((got == NULL) == (v == NULL) &&
	    (v == NULL || strcmp(got, v) == 0));
	(void)sp_rows_i64(r, 0, name);
	if (v == NULL || !sp_is_canonical(kind, v)) {
		(void)!sp_rows_bytes(r, 0, name, &bytes);
		return;
	}
	SP_ASSERT(kind != SP_K_UUID || is_id);
	if (kind == SP_K_BYTES) {
		char *again = malloc(strlen(v) + 1);

		SP_ASSERT(again != NULL &&
		    sp_rows_bytes(r, 0, name, &bytes) == SP_OK);
		sp_bytea_text(again, sp_buf_span(&bytes).p, bytes.len);
		SP_ASSERT(strcmp(again, v) == 0);
		free(again);
	}
}

/* What is sealed says all of the row: it is read back here. */
static void
canonical(enum sp_table t, char **v, const char *seal)
{
	SP_BUF_AUTO canon = {.max = 1U << 20};
	struct sp_span left, one, table = sp_span_str(sp_tables[t].name);
	static const uint8_t id[16] = {1};
	uint8_t mac[32], theirs[32];

	if (sp_canon(&canon, t, (const char *const *)v) != SP_OK)
		return;
	left = sp_buf_span(&canon);
	for (size_t i = 0; i < sp_tables[t].n_cols; i++) {
		struct sp_span at = left;
		uint32_t n;

		if (left.n == 0) {
			SP_ASSERT(v[i] == NULL && sp_table_cols[t][i].is_later);
			continue;
		}
		SP_ASSERT(sp_get_u32(&at, &n) == SP_OK);
		if (n == UINT32_MAX) {
			SP_ASSERT(v[i] == NULL);
			left = at;
			continue;
		}
		SP_ASSERT(sp_get_bytes(&left, SP_CANON_MAX, &one) == SP_OK &&
		    v[i] != NULL && sp_span_eq(one, sp_span_str(v[i])));
	}
	SP_ASSERT(left.n == 0);
	SP_ASSERT(sp_row_mac(&root, table, id, 7, sp_buf_span(&canon), mac) == SP_OK);
	SP_ASSERT(sp_row_is_sealed(&root, table, id, 7, sp_buf_span(&canon), mac));
	SP_ASSERT(!sp_row_is_sealed(&root, table, id, 8, sp_buf_span(&canon), mac));
	if (sp_bytea_parse(seal, theirs, 32) == SP_OK)
		SP_ASSERT(!sp_row_is_sealed(&root, table, id, 7,
		    sp_buf_span(&canon), theirs));
}

static void
row(struct sp_span in)
{
	char *v[FIRST + SP_COLS_MAX] = {NULL};
	enum sp_table t;
	struct sp_rows *r;
	uint8_t b, u[16];
	size_t n;

	if (sp_get_u8(&in, &b) != SP_OK)
		return;
	t = (enum sp_table)(b % SP_T_COUNT_);
	n = FIRST + sp_tables[t].n_cols;
	for (size_t i = 0; i < n; i++)
		v[i] = value(&in);
	r = sp_rows_new(answer(t, v, n));
	SP_ASSERT(sp_rows_n(r) == 1);
	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		column(r, sp_tables[t].cols[i], v[FIRST + i],
		    sp_table_cols[t][i].kind);
	(void)sp_rows_uuid(r, 0, "id", u);
	(void)sp_rows_ver(r, 0);
	canonical(t, v + FIRST, v[2]);
	sp_rows_free(r);
	for (size_t i = 0; i < n; i++)
		free(v[i]);
}

static size_t
entered(const struct sp_heads *h)
{
	size_t n = 0;

	for (int t = 0; t < SP_T_COUNT_; t++)
		n += sp_heads_each(h, (enum sp_table)t, NULL, NULL, NULL);
	return n;
}

/* The versions of an event: entered twice they are the same. */
static void
versions(struct sp_span in)
{
	struct sp_heads *h = sp_heads_new(-1);
	char *text = calloc(1, in.n + 1);
	size_t n;
	bool ok;

	SP_ASSERT(text != NULL);
	if (in.n > 0)
		memcpy(text, in.p, in.n);
	ok = sp_heads_enter(h, text);
	n = entered(h);
	SP_ASSERT(sp_heads_enter(h, text) == ok && entered(h) == n);
	free(text);
	sp_heads_free(h);
}

/* A genuine one changed by (u16 where, u8 xor) of the input, and the input. */
static void
secret(struct sp_span in)
{
	static const char clear[] = "correct horse battery staple";
	struct sp_secret_row who = {.kind = SP_CRED_SSH_PASSWORD, .id = {2},
	    .owner = {3}, .version = 4};
	SP_BUF_AUTO sealed = {.max = 8192};
	SP_SECRET_AUTO raw = {0}, got = {0};
	uint8_t bad[1024], is_bad = 0, mask;
	uint16_t where;

	SP_ASSERT(sp_secret_unseal(&root, &who, in, &raw) != SP_OK);
	SP_ASSERT(sp_secret_seal(&root, &who, sp_span_str(clear), &sealed) ==
	    SP_OK && sealed.len <= sizeof(bad));
	memcpy(bad, sp_buf_span(&sealed).p, sealed.len);
	while (sp_get_u16(&in, &where) == SP_OK && sp_get_u8(&in, &mask) == SP_OK)
		bad[where % sealed.len] ^= mask;
	for (size_t i = 0; i < sealed.len; i++)
		is_bad |= bad[i] ^ sp_buf_span(&sealed).p[i];
	SP_ASSERT((sp_secret_unseal(&root, &who, sp_span_of(bad, sealed.len),
	    &got) == SP_OK) == (is_bad == 0));
	SP_ASSERT(is_bad != 0 || sp_span_eq(sp_span_of(got.p, got.n),
	    sp_span_str(clear)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_span in = sp_span_of(data, size);
	uint8_t what;

	if (!root.is_open) {
		sp_log_init("fuzz", false);
		kit_root(&root);
	}
	if (sp_get_u8(&in, &what) != SP_OK)
		return 0;
	if (what % 3 == 0)
		row(in);
	else if (what % 3 == 1)
		versions(in);
	else
		secret(in);
	return 0;
}
