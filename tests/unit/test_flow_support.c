/* SPDX-License-Identifier: Apache-2.0 */
#include "test_flow_support.h"
#include "policy/rules.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/broker/store_internal.h"

struct rig rig;

#define WAIT_US 10000000

/* -------------------------------------------------------------- the facts */

static void
insert(enum sp_table t, uint8_t id[static 16], const char *const *values)
{
	struct sp_change *c = sp_change_new(rig.b->store);

	sp_uuid_make(id);
	sp_change_insert(c, t, id, values);
	cr_assert_eq(fix_commit(&rig.f, c), SP_OK);
}

static void
person(const char *name, const char *group, const char *key, uint8_t id[static 16])
{
	uint8_t other[16];
	char who[SP_UUID_TEXT], blob[64] = "\\x";

	insert(SP_T_PEOPLE, id, (const char *[]){name, name, "t"});
	sp_uuid_text(who, id);
	sp_hex(blob + 2, (const uint8_t *)key, strlen(key));
	insert(SP_T_PERSON_KEYS, other,
	    (const char *[]){who, "ssh-ed25519", blob, "", "t"});
	insert(SP_T_MEMBERSHIPS, other, (const char *[]){who, group});
	insert(SP_T_TOTP, other, (const char *[]){who, "\\x0102"});
}

static void
target(const char *name, uint8_t id[static 16], uint8_t account[static 16])
{
	char t[SP_UUID_TEXT];

	insert(SP_T_TARGETS, id, (const char *[SP_COLS_MAX]){name, "192.0.2.7", "22",
	    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "core", "t", NULL, NULL, NULL});
	sp_uuid_text(t, id);
	insert(SP_T_ACCOUNTS, account, (const char *[SP_COLS_MAX]){t, "admin", "1", NULL});
}

void
rig_policy(const char *text)
{
	static int seq;
	uint8_t id[16];
	char n[16];

	snprintf(n, sizeof(n), "%d", ++seq);
	insert(SP_T_POLICIES, id, (const char *[]){n, text, "-", "tester", "1"});
	rig.b->policy_hash[0] = '\0';
	sp_broker_policy_load(rig.b);
	for (int i = 0; i < 500 && rig.b->policy_hash[0] == '\0'; i++)
		turns(5);
	cr_assert_neq(rig.b->policy_hash[0], '\0', "the policy was not taken");
}

static void
settings(struct sp_broker *b)
{
	static struct sp_config c;
	struct sp_config_diag d;

	cr_assert_eq(sp_config_parse(&c, sp_span_str(""), &d), SP_OK);
	c.db_timeout_ms = 3000;
	c.audit_sign_s = 3600;
	c.approval_wait_s = 600;
	b->cfg = c;
}

void
rig_up(void)
{
	uint8_t other[16], other_account[16];
	int fds[2];

	rig = (struct rig){.b = &rig.f.b};
	fix_init(&rig.f, false, 3000);
	settings(rig.b);
	fix_store(&rig.f, NULL);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	rig.b->sup = sp_peer_new(rig.b, fds[0], SP_ROLE_SUP, SP_ST_READY,
	    sp_broker_on_sup_packet, sp_broker_on_sup_end, rig.b);
	cr_assert_eq(sp_link_init(&rig.sup, fds[1], SP_ROLE_SUP, SP_ROLE_BRK,
	    SP_ST_READY), SP_OK);
	rig.b->sessions = sp_sessions_new(rig.b);
	rig.b->approvals = sp_approvals_new(rig.b);
	rig.b->logins = sp_logins_new(rig.b);
	sp_store_on_change(rig.b->store, sp_broker_on_change, rig.b);
	sp_vault_on_event(rig.b->vault, sp_broker_on_vault_event, rig.b);
	rig.f.fake->step = 1000;
	person("alice", "dba", "key-a", rig.alice);
	person("bob", "approvers", "key-b", rig.bob);
	person("carol", "auditors", "key-c", rig.carol);
	target("core-01", rig.target, rig.account);
	target("core-02", other, other_account);
	rig_policy(POLICY);
}

void
rig_down(void)
{
	char text[1024];

	/* Whatever the test did, the chain is whole. */
	cr_expect_eq(fix_verify(&rig.f, text), SP_OK, "%s", text);
	sp_link_fini(&rig.sup);
	/* What still runs is freed with the process. */
	if (rig.f.vault_pid > 0)
		fix_fini(&rig.f);
}

/* --------------------------------------------------------------- the loop */

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static void
turn_once(void)
{
	static struct event *tick;
	struct timeval tv = {.tv_usec = 2000};

	if (tick == NULL)
		tick = event_new(rig.b->ev, -1, 0, on_tick, NULL);
	event_add(tick, &tv);
	event_base_loop(rig.b->ev, EVLOOP_ONCE);
}

void
turns(unsigned ms)
{
	int64_t end = sp_boot_us() + (int64_t)ms * 1000;

	while (sp_boot_us() < end)
		turn_once();
}

static enum sp_err
next(struct sp_link *l, struct sp_packet *k)
{
	int64_t end = sp_boot_us() + WAIT_US;
	enum sp_err e;

	while ((e = sp_link_recv(l, k)) == SP_ERR_AGAIN && sp_boot_us() < end)
		turn_once();
	return e;
}

void
want(struct sp_link *l, uint16_t type, struct sp_packet *k)
{
	enum sp_err e = next(l, k);

	cr_assert_eq(e, SP_OK, "waiting for %s: %s %s", sp_ipc_name(type),
	    sp_err_text(e), l->fault);
	cr_assert_eq(k->type, type, "%s instead of %s", sp_ipc_name(k->type),
	    sp_ipc_name(type));
}

void
want_after(struct sp_link *l, uint16_t type, struct sp_packet *k)
{
	enum sp_err e;

	while ((e = next(l, k)) == SP_OK && k->type != type)
		sp_packet_close_fds(k);
	cr_assert_eq(e, SP_OK, "waiting for %s: %s %s", sp_ipc_name(type),
	    sp_err_text(e), l->fault);
}

void
want_end(struct sp_link *l)
{
	struct sp_packet k;
	enum sp_err e;

	while ((e = next(l, &k)) == SP_OK)
		sp_packet_close_fds(&k);
	cr_assert_eq(e, SP_ERR_EOF, "%s", sp_err_text(e));
}

unsigned
count_audit(const char *event)
{
	const struct sp_chain *ch = &rig.f.b.store->chain;
	int64_t end = sp_boot_us() + WAIT_US;
	char sql[128];

	/* Events that nobody waits for are held for a moment. */
	sp_audit_flush(rig.f.b.store);
	while (sp_store_is_up(rig.f.b.store) && sp_boot_us() < end &&
	    (ch->n_queue > 0 || ch->state == SP_CHAIN_BUSY)) {
		turn_once();
		sp_audit_flush(rig.f.b.store);
	}

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM audit WHERE event = '%s'",
	    event);
	return (unsigned)strtoul(fix_sql(&rig.f, sql), NULL, 10);
}

void
want_audit(const char *event)
{
	int64_t end = sp_boot_us() + WAIT_US;

	while (count_audit(event) == 0 && sp_boot_us() < end)
		turn_once();
	cr_assert(count_audit(event) > 0, "no event %s; there are: %s", event,
	    fix_sql(&rig.f, "SELECT string_agg(event, ' ' ORDER BY seq) FROM audit"));
}

struct sp_actor
actor_of(const uint8_t id[static 16], const char *name)
{
	struct sp_actor a = {.mfa = SP_MFA_TOTP};

	memcpy(a.person, id, 16);
	snprintf(a.name, sizeof(a.name), "%s", name);
	snprintf(a.addr, sizeof(a.addr), "127.0.0.1");
	return a;
}

/* ------------------------------------------------------------- the ingress */

void
ing_new(struct ing *i)
{
	struct sp_msg_conn_new m = {.conn = ++rig.last_conn,
	    .peer_addr = sp_span_str("127.0.0.1"), .peer_port = 4711,
	    .local_addr = sp_span_str("127.0.0.1"), .local_port = 2222};
	int fds[2];

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	i->conn = rig.last_conn;
	cr_assert_eq(sp_link_init(&i->l, fds[1], SP_ROLE_ING, SP_ROLE_BRK,
	    SP_ST_READY), SP_OK);
	cr_assert_eq(sp_send_conn_new(&rig.sup, 0, &m, &fds[0]), SP_OK);
}

void
ing_fini(struct ing *i)
{
	sp_link_fini(&i->l);
}

bool
ing_key(struct ing *i, const char *login, const char *blob, bool is_signed)
{
	struct sp_msg_auth_key m = {.login = sp_span_str(login),
	    .algo = sp_span_str("ssh-ed25519"), .blob = sp_span_str(blob),
	    .is_signed = is_signed};
	struct sp_msg_auth_key_result r;
	struct sp_packet k;

	cr_assert_eq(sp_send_auth_key(&i->l, 77, &m, NULL), SP_OK);
	want(&i->l, SP_MSG_auth_key_result, &k);
	cr_assert_eq(k.corr, 77);
	cr_assert_eq(sp_dec_auth_key_result(k.body, &r), SP_OK);
	return r.ok == 1;
}

void
auth_begin(struct ing *i, const char *login, struct sp_link *aut)
{
	struct sp_msg_mfa_begin b = {.login = sp_span_str(login)};
	struct sp_msg_auth_spawn s;
	struct sp_msg_auth_spawned r;
	struct sp_msg_pam_start p;
	struct sp_packet k;
	int fds[2];

	cr_assert_eq(sp_send_mfa_begin(&i->l, 0, &b, NULL), SP_OK);
	want_after(&rig.sup, SP_MSG_auth_spawn, &k);
	cr_assert_eq(sp_dec_auth_spawn(k.body, &s), SP_OK);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(aut, fds[1], SP_ROLE_AUT, SP_ROLE_BRK,
	    SP_ST_NEW), SP_OK);
	r.login = s.login;
	cr_assert_eq(sp_send_auth_spawned(&rig.sup, 0, &r, &fds[0]), SP_OK);
	want(aut, SP_MSG_pam_start, &k);
	cr_assert_eq(sp_dec_pam_start(k.body, &p), SP_OK);
	cr_assert(sp_span_is(p.service, "sallyport"));
	aut->state = SP_ST_READY;
}

uint8_t
auth_totp(struct sp_link *aut, const char *user, const char *code)
{
	struct sp_msg_pam_check_totp m = {.user = sp_span_str(user),
	    .code = sp_span_str(code)};
	struct sp_msg_pam_verdict v;
	struct sp_packet k;

	cr_assert_eq(sp_send_pam_check_totp(aut, 5, &m, NULL), SP_OK);
	want(aut, SP_MSG_pam_verdict, &k);
	cr_assert_eq(k.corr, 5);
	cr_assert_eq(sp_dec_pam_verdict(k.body, &v), SP_OK);
	return v.verdict;
}

uint8_t
auth_acct(struct sp_link *aut, const char *user)
{
	struct sp_msg_pam_check_acct m = {.user = sp_span_str(user)};
	struct sp_msg_pam_verdict v;
	struct sp_packet k;

	cr_assert_eq(sp_send_pam_check_acct(aut, 6, &m, NULL), SP_OK);
	want(aut, SP_MSG_pam_verdict, &k);
	cr_assert_eq(sp_dec_pam_verdict(k.body, &v), SP_OK);
	return v.verdict;
}

void
auth_result(struct sp_link *aut, uint32_t a, uint32_t b)
{
	struct sp_msg_pam_result m = {.auth = a, .acct = b};

	cr_assert_eq(sp_send_pam_result(aut, 0, &m, NULL), SP_OK);
}

void
ing_dialog(struct ing *i, uint8_t kind, char text[static 4097])
{
	struct sp_msg_dialog m;
	struct sp_packet k;

	want(&i->l, SP_MSG_dialog, &k);
	cr_assert_eq(sp_dec_dialog(k.body, &m), SP_OK);
	cr_assert_eq(sp_span_cstr(m.text, text, 4097), SP_OK);
	cr_assert_eq(m.kind, kind, "dialog %u \"%s\" instead of %u", m.kind, text,
	    kind);
}

void
ing_answer(struct ing *i, uint32_t dialog, const char *text)
{
	struct sp_msg_dialog_answer m = {.dialog = dialog,
	    .text = sp_span_str(text)};

	cr_assert_eq(sp_send_dialog_answer(&i->l, 0, &m, NULL), SP_OK);
}

uint8_t
ing_login(struct ing *i, const char *login, const char *blob, const char *code)
{
	struct sp_msg_pam_prompt p = {.style = PAM_PROMPT_ECHO_OFF,
	    .text = sp_span_str("Code: ")};
	struct sp_msg_dialog m;
	struct sp_link aut;
	struct sp_packet k;
	char text[4097], user[64];

	snprintf(user, sizeof(user), "%.*s", (int)strcspn(login, "+"), login);
	cr_assert(ing_key(i, login, blob, false));
	cr_assert(ing_key(i, login, blob, true));
	auth_begin(i, login, &aut);
	cr_assert_eq(sp_send_pam_prompt(&aut, 1, &p, NULL), SP_OK);
	ing_dialog(i, SP_DIALOG_ASK_HIDDEN, text);
	ing_answer(i, 0, code);
	want(&aut, SP_MSG_pam_answer, &k);
	if (auth_totp(&aut, user, code) == SP_PAM_OK) {
		cr_assert_eq(auth_acct(&aut, user), SP_PAM_OK);
		auth_result(&aut, PAM_SUCCESS, PAM_SUCCESS);
	} else {
		auth_result(&aut, PAM_AUTH_ERR, PAM_PERM_DENIED);
	}
	want(&i->l, SP_MSG_dialog, &k);
	cr_assert_eq(sp_dec_dialog(k.body, &m), SP_OK);
	if (m.kind == SP_DIALOG_OK)
		want_after(&rig.sup, SP_MSG_conn_authed, &k);
	sp_link_fini(&aut);
	return m.kind;
}

void
ing_target(struct ing *i, uint32_t id, const char *host, const char *account,
    uint8_t method, uint8_t verdict)
{
	struct sp_msg_target_open o = {.id = id, .host = sp_span_str(host),
	    .port = 22};
	struct sp_msg_target_open_result r;
	struct sp_msg_target_login m = {.id = id, .login = sp_span_str(account),
	    .method = method};
	struct sp_msg_target_login_result v;
	struct sp_packet k;

	if (host != NULL) {
		cr_assert_eq(sp_send_target_open(&i->l, 0, &o, NULL), SP_OK);
		want(&i->l, SP_MSG_target_open_result, &k);
		cr_assert_eq(sp_dec_target_open_result(k.body, &r), SP_OK);
		cr_assert_eq(r.ok, 1, "%.*s", (int)r.text.n, (const char *)r.text.p);
	}
	cr_assert_eq(sp_send_target_login(&i->l, 9, &m, NULL), SP_OK);
	want(&i->l, SP_MSG_target_login_result, &k);
	cr_assert_eq(k.corr, 9);
	cr_assert_eq(sp_dec_target_login_result(k.body, &v), SP_OK);
	cr_assert_eq(v.verdict, verdict);
}

void
ing_open(struct ing *i, uint32_t ctx, uint32_t chan, uint8_t kind,
    const char *command, bool has_pty)
{
	SP_BUF_AUTO open = {.max = 36864};
	struct sp_open o = {.kind = kind, .has_pty = has_pty, .cols = 80,
	    .rows = 24, .term = sp_span_str(has_pty ? "xterm" : ""),
	    .command = sp_span_str(command)};
	struct sp_msg_chan_open m = {.ctx = ctx, .chan = chan};

	cr_assert_eq(sp_open_encode(&open, &o), SP_OK);
	m.open = sp_buf_span(&open);
	cr_assert_eq(sp_send_chan_open(&i->l, 0, &m, NULL), SP_OK);
}

uint8_t
ing_refused(struct ing *i, char text[static 2049])
{
	struct sp_msg_chan_refused m;
	struct sp_packet k;

	want(&i->l, SP_MSG_chan_refused, &k);
	cr_assert_eq(sp_dec_chan_refused(k.body, &m), SP_OK);
	cr_assert_eq(sp_span_cstr(m.text, text, 2049), SP_OK);
	return m.exit_code;
}

/* -------------------------------------------------------------- the session */

static int
give_link(struct sp_link *ours, uint32_t role)
{
	int fds[2];

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(ours, fds[1], role, SP_ROLE_BRK, SP_ST_NEW),
	    SP_OK);
	return fds[0];
}

void
legs_to_dial(struct legs *g)
{
	struct sp_msg_session_spawn s;
	struct sp_msg_session_spawned r;
	struct sp_msg_rec_opened o = {.opened_us = sp_now_us()};
	struct sp_msg_rec_ready y = {.head = {1}};
	struct sp_msg_rec_open ro;
	struct sp_packet k;
	int fds[2], pair[2];

	*g = (struct legs){.far_stream = -1, .rec = {.fd = -1}, .egr = {.fd = -1}};
	want_after(&rig.sup, SP_MSG_session_spawn, &k);
	cr_assert_eq(sp_dec_session_spawn(k.body, &s), SP_OK);
	memcpy(g->id, s.session, 16);
	memcpy(r.session, s.session, 16);
	memcpy(o.session, s.session, 16);
	memcpy(y.session, s.session, 16);
	fds[0] = give_link(&g->rec, SP_ROLE_REC);
	cr_assert_eq(sp_stream_pair(pair), SP_OK);
	fds[1] = pair[0];
	g->far_stream = pair[1];
	cr_assert_eq(sp_send_session_spawned(&rig.sup, 0, &r, fds), SP_OK);
	want(&g->rec, SP_MSG_rec_open, &k);
	cr_assert_eq(sp_dec_rec_open(k.body, &ro), SP_OK);
	sp_rules_show(g->rules, sizeof(g->rules), ro.rules);
	cr_assert_eq(sp_send_rec_opened(&g->rec, 0, &o, NULL), SP_OK);
	g->rec.state = SP_ST_READY;
	want(&g->rec, SP_MSG_rec_cert, &k);
	cr_assert_eq(sp_send_rec_ready(&g->rec, 0, &y, NULL), SP_OK);
	want_after(&rig.sup, SP_MSG_session_dial, &k);
	/* Written before anything is dialled. */
	cr_assert(count_audit("session_open") > 0);
}

void
legs_to_login(struct legs *g)
{
	struct sp_msg_session_dialed m = {0};
	struct sp_packet k;
	int fd;

	legs_to_dial(g);
	memcpy(m.session, g->id, 16);
	memcpy(m.leg, g->id, 16);
	fd = give_link(&g->egr, SP_ROLE_EGR);
	cr_assert_eq(sp_send_session_dialed(&rig.sup, 0, &m, &fd), SP_OK);
	want(&g->egr, SP_MSG_egr_start, &k);
	g->egr.state = SP_ST_READY;
}

void
legs_ready(struct legs *g, struct ing *i, uint32_t ctx, uint32_t chan)
{
	struct sp_msg_egr_ready m = {0};
	struct sp_msg_chan_stream s;
	struct sp_packet k;

	memcpy(m.session, g->id, 16);
	cr_assert_eq(sp_send_egr_ready(&g->egr, 0, &m, NULL), SP_OK);
	want(&i->l, SP_MSG_chan_stream, &k);
	cr_assert_eq(sp_dec_chan_stream(k.body, &s), SP_OK);
	cr_assert_eq(s.ctx, ctx);
	cr_assert_eq(s.chan, chan);
	cr_assert_eq(s.shared, 1);
	sp_packet_close_fds(&k);
	g->rec.state = g->egr.state = SP_ST_LIVE;
}

void
legs_closed(struct legs *g, uint8_t code, const char *why)
{
	struct sp_msg_rec_closed m = {.code = code, .reason = sp_span_str(why),
	    .head = {0xcc}, .chunks = 7, .bytes_in = 1, .bytes_out = 2,
	    .file_bytes = 3};

	memcpy(m.session, g->id, 16);
	cr_assert_eq(sp_send_rec_closed(&g->rec, 0, &m, NULL), SP_OK);
}

void
legs_child_end(struct legs *g, uint16_t role, uint32_t status)
{
	struct sp_msg_session_child_end m = {.role = role, .status = status};

	memcpy(m.session, g->id, 16);
	cr_assert_eq(sp_send_session_child_end(&rig.sup, 0, &m, NULL), SP_OK);
}

void
legs_fini(struct legs *g)
{
	sp_link_fini(&g->rec);
	sp_link_fini(&g->egr);
	if (g->far_stream >= 0)
		close(g->far_stream);
	legs_child_end(g, SP_ROLE_REC, 0);
	legs_child_end(g, SP_ROLE_EGR, 0);
}

/* ------------------------------------------------------------ the approvals */

struct waited {
	bool done;
	enum sp_err e;
	uint64_t num;
	char text[1024];
};

static void
on_request(void *arg, enum sp_err e, uint64_t num, const char *text)
{
	struct waited *w = arg;

	w->done = true;
	w->e = e;
	w->num = num;
	snprintf(w->text, sizeof(w->text), "%s", text);
}

static enum sp_err
waited(struct waited *w, char text[static 1024])
{
	fix_until(&rig.f, &w->done, 60000);
	snprintf(text, 1024, "%s", w->text);
	return w->e;
}

enum sp_err
decide(const struct sp_actor *who, uint64_t num, bool approve,
    char text[static 1024])
{
	struct waited w = {.done = false};

	sp_request_decide(rig.b, who, num, approve, "well", on_request, &w);
	return waited(&w, text);
}

enum sp_err
take_back(const struct sp_actor *who, uint64_t num, char text[static 1024])
{
	struct waited w = {.done = false};

	sp_request_revoke(rig.b, who, num, "enough", on_request, &w);
	return waited(&w, text);
}

static void
on_judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct sp_wish wish = {.reason = "a disk is full", .ticket = "CHG-1"};

	cr_assert_eq(e, SP_OK, "%s", j->reasons);
	cr_assert(!j->has_grant);
	sp_request_file(rig.b, &alice, ask, j, &wish, on_request, arg);
}

uint64_t
file_and_approve(void)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct waited w = {.done = false};
	char text[1024];

	sp_judge(rig.b, &alice, "admin", "core-01", on_judged, &w);
	cr_assert_eq(waited(&w, text), SP_OK, "%s", text);
	cr_assert_eq(decide(&bob, w.num, true, text), SP_OK, "%s", text);
	return w.num;
}
