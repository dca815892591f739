/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/sandbox.c */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/text.h"

/* Runs what under the base filter (and rows) in a child; its wait status. */
static int
confined(int (*what)(void), const struct sp_syscall *rows, size_t n)
{
	pid_t pid = fork();
	int status = -1;

	cr_assert(pid >= 0);
	if (pid == 0) {
		char level[64];

		sp_harden(NULL);
		if (sp_sandbox_enter(rows, n, level, sizeof(level)) != SP_OK)
			_exit(99);
		_exit(what());
	}
	cr_assert(waitpid(pid, &status, 0) == pid);
	return status;
}

static int do_open(void) { return openat(AT_FDCWD, "/dev/null", O_RDONLY) < 0; }
static int do_socket(void) { return socket(AF_INET, SOCK_STREAM, 0) < 0; }
static int do_connect(void) { return (int)syscall(SYS_connect, 0, NULL, 0); }
static int do_fork(void) { return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static int do_ptrace(void) { return (int)syscall(SYS_ptrace, 0, 0, 0, 0); }
static int do_kill(void) { return kill(1, 0); }
static int do_unlink(void) { return unlink("/nonexistent"); }

static int
do_exec(void)
{
	char name[] = "/bin/true", *argv[] = {name, NULL};

	return execve(name, argv, NULL);
}

/* What every process of ours does all day. */
static int
do_base(void)
{
	uint8_t u[16];
	char c = 0;
	void *p = malloc(4 << 20), *q = malloc(100);

	if (p == NULL || q == NULL)
		return 1;
	memset(p, 1, 4 << 20);
	free(p);
	free(q);
	sp_uuid_make(u);
	(void)sp_now_us();
	(void)sp_boot_us();
	if (write(STDERR_FILENO, &c, 0) < 0)
		return 2;
	return getpid() > 0 ? 7 : 3;
}

Test(sandbox, forbidden_calls_kill_the_process)
{
	static int (*const all[])(void) = {do_open, do_socket, do_connect, do_fork,
	    do_ptrace, do_kill, do_unlink, do_exec};

#ifdef SP_SANITIZED
	cr_skip_test("no filter in builds with sanitizers");
#endif
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int st = confined(all[i], NULL, 0);

		cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS,
		    "call %zu: status 0x%x", i, (unsigned)st);
	}
}

Test(sandbox, the_base_set_is_enough_to_live)
{
	int st = confined(do_base, NULL, 0);

	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 7, "0x%x", (unsigned)st);
}

static int get_dumpable(void) { return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }
static int set_name(void) { return prctl(PR_SET_NAME, "x", 0, 0, 0); }
static int get_uid(void) { return getuid() == (uid_t)-1; }

Test(sandbox, rows_add_calls_and_may_look_at_an_argument)
{
	static const struct sp_syscall rows[] = {
	    SP_CALL_IF(prctl, 0, PR_GET_DUMPABLE, "a test"),
	    SP_CALL(getuid, "a test")};
	int st = confined(get_uid, rows, 2);

	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	st = confined(get_dumpable, rows, 2);
	cr_assert(WIFEXITED(st));
#ifndef SP_SANITIZED
	st = confined(set_name, rows, 2);
	cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
	st = confined(get_uid, NULL, 0);
	cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
#else
	(void)set_name;
#endif
}

Test(sandbox, every_row_says_why)
{
	for (size_t i = 0; i < sp_syscalls_n_base; i++) {
		cr_assert(sp_syscalls_base[i].reason[0] != '\0');
		for (size_t k = 0; k < i; k++)
			cr_assert(sp_syscalls_base[i].nr != sp_syscalls_base[k].nr ||
			    sp_syscalls_base[i].arg_is_set);
	}
}

Test(sandbox, no_base_call_opens_a_way_out)
{
	static const int never[] = {__NR_open, __NR_openat, __NR_socket,
	    __NR_connect, __NR_bind, __NR_listen, __NR_accept, __NR_accept4,
	    __NR_execve, __NR_execveat, __NR_fork, __NR_vfork, __NR_clone,
	    __NR_ptrace, __NR_process_vm_readv, __NR_kill, __NR_ioctl,
	    __NR_unlink, __NR_rename, __NR_mount, __NR_bpf, __NR_io_uring_setup};

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		for (size_t k = 0; k < sp_syscalls_n_base; k++)
			cr_assert(sp_syscalls_base[k].nr != never[i], "call %d",
			    never[i]);
}

Test(sandbox, harden)
{
	static const char *const keep[] = {"KEPT", NULL};
	struct rlimit r;
	mode_t m;

	setenv("KEPT", "1", 1);
	setenv("TZ", "Asia/Taipei", 1);
	setenv("LD_PRELOAD", "/tmp/x.so", 1);
	setenv("PGPASSWORD", "x", 1);
	sp_harden(keep);
	cr_assert(getenv("KEPT") != NULL && strcmp(getenv("KEPT"), "1") == 0);
	cr_assert(getenv("TZ") != NULL && strcmp(getenv("TZ"), "Asia/Taipei") == 0);
	cr_assert(getenv("LD_PRELOAD") == NULL && getenv("PGPASSWORD") == NULL);
	cr_assert(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	cr_assert(getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_max == 0);
	m = umask(0);
	cr_assert(m == 077);
#ifndef SP_SANITIZED
	cr_assert(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
#endif
}

Test(sandbox, harden_keeps_nothing_by_itself)
{
	unsetenv("TZ");
	setenv("HOME", "/root", 1);
	sp_harden(NULL);
	cr_assert(environ == NULL || environ[0] == NULL);
}

Test(sandbox, landlock_closes_the_file_system_where_there_is_one)
{
	char level[64] = "seccomp";
	int fd, dir;

	cr_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	dir = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	sp_landlock_restrict(&dir, 1, level, sizeof(level));
	cr_assert(strncmp(level, "seccomp landlock=", 17) == 0, "%s", level);
	if (strstr(level, "landlock=none") != NULL)
		return;
	cr_assert(strstr(level, "failed") == NULL, "%s", level);
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	cr_assert(fd < 0 && errno == EACCES);
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0);
	close(fd);
}
