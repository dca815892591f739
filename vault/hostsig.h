/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_HOSTSIG_H
#define SP_VAULT_HOSTSIG_H

#include "common/buf.h"

/*
 * Host keys as they stand in a key exchange reply, and their signatures over
 * the exchange hash: ssh-ed25519 (RFC 8709), ecdsa-sha2-nistp256/384/521 (RFC
 * 5656), RSA of 2048 to 16384 bits with rsa-sha2-256/512 (RFC 8332).
 * Certificates and everything else are refused; ssh-rsa signatures (SHA-1) and
 * RSA of 1024 bits are taken only from targets that are marked as old.
 */
#define SP_HOST_KEY_MAX 4096
#define SP_HOST_KEYS_MAX 16

/* Is the list (SSH strings, one after the other) well formed, 1 to 16 keys,
 * each of a type and size that we verify? */
SP_MUST enum sp_err sp_host_keys_check(struct sp_span list, bool legacy);
/* Is this key in the list? */
bool sp_host_key_is_pinned(struct sp_span list, struct sp_span key);
/* SP_OK: `signature` is the key's over `hash`. SP_ERR_CRYPTO: it is not.
 * SP_ERR_UNSUPPORTED, SP_ERR_PROTO: key or signature of another kind. */
SP_MUST enum sp_err sp_host_sig_verify(struct sp_span key,
    struct sp_span signature, struct sp_span hash, bool legacy);
/* Loads what OpenSSL loads lazily, before the sandbox closes. */
SP_MUST enum sp_err sp_host_sig_warm(void);

#endif
