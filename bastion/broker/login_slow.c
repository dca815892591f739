/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a refused key is answered. Never sooner than a fixed time after it was
 * asked, so that a name that is known (its rows are looked up and shown to the
 * vault) takes as long as one that is not; and later and later while refusals
 * for one name go on, whether it exists or not. What is accepted never waits:
 * nobody can slow the owner of a name down.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bastion/broker/login_int.h"

#define STEP_US 10000		/* refusals are answered at its multiples */
#define FREE_FAILS 30		/* a person with a ring of keys, twice */
#define SLOW_US 50000		/* then this, twice as much every ten */
#define SLOWEST_US 2000000
#define HALF_US 60000000	/* half of them are forgotten in this time */
#define SLOTS 4096

struct slot {
	uint32_t fails;
	int64_t at_us;
};
static struct slot slots[SLOTS];

/* Names share a slot by chance only: nobody knows the seed. */
static struct slot *
slot_of(const char *user)
{
	static uint64_t seed;
	uint64_t h;

	if (seed == 0 && getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)sp_boot_us() | 1;
	h = seed;
	for (; *user != '\0' && *user != '+'; user++)
		h = (h ^ (uint8_t)*user) * 0x100000001b3ULL;
	h ^= h >> 29;
	return &slots[h * 0x9e3779b97f4a7c15ULL >> 52];
}

int64_t
login_slow_us(const char *user, int64_t began_us, int64_t now)
{
	struct slot *s = slot_of(user);
	int64_t at, more = 0;
	unsigned times;

	for (; s->fails > 0 && now - s->at_us >= HALF_US; s->at_us += HALF_US)
		s->fails /= 2;
	if (s->fails == 0)
		s->at_us = now;
	s->fails++;
	if (s->fails > FREE_FAILS) {
		times = (s->fails - FREE_FAILS - 1) / 10;
		more = times > 5 ? SLOWEST_US : SLOW_US << times;
	}
	at = (now - began_us + STEP_US - 1) / STEP_US * STEP_US;
	return (at == 0 ? STEP_US : at) + more - (now - began_us);
}

static bool
wait_until(struct event *e, int64_t at_us)
{
	int64_t us = at_us - sp_boot_us();
	struct timeval tv = {.tv_sec = us < 0 ? 0 : us / 1000000,
	    .tv_usec = us < 0 ? 0 : (suseconds_t)(us % 1000000)};

	return event_add(e, &tv) == 0;
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct event *e = c->refusal;
	struct sp_msg_auth_key_result m = {.ok = 0};

	(void)fd;
	(void)what;
	/* libevent counts from the beginning of its turn: it may be early. */
	if (sp_boot_us() < c->refusal_us && wait_until(e, c->refusal_us))
		return;
	c->refusal = NULL;
	event_free(e);
	if (c->state != CONN_ENDED)
		sp_peer_sent(c->peer, sp_send_auth_key_result(&c->peer->link,
		    c->refusal_corr, &m, NULL));
	conn_release(c);
}

void
login_slow_refuse(struct conn *c, uint64_t corr, const char *user,
    int64_t began_us)
{
	int64_t now = sp_boot_us();
	struct event *e;

	/* An honest ingress asks one key after the other. */
	if (c->refusal != NULL || c->state == CONN_ENDED)
		return;
	c->refusal_us = now + login_slow_us(user, began_us, now);
	e = event_new(c->b->ev, -1, 0, on_due, c);
	if (e == NULL || !wait_until(e, c->refusal_us)) {
		if (e != NULL)
			event_free(e);
		conn_end(c);
		return;
	}
	c->refusal = e;
	c->refusal_corr = corr;
	conn_hold(c);
}

void
login_slow_drop(struct conn *c)
{
	if (c->refusal == NULL)
		return;
	event_free(c->refusal);
	c->refusal = NULL;
	conn_release(c);
}
