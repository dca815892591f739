/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/peer.c conduit.c. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/broker/broker.h"

static struct sp_broker b;

static void
begin(void)
{
	signal(SIGPIPE, SIG_IGN);
	b = (struct sp_broker){.ev = event_base_new()};
}

static void
end(void)
{
	event_base_free(b.ev);
}

TestSuite(peer, .init = begin, .fini = end, .timeout = 30);
TestSuite(conduit, .init = begin, .fini = end, .timeout = 30);

static void
spin(void)
{
	/* Until nothing is left that is ready. */
	for (int i = 0; i < 50; i++)
		event_base_loop(b.ev, EVLOOP_NONBLOCK);
}

/* -------------------------------------------------------------------- peer */

struct seen {
	unsigned packets, ends, drop_at;
	char fault[200];
	struct sp_peer *p;
	int fd;
};

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct seen *s = arg;

	s->packets++;
	if (k->n_fds > 0)
		s->fd = k->fds[0];
	if (s->packets == s->drop_at)
		sp_peer_drop(p);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct seen *s = arg;

	cr_assert_eq(p, s->p);
	s->ends++;
	snprintf(s->fault, sizeof(s->fault), "%s", fault);
}

static void
pair(struct seen *s, struct sp_link *other, uint32_t role)
{
	int fds[2];

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(other, fds[1], role, SP_ROLE_BRK, SP_ST_READY), SP_OK);
	s->p = sp_peer_new(&b, fds[0], role, SP_ST_READY, on_packet, on_end, s);
	cr_assert_not_null(s->p);
}

static void
say(struct sp_link *l, unsigned n)
{
	struct sp_msg_rec_event m = {.what = sp_span_str("x")};

	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(sp_send_rec_event(l, 0, &m, NULL), SP_OK);
}

Test(peer, packets_then_end)
{
	struct seen s = {.fd = -1};
	struct sp_link l;

	pair(&s, &l, SP_ROLE_REC);
	say(&l, 150);
	spin();
	cr_assert_eq(s.packets, 150);
	sp_link_fini(&l);
	spin();
	cr_assert_eq(s.ends, 1);
	cr_assert_str_eq(s.fault, "");
}

Test(peer, broken_protocol_has_words)
{
	struct seen s = {.fd = -1};
	struct sp_link l;

	pair(&s, &l, SP_ROLE_REC);
	cr_assert_eq(sp_send_rec_opened(&l, 0, &(struct sp_msg_rec_opened){0}, NULL), SP_OK);
	say(&l, 1);
	spin();
	cr_assert_eq(s.packets, 0);
	cr_assert_eq(s.ends, 1);
	cr_assert_not_null(strstr(s.fault, "rec_opened"), "%s", s.fault);
	sp_link_fini(&l);
}

Test(peer, dropped_inside_its_own_callback)
{
	struct seen s = {.drop_at = 3, .fd = -1};
	struct sp_link l;
	struct sp_packet k;

	pair(&s, &l, SP_ROLE_REC);
	say(&l, 10);
	spin();
	cr_assert_eq(s.packets, 3);
	cr_assert_eq(s.ends, 0);
	cr_assert_eq(sp_link_recv(&l, &k), SP_ERR_EOF);
	sp_link_fini(&l);
}

Test(peer, last_words_are_sent)
{
	struct seen s = {.fd = -1};
	struct sp_link l;
	struct sp_packet k;

	pair(&s, &l, SP_ROLE_REC);
	sp_peer_sent(s.p, sp_send_rec_end(&s.p->link, 0,
	    &(struct sp_msg_rec_end){.code = 3}, NULL));
	sp_peer_drop(s.p);
	spin();
	cr_assert_eq(sp_link_recv(&l, &k), SP_OK);
	cr_assert_eq(k.type, SP_MSG_rec_end);
	cr_assert_eq(sp_link_recv(&l, &k), SP_ERR_EOF);
	sp_link_fini(&l);
}

Test(peer, one_that_does_not_read_is_ended)
{
	struct seen s = {.fd = -1};
	struct sp_link l;
	char text[1001];
	struct sp_msg_rec_note m = {.text = sp_span_of(text, 1000)};

	memset(text, 'x', sizeof(text));
	pair(&s, &l, SP_ROLE_REC);
	for (unsigned i = 0; i < 8000; i++)
		sp_peer_sent(s.p, sp_send_rec_note(&s.p->link, 0, &m, NULL));
	cr_assert_eq(s.ends, 0, "never from inside");
	spin();
	cr_assert_eq(s.ends, 1);
	cr_assert_not_null(strstr(s.fault, "does not read"));
	sp_link_fini(&l);
}

Test(peer, queued_packets_follow_when_it_reads_again)
{
	struct seen s = {.fd = -1};
	struct sp_link l;
	struct sp_packet k;
	char text[1001];
	struct sp_msg_rec_note m = {.text = sp_span_of(text, 1000)};
	unsigned got = 0;

	memset(text, 'x', sizeof(text));
	pair(&s, &l, SP_ROLE_REC);
	for (unsigned i = 0; i < 2000; i++)
		sp_peer_sent(s.p, sp_send_rec_note(&s.p->link, 0, &m, NULL));
	while (got < 2000) {
		while (sp_link_recv(&l, &k) == SP_OK)
			got++;
		event_base_loop(b.ev, EVLOOP_NONBLOCK);
	}
	cr_assert_eq(s.ends, 0);
	sp_peer_drop(s.p);
	spin();
	sp_link_fini(&l);
}

/* ----------------------------------------------------------------- conduit */

struct verb {
	unsigned opens, eofs, ends, windows;
	char input[64];
	struct sp_conduit *c;
	bool drop_on_input;
};

static void
v_open(void *arg, uint32_t chan, const struct sp_open *o)
{
	(void)chan;
	((struct verb *)arg)->opens += o->kind == SP_OPEN_EXEC;
}

static void
v_input(void *arg, uint32_t chan, struct sp_span bytes)
{
	struct verb *v = arg;
	size_t n = strlen(v->input);

	cr_assert_eq(chan, 1);
	if (bytes.n < sizeof(v->input) - n)
		memcpy(v->input + n, bytes.p, bytes.n);
	if (v->drop_on_input)
		sp_conduit_drop(v->c);
}

static void
v_eof(void *arg, uint32_t chan)
{
	(void)chan;
	((struct verb *)arg)->eofs++;
}

static void
v_window(void *arg, uint32_t chan, uint32_t cols, uint32_t rows)
{
	(void)chan;
	((struct verb *)arg)->windows += cols == 80 && rows == 24;
}

static void
v_end(void *arg)
{
	((struct verb *)arg)->ends++;
}

static const struct sp_conduit_ops ops = {.on_open = v_open, .on_input = v_input,
    .on_eof = v_eof, .on_window = v_window, .on_end = v_end};

static void
begin_verb(struct verb *v, struct sp_stream *user)
{
	int fds[2];

	cr_assert_eq(sp_stream_pair(fds), SP_OK);
	cr_assert_eq(sp_stream_init(user, fds[1], false), SP_OK);
	v->c = sp_conduit_new(&b, fds[0], &ops, v);
	cr_assert_not_null(v->c);
}

static void
user_open(struct sp_stream *user)
{
	SP_BUF_AUTO o = {.max = 1024};

	cr_assert_eq(sp_open_encode(&o, &(struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_str("help")}), SP_OK);
	cr_assert_eq(sp_stream_put(user, SP_FRAME_OPEN, 0, 1, sp_buf_span(&o)), SP_OK);
	cr_assert_eq(sp_stream_flush(user), SP_OK);
}

static bool
next(struct sp_stream *user, struct sp_frame *f)
{
	if (sp_stream_next(user, f) == SP_OK)
		return true;
	(void)!sp_stream_fill(user);
	return sp_stream_next(user, f) == SP_OK;
}

static void
expect(struct sp_stream *user, uint8_t type)
{
	struct sp_frame f;

	cr_assert(next(user, &f), "no %s", sp_frame_name(type));
	cr_assert_eq(f.type, type, "%s instead of %s", sp_frame_name(f.type),
	    sp_frame_name(type));
}

Test(conduit, what_is_written_before_open_waits)
{
	struct verb v = {0};
	struct sp_stream user;
	struct sp_frame f;

	begin_verb(&v, &user);
	sp_conduit_write(v.c, 1, 1, sp_span_str("hello"));
	sp_conduit_finish(v.c, 1, 7);
	spin();
	cr_assert(!next(&user, &f));
	user_open(&user);
	spin();
	expect(&user, SP_FRAME_OPEN_OK);
	cr_assert(next(&user, &f));
	cr_assert_eq(f.type, SP_FRAME_DATA);
	cr_assert_eq(f.lane, 1);
	cr_assert(sp_span_is(f.payload, "hello"));
	expect(&user, SP_FRAME_EOF);
	cr_assert(next(&user, &f));
	cr_assert_eq(f.type, SP_FRAME_EXIT_STATUS);
	cr_assert_eq(f.payload.p[0], 7);
	expect(&user, SP_FRAME_CLOSE);
	cr_assert_eq(v.opens, 0, "the owner has left");
	/* The user side may still write, and is not told off for it. */
	cr_assert_eq(sp_stream_put_u32(&user, SP_FRAME_CREDIT, 1, 5), SP_OK);
	cr_assert_eq(sp_stream_flush(&user), SP_OK);
	spin();
	sp_stream_fini(&user);
	spin();
	cr_assert_eq(v.ends, 0);
}

Test(conduit, input_and_its_end)
{
	struct verb v = {0};
	struct sp_stream user;
	static const uint8_t win[16] = {80, 0, 0, 0, 24};

	begin_verb(&v, &user);
	user_open(&user);
	cr_assert_eq(sp_stream_put(&user, SP_FRAME_DATA, 0, 1, sp_span_str("y\n")), SP_OK);
	cr_assert_eq(sp_stream_put(&user, SP_FRAME_WINDOW, 0, 1, sp_span_of(win, 16)), SP_OK);
	cr_assert_eq(sp_stream_put(&user, SP_FRAME_EOF, 0, 1, (struct sp_span){0}), SP_OK);
	cr_assert_eq(sp_stream_flush(&user), SP_OK);
	spin();
	cr_assert_eq(v.opens, 1);
	cr_assert_str_eq(v.input, "y\n");
	cr_assert_eq(v.eofs, 1);
	cr_assert_eq(v.windows, 1);
	sp_stream_fini(&user);
	spin();
	cr_assert_eq(v.ends, 1);
}

/* Never more than the credit, and all of it in the end. */
Test(conduit, credit_holds_and_lets_go)
{
	struct verb v = {0};
	struct sp_stream user;
	struct sp_frame f;
	size_t got = 0;
	char *text = calloc(1, 3u << 20);

	begin_verb(&v, &user);
	user_open(&user);
	sp_conduit_write(v.c, 1, 2, sp_span_of(text, 3u << 20));
	sp_conduit_finish(v.c, 1, 0);
	for (int i = 0; i < 200; i++) {
		spin();
		while (next(&user, &f))
			if (f.type == SP_FRAME_DATA)
				got += f.payload.n;
	}
	cr_assert_eq(got, SP_STREAM_WINDOW);
	for (bool over = false; !over;) {
		cr_assert_eq(sp_stream_put_u32(&user, SP_FRAME_CREDIT, 1, 65536), SP_OK);
		cr_assert_eq(sp_stream_flush(&user), SP_OK);
		spin();
		while (next(&user, &f)) {
			if (f.type == SP_FRAME_DATA)
				got += f.payload.n;
			over = f.type == SP_FRAME_CLOSE;
		}
	}
	cr_assert_eq(got, 3u << 20);
	free(text);
	sp_stream_fini(&user);
	spin();
}

Test(conduit, viewer_who_does_not_read_is_dropped)
{
	struct verb v = {0};
	struct sp_stream user;
	char *text = calloc(1, 1u << 20);

	begin_verb(&v, &user);
	user_open(&user);
	spin();
	for (int i = 0; i < 12; i++)
		sp_conduit_write(v.c, 1, 1, sp_span_of(text, 1u << 20));
	cr_assert_eq(v.ends, 0, "never from inside");
	spin();
	cr_assert_eq(v.ends, 1);
	free(text);
	sp_stream_fini(&user);
}

Test(conduit, data_on_a_channel_that_nobody_opened)
{
	struct verb v = {0};
	struct sp_stream user;
	static const char bytes[65536];

	begin_verb(&v, &user);
	/* A channel that nobody opened. */
	cr_assert_eq(sp_stream_put(&user, SP_FRAME_DATA, 0, 1, sp_span_of(bytes, 9)), SP_OK);
	cr_assert_eq(sp_stream_flush(&user), SP_OK);
	spin();
	cr_assert_eq(v.ends, 1);
	sp_stream_fini(&user);
}

Test(conduit, dropped_inside_its_own_callback)
{
	struct verb v = {.drop_on_input = true};
	struct sp_stream user;
	struct sp_frame f;

	begin_verb(&v, &user);
	user_open(&user);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(sp_stream_put(&user, SP_FRAME_DATA, 0, 1, sp_span_str("x")), SP_OK);
	cr_assert_eq(sp_stream_flush(&user), SP_OK);
	spin();
	cr_assert_str_eq(v.input, "x");
	cr_assert_eq(v.ends, 0);
	while (next(&user, &f))
		cr_assert_eq(f.type, SP_FRAME_OPEN_OK);
	cr_assert(user.eof);
	sp_stream_fini(&user);
}

Test(conduit, handover)
{
	struct verb v = {0};
	struct sp_stream user;
	struct sp_frame f;

	begin_verb(&v, &user);
	user_open(&user);
	spin();
	sp_conduit_write(v.c, 1, 1, sp_span_str("approved\r\n"));
	sp_conduit_handover(v.c, 1);
	spin();
	expect(&user, SP_FRAME_OPEN_OK);
	expect(&user, SP_FRAME_DATA);
	expect(&user, SP_FRAME_HANDOVER);
	cr_assert(!next(&user, &f));
	sp_stream_fini(&user);
	spin();
	cr_assert_eq(v.ends, 0);
}
