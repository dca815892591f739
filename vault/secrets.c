/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/secrets.h"

#include <sodium.h>
#include <string.h>

#include "common/ipc_messages.h"
#include "common/text.h"
#include "vault/release.h"
#include "vault/poison.h"

#define FORMAT 1
#define FORMAT_RULE 2
#define PAD 64
#define HEAD_BYTES (4 + 1 + 4 + 32 + SP_WRAPPED_KEY)
static const uint8_t magic[4] = {'S', 'P', 'S', 'C'};

static uint8_t
format_of(const struct sp_secret_row *row)
{
	return sodium_is_zero(row->rule, sizeof(row->rule)) ? FORMAT : FORMAT_RULE;
}

static enum sp_err
row_aad(const struct sp_secret_row *row, uint32_t epoch, struct sp_buf *b)
{
	SP_TRY(sp_buf_put_bytes(b, sp_span_str("sallyport secret v1")));
	SP_TRY(sp_buf_put_u8(b, format_of(row)));
	SP_TRY(sp_buf_put_u32(b, epoch));
	SP_TRY(sp_buf_put_u8(b, row->kind));
	SP_TRY(sp_buf_put(b, row->id, 16));
	SP_TRY(sp_buf_put_u64(b, row->version));
	SP_TRY(sp_buf_put(b, row->owner, 16));
	return format_of(row) == FORMAT ? SP_OK :
	    sp_buf_put(b, row->rule, sizeof(row->rule));
}

static enum sp_err
commitment(const struct sp_secret *dek, const uint8_t nonce[static SP_AEAD_NONCE],
    struct sp_span aad, uint8_t out[static 32])
{
	crypto_generichash_state st;
	int bad;

	bad = crypto_generichash_init(&st, dek->p, dek->n, 32);
	bad |= crypto_generichash_update(&st, nonce, SP_AEAD_NONCE);
	bad |= crypto_generichash_update(&st, aad.p, aad.n);
	bad |= crypto_generichash_final(&st, out, 32);
	sodium_memzero(&st, sizeof(st));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}

static enum sp_err
pad(struct sp_span clear, struct sp_secret *out)
{
	size_t n = (4 + clear.n + PAD - 1) / PAD * PAD;

	SP_TRY(sp_secret_new(out, n));
	for (size_t i = 0; i < 4; i++)
		out->p[i] = (uint8_t)(clear.n >> (8 * i));
	if (clear.n > 0)
		memcpy(out->p + 4, clear.p, clear.n);
	return SP_OK;
}

enum sp_err
sp_secret_seal(const struct sp_root *r, const struct sp_secret_row *row,
    struct sp_span clear, struct sp_buf *out)
{
	const struct sp_kek *kek = sp_root_kek(r, SP_KEK_SECRETS, 0);
	SP_BUF_AUTO aad = {.max = 128}, body = {.max = 2 * SP_SECRET_CLEAR_MAX};
	SP_SECRET_AUTO dek = {0}, plain = {0};
	uint8_t wrapped[SP_WRAPPED_KEY], commit[32];

	if (kek == NULL)
		return SP_ERR_SEALED;
	if (clear.n == 0 || clear.n > SP_SECRET_CLEAR_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(row_aad(row, kek->epoch, &aad));
	SP_TRY(sp_secret_random(&dek, SP_KEY_BYTES));
	SP_TRY(pad(clear, &plain));
	SP_TRY(sp_key_wrap(kek->key.p, sp_buf_span(&aad), dek.p, wrapped));
	SP_TRY(sp_aead_seal(dek.p, sp_buf_span(&aad),
	    sp_span_of(plain.p, plain.n), &body));
	SP_TRY(commitment(&dek, sp_buf_span(&body).p, sp_buf_span(&aad), commit));
	SP_TRY(sp_buf_put(out, magic, sizeof(magic)));
	SP_TRY(sp_buf_put_u8(out, format_of(row)));
	SP_TRY(sp_buf_put_u32(out, kek->epoch));
	SP_TRY(sp_buf_put(out, commit, sizeof(commit)));
	SP_TRY(sp_buf_put(out, wrapped, sizeof(wrapped)));
	return sp_buf_put(out, sp_buf_span(&body).p, body.len);
}

static enum sp_err
unpad(struct sp_secret *s)
{
	uint32_t n = 0;

	for (size_t i = 0; s->n >= 4 && i < 4; i++)
		n |= (uint32_t)s->p[i] << (8 * i);
	if (n == 0 || n > SP_SECRET_CLEAR_MAX || s->n < 4 ||
	    s->n != (4 + (size_t)n + PAD - 1) / PAD * PAD)
		return SP_ERR_CRYPTO;
	memmove(s->p, s->p + 4, n);
	sp_secret_cut(s, n);
	return SP_OK;
}

static enum sp_err
unseal_body(const struct sp_secret *dek, struct sp_span aad,
    const uint8_t *commit, struct sp_span body, struct sp_secret *clear)
{
	SP_SECRET_AUTO s = {0};
	uint8_t want[32];

	SP_TRY(commitment(dek, body.p, aad, want));
	if (sodium_memcmp(want, commit, sizeof(want)) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_aead_open(dek->p, aad, body, &s));
	SP_TRY(unpad(&s));
	sp_secret_move(clear, &s);
	return SP_OK;
}

enum sp_err
sp_secret_unseal(const struct sp_root *r, const struct sp_secret_row *row,
    struct sp_span sealed, struct sp_secret *clear)
{
	SP_BUF_AUTO aad = {.max = 128};
	SP_SECRET_AUTO dek = {0};
	const uint8_t *m, *commit, *wrapped;
	const struct sp_kek *kek;
	uint32_t epoch;
	uint8_t format;

	if (!r->is_open)
		return SP_ERR_SEALED;
	if (row->kind != SP_CRED_TOTP_SEED &&
	    !sp_releases_is_last(r->releases, row->id, row->rule))
		return SP_ERR_CRYPTO;
	if (sealed.n <= HEAD_BYTES + SP_AEAD_OVERHEAD ||
	    sp_get(&sealed, sizeof(magic), &m) != SP_OK ||
	    sp_get_u8(&sealed, &format) != SP_OK ||
	    sp_get_u32(&sealed, &epoch) != SP_OK ||
	    sp_get(&sealed, 32, &commit) != SP_OK ||
	    sp_get(&sealed, SP_WRAPPED_KEY, &wrapped) != SP_OK ||
	    !sp_span_eq(sp_span_of(m, 4), sp_span_of(magic, 4)) ||
	    format != format_of(row) || epoch == 0 ||
	    (kek = sp_root_kek(r, SP_KEK_SECRETS, epoch)) == NULL)
		return SP_ERR_CRYPTO;
	SP_TRY(row_aad(row, epoch, &aad));
	SP_TRY(sp_aead_open(kek->key.p, sp_buf_span(&aad),
	    sp_span_of(wrapped, SP_WRAPPED_KEY), &dek));
	return unseal_body(&dek, sp_buf_span(&aad), commit, sealed, clear);
}
