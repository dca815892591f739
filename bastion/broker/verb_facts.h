/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_FACTS_H
#define SP_BROKER_VERB_FACTS_H

#include "bastion/broker/broker.h"
#include "common/text.h"
#include "policy/policy.h"

/*
 * Facts for the policy: of sp_judge, which alone decides about access, of menus
 * and of explanations. A list that does not fit ends with NULL ("there may be
 * more"), so that what was cut cannot hide a person or a target from a forbid.
 */
#define SP_KNOWN_GROUPS 64
#define SP_KNOWN_TAGS 256
struct sp_known {
	struct sp_facts f;
	const char *groups[SP_KNOWN_GROUPS + 1], *tags[SP_KNOWN_TAGS + 1];
	char tag_text[512];
};
/* Names are borrowed for the life of k; tags are copied. */
void sp_known_set(struct sp_known *k, const char *user, const char *target,
    const char *account, const char *tags);
/* group NULL: there are others, unknown. */
void sp_known_group(struct sp_known *k, const char *group);
void sp_known_actor(struct sp_known *k, const struct sp_actor *a);
void sp_known_when(struct sp_known *k, int64_t at_us, const char *source, int mfa);
/* RFC 3339 with Z or an offset. */
SP_MUST enum sp_err sp_time_parse(const char *s, int64_t *us);

#endif
