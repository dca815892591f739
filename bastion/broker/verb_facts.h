/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_FACTS_H
#define SP_BROKER_VERB_FACTS_H

#include "common/text.h"
#include "policy/policy.h"

/* Facts for showing what the policy would say: menus and explanations. What
 * decides about access is sp_judge alone. */
#define SP_KNOWN_GROUPS 64
#define SP_KNOWN_TAGS 64
struct sp_known {
	struct sp_facts f;
	const char *groups[SP_KNOWN_GROUPS], *tags[SP_KNOWN_TAGS];
	char tag_text[512];
};
/* Names are borrowed for the life of k; tags are copied. */
void sp_known_set(struct sp_known *k, const char *user, const char *target,
    const char *account, const char *tags);
void sp_known_group(struct sp_known *k, const char *group);
void sp_known_when(struct sp_known *k, int64_t at_us, const char *source, int mfa);
/* RFC 3339 with Z or an offset. */
SP_MUST enum sp_err sp_time_parse(const char *s, int64_t *us);

#endif
