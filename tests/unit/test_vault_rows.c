/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in the database: row seals, sealed secrets, one-time codes. */
#include <criterion/criterion.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/vault_kit.h"
#include "vault/kinds.h"
#include "vault/rows.h"
#include "vault/totp.h"

#define OK(e) cr_assert_eq((e), SP_OK)

TestSuite(vault_rows, .timeout = 60);

Test(vault_rows, any_change_of_a_row_breaks_its_seal)
{
	uint8_t id[16] = {1, 2, 3}, mac[32], canon[40], id2[16] = {1, 2, 4};
	struct sp_span t = sp_span_str("people"), c = sp_span_of(canon, 40);
	struct sp_root r;

	kit_root(&r);
	randombytes_buf(canon, sizeof(canon));
	OK(sp_row_mac(&r, t, id, 7, c, mac));
	cr_assert(sp_row_is_sealed(&r, t, id, 7, c, mac));
	cr_assert_not(sp_row_is_sealed(&r, sp_span_str("peopl"), id, 7, c, mac));
	cr_assert_not(sp_row_is_sealed(&r, t, id2, 7, c, mac));
	cr_assert_not(sp_row_is_sealed(&r, t, id, 6, c, mac));
	cr_assert_not(sp_row_is_sealed(&r, t, id, 7, sp_span_of(canon, 39), mac));
	for (size_t i = 0; i < 8 * sizeof(canon); i++) {
		canon[i / 8] = (uint8_t)(canon[i / 8] ^ 1U << i % 8);
		cr_assert_not(sp_row_is_sealed(&r, t, id, 7, c, mac));
		canon[i / 8] = (uint8_t)(canon[i / 8] ^ 1U << i % 8);
	}
	for (size_t i = 0; i < 8 * sizeof(mac); i++) {
		mac[i / 8] = (uint8_t)(mac[i / 8] ^ 1U << i % 8);
		cr_assert_not(sp_row_is_sealed(&r, t, id, 7, c, mac));
		mac[i / 8] = (uint8_t)(mac[i / 8] ^ 1U << i % 8);
	}
	cr_assert(sp_row_is_sealed(&r, t, id, 7, c, mac));
	sp_root_close(&r);
	cr_assert_not(sp_row_is_sealed(&r, t, id, 7, c, mac));
	cr_assert_eq(sp_row_mac(&r, t, id, 7, c, mac), SP_ERR_SEALED);
}

/* Lengths are part of it: bytes cannot move from one field to the next. */
Test(vault_rows, fields_do_not_run_together)
{
	uint8_t id[16] = {0}, a[32], b[32];
	struct sp_root r;

	kit_root(&r);
	OK(sp_row_mac(&r, sp_span_str("ab"), id, 1, sp_span_str("c"), a));
	OK(sp_row_mac(&r, sp_span_str("a"), id, 1, sp_span_str("bc"), b));
	cr_assert_neq(sodium_memcmp(a, b, 32), 0);
	cr_assert_neq(sp_row_mac(&r, sp_span_str(""), id, 1, sp_span_str("x"), a),
	    SP_OK);
	sp_root_close(&r);
}

static void
sealed_password(struct sp_root *r, struct sp_secret_row *row, struct sp_buf *out)
{
	*row = (struct sp_secret_row){.kind = SP_CRED_SSH_PASSWORD, .version = 4};
	memset(row->id, 1, 16);
	memset(row->owner, 2, 16);
	kit_root(r);
	OK(sp_secret_seal(r, row, sp_span_str(KIT_PASSWORD), out));
}

Test(vault_rows, a_secret_opens_in_its_own_row_only)
{
	struct sp_buf b = {.max = 8192};
	struct sp_secret s = {0};
	struct sp_secret_row row, other;
	struct sp_root r, r2;

	sealed_password(&r, &row, &b);
	OK(sp_secret_unseal(&r, &row, sp_buf_span(&b), &s));
	cr_assert(sp_span_is(sp_span_of(s.p, s.n), KIT_PASSWORD));
	other = row;
	other.id[15] ^= 1;
	cr_assert_eq(sp_secret_unseal(&r, &other, sp_buf_span(&b), &s),
	    SP_ERR_CRYPTO);
	other = row;
	other.owner[0] ^= 1;
	cr_assert_eq(sp_secret_unseal(&r, &other, sp_buf_span(&b), &s),
	    SP_ERR_CRYPTO);
	other = row;
	other.version--;
	cr_assert_eq(sp_secret_unseal(&r, &other, sp_buf_span(&b), &s),
	    SP_ERR_CRYPTO);
	other = row;
	other.kind = SP_CRED_TOTP_SEED;
	cr_assert_eq(sp_secret_unseal(&r, &other, sp_buf_span(&b), &s),
	    SP_ERR_CRYPTO);
	kit_root(&r2);
	cr_assert_eq(sp_secret_unseal(&r2, &row, sp_buf_span(&b), &s),
	    SP_ERR_CRYPTO);
	sp_secret_free(&s);
	sp_root_close(&r2);
	sp_root_close(&r);
	cr_assert_eq(sp_secret_unseal(&r, &row, sp_buf_span(&b), &s),
	    SP_ERR_SEALED);
	cr_assert_eq(sp_secret_in_use(), 0);
	sp_buf_fini(&b);
}

Test(vault_rows, every_flipped_byte_of_a_secret_is_refused)
{
	struct sp_buf b = {.max = 8192};
	struct sp_secret s = {0};
	struct sp_secret_row row;
	struct sp_root r;
	uint8_t copy[1024];

	sealed_password(&r, &row, &b);
	for (size_t i = 0; i < 8 * b.len; i++) {
		memcpy(copy, sp_buf_span(&b).p, b.len);
		copy[i / 8] = (uint8_t)(copy[i / 8] ^ 1U << i % 8);
		cr_assert_eq(sp_secret_unseal(&r, &row, sp_span_of(copy, b.len), &s),
		    SP_ERR_CRYPTO, "bit %zu", i);
	}
	for (size_t n = 0; n < b.len; n++)
		cr_assert_eq(sp_secret_unseal(&r, &row,
		    sp_span_of(sp_buf_span(&b).p, n), &s), SP_ERR_CRYPTO);
	sp_root_close(&r);
	sp_buf_fini(&b);
}

Test(vault_rows, the_length_of_a_password_does_not_show)
{
	struct sp_buf a = {.max = 8192}, b = {.max = 8192}, c = {.max = 16384};
	static uint8_t big[SP_SECRET_CLEAR_MAX + 1];
	struct sp_secret_row row = {.kind = SP_CRED_SSH_PASSWORD};
	struct sp_secret s = {0};
	struct sp_root r;

	kit_root(&r);
	memset(big, 'x', sizeof(big));
	OK(sp_secret_seal(&r, &row, sp_span_str("x"), &a));
	OK(sp_secret_seal(&r, &row, sp_span_of(big, 60), &b));
	cr_assert_eq(a.len, b.len);
	cr_assert_eq(sp_secret_seal(&r, &row, sp_span_of(big, sizeof(big)), &c),
	    SP_ERR_TOOBIG);
	cr_assert_eq(sp_secret_seal(&r, &row, sp_span_str(""), &c), SP_ERR_TOOBIG);
	OK(sp_secret_seal(&r, &row, sp_span_of(big, SP_SECRET_CLEAR_MAX), &c));
	OK(sp_secret_unseal(&r, &row, sp_buf_span(&c), &s));
	cr_assert_eq(s.n, SP_SECRET_CLEAR_MAX);
	sp_secret_free(&s);
	sp_root_close(&r);
	sp_buf_fini(&a);
	sp_buf_fini(&b);
	sp_buf_fini(&c);
}

Test(vault_rows, what_is_handed_in_is_checked)
{
	struct sp_secret s = {0};

	OK(sp_secret_init());
	OK(sp_secret_import(SP_CRED_SSH_PASSWORD, sp_span_str("pw"), (struct sp_span){0}, &s));
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_PASSWORD, sp_span_str("p\nw"),
	    (struct sp_span){0}, &s), SP_ERR_SYNTAX);
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_PASSWORD, sp_span_of("p\0w", 3),
	    (struct sp_span){0}, &s), SP_ERR_SYNTAX);
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_CERT, sp_span_str("pw"), (struct sp_span){0}, &s),
	    SP_ERR_INVAL);
	cr_assert_eq(sp_secret_import(SP_CRED_TOTP_SEED, sp_span_str("short"), (struct sp_span){0}, &s),
	    SP_ERR_INVAL);
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_span_str("no key"), (struct sp_span){0}, &s),
	    SP_ERR_UNSUPPORTED);
	sp_secret_free(&s);
}

/* -------------------------------------------------------------------- TOTP */

static void
rfc_seed(struct sp_secret *s)
{
	OK(sp_secret_init());
	OK(sp_secret_new(s, 20));
	memcpy(s->p, "12345678901234567890", 20);
}

/* RFC 6238, appendix B, the last six of its eight digits. */
Test(vault_rows, totp_vectors)
{
	static const struct {
		uint64_t time;
		const char *code;
	} v[] = {{59, "287082"}, {1111111109, "081804"}, {1111111111, "050471"},
	    {1234567890, "005924"}, {2000000000, "279037"},
	    {20000000000, "353130"}};
	struct sp_totp_spent *t = sp_totp_spent_new();
	struct sp_secret seed = {0};
	uint8_t id[16] = {0};

	rfc_seed(&seed);
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		char code[7];
		uint64_t step = 0;

		OK(sp_totp_code(&seed, v[i].time / 30, code));
		cr_assert_str_eq(code, v[i].code);
		id[0] = (uint8_t)i;
		if (v[i].time < 60)
			continue;
		OK(sp_totp_check(t, id, &seed, sp_span_str(v[i].code),
		    (int64_t)v[i].time * 1000000, &step));
		cr_assert_eq(step, v[i].time / 30);
	}
	sp_totp_spent_free(t);
	sp_secret_free(&seed);
}

Test(vault_rows, totp_window_is_one_step_each_way)
{
	const int64_t now = 1700000000;
	struct sp_secret seed = {0};

	rfc_seed(&seed);
	for (int d = -3; d <= 3; d++) {
		struct sp_totp_spent *t = sp_totp_spent_new();
		uint64_t at = (uint64_t)(now / 30 + d), step = 0;
		uint8_t id[16] = {0};
		char code[7];

		OK(sp_totp_code(&seed, at, code));
		cr_assert_eq(sp_totp_check(t, id, &seed, sp_span_str(code),
		    now * 1000000, &step), d >= -1 && d <= 1 ? SP_OK :
		    SP_ERR_DENIED);
		cr_assert_eq(step, d >= -1 && d <= 1 ? at : 0);
		sp_totp_spent_free(t);
	}
	sp_secret_free(&seed);
}

Test(vault_rows, totp_takes_six_digits_only)
{
	static const char *const bad[] = {"", "28708", "2870822", " 287082",
	    "287082 ", "28 7082", "+87082", "0x1234", "287082\n", "２８７０８２"};
	struct sp_totp_spent *t = sp_totp_spent_new();
	struct sp_secret seed = {0};
	uint8_t id[16] = {0};
	uint64_t step = 0;

	rfc_seed(&seed);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(sp_totp_check(t, id, &seed, sp_span_str(bad[i]),
		    89LL * 1000000, &step), SP_ERR_DENIED);
	cr_assert_eq(sp_totp_check(t, id, &seed, sp_span_of("28708\0", 6),
	    89LL * 1000000, &step), SP_ERR_DENIED);
	sp_totp_spent_free(t);
	sp_secret_free(&seed);
}

Test(vault_rows, a_totp_code_opens_once)
{
	const int64_t now = 1700000000;
	struct sp_totp_spent *t = sp_totp_spent_new();
	struct sp_secret seed = {0};
	uint8_t a[16] = {1}, b[16] = {2};
	char code[7], before[7];
	uint64_t step;

	rfc_seed(&seed);
	OK(sp_totp_code(&seed, (uint64_t)now / 30, code));
	OK(sp_totp_code(&seed, (uint64_t)now / 30 - 1, before));
	OK(sp_totp_check(t, a, &seed, sp_span_str(code), now * 1000000, &step));
	for (int i = 0; i < 200; i++)
		cr_assert_eq(sp_totp_check(t, a, &seed, sp_span_str(code),
		    now * 1000000, &step), SP_ERR_EXISTS);
	/* nor an older one that was not used */
	cr_assert_eq(sp_totp_check(t, a, &seed, sp_span_str(before), now * 1000000,
	    &step), SP_ERR_EXISTS);
	/* another person's seed is another matter */
	OK(sp_totp_check(t, b, &seed, sp_span_str(before), now * 1000000, &step));
	sp_totp_spent_free(t);
	sp_secret_free(&seed);
}

/* Full of codes that could still match, it refuses; later there is room. */
Test(vault_rows, totp_memory_is_bounded_and_fails_closed)
{
	const int64_t now = 1700000000;
	struct sp_totp_spent *t = sp_totp_spent_new();
	struct sp_secret seed = {0};
	uint8_t id[16] = {0};
	char code[7];
	uint64_t step;

	rfc_seed(&seed);
	OK(sp_totp_code(&seed, (uint64_t)now / 30, code));
	for (uint32_t i = 0; i <= SP_TOTP_SPENT_MAX; i++) {
		memcpy(id, &i, sizeof(i));
		cr_assert_eq(sp_totp_check(t, id, &seed, sp_span_str(code),
		    now * 1000000, &step), i < SP_TOTP_SPENT_MAX ? SP_OK :
		    SP_ERR_FULL);
	}
	OK(sp_totp_code(&seed, (uint64_t)now / 30 + 2, code));
	OK(sp_totp_check(t, id, &seed, sp_span_str(code), (now + 60) * 1000000,
	    &step));
	sp_totp_spent_free(t);
	sp_secret_free(&seed);
}
