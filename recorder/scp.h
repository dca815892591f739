/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SCP_H
#define SP_RECORDER_SCP_H

#include "recorder/xfer.h"

/*
 * One exec channel without a terminal, on which scp's old protocol (rcp, that
 * of `scp -O`) may be spoken. It is known by its first bytes and by nothing
 * else. Whatever is something else passes as it is and is only counted.
 */
struct sp_scp;

struct sp_scp *sp_scp_new(const struct sp_xfer_out *out,
    struct sp_xfer_session *session);
void sp_scp_free(struct sp_scp *x);
/* As sp_sftp_take. */
SP_MUST enum sp_err sp_scp_take(struct sp_scp *x, bool from_user,
    struct sp_span *s);
/* A side will send no more. Bytes that were held for a closer look go on. */
SP_MUST enum sp_err sp_scp_eof(struct sp_scp *x, bool from_user);
SP_MUST enum sp_err sp_scp_end(struct sp_scp *x);
const char *sp_scp_why(const struct sp_scp *x);
/* It is neither scp nor rsync: there is no need to look any longer. */
bool sp_scp_is_other(const struct sp_scp *x);

#endif
