/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc.h"

/* On the wire: u16 type, u16 descriptors, u32 body length, u64 corr, body. */
#define HEADER_BYTES 16

struct sp_link_packet {
	struct sp_link_packet *next;
	int fds[SP_IPC_FDS_MAX];
	size_t n_fds, n;
	uint8_t bytes[];
};

void
sp_close_fds(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

enum sp_err
sp_link_init(struct sp_link *l, int fd, uint32_t self, uint32_t peer,
    uint32_t state)
{
	int fl;

	*l = (struct sp_link){.fd = fd, .self = self, .peer = peer,
	    .state = state};
	l->tx_tail = &l->tx_head;
	l->is_open = true;
	fl = fcntl(fd, F_GETFL);
	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		sp_link_fini(l);
		return SP_ERR_IO;
	}
	return SP_OK;
}

/* A link on which nothing comes needs no buffer, and most links are quiet most of
 * the time: they pass one around. No process receives in two threads. */
static uint8_t *spare;

static bool
take_rx(struct sp_link *l)
{
	if (l->rx != NULL)
		return true;
	l->rx = spare != NULL ? spare : malloc(HEADER_BYTES + SP_IPC_BODY_MAX);
	spare = NULL;
	return l->rx != NULL;
}

static void
give_rx_back(struct sp_link *l)
{
	if (l->rx == NULL)
		return;
	explicit_bzero(l->rx, l->rx_wet);
	if (spare == NULL)
		spare = l->rx;
	else
		free(l->rx);
	l->rx = NULL;
	l->rx_wet = 0;
}

void
sp_link_fini(struct sp_link *l)
{
	struct sp_link_packet *k;

	while ((k = l->tx_head) != NULL) {
		l->tx_head = k->next;
		sp_close_fds(k->fds, k->n_fds);
		explicit_bzero(k->bytes, k->n);
		free(k);
	}
	l->tx_tail = &l->tx_head;
	l->tx_bytes = 0;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	give_rx_back(l);
	l->is_open = false;
}

static enum sp_err
send_packet(int fd, const struct sp_link_packet *k)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * SP_IPC_FDS_MAX)];
	} c;
	struct iovec iov = {.iov_len = k->n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	memcpy(&iov.iov_base, &(const void *){k->bytes}, sizeof(void *));
	if (k->n_fds > 0) {
		struct cmsghdr *h;

		memset(&c, 0, sizeof(c));
		mh.msg_control = c.room;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * k->n_fds);
		h = CMSG_FIRSTHDR(&mh);
		SP_ASSERT(h != NULL);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * k->n_fds);
		memcpy(CMSG_DATA(h), k->fds, sizeof(int) * k->n_fds);
	}
	do
		n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == ENOBUFS ? SP_ERR_AGAIN :
		    errno == EPIPE || errno == ECONNRESET ? SP_ERR_EOF :
		    SP_ERR_IO;
	return SP_OK;
}

static void
free_packet(struct sp_link_packet *k)
{
	sp_close_fds(k->fds, k->n_fds);
	explicit_bzero(k->bytes, k->n);
	free(k);
}

enum sp_err
sp_link_flush(struct sp_link *l)
{
	struct sp_link_packet *k;

	if (l->fd < 0)
		return SP_ERR_EOF;
	while ((k = l->tx_head) != NULL) {
		SP_TRY(send_packet(l->fd, k));
		l->tx_head = k->next;
		if (l->tx_head == NULL)
			l->tx_tail = &l->tx_head;
		l->tx_bytes -= k->n;
		free_packet(k);
	}
	return SP_OK;
}

static void
le(uint8_t *o, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		o[i] = (uint8_t)(v >> (8 * i));
}

enum sp_err
sp_link_send(struct sp_link *l, uint16_t type, uint64_t corr,
    struct sp_span body, const int *fds, size_t n_fds)
{
	struct sp_link_packet *k;
	enum sp_err e;

	SP_ASSERT(n_fds <= SP_IPC_FDS_MAX && (n_fds == 0 || fds != NULL));
	if (l == NULL || l->fd < 0 || body.n > SP_IPC_BODY_MAX ||
	    l->tx_bytes + body.n > SP_LINK_TX_MAX ||
	    (k = malloc(sizeof(*k) + HEADER_BYTES + body.n)) == NULL) {
		sp_close_fds(fds, n_fds);
		return l == NULL || l->fd < 0 ? SP_ERR_EOF : SP_ERR_FULL;
	}
	k->next = NULL;
	k->n_fds = n_fds;
	k->n = HEADER_BYTES + body.n;
	if (n_fds > 0)
		memcpy(k->fds, fds, n_fds * sizeof(int));
	le(k->bytes, type, 2);
	le(k->bytes + 2, n_fds, 2);
	le(k->bytes + 4, body.n, 4);
	le(k->bytes + 8, corr, 8);
	if (body.n > 0)
		memcpy(k->bytes + HEADER_BYTES, body.p, body.n);
	*l->tx_tail = k;
	l->tx_tail = &k->next;
	l->tx_bytes += k->n;
	e = sp_link_flush(l);
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

bool
sp_link_wants_write(const struct sp_link *l)
{
	return l->tx_head != NULL;
}

void
sp_packet_close_fds(struct sp_packet *p)
{
	sp_close_fds(p->fds, p->n_fds);
	p->n_fds = 0;
}

static size_t
take_fds(struct msghdr *mh, int *fds)
{
	size_t n = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(mh); h != NULL;
	    h = CMSG_NXTHDR(mh, h)) {
		size_t k;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		k = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (n < SP_IPC_FDS_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

static enum sp_err
fault(struct sp_link *l, struct sp_packet *p, const char *why)
{
	sp_packet_close_fds(p);
	snprintf(l->fault, sizeof(l->fault), "%s sent %s (0x%04x) in state 0x%x: %s",
	    sp_role_name(l->peer), sp_ipc_name(p->type), p->type, l->state, why);
	return SP_ERR_PROTO;
}

static enum sp_err
judge(struct sp_link *l, struct sp_packet *p, size_t n, int flags)
{
	struct sp_span s = sp_span_of(l->rx, n);
	const struct sp_ipc_row *row;
	uint16_t n_fds;
	uint32_t len;

	p->type = 0;
	if ((flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
		return fault(l, p, "larger than any message");
	if (sp_get_u16(&s, &p->type) != SP_OK || sp_get_u16(&s, &n_fds) != SP_OK ||
	    sp_get_u32(&s, &len) != SP_OK || sp_get_u64(&s, &p->corr) != SP_OK)
		return fault(l, p, "shorter than a header");
	if (len != s.n)
		return fault(l, p, "length does not match");
	p->body = s;
	if ((row = sp_ipc_find(p->type)) == NULL)
		return fault(l, p, "no such message");
	if (!sp_ipc_may(p->type, l->peer, l->self, l->state))
		return fault(l, p, "not allowed now");
	if (n_fds != p->n_fds || row->n_fds != p->n_fds)
		return fault(l, p, "wrong number of descriptors");
	return SP_OK;
}

enum sp_err
sp_link_recv(struct sp_link *l, struct sp_packet *p)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * 16)];
	} c;
	struct iovec iov = {.iov_len = HEADER_BYTES + SP_IPC_BODY_MAX};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = c.room, .msg_controllen = sizeof(c.room)};
	ssize_t n;

	*p = (struct sp_packet){0};
	if (l->fd < 0)
		return SP_ERR_EOF;
	if (!take_rx(l))
		return SP_ERR_NOMEM;
	iov.iov_base = l->rx;
	do
		n = recvmsg(l->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		enum sp_err e = n == 0 || errno == ECONNRESET ? SP_ERR_EOF :
		    errno == EAGAIN ? SP_ERR_AGAIN : SP_ERR_IO;

		give_rx_back(l);
		return e;
	}
	if ((size_t)n > l->rx_wet)
		l->rx_wet = (size_t)n;
	p->n_fds = take_fds(&mh, p->fds);
	return judge(l, p, (size_t)n, mh.msg_flags);
}

enum sp_err
sp_link_wait(struct sp_link *l, struct sp_packet *p, int timeout_ms)
{
	int64_t end = sp_boot_us() + (int64_t)timeout_ms * 1000;

	for (;;) {
		struct pollfd pf = {.fd = l->fd, .events = POLLIN};
		int64_t left = (end - sp_boot_us() + 999) / 1000;
		enum sp_err e;

		if (sp_link_wants_write(l)) {
			e = sp_link_flush(l);
			if (e != SP_OK && e != SP_ERR_AGAIN)
				return e;
			if (e == SP_ERR_AGAIN)
				pf.events = (short)(POLLIN | POLLOUT);
		}
		if ((e = sp_link_recv(l, p)) != SP_ERR_AGAIN)
			return e;
		if (left <= 0)
			return SP_ERR_TIMEOUT;
		if (poll(&pf, 1, (int)left) < 0 && errno != EINTR)
			return SP_ERR_IO;
	}
}

static enum sp_err
pair(int type, int fds[static 2])
{
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return SP_ERR_IO;
	return SP_OK;
}

enum sp_err
sp_link_pair(int fds[static 2])
{
	return pair(SOCK_SEQPACKET, fds);
}

enum sp_err
sp_stream_pair(int fds[static 2])
{
	return pair(SOCK_STREAM, fds);
}
