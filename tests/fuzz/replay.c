/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main of a fuzz target in `make check`: feeds every file of the
 * directories in argv to LLVMFuzzerTestOneInput, and beside each file its
 * near relatives: cut at every byte, and with single bytes changed. Without
 * argv the directory is $top_srcdir/tests/fuzz/corpus/NAME, where the program
 * is called fuzz_NAME. A directory without files is a failure: it would be a
 * test that tests nothing. With --enable-fuzz libFuzzer brings the main.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1U << 20)
#define CUTS_MAX 4096U	/* bytes of a file up to which every cut is tried */
#define FLIPS_MAX 1024U	/* and every byte changed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned long runs;

/* A copy in a block of its own size, so that sanitizers see each byte beyond. */
static void
feed(const uint8_t *p, size_t n)
{
	uint8_t *own = malloc(n == 0 ? 1 : n);

	if (own == NULL)
		abort();
	if (n > 0)
		memcpy(own, p, n);
	(void)LLVMFuzzerTestOneInput(own, n);
	free(own);
	runs++;
}

static void
relatives(uint8_t *p, size_t n)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff};

	if (n <= CUTS_MAX)
		for (size_t i = 0; i < n; i++)
			feed(p, i);
	if (n > FLIPS_MAX)
		return;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < sizeof(masks); k++) {
			p[i] ^= masks[k];
			feed(p, n);
			p[i] ^= masks[k];
		}
	}
}

static bool
replay_file(int dir, const char *name)
{
	static uint8_t bytes[FILE_MAX];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t k = 0;

	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return false;
	}
	while (n < sizeof(bytes) &&
	    (k = read(fd, bytes + n, sizeof(bytes) - n)) > 0)
		n += (size_t)k;
	close(fd);
	if (k < 0) {
		fprintf(stderr, "%s: cannot be read\n", name);
		return false;
	}
	feed(bytes, n);
	relatives(bytes, n);
	return true;
}

static bool
replay_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned files = 0;
	bool ok = true;

	if (d == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return false;
	}
	while ((e = readdir(d)) != NULL) {
		struct stat st;

		if (e->d_name[0] == '.' ||
		    fstatat(dirfd(d), e->d_name, &st, 0) != 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		files++;
		ok = replay_file(dirfd(d), e->d_name) && ok;
	}
	closedir(d);
	printf("%s: %u files, %lu runs\n", path, files, runs);
	if (files == 0)
		fprintf(stderr, "%s: no files: nothing was tested\n", path);
	return ok && files > 0;
}

static bool
replay_default(const char *program)
{
	const char *top = getenv("top_srcdir"), *base = strrchr(program, '/');
	char path[4096];

	base = base == NULL ? program : base + 1;
	base = strncmp(base, "lt-", 3) == 0 ? base + 3 : base;
	if (strncmp(base, "fuzz_", 5) != 0) {
		fprintf(stderr, "usage: %s directory ...\n", program);
		return false;
	}
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s",
	    top == NULL ? "." : top, base + 5);
	return replay_dir(path);
}

int
main(int argc, char **argv)
{
	bool ok = true;

	if (LLVMFuzzerInitialize != NULL)
		(void)LLVMFuzzerInitialize(&argc, &argv);
	if (argc < 2)
		return replay_default(argv[0]) ? 0 : 1;
	for (int i = 1; i < argc; i++)
		ok = replay_dir(argv[i]) && ok;
	return ok ? 0 : 1;
}
