/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vault/poison.h"

static const uint8_t magic[8] = "SPVAULT";

static enum sp_err
put_slot(const struct sp_slot *t, uint32_t format, struct sp_buf *b)
{
	if (format > 1) {
		SP_TRY(sp_buf_put_u8(b, t->id));
		SP_TRY(sp_buf_put_u8(b, t->type));
		SP_TRY(sp_buf_put_u8(b, t->is_pending));
		SP_TRY(sp_buf_put_u64(b, (uint64_t)t->made_us));
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(t->label)));
	} else {
		SP_TRY(sp_buf_put_u8(b, t->type));
	}
	SP_TRY(sp_buf_put_u64(b, t->ops));
	SP_TRY(sp_buf_put_u64(b, t->mem_bytes));
	SP_TRY(sp_buf_put(b, t->salt, sizeof(t->salt)));
	SP_TRY(sp_buf_put(b, t->wrapped, sizeof(t->wrapped)));
	return format == 1 ? SP_OK :
	    sp_buf_put_bytes(b, sp_span_of(t->extra, t->extra_n));
}

static enum sp_err
put_host(const struct sp_state *s, struct sp_buf *b)
{
	SP_TRY(sp_buf_put_u8(b, s->has_host));
	if (!s->has_host)
		return SP_OK;
	SP_TRY(sp_buf_put(b, s->host_pk, 32));
	return sp_buf_put(b, s->host_sk, SP_WRAPPED_KEY);
}

enum sp_err
sp_state_body(const struct sp_state *s, struct sp_buf *b)
{
	SP_ASSERT(s->format > 0 && s->format <= SP_STATE_FORMAT);
	SP_TRY(sp_buf_put(b, magic, sizeof(magic)));
	SP_TRY(sp_buf_put_u32(b, s->format));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)s->n_slots));
	for (size_t i = 0; i < s->n_slots; i++)
		SP_TRY(put_slot(&s->slots[i], s->format, b));
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
	SP_TRY(sp_buf_put(b, s->ca_sk, SP_WRAPPED_KEY));
	return s->format < 3 ? SP_OK : put_host(s, b);
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
take_head(struct sp_span *f, struct sp_slot *t)
{
	struct sp_span label;
	uint8_t pending;
	uint64_t made;

	SP_TRY(sp_get_u8(f, &t->id));
	SP_TRY(sp_get_u8(f, &t->type));
	SP_TRY(sp_get_u8(f, &pending));
	SP_TRY(sp_get_u64(f, &made));
	SP_TRY(sp_get_str(f, SP_NAME_MAX, &label));
	if (t->id == 0 || pending > 1)
		return SP_ERR_PROTO;
	t->is_pending = pending == 1;
	t->made_us = (int64_t)made;
	return sp_span_cstr(label, t->label, sizeof(t->label));
}

static enum sp_err
take_slot(struct sp_span *f, uint32_t format, struct sp_slot *t)
{
	struct sp_span extra = {0};

	if (format > 1)
		SP_TRY(take_head(f, t));
	else
		SP_TRY(sp_get_u8(f, &t->type));
	SP_TRY(sp_get_u64(f, &t->ops));
	SP_TRY(sp_get_u64(f, &t->mem_bytes));
	SP_TRY(take(f, t->salt, sizeof(t->salt)));
	SP_TRY(take(f, t->wrapped, sizeof(t->wrapped)));
	if (format > 1)
		SP_TRY(sp_get_bytes(f, SP_SLOT_EXTRA_MAX, &extra));
	else if (t->type > SP_SLOT_DEMO)
		return SP_ERR_PROTO;	/* format 1 knew two */
	t->extra_n = (uint16_t)extra.n;
	if (extra.n > 0)
		memcpy(t->extra, extra.p, extra.n);
	return sp_slot_is_sane(t) ? SP_OK : SP_ERR_PROTO;
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

		SP_TRY(take_slot(f, s->format, t));
		if (s->format == 1)
			t->id = (uint8_t)(s->n_slots + 1);
		for (size_t i = 0; i < s->n_slots; i++)
			if (s->slots[i].id == t->id)
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
take_host(struct sp_span *f, struct sp_state *s)
{
	uint8_t has;

	SP_TRY(sp_get_u8(f, &has));
	if (has > 1)
		return SP_ERR_PROTO;
	s->has_host = has == 1;
	if (!s->has_host)
		return SP_OK;
	SP_TRY(take(f, s->host_pk, 32));
	return take(f, s->host_sk, SP_WRAPPED_KEY);
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
	if (s->format > 2)
		SP_TRY(take_host(f, s));
	SP_TRY(take(f, s->mac, 32));
	return f->n == 0 ? SP_OK : SP_ERR_PROTO;
}

/* Past the checksum: what it says. */
static enum sp_err
take_all(struct sp_span file, struct sp_state *s)
{
	const uint8_t *p;

	SP_TRY(sp_get(&file, sizeof(magic), &p));
	SP_TRY(sp_get_u32(&file, &s->format));
	if (s->format == 0 || s->format > SP_STATE_FORMAT)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(take_slots(&file, s));
	SP_TRY(take_keks(&file, s));
	return take_rest(&file, s);
}

enum sp_err
sp_state_decode(struct sp_span file, struct sp_state *out)
{
	struct sp_state *s;
	uint8_t sum[32];
	enum sp_err e;

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
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return SP_ERR_NOMEM;
	e = take_all(file, s);
	if (e == SP_OK)
		*out = *s;
	free(s);
	return e;
}

struct sp_slot *
sp_state_slot(struct sp_state *s, uint8_t id)
{
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].id == id)
			return &s->slots[i];
	return NULL;
}

enum sp_err
sp_state_add_slot(struct sp_state *s, const struct sp_slot *t)
{
	unsigned id = 0;

	if (s->n_slots == SP_SLOTS_MAX)
		return SP_ERR_FULL;
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].id > id)
			id = s->slots[i].id;
	/* The number of a slot that was just removed is not used again: who
	 * reads the audit log is not to be misled. At 255 the gaps are. */
	if (++id > UINT8_MAX)
		for (id = 1; sp_state_slot(s, (uint8_t)id) != NULL;)
			id++;
	s->slots[s->n_slots] = *t;
	s->slots[s->n_slots++].id = (uint8_t)id;
	s->format = SP_STATE_FORMAT;
	return SP_OK;
}

void
sp_state_remove_slot(struct sp_state *s, uint8_t id)
{
	struct sp_slot *t = sp_state_slot(s, id);

	if (t == NULL)
		return;
	memmove(t, t + 1, (size_t)(&s->slots[s->n_slots] - (t + 1)) * sizeof(*t));
	s->slots[--s->n_slots] = (struct sp_slot){0};
	s->format = SP_STATE_FORMAT;
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
	struct stat st, own;

	if (fstat(dirfd, &st) != 0 || fstat(fd, &own) != 0)
		return SP_ERR_IO;
	if (st.st_uid != own.st_uid && fchown(fd, st.st_uid, st.st_gid) != 0)
		return SP_ERR_IO;
	return SP_OK;
}

/* What a crash left under the temporary name is in nobody's use: written over
 * by the vault, which has no call to remove a file; at the first start, where
 * root may write for the vault's user, never trusted. */
static int
open_new(int dirfd, const char *tmp, bool replace)
{
	struct stat st;
	int fd;

	if (!replace && unlinkat(dirfd, tmp, 0) != 0 && errno != ENOENT)
		return -1;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | (replace ? 0 : O_EXCL) |
	    O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    st.st_nlink != 1 || ftruncate(fd, 0) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

enum sp_err
sp_file_write(int dirfd, const char *name, struct sp_span bytes, bool replace)
{
	char tmp[64];
	enum sp_err e;
	int fd, rc;

	SP_ASSERT((size_t)snprintf(tmp, sizeof(tmp), ".%s.new", name) < sizeof(tmp));
	if ((fd = open_new(dirfd, tmp, replace)) < 0)
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
		if (!replace)
			unlinkat(dirfd, tmp, 0);
		return e;
	}
	return fsync(dirfd) == 0 ? SP_OK : SP_ERR_IO;
}
