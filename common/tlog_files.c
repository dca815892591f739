/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/tlog.h"

void
sp_tlog_path(char path[static SP_TLOG_PATH_MAX], int level, uint64_t n,
    unsigned width)
{
	char number[64] = "", part[8];
	size_t at;

	snprintf(number, sizeof(number), "%03u", (unsigned)(n % 1000));
	for (n /= 1000; n > 0; n /= 1000) {
		snprintf(part, sizeof(part), "x%03u/", (unsigned)(n % 1000));
		at = strlen(number);
		memmove(number + 5, number, at + 1);
		memcpy(number, part, 5);
	}
	if (level < 0)
		snprintf(path, SP_TLOG_PATH_MAX, "tile/entries/%s", number);
	else
		snprintf(path, SP_TLOG_PATH_MAX, "tile/%d/%s", level, number);
	at = strlen(path);
	if (width != 0 && width != SP_TLOG_TILE)
		snprintf(path + at, SP_TLOG_PATH_MAX - at, ".p/%u", width);
}

enum sp_err
sp_tlog_read(int fd, const char *path, size_t max, struct sp_buf *out)
{
	int f = openat(fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	enum sp_err e = SP_OK;
	size_t got = 0;
	uint8_t *at;
	ssize_t k;

	if (f < 0)
		return errno == ENOENT || errno == ENOTDIR ? SP_ERR_NOTFOUND :
		    SP_ERR_IO;
	while ((e = sp_buf_reserve(out, 8192, &at)) == SP_OK) {
		k = read(f, at, 8192);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			e = k < 0 ? SP_ERR_IO : SP_OK;
			break;
		}
		got += (size_t)k;
		if (got > max) {
			e = SP_ERR_TOOBIG;
			break;
		}
		sp_buf_commit(out, (size_t)k);
	}
	close(f);
	return e;
}

/* How many there are of something that has `all`, in piece n of 256. */
static unsigned
width_of(uint64_t all, uint64_t n)
{
	if (n > all / SP_TLOG_TILE)
		return 0;
	all -= n * SP_TLOG_TILE;
	return all < SP_TLOG_TILE ? (unsigned)all : SP_TLOG_TILE;
}

/* The full one if it is there, since that of this size may be gone by then. */
static enum sp_err
read_piece(int fd, int level, uint64_t n, unsigned width, size_t max,
    struct sp_buf *out)
{
	char path[SP_TLOG_PATH_MAX];
	enum sp_err e;

	sp_tlog_path(path, level, n, 0);
	e = sp_tlog_read(fd, path, max, out);
	if (e != SP_ERR_NOTFOUND || width == SP_TLOG_TILE)
		return e;
	sp_buf_reset(out);
	sp_tlog_path(path, level, n, width);
	return sp_tlog_read(fd, path, max, out);
}

static enum sp_err
dir_tile(void *arg, unsigned level, uint64_t n, unsigned width, uint8_t *out)
{
	struct sp_tlog_dir *d = arg;
	SP_BUF_AUTO b = {.max = 3 * SP_TLOG_TILE * 32};
	unsigned w;

	if (level >= 5 || width > SP_TLOG_TILE)
		return SP_ERR_INVAL;
	w = width_of(d->size >> (8 * level), n);
	if (width > w)
		return SP_ERR_INVAL;
	if (!d->kept[level].is_there || d->kept[level].n != n) {
		SP_TRY(read_piece(d->fd, (int)level, n, w, SP_TLOG_TILE * 32, &b));
		if (b.len != (size_t)w * 32 && b.len != SP_TLOG_TILE * 32)
			return SP_ERR_PROTO;
		d->kept[level].n = n;
		d->kept[level].width = w;
		memcpy(d->kept[level].h, b.p + b.off, (size_t)w * 32);
		d->kept[level].is_there = true;
	}
	memcpy(out, d->kept[level].h, (size_t)width * 32);
	return SP_OK;
}

struct sp_tlog_dir *
sp_tlog_dir_new(int fd, uint64_t size)
{
	struct sp_tlog_dir *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->fd = fd;
	d->size = size;
	return d;
}

struct sp_tlog_source
sp_tlog_dir_source(struct sp_tlog_dir *d)
{
	return (struct sp_tlog_source){.tile = dir_tile, .arg = d};
}

enum sp_err
sp_tlog_bundle_next(struct sp_span *bundle, struct sp_span *entry)
{
	size_t n;

	if (bundle->n == 0)
		return SP_ERR_EOF;
	if (bundle->n < 2)
		return SP_ERR_PROTO;
	n = (size_t)bundle->p[0] << 8 | bundle->p[1];
	if (bundle->n - 2 < n)
		return SP_ERR_PROTO;
	*entry = sp_span_of(bundle->p + 2, n);
	bundle->p += 2 + n;
	bundle->n -= 2 + n;
	return SP_OK;
}

/* Of a full bundle that is read for a smaller tree only the first count. */
enum sp_err
sp_tlog_bundle(int fd, uint64_t n, uint64_t size, struct sp_buf *out)
{
	unsigned w = width_of(size, n), k = 0;
	struct sp_span s, e;
	enum sp_err err = SP_OK;

	if (w == 0)
		return SP_ERR_INVAL;
	SP_TRY(read_piece(fd, -1, n, w, SP_TLOG_BUNDLE_MAX, out));
	s = sp_buf_span(out);
	while (k < w && (err = sp_tlog_bundle_next(&s, &e)) == SP_OK)
		k++;
	if (k < w)
		return SP_ERR_PROTO;
	out->len -= s.n;
	return SP_OK;
}
