/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SSHSIG_H
#define SP_VAULT_SSHSIG_H

#include "common/buf.h"

/*
 * Signatures of files as `ssh-keygen -Y sign` makes them (PROTOCOL.sshsig),
 * without their armour (common/release.h takes it off):
 *
 *   "SSHSIG" u32 version = 1, string key, string namespace, string reserved,
 *   string hash algorithm, string signature
 *
 * over "SSHSIG" string namespace, string reserved, string hash algorithm,
 * string hash(message). The hash is sha256 or sha512; the key ssh-ed25519,
 * ecdsa-sha2-nistp256/384/521, ssh-rsa of 2048 bits and more with rsa-sha2-256
 * or -512, sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com
 * (PROTOCOL.u2f: flags and a counter come with the signature, and are signed).
 * Certificates, SHA-1 and webauthn signatures are refused.
 */
#define SP_SSHSIG_MAX 8192	/* bytes of one */
#define SP_SSHSIG_KEY_MAX 2048
#define SP_SSHSIG_TOUCHED 0x01	/* flags: somebody touched it */
#define SP_SSHSIG_VERIFIED 0x04	/* flags: and proved who it was (PIN) */

struct sp_sshsig {
	struct sp_span key;	/* the signer's blob, borrowed */
	bool is_sk;		/* of a security key: */
	uint8_t flags;
	uint32_t counter;
};

/* SP_OK: `message` was signed by out->key for that namespace.
 * SP_ERR_PROTO: not an SSHSIG, or bytes follow. SP_ERR_DENIED: for another
 * namespace. SP_ERR_UNSUPPORTED: a key, hash or signature of another kind.
 * SP_ERR_CRYPTO: it is not the signature of this message by that key. */
SP_MUST enum sp_err sp_sshsig_verify(struct sp_span sig, const char *ns,
    struct sp_span message, struct sp_sshsig *out);
/* A public key that can make one? */
SP_MUST enum sp_err sp_sshsig_key_check(struct sp_span key);
bool sp_sshsig_key_is_sk(struct sp_span key);

#endif
