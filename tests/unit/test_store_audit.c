/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/audit.c audit_sign.c audit_verify.c event.c follow.c. */
#include "test_store_support.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct fix f;
static char text[1024];

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

TestSuite(audit, .init = begin, .fini = end, .timeout = 60);

struct count {
	unsigned n, want, bad;
	bool done;
};

static void
on_one(void *arg, enum sp_err e)
{
	struct count *c = arg;

	c->bad += e != SP_OK;
	c->done = ++c->n == c->want;
}

static void
on_signed(void *arg, enum sp_err e)
{
	cr_assert_eq(e, SP_OK);
	*(bool *)arg = true;
}

static void
sign(void)
{
	bool done = false;

	sp_audit_sign(f.b.store, on_signed, &done);
	fix_until(&f, &done, 60000);
}

static void
write_some(unsigned n)
{
	struct count c = {.want = n};

	for (unsigned i = 0; i < n; i++) {
		char detail[32];
		uint8_t sid[16];

		snprintf(detail, sizeof(detail), "{\"i\": %u}", i);
		sp_uuid_make(sid);
		sp_audit(f.b.store, "counted", "tester", i % 2 == 0 ? sid : NULL,
		    i % 3 == 0 ? NULL : detail, on_one, &c);
	}
	fix_until(&f, &c.done, 30000);
	cr_assert_eq(c.bad, 0);
}

/* With the rights of the database's superuser, past every trigger. */
static void
tamper(const char *sql)
{
	fix_sql(&f, "SET session_replication_role = replica");
	fix_sql(&f, sql);
	fix_sql(&f, "SET session_replication_role = origin");
}

Test(audit, thousand_events_in_order)
{
	int64_t t0 = sp_boot_us();

	write_some(1000);
	fprintf(stderr, "1000 events: %.1f ms\n",
	    (double)(sp_boot_us() - t0) / 1000);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) || ' ' || bool_and(detail IS NULL"
	    " OR detail = '{\"i\": ' || seq - 1 || '}') FROM audit"), "1000 true");
	sign();
	cr_assert_eq(fix_verify(&f, text), SP_OK, "%s", text);
	cr_assert_not_null(strstr(text, "1000 events of 1 nodes"));
	cr_assert_not_null(strstr(text, "1 signed heads are good, 0 events"));
}

Test(audit, edited_event_shows)
{
	write_some(20);
	sign();
	tamper("UPDATE audit SET actor = 'mallory' WHERE seq = 7");
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "event 7: it was changed"), "%s", text);
}

Test(audit, deleted_event_shows)
{
	write_some(20);
	tamper("DELETE FROM audit WHERE seq = 7");
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "event 8: events before it"), "%s", text);
}

Test(audit, cut_tail_shows)
{
	write_some(20);
	sign();
	write_some(5);
	tamper("DELETE FROM audit WHERE seq > 22");	/* not signed yet */
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "this node wrote more"), "%s", text);
	tamper("DELETE FROM audit WHERE seq > 15");
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "a later head is signed"), "%s", text);
}

Test(audit, chain_written_anew_shows)
{
	/* A superuser who can compute every hash still cannot sign. */
	write_some(3);
	sign();
	tamper("UPDATE audit_heads SET head = (SELECT hash FROM audit WHERE seq = 2)");
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "signed head is another"), "%s", text);
	tamper("UPDATE audit_heads SET head = (SELECT hash FROM audit WHERE seq = 3),"
	    " signature = decode(repeat('aa', 64), 'hex')");
	cr_assert_eq(fix_verify(&f, text), SP_ERR_CRYPTO);
	cr_assert_not_null(strstr(text, "signature of the head is forged"), "%s", text);
}

Test(audit, rolled_back_database_is_an_alarm)
{
	write_some(10);
	tamper("DELETE FROM audit WHERE seq > 4");
	sp_db_drop(f.b.store->db, "the test says so");
	fix_wait_up(&f);
	cr_assert_eq(fix_audit(&f, "after"), SP_OK);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM audit WHERE"
	    " event = 'audit_went_back' AND detail LIKE '%10%4%'"), "1");
}

Test(audit, start_compares_with_the_signed_head)
{
	write_some(10);
	sign();
	tamper("DELETE FROM audit WHERE seq > 4");
	sp_store_free(f.b.store);
	fix_store(&f, NULL);
	cr_assert_eq(fix_audit(&f, "after"), SP_OK);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM audit WHERE"
	    " event = 'audit_head_mismatch'"), "1");
}

Test(audit, chain_goes_on_after_a_restart)
{
	write_some(10);
	sign();
	sp_store_free(f.b.store);
	fix_store(&f, NULL);
	write_some(10);
	snprintf(f.b.node, sizeof(f.b.node), "node-b");
	sp_store_free(f.b.store);
	fix_store(&f, NULL);
	write_some(10);
	cr_assert_eq(fix_verify(&f, text), SP_OK, "%s", text);
	cr_assert_not_null(strstr(text, "30 events of 2 nodes"), "%s", text);
}

/* Changes that go as one group: only the one at fault fails. */
Test(audit, one_bad_change_in_a_group)
{
	struct count good = {.want = 19}, bad = {.want = 1};
	uint8_t id[16];

	cr_assert_eq(fix_person(&f, "p7", id, "x"), SP_OK);
	for (unsigned i = 0; i < 20; i++) {
		struct sp_change *c = sp_change_new(f.b.store);
		char name[8];

		snprintf(name, sizeof(name), "p%u", i);
		sp_uuid_make(id);
		sp_change_insert(c, SP_T_PEOPLE, id, (const char *[]){name, "", "t"});
		sp_change_audit(c, "person_add", "tester", NULL, NULL);
		sp_change_commit(c, on_one, i == 7 ? &bad : &good);
	}
	fix_until(&f, &good.done, 60000);
	fix_until(&f, &bad.done, 60000);
	cr_assert_eq(good.bad, 0);
	cr_assert_eq(bad.bad, 1);
	cr_assert_str_eq(fix_sql(&f, "SELECT count(*) FROM people"), "20");
	cr_assert_eq(fix_verify(&f, text), SP_OK, "%s", text);
}

struct follow {
	unsigned n;
	uint64_t last;
	struct sp_rows *kept;
	bool done;
};

static void
on_event(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct follow *w = arg;

	cr_assert_eq(e, SP_OK);
	cr_assert_eq(sp_rows_n(rows), 1);
	cr_assert((uint64_t)sp_rows_i64(rows, 0, "seq") > w->last);
	w->last = (uint64_t)sp_rows_i64(rows, 0, "seq");
	if (w->kept == NULL)
		w->kept = sp_rows_ref(rows);
	w->done = ++w->n >= 300;
}

Test(audit, followers_see_every_event_once)
{
	struct follow w = {.n = 0};
	void *h;

	write_some(5);
	h = sp_audit_follow(f.b.store, on_event, &w);
	write_some(300);
	fix_until(&f, &w.done, 60000);
	cr_assert_eq(w.n, 300);
	cr_assert_eq(w.last, 305);
	cr_assert_eq(sp_rows_i64(w.kept, 0, "seq"), 6);
	cr_assert_null(sp_rows_get(w.kept, 0, "detail"));
	sp_rows_free(w.kept);
	sp_audit_unfollow(f.b.store, h);
	write_some(1);
	cr_assert_eq(w.n, 300);
}

static unsigned
notified(PGconn *c)
{
	unsigned n = 0;
	PGnotify *note;

	/* The server sends what waits before it is ready again. */
	PQclear(PQexec(c, "SELECT 1"));
	for (; (note = PQnotifies(c)) != NULL; n++)
		PQfreemem(note);
	return n;
}

Test(audit, an_event_wakes_followers_and_nobody_else)
{
	struct follow w = {.n = 0};
	void *h;

	PQclear(PQexec(f.super, "LISTEN sallyport_audit"));
	write_some(5);
	cr_assert_eq(notified(f.super), 0);
	h = sp_audit_follow(f.b.store, on_event, &w);
	while (strcmp(fix_sql(&f, "SELECT count(*) FROM pg_locks WHERE locktype = "
	    "'advisory' AND granted AND mode = 'ShareLock'"), "1") != 0)
		fix_turn(&f);
	write_some(300);
	fix_until(&f, &w.done, 60000);
	cr_assert_gt(notified(f.super), 0);
	sp_rows_free(w.kept);
	sp_audit_unfollow(f.b.store, h);
	while (strcmp(fix_sql(&f, "SELECT count(*) FROM pg_locks WHERE locktype = "
	    "'advisory' AND granted"), "0") != 0)
		fix_turn(&f);
	notified(f.super);
	write_some(5);
	cr_assert_eq(notified(f.super), 0);
}

Test(audit, unfit_text_does_not_stop_the_chain)
{
	struct count c = {.want = 2};

	sp_audit(f.b.store, "bad\xff", "act\xc3", NULL, "{\"x\": \"\xff\"}", on_one, &c);
	sp_audit(f.b.store, "next", "tester", NULL, NULL, on_one, &c);
	fix_until(&f, &c.done, 60000);
	cr_assert_eq(c.bad, 0);
	cr_assert_eq(fix_verify(&f, text), SP_OK, "%s", text);
}

Test(audit, without_a_key_nothing_is_verified)
{
	write_some(1);
	kill(f.vault_pid, SIGKILL);
	while (sp_vault_status(f.b.vault) != NULL)
		event_base_loop(f.b.ev, EVLOOP_ONCE);
	cr_assert_eq(fix_verify(&f, text), SP_ERR_SEALED);
}
