/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_RELAY_H
#define SP_RECORDER_RELAY_H

#include "common/ipc.h"
#include "common/rules.h"
#include "common/sealto.h"
#include "common/stream.h"
#include "recorder/aside.h"
#include "recorder/channels.h"
#include "recorder/files.h"
#include "recorder/gate.h"
#include "recorder/flow.h"
#include "recorder/idle.h"
#include "recorder/writer.h"

/*
 * One session's recorder: doc/flows.md, 7 and 8. Two streams, a link with the
 * broker, a file. Nothing is written to a stream before the writer has it.
 */
#define SP_RELAY_BATCH (256u << 10)	/* bytes put into one commit */
#define SP_RELAY_HIGH (1u << 20)	/* waiting on one side: the other is not read */

struct sp_relay {
	uint8_t session[16];
	/* From the supervisor; nothing that the broker says changes them. */
	const struct sp_sealto *sealto;
	int64_t full_wait_us;	/* to stand still before a full disk ends it */
	bool is_pinned;
	uint8_t audit_key[32], recording_key[32];
	struct sp_link link;
	struct sp_stream user, target;
	struct sp_rules *rules;	/* one process has one session: never freed */
	struct sp_channels channels;
	struct sp_flow *flows;
	struct sp_idle idle;
	struct sp_files files;
	struct sp_aside aside;
	struct sp_gate gate;
	struct sp_rec_writer *w;
	uint8_t durability;
	bool is_certified, is_bulk, more, is_ending;
	bool is_unsafe;		/* the batch lacks a record that it must have */
	bool user_ready, target_ready, link_ready, aside_ready; /* poll said so */
	bool user_input;	/* the batch holds something from the user */
	uint8_t code;		/* enum sp_end_code, once is_ending */
	char reason[SP_REC_REASON_MAX];
	int64_t files_us, aside_us, sync_by_us, tick_us, target_gone_us, anchor_us;
	int64_t full_us;	/* since then it stands still; 0: it does not */
	uint32_t segment;		/* of which the streams may hold bytes */
	bool owes_wipe;			/* ... and of the one before, to be sent */
	bool has_rested;		/* and nothing came since */
	uint64_t anchored, pointed;
	uint8_t certificate[64];	/* the vault's, of the recording */

};

/* Takes the descriptors. SP_ERR_IO. */
SP_MUST enum sp_err sp_relay_init(struct sp_relay *r, int link_fd,
    int user_fd, int target_fd);
void sp_relay_fini(struct sp_relay *r);
/* The whole life, from rec_open to rec_closed; the exit status. */
int sp_relay_run(struct sp_relay *r, int file_fd);

/* What the parts of it use. */
void sp_relay_end(struct sp_relay *r, uint8_t code, const char *fmt, ...)
    SP_PRINTF(3, 4);
void sp_relay_event(struct sp_relay *r, const char *what, uint32_t chan,
    const char *detail);
/* Takes back what was queued after `mark`: it was not recorded. */
void sp_relay_unqueue(struct sp_stream *s, size_t mark);
/* ---- relay.c: its OPEN, or the last chunk that it signed, for the transparency
 * log. */
SP_MUST enum sp_err sp_relay_tell_point(struct sp_relay *r, bool is_open);
/* ---- relay_end.c: CLOSE, and both sides are told; the exit status. */
int sp_relay_finish(struct sp_relay *r);
/* The records of the flows that no CLOSE has ended. */
void sp_relay_end_flows(struct sp_relay *r);
/* Records a frame that may pass; and queues it for the other side. */
SP_MUST enum sp_err sp_relay_record(struct sp_relay *r,
    const struct sp_frame *f, bool from_user);
SP_MUST enum sp_err sp_relay_pass(struct sp_relay *r, const struct sp_frame *f,
    bool from_user);
/* full.c: below the disk's reserve nothing is read from either side; the user is
 * told, and after full_wait_us it ends. True while it stands still. */
bool sp_relay_stands_still(struct sp_relay *r, int64_t now);
/* wipe.c: nothing of a segment that is over stays in memory; and an idle session
 * keeps no room. */
void sp_relay_forget(struct sp_relay *r);
/* Judges, records and queues one frame. */
void sp_relay_frame(struct sp_relay *r, struct sp_frame *f, bool from_user);
/* Its connection is gone. */
void sp_relay_user_went(struct sp_relay *r);
/* An OPEN of the user that is not to be, whatever its rights. */
void sp_relay_refuse(struct sp_relay *r, struct sp_frame *f, const char *why);
/* Judges, records and queues what both streams hold, up to one batch. */
void sp_relay_take(struct sp_relay *r);

#endif
