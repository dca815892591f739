/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/termbits.h>
#include <asm/ioctls.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

const struct sp_syscall sp_auth_syscalls[] = {
    SP_CALL_IF(socket, 0, AF_NETLINK, "libaudit: the result of a login"),
    SP_CALL(getuid, "libpam, libaudit"),
    SP_CALL(geteuid, "libpam"),
    SP_CALL(getgid, "libpam"),
    SP_CALL(getegid, "libpam"),
    SP_CALL(capget, "libaudit asks whether it might have reported"),
    SP_CALL_IF(prctl, 0, PR_CAPBSET_READ, "the same"),
    SP_CALL_IF(prctl, 0, PR_CAP_AMBIENT, "the same; no right can be gained"),
    SP_CALL(openat, "libaudit looks at /proc; Landlock refuses"),
    SP_CALL(newfstatat, "libaudit looks at its terminal"),
    SP_CALL(readlink, "libaudit names the program"),
    SP_CALL(readlinkat, "libaudit names the program"),
    SP_CALL_IF(ioctl, 1, TCGETS, "isatty of libaudit"),
};
const size_t sp_auth_n_syscalls =
    sizeof(sp_auth_syscalls) / sizeof(sp_auth_syscalls[0]);
