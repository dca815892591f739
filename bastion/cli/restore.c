/* SPDX-License-Identifier: Apache-2.0 */
/* `restore FILE DIR`: an instance on an empty directory, from a backup. The
 * whole file is checked before anything is made; what fails is removed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/cli/backup.h"

struct restore {
	struct sp_cli *c;
	const char *file, *database, *listen;
	bool end_leases;
	struct sp_bk_header h;
	int dump;		/* the database's, in a file without a name */
	struct sp_buf conf, index;
	size_t recordings;	/* of the index */
};

/* As 0001_base.sql makes them: the dump names them. */
static const char roles_sql[] =
    "DO $$ BEGIN\n"
    " IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sallyport_owner') THEN\n"
    "  CREATE ROLE sallyport_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;\n"
    " END IF;\n"
    " IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sallyport_broker') THEN\n"
    "  CREATE ROLE sallyport_broker LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE "
    "CONNECTION LIMIT 40;\n"
    " END IF;\n"
    " IF NOT pg_has_role(current_user, 'sallyport_owner', 'MEMBER') THEN\n"
    "  EXECUTE format('GRANT sallyport_owner TO %I', current_user);\n"
    " END IF;\n"
    " EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());\n"
    " EXECUTE format('GRANT CONNECT ON DATABASE %I TO sallyport_broker', "
    "current_database());\n"
    " EXECUTE format('GRANT CREATE ON DATABASE %I TO sallyport_owner', "
    "current_database());\n"
    "END $$;\n"
    "REVOKE ALL ON SCHEMA public FROM PUBLIC;\n"
    "ALTER DEFAULT PRIVILEGES FOR ROLE sallyport_owner REVOKE EXECUTE ON FUNCTIONS "
    "FROM PUBLIC;\n";

/*
 * What happened between the backup and now is not known here. Numbers that must never come twice jump ahead: serials of
 * certificates by 2^40, requests to the next thousand and one more. Codes up to the one that is good now, and the next, are
 * spent. Sessions that ran are over; their leases go on until they end by themselves, as nothing here may undo at a target
 * what may be in use there.
 */
static const char after_sql[] =
    "BEGIN;\n"
    "SET LOCAL search_path = sallyport, pg_temp;\n"
    "SELECT setval('cert_serials', (SELECT last_value FROM cert_serials) + "
    "(1::bigint << 40));\n"
    "SELECT setval('request_numbers', ((SELECT last_value FROM request_numbers) / "
    "1000 + 2) * 1000);\n"
    "INSERT INTO totp_spent (person_id, version, last_step) SELECT person_id, ver, "
    "now_us() / 30000000 + 1 FROM totp ON CONFLICT (person_id) DO UPDATE SET "
    "version = greatest(totp_spent.version, excluded.version), "
    "last_step = greatest(totp_spent.last_step, excluded.last_step);\n"
    "UPDATE sessions SET ended_us = now_us(), state = 'missing', reason = 'it ran "
    "when the backup was made that this bastion was restored from' WHERE ended_us "
    "IS NULL;\n";
static const char keep_sql[] =
    "UPDATE leases SET expires_us = greatest(expires_us, until_us) WHERE "
    "state = 'active';\nCOMMIT;\n";
static const char end_sql[] =
    "UPDATE leases SET state = 'revoked', ended_us = now_us() WHERE "
    "state = 'active';\nCOMMIT;\n";

static enum sp_err
script(const struct restore *r, const char *a, const char *b)
{
	int fd = memfd_create("restore", MFD_CLOEXEC);
	enum sp_err e = SP_ERR_IO;

	if (fd >= 0 && dprintf(fd, "SET client_min_messages = warning;\n\\o "
	    "/dev/null\n%s%s", a, b) > 0 && lseek(fd, 0, SEEK_SET) == 0)
		e = sp_pg_script(r->c, r->database, fd);
	if (fd >= 0)
		close(fd);
	return e;
}

/* ----------------------------------------------------------------- the files */

/* Where a name of the backup goes; whatever else it holds is refused. */
static bool
is_known(const char *name)
{
	static const char *const dirs[] = {"pam.d/", "keys/", "vault/"};

	if (strcmp(name, "sallyport.conf") == 0 || strcmp(name, "policy") == 0 ||
	    strcmp(name, "database") == 0 || strcmp(name, "recordings.index") == 0)
		return true;
	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(dirs[i]);

		if (strncmp(name, dirs[i], n) == 0 && name[n] != '.' &&
		    name[n] != '\0' && strchr(name + n, '/') == NULL &&
		    strcmp(name, "vault/state") != 0)
			return true;
	}
	return false;
}

static enum sp_err
give(const struct restore *r, const char *name)
{
	char path[4096];
	struct sp_who w;

	if (geteuid() != 0 || strncmp(name, "vault/", 6) != 0)
		return SP_OK;
	SP_TRY(sp_cli_user(SP_U_VAULT, &w));
	sp_cli_path(r->c, path, name);
	return chown(path, w.uid, w.gid) == 0 ? SP_OK : SP_ERR_IO;
}

static enum sp_err
keep_file(struct restore *r, const char *name, mode_t mode, struct sp_buf *text)
{
	char path[4096];

	if (strcmp(name, "database") == 0)
		return SP_OK;
	if (strcmp(name, "sallyport.conf") == 0)
		return sp_buf_put(&r->conf, sp_buf_span(text).p, text->len);
	SP_TRY(sp_cli_write(r->c, name, sp_buf_span(text)));
	sp_cli_path(r->c, path, name);
	if (strncmp(name, "vault/", 6) == 0 && chmod(path, mode & 0700) != 0)
		return SP_ERR_IO;
	if (strcmp(name, "recordings.index") == 0)
		for (size_t i = 0; i < text->len; i++)
			r->recordings += sp_buf_span(text).p[i] == '\n';
	return give(r, name);
}

static enum sp_err
begin_file(struct sp_span body, char name[static 512], mode_t *mode)
{
	struct sp_span s;
	uint32_t m;

	SP_TRY(sp_get_u32(&body, &m));
	SP_TRY(sp_get_str(&body, 511, &s));
	SP_TRY(sp_span_cstr(s, name, 512));
	*mode = (mode_t)m & 0777;
	if (body.n == 0 && is_known(name))
		return SP_OK;
	(void)sp_cli_fail(0, "the backup holds %s, which is no part of one",
	    sp_vis_str(name));
	return SP_ERR_SYNTAX;
}

static enum sp_err
write_dump(int fd, struct sp_span s)
{
	return write(fd, s.p, s.n) == (ssize_t)s.n ? SP_OK : SP_ERR_IO;
}

static enum sp_err
extract(struct restore *r, int fd, const uint8_t ad[static 32],
    const uint8_t key[static SP_BK_KEY])
{
	static uint8_t buf[SP_BK_PIECE + 1];
	static struct sp_bk b;
	SP_BUF_AUTO text = {.max = 64u << 20};
	char name[512] = "";
	mode_t mode = 0;
	enum sp_bk_what what;
	struct sp_span body;
	enum sp_err e = sp_bk_open(&b, fd, &r->h, ad, key);

	while (e == SP_OK && (e = sp_bk_get(&b, buf, &what, &body)) == SP_OK) {
		if (what == SP_BK_FILE) {
			sp_buf_reset(&text);
			e = begin_file(body, name, &mode);
		} else if (what == SP_BK_DATA) {
			e = strcmp(name, "database") == 0 ?
			    write_dump(r->dump, body) :
			    sp_buf_put(&text, body.p, body.n);
		} else if (what == SP_BK_END) {
			e = keep_file(r, name, mode, &text);
		}
	}
	sp_bk_fini(&b);
	return e == SP_ERR_EOF ? SP_OK : e == SP_OK ? SP_ERR_CRYPTO : e;
}

/* ------------------------------------------------------------------- the whole */

static enum sp_err
database(struct restore *r)
{
	enum sp_err e = SP_OK;

	sp_cli_step("  database");
	if (r->database == NULL) {
		SP_TRY(sp_pg_make(r->c));
		SP_TRY(sp_pg_start(r->c));
		e = sp_pg_need_database(r->c);
	}
	if (e == SP_OK)
		e = script(r, roles_sql, "");
	if (e == SP_OK && (lseek(r->dump, 0, SEEK_SET) != 0 ||
	    sp_pg_restore(r->c, r->database, r->dump) != 0))
		e = SP_ERR_DB;
	if (e == SP_OK)
		e = sp_pg_migrate(r->c, r->database);
	if (e == SP_OK)
		e = script(r, after_sql, r->end_leases ? end_sql : keep_sql);
	if (r->database == NULL && sp_pg_stop(r->c) != SP_OK && e == SP_OK)
		e = SP_ERR_DB;
	return e;
}

/* As it was, but for what belongs to the place where it is now. Last: its
 * presence says that all is there. */
static enum sp_err
config(struct restore *r)
{
	static struct sp_config cfg;
	SP_BUF_AUTO text = {.max = 65536};
	struct sp_config_diag d = {0};

	SP_TRY(sp_config_parse(&cfg, sp_buf_span(&r->conf), &d));
	snprintf(cfg.database, sizeof(cfg.database), "%s", r->database == NULL ?
	    "embedded" : r->database);
	if (r->listen != NULL)
		snprintf(cfg.listen, sizeof(cfg.listen), "%s", r->listen);
	/* What the old log had after the backup is not here: another log begins, or
	 * there would be two of one name. */
	snprintf(cfg.log_origin, sizeof(cfg.log_origin),
	    "sallyport/restored-%lld", (long long)(sp_now_us() / 1000000));
	/* The bastion that the backup is of may be there still: two that change
	 * passwords lock each other out. */
	cfg.rotations_held = 1;
	SP_TRY(sp_config_dump(&cfg, &text));
	return sp_cli_write(r->c, "sallyport.conf", sp_buf_span(&text));
}

static enum sp_err
marker(const struct restore *r)
{
	SP_BUF_AUTO text = {.max = 1024};
	char at[SP_TIME_TEXT];

	sp_time_text(at, (int64_t)r->h.made_us, false);
	SP_TRY(sp_buf_printf(&text, "%s\n%s\n%s\n%s\n", r->h.id, at,
	    r->h.node[0] == '\0' ? "-" : r->h.node,
	    r->end_leases ? "ended" : "kept"));
	return sp_cli_write(r->c, "restored", sp_buf_span(&text));
}

static enum sp_err
demo_key(const struct restore *r, const char *from)
{
	SP_BUF_AUTO text = {.max = 4096};

	if (from == NULL)
		return SP_OK;
	SP_TRY(sp_cli_read(from, &text));
	SP_TRY(sp_cli_write(r->c, "vault/DEMONSTRATION-ONLY.key",
	    sp_buf_span(&text)));
	return give(r, "vault/DEMONSTRATION-ONLY.key");
}

static enum sp_err
make_all(struct restore *r, const struct sp_bk_ask *a, int fd,
    const uint8_t ad[static 32], const uint8_t key[static SP_BK_KEY],
    struct sp_new_dir *made)
{
	SP_TRY(sp_cli_new_dir(r->c, r->database == NULL, made));
	r->dump = open(r->c->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (r->dump < 0)
		return SP_ERR_IO;
	sp_cli_step("  files");
	SP_TRY(sp_cli_write(r->c, "vault/state", sp_buf_span(&r->h.state)));
	SP_TRY(give(r, "vault/state"));
	SP_TRY(demo_key(r, a->demo_key));
	SP_TRY(extract(r, fd, ad, key));
	SP_TRY(database(r));
	SP_TRY(marker(r));
	return config(r);
}

static int
restore(struct restore *r, const struct sp_bk_ask *a)
{
	uint8_t ad[32], key[SP_BK_KEY];
	struct sp_new_dir made = {0};
	uint64_t files, bytes;
	char at[SP_TIME_TEXT];
	int fd = -1, rc = sp_bk_open_file(r->file, &fd, &r->h, ad);
	enum sp_err e = SP_OK;

	sp_time_text(at, (int64_t)r->h.made_us, false);
	if (rc == SP_EXIT_OK) {
		sp_cli_step("Restoring %s, made %s, into %s", r->file, at, r->c->dir);
		rc = sp_bk_key(a, &r->h, key);
	}
	if (rc == SP_EXIT_OK)
		rc = sp_bk_check(r->file, &r->h, fd, ad, key, &files, &bytes);
	if (rc == SP_EXIT_OK) {
		e = make_all(r, a, fd, ad, key, &made);
		if (e != SP_OK) {
			rc = sp_cli_fail(SP_EXIT_REFUSED, "nothing was restored: %s",
			    e == SP_ERR_IO ? strerror(errno) : sp_err_text(e));
			sp_cli_new_undo(r->c, &made);
		}
	}
	sodium_memzero(key, sizeof(key));
	if (fd >= 0)
		close(fd);
	return rc;
}

int
sp_cmd_restore(struct sp_cli *c, int argc, char **argv)
{
	static struct restore r;
	struct sp_bk_ask a = {0};
	int rc;

	r = (struct restore){.c = c, .dump = -1, .conf.max = 65536,
	    .h.state.max = SP_BK_HEADER_MAX};
	a.demo_key = sp_cli_value(&argc, argv, "--demo-key");
	a.credential = sp_cli_value(&argc, argv, "--credential");
	a.shares = sp_cli_flag(&argc, argv, "--shares");
	a.pass_file = sp_cli_value(&argc, argv, "--passphrase-file");
	a.by_pass = sp_cli_flag(&argc, argv, "--passphrase");
	r.database = sp_cli_value(&argc, argv, "--database");
	r.listen = sp_cli_value(&argc, argv, "--listen");
	r.end_leases = sp_cli_flag(&argc, argv, "--end-leases");
	if (argc != 3 || argv[1][0] == '-' || argv[2][0] == '-' ||
	    sodium_init() < 0 || !sp_cli_take_dir(c, argv[2]))
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport restore FILE DIR "
		    "[--database CONNINFO] [--listen ADDRESS:PORT] [--end-leases]\n"
		    "       [--passphrase | --passphrase-file F | --shares | "
		    "--credential F | --demo-key F]");
	r.file = argv[1];
	rc = restore(&r, &a);
	if (rc == SP_EXIT_OK)
		sp_cli_step("Restored. %zu recordings belong to it: copy them into "
		    "%s/recordings.\nCodes of one-time passwords work again in a "
		    "minute. What was changed, revoked or rotated since the backup\n"
		    "is not in it: look at users, grants and secrets before people "
		    "come in.\nNext: sallyport -D %s start", r.recordings, c->dir,
		    c->dir);
	sp_bk_header_fini(&r.h);
	sp_buf_fini(&r.conf);
	if (r.dump >= 0)
		close(r.dump);
	return rc;
}

/* ---------------------------------------------------------------- the audit event */

void
sp_cli_restored(const struct sp_cli *c)
{
	SP_BUF_AUTO text = {.max = 1024}, out = {.max = 65536};
	char path[4096], word[4][128] = {{0}}, t[1025];
	char *argv[] = {(char[]){"restored"}, word[0], word[1], word[2], word[3],
	    NULL};
	char *save = NULL;

	sp_cli_path(c, path, "restored");
	if (sp_cli_read(path, &text) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&text), t, sizeof(t)) != SP_OK)
		return;
	for (size_t i = 0; i < 4; i++) {
		const char *w = strtok_r(i == 0 ? t : NULL, "\n", &save);

		snprintf(word[i], sizeof(word[i]), "%s", w == NULL ? "-" : w);
	}
	if (sp_cli_verb(c, 5, argv, -1, &out) == SP_EXIT_OK)
		(void)!unlink(path);
}
