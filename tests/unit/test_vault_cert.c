/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a name is made of: a certificate has exactly one principal, and that
 * holds nothing but what a name may hold; or there is none. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "tests/unit/vault_kit.h"
#include "vault/sshcert.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define ROUNDS 200000

TestSuite(vault_cert, .timeout = 120);

static struct sp_span
skip(const struct sp_buf *cert, size_t strings_before)
{
	struct sp_span s = sp_buf_span(cert), f;
	uint64_t serial;
	uint32_t role;

	for (size_t i = 0; i < 3; i++)
		OK(sp_get_ssh_string(&s, 256, &f));
	OK(sp_get_ssh_u64(&s, &serial));
	OK(sp_get_ssh_u32(&s, &role));
	cr_assert_eq(role, 1);
	cr_assert_neq(serial, 0);
	for (size_t i = 0; i < strings_before; i++)
		OK(sp_get_ssh_string(&s, 256, &f));
	return s;
}

static bool
is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
	    c == '_' || c == '-';
}

/* Bytes that break out of lists, lines, patterns and shells come often. */
static void
random_name(unsigned *seed, char *dst, size_t cap)
{
	static const char hard[] = ",*?@ \n\t\r\0;'\"!/\\%+=A\x80\xff|&$(){}[]<>:~^`#";
	size_t n = (size_t)rand_r(seed) % cap;

	for (size_t i = 0; i < n; i++) {
		int r = rand_r(seed);

		dst[i] = r % 24 == 0 ? hard[(r >> 8) % (int)(sizeof(hard) - 1)] :
		    "abcxyz0189._-"[(r >> 8) % 13];
	}
	dst[n] = '\0';
}

Test(vault_cert, one_principal_of_plain_bytes_or_none)
{
	uint8_t pk[32] = {1};
	char account[40], target[40], want[96];
	struct sp_root r;
	unsigned seed = 20260722, n = 0;

	kit_root(&r);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct sp_buf out = {.max = 2048};
		struct sp_cert_wish w = {.account = account, .target_name = target,
		    .source = "", .pk = pk, .serial = i + 1, .now_us = sp_now_us()};
		struct sp_span s, list, one;

		random_name(&seed, account, sizeof(account));
		random_name(&seed, target, sizeof(target));
		w.not_after_us = w.now_us + 60000000;
		if (sp_cert_mint(&r, &w, &out) != SP_OK) {
			cr_assert_eq(out.len, 0);
			sp_buf_fini(&out);
			continue;
		}
		n++;
		s = skip(&out, 1);
		OK(sp_get_ssh_string(&s, 256, &list));
		OK(sp_get_ssh_string(&list, 256, &one));
		cr_assert_eq(list.n, 0, "more than one principal");
		snprintf(want, sizeof(want), "%s@%s", account, target);
		cr_assert(sp_span_is(one, want));
		cr_assert(account[0] != '\0' && target[0] != '\0');
		for (const char *c = account; *c != '\0'; c++)
			cr_assert(is_plain(*c), "%02x", (unsigned)*c & 0xff);
		for (const char *c = target; *c != '\0'; c++)
			cr_assert(is_plain(*c), "%02x", (unsigned)*c & 0xff);
		sp_buf_fini(&out);
	}
	/* It would show nothing if all were refused. */
	cr_assert_gt(n, ROUNDS / 20);
	sp_root_close(&r);
}

/* Never past a minute, never past the grant, whatever the clock says. */
Test(vault_cert, times_are_within_the_grant)
{
	uint8_t pk[32] = {1};
	struct sp_root r;
	unsigned seed = 7;

	kit_root(&r);
	for (unsigned i = 0; i < 20000; i++) {
		struct sp_buf out = {.max = 2048};
		struct sp_cert_wish w = {.account = "a", .target_name = "b",
		    .source = "", .pk = pk, .serial = 1};
		struct sp_span s;
		uint64_t after, before;

		w.now_us = (int64_t)rand_r(&seed) * 1000003;
		w.not_after_us = w.now_us + ((int64_t)rand_r(&seed) - RAND_MAX / 4) %
		    200000000;
		if (sp_cert_mint(&r, &w, &out) != SP_OK) {
			cr_assert(w.not_after_us / 1000000 <= w.now_us / 1000000 ||
			    w.now_us <= 30000000);
			sp_buf_fini(&out);
			continue;
		}
		s = skip(&out, 2);
		OK(sp_get_ssh_u64(&s, &after));
		OK(sp_get_ssh_u64(&s, &before));
		cr_assert_leq(before, (uint64_t)(w.not_after_us / 1000000));
		cr_assert_leq(before, (uint64_t)(w.now_us / 1000000) + 60);
		cr_assert_lt(after, before);
		cr_assert_eq(after + 30, (uint64_t)(w.now_us / 1000000));
		sp_buf_fini(&out);
	}
	sp_root_close(&r);
}

Test(vault_cert, a_serial_is_never_0)
{
	struct sp_buf out = {.max = 2048};
	uint8_t pk[32] = {1};
	struct sp_cert_wish w = {.account = "a", .target_name = "b", .source = "",
	    .pk = pk, .now_us = sp_now_us(), .not_after_us = sp_now_us() + 60000000};
	struct sp_root r;

	kit_root(&r);
	cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_INVAL);
	w.serial = 1;
	OK(sp_cert_mint(&r, &w, &out));
	sp_buf_fini(&out);
	sp_root_close(&r);
}
