/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "notary/store_int.h"

#define TEMPORARY "new"	/* one process writes here, one file at a time */

static enum sp_err
why(void)
{
	return errno == ENOSPC || errno == EDQUOT ? SP_ERR_FULL : SP_ERR_IO;
}

static enum sp_err
sync_dir(int dir, const char *path)
{
	char part[SP_TLOG_PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd, r;

	if (slash == NULL)
		return fsync(dir) == 0 ? SP_OK : SP_ERR_IO;
	snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
	fd = openat(dir, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return SP_ERR_IO;
	r = fsync(fd);
	close(fd);
	return r == 0 ? SP_OK : SP_ERR_IO;
}

/* The directories above a file. What is new is known to its own directory
 * before a file in it counts. */
enum sp_err
sp_nfile_mkdirs(int dir, const char *path)
{
	char part[SP_TLOG_PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *s = strchr(part, '/'); s != NULL; s = strchr(s + 1, '/')) {
		*s = '\0';
		if (mkdirat(dir, part, 0700) == 0)
			SP_TRY(sync_dir(dir, part));
		else if (errno != EEXIST)
			return why();
		*s = '/';
	}
	return SP_OK;
}

enum sp_err
sp_nfile_append(int fd, uint64_t off, struct sp_span b)
{
	while (b.n > 0) {
		ssize_t k = pwrite(fd, b.p, b.n, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return why();
		b.p += k;
		b.n -= (size_t)k;
		off += (uint64_t)k;
	}
	return SP_OK;
}

enum sp_err
sp_nfile_read(int fd, uint64_t off, uint8_t *out, size_t n)
{
	while (n > 0) {
		ssize_t k = pread(fd, out, n, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return SP_ERR_IO;
		out += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return SP_OK;
}

enum sp_err
sp_nfile_write(int dir, const char *path, struct sp_span b, bool synced)
{
	enum sp_err e;
	int fd;

	SP_TRY(sp_nfile_mkdirs(dir, path));
	fd = openat(dir, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
	    O_NOFOLLOW, 0600);
	if (fd < 0)
		return why();
	e = sp_nfile_append(fd, 0, b);
	if (e == SP_OK && synced && fsync(fd) != 0)
		e = why();
	close(fd);
	if (e == SP_OK && renameat(dir, TEMPORARY, dir, path) != 0)
		e = why();
	return e == SP_OK && synced ? sync_dir(dir, path) : e;
}

void
sp_nfile_drop_partials(int dir, int level, uint64_t n)
{
	char path[SP_TLOG_PATH_MAX], *slash;

	for (unsigned w = 1; w < SP_TLOG_TILE; w++) {
		sp_tlog_path(path, level, n, w);
		if (unlinkat(dir, path, 0) != 0 && errno != ENOENT)
			return;
	}
	slash = strrchr(path, '/');
	*slash = '\0';
	if (unlinkat(dir, path, AT_REMOVEDIR) != 0)
		return;		/* there was none */
}
