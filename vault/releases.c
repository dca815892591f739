/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "vault/release_int.h"
#include "vault/poison.h"

#define LABEL "sallyport release v1"
#define BODY 56
#define RECORD (BODY + 64)
#define FILE_MAX (SP_RELEASES_MAX * 16U * RECORD)
#define USES_MAX 4096

struct last {
	uint8_t secret[16], digest[32];
};
struct use {
	uint8_t nonce[16];
	int64_t first_us, until_us;
};
struct sp_releases {
	int fd;
	bool is_broken;
	uint64_t n_records;
	struct sp_buf file;	/* from load to the first open */
	size_t n_last, n_uses;
	struct last last[SP_RELEASES_MAX];
	struct use use[USES_MAX];
};

struct sp_releases *
sp_releases_new(void)
{
	struct sp_releases *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->fd = -1;
		sp_buf_init(&t->file, FILE_MAX);
	}
	return t;
}

void
sp_releases_free(struct sp_releases *t)
{
	if (t == NULL)
		return;
	if (t->fd >= 0)
		close(t->fd);
	sp_buf_fini(&t->file);
	free(t);
}

void
sp_releases_load(struct sp_releases *t, int dirfd)
{
	uint8_t *at;
	ssize_t n = 1;

	t->fd = openat(dirfd, SP_RELEASES_FILE, O_RDWR | O_CREAT | O_NOFOLLOW |
	    O_CLOEXEC | O_NOCTTY, 0600);
	t->is_broken = t->fd < 0;
	while (!t->is_broken && n > 0) {
		if (sp_buf_reserve(&t->file, 4096, &at) != SP_OK ||
		    (n = read(t->fd, at, 4096)) < 0)
			t->is_broken = true;
		else
			sp_buf_commit(&t->file, (size_t)n);
	}
	if (t->is_broken)
		sp_log(SP_ERROR, "releases_unreadable", NULL, "errno=%d", errno);
}

/* ------------------------------------------------------------------ records */

static enum sp_err
record_body(struct sp_buf *b, const uint8_t *secret, const uint8_t *digest,
    uint64_t count)
{
	SP_TRY(sp_buf_put(b, secret, 16));
	SP_TRY(sp_buf_put(b, digest, 32));
	return sp_buf_put_u64(b, count);
}

static enum sp_err
signed_bytes(struct sp_buf *b, struct sp_span body)
{
	SP_TRY(sp_buf_put(b, LABEL, sizeof(LABEL)));	/* with its NUL */
	return sp_buf_put(b, body.p, body.n);
}

static struct last *
find(const struct sp_releases *t, const uint8_t secret[static 16])
{
	for (size_t i = 0; i < t->n_last; i++)
		if (sodium_memcmp(t->last[i].secret, secret, 16) == 0)
			return (struct last *)(uintptr_t)&t->last[i];
	return NULL;
}

static enum sp_err
learn(struct sp_releases *t, const uint8_t *secret, const uint8_t *digest)
{
	struct last *l = find(t, secret);

	if (l == NULL && t->n_last == SP_RELEASES_MAX)
		return SP_ERR_FULL;
	if (l == NULL) {
		l = &t->last[t->n_last++];
		memcpy(l->secret, secret, 16);
	}
	memcpy(l->digest, digest, 32);
	return SP_OK;
}

static enum sp_err
take_record(struct sp_releases *t, const struct sp_root *r, const uint8_t *p)
{
	SP_BUF_AUTO b = {.max = 128};
	struct sp_span count = sp_span_of(p + 48, 8);
	uint64_t n;

	SP_TRY(sp_get_u64(&count, &n));
	SP_TRY(signed_bytes(&b, sp_span_of(p, BODY)));
	if (n != t->n_records + 1 || crypto_sign_verify_detached(p + BODY,
	    sp_buf_span(&b).p, b.len, r->audit_pk) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(learn(t, p, p + 16));
	t->n_records++;
	return SP_OK;
}

/* A record that was not written whole was not answered either: the next one
 * takes its place. Whoever can cut this file is root, or the vault. */
enum sp_err
sp_releases_open(struct sp_releases *t, const struct sp_root *r)
{
	struct sp_span f = sp_buf_span(&t->file);

	if (t->is_broken)
		return SP_ERR_IO;
	t->n_last = 0;
	t->n_records = 0;
	for (size_t i = 0; i + RECORD <= f.n; i += RECORD)
		if (take_record(t, r, f.p + i) != SP_OK) {
			t->is_broken = true;
			return SP_ERR_CRYPTO;
		}
	return SP_OK;
}

bool
sp_releases_is_last(const struct sp_releases *t,
    const uint8_t secret[static 16], const uint8_t digest[static 32])
{
	const struct last *l;

	if (t == NULL)
		return true;
	if (t->is_broken)
		return false;
	l = find(t, secret);
	return l == NULL || sodium_memcmp(l->digest, digest, 32) == 0;
}

bool
sp_releases_last(const struct sp_releases *t,
    const uint8_t secret[static 16], uint8_t digest[static 32])
{
	const struct last *l = t == NULL || t->is_broken ? NULL :
	    find(t, secret);

	if (l != NULL)
		memcpy(digest, l->digest, 32);
	return l != NULL;
}

static enum sp_err
append(struct sp_releases *t, struct sp_span rec)
{
	off_t at = (off_t)(t->n_records * RECORD);
	ssize_t n;

	do
		n = pwrite(t->fd, rec.p, rec.n, at);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)rec.n && fdatasync(t->fd) == 0 ? SP_OK : SP_ERR_IO;
}

enum sp_err
sp_releases_set(struct sp_releases *t, const struct sp_root *r,
    const uint8_t secret[static 16], const uint8_t digest[static 32])
{
	SP_BUF_AUTO rec = {.max = RECORD}, what = {.max = 128};
	uint8_t sig[64];

	if (t->is_broken || t->fd < 0)
		return SP_ERR_IO;
	if ((find(t, secret) == NULL && t->n_last == SP_RELEASES_MAX) ||
	    (t->n_records + 1) * RECORD > FILE_MAX)
		return SP_ERR_FULL;
	SP_TRY(record_body(&rec, secret, digest, t->n_records + 1));
	SP_TRY(signed_bytes(&what, sp_buf_span(&rec)));
	SP_TRY(sp_root_sign(r, sp_buf_span(&what), sig));
	SP_TRY(sp_buf_put(&rec, sig, sizeof(sig)));
	SP_TRY(append(t, sp_buf_span(&rec)));
	/* What the next unseal reads. */
	t->file.len = (size_t)(t->n_records * RECORD);
	SP_TRY(sp_buf_put(&t->file, sp_buf_span(&rec).p, rec.len));
	t->n_records++;
	return learn(t, secret, digest);
}

/* ------------------------------------------------------------------ windows */

static void
forget_old(struct sp_releases *t, int64_t now_us)
{
	size_t keep = 0;

	for (size_t i = 0; i < t->n_uses; i++)
		if (t->use[i].until_us > now_us)
			t->use[keep++] = t->use[i];
	t->n_uses = keep;
}

enum sp_err
sp_releases_use(struct sp_releases *t, const struct sp_challenge *c,
    int64_t now_us, int64_t *end_us)
{
	int64_t first = now_us;

	if (t != NULL) {
		size_t i = 0;

		forget_old(t, now_us);
		while (i < t->n_uses &&
		    sodium_memcmp(t->use[i].nonce, c->nonce, 16) != 0)
			i++;
		if (i == USES_MAX)
			return SP_ERR_FULL;
		if (i == t->n_uses) {
			memcpy(t->use[i].nonce, c->nonce, 16);
			t->use[i].first_us = now_us;
			t->use[i].until_us = c->until_us;
			t->n_uses++;
		} else if (c->kind == SP_CHALLENGE_REVEAL) {
			return SP_ERR_EXISTS;
		}
		first = t->use[i].first_us;
	}
	*end_us = first + c->seconds * 1000000;
	if (*end_us > c->until_us)
		*end_us = c->until_us;
	return SP_OK;
}

/* ------------------------------------------------------------------- digest */

void
sp_rule_digest(struct sp_span rule, uint8_t digest[static 32])
{
	static const char label[] = "sallyport release rule v1";
	crypto_generichash_state st;

	memset(digest, 0, 32);
	if (rule.n == 0)
		return;
	if (crypto_generichash_init(&st, NULL, 0, 32) != 0 ||
	    crypto_generichash_update(&st, (const uint8_t *)label,
	    sizeof(label)) != 0 ||
	    crypto_generichash_update(&st, rule.p, rule.n) != 0 ||
	    crypto_generichash_final(&st, digest, 32) != 0)
		SP_ASSERT(false);	/* it has no way to fail */
}
