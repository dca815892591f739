/* SPDX-License-Identifier: Apache-2.0 */
/* Any text: the parser says yes or says where it is wrong; what it accepts can
 * be decided and explained, and denies when nothing is known. */
#include <stdint.h>
#include <string.h>

#include "common/text.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
use(const struct sp_policy *p)
{
	static const char *const names[] = {"a", "dba", "core"};
	struct sp_facts known = {.user = "alice", .groups = names, .n_groups = 3,
	    .target = "core-01", .account = "admin", .tags = names, .n_tags = 3,
	    .source = "10.1.2.3", .minute_of_day = 600, .weekday = 1,
	    .mfa = SP_MFA_TOTP};
	struct sp_facts unknown = {.minute_of_day = -1, .weekday = -1, .mfa = -1};
	SP_BUF_AUTO out = {.max = 8U << 20};
	struct sp_verdict v;

	sp_policy_decide(p, &known, &v);
	SP_ASSERT(memchr(v.reasons, 0, sizeof(v.reasons)) != NULL);
	SP_ASSERT(v.allow ? v.rights != 0 && v.rule[0] != '\0' : v.rights == 0);
	SP_ASSERT(sp_policy_explain(p, &known, &out) == SP_OK);
	SP_ASSERT(sp_utf8_is_valid(sp_buf_span(&out)));
	sp_policy_decide(p, &unknown, &v);
	for (size_t i = 0; sp_policy_group(p, i) != NULL; i++)
		SP_ASSERT(sp_policy_group(p, i)[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_policy *p = NULL;
	struct sp_policy_diag d;
	enum sp_err e = sp_policy_parse(sp_span_of(data, size), &p, &d);

	if (e != SP_OK) {
		SP_ASSERT(p == NULL && d.line >= 1 && d.column >= 1);
		SP_ASSERT(d.text[0] != '\0');
		return 0;
	}
	use(p);
	sp_policy_free(p);
	return 0;
}
