/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/player/show.h"

#define SLICE_BYTES (512u << 10)

enum sp_err
reel_open(struct reel *r, int file, const struct sp_rec_lane_keys *keys,
    uint64_t end_us)
{
	*r = (struct reel){.spacing = SNAPSHOT_BYTES, .why = SP_ERR_EOF,
	    .end_us = end_us};
	return sp_rec_decoder_new(file, keys, &r->d);
}

void
reel_close(struct reel *r)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		stage_free(&r->snap[i].stage);
	r->n_snaps = 0;
	stage_free(&r->now);
	sp_rec_decoder_free(r->d);
	r->d = NULL;
}

/* Every other snapshot goes, and from now on they are twice as far apart. */
static void
thin_out(struct reel *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_snaps; i++) {
		if (i % 2 == 0) {
			if (n != i) {
				r->snap[n] = r->snap[i];
				r->snap[i].stage = (struct stage){0};
			}
			n++;
		} else {
			stage_free(&r->snap[i].stage);
		}
	}
	r->n_snaps = n;
	r->spacing *= 2;
}

/* The next record is the first of its segment: a place to come back to. */
static enum sp_err
maybe_snapshot(struct reel *r)
{
	size_t most = SNAPSHOTS_BYTES / stage_bytes(&r->now);
	struct sp_rec_place at;
	struct snapshot *s;

	sp_rec_decoder_tell(r->d, &at);
	if (at.off == r->seen_off)
		return SP_OK;
	r->seen_off = at.off;
	if (r->n_snaps > 0) {
		s = &r->snap[r->n_snaps - 1];
		if (at.off <= s->place.off ||
		    r->now.fed - s->stage.fed < r->spacing)
			return SP_OK;
	}
	if (r->n_snaps >= SNAPSHOTS_MAX || r->n_snaps >= most)
		thin_out(r);
	if (r->n_snaps > 0 && r->n_snaps >= most)
		return SP_OK;
	s = &r->snap[r->n_snaps];
	s->place = at;
	s->stage = (struct stage){0};
	SP_TRY(stage_copy(&r->now, &s->stage));
	r->n_snaps++;
	return SP_OK;
}

static enum sp_err
fetch(struct reel *r)
{
	enum sp_err e;

	if (r->has_next || r->is_over)
		return SP_OK;
	e = sp_rec_decoder_next(r->d, &r->next);
	if (e == SP_ERR_NOMEM || e == SP_ERR_IO)
		return e;
	if (e != SP_OK) {
		r->is_over = true;
		r->why = e;
		return SP_OK;
	}
	r->has_next = true;
	return maybe_snapshot(r);
}

static enum sp_err
go_back(struct reel *r, uint64_t at_us)
{
	size_t i = r->n_snaps;

	if (i == 0)
		return SP_OK;
	while (i > 1 && r->snap[i - 1].stage.at_us > at_us)
		i--;
	SP_TRY(stage_copy(&r->snap[i - 1].stage, &r->now));
	sp_rec_decoder_go(r->d, &r->snap[i - 1].place);
	r->seen_off = r->snap[i - 1].place.off;
	r->has_next = r->is_over = false;
	r->notice[0] = '\0';
	return SP_OK;
}

static void
take_notice(struct reel *r)
{
	if (r->next.lane == SP_LANE_META && r->next.kind == SP_RECORD_NOTICE)
		sp_vis(r->notice, sizeof(r->notice), r->next.data);
}

enum sp_err
reel_go(struct reel *r, uint64_t at_us, bool *changed, bool *is_there)
{
	uint64_t until;

	*is_there = false;
	if (at_us < r->now.at_us) {
		SP_TRY(go_back(r, at_us));
		*changed = true;
	}
	until = r->now.fed + SLICE_BYTES;
	for (int i = 0; i < 20000 && r->now.fed < until; i++) {
		SP_TRY(fetch(r));
		if (!r->has_next || r->next.at_us > at_us) {
			*is_there = true;
			return SP_OK;
		}
		take_notice(r);
		SP_TRY(stage_feed(&r->now, &r->next, changed));
		r->has_next = false;
	}
	return SP_OK;
}
