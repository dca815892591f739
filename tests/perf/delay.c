/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delay MS FROM:TO ... : a TCP proxy on loopback that holds every piece back
 * for MS milliseconds in each direction, for kernels without netem. It ends
 * TCP on both sides: what Nagle and delayed acknowledgements cost on a real
 * long line is not in what is measured through it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536
#define HELD_MAX (256U << 20)	/* of one direction: far beyond any window */
#define LISTEN_MAX 16
#define PAIRS_MAX 512

struct piece {
	struct piece *next;
	int64_t due;
	size_t n, off;		/* n 0: end of the stream */
	uint8_t b[];
};
struct flow {
	int from, to;
	struct piece *head, *tail;
	size_t held;
	bool ended;		/* nothing more to read */
	bool done;		/* its end was passed on */
};
struct pair {
	struct flow f[2];
	int fd[2];
	bool live;
};
static struct pair pairs[PAIRS_MAX];
static int64_t delay_ns;

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int
tcp(uint16_t port, bool listening)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listening ? bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
	    listen(fd, 512) != 0 :
	    connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
begin(int fd, uint16_t to)
{
	size_t i = 0;
	int one = 1, out = tcp(to, false);

	while (i < PAIRS_MAX && pairs[i].live)
		i++;
	if (out < 0 || i == PAIRS_MAX) {
		close(fd);
		if (out >= 0)
			close(out);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(out, F_SETFL, O_NONBLOCK);
	pairs[i] = (struct pair){.fd = {fd, out}, .live = true,
	    .f = {{.from = fd, .to = out}, {.from = out, .to = fd}}};
}

static void
take(struct flow *f)
{
	struct piece *p = malloc(sizeof(*p) + PIECE);
	ssize_t n;

	if (p == NULL)
		exit(1);
	n = read(f->from, p->b, PIECE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		free(p);
		return;
	}
	*p = (struct piece){.due = now_ns() + delay_ns, .n = n > 0 ? (size_t)n : 0};
	f->ended = n <= 0;
	f->held += p->n;
	if (f->head == NULL)
		f->head = p;
	else
		f->tail->next = p;
	f->tail = p;
}

/* Passes on what is due; false when the other side is gone. */
static bool
give(struct flow *f, int64_t now)
{
	struct piece *p;

	while ((p = f->head) != NULL && p->due <= now) {
		ssize_t n;

		if (p->n == 0) {
			shutdown(f->to, SHUT_WR);
			f->done = true;
		} else {
			n = send(f->to, p->b + p->off, p->n - p->off, MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN || errno == EINTR;
			f->held -= (size_t)n;
			p->off += (size_t)n;
			if (p->off < p->n)
				return true;
		}
		f->head = p->next;
		free(p);
	}
	return true;
}

static void
drop(struct pair *q)
{
	struct piece *p;

	for (size_t k = 0; k < 2; k++)
		while ((p = q->f[k].head) != NULL) {
			q->f[k].head = p->next;
			free(p);
		}
	close(q->fd[0]);
	close(q->fd[1]);
	q->live = false;
}

/* What each side of a pair waits for; the soonest piece that is not due yet. */
static void
wanted(const struct pair *q, struct pollfd *pf, int64_t now, int64_t *soonest)
{
	for (size_t k = 0; k < 2; k++)
		pf[k] = (struct pollfd){.fd = q->fd[k]};
	for (size_t k = 0; k < 2; k++) {
		const struct flow *f = &q->f[k];

		if (!f->ended && f->held < HELD_MAX)
			pf[k].events |= POLLIN;
		if (f->head == NULL)
			continue;
		if (f->head->due <= now)
			pf[1 - k].events |= POLLOUT;
		else if (f->head->due < *soonest)
			*soonest = f->head->due;
	}
	/* A side that only has hung up would wake us for ever. */
	for (size_t k = 0; k < 2; k++)
		if (pf[k].events == 0)
			pf[k].fd = -1;
}

static void
turn(const int *listeners, const uint16_t *to, size_t n)
{
	static struct pollfd pf[LISTEN_MAX + 2 * PAIRS_MAX];
	static size_t at[PAIRS_MAX];
	int64_t now = now_ns(), soonest = now + 3600000000000LL;
	struct timespec ts;
	size_t m = n;

	for (size_t i = 0; i < n; i++)
		pf[i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
	for (size_t i = 0; i < PAIRS_MAX; i++)
		if (pairs[i].live) {
			at[i] = m;
			wanted(&pairs[i], &pf[m], now, &soonest);
			m += 2;
		}
	ts = (struct timespec){.tv_sec = (soonest - now) / 1000000000,
	    .tv_nsec = (soonest - now) % 1000000000};
	if (ppoll(pf, m, &ts, NULL) < 0 && errno != EINTR)
		exit(1);
	now = now_ns();
	for (size_t i = 0; i < PAIRS_MAX; i++) {
		struct pair *q = &pairs[i];
		bool ok = true;

		if (!q->live)
			continue;
		for (size_t k = 0; k < 2; k++) {
			if ((pf[at[i] + k].revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
			    (pf[at[i] + k].events & POLLIN) != 0)
				take(&q->f[k]);
			ok = give(&q->f[k], now) && ok;
		}
		if (!ok || (q->f[0].done && q->f[1].done))
			drop(q);
	}
	for (size_t i = 0; i < n; i++)
		if (pf[i].revents != 0) {
			int fd = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				begin(fd, to[i]);
		}
}

int
main(int argc, char **argv)
{
	int listeners[LISTEN_MAX];
	uint16_t to[LISTEN_MAX];
	size_t n = 0;
	double ms = argc > 2 ? strtod(argv[1], NULL) : -1;

	if (ms < 0 || argc - 2 > LISTEN_MAX) {
		fprintf(stderr, "usage: delay MS FROM:TO ...\n");
		return 2;
	}
	delay_ns = (int64_t)(ms * 1e6);
	for (int i = 2; i < argc; i++, n++) {
		char *rest;
		unsigned long from = strtoul(argv[i], &rest, 10);

		to[n] = (uint16_t)strtoul(*rest == ':' ? rest + 1 : "0", NULL, 10);
		listeners[n] = tcp((uint16_t)from, true);
		if (listeners[n] < 0 || to[n] == 0) {
			fprintf(stderr, "delay: cannot listen for %s\n", argv[i]);
			return 1;
		}
	}
	printf("up\n");
	fflush(stdout);
	for (;;)
		turn(listeners, to, n);
}
