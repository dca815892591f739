/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_EGRESS_AHEAD_H
#define SP_EGRESS_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What stands between libssh and the target's socket. libssh calls poll(2),
 * recv(2) and send(2) by their names; this program defines them (ahead.c).
 * Before sp_ahead_begin they go to the kernel (and what is received to the tap).
 * From then on
 *  - libssh reads from 64 KiB of read-ahead and not 4 KiB and a poll a time
 *    (measured: 620 system calls a MiB without),
 *  - it reads only when the loop lets it: a write never brings in data;
 *  - it sends only when the loop lets it: many packets a time.
 * Every other descriptor goes straight to the kernel.
 */
#define SP_AHEAD_BYTES (64u << 10)

void sp_ahead_begin(int fd);	/* a non-blocking session's socket */
void sp_ahead_end(void);	/* wipes; the descriptor is the kernel's again */
void sp_ahead_fill(void);	/* reads once what fits: the socket has some */
bool sp_ahead_has_input(void);	/* would libssh find something, or an end? */
size_t sp_ahead_waiting(void);	/* bytes */
bool sp_ahead_is_full(void);	/* or nothing more comes */
void sp_ahead_may_read(bool may);
void sp_ahead_may_write(bool may);
bool sp_ahead_is_writable(void); /* the last send was not cut short */
void sp_ahead_set_writable(void); /* poll said so */
uint64_t sp_ahead_sent(void);	/* bytes, since begin */
void sp_ahead_trim(void);	/* nothing moves: memory goes back */

#endif
