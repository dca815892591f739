/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

static void
become(const struct sp_who *w)
{
	if (w == NULL || geteuid() != 0 || w->uid == 0)
		return;
	if (setgroups(0, NULL) != 0 || setresgid(w->gid, w->gid, w->gid) != 0 ||
	    setresuid(w->uid, w->uid, w->uid) != 0 || setuid(0) == 0)
		_exit(126);
}

/* Nothing of the caller's environment but what is named. What runs as another
 * user gets less. */
static void
environment(const struct sp_run *r, char *env[static 14], char block[14][1024])
{
	static const char *const fixed[] = {
	    "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
	    "PGCONNECT_TIMEOUT=5"};
	static const char *const kept[] = {"TZ", "SOFTHSM2_CONF", "ASAN_OPTIONS",
	    "UBSAN_OPTIONS", "LSAN_OPTIONS", "SALLYPORT_LIBEXEC", "PGPASSFILE",
	    "HOME", "CREDENTIALS_DIRECTORY"};
	size_t n = 0;

	for (size_t i = 0; i < 3; i++)
		snprintf(block[n++], 1024, "%s", fixed[i]);
	for (size_t i = 0; i < (r->as == NULL ? 9 : 2); i++) {
		const char *v = getenv(kept[i]);

		if (v != NULL && strlen(v) < 900)
			snprintf(block[n++], 1024, "%s=%s", kept[i], v);
	}
	for (size_t i = 0; i < n; i++)
		env[i] = block[i];
	env[n] = NULL;
}

static _Noreturn void
child(const struct sp_run *r, int out)
{
	char block[14][1024], *env[14];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(r->in > 2 ? r->in : null, STDIN_FILENO) < 0 ||
	    dup2(r->quiet && r->out == NULL ? null : out, STDOUT_FILENO) < 0 ||
	    (r->quiet && dup2(null, STDERR_FILENO) < 0) ||
	    chdir(r->cwd == NULL ? "/" : r->cwd) != 0)
		_exit(126);
	environment(r, env, block);
	become(r->as);
	execve(r->argv[0], (char *const *)(uintptr_t)r->argv, env);
	dprintf(STDERR_FILENO, "%s: %s\n", r->argv[0], strerror(errno));
	_exit(127);
}

static int
wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int
sp_cli_run(const struct sp_run *r)
{
	int p[2] = {-1, -1};
	enum sp_err e = SP_OK;
	pid_t pid;

	if (r->out != NULL && pipe2(p, O_CLOEXEC) != 0)
		return -1;
	pid = fork();
	if (pid == 0)
		child(r, r->out != NULL ? p[1] : r->out_fd > 2 ? r->out_fd :
		    STDERR_FILENO);
	if (p[1] >= 0)
		close(p[1]);
	if (pid > 0 && r->out != NULL)
		e = sp_cli_read_fd(p[0], r->out);
	if (p[0] >= 0)
		close(p[0]);
	if (pid < 0)
		return -1;
	return e == SP_OK ? wait_for(pid) : (wait_for(pid), -1);
}

/* ----------------------------------------------------------------- finding */

/* Where this program stands; "" when that cannot be told. */
static const char *
self_dir(void)
{
	static char dir[4096];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *slash;

	dir[n > 0 ? n : 0] = '\0';
	slash = strrchr(dir, '/');
	if (slash != NULL)
		*slash = '\0';
	return dir;
}

/* dst = dir/name, if that is there. */
static bool
is_there(const char *dir, const char *name, char dst[static 4096])
{
	static char path[4096];

	return dir[0] == '/' && snprintf(path, sizeof(path), "%s/%s", dir, name) <
	    (int)sizeof(path) && realpath(path, dst) != NULL;
}

bool
sp_cli_find(const char *name, char dst[static 4096])
{
	const char *env = getenv("SALLYPORT_LIBEXEC");
	const char *self = self_dir();
	char sbin[32], libexec[48];

	if (env != NULL && is_there(env, name, dst))
		return true;
	snprintf(sbin, sizeof(sbin), "../sbin/%.20s", name);
	snprintf(libexec, sizeof(libexec), "../libexec/sallyport/%.20s", name);
	/* sallyportd and sallyport-verify do not stand with the roles; a tree
	 * that was installed and then moved is found by where it stands now. */
	if ((env == NULL || strcmp(name, "sallyportd") == 0 ||
	    strcmp(name, "sallyport-verify") == 0) &&
	    (is_there(self, name, dst) || is_there(self, sbin, dst) ||
	    is_there(self, libexec, dst) || is_there(SP_LIBEXECDIR, name, dst)))
		return true;
	(void)sp_cli_fail(0, "%s is not there: is Sallyport installed? (looked in "
	    "%s and " SP_LIBEXECDIR ")", name, env != NULL ? env : self);
	return false;
}

bool
sp_cli_find_pg(const char *name, char dst[static 4096])
{
	static const char *const dirs[] = {SP_PG_BINDIR,
	    "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin",
	    "/usr/lib/postgresql/15/bin", "/usr/bin"};
	char path[512];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (access(path, X_OK) == 0) {
			snprintf(dst, 4096, "%s", path);
			return true;
		}
	}
	(void)sp_cli_fail(0, "%s of PostgreSQL is not there: apt-get install "
	    "postgresql-15", name);
	return false;
}

bool
sp_cli_find_sql(char dst[static 4096])
{
	const char *env = getenv("SALLYPORT_SQLDIR");

	if (env != NULL ? is_there(env, "0001_base.sql", dst) :
	    is_there(self_dir(), "sql/0001_base.sql", dst) ||
	    is_there(self_dir(), "../share/sallyport/sql/0001_base.sql", dst) ||
	    is_there(SP_DATADIR, "sql/0001_base.sql", dst)) {
		char *base = strstr(dst, "/0001_base.sql");

		if (base != NULL)
			*base = '\0';
		return true;
	}
	(void)sp_cli_fail(0, "the migrations are not in %s: set SALLYPORT_SQLDIR "
	    "to the folder sql of the sources", env != NULL ? env :
	    SP_DATADIR "/sql");
	return false;
}

bool
sp_cli_find_pam(char dst[static 4096])
{
	const char *env = getenv("SALLYPORT_PAMDIR");

	if (env != NULL ? is_there(env, "pam_sallyport.so", dst) :
	    is_there(self_dir(), ".libs/pam_sallyport.so", dst) ||
	    is_there(self_dir(), "../lib/security/pam_sallyport.so", dst) ||
	    is_there(SP_PAMDIR, "pam_sallyport.so", dst))
		return true;
	(void)sp_cli_fail(0, "pam_sallyport.so is not in %s: set SALLYPORT_PAMDIR "
	    "to the folder that has it", env != NULL ? env : SP_PAMDIR);
	return false;
}
