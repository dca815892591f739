/* SPDX-License-Identifier: Apache-2.0 */
/* What of the session goes to its scribe. */
#include <string.h>

#include "common/log.h"
#include "recorder/relay.h"
#include "recorder/view.h"

#define PIECE (32u << 10)	/* of one record among the copies */
#define ROOM (64u << 10)	/* for what must not be left out */

uint64_t
sp_aside_now(const struct sp_relay *r)
{
	int64_t us = sp_boot_us() - sp_rec_writer_header(r->w)->t0_boot_us;

	return us < 0 ? 0 : (uint64_t)us;
}

void
sp_aside_gap(struct sp_relay *r, uint32_t chan, uint64_t from, const char *why)
{
	SP_BUF_AUTO b = {.max = 512};
	uint64_t now = sp_aside_now(r);
	struct sp_view_span v = {.why = sp_span_str(why),
	    .from_us = from < now ? from : now, .to_us = now};

	if (sp_view_span_encode(&b, &v) == SP_OK)
		sp_aside_put(r, SP_LANE_META, SP_VIEW_GAP, chan, sp_buf_span(&b));
}

/* SP_ERR_TOOBIG: no room, not even for what must not be left out. */
static enum sp_err
copy(struct sp_relay *r, uint8_t kind, uint32_t chan, struct sp_span s)
{
	struct sp_aside *a = &r->aside;

	if (a->failures >= SP_ASIDE_FAILURES)
		return SP_OK;	/* nobody will read it */
	a->last_us = sp_boot_us();
	a->copies.max = SP_ASIDE_COPIES + ROOM;
	return sp_rec_record_put(&a->copies, a->copy_us, kind, chan, s);
}

/* Once something was left out, so is what follows, until that has been told. */
static void
copy_bytes(struct sp_relay *r, uint8_t kind, uint32_t chan, struct sp_span s)
{
	struct sp_aside *a = &r->aside;

	if (a->skipped == 0 && a->copies.len + s.n <= SP_ASIDE_COPIES &&
	    copy(r, kind, chan, s) == SP_OK)
		return;
	if (a->skipped == 0)
		a->skip_from_us = a->copy_us;
	a->skipped += s.n;
}

static void
copy_data(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	struct sp_aside *a = &r->aside;
	uint8_t kind = from_user ? SP_RECORD_IN :
	    f->lane == 2 ? SP_RECORD_ERR : SP_RECORD_OUT;
	struct sp_span s = f->payload;

	if (s.n == 0)
		return;
	if (!from_user)
		a->output += s.n;
	else if (memchr(s.p, '\r', s.n) != NULL)
		a->has_enter = true;
	/* Control-C and -D end a line as well. */
	if (from_user)
		a->is_mid_line = memchr("\r\n\003\004", s.p[s.n - 1], 4) == NULL;
	while (s.n > 0) {
		size_t n = s.n > PIECE ? PIECE : s.n;

		copy_bytes(r, kind, f->chan, sp_span_of(s.p, n));
		s = sp_span_of(s.p + n, s.n - n);
	}
}

static void
open_term(struct sp_relay *r, const struct sp_frame *f)
{
	struct sp_aside *a = &r->aside;
	struct sp_aside_term *t = NULL;
	uint8_t size[8];
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK || o.has_pty == 0)
		return;
	for (size_t i = 0; t == NULL && i < SP_ASIDE_TERMS; i++)
		if (a->t[i].chan == 0)
			t = &a->t[i];
	for (size_t i = 0; i < 4; i++) {
		size[i] = (uint8_t)(o.cols >> (8 * i));
		size[4 + i] = (uint8_t)(o.rows >> (8 * i));
	}
	if (t == NULL || copy(r, SP_RECORD_OPEN, f->chan,
	    sp_span_of(size, sizeof(size))) != SP_OK) {
		sp_aside_gap(r, f->chan, r->aside.copy_us, "more terminals at once "
		    "than are read along");
		return;
	}
	*t = (struct sp_aside_term){.chan = f->chan, .cols = o.cols,
	    .rows = o.rows, .sure_us = a->copy_us, .is_new = true};
}

/* What was run without a terminal is known exactly. */
static void
note_exec(struct sp_relay *r, const struct sp_frame *f)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_COMMAND_MAX + 64};
	struct sp_view_command v = {.source = SP_VIEW_EXEC, .percent = 100};
	char text[SP_VIEW_COMMAND_MAX];
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK || o.kind != SP_OPEN_EXEC)
		return;
	v.text = sp_span_str(sp_vis(text, sizeof(text), o.command));
	if (sp_view_command_encode(&b, &v) == SP_OK)
		sp_aside_put(r, SP_LANE_VIEW, SP_VIEW_COMMAND, f->chan,
		    sp_buf_span(&b));
}

static void
resized(struct sp_relay *r, struct sp_aside_term *t, struct sp_span p)
{
	uint32_t cols = 0, rows = 0;

	if (copy(r, SP_RECORD_RESIZE, t->chan, p) != SP_OK ||
	    sp_get_u32(&p, &cols) != SP_OK || sp_get_u32(&p, &rows) != SP_OK)
		return;
	t->cols = cols;
	t->rows = rows;
}

void
sp_aside_frame(struct sp_relay *r, const struct sp_frame *f, bool from_user)
{
	struct sp_aside_term *t;

	r->aside.copy_us = sp_rec_writer_last_us(r->w);
	if (f->type == SP_FRAME_OPEN && from_user) {
		note_exec(r, f);
		open_term(r, f);
		return;
	}
	t = sp_aside_term(&r->aside, f->chan);
	if (t == NULL || t->is_closed)
		return;
	if (f->type == SP_FRAME_DATA)
		copy_data(r, f, from_user);
	else if (f->type == SP_FRAME_WINDOW)
		resized(r, t, f->payload);
	else if (f->type == SP_FRAME_CLOSE && !from_user)
		t->is_closed = copy(r, SP_RECORD_CLOSE, f->chan,
		    (struct sp_span){0}) == SP_OK;
}
