/* SPDX-License-Identifier: Apache-2.0 */
/* covers: the tables of system calls of every process: what is in them works, and
 * every other number there is ends the process. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/sandbox.h"

#define NUMBERS 470		/* Linux 6.18 has fewer */
#define BAD (-1L)
/* Trampolines of the kernel's own probes (6.11, 6.18): it shows them to no
 * filter; from anywhere else they fail or are SIGILL. */
#define URETPROBE 335
#define UPROBE 336

static const struct table {
	const char *name;
	const struct sp_syscall *rows;
	const size_t *n;
} tables[] = {
#define ROW(x) {#x, sp_##x##_syscalls, &sp_##x##_n_syscalls},
    SP_TABLES(ROW)
};
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

/* What no process that meets strangers may ever do. */
static const int never[] = {__NR_execve, __NR_execveat, __NR_fork, __NR_vfork,
    __NR_clone, __NR_clone3, __NR_ptrace, __NR_process_vm_readv,
    __NR_process_vm_writev, __NR_kill, __NR_pidfd_getfd, __NR_mount, __NR_bpf,
    __NR_unshare, __NR_setns, __NR_setuid, __NR_setresuid, __NR_chroot,
    __NR_init_module, __NR_keyctl, __NR_userfaultfd, __NR_io_uring_setup,
    __NR_perf_event_open, __NR_listen, __NR_unlink, __NR_unlinkat, __NR_rename,
    __NR_renameat2, __NR_open_by_handle_at, __NR_memfd_create, __NR_seccomp};

static bool
has(const struct sp_syscall *rows, size_t n, int nr)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].nr == nr && !rows[i].arg_is_set)
			return true;
	return false;
}

static bool
may(const struct table *t, int nr)
{
	return has(sp_syscalls_base, sp_syscalls_n_base, nr) ||
	    has(t->rows, *t->n, nr);
}

#ifndef SP_SANITIZED
/* One call under the filter of t, with arguments that nothing can be done with,
 * but for one of them: its wait status. */
static int
call(const struct table *t, long nr, unsigned arg, long value)
{
	long a[6] = {BAD, BAD, BAD, BAD, BAD, BAD};
	pid_t pid;
	int status = -1;

	if (arg < 6)
		a[arg] = value;
	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		char level[64];

		(void)signal(SIGALRM, SIG_DFL);
		sp_harden(NULL);
		alarm(20);
		if (sp_sandbox_enter(t->rows, *t->n, level, sizeof(level)) != SP_OK)
			_exit(99);
		syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		_exit(42);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static bool
was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
#endif

static void
check(const struct table *t)
{
#ifdef SP_SANITIZED
	(void)t;
#else
	for (int nr = 0; nr < NUMBERS; nr++) {
		int status;

		if (nr == URETPROBE || nr == UPROBE)
			continue;
		status = call(t, nr, 6, 0);
		if (WIFEXITED(status))
			cr_assert_neq(WEXITSTATUS(status), 99);
		cr_expect_eq(was_killed(status), !may(t, nr), "%s, call %d:"
		    " status 0x%x", t->name, nr, (unsigned)status);
	}
	/* With the one argument that the row names, and no other. */
	for (size_t i = 0; i < *t->n; i++) {
		const struct sp_syscall *r = &t->rows[i];

		if (!r->arg_is_set || may(t, r->nr))
			continue;
		cr_expect(!was_killed(call(t, r->nr, r->arg, (long)r->value)),
		    "%s, call %d with its argument", t->name, r->nr);
		cr_expect(was_killed(call(t, r->nr, r->arg, 0x7fffffff)),
		    "%s, call %d with another", t->name, r->nr);
	}
	/* The other ways in: the numbers of x32. */
	cr_expect(was_killed(call(t, 0x40000000L | __NR_read, 6, 0)), "%s: x32",
	    t->name);
#endif
}

Test(calls, front, .timeout = 300) { check(&tables[0]); }
Test(calls, auth, .timeout = 300) { check(&tables[1]); }
Test(calls, broker, .timeout = 300) { check(&tables[2]); }
Test(calls, vault, .timeout = 300) { check(&tables[3]); }
Test(calls, notary, .timeout = 300) { check(&tables[4]); }
Test(calls, recorder, .timeout = 300) { check(&tables[5]); }
Test(calls, egress, .timeout = 300) { check(&tables[6]); }
Test(calls, player, .timeout = 300) { check(&tables[7]); }
Test(calls, files, .timeout = 300) { check(&tables[10]); }
Test(calls, ship, .timeout = 300) { check(&tables[11]); }

Test(calls, each_row_says_why)
{
	for (size_t k = 0; k < N_TABLES; k++)
		for (size_t i = 0; i < *tables[k].n; i++)
			cr_expect_gt(strlen(tables[k].rows[i].reason), 3, "%s, row %zu",
			    tables[k].name, i);
	cr_assert_eq(N_TABLES, 12);
}

Test(calls, no_table_opens_a_way_out)
{
	for (size_t k = 0; k < N_TABLES; k++)
		for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
			/* The notary removes partial tiles, in its directory;
			 * sallyport-files is there for such things, in its own. */
			cr_expect(!may(&tables[k], never[i]) || ((k == 4 || k == 10) &&
			    never[i] == __NR_unlinkat) || (k == 10 &&
			    never[i] == __NR_renameat2), "%s, call %d",
			    tables[k].name, never[i]);
	/* Who meets strangers reaches nobody else. */
	cr_expect(!may(&tables[0], __NR_connect) && !may(&tables[0], __NR_socket) &&
	    !may(&tables[0], __NR_openat));
	cr_expect(!may(&tables[11], __NR_connect) && !may(&tables[11], __NR_socket) &&
	    !may(&tables[11], __NR_openat));
	cr_expect(!may(&tables[6], __NR_connect) && !may(&tables[6], __NR_socket) &&
	    !may(&tables[6], __NR_openat));
}
