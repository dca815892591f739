/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SUPERVISOR_TOPOLOGY_H
#define SP_SUPERVISOR_TOPOLOGY_H

#include "common/ipc.h"

/* What the supervisor makes on behalf of others. */
enum sp_kid_kind {
	SP_KID_INGRESS,
	SP_KID_RECORDER,
	SP_KID_RECOVER,
	SP_KID_EGRESS,
	SP_KID_SQL,	/* the egress of a database */
	SP_KID_HOP,	/* an egress on the way to the target */
	SP_KID_SCAN,
	SP_KID_PLAYER,
	SP_KID_SCRIBE,	/* reads one session along, beside its recorder */
	SP_KID_SEARCH,
	SP_KID_AUTH,
	SP_KID_COUNT
};

/* The ends of the pairs of one new process, each list in the order in which
 * its message carries them. Descriptors that are set are owned by the holder
 * of the struct. */
struct sp_wires {
	int child[SP_IPC_FDS_MAX];
	size_t n_child;
	int broker[2];
	size_t n_broker;
	int vault[2];
	size_t n_vault;
	int kept;		/* recorder, hop: for the next in line; else -1 */
};

/* Makes every pair that the table grants to this kind. child[0] is `first`
 * (none if negative); `kept` is the session's stream end that a recorder left
 * behind. Takes both, in every case. */
SP_MUST enum sp_err sp_topology_wire(enum sp_kid_kind kind, int first,
    int kept, struct sp_wires *w);
void sp_wires_close(struct sp_wires *w);
/* The roles that keep a link with each other as long as both live. */
struct sp_peering {
	uint16_t a, b;		/* enum sp_role */
};
extern const struct sp_peering sp_topology_peers[];
extern const size_t sp_topology_n_peers;

#endif
