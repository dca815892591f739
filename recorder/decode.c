/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/pack.h"
#include "recorder/read.h"
#include "recorder/view.h"

/* Places to come back to; every other one goes when the table is full. */
#define PLACES_MAX 4096

struct lane {
	bool has;
	uint8_t first[32];	/* the key of the header */
	uint8_t state[32];	/* the ratchet, at `segment` */
	uint32_t segment;
	bool is_fresh;		/* unpack was begun for `segment` */
	struct sp_rec_unpack unpack;
};

/* Chunks of one batch stand one behind the other, a lane each: their records are
 * handed out in the order of their times. */
#define PARTS_MAX 8
#define ROWS_MAX (2 * SP_REC_RAW_MAX)	/* of what was in columns */

struct part {
	struct sp_buf text;
	struct sp_span left;		/* behind next */
	struct sp_rec_record next;
	uint64_t base_us;		/* what its us count from */
	bool has_next, is_delta, is_sieved;
	uint8_t lane;
};

struct sp_rec_decoder {
	struct sp_rec_file *f;
	struct sp_rec_crypto crypto;
	struct lane lane[SP_REC_LANES];
	struct sp_rec_place *place;	/* PLACES_MAX of them */
	size_t n_places;
	unsigned stride, passed;	/* one of so many segments is kept */
	bool is_skim;
	struct sp_buf clear, rows;
	struct part part[PARTS_MAX];
	size_t n_parts;
	enum sp_err late;		/* what came after them */
	struct sp_rec_chunk ahead;	/* the chunk after them */
	bool has_ahead;
	struct sp_rec_place ahead_place; /* before it */
	struct sp_rec_place segment;	/* where that of the last chunk begins */
	struct sp_rec_place now;	/* where that of the parts begins */
	struct sp_view_lines lines;	/* being handed out one by one */
	struct sp_rec_record lines_of;
	struct sp_buf line;
	uint64_t seen_us;		/* of the last record handed out */
	bool comes_again;		/* what was seen, packed */
	const struct sp_rec_sieve *sieve;
};

enum sp_err
sp_rec_sealed_keys(const struct sp_rec_header *h, size_t recipient,
    uint32_t lanes, struct sp_buf *out, uint8_t *n)
{
	uint16_t seen = 0;

	*n = 0;
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		const struct sp_rec_lane_seal *s = &h->lane[l];

		if ((lanes >> (l + 1) & 1) == 0 || (s->group & seen) != 0)
			continue;
		for (size_t i = 0; i < s->n && s->threshold == 1; i++) {
			if (s->who[i] != recipient)
				continue;
			SP_TRY(sp_buf_put_u8(out, s->group != 0 ? 0 :
			    (uint8_t)(l + 1)));
			SP_TRY(sp_buf_put(out, s->box[i], sp_rec_box_bytes(s)));
			*n = (uint8_t)(*n + 1);
			seen |= s->group;
			break;
		}
	}
	return *n > 0 ? SP_OK : SP_ERR_NOTFOUND;
}

enum sp_err
sp_rec_parse_keys(struct sp_span s, struct sp_rec_lane_keys *k)
{
	*k = (struct sp_rec_lane_keys){0};
	while (s.n > 0) {
		const uint8_t *key;
		uint8_t lane = 0;

		SP_TRY(sp_get_u8(&s, &lane));
		SP_TRY(sp_get(&s, SP_LANE_KEY_BYTES, &key));
		if (lane < 1 || lane > SP_REC_LANES || k->has[lane - 1])
			return SP_ERR_PROTO;
		memcpy(k->key[lane - 1], key, SP_LANE_KEY_BYTES);
		k->has[lane - 1] = true;
	}
	return SP_OK;
}

static void
rewind_lane(struct lane *l)
{
	memcpy(l->state, l->first, 32);
	l->segment = 0;
	l->is_fresh = false;
}

static void
forget(struct sp_rec_decoder *d)
{
	d->n_parts = 0;
	d->late = SP_OK;
	d->has_ahead = false;
	d->lines.n = 0;
	d->seen_us = 0;
	d->comes_again = false;
}

static void
take_keys(struct sp_rec_decoder *d, const struct sp_rec_lane_keys *keys)
{
	for (size_t i = 0; i < SP_REC_LANES; i++) {
		d->lane[i].has = keys->has[i];
		memcpy(d->lane[i].first, keys->key[i], 32);
		rewind_lane(&d->lane[i]);
	}
}

enum sp_err
sp_rec_decoder_new(int fd, const struct sp_rec_lane_keys *keys,
    struct sp_rec_decoder **out)
{
	struct sp_rec_decoder *d = calloc(1, sizeof(*d));
	enum sp_err e;

	if (d == NULL)
		return SP_ERR_NOMEM;
	d->stride = 1;
	sp_buf_init(&d->clear, SP_REC_BODY_MAX);
	sp_buf_init(&d->rows, ROWS_MAX);
	sp_buf_init(&d->line, SP_VIEW_LINE_MAX + 64);
	/* One more than a chunk can hold: a full one is no bomb. */
	for (size_t i = 0; i < PARTS_MAX; i++)
		sp_buf_init(&d->part[i].text, SP_REC_BODY_MAX);
	e = sp_rec_crypto_init(&d->crypto);
	if (e == SP_OK)
		e = sp_rec_file_open(fd, &d->f);
	if (e != SP_OK) {
		sp_rec_decoder_free(d);
		return e;
	}
	take_keys(d, keys);
	*out = d;
	return SP_OK;
}

enum sp_err
sp_rec_decoder_reopen(struct sp_rec_decoder *d, int fd,
    const struct sp_rec_lane_keys *keys, uint32_t lanes)
{
	forget(d);
	d->segment = d->now = (struct sp_rec_place){0};
	d->n_places = 0;
	d->stride = 1;
	d->passed = 0;
	d->is_skim = lanes != 0;
	take_keys(d, keys);
	for (size_t i = 0; i < SP_REC_LANES; i++)
		d->lane[i].has &= lanes == 0 || (lanes >> (i + 1) & 1) != 0;
	SP_TRY(sp_rec_file_reopen(d->f, fd));
	if (lanes != 0)
		sp_rec_file_skim(d->f, lanes);
	return SP_OK;
}

void
sp_rec_decoder_sieve(struct sp_rec_decoder *d, const struct sp_rec_sieve *sieve)
{
	d->sieve = sieve;
}

void
sp_rec_decoder_free(struct sp_rec_decoder *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < SP_REC_LANES; i++)
		sp_rec_unpack_fini(&d->lane[i].unpack);
	sp_buf_fini(&d->clear);
	sp_buf_fini(&d->rows);
	sp_buf_fini(&d->line);
	for (size_t i = 0; i < PARTS_MAX; i++)
		sp_buf_fini(&d->part[i].text);
	sp_rec_file_close(d->f);
	sp_rec_crypto_fini(&d->crypto);
	free(d->place);
	explicit_bzero(d, sizeof(*d));
	free(d);
}

const struct sp_rec_header *
sp_rec_decoder_header(const struct sp_rec_decoder *d)
{
	return sp_rec_file_header(d->f);
}

static void
keep_place(struct sp_rec_decoder *d, const struct sp_rec_place *p)
{
	size_t n = 0;

	if (d->is_skim || (d->place == NULL &&
	    (d->place = calloc(PLACES_MAX, sizeof(*d->place))) == NULL))
		return;
	if (d->n_places > 0 && p->off <= d->place[d->n_places - 1].off)
		return;
	if (d->passed++ % d->stride != 0)
		return;
	if (d->n_places == PLACES_MAX) {
		for (size_t i = 0; i < PLACES_MAX; i += 2)
			d->place[n++] = d->place[i];
		d->n_places = n;
		d->stride *= 2;
		d->passed = 1;
	}
	d->place[d->n_places++] = *p;
}

/* The next chunk; where a segment begins its place is kept. */
static enum sp_err
step(struct sp_rec_decoder *d, struct sp_rec_chunk *c)
{
	struct sp_rec_place before;

	sp_rec_file_tell(d->f, &before);
	d->ahead_place = before;
	switch (sp_rec_file_next(d->f, c)) {
	case SP_REC_STEP_CHUNK:
		break;
	case SP_REC_STEP_END:
	case SP_REC_STEP_PARTIAL:
		return SP_ERR_EOF;
	case SP_REC_STEP_BROKEN:
		return SP_ERR_CRYPTO;
	case SP_REC_STEP_IO:
	default:
		return SP_ERR_IO;
	}
	d->comes_again |= sp_rec_file_went_back(d->f);
	if (c->h.seq == 0 || c->h.segment != before.segment) {
		before.at_us = c->h.at_us;
		d->segment = before;
		keep_place(d, &before);
	}
	return SP_OK;
}

static enum sp_err
go_to_segment(struct lane *l, uint8_t lane, uint32_t segment)
{
	if (segment < l->segment)
		rewind_lane(l);
	while (l->segment < segment) {
		SP_TRY(sp_rec_ratchet(l->state, lane, l->segment));
		l->segment++;
		l->is_fresh = false;
	}
	if (!l->is_fresh)
		SP_TRY(sp_rec_unpack_new_segment(&l->unpack));
	l->is_fresh = true;
	return SP_OK;
}

/* The key must be the one that the writer committed to; *body loses the
 * commitment. The walk has seen to it that there is one. */
static enum sp_err
check_commitment(const struct lane *l, const struct sp_rec_chunk_header *h,
    struct sp_span *body)
{
	uint8_t want[SP_REC_COMMIT];

	body->n -= SP_REC_COMMIT;
	SP_TRY(sp_rec_commitment(l->state, h->lane, h->segment, want));
	return sodium_memcmp(want, body->p + body->n, sizeof(want)) == 0 ?
	    SP_OK : SP_ERR_CRYPTO;
}

static enum sp_err
unseal(struct sp_rec_decoder *d, const struct sp_rec_chunk *c, struct sp_buf *out)
{
	struct lane *l = &d->lane[c->h.lane - 1];
	struct sp_span body = c->body;
	uint8_t key[32], *at;
	size_t n;
	enum sp_err e;

	if (body.n < SP_REC_TAG)
		return SP_ERR_PROTO;
	SP_TRY(go_to_segment(l, c->h.lane, c->h.segment));
	if ((c->h.flags & SP_REC_F_BEHIND) != 0)
		SP_TRY(check_commitment(l, &c->h, &body));
	n = body.n - SP_REC_TAG;
	SP_TRY(sp_rec_chunk_key(l->state, c->h.lane, c->h.segment, key));
	sp_buf_reset(out);
	SP_TRY(sp_buf_reserve(out, n + 1, &at));
	e = sp_rec_unseal(&d->crypto, key, c->prev, &c->h, body, at);
	sodium_memzero(key, sizeof(key));
	SP_TRY(e);
	sp_buf_commit(out, n);
	return SP_OK;
}

/* What VIEW repeats of OUT stands in OUT's stream. */
static enum sp_err
unpack(struct sp_rec_decoder *d, const struct sp_rec_chunk *c, struct sp_buf *out)
{
	struct lane *l = &d->lane[c->h.lane - 1];

	sp_buf_reset(out);
	out->max = SP_REC_RAW_MAX + 1;
	if ((c->h.flags & SP_REC_F_WITH_OUT) != 0) {
		l = &d->lane[SP_LANE_OUT - 1];
		if (!l->has)
			return SP_ERR_NOTFOUND;
		SP_TRY(go_to_segment(l, SP_LANE_OUT, c->h.segment));
	}
	return sp_rec_unpack(&l->unpack, sp_buf_span(&d->clear), out);
}

static enum sp_err
fetch_one(struct part *p)
{
	enum sp_err e = sp_rec_record_get(&p->left, &p->next);

	p->has_next = e == SP_OK;
	if (e != SP_OK)
		return e == SP_ERR_EOF ? SP_OK : e;
	if (p->next.at_us > SP_REC_TIME_MAX) {
		p->has_next = false;
		return SP_ERR_PROTO;
	}
	p->next.lane = p->lane;
	p->next.at_us += p->base_us;
	if (p->is_delta)
		p->base_us = p->next.at_us;
	return p->base_us > 2 * SP_REC_TIME_MAX ? SP_ERR_PROTO : SP_OK;
}

/* The next record of a part that is wanted. */
static enum sp_err
fetch(struct sp_rec_decoder *d, struct part *p)
{
	do
		SP_TRY(fetch_one(p));
	while (p->has_next && !p->is_sieved && !d->sieve->wants(d->sieve->ctx,
	    &p->next));
	return SP_OK;
}

static enum sp_err
decode_chunk(struct sp_rec_decoder *d, const struct sp_rec_chunk *c)
{
	bool is_packed = (c->h.flags & SP_REC_F_ZSTD) != 0;
	struct part *p = &d->part[d->n_parts];

	p->is_sieved = d->sieve == NULL;
	p->text.max = SP_REC_BODY_MAX;
	SP_TRY(unseal(d, c, is_packed ? &d->clear : &p->text));
	if (is_packed)
		SP_TRY(unpack(d, c, &p->text));
	if (p->text.len > SP_REC_RAW_MAX)
		return SP_ERR_TOOBIG;
	if ((c->h.flags & SP_REC_F_COLUMNS) != 0) {
		struct sp_buf columns = p->text;

		p->text = d->rows;
		d->rows = columns;
		p->text.max = ROWS_MAX;
		p->is_sieved = true;
		SP_TRY(sp_rec_from_columns(sp_buf_span(&d->rows), c->h.lane,
		    d->sieve, &p->text));
	}
	p->left = sp_buf_span(&p->text);
	p->lane = c->h.lane;
	p->base_us = c->h.at_us;
	p->is_delta = sp_rec_file_header(d->f)->version >= 4;
	if (d->n_parts++ == 0)
		d->now = d->segment;
	return fetch(d, p);
}

static bool
is_ours(const struct sp_rec_decoder *d, const struct sp_rec_chunk_header *h)
{
	return h->type == SP_REC_DATA_CHUNK && h->lane >= 1 &&
	    h->lane <= SP_REC_LANES && d->lane[h->lane - 1].has;
}

/* One chunk, or those of one batch; what does not fit ends it. */
static enum sp_err
fill(struct sp_rec_decoder *d)
{
	const struct sp_rec_chunk_header *h = &d->ahead.h;
	bool in_batches = sp_rec_file_header(d->f)->version >= 4;
	uint64_t at_us = 0;
	uint32_t segment = 0;

	d->n_parts = 0;
	for (;;) {
		if (!d->has_ahead)
			SP_TRY(step(d, &d->ahead));
		d->has_ahead = true;
		if (d->n_parts > 0 && (h->type != SP_REC_DATA_CHUNK ||
		    h->at_us != at_us || h->segment != segment ||
		    d->n_parts == PARTS_MAX))
			return SP_OK;
		d->has_ahead = false;
		if (!is_ours(d, h))
			continue;
		at_us = h->at_us;
		segment = h->segment;
		SP_TRY(decode_chunk(d, &d->ahead));
		if (!in_batches)
			return SP_OK;
	}
}

static struct part *
earliest(struct sp_rec_decoder *d)
{
	struct part *p = NULL;

	for (size_t i = 0; i < d->n_parts; i++)
		if (d->part[i].has_next && (p == NULL ||
		    d->part[i].next.at_us < p->next.at_us))
			p = &d->part[i];
	return p;
}

/* Lines that were written as one record are handed out as if each were one. */
static bool
next_line(struct sp_rec_decoder *d, struct sp_rec_record *r)
{
	struct sp_view_line l;

	if (!sp_view_lines_next(&d->lines, &l))
		return false;
	sp_buf_reset(&d->line);
	if (sp_view_line_encode(&d->line, &l) != SP_OK)
		return false;
	*r = d->lines_of;
	r->kind = SP_RECORD_LINE;
	r->data = sp_buf_span(&d->line);
	return true;
}

enum sp_err
sp_rec_decoder_next(struct sp_rec_decoder *d, struct sp_rec_record *r)
{
	struct part *p;
	enum sp_err e;

	for (;;) {
		if (next_line(d, r))
			return SP_OK;
		while ((p = earliest(d)) == NULL) {
			e = d->late;
			d->late = SP_OK;
			SP_TRY(e);
			e = fill(d);
			if (earliest(d) == NULL)
				SP_TRY(e);
			else
				d->late = e;
		}
		*r = p->next;
		if ((e = fetch(d, p)) != SP_OK)
			d->late = e;
		if (d->comes_again && r->at_us <= d->seen_us)
			continue;
		d->seen_us = r->at_us;
		if (r->kind != SP_RECORD_LINES || r->lane != SP_LANE_VIEW ||
		    sp_view_lines_begin(r->data, &d->lines) != SP_OK)
			return SP_OK;
		d->lines_of = *r;
	}
}

enum sp_err
sp_rec_decoder_scan(struct sp_rec_decoder *d, uint64_t *end_us)
{
	struct sp_rec_place here, segment = d->segment;
	struct sp_rec_chunk c;
	uint64_t end;
	enum sp_err e;

	if (d->has_ahead)
		here = d->ahead_place;
	else
		sp_rec_file_tell(d->f, &here);
	d->has_ahead = false;
	end = here.at_us;
	while ((e = step(d, &c)) == SP_OK)
		end = c.h.at_us;
	sp_rec_file_seek(d->f, &here);
	d->segment = segment;
	if (e != SP_ERR_EOF)
		return e;
	*end_us = end;
	return SP_OK;
}

enum sp_err
sp_rec_decoder_seek(struct sp_rec_decoder *d, uint64_t at_us)
{
	size_t i = d->n_places;

	if (i == 0)
		return SP_ERR_NOTFOUND;
	while (i > 1 && d->place[i - 1].at_us > at_us)
		i--;
	sp_rec_decoder_go(d, &d->place[i - 1]);
	return SP_OK;
}

void
sp_rec_decoder_tell(const struct sp_rec_decoder *d, struct sp_rec_place *p)
{
	*p = d->now;
}

void
sp_rec_decoder_go(struct sp_rec_decoder *d, const struct sp_rec_place *p)
{
	forget(d);
	sp_rec_file_seek(d->f, p);
	/* A stream is decodable from the first chunk of a segment only. */
	for (size_t l = 0; l < SP_REC_LANES; l++)
		d->lane[l].is_fresh = false;
}

void
sp_rec_decoder_rewind(struct sp_rec_decoder *d)
{
	struct sp_rec_place p = {.off = sp_rec_file_header_bytes(d->f)};

	memcpy(p.chain, sp_rec_file_header_hash(d->f), sizeof(p.chain));
	sp_rec_decoder_go(d, &p);
}
