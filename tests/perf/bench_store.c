/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the transparency log take: leaves a second, put and made safe
 * in groups, and bytes on the disk for each. bench_store DIR LEAVES; JSON. */
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/text.h"
#include "notary/store.h"
#include "tests/support/tmp.h"

#define ENTRY 152	/* an OPEN; an audit event has about 80 */

static void
must(enum sp_err e)
{
	if (e == SP_OK)
		return;
	fprintf(stderr, "%s\n", sp_err_text(e));
	exit(1);
}

static double
cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
one(const char *where, unsigned leaves, unsigned group)
{
	char dir[256], why[256];
	uint8_t entry[ENTRY];
	struct sp_nstore *s = NULL;
	double cpu = cpu_s();
	int64_t t0;
	uint64_t at;
	int fd;

	snprintf(dir, sizeof(dir), "%s/store-%u", where, group);
	if (mkdir(dir, 0700) != 0 ||
	    (fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		exit(1);
	must(sp_nstore_open(fd, &s, why, sizeof(why)));
	t0 = sp_boot_us();
	for (unsigned i = 0; i < leaves; i++) {
		randombytes_buf(entry, sizeof(entry));
		must(sp_nstore_put(s, sp_span_of(entry, sizeof(entry)), &at));
		if ((i + 1) % group == 0 || i + 1 == leaves)
			must(sp_nstore_commit(s));
	}
	t0 = sp_boot_us() - t0;
	printf("{\"group\": %u, \"leaves_s\": %.0f, \"cpu_us\": %.2f}\n", group,
	    leaves / ((double)t0 / 1e6), (cpu_s() - cpu) * 1e6 / leaves);
	sp_nstore_close(s);
	tmp_remove(dir);
}

int
main(int argc, char **argv)
{
	uint64_t leaves = 0;

	if (argc != 3 || sodium_init() < 0 || sp_u64_parse(sp_span_str(argv[2]),
	    100000000, &leaves) != SP_OK)
		return 2;
	one(argv[1], (unsigned)(leaves / 100), 1);
	one(argv[1], (unsigned)leaves, 16);
	one(argv[1], (unsigned)leaves, 256);
	return 0;
}
