/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/rows.h"

#include <sodium.h>

#include "vault/poison.h"

static enum sp_err
update(crypto_generichash_state *st, struct sp_span s)
{
	return crypto_generichash_update(st, s.p, s.n) == 0 ? SP_OK :
	    SP_ERR_CRYPTO;
}

static enum sp_err
mac_with(const struct sp_kek *k, struct sp_span head, struct sp_span canon,
    uint8_t mac[static 32])
{
	crypto_generichash_state st;
	enum sp_err e = SP_ERR_CRYPTO;

	if (crypto_generichash_init(&st, k->key.p, k->key.n, 32) == 0 &&
	    update(&st, head) == SP_OK && update(&st, canon) == SP_OK &&
	    crypto_generichash_final(&st, mac, 32) == 0)
		e = SP_OK;
	sodium_memzero(&st, sizeof(st));
	return e;
}

static enum sp_err
row_head(struct sp_buf *b, struct sp_span table, const uint8_t id[static 16],
    uint64_t version, size_t canon_bytes)
{
	SP_TRY(sp_buf_put_bytes(b, sp_span_str("sallyport row v1")));
	SP_TRY(sp_buf_put_bytes(b, table));
	SP_TRY(sp_buf_put(b, id, 16));
	SP_TRY(sp_buf_put_u64(b, version));
	return sp_buf_put_u32(b, (uint32_t)canon_bytes);
}

enum sp_err
sp_row_mac(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    uint8_t mac[static 32])
{
	const struct sp_kek *k = sp_root_kek(r, SP_KEK_ROWS, 0);
	SP_BUF_AUTO head = {.max = 512};

	if (k == NULL)
		return SP_ERR_SEALED;
	if (table.n == 0)
		return SP_ERR_INVAL;
	SP_TRY(row_head(&head, table, id, version, canon.n));
	return mac_with(k, sp_buf_span(&head), canon, mac);
}

bool
sp_row_is_sealed(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    const uint8_t mac[static 32])
{
	SP_BUF_AUTO head = {.max = 512};
	bool ok = false;

	if (!r->is_open || table.n == 0 ||
	    row_head(&head, table, id, version, canon.n) != SP_OK)
		return false;
	for (size_t i = 0; i < r->n_keks; i++) {
		uint8_t want[32];

		if (r->keks[i].purpose != SP_KEK_ROWS ||
		    mac_with(&r->keks[i], sp_buf_span(&head), canon, want) != SP_OK)
			continue;
		ok |= sodium_memcmp(want, mac, sizeof(want)) == 0;
		sodium_memzero(want, sizeof(want));
	}
	return ok;
}
