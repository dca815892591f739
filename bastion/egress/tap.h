/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_EGRESS_TAP_H
#define SP_EGRESS_TAP_H

#include "common/buf.h"

/*
 * What libssh 0.10 sees and does not tell: the host's signature over the
 * exchange hash, as it stood in the key exchange reply (RFC 4253, 8; RFC 5656,
 * 4; RFC 8731), and the session id (RFC 4253, 7.2). This program defines
 * recv(3) (ahead.c) and EVP_KDF_derive(3) itself; libssh.so finds them first.
 * The copy ends with the server's first NEWKEYS: nothing after it is looked at.
 *
 * The vault needs both to know that the login which it is about to sign for
 * happens on the pinned host and nowhere else.
 */
void sp_tap_begin(int fd);	/* watch this socket from its first byte */
void sp_tap_saw(int fd, const void *p, size_t n); /* received from there */
void sp_tap_end(void);		/* forget and wipe */
/* After the key exchange: the host key blob and the signature blob, borrowed
 * until sp_tap_end. SP_ERR_PROTO when the bytes are not what they must be. */
SP_MUST enum sp_err sp_tap_host_proof(struct sp_span *host_key,
    struct sp_span *signature);
/* The session id, borrowed likewise; SP_ERR_STATE before the key exchange. */
SP_MUST enum sp_err sp_tap_session_id(struct sp_span *id);
/* Finds the functions that we stand in front of; once, before the sandbox. */
SP_MUST enum sp_err sp_tap_init(void);
/* The parser alone, for tests and fuzzing: bytes as the server sent them. */
SP_MUST enum sp_err sp_tap_parse(struct sp_span stream, struct sp_span *host_key,
    struct sp_span *signature);

#endif
