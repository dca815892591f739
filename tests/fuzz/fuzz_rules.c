/* SPDX-License-Identifier: Apache-2.0 */
/* A session's rules: what decodes encodes to the same bytes, what does not
 * leaves nothing that permits, and whatever path, host or name is asked for is
 * answered. */
#include <stdint.h>
#include <string.h>

#include "common/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
ask(const struct sp_rules *r, struct sp_span text)
{
	char why[400];

	for (uint32_t op = 1; op < 0x100; op <<= 1) {
		bool ok = sp_rules_path(r, op, text, why, sizeof(why));

		SP_ASSERT(!ok || (r->rights & op) != 0);
	}
	for (size_t i = 0; i < r->n_forward; i++)
		SP_ASSERT(strchr(r->forward[i].host, '/') != NULL ||
		    sp_rules_reach(r->forward, r->n_forward,
		    sp_span_str(r->forward[i].host), r->forward[i].low));
	SP_ASSERT(!sp_rules_reach(r->forward, r->n_forward, text, 65536));
	(void)sp_rules_reach(r->forward, r->n_forward, text, 22);
	SP_ASSERT(!sp_rules_env(r, text) || r->n_env > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sp_rules r;
	SP_BUF_AUTO out = {.max = SP_RULES_ENCODED_MAX};
	struct sp_span s = sp_span_of(data, size);
	enum sp_err e = sp_rules_decode(s, &r);

	if (e != SP_OK) {
		SP_ASSERT(e == SP_ERR_PROTO && r.rights == 0 && r.n_forward == 0 &&
		    r.n_listen == 0 && r.n_path == 0 && r.n_env == 0);
		return 0;
	}
	SP_ASSERT(sp_rules_encode(&out, &r) == SP_OK);
	SP_ASSERT(sp_span_eq(sp_buf_span(&out), s));
	ask(&r, s);
	ask(&r, sp_span_str("/srv/a/b.txt"));
	return 0;
}
