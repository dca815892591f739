/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/pgscram.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#include "common/text.h"
#include "vault/poison.h"

#define FORM 1
#define KEY 32
#define KEPT_MIN (1 + 4 + 1 + 2 * KEY)

struct parts {
	uint32_t iterations;
	struct sp_span salt;
	const uint8_t *client_key, *server_key;
};

static enum sp_err
take_apart(const struct sp_secret *kept, struct parts *p)
{
	struct sp_span s = sp_span_of(kept->p, kept->n);
	uint8_t form, n;
	const uint8_t *salt;

	SP_TRY(sp_get_u8(&s, &form));
	SP_TRY(sp_get_u32(&s, &p->iterations));
	SP_TRY(sp_get_u8(&s, &n));
	if (form != FORM || n == 0 || n > SP_SCRAM_SALT_MAX || s.n != n + 2u * KEY)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_get(&s, n, &salt));
	p->salt = sp_span_of(salt, n);
	SP_TRY(sp_get(&s, KEY, &p->client_key));
	return sp_get(&s, KEY, &p->server_key);
}

static void
mac(const uint8_t key[static KEY], struct sp_span text, uint8_t out[static KEY])
{
	crypto_auth_hmacsha256_state st;

	crypto_auth_hmacsha256_init(&st, key, KEY);
	crypto_auth_hmacsha256_update(&st, text.p, text.n);
	crypto_auth_hmacsha256_final(&st, out);
	sodium_memzero(&st, sizeof(st));
}

static enum sp_err
from_salted(const struct sp_secret *salted, struct sp_span salt,
    uint32_t iterations, struct sp_secret *kept)
{
	SP_SECRET_AUTO s = {0};
	size_t o = 0;

	SP_TRY(sp_secret_new(&s, KEPT_MIN + salt.n));
	s.p[o++] = FORM;
	for (size_t i = 0; i < 4; i++)
		s.p[o++] = (uint8_t)(iterations >> (8 * i));
	s.p[o++] = (uint8_t)salt.n;
	memcpy(s.p + o, salt.p, salt.n);
	o += salt.n;
	mac(salted->p, sp_span_str("Client Key"), s.p + o);
	mac(salted->p, sp_span_str("Server Key"), s.p + o + KEY);
	sp_secret_move(kept, &s);
	return SP_OK;
}

enum sp_err
sp_scram_generate(struct sp_secret *kept)
{
	SP_SECRET_AUTO salted = {0};
	uint8_t salt[16];

	SP_TRY(sp_secret_random(&salted, KEY));
	randombytes_buf(salt, sizeof(salt));
	return from_salted(&salted, sp_span_of(salt, sizeof(salt)),
	    SP_SCRAM_ITERATIONS, kept);
}

/* -------------------------------------------------------------- verifiers */

static enum sp_err
put_key(struct sp_buf *out, const uint8_t key[static KEY])
{
	return sp_base64(out, sp_span_of(key, KEY));
}

static void
stored_key(const uint8_t client_key[static KEY], uint8_t out[static KEY])
{
	crypto_hash_sha256(out, client_key, KEY);
}

enum sp_err
sp_scram_verifier(const struct sp_secret *kept, struct sp_buf *out)
{
	uint8_t stored[KEY];
	struct parts p;

	SP_TRY(take_apart(kept, &p));
	stored_key(p.client_key, stored);
	SP_TRY(sp_buf_printf(out, "SCRAM-SHA-256$%u:", p.iterations));
	SP_TRY(sp_base64(out, p.salt));
	SP_TRY(sp_buf_printf(out, "$"));
	SP_TRY(put_key(out, stored));
	SP_TRY(sp_buf_printf(out, ":"));
	return put_key(out, p.server_key);
}

/* The bytes of s up to (not with) the character, which is dropped. */
static enum sp_err
upto(struct sp_span *s, char end, struct sp_span *out)
{
	const uint8_t *at = s->n == 0 ? NULL : memchr(s->p, end, s->n);

	if (at == NULL)
		return SP_ERR_SYNTAX;
	*out = sp_span_of(s->p, (size_t)(at - s->p));
	*s = sp_span_of(at + 1, s->n - out->n - 1);
	return SP_OK;
}

static enum sp_err
count_of(struct sp_span text, uint32_t *iterations)
{
	uint64_t v = 0;

	if (text.n > 0 && text.p[0] == '0')	/* RFC 5802, posit-number */
		return SP_ERR_SYNTAX;
	SP_TRY(sp_u64_parse(text, SP_SCRAM_ITERATIONS_MAX, &v));
	*iterations = (uint32_t)v;
	return v == 0 ? SP_ERR_SYNTAX : SP_OK;
}

static enum sp_err
salt_of(struct sp_span verifier, struct sp_buf *salt, uint32_t *iterations)
{
	struct sp_span head, count, text;

	SP_TRY(upto(&verifier, '$', &head));
	SP_TRY(upto(&verifier, ':', &count));
	SP_TRY(upto(&verifier, '$', &text));
	if (!sp_span_is(head, "SCRAM-SHA-256"))
		return SP_ERR_SYNTAX;
	SP_TRY(count_of(count, iterations));
	SP_TRY(sp_unbase64(salt, text));
	return salt->len == 0 ? SP_ERR_SYNTAX : SP_OK;
}

static bool
is_plain(struct sp_span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	return s.n > 0 && s.n <= 1000;
}

static enum sp_err
stretch(struct sp_span password, struct sp_span salt, uint32_t iterations,
    struct sp_secret *salted)
{
	SP_TRY(sp_secret_new(salted, KEY));
	return PKCS5_PBKDF2_HMAC((const char *)password.p, (int)password.n, salt.p,
	    (int)salt.n, (int)iterations, EVP_sha256(), KEY, salted->p) == 1 ?
	    SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_scram_import(struct sp_span password, struct sp_span verifier,
    struct sp_secret *kept)
{
	SP_BUF_AUTO salt = {.max = SP_SCRAM_SALT_MAX}, made = {.max = 512};
	SP_SECRET_AUTO salted = {0}, s = {0};
	uint32_t iterations = SP_SCRAM_ITERATIONS;
	uint8_t fresh[16];

	if (!is_plain(password))
		return SP_ERR_INVAL;
	if (verifier.n > 0) {
		SP_TRY(salt_of(verifier, &salt, &iterations));
	} else {
		randombytes_buf(fresh, sizeof(fresh));
		SP_TRY(sp_buf_put(&salt, fresh, sizeof(fresh)));
	}
	SP_TRY(stretch(password, sp_buf_span(&salt), iterations, &salted));
	SP_TRY(from_salted(&salted, sp_buf_span(&salt), iterations, &s));
	SP_TRY(sp_scram_verifier(&s, &made));
	if (verifier.n > 0 && (made.len != verifier.n ||
	    sodium_memcmp(sp_buf_span(&made).p, verifier.p, verifier.n) != 0))
		return SP_ERR_DENIED;
	sp_secret_move(kept, &s);
	return SP_OK;
}

/* ---------------------------------------------------------------- messages */

static enum sp_err
hash_cert(struct sp_scram *s, struct sp_span cert, unsigned bits)
{
	const EVP_MD *md = bits == 256 ? EVP_sha256() : bits == 384 ?
	    EVP_sha384() : bits == 512 ? EVP_sha512() : NULL;
	unsigned n = 0;

	if (md == NULL || EVP_Digest(cert.p, cert.n, s->cb, &n, md, NULL) != 1)
		return SP_ERR_CRYPTO;
	s->n_cb = n;
	return SP_OK;
}

static const char *
gs2(const struct sp_scram *s)
{
	return s->is_bound ? "p=tls-server-end-point,," : "n,,";
}

enum sp_err
sp_scram_first(struct sp_scram *s, struct sp_span cert, unsigned hash_bits,
    struct sp_buf *out)
{
	uint8_t random[24];

	if (s->nonce[0] != '\0')
		return SP_ERR_STATE;
	s->is_bound = hash_bits != 0;
	if (s->is_bound)
		SP_TRY(hash_cert(s, cert, hash_bits));
	randombytes_buf(random, sizeof(random));
	sodium_bin2base64(s->nonce, sizeof(s->nonce), random, sizeof(random),
	    sodium_base64_VARIANT_ORIGINAL);
	return sp_buf_printf(out, "%sn=,r=%s", gs2(s), s->nonce);
}

/* r=NONCE,s=SALT,i=COUNT and nothing else: an extension that we do not know
 * may change the meaning of all of it. */
static enum sp_err
read_first(const struct sp_scram *s, struct sp_span text, struct sp_span *nonce,
    struct sp_buf *salt, uint32_t *iterations)
{
	size_t n = sizeof(s->nonce) - 1;
	struct sp_span b64;

	SP_TRY(upto(&text, ',', nonce));
	SP_TRY(upto(&text, ',', &b64));
	if (nonce->n < 2 + n + 8 || nonce->n > 2 + n + 256 || b64.n < 3 ||
	    text.n < 3 || !sp_span_eq(sp_span_of(nonce->p, 2), sp_span_str("r=")) ||
	    !sp_span_eq(sp_span_of(nonce->p + 2, n), sp_span_of(s->nonce, n)) ||
	    !sp_span_eq(sp_span_of(b64.p, 2), sp_span_str("s=")) ||
	    !sp_span_eq(sp_span_of(text.p, 2), sp_span_str("i=")))
		return SP_ERR_PROTO;
	for (size_t i = 2; i < nonce->n; i++)
		if (nonce->p[i] < 0x21 || nonce->p[i] > 0x7e)
			return SP_ERR_PROTO;
	SP_TRY(sp_unbase64(salt, sp_span_of(b64.p + 2, b64.n - 2)));
	return count_of(sp_span_of(text.p + 2, text.n - 2), iterations);
}

static enum sp_err
put_binding(const struct sp_scram *s, struct sp_buf *out)
{
	SP_BUF_AUTO c = {.max = 128};

	SP_TRY(sp_buf_printf(&c, "%s", gs2(s)));
	if (s->is_bound)
		SP_TRY(sp_buf_put(&c, s->cb, s->n_cb));
	SP_TRY(sp_buf_printf(out, "c="));
	return sp_base64(out, sp_buf_span(&c));
}

static enum sp_err
prove(const struct parts *p, struct sp_span auth, struct sp_buf *out,
    uint8_t expect[static 32])
{
	uint8_t stored[KEY], signature[KEY];

	stored_key(p->client_key, stored);
	mac(stored, auth, signature);
	for (size_t i = 0; i < KEY; i++)
		signature[i] ^= p->client_key[i];
	mac(p->server_key, auth, expect);
	SP_TRY(sp_buf_printf(out, ",p="));
	return put_key(out, signature);
}

enum sp_err
sp_scram_final(const struct sp_scram *s, const struct sp_secret *kept,
    struct sp_span server_first, struct sp_buf *out, uint8_t expect[static 32])
{
	SP_BUF_AUTO salt = {.max = 256}, auth = {.max = 2048};
	struct sp_span nonce;
	struct parts p;
	uint32_t iterations;

	if (s->nonce[0] == '\0' || out->len != 0)
		return SP_ERR_STATE;
	if (read_first(s, server_first, &nonce, &salt, &iterations) != SP_OK)
		return SP_ERR_PROTO;
	SP_TRY(take_apart(kept, &p));
	/* Another salt or a smaller count is what somebody asks who wants to
	 * guess at the password, or to have a proof for another verifier. */
	if (iterations != p.iterations || !sp_span_eq(sp_buf_span(&salt), p.salt))
		return SP_ERR_DENIED;
	SP_TRY(put_binding(s, out));
	SP_TRY(sp_buf_printf(out, ","));
	SP_TRY(sp_buf_put(out, nonce.p, nonce.n));
	SP_TRY(sp_buf_printf(&auth, "n=,r=%s,", s->nonce));
	SP_TRY(sp_buf_put(&auth, server_first.p, server_first.n));
	SP_TRY(sp_buf_printf(&auth, ","));
	SP_TRY(sp_buf_put(&auth, sp_buf_span(out).p, out->len));
	return prove(&p, sp_buf_span(&auth), out, expect);
}
