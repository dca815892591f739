/* SPDX-License-Identifier: Apache-2.0 */
/* The fortified headers define the names that this file takes over. */
#undef _FORTIFY_SOURCE
#include "bastion/egress/ahead.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bastion/egress/tap.h"
#include "common/area.h"

static struct {
	int fd;			/* -1: nothing is taken over */
	bool may_read, may_write, is_writable, eof;
	int failed;		/* errno of the socket */
	size_t off, len, wet;	/* wet: ever written */
	uint64_t sent;
	struct sp_area out;	/* libssh's */
	uint8_t at[SP_AHEAD_BYTES];
} a = {.fd = -1};

void
sp_ahead_begin(int fd)
{
	a.fd = fd;
	a.off = a.len = 0;
	a.may_read = a.may_write = a.eof = false;
	a.is_writable = true;
	a.failed = 0;
	a.sent = 0;
	a.out = (struct sp_area){0};
}

void
sp_ahead_end(void)
{
	a.fd = -1;
	explicit_bzero(a.at, a.wet);
	a.off = a.len = a.wet = 0;
}

void
sp_ahead_fill(void)
{
	ssize_t n;

	if (a.fd < 0 || a.eof || a.failed != 0)
		return;
	if (a.off > 0 && a.len > 0)
		memmove(a.at, a.at + a.off, a.len);
	a.off = 0;
	if (a.len == sizeof(a.at))
		return;
	do
		n = syscall(SYS_recvfrom, a.fd, a.at + a.len,
		    sizeof(a.at) - a.len, MSG_DONTWAIT, NULL, NULL);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		a.eof = true;
	else if (n < 0 && errno != EAGAIN)
		a.failed = errno;
	else if (n > 0)
		a.len += (size_t)n;
	if (a.off + a.len > a.wet)
		a.wet = a.off + a.len;
}

bool
sp_ahead_has_input(void)
{
	return a.fd >= 0 && (a.len > 0 || a.eof || a.failed != 0);
}

size_t
sp_ahead_waiting(void)
{
	return a.len;
}

bool
sp_ahead_is_full(void)
{
	return a.len == sizeof(a.at) || a.eof || a.failed != 0;
}

void
sp_ahead_may_read(bool may)
{
	a.may_read = may;
}

void
sp_ahead_may_write(bool may)
{
	a.may_write = may;
}

bool
sp_ahead_is_writable(void)
{
	return a.is_writable;
}

void
sp_ahead_set_writable(void)
{
	a.is_writable = true;
}

uint64_t
sp_ahead_sent(void)
{
	return a.sent;
}

void
sp_ahead_trim(void)
{
	sp_area_drop(&a.out);
	if (a.fd >= 0 && a.len == 0)
		sp_pages_drop(a.at, sizeof(a.at));
}

/* ---------------------------------------------------- what libssh calls */

/* glibc declares the array as written only. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
int
poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	struct timespec ts = {.tv_sec = timeout_ms / 1000,
	    .tv_nsec = (long)(timeout_ms % 1000) * 1000000L};

	if (n != 1 || a.fd < 0 || p[0].fd != a.fd)
		return ppoll(p, n, timeout_ms < 0 ? NULL : &ts, NULL);
	p[0].revents = 0;
	if ((p[0].events & POLLIN) != 0 && a.may_read && sp_ahead_has_input())
		p[0].revents |= POLLIN;
	if ((p[0].events & POLLOUT) != 0 && a.may_write && a.is_writable)
		p[0].revents |= POLLOUT;
	return p[0].revents != 0 ? 1 : 0;
}
#pragma GCC diagnostic pop

ssize_t
recv(int fd, void *buf, size_t n, int flags)
{
	if (a.fd < 0 || fd != a.fd) {
		ssize_t got = syscall(SYS_recvfrom, fd, buf, n, flags, NULL,
		    NULL);

		if (got > 0 && (flags & MSG_PEEK) == 0)
			sp_tap_saw(fd, buf, (size_t)got);
		return got;
	}
	if (a.len == 0) {
		if (a.eof && a.failed == 0)
			return 0;
		errno = a.failed != 0 ? a.failed : EAGAIN;
		return -1;
	}
	if (n > a.len)
		n = a.len;
	memcpy(buf, a.at + a.off, n);
	a.off += n;
	a.len -= n;
	if (a.len == 0)
		a.off = 0;
	return (ssize_t)n;
}

/* libssh takes -1 for the end of everything, also with EAGAIN: 0 is "later". */
ssize_t
send(int fd, const void *from, size_t n, int flags)
{
	ssize_t k;

	if (a.fd < 0 || fd != a.fd)
		return syscall(SYS_sendto, fd, from, n, flags, NULL, 0);
	k = syscall(SYS_sendto, fd, from, n, flags | MSG_DONTWAIT | MSG_NOSIGNAL,
	    NULL, 0);
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		k = 0;
	sp_area_saw(&a.out, from, n);
	a.is_writable = k == (ssize_t)n;
	if (a.is_writable)
		sp_area_emptied(&a.out);
	a.sent += k > 0 ? (uint64_t)k : 0;
	return k;
}
