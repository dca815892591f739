/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/buf.c */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

Test(buf, grows_to_its_cap_and_not_beyond)
{
	SP_BUF_AUTO b = {.max = 1000};
	uint8_t *at;

	for (int i = 0; i < 1000; i++)
		cr_assert(sp_buf_put_u8(&b, (uint8_t)i) == SP_OK);
	cr_assert(sp_buf_put_u8(&b, 0) == SP_ERR_TOOBIG);
	cr_assert(sp_buf_reserve(&b, 1, &at) == SP_ERR_TOOBIG);
	cr_assert(sp_buf_reserve(&b, SIZE_MAX, &at) == SP_ERR_TOOBIG);
	cr_assert(b.len == 1000 && b.cap <= b.max);
	for (int i = 0; i < 1000; i++)
		cr_assert(sp_buf_span(&b).p[i] == (uint8_t)i);
}

Test(buf, room_is_reused_after_consume)
{
	SP_BUF_AUTO b = {.max = 512};
	uint8_t t[300] = {1};
	size_t cap;

	cr_assert(sp_buf_put(&b, t, 300) == SP_OK);
	sp_buf_consume(&b, 290);
	cap = b.cap;
	cr_assert(sp_buf_put(&b, t, 300) == SP_OK);
	cr_assert(b.len == 310 && b.cap == cap && b.off == 0);
	sp_buf_consume(&b, b.len);
	cr_assert(b.len == 0 && b.off == 0);
}

Test(buf, moved_bytes_are_wiped)
{
	SP_BUF_AUTO b = {.max = 256};
	uint8_t secret[100], *at;

	memset(secret, 0xaa, sizeof(secret));
	cr_assert(sp_buf_put(&b, secret, 100) == SP_OK);
	cr_assert(sp_buf_put(&b, secret, 100) == SP_OK);
	sp_buf_consume(&b, 150);
	cr_assert(sp_buf_reserve(&b, 120, &at) == SP_OK);
	cr_assert(b.off == 0 && b.len == 50);
	for (size_t i = 150; i < 200; i++)
		cr_assert(b.p[i] == 0, "byte %zu is still there", i);
}

Test(buf, reset_wipes_and_keeps_the_room)
{
	SP_BUF_AUTO b = {.max = 64};
	uint8_t *p;

	cr_assert(sp_buf_put(&b, "secret", 6) == SP_OK);
	p = b.p;
	sp_buf_reset(&b);
	cr_assert(b.len == 0 && b.p == p && memcmp(p, "\0\0\0\0\0\0", 6) == 0);
	sp_buf_fini(&b);
	cr_assert(b.p == NULL && b.cap == 0 && b.max == 64);
	cr_assert(sp_buf_put(&b, "again", 5) == SP_OK);
}

/* malloc gives the block of a wiped buffer again: what it held must be gone, also
 * what was written behind what was committed. */
Test(buf, what_may_be_written_is_wiped_and_no_more_is_touched)
{
	struct sp_buf b = {.max = 64 << 10};
	uint8_t *at, seen = 0;

	cr_assert(sp_buf_reserve(&b, b.max, &at) == SP_OK);
	memset(at, 0, b.max);
	sp_buf_commit(&b, 100);
	cr_assert(b.wet >= 100 && b.wet < 300 && b.lent == 0);
	cr_assert(sp_buf_reserve(&b, 4900, &at) == SP_OK && b.lent == 5000);
	memset(at, 0xaa, 4900);
	/* It was not committed, and is not forgotten. */
	cr_assert(sp_buf_reserve(&b, 10, &at) == SP_OK && b.wet == 5000);
	sp_buf_commit(&b, 10);
	sp_buf_consume(&b, 110);
	cr_assert(b.len == 0 && b.wet == 5000);
	cr_assert(sp_buf_reserve(&b, 6000, &at) == SP_OK && at == b.p);
	memset(at, 0xaa, 6000);
	sp_buf_fini(&b);
	cr_assert((at = malloc(64 << 10)) != NULL);
	for (size_t i = 16; i < 6000; i++)	/* malloc's own words before */
		seen |= ((volatile uint8_t *)at)[i];
	cr_assert(seen == 0, "%02x", seen);
	free(at);
}

Test(buf, integers_are_little_endian_and_come_back)
{
	SP_BUF_AUTO b = {.max = 64};
	struct sp_span s;
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	cr_assert(sp_buf_put_u8(&b, 0x01) == SP_OK);
	cr_assert(sp_buf_put_u16(&b, 0x0203) == SP_OK);
	cr_assert(sp_buf_put_u32(&b, 0x04050607) == SP_OK);
	cr_assert(sp_buf_put_u64(&b, 0x08090a0b0c0d0e0fULL) == SP_OK);
	s = sp_buf_span(&b);
	cr_assert(memcmp(s.p, "\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a"
	    "\x09\x08", 15) == 0);
	cr_assert(sp_get_u8(&s, &v8) == SP_OK && v8 == 1);
	cr_assert(sp_get_u16(&s, &v16) == SP_OK && v16 == 0x0203);
	cr_assert(sp_get_u32(&s, &v32) == SP_OK && v32 == 0x04050607);
	cr_assert(sp_get_u64(&s, &v64) == SP_OK && v64 == 0x08090a0b0c0d0e0fULL);
	v8 = 77;
	cr_assert(sp_get_u8(&s, &v8) == SP_ERR_PROTO && v8 == 77);
}

Test(buf, ssh_forms_are_big_endian)
{
	SP_BUF_AUTO b = {.max = 64};
	struct sp_span s, t;
	uint32_t v32;
	uint64_t v64;

	cr_assert(sp_buf_put_ssh_u32(&b, 0x01020304) == SP_OK);
	cr_assert(sp_buf_put_ssh_u64(&b, 0x05060708090a0b0cULL) == SP_OK);
	cr_assert(sp_buf_put_ssh_string(&b, sp_span_str("ok")) == SP_OK);
	s = sp_buf_span(&b);
	cr_assert(memcmp(s.p, "\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c\0\0\0\2ok", 18) == 0);
	cr_assert(sp_get_ssh_u32(&s, &v32) == SP_OK && v32 == 0x01020304);
	cr_assert(sp_get_ssh_u64(&s, &v64) == SP_OK && v64 == 0x05060708090a0b0cULL);
	cr_assert(sp_get_ssh_string(&s, 2, &t) == SP_OK && sp_span_is(t, "ok"));
	s = sp_span_of("\0\0\0\3ok", 6);
	cr_assert(sp_get_ssh_string(&s, 10, &t) == SP_ERR_PROTO);
	s = sp_span_of("\0\0\0\3okk", 7);
	cr_assert(sp_get_ssh_string(&s, 2, &t) == SP_ERR_TOOBIG);
}

Test(buf, counted_bytes_keep_to_their_cap)
{
	SP_BUF_AUTO b = {.max = 64};
	struct sp_span s, t = {0};

	cr_assert(sp_buf_put_bytes(&b, sp_span_str("abc")) == SP_OK);
	s = sp_buf_span(&b);
	cr_assert(sp_get_bytes(&s, 2, &t) == SP_ERR_TOOBIG);
	s = sp_buf_span(&b);
	cr_assert(sp_get_bytes(&s, 3, &t) == SP_OK && sp_span_is(t, "abc") && s.n == 0);
	s = sp_buf_span(&b);
	s.n--;
	cr_assert(sp_get_bytes(&s, 3, &t) == SP_ERR_PROTO);
	s = sp_span_of("\xff\xff\xff\xff", 4);
	cr_assert(sp_get_bytes(&s, SIZE_MAX, &t) == SP_ERR_PROTO);
}

Test(buf, texts_without_nul_and_in_utf8_only)
{
	struct sp_span s, t;

	s = sp_span_of("\3\0\0\0a\0b", 7);
	cr_assert(sp_get_str(&s, 9, &t) == SP_ERR_PROTO);
	s = sp_span_of("\2\0\0\0\xc0\x80", 6);
	cr_assert(sp_get_str(&s, 9, &t) == SP_ERR_PROTO);
	s = sp_span_of("\0\0\0\0", 4);
	cr_assert(sp_get_str(&s, 9, &t) == SP_OK && t.n == 0);
}

Test(buf, spans_and_c_strings)
{
	char d[4], *k;

	cr_assert(sp_span_str(NULL).n == 0);
	cr_assert(sp_span_eq(sp_span_str(""), sp_span_of(NULL, 0)));
	cr_assert(!sp_span_is(sp_span_str("ab"), "a"));
	cr_assert(sp_span_cstr(sp_span_str("abc"), d, 4) == SP_OK &&
	    strcmp(d, "abc") == 0);
	cr_assert(sp_span_cstr(sp_span_str("abcd"), d, 4) == SP_ERR_TOOBIG &&
	    d[0] == '\0');
	cr_assert(sp_span_cstr(sp_span_of("a\0b", 3), d, 4) == SP_ERR_INVAL &&
	    d[0] == '\0');
	cr_assert(sp_span_dup(sp_span_of("a\0b", 3)) == NULL);
	k = sp_span_dup(sp_span_str("abc"));
	cr_assert(k != NULL && strcmp(k, "abc") == 0);
	free(k);
}

Test(buf, printf_counts_no_nul_and_keeps_to_the_cap)
{
	SP_BUF_AUTO b = {.max = 8};

	cr_assert(sp_buf_printf(&b, "%s", "abc") == SP_OK && b.len == 3);
	cr_assert(sp_buf_printf(&b, "%s", "defg") == SP_OK && b.len == 7);
	cr_assert(sp_buf_printf(&b, "%s", "h") == SP_ERR_TOOBIG && b.len == 7);
	cr_assert(sp_span_is(sp_buf_span(&b), "abcdefg"));
}
