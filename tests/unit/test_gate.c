/* SPDX-License-Identifier: Apache-2.0 */
/* A second person at a real recorder: freeze, hold, release, refuse. */
#include <sys/socket.h>

#include "tests/unit/rec_check.h"
#include "tests/unit/rec_rig.h"

#define LONG 30000

static struct sp_rules by_two = {.rights = SP_RIGHT_ALL,
    .hold = SP_HOLD_LINES, .n_env = 1, .env = {"*"}};
static const struct rig_opt two = {.rules = &by_two};
static const struct rig_opt one = {.rights = SP_RIGHT_ALL};

static unsigned want_held, want_events;
static size_t want_target, want_user;
static bool want_notice;

static bool
is_there(struct rig *g)
{
	return g->n_held >= want_held && g->at_target.len >= want_target &&
	    g->at_user.len >= want_user && g->n_opened >= want_events &&
	    (!want_notice || g->notice[0] != '\0');
}

static void
await(struct rig *g)
{
	rig_pump(g, is_there, LONG);
	cr_assert(is_there(g), "held %u, target \"%.*s\", opened %u", g->n_held,
	    (int)g->at_target.len, (const char *)g->at_target.p + g->at_target.off,
	    g->n_opened);
}

static void
await_target(struct rig *g, const char *all)
{
	want_target = strlen(all);
	await(g);
	cr_assert(sp_span_is(sp_buf_span(&g->at_target), all), "\"%.*s\"",
	    (int)g->at_target.len, (const char *)g->at_target.p + g->at_target.off);
}

/* What was said before has been judged once this has gone round. */
static void
round_trip(struct rig *g)
{
	rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_str("."));
	want_user = g->at_user.len + 1;
	await(g);
}

static void
begin(struct rig *g, const struct rig_opt *o)
{
	want_held = want_events = 0;
	want_target = want_user = 0;
	want_notice = false;
	rig_start(g, o);
	rig_session(g, o);
}

static void
type(struct rig *g, const char *s)
{
	rig_send_user(g, SP_FRAME_DATA, 1, sp_span_str(s));
}

static void
steer(struct rig *g, uint8_t deed, uint64_t number)
{
	struct sp_msg_rec_steer m = {.deed = deed, .number = number,
	    .who = sp_span_str("carol"), .text = sp_span_str("look")};

	cr_assert_eq(sp_send_rec_steer(&g->brk, 0, &m, NULL), SP_OK);
}

static void
finish(struct rig *g)
{
	shutdown(g->user.fd, SHUT_WR);
	rig_wait_closed(g);
	cr_assert_eq(rig_wait_exit(g), 0);
	rig_stop(g);
}

Test(gate, a_line_waits_until_it_is_released, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	type(&g, "ls -l");
	await_target(&g, "ls -l");
	type(&g, "\r");
	want_held = 1;
	await(&g);
	cr_assert_eq(g.held_kind, SP_HELD_LINE);
	round_trip(&g);
	await_target(&g, "ls -l");
	steer(&g, SP_STEER_RELEASE, g.held[0] + 1);
	round_trip(&g);
	await_target(&g, "ls -l");
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	await_target(&g, "ls -l\r");
	cr_assert_eq(g.held[0], 0);
	finish(&g);
}

Test(gate, each_line_of_what_is_pasted_waits, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	type(&g, "a\rb\nc");
	want_held = 1;
	await(&g);
	await_target(&g, "a");
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	want_held = 2;
	await(&g);
	await_target(&g, "a\rb");
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	await_target(&g, "a\rb\nc");
	/* Keys that a line editor or a terminal takes for the end of a line. */
	type(&g, "\x0f");
	want_held = 3;
	await(&g);
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	await_target(&g, "a\rb\nc\x0f");
	type(&g, "\x04");
	want_held = 4;
	await(&g);
	round_trip(&g);
	await_target(&g, "a\rb\nc\x0f");
	finish(&g);
}

Test(gate, a_refused_line_is_taken_away, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	type(&g, "rm -rf /\rexit\r");
	want_held = 1;
	await(&g);
	steer(&g, SP_STEER_REFUSE, g.held[0]);
	await_target(&g, "rm -rf /\x03");
	round_trip(&g);
	cr_assert_eq(g.credit_user, strlen("\rexit\r") - 1);
	cr_assert_not_null(strstr(g.notice, "carol refused this line"));
	type(&g, "w\r");
	want_held = 2;
	await(&g);
	await_target(&g, "rm -rf /\x03w");
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	await_target(&g, "rm -rf /\x03w\r");
	{
		SP_BUF_AUTO said = recorded(&g, SP_RECORD_SAID);

		cr_assert(sp_span_eq(sp_buf_span(&said), sp_span_of("\0\003", 2)));
	}
	finish(&g);
}

static void
open_exec(struct rig *g, const char *command)
{
	struct sp_open o = {.kind = SP_OPEN_EXEC, .command = sp_span_str(command),
	    .term = sp_span_str("")};
	SP_BUF_AUTO b = {.max = 40000};

	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	rig_send_user(g, SP_FRAME_OPEN, 2, sp_buf_span(&b));
}

Test(gate, a_command_waits_before_the_target_hears_of_it, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	open_exec(&g, "reboot\x1b");
	want_held = 1;
	await(&g);
	cr_assert_eq(g.held_kind, SP_HELD_COMMAND);
	cr_assert_str_eq(g.held_text, "reboot\\x1b");
	round_trip(&g);
	cr_assert_eq(g.n_opened, 0);
	steer(&g, SP_STEER_RELEASE, g.held[0]);
	want_events = 1;
	await(&g);
	finish(&g);
}

Test(gate, a_refused_command_is_never_opened, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	open_exec(&g, "reboot");
	want_held = 1;
	await(&g);
	steer(&g, SP_STEER_REFUSE, g.held[0]);
	type(&g, "x");
	await_target(&g, "x");
	cr_assert_eq(g.n_opened, 0);
	cr_assert_not_null(strstr(g.events, "channel_refused 2 a second person"));
	finish(&g);
}

Test(gate, nothing_waits_without_the_rule, .timeout = 120)
{
	struct rig g;

	begin(&g, &one);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	type(&g, "a\rb\r");
	await_target(&g, "a\rb\r");
	cr_assert_eq(g.n_held, 0);
	finish(&g);
}

Test(gate, nothing_passes_while_it_is_frozen, .timeout = 120)
{
	struct rig g;

	begin(&g, &one);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	steer(&g, SP_STEER_FREEZE, 0);
	want_notice = true;
	await(&g);
	cr_assert_not_null(strstr(g.notice, "carol froze this session: look"));
	type(&g, "typed");
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("shown"));
	/* The broker's words go past it: both stand there, and nothing passed. */
	g.notice[0] = '\0';
	cr_assert_eq(sp_send_rec_note(&g.brk, 0, &(struct sp_msg_rec_note){
	    .show = 1, .text = sp_span_str("still")}, NULL), SP_OK);
	await(&g);
	cr_assert_str_eq(g.notice, "still");
	cr_assert_eq(g.at_target.len, 0);
	cr_assert_eq(g.at_user.len, 0);
	steer(&g, SP_STEER_RESUME, 0);
	want_user = 5;
	await_target(&g, "typed");
	cr_assert_not_null(strstr(g.notice, "carol resumed this session"));
	finish(&g);
}

Test(gate, who_leaves_a_frozen_session_ends_it, .timeout = 120)
{
	struct rig g;

	begin(&g, &one);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	steer(&g, SP_STEER_FREEZE, 0);
	want_notice = true;
	await(&g);
	type(&g, "never");
	shutdown(g.user.fd, SHUT_WR);
	rig_wait_closed(&g);
	cr_assert_eq(g.closed.code, SP_END_LEG_DIED);
	cr_assert_eq(g.at_target.len, 0);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(gate, who_leaves_while_a_line_waits_ends_it, .timeout = 120)
{
	struct rig g;

	begin(&g, &two);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	type(&g, "x\r");
	want_held = 1;
	await(&g);
	shutdown(g.user.fd, SHUT_WR);
	rig_wait_closed(&g);
	cr_assert_eq(g.closed.code, SP_END_LEG_DIED);
	await_target(&g, "x");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(gate, it_can_be_killed_while_it_is_frozen, .timeout = 120)
{
	struct sp_msg_rec_end end = {.code = SP_END_KILLED,
	    .text = sp_span_str("ended by bob")};
	struct rig g;

	begin(&g, &one);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	steer(&g, SP_STEER_FREEZE, 0);
	type(&g, "never");
	cr_assert_eq(sp_send_rec_end(&g.brk, 0, &end, NULL), SP_OK);
	rig_wait_closed(&g);
	cr_assert_eq(g.closed.code, SP_END_KILLED);
	cr_assert_eq(g.at_target.len, 0);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(gate, a_deed_that_is_none_ends_it, .timeout = 120)
{
	struct rig g;

	begin(&g, &one);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	steer(&g, 9, 0);
	rig_wait_closed(&g);
	cr_assert_eq(g.closed.code, SP_END_BROKER);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}
