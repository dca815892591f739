/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_BCRYPT_H
#define SP_VAULT_BCRYPT_H

#include "common/buf.h"

/*
 * bcrypt_pbkdf, with which OpenSSH derives the key of an encrypted private key
 * file (PROTOCOL.key): bcrypt over SHA-512, its blocks interleaved. Blowfish's
 * initial state is the fraction of pi, computed once when it is first needed.
 */
#define SP_BCRYPT_ROUNDS_MAX 128	/* about a second of one core */
SP_MUST enum sp_err sp_bcrypt_pbkdf(struct sp_span pass, struct sp_span salt,
    uint32_t rounds, uint8_t *key, size_t n);

#endif
