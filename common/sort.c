/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sort.h"

#include <stdint.h>
#include <string.h>

#include "common/err.h"

#define WIDTH_MAX 64

struct heap {
	uint8_t *v;
	size_t n, width;
	int (*compare)(const void *, const void *);
};

static uint8_t *
at(const struct heap *h, size_t i)
{
	return h->v + i * h->width;
}

static void
swap(const struct heap *h, size_t i, size_t k)
{
	uint8_t t[WIDTH_MAX];

	memcpy(t, at(h, i), h->width);
	memcpy(at(h, i), at(h, k), h->width);
	memcpy(at(h, k), t, h->width);
}

static void
sift(const struct heap *h, size_t i)
{
	for (size_t kid; (kid = 2 * i + 1) < h->n; i = kid) {
		if (kid + 1 < h->n &&
		    h->compare(at(h, kid), at(h, kid + 1)) < 0)
			kid++;
		if (h->compare(at(h, i), at(h, kid)) >= 0)
			return;
		swap(h, i, kid);
	}
}

void
sp_sort(void *base, size_t n, size_t width,
    int (*compare)(const void *, const void *))
{
	struct heap h = {base, n, width, compare};

	SP_ASSERT(width > 0 && width <= WIDTH_MAX);
	for (size_t i = n / 2; i > 0; i--)
		sift(&h, i - 1);
	while (h.n > 1) {
		swap(&h, 0, h.n - 1);
		h.n--;
		sift(&h, 0);
	}
}
