/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/approval*.c and session*.c: from a request to the end of
 * the session that it allowed. */
#include "test_flow_support.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(flow_session, .init = rig_up, .fini = rig_down, .timeout = 60);

/* The wall clock as somebody may set it while a session runs: the program is
 * linked with --wrap=sp_now_us. */
#define TEN_DAYS_US (INT64_C(10) * 86400 * 1000000)
static int64_t clock_set_us;
int64_t __real_sp_now_us(void);
int64_t __wrap_sp_now_us(void);

int64_t
__wrap_sp_now_us(void)
{
	return __real_sp_now_us() + clock_set_us;
}

static void
alice_in(struct ing *i, const char *login)
{
	ing_new(i);
	rig.f.fake->step++;
	cr_assert_eq(ing_login(i, login, "key-a", "123456"), SP_DIALOG_OK);
}

static void
want_over(struct legs *g, const char *state)
{
	char id[SP_UUID_TEXT], sql[160];
	int64_t end = sp_boot_us() + 8000000;

	sp_uuid_text(id, g->id);
	snprintf(sql, sizeof(sql), "SELECT state FROM sessions WHERE id = '%s'", id);
	while (strcmp(fix_sql(&rig.f, sql), state) != 0 && sp_boot_us() < end)
		turns(5);
	cr_assert_str_eq(fix_sql(&rig.f, sql), state);
	while (sp_session_find(rig.b, g->id) != NULL && sp_boot_us() < end)
		turns(5);
	cr_assert_null(sp_session_find(rig.b, g->id));
}

Test(flow_session, waits_inside_the_login_and_goes_on_when_approved)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_packet k;
	struct legs g;
	struct ing i;
	char text[4097], said[1024];

	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	ing_target(&i, 1, NULL, "admin", SP_LOGIN_KBDINT, SP_LOGIN_NEXT);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect(strstr(text, "admin@core-01") != NULL, "%s", text);
	ing_dialog(&i, SP_DIALOG_ASK, text);
	ing_answer(&i, 1, "   ");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_ASK, text);
	ing_answer(&i, 1, "磁盘满了");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect_str_eq(text, "Request 1 filed: admin@core-01 for 2h (reason: "
	    "磁盘满了).\nIt asks for: shell, exec, upload, download, subsystem.");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect(strstr(text, "approvers: bob") != NULL, "%s", text);
	cr_expect(strstr(text, "ssh bastion approve 1") != NULL, "%s", text);
	cr_assert_eq(decide(&bob, 1, true, said), SP_OK, "%s", said);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect_str_eq(text, "Approved by bob. Going on.");
	ing_dialog(&i, SP_DIALOG_OK, text);

	ing_open(&i, 1, 1, SP_OPEN_EXEC, "id", false);
	legs_to_login(&g);
	cr_expect_str_eq(g.rules, "shell, exec, upload, download, subsystem");
	cr_expect_eq(rig.f.fake->leases, 1);
	legs_ready(&g, &i, 1, 1);
	legs_closed(&g, SP_END_NORMAL, "");
	legs_fini(&g);
	want_over(&g, "ended");
	cr_expect_eq(count_audit("session_close"), 1);
	cr_expect_eq(rig.f.fake->leases_ended, 1);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT head = '\\xcc' || "
	    "substring(head from 2) FROM sessions"), "t");
	/* A second channel in the same login begins anew. */
	ing_open(&i, 1, 2, SP_OPEN_EXEC, "id", false);
	want_after(&rig.sup, SP_MSG_session_spawn, &k);
	ing_fini(&i);
}

Test(flow_session, without_a_terminal_the_request_is_filed_and_told)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	char text[2049], said[1024];
	struct legs g;
	struct ing i;

	alice_in(&i, "alice+admin+core-02");
	ing_open(&i, 0, 1, SP_OPEN_EXEC, "id", false);
	legs_to_login(&g);
	legs_ready(&g, &i, 0, 1);
	legs_closed(&g, SP_END_NORMAL, "");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);

	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	{
		struct sp_msg_target_login m = {.id = 1, .login = sp_span_str("admin"),
		    .method = SP_LOGIN_KEY, .blob = sp_span_str("key-a"),
		    .is_signed = 1};
		struct sp_msg_target_login_result v;
		struct sp_packet k;

		cr_assert_eq(sp_send_target_login(&i.l, 3, &m, NULL), SP_OK);
		want(&i.l, SP_MSG_target_login_result, &k);
		cr_assert_eq(sp_dec_target_login_result(k.body, &v), SP_OK);
		cr_assert_eq(v.verdict, SP_LOGIN_ACCEPT);
	}
	ing_open(&i, 1, 1, SP_OPEN_EXEC, "systemctl restart core", false);
	cr_expect_eq(ing_refused(&i, text), 75, "%s", text);
	cr_expect(strstr(text, "Request 1 filed") != NULL, "%s", text);
	cr_expect(strstr(text, "bob") != NULL, "%s", text);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT reason FROM requests"),
	    "not asked: systemctl restart core");
	/* The same again is the same request. */
	ing_open(&i, 1, 2, SP_OPEN_EXEC, "systemctl restart core", false);
	cr_expect_eq(ing_refused(&i, text), 75);
	cr_expect(strstr(text, "Request 1 is open already") != NULL, "%s", text);
	cr_assert_eq(decide(&bob, 1, false, said), SP_OK);
	ing_fini(&i);
}

Test(flow_session, somebody_elses_key_is_no_inner_login)
{
	struct sp_msg_target_login m = {.id = 1, .login = sp_span_str("admin"),
	    .method = SP_LOGIN_KEY, .blob = sp_span_str("key-b"), .is_signed = 1};
	struct sp_msg_target_login_result v;
	struct sp_packet k;
	struct ing i;

	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	cr_assert_eq(sp_send_target_login(&i.l, 3, &m, NULL), SP_OK);
	want(&i.l, SP_MSG_target_login_result, &k);
	cr_assert_eq(sp_dec_target_login_result(k.body, &v), SP_OK);
	cr_expect_eq(v.verdict, SP_LOGIN_DENY);
	ing_fini(&i);
}

Test(flow_session, the_policy_says_no_with_its_reason)
{
	char text[2049];
	struct ing i;

	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "root", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(&i, 1, 1, SP_OPEN_SHELL, "", true);
	cr_expect_eq(ing_refused(&i, text), 1);
	cr_expect(strstr(text, "root@core-01") != NULL, "%s", text);
	want_audit("session_refused");
	ing_fini(&i);
}

Test(flow_session, nobody_approves_what_is_not_theirs)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct sp_actor carol = actor_of(rig.carol, "carol");
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_actor root = {.is_host = true, .name = "root@host"};
	struct sp_actor weak = bob;
	char text[4097], said[1024];
	struct ing i;

	weak.mfa = SP_MFA_NONE;
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	ing_target(&i, 1, NULL, "admin", SP_LOGIN_KBDINT, SP_LOGIN_NEXT);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_ASK, text);
	ing_answer(&i, 1, "why not");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect_eq(decide(&alice, 1, true, said), SP_ERR_DENIED);
	cr_expect_eq(decide(&carol, 1, true, said), SP_ERR_DENIED);
	cr_expect_eq(decide(&root, 1, true, said), SP_ERR_DENIED);
	cr_expect_eq(decide(&weak, 1, true, said), SP_ERR_DENIED);
	cr_expect_eq(decide(&bob, 99, true, said), SP_ERR_NOTFOUND);
	cr_expect_eq(count_audit("request_approved"), 0);
	cr_expect_eq(count_audit("approve_refused"), 4);
	cr_expect_eq(decide(&bob, 1, false, said), SP_OK);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_expect_str_eq(text, "Request 1 was denied by bob: well.");
	ing_dialog(&i, SP_DIALOG_OK, text);
	ing_open(&i, 1, 1, SP_OPEN_EXEC, "id", false);
	cr_expect_eq(ing_refused(&i, text), 1);
	cr_expect_neq(decide(&bob, 1, true, said), SP_OK);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT count(*) FROM grants"), "0");
	ing_fini(&i);
}

Test(flow_session, a_grant_changed_by_hand_is_no_grant)
{
	struct ing i;

	file_and_approve();
	fix_sql(&rig.f, "ALTER TABLE grants DISABLE TRIGGER ALL");
	fix_sql(&rig.f, "UPDATE grants SET ends_us = ends_us + 3600000000");
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	want_audit("row_seal_broken");
	ing_fini(&i);
}

static void
live(struct ing *i, struct legs *g)
{
	file_and_approve();
	alice_in(i, "alice");
	ing_target(i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(i, 1, 1, SP_OPEN_SHELL, "", true);
	legs_to_login(g);
	legs_ready(g, i, 1, 1);
}

static uint8_t
want_rec_end(struct legs *g)
{
	struct sp_msg_rec_end m;
	struct sp_packet k;

	want_after(&g->rec, SP_MSG_rec_end, &k);
	cr_assert_eq(sp_dec_rec_end(k.body, &m), SP_OK);
	g->rec.state = SP_ST_ENDING;
	return m.code;
}

Test(flow_session, revocation_ends_it)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct legs g;
	struct ing i;
	char said[1024];

	live(&i, &g);
	cr_assert_eq(take_back(&bob, 1, said), SP_OK, "%s", said);
	cr_expect_eq(want_rec_end(&g), SP_END_REVOKED);
	legs_closed(&g, SP_END_REVOKED, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT end_code FROM sessions"), "2");
	ing_fini(&i);
}

/* Its CLOSE is written, the file still has the name of an unfinished one. */
Test(flow_session, a_recorder_killed_after_its_close_is_looked_at)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_packet k;
	struct legs g;
	struct ing i;
	char said[1024];

	live(&i, &g);
	cr_assert_eq(take_back(&bob, 1, said), SP_OK, "%s", said);
	cr_expect_eq(want_rec_end(&g), SP_END_REVOKED);
	legs_closed(&g, SP_END_REVOKED, "x");
	want_audit("session_close");
	legs_child_end(&g, SP_ROLE_REC, SIGKILL);
	want_after(&rig.sup, SP_MSG_recover, &k);
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, another_nodes_revocation_ends_it)
{
	struct legs g;
	struct ing i;

	live(&i, &g);
	/* The row as another broker would write it: gone from our view. */
	fix_sql(&rig.f, "ALTER TABLE grants DISABLE TRIGGER USER");
	fix_sql(&rig.f, "UPDATE grants SET state = 'revoked'");
	sp_broker_on_change(rig.b);
	cr_expect_eq(want_rec_end(&g), SP_END_REVOKED);
	legs_closed(&g, SP_END_REVOKED, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, a_new_policy_ends_it)
{
	struct legs g;
	struct ing i;

	live(&i, &g);
	rig_policy("permit \"x\" who group dba on target core-02 as any\n");
	cr_expect_eq(want_rec_end(&g), SP_END_POLICY);
	legs_closed(&g, SP_END_POLICY, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, time_ends_it)
{
	struct legs g;
	struct ing i;
	int64_t t;

	alice_in(&i, "alice+admin+core-02");
	ing_open(&i, 0, 1, SP_OPEN_EXEC, "id", false);
	t = sp_boot_us();
	legs_to_login(&g);
	legs_ready(&g, &i, 0, 1);
	cr_expect_eq(want_rec_end(&g), SP_END_EXPIRED);
	cr_expect_lt(sp_boot_us() - t, 4000000);
	legs_closed(&g, SP_END_EXPIRED, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, whoever_sets_the_clock_does_not_move_the_end)
{
	struct sp_session *s;
	struct legs g;
	struct ing i;
	int64_t t;

	alice_in(&i, "alice+admin+core-02");
	ing_open(&i, 0, 1, SP_OPEN_EXEC, "id", false);
	t = sp_boot_us();
	legs_to_login(&g);
	legs_ready(&g, &i, 0, 1);
	clock_set_us = TEN_DAYS_US;
	turns(300);
	s = sp_session_find(rig.b, g.id);
	cr_assert_not_null(s);
	cr_expect_eq(s->state, SESS_LIVE);
	clock_set_us = -TEN_DAYS_US;
	cr_expect_eq(want_rec_end(&g), SP_END_EXPIRED);
	cr_expect_lt(sp_boot_us() - t, 4000000);
	clock_set_us = 0;
	legs_closed(&g, SP_END_EXPIRED, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, a_dead_recorder_ends_it_and_is_recovered)
{
	struct sp_msg_rec_recovered r = {.chunks = 3, .head = {0xee}, .cut_bytes = 5};
	struct sp_msg_recover m;
	struct sp_msg_recover_spawned s;
	struct sp_link other;
	struct sp_packet k;
	struct legs g;
	struct ing i;
	int fds[2];

	live(&i, &g);
	sp_link_fini(&g.rec);
	want_after(&rig.sup, SP_MSG_session_kill, &k);
	legs_child_end(&g, SP_ROLE_REC, SIGSEGV);
	legs_child_end(&g, SP_ROLE_EGR, SIGKILL);
	want_after(&rig.sup, SP_MSG_recover, &k);
	cr_assert_eq(sp_dec_recover(k.body, &m), SP_OK);
	cr_assert_eq(memcmp(m.session, g.id, 16), 0);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(&other, fds[1], SP_ROLE_REC, SP_ROLE_BRK,
	    SP_ST_NEW), SP_OK);
	memcpy(s.session, g.id, 16);
	cr_assert_eq(sp_send_recover_spawned(&rig.sup, 0, &s, &fds[0]), SP_OK);
	memcpy(r.session, g.id, 16);
	cr_assert_eq(sp_send_rec_recovered(&other, 0, &r, NULL), SP_OK);
	other.state = SP_ST_READY;
	want(&other, SP_MSG_rec_seal, &k);
	sp_link_fini(&other);
	legs_child_end(&g, SP_ROLE_REC, 0);	/* only this is a seal */
	want_over(&g, "recovered");
	cr_expect_eq(count_audit("session_recovered"), 1);
	cr_expect_eq(count_audit("leg_died"), 1);
	sp_link_fini(&g.egr);
	close(g.far_stream);
	ing_fini(&i);
}

Test(flow_session, a_recorder_that_does_not_end_is_killed)
{
	struct sp_packet k;
	struct legs g;
	struct ing i;
	int64_t t;

	live(&i, &g);
	t = sp_boot_us();
	sp_session_end(sp_session_find(rig.b, g.id), SP_END_KILLED, "by the test");
	want_after(&rig.sup, SP_MSG_session_kill, &k);
	cr_expect_lt(sp_boot_us() - t, 2000000);
	sp_link_fini(&g.rec);
	sp_link_fini(&g.egr);
	close(g.far_stream);
	ing_fini(&i);
}

Test(flow_session, a_wrong_host_key_is_told_and_written)
{
	struct sp_msg_egr_failed m = {.code = SP_EGR_HOSTKEY,
	    .text = sp_span_str("it is another")};
	char text[2049];
	struct legs g;
	struct ing i;

	file_and_approve();
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(&i, 1, 1, SP_OPEN_SHELL, "", true);
	legs_to_login(&g);
	memcpy(m.session, g.id, 16);
	cr_assert_eq(sp_send_egr_failed(&g.egr, 0, &m, NULL), SP_OK);
	cr_expect_eq(ing_refused(&i, text), 255);
	cr_expect(strstr(text, "host key") != NULL, "%s", text);
	want_audit("host_key_mismatch");
	cr_expect_eq(want_rec_end(&g), SP_END_TARGET);
	legs_closed(&g, SP_END_TARGET, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, a_captured_egress_gets_nothing_more)
{
	struct sp_msg_egr_ready m = {.session = {9}};
	char text[2049];
	struct legs g;
	struct ing i;

	file_and_approve();
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(&i, 1, 1, SP_OPEN_SHELL, "", true);
	legs_to_login(&g);
	cr_assert_eq(sp_send_egr_ready(&g.egr, 0, &m, NULL), SP_OK);
	ing_refused(&i, text);
	want_audit("peer_broke_protocol");
	want_end(&g.egr);
	cr_expect_eq(want_rec_end(&g), SP_END_PROTOCOL);
	legs_closed(&g, SP_END_PROTOCOL, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

Test(flow_session, a_refused_lease_ends_it)
{
	char text[2049];
	struct sp_msg_session_dialed m = {0};
	struct legs g;
	struct ing i;
	int fds[2];

	file_and_approve();
	rig.f.fake->lease_err = SP_ERR_DENIED;
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(&i, 1, 1, SP_OPEN_SHELL, "", true);
	legs_to_dial(&g);
	memcpy(m.session, g.id, 16);
	memcpy(m.leg, g.id, 16);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_send_session_dialed(&rig.sup, 0, &m, &fds[0]), SP_OK);
	cr_expect_eq(ing_refused(&i, text), 255, "%s", text);
	cr_expect_eq(want_rec_end(&g), SP_END_TARGET);
	legs_closed(&g, SP_END_TARGET, "x");
	legs_fini(&g);
	want_over(&g, "ended");
	close(fds[1]);
	ing_fini(&i);
}

Test(flow_session, the_outer_login_waits_too)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct legs g;
	struct ing i;
	char text[4097], said[1024];

	ing_new(&i);
	cr_assert_eq(ing_login(&i, "alice+admin+core-01", "key-a", "123456"),
	    SP_DIALOG_INFO);
	ing_dialog(&i, SP_DIALOG_ASK, text);
	ing_answer(&i, 0, "a disk is full");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	cr_assert_eq(decide(&bob, 1, true, said), SP_OK, "%s", said);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_OK, text);
	ing_open(&i, 0, 1, SP_OPEN_SUBSYSTEM, "sftp", false);
	legs_to_login(&g);
	legs_ready(&g, &i, 0, 1);
	legs_closed(&g, SP_END_NORMAL, "");
	legs_fini(&g);
	want_over(&g, "ended");
	ing_fini(&i);
}

/* The user side of a dialogue: reads until the text is there, or HANDOVER. */
static bool
screen_has(struct sp_stream *t, struct sp_buf *screen, const char *what)
{
	static bool handed_over;
	int64_t end = sp_boot_us() + 60000000;
	struct sp_frame f;

	while (sp_boot_us() < end && (what != NULL || !handed_over)) {
		turns(2);
		if (sp_stream_fill(t) == SP_ERR_EOF)
			return false;
		while (sp_stream_next(t, &f) == SP_OK) {
			if (f.type == SP_FRAME_DATA)
				cr_assert_eq(sp_buf_put(screen, f.payload.p, f.payload.n),
				    SP_OK);
			handed_over |= f.type == SP_FRAME_HANDOVER;
		}
		if (what != NULL && screen->len > 0 && memmem(screen->p + screen->off,
		    screen->len, what, strlen(what)) != NULL)
			return true;
	}
	return what == NULL && handed_over;
}

Test(flow_session, the_terminal_waits_and_goes_on)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_msg_chan_stream m;
	SP_BUF_AUTO screen = {.max = 65536};
	SP_BUF_AUTO open = {.max = 4096};
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = 1};
	struct sp_stream t;
	struct sp_packet k;
	struct legs g;
	struct ing i;
	char said[1024];

	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	{
		struct sp_msg_target_login l = {.id = 1, .login = sp_span_str("admin"),
		    .method = SP_LOGIN_KEY, .blob = sp_span_str("key-a"), .is_signed = 1};

		cr_assert_eq(sp_send_target_login(&i.l, 3, &l, NULL), SP_OK);
		want(&i.l, SP_MSG_target_login_result, &k);
	}
	ing_open(&i, 1, 1, SP_OPEN_SHELL, "", true);
	want(&i.l, SP_MSG_chan_stream, &k);
	cr_assert_eq(sp_dec_chan_stream(k.body, &m), SP_OK);
	cr_assert_eq(m.shared, 0);
	cr_assert_eq(sp_stream_init(&t, k.fds[0], false), SP_OK);
	cr_assert_eq(sp_open_encode(&open, &o), SP_OK);
	cr_assert_eq(sp_stream_put(&t, SP_FRAME_OPEN, 0, 1, sp_buf_span(&open)), SP_OK);
	cr_assert_eq(sp_stream_flush(&t), SP_OK);
	cr_assert(screen_has(&t, &screen, "Reason: "));
	cr_assert_eq(sp_stream_put(&t, SP_FRAME_DATA, 0, 1,
	    sp_span_str("disk fulk\x7fl\r")), SP_OK);
	cr_assert_eq(sp_stream_flush(&t), SP_OK);
	cr_assert(screen_has(&t, &screen, "Request 1 filed"));
	cr_assert(screen_has(&t, &screen, "approve 1\r\n"));
	cr_assert_eq(decide(&bob, 1, true, said), SP_OK);
	cr_assert(screen_has(&t, &screen, "Approved by bob. Going on.\r\n"));
	cr_assert(screen_has(&t, &screen, NULL), "no HANDOVER");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT reason FROM requests"), "disk full");
	legs_to_login(&g);
	legs_ready(&g, &i, 1, 1);
	legs_closed(&g, SP_END_NORMAL, "");
	legs_fini(&g);
	want_over(&g, "ended");
	sp_stream_fini(&t);
	ing_fini(&i);
}

/* A closed row would be looked at by nobody: the file would stay unsealed. */
Test(flow_session, a_recovery_that_dies_is_tried_again)
{
	struct sp_msg_rec_recovered r = {.chunks = 3, .head = {0xee}};
	struct sp_msg_recover_spawned s;
	struct sp_link other;
	struct sp_packet k;
	struct legs g;
	struct ing i;
	int fds[2];

	live(&i, &g);
	sp_link_fini(&g.rec);
	want_after(&rig.sup, SP_MSG_session_kill, &k);
	legs_child_end(&g, SP_ROLE_REC, SIGSEGV);
	legs_child_end(&g, SP_ROLE_EGR, SIGKILL);
	memcpy(s.session, g.id, 16);
	memcpy(r.session, g.id, 16);
	for (int n = 0; n < 2; n++) {
		want_after(&rig.sup, SP_MSG_recover, &k);
		cr_assert_eq(sp_link_pair(fds), SP_OK);
		cr_assert_eq(sp_link_init(&other, fds[1], SP_ROLE_REC,
		    SP_ROLE_BRK, SP_ST_NEW), SP_OK);
		cr_assert_eq(sp_send_recover_spawned(&rig.sup, 0, &s, &fds[0]),
		    SP_OK);
		cr_assert_eq(sp_send_rec_recovered(&other, 0, &r, NULL), SP_OK);
		other.state = SP_ST_READY;
		want(&other, SP_MSG_rec_seal, &k);
		sp_link_fini(&other);
		/* killed between the seal and its write, then it works */
		legs_child_end(&g, SP_ROLE_REC, n == 0 ? SIGKILL : 0);
	}
	want_over(&g, "recovered");
	cr_expect_eq(count_audit("session_recovered"), 1);
	sp_link_fini(&g.egr);
	close(g.far_stream);
	ing_fini(&i);
}

Test(flow_session, what_ran_when_we_died_is_recovered)
{
	struct sp_msg_rec_recovered r = {.closed = 1, .chunks = 3, .head = {0xee}};
	struct sp_msg_recover m;
	struct sp_msg_recover_spawned s;
	struct sp_msg_spawn_failed no = {.err_no = 2, .text = sp_span_str("gone")};
	struct sp_link other;
	struct sp_packet k;
	int fds[2];

	fix_sql(&rig.f, "INSERT INTO sessions (id, person_id, person_name, "
	    "account_name, target_name, node, peer_addr, rule, policy_hash, "
	    "started_us, state) SELECT gen_random_uuid(), id, name, 'admin', "
	    "'core-01', 'node-a', '::1', 'r', 'h', 5, 'running' FROM people "
	    "WHERE name IN ('alice', 'bob')");
	sp_session_recover_all(rig.b);
	want_after(&rig.sup, SP_MSG_recover, &k);
	cr_assert_eq(sp_dec_recover(k.body, &m), SP_OK);
	memcpy(s.session, m.session, 16);
	memcpy(r.session, m.session, 16);
	want_after(&rig.sup, SP_MSG_recover, &k);
	cr_assert_eq(sp_dec_recover(k.body, &m), SP_OK);
	memcpy(no.session, m.session, 16);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(&other, fds[1], SP_ROLE_REC, SP_ROLE_BRK,
	    SP_ST_NEW), SP_OK);
	cr_assert_eq(sp_send_recover_spawned(&rig.sup, 0, &s, &fds[0]), SP_OK);
	cr_assert_eq(sp_send_rec_recovered(&other, 0, &r, NULL), SP_OK);
	sp_link_fini(&other);
	cr_assert_eq(sp_send_spawn_failed(&rig.sup, 0, &no, NULL), SP_OK);
	want_audit("session_close");
	want_audit("recording_missing");
	while (!rig.b->sessions->is_recovered)
		turns(5);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT count(*) FROM sessions WHERE "
	    "ended_us IS NULL"), "0");
}

struct both {
	bool done;
	unsigned n, n_ok;
};

static void
on_both(void *arg, enum sp_err e, uint64_t num, const char *text)
{
	struct both *b = arg;

	(void)num;
	(void)text;
	b->n_ok += e == SP_OK;
	b->done = ++b->n == 2;
}

Test(flow_session, two_who_approve_at_once_make_one_grant)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_actor carol = actor_of(rig.carol, "carol");
	struct sp_change *c = sp_change_new(rig.b->store);
	char who[SP_UUID_TEXT], text[4097];
	struct both b = {.done = false};
	uint8_t id[16];
	struct ing i;

	sp_uuid_text(who, rig.carol);
	sp_uuid_make(id);
	sp_change_insert(c, SP_T_MEMBERSHIPS, id,
	    (const char *[]){who, "approvers"});
	cr_assert_eq(fix_commit(&rig.f, c), SP_OK);
	rig_policy("permit \"dba\" who group dba on target core-01 as admin\n"
	    "  require approval 2 of approvers for 2h\n");
	alice_in(&i, "alice");
	ing_target(&i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	ing_target(&i, 1, NULL, "admin", SP_LOGIN_KBDINT, SP_LOGIN_NEXT);
	ing_dialog(&i, SP_DIALOG_INFO, text);
	ing_dialog(&i, SP_DIALOG_ASK, text);
	ing_answer(&i, 1, "both of you");
	ing_dialog(&i, SP_DIALOG_INFO, text);
	sp_request_decide(rig.b, &bob, 1, true, "", on_both, &b);
	sp_request_decide(rig.b, &carol, 1, true, "", on_both, &b);
	fix_until(&rig.f, &b.done, 60000);
	cr_expect_eq(b.n_ok, 2);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT count(*) FROM grants"), "1");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT state FROM requests"), "approved");
	ing_fini(&i);
}

/* ------------------------------------------------------------------ viewers */

struct played {
	bool done;
	enum sp_err e;
	char text[256];
};

static void
on_play(void *arg, enum sp_err e, int stream, const char *text)
{
	struct played *p = arg;

	p->done = true;
	p->e = e;
	snprintf(p->text, sizeof(p->text), "%s", text);
	sp_close_fds(&stream, 1);
}

Test(flow_session, viewing_is_for_auditors_and_written_first)
{
	struct sp_actor carol = actor_of(rig.carol, "carol");
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct sp_msg_play_start how = {.mode = SP_PLAY_REPLAY, .speed = 100};
	struct sp_msg_play_spawn m;
	struct sp_msg_spawn_failed no = {.err_no = 2, .text = sp_span_str("gone")};
	struct played p = {.done = false};
	struct sp_packet k;
	struct legs g;
	struct ing i;

	live(&i, &g);
	legs_closed(&g, SP_END_NORMAL, "");
	legs_fini(&g);
	want_over(&g, "ended");
	sp_session_play(rig.b, &bob, g.id, &how, on_play, &p);
	fix_until(&rig.f, &p.done, 60000);
	cr_expect_eq(p.e, SP_ERR_DENIED);
	want_audit("viewing_refused");
	carol.n_groups = 1;
	snprintf(carol.groups[0], sizeof(carol.groups[0]), "auditors");
	p.done = false;
	sp_session_play(rig.b, &carol, g.id, &how, on_play, &p);
	want_after(&rig.sup, SP_MSG_play_spawn, &k);
	cr_expect_eq(count_audit("replay"), 1);
	cr_assert_eq(sp_dec_play_spawn(k.body, &m), SP_OK);
	no.id = m.play;
	memcpy(no.session, g.id, 16);
	cr_assert_eq(sp_send_spawn_failed(&rig.sup, k.corr, &no, NULL), SP_OK);
	fix_until(&rig.f, &p.done, 60000);
	cr_expect_eq(p.e, SP_ERR_NOTFOUND);
	want_audit("recording_missing");
	ing_fini(&i);
}

/* ------------------------------------------------ questions of the target */

static void
prompt(struct legs *g, const char *text, bool asks, bool other)
{
	struct sp_msg_egr_prompt m = {.asks = asks, .echo = 1,
	    .title = sp_span_str(""), .prompt = sp_span_str(text)};

	memcpy(m.session, g->id, 16);
	m.session[0] ^= other ? 1 : 0;
	cr_assert_eq(sp_send_egr_prompt(&g->egr, 0, &m, NULL), SP_OK);
}

static void
at_login(struct ing *i, struct legs *g, bool pty)
{
	file_and_approve();
	alice_in(i, "alice");
	ing_target(i, 1, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_ACCEPT);
	ing_open(i, 1, 1, SP_OPEN_SHELL, "", pty);
	legs_to_login(g);
}

static void
ends_with(struct ing *i, struct legs *g, uint8_t code)
{
	cr_expect_eq(want_rec_end(g), code);
	legs_closed(g, code, "x");
	legs_fini(g);
	want_over(g, "ended");
	ing_fini(i);
}

Test(flow_session, a_question_without_a_terminal_is_for_later)
{
	char text[2049];
	struct legs g;
	struct ing i;

	at_login(&i, &g, false);
	prompt(&g, "Your \033[31mPIN:", true, false);
	cr_expect_eq(ing_refused(&i, text), 75, "%s", text);
	cr_expect(strstr(text, "asks \"Your \\x1b[31mPIN:\"") != NULL, "%s", text);
	cr_expect_eq(count_audit("target_asked"), 1);
	ends_with(&i, &g, SP_END_TARGET);
}

Test(flow_session, a_question_goes_to_the_terminal)
{
	struct sp_msg_chan_stream s;
	struct sp_packet k;
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	prompt(&g, "PIN:", true, false);
	want(&i.l, SP_MSG_chan_stream, &k);
	cr_assert_eq(sp_dec_chan_stream(k.body, &s), SP_OK);
	cr_expect_eq(s.shared, 0);
	cr_expect_eq(s.chan, 1);
	sp_packet_close_fds(&k);
	/* The user side is gone: nobody answers, and the egress is told. */
	want(&g.egr, SP_MSG_egr_answer, &k);
	{
		struct sp_msg_egr_answer a;

		cr_assert_eq(sp_dec_egr_answer(k.body, &a), SP_OK);
		cr_expect_eq(a.ok, 0);
	}
	ing_fini(&i);
	want_rec_end(&g);
	legs_closed(&g, SP_END_NORMAL, "x");
	legs_fini(&g);
	want_over(&g, "ended");
}

Test(flow_session, an_egress_that_asks_twice_at_once_breaks_the_rules)
{
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	prompt(&g, "one", true, false);
	prompt(&g, "two", true, false);
	ends_with(&i, &g, SP_END_PROTOCOL);
}

Test(flow_session, an_egress_that_is_ready_before_the_answer_breaks_the_rules)
{
	struct sp_msg_egr_ready m = {0};
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	prompt(&g, "one", true, false);
	memcpy(m.session, g.id, 16);
	cr_assert_eq(sp_send_egr_ready(&g.egr, 0, &m, NULL), SP_OK);
	ends_with(&i, &g, SP_END_PROTOCOL);
}

Test(flow_session, a_question_of_another_session_breaks_the_rules)
{
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	prompt(&g, "one", true, true);
	ends_with(&i, &g, SP_END_PROTOCOL);
}

Test(flow_session, a_target_that_tells_without_end_is_ended)
{
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	for (int n = 0; n < 17; n++)
		prompt(&g, "news", false, false);
	ends_with(&i, &g, SP_END_TARGET);
	cr_expect_eq(count_audit("target_told"), 16);
}

Test(flow_session, old_algorithms_where_none_are_allowed_break_the_rules)
{
	struct sp_msg_egr_ready m = {.old = 1};
	struct legs g;
	struct ing i;

	at_login(&i, &g, true);
	memcpy(m.session, g.id, 16);
	cr_assert_eq(sp_send_egr_ready(&g.egr, 0, &m, NULL), SP_OK);
	ends_with(&i, &g, SP_END_PROTOCOL);
}

/* ------------------------------------------------------ the way to a target */

struct place {
	uint8_t target[16], account[16];
	uint64_t ver;
};

static void
put_target(struct place *p, const char *name, const struct place *via,
    bool enabled)
{
	struct sp_change *c = sp_change_new(rig.b->store);
	char way[SP_UUID_TEXT], t[SP_UUID_TEXT];
	const char *v[SP_COLS_MAX] = {name, "192.0.2.9", "22",
	    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "core", enabled ? "t" : "f", NULL,
	    via == NULL ? NULL : way, NULL};

	if (via != NULL)
		sp_uuid_text(way, via->account);
	if (p->ver++ > 0) {
		sp_change_update(c, SP_T_TARGETS, p->target, p->ver - 1, v);
	} else {
		sp_uuid_make(p->target);
		sp_uuid_make(p->account);
		sp_uuid_text(t, p->target);
		sp_change_insert(c, SP_T_TARGETS, p->target, v);
		sp_change_insert(c, SP_T_ACCOUNTS, p->account,
		    (const char *[SP_COLS_MAX]){t, "admin", "1", NULL});
	}
	cr_assert_eq(fix_commit(&rig.f, c), SP_OK);
}

static void
refused_with(const char *words)
{
	char text[2049];
	struct ing i;

	alice_in(&i, "alice+admin+far");
	ing_open(&i, 0, 1, SP_OPEN_EXEC, "id", false);
	cr_expect_eq(ing_refused(&i, text), 1, "%s", text);
	cr_expect(strstr(text, words) != NULL, "%s", text);
	ing_fini(&i);
}

/* Whatever the rows say, however they came to say it. */
Test(flow_session, ways_are_looked_at_again_for_each_session)
{
	struct place far = {.ver = 0}, p[5] = {{.ver = 0}};
	char names[5][8];

	rig_policy("permit \"far\" who group dba on target far as any\n"
	    "  require mfa totp for 1h\n");
	for (size_t i = 0; i < 5; i++) {
		snprintf(names[i], sizeof(names[i]), "hop-%zu", i);
		put_target(&p[i], names[i], i == 0 ? NULL : &p[i - 1], true);
	}
	put_target(&far, "far", &p[4], true);
	refused_with("longer than four");
	put_target(&far, "far", &p[1], true);
	put_target(&p[0], "hop-0", NULL, false);
	refused_with("disabled");
	put_target(&p[0], "hop-0", &far, true);
	refused_with("back to itself");
	put_target(&p[0], "hop-0", &p[1], true);
	refused_with("back to itself");
	cr_expect_eq(count_audit("session_open"), 0);
}
