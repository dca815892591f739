/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The egress as a whole against OpenSSH's sshd and ssh-agent: this test plays
 * the supervisor, the broker, the vault and the recorder.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/egress/tap.h"
#include "common/ipc.h"
#include "common/stream.h"
#include "tests/support/tmp.h"

#define WAIT_MS 60000

struct world {
	char dir[64];
	pid_t sshd, agent, egress;
	uint16_t port;
	char user[33];
	struct sp_link sup, broker, vault;
	struct sp_stream rec;
	uint8_t session[16];
	struct sp_buf pins;
};

static pid_t
spawn(char *const argv[], const int *fd3, const char *env)
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* a failed test leaves nothing */
		dup2(null, 0);
		dup2(null, 1);
		if (env != NULL)
			putenv(strdup(env));
		if (fd3 != NULL) {
			int t = fcntl(*fd3, F_DUPFD, 10);

			dup2(t, 3);
		}
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void
run(char *const argv[])
{
	int status;
	pid_t pid = spawn(argv, NULL, NULL);

	cr_assert(waitpid(pid, &status, 0) == pid && status == 0, "%s", argv[0]);
}

static uint16_t
free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	cr_assert(getsockname(fd, (struct sockaddr *)&a, &n) == 0);
	close(fd);
	return ntohs(a.sin_port);
}

static int
dial(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int64_t end = sp_boot_us() + WAIT_MS * 1000;

	do {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		poll(NULL, 0, 10);
	} while (sp_boot_us() < end);
	return -1;
}

static int
dial_agent(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int64_t end = sp_boot_us() + WAIT_MS * 1000;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	do {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		poll(NULL, 0, 10);
	} while (sp_boot_us() < end);
	return -1;
}

static void
start_sshd(struct world *w)
{
	char conf[128], key[128], ukey[128], logs[128];
	FILE *f;

	snprintf(key, sizeof(key), "%s/hk", w->dir);
	snprintf(ukey, sizeof(ukey), "%s/uk", w->dir);
	snprintf(conf, sizeof(conf), "%s/conf", w->dir);
	snprintf(logs, sizeof(logs), "%s/log", w->dir);
	run((char *[]){"/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "",
	    "-f", key, NULL});
	run((char *[]){"/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "",
	    "-f", ukey, NULL});
	w->port = free_port();
	cr_assert((f = fopen(conf, "w")) != NULL);
	fprintf(f, "ListenAddress 127.0.0.1:%u\nHostKey %s\nUsePAM no\n"
	    "AuthorizedKeysFile %s.pub\nStrictModes no\nPidFile none\n"
	    "PermitRootLogin yes\nAllowUsers %s\nAcceptEnv LANG\n"
	    "LogLevel VERBOSE\nRekeyLimit 1M\nSubsystem echo /bin/cat\n", w->port, key, ukey,
	    w->user);
	fclose(f);
	(void)mkdir("/run/sshd", 0755);
	w->sshd = spawn((char *[]){"/usr/sbin/sshd", "-D", "-E", logs, "-f", conf,
	    NULL}, NULL, NULL);
}

/* The public key blob of FILE.pub, as an SSH string in w->pins. */
static void
pin(struct world *w, const char *name)
{
	SP_BUF_AUTO blob = {.max = 4096};
	char path[128], line[2048], *b;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.pub", w->dir, name);
	cr_assert((f = fopen(path, "r")) != NULL);
	cr_assert(fgets(line, sizeof(line), f) != NULL);
	fclose(f);
	b = strchr(line, ' ') + 1;
	b[strcspn(b, " \n")] = '\0';
	cr_assert(sp_unbase64(&blob, sp_span_str(b)) == SP_OK);
	cr_assert(sp_buf_put_ssh_string(&w->pins, sp_buf_span(&blob)) == SP_OK);
}

static void
expect(struct sp_link *l, uint16_t type, struct sp_packet *p)
{
	enum sp_err e = sp_link_wait(l, p, WAIT_MS);

	cr_assert(e == SP_OK, "%s: %s", sp_err_text(e), l->fault);
	cr_assert(p->type == type, "got %s, wanted %s", sp_ipc_name(p->type),
	    sp_ipc_name(type));
}

static void
start_egress(struct world *w)
{
	struct sp_msg_start_parent m = {.config = sp_span_str("")};
	char bin[512];
	struct sp_packet p;
	int fds[2];

	snprintf(bin, sizeof(bin), "%s/sallyport-egress", getenv("top_builddir"));
	cr_assert(sp_link_pair(fds) == SP_OK);
	w->egress = spawn((char *[]){bin, NULL}, &fds[1], NULL);
	close(fds[1]);
	cr_assert(sp_link_init(&w->sup, fds[0], SP_ROLE_SUP, SP_ROLE_EGR,
	    SP_ST_NEW) == SP_OK);
	expect(&w->sup, SP_MSG_hello, &p);
	cr_assert(sp_send_start_parent(&w->sup, 0, &m, NULL) == SP_OK);
	expect(&w->sup, SP_MSG_started, &p);
	w->sup.state = SP_ST_READY;
}

static void
spawn_child(struct world *w, int tcp, int agent)
{
	struct sp_msg_spawn_egress m = {.id = 1};
	struct sp_packet p;
	int s[2], b[2], v[2];

	sp_uuid_make(w->session);
	memcpy(m.session, w->session, 16);
	cr_assert(sp_stream_pair(s) == SP_OK && sp_link_pair(b) == SP_OK &&
	    sp_link_pair(v) == SP_OK);
	cr_assert(sp_send_spawn_egress(&w->sup, 0, &m,
	    (int[]){tcp, s[1], b[1], v[1], agent}) == SP_OK);
	expect(&w->sup, SP_MSG_spawned, &p);
	cr_assert(sp_stream_init(&w->rec, s[0], false) == SP_OK);
	cr_assert(sp_link_init(&w->broker, b[0], SP_ROLE_BRK, SP_ROLE_EGR,
	    SP_ST_READY) == SP_OK);
	cr_assert(sp_link_init(&w->vault, v[0], SP_ROLE_VLT, SP_ROLE_EGR,
	    SP_ST_READY) == SP_OK);
}

static void
send_start(struct world *w, uint8_t method)
{
	struct sp_msg_egr_start m = {.method = method,
	    .account = sp_span_str(w->user), .deadline_ms = 10000,
	    .host_keys = sp_buf_span(&w->pins)};

	memcpy(m.session, w->session, 16);
	cr_assert(sp_send_egr_start(&w->broker, 0, &m, NULL) == SP_OK);
}

static void
world_begin(struct world *w)
{
	char sock[128], key[128];
	struct passwd *pw = getpwuid(getuid());

	*w = (struct world){.pins = {.max = 8192}};
	snprintf(w->user, sizeof(w->user), "%s", pw->pw_name);
	tmp_name(w->dir, sizeof(w->dir), "sp-egress");
	cr_assert(mkdtemp(w->dir) != NULL);
	start_sshd(w);
	snprintf(sock, sizeof(sock), "%s/agent", w->dir);
	snprintf(key, sizeof(key), "%s/uk", w->dir);
	w->agent = spawn((char *[]){"/usr/bin/ssh-agent", "-D", "-a", sock, NULL},
	    NULL, NULL);
	close(dial_agent(sock));
	{
		char env[160];
		int st;
		pid_t pid;

		snprintf(env, sizeof(env), "SSH_AUTH_SOCK=%s", sock);
		pid = spawn((char *[]){"/usr/bin/ssh-add", "-q", key, NULL}, NULL,
		    env);
		cr_assert(waitpid(pid, &st, 0) == pid && st == 0);
	}
	start_egress(w);
}

static void
world_end(struct world *w)
{
	pid_t all[] = {w->egress, w->agent, w->sshd};

	sp_stream_fini(&w->rec);
	sp_link_fini(&w->broker);
	sp_link_fini(&w->vault);
	sp_link_fini(&w->sup);
	sp_buf_fini(&w->pins);
	for (size_t i = 0; i < 3; i++) {
		kill(all[i], SIGTERM);
		waitpid(all[i], NULL, 0);
	}
	run((char *[]){"/bin/rm", "-rf", w->dir, NULL});
}

static void
login(struct world *w)
{
	struct sp_msg_host_proof proof;
	struct sp_msg_host_proof_r ok = {.ok = 1, .text = sp_span_str("")};
	struct sp_packet p;
	char sock[128];

	snprintf(sock, sizeof(sock), "%s/agent", w->dir);
	spawn_child(w, dial(w->port), dial_agent(sock));
	send_start(w, SP_CRED_SSH_KEY);
	expect(&w->vault, SP_MSG_host_proof, &p);
	cr_assert(sp_dec_host_proof(p.body, &proof) == SP_OK);
	cr_assert(proof.host_key.n == 51 && proof.signature.n == 83);
	cr_assert(sp_send_host_proof_r(&w->vault, 0, &ok, NULL) == SP_OK);
	expect(&w->broker, SP_MSG_egr_ready, &p);
}

/* ------------------------------------------------ the user side, by hand */

struct talk {
	struct sp_buf out, err;
	bool ok, fail, eof, closed, exited;
	uint32_t status;
};

static void
put(struct world *w, uint8_t type, uint32_t chan, struct sp_span s)
{
	cr_assert(sp_stream_put(&w->rec, type, 0, chan, s) == SP_OK);
}

static void
open_chan(struct world *w, uint32_t chan, struct sp_open o)
{
	SP_BUF_AUTO b = {.max = 40960};

	cr_assert(sp_open_encode(&b, &o) == SP_OK);
	put(w, SP_FRAME_OPEN, chan, sp_buf_span(&b));
}

static void
take(struct world *w, struct talk *t, const struct sp_frame *f)
{
	struct sp_span s = f->payload;

	switch (f->type) {
	case SP_FRAME_OPEN_OK: t->ok = true; break;
	case SP_FRAME_OPEN_FAIL: t->fail = true; break;
	case SP_FRAME_EOF: t->eof = true; break;
	case SP_FRAME_CLOSE: t->closed = true; break;
	case SP_FRAME_EXIT_STATUS:
		t->exited = true;
		cr_assert(sp_get_u32(&s, &t->status) == SP_OK);
		break;
	case SP_FRAME_DATA:
		cr_assert(sp_buf_put(f->lane == 1 ? &t->out : &t->err, s.p, s.n) ==
		    SP_OK);
		cr_assert(sp_stream_put_u32(&w->rec, SP_FRAME_CREDIT, f->chan,
		    (uint32_t)s.n) == SP_OK);
		break;
	default:
		break;
	}
}

/* Pumps until the channel is closed; input goes in as credit allows. */
static void
pump(struct world *w, struct talk *t, uint32_t chan, struct sp_span input,
    bool slow)
{
	int64_t end = sp_boot_us() + 60LL * 1000000;
	size_t credit = SP_STREAM_WINDOW;
	bool eof = false;

	while (!t->closed && sp_boot_us() < end) {
		struct pollfd pf = {.fd = w->rec.fd, .events = POLLIN};
		struct sp_frame f;

		while (input.n > 0 && credit > 0 &&
		    sp_stream_pending(&w->rec) < 65536) {
			size_t n = input.n < 30000 ? input.n : 30000;

			n = n < credit ? n : credit;
			put(w, SP_FRAME_DATA, chan, sp_span_of(input.p, n));
			input.p += n, input.n -= n, credit -= n;
		}
		if (input.n == 0 && !eof) {
			eof = true;
			put(w, SP_FRAME_EOF, chan, (struct sp_span){0});
		}
		(void)!sp_stream_flush(&w->rec);
		if (sp_stream_pending(&w->rec) > 0)
			pf.events |= POLLOUT;
		poll(&pf, 1, 1000);
		if (slow)
			poll(NULL, 0, 1);
		(void)!sp_stream_fill(&w->rec);
		while (sp_stream_next(&w->rec, &f) == SP_OK) {
			struct sp_span s = f.payload;
			uint32_t n;

			if (f.chan != chan)
				continue;
			if (f.type == SP_FRAME_CREDIT && sp_get_u32(&s, &n) == SP_OK)
				credit += n;
			take(w, t, &f);
		}
		cr_assert(!w->rec.eof, "the egress went away");
	}
	cr_assert(t->closed, "the channel never closed");
	put(w, SP_FRAME_CLOSE, chan, (struct sp_span){0});
	(void)!sp_stream_flush(&w->rec);
}

static struct talk
talk_new(void)
{
	return (struct talk){.out = {.max = 64u << 20}, .err = {.max = 1u << 20}};
}

Test(egress, exec_is_byte_clean_both_ways_under_rekeys, .timeout = 120)
{
	static uint8_t random[8 << 20];
	struct talk t = talk_new();
	struct world w;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	for (size_t i = 0; i < sizeof(random); i += 256)
		cr_assert(getrandom(random + i, 256, 0) == 256);
	open_chan(&w, 1, (struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_str("cat; echo done >&2; exit 7")});
	pump(&w, &t, 1, sp_span_of(random, sizeof(random)), false);
	cr_assert(t.ok && t.eof && t.exited && t.status == 7);
	cr_assert(t.out.len == sizeof(random), "%zu", t.out.len);
	cr_assert(memcmp(sp_buf_span(&t.out).p, random, sizeof(random)) == 0);
	cr_assert(sp_span_is(sp_buf_span(&t.err), "done\n"));
	/* a second channel of the same session, with a slow reader */
	sp_buf_fini(&t.out);
	sp_buf_fini(&t.err);
	t = talk_new();
	open_chan(&w, 2, (struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_str("head -c 3000000 /dev/zero | tr '\\0' x")});
	pump(&w, &t, 2, (struct sp_span){0}, true);
	cr_assert(t.out.len == 3000000 && t.status == 0);
	sp_buf_fini(&t.out);
	sp_buf_fini(&t.err);
	world_end(&w);
}

Test(egress, shell_with_terminal_window_and_environment, .timeout = 60)
{
	static const char cmds[] = "stty size; echo lang=$LANG; exit 3\n";
	struct talk t = talk_new();
	SP_BUF_AUTO env = {.max = 256};
	struct world w;
	char *text;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	cr_assert(sp_buf_put_bytes(&env, sp_span_str("LANG")) == SP_OK);
	cr_assert(sp_buf_put_bytes(&env, sp_span_str("zh_TW.UTF-8")) == SP_OK);
	open_chan(&w, 1, (struct sp_open){.kind = SP_OPEN_SHELL, .has_pty = 1,
	    .cols = 91, .rows = 37, .term = sp_span_str("xterm"),
	    .env = sp_buf_span(&env)});
	pump(&w, &t, 1, sp_span_str(cmds), false);
	cr_assert((text = sp_span_dup(sp_buf_span(&t.out))) != NULL);
	cr_assert(strstr(text, "37 91") != NULL, "%s", text);
	cr_assert(strstr(text, "lang=zh_TW.UTF-8") != NULL, "%s", text);
	cr_assert(t.status == 3);
	free(text);
	sp_buf_fini(&t.out);
	sp_buf_fini(&t.err);
	world_end(&w);
}

static void
wait_open(struct world *w, uint32_t chan)
{
	int64_t end = sp_boot_us() + WAIT_MS * 1000;
	struct sp_frame f;

	do {
		struct pollfd pf = {.fd = w->rec.fd, .events = POLLIN};

		(void)!sp_stream_flush(&w->rec);
		poll(&pf, 1, 1000);
		(void)!sp_stream_fill(&w->rec);
		while (sp_stream_next(&w->rec, &f) == SP_OK)
			if (f.chan == chan && f.type == SP_FRAME_OPEN_OK)
				return;
	} while (sp_boot_us() < end);
	cr_assert(false, "channel %u never opened", chan);
}

/* The user closes first; what the target says of that channel afterwards must
 * find nobody. Under ASan this failed before callbacks were taken away. */
Test(egress, a_target_may_speak_of_a_channel_that_is_gone, .timeout = 60)
{
	struct sp_packet p;
	struct world w;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	for (uint32_t id = 1; id <= 8; id++) {
		struct talk t = talk_new();
		SP_BUF_AUTO b = {.max = 40960};

		open_chan(&w, 2 * id - 1, (struct sp_open){.kind = SP_OPEN_EXEC,
		    .command = sp_span_str("cat >/dev/null; kill -KILL $$")});
		wait_open(&w, 2 * id - 1);
		put(&w, SP_FRAME_CLOSE, 2 * id - 1, (struct sp_span){0});
		open_chan(&w, 2 * id, (struct sp_open){.kind = SP_OPEN_EXEC,
		    .command = sp_span_str("echo alive")});
		pump(&w, &t, 2 * id, (struct sp_span){0}, false);
		cr_assert(sp_span_is(sp_buf_span(&t.out), "alive\n"));
		sp_buf_fini(&t.out);
		sp_buf_fini(&t.err);
	}
	cr_assert(sp_link_recv(&w.sup, &p) == SP_ERR_AGAIN, "the child died");
	world_end(&w);
}

/* A question whether the key would do is "Postponed" in an sshd's log. */
Test(egress, the_login_is_signed_at_once, .timeout = 60)
{
	static char text[16384];
	char path[128];
	struct world w;
	size_t n;
	FILE *f;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	snprintf(path, sizeof(path), "%s/log", w.dir);
	cr_assert((f = fopen(path, "r")) != NULL);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	cr_assert_not_null(strstr(text, "Accepted publickey for"), "%s", text);
	cr_assert_null(strstr(text, "Postponed"), "%s", text);
	world_end(&w);
}

Test(egress, subsystem_passes_through, .timeout = 60)
{
	struct talk t = talk_new();
	struct world w;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	open_chan(&w, 1, (struct sp_open){.kind = SP_OPEN_SUBSYSTEM,
	    .command = sp_span_str("echo")});
	pump(&w, &t, 1, sp_span_str("through"), false);
	cr_assert(t.ok && sp_span_is(sp_buf_span(&t.out), "through"));
	sp_buf_fini(&t.out);
	t = talk_new();
	open_chan(&w, 2, (struct sp_open){.kind = SP_OPEN_SUBSYSTEM,
	    .command = sp_span_str("nothing")});
	pump(&w, &t, 2, (struct sp_span){0}, false);
	cr_assert(t.fail && !t.ok);
	world_end(&w);
}

Test(egress, a_changed_host_key_ends_before_any_credential, .timeout = 60)
{
	struct sp_msg_egr_failed m;
	struct sp_packet p;
	struct world w;
	char sock[128];

	world_begin(&w);
	pin(&w, "uk");	/* some other key */
	snprintf(sock, sizeof(sock), "%s/agent", w.dir);
	spawn_child(&w, dial(w.port), dial_agent(sock));
	send_start(&w, SP_CRED_SSH_KEY);
	expect(&w.broker, SP_MSG_egr_failed, &p);
	cr_assert(sp_dec_egr_failed(p.body, &m) == SP_OK);
	cr_assert(m.code == SP_EGR_HOSTKEY);
	/* the vault was not asked for anything: its link just ends */
	cr_assert(sp_link_wait(&w.vault, &p, WAIT_MS) == SP_ERR_EOF);
	expect(&w.sup, SP_MSG_exited, &p);
	world_end(&w);
}

Test(egress, a_vault_that_refuses_the_host_ends_it, .timeout = 60)
{
	struct sp_msg_host_proof_r no = {.ok = 0, .text = sp_span_str("no")};
	struct sp_msg_egr_failed m;
	struct sp_packet p;
	struct world w;
	char sock[128];

	world_begin(&w);
	pin(&w, "hk");
	snprintf(sock, sizeof(sock), "%s/agent", w.dir);
	spawn_child(&w, dial(w.port), dial_agent(sock));
	send_start(&w, SP_CRED_SSH_KEY);
	expect(&w.vault, SP_MSG_host_proof, &p);
	cr_assert(sp_send_host_proof_r(&w.vault, 0, &no, NULL) == SP_OK);
	expect(&w.broker, SP_MSG_egr_failed, &p);
	cr_assert(sp_dec_egr_failed(p.body, &m) == SP_OK);
	cr_assert(m.code == SP_EGR_VAULT);
	world_end(&w);
}

Test(egress, a_wrong_password_is_told_and_no_more_tried, .timeout = 60)
{
	struct sp_msg_host_proof_r ok = {.ok = 1, .text = sp_span_str("")};
	struct sp_msg_password pw = {.len = 5};
	struct sp_msg_take_password take_it;
	struct sp_msg_egr_failed m;
	struct sp_packet p;
	struct world w;
	int fd = memfd_create("pw", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	world_begin(&w);
	pin(&w, "hk");
	spawn_child(&w, dial(w.port), open("/dev/null", O_RDONLY | O_CLOEXEC));
	send_start(&w, SP_CRED_SSH_PASSWORD);
	expect(&w.vault, SP_MSG_host_proof, &p);
	cr_assert(sp_send_host_proof_r(&w.vault, 0, &ok, NULL) == SP_OK);
	w.vault.state = SP_ST_LIVE;
	expect(&w.vault, SP_MSG_take_password, &p);
	cr_assert(sp_dec_take_password(p.body, &take_it) == SP_OK);
	cr_assert(take_it.session_id.n == 32);
	cr_assert(write(fd, "wrong", 5) == 5);
	cr_assert(sp_send_password(&w.vault, 0, &pw, &fd) == SP_OK);
	expect(&w.broker, SP_MSG_egr_failed, &p);
	cr_assert(sp_dec_egr_failed(p.body, &m) == SP_OK);
	cr_assert(m.code == SP_EGR_AUTH);
	world_end(&w);
}

Test(egress, a_scan_reads_the_host_key_only, .timeout = 60)
{
	struct sp_msg_egr_scan scan = {.deadline_ms = 5000};
	struct sp_msg_egr_scanned m;
	struct sp_span pinned, key;
	struct sp_packet p;
	struct world w;

	world_begin(&w);
	pin(&w, "hk");
	spawn_child(&w, dial(w.port), open("/dev/null", O_RDONLY | O_CLOEXEC));
	cr_assert(sp_send_egr_scan(&w.broker, 0, &scan, NULL) == SP_OK);
	expect(&w.broker, SP_MSG_egr_scanned, &p);
	cr_assert(sp_dec_egr_scanned(p.body, &m) == SP_OK);
	pinned = sp_buf_span(&w.pins);
	cr_assert(sp_get_ssh_string(&pinned, 4096, &key) == SP_OK);
	cr_assert(sp_span_eq(key, m.host_key));
	world_end(&w);
}

/* A hostile recorder side: frames that cannot be end the child, not more. */
Test(egress, broken_frames_end_the_child_only, .timeout = 60)
{
	struct sp_msg_exited m;
	struct sp_packet p;
	struct world w;

	world_begin(&w);
	pin(&w, "hk");
	login(&w);
	put(&w, SP_FRAME_DATA, 77, sp_span_str("no such channel"));
	(void)!sp_stream_flush(&w.rec);
	expect(&w.sup, SP_MSG_exited, &p);
	cr_assert(sp_dec_exited(p.body, &m) == SP_OK);
	cr_assert(WIFEXITED((int)m.status) && WEXITSTATUS((int)m.status) == 3);
	login(&w);	/* the parent goes on */
	world_end(&w);
}

/* The parser of what the server sends in the clear: cut anywhere, it waits;
 * with a length that lies, it refuses. */
Test(tap, parses_only_whole_replies)
{
	SP_BUF_AUTO b = {.max = 4096}, reply = {.max = 1024};
	struct sp_span k, s;
	size_t whole;

	cr_assert(sp_buf_printf(&b, "hello\r\nSSH-2.0-x\r\n") == SP_OK);
	cr_assert(sp_buf_put_u8(&reply, 31) == SP_OK);
	cr_assert(sp_buf_put_ssh_string(&reply, sp_span_str("key")) == SP_OK);
	cr_assert(sp_buf_put_ssh_string(&reply, sp_span_str("q")) == SP_OK);
	cr_assert(sp_buf_put_ssh_string(&reply, sp_span_str("sig")) == SP_OK);
	cr_assert(sp_buf_put_ssh_u32(&b, (uint32_t)reply.len + 1) == SP_OK);
	cr_assert(sp_buf_put_u8(&b, 0) == SP_OK);
	cr_assert(sp_buf_put(&b, reply.p, reply.len) == SP_OK);
	cr_assert(sp_buf_put(&b, "\0\0\0\2\0\25", 6) == SP_OK);
	whole = b.len;
	for (size_t n = 0; n < whole; n++)
		cr_assert(sp_tap_parse(sp_span_of(b.p, n), &k, &s) ==
		    SP_ERR_AGAIN, "%zu", n);
	cr_assert(sp_tap_parse(sp_span_of(b.p, whole), &k, &s) == SP_OK);
	cr_assert(sp_span_is(k, "key") && sp_span_is(s, "sig"));
	cr_assert(sp_tap_parse(sp_span_of(b.p, 18), &k, &s) == SP_ERR_AGAIN);
	b.p[18] = 0xff;	/* a length of 4 GiB */
	cr_assert(sp_tap_parse(sp_span_of(b.p, whole), &k, &s) == SP_ERR_PROTO);
}
