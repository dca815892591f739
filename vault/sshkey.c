/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/sshkey.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <string.h>

#include "vault/poison.h"

const struct sp_sshkey_curve sp_sshkey_curves[3] = {
    {"ecdsa-sha2-nistp256", "nistp256", "prime256v1", 32, EVP_sha256},
    {"ecdsa-sha2-nistp384", "nistp384", "secp384r1", 48, EVP_sha384},
    {"ecdsa-sha2-nistp521", "nistp521", "secp521r1", 66, EVP_sha512},
};

/* As sp_sshkey_open leaves an Ed25519 key. DER of a key is never so short. */
static bool
is_pair(const struct sp_secret *kept)
{
	return kept->n == crypto_sign_SECRETKEYBYTES;
}

static bool
is_seed(const struct sp_secret *kept)
{
	return kept->n == 32;
}

static const struct sp_sshkey_curve *
curve_of(const EVP_PKEY *pk)
{
	char group[64];
	size_t n = 0;

	if (EVP_PKEY_get_group_name(pk, group, sizeof(group), &n) != 1)
		return NULL;
	for (size_t i = 0; i < 3; i++)
		if (sp_span_is(sp_span_str(group), sp_sshkey_curves[i].group))
			return &sp_sshkey_curves[i];
	return NULL;
}

/* A key that we use: its kind and size. */
static bool
is_usable(const EVP_PKEY *pk)
{
	int bits = EVP_PKEY_get_bits(pk);

	if (EVP_PKEY_is_a(pk, "RSA") == 1)
		return bits >= SP_SSHKEY_RSA_MIN && bits <= SP_SSHKEY_RSA_MAX;
	return EVP_PKEY_is_a(pk, "EC") == 1 && curve_of(pk) != NULL;
}

static EVP_PKEY *
load(const struct sp_secret *kept)
{
	const uint8_t *at = kept->p;
	EVP_PKEY *pk = d2i_AutoPrivateKey(NULL, &at, (long)kept->n);

	if (pk != NULL && (at != kept->p + kept->n || !is_usable(pk))) {
		EVP_PKEY_free(pk);
		pk = NULL;
	}
	return pk;
}

enum sp_err
sp_sshkey_check(const struct sp_secret *kept)
{
	EVP_PKEY *pk;

	if (is_seed(kept))
		return SP_OK;
	pk = load(kept);
	EVP_PKEY_free(pk);
	return pk == NULL ? SP_ERR_CRYPTO : SP_OK;
}

static enum sp_err
keep_seed(EVP_PKEY *pk, struct sp_secret *kept)
{
	size_t n = 32;

	SP_TRY(sp_secret_new(kept, 32));
	return EVP_PKEY_get_raw_private_key(pk, kept->p, &n) == 1 && n == 32 ?
	    SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_sshkey_keep(EVP_PKEY *pk, struct sp_secret *kept)
{
	uint8_t *der = NULL;
	int n;

	if (EVP_PKEY_is_a(pk, "ED25519") == 1)
		return keep_seed(pk, kept);
	if (!is_usable(pk))
		return SP_ERR_UNSUPPORTED;
	if ((n = i2d_PrivateKey(pk, &der)) <= 0)
		return SP_ERR_CRYPTO;
	if (sp_secret_new(kept, (size_t)n) != SP_OK) {
		OPENSSL_clear_free(der, (size_t)n);
		return SP_ERR_FULL;
	}
	memcpy(kept->p, der, (size_t)n);
	OPENSSL_clear_free(der, (size_t)n);
	return sp_sshkey_check(kept);
}

/* ----------------------------------------------------------------- public key */

static enum sp_err
put_mpint(struct sp_buf *b, const BIGNUM *v)
{
	uint8_t bytes[1 + SP_SSHKEY_RSA_MAX / 8 + 1] = {0};
	int n = BN_num_bytes(v);

	if (n <= 0 || (size_t)n + 1 > sizeof(bytes) ||
	    BN_bn2bin(v, bytes + 1) != n)
		return SP_ERR_CRYPTO;
	/* A first bit that is set would make it negative. */
	return (bytes[1] & 0x80) != 0 ?
	    sp_buf_put_ssh_string(b, sp_span_of(bytes, (size_t)n + 1)) :
	    sp_buf_put_ssh_string(b, sp_span_of(bytes + 1, (size_t)n));
}

static enum sp_err
rsa_blob(EVP_PKEY *pk, struct sp_buf *out)
{
	BIGNUM *e = NULL, *n = NULL;
	enum sp_err r = SP_ERR_CRYPTO;

	if (EVP_PKEY_get_bn_param(pk, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
	    EVP_PKEY_get_bn_param(pk, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
	    (r = sp_buf_put_ssh_string(out, sp_span_str("ssh-rsa"))) == SP_OK &&
	    (r = put_mpint(out, e)) == SP_OK)
		r = put_mpint(out, n);
	BN_free(e);
	BN_free(n);
	return r;
}

static enum sp_err
ec_blob(EVP_PKEY *pk, struct sp_buf *out)
{
	const struct sp_sshkey_curve *c = curve_of(pk);
	BIGNUM *x = NULL, *y = NULL;
	uint8_t point[1 + 2 * 66] = {4};
	bool ok;

	if (c == NULL)
		return SP_ERR_UNSUPPORTED;
	/* By its coordinates: the key's own form may be the compressed one. */
	ok = EVP_PKEY_get_bn_param(pk, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
	    EVP_PKEY_get_bn_param(pk, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1 &&
	    BN_bn2binpad(x, point + 1, (int)c->coord) == (int)c->coord &&
	    BN_bn2binpad(y, point + 1 + c->coord, (int)c->coord) == (int)c->coord;
	BN_free(x);
	BN_free(y);
	if (!ok)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str(c->type)));
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str(c->name)));
	return sp_buf_put_ssh_string(out, sp_span_of(point, 1 + 2 * c->coord));
}

static enum sp_err
seed_blob(const struct sp_secret *kept, struct sp_buf *out)
{
	SP_SECRET_AUTO sk = {0};
	uint8_t public[32];

	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(public, sk.p, kept->p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str("ssh-ed25519")));
	return sp_buf_put_ssh_string(out, sp_span_of(public, 32));
}

enum sp_err
sp_sshkey_blob(const struct sp_secret *kept, struct sp_buf *out)
{
	EVP_PKEY *pk;
	enum sp_err e;

	if (is_seed(kept))
		return seed_blob(kept, out);
	if ((pk = load(kept)) == NULL)
		return SP_ERR_CRYPTO;
	e = EVP_PKEY_is_a(pk, "RSA") == 1 ? rsa_blob(pk, out) : ec_blob(pk, out);
	EVP_PKEY_free(pk);
	return e;
}

enum sp_err
sp_sshkey_open(struct sp_secret *kept, struct sp_buf *blob)
{
	SP_SECRET_AUTO sk = {0};
	uint8_t public[32];

	if (!is_seed(kept))
		return sp_sshkey_blob(kept, blob);
	SP_TRY(sp_secret_new(&sk, crypto_sign_SECRETKEYBYTES));
	if (crypto_sign_seed_keypair(public, sk.p, kept->p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(blob, sp_span_str("ssh-ed25519")));
	SP_TRY(sp_buf_put_ssh_string(blob, sp_span_of(public, 32)));
	sp_secret_move(kept, &sk);
	return SP_OK;
}

/* ------------------------------------------------------------------- signing */

static const EVP_MD *
rsa_digest(struct sp_span algo)
{
	return sp_span_is(algo, "rsa-sha2-256") ? EVP_sha256() :
	    sp_span_is(algo, "rsa-sha2-512") ? EVP_sha512() : NULL;
}

bool
sp_sshkey_may_sign(struct sp_span type, struct sp_span algo)
{
	return sp_span_is(type, "ssh-rsa") ? rsa_digest(algo) != NULL :
	    sp_span_eq(type, algo);
}

/* r and s as mpints in a string (RFC 5656, 3.1.2). */
static enum sp_err
ecdsa_form(const uint8_t *der, size_t n, struct sp_buf *out)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	enum sp_err e;

	if (sig == NULL)
		return SP_ERR_CRYPTO;
	if ((e = put_mpint(out, ECDSA_SIG_get0_r(sig))) == SP_OK)
		e = put_mpint(out, ECDSA_SIG_get0_s(sig));
	ECDSA_SIG_free(sig);
	return e;
}

static enum sp_err
evp_sign(EVP_PKEY *pk, const EVP_MD *md, struct sp_span data, uint8_t *raw,
    size_t *n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx != NULL && md != NULL &&
	    EVP_DigestSignInit(ctx, NULL, md, NULL, pk) == 1 &&
	    EVP_DigestSign(ctx, raw, n, data.p, data.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok ? SP_OK : SP_ERR_CRYPTO;
}

static enum sp_err
sign_with(EVP_PKEY *pk, struct sp_span algo, struct sp_span data,
    struct sp_buf *signature)
{
	SP_BUF_AUTO body = {.max = 1024};
	uint8_t raw[SP_SSHKEY_RSA_MAX / 8];
	const struct sp_sshkey_curve *c;
	size_t n = sizeof(raw);

	if (EVP_PKEY_is_a(pk, "RSA") == 1) {
		SP_TRY(evp_sign(pk, rsa_digest(algo), data, raw, &n));
		SP_TRY(sp_buf_put(&body, raw, n));
	} else {
		if ((c = curve_of(pk)) == NULL || !sp_span_is(algo, c->type))
			return SP_ERR_UNSUPPORTED;
		SP_TRY(evp_sign(pk, c->md(), data, raw, &n));
		SP_TRY(ecdsa_form(raw, n, &body));
	}
	SP_TRY(sp_buf_put_ssh_string(signature, algo));
	return sp_buf_put_ssh_string(signature, sp_buf_span(&body));
}

static enum sp_err
sign_with_pair(const struct sp_secret *sk, struct sp_span data,
    struct sp_buf *signature)
{
	uint8_t sig[64];

	if (crypto_sign_detached(sig, NULL, data.p, data.n, sk->p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(signature, sp_span_str("ssh-ed25519")));
	return sp_buf_put_ssh_string(signature, sp_span_of(sig, sizeof(sig)));
}

static enum sp_err
sign_with_seed(const struct sp_secret *kept, struct sp_span data,
    struct sp_buf *signature)
{
	SP_SECRET_AUTO sk = {0};
	uint8_t public[32];

	SP_TRY(sp_secret_new(&sk, crypto_sign_SECRETKEYBYTES));
	if (crypto_sign_seed_keypair(public, sk.p, kept->p) != 0)
		return SP_ERR_CRYPTO;
	return sign_with_pair(&sk, data, signature);
}

enum sp_err
sp_sshkey_sign(const struct sp_secret *kept, struct sp_span algo,
    struct sp_span data, struct sp_buf *signature)
{
	EVP_PKEY *pk;
	enum sp_err e;

	if (is_seed(kept) || is_pair(kept)) {
		if (!sp_span_is(algo, "ssh-ed25519"))
			return SP_ERR_UNSUPPORTED;
		return is_pair(kept) ? sign_with_pair(kept, data, signature) :
		    sign_with_seed(kept, data, signature);
	}
	if ((pk = load(kept)) == NULL)
		return SP_ERR_CRYPTO;
	e = sign_with(pk, algo, data, signature);
	EVP_PKEY_free(pk);
	return e;
}
