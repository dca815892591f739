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
	h->has_next = h->is_over = false;
	h->is_behind = s->is_inside;
	h->passed_us = s->at_us;
	return SP_OK;
}

enum sp_err
reel_open(struct reel *r, int file, const struct sp_rec_lane_keys *keys,
    uint64_t end_us)
{
	*r = (struct reel){.end_us = end_us};
	SP_TRY(head_open(&r->head, file, keys));
	return index_open(&r->index, file, keys);
}

void
reel_close(struct reel *r)
{
	head_close(&r->head);
	index_close(&r->index);
}

static void
take_notice(struct reel *r)
{
	const struct sp_rec_record *n = &r->head.next;

	if (n->lane == SP_LANE_META && n->kind == SP_RECORD_NOTICE)
		sp_vis(r->notice, sizeof(r->notice), n->data);
}

/* A snapshot that is nearer than where the head stands. */
static enum sp_err
leap(struct reel *r, uint64_t at_us, bool *changed)
{
	const struct snapshot *s = index_at(&r->index, at_us);
	bool is_back = at_us < r->head.now.at_us;

	if (s == NULL || (!is_back && s->fed <= r->head.now.fed +
	    2 * SNAPSHOT_SPACING))
		return SP_OK;
	*changed = true;
	r->notice[0] = '\0';
	return head_restore(&r->head, s);
}

enum sp_err
reel_go(struct reel *r, uint64_t at_us, bool *changed, bool *is_there)
{
	struct head *h = &r->head;
	uint64_t until;

	*is_there = false;
	SP_TRY(leap(r, at_us, changed));
	until = h->now.fed + SLICE_BYTES;
	for (int i = 0; i < SLICE_RECORDS && h->now.fed < until; i++) {
		SP_TRY(head_fetch(h));
		if (!h->has_next || h->next.at_us > at_us) {
			*is_there = true;
			return SP_OK;
		}
		take_notice(r);
		SP_TRY(stage_feed(&h->now, &h->next, changed));
		h->has_next = false;
	}
	return SP_OK;
}
