/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_HEADER_H
#define SP_RECORDER_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/lanes.h"

/*
 * The header of a recording: what it is, and who can open which lane
 * (doc/recording-format.md, "Header"). Version 5 is what is written: lanes that
 * the same people open are one group. 3 and 4 had boxes for each lane; 1 and 2
 * three lanes, each for every recipient.
 */
#define SP_REC_MAGIC "SPREC1\r\n"
#define SP_REC_MAGIC_BYTES 8
#define SP_REC_VERSION 5
#define SP_REC_SUITE 1
#define SP_REC_LANES 5		/* that we know: enum sp_lane */
#define SP_REC_LANES_OLD 3	/* of versions 1 and 2 */
#define SP_REC_LANES_MAX 16	/* of any header; those beyond ours are skipped */
#define SP_REC_RECIPIENTS_MAX 32
#define SP_REC_HEADER_FIXED 84
/* What a box of a share holds behind the rest: set[16] k u8 n u8 index u8
 * (common/shares.h). */
#define SP_REC_SHARE_MORE (16 + 3)
#define SP_REC_SHARE_SEALED (SP_LANE_SEALED_BYTES + SP_REC_SHARE_MORE)
#define SP_REC_BOX_MAX (SP_GROUP_SEALED_BYTES + SP_REC_SHARE_MORE)
#define SP_REC_HEADER_MAX                                                     \
	(SP_REC_HEADER_FIXED + SP_REC_RECIPIENTS_MAX * 32 +                   \
	    SP_REC_LANES_MAX * (3 + SP_REC_RECIPIENTS_MAX *                   \
	    (1 + SP_REC_SHARE_SEALED)))

/* Who opens a lane: so many of those. */
struct sp_rec_lane_seal {
	uint8_t threshold;	/* 1: any of them; k: k of them together */
	uint8_t n;		/* 0: the header does not name this lane */
	uint8_t who[SP_REC_RECIPIENTS_MAX]; /* index into recipient, ascending */
	uint16_t group;		/* of these lanes (SP_GROUP_BIT); 0: its own key */
	/* sp_rec_box_bytes of each; the lanes of a group have the same ones */
	uint8_t box[SP_REC_RECIPIENTS_MAX][SP_REC_BOX_MAX];
};

struct sp_rec_header {
	uint8_t version;	/* as read; encode takes 0 for SP_REC_VERSION */
	uint8_t session[16];
	int64_t t0_wall_us, t0_boot_us;
	uint8_t rec_key[32];	/* Ed25519, of this recording alone */
	uint32_t lanes;		/* bit n: the file has lane n (1 to 16) */
	uint8_t n_recipients;
	uint8_t recipient[SP_REC_RECIPIENTS_MAX][32];
	struct sp_rec_lane_seal lane[SP_REC_LANES];	/* [lane - 1] */
};

/* Encodes lanes 1 to SP_REC_LANES; those of n 0 are left out. Versions 1 to 4 are
 * for tests. SP_ERR_INVAL: a lane nobody could open, or, in version 5, without a
 * group. */
SP_MUST enum sp_err sp_rec_header_encode(struct sp_buf *b,
    const struct sp_rec_header *h);
/* The length that the header claims, from its first 16 bytes: SP_ERR_PROTO if
 * it is not ours or out of bounds. */
SP_MUST enum sp_err sp_rec_header_length(struct sp_span first16, uint32_t *len);
/* Refuses short, trailing or unknown content. */
SP_MUST enum sp_err sp_rec_header_decode(struct sp_span s,
    struct sp_rec_header *h);
/* Bytes of each box of this lane. */
size_t sp_rec_box_bytes(const struct sp_rec_lane_seal *l);

/* For these lanes (SP_GROUP_BIT), which the same people open (who, n and threshold
 * of each lane): fills the boxes. The lanes' keys are sp_lane_of_group's.
 * SP_ERR_INVAL, SP_ERR_CRYPTO. */
SP_MUST enum sp_err sp_rec_group_seal(struct sp_rec_header *h, uint16_t lanes,
    const uint8_t key[static 32]);
/* The lanes that the same people open as this one. */
uint16_t sp_rec_group_of(const struct sp_rec_header *h, uint8_t lane);

/* What one recipient's box holds. */
struct sp_rec_opened {
	uint8_t lane, threshold; /* 1: key is the lane's key */
	bool is_group;
	uint8_t set[16], k, n, index;	/* else key is y of this share */
	uint8_t key[32];
};
/* Opens recipient i's box (index into recipient) of a lane with their X25519
 * pair. SP_ERR_NOTFOUND: none for them. SP_ERR_CRYPTO: it does not open.
 * SP_ERR_DENIED: it is of another session or lane. */
SP_MUST enum sp_err sp_rec_lane_open(const struct sp_rec_header *h,
    uint8_t lane, size_t i, const uint8_t pk[static 32],
    const uint8_t sk[static 32], struct sp_rec_opened *o);
/* Joins what sp_rec_lane_open gave for n recipients of one lane. SP_ERR_AGAIN:
 * fewer than the threshold; else as sp_shares_join. */
SP_MUST enum sp_err sp_rec_lane_join(const struct sp_rec_opened *o, size_t n,
    uint8_t key[static 32]);

#endif
