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
