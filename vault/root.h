/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_ROOT_H
#define SP_VAULT_ROOT_H

#include "vault/state.h"

/*
 * The root key and all that hangs below it, in the arena while unsealed:
 *
 *   slot key > root key > KEKs by purpose and epoch > data keys, X25519, CA...
 *
 * The root key encrypts nothing itself: a wrapping key for the KEKs and a key
 * for the state's MAC are derived from it.
 */
struct sp_kek {
	uint8_t purpose;
	uint32_t epoch;
	struct sp_secret key;
};

struct sp_releases;
struct sp_root {
	bool is_open;
	struct sp_releases *releases;	/* release.h; not ours, survives a seal */
	size_t n_keks;
	struct sp_kek keks[SP_KEKS_MAX];
	struct sp_secret root;	/* for new slots and new epochs */
	struct sp_secret audit, ca;	/* Ed25519 secret keys, 64 bytes */
	struct sp_secret host;		/* the front's; empty: there is none */
	struct sp_secret rec;		/* X25519 secret key */
	uint8_t audit_pk[32], rec_pk[32], ca_pk[32], host_pk[32]; /* checked */
};

/* A fresh hierarchy; the caller adds slots for *root, then sp_root_sign_state. */
SP_MUST enum sp_err sp_root_make(struct sp_state *s, struct sp_secret *root);
/* Computes the mac after the slots are in; numbers those that have none. */
SP_MUST enum sp_err sp_root_sign_state(const struct sp_secret *root,
    struct sp_state *s);
/* Opens with a passphrase, or the text of the demo key file. SP_ERR_DENIED: it
 * opens no slot; SP_ERR_CRYPTO: it does, yet the state was tampered with. */
SP_MUST enum sp_err sp_root_open(struct sp_root *r, const struct sp_state *s,
    struct sp_span passphrase);
/* The same with the root key that a slot gave; takes it in every case. */
SP_MUST enum sp_err sp_root_open_with(struct sp_root *r,
    const struct sp_state *s, struct sp_secret *root);
void sp_root_close(struct sp_root *r);	/* wipes every key */

/* Wraps another host key in *next, a copy of the state that is open; when that is
 * written, sp_root_take_host has it signed with. Neither changes the other. */
SP_MUST enum sp_err sp_root_put_host(const struct sp_root *r,
    const struct sp_secret *seed, struct sp_state *next);
SP_MUST enum sp_err sp_root_take_host(struct sp_root *r, const struct sp_state *s);

/* A new epoch of every KEK in *next, a copy of the state that is open. What the
 * file itself holds (audit, CA and recording key) is wrapped by the new ones at
 * once and needs no old ones; KEKs of rows and secrets stay beside the new ones.
 * SP_ERR_FULL: too many rotations were not finished. */
SP_MUST enum sp_err sp_root_add_epochs(const struct sp_root *r,
    struct sp_state *next);
/* Leaves the newest epoch of each purpose in *next; false: there was no other. */
bool sp_root_drop_epochs(struct sp_state *next);
/* Epochs of a purpose beside the newest. */
size_t sp_root_n_old(const struct sp_state *s);

/* The KEK of a purpose: epoch 0 means the current one. NULL: no such epoch. */
const struct sp_kek *sp_root_kek(const struct sp_root *r, uint8_t purpose,
    uint32_t epoch);
/* Ed25519 signature of the audit key. */
SP_MUST enum sp_err sp_root_sign(const struct sp_root *r, struct sp_span what,
    uint8_t sig[static 64]);
/* "ssh-ed25519" public key blob (RFC 8709, 4) and its authorized_keys line. */
SP_MUST enum sp_err sp_ssh_ed25519_blob(struct sp_buf *out,
    const uint8_t pk[static 32]);
SP_MUST enum sp_err sp_ssh_ed25519_line(struct sp_buf *out,
    const uint8_t pk[static 32], const char *comment);

#endif
