/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/cli/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/sealto.h"
#include "common/text.h"

#define FIRST "sallyport identity v1\n"
#define TEXT_MAX 1024
#define SALT crypto_pwhash_argon2id_SALTBYTES
#define SEALED (crypto_secretbox_NONCEBYTES + 32 + crypto_secretbox_MACBYTES)
#define PASS_MIN 10
#define OPS_MAX 16
#define MEM_MAX (UINT64_C(1) << 30)

struct file {
	uint8_t pk[32], salt[SALT], sealed[SEALED];
	uint64_t ops, mem;
};

static bool
stretch(const struct file *f, struct sp_span pass, uint8_t key[static 32])
{
	return crypto_pwhash_argon2id(key, 32, (const char *)pass.p, pass.n,
	    f->salt, f->ops, (size_t)f->mem,
	    crypto_pwhash_argon2id_ALG_ARGON2ID13) == 0;
}

static bool
word(struct sp_span *s, char end, struct sp_span *w)
{
	const uint8_t *at = s->n == 0 ? NULL : memchr(s->p, end, s->n);

	if (at == NULL)
		return false;
	*w = sp_span_of(s->p, (size_t)(at - s->p));
	s->n -= w->n + 1;
	s->p = at + 1;
	return true;
}

static bool
parse(struct sp_span s, struct file *f)
{
	struct sp_span w, ops, mem, salt;

	return s.n > strlen(FIRST) && memcmp(s.p, FIRST, strlen(FIRST)) == 0 &&
	    word(&s, '\n', &w) && word(&s, ' ', &w) && sp_span_is(w, "public") &&
	    word(&s, '\n', &w) && sp_identity_parse(w, f->pk) == SP_OK &&
	    word(&s, ' ', &w) && sp_span_is(w, "argon2id") &&
	    word(&s, ' ', &ops) && word(&s, ' ', &mem) && word(&s, '\n', &salt) &&
	    sp_u64_parse(ops, OPS_MAX, &f->ops) == SP_OK && f->ops > 0 &&
	    sp_u64_parse(mem, MEM_MAX, &f->mem) == SP_OK && f->mem >= 8192 &&
	    salt.n == 2 * SALT && sp_unhex(f->salt, SALT, salt) == SP_OK &&
	    word(&s, ' ', &w) && sp_span_is(w, "secret") && word(&s, '\n', &w) &&
	    w.n == 2 * SEALED && sp_unhex(f->sealed, SEALED, w) == SP_OK &&
	    s.n == 0;
}

static int
load(const char *path, struct file *f)
{
	SP_BUF_AUTO text = {.max = TEXT_MAX};

	if (sp_cli_read(path, &text) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", path, errno != 0 ?
		    strerror(errno) : "it cannot be read");
	if (!parse(sp_buf_span(&text), f))
		return sp_cli_fail(SP_EXIT_USAGE, "%s is no identity of sallyport",
		    path);
	return SP_EXIT_OK;
}

int
sp_identity_open(const char *path, struct sp_identity *id)
{
	SP_BUF_AUTO pass = {.max = 1024};
	uint8_t key[32], pk[32];
	char prompt[300];
	struct file f;
	int rc = load(path, &f), bad = -1;

	if (rc != SP_EXIT_OK)
		return rc;
	snprintf(prompt, sizeof(prompt), "Passphrase of %.200s: ", path);
	if (sp_cli_secret_line(prompt, &pass) == SP_OK &&
	    stretch(&f, sp_buf_span(&pass), key))
		bad = crypto_secretbox_open_easy(id->sk, f.sealed +
		    crypto_secretbox_NONCEBYTES, SEALED -
		    crypto_secretbox_NONCEBYTES, f.sealed, key);
	sodium_memzero(key, sizeof(key));
	if (bad != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: wrong passphrase", path);
	/* The public half is clear text: what opens must be its other half. */
	if (crypto_scalarmult_base(pk, id->sk) != 0 ||
	    memcmp(pk, f.pk, sizeof(pk)) != 0) {
		sodium_memzero(id, sizeof(*id));
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: its public half was changed",
		    path);
	}
	memcpy(id->pk, pk, sizeof(pk));
	return SP_EXIT_OK;
}

static int
ask_new(struct sp_buf *pass)
{
	SP_BUF_AUTO again = {.max = 1024};

	if (sp_cli_secret_line("A passphrase for it: ", pass) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "at most 1024 bytes");
	if (pass->len < PASS_MIN)
		return sp_cli_fail(SP_EXIT_USAGE, "a passphrase has at least %d "
		    "bytes", PASS_MIN);
	if (!isatty(STDIN_FILENO))
		return SP_EXIT_OK;
	if (sp_cli_secret_line("Once more: ", &again) != SP_OK ||
	    !sp_span_eq(sp_buf_span(&again), sp_buf_span(pass)))
		return sp_cli_fail(SP_EXIT_USAGE, "these are two passphrases");
	return SP_EXIT_OK;
}

static bool
seal(struct file *f, struct sp_span pass)
{
	uint8_t sk[32], key[32];
	bool ok;

	f->ops = crypto_pwhash_argon2id_OPSLIMIT_MODERATE;
	f->mem = crypto_pwhash_argon2id_MEMLIMIT_MODERATE;
	randombytes_buf(f->salt, sizeof(f->salt));
	randombytes_buf(f->sealed, crypto_secretbox_NONCEBYTES);
	ok = crypto_box_keypair(f->pk, sk) == 0 && stretch(f, pass, key) &&
	    crypto_secretbox_easy(f->sealed + crypto_secretbox_NONCEBYTES, sk, 32,
	    f->sealed, key) == 0;
	sodium_memzero(sk, sizeof(sk));
	sodium_memzero(key, sizeof(key));
	return ok;
}

static enum sp_err
write_out(int fd, const struct file *f)
{
	char pk[SP_IDENTITY_TEXT], salt[2 * SALT + 1], sealed[2 * SEALED + 1];
	SP_BUF_AUTO b = {.max = TEXT_MAX};

	sp_identity_text(pk, f->pk);
	sp_hex(salt, f->salt, SALT);
	sp_hex(sealed, f->sealed, SEALED);
	SP_TRY(sp_buf_printf(&b, FIRST "public %s\nargon2id %llu %llu %s\n"
	    "secret %s\n", pk, (unsigned long long)f->ops,
	    (unsigned long long)f->mem, salt, sealed));
	return write(fd, b.p + b.off, b.len) == (ssize_t)b.len &&
	    fsync(fd) == 0 ? SP_OK : SP_ERR_IO;
}

static int
make(const char *path)
{
	SP_BUF_AUTO pass = {.max = 1024};
	char pk[SP_IDENTITY_TEXT];
	struct file f;
	int rc, fd;

	if ((rc = ask_new(&pass)) != SP_EXIT_OK)
		return rc;
	if (!seal(&f, sp_buf_span(&pass)))
		return sp_cli_fail(SP_EXIT_REFUSED, "no memory for the passphrase");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (write_out(fd, &f) != SP_OK) {
		rc = sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", path, strerror(errno));
		(void)!unlink(path);
	}
	close(fd);
	sp_identity_text(pk, f.pk);
	if (rc == SP_EXIT_OK)
		printf("%s\n", pk);
	return rc;
}

int
sp_cmd_identity(struct sp_cli *c, int argc, char **argv)
{
	char pk[SP_IDENTITY_TEXT];
	struct file f;
	int rc;

	(void)c;
	if (sodium_init() < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "no cryptography");
	if (argc == 3 && strcmp(argv[1], "new") == 0)
		return make(argv[2]);
	if (argc != 3 || strcmp(argv[1], "show") != 0)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport identity "
		    "new|show FILE");
	if ((rc = load(argv[2], &f)) != SP_EXIT_OK)
		return rc;
	sp_identity_text(pk, f.pk);
	printf("%s\n", pk);
	return SP_EXIT_OK;
}
