/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vault/poison.h"

#define FORMAT 1
static const uint8_t magic[8] = "SPVAULT";

enum sp_err
sp_state_body(const struct sp_state *s, struct sp_buf *b)
{
	SP_TRY(sp_buf_put(b, magic, sizeof(magic)));
	SP_TRY(sp_buf_put_u32(b, FORMAT));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)s->n_slots));
	for (size_t i = 0; i < s->n_slots; i++) {
		const struct sp_slot *t = &s->slots[i];

		SP_TRY(sp_buf_put_u8(b, t->type));
		SP_TRY(sp_buf_put_u64(b, t->ops));
		SP_TRY(sp_buf_put_u64(b, t->mem_bytes));
		SP_TRY(sp_buf_put(b, t->salt, sizeof(t->salt)));
		SP_TRY(sp_buf_put(b, t->wrapped, sizeof(t->wrapped)));
	}
	SP_TRY(sp_buf_put_u8(b, (uint8_t)s->n_keks));
	for (size_t i = 0; i < s->n_keks; i++) {
		SP_TRY(sp_buf_put_u8(b, s->keks[i].purpose));
		SP_TRY(sp_buf_put_u32(b, s->keks[i].epoch));
		SP_TRY(sp_buf_put(b, s->keks[i].wrapped, SP_WRAPPED_KEY));
	}
	SP_TRY(sp_buf_put(b, s->audit_pk, 32));
	SP_TRY(sp_buf_put(b, s->rec_pk, 32));
	SP_TRY(sp_buf_put(b, s->ca_pk, 32));
	SP_TRY(sp_buf_put(b, s->audit_sk, SP_WRAPPED_KEY));
	SP_TRY(sp_buf_put(b, s->rec_sk, SP_WRAPPED_KEY));
	return sp_buf_put(b, s->ca_sk, SP_WRAPPED_KEY);
}

static enum sp_err
checksum(struct sp_span all, uint8_t sum[static 32])
{
	return crypto_generichash(sum, 32, all.p, all.n, NULL, 0) == 0 ? SP_OK :
	    SP_ERR_CRYPTO;
}

enum sp_err
sp_state_encode(const struct sp_state *s, struct sp_buf *b)
{
	uint8_t sum[32];

	SP_ASSERT(b->len == 0);
	SP_TRY(sp_state_body(s, b));
	SP_TRY(sp_buf_put(b, s->mac, sizeof(s->mac)));
	SP_TRY(checksum(sp_buf_span(b), sum));
	return sp_buf_put(b, sum, sizeof(sum));
}

static enum sp_err
take(struct sp_span *f, uint8_t *dst, size_t n)
{
	const uint8_t *p;

	SP_TRY(sp_get(f, n, &p));
	memcpy(dst, p, n);
	return SP_OK;
}

static enum sp_err
take_slots(struct sp_span *f, struct sp_state *s)
{
	uint8_t n;

	SP_TRY(sp_get_u8(f, &n));
	if (n == 0 || n > SP_SLOTS_MAX)
		return SP_ERR_PROTO;
	for (s->n_slots = 0; s->n_slots < n; s->n_slots++) {
		struct sp_slot *t = &s->slots[s->n_slots];

		SP_TRY(sp_get_u8(f, &t->type));
		SP_TRY(sp_get_u64(f, &t->ops));
		SP_TRY(sp_get_u64(f, &t->mem_bytes));
		SP_TRY(take(f, t->salt, sizeof(t->salt)));
		SP_TRY(take(f, t->wrapped, sizeof(t->wrapped)));
		if (!sp_slot_is_sane(t))
			return SP_ERR_PROTO;
	}
	return SP_OK;
}

static enum sp_err
take_keks(struct sp_span *f, struct sp_state *s)
{
	unsigned seen = 0;
	uint8_t n;

	SP_TRY(sp_get_u8(f, &n));
	if (n > SP_KEKS_MAX)
		return SP_ERR_PROTO;
	for (s->n_keks = 0; s->n_keks < n; s->n_keks++) {
		struct sp_kek_row *k = &s->keks[s->n_keks];

		SP_TRY(sp_get_u8(f, &k->purpose));
		SP_TRY(sp_get_u32(f, &k->epoch));
		SP_TRY(take(f, k->wrapped, sizeof(k->wrapped)));
		if (k->purpose == 0 || k->purpose > SP_KEK_LAST_ || k->epoch == 0)
			return SP_ERR_PROTO;
		for (size_t i = 0; i < s->n_keks; i++)
			if (s->keks[i].purpose == k->purpose &&
			    s->keks[i].epoch == k->epoch)
				return SP_ERR_PROTO;
		seen |= 1U << k->purpose;
	}
	return seen == (1U << (SP_KEK_LAST_ + 1)) - 2 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
take_rest(struct sp_span *f, struct sp_state *s)
{
	SP_TRY(take(f, s->audit_pk, 32));
	SP_TRY(take(f, s->rec_pk, 32));
	SP_TRY(take(f, s->ca_pk, 32));
	SP_TRY(take(f, s->audit_sk, SP_WRAPPED_KEY));
	SP_TRY(take(f, s->rec_sk, SP_WRAPPED_KEY));
	SP_TRY(take(f, s->ca_sk, SP_WRAPPED_KEY));
	SP_TRY(take(f, s->mac, 32));
	return f->n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_state_decode(struct sp_span file, struct sp_state *out)
{
	struct sp_state s = {0};
	uint8_t sum[32];
	const uint8_t *p;
	uint32_t format;

	if (file.n > SP_STATE_MAX)
		return SP_ERR_TOOBIG;
	if (file.n < sizeof(magic) + 4 + sizeof(sum) ||
	    !sp_span_eq(sp_span_of(file.p, sizeof(magic)),
	    sp_span_of(magic, sizeof(magic))))
		return SP_ERR_PROTO;
	file.n -= sizeof(sum);
	SP_TRY(checksum(file, sum));
	if (!sp_span_eq(sp_span_of(file.p + file.n, sizeof(sum)),
	    sp_span_of(sum, sizeof(sum))))
		return SP_ERR_CRYPTO;
	SP_TRY(sp_get(&file, sizeof(magic), &p));
	SP_TRY(sp_get_u32(&file, &format));
	if (format != FORMAT)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(take_slots(&file, &s));
	SP_TRY(take_keks(&file, &s));
	SP_TRY(take_rest(&file, &s));
	*out = s;
	return SP_OK;
}

/* ------------------------------------------------------------------ files */

static enum sp_err
read_all(int fd, struct sp_buf *out)
{
	for (;;) {
		uint8_t *at;
		ssize_t n;

		SP_TRY(sp_buf_reserve(out, 512, &at));
		n = read(fd, at, 512);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return SP_ERR_IO;
		if (n == 0)
			return SP_OK;
		sp_buf_commit(out, (size_t)n);
	}
}

enum sp_err
sp_file_read(int dirfd, const char *name, bool with_secrets,
    struct sp_buf *out)
{
	enum sp_err e = SP_ERR_DENIED;
	struct stat st;
	int fd;

	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_IO;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (!with_secrets || (st.st_mode & 077) == 0))
		e = read_all(fd, out);
	close(fd);
	return e;
}

enum sp_err
sp_state_load(int dirfd, struct sp_state *s)
{
	SP_BUF_AUTO b = {.max = SP_STATE_MAX + 1024};

	SP_TRY(sp_file_read(dirfd, SP_STATE_FILE, false, &b));
	return sp_state_decode(sp_buf_span(&b), s);
}

static enum sp_err
fill(int fd, struct sp_span s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return errno == ENOSPC || errno == EDQUOT ? SP_ERR_FULL :
			    SP_ERR_IO;
		s = sp_span_of(s.p + n, s.n - (size_t)n);
	}
	return fsync(fd) == 0 ? SP_OK : SP_ERR_IO;
}

/* `init` may run as root for the vault's own user: the file belongs to whom
 * the directory belongs. */
static enum sp_err
give(int dirfd, int fd)
{
	struct stat st;

	if (fstat(dirfd, &st) != 0)
		return SP_ERR_IO;
	if (st.st_uid != geteuid() && fchown(fd, st.st_uid, st.st_gid) != 0)
		return SP_ERR_IO;
	return SP_OK;
}

enum sp_err
sp_file_write(int dirfd, const char *name, struct sp_span bytes, bool replace)
{
	char tmp[64];
	enum sp_err e;
	int fd, rc;

	SP_ASSERT((size_t)snprintf(tmp, sizeof(tmp), ".%s.new", name) < sizeof(tmp));
	/* What a crash left under the temporary name is in nobody's use. */
	if (unlinkat(dirfd, tmp, 0) != 0 && errno != ENOENT)
		return SP_ERR_IO;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (fd < 0)
		return SP_ERR_IO;
	e = fill(fd, bytes);
	if (e == SP_OK)
		e = give(dirfd, fd);
	close(fd);
	if (e == SP_OK) {
		rc = replace ? renameat(dirfd, tmp, dirfd, name) :
		    renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE);
		if (rc != 0)
			e = errno == EEXIST ? SP_ERR_EXISTS : SP_ERR_IO;
	}
	if (e != SP_OK) {
		unlinkat(dirfd, tmp, 0);
		return e;
	}
	return fsync(dirfd) == 0 ? SP_OK : SP_ERR_IO;
}
