/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

struct init {
	struct sp_cli *c;
	const char *database;	/* NULL: embedded */
	const char *listen;
	bool demo;
	struct sp_new_dir n;
};

static const char policy_text[] =
    "# The policy of this bastion. Nothing is allowed but what a permit allows;\n"
    "# a forbid overrides every permit. After a change:\n"
    "#   sallyport policy check FILE && sallyport policy load FILE\n"
    "#\n"
    "# network office 10.0.0.0/8, ::1\n"
    "# hours worktime mon-fri 08:00-19:00\n"
    "# permit \"core-change\" who group sysadmins on tag core as admin\n"
    "#   when source in office and time in worktime\n"
    "#   require approval 1 of approvers, mfa totp for 2h\n"
    "#   allow shell, exec, upload, download\n"
    "# forbid \"vendors-at-night\" who group vendors when not time in worktime\n";

static const char demo_rule[] =
    "\npermit \"demo-core\" who group sysadmins on tag core as admin, legacy\n"
    "  require approval 1 of approvers, mfa totp for 2h\n"
    "  allow shell, exec, upload, download\n";

/* ------------------------------------------------------------ before we begin */

static bool
is_empty(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool empty = true;

	if (d == NULL)
		return false;
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			empty = false;
	closedir(d);
	return empty;
}

static enum sp_err
make_base(struct init *in)
{
	struct sp_cli *c = in->c;
	char path[4096];
	struct stat st;

	sp_cli_path(c, path, "sallyport.conf");
	if (stat(path, &st) == 0) {
		(void)sp_cli_fail(0, "%s is an instance already; nothing was "
		    "changed. Start it: sallyport -D %s start", c->dir, c->dir);
		return SP_ERR_EXISTS;
	}
	if (mkdir(c->dir, 0755) == 0) {
		in->n.made_dir = true;
	} else if (errno != EEXIST) {
		(void)sp_cli_fail(0, "cannot make %s: %s", c->dir, strerror(errno));
		return SP_ERR_IO;
	} else if (!is_empty(c->dir)) {
		(void)sp_cli_fail(0, "%s is not an empty directory: give another "
		    "one, so that nothing of yours is lost", c->dir);
		return SP_ERR_EXISTS;
	}
	in->n.made_any = true;
	/* From here on names are real ones: they stand in files. */
	if (realpath(c->dir, path) == NULL || strlen(path) >= sizeof(c->dir) ||
	    chmod(path, 0755) != 0) {
		(void)sp_cli_fail(0, "%s: %s", c->dir, strerror(errno));
		return SP_ERR_IO;
	}
	memcpy(c->dir, path, strlen(path) + 1);
	return SP_OK;
}

/* Roles have users of their own, and these must get to their files. */
static enum sp_err
check_reach(const struct init *in)
{
	static const enum sp_cli_user who[] = {SP_U_DB, SP_U_BROKER};
	char bad[4096];
	struct sp_who w;

	if (geteuid() != 0) {
		sp_cli_step("Not root: all processes will run as you. A process "
		    "that is captured could then signal, trace and read the "
		    "others; for more than a trial run init as root.");
		return SP_OK;
	}
	if (in->database != NULL)
		return SP_OK;
	for (size_t i = 0; i < 2; i++) {
		SP_TRY(sp_cli_user(who[i], &w));
		if (sp_cli_can_reach(&w, in->c->dir, bad))
			continue;
		(void)sp_cli_fail(0, "the user %s may not pass %s, and must, to "
		    "reach the database in %s.\nEither: chmod o+x %s\nor take "
		    "another directory: sallyport init /var/lib/sallyport",
		    w.name, bad, in->c->dir, bad);
		return SP_ERR_DENIED;
	}
	return SP_OK;
}

/* ------------------------------------------------------------------- pieces */

static enum sp_err
make_config(const struct init *in)
{
	SP_BUF_AUTO text = {.max = 65536}, empty = {.max = 16};
	static struct sp_config cfg;
	struct sp_config_diag d = {0};

	SP_TRY(sp_config_parse(&cfg, sp_buf_span(&empty), &d));
	if (in->database != NULL)
		snprintf(cfg.database, sizeof(cfg.database), "%s", in->database);
	if (in->listen != NULL)
		snprintf(cfg.listen, sizeof(cfg.listen), "%s", in->listen);
	SP_TRY(sp_config_dump(&cfg, &text));
	return sp_cli_write(in->c, "sallyport.conf", sp_buf_span(&text));
}

static enum sp_err
make_policy(const struct init *in)
{
	SP_BUF_AUTO text = {.max = 8192};

	SP_TRY(sp_buf_printf(&text, "%s%s", policy_text,
	    in->demo ? demo_rule : ""));
	return sp_cli_write(in->c, "policy", sp_buf_span(&text));
}

static enum sp_err
make_pam(const struct init *in)
{
	static const char other[] = "# any other service: nothing\n"
	    "auth     required  pam_deny.so\naccount  required  pam_deny.so\n"
	    "password required  pam_deny.so\nsession  required  pam_deny.so\n";
	SP_BUF_AUTO text = {.max = 16384};
	char so[4096];

	if (!sp_cli_find_pam(so))
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_buf_printf(&text, "# The second factor, asked by sallyport-auth. "
	    "Lines may be added, never removed:\n# the broker counts the factor "
	    "only when the vault has checked the code.\n"
	    "auth    required  %s\naccount required  %s\n", so, so));
	SP_TRY(sp_cli_write(in->c, "pam.d/other", sp_span_str(other)));
	return sp_cli_write(in->c, "pam.d/sallyport", sp_buf_span(&text));
}

/* The vault made the host key, and keeps its private half: people get the other. */
static enum sp_err
write_host_key(const struct init *in, struct sp_buf *said)
{
	SP_BUF_AUTO line = {.max = 1024};
	json_object *o, *v = NULL;
	enum sp_err e = sp_buf_put_u8(said, 0);

	o = e != SP_OK ? NULL :
	    json_tokener_parse((const char *)sp_buf_span(said).p);
	if (json_object_object_get_ex(o, "host_key", &v))
		e = sp_buf_printf(&line, "%s\n", json_object_get_string(v));
	json_object_put(o);
	if (e == SP_OK && line.len < 64)
		e = SP_ERR_PROTO;
	return e != SP_OK ? e : sp_cli_write(in->c,
	    "keys/ssh_host_ed25519_key.pub", sp_buf_span(&line));
}

/* The passphrase goes through a pipe: never an argument, never a file. */
static enum sp_err
run_vault_init(const struct init *in, struct sp_span pass)
{
	SP_BUF_AUTO out = {.max = 8192};
	char exe[4096], dir[4096];
	const char *const argv[] = {exe, "init", ".", in->demo ? "--demo" : NULL,
	    NULL};
	struct sp_who w;
	int p[2], rc;

	SP_TRY(sp_cli_user(SP_U_VAULT, &w));
	if (!sp_cli_find("sallyport-vault", exe))
		return SP_ERR_NOTFOUND;
	sp_cli_path(in->c, dir, "vault");
	if (pipe2(p, O_CLOEXEC) != 0)
		return SP_ERR_IO;
	if (write(p[1], pass.p, pass.n) != (ssize_t)pass.n) {
		close(p[0]);
		close(p[1]);
		return SP_ERR_IO;
	}
	close(p[1]);
	rc = sp_cli_run(&(struct sp_run){.argv = argv, .as = &w, .in = p[0],
	    .out = &out, .cwd = dir});
	close(p[0]);
	return rc == 0 ? write_host_key(in, &out) : SP_ERR_CRYPTO;
}

static enum sp_err
make_vault(const struct init *in)
{
	SP_BUF_AUTO pass = {.max = 1026}, again = {.max = 1026};

	if (!in->demo) {
		SP_TRY(sp_cli_secret_line("New passphrase of the vault: ", &pass));
		if (isatty(STDIN_FILENO)) {
			SP_TRY(sp_cli_secret_line("The same again: ", &again));
			if (!sp_span_eq(sp_buf_span(&pass), sp_buf_span(&again))) {
				(void)sp_cli_fail(0, "these are not the same");
				return SP_ERR_INVAL;
			}
		}
	}
	SP_TRY(sp_buf_put(&pass, "\n", 1));
	return run_vault_init(in, sp_buf_span(&pass));
}

static enum sp_err
make_database(const struct init *in)
{
	enum sp_err e;

	if (in->database != NULL)
		return sp_pg_migrate(in->c, in->database);
	SP_TRY(sp_pg_make(in->c));
	SP_TRY(sp_pg_start(in->c));
	e = sp_pg_migrate(in->c, NULL);
	if (sp_pg_stop(in->c) != SP_OK && e == SP_OK)
		e = SP_ERR_DB;
	return e;
}

static enum sp_err
make_dirs(struct init *in)
{
	SP_TRY(make_base(in));
	SP_TRY(sp_cli_make_users());
	SP_TRY(check_reach(in));
	sp_cli_step("  directories in %s", in->c->dir);
	return sp_cli_make_dirs(in->c, in->database == NULL);
}

enum sp_err
sp_cli_new_dir(struct sp_cli *c, bool embedded, struct sp_new_dir *n)
{
	struct init in = {.c = c, .database = embedded ? NULL : ""};
	enum sp_err e = make_dirs(&in);

	*n = in.n;
	return e;
}

static enum sp_err
make_all(struct init *in)
{
	bool embedded = in->database == NULL;

	SP_TRY(make_dirs(in));
	SP_TRY(make_policy(in));
	SP_TRY(make_pam(in));
	sp_cli_step("  vault and host key%s", in->demo ? " (its key lies in a file: for "
	    "demonstration only)" : "");
	SP_TRY(make_vault(in));
	sp_cli_step("  database (%s)", embedded ? "embedded, on a local socket" :
	    "yours");
	SP_TRY(make_database(in));
	return make_config(in);	/* last: its presence says that all is there */
}

void
sp_cli_new_undo(const struct sp_cli *c, const struct sp_new_dir *n)
{
	char pid[4096];

	if (!n->made_any)
		return;
	sp_cli_path(c, pid, "pg/postmaster.pid");
	if (access(pid, F_OK) == 0 && sp_pg_stop(c) != SP_OK)
		return;		/* said; its files are still in use */
	sp_cli_clear(c);
	if (n->made_dir)
		(void)!rmdir(c->dir);
	sp_cli_step("What had been made was removed again.");
}

/* DIR as an argument; without one it is -D's. */
bool
sp_cli_take_dir(struct sp_cli *c, const char *dir)
{
	char here[1024] = "";

	if (dir[0] != '/' && getcwd(here, sizeof(here)) == NULL)
		return false;
	return snprintf(c->dir, sizeof(c->dir), "%s%s%s", here,
	    here[0] == '\0' ? "" : "/", dir) < (int)sizeof(c->dir);
}

int
sp_cmd_init(struct sp_cli *c, int argc, char **argv)
{
	struct init in = {.c = c};

	in.database = sp_cli_value(&argc, argv, "--database");
	in.listen = sp_cli_value(&argc, argv, "--listen");
	in.demo = sp_cli_flag(&argc, argv, "--demo");
	if (sp_cli_flag(&argc, argv, "--embedded") && in.database != NULL)
		return sp_cli_fail(SP_EXIT_USAGE,
		    "--embedded or --database CONNINFO, not both");
	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport init "
		    "[--embedded | --database CONNINFO] [--demo] "
		    "[--listen ADDRESS:PORT] DIR");
	if ((in.database != NULL && strlen(in.database) > 511) ||
	    (in.listen != NULL && strlen(in.listen) > 511))
		return sp_cli_fail(SP_EXIT_USAGE, "at most 511 bytes there");
	if (argc == 2 && !sp_cli_take_dir(c, argv[1]))
		return sp_cli_fail(SP_EXIT_USAGE, "the directory's name is too long");
	sp_cli_step("Making an instance in %s", c->dir);
	if (make_all(&in) == SP_OK) {
		sp_cli_step("Done. Next: sallyport -D %s start", c->dir);
		return SP_EXIT_OK;
	}
	sp_cli_new_undo(c, &in.n);
	return SP_EXIT_REFUSED;
}
