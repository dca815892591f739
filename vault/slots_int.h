/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SLOTS_INT_H
#define SP_VAULT_SLOTS_INT_H

#include "vault/slots.h"

/* Between the files that make slots: the wrap of the root key by a slot key. */
SP_MUST enum sp_err sp_slot_wrap_root(struct sp_slot *s,
    const struct sp_secret *key, const struct sp_secret *root);
SP_MUST enum sp_err sp_slot_unwrap_root(const struct sp_slot *s,
    const struct sp_secret *key, struct sp_secret *root);
bool sp_slot_shares_are_sane(const struct sp_slot *s);

#endif
