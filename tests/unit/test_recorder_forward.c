/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded connections through the recorder as it runs: judged, recorded,
 * counted, hashed, and told to the broker. */
#include <openssl/sha.h>
#include <poll.h>
#include <sys/socket.h>

#include "tests/unit/rec_check.h"

#define REV (SP_STREAM_REVERSE + 1)

static const struct sp_rules forwards = {.rights = SP_RIGHT_FORWARD |
    SP_RIGHT_LISTEN | SP_RIGHT_EXEC, .n_forward = 1, .n_listen = 1,
    .forward = {{.host = "db", .low = 5432, .high = 5432}},
    .listen = {{.host = "localhost", .low = 0, .high = 65535}}};

static struct sp_span
open_of(struct sp_buf *b, struct sp_open o)
{
	sp_buf_reset(b);
	cr_assert_eq(sp_open_encode(b, &o), SP_OK);
	return sp_buf_span(b);
}

static bool
is_event(struct rig *g, const char *what)
{
	return strstr(g->events, what) != NULL;
}

static const char *awaited;

static bool
has_event(struct rig *g)
{
	return is_event(g, awaited);
}

static void
await(struct rig *g, const char *what)
{
	awaited = what;
	rig_pump(g, has_event, 20000);
	cr_assert(is_event(g, what), "no \"%s\" in: %s", what, g->events);
}

/* The last record of a flow: bytes and sums of both ways. */
static void
check_flow(struct rig *g, const char *sent, const char *received)
{
	SP_BUF_AUTO b = recorded(g, SP_RECORD_FLOW);
	const struct { const char *text; size_t at; } ways[] = {
	    {sent, 8}, {received, 48}};
	const size_t record = 8 + 3 * 40;
	const uint8_t *p;

	cr_assert(b.len >= record && b.len % record == 0, "%zu", b.len);
	p = sp_buf_span(&b).p + b.len - record;
	for (int i = 0; i < 2; i++) {
		struct sp_span s = sp_span_of(p + ways[i].at, 40);
		uint8_t sum[32];
		uint64_t n = 0;

		cr_assert_eq(sp_get_u64(&s, &n), SP_OK);
		cr_assert_eq(n, strlen(ways[i].text), "%lu", (unsigned long)n);
		SHA256((const uint8_t *)ways[i].text, n, sum);
		cr_assert_eq(memcmp(sum, s.p, 32), 0);
	}
}

static void
forward_talks(struct rig *g)
{
	SP_BUF_AUTO b = {.max = 4096};

	rig_send_user(g, SP_FRAME_OPEN, 1, open_of(&b, (struct sp_open){
	    .kind = SP_OPEN_FORWARD, .host = sp_span_str("db"), .port = 5432,
	    .origin = sp_span_str("127.0.0.1"), .origin_port = 50000}));
	await(g, "channel_open 1 forward to db port 5432, from 127.0.0.1 port "
	    "50000");
	rig_send_target(g, SP_FRAME_OPEN_OK, 0, 1, none);
	rig_send_user(g, SP_FRAME_DATA, 1, sp_span_str("select"));
	rig_send_user(g, SP_FRAME_DATA, 1, sp_span_str(" 1"));
	rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_str("one row"));
	rig_send_target(g, SP_FRAME_CLOSE, 0, 1, none);
	rig_send_user(g, SP_FRAME_CLOSE, 1, none);
	await(g, "forward_closed 1 forward to db port 5432, from 127.0.0.1 port "
	    "50000: ");
	cr_assert(is_event(g, "sent 8 bytes sha256="));
	cr_assert(is_event(g, "received 7 bytes sha256="));
	cr_assert_eq(shutdown(g->user.fd, SHUT_WR), 0);
	rig_wait_closed(g);
	check_intact(g, SP_END_NORMAL);
	cr_assert(sp_span_is(sp_buf_span(&g->at_target), "select 1"));
	cr_assert(sp_span_is(sp_buf_span(&g->at_user), "one row"));
	check_flow(g, "select 1", "one row");
}

Test(recorder_forward, counted_hashed_and_recorded, .timeout = 60)
{
	struct rig_opt o = {.rules = &forwards};
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	forward_talks(&g);
	check_recorded(&g, SP_RECORD_IN, "select 1");
	check_recorded(&g, SP_RECORD_OUT, "one row");
	check_nothing_unrecorded(&g);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

/* Where the rules keep digests of bulk content: no byte, but its sum. */
Test(recorder_forward, digests_instead_of_bytes, .timeout = 60)
{
	static struct sp_rules r;
	struct rig_opt o = {.rules = &r};
	struct rig g;

	r = forwards;
	r.exec_body = SP_BODY_DIGEST;
	rig_start(&g, &o);
	rig_session(&g, &o);
	forward_talks(&g);
	check_recorded(&g, SP_RECORD_IN, "");
	check_recorded(&g, SP_RECORD_OUT, "");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

/* A session that is cut while bytes pass has the sum of those that passed. */
Test(recorder_forward, a_digest_that_nobody_closed, .timeout = 60)
{
	struct sp_msg_rec_end end = {.code = SP_END_KILLED,
	    .text = sp_span_str("ended by bob")};
	static struct sp_rules r;
	struct rig_opt o = {.rules = &r};
	struct rig g;

	r = forwards;
	r.exec_body = SP_BODY_DIGEST;
	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_EXEC, "tar c /");
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("archive"));
	while (g.at_user.len < 7)
		rig_pump(&g, NULL, 20);
	cr_assert_eq(sp_send_rec_end(&g.brk, 0, &end, NULL), SP_OK);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_KILLED);
	check_flow(&g, "", "archive");
	check_recorded(&g, SP_RECORD_OUT, "");
	cr_assert(is_event(&g, "exec_closed 1 exec: tar c /"));
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

/* The target's side learns why, and that it is over. */
static void
read_refusal(struct rig *g)
{
	enum sp_err e = SP_ERR_AGAIN;
	struct sp_frame f = {0};
	struct sp_span why;

	for (int i = 0; f.type != SP_FRAME_CLOSE; i++) {
		struct pollfd p = {.fd = g->target.fd, .events = POLLIN};

		cr_assert_lt(i, 100);
		while ((e = sp_stream_next(&g->target, &f)) == SP_ERR_AGAIN) {
			cr_assert_eq(poll(&p, 1, 20000), 1);
			cr_assert_eq(sp_stream_fill(&g->target), SP_OK);
		}
		cr_assert_eq(e, SP_OK);
		cr_assert_eq(f.chan, REV);
		if (f.type == SP_FRAME_OPEN_FAIL) {
			cr_assert_eq(sp_get_str(&f.payload, 1000, &why), SP_OK);
			cr_assert(sp_span_is(why, "nobody listens there: the target "
			    "opened a connection that was not asked for"));
			i = 90;
		}
	}
}

/* What is not permitted, from both sides; the session goes on. */
Test(recorder_forward, refused_and_the_session_goes_on, .timeout = 60)
{
	struct rig_opt o = {.rules = &forwards};
	SP_BUF_AUTO b = {.max = 4096};
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_send_user(&g, SP_FRAME_OPEN, 1, open_of(&b, (struct sp_open){
	    .kind = SP_OPEN_FORWARD, .host = sp_span_str("other"), .port = 22}));
	await(&g, "channel_refused 1 forwarding to other port 22 is not permitted "
	    "in this session");
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	sp_buf_reset(&b);
	cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("0.0.0.0")), SP_OK);
	cr_assert_eq(sp_buf_put_u32(&b, 8080), SP_OK);
	rig_send_user(&g, SP_FRAME_LISTEN, 2, sp_buf_span(&b));
	await(&g, "listener_refused 2 listening on 0.0.0.0 port 8080 is not "
	    "permitted in this session");
	rig_send_target(&g, SP_FRAME_OPEN, 0, REV, open_of(&b, (struct sp_open){
	    .kind = SP_OPEN_REVERSE, .host = sp_span_str("localhost"),
	    .port = 8080, .listen = 2}));
	read_refusal(&g);
	await(&g, "channel_refused 2147483649 nobody listens there");
	rig_send_target(&g, SP_FRAME_CLOSE, 0, REV, none);
	rig_open(&g, 3, SP_OPEN_EXEC, "id");
	rig_send_user(&g, SP_FRAME_DATA, 3, sp_span_str("fine"));
	rig_send_user(&g, SP_FRAME_CLOSE, 3, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	cr_assert(sp_span_is(sp_buf_span(&g.at_target), "fine"));
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(recorder_forward, what_comes_to_a_listener, .timeout = 60)
{
	struct rig_opt o = {.rules = &forwards};
	SP_BUF_AUTO b = {.max = 4096};
	struct sp_buf listened;
	struct rig g;

	rig_start(&g, &o);
	rig_session(&g, &o);
	cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("localhost")), SP_OK);
	cr_assert_eq(sp_buf_put_u32(&b, 0), SP_OK);
	rig_send_user(&g, SP_FRAME_LISTEN, 2, sp_buf_span(&b));
	rig_pump(&g, NULL, 100);
	rig_send_target(&g, SP_FRAME_LISTEN_OK, 0, 2, sp_span_of("\x90\x1f\0\0",
	    4));
	await(&g, "listener_open 2 localhost port 8080 at the target");
	rig_send_target(&g, SP_FRAME_OPEN, 0, REV, open_of(&b, (struct sp_open){
	    .kind = SP_OPEN_REVERSE, .host = sp_span_str("localhost"),
	    .port = 8080, .origin = sp_span_str("10.0.0.7"),
	    .origin_port = 4711, .listen = 2}));
	await(&g, "connection to listener 2 on localhost port 8080, from 10.0.0.7 "
	    "port 4711");
	rig_send_user(&g, SP_FRAME_OPEN_OK, REV, none);
	rig_send_user(&g, SP_FRAME_DATA, REV, sp_span_str("pong"));
	rig_send_target(&g, SP_FRAME_DATA, 1, REV, sp_span_str("ping"));
	rig_send_user(&g, SP_FRAME_UNLISTEN, 2, none);
	await(&g, "listener_closed 2");
	rig_send_target(&g, SP_FRAME_CLOSE, 0, REV, none);
	rig_send_user(&g, SP_FRAME_CLOSE, REV, none);
	await(&g, "forward_closed");
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	check_flow(&g, "pong", "ping");
	listened = recorded(&g, SP_RECORD_LISTEN_OK);
	cr_assert(sp_span_eq(sp_buf_span(&listened),
	    sp_span_of("\x90\x1f\0\0", 4)));
	sp_buf_fini(&listened);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}
