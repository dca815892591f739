/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <string.h>
#include <zstd.h>

#include "recorder/format.h"

static const char key_label[] = "sallyport lane key v1";
static const char next_label[] = "sallyport lane next v1";
static const char commit_label[] = "sallyport lane commit v1";

enum sp_err
sp_rec_crypto_init(struct sp_rec_crypto *c)
{
	*c = (struct sp_rec_crypto){0};
	if (sodium_init() < 0)
		return SP_ERR_CRYPTO;
	c->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	c->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	c->md = EVP_MD_CTX_new();
	c->cipher = EVP_CIPHER_CTX_new();
	if (c->sha256 == NULL || c->gcm == NULL || c->md == NULL ||
	    c->cipher == NULL) {
		sp_rec_crypto_fini(c);
		return SP_ERR_CRYPTO;
	}
	return SP_OK;
}

void
sp_rec_crypto_fini(struct sp_rec_crypto *c)
{
	EVP_MD_CTX_free(c->md);
	EVP_CIPHER_CTX_free(c->cipher);
	EVP_MD_free(c->sha256);
	EVP_CIPHER_free(c->gcm);
	*c = (struct sp_rec_crypto){0};
}

enum sp_err
sp_rec_sha256(struct sp_rec_crypto *c, struct sp_span s,
    uint8_t out[static 32])
{
	return EVP_DigestInit_ex2(c->md, c->sha256, NULL) == 1 &&
	    EVP_DigestUpdate(c->md, s.p, s.n) == 1 &&
	    EVP_DigestFinal_ex(c->md, out, NULL) == 1 ? SP_OK : SP_ERR_CRYPTO;
}

struct sp_span
sp_rec_chained(const struct sp_rec_chunk_header *h, struct sp_span body)
{
	if (h->type != SP_REC_DATA_CHUNK || (h->flags & SP_REC_F_BEHIND) == 0 ||
	    body.n < SP_REC_SEAL)
		return body;
	return sp_span_of(body.p + body.n - SP_REC_SEAL, SP_REC_SEAL);
}

enum sp_err
sp_rec_chain(struct sp_rec_crypto *c, const uint8_t prev[static 32],
    const uint8_t head[static SP_REC_CHUNK_HEADER], struct sp_span body,
    uint8_t out[static 32])
{
	return EVP_DigestInit_ex2(c->md, c->sha256, NULL) == 1 &&
	    EVP_DigestUpdate(c->md, prev, 32) == 1 &&
	    EVP_DigestUpdate(c->md, head, SP_REC_CHUNK_HEADER) == 1 &&
	    EVP_DigestUpdate(c->md, body.p, body.n) == 1 &&
	    EVP_DigestFinal_ex(c->md, out, NULL) == 1 ? SP_OK : SP_ERR_CRYPTO;
}

/* seq never repeats in a recording, so no nonce repeats under any key. */
static void
make_nonce(uint8_t n[static 12], const struct sp_rec_chunk_header *h)
{
	n[0] = h->lane;
	for (unsigned i = 0; i < 3; i++)
		n[1 + i] = (uint8_t)(h->segment >> (8 * i));
	for (unsigned i = 0; i < 8; i++)
		n[4 + i] = (uint8_t)(h->seq >> (8 * i));
}

static bool
begin(struct sp_rec_crypto *c, const uint8_t *key, const uint8_t *prev,
    const struct sp_rec_chunk_header *h, int encrypt)
{
	uint8_t nonce[12], head[SP_REC_CHUNK_HEADER];
	int n;

	make_nonce(nonce, h);
	sp_rec_chunk_header_encode(head, h);
	return EVP_CipherInit_ex2(c->cipher, c->gcm, key, nonce, encrypt,
	    NULL) == 1 &&
	    EVP_CipherUpdate(c->cipher, NULL, &n, head, sizeof(head)) == 1 &&
	    EVP_CipherUpdate(c->cipher, NULL, &n, prev, 32) == 1;
}

enum sp_err
sp_rec_seal(struct sp_rec_crypto *c, const uint8_t key[static 32],
    const uint8_t prev[static 32], const struct sp_rec_chunk_header *h,
    struct sp_span in, uint8_t *out)
{
	int n = 0, m = 0;

	SP_ASSERT(in.n <= SP_REC_BODY_MAX);
	if (!begin(c, key, prev, h, 1) ||
	    EVP_CipherUpdate(c->cipher, out, &n, in.p, (int)in.n) != 1 ||
	    EVP_CipherFinal_ex(c->cipher, out + n, &m) != 1 ||
	    (size_t)(n + m) != in.n ||
	    EVP_CIPHER_CTX_ctrl(c->cipher, EVP_CTRL_AEAD_GET_TAG, SP_REC_TAG,
	    out + in.n) != 1)
		return SP_ERR_CRYPTO;
	return SP_OK;
}

enum sp_err
sp_rec_unseal(struct sp_rec_crypto *c, const uint8_t key[static 32],
    const uint8_t prev[static 32], const struct sp_rec_chunk_header *h,
    struct sp_span in, uint8_t *out)
{
	uint8_t tag[SP_REC_TAG];
	int n = 0, m = 0;
	size_t len;

	if (in.n < SP_REC_TAG || in.n > SP_REC_BODY_MAX)
		return SP_ERR_PROTO;
	len = in.n - SP_REC_TAG;
	memcpy(tag, in.p + len, SP_REC_TAG);
	if (!begin(c, key, prev, h, 0) ||
	    EVP_CipherUpdate(c->cipher, out, &n, in.p, (int)len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c->cipher, EVP_CTRL_AEAD_SET_TAG, SP_REC_TAG,
	    tag) != 1 || EVP_CipherFinal_ex(c->cipher, out + n, &m) != 1) {
		if (len > 0)
			explicit_bzero(out, len);
		return SP_ERR_CRYPTO;
	}
	return SP_OK;
}

static enum sp_err
derive(const char *label, size_t label_n, const uint8_t *state, uint8_t lane,
    uint32_t segment, uint8_t *out)
{
	crypto_generichash_state st;
	uint8_t tail[5] = {lane, (uint8_t)segment, (uint8_t)(segment >> 8),
	    (uint8_t)(segment >> 16), (uint8_t)(segment >> 24)};
	int bad = crypto_generichash_init(&st, state, 32, 32);

	bad |= crypto_generichash_update(&st, (const uint8_t *)label, label_n);
	bad |= crypto_generichash_update(&st, tail, sizeof(tail));
	bad |= crypto_generichash_final(&st, out, 32);
	sodium_memzero(&st, sizeof(st));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_rec_chunk_key(const uint8_t state[static 32], uint8_t lane,
    uint32_t segment, uint8_t key[static 32])
{
	return derive(key_label, sizeof(key_label), state, lane, segment, key);
}

enum sp_err
sp_rec_commitment(const uint8_t state[static 32], uint8_t lane,
    uint32_t segment, uint8_t out[static SP_REC_COMMIT])
{
	return derive(commit_label, sizeof(commit_label), state, lane, segment,
	    out);
}

enum sp_err
sp_rec_ratchet(uint8_t state[static 32], uint8_t lane, uint32_t segment)
{
	uint8_t next[32];

	SP_TRY(derive(next_label, sizeof(next_label), state, lane, segment, next));
	memcpy(state, next, sizeof(next));
	sodium_memzero(next, sizeof(next));
	return SP_OK;
}

enum sp_err
sp_rec_signed_chunk(struct sp_buf *b, const uint8_t prev[static 32],
    const uint8_t head[static SP_REC_CHUNK_HEADER], struct sp_span body)
{
	return sp_signed_chunk(b, prev, head, body);
}

static enum sp_err
warm_signatures(void)
{
	uint8_t pk[32], sk[64], sig[64], xpk[32], xsk[32];
	uint8_t plain[SP_LANE_PLAIN_BYTES] = {0}, box[SP_LANE_SEALED_BYTES];

	if (crypto_sign_keypair(pk, sk) != 0 ||
	    crypto_sign_detached(sig, NULL, plain, sizeof(plain), sk) != 0 ||
	    crypto_sign_verify_detached(sig, plain, sizeof(plain), pk) != 0 ||
	    crypto_box_keypair(xpk, xsk) != 0 ||
	    crypto_box_seal(box, plain, sizeof(plain), xpk) != 0)
		return SP_ERR_CRYPTO;
	sodium_memzero(sk, sizeof(sk));
	sodium_memzero(xsk, sizeof(xsk));
	return SP_OK;
}

static enum sp_err
warm_zstd(void)
{
	char in[512] = {0}, out[1024];
	ZSTD_CCtx *z = ZSTD_createCCtx();
	ZSTD_inBuffer i = {in, sizeof(in), 0};
	ZSTD_outBuffer o = {out, sizeof(out), 0};
	size_t left;

	if (z == NULL)
		return SP_ERR_NOMEM;
	ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, 1);
	ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, 15);
	left = ZSTD_compressStream2(z, &o, &i, ZSTD_e_flush);
	ZSTD_freeCCtx(z);
	return ZSTD_isError(left) ? SP_ERR_IO : SP_OK;
}

enum sp_err
sp_rec_warm_up(void)
{
	struct sp_rec_chunk_header h = {.len = 32, .type = SP_REC_DATA_CHUNK,
	    .lane = 1};
	uint8_t key[32] = {0}, prev[32] = {0}, text[32] = {0}, out[64];
	struct sp_rec_crypto c;
	enum sp_err e;

	SP_TRY(sp_rec_crypto_init(&c));
	e = sp_rec_sha256(&c, sp_span_of(text, sizeof(text)), prev);
	if (e == SP_OK)
		e = sp_rec_seal(&c, key, prev, &h, sp_span_of(text, sizeof(text)),
		    out);
	if (e == SP_OK)
		e = sp_rec_unseal(&c, key, prev, &h, sp_span_of(out, 48), text);
	if (e == SP_OK)
		e = sp_rec_ratchet(key, 1, 0);
	sp_rec_crypto_fini(&c);
	SP_TRY(e);
	SP_TRY(warm_signatures());
	return warm_zstd();
}
