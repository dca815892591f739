/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_SORT_H
#define SP_COMMON_SORT_H

#include <stddef.h>

/*
 * Sorts as qsort(3) does, in place and without memory of its own: glibc's asks
 * the system how much memory it has once there is more than 1 KiB to sort, a
 * call that our filters kill for. width: bytes of one element, at most 64. Not
 * stable; O(n log n) whatever the order.
 */
void sp_sort(void *base, size_t n, size_t width,
    int (*compare)(const void *, const void *));

#endif
