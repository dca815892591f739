/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked for is what is approved, and what is approved is what is used:
 * rights of requests, grants and sessions. */
#include "test_flow_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "policy/rules.h"

TestSuite(flow_rights, .init = rig_up, .fini = rig_down, .timeout = 120);

#define WITH(allow)                                                           \
	"permit \"dba\" who group dba on target core-01 as admin, legacy\n"      \
	"  require approval 1 of approvers, mfa totp for 2h\n" allow "\n"
#define WIDE WITH("allow shell, exec, upload, download, forward to "          \
	"\"db-01:5432\", \"db-02:*\" path forbid upload \"/etc/**\"")

struct asking {
	const char *allow;
	bool done;
	enum sp_err e;
	uint64_t num;
	char text[3000];
};

static void
filed(void *arg, enum sp_err e, uint64_t num, const char *text)
{
	struct asking *a = arg;

	a->done = true;
	a->e = e;
	a->num = num;
	snprintf(a->text, sizeof(a->text), "%s", text);
}

static void
judged_to_file(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct asking *a = arg;
	struct sp_wish wish = {.reason = "a disk is full", .allow = a->allow};

	cr_assert_eq(e, SP_OK, "%s", j->reasons);
	sp_request_file(rig.b, &alice, ask, j, &wish, filed, a);
}

static struct asking
ask_for(const char *allow)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct asking a = {.allow = allow};

	sp_judge(rig.b, &alice, "admin", "core-01", judged_to_file, &a);
	fix_until(&rig.f, &a.done, 60000);
	return a;
}

static uint64_t
granted(const char *allow)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct asking a = ask_for(allow);
	char said[1024];

	cr_assert_eq(a.e, SP_OK, "%s", a.text);
	cr_assert_eq(decide(&bob, a.num, true, said), SP_OK, "%s", said);
	return a.num;
}

struct judging {
	bool done, has_grant;
	char rules[2000];
};

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct judging *g = arg;

	(void)ask;
	cr_assert_eq(e, SP_OK, "%s", j->reasons);
	g->done = true;
	g->has_grant = j->has_grant;
	sp_rules_show(g->rules, sizeof(g->rules), sp_span_of(j->verdict.rules,
	    j->verdict.n_rules));
	if (j->has_grant)
		cr_assert_eq(j->verdict.rights & ~j->permits.b[0], 0);
}

static void
may(const char *rules)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct judging g = {.done = false};

	sp_judge(rig.b, &alice, "admin", "core-01", judged, &g);
	fix_until(&rig.f, &g.done, 60000);
	cr_assert(g.has_grant);
	cr_assert_str_eq(g.rules, rules);
}

Test(flow_rights, a_request_narrows)
{
	rig_policy(WIDE);
	granted("shell,forward=db-01:5432");
	may("shell, forward to \"db-01:5432\"");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT rights FROM grants"), "33");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT q.rules = g.rules FROM requests q "
	    "JOIN grants g ON g.request_id = q.id"), "t");
	/* The audit log has it in words. */
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT detail::json->>'rules' FROM audit "
	    "WHERE event = 'request_approved'"), "shell, forward to \"db-01:5432\"");
}

Test(flow_rights, a_request_never_widens)
{
	static const char *const wishes[] = {"subsystem", "shell,subsystem",
	    "listen", "forward=db-03:1", "shell,forward=*:*,listen=localhost:1"};
	static const char *const wrong[] = {"agent", "shell;exec", "", "env"};

	rig_policy(WIDE);
	for (size_t i = 0; i < 4; i++) {
		struct asking a = ask_for(wishes[i]);

		cr_assert_eq(a.e, SP_ERR_INVAL, "%s: %s", wishes[i], a.text);
		cr_assert_not_null(strstr(a.text, "The policy does not allow"),
		    "%s", a.text);
		a = ask_for(wrong[i]);
		cr_assert_eq(a.e, SP_ERR_INVAL, "%s: %s", wrong[i], a.text);
		cr_assert_not_null(strstr(a.text, "is no right"), "%s", a.text);
	}
	/* Any place that is more is cut to what the policy names. */
	granted("shell,forward=*:*");
	may("shell, forward to \"db-01:5432\", \"db-02:*\"");
}

Test(flow_rights, what_was_approved_is_what_is_used)
{
	rig_policy(WITH("allow shell, exec limit file 1M"));
	granted(NULL);
	may("shell, exec; limit file 1M");
	/* The policy of later takes away, but gives nothing that was not asked. */
	rig_policy(WIDE);
	may("shell, exec; limit file 1M");
	rig_policy(WITH("allow exec, upload limit idle 5m"));
	may("exec; limit file 1M, idle 5m");
}

Test(flow_rights, an_approval_gives_what_the_policy_of_then_permits)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct asking a;
	char said[1024];

	rig_policy(WIDE);
	a = ask_for("shell,upload");
	cr_assert_eq(a.e, SP_OK, "%s", a.text);
	rig_policy(WITH("allow shell"));
	cr_assert_eq(decide(&bob, a.num, true, said), SP_OK, "%s", said);
	cr_assert_not_null(strstr(said, ": shell."), "%s", said);
	rig_policy(WIDE);
	may("shell");
}

Test(flow_rights, nothing_left_is_nothing_to_approve)
{
	struct sp_actor bob = actor_of(rig.bob, "bob");
	struct asking a;
	char said[1024];

	rig_policy(WIDE);
	a = ask_for("upload");
	rig_policy(WITH("allow shell"));
	cr_assert_eq(decide(&bob, a.num, true, said), SP_ERR_DENIED, "%s", said);
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT count(*) FROM grants"), "0");
}

/* Somebody with a narrow grant may ask for more, and then has more. */
Test(flow_rights, the_grant_that_permits_more_counts)
{
	struct asking a;

	rig_policy(WIDE);
	granted("exec");
	may("exec");
	a = ask_for(NULL);
	cr_assert_eq(a.e, SP_ERR_INVAL);
	cr_assert_not_null(strstr(a.text, "There is a grant already"), "%s", a.text);
	a = ask_for("exec");
	cr_assert_eq(a.e, SP_ERR_INVAL);
	granted("shell,exec");
	may("shell, exec");
}

Test(flow_rights, an_open_request_that_is_narrower_is_another)
{
	struct asking a, b;

	rig_policy(WIDE);
	a = ask_for("shell");
	b = ask_for("shell,exec");
	cr_assert_eq(b.e, SP_OK, "%s", b.text);
	cr_assert_neq(a.num, b.num);
	a = ask_for("exec");
	cr_assert_eq(a.num, b.num, "the wider one covers it");
	cr_assert_not_null(strstr(a.text, "is open already"), "%s", a.text);
	cr_assert_not_null(strstr(a.text, "It asks for: shell, exec."), "%s", a.text);
}

/* Rules changed by hand break the seal, and a grant without them as well. */
Test(flow_rights, rules_are_under_the_seal)
{
	struct sp_actor alice = actor_of(rig.alice, "alice");
	struct judging g = {.done = false};

	rig_policy(WIDE);
	granted("exec");
	fix_sql(&rig.f, "ALTER TABLE grants DISABLE TRIGGER ALL");
	fix_sql(&rig.f, "UPDATE grants SET rules = NULL");
	sp_judge(rig.b, &alice, "admin", "core-01", judged, &g);
	fix_until(&rig.f, &g.done, 60000);
	cr_assert(!g.has_grant);
	want_audit("row_seal_broken");
}

static void
live(struct ing *i, struct legs *g)
{
	ing_new(i);
	rig.f.fake->step++;
	cr_assert_eq(ing_login(i, "alice", "key-a", "123456"), SP_DIALOG_OK);
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

Test(flow_rights, a_policy_that_takes_something_away_ends_the_session)
{
	struct legs g;
	struct ing i;

	rig_policy(WIDE);
	granted("shell,upload");
	live(&i, &g);
	cr_expect_str_eq(g.rules, "shell, upload; path forbid upload \"/etc/**\"");
	cr_expect_str_eq(fix_sql(&rig.f, "SELECT rules FROM sessions"), g.rules);
	/* What it does not have may go, and more may come. */
	rig_policy(WITH("allow shell, upload, subsystem path forbid upload "
	    "\"/etc/**\""));
	turns(300);
	rig_policy(WITH("allow shell, upload path forbid upload \"/etc/**\", "
	    "\"/boot/**\""));
	cr_expect_eq(want_rec_end(&g), SP_END_POLICY);
	legs_closed(&g, SP_END_POLICY, "x");
	legs_fini(&g);
	ing_fini(&i);
}
