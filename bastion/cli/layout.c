/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

const struct sp_layout_row sp_layout[] = {
	{".", true, 0755, -1, false},
	{"sallyport.conf", false, 0600, -1, false},
	{"policy", false, 0600, -1, false},
	{"pam.d", true, 0755, -1, false},
	{"pam.d/sallyport", false, 0644, -1, false},
	{"pam.d/other", false, 0644, -1, false},
	{"keys", true, 0700, -1, false},
	{"keys/ssh_host_ed25519_key.pub", false, 0644, -1, false},
	{"vault", true, 0700, SP_U_VAULT, false},
	{"tlog", true, 0700, SP_U_NOTARY, false},
	{"recordings", true, 0700, -1, false},
	{"broker", true, 0700, -1, false},
	{"run", true, 0755, -1, false},
	{"log", true, 0711, -1, false},
	{"run/db", true, 0755, SP_U_DB, true},
	{"pg", true, 0700, SP_U_DB, true},
	{"log/postgresql.log", false, 0600, SP_U_DB, true},
};
const size_t sp_layout_n = sizeof(sp_layout) / sizeof(sp_layout[0]);

/* ------------------------------------------------------------------- users */

static const char *const user_names[SP_U_COUNT] = {
	[SP_U_INGRESS] = "sallyport-ingress", [SP_U_EGRESS] = "sallyport-egress",
	[SP_U_SQL] = "sallyport-egress-sql",
	[SP_U_AUTH] = "sallyport-auth", [SP_U_BROKER] = "sallyport-broker",
	[SP_U_VAULT] = "sallyport-vault", [SP_U_RECORDER] = "sallyport-recorder",
	[SP_U_PLAYER] = "sallyport-player", [SP_U_DB] = "sallyport-db",
	[SP_U_TOKEN] = "sallyport-token", [SP_U_SCRIBE] = "sallyport-scribe",
	[SP_U_NOTARY] = "sallyport-notary", [SP_U_WITNESS] = "sallyport-witness",
	[SP_U_SHIP] = "sallyport-ship",
};

const char *
sp_cli_user_name(enum sp_cli_user u)
{
	return user_names[u];
}

enum sp_err
sp_cli_user(enum sp_cli_user u, struct sp_who *w)
{
	const struct passwd *pw;

	*w = (struct sp_who){.uid = geteuid(), .gid = getegid()};
	pw = geteuid() == 0 ? getpwnam(user_names[u]) : getpwuid(geteuid());
	if (geteuid() == 0) {
		if (pw == NULL || pw->pw_uid == 0 || pw->pw_gid == 0)
			return SP_ERR_NOTFOUND;
		w->uid = pw->pw_uid;
		w->gid = pw->pw_gid;
	}
	snprintf(w->name, sizeof(w->name), "%s", pw == NULL ? "" : pw->pw_name);
	return w->name[0] == '\0' ? SP_ERR_NOTFOUND : SP_OK;
}

enum sp_err
sp_cli_make_users(void)
{
	struct sp_who w;

	if (geteuid() != 0)
		return SP_OK;
	for (int u = 0; u < SP_U_COUNT; u++) {
		const char *const argv[] = {"/usr/sbin/useradd", "--system",
		    "--user-group", "--no-create-home", "--home-dir",
		    "/nonexistent", "--shell", "/usr/sbin/nologin",
		    user_names[u], NULL};

		if (sp_cli_user((enum sp_cli_user)u, &w) == SP_OK)
			continue;
		if (sp_cli_run(&(struct sp_run){.argv = argv}) != 0 ||
		    sp_cli_user((enum sp_cli_user)u, &w) != SP_OK) {
			(void)sp_cli_fail(0, "the system user %s could not be made "
			    "(useradd is in the package passwd)", user_names[u]);
			return SP_ERR_IO;
		}
		sp_cli_step("  made the system user %s", user_names[u]);
	}
	return SP_OK;
}

/* Asks as that user, in a child: groups and access lists count as well. */
static bool
can_enter(const struct sp_who *w, const char *path)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && (setgroups(0, NULL) != 0 ||
		    setresgid(w->gid, w->gid, w->gid) != 0 ||
		    setresuid(w->uid, w->uid, w->uid) != 0))
			_exit(2);
		_exit(access(path, X_OK) == 0 ? 0 : 1);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool
sp_cli_can_reach(const struct sp_who *w, const char *dir, char bad[static 4096])
{
	size_t n = strlen(dir);

	for (size_t i = 1; i <= n; i++) {
		struct stat st;

		if (dir[i] != '/' && dir[i] != '\0')
			continue;
		snprintf(bad, 4096, "%.*s", (int)i, dir);
		if (stat(bad, &st) != 0)
			return true;	/* will be made, as it should be */
		if (!can_enter(w, bad))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------- directories */

static enum sp_err
make_one(const struct sp_cli *c, const struct sp_layout_row *r)
{
	struct sp_who w = {.uid = geteuid(), .gid = getegid()};
	char path[4096];
	int fd;

	if (r->user >= 0)
		SP_TRY(sp_cli_user((enum sp_cli_user)r->user, &w));
	sp_cli_path(c, path, r->path);
	if (r->is_dir) {
		if (mkdir(path, r->mode) != 0 && errno != EEXIST)
			return SP_ERR_IO;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
		    O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return SP_ERR_IO;
	if (fchmod(fd, r->mode) != 0 ||
	    (geteuid() == 0 && fchown(fd, w.uid, w.gid) != 0)) {
		close(fd);
		return SP_ERR_IO;
	}
	close(fd);
	return SP_OK;
}

enum sp_err
sp_cli_make_dirs(const struct sp_cli *c, bool embedded)
{
	for (size_t i = 0; i < sp_layout_n; i++) {
		const struct sp_layout_row *r = &sp_layout[i];

		/* Files come later, with what is in them; a log begins empty. */
		if ((!r->is_dir && strncmp(r->path, "log/", 4) != 0) ||
		    (r->embedded_only && !embedded))
			continue;
		if (make_one(c, r) != SP_OK) {
			(void)sp_cli_fail(0, "cannot make %s/%s: %s", c->dir,
			    r->path, strerror(errno));
			return SP_ERR_IO;
		}
	}
	return SP_OK;
}

enum sp_err
sp_cli_write(const struct sp_cli *c, const char *name, struct sp_span text)
{
	char path[4096];
	mode_t mode = 0600;
	int fd;

	for (size_t i = 0; i < sp_layout_n; i++)
		if (strcmp(sp_layout[i].path, name) == 0)
			mode = sp_layout[i].mode;
	sp_cli_path(c, path, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && fchmod(fd, mode) == 0 &&
	    write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0 &&
	    close(fd) == 0)
		return SP_OK;
	(void)sp_cli_fail(0, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return SP_ERR_IO;
}

/* Below one directory, by descriptors: a link is removed, never followed. */
static void
clear_fd(int dirfd)
{
	DIR *d = fdopendir(dirfd);
	struct dirent *e;

	if (d == NULL) {
		close(dirfd);
		return;
	}
	while ((e = readdir(d)) != NULL) {
		int fd;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    unlinkat(dirfd, e->d_name, 0) == 0)
			continue;
		fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY |
		    O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			clear_fd(fd);
		(void)!unlinkat(dirfd, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

void
sp_cli_clear(const struct sp_cli *c)
{
	int fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		clear_fd(fd);
}
