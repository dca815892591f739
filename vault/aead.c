/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/aead.h"

#include <sodium.h>
#include <string.h>

#include "vault/poison.h"

_Static_assert(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES == SP_AEAD_NONCE &&
    crypto_aead_xchacha20poly1305_ietf_ABYTES + SP_AEAD_NONCE ==
    SP_AEAD_OVERHEAD && crypto_aead_xchacha20poly1305_ietf_KEYBYTES ==
    SP_KEY_BYTES, "sizes of the cipher");

enum sp_err
sp_aead_seal(const uint8_t key[static SP_KEY_BYTES], struct sp_span aad,
    struct sp_span plain, struct sp_buf *out)
{
	uint8_t *at;

	SP_TRY(sp_buf_reserve(out, plain.n + SP_AEAD_OVERHEAD, &at));
	randombytes_buf(at, SP_AEAD_NONCE);
	if (crypto_aead_xchacha20poly1305_ietf_encrypt(at + SP_AEAD_NONCE, NULL,
	    plain.p, plain.n, aad.p, aad.n, NULL, at, key) != 0)
		return SP_ERR_CRYPTO;
	sp_buf_commit(out, plain.n + SP_AEAD_OVERHEAD);
	return SP_OK;
}

enum sp_err
sp_aead_open(const uint8_t key[static SP_KEY_BYTES], struct sp_span aad,
    struct sp_span sealed, struct sp_secret *out)
{
	SP_SECRET_AUTO s = {0};

	if (sealed.n <= SP_AEAD_OVERHEAD)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_secret_new(&s, sealed.n - SP_AEAD_OVERHEAD));
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(s.p, NULL, NULL,
	    sealed.p + SP_AEAD_NONCE, sealed.n - SP_AEAD_NONCE, aad.p, aad.n,
	    sealed.p, key) != 0)
		return SP_ERR_CRYPTO;
	sp_secret_move(out, &s);
	return SP_OK;
}

enum sp_err
sp_key_wrap(const uint8_t key[static SP_KEY_BYTES], struct sp_span aad,
    const uint8_t k[static SP_KEY_BYTES], uint8_t out[static SP_WRAPPED_KEY])
{
	SP_BUF_AUTO b = {.max = SP_WRAPPED_KEY};

	SP_TRY(sp_aead_seal(key, aad, sp_span_of(k, SP_KEY_BYTES), &b));
	SP_ASSERT(b.len == SP_WRAPPED_KEY);
	memcpy(out, sp_buf_span(&b).p, SP_WRAPPED_KEY);
	return SP_OK;
}

enum sp_err
sp_key_derive(const uint8_t parent[static SP_KEY_BYTES], const char *label,
    struct sp_span context, struct sp_secret *out)
{
	crypto_generichash_state st;
	SP_SECRET_AUTO s = {0};
	int bad;

	SP_TRY(sp_secret_new(&s, SP_KEY_BYTES));
	bad = crypto_generichash_init(&st, parent, SP_KEY_BYTES, SP_KEY_BYTES);
	/* The label's NUL ends it: no label is the beginning of another. */
	bad |= crypto_generichash_update(&st, (const uint8_t *)label,
	    strlen(label) + 1);
	bad |= crypto_generichash_update(&st, context.p, context.n);
	bad |= crypto_generichash_final(&st, s.p, SP_KEY_BYTES);
	sodium_memzero(&st, sizeof(st));
	if (bad != 0)
		return SP_ERR_CRYPTO;
	sp_secret_move(out, &s);
	return SP_OK;
}
