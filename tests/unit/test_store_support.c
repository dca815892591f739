/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_support.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/signed.h"

static const uint8_t mac_key[32] = "a key that only the test has";
static const uint8_t sign_seed[32] = "a seed that only the test has";

/* -------------------------------------------------------------- the cluster */

static void
script(const char *verb, const char *a, const char *b, char *out, size_t cap)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	int fds[2], status;
	size_t n = 0;
	ssize_t k;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/tests/support/pg.sh", top ? top : ".");
	if (pipe2(fds, O_CLOEXEC) != 0)
		_exit(1);
	if ((pid = fork()) == 0) {
		dup2(fds[1], 1);
		execl("/bin/sh", "sh", path, verb, a, b, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (n + 1 < cap && (k = read(fds[0], out + n, cap - 1 - n)) > 0)
		n += (size_t)k;
	out[n] = '\0';
	out[strcspn(out, "\n")] = '\0';
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		/* An assertion would not end a report hook. */
		fprintf(stderr, "pg.sh %s failed\n", verb);
		_exit(1);
	}
}

void
fix_pg_start(char dir[static 64])
{
	char none[256];

	script("start", NULL, NULL, dir, 64);
	script("migrate", dir, "sp_template", none, sizeof(none));
}

void
fix_pg_stop(const char *dir)
{
	char none[256];

	script("stop", dir, NULL, none, sizeof(none));
}

/* One cluster for all tests of a binary; each test has a database of its own.
 * Clusters of single tests are written down, for tests that fail. */
ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	char dir[64], own[] = "/tmp/spo.XXXXXX";
	int fd = mkostemp(own, O_CLOEXEC);

	(void)set;
	if (fd >= 0)
		close(fd);
	setenv("SP_TEST_PG_OWN", own, 1);
	fix_pg_start(dir);
	setenv("SP_TEST_PG", dir, 1);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	const char *own = getenv("SP_TEST_PG_OWN");
	FILE *f = own == NULL ? NULL : fopen(own, "re");
	char dir[64];

	(void)stats;
	while (f != NULL && fgets(dir, sizeof(dir), f) != NULL) {
		dir[strcspn(dir, "\n")] = '\0';
		if (access(dir, F_OK) == 0)
			fix_pg_stop(dir);
	}
	if (f != NULL)
		fclose(f);
	if (own != NULL)
		unlink(own);
	if (getenv("SP_TEST_PG") != NULL)
		fix_pg_stop(getenv("SP_TEST_PG"));
}

static void
write_down(const char *dir)
{
	const char *own = getenv("SP_TEST_PG_OWN");
	FILE *f = own == NULL ? NULL : fopen(own, "ae");

	if (f == NULL)
		return;
	fprintf(f, "%s\n", dir);
	fclose(f);
}

/* ------------------------------------------------------------ the fake vault */

static void
mac_of(uint8_t mac[static 32], struct sp_span table, const uint8_t *id,
    uint64_t version, struct sp_span canon)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, mac_key, sizeof(mac_key), 32);
	crypto_generichash_update(&st, table.p, table.n);
	crypto_generichash_update(&st, id, 16);
	crypto_generichash_update(&st, (const uint8_t *)&version, 8);
	crypto_generichash_update(&st, canon.p, canon.n);
	crypto_generichash_final(&st, mac, 32);
}

static enum sp_err
vault_rows(struct sp_link *l, struct fake_vault *v, const struct sp_packet *k)
{
	struct sp_msg_v_row_seal m;
	struct sp_msg_v_row_check c;
	uint8_t mac[32];

	if (k->type == SP_MSG_v_row_seal) {
		struct sp_msg_v_row_seal_r r = {.ok = !v->sealed};

		SP_TRY(sp_dec_v_row_seal(k->body, &m));
		mac_of(r.mac, m.table, m.id, m.version, m.canon);
		v->seals++;
		return sp_send_v_row_seal_r(l, k->corr, &r, NULL);
	}
	SP_TRY(sp_dec_v_row_check(k->body, &c));
	mac_of(mac, c.table, c.id, c.version, c.canon);
	v->checks++;
	return sp_send_v_row_check_r(l, k->corr, &(struct sp_msg_v_row_check_r){
	    .ok = !v->sealed && memcmp(mac, c.mac, 32) == 0}, NULL);
}

/* Whatever the flows ask: codes, signatures, leases. */
static enum sp_err
vault_flow(struct sp_link *l, struct fake_vault *v, const struct sp_packet *k)
{
	struct sp_msg_v_totp_check c;
	struct sp_msg_v_totp_check_r t = {.step = v->step};

	switch (k->type) {
	case SP_MSG_v_totp_check:
		SP_TRY(sp_dec_v_totp_check(k->body, &c));
		t.ok = sp_span_is(c.code, "123456");
		return sp_send_v_totp_check_r(l, k->corr, &t, NULL);
	case SP_MSG_v_sign_recording:
	case SP_MSG_v_sign_close:
		return sp_send_v_sign_r(l, k->corr,
		    &(struct sp_msg_v_sign_r){.ok = 1}, NULL);
	case SP_MSG_v_lease:
		v->leases++;
		return sp_send_v_lease_r(l, k->corr, &(struct sp_msg_v_lease_r){
		    .err = (uint8_t)v->lease_err, .text = sp_span_str("no")}, NULL);
	case SP_MSG_v_lease_end:
	case SP_MSG_v_play_grant:
	case SP_MSG_v_play_mask:
		v->leases_ended += k->type == SP_MSG_v_lease_end;
		v->plays += k->type == SP_MSG_v_play_grant;
		return sp_send_v_done(l, k->corr, &(struct sp_msg_v_done){.err = 0},
		    NULL);
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
vault_answer(struct sp_link *l, struct fake_vault *v, const struct sp_packet *k)
{
	uint8_t pk[32], sk[64];

	crypto_sign_seed_keypair(pk, sk, sign_seed);
	if (k->type == SP_MSG_v_status) {
		struct sp_msg_v_status_r r = {.sealed = (uint8_t)v->sealed};

		memcpy(r.audit_key, pk, 32);
		return sp_send_v_status_r(l, k->corr, &r, NULL);
	}
	if (k->type == SP_MSG_v_sign_audit) {
		SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
		struct sp_msg_v_sign_audit m;
		struct sp_msg_v_sign_r r = {.ok = !v->sealed};

		SP_TRY(sp_dec_v_sign_audit(k->body, &m));
		SP_TRY(sp_signed_audit(&b, m.seq, m.head, m.at_us));
		crypto_sign_detached(r.signature, NULL, b.p + b.off, b.len, sk);
		return sp_send_v_sign_r(l, k->corr, &r, NULL);
	}
	if (k->type == SP_MSG_v_row_seal || k->type == SP_MSG_v_row_check)
		return vault_rows(l, v, k);
	return vault_flow(l, v, k);
}

static _Noreturn void
vault_main(int fd, struct fake_vault *v)
{
	struct sp_link l;
	struct sp_packet k;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sp_link_init(&l, fd, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY) != SP_OK)
		_exit(1);
	for (;;) {
		enum sp_err e = sp_link_wait(&l, &k, 1000);

		if (e == SP_ERR_TIMEOUT)
			continue;
		if (e != SP_OK)
			_exit(0);
		if (!v->mute && vault_answer(&l, v, &k) != SP_OK)
			_exit(1);
	}
}

void
fix_vault(struct fix *f)
{
	int fds[2];

	if (f->fake == NULL)
		f->fake = mmap(NULL, sizeof(*f->fake), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert(f->fake != MAP_FAILED);
	cr_assert(sp_link_pair(fds) == SP_OK);
	if ((f->vault_pid = fork()) == 0) {
		close(fds[0]);
		vault_main(fds[1], f->fake);
	}
	close(fds[1]);
	if (f->b.vault == NULL)
		f->b.vault = sp_vault_new(&f->b);
	sp_vault_attach(f->b.vault, fds[0]);
}

/* -------------------------------------------------------------- the fixture */

static PGconn *
connect_super(const char *dir, const char *db)
{
	char info[256];
	PGconn *c;

	snprintf(info, sizeof(info), "host=%s dbname=%s user=postgres"
	    " options='-c search_path=sallyport'", dir, db);
	c = PQconnectdb(info);
	cr_assert(PQstatus(c) == CONNECTION_OK, "%s", PQerrorMessage(c));
	return c;
}

static void
make_database(struct fix *f)
{
	PGconn *c = connect_super(f->pg, "postgres");
	char sql[128];
	PGresult *r;

	snprintf(f->db, sizeof(f->db), "t%d", (int)getpid());
	snprintf(sql, sizeof(sql), "CREATE DATABASE %s TEMPLATE sp_template", f->db);
	r = PQexec(c, sql);
	cr_assert(PQresultStatus(r) == PGRES_COMMAND_OK, "%s", PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
}

void
fix_init(struct fix *f, bool own_pg, unsigned db_timeout_ms)
{
	*f = (struct fix){.own_pg = own_pg};
	signal(SIGPIPE, SIG_IGN);
	cr_assert(sodium_init() >= 0);
	if (own_pg) {
		fix_pg_start(f->pg);
		write_down(f->pg);
	} else {
		snprintf(f->pg, sizeof(f->pg), "%s", getenv("SP_TEST_PG"));
	}
	make_database(f);
	f->super = connect_super(f->pg, f->db);
	snprintf(f->conninfo, sizeof(f->conninfo),
	    "host=%s dbname=%s user=sallyport_broker", f->pg, f->db);
	f->b.ev = event_base_new();
	f->b.cfg.db_timeout_ms = db_timeout_ms;
	f->b.cfg.audit_sign_s = 3600;
	snprintf(f->b.node, sizeof(f->b.node), "node-a");
	fix_vault(f);
}

void
fix_store(struct fix *f, const char *conninfo)
{
	f->b.store = sp_store_new(&f->b, conninfo ? conninfo : f->conninfo);
	cr_assert(f->b.store != NULL);
	/* No rows of before: tests count their events. */
	sp_heads_begin(f->b.store->heads);
	fix_wait_up(f);
}

static void
stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void
fix_fini(struct fix *f)
{
	if (f->b.store != NULL)
		sp_store_free(f->b.store);
	stop(f->vault_pid);
	stop(f->proxy_pid);
	PQfinish(f->super);
	if (f->own_pg)
		fix_pg_stop(f->pg);
}

static void
on_guard(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

void
fix_turns(struct fix *f, const volatile bool *done, unsigned ms)
{
	bool late = false;
	struct event *guard = evtimer_new(f->b.ev, on_guard, &late);

	event_add(guard, &(struct timeval){.tv_sec = ms / 1000,
	    .tv_usec = (suseconds_t)(ms % 1000) * 1000});
	while ((done == NULL || !*done) && !late)
		event_base_loop(f->b.ev, EVLOOP_ONCE);
	event_free(guard);
}

void
fix_until(struct fix *f, const volatile bool *done, unsigned ms)
{
	fix_turns(f, done, ms);
	cr_assert(*done, "not done within %u ms", ms);
}

void
fix_turn(struct fix *f)
{
	event_base_loop(f->b.ev, EVLOOP_NONBLOCK);
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void
fix_wait_up(struct fix *f)
{
	struct event *tick = event_new(f->b.ev, -1, EV_PERSIST, on_poll, NULL);
	int64_t end = sp_boot_us() + 20000000;

	event_add(tick, &(struct timeval){.tv_usec = 2000});
	while (!(sp_store_is_up(f->b.store) && sp_vault_is_open(f->b.vault) &&
	    sp_db_is_up(f->b.store->listen)) && sp_boot_us() < end)
		event_base_loop(f->b.ev, EVLOOP_ONCE);
	event_free(tick);
	cr_assert(sp_store_is_up(f->b.store));
}

const char *
fix_sql(struct fix *f, const char *sql)
{
	static char out[4096];
	PGresult *r = PQexec(f->super, sql);
	ExecStatusType st = PQresultStatus(r);

	cr_assert(st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK, "%s: %s", sql,
	    PQerrorMessage(f->super));
	out[0] = '\0';
	if (PQntuples(r) > 0)
		snprintf(out, sizeof(out), "%s", PQgetvalue(r, 0, 0));
	PQclear(r);
	return out;
}

/* --------------------------------------------------------- blocking forms */

static void
on_rows(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct loaded *l = arg;

	cr_assert(!l->done, "called twice");
	l->done = true;
	l->e = e;
	l->rows = sp_rows_ref(rows);
}

void
fix_load(struct fix *f, struct loaded *l, enum sp_table t, const char *where,
    const char *param)
{
	*l = (struct loaded){.done = false};
	sp_store_load(f->b.store, t, where, &param, param == NULL ? 0 : 1,
	    on_rows, l);
	cr_assert(!l->done, "called from inside");
	fix_until(f, &l->done, 20000);
}

void
fix_query(struct fix *f, struct loaded *l, const char *sql)
{
	*l = (struct loaded){.done = false};
	sp_store_query(f->b.store, sql, NULL, 0, on_rows, l);
	cr_assert(!l->done, "called from inside");
	fix_until(f, &l->done, 20000);
}

struct waited {
	bool done;
	enum sp_err e;
};

static void
on_done(void *arg, enum sp_err e)
{
	struct waited *w = arg;

	cr_assert(!w->done, "called twice");
	w->done = true;
	w->e = e;
}

enum sp_err
fix_commit(struct fix *f, struct sp_change *c)
{
	struct waited w = {.done = false};

	sp_change_commit(c, on_done, &w);
	cr_assert(!w.done, "called from inside");
	fix_until(f, &w.done, 20000);
	return w.e;
}

enum sp_err
fix_audit(struct fix *f, const char *event)
{
	struct waited w = {.done = false};

	sp_audit(f->b.store, event, "tester", NULL, "{\"a\": \"b\"}", on_done, &w);
	fix_until(f, &w.done, 20000);
	return w.e;
}

struct verified {
	bool done;
	enum sp_err e;
	char *text;
};

static void
on_result(void *arg, enum sp_err e, const char *text)
{
	struct verified *v = arg;

	v->done = true;
	v->e = e;
	snprintf(v->text, 1024, "%s", text);
}

enum sp_err
fix_verify(struct fix *f, char text[static 1024])
{
	struct verified v = {.text = text};

	sp_audit_verify(f->b.store, NULL, on_result, &v);
	fix_until(f, &v.done, 20000);
	return v.e;
}

enum sp_err
fix_person(struct fix *f, const char *name, uint8_t id[static 16],
    const char *event)
{
	struct sp_change *c = sp_change_new(f->b.store);

	sp_uuid_make(id);
	sp_change_insert(c, SP_T_PEOPLE, id,
	    (const char *[]){name, "A Person", "t"});
	if (event != NULL)
		sp_change_audit(c, event, "tester", NULL, NULL);
	return fix_commit(f, c);
}
