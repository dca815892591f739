/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A security key made of software, for tests alone: OpenSSH's middleware API
 * (PROTOCOL.u2f, sk-api.h, version 10), so that stock ssh-keygen makes sk-* keys
 * and signs with them. The key handle is the private key. SK_TEST_FLAGS in the
 * environment sets the flags of signatures: 0 is a key that nobody touched.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API_VERSION 0x000a0000
#define ALG_ECDSA 0x00
#define ALG_ED25519 0x01
#define FAILED -1

struct enroll_response {
	uint8_t flags;
	uint8_t *public_key;
	size_t public_key_len;
	uint8_t *key_handle;
	size_t key_handle_len;
	uint8_t *signature;
	size_t signature_len;
	uint8_t *attestation_cert;
	size_t attestation_cert_len;
	uint8_t *authdata;
	size_t authdata_len;
};
struct sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r;
	size_t sig_r_len;
	uint8_t *sig_s;
	size_t sig_s_len;
};
struct option;
struct resident_key;

uint32_t sk_api_version(void);
int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len,
    const char *application, uint8_t flags, const char *pin,
    struct option **options, struct enroll_response **out);
int sk_sign(uint32_t alg, const uint8_t *data, size_t n,
    const char *application, const uint8_t *handle, size_t n_handle,
    uint8_t flags, const char *pin, struct option **options,
    struct sign_response **out);
int sk_load_resident_keys(const char *pin, struct option **options,
    struct resident_key ***keys, size_t *n);

uint32_t
sk_api_version(void)
{
	return API_VERSION;
}

static uint8_t *
copy(const void *p, size_t n, size_t *len)
{
	uint8_t *d = calloc(1, n + 1);

	if (d != NULL)
		memcpy(d, p, n);
	*len = d != NULL ? n : 0;
	return d;
}

static EVP_PKEY *
key_of(uint32_t alg, const uint8_t *handle, size_t n)
{
	const uint8_t *p = handle;

	return alg == ALG_ED25519 ?
	    EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, handle, n) :
	    d2i_AutoPrivateKey(NULL, &p, (long)n);
}

static int
made(uint32_t alg, EVP_PKEY *pk, struct enroll_response *r)
{
	uint8_t pub[256], priv[512], *at = priv;
	size_t n_pub = sizeof(pub), n_priv = sizeof(priv);
	int n;

	if (alg == ALG_ED25519) {
		if (EVP_PKEY_get_raw_public_key(pk, pub, &n_pub) != 1 ||
		    EVP_PKEY_get_raw_private_key(pk, priv, &n_priv) != 1)
			return FAILED;
	} else {
		n = i2d_PrivateKey(pk, &at);
		if (n <= 0 || EVP_PKEY_get_octet_string_param(pk,
		    OSSL_PKEY_PARAM_PUB_KEY, pub, sizeof(pub), &n_pub) != 1)
			return FAILED;
		n_priv = (size_t)n;
	}
	r->public_key = copy(pub, n_pub, &r->public_key_len);
	r->key_handle = copy(priv, n_priv, &r->key_handle_len);
	r->signature = copy("", 0, &r->signature_len);
	r->attestation_cert = copy("", 0, &r->attestation_cert_len);
	r->authdata = copy("", 0, &r->authdata_len);
	return 0;
}

int
sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len,
    const char *application, uint8_t flags, const char *pin,
    struct option **options, struct enroll_response **out)
{
	EVP_PKEY *pk = alg == ALG_ED25519 ?
	    EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") :
	    EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	struct enroll_response *r = calloc(1, sizeof(*r));
	int rc = FAILED;

	(void)challenge;
	(void)challenge_len;
	(void)application;
	(void)pin;
	(void)options;
	if (pk != NULL && r != NULL)
		rc = made(alg, pk, r);
	if (r != NULL)
		r->flags = flags;
	EVP_PKEY_free(pk);
	*out = r;
	return rc;
}

static int
sha256(const void *p, size_t n, uint8_t *out)
{
	return EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL) == 1;
}

/* SHA-256(application) flags counter SHA-256(data) */
static int
what_is_signed(uint8_t m[static 69], const uint8_t *data, size_t n,
    const char *application, const struct sign_response *r)
{
	if (!sha256(application, strlen(application), m) ||
	    !sha256(data, n, m + 37))
		return 0;
	m[32] = r->flags;
	for (int i = 0; i < 4; i++)
		m[33 + i] = (uint8_t)(r->counter >> (24 - 8 * i));
	return 1;
}

static int
split_ecdsa(const uint8_t *der, size_t n, struct sign_response *r)
{
	const uint8_t *p = der;
	ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);
	uint8_t b[64];
	int rc = FAILED;

	if (s != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(s), b, 32) == 32 &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(s), b + 32, 32) == 32) {
		r->sig_r = copy(b, 32, &r->sig_r_len);
		r->sig_s = copy(b + 32, 32, &r->sig_s_len);
		rc = 0;
	}
	ECDSA_SIG_free(s);
	return rc;
}

static int
sign(uint32_t alg, EVP_PKEY *pk, const uint8_t *m, struct sign_response *r)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t sig[256];
	size_t n = sizeof(sig);
	int rc = FAILED;

	if (ctx != NULL && EVP_DigestSignInit(ctx, NULL, alg == ALG_ED25519 ?
	    NULL : EVP_sha256(), NULL, pk) == 1 &&
	    EVP_DigestSign(ctx, sig, &n, m, 69) == 1) {
		if (alg == ALG_ED25519) {
			r->sig_r = copy(sig, n, &r->sig_r_len);
			rc = 0;
		} else {
			rc = split_ecdsa(sig, n, r);
		}
	}
	EVP_MD_CTX_free(ctx);
	return rc;
}

int
sk_sign(uint32_t alg, const uint8_t *data, size_t n, const char *application,
    const uint8_t *handle, size_t n_handle, uint8_t flags, const char *pin,
    struct option **options, struct sign_response **out)
{
	EVP_PKEY *pk = key_of(alg, handle, n_handle);
	struct sign_response *r = calloc(1, sizeof(*r));
	const char *set = getenv("SK_TEST_FLAGS");
	uint8_t m[69];
	int rc = FAILED;

	(void)flags;
	(void)pin;
	(void)options;
	if (r != NULL) {
		r->flags = set != NULL ? (uint8_t)strtoul(set, NULL, 0) : 1;
		r->counter = (uint32_t)time(NULL);
	}
	if (pk != NULL && r != NULL && what_is_signed(m, data, n, application, r))
		rc = sign(alg, pk, m, r);
	EVP_PKEY_free(pk);
	*out = r;
	return rc;
}

int
sk_load_resident_keys(const char *pin, struct option **options,
    struct resident_key ***keys, size_t *n)
{
	(void)pin;
	(void)options;
	*keys = NULL;
	*n = 0;
	return FAILED;
}
