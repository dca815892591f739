/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/text.c common/err.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

static const char *
vis(const char *s, size_t n)
{
	static char t[256];

	return sp_vis(t, sizeof(t), sp_span_of(s, n));
}

Test(text, vis_encodes_every_control_character)
{
	for (unsigned c = 0; c < 0x20; c++) {
		char in[] = {'a', (char)c, 'b'}, want[16];

		snprintf(want, sizeof(want), "a\\x%02xb", c);
		cr_assert(strcmp(vis(in, 3), want) == 0, "%02x", c);
	}
	cr_assert(strcmp(vis("\x7f", 1), "\\x7f") == 0);
	for (unsigned c = 0x80; c < 0xa0; c++) {
		char in[] = {(char)0xc2, (char)c}, want[16];

		snprintf(want, sizeof(want), "\\x%02x", c);
		cr_assert(strcmp(vis(in, 2), want) == 0, "%02x", c);
	}
}

Test(text, vis_encodes_what_turns_or_hides_text)
{
	static const struct {
		const char *in, *out;
	} t[] = {{"\u202e", "\\u{202e}"}, {"\u2066", "\\u{2066}"},
	    {"\u200b", "\\u{200b}"}, {"\u200f", "\\u{200f}"},
	    {"\u061c", "\\u{061c}"}, {"\ufeff", "\\u{feff}"},
	    {"\u00ad", "\\xad"}, {"\u2028", "\\u{2028}"},
	    {"\U000e0041", "\\u{e0041}"}, {"\u3164", "\\u{3164}"}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		cr_assert(strcmp(vis(t[i].in, strlen(t[i].in)), t[i].out) == 0,
		    "%s", t[i].out);
}

Test(text, vis_keeps_what_people_write)
{
	static const char *const same[] = {"plain ASCII, 100%", "維運請求：核准",
	    "café", "日本語テキスト", "🔒", "a b"};

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		cr_assert(strcmp(vis(same[i], strlen(same[i])), same[i]) == 0);
	cr_assert(strcmp(vis("\\x1b", 4), "\\\\x1b") == 0,
	    "what was encoded and what looked so stay apart");
}

Test(text, vis_shows_broken_utf8_byte_by_byte)
{
	cr_assert(strcmp(vis("\xff", 1), "\\xff") == 0);
	cr_assert(strcmp(vis("\xc0\x80", 2), "\\xc0\\x80") == 0);
	cr_assert(strcmp(vis("\xe6\xa0", 2), "\\xe6\\xa0") == 0);
	cr_assert(strcmp(vis("\xed\xa0\x80z", 4), "\\xed\\xa0\\x80z") == 0);
	cr_assert(strcmp(vis("\xf4\x90\x80\x80", 4), "\\xf4\\x90\\x80\\x80") == 0);
}

Test(text, vis_cuts_at_a_character_and_says_so)
{
	char t[16];

	sp_vis(t, sizeof(t), sp_span_str("核核核核核核核"));
	cr_assert(strcmp(t, "核核核核...") == 0, "%s", t);
	sp_vis(t, sizeof(t), sp_span_str("123456789012"));
	cr_assert(strcmp(t, "123456789012") == 0);
	sp_vis(t, sizeof(t), sp_span_str("\x1b\x1b\x1b\x1b\x1b"));
	cr_assert(strcmp(t, "\\x1b\\x1b\\x1b...") == 0);
}

Test(text, vis_tmp_has_eight_at_a_time)
{
	const char *v[8];

	for (int i = 0; i < 8; i++) {
		char c = (char)('a' + i);

		v[i] = sp_vis_tmp(sp_span_of(&c, 1));
	}
	for (int i = 0; i < 8; i++)
		cr_assert(v[i][0] == 'a' + i);
}

Test(text, utf8_is_strict)
{
	static const char *const bad[] = {"\x80", "\xc1\xbf", "\xe0\x80\x80",
	    "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf5\x80\x80\x80", "a\xe6\xa0",
	    "\xfe"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!sp_utf8_is_valid(sp_span_str(bad[i])), "%zu", i);
	cr_assert(sp_utf8_is_valid(sp_span_str("")));
	cr_assert(sp_utf8_is_valid(sp_span_str("a é 核 🔒")));
}

Test(text, columns)
{
	cr_assert(sp_text_columns(sp_span_str("abc")) == 3);
	cr_assert(sp_text_columns(sp_span_str("核准")) == 4);
	cr_assert(sp_text_columns(sp_span_str("e\u0301")) == 1);
	cr_assert(sp_text_columns(sp_span_str("ｆ")) == 2);
	cr_assert(sp_text_columns(sp_span_str("\xff\xff")) == 2);
}

Test(text, hexadecimal)
{
	uint8_t b[3];
	char t[7];

	cr_assert(sp_unhex(b, 3, sp_span_str("00fFa9")) == SP_OK);
	sp_hex(t, b, 3);
	cr_assert(strcmp(t, "00ffa9") == 0);
	cr_assert(sp_unhex(b, 3, sp_span_str("00ffa")) == SP_ERR_INVAL);
	cr_assert(sp_unhex(b, 3, sp_span_str("00ffa90")) == SP_ERR_INVAL);
	cr_assert(sp_unhex(b, 3, sp_span_str("00ffag")) == SP_ERR_INVAL);
}

/* RFC 4648, 10 */
Test(text, base64_and_base32_vectors)
{
	static const struct {
		const char *in, *b64, *b32;
	} t[] = {{"", "", ""}, {"f", "Zg==", "MY"}, {"fo", "Zm8=", "MZXQ"},
	    {"foo", "Zm9v", "MZXW6"}, {"foob", "Zm9vYg==", "MZXW6YQ"},
	    {"fooba", "Zm9vYmE=", "MZXW6YTB"},
	    {"foobar", "Zm9vYmFy", "MZXW6YTBOI"}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		SP_BUF_AUTO a = {.max = 64};
		SP_BUF_AUTO b = {.max = 64};
		SP_BUF_AUTO c = {.max = 64};

		cr_assert(sp_base64(&a, sp_span_str(t[i].in)) == SP_OK);
		cr_assert(sp_span_is(sp_buf_span(&a), t[i].b64));
		cr_assert(sp_unbase64(&b, sp_buf_span(&a)) == SP_OK);
		cr_assert(sp_span_is(sp_buf_span(&b), t[i].in));
		cr_assert(sp_base32(&c, sp_span_str(t[i].in)) == SP_OK);
		cr_assert(sp_span_is(sp_buf_span(&c), t[i].b32));
	}
}

Test(text, base64_refuses_every_other_form)
{
	static const char *const bad[] = {"Zg", "Zg=", "Zg==Zg==", "Z===", "====",
	    "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "Zm-_", "=g=="};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		SP_BUF_AUTO b = {.max = 64};

		cr_assert(sp_unbase64(&b, sp_span_str(bad[i])) == SP_ERR_INVAL,
		    "%s", bad[i]);
	}
}

Test(text, uuids)
{
	uint8_t a[16], b[16], nil[16] = {0};
	char t[SP_UUID_TEXT];

	sp_uuid_make(a);
	sp_uuid_make(b);
	cr_assert(memcmp(a, b, 16) != 0);
	cr_assert((a[6] & 0xf0) == 0x40 && (a[8] & 0xc0) == 0x80);
	sp_uuid_text(t, a);
	cr_assert(strlen(t) == 36 && t[8] == '-' && t[14] == '4');
	cr_assert(sp_uuid_parse(b, sp_span_str(t)) == SP_OK);
	cr_assert(memcmp(a, b, 16) == 0);
	cr_assert(sp_uuid_is_nil(nil) && !sp_uuid_is_nil(a));
	t[13] = '0';
	t[14] = '-';
	cr_assert(sp_uuid_parse(b, sp_span_str(t)) == SP_ERR_INVAL);
	t[8] = '0';
	cr_assert(sp_uuid_parse(b, sp_span_str(t)) == SP_ERR_INVAL);
	cr_assert(sp_uuid_parse(b, sp_span_str("")) == SP_ERR_INVAL);
}

Test(text, names)
{
	static const char *const good[] = {"a", "core-01", "db.example", "0",
	    "a_b", "abcdefghijklmnopqrstuvwxyz012345"};
	static const char *const bad[] = {"", "A", "-a", ".a", "_a", "a b", "a/b",
	    "a+b", "a@b", "維", "a\n", "abcdefghijklmnopqrstuvwxyz0123456"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert(sp_name_is_valid(sp_span_str(good[i])), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!sp_name_is_valid(sp_span_str(bad[i])), "%s", bad[i]);
	cr_assert(!sp_name_is_valid(sp_span_of("a\0b", 3)));
}

Test(text, durations)
{
	static const struct {
		const char *in;
		int64_t seconds;
	} good[] = {{"90s", 90}, {"15m", 900}, {"2h", 7200}, {"1d", 86400},
	    {"1h30m", 5400}, {"0s", 0}};
	static const char *const bad[] = {"", "h", "1", "1.5h", "-1h", "1 h", "1w",
	    "1h30", "99999999999999999999s", "999999d"};
	static const struct {
		int64_t seconds;
		const char *out;
	} shown[] = {{0, "0s"}, {45, "45s"}, {60, "1m"}, {90, "1m 30s"},
	    {3600, "1h"}, {5400, "1h 30m"}, {86400, "1d"}, {180000, "2d 2h"},
	    {-5, "0s"}};
	char t[SP_TIME_TEXT];
	int64_t us;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert(sp_duration_parse(sp_span_str(good[i].in), &us) == SP_OK &&
		    us == good[i].seconds * 1000000, "%s", good[i].in);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(sp_duration_parse(sp_span_str(bad[i]), &us) != SP_OK,
		    "%s", bad[i]);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		sp_duration_text(t, shown[i].seconds * 1000000);
		cr_assert(strcmp(t, shown[i].out) == 0, "%s", t);
	}
}

Test(text, times)
{
	char t[SP_TIME_TEXT];

	sp_time_text(t, 0, false);
	cr_assert(strcmp(t, "1970-01-01T00:00:00Z") == 0);
	sp_time_text(t, 1000000000LL * 1000000 + 7, true);
	cr_assert(strcmp(t, "2001-09-09T01:46:40.000007Z") == 0);
	sp_time_text(t, -1, true);
	cr_assert(strcmp(t, "1969-12-31T23:59:59.999999Z") == 0);
	sp_time_text(t, INT64_MAX, false);
	cr_assert(strlen(t) < SP_TIME_TEXT);
	cr_assert(sp_now_us() > 1600000000LL * 1000000);
	cr_assert(sp_boot_us() <= sp_boot_us());
}

Test(text, decimal_numbers)
{
	uint64_t v = 5;

	cr_assert(sp_u64_parse(sp_span_str("18446744073709551615"), UINT64_MAX, &v) ==
	    SP_OK && v == UINT64_MAX);
	cr_assert(sp_u64_parse(sp_span_str("18446744073709551616"), UINT64_MAX, &v) ==
	    SP_ERR_TOOBIG);
	cr_assert(sp_u64_parse(sp_span_str("11"), 10, &v) == SP_ERR_TOOBIG);
	cr_assert(sp_u64_parse(sp_span_str(""), 10, &v) == SP_ERR_INVAL);
	cr_assert(sp_u64_parse(sp_span_str("+1"), 10, &v) == SP_ERR_INVAL);
	cr_assert(sp_u64_parse(sp_span_str("1 "), 10, &v) == SP_ERR_INVAL);
	cr_assert(v == UINT64_MAX, "written on success only");
}

Test(text, every_error_has_a_text)
{
	for (int i = 0; i < SP_ERR_COUNT_; i++)
		cr_assert(sp_err_text((enum sp_err)i)[0] != '\0');
	cr_assert(sp_err_text((enum sp_err)9999) != NULL);
}
