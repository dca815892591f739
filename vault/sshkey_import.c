/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <string.h>

#include "vault/bcrypt.h"
#include "vault/sshkey.h"
#include "vault/poison.h"

/* OpenSSH's private key file (PROTOCOL.key), one key in it. */
#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define END "-----END OPENSSH PRIVATE KEY-----"

/* The base64 between the two lines, decoded within the arena. */
static enum sp_err
unarmor(struct sp_span text, struct sp_secret *out)
{
	SP_SECRET_AUTO s = {0};
	const char *end;
	size_t n = 0;

	while (text.n > 0 && (text.p[text.n - 1] == '\n' ||
	    text.p[text.n - 1] == '\r'))
		text.n--;
	if (text.n < strlen(BEGIN) + strlen(END) + 8 ||
	    !sp_span_is(sp_span_of(text.p + text.n - strlen(END), strlen(END)),
	    END))
		return SP_ERR_UNSUPPORTED;
	text = sp_span_of(text.p + strlen(BEGIN),
	    text.n - strlen(BEGIN) - strlen(END));
	SP_TRY(sp_secret_new(&s, text.n));
	if (sodium_base642bin(s.p, s.n, (const char *)text.p, text.n, "\r\n", &n,
	    &end, sodium_base64_VARIANT_ORIGINAL) != 0 || n == 0 ||
	    end != (const char *)text.p + text.n)
		return SP_ERR_SYNTAX;
	sp_secret_cut(&s, n);
	sp_secret_move(out, &s);
	return SP_OK;
}

/* ------------------------------------------------------------- the private part */

static enum sp_err
ed25519_part(struct sp_span *s, struct sp_secret *kept)
{
	struct sp_span pk, sk;

	SP_TRY(sp_get_ssh_string(s, 32, &pk));
	SP_TRY(sp_get_ssh_string(s, 64, &sk));
	if (pk.n != 32 || sk.n != 64 || sodium_memcmp(sk.p + 32, pk.p, 32) != 0)
		return SP_ERR_SYNTAX;
	SP_TRY(sp_secret_new(kept, 32));
	memcpy(kept->p, sk.p, 32);
	return SP_OK;
}

static enum sp_err
make_key(const char *type, OSSL_PARAM_BLD *bld, struct sp_secret *kept)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pk = NULL;
	enum sp_err e = SP_ERR_CRYPTO;

	if (params != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &pk, EVP_PKEY_KEYPAIR, params) == 1)
		e = sp_sshkey_keep(pk, kept);
	EVP_PKEY_free(pk);
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return e;
}

#define RSA_PARTS 6	/* n e d iqmp p q, in the file's order */

static bool
push_rsa(OSSL_PARAM_BLD *bld, BIGNUM *v[static RSA_PARTS])
{
	BN_CTX *ctx = BN_CTX_secure_new();
	BIGNUM *d1 = BN_secure_new(), *d2 = BN_secure_new(), *m = BN_secure_new();
	bool ok = ctx != NULL && d1 != NULL && d2 != NULL && m != NULL &&
	    BN_sub(m, v[4], BN_value_one()) == 1 && BN_mod(d1, v[2], m, ctx) == 1 &&
	    BN_sub(m, v[5], BN_value_one()) == 1 && BN_mod(d2, v[2], m, ctx) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, v[0]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, v[1]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_D, v[2]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, v[3]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_FACTOR1, v[4]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_FACTOR2, v[5]) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT1, d1) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT2, d2) == 1;

	/* The parameters are made now: the builder only points at the numbers. */
	BN_CTX_free(ctx);
	BN_clear_free(m);
	v[RSA_PARTS] = d1;
	v[RSA_PARTS + 1] = d2;
	return ok;
}

static enum sp_err
rsa_part(struct sp_span *s, struct sp_secret *kept)
{
	BIGNUM *v[RSA_PARTS + 2] = {NULL};
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	enum sp_err e = bld == NULL ? SP_ERR_NOMEM : SP_OK;
	struct sp_span m;

	for (size_t i = 0; e == SP_OK && i < RSA_PARTS; i++) {
		e = sp_get_ssh_string(s, SP_SSHKEY_RSA_MAX / 8 + 1, &m);
		if (e == SP_ERR_TOOBIG || e == SP_ERR_PROTO)
			e = SP_ERR_UNSUPPORTED;
		if (e == SP_OK && (v[i] = BN_bin2bn(m.p, (int)m.n, BN_secure_new())) ==
		    NULL)
			e = SP_ERR_NOMEM;
	}
	if (e == SP_OK)
		e = push_rsa(bld, v) ? make_key("RSA", bld, kept) : SP_ERR_CRYPTO;
	for (size_t i = 0; i < RSA_PARTS + 2; i++)
		BN_clear_free(v[i]);
	OSSL_PARAM_BLD_free(bld);
	return e;
}

static enum sp_err
ecdsa_part(struct sp_span *s, const struct sp_sshkey_curve *c,
    struct sp_secret *kept)
{
	struct sp_span name, point, d;
	OSSL_PARAM_BLD *bld;
	BIGNUM *v;
	enum sp_err e = SP_ERR_CRYPTO;

	SP_TRY(sp_get_ssh_string(s, 32, &name));
	SP_TRY(sp_get_ssh_string(s, 256, &point));
	SP_TRY(sp_get_ssh_string(s, 80, &d));
	if (!sp_span_is(name, c->name))
		return SP_ERR_SYNTAX;
	bld = OSSL_PARAM_BLD_new();
	v = BN_bin2bn(d.p, (int)d.n, BN_secure_new());
	if (bld != NULL && v != NULL && OSSL_PARAM_BLD_push_utf8_string(bld,
	    OSSL_PKEY_PARAM_GROUP_NAME, c->group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point.p,
	    point.n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, v) == 1)
		e = make_key("EC", bld, kept);
	BN_clear_free(v);
	OSSL_PARAM_BLD_free(bld);
	return e;
}

/* Two equal numbers in front say that it was decrypted with the right key. */
static enum sp_err
private_part(struct sp_span s, struct sp_secret *kept)
{
	struct sp_span type, comment;
	uint32_t a, b;
	enum sp_err e = SP_ERR_UNSUPPORTED;

	SP_TRY(sp_get_ssh_u32(&s, &a));
	SP_TRY(sp_get_ssh_u32(&s, &b));
	if (a != b)
		return SP_ERR_DENIED;
	SP_TRY(sp_get_ssh_string(&s, 64, &type));
	if (sp_span_is(type, "ssh-ed25519"))
		e = ed25519_part(&s, kept);
	else if (sp_span_is(type, "ssh-rsa"))
		e = rsa_part(&s, kept);
	for (size_t i = 0; i < 3; i++)
		if (sp_span_is(type, sp_sshkey_curves[i].type))
			e = ecdsa_part(&s, &sp_sshkey_curves[i], kept);
	SP_TRY(e);
	SP_TRY(sp_get_ssh_string(&s, 1024, &comment));
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != i + 1)
			return SP_ERR_SYNTAX;
	return SP_OK;
}

/* ------------------------------------------------------------------ encryption */

static const struct cipher {
	const char *name;
	const EVP_CIPHER *(*evp)(void);
	size_t key;
} ciphers[] = {
    {"aes256-ctr", EVP_aes_256_ctr, 32}, {"aes192-ctr", EVP_aes_192_ctr, 24},
    {"aes128-ctr", EVP_aes_128_ctr, 16}, {"aes256-cbc", EVP_aes_256_cbc, 32},
};

static enum sp_err
decipher(const struct cipher *c, const uint8_t *key, struct sp_span in,
    struct sp_secret *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	enum sp_err e = sp_secret_new(out, in.n);
	int n = 0;

	if (ctx == NULL)
		e = SP_ERR_NOMEM;
	if (e == SP_OK && (EVP_DecryptInit_ex(ctx, c->evp(), NULL, key,
	    key + c->key) != 1 || EVP_CIPHER_CTX_set_padding(ctx, 0) != 1 ||
	    EVP_DecryptUpdate(ctx, out->p, &n, in.p, (int)in.n) != 1 ||
	    (size_t)n != in.n))
		e = SP_ERR_CRYPTO;
	EVP_CIPHER_CTX_free(ctx);
	return e;
}

static enum sp_err
encrypted_part(struct sp_span name, struct sp_span options, struct sp_span pass,
    struct sp_span in, struct sp_secret *kept)
{
	SP_SECRET_AUTO key = {0}, clear = {0};
	const struct cipher *c = NULL;
	struct sp_span salt;
	uint32_t rounds;

	for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
		if (sp_span_is(name, ciphers[i].name))
			c = &ciphers[i];
	if (c == NULL || in.n == 0 || in.n % 16 != 0)
		return SP_ERR_UNSUPPORTED;
	if (pass.n == 0)
		return SP_ERR_DENIED;
	SP_TRY(sp_get_ssh_string(&options, 128, &salt));
	SP_TRY(sp_get_ssh_u32(&options, &rounds));
	if (rounds > SP_BCRYPT_ROUNDS_MAX)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_secret_new(&key, c->key + 16));
	SP_TRY(sp_bcrypt_pbkdf(pass, salt, rounds, key.p, key.n));
	SP_TRY(decipher(c, key.p, in, &clear));
	return private_part(sp_span_of(clear.p, clear.n), kept);
}

static enum sp_err
openssh(struct sp_span text, struct sp_span pass, struct sp_secret *kept)
{
	static const char magic[] = "openssh-key-v1";
	SP_SECRET_AUTO raw = {0};
	struct sp_span s, name, kdf, options, pub, priv;
	const uint8_t *m;
	uint32_t n;

	SP_TRY(unarmor(text, &raw));
	s = sp_span_of(raw.p, raw.n);
	SP_TRY(sp_get(&s, sizeof(magic), &m));
	if (!sp_span_eq(sp_span_of(m, sizeof(magic)),
	    sp_span_of(magic, sizeof(magic))))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_get_ssh_string(&s, 64, &name));
	SP_TRY(sp_get_ssh_string(&s, 64, &kdf));
	SP_TRY(sp_get_ssh_string(&s, 256, &options));
	SP_TRY(sp_get_ssh_u32(&s, &n));
	if (n != 1)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_ssh_string(&s, 4096, &pub));
	SP_TRY(sp_get_ssh_string(&s, 8192, &priv));
	if (s.n != 0)
		return SP_ERR_SYNTAX;
	if (sp_span_is(name, "none") && sp_span_is(kdf, "none") && options.n == 0)
		return private_part(priv, kept);
	return sp_span_is(kdf, "bcrypt") ?
	    encrypted_part(name, options, pass, priv, kept) : SP_ERR_UNSUPPORTED;
}

/* ------------------------------------------------------------------------ PEM */

static int
give_pass(char *buf, int cap, int rw, void *arg)
{
	const struct sp_span *pass = arg;

	(void)rw;
	if (pass->n == 0 || pass->n > (size_t)cap)
		return -1;
	memcpy(buf, pass->p, pass->n);
	return (int)pass->n;
}

static enum sp_err
pem(struct sp_span text, struct sp_span pass, struct sp_secret *kept)
{
	BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
	bool locked = memmem(text.p, text.n, "ENCRYPTED", 9) != NULL;
	EVP_PKEY *pk = bio == NULL ? NULL :
	    PEM_read_bio_PrivateKey(bio, NULL, give_pass, &pass);
	enum sp_err e = pk != NULL ? sp_sshkey_keep(pk, kept) :
	    locked ? SP_ERR_DENIED : SP_ERR_UNSUPPORTED;

	EVP_PKEY_free(pk);
	BIO_free(bio);
	ERR_clear_error();
	return e;
}

enum sp_err
sp_sshkey_import(struct sp_span file, struct sp_span pass, struct sp_secret *kept)
{
	enum sp_err e;

	while (file.n > 0 && (file.p[0] == '\n' || file.p[0] == '\r' ||
	    file.p[0] == ' '))
		file = sp_span_of(file.p + 1, file.n - 1);
	if (file.n > strlen(BEGIN) &&
	    sp_span_is(sp_span_of(file.p, strlen(BEGIN)), BEGIN))
		e = openssh(file, pass, kept);
	else
		e = pem(file, pass, kept);
	if (e != SP_OK)
		sp_secret_free(kept);
	return e;
}

/* A key of each form, written and read: decoders, ciphers and signing are
 * fetched now. */
enum sp_err
sp_sshkey_warm(void)
{
	static char pass[] = "warm";
	struct sp_span given = sp_span_of(pass, 4);
	EVP_PKEY *pk = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	SP_SECRET_AUTO kept = {0};
	SP_BUF_AUTO sig = {.max = 1024};
	enum sp_err e = SP_ERR_CRYPTO;
	char *text = NULL;
	long n = 0;

	if (pk != NULL && bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, pk,
	    EVP_aes_256_cbc(), pass, 4, NULL, NULL) == 1)
		n = BIO_get_mem_data(bio, &text);
	if (n > 0)
		e = sp_sshkey_import(sp_span_of(text, (size_t)n), given, &kept);
	if (e == SP_OK)
		e = sp_sshkey_sign(&kept, sp_span_str("ecdsa-sha2-nistp256"), given,
		    &sig);
	BIO_free(bio);
	EVP_PKEY_free(pk);
	return e;
}
