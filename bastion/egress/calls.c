/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/syscall.h>

#include "bastion/egress/egress.h"

/* After set-up. No socket, connect, open or exec: the connected socket came as
 * a descriptor, and there is nothing else to reach. */
const struct sp_syscall sp_egress_syscalls[] = {
    SP_CALL(getuid, "libssh asks before it logs in"),
    SP_CALL(geteuid, "libssh asks before it logs in"),
    SP_CALL(getsockopt, "libssh: the error of its socket"),
    SP_CALL(setsockopt, "TCP_NODELAY and TCP_QUICKACK on its socket"),
    SP_CALL(getpeername, "libssh: what kind of socket"),
    SP_CALL(getsockname, "libssh: what kind of socket"),
    SP_CALL(pread64, "the password's memfd"),
    SP_CALL(writev, "libc"),
};
const size_t sp_egress_n_syscalls =
    sizeof(sp_egress_syscalls) / sizeof(sp_egress_syscalls[0]);
