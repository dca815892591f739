/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_KEY_H
#define SP_BROKER_VERB_KEY_H

#include "common/buf.h"

/* A public key as people write it: "ALGO BASE64 [COMMENT]" (RFC 4253, 6.6; the
 * authorized_keys form without options). */
#define SP_PUBKEY_ALGO_MAX 64
#define SP_PUBKEY_COMMENT_MAX 128
#define SP_PUBKEY_BLOB_MAX 4096
#define SP_FINGERPRINT_TEXT 64
struct sp_pubkey {
	char algo[SP_PUBKEY_ALGO_MAX];
	char comment[SP_PUBKEY_COMMENT_MAX + 1];
	uint8_t blob[SP_PUBKEY_BLOB_MAX];
	size_t n;
};
/* Accepts ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa of 2048 bits or
 * more, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com: with a
 * blob of exactly that shape. SP_ERR_SYNTAX with `why` in words. */
SP_MUST enum sp_err sp_pubkey_parse(struct sp_span line, struct sp_pubkey *k,
    const char **why);
/* The same for a blob alone; algo becomes what the blob says. */
SP_MUST enum sp_err sp_pubkey_of_blob(struct sp_span blob, struct sp_pubkey *k,
    const char **why);
/* Of a target's host: legacy takes RSA of 1024 bits. */
SP_MUST enum sp_err sp_host_key_parse(struct sp_span line, bool legacy,
    struct sp_pubkey *k, const char **why);
SP_MUST enum sp_err sp_host_key_of_blob(struct sp_span blob, bool legacy,
    struct sp_pubkey *k, const char **why);
/* "SHA256:..." like ssh-keygen -l. */
void sp_fingerprint(char t[static SP_FINGERPRINT_TEXT], struct sp_span blob);

#endif
