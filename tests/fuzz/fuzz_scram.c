/* SPDX-License-Identifier: Apache-2.0 */
/* A server's SCRAM challenge, as the vault reads it; or, after a first byte of 1, the text of a verifier. A proof goes out for our nonce,
 * this salt and this count alone. */
#include <sodium.h>
#include <stdint.h>
#include <string.h>

#include "vault/pgscram.h"
#include "vault/poison.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NONCE "0123456789abcdef0123456789abcdef"

static struct sp_secret kept;

static bool
begins(struct sp_span s, const char *with)
{
	size_t n = strlen(with);

	return s.n >= n && sodium_memcmp(s.p, with, n) == 0;
}

static void
challenge(struct sp_span in)
{
	struct sp_scram s = {.is_bound = true, .nonce = NONCE, .n_cb = 32};
	SP_BUF_AUTO out = {.max = 2048};
	uint8_t expect[32];

	if (sp_scram_final(&s, &kept, in, &out, expect) != SP_OK)
		return;
	SP_ASSERT(begins(in, "r=" NONCE));
	SP_ASSERT(in.n > 20 && begins(sp_span_of(in.p + in.n - 19, 19),
	    ",s=c2FsdHNhbHQ=,i=1"));
	SP_ASSERT(begins(sp_buf_span(&out), "c="));
}

static void
verifier(struct sp_span in)
{
	SP_SECRET_AUTO got = {0};
	SP_BUF_AUTO text = {.max = 512};

	/* Of a count that would take long: refused, or not this one's. */
	for (size_t i = 0; i + 1 < in.n; i++)
		if (in.p[i] == '$' && in.n - i > 4 && in.p[i + 4] >= '0' &&
		    in.p[i + 4] <= '9')
			return;
	if (sp_scram_import(sp_span_str("pencil"), in, &got) == SP_OK)
		SP_ASSERT(sp_scram_verifier(&got, &text) == SP_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (kept.p == NULL) {
		uint8_t form[1 + 4 + 1 + 8 + 64] = {1, 1, 0, 0, 0, 8, 's', 'a',
		    'l', 't', 's', 'a', 'l', 't'};

		SP_ASSERT(sp_secret_init() == SP_OK);
		SP_ASSERT(sp_secret_new(&kept, sizeof(form)) == SP_OK);
		memcpy(kept.p, form, sizeof(form));
	}
	if (size > 0 && data[0] == 1)
		verifier(sp_span_of(data + 1, size - 1));
	else if (size > 0)
		challenge(sp_span_of(data + 1, size - 1));
	return 0;
}
