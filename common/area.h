/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_AREA_H
#define SP_COMMON_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A buffer of libssh's, as far as it is seen from outside: it grows with a
 * burst, and libssh has no call to shrink it. While it is empty nothing in it
 * is needed, and its pages can go: they come back as zeros. libssh begins an
 * empty buffer at its first byte again (ssh_buffer_pass_bytes), so what is seen
 * of it first is the block that it allocated.
 */
struct sp_area {
	uint8_t *at;		/* the block; NULL: not known */
	size_t n;		/* bytes of it that have been seen */
	bool is_filled;		/* since it was last known to be empty */
};

/* It holds n bytes at p now, and before them only what it held before. */
void sp_area_saw(struct sp_area *a, const void *p, size_t n);
void sp_area_emptied(struct sp_area *a);
/* Gives its pages back, if it is empty. */
void sp_area_drop(struct sp_area *a);
/* The pages that lie wholly within these bytes; what stood there is lost. */
void sp_pages_drop(void *p, size_t n);
/* The pages of the stack that the caller's callees used before: what they left
 * there is lost. For who is about to wait for long. */
void sp_stack_drop(void);

#endif
