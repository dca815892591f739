/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_LANES_H
#define SP_COMMON_LANES_H

#include "common/signed.h"

/*
 * Groups of lanes (doc/recording-format.md, "Who can open"): lanes that the same
 * people open have one secret, which is sealed once. What it opens to is
 *   group key[32] session[16] lanes u16      (50 bytes, 98 sealed)
 * and each lane's key is derived from it, so that whoever opens the box can hand
 * out one lane and withhold another. lanes: bit i is lane i + 1.
 */
#define SP_GROUP_PLAIN_BYTES 50
#define SP_GROUP_SEALED_BYTES 98
#define SP_GROUP_BIT(lane) ((uint16_t)(1u << ((lane) - 1u)))

/* lane: 1 to 16. */
SP_MUST enum sp_err sp_lane_of_group(const uint8_t group[static 32],
    uint8_t lane, uint8_t key[static SP_LANE_KEY_BYTES]);

#endif
