/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tlog.h"

#include <sodium.h>
#include <string.h>

void
sp_tlog_leaf_hash(struct sp_span entry, uint8_t out[static 32])
{
	crypto_hash_sha256_state st;
	const uint8_t zero = 0;

	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, &zero, 1);
	crypto_hash_sha256_update(&st, entry.p, entry.n);
	crypto_hash_sha256_final(&st, out);
}

void
sp_tlog_node_hash(const uint8_t left[static 32], const uint8_t right[static 32],
    uint8_t out[static 32])
{
	uint8_t b[65] = {1};

	memcpy(b + 1, left, 32);
	memcpy(b + 33, right, 32);
	crypto_hash_sha256(out, b, sizeof(b));
}

void
sp_tlog_append(struct sp_tlog_tree *t, const uint8_t leaf[static 32])
{
	uint8_t h[32];
	unsigned i = 0;

	SP_ASSERT(t->size < SP_TLOG_SIZE_MAX);
	memcpy(h, leaf, 32);
	for (; (t->size >> i & 1) != 0; i++)
		sp_tlog_node_hash(t->h[i], h, h);
	memcpy(t->h[i], h, 32);
	t->size++;
}

void
sp_tlog_root(const struct sp_tlog_tree *t, uint8_t out[static 32])
{
	bool has = false;

	if (t->size == 0)
		crypto_hash_sha256(out, NULL, 0);
	for (unsigned i = 0; i < 41; i++) {
		if ((t->size >> i & 1) == 0)
			continue;
		if (has)
			sp_tlog_node_hash(t->h[i], out, out);
		else
			memcpy(out, t->h[i], 32);
		has = true;
	}
}

/* ----------------------------------------------------------- proofs checked */

enum sp_err
sp_tlog_check_inclusion(const struct sp_tlog_proof *p, uint64_t index,
    uint64_t size, const uint8_t leaf[static 32], const uint8_t root[static 32])
{
	uint64_t fn = index, sn = size - 1;
	uint8_t r[32];

	if (size > SP_TLOG_SIZE_MAX || index >= size || p->n > SP_TLOG_PROOF_MAX)
		return SP_ERR_CRYPTO;
	memcpy(r, leaf, 32);
	for (size_t i = 0; i < p->n; i++) {
		if (sn == 0)
			return SP_ERR_CRYPTO;
		if ((fn & 1) != 0 || fn == sn) {
			sp_tlog_node_hash(p->h[i], r, r);
			while ((fn & 1) == 0 && fn != 0) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			sp_tlog_node_hash(r, p->h[i], r);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0 && sodium_memcmp(r, root, 32) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

/* RFC 9162, 2.1.4.2, from the step on where the first hash is known. */
static bool
walk_consistency(const struct sp_tlog_proof *p, size_t i, uint64_t fn,
    uint64_t sn, uint8_t fr[static 32], uint8_t sr[static 32])
{
	for (; i < p->n; i++) {
		if (sn == 0)
			return false;
		if ((fn & 1) != 0 || fn == sn) {
			sp_tlog_node_hash(p->h[i], fr, fr);
			sp_tlog_node_hash(p->h[i], sr, sr);
			while ((fn & 1) == 0 && fn != 0) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			sp_tlog_node_hash(sr, p->h[i], sr);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0;
}

enum sp_err
sp_tlog_check_consistency(const struct sp_tlog_proof *p, uint64_t size1,
    const uint8_t root1[static 32], uint64_t size2,
    const uint8_t root2[static 32])
{
	uint64_t fn = size1 - 1, sn = size2 - 1;
	uint8_t fr[32], sr[32];
	size_t i = 0;

	if (size1 > size2 || size2 > SP_TLOG_SIZE_MAX || p->n > SP_TLOG_PROOF_MAX)
		return SP_ERR_CRYPTO;
	if (size1 == 0)
		return p->n == 0 ? SP_OK : SP_ERR_CRYPTO;
	if (size1 == size2)
		return p->n == 0 && sodium_memcmp(root1, root2, 32) == 0 ? SP_OK :
		    SP_ERR_CRYPTO;
	for (; (fn & 1) != 0; fn >>= 1)
		sn >>= 1;
	if (fn == 0) {
		memcpy(fr, root1, 32);	/* size1 is a power of two */
	} else {
		if (p->n == 0)
			return SP_ERR_CRYPTO;
		memcpy(fr, p->h[i++], 32);
	}
	memcpy(sr, fr, 32);
	if (!walk_consistency(p, i, fn, sn, fr, sr) ||
	    sodium_memcmp(fr, root1, 32) != 0 || sodium_memcmp(sr, root2, 32) != 0)
		return SP_ERR_CRYPTO;
	return SP_OK;
}

/* -------------------------------------------------------------- proofs made */

/* The root of a complete subtree: 2^level leaves from index << level on. */
static enum sp_err
subtree(const struct sp_tlog_source *s, unsigned level, uint64_t index,
    uint8_t out[static 32])
{
	unsigned in = level % 8, n = 1u << in;
	uint64_t at = index << in;
	unsigned first = (unsigned)(at % SP_TLOG_TILE);
	uint8_t h[SP_TLOG_TILE * 32];

	SP_TRY(s->tile(s->arg, level / 8, at / SP_TLOG_TILE, first + n, h));
	for (uint8_t *b = h + (size_t)first * 32; n > 1; n /= 2)
		for (unsigned i = 0; i < n / 2; i++)
			sp_tlog_node_hash(b + (size_t)64 * i,
			    b + (size_t)64 * i + 32, b + (size_t)32 * i);
	memcpy(out, h + (size_t)first * 32, 32);
	return SP_OK;
}

/* The largest power of two that is smaller than n (n > 1). */
static uint64_t
split(uint64_t n)
{
	return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

enum sp_err
sp_tlog_range(const struct sp_tlog_source *s, uint64_t lo, uint64_t hi,
    uint8_t out[static 32])
{
	uint64_t n = hi - lo, k;
	uint8_t left[32], right[32];

	if (lo >= hi || hi > SP_TLOG_SIZE_MAX)
		return SP_ERR_INVAL;
	if ((n & (n - 1)) == 0 && lo % n == 0) {
		unsigned level = (unsigned)__builtin_ctzll(n);

		return subtree(s, level, lo >> level, out);
	}
	k = split(n);
	SP_TRY(sp_tlog_range(s, lo, lo + k, left));
	SP_TRY(sp_tlog_range(s, lo + k, hi, right));
	sp_tlog_node_hash(left, right, out);
	return SP_OK;
}

enum sp_err
sp_tlog_root_at(const struct sp_tlog_source *s, uint64_t size,
    uint8_t out[static 32])
{
	if (size > 0)
		return sp_tlog_range(s, 0, size, out);
	crypto_hash_sha256(out, NULL, 0);
	return SP_OK;
}

static enum sp_err
add(const struct sp_tlog_source *s, uint64_t lo, uint64_t hi,
    struct sp_tlog_proof *p)
{
	SP_ASSERT(p->n < SP_TLOG_PROOF_MAX);
	return sp_tlog_range(s, lo, hi, p->h[p->n++]);
}

/* PATH(m, D[lo:hi]) of RFC 6962, 2.1.1. */
static enum sp_err
path(const struct sp_tlog_source *s, uint64_t m, uint64_t lo, uint64_t hi,
    struct sp_tlog_proof *p)
{
	uint64_t k;

	if (hi - lo == 1)
		return SP_OK;
	k = split(hi - lo);
	if (m < lo + k) {
		SP_TRY(path(s, m, lo, lo + k, p));
		return add(s, lo + k, hi, p);
	}
	SP_TRY(path(s, m, lo + k, hi, p));
	return add(s, lo, lo + k, p);
}

enum sp_err
sp_tlog_prove_inclusion(const struct sp_tlog_source *s, uint64_t index,
    uint64_t size, struct sp_tlog_proof *p)
{
	if (index >= size || size > SP_TLOG_SIZE_MAX)
		return SP_ERR_INVAL;
	p->n = 0;
	return path(s, index, 0, size, p);
}

/* SUBPROOF(m, D[lo:hi], whole) of RFC 6962, 2.1.2. */
static enum sp_err
subproof(const struct sp_tlog_source *s, uint64_t m, uint64_t lo, uint64_t hi,
    bool whole, struct sp_tlog_proof *p)
{
	uint64_t k;

	if (m == hi)
		return whole ? SP_OK : add(s, lo, hi, p);
	k = split(hi - lo);
	if (m <= lo + k) {
		SP_TRY(subproof(s, m, lo, lo + k, whole, p));
		return add(s, lo + k, hi, p);
	}
	SP_TRY(subproof(s, m, lo + k, hi, false, p));
	return add(s, lo, lo + k, p);
}

enum sp_err
sp_tlog_prove_consistency(const struct sp_tlog_source *s, uint64_t size1,
    uint64_t size2, struct sp_tlog_proof *p)
{
	if (size1 > size2 || size2 > SP_TLOG_SIZE_MAX)
		return SP_ERR_INVAL;
	p->n = 0;
	if (size1 == 0 || size1 == size2)
		return SP_OK;
	return subproof(s, size1, 0, size2, true, p);
}
