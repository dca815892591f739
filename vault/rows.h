/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_ROWS_H
#define SP_VAULT_ROWS_H

#include "vault/root.h"

/*
 * The seal of a database row: BLAKE2b-256 keyed with the rows KEK over
 *   "sallyport row v1" table id[16] version[8] canon
 * table and canon carry a u32 length, so that no two rows have the same bytes.
 */
SP_MUST enum sp_err sp_row_mac(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    uint8_t mac[static 32]);
/* Constant-time compare; true only for a mac by an epoch that we have. */
bool sp_row_is_sealed(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    const uint8_t mac[static 32]);
/* Does the seal hold, and is it of the newest epoch? enum sp_renewed: NOW says
 * that it holds by an older one. */
uint8_t sp_row_epoch(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    const uint8_t mac[static 32]);

#endif
