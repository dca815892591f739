/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/format.h"

#include <string.h>

const char *
sp_rec_kind_name(uint8_t kind)
{
	switch (kind) {
#define NAME(name, num, text)                                                 \
	case (num):                                                           \
		return (text);
		SP_REC_KINDS(NAME)
#undef NAME
	default:
		return "unknown";
	}
}

unsigned
sp_rec_known_flags(uint8_t version)
{
	static const unsigned known[] = {0, SP_REC_F_ZSTD,
	    SP_REC_F_ZSTD | SP_REC_F_BEHIND,
	    SP_REC_F_ZSTD | SP_REC_F_BEHIND | SP_REC_F_KEYFRAME,
	    SP_REC_F_ZSTD | SP_REC_F_BEHIND | SP_REC_F_KEYFRAME |
	    SP_REC_F_WITH_OUT | SP_REC_F_COLUMNS};
	const size_t n = sizeof(known) / sizeof(known[0]);

	return known[version < n ? version : n - 1];
}

static void
le_put(uint8_t *o, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		o[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t
le_get(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

void
sp_rec_chunk_header_encode(uint8_t o[static SP_REC_CHUNK_HEADER],
    const struct sp_rec_chunk_header *h)
{
	le_put(o, h->len, 4);
	o[4] = h->type;
	o[5] = h->lane;
	le_put(o + 6, h->flags, 2);
	le_put(o + 8, h->segment, 4);
	le_put(o + 12, h->seq, 8);
	le_put(o + 20, h->at_us, 8);
}

void
sp_rec_chunk_header_decode(const uint8_t p[static SP_REC_CHUNK_HEADER],
    struct sp_rec_chunk_header *h)
{
	h->len = (uint32_t)le_get(p, 4);
	h->type = p[4];
	h->lane = p[5];
	h->flags = (uint16_t)le_get(p + 6, 2);
	h->segment = (uint32_t)le_get(p + 8, 4);
	h->seq = le_get(p + 12, 8);
	h->at_us = le_get(p + 20, 8);
}

static size_t
varint_to(uint8_t *o, uint64_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		o[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	o[n++] = (uint8_t)v;
	return n;
}

enum sp_err
sp_rec_varint_put(struct sp_buf *b, uint64_t v)
{
	uint8_t o[10];

	return sp_buf_put(b, o, varint_to(o, v));
}

/* One encoding for each number: no overlong forms, nothing beyond max. */
enum sp_err
sp_rec_varint_get(struct sp_span *s, uint64_t max, uint64_t *v)
{
	uint64_t x = 0;

	/* Most are small, and a search passes over millions of them. */
	if (s->n > 0 && s->p[0] < 0x80 && s->p[0] <= max) {
		*v = s->p[0];
		s->p++;
		s->n--;
		return SP_OK;
	}
	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t b = 0;

		SP_TRY(sp_get_u8(s, &b));
		if (shift == 63 && b > 1)
			return SP_ERR_PROTO;
		x |= (uint64_t)(b & 0x7f) << shift;
		if ((b & 0x80) != 0)
			continue;
		if ((b == 0 && shift > 0) || x > max)
			return SP_ERR_PROTO;
		*v = x;
		return SP_OK;
	}
	return SP_ERR_PROTO;
}

enum sp_err
sp_rec_record_put(struct sp_buf *b, uint64_t dt_us, uint8_t kind,
    uint32_t chan, struct sp_span data)
{
	uint8_t head[SP_REC_RECORD_HEAD_MAX];
	size_t n = varint_to(head, dt_us);

	head[n++] = kind;
	n += varint_to(head + n, chan);
	n += varint_to(head + n, data.n);
	SP_TRY(sp_buf_put(b, head, n));
	return sp_buf_put(b, data.p, data.n);
}

enum sp_err
sp_rec_record_get(struct sp_span *s, struct sp_rec_record *r)
{
	uint64_t chan = 0, len = 0;
	const uint8_t *p;

	if (s->n == 0)
		return SP_ERR_EOF;
	SP_TRY(sp_rec_varint_get(s, INT64_MAX, &r->at_us));
	SP_TRY(sp_get_u8(s, &r->kind));
	SP_TRY(sp_rec_varint_get(s, UINT32_MAX, &chan));
	SP_TRY(sp_rec_varint_get(s, SP_REC_RAW_MAX, &len));
	SP_TRY(sp_get(s, (size_t)len, &p));
	r->chan = (uint32_t)chan;
	r->data = sp_span_of(p, (size_t)len);
	return SP_OK;
}
