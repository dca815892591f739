/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_MAX (SP_REC_BODY_MAX + SP_REC_OVERHEAD)
#define READ_STEP (64u << 10)
/* The writer passes over a segment only when a batch failed. */
#define SEGMENT_SKIP_MAX 16

struct sp_rec_file {
	int fd;
	struct sp_rec_crypto crypto;
	struct sp_rec_header header;
	uint8_t header_hash[32];
	uint64_t header_bytes;
	struct sp_rec_place at;
	struct sp_buf in;	/* bytes of the file from at.off on */
	size_t handed_out;
	const char *why;
	bool is_tail;		/* what is read now stands behind the gap */
	struct sp_rec_place body; /* is_tail: where the body ended */
	bool went_back;		/* since it was last asked */
	uint64_t packed_off;	/* the last chunk was a checkpoint that names a tail */
	bool is_skim;
	uint32_t wanted;	/* is_skim: bit n: lane n */
};

/* Has `in` hold n bytes from at.off on. SP_ERR_EOF: the file is shorter. */
static enum sp_err
need(struct sp_rec_file *f, size_t n)
{
	while (f->in.len < n) {
		size_t step = n - f->in.len;
		uint8_t *at;
		ssize_t got;

		if (step < READ_STEP && f->in.len + READ_STEP <= IN_MAX)
			step = READ_STEP;
		SP_TRY(sp_buf_reserve(&f->in, step, &at));
		got = pread(f->fd, at, step,
		    (off_t)(f->at.off + f->in.len));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return SP_ERR_IO;
		if (got == 0)
			return SP_ERR_EOF;
		sp_buf_commit(&f->in, (size_t)got);
	}
	return SP_OK;
}

static enum sp_err
read_header(struct sp_rec_file *f)
{
	struct sp_span s;
	uint32_t len = 0;
	enum sp_err e = need(f, 16);

	s = sp_buf_span(&f->in);
	if (e == SP_ERR_EOF && s.n >= SP_REC_MAGIC_BYTES &&
	    memcmp(s.p, SP_REC_MAGIC, SP_REC_MAGIC_BYTES) != 0)
		return SP_ERR_PROTO;
	SP_TRY(e);
	SP_TRY(sp_rec_header_length(s, &len));
	SP_TRY(need(f, len));
	s = sp_span_of(sp_buf_span(&f->in).p, len);
	SP_TRY(sp_rec_header_decode(s, &f->header));
	SP_TRY(sp_rec_sha256(&f->crypto, s, f->header_hash));
	memcpy(f->at.chain, f->header_hash, 32);
	f->header_bytes = len;
	f->at.off = len;
	sp_buf_consume(&f->in, len);
	return SP_OK;
}

enum sp_err
sp_rec_file_open(int fd, struct sp_rec_file **out)
{
	struct sp_rec_file *f = calloc(1, sizeof(*f));
	enum sp_err e;

	if (f == NULL)
		return SP_ERR_NOMEM;
	f->fd = fd;
	f->why = "";
	sp_buf_init(&f->in, IN_MAX);
	e = sp_rec_crypto_init(&f->crypto);
	if (e == SP_OK)
		e = read_header(f);
	if (e != SP_OK) {
		sp_rec_file_close(f);
		return e;
	}
	*out = f;
	return SP_OK;
}

enum sp_err
sp_rec_file_reopen(struct sp_rec_file *f, int fd)
{
	f->fd = fd;
	f->why = "";
	f->at = (struct sp_rec_place){0};
	f->is_tail = f->went_back = false;
	f->packed_off = 0;
	f->handed_out = 0;
	f->in.off = f->in.len = 0;
	return read_header(f);
}

void
sp_rec_file_skim(struct sp_rec_file *f, uint32_t lanes)
{
	f->is_skim = true;
	f->wanted = lanes;
}

void
sp_rec_file_close(struct sp_rec_file *f)
{
	if (f == NULL)
		return;
	sp_rec_crypto_fini(&f->crypto);
	sp_buf_fini(&f->in);
	free(f);
}

const struct sp_rec_header *
sp_rec_file_header(const struct sp_rec_file *f)
{
	return &f->header;
}

const uint8_t *
sp_rec_file_header_hash(const struct sp_rec_file *f)
{
	return f->header_hash;
}

uint64_t
sp_rec_file_header_bytes(const struct sp_rec_file *f)
{
	return f->header_bytes;
}

const char *
sp_rec_file_why(const struct sp_rec_file *f)
{
	return f->why;
}

void
sp_rec_file_tell(const struct sp_rec_file *f, struct sp_rec_place *p)
{
	*p = f->at;
	p->off += f->handed_out;
}

void
sp_rec_file_seek(struct sp_rec_file *f, const struct sp_rec_place *p)
{
	f->at = *p;
	f->is_tail = f->went_back = false;
	f->packed_off = 0;
	f->handed_out = 0;
	f->in.off = f->in.len = 0;
}

/* Numbers that every chunk must have right, of whatever type. */
static const char *
odd_header(const struct sp_rec_file *f, const struct sp_rec_chunk_header *h)
{
	if (h->len > SP_REC_BODY_MAX)
		return "a chunk larger than any";
	if (f->header.version < 4 ? h->seq != f->at.seq : h->seq < f->at.seq)
		return "a chunk out of sequence";
	if (h->segment < f->at.segment ||
	    h->segment - f->at.segment > SEGMENT_SKIP_MAX)
		return "a segment out of sequence";
	if ((h->flags & SP_REC_F_BEHIND) != 0 &&
	    h->type == SP_REC_DATA_CHUNK &&
	    (f->header.version < 2 || h->len < SP_REC_SEAL))
		return "a chunk that its version does not know";
	if (h->type == SP_REC_DATA_CHUNK && (h->lane == 0 ||
	    h->lane > SP_REC_LANES_MAX ||
	    (f->header.lanes >> h->lane & 1) == 0))
		return "a chunk of a lane that its header does not name";
	if (h->at_us < f->at.at_us || h->at_us > SP_REC_TIME_MAX)
		return "time goes back";
	return NULL;
}

static enum sp_rec_step
broken(struct sp_rec_file *f, const char *why)
{
	f->why = why;
	return SP_REC_STEP_BROKEN;
}

static enum sp_rec_step
of_need(enum sp_err e)
{
	return e == SP_ERR_EOF ? SP_REC_STEP_PARTIAL : SP_REC_STEP_IO;
}

static void
went_on(struct sp_rec_file *f, const struct sp_rec_chunk *c)
{
	memcpy(f->at.chain, c->chain, 32);
	f->at.seq = c->h.seq + 1;
	f->at.segment = c->h.segment;
	f->at.at_us = c->h.at_us;
}

/* A chunk whose body nobody wants: it is not even read. */
static enum sp_rec_step
pass_over(struct sp_rec_file *f, struct sp_rec_chunk *c)
{
	c->body = (struct sp_span){0};
	c->off = f->at.off;
	c->size = SP_REC_OVERHEAD + c->h.len;
	memcpy(c->prev, f->at.chain, 32);
	memcpy(c->chain, sp_buf_span(&f->in).p + SP_REC_CHUNK_HEADER, 32);
	if (f->in.len > c->size)
		sp_buf_consume(&f->in, (size_t)c->size);
	else
		f->in.off = f->in.len = 0;
	f->at.off += c->size;
	went_on(f, c);
	return SP_REC_STEP_CHUNK;
}

static bool
is_wanted(const struct sp_rec_file *f, const struct sp_rec_chunk_header *h)
{
	return h->type == SP_REC_DATA_CHUNK && h->lane >= 1 && h->lane < 32 &&
	    (f->wanted >> h->lane & 1) != 0;
}

static enum sp_rec_step
one_chunk(struct sp_rec_file *f, struct sp_rec_chunk *c)
{
	const uint8_t *p;
	const char *odd;
	enum sp_err e;

	if ((e = need(f, SP_REC_OVERHEAD)) != SP_OK)
		return e == SP_ERR_EOF && f->in.len == 0 ? SP_REC_STEP_END :
		    of_need(e);
	memcpy(c->head, sp_buf_span(&f->in).p, SP_REC_CHUNK_HEADER);
	sp_rec_chunk_header_decode(c->head, &c->h);
	if ((odd = odd_header(f, &c->h)) != NULL)
		return broken(f, odd);
	if (f->is_skim && !is_wanted(f, &c->h))
		return pass_over(f, c);
	if ((e = need(f, SP_REC_OVERHEAD + c->h.len)) != SP_OK)
		return of_need(e);
	p = sp_buf_span(&f->in).p;
	c->body = sp_span_of(p + SP_REC_OVERHEAD, c->h.len);
	memcpy(c->prev, f->at.chain, 32);
	/* Who skims has the tags, over this chunk and the chain before it. */
	if (f->is_skim)
		memcpy(c->chain, p + SP_REC_CHUNK_HEADER, 32);
	else if (sp_rec_chain(&f->crypto, c->prev, c->head,
	    sp_rec_chained(&c->h, c->body), c->chain) != SP_OK)
		return SP_REC_STEP_IO;
	if (memcmp(c->chain, p + SP_REC_CHUNK_HEADER, 32) != 0)
		return broken(f, "the chain does not fit");
	c->off = f->at.off;
	c->size = SP_REC_OVERHEAD + c->h.len;
	f->handed_out = (size_t)c->size;
	went_on(f, c);
	return SP_REC_STEP_CHUNK;
}

/* ------------------------------------------------- while it is written */

/* Are there only zeros from `from` to `to`, or to the end of the file? */
static bool
is_hole(const struct sp_rec_file *f, uint64_t from, uint64_t to)
{
	uint8_t b[4096];

	while (from < to) {
		size_t n = to - from < sizeof(b) ? (size_t)(to - from) : sizeof(b);
		ssize_t got = pread(f->fd, b, n, (off_t)from);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0;
		for (ssize_t i = 0; i < got; i++)
			if (b[i] != 0)
				return false;
		from += (uint64_t)got;
	}
	return true;
}

/* The last chunk took the place of a tail that the writer could not cut off any
 * more: it begins where that chunk says. */
static bool
has_old_tail(const struct sp_rec_file *f)
{
	uint8_t b[8];
	uint64_t from = 0;

	if (f->packed_off == 0 || pread(f->fd, b, sizeof(b), (off_t)(f->packed_off +
	    SP_REC_OVERHEAD + SP_REC_TOTALS)) != sizeof(b))
		return false;
	for (size_t i = sizeof(b); i-- > 0;)
		from = from << 8 | b[i];
	return from >= f->at.off && from - f->at.off <= SP_REC_GAP &&
	    is_hole(f, f->at.off, from) &&
	    !is_hole(f, from, from + SP_REC_CHUNK_HEADER);
}

/* No chunk stands where the body ends: one of the tail may, behind the gap. */
static enum sp_rec_step
in_the_tail(struct sp_rec_file *f, struct sp_rec_chunk *c,
    enum sp_rec_step here)
{
	bool is_gap = is_hole(f, f->at.off, f->at.off + SP_REC_GAP);
	struct sp_rec_place body = f->at;
	const char *why = f->why;
	enum sp_rec_step there;

	f->at.off += SP_REC_GAP;
	f->in.off = f->in.len = 0;
	there = one_chunk(f, c);
	if (there == SP_REC_STEP_CHUNK) {
		f->is_tail = true;
		f->body = body;
		return there;
	}
	f->at = body;
	f->in.off = f->in.len = 0;
	if (has_old_tail(f))
		return SP_REC_STEP_END;
	/* Nothing is what the beginning of a batch may have left. */
	if (is_gap)
		return there == SP_REC_STEP_END ? SP_REC_STEP_PARTIAL : there;
	f->why = why;
	return here;
}

/* Who follows a running one: was the tail packed meanwhile? Then its records come
 * once more, from the body. */
static enum sp_rec_step
back_to_the_body(struct sp_rec_file *f, struct sp_rec_chunk *c,
    enum sp_rec_step here)
{
	struct sp_rec_place tail = f->at;
	const char *why = f->why;

	f->at = f->body;
	f->in.off = f->in.len = 0;
	if (one_chunk(f, c) == SP_REC_STEP_CHUNK) {
		f->is_tail = false;
		f->went_back = true;
		return SP_REC_STEP_CHUNK;
	}
	f->at = tail;
	f->in.off = f->in.len = 0;
	f->why = why;
	return here;
}

bool
sp_rec_file_went_back(struct sp_rec_file *f)
{
	bool went = f->went_back;

	f->went_back = false;
	return went;
}

enum sp_rec_step
sp_rec_file_next(struct sp_rec_file *f, struct sp_rec_chunk *c)
{
	enum sp_rec_step st;

	sp_buf_consume(&f->in, f->handed_out);
	f->at.off += f->handed_out;
	f->handed_out = 0;
	st = one_chunk(f, c);
	if (f->header.version >= 4 && !f->is_tail &&
	    (st == SP_REC_STEP_PARTIAL || st == SP_REC_STEP_BROKEN))
		st = in_the_tail(f, c, st);
	else if (f->is_tail && st != SP_REC_STEP_CHUNK && st != SP_REC_STEP_IO)
		st = back_to_the_body(f, c, st);
	if (st == SP_REC_STEP_CHUNK)
		f->packed_off = c->h.type == SP_REC_CHECKPOINT_CHUNK &&
		    c->h.len > SP_REC_TOTALS + SP_REC_SIG ? c->off : 0;
	return st;
}
