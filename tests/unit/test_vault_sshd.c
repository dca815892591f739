/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSH judges the vault: ssh-keygen reads its certificates, a real sshd lets
 * a login in that was signed through the agent stream with the host proof taken
 * from the wire, and keeps out what it should. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/text.h"
#include "tests/support/tmp.h"
#include "tests/unit/vault_kit.h"
#include "vault/hostsig.h"
#include "vault/sshcert.h"
#include "vault/userauth.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define SSHD "/usr/sbin/sshd"
#define LIMIT_US 30000000LL

TestSuite(vault_sshd, .timeout = 120);

/* A directory, an sshd in it that serves one connection on its standard input,
 * a relay before it that reads the key exchange in passing. */
struct world {
	char dir[64], user[33], line[256];
	struct kit kit;
	int listen_fd, agent_fd;	/* what ssh connects to */
	int client, server, agent;
	uint16_t port;
	struct sp_buf seen;		/* from the server, until the reply */
	bool has_proof;
	struct sp_buf host_key, host_sig, host_pin, login;
};

static const char *
at(const struct world *w, const char *name)
{
	static char path[4][128];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", w->dir, name);
	return path[i];
}

static pid_t
spawn(char *const argv[], int in, int out, const char *err)
{
	pid_t pid = fork();
	int fd;

	cr_assert_geq(pid, 0);
	if (pid > 0)
		return pid;
	if (in < 0)
		in = open("/dev/null", O_RDONLY);
	fd = open(err, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (out < 0)
		out = fd;
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(fd, 2) < 0)
		_exit(126);
	for (int i = 3; i < 200; i++)
		close(i);
	execv(argv[0], argv);
	_exit(127);
}

static int
run(char *const argv[], const char *log)
{
	pid_t pid = spawn(argv, -1, -1, log);
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void
make_key(struct world *w, const char *name, const char *type, const char *bits)
{
	char path[128];
	char *argv[] = {(char *)(uintptr_t)"/usr/bin/ssh-keygen", "-q", "-t", NULL,
	    "-b", NULL, "-N", "", "-C", "", "-f", path, NULL};

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	argv[3] = strdup(type);
	argv[5] = strdup(bits);
	cr_assert_eq(run(argv, at(w, "log")), 0);
	free(argv[3]);
	free(argv[5]);
}

/* The blob of a public key file. */
static void
read_pub(struct world *w, const char *name, struct sp_buf *blob)
{
	char line[2048], *b64, *end;
	FILE *f = fopen(at(w, name), "r");

	cr_assert_not_null(f);
	cr_assert_not_null(fgets(line, sizeof(line), f));
	fclose(f);
	b64 = strchr(line, ' ');
	cr_assert_not_null(b64);
	end = strpbrk(++b64, " \n");
	cr_assert_not_null(end);
	OK(sp_unbase64(blob, sp_span_of(b64, (size_t)(end - b64))));
}

static int
listen_tcp(uint16_t *port)
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

static int
listen_agent(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 4), 0);
	return fd;
}

static void
write_config(struct world *w, const char *principal)
{
	struct sp_buf ca = {.max = 512};
	char text[2048];

	OK(sp_ssh_ed25519_line(&ca, w->kit.root.ca_pk, "ca"));
	snprintf(text, sizeof(text), "%.*s\n", (int)ca.len,
	    (const char *)sp_buf_span(&ca).p);
	write_file(at(w, "ca.pub"), text);
	snprintf(text, sizeof(text), "%s\n", principal);
	write_file(at(w, "principals"), text);
	snprintf(text, sizeof(text), "HostKey %s/host\nTrustedUserCAKeys %s/ca.pub\n"
	    "AuthorizedPrincipalsFile %s/principals\nAuthorizedKeysFile none\n"
	    "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
	    "UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin yes\n"
	    "LogLevel VERBOSE\nAuthorizedKeysCommand none\n",
	    w->dir, w->dir, w->dir);
	write_file(at(w, "sshd_config"), text);
	sp_buf_fini(&ca);
}

static void
begin(struct world *w, const char *type, const char *bits)
{
	const struct passwd *pw = getpwuid(geteuid());

	*w = (struct world){.client = -1, .server = -1, .agent = -1};
	tmp_name(w->dir, sizeof(w->dir), "sp-sshd");
	cr_assert_not_null(mkdtemp(w->dir));
	cr_assert_not_null(pw);
	snprintf(w->user, sizeof(w->user), "%s", pw->pw_name);
	if (geteuid() == 0)	/* sshd insists; Debian makes it at boot */
		cr_assert(mkdir("/run/sshd", 0755) == 0 || errno == EEXIST);
	kit_begin(&w->kit);
	snprintf(w->line, sizeof(w->line), "%s@core-01", w->user);
	make_key(w, "host", type, bits);
	write_config(w, w->line);
	sp_buf_init(&w->seen, 1 << 20);
	sp_buf_init(&w->host_key, 4096);
	sp_buf_init(&w->host_sig, 4096);
	sp_buf_init(&w->host_pin, 8192);
	sp_buf_init(&w->login, 8192);
	read_pub(w, "host.pub", &w->host_key);
	OK(sp_buf_put_ssh_string(&w->host_pin, sp_buf_span(&w->host_key)));
	sp_buf_reset(&w->host_key);
	w->listen_fd = listen_tcp(&w->port);
	w->agent_fd = listen_agent(at(w, "agent"));
}

static void
end(struct world *w)
{
	char *argv[] = {(char *)(uintptr_t)"/bin/rm", "-rf", w->dir, NULL};

	kit_end(&w->kit);
	close(w->listen_fd);
	close(w->agent_fd);
	sp_buf_fini(&w->seen);
	sp_buf_fini(&w->host_key);
	sp_buf_fini(&w->host_sig);
	sp_buf_fini(&w->host_pin);
	sp_buf_fini(&w->login);
	cr_assert_eq(run(argv, "/dev/null"), 0);
}

/* ------------------------------------------------------------------- relay */

/* The clear packets after the version line; the key exchange reply is 31. */
static void
look_for_reply(struct world *w)
{
	struct sp_span s = sp_buf_span(&w->seen), f;
	const uint8_t *nl = s.n == 0 ? NULL : memchr(s.p, '\n', s.n);

	if (w->has_proof || nl == NULL)
		return;
	s = sp_span_of(nl + 1, s.n - (size_t)(nl + 1 - s.p));
	for (;;) {
		uint32_t n;
		const uint8_t *p;
		struct sp_span body;

		if (sp_get_ssh_u32(&s, &n) != SP_OK || n < 2 ||
		    sp_get(&s, n, &p) != SP_OK)
			return;
		if (p[1] != 31)
			continue;
		body = sp_span_of(p + 2, n - 2);
		OK(sp_get_ssh_string(&body, 4096, &f));
		OK(sp_buf_put(&w->host_key, f.p, f.n));
		OK(sp_get_ssh_string(&body, 4096, &f));
		OK(sp_get_ssh_string(&body, 4096, &f));
		OK(sp_buf_put(&w->host_sig, f.p, f.n));
		w->has_proof = true;
		return;
	}
}

/* Copies what is there; false at the end. */
static bool
copy(int from, int to, struct sp_buf *keep)
{
	uint8_t b[8192];
	ssize_t n = read(from, b, sizeof(b));

	if (n <= 0)
		return false;
	if (keep != NULL && keep->len + (size_t)n < keep->max)
		OK(sp_buf_put(keep, b, (size_t)n));
	return write(to, b, (size_t)n) == n;
}

static void
dial_sshd(struct world *w, pid_t *pid)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char *argv[] = {(char *)(uintptr_t)SSHD, "-i", "-e", "-f",
	    strdup(at(w, "sshd_config")), NULL};
	uint16_t port;
	int l = listen_tcp(&port), s;

	a.sin_port = htons(port);
	w->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(w->server, (struct sockaddr *)&a, sizeof(a)), 0);
	s = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(s, 0);
	*pid = spawn(argv, s, s, at(w, "log"));
	close(s);
	close(l);
	free(argv[4]);
}

/* One agent message of ssh's goes to the vault, its answer back. The data of a
 * sign request are kept for later. */
static bool
relay_agent(struct world *w)
{
	uint8_t b[8192];
	struct sp_span s, f;
	uint32_t len;
	ssize_t n;

	if (recv(w->agent, b, 4, MSG_WAITALL) != 4)
		return false;
	s = sp_span_of(b, 4);
	OK(sp_get_ssh_u32(&s, &len));
	cr_assert_lt(len, sizeof(b) - 4);
	n = recv(w->agent, b + 4, len, MSG_WAITALL) + 4;
	cr_assert_eq(n, (ssize_t)len + 4);
	if (n > 5 && b[4] == 13) {
		s = sp_span_of(b + 5, (size_t)n - 5);
		OK(sp_get_ssh_string(&s, 8192, &f));
		OK(sp_get_ssh_string(&s, 8192, &f));
		OK(sp_buf_put(&w->login, f.p, f.n));
	}
	cr_assert_eq(write(w->kit.agent, b, (size_t)n), n);
	for (int i = 0; i < 4; i++)
		kit_turn(&w->kit);
	n = read(w->kit.agent, b, sizeof(b));
	return n > 0 && write(w->agent, b, (size_t)n) == n;
}

static void
drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
relay_turn(struct world *w, pid_t *sshd, bool with_lease)
{
	struct pollfd pf[] = {{.fd = w->listen_fd, .events = POLLIN},
	    {.fd = w->agent_fd, .events = POLLIN},
	    {.fd = w->client, .events = POLLIN},
	    {.fd = w->server, .events = POLLIN},
	    {.fd = w->agent, .events = POLLIN}};
	bool up = true;

	if (poll(pf, 5, 50) <= 0)
		return;
	if (pf[0].revents != 0) {
		w->client = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		dial_sshd(w, sshd);
	}
	if (pf[1].revents != 0)
		w->agent = accept4(w->agent_fd, NULL, NULL, SOCK_CLOEXEC);
	if (pf[3].revents != 0) {
		bool had = w->has_proof;

		up = copy(w->server, w->client, &w->seen) && up;
		look_for_reply(w);
		if (with_lease && !had && w->has_proof)
			cr_assert_eq(kit_prove_with(&w->kit,
			    sp_buf_span(&w->host_key),
			    sp_buf_span(&w->host_sig)), 1);
	}
	if (pf[2].revents != 0 && w->server >= 0)
		up = copy(w->client, w->server, NULL) && up;
	if (pf[4].revents != 0 && !relay_agent(w))
		drop(&w->agent);
	if (!up) {
		drop(&w->client);
		drop(&w->server);
	}
}

/* ssh to the relay; its exit status. */
static int
login(struct world *w, bool with_lease)
{
	char port[8], agent[128], key[128], cert[160];
	char *argv[] = {(char *)(uintptr_t)"/usr/bin/ssh", "-F", "none", "-T", "-p",
	    port, "-o", agent, "-o", key, "-o", cert, "-o", "BatchMode=yes", "-o",
	    "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
	    "KexAlgorithms=curve25519-sha256", "-o",
	    "PubkeyAuthentication=unbound", "-l", w->user, "127.0.0.1",
	    "exit 7", NULL};
	int64_t until = sp_boot_us() + LIMIT_US;
	int status = -1;
	pid_t ssh, sshd = -1, got = 0;

	snprintf(port, sizeof(port), "%u", w->port);
	snprintf(agent, sizeof(agent), "IdentityAgent=%s",
	    with_lease ? at(w, "agent") : "none");
	snprintf(key, sizeof(key), "IdentityFile=%s",
	    with_lease ? "none" : at(w, "id"));
	snprintf(cert, sizeof(cert), "CertificateFile=%s",
	    with_lease ? "none" : at(w, "id-cert.pub"));
	ssh = spawn(argv, -1, -1, at(w, "log"));
	while (got == 0 && sp_boot_us() < until) {
		relay_turn(w, &sshd, with_lease);
		got = waitpid(ssh, &status, WNOHANG);
	}
	if (got == 0) {
		kill(ssh, SIGKILL);
		waitpid(ssh, &status, 0);
	}
	drop(&w->client);
	drop(&w->server);
	drop(&w->agent);
	if (sshd > 0)
		waitpid(sshd, NULL, 0);
	return got == ssh && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
show_log(struct world *w)
{
	char *argv[] = {(char *)(uintptr_t)"/bin/cat", strdup(at(w, "log")), NULL};

	(void)run(argv, "/dev/stderr");
	free(argv[1]);
}

/* ------------------------------------------------------------ whole logins */

static void
grant(struct world *w, const char *target, const char *source)
{
	struct sp_msg_v_lease m = kit_wish(&w->kit, SP_CRED_SSH_CERT, 60000000);

	m.account = sp_span_str(w->user);
	m.target_name = sp_span_str(target);
	m.host_keys = sp_buf_span(&w->host_pin);
	m.source = sp_span_str(source);
	OK(kit_grant(&w->kit, &m));
	OK(kit_link(&w->kit));
}

/* What the wire held, with a bit turned: no longer a proof. */
static void
assert_every_flip_breaks(struct world *w)
{
	struct sp_userauth u;
	uint8_t bad[4096];
	size_t n = w->host_sig.len;

	OK(sp_userauth_parse(sp_buf_span(&w->login), &u));
	OK(sp_host_sig_verify(sp_buf_span(&w->host_key),
	    sp_buf_span(&w->host_sig), u.session_id, false));
	for (size_t i = 0; i < n; i++) {
		memcpy(bad, sp_buf_span(&w->host_sig).p, n);
		bad[i] ^= 1;
		cr_assert_neq(sp_host_sig_verify(sp_buf_span(&w->host_key),
		    sp_span_of(bad, n), u.session_id, false), SP_OK, "byte %zu", i);
	}
	n = u.session_id.n;
	memcpy(bad, u.session_id.p, n);
	bad[n - 1] ^= 1;
	cr_assert_neq(sp_host_sig_verify(sp_buf_span(&w->host_key),
	    sp_buf_span(&w->host_sig), sp_span_of(bad, n), false), SP_OK);
	cr_assert_neq(sp_host_sig_verify(sp_buf_span(&w->host_key),
	    sp_buf_span(&w->host_sig), sp_span_of(bad, n - 1), false), SP_OK);
}

static void
whole_login(const char *type, const char *bits)
{
	struct world w;
	int rc;

	begin(&w, type, bits);
	grant(&w, "core-01", "127.0.0.1");
	rc = login(&w, true);
	if (rc != 7)
		show_log(&w);
	cr_assert_eq(rc, 7, "%s %s: ssh says %d, last event %s", type, bits, rc,
	    w.kit.what);
	cr_assert_eq(w.kit.n_used, 1);
	cr_assert_eq(w.kit.n_events, 0);
	assert_every_flip_breaks(&w);
	end(&w);
}

Test(vault_sshd, ed25519_host) { whole_login("ed25519", "256"); }
Test(vault_sshd, ecdsa_256_host) { whole_login("ecdsa", "256"); }
Test(vault_sshd, ecdsa_384_host) { whole_login("ecdsa", "384"); }
Test(vault_sshd, ecdsa_521_host) { whole_login("ecdsa", "521"); }
Test(vault_sshd, rsa_host) { whole_login("rsa", "2048"); }

Test(vault_sshd, a_certificate_for_another_target_is_kept_out)
{
	struct world w;

	begin(&w, "ed25519", "256");
	grant(&w, "core-02", "");
	cr_assert_eq(login(&w, true), 255);
	end(&w);
}

Test(vault_sshd, a_certificate_from_another_address_is_kept_out)
{
	struct world w;

	begin(&w, "ed25519", "256");
	grant(&w, "core-01", "10.9.8.7");
	cr_assert_eq(login(&w, true), 255);
	end(&w);
}

/* ------------------------------------------------------------ certificates */

/* A certificate for the key file `id`, as a file. */
static void
mint(struct world *w, const struct sp_root *ca, struct sp_cert_wish wish)
{
	struct sp_buf pub = {.max = 1024}, cert = {.max = 2048}, b64 = {.max = 4096};
	char text[4096];

	read_pub(w, "id.pub", &pub);
	wish.pk = sp_buf_span(&pub).p + pub.len - 32;
	memset(wish.session, 0xab, 16);
	OK(sp_cert_mint(ca, &wish, &cert));
	OK(sp_base64(&b64, sp_buf_span(&cert)));
	snprintf(text, sizeof(text), SP_CERT_TYPE " %.*s\n", (int)b64.len,
	    (const char *)sp_buf_span(&b64).p);
	write_file(at(w, "id-cert.pub"), text);
	sp_buf_fini(&pub);
	sp_buf_fini(&cert);
	sp_buf_fini(&b64);
}

static struct sp_cert_wish
good_wish(const struct world *w)
{
	return (struct sp_cert_wish){.account = w->user, .target_name = "core-01",
	    .source = "", .serial = 77, .rights = SP_RIGHT_SHELL,
	    .now_us = sp_now_us(), .not_after_us = sp_now_us() + 3600000000LL};
}

Test(vault_sshd, sshd_judges_certificates)
{
	struct sp_cert_wish wish;
	struct sp_root other;
	struct world w;

	begin(&w, "ed25519", "256");
	make_key(&w, "id", "ed25519", "256");
	kit_root(&other);
	mint(&w, &w.kit.root, good_wish(&w));
	cr_assert_eq(login(&w, false), 7);
	mint(&w, &other, good_wish(&w));
	cr_assert_eq(login(&w, false), 255, "another CA");
	wish = good_wish(&w);
	wish.now_us -= 600000000;
	wish.not_after_us = wish.now_us + 60000000;
	mint(&w, &w.kit.root, wish);
	cr_assert_eq(login(&w, false), 255, "expired");
	wish = good_wish(&w);
	wish.now_us += 600000000;
	mint(&w, &w.kit.root, wish);
	cr_assert_eq(login(&w, false), 255, "not yet valid");
	wish = good_wish(&w);
	wish.account = "nobody-else";
	mint(&w, &w.kit.root, wish);
	cr_assert_eq(login(&w, false), 255, "another principal");
	wish = good_wish(&w);
	wish.source = "::1";
	mint(&w, &w.kit.root, wish);
	cr_assert_eq(login(&w, false), 255, "another source");
	sp_root_close(&other);
	end(&w);
}

/* Runs ssh-keygen -L on id-cert.pub; its text. */
static char *
keygen_says(struct world *w)
{
	static char text[4096];
	char *argv[] = {(char *)(uintptr_t)"/usr/bin/ssh-keygen", "-L", "-f",
	    strdup(at(w, "id-cert.pub")), NULL};
	FILE *f;
	size_t n;

	unlink(at(w, "says"));
	cr_assert_eq(run(argv, at(w, "says")), 0);
	free(argv[3]);
	f = fopen(at(w, "says"), "r");
	cr_assert_not_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static void
assert_says(const char *text, const char *want)
{
	cr_assert_not_null(strstr(text, want), "no \"%s\" in: %s", want, text);
}

Test(vault_sshd, ssh_keygen_reads_what_was_minted)
{
	struct sp_cert_wish wish;
	struct world w;
	char want[320];
	const char *t;

	begin(&w, "ed25519", "256");
	make_key(&w, "id", "ed25519", "256");
	wish = good_wish(&w);
	wish.source = "192.0.2.7";
	mint(&w, &w.kit.root, wish);
	t = keygen_says(&w);
	assert_says(t, "ssh-ed25519-cert-v01@openssh.com user certificate");
	assert_says(t, "Key ID: \"abababab-abab-abab-abab-abababababab\"");
	assert_says(t, "Serial: 77");
	assert_says(t, "source-address 192.0.2.7");
	assert_says(t, "permit-pty");
	snprintf(want, sizeof(want), "Principals: \n                %s\n", w.line);
	assert_says(t, want);
	cr_assert_null(strstr(t, "permit-port-forwarding"));
	cr_assert_null(strstr(t, "permit-agent-forwarding"));
	wish.source = "";
	wish.rights = SP_RIGHT_SUBSYSTEM | SP_RIGHT_UPLOAD;
	mint(&w, &w.kit.root, wish);
	t = keygen_says(&w);
	assert_says(t, "Critical Options: (none)");
	assert_says(t, "Extensions: (none)");
	for (uint32_t bit = SP_RIGHT_FORWARD; bit <= SP_RIGHT_LISTEN; bit <<= 1) {
		wish.rights = SP_RIGHT_UPLOAD | bit;
		mint(&w, &w.kit.root, wish);
		t = keygen_says(&w);
		assert_says(t, "permit-port-forwarding");
		cr_assert_null(strstr(t, "permit-pty"));
	}
	wish.rights = SP_RIGHT_ALL;
	mint(&w, &w.kit.root, wish);
	t = keygen_says(&w);
	assert_says(t, "permit-port-forwarding");
	assert_says(t, "permit-pty");
	cr_assert_null(strstr(t, "agent"));
	cr_assert_null(strstr(t, "X11"));
	end(&w);
}

Test(vault_sshd, the_minter_refuses)
{
	static const char *const names[] = {"", "a,b", "a b", "a\nb", "*", "a*",
	    "a?", "A", "ad\xc3\xa9", "a@b", "-a", ".a", "a/b", "a+b",
	    "abcdefghijklmnopqrstuvwxyz0123456789"};
	static const char *const sources[] = {"10.0.0.0/8", "10.0.0.1,10.0.0.2",
	    "*", "host", " 10.0.0.1", "10.0.0.1 ", "10.0.0", "::/0", "!10.0.0.1"};
	struct sp_buf out = {.max = 2048};
	uint8_t pk[32] = {1};
	struct sp_cert_wish good = {.account = "admin", .target_name = "core-01",
	    .source = "", .pk = pk, .serial = 1, .now_us = sp_now_us(),
	    .not_after_us = sp_now_us() + 60000000}, w;
	struct sp_root r;

	kit_root(&r);
	OK(sp_cert_mint(&r, &good, &out));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		w = good;
		w.account = names[i];
		cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_INVAL);
		w = good;
		w.target_name = names[i];
		cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_INVAL);
	}
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		w = good;
		w.source = sources[i];
		cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_INVAL);
	}
	w = good;
	w.not_after_us = w.now_us;
	cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_DENIED);
	w.not_after_us = -1;
	cr_assert_eq(sp_cert_mint(&r, &w, &out), SP_ERR_DENIED);
	sp_root_close(&r);
	cr_assert_eq(sp_cert_mint(&r, &good, &out), SP_ERR_SEALED);
	sp_buf_fini(&out);
}

/* valid_before is the earlier of a minute and the grant's end. */
Test(vault_sshd, a_certificate_does_not_outlive_its_grant)
{
	static const int64_t left_s[] = {1, 2, 59, 60, 61, 7200};
	uint8_t pk[32] = {1};
	struct sp_root r;

	kit_root(&r);
	for (size_t i = 0; i < sizeof(left_s) / sizeof(left_s[0]); i++) {
		struct sp_buf out = {.max = 2048};
		struct sp_cert_wish w = {.account = "a", .target_name = "b",
		    .source = "", .pk = pk, .serial = 1,
		    .now_us = 1700000000000000,
		    .not_after_us = 1700000000000000 + left_s[i] * 1000000};
		struct sp_span s, f;
		uint64_t after, before, serial;
		uint32_t type;

		OK(sp_cert_mint(&r, &w, &out));
		s = sp_buf_span(&out);
		for (int k = 0; k < 3; k++)
			OK(sp_get_ssh_string(&s, 256, &f));
		OK(sp_get_ssh_u64(&s, &serial));
		OK(sp_get_ssh_u32(&s, &type));
		OK(sp_get_ssh_string(&s, 256, &f));
		OK(sp_get_ssh_string(&s, 256, &f));
		OK(sp_get_ssh_u64(&s, &after));
		OK(sp_get_ssh_u64(&s, &before));
		cr_assert_eq(after, 1700000000 - 30);
		cr_assert_eq(before, 1700000000U + (uint64_t)(left_s[i] < 60 ?
		    left_s[i] : 60));
		sp_buf_fini(&out);
	}
	sp_root_close(&r);
}

/* ---------------------------------------------------------------- host keys */

static enum sp_err
pin_check(struct world *w, const char *name)
{
	struct sp_buf blob = {.max = 4096}, pin = {.max = 8192};
	enum sp_err e;

	read_pub(w, name, &blob);
	OK(sp_buf_put_ssh_string(&pin, sp_buf_span(&blob)));
	e = sp_host_keys_check(sp_buf_span(&pin), false);
	sp_buf_fini(&blob);
	sp_buf_fini(&pin);
	return e;
}

Test(vault_sshd, weak_and_foreign_host_keys_are_refused)
{
	struct sp_buf b = {.max = 4096};
	struct world w;

	begin(&w, "ed25519", "256");
	make_key(&w, "small", "rsa", "1024");
	make_key(&w, "large", "rsa", "3072");
	cr_assert_eq(pin_check(&w, "small.pub"), SP_ERR_UNSUPPORTED);
	OK(pin_check(&w, "large.pub"));
	OK(pin_check(&w, "host.pub"));
	OK(sp_buf_put_ssh_string(&b, sp_span_str("ssh-dss")));
	write_file(at(&w, "dss.pub"), "ssh-dss AAAAB3NzaC1kc3MAAAABAAAAAQE= x\n");
	cr_assert_eq(pin_check(&w, "dss.pub"), SP_ERR_UNSUPPORTED);
	/* the SHA-1 form of an RSA signature, whatever its bytes */
	read_pub(&w, "large.pub", &w.host_key);
	sp_buf_reset(&b);
	OK(sp_buf_put_ssh_string(&b, sp_span_str("ssh-rsa")));
	OK(sp_buf_put_ssh_string(&b, sp_span_of(w.dir, 64)));
	cr_assert_eq(sp_host_sig_verify(sp_buf_span(&w.host_key), sp_buf_span(&b),
	    sp_span_str("hash"), false), SP_ERR_UNSUPPORTED);
	/* From old gear it is looked at, and this is none. */
	cr_assert_eq(sp_host_sig_verify(sp_buf_span(&w.host_key), sp_buf_span(&b),
	    sp_span_str("hash"), true), SP_ERR_CRYPTO);
	sp_buf_fini(&b);
	end(&w);
}
