/* SPDX-License-Identifier: Apache-2.0 */
#include "test_ingress_stub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/parent.h"

#define CHECK(c)                                                              \
	((c) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,  \
	    #c), abort()))
#define OK(e) CHECK((e) == SP_OK)

bool
st_has(const struct sp_buf *b, const char *text)
{
	return b->len > 0 && memmem(b->p + b->off, b->len, text, strlen(text)) != NULL;
}

void
st_pattern(uint8_t *at, size_t n, uint32_t *seed)
{
	uint32_t x = *seed;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		at[i] = (uint8_t)(x >> 24);
	}
	*seed = x;
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
	char path[512];
	const char *top = getenv("top_builddir");
	int fds[2], key;

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
	OK(sp_link_wait(&w->sup, &p, 20000));
	CHECK(p.type == SP_MSG_hello);
	snprintf(path, sizeof(path), "%s/host", w->dir);
	CHECK((key = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
	OK(sp_send_start_ingress(&w->sup, 0, &m, &key));
	OK(sp_link_wait(&w->sup, &p, 20000));
	CHECK(p.type == SP_MSG_started);
	w->sup.state = SP_ST_READY;
}

struct st_world *
st_new(const char *config)
{
	struct st_world *w = calloc(1, sizeof(*w));

	CHECK(w != NULL);
	signal(SIGPIPE, SIG_IGN);
	snprintf(w->dir, sizeof(w->dir), "/tmp/sp-ingress-XXXXXX");
	CHECK(mkdtemp(w->dir) != NULL);
	sp_buf_init(&w->log, 1 << 20);
	w->mfa_prompt = "Code: ";
	listen_on(w);
	make_files(w);
	start_ingress(w, config);
	return w;
}

/* ------------------------------------------------------- the target's side */

static struct st_chan *
chan_of(struct st_stream *t, uint32_t id)
{
	for (int i = 0; i < ST_CHANS; i++)
		if (t->ch[i].used && t->ch[i].id == id)
			return &t->ch[i];
	return NULL;
}

static void
say(struct st_stream *t, struct st_chan *ch, uint8_t lane, const char *text)
{
	struct sp_span s = sp_span_str(text);

	CHECK(ch->credit >= s.n);
	ch->credit -= (uint32_t)s.n;
	OK(sp_stream_put(&t->s, SP_FRAME_DATA, lane, ch->id, s));
}

static void
finish(struct st_stream *t, struct st_chan *ch, uint32_t status)
{
	ch->done = true;
	OK(sp_stream_put(&t->s, SP_FRAME_EOF, 0, ch->id, sp_span_of(NULL, 0)));
	OK(sp_stream_put_u32(&t->s, SP_FRAME_EXIT_STATUS, ch->id, status));
	OK(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id, sp_span_of(NULL, 0)));
}

static void
finish_signal(struct st_stream *t, struct st_chan *ch)
{
	SP_BUF_AUTO b = {.max = 600};

	ch->done = true;
	OK(sp_buf_put_bytes(&b, sp_span_str("TERM")));
	OK(sp_buf_put_u8(&b, 0));
	OK(sp_buf_put_bytes(&b, sp_span_str("ended")));
	OK(sp_stream_put(&t->s, SP_FRAME_EXIT_SIGNAL, 0, ch->id, sp_buf_span(&b)));
	OK(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id, sp_span_of(NULL, 0)));
}

static void
begin(struct st_stream *t, struct st_chan *ch)
{
	char text[256];
	unsigned n;

	if (strcmp(ch->cmd, "fail") == 0) {
		ch->done = true;
		OK(sp_stream_put_text(&t->s, SP_FRAME_OPEN_FAIL, ch->id,
		    "the target refused it"));
		OK(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id,
		    sp_span_of(NULL, 0)));
		return;
	}
	OK(sp_stream_put(&t->s, SP_FRAME_OPEN_OK, 0, ch->id, sp_span_of(NULL, 0)));
	if (t->dialogue)
		say(t, ch, 1, "Why? ");
	else if (sscanf(ch->cmd, "exit %u", &n) == 1)
		finish(t, ch, n);
	else if (strcmp(ch->cmd, "sig") == 0)
		finish_signal(t, ch);
	else if (sscanf(ch->cmd, "gen %u", &n) == 1)
		ch->to_send = n;
	else if (strncmp(ch->cmd, "sink", 4) == 0)
		ch->expects = true;
	else if (sscanf(ch->cmd, "both %u", &n) == 1)
		ch->to_send = n, ch->expects = true;
	else if (strcmp(ch->cmd, "two") == 0) {
		say(t, ch, 1, "to stdout\n");
		say(t, ch, 2, "to stderr\n");
		finish(t, ch, 3);
	} else if (ch->kind == SP_OPEN_SHELL) {
		snprintf(text, sizeof(text), "hello %s\r\n",
		    ch->has_pty ? "pty" : "no pty");
		say(t, ch, 1, text);
	}
}

static void
on_open(struct st_world *w, struct st_stream *t, const struct sp_frame *f)
{
	struct sp_open o;
	struct st_chan *ch = NULL;
	char term[65];

	OK(sp_open_decode(f->payload, &o));
	for (int i = 0; i < ST_CHANS && ch == NULL; i++)
		if (!t->ch[i].used)
			ch = &t->ch[i];
	CHECK(ch != NULL);
	*ch = (struct st_chan){.used = true, .id = f->chan,
	    .has_pty = o.has_pty != 0, .kind = o.kind,
	    .credit = SP_STREAM_WINDOW, .tx_seed = 1, .rx_seed = 2};
	OK(sp_span_cstr(o.command, ch->cmd, sizeof(ch->cmd)));
	OK(sp_span_cstr(o.term, term, sizeof(term)));
	OK(sp_buf_printf(&w->log, "OPEN kind=%u pty=%u %ux%u term=%s cmd=%s env=%zu\n",
	    o.kind, o.has_pty, o.cols, o.rows, term, ch->cmd, o.env.n));
	begin(t, ch);
}

static void
hand_over(struct st_world *w, struct st_stream *t, struct st_chan *ch);

static void
typed(struct st_world *w, struct st_stream *t, struct st_chan *ch,
    struct sp_span s)
{
	char text[160];

	for (size_t i = 0; i < s.n && !ch->done; i++) {
		size_t n = strlen(ch->line);

		if (s.p[i] != '\r' && s.p[i] != '\n') {
			if (n + 1 < sizeof(ch->line))
				ch->line[n] = (char)s.p[i], ch->line[n + 1] = 0;
			continue;
		}
		OK(sp_buf_printf(&w->log, "LINE %s\n", ch->line));
		if (t->dialogue) {
			hand_over(w, t, ch);
			return;
		}
		if (strcmp(ch->line, "q") == 0) {
			finish(t, ch, 0);
			return;
		}
		snprintf(text, sizeof(text), "got %s\r\n", ch->line);
		say(t, ch, 1, text);
		ch->line[0] = '\0';
	}
}

static void
on_data(struct st_world *w, struct st_stream *t, struct st_chan *ch,
    struct sp_span s)
{
	static uint8_t want[SP_FRAME_PAYLOAD_MAX];

	ch->owed += (uint32_t)s.n;
	if (ch->owed >= SP_STREAM_WINDOW / 4) {
		OK(sp_stream_put_u32(&t->s, SP_FRAME_CREDIT, ch->id, ch->owed));
		ch->owed = 0;
	}
	ch->got += s.n;
	if (ch->expects) {
		st_pattern(want, s.n, &ch->rx_seed);
		ch->mismatch |= memcmp(want, s.p, s.n) != 0;
	} else if (strcmp(ch->cmd, "cat") == 0) {
		CHECK(ch->credit >= s.n);
		ch->credit -= (uint32_t)s.n;
		OK(sp_stream_put(&t->s, SP_FRAME_DATA, 1, ch->id, s));
	} else if (ch->kind == SP_OPEN_SHELL) {
		typed(w, t, ch, s);
	}
}

static void
on_frame(struct st_world *w, struct st_stream *t, const struct sp_frame *f)
{
	struct st_chan *ch = chan_of(t, f->chan);
	struct sp_span s = f->payload, name;
	uint32_t a, b;
	char text[96];

	if (f->type == SP_FRAME_OPEN) {
		CHECK(ch == NULL);
		on_open(w, t, f);
		return;
	}
	CHECK(ch != NULL);
	switch (f->type) {
	case SP_FRAME_DATA:
		on_data(w, t, ch, s);
		break;
	case SP_FRAME_CREDIT:
		OK(sp_get_u32(&s, &a));
		ch->credit += a;
		break;
	case SP_FRAME_EOF:
		ch->eof = true;
		if (strcmp(ch->cmd, "cat") == 0 && !ch->done)
			finish(t, ch, 0);
		break;
	case SP_FRAME_WINDOW:
		OK(sp_get_u32(&s, &a));
		OK(sp_get_u32(&s, &b));
		OK(sp_buf_printf(&w->log, "WINDOW %ux%u\n", a, b));
		snprintf(text, sizeof(text), "win %ux%u\r\n", a, b);
		say(t, ch, 1, text);
		break;
	case SP_FRAME_SIGNAL:
		OK(sp_get_str(&s, 36, &name));
		OK(sp_buf_printf(&w->log, "SIGNAL %.*s\n", (int)name.n, name.p));
		break;
	case SP_FRAME_CLOSE:
		OK(sp_buf_printf(&w->log, "CLOSE %s got=%llu\n", ch->cmd,
		    (unsigned long long)ch->got));
		ch->used = false;
		break;
	default:
		CHECK(false);
	}
}

static void
produce(struct st_stream *t, struct st_chan *ch)
{
	static uint8_t at[32768];

	if (!ch->used || ch->done)
		return;
	while (ch->sent < ch->to_send && ch->credit > 0 &&
	    sp_stream_pending(&t->s) < (1u << 20)) {
		size_t n = sizeof(at);

		if (n > ch->to_send - ch->sent)
			n = ch->to_send - ch->sent;
		if (n > ch->credit)
			n = ch->credit;
		st_pattern(at, n, &ch->tx_seed);
		OK(sp_stream_put(&t->s, SP_FRAME_DATA, 1, ch->id,
		    sp_span_of(at, n)));
		ch->sent += n;
		ch->credit -= (uint32_t)n;
	}
	if (ch->sent == ch->to_send && (ch->expects ? ch->eof : ch->to_send > 0))
		finish(t, ch, ch->mismatch ? 9 : 0);
}

/* ---------------------------------------------------------------- the broker */

static struct st_stream *
give_stream(struct st_world *w, struct st_conn *c, uint32_t ctx, uint32_t chan,
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
	OK(sp_send_chan_stream(&c->link, 0, &m, &fds[1]));
	return t;
}

static void
hand_over(struct st_world *w, struct st_stream *t, struct st_chan *ch)
{
	OK(sp_stream_put(&t->s, SP_FRAME_HANDOVER, 0, ch->id, sp_span_of(NULL, 0)));
	OK(sp_stream_flush(&t->s));
	ch->used = false;
	give_stream(w, t->conn, t->ctx, t->chan, true);
}

static void
dialog(struct st_conn *c, uint32_t id, uint8_t kind, const char *title,
    const char *text)
{
	struct sp_msg_dialog m = {.dialog = id, .kind = kind,
	    .title = sp_span_str(title), .text = sp_span_str(text)};

	OK(sp_send_dialog(&c->link, 0, &m, NULL));
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
	OK(sp_send_auth_key_result(&c->link, p->corr, &r, NULL));
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
	OK(sp_send_target_login_result(&c->link, p->corr, &r, NULL));
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

		OK(sp_send_chan_refused(&c->link, 0, &r, NULL));
		return;
	}
	if (sp_span_is(o.command, "no answer"))
		return;
	give_stream(w, c, m.ctx, m.chan, m.ctx != 0)->dialogue =
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
	OK(sp_send_target_open_result(&c->link, p->corr, &r, NULL));
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
	c->used = false;
}

/* ------------------------------------------------------------- the supervisor */

static void
on_accept(struct st_world *w)
{
	int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
	int pair[2], fds[2];
	struct sp_msg_spawn_ingress m = {.id = ++w->next_id,
	    .peer_addr = sp_span_str("127.0.0.1"), .peer_port = 1};
	struct st_conn *c = w->conns;

	if (fd < 0)
		return;
	while (c < w->conns + ST_CONNS && c->used)
		c++;
	CHECK(c < w->conns + ST_CONNS);
	OK(sp_link_pair(pair));
	*c = (struct st_conn){.used = true, .id = m.id};
	OK(sp_link_init(&c->link, pair[0], SP_ROLE_BRK, SP_ROLE_ING, SP_ST_READY));
	fds[0] = fd;
	fds[1] = pair[1];
	OK(sp_send_spawn_ingress(&w->sup, 0, &m, fds));
}

static void
on_sup(struct st_world *w)
{
	struct sp_packet p;
	struct sp_msg_exited x;

	while (sp_link_recv(&w->sup, &p) == SP_OK)
		if (p.type == SP_MSG_exited) {
			OK(sp_dec_exited(p.body, &x));
			w->exited++;
			w->last_status = x.status;
			if (x.status != 0)
				OK(sp_buf_printf(&w->log, "exited status=%u\n", x.status));
		}
}

static void
on_stream(struct st_world *w, struct st_stream *t)
{
	enum sp_err fill = sp_stream_fill(&t->s), e;
	struct sp_frame f;

	while ((e = sp_stream_next(&t->s, &f)) == SP_OK)
		on_frame(w, t, &f);
	if (e != SP_ERR_AGAIN)
		fprintf(stderr, "stream: %s\n", t->s.fault);
	CHECK(e == SP_ERR_AGAIN);
	for (int i = 0; i < ST_CHANS; i++)
		produce(t, &t->ch[i]);
	e = sp_stream_flush(&t->s);
	if (fill == SP_ERR_EOF || fill == SP_ERR_IO ||
	    (e != SP_OK && e != SP_ERR_AGAIN)) {
		OK(sp_buf_printf(&w->log, "stream_end\n"));
		sp_stream_fini(&t->s);
		t->used = false;
	}
}

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

static void
client_events(struct st_client *c, const struct pollfd *p)
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

static nfds_t
client_polls(struct st_client *c, struct pollfd *p)
{
	bool feeds = c->in >= 0 && (c->fed < c->feed_n || !c->keep_in);

	p[0] = (struct pollfd){.fd = feeds ? c->in : -1, .events = POLLOUT};
	p[1] = (struct pollfd){.fd = c->hold_out ? -1 : c->out, .events = POLLIN};
	p[2] = (struct pollfd){.fd = c->err, .events = POLLIN};
	p[3] = (struct pollfd){.fd = c->pty, .events = POLLIN};
	p[4] = (struct pollfd){.fd = c->out < 0 && c->err < 0 ? c->pidfd : -1,
	    .events = POLLIN};
	return 5;
}

void
st_step(struct st_world *w, struct st_client *c)
{
	struct pollfd p[2 + ST_CONNS + ST_STREAMS + 5];
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
	if (c != NULL && !c->ended)
		n += client_polls(c, p + n);
	CHECK(poll(p, n, 1000) >= 0 || errno == EINTR);
	if (p[0].revents != 0)
		on_accept(w);
	if (p[1].revents != 0)
		on_sup(w);
	for (int i = 0; i < ST_CONNS; i++)
		if (p[2 + i].revents != 0)
			on_broker(w, &w->conns[i]);
	for (int i = 0; i < ST_STREAMS; i++)
		if (p[2 + ST_CONNS + i].revents != 0 && w->streams[i].used)
			on_stream(w, &w->streams[i]);
	if (c != NULL && !c->ended)
		client_events(c, p + 2 + ST_CONNS + ST_STREAMS);
}

int
st_wait(struct st_world *w, struct st_client *c)
{
	int64_t end = sp_boot_us() + 30 * (int64_t)1000000;

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

void
st_settle(struct st_world *w)
{
	int64_t end = sp_boot_us() + 20 * (int64_t)1000000;

	while (w->exited < w->next_id && sp_boot_us() < end)
		st_step(w, NULL);
	CHECK(w->exited == w->next_id);
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
			OK(sp_stream_put_text(&w->streams[i].s, SP_FRAME_NOTICE, 0,
			    text));
			OK(sp_stream_flush(&w->streams[i].s));
		}
}

void
st_end(struct st_world *w, uint8_t code, const char *text)
{
	for (int i = 0; i < ST_STREAMS; i++)
		if (w->streams[i].used) {
			OK(sp_stream_put_end(&w->streams[i].s, code, text));
			OK(sp_stream_flush(&w->streams[i].s));
		}
}

void
st_broker_dies(struct st_world *w)
{
	for (int i = 0; i < ST_CONNS; i++)
		if (w->conns[i].used) {
			sp_link_fini(&w->conns[i].link);
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
