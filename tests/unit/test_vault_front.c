/* SPDX-License-Identifier: Apache-2.0 */
/* The vault signs key exchanges with the bastion's own host key, and nothing
 * else: asked over links such as a captured ingress has. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/tmp.h"
#include "tests/unit/vault_proc.h"
#include "vault/front.h"

TestSuite(vault_front, .timeout = 240);

struct rig {
	struct proc p;
	char dir[64], file[80];
	uint8_t pk[32], seed[32];
	struct sp_buf blob;
};
struct front {
	struct sp_link link;
	int kept;		/* as the supervisor keeps it */
};

static void
read_key(struct rig *r)
{
	struct sp_buf raw = {.max = 4096};
	char text[4096] = "", b64[4096], *line;
	size_t n = 0, len;
	FILE *f = fopen(r->file, "re");

	cr_assert_not_null(f);
	cr_assert_gt(fread(text, 1, sizeof(text) - 1, f), 100);
	fclose(f);
	for (line = text; *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		if (line[0] != '-') {
			memcpy(b64 + n, line, len);
			n += len;
		}
	}
	OK(sp_unbase64(&raw, sp_span_of(b64, n)));
	/* PROTOCOL.key: magic, "none" twice, "", 1, then the blob */
	memcpy(r->pk, sp_buf_span(&raw).p + 15 + 8 + 8 + 4 + 4 + 4 + 19, 32);
	for (size_t at = raw.len - 32; at > 100; at--)
		if (memcmp(sp_buf_span(&raw).p + at, r->pk, 32) == 0) {
			memcpy(r->seed, sp_buf_span(&raw).p + at - 32, 32);
			break;
		}
	sp_buf_fini(&raw);
	r->blob = (struct sp_buf){.max = 128};
	OK(sp_ssh_ed25519_blob(&r->blob, r->pk));
}

static void
begin(struct rig *r, bool demo, bool fork_only)
{
	int status;
	pid_t pid;

	tmp_name(r->dir, sizeof(r->dir), "sp-vfront");
	cr_assert_not_null(mkdtemp(r->dir));
	snprintf(r->file, sizeof(r->file), "%s/host", r->dir);
	pid = fork();
	if (pid == 0) {
		execlp("ssh-keygen", "ssh-keygen", "-q", "-t", "ed25519", "-N", "",
		    "-f", r->file, (char *)NULL);
		_exit(127);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	vp_key_file = r->file;
	vp_begin(&r->p, demo, fork_only);
	read_key(r);
}

static void
end(struct rig *r)
{
	char pub[96];

	vp_end(&r->p);
	sp_buf_fini(&r->blob);
	snprintf(pub, sizeof(pub), "%s.pub", r->file);
	unlink(pub);
	unlink(r->file);
	rmdir(r->dir);
}

static void
join(struct rig *r, struct front *f)
{
	struct sp_msg_ingress_link m = {.conn = 7};
	int l[2], to;

	OK(sp_link_pair(l));
	f->kept = l[1];
	to = fcntl(l[1], F_DUPFD_CLOEXEC, 3);
	cr_assert_geq(to, 0);
	OK(sp_send_ingress_link(&r->p.sup, 0, &m, &to));
	OK(sp_link_init(&f->link, l[0], SP_ROLE_ING, SP_ROLE_VLT, SP_ST_READY));
}

static void
leave(struct front *f)
{
	sp_link_fini(&f->link);
	close(f->kept);
}

/* One field may be another one. */
static struct sp_buf
exchange(const struct rig *r, int which, struct sp_span other)
{
	uint8_t init[80] = {20}, x[32], secret[32] = {0x31};
	struct sp_span part[8] = {sp_span_str("SSH-2.0-OpenSSH_9.2p1"),
	    sp_span_str("SSH-2.0-Sallyport"), sp_span_of(init, sizeof(init)),
	    sp_span_of(init, sizeof(init)), sp_buf_span(&r->blob),
	    sp_span_of(x, 32), sp_span_of(x, 32), sp_span_of(secret, 32)};
	struct sp_buf b = {.max = 65536};

	randombytes_buf(x, sizeof(x));
	for (int i = 0; i < 8; i++)
		OK(sp_buf_put_ssh_string(&b, i == which ? other : part[i]));
	return b;
}

static struct sp_msg_host_sign_r
asked(struct front *f, struct sp_span what, uint8_t sha512)
{
	struct sp_msg_host_sign m = {.sha512 = sha512, .exchange = what};
	struct sp_msg_host_sign_r r;
	struct sp_packet k;

	OK(sp_send_host_sign(&f->link, 5, &m, NULL));
	OK(sp_link_wait(&f->link, &k, WAIT_MS));
	cr_assert_eq(k.type, SP_MSG_host_sign_r);
	cr_assert_eq(k.corr, 5);
	OK(sp_dec_host_sign_r(k.body, &r));
	return r;
}

static bool
is_signed(struct front *f, struct sp_span what)
{
	struct sp_msg_host_sign_r r = asked(f, what, 1);

	if (r.ok != 1)
		cr_assert(sodium_is_zero(r.signature, sizeof(r.signature)),
		    "a refusal with a signature");
	return r.ok == 1;
}

Test(vault_front, signs_the_hash_of_a_key_exchange)
{
	struct rig r;
	struct front f;
	struct sp_buf x;
	uint8_t h[64];

	begin(&r, true, false);
	join(&r, &f);
	x = exchange(&r, -1, sp_span_str(""));
	for (uint8_t i = 0; i < 2; i++) {
		struct sp_msg_host_sign_r a = asked(&f, sp_buf_span(&x), i);
		struct sp_msg_host_sign_r b = asked(&f, sp_buf_span(&x), i);

		cr_assert_eq(a.ok, 1);
		if (i == 0)
			crypto_hash_sha256(h, sp_buf_span(&x).p, x.len);
		else
			crypto_hash_sha512(h, sp_buf_span(&x).p, x.len);
		cr_expect_eq(crypto_sign_verify_detached(a.signature, h,
		    i == 0 ? 32 : 64, r.pk), 0);
		/* Asked again after a crash: the same one, and no second. */
		cr_expect_arr_eq(a.signature, b.signature, 64);
	}
	sp_buf_fini(&x);
	leave(&f);
	end(&r);
}

Test(vault_front, signs_nothing_else)
{
	static const char *const versions[] = {"SSH-2.0", "ssh-2.0-OpenSSH",
	    "SSH-2.0-a\nb", "SSH-2.0-\xff\xfe", ""};
	static const uint8_t sshsig[64] = "SSHSIG\0\0\0\4file\0\0\0\0\0\0\0\6sha512";
	uint8_t init[80] = {21}, big[260];
	struct {
		int which;
		struct sp_span other;
	} bad[] = {{2, sp_span_of(init, 80)}, {3, sp_span_of(init, 80)},
	    {2, sp_span_of("\24", 1)}, {3, sp_span_of("\24", 1)},
	    {4, sp_span_str("")}, {5, sp_span_str("")}, {6, sp_span_str("")},
	    {7, sp_span_str("")}, {0, sp_span_of(big, sizeof(big))}};
	struct rig r;
	struct front f;
	struct sp_buf x, own;

	memset(big, 'a', sizeof(big));
	memcpy(big, "SSH-2.0-", 8);
	begin(&r, true, false);
	join(&r, &f);
	x = exchange(&r, -1, sp_span_str(""));
	own = x;
	cr_assert(is_signed(&f, sp_buf_span(&x)));
	/* Each beginning of it, and one byte too many. */
	for (size_t n = 0; n < x.len; n++)
		cr_expect_not(is_signed(&f, sp_span_of(sp_buf_span(&x).p, n)));
	OK(sp_buf_put_u8(&own, 0));
	cr_expect_not(is_signed(&f, sp_buf_span(&own)));
	cr_expect_eq(asked(&f, sp_span_of(sp_buf_span(&own).p, own.len - 1), 2).ok,
	    0);
	/* Another host's exchange: it is not ours to sign. */
	for (size_t i = 0; i < r.blob.len; i++) {
		uint8_t key[64];

		memcpy(key, sp_buf_span(&r.blob).p, r.blob.len);
		key[i] ^= 1;
		x = exchange(&r, 4, sp_span_of(key, r.blob.len));
		cr_expect_not(is_signed(&f, sp_buf_span(&x)));
		sp_buf_fini(&x);
	}
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		x = exchange(&r, (int)(i % 2), sp_span_str(versions[i]));
		cr_expect_not(is_signed(&f, sp_buf_span(&x)));
		sp_buf_fini(&x);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		x = exchange(&r, bad[i].which, bad[i].other);
		cr_expect_not(is_signed(&f, sp_buf_span(&x)), "%zu", i);
		sp_buf_fini(&x);
	}
	/* What one would like to have signed: a hash, SSHSIG, a login. */
	cr_expect_not(is_signed(&f, sp_span_of(sshsig, 32)));
	cr_expect_not(is_signed(&f, sp_span_of(sshsig, 64)));
	x = (struct sp_buf){.max = 512};
	OK(sp_buf_put_ssh_string(&x, sp_span_of(sshsig, 32)));
	OK(sp_buf_put_u8(&x, 50));
	OK(sp_buf_put_ssh_string(&x, sp_span_str("admin")));
	OK(sp_buf_put_ssh_string(&x, sp_span_str("ssh-connection")));
	OK(sp_buf_put_ssh_string(&x, sp_span_str("publickey")));
	cr_expect_not(is_signed(&f, sp_buf_span(&x)));
	sp_buf_fini(&x);
	sp_buf_fini(&own);
	cr_expect_eq(r.p.n_events, 0);
	leave(&f);
	end(&r);
}

/* Whatever one byte is changed to: what is signed has our key in its place. */
Test(vault_front, changed_at_random)
{
	struct rig r = {.blob = {.max = 128}};
	unsigned taken = 0;

	randombytes_buf(r.pk, sizeof(r.pk));
	OK(sp_ssh_ed25519_blob(&r.blob, r.pk));
	for (int i = 0; i < 100000; i++) {
		struct sp_buf x = exchange(&r, -1, sp_span_str(""));
		uint8_t *p = (uint8_t *)(uintptr_t)sp_buf_span(&x).p;
		struct sp_span rest = sp_buf_span(&x), field = {0};

		p[randombytes_uniform((uint32_t)x.len)] =
		    (uint8_t)randombytes_uniform(256);
		if (sp_exchange_check(rest, sp_buf_span(&r.blob)) == SP_OK) {
			taken++;
			for (int k = 0; k < 5; k++)
				OK(sp_get_ssh_string(&rest, 65536, &field));
			cr_assert(sp_span_eq(field, sp_buf_span(&r.blob)));
		}
		cr_assert_neq(sp_exchange_check(sp_buf_span(&x), sp_span_str("")),
		    SP_OK);
		sp_buf_fini(&x);
	}
	cr_expect_gt(taken, 100);
	sp_buf_fini(&r.blob);
}

Test(vault_front, a_broken_message_ends_the_link_and_no_other)
{
	struct sp_msg_host_proof other = {.host_key = sp_span_str("x")};
	struct rig r;
	struct front f, g;
	struct sp_buf x;
	struct sp_packet k;

	begin(&r, true, false);
	join(&r, &f);
	join(&r, &g);
	x = exchange(&r, -1, sp_span_str(""));
	cr_expect(is_signed(&f, sp_buf_span(&x)));
	OK(sp_send_host_proof(&f.link, 5, &other, NULL));
	/* Seen although the supervisor has the same end. */
	cr_expect_eq(sp_link_wait(&f.link, &k, WAIT_MS), SP_ERR_EOF);
	cr_expect(is_signed(&g, sp_buf_span(&x)));
	leave(&f);
	cr_expect(is_signed(&g, sp_buf_span(&x)));
	sp_buf_fini(&x);
	leave(&g);
	end(&r);
}

static size_t
count_in_memory(pid_t pid, const uint8_t *what, size_t n)
{
	char path[64], line[512];
	static uint8_t data[1 << 20];
	size_t found = 0;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	cr_assert_not_null(maps = fopen(path, "re"));
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	cr_assert_geq(mem = open(path, O_RDONLY | O_CLOEXEC), 0);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long lo, hi;

		if (sscanf(line, "%lx-%lx r", &lo, &hi) != 2)
			continue;
		for (; lo < hi; lo += sizeof(data) - n) {
			size_t want = hi - lo < sizeof(data) ? hi - lo : sizeof(data);
			ssize_t got = pread(mem, data, want, (off_t)lo);

			for (ssize_t i = 0; i + (ssize_t)n <= got; i++)
				found += memcmp(data + i, what, n) == 0;
			if (want < sizeof(data))
				break;
		}
	}
	fclose(maps);
	close(mem);
	return found;
}

Test(vault_front, sealed_signs_nothing_and_has_no_key)
{
	struct rig r;
	struct front f;
	struct sp_buf x;
	struct sp_msg_host_sign_r a;

	begin(&r, false, true);
	join(&r, &f);
	x = exchange(&r, -1, sp_span_str(""));
	a = asked(&f, sp_buf_span(&x), 1);
	cr_expect_eq(a.ok, 0);
	cr_expect(sp_span_is(a.text, "the vault is sealed"));
	cr_expect_eq(count_in_memory(r.p.pid, r.seed, 32), 0);
	OK(vp_unseal(&r.p, r.p.passphrase));
	cr_expect(is_signed(&f, sp_buf_span(&x)));
	cr_expect_gt(count_in_memory(r.p.pid, r.seed, 32), 0, "the search finds it");
	vp_seal(&r.p);
	cr_expect_not(is_signed(&f, sp_buf_span(&x)));
	cr_expect_eq(count_in_memory(r.p.pid, r.seed, 32), 0);
	OK(vp_unseal(&r.p, r.p.passphrase));
	cr_expect(is_signed(&f, sp_buf_span(&x)));
	sp_buf_fini(&x);
	leave(&f);
	end(&r);
}

/* What the supervisor hears on the way; false: nothing of a host key. */
static bool
is_told(struct rig *r, uint8_t pk[static 32], int ms)
{
	struct sp_msg_host_key_kept m;
	struct sp_packet k;

	for (;;) {
		if (sp_link_wait(&r->p.sup, &k, ms) != SP_OK)
			return false;
		if (k.type != SP_MSG_host_key_kept)
			continue;
		OK(sp_dec_host_key_kept(k.body, &m));
		memcpy(pk, m.host_key, 32);
		return true;
	}
}

static const struct sp_state *
state_of(const struct rig *r)
{
	static struct sp_state s;
	int dir = open(r->p.vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(dir, 0);
	OK(sp_state_load(dir, &s));
	close(dir);
	return &s;
}

/* The file is taken into the state, which is on disk before the supervisor is told
 * to remove it; a state that cannot be written leaves it where it is. */
Test(vault_front, the_file_goes_into_the_state)
{
	char in_its_way[160];
	uint8_t pk[32], own[32];
	struct rig r;
	struct front f;
	struct sp_buf x;

	begin(&r, false, true);
	cr_assert(state_of(&r)->has_host, "init makes one");
	memcpy(own, state_of(&r)->host_pk, 32);
	cr_assert_arr_neq(own, r.pk, 32);
	snprintf(in_its_way, sizeof(in_its_way), "%s/.state.new", r.p.vault);
	cr_assert_eq(mkdir(in_its_way, 0700), 0);
	OK(vp_unseal(&r.p, r.p.passphrase));
	(void)vp_status(&r.p);
	cr_expect_eq(r.p.n_events, 2);	/* that, and unsealed */
	cr_expect_not(is_told(&r, pk, 200));
	cr_expect_arr_eq(state_of(&r)->host_pk, own, 32);
	join(&r, &f);
	x = exchange(&r, -1, sp_span_str(""));
	cr_expect_not(is_signed(&f, sp_buf_span(&x)), "not on disk, not in use");
	vp_seal(&r.p);
	cr_assert_eq(rmdir(in_its_way), 0);
	OK(vp_unseal(&r.p, r.p.passphrase));
	cr_assert(is_told(&r, pk, WAIT_MS));
	cr_expect_arr_eq(pk, r.pk, 32);
	cr_expect_arr_eq(state_of(&r)->host_pk, r.pk, 32);
	cr_expect(is_signed(&f, sp_buf_span(&x)));
	vp_seal(&r.p);
	OK(vp_unseal(&r.p, r.p.passphrase));
	cr_expect_not(is_told(&r, pk, 200), "once");
	cr_expect(is_signed(&f, sp_buf_span(&x)), "from the state");
	sp_buf_fini(&x);
	leave(&f);
	end(&r);
}

/* One of zeros is one whose removal was cut short: told again, never imported. */
Test(vault_front, a_file_that_was_written_over)
{
	uint8_t pk[32];
	struct rig r = {0};
	FILE *f;

	snprintf(r.dir, sizeof(r.dir), "/tmp/sp-vfront-XXXXXX");
	cr_assert_not_null(mkdtemp(r.dir));
	snprintf(r.file, sizeof(r.file), "%s/host", r.dir);
	cr_assert_not_null(f = fopen(r.file, "we"));
	for (int i = 0; i < 400; i++)
		cr_assert_eq(fputc(0, f), 0);
	fclose(f);
	vp_key_file = r.file;
	vp_begin(&r.p, true, false);
	cr_assert(is_told(&r, pk, WAIT_MS));
	cr_expect_arr_eq(pk, state_of(&r)->host_pk, 32);
	end(&r);
}

/* One that asks all the time gets 64 and then a hundred a second; nobody else
 * waits for it. The bound grows with the time that this took: load is no fault. */
Test(vault_front, one_that_floods_is_slowed_down)
{
	enum { N = 300 };
	struct sp_msg_host_sign m = {.sha512 = 1};
	struct sp_buf x;
	struct rig r;
	struct front f, g;
	struct sp_packet k;
	int64_t t0;

	begin(&r, true, false);
	join(&r, &f);
	join(&r, &g);
	x = exchange(&r, -1, sp_span_str(""));
	m.exchange = sp_buf_span(&x);
	t0 = sp_boot_us();
	for (int i = 0; i < N; i++)
		OK(sp_send_host_sign(&f.link, (uint64_t)i, &m, NULL));
	cr_expect(is_signed(&g, sp_buf_span(&x)));
	for (int i = 0; i < N; i++) {
		OK(sp_link_wait(&f.link, &k, WAIT_MS));
		cr_assert_eq(k.corr, i);
		cr_assert_leq(i, 64 + (sp_boot_us() - t0) / 10000 + 1);
	}
	sp_buf_fini(&x);
	leave(&g);
	leave(&f);
	end(&r);
}
