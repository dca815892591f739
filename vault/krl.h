/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_KRL_H
#define SP_VAULT_KRL_H

#include "common/ipc.h"
#include "vault/root.h"

/*
 * A key revocation list in OpenSSH's form (PROTOCOL.krl), for sshd's RevokedKeys
 * and `ssh-keygen -Q`: certificates of our CA by serial (runs of them as ranges)
 * and by key id, and whole CAs by their key. Not signed: sshd does not look at
 * signatures of such lists, and it comes over a recorded session of our own.
 */
#define SP_KRL_MAX 61440	/* bytes */
#define SP_KRL_SERIALS 4096
#define SP_KRL_KEY_IDS 256

/* SP_ERR_INVAL: serial 0, a nil uuid, what is no Ed25519, ECDSA or RSA key.
 * SP_ERR_PROTO: a list that is not whole. now_us: when it was generated. */
SP_MUST enum sp_err sp_krl_make(const struct sp_root *r,
    const struct sp_msg_v_krl *m, int64_t now_us, struct sp_buf *out);

#endif
