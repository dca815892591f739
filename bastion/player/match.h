/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_MATCH_H
#define SP_BASTION_PLAYER_MATCH_H

#include <regex.h>
#include <stdbool.h>

#include "common/buf.h"

/*
 * What an auditor looks for: words as they are, or a POSIX extended regular
 * expression. Letters of ASCII are equal in both cases unless the words hold a
 * capital one.
 */
#define MATCH_BYTES_MAX 256
struct match {
	bool is_regex, folds;
	regex_t re;
	/* The words; of an expression, what every match of it holds (0: nothing). */
	size_t n;
	uint8_t lit[MATCH_BYTES_MAX];	/* folded when `folds` */
	uint16_t skip[256];
};
/* SP_ERR_INVAL: empty or too long; SP_ERR_SYNTAX: no regular expression, and
 * `why` (256 bytes, or NULL) says what is wrong with it. */
SP_MUST enum sp_err match_init(struct match *m, struct sp_span words,
    bool is_regex, char *why);
void match_fini(struct match *m);
/* The first match in the text; its place and length. */
bool match_find(const struct match *m, struct sp_span text, size_t *at,
    size_t *n);
/* False: no part of the text can match. Much cheaper than match_find with an
 * expression. */
bool match_may(const struct match *m, struct sp_span text);

#endif
