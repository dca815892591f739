/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/files.h"

#include <stdlib.h>
#include <string.h>

#include "recorder/files_int.h"

/* One batch's records must fit into the writer; more is committed before. To
 * record early is always right: only forwarding waits. */
#define RECORDS_HIGH SP_RELAY_BATCH

static enum sp_err
make_room(struct sp_relay *r)
{
	return sp_rec_writer_waiting(r->w) < RECORDS_HIGH ? SP_OK :
	    sp_rec_writer_commit(r->w);
}

enum sp_err
files_put(struct sp_relay *r, uint8_t lane, uint8_t kind, uint32_t chan,
    struct sp_span s)
{
	SP_TRY(make_room(r));
	return sp_rec_writer_put(r->w, lane, kind, chan, s);
}

/* ------------------------------------------------- what the parser says */

static enum sp_err
flush_record(struct sp_files_chan *c)
{
	struct sp_frame f = {.type = SP_FRAME_DATA, .chan = c->num,
	    .lane = c->record.to_target ? 0 : 1, .payload = c->record.s};

	c->record.s.n = 0;
	if (f.payload.n == 0)
		return SP_OK;
	SP_TRY(make_room(c->r));
	return sp_relay_record(c->r, &f, c->record.to_target);
}

/* A side that has gone takes nothing; what the other says is still judged. */
static enum sp_err
send(struct sp_files_chan *c, bool to_target, struct sp_span s)
{
	enum sp_err e = sp_stream_put(to_target ? &c->r->target : &c->r->user,
	    SP_FRAME_DATA, to_target ? 0 : 1, c->num, s);

	return e == SP_ERR_EOF ? SP_OK : e;
}

static enum sp_err
flush_forward(struct sp_files_chan *c)
{
	struct sp_span s = c->forward.s;
	bool to_target = c->forward.to_target;

	c->forward.s.n = 0;
	return s.n == 0 ? SP_OK : send(c, to_target, s);
}

static enum sp_err
flush_runs(struct sp_files_chan *c)
{
	SP_TRY(flush_record(c));
	return flush_forward(c);
}

static bool
joins(const struct sp_files_chan *c, const struct files_run *run,
    bool to_target, struct sp_span s)
{
	return run->s.n > 0 && run->to_target == to_target &&
	    run->s.p + run->s.n == s.p && c->input.n > 0 &&
	    run->s.n + s.n <= SP_FRAME_PAYLOAD_MAX;
}

/* Bytes of the parser's own buffer are gone when it returns; those of the
 * frame at hand stay, and go on in one piece. */
static bool
stays(const struct sp_files_chan *c, struct sp_span s)
{
	return s.p >= c->input.p && s.p < c->input.p + c->input.n;
}

/* Content of a file: who sees the screen does not see it. */
static enum sp_err
record_body(struct sp_files_chan *c, bool to_target, struct sp_span s,
    const struct sp_xfer_at *at)
{
	SP_BUF_AUTO b = {.max = SP_XFER_BODY_HEAD + SP_FRAME_PAYLOAD_MAX};

	sp_rec_writer_count(c->r->w, to_target, s.n);
	c->r->user_input |= to_target;
	if (c->r->rules->file_body != SP_BODY_FULL)
		return SP_OK;
	SP_TRY(sp_buf_put_u8(&b, SP_XFER_DIR(to_target ? SP_RIGHT_UPLOAD :
	    SP_RIGHT_DOWNLOAD)));
	SP_TRY(sp_buf_put_u32(&b, at->file));
	SP_TRY(sp_buf_put_u64(&b, at->offset));
	SP_TRY(sp_buf_put(&b, s.p, s.n));
	return files_put(c->r, SP_LANE_FILE, SP_RECORD_BODY, c->num,
	    sp_buf_span(&b));
}

static enum sp_err
out_pass(void *arg, bool to_target, struct sp_span s,
    const struct sp_xfer_at *at)
{
	struct sp_files_chan *c = arg;
	/* Where the channel as a whole is kept as a digest, that counts it. */
	bool keep = at == NULL || sp_flow_find(c->r->flows, c->num) != NULL;

	if (s.n == 0)
		return SP_OK;
	if (!joins(c, &c->record, to_target, s) || !keep)
		SP_TRY(flush_record(c));
	if (!keep)
		SP_TRY(record_body(c, to_target, s, at));
	else if (c->record.s.n > 0)
		c->record.s.n += s.n;
	else
		c->record = (struct files_run){s, to_target};
	if (!joins(c, &c->forward, to_target, s))
		SP_TRY(flush_forward(c));
	if (c->forward.s.n > 0)
		c->forward.s.n += s.n;
	else
		c->forward = (struct files_run){s, to_target};
	return stays(c, s) ? SP_OK : flush_runs(c);
}

static enum sp_err
out_drop(void *arg, bool from_user, size_t n)
{
	struct sp_files_chan *c = arg;

	c->r->user_input |= from_user;
	*(from_user ? &c->back_user : &c->back_target) += n;
	return SP_OK;
}

static enum sp_err
out_say(void *arg, bool to_target, struct sp_span s)
{
	struct sp_files_chan *c = arg;
	SP_BUF_AUTO b = {.max = SP_FRAME_PAYLOAD_MAX};

	SP_TRY(flush_runs(c));
	SP_TRY(sp_buf_put_u8(&b, to_target ? 0 : 1));
	SP_TRY(sp_buf_put(&b, s.p, s.n));
	SP_TRY(files_put(c->r, SP_LANE_OUT, SP_RECORD_SAID, c->num,
	    sp_buf_span(&b)));
	*(to_target ? &c->owed_target : &c->owed_user) += s.n;
	return send(c, to_target, s);
}

static size_t
out_room(void *arg, bool to_target)
{
	const struct sp_files_chan *c = arg;
	uint64_t owed = to_target ? c->owed_target : c->owed_user;

	return owed >= SP_STREAM_SLACK ? 0 : SP_STREAM_SLACK - (size_t)owed;
}

static enum sp_err
out_note(void *arg, const struct sp_xfer_note *n)
{
	struct sp_files_chan *c = arg;

	/* In the order in which it happened. */
	SP_TRY(flush_record(c));
	return files_note(c, n);
}

static enum sp_xfer_leave
out_leave(void *arg, uint32_t ops, struct sp_span path)
{
	struct sp_files_chan *c = arg;
	enum sp_gate_state s = sp_gate_transfer(c->r, c->num, ops, path);

	return s == SP_GATE_LET ? SP_XFER_GOES :
	    s == SP_GATE_REFUSED ? SP_XFER_STAYS : SP_XFER_WAITS;
}

/* ------------------------------------------------------------- channels */

#define NOWHERE SP_STREAM_CHANNELS_MAX

/* Of number 0: the first that is free. */
static size_t
place(const struct sp_relay *r, uint32_t num)
{
	const struct sp_files *s = &r->files;

	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		if (s->chan[i] == NULL ? num == 0 : s->chan[i]->num == num)
			return i;
	return NOWHERE;
}

bool
sp_files_has(const struct sp_relay *r, uint32_t chan)
{
	return chan != 0 && place(r, chan) != NOWHERE;
}

static void
chan_free(struct sp_files_chan *c)
{
	sp_sftp_free(c->sftp);
	sp_scp_free(c->scp);
	sp_buf_fini(&c->hold);
	free(c);
}

static enum sp_err
begin(struct sp_relay *r, uint32_t num, bool is_sftp)
{
	size_t at = place(r, 0);
	struct sp_files_chan *c;
	struct sp_xfer_session *s = &r->files.session;

	s->rules = r->rules;
	if (s->md == NULL && (s->md = EVP_MD_fetch(NULL, "SHA256", NULL)) == NULL)
		return SP_ERR_CRYPTO;
	if (at == NOWHERE || (c = calloc(1, sizeof(*c))) == NULL)
		return SP_ERR_NOMEM;
	c->r = r;
	c->num = num;
	c->out = (struct sp_xfer_out){.arg = c, .pass = out_pass,
	    .drop = out_drop, .say = out_say, .room = out_room, .note = out_note,
	    .leave = out_leave};
	sp_buf_init(&c->hold, SP_STREAM_WINDOW + SP_FRAME_PAYLOAD_MAX);
	if (is_sftp)
		c->sftp = sp_sftp_new(&c->out, s);
	else
		c->scp = sp_scp_new(&c->out, s);
	if (c->sftp == NULL && c->scp == NULL) {
		chan_free(c);
		return SP_ERR_NOMEM;
	}
	r->files.chan[at] = c;
	return SP_OK;
}

enum sp_err
sp_files_open(struct sp_relay *r, const struct sp_frame *f)
{
	struct sp_open o;

	SP_TRY(sp_open_decode(f->payload, &o));
	if (o.kind == SP_OPEN_SUBSYSTEM && sp_span_is(o.command, "sftp"))
		return begin(r, f->chan, true);
	return o.kind == SP_OPEN_EXEC && o.has_pty == 0 ?
	    begin(r, f->chan, false) : SP_OK;
}

/* The last words about it. */
static enum sp_err
over(struct sp_files_chan *c)
{
	enum sp_err e = SP_OK;

	sp_gate_forget(c->r, c->num);
	if (c->sftp != NULL)
		e = sp_sftp_end(c->sftp);
	else if (c->scp != NULL)
		e = sp_scp_end(c->scp);
	if (!c->is_dead)
		files_total(c);
	sp_sftp_free(c->sftp);
	sp_scp_free(c->scp);
	c->sftp = NULL;
	c->scp = NULL;
	return e;
}

static enum sp_err
let_go(struct sp_files_chan *c)
{
	size_t at = place(c->r, c->num);
	enum sp_err e = over(c);

	SP_ASSERT(at != NOWHERE);
	c->r->files.chan[at] = NULL;
	chan_free(c);
	return e;
}

/* It does not speak what it must: the channel ends, the session goes on. */
static enum sp_err
cut(struct sp_files_chan *c, const char *why)
{
	struct sp_relay *r = c->r;
	struct sp_xfer_note n = {.op = SP_XFER_PROTOCOL,
	    .result = SP_XFER_REFUSED, .text = sp_span_str(why)};
	uint8_t status[4] = {1, 0, 0, 0};

	SP_TRY(files_note(c, &n));
	SP_TRY(over(c));
	c->is_dead = true;
	c->is_stalled = c->eof_waits = false;
	sp_buf_fini(&c->hold);
	if (!c->target_closed && c->is_open)
		SP_TRY(sp_stream_put(&r->user, SP_FRAME_EXIT_STATUS, 0, c->num,
		    sp_span_of(status, 4)));
	if (!c->target_closed)
		SP_TRY(sp_stream_put(&r->user, SP_FRAME_CLOSE, 0, c->num,
		    (struct sp_span){0}));
	return c->user_closed ? SP_OK : sp_stream_put(&r->target,
	    SP_FRAME_CLOSE, 0, c->num, (struct sp_span){0});
}

/* --------------------------------------------------------------- bytes */

static enum sp_err
give_back(struct sp_files_chan *c)
{
	size_t user = c->back_user, target = c->back_target;

	c->back_user = c->back_target = 0;
	if (c->is_dead)
		return SP_OK;
	if (user > 0 && !c->user_closed && !c->target_closed) {
		sp_channels_credit(&c->r->channels, c->num, (int64_t)user, 0);
		SP_TRY(sp_stream_put_u32(&c->r->user, SP_FRAME_CREDIT, c->num,
		    (uint32_t)user));
	}
	if (target > 0 && !c->user_closed && !c->target_closed) {
		sp_channels_credit(&c->r->channels, c->num, 0, (int64_t)target);
		SP_TRY(sp_stream_put_u32(&c->r->target, SP_FRAME_CREDIT, c->num,
		    (uint32_t)target));
	}
	return SP_OK;
}

static const char *
why_of(const struct sp_files_chan *c)
{
	return c->sftp != NULL ? sp_sftp_why(c->sftp) : sp_scp_why(c->scp);
}

/* Moves *s over what was taken. */
static enum sp_err
feed(struct sp_files_chan *c, bool from_user, struct sp_span *s)
{
	enum sp_err e, flushed;

	c->input = *s;
	e = c->sftp != NULL ? sp_sftp_take(c->sftp, from_user, s) :
	    sp_scp_take(c->scp, from_user, s);
	flushed = flush_runs(c);
	c->input = (struct sp_span){0};
	if (from_user)
		c->is_stalled = e == SP_ERR_AGAIN;
	if (flushed != SP_OK)
		return flushed;
	if (e == SP_ERR_PROTO && why_of(c)[0] != '\0')
		e = cut(c, why_of(c));
	if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	return give_back(c);
}

static enum sp_err
pass_eof(struct sp_files_chan *c)
{
	struct sp_frame f = {.type = SP_FRAME_EOF, .chan = c->num};

	c->eof_waits = false;
	return sp_relay_pass(c->r, &f, true);
}

/* What the user sent before, as far as it can be judged now. */
static enum sp_err
pump(struct sp_files_chan *c)
{
	bool once = c->is_stalled;

	while (!c->is_dead && (c->hold.len > 0 || once)) {
		struct sp_span s = sp_buf_span(&c->hold);
		size_t n;

		if (sp_stream_pending(&c->r->target) > SP_RELAY_HIGH)
			return SP_OK;
		if (sp_rec_writer_waiting(c->r->w) >= RECORDS_HIGH) {
			c->r->more = true;
			return SP_OK;
		}
		once = false;
		if (s.n > SP_FRAME_PAYLOAD_MAX)
			s.n = SP_FRAME_PAYLOAD_MAX;
		n = s.n;
		SP_TRY(feed(c, true, &s));
		if (c->is_dead)
			return SP_OK;
		sp_buf_consume(&c->hold, n - s.n);
		if (c->is_stalled)
			return SP_OK;
	}
	if (c->hold.len == 0 && c->hold.cap > SP_FRAME_PAYLOAD_MAX)
		sp_buf_fini(&c->hold);
	return c->eof_waits && !c->is_dead ? pass_eof(c) : SP_OK;
}

static enum sp_err
user_data(struct sp_files_chan *c, struct sp_span s)
{
	if (c->is_stalled || c->hold.len > 0) {
		SP_TRY(sp_buf_put(&c->hold, s.p, s.n));
		return pump(c);
	}
	SP_TRY(feed(c, true, &s));
	return c->is_dead ? SP_OK : sp_buf_put(&c->hold, s.p, s.n);
}

static enum sp_err
target_data(struct sp_files_chan *c, struct sp_span s)
{
	SP_TRY(feed(c, false, &s));
	return c->is_dead ? SP_OK : pump(c);
}

/* --------------------------------------------------------------- frames */

/* Grants for bytes that the recorder made are not the other side's. */
static enum sp_err
credit(struct sp_files_chan *c, const struct sp_frame *f, bool from_user)
{
	uint64_t *owed = from_user ? &c->owed_user : &c->owed_target;
	struct sp_span p = f->payload;
	uint32_t n = 0, k;

	SP_TRY(sp_get_u32(&p, &n));
	k = n < *owed ? n : (uint32_t)*owed;
	*owed -= k;
	sp_channels_credit(&c->r->channels, c->num, from_user ? 0 : -(int64_t)k,
	    from_user ? -(int64_t)k : 0);
	if (n > k)
		SP_TRY(sp_stream_put_u32(from_user ? &c->r->target : &c->r->user,
		    SP_FRAME_CREDIT, c->num, n - k));
	if (k == 0)
		return SP_OK;
	if (c->sftp != NULL)
		SP_TRY(sp_sftp_poke(c->sftp));
	return pump(c);
}

/* A side says no more: what was held for a look at more of it goes on. */
static enum sp_err
no_more(struct sp_files_chan *c, bool from_user)
{
	if (c->scp == NULL)
		return SP_OK;
	SP_TRY(sp_scp_eof(c->scp, from_user));
	SP_TRY(flush_runs(c));
	return pump(c);
}

static enum sp_err
close_of(struct sp_files_chan *c, const struct sp_frame *f, bool from_user)
{
	if (!c->is_dead) {
		SP_TRY(no_more(c, from_user));
		SP_TRY(sp_relay_pass(c->r, f, from_user));
		/* Nobody is left to answer what was not yet judged. */
		c->is_stalled = c->eof_waits = false;
		sp_buf_fini(&c->hold);
	}
	*(from_user ? &c->user_closed : &c->target_closed) = true;
	return c->user_closed && c->target_closed ? let_go(c) : SP_OK;
}

static enum sp_err
live_frame(struct sp_files_chan *c, const struct sp_frame *f, bool from_user)
{
	switch (f->type) {
	case SP_FRAME_DATA:
		if (c->user_closed || c->target_closed ||
		    (!from_user && f->lane != 1))
			return sp_relay_pass(c->r, f, from_user);
		return from_user ? user_data(c, f->payload) :
		    target_data(c, f->payload);
	case SP_FRAME_CREDIT:
		return credit(c, f, from_user);
	case SP_FRAME_EOF:
		SP_TRY(no_more(c, from_user));
		if (!from_user || (c->hold.len == 0 && !c->is_stalled))
			return sp_relay_pass(c->r, f, from_user);
		c->eof_waits = true;
		return SP_OK;
	case SP_FRAME_OPEN_OK:
		c->is_open = true;
		return sp_relay_pass(c->r, f, from_user);
	case SP_FRAME_OPEN_FAIL:
		SP_TRY(sp_relay_pass(c->r, f, from_user));
		return let_go(c);
	default:
		return sp_relay_pass(c->r, f, from_user);
	}
}

/* Nothing more is to be seen on it: it goes its way without us. */
static enum sp_err
look_away(struct sp_relay *r, uint32_t num)
{
	size_t at = place(r, num);
	struct sp_files_chan *c = at == NOWHERE ? NULL : r->files.chan[at];

	return c == NULL || c->scp == NULL || c->is_stalled || c->eof_waits ||
	    c->hold.len > 0 || c->owed_user + c->owed_target > 0 ||
	    !sp_scp_is_other(c->scp) ? SP_OK : let_go(c);
}

enum sp_err
sp_files_frame(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	size_t at = place(r, f->chan);
	struct sp_files_chan *c = at == NOWHERE ? NULL : r->files.chan[at];

	SP_ASSERT(c != NULL);
	if (f->type == SP_FRAME_CLOSE)
		return close_of(c, f, from_user);
	if (c->is_dead)
		return SP_OK;
	SP_TRY(live_frame(c, f, from_user));
	return look_away(r, f->chan);
}

enum sp_err
sp_files_pump(struct sp_relay *r)
{
	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++) {
		struct sp_files_chan *c = r->files.chan[i];

		if (c != NULL && !c->is_dead && (c->is_stalled ||
		    c->hold.len > 0))
			SP_TRY(pump(c));
	}
	return SP_OK;
}

void
sp_files_fini(struct sp_relay *r)
{
	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		if (r->files.chan[i] != NULL && let_go(r->files.chan[i]) != SP_OK)
			r->files.untold++;
	(void)sp_files_tick(r, INT64_MAX);
	sp_buf_fini(&r->files.lines);
	EVP_MD_free(r->files.session.md);
	r->files.session.md = NULL;
}
