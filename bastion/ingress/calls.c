/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include "bastion/ingress/front.h"

/* No socket, connect, open, exec, clone: the base, and these. */
const struct sp_syscall sp_front_syscalls[] = {
    SP_CALL_IF(setsockopt, 2, 12, "TCP_QUICKACK while a session is set up"),
    SP_CALL_IF(setsockopt, 2, SO_SNDBUF, "room in the streams"),
};
const size_t sp_front_n_syscalls =
    sizeof(sp_front_syscalls) / sizeof(sp_front_syscalls[0]);
