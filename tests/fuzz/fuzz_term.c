/* SPDX-License-Identifier: Apache-2.0 */
/* The screen model: two bytes of size, then what a target may send; 0xf8, which
 * UTF-8 never has, and two bytes more are a resize. */
#include <stdint.h>

#include "recorder/term/term.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
count(void *ctx, const struct sp_cell *cells, size_t n, bool is_wrapped)
{
	SP_BUF_AUTO b = {.max = SP_TERM_COLS_MAX * 16};

	*(size_t *)ctx += n;
	SP_ASSERT(sp_cells_text(cells, n, is_wrapped, &b) == SP_OK);
}

static void
check(struct sp_term *t)
{
	unsigned x, y, cols = sp_term_cols(t);
	bool is_visible;

	for (y = 0; y < sp_term_rows(t); y++) {
		const struct sp_cell *c = sp_term_row(t, y);

		for (x = 0; x < cols; x++) {
			SP_ASSERT(c[x].width != 2 ||
			    (x + 1 < cols && c[x + 1].width == 0));
			SP_ASSERT(c[x].width != 0 ||
			    (x > 0 && c[x - 1].width == 2));
			SP_ASSERT(c[x].ch == 0 || c[x].ch >= 0xa0 ||
			    (c[x].ch >= 0x20 && c[x].ch < 0x7f));
		}
	}
	sp_term_cursor(t, &x, &y, &is_visible);
	SP_ASSERT(x < cols && y < sp_term_rows(t));
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct sp_term *t = NULL;
	size_t from = 2, lines = 0;

	if (n < 2 || n > 65536 ||
	    sp_term_new(p[0] % 64, p[1] % 32, count, &lines, &t) != SP_OK)
		return 0;
	for (size_t i = 2; i + 2 < n; i++)
		if (p[i] == 0xf8) {
			sp_term_feed(t, sp_span_of(p + from, i - from));
			if (sp_term_resize(t, p[i + 1] % 64, p[i + 2] % 32) !=
			    SP_OK)
				break;
			i += 2;
			from = i + 1;
		}
	sp_term_feed(t, sp_span_of(p + from, n - from));
	check(t);
	sp_term_free(t);
	return 0;
}
