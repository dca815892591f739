/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the recorder costs by itself: a real one between two legs of ours, on
 * files in the current directory. One measurement a run, BENCH says which:
 *   keys N RATE SECONDS DURABILITY   N sessions that are typed in at once
 *   plain N RATE SECONDS             the same legs without a recorder between
 *   bulk DURABILITY text|noise MIB   from the target
 * It is written as one line of JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/text.h"
#include "tests/perf/typing.h"
#include "tests/unit/rec_rig.h"

static const char *const names[] = {"", "process", "input", "full"};

static int
here(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	cr_assert(fd >= 0, "errno %d", errno);
	return fd;
}

#define PIECE 65536

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
bulk(uint8_t durability, bool is_noise, uint64_t bytes, uint64_t *file_bytes,
    double *cpu)
{
	static uint8_t block[1 << 20], room[1 << 20];
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
	while (came < bytes) {
		struct pollfd pf[3] = {{.fd = g.user.fd, .events = POLLIN},
		    {.fd = g.target.fd, .events = POLLOUT},
		    {.fd = g.brk.fd, .events = POLLIN}};
		struct sp_packet p;

		while (sent < bytes && sp_stream_pending(&g.target) <
		    262144) {
			cr_assert_eq(sp_stream_put(&g.target, SP_FRAME_DATA, 1, 1,
			    sp_span_of(block + sent % sizeof(block), PIECE)),
			    SP_OK);
			sent += PIECE;
		}
		if (sp_stream_pending(&g.target) == 0)
			pf[1].fd = -1;
		cr_assert(poll(pf, 3, 60000) > 0, "stuck");
		(void)!sp_stream_flush(&g.target);
		came += drain(&g, room, sizeof(room));
		while (sp_link_recv(&g.brk, &p) == SP_OK)
			sp_packet_close_fds(&p);
	}
	t0 = sp_boot_us() - t0;
	*cpu = cpu_s(g.child) / ((double)bytes / (1 << 30));
	*file_bytes = (uint64_t)lseek(g.file, 0, SEEK_END);
	sp_link_fini(&g.brk);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
	return (double)bytes / 1e6 / ((double)t0 / 1e6);
}

/* ------------------------------------------------------------- typing */

static struct leg {
	struct sp_stream user, target;
	struct sp_link brk;
	int file;
} legs[TYPING_MAX];
static unsigned n_legs;

/* The target's side of all of them: each byte comes back. */
static void
echo_back(void)
{
	static struct pollfd pf[TYPING_MAX];

	for (unsigned i = 0; i < n_legs; i++)
		pf[i] = (struct pollfd){.fd = legs[i].target.fd, .events = POLLIN};
	while (poll(pf, n_legs, -1) > 0 || errno == EINTR)
		for (unsigned i = 0; i < n_legs; i++) {
			struct sp_stream *s = &legs[i].target;
			struct sp_frame f;

			if (pf[i].revents == 0)
				continue;
			if (sp_stream_fill(s) != SP_OK)
				_exit(0);
			while (sp_stream_next(s, &f) == SP_OK)
				if (f.type == SP_FRAME_DATA && sp_stream_put(s,
				    SP_FRAME_DATA, 1, f.chan, f.payload) != SP_OK)
					_exit(1);
			(void)!sp_stream_flush(s);
		}
	_exit(1);
}

/* The broker's side: what it is told is read and forgotten. */
static void *
hear(void *ctx)
{
	static struct pollfd pf[TYPING_MAX];

	(void)ctx;
	for (unsigned i = 0; i < n_legs; i++)
		pf[i] = (struct pollfd){.fd = legs[i].brk.fd, .events = POLLIN};
	while (poll(pf, n_legs, -1) > 0 || errno == EINTR)
		for (unsigned i = 0; i < n_legs; i++) {
			struct sp_packet p;
			enum sp_err e = SP_ERR_AGAIN;

			if (pf[i].revents == 0)
				continue;
			while ((e = sp_link_recv(&legs[i].brk, &p)) == SP_OK)
				sp_packet_close_fds(&p);
			if (e != SP_ERR_AGAIN)
				pf[i].fd = -1;
		}
	return NULL;
}

static bool
key_send(void *ctx, unsigned i)
{
	(void)ctx;
	return sp_stream_put(&legs[i].user, SP_FRAME_DATA, 0, 1,
	    sp_span_str("k")) == SP_OK && sp_stream_flush(&legs[i].user) == SP_OK;
}

static int
key_take(void *ctx, unsigned i)
{
	struct sp_frame f;
	int n = 0;

	(void)ctx;
	if (sp_stream_fill(&legs[i].user) != SP_OK)
		return -1;
	while (sp_stream_next(&legs[i].user, &f) == SP_OK)
		if (f.type == SP_FRAME_DATA)
			n += (int)f.payload.n;
		else if (f.type == SP_FRAME_END)
			return -1;
	return n;
}

static void
wait_frame(struct sp_stream *s)
{
	struct sp_frame f;
	enum sp_err e;

	while ((e = sp_stream_next(s, &f)) == SP_ERR_AGAIN) {
		struct pollfd pf = {.fd = s->fd, .events = POLLIN};

		cr_assert(poll(&pf, 1, 60000) == 1);
		cr_assert_eq(sp_stream_fill(s), SP_OK);
	}
	cr_assert_eq(e, SP_OK);
}

static void
begin_recorded(struct rig *g, unsigned i, uint8_t durability)
{
	struct rig_opt o = {.rights = SP_RIGHT_SHELL, .durability = durability,
	    .file = here()};

	rig_session(g, &o);
	rig_open(g, 1, SP_OPEN_SHELL, "");
	wait_frame(&g->user);		/* OPEN_OK */
	legs[i] = (struct leg){.user = g->user, .target = g->target,
	    .brk = g->brk, .file = o.file};
}

static void
begin_plain(unsigned i)
{
	int p[2];

	cr_assert_eq(sp_stream_pair(p), SP_OK);
	cr_assert_eq(sp_stream_init(&legs[i].user, p[0], false), SP_OK);
	cr_assert_eq(sp_stream_init(&legs[i].target, p[1], true), SP_OK);
}

/* One writes, who does not read what it has to say ends a session: so all is read. */
static void
end_recorded(struct rig *g, pthread_t ear)
{
	struct sp_packet p;

	for (unsigned i = 0; i < n_legs; i++)
		cr_assert_eq(shutdown(legs[i].brk.fd, SHUT_RDWR), 0);
	for (unsigned i = 0; i < n_legs; i++) {
		cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
		cr_assert_eq(p.type, SP_MSG_exited);
	}
	cr_assert_eq(pthread_cancel(ear), 0);
	cr_assert_eq(pthread_join(ear, NULL), 0);
	for (unsigned i = 0; i < n_legs; i++) {
		sp_link_fini(&legs[i].brk);
		close(legs[i].file);
	}
	g->file = g->user.fd = g->target.fd = g->brk.fd = -1;
	g->user = g->target = (struct sp_stream){.fd = -1};
	g->brk = (struct sp_link){.fd = -1};
	rig_stop(g);
}

static void
typed(unsigned n, double rate, double seconds, uint8_t durability)
{
	struct typing t = {.n = n, .rate = rate, .seconds = seconds,
	    .send = key_send, .take = key_take};
	struct rig_opt o = {0};
	pthread_t ear;
	struct rig g;
	pid_t echo;

	cr_assert(n > 0 && n <= TYPING_MAX);
	n_legs = n;
	if (durability != 0)
		rig_start(&g, &o);
	for (unsigned i = 0; i < n; i++) {
		if (durability != 0)
			begin_recorded(&g, i, durability);
		else
			begin_plain(i);
		t.fd[i] = legs[i].user.fd;
	}
	cr_assert((echo = fork()) >= 0);
	if (echo == 0)
		echo_back();
	if (durability != 0)
		cr_assert_eq(pthread_create(&ear, NULL, hear, NULL), 0);
	cr_assert(typing_run(&t), "a session broke");
	fflush(stdout);
	kill(echo, SIGKILL);
	cr_assert_eq(waitpid(echo, NULL, 0), echo);
	for (unsigned i = 0; i < n; i++) {
		sp_stream_fini(&legs[i].user);
		sp_stream_fini(&legs[i].target);
	}
	if (durability != 0)
		end_recorded(&g, ear);
}

static uint8_t
durability_of(const char *name)
{
	for (uint8_t d = SP_DURABLE_PROCESS; d <= SP_DURABLE_FULL; d++)
		if (strcmp(names[d], name) == 0)
			return d;
	return 0;
}

static void
bulk_of(uint8_t durability, const char *kind, unsigned mib)
{
	uint64_t bytes = (uint64_t)mib << 20, n = 0;
	double cpu = 0, mbs;

	mbs = bulk(durability, strcmp(kind, "noise") == 0, bytes, &n, &cpu);
	printf("{\"mb_s\": %.1f, \"cpu_s_per_gib\": %.3f, \"file_ratio\": "
	    "%.4f}\n", mbs, cpu, (double)n / (double)bytes);
}

Test(bench, recorder, .timeout = 3600)
{
	const char *what = getenv("BENCH");
	char a[16], b[16], c[16];
	double rate, seconds;
	unsigned n, mib;

	cr_assert_not_null(what, "BENCH is not set; tests/perf/bench_rec.py does it");
	if (sscanf(what, "keys %u %lf %lf %15s", &n, &rate, &seconds, a) == 4)
		typed(n, rate, seconds, durability_of(a));
	else if (sscanf(what, "plain %u %lf %lf", &n, &rate, &seconds) == 3)
		typed(n, rate, seconds, 0);
	else if (sscanf(what, "%15s %15s %15s %u", c, a, b, &mib) == 4)
		bulk_of(durability_of(a), b, mib);
	else
		cr_assert_fail("BENCH");
	fflush(stdout);
}
