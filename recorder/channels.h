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
/* At most SP_STREAM_CHANNELS_MAX are open by each side; the rest is for those
 * that only one side has closed, and for refused ones. */
#define SP_CHANNELS_PLACES (4 * SP_STREAM_CHANNELS_MAX)

struct sp_channel {
	uint32_t num;		/* 0: free */
	uint8_t kind;		/* enum sp_open_kind */
	bool by_target;		/* REVERSE: the target's side opened it */
	bool has_pty;
	bool is_open;		/* OPEN_OK was seen */
	bool is_failed;		/* OPEN_FAIL was sent, by the other end or by us */
	bool is_ours;		/* refused by us: the other end never saw it */
	bool user_eof, target_eof, user_closed, target_closed, has_exited;
	uint8_t wanted, given;	/* ROTATE: the slot of WANTS, of SECRET */
	uint64_t to_target, to_user;	/* credit left, in bytes */
};

enum sp_listen_state {
	SP_LISTEN_FREE = 0,
	SP_LISTEN_ASKED,	/* LISTEN was forwarded */
	SP_LISTEN_LIVE,		/* LISTEN_OK */
	SP_LISTEN_LEFT,		/* UNLISTEN before the answer */
};

struct sp_listen {
	uint32_t num;
	enum sp_listen_state state;
	uint16_t asked, port;
	size_t n_host;
	char host[SP_RULES_HOST_MAX + 1];
};

struct sp_numbers {
	uint32_t newest;
	uint64_t seen[SP_CHANNELS_SEEN / 64];
};

struct sp_channels {
	const struct sp_rules *rules;
	struct sp_numbers user, target;
	unsigned high;		/* places below it may be taken */
	struct sp_channel c[SP_CHANNELS_PLACES];
	struct sp_listen l[SP_STREAM_LISTENS_MAX];
	const char *refusal;	/* the next OPEN of the user is refused: why */
	char why[400];		/* for REFUSE and FAULT */
};

enum sp_frame_verdict {
	SP_FRAME_FAULT = 0,	/* the leg broke the protocol: end it */
	SP_FRAME_PASS,		/* record, then forward */
	SP_FRAME_DROP,		/* harmless and late: record, do not forward */
	/* an OPEN or LISTEN beyond the rights: answer OPEN_FAIL, LISTEN_FAIL */
	SP_FRAME_REFUSE,
};

/* rules must live as long as s. */
void sp_channels_init(struct sp_channels *s, const struct sp_rules *rules);
enum sp_frame_verdict sp_channels_judge(struct sp_channels *s,
    const struct sp_frame *f, bool from_user);
/* NULL: there is none of that number. Until the next frame. */
const struct sp_channel *sp_channels_find(struct sp_channels *s, uint32_t num);
/* What the recorder itself grants (or, negative, keeps of a grant). */
void sp_channels_credit(struct sp_channels *s, uint32_t chan, int64_t to_target,
    int64_t to_user);
/* Channels that the user's side has not closed. */
unsigned sp_channels_n_user_open(const struct sp_channels *s);
unsigned sp_channels_n_open(const struct sp_channels *s);
/* The payload of LISTEN. */
SP_MUST enum sp_err sp_listen_decode(struct sp_span s, struct sp_span *host,
    uint32_t *port);

/* ---- listen.c, for channels.c */
enum sp_frame_verdict sp_channels_listen(struct sp_channels *s,
    const struct sp_frame *f, bool from_user);
const struct sp_listen *sp_channels_listener(const struct sp_channels *s,
    uint32_t num);	/* a live one, or NULL */
bool sp_channels_take_number(struct sp_numbers *n, uint32_t num);
bool sp_channels_was_used(const struct sp_numbers *n, uint32_t num);
enum sp_frame_verdict sp_channels_fault(struct sp_channels *s,
    const struct sp_frame *f, bool from_user, const char *why);

#endif
