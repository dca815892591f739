/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/stream.c */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/stream.h"

static struct sp_stream a, b;	/* a is towards the user, b the target's end */

static void
pair(void)
{
	int fds[2];

	cr_assert(sp_stream_pair(fds) == SP_OK);
	cr_assert(sp_stream_init(&a, fds[0], false) == SP_OK);
	cr_assert(sp_stream_init(&b, fds[1], true) == SP_OK);
}

static void
unpair(void)
{
	sp_stream_fini(&a);
	sp_stream_fini(&b);
}

/* One frame of every kind that the side may send. */
static void
say_everything(struct sp_buf *to, bool user)
{
	struct sp_stream s = {.fd = 1000};

	sp_buf_init(&s.tx, SP_STREAM_TX_MAX);
	for (unsigned type = 0; type < 256; type++)
		if (sp_frame_may((uint8_t)type, user, 0))
			cr_assert(sp_stream_put(&s, (uint8_t)type,
			    type == SP_FRAME_DATA && !user ? 2 : 0, type + 7,
			    sp_frame_may((uint8_t)type, user, 4) ?
			    sp_span_str("four") : sp_span_str("")) == SP_OK);
	cr_assert(sp_buf_put(to, sp_buf_span(&s.tx).p, s.tx.len) == SP_OK);
	sp_buf_fini(&s.tx);
}

static unsigned
drain(struct sp_stream *s)
{
	struct sp_frame f;
	unsigned n = 0;
	enum sp_err e;

	while ((e = sp_stream_next(s, &f)) == SP_OK) {
		cr_assert(f.chan == f.type + 7U);
		cr_assert(f.payload.n == 0 || sp_span_is(f.payload, "four"));
		n++;
	}
	cr_assert(e == SP_ERR_AGAIN);
	return n;
}

Test(stream, frames_split_at_every_byte, .init = pair, .fini = unpair)
{
	SP_BUF_AUTO bytes = {.max = 65536};
	struct sp_span s;
	unsigned frames = 0, want = 0;

	say_everything(&bytes, true);
	for (unsigned t = 0; t < 256; t++)
		want += sp_frame_may((uint8_t)t, true, 0);
	s = sp_buf_span(&bytes);
	for (size_t i = 0; i < s.n; i++) {
		cr_assert(send(a.fd, s.p + i, 1, 0) == 1);
		cr_assert(sp_stream_fill(&b) == SP_OK);
		frames += drain(&b);
	}
	cr_assert(frames == want && frames > 5);
	for (size_t cut = 0; cut <= s.n; cut++) {
		frames = 0;
		cr_assert(cut == 0 || send(a.fd, s.p, cut, 0) == (ssize_t)cut);
		cr_assert(cut == 0 || sp_stream_fill(&b) == SP_OK);
		frames += drain(&b);
		cr_assert(cut == s.n ||
		    send(a.fd, s.p + cut, s.n - cut, 0) == (ssize_t)(s.n - cut));
		cr_assert(cut == s.n || sp_stream_fill(&b) == SP_OK);
		frames += drain(&b);
		cr_assert(frames == want, "cut at %zu", cut);
	}
}

/* Feeds one raw header with a payload to the end that hears `user`. */
static enum sp_err
feed(bool user, uint32_t len, uint8_t type, uint8_t lane, uint16_t zero)
{
	struct sp_stream s = {.fd = -1, .peer_is_user = user};
	static uint8_t fill[SP_FRAME_PAYLOAD_MAX + 16];
	struct sp_frame f;
	enum sp_err e;

	sp_buf_init(&s.rx, SP_STREAM_RX_MAX);
	cr_assert(sp_buf_put_u32(&s.rx, len) == SP_OK);
	cr_assert(sp_buf_put_u8(&s.rx, type) == SP_OK);
	cr_assert(sp_buf_put_u8(&s.rx, lane) == SP_OK);
	cr_assert(sp_buf_put_u16(&s.rx, zero) == SP_OK);
	cr_assert(sp_buf_put_u32(&s.rx, 1) == SP_OK);
	cr_assert(sp_buf_put(&s.rx, fill, len < sizeof(fill) ? len : 0) == SP_OK);
	e = sp_stream_next(&s, &f);
	cr_assert(e == SP_OK || s.fault[0] != '\0');
	sp_buf_fini(&s.rx);
	return e;
}

Test(stream, each_side_says_only_what_is_its_own)
{
	static const struct {
		uint8_t type;
		bool user, target;
		uint32_t cap;
	} t[] = {
#define ROW(name, num, u, t_, cap_) {SP_FRAME_##name, u, t_, cap_},
	    SP_FRAME_TABLE(ROW)
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t out = t[i].type == SP_FRAME_DATA ? 1 : 0;

		cr_assert(feed(true, 0, t[i].type, 0, 0) ==
		    (t[i].user ? SP_OK : SP_ERR_PROTO), "%s",
		    sp_frame_name(t[i].type));
		cr_assert(feed(false, 0, t[i].type, out, 0) ==
		    (t[i].target ? SP_OK : SP_ERR_PROTO));
		cr_assert(!t[i].user || feed(true, t[i].cap, t[i].type, 0, 0) == SP_OK);
		cr_assert(feed(true, t[i].cap + 1, t[i].type, 0, 0) == SP_ERR_PROTO);
		cr_assert(feed(false, t[i].cap + 1, t[i].type, out, 0) ==
		    SP_ERR_PROTO);
		cr_assert(feed(true, UINT32_MAX, t[i].type, 0, 0) == SP_ERR_PROTO);
	}
}

Test(stream, what_has_no_meaning_is_refused)
{
	cr_assert(feed(true, 0, 0, 0, 0) == SP_ERR_PROTO);
	cr_assert(feed(true, 0, SP_FRAME_UNLISTEN + 1, 0, 0) == SP_ERR_PROTO);
	cr_assert(feed(true, 0, 255, 0, 0) == SP_ERR_PROTO);
	cr_assert(feed(true, 0, SP_FRAME_EOF, 0, 1) == SP_ERR_PROTO);
	cr_assert(feed(true, 0, SP_FRAME_EOF, 1, 0) == SP_ERR_PROTO);
	cr_assert(feed(true, 1, SP_FRAME_DATA, 1, 0) == SP_ERR_PROTO,
	    "stdout from the user's side");
	cr_assert(feed(false, 1, SP_FRAME_DATA, 0, 0) == SP_ERR_PROTO,
	    "input from the target's side");
	cr_assert(feed(false, 1, SP_FRAME_DATA, 3, 0) == SP_ERR_PROTO);
	cr_assert(feed(false, 0, SP_FRAME_LISTEN, 0, 0) == SP_ERR_PROTO);
	cr_assert(feed(true, 0, SP_FRAME_LISTEN_OK, 0, 0) == SP_ERR_PROTO);
	cr_assert(feed(false, 0, SP_FRAME_UNLISTEN, 0, 0) == SP_ERR_PROTO);
	cr_assert(strcmp(sp_frame_name(0), "unknown") == 0);
	cr_assert(strcmp(sp_frame_name(200), "unknown") == 0);
}

Test(stream, a_peer_that_does_not_read_is_full_in_the_end, .init = pair,
    .fini = unpair)
{
	static uint8_t fill[SP_FRAME_PAYLOAD_MAX];
	struct sp_frame f;
	size_t sent = 0, got = 0;
	enum sp_err e;

	while ((e = sp_stream_put(&a, SP_FRAME_DATA, 0, 1,
	    sp_span_of(fill, sizeof(fill)))) == SP_OK) {
		sent += sizeof(fill);
		cr_assert(sp_stream_pending(&a) <= SP_STREAM_TX_MAX);
	}
	cr_assert(e == SP_ERR_FULL);
	cr_assert(sp_stream_flush(&a) == SP_ERR_AGAIN);
	while (got < sent) {
		e = sp_stream_fill(&b);
		cr_assert(e == SP_OK || e == SP_ERR_AGAIN);
		cr_assert(b.rx.len <= SP_STREAM_RX_MAX);
		while (sp_stream_next(&b, &f) == SP_OK)
			got += f.payload.n;
		e = sp_stream_flush(&a);
		cr_assert(e == SP_OK || e == SP_ERR_AGAIN);
	}
	cr_assert(got == sent && sp_stream_pending(&a) == 0);
}

Test(stream, the_end_of_the_peer_is_seen_after_its_last_frame, .init = pair,
    .fini = unpair)
{
	struct sp_frame f;

	cr_assert(sp_stream_put_u32(&a, SP_FRAME_CREDIT, 3, 0x01020304) == SP_OK);
	cr_assert(sp_stream_flush(&a) == SP_OK);
	close(a.fd);
	a.fd = -1;
	cr_assert(sp_stream_fill(&b) == SP_OK);
	cr_assert(sp_stream_next(&b, &f) == SP_OK && f.chan == 3);
	cr_assert(f.payload.n == 4 && memcmp(f.payload.p, "\4\3\2\1", 4) == 0);
	cr_assert(sp_stream_fill(&b) == SP_ERR_EOF && b.eof);
	cr_assert(sp_stream_fill(&b) == SP_ERR_EOF);
	cr_assert(sp_stream_put(&a, SP_FRAME_EOF, 0, 1, sp_span_str("")) ==
	    SP_ERR_EOF);
	cr_assert(sp_stream_put(&b, SP_FRAME_EOF, 0, 1, sp_span_str("")) == SP_OK);
	cr_assert(sp_stream_flush(&b) == SP_ERR_EOF);
}

Test(stream, texts_are_cut_to_their_frame, .init = pair, .fini = unpair)
{
	static char text[4000];
	struct sp_frame f;
	struct sp_span s;

	memset(text, 'x', sizeof(text) - 1);
	cr_assert(sp_stream_put_text(&b, SP_FRAME_NOTICE, 0, text) == SP_OK);
	cr_assert(sp_stream_put_end(&b, 3, text) == SP_OK);
	cr_assert(sp_stream_flush(&b) == SP_OK);
	cr_assert(sp_stream_fill(&a) == SP_OK);
	cr_assert(sp_stream_next(&a, &f) == SP_OK && f.type == SP_FRAME_NOTICE);
	cr_assert(sp_get_str(&f.payload, 1024, &s) == SP_OK && f.payload.n == 0);
	cr_assert(sp_stream_next(&a, &f) == SP_OK && f.type == SP_FRAME_END);
	cr_assert(f.payload.p[0] == 3);
}

Test(stream, open_comes_back_the_same)
{
	SP_BUF_AUTO env = {.max = 3072};
	SP_BUF_AUTO out = {.max = 65536};
	struct sp_open o = {.kind = SP_OPEN_EXEC, .has_pty = 1, .cols = 80,
	    .rows = 24, .xpixels = 1, .ypixels = 2,
	    .term = sp_span_str("xterm"), .command = sp_span_str("id")}, r;
	struct sp_span name, value;

	cr_assert(sp_buf_put_bytes(&env, sp_span_str("LANG")) == SP_OK);
	cr_assert(sp_buf_put_bytes(&env, sp_span_str("C")) == SP_OK);
	o.env = sp_buf_span(&env);
	cr_assert(sp_open_encode(&out, &o) == SP_OK);
	cr_assert(sp_open_decode(sp_buf_span(&out), &r) == SP_OK);
	cr_assert(r.kind == SP_OPEN_EXEC && r.has_pty == 1 && r.cols == 80 &&
	    r.rows == 24 && r.xpixels == 1 && r.ypixels == 2);
	cr_assert(sp_span_is(r.term, "xterm") && sp_span_is(r.command, "id"));
	cr_assert(sp_open_env_next(&r.env, &name, &value) == SP_OK);
	cr_assert(sp_span_is(name, "LANG") && sp_span_is(value, "C"));
	cr_assert(sp_open_env_next(&r.env, &name, &value) == SP_ERR_EOF);
	for (size_t n = 0; n < out.len; n++)
		cr_assert(sp_open_decode(sp_span_of(sp_buf_span(&out).p, n), &r) ==
		    SP_ERR_PROTO);
	cr_assert(sp_buf_put_u8(&out, 0) == SP_OK);
	cr_assert(sp_open_decode(sp_buf_span(&out), &r) == SP_ERR_PROTO);
}

/* Modes and forwards stand behind what every recording so far has. */
Test(stream, open_of_a_forward_comes_back_the_same)
{
	SP_BUF_AUTO out = {.max = 65536};
	struct sp_open o = {.kind = SP_OPEN_REVERSE, .host = sp_span_str(""),
	    .port = 8080, .origin = sp_span_str("10.0.0.7"),
	    .origin_port = 50000, .listen = 3}, r;

	cr_assert(sp_open_encode(&out, &o) == SP_OK);
	cr_assert(sp_open_decode(sp_buf_span(&out), &r) == SP_OK);
	cr_assert(r.kind == SP_OPEN_REVERSE && r.host.n == 0 && r.port == 8080 &&
	    sp_span_is(r.origin, "10.0.0.7") && r.origin_port == 50000 &&
	    r.listen == 3 && r.has_pty == 0 && r.command.n == 0);
	for (size_t n = 0; n < out.len; n++)
		cr_assert(sp_open_decode(sp_span_of(sp_buf_span(&out).p, n), &r) ==
		    SP_ERR_PROTO);
	sp_buf_reset(&out);
	o = (struct sp_open){.kind = SP_OPEN_SHELL, .has_pty = 1,
	    .modes = sp_span_of("\x35\0\0\0\1\0", 6)};
	cr_assert(sp_open_encode(&out, &o) == SP_OK);
	cr_assert(sp_open_decode(sp_buf_span(&out), &r) == SP_OK);
	cr_assert(sp_span_eq(r.modes, o.modes));
	/* Without them it ends where it always did. */
	cr_assert(sp_open_decode(sp_span_of(sp_buf_span(&out).p, out.len - 10),
	    &r) == SP_OK && r.modes.n == 0);
}

static enum sp_err
trial(struct sp_open o)
{
	SP_BUF_AUTO out = {.max = 1U << 20};
	struct sp_open r;

	SP_TRY(sp_open_encode(&out, &o));
	return sp_open_decode(sp_buf_span(&out), &r);
}

Test(stream, open_with_a_wrong_field_is_refused)
{
	static uint8_t many[40000];
	SP_BUF_AUTO env = {.max = 3072};

	memset(many, 'a', sizeof(many));
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_SHELL}) == SP_OK);
	cr_assert(trial((struct sp_open){.kind = 0}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = 4}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = 7}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .host = sp_span_str("db"), .port = 5432}) == SP_OK);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .host = sp_span_str("db")}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .host = sp_span_str("db"), .port = 65536}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD, .listen = 1,
	    .host = sp_span_str("db"), .port = 5432}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD, .has_pty = 1,
	    .host = sp_span_str("db"), .port = 5432}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .command = sp_span_str("id"), .host = sp_span_str("db"),
	    .port = 5432}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .host = sp_span_of("d\0b", 3), .port = 5432}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_FORWARD,
	    .host = sp_span_of(many, 256), .port = 1}) == SP_ERR_TOOBIG);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_REVERSE,
	    .port = 80}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_LISTEN}) == SP_OK);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_SHELL,
	    .modes = sp_span_of(many, 6)}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_SHELL, .has_pty = 1,
	    .modes = sp_span_of(many, 513)}) == SP_ERR_TOOBIG);
	cr_assert(trial((struct sp_open){.kind = 1, .has_pty = 2}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_SUBSYSTEM}) ==
	    SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_of("a\0b", 3)}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = 1,
	    .term = sp_span_of("a\0", 2)}) == SP_ERR_PROTO);
	cr_assert(trial((struct sp_open){.kind = 1,
	    .term = sp_span_of(many, 65)}) == SP_ERR_TOOBIG);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_of(many, 32768)}) == SP_OK);
	cr_assert(trial((struct sp_open){.kind = SP_OPEN_EXEC,
	    .command = sp_span_of(many, 32769)}) == SP_ERR_TOOBIG);
	cr_assert(trial((struct sp_open){.kind = 1,
	    .env = sp_span_of(many, 3)}) == SP_ERR_PROTO);
	for (int i = 0; i < 33; i++) {
		cr_assert(sp_buf_put_bytes(&env, sp_span_str("A")) == SP_OK);
		cr_assert(sp_buf_put_bytes(&env, sp_span_str("")) == SP_OK);
		cr_assert(trial((struct sp_open){.kind = 1,
		    .env = sp_buf_span(&env)}) == (i < 32 ? SP_OK : SP_ERR_PROTO));
	}
}
