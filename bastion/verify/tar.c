/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/verify/tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_OCTAL ((UINT64_C(1) << 33) - 1)

static void
octal(uint8_t *at, size_t digits, uint64_t v)
{
	for (size_t i = digits; i > 0; i--, v >>= 3)
		at[i - 1] = (uint8_t)('0' + (v & 7));
}

/* More than 8 GiB: base 256, as GNU and pax readers take it. */
static void
put_size(uint8_t *at, uint64_t v)
{
	if (v <= SIZE_MAX_OCTAL) {
		octal(at, 11, v);
		return;
	}
	at[0] = 0x80;
	for (size_t i = 12; i > 4; i--, v >>= 8)
		at[i - 1] = (uint8_t)v;
}

static uint64_t
get_size(const uint8_t *at)
{
	uint64_t v = 0;

	if (at[0] == 0x80) {
		for (size_t i = 4; i < 12; i++)
			v = v << 8 | at[i];
		return v;
	}
	for (size_t i = 0; i < 11; i++)
		v = v << 3 | (uint64_t)(at[i] & 7);
	return v;
}

void
tar_header(uint8_t b[static TAR_BLOCK], const char *name, uint64_t size)
{
	uint64_t sum = 0;
	size_t n = strlen(name);

	memset(b, 0, TAR_BLOCK);
	memcpy(b, name, n < TAR_NAME_MAX ? n : TAR_NAME_MAX);
	octal(b + 100, 7, 0444);
	octal(b + 108, 7, 0);
	octal(b + 116, 7, 0);
	put_size(b + 124, size);
	octal(b + 136, 11, 0);
	memset(b + 148, ' ', 8);
	b[156] = '0';
	memcpy(b + 257, "ustar\0" "00", 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += b[i];
	octal(b + 148, 6, sum);
	b[154] = 0;
}

static enum sp_err
put(int fd, struct sp_span s)
{
	while (s.n > 0) {
		ssize_t k = write(fd, s.p, s.n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return SP_ERR_IO;
		s = sp_span_of(s.p + k, s.n - (size_t)k);
	}
	return SP_OK;
}

static enum sp_err
pad(int fd, uint64_t size)
{
	static const uint8_t zeros[TAR_BLOCK];

	return put(fd, sp_span_of(zeros, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK));
}

enum sp_err
tar_put(int fd, const char *name, struct sp_span content)
{
	uint8_t b[TAR_BLOCK];

	tar_header(b, name, content.n);
	SP_TRY(put(fd, sp_span_of(b, sizeof(b))));
	SP_TRY(put(fd, content));
	return pad(fd, content.n);
}

enum sp_err
tar_put_file(int fd, const char *name, int from, uint64_t size)
{
	static uint8_t piece[1u << 16];
	uint64_t off = 0;

	tar_header(piece, name, size);
	SP_TRY(put(fd, sp_span_of(piece, TAR_BLOCK)));
	while (off < size) {
		size_t want = size - off < sizeof(piece) ? (size_t)(size - off) :
		    sizeof(piece);
		ssize_t k = pread(from, piece, want, (off_t)off);

		if (k <= 0)
			return k == 0 ? SP_ERR_EOF : SP_ERR_IO;
		SP_TRY(put(fd, sp_span_of(piece, (size_t)k)));
		off += (uint64_t)k;
	}
	return pad(fd, size);
}

enum sp_err
tar_end(int fd)
{
	static const uint8_t zeros[2 * TAR_BLOCK];

	return put(fd, sp_span_of(zeros, sizeof(zeros)));
}

/* ------------------------------------------------------------------ reading */

static bool
is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* A member's header, made anew, must be the one that stands there. */
static enum sp_err
member(const uint8_t b[static TAR_BLOCK], uint64_t off, uint64_t all,
    struct tar_member *m)
{
	uint8_t again[TAR_BLOCK];

	memcpy(m->name, b, TAR_NAME_MAX);
	m->name[TAR_NAME_MAX] = '\0';
	m->size = get_size(b + 124);
	m->off = off + TAR_BLOCK;
	tar_header(again, m->name, m->size);
	if (memcmp(again, b, TAR_BLOCK) != 0)
		return SP_ERR_PROTO;
	return m->size <= all && m->off <= all - m->size ? SP_OK : SP_ERR_EOF;
}

static enum sp_err
padding(int fd, const struct tar_member *m, uint64_t *off)
{
	size_t n = (size_t)((TAR_BLOCK - m->size % TAR_BLOCK) % TAR_BLOCK);
	uint8_t b[TAR_BLOCK];

	*off = m->off + m->size + n;
	if (n > 0 && pread(fd, b, n, (off_t)(m->off + m->size)) != (ssize_t)n)
		return SP_ERR_EOF;
	return is_zero(b, n) ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
tar_list(int fd, struct tar_member *m, size_t max, size_t *n)
{
	uint8_t b[2 * TAR_BLOCK];
	uint64_t off = 0, all;
	struct stat st;

	*n = 0;
	if (fstat(fd, &st) != 0 || st.st_size < 0)
		return SP_ERR_IO;
	all = (uint64_t)st.st_size;
	for (;;) {
		if (pread(fd, b, TAR_BLOCK, (off_t)off) != TAR_BLOCK)
			return SP_ERR_EOF;
		if (is_zero(b, TAR_BLOCK))
			break;
		if (*n == max)
			return SP_ERR_TOOBIG;
		SP_TRY(member(b, off, all, &m[*n]));
		SP_TRY(padding(fd, &m[(*n)++], &off));
	}
	if (pread(fd, b, sizeof(b), (off_t)off) != (ssize_t)sizeof(b))
		return SP_ERR_EOF;
	return is_zero(b, sizeof(b)) && off + sizeof(b) == all ? SP_OK :
	    SP_ERR_PROTO;
}
