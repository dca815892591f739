/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/gate.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "recorder/relay.h"

void
sp_gate_init(struct sp_gate *g)
{
	*g = (struct sp_gate){0};
	sp_buf_init(&g->rest, SP_FRAME_PAYLOAD_MAX);
}

void
sp_gate_fini(struct sp_gate *g)
{
	sp_buf_fini(&g->rest);
}

bool
sp_gate_is_shut(const struct sp_relay *r)
{
	return r->gate.stream.state != SP_GATE_FREE;
}

bool
sp_gate_keeps(const struct sp_relay *r)
{
	return r->gate.is_frozen || r->gate.stream.state == SP_GATE_WAITS ||
	    r->gate.transfer.state == SP_GATE_WAITS;
}

/* ----------------------------------------------------------- what is told */

static void
failed(struct sp_relay *r, enum sp_err e)
{
	if (e != SP_OK && e != SP_ERR_EOF)
		sp_relay_end(r, SP_END_DISK, "the recorder: %s", sp_err_text(e));
}

/* Into the record, and to the user. */
static void
notice(struct sp_relay *r, const char *text)
{
	failed(r, sp_rec_writer_put(r->w, SP_LANE_META, SP_RECORD_NOTICE, 1,
	    sp_span_str(text)));
	failed(r, sp_stream_put_text(&r->user, SP_FRAME_NOTICE, 0, text));
}

static void
tell(struct sp_relay *r, const struct sp_gate_slot *s, const char *text)
{
	bool waits = s->state == SP_GATE_WAITS;
	struct sp_msg_rec_held m = {.slot = s == &r->gate.transfer,
	    .number = waits ? s->number : 0, .kind = waits ? s->kind : 0,
	    .chan = s->chan, .text = sp_span_str(text)};

	if (sp_send_rec_held(&r->link, 0, &m, NULL) != SP_OK)
		sp_relay_end(r, SP_END_BROKER, "the broker went away");
}

static void
wait_for(struct sp_relay *r, struct sp_gate_slot *s, uint8_t kind,
    uint32_t chan, const char *text)
{
	*s = (struct sp_gate_slot){.state = SP_GATE_WAITS, .kind = kind,
	    .chan = chan, .number = ++r->gate.last};
	tell(r, s, text);
	if (r->gate.is_told)
		return;
	r->gate.is_told = true;
	notice(r, "Sallyport: two people work here: what you complete waits until "
	    "the second one lets it go on.");
}

static void
set_free(struct sp_relay *r, struct sp_gate_slot *s)
{
	bool waited = s->state == SP_GATE_WAITS;

	s->state = SP_GATE_FREE;
	if (waited)
		tell(r, s, "");
}

/* --------------------------------------------------------- what stops here */

static bool
has_lines(const struct sp_channel *c)
{
	return c != NULL && !c->is_failed && (c->kind == SP_OPEN_SHELL ||
	    (c->kind == SP_OPEN_EXEC && c->has_pty));
}

/* What ends a line for a terminal or a line editor: Enter, its two bytes, "do it
 * and fetch the next" of readline, and the end of input, which hands over what
 * stands there. */
static size_t
line_end(struct sp_span s, size_t from)
{
	while (from < s.n && s.p[from] != '\r' && s.p[from] != '\n' &&
	    s.p[from] != 0x0f && s.p[from] != 0x04)
		from++;
	return from;
}

/* Where in this frame a line ends; its length if nowhere. */
static size_t
stops_at(struct sp_relay *r, const struct sp_frame *f, size_t from)
{
	const struct sp_channel *c;

	if ((r->rules->hold & SP_HOLD_LINES) == 0)
		return f->payload.n + 1;
	c = sp_channels_find(&r->channels, f->chan);
	if (!has_lines(c))
		return f->payload.n + 1;
	if (f->type == SP_FRAME_EOF)
		return c->has_pty ? 1 : 0;
	if (f->type != SP_FRAME_DATA)
		return f->payload.n + 1;
	from = line_end(f->payload, from);
	return from < f->payload.n ? from : f->payload.n + 1;
}

/* Commands, and what else does something by being opened. */
static bool
holds_open(const struct sp_relay *r, const struct sp_frame *f,
    struct sp_open *o)
{
	if (f->type != SP_FRAME_OPEN || sp_open_decode(f->payload, o) != SP_OK)
		return false;
	if (o->kind == SP_OPEN_SHELL || o->kind == SP_OPEN_ROTATE ||
	    sp_open_is_forward(o->kind) || (o->kind == SP_OPEN_SUBSYSTEM &&
	    sp_span_is(o->command, "sftp")))
		return false;
	/* Bytes of any file may go through a command without a terminal. */
	return (r->rules->hold & SP_HOLD_LINES) != 0 || o->has_pty == 0;
}

static bool
keep(struct sp_relay *r, const struct sp_frame *f, size_t from)
{
	struct sp_gate *g = &r->gate;

	g->type = f->type;
	g->lane = f->lane;
	g->rest.off = g->rest.len = 0;
	if (sp_buf_put(&g->rest, f->payload.p + from, f->payload.n - from) == SP_OK)
		return true;
	sp_relay_end(r, SP_END_BROKER, "out of memory");
	return false;
}

/* What stands before the end of the line goes on: its echo shows it. */
static void
hold_line(struct sp_relay *r, const struct sp_frame *f, size_t at)
{
	struct sp_frame before = *f;

	if (!keep(r, f, f->type == SP_FRAME_DATA ? at : 0))
		return;
	before.payload.n = at;
	if (f->type == SP_FRAME_DATA && at > 0)
		sp_relay_frame(r, &before, true);
	if (!r->is_ending)
		wait_for(r, &r->gate.stream, SP_HELD_LINE, f->chan, "");
}

bool
sp_gate_takes(struct sp_relay *r, const struct sp_frame *f)
{
	char text[1024];
	struct sp_open o;
	size_t at;

	if (r->rules->hold == 0)
		return false;
	if (holds_open(r, f, &o)) {
		sp_vis(text, sizeof(text), o.command);
		if (keep(r, f, 0))
			wait_for(r, &r->gate.stream, SP_HELD_COMMAND, f->chan, text);
		return true;
	}
	if ((at = stops_at(r, f, 0)) > f->payload.n)
		return false;
	hold_line(r, f, at);
	return true;
}

/* ------------------------------------------------------------ what goes on */

/* The end of the line that waited, and more up to the next. */
static void
go_line(struct sp_relay *r, struct sp_frame *f)
{
	size_t at = stops_at(r, f, 1);
	struct sp_frame part = *f;
	SP_BUF_AUTO rest = {.max = SP_FRAME_PAYLOAD_MAX};

	if (at >= f->payload.n) {
		sp_relay_frame(r, f, true);
		return;
	}
	part.payload.n = at;
	f->payload.p += at;
	f->payload.n -= at;
	if (sp_buf_put(&rest, f->payload.p, f->payload.n) != SP_OK) {
		sp_relay_end(r, SP_END_BROKER, "out of memory");
		return;
	}
	sp_relay_frame(r, &part, true);
	f->payload = sp_buf_span(&rest);
	if (!r->is_ending && keep(r, f, 0))
		wait_for(r, &r->gate.stream, SP_HELD_LINE, f->chan, "");
}

/* Its bytes were never judged, and are given back; an interrupt of ours takes
 * what stands in the line away. */
static enum sp_err
interrupt(struct sp_relay *r, const struct sp_frame *f)
{
	static const uint8_t said[2] = {0, 3};
	enum sp_frame_verdict v = sp_channels_judge(&r->channels, f, true);
	uint32_t n = (uint32_t)f->payload.n;

	if (v != SP_FRAME_PASS)
		return v == SP_FRAME_DROP ? SP_OK : SP_ERR_PROTO;
	sp_channels_credit(&r->channels, f->chan, (int64_t)n - 1, 0);
	SP_TRY(sp_rec_writer_put(r->w, SP_LANE_OUT, SP_RECORD_SAID, f->chan,
	    sp_span_of(said, 2)));
	if (n > 1)
		SP_TRY(sp_stream_put_u32(&r->user, SP_FRAME_CREDIT, f->chan, n - 1));
	return sp_stream_put(&r->target, SP_FRAME_DATA, 0, f->chan,
	    sp_span_of(said + 1, 1));
}

static void
refuse_line(struct sp_relay *r, const struct sp_frame *f)
{
	const struct sp_channel *c = sp_channels_find(&r->channels, f->chan);
	char text[400];
	enum sp_err e;

	/* Without a terminal nothing takes back what stands in the line. */
	if (c == NULL || !c->has_pty || f->type != SP_FRAME_DATA) {
		sp_relay_end(r, SP_END_KILLED, "%s refused a line of a shell that "
		    "has no terminal", r->gate.by);
		return;
	}
	snprintf(text, sizeof(text), "Sallyport: %s refused this line; %zu byte%s "
	    "of yours went no further, ^C was sent instead.", r->gate.by,
	    f->payload.n, f->payload.n == 1 ? "" : "s");
	notice(r, text);
	e = interrupt(r, f);
	if (e == SP_ERR_PROTO)
		sp_relay_end(r, SP_END_PROTOCOL, "the user side broke the protocol");
	else
		failed(r, e);
	r->user_input = true;
}

void
sp_gate_go(struct sp_relay *r)
{
	struct sp_gate *g = &r->gate;
	SP_BUF_AUTO bytes = {.max = SP_FRAME_PAYLOAD_MAX};
	struct sp_frame f = {.type = g->type, .lane = g->lane,
	    .chan = g->stream.chan};
	bool refused = g->stream.state == SP_GATE_REFUSED;

	if (g->stream.state != SP_GATE_LET && !refused)
		return;
	g->stream.state = SP_GATE_FREE;
	bytes = g->rest;
	sp_buf_init(&g->rest, SP_FRAME_PAYLOAD_MAX);
	f.payload = sp_buf_span(&bytes);
	if (f.type == SP_FRAME_DATA && !refused)
		go_line(r, &f);
	else if (f.type == SP_FRAME_OPEN && refused)
		sp_relay_refuse(r, &f, "a second person refused it");
	else if (refused)
		refuse_line(r, &f);
	else
		sp_relay_frame(r, &f, true);
}

enum sp_gate_state
sp_gate_transfer(struct sp_relay *r, uint32_t chan, uint32_t ops,
    struct sp_span path)
{
	struct sp_gate_slot *s = &r->gate.transfer;
	enum sp_gate_state was = s->state;
	char text[1024];
	int n;

	if ((r->rules->hold & SP_HOLD_TRANSFERS) == 0)
		return SP_GATE_LET;
	if (was != SP_GATE_FREE && s->chan != chan)
		return SP_GATE_WAITS;
	if (was == SP_GATE_LET || was == SP_GATE_REFUSED) {
		s->state = SP_GATE_FREE;
		return was;
	}
	if (was == SP_GATE_FREE) {
		n = snprintf(text, sizeof(text), "%s ", ops == SP_RIGHT_UPLOAD ?
		    "upload" : ops == SP_RIGHT_DOWNLOAD ? "download" : "open");
		sp_vis(text + n, sizeof(text) - (size_t)n, path);
		wait_for(r, s, SP_HELD_TRANSFER, chan, text);
	}
	return SP_GATE_WAITS;
}

void
sp_gate_forget(struct sp_relay *r, uint32_t chan)
{
	if (r->gate.transfer.state != SP_GATE_FREE &&
	    r->gate.transfer.chan == chan)
		set_free(r, &r->gate.transfer);
}

/* ------------------------------------------------------------------ deeds */

static void
freeze(struct sp_relay *r, const struct sp_msg_rec_steer *m, bool on)
{
	char text[1000], why[600];

	if (r->gate.is_frozen == on)
		return;
	r->gate.is_frozen = on;
	sp_vis(why, sizeof(why), m->text);
	snprintf(text, sizeof(text), on ? "Sallyport: %s froze this session%s%s. "
	    "Nothing passes until it is resumed." :
	    "Sallyport: %s resumed this session%s%s.", r->gate.by,
	    why[0] == '\0' ? "" : ": ", why);
	notice(r, text);
	if (!on)
		sp_idle_touch(&r->idle, sp_boot_us());
}

static void
decide(struct sp_relay *r, const struct sp_msg_rec_steer *m, bool let)
{
	struct sp_gate_slot *s = m->number == r->gate.stream.number ?
	    &r->gate.stream : &r->gate.transfer;
	char text[200];

	if (s->state != SP_GATE_WAITS || s->number != m->number)
		return;
	s->state = let ? SP_GATE_LET : SP_GATE_REFUSED;
	snprintf(text, sizeof(text), "%s %s what waited as number %llu",
	    r->gate.by, let ? "released" : "refused",
	    (unsigned long long)m->number);
	failed(r, sp_rec_writer_put(r->w, SP_LANE_META, SP_RECORD_NOTICE, 0,
	    sp_span_str(text)));
	sp_idle_touch(&r->idle, sp_boot_us());
	tell(r, s, "");
}

enum sp_err
sp_gate_steer(struct sp_relay *r, const struct sp_msg_rec_steer *m)
{
	sp_vis(r->gate.by, sizeof(r->gate.by), m->who);
	switch (m->deed) {
	case SP_STEER_FREEZE:
	case SP_STEER_RESUME:
		freeze(r, m, m->deed == SP_STEER_FREEZE);
		return SP_OK;
	case SP_STEER_RELEASE:
	case SP_STEER_REFUSE:
		decide(r, m, m->deed == SP_STEER_RELEASE);
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}
