/* SPDX-License-Identifier: Apache-2.0 */
/* A MariaDB password: never kept, only the key that is made of it. */
#include "vault/kinds.h"
#include "vault/mariadb.h"
#include "vault/poison.h"

static enum sp_err
make(struct sp_secret *kept)
{
	return sp_mariadb_import(sp_span_of(NULL, 0), sp_span_of(NULL, 0), kept);
}

static enum sp_err
check(const struct sp_secret *kept)
{
	SP_BUF_AUTO out = {.max = 512};

	return sp_mariadb_verifier(kept, &out);
}

const struct sp_kind_ops sp_kind_ops_mariadb = {.import = sp_mariadb_import,
    .given_max = 1000, .make = make, .check = check,
    .shown = sp_mariadb_verifier, .message = sp_lease_sql_message};
