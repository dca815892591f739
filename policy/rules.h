/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_POLICY_RULES_H
#define SP_POLICY_RULES_H

#include "common/rules.h"

/*
 * What a broker does with a session's rules: shows them, cuts one set by
 * another, and reads what a person asked for. The words are those of the
 * policy language. A struct sp_rules is large: keep it static or on the heap.
 */
#define SP_RIGHTS_USUAL                                                       \
	((uint32_t)(SP_RIGHT_SHELL | SP_RIGHT_EXEC | SP_RIGHT_SUBSYSTEM |     \
	    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD))

/* The right of that name; 0 for none. */
uint32_t sp_right_of(const char *name);
/* "shell, exec" */
SP_MUST enum sp_err sp_rights_text(struct sp_buf *b, uint32_t rights);
/* Everything that is not as usual, in the policy's words, "; " between. */
SP_MUST enum sp_err sp_rules_text(struct sp_buf *b, const struct sp_rules *r);
/* The text of encoded rules, cut to fit; "" for what is none. Returns dst. */
char *sp_rules_show(char *dst, size_t cap, struct sp_span encoded);

/* "db-01:5432", "10.0.0.0/8:22-23", "[::1]:80", "*:*"; false: none of these */
bool sp_place_parse(const char *text, struct sp_rule_forward *f);
/* "4096", "64K", "10M", "2G"; from 1 byte to 2^50 */
bool sp_size_parse(const char *text, uint64_t *bytes);
bool sp_env_name_ok(const char *name);

/*
 * What both permit, never more: limits are the smaller, forbids are joined,
 * content is recorded if one of them wants it. What can never apply (patterns
 * for a right that is not there) is left out. Where the exact meeting cannot be written down (two lists
 * of path patterns that differ) it is less.
 */
void sp_rules_meet(struct sp_rules *out, const struct sp_rules *a,
    const struct sp_rules *b);
/* The same for encoded ones; SP_ERR_PROTO, SP_ERR_TOOBIG beyond cap. */
SP_MUST enum sp_err sp_rules_meet_encoded(struct sp_span a, struct sp_span b,
    uint8_t *out, size_t cap, size_t *n);

/* Does b permit all that a does, and record no more of it? */
bool sp_rules_is_within(struct sp_span a, struct sp_span b);

/* What a request asks for: "shell,upload,forward=db-01:5432"; all else is cut
 * away. A forward or listen without a place is any that the policy allows.
 * Writes encoded rules to meet with the policy's; false and a text if wrong. */
bool sp_rules_wish(const char *text, struct sp_buf *out, char *why, size_t cap);

#endif
