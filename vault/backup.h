/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_BACKUP_H
#define SP_VAULT_BACKUP_H

#include "vault/vaultd.h"

/* vc_backup_key: the key of one backup file, made and wrapped, or unwrapped
 * (doc/backup.md). SP_ERR_SEALED; SP_ERR_CRYPTO: another vault's. */
SP_MUST enum sp_err sp_on_backup_key(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);

#endif
