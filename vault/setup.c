/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/text.h"
#include "vault/root.h"
#include "vault/poison.h"

static int
fail(const char *why)
{
	fprintf(stderr, "sallyport-vault: %s\n", why);
	return 1;
}

static int
open_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		fprintf(stderr, "sallyport-vault: %s: %s\n", sp_vis_str(dir),
		    strerror(errno));
	return fd;
}

static enum sp_err
print_keys(const struct sp_state *s)
{
	char audit[65], rec[65];
	SP_BUF_AUTO ca = {.max = 256}, host = {.max = 256};

	sp_hex(audit, s->audit_pk, 32);
	sp_hex(rec, s->rec_pk, 32);
	SP_TRY(sp_ssh_ed25519_line(&ca, s->ca_pk, "sallyport-ca"));
	if (s->has_host)
		SP_TRY(sp_ssh_ed25519_line(&host, s->host_pk, "sallyport"));
	printf("{\"audit_key\":\"%s\",\"recording_key\":\"%s\","
	    "\"ca_key\":\"%.*s\",\"host_key\":\"%.*s\",\"slots\":%zu}\n",
	    audit, rec, (int)ca.len, (const char *)sp_buf_span(&ca).p,
	    (int)host.len, (const char *)sp_buf_span(&host).p, s->n_slots);
	return fflush(stdout) == 0 ? SP_OK : SP_ERR_IO;
}

/* One line of standard input into locked memory; empty at its end. */
static enum sp_err
read_passphrase(struct sp_secret *s)
{
	size_t n = 0;

	SP_TRY(sp_secret_new(s, SP_PASSPHRASE_MAX + 1));
	while (n <= SP_PASSPHRASE_MAX) {
		ssize_t k = read(STDIN_FILENO, s->p + n, 1);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0 || s->p[n] == '\n')
			break;
		n++;
	}
	if (n > SP_PASSPHRASE_MAX)
		return SP_ERR_TOOBIG;
	if (n == 0)
		sp_secret_free(s);
	else
		sp_secret_cut(s, n);
	return SP_OK;
}

static enum sp_err
add_demo(int dirfd, struct sp_state *s, const struct sp_secret *root)
{
	SP_BUF_AUTO text = {.max = SP_DEMO_TEXT_MAX};
	SP_SECRET_AUTO key = {0};

	SP_TRY(sp_secret_random(&key, SP_KEY_BYTES));
	SP_TRY(sp_slot_make_demo(&s->slots[s->n_slots], &key, root));
	s->n_slots++;
	SP_TRY(sp_demo_text(&text, &key));
	return sp_file_write(dirfd, SP_DEMO_FILE, sp_buf_span(&text), true);
}

static enum sp_err
make(int dirfd, const struct sp_secret *pass, int want_demo, struct sp_state *s)
{
	SP_BUF_AUTO file = {.max = SP_STATE_MAX};
	SP_SECRET_AUTO root = {0};

	SP_TRY(sp_root_make(s, &root));
	if (pass->n > 0) {
		SP_TRY(sp_slot_make_passphrase(&s->slots[s->n_slots],
		    sp_span_of(pass->p, pass->n), &sp_kdf_moderate, &root));
		s->n_slots++;
	}
	if (want_demo)
		SP_TRY(add_demo(dirfd, s, &root));
	SP_TRY(sp_root_sign_state(&root, s));
	SP_TRY(sp_state_encode(s, &file));
	return sp_file_write(dirfd, SP_STATE_FILE, sp_buf_span(&file), false);
}

static int
init_in(int dirfd, int want_demo)
{
	SP_SECRET_AUTO pass = {0};
	struct sp_state s = {0};
	struct stat st;
	enum sp_err e;

	/* A root key is never made over another: it would be lost. */
	if (fstatat(dirfd, SP_STATE_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return fail("this directory has a vault already");
	if (sp_secret_init() != SP_OK || read_passphrase(&pass) != SP_OK)
		return fail("the passphrase could not be read: one line, at most "
		    "1024 bytes");
	if (pass.n == 0 && !want_demo)
		return fail("no passphrase on standard input: nothing could ever "
		    "unseal this vault");
	if (pass.n > 0 && pass.n < SP_PASSPHRASE_MIN)
		return fail("the passphrase is too short: 8 bytes at least");
	e = make(dirfd, &pass, want_demo, &s);
	if (e == SP_OK)
		e = print_keys(&s);
	if (e != SP_OK)
		return fail(e == SP_ERR_NOMEM ? "not enough memory: Argon2id needs "
		    "256 MiB" : sp_err_text(e));
	return 0;
}

int
sp_setup_init(const char *dir, int want_demo)
{
	int fd, rc;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		fprintf(stderr, "sallyport-vault: %s: %s\n", sp_vis_str(dir),
		    strerror(errno));
		return 1;
	}
	if ((fd = open_dir(dir)) < 0)
		return 1;
	rc = init_in(fd, want_demo);
	close(fd);
	return rc;
}

int
sp_setup_pubkeys(const char *dir)
{
	struct sp_state s;
	enum sp_err e;
	int fd;

	if ((fd = open_dir(dir)) < 0)
		return 1;
	e = sp_secret_init();
	if (e == SP_OK)
		e = sp_state_load(fd, &s);
	close(fd);
	if (e == SP_OK)
		e = print_keys(&s);
	if (e == SP_ERR_NOTFOUND)
		return fail("this directory has no vault: sallyport init");
	if (e == SP_ERR_CRYPTO)
		return fail("the vault's state file is damaged");
	return e == SP_OK ? 0 : fail(sp_err_text(e));
}
