/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/area.h"

#define N (64u << 10)

static uint8_t *
fresh(void)
{
	uint8_t *p = aligned_alloc(4096, N);

	cr_assert_not_null(p);
	memset(p, 7, N);
	return p;
}

/* Page by page: 1 what was dropped, 0 what stands. */
static const char *
pages(const uint8_t *p)
{
	static char s[N / 4096 + 1];

	for (size_t i = 0; i < N / 4096; i++)
		s[i] = p[4096 * i] == 0 && p[4096 * i + 4095] == 0 ? '1' : '0';
	return s;
}

Test(area, it_goes_when_it_is_empty_and_once)
{
	uint8_t *p = fresh();
	struct sp_area a = {0};

	sp_area_drop(&a);
	sp_area_saw(&a, p, 100);
	sp_area_saw(&a, p + 100, 8 * 4096);	/* behind what was taken */
	sp_area_drop(&a);
	cr_expect_str_eq(pages(p), "0000000000000000", "it holds something");
	sp_area_emptied(&a);
	sp_area_drop(&a);
	cr_expect_str_eq(pages(p), "1111111111111111");
	memset(p, 7, N);
	sp_area_drop(&a);
	cr_expect_str_eq(pages(p), "0000000000000000");
	free(p);
}

Test(area, what_lies_beside_it_stays)
{
	uint8_t *p = malloc(N), *end = p + N, was[2 * 4096];

	cr_assert_not_null(p);
	memset(p, 7, N);
	memset(was, 7, sizeof(was));
	sp_pages_drop(p + 16, N - 32);
	cr_expect_arr_eq(p, was, 17);
	cr_expect_arr_eq(end - 17, was, 17);
	cr_expect_eq(p[N / 2], 0);
	memset(p, 7, N);
	sp_pages_drop(p, 4 * 4096 - 1);		/* not worth it */
	cr_expect_arr_eq(p, was, sizeof(was));
	free(p);
}

Test(area, one_that_moved_is_left_alone_until_it_begins_anew)
{
	uint8_t *p = fresh(), *q = fresh();
	struct sp_area a = {0};

	sp_area_saw(&a, p, 4096);
	sp_area_saw(&a, q, 8 * 4096);		/* while it held something */
	sp_area_emptied(&a);
	sp_area_drop(&a);
	cr_expect_str_eq(pages(p), "0000000000000000");
	cr_expect_str_eq(pages(q), "0000000000000000");
	sp_area_saw(&a, q, 10);
	sp_area_emptied(&a);
	sp_area_drop(&a);
	cr_expect_str_eq(pages(p), "0000000000000000");
	cr_expect_str_eq(pages(q), "1111111111111111");
	free(p);
	free(q);
}

#define DEEP (64u << 10)

/* How many pages below here have memory behind them. */
static int
deep_pages(const uint8_t *here)
{
	uintptr_t low = ((uintptr_t)here & ~(uintptr_t)4095) - DEEP;
	unsigned char is_there[DEEP / 4096];
	int n = 0;

	cr_assert_eq(mincore((void *)low, DEEP, is_there), 0);
	for (size_t i = 0; i < sizeof(is_there); i++)
		n += is_there[i] & 1;
	return n;
}

/* n frames of 8 KiB. */
static __attribute__((noinline)) int
go_deep(int n)
{
	volatile uint8_t b[8192];

	for (size_t i = 0; i < sizeof(b); i += 512)
		b[i] = 7;
	return n == 0 ? b[512] : go_deep(n - 1) + b[1024] - 7;
}

Test(area, what_deep_calls_used_goes_and_the_caller_stays)
{
	volatile uint64_t mine = 77;
	uint8_t here = 8;
	int before;

	cr_assert_eq(go_deep(8), 7);
	before = deep_pages(&here);
	sp_stack_drop();
	cr_assert_geq(before, 15);
	cr_assert_leq(deep_pages(&here), 4);
	cr_assert_eq(mine, 77);
	cr_assert_eq(here, 8);
	cr_assert_eq(go_deep(8), 7);
}
