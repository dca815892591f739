/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_NOGSS_H
#define SP_COMMON_NOGSS_H

#include <stdbool.h>

/*
 * There is no GSSAPI here: both legs compile nogss.c in, which defines all that
 * libssh calls of it (libssh finds ours first). libssh's own library of it is
 * loaded, and never run; its children do not even have it in their memory.
 */
/* libssh has refused a GSSAPI request since the last call. */
bool sp_gss_was_asked(void);
/* For struct sp_parent: the libraries that no child needs. */
extern const char *const sp_nogss_libraries[];

#endif
