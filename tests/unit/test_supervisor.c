/* SPDX-License-Identifier: Apache-2.0 */
/* The whole sallyportd, with puppets for roles: this process speaks for them. */
#include "tests/unit/test_sup_rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

/* --------------------------------------------------------------- start */

Test(supervisor, starts_in_order_with_four_descriptors)
{
	char pidfile[256];
	struct stat st;
	int err, status;
	char said[512] = "";
	pid_t second;

	rig_up("");
	for (int i = 0; i < N_ROLES; i++) {
		cr_expect_str_eq(rig.p[i].g.open_fds, "0 1 2 3", "%s: %s",
		    names[i], rig.p[i].g.open_fds);
		cr_expect(rig.p[i].g.nulls);
	}
	snprintf(pidfile, sizeof(pidfile), "%s/run/sallyportd.pid", rig.inst);
	cr_expect_eq(stat(pidfile, &st), 0);
	second = run_sallyportd(&err);
	status = wait_end(second);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	cr_expect_gt(read(err, said, sizeof(said) - 1), 0);
	cr_expect_not_null(strstr(said, "runs already, as process"));
	close(err);
	rig_down();
	cr_expect_neq(stat(pidfile, &st), 0);
}

Test(supervisor, other_build_ends_the_start)
{
	char said[1024] = "";
	struct puppet p;
	int status;

	rig_make("");
	rig.pid = run_sallyportd(&rig.err);
	p = next_puppet();
	say_hello(&p, VLT, true);
	status = wait_end(rig.pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	cr_expect_gt(read(rig.err, said, sizeof(said) - 1), 0);
	cr_expect_not_null(strstr(said, "of another build"), "%s", said);
	puppet_down(&p);
	rig.pid = 0;
	rig_down();
}

Test(supervisor, dying_role_ends_the_start)
{
	struct puppet p;
	int status;

	rig_make("");
	rig.pid = run_sallyportd(&rig.err);
	p = next_puppet();
	tell(&p, 'x', 3);
	status = wait_end(rig.pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	close(p.ctl);
	close(p.link.fd);
	rig.pid = 0;
	rig_down();
}

Test(supervisor, restarts_with_back_off)
{
	int64_t t;

	rig_up("");
	for (int i = 0; i < 3; i++) {
		t = sp_boot_us();
		tell(&rig.p[VLT], 'x', 1);
		puppet_down(&rig.p[VLT]);
		role_up(VLT);
		cr_expect_geq(sp_boot_us() - t, 90000LL << i);
		expect_drop(&rig.p[VLT].link, SP_MSG_peer_link);
		expect_drop(&rig.p[VLT].link, SP_MSG_peer_link);
		expect_drop(&rig.p[NTY].link, SP_MSG_peer_link);
		expect_drop(&rig.p[BRK].link, SP_MSG_peer_link);
	}
	rig_down();
}

Test(supervisor, who_breaks_the_protocol_is_killed_and_reported)
{
	struct sp_msg_conn_kill m = {.conn = 1};
	struct sp_packet k;
	struct sp_msg_security_event ev;

	rig_up("");
	cr_assert_eq(sp_send_conn_kill(&rig.p[REC].link, 0, &m, NULL), SP_OK);
	expect(&rig.p[BRK].link, SP_MSG_security_event, &k);
	cr_assert_eq(sp_dec_security_event(k.body, &ev), SP_OK);
	cr_expect(sp_span_is(ev.what, "role_broke_protocol"));
	puppet_down(&rig.p[REC]);
	role_up(REC);
	rig_down();
}

/* --------------------------------------------------------- connections */

static uint64_t
expect_spawn_from(const char *addr)
{
	struct sp_msg_spawn_ingress m;
	struct sp_packet k;

	expect_drop(&rig.p[VLT].link, SP_MSG_ingress_link);
	expect(&rig.p[ING].link, SP_MSG_spawn_ingress, &k);
	cr_assert_eq(sp_dec_spawn_ingress(k.body, &m), SP_OK);
	cr_expect(sp_span_is(m.peer_addr, addr));
	cr_expect_eq(m.proxied, 0);
	sp_packet_close_fds(&k);
	return m.id;
}

static uint64_t
take_spawn_ingress(void)
{
	return expect_spawn_from("127.0.0.1");
}

Test(supervisor, connection_reaches_ingress_and_broker)
{
	struct sp_msg_conn_new n;
	struct sp_msg_conn_end e;
	struct sp_packet k;
	uint64_t id;
	int fd;

	rig_up("");
	fd = dial_in();
	id = take_spawn_ingress();
	say_spawned(ING, id, 12345);
	expect(&rig.p[BRK].link, SP_MSG_conn_new, &k);
	cr_assert_eq(sp_dec_conn_new(k.body, &n), SP_OK);
	cr_expect_eq(n.conn, id);
	cr_expect_eq(n.local_port, rig.port);
	sp_packet_close_fds(&k);
	cr_expect(is_closed(fd), "nobody holds it any more");
	say_exited(ING, id, 12345, 0);
	expect(&rig.p[BRK].link, SP_MSG_conn_end, &k);
	cr_assert_eq(sp_dec_conn_end(k.body, &e), SP_OK);
	cr_expect_eq(e.conn, id);
	close(fd);
	rig_down();
}

/* What a connection asks while there is no vault is heard by the next one, and a
 * vault's death does not end the link. */
Test(supervisor, connections_keep_their_link_to_whatever_vault)
{
	struct sp_msg_spawn_ingress m;
	struct sp_packet k;
	char said[4] = "";
	int fd[2], own[2];

	rig_up("");
	for (int i = 0; i < 2; i++) {
		if (i == 1)
			puppet_down(&rig.p[VLT]);
		fd[i] = dial_in();
		if (i == 0)
			expect_drop(&rig.p[VLT].link, SP_MSG_ingress_link);
		expect(&rig.p[ING].link, SP_MSG_spawn_ingress, &k);
		cr_assert_eq(sp_dec_spawn_ingress(k.body, &m), SP_OK);
		cr_assert_eq(k.n_fds, 3);
		own[i] = fcntl(k.fds[2], F_DUPFD_CLOEXEC, 3);
		sp_packet_close_fds(&k);
		say_spawned(ING, m.id, 12345 + (uint32_t)i);
		cr_assert_eq(send(own[i], i == 0 ? "one" : "two", 3, MSG_NOSIGNAL), 3);
	}
	role_up(VLT);
	expect_drop(&rig.p[VLT].link, SP_MSG_peer_link);
	expect_drop(&rig.p[VLT].link, SP_MSG_peer_link);
	for (int i = 0; i < 2; i++) {
		expect(&rig.p[VLT].link, SP_MSG_ingress_link, &k);
		cr_assert_eq(k.n_fds, 1);
		cr_assert_eq(recv(k.fds[0], said, 3, 0), 3);
		cr_assert_eq(send(k.fds[0], said, 3, MSG_NOSIGNAL), 3);
		sp_packet_close_fds(&k);
	}
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(recv(own[i], said, 3, 0), 3);
		cr_expect_str_eq(said, i == 0 ? "one" : "two");
		close(own[i]);
		close(fd[i]);
	}
	rig_down();
}

Test(supervisor, caps_hold)
{
	struct sp_msg_conn_authed a = {0};
	struct sp_packet k;
	uint64_t id;
	int fd[4];

	rig_up("max_startups 2\nmax_per_source 3\n");
	fd[0] = dial_in();
	id = take_spawn_ingress();
	say_spawned(ING, id, 12345);
	expect_drop(&rig.p[BRK].link, SP_MSG_conn_new);
	fd[1] = dial_in();
	take_spawn_ingress();
	fd[2] = dial_in();		/* a third start-up */
	cr_expect(is_closed(fd[2]));
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	a.conn = id;
	cr_assert_eq(sp_send_conn_authed(&rig.p[BRK].link, 0, &a, NULL), SP_OK);
	/* The answer to a request behind it says that it was seen. */
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 7,
	    &(struct sp_msg_recover){.session = {1}}, NULL), SP_OK);
	expect(&rig.p[BRK].link, SP_MSG_spawn_failed, &k);
	fd[3] = dial_in();
	take_spawn_ingress();
	close(fd[2]);
	fd[2] = dial_in();		/* a fourth of one source */
	cr_expect(is_closed(fd[2]));
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	rig_down();
}

/* The others are left half a second before one of them is ended. */
static int
dial_until_in(const char *addr)
{
	for (;;) {
		int fd = dial_from(addr);
		struct pollfd pf[2] = {{.fd = fd, .events = POLLIN},
		    {.fd = rig.p[ING].link.fd, .events = POLLIN}};

		cr_assert_geq(poll(pf, 2, LONG_MS), 1);
		if (pf[0].revents == 0)
			return fd;
		close(fd);
	}
}

/* Too many who have not logged in: of the source that has most of them, the
 * oldest whose key is not accepted yet makes room for somebody else. */
Test(supervisor, a_flood_does_not_shut_the_door)
{
	struct sp_msg_conn_keyed keyed = {0};
	uint64_t id[3];
	int32_t pid[3];
	int fd[4];

	rig_up("max_startups 3\n");
	for (int i = 0; i < 3; i++) {
		fd[i] = dial_in();
		id[i] = take_spawn_ingress();
		pid[i] = tell(&rig.p[ING], 'f', 0);
		say_spawned(ING, id[i], (uint32_t)pid[i]);
		expect_drop(&rig.p[BRK].link, SP_MSG_conn_new);
	}
	keyed.conn = id[0];
	cr_assert_eq(sp_send_conn_keyed(&rig.p[BRK].link, 0, &keyed, NULL), SP_OK);
	/* One more of the same source ends nobody but itself. */
	fd[3] = dial_in();
	cr_expect(is_closed(fd[3]));
	close(fd[3]);
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	fd[3] = dial_until_in("127.0.0.9");
	expect_spawn_from("127.0.0.9");
	cr_expect_eq(tell(&rig.p[ING], 'w', 0), SIGKILL);
	say_exited(ING, id[1], (uint32_t)pid[1], SIGKILL);
	cr_expect_eq(kill(pid[0], 0), 0, "keyed");
	cr_expect_neq(kill(pid[1], 0), 0, "the oldest that was not");
	cr_expect_eq(kill(pid[2], 0), 0);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	rig_down();
}

/* A proxy is no source; its clients are. */
Test(supervisor, sources_behind_a_proxy)
{
	struct sp_msg_spawn_ingress m;
	struct sp_msg_conn_new n;
	struct sp_msg_conn_source src = {.peer_addr = sp_span_str("192.0.2.7")};
	struct sp_packet k;
	uint64_t id[3];
	int32_t pid[3];
	int fd[4];

	rig_up("max_per_source 2\nproxy_peers 127.0.0.8/30\n");
	for (int i = 0; i < 3; i++) {
		fd[i] = dial_from("127.0.0.9");
		expect_drop(&rig.p[VLT].link, SP_MSG_ingress_link);
		expect(&rig.p[ING].link, SP_MSG_spawn_ingress, &k);
		cr_assert_eq(sp_dec_spawn_ingress(k.body, &m), SP_OK);
		cr_expect_eq(m.proxied, 1);
		id[i] = m.id;
		sp_packet_close_fds(&k);
		pid[i] = tell(&rig.p[ING], 'f', 0);
		say_spawned(ING, id[i], (uint32_t)pid[i]);
		expect(&rig.p[BRK].link, SP_MSG_conn_new, &k);
		cr_assert_eq(sp_dec_conn_new(k.body, &n), SP_OK);
		cr_expect_eq(n.proxied, 1);
		sp_packet_close_fds(&k);
	}
	for (int i = 0; i < 3; i++) {
		src.conn = id[i];
		cr_assert_eq(sp_send_conn_source(&rig.p[BRK].link, 0, &src, NULL),
		    SP_OK);
	}
	/* The third of that source is over the cap. */
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	cr_expect_eq(tell(&rig.p[ING], 'w', 0), SIGKILL);
	say_exited(ING, id[2], (uint32_t)pid[2], SIGKILL);
	cr_expect_eq(kill(pid[0], 0), 0);
	cr_expect_eq(kill(pid[1], 0), 0);
	cr_expect_neq(kill(pid[2], 0), 0);
	/* Who is not listed is its own source. */
	fd[3] = dial_in();
	take_spawn_ingress();
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	rig_down();
}

/* ------------------------------------------------------------ sessions */

static uint64_t
begin_session(const uint8_t *sid, uint32_t pid)
{
	struct sp_msg_session_spawn m;
	struct sp_msg_spawn_recorder r;
	struct sp_packet k;

	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_session_spawn(&rig.p[BRK].link, 77, &m, NULL), SP_OK);
	expect(&rig.p[REC].link, SP_MSG_spawn_recorder, &k);
	cr_assert_eq(sp_dec_spawn_recorder(k.body, &r), SP_OK);
	cr_expect_arr_eq(r.session, sid, 16);
	sp_packet_close_fds(&k);
	say_spawned(REC, r.id, pid);
	expect(&rig.p[BRK].link, SP_MSG_session_spawned, &k);
	cr_expect_eq(k.corr, 77);
	sp_packet_close_fds(&k);
	return r.id;
}

static int
target(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 4), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void
ask_leg(const uint8_t *sid, struct sp_msg_session_dial m)
{
	m.deadline_ms = 3000;
	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_session_dial(&rig.p[BRK].link, 78, &m, NULL), SP_OK);
}

static void
ask_dial(const uint8_t *sid, const char *addr, uint16_t port)
{
	struct sp_msg_session_dial m = {.addr = sp_span_str(addr), .port = port};

	memcpy(m.leg, sid, 16);
	ask_leg(sid, m);
}

static void
expect_child_end(uint16_t role, uint32_t status)
{
	struct sp_msg_session_child_end m;
	struct sp_packet k;

	expect(&rig.p[BRK].link, SP_MSG_session_child_end, &k);
	cr_assert_eq(sp_dec_session_child_end(k.body, &m), SP_OK);
	cr_expect_eq(m.role, role);
	cr_expect_eq(m.status, status);
}

static int
expect_failed(uint64_t corr)
{
	struct sp_msg_spawn_failed m;
	struct sp_packet k;

	expect(&rig.p[BRK].link, SP_MSG_spawn_failed, &k);
	cr_assert_eq(sp_dec_spawn_failed(k.body, &m), SP_OK);
	cr_expect_eq(k.corr, corr);
	return (int)m.err_no;
}

Test(supervisor, session_from_file_to_rename)
{
	const uint8_t sid[16] = {0xab, 1, 2, 3};
	struct sp_msg_spawn_egress e;
	struct sp_packet k;
	struct stat st;
	uint16_t port;
	uint64_t rec;
	char c = 0;
	int lst, in;

	rig_up("");
	lst = target(&port);
	rec = begin_session(sid, 4242);
	cr_assert(has_file(sid, "open", &st));
	cr_expect_eq(st.st_mode & 07777, 0600U);
	ask_dial(sid, "127.0.0.1", port);
	expect(&rig.p[EGR].link, SP_MSG_spawn_egress, &k);
	cr_assert_eq(sp_dec_spawn_egress(k.body, &e), SP_OK);
	in = accept4(lst, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(in, 0);
	cr_expect_eq(write(k.fds[0], "x", 1), 1);
	cr_expect_eq(read(in, &c, 1), 1);
	cr_expect_eq(c, 'x');
	sp_packet_close_fds(&k);
	expect_drop(&rig.p[VLT].link, SP_MSG_egress_link);
	say_spawned(EGR, e.id, 4243);
	expect(&rig.p[BRK].link, SP_MSG_session_dialed, &k);
	cr_expect_eq(k.corr, 78);
	sp_packet_close_fds(&k);
	ask_dial(sid, "127.0.0.1", port);	/* one target a session */
	cr_expect_eq(expect_failed(78), ENOTCONN);
	say_exited(EGR, e.id, 4243, 0);
	expect_child_end(SP_ROLE_EGR, 0);
	say_exited(REC, rec, 4242, 0);
	expect_child_end(SP_ROLE_REC, 0);
	cr_expect(has_file(sid, "spr", &st));
	cr_expect_not(has_file(sid, "open", &st));
	close(in);
	close(lst);
	rig_down();
}

/* What follows a dial; gives the egress's number and its five descriptors. */
static uint64_t
take_egress(const uint8_t *leg, uint32_t pid, struct sp_packet *k)
{
	struct sp_msg_session_dialed d;
	struct sp_msg_spawn_egress e;
	struct sp_packet r;

	expect(&rig.p[EGR].link, SP_MSG_spawn_egress, k);
	cr_assert_eq(sp_dec_spawn_egress(k->body, &e), SP_OK);
	cr_expect_arr_eq(e.session, leg, 16);
	expect_drop(&rig.p[VLT].link, SP_MSG_egress_link);
	say_spawned(EGR, e.id, pid);
	expect(&rig.p[BRK].link, SP_MSG_session_dialed, &r);
	cr_assert_eq(sp_dec_session_dialed(r.body, &d), SP_OK);
	cr_expect_arr_eq(d.leg, leg, 16);
	sp_packet_close_fds(&r);
	return e.id;
}

static bool
are_joined(int a, int b)
{
	char c = 0;

	return write(a, "j", 1) == 1 && read(b, &c, 1) == 1 && c == 'j';
}

Test(supervisor, a_target_behind_a_hop)
{
	const uint8_t sid[16] = {0xab, 7}, hop[16] = {0xcd, 1};
	struct sp_msg_session_dial m = {.addr = sp_span_str("127.0.0.1")};
	struct sp_packet k, in;
	uint64_t rec, h, own;
	int lst;

	rig_up("");
	lst = target(&m.port);
	rec = begin_session(sid, 4242);
	memcpy(m.leg, hop, 16);
	ask_leg(sid, m);
	h = take_egress(hop, 4243, &k);
	ask_leg(sid, m);		/* the same hop twice */
	cr_expect_eq(expect_failed(78), ENOTCONN);
	memcpy(m.leg, sid, 16);
	m.via[0] = 0xee;		/* no such way */
	ask_leg(sid, m);
	cr_expect_eq(expect_failed(78), ENOTCONN);
	memcpy(m.via, hop, 16);
	ask_leg(sid, m);
	own = take_egress(sid, 4244, &in);
	/* The hop's second descriptor and the inner one's "connected socket". */
	cr_expect(are_joined(k.fds[1], in.fds[0]));
	cr_expect(are_joined(in.fds[0], k.fds[1]));
	ask_leg(sid, m);		/* one egress a session */
	cr_expect_eq(expect_failed(78), ENOTCONN);
	sp_packet_close_fds(&k);
	sp_packet_close_fds(&in);
	say_exited(EGR, h, 4243, 0);
	expect_child_end(SP_ROLE_EGR, 0);
	say_exited(EGR, own, 4244, 0);
	expect_child_end(SP_ROLE_EGR, 0);
	say_exited(REC, rec, 4242, 0);
	expect_child_end(SP_ROLE_REC, 0);
	close(lst);
	rig_down();
}

/* With `more` the recorder's stream outlives an egress that failed, until the
 * session is settled. */
Test(supervisor, another_address_after_a_failed_one)
{
	const uint8_t sid[16] = {0xab, 8};
	struct sp_msg_session_dial m = {.addr = sp_span_str("127.0.0.1"), .more = 1};
	struct sp_msg_session_settled settled;
	struct sp_packet k;
	uint64_t rec, e;
	int lst;

	rig_up("");
	lst = target(&m.port);
	rec = begin_session(sid, 4242);
	memcpy(m.leg, sid, 16);
	memcpy(settled.session, sid, 16);
	ask_leg(sid, m);
	e = take_egress(sid, 4243, &k);
	sp_packet_close_fds(&k);
	ask_leg(sid, m);		/* not while the first one lives */
	cr_expect_eq(expect_failed(78), ENOTCONN);
	say_exited(EGR, e, 4243, 0);
	expect_child_end(SP_ROLE_EGR, 0);
	ask_leg(sid, m);
	e = take_egress(sid, 4244, &k);
	sp_packet_close_fds(&k);
	cr_assert_eq(sp_send_session_settled(&rig.p[BRK].link, 0, &settled, NULL),
	    SP_OK);
	say_exited(EGR, e, 4244, 0);
	expect_child_end(SP_ROLE_EGR, 0);
	ask_leg(sid, m);
	cr_expect_eq(expect_failed(78), ENOTCONN);
	say_exited(REC, rec, 4242, 0);
	expect_child_end(SP_ROLE_REC, 0);
	close(lst);
	rig_down();
}

Test(supervisor, a_recorder_killed_before_its_first_word_leaves_no_file)
{
	const uint8_t sid[16] = {0xac, 10};
	struct stat st;
	uint64_t rec;

	rig_up("");
	rec = begin_session(sid, 4242);
	cr_assert(has_file(sid, "open", &st) && st.st_size == 0);
	say_exited(REC, rec, 4242, SIGKILL);
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	expect_child_end(SP_ROLE_REC, SIGKILL);
	cr_expect(!has_file(sid, "open", &st));
	cr_expect(!has_file(sid, "spr", &st));
	rig_down();
}

Test(supervisor, dead_recorder_leaves_its_file_and_a_fresh_parent_follows)
{
	const uint8_t sid[16] = {0xac, 9};
	struct sp_msg_recover m;
	struct sp_msg_spawn_recover r;
	struct sp_packet k;
	struct stat st;
	uint64_t rec;

	rig_up("");
	rec = begin_session(sid, 4242);
	write_recording(sid);
	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 5, &m, NULL), SP_OK);
	cr_expect_eq(expect_failed(5), EBUSY);
	say_exited(REC, rec, 4242, SIGSEGV);
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	expect_child_end(SP_ROLE_REC, SIGSEGV);
	expect_drop(&rig.p[BRK].link, SP_MSG_open_file);	/* nothing was dialled */
	cr_expect(has_file(sid, "open", &st));
	expect_drop(&rig.p[REC].link, SP_MSG_stop);
	/* Asked before the fresh parent has started: it waits for it. */
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 6, &m, NULL), SP_OK);
	puppet_down(&rig.p[REC]);
	role_up(REC);
	expect(&rig.p[REC].link, SP_MSG_spawn_recover, &k);
	cr_assert_eq(sp_dec_spawn_recover(k.body, &r), SP_OK);
	sp_packet_close_fds(&k);
	say_spawned(REC, r.id, 4300);
	expect_drop(&rig.p[BRK].link, SP_MSG_recover_spawned);
	say_exited(REC, r.id, 4300, 0);
	expect_child_end(SP_ROLE_REC, 0);
	cr_expect(has_file(sid, "spr", &st));
	/* A whole one is read again and keeps its name. */
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 8, &m, NULL), SP_OK);
	expect(&rig.p[REC].link, SP_MSG_spawn_recover, &k);
	cr_assert_eq(sp_dec_spawn_recover(k.body, &r), SP_OK);
	cr_expect_eq(fcntl(k.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	sp_packet_close_fds(&k);
	say_spawned(REC, r.id, 4301);
	expect_drop(&rig.p[BRK].link, SP_MSG_recover_spawned);
	say_exited(REC, r.id, 4301, 0);
	expect_child_end(SP_ROLE_REC, 0);
	cr_expect(has_file(sid, "spr", &st));
	rig_down();
}

Test(supervisor, kill_reaches_only_children_of_that_parent)
{
	const uint8_t sid[16] = {0xad}, other[16] = {0xae};
	struct sp_msg_session_kill m;
	uint64_t rec;
	int32_t pid, status;
	pid_t bystander;
	struct sp_msg_security_event ev;
	struct sp_packet k;

	rig_up("");
	pid = tell(&rig.p[REC], 'f', 0);
	cr_assert_gt(pid, 1);
	rec = begin_session(sid, (uint32_t)pid);
	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_session_kill(&rig.p[BRK].link, 0, &m, NULL), SP_OK);
	status = tell(&rig.p[REC], 'w', 0);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	say_exited(REC, rec, (uint32_t)pid, (uint32_t)status);
	expect_child_end(SP_ROLE_REC, SIGKILL);	/* and no stop: it was us */

	/* A captured parent names a process that is not its child. */
	bystander = fork();
	if (bystander == 0) {
		become_nobody();
		for (;;)
			pause();
	}
	begin_session(other, (uint32_t)bystander);
	memcpy(m.session, other, 16);
	cr_assert_eq(sp_send_session_kill(&rig.p[BRK].link, 0, &m, NULL), SP_OK);
	expect(&rig.p[BRK].link, SP_MSG_security_event, &k);
	cr_assert_eq(sp_dec_security_event(k.body, &ev), SP_OK);
	cr_expect(sp_span_is(ev.what, "role_died"), "the parent pays");
	expect(&rig.p[BRK].link, SP_MSG_session_child_end, &k);
	cr_expect_eq(waitpid(bystander, &status, WNOHANG), 0);
	kill(bystander, SIGKILL);
	waitpid(bystander, &status, 0);
	puppet_down(&rig.p[REC]);
	role_up(REC);
	rig_down();
}

Test(supervisor, a_conversation_gets_its_link)
{
	struct sp_msg_auth_spawn m = {.login = 99};
	struct sp_msg_auth_spawned a;
	struct sp_msg_spawn_auth s;
	struct sp_packet c, k;

	rig_up("");
	cr_assert_eq(sp_send_auth_spawn(&rig.p[BRK].link, 4, &m, NULL), SP_OK);
	expect(&rig.p[AUT].link, SP_MSG_spawn_auth, &c);
	cr_assert_eq(sp_dec_spawn_auth(c.body, &s), SP_OK);
	say_spawned(AUT, s.id, 777);
	expect(&rig.p[BRK].link, SP_MSG_auth_spawned, &k);
	cr_assert_eq(sp_dec_auth_spawned(k.body, &a), SP_OK);
	cr_expect_eq(a.login, 99);
	cr_expect_eq(k.corr, 4);
	cr_expect_eq(write(c.fds[0], "x", 1), 1);
	cr_expect_eq(read(k.fds[0], &(char){0}, 1), 1);
	sp_packet_close_fds(&c);
	sp_packet_close_fds(&k);
	say_exited(AUT, s.id, 777, 0);
	rig_down();
}

/* Whatever the module did there: nobody gets that address layout again. */
Test(supervisor, a_crashed_conversation_costs_its_parent)
{
	struct sp_msg_auth_spawn m = {.login = 5};
	struct sp_msg_spawn_auth s;
	struct sp_packet c, k;

	rig_up("");
	cr_assert_eq(sp_send_auth_spawn(&rig.p[BRK].link, 4, &m, NULL), SP_OK);
	expect(&rig.p[AUT].link, SP_MSG_spawn_auth, &c);
	cr_assert_eq(sp_dec_spawn_auth(c.body, &s), SP_OK);
	sp_packet_close_fds(&c);
	say_spawned(AUT, s.id, 778);
	expect(&rig.p[BRK].link, SP_MSG_auth_spawned, &k);
	sp_packet_close_fds(&k);
	say_exited(AUT, s.id, 778, SIGSEGV);
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	expect_drop(&rig.p[AUT].link, SP_MSG_stop);
	puppet_down(&rig.p[AUT]);
	role_up(AUT);
	rig_down();
}

Test(supervisor, stop_ends_sessions_before_roles)
{
	const uint8_t sid[16] = {0xaf};
	struct sp_packet k;
	uint64_t rec;

	rig_up("");
	rec = begin_session(sid, 4242);
	kill(rig.pid, SIGTERM);
	expect_drop(&rig.p[BRK].link, SP_MSG_stop);
	cr_expect_eq(sp_link_recv(&rig.p[REC].link, &k), SP_ERR_AGAIN);
	say_exited(REC, rec, 4242, 0);
	expect_drop(&rig.p[REC].link, SP_MSG_stop);
	rig_down();
}

/* ----------------------------------------------------------- descriptors */

/* 192 descriptors at most: a leak on any of these paths would end it. */
Test(supervisor, thousand_failures_leak_nothing, .timeout = 120)
{
	uint8_t sid[16] = {0xb0};
	struct sp_msg_recover rcv = {.session = {0xff}};
	struct sp_msg_play_spawn ply = {.play = 3, .session = {0xff}};
	struct sp_msg_scan_key scan = {.id = 4, .addr = sp_span_str("127.0.0.1"),
	    .deadline_ms = 500};
	struct sp_msg_session_spawn sp;
	struct sp_msg_spawn_recorder r;
	struct sp_packet k;
	uint16_t port;
	uint64_t rec;

	rig_up("");
	close(target(&port));	/* nobody listens there now */
	scan.port = port;
	rec = begin_session(sid, 4242);
	for (int i = 0; i < 1000; i++) {
		ask_dial(sid, i % 2 ? "127.0.0.1" : "core-01", port);
		cr_assert_eq(expect_failed(78), i % 2 ? ECONNREFUSED : EINVAL);
		cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 1, &rcv, NULL), SP_OK);
		cr_assert_eq(expect_failed(1), ENOENT);
		cr_assert_eq(sp_send_play_spawn(&rig.p[BRK].link, 2, &ply, NULL),
		    SP_OK);
		cr_assert_eq(expect_failed(2), ENOENT);
		cr_assert_eq(sp_send_scan_key(&rig.p[BRK].link, 3, &scan, NULL),
		    SP_OK);
		cr_assert_eq(expect_failed(3), ECONNREFUSED);
		memset(sp.session, 0xc0, 16);
		cr_assert_eq(sp_send_session_spawn(&rig.p[BRK].link, 9, &sp, NULL),
		    SP_OK);
		expect(&rig.p[REC].link, SP_MSG_spawn_recorder, &k);
		cr_assert_eq(sp_dec_spawn_recorder(k.body, &r), SP_OK);
		sp_packet_close_fds(&k);
		say_exited(REC, r.id, 0, 1U << 8);	/* its fork failed */
		cr_assert_eq(expect_failed(9), EAGAIN);
	}
	say_exited(REC, rec, 4242, 0);
	expect_child_end(SP_ROLE_REC, 0);
	begin_session(sp.session, 4250);
	rig_down();
}
