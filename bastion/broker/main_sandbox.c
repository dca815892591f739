/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bastion/broker/main.h"
#include "common/sandbox.h"

/*
 * The broker keeps the right to connect: the database comes and goes. It never
 * executes, forks, listens or changes a file. What it may open is left to
 * Landlock: system configuration, read-only by its permissions.
 */
static const struct sp_syscall calls[] = {
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
    SP_CALL(pread64, "libraries of the resolver"),
    SP_CALL(getuid, "libpq: whose defaults"),
    SP_CALL(geteuid, "libpq: whose defaults"),
    SP_CALL(getgid, "libpq: whose defaults"),
    SP_CALL(getegid, "libpq: whose defaults"),
    SP_CALL(sysinfo, "libraries size their caches"),
    SP_CALL(sched_yield, "libc locks"),
};

void
sp_broker_environment(void)
{
	/* No home: libpq must not read what lies in somebody's directory. */
	setenv("HOME", "/nonexistent", 1);
	setenv("PGPASSFILE", "/nonexistent", 1);
	setenv("PGSERVICEFILE", "/nonexistent", 1);
	setenv("PGSYSCONFDIR", "/nonexistent", 1);
	tzset();
}

enum sp_err
sp_broker_confine(char *level, size_t cap)
{
	int fds[2] = {open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC),
	    open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC)};
	char landlock[64] = "";

	if (fds[0] < 0 || fds[1] < 0)
		return SP_ERR_IO;
	sp_landlock_restrict(fds, 2, landlock, sizeof(landlock));
	close(fds[0]);
	close(fds[1]);
	SP_TRY(sp_sandbox_enter(calls, sizeof(calls) / sizeof(calls[0]), level, cap));
	strncat(level, landlock, cap - strlen(level) - 1);
	return SP_OK;
}
