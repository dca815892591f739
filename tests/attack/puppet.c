/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/attack/puppet.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"

#define FDS_MAX 32

enum op { OP_SEND = 1, OP_RECV, OP_WRITE, OP_READ, OP_SYSCALL, OP_FLOOD,
    OP_CLOSE, OP_PID };
enum status { DONE = 0, LATE = 1, GONE = 2, FAILED = 3 };

void
puppet_init(struct puppet *p, int control)
{
	*p = (struct puppet){.control = control};
	for (size_t i = 0; i < PUPPET_SLOTS; i++)
		p->slot[i] = -1;
	p->in = malloc(PUPPET_MAX);
	p->out = malloc(PUPPET_MAX + 16);
	SP_ASSERT(p->in != NULL && p->out != NULL);
}

int
puppet_take(struct puppet *p, int fd)
{
	for (int i = 8; i < PUPPET_SLOTS; i++)
		if (p->slot[i] < 0) {
			p->slot[i] = fd;
			return i;
		}
	close(fd);
	return 0;
}

void
puppet_put(struct puppet *p, const void *d, size_t n)
{
	if (n == 0 || n > PUPPET_MAX - p->out_len)
		return;
	memcpy(p->out + p->out_len, d, n);
	p->out_len += n;
}

static int
failed(struct puppet *p)
{
	uint32_t e = (uint32_t)errno;

	if (e == EPIPE || e == ECONNRESET)
		return GONE;
	puppet_put(p, &e, 4);
	return FAILED;
}

/* 1: ready; 0: too late */
static int
ready(int fd, short what, uint32_t ms)
{
	struct pollfd pf = {.fd = fd, .events = what};
	int n;

	do
		n = poll(&pf, 1, (int)ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

static int
move(int fd, uint8_t *d, size_t n, int is_write)
{
	while (n > 0) {
		ssize_t k = is_write ? write(fd, d, n) : read(fd, d, n);

		if (k > 0) {
			d += k;
			n -= (size_t)k;
		} else if (k < 0 && errno == EAGAIN) {
			if (!ready(fd, is_write ? POLLOUT : POLLIN, 10000))
				return -1;
		} else if (k == 0 || errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

/* A datagram as it is, with copies of the control socket as descriptors. */
static ssize_t
datagram(struct puppet *p, int fd, uint8_t n_fds, const uint8_t *d, size_t n)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} c;
	struct iovec iov = {.iov_base = p->in, .iov_len = n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	memmove(p->in, d, n);
	if (n_fds > FDS_MAX)
		n_fds = FDS_MAX;
	if (n_fds > 0) {
		struct cmsghdr *h;

		memset(&c, 0, sizeof(c));
		mh.msg_control = c.room;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		h = CMSG_FIRSTHDR(&mh);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &p->control,
			    sizeof(int));
	}
	return sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int
do_send(struct puppet *p, int fd, const uint8_t *d, size_t n)
{
	if (n < 1)
		return FAILED;
	if (!ready(fd, POLLOUT, 5000))
		return LATE;
	return datagram(p, fd, d[0], d + 1, n - 1) < 0 ? failed(p) : DONE;
}

static int
do_flood(struct puppet *p, int fd, const uint8_t *d, size_t n)
{
	uint32_t count, sent = 0;
	int status = DONE;

	if (n < 4)
		return FAILED;
	memcpy(&count, d, 4);
	d += 4;
	n -= 4;
	for (; sent < count && status == DONE; sent++) {
		if (!ready(fd, POLLOUT, 5000))
			status = LATE;
		else if (datagram(p, fd, 0, d, n) < 0)
			status = errno == EAGAIN ? LATE : GONE;
		d = p->in;
	}
	puppet_put(p, &sent, 4);
	return status;
}

static int
do_recv(struct puppet *p, int fd, const uint8_t *d, size_t n)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} c;
	struct iovec iov = {.iov_base = p->in, .iov_len = PUPPET_MAX};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = c.room, .msg_controllen = sizeof(c.room)};
	uint8_t slots[1 + FDS_MAX] = {0};
	uint32_t ms;
	ssize_t got;

	if (n < 4)
		return FAILED;
	memcpy(&ms, d, 4);
	if (!ready(fd, POLLIN, ms))
		return LATE;
	got = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (got <= 0)
		return got == 0 ? GONE : failed(p);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&mh); h != NULL;
	    h = CMSG_NXTHDR(&mh, h))
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= h->cmsg_len;
		    i++) {
			int one;

			memcpy(&one, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			slots[1 + slots[0]] = (uint8_t)puppet_take(p, one);
			slots[0]++;
		}
	puppet_put(p, slots, 1 + (size_t)slots[0]);
	puppet_put(p, p->in, (size_t)got);
	return DONE;
}

static int
do_read(struct puppet *p, int fd, const uint8_t *d, size_t n)
{
	uint32_t ms;
	ssize_t got;

	if (n < 4)
		return FAILED;
	memcpy(&ms, d, 4);
	if (!ready(fd, POLLIN, ms))
		return LATE;
	got = read(fd, p->in, 65536);
	if (got <= 0)
		return got == 0 ? GONE : failed(p);
	puppet_put(p, p->in, (size_t)got);
	return DONE;
}

/* u64 number, six u64 arguments, u8 which of them point into what follows */
static int
do_syscall(struct puppet *p, const uint8_t *d, size_t n)
{
	uint64_t a[7];
	int64_t r[2];

	if (n < sizeof(a) + 1)
		return FAILED;
	memcpy(a, d, sizeof(a));
	for (unsigned i = 0; i < 6; i++)
		if ((d[sizeof(a)] >> i & 1) != 0)
			a[1 + i] += (uint64_t)(uintptr_t)(d + sizeof(a) + 1);
	errno = 0;
	r[0] = syscall((long)a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	r[1] = errno;
	puppet_put(p, r, sizeof(r));
	return DONE;
}

static int
perform(struct puppet *p, uint8_t op, const uint8_t *d, size_t n)
{
	uint32_t pid = (uint32_t)getpid();
	int fd;

	if (op == OP_SYSCALL)
		return do_syscall(p, d, n);
	if (op == OP_PID) {
		puppet_put(p, &pid, 4);
		return DONE;
	}
	if (op > OP_PID)
		return p->special == NULL ? FAILED : p->special(p, op, d, n);
	if (n < 1 || d[0] >= PUPPET_SLOTS || p->slot[d[0]] < 0) {
		errno = EBADF;
		return failed(p);
	}
	fd = p->slot[d[0]];
	switch (op) {
	case OP_SEND:
		return do_send(p, fd, d + 1, n - 1);
	case OP_RECV:
		return do_recv(p, fd, d + 1, n - 1);
	case OP_WRITE:
		memmove(p->in, d + 1, n - 1);
		return move(fd, p->in, n - 1, 1) != 0 ? failed(p) : DONE;
	case OP_READ:
		return do_read(p, fd, d + 1, n - 1);
	case OP_FLOOD:
		return do_flood(p, fd, d + 1, n - 1);
	case OP_CLOSE:
		p->slot[d[0]] = -1;
		close(fd);
		return DONE;
	default:
		return FAILED;
	}
}

int
puppet_run(struct puppet *p)
{
	for (;;) {
		uint8_t head[5];
		uint32_t n;

		if (move(p->control, head, 5, 0) != 0)
			return 0;
		memcpy(&n, head, 4);
		if (n > PUPPET_MAX || move(p->control, p->in, n, 0) != 0)
			return 1;
		p->out_len = 0;
		head[4] = (uint8_t)perform(p, head[4], p->in, n);
		n = (uint32_t)p->out_len;
		memcpy(head, &n, 4);
		if (move(p->control, head, 5, 1) != 0 ||
		    move(p->control, p->out, n, 1) != 0)
			return 1;
	}
}
