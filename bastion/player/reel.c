/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/show.h"

#define SLICE_BYTES (512u << 10)
#define SLICE_RECORDS 20000

enum sp_err
head_open(struct head *h, int file, const struct sp_rec_lane_keys *keys)
{
	*h = (struct head){.why = SP_ERR_EOF, .seen_off = UINT64_MAX};
	return sp_rec_decoder_new(file, keys, &h->d);
}

void
head_close(struct head *h)
{
	stage_free(&h->now);
	sp_rec_decoder_free(h->d);
	h->d = NULL;
}

enum sp_err
head_fetch(struct head *h)
{
	enum sp_err e;

	if (h->has_next || h->is_over)
		return SP_OK;
	do
		e = cover_next(h->d, &h->next);
	while (e == SP_OK && h->is_behind && h->next.at_us <= h->passed_us);
	h->is_behind = false;
	if (e == SP_ERR_NOMEM || e == SP_ERR_IO)
		return e;
	h->has_next = e == SP_OK;
	if (e != SP_OK) {
		h->is_over = true;
		h->why = e;
	}
	return SP_OK;
}

enum sp_err
head_restore(struct head *h, const struct snapshot *s)
{
	SP_TRY(stage_unpack(&h->now, sp_buf_span(&s->state)));
	sp_rec_decoder_go(h->d, &s->place);
	h->seen_off = s->place.off;
	h->has_next = h->is_over = h->is_lost = false;
	h->is_behind = s->is_inside;
	h->passed_us = s->at_us;
	return SP_OK;
}

void
head_rewind(struct head *h)
{
	stage_free(&h->now);
	h->seen_off = UINT64_MAX;
	h->has_next = h->is_over = h->is_lost = h->is_behind = false;
	sp_rec_decoder_rewind(h->d);
}

enum sp_err
reel_open(struct reel *r, int file, const struct sp_rec_lane_keys *keys,
    uint64_t end_us, bool by_frames)
{
	*r = (struct reel){.end_us = end_us};
	SP_TRY(head_open(&r->head, file, keys));
	if (by_frames)
		SP_TRY(leaper_open(r, file, keys));
	return index_open(&r->index, file, keys);
}

void
reel_close(struct reel *r)
{
	leaper_close(r);
	head_close(&r->head);
	index_close(&r->index);
}

void
reel_notice(struct reel *r, const struct sp_rec_record *n)
{
	if (n->lane == SP_LANE_META && n->kind == SP_RECORD_NOTICE)
		sp_vis(r->notice, sizeof(r->notice), n->data);
}

static bool
is_indexed(const struct reel *r, uint64_t at_us)
{
	/* Behind a damage it never comes. */
	return at_us <= r->index.until_us ||
	    (r->index.is_done && r->index.head.why == SP_ERR_EOF);
}

static enum sp_err
back_to(struct reel *r, const struct snapshot *s, bool *changed)
{
	*changed = true;
	r->notice[0] = '\0';
	r->is_framed = false;
	return head_restore(&r->head, s);
}

static void
rewind_all(struct reel *r, bool *changed)
{
	*changed = true;
	r->notice[0] = '\0';
	r->is_framed = false;
	head_rewind(&r->head);
}

/* A snapshot that is nearer than where the head stands, or better than what it was
 * made from. */
static enum sp_err
leap(struct reel *r, uint64_t at_us, bool *changed)
{
	const struct snapshot *s = index_at(&r->index, at_us);
	bool is_back = at_us < r->head.now.at_us || r->head.is_lost;

	if (r->is_framed && !is_back && !is_indexed(r, at_us))
		return SP_OK;	/* it is ahead of all snapshots */
	if (s == NULL && is_back)
		rewind_all(r, changed);
	if (s == NULL)
		return SP_OK;
	if (!is_back && !r->is_framed && s->fed <= r->head.now.fed +
	    2 * SNAPSHOT_SPACING)
		return SP_OK;
	return back_to(r, s, changed);
}

/* Where the index has not been: by keyframes, if there are any. */
static enum sp_err
get_near(struct reel *r, uint64_t at_us, bool *changed, bool *is_near)
{
	enum sp_err e;

	if (is_indexed(r, at_us) || !leap_is_wanted(r, at_us)) {
		*is_near = true;
		return leap(r, at_us, changed);
	}
	*changed = true;
	e = leap_work(r, is_near);
	r->head.is_lost = !*is_near || e == SP_ERR_NOTFOUND;
	if (e != SP_ERR_NOTFOUND)
		return e;
	return leap(r, at_us, changed);
}

enum sp_err
reel_go(struct reel *r, uint64_t at_us, bool *changed, bool *is_there)
{
	struct head *h = &r->head;
	bool is_near = false;
	uint64_t until;

	*is_there = false;
	SP_TRY(get_near(r, at_us, changed, &is_near));
	if (!is_near)
		return SP_OK;
	until = h->now.fed + SLICE_BYTES;
	for (int i = 0; i < SLICE_RECORDS && h->now.fed < until; i++) {
		SP_TRY(head_fetch(h));
		if (!h->has_next || h->next.at_us > at_us) {
			*is_there = true;
			return SP_OK;
		}
		reel_notice(r, &h->next);
		SP_TRY(stage_feed(&h->now, &h->next, changed));
		h->has_next = false;
	}
	return SP_OK;
}
