/* SPDX-License-Identifier: Apache-2.0 */
/* A person's seed of one-time codes (totp.h): the vault checks the codes. */
#include <string.h>

#include "vault/kinds.h"
#include "vault/poison.h"

#define SEED_LEAST 16
#define SEED_MOST 64

static enum sp_err
import(struct sp_span given, struct sp_span pass, struct sp_secret *kept)
{
	(void)pass;
	if (given.n < SEED_LEAST || given.n > SEED_MOST)
		return SP_ERR_INVAL;
	SP_TRY(sp_secret_new(kept, given.n));
	memcpy(kept->p, given.p, given.n);
	return SP_OK;
}

const struct sp_kind_ops sp_kind_ops_totp = {.import = import,
    .given_max = SP_SECRET_CLEAR_MAX};
