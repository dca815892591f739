/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/text.h"
#include "recorder/format.h"

#define STEP_MIN (128u << 10)
#define STEP_MAX (8u << 20)
#define LOOK_US 100000
#define SHORT_BYTES (2u << 20)	/* more than is taken between two looks */

void
sp_rec_disk_init(struct sp_rec_disk *d, int fd, uint64_t reserve_bytes)
{
	*d = (struct sp_rec_disk){.fd = fd, .reserve_bytes = reserve_bytes};
}

static enum sp_err
of_errno(void)
{
	return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ?
	    SP_ERR_FULL : SP_ERR_IO;
}

/* What may still be taken above the reserve. */
static enum sp_err
above_reserve(const struct sp_rec_disk *d, uint64_t *bytes)
{
	struct statfs f;
	uint64_t blocks, kept;

	if (fstatfs(d->fd, &f) != 0)
		return SP_ERR_IO;
	*bytes = UINT64_MAX;
	if (f.f_bsize <= 0)
		return SP_OK;
	/* Division, so that no product of hostile numbers can wrap. */
	kept = d->reserve_bytes / (uint64_t)f.f_bsize;
	if ((uint64_t)f.f_bavail < kept)
		return SP_ERR_FULL;
	blocks = (uint64_t)f.f_bavail - kept;
	if (__builtin_mul_overflow(blocks, (uint64_t)f.f_bsize, bytes))
		*bytes = UINT64_MAX;
	return SP_OK;
}

bool
sp_rec_disk_is_short(struct sp_rec_disk *d)
{
	int64_t now = sp_boot_us();
	uint64_t above = UINT64_MAX, end = d->off + SP_REC_GAP + d->tail;
	uint64_t ahead = d->allocated > end ? d->allocated - end : 0;

	if (d->looked_us != 0 && now - d->looked_us < LOOK_US)
		return d->is_short;
	d->looked_us = now;
	d->is_short = above_reserve(d, &above) == SP_ERR_FULL ||
	    (above < SHORT_BYTES && ahead < SHORT_BYTES);
	return d->is_short;
}

/* The next step: as large as it pays, but never into the reserve. */
static enum sp_err
grow(struct sp_rec_disk *d, uint64_t want, uint64_t above)
{
	uint64_t step = d->off / 4, least = want - d->allocated;
	int r;

	step = step < STEP_MIN ? STEP_MIN : step > STEP_MAX ? STEP_MAX : step;
	if (step < least)
		step = least;
	step = (step + 4095) & ~UINT64_C(4095);
	if (step > above)
		step = (least + 4095) & ~UINT64_C(4095);
	if (step > above)
		return SP_ERR_FULL;
	do
		r = fallocate(d->fd, FALLOC_FL_KEEP_SIZE, (off_t)d->allocated,
		    (off_t)step);
	while (r != 0 && errno == EINTR);
	if (r != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
		d->no_fallocate = true;
		return SP_OK;
	}
	if (r != 0)
		return of_errno();
	d->allocated += step;
	return SP_OK;
}

enum sp_err
sp_rec_disk_room(struct sp_rec_disk *d, size_t n)
{
	uint64_t want = d->off + SP_REC_GAP + d->tail + n + SP_REC_END_BYTES;
	uint64_t above;
	bool must_grow = !d->no_fallocate && want > d->allocated;
	int64_t now = sp_boot_us();

	if (!must_grow && d->checked_us != 0 && now - d->checked_us < LOOK_US)
		return SP_OK;
	SP_TRY(above_reserve(d, &above));
	d->checked_us = now;
	return must_grow ? grow(d, want, above) : SP_OK;
}

static enum sp_err
write_at(struct sp_rec_disk *d, struct sp_span s, uint64_t at)
{
	while (s.n > 0) {
		ssize_t n = pwrite(d->fd, s.p, s.n, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return of_errno();
		if (n == 0)
			return SP_ERR_IO;
		d->is_dirty = true;
		at += (uint64_t)n;
		s.p += n;
		s.n -= (size_t)n;
	}
	return SP_OK;
}

enum sp_err
sp_rec_disk_append(struct sp_rec_disk *d, struct sp_span s)
{
	SP_TRY(write_at(d, s, d->off));
	d->off += s.n;
	return SP_OK;
}

enum sp_err
sp_rec_disk_append_packed(struct sp_rec_disk *d, struct sp_span s)
{
	size_t n = SP_REC_CHUNK_HEADER;

	SP_ASSERT(s.n > n);
	SP_TRY(write_at(d, sp_span_of(s.p + n, s.n - n), d->off + n));
	SP_TRY(sp_rec_disk_sync(d));
	SP_TRY(write_at(d, sp_span_of(s.p, n), d->off));
	d->off += s.n;
	return SP_OK;
}

enum sp_err
sp_rec_disk_append_tail(struct sp_rec_disk *d, struct sp_span s)
{
	SP_TRY(write_at(d, s, d->off + SP_REC_GAP + d->tail));
	d->tail += s.n;
	return SP_OK;
}

enum sp_err
sp_rec_disk_sync(struct sp_rec_disk *d)
{
	int r;

	if (!d->is_dirty)
		return SP_OK;
	do
		r = fdatasync(d->fd);
	while (r != 0 && errno == EINTR);
	/* After a failed sync the kernel may have dropped the pages: what was
	 * written can no longer be called safe, and asking again would lie. */
	if (r != 0)
		return SP_ERR_IO;
	d->is_dirty = false;
	return SP_OK;
}

static enum sp_err
cut_at_end(struct sp_rec_disk *d)
{
	int r;

	do
		r = ftruncate(d->fd, (off_t)d->off);
	while (r != 0 && errno == EINTR);
	if (r != 0)
		return SP_ERR_IO;
	d->is_dirty = true;
	return SP_OK;
}

enum sp_err
sp_rec_disk_drop_tail(struct sp_rec_disk *d)
{
	if (d->tail == 0)
		return SP_OK;
	SP_TRY(sp_rec_disk_sync(d));
	SP_TRY(cut_at_end(d));
	d->tail = 0;
	d->allocated = d->off;
	/* Without it the next batch asks, and is told. */
	(void)!sp_rec_disk_room(d, 0);
	return SP_OK;
}

enum sp_err
sp_rec_disk_finish(struct sp_rec_disk *d)
{
	SP_ASSERT(d->tail == 0);
	SP_TRY(cut_at_end(d));
	return sp_rec_disk_sync(d);
}
