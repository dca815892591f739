/* SPDX-License-Identifier: Apache-2.0 */
/* `backup FILE`, `backup --verify FILE`. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/backup.h"

#define FILE_MAX (4u << 20)	/* of one small file of the instance */

void
sp_bk_bar(const char *what, uint64_t done, uint64_t all)
{
	static int64_t last;
	int64_t now = sp_boot_us();
	char bar[31];
	size_t n = all == 0 ? 0 : (size_t)(done * 30 / all);

	if (!isatty(STDERR_FILENO) || (now - last < 100000 && done < all))
		return;
	last = now;
	memset(bar, ' ', 30);
	memset(bar, '#', n > 30 ? 30 : n);
	bar[30] = '\0';
	if (all > 0)
		fprintf(stderr, "\r  %-8s [%s] %3u%%%s", what, bar,
		    (unsigned)(done >= all ? 100 : done * 100 / all),
		    done >= all ? "\n" : "");
	else
		fprintf(stderr, "\r  %-8s %llu MiB%s", what,
		    (unsigned long long)(done >> 20), "");
}

/* -------------------------------------------------------------------- the file */

int
sp_bk_open_file(const char *file, int *fd, struct sp_bk_header *h,
    uint8_t ad[static 32])
{
	enum sp_err e;

	*fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (*fd < 0)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", file, strerror(errno));
	e = sp_bk_read_header(*fd, h, ad);
	if (e == SP_OK && h->schema <= (uint64_t)sp_pg_newest())
		return SP_EXIT_OK;
	if (e == SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s was made by a newer Sallyport "
		    "(its database is of version %llu, this one knows %d): install "
		    "that one first", file, (unsigned long long)h->schema,
		    sp_pg_newest());
	return sp_cli_fail(SP_EXIT_REFUSED, "%s is no backup of Sallyport%s", file,
	    e == SP_ERR_UNSUPPORTED ? " that this version can read" :
	    ", or was cut at its beginning");
}

int
sp_bk_check(const char *file, const struct sp_bk_header *h, int fd,
    const uint8_t ad[static 32], const uint8_t key[static SP_BK_KEY],
    uint64_t *files, uint64_t *bytes)
{
	static uint8_t buf[SP_BK_PIECE + 1];
	off_t start = lseek(fd, 0, SEEK_CUR);
	struct stat st = {0};
	struct sp_bk b;
	enum sp_bk_what what;
	struct sp_span body;
	enum sp_err e = sp_bk_open(&b, fd, h, ad, key);

	(void)fstat(fd, &st);
	while (e == SP_OK && (e = sp_bk_get(&b, buf, &what, &body)) == SP_OK)
		sp_bk_bar("checking", (uint64_t)lseek(fd, 0, SEEK_CUR),
		    (uint64_t)st.st_size);
	*files = b.files;
	*bytes = b.bytes;
	sp_bk_fini(&b);
	sodium_memzero(buf, sizeof(buf));
	if (e == SP_ERR_EOF && lseek(fd, start, SEEK_SET) == start)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_REFUSED, "%s is not whole: it was cut or changed "
	    "(%llu bytes were right)", file, (unsigned long long)*bytes);
}

/* -------------------------------------------------------------------- its parts */

struct backup {
	struct sp_cli *c;
	const char *file, *database, *pass_file;
	bool by_pass, no_vault;
	struct sp_config cfg;
	struct sp_bk_header h;
	uint8_t key[SP_BK_KEY];
	int fd;			/* of the new file, without a name yet */
	uint64_t files, bytes;
};

static enum sp_err
put_small(struct backup *k, struct sp_bk *b, const char *name)
{
	SP_BUF_AUTO text = {.max = FILE_MAX};
	char path[4096];
	struct stat st;
	enum sp_err e;

	sp_cli_path(k->c, path, name);
	if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return SP_OK;
	if ((e = sp_cli_read(path, &text)) != SP_OK) {
		(void)sp_cli_fail(0, "%s: %s", path, sp_err_text(e));
		return e;
	}
	return sp_bk_put_file(b, name, st.st_mode & 0777, text.len == 0 ?
	    sp_span_str("") : sp_buf_span(&text));
}

/* The files of a directory; the key of a demonstration is no part of it: it
 * would lie beside what it opens. */
static enum sp_err
put_dir(struct backup *k, struct sp_bk *b, const char *dir)
{
	char path[4096], name[512];
	struct dirent *e;
	enum sp_err err = SP_OK;
	DIR *d;

	sp_cli_path(k->c, path, dir);
	d = opendir(path);
	while (d != NULL && err == SP_OK && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.' || strcmp(e->d_name, "state") == 0 ||
		    strcmp(e->d_name, "DEMONSTRATION-ONLY.key") == 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", dir, e->d_name);
		err = put_small(k, b, name);
	}
	if (d != NULL)
		closedir(d);
	return err;
}

/* Which recordings there are: name and size; what is in them has its own
 * archive, and the database has their heads. */
static enum sp_err
put_index(struct backup *k, struct sp_bk *b)
{
	SP_BUF_AUTO text = {.max = 64u << 20};
	char path[4096];
	struct dirent *e;
	enum sp_err err = SP_OK;
	DIR *d;

	sp_cli_path(k->c, path, "recordings");
	d = opendir(path);
	while (d != NULL && err == SP_OK && (e = readdir(d)) != NULL) {
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st,
		    AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
			continue;
		err = sp_buf_printf(&text, "%s %lld\n", e->d_name,
		    (long long)st.st_size);
	}
	if (d != NULL)
		closedir(d);
	if (err != SP_OK)
		return err;
	return sp_bk_put_file(b, "recordings.index", 0600, text.len == 0 ?
	    sp_span_str("") : sp_buf_span(&text));
}

/* pg_dump reads one snapshot; what it says goes piece by piece into the file. */
static enum sp_err
put_database(struct backup *k, struct sp_bk *b)
{
	static uint8_t piece[SP_BK_PIECE];
	SP_BUF_AUTO size = {.max = 8};
	enum sp_err e = sp_bk_put_file(b, "database", 0600, (struct sp_span){0});
	int p[2], status = -1;
	ssize_t n = 0;
	pid_t pid;

	if (e != SP_OK || pipe2(p, O_CLOEXEC) != 0)
		return e == SP_OK ? SP_ERR_IO : e;
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		_exit(sp_pg_dump(k->c, k->database, p[1]) == 0 ? 0 : 1);
	}
	close(p[1]);
	while (pid > 0 && e == SP_OK && (n = read(p[0], piece, sizeof(piece))) != 0) {
		if (n > 0)
			e = sp_bk_put(b, SP_BK_DATA, sp_span_of(piece, (size_t)n));
		else if (errno != EINTR)
			e = SP_ERR_IO;
		sp_bk_bar("writing", b->bytes, 0);
	}
	close(p[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (e == SP_OK && status != 0) {
		(void)sp_cli_fail(0, "pg_dump failed: what it said stands above");
		return SP_ERR_DB;
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\n");
	if (e == SP_OK)
		e = sp_buf_put_u64(&size, b->of_file);
	return e == SP_OK ? sp_bk_put(b, SP_BK_END, sp_buf_span(&size)) : e;
}

static enum sp_err
put_all(struct backup *k)
{
	static struct sp_bk b;
	enum sp_err e = sp_bk_begin(&b, k->fd, &k->h, k->key);

	if (e == SP_OK)
		e = put_small(k, &b, "sallyport.conf");
	if (e == SP_OK)
		e = put_small(k, &b, "policy");
	if (e == SP_OK)
		e = put_dir(k, &b, "pam.d");
	if (e == SP_OK)
		e = put_dir(k, &b, "keys");
	if (e == SP_OK)
		e = put_dir(k, &b, "vault");
	if (e == SP_OK)
		e = put_database(k, &b);
	if (e == SP_OK)
		e = put_index(k, &b);
	if (e == SP_OK)
		e = sp_bk_done(&b);
	k->files = b.files;
	k->bytes = b.bytes;
	sp_bk_fini(&b);
	return e;
}

/* --------------------------------------------------------------------- the whole */

static enum sp_err
read_state(const struct backup *k, struct sp_buf *state)
{
	char path[4096];
	enum sp_err e;

	sp_cli_path(k->c, path, "vault/state");
	if ((e = sp_cli_read(path, state)) != SP_OK)
		(void)sp_cli_fail(0, "%s: %s", path, sp_err_text(e));
	return e;
}

static int
get_keys(struct backup *k)
{
	SP_BUF_AUTO pass = {.max = 1024}, again = {.max = 1024};
	enum sp_err e;
	int rc = SP_EXIT_OK;

	if (k->no_vault)
		randombytes_buf(k->key, sizeof(k->key));
	else
		rc = sp_bk_key_of_vault(k->c, &k->h, k->key);
	if (rc != SP_EXIT_OK || !k->by_pass)
		return rc;
	e = k->pass_file != NULL ? sp_cli_read(k->pass_file, &pass) :
	    sp_cli_secret_line("Passphrase of the backup: ", &pass);
	while (e == SP_OK && pass.len > 0 &&
	    sp_buf_span(&pass).p[pass.len - 1] == '\n')
		pass.len--;
	if (e == SP_OK && k->pass_file == NULL && isatty(STDIN_FILENO) &&
	    ((e = sp_cli_secret_line("The same again: ", &again)) != SP_OK ||
	    !sp_span_eq(sp_buf_span(&pass), sp_buf_span(&again))))
		return sp_cli_fail(SP_EXIT_USAGE, "these are not the same");
	if (e != SP_OK || pass.len < 8)
		return sp_cli_fail(SP_EXIT_USAGE, "a passphrase of 8 to 1024 bytes");
	e = sp_bk_by_pass(&k->h, sp_buf_span(&pass), k->key);
	return e == SP_OK ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_REFUSED,
	    "the passphrase cannot be used: %s", sp_err_text(e));
}

/* Without a name until it is whole: whatever happens leaves no half of it. */
static int
open_new(struct backup *k)
{
	char dir[4096];
	struct stat st;

	if (lstat(k->file, &st) == 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s is there already: nothing is "
		    "written over", k->file);
	snprintf(dir, sizeof(dir), "%s", k->file);
	k->fd = open(dirname(dir), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (k->fd >= 0)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_REFUSED, "no new file can be made beside %s: %s",
	    k->file, strerror(errno));
}

static int
give_name(const struct backup *k)
{
	char path[64], dir[4096];
	int d;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", k->fd);
	if (fsync(k->fd) != 0 || linkat(AT_FDCWD, path, AT_FDCWD, k->file,
	    AT_SYMLINK_FOLLOW) != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", k->file,
		    strerror(errno));
	snprintf(dir, sizeof(dir), "%s", k->file);
	d = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d >= 0) {
		(void)fsync(d);
		close(d);
	}
	return SP_EXIT_OK;
}

static int
check_new(struct backup *k)
{
	struct sp_bk_header h;
	uint64_t files, bytes;
	uint8_t ad[32];
	int rc = SP_EXIT_REFUSED;

	if (lseek(k->fd, 0, SEEK_SET) == 0 &&
	    sp_bk_read_header(k->fd, &h, ad) == SP_OK) {
		rc = sp_bk_check(k->file, &h, k->fd, ad, k->key, &files, &bytes);
		if (rc == SP_EXIT_OK && (files != k->files || bytes != k->bytes))
			rc = SP_EXIT_REFUSED;
		sp_bk_header_fini(&h);
	}
	return rc == SP_EXIT_OK ? rc : sp_cli_fail(SP_EXIT_REFUSED, "what was written "
	    "does not read back: is the disk full or broken? Nothing was kept");
}

/* The vault's state must be that of before the dump: a key that came in between
 * would be missing for rows that are in it. */
static int
write_once(struct backup *k, bool *again)
{
	SP_BUF_AUTO state = {.max = SP_BK_HEADER_MAX};
	enum sp_err e;

	*again = false;
	if (ftruncate(k->fd, 0) != 0 || lseek(k->fd, 0, SEEK_SET) != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", strerror(errno));
	sp_buf_reset(&k->h.state);
	if (read_state(k, &k->h.state) != SP_OK)
		return SP_EXIT_REFUSED;
	e = put_all(k);
	if (e != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "the backup could not be written: "
		    "%s", e == SP_ERR_IO ? strerror(errno) : sp_err_text(e));
	if (read_state(k, &state) != SP_OK)
		return SP_EXIT_REFUSED;
	*again = !sp_span_eq(sp_buf_span(&state), sp_buf_span(&k->h.state));
	return SP_EXIT_OK;
}

static int
write_it(struct backup *k)
{
	uint8_t id[16];
	char version[32];
	bool again = true;
	int rc = SP_EXIT_OK;

	if (sp_pg_ask(k->c, k->database, "SELECT max(version) FROM "
	    "sallyport.schema_version", version, sizeof(version)) != SP_OK)
		return sp_cli_fail(SP_EXIT_LATER, "the database cannot be reached: it "
		    "must run (sallyport start)");
	k->h.made_us = (uint64_t)sp_now_us();
	k->h.schema = strtoull(version, NULL, 10);
	sp_uuid_make(id);
	sp_uuid_text(k->h.id, id);
	snprintf(k->h.node, sizeof(k->h.node), "%.64s", k->cfg.node);
	for (int i = 0; i < 3 && rc == SP_EXIT_OK && again; i++)
		rc = write_once(k, &again);
	if (rc == SP_EXIT_OK && again)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault's keys change just now: "
		    "repeat it in a while");
	if (rc == SP_EXIT_OK)
		rc = check_new(k);
	return rc == SP_EXIT_OK ? give_name(k) : rc;
}

static int
backup(struct backup *k)
{
	struct stat st = {0};
	int rc;

	if (sp_cli_config(k->c, &k->cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	if (k->database == NULL && strcmp(k->cfg.database, "embedded") != 0)
		k->database = k->cfg.database;
	if ((rc = get_keys(k)) != SP_EXIT_OK || (rc = open_new(k)) != SP_EXIT_OK ||
	    (rc = write_it(k)) != SP_EXIT_OK)
		return rc;
	(void)fstat(k->fd, &st);
	if (k->c->json)
		printf("{\"id\": \"%s\", \"state\": \"written\", \"bytes\": %lld, "
		    "\"files\": %llu}\n", k->h.id, (long long)st.st_size,
		    (unsigned long long)k->files);
	else
		printf("%s is written and reads back: %lld bytes. It opens with %s%s%s."
		    "\nRecordings are not in it: copy %s/recordings as well.\n",
		    k->file, (long long)st.st_size, k->h.n_wrapped > 0 ?
		    "any slot of the vault" : "", k->h.n_wrapped > 0 && k->by_pass ?
		    ", or " : "", k->by_pass ? "its passphrase" : "", k->c->dir);
	return SP_EXIT_OK;
}

static int
verify(const struct sp_bk_ask *a, const char *file)
{
	struct sp_bk_header h = {.state = {.max = SP_BK_HEADER_MAX}};
	uint8_t ad[32], key[SP_BK_KEY];
	char at[SP_TIME_TEXT];
	uint64_t files, bytes;
	int fd = -1, rc = sp_bk_open_file(file, &fd, &h, ad);

	if (rc == SP_EXIT_OK)
		rc = sp_bk_key(a, &h, key);
	if (rc == SP_EXIT_OK)
		rc = sp_bk_check(file, &h, fd, ad, key, &files, &bytes);
	sodium_memzero(key, sizeof(key));
	sp_time_text(at, (int64_t)h.made_us, false);
	if (rc == SP_EXIT_OK && a->c->json)
		printf("{\"id\": \"%s\", \"state\": \"whole\", \"made\": \"%s\", "
		    "\"files\": %llu, \"bytes\": %llu}\n", h.id, at,
		    (unsigned long long)files, (unsigned long long)bytes);
	else if (rc == SP_EXIT_OK)
		printf("%s is whole: made %s, %llu files, %llu bytes.\n", file, at,
		    (unsigned long long)files, (unsigned long long)bytes);
	sp_bk_header_fini(&h);
	if (fd >= 0)
		close(fd);
	return rc;
}

int
sp_cmd_backup(struct sp_cli *c, int argc, char **argv)
{
	static struct backup k;
	struct sp_bk_ask a = {.c = c};
	bool verifies = sp_cli_flag(&argc, argv, "--verify");
	int rc;

	k = (struct backup){.c = c, .fd = -1, .h.state.max = SP_BK_HEADER_MAX};
	a.demo_key = sp_cli_value(&argc, argv, "--demo-key");
	a.credential = sp_cli_value(&argc, argv, "--credential");
	a.shares = sp_cli_flag(&argc, argv, "--shares");
	k.database = sp_cli_value(&argc, argv, "--database");
	a.pass_file = k.pass_file = sp_cli_value(&argc, argv, "--passphrase-file");
	k.no_vault = sp_cli_flag(&argc, argv, "--passphrase-only");
	a.by_pass = k.by_pass = sp_cli_flag(&argc, argv, "--passphrase") ||
	    k.pass_file != NULL || k.no_vault;
	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 2 || argv[1][0] == '-' || sodium_init() < 0)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport backup FILE "
		    "[--passphrase | --passphrase-only] [--passphrase-file F] "
		    "[--database CONNINFO]\n       sallyport backup --verify FILE "
		    "[--passphrase | --shares | --credential F | --demo-key F]");
	if (verifies)
		return verify(&a, argv[1]);
	k.file = argv[1];
	rc = backup(&k);
	sodium_memzero(k.key, sizeof(k.key));
	sp_bk_header_fini(&k.h);
	if (k.fd >= 0)
		close(k.fd);
	return rc;
}
