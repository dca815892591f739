/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TOKEN_P11_H
#define SP_TOKEN_P11_H

#include "common/buf.h"

/*
 * A key in a PKCS#11 token (OASIS PKCS #11 2.40) that encrypts a few bytes, and
 * decrypts them: the slot key of the vault. The module is loaded by dlopen and
 * C_GetFunctionList; one session and the handles of the key are kept and opened
 * afresh when the token says that they are gone (CKR_DEVICE_ERROR,
 * CKR_SESSION_HANDLE_INVALID, ...), once for each call.
 *
 * AES keys wrap with AES-GCM, RSA keys with OAEP (SHA-256, or SHA-1 where the
 * module has nothing else). The text that comes of it:
 *   u8 1: AES-GCM, iv[12] ciphertext tag[16]; 2, 3: OAEP with SHA-256, SHA-1
 */
#define SP_P11_CLEAR_MAX 64
#define SP_P11_BLOB_MAX 600
#define SP_P11_WHY 200

struct sp_p11;
/* module: an absolute path; token: the label of the token; key: that of the key,
 * of which there must be exactly one. The PIN is kept, locked, until the close.
 * SP_ERR_DENIED: the PIN is wrong, which is never tried twice; SP_ERR_NOTFOUND:
 * no such token or key; SP_ERR_IO: what the module said stands in why. */
SP_MUST enum sp_err sp_p11_open(struct sp_p11 **out, const char *module,
    const char *token, const char *key, struct sp_span pin,
    char why[static SP_P11_WHY]);
/* What was wrapped has been unwrapped again, and was the same. */
SP_MUST enum sp_err sp_p11_wrap(struct sp_p11 *p, struct sp_span clear,
    struct sp_buf *blob, char why[static SP_P11_WHY]);
/* SP_ERR_CRYPTO: not by this key, or changed. */
SP_MUST enum sp_err sp_p11_unwrap(struct sp_p11 *p, struct sp_span blob,
    uint8_t clear[static SP_P11_CLEAR_MAX], size_t *n,
    char why[static SP_P11_WHY]);
void sp_p11_close(struct sp_p11 *p);	/* NULL is fine */

#endif
