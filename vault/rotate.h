/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_ROTATE_H
#define SP_VAULT_ROTATE_H

#include "vault/lease_int.h"

/*
 * The vault's part of a rotation (doc/vault.md, "Rotation"): it makes the new
 * secret, and gives old and new to the one egress that has logged in with the
 * lease that they were added to, once. Nobody else ever has them.
 */
struct sp_rotation {
	char account[65];	/* whose secret they are */
	struct sp_secret_row old, new;
	struct sp_buf old_sealed, new_sealed;	/* old: empty where not needed */
};
void sp_rotation_free(struct sp_rotation *r);	/* NULL is nothing */

/* v_rotate_make. SP_ERR_SEALED, SP_ERR_INVAL: no such kind, or the rule. */
SP_MUST enum sp_err sp_rotate_make(const struct sp_root *root,
    const struct sp_msg_v_rotate_make *m, struct sp_buf *sealed,
    uint8_t tag[static 32], struct sp_buf *public_key);
/* What stands for a secret in a recording and in its row. */
SP_MUST enum sp_err sp_rotate_tag(const struct sp_root *root,
    const struct sp_secret_row *row, const struct sp_secret *s,
    uint8_t tag[static 32]);
/* v_rotate_lease: to a lease that has not been used. text says why not. */
SP_MUST enum sp_err sp_rotate_lease(struct sp_leases *t,
    const struct sp_msg_v_rotate_lease *m, char text[static 256]);
/* take_rotation, of the egress. */
SP_MUST enum sp_err sp_rotate_take(struct sp_lease *l, struct sp_packet *p);

#endif
