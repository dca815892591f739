/* SPDX-License-Identifier: Apache-2.0 */
/* What people type as shares, one a line: a share that is read has one text,
 * and whatever is given together is joined or refused with a place. */
#include <stdint.h>
#include <string.h>

#include "common/shares.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
once_more(const struct sp_share *s)
{
	for (int grouped = 0; grouped < 2; grouped++) {
		SP_BUF_AUTO b = {.max = SP_SHARE_TEXT_MAX};
		struct sp_share again;

		SP_ASSERT(sp_share_text(s, grouped, &b) == SP_OK);
		SP_ASSERT(sp_share_parse(sp_buf_span(&b), &again) == SP_OK);
		SP_ASSERT(memcmp(s, &again, sizeof(again)) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t secret[SP_SHARE_SECRET_MAX];
	struct sp_share s[40];
	size_t n = 0, len, bad;
	struct sp_span all = sp_span_of(data, size);
	enum sp_err e;

	while (all.n > 0 && n < 40) {
		const uint8_t *end = memchr(all.p, '\n', all.n);
		size_t line = end == NULL ? all.n : (size_t)(end - all.p);

		if (sp_share_parse(sp_span_of(all.p, line), &s[n]) == SP_OK)
			once_more(&s[n++]);
		line += end != NULL;
		all = sp_span_of(all.p + line, all.n - line);
	}
	e = sp_shares_join(s, n, secret, &len, &bad);
	SP_ASSERT(e != SP_OK || (len >= 1 && len <= sizeof(secret)));
	SP_ASSERT(e == SP_OK || bad <= n);
	return 0;
}
