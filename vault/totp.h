/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_TOTP_H
#define SP_VAULT_TOTP_H

#include "vault/secret.h"

/*
 * One-time passwords by RFC 6238: HMAC-SHA-1, 6 digits, 30 seconds, the step
 * before and the step after also accepted.
 *
 * The broker spends the step in the database. The vault remembers as well, for
 * its own life, the highest step that matched for each seed: a database rolled
 * back to yesterday does not open a spent code again, and one code opens once
 * however many ask at the same time.
 */
#define SP_TOTP_STEP_S 30
#define SP_TOTP_SPENT_MAX 16384

struct sp_totp_spent;
struct sp_totp_spent *sp_totp_spent_new(void);
void sp_totp_spent_free(struct sp_totp_spent *t);

/* The code of a step, six digits and NUL. */
SP_MUST enum sp_err sp_totp_code(const struct sp_secret *seed, uint64_t step,
    char code[static 7]);
/* SP_OK: matched a step that is not spent; it is now. SP_ERR_DENIED: it did
 * not. SP_ERR_EXISTS: it matched a spent one. SP_ERR_FULL: too many seeds at
 * once, refused. All steps are computed and compared in any case. */
SP_MUST enum sp_err sp_totp_check(struct sp_totp_spent *t,
    const uint8_t row_id[static 16], const struct sp_secret *seed,
    struct sp_span code, int64_t now_us, uint64_t *step);

#endif
