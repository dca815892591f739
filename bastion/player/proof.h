/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_PROOF_H
#define SP_BASTION_PLAYER_PROOF_H

#include "recorder/read.h"

/*
 * Are the screens that a scribe left (keyframes, doc/scribe.md) what the target
 * sent? The output is put through the terminal engine once more, and at the moment
 * of each keyframe the two states must be the same bytes. A scribe reads what
 * targets send: one that was taken over can say what it likes, and nothing else in
 * the recording would show it.
 */
enum proof_why {
	PROOF_DIFFERS = 1,	/* not what was sent */
	PROOF_BROKEN,		/* no keyframe at all */
	PROOF_FUTURE,		/* later than the record it stands in */
	PROOF_PAST,		/* before what was said already */
	PROOF_NOWHERE,		/* of a channel that has no terminal */
};
#define PROOF_FALSE_MAX 16	/* that are told one by one */

struct proof_result {
	uint64_t frames;	/* of them: */
	uint64_t same;
	uint64_t unsure;	/* after a gap, as the recorder says itself */
	uint64_t n_false;
	struct proof_false {
		uint64_t at_us;	/* the moment it claims to show */
		uint64_t told_us; /* of its record */
		uint32_t chan;
		enum proof_why why;
	} which[PROOF_FALSE_MAX]; /* the first ones */
};

struct proof;
SP_MUST enum sp_err proof_new(struct proof **p);
void proof_free(struct proof *p); /* NULL is fine */
/* The next record, of all that there are in OUT, VIEW and META, in their order,
 * none of them covered. */
SP_MUST enum sp_err proof_take(struct proof *p, const struct sp_rec_record *r);
const struct proof_result *proof_result(const struct proof *p);
const char *proof_why(enum proof_why why);

/* A whole recording, and its lines (proof_lines.h; may be NULL). SP_ERR_EOF is not
 * among what it returns: what cannot be read to its end is that error. */
struct line_proof_result;
SP_MUST enum sp_err proof_read(int file, const struct sp_rec_lane_keys *keys,
    struct proof_result *out, struct line_proof_result *lines);
/* For people, or as a member of an object of JSON with the comma before it. */
SP_MUST enum sp_err proof_print(const struct proof_result *r, bool json,
    struct sp_buf *o);

#endif
