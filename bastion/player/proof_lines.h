/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_PROOF_LINES_H
#define SP_BASTION_PLAYER_PROOF_LINES_H

#include "recorder/read.h"

/*
 * Are the lines that a scribe wrote down (LINE, what `search` looks through) those
 * that the output makes? They are derived once more as the scribe does it. A scribe
 * that ends when nothing happens, and another that goes on, repeat a line and cut a
 * long one in two: that is no lie. After the first gap nothing of this can be said.
 */
struct line_proof_result {
	uint64_t said, derived;
	uint64_t invented;	/* no output made them */
	uint64_t missing;	/* the output made them, and they were not said */
	uint64_t invented_us, missing_us; /* of the earliest */
	uint32_t invented_chan, missing_chan;
	bool has_gap;		/* from then on they prove nothing: */
	uint64_t gap_us;
};
/* Some were, before any gap. */
bool line_proof_is_false(const struct line_proof_result *r);

struct line_proof;
SP_MUST enum sp_err line_proof_new(struct line_proof **p);
void line_proof_free(struct line_proof *p); /* NULL is fine */
/* As proof_take. */
SP_MUST enum sp_err line_proof_take(struct line_proof *p,
    const struct sp_rec_record *r);
/* After the last one. */
void line_proof_end(struct line_proof *p, struct line_proof_result *out);
SP_MUST enum sp_err line_proof_print(const struct line_proof_result *r,
    bool json, struct sp_buf *o);

#endif
