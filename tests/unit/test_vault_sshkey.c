/* SPDX-License-Identifier: Apache-2.0 */
/* Covers vault/sshkey.c sshkey_import.c bcrypt.c: what ssh-keygen and openssl
 * write comes in, and what is signed with it verifies. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc_messages.h"
#include "common/text.h"
#include "tests/support/tmp.h"
#include "vault/bcrypt.h"
#include "vault/hostsig.h"
#include "vault/secrets.h"
#include "vault/kinds.h"
#include "vault/sshkey.h"

#define PASS "correct horse"

static char dir[64];

static void
begin(void)
{
	tmp_name(dir, sizeof(dir), "sp-sshkey");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(sp_secret_init(), SP_OK);
}

static void SP_PRINTF(1, 2)
sh(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;
	pid_t pid;
	int st;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if ((pid = fork()) == 0) {
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert_eq(st, 0, "%s", cmd);
}

static void
end(void)
{
	sh("rm -rf %s", dir);
}

TestSuite(sshkey, .init = begin, .fini = end, .timeout = 120);

static void
slurp(const char *name, struct sp_buf *out)
{
	char path[128];
	uint8_t bytes[8192];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	n = read(fd, bytes, sizeof(bytes));
	close(fd);
	cr_assert_gt(n, 0);
	cr_assert_eq(sp_buf_put(out, bytes, (size_t)n), SP_OK);
}

static void
public_blob(struct sp_buf *blob)
{
	SP_BUF_AUTO text = {.max = 16384};
	struct sp_span s;
	const uint8_t *a, *b;

	slurp("k.pub", &text);
	s = sp_buf_span(&text);
	a = memchr(s.p, ' ', s.n);
	cr_assert_not_null(a);
	a++;
	b = memchr(a, ' ', s.n - (size_t)(a - s.p));
	cr_assert_not_null(b);
	cr_assert_eq(sp_unbase64(blob, sp_span_of(a, (size_t)(b - a))), SP_OK);
}

static void
signs(const struct sp_secret *kept, const char *algo)
{
	SP_BUF_AUTO blob = {.max = 4096}, sig = {.max = 4096};
	struct sp_span data = sp_span_str("what is to be signed");

	cr_assert_eq(sp_sshkey_blob(kept, &blob), SP_OK);
	cr_assert_eq(sp_sshkey_sign(kept, sp_span_str(algo), data, &sig), SP_OK);
	cr_expect_eq(sp_host_sig_verify(sp_buf_span(&blob), sp_buf_span(&sig), data,
	    false), SP_OK, "%s", algo);
	cr_expect_neq(sp_host_sig_verify(sp_buf_span(&blob), sp_buf_span(&sig),
	    sp_span_str("something else"), false), SP_OK);
}

/* The file `k` as it stands there now. */
static void
comes_in(const char *pass, const char *algo)
{
	SP_BUF_AUTO file = {.max = 16384}, want = {.max = 4096}, got = {.max = 4096};
	SP_SECRET_AUTO kept = {0};

	slurp("k", &file);
	if (pass[0] != '\0') {
		cr_expect_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_buf_span(&file),
		    (struct sp_span){0}, &kept), SP_ERR_DENIED, "%s", algo);
		cr_expect_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_buf_span(&file),
		    sp_span_str("another"), &kept), SP_ERR_DENIED, "%s", algo);
	}
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_buf_span(&file),
	    sp_span_str(pass), &kept), SP_OK, "%s", algo);
	cr_expect_eq(sp_sshkey_check(&kept), SP_OK);
	cr_assert_eq(sp_sshkey_blob(&kept, &got), SP_OK);
	public_blob(&want);
	cr_expect(sp_span_eq(sp_buf_span(&want), sp_buf_span(&got)), "%s", algo);
	signs(&kept, algo);
}

static const struct {
	const char *args, *algo;
} kinds[] = {{"-t ed25519", "ssh-ed25519"}, {"-t rsa -b 2048", "rsa-sha2-512"},
    {"-t rsa -b 4096", "rsa-sha2-256"}, {"-t ecdsa -b 256", "ecdsa-sha2-nistp256"},
    {"-t ecdsa -b 384", "ecdsa-sha2-nistp384"},
    {"-t ecdsa -b 521", "ecdsa-sha2-nistp521"}};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

Test(sshkey, every_kind_in_openssh_form)
{
	for (size_t i = 0; i < N_KINDS; i++) {
		sh("rm -f %s/k*; ssh-keygen -q -N '' -f %s/k %s", dir, dir,
		    kinds[i].args);
		comes_in("", kinds[i].algo);
		sh("ssh-keygen -q >/dev/null -p -P '' -N '%s' -f %s/k", PASS, dir);
		comes_in(PASS, kinds[i].algo);
	}
	sh("ssh-keygen -q >/dev/null -p -P '%s' -N '%s' -a 40 -Z aes256-cbc -f %s/k", PASS, PASS,
	    dir);
	comes_in(PASS, kinds[N_KINDS - 1].algo);
}

Test(sshkey, pem_and_pkcs8)
{
	for (size_t i = 1; i < N_KINDS; i++) {
		sh("rm -f %s/k*; ssh-keygen -q -m PEM -N '' -f %s/k %s", dir, dir,
		    kinds[i].args);
		comes_in("", kinds[i].algo);
		sh("ssh-keygen -q >/dev/null -p -m PEM -P '' -N '%s' -f %s/k", PASS, dir);
		comes_in(PASS, kinds[i].algo);
		sh("ssh-keygen -q >/dev/null -p -m PKCS8 -P '%s' -N '%s' -f %s/k", PASS, PASS,
		    dir);
		comes_in(PASS, kinds[i].algo);
	}
}

Test(sshkey, never_sha1_and_never_another_algorithm)
{
	SP_BUF_AUTO file = {.max = 16384}, sig = {.max = 4096};
	SP_SECRET_AUTO kept = {0};
	struct sp_span rsa = sp_span_str("ssh-rsa"), data = sp_span_str("x");

	sh("ssh-keygen -q -N '' -t rsa -b 2048 -f %s/k", dir);
	slurp("k", &file);
	cr_assert_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_buf_span(&file),
	    (struct sp_span){0}, &kept), SP_OK);
	cr_expect_not(sp_sshkey_may_sign(rsa, rsa));
	cr_expect(sp_sshkey_may_sign(rsa, sp_span_str("rsa-sha2-256")));
	cr_expect_not(sp_sshkey_may_sign(rsa, sp_span_str("ssh-ed25519")));
	cr_expect_not(sp_sshkey_may_sign(sp_span_str("ssh-ed25519"),
	    sp_span_str("rsa-sha2-256")));
	cr_expect_neq(sp_sshkey_sign(&kept, rsa, data, &sig), SP_OK);
	cr_expect_neq(sp_sshkey_sign(&kept, sp_span_str("ecdsa-sha2-nistp256"), data,
	    &sig), SP_OK);
	cr_expect_eq(sp_buf_span(&sig).n, 0);
}

Test(sshkey, what_is_not_used_here)
{
	static const char *const made[] = {"-t rsa -b 1024", "-t dsa"};
	SP_BUF_AUTO file = {.max = 16384};
	SP_SECRET_AUTO kept = {0};

	for (size_t i = 0; i < 2; i++) {
		sh("rm -f %s/k*; ssh-keygen -q -N '' -f %s/k %s 2>/dev/null", dir, dir,
		    made[i]);
		sp_buf_reset(&file);
		slurp("k", &file);
		cr_expect_eq(sp_secret_import(SP_CRED_SSH_KEY, sp_buf_span(&file),
		    (struct sp_span){0}, &kept), SP_ERR_UNSUPPORTED, "%s", made[i]);
		cr_expect_null(kept.p);
	}
}

/* Every byte of a key file changed: refused or the same key, never a crash. */
Test(sshkey, broken_files)
{
	SP_BUF_AUTO file = {.max = 16384};
	uint8_t bad[4096];
	size_t n;

	sh("ssh-keygen -q -N '' -t ecdsa -f %s/k", dir);
	slurp("k", &file);
	n = sp_buf_span(&file).n;
	for (size_t i = 0; i < n; i++) {
		SP_SECRET_AUTO kept = {0};

		memcpy(bad, sp_buf_span(&file).p, n);
		bad[i] ^= 1;
		if (sp_secret_import(SP_CRED_SSH_KEY, sp_span_of(bad, n),
		    (struct sp_span){0}, &kept) == SP_OK)
			cr_expect_eq(sp_sshkey_check(&kept), SP_OK);
		if (i + 1 < n)		/* the last line end may be missing */
			cr_expect_neq(sp_secret_import(SP_CRED_SSH_KEY, sp_span_of(
			    sp_buf_span(&file).p, i), (struct sp_span){0}, &kept),
			    SP_OK);
	}
}

Test(sshkey, bounds_of_bcrypt)
{
	uint8_t key[48];
	struct sp_span pass = sp_span_str("p"), salt = sp_span_str("saltsaltsaltsalt");

	cr_expect_eq(sp_bcrypt_pbkdf(pass, salt, 0, key, 48), SP_ERR_INVAL);
	cr_expect_eq(sp_bcrypt_pbkdf(pass, salt, SP_BCRYPT_ROUNDS_MAX + 1, key, 48),
	    SP_ERR_INVAL);
	cr_expect_eq(sp_bcrypt_pbkdf((struct sp_span){0}, salt, 1, key, 48),
	    SP_ERR_INVAL);
	cr_expect_eq(sp_bcrypt_pbkdf(pass, salt, 1, key, 0), SP_ERR_INVAL);
	cr_expect_eq(sp_bcrypt_pbkdf(pass, salt, 1, key, 48), SP_OK);
}
