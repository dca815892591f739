/* SPDX-License-Identifier: Apache-2.0 */
/* A password, as the target takes it: no NUL, no end of a line. */
#include <string.h>

#include "vault/kinds.h"
#include "vault/poison.h"

static enum sp_err
import(struct sp_span given, struct sp_span pass, struct sp_secret *kept)
{
	(void)pass;
	for (size_t i = 0; i < given.n; i++)
		if (given.p[i] == 0 || given.p[i] == '\n' || given.p[i] == '\r')
			return SP_ERR_SYNTAX;
	SP_TRY(sp_secret_new(kept, given.n));
	memcpy(kept->p, given.p, given.n);
	return SP_OK;
}

const struct sp_kind_ops sp_kind_ops_password = {.import = import,
    .given_max = SP_SECRET_CLEAR_MAX};
