/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_INGRESS_SSHLIB_H
#define SP_INGRESS_SSHLIB_H

/* libssh, with the accessors of ssh_message: they are marked deprecated, and
 * keyboard-interactive and late answers exist in no other form before 0.12. */
#define LIBSSH_LEGACY_0_4_NOT_WANTED 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#define SSH_SUPPRESS_DEPRECATED 1
#include <libssh/libssh.h>
#include <libssh/callbacks.h>
#include <libssh/server.h>
#pragma GCC diagnostic pop

#endif
