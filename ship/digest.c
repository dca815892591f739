/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/text.h"
#include "ship/shipd.h"

#define PIECE 65536u

struct sp_hash {
	EVP_MD_CTX *ctx;
};

static EVP_MD_CTX *
hash_begin(const EVP_MD *md)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	SP_ASSERT(c != NULL && EVP_DigestInit_ex(c, md, NULL) == 1);
	return c;
}

static void
hash_end(EVP_MD_CTX *c, uint8_t *out)
{
	unsigned n = 0;

	SP_ASSERT(EVP_DigestFinal_ex(c, out, &n) == 1);
}

static void
hash_again(EVP_MD_CTX *c, const EVP_MD *md)
{
	SP_ASSERT(EVP_DigestInit_ex(c, md, NULL) == 1);
}

struct sp_hash *
sp_hash_new(void)
{
	struct sp_hash *h = calloc(1, sizeof(*h));

	SP_ASSERT(h != NULL);
	h->ctx = hash_begin(EVP_sha256());
	return h;
}

void
sp_hash_add(struct sp_hash *h, struct sp_span s)
{
	SP_ASSERT(EVP_DigestUpdate(h->ctx, s.p, s.n) == 1);
}

void
sp_hash_end(struct sp_hash *h, uint8_t out[static 32])
{
	hash_end(h->ctx, out);
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

void
sp_sha256(struct sp_span s, uint8_t out[static 32])
{
	unsigned n = 0;

	SP_ASSERT(EVP_Digest(s.p, s.n, out, &n, EVP_sha256(), NULL) == 1);
}

void
sp_sha256_text(const uint8_t d[static 32], char out[static SP_S3_DIGEST_TEXT])
{
	SP_BUF_AUTO b = {.max = SP_S3_DIGEST_TEXT};

	SP_ASSERT(sp_base64(&b, sp_span_of(d, 32)) == SP_OK &&
	    sp_span_cstr(sp_buf_span(&b), out, SP_S3_DIGEST_TEXT) == SP_OK);
}

void
sp_digest_fini(struct sp_digest *d)
{
	free(d->parts);
	free(d->md5);
	*d = (struct sp_digest){0};
}

/* The parts as large as it takes for all to be allowed. */
static enum sp_err
measure(int fd, uint64_t part, struct sp_digest *d)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return SP_ERR_IO;
	d->size = (uint64_t)st.st_size;
	while (d->size / part >= SP_SHIP_PARTS_MAX)
		part *= 2;
	d->part = part;
	d->n_parts = (size_t)((d->size + part - 1) / part);
	d->parts = calloc(d->n_parts, sizeof(*d->parts));
	d->md5 = calloc(d->n_parts, sizeof(*d->md5));
	return d->parts == NULL || d->md5 == NULL ? SP_ERR_NOMEM : SP_OK;
}

struct three {
	EVP_MD_CTX *all, *part, *md5;
};

static enum sp_err
read_part(int fd, const struct sp_digest *d, size_t i, struct three *h,
    uint8_t *room)
{
	uint64_t at = (uint64_t)i * d->part, end = at + d->part;

	if (end > d->size)
		end = d->size;
	while (at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
		ssize_t k = pread(fd, room, want, (off_t)at);

		if (k <= 0)
			return SP_ERR_IO;
		SP_ASSERT(EVP_DigestUpdate(h->all, room, (size_t)k) == 1 &&
		    EVP_DigestUpdate(h->part, room, (size_t)k) == 1 &&
		    EVP_DigestUpdate(h->md5, room, (size_t)k) == 1);
		at += (uint64_t)k;
	}
	return SP_OK;
}

enum sp_err
sp_digest_file(int fd, uint64_t part, struct sp_digest *d,
    bool (*goes_on)(void *arg), void *arg)
{
	struct three h;
	uint8_t *room = malloc(PIECE);
	enum sp_err e = measure(fd, part, d);

	SP_ASSERT(room != NULL);
	h = (struct three){hash_begin(EVP_sha256()), hash_begin(EVP_sha256()),
	    hash_begin(EVP_md5())};
	for (size_t i = 0; e == SP_OK && i < d->n_parts; i++) {
		e = goes_on(arg) ? read_part(fd, d, i, &h, room) : SP_ERR_STATE;
		if (e != SP_OK)
			break;
		hash_end(h.part, d->parts[i]);
		hash_end(h.md5, d->md5[i]);
		hash_again(h.part, EVP_sha256());
		hash_again(h.md5, EVP_md5());
	}
	if (e == SP_OK)
		hash_end(h.all, d->sha256);
	EVP_MD_CTX_free(h.all);
	EVP_MD_CTX_free(h.part);
	EVP_MD_CTX_free(h.md5);
	free(room);
	if (e != SP_OK)
		sp_digest_fini(d);
	return e;
}
