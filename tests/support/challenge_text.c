/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a challenge and its rule (each u32 length and bytes), prints the text
 * that is signed: for tests, so that there is one form of it only. */
#include <stdio.h>
#include <unistd.h>

#include "common/release.h"

int
main(void)
{
	static uint8_t in[SP_CHALLENGE_MAX + SP_RULE_MAX + 16];
	static struct sp_challenge c;
	static struct sp_rule r;
	SP_BUF_AUTO out = {.max = SP_CHALLENGE_TEXT_MAX};
	struct sp_span s, challenge, rule;
	size_t n = fread(in, 1, sizeof(in), stdin);

	s = sp_span_of(in, n);
	if (sp_get_bytes(&s, SP_CHALLENGE_MAX, &challenge) != SP_OK ||
	    sp_get_bytes(&s, SP_RULE_MAX, &rule) != SP_OK ||
	    sp_challenge_decode(challenge, &c) != SP_OK ||
	    sp_rule_decode(rule, &r) != SP_OK ||
	    sp_challenge_text(&out, &c, &r) != SP_OK)
		return 1;
	return fwrite(sp_buf_span(&out).p, 1, out.len, stdout) == out.len ? 0 : 1;
}
