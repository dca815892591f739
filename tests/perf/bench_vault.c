/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the vault's own code costs, and what an ssh-agent answers:
 *   bench_vault sign SECONDS    a lease on a stored key, unsealed, bound to the
 *                               host by its signature, one agent signature each
 *   bench_vault cert SECONDS    the same with a certificate that is minted for it
 *   bench_vault mint SECONDS    certificates alone
 *   bench_vault agent SOCKET SECONDS   signatures of the agent there, one client
 *   bench_vault host KEYFILE SECONDS   signatures over key exchanges, asked of
 *                               another process as an ingress asks the vault
 *   bench_vault serve FD        a vault for the broker at FD: says on stdout what
 *                               a v_lease of its own asks for, in hex, and serves
 * Prints one line of JSON. With the first three the vault is in this process: its
 * messages pass the same sockets, without the switch to another process.
 */
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/text.h"
#include "tests/unit/vault_kit.h"
#include "vault/front.h"
#include "vault/sshcert.h"
#include "vault/vaultd.h"

#define TOOK_MAX 4000000
static uint32_t *took_us;

static double
cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void
say(uint64_t n, int64_t t0, double c0)
{
	printf("{\"per_s\": %.0f, \"cpu_us\": %.1f}\n", (double)n * 1e6 /
	    (double)(sp_boot_us() - t0), (cpu_us() - c0) / (double)n);
}

static int
by_size(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;

	return a < c ? -1 : a > c;
}

/* The same with what each one took. */
static void
say_took(uint64_t n, int64_t t0)
{
	int64_t all = sp_boot_us() - t0;

	SP_ASSERT(n > 0 && n <= TOOK_MAX);
	qsort(took_us, n, sizeof(*took_us), by_size);
	printf("{\"per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u}\n",
	    (double)n * 1e6 / (double)all, took_us[n / 2], took_us[n * 99 / 100]);
}

static bool
read_all(int fd, uint8_t *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, p + done, n - done);

		if (r <= 0)
			return false;
		done += (size_t)r;
	}
	return true;
}

/* An agent message and its answer; turn, if it is us who serves it. */
static size_t
agent(int fd, struct kit *k, struct sp_span msg, uint8_t *out, size_t cap)
{
	SP_BUF_AUTO b = {.max = 65536};
	uint8_t head[4];
	size_t n;

	SP_ASSERT(sp_buf_put_ssh_string(&b, msg) == SP_OK);
	SP_ASSERT(write(fd, sp_buf_span(&b).p, b.len) == (ssize_t)b.len);
	if (k != NULL) {
		kit_turn(k);
		kit_turn(k);
	}
	if (!read_all(fd, head, 4))
		return 0;
	n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 |
	    head[3];
	SP_ASSERT(n > 0 && n <= cap && read_all(fd, out, n));
	return n;
}

static void
first_blob(int fd, struct kit *k, struct sp_buf *blob)
{
	static const uint8_t ask = 11;
	static uint8_t out[16384];
	size_t n = agent(fd, k, sp_span_of(&ask, 1), out, sizeof(out));
	struct sp_span s = sp_span_of(out + 1, n - 1), one;
	uint32_t keys;

	SP_ASSERT(n > 5 && out[0] == 12 && sp_get_ssh_u32(&s, &keys) == SP_OK &&
	    keys > 0 && sp_get_ssh_string(&s, 8192, &one) == SP_OK &&
	    sp_buf_put(blob, one.p, one.n) == SP_OK);
}

static void
sign(int fd, struct kit *k, struct sp_span blob, struct sp_span data)
{
	SP_BUF_AUTO m = {.max = 65536};
	static uint8_t out[4096];

	SP_ASSERT(sp_buf_put_u8(&m, 13) == SP_OK &&
	    sp_buf_put_ssh_string(&m, blob) == SP_OK &&
	    sp_buf_put_ssh_string(&m, data) == SP_OK &&
	    sp_buf_put_ssh_u32(&m, 0) == SP_OK);
	SP_ASSERT(agent(fd, k, sp_buf_span(&m), out, sizeof(out)) > 60 &&
	    out[0] == 14);
}

/* What the target signs is made before the clock runs: it is not our work. */
#define PROOFS 2048
static struct sp_buf proof[PROOFS];

static void
make_proofs(const struct kit *k)
{
	uint8_t id[32];

	memcpy(id, k->session_id, 32);
	for (uint64_t i = 0; i < PROOFS; i++) {
		memcpy(id, &i, sizeof(i));
		sp_buf_init(&proof[i], 256);
		kit_host_sign(&k->host, sp_span_of(id, 32), &proof[i]);
	}
}

static void
one_lease(struct kit *k, const struct sp_msg_v_lease *m, uint64_t n)
{
	uint64_t of = n % PROOFS;
	SP_BUF_AUTO blob = {.max = 8192};
	SP_BUF_AUTO data = {.max = 16384};
	struct sp_msg_v_lease w = *m;

	memcpy(k->session, &n, sizeof(n));
	memcpy(k->session_id, &of, sizeof(of));
	memcpy(w.session, k->session, 16);
	w.serial = n + 1;
	SP_ASSERT(kit_grant(k, &w) == SP_OK && kit_link(k) == SP_OK &&
	    kit_prove_with(k, sp_buf_span(&k->host.blob),
	    sp_buf_span(&proof[of])) == 1);
	first_blob(k->agent, k, &blob);
	kit_userauth(&data, sp_span_of(k->session_id, 32), "admin",
	    "ssh-connection", "publickey", sp_buf_span(&blob));
	sign(k->agent, k, sp_buf_span(&blob), sp_buf_span(&data));
	for (int i = 0; i < 3 && sp_leases_n(k->t) > 0; i++) {
		if (sp_lease_end(k->t, k->session) != SP_OK)
			break;
		kit_turn(k);
	}
}

static void
ours(uint8_t kind, int64_t seconds)
{
	struct kit k;
	struct sp_msg_v_lease m;
	int64_t t0, end;
	uint64_t n = 0;
	double c0;

	kit_begin(&k);
	make_proofs(&k);
	m = kit_wish(&k, kind, 60000000);
	t0 = sp_boot_us();
	c0 = cpu_us();
	for (end = t0 + seconds * 1000000; sp_boot_us() < end; n++) {
		m.not_after = sp_now_us() + 60000000;
		one_lease(&k, &m, n);
	}
	say(n, t0, c0);
	kit_end(&k);
}

static void
mint(int64_t seconds)
{
	struct sp_root r;
	uint8_t pk[32] = {7};
	struct sp_cert_wish w = {.pk = pk, .account = "admin",
	    .target_name = "core-01", .source = "192.0.2.9",
	    .rights = SP_RIGHT_SHELL};
	int64_t t0, end;
	uint64_t n = 0;
	double c0;

	kit_root(&r);
	t0 = sp_boot_us();
	c0 = cpu_us();
	for (end = t0 + seconds * 1000000; sp_boot_us() < end; n++) {
		SP_BUF_AUTO out = {.max = 4096};

		w.serial = n + 1;
		w.now_us = sp_now_us();
		w.not_after_us = w.now_us + 30000000;
		SP_ASSERT(sp_cert_mint(&r, &w, &out) == SP_OK);
	}
	say(n, t0, c0);
	sp_root_close(&r);
}

static void
theirs(const char *path, int64_t seconds)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	SP_BUF_AUTO blob = {.max = 8192};
	SP_BUF_AUTO data = {.max = 16384};
	int64_t t0 = sp_boot_us(), end = t0 + seconds * 1000000;
	uint8_t id[32] = {0};
	uint64_t n = 0;

	SP_ASSERT(strlen(path) < sizeof(a.sun_path));
	memcpy(a.sun_path, path, strlen(path));
	SP_ASSERT(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	first_blob(fd, NULL, &blob);
	kit_userauth(&data, sp_span_of(id, 32), "admin", "ssh-connection",
	    "publickey", sp_buf_span(&blob));
	for (; sp_boot_us() < end && n < TOOK_MAX; n++) {
		int64_t at = sp_boot_us();

		sign(fd, NULL, sp_buf_span(&blob), sp_buf_span(&data));
		took_us[n] = (uint32_t)(sp_boot_us() - at);
	}
	say_took(n, t0);
	close(fd);
}

/* ------------------------------------------------- the vault as another process */

static void
open_vault(struct sp_vaultd *v)
{
	SP_ASSERT(sp_vaultd_init(v) == SP_OK);
	kit_state(&v->state);
	v->state_fault = NULL;
	SP_ASSERT(sp_vaultd_unseal(v, sp_span_str(KIT_PASSPHRASE)) == SP_OK);
}

static void
serve(int fd)
{
	static struct sp_vaultd v;
	static struct kit k;
	SP_BUF_AUTO body = {.max = 16384};
	struct sp_msg_v_lease m;

	open_vault(&v);
	kit_host_make(&k.host, 7);
	sp_buf_init(&k.sealed, 8192);
	k.root = v.root;
	m = kit_wish(&k, SP_CRED_SSH_PASSWORD, 60000000);
	SP_ASSERT(sp_enc_v_lease(&body, &m) == SP_OK);
	for (size_t i = 0; i < body.len; i++)
		printf("%02x", sp_buf_span(&body).p[i]);
	printf("\n");
	fflush(stdout);
	sp_broker_attach(&v, fd);
	while (v.brk.fd >= 0 && sp_vaultd_turn(&v, -1) == SP_OK)
		;
}

/* A key exchange, as the hash is made over it. */
static void
exchange(struct sp_buf *b, struct sp_span blob)
{
	uint8_t init[80] = {20}, x[32], secret[32] = {0x31};
	struct sp_span part[8] = {sp_span_str("SSH-2.0-OpenSSH_9.2p1"),
	    sp_span_str("SSH-2.0-Sallyport"), sp_span_of(init, sizeof(init)),
	    sp_span_of(init, sizeof(init)), blob, sp_span_of(x, 32),
	    sp_span_of(x, 32), sp_span_of(secret, 32)};

	randombytes_buf(x, sizeof(x));
	for (int i = 0; i < 8; i++)
		SP_ASSERT(sp_buf_put_ssh_string(b, part[i]) == SP_OK);
}

static void
vault_process(int fd, const char *key_file)
{
	static struct sp_vaultd v;
	int key = open(key_file, O_RDONLY | O_CLOEXEC);
	char dir[512];

	open_vault(&v);
	/* Its state, which takes the key in, goes beside the key's file. */
	snprintf(dir, sizeof(dir), "%.*s/.", (int)(strrchr(key_file, '/') -
	    key_file), key_file);
	v.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	SP_ASSERT(key >= 0 && sp_link_init(&v.sup, fd, SP_ROLE_VLT, SP_ROLE_SUP,
	    SP_ST_READY) == SP_OK);
	sp_fronts_key_file(v.fronts, key);
	sp_fronts_open(&v);
	while (sp_vaultd_turn(&v, -1) == SP_OK)
		;
	_exit(0);
}

/* The public half that stands beside it, as a blob. */
static void
public_of(const char *key_file, struct sp_buf *blob)
{
	char path[512], text[512], *b64;
	FILE *f;

	snprintf(path, sizeof(path), "%s.pub", key_file);
	f = fopen(path, "re");
	SP_ASSERT(f != NULL && fgets(text, sizeof(text), f) != NULL &&
	    (b64 = strchr(text, ' ')) != NULL);
	fclose(f);
	b64++;
	SP_ASSERT(sp_unbase64(blob, sp_span_of(b64, strcspn(b64, " \n"))) == SP_OK);
}

/* One connection's link; a handful of signatures is all that it may ask at once. */
#define OF_A_LINK 32
static uint64_t
ask_host(struct sp_link *sup, struct sp_span blob, uint64_t n, int64_t end)
{
	struct sp_msg_ingress_link in = {.conn = n + 1};
	struct sp_link l;
	int pair[2];

	SP_ASSERT(sp_link_pair(pair) == SP_OK &&
	    sp_send_ingress_link(sup, 0, &in, &pair[1]) == SP_OK &&
	    sp_link_init(&l, pair[0], SP_ROLE_ING, SP_ROLE_VLT, SP_ST_READY) ==
	    SP_OK);
	for (int i = 0; i < OF_A_LINK && n < TOOK_MAX && sp_boot_us() < end; i++) {
		SP_BUF_AUTO x = {.max = 65536};
		struct sp_msg_host_sign m = {.sha512 = 0};
		struct sp_msg_host_sign_r r;
		struct sp_packet p;
		int64_t at;

		exchange(&x, blob);
		m.exchange = sp_buf_span(&x);
		at = sp_boot_us();
		SP_ASSERT(sp_send_host_sign(&l, 1, &m, NULL) == SP_OK &&
		    sp_link_wait(&l, &p, 10000) == SP_OK &&
		    sp_dec_host_sign_r(p.body, &r) == SP_OK && r.ok == 1);
		if (n > 0 || i > 0)	/* the first one finds everything cold */
			took_us[n++] = (uint32_t)(sp_boot_us() - at);
	}
	sp_link_fini(&l);
	return n;
}

static void
host(const char *key_file, int64_t seconds)
{
	SP_BUF_AUTO blob = {.max = 512};
	struct sp_link sup;
	int64_t t0, end;
	uint64_t n = 0;
	int pair[2];

	public_of(key_file, &blob);
	SP_ASSERT(sp_link_pair(pair) == SP_OK);
	if (fork() == 0) {
		close(pair[0]);
		vault_process(pair[1], key_file);
	}
	close(pair[1]);
	SP_ASSERT(sp_link_init(&sup, pair[0], SP_ROLE_SUP, SP_ROLE_VLT,
	    SP_ST_READY) == SP_OK);
	t0 = sp_boot_us();
	end = t0 + seconds * 1000000;
	while (sp_boot_us() < end && n < TOOK_MAX)
		n = ask_host(&sup, sp_buf_span(&blob), n, end);
	say_took(n, t0);
	sp_link_fini(&sup);
}

int
main(int argc, char **argv)
{
	took_us = calloc(TOOK_MAX, sizeof(*took_us));
	if (sodium_init() < 0 || argc < 3 || took_us == NULL)
		return 2;
	sp_log_init("bench", false);
	if (strcmp(argv[1], "sign") == 0)
		ours(SP_CRED_SSH_KEY, strtoll(argv[2], NULL, 10));
	else if (strcmp(argv[1], "cert") == 0)
		ours(SP_CRED_SSH_CERT, strtoll(argv[2], NULL, 10));
	else if (strcmp(argv[1], "mint") == 0)
		mint(strtoll(argv[2], NULL, 10));
	else if (strcmp(argv[1], "agent") == 0 && argc == 4)
		theirs(argv[2], strtoll(argv[3], NULL, 10));
	else if (strcmp(argv[1], "host") == 0 && argc == 4)
		host(argv[2], strtoll(argv[3], NULL, 10));
	else if (strcmp(argv[1], "serve") == 0)
		serve((int)strtol(argv[2], NULL, 10));
	else
		return 2;
	return 0;
}
