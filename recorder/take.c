/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "recorder/relay.h"

/* From a frame to its record: doc/recording-format.md, "Records". */
struct form {
	enum sp_lane lane;
	uint8_t kind;
	struct sp_span bytes;
	uint8_t side;
};

static enum sp_err
plain_text(struct sp_span payload, struct sp_span *text)
{
	SP_TRY(sp_get_bytes(&payload, SP_FRAME_PAYLOAD_MAX, text));
	return payload.n == 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
check_exit_signal(struct sp_span p)
{
	struct sp_span t;
	uint8_t core;

	SP_TRY(sp_get_bytes(&p, 64, &t));
	SP_TRY(sp_get_u8(&p, &core));
	SP_TRY(sp_get_bytes(&p, 600, &t));
	return p.n == 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
form_of(const struct sp_frame *f, bool from_user, struct form *o)
{
	o->lane = SP_LANE_OUT;
	o->bytes = f->payload;
	o->side = from_user ? 0 : 1;
	switch (f->type) {
	case SP_FRAME_DATA:
		if (from_user)
			o->lane = SP_LANE_IN;
		o->kind = from_user ? SP_RECORD_IN :
		    f->lane == 1 ? SP_RECORD_OUT : SP_RECORD_ERR;
		return SP_OK;
	case SP_FRAME_OPEN:
		o->kind = SP_RECORD_OPEN;
		return SP_OK;
	case SP_FRAME_OPEN_OK:
		o->kind = SP_RECORD_OPEN_OK;
		return SP_OK;
	case SP_FRAME_OPEN_FAIL:
		o->kind = SP_RECORD_OPEN_FAIL;
		return plain_text(f->payload, &o->bytes);
	case SP_FRAME_WINDOW:
		o->kind = SP_RECORD_RESIZE;
		return SP_OK;
	case SP_FRAME_SIGNAL:
		o->kind = SP_RECORD_SIGNAL;
		return plain_text(f->payload, &o->bytes);
	case SP_FRAME_BREAK:
		o->kind = SP_RECORD_BREAK;
		return SP_OK;
	case SP_FRAME_EXIT_STATUS:
		o->kind = SP_RECORD_EXIT;
		return SP_OK;
	case SP_FRAME_EXIT_SIGNAL:
		o->kind = SP_RECORD_EXIT_SIGNAL;
		return check_exit_signal(f->payload);
	case SP_FRAME_LISTEN:
		o->kind = SP_RECORD_LISTEN;
		return SP_OK;
	case SP_FRAME_LISTEN_OK:
		o->kind = SP_RECORD_LISTEN_OK;
		return SP_OK;
	case SP_FRAME_LISTEN_FAIL:
		o->kind = SP_RECORD_LISTEN_FAIL;
		return plain_text(f->payload, &o->bytes);
	case SP_FRAME_UNLISTEN:
		o->kind = SP_RECORD_UNLISTEN;
		return SP_OK;
	case SP_FRAME_WANTS:
		o->kind = SP_RECORD_WANTS;
		return SP_OK;
	case SP_FRAME_SECRET:
		if (from_user)
			o->lane = SP_LANE_IN;
		o->kind = SP_RECORD_SECRET;
		return SP_OK;
	case SP_FRAME_EOF:
	case SP_FRAME_CLOSE:
		o->kind = f->type == SP_FRAME_EOF ? SP_RECORD_EOF :
		    SP_RECORD_CLOSE;
		o->bytes = sp_span_of(&o->side, 1);
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}

static void
protocol_broken(struct sp_relay *r, bool from_user, const char *why)
{
	sp_relay_event(r, "protocol_broken", 0, why);
	sp_relay_end(r, SP_END_PROTOCOL, "the %s side broke the protocol",
	    from_user ? "user" : "target");
}

static void
tell_open(struct sp_relay *r, const struct sp_frame *f)
{
	char detail[1800], text[1600];
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK)
		return;
	sp_vis(text, sizeof(text), o.command);
	if (sp_open_is_forward(o.kind))
		sp_flow_describe(detail, sizeof(detail), &o);
	else if (o.kind == SP_OPEN_SHELL)
		snprintf(detail, sizeof(detail), "shell");
	else
		snprintf(detail, sizeof(detail), "%s: %s",
		    sp_open_kind_name(o.kind), text);
	if (o.has_pty != 0)
		snprintf(detail + strlen(detail), sizeof(detail) - strlen(detail),
		    " (pty %ux%u)", o.cols, o.rows);
	sp_relay_event(r, "channel_open", f->chan, detail);
}

static void
tell_listen(struct sp_relay *r, const struct sp_frame *f)
{
	const struct sp_listen *l = sp_channels_listener(&r->channels, f->chan);
	char detail[1800], host[1100];

	if (f->type == SP_FRAME_UNLISTEN)
		sp_relay_event(r, "listener_closed", f->chan, "");
	if (f->type != SP_FRAME_LISTEN_OK || l == NULL)
		return;
	sp_vis(host, sizeof(host), sp_span_of(l->host, l->n_host));
	snprintf(detail, sizeof(detail), "%s port %u at the target", l->n_host ==
	    0 ? "every address" : host, l->port);
	sp_relay_event(r, "listener_open", f->chan, detail);
}

/* Not permitted: the side that asked learns it, the other never hears of it. */
static enum sp_err
refuse(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	struct sp_stream *to = from_user ? &r->user : &r->target;
	bool is_listen = f->type == SP_FRAME_LISTEN;
	const char *why = r->channels.why;
	uint8_t side = from_user ? 1 : 0;

	sp_relay_event(r, is_listen ? "listener_refused" : "channel_refused",
	    f->chan, why);
	SP_TRY(sp_rec_writer_put(r->w, SP_LANE_OUT, is_listen ?
	    SP_RECORD_LISTEN_FAIL : SP_RECORD_OPEN_FAIL, f->chan,
	    sp_span_str(why)));
	if (is_listen)
		return sp_stream_put_text(to, SP_FRAME_LISTEN_FAIL, f->chan, why);
	SP_TRY(sp_rec_writer_put(r->w, SP_LANE_OUT, SP_RECORD_CLOSE, f->chan,
	    sp_span_of(&side, 1)));
	SP_TRY(sp_stream_put_text(to, SP_FRAME_OPEN_FAIL, f->chan, why));
	return sp_stream_put(to, SP_FRAME_CLOSE, 0, f->chan, (struct sp_span){0});
}

/* ------------------------------------------------------ counted and hashed */

static enum sp_err
put_flow(struct sp_relay *r, const struct sp_flow *w,
    uint8_t rec[static SP_FLOW_RECORD_BYTES])
{
	SP_TRY(sp_flow_record(w, sp_boot_us(), rec));
	return sp_rec_writer_put(r->w, SP_LANE_OUT, SP_RECORD_FLOW, w->chan,
	    sp_span_of(rec, SP_FLOW_RECORD_BYTES));
}

static enum sp_err
end_flow(struct sp_relay *r, struct sp_flow *w)
{
	uint8_t rec[SP_FLOW_RECORD_BYTES];
	char detail[1600];
	enum sp_err e = put_flow(r, w, rec);

	if (e == SP_OK) {
		sp_flow_text(detail, sizeof(detail), w->what, rec);
		sp_relay_event(r, w->kind < SP_OPEN_FORWARD ? "exec_closed" :
		    "forward_closed", w->chan, detail);
	}
	sp_flow_free(&r->flows, w);
	return e;
}

void
sp_relay_end_flows(struct sp_relay *r)
{
	while (r->flows != NULL)
		if (end_flow(r, r->flows) != SP_OK)
			sp_log(SP_ERROR, "flow_lost", r->session, "");
}

static enum sp_err
begin_flow(struct sp_relay *r, const struct sp_frame *f)
{
	struct sp_open o;
	bool digest = r->rules->exec_body == SP_BODY_DIGEST;

	SP_TRY(sp_open_decode(f->payload, &o));
	if (sp_open_is_forward(o.kind) ||
	    (digest && o.kind == SP_OPEN_EXEC && o.has_pty == 0))
		return sp_flow_new(&r->flows, f->chan, &o, digest);
	return SP_OK;
}

/* Counts what passes. *is_kept: does it go into the recording as it is? */
static enum sp_err
count(struct sp_relay *r, const struct sp_frame *f, bool from_user,
    bool *is_kept)
{
	struct sp_flow *w = sp_flow_find(r->flows, f->chan);

	if (w == NULL)
		return SP_OK;
	if (f->type == SP_FRAME_CLOSE) {
		w->user_closed |= from_user;
		w->target_closed |= !from_user;
	}
	if (f->type != SP_FRAME_DATA)
		return SP_OK;
	*is_kept = !w->is_digest;
	SP_TRY(sp_flow_add(w, from_user ? SP_FLOW_TO_TARGET : f->lane == 2 ?
	    SP_FLOW_ERR : SP_FLOW_TO_USER, f->payload));
	w->told += f->payload.n;
	return SP_OK;
}

/* Bytes that are not kept: their digest is, before they are forwarded. */
static enum sp_err
digests_so_far(struct sp_relay *r)
{
	uint8_t rec[SP_FLOW_RECORD_BYTES];

	for (struct sp_flow *w = r->flows; w != NULL; w = w->next)
		if (w->is_digest && w->told > 0) {
			w->told = 0;
			SP_TRY(put_flow(r, w, rec));
		}
	return SP_OK;
}

static enum sp_err
closed(struct sp_relay *r, const struct sp_frame *f)
{
	struct sp_flow *w = sp_flow_find(r->flows, f->chan);

	return w == NULL || !w->user_closed || !w->target_closed ? SP_OK :
	    end_flow(r, w);
}

static enum sp_err
record(struct sp_relay *r, const struct sp_frame *f, bool from_user,
    enum sp_frame_verdict v)
{
	bool is_kept = true;
	struct form o;

	SP_TRY(form_of(f, from_user, &o));
	if (v == SP_FRAME_PASS && f->type == SP_FRAME_OPEN)
		SP_TRY(begin_flow(r, f));
	SP_TRY(count(r, f, from_user, &is_kept));
	if (is_kept)
		SP_TRY(sp_rec_writer_put(r->w, o.lane, o.kind, f->chan, o.bytes));
	if (v == SP_FRAME_PASS)
		sp_aside_frame(r, f, from_user);
	r->user_input |= from_user;
	return f->type == SP_FRAME_CLOSE ? closed(r, f) : SP_OK;
}

/* Variables that the rules do not name go neither to the target nor into the
 * record of what it was asked. The payload of *f is then in `to`. */
static enum sp_err
filter_env(struct sp_relay *r, struct sp_frame *f, struct sp_buf *to)
{
	SP_BUF_AUTO kept = {.max = SP_FRAME_PAYLOAD_MAX};
	struct sp_span env, name, value;
	char text[256], detail[300];
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK)
		return SP_OK;	/* the judge says what is wrong with it */
	for (env = o.env; sp_open_env_next(&env, &name, &value) == SP_OK;) {
		if (sp_rules_env(r->rules, name)) {
			SP_TRY(sp_buf_put_bytes(&kept, name));
			SP_TRY(sp_buf_put_bytes(&kept, value));
			continue;
		}
		sp_vis(text, sizeof(text), name);
		snprintf(detail, sizeof(detail), "variable %s", text);
		sp_relay_event(r, "env_dropped", f->chan, detail);
	}
	if (kept.len == o.env.n)
		return SP_OK;
	o.env = sp_buf_span(&kept);
	SP_TRY(sp_open_encode(to, &o));
	f->payload = sp_buf_span(to);
	return SP_OK;
}

static enum sp_err
record_and_queue(struct sp_relay *r, const struct sp_frame *f, bool from_user,
    enum sp_frame_verdict v)
{
	struct sp_stream *to = from_user ? &r->target : &r->user;

	if (f->type != SP_FRAME_CREDIT)
		SP_TRY(record(r, f, from_user, v));
	if (v == SP_FRAME_PASS)
		return sp_stream_put(to, f->type, f->lane, f->chan, f->payload);
	return v == SP_FRAME_REFUSE ? refuse(r, f, from_user) : SP_OK;
}

enum sp_err
sp_relay_record(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	return record(r, f, from_user, SP_FRAME_PASS);
}

enum sp_err
sp_relay_pass(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	return record_and_queue(r, f, from_user, SP_FRAME_PASS);
}

static enum sp_err
deliver(struct sp_relay *r, const struct sp_frame *f, bool from_user,
    enum sp_frame_verdict v)
{
	if (v == SP_FRAME_PASS && sp_files_has(r, f->chan))
		return sp_files_frame(r, f, from_user);
	SP_TRY(record_and_queue(r, f, from_user, v));
	return v == SP_FRAME_PASS && f->type == SP_FRAME_OPEN && from_user ?
	    sp_files_open(r, f) : SP_OK;
}

static void
failed(struct sp_relay *r, enum sp_err e, bool from_user)
{
	if (e == SP_ERR_PROTO)
		protocol_broken(r, from_user, "a frame with a broken payload");
	else if (e != SP_OK && e != SP_ERR_EOF)
		sp_relay_end(r, SP_END_DISK, "the recorder: %s", sp_err_text(e));
	/* SP_ERR_EOF: that side is gone: its end is seen elsewhere */
}

void
sp_relay_frame(struct sp_relay *r, struct sp_frame *f, bool from_user)
{
	SP_BUF_AUTO open = {.max = SP_FRAME_PAYLOAD_MAX};
	enum sp_frame_verdict v;
	enum sp_err e = SP_OK;

	if (from_user && f->type == SP_FRAME_OPEN)
		e = filter_env(r, f, &open);
	v = sp_channels_judge(&r->channels, f, from_user);
	if (v == SP_FRAME_FAULT) {
		protocol_broken(r, from_user, r->channels.why);
		return;
	}
	if (e == SP_OK)
		e = deliver(r, f, from_user, v);
	if (e != SP_OK)
		failed(r, e, from_user);
	else if (v == SP_FRAME_PASS && f->type == SP_FRAME_OPEN)
		tell_open(r, f);
	else if (v == SP_FRAME_PASS)
		tell_listen(r, f);
}

void
sp_relay_refuse(struct sp_relay *r, struct sp_frame *f, const char *why)
{
	r->channels.refusal = why;
	sp_relay_frame(r, f, true);
	r->channels.refusal = NULL;
}

void
sp_relay_user_went(struct sp_relay *r)
{
	unsigned n = sp_channels_n_user_open(&r->channels);

	if (n == 0)
		sp_relay_end(r, SP_END_NORMAL, "the user disconnected");
	else
		sp_relay_end(r, SP_END_LEG_DIED,
		    "the user's side went away with %u channel%s open", n,
		    n == 1 ? "" : "s");
}

static void
from(struct sp_relay *r, struct sp_stream *s, bool is_user)
{
	struct sp_stream *to = is_user ? &r->target : &r->user;
	bool *ready = is_user ? &r->user_ready : &r->target_ready;
	size_t room = sp_rec_writer_waiting(r->w) + SP_RELAY_BATCH;
	struct sp_frame f;
	enum sp_err e = SP_OK, got = SP_OK;

	if (sp_stream_pending(to) > SP_RELAY_HIGH)
		return;
	for (int i = 0; i < 2 && *ready && got == SP_OK &&
	    s->rx.len < SP_RELAY_BATCH; i++)
		*ready = (got = sp_stream_fill(s)) == SP_OK &&
		    s->rx.len >= SP_RELAY_BATCH / 2;
	if (is_user)
		sp_gate_go(r);
	while (!r->is_ending && sp_rec_writer_waiting(r->w) < room &&
	    !(is_user && sp_gate_is_shut(r)) &&
	    (e = sp_stream_next(s, &f)) == SP_OK)
		if (!is_user || !sp_gate_takes(r, &f))
			sp_relay_frame(r, &f, is_user);
	if (r->is_ending)
		return;
	if (is_user && sp_gate_is_shut(r)) {
		if (s->eof)
			sp_relay_user_went(r);
		return;
	}
	if (e == SP_ERR_PROTO) {
		protocol_broken(r, is_user, s->fault);
	} else if (e == SP_OK) {
		r->more = true;
	} else if (s->eof && is_user) {
		sp_relay_user_went(r);
	} else if (s->eof && r->target_gone_us == 0) {
		r->target_gone_us = sp_boot_us();
	}
}

void
sp_relay_take(struct sp_relay *r)
{
	r->more = false;
	r->user_input = false;
	if (r->gate.is_frozen)
		return;
	failed(r, sp_files_pump(r), true);
	if (!r->is_ending)
		from(r, &r->target, false);
	if (!r->is_ending)
		from(r, &r->user, true);
	r->is_unsafe = digests_so_far(r) != SP_OK;
}
