/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_FREE 64	/* above everything that is laid out below */

/* No child inherits an environment beyond the time zone (and what keeps the
 * sanitizers honest, in a build with them); what glibc should know comes with
 * it. */
static const char *const env_names[] = {
    "TZ",
#ifdef SP_SANITIZED
    "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
#endif
};
#define N_ENV (sizeof(env_names) / sizeof(env_names[0]))

/* `rep movsb` of AMD's processors since Zen 3 takes 15 to 20 times as long where
 * the destination is 1 to 15 bytes behind the source modulo a page, as in many
 * copies of an SSH library; glibc uses it from 2 KiB on before 2.39 (its bug 30994). */
static const char *
tunables(void)
{
#if defined(__x86_64__) && defined(__GLIBC__)
	__builtin_cpu_init();
	if (__builtin_cpu_is("amd"))
		return "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824";
#endif
	return NULL;
}

static const char *
exe_of(const struct sp_launch *l)
{
	return l->is_files ? SP_FILES_EXE : sp_role_rows[l->rx].exe;
}

static _Noreturn void
die(const char *exe, const char *what)
{
	sp_log(SP_ERROR, "exec_failed", NULL, "exe=%s step=%s error=\"%s\"", exe,
	    what, strerror(errno));
	_exit(127);
}

static void
lay_out_fds(const struct sp_instance *in, const struct sp_launch *l)
{
	int src[4] = {in->null, in->null, in->log, l->link}, n = 4;

	for (int i = 0; i < n; i++)
		if ((src[i] = fcntl(src[i], F_DUPFD_CLOEXEC, FIRST_FREE)) < 0)
			die(exe_of(l), "fcntl");
	for (int i = 0; i < n; i++)
		if (dup3(src[i], i, 0) < 0)	/* without close-on-exec */
			die(exe_of(l), "dup3");
}

/* Recordings are the supervisor's user's. Of root's rights there remains the one to
 * open them, and Landlock says where. */
static void
narrow(void)
{
	struct __user_cap_header_struct h = {.version =
	    _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {
	    {.effective = 1u << CAP_DAC_OVERRIDE,
	    .permitted = 1u << CAP_DAC_OVERRIDE}};

	for (unsigned long c = 0; c < 64; c++)
		if (c != CAP_DAC_OVERRIDE &&
		    prctl(PR_CAPBSET_DROP, c, 0, 0, 0) != 0 && errno != EINVAL)
			die(SP_FILES_EXE, "capabilities");
	if (setgroups(0, NULL) != 0 || prctl(PR_CAP_AMBIENT,
	    PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
	    syscall(SYS_capset, &h, caps) != 0)
		die(SP_FILES_EXE, "capset");
}

static void
become(const struct sp_instance *in, const struct sp_launch *l)
{
	const char *exe = exe_of(l);
	uid_t u = in->uids[l->rx], r, e, s;
	gid_t g = in->gids[l->rx];

	if (!in->as_root)
		return;
	if (l->is_files) {
		narrow();
		return;
	}
	if (u == 0 || g == 0) {
		errno = EPERM;
		die(exe, "role as root");
	}
	if (setgroups(0, NULL) != 0 || setresgid(g, g, g) != 0 ||
	    setresuid(u, u, u) != 0)
		die(exe, "setresuid");
	if (getresuid(&r, &e, &s) != 0 || r != u || e != u || s != u ||
	    setuid(0) == 0)
		die(exe, "still root");
}

static _Noreturn void
run(const struct sp_instance *in, const struct sp_launch *l, int exe_fd)
{
	const char *exe = exe_of(l);
	char path[sizeof(in->libexec_path) + 64], env[N_ENV + 1][256];
	char *argv[2] = {path, NULL}, *envp[N_ENV + 2], empty[] = "";
	size_t n_env = 0;
	sigset_t none;

	/* Ctrl-C in a terminal reaches the supervisor alone: it ends the
	 * sessions before it ends the roles. */
	setsid();
	lay_out_fds(in, l);
	if (close_range(4, (unsigned)exe_fd - 1, 0) != 0 ||
	    close_range((unsigned)exe_fd + 1, ~0U, 0) != 0)
		die(exe, "close_range");
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);	/* the two of libc refuse */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(path, sizeof(path), "%s/%s", in->libexec_path, exe);
	for (size_t i = 0; i < N_ENV; i++) {
		const char *v = getenv(env_names[i]);

		if (v == NULL || (size_t)snprintf(env[n_env], sizeof(env[0]),
		    "%s=%s", env_names[i], v) >= sizeof(env[0]))
			continue;
		envp[n_env] = env[n_env];
		n_env++;
	}
	if (tunables() != NULL) {
		snprintf(env[n_env], sizeof(env[0]), "%s", tunables());
		envp[n_env] = env[n_env];
		n_env++;
	}
	envp[n_env] = NULL;
	become(in, l);
	execve(path, argv, envp);
	/* A build tree below a directory that the role's user may not pass. */
	if (errno == EACCES)
		execveat(exe_fd, empty, argv, envp, AT_EMPTY_PATH);
	die(exe, "execve");
}

enum sp_err
sp_launch_exec(const struct sp_instance *in, const struct sp_launch *l,
    pid_t *pid)
{
	const char *exe = exe_of(l);
	int low = openat(in->libexec, exe, O_PATH | O_CLOEXEC), fd;
	pid_t p;

	if (low < 0) {
		sp_log(SP_ERROR, "exec_failed", NULL, "exe=%s error=\"%s\"", exe,
		    strerror(errno));
		return SP_ERR_NOTFOUND;
	}
	fd = fcntl(low, F_DUPFD_CLOEXEC, 2 * FIRST_FREE);
	close(low);
	if (fd < 0)
		return SP_ERR_IO;
	p = fork();
	if (p == 0)
		run(in, l, fd);
	close(fd);
	if (p < 0) {
		sp_log(SP_ERROR, "fork_failed", NULL, "exe=%s error=\"%s\"", exe,
		    strerror(errno));
		return SP_ERR_IO;
	}
	*pid = p;
	return SP_OK;
}
