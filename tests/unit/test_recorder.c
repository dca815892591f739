/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder as it runs: executed, confined, between two legs of ours. */
#include <sys/socket.h>

#include <poll.h>

#include "recorder/channels.h"
#include "recorder/idle.h"
#include "tests/unit/rec_check.h"

Test(recorder, a_session_from_end_to_end, .timeout = 30)
{
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("ls\r"));
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("file\r\n"));
	rig_send_target(&g, SP_FRAME_DATA, 2, 1, sp_span_str("oops\r\n"));
	rig_send_target(&g, SP_FRAME_EXIT_STATUS, 0, 1, sp_span_of("\3\0\0\0", 4));
	rig_send_target(&g, SP_FRAME_EOF, 0, 1, none);
	rig_send_target(&g, SP_FRAME_CLOSE, 0, 1, none);
	rig_pump(&g, NULL, 300);
	cr_assert(sp_span_is(sp_buf_span(&g.at_target), "ls\r"));
	cr_assert(sp_span_is(sp_buf_span(&g.at_user), "file\r\noops\r\n"));
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	cr_assert_eq(g.closed.bytes_in, 3);
	cr_assert_eq(g.closed.bytes_out, 12);
	cr_assert(g.user_end && g.target_end && g.end_code == SP_END_NORMAL);
	cr_assert_not_null(strstr(g.events, "channel_open 1 shell (pty 80x24)"));
	check_recorded(&g, SP_RECORD_IN, "ls\r");
	check_recorded(&g, SP_RECORD_OUT, "file\r\n");
	check_recorded(&g, SP_RECORD_ERR, "oops\r\n");
	check_recorded(&g, SP_RECORD_META, "{\"user\":\"alice\"}");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(recorder, what_is_not_permitted_is_refused, .timeout = 30)
{
	struct rig_opt o = {.rights = SP_RIGHT_EXEC};
	struct sp_open open = {.kind = SP_OPEN_SHELL};
	SP_BUF_AUTO b = {.max = 1024};
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	cr_assert_eq(sp_open_encode(&b, &open), SP_OK);
	rig_send_user(&g, SP_FRAME_OPEN, 1, sp_buf_span(&b));
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("early"));
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	rig_open(&g, 2, SP_OPEN_EXEC, "id");
	rig_send_user(&g, SP_FRAME_DATA, 2, sp_span_str("fine"));
	rig_send_user(&g, SP_FRAME_CLOSE, 2, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	cr_assert(sp_span_is(sp_buf_span(&g.at_target), "fine"));
	cr_assert_not_null(strstr(g.events, "channel_refused 1"));
	check_recorded(&g, SP_RECORD_OPEN_FAIL,
	    "a shell is not permitted in this session");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(recorder, the_broker_ends_it, .timeout = 30)
{
	struct sp_msg_rec_note note = {.show = 1, .text = sp_span_str("5 min")};
	struct sp_msg_rec_end end = {.code = SP_END_KILLED,
	    .text = sp_span_str("ended by bob")};
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	cr_assert_eq(sp_send_rec_note(&g.brk, 0, &note, NULL), SP_OK);
	cr_assert_eq(sp_send_rec_end(&g.brk, 0, &end, NULL), SP_OK);
	rig_wait_closed(&g);
	rig_pump(&g, NULL, 50);
	check_intact(&g, SP_END_KILLED);
	cr_assert(g.user_end && g.target_end);
	cr_assert_eq(g.end_code, SP_END_KILLED);
	cr_assert_str_eq(g.end_text, "ended by bob");
	cr_assert_str_eq(g.notice, "5 min");
	check_recorded(&g, SP_RECORD_NOTICE, "5 min");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

static void
ends_with(void (*act)(struct rig *), enum sp_end_code code)
{
	struct sp_rec_report r;
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	act(&g);
	cr_assert_eq(rig_wait_exit(&g), 0);
	cr_assert_eq(sp_rec_verify(g.file, g.v.audit_pk, NULL, &r),
	    SP_REC_INTACT, "%s", r.text);
	cr_assert_eq(r.code, code, "%u: %s", r.code, r.reason);
	rig_stop(&g);
}

static void
user_dies(struct rig *g)
{
	sp_stream_fini(&g->user);
}

static void
target_dies(struct rig *g)
{
	sp_stream_fini(&g->target);
}

static void
broker_dies(struct rig *g)
{
	sp_link_fini(&g->brk);
}

Test(recorder, a_dead_leg_or_broker_ends_it, .timeout = 30)
{
	ends_with(user_dies, SP_END_LEG_DIED);
	ends_with(target_dies, SP_END_LEG_DIED);
	ends_with(broker_dies, SP_END_BROKER);
}

/* Frames that a captured leg might send; each ends the session. A channel 1 is
 * open, the target has closed channel 2, which the user has not. */
static const struct {
	const char *name;
	bool from_user;
	uint8_t type, lane;
	uint32_t chan;
	size_t n;
	const char *bytes;
} breakers[] = {
    {"data on no channel", true, SP_FRAME_DATA, 0, 9, 1, "x"},
    {"a number twice", true, SP_FRAME_OPEN, 0, 1, 0, NULL},
    {"a broken OPEN", true, SP_FRAME_OPEN, 0, 7, 3, "abc"},
    {"output from the user", true, SP_FRAME_DATA, 1, 1, 1, "x"},
    {"input from the target", false, SP_FRAME_DATA, 0, 1, 1, "x"},
    {"a third lane", false, SP_FRAME_DATA, 3, 1, 1, "x"},
    {"an answer of the user", true, SP_FRAME_OPEN_OK, 0, 1, 0, ""},
    {"a second answer", false, SP_FRAME_OPEN_OK, 0, 1, 0, ""},
    {"a late refusal", false, SP_FRAME_OPEN_FAIL, 0, 1, 5, "\1\0\0\0a"},
    {"data after CLOSE", false, SP_FRAME_DATA, 1, 2, 1, "x"},
    {"a second CLOSE", false, SP_FRAME_CLOSE, 0, 2, 0, ""},
    {"OPEN from the target", false, SP_FRAME_OPEN, 0, 8, 0, NULL},
    {"NOTICE from the target", false, SP_FRAME_NOTICE, 0, 1, 5, "\1\0\0\0a"},
    {"NOTICE to all", false, SP_FRAME_NOTICE, 0, 0, 5, "\1\0\0\0a"},
    {"END from the target", false, SP_FRAME_END, 0, 0, 5, "\1\0\0\0\0"},
    {"END from the user", true, SP_FRAME_END, 0, 0, 5, "\1\0\0\0\0"},
    {"HANDOVER", false, SP_FRAME_HANDOVER, 0, 1, 0, ""},
    {"a short WINDOW", true, SP_FRAME_WINDOW, 0, 1, 8, "\0\0\0\0\0\0\0\0"},
    {"a short status", false, SP_FRAME_EXIT_STATUS, 0, 1, 2, "\0\0"},
    {"a broken signal", true, SP_FRAME_SIGNAL, 0, 1, 3, "KIL"},
    {"a broken exit signal", false, SP_FRAME_EXIT_SIGNAL, 0, 1, 3, "abc"},
    {"a short CREDIT", true, SP_FRAME_CREDIT, 0, 1, 2, "\1\0"},
    {"no such type", true, 77, 0, 1, 0, ""},
};
#define N_BREAKERS (sizeof(breakers) / sizeof(breakers[0]))

static void
send_breaker(struct rig *g, size_t i)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL};
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_stream *s = breakers[i].from_user ? &g->user : &g->target;
	struct sp_span p = sp_span_of(breakers[i].bytes, breakers[i].n);

	if (breakers[i].bytes == NULL) {
		cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
		p = sp_buf_span(&b);
	}
	cr_assert_eq(sp_stream_put(s, breakers[i].type, breakers[i].lane,
	    breakers[i].chan, p), SP_OK);
	(void)!sp_stream_flush(s);
}

Test(recorder, a_broken_protocol_ends_it, .timeout = 60)
{
	struct rig g;

	for (size_t i = 0; i < N_BREAKERS; i++) {
		rig_start(&g, &usual);
		rig_session(&g, &usual);
		rig_open(&g, 1, SP_OPEN_SHELL, "");
		rig_open(&g, 2, SP_OPEN_SHELL, "");
		rig_send_target(&g, SP_FRAME_CLOSE, 0, 2, none);
		send_breaker(&g, i);
		rig_wait_closed(&g);
		cr_assert_eq(g.closed.code, SP_END_PROTOCOL, "%s: %u %s",
		    breakers[i].name, g.closed.code, g.reason);
		cr_assert_not_null(strstr(g.events, "protocol_broken"), "%s",
		    breakers[i].name);
		check_intact(&g, SP_END_PROTOCOL);
		cr_assert_eq(rig_wait_exit(&g), 0);
		rig_stop(&g);
	}
}

/* More than was granted, in each direction. */
Test(recorder, credit_is_enforced, .timeout = 60)
{
	uint8_t *block = calloc(1, SP_FRAME_PAYLOAD_MAX);
	struct rig g;

	cr_assert_not_null(block);
	for (int dir = 0; dir < 2; dir++) {
		rig_start(&g, &usual);
		rig_session(&g, &usual);
		rig_open(&g, 1, SP_OPEN_SHELL, "");
		for (size_t n = 0; n < SP_STREAM_WINDOW; n += 65536) {
			cr_assert_eq(sp_stream_put(dir == 0 ? &g.user : &g.target,
			    SP_FRAME_DATA, (uint8_t)dir, 1,
			    sp_span_of(block, 65536)), SP_OK);
			rig_pump(&g, NULL, 1);
		}
		rig_pump(&g, NULL, 200);
		cr_assert(!rig_is_closed(&g), "%s", g.reason);
		cr_assert_eq(dir == 0 ? g.at_target.len : g.at_user.len,
		    SP_STREAM_WINDOW);
		cr_assert_eq(sp_stream_put(dir == 0 ? &g.user : &g.target,
		    SP_FRAME_DATA, (uint8_t)dir, 1, sp_span_of(block, 1)), SP_OK);
		rig_wait_closed(&g);
		check_intact(&g, SP_END_PROTOCOL);
		check_nothing_unrecorded(&g);
		cr_assert_eq(rig_wait_exit(&g), 0);
		rig_stop(&g);
	}
	free(block);
}

Test(recorder, at_most_so_many_channels, .timeout = 30)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL};
	SP_BUF_AUTO b = {.max = 1024};
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	for (uint32_t i = 1; i <= SP_STREAM_CHANNELS_MAX; i++)
		rig_open(&g, i, SP_OPEN_EXEC, "x");
	for (uint32_t i = 2; i <= 3; i++) {
		rig_send_user(&g, SP_FRAME_CLOSE, i, none);
		rig_send_target(&g, SP_FRAME_CLOSE, 0, i, none);
	}
	rig_pump(&g, NULL, 100);
	rig_open(&g, 100, SP_OPEN_EXEC, "a place is free again");
	rig_open(&g, 90, SP_OPEN_EXEC, "and another");
	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	/* One more is refused, as one without the right is. */
	rig_send_user(&g, SP_FRAME_OPEN, 101, sp_buf_span(&b));
	rig_send_user(&g, SP_FRAME_CLOSE, 101, none);
	rig_send_user(&g, SP_FRAME_DATA, 100, sp_span_str("on it goes"));
	while (g.at_target.len < 10)
		rig_pump(&g, NULL, 20);
	cr_assert_not_null(strstr(g.events, "channel_refused 101 there are too "
	    "many channels at once, 64 are allowed"));
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_LEG_DIED);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

static void
open_with_env(struct rig *g, uint32_t chan)
{
	struct sp_open o = {.kind = SP_OPEN_EXEC, .command = sp_span_str("id")};
	SP_BUF_AUTO env = {.max = 1024};
	SP_BUF_AUTO b = {.max = 2048};
	static const char *const pairs[] = {"LANG", "C.UTF-8", "LD_PRELOAD",
	    "/tmp/evil.so", "LC_ALL", "C"};

	for (size_t i = 0; i < 6; i++)
		cr_assert_eq(sp_buf_put_bytes(&env, sp_span_str(pairs[i])), SP_OK);
	o.env = sp_buf_span(&env);
	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	rig_send_user(g, SP_FRAME_OPEN, chan, sp_buf_span(&b));
}

/* The payload of the OPEN that came out at the target. */
static void
take_open(struct rig *g, struct sp_buf *to)
{
	struct sp_frame f;
	enum sp_err e;

	while ((e = sp_stream_next(&g->target, &f)) == SP_ERR_AGAIN) {
		struct pollfd pf = {.fd = g->target.fd, .events = POLLIN};

		cr_assert(poll(&pf, 1, 20000) == 1, "OPEN did not arrive");
		cr_assert_eq(sp_stream_fill(&g->target), SP_OK);
	}
	cr_assert_eq(e, SP_OK);
	cr_assert_eq(f.type, SP_FRAME_OPEN);
	cr_assert_eq(sp_buf_put(to, f.payload.p, f.payload.n), SP_OK);
}

Test(recorder, variables_that_the_rules_do_not_name_go_nowhere, .timeout = 60)
{
	static struct sp_rules rules = {.rights = SP_RIGHT_EXEC, .n_env = 2,
	    .env = {"LANG", "LC_*"}};
	struct rig_opt o = {.rules = &rules};
	SP_BUF_AUTO at_target = {.max = 4096};
	SP_BUF_AUTO kept = {.max = 4096};
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	open_with_env(&g, 1);
	take_open(&g, &at_target);
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	kept = recorded(&g, SP_RECORD_OPEN);
	cr_assert(sp_span_eq(sp_buf_span(&kept), sp_buf_span(&at_target)),
	    "what is recorded is what was sent on");
	cr_assert_null(memmem(at_target.p, at_target.len, "LD_PRELOAD", 10));
	cr_assert_null(memmem(at_target.p, at_target.len, "evil", 4));
	cr_assert_not_null(memmem(at_target.p, at_target.len, "C.UTF-8", 7));
	cr_assert_not_null(memmem(at_target.p, at_target.len, "LC_ALL", 6));
	cr_assert_not_null(strstr(g.events, "env_dropped 1 variable LD_PRELOAD"));
	cr_assert_null(strstr(g.events, "variable LANG"));
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

/* sftp is a right to move files, not one to any subsystem. */
Test(recorder, sftp_needs_upload_or_download, .timeout = 60)
{
	static const struct {
		uint32_t rights;
		const char *name;
		bool ok;
	} t[] = {{SP_RIGHT_SUBSYSTEM, "sftp", false},
	    {SP_RIGHT_UPLOAD, "sftp", true}, {SP_RIGHT_DOWNLOAD, "sftp", true},
	    {SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD, "netconf", false},
	    {SP_RIGHT_SUBSYSTEM, "netconf", true}, {0, "netconf", false},
	    {SP_RIGHT_ALL & ~(uint32_t)SP_RIGHT_SUBSYSTEM, "sftp2", false}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		static struct sp_rules rules;
		static struct sp_channels s;
		struct sp_open o = {.kind = SP_OPEN_SUBSYSTEM,
		    .command = sp_span_str(t[i].name)};
		SP_BUF_AUTO b = {.max = 256};
		struct sp_frame f = {.type = SP_FRAME_OPEN, .chan = 1};

		rules = (struct sp_rules){.rights = t[i].rights};
		sp_channels_init(&s, &rules);
		cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
		f.payload = sp_buf_span(&b);
		cr_assert_eq(sp_channels_judge(&s, &f, true), t[i].ok ?
		    SP_FRAME_PASS : SP_FRAME_REFUSE, "%s with %x", t[i].name,
		    t[i].rights);
	}
}

Test(recorder, who_is_silent_is_told_and_ended, .timeout = 120)
{
	static struct sp_rules rules = {.rights = SP_RIGHT_SHELL, .idle_s = 2};
	struct rig_opt o = {.rules = &rules};
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	/* What the target says keeps nothing awake. */
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("tick"));
	rig_wait_closed(&g);
	rig_pump(&g, NULL, 50);
	check_intact(&g, SP_END_IDLE);
	cr_assert_not_null(strstr(g.notice, "ends in 1 seconds"), "%s", g.notice);
	cr_assert_not_null(strstr(g.end_text, "idle limit"), "%s", g.end_text);
	cr_assert_eq(g.end_code, SP_END_IDLE);
	check_recorded(&g, SP_RECORD_NOTICE, g.notice);
	rig_stop(&g);
}

/* Whoever looks late is told once and ended at the limit, not before. */
Test(recorder, the_clock_of_silence)
{
	struct sp_idle i = {.limit_s = 900};

	cr_assert_eq(sp_idle_next(&(struct sp_idle){0}), INT64_MAX);
	cr_assert_eq(sp_idle_look(&(struct sp_idle){0}, INT64_MAX), SP_IDLE_NO);
	sp_idle_touch(&i, 1000);
	cr_assert_eq(sp_idle_next(&i), 1000 + 840 * INT64_C(1000000));
	cr_assert_eq(sp_idle_look(&i, sp_idle_next(&i) - 1), SP_IDLE_NO);
	cr_assert_eq(sp_idle_look(&i, sp_idle_next(&i)), SP_IDLE_WARN);
	cr_assert_eq(sp_idle_next(&i), 1000 + 900 * INT64_C(1000000));
	cr_assert_eq(sp_idle_look(&i, sp_idle_next(&i) - 1), SP_IDLE_NO);
	cr_assert_eq(sp_idle_look(&i, sp_idle_next(&i)), SP_IDLE_OVER);
	sp_idle_touch(&i, 5);
	cr_assert_eq(sp_idle_next(&i), 5 + 840 * INT64_C(1000000), "told again");
	i.limit_s = 90;
	cr_assert_eq(sp_idle_notice_s(&i), 45);
}
