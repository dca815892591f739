/* SPDX-License-Identifier: Apache-2.0 */
/* The vault's state file. Whatever is read encodes to the same bytes again: it
 * has one form. The checksum is mended first, or nothing would get past it. */
#include <sodium.h>
#include <stdint.h>
#include <string.h>

#include "vault/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
one(struct sp_span file)
{
	SP_BUF_AUTO again = {.max = SP_STATE_MAX};
	struct sp_state s;

	if (sp_state_decode(file, &s) != SP_OK)
		return;
	SP_ASSERT(s.n_slots >= 1 && s.n_slots <= SP_SLOTS_MAX);
	SP_ASSERT(s.n_keks >= SP_KEK_LAST_ && s.n_keks <= SP_KEKS_MAX);
	SP_ASSERT(sp_state_encode(&s, &again) == SP_OK);
	SP_ASSERT(sp_span_eq(sp_buf_span(&again), file));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t copy[SP_STATE_MAX + 64];

	SP_ASSERT(sodium_init() >= 0);
	one(sp_span_of(data, size));
	if (size < 32 || size > sizeof(copy))
		return 0;
	memcpy(copy, data, size);
	crypto_generichash(copy + size - 32, 32, copy, size - 32, NULL, 0);
	one(sp_span_of(copy, size));
	return 0;
}
