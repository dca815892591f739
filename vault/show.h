/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SHOW_H
#define SP_VAULT_SHOW_H

#include "vault/secrets.h"

/* A credential in the form in which people and other programs use it, for the
 * two doors by which one leaves the vault: `secret reveal` and a break-glass
 * kit. A password as it is; a key as a private key file that ssh-keygen reads
 * (Ed25519: PROTOCOL.key; RSA and ECDSA: PEM of PKCS #1 and SEC 1), not
 * encrypted. SP_ERR_UNSUPPORTED: a kind that has no such form. */
SP_MUST enum sp_err sp_secret_show(uint8_t kind, const struct sp_secret *kept,
    struct sp_secret *out);

/* What a view must not show of it (common/mask.h), behind the masks that are there;
 * the first one begins with a fresh key. SP_ERR_CRYPTO: the row does not open.
 * SP_ERR_FULL: too many. A kind that is never shown adds nothing. */
SP_MUST enum sp_err sp_secret_mask(const struct sp_root *root,
    const struct sp_secret_row *row, struct sp_span sealed, struct sp_buf *masks);

#endif
