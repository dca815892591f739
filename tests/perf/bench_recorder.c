/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the recorder costs by itself: a real one between two legs of ours, on
 * a file in the current directory. Bulk from the target, of text and of noise;
 * one key at a time from the user, echoed; memory of the child.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/text.h"
#include "tests/unit/rec_rig.h"

#define BULK_BYTES (UINT64_C(512) << 20)
#define KEYS 2000

static const char *const names[] = {"", "process", "input", "full"};

static int
here(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	cr_assert(fd >= 0, "errno %d", errno);
	return fd;
}

static void
make_text(uint8_t *p, size_t n)
{
	size_t o = 0;

	for (unsigned i = 0; o < n; i++) {
		char line[96];
		int k = snprintf(line, sizeof(line), "-rw-r--r-- 1 root root "
		    "%8u Nov %2u %02u:%02u file-%u.conf\r\n", i * 7919u % 99991u,
		    i % 30 + 1, i % 24, i * 7 % 60, i * 31u % 10007u);

		for (int c = 0; c < k && o < n; c++)
			p[o++] = (uint8_t)line[c];
	}
}

/* Drains without looking: the test's own cost stays small. */
static uint64_t
drain(struct rig *g, uint8_t *room, size_t n)
{
	ssize_t got = recv(g->user.fd, room, n, MSG_DONTWAIT);

	return got > 0 ? (uint64_t)got : 0;
}

/* Processor time that the child has used, which other load on the machine
 * changes less than the time on the wall. */
static double
cpu_s(pid_t pid)
{
	char path[64], text[1024];
	unsigned long user = 0, sys = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	if (sscanf(text, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
	    "%lu %lu", &user, &sys) != 2)
		return 0;
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double
bulk(uint8_t durability, bool is_noise, uint64_t *file_bytes, double *cpu)
{
	static uint8_t block[65536], room[1 << 20];
	struct rig_opt o = {.rights = SP_RIGHT_SHELL, .durability = durability,
	    .file = here()};
	uint64_t sent = 0, came = 0;
	struct rig g;
	int64_t t0;

	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	rig_pump(&g, NULL, 20);
	if (is_noise)
		randombytes_buf(block, sizeof(block));
	else
		make_text(block, sizeof(block));
	rig_send_user(&g, SP_FRAME_CREDIT, 1, sp_span_of("\0\0\0\x70", 4));
	t0 = sp_boot_us();
	while (came < BULK_BYTES) {
		struct pollfd pf[2] = {{.fd = g.user.fd, .events = POLLIN},
		    {.fd = g.target.fd, .events = POLLOUT}};

		while (sent < BULK_BYTES && sp_stream_pending(&g.target) <
		    262144) {
			cr_assert_eq(sp_stream_put(&g.target, SP_FRAME_DATA, 1, 1,
			    sp_span_of(block, sizeof(block))), SP_OK);
			sent += sizeof(block);
		}
		if (sp_stream_pending(&g.target) == 0)
			pf[1].fd = -1;
		cr_assert(poll(pf, 2, 5000) > 0, "stuck");
		(void)!sp_stream_flush(&g.target);
		came += drain(&g, room, sizeof(room));
	}
	t0 = sp_boot_us() - t0;
	*cpu = cpu_s(g.child) / ((double)BULK_BYTES / (1 << 30));
	*file_bytes = (uint64_t)lseek(g.file, 0, SEEK_END);
	sp_link_fini(&g.brk);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
	return (double)BULK_BYTES / 1e6 / ((double)t0 / 1e6);
}

static int
by_value(const void *a, const void *b)
{
	int64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void
wait_frame(struct sp_stream *s, struct sp_frame *f)
{
	enum sp_err e;

	while ((e = sp_stream_next(s, f)) == SP_ERR_AGAIN) {
		struct pollfd pf = {.fd = s->fd, .events = POLLIN};

		cr_assert(poll(&pf, 1, 5000) == 1);
		cr_assert_eq(sp_stream_fill(s), SP_OK);
	}
	cr_assert_eq(e, SP_OK);
}

static void
memory(pid_t pid)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "Private_Dirty:", 14) == 0 ||
		    strncmp(line, "Pss:", 4) == 0)
			printf("  child %s", line);
	fclose(f);
}

static void
echo(uint8_t durability)
{
	struct rig_opt o = {.rights = SP_RIGHT_SHELL, .durability = durability,
	    .file = here()};
	static int64_t took[KEYS];
	struct sp_frame f;
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	wait_frame(&g.user, &f);
	for (int i = 0; i < KEYS; i++) {
		took[i] = sp_boot_us();
		rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("k"));
		wait_frame(&g.target, &f);
		rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("k"));
		wait_frame(&g.user, &f);
		took[i] = sp_boot_us() - took[i];
	}
	qsort(took, KEYS, sizeof(took[0]), by_value);
	printf("echo %-8s p50 %lld us, p99 %lld us, max %lld us\n",
	    names[durability], (long long)took[KEYS / 2],
	    (long long)took[KEYS * 99 / 100], (long long)took[KEYS - 1]);
	memory(g.child);
	sp_link_fini(&g.brk);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(bench, recorder, .timeout = 600)
{
	for (uint8_t d = SP_DURABLE_PROCESS; d <= SP_DURABLE_FULL; d++)
		echo(d);
	for (uint8_t d = SP_DURABLE_PROCESS; d <= SP_DURABLE_FULL; d++)
		for (int noise = 0; noise < 2; noise++) {
			uint64_t n = 0;
			double cpu = 0, mbs = bulk(d, noise != 0, &n, &cpu);

			printf("bulk %-8s %s %.0f MB/s, %.2f CPU-s/GiB, file "
			    "%.3f of the bytes\n", names[d], noise != 0 ?
			    "noise" : "text ", mbs, cpu,
			    (double)n / (double)BULK_BYTES);
		}
	fflush(stdout);
}
