/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress/egress.h"

/*
 * A hop: one forward to the next leg, and the bytes between it and the socket
 * pair. What passes is the next leg's SSH, end to end: ciphertext here. As in
 * the relay nothing is written from a libssh callback.
 */
#define PIECE 65536
#define LAST_WORDS_MS 1500

struct way {
	uint8_t bytes[PIECE];
	size_t at, n;
};
static struct way to_target, from_target;

enum sp_err
sp_hop_open(struct sp_egress *g, const char *addr, uint16_t port, uint32_t ms)
{
	int64_t deadline = sp_boot_us() + (int64_t)ms * 1000;
	int rc;

	if ((g->forward = ssh_channel_new(g->ssh)) == NULL)
		return SP_ERR_NOMEM;
	while ((rc = ssh_channel_open_forward(g->forward, addr, port, "127.0.0.1",
	    0)) == SSH_AGAIN)
		SP_TRY(sp_egress_wait(g, deadline));
	return rc == SSH_OK ? SP_OK : SP_ERR_DENIED;
}

/* SP_ERR_EOF: the next leg is gone. */
static enum sp_err
fill(struct sp_egress *g)
{
	ssize_t n;

	if (to_target.n > 0)
		return SP_OK;
	n = read(g->rec.fd, to_target.bytes, PIECE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return SP_OK;
	if (n <= 0)
		return SP_ERR_EOF;
	to_target.at = 0;
	to_target.n = (size_t)n;
	g->progress = true;
	return SP_OK;
}

static enum sp_err
forward(struct sp_egress *g)
{
	uint32_t window = ssh_channel_window_size(g->forward);
	size_t n = to_target.n < window ? to_target.n : window;
	int rc;

	if (n == 0)
		return SP_OK;
	rc = ssh_channel_write(g->forward, to_target.bytes + to_target.at,
	    (uint32_t)n);
	if (rc < 0)
		return SP_ERR_IO;
	to_target.at += (size_t)rc;
	to_target.n -= (size_t)rc;
	g->progress = g->progress || rc > 0;
	return SP_OK;
}

static enum sp_err
drain(struct sp_egress *g)
{
	int rc;

	if (from_target.n > 0)
		return SP_OK;
	rc = ssh_channel_read_nonblocking(g->forward, from_target.bytes, PIECE, 0);
	if (rc == SSH_ERROR)
		return SP_ERR_IO;
	if (rc > 0) {
		from_target.at = 0;
		from_target.n = (size_t)rc;
		g->progress = true;
	} else if (rc == SSH_EOF || ssh_channel_is_eof(g->forward) != 0 ||
	    ssh_channel_is_closed(g->forward) != 0) {
		return SP_ERR_EOF;
	}
	return SP_OK;
}

static enum sp_err
hand_on(struct sp_egress *g)
{
	ssize_t n;

	if (from_target.n == 0)
		return SP_OK;
	n = send(g->rec.fd, from_target.bytes + from_target.at, from_target.n,
	    MSG_NOSIGNAL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return SP_OK;
	if (n <= 0)
		return SP_ERR_EOF;
	from_target.at += (size_t)n;
	from_target.n -= (size_t)n;
	g->progress = true;
	return SP_OK;
}

static enum sp_err
sleep_until_ready(struct sp_egress *g)
{
	struct pollfd pf[3] = {{.fd = g->rec.fd}, {.fd = g->tcp},
	    {.fd = g->broker.fd, .events = POLLIN}};

	if (to_target.n == 0)
		pf[0].events |= POLLIN;
	if (from_target.n > 0)
		pf[0].events |= POLLOUT;
	else
		pf[1].events |= POLLIN;
	/* A window that only reading can bring must be read. */
	if (to_target.n > 0)
		pf[1].events |= POLLIN;
	if ((ssh_get_poll_flags(g->ssh) & SSH_WRITE_PENDING) != 0)
		pf[1].events |= POLLOUT;
	if (pf[1].events == 0)
		pf[1].fd = -1;
	if (poll(pf, 3, -1) < 0 && errno != EINTR)
		return SP_ERR_IO;
	/* The broker has nothing to say to a hop but its end. */
	if (pf[2].revents != 0)
		return SP_ERR_EOF;
	if (pf[1].revents != 0 && ssh_event_dopoll(g->event, 0) == SSH_ERROR)
		return SP_ERR_IO;
	return SP_OK;
}

static bool
is_gone(struct sp_egress *g)
{
	return ssh_is_connected(g->ssh) == 0 ||
	    (ssh_get_status(g->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
}

/* One turn; SP_ERR_EOF: an end that is no fault of the hop's. */
static enum sp_err
turn(struct sp_egress *g)
{
	enum sp_err e;

	g->progress = false;
	SP_TRY(fill(g));
	SP_TRY(forward(g));
	e = drain(g);
	SP_TRY(hand_on(g));
	if (e != SP_OK)
		return e;
	if (is_gone(g) && from_target.n == 0)
		return SP_ERR_IO;
	return g->progress ? SP_OK : sleep_until_ready(g);
}

/* Says why before the next leg sees its end, so that the session ends with the
 * true reason. */
static void
last_words(struct sp_egress *g)
{
	struct pollfd pf = {.fd = g->broker.fd, .events = POLLIN};
	int64_t end = sp_boot_us() + LAST_WORDS_MS * 1000;

	sp_egress_failed(g, SP_EGR_TRANSPORT, "the connection to it has ended");
	while (sp_boot_us() < end && poll(&pf, 1, LAST_WORDS_MS) < 0 &&
	    errno == EINTR)
		continue;
}

int
sp_hop_relay(struct sp_egress *g)
{
	enum sp_err e;

	if ((g->event = ssh_event_new()) == NULL ||
	    ssh_event_add_session(g->event, g->ssh) != SSH_OK)
		return 1;
	do
		e = turn(g);
	while (e == SP_OK);
	if (e != SP_ERR_EOF)
		last_words(g);
	if (!is_gone(g))
		ssh_disconnect(g->ssh);
	return 0;
}
