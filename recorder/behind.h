/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_BEHIND_H
#define SP_RECORDER_BEHIND_H

#include "recorder/format.h"

/*
 * Large chunks whose hash comes behind them (doc/recording-format.md, "Hashes
 * behind"): which they are, and what HASHES says of them. The writer has their
 * places in the file, who reads has hashed them already.
 */
#define SP_REC_BEHIND_FROM (64u << 10)	/* bytes of a body that may wait */
#define SP_REC_BEHIND_BYTES (UINT64_C(1) << 30) /* that wait at most */
#define SP_REC_BEHIND_IDLE_US 100000	/* without a new one: time to hash */
#define SP_REC_BEHIND_US INT64_C(10000000) /* or the oldest is so old */
#define SP_REC_BEHIND_MAX 8192		/* chunks; a reader takes no more */

struct sp_rec_late {
	uint64_t seq, off;	/* off: where the body stands in the file */
	uint32_t len;
	uint8_t hash[32];
};

struct sp_rec_behind {
	struct sp_rec_late *e;
	size_t n, cap, n_hashed;	/* the first n_hashed have their hash */
	uint64_t bytes;			/* of those that have not */
};
void sp_rec_behind_trim(void);	/* nothing to hash: memory goes back */
void sp_rec_behind_fini(struct sp_rec_behind *b);
bool sp_rec_behind_has_room(const struct sp_rec_behind *b, size_t len);
/* One that is written; SP_ERR_NOMEM. */
SP_MUST enum sp_err sp_rec_behind_add(struct sp_rec_behind *b, uint64_t seq,
    uint64_t off, uint32_t len);
/* One that was read, with its hash. SP_ERR_TOOBIG: more than any writer lets
 * wait. */
SP_MUST enum sp_err sp_rec_behind_saw(struct sp_rec_behind *b,
    struct sp_rec_crypto *c, uint64_t seq, struct sp_span body);
/* Forgets those after the first n: their commit failed. */
void sp_rec_behind_cut(struct sp_rec_behind *b, size_t n);
/* Reads back and hashes about max_bytes of them. SP_ERR_IO. */
SP_MUST enum sp_err sp_rec_behind_hash(struct sp_rec_behind *b,
    struct sp_rec_crypto *c, int fd, uint64_t max_bytes);

/* The body of a HASHES chunk from the first of the hashed ones; *n of them. */
SP_MUST enum sp_err sp_rec_behind_body(const struct sp_rec_behind *b,
    struct sp_buf *body, size_t *n);
void sp_rec_behind_drop(struct sp_rec_behind *b, size_t n); /* the first n */
/* The same chunk, read: its hashes must be those of the first that wait, in
 * order, and these then wait no longer. SP_ERR_PROTO. */
SP_MUST enum sp_err sp_rec_behind_match(struct sp_rec_behind *b,
    struct sp_span body);

#endif
