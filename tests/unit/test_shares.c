/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/shares.h"
#include "common/text.h"

#define LEN 32

static uint8_t secret[SP_SHARE_SECRET_MAX], got[SP_SHARE_SECRET_MAX];
static struct sp_share all[SP_SHARES_MAX];
static size_t len, bad;

static void
split(uint8_t k, uint8_t n, size_t bytes)
{
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(i * 37 + 11);
	cr_assert_eq(sp_shares_split(sp_span_of(secret, bytes), k, n, all), SP_OK);
}

static enum sp_err
join(const struct sp_share *s, size_t count)
{
	memset(got, 0xee, sizeof(got));
	len = bad = 9999;
	return sp_shares_join(s, count, got, &len, &bad);
}

static bool
is_secret(size_t bytes)
{
	return len == bytes && memcmp(got, secret, bytes) == 0;
}

/* Long multiplication by the polynomial, written the slow way. */
static uint8_t
slow_mul(unsigned a, unsigned b)
{
	unsigned r = 0;

	for (unsigned i = 0; i < 8; i++)
		if ((b >> i & 1) != 0)
			r ^= a << i;
	for (unsigned i = 15; i >= 8; i--)
		if ((r >> i & 1) != 0)
			r ^= 0x11bU << (i - 8);
	return (uint8_t)r;
}

Test(shares, the_field_is_that_of_aes)
{
	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			cr_assert_eq(sp_gf_mul((uint8_t)a, (uint8_t)b),
			    slow_mul(a, b), "%u * %u", a, b);
	cr_assert_eq(sp_gf_inv(0), 0);
	for (unsigned a = 1; a < 256; a++)
		cr_assert_eq(sp_gf_mul((uint8_t)a, sp_gf_inv((uint8_t)a)), 1,
		    "%u", a);
}

/* Every k of every n up to 7, every subset: k and more give the secret, fewer
 * are told so, and what they would give is not it. */
Test(shares, every_subset_of_every_small_split)
{
	for (uint8_t n = 2; n <= 7; n++)
		for (uint8_t k = 2; k <= n; k++) {
			split(k, n, LEN);
			for (unsigned set = 1; set < 1U << n; set++) {
				struct sp_share some[SP_SHARES_MAX];
				size_t c = 0;

				for (uint8_t i = n; i-- > 0;)
					if ((set >> i & 1) != 0)
						some[c++] = all[i];
				if (c < k) {
					cr_assert_eq(join(some, c), SP_ERR_AGAIN);
					cr_assert_eq(bad, c);
					cr_assert_eq(got[0], 0xee);
					continue;
				}
				cr_assert_eq(join(some, c), SP_OK);
				cr_assert(is_secret(LEN), "%u of %u, %x", k, n,
				    set);
			}
		}
}

Test(shares, all_lengths_and_the_largest_split)
{
	for (size_t n = 1; n <= SP_SHARE_SECRET_MAX; n++) {
		split(3, 5, n);
		cr_assert_eq(join(all + 2, 3), SP_OK);
		cr_assert(is_secret(n));
	}
	split(SP_SHARES_MAX, SP_SHARES_MAX, 64);
	cr_assert_eq(join(all, SP_SHARES_MAX), SP_OK);
	cr_assert(is_secret(64));
}

Test(shares, bounds_of_a_split)
{
	struct sp_span s = sp_span_of(secret, LEN);

	cr_assert_eq(sp_shares_split(s, 1, 3, all), SP_ERR_INVAL);
	cr_assert_eq(sp_shares_split(s, 0, 3, all), SP_ERR_INVAL);
	cr_assert_eq(sp_shares_split(s, 4, 3, all), SP_ERR_INVAL);
	cr_assert_eq(sp_shares_split(s, 2, SP_SHARES_MAX + 1, all), SP_ERR_INVAL);
	cr_assert_eq(sp_shares_split(sp_span_of(secret, 0), 2, 3, all),
	    SP_ERR_INVAL);
	cr_assert_eq(sp_shares_split(sp_span_of(secret, SP_SHARE_SECRET_MAX + 1),
	    2, 3, all), SP_ERR_INVAL);
}

/* k - 1 shares are consistent with every secret: for one byte of 2-of-2, each
 * value of the other share gives another secret. */
Test(shares, one_share_less_says_nothing)
{
	bool seen[256] = {false};

	split(2, 2, 1);
	for (unsigned y = 0; y < 256; y++) {
		all[1].y[0] = (uint8_t)y;
		cr_assert_eq(join(all, 2), SP_OK);
		cr_assert(!seen[got[0]]);
		seen[got[0]] = true;
	}
}

Test(shares, two_splits_share_nothing)
{
	struct sp_share first[3];

	split(2, 3, LEN);
	memcpy(first, all, sizeof(first));
	split(2, 3, LEN);
	for (int i = 0; i < 3; i++)
		cr_assert(memcmp(first[i].set, all[i].set, SP_SHARE_SET) != 0 &&
		    memcmp(first[i].y, all[i].y, LEN) != 0);
}

Test(shares, says_which_one_is_bad)
{
	struct sp_share s[4], other;

	split(3, 5, LEN);
	other = all[3];
	split(3, 5, LEN);
	memcpy(s, all, sizeof(s));

	s[2] = all[0];
	cr_assert_eq(join(s, 4), SP_ERR_EXISTS);
	cr_assert_eq(bad, 2);
	s[2] = other;
	cr_assert_eq(join(s, 4), SP_ERR_PROTO);
	cr_assert_eq(bad, 2);
	s[2] = all[2];
	s[1].k = 2;
	cr_assert_eq(join(s, 4), SP_ERR_PROTO);
	cr_assert_eq(bad, 1);
	s[1] = all[1];
	s[1].index = 6;
	cr_assert_eq(join(s, 4), SP_ERR_INVAL);
	cr_assert_eq(bad, 1);
	s[1] = all[1];
	s[3].index = 0;
	cr_assert_eq(join(s, 4), SP_ERR_INVAL);
	cr_assert_eq(bad, 3);
	s[3] = all[3];
	s[3].y[7] ^= 1;
	cr_assert_eq(join(s, 4), SP_ERR_CRYPTO);
	cr_assert_eq(bad, 3);
	cr_assert_eq(got[0], 0xee, "nothing is written on an error");
	cr_assert_eq(join(s, 0), SP_ERR_AGAIN);
}

static enum sp_err
parse(const char *text, struct sp_share *s)
{
	return sp_share_parse(sp_span_str(text), s);
}

Test(shares, text_there_and_back)
{
	for (size_t n = 1; n <= SP_SHARE_SECRET_MAX; n++) {
		split(2, 3, n);
		for (int i = 0; i < 3; i++)
			for (int grouped = 0; grouped < 2; grouped++) {
				SP_BUF_AUTO b = {.max = SP_SHARE_TEXT_MAX};
				struct sp_share s;

				cr_assert_eq(sp_share_text(&all[i], grouped, &b),
				    SP_OK);
				cr_assert(b.len < SP_SHARE_TEXT_MAX);
				cr_assert_eq(sp_share_parse(sp_buf_span(&b), &s),
				    SP_OK);
				cr_assert_eq(memcmp(&s, &all[i], sizeof(s)), 0);
			}
	}
}

/* What stands on paper must be read by every later version. */
Test(shares, the_text_form_is_pinned)
{
	static const char text[] = "SPS1-AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4BQKA-"
	    "QECI2-FKBEI-JDJ6A";
	struct sp_share s = {.k = 3, .n = 5, .index = 2, .len = 4,
	    .y = {0x12, 0x34, 0x55, 0x04}}, r;
	SP_BUF_AUTO b = {.max = SP_SHARE_TEXT_MAX};

	for (uint8_t i = 0; i < SP_SHARE_SET; i++)
		s.set[i] = i;
	cr_assert_eq(sp_share_text(&s, true, &b), SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&b), text), "%.*s", (int)b.len,
	    (const char *)sp_buf_span(&b).p);
	cr_assert_eq(parse(" sps1 aaaqe ayeauda-ocajbifqy\tdiob4bqkaqeci2fkbeijdj6a\r\n",
	    &r), SP_OK);
	cr_assert_eq(memcmp(&s, &r, sizeof(s)), 0);
}

/* Each character changed to each other one, each left out, each pair swapped. */
Test(shares, a_slip_of_the_pen_is_found)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	SP_BUF_AUTO b = {.max = SP_SHARE_TEXT_MAX};
	char t[SP_SHARE_TEXT_MAX], u[SP_SHARE_TEXT_MAX];
	struct sp_share s;
	size_t n;

	split(3, 5, LEN);
	cr_assert_eq(sp_share_text(&all[0], false, &b), SP_OK);
	cr_assert_eq(sp_span_cstr(sp_buf_span(&b), t, sizeof(t)), SP_OK);
	n = strlen(t);
	for (size_t i = 4; i < n; i++) {
		for (size_t d = 0; d < 32; d++) {
			memcpy(u, t, n + 1);
			u[i] = digits[d];
			cr_assert(u[i] == t[i] || parse(u, &s) != SP_OK);
		}
		memcpy(u, t, n + 1);
		memmove(u + i, u + i + 1, n - i);
		cr_assert_neq(parse(u, &s), SP_OK, "left out: %zu", i);
		memcpy(u, t, n + 1);
		if (i + 1 < n && u[i] != u[i + 1]) {
			u[i] = t[i + 1];
			u[i + 1] = t[i];
			cr_assert_neq(parse(u, &s), SP_OK, "swapped: %zu", i);
		}
	}
}

Test(shares, what_is_no_share_is_named)
{
	char longer[400];
	struct sp_share s;

	memset(longer, 'A', sizeof(longer));
	memcpy(longer, "SPS1", 4);
	longer[sizeof(longer) - 1] = '\0';
	cr_assert_eq(parse("", &s), SP_ERR_SYNTAX);
	cr_assert_eq(parse("hello", &s), SP_ERR_SYNTAX);
	cr_assert_eq(parse("SPS1", &s), SP_ERR_SYNTAX);
	cr_assert_eq(parse("SPS", &s), SP_ERR_UNSUPPORTED);
	cr_assert_eq(parse("SPS2-AAAQE", &s), SP_ERR_UNSUPPORTED);
	cr_assert_eq(parse("SPS1-AAAQ0", &s), SP_ERR_SYNTAX);
	cr_assert_eq(parse(longer, &s), SP_ERR_SYNTAX);
}

/* ------------------------------------------------------------------- timing */

#define K 5
#define ROUNDS 3000

/* Multiplication as it is often written: as long as there are bits. */
static uint8_t
leaky_mul(unsigned a, unsigned b)
{
	unsigned r = 0;

	while (b != 0) {
		if ((b & 1) != 0)
			r ^= a;
		a = (a << 1) ^ ((a & 0x80) != 0 ? 0x11bU : 0);
		b >>= 1;
	}
	return (uint8_t)r;
}

static void
leaky_join(const struct sp_share *s)
{
	uint8_t out[SP_SHARE_SECRET_MAX] = {0};

	for (unsigned i = 0; i < K; i++)
		for (unsigned b = 0; b < s[i].len; b++)
			out[b] ^= leaky_mul(i + 1, s[i].y[b]);
	__asm__ volatile("" : : "r"(out) : "memory");
}

static void
our_join(const struct sp_share *s)
{
	cr_assert_eq(sp_shares_join(s, K, got, &len, &bad), SP_OK);
}

static int64_t
took_ns(void (*fn)(const struct sp_share *), const struct sp_share *s)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 8; i++)
		fn(s);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec;
}

/* How much longer random shares take than zero ones: of each the fastest of
 * many interleaved rounds, which no other process on the machine makes faster. */
static double
ratio(void (*fn)(const struct sp_share *), const struct sp_share *zero,
    const struct sp_share *rnd)
{
	int64_t z = INT64_MAX, r = INT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		int64_t tz = took_ns(fn, zero), tr = took_ns(fn, rnd);

		z = tz < z ? tz : z;
		r = tr < r ? tr : r;
	}
	return (double)r / (double)z;
}

/* The same measure says "constant" of ours and "not" of one with branches.
 * Asked again when a busy machine spoilt it; a leak spoils it every time. */
Test(shares, time_does_not_depend_on_the_shares, .timeout = 120)
{
	struct sp_share zero[K], rnd[K];
	double ours = 0, leaky = 0;
	bool flat = false, seen = false;

	split(K, K, SP_SHARE_SECRET_MAX);
	memcpy(rnd, all, sizeof(rnd));
	memcpy(zero, all, sizeof(zero));
	for (int i = 0; i < K; i++)
		memset(zero[i].y, 0, sizeof(zero[i].y));
	for (int i = 0; i < 10 && !(flat && seen); i++) {
		ours = flat ? ours : ratio(our_join, zero, rnd);
		leaky = seen ? leaky : ratio(leaky_join, zero, rnd);
		flat = flat || (ours > 0.95 && ours < 1.05);
		seen = seen || leaky > 1.5;
	}
	cr_log_info("random to zero: ours %.3f, with branches %.3f", ours, leaky);
	cr_assert(flat, "random to zero shares: %.3f", ours);
	cr_assert(seen, "the measure is blind: with branches %.3f", leaky);
}
