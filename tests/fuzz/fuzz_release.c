/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers hand in about releases: signatures, rules, challenges, kits and
 * receipts. The first byte says which. What is taken has one form only, and what
 * is shown of it never steers a terminal. */
#include <stdint.h>
#include <string.h>

#include "common/kit.h"
#include "vault/secret.h"
#include "vault/sshsig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
signature(struct sp_span in)
{
	static const char text[] = "a text that nobody signed";
	SP_BUF_AUTO raw = {.max = SP_SSHSIG_MAX};
	struct sp_sshsig s;

	if (sp_sshsig_dearmor(in, &raw) == SP_OK)
		in = sp_buf_span(&raw);
	/* Ed25519 of a key of small order "signs" anything: no rule has it. */
	if (sp_sshsig_verify(in, SP_APPROVE_NAMESPACE, sp_span_str(text), &s) ==
	    SP_OK)
		SP_ASSERT(sp_sshsig_key_check(s.key) == SP_OK &&
		    s.is_sk == sp_sshsig_key_is_sk(s.key));
}

static void
is_printable(struct sp_span s)
{
	SP_ASSERT(sp_utf8_is_valid(s));
	for (size_t i = 0; i < s.n; i++)
		SP_ASSERT(s.p[i] == '\n' || (s.p[i] >= 0x20 && s.p[i] != 0x7f));
}

static void
rule_and_challenge(struct sp_span in)
{
	static struct sp_challenge c;
	static struct sp_rule r;
	SP_BUF_AUTO again = {.max = 2 * SP_RULE_MAX};
	SP_BUF_AUTO text = {.max = SP_CHALLENGE_TEXT_MAX};
	struct sp_span first;
	bool is_rule;

	if (sp_get_bytes(&in, SP_CHALLENGE_MAX, &first) != SP_OK)
		return;
	if ((is_rule = sp_rule_decode(in, &r) == SP_OK)) {
		SP_ASSERT(sp_rule_encode(&again, &r) == SP_OK &&
		    sp_span_eq(sp_buf_span(&again), in));
		for (size_t i = 0; i < r.n; i++)
			(void)!sp_sshsig_key_check(r.key[i].key);
		sp_buf_reset(&again);
	}
	if (sp_challenge_decode(first, &c) != SP_OK)
		return;
	SP_ASSERT(sp_challenge_body(&again, &c) == SP_OK &&
	    sp_buf_put(&again, c.mac, 32) == SP_OK &&
	    sp_span_eq(sp_buf_span(&again), first));
	if (is_rule && sp_challenge_text(&text, &c, &r) == SP_OK)
		is_printable(sp_buf_span(&text));
}

static void
kit(struct sp_span in)
{
	static struct sp_kit k;
	SP_BUF_AUTO again = {.max = SP_KIT_FILE_MAX}, body = {.max = SP_RECEIPT_MAX};

	if (sp_kit_decode(in, &k) != SP_OK)
		return;
	SP_ASSERT(sp_kit_put_head(&again, &k) == SP_OK);
	for (size_t i = 0; i < k.count; i++)
		SP_ASSERT(sp_kit_put_entry(&again, &k.entry[i]) == SP_OK &&
		    sp_buf_put_bytes(&again, k.entry[i].sealed) == SP_OK);
	SP_ASSERT(sp_span_eq(sp_buf_span(&again), k.before_receipt));
	if (sp_receipt_body(&body, &k, "now", "\x1b]0;x", "why\n") == SP_OK)
		is_printable(sp_buf_span(&body));
}

static void
receipt(struct sp_span in)
{
	SP_BUF_AUTO again = {.max = SP_RECEIPT_MAX + 4096};
	struct sp_receipt r;

	if (sp_receipt_parse(in, &r) == SP_OK)
		SP_ASSERT(sp_receipt_text(&again, r.body, r.signature) == SP_OK &&
		    sp_span_eq(sp_buf_span(&again), in));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parts[])(struct sp_span) = {signature,
	    rule_and_challenge, kit, receipt};

	SP_ASSERT(sp_secret_init() == SP_OK);
	if (size > 0)
		parts[data[0] % 4](sp_span_of(data + 1, size - 1));
	return 0;
}
