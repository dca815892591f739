/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_XFER_KIT_H
#define SP_TESTS_XFER_KIT_H

#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "recorder/scp.h"
#include "recorder/sftp.h"

/*
 * A parser of file transfers between two sides of ours. What it lets pass and
 * what it says ends in two buffers, what it notes in a text.
 */
struct kit {
	struct sp_rules *rules;
	struct sp_xfer_session s;
	struct sp_xfer_out out;
	struct sp_sftp *sftp;		/* one of the two */
	struct sp_scp *scp;
	struct sp_buf at_target, at_user, body, hold;
	struct sp_buf log;		/* one line for each note */
	size_t dropped_user, dropped_target, said_user, said_target;
	size_t room;
	enum sp_xfer_leave leave;	/* the second person's word */
	char asked[600];	/* about what; the newest */
	bool is_stalled;
	enum sp_err end;		/* SP_ERR_PROTO: it was a fault */
	const char *why;
};

void kit_start(struct kit *k, uint32_t rights);	/* sftp */
void kit_start_scp(struct kit *k, uint32_t rights);
void kit_stop(struct kit *k);
/* Gives it bytes of one side, in pieces of at most `piece` bytes. What stalls
 * is kept and tried again, as the recorder does. */
void kit_feed(struct kit *k, bool from_user, struct sp_span s, size_t piece);
void kit_poke(struct kit *k);		/* what stalls is tried again */
void kit_eof(struct kit *k, bool from_user);
void kit_over(struct kit *k);		/* the channel ends */
const char *kit_log(struct kit *k);	/* as a C string */

/* Appends a packet of sftp to b; the packet alone is returned.
 * form: u a u32, U a u64, s a C string, b a struct sp_span as string, r a
 * struct sp_span as it is, a no attributes. */
struct sp_span pk_make(struct sp_buf *b, uint8_t type, const char *form, ...);

#endif
