/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/rows.c change.c commit.c registry.c db.c. */
#include "test_store_support.h"

#include "bastion/broker/store_internal.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fix f;

static void
begin(void)
{
	fix_init(&f, false, 3000);
	fix_store(&f, NULL);
}

static void
end(void)
{
	fix_fini(&f);
}

TestSuite(store, .init = begin, .fini = end, .timeout = 60);
TestSuite(store_down, .timeout = 90);

static void
load_people(struct loaded *l)
{
	fix_load(&f, l, SP_T_PEOPLE, "ORDER BY name", NULL);
}

Test(store, row_lives_from_insert_to_delete)
{
	struct loaded l;
	struct sp_change *c;
	uint8_t alice[16], m[16], got[16];
	char id[SP_UUID_TEXT];

	cr_assert_eq(fix_person(&f, "alice", alice, "person_add"), SP_OK);
	sp_uuid_text(id, alice);
	fix_load(&f, &l, SP_T_PEOPLE, "WHERE name = $1", "alice");
	cr_assert_eq(l.e, SP_OK);
	cr_assert_eq(sp_rows_n(l.rows), 1);
	cr_assert_eq(sp_rows_ver(l.rows, 0), 1);
	cr_assert(sp_rows_uuid(l.rows, 0, "id", got));
	cr_assert_eq(memcmp(got, alice, 16), 0);
	cr_assert_str_eq(sp_rows_get(l.rows, 0, "enabled"), "t");
	sp_rows_free(l.rows);

	c = sp_change_new(f.b.store);
	sp_change_update(c, SP_T_PEOPLE, alice, 1,
	    (const char *[]){"alice", "Alice", "f"});
	sp_uuid_make(m);
	sp_change_insert(c, SP_T_MEMBERSHIPS, m, (const char *[]){id, "dba"});
	cr_assert_eq(fix_commit(&f, c), SP_OK);
	load_people(&l);
	cr_assert_eq(sp_rows_ver(l.rows, 0), 2);
	cr_assert_str_eq(sp_rows_get(l.rows, 0, "display"), "Alice");
	sp_rows_free(l.rows);

	c = sp_change_new(f.b.store);
	sp_change_delete(c, SP_T_MEMBERSHIPS, m, 1);
	cr_assert_eq(fix_commit(&f, c), SP_OK);
	fix_load(&f, &l, SP_T_MEMBERSHIPS, "", NULL);
	cr_assert_eq(sp_rows_n(l.rows), 0);
	sp_rows_free(l.rows);
	cr_assert_str_eq(fix_sql(&f, "SELECT string_agg(event, ',') FROM audit"
	    " WHERE event <> 'rows_changed'"),
	    "person_add");
}

Test(store, bytes_and_nulls_come_back)
{
	SP_BUF_AUTO b = {.max = 64};
	struct loaded l;
	struct sp_change *c = sp_change_new(f.b.store);
	uint8_t t[16], a[16], s[16];
	char tid[SP_UUID_TEXT];

	sp_uuid_make(t);
	sp_uuid_make(a);
	sp_uuid_make(s);
	sp_uuid_text(tid, t);
	sp_change_insert(c, SP_T_TARGETS, t, (const char *[SP_COLS_MAX]){"core-01",
	    "192.0.2.1", "22", "ssh-ed25519 AAAA\n", "", "t", NULL, NULL, NULL});
	sp_change_insert(c, SP_T_SECRETS, s, (const char *[SP_COLS_MAX]){tid, "3", "\\x0001ff"});
	sp_change_insert(c, SP_T_ACCOUNTS, a, (const char *[SP_COLS_MAX]){tid, "root", "1", NULL});
	cr_assert_eq(fix_commit(&f, c), SP_OK);
	fix_load(&f, &l, SP_T_ACCOUNTS, "JOIN targets ON targets.id ="
	    " accounts.target_id WHERE targets.name = $1", "core-01");
	cr_assert_eq(sp_rows_n(l.rows), 1);
	cr_assert_null(sp_rows_get(l.rows, 0, "secret_id"));
	sp_rows_free(l.rows);
	fix_load(&f, &l, SP_T_SECRETS, "", NULL);
	cr_assert_eq(sp_rows_bytes(l.rows, 0, "sealed", &b), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&b), sp_span_of("\0\1\377", 3)));
	sp_rows_free(l.rows);
}

Test(store, refusals_have_their_errors)
{
	struct sp_change *c;
	uint8_t alice[16], other[16], k[16];
	char id[SP_UUID_TEXT];

	cr_assert_eq(fix_person(&f, "alice", alice, NULL), SP_OK);
	cr_assert_eq(fix_person(&f, "alice", other, NULL), SP_ERR_EXISTS);
	cr_assert_eq(fix_person(&f, "alice", other, "person_add"), SP_ERR_EXISTS);
	cr_assert_eq(fix_person(&f, "Alice", other, "person_add"), SP_ERR_DENIED);
	sp_uuid_text(id, other);
	sp_uuid_make(k);
	c = sp_change_new(f.b.store);
	sp_change_insert(c, SP_T_MEMBERSHIPS, k, (const char *[]){id, "dba"});
	cr_assert_eq(fix_commit(&f, c), SP_ERR_DENIED); /* nobody of that id */
	c = sp_change_new(f.b.store);
	sp_change_update(c, SP_T_PEOPLE, alice, 7, (const char *[]){"alice", "x", "t"});
	cr_assert_eq(fix_commit(&f, c), SP_ERR_STATE);
	c = sp_change_new(f.b.store);	/* a name never changes */
	sp_change_update(c, SP_T_PEOPLE, alice, 1, (const char *[]){"eve", "x", "t"});
	cr_assert_eq(fix_commit(&f, c), SP_ERR_STATE);
	c = sp_change_new(f.b.store);
	sp_change_update(c, SP_T_PEOPLE, alice, 1, (const char *[]){"alice", "x", "true"});
	cr_assert_eq(fix_commit(&f, c), SP_ERR_INVAL);
	c = sp_change_new(f.b.store);
	sp_change_delete(c, SP_T_PEOPLE, alice, 1);
	cr_assert_eq(fix_commit(&f, c), SP_ERR_DENIED); /* nobody is deleted */
	c = sp_change_new(f.b.store);
	sp_change_sql(c, "UPDATE totp_spent SET fails = 0 WHERE last_step < 1", NULL, 0, 1);
	cr_assert_eq(fix_commit(&f, c), SP_ERR_STATE);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM audit"
	    " WHERE event <> 'rows_changed'"), "0");
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM people"), "1");
}

Test(store, failed_change_leaves_nothing)
{
	struct sp_change *c = sp_change_new(f.b.store);
	uint8_t a[16], b[16];

	sp_uuid_make(a);
	sp_uuid_make(b);
	sp_change_insert(c, SP_T_PEOPLE, a, (const char *[]){"a", "", "t"});
	sp_change_audit(c, "x", "y", NULL, NULL);
	sp_change_insert(c, SP_T_PEOPLE, b, (const char *[]){"a", "", "t"});
	cr_assert_eq(fix_commit(&f, c), SP_ERR_EXISTS);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM people"), "0");
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM audit"
	    " WHERE event <> 'rows_changed'"), "0");
	cr_assert_eq(fix_audit(&f, "still"), SP_OK);
}

Test(store, edited_row_is_dropped_and_audited_once)
{
	struct loaded l;
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	cr_assert_eq(fix_person(&f, "bob", id, NULL), SP_OK);
	fix_sql(&f, "UPDATE people SET enabled = false WHERE name = 'bob'");
	for (int i = 0; i < 3; i++) {
		load_people(&l);
		cr_assert_eq(l.e, SP_OK);
		cr_assert_eq(sp_rows_n(l.rows), 1);
		cr_assert_eq(sp_rows_n_broken(l.rows), 1);
		cr_assert_str_eq(sp_rows_get(l.rows, 0, "name"), "alice");
		sp_rows_free(l.rows);
	}
	cr_assert_eq(fix_audit(&f, "after"), SP_OK);
	cr_assert_str_eq(fix_sql(&f, "SELECT string_agg(event, ',' ORDER BY seq)"
	    " FROM audit WHERE event <> 'rows_changed'"), "row_seal_broken,after");
}

Test(store, seals_do_not_move)
{
	struct loaded l;
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	cr_assert_eq(fix_person(&f, "bob", id, NULL), SP_OK);
	fix_sql(&f, "UPDATE people p SET seal = q.seal FROM people q"
	    " WHERE p.name <> q.name");
	load_people(&l);
	cr_assert_eq(sp_rows_n(l.rows), 0);
	cr_assert_eq(sp_rows_n_broken(l.rows), 2);
	sp_rows_free(l.rows);
	/* nor to another version of the same row */
	cr_assert_eq(fix_person(&f, "carol", id, NULL), SP_OK);
	fix_sql(&f, "UPDATE people SET ver = 5 WHERE name = 'carol'");
	fix_load(&f, &l, SP_T_PEOPLE, "WHERE name = $1", "carol");
	cr_assert_eq(sp_rows_n(l.rows), 0);
	sp_rows_free(l.rows);
}

Test(store, many_rows_are_checked)
{
	struct loaded l;
	struct sp_change *c = sp_change_new(f.b.store);
	char name[16];

	for (int i = 0; i < 500; i++) {
		uint8_t id[16];

		sp_uuid_make(id);
		snprintf(name, sizeof(name), "p%d", i);
		sp_change_insert(c, SP_T_PEOPLE, id, (const char *[]){name, "", "t"});
	}
	cr_assert_eq(fix_commit(&f, c), SP_OK);
	load_people(&l);
	cr_assert_eq(sp_rows_n(l.rows), 500);
	cr_assert_eq(sp_rows_n_broken(l.rows), 0);
	sp_rows_free(l.rows);
}

Test(store, sealed_vault_is_no_forgery)
{
	struct loaded l;
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	f.fake->sealed = 1;	/* and says no to every row */
	load_people(&l);
	cr_assert_eq(l.e, SP_ERR_SEALED);
	cr_assert_null(l.rows);
	cr_assert_eq(fix_person(&f, "bob", id, "x"), SP_ERR_SEALED);
	f.fake->sealed = 0;
	fix_wait_up(&f);	/* it is asked again every two seconds */
	load_people(&l);
	cr_assert_eq(sp_rows_n(l.rows), 1);
	sp_rows_free(l.rows);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM audit"
	    " WHERE event <> 'rows_changed'"), "0");
}

Test(store, dead_vault_denies_and_comes_back)
{
	struct loaded l;
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	kill(f.vault_pid, SIGKILL);
	waitpid(f.vault_pid, NULL, 0);
	load_people(&l);
	cr_assert_eq(l.e, SP_ERR_EOF);
	fix_vault(&f);
	fix_wait_up(&f);
	load_people(&l);
	cr_assert_eq(sp_rows_n(l.rows), 1);
	sp_rows_free(l.rows);
}

static void
on_change(void *arg)
{
	*(bool *)arg = true;
}

Test(store, changes_of_others_are_told)
{
	bool told = false, again = false;
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "alice", id, "x"), SP_OK);
	sp_store_on_change(f.b.store, on_change, &told);
	/* The store listens now, or soon: then it is told. */
	for (int i = 0; i < 600 && !told; i++) {
		fix_sql(&f, "UPDATE people SET enabled = enabled");
		fix_turns(&f, &told, 100);
	}
	cr_assert(told);
	fix_turns(&f, NULL, 100);	/* what is on its way */
	sp_store_on_change(f.b.store, on_change, &again);
	for (int i = 0; i < 50; i++) {
		cr_assert_eq(fix_audit(&f, "turn"), SP_OK);
	}
	cr_assert(!again, "our own change is no news");
	fix_sql(&f, "UPDATE people SET enabled = false");
	fix_until(&f, &again, 60000);
}

Test(store, plain_statements)
{
	struct loaded l;

	fix_query(&f, &l, "SELECT nextval('request_numbers') AS n, NULL AS z");
	cr_assert_eq(l.e, SP_OK);
	cr_assert_eq(sp_rows_i64(l.rows, 0, "n"), 1);
	cr_assert_null(sp_rows_get(l.rows, 0, "z"));
	cr_assert_null(sp_rows_get(l.rows, 0, "nothing"));
	sp_rows_free(l.rows);
	fix_query(&f, &l, "SELECT no such thing");
	cr_assert_eq(l.e, SP_ERR_DB);
	fix_query(&f, &l, "DELETE FROM audit");
	cr_assert_eq(l.e, SP_ERR_DENIED);
	fix_query(&f, &l, "SELECT current_setting('TimeZone') AS z");
	cr_assert_str_eq(sp_rows_get(l.rows, 0, "z"), "UTC");
	sp_rows_free(l.rows);
}

/* ------------------------------------------------------- the server's faults */

Test(store_down, killed_backend_between_commit_and_reply)
{
	char dir[64], info[160];
	uint8_t id[16];
	struct proxy *p;

	fix_init(&f, false, 2000);
	p = fix_proxy(&f, dir);
	snprintf(info, sizeof(info), "host=%s dbname=%s user=sallyport_broker",
	    dir, f.db);
	fix_store(&f, info);
	cr_assert_eq(fix_audit(&f, "first"), SP_OK);
	p->swallow = 1;
	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	cr_assert_eq(p->swallowed, 1);
	fix_wait_up(&f);
	p->swallow = 1;
	cr_assert_eq(fix_person(&f, "bob", id, "person_add"), SP_OK);
	cr_assert_eq(p->swallowed, 2);
	fix_wait_up(&f);
	p->swallow = 1;
	cr_assert_eq(fix_audit(&f, "last"), SP_OK);
	cr_assert_eq(p->swallowed, 3);
	cr_assert_str_eq(fix_sql(&f, "SELECT string_agg(name, ',' ORDER BY name)"
	    " FROM people"), "alice,bob");
	cr_assert_str_eq(fix_sql(&f, "SELECT string_agg(event, ',' ORDER BY seq)"
	    " FROM audit WHERE event <> 'rows_changed'"),
	    "first,person_add,last");
	fix_fini(&f);
	snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/.s.PGSQL.5432");
	unlink(dir);
}

Test(store_down, without_a_server_it_says_so_and_events_wait)
{
	char dir[64], info[160];
	uint8_t id[16];
	struct loaded l;
	struct proxy *p;

	fix_init(&f, false, 1000);
	p = fix_proxy(&f, dir);
	snprintf(info, sizeof(info), "host=%s dbname=%s user=sallyport_broker",
	    dir, f.db);
	fix_store(&f, info);
	p->refuse = 1;
	while (sp_store_is_up(f.b.store))
		event_base_loop(f.b.ev, EVLOOP_ONCE);
	load_people(&l);
	cr_assert_eq(l.e, SP_ERR_DB);
	cr_assert_eq(fix_person(&f, "alice", id, "x"), SP_ERR_DB);
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "e%03d", i);
		sp_audit(f.b.store, name, "tester", NULL, NULL, NULL, NULL);
	}
	p->refuse = 0;
	cr_assert_eq(fix_audit(&f, "e100"), SP_OK);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) || ' ' || min(event) || ' ' ||"
	    " bool_and(event = 'e' || lpad((seq - 1)::text, 3, '0')) FROM audit"),
	    "101 e000 true");
	fix_fini(&f);
	snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/.s.PGSQL.5432");
	unlink(dir);
}

static pid_t
backend_of(struct fix *x)
{
	return (pid_t)sp_db_backend(x->b.store->db);
}

Test(store_down, frozen_server_times_out_and_comes_back)
{
	struct loaded l;
	uint8_t id[16];
	int64_t t0;
	pid_t backend, master;
	char path[128];
	FILE *pidfile;

	fix_init(&f, true, 400);
	fix_store(&f, NULL);
	cr_assert_eq(fix_person(&f, "alice", id, "person_add"), SP_OK);
	snprintf(path, sizeof(path), "%s/data/postmaster.pid", f.pg);
	cr_assert_not_null(pidfile = fopen(path, "re"));
	cr_assert_eq(fscanf(pidfile, "%d", &master), 1);
	fclose(pidfile);
	backend = backend_of(&f);
	cr_assert(backend > 1 && master > 1);
	kill(master, SIGSTOP);
	kill(backend, SIGSTOP);
	t0 = sp_boot_us();
	load_people(&l);
	cr_assert_eq(l.e, SP_ERR_TIMEOUT);
	cr_assert_lt(sp_boot_us() - t0, 20000000);
	cr_assert_eq(fix_person(&f, "bob", id, NULL), SP_ERR_DB); /* at once */
	kill(master, SIGCONT);
	kill(backend, SIGCONT);
	fix_wait_up(&f);
	cr_assert_eq(fix_person(&f, "bob", id, "person_add"), SP_OK);
	fix_fini(&f);
}

Test(store_down, change_in_a_frozen_server)
{
	uint8_t id[16];
	int64_t t0;
	pid_t backend;
	char text[1024];

	fix_init(&f, true, 400);
	fix_store(&f, NULL);
	cr_assert_eq(fix_audit(&f, "first"), SP_OK);
	for (int i = 0; i < 4; i++) {
		char name[8];
		enum sp_err e;

		snprintf(name, sizeof(name), "p%d", i);
		backend = backend_of(&f);
		kill(backend, SIGSTOP);
		t0 = sp_boot_us();
		/* The next connection does it; the frozen one comes back later
		 * with the same statements and must not do it again. */
		e = fix_person(&f, name, id, i % 2 == 0 ? "person_add" : NULL);
		cr_assert(e == SP_OK || e == SP_ERR_TIMEOUT, "%s", sp_err_text(e));
		cr_assert_lt(sp_boot_us() - t0, 20000000);
		kill(backend, SIGCONT);
		fix_wait_up(&f);
		cr_assert_eq(fix_audit(&f, "between"), SP_OK);
	}
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) = count(DISTINCT name) AND"
	    " count(*) >= 2 FROM people"), "t");
	cr_assert_eq(fix_verify(&f, text), SP_OK, "%s", text);
	fix_fini(&f);
}

Test(store_down, hosts_are_tried_in_turn)
{
	char info[256];
	uint8_t id[16];

	fix_init(&f, false, 1000);
	snprintf(info, sizeof(info), "host=/nowhere/at/all,%s dbname=%s"
	    " user=sallyport_broker target_session_attrs=read-write", f.pg, f.db);
	fix_store(&f, info);
	cr_assert_eq(fix_person(&f, "alice", id, NULL), SP_OK);
	fix_fini(&f);
}

Test(store_down, conninfo_must_make_sense)
{
	fix_init(&f, false, 1000);
	cr_assert_null(sp_store_new(&f.b, "host=/tmp nonsense=1"));
	fix_fini(&f);
}

static bool
same_canon(const char *const *a, const char *const *b)
{
	SP_BUF_AUTO x = {.max = 4096}, y = {.max = 4096};

	cr_assert_eq(sp_canon(&x, SP_T_TARGETS, a), SP_OK);
	cr_assert_eq(sp_canon(&y, SP_T_TARGETS, b), SP_OK);
	return sp_span_eq(sp_buf_span(&x), sp_buf_span(&y));
}

/* Columns that came later are not in the seals of before, and each of them
 * counts as soon as it says something. */
Test(store_canon, later_columns)
{
	const char *old[SP_COLS_MAX] = {"t", "192.0.2.1", "22", "k", "", "t", NULL, NULL, NULL};
	const char *addrs[SP_COLS_MAX] = {"t", "192.0.2.1", "22", "k", "", "t", "[::1]:22",
	    NULL, NULL};
	const char *legacy[SP_COLS_MAX] = {"t", "192.0.2.1", "22", "k", "", "t", NULL, NULL, "t"};
	SP_BUF_AUTO six = {.max = 4096}, canon = {.max = 4096};

	for (size_t i = 0; i < 6; i++)
		cr_assert_eq(sp_buf_put_bytes(&six, sp_span_str(old[i])), SP_OK);
	cr_assert_eq(sp_canon(&canon, SP_T_TARGETS, old), SP_OK);
	cr_expect(sp_span_eq(sp_buf_span(&six), sp_buf_span(&canon)));
	cr_expect_not(same_canon(old, addrs));
	cr_expect_not(same_canon(old, legacy));
	cr_expect_not(same_canon(addrs, legacy));
}
