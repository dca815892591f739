/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiles of hashes against the entries that they stand for (C2SP tlog-tiles). What a
 * tile says can be computed from the entries, so that one may be missing; but proofs
 * are made of them, and one that says something else was changed.
 */
#include <stdlib.h>
#include <string.h>

#include "bastion/verify/verify.h"

#define LEVELS 5		/* of SP_TLOG_SIZE_MAX leaves */

struct tiles {
	int dir;
	struct {
		uint64_t done;	/* full ones before it */
		unsigned n;
		uint8_t h[SP_TLOG_TILE][32];
	} level[LEVELS];
};

struct tiles *
tiles_new(int dir)
{
	struct tiles *t = calloc(1, sizeof(*t));

	if (t != NULL)
		t->dir = dir;
	return t;
}

void
tiles_free(struct tiles *t)
{
	free(t);
}

/* The tile as far as it is known now; the full one may be there already. */
static enum sp_err
compare(const struct tiles *t, int l)
{
	size_t want = (size_t)t->level[l].n * 32;
	SP_BUF_AUTO b = {.max = 2 * SP_TLOG_TILE * 32};
	char path[SP_TLOG_PATH_MAX];
	enum sp_err e;

	sp_tlog_path(path, l, t->level[l].done, 0);
	e = sp_tlog_read(t->dir, path, SP_TLOG_TILE * 32, &b);
	if (e == SP_OK)
		return b.len == SP_TLOG_TILE * 32 && memcmp(sp_buf_span(&b).p,
		    t->level[l].h, want) == 0 ? SP_OK : SP_ERR_CRYPTO;
	if (e == SP_ERR_NOTFOUND && want < SP_TLOG_TILE * 32) {
		sp_tlog_path(path, l, t->level[l].done, t->level[l].n);
		e = sp_tlog_read(t->dir, path, SP_TLOG_TILE * 32, &b);
	}
	if (e == SP_OK)
		return b.len == want && memcmp(sp_buf_span(&b).p, t->level[l].h,
		    want) == 0 ? SP_OK : SP_ERR_CRYPTO;
	return e == SP_ERR_NOTFOUND ? SP_OK : SP_ERR_CRYPTO;
}

/* The root of a full tile. */
static void
fold(uint8_t h[static SP_TLOG_TILE][32])
{
	for (unsigned n = SP_TLOG_TILE; n > 1; n /= 2)
		for (unsigned i = 0; i < n; i += 2)
			sp_tlog_node_hash(h[i], h[i + 1], h[i / 2]);
}

enum sp_err
tiles_take(struct tiles *t, const uint8_t leaf[static 32])
{
	const uint8_t *h = leaf;

	for (int l = 0; l < LEVELS; l++) {
		memcpy(t->level[l].h[t->level[l].n++], h, 32);
		if (t->level[l].n < SP_TLOG_TILE)
			return SP_OK;
		SP_TRY(compare(t, l));
		fold(t->level[l].h);
		t->level[l].n = 0;
		t->level[l].done++;
		h = t->level[l].h[0];
	}
	return SP_OK;
}

enum sp_err
tiles_end(const struct tiles *t)
{
	for (int l = 0; l < LEVELS; l++)
		if (t->level[l].n > 0)
			SP_TRY(compare(t, l));
	return SP_OK;
}
