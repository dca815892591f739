/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/login*.c: who logs in, and what a captured ingress or
 * auth process can try. */
#include "test_flow_support.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <string.h>

TestSuite(flow_login, .init = rig_up, .fini = rig_down, .timeout = 60);

Test(flow_login, two_factors_open_and_are_written_down)
{
	struct ing i;

	ing_new(&i);
	cr_expect_eq(ing_login(&i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	want_audit("login_ok");
	cr_expect_eq(count_audit("login_key"), 1);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT actor FROM audit WHERE event = "
	    "'login_ok'"), "alice");
	cr_expect_eq(sp_login_count(rig.b), 1);
	ing_fini(&i);
	want_audit("logout");
	cr_expect_eq(sp_login_count(rig.b), 0);
}

Test(flow_login, wrong_names_keys_and_people_look_the_same)
{
	struct ing i;

	ing_new(&i);
	cr_expect_not(ing_key(&i, "nobody", "key-a", false));
	cr_expect_not(ing_key(&i, "alice", "key-b", true));
	cr_expect_not(ing_key(&i, "Alice", "key-a", true));
	cr_expect_not(ing_key(&i, "alice+admin", "key-a", true));
	cr_expect_not(ing_key(&i, "alice'--", "key-a", true));
	fix_sql(&rig.f, "SELECT 1");
	ing_fini(&i);
	want_audit("login_refused");
}

Test(flow_login, key_of_a_disabled_person_is_unknown)
{
	struct sp_change *c = sp_change_new(rig.b->store);
	struct ing i;

	sp_change_update(c, SP_T_PEOPLE, rig.alice, 1,
	    (const char *[]){"alice", "alice", "f"});
	cr_assert_eq(fix_commit(&rig.f, c), SP_OK);
	ing_new(&i);
	cr_expect_not(ing_key(&i, "alice", "key-a", true));
	ing_fini(&i);
}

Test(flow_login, key_changed_by_hand_is_refused_and_alarmed)
{
	struct ing i;

	fix_sql(&rig.f, "ALTER TABLE person_keys DISABLE TRIGGER ALL");
	fix_sql(&rig.f, "UPDATE person_keys SET blob = 'key-x' WHERE blob = 'key-a'");
	ing_new(&i);
	cr_expect_not(ing_key(&i, "alice", "key-x", true));
	want_audit("row_seal_broken");
	ing_fini(&i);
}

Test(flow_login, one_code_opens_once)
{
	struct ing i, k;

	ing_new(&i);
	cr_expect_eq(ing_login(&i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	ing_new(&k);
	cr_expect_eq(ing_login(&k, "alice", "key-a", "123456"), SP_DIALOG_FAIL);
	rig.f.fake->step++;
	cr_expect_eq(ing_login(&k, "alice", "key-a", "123456"), SP_DIALOG_OK);
	ing_fini(&i);
	ing_fini(&k);
}

Test(flow_login, ten_wrong_codes_lock)
{
	struct sp_link aut;
	struct ing i;

	rig.b->cfg.max_tries = 20;
	ing_new(&i);
	cr_assert(ing_key(&i, "alice", "key-a", true));
	for (int n = 0; n < 10; n++) {
		char text[4097];

		auth_begin(&i, "alice", &aut);
		cr_expect_eq(auth_totp(&aut, "alice", "999999"), SP_PAM_DENY);
		auth_result(&aut, PAM_AUTH_ERR, PAM_PERM_DENIED);
		ing_dialog(&i, SP_DIALOG_FAIL, text);
		sp_link_fini(&aut);
	}
	auth_begin(&i, "alice", &aut);
	cr_expect_eq(auth_totp(&aut, "alice", "123456"), SP_PAM_DENY);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT fails FROM totp_spent"), "10");
	sp_link_fini(&aut);
	ing_fini(&i);
}

Test(flow_login, a_mute_vault_denies_in_two_seconds)
{
	struct sp_link aut;
	struct ing i;
	int64_t t;

	ing_new(&i);
	cr_assert(ing_key(&i, "alice", "key-a", true));
	auth_begin(&i, "alice", &aut);
	rig.f.fake->mute = 1;
	t = sp_boot_us();
	cr_expect_eq(auth_totp(&aut, "alice", "123456"), SP_PAM_UNAVAILABLE);
	cr_expect_lt(sp_boot_us() - t, 2200000);
	rig.f.fake->mute = 0;
	sp_link_fini(&aut);
	ing_fini(&i);
	turns(2500);		/* what was under way ends by itself */
}

Test(flow_login, success_of_pam_without_our_factor_is_no_success)
{
	struct sp_link aut;
	struct ing i;
	char text[4097];

	ing_new(&i);
	cr_assert(ing_key(&i, "alice", "key-a", true));
	auth_begin(&i, "alice", &aut);
	auth_result(&aut, PAM_SUCCESS, PAM_SUCCESS);
	ing_dialog(&i, SP_DIALOG_FAIL, text);
	want_audit("peer_broke_protocol");
	sp_link_fini(&aut);
	/* With the code but without the account. */
	auth_begin(&i, "alice", &aut);
	cr_expect_eq(auth_totp(&aut, "alice", "123456"), SP_PAM_OK);
	auth_result(&aut, PAM_SUCCESS, PAM_SUCCESS);
	ing_dialog(&i, SP_DIALOG_FAIL, text);
	sp_link_fini(&aut);
	/* For another person. */
	auth_begin(&i, "alice", &aut);
	{
		struct sp_msg_pam_check_totp m = {.user = sp_span_str("bob"),
		    .code = sp_span_str("123456")};

		cr_assert_eq(sp_send_pam_check_totp(&aut, 5, &m, NULL), SP_OK);
	}
	ing_dialog(&i, SP_DIALOG_FAIL, text);
	cr_expect_eq(count_audit("login_ok"), 0);
	sp_link_fini(&aut);
	ing_fini(&i);
}

/* ------------------------------------------------------ a captured ingress */

static void
no_key(struct ing *i)
{
	struct sp_msg_mfa_begin m = {.login = sp_span_str("alice")};

	cr_assert_eq(sp_send_mfa_begin(&i->l, 0, &m, NULL), SP_OK);
}

static void
target_unauthed(struct ing *i)
{
	struct sp_msg_target_open m = {.id = 1, .host = sp_span_str("core-01")};

	cr_assert(ing_key(i, "alice", "key-a", true));
	cr_assert_eq(sp_send_target_open(&i->l, 0, &m, NULL), SP_OK);
}

static void
channel_unauthed(struct ing *i)
{
	cr_assert(ing_key(i, "alice", "key-a", true));
	ing_open(i, 0, 1, SP_OPEN_EXEC, "whoami", false);
}

static void
second_name_in_mfa(struct ing *i)
{
	struct sp_msg_mfa_begin m = {.login = sp_span_str("bob")};

	cr_assert(ing_key(i, "alice", "key-a", true));
	cr_assert_eq(sp_send_mfa_begin(&i->l, 0, &m, NULL), SP_OK);
}

static void
second_name_in_key(struct ing *i)
{
	struct sp_msg_auth_key m = {.login = sp_span_str("bob"),
	    .algo = sp_span_str("ssh-ed25519"), .blob = sp_span_str("key-b"),
	    .is_signed = 1};

	cr_assert(ing_key(i, "alice", "key-a", true));
	cr_assert_eq(sp_send_auth_key(&i->l, 0, &m, NULL), SP_OK);
}

static void
answer_unasked(struct ing *i)
{
	cr_assert(ing_key(i, "alice", "key-a", true));
	ing_answer(i, 0, "123456");
}

static void
answer_later_unasked(struct ing *i)
{
	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	ing_answer(i, 0, "123456");
}

static void
channel_of_no_login(struct ing *i)
{
	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	ing_open(i, 9, 1, SP_OPEN_SHELL, "", true);
}

static void
channel_before_inner_login(struct ing *i)
{
	struct sp_msg_target_open m = {.id = 3, .host = sp_span_str("core-01")};
	struct sp_packet k;

	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	cr_assert_eq(sp_send_target_open(&i->l, 0, &m, NULL), SP_OK);
	want(&i->l, SP_MSG_target_open_result, &k);
	ing_open(i, 3, 1, SP_OPEN_SHELL, "", true);
}

static void
channel_inside_a_wait(struct ing *i)
{
	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	ing_target(i, 3, "core-01", "admin", SP_LOGIN_NONE, SP_LOGIN_NEXT);
	ing_open(i, 3, 1, SP_OPEN_SHELL, "", true);
}

static void
login_of_no_target(struct ing *i)
{
	struct sp_msg_target_login m = {.id = 5, .login = sp_span_str("admin"),
	    .method = SP_LOGIN_NONE};

	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	cr_assert_eq(sp_send_target_login(&i->l, 0, &m, NULL), SP_OK);
}

static void
target_twice(struct ing *i)
{
	struct sp_msg_target_open m = {.id = 3, .host = sp_span_str("core-01")};

	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	cr_assert_eq(sp_send_target_open(&i->l, 0, &m, NULL), SP_OK);
	cr_assert_eq(sp_send_target_open(&i->l, 0, &m, NULL), SP_OK);
}

static void
broken_open(struct ing *i)
{
	struct sp_msg_chan_open m = {.ctx = 0, .chan = 1,
	    .open = sp_span_str("not an OPEN")};

	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	cr_assert_eq(sp_send_chan_open(&i->l, 0, &m, NULL), SP_OK);
}

static void
raw_bytes(struct ing *i)
{
	cr_assert_eq(sp_link_send(&i->l, SP_MSG_auth_key, 1,
	    sp_span_str("trailing and short"), NULL, 0), SP_OK);
}

static void
anothers_message(struct ing *i)
{
	uint8_t body[48] = {0};

	cr_assert_eq(sp_link_send(&i->l, SP_MSG_egr_ready, 1,
	    sp_span_of(body, 16), NULL, 0), SP_OK);
}

static void
too_many_at_once(struct ing *i)
{
	struct sp_msg_auth_key m = {.login = sp_span_str("alice"),
	    .algo = sp_span_str("ssh-ed25519"), .blob = sp_span_str("key-a")};

	for (int n = 0; n < 60; n++)
		cr_assert_eq(sp_send_auth_key(&i->l, 1, &m, NULL), SP_OK);
}

static const struct {
	const char *name;
	void (*attack)(struct ing *i);
} attacks[] = {
    {"no_key", no_key}, {"target_unauthed", target_unauthed},
    {"channel_unauthed", channel_unauthed},
    {"second_name_in_mfa", second_name_in_mfa},
    {"second_name_in_key", second_name_in_key},
    {"answer_unasked", answer_unasked},
    {"answer_later_unasked", answer_later_unasked},
    {"channel_of_no_login", channel_of_no_login},
    {"channel_before_inner_login", channel_before_inner_login},
    {"channel_inside_a_wait", channel_inside_a_wait},
    {"login_of_no_target", login_of_no_target},
    {"target_twice", target_twice}, {"broken_open", broken_open},
    {"raw_bytes", raw_bytes}, {"anothers_message", anothers_message},
    {"too_many_at_once", too_many_at_once},
};

ParameterizedTestParameters(flow_login, captured_ingress_is_cut_off)
{
	static size_t at[sizeof(attacks) / sizeof(attacks[0])];

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		at[i] = i;
	return cr_make_param_array(size_t, at, sizeof(at) / sizeof(at[0]));
}

ParameterizedTest(size_t *at, flow_login, captured_ingress_is_cut_off)
{
	struct sp_msg_conn_kill m;
	struct sp_packet k;
	struct ing i;

	ing_new(&i);
	attacks[*at].attack(&i);
	want_end(&i.l);
	want_after(&rig.sup, SP_MSG_conn_kill, &k);
	cr_assert_eq(sp_dec_conn_kill(k.body, &m), SP_OK);
	cr_expect_eq(m.conn, i.conn, "%s", attacks[*at].name);
	want_audit("peer_broke_protocol");
	cr_expect_eq(sp_login_count(rig.b), 0);
	/* Nothing was started for it. */
	cr_expect_eq(count_audit("session_open"), 0);
	ing_fini(&i);
}

Test(flow_login, a_disabled_person_is_disconnected)
{
	struct sp_change *c = sp_change_new(rig.b->store);
	struct sp_msg_conn_notice m;
	struct sp_packet k;
	struct ing i;

	ing_new(&i);
	cr_assert_eq(ing_login(&i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	sp_change_update(c, SP_T_PEOPLE, rig.alice, 1,
	    (const char *[]){"alice", "alice", "f"});
	cr_assert_eq(fix_commit(&rig.f, c), SP_OK);
	sp_broker_changed(rig.b);
	want(&i.l, SP_MSG_conn_notice, &k);
	cr_assert_eq(sp_dec_conn_notice(k.body, &m), SP_OK);
	cr_expect_eq(m.end, 1);
	want_end(&i.l);
	ing_fini(&i);
}

Test(flow_login, only_names_of_targets_are_targets)
{
	static const char *const hosts[] = {"core-99", "127.0.0.1", "::1",
	    "Core-01", "core-01'--", "-oProxyCommand"};
	struct sp_msg_target_open_result r;
	struct sp_packet k;
	struct ing i;

	ing_new(&i);
	cr_assert_eq(ing_login(&i, "alice", "key-a", "123456"), SP_DIALOG_OK);
	for (uint32_t n = 0; n < sizeof(hosts) / sizeof(hosts[0]); n++) {
		struct sp_msg_target_open m = {.id = n + 1,
		    .host = sp_span_str(hosts[n]), .port = 22};

		cr_assert_eq(sp_send_target_open(&i.l, 0, &m, NULL), SP_OK);
		want(&i.l, SP_MSG_target_open_result, &k);
		cr_assert_eq(sp_dec_target_open_result(k.body, &r), SP_OK);
		cr_expect_eq(r.ok, 0, "%s", hosts[n]);
		cr_expect_gt(r.text.n, 0);
	}
	ing_fini(&i);
}
