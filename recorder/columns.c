/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a packed chunk in columns: what is alike stands together, and what
 * was typed letter by letter is a text again (doc/recording-format.md). */
#include "recorder/format.h"

#define PLANES 4		/* bytes of a time, the highest first */
#define RECORD_MIN (PLANES + 3)	/* of one in columns */

struct columns {
	uint64_t n;
	struct sp_span us, kind, chan, len, data;
};

static enum sp_err
count(struct sp_span s, uint64_t *n)
{
	struct sp_rec_record r;
	enum sp_err e;

	*n = 0;
	while ((e = sp_rec_record_get(&s, &r)) == SP_OK) {
		if (r.at_us > UINT32_MAX)
			return SP_ERR_TOOBIG;
		++*n;
	}
	return e == SP_ERR_EOF ? SP_OK : e;
}

enum column { PLANE, KIND = PLANES, CHANNEL, LENGTH, DATA, COLUMNS };

static enum sp_err
put_column(struct sp_buf *b, struct sp_span s, int column)
{
	struct sp_rec_record r;

	while (sp_rec_record_get(&s, &r) == SP_OK) {
		enum sp_err e = column < KIND ? sp_buf_put_u8(b,
		    (uint8_t)(r.at_us >> (8 * (PLANES - 1 - column)))) :
		    column == KIND ? sp_buf_put_u8(b, r.kind) :
		    column == CHANNEL ? sp_rec_varint_put(b, r.chan) :
		    column == LENGTH ? sp_rec_varint_put(b, r.data.n) :
		    sp_buf_put(b, r.data.p, r.data.n);

		SP_TRY(e);
	}
	return SP_OK;
}

enum sp_err
sp_rec_to_columns(struct sp_span s, struct sp_buf *out)
{
	uint64_t n = 0;

	sp_buf_reset(out);
	SP_TRY(count(s, &n));
	SP_TRY(sp_rec_varint_put(out, n));
	for (int c = PLANE; c < COLUMNS; c++)
		SP_TRY(put_column(out, s, c));
	return SP_OK;
}

void
sp_rec_columns_cut(struct sp_span columns, size_t cut[static 2])
{
	size_t all = columns.n;
	uint64_t n = 0;

	cut[0] = cut[1] = 0;
	if (sp_rec_varint_get(&columns, SP_REC_RAW_MAX, &n) != SP_OK ||
	    n > columns.n / RECORD_MIN)
		return;
	cut[0] = all - columns.n + 2 * (size_t)n;
	cut[1] = cut[0] + 2 * (size_t)n;
}

static enum sp_err
skip_varints(struct sp_span *s, uint64_t n, uint64_t max, struct sp_span *of,
    uint64_t *sum)
{
	uint64_t v = 0;

	*of = *s;
	*sum = 0;
	for (uint64_t i = 0; i < n; i++) {
		SP_TRY(sp_rec_varint_get(s, max, &v));
		*sum += v;
	}
	of->n -= s->n;
	return SP_OK;
}

static enum sp_err
find_columns(struct sp_span s, struct columns *c)
{
	uint64_t sum = 0;
	const uint8_t *p;

	SP_TRY(sp_rec_varint_get(&s, SP_REC_RAW_MAX, &c->n));
	if (c->n > s.n / RECORD_MIN)
		return SP_ERR_PROTO;
	SP_TRY(sp_get(&s, (size_t)c->n * PLANES, &p));
	c->us = sp_span_of(p, (size_t)c->n * PLANES);
	SP_TRY(sp_get(&s, (size_t)c->n, &p));
	c->kind = sp_span_of(p, (size_t)c->n);
	SP_TRY(skip_varints(&s, c->n, UINT32_MAX, &c->chan, &sum));
	SP_TRY(skip_varints(&s, c->n, SP_REC_RAW_MAX, &c->len, &sum));
	c->data = s;
	return sum == s.n ? SP_OK : SP_ERR_PROTO;
}

/* The times of records that are left out stay in those behind them. */
enum sp_err
sp_rec_from_columns(struct sp_span s, uint8_t lane,
    const struct sp_rec_sieve *sieve, struct sp_buf *out)
{
	struct columns c = {0};
	struct sp_rec_record r = {.lane = lane};
	uint64_t us = 0;

	sp_buf_reset(out);
	SP_TRY(find_columns(s, &c));
	for (size_t i = 0; i < c.n; i++) {
		uint64_t chan = 0, len = 0, dt = 0;

		for (size_t k = 0; k < PLANES; k++)
			dt = dt << 8 | c.us.p[k * c.n + i];
		SP_TRY(sp_rec_varint_get(&c.chan, UINT32_MAX, &chan));
		SP_TRY(sp_rec_varint_get(&c.len, SP_REC_RAW_MAX, &len));
		us += dt;
		r.kind = c.kind.p[i];
		r.data = sp_span_of(c.data.p, (size_t)len);
		c.data = sp_span_of(c.data.p + len, c.data.n - len);
		if (sieve != NULL && !sieve->wants(sieve->ctx, &r))
			continue;
		SP_TRY(sp_rec_record_put(out, us, r.kind, (uint32_t)chan, r.data));
		us = 0;
	}
	return SP_OK;
}
