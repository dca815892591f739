/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_PASSRULE_H
#define SP_COMMON_PASSRULE_H

#include "common/buf.h"

/*
 * What a password of an account must look like, as an administrator writes it
 * (`account set --password-rule`): words separated by one space, each at most
 * once, in any order:
 *
 *   length=24      characters, 12 to 128
 *   classes=luds   lower, upper, digits, symbols: what it is made of
 *   least=1        of each of these classes so many, 0 to 8
 *   forbid=CHARS   none of these; printable ASCII without the space
 *
 * Empty: the defaults, which are the numbers above. A rule that leaves less
 * than 64 bits to guess is refused, whoever says it.
 */
#define SP_PASS_RULE_MAX 256	/* bytes of its text */
#define SP_PASS_LENGTH_MAX 128
#define SP_PASS_CLASSES 4
struct sp_pass_rule {
	unsigned length, least, classes;	/* classes: bits, l u d s */
	size_t n;		/* characters that it may have: */
	char set[96];
	uint8_t class_of[96];	/* of set[i]: 0 to 3 */
};
/* SP_ERR_SYNTAX or SP_ERR_INVAL, and why not, in words for people. */
SP_MUST enum sp_err sp_pass_rule_parse(struct sp_span text,
    struct sp_pass_rule *r, char why[static 128]);

#endif
