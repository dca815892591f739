/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_LEASE_H
#define SP_VAULT_LEASE_H

#include <poll.h>

#include "common/ipc.h"
#include "vault/agent.h"
#include "vault/secrets.h"

/*
 * A lease is the right to one login: one account at one target, until
 * not_after. The broker grants it (v_lease), the supervisor brings the link
 * and the agent stream of that session's egress (egress_link), in either order.
 *
 *   WAIT_LEASE --+                     a link without its lease: 30 s
 *                +--> READY --host_proof--> PROVED --sign/take--> USED
 *   WAIT_LINK  --+                     any misuse, time, seal --> ENDED
 *
 * What the egress cannot do, captured or not: get a signature or a password
 * before it has shown the signature of a pinned host key over the very key
 * exchange that it logs in over; for another user, session or service; a
 * second time; after not_after. Each refusal ends the lease and is a security
 * event. The order is kept twice: by the message table (host_proof in READY,
 * take_password in LIVE) and by the state here.
 *
 * The key of a certificate is made when the identity is asked for, lives 60 s
 * at most and is wiped with the first signature. A stored secret is opened only
 * while it is used.
 */
#define SP_LEASES_MAX 4096
#define SP_LEASE_WAIT_US 30000000
#define SP_LEASE_HALF_US 1000000	/* for the rest of a request to the agent */

enum sp_lease_state {
	SP_LEASE_NEW = 0,
	SP_LEASE_WAIT_LINK,
	SP_LEASE_WAIT_LEASE,
	SP_LEASE_READY,
	SP_LEASE_PROVED,
	SP_LEASE_USED,
	SP_LEASE_ENDED,
};

struct sp_lease_ops {
	void *arg;
	/* Something was refused: becomes security_event. */
	void (*event)(void *arg, const char *what,
	    const uint8_t session[static 16], const char *detail);
	/* The one login was signed for or its password handed out. */
	void (*used)(void *arg, const uint8_t session[static 16], uint8_t kind);
};

struct sp_leases;
struct sp_leases *sp_leases_new(struct sp_root *root,
    const struct sp_lease_ops *ops);
void sp_leases_free(struct sp_leases *t);
size_t sp_leases_n(const struct sp_leases *t);

/* v_lease. text says why not, in words; now_us is the wall clock. */
SP_MUST enum sp_err sp_lease_grant(struct sp_leases *t,
    const struct sp_msg_v_lease *m, int64_t now_us, char text[static 256]);
/* egress_link: takes both descriptors in any case. */
SP_MUST enum sp_err sp_lease_link(struct sp_leases *t,
    const uint8_t session[static 16], int link_fd, int agent_fd);
/* Of a lease for a role that is made for its session: what CREATE ROLE takes. */
SP_MUST enum sp_err sp_lease_verifier(struct sp_leases *t,
    const uint8_t session[static 16], struct sp_buf *out);
/* v_lease_end: SP_ERR_NOTFOUND. */
SP_MUST enum sp_err sp_lease_end(struct sp_leases *t,
    const uint8_t session[static 16]);
/* Ends every lease that has not been used: the vault seals, or the broker that
 * granted them is gone. */
void sp_leases_end_unused(struct sp_leases *t, const char *why);

/* The poll loop: rows for all descriptors (two a lease), then what poll said.
 * Between the two calls leases may be added, not removed. */
size_t sp_leases_poll(struct sp_leases *t, struct pollfd *pf, size_t cap);
void sp_leases_serve(struct sp_leases *t, const struct pollfd *pf, size_t n);
/* Ends what is over its time; frees what has ended. */
void sp_leases_tick(struct sp_leases *t, int64_t now_us, int64_t boot_us);
/* The boot-time clock at which tick has work; INT64_MAX for never. */
int64_t sp_leases_due_us(const struct sp_leases *t);

#endif
