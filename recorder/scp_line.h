/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SCP_LINE_H
#define SP_RECORDER_SCP_LINE_H

#include "common/buf.h"

/* The lines of scp's old protocol, as a source says them. */
#define SCP_LINE_MAX 8192u

struct scp_line {
	uint8_t type;		/* C, D, E, T; 1, 2: an error's text */
	uint32_t mode;
	uint64_t size;
	struct sp_span name;	/* one part of a path: no slash, not . or .. */
};
enum scp_look {
	SCP_NO,		/* no line of it begins like that */
	SCP_PART,	/* it may still become one */
	SCP_LINE,	/* it is one, up to the end of s */
};
/* l is written on SCP_LINE only and borrows from s. */
enum scp_look scp_look(struct sp_span s, struct scp_line *l);

/* rsync begins, on both sides, with its protocol's version as a u32. first has
 * the n bytes that this side began with; s adds to them. */
bool scp_may_be_rsync(uint8_t first[static 4], size_t *n, struct sp_span s);

#endif
