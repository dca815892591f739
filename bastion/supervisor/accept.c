/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_US (SP_SECOND_US / 2)	/* when descriptors have run out */
#define SAY_US (10 * SP_SECOND_US)	/* one line and event about refusals */
#define TURN 64				/* connections taken in one turn */

/* One source: an IPv4 address, or an IPv6 /64 (whoever has one has all). */
struct sp_source {
	struct sp_source *next;
	uint8_t key[8];
	size_t n, bucket;
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage ss;
};

static void
source_key(const union address *a, uint8_t key[static 8])
{
	memset(key, 0, 8);
	if (a->sa.sa_family == AF_INET6) {
		memcpy(key, &a->in6.sin6_addr, 8);
		return;
	}
	key[0] = 0xff;	/* no global IPv6 address begins so */
	key[1] = 4;
	memcpy(key + 4, &a->in.sin_addr, 4);
}

static struct sp_source *
source_get(struct sp_sup *s, const uint8_t key[static 8])
{
	uint32_t h = s->source_seed;
	struct sp_source *x;

	for (size_t i = 0; i < 8; i++)
		h = (h ^ key[i]) * 16777619U;
	h = (h ^ (h >> 15)) % (sizeof(s->sources) / sizeof(s->sources[0]));
	for (x = s->sources[h]; x != NULL; x = x->next)
		if (memcmp(x->key, key, sizeof(x->key)) == 0)
			return x;
	if ((x = calloc(1, sizeof(*x))) == NULL)
		return NULL;
	memcpy(x->key, key, sizeof(x->key));
	x->bucket = h;
	x->next = s->sources[h];
	s->sources[h] = x;
	return x;
}

static void
source_put(struct sp_sup *s, struct sp_source *x)
{
	struct sp_source **at = &s->sources[x->bucket];

	if (x->n > 0)
		return;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	free(x);
}

void
sp_accept_authed(struct sp_sup *s, struct sp_kid *k)
{
	if (k->is_startup)
		s->n_startups--;
	k->is_startup = false;
}

void
sp_accept_forget(struct sp_sup *s, struct sp_kid *k)
{
	sp_accept_authed(s, k);
	if (k->source == NULL)
		return;
	s->n_conns--;
	k->source->n--;
	source_put(s, k->source);
	k->source = NULL;
}

/* Later than login_grace_s nobody is logging in: the broker and the ingress
 * both end who is not in by then, so what is left counts as logged in. */
static void
expire_startup(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	const int64_t *before = arg;

	if (k->is_startup && k->born_us < *before)
		sp_accept_authed(s, k);
}

static const char *
over_cap(struct sp_sup *s, const struct sp_source *src)
{
	int64_t before = sp_boot_us() -
	    (int64_t)s->in.cfg.login_grace_s * SP_SECOND_US;

	if (src == NULL)
		return "memory";
	if (src->n >= s->in.cfg.max_per_source)
		return "max_per_source";
	if (s->n_conns >= s->in.cfg.max_connections)
		return "max_connections";
	if (s->n_startups >= s->in.cfg.max_startups)
		sp_kid_each(s, expire_startup, &before);
	if (s->n_startups >= s->in.cfg.max_startups)
		return "max_startups";
	return NULL;
}

static void
refused(struct sp_sup *s, const char *addr, const char *cap)
{
	int64_t now = sp_boot_us();
	char text[160];

	s->n_refused++;
	if (s->refusal_said_us != 0 && now - s->refusal_said_us < SAY_US)
		return;
	s->refusal_said_us = now;
	snprintf(text, sizeof(text), "%llu since the last such line; the last"
	    " from %s, over %s", (unsigned long long)s->n_refused, addr, cap);
	s->n_refused = 0;
	sp_sup_event(s, "connections_refused", NULL, text);
}

static void
name_address(const union address *a, char text[static 64], uint16_t *port)
{
	text[0] = '\0';
	if (a->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, text, 64);
		*port = ntohs(a->in6.sin6_port);
	} else if (a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->in.sin_addr, text, 64);
		*port = ntohs(a->in.sin_port);
	}
}

static void
take(struct sp_sup *s, int fd, const union address *peer)
{
	union address local = {0};
	socklen_t len = sizeof(local);
	struct sp_source *src;
	struct sp_kid *k = NULL;
	uint8_t key[8];
	char addr[64];
	uint16_t port = 0;
	const char *cap;
	int on = 1;
	enum sp_err e;

	source_key(peer, key);
	name_address(peer, addr, &port);
	src = source_get(s, key);
	if ((cap = over_cap(s, src)) == NULL &&
	    (k = sp_kid_new(s, SP_KID_INGRESS, NULL)) == NULL)
		cap = "memory";
	if (cap != NULL) {
		close(fd);
		refused(s, addr, cap);
		if (src != NULL)
			source_put(s, src);
		return;
	}
	k->source = src;
	k->is_startup = true;
	k->born_us = sp_boot_us();
	src->n++;
	s->n_conns++;
	s->n_startups++;
	memcpy(k->peer_addr, addr, sizeof(addr));
	k->peer_port = port;
	if (getsockname(fd, &local.sa, &len) == 0)
		name_address(&local, k->local_addr, &k->local_port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if ((e = sp_kid_spawn(s, k, fd, -1)) != SP_OK)
		refused(s, addr, sp_err_text(e));
}

/* While somebody who is needed is away, connections wait in the kernel's
 * queue: they are neither refused nor half served. */
bool
sp_accept_may(struct sp_sup *s, int64_t now, int64_t *next)
{
	if (s->phase != SP_PHASE_RUNNING ||
	    sp_proc_ready(s, SP_RX_INGRESS) == NULL ||
	    sp_proc_ready(s, SP_RX_BROKER) == NULL)
		return false;
	if (s->accept_pause_us > now) {
		sp_sooner(next, s->accept_pause_us);
		return false;
	}
	return true;
}

void
sp_accept_some(struct sp_sup *s, int listener)
{
	for (int i = 0; i < TURN; i++) {
		union address peer = {0};
		socklen_t len = sizeof(peer);
		int fd = accept4(listener, &peer.sa, &len,
		    SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			take(s, fd, &peer);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS) {
			s->accept_pause_us = sp_boot_us() + PAUSE_US;
			sp_log(SP_ERROR, "accept_paused", NULL, "errno=%d", errno);
			return;
		}
	}
}

enum sp_err
sp_accept_listen(struct sp_sup *s)
{
	for (size_t i = 0; i < s->in.n_listeners; i++) {
		union address a = {0};
		socklen_t len = sizeof(a);
		char text[64];
		uint16_t port = 0;

		if (listen(s->in.listeners[i], 512) != 0 ||
		    getsockname(s->in.listeners[i], &a.sa, &len) != 0) {
			sp_say(&s->in, "cannot listen: %s", strerror(errno));
			return SP_ERR_IO;
		}
		name_address(&a, text, &port);
		sp_log(SP_INFO, "listening", NULL, "addr=%s port=%u", text, port);
	}
	return SP_OK;
}
