/* SPDX-License-Identifier: Apache-2.0 */
/* The fortified headers define the names that this file takes over. */
#undef _FORTIFY_SOURCE
#include "bastion/ingress/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct sp_wire *wires[SP_WIRES_MAX];
static uint64_t calls;

static struct sp_wire *
find(int fd)
{
	for (size_t i = 0; i < SP_WIRES_MAX; i++)
		if (wires[i] != NULL && wires[i]->fd == fd)
			return wires[i];
	return NULL;
}

enum sp_err
sp_wire_init(struct sp_wire *w, int fd, bool is_inner)
{
	*w = (struct sp_wire){.fd = -1};
	for (size_t i = 0; i < SP_WIRES_MAX; i++) {
		if (wires[i] != NULL)
			continue;
		*w = (struct sp_wire){.fd = fd, .is_inner = is_inner,
		    .is_writable = true};
		sp_buf_init(&w->tx, SP_WIRE_TX);
		w->rx = malloc(SP_WIRE_RX);
		if (w->rx == NULL) {
			w->fd = -1;
			return SP_ERR_NOMEM;
		}
		wires[i] = w;
		return SP_OK;
	}
	return SP_ERR_FULL;
}

void
sp_wire_detach(struct sp_wire *w)
{
	for (size_t i = 0; i < SP_WIRES_MAX; i++)
		if (wires[i] == w)
			wires[i] = NULL;
	w->fd = -1;
}

void
sp_wire_fini(struct sp_wire *w)
{
	sp_wire_detach(w);
	if (w->rx != NULL)
		explicit_bzero(w->rx, w->rx_wet);
	free(w->rx);
	w->rx = NULL;
	sp_buf_fini(&w->tx);
}

static void
compact(struct sp_wire *w)
{
	if (w->rx_off > 0 && w->rx_len > 0)
		memmove(w->rx, w->rx + w->rx_off, w->rx_len);
	w->rx_off = 0;
}

void
sp_wire_fill(struct sp_wire *w)
{
	ssize_t n;

	if (w->fd < 0 || w->eof || w->failed != 0)
		return;
	compact(w);
	if (w->rx_len == SP_WIRE_RX)
		return;
	do
		n = recvfrom(w->fd, w->rx + w->rx_len, SP_WIRE_RX - w->rx_len,
		    MSG_DONTWAIT, NULL, NULL);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		w->eof = true;
	else if (n < 0 && errno != EAGAIN)
		w->failed = errno;
	else if (n > 0)
		sp_wire_put(w, (size_t)n);
}

size_t
sp_wire_room(const struct sp_wire *w)
{
	return w->fd < 0 ? 0 : SP_WIRE_RX - w->rx_len;
}

uint8_t *
sp_wire_at(struct sp_wire *w)
{
	compact(w);
	return w->rx + w->rx_len;
}

void
sp_wire_put(struct sp_wire *w, size_t n)
{
	w->rx_len += n;
	if (w->rx_off + w->rx_len > w->rx_wet)
		w->rx_wet = w->rx_off + w->rx_len;
	w->bytes_in += n;
}

void
sp_wire_took(struct sp_wire *w, size_t n)
{
	sp_buf_consume(&w->tx, n);
	w->is_writable = w->tx.len < SP_WIRE_TX;
}

void
sp_wire_trim(struct sp_wire *w)
{
	if (w->fd < 0)
		return;
	sp_area_drop(&w->out);
	if (w->rx_len == 0)
		sp_pages_drop(w->rx, SP_WIRE_RX);
	if (w->tx.len == 0)
		sp_buf_fini(&w->tx);
}

bool
sp_wire_has_input(const struct sp_wire *w)
{
	return w->fd >= 0 && (w->rx_len > 0 || w->failed != 0 ||
	    (w->eof && w->tell_eof));
}

uint64_t
sp_wire_calls(void)
{
	return calls;
}

/* ---------------------------------------------------- what libssh calls */

static int
answer(struct sp_wire *w, struct pollfd *p)
{
	p->revents = 0;
	calls++;
	if ((p->events & POLLIN) != 0 && w->may_read && sp_wire_has_input(w))
		p->revents |= POLLIN;
	if ((p->events & POLLOUT) != 0 && w->may_write && w->is_writable)
		p->revents |= POLLOUT;
	return p->revents != 0 ? 1 : 0;
}

/* glibc declares the array as written only. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
int
poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	struct timespec ts = {.tv_sec = timeout_ms / 1000,
	    .tv_nsec = (long)(timeout_ms % 1000) * 1000000L};
	struct sp_wire *w = n == 1 ? find(p[0].fd) : NULL;

	if (w != NULL)
		return answer(w, &p[0]);
	return ppoll(p, n, timeout_ms < 0 ? NULL : &ts, NULL);
}
#pragma GCC diagnostic pop

ssize_t
recv(int fd, void *at, size_t n, int flags)
{
	struct sp_wire *w = find(fd);

	if (w == NULL)
		return recvfrom(fd, at, n, flags, NULL, NULL);
	if (w->rx_len > 0) {
		if (n > w->rx_len)
			n = w->rx_len;
		memcpy(at, w->rx + w->rx_off, n);
		w->rx_off += n;
		w->rx_len -= n;
		if (w->rx_len == 0)
			w->rx_off = 0;
		return (ssize_t)n;
	}
	if (w->eof && w->failed == 0)
		return 0;
	errno = w->failed != 0 ? w->failed : EAGAIN;
	return -1;
}

/* libssh takes -1 for the end of everything, also with EAGAIN: 0 is "later". */
ssize_t
send(int fd, const void *from, size_t n, int flags)
{
	struct sp_wire *w = find(fd);
	ssize_t k;

	if (w == NULL)
		return sendto(fd, from, n, flags, NULL, 0);
	if (w->is_inner) {
		size_t room = SP_WIRE_TX - w->tx.len;

		k = (ssize_t)(n < room ? n : room);
		if (k > 0 && sp_buf_put(&w->tx, from, (size_t)k) != SP_OK) {
			errno = ENOMEM;
			return -1;
		}
	} else {
		k = sendto(fd, from, n, flags | MSG_DONTWAIT | MSG_NOSIGNAL,
		    NULL, 0);
		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			k = 0;
	}
	sp_area_saw(&w->out, from, n);
	w->is_writable = k == (ssize_t)n;
	if (w->is_writable)
		sp_area_emptied(&w->out);
	w->bytes_out += k > 0 ? (uint64_t)k : 0;
	return k;
}
