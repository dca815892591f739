/* SPDX-License-Identifier: Apache-2.0 */
/* The whole sallyportd, with puppets for roles: this process speaks for them. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc.h"

#define LONG_MS 20000
#define NOBODY 65534	/* as root, everything runs as who owns the instance */

enum { VLT, BRK, REC, EGR, PLY, ING, N_ROLES };
static const char *const names[N_ROLES] = {"sallyport-vault",
    "sallyport-broker", "sallyport-recorder", "sallyport-egress",
    "sallyport-player", "sallyport-ingress"};
static const uint32_t roles[N_ROLES] = {SP_ROLE_VLT, SP_ROLE_BRK, SP_ROLE_REC,
    SP_ROLE_EGR, SP_ROLE_PLY, SP_ROLE_ING};

struct greeting {
	char role[64];
	char open_fds[256];
	int32_t pid, nulls, n_env;
};
struct puppet {
	int ctl;
	struct sp_link link;
	struct greeting g;
};
static struct {
	char dir[128], bin[160], inst[160];
	int listener;		/* puppets call here */
	int err;		/* what sallyportd says on its terminal */
	pid_t pid;
	rlim_t max_files;
	struct puppet p[N_ROLES];
	uint16_t port;
} rig;

/* ------------------------------------------------------------- the rig */

static void
put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	if (geteuid() == 0)
		cr_assert_eq(chown(path, NOBODY, NOBODY), 0);
}

static void
make_dir(const char *path)
{
	cr_assert_eq(mkdir(path, 0755), 0, "%s", path);
	if (geteuid() == 0)
		cr_assert_eq(chown(path, NOBODY, NOBODY), 0);
}

static void
copy(const char *from, const char *to)
{
	char buf[8192];
	ssize_t n;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

	cr_assert(in >= 0 && out >= 0, "%s -> %s", from, to);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		cr_assert_eq(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

static void
rig_make(const char *conf)
{
	const char *top = getenv("top_builddir"), *tmp = getenv("TMPDIR");
	static const char *const dirs[] = {"recordings", "vault", "keys", "pam.d"};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char a[512], b[512];

	memset(&rig, 0, sizeof(rig));
	snprintf(rig.dir, sizeof(rig.dir), "%.90s/sup-XXXXXX",
	    tmp == NULL ? "/tmp" : tmp);
	cr_assert_not_null(mkdtemp(rig.dir));
	cr_assert_eq(chmod(rig.dir, 0755), 0);
	snprintf(rig.bin, sizeof(rig.bin), "%s/bin", rig.dir);
	snprintf(rig.inst, sizeof(rig.inst), "%s/inst", rig.dir);
	make_dir(rig.bin);
	make_dir(rig.inst);
	if (top == NULL)
		top = ".";
	snprintf(a, sizeof(a), "%s/sallyportd", top);
	snprintf(b, sizeof(b), "%s/sallyportd", rig.bin);
	copy(a, b);
	snprintf(a, sizeof(a), "%s/tests/unit/sup_puppet", top);
	for (size_t i = 0; i <= N_ROLES; i++) {
		snprintf(b, sizeof(b), "%s/%s", rig.bin,
		    i == N_ROLES ? "sallyport-auth" : names[i]);
		copy(a, b);
	}
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(a, sizeof(a), "%s/%s", rig.inst, dirs[i]);
		make_dir(a);
	}
	snprintf(a, sizeof(a), "%s/sallyport.conf", rig.inst);
	snprintf(b, sizeof(b), "listen 127.0.0.1:0\n%s", conf);
	put(a, b, 0600);
	snprintf(a, sizeof(a), "%s/keys/ssh_host_ed25519_key", rig.inst);
	put(a, "a key\n", 0600);
	rig.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/ctl", rig.bin);
	cr_assert_eq(bind(rig.listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(chmod(sa.sun_path, 0777), 0);
	cr_assert_eq(listen(rig.listener, 64), 0);
	for (size_t i = 0; i < N_ROLES; i++) {
		rig.p[i].ctl = -1;
		rig.p[i].link.fd = -1;
	}
}

static void
become_nobody(void)
{
	if (geteuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) != 0))
		_exit(99);
}

static pid_t
run_sallyportd(int *err)
{
	struct rlimit files = {rig.max_files, rig.max_files};
	char exe[256];
	int e[2];
	pid_t pid;

	cr_assert_eq(pipe2(e, O_CLOEXEC), 0);
	snprintf(exe, sizeof(exe), "%s/sallyportd", rig.bin);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		dup2(e[1], 2);
		setenv("SALLYPORT_LIBEXEC", rig.bin, 1);
		if (rig.max_files != 0)
			setrlimit(RLIMIT_NOFILE, &files);
		become_nobody();
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		execl(exe, exe, rig.inst, "--foreground", (char *)NULL);
		_exit(98);
	}
	close(e[1]);
	*err = e[0];
	return pid;
}

static struct puppet
next_puppet(void)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct puppet p = {.ctl = -1};
	struct iovec iov = {.iov_base = &p.g, .iov_len = sizeof(p.g)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = c.room, .msg_controllen = sizeof(c.room)};
	struct pollfd pf = {.fd = rig.listener, .events = POLLIN};
	struct cmsghdr *h;
	int fds[2] = {-1, -1};

	cr_assert_eq(poll(&pf, 1, LONG_MS), 1, "no role was executed");
	p.ctl = accept4(rig.listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(p.ctl, 0);
	cr_assert_eq(recvmsg(p.ctl, &mh, MSG_CMSG_CLOEXEC), (ssize_t)sizeof(p.g));
	h = CMSG_FIRSTHDR(&mh);
	cr_assert_not_null(h);
	memcpy(fds, CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
	if (fds[1] >= 0)
		close(fds[1]);
	p.link.fd = fds[0];
	return p;
}

static int32_t
tell(struct puppet *p, char what, unsigned char arg)
{
	unsigned char cmd[2] = {(unsigned char)what, arg};
	int32_t answer = -1;

	cr_assert_eq(write(p->ctl, cmd, 2), 2);
	if (what == 'x' || what == 'k')
		return 0;
	cr_assert_eq(read(p->ctl, &answer, sizeof(answer)),
	    (ssize_t)sizeof(answer));
	return answer;
}

static void
expect(struct sp_link *l, uint16_t type, struct sp_packet *k)
{
	enum sp_err e = sp_link_wait(l, k, LONG_MS);

	cr_assert_eq(e, SP_OK, "%s expected, got: %s %s", sp_ipc_name(type),
	    sp_err_text(e), l->fault);
	cr_assert_eq(k->type, type, "%s expected, got %s", sp_ipc_name(type),
	    sp_ipc_name(k->type));
}

static void
expect_drop(struct sp_link *l, uint16_t type)
{
	struct sp_packet k;

	expect(l, type, &k);
	sp_packet_close_fds(&k);
}

static void
say_hello(struct puppet *p, int ix, bool lie)
{
	struct sp_msg_hello m = {.sandbox = sp_span_str("")};

	cr_assert_eq(sp_link_init(&p->link, p->link.fd, roles[ix], SP_ROLE_SUP,
	    SP_ST_NEW), SP_OK);
	sp_ipc_table_hash(m.table);
	if (lie)
		m.table[5] ^= 1;
	cr_assert_eq(sp_send_hello(&p->link, 0, &m, NULL), SP_OK);
}

static void
role_up(int ix)
{
	static const uint16_t start[N_ROLES] = {SP_MSG_start_vault,
	    SP_MSG_start_broker, SP_MSG_start_parent, SP_MSG_start_parent,
	    SP_MSG_start_parent, SP_MSG_start_ingress};
	struct sp_msg_started m = {.sandbox = sp_span_str("puppet")};
	struct puppet *p = &rig.p[ix];

	*p = next_puppet();	/* a link points into itself: never copied */
	cr_assert_str_eq(p->g.role, names[ix]);
	say_hello(p, ix, false);
	expect_drop(&p->link, start[ix]);
	cr_assert_eq(sp_send_started(&p->link, 0, &m, NULL), SP_OK);
	p->link.state = SP_ST_READY;
}

static void
find_port(void)
{
	char path[256], text[8192] = "";
	const char *at;
	int64_t end = sp_boot_us() + LONG_MS * 1000LL;
	int fd;

	snprintf(path, sizeof(path), "%s/log/sallyport.log", rig.inst);
	while ((at = strstr(text, "event=running")) == NULL) {
		cr_assert(sp_boot_us() < end, "never ran: %s", text);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
			ssize_t n = read(fd, text, sizeof(text) - 1);

			text[n < 0 ? 0 : n] = '\0';
			close(fd);
		}
		poll(NULL, 0, 1);
	}
	at = strstr(text, " port=");
	cr_assert_not_null(at);
	rig.port = (uint16_t)strtoul(at + 6, NULL, 10);
}

static void
rig_up(const char *conf)
{
	rig_make(conf);
	rig.max_files = 192;
	rig.pid = run_sallyportd(&rig.err);
	for (int i = 0; i < N_ROLES; i++)
		role_up(i);
	expect_drop(&rig.p[VLT].link, SP_MSG_peer_link);
	expect_drop(&rig.p[BRK].link, SP_MSG_peer_link);
	find_port();
}

static int
unlink_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int
wait_end(pid_t pid)
{
	int status = -1;
	int64_t end = sp_boot_us() + LONG_MS * 1000LL;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (sp_boot_us() > end) {
			kill(pid, SIGKILL);
			cr_assert_fail("sallyportd does not end");
		}
		poll(NULL, 0, 1);
	}
	return status;
}

static void
puppet_down(struct puppet *p)
{
	if (p->link.rx != NULL)
		sp_link_fini(&p->link);
	sp_close_fds(&p->ctl, 1);
	p->ctl = -1;
}

static void
rig_down(void)
{
	if (rig.pid > 0) {
		kill(rig.pid, SIGTERM);
		for (int i = 0; i < N_ROLES; i++)
			puppet_down(&rig.p[i]);
		cr_assert_eq(wait_end(rig.pid), 0);
	}
	close(rig.listener);
	close(rig.err);
	nftw(rig.dir, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int
dial_in(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_port = htons(rig.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static bool
is_closed(int fd)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	char c;

	cr_assert_eq(poll(&pf, 1, LONG_MS), 1);
	return read(fd, &c, 1) <= 0;
}

static bool
has_file(const uint8_t *id, const char *ext, struct stat *st)
{
	char text[SP_UUID_TEXT], path[256];

	sp_uuid_text(text, id);
	snprintf(path, sizeof(path), "%s/recordings/%s.%s", rig.inst, text, ext);
	return stat(path, st) == 0;
}

static void
say_exited(int ix, uint64_t id, uint32_t pid, uint32_t status)
{
	struct sp_msg_exited m = {.id = id, .pid = pid, .status = status};

	cr_assert_eq(sp_send_exited(&rig.p[ix].link, 0, &m, NULL), SP_OK);
}

static void
say_spawned(int ix, uint64_t id, uint32_t pid)
{
	struct sp_msg_spawned m = {.id = id, .pid = pid};

	cr_assert_eq(sp_send_spawned(&rig.p[ix].link, 0, &m, NULL), SP_OK);
}

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
take_spawn_ingress(void)
{
	struct sp_msg_spawn_ingress m;
	struct sp_packet k;

	expect(&rig.p[ING].link, SP_MSG_spawn_ingress, &k);
	cr_assert_eq(sp_dec_spawn_ingress(k.body, &m), SP_OK);
	cr_expect(sp_span_is(m.peer_addr, "127.0.0.1"));
	sp_packet_close_fds(&k);
	return m.id;
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
ask_dial(const uint8_t *sid, const char *addr, uint16_t port)
{
	struct sp_msg_session_dial m = {.addr = sp_span_str(addr), .port = port,
	    .deadline_ms = 3000};

	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_session_dial(&rig.p[BRK].link, 78, &m, NULL), SP_OK);
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
	memcpy(m.session, sid, 16);
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 5, &m, NULL), SP_OK);
	cr_expect_eq(expect_failed(5), EBUSY);
	say_exited(REC, rec, 4242, SIGSEGV);
	expect_drop(&rig.p[BRK].link, SP_MSG_security_event);
	expect_child_end(SP_ROLE_REC, SIGSEGV);
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
	cr_assert_eq(sp_send_recover(&rig.p[BRK].link, 8, &m, NULL), SP_OK);
	cr_expect_eq(expect_failed(8), EEXIST);
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
	expect(&rig.p[BRK].link, SP_MSG_session_child_end, &k);
	expect(&rig.p[BRK].link, SP_MSG_security_event, &k);
	cr_assert_eq(sp_dec_security_event(k.body, &ev), SP_OK);
	cr_expect(sp_span_is(ev.what, "role_died"), "the parent pays");
	cr_expect_eq(waitpid(bystander, &status, WNOHANG), 0);
	kill(bystander, SIGKILL);
	waitpid(bystander, &status, 0);
	puppet_down(&rig.p[REC]);
	role_up(REC);
	rig_down();
}

Test(supervisor, auth_gets_its_link_and_the_service_directory)
{
	struct sp_msg_auth_spawn m = {.login = 99};
	struct sp_msg_auth_spawned a;
	struct sp_packet k;
	struct puppet p;

	rig_up("");
	cr_assert_eq(sp_send_auth_spawn(&rig.p[BRK].link, 4, &m, NULL), SP_OK);
	p = next_puppet();
	cr_expect_str_eq(p.g.role, "sallyport-auth");
	cr_expect_str_eq(p.g.open_fds, "0 1 2 3 4");
	expect(&rig.p[BRK].link, SP_MSG_auth_spawned, &k);
	cr_assert_eq(sp_dec_auth_spawned(k.body, &a), SP_OK);
	cr_expect_eq(a.login, 99);
	cr_expect_eq(write(p.link.fd, "x", 1), 1);
	cr_expect_eq(read(k.fds[0], &(char){0}, 1), 1);
	sp_packet_close_fds(&k);
	close(p.link.fd);
	close(p.ctl);
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
