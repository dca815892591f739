/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_US (SP_SECOND_US / 2)	/* when descriptors have run out */
#define SAY_US (10 * SP_SECOND_US)	/* one line and event about refusals */
#define TURN 64				/* connections taken in one turn */

void
sp_accept_refused(struct sp_sup *s, const char *addr, const char *cap)
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
name_address(const union sp_address *a, char text[static 64], uint16_t *port)
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

void
sp_local_address(int fd, char text[static 64], uint16_t *port)
{
	union sp_address local = {0};
	socklen_t len = sizeof(local);

	text[0] = '\0';
	if (getsockname(fd, &local.sa, &len) == 0)
		name_address(&local, text, port);
}

static void
take(struct sp_sup *s, int fd, const union sp_address *peer)
{
	struct sp_kid *k = sp_kid_new(s, SP_KID_INGRESS, NULL);
	char addr[64];
	uint16_t port = 0;
	const char *cap;
	int on = 1;
	enum sp_err e;

	name_address(peer, addr, &port);
	if (k != NULL)
		k->is_proxied = sp_nets_have(&s->in.proxies, peer);
	cap = k == NULL ? "memory" : sp_source_admit(s, k, peer);
	if (cap != NULL) {
		close(fd);
		sp_accept_refused(s, addr, cap);
		if (k != NULL)
			sp_kid_free(s, k);
		return;
	}
	memcpy(k->peer_addr, addr, sizeof(addr));
	k->peer_port = port;
	sp_local_address(fd, k->local_addr, &k->local_port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if ((e = sp_kid_spawn(s, k, fd, -1)) != SP_OK)
		sp_accept_refused(s, addr, sp_err_text(e));
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
		union sp_address peer = {0};
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
		union sp_address a = {0};
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
