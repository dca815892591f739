/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/link.c */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ipc.h"

static struct sp_link broker, sup;	/* a broker and its supervisor */
static int fds_before;

static int
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	cr_assert(d != NULL);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void
pair(void)
{
	int fds[2];

	fds_before = count_fds();
	cr_assert(sp_link_pair(fds) == SP_OK);
	cr_assert(sp_link_init(&broker, fds[0], SP_ROLE_BRK, SP_ROLE_SUP,
	    SP_ST_READY) == SP_OK);
	cr_assert(sp_link_init(&sup, fds[1], SP_ROLE_SUP, SP_ROLE_BRK,
	    SP_ST_READY) == SP_OK);
}

/* Whatever a test did, every descriptor is closed again. */
static void
unpair(void)
{
	sp_link_fini(&broker);
	sp_link_fini(&sup);
	cr_assert(count_fds() == fds_before, "%d descriptors more",
	    count_fds() - fds_before);
}

static int
open_null(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert(fd >= 0);
	return fd;
}

/* A raw packet, as a hostile sibling could send it. */
static void
raw(int fd, uint16_t type, uint16_t said_fds, uint32_t said_len,
    const void *body, size_t n, int real_fds)
{
	static uint8_t bytes[200000];
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * 32)];
	} c = {0};
	struct iovec iov = {.iov_base = bytes, .iov_len = 16 + n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	int size = 400000;

	memset(bytes, 0, 16);
	bytes[0] = (uint8_t)type;
	bytes[1] = (uint8_t)(type >> 8);
	bytes[2] = (uint8_t)said_fds;
	for (int i = 0; i < 4; i++)
		bytes[4 + i] = (uint8_t)(said_len >> (8 * i));
	if (n > 0)
		memcpy(bytes + 16, body, n);
	if (real_fds > 0) {
		struct cmsghdr *h;
		int null = open_null();

		mh.msg_control = c.room;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)real_fds);
		h = CMSG_FIRSTHDR(&mh);
		cr_assert(h != NULL);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)real_fds);
		for (int i = 0; i < real_fds; i++)
			memcpy(CMSG_DATA(h) + (size_t)i * sizeof(int), &null,
			    sizeof(null));
		cr_assert(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size,
		    sizeof(size)) == 0);
		cr_assert(sendmsg(fd, &mh, 0) == (ssize_t)iov.iov_len);
		close(null);
		return;
	}
	cr_assert(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	cr_assert(sendmsg(fd, &mh, 0) == (ssize_t)iov.iov_len);
}

static void
refused(const char *why)
{
	struct sp_packet p;

	cr_assert(sp_link_recv(&broker, &p) == SP_ERR_PROTO);
	cr_assert(strstr(broker.fault, why) != NULL, "%s", broker.fault);
	cr_assert(strncmp(broker.fault, "supervisor sent ", 16) == 0);
	cr_assert(p.n_fds == 0);
}

Test(link, a_message_arrives_with_its_descriptors, .init = pair, .fini = unpair)
{
	struct sp_msg_session_spawned m = {0}, r;
	struct stat a, b;
	struct sp_packet p;
	int fds[2], pipefd[2];

	cr_assert(pipe2(pipefd, O_CLOEXEC) == 0);
	fds[0] = pipefd[0];
	fds[1] = pipefd[1];
	cr_assert(fstat(fds[0], &a) == 0);
	memset(m.session, 7, sizeof(m.session));
	cr_assert(sp_send_session_spawned(&sup, 0x1122334455667788ULL, &m, fds) ==
	    SP_OK);
	cr_assert(fcntl(fds[0], F_GETFD) < 0, "the sender's copies are closed");
	cr_assert(sp_link_recv(&broker, &p) == SP_OK);
	cr_assert(p.type == SP_MSG_session_spawned && p.n_fds == 2);
	cr_assert(p.corr == 0x1122334455667788ULL);
	cr_assert(sp_dec_session_spawned(p.body, &r) == SP_OK);
	cr_assert(memcmp(r.session, m.session, 16) == 0);
	cr_assert(fstat(p.fds[0], &b) == 0 && a.st_ino == b.st_ino);
	cr_assert((fcntl(p.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	sp_packet_close_fds(&p);
	cr_assert(p.n_fds == 0);
	cr_assert(sp_link_recv(&broker, &p) == SP_ERR_AGAIN);
}

Test(link, wrong_numbers_of_descriptors_are_refused, .init = pair, .fini = unpair)
{
	uint8_t body[64] = {0};

	raw(sup.fd, SP_MSG_conn_end, 0, 8, body, 8, 1);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_conn_end, 1, 8, body, 8, 1);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_session_spawned, 2, 16, body, 16, 1);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_session_spawned, 2, 16, body, 16, 0);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_session_spawned, 2, 16, body, 16, 3);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_session_spawned, 7, 16, body, 16, 7);
	refused("wrong number of descriptors");
	raw(sup.fd, SP_MSG_session_spawned, 2, 16, body, 16, 30);
	refused("larger than any message");
}

Test(link, broken_packets_are_refused, .init = pair, .fini = unpair)
{
	static uint8_t body[SP_IPC_BODY_MAX + 1];

	raw(sup.fd, SP_MSG_conn_end, 0, 9, body, 8, 0);
	refused("length does not match");
	raw(sup.fd, SP_MSG_conn_end, 0, 7, body, 8, 0);
	refused("length does not match");
	raw(sup.fd, SP_MSG_conn_end, 0, UINT32_MAX, body, 8, 0);
	refused("length does not match");
	raw(sup.fd, SP_MSG_conn_end, 0, sizeof(body), body, sizeof(body), 0);
	refused("larger than any message");
	raw(sup.fd, SP_MSG_conn_end, 0, sizeof(body), body, sizeof(body), 2);
	refused("larger than any message");
	cr_assert(send(sup.fd, body, 15, 0) == 15);
	refused("shorter than a header");
	raw(sup.fd, 0x7777, 0, 0, body, 0, 0);
	refused("no such message");
	raw(sup.fd, 0, 0, 0, body, 0, 1);
	refused("no such message");
}

Test(link, wrong_sender_receiver_and_state_are_refused, .init = pair,
    .fini = unpair)
{
	uint8_t body[64] = {0};

	raw(sup.fd, SP_MSG_auth_key, 0, 0, body, 0, 0);
	refused("not allowed now");
	raw(sup.fd, SP_MSG_start_vault, 3, 0, body, 0, 3);
	refused("not allowed now");
	broker.state = SP_ST_NEW;
	raw(sup.fd, SP_MSG_conn_new, 1, 0, body, 0, 1);
	refused("not allowed now");
	broker.state = SP_ST_READY;
	raw(sup.fd, SP_MSG_start_broker, 3, 0, body, 0, 3);
	refused("not allowed now");
}

Test(link, what_cannot_be_sent_closes_its_descriptors, .init = pair,
    .fini = unpair)
{
	static uint8_t body[SP_IPC_BODY_MAX + 1];
	struct sp_msg_start_auth m = {.config = sp_span_of(body, 40000)};
	int fd = open_null();

	cr_assert(sp_link_send(&sup, SP_MSG_conn_new, 0,
	    sp_span_of(body, sizeof(body)), &fd, 1) == SP_ERR_FULL);
	cr_assert(fcntl(fd, F_GETFD) < 0);
	fd = open_null();
	cr_assert(sp_send_start_auth(&sup, 0, &m, &fd) != SP_OK);
	cr_assert(fcntl(fd, F_GETFD) < 0);
	fd = open_null();
	cr_assert(sp_link_send(NULL, SP_MSG_conn_new, 0, sp_span_str(""), &fd, 1) ==
	    SP_ERR_EOF);
	cr_assert(fcntl(fd, F_GETFD) < 0);
	sp_link_fini(&broker);
	fd = open_null();
	cr_assert(sp_link_send(&sup, SP_MSG_conn_new, 0, sp_span_str(""), &fd, 1) ==
	    SP_ERR_EOF);
	sp_link_fini(&sup);
	fd = open_null();
	cr_assert(sp_link_send(&sup, SP_MSG_conn_new, 0, sp_span_str(""), &fd, 1) ==
	    SP_ERR_EOF);
	cr_assert(fcntl(fd, F_GETFD) < 0);
}

Test(link, a_slow_peer_gets_everything_in_order, .init = pair, .fini = unpair)
{
	static uint8_t fill[8192];
	uint64_t sent = 0, got = 0;
	struct sp_packet p;
	enum sp_err e;

	for (; sent < 300; sent++) {
		int fd = open_null();

		cr_assert(sp_link_send(&sup, SP_MSG_conn_new, sent,
		    sp_span_of(fill, sizeof(fill)), &fd, 1) == SP_OK);
	}
	cr_assert(sp_link_wants_write(&sup));
	while (got < sent) {
		e = sp_link_recv(&broker, &p);
		if (e == SP_ERR_AGAIN) {
			e = sp_link_flush(&sup);
			cr_assert(e == SP_OK || e == SP_ERR_AGAIN);
			continue;
		}
		cr_assert(e == SP_OK && p.corr == got && p.n_fds == 1);
		cr_assert(p.body.n == sizeof(fill));
		sp_packet_close_fds(&p);
		got++;
	}
	cr_assert(!sp_link_wants_write(&sup) && sup.tx_bytes == 0);
}

Test(link, a_peer_that_never_reads_is_full_in_the_end, .init = pair,
    .fini = unpair)
{
	static uint8_t fill[60000];
	enum sp_err e = SP_OK;
	size_t n = 0;

	for (; e == SP_OK && n < 1000; n++) {
		int fd = open_null();

		e = sp_link_send(&sup, SP_MSG_conn_new, n,
		    sp_span_of(fill, sizeof(fill)), &fd, 1);
		cr_assert(sup.tx_bytes <= SP_LINK_TX_MAX + sizeof(fill));
	}
	cr_assert(e == SP_ERR_FULL && n < 200);
}

Test(link, the_end_of_the_peer, .init = pair, .fini = unpair)
{
	struct sp_msg_conn_end m = {.conn = 5};
	struct sp_packet p;

	cr_assert(sp_send_conn_end(&sup, 1, &m, NULL) == SP_OK);
	sp_link_fini(&sup);
	cr_assert(sp_link_recv(&broker, &p) == SP_OK && p.type == SP_MSG_conn_end);
	cr_assert(sp_link_recv(&broker, &p) == SP_ERR_EOF);
	sp_link_fini(&broker);
	cr_assert(sp_link_recv(&broker, &p) == SP_ERR_EOF);
	cr_assert(sp_link_flush(&broker) == SP_ERR_EOF);
}

Test(link, waiting_ends_in_time, .init = pair, .fini = unpair)
{
	struct sp_msg_conn_end m = {.conn = 5};
	struct sp_packet p;
	int64_t before = sp_boot_us();

	cr_assert(sp_link_wait(&broker, &p, 20) == SP_ERR_TIMEOUT);
	cr_assert(sp_boot_us() - before >= 20000);
	cr_assert(sp_send_conn_end(&sup, 1, &m, NULL) == SP_OK);
	cr_assert(sp_link_wait(&broker, &p, 60000) == SP_OK);
	sp_link_fini(&sup);
	cr_assert(sp_link_wait(&broker, &p, 60000) == SP_ERR_EOF);
}

Test(link, descriptors_are_non_blocking_and_close_on_exec, .init = pair,
    .fini = unpair)
{
	cr_assert((fcntl(broker.fd, F_GETFL) & O_NONBLOCK) != 0);
	cr_assert((fcntl(broker.fd, F_GETFD) & FD_CLOEXEC) != 0);
}

/* What waits on no link is in no memory, and a thousand quiet links cost nothing. */
Test(link, a_quiet_link_has_no_buffer, .init = pair, .fini = unpair)
{
	const uint8_t *was;
	struct sp_packet p;
	struct sp_span secret = sp_span_str("a secret in a body");
	uint8_t zeros[32] = {0};

	cr_assert_eq(sp_link_recv(&broker, &p), SP_ERR_AGAIN);
	cr_assert_null(broker.rx);
	raw(sup.fd, SP_MSG_conn_end, 0, (uint32_t)secret.n, secret.p,
	    secret.n, 0);
	cr_assert_eq(sp_link_recv(&broker, &p), SP_OK);
	was = p.body.p;
	cr_assert(memcmp(was, secret.p, secret.n) == 0);
	cr_assert_eq(sp_link_recv(&broker, &p), SP_ERR_AGAIN);
	cr_assert_null(broker.rx);
	/* The one that it had goes to whom the next packet comes, wiped. */
	cr_assert(memcmp(was, zeros, secret.n) == 0);
	raw(broker.fd, SP_MSG_conn_kill, 0, 8, zeros, 8, 0);
	cr_assert_eq(sp_link_recv(&sup, &p), SP_OK);
	cr_assert(sup.rx != NULL && was == sup.rx + 16);
	cr_assert_null(broker.rx);
}
