/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

struct sp_span
sp_span_str(const char *s)
{
	return sp_span_of(s, s == NULL ? 0 : strlen(s));
}

bool
sp_span_eq(struct sp_span a, struct sp_span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool
sp_span_is(struct sp_span a, const char *s)
{
	return sp_span_eq(a, sp_span_str(s));
}

enum sp_err
sp_span_cstr(struct sp_span s, char *dst, size_t cap)
{
	SP_ASSERT(cap > 0);
	dst[0] = '\0';
	if (s.n >= cap)
		return SP_ERR_TOOBIG;
	if (s.n > 0 && memchr(s.p, 0, s.n) != NULL)
		return SP_ERR_INVAL;
	if (s.n > 0)
		memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return SP_OK;
}

char *
sp_span_dup(struct sp_span s)
{
	char *d;

	if (s.n > 0 && memchr(s.p, 0, s.n) != NULL)
		return NULL;
	if ((d = malloc(s.n + 1)) == NULL)
		return NULL;
	if (s.n > 0)
		memcpy(d, s.p, s.n);
	d[s.n] = '\0';
	return d;
}

void
sp_buf_init(struct sp_buf *b, size_t max_bytes)
{
	*b = (struct sp_buf){.max = max_bytes};
}

static void
check(const struct sp_buf *b)
{
	SP_ASSERT(b->off <= b->cap && b->len <= b->cap - b->off);
	SP_ASSERT(b->cap <= b->max && (b->p != NULL || b->cap == 0));
}

/* Decoders copy in whole words: a little may stand behind what they count. */
#define BEHIND 64

static void
got_wet(struct sp_buf *b, size_t n)
{
	if (n > b->cap)
		n = b->cap;
	if (n > b->wet)
		b->wet = n;
	b->lent = 0;
}

static void
wipe(struct sp_buf *b)
{
	if (b->p == NULL)
		return;
	got_wet(b, b->lent);
	explicit_bzero(b->p, b->wet);
	free(b->p);
}

void
sp_buf_fini(struct sp_buf *b)
{
	wipe(b);
	*b = (struct sp_buf){.max = b->max};
}

void
sp_buf_reset(struct sp_buf *b)
{
	check(b);
	if (b->p != NULL)
		explicit_bzero(b->p, b->off + b->len);
	b->off = b->len = 0;
}

void
sp_buf_consume(struct sp_buf *b, size_t n)
{
	check(b);
	SP_ASSERT(n <= b->len);
	b->off += n;
	b->len -= n;
	if (b->len == 0)
		b->off = 0;
}

struct sp_span
sp_buf_span(const struct sp_buf *b)
{
	check(b);
	return sp_span_of(b->p == NULL ? NULL : b->p + b->off, b->len);
}

static enum sp_err
grow(struct sp_buf *b, size_t need)
{
	size_t cap = b->cap < 256 ? 256 : b->cap;
	uint8_t *p;

	while (cap < need)
		cap *= 2;
	if (cap > b->max)
		cap = b->max;
	if ((p = malloc(cap)) == NULL)
		return SP_ERR_NOMEM;
	if (b->len > 0)
		memcpy(p, b->p + b->off, b->len);
	wipe(b);
	b->p = p;
	b->off = 0;
	b->cap = cap;
	b->wet = b->len;
	b->lent = 0;
	return SP_OK;
}

enum sp_err
sp_buf_reserve(struct sp_buf *b, size_t n, uint8_t **at)
{
	check(b);
	if (n > b->max || b->len > b->max - n)
		return SP_ERR_TOOBIG;
	got_wet(b, b->lent);
	if (b->cap - b->off - b->len < n) {
		if (b->cap >= b->len + n && b->off >= b->len) {
			memcpy(b->p, b->p + b->off, b->len);
			explicit_bzero(b->p + b->off, b->len);
			b->off = 0;
		} else {
			SP_TRY(grow(b, b->len + n));
		}
	}
	b->lent = b->off + b->len + n;
	*at = b->p + b->off + b->len;
	return SP_OK;
}

void
sp_buf_commit(struct sp_buf *b, size_t n)
{
	check(b);
	SP_ASSERT(n <= b->cap - b->off - b->len);
	b->len += n;
	got_wet(b, b->off + b->len + BEHIND);
}

enum sp_err
sp_buf_put(struct sp_buf *b, const void *p, size_t n)
{
	uint8_t *at;

	if (n == 0)
		return SP_OK;
	SP_TRY(sp_buf_reserve(b, n, &at));
	memcpy(at, p, n);
	sp_buf_commit(b, n);
	return SP_OK;
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

static enum sp_err
put_le(struct sp_buf *b, uint64_t v, size_t n)
{
	uint8_t t[8];

	le_put(t, v, n);
	return sp_buf_put(b, t, n);
}

enum sp_err
sp_buf_put_u8(struct sp_buf *b, uint8_t v)
{
	return put_le(b, v, 1);
}

enum sp_err
sp_buf_put_u16(struct sp_buf *b, uint16_t v)
{
	return put_le(b, v, 2);
}

enum sp_err
sp_buf_put_u32(struct sp_buf *b, uint32_t v)
{
	return put_le(b, v, 4);
}

enum sp_err
sp_buf_put_u64(struct sp_buf *b, uint64_t v)
{
	return put_le(b, v, 8);
}

enum sp_err
sp_buf_put_bytes(struct sp_buf *b, struct sp_span s)
{
	if (s.n > UINT32_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put_u32(b, (uint32_t)s.n));
	return sp_buf_put(b, s.p, s.n);
}

enum sp_err
sp_buf_printf(struct sp_buf *b, const char *fmt, ...)
{
	va_list ap;
	uint8_t *at;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_reserve(b, (size_t)n + 1, &at));
	va_start(ap, fmt);
	vsnprintf((char *)at, (size_t)n + 1, fmt, ap);
	va_end(ap);
	sp_buf_commit(b, (size_t)n);
	return SP_OK;
}

enum sp_err
sp_get(struct sp_span *s, size_t n, const uint8_t **p)
{
	if (s->n < n)
		return SP_ERR_PROTO;
	*p = s->p;
	s->p = n == 0 ? s->p : s->p + n;
	s->n -= n;
	return SP_OK;
}

static enum sp_err
get_le(struct sp_span *s, size_t n, uint64_t *v)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, n, &p));
	*v = le_get(p, n);
	return SP_OK;
}

#define GET_LE(name, type)                                                    \
	enum sp_err sp_get_##name(struct sp_span *s, type *v)                 \
	{                                                                     \
		uint64_t x;                                                   \
		SP_TRY(get_le(s, sizeof(*v), &x));                            \
		*v = (type)x;                                                 \
		return SP_OK;                                                 \
	}
GET_LE(u8, uint8_t)
GET_LE(u16, uint16_t)
GET_LE(u32, uint32_t)
GET_LE(u64, uint64_t)

static enum sp_err
take(struct sp_span *s, uint32_t n, size_t cap, struct sp_span *out)
{
	const uint8_t *p;

	if (n > cap)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_get(s, n, &p));
	*out = sp_span_of(p, n);
	return SP_OK;
}

enum sp_err
sp_get_bytes(struct sp_span *s, size_t cap, struct sp_span *out)
{
	uint32_t n;

	SP_TRY(sp_get_u32(s, &n));
	return take(s, n, cap, out);
}

enum sp_err
sp_get_str(struct sp_span *s, size_t cap, struct sp_span *out)
{
	struct sp_span t;

	SP_TRY(sp_get_bytes(s, cap, &t));
	if (!sp_utf8_is_valid(t) || (t.n > 0 && memchr(t.p, 0, t.n) != NULL))
		return SP_ERR_PROTO;
	*out = t;
	return SP_OK;
}

enum sp_err
sp_get_fixed(struct sp_span *s, uint8_t *dst, size_t n)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, n, &p));
	memcpy(dst, p, n);
	return SP_OK;
}

enum sp_err
sp_get_text(struct sp_span *s, char *dst, size_t cap)
{
	struct sp_span t;

	SP_TRY(sp_get_str(s, cap - 1, &t));
	return sp_span_cstr(t, dst, cap);
}

enum sp_err
sp_get_time(struct sp_span *s, int64_t *us)
{
	uint64_t u;

	SP_TRY(sp_get_u64(s, &u));
	if (u > INT64_MAX)
		return SP_ERR_PROTO;
	*us = (int64_t)u;
	return SP_OK;
}

static enum sp_err
put_be(struct sp_buf *b, uint64_t v, size_t n)
{
	uint8_t t[8];

	for (size_t i = 0; i < n; i++)
		t[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
	return sp_buf_put(b, t, n);
}

static enum sp_err
get_be(struct sp_span *s, size_t n, uint64_t *v)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, n, &p));
	*v = 0;
	for (size_t i = 0; i < n; i++)
		*v = *v << 8 | p[i];
	return SP_OK;
}

enum sp_err
sp_buf_put_ssh_u32(struct sp_buf *b, uint32_t v)
{
	return put_be(b, v, 4);
}

enum sp_err
sp_buf_put_ssh_u64(struct sp_buf *b, uint64_t v)
{
	return put_be(b, v, 8);
}

enum sp_err
sp_buf_put_ssh_string(struct sp_buf *b, struct sp_span s)
{
	if (s.n > UINT32_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put_ssh_u32(b, (uint32_t)s.n));
	return sp_buf_put(b, s.p, s.n);
}

enum sp_err
sp_get_ssh_u32(struct sp_span *s, uint32_t *v)
{
	uint64_t x;

	SP_TRY(get_be(s, 4, &x));
	*v = (uint32_t)x;
	return SP_OK;
}

enum sp_err
sp_get_ssh_u64(struct sp_span *s, uint64_t *v)
{
	return get_be(s, 8, v);
}

enum sp_err
sp_get_ssh_string(struct sp_span *s, size_t cap, struct sp_span *out)
{
	uint32_t n;

	SP_TRY(sp_get_ssh_u32(s, &n));
	return take(s, n, cap, out);
}
