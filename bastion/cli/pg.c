/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define SOCKET_NAME_BYTES 16	/* "/.s.PGSQL.5432" and the NUL */
#define SOCKET_PATH_MAX 107

static int
failed(const char *what)
{
	return sp_cli_fail(0, "%s failed: what it said stands above, and in "
	    "log/postgresql.log", what);
}

static bool
is_too_long(const char *dir)
{
	return strlen(dir) + SOCKET_NAME_BYTES > SOCKET_PATH_MAX;
}

/* Where the socket is: DIR/run/db, or what DIR/run/db.path names. */
void
sp_pg_socket_dir(const struct sp_cli *c, char dst[static 4096])
{
	SP_BUF_AUTO b = {.max = 256};
	char path[4096];

	sp_cli_path(c, dst, "run/db");
	sp_cli_path(c, path, "run/db.path");
	if (!is_too_long(dst) || sp_cli_read(path, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), path, 256) != SP_OK)
		return;
	path[strcspn(path, "\r\n")] = '\0';
	if (path[0] == '/')
		snprintf(dst, 4096, "%.256s", path);
}

/* A short directory of the database's user, made anew when it is gone. */
static enum sp_err
need_short_dir(const struct sp_cli *c, const struct sp_who *db)
{
	char path[4096], dir[4096], text[300];
	char fresh[] = "/tmp/sallyport-db.XXXXXX";
	struct stat st;

	sp_pg_socket_dir(c, dir);
	if (!is_too_long(dir) && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) &&
	    st.st_uid == db->uid)
		return SP_OK;
	if (mkdtemp(fresh) == NULL || chmod(fresh, 0755) != 0 ||
	    (geteuid() == 0 && chown(fresh, db->uid, db->gid) != 0))
		return SP_ERR_IO;
	sp_cli_path(c, path, "run/db.path");
	(void)!unlink(path);
	snprintf(text, sizeof(text), "%s\n", fresh);
	SP_TRY(sp_cli_write(c, "run/db.path", sp_span_str(text)));
	return chmod(path, 0644) == 0 ? SP_OK : SP_ERR_IO;
}

/* A value in postgresql.conf; a name in a list of directories needs double
 * quotes inside. */
static enum sp_err
conf_dir(struct sp_buf *b, const char *dir)
{
	SP_TRY(sp_buf_printf(b, "unix_socket_directories = '\""));
	for (; *dir != '\0'; dir++) {
		if (*dir == '\'' || *dir == '"')
			SP_TRY(sp_buf_put(b, dir, 1));
		SP_TRY(sp_buf_put(b, dir, 1));
	}
	return sp_buf_printf(b, "\"'\n");
}

/* A file in the cluster, for the database's user; replaces what is there. */
static enum sp_err
put_file(const struct sp_cli *c, const struct sp_who *db, const char *name,
    struct sp_span text)
{
	char path[4096];
	int dir, fd;
	enum sp_err e = SP_ERR_IO;

	sp_cli_path(c, path, "pg");
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return SP_ERR_IO;
	(void)!unlinkat(dir, name, 0);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n &&
	    (geteuid() != 0 || fchown(fd, db->uid, db->gid) == 0))
		e = SP_OK;
	if (fd >= 0)
		close(fd);
	close(dir);
	return e;
}

/* Roles of the database by users of the system: nothing to steal, no
 * passwords. root may become the superuser as it may become anybody. */
static enum sp_err
put_access(const struct sp_cli *c, const struct sp_who *db)
{
	static const char hba[] =
	    "# made by sallyport init: a local socket only, by the system's users\n"
	    "local all postgres peer map=sallyport\n"
	    "local sallyport sallyport_broker peer map=sallyport\n";
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_who broker;

	SP_TRY(sp_cli_user(SP_U_BROKER, &broker));
	SP_TRY(sp_buf_printf(&b, "sallyport %s postgres\nsallyport %s "
	    "sallyport_broker\n", db->name, broker.name));
	if (geteuid() == 0)
		SP_TRY(sp_buf_printf(&b, "sallyport root postgres\n"));
	SP_TRY(put_file(c, db, "pg_ident.conf", sp_buf_span(&b)));
	return put_file(c, db, "pg_hba.conf", sp_span_str(hba));
}

static enum sp_err
put_settings(const struct sp_cli *c, const struct sp_who *db)
{
	SP_BUF_AUTO b = {.max = 8192};
	char dir[4096];

	SP_TRY(need_short_dir(c, db));
	sp_pg_socket_dir(c, dir);
	SP_TRY(sp_buf_printf(&b, "# made by sallyport at each start\n"
	    "listen_addresses = ''\nmax_connections = 60\n"
	    "shared_buffers = '64MB'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n"
	    "log_line_prefix = '%%m [%%p] %%u '\n"));
	SP_TRY(conf_dir(&b, dir));
	return put_file(c, db, "sallyport.conf", sp_buf_span(&b));
}

enum sp_err
sp_pg_make(const struct sp_cli *c)
{
	SP_BUF_AUTO out = {.max = 65536};
	char initdb[4096], dir[4096], conf[4096];
	struct sp_who db;
	const char *const argv[] = {initdb, "-D", dir, "--username=postgres",
	    "--auth-local=peer", "--auth-host=reject", "--data-checksums",
	    "--encoding=UTF8", "--locale=C", "--no-instructions", NULL};
	FILE *f;

	SP_TRY(sp_cli_user(SP_U_DB, &db));
	if (!sp_cli_find_pg("initdb", initdb))
		return SP_ERR_NOTFOUND;
	sp_cli_path(c, dir, "pg");
	if (sp_cli_run(&(struct sp_run){.argv = argv, .as = &db,
	    .out = &out}) != 0) {
		failed("initdb");
		return SP_ERR_DB;
	}
	SP_TRY(put_access(c, &db));
	sp_cli_path(c, conf, "pg/postgresql.conf");
	f = fopen(conf, "ae");
	if (f == NULL)
		return SP_ERR_IO;
	fputs("\ninclude 'sallyport.conf'\n", f);
	return fclose(f) == 0 ? put_settings(c, &db) : SP_ERR_IO;
}

static int
pg_ctl(const struct sp_cli *c, const char *const *rest, bool quiet)
{
	char ctl[4096], dir[4096];
	const char *argv[16] = {ctl, "-D", dir};
	struct sp_who db;
	size_t n = 3;

	if (sp_cli_user(SP_U_DB, &db) != SP_OK || !sp_cli_find_pg("pg_ctl", ctl))
		return -1;
	sp_cli_path(c, dir, "pg");
	while (*rest != NULL && n < 15)
		argv[n++] = *rest++;
	return sp_cli_run(&(struct sp_run){.argv = argv, .as = &db,
	    .quiet = quiet});
}

bool
sp_pg_is_running(const struct sp_cli *c)
{
	return pg_ctl(c, (const char *const[]){"status", NULL}, true) == 0;
}

enum sp_err
sp_pg_start(const struct sp_cli *c)
{
	char log[4096];
	struct sp_who db;

	if (sp_pg_is_running(c))
		return SP_OK;
	if (sp_cli_user(SP_U_DB, &db) != SP_OK || put_settings(c, &db) != SP_OK) {
		(void)sp_cli_fail(0, "the database's settings cannot be written: %s",
		    strerror(errno));
		return SP_ERR_IO;
	}
	sp_cli_path(c, log, "log/postgresql.log");
	if (pg_ctl(c, (const char *const[]){"-s", "-w", "-t", "60", "-l", log,
	    "start", NULL}, false) == 0)
		return SP_OK;
	failed("starting PostgreSQL");
	return SP_ERR_DB;
}

/* The short directory is made anew at the next start. */
static void
drop_short_dir(const struct sp_cli *c)
{
	char dir[4096], path[4096];

	sp_pg_socket_dir(c, dir);
	sp_cli_path(c, path, "run/db");
	if (strcmp(dir, path) == 0 || rmdir(dir) != 0)
		return;
	sp_cli_path(c, path, "run/db.path");
	(void)!unlink(path);
}

enum sp_err
sp_pg_stop(const struct sp_cli *c)
{
	if (!sp_pg_is_running(c))
		return SP_OK;
	if (pg_ctl(c, (const char *const[]){"-s", "-w", "-t", "60", "-m", "fast",
	    "stop", NULL}, false) == 0) {
		drop_short_dir(c);
		return SP_OK;
	}
	failed("stopping PostgreSQL");
	return SP_ERR_DB;
}

/* -------------------------------------------------------------- statements */

static int
psql(const struct sp_cli *c, const char *conninfo, const char *db, int in,
    const char *sql, struct sp_buf *out)
{
	char exe[4096], dir[4096];
	const char *argv[20] = {exe, "-X", "-q", "-A", "-t", "-v",
	    "ON_ERROR_STOP=1"};
	struct sp_who who;
	size_t n = 7;

	if (!sp_cli_find_pg("psql", exe) || sp_cli_user(SP_U_DB, &who) != SP_OK)
		return -1;
	if (conninfo != NULL) {
		argv[n++] = "-d";
		argv[n++] = conninfo;
	} else {
		sp_pg_socket_dir(c, dir);
		argv[n++] = "-h";
		argv[n++] = dir;
		argv[n++] = "-U";
		argv[n++] = "postgres";
		argv[n++] = "-d";
		argv[n++] = db;
	}
	argv[n++] = sql != NULL ? "-c" : "-f";
	argv[n++] = sql != NULL ? sql : "-";
	return sp_cli_run(&(struct sp_run){.argv = argv,
	    .as = conninfo == NULL ? &who : NULL, .in = in, .out = out,
	    .cwd = conninfo == NULL ? NULL : "."});
}

enum sp_err
sp_pg_ask(const struct sp_cli *c, const char *conninfo, const char *sql,
    char *out, size_t cap)
{
	SP_BUF_AUTO b = {.max = 65536};

	if (psql(c, conninfo, "sallyport", 0, sql, &b) != 0)
		return SP_ERR_DB;
	SP_TRY(sp_span_cstr(sp_buf_span(&b), out, cap));
	out[strcspn(out, "\r\n")] = '\0';
	return SP_OK;
}

enum sp_err
sp_pg_script(const struct sp_cli *c, const char *conninfo, int fd)
{
	return psql(c, conninfo, "sallyport", fd, NULL, NULL) == 0 ? SP_OK :
	    SP_ERR_DB;
}

/* pg_dump or pg_restore of the one database. */
static int
copy(const struct sp_cli *c, const char *program, const char *conninfo,
    const char *const *rest, int in, int out)
{
	char exe[4096], dir[4096];
	const char *argv[20] = {exe, "--no-password"};
	struct sp_who who;
	size_t n = 2;

	if (!sp_cli_find_pg(program, exe) || sp_cli_user(SP_U_DB, &who) != SP_OK)
		return -1;
	while (*rest != NULL && n < 10)
		argv[n++] = *rest++;
	argv[n++] = "-d";
	argv[n++] = conninfo != NULL ? conninfo : "sallyport";
	if (conninfo == NULL) {
		sp_pg_socket_dir(c, dir);
		argv[n++] = "-h";
		argv[n++] = dir;
		argv[n++] = "-U";
		argv[n++] = "postgres";
	}
	return sp_cli_run(&(struct sp_run){.argv = argv,
	    .as = conninfo == NULL ? &who : NULL, .in = in, .out_fd = out,
	    .cwd = conninfo == NULL ? NULL : "."});
}

int
sp_pg_dump(const struct sp_cli *c, const char *conninfo, int out)
{
	return copy(c, "pg_dump", conninfo, (const char *const[]){"-Fc",
	    "--schema=sallyport", NULL}, 0, out);
}

int
sp_pg_restore(const struct sp_cli *c, const char *conninfo, int in)
{
	return copy(c, "pg_restore", conninfo, (const char *const[]){
	    "--exit-on-error", "--single-transaction", NULL}, in, 0);
}

static int
is_migration(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 9 && strspn(e->d_name, "0123456789") == 4 &&
	    e->d_name[4] == '_' && strcmp(e->d_name + n - 4, ".sql") == 0;
}

int
sp_pg_newest(void)
{
	char dir[4096];
	struct dirent **list = NULL;
	int n, newest = 0;

	if (!sp_cli_find_sql(dir))
		return -1;
	n = scandir(dir, &list, is_migration, alphasort);
	for (int i = 0; i < n; i++) {
		newest = (int)strtol(list[i]->d_name, NULL, 10);
		free(list[i]);
	}
	free(list);
	return n < 0 ? -1 : newest;
}

static enum sp_err
apply(const struct sp_cli *c, const char *conninfo, const char *dir,
    const char *name)
{
	char path[4096 + 300];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return SP_ERR_IO;
	rc = psql(c, conninfo, "sallyport", fd, NULL, NULL);
	close(fd);
	if (rc == 0)
		return SP_OK;
	(void)sp_cli_fail(0, "the migration %s failed and changed nothing", name);
	return SP_ERR_DB;
}

/* 0 for a database without our schema, -1 when it cannot be asked. */
static int
version_of(const struct sp_cli *c, const char *conninfo)
{
	char v[32];

	if (sp_pg_ask(c, conninfo, "SELECT to_regclass("
	    "'sallyport.schema_version') IS NOT NULL", v, sizeof(v)) != SP_OK)
		return -1;
	if (strcmp(v, "t") != 0)
		return 0;
	if (sp_pg_ask(c, conninfo, "SELECT coalesce(max(version), 0) FROM "
	    "sallyport.schema_version", v, sizeof(v)) != SP_OK)
		return -1;
	return (int)strtol(v, NULL, 10);
}

enum sp_err
sp_pg_need_database(const struct sp_cli *c)
{
	SP_BUF_AUTO b = {.max = 4096};

	if (psql(c, NULL, "postgres", 0, "SELECT count(*) FROM pg_database "
	    "WHERE datname = 'sallyport'", &b) != 0)
		return SP_ERR_DB;
	if (b.len > 0 && sp_buf_span(&b).p[0] == '1')
		return SP_OK;
	return psql(c, NULL, "postgres", 0, "CREATE DATABASE sallyport "
	    "ENCODING 'UTF8' TEMPLATE template0", NULL) == 0 ? SP_OK : SP_ERR_DB;
}

enum sp_err
sp_pg_migrate(const struct sp_cli *c, const char *conninfo)
{
	char dir[4096];
	struct dirent **list = NULL;
	enum sp_err e = SP_OK;
	int n, version;

	if (!sp_cli_find_sql(dir))
		return SP_ERR_NOTFOUND;
	if (conninfo == NULL)
		SP_TRY(sp_pg_need_database(c));
	version = version_of(c, conninfo);
	if (version < 0) {
		(void)sp_cli_fail(0, "the database cannot be reached%s",
		    conninfo == NULL ? "" : " with that connection string");
		return SP_ERR_DB;
	}
	n = scandir(dir, &list, is_migration, alphasort);
	for (int i = 0; i < n; i++) {
		if (e == SP_OK && strtol(list[i]->d_name, NULL, 10) > version)
			e = apply(c, conninfo, dir, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	return n <= 0 ? SP_ERR_NOTFOUND : e;
}
