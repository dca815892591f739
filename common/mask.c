/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mask.h"

#include <sodium.h>
#include <string.h>

#define P ((UINT64_C(1) << 61) - 1)
#define COVER_PIECE 32768u

static uint64_t
mul(uint64_t a, uint64_t b)
{
	unsigned __int128 x = (unsigned __int128)a * b;
	uint64_t r = (uint64_t)(x & P) + (uint64_t)(x >> 61);

	return r >= P ? r - P : r;
}

static uint64_t
add(uint64_t a, uint64_t b)
{
	return a + b >= P ? a + b - P : a + b;
}

static uint64_t
base_of(const uint8_t key[static SP_MASK_KEY])
{
	static const char label[] = "sallyport mask base v1";
	struct sp_span s;
	uint8_t h[32];
	uint64_t v = 0;

	crypto_generichash(h, sizeof(h), (const uint8_t *)label, sizeof(label), key,
	    SP_MASK_KEY);
	s = sp_span_of(h, 8);
	if (sp_get_u64(&s, &v) != SP_OK)
		return 257;
	v &= P;
	return v < 257 ? 257 : v >= P ? P - 1 : v;
}

static void
digest_of(const uint8_t key[static SP_MASK_KEY], struct sp_span s,
    uint8_t out[static 32])
{
	static const char label[] = "sallyport mask v1";
	crypto_generichash_state st;

	crypto_generichash_init(&st, key, SP_MASK_KEY, 32);
	crypto_generichash_update(&st, (const uint8_t *)label, sizeof(label));
	crypto_generichash_update(&st, s.p, s.n);
	crypto_generichash_final(&st, out, 32);
	sodium_memzero(&st, sizeof(st));
}

enum sp_err
sp_mask_add(struct sp_buf *masks, struct sp_span s)
{
	const uint8_t *key = sp_buf_span(masks).p;
	uint64_t base, v = 0;
	uint8_t d[32];

	if (masks->len < SP_MASK_KEY || s.n < SP_MASK_LEAST || s.n > SP_MASK_MOST)
		return SP_ERR_INVAL;
	base = base_of(key);
	for (size_t i = 0; i < s.n; i++)
		v = add(mul(v, base), (uint64_t)s.p[i] + 1);
	digest_of(key, s, d);
	SP_TRY(sp_buf_put_u16(masks, (uint16_t)s.n));
	SP_TRY(sp_buf_put_u16(masks, (uint16_t)v));
	return sp_buf_put(masks, d, sizeof(d));
}

static enum sp_err
one(struct sp_span *s, struct sp_masks *m)
{
	struct sp_mask k = {0};
	const uint8_t *d;
	size_t i;

	SP_TRY(sp_get_u16(s, &k.length));
	SP_TRY(sp_get_u16(s, &k.rolling));
	SP_TRY(sp_get(s, 32, &d));
	memcpy(k.digest, d, 32);
	if (m->n == SP_MASKS_MAX || k.length < SP_MASK_LEAST ||
	    k.length > SP_MASK_MOST)
		return SP_ERR_PROTO;
	for (i = m->n++; i > 0 && m->mask[i - 1].length > k.length; i--)
		m->mask[i] = m->mask[i - 1];
	m->mask[i] = k;
	return SP_OK;
}

enum sp_err
sp_masks_parse(struct sp_span s, struct sp_masks *m)
{
	const uint8_t *key;

	*m = (struct sp_masks){.n = 0};
	if (s.n == 0)
		return SP_OK;
	SP_TRY(sp_get(&s, SP_MASK_KEY, &key));
	memcpy(m->key, key, SP_MASK_KEY);
	m->base = base_of(key);
	while (s.n > 0)
		SP_TRY(one(&s, m));
	m->longest = m->n > 0 ? m->mask[m->n - 1].length : 0;
	return SP_OK;
}

/* All masks of one length, from `a` to `b`. */
static void
look(const struct sp_masks *m, size_t a, size_t b, struct sp_span s,
    void (*found)(void *ctx, size_t at, size_t n), void *ctx)
{
	size_t n = m->mask[a].length;
	uint64_t v = 0, top = 1;
	uint8_t d[32];

	if (s.n < n)
		return;
	for (size_t i = 1; i < n; i++)
		top = mul(top, m->base);
	for (size_t i = 0; i < s.n; i++) {
		size_t at = i + 1 - n;
		bool has_digest = false;

		if (i >= n)
			v = add(v, P - mul((uint64_t)s.p[i - n] + 1, top));
		v = add(mul(v, m->base), (uint64_t)s.p[i] + 1);
		if (i + 1 < n)
			continue;
		for (size_t k = a; k < b; k++) {
			if (m->mask[k].rolling != (uint16_t)v)
				continue;
			if (!has_digest)
				digest_of(m->key, sp_span_of(s.p + at, n), d);
			has_digest = true;
			if (sodium_memcmp(d, m->mask[k].digest, 32) == 0)
				found(ctx, at, n);
		}
	}
}

void
sp_masks_find(const struct sp_masks *m, struct sp_span text,
    void (*found)(void *ctx, size_t at, size_t n), void *ctx)
{
	for (size_t a = 0, b; a < m->n; a = b) {
		for (b = a + 1; b < m->n && m->mask[b].length == m->mask[a].length;
		    b++)
			;
		look(m, a, b, text, found, ctx);
	}
}

struct covered {
	uint64_t bit[COVER_PIECE / 64];
};

static void
note(void *ctx, size_t at, size_t n)
{
	struct covered *c = ctx;

	for (size_t i = at; i < at + n; i++)
		c->bit[i / 64] |= UINT64_C(1) << i % 64;
}

/* In pieces that overlap by the longest one. Found first and covered then: one
 * secret may be the beginning of another. */
void
sp_masks_cover(const struct sp_masks *m, uint8_t *text, size_t n)
{
	struct covered c, before = {{0}};
	size_t over = m->longest > 0 ? m->longest - 1 : 0, at = 0, k, had = 0;

	while (m->n > 0 && at < n) {
		k = n - at < COVER_PIECE ? n - at : COVER_PIECE;
		memset(&c, 0, sizeof(c));
		for (size_t i = 0; i < had; i++)
			if ((before.bit[i / 64] >> i % 64 & 1) != 0)
				note(&c, i, 1);
		sp_masks_find(m, sp_span_of(text + at, k), note, &c);
		had = at + k < n ? over : 0;
		for (size_t i = 0; i + had < k; i++)
			if ((c.bit[i / 64] >> i % 64 & 1) != 0)
				text[at + i] = '*';
		memset(&before, 0, sizeof(before));
		for (size_t i = 0; i < had; i++)
			if ((c.bit[(k - had + i) / 64] >> (k - had + i) % 64 & 1) != 0)
				note(&before, i, 1);
		at += k - had;
	}
}
