/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <string.h>

#include "vault/slots_int.h"
#include "vault/poison.h"

/*
 * A slot of k-of-n shares. The tag of each share is a hash, keyed with the
 * slot's salt, over what stands on it: a share that is wrong is found by
 * itself, before k of them are there. The tags say nothing about the slot key:
 * each y has 256 random bits, which no hash gives back.
 */
#define KEY_LABEL "sallyport shares slot v1"
#define TAG_LABEL "sallyport share tag v1"
#define HEAD (SP_SHARE_SET + 2)

void
sp_slot_shares_kn(const struct sp_slot *s, uint8_t *k, uint8_t *n)
{
	bool is = s->type == SP_SLOT_SHARES && s->extra_n >= HEAD;

	*k = is ? s->extra[SP_SHARE_SET] : 0;
	*n = is ? s->extra[SP_SHARE_SET + 1] : 0;
}

bool
sp_slot_shares_are_sane(const struct sp_slot *s)
{
	uint8_t k, n;

	sp_slot_shares_kn(s, &k, &n);
	return k >= SP_SHARES_MIN && k <= n && n <= SP_SHARES_MAX &&
	    s->extra_n == HEAD + (size_t)n * SP_SLOT_TAG;
}

static enum sp_err
tag_of(const struct sp_slot *s, const struct sp_share *share,
    uint8_t tag[static SP_SLOT_TAG])
{
	crypto_generichash_state st;
	const uint8_t head[4] = {share->k, share->n, share->index, share->len};
	int bad;

	bad = crypto_generichash_init(&st, s->salt, SP_SLOT_SALT, SP_SLOT_TAG);
	bad |= crypto_generichash_update(&st, (const uint8_t *)TAG_LABEL,
	    sizeof(TAG_LABEL));
	bad |= crypto_generichash_update(&st, share->set, SP_SHARE_SET);
	bad |= crypto_generichash_update(&st, head, sizeof(head));
	bad |= crypto_generichash_update(&st, share->y, share->len);
	bad |= crypto_generichash_final(&st, tag, SP_SLOT_TAG);
	sodium_memzero(&st, sizeof(st));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_slot_share_is_of(const struct sp_slot *s, const struct sp_share *share)
{
	uint8_t k, n, tag[SP_SLOT_TAG];

	sp_slot_shares_kn(s, &k, &n);
	if (k == 0 || !sp_span_eq(sp_span_of(share->set, SP_SHARE_SET),
	    sp_span_of(s->extra, SP_SHARE_SET)))
		return SP_ERR_PROTO;
	if (share->k != k || share->n != n || share->index == 0 ||
	    share->index > n || share->len != SP_KEY_BYTES)
		return SP_ERR_CRYPTO;
	SP_TRY(tag_of(s, share, tag));
	return sodium_memcmp(tag, s->extra + HEAD +
	    (size_t)(share->index - 1) * SP_SLOT_TAG, SP_SLOT_TAG) == 0 ? SP_OK :
	    SP_ERR_CRYPTO;
}

static enum sp_err
fill(struct sp_slot *s, const struct sp_share *out)
{
	memcpy(s->extra, out[0].set, SP_SHARE_SET);
	s->extra[SP_SHARE_SET] = out[0].k;
	s->extra[SP_SHARE_SET + 1] = out[0].n;
	for (size_t i = 0; i < out[0].n; i++)
		SP_TRY(tag_of(s, &out[i], s->extra + HEAD + i * SP_SLOT_TAG));
	s->extra_n = (uint16_t)(HEAD + (size_t)out[0].n * SP_SLOT_TAG);
	return SP_OK;
}

enum sp_err
sp_slot_make_shares(struct sp_slot *s, uint8_t k, uint8_t n,
    const struct sp_secret *root, struct sp_share *out)
{
	SP_SECRET_AUTO whole = {0}, key = {0};
	struct sp_slot t = {.type = SP_SLOT_SHARES, .is_pending = true};
	enum sp_err e;

	SP_TRY(sp_secret_random(&whole, SP_KEY_BYTES));
	SP_TRY(sp_shares_split(sp_span_of(whole.p, whole.n), k, n, out));
	randombytes_buf(t.salt, sizeof(t.salt));
	e = fill(&t, out);
	if (e == SP_OK)
		e = sp_key_derive(whole.p, KEY_LABEL,
		    sp_span_of(t.salt, SP_SLOT_SALT), &key);
	if (e == SP_OK)
		e = sp_slot_wrap_root(&t, &key, root);
	if (e != SP_OK) {
		sp_share_wipe(out, n);
		return e;
	}
	*s = t;
	return SP_OK;
}

enum sp_err
sp_slot_open_shares(const struct sp_slot *s, const struct sp_share *shares,
    size_t n, struct sp_secret *root)
{
	SP_SECRET_AUTO whole = {0}, key = {0};
	size_t len = 0, bad;

	for (size_t i = 0; i < n; i++)
		SP_TRY(sp_slot_share_is_of(s, &shares[i]));
	SP_TRY(sp_secret_new(&whole, SP_SHARE_SECRET_MAX));
	SP_TRY(sp_shares_join(shares, n, whole.p, &len, &bad));
	if (len != SP_KEY_BYTES)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_key_derive(whole.p, KEY_LABEL,
	    sp_span_of(s->salt, SP_SLOT_SALT), &key));
	return sp_slot_unwrap_root(s, &key, root);
}
