/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/mariadb.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#include "common/text.h"
#include "vault/poison.h"

#define FORM 2
#define HEAD 2
#define ED 64
#define SHA 20

static enum sp_err
sha1(uint8_t out[static SHA], struct sp_span a, struct sp_span b)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool ok = c != NULL && EVP_DigestInit_ex(c, EVP_sha1(), NULL) == 1 &&
	    EVP_DigestUpdate(c, a.p, a.n) == 1 &&
	    (b.n == 0 || EVP_DigestUpdate(c, b.p, b.n) == 1) &&
	    EVP_DigestFinal_ex(c, out, NULL) == 1;

	EVP_MD_CTX_free(c);
	return ok ? SP_OK : SP_ERR_CRYPTO;
}

/* A second digest of what `s` has: SHA1(SHA1(password)) from SHA1(password). */
static enum sp_err
sha1_of(uint8_t out[static SHA], const uint8_t *s)
{
	return sha1(out, sp_span_of(s, SHA), sp_span_of(NULL, 0));
}

static void
clamp(uint8_t a[static 32])
{
	a[0] &= 248;
	a[31] &= 63;
	a[31] |= 64;
}

enum sp_err
sp_mariadb_import(struct sp_span password, struct sp_span plugin,
    struct sp_secret *kept)
{
	bool native = sp_span_is(plugin, "native");
	SP_SECRET_AUTO s = {0}, random = {0};

	if (!native && plugin.n > 0 && !sp_span_is(plugin, "ed25519"))
		return SP_ERR_INVAL;
	if (password.n == 0) {
		SP_TRY(sp_secret_random(&random, 32));
		password = sp_span_of(random.p, random.n);
	}
	SP_TRY(sp_secret_new(&s, HEAD + (native ? SHA : ED)));
	s.p[0] = FORM;
	s.p[1] = native ? SP_MARIADB_NATIVE : SP_MARIADB_ED25519;
	if (native) {
		SP_TRY(sha1(s.p + HEAD, password, sp_span_of(NULL, 0)));
	} else {
		crypto_hash_sha512(s.p + HEAD, password.p, password.n);
		clamp(s.p + HEAD);
	}
	sp_secret_move(kept, &s);
	return SP_OK;
}

static bool
is_form(const struct sp_secret *k, uint8_t plugin)
{
	return k->n >= HEAD && k->p[0] == FORM && k->p[1] == plugin &&
	    k->n == HEAD + (plugin == SP_MARIADB_NATIVE ? (size_t)SHA : (size_t)ED);
}

enum sp_err
sp_mariadb_verifier(const struct sp_secret *kept, struct sp_buf *out)
{
	uint8_t pk[32], twice[SHA];
	char hex[2 * SHA + 1];

	if (is_form(kept, SP_MARIADB_ED25519)) {
		if (crypto_scalarmult_ed25519_base_noclamp(pk, kept->p + HEAD) != 0)
			return SP_ERR_CRYPTO;
		SP_TRY(sp_buf_printf(out, "ed25519 "));
		SP_TRY(sp_base64(out, sp_span_of(pk, sizeof(pk))));
		/* MariaDB writes the 43 characters without the padding. */
		out->len--;
		return SP_OK;
	}
	if (!is_form(kept, SP_MARIADB_NATIVE))
		return SP_ERR_CRYPTO;
	SP_TRY(sha1_of(twice, kept->p + HEAD));
	sp_hex(hex, twice, SHA);
	for (size_t i = 0; hex[i] != '\0'; i++)
		if (hex[i] >= 'a')
			hex[i] = (char)(hex[i] - 'a' + 'A');
	return sp_buf_printf(out, "mysql_native_password *%s", hex);
}

/* RFC 8032, 5.1.6, from the expanded key. */
static enum sp_err
sign(const uint8_t *az, struct sp_span m, uint8_t sig[static 64])
{
	uint8_t pk[32], wide[64], k[32], ka[32];
	SP_SECRET_AUTO r = {0};
	crypto_hash_sha512_state st;

	SP_TRY(sp_secret_new(&r, 32));
	if (crypto_scalarmult_ed25519_base_noclamp(pk, az) != 0)
		return SP_ERR_CRYPTO;
	crypto_hash_sha512_init(&st);
	crypto_hash_sha512_update(&st, az + 32, 32);
	crypto_hash_sha512_update(&st, m.p, m.n);
	crypto_hash_sha512_final(&st, wide);
	crypto_core_ed25519_scalar_reduce(r.p, wide);
	sodium_memzero(wide, sizeof(wide));
	sodium_memzero(&st, sizeof(st));
	if (crypto_scalarmult_ed25519_base_noclamp(sig, r.p) != 0)
		return SP_ERR_CRYPTO;
	crypto_hash_sha512_init(&st);
	crypto_hash_sha512_update(&st, sig, 32);
	crypto_hash_sha512_update(&st, pk, sizeof(pk));
	crypto_hash_sha512_update(&st, m.p, m.n);
	crypto_hash_sha512_final(&st, wide);
	crypto_core_ed25519_scalar_reduce(k, wide);
	crypto_core_ed25519_scalar_mul(ka, k, az);
	crypto_core_ed25519_scalar_add(sig + 32, ka, r.p);
	sodium_memzero(ka, sizeof(ka));
	/* A wrong answer would give the key away: it is checked. */
	return crypto_sign_verify_detached(sig, m.p, m.n, pk) == 0 ? SP_OK :
	    SP_ERR_CRYPTO;
}

static enum sp_err
scramble(const uint8_t *once, struct sp_span nonce, uint8_t out[static SHA])
{
	uint8_t twice[SHA];

	SP_TRY(sha1_of(twice, once));
	SP_TRY(sha1(out, nonce, sp_span_of(twice, SHA)));
	for (size_t i = 0; i < SHA; i++)
		out[i] ^= once[i];
	return SP_OK;
}

enum sp_err
sp_mariadb_answer(const struct sp_secret *kept, struct sp_span plugin,
    struct sp_span nonce, struct sp_buf *out)
{
	bool native = sp_span_is(plugin, "mysql_native_password");
	uint8_t answer[64];

	if (!native && !sp_span_is(plugin, "client_ed25519"))
		return SP_ERR_DENIED;
	if (!is_form(kept, native ? SP_MARIADB_NATIVE : SP_MARIADB_ED25519))
		return SP_ERR_DENIED;
	if (nonce.n != (native ? SHA : 32u))
		return SP_ERR_PROTO;
	if (native)
		SP_TRY(scramble(kept->p + HEAD, nonce, answer));
	else
		SP_TRY(sign(kept->p + HEAD, nonce, answer));
	return sp_buf_put(out, answer, native ? SHA : sizeof(answer));
}
