/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/behind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/area.h"

#define PIECE (64u << 10)

static uint8_t piece[PIECE];	/* one process, one thread */

void
sp_rec_behind_trim(void)
{
	sp_pages_drop(piece, sizeof(piece));
}

void
sp_rec_behind_fini(struct sp_rec_behind *b)
{
	free(b->e);
	*b = (struct sp_rec_behind){0};
}

bool
sp_rec_behind_has_room(const struct sp_rec_behind *b, size_t len)
{
	return b->n < SP_REC_BEHIND_MAX &&
	    b->bytes + len <= SP_REC_BEHIND_BYTES;
}

static enum sp_err
grow(struct sp_rec_behind *b)
{
	size_t cap = b->cap == 0 ? 64 : b->cap * 2;
	struct sp_rec_late *e = realloc(b->e, cap * sizeof(*e));

	if (e == NULL)
		return SP_ERR_NOMEM;
	b->e = e;
	b->cap = cap;
	return SP_OK;
}

enum sp_err
sp_rec_behind_add(struct sp_rec_behind *b, uint64_t seq, uint64_t off,
    uint32_t len)
{
	if (b->n == b->cap)
		SP_TRY(grow(b));
	b->e[b->n++] = (struct sp_rec_late){.seq = seq, .off = off, .len = len};
	b->bytes += len;
	return SP_OK;
}

enum sp_err
sp_rec_behind_saw(struct sp_rec_behind *b, struct sp_rec_crypto *c,
    uint64_t seq, struct sp_span body)
{
	if (b->n >= SP_REC_BEHIND_MAX)
		return SP_ERR_TOOBIG;
	if (b->n == b->cap)
		SP_TRY(grow(b));
	b->e[b->n] = (struct sp_rec_late){.seq = seq};
	SP_TRY(sp_rec_sha256(c, body, b->e[b->n].hash));
	b->n_hashed = ++b->n;
	return SP_OK;
}

void
sp_rec_behind_cut(struct sp_rec_behind *b, size_t n)
{
	while (b->n > n)
		b->bytes -= b->e[--b->n].len;
}

/* A body as it stands in the file now. */
static enum sp_err
hash_one(struct sp_rec_late *e, struct sp_rec_crypto *c, int fd)
{
	size_t done = 0;

	if (EVP_DigestInit_ex2(c->md, c->sha256, NULL) != 1)
		return SP_ERR_CRYPTO;
	while (done < e->len) {
		size_t want = e->len - done < PIECE ? e->len - done : PIECE;
		ssize_t n = pread(fd, piece, want, (off_t)(e->off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return SP_ERR_IO;
		if (EVP_DigestUpdate(c->md, piece, (size_t)n) != 1)
			return SP_ERR_CRYPTO;
		done += (size_t)n;
	}
	return EVP_DigestFinal_ex(c->md, e->hash, NULL) == 1 ? SP_OK :
	    SP_ERR_CRYPTO;
}

enum sp_err
sp_rec_behind_hash(struct sp_rec_behind *b, struct sp_rec_crypto *c, int fd,
    uint64_t max_bytes)
{
	uint64_t done = 0;

	while (b->n_hashed < b->n && done < max_bytes) {
		struct sp_rec_late *e = &b->e[b->n_hashed];

		SP_TRY(hash_one(e, c, fd));
		b->n_hashed++;
		b->bytes -= e->len;
		done += e->len;
	}
	return SP_OK;
}

enum sp_err
sp_rec_behind_body(const struct sp_rec_behind *b, struct sp_buf *body,
    size_t *n)
{
	*n = b->n_hashed < SP_REC_HASHES_MAX ? b->n_hashed : SP_REC_HASHES_MAX;
	for (size_t i = 0; i < *n; i++) {
		SP_TRY(sp_buf_put_u64(body, b->e[i].seq));
		SP_TRY(sp_buf_put(body, b->e[i].hash, 32));
	}
	return SP_OK;
}

void
sp_rec_behind_drop(struct sp_rec_behind *b, size_t n)
{
	SP_ASSERT(n <= b->n_hashed);
	b->n -= n;
	b->n_hashed -= n;
	if (b->n == 0)
		sp_rec_behind_fini(b);
	else if (n > 0)
		memmove(b->e, b->e + n, b->n * sizeof(*b->e));
}

enum sp_err
sp_rec_behind_match(struct sp_rec_behind *b, struct sp_span body)
{
	size_t n = body.n / (8 + 32);

	if (n == 0 || n > SP_REC_HASHES_MAX || body.n % (8 + 32) != 0 ||
	    n > b->n_hashed)
		return SP_ERR_PROTO;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *hash;
		uint64_t seq = 0;

		SP_TRY(sp_get_u64(&body, &seq));
		SP_TRY(sp_get(&body, 32, &hash));
		if (seq != b->e[i].seq || memcmp(hash, b->e[i].hash, 32) != 0)
			return SP_ERR_PROTO;
	}
	sp_rec_behind_drop(b, n);
	return SP_OK;
}
