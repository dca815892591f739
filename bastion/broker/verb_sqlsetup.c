/* SPDX-License-Identifier: Apache-2.0 */
/* target setup, of a database: what its administrator puts into its files, and
 * what is run in it once. */
#include <stdio.h>
#include <string.h>

#include "bastion/broker/sql.h"
#include "bastion/broker/sqlrun.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_sql.h"

#define WHERE "BASTION"		/* its address, which nobody knows better */

struct text {
	struct sp_buf files, hba, sql;
};

/* What the roles of each session are members of; their maker may give it. */
static enum sp_err
members(struct text *t, const char *sql)
{
	char admin[SP_NAME_MAX + 1], one[SP_SQL_NAME_MAX + 1];

	if (!sp_sql_value(sql, SP_SQL_ADMIN, 0, admin, sizeof(admin)))
		return SP_OK;
	for (size_t i = 0; sp_sql_value(sql, SP_SQL_MEMBER, i, one, sizeof(one));
	    i++) {
		SP_TRY(sp_buf_printf(&t->hba, "hostssl all +"));
		SP_TRY(sp_sql_put_name(&t->hba, one));
		SP_TRY(sp_buf_printf(&t->hba, " " WHERE "/32 scram-sha-256\n"));
		SP_TRY(sp_buf_printf(&t->sql, "CREATE ROLE "));
		SP_TRY(sp_sql_put_name(&t->sql, one));
		SP_TRY(sp_buf_printf(&t->sql, " NOLOGIN;\nGRANT "));
		SP_TRY(sp_sql_put_name(&t->sql, one));
		SP_TRY(sp_buf_printf(&t->sql, " TO "));
		SP_TRY(sp_sql_put_name(&t->sql, admin));
		SP_TRY(sp_buf_printf(&t->sql, " WITH ADMIN OPTION;\n"));
	}
	return SP_OK;
}

static enum sp_err
postgresql(struct text *t, const struct sp_rows *r)
{
	SP_TRY(sp_buf_printf(&t->files, "ssl = on\n"
	    "password_encryption = 'scram-sha-256'\n"
	    "# from 14 on: client_connection_check_interval = 10s\n"));
	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *name = sp_rows_get(r, i, "name");

		if (sp_rows_i64(r, i, "kind") != SP_CRED_PG_SCRAM)
			continue;
		SP_TRY(sp_buf_printf(&t->hba, "hostssl all "));
		SP_TRY(sp_sql_put_name(&t->hba, name));
		SP_TRY(sp_buf_printf(&t->hba, " " WHERE "/32 scram-sha-256\n"));
		SP_TRY(sp_buf_printf(&t->sql, "CREATE ROLE "));
		SP_TRY(sp_sql_put_name(&t->sql, name));
		SP_TRY(sp_buf_printf(&t->sql, " LOGIN%s;\n", sp_sql_is_maker(r, name) ?
		    " CREATEROLE" : ""));
	}
	for (size_t i = 0; i < sp_rows_n(r); i++)
		if (sp_rows_get(r, i, "sql") != NULL)
			SP_TRY(members(t, sp_rows_get(r, i, "sql")));
	return SP_OK;
}

static enum sp_err
mariadb(struct text *t, const struct sp_rows *r)
{
	SP_TRY(sp_buf_printf(&t->files, "[mariadb]\n"
	    "ssl_cert = /etc/mysql/server.crt\nssl_key = /etc/mysql/server.key\n"
	    "plugin_load_add = auth_ed25519\n"));
	for (size_t i = 0; i < sp_rows_n(r); i++)
		SP_TRY(sp_buf_printf(&t->sql, "CREATE USER '%s'@'" WHERE "' "
		    "IDENTIFIED VIA mysql_native_password USING 'invalid' REQUIRE SSL;\n",
		    sp_rows_get(r, i, "name")));
	return SP_OK;
}

static void
say_text(struct sp_call *c, const struct text *t, bool pg, const char *name)
{
	sp_call_say(c, "# For the administrator of %s. " WHERE ": the bastion's "
	    "address, as %s sees it.\n# %s:\n", name, name, pg ?
	    "postgresql.conf" : "A file in /etc/mysql/mariadb.conf.d");
	sp_call_out(c, sp_buf_span(&t->files));
	if (t->hba.len > 0)
		sp_call_say(c, "# pg_hba.conf, above what else is for these roles:\n");
	sp_call_out(c, sp_buf_span(&t->hba));
	sp_call_say(c, "# Once, as its superuser; then the line that `sallyport "
	    "account add` printed for each\n# account. No password is in it:\n");
	sp_call_out(c, sp_buf_span(&t->sql));
	sp_call_end(c, SP_EXIT_OK);
}

static json_object *
lines_of(struct sp_span s)
{
	json_object *a = json_object_new_array();

	while (s.n > 0) {
		const uint8_t *end = memchr(s.p, '\n', s.n);
		size_t n = end == NULL ? s.n : (size_t)(end - s.p);

		json_object_array_add(a, json_object_new_string_len(
		    (const char *)s.p, (int)n));
		n += end != NULL;
		s = sp_span_of(s.p + n, s.n - n);
	}
	return a;
}

static void
say_json(struct sp_call *c, const struct text *t, const struct sp_rows *target)
{
	const char *id = sp_rows_get(target, 0, "id");
	const char *name = sp_rows_get(target, 0, "name");
	const char *protocol = sp_rows_get(target, 0, "protocol");
	json_object *o = json_object_new_object();

	json_object_object_add(o, "id", sp_json_text(id));
	json_object_object_add(o, "target", sp_json_text(name));
	json_object_object_add(o, "protocol", sp_json_text(protocol));
	json_object_object_add(o, "config", lines_of(sp_buf_span(&t->files)));
	json_object_object_add(o, "pg_hba", lines_of(sp_buf_span(&t->hba)));
	json_object_object_add(o, "statements", lines_of(sp_buf_span(&t->sql)));
	sp_call_json(c, o);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_sql_setup(struct sp_call *c, const struct sp_rows *target,
    const struct sp_rows *accounts)
{
	const char *name = sp_rows_get(target, 0, "name");
	const char *protocol = sp_rows_get(target, 0, "protocol");
	bool pg = strcmp(protocol, "postgresql") == 0;
	struct text t = {.files = {.max = 1024}, .hba = {.max = 65536},
	    .sql = {.max = 65536}};
	enum sp_err e = pg ? postgresql(&t, accounts) : mariadb(&t, accounts);

	if (e != SP_OK)
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has names that cannot be "
		    "quoted, or too many", name);
	else if (sp_call_has(c, "shell"))
		sp_call_fail(c, SP_EXIT_USAGE, "a database is not set up by a script "
		    "on its host: target setup %s", name);
	else if (c->style.json)
		say_json(c, &t, target);
	else
		say_text(c, &t, pg, name);
	sp_buf_fini(&t.files);
	sp_buf_fini(&t.hba);
	sp_buf_fini(&t.sql);
}
