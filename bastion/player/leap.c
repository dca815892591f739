/* SPDX-License-Identifier: Apache-2.0 */
/* To a moment that the index has not come to: from the last keyframe that the
 * scribe left before it. A segment is read at a time, as it was sealed; what of it
 * is later than the keyframe of its channel makes the picture. A keyframe is what
 * the scribe says, and it reads what targets send: whatever does not fit is passed
 * over, and when the index comes by, the picture is made again without it. */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/show.h"
#include "recorder/find.h"
#include "recorder/view.h"

#define TAPE_MAX (12u << 20)	/* a segment has 8 MiB of records */
#define SLICE_BYTES (2u << 20)
#define SLICE_RECORDS 20000
#define BACK_BYTES (64u << 20)	/* how far a keyframe is looked for */
#define BACK_HEADERS 20000
#define TRIES 3
#define NEAR_BYTES (1u << 20)	/* of the file; so near nothing is looked for */
#define LITTLE_US 50000	/* so little is played */
#define SEEN (UINT32_C(1) << SP_LANE_OUT | UINT32_C(1) << SP_LANE_VIEW |      \
	    UINT32_C(1) << SP_LANE_META)

struct frame {
	uint32_t chan;		/* 0: free */
	uint64_t at_us;
	uint32_t cols, rows;
	bool is_unsure;
	struct sp_buf state;
};

struct leaper {
	struct sp_rec_file *file;
	struct sp_rec_finder find;
	bool is_busy;
	uint64_t at_us;		/* where to */
	uint64_t none_us;	/* there was no way to this moment */
	uint32_t segment;	/* that is read from */
	unsigned tries;
	struct sp_rec_place from;
	bool is_full;		/* the tape is */
	bool has_first;
	uint64_t first_us, last_us; /* of what was read */
	struct sp_buf tape;	/* records: u64 us, u8 lane, u8 kind, u32 chan, bytes */
	struct frame frame[STAGE_MAX];
};

static void
drop_frames(struct leaper *l)
{
	for (size_t i = 0; i < STAGE_MAX; i++) {
		sp_buf_fini(&l->frame[i].state);
		l->frame[i].chan = 0;
	}
	sp_buf_fini(&l->tape);
	l->tape.max = TAPE_MAX;
	l->is_full = l->has_first = false;
}

enum sp_err
leaper_open(struct reel *r, int file, const struct sp_rec_lane_keys *keys)
{
	struct leaper *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return SP_ERR_NOMEM;
	r->leaper = l;
	l->none_us = UINT64_MAX;
	for (size_t i = 0; i < STAGE_MAX; i++)
		sp_buf_init(&l->frame[i].state, SP_VIEW_STATE_MAX);
	sp_buf_init(&l->tape, TAPE_MAX);
	SP_TRY(sp_rec_file_open(file, &l->file));
	SP_TRY(sp_rec_find_open(&l->find, file, l->file));
	/* What is shown is vouched for by its tags; keys and files are passed over. */
	return sp_rec_decoder_reopen(r->head.d, file, keys, SEEN);
}

void
leaper_close(struct reel *r)
{
	if (r->leaper == NULL)
		return;
	drop_frames(r->leaper);
	sp_rec_file_close(r->leaper->file);
	free(r->leaper);
	r->leaper = NULL;
}

/* ------------------------------------------------------------ where to begin */

static enum sp_err
begin_at(struct reel *r, const struct sp_rec_place *p)
{
	struct leaper *l = r->leaper;
	struct head *h = &r->head;

	drop_frames(l);
	r->notice[0] = '\0';
	l->from = *p;
	sp_rec_decoder_go(h->d, p);
	h->has_next = h->is_over = h->is_behind = false;
	return SP_OK;
}

/* SP_ERR_NOTFOUND: there is no keyframe to begin from, or none is needed. */
static enum sp_err
look_up(struct reel *r, uint64_t at_us)
{
	struct leaper *l = r->leaper;
	struct sp_rec_place there, here, from;
	bool is_back = r->head.is_lost || at_us < r->head.now.at_us;

	SP_TRY(sp_rec_find_time(&l->find, at_us, &there));
	sp_rec_decoder_tell(r->head.d, &here);
	if (!is_back && there.off < here.off + NEAR_BYTES)
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_rec_find_keyframe(&l->find, there.off, BACK_BYTES,
	    BACK_HEADERS, &l->segment));
	SP_TRY(sp_rec_find_segment(&l->find, l->segment, there.off, &from));
	if (!is_back && from.off <= here.off)
		return SP_ERR_NOTFOUND;
	return begin_at(r, &from);
}

bool
leap_is_wanted(struct reel *r, uint64_t at_us)
{
	struct leaper *l = r->leaper;
	const struct head *h = &r->head;
	enum sp_err e;

	if (l == NULL || l->none_us == at_us)
		return false;
	if (l->is_busy && l->at_us == at_us)
		return true;
	l->is_busy = false;
	if (!h->is_lost && at_us >= h->now.at_us && (at_us - h->now.at_us <
	    LITTLE_US || (h->has_next && h->next.at_us > at_us)))
		return false;
	l->at_us = at_us;
	l->tries = 0;
	e = look_up(r, at_us);
	if (e != SP_OK)
		l->none_us = at_us;
	l->is_busy = e == SP_OK;
	return l->is_busy;
}

/* --------------------------------------------------------------- what is read */

static struct frame *
frame_of(struct leaper *l, uint32_t chan)
{
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (l->frame[i].chan == chan)
			return &l->frame[i];
	return NULL;
}

/* All that was sent on its channel after it has been read. */
static bool
is_usable(const struct leaper *l, const struct frame *f)
{
	return f->chan != 0 && l->has_first && f->at_us + 1 >= l->first_us;
}

static enum sp_err
untake(struct sp_span *s, struct sp_rec_record *r)
{
	SP_TRY(sp_get_u64(s, &r->at_us));
	SP_TRY(sp_get_u8(s, &r->lane));
	SP_TRY(sp_get_u8(s, &r->kind));
	SP_TRY(sp_get_u32(s, &r->chan));
	return sp_get_bytes(s, SP_REC_RAW_MAX, &r->data);
}

/* What stands on a screen that will be loaded needs not be kept. */
static void
trim(struct leaper *l)
{
	struct sp_span s = sp_buf_span(&l->tape);
	size_t had = s.n, left = s.n;
	struct sp_rec_record r = {0};

	while (s.n > 0 && untake(&s, &r) == SP_OK) {
		const struct frame *f = frame_of(l, r.chan);

		if (f == NULL || r.chan == 0 || !is_usable(l, f) ||
		    r.at_us > f->at_us || r.kind == SP_RECORD_CLOSE ||
		    r.kind == SP_RECORD_FILE)
			break;
		left = s.n;
	}
	sp_buf_consume(&l->tape, had - left);
}

/* One that is sure is better than a later one that is not. */
static enum sp_err
take_frame(struct leaper *l, const struct sp_rec_record *r)
{
	struct sp_view_keyframe k;
	struct frame *f;

	if (r->chan == 0 || sp_view_keyframe_decode(r->data, &k) != SP_OK ||
	    k.at_us > r->at_us)
		return SP_OK;
	f = frame_of(l, r->chan);
	if (f == NULL)
		f = frame_of(l, 0);
	if (f == NULL || (f->chan != 0 && (k.at_us < f->at_us ||
	    (k.is_unsure && !f->is_unsure))))
		return SP_OK;
	sp_buf_reset(&f->state);
	SP_TRY(sp_buf_put(&f->state, k.state.p, k.state.n));
	f->chan = r->chan;
	f->at_us = k.at_us;
	f->cols = k.cols;
	f->rows = k.rows;
	f->is_unsure = k.is_unsure;
	if (is_usable(l, f))
		trim(l);
	return SP_OK;
}

static enum sp_err
take(struct reel *x, const struct sp_rec_record *r)
{
	struct leaper *l = x->leaper;
	struct sp_buf *t = &l->tape;

	if (!l->has_first)
		l->first_us = r->at_us;
	l->has_first = true;
	l->last_us = r->at_us;
	if (r->lane == SP_LANE_VIEW)
		return r->kind == SP_RECORD_KEYFRAME ? take_frame(l, r) : SP_OK;
	reel_notice(x, r);
	if (r->lane != SP_LANE_OUT)
		return SP_OK;
	if (t->len + r->data.n + 32 > t->max) {
		l->is_full = true;
		return SP_OK;
	}
	SP_TRY(sp_buf_put_u64(t, r->at_us));
	SP_TRY(sp_buf_put_u8(t, r->lane));
	SP_TRY(sp_buf_put_u8(t, r->kind));
	SP_TRY(sp_buf_put_u32(t, r->chan));
	return sp_buf_put_bytes(t, r->data);
}

/* ------------------------------------------------------------- the picture */

static enum sp_err
put_actor(struct reel *r, const struct frame *f, size_t *n)
{
	struct stage *now = &r->head.now;
	struct actor *a = stage_find(now, 0);
	struct sp_term *t = NULL;
	enum sp_err e;

	e = sp_term_load(sp_buf_span(&f->state), now->line, now->ctx, &t);
	if (e != SP_OK)
		return e == SP_ERR_NOMEM ? e : SP_OK;
	if (a == NULL || sp_term_cols(t) != f->cols ||
	    sp_term_rows(t) != f->rows) {
		sp_term_free(t);
		return SP_OK;
	}
	*a = (struct actor){.chan = f->chan, .is_pty = true, .is_open = true,
	    .term = t, .since_us = f->at_us, .is_unsure = f->is_unsure,
	    .what = "terminal"};
	cover_term(t);
	(*n)++;
	return SP_OK;
}

/* What the index knows already of the channels that are there. */
static void
name_them(struct reel *r)
{
	struct stage *now = &r->head.now, *known = &r->index.head.now;
	struct actor *a, *k;

	for (size_t i = 0; i < STAGE_MAX; i++) {
		a = &now->actor[i];
		k = a->chan == 0 ? NULL : stage_find(known, a->chan);
		if (k != NULL)
			memcpy(a->what, k->what, sizeof(a->what));
		if (a->chan != 0 && a->is_open && (now->focus == 0 ||
		    a->chan < now->focus))
			now->focus = a->chan;
	}
	a = known->focus == 0 ? NULL : stage_find(now, known->focus);
	if (a != NULL && a->is_open)
		now->focus = a->chan;
}

static enum sp_err
set_up(struct reel *r, size_t *n)
{
	struct leaper *l = r->leaper;
	struct stage *now = &r->head.now;

	stage_free(now);
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (is_usable(l, &l->frame[i]))
			SP_TRY(put_actor(r, &l->frame[i], n));
	name_them(r);
	return SP_OK;
}

static enum sp_err
wind(struct reel *r)
{
	struct sp_span s = sp_buf_span(&r->leaper->tape);
	struct sp_rec_record rec = {0};
	bool changed = false;

	while (s.n > 0) {
		SP_TRY(untake(&s, &rec));
		SP_TRY(stage_feed(&r->head.now, &rec, &changed));
	}
	return SP_OK;
}

/* None of the keyframes is of use: from one segment earlier. */
static enum sp_err
once_more(struct reel *r)
{
	struct leaper *l = r->leaper;
	struct sp_rec_place from;

	if (l->is_full || ++l->tries >= TRIES || l->segment == 0)
		return SP_ERR_NOTFOUND;
	l->segment--;
	SP_TRY(sp_rec_find_segment(&l->find, l->segment, l->from.off + 1, &from));
	return from.off == l->from.off ? SP_ERR_NOTFOUND : begin_at(r, &from);
}

static enum sp_err
arrive(struct reel *r, bool *is_over)
{
	struct leaper *l = r->leaper;
	size_t n = 0;

	if (!l->is_full)
		SP_TRY(set_up(r, &n));
	if (n == 0)
		return once_more(r);
	SP_TRY(wind(r));
	r->head.now.at_us = l->last_us;
	r->is_framed = true;
	l->is_busy = false;
	*is_over = true;
	drop_frames(l);
	return SP_OK;
}

static enum sp_err
read_on(struct reel *r, bool *is_over)
{
	struct leaper *l = r->leaper;
	struct head *h = &r->head;
	size_t n = 0;

	for (int i = 0; i < SLICE_RECORDS && n < SLICE_BYTES; i++) {
		SP_TRY(head_fetch(h));
		if (!h->has_next && h->why != SP_ERR_EOF)
			return SP_ERR_NOTFOUND;
		if (!h->has_next || h->next.at_us > l->at_us || l->is_full)
			return arrive(r, is_over);
		n += h->next.data.n;
		SP_TRY(take(r, &h->next));
		h->has_next = false;
	}
	return SP_OK;
}

enum sp_err
leap_work(struct reel *r, bool *is_over)
{
	struct leaper *l = r->leaper;
	enum sp_err e;

	*is_over = false;
	e = read_on(r, is_over);
	if (e == SP_OK || e == SP_ERR_NOMEM || e == SP_ERR_IO)
		return e;
	/* No way: from where the index knows it, or from the beginning. */
	l->none_us = l->at_us;
	l->is_busy = false;
	drop_frames(l);
	*is_over = true;
	return SP_ERR_NOTFOUND;
}
