/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_FILES_H
#define SP_RECORDER_FILES_H

#include "common/stream.h"
#include "recorder/xfer.h"

/*
 * The channels of a session on which files are transferred: which parser reads
 * them, what of them is recorded and forwarded, whose credit it is, and what
 * the audit log hears. doc/files.md.
 */
struct sp_relay;
struct sp_files_chan;

struct sp_files {
	struct sp_xfer_session session;
	struct sp_files_chan *chan[SP_STREAM_CHANNELS_MAX];
	struct sp_buf lines;	/* for the audit log, not yet told */
	uint32_t lines_chan;
	int64_t tell_by_us;	/* 0: nothing waits */
	unsigned told;		/* events so far */
	uint64_t untold;	/* lines that were too many */
};

/* An OPEN that goes on to the target. */
SP_MUST enum sp_err sp_files_open(struct sp_relay *r, const struct sp_frame *f);
/* Is this channel looked into? Then each frame of it that may pass goes to
 * sp_files_frame, which records and forwards it. */
bool sp_files_has(const struct sp_relay *r, uint32_t chan);
SP_MUST enum sp_err sp_files_frame(struct sp_relay *r, const struct sp_frame *f,
    bool from_user);
/* What waited for room or for the other side. */
SP_MUST enum sp_err sp_files_pump(struct sp_relay *r);
/* Tells the broker what has waited long enough; the boot time in us at which it
 * wants to be called again, INT64_MAX for never. */
int64_t sp_files_tick(struct sp_relay *r, int64_t now_us);
/* The session ends: what is open is noted, the broker told. */
void sp_files_fini(struct sp_relay *r);

#endif
