/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_SIGNED_H
#define SP_COMMON_SIGNED_H

#include "common/ipc_messages.h"
#include "common/buf.h"

/*
 * The bytes that the vault's audit key (Ed25519) signs, one form for each
 * purpose, so that no signature is good for another. Both who signs and who
 * verifies build them here from their own data.
 *
 *   recording  "sallyport recording v1" 0 session[16] rec_key[32]
 *              header_hash[32] opened_us
 *   close      "sallyport close v1" 0 session[16] head[32] chunks at_us
 *   recovered  "sallyport recovered v1" 0 session[16] head[32] chunks at_us
 *   audit      "sallyport audit v1" 0 seq head[32] at_us
 * Integers are 64 bits, little-endian.
 */
#define SP_SIGNED_MAX 160
SP_MUST enum sp_err sp_signed_recording(struct sp_buf *b,
    const uint8_t session[static 16], const uint8_t rec_key[static 32],
    const uint8_t header_hash[static 32], int64_t opened_us);
SP_MUST enum sp_err sp_signed_close(struct sp_buf *b, bool recovered,
    const uint8_t session[static 16], const uint8_t head[static 32],
    uint64_t chunks, int64_t at_us);
SP_MUST enum sp_err sp_signed_audit(struct sp_buf *b, uint64_t seq,
    const uint8_t head[static 32], int64_t at_us);

/* What a recording's own key signs in a chunk that stands in clear, with the
 * chain before it and its header (doc/recording-format.md):
 *   "sallyport chunk v1" 0 previous chain[32] header[28] body without signature */
SP_MUST enum sp_err sp_signed_chunk(struct sp_buf *b,
    const uint8_t prev[static 32], const uint8_t head[static 28],
    struct sp_span body);

/*
 * Lane keys of a recording. In its header one secret for each group of lanes
 * (common/lanes.h) stands as a libsodium sealed box (crypto_box_seal) to a
 * recipient's X25519 key, 98 bytes; or, where k of n people must come together
 * (recorder/header.h), a share of it (common/shares.h). In older ones each lane has
 * a box of its own, over
 *   lane key[32] session[16] lane u8      (49 bytes, 97 sealed)
 * In the play_keys message: u8 0 and the 98 bytes, for each group; or u8 lane and
 * the 97 bytes. In play_keys_r: u8 lane and the 32 bytes. The vault refuses a box
 * whose session is not the granted one or whose lane does not match, and gives out
 * no key of a lane that is not granted.
 */
#define SP_LANE_KEY_BYTES 32
#define SP_LANE_PLAIN_BYTES 49
#define SP_LANE_SEALED_BYTES 97
enum sp_lane {
	SP_LANE_OUT = 1,	/* what the target sent, what happened */
	SP_LANE_IN = 2,		/* what the user sent */
	SP_LANE_META = 3,	/* who and why, notices, the end */
	SP_LANE_FILE = 4,	/* bodies of files */
	SP_LANE_VIEW = 5,	/* what was derived from OUT: screens, lines, commands */
};

#endif
