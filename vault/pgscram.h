/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_PGSCRAM_H
#define SP_VAULT_PGSCRAM_H

#include "vault/secret.h"

/*
 * SCRAM-SHA-256 of PostgreSQL (RFC 5802, 7677), from the verifier's side of the
 * secret: what is kept is ClientKey and ServerKey with their salt and count,
 * never a password. Kept form: u8 1, u32 iterations, u8 salt bytes, salt,
 * ClientKey[32], ServerKey[32].
 *
 * The messages are built here, not taken from the egress: the answer fits one
 * connection, the one whose certificate the vault has seen and found pinned.
 */
#define SP_SCRAM_ITERATIONS 4096	/* PostgreSQL's own default */
#define SP_SCRAM_ITERATIONS_MAX 1000000
#define SP_SCRAM_SALT_MAX 64
#define SP_SCRAM_NONCE_TEXT 33

struct sp_scram {
	bool is_bound;			/* tls-server-end-point */
	char nonce[SP_SCRAM_NONCE_TEXT]; /* ours; "" before the first message */
	uint8_t cb[64];			/* the certificate's hash */
	size_t n_cb;
};

/* A secret that no password leads to. */
SP_MUST enum sp_err sp_scram_generate(struct sp_secret *kept);
/* From a password (printable ASCII, as SASLprep would leave it; else
 * SP_ERR_INVAL) and a fresh salt; or, where verifier is not empty, with the
 * salt of this "SCRAM-SHA-256$..." text as it stands in pg_authid:
 * SP_ERR_DENIED when it is not this password's. */
SP_MUST enum sp_err sp_scram_import(struct sp_span password,
    struct sp_span verifier, struct sp_secret *kept);
/* What ALTER ROLE ... PASSWORD takes: no secret that opens anything. */
SP_MUST enum sp_err sp_scram_verifier(const struct sp_secret *kept,
    struct sp_buf *out);
/* cert: DER. hash_bits: 256, 384 or 512, of the certificate's signature (RFC
 * 5929, 4.1); 0: no channel binding. Writes client-first-message. */
SP_MUST enum sp_err sp_scram_first(struct sp_scram *s, struct sp_span cert,
    unsigned hash_bits, struct sp_buf *out);
/* SP_ERR_PROTO: not a server-first-message for our nonce. SP_ERR_DENIED: the
 * salt or the count are not those of the kept secret. */
SP_MUST enum sp_err sp_scram_final(const struct sp_scram *s,
    const struct sp_secret *kept, struct sp_span server_first,
    struct sp_buf *out, uint8_t expect[static 32]);

#endif
