/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/scribe/scribe.h"

#include <string.h>

#include "recorder/format.h"
#include "recorder/view.h"

#define SAID_MAX (256u << 10)
#define MESSAGE_MAX 61440
#define PART 60000
#define COLS 80	/* where the client does not say */
#define ROWS 24

void
sp_scribe_init(struct sp_scribe *s)
{
	*s = (struct sp_scribe){0};
	sp_buf_init(&s->said, SAID_MAX);
}

static void
close_term(struct sp_scribe_term *t)
{
	sp_lines_free(t->lines);
	sp_sense_free(t->sense);
	sp_buf_fini(&t->state);
	*t = (struct sp_scribe_term){0};
}

void
sp_scribe_fini(struct sp_scribe *s)
{
	for (size_t i = 0; i < SP_SCRIBE_TERMS; i++)
		close_term(&s->t[i]);
	sp_buf_fini(&s->said);
}

static struct sp_scribe_term *
find(struct sp_scribe *s, uint32_t chan)
{
	for (size_t i = 0; i < SP_SCRIBE_TERMS; i++)
		if (s->t[i].chan == chan)
			return &s->t[i];
	return NULL;
}

/* ---------------------------------------------------------- what is said */

static void
say(struct sp_scribe_term *t, uint64_t at_us, uint8_t kind,
    const struct sp_buf *data)
{
	struct sp_scribe *s = t->s;

	if (s->said_us == 0)
		s->said_us = sp_boot_us();
	/* A reading is told when it is certain; never of what is still to come. */
	if (sp_rec_record_put(&s->said, at_us < s->at_us ? at_us : s->at_us, kind,
	    t->chan, sp_buf_span(data)) != SP_OK)
		s->is_broken = true;
}

static void
on_line(void *ctx, uint16_t row, struct sp_span text)
{
	struct sp_scribe_term *t = ctx;
	SP_BUF_AUTO b = {.max = SP_VIEW_LINE_MAX + 64};
	struct sp_view_line v = {.row = row, .text = text};

	if (sp_view_line_encode(&b, &v) != SP_OK)
		t->s->is_broken = true;
	else
		say(t, t->s->at_us, SP_VIEW_LINE, &b);
}

static void
on_command(void *ctx, const struct sp_sense_command *c)
{
	struct sp_scribe_term *t = ctx;
	SP_BUF_AUTO b = {.max = SP_VIEW_COMMAND_MAX + 64};
	struct sp_view_command v = {.source = c->source == SP_SENSE_MARK ?
	    SP_VIEW_OSC : SP_VIEW_SCREEN, .percent = c->confidence,
	    .row = c->row, .text = c->text};

	if (c->text.n > 0 && (!sp_view_is_command(c->text) ||
	    sp_view_command_encode(&b, &v) != SP_OK))
		t->s->is_broken = true;
	else if (c->text.n > 0)
		say(t, c->at_us, SP_VIEW_COMMAND, &b);
}

static void
on_secret(void *ctx, const struct sp_sense_secret *c)
{
	struct sp_scribe_term *t = ctx;
	SP_BUF_AUTO b = {.max = 64};
	struct sp_view_span v = {.from_us = c->first_us, .to_us = c->to_us};

	if (sp_view_span_encode(&b, &v) != SP_OK)
		t->s->is_broken = true;
	else
		say(t, c->to_us, SP_VIEW_SECRET, &b);
}

/* As many whole records as one message takes. */
static struct sp_span
one_message(struct sp_span s)
{
	struct sp_rec_record r;
	struct sp_span at = s;
	size_t n = 0;

	while (sp_rec_record_get(&at, &r) == SP_OK && s.n - at.n <= MESSAGE_MAX)
		n = s.n - at.n;
	return sp_span_of(s.p, n);
}

static enum sp_err
send_said(struct sp_scribe *s, struct sp_link *l)
{
	struct sp_msg_scribe_derived m = {.until = s->until};

	do {
		m.records = one_message(sp_buf_span(&s->said));
		if (m.records.n == 0 && s->said.len > 0)
			return SP_ERR_PROTO;
		SP_TRY(sp_send_scribe_derived(l, 0, &m, NULL));
		sp_buf_consume(&s->said, m.records.n);
	} while (s->said.len > 0);
	s->said_us = 0;
		return SP_OK;
}

static enum sp_err
send_state(struct sp_scribe *s, struct sp_link *l, struct sp_scribe_term *t,
    struct sp_span state, bool is_kept)
{
	struct sp_msg_scribe_keyframe m = {.chan = t->chan, .at_us = s->until,
	    .cols = sp_term_cols(sp_lines_term(t->lines)),
	    .rows = sp_term_rows(sp_lines_term(t->lines)),
	    .unsure = t->is_unsure, .kept = is_kept, .total = (uint32_t)state.n};

	for (size_t at = 0; at < state.n; at += m.part.n) {
		size_t n = state.n - at;

		m.offset = (uint32_t)at;
		m.part = sp_span_of(state.p + at, n > PART ? PART : n);
		SP_TRY(sp_send_scribe_keyframe(l, 0, &m, NULL));
	}
	return SP_OK;
}

/* A screen of many colours at a great size says too much: the next one then. */
static enum sp_err
keyframe(struct sp_scribe *s, struct sp_link *l, struct sp_scribe_term *t,
    bool is_kept)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX};
	enum sp_err e = sp_term_dump(sp_lines_term(t->lines), &b);

	if (!is_kept) {
		t->since_frame = 0;
		t->frame_total = s->total;
		t->frame_us = sp_boot_us();
		t->frame_bytes = e == SP_OK ? b.len : SP_VIEW_STATE_MAX;
	}
	if (e == SP_ERR_TOOBIG)
		return SP_OK;
	SP_TRY(e);
	return send_state(s, l, t, sp_buf_span(&b), is_kept);
}

static bool
is_due(const struct sp_scribe_term *t)
{
	return t->lines != NULL && (t->since_frame >= SP_SCRIBE_FRAME_BYTES ||
	    (sp_boot_us() - t->frame_us >= SP_SCRIBE_FRAME_US &&
	    t->since_frame / SP_SCRIBE_FRAME_WORTH >= t->frame_bytes &&
	    t->since_frame > 0));
}

/* One that is quiet is kept with a busy one, so that a reader finds all screens of
 * a moment in one place: where it costs little beside what was read. */
static bool
goes_along(const struct sp_scribe_term *t)
{
	return t->lines != NULL && (t->s->total - t->frame_total) /
	    SP_SCRIBE_FRAME_WORTH >= t->frame_bytes;
}

static enum sp_err
keyframes(struct sp_scribe *s, struct sp_link *l)
{
	bool any = false;

	for (size_t i = 0; i < SP_SCRIBE_TERMS; i++)
		any |= is_due(&s->t[i]);
	for (size_t i = 0; any && i < SP_SCRIBE_TERMS; i++)
		if (is_due(&s->t[i]) || goes_along(&s->t[i]))
			SP_TRY(keyframe(s, l, &s->t[i], false));
	return SP_OK;
}

/* ------------------------------------------------------ what is taken */

static enum sp_err
open_term(struct sp_scribe *s, uint32_t chan, unsigned cols, unsigned rows,
    struct sp_scribe_term **out)
{
	struct sp_scribe_term *t = find(s, 0);

	if (chan == 0 || find(s, chan) != NULL || t == NULL)
		return SP_ERR_PROTO;
	*t = (struct sp_scribe_term){.chan = chan, .s = s,
	    .cols = cols == 0 ? COLS : cols, .rows = rows == 0 ? ROWS : rows, .frame_us = sp_boot_us(),
	    .frame_bytes = SP_VIEW_STATE_MAX / SP_SCRIBE_FRAME_WORTH};
	sp_buf_init(&t->state, SP_VIEW_STATE_MAX);
	*out = t;
	return SP_OK;
}

static enum sp_err
begin_sense(struct sp_scribe_term *t)
{
	struct sp_sense_ops ops = {.ctx = t, .command = on_command,
	    .secret = on_secret};

	return sp_sense_new(t->cols, t->rows, &ops, &t->sense);
}

static enum sp_err
begin_blank(struct sp_scribe_term *t)
{
	SP_TRY(begin_sense(t));
	return sp_lines_new(t->cols, t->rows, on_line, t, &t->lines);
}

static enum sp_err
begin_loaded(struct sp_scribe_term *t)
{
	struct sp_span state = sp_buf_span(&t->state);

	if (sp_lines_load(state, on_line, t, &t->lines) != SP_OK) {
		t->is_unsure = true;
		return begin_blank(t);
	}
	SP_TRY(begin_sense(t));
	return sp_sense_load(t->sense, state);
}

static enum sp_err
resize(struct sp_scribe_term *t, unsigned cols, unsigned rows)
{
	SP_TRY(sp_sense_resize(t->sense, cols, rows));
	return sp_lines_resize(t->lines, cols, rows);
}

static enum sp_err
on_screen(struct sp_scribe *s, struct sp_span body)
{
	struct sp_msg_scribe_screen m;
	struct sp_scribe_term *t;

	SP_TRY(sp_dec_scribe_screen(body, &m));
	if (m.state > SP_VIEW_STATE_MAX)
		return SP_ERR_PROTO;
	SP_TRY(open_term(s, m.chan, m.cols, m.rows, &t));
	t->is_unsure = m.unsure != 0;
	t->state_bytes = m.state;
	return m.state == 0 ? begin_blank(t) : SP_OK;
}

/* The state is a target's doing, and passed through a recorder's memory. One that
 * cannot be loaded costs what stood on that screen, not the session's lines. */
static enum sp_err
on_load(struct sp_scribe *s, struct sp_span body)
{
	struct sp_msg_scribe_load m;
	struct sp_scribe_term *t;

	SP_TRY(sp_dec_scribe_load(body, &m));
	t = find(s, m.chan);
	if (m.chan == 0 || t == NULL || t->lines != NULL ||
	    m.part.n > t->state_bytes - t->state.len)
		return SP_ERR_PROTO;
	SP_TRY(sp_buf_put(&t->state, m.part.p, m.part.n));
	if (t->state.len < t->state_bytes)
		return SP_OK;
	t->frame_bytes = t->state_bytes;
	SP_TRY(begin_loaded(t));
	sp_buf_fini(&t->state);
	/* It may have been resized since. */
	return resize(t, t->cols, t->rows);
}

static enum sp_err
on_open(struct sp_scribe *s, const struct sp_rec_record *r)
{
	struct sp_span d = r->data;
	struct sp_scribe_term *t;
	uint32_t cols = 0, rows = 0;

	SP_TRY(sp_get_u32(&d, &cols));
	SP_TRY(sp_get_u32(&d, &rows));
	SP_TRY(open_term(s, r->chan, cols, rows, &t));
	return begin_blank(t);
}

static enum sp_err
on_resize(struct sp_scribe_term *t, struct sp_span d)
{
	uint32_t cols = 0, rows = 0;

	SP_TRY(sp_get_u32(&d, &cols));
	SP_TRY(sp_get_u32(&d, &rows));
	return resize(t, cols == 0 ? COLS : cols, rows == 0 ? ROWS : rows);
}

static enum sp_err
one_record(struct sp_scribe *s, const struct sp_rec_record *r)
{
	struct sp_scribe_term *t = find(s, r->chan);
	enum sp_err e = SP_OK;

	s->at_us = r->at_us;
	if (r->kind == SP_RECORD_OPEN)
		return on_open(s, r);
	if (r->chan == 0 || t == NULL || t->lines == NULL)
		return SP_ERR_PROTO;
	switch (r->kind) {
	case SP_RECORD_OUT:
	case SP_RECORD_ERR:
		t->since_frame += r->data.n;
		s->total += r->data.n;
		sp_sense_out(t->sense, r->at_us, r->data);
		e = sp_lines_feed(t->lines, r->data);
		break;
	case SP_RECORD_IN:
		sp_sense_in(t->sense, r->at_us, r->data);
		break;
	case SP_RECORD_RESIZE:
		e = on_resize(t, r->data);
		break;
	case SP_RECORD_CLOSE:
		sp_sense_end(t->sense, r->at_us);
		sp_lines_end(t->lines);
		close_term(t);
		s->has_closed = true;
		break;
	default:
		return SP_ERR_PROTO;
	}
	return e;
}

static enum sp_err
on_copy(struct sp_scribe *s, struct sp_link *l, struct sp_span body)
{
	struct sp_msg_scribe_copy m;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_dec_scribe_copy(body, &m));
	for (size_t i = 0; i < SP_SCRIBE_TERMS && m.skipped > 0; i++)
		s->t[i].is_unsure = true;
	while ((e = sp_rec_record_get(&m.records, &r)) == SP_OK) {
		SP_TRY(one_record(s, &r));
		if (s->said.len >= SP_SCRIBE_SAY_BYTES)
			SP_TRY(send_said(s, l));
	}
	if (e != SP_ERR_EOF)
		return e;
	if (m.until == 0)
		return SP_OK;
	s->until = m.until;
	if (s->has_closed)
		SP_TRY(send_said(s, l));
	s->has_closed = false;
	return keyframes(s, l);
}

static enum sp_err
on_stop(struct sp_scribe *s, struct sp_link *l, struct sp_span body)
{
	struct sp_msg_scribe_stop m;

	SP_TRY(sp_dec_scribe_stop(body, &m));
	for (size_t i = 0; i < SP_SCRIBE_TERMS; i++) {
		struct sp_scribe_term *t = &s->t[i];

		if (t->lines == NULL)
			continue;
		sp_sense_end(t->sense, s->at_us);
		if (m.last != 0)
			sp_lines_end(t->lines);
		else
			sp_lines_flush(t->lines);
		if (m.last == 0)
			SP_TRY(keyframe(s, l, t, true));
	}
	s->is_stopped = true;
	return send_said(s, l);
}

enum sp_err
sp_scribe_take(struct sp_scribe *s, struct sp_link *l,
    const struct sp_packet *p)
{
	struct sp_msg_scribe_begin b;
	enum sp_err e;

	switch (p->type) {
	case SP_MSG_scribe_begin:
		SP_TRY(sp_dec_scribe_begin(p->body, &b));
		memcpy(s->session, b.session, sizeof(s->session));
		l->state = SP_ST_READY;
		return SP_OK;
	case SP_MSG_scribe_screen:
		e = on_screen(s, p->body);
		break;
	case SP_MSG_scribe_load:
		e = on_load(s, p->body);
		break;
	case SP_MSG_scribe_copy:
		e = on_copy(s, l, p->body);
		break;
	case SP_MSG_scribe_stop:
		e = on_stop(s, l, p->body);
		break;
	default:
		return SP_ERR_PROTO;
	}
	return e == SP_OK && s->is_broken ? SP_ERR_NOMEM : e;
}

enum sp_err
sp_scribe_tick(struct sp_scribe *s, struct sp_link *l, int64_t now,
    int64_t *again_us)
{
	*again_us = INT64_MAX;
	if (s->said_us != 0 && now - s->said_us >= SP_SCRIBE_SAY_US)
		SP_TRY(send_said(s, l));
	if (s->said_us != 0)
		*again_us = s->said_us + SP_SCRIBE_SAY_US;
	return SP_OK;
}
