/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_STOREKEY_H
#define SP_VAULT_STOREKEY_H

#include "vault/vaultd.h"

/*
 * The key of the store that recordings are shipped to: an access key and its
 * secret, sealed by a key of the root key (so that no rotation of the KEKs touches
 * it) in the file `storekey` of the vault's directory. Only sallyport-ship is told,
 * by its own link, and only while the vault is open.
 */
void sp_ship_attach(struct sp_vaultd *v, int fd);
void sp_ship_drop(struct sp_vaultd *v);
SP_MUST enum sp_err sp_ship_serve(struct sp_vaultd *v);
/* vc_store_key: the administrator sets it, or has it forgotten. */
SP_MUST enum sp_err sp_on_store_key(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);

#endif
