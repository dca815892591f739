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

#define DEADLINE_MIN_MS 100u
#define DEADLINE_MAX_MS 60000u

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Numbers only, and one host: no name is ever looked up here, and neither a
 * wildcard (it would mean this host) nor a multicast address is a target. */
static enum sp_err
parse(struct sp_span text, uint16_t port, union address *a, socklen_t *len)
{
	char host[INET6_ADDRSTRLEN];

	memset(a, 0, sizeof(*a));
	SP_TRY(sp_span_cstr(text, host, sizeof(host)));
	if (port == 0)
		return SP_ERR_INVAL;
	if (inet_pton(AF_INET, host, &a->in.sin_addr) == 1) {
		uint32_t v = ntohl(a->in.sin_addr.s_addr);

		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(port);
		*len = sizeof(a->in);
		return v >> 24 == 0 || v >= 0xe0000000U ? SP_ERR_INVAL : SP_OK;
	}
	if (inet_pton(AF_INET6, host, &a->in6.sin6_addr) != 1)
		return SP_ERR_INVAL;
	a->in6.sin6_family = AF_INET6;
	a->in6.sin6_port = htons(port);
	*len = sizeof(a->in6);
	return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr) ||
	    IN6_IS_ADDR_MULTICAST(&a->in6.sin6_addr) ||
	    IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr) ? SP_ERR_INVAL : SP_OK;
}

/* The slot is free from here on; its session may dial again. */
static void
done(struct sp_sup *s, struct sp_dial *d)
{
	struct sp_session *x = d->is_scan ? NULL : sp_session_find(s, d->session);

	sp_close_fds(&d->fd, 1);
	d->fd = -1;
	if (x != NULL)
		x->is_dialing = false;
}

static void
fail(struct sp_sup *s, struct sp_dial *d, int err_no, const char *text)
{
	struct sp_failure f = {.corr = d->corr, .id = d->scan_id,
	    .session = d->session, .err_no = err_no, .text = text};

	done(s, d);
	sp_reply_failure(s, &f);
}

/* A scan has no session. */
static const char *
scan_start(struct sp_sup *s, struct sp_dial *d, int fd)
{
	struct sp_kid *k = sp_kid_new(s, SP_KID_SCAN, NULL);
	enum sp_err e;

	if (k == NULL) {
		sp_close_fds(&fd, 1);
		return "no room for another process";
	}
	k->corr = d->corr;
	k->ref = d->scan_id;
	e = sp_kid_spawn(s, k, fd, -1);
	return e == SP_OK ? NULL : sp_err_text(e);
}

static void
connected(struct sp_sup *s, struct sp_dial *d)
{
	struct sp_session *x = d->is_scan ? NULL : sp_session_find(s, d->session);
	struct sp_leg l = {.id = d->leg, .corr = d->corr, .more = d->more,
	    .sql = d->sql};
	int on = 1, fd = d->fd;
	const char *why;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!d->is_scan && x == NULL) {
		fail(s, d, EAGAIN, "the session is gone");
		return;
	}
	d->fd = -1;	/* the egress's now */
	if (x != NULL)
		x->is_dialing = false;
	why = x == NULL ? scan_start(s, d, fd) : sp_leg_start(s, x, &l, fd);
	if (why != NULL)
		fail(s, d, EAGAIN, why);
	else
		done(s, d);
}

void
sp_dial_writable(struct sp_sup *s, struct sp_dial *d)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (d->fd < 0)
		return;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err != 0)
		fail(s, d, err, strerror(err));
	else
		connected(s, d);
}

static struct sp_dial *
dial_new(struct sp_sup *s, const struct sp_dial_ask *a)
{
	struct sp_dial *d;
	uint32_t ms = a->deadline_ms;

	if (s->n_dials >= SP_DIALS_MAX || (d = calloc(1, sizeof(*d))) == NULL)
		return NULL;
	if (ms < DEADLINE_MIN_MS)
		ms = DEADLINE_MIN_MS;
	if (ms > DEADLINE_MAX_MS)
		ms = DEADLINE_MAX_MS;
	d->fd = -1;
	d->is_scan = a->is_scan;
	d->more = a->more;
	d->sql = a->sql;
	d->scan_id = a->scan_id;
	d->corr = a->corr;
	d->deadline_us = sp_boot_us() + (int64_t)ms * 1000;
	if (a->session != NULL)
		memcpy(d->session, a->session, sizeof(d->session));
	if (a->leg != NULL)
		memcpy(d->leg, a->leg, sizeof(d->leg));
	d->next = s->dials;
	s->dials = d;
	s->n_dials++;
	return d;
}

void
sp_dial_begin(struct sp_sup *s, const struct sp_dial_ask *a)
{
	struct sp_dial *d = dial_new(s, a);
	struct sp_failure full = {.corr = a->corr, .id = a->scan_id,
	    .session = a->session, .err_no = EAGAIN,
	    .text = "too many connections are being made"};
	struct sp_session *x;
	union address to;
	socklen_t len = 0;

	if (d == NULL) {
		if (!a->is_scan && (x = sp_session_find(s, a->session)) != NULL)
			x->is_dialing = false;
		sp_reply_failure(s, &full);
		return;
	}
	if (parse(a->addr, a->port, &to, &len) != SP_OK) {
		fail(s, d, EINVAL, "not the numeric address and port of a host");
		return;
	}
	d->fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0);
	if (d->fd < 0) {
		fail(s, d, errno, strerror(errno));
		return;
	}
	if (connect(d->fd, &to.sa, len) == 0)
		connected(s, d);
	else if (errno != EINPROGRESS)
		fail(s, d, errno, strerror(errno));
}

void
sp_dial_abort(struct sp_sup *s, const uint8_t *session, const char *why)
{
	for (struct sp_dial *d = s->dials; d != NULL; d = d->next)
		if (d->fd >= 0 && !d->is_scan &&
		    memcmp(d->session, session, sizeof(d->session)) == 0)
			fail(s, d, ECANCELED, why);
}

void
sp_dial_drop_all(struct sp_sup *s)
{
	for (struct sp_dial *d = s->dials; d != NULL; d = d->next)
		if (d->fd >= 0)
			done(s, d);
}

void
sp_dial_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	for (struct sp_dial *d = s->dials; d != NULL; d = d->next) {
		if (d->fd < 0)
			continue;
		if (d->deadline_us <= now)
			fail(s, d, ETIMEDOUT, strerror(ETIMEDOUT));
		else
			sp_sooner(next, d->deadline_us);
	}
}

void
sp_dial_sweep(struct sp_sup *s)
{
	struct sp_dial **at = &s->dials, *d;

	while ((d = *at) != NULL) {
		if (d->fd >= 0) {
			at = &d->next;
			continue;
		}
		*at = d->next;
		s->n_dials--;
		free(d);
	}
}
