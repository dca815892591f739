/* SPDX-License-Identifier: Apache-2.0 */
#include "test_ingress_stub.h"

#include <string.h>

/* ------------------------------------------------------- the target's side */

static struct st_chan *
chan_of(struct st_stream *t, uint32_t id)
{
	for (int i = 0; i < ST_CHANS; i++)
		if (t->ch[i].used && t->ch[i].id == id)
			return &t->ch[i];
	return NULL;
}

static void
say(struct st_stream *t, struct st_chan *ch, uint8_t lane, const char *text)
{
	struct sp_span s = sp_span_str(text);

	CHECK(ch->credit >= s.n);
	ch->credit -= (uint32_t)s.n;
	SENT(sp_stream_put(&t->s, SP_FRAME_DATA, lane, ch->id, s));
}

static void
finish(struct st_stream *t, struct st_chan *ch, uint32_t status)
{
	ch->done = true;
	SENT(sp_stream_put(&t->s, SP_FRAME_EOF, 0, ch->id, sp_span_of(NULL, 0)));
	SENT(sp_stream_put_u32(&t->s, SP_FRAME_EXIT_STATUS, ch->id, status));
	SENT(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id, sp_span_of(NULL, 0)));
}

static void
finish_signal(struct st_stream *t, struct st_chan *ch)
{
	SP_BUF_AUTO b = {.max = 600};

	ch->done = true;
	OK(sp_buf_put_bytes(&b, sp_span_str("TERM")));
	OK(sp_buf_put_u8(&b, 0));
	OK(sp_buf_put_bytes(&b, sp_span_str("ended")));
	SENT(sp_stream_put(&t->s, SP_FRAME_EXIT_SIGNAL, 0, ch->id, sp_buf_span(&b)));
	SENT(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id, sp_span_of(NULL, 0)));
}

static void
begin(struct st_stream *t, struct st_chan *ch)
{
	char text[256];
	unsigned n;

	if (strcmp(ch->cmd, "fail") == 0) {
		ch->done = true;
		SENT(sp_stream_put_text(&t->s, SP_FRAME_OPEN_FAIL, ch->id,
		    "the target refused it"));
		SENT(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, ch->id,
		    sp_span_of(NULL, 0)));
		return;
	}
	SENT(sp_stream_put(&t->s, SP_FRAME_OPEN_OK, 0, ch->id, sp_span_of(NULL, 0)));
	if (t->dialogue)
		say(t, ch, 1, "Why? ");
	else if (sscanf(ch->cmd, "exit %u", &n) == 1)
		finish(t, ch, n);
	else if (strcmp(ch->cmd, "sig") == 0)
		finish_signal(t, ch);
	else if (sscanf(ch->cmd, "gen %u", &n) == 1)
		ch->to_send = n;
	else if (strncmp(ch->cmd, "sink", 4) == 0)
		ch->expects = true;
	else if (sscanf(ch->cmd, "both %u", &n) == 1)
		ch->to_send = n, ch->expects = true;
	else if (strcmp(ch->cmd, "two") == 0) {
		say(t, ch, 1, "to stdout\n");
		say(t, ch, 2, "to stderr\n");
		finish(t, ch, 3);
	} else if (ch->kind == SP_OPEN_SHELL) {
		snprintf(text, sizeof(text), "hello %s\r\n",
		    ch->has_pty ? "pty" : "no pty");
		say(t, ch, 1, text);
	}
}

static void
on_open(struct st_world *w, struct st_stream *t, const struct sp_frame *f)
{
	struct sp_open o;
	struct st_chan *ch = NULL;
	char term[65];

	OK(sp_open_decode(f->payload, &o));
	for (int i = 0; i < ST_CHANS && ch == NULL; i++)
		if (!t->ch[i].used)
			ch = &t->ch[i];
	CHECK(ch != NULL);
	*ch = (struct st_chan){.used = true, .id = f->chan,
	    .has_pty = o.has_pty != 0, .kind = o.kind,
	    .credit = SP_STREAM_WINDOW, .tx_seed = 1, .rx_seed = 2};
	OK(sp_span_cstr(o.command, ch->cmd, sizeof(ch->cmd)));
	OK(sp_span_cstr(o.term, term, sizeof(term)));
	OK(sp_buf_printf(&w->log, "OPEN kind=%u pty=%u %ux%u term=%s cmd=%s env=%zu\n",
	    o.kind, o.has_pty, o.cols, o.rows, term, ch->cmd, o.env.n));
	begin(t, ch);
}

static void
hand_over(struct st_world *w, struct st_stream *t, struct st_chan *ch)
{
	struct sp_msg_chan_refused r = {.ctx = t->ctx, .chan = t->chan,
	    .exit_code = 1, .text = sp_span_str("nobody approved")};

	if (w->early_refusal)
		OK(sp_send_chan_refused(&t->conn->link, 0, &r, NULL));
	else if (w->early_stream)
		st_give_stream(w, t->conn, t->ctx, t->chan, true);
	SENT(sp_stream_put(&t->s, SP_FRAME_HANDOVER, 0, ch->id, sp_span_of(NULL, 0)));
	SENT(sp_stream_flush(&t->s));
	ch->used = false;
	if (!w->early_refusal && !w->early_stream)
		st_give_stream(w, t->conn, t->ctx, t->chan, true);
}

static void
typed(struct st_world *w, struct st_stream *t, struct st_chan *ch,
    struct sp_span s)
{
	char text[160];

	for (size_t i = 0; i < s.n && !ch->done; i++) {
		size_t n = strlen(ch->line);

		if (s.p[i] != '\r' && s.p[i] != '\n') {
			if (n + 1 < sizeof(ch->line))
				ch->line[n] = (char)s.p[i], ch->line[n + 1] = 0;
			continue;
		}
		OK(sp_buf_printf(&w->log, "LINE %s\n", ch->line));
		if (t->dialogue) {
			hand_over(w, t, ch);
			return;
		}
		if (strcmp(ch->line, "q") == 0) {
			finish(t, ch, 0);
			return;
		}
		snprintf(text, sizeof(text), "got %s\r\n", ch->line);
		say(t, ch, 1, text);
		ch->line[0] = '\0';
	}
}

static void
on_data(struct st_world *w, struct st_stream *t, struct st_chan *ch,
    struct sp_span s)
{
	static uint8_t want[SP_FRAME_PAYLOAD_MAX];

	ch->owed += (uint32_t)s.n;
	if (ch->owed >= SP_STREAM_WINDOW / 4) {
		SENT(sp_stream_put_u32(&t->s, SP_FRAME_CREDIT, ch->id, ch->owed));
		ch->owed = 0;
	}
	ch->got += s.n;
	if (ch->expects) {
		st_pattern(want, s.n, &ch->rx_seed);
		ch->mismatch |= memcmp(want, s.p, s.n) != 0;
	} else if (strcmp(ch->cmd, "cat") == 0) {
		CHECK(ch->credit >= s.n);
		ch->credit -= (uint32_t)s.n;
		SENT(sp_stream_put(&t->s, SP_FRAME_DATA, 1, ch->id, s));
	} else if (ch->kind == SP_OPEN_SHELL) {
		typed(w, t, ch, s);
	}
}

static bool
is_forward(struct sp_span payload)
{
	struct sp_open o;

	OK(sp_open_decode(payload, &o));
	return o.kind == SP_OPEN_FORWARD;
}

static void
on_frame(struct st_world *w, struct st_stream *t, const struct sp_frame *f)
{
	struct st_chan *ch = chan_of(t, f->chan);
	struct sp_span s = f->payload, name;
	uint32_t a, b;
	char text[96];

	if (f->type == SP_FRAME_LISTEN) {
		OK(sp_buf_printf(&w->log, "LISTEN\n"));
		SENT(sp_stream_put_text(&t->s, SP_FRAME_LISTEN_FAIL, f->chan,
		    "listening is not permitted here"));
		return;
	}
	if (f->type == SP_FRAME_OPEN && is_forward(f->payload)) {
		OK(sp_buf_printf(&w->log, "FORWARD\n"));
		SENT(sp_stream_put_text(&t->s, SP_FRAME_OPEN_FAIL, f->chan,
		    "forwarding is not\x1b permitted here"));
		SENT(sp_stream_put(&t->s, SP_FRAME_CLOSE, 0, f->chan,
		    sp_span_of(NULL, 0)));
		return;
	}
	if (f->type == SP_FRAME_CLOSE && ch == NULL)
		return;		/* of what was refused */
	if (f->type == SP_FRAME_OPEN) {
		CHECK(ch == NULL);
		on_open(w, t, f);
		return;
	}
	CHECK(ch != NULL);
	switch (f->type) {
	case SP_FRAME_DATA:
		on_data(w, t, ch, s);
		break;
	case SP_FRAME_CREDIT:
		OK(sp_get_u32(&s, &a));
		ch->credit += a;
		break;
	case SP_FRAME_EOF:
		ch->eof = true;
		if (strcmp(ch->cmd, "cat") == 0 && !ch->done)
			finish(t, ch, 0);
		break;
	case SP_FRAME_WINDOW:
		OK(sp_get_u32(&s, &a));
		OK(sp_get_u32(&s, &b));
		OK(sp_buf_printf(&w->log, "WINDOW %ux%u\n", a, b));
		snprintf(text, sizeof(text), "win %ux%u\r\n", a, b);
		say(t, ch, 1, text);
		break;
	case SP_FRAME_SIGNAL:
		OK(sp_get_str(&s, 36, &name));
		OK(sp_buf_printf(&w->log, "SIGNAL %.*s\n", (int)name.n, name.p));
		break;
	case SP_FRAME_BREAK:
		OK(sp_get_u32(&s, &a));
		OK(sp_buf_printf(&w->log, "BREAK %u\n", a));
		break;
	case SP_FRAME_CLOSE:
		OK(sp_buf_printf(&w->log, "CLOSE %s got=%llu\n", ch->cmd,
		    (unsigned long long)ch->got));
		ch->used = false;
		break;
	default:
		CHECK(false);
	}
}

static void
produce(struct st_stream *t, struct st_chan *ch)
{
	static uint8_t at[32768];

	if (!ch->used || ch->done)
		return;
	while (ch->sent < ch->to_send && ch->credit > 0 &&
	    sp_stream_pending(&t->s) < (1u << 20)) {
		size_t n = sizeof(at);

		if (n > ch->to_send - ch->sent)
			n = ch->to_send - ch->sent;
		if (n > ch->credit)
			n = ch->credit;
		st_pattern(at, n, &ch->tx_seed);
		SENT(sp_stream_put(&t->s, SP_FRAME_DATA, 1, ch->id,
		    sp_span_of(at, n)));
		ch->sent += n;
		ch->credit -= (uint32_t)n;
	}
	if (ch->sent == ch->to_send && (ch->expects ? ch->eof : ch->to_send > 0))
		finish(t, ch, ch->mismatch ? 9 : 0);
}

void
st_pattern(uint8_t *at, size_t n, uint32_t *seed)
{
	uint32_t x = *seed;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		at[i] = (uint8_t)(x >> 24);
	}
	*seed = x;
}

void
st_target(struct st_world *w, struct st_stream *t)
{
	enum sp_err fill = sp_stream_fill(&t->s), e;
	struct sp_frame f;

	while ((e = sp_stream_next(&t->s, &f)) == SP_OK)
		on_frame(w, t, &f);
	if (e != SP_ERR_AGAIN)
		fprintf(stderr, "stream: %s\n", t->s.fault);
	CHECK(e == SP_ERR_AGAIN);
	for (int i = 0; i < ST_CHANS; i++)
		produce(t, &t->ch[i]);
	e = sp_stream_flush(&t->s);
	if (fill == SP_ERR_EOF || fill == SP_ERR_IO ||
	    (e != SP_OK && e != SP_ERR_AGAIN)) {
		OK(sp_buf_printf(&w->log, "stream_end\n"));
		sp_stream_fini(&t->s);
		t->used = false;
	}
}
