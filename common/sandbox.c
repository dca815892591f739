/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Kernel headers of Debian 12 stop at ABI 2; kernels have more. */
#define LL_FS_REFER (1ULL << 13)
#define LL_FS_TRUNCATE (1ULL << 14)
#define LL_FS_ALL_V1 ((1ULL << 13) - 1)

const struct sp_syscall sp_syscalls_base[] = {
    SP_CALL(read, "links, streams, signalfd"),
    SP_CALL(write, "the log; streams"),
    SP_CALL(close, "descriptors that are done with"),
    SP_CALL(poll, "waiting"),
    SP_CALL(ppoll, "waiting"),
    SP_CALL(recvmsg, "messages and descriptors from siblings"),
    SP_CALL(sendmsg, "messages to siblings"),
    SP_CALL(recvfrom, "recv(3) on streams"),
    SP_CALL(sendto, "send(3) on streams"),
    SP_CALL(shutdown, "half-close of streams"),
    SP_CALL(brk, "malloc"),
    SP_CALL(mmap, "malloc"),
    SP_CALL(munmap, "malloc"),
    SP_CALL(mremap, "malloc"),
    SP_CALL(madvise, "malloc"),
    SP_CALL(mprotect, "malloc; guard pages"),
    SP_CALL(futex, "libc locks"),
    SP_CALL(getrandom, "uuids, keys"),
    SP_CALL(clock_gettime, "time where the vdso has none"),
    SP_CALL(gettimeofday, "time where the vdso has none"),
    SP_CALL(clock_nanosleep, "libc waits"),
    SP_CALL(getpid, "log lines; fork checks of libraries"),
    SP_CALL(gettid, "abort"),
    SP_CALL(tgkill, "abort"),
    SP_CALL(rt_sigprocmask, "abort; signal masks"),
    SP_CALL(rt_sigaction, "abort"),
    SP_CALL(rt_sigreturn, "return from handlers"),
    SP_CALL(restart_syscall, "after a stop"),
    SP_CALL(exit, "the end"),
    SP_CALL(exit_group, "the end"),
    SP_CALL(fcntl, "non-blocking, close-on-exec"),
    SP_CALL(fstat, "stdio, descriptor checks"),
    SP_CALL(lseek, "stdio"),
    SP_CALL(uname, "libc"),
    SP_CALL(rseq, "libc"),
};
const size_t sp_syscalls_n_base =
    sizeof(sp_syscalls_base) / sizeof(sp_syscalls_base[0]);

void
sp_harden(const char *const *keep)
{
	static const char *const always[] = {"TZ", NULL};
	const char *const *lists[] = {always, keep};
	struct rlimit none = {0, 0};
	struct {
		const char *name;
		char *value;
	} kept[8];
	size_t n = 0;

	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; lists[k] != NULL && lists[k][i] != NULL; i++) {
			const char *v = getenv(lists[k][i]);

			if (v == NULL || n == sizeof(kept) / sizeof(kept[0]))
				continue;
			kept[n].name = lists[k][i];
			kept[n++].value = strdup(v);
		}
	clearenv();
	for (size_t i = 0; i < n; i++)
		if (kept[i].value != NULL) {
			setenv(kept[i].name, kept[i].value, 1);
			free(kept[i].value);
		}
	umask(077);
	/* The first log line would open /etc/localtime: in a sandbox, its end. */
	tzset();
	signal(SIGPIPE, SIG_IGN);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    setrlimit(RLIMIT_CORE, &none) != 0)
		abort();
#ifndef SP_SANITIZED
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		abort();
#endif
}

#ifndef SP_SANITIZED
static int
add_row(scmp_filter_ctx ctx, const struct sp_syscall *r)
{
	if (r->arg_is_set)
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->nr, 1,
		    SCMP_CMP(r->arg, SCMP_CMP_EQ, r->value));
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->nr, 0);
}
#endif

#ifndef SP_SANITIZED
/* A filter that was built before it is needed: its parent's work, once. */
#define PREPARED_MAX 4
static struct prepared {
	const struct sp_syscall *rows;
	size_t n;
	struct sock_fprog prog;
} prepared[PREPARED_MAX];

static enum sp_err
build(const struct sp_syscall *rows, size_t n, scmp_filter_ctx *out)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int bad = 0;

	if (ctx == NULL)
		return SP_ERR_NOMEM;
	for (size_t i = 0; i < sp_syscalls_n_base; i++)
		bad |= add_row(ctx, &sp_syscalls_base[i]);
	for (size_t i = 0; i < n; i++)
		bad |= add_row(ctx, &rows[i]);
	if (bad != 0) {
		seccomp_release(ctx);
		return SP_ERR_UNSUPPORTED;
	}
	*out = ctx;
	return SP_OK;
}

/* The program as the kernel wants it; the library only writes it to files. */
static enum sp_err
export(scmp_filter_ctx ctx, struct sock_fprog *prog)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	struct sock_filter *code = NULL;
	off_t size = -1;

	if (fd >= 0 && seccomp_export_bpf(ctx, fd) == 0)
		size = lseek(fd, 0, SEEK_END);
	if (size > 0 && size % (off_t)sizeof(*code) == 0 &&
	    size / (off_t)sizeof(*code) <= BPF_MAXINSNS)
		code = malloc((size_t)size);
	if (code != NULL && pread(fd, code, (size_t)size, 0) != size) {
		free(code);
		code = NULL;
	}
	if (fd >= 0)
		close(fd);
	if (code == NULL)
		return SP_ERR_UNSUPPORTED;
	*prog = (struct sock_fprog){.filter = code,
	    .len = (unsigned short)(size / (off_t)sizeof(*code))};
	return SP_OK;
}
#endif

enum sp_err
sp_sandbox_prepare(const struct sp_syscall *rows, size_t n)
{
#ifdef SP_SANITIZED
	(void)rows;
	(void)n;
	return SP_OK;
#else
	struct prepared *p = prepared;
	scmp_filter_ctx ctx;
	enum sp_err e;

	while (p < prepared + PREPARED_MAX && p->rows != NULL)
		p++;
	if (p == prepared + PREPARED_MAX)
		return SP_ERR_FULL;
	SP_TRY(build(rows, n, &ctx));
	e = export(ctx, &p->prog);
	seccomp_release(ctx);
	if (e == SP_OK)
		*p = (struct prepared){rows, n, p->prog};
	return e;
#endif
}

enum sp_err
sp_sandbox_enter(const struct sp_syscall *rows, size_t n, char *level,
    size_t cap)
{
#ifdef SP_SANITIZED
	(void)rows;
	(void)n;
	snprintf(level, cap, "none (sanitizers)");
	return SP_OK;
#else
	scmp_filter_ctx ctx;
	bool is_in = false;

	for (size_t i = 0; i < PREPARED_MAX && prepared[i].rows != NULL; i++)
		if (prepared[i].rows == rows && prepared[i].n == n)
			is_in = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0,
			    &prepared[i].prog) == 0;
	if (!is_in) {
		SP_TRY(build(rows, n, &ctx));
		is_in = seccomp_load(ctx) == 0;
		seccomp_release(ctx);
	}
	if (!is_in)
		return SP_ERR_UNSUPPORTED;
	snprintf(level, cap, "seccomp");
	return SP_OK;
#endif
}

/* What may be done below fd: everything, or reading. */
static uint64_t
access_of(int fd, uint64_t all, bool read_only)
{
	struct stat st;

	if (!read_only)
		return all;
	if (fstat(fd, &st) != 0)
		return 0;
	return LANDLOCK_ACCESS_FS_READ_FILE | (S_ISDIR(st.st_mode) ?
	    LANDLOCK_ACCESS_FS_READ_DIR : 0);
}

static void
landlock(const int *fds, size_t n, bool read_only, char *level, size_t cap)
{
	struct landlock_ruleset_attr attr = {0};
	size_t used = strlen(level);
	long abi, rs;

	abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1) {
		snprintf(level + used, cap - used, " landlock=none");
		return;
	}
	attr.handled_access_fs = LL_FS_ALL_V1 | (abi >= 2 ? LL_FS_REFER : 0) |
	    (abi >= 3 ? LL_FS_TRUNCATE : 0);
	rs = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	for (size_t i = 0; rs >= 0 && i < n; i++) {
		struct landlock_path_beneath_attr at = {
		    .allowed_access = access_of(fds[i], attr.handled_access_fs,
		    read_only), .parent_fd = fds[i]};

		if (syscall(SYS_landlock_add_rule, rs, LANDLOCK_RULE_PATH_BENEATH,
		    &at, 0) != 0) {
			close((int)rs);
			rs = -1;
		}
	}
	if (rs < 0 || syscall(SYS_landlock_restrict_self, rs, 0) != 0)
		snprintf(level + used, cap - used, " landlock=failed(%d)", errno);
	else
		snprintf(level + used, cap - used, " landlock=%ld", abi);
	if (rs >= 0)
		close((int)rs);
}

void
sp_landlock_restrict(const int *dir_fds, size_t n, char *level, size_t cap)
{
	landlock(dir_fds, n, false, level, cap);
}

void
sp_landlock_read_only(const int *fds, size_t n, char *level, size_t cap)
{
	landlock(fds, n, true, level, cap);
}
