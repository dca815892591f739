/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/userauth.h"

#include "vault/poison.h"

#define USERAUTH_REQUEST 50

bool
sp_session_id_is_sane(struct sp_span id)
{
	return id.n >= 16 && id.n <= 64;
}

enum sp_err
sp_userauth_parse(struct sp_span data, struct sp_userauth *u)
{
	uint8_t kind, has_sig;

	SP_TRY(sp_get_ssh_string(&data, 64, &u->session_id));
	SP_TRY(sp_get_u8(&data, &kind));
	SP_TRY(sp_get_ssh_string(&data, 256, &u->user));
	SP_TRY(sp_get_ssh_string(&data, 64, &u->service));
	SP_TRY(sp_get_ssh_string(&data, 64, &u->method));
	SP_TRY(sp_get_u8(&data, &has_sig));
	SP_TRY(sp_get_ssh_string(&data, 64, &u->algo));
	SP_TRY(sp_get_ssh_string(&data, 4096, &u->blob));
	if (data.n != 0 || kind != USERAUTH_REQUEST || has_sig != 1 ||
	    !sp_session_id_is_sane(u->session_id))
		return SP_ERR_PROTO;
	return SP_OK;
}
