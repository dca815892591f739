/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SSHKEY_H
#define SP_VAULT_SSHKEY_H

#include <openssl/types.h>

#include "vault/secret.h"

/*
 * Private keys of accounts. As they are kept: 32 bytes are an Ed25519 seed, all
 * else is DER (PKCS #1 or SEC 1) of RSA with 2048 to 4096 bits or ECDSA on
 * P-256, P-384 or P-521. RSA signs with SHA-256 and SHA-512 only.
 */
#define SP_SSHKEY_RSA_MIN 2048
#define SP_SSHKEY_RSA_MAX 4096

/* A private key file: OpenSSH's own form (PROTOCOL.key), or PEM as OpenSSL reads
 * it; encrypted ones with their passphrase. SP_ERR_DENIED: the passphrase is
 * missing or wrong; SP_ERR_UNSUPPORTED: a key that is not used here. */
SP_MUST enum sp_err sp_sshkey_import(struct sp_span file, struct sp_span pass,
    struct sp_secret *kept);
/* Is it one that can be kept? */
SP_MUST enum sp_err sp_sshkey_check(const struct sp_secret *kept);
/* The public key blob (RFC 4253, 6.6; RFC 5656; RFC 8709). */
SP_MUST enum sp_err sp_sshkey_blob(const struct sp_secret *kept,
    struct sp_buf *out);
/* For a lease: the same, and what is to sign later stays without a second
 * computation of the public half: of an Ed25519 seed the pair. Not for storing. */
SP_MUST enum sp_err sp_sshkey_open(struct sp_secret *kept, struct sp_buf *blob);
/* May a key whose blob has this type sign with that algorithm? Never ssh-rsa. */
bool sp_sshkey_may_sign(struct sp_span type, struct sp_span algo);
/* string algorithm, string signature */
SP_MUST enum sp_err sp_sshkey_sign(const struct sp_secret *kept,
    struct sp_span algo, struct sp_span data, struct sp_buf *signature);
/* Does once what OpenSSL does lazily, before the sandbox closes. */
SP_MUST enum sp_err sp_sshkey_warm(void);

/* Between the two files of it. */
SP_MUST enum sp_err sp_sshkey_keep(EVP_PKEY *pk, struct sp_secret *kept);
struct sp_sshkey_curve {
	const char *type, *name, *group;
	size_t coord;
	const EVP_MD *(*md)(void);
};
extern const struct sp_sshkey_curve sp_sshkey_curves[3];

#endif
