/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/topology.h"

/*
 * The whole topology: two processes can speak if, and only if, a line here
 * says so. The order of a kind's lines is the order of the descriptors in its
 * spawn message (after the file or socket that comes first).
 */
enum pair { LINK, STREAM };
enum end { BROKER, VAULT, KEPT, FROM_KEPT, NOBODY };

static const struct wire {
	enum sp_kid_kind kind;
	enum pair pair;
	enum end other;
	const char *why;
} wires[] = {
    {SP_KID_INGRESS, LINK, BROKER, "login, targets, channels"},
    {SP_KID_INGRESS, LINK, VAULT, "the host's signature over a key exchange"},
    {SP_KID_AUTH, LINK, BROKER, "one PAM conversation"},
    {SP_KID_RECORDER, LINK, BROKER, "open, note, end, closed"},
    {SP_KID_RECORDER, STREAM, BROKER, "the ingress side; the broker hands it on"},
    {SP_KID_RECORDER, STREAM, KEPT, "the egress side, until there is one"},
    {SP_KID_RECOVER, LINK, BROKER, "recovered, seal"},
    {SP_KID_EGRESS, STREAM, FROM_KEPT, "its session's recorder"},
    {SP_KID_EGRESS, LINK, BROKER, "start, ready, failed"},
    {SP_KID_EGRESS, LINK, VAULT, "host proof, password"},
    {SP_KID_EGRESS, STREAM, VAULT, "ssh-agent, one identity"},
    {SP_KID_SQL, STREAM, FROM_KEPT, "its session's recorder"},
    {SP_KID_SQL, LINK, BROKER, "start, ready, failed, cancel"},
    {SP_KID_SQL, LINK, VAULT, "certificate, proof"},
    {SP_KID_SQL, STREAM, VAULT, "as an egress has; a database's closes it"},
    {SP_KID_HOP, STREAM, KEPT, "the next leg's way: ciphertext to the hop"},
    {SP_KID_HOP, LINK, BROKER, "start, ready, failed"},
    {SP_KID_HOP, LINK, VAULT, "host proof, password"},
    {SP_KID_HOP, STREAM, VAULT, "ssh-agent, one identity"},
    {SP_KID_SCAN, STREAM, NOBODY, "a scan has no session"},
    {SP_KID_SCAN, LINK, BROKER, "the key that was seen"},
    {SP_KID_SCAN, LINK, NOBODY, "a scan has no credential"},
    {SP_KID_SCAN, STREAM, NOBODY, "a scan has no agent"},
    {SP_KID_PLAYER, LINK, BROKER, "start, result"},
    {SP_KID_PLAYER, STREAM, BROKER, "the viewer; the broker hands it on"},
    {SP_KID_PLAYER, LINK, VAULT, "lane keys of one recording"},
    {SP_KID_SCRIBE, LINK, BROKER, "its recorder; the broker hands it on"},
    {SP_KID_SEARCH, LINK, BROKER, "what to look for, and files in batches"},
    {SP_KID_SEARCH, STREAM, BROKER, "the viewer; the broker hands it on"},
    {SP_KID_SEARCH, LINK, VAULT, "lane keys of those recordings"},
};

const struct sp_peering sp_topology_peers[] = {
    {SP_ROLE_BRK, SP_ROLE_VLT},
    {SP_ROLE_NTY, SP_ROLE_VLT},
    {SP_ROLE_NTY, SP_ROLE_BRK},
    {SP_ROLE_SHP, SP_ROLE_VLT},
};
const size_t sp_topology_n_peers =
    sizeof(sp_topology_peers) / sizeof(sp_topology_peers[0]);

void
sp_wires_close(struct sp_wires *w)
{
	sp_close_fds(w->child, w->n_child);
	sp_close_fds(w->broker, w->n_broker);
	sp_close_fds(w->vault, w->n_vault);
	sp_close_fds(&w->kept, 1);
	*w = (struct sp_wires){.kept = -1};
}

static enum sp_err
lay(const struct wire *r, struct sp_wires *w)
{
	int p[2];

	SP_TRY(r->pair == LINK ? sp_link_pair(p) : sp_stream_pair(p));
	SP_ASSERT(w->n_child < SP_IPC_FDS_MAX);
	w->child[w->n_child++] = p[0];
	switch (r->other) {
	case BROKER:
		SP_ASSERT(w->n_broker < 2);
		w->broker[w->n_broker++] = p[1];
		return SP_OK;
	case VAULT:
		SP_ASSERT(w->n_vault < 2);
		w->vault[w->n_vault++] = p[1];
		return SP_OK;
	case KEPT:
		SP_ASSERT(w->kept < 0);
		w->kept = p[1];
		return SP_OK;
	case NOBODY:
		sp_close_fds(&p[1], 1);
		return SP_OK;
	case FROM_KEPT:
		break;
	}
	SP_ASSERT(0);
}

enum sp_err
sp_topology_wire(enum sp_kid_kind kind, int first, int kept,
    struct sp_wires *out)
{
	struct sp_wires w = {.kept = -1};
	enum sp_err e = SP_OK;

	if (first >= 0)
		w.child[w.n_child++] = first;
	for (size_t i = 0; e == SP_OK && i < sizeof(wires) / sizeof(wires[0]); i++) {
		if (wires[i].kind != kind)
			continue;
		if (wires[i].other != FROM_KEPT) {
			e = lay(&wires[i], &w);
		} else if (kept < 0) {
			e = SP_ERR_STATE;
		} else {
			w.child[w.n_child++] = kept;
			kept = -1;
		}
	}
	sp_close_fds(&kept, 1);
	if (e != SP_OK) {
		sp_wires_close(&w);
		return e;
	}
	*out = w;
	return SP_OK;
}
