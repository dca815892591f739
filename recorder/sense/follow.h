/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SENSE_FOLLOW_H
#define SP_RECORDER_SENSE_FOLLOW_H

#include "recorder/format.h"
#include "recorder/sense/sense.h"

/*
 * All terminals of one recording, read at once: records go in as they stand in
 * the file, where the lanes of a moment follow each other, and are brought into
 * the order of their times again. Bounded: SP_FOLLOW_TERMS terminals are read,
 * further ones are not; SP_FOLLOW_BYTES wait to be put in order.
 */
#define SP_FOLLOW_TERMS 8
#define SP_FOLLOW_BYTES (2u << 20)
#define SP_FOLLOW_WAIT_US 2000000 /* lanes of a moment are not further apart */

struct sp_follow_ops {
	void *ctx;
	/* An exec's command is told with its OPEN (SP_SENSE_EXEC, 100 %). */
	void (*command)(void *ctx, uint32_t chan,
	    const struct sp_sense_command *c);
	void (*secret)(void *ctx, uint32_t chan,
	    const struct sp_sense_secret *s);
};

struct sp_follow;

SP_MUST enum sp_err sp_follow_new(const struct sp_follow_ops *ops,
    struct sp_follow **f);
void sp_follow_free(struct sp_follow *f);
/* Kinds that don't matter are passed over. SP_ERR_NOMEM. */
SP_MUST enum sp_err sp_follow_take(struct sp_follow *f,
    const struct sp_rec_record *r);
SP_MUST enum sp_err sp_follow_end(struct sp_follow *f);

#endif
