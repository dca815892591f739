/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/ipc_messages.h"
#include "vault/secrets.h"
#include "vault/sshkey.h"
#include "vault/poison.h"

static enum sp_err
keep(struct sp_span s, struct sp_secret *out)
{
	SP_TRY(sp_secret_new(out, s.n));
	memcpy(out->p, s.p, s.n);
	return SP_OK;
}

enum sp_err
sp_secret_import(uint8_t kind, struct sp_span given, struct sp_span pass,
    struct sp_secret *out)
{
	if (given.n == 0 || given.n > (kind == SP_CRED_SSH_KEY ?
	    SP_KEY_FILE_MAX : SP_SECRET_CLEAR_MAX))
		return SP_ERR_TOOBIG;
	switch (kind) {
	case SP_CRED_SSH_PASSWORD:
		for (size_t i = 0; i < given.n; i++)
			if (given.p[i] == 0 || given.p[i] == '\n' ||
			    given.p[i] == '\r')
				return SP_ERR_SYNTAX;
		return keep(given, out);
	case SP_CRED_TOTP_SEED:
		if (given.n < 16 || given.n > 64)
			return SP_ERR_INVAL;
		return keep(given, out);
	case SP_CRED_SSH_KEY:
		return sp_sshkey_import(given, pass, out);
	default:
		return SP_ERR_INVAL;
	}
}
