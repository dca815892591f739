/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <sodium.h>
#include <string.h>

#include "common/text.h"

/*
 * Rows that the vault has verified a moment ago. A login loads the same few
 * rows several times; the same bytes under the same seal get the same answer.
 * Each entry is the hash of the whole question (table, id, version, canonical
 * bytes and seal): a row that differs in one bit is asked for again. It counts
 * only while the vault has verified something within FRESH_US: one that is
 * sealed or away is noticed as before.
 */
#define FRESH_US 200000

static uint8_t *
place(struct sp_memo *m, const uint8_t key[static 32])
{
	return m->seen[(key[0] | (size_t)key[1] << 8) % SP_MEMO_ROWS];
}

static bool
is_fresh(const struct sp_store *s)
{
	return s->memo.proved_us != 0 && sp_vault_is_open(s->b->vault) &&
	    sp_boot_us() - s->memo.proved_us < FRESH_US;
}

bool
sp_memo_has(struct sp_store *s, struct sp_span question, uint8_t key[static 32])
{
	SP_ASSERT(crypto_hash_sha256(key, question.p, question.n) == 0);
	return is_fresh(s) && memcmp(place(&s->memo, key), key, 32) == 0;
}

void
sp_memo_add(struct sp_store *s, const uint8_t key[static 32])
{
	/* Another vault, or an older silence: what was known then is gone. */
	if (!is_fresh(s))
		memset(s->memo.seen, 0, sizeof(s->memo.seen));
	s->memo.proved_us = sp_boot_us();
	memcpy(place(&s->memo, key), key, 32);
}
