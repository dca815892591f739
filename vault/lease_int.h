/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_LEASE_INT_H
#define SP_VAULT_LEASE_INT_H

#include "common/kinds.h"
#include "vault/lease.h"
#include "vault/pgscram.h"

/* Shared by lease.c (the table and a lease's life) and lease_use.c (what an
 * egress may ask). */
struct sp_lease {
	enum sp_lease_state state;	/* sp_lease_set_state() only */
	struct sp_leases *table;
	uint8_t session[16];
	uint8_t kind;		/* 0: there is no lease yet; else one that
				 * sp_kind_ops() knows */
	char account[65], target_name[65], source[65];
	struct sp_buf pins, sealed;
	struct sp_secret_row row;
	int64_t not_after_us, due_boot_us;
	uint64_t serial;
	uint32_t rights;
	bool legacy;		/* the host may prove its key by SHA-1 */

	struct sp_link link;
	int agent_fd;
	struct sp_agent agent;
	int64_t half_boot_us;	/* half a request is due whole; 0: there is none */

	struct sp_buf host_key, host_sig;	/* the proof */
	struct sp_secret key;	/* from listing to signing: the certificate's
				 * Ed25519 key, or the account's as it is kept */
	struct sp_buf blob;	/* what was listed: certificate or key */
	uint8_t target[16];
	struct sp_rotation *rotation;	/* rotate.h; NULL: it is none */

	struct sp_buf cert;	/* a database's, DER: pinned */
	struct sp_scram scram;
};

struct sp_rotation;

struct sp_leases {
	struct sp_root *root;
	struct sp_lease_ops ops;
	size_t n;
	struct sp_lease *row[SP_LEASES_MAX];
};

/* The one setter. A transition that is not in the table is a bug of ours. */
void sp_lease_set_state(struct sp_lease *l, enum sp_lease_state to);
bool sp_lease_is_over_time(const struct sp_lease *l);
/* Why what this kind gives cannot be had in this state; NULL when it can. */
const char *sp_lease_not_now(const struct sp_lease *l, enum sp_kind_gives wants);
/* Did the pinned host sign the exchange whose hash is this session id? */
bool sp_lease_is_proved_for(const struct sp_lease *l, struct sp_span session_id);
/* Written once: nobody can change it under its reader. */
SP_MUST enum sp_err sp_lease_memfd(const struct sp_secret *s, int *out);
/* Tells the broker, ends the lease; sp_lease_refuse gives SP_ERR_DENIED. */
void sp_lease_abort(struct sp_lease *l, const char *what, const char *detail);
SP_MUST enum sp_err sp_lease_refuse(struct sp_lease *l, const char *what,
    const char *detail);
/* A message from the egress; owns its descriptors. Errors drop the link. */
SP_MUST enum sp_err sp_lease_message(struct sp_lease *l, struct sp_packet *p);
/* Bytes of the agent stream. Errors drop the stream. */
SP_MUST enum sp_err sp_lease_agent_bytes(struct sp_lease *l, struct sp_span in);

/* lease_sql.c: the kinds for databases */
bool sp_lease_is_sql(uint8_t kind);
SP_MUST enum sp_err sp_lease_check_certs(struct sp_span list);
SP_MUST enum sp_err sp_lease_sql_message(struct sp_lease *l,
    struct sp_packet *p);

#endif
