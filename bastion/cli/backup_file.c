/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/cli/backup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CIPHER_MAX (SP_BK_PIECE + 1 + crypto_secretstream_xchacha20poly1305_ABYTES)

static enum sp_err
write_all(int fd, struct sp_span s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return SP_ERR_IO;
		s.p += n;
		s.n -= (size_t)n;
	}
	return SP_OK;
}

/* SP_ERR_EOF before the first byte, SP_ERR_CRYPTO in the middle. */
static enum sp_err
read_all(int fd, uint8_t *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t k = read(fd, p + got, n - got);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return SP_ERR_IO;
		if (k == 0)
			return got == 0 ? SP_ERR_EOF : SP_ERR_CRYPTO;
		got += (size_t)k;
	}
	return SP_OK;
}

/* -------------------------------------------------------------------- header */

static enum sp_err
put_header(const struct sp_bk_header *h, struct sp_buf *b)
{
	SP_TRY(sp_buf_put_u64(b, h->made_us));
	SP_TRY(sp_buf_put_u64(b, h->schema));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(h->node)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(h->id)));
	SP_TRY(sp_buf_put_bytes(b, sp_buf_span(&h->state)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_of(h->wrapped, h->n_wrapped)));
	SP_TRY(sp_buf_put_u8(b, h->has_pass));
	SP_TRY(sp_buf_put(b, h->salt, sizeof(h->salt)));
	SP_TRY(sp_buf_put_u64(b, h->ops));
	SP_TRY(sp_buf_put_u64(b, h->mem));
	SP_TRY(sp_buf_put(b, h->by_pass, sizeof(h->by_pass)));
	return sp_buf_put(b, h->stream, sizeof(h->stream));
}

static enum sp_err
take(struct sp_span *s, uint8_t *dst, size_t n)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, n, &p));
	memcpy(dst, p, n);
	return SP_OK;
}

static enum sp_err
get_header(struct sp_bk_header *h, struct sp_span s)
{
	struct sp_span node, id, state, wrapped;
	uint8_t has;

	SP_TRY(sp_get_u64(&s, &h->made_us));
	SP_TRY(sp_get_u64(&s, &h->schema));
	SP_TRY(sp_get_str(&s, sizeof(h->node) - 1, &node));
	SP_TRY(sp_get_str(&s, sizeof(h->id) - 1, &id));
	SP_TRY(sp_get_bytes(&s, SP_BK_HEADER_MAX, &state));
	SP_TRY(sp_get_bytes(&s, sizeof(h->wrapped), &wrapped));
	SP_TRY(sp_get_u8(&s, &has));
	SP_TRY(take(&s, h->salt, sizeof(h->salt)));
	SP_TRY(sp_get_u64(&s, &h->ops));
	SP_TRY(sp_get_u64(&s, &h->mem));
	SP_TRY(take(&s, h->by_pass, sizeof(h->by_pass)));
	SP_TRY(take(&s, h->stream, sizeof(h->stream)));
	if (s.n != 0 || has > 1)
		return SP_ERR_SYNTAX;
	h->has_pass = has == 1;
	h->n_wrapped = wrapped.n;
	memcpy(h->wrapped, wrapped.p, wrapped.n);
	SP_TRY(sp_span_cstr(node, h->node, sizeof(h->node)));
	SP_TRY(sp_span_cstr(id, h->id, sizeof(h->id)));
	return sp_buf_put(&h->state, state.p, state.n);
}

void
sp_bk_header_fini(struct sp_bk_header *h)
{
	sp_buf_fini(&h->state);
}

static void
hash_head(uint8_t ad[static 32], struct sp_span head)
{
	crypto_generichash_state st;

	(void)crypto_generichash_init(&st, NULL, 0, 32);
	(void)crypto_generichash_update(&st, (const uint8_t *)SP_BK_MAGIC,
	    sizeof(SP_BK_MAGIC) - 1);
	(void)crypto_generichash_update(&st, head.p, head.n);
	(void)crypto_generichash_final(&st, ad, 32);
}

enum sp_err
sp_bk_read_header(int fd, struct sp_bk_header *h, uint8_t ad[static 32])
{
	SP_BUF_AUTO head = {.max = SP_BK_HEADER_MAX};
	uint8_t magic[sizeof(SP_BK_MAGIC) - 1], len[4], *at;
	struct sp_span l = sp_span_of(len, 4);
	uint32_t n = 0;
	enum sp_err e;

	*h = (struct sp_bk_header){.state = {.max = SP_BK_HEADER_MAX}};
	if (read_all(fd, magic, sizeof(magic)) != SP_OK ||
	    memcmp(magic, SP_BK_MAGIC, 9) != 0)
		return SP_ERR_SYNTAX;
	if (memcmp(magic, SP_BK_MAGIC, sizeof(magic)) != 0)
		return SP_ERR_UNSUPPORTED;
	if (read_all(fd, len, 4) != SP_OK || sp_get_u32(&l, &n) != SP_OK ||
	    n > SP_BK_HEADER_MAX || sp_buf_reserve(&head, n, &at) != SP_OK ||
	    read_all(fd, at, n) != SP_OK)
		return SP_ERR_SYNTAX;
	sp_buf_commit(&head, n);
	hash_head(ad, sp_buf_span(&head));
	e = get_header(h, sp_buf_span(&head));
	return e == SP_OK ? SP_OK : SP_ERR_SYNTAX;
}

/* ------------------------------------------------------------------- messages */

void
sp_bk_fini(struct sp_bk *b)
{
	sodium_memzero(b, sizeof(*b));
	b->fd = -1;
}

enum sp_err
sp_bk_begin(struct sp_bk *b, int fd, struct sp_bk_header *h,
    const uint8_t key[static SP_BK_KEY])
{
	SP_BUF_AUTO head = {.max = SP_BK_HEADER_MAX}, len = {.max = 4};

	*b = (struct sp_bk){.fd = fd};
	(void)crypto_generichash_init(&b->sum, NULL, 0, 32);
	if (crypto_secretstream_xchacha20poly1305_init_push(&b->st, h->stream,
	    key) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(put_header(h, &head));
	SP_TRY(sp_buf_put_u32(&len, (uint32_t)head.len));
	hash_head(b->ad, sp_buf_span(&head));
	SP_TRY(write_all(fd, sp_span_str(SP_BK_MAGIC)));
	SP_TRY(write_all(fd, sp_buf_span(&len)));
	return write_all(fd, sp_buf_span(&head));
}

enum sp_err
sp_bk_put(struct sp_bk *b, enum sp_bk_what what, struct sp_span body)
{
	static uint8_t clear[SP_BK_PIECE + 1], sealed[CIPHER_MAX];
	SP_BUF_AUTO len = {.max = 4};
	unsigned long long n = 0;
	unsigned char tag = what == SP_BK_DONE ?
	    crypto_secretstream_xchacha20poly1305_TAG_FINAL :
	    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;

	SP_ASSERT(body.n <= SP_BK_PIECE);
	clear[0] = (uint8_t)what;
	memcpy(clear + 1, body.p, body.n);
	if (crypto_secretstream_xchacha20poly1305_push(&b->st, sealed, &n, clear,
	    body.n + 1, b->ad, sizeof(b->ad), tag) != 0)
		return SP_ERR_CRYPTO;
	(void)crypto_generichash_update(&b->sum, clear, body.n + 1);
	sodium_memzero(clear, body.n + 1);
	if (what == SP_BK_DATA) {
		b->bytes += body.n;
		b->of_file += body.n;
	}
	SP_TRY(sp_buf_put_u32(&len, (uint32_t)n));
	SP_TRY(write_all(b->fd, sp_buf_span(&len)));
	return write_all(b->fd, sp_span_of(sealed, (size_t)n));
}

static enum sp_err
put_two(struct sp_bk *b, enum sp_bk_what what, uint64_t one, uint64_t two, bool both)
{
	SP_BUF_AUTO body = {.max = 16};

	SP_TRY(sp_buf_put_u64(&body, one));
	if (both)
		SP_TRY(sp_buf_put_u64(&body, two));
	return sp_bk_put(b, what, sp_buf_span(&body));
}

enum sp_err
sp_bk_put_file(struct sp_bk *b, const char *name, mode_t mode,
    struct sp_span content)
{
	SP_BUF_AUTO body = {.max = 512};

	b->of_file = 0;
	b->files++;
	SP_TRY(sp_buf_put_u32(&body, (uint32_t)mode));
	SP_TRY(sp_buf_put_bytes(&body, sp_span_str(name)));
	SP_TRY(sp_bk_put(b, SP_BK_FILE, sp_buf_span(&body)));
	while (content.n > 0) {
		size_t n = content.n < SP_BK_PIECE ? content.n : SP_BK_PIECE;

		SP_TRY(sp_bk_put(b, SP_BK_DATA, sp_span_of(content.p, n)));
		content.p += n;
		content.n -= n;
	}
	/* Without content the caller puts it, and the end. */
	return content.p == NULL ? SP_OK :
	    put_two(b, SP_BK_END, b->of_file, 0, false);
}

enum sp_err
sp_bk_done(struct sp_bk *b)
{
	return put_two(b, SP_BK_DONE, b->files, b->bytes, true);
}

enum sp_err
sp_bk_open(struct sp_bk *b, int fd, const struct sp_bk_header *h,
    const uint8_t ad[static 32], const uint8_t key[static SP_BK_KEY])
{
	*b = (struct sp_bk){.fd = fd};
	memcpy(b->ad, ad, 32);
	(void)crypto_generichash_init(&b->sum, NULL, 0, 32);
	return crypto_secretstream_xchacha20poly1305_init_pull(&b->st, h->stream,
	    key) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

/* The counts that the writer put must be those of the reader. */
static enum sp_err
counted(struct sp_bk *b, enum sp_bk_what what, struct sp_span s)
{
	uint64_t one = 0, two = 0;

	switch (what) {
	case SP_BK_FILE:
		b->files++;
		b->of_file = 0;
		return SP_OK;
	case SP_BK_DATA:
		b->bytes += s.n;
		b->of_file += s.n;
		return SP_OK;
	case SP_BK_END:
		SP_TRY(sp_get_u64(&s, &one));
		return one == b->of_file ? SP_OK : SP_ERR_CRYPTO;
	case SP_BK_DONE:
		SP_TRY(sp_get_u64(&s, &one));
		SP_TRY(sp_get_u64(&s, &two));
		return one == b->files && two == b->bytes ? SP_OK : SP_ERR_CRYPTO;
	}
	return SP_ERR_CRYPTO;
}

enum sp_err
sp_bk_get(struct sp_bk *b, uint8_t buf[static SP_BK_PIECE + 1],
    enum sp_bk_what *what, struct sp_span *body)
{
	static uint8_t sealed[CIPHER_MAX];
	uint8_t len[4], tag = 0, more;
	struct sp_span l = sp_span_of(len, 4);
	unsigned long long got = 0;
	uint32_t n = 0;
	enum sp_err e;

	if (b->is_over)
		return SP_ERR_EOF;
	e = read_all(b->fd, len, 4);
	if (e != SP_OK)
		return e == SP_ERR_IO ? e : SP_ERR_CRYPTO;
	if (sp_get_u32(&l, &n) != SP_OK || n > CIPHER_MAX ||
	    n <= crypto_secretstream_xchacha20poly1305_ABYTES ||
	    read_all(b->fd, sealed, n) != SP_OK ||
	    crypto_secretstream_xchacha20poly1305_pull(&b->st, buf, &got, &tag,
	    sealed, n, b->ad, sizeof(b->ad)) != 0 || got < 1 || buf[0] < SP_BK_FILE ||
	    buf[0] > SP_BK_DONE)
		return SP_ERR_CRYPTO;
	*what = (enum sp_bk_what)buf[0];
	*body = sp_span_of(buf + 1, (size_t)got - 1);
	(void)crypto_generichash_update(&b->sum, buf, (size_t)got);
	b->is_over = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
	if (b->is_over != (*what == SP_BK_DONE) ||
	    (b->is_over && read_all(b->fd, &more, 1) != SP_ERR_EOF))
		return SP_ERR_CRYPTO;
	return counted(b, *what, *body);
}

/* ----------------------------------------------------------------- passphrase */

static enum sp_err
stretch(const struct sp_bk_header *h, struct sp_span pass, uint8_t k[static 32])
{
	if (h->ops < 1 || h->ops > 16 || h->mem < (8u << 20) || h->mem > (1u << 30))
		return SP_ERR_SYNTAX;
	return crypto_pwhash(k, 32, (const char *)pass.p, pass.n, h->salt,
	    (unsigned long long)h->ops, (size_t)h->mem,
	    crypto_pwhash_ALG_ARGON2ID13) == 0 ? SP_OK : SP_ERR_NOMEM;
}

enum sp_err
sp_bk_by_pass(struct sp_bk_header *h, struct sp_span pass,
    const uint8_t key[static SP_BK_KEY])
{
	uint8_t k[32];

	h->has_pass = true;
	h->ops = 3;
	h->mem = 256u << 20;
	randombytes_buf(h->salt, sizeof(h->salt));
	randombytes_buf(h->by_pass, crypto_secretbox_NONCEBYTES);
	SP_TRY(stretch(h, pass, k));
	(void)crypto_secretbox_easy(h->by_pass + crypto_secretbox_NONCEBYTES, key,
	    SP_BK_KEY, h->by_pass, k);
	sodium_memzero(k, sizeof(k));
	return SP_OK;
}

enum sp_err
sp_bk_from_pass(const struct sp_bk_header *h, struct sp_span pass,
    uint8_t key[static SP_BK_KEY])
{
	uint8_t k[32];
	int rc;

	SP_TRY(stretch(h, pass, k));
	rc = crypto_secretbox_open_easy(key, h->by_pass + crypto_secretbox_NONCEBYTES,
	    SP_BK_KEY + crypto_secretbox_MACBYTES, h->by_pass, k);
	sodium_memzero(k, sizeof(k));
	return rc == 0 ? SP_OK : SP_ERR_DENIED;
}
