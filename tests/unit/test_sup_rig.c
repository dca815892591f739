/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test_sup_rig.h"

#include <arpa/inet.h>
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
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const names[N_ROLES] = {"sallyport-vault", "sallyport-notary",
    "sallyport-broker", "sallyport-recorder", "sallyport-egress",
    "sallyport-egress-sql", "sallyport-player", "sallyport-scribe", "sallyport-auth",
    "sallyport-ingress"};
static const uint32_t roles[N_ROLES] = {SP_ROLE_VLT, SP_ROLE_NTY, SP_ROLE_BRK, SP_ROLE_REC,
    SP_ROLE_EGR, SP_ROLE_EGR, SP_ROLE_PLY, SP_ROLE_SCR, SP_ROLE_AUT, SP_ROLE_ING};
struct rig rig;

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

void
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
	for (size_t i = 0; i < N_ROLES; i++) {
		snprintf(b, sizeof(b), "%s/%s", rig.bin, names[i]);
		copy(a, b);
	}
	snprintf(a, sizeof(a), "%s/sallyport-files", top);	/* no puppet */
	snprintf(b, sizeof(b), "%s/sallyport-files", rig.bin);
	copy(a, b);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(a, sizeof(a), "%s/%s", rig.inst, dirs[i]);
		make_dir(a);
	}
	snprintf(a, sizeof(a), "%s/sallyport.conf", rig.inst);
	snprintf(b, sizeof(b), "listen 127.0.0.1:0\n%s", conf);
	put(a, b, 0600);
	snprintf(a, sizeof(a), "%s/keys/ssh_host_ed25519_key", rig.inst);
	put(a, "a key\n", 0600);
	snprintf(a, sizeof(a), "%s/keys/ssh_host_ed25519_key.pub", rig.inst);
	put(a, "a public key\n", 0644);
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

void
become_nobody(void)
{
	if (geteuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) != 0))
		_exit(99);
}

pid_t
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

struct puppet
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

int32_t
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

void
expect(struct sp_link *l, uint16_t type, struct sp_packet *k)
{
	enum sp_err e = sp_link_wait(l, k, LONG_MS);

	cr_assert_eq(e, SP_OK, "%s expected, got: %s %s", sp_ipc_name(type),
	    sp_err_text(e), l->fault);
	cr_assert_eq(k->type, type, "%s expected, got %s", sp_ipc_name(type),
	    sp_ipc_name(k->type));
}

void
expect_drop(struct sp_link *l, uint16_t type)
{
	struct sp_packet k;

	expect(l, type, &k);
	sp_packet_close_fds(&k);
}

void
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

void
role_up(int ix)
{
	static const uint16_t start[N_ROLES] = {SP_MSG_start_vault,
	    SP_MSG_start_notary, SP_MSG_start_broker, SP_MSG_start_parent, SP_MSG_start_parent,
	    SP_MSG_start_parent, SP_MSG_start_parent, SP_MSG_start_parent,
	    SP_MSG_start_auth, SP_MSG_start_ingress};
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

void
rig_up(const char *conf)
{
	rig_make(conf);
	rig.max_files = 192;
	rig.pid = run_sallyportd(&rig.err);
	for (int i = 0; i < N_ROLES; i++)
		role_up(i);
	/* Each of the three has a link with the two others. */
	for (int i = VLT; i <= BRK; i++)
		for (int k = 0; k < 2; k++)
			expect_drop(&rig.p[i].link, SP_MSG_peer_link);
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

int
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

void
puppet_down(struct puppet *p)
{
	if (p->link.is_open)
		sp_link_fini(&p->link);
	sp_close_fds(&p->ctl, 1);
	p->ctl = -1;
}

void
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

int
dial_in(void)
{
	return dial_from("127.0.0.1");
}

int
dial_from(const char *addr)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_port = htons(rig.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(inet_pton(AF_INET, addr, &from.sin_addr), 1);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

bool
is_closed(int fd)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	char c;

	cr_assert_eq(poll(&pf, 1, LONG_MS), 1);
	return read(fd, &c, 1) <= 0;
}

bool
has_file(const uint8_t *id, const char *ext, struct stat *st)
{
	char text[SP_UUID_TEXT], path[256];

	sp_uuid_text(text, id);
	snprintf(path, sizeof(path), "%s/recordings/%s.%s", rig.inst, text, ext);
	return stat(path, st) == 0;
}

void
write_recording(const uint8_t *id)
{
	/* As long as a header that says 217, and an OPEN. */
	uint8_t whole[217 + 220] = {[12] = 217};
	char text[SP_UUID_TEXT], path[256];
	int fd;

	sp_uuid_text(text, id);
	snprintf(path, sizeof(path), "%s/recordings/%s.open", rig.inst, text);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && write(fd, whole, sizeof(whole)) == sizeof(whole));
	close(fd);
}

void
say_exited(int ix, uint64_t id, uint32_t pid, uint32_t status)
{
	struct sp_msg_exited m = {.id = id, .pid = pid, .status = status};

	cr_assert_eq(sp_send_exited(&rig.p[ix].link, 0, &m, NULL), SP_OK);
}

void
say_spawned(int ix, uint64_t id, uint32_t pid)
{
	struct sp_msg_spawned m = {.id = id, .pid = pid};

	cr_assert_eq(sp_send_spawned(&rig.p[ix].link, 0, &m, NULL), SP_OK);
}
