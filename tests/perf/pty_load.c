/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terminals for measurements of recorders that stand between two of them.
 *   pty_load keys N RATE SECONDS CMD...  N of CMD at once, typed at ({} is the number); JSON of the latencies
 *   pty_load run BYTES CMD...            CMD until BYTES and its end came; JSON of the seconds
 * and what CMD runs inside:
 *   pty_load echo                        answers each byte with itself
 *   pty_load pour FILE                   the file as fast as it goes
 *   pty_load feed FILE                   the pieces of an .events file (tests/term/corpus.py), 2 ms apart
 */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/perf/typing.h"

static const char ready[] = "READY\n";

struct terminals {
	pid_t pid[TYPING_MAX];
	int fd[TYPING_MAX];
};
static struct terminals term;

static void
die(const char *what)
{
	perror(what);
	for (unsigned i = 0; i < TYPING_MAX; i++)
		if (term.pid[i] > 0)
			kill(term.pid[i], SIGKILL);
	exit(1);
}

/* ------------------------------------------------------------ inside */

static void
raw_tty(void)
{
	struct termios t;

	if (tcgetattr(0, &t) != 0)
		return;
	cfmakeraw(&t);
	if (tcsetattr(0, TCSANOW, &t) != 0)
		die("tcsetattr");
}

static void
put(const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t w = write(1, at, n);

		if (w < 0 && errno != EINTR)
			exit(0);
		if (w > 0) {
			at += w;
			n -= (size_t)w;
		}
	}
}

static int
echo(void)
{
	char b[4096];
	ssize_t n;

	raw_tty();
	put(ready, sizeof(ready) - 1);
	while ((n = read(0, b, sizeof(b))) > 0)
		put(b, (size_t)n);
	return 0;
}

static char *
slurp(const char *path, size_t *n)
{
	struct stat st;
	char *p;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;

	if (fd < 0 || fstat(fd, &st) != 0 || (p = malloc((size_t)st.st_size + 1)) == NULL)
		die(path);
	while (got < (size_t)st.st_size) {
		ssize_t r = read(fd, p + got, (size_t)st.st_size - got);

		if (r <= 0)
			die(path);
		got += (size_t)r;
	}
	close(fd);
	*n = got;
	return p;
}

/* Not before it is told to: what starts up first is not measured. */
static void
await(char what)
{
	char c = 0;

	while (c != what)
		if (read(0, &c, 1) != 1)
			exit(1);
}

static void
await_go(void)
{
	raw_tty();
	put(ready, sizeof(ready) - 1);
	await('g');
}

static int
pour(const char *path)
{
	size_t n = 0;
	char *p = slurp(path, &n);

	await_go();
	put(p, n);
	await('q');
	free(p);
	return 0;
}

static int
feed(const char *path)
{
	size_t n = 0, o = 0;
	char *p = slurp(path, &n);

	await_go();
	while (o < n) {
		uint32_t len = 0;

		if (p[o] == 'f' && n - o >= 5) {
			memcpy(&len, p + o + 1, 4);
			if (len > n - o - 5)
				break;
			put(p + o + 5, len);
			usleep(2000);
			o += 5 + len;
		} else {
			o += p[o] == 'r' ? 5 : 1;
		}
	}
	await('q');
	free(p);
	return 0;
}

/* ----------------------------------------------------------- outside */

/* The argument, with {} replaced by the number. */
static char *
numbered(const char *arg, unsigned i)
{
	const char *at = strstr(arg, "{}");
	char *out = NULL;

	if (at == NULL)
		return strdup(arg);
	if (asprintf(&out, "%.*s%u%s", (int)(at - arg), arg, i, at + 2) < 0)
		die("asprintf");
	return out;
}

static void
begin(unsigned i, char **argv)
{
	struct winsize w = {.ws_row = 24, .ws_col = 80};
	char *a[64];
	int k = 0;

	for (; argv[k] != NULL && k < 63; k++)
		a[k] = numbered(argv[k], i);
	a[k] = NULL;
	term.pid[i] = forkpty(&term.fd[i], NULL, NULL, &w);
	if (term.pid[i] < 0)
		die("forkpty");
	if (term.pid[i] == 0) {
		for (unsigned o = 0; o < i; o++)
			close(term.fd[o]);
		execvp(a[0], a);
		_exit(127);
	}
	while (k-- > 0)
		free(a[k]);
}

/* Reads to the end of "READY\n". */
static void
await_ready(unsigned i)
{
	size_t seen = 0;
	char c;

	for (int left = 1 << 16; seen < sizeof(ready) - 1; left--) {
		struct pollfd p = {.fd = term.fd[i], .events = POLLIN};

		if (left == 0 || poll(&p, 1, 120000) != 1 || read(term.fd[i], &c, 1) != 1)
			die("it does not begin");
		seen = c == ready[seen] ? seen + 1 : c == ready[0] ? 1 : 0;
	}
}

static bool
key_send(void *ctx, unsigned i)
{
	(void)ctx;
	return write(term.fd[i], "k", 1) == 1;
}

static int
key_take(void *ctx, unsigned i)
{
	char b[256];
	ssize_t n = read(term.fd[i], b, sizeof(b));

	(void)ctx;
	return (int)n;
}

static void
finish(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(term.fd[i]);
	for (unsigned i = 0; i < n; i++)
		for (int k = 0;; k++) {
			pid_t r = waitpid(term.pid[i], NULL, WNOHANG);

			if (r != 0)
				break;
			if (k == 100)
				kill(term.pid[i], SIGTERM);
			if (k == 1000)
				kill(term.pid[i], SIGKILL);
			usleep(10000);
		}
}

static int
keys(char **argv)
{
	static struct typing t = {.send = key_send, .take = key_take};
	bool ok;

	t.n = (unsigned)strtoul(argv[0], NULL, 10);
	t.rate = strtod(argv[1], NULL);
	t.seconds = strtod(argv[2], NULL);
	if (t.n == 0 || t.n > TYPING_MAX || t.rate <= 0)
		return 2;
	for (unsigned i = 0; i < t.n; i++)
		begin(i, argv + 3);
	for (unsigned i = 0; i < t.n; i++) {
		await_ready(i);
		t.fd[i] = term.fd[i];
	}
	ok = typing_run(&t);
	finish(t.n);
	return ok ? 0 : 1;
}

static ssize_t
next_piece(char *b, size_t n)
{
	struct pollfd p = {.fd = term.fd[0], .events = POLLIN};

	return poll(&p, 1, 60000) == 1 ? read(term.fd[0], b, n) : -1;
}

/* Some lose what was not read when their program left: it leaves when all has come. */
static int
run(char **argv)
{
	uint64_t want = strtoull(argv[0], NULL, 10), got = 0;
	static char b[1 << 20];
	int64_t t0, data = 0;
	ssize_t n;

	begin(0, argv + 1);
	await_ready(0);
	t0 = typing_ns();
	if (write(term.fd[0], "g", 1) != 1)
		die("write");
	while ((n = next_piece(b, sizeof(b))) > 0) {
		got += (uint64_t)n;
		if (data != 0 || got < want)
			continue;
		data = typing_ns() - t0;
		if (write(term.fd[0], "q", 1) != 1)
			die("write");
	}
	printf("{\"bytes\": %llu, \"data_s\": %.4f, \"all_s\": %.4f}\n",
	    (unsigned long long)got, (double)data / 1e9,
	    (double)(typing_ns() - t0) / 1e9);
	finish(1);
	return got >= want ? 0 : 1;
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "echo") == 0)
		return echo();
	if (argc == 3 && strcmp(argv[1], "pour") == 0)
		return pour(argv[2]);
	if (argc == 3 && strcmp(argv[1], "feed") == 0)
		return feed(argv[2]);
	if (argc > 5 && strcmp(argv[1], "keys") == 0)
		return keys(argv + 2);
	if (argc > 3 && strcmp(argv[1], "run") == 0)
		return run(argv + 2);
	fputs("pty_load keys N RATE SECONDS CMD... | run BYTES CMD... | echo | pour FILE | feed FILE\n", stderr);
	return 2;
}
