/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_AGENT_H
#define SP_VAULT_AGENT_H

#include <stdbool.h>

#include "common/buf.h"

/*
 * The server side of the ssh-agent protocol (draft-miller-ssh-agent) on one
 * stream, for one login: it lists one identity and signs with it. Everything
 * else (adding keys, locking, extensions) is answered with SSH_AGENT_FAILURE.
 *
 * libssh waits on its agent for ever: each whole request is therefore answered
 * in the same call, and a stream that is not understood is an error, upon which
 * the caller closes it.
 */
#define SP_AGENT_MSG_MAX 16384
#define SP_AGENT_MSGS_MAX 16	/* in the life of one stream */

struct sp_agent_ops {
	void *arg;
	/* Appends the key blob. Any error: none is listed, failure. */
	enum sp_err (*identity)(void *arg, struct sp_buf *blob);
	/* Appends the signature (its SSH form) over data by the key `blob`. */
	enum sp_err (*sign)(void *arg, struct sp_span blob, struct sp_span data,
	    struct sp_buf *signature);
};

struct sp_agent {
	struct sp_buf rx, tx;
	unsigned n_msgs;
};

void sp_agent_init(struct sp_agent *a);
void sp_agent_fini(struct sp_agent *a);
/* Takes bytes from the stream, leaves the answers in a->tx. SP_ERR_PROTO,
 * SP_ERR_TOOBIG: close the stream (after writing what is in tx). */
SP_MUST enum sp_err sp_agent_input(struct sp_agent *a, struct sp_span in,
    const struct sp_agent_ops *ops);

#endif
