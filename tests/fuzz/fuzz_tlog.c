/* SPDX-License-Identifier: Apache-2.0 */
/* What a stranger's disk or witness says: notes, keys, bundles, leaves, proofs.
 * The first byte says which. What is taken has one form only. */
#include <string.h>

#include "common/tlog_leaf.h"
#include "common/tlog_note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
note(struct sp_span in)
{
	static const uint8_t pk[32] = {1};
	struct sp_checkpoint c;
	struct sp_note_key k;
	struct sp_note n;
	SP_BUF_AUTO t = {.max = 1024};

	SP_ASSERT(sp_note_key_make(&k, sp_span_str("a"), SP_NOTE_COSIGN, pk) ==
	    SP_OK);
	if (sp_note_parse(in, &n) != SP_OK)
		return;
	SP_ASSERT(n.n > 0 && n.text.n < in.n);
	SP_ASSERT(sp_note_check(&n, &k, NULL, NULL) != SP_OK);
	if (sp_checkpoint_parse(n.text, &c) != SP_OK)
		return;
	SP_ASSERT(sp_checkpoint_text(&c, &t) == SP_OK);
	SP_ASSERT(t.len <= n.text.n && memcmp(t.p + t.off, n.text.p, t.len) == 0);
}

static void
key(struct sp_span in)
{
	SP_BUF_AUTO t = {.max = 1024};
	struct sp_note_key k;

	if (sp_note_key_parse(&k, in) != SP_OK)
		return;
	SP_ASSERT(sp_note_key_text(&k, &t) == SP_OK);
	SP_ASSERT(t.len == in.n);
}

static void
bundle(struct sp_span in)
{
	struct sp_span e;

	while (sp_tlog_bundle_next(&in, &e) == SP_OK) {
		SP_BUF_AUTO again = {.max = 4096};
		struct sp_leaf l;

		if (sp_leaf_decode(e, &l) != SP_OK)
			continue;
		SP_ASSERT(sp_leaf_encode(&l, &again) == SP_OK);
		SP_ASSERT(sp_span_eq(sp_buf_span(&again), e));
	}
}

/* No proof makes another leaf or another tree of ours. */
static void
proof(struct sp_span in)
{
	static const uint8_t root[32] = {9}, leaf[32] = {8};
	struct sp_tlog_proof p = {.n = 0};
	uint64_t a = 0, b = 0;

	if (sp_get_u64(&in, &a) != SP_OK || sp_get_u64(&in, &b) != SP_OK)
		return;
	while (p.n < SP_TLOG_PROOF_MAX &&
	    sp_get_fixed(&in, p.h[p.n], 32) == SP_OK)
		p.n++;
	SP_ASSERT(sp_tlog_check_inclusion(&p, a, b, leaf, root) != SP_OK);
	if (a != 0)
		SP_ASSERT(sp_tlog_check_consistency(&p, a, leaf, b, root) != SP_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parts[])(struct sp_span) = {note, key, bundle, proof};

	if (size > 1)
		parts[data[0] % 4](sp_span_of(data + 1, size - 1));
	return 0;
}
