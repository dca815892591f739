/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/find.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEAD SP_REC_OVERHEAD	/* header and chain */
#define NEAR (256u << 10)	/* what is walked through, not halved */
#define STEP 4096u		/* one header at a time */
#define SEGMENT_SKIP_MAX 16
#define SYNC_MAX (2 * (SP_REC_BODY_MAX + HEAD)) /* where none begins, there is none */
#define SEGMENT_FAR (SP_REC_SEGMENT_BYTES + (1u << 20)) /* mostly */
#define LAST_MIN (64u << 10)
#define LAST_MAX (4u << 20)	/* some of the largest chunks */

/* One chunk on the way, and the place before it. */
struct walk {
	struct sp_rec_place p;
	struct sp_rec_chunk_header h;
};

/* Bytes of the file that are at hand: at least n of them, or SP_ERR_EOF. */
static enum sp_err
bytes(struct sp_rec_finder *x, uint64_t off, size_t n, size_t want,
    const uint8_t **p)
{
	if (off >= x->at && off - x->at <= x->n && x->n - (off - x->at) >= n) {
		*p = x->in + (off - x->at);
		return SP_OK;
	}
	if (off > x->end || x->end - off < n)
		return SP_ERR_EOF;
	x->at = off;
	for (x->n = 0; x->n < n;) {
		ssize_t got = pread(x->fd, x->in + x->n, want - x->n,
		    (off_t)(off + x->n));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return SP_ERR_IO;
		if (got == 0)
			return SP_ERR_EOF;
		x->n += (size_t)got;
		x->bytes += (uint64_t)got;
	}
	*p = x->in;
	return SP_OK;
}

enum sp_err
sp_rec_find_open(struct sp_rec_finder *x, int fd, const struct sp_rec_file *f)
{
	off_t size = lseek(fd, 0, SEEK_END);

	x->fd = fd;
	x->f = f;
	x->at = x->bytes = 0;
	x->n = 0;
	x->start = sp_rec_file_header_bytes(f);
	if (size < 0)
		return SP_ERR_IO;
	x->end = (uint64_t)size;
	return x->end < x->start ? SP_ERR_NOTFOUND : SP_OK;
}

static void
begin(const struct sp_rec_finder *x, struct sp_rec_place *p)
{
	*p = (struct sp_rec_place){.off = x->start};
	memcpy(p->chain, sp_rec_file_header_hash(x->f), 32);
}

/* May it be the chunk that stands there, after that place? */
static bool
follows(const struct sp_rec_finder *x, const struct sp_rec_place *p,
    const struct sp_rec_chunk_header *h)
{
	return h->len <= SP_REC_BODY_MAX && h->seq >= p->seq &&
	    h->segment >= p->segment &&
	    h->segment - p->segment <= SEGMENT_SKIP_MAX &&
	    h->at_us >= p->at_us && h->at_us <= SP_REC_TIME_MAX &&
	    p->off + HEAD + h->len <= x->end;
}

static void
behind(const struct sp_rec_chunk_header *h, const uint8_t *chunk, uint64_t off,
    struct sp_rec_place *p)
{
	*p = (struct sp_rec_place){.off = off + HEAD + h->len, .seq = h->seq + 1,
	    .at_us = h->at_us, .segment = h->segment};
	memcpy(p->chain, chunk + SP_REC_CHUNK_HEADER, 32);
}

/* On by one: w->p was the place before w->h, and is behind it. SP_ERR_EOF: here
 * the file ends, or stops being one. */
static enum sp_err
next(struct sp_rec_finder *x, struct sp_rec_place *p, struct walk *w)
{
	const uint8_t *b;

	SP_TRY(bytes(x, p->off, HEAD, STEP, &b));
	w->p = *p;
	sp_rec_chunk_header_decode(b, &w->h);
	if (!follows(x, p, &w->h))
		return SP_ERR_EOF;
	behind(&w->h, b, p->off, p);
	return SP_OK;
}

/* Nothing but a header looks so: what is sealed is noise, and passes once in 2^70. */
static bool
is_header(const struct sp_rec_finder *x, const uint8_t *b, uint64_t off,
    struct sp_rec_chunk_header *h)
{
	const struct sp_rec_header *file = sp_rec_file_header(x->f);
	struct sp_rec_place from = {.off = off};

	if (b[3] != 0 || b[7] != 0 || b[4] < SP_REC_OPEN_CHUNK ||
	    b[4] > SP_REC_HASHES_CHUNK)
		return false;
	sp_rec_chunk_header_decode(b, h);
	from.segment = h->segment;
	if (!follows(x, &from, h) || h->seq >> 48 != 0)
		return false;
	if (h->type != SP_REC_DATA_CHUNK)
		return h->lane == 0 && h->flags == 0;
	return h->lane >= 1 && h->lane <= SP_REC_LANES_MAX &&
	    (file->lanes >> h->lane & 1) != 0 && h->len >= SP_REC_TAG &&
	    (h->flags & ~sp_rec_known_flags(file->version)) == 0;
}

/* The header of the chunk behind fits, or the file ends there. */
static enum sp_err
is_followed(struct sp_rec_finder *x, const struct sp_rec_place *p, bool *yes)
{
	struct sp_rec_place q = *p;
	uint8_t b[HEAD];
	struct sp_rec_chunk_header h;
	ssize_t n;

	*yes = q.off == x->end;
	if (*yes || x->end - q.off < HEAD)
		return SP_OK;
	do
		n = pread(x->fd, b, sizeof(b), (off_t)q.off);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return SP_ERR_IO;
	x->bytes += (uint64_t)n;
	sp_rec_chunk_header_decode(b, &h);
	*yes = n == (ssize_t)sizeof(b) && h.type != 0 && follows(x, &q, &h);
	return SP_OK;
}

/* The next place in a window at which a header may stand. */
static size_t
may_begin(const uint8_t *b, size_t from, size_t n)
{
	while (from < n && (b[from + 3] != 0 || b[from + 7] != 0 ||
	    b[from + 4] > SP_REC_HASHES_CHUNK || b[from + 4] == 0))
		from++;
	return from;
}

/* The first chunk that begins from `off` on, before `until`: its header, and the
 * place behind it. */
static enum sp_err
sync_at(struct sp_rec_finder *x, uint64_t off, uint64_t until,
    struct sp_rec_chunk_header *h, struct sp_rec_place *p, uint64_t *where)
{
	const uint8_t *b;
	bool yes = false;
	enum sp_err e;

	until = until < x->end ? until : x->end;
	if (until > off && until - off > SYNC_MAX)
		until = off + SYNC_MAX;
	while (off < until) {
		size_t n, i;

		e = bytes(x, off, HEAD, SP_REC_FIND_BYTES, &b);
		if (e == SP_ERR_EOF)
			return SP_ERR_NOTFOUND;
		SP_TRY(e);
		n = x->n - (size_t)(off - x->at) - HEAD + 1;
		n = n < until - off ? n : (size_t)(until - off);
		i = may_begin(b, 0, n);
		off += i;
		if (i == n)
			continue;
		*where = off;
		if (is_header(x, b + i, off, h)) {
			behind(h, b + i, off, p);
			SP_TRY(is_followed(x, p, &yes));
		}
		if (yes)
			return SP_OK;
		off++;
	}
	return SP_ERR_NOTFOUND;
}

/* Is this chunk one of those that are looked for? Once one is, all are that
 * follow it. */
typedef bool is_past_fn(const struct sp_rec_chunk_header *h, uint64_t than);

static bool
is_later(const struct sp_rec_chunk_header *h, uint64_t than)
{
	return h->at_us > than;
}

static bool
is_of_segment(const struct sp_rec_chunk_header *h, uint64_t than)
{
	return h->segment >= than;
}

/* The place before the first that is; *is_there, or it is where looking ends.
 * It will not be further before `until` than `far`. */
static enum sp_err
first(struct sp_rec_finder *x, uint64_t until, uint64_t far,
    is_past_fn *is_past, uint64_t than, struct sp_rec_place *p, bool *is_there)
{
	struct sp_rec_chunk_header h;
	struct sp_rec_place q;
	uint64_t hi = until, where = 0;
	struct walk w;
	enum sp_err e;

	begin(x, p);
	if (until - p->off > far && sync_at(x, until - far, until, &h, &q,
	    &where) == SP_OK && !is_past(&h, than))
		*p = q;
	while (hi > p->off && hi - p->off > NEAR) {
		uint64_t mid = p->off + (hi - p->off) / 2;

		e = sync_at(x, mid, hi, &h, &q, &where);
		if (e == SP_OK && !is_past(&h, than))
			*p = q;
		else if (e == SP_OK)
			hi = where;
		else if (e == SP_ERR_NOTFOUND)
			hi = mid;
		else
			return e;
	}
	*is_there = false;
	for (q = *p; q.off < until; *p = q) {
		e = next(x, &q, &w);
		if (e == SP_ERR_EOF)
			return SP_OK;
		SP_TRY(e);
		*is_there = is_past(&w.h, than);
		if (*is_there) {
			*p = w.p;
			return SP_OK;
		}
	}
	return SP_OK;
}

enum sp_err
sp_rec_find_time(struct sp_rec_finder *x, uint64_t at_us,
    struct sp_rec_place *p)
{
	bool is_there;

	return first(x, x->end, UINT64_MAX, is_later, at_us, p, &is_there);
}

enum sp_err
sp_rec_find_segment(struct sp_rec_finder *x, uint32_t segment, uint64_t until,
    struct sp_rec_place *p)
{
	bool is_there = false;

	SP_TRY(first(x, until, SEGMENT_FAR, is_of_segment, segment, p, &is_there));
	return is_there ? SP_OK : SP_ERR_NOTFOUND;
}

/* A place behind which the chunks before `until` can be walked through, at most
 * so far back; the beginning is one. */
static enum sp_err
back_from(struct sp_rec_finder *x, uint64_t until, uint64_t far,
    struct sp_rec_place *p)
{
	struct sp_rec_chunk_header h;
	uint64_t where;

	begin(x, p);
	if (until <= x->start || until - x->start <= far)
		return SP_OK;
	return sync_at(x, until - far, until, &h, p, &where);
}

enum sp_err
sp_rec_find_last(struct sp_rec_finder *x, struct sp_rec_place *before,
    struct sp_rec_chunk_header *h)
{
	struct sp_rec_place p;
	struct walk w;
	enum sp_err e;
	bool any = false;

	for (uint64_t far = LAST_MIN; !any && far <= LAST_MAX; far *= 4) {
		e = back_from(x, x->end, far, &p);
		if (e == SP_ERR_NOTFOUND)
			continue;
		SP_TRY(e);
		while ((e = next(x, &p, &w)) == SP_OK) {
			any = true;
			*before = w.p;
			*h = w.h;
		}
		if (e != SP_ERR_EOF)
			return e;
	}
	if (!any)
		return SP_ERR_NOTFOUND;
	return p.off == x->end ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_rec_find_keyframe(struct sp_rec_finder *x, uint64_t until, uint64_t bytes_max,
    unsigned headers, uint32_t *segment)
{
	uint64_t far = 1u << 20, hi = until;
	struct sp_rec_place p;
	struct walk w;
	bool found = false;
	enum sp_err e = SP_OK;

	/* Each time from further back, up to where the time before began. */
	for (; hi > x->start && far <= bytes_max; far *= 2) {
		struct sp_rec_place from;

		e = back_from(x, hi, far, &p);
		if (e == SP_ERR_NOTFOUND)
			continue;
		SP_TRY(e);
		for (from = p; p.off < hi && headers > 0; headers--) {
			if ((e = next(x, &p, &w)) != SP_OK)
				break;
			if (w.h.type != SP_REC_DATA_CHUNK ||
			    w.h.lane != SP_LANE_VIEW ||
			    (w.h.flags & SP_REC_F_KEYFRAME) == 0)
				continue;
			found = true;
			*segment = w.h.segment;
		}
		if (found || headers == 0 || e == SP_ERR_IO)
			break;
		hi = from.off;
	}
	return found ? SP_OK : e == SP_ERR_IO ? e : SP_ERR_NOTFOUND;
}
