/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check-outs and check-ins through the broker's own store, against a real
 * database and a vault in a process of its own:
 *   bench_checkout CONNINFO CLIENTS SECONDS VAULT
 * (VAULT: the program bench_vault). A check-out is a session row, a lease and the
 * audit event in one committed transaction, and then the vault's grant; it has
 * taken as long as until the vault says yes. A check-in ends the lease at the
 * vault and commits the end of all with its event. Prints one line of JSON.
 */
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bastion/broker/store.h"
#include "bastion/broker/vault.h"

#define CLIENTS_MAX 64
#define PAIRS_MAX 4000000

struct client {
	uint8_t id[16], account[16];
	int64_t begun_us;
	uint32_t took_us;
	unsigned waits;
	bool out;
};
static struct sp_broker b;
static struct client clients[CLIENTS_MAX];
static size_t n_clients, n_pairs, n_running;
static uint32_t *took_us;
static int64_t ends_us;
static struct sp_buf wish = {.max = 16384};	/* the body of a v_lease */

static void step(struct client *c);

static void
fail(const char *what, enum sp_err e)
{
	fprintf(stderr, "bench_checkout: %s: %s\n", what, sp_err_text(e));
	exit(1);
}

static void
turn(struct client *c)
{
	if (!c->out)
		c->took_us = (uint32_t)(sp_boot_us() - c->begun_us);
	else if (n_pairs < PAIRS_MAX)
		took_us[n_pairs++] = c->took_us;
	c->out = !c->out;
	if (!c->out && sp_boot_us() >= ends_us) {
		if (--n_running == 0)
			event_base_loopbreak(b.ev);
		return;
	}
	step(c);
}

static void
on_lease(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_msg_v_lease_r r;

	if (e == SP_OK)
		e = sp_dec_v_lease_r(reply->body, &r);
	if (e != SP_OK || r.err != SP_OK)
		fail("the vault's grant", e != SP_OK ? e : (enum sp_err)r.err);
	turn(arg);
}

/* What is committed is asked of the vault. */
static void
grant(struct client *c)
{
	SP_BUF_AUTO body = {.max = 16384};
	struct sp_msg_v_lease m;

	if (sp_dec_v_lease(sp_buf_span(&wish), &m) != SP_OK)
		fail("the vault's wish", SP_ERR_SYNTAX);
	memcpy(m.session, c->id, 16);
	m.not_after = sp_now_us() + 60000000;
	m.serial = n_pairs + 1;
	if (sp_enc_v_lease(&body, &m) != SP_OK)
		fail("a wish", SP_ERR_NOMEM);
	sp_vault_call(b.vault, SP_MSG_v_lease, sp_buf_span(&body),
	    SP_MSG_v_lease_r, on_lease, c);
}

static void
done(void *arg, enum sp_err e)
{
	struct client *c = arg;

	if (e != SP_OK)
		fail(c->out ? "check-in" : "check-out", e);
	if (!c->out)
		grant(c);
	else if (--c->waits == 0)
		turn(c);
}

static void
on_end(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct client *c = arg;

	(void)reply;
	if (e != SP_OK)
		fail("the lease's end", e);
	if (--c->waits == 0)
		turn(c);
}

static void
end_lease(struct client *c)
{
	SP_BUF_AUTO body = {.max = 64};
	struct sp_msg_v_lease_end m;

	memcpy(m.session, c->id, 16);
	if (sp_enc_v_lease_end(&body, &m) != SP_OK)
		fail("an end", SP_ERR_NOMEM);
	c->waits = 2;
	sp_vault_call(b.vault, SP_MSG_v_lease_end, sp_buf_span(&body),
	    SP_MSG_v_done, on_end, c);
}

static void
take(struct client *c, struct sp_change *ch)
{
	char id[SP_UUID_TEXT], account[SP_UUID_TEXT];
	const char *p[] = {id, account};

	sp_uuid_make(c->id);
	sp_uuid_text(id, c->id);
	sp_uuid_text(account, c->account);
	c->begun_us = sp_boot_us();
	sp_change_sql(ch, "INSERT INTO sessions (id, person_id, person_name, "
	    "account_name, target_name, node, peer_addr, rule, policy_hash, "
	    "started_us, state) VALUES ($1::uuid, $2::uuid, 'bench', 'admin', "
	    "'core-01', 'bench', '::1', 'r', 'h', now_us(), 'running') "
	    "ON CONFLICT (id) DO NOTHING", p, 2, 0);
	sp_change_sql(ch, "INSERT INTO leases (id, session_id, kind, account, target, "
	    "serial, granted_us, account_id, person_id, person_name, node, "
	    "exclusive, expires_us, until_us) VALUES ($1::uuid, $1::uuid, 1, "
	    "'admin', 'core-01', nextval('cert_serials'), now_us(), $2::uuid, "
	    "$2::uuid, 'bench', 'bench', true, now_us() + 600000000, now_us() + "
	    "600000000) ON CONFLICT (id) DO NOTHING", p, 2, 0);
	sp_change_audit(ch, "session_open", "bench", c->id, "{\"account\": \"admin\", "
	    "\"target\": \"core-01\", \"addr\": \"::1\", \"rule\": \"r\"}");
}

static void
give(struct client *c, struct sp_change *ch)
{
	char id[SP_UUID_TEXT];
	const char *p[] = {id};

	sp_uuid_text(id, c->id);
	sp_change_sql(ch, "UPDATE sessions SET ended_us = now_us(), state = 'ended' "
	    "WHERE id = $1::uuid AND ended_us IS NULL", p, 1, 0);
	sp_change_sql(ch, "UPDATE leases SET ended_us = now_us(), state = 'ended' "
	    "WHERE session_id = $1::uuid AND state = 'active'", p, 1, 0);
	sp_change_audit(ch, "session_close", "bench", c->id, "{\"account\": \"admin\", "
	    "\"target\": \"core-01\", \"addr\": \"::1\", \"reason\": \"\"}");
}

static void
step(struct client *c)
{
	struct sp_change *ch = sp_change_new(b.store);

	if (c->out) {
		end_lease(c);
		give(c, ch);
	} else {
		take(c, ch);
	}
	sp_change_commit(ch, done, c);
}

static void
begin(evutil_socket_t fd, short what, void *arg)
{
	struct timeval again = {.tv_usec = 5000};

	(void)fd;
	(void)what;
	if (!sp_store_is_up(b.store) || !sp_vault_is_open(b.vault)) {
		event_base_once(b.ev, -1, EV_TIMEOUT, begin, arg, &again);
		return;
	}
	ends_us += sp_boot_us();
	n_running = n_clients;
	for (size_t i = 0; i < n_clients; i++) {
		sp_uuid_make(clients[i].account);
		step(&clients[i]);
	}
}

static int
by_size(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;

	return a < c ? -1 : a > c;
}

/* Another process: the vault, and the form of its leases. */
static void
begin_vault(const char *program)
{
	static char hex[32768];
	int link[2], out[2];
	FILE *f;
	uint8_t *at;
	size_t n;

	if (sp_link_pair(link) != SP_OK || pipe(out) != 0)
		exit(1);
	if (fork() == 0) {
		if (dup2(link[1], 3) != 3 || dup2(out[1], 1) != 1)
			_exit(127);
		execl(program, program, "serve", "3", (char *)NULL);
		_exit(127);
	}
	close(link[1]);
	close(out[1]);
	f = fdopen(out[0], "r");
	if (f == NULL || fgets(hex, sizeof(hex), f) == NULL)
		exit(1);
	fclose(f);
	n = strcspn(hex, "\n") / 2;
	if (sp_buf_reserve(&wish, n, &at) != SP_OK ||
	    sp_unhex(at, n, sp_span_of(hex, 2 * n)) != SP_OK)
		exit(1);
	sp_buf_commit(&wish, n);
	if ((b.vault = sp_vault_new(&b)) == NULL)
		exit(1);
	sp_vault_attach(b.vault, link[0]);
}

int
main(int argc, char **argv)
{
	struct timeval now = {0};
	struct rusage u;
	int64_t t0;
	double cpu, s;

	if (argc != 5 || sodium_init() < 0)
		return 2;
	n_clients = (size_t)strtoul(argv[2], NULL, 10);
	ends_us = strtoll(argv[3], NULL, 10) * 1000000;
	took_us = calloc(PAIRS_MAX, sizeof(*took_us));
	if (n_clients == 0 || n_clients > CLIENTS_MAX || took_us == NULL)
		return 2;
	sp_log_init("bench", false);
	b.ev = event_base_new();
	b.cfg.db_timeout_ms = 30000;
	snprintf(b.node, sizeof(b.node), "bench%ld", (long)sp_now_us());
	begin_vault(argv[4]);
	if (b.ev == NULL || (b.store = sp_store_new(&b, argv[1])) == NULL)
		return 1;
	event_base_once(b.ev, -1, EV_TIMEOUT, begin, NULL, &now);
	t0 = sp_boot_us();
	event_base_dispatch(b.ev);
	s = (double)(sp_boot_us() - t0) / 1e6;
	qsort(took_us, n_pairs, sizeof(*took_us), by_size);
	getrusage(RUSAGE_SELF, &u);
	cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
	printf("{\"clients\": %zu, \"pairs_per_s\": %.0f, \"p50_ms\": %.3f, "
	    "\"p99_ms\": %.3f, \"cpu_us_per_pair\": %.1f}\n", n_clients,
	    (double)n_pairs / s, took_us[n_pairs / 2] / 1e3,
	    took_us[n_pairs * 99 / 100] / 1e3, cpu * 1e6 / (double)n_pairs);
	return 0;
}
