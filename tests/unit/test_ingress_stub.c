/* SPDX-License-Identifier: Apache-2.0 */
#include "test_ingress_stub.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>
#include <stdio.h>
#include "common/parent.h"
#include "tests/support/tmp.h"

bool
st_has(const struct sp_buf *b, const char *text)
{
	return b->len > 0 && memmem(b->p + b->off, b->len, text, strlen(text)) != NULL;
}

static void
write_file(const char *dir, const char *name, mode_t mode, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK((f = fopen(path, "we")) != NULL);
	CHECK(fputs(text, f) >= 0);
	CHECK(fclose(f) == 0);
	CHECK(chmod(path, mode) == 0);
}

static void
run(const char *const *argv)
{
	int st;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		char *v[16] = {NULL};

		dup2(null, 1);
		for (int i = 0; argv[i] != NULL && i < 15; i++)
			v[i] = strdup(argv[i]);
		execvp(v[0], v);
		_exit(127);
	}
	CHECK(waitpid(pid, &st, 0) == pid && st == 0);
}

static void
keygen(const char *dir, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	run((const char *const[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "",
	    "-f", path, NULL});
}

static void
read_pub(const char *dir, const char *name, char *line, int n)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.pub", dir, name);
	CHECK((f = fopen(path, "re")) != NULL);
	CHECK(fgets(line, n, f) != NULL);
	fclose(f);
}

static void
make_files(struct st_world *w)
{
	char text[2048], pub[512], *b64, *end;
	SP_BUF_AUTO blob = {.max = 512};

	keygen(w->dir, "host");
	keygen(w->dir, "alice");
	keygen(w->dir, "other");
	read_pub(w->dir, "alice", pub, sizeof(pub));
	b64 = strchr(pub, ' ') + 1;
	end = strchr(b64, ' ');
	OK(sp_unbase64(&blob, sp_span_of(b64, (size_t)(end - b64))));
	memcpy(w->key, blob.p + blob.off, blob.len);
	w->key_n = blob.len;
	read_pub(w->dir, "host", pub, sizeof(pub));
	snprintf(text, sizeof(text), "bastion,target %s", pub);
	write_file(w->dir, "known", 0600, text);
	snprintf(text, sizeof(text),
	    "Host *\n UserKnownHostsFile %s/known\n GlobalKnownHostsFile /dev/null\n"
	    " StrictHostKeyChecking yes\n IdentityFile %s/alice\n"
	    " IdentitiesOnly yes\n LogLevel INFO\n UpdateHostKeys no\n"
	    "Host bastion\n HostName 127.0.0.1\n Port %u\n User alice\n"
	    " HostKeyAlias bastion\n"
	    "Host core-01 core-02\n User admin\n HostKeyAlias target\n"
	    " ProxyJump bastion\n", w->dir, w->dir, w->port);
	write_file(w->dir, "config", 0600, text);
	snprintf(text, sizeof(text), "#!/bin/sh\necho \"$1\" >> %s/prompts\n"
	    "case \"$1\" in *Code*) echo 123456;; *Wrong*) echo 1;;"
	    " *Reason*) echo 'fix the disk';; *) echo no;; esac\n", w->dir);
	write_file(w->dir, "askpass", 0700, text);
	snprintf(w->config, sizeof(w->config), "%s/config", w->dir);
}

static void
listen_on(struct st_world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof(a);

	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(bind(w->listener, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(listen(w->listener, 64) == 0);
	CHECK(getsockname(w->listener, (struct sockaddr *)&a, &n) == 0);
	w->port = ntohs(a.sin_port);
}

static void
start_ingress(struct st_world *w, const char *config)
{
	struct sp_msg_start_ingress m = {.config = sp_span_str(config)};
	struct sp_packet p;
	char path[512], pub[512];
	const char *top = getenv("top_builddir");
	int fds[2];

	snprintf(path, sizeof(path), "%s/sallyport-ingress", top == NULL ? "." : top);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK((w->ingress = fork()) >= 0);
	if (w->ingress == 0) {
		CHECK(dup2(fds[1], SP_SUPERVISOR_FD) == SP_SUPERVISOR_FD);
		fcntl(SP_SUPERVISOR_FD, F_SETFD, 0);
		closefrom(4);
		execl(path, "sallyport-ingress", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	OK(sp_link_init(&w->sup, fds[0], SP_ROLE_SUP, SP_ROLE_ING, SP_ST_NEW));
	OK(sp_link_wait(&w->sup, &p, 60000));
	CHECK(p.type == SP_MSG_hello);
	read_pub(w->dir, "host", pub, sizeof(pub));
	m.host_key = sp_span_str(pub);
	OK(sp_send_start_ingress(&w->sup, 0, &m, NULL));
	OK(sp_link_wait(&w->sup, &p, 60000));
	CHECK(p.type == SP_MSG_started);
	w->sup.state = SP_ST_READY;
}

/* The seed stands before the last copy of the public half (PROTOCOL.key). */
static void
read_host_key(struct st_world *w)
{
	static const char head[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
	struct sp_buf raw = {.max = 4096};
	char path[512], text[4096] = "", b64[4096];
	size_t n = 0, at;
	uint8_t pk[32];
	FILE *f;

	snprintf(path, sizeof(path), "%s/host", w->dir);
	CHECK((f = fopen(path, "r")) != NULL);
	CHECK(fread(text, 1, sizeof(text) - 1, f) > sizeof(head));
	fclose(f);
	for (const char *p = text + sizeof(head) - 1; *p != '-' && *p != '\0'; p++)
		if (*p != '\n')
			b64[n++] = *p;
	OK(sp_unbase64(&raw, sp_span_of(b64, n)));
	/* magic, "none" twice, "", 1, the blob: its last 32 bytes */
	memcpy(pk, sp_buf_span(&raw).p + 15 + 8 + 8 + 4 + 4 + 4 + 19, 32);
	for (at = raw.len - 32; memcmp(sp_buf_span(&raw).p + at, pk, 32) != 0; at--)
		CHECK(at > 64);
	CHECK(crypto_sign_seed_keypair(pk, w->host_sk,
	    sp_buf_span(&raw).p + at - 32) == 0);
	sp_buf_fini(&raw);
}

static void
on_vault(struct st_world *w, struct st_conn *c)
{
	struct sp_msg_host_sign_r r = {.ok = 1};
	struct sp_msg_host_sign m;
	struct sp_packet p;
	uint8_t hash[64];

	if (sp_link_recv(&c->vlt, &p) != SP_OK)
		return;
	CHECK(p.type == SP_MSG_host_sign);
	OK(sp_dec_host_sign(p.body, &m));
	if (m.sha512 != 0)
		crypto_hash_sha512(hash, m.exchange.p, m.exchange.n);
	else
		crypto_hash_sha256(hash, m.exchange.p, m.exchange.n);
	CHECK(crypto_sign_detached(r.signature, NULL, hash, m.sha512 != 0 ? 64 : 32,
	    w->host_sk) == 0);
	(void)!sp_send_host_sign_r(&c->vlt, p.corr, &r, NULL);
}

struct st_world *
st_new(const char *config)
{
	struct st_world *w = calloc(1, sizeof(*w));

	CHECK(w != NULL);
	signal(SIGPIPE, SIG_IGN);
	tmp_name(w->dir, sizeof(w->dir), "sp-ingress");
	CHECK(mkdtemp(w->dir) != NULL);
	sp_buf_init(&w->log, 1 << 20);
	w->mfa_prompt = "Code: ";
	listen_on(w);
	make_files(w);
	read_host_key(w);
	start_ingress(w, config);
	return w;
}

/* ---------------------------------------------------------------- the broker */

struct st_stream *
st_give_stream(struct st_world *w, struct st_conn *c, uint32_t ctx, uint32_t chan,
    bool shared)
{
	struct sp_msg_chan_stream m = {.ctx = ctx, .chan = chan, .shared = shared};
	struct st_stream *t = NULL;
	int fds[2];

	for (int i = 0; i < ST_STREAMS && t == NULL; i++)
		if (!w->streams[i].used)
			t = &w->streams[i];
	CHECK(t != NULL);
	OK(sp_stream_pair(fds));
	*t = (struct st_stream){.used = true, .conn = c, .ctx = ctx, .chan = chan};
	OK(sp_stream_init(&t->s, fds[0], true));
	SENT(sp_send_chan_stream(&c->link, 0, &m, &fds[1]));
	return t;
}

static void
dialog(struct st_conn *c, uint32_t id, uint8_t kind, const char *title,
    const char *text)
{
	struct sp_msg_dialog m = {.dialog = id, .kind = kind,
	    .title = sp_span_str(title), .text = sp_span_str(text)};

	SENT(sp_send_dialog(&c->link, 0, &m, NULL));
}

static void
b_auth_key(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_auth_key m;
	struct sp_msg_auth_key_result r = {0};

	OK(sp_dec_auth_key(p->body, &m));
	r.ok = sp_span_eq(m.blob, sp_span_of(w->key, w->key_n));
	OK(sp_buf_printf(&w->log, "auth_key login=%.*s signed=%u algo=%.*s ok=%u\n",
	    (int)m.login.n, m.login.p, m.is_signed, (int)m.algo.n, m.algo.p, r.ok));
	if (r.ok == 1 && m.is_signed == 1)
		c->link.state = SP_ST_KEYED;
	SENT(sp_send_auth_key_result(&c->link, p->corr, &r, NULL));
}

static void
b_answer(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_dialog_answer m;

	OK(sp_dec_dialog_answer(p->body, &m));
	OK(sp_buf_printf(&w->log, "answer %u %.*s\n", m.dialog != 0, (int)m.text.n,
	    m.text.p));
	if (m.dialog != 0) {
		dialog(c, m.dialog, SP_DIALOG_INFO, "", "request 42 is filed");
		dialog(c, m.dialog, SP_DIALOG_INFO, "", "approved by bob");
		dialog(c, m.dialog, SP_DIALOG_OK, "", "");
	} else if (sp_span_is(m.text, "123456")) {
		c->link.state = SP_ST_AUTHED;
		dialog(c, 0, SP_DIALOG_OK, "", "");
	} else {
		dialog(c, 0, SP_DIALOG_FAIL, "", "");
	}
}

static void
b_target_login(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_target_login m;
	struct sp_msg_target_login_result r = {0};

	OK(sp_dec_target_login(p->body, &m));
	OK(sp_buf_printf(&w->log, "target_login login=%.*s method=%u signed=%u\n",
	    (int)m.login.n, m.login.p, m.method, m.is_signed));
	r.id = m.id;
	r.verdict = w->deny_login ? SP_LOGIN_DENY :
	    w->asks_reason && m.method != SP_LOGIN_KEY ? SP_LOGIN_NEXT :
	    SP_LOGIN_ACCEPT;
	SENT(sp_send_target_login_result(&c->link, p->corr, &r, NULL));
	if (m.method == SP_LOGIN_KBDINT && r.verdict == SP_LOGIN_NEXT) {
		dialog(c, m.id, SP_DIALOG_INFO, "Approval",
		    "admin@core-01 needs one approval");
		dialog(c, m.id, SP_DIALOG_ASK, "Approval", "Please say why.\nReason: ");
	}
}

static void
b_chan_open(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_chan_open m;
	struct sp_open o;

	OK(sp_dec_chan_open(p->body, &m));
	OK(sp_open_decode(m.open, &o));
	OK(sp_buf_printf(&w->log, "chan_open ctx=%u\n", m.ctx != 0));
	if (sp_span_is(o.command, "refuse me")) {
		struct sp_msg_chan_refused r = {.ctx = m.ctx, .chan = m.chan,
		    .exit_code = 75, .text = sp_span_str("request 7 is filed")};

		SENT(sp_send_chan_refused(&c->link, 0, &r, NULL));
		return;
	}
	if (sp_span_is(o.command, "no answer"))
		return;
	st_give_stream(w, c, m.ctx, m.chan, m.ctx != 0)->dialogue =
	    o.kind == SP_OPEN_SHELL && m.ctx == 0;
}

static void
b_target_open(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_target_open m;
	struct sp_msg_target_open_result r = {.text = sp_span_str("")};

	OK(sp_dec_target_open(p->body, &m));
	r.id = m.id;
	r.ok = sp_span_is(m.host, "core-01");
	if (r.ok == 0)
		r.text = sp_span_str("no target is called core-02");
	OK(sp_buf_printf(&w->log, "target_open %.*s:%u\n", (int)m.host.n, m.host.p,
	    m.port));
	SENT(sp_send_target_open_result(&c->link, p->corr, &r, NULL));
}

static void
b_others(struct st_world *w, struct st_conn *c, struct sp_packet *p)
{
	struct sp_msg_auth_refused a;
	struct sp_msg_policy_refusal r;
	char text[1100];

	switch (p->type) {
	case SP_MSG_mfa_begin:
		OK(sp_buf_printf(&w->log, "mfa_begin\n"));
		dialog(c, 0, SP_DIALOG_INFO, "Sallyport", "Second factor of alice");
		dialog(c, 0, SP_DIALOG_ASK_HIDDEN, "Sallyport", w->mfa_prompt);
		break;
	case SP_MSG_auth_refused:
		OK(sp_dec_auth_refused(p->body, &a));
		OK(sp_buf_printf(&w->log, "auth_refused %.*s detail=%s\n",
		    (int)a.why.n, a.why.p, sp_vis(text, sizeof(text), a.detail)));
		break;
	case SP_MSG_policy_refusal:
		OK(sp_dec_policy_refusal(p->body, &r));
		OK(sp_buf_printf(&w->log, "policy_refusal %.*s\n", (int)r.what.n,
		    r.what.p));
		break;
	case SP_MSG_target_close:
		OK(sp_buf_printf(&w->log, "target_close\n"));
		break;
	default:
		CHECK(false);
	}
}

static void
on_broker(struct st_world *w, struct st_conn *c)
{
	struct sp_packet p;
	enum sp_err e;

	while ((e = sp_link_recv(&c->link, &p)) == SP_OK) {
		switch (p.type) {
		case SP_MSG_auth_key:
			b_auth_key(w, c, &p);
			break;
		case SP_MSG_dialog_answer:
			b_answer(w, c, &p);
			break;
		case SP_MSG_target_login:
			b_target_login(w, c, &p);
			break;
		case SP_MSG_target_open:
			b_target_open(w, c, &p);
			break;
		case SP_MSG_chan_open:
			b_chan_open(w, c, &p);
			break;
		default:
			b_others(w, c, &p);
		}
	}
	if (e == SP_ERR_AGAIN)
		return;
	if (e != SP_ERR_EOF) {
		fprintf(stderr, "broker link: %s %s\n", sp_err_text(e), c->link.fault);
		abort();
	}
	sp_link_fini(&c->link);
	sp_link_fini(&c->vlt);
	c->used = false;
}

/* ------------------------------------------------------------- the supervisor */

static void
on_accept(struct st_world *w)
{
	int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
	int pair[2], vault[2], fds[3];
	struct sp_msg_spawn_ingress m = {.id = ++w->next_id,
	    .peer_addr = sp_span_str("127.0.0.1"), .peer_port = 1};
	struct st_conn *c = w->conns;

	if (fd < 0)
		return;
	while (c < w->conns + ST_CONNS && c->used)
		c++;
	CHECK(c < w->conns + ST_CONNS);
	OK(sp_link_pair(pair));
	OK(sp_link_pair(vault));
	*c = (struct st_conn){.used = true, .id = m.id};
	OK(sp_link_init(&c->vlt, vault[0], SP_ROLE_VLT, SP_ROLE_ING, SP_ST_READY));
	OK(sp_link_init(&c->link, pair[0], SP_ROLE_BRK, SP_ROLE_ING, SP_ST_READY));
	fds[0] = fd;
	fds[1] = pair[1];
	fds[2] = vault[1];
	OK(sp_send_spawn_ingress(&w->sup, 0, &m, fds));
}

static void
on_sup(struct st_world *w)
{
	struct sp_packet p;
	struct sp_msg_exited x;
	struct sp_msg_spawned s;

	while (sp_link_recv(&w->sup, &p) == SP_OK) {
		if (p.type == SP_MSG_spawned) {
			OK(sp_dec_spawned(p.body, &s));
			w->child = (pid_t)s.pid;
		}
		if (p.type == SP_MSG_exited) {
			OK(sp_dec_exited(p.body, &x));
			w->exited++;
			w->last_status = x.status;
			if (x.status != 0)
				OK(sp_buf_printf(&w->log, "exited status=%u\n", x.status));
		}
	}
}


void
st_step(struct st_world *w, struct st_client *c)
{
	struct pollfd p[2 + 2 * ST_CONNS + ST_STREAMS + ST_CLIENT_POLLS];
	struct pollfd *vault;
	nfds_t n = 2;

	p[0] = (struct pollfd){.fd = w->listener, .events = POLLIN};
	p[1] = (struct pollfd){.fd = w->sup.fd, .events = POLLIN};
	for (int i = 0; i < ST_CONNS; i++)
		p[n++] = (struct pollfd){.fd = w->conns[i].used ?
		    w->conns[i].link.fd : -1, .events = POLLIN};
	for (int i = 0; i < ST_STREAMS; i++) {
		struct st_stream *t = &w->streams[i];

		p[n] = (struct pollfd){.fd = t->used ? t->s.fd : -1,
		    .events = POLLIN};
		if (t->used && sp_stream_pending(&t->s) > 0)
			p[n].events |= POLLOUT;
		n++;
	}
	vault = p + n;
	for (int i = 0; i < ST_CONNS; i++)
		p[n++] = (struct pollfd){.fd = w->conns[i].used ?
		    w->conns[i].vlt.fd : -1, .events = POLLIN};
	if (c != NULL && !c->ended)
		n += st_client_polls(c, p + n);
	CHECK(poll(p, n, 1000) >= 0 || errno == EINTR);
	if (p[0].revents != 0)
		on_accept(w);
	if (p[1].revents != 0)
		on_sup(w);
	for (int i = 0; i < ST_CONNS; i++)
		if (vault[i].revents != 0 && w->conns[i].used)
			on_vault(w, &w->conns[i]);
	for (int i = 0; i < ST_CONNS; i++)
		if (p[2 + i].revents != 0)
			on_broker(w, &w->conns[i]);
	for (int i = 0; i < ST_STREAMS; i++)
		if (p[2 + ST_CONNS + i].revents != 0 && w->streams[i].used)
			st_target(w, &w->streams[i]);
	if (c != NULL && !c->ended)
		st_client_events(c, p + 2 + 2 * ST_CONNS + ST_STREAMS);
}

size_t
st_descriptors(const struct st_world *w)
{
	char path[64];
	size_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)w->child);
	if ((d = opendir(path)) == NULL)
		return 0;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

void
st_settle(struct st_world *w)
{
	int64_t end = sp_boot_us() + 20 * (int64_t)1000000;

	while (w->exited < w->next_id && sp_boot_us() < end)
		st_step(w, NULL);
	CHECK(w->exited == w->next_id);
	if (st_has(&w->log, "exited status"))
		fprintf(stderr, "%.*s\n", (int)w->log.len, (char *)w->log.p + w->log.off);
	CHECK(!st_has(&w->log, "exited status"));
}

bool
st_is_out_of_credit(const struct st_world *w)
{
	for (int i = 0; i < ST_STREAMS; i++)
		for (int k = 0; k < ST_CHANS && w->streams[i].used; k++)
			if (w->streams[i].ch[k].used &&
			    w->streams[i].ch[k].sent > 0 &&
			    w->streams[i].ch[k].credit == 0)
				return true;
	return false;
}

void
st_notice(struct st_world *w, const char *text)
{
	for (int i = 0; i < ST_STREAMS; i++)
		if (w->streams[i].used) {
			SENT(sp_stream_put_text(&w->streams[i].s, SP_FRAME_NOTICE, 0,
			    text));
			SENT(sp_stream_flush(&w->streams[i].s));
		}
}

void
st_end(struct st_world *w, uint8_t code, const char *text)
{
	for (int i = 0; i < ST_STREAMS; i++)
		if (w->streams[i].used) {
			SENT(sp_stream_put_end(&w->streams[i].s, code, text));
			SENT(sp_stream_flush(&w->streams[i].s));
		}
}

void
st_broker_dies(struct st_world *w)
{
	for (int i = 0; i < ST_CONNS; i++)
		if (w->conns[i].used) {
			sp_link_fini(&w->conns[i].link);
			sp_link_fini(&w->conns[i].vlt);
			w->conns[i].used = false;
		}
}

void
st_free(struct st_world *w)
{
	struct sp_msg_stop m = {.graceful = 1};
	int st = -1;

	st_settle(w);
	OK(sp_send_stop(&w->sup, 0, &m, NULL));
	CHECK(waitpid(w->ingress, &st, 0) == w->ingress);
	CHECK(st == 0);
	for (int i = 0; i < ST_STREAMS; i++)
		if (w->streams[i].used)
			sp_stream_fini(&w->streams[i].s);
	st_broker_dies(w);
	sp_link_fini(&w->sup);
	close(w->listener);
	sp_buf_fini(&w->log);
	run((const char *const[]){"rm", "-rf", w->dir, NULL});
	free(w);
}
