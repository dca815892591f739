/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SECRETS_H
#define SP_VAULT_SECRETS_H

#include "vault/root.h"

/*
 * A secret as it stands in its row:
 *
 *   "SPSC" u8 format = 1, u32 epoch, commit[32], wrapped data key[72],
 *   nonce[24] ciphertext tag[16]
 *
 * Additional data of both encryptions, canonical, built from the request and
 * never from what was read: label, format, epoch, kind, row id, version,
 * owner; in format 2 (format 1 for a secret without one) also the digest of its
 * release rule (release.h), which must be the last one that it was given. XChaCha20-Poly1305 does not commit to its key: `commit` is BLAKE2b-256
 * keyed with the data key over the nonce and the additional data, checked
 * first. The clear text is a u32 length, the bytes, and zeros up to a multiple
 * of 64: a reader of the database does not learn how long a password is.
 */
struct sp_secret_row {
	uint8_t kind;		/* enum sp_cred_kind */
	uint8_t id[16], owner[16];
	uint64_t version;
	uint8_t rule[32];	/* of its release rule; zero for none */
};
#define SP_SECRET_CLEAR_MAX 4096
#define SP_TOTP_SEED_BYTES 20

SP_MUST enum sp_err sp_secret_seal(const struct sp_root *r,
    const struct sp_secret_row *row, struct sp_span clear, struct sp_buf *out);
/* SP_ERR_CRYPTO: another row's, another version, tampered with. */
SP_MUST enum sp_err sp_secret_unseal(const struct sp_root *r,
    const struct sp_secret_row *row, struct sp_span sealed,
    struct sp_secret *clear);
/* Unseals and seals with the newest epoch, as version new_version of the same
 * row: row->version or the one after it. Without force what is of that epoch
 * stays. state: enum sp_renewed; out is written for SP_RENEWED_NOW alone. */
SP_MUST enum sp_err sp_secret_renew(const struct sp_root *r,
    const struct sp_secret_row *row, struct sp_span sealed,
    uint64_t new_version, bool force, uint8_t *state, struct sp_buf *out);
/* What a person hands in is brought to the form that is kept by its kind:
 * sp_secret_import() of vault/kinds.h. */
#define SP_KEY_FILE_MAX 8192

#endif
