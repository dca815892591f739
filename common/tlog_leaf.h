/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_TLOG_LEAF_H
#define SP_COMMON_TLOG_LEAF_H

#include "common/tlog.h"

/*
 * What stands in the transparency log. Each entry is
 *
 *   u8 1, u8 type, u16 0, i64 when the notary took it (us), and then
 *   1 open       session[16] rec_key[32] header_hash[32] u64 opened_us
 *                signature[64]: the vault's, over sp_signed_recording
 *   2 checkpoint session[16] previous chain[32] chunk header[28] body
 *   3 close      the same
 *   4 recovered  the same
 *   5 audit      str node, u64 seq, hash[32]: an event and all before it
 *   6 act        u8 act, session[16], object[32], str actor, str detail
 *
 * Integers are little-endian, str is u32 length and bytes; nothing may follow.
 * 2 and 3 are the chunks of the recording as they stand in its file
 * (doc/recording-format.md), signed by the key that the vault certified in 1;
 * 4 is signed by the vault. So who keeps the log cannot make one up.
 */
#define SP_LEAF_BODY_MAX 640u	/* of a chunk */
#define SP_LEAF_ACTOR_MAX 64u
#define SP_LEAF_DETAIL_MAX 512u
#define SP_LEAF_NODE_MAX 64u

enum sp_leaf_type {
	SP_LEAF_OPEN = 1,
	SP_LEAF_CHECKPOINT = 2,
	SP_LEAF_CLOSE = 3,
	SP_LEAF_RECOVERED = 4,
	SP_LEAF_AUDIT = 5,
	SP_LEAF_ACT = 6,
};
enum sp_leaf_act {
	SP_ACT_REPLAY = 1,	/* object: the recording's head, if it is known */
	SP_ACT_EXPORT = 2,	/* object: SHA-256 of what was given out */
	SP_ACT_HOLD = 3,
	SP_ACT_RELEASE = 4,	/* of a hold */
	SP_ACT_DELETE = 5,	/* object: the head of what is no more */
	SP_ACT_VERIFY = 6,
	SP_ACT_SHIP = 7,	/* object: SHA-256 of what the store has */
	SP_ACT_WATCH = 8,	/* of a running session */
	SP_ACT_LAST_ = SP_ACT_WATCH,
};
const char *sp_leaf_type_name(uint8_t type);	/* "unknown" */
const char *sp_leaf_act_name(uint8_t act);	/* "unknown" */

struct sp_leaf {
	uint8_t type, act;
	int64_t at_us;
	uint8_t session[16];	/* zero of AUDIT */
	uint8_t rec_key[32], header_hash[32], signature[64];	/* OPEN */
	int64_t opened_us;
	uint8_t prev[32], head[28];	/* chunks */
	struct sp_span body;
	struct sp_span node;		/* AUDIT */
	uint64_t seq;			/* AUDIT; of a chunk: its number */
	uint8_t hash[32];	/* AUDIT; ACT: the object; of a chunk its chain,
				 * of OPEN nothing */
	struct sp_span actor, detail;	/* ACT */
};
/* SP_ERR_TOOBIG, SP_ERR_INVAL: a type or act that is none. */
SP_MUST enum sp_err sp_leaf_encode(const struct sp_leaf *l, struct sp_buf *out);
/* Borrows from the entry. SP_ERR_UNSUPPORTED: of a later version. A chunk's
 * number and chain are worked out; whether it is signed is another question. */
SP_MUST enum sp_err sp_leaf_decode(struct sp_span entry, struct sp_leaf *l);
/* Did the vault certify this recording (OPEN)? */
SP_MUST enum sp_err sp_leaf_check_open(const struct sp_leaf *l,
    const uint8_t audit_key[static 32]);
/* Is the chunk signed by the recording's key, or (RECOVERED) by the vault's? */
SP_MUST enum sp_err sp_leaf_check_chunk(const struct sp_leaf *l,
    const uint8_t rec_key[static 32], const uint8_t audit_key[static 32]);

#endif
