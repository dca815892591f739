/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_FILES_INT_H
#define SP_RECORDER_FILES_INT_H

#include "recorder/files.h"
#include "recorder/relay.h"
#include "recorder/scp.h"
#include "recorder/sftp.h"

/* Bytes of one frame that go on together. */
struct files_run {
	struct sp_span s;
	bool to_target;
};

struct sp_files_chan {
	struct sp_relay *r;
	uint32_t num;
	struct sp_xfer_out out;
	struct sp_sftp *sftp;	/* one of the two, until it is dead */
	struct sp_scp *scp;
	bool is_open, is_dead, is_stalled, eof_waits, user_closed, target_closed;
	struct sp_buf hold;	/* from the user, not yet judged */
	struct sp_span input;	/* what the parser looks at now */
	struct files_run record, forward;
	size_t back_user, back_target;	/* credit to give back */
	uint64_t owed_user, owed_target; /* grants to keep: bytes of ours */
	unsigned notices;
	uint64_t n_up, n_down, bytes_up, bytes_down, n_refused;
};

/* files_note.c: one `file` record, and a line for the audit log. */
SP_MUST enum sp_err files_note(struct sp_files_chan *c,
    const struct sp_xfer_note *n);
void files_total(struct sp_files_chan *c);
/* A record of ours; makes room for it in the batch. */
SP_MUST enum sp_err files_put(struct sp_relay *r, uint8_t lane, uint8_t kind,
    uint32_t chan, struct sp_span s);

#endif
