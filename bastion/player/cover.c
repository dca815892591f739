/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/cover.h"

#include <stdlib.h>
#include <string.h>

#include "common/sort.h"

#define STREAMS_MAX 256
#define CUTS_MAX (1u << 20)
#define LINE_BYTES 65536u	/* of a line that goes on over rows */

struct cut {			/* n bytes of a record, from there on */
	uint64_t at_us;
	uint32_t chan, from, n;
	uint8_t kind;
};

struct stream {			/* of a channel, of a kind: its last bytes */
	uint32_t chan;
	uint8_t kind;
	size_t n;
	uint8_t byte[SP_MASK_MOST];
	uint64_t at_us[SP_MASK_MOST];
	uint32_t off[SP_MASK_MOST];
};

static struct {
	struct sp_masks masks;
	struct cut *cut;
	size_t n_cuts, cap;
	struct stream *stream[STREAMS_MAX];
	size_t n_streams;
	bool is_read;
	bool is_blind;		/* too much to keep: everything is covered */
	struct sp_buf shown, joined;
} c;

enum sp_err
cover_set(struct sp_span masks)
{
	sp_buf_init(&c.shown, SP_REC_RAW_MAX + 4096);
	sp_buf_init(&c.joined, SP_REC_RAW_MAX + 4096);
	return sp_masks_parse(masks, &c.masks);
}

bool
cover_is_on(void)
{
	return c.masks.n > 0;
}

void
cover_end(void)
{
	free(c.cut);
	for (size_t i = 0; i < c.n_streams; i++)
		free(c.stream[i]);
	sp_buf_fini(&c.shown);
	sp_buf_fini(&c.joined);
	explicit_bzero(&c, sizeof(c));
}

/* ------------------------------------------------------------ where they stand */

static void
add(uint64_t at_us, uint32_t chan, uint8_t kind, uint32_t off)
{
	struct cut *k = c.n_cuts > 0 ? &c.cut[c.n_cuts - 1] : NULL;
	size_t cap = c.cap == 0 ? 256 : c.cap * 2;

	if (k != NULL && k->at_us == at_us && k->chan == chan && k->kind == kind &&
	    k->from + k->n == off) {
		k->n++;
		return;
	}
	if (c.n_cuts == c.cap) {
		if (cap > CUTS_MAX || (k = calloc(cap, sizeof(*k))) == NULL) {
			c.is_blind = true;
			return;
		}
		if (c.n_cuts > 0)
			memcpy(k, c.cut, c.n_cuts * sizeof(*k));
		free(c.cut);
		c.cut = k;
		c.cap = cap;
	}
	c.cut[c.n_cuts++] = (struct cut){at_us, chan, off, 1, kind};
}

struct piece {
	const struct stream *s;
	const struct sp_rec_record *r;
};

static void
found(void *ctx, size_t at, size_t n)
{
	const struct piece *p = ctx;

	if (at + n <= p->s->n)
		return;		/* it was found when it became whole */
	for (size_t i = at; i < at + n; i++)
		if (i < p->s->n)
			add(p->s->at_us[i], p->r->chan, p->r->kind, p->s->off[i]);
		else
			add(p->r->at_us, p->r->chan, p->r->kind,
			    (uint32_t)(i - p->s->n));
}

static struct stream *
stream_of(const struct sp_rec_record *r)
{
	struct stream *s;

	for (size_t i = 0; i < c.n_streams; i++)
		if (c.stream[i]->chan == r->chan && c.stream[i]->kind == r->kind)
			return c.stream[i];
	if (c.n_streams == STREAMS_MAX || (s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	s->chan = r->chan;
	s->kind = r->kind;
	return c.stream[c.n_streams++] = s;
}

/* The last bytes of what was, and of this record. */
static void
keep(struct stream *s, const struct sp_rec_record *r, size_t most)
{
	size_t n = s->n + r->data.n, drop = n > most ? n - most : 0;
	size_t old = drop < s->n ? s->n - drop : 0;

	memmove(s->byte, s->byte + (s->n - old), old);
	memmove(s->at_us, s->at_us + (s->n - old), old * sizeof(s->at_us[0]));
	memmove(s->off, s->off + (s->n - old), old * sizeof(s->off[0]));
	for (size_t i = old; i < n - drop; i++) {
		size_t from = i + drop - s->n;

		s->byte[i] = r->data.p[from];
		s->at_us[i] = r->at_us;
		s->off[i] = (uint32_t)from;
	}
	s->n = n - drop;
}

static bool
is_stream(const struct sp_rec_record *r)
{
	return r->kind == SP_RECORD_IN || r->kind == SP_RECORD_OUT ||
	    r->kind == SP_RECORD_ERR;
}

static enum sp_err
look(const struct sp_rec_record *r)
{
	struct stream *s = stream_of(r);
	struct piece p = {s, r};

	if (s == NULL) {
		c.is_blind = true;
		return SP_OK;
	}
	sp_buf_reset(&c.joined);
	SP_TRY(sp_buf_put(&c.joined, s->byte, s->n));
	SP_TRY(sp_buf_put(&c.joined, r->data.p, r->data.n));
	sp_masks_find(&c.masks, sp_buf_span(&c.joined), found, &p);
	keep(s, r, c.masks.longest - 1);
	return SP_OK;
}

static int
by_time(const void *a, const void *b)
{
	const struct cut *x = a, *y = b;

	return x->at_us < y->at_us ? -1 : x->at_us > y->at_us;
}

enum sp_err
cover_read(int file, const struct sp_rec_lane_keys *keys)
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	if (!cover_is_on())
		return SP_OK;
	SP_TRY(sp_rec_decoder_new(file, keys, &d));
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK && !c.is_blind)
		if (is_stream(&r) && (e = look(&r)) != SP_OK)
			break;
	sp_rec_decoder_free(d);
	sp_sort(c.cut, c.n_cuts, sizeof(*c.cut), by_time);
	c.is_read = true;
	return e == SP_ERR_NOMEM || e == SP_ERR_IO ? e : SP_OK;
}

/* ------------------------------------------------------------------- records */

static bool
is_text(const struct sp_rec_record *r)
{
	switch (r->kind) {
	case SP_RECORD_OPEN:
	case SP_RECORD_OPEN_FAIL:
	case SP_RECORD_NOTICE:
	case SP_RECORD_META:
	case SP_RECORD_END:
	case SP_RECORD_FILE:
	case SP_RECORD_SAID:
	case SP_RECORD_LINE:
	case SP_RECORD_COMMAND:
		return true;
	default:
		return false;
	}
}

static size_t
first_cut(uint64_t at_us)
{
	size_t a = 0, b = c.n_cuts;

	while (a < b) {
		size_t mid = a + (b - a) / 2;

		if (c.cut[mid].at_us < at_us)
			a = mid + 1;
		else
			b = mid;
	}
	return a;
}

static void
cut_out(const struct sp_rec_record *r, uint8_t *at)
{
	for (size_t i = first_cut(r->at_us); i < c.n_cuts &&
	    c.cut[i].at_us == r->at_us; i++) {
		const struct cut *k = &c.cut[i];

		if (k->chan == r->chan && k->kind == r->kind && k->from <= r->data.n &&
		    k->n <= r->data.n - k->from)
			memset(at + k->from, '*', k->n);
	}
}

enum sp_err
cover_next(struct sp_rec_decoder *d, struct sp_rec_record *r)
{
	uint8_t *at;

	SP_TRY(sp_rec_decoder_next(d, r));
	if (!cover_is_on() || r->data.n == 0 || (!is_stream(r) && !is_text(r)))
		return SP_OK;
	sp_buf_reset(&c.shown);
	SP_TRY(sp_buf_reserve(&c.shown, r->data.n, &at));
	memcpy(at, r->data.p, r->data.n);
	if (is_stream(r) && c.is_blind)
		memset(at, '*', r->data.n);
	else if (is_stream(r) && c.is_read)
		cut_out(r, at);
	else
		sp_masks_cover(&c.masks, at, r->data.n);
	sp_buf_commit(&c.shown, r->data.n);
	r->data = sp_buf_span(&c.shown);
	return SP_OK;
}

void
cover_text(uint8_t *text, size_t n)
{
	if (cover_is_on())
		sp_masks_cover(&c.masks, text, n);
}

/* ------------------------------------------------------------------- screens */

struct line {
	uint8_t byte[LINE_BYTES];
	uint32_t cell[LINE_BYTES]; /* row times columns and column */
	size_t n;
	struct sp_term *t;
};

static void
on_screen(void *ctx, size_t at, size_t n)
{
	struct line *l = ctx;
	unsigned cols = sp_term_cols(l->t);

	for (size_t i = at; i < at + n; i++)
		sp_term_cover(l->t, l->cell[i] % cols, l->cell[i] / cols);
}

static void
put(struct line *l, uint32_t cell, uint32_t ch)
{
	uint8_t b[4];
	size_t n = 0;

	if (ch < 0x80) {
		b[n++] = (uint8_t)ch;
	} else if (ch < 0x800) {
		b[n++] = (uint8_t)(0xc0 | ch >> 6);
	} else if (ch < 0x10000) {
		b[n++] = (uint8_t)(0xe0 | ch >> 12);
		b[n++] = (uint8_t)(0x80 | (ch >> 6 & 0x3f));
	} else {
		b[n++] = (uint8_t)(0xf0 | (ch >> 18 & 7));
		b[n++] = (uint8_t)(0x80 | (ch >> 12 & 0x3f));
		b[n++] = (uint8_t)(0x80 | (ch >> 6 & 0x3f));
	}
	if (ch >= 0x80)
		b[n++] = (uint8_t)(0x80 | (ch & 0x3f));
	for (size_t i = 0; i < n && l->n < LINE_BYTES; i++) {
		l->byte[l->n] = b[i];
		l->cell[l->n++] = cell;
	}
}

void
cover_term(struct sp_term *t)
{
	static struct line l;
	unsigned cols = sp_term_cols(t);

	if (!cover_is_on())
		return;
	l.t = t;
	l.n = 0;
	for (unsigned y = 0; y < sp_term_rows(t); y++) {
		const struct sp_cell *k = sp_term_row(t, y);

		for (unsigned x = 0; x < cols; x++) {
			if (k[x].width == 0)
				continue;
			put(&l, y * cols + x, k[x].ch == 0 ? ' ' : k[x].ch);
			for (size_t i = 0; i < SP_CELL_MARKS && k[x].mark[i] != 0; i++)
				put(&l, y * cols + x, k[x].mark[i]);
		}
		if (sp_term_row_is_wrapped(t, y) && l.n + cols * 12u < LINE_BYTES)
			continue;
		sp_masks_find(&c.masks, sp_span_of(l.byte, l.n), on_screen, &l);
		l.n = 0;
	}
}
