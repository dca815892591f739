/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_PERF_TYPING_H
#define SP_TESTS_PERF_TYPING_H

/*
 * Many people type at once: each key is sent when it is due, whether the one
 * before it has come back or not, and its time ends when its echo is read.
 * Sessions take turns, so that their keys are spread over the second.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define TYPING_MAX 400
#define TYPING_AHEAD 64		/* keys of one session that are under way */

struct typing {
	unsigned n;
	double rate;		/* keys a second of each */
	double seconds;
	void *ctx;
	int fd[TYPING_MAX];
	/* Sends a key of session i; reads, and says how many echoes came: 0 for
	 * none now, negative when it is over. */
	bool (*send)(void *ctx, unsigned i);
	int (*take)(void *ctx, unsigned i);
	/* What else has to be looked after, now and then. */
	void (*idle)(void *ctx);
};

struct typing_state {
	int ep;
	int64_t *took;
	size_t n_took, cap, sent, held;
	struct {
		int64_t at[TYPING_AHEAD];
		unsigned first, n;
	} of[TYPING_MAX];
};

static inline int64_t
typing_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline bool
typing_take(struct typing *t, struct typing_state *s, unsigned i)
{
	int n = t->take(t->ctx, i);
	int64_t now = typing_ns();

	if (n < 0 || (unsigned)n > s->of[i].n)
		return false;
	for (; n > 0; n--) {
		if (s->n_took < s->cap)
			s->took[s->n_took++] = now - s->of[i].at[s->of[i].first];
		s->of[i].first = (s->of[i].first + 1) % TYPING_AHEAD;
		s->of[i].n--;
	}
	return true;
}

/* Waits for echoes until `until`. */
static inline bool
typing_wait(struct typing *t, struct typing_state *s, int64_t until)
{
	struct epoll_event ev[64];

	for (;;) {
		int64_t left = until - typing_ns();
		struct timespec ts = {.tv_sec = left > 0 ? left / 1000000000 : 0,
		    .tv_nsec = left > 0 ? left % 1000000000 : 0};
		int n = epoll_pwait2(s->ep, ev, 64, &ts, NULL);

		if (n < 0 && errno != EINTR)
			return false;
		for (int k = 0; k < n; k++)
			if (!typing_take(t, s, ev[k].data.u32))
				return false;
		if (left <= 0 && n <= 0)
			return true;
	}
}

static inline int
typing_order(const void *a, const void *b)
{
	int64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static inline void
typing_print(const struct typing *t, struct typing_state *s)
{
	if (s->n_took == 0) {
		printf("{\"keys\": 0}\n");
		return;
	}
	qsort(s->took, s->n_took, sizeof(s->took[0]), typing_order);
	printf("{\"sessions\": %u, \"keys\": %zu, \"lost\": %zu, \"held_back\": %zu, "
	    "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
	    t->n, s->n_took, s->sent - s->n_took, s->held,
	    (double)s->took[s->n_took / 2] / 1e3,
	    (double)s->took[s->n_took * 9 / 10] / 1e3,
	    (double)s->took[s->n_took * 99 / 100] / 1e3,
	    (double)s->took[s->n_took - 1] / 1e3);
}

static inline bool
typing_keys(struct typing *t, struct typing_state *s)
{
	int64_t start = typing_ns(), end = start + (int64_t)(t->seconds * 1e9);
	double gap = 1e9 / (t->rate * t->n);

	for (uint64_t j = 0;; j++) {
		int64_t due = start + (int64_t)(gap * (double)j);
		unsigned i = (unsigned)(j % t->n), at;

		if (due >= end)
			break;
		if (!typing_wait(t, s, due))
			return false;
		if (t->idle != NULL && j % 64 == 0)
			t->idle(t->ctx);
		if (s->of[i].n == TYPING_AHEAD) {
			s->held++;
			continue;
		}
		at = (s->of[i].first + s->of[i].n++) % TYPING_AHEAD;
		s->of[i].at[at] = typing_ns();
		s->sent++;
		if (!t->send(t->ctx, i))
			return false;
	}
	for (int k = 0; k < 100 && s->n_took < s->sent; k++)
		if (!typing_wait(t, s, typing_ns() + 50000000))
			return false;
	return true;
}

/* Types, and prints the figures as one object of JSON; false when a session broke. */
static inline bool
typing_run(struct typing *t)
{
	static struct typing_state s;
	bool ok = true;

	memset(&s, 0, sizeof(s));
	s.cap = (size_t)(t->rate * t->n * t->seconds) + t->n;
	s.took = calloc(s.cap, sizeof(s.took[0]));
	s.ep = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < t->n; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};

		ok &= epoll_ctl(s.ep, EPOLL_CTL_ADD, t->fd[i], &e) == 0;
	}
	ok = ok && s.took != NULL && typing_keys(t, &s);
	if (ok)
		typing_print(t, &s);
	free(s.took);
	return ok;
}

#endif
