/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_INGRESS_WIRE_H
#define SP_INGRESS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/area.h"
#include "common/buf.h"

/*
 * What stands between libssh and the world. libssh calls poll(2), recv(2) and
 * send(2) by their names; this program defines them (wire.c), so that
 *  - libssh reads from 64 KiB of read-ahead and not 4 KiB a system call,
 *  - it runs its packet machine only when the loop lets it (may_read,
 *    may_write): no callback can come out of a write,
 *  - the inner session of `ssh -J` has no socket at all: its bytes are moved
 *    between two wires in memory.
 * Every other descriptor goes straight to the kernel.
 */
#define SP_WIRE_RX (64u << 10)
#define SP_WIRE_TX (256u << 10)	/* inner wires: bytes that may wait */
#define SP_WIRES_MAX 20	/* the user's and one an inner session */

struct sp_wire {
	int fd;			/* -1: not registered */
	bool is_inner;		/* fd is only a number for libssh */
	bool may_read, may_write;
	bool is_writable;	/* the last send was not cut short */
	bool eof, tell_eof;	/* no more comes; libssh may learn it */
	int failed;		/* errno of the socket */
	uint8_t *rx;
	size_t rx_off, rx_len, rx_wet;	/* wet: ever written */
	struct sp_buf tx;	/* inner wires only */
	uint64_t bytes_in, bytes_out;
	struct sp_area out;	/* libssh's */
};

/* Registers a descriptor. SP_ERR_FULL, SP_ERR_NOMEM. */
SP_MUST enum sp_err sp_wire_init(struct sp_wire *w, int fd, bool is_inner);
void sp_wire_fini(struct sp_wire *w);
/* libssh has closed its descriptor: the number may be another's now. What
 * waits in tx stays. */
void sp_wire_detach(struct sp_wire *w);
/* Reads from the socket what fits. */
void sp_wire_fill(struct sp_wire *w);
/* Inner wires: where to put bytes for libssh, and that they were put. */
size_t sp_wire_room(const struct sp_wire *w);
uint8_t *sp_wire_at(struct sp_wire *w);
void sp_wire_put(struct sp_wire *w, size_t n);
/* Inner wires: n bytes of tx were taken. */
void sp_wire_took(struct sp_wire *w, size_t n);
/* Nothing moves: memory goes back. */
void sp_wire_trim(struct sp_wire *w);
/* Would libssh find something to read? */
bool sp_wire_has_input(const struct sp_wire *w);
/* How often libssh came here: a start-up check that the names are ours. */
uint64_t sp_wire_calls(void);

#endif
