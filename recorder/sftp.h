/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SFTP_H
#define SP_RECORDER_SFTP_H

#include "recorder/xfer.h"

/*
 * One sftp channel (draft-ietf-secsh-filexfer-02, version 3, and OpenSSH's
 * PROTOCOL, section 4). Each request is judged whole before the first byte of
 * it goes on; a refused one is answered here. Replies are matched with their
 * requests. doc/files.md says what is judged how.
 */
struct sp_sftp;

/* out and session must outlive it. NULL: no memory. */
struct sp_sftp *sp_sftp_new(const struct sp_xfer_out *out,
    struct sp_xfer_session *session);
void sp_sftp_free(struct sp_sftp *x);	/* NULL is fine */
/* Takes bytes of one side and moves *s over what it has dealt with.
 * SP_ERR_AGAIN: the rest waits for the other side; give it again after the next
 * call for that side or after sp_sftp_poke. SP_ERR_PROTO: see sp_sftp_why. */
SP_MUST enum sp_err sp_sftp_take(struct sp_sftp *x, bool from_user,
    struct sp_span *s);
/* There may be more room than before. */
SP_MUST enum sp_err sp_sftp_poke(struct sp_sftp *x);
/* The channel is over: what is open or unanswered is noted as cut. */
SP_MUST enum sp_err sp_sftp_end(struct sp_sftp *x);
const char *sp_sftp_why(const struct sp_sftp *x);

#endif
