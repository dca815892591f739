/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_RELEASE_INT_H
#define SP_VAULT_RELEASE_INT_H

#include "vault/release.h"

/* The window of a challenge counts from its first use: *end_us is its end. A
 * challenge of kind reveal is used once. SP_ERR_FULL. t may be NULL (a test). */
SP_MUST enum sp_err sp_releases_use(struct sp_releases *t,
    const struct sp_challenge *c, int64_t now_us, int64_t *end_us);

#endif
