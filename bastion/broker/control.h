/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_CONTROL_H
#define SP_BROKER_CONTROL_H

#include "bastion/broker/broker.h"

/*
 * The control socket of the host. A connection says ctl_verb once and gets
 * ctl_stream or ctl_refused. Who it is says SO_PEERCRED: uid 0, or the
 * broker's own; in an instance of one user that is its owner, in an instance
 * of root nobody but root is let in by the socket's mode.
 */
struct sp_control;
/* Takes the listening descriptor (SOCK_SEQPACKET). NULL: no memory. */
struct sp_control *sp_control_new(struct sp_broker *b, int listen_fd);
void sp_control_free(struct sp_control *c);
/* Each argument as u32 length and bytes, into NUL-terminated strings of one
 * block. At most SP_VERB_ARGS_MAX, no NUL inside, UTF-8. */
SP_MUST enum sp_err sp_control_argv(struct sp_span s, char **block,
    char **argv, size_t *argc);

#endif
