/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_PARENT_H
#define SP_COMMON_PARENT_H

#include "common/ipc.h"

/*
 * How every executed process begins, and how the parent of a role with many
 * children lives. The supervisor executes a role with its link on descriptor
 * 3 and the log on descriptor 2; nothing else is open.
 */
#define SP_SUPERVISOR_FD 3

/* hello -> (the role's start message) : waits for it and returns it in *p; the
 * link stays in SP_ST_NEW until sp_role_started() has been called. */
SP_MUST enum sp_err sp_role_hello(struct sp_link *sup, uint32_t self,
    struct sp_packet *p);
/* Says started{sandbox} and sets the link to SP_ST_READY. */
SP_MUST enum sp_err sp_role_started(struct sp_link *sup, const char *sandbox);

struct sp_parent {
	uint32_t role;
	/* Takes the start message (descriptors included) and warms up: loads
	 * keys, initialises the libraries, does one of each operation that a
	 * child will do, so that children share the pages. */
	enum sp_err (*start)(void *ctx, struct sp_packet *p);
	/* Names of loaded libraries (as they begin), the last one NULL, that no
	 * child needs: it does not have them in its memory. NULL: none. */
	const char *const *without;
	/* In the child: owns the packet's descriptors, enters its sandbox,
	 * returns the exit status. The supervisor's link is closed already. */
	int (*child)(void *ctx, struct sp_packet *p);
};

/* The whole life of a parent; returns its exit status. Children that end are
 * reported with `exited`; on `stop` it forks no more and ends with the last
 * child; when the supervisor goes away it ends at once. */
int sp_parent_main(const struct sp_parent *ops, void *ctx);

#endif
