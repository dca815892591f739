/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_ROOT_INT_H
#define SP_VAULT_ROOT_INT_H

#include "vault/root.h"

/* Between root.c and epochs.c: a fresh KEK, wrapped by the root key, as a row of
 * the state; the keys that the state itself holds, wrapped by new KEKs. */
SP_MUST enum sp_err sp_root_new_kek(const struct sp_secret *root,
    struct sp_state *s, uint8_t purpose, uint32_t epoch, struct sp_secret *key);
SP_MUST enum sp_err sp_root_wrap_own(const struct sp_root *r,
    const struct sp_secret *signing, const struct sp_secret *recordings,
    struct sp_state *s);

#endif
