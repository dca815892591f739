/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <sodium.h>
#include <string.h>

#include "common/mask.h"

static struct sp_masks m;

static void
give(const char *const *secret, size_t n)
{
	SP_BUF_AUTO b = {.max = SP_MASK_BYTES};
	uint8_t key[SP_MASK_KEY];

	cr_assert(sodium_init() >= 0);
	randombytes_buf(key, sizeof(key));
	cr_assert_eq(sp_buf_put(&b, key, sizeof(key)), SP_OK);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(sp_mask_add(&b, sp_span_str(secret[i])), SP_OK);
	cr_assert_eq(sp_masks_parse(sp_buf_span(&b), &m), SP_OK);
	for (size_t i = 0; i < n; i++)
		cr_assert_null(memmem(b.p + b.off, b.len, secret[i],
		    strlen(secret[i])), "it stands there in clear");
}

static void
covers(const char *text, const char *want)
{
	char t[256];

	snprintf(t, sizeof(t), "%s", text);
	sp_masks_cover(&m, (uint8_t *)t, strlen(t));
	cr_expect_str_eq(t, want);
}

Test(mask, exact_and_nothing_else)
{
	static const char *const s[] = {"hunter2", "correct horse battery",
	    "hunter22", "\xe4\xbd\xa0\xe5\xa5\xbd!"};

	give(s, 4);
	covers("", "");
	covers("hunter2", "*******");
	covers("hunter", "hunter");
	covers("Hunter2", "Hunter2");
	covers("xhunter22y hunter2", "x********y *******");
	covers("correct horse batterycorrect horse battery",
	    "******************************************");
	covers("say \xe4\xbd\xa0\xe5\xa5\xbd! now", "say ******* now");
	covers("\xe4\xbd\xa0\xe5\xa5\xbd", "\xe4\xbd\xa0\xe5\xa5\xbd");
}

Test(mask, overlapping_ones)
{
	static const char *const s[] = {"abab", "babcdef"};

	give(s, 2);
	covers("ababab", "******");
	covers("xababcdefx", "x********x");
}

/* Also where a long text is looked through in pieces. */
Test(mask, at_each_place_of_a_long_text)
{
	static const char *const s[] = {"s3cret-w0rd"};
	static uint8_t text[100000], want[100000];

	give(s, 1);
	for (size_t at = 32760; at < 32790; at++) {
		memset(text, 'a', sizeof(text));
		memcpy(want, text, sizeof(text));
		memcpy(text + at, s[0], 11);
		memset(want + at, '*', 11);
		sp_masks_cover(&m, text, sizeof(text));
		cr_assert_eq(memcmp(text, want, sizeof(text)), 0, "at %zu", at);
	}
	memset(text, 'a', sizeof(text));
	memcpy(text + sizeof(text) - 11, s[0], 11);
	sp_masks_cover(&m, text, sizeof(text));
	cr_assert_eq(text[sizeof(text) - 1], '*');
}

Test(mask, lengths_and_broken_ones)
{
	SP_BUF_AUTO b = {.max = SP_MASK_BYTES};
	uint8_t key[SP_MASK_KEY] = {1}, much[SP_MASK_MOST + 1] = {2};

	cr_assert(sodium_init() >= 0);
	cr_expect_eq(sp_mask_add(&b, sp_span_str("secret")), SP_ERR_INVAL);
	cr_assert_eq(sp_buf_put(&b, key, sizeof(key)), SP_OK);
	cr_expect_eq(sp_mask_add(&b, sp_span_str("abc")), SP_ERR_INVAL);
	cr_expect_eq(sp_mask_add(&b, sp_span_of(much, sizeof(much))),
	    SP_ERR_INVAL);
	cr_expect_eq(sp_mask_add(&b, sp_span_of(much, SP_MASK_MOST)), SP_OK);
	cr_expect_eq(sp_masks_parse(sp_buf_span(&b), &m), SP_OK);
	cr_expect_neq(sp_masks_parse(sp_span_of(b.p + b.off, b.len - 1), &m),
	    SP_OK);
	b.p[b.off + SP_MASK_KEY] = 3;	/* a length below the least */
	b.p[b.off + SP_MASK_KEY + 1] = 0;
	cr_expect_neq(sp_masks_parse(sp_buf_span(&b), &m), SP_OK);
	cr_expect_eq(sp_masks_parse((struct sp_span){0}, &m), SP_OK);
	cr_expect_eq(m.n, 0);
}
