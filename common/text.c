/* SPDX-License-Identifier: Apache-2.0 */
#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <wchar.h>

/* Decodes one character; returns its length, 0 when the bytes are broken. */
static size_t
utf8_next(struct sp_span s, uint32_t *cp)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n;
	uint32_t c;

	if (s.n == 0)
		return 0;
	c = s.p[0];
	if (c < 0x80) {
		*cp = c;
		return 1;
	}
	n = c >= 0xf0 && c <= 0xf4 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 :
	    c >= 0xc2 && c < 0xe0 ? 2 : 0;
	if (n == 0 || s.n < n)
		return 0;
	c &= 0x7fU >> n;
	for (size_t i = 1; i < n; i++) {
		if ((s.p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s.p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*cp = c;
	return n;
}

bool
sp_utf8_is_valid(struct sp_span s)
{
	uint32_t cp;
	size_t n;

	for (; s.n > 0; s.p += n, s.n -= n)
		if ((n = utf8_next(s, &cp)) == 0)
			return false;
	return true;
}

struct range {
	uint32_t lo, hi;
};

static bool
in_ranges(uint32_t c, const struct range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c >= r[i].lo && c <= r[i].hi)
			return true;
	return false;
}

/* Characters that change how others are shown, or are not shown at all. */
static bool
is_hostile(uint32_t c)
{
	static const struct range r[] = {{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad},
	    {0x61c, 0x61c}, {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f},
	    {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164},
	    {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0},
	    {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff}};

	return in_ranges(c, r, sizeof(r) / sizeof(r[0]));
}

static bool
is_wide(uint32_t c)
{
	static const struct range r[] = {{0x1100, 0x115f}, {0x231a, 0x231b},
	    {0x2329, 0x232a}, {0x2e80, 0x303e}, {0x3041, 0x33ff},
	    {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xa000, 0xa4cf},
	    {0xa960, 0xa97f}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
	    {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6},
	    {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff},
	    {0x20000, 0x3fffd}};

	return in_ranges(c, r, sizeof(r) / sizeof(r[0]));
}

static bool
is_combining(uint32_t c)
{
	static const struct range r[] = {{0x300, 0x36f}, {0x483, 0x489},
	    {0x591, 0x5bd}, {0x610, 0x61a}, {0x64b, 0x65f}, {0xe31, 0xe31},
	    {0xe34, 0xe3a}, {0xe47, 0xe4e}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
	    {0x20d0, 0x20ff}, {0x302a, 0x302d}, {0x3099, 0x309a},
	    {0xfe20, 0xfe2f}};

	return in_ranges(c, r, sizeof(r) / sizeof(r[0]));
}

char *
sp_vis(char *dst, size_t cap, struct sp_span s)
{
	size_t o = 0;
	uint32_t cp = 0;

	SP_ASSERT(cap >= 16);
	while (s.n > 0) {
		char t[16];
		size_t n = utf8_next(s, &cp), w;

		if (n == 0) {
			n = 1;
			w = (size_t)snprintf(t, sizeof(t), "\\x%02x", s.p[0]);
		} else if (cp == '\\') {
			w = (size_t)snprintf(t, sizeof(t), "\\\\");
		} else if (is_hostile(cp)) {
			w = (size_t)snprintf(t, sizeof(t),
			    cp < 0x100 ? "\\x%02x" : "\\u{%04x}", cp);
		} else {
			memcpy(t, s.p, n);
			w = n;
		}
		if (o + w + 4 > cap) {
			memcpy(dst + o, "...", 3);
			o += 3;
			break;
		}
		memcpy(dst + o, t, w);
		o += w;
		s.p += n;
		s.n -= n;
	}
	dst[o] = '\0';
	return dst;
}

const char *
sp_vis_tmp(struct sp_span s)
{
	static char ring[8][512];
	static unsigned next;

	next = (next + 1) % 8;
	return sp_vis(ring[next], sizeof(ring[next]), s);
}

const char *
sp_vis_str(const char *s)
{
	return sp_vis_tmp(sp_span_str(s));
}

size_t
sp_text_columns(struct sp_span s)
{
	size_t cols = 0, n;
	uint32_t cp = 0;

	for (; s.n > 0; s.p += n, s.n -= n) {
		n = utf8_next(s, &cp);
		if (n == 0) {
			n = 1;
			cols++;
		} else if (!is_combining(cp)) {
			cols += is_wide(cp) ? 2 : 1;
		}
	}
	return cols;
}

void
sp_hex(char *dst, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = '\0';
}

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

enum sp_err
sp_unhex(uint8_t *dst, size_t n, struct sp_span hex)
{
	if (hex.n != 2 * n)
		return SP_ERR_INVAL;
	for (size_t i = 0; i < n; i++) {
		int a = hex_digit(hex.p[2 * i]), b = hex_digit(hex.p[2 * i + 1]);

		if (a < 0 || b < 0)
			return SP_ERR_INVAL;
		dst[i] = (uint8_t)(a << 4 | b);
	}
	return SP_OK;
}

static const char b64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum sp_err
sp_base64(struct sp_buf *out, struct sp_span in)
{
	for (size_t i = 0; i < in.n; i += 3) {
		size_t k = in.n - i < 3 ? in.n - i : 3;
		uint32_t v = (uint32_t)in.p[i] << 16;
		char t[4];

		v |= k > 1 ? (uint32_t)in.p[i + 1] << 8 : 0;
		v |= k > 2 ? in.p[i + 2] : 0;
		t[0] = b64[v >> 18];
		t[1] = b64[v >> 12 & 63];
		t[2] = k > 1 ? b64[v >> 6 & 63] : '=';
		t[3] = k > 2 ? b64[v & 63] : '=';
		SP_TRY(sp_buf_put(out, t, 4));
	}
	return SP_OK;
}

enum sp_err
sp_unbase64(struct sp_buf *out, struct sp_span in)
{
	if (in.n % 4 != 0)
		return SP_ERR_INVAL;
	for (size_t i = 0; i < in.n; i += 4) {
		uint32_t v = 0;
		size_t pad = 0;
		uint8_t t[3];

		for (size_t j = 0; j < 4; j++) {
			uint8_t c = in.p[i + j];
			const char *at = c == 0 ? NULL : strchr(b64, c);

			if (c == '=' && i + 4 == in.n && j >= 2)
				pad++;
			else if (at == NULL || pad > 0)
				return SP_ERR_INVAL;
			v = v << 6 | (at == NULL ? 0 : (uint32_t)(at - b64));
		}
		t[0] = (uint8_t)(v >> 16);
		t[1] = (uint8_t)(v >> 8);
		t[2] = (uint8_t)v;
		if ((pad == 1 && t[2] != 0) || (pad == 2 && (t[1] | t[2]) != 0))
			return SP_ERR_INVAL;
		SP_TRY(sp_buf_put(out, t, 3 - pad));
	}
	return SP_OK;
}

enum sp_err
sp_base32(struct sp_buf *out, struct sp_span in)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	uint32_t acc = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < in.n; i++) {
		acc = (acc << 8 | in.p[i]) & 0xfff;
		bits += 8;
		while (bits >= 5) {
			bits -= 5;
			SP_TRY(sp_buf_put(out, &alphabet[acc >> bits & 31], 1));
		}
	}
	if (bits > 0)
		return sp_buf_put(out, &alphabet[acc << (5 - bits) & 31], 1);
	return SP_OK;
}

void
sp_uuid_make(uint8_t u[static SP_UUID_BYTES])
{
	ssize_t n;

	do
		n = getrandom(u, SP_UUID_BYTES, 0);
	while (n < 0 && errno == EINTR);
	SP_ASSERT(n == SP_UUID_BYTES);
	u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
	u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
}

void
sp_uuid_text(char t[static SP_UUID_TEXT], const uint8_t u[static SP_UUID_BYTES])
{
	char h[2 * SP_UUID_BYTES + 1];

	sp_hex(h, u, SP_UUID_BYTES);
	snprintf(t, SP_UUID_TEXT, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12,
	    h + 16, h + 20);
}

enum sp_err
sp_uuid_parse(uint8_t u[static SP_UUID_BYTES], struct sp_span text)
{
	static const uint8_t dash[] = {8, 13, 18, 23};
	uint8_t h[32];
	size_t n = 0;

	if (text.n != SP_UUID_TEXT - 1)
		return SP_ERR_INVAL;
	for (size_t i = 0; i < text.n; i++) {
		if (memchr(dash, (int)i, sizeof(dash)) != NULL) {
			if (text.p[i] != '-')
				return SP_ERR_INVAL;
			continue;
		}
		h[n++] = text.p[i];
	}
	return sp_unhex(u, SP_UUID_BYTES, sp_span_of(h, n));
}

bool
sp_uuid_is_nil(const uint8_t u[static SP_UUID_BYTES])
{
	uint8_t any = 0;

	for (size_t i = 0; i < SP_UUID_BYTES; i++)
		any |= u[i];
	return any == 0;
}

bool
sp_name_is_valid(struct sp_span s)
{
	if (s.n == 0 || s.n > SP_NAME_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!alnum && (i == 0 || (c != '.' && c != '_' && c != '-')))
			return false;
	}
	return true;
}

static int64_t
clock_us(clockid_t id)
{
	struct timespec ts;

	SP_ASSERT(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
sp_now_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t
sp_boot_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

/* Days since 1970 to a date of the proleptic Gregorian calendar. Our own,
 * because gmtime_r(3) reads the zone files, which a sandbox kills for. */
static void
civil(int64_t days, int64_t *y, unsigned *m, unsigned *d)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	unsigned doe = (unsigned)(z - era * 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153;

	*d = doy - (153 * mp + 2) / 5 + 1;
	*m = mp < 10 ? mp + 3 : mp - 9;
	*y = (int64_t)yoe + era * 400 + (*m <= 2);
}

void
sp_time_text(char t[static SP_TIME_TEXT], int64_t us, bool micros)
{
	int64_t s = us / 1000000, rest = us % 1000000, y;
	unsigned m, d, sec;
	int n;

	if (rest < 0) {
		rest += 1000000;
		s--;
	}
	sec = (unsigned)((s % 86400 + 86400) % 86400);
	civil((s - (int64_t)sec) / 86400, &y, &m, &d);
	if (y < 0 || y > 9999) {
		snprintf(t, SP_TIME_TEXT, "?");
		return;
	}
	n = snprintf(t, SP_TIME_TEXT, "%04d-%02u-%02uT%02u:%02u:%02u", (int)y, m,
	    d, sec / 3600, sec / 60 % 60, sec % 60);
	if (micros)
		snprintf(t + n, SP_TIME_TEXT - (size_t)n, ".%06dZ", (int)rest);
	else
		snprintf(t + n, SP_TIME_TEXT - (size_t)n, "Z");
}

void
sp_duration_text(char t[static SP_TIME_TEXT], int64_t us)
{
	long long s = us < 0 ? 0 : (long long)(us / 1000000);

	if (s >= 86400)
		snprintf(t, SP_TIME_TEXT, s % 86400 >= 3600 ? "%lldd %lldh" : "%lldd",
		    s / 86400, s % 86400 / 3600);
	else if (s >= 3600)
		snprintf(t, SP_TIME_TEXT, s % 3600 >= 60 ? "%lldh %lldm" : "%lldh",
		    s / 3600, s % 3600 / 60);
	else if (s >= 60)
		snprintf(t, SP_TIME_TEXT, s % 60 > 0 ? "%lldm %llds" : "%lldm",
		    s / 60, s % 60);
	else
		snprintf(t, SP_TIME_TEXT, "%llds", s);
}

enum sp_err
sp_duration_parse(struct sp_span s, int64_t *us)
{
	uint64_t total = 0;

	if (s.n == 0 || s.n > 32)
		return SP_ERR_INVAL;
	while (s.n > 0) {
		uint64_t v = 0, unit;
		size_t d = 0;

		while (d < s.n && s.p[d] >= '0' && s.p[d] <= '9' && d < 9)
			v = v * 10 + (uint64_t)(s.p[d++] - '0');
		if (d == 0 || d == s.n)
			return SP_ERR_INVAL;
		switch (s.p[d]) {
		case 's': unit = 1; break;
		case 'm': unit = 60; break;
		case 'h': unit = 3600; break;
		case 'd': unit = 86400; break;
		default: return SP_ERR_INVAL;
		}
		if (v > 3660ULL * 86400 / unit)
			return SP_ERR_TOOBIG;
		total += v * unit;
		s.p += d + 1;
		s.n -= d + 1;
	}
	if (total > 3660ULL * 86400)
		return SP_ERR_TOOBIG;
	*us = (int64_t)total * 1000000;
	return SP_OK;
}

enum sp_err
sp_u64_parse(struct sp_span s, uint64_t max, uint64_t *v)
{
	uint64_t x = 0;

	if (s.n == 0 || s.n > 20)
		return SP_ERR_INVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return SP_ERR_INVAL;
		if (__builtin_mul_overflow(x, 10, &x) ||
		    __builtin_add_overflow(x, (uint64_t)(s.p[i] - '0'), &x))
			return SP_ERR_TOOBIG;
	}
	if (x > max)
		return SP_ERR_TOOBIG;
	*v = x;
	return SP_OK;
}

bool
sp_span_word(struct sp_span *s, struct sp_span *w)
{
	while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t'))
		s->p++, s->n--;
	*w = sp_span_of(s->p, 0);
	while (s->n > 0 && s->p[0] != ' ' && s->p[0] != '\t')
		s->p++, s->n--, w->n++;
	return w->n > 0;
}
