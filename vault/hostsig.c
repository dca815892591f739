/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/hostsig.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <string.h>

#include "vault/poison.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_OLD 1024	/* of targets that are marked as old */
#define RSA_BITS_MAX 16384

struct host_key {
	const struct curve *curve;	/* ecdsa */
	bool is_rsa;
	struct sp_span a, b;	/* ed25519: pk; ecdsa: point; rsa: e, n */
};

static const struct curve {
	const char *type, *name, *group;
	size_t coord;
	const EVP_MD *(*md)(void);
} curves[] = {
    {"ecdsa-sha2-nistp256", "nistp256", "P-256", 32, EVP_sha256},
    {"ecdsa-sha2-nistp384", "nistp384", "P-384", 48, EVP_sha384},
    {"ecdsa-sha2-nistp521", "nistp521", "P-521", 66, EVP_sha512},
};

/* A positive mpint (RFC 4251, 5) without superfluous zeros. */
static enum sp_err
get_mpint(struct sp_span *s, size_t cap, struct sp_span *out)
{
	struct sp_span m;

	SP_TRY(sp_get_ssh_string(s, cap, &m));
	if (m.n == 0 || (m.p[0] & 0x80) != 0)
		return SP_ERR_PROTO;
	if (m.p[0] == 0) {
		if (m.n == 1 || (m.p[1] & 0x80) == 0)
			return SP_ERR_PROTO;
		m = sp_span_of(m.p + 1, m.n - 1);
	}
	*out = m;
	return SP_OK;
}

static enum sp_err
parse_rsa(struct sp_span *s, struct host_key *k, bool legacy)
{
	size_t bits;

	k->is_rsa = true;
	SP_TRY(get_mpint(s, 9, &k->a));
	SP_TRY(get_mpint(s, RSA_BITS_MAX / 8 + 1, &k->b));
	bits = k->b.n * 8;
	for (uint8_t top = k->b.p[0]; (top & 0x80) == 0; top = (uint8_t)(top << 1))
		bits--;
	if (bits < (legacy ? RSA_BITS_OLD : RSA_BITS_MIN) || bits > RSA_BITS_MAX ||
	    (k->a.p[k->a.n - 1] & 1) == 0 || (k->a.n == 1 && k->a.p[0] < 3))
		return SP_ERR_UNSUPPORTED;
	return SP_OK;
}

static enum sp_err
parse_ecdsa(struct sp_span *s, struct host_key *k)
{
	struct sp_span name;

	SP_TRY(sp_get_ssh_string(s, 32, &name));
	SP_TRY(sp_get_ssh_string(s, 256, &k->a));
	if (!sp_span_is(name, k->curve->name) ||
	    k->a.n != 1 + 2 * k->curve->coord || k->a.p[0] != 4)
		return SP_ERR_PROTO;
	return SP_OK;
}

static enum sp_err
parse_key(struct sp_span s, struct host_key *k, bool legacy)
{
	struct sp_span type;

	*k = (struct host_key){0};
	SP_TRY(sp_get_ssh_string(&s, 64, &type));
	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
		if (sp_span_is(type, curves[i].type))
			k->curve = &curves[i];
	if (k->curve != NULL) {
		SP_TRY(parse_ecdsa(&s, k));
	} else if (sp_span_is(type, "ssh-rsa")) {
		SP_TRY(parse_rsa(&s, k, legacy));
	} else if (sp_span_is(type, "ssh-ed25519")) {
		SP_TRY(sp_get_ssh_string(&s, 32, &k->a));
		if (k->a.n != 32)
			return SP_ERR_PROTO;
	} else {
		return SP_ERR_UNSUPPORTED;
	}
	return s.n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_host_keys_check(struct sp_span list, bool legacy)
{
	size_t n = 0;

	for (; list.n > 0; n++) {
		struct sp_span key;
		struct host_key k;

		SP_TRY(sp_get_ssh_string(&list, SP_HOST_KEY_MAX, &key));
		SP_TRY(parse_key(key, &k, legacy));
	}
	return n == 0 || n > SP_HOST_KEYS_MAX ? SP_ERR_INVAL : SP_OK;
}

bool
sp_host_key_is_pinned(struct sp_span list, struct sp_span key)
{
	struct sp_span one;

	while (list.n > 0) {
		if (sp_get_ssh_string(&list, SP_HOST_KEY_MAX, &one) != SP_OK)
			return false;
		if (key.n > 0 && sp_span_eq(one, key))
			return true;
	}
	return false;
}

/* ---------------------------------------------------------------- OpenSSL */

static EVP_PKEY *
pkey_of(const char *kind, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
	EVP_PKEY *pk = NULL;

	if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pk, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pk = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pk;
}

static EVP_PKEY *
ecdsa_pkey(const struct host_key *k)
{
	char group[16] = {0};
	uint8_t point[1 + 2 * 66];
	OSSL_PARAM p[3];

	memcpy(group, k->curve->group, strlen(k->curve->group));
	memcpy(point, k->a.p, k->a.n);
	p[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group,
	    0);
	p[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point,
	    k->a.n);
	p[2] = OSSL_PARAM_construct_end();
	return pkey_of("EC", p);
}

static EVP_PKEY *
rsa_pkey(const struct host_key *k)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *e = BN_bin2bn(k->a.p, (int)k->a.n, NULL);
	BIGNUM *n = BN_bin2bn(k->b.p, (int)k->b.n, NULL);
	OSSL_PARAM *p = NULL;
	EVP_PKEY *pk = NULL;

	if (bld != NULL && e != NULL && n != NULL &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
	    (p = OSSL_PARAM_BLD_to_param(bld)) != NULL)
		pk = pkey_of("RSA", p);
	OSSL_PARAM_free(p);
	OSSL_PARAM_BLD_free(bld);
	BN_free(e);
	BN_free(n);
	return pk;
}

static enum sp_err
evp_verify(EVP_PKEY *pk, const EVP_MD *md, struct sp_span sig,
    struct sp_span hash)
{
	enum sp_err e = SP_ERR_CRYPTO;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (ctx != NULL && pk != NULL &&
	    EVP_DigestVerifyInit(ctx, NULL, md, NULL, pk) == 1 &&
	    EVP_DigestVerify(ctx, sig.p, sig.n, hash.p, hash.n) == 1)
		e = SP_OK;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pk);
	return e;
}

static enum sp_err
verify_ecdsa(const struct host_key *k, struct sp_span sig, struct sp_span hash)
{
	struct sp_span r, s;
	ECDSA_SIG *es = ECDSA_SIG_new();
	BIGNUM *br = NULL, *bs = NULL;
	unsigned char *der = NULL;
	enum sp_err e = SP_ERR_PROTO;
	int n = 0;

	if (es != NULL && get_mpint(&sig, 67, &r) == SP_OK &&
	    get_mpint(&sig, 67, &s) == SP_OK && sig.n == 0 &&
	    (br = BN_bin2bn(r.p, (int)r.n, NULL)) != NULL &&
	    (bs = BN_bin2bn(s.p, (int)s.n, NULL)) != NULL &&
	    ECDSA_SIG_set0(es, br, bs) == 1) {
		br = bs = NULL;		/* they belong to es */
		n = i2d_ECDSA_SIG(es, &der);
	}
	if (n > 0)
		e = evp_verify(ecdsa_pkey(k), k->curve->md(),
		    sp_span_of(der, (size_t)n), hash);
	OPENSSL_free(der);
	BN_free(br);
	BN_free(bs);
	ECDSA_SIG_free(es);
	return e;
}

static enum sp_err
verify_rsa(const struct host_key *k, struct sp_span type, struct sp_span sig,
    struct sp_span hash, bool legacy)
{
	uint8_t full[RSA_BITS_MAX / 8];
	const EVP_MD *md;

	if (sp_span_is(type, "rsa-sha2-256"))
		md = EVP_sha256();
	else if (sp_span_is(type, "rsa-sha2-512"))
		md = EVP_sha512();
	else if (legacy && sp_span_is(type, "ssh-rsa"))
		md = EVP_sha1();
	else
		return SP_ERR_UNSUPPORTED;
	if (sig.n == 0 || sig.n > k->b.n)
		return SP_ERR_PROTO;
	/* Some servers drop leading zeros (RFC 8332, 3: it is unpadded). */
	memset(full, 0, k->b.n - sig.n);
	memcpy(full + k->b.n - sig.n, sig.p, sig.n);
	return evp_verify(rsa_pkey(k), md, sp_span_of(full, k->b.n), hash);
}

enum sp_err
sp_host_sig_verify(struct sp_span key, struct sp_span signature,
    struct sp_span hash, bool legacy)
{
	struct sp_span type, sig;
	struct host_key k;

	SP_TRY(parse_key(key, &k, legacy));
	SP_TRY(sp_get_ssh_string(&signature, 64, &type));
	SP_TRY(sp_get_ssh_string(&signature, 2048 + 8, &sig));
	if (signature.n != 0)
		return SP_ERR_PROTO;
	if (k.is_rsa)
		return verify_rsa(&k, type, sig, hash, legacy);
	if (k.curve != NULL)
		return sp_span_is(type, k.curve->type) ?
		    verify_ecdsa(&k, sig, hash) : SP_ERR_UNSUPPORTED;
	if (!sp_span_is(type, "ssh-ed25519") || sig.n != 64)
		return SP_ERR_UNSUPPORTED;
	return crypto_sign_verify_detached(sig.p, hash.p, hash.n, k.a.p) == 0 ?
	    SP_OK : SP_ERR_CRYPTO;
}

/* ------------------------------------------------------------- warming up */

static enum sp_err
warm_curve(const struct curve *c)
{
	static const uint8_t hash[32] = {1};
	EVP_PKEY *pk = EVP_PKEY_Q_keygen(NULL, NULL, "EC", c->group);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t point[256], der[256];
	size_t n_point = 0, n_der = sizeof(der);
	struct host_key k = {.curve = c};
	enum sp_err e = SP_ERR_CRYPTO;

	if (pk != NULL && ctx != NULL && EVP_PKEY_get_octet_string_param(pk,
	    OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n_point) == 1 &&
	    n_point == 1 + 2 * c->coord &&
	    EVP_DigestSignInit(ctx, NULL, c->md(), NULL, pk) == 1 &&
	    EVP_DigestSign(ctx, der, &n_der, hash, sizeof(hash)) == 1) {
		k.a = sp_span_of(point, n_point);
		e = evp_verify(ecdsa_pkey(&k), c->md(), sp_span_of(der, n_der),
		    sp_span_of(hash, sizeof(hash)));
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pk);
	return e;
}

enum sp_err
sp_host_sig_warm(void)
{
	static const uint8_t e[3] = {1, 0, 1};
	uint8_t n[256], sig[256] = {0};
	struct host_key k = {.is_rsa = true, .a = sp_span_of(e, sizeof(e)),
	    .b = sp_span_of(n, sizeof(n))};

	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
		SP_TRY(warm_curve(&curves[i]));
	/* No key of anybody's: all bits set. Its signature must not verify. */
	memset(n, 0xff, sizeof(n));
	if (verify_rsa(&k, sp_span_str("rsa-sha2-256"), sp_span_of(sig, 256),
	    sp_span_of(n, 32), false) == SP_OK || verify_rsa(&k,
	    sp_span_str("rsa-sha2-512"), sp_span_of(sig, 256),
	    sp_span_of(n, 64), false) == SP_OK || verify_rsa(&k,
	    sp_span_str("ssh-rsa"), sp_span_of(sig, 256),
	    sp_span_of(n, 20), true) == SP_OK)
		return SP_ERR_CRYPTO;
	return SP_OK;
}
