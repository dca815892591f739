/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/syscall.h>

#include "common/sandbox.h"

/*
 * The broker keeps the right to connect: the database comes and goes. It never
 * executes, forks, listens or changes a file. What it may open is left to
 * Landlock: system configuration, read-only by its permissions.
 */
const struct sp_syscall sp_broker_syscalls[] = {
    SP_CALL(epoll_create1, "libevent"),
    SP_CALL(epoll_ctl, "libevent"),
    SP_CALL(epoll_wait, "libevent"),
    SP_CALL(epoll_pwait, "libevent"),
    SP_CALL(timerfd_create, "libevent: precise timers"),
    SP_CALL(timerfd_settime, "libevent: precise timers"),
    SP_CALL(readv, "libevent"),
    SP_CALL(writev, "libevent"),
    SP_CALL(ioctl, "FIONREAD: name resolution of an external database"),
    SP_CALL(accept4, "the control socket"),
    SP_CALL(socketpair, "streams of verbs and dialogues"),
    SP_CALL(socket, "libpq: after a loss it connects again"),
    SP_CALL(connect, "libpq: after a loss it connects again"),
    SP_CALL(bind, "name resolution: netlink, to order addresses"),
    SP_CALL(getsockopt, "libpq: SO_ERROR; SO_PEERCRED of the control socket"),
    SP_CALL(setsockopt, "libpq: TCP_NODELAY, keepalives"),
    SP_CALL(getsockname, "libpq"),
    SP_CALL(getpeername, "libpq"),
    SP_CALL(sendmmsg, "name resolution of an external database"),
    SP_CALL(openat, "libpq, resolver, certificates: below /etc and /usr only"),
    SP_CALL(newfstatat, "libpq looks for its files, the resolver for changes"),
    SP_CALL(stat, "libpq looks for its files"),
    SP_CALL(access, "libpq looks for its files"),
    SP_CALL(readlink, "OpenSSL's configuration"),
    SP_CALL(getdents64, "OpenSSL: directories of certificates"),
    SP_CALL(pread64, "libraries of the resolver; its own files"),
    SP_CALL(pwrite64, "its own files: version heads, reserve"),
    SP_CALL(ftruncate, "its own files"),
    SP_CALL(fdatasync, "the reserve"),
    SP_CALL(getuid, "libpq: whose defaults"),
    SP_CALL(geteuid, "libpq: whose defaults"),
    SP_CALL(getgid, "libpq: whose defaults"),
    SP_CALL(getegid, "libpq: whose defaults"),
    SP_CALL(sysinfo, "libraries size their caches"),
    SP_CALL(sched_yield, "libc locks"),
};
const size_t sp_broker_n_syscalls =
    sizeof(sp_broker_syscalls) / sizeof(sp_broker_syscalls[0]);
