/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_GLASS_H
#define SP_COMMON_GLASS_H

#include <libssh/libssh.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * What libssh 0.10.6 neither hands out nor lets one say, seen and said where
 * its packets are clear: between it and libcrypto, whose functions glass.c
 * defines in front of the real ones (as wire.c does with libc's). Both legs
 * compile it in; it works with the plain shared library.
 *
 * Needed for: terminal modes and the length of a break (in and out), the reason
 * of a channel's failure (out), the port of a listener (in: libssh looks for it
 * in whatever packet came last), global requests answered in their order.
 *
 * A message is sent inside of an SSH_MSG_IGNORE of the same length, made by
 * libssh: padding, sequence, rekey and its queue stay libssh's. Nothing here
 * runs libssh from inside of libssh.
 */

/* Before the sandbox, in the parent. */
SP_MUST enum sp_err sp_glass_init(void);

/* Called with each message of these types that libssh has decrypted, before
 * libssh acts on it: 80-82 (global requests and their answers), 90 (channel
 * open), 98 (channel request). It may change the bytes, not their number. */
typedef void sp_glass_seen(void *arg, uint8_t *payload, size_t n);
void sp_glass_watch(sp_glass_seen *fn, void *arg);

/* Sends this message, of at least SP_GLASS_LEAST bytes; after the packets that
 * libssh has been given before, also when a key exchange holds them.
 * SP_ERR_INVAL, SP_ERR_FULL, SP_ERR_IO. */
#define SP_GLASS_LEAST 21
SP_MUST enum sp_err sp_glass_send(ssh_session s, struct sp_span payload);
/* A global request that wants an answer: it proves that the peer lives. libssh
 * ignores the answer that it did not ask for. */
SP_MUST enum sp_err sp_glass_keepalive(ssh_session s);

/* ssh_channel_request_pty_size with columns, rows, x and y pixels, and modes.
 * is_asked: the call before gave SSH_AGAIN. */
int sp_glass_pty(ssh_channel ch, const char *term, const uint32_t size[static 4],
    struct sp_span modes, bool is_asked);

/* ssh_channel_change_pty_size with columns, rows, x and y pixels. Without the
 * pixels, as libssh would say it, where too many wait for a key exchange. */
int sp_glass_resize(ssh_channel ch, const uint32_t size[static 4]);

/* ssh_userauth_password, of which the target gets this USERAUTH_REQUEST (RFC
 * 4252) instead: SSH_AUTH_* as that call returns it, and to be repeated like it.
 * user: the one that the session was made for. */
int sp_glass_userauth(ssh_session s, const char *user, struct sp_span request);

/* Refuses a channel: code of RFC 4254, 5.1, and why. m stays the caller's. */
void sp_glass_open_failure(ssh_session s, ssh_message m, uint32_t code,
    struct sp_span why);
/* The session is gone, and what waited for it. */
void sp_glass_forget(ssh_session s);

/* When new keys are made: after so many bytes in one direction, so many seconds;
 * 0: what libssh would do. */
void sp_glass_rekey(ssh_session s, uint64_t bytes, uint32_t seconds);

/* Is the other end still there? It is asked when nothing was heard of it for a
 * while, and given up when it has let so many questions pass. */
struct sp_alive {
	int64_t every_us;	/* 0: never asked */
	unsigned tries;
	int64_t next_us;	/* when to look again; 0: not begun */
	uint64_t heard;
	unsigned asked;
};
enum sp_alive_verdict { SP_ALIVE_FINE = 0, SP_ALIVE_ASK, SP_ALIVE_DEAD };
/* heard: grows with what comes from it. is_reading: false while that is left in
 * the socket on purpose. */
enum sp_alive_verdict sp_alive_look(struct sp_alive *a, uint64_t heard,
    bool is_reading, int64_t now_us);
uint64_t sp_glass_heard(void);	/* packets of all sessions of this process */

#endif
