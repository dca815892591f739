/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_AEAD_H
#define SP_VAULT_AEAD_H

#include "vault/secret.h"

/*
 * XChaCha20-Poly1305 with a fresh random nonce: nonce[24] ciphertext tag[16].
 * 192-bit nonces need no counter. Keys derive by BLAKE2b keyed with the parent
 * over a label, so that no key serves two purposes.
 */
#define SP_AEAD_NONCE 24
#define SP_AEAD_OVERHEAD 40
#define SP_WRAPPED_KEY (SP_KEY_BYTES + SP_AEAD_OVERHEAD)

SP_MUST enum sp_err sp_aead_seal(const uint8_t key[static SP_KEY_BYTES],
    struct sp_span aad, struct sp_span plain, struct sp_buf *out);
/* A new secret in *out; SP_ERR_CRYPTO when anything does not fit. */
SP_MUST enum sp_err sp_aead_open(const uint8_t key[static SP_KEY_BYTES],
    struct sp_span aad, struct sp_span sealed, struct sp_secret *out);
/* The same for a key of 32 bytes. */
SP_MUST enum sp_err sp_key_wrap(const uint8_t key[static SP_KEY_BYTES],
    struct sp_span aad, const uint8_t k[static SP_KEY_BYTES],
    uint8_t out[static SP_WRAPPED_KEY]);
SP_MUST enum sp_err sp_key_derive(const uint8_t parent[static SP_KEY_BYTES],
    const char *label, struct sp_span context, struct sp_secret *out);

#endif
