/* SPDX-License-Identifier: Apache-2.0 */
#include "test_ingress_stub.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ----------------------------------------------------------------- the client */

struct st_client *
st_ssh(struct st_world *w, const char *const *args, bool with_pty)
{
	struct st_client *c = calloc(1, sizeof(*c));
	struct winsize ws = {.ws_row = 24, .ws_col = 80};
	char *v[40] = {strdup("ssh"), strdup("-F"), strdup(w->config)};
	int in[2], out[2], err[2], n = 3;
	char path[160];

	CHECK(c != NULL);
	sp_buf_init(&c->o, 64 << 20);
	sp_buf_init(&c->e, 1 << 20);
	for (; *args != NULL && n < 39; args++)
		v[n++] = strdup(*args);
	CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
	    pipe2(err, O_CLOEXEC) == 0);
	c->pty = -1;
	c->pid = with_pty ? forkpty(&c->pty, NULL, NULL, &ws) : fork();
	CHECK(c->pid >= 0);
	if (c->pid == 0) {
		if (!with_pty) {
			dup2(in[0], 0);
			dup2(out[1], 1);
			setsid();
		}
		dup2(err[1], 2);
		snprintf(path, sizeof(path), "%s/askpass", w->dir);
		setenv("SSH_ASKPASS", path, 1);
		setenv("SSH_ASKPASS_REQUIRE", "force", 1);
		setenv("LANG", "C.UTF-8", 1);
		setenv("DISPLAY", ":9", 1);
		unsetenv("SSH_AUTH_SOCK");
		execvp("ssh", v);
		_exit(127);
	}
	for (int i = 0; i < n; i++)
		free(v[i]);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c->in = in[1];
	c->out = out[0];
	c->err = err[0];
	fcntl(c->in, F_SETFL, O_NONBLOCK);
	if (with_pty)
		fcntl(c->pty, F_SETFL, O_NONBLOCK);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	CHECK(c->pidfd >= 0);
	return c;
}

struct st_client *
st_run(struct st_world *w, int (*run)(struct st_world *w))
{
	struct st_client *c = calloc(1, sizeof(*c));
	int err[2];

	CHECK(c != NULL);
	sp_buf_init(&c->o, 1 << 20);
	sp_buf_init(&c->e, 1 << 20);
	CHECK(pipe2(err, O_CLOEXEC) == 0);
	CHECK((c->pid = fork()) >= 0);
	if (c->pid == 0) {
		dup2(err[1], 2);
		_exit(run(w));
	}
	close(err[1]);
	c->in = c->out = c->pty = -1;
	c->err = err[0];
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	CHECK(c->pidfd >= 0);
	return c;
}

#define SK_TYPE "sk-ssh-ed25519@openssh.com"
static uint8_t sk_pk[crypto_sign_PUBLICKEYBYTES], sk_sk[crypto_sign_SECRETKEYBYTES];

/* OpenSSH's PROTOCOL.u2f: what a security key signs, and how it is sent. */
static void
sk_sign(struct sp_buf *sig, struct sp_span text, uint8_t flags)
{
	uint8_t made[69] = {0}, raw[crypto_sign_BYTES];

	crypto_hash_sha256(made, (const uint8_t *)"ssh:", 4);
	made[32] = flags;
	made[36] = 1;
	crypto_hash_sha256(made + 37, text.p, text.n);
	crypto_sign_detached(raw, NULL, made, sizeof(made), sk_sk);
	OK(sp_buf_put_ssh_string(sig, sp_span_str(SK_TYPE)));
	OK(sp_buf_put_ssh_string(sig, sp_span_of(raw, sizeof(raw))));
	OK(sp_buf_put_u8(sig, flags));
	OK(sp_buf_put_ssh_u32(sig, 1));
}

static void
sk_make(struct st_world *w)
{
	static const uint8_t seed[crypto_sign_SEEDBYTES] = {9};
	SP_BUF_AUTO b = {.max = 512};

	crypto_sign_seed_keypair(sk_pk, sk_sk, seed);
	OK(sp_buf_put_ssh_string(&b, sp_span_str(SK_TYPE)));
	OK(sp_buf_put_ssh_string(&b, sp_span_of(sk_pk, sizeof(sk_pk))));
	OK(sp_buf_put_ssh_string(&b, sp_span_str("ssh:")));
	memcpy(w->key, b.p + b.off, b.len);
	w->key_n = b.len;
}

static void
agent_sign(struct sp_buf *b, struct sp_span req, enum st_agent kind)
{
	SP_BUF_AUTO sig = {.max = 256};
	static const uint8_t nonsense[64] = {1, 2, 3};
	struct sp_span key, text;

	OK(sp_get_ssh_string(&req, 4096, &key));
	OK(sp_get_ssh_string(&req, 65536, &text));
	if (kind == ST_AGENT_NONSENSE) {
		OK(sp_buf_put_ssh_string(&sig, sp_span_str("ssh-ed25519")));
		OK(sp_buf_put_ssh_string(&sig, sp_span_of(nonsense, 64)));
	} else {
		sk_sign(&sig, text, kind == ST_AGENT_TOUCHED ? 1 : 0);
	}
	OK(sp_buf_put_u8(b, 14));
	OK(sp_buf_put_ssh_string(b, sp_buf_span(&sig)));
}

static void
agent_answer(const struct st_world *w, int fd, uint8_t type, struct sp_span req,
    enum st_agent kind)
{
	SP_BUF_AUTO b = {.max = 4096};
	SP_BUF_AUTO out = {.max = 4096};

	if (type == 11) {		/* SSH_AGENTC_REQUEST_IDENTITIES */
		OK(sp_buf_put_u8(&b, 12));
		OK(sp_buf_put_ssh_u32(&b, kind != ST_AGENT_EMPTY ? 1 : 0));
		if (kind != ST_AGENT_EMPTY) {
			OK(sp_buf_put_ssh_string(&b, sp_span_of(w->key, w->key_n)));
			OK(sp_buf_put_ssh_string(&b, sp_span_str("alice")));
		}
	} else if (type == 13) {	/* SSH_AGENTC_SIGN_REQUEST */
		agent_sign(&b, req, kind);
	} else {
		OK(sp_buf_put_u8(&b, 5));
	}
	OK(sp_buf_put_ssh_string(&out, sp_buf_span(&b)));
	CHECK(write(fd, out.p + out.off, out.len) == (ssize_t)out.len);
}

static void
agent_serve(const struct st_world *w, int fd, enum st_agent kind)
{
	static uint8_t head[5], rest[65536];

	while (recv(fd, head, sizeof(head), MSG_WAITALL) == (ssize_t)sizeof(head)) {
		struct sp_span s = sp_span_of(head, 4);
		uint32_t n;

		OK(sp_get_ssh_u32(&s, &n));
		CHECK(n >= 1 && n <= sizeof(rest));
		if (n > 1 && recv(fd, rest, n - 1, MSG_WAITALL) != (ssize_t)(n - 1))
			break;
		agent_answer(w, fd, head[4], sp_span_of(rest, n - 1), kind);
	}
	close(fd);
}

pid_t
st_agent(struct st_world *w, enum st_agent kind)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	pid_t pid;

	if (kind >= ST_AGENT_TOUCHED)
		sk_make(w);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/agent", w->dir);
	CHECK(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(listen(l, 8) == 0);
	CHECK((pid = fork()) >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		while ((fd = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			agent_serve(w, fd, kind);
		_exit(0);
	}
	close(l);
	return pid;
}

void
st_client_free(struct st_client *c)
{
	int fds[] = {c->in, c->out, c->err, c->pty, c->pidfd};

	if (!c->ended) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	sp_buf_fini(&c->o);
	sp_buf_fini(&c->e);
	free(c);
}

static void
drain(int *fd, struct sp_buf *b)
{
	uint8_t *at;
	ssize_t n;

	OK(sp_buf_reserve(b, 65536, &at));
	n = read(*fd, at, 65536);
	if (n > 0)
		sp_buf_commit(b, (size_t)n);
	else if (n == 0 || errno != EAGAIN) {
		close(*fd);
		*fd = -1;
	}
}

static void
feed(struct st_client *c)
{
	if (c->fed < c->feed_n) {
		ssize_t n = write(c->in, c->feed + c->fed, c->feed_n - c->fed);

		if (n > 0)
			c->fed += (size_t)n;
		else if (errno != EAGAIN)
			c->fed = c->feed_n;
	}
	if (c->fed == c->feed_n && !c->keep_in) {
		close(c->in);
		c->in = -1;
	}
}

void
st_client_events(struct st_client *c, const struct pollfd *p)
{
	int st;

	if (p[0].revents != 0)
		feed(c);
	if (p[1].revents != 0)
		drain(&c->out, &c->o);
	if (p[2].revents != 0)
		drain(&c->err, &c->e);
	if (p[3].revents != 0)
		drain(&c->pty, &c->o);
	if (p[4].revents != 0 && c->out < 0 && c->err < 0) {
		CHECK(waitpid(c->pid, &st, 0) == c->pid);
		c->status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
		c->ended = true;
	}
}

unsigned long
st_client_polls(struct st_client *c, struct pollfd *p)
{
	bool feeds = c->in >= 0 && (c->fed < c->feed_n || !c->keep_in);

	p[0] = (struct pollfd){.fd = feeds ? c->in : -1, .events = POLLOUT};
	p[1] = (struct pollfd){.fd = c->hold_out ? -1 : c->out, .events = POLLIN};
	p[2] = (struct pollfd){.fd = c->err, .events = POLLIN};
	p[3] = (struct pollfd){.fd = c->pty, .events = POLLIN};
	p[4] = (struct pollfd){.fd = c->out < 0 && c->err < 0 ? c->pidfd : -1,
	    .events = POLLIN};
	return ST_CLIENT_POLLS;
}

int
st_wait(struct st_world *w, struct st_client *c)
{
	int64_t end = sp_boot_us() + 60 * (int64_t)1000000;

	while (!c->ended && sp_boot_us() < end)
		st_step(w, c);
	if (!c->ended)
		fprintf(stderr, "client hangs; its stderr: %.*s\nlog:\n%.*s\n",
		    (int)c->e.len, (char *)c->e.p + c->e.off, (int)w->log.len,
		    (char *)w->log.p + w->log.off);
	return c->ended ? c->status : -1;
}

static bool
until(struct st_world *w, struct st_client *c, const struct sp_buf *b,
    const char *text)
{
	int64_t end = sp_boot_us() + 20 * (int64_t)1000000;

	while (!st_has(b, text) && sp_boot_us() < end)
		st_step(w, c);
	if (!st_has(b, text))
		fprintf(stderr, "no \"%s\"; stderr: %.*s\nlog:\n%.*s\n", text,
		    c == NULL ? 0 : (int)c->e.len,
		    c == NULL ? "" : (char *)c->e.p + c->e.off, (int)w->log.len,
		    (char *)w->log.p + w->log.off);
	return st_has(b, text);
}

bool
st_until_log(struct st_world *w, struct st_client *c, const char *text)
{
	return until(w, c, &w->log, text);
}

bool
st_until_out(struct st_world *w, struct st_client *c, const char *text)
{
	return until(w, c, &c->o, text);
}
