/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_TMP_H
#define SP_TESTS_TMP_H

/*
 * Where tests put what they need for a moment: below TMPDIR, which `make check`
 * makes for each test and removes after it, whatever became of the test
 * (tests/support/tidy.sh).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The template of a name for mkdtemp and mkostemp; dst. */
static inline char *
tmp_name(char *dst, size_t cap, const char *name)
{
	const char *dir = getenv("TMPDIR");

	snprintf(dst, cap, "%s/%s-XXXXXX", dir == NULL || dir[0] == '\0' ? "/tmp" :
	    dir, name);
	return dst;
}

/* Takes away a directory with what is in it; links are not followed. */
static inline void
tmp_remove_at(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    unlinkat(dirfd(d), e->d_name, 0) != 0)
			tmp_remove_at(dirfd(d), e->d_name);
	if (d != NULL)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

static inline void
tmp_remove(const char *dir)
{
	tmp_remove_at(AT_FDCWD, dir);
}

#endif
