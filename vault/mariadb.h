/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_MARIADB_H
#define SP_VAULT_MARIADB_H

#include "vault/secret.h"

/*
 * Logins to MariaDB without the password. Kept form: u8 2, u8 plugin, then
 *   ed25519: the 64 bytes that SHA-512 makes of the password: the secret scalar
 *     (clamped) and the prefix of an Ed25519 key; the server has the point
 *   native: SHA1(password); the server has SHA1 of that
 * Nothing in this protocol binds an answer to the connection: the certificate is
 * checked before, by its pin.
 */
enum sp_mariadb_plugin { SP_MARIADB_ED25519 = 1, SP_MARIADB_NATIVE = 2 };

/* plugin: "ed25519" or "" for it, "native". An empty password: a secret that no
 * password leads to. */
SP_MUST enum sp_err sp_mariadb_import(struct sp_span password,
    struct sp_span plugin, struct sp_secret *kept);
/* What IDENTIFIED VIA ... USING takes, with the plugin's name in front of it. */
SP_MUST enum sp_err sp_mariadb_verifier(const struct sp_secret *kept,
    struct sp_buf *out);
/* plugin: as the server names it. SP_ERR_DENIED: the secret is for another;
 * SP_ERR_PROTO: not a nonce of its length (32; 20). */
SP_MUST enum sp_err sp_mariadb_answer(const struct sp_secret *kept,
    struct sp_span plugin, struct sp_span nonce, struct sp_buf *out);

#endif
