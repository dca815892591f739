/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_VAULT_KIT_H
#define SP_TESTS_VAULT_KIT_H

#include "vault/lease.h"

/* An opened vault in memory, a target's host key, an egress: what the vault's
 * tests and its fuzz targets build on. */
#define KIT_PASSPHRASE "a passphrase of tests"
#define KIT_PASSWORD "wr\xc3\xb6ng-h0rse"

void kit_state(struct sp_state *s);	/* one cheap passphrase slot */
void kit_root(struct sp_root *r);	/* opened */

/* Ed25519 host key: blob, the SSH string of it, a signature over a hash. */
struct kit_host {
	uint8_t sk[64];
	struct sp_buf blob, pin;
};
void kit_host_make(struct kit_host *h, uint8_t seed);
void kit_host_fini(struct kit_host *h);
void kit_host_sign(const struct kit_host *h, struct sp_span hash,
    struct sp_buf *sig);

/* A table of leases, the egress's ends of one, what was reported. */
struct kit {
	struct sp_root root;
	struct sp_leases *t;
	struct kit_host host;
	struct sp_link link;
	int agent;
	uint8_t session[16], session_id[32];
	struct sp_buf sealed;
	unsigned n_events, n_used;
	char what[64];
	uint8_t used_kind;
};
void kit_begin(struct kit *k);
void kit_end(struct kit *k);
/* v_lease for account "admin" at "core-01", kind, until now + left_us. */
struct sp_msg_v_lease kit_wish(struct kit *k, uint8_t kind, int64_t left_us);
enum sp_err kit_grant(struct kit *k, const struct sp_msg_v_lease *m);
enum sp_err kit_link(struct kit *k);	/* egress_link */
void kit_turn(struct kit *k);	/* serves what is there, and ticks */
/* Sends host_proof with this key over this hash; the answer's ok, or -1. */
int kit_prove(struct kit *k, const struct kit_host *h, struct sp_span hash);
int kit_prove_with(struct kit *k, struct sp_span host_key, struct sp_span sig);
/* Writes an agent message, reads the answer's body into out; the answer's type,
 * 0 when the stream was closed. */
int kit_agent(struct kit *k, struct sp_span msg, struct sp_buf *out);
int kit_list(struct kit *k, struct sp_buf *blob); /* identity's blob */
/* The bytes that a client signs. */
void kit_userauth(struct sp_buf *out, struct sp_span session_id,
    const char *user, const char *service, const char *method,
    struct sp_span blob);
/* A sign request: SIGN_RESPONSE 14, failure 5, 0 when closed. sig: raw 64. */
int kit_sign(struct kit *k, struct sp_span blob, struct sp_span data,
    uint8_t sig[static 64]);

#endif
