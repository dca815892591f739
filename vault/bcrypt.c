/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/bcrypt.h"

#include <openssl/bn.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "vault/poison.h"

#define P_WORDS 18
#define S_WORDS 1024
#define PI_BITS ((P_WORDS + S_WORDS) * 32)
#define GUARD_BITS 64
#define BLOCK 32		/* bytes of one bcrypt */
#define KEY_MAX 128

struct blowfish {
	uint32_t p[P_WORDS], s[S_WORDS];
};
static struct blowfish pi;
static bool has_pi;

/* out = 2^(PI_BITS + GUARD_BITS) * atan(1/x), by its series. */
static bool
atan_inverse(BIGNUM *out, BN_ULONG x)
{
	BIGNUM *power = BN_new(), *term = BN_new();
	bool ok = power != NULL && term != NULL && BN_set_word(out, 0) == 1 &&
	    BN_set_word(power, 1) == 1 &&
	    BN_lshift(power, power, PI_BITS + GUARD_BITS) == 1 &&
	    BN_div_word(power, x) != (BN_ULONG)-1;

	for (BN_ULONG n = 1; ok && !BN_is_zero(power); n += 2) {
		ok = BN_copy(term, power) != NULL &&
		    BN_div_word(term, n) != (BN_ULONG)-1 &&
		    (n % 4 == 1 ? BN_add(out, out, term) :
		    BN_sub(out, out, term)) == 1 &&
		    BN_div_word(power, x * x) != (BN_ULONG)-1;
	}
	BN_free(power);
	BN_free(term);
	return ok;
}

/* Machin: pi = 16 atan(1/5) - 4 atan(1/239). Its fraction, 32 bits a word. */
static enum sp_err
need_pi(void)
{
	uint8_t bytes[PI_BITS / 8];
	BIGNUM *a = BN_new(), *b = BN_new();
	bool ok = a != NULL && b != NULL && atan_inverse(a, 5) &&
	    atan_inverse(b, 239) && BN_mul_word(a, 16) == 1 &&
	    BN_mul_word(b, 4) == 1 && BN_sub(a, a, b) == 1 &&
	    BN_rshift(a, a, GUARD_BITS) == 1 && BN_mask_bits(a, PI_BITS) == 1 &&
	    BN_bn2binpad(a, bytes, sizeof(bytes)) == (int)sizeof(bytes);

	BN_free(a);
	BN_free(b);
	for (size_t i = 0; ok && i < P_WORDS + S_WORDS; i++) {
		const uint8_t *w = bytes + 4 * i;
		uint32_t v = (uint32_t)w[0] << 24 | (uint32_t)w[1] << 16 |
		    (uint32_t)w[2] << 8 | w[3];

		if (i < P_WORDS)
			pi.p[i] = v;
		else
			pi.s[i - P_WORDS] = v;
	}
	has_pi = ok;
	return ok ? SP_OK : SP_ERR_NOMEM;
}

static uint32_t
mix(const struct blowfish *b, uint32_t x)
{
	return ((b->s[x >> 24] + b->s[256 + (x >> 16 & 0xff)]) ^
	    b->s[512 + (x >> 8 & 0xff)]) + b->s[768 + (x & 0xff)];
}

static void
encipher(const struct blowfish *b, uint32_t *left, uint32_t *right)
{
	uint32_t l = *left, r = *right, t;

	for (size_t i = 0; i < 16; i++) {
		l ^= b->p[i];
		r ^= mix(b, l);
		t = l;
		l = r;
		r = t;
	}
	*left = r ^ b->p[17];
	*right = l ^ b->p[16];
}

/* The next four bytes of data without end, big-endian. */
static uint32_t
next_word(const uint8_t *d, size_t n, size_t *at)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++) {
		v = v << 8 | d[*at];
		*at = (*at + 1) % n;
	}
	return v;
}

/* Blowfish's key schedule; salt NULL: nothing is mixed in. */
static void
expand(struct blowfish *b, const uint8_t *salt, const uint8_t *key)
{
	uint32_t l = 0, r = 0, *w;
	size_t at = 0, from = 0;

	for (size_t i = 0; i < P_WORDS; i++)
		b->p[i] ^= next_word(key, 64, &at);
	for (size_t i = 0; i < P_WORDS + S_WORDS; i += 2) {
		if (salt != NULL) {
			l ^= next_word(salt, 64, &from);
			r ^= next_word(salt, 64, &from);
		}
		encipher(b, &l, &r);
		w = i < P_WORDS ? &b->p[i] : &b->s[i - P_WORDS];
		w[0] = l;
		w[1] = r;
	}
}

static void
one_block(struct blowfish *b, const uint8_t *pass, const uint8_t *salt,
    uint8_t out[static BLOCK])
{
	static const uint8_t text[] = "OxychromaticBlowfishSwatDynamite";
	uint32_t w[BLOCK / 4];
	size_t at = 0;

	*b = pi;
	expand(b, salt, pass);
	for (int i = 0; i < 64; i++) {
		expand(b, NULL, salt);
		expand(b, NULL, pass);
	}
	for (size_t i = 0; i < BLOCK / 4; i++)
		w[i] = next_word(text, BLOCK, &at);
	for (int k = 0; k < 64; k++)
		for (size_t i = 0; i < BLOCK / 4; i += 2)
			encipher(b, &w[i], &w[i + 1]);
	for (size_t i = 0; i < BLOCK; i++)
		out[i] = (uint8_t)(w[i / 4] >> (8 * (i % 4)));
	explicit_bzero(w, sizeof(w));
}

enum sp_err
sp_bcrypt_pbkdf(struct sp_span pass, struct sp_span salt, uint32_t rounds,
    uint8_t *key, size_t n)
{
	size_t stride = (n + BLOCK - 1) / BLOCK;
	uint8_t sha_pass[64], sha_salt[64], first[132], out[BLOCK], sum[BLOCK];
	struct blowfish b;

	if (n == 0 || n > KEY_MAX || salt.n == 0 || salt.n > 128 || rounds == 0 ||
	    rounds > SP_BCRYPT_ROUNDS_MAX || pass.n == 0)
		return SP_ERR_INVAL;
	if (!has_pi)
		SP_TRY(need_pi());
	crypto_hash_sha512(sha_pass, pass.p, pass.n);
	memcpy(first, salt.p, salt.n);
	for (size_t c = 0; c < stride; c++) {
		memset(first + salt.n, 0, 3);
		first[salt.n + 3] = (uint8_t)(c + 1);
		crypto_hash_sha512(sha_salt, first, salt.n + 4);
		one_block(&b, sha_pass, sha_salt, out);
		memcpy(sum, out, BLOCK);
		for (uint32_t i = 1; i < rounds; i++) {
			crypto_hash_sha512(sha_salt, out, BLOCK);
			one_block(&b, sha_pass, sha_salt, out);
			for (size_t k = 0; k < BLOCK; k++)
				sum[k] ^= out[k];
		}
		for (size_t k = 0; k < BLOCK && k * stride + c < n; k++)
			key[k * stride + c] = sum[k];
	}
	explicit_bzero(&b, sizeof(b));
	explicit_bzero(sha_pass, sizeof(sha_pass));
	explicit_bzero(out, sizeof(out));
	explicit_bzero(sum, sizeof(sum));
	return SP_OK;
}
