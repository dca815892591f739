/* SPDX-License-Identifier: Apache-2.0 */
#include "common/area.h"

#include <malloc.h>
#include <sys/mman.h>

#define PAGE 4096u
#define STACK (128u << 10)	/* deeper than any of ours goes */
#define LEAST (4 * PAGE)	/* less is not worth the call */

void
sp_pages_drop(void *p, size_t n)
{
	uintptr_t from = ((uintptr_t)p + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
	uintptr_t to = ((uintptr_t)p + n) & ~(uintptr_t)(PAGE - 1);

	/* A kernel with larger pages refuses: then they stay. */
	if (to >= from + LEAST)
		(void)!madvise((uint8_t *)p + (from - (uintptr_t)p), to - from,
		    MADV_DONTNEED);
}

__attribute__((noinline)) void
sp_stack_drop(void)
{
	uint8_t *here = __builtin_frame_address(0);
	size_t of_page = (uintptr_t)here & (PAGE - 1);

	/* One page more stays, for the call below. What is not mapped yet is
	 * passed over by the kernel. */
	(void)!madvise(here - of_page - PAGE - STACK, STACK, MADV_DONTNEED);
}

void
sp_area_saw(struct sp_area *a, const void *p, size_t n)
{
	union { const void *c; uint8_t *p; } u = {.c = p};
	uintptr_t at = (uintptr_t)a->at, now = (uintptr_t)p;

	if (!a->is_filled && a->at != u.p) {
		*a = (struct sp_area){.at = u.p};
		at = now;
	}
	a->is_filled = true;
	if (a->at == NULL)
		return;
	/* It has moved while it held something. */
	if (now < at || now - at > a->n) {
		a->at = NULL;
		return;
	}
	if (now - at + n > a->n)
		a->n = (size_t)(now - at) + n;
}

void
sp_area_emptied(struct sp_area *a)
{
	a->is_filled = false;
}

void
sp_area_drop(struct sp_area *a)
{
	if (a->at != NULL && !a->is_filled) {
		sp_pages_drop(a->at, malloc_usable_size(a->at));
		a->at = NULL;	/* once; and it may be freed */
	}
}
