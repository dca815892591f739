/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

/* No socket of the internet and no connect: a connection to the store is begun by
 * sallyportd, and to nowhere else. No file is opened: a recording comes as a
 * descriptor. */
const struct sp_syscall sp_ship_syscalls[] = {
    SP_CALL(pread64, "the recording"),
    SP_CALL(newfstatat, "libc's fstat: how large it is"),
    SP_CALL(fsync, "one that came back from the store is on the disk"),
    SP_CALL(getsockopt, "is the connection there?"),
    SP_CALL(setsockopt, "libcurl: no delay"),
    SP_CALL(getsockname, "libcurl: its own end"),
    SP_CALL(getpeername, "libcurl: the other end"),
    SP_CALL_IF(socketpair, 0, AF_UNIX, "libcurl: wakes its own poll"),
    SP_CALL(ioctl, "libcurl: non-blocking"),
};
const size_t sp_ship_n_syscalls =
    sizeof(sp_ship_syscalls) / sizeof(sp_ship_syscalls[0]);
