/* SPDX-License-Identifier: Apache-2.0 */
#include "common/lanes.h"

#include <sodium.h>

static const char label[] = "sallyport lane of group v1";

enum sp_err
sp_lane_of_group(const uint8_t group[static 32], uint8_t lane,
    uint8_t key[static SP_LANE_KEY_BYTES])
{
	crypto_generichash_state st;
	int bad = crypto_generichash_init(&st, group, 32, SP_LANE_KEY_BYTES);

	SP_ASSERT(lane >= 1 && lane <= 16);
	bad |= crypto_generichash_update(&st, (const uint8_t *)label,
	    sizeof(label));
	bad |= crypto_generichash_update(&st, &lane, 1);
	bad |= crypto_generichash_final(&st, key, SP_LANE_KEY_BYTES);
	sodium_memzero(&st, sizeof(st));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}
