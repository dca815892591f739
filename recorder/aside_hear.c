/* SPDX-License-Identifier: Apache-2.0 */
/* What a scribe says. It reads what targets send, so it is taken for hostile:
 * every field is checked, and what it may say is bounded by what it was given. */
#include <string.h>
#include <zstd.h>

#include "common/log.h"
#include "recorder/relay.h"
#include "recorder/term/term.h"
#include "recorder/view.h"

struct sp_aside_term *
sp_aside_term(struct sp_aside *a, uint32_t chan)
{
	for (size_t i = 0; chan != 0 && i < SP_ASIDE_TERMS; i++)
		if (a->t[i].chan == chan)
			return &a->t[i];
	return NULL;
}

/* What does not fit into a batch is left out: none of it is evidence. */
void
sp_aside_put(struct sp_relay *r, uint8_t lane, uint8_t kind, uint32_t chan,
    struct sp_span data)
{
	enum sp_err e = sp_rec_writer_put(r->w, lane, kind, chan, data);

	if (e != SP_OK)
		sp_log(SP_DEBUG, "view_left_out", r->session, "kind=%u error=\"%s\"",
		    kind, sp_err_text(e));
}

#define GATHER 256
#define GATHER_BYTES (32u << 10)

/* Lines of one channel that become one record; they point into the message. */
static struct {
	uint32_t chan;
	size_t n, bytes;
	struct sp_view_line l[GATHER];
} gathered;	/* one process has one session */

static void
put_lines(struct sp_relay *r)
{
	SP_BUF_AUTO b = {.max = 2 * GATHER_BYTES + GATHER * 16};
	enum sp_err e = gathered.n == 0 ? SP_OK : gathered.n == 1 ?
	    sp_view_line_encode(&b, &gathered.l[0]) :
	    sp_view_lines_encode(&b, gathered.l, gathered.n);

	if (e != SP_OK)
		sp_log(SP_ERROR, "lines_left_out", r->session, "error=\"%s\"",
		    sp_err_text(e));
	else if (gathered.n > 0)
		sp_aside_put(r, SP_LANE_VIEW, gathered.n == 1 ? SP_VIEW_LINE :
		    SP_VIEW_LINES, gathered.chan, sp_buf_span(&b));
	gathered.n = gathered.bytes = 0;
}

static enum sp_err
one_line(struct sp_relay *r, const struct sp_rec_record *d, uint64_t ago)
{
	struct sp_view_line v;

	SP_TRY(sp_view_line_decode(d->data, &v));
	if (v.ago_us != 0 || v.text.n == 0)
		return SP_ERR_PROTO;
	v.ago_us = ago;
	if (gathered.n > 0 && (gathered.chan != d->chan || gathered.n == GATHER ||
	    gathered.bytes + v.text.n > GATHER_BYTES ||
	    gathered.l[gathered.n - 1].ago_us < ago))
		put_lines(r);
	gathered.chan = d->chan;
	gathered.bytes += v.text.n;
	gathered.l[gathered.n++] = v;
	return SP_OK;
}

static enum sp_err
one_command(struct sp_relay *r, const struct sp_rec_record *d, uint64_t ago)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_COMMAND_MAX + 64};
	struct sp_view_command v;

	SP_TRY(sp_view_command_decode(d->data, &v));
	if (v.ago_us != 0 || v.text.n == 0 || v.source == SP_VIEW_EXEC)
		return SP_ERR_PROTO;
	v.ago_us = ago;
	SP_TRY(sp_view_command_encode(&b, &v));
	sp_aside_put(r, SP_LANE_VIEW, SP_VIEW_COMMAND, d->chan, sp_buf_span(&b));
	return SP_OK;
}

static enum sp_err
one_secret(struct sp_relay *r, const struct sp_rec_record *d)
{
	SP_BUF_AUTO b = {.max = 64};
	struct sp_view_span v;

	SP_TRY(sp_view_span_decode(d->data, &v));
	if (v.why.n != 0 || v.to_us > sp_aside_now(r))
		return SP_ERR_PROTO;
	SP_TRY(sp_view_span_encode(&b, &v));
	sp_aside_put(r, SP_LANE_META, SP_VIEW_SECRET, d->chan, sp_buf_span(&b));
	return SP_OK;
}

static enum sp_err
take_derived(struct sp_relay *r, struct sp_span body, const char **fault)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_scribe_derived m;
	struct sp_rec_record d;
	uint64_t now = sp_aside_now(r), ago;
	enum sp_err e;

	SP_TRY(sp_dec_scribe_derived(body, &m));
	*fault = "it says more than it may";
	a->allowed -= (int64_t)m.records.n;
	if (a->allowed < 0 || m.until > a->sent_us)
		return SP_ERR_PROTO;
	*fault = "a record that no scribe makes";
	while ((e = sp_rec_record_get(&m.records, &d)) == SP_OK) {
		if (sp_aside_term(a, d.chan) == NULL || d.at_us > a->sent_us)
			return SP_ERR_PROTO;
		ago = now > d.at_us ? now - d.at_us : 0;
		if (d.kind != SP_VIEW_LINE)
			put_lines(r);
		e = d.kind == SP_VIEW_LINE ? one_line(r, &d, ago) :
		    d.kind == SP_VIEW_COMMAND ? one_command(r, &d, ago) :
		    d.kind == SP_VIEW_SECRET ? one_secret(r, &d) : SP_ERR_PROTO;
		SP_TRY(e);
	}
	if (e != SP_ERR_EOF)
		return SP_ERR_PROTO;
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++)
		if (a->t[i].closed_us != 0 &&
		    m.until >= a->t[i].closed_us)
			sp_aside_forget(&a->t[i]);
	return SP_OK;
}

static enum sp_err
derived(struct sp_relay *r, struct sp_span body, const char **fault)
{
	enum sp_err e = take_derived(r, body, fault);

	put_lines(r);
	return e;
}

/* ---------------------------------------------------------- keyframes */

/* Kept in memory as long as the session lasts: packed, as little as can be. */
static void
keep(struct sp_aside_term *t, struct sp_span state)
{
	size_t room = ZSTD_compressBound(state.n), n;
	SP_BUF_AUTO b = {.max = room};
	uint8_t *at;

	sp_buf_fini(&t->state);
	t->state_bytes = 0;
	if (sp_buf_reserve(&b, room, &at) != SP_OK)
		return;
	n = ZSTD_compress(at, room, state.p, state.n, 1);
	if (ZSTD_isError(n))
		return;
	sp_buf_init(&t->state, n);
	if (sp_buf_put(&t->state, at, n) == SP_OK)
		t->state_bytes = (uint32_t)state.n;
}

static void
write_keyframe(struct sp_relay *r, const struct sp_msg_scribe_keyframe *m,
    struct sp_span state)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX + 64};
	struct sp_view_keyframe k = {.at_us = m->at_us, .cols = m->cols,
	    .rows = m->rows, .state = state,
	    .is_unsure = m->unsure != 0 || sp_aside_term(&r->aside,
	    m->chan)->is_unsure};

	if (sp_view_keyframe_encode(&b, &k) == SP_OK)
		sp_aside_put(r, SP_LANE_VIEW, SP_VIEW_KEYFRAME, m->chan,
		    sp_buf_span(&b));
}

static bool
is_next_part(const struct sp_aside_term *t,
    const struct sp_msg_scribe_keyframe *m)
{
	if (m->part.n == 0 || m->total > SP_VIEW_STATE_MAX ||
	    m->part.n > m->total || m->offset > m->total - m->part.n)
		return false;
	if (m->offset == 0)
		return true;
	return m->offset == t->part.len && m->total == t->part_total &&
	    m->at_us == t->part_at_us;
}

/* The state itself is not looked into here: whoever loads it does that, in a
 * process of its own. */
static enum sp_err
keyframe(struct sp_relay *r, struct sp_span body, const char **fault)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_scribe_keyframe m;
	struct sp_aside_term *t;

	SP_TRY(sp_dec_scribe_keyframe(body, &m));
	*fault = "it says more than it may";
	a->allowed -= (int64_t)m.part.n;
	if (a->allowed < 0)
		return SP_ERR_PROTO;
	*fault = "a screen that no scribe makes";
	t = sp_aside_term(a, m.chan);
	if (t == NULL || m.at_us > a->sent_us || m.cols == 0 ||
	    m.cols > SP_TERM_COLS_MAX || m.rows == 0 ||
	    m.rows > SP_TERM_ROWS_MAX || !is_next_part(t, &m))
		return SP_ERR_PROTO;
	if (m.offset == 0)
		sp_buf_fini(&t->part);
	t->part.max = SP_VIEW_STATE_MAX;
	t->part_total = m.total;
	t->part_at_us = m.at_us;
	SP_TRY(sp_buf_put(&t->part, m.part.p, m.part.n));
	if (t->part.len < m.total)
		return SP_OK;
	keep(t, sp_buf_span(&t->part));
	if (m.at_us > t->sure_us)
		t->sure_us = m.at_us;
	if (m.kept == 0)
		write_keyframe(r, &m, sp_buf_span(&t->part));
	sp_buf_fini(&t->part);
	return SP_OK;
}

enum sp_err
sp_aside_take(struct sp_relay *r, const struct sp_packet *p,
    const char **fault)
{
	*fault = "a broken message";
	switch (p->type) {
	case SP_MSG_scribe_derived:
		return derived(r, p->body, fault);
	case SP_MSG_scribe_keyframe:
		return keyframe(r, p->body, fault);
	default:
		return SP_ERR_PROTO;
	}
}
