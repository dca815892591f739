/* SPDX-License-Identifier: Apache-2.0 */
#define ZSTD_STATIC_LINKING_ONLY	/* an allocator of one's own */
#include "recorder/pack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "recorder/format.h"

#define SMALL 48		/* below: a flushed block costs more than it saves */
#define JUDGE_FROM 2048		/* a chunk that says something about the stream */
#define BACKOFF_MAX 64
#define UNPACK_STEP (64u << 10)
#define SMALL_STREAM (16u << 10)	/* of one that begins with less, small tables */
#define WINDOW_LEAST 10		/* zstd's */
#define CUT_FROM 96		/* bytes: a block more costs some ten */
/* Bulk must not wait; what was gathered may take its time: 10 ms for all that a
 * tail holds, or 40 ms. */
static const struct {
	ZSTD_cParameter what;
	int quick, good, best, best_small;
} tuning[] = {
	{ZSTD_c_compressionLevel, 1, 16, 19, 19},
	{ZSTD_c_windowLog, SP_REC_WINDOW_LOG, 18, 18, 17},
	{ZSTD_c_hashLog, 14, 15, 17, 14},
	{ZSTD_c_chainLog, 14, 15, 18, 15},
	/* The lines of bulk are told more than 1 MiB after it was said, and both
	 * go through one window. */
	{ZSTD_c_enableLongDistanceMatching, 1, 0, 0, 0},
	{ZSTD_c_ldmHashLog, 16, 0, 0, 0},
	{ZSTD_c_ldmMinMatch, 32, 0, 0, 0},
};

#define SIZE_ROOM 16		/* before each block; keeps malloc's alignment */
#define MAP_FROM (256u << 10)	/* pages of its own: they go without a wipe */

static uint8_t *
room(size_t n)
{
	void *p;

	if (n < MAP_FROM)
		return malloc(n);
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	    -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void *
take(void *ctx, size_t n)
{
	uint8_t *p = n > SIZE_MAX - SIZE_ROOM ? NULL : room(n + SIZE_ROOM);

	(void)ctx;
	if (p == NULL)
		return NULL;
	memcpy(p, &n, sizeof(n));
	return p + SIZE_ROOM;
}

/* A compressor holds the last MiBs that went through it in clear. */
static void
give_back(void *ctx, void *at)
{
	uint8_t *p = at;
	size_t n;

	(void)ctx;
	if (p == NULL)
		return;
	memcpy(&n, p - SIZE_ROOM, sizeof(n));
	if (n + SIZE_ROOM < MAP_FROM) {
		explicit_bzero(p, n);
		free(p - SIZE_ROOM);
	} else if (munmap(p - SIZE_ROOM, n + SIZE_ROOM) != 0) {
		explicit_bzero(p, n);
	}
}

void
sp_rec_wipe(struct sp_buf *b)
{
	size_t end = b->off + b->len, wet = b->lent > b->wet ? b->lent : b->wet;

	if (b->p == NULL)
		return;
	explicit_bzero(b->p, b->off);
	if (wet > end)
		explicit_bzero(b->p + end, wet - end);
	b->wet = end;
	b->lent = 0;
}

static const ZSTD_customMem memory = {take, give_back, NULL};

void
sp_rec_pack_fini(struct sp_rec_pack *k)
{
	ZSTD_freeCCtx(k->z);
	*k = (struct sp_rec_pack){0};
}

void
sp_rec_pack_new_segment(struct sp_rec_pack *k)
{
	ZSTD_freeCCtx(k->z);
	k->z = NULL;
	k->is_started = false;
	k->last = 0;
}

/* A window that holds all of it finds as much, and a session of one command must
 * not pay for the clearing of tables of a megabyte. */
static size_t
shrink(const struct sp_rec_pack *k)
{
	size_t bad = 0;
	int log = WINDOW_LEAST;

	while ((size_t)1 << log < k->last)
		log++;
	bad |= ZSTD_isError(ZSTD_CCtx_setParameter(k->z, ZSTD_c_windowLog, log));
	log++;
	bad |= ZSTD_isError(ZSTD_CCtx_setParameter(k->z, ZSTD_c_hashLog, log));
	return bad | ZSTD_isError(ZSTD_CCtx_setParameter(k->z, ZSTD_c_chainLog,
	    log));
}

static int
value(const struct sp_rec_pack *k, size_t i, size_t first)
{
	return k->effort == SP_REC_QUICK ? tuning[i].quick :
	    k->effort == SP_REC_GOOD ? tuning[i].good :
	    first < SMALL_STREAM ? tuning[i].best_small : tuning[i].best;
}

static enum sp_err
start(struct sp_rec_pack *k, size_t first)
{
	size_t bad = 0;

	if (k->z == NULL && (k->z = ZSTD_createCCtx_advanced(memory)) == NULL)
		return SP_ERR_NOMEM;
	bad |= ZSTD_isError(ZSTD_CCtx_reset(k->z,
	    ZSTD_reset_session_and_parameters));
	for (size_t i = 0; i < sizeof(tuning) / sizeof(tuning[0]); i++)
		bad |= ZSTD_isError(ZSTD_CCtx_setParameter(k->z, tuning[i].what,
		    value(k, i, first)));
	if (k->effort != SP_REC_QUICK && k->last > 0 && k->last < SMALL_STREAM)
		bad |= shrink(k);
	k->is_started = true;
	return bad == 0 ? SP_OK : SP_ERR_IO;
}

/* The bound leaves room for a whole flush: anything left is a bug. */
static bool
push(struct sp_rec_pack *k, ZSTD_outBuffer *o, struct sp_span in, size_t from,
    size_t to)
{
	ZSTD_inBuffer i = {in.p, to, from};

	return from >= to || (ZSTD_compressStream2(k->z, o, &i, ZSTD_e_flush) ==
	    0 && i.pos == to);
}

/* Bytes of times are like noise; in a block with text they spoil its code. */
static bool
push_all(struct sp_rec_pack *k, ZSTD_outBuffer *o, struct sp_span in)
{
	size_t a = k->cut[0], b = k->cut[1];

	if (b <= a || b > in.n || b - a < CUT_FROM)
		return push(k, o, in, 0, in.n);
	return push(k, o, in, 0, a) && push(k, o, in, a, b) &&
	    push(k, o, in, b, in.n);
}

enum sp_err
sp_rec_pack(struct sp_rec_pack *k, struct sp_span in, struct sp_buf *out,
    bool *packed)
{
	ZSTD_outBuffer o;
	uint8_t *at;

	out->off = out->len = 0;
	*packed = false;
	if (in.n < SMALL)
		return SP_OK;
	if (k->skip > 0) {
		k->skip--;
		return SP_OK;
	}
	if (!k->is_started)
		SP_TRY(start(k, in.n));
	SP_TRY(sp_buf_reserve(out, ZSTD_compressBound(in.n) + 64, &at));
	o = (ZSTD_outBuffer){at, ZSTD_compressBound(in.n) + 64, 0};
	if (!push_all(k, &o, in))
		return SP_ERR_IO;
	sp_buf_commit(out, o.pos);
	if (in.n >= JUDGE_FROM) {
		bool poor = o.pos > in.n - in.n / 16;

		k->backoff = !poor ? 0 : k->backoff == 0 ? 4 :
		    k->backoff < BACKOFF_MAX ? k->backoff * 2 : BACKOFF_MAX;
		k->skip = k->backoff;
	}
	*packed = true;
	return SP_OK;
}

void
sp_rec_unpack_fini(struct sp_rec_unpack *k)
{
	ZSTD_freeDCtx(k->z);
	k->z = NULL;
}

enum sp_err
sp_rec_unpack_new_segment(struct sp_rec_unpack *k)
{
	if (k->z == NULL) {
		if ((k->z = ZSTD_createDCtx()) == NULL)
			return SP_ERR_NOMEM;
		if (ZSTD_isError(ZSTD_DCtx_setParameter(k->z,
		    ZSTD_d_windowLogMax, SP_REC_WINDOW_LOG)))
			return SP_ERR_IO;
	}
	return ZSTD_isError(ZSTD_DCtx_reset(k->z, ZSTD_reset_session_only)) ?
	    SP_ERR_IO : SP_OK;
}

enum sp_err
sp_rec_unpack(struct sp_rec_unpack *k, struct sp_span in, struct sp_buf *out)
{
	ZSTD_inBuffer i = {in.p, in.n, 0};
	bool is_full;

	if (k->z == NULL)
		SP_TRY(sp_rec_unpack_new_segment(k));
	do {
		size_t room = out->max - out->len, r;
		ZSTD_outBuffer o;
		uint8_t *at;

		if (room == 0)
			return SP_ERR_TOOBIG;
		room = room > UNPACK_STEP ? UNPACK_STEP : room;
		SP_TRY(sp_buf_reserve(out, room, &at));
		o = (ZSTD_outBuffer){at, room, 0};
		r = ZSTD_decompressStream(k->z, &o, &i);
		if (ZSTD_isError(r))
			return SP_ERR_PROTO;
		sp_buf_commit(out, o.pos);
		is_full = o.pos == room;
		/* A stream of ours never ends its frame. */
		if (r == 0 || (o.pos == 0 && i.pos < i.size))
			return SP_ERR_PROTO;
	} while (i.pos < i.size || is_full);
	return SP_OK;
}
