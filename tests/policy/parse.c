/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the policy on standard input with the engine's own parser: 0 if it is
 * right, else 1 and the place. For examples in texts (tests/link/man.py). */
#include <stdio.h>

#include "policy/policy.h"

int
main(void)
{
	static char text[SP_POLICY_TEXT_MAX + 1];
	struct sp_policy_diag d = {0};
	struct sp_policy *p = NULL;
	size_t n = fread(text, 1, sizeof(text), stdin), rules;

	if (sp_policy_parse(sp_span_of(text, n), &p, &d) != SP_OK) {
		printf("%u:%u: %s\n", d.line, d.column, d.text);
		return 1;
	}
	rules = sp_policy_n_rules(p);
	sp_policy_free(p);
	printf("%zu rules\n", rules);
	return rules > 0 ? 0 : 1;
}
