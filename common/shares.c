/* SPDX-License-Identifier: Apache-2.0 */
#include "common/shares.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define PREFIX "SPS1"
#define HEAD (SP_SHARE_SET + 4)
#define CHECK 4
#define BYTES_MAX (HEAD + SP_SHARE_SECRET_MAX + CHECK)
#define GROUP 5

/* ------------------------------------------------------------------ GF(2^8) */

uint8_t
sp_gf_mul(uint8_t a, uint8_t b)
{
	unsigned r = 0, x = a, y = b;

	for (unsigned i = 0; i < 8; i++) {
		r ^= x & (0U - (y & 1U));
		y >>= 1;
		x = (x << 1) ^ (0x11bU & (0U - (x >> 7)));
	}
	return (uint8_t)r;
}

/* a^254: the exponent is public, so is the order of the products. */
uint8_t
sp_gf_inv(uint8_t a)
{
	uint8_t square = a, r = 1;

	for (unsigned i = 1; i < 8; i++) {
		square = sp_gf_mul(square, square);
		r = sp_gf_mul(r, square);
	}
	return r;
}

/* ----------------------------------------------------------- split and join */

static enum sp_err
random_bytes(uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return SP_ERR_IO;
		p += got;
		n -= (size_t)got;
	}
	return SP_OK;
}

void
sp_share_wipe(struct sp_share *s, size_t count)
{
	explicit_bzero(s, count * sizeof(*s));
}

/* One byte of the secret: coeff[0] is it, the others are random. */
static enum sp_err
split_byte(uint8_t byte, size_t at, uint8_t k, uint8_t n, struct sp_share *out)
{
	uint8_t coeff[SP_SHARES_MAX];
	enum sp_err e;

	coeff[0] = byte;
	e = random_bytes(coeff + 1, (size_t)k - 1);
	for (uint8_t i = 0; e == SP_OK && i < n; i++) {
		uint8_t y = 0;

		for (uint8_t c = k; c-- > 0;)
			y = sp_gf_mul(y, (uint8_t)(i + 1)) ^ coeff[c];
		out[i].y[at] = y;
	}
	explicit_bzero(coeff, sizeof(coeff));
	return e;
}

enum sp_err
sp_shares_split(struct sp_span secret, uint8_t k, uint8_t n,
    struct sp_share *out)
{
	uint8_t set[SP_SHARE_SET];
	enum sp_err e;

	if (k < SP_SHARES_MIN || k > n || n > SP_SHARES_MAX || secret.n == 0 ||
	    secret.n > SP_SHARE_SECRET_MAX)
		return SP_ERR_INVAL;
	SP_TRY(random_bytes(set, sizeof(set)));
	for (uint8_t i = 0; i < n; i++) {
		out[i] = (struct sp_share){.k = k, .n = n,
		    .index = (uint8_t)(i + 1), .len = (uint8_t)secret.n};
		memcpy(out[i].set, set, sizeof(set));
	}
	e = SP_OK;
	for (size_t b = 0; e == SP_OK && b < secret.n; b++)
		e = split_byte(secret.p[b], b, k, n, out);
	if (e != SP_OK)
		sp_share_wipe(out, n);
	return e;
}

static bool
is_sane(const struct sp_share *s)
{
	return s->k >= SP_SHARES_MIN && s->k <= s->n && s->n <= SP_SHARES_MAX &&
	    s->index >= 1 && s->index <= s->n && s->len >= 1 &&
	    s->len <= SP_SHARE_SECRET_MAX;
}

static bool
is_of_set(const struct sp_share *a, const struct sp_share *b)
{
	return sp_span_eq(sp_span_of(a->set, SP_SHARE_SET),
	    sp_span_of(b->set, SP_SHARE_SET)) &&
	    a->k == b->k && a->n == b->n && a->len == b->len;
}

enum sp_err
sp_shares_check(const struct sp_share *s, size_t count, size_t *bad)
{
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (!is_sane(&s[i]))
			return SP_ERR_INVAL;
		if (!is_of_set(&s[0], &s[i]))
			return SP_ERR_PROTO;
		for (size_t j = 0; j < i; j++)
			if (s[j].index == s[i].index)
				return SP_ERR_EXISTS;
	}
	*bad = count;
	return count == 0 || count < s[0].k ? SP_ERR_AGAIN : SP_OK;
}

/* The polynomial through the first k shares, at x, into out. */
static void
interpolate(const struct sp_share *s, uint8_t x, uint8_t *out)
{
	memset(out, 0, s[0].len);
	for (uint8_t i = 0; i < s[0].k; i++) {
		uint8_t up = 1, down = 1, w;

		for (uint8_t j = 0; j < s[0].k; j++) {
			if (j == i)
				continue;
			up = sp_gf_mul(up, x ^ s[j].index);
			down = sp_gf_mul(down, s[i].index ^ s[j].index);
		}
		w = sp_gf_mul(up, sp_gf_inv(down));
		for (uint8_t b = 0; b < s[0].len; b++)
			out[b] ^= sp_gf_mul(w, s[i].y[b]);
	}
}

enum sp_err
sp_shares_join(const struct sp_share *s, size_t count,
    uint8_t secret[static SP_SHARE_SECRET_MAX], size_t *len, size_t *bad)
{
	uint8_t want[SP_SHARE_SECRET_MAX];
	enum sp_err e = SP_OK;

	SP_TRY(sp_shares_check(s, count, bad));
	for (size_t i = s[0].k; e == SP_OK && i < count; i++) {
		uint8_t diff = 0;

		interpolate(s, s[i].index, want);
		for (uint8_t b = 0; b < s[0].len; b++)
			diff |= want[b] ^ s[i].y[b];
		if (diff != 0) {
			*bad = i;
			e = SP_ERR_CRYPTO;
		}
	}
	explicit_bzero(want, sizeof(want));
	if (e != SP_OK)
		return e;
	interpolate(s, 0, secret);
	*len = s[0].len;
	return SP_OK;
}

/* ---------------------------------------------------------------- text form */

/* Bit by bit with a mask: a table would be read by secret bytes. */
uint32_t
sp_crc32c(const uint8_t *p, size_t n)
{
	uint32_t c = 0xffffffffU;

	for (size_t i = 0; i < n; i++) {
		c ^= p[i];
		for (unsigned b = 0; b < 8; b++)
			c = (c >> 1) ^ (0x82f63b78U & (0U - (c & 1U)));
	}
	return ~c;
}

/* Is low <= v <= high? All bits set, or none. */
static unsigned
within(unsigned v, unsigned low, unsigned high)
{
	return 0U - ((((low - 1U - v) & (v - high - 1U)) >> 31) & 1U);
}

static char
digit(unsigned v)
{
	return (char)((('A' + v) & within(v, 0, 25)) |
	    (('2' + v - 26) & within(v, 26, 31)));
}

/* Five bits; bit 5 is set for what is no digit. */
static unsigned
value(unsigned ch)
{
	unsigned upper = within(ch, 'A', 'Z'), lower = within(ch, 'a', 'z');
	unsigned num = within(ch, '2', '7');

	return ((ch - 'A') & upper) | ((ch - 'a') & lower) |
	    ((ch - '2' + 26) & num) | (0x20U & ~(upper | lower | num));
}

static enum sp_err
encode(const uint8_t *p, size_t n, bool grouped, struct sp_buf *out)
{
	size_t chars = (n * 8 + 4) / 5;

	SP_TRY(sp_buf_put(out, PREFIX, 4));
	for (size_t i = 0; i < chars; i++) {
		size_t bit = i * 5, at = bit / 8;
		unsigned two = (unsigned)p[at] << 8 |
		    (at + 1 < n ? p[at + 1] : 0U);
		char c = digit(two >> (11 - bit % 8) & 31U);

		if (grouped && i % GROUP == 0)
			SP_TRY(sp_buf_put(out, "-", 1));
		SP_TRY(sp_buf_put(out, &c, 1));
	}
	return SP_OK;
}

enum sp_err
sp_share_text(const struct sp_share *s, bool grouped, struct sp_buf *out)
{
	uint8_t b[BYTES_MAX];
	size_t n = HEAD + (size_t)s->len;
	uint32_t c;
	enum sp_err e;

	if (!is_sane(s))
		return SP_ERR_INVAL;
	memcpy(b, s->set, SP_SHARE_SET);
	b[SP_SHARE_SET] = s->k;
	b[SP_SHARE_SET + 1] = s->n;
	b[SP_SHARE_SET + 2] = s->index;
	b[SP_SHARE_SET + 3] = s->len;
	memcpy(b + HEAD, s->y, s->len);
	c = sp_crc32c(b, n);
	for (unsigned i = 0; i < CHECK; i++)
		b[n + i] = (uint8_t)(c >> (8 * i));
	e = encode(b, n + CHECK, grouped, out);
	explicit_bzero(b, sizeof(b));
	return e;
}

/* The characters without what people put between them, NUL-terminated. */
static enum sp_err
squeeze(struct sp_span text, char dst[static SP_SHARE_TEXT_MAX], size_t *n)
{
	*n = 0;
	for (size_t i = 0; i < text.n; i++) {
		char ch = (char)text.p[i];

		if (ch == '-' || ch == ' ' || ch == '\t' || ch == '\r' ||
		    ch == '\n')
			continue;
		if (*n + 1 >= SP_SHARE_TEXT_MAX)
			return SP_ERR_SYNTAX;
		dst[(*n)++] = ch;
	}
	dst[*n] = '\0';
	return SP_OK;
}

/* All bits are read before anything is judged. The bits after the last byte
 * must be zero: one share has one text. */
static enum sp_err
decode(const char *t, size_t chars, uint8_t b[static BYTES_MAX], size_t *n)
{
	unsigned acc = 0, bits = 0, bad = 0;

	*n = 0;
	for (size_t i = 0; i < chars; i++) {
		unsigned v = value((unsigned char)t[i]);

		bad |= v & 0x20U;
		acc = (acc << 5 | (v & 31U)) & 0xfffU;
		bits += 5;
		if (bits < 8)
			continue;
		if (*n == BYTES_MAX)
			return SP_ERR_SYNTAX;
		bits -= 8;
		b[(*n)++] = (uint8_t)(acc >> bits);
	}
	return bad == 0 && bits < 5 && (acc & ((1U << bits) - 1U)) == 0 ? SP_OK :
	    SP_ERR_SYNTAX;
}

static enum sp_err
from_bytes(const uint8_t *b, size_t n, struct sp_share *out)
{
	struct sp_share s = {0};
	uint32_t c, want = 0;

	if (n <= HEAD + CHECK || n != HEAD + CHECK + (size_t)b[HEAD - 1])
		return SP_ERR_SYNTAX;
	c = sp_crc32c(b, n - CHECK);
	for (unsigned i = 0; i < CHECK; i++)
		want |= (uint32_t)b[n - CHECK + i] << (8 * i);
	if (c != want)
		return SP_ERR_CRYPTO;
	memcpy(s.set, b, SP_SHARE_SET);
	s.k = b[SP_SHARE_SET];
	s.n = b[SP_SHARE_SET + 1];
	s.index = b[SP_SHARE_SET + 2];
	s.len = b[SP_SHARE_SET + 3];
	if (!is_sane(&s))
		return SP_ERR_INVAL;
	memcpy(s.y, b + HEAD, s.len);
	*out = s;
	sp_share_wipe(&s, 1);
	return SP_OK;
}

static bool
has_prefix(const char *t, size_t n, size_t prefix)
{
	for (size_t i = 0; i < prefix; i++)
		if (i >= n || (t[i] & ~0x20) != (PREFIX[i] & ~0x20))
			return false;
	return true;
}

enum sp_err
sp_share_parse(struct sp_span text, struct sp_share *s)
{
	char t[SP_SHARE_TEXT_MAX];
	uint8_t b[BYTES_MAX];
	size_t chars, n;
	enum sp_err e = squeeze(text, t, &chars);

	if (e == SP_OK && !has_prefix(t, chars, 3))
		e = SP_ERR_SYNTAX;
	else if (e == SP_OK && (chars < 4 || t[3] != PREFIX[3]))
		e = SP_ERR_UNSUPPORTED;
	if (e == SP_OK)
		e = decode(t + 4, chars - 4, b, &n);
	if (e == SP_OK)
		e = from_bytes(b, n, s);
	explicit_bzero(t, sizeof(t));
	explicit_bzero(b, sizeof(b));
	return e;
}
