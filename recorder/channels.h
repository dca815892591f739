/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_CHANNELS_H
#define SP_RECORDER_CHANNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ipc_messages.h"
#include "common/rules.h"
#include "common/stream.h"

/*
 * What the recorder knows of the channels of its stream, and its verdict on
 * each frame (common/stream.h). It trusts neither leg: numbers, order, rights
 * and credit are checked here and nowhere else.
 */
#define SP_CHANNELS_SEEN 4096	/* numbers this far below the newest are old */

struct sp_channel {
	uint32_t num;		/* 0: free */
	bool is_open;		/* OPEN_OK was seen */
	bool is_failed;		/* OPEN_FAIL was sent, by the target or by us */
	bool is_ours;		/* refused by us: the target never saw it */
	bool user_eof, target_eof, user_closed, target_closed, has_exited;
	uint64_t to_target, to_user;	/* credit left, in bytes */
};

struct sp_channels {
	const struct sp_rules *rules;
	uint32_t newest;
	uint64_t seen[SP_CHANNELS_SEEN / 64];
	struct sp_channel c[SP_STREAM_CHANNELS_MAX];
	char why[160];		/* for REFUSE and FAULT */
};

enum sp_frame_verdict {
	SP_FRAME_FAULT = 0,	/* the leg broke the protocol: end it */
	SP_FRAME_PASS,		/* record, then forward */
	SP_FRAME_DROP,		/* harmless and late: record, do not forward */
	SP_FRAME_REFUSE,	/* an OPEN beyond the rights: answer OPEN_FAIL */
};

/* rules must live as long as s. */
void sp_channels_init(struct sp_channels *s, const struct sp_rules *rules);
enum sp_frame_verdict sp_channels_judge(struct sp_channels *s,
    const struct sp_frame *f, bool from_user);
/* Channels that the user's side has not closed. */
unsigned sp_channels_n_user_open(const struct sp_channels *s);
unsigned sp_channels_n_open(const struct sp_channels *s);

#endif
