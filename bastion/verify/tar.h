/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VERIFY_TAR_H
#define SP_VERIFY_TAR_H

#include "common/buf.h"

/*
 * The one form of a tar archive (POSIX.1-1988 ustar) that evidence bundles have:
 * regular files of mode 0444, owner 0, time 0, one after the other, padded with
 * zeros, and two blocks of zeros. There is one way to write given files, so a
 * reader makes each header anew and compares: no byte is free.
 */
#define TAR_BLOCK 512u
#define TAR_NAME_MAX 99u
void tar_header(uint8_t block[static TAR_BLOCK], const char *name,
    uint64_t size);
SP_MUST enum sp_err tar_put(int fd, const char *name, struct sp_span content);
/* From a descriptor, from its beginning; SP_ERR_EOF: it is shorter. */
SP_MUST enum sp_err tar_put_file(int fd, const char *name, int from,
    uint64_t size);
SP_MUST enum sp_err tar_end(int fd);

struct tar_member {
	char name[TAR_NAME_MAX + 1];
	uint64_t off, size;	/* where its content stands */
};
/* The members of an archive; at most max. SP_ERR_PROTO: not this form of it,
 * SP_ERR_EOF: it is cut. */
SP_MUST enum sp_err tar_list(int fd, struct tar_member *m, size_t max,
    size_t *n);

#endif
