/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_USERAUTH_H
#define SP_VAULT_USERAUTH_H

#include "common/buf.h"

/*
 * The bytes that an SSH client signs to log in with a key (RFC 4252, 7):
 *   string session id, byte 50, string user, string service, string
 *   "publickey", boolean TRUE, string algorithm, string key blob
 * and nothing after. Spans are borrowed from the input.
 */
struct sp_userauth {
	struct sp_span session_id, user, service, method, algo, blob;
};
/* SP_ERR_PROTO: not such a request, or bytes follow. */
SP_MUST enum sp_err sp_userauth_parse(struct sp_span data,
    struct sp_userauth *u);
/* A length that a session id can have: 16 to 64 bytes. */
bool sp_session_id_is_sane(struct sp_span id);

#endif
