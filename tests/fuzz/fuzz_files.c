/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers of file transfers, both sides hostile. u8: which parser, rights
 * and rules; then pieces: u8 side and what else, u16 length, bytes. */
#include <stdlib.h>

#include "tests/unit/xfer_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IS_SCP = 1, UP = 2, DOWN = 4, PATTERNS = 8, DIGEST = 16, LIMITS = 32,
	NARROW = 64 };
enum { FROM_USER = 1, AT_END = 2, ROOM = 4 };

static void
rules(struct kit *k, uint8_t how)
{
	if ((how & PATTERNS) != 0) {
		k->rules->n_path = 2;
		k->rules->path[0] = (struct sp_rule_path){.ops = SP_RIGHT_UPLOAD |
		    SP_RIGHT_DOWNLOAD, .pattern = "/home/**"};
		k->rules->path[1] = (struct sp_rule_path){.forbid = true,
		    .ops = SP_RIGHT_UPLOAD, .pattern = "/home/a/ro/*"};
	}
	if ((how & LIMITS) != 0) {
		k->rules->file_max = 100;
		k->rules->session_max = 150;
	}
	k->rules->file_body = (how & DIGEST) != 0 ? SP_BODY_DIGEST : SP_BODY_FULL;
	if ((how & NARROW) != 0)
		k->room = 700;
}

/* What must hold whatever was said. */
static void
check(const struct kit *k, size_t user, size_t target)
{
	SP_ASSERT(k->at_target.len - k->said_target + k->dropped_user +
	    k->hold.len <= user);
	SP_ASSERT(k->at_user.len - k->said_user + k->dropped_target <= target);
	SP_ASSERT(k->end == SP_OK || (k->why != NULL && k->why[0] != '\0'));
	SP_ASSERT(k->rules->session_max == 0 ||
	    k->s.bytes <= k->rules->session_max);
}

static void
piece(struct kit *k, uint8_t what, struct sp_span s)
{
	if ((what & ROOM) != 0) {
		k->room = SIZE_MAX / 2;
		if (k->sftp != NULL && k->end == SP_OK)
			SP_ASSERT(sp_sftp_poke(k->sftp) == SP_OK);
	}
	kit_feed(k, (what & FROM_USER) != 0, s, 0);
	if ((what & AT_END) != 0 && k->scp != NULL && k->end == SP_OK)
		kit_eof(k, (what & FROM_USER) != 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_span in = sp_span_of(data, size);
	size_t fed[2] = {0};
	uint8_t how, what;
	uint16_t n;
	const uint8_t *p;
	struct kit k;

	if (sp_get_u8(&in, &how) != SP_OK)
		return 0;
	((how & IS_SCP) != 0 ? kit_start_scp : kit_start)(&k,
	    ((how & UP) != 0 ? SP_RIGHT_UPLOAD : 0u) |
	    ((how & DOWN) != 0 ? SP_RIGHT_DOWNLOAD : 0u));
	rules(&k, how);
	while (k.end == SP_OK && sp_get_u8(&in, &what) == SP_OK &&
	    sp_get_u16(&in, &n) == SP_OK) {
		if (n > in.n)
			n = (uint16_t)in.n;
		if (sp_get(&in, n, &p) != SP_OK)
			break;
		fed[(what & FROM_USER) != 0] += n;
		piece(&k, what, sp_span_of(p, n));
		check(&k, fed[1], fed[0]);
	}
	kit_over(&k);
	kit_stop(&k);
	return 0;
}
