/* SPDX-License-Identifier: Apache-2.0 */
/* covers: bastion/ingress against clients, brokers and targets that lie */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/ingress/front.h"
#include "test_ingress_stub.h"

TestSuite(ingress_hostile, .timeout = 120);
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LOGS(w, text)                                                         \
	cr_assert(st_has(&(w)->log, text), "log: %.*s", (int)(w)->log.len,    \
	    (char *)(w)->log.p + (w)->log.off)

static const char config[] = "max_tries 4\n";

static int
simple(struct st_world *w, const char *const *args)
{
	struct st_client *c = st_ssh(w, args, false);
	int st = st_wait(w, c);

	st_client_free(c);
	return st;
}

/* ------------------------------------------------------------- clients */

static ssh_session
dial(struct st_world *w, const char *user)
{
	ssh_session s = ssh_new();
	unsigned port = w->port;
	bool no = false;

	CHECK(ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no) == 0);
	CHECK(ssh_options_set(s, SSH_OPTIONS_HOST, "127.0.0.1") == 0);
	CHECK(ssh_options_set(s, SSH_OPTIONS_PORT, &port) == 0);
	CHECK(ssh_options_set(s, SSH_OPTIONS_USER, user) == 0);
	CHECK(ssh_options_set(s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") == 0);
	CHECK(ssh_connect(s) == SSH_OK);
	return s;
}

static int
key_login(struct st_world *w, ssh_session s)
{
	ssh_key key;
	char path[160];

	snprintf(path, sizeof(path), "%s/alice", w->dir);
	CHECK(ssh_pki_import_privkey_file(path, NULL, NULL, NULL, &key) == SSH_OK);
	return ssh_userauth_publickey(s, NULL, key);
}

static int
changes_name(struct st_world *w)
{
	ssh_session s = dial(w, "alice");

	CHECK(ssh_userauth_none(s, NULL) == SSH_AUTH_DENIED);
	CHECK(key_login(w, s) == SSH_AUTH_PARTIAL);
	if (ssh_userauth_kbdint(s, "root", NULL) != SSH_AUTH_DENIED)
		return 1;
	/* and back: her own conversation is still to be had */
	if (ssh_userauth_kbdint(s, "alice", NULL) != SSH_AUTH_INFO)
		return 2;
	return 0;
}

Test(ingress_hostile, the_name_stays_after_the_key)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_run(w, changes_name);

	cr_assert_eq(st_wait(w, c), 0);
	LOGS(w, "auth_refused login name changed detail=root");
	st_client_free(c);
	st_free(w);
}

static int
skips_the_key(struct st_world *w)
{
	ssh_session s = dial(w, "alice");

	CHECK(ssh_userauth_none(s, NULL) == SSH_AUTH_DENIED);
	if (ssh_userauth_kbdint(s, NULL, NULL) != SSH_AUTH_DENIED)
		return 1;
	if (ssh_userauth_password(s, NULL, "123456") != SSH_AUTH_DENIED)
		return 2;
	return 0;
}

Test(ingress_hostile, no_second_factor_and_no_password_without_a_key)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_run(w, skips_the_key);

	cr_assert_eq(st_wait(w, c), 0);
	LOGS(w, "auth_refused second factor without a first");
	LOGS(w, "auth_refused password login");
	cr_assert_not(st_has(&w->log, "mfa_begin"));
	st_client_free(c);
	st_free(w);
}

static int
opens_too_early(struct st_world *w)
{
	ssh_session s = dial(w, "alice");
	ssh_channel ch;

	CHECK(key_login(w, s) == SSH_AUTH_PARTIAL);
	/* A client of libssh refuses to try: its own flag is not ours to set. */
	ch = ssh_channel_new(s);
	return ch == NULL || ssh_channel_open_session(ch) != SSH_OK ? 0 : 1;
}

Test(ingress_hostile, no_channel_before_the_second_factor)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_run(w, opens_too_early);

	cr_assert_eq(st_wait(w, c), 0);
	cr_assert_not(st_has(&w->log, "chan_open"));
	st_client_free(c);
	st_free(w);
}

Test(ingress_hostile, bad_signatures_are_answered_and_told)
{
	struct st_world *w = st_new(config);
	pid_t agent = st_agent(w, ST_AGENT_NONSENSE);
	char opt[128];

	snprintf(opt, sizeof(opt), "IdentityAgent=%s/agent", w->dir);
	{
		char port[8];

		snprintf(port, sizeof(port), "%u", w->port);
		cr_assert_eq(simple(w, ARGS("-F", "none", "-o", opt, "-o",
		    "StrictHostKeyChecking=no", "-o",
		    "UserKnownHostsFile=/dev/null", "-o", "IdentityFile=none",
		    "-p", port, "alice@127.0.0.1", "two")), 255);
	}
	LOGS(w, "signed=0 algo=ssh-ed25519 ok=1");
	LOGS(w, "auth_refused bad or unsupported signature");
	cr_assert_not(st_has(&w->log, "signed=1"));
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	st_free(w);
}

static void
security_key(enum st_agent kind, int status)
{
	struct st_world *w = st_new(config);
	pid_t agent = st_agent(w, kind);
	char opt[128], port[8];

	snprintf(opt, sizeof(opt), "IdentityAgent=%s/agent", w->dir);
	snprintf(port, sizeof(port), "%u", w->port);
	cr_assert_eq(simple(w, ARGS("-F", "none", "-o", opt, "-o",
	    "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
	    "-o", "IdentityFile=none", "-p", port, "alice@127.0.0.1",
	    "exit 7")), status);
	LOGS(w, "signed=0 algo=sk-ssh-ed25519@openssh.com ok=1");
	cr_assert_eq(st_has(&w->log, "signed=1"), status == 7);
	cr_assert_eq(st_has(&w->log, "auth_refused security key was not touched"),
	    status != 7);
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	st_free(w);
}

Test(ingress_hostile, a_security_key_must_be_touched)
{
	security_key(ST_AGENT_TOUCHED, 7);
	security_key(ST_AGENT_UNTOUCHED, 255);
}

Test(ingress_hostile, names_that_are_none)
{
	struct st_world *w = st_new(config);
	char name[400];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_eq(simple(w, ARGS("-l", name, "bastion", "two")), 255);
	cr_assert_eq(simple(w, ARGS("-l", "\xff\xfe" "b", "bastion", "two")), 255);
	LOGS(w, "auth_refused login name detail=\\xff\\xfeb");
	cr_assert_not(st_has(&w->log, "auth_key"));
	st_free(w);
}

Test(ingress_hostile, agent_and_x11_are_refused_and_told)
{
	struct st_world *w = st_new(config);
	pid_t agent = st_agent(w, ST_AGENT_EMPTY);
	char sock[128];

	snprintf(sock, sizeof(sock), "IdentityAgent=%s/agent", w->dir);
	cr_assert_eq(simple(w, ARGS("-A", "-o", sock, "bastion", "exit 0")), 0);
	LOGS(w, "policy_refusal agent-forwarding");
	cr_assert_eq(simple(w, ARGS("-Y", "-o", "XAuthLocation=/bin/false",
	    "bastion", "exit 0")), 0);
	LOGS(w, "policy_refusal x11-forwarding");
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	st_free(w);
}

Test(ingress_hostile, a_break_goes_to_the_target)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("-tt", "core-01"), true);

	cr_assert(st_until_out(w, c, "hello pty"));
	cr_assert_eq(write(c->pty, "\r~B", 3), 3);
	cr_assert(st_until_log(w, c, "BREAK"));
	cr_assert_eq(write(c->pty, "q\r", 2), 2);
	cr_assert_eq(st_wait(w, c), 0);
	st_client_free(c);
	st_free(w);
}

/* ------------------------------------------------------------ raw bytes */

static int
raw(struct st_world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(w->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	return fd;
}

static int
sends_noise(struct st_world *w)
{
	static uint8_t noise[300000];
	uint32_t seed = 7;
	ssize_t n;

	for (int round = 0; round < 12; round++) {
		int fd = raw(w);

		st_pattern(noise, sizeof(noise), &seed);
		if (round % 3 == 1) {
			memcpy(noise, "SSH-2.0-x\r\n", 11);
			memset(noise + 11, round, 3);	/* packet lengths */
		} else if (round % 3 == 2) {
			memset(noise, 'S', sizeof(noise));
		}
		n = send(fd, noise, round % 2 == 0 ? sizeof(noise) : 40,
		    MSG_NOSIGNAL);
		if (n > 0 && round % 2 == 1)
			shutdown(fd, SHUT_WR);
		while ((n = recv(fd, noise, sizeof(noise), 0)) > 0)
			;
		close(fd);
	}
	return 0;
}

Test(ingress_hostile, noise_ends_the_connection_only)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_run(w, sends_noise);

	cr_assert_eq(st_wait(w, c), 0);
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("bastion", "exit 4")), 4);
	st_free(w);
}

static int
says_nothing(struct st_world *w)
{
	int fd = raw(w);
	uint8_t at[512];

	while (recv(fd, at, sizeof(at), 0) > 0)
		;
	return 0;
}

Test(ingress_hostile, silence_ends_with_the_grace_time)
{
	struct st_world *w = st_new("login_grace_s 5\n");
	struct st_client *c = st_run(w, says_nothing);
	int64_t t = sp_boot_us();

	cr_assert_eq(st_wait(w, c), 0);
	t = sp_boot_us() - t;
	cr_assert_gt(t, 4000000);
	st_client_free(c);
	st_free(w);
}

/* ----------------------------------------------------- brokers and targets */

static struct st_stream *
live_stream(struct st_world *w)
{
	for (int i = 0; i < ST_STREAMS; i++)
		if (w->streams[i].used)
			return &w->streams[i];
	cr_assert(false, "no stream");
	return NULL;
}

static void
broken_target(void (*breaks)(struct st_stream *t))
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("bastion", "cat"), false);
	struct st_stream *t;

	c->feed = (const uint8_t *)"abc";
	c->feed_n = 3;
	c->keep_in = true;
	cr_assert(st_until_out(w, c, "abc"));
	t = live_stream(w);
	breaks(t);
	(void)!sp_stream_flush(&t->s);
	/* Nobody reads: no credit comes back for what is sent too much. */
	c->hold_out = true;
	cr_assert(st_until_log(w, c, "policy_refusal stream-protocol"));
	c->hold_out = false;
	cr_assert_eq(st_wait(w, c), 255);
	cr_assert(st_has(&c->e, "[sallyport] the session broke off"));
	st_client_free(c);
	st_free(w);
}

static void
sends_too_much(struct st_stream *t)
{
	static const uint8_t zero[65536];

	for (int i = 0; i < 100; i++)
		SENT(sp_stream_put(&t->s, SP_FRAME_DATA, 1, t->ch[0].id,
		    sp_span_of(zero, sizeof(zero))));
}

static void
names_another(struct st_stream *t)
{
	SENT(sp_stream_put(&t->s, SP_FRAME_EOF, 0, 77, sp_span_of(NULL, 0)));
}

static void
opens_again(struct st_stream *t)
{
	SENT(sp_stream_put(&t->s, SP_FRAME_OPEN_OK, 0, t->ch[0].id,
	    sp_span_of(NULL, 0)));
}

static void
breaks_frames(struct st_stream *t)
{
	static const uint8_t bad[12] = {0xff, 0xff, 0xff, 0xff, 4, 1};

	OK(sp_buf_put(&t->s.tx, bad, sizeof(bad)));
}

static void
gives_endless_credit(struct st_stream *t)
{
	for (int i = 0; i < 3; i++)
		SENT(sp_stream_put_u32(&t->s, SP_FRAME_CREDIT, t->ch[0].id,
		    0xffffffff));
}

Test(ingress_hostile, targets_that_break_the_stream)
{
	broken_target(sends_too_much);
	broken_target(names_another);
	broken_target(opens_again);
	broken_target(breaks_frames);
	broken_target(gives_endless_credit);
}

Test(ingress_hostile, broker_answers_to_nothing_are_dropped)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("bastion", "cat"), false);
	struct sp_msg_dialog d = {.dialog = 3, .kind = SP_DIALOG_OK,
	    .title = sp_span_str(""), .text = sp_span_str("")};
	struct sp_msg_target_open_result t = {.id = 9, .ok = 1,
	    .text = sp_span_str("")};
	struct sp_msg_target_login_result l = {.id = 9, .verdict = 1};
	struct sp_msg_auth_key_result k = {.ok = 1};
	struct sp_msg_chan_refused r = {.ctx = 0, .chan = 1,
	    .text = sp_span_str("")};

	c->feed = (const uint8_t *)"abc";
	c->feed_n = 3;
	c->keep_in = true;
	cr_assert(st_until_out(w, c, "abc"));
	OK(sp_send_dialog(&w->conns[0].link, 0, &d, NULL));
	d.dialog = 0;
	OK(sp_send_dialog(&w->conns[0].link, 0, &d, NULL));
	OK(sp_send_target_open_result(&w->conns[0].link, 0, &t, NULL));
	OK(sp_send_target_login_result(&w->conns[0].link, 0, &l, NULL));
	OK(sp_send_auth_key_result(&w->conns[0].link, 0, &k, NULL));
	OK(sp_send_chan_refused(&w->conns[0].link, 0, &r, NULL));
	for (uint32_t i = 0; i < 3; i++)	/* no such channel or ctx */
		st_give_stream(w, &w->conns[0], i, 5 - i, true);
	c->keep_in = false;
	cr_assert_eq(st_wait(w, c), 0);
	st_client_free(c);
	st_free(w);
}

Test(ingress_hostile, a_hundred_channels_leave_no_descriptor)
{
	struct st_world *w = st_new(config);
	struct st_client *m;
	char path[96], ctl[96];
	size_t before = 0;

	snprintf(path, sizeof(path), "ControlPath=%s/ctl", w->dir);
	snprintf(ctl, sizeof(ctl), "%s/ctl", w->dir);
	m = st_ssh(w, ARGS("-M", "-N", "-o", path, "bastion"), false);
	m->keep_in = true;
	while (access(ctl, F_OK) != 0)
		st_step(w, m);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(simple(w, ARGS("-o", path, "bastion", "exit 5")), 5);
		if (i == 3)
			before = st_descriptors(w);
	}
	/* The last of them are closed a moment after the client has ended. */
	for (int64_t end = sp_boot_us() + 60000000; st_descriptors(w) > before &&
	    sp_boot_us() < end;)
		st_step(w, m);
	cr_assert_leq(st_descriptors(w), before);
	st_client_free(m);
	st_free(w);
}

/* ------------------------------------------------------------- the sandbox */

#ifndef SP_SANITIZED
static void
try_call(int which)
{
	char *const none[] = {NULL};

	switch (which) {
	case 0:
		(void)!socket(AF_INET, SOCK_STREAM, 0);
		break;
	case 1:
		(void)!connect(0, NULL, 0);
		break;
	case 2:
		(void)!open("/etc/passwd", O_RDONLY);
		break;
	case 3:
		execve("/bin/true", none, none);
		break;
	case 4:
		(void)!fork();
		break;
	case 5:
		(void)!ptrace(PTRACE_TRACEME, 0, 0, 0);
		break;
	case 6:
		(void)!kill(getppid(), 0);
		break;
	case 7:
		(void)!socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0});
		break;
	case 9:
		(void)!unlink("/nowhere");
		break;
	case 10:
		(void)!setsockopt(0, SOL_SOCKET, SO_ATTACH_FILTER, NULL, 0);
		break;
	case 11:
		(void)!syscall(SYS_openat2, 0, "", NULL, 0);
		break;
	case 12:
		(void)!syscall(SYS_io_uring_setup, 1, NULL);
		break;
	case 13:
		(void)!syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
		break;
	case 8:
		(void)!bind(0, NULL, 0);
		break;
	default:
		_exit(0);	/* the one that may live */
	}
	_exit(1);
}
#endif

Test(ingress_hostile, calls_outside_the_table_kill)
{
#ifndef SP_SANITIZED
	char level[64];

	for (int i = 0; i <= 14; i++) {
		int st;
		pid_t pid = fork();

		cr_assert(pid >= 0);
		if (pid == 0) {
			sp_harden(NULL);
			if (sp_sandbox_enter(sp_front_syscalls,
			    sp_front_n_syscalls, level, sizeof(level)) != SP_OK)
				_exit(2);
			try_call(i);
		}
		cr_assert_eq(waitpid(pid, &st, 0), pid);
		if (i == 14)
			cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0);
		else
			cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS,
			    "call %d: status %d", i, st);
	}
#endif
}
