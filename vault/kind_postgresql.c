/* SPDX-License-Identifier: Apache-2.0 */
/* A PostgreSQL password: never kept, only what SCRAM makes of it. */
#include "vault/kinds.h"
#include "vault/pgscram.h"
#include "vault/poison.h"

static enum sp_err
check(const struct sp_secret *kept)
{
	SP_BUF_AUTO out = {.max = 512};

	return sp_scram_verifier(kept, &out);
}

const struct sp_kind_ops sp_kind_ops_postgresql = {.import = sp_scram_import,
    .given_max = 1000, .make = sp_scram_generate, .check = check,
    .shown = sp_scram_verifier, .message = sp_lease_sql_message};
