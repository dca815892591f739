/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_PLAY_H
#define SP_COMMON_PLAY_H

/* `what` of play_start, beside SP_PLAY_KEYS, _TIMES and _UNMASKED: of mode VERIFY,
 * the scribe's screens are compared with what the output makes of them. */
#define SP_PLAY_SCREENS 8u

#endif
