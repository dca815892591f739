/* SPDX-License-Identifier: Apache-2.0 */
/* The search within one recording. Forwards it ends at the first line that came
 * to stand there and matches; backwards it takes the last one of each piece
 * between two snapshots, from the end. */
#include <string.h>

#include "bastion/player/show.h"

#define LOOK_AT_CLOCK 16

static void
on_line(void *ctx, uint32_t chan, unsigned row, struct sp_span text)
{
	struct find *f = ctx;
	uint64_t at_us = f->head.now.at_us;
	size_t at, n;
	bool goes_on;

	if (!match_find(&f->match, text, &at, &n))
		return;
	/* A line that is being typed matches at each of its letters. */
	goes_on = f->last.chan == chan && f->last.row == row &&
	    at_us - f->last.at_us < 1000000;
	f->last = (struct row_hit){.chan = chan, .row = row, .at_us = at_us};
	if (goes_on || (f->is_back ? at_us >= f->from_us :
	    at_us <= f->from_us && !f->is_wrapped) ||
	    (f->has_hit && !f->is_back))
		return;
	f->has_hit = true;
	f->hit_us = at_us;
	f->hit_chan = chan;
}

enum sp_err
find_open(struct find *f, int file, const struct sp_rec_lane_keys *keys)
{
	*f = (struct find){0};
	SP_TRY(head_open(&f->head, file, keys));
	lines_init(&f->lines, &f->head.now, on_line, f);
	f->head.now.line = lines_scrolled;
	f->head.now.ctx = &f->lines;
	return SP_OK;
}

void
find_close(struct find *f)
{
	head_close(&f->head);
	lines_fini(&f->lines);
	if (f->has_match)
		match_fini(&f->match);
	*f = (struct find){0};
}

static enum sp_err
begin_at(struct find *f, const struct snapshot *s)
{
	SP_TRY(head_restore(&f->head, s));
	f->last = (struct row_hit){.at_us = 0};
	f->has_hit = false;
	return lines_forget(&f->lines);
}

/* The piece of snapshot i, up to the next one or to where we came from. */
static enum sp_err
begin_piece(struct find *f, const struct reel *r, size_t i)
{
	const struct index *x = &r->index;

	f->piece = i;
	f->piece_end_us = i + 1 < x->n_snaps ? x->snap[i + 1].at_us : UINT64_MAX;
	if (f->piece_end_us > f->from_us)
		f->piece_end_us = f->from_us;
	return begin_at(f, &x->snap[i]);
}

enum sp_err
find_begin(struct find *f, const struct reel *r, uint64_t from_us, bool is_back)
{
	const struct snapshot *s = index_at(&r->index, from_us);

	f->is_busy = f->found = f->is_wrapped = false;
	if (!f->has_match || s == NULL)
		return SP_OK;
	f->is_busy = true;
	f->is_back = is_back;
	f->from_us = from_us;
	f->at_us = from_us;
	return is_back ? begin_piece(f, r, (size_t)(s - r->index.snap)) :
	    begin_at(f, s);
}

/* Nothing on that side: once more from the other end. */
static enum sp_err
wrap(struct find *f, const struct reel *r)
{
	f->is_wrapped = true;
	if (!f->is_back)
		return begin_at(f, &r->index.snap[0]);
	f->from_us = UINT64_MAX;
	return begin_piece(f, r, r->index.n_snaps - 1);
}

static enum sp_err
settle(struct find *f, const struct reel *r, bool found)
{
	if (!found && !f->is_wrapped)
		return wrap(f, r);
	f->is_busy = false;
	f->found = found;
	if (found) {
		f->at_us = f->hit_us;
		f->chan = f->hit_chan;
	}
	stage_free(&f->head.now);
	return SP_OK;
}

/* One record; *is_over: there is no more of this piece. */
static enum sp_err
step(struct find *f, bool *is_over)
{
	struct head *h = &f->head;
	bool changed = false;

	SP_TRY(head_fetch(h));
	*is_over = !h->has_next ||
	    (f->is_back && h->next.at_us >= f->piece_end_us);
	if (*is_over)
		return SP_OK;
	SP_TRY(stage_feed(&h->now, &h->next, &changed));
	h->has_next = false;
	f->at_us = h->now.at_us;
	return changed ? lines_look(&f->lines, h->next.chan) : SP_OK;
}

static enum sp_err
next_piece(struct find *f, const struct reel *r)
{
	if (f->has_hit || f->piece == 0)
		return settle(f, r, f->has_hit);
	return begin_piece(f, r, f->piece - 1);
}

enum sp_err
find_work(struct find *f, const struct reel *r, int64_t us)
{
	int64_t until = sp_boot_us() + us;
	bool is_over = false;

	for (unsigned i = 1; f->is_busy; i++) {
		SP_TRY(step(f, &is_over));
		if (is_over && f->is_back)
			SP_TRY(next_piece(f, r));
		else if (is_over || (f->has_hit && !f->is_back))
			SP_TRY(settle(f, r, f->has_hit));
		if (i % LOOK_AT_CLOCK == 0 && sp_boot_us() >= until)
			break;
	}
	return SP_OK;
}
