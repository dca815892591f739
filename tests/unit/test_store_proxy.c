/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_support.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNS 16

struct conn {
	int client, server;
};

static void
address(struct sockaddr_un *a, const char *dir)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "%s/.s.PGSQL.5432", dir);
}

static int
dial(const char *dir)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address(&a, dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		_exit(1);
	return fd;
}

static void
hang_up(struct conn *c)
{
	close(c->client);
	close(c->server);
	*c = (struct conn){.client = -1, .server = -1};
}

/* False at the end. */
static bool
pass(int from, int to, bool swallow, bool *ready)
{
	static char b[65536];
	ssize_t n = read(from, b, sizeof(b));

	if (n <= 0)
		return false;
	/* The last message of every whole answer is ReadyForQuery, 6 bytes. */
	*ready = n >= 6 && memcmp(b + n - 6, "Z\0\0\0\5", 5) == 0;
	for (ssize_t at = 0; !swallow && at < n;) {
		ssize_t k = write(to, b + at, (size_t)(n - at));

		if (k <= 0)
			return false;
		at += k;
	}
	return true;
}

static void
turn(struct conn *c, const struct pollfd *pf, struct proxy *p)
{
	bool ready = false, swallow = p->swallow != 0;

	if (pf[0].revents != 0 && !pass(c->client, c->server, false, &ready)) {
		hang_up(c);
		return;
	}
	if (pf[1].revents == 0)
		return;
	if (!pass(c->server, c->client, swallow, &ready)) {
		hang_up(c);
	} else if (swallow && ready) {
		p->swallow = 0;
		p->swallowed++;
		hang_up(c);
	}
}

static void
greet(int lfd, struct conn *c, const char *to, const struct proxy *p)
{
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (size_t i = 0; i < CONNS && !p->refuse; i++)
		if (c[i].client < 0) {
			c[i] = (struct conn){.client = fd, .server = dial(to)};
			return;
		}
	close(fd);
}

static _Noreturn void
proxy_main(int lfd, const char *to, struct proxy *p)
{
	struct conn c[CONNS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < CONNS; i++)
		c[i] = (struct conn){.client = -1, .server = -1};
	for (;;) {
		struct pollfd pf[2 * CONNS + 1];

		for (size_t i = 0; i < CONNS; i++) {
			if (p->refuse && c[i].client >= 0)
				hang_up(&c[i]);
			pf[2 * i] = (struct pollfd){.fd = c[i].client,
			    .events = POLLIN};
			pf[2 * i + 1] = (struct pollfd){.fd = c[i].server,
			    .events = POLLIN};
		}
		pf[2 * CONNS] = (struct pollfd){.fd = lfd, .events = POLLIN};
		if (poll(pf, 2 * CONNS + 1, 5) < 0)
			_exit(1);
		for (size_t i = 0; i < CONNS; i++)
			if (c[i].client >= 0)
				turn(&c[i], &pf[2 * i], p);
		if (pf[2 * CONNS].revents != 0)
			greet(lfd, c, to, p);
	}
}

struct proxy *
fix_proxy(struct fix *f, char dir[static 64])
{
	struct proxy *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	cr_assert(p != MAP_FAILED && fd >= 0);
	snprintf(dir, 64, "%.40s/p.XXXXXX", f->pg); /* goes with the cluster */
	cr_assert(mkdtemp(dir) != NULL);
	address(&a, dir);
	cr_assert(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	cr_assert(listen(fd, 8) == 0);
	if ((f->proxy_pid = fork()) == 0) {
		signal(SIGPIPE, SIG_IGN);
		proxy_main(fd, f->pg, p);
	}
	close(fd);
	return p;
}
