/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_HEADER_H
#define SP_RECORDER_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/signed.h"

/*
 * The header of a recording: what it is, and who can open which lane
 * (doc/recording-format.md, "Header"). Version 4 is what is written; 3 is as it
 * but for its chunks; 1 and 2 had three lanes, each for every recipient.
 */
#define SP_REC_MAGIC "SPREC1\r\n"
#define SP_REC_MAGIC_BYTES 8
#define SP_REC_VERSION 4
#define SP_REC_SUITE 1
#define SP_REC_LANES 5		/* that we know: enum sp_lane */
#define SP_REC_LANES_OLD 3	/* of versions 1 and 2 */
#define SP_REC_LANES_MAX 16	/* of any header; those beyond ours are skipped */
#define SP_REC_RECIPIENTS_MAX 32
#define SP_REC_HEADER_FIXED 84
/* A share of a lane's key in a box: common/signed.h, "Lane keys". */
#define SP_REC_SHARE_PLAIN (SP_LANE_PLAIN_BYTES + 16 + 3)
#define SP_REC_SHARE_SEALED (SP_REC_SHARE_PLAIN + 48)
#define SP_REC_HEADER_MAX                                                     \
	(SP_REC_HEADER_FIXED + SP_REC_RECIPIENTS_MAX * 32 +                   \
	    SP_REC_LANES_MAX * (3 + SP_REC_RECIPIENTS_MAX *                   \
	    (1 + SP_REC_SHARE_SEALED)))

/* Who opens a lane: so many of those. */
struct sp_rec_lane_seal {
	uint8_t threshold;	/* 1: any of them; k: k of them together */
	uint8_t n;		/* 0: the header does not name this lane */
	uint8_t who[SP_REC_RECIPIENTS_MAX]; /* index into recipient, ascending */
	/* SP_LANE_SEALED_BYTES of it, with a threshold SP_REC_SHARE_SEALED */
	uint8_t box[SP_REC_RECIPIENTS_MAX][SP_REC_SHARE_SEALED];
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

/* Encodes lanes 1 to SP_REC_LANES; those of n 0 are left out. Versions 1 and 2
 * are for tests. SP_ERR_INVAL: a lane nobody could open. */
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

/* For a lane's key and those who are named in l->who (and l->threshold): fills
 * the boxes. SP_ERR_INVAL, SP_ERR_CRYPTO. */
SP_MUST enum sp_err sp_rec_lane_seal(struct sp_rec_header *h, uint8_t lane,
    const uint8_t key[static 32]);

/* What one recipient's box holds. */
struct sp_rec_opened {
	uint8_t threshold;	/* 1: key is the lane's key */
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
