/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_PUPPET_H
#define SP_TESTS_PUPPET_H

#include <stddef.h>
#include <stdint.h>

/*
 * A captured process: it does whatever a test says over the control socket,
 * inside the very sandbox of the role whose place it takes. All attacks are
 * written in Python (tests/attack/puppet.py); this only lends its hands.
 *
 * Request: u32 length, u8 operation, payload. Answer: u32 length, u8 status (0
 * done, 1 too late, 2 the peer hung up, 3 errno follows as u32), payload.
 */
#define PUPPET_SLOTS 64
#define PUPPET_MAX (1u << 20)

struct puppet {
	int control;
	int slot[PUPPET_SLOTS];		/* -1: free */
	uint8_t *in, *out;
	size_t out_len;
	/* what only one role can do; NULL: nothing. Returns the status. */
	int (*special)(struct puppet *p, uint8_t op, const uint8_t *d, size_t n);
	void *arg;
};
void puppet_init(struct puppet *p, int control);
/* Until the control socket ends; the exit status. */
int puppet_run(struct puppet *p);
void puppet_put(struct puppet *p, const void *d, size_t n); /* to the answer */
int puppet_take(struct puppet *p, int fd);	/* its slot */

#endif
