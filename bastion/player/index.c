/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/show.h"

#define LOOK_AT_CLOCK 64	/* records between two looks */

enum sp_err
index_open(struct index *x, int file, const struct sp_rec_lane_keys *keys)
{
	*x = (struct index){.spacing = SNAPSHOT_SPACING};
	marks_init(&x->marks);
	x->snap = calloc(SNAPSHOTS_MAX, sizeof(*x->snap));
	if (x->snap == NULL)
		return SP_ERR_NOMEM;
	return head_open(&x->head, file, keys);
}

void
index_close(struct index *x)
{
	for (size_t i = 0; x->snap != NULL && i < x->n_snaps; i++)
		sp_buf_fini(&x->snap[i].state);
	free(x->snap);
	x->snap = NULL;
	x->n_snaps = 0;
	marks_fini(&x->marks);
	proof_free(x->proof);
	x->proof = NULL;
	head_close(&x->head);
}

enum sp_err
index_prove(struct index *x)
{
	return proof_new(&x->proof);
}

static enum sp_err
prove(struct index *x)
{
	const struct proof_result *r;

	if (x->proof == NULL)
		return SP_OK;
	SP_TRY(proof_take(x->proof, &x->head.next));
	r = proof_result(x->proof);
	for (; x->n_false < r->n_false; x->n_false++)
		if (x->n_false < PROOF_FALSE_MAX)
			marks_false(&x->marks, &r->which[x->n_false]);
	return SP_OK;
}

static void
thin_out(struct index *x)
{
	size_t n = 0;

	for (size_t i = 0; i < x->n_snaps; i++) {
		if (i % 2 == 0) {
			x->snap[n++] = x->snap[i];
		} else {
			x->bytes -= x->snap[i].state.cap;
			sp_buf_fini(&x->snap[i].state);
		}
	}
	memset(&x->snap[n], 0, (x->n_snaps - n) * sizeof(*x->snap));
	x->n_snaps = n;
	x->spacing *= 2;
}

/* Before the next record: a place to come back to. Inside of a segment only where
 * no two records have one time, and they come in its order. */
static enum sp_err
maybe_snapshot(struct index *x)
{
	const struct stage *now = &x->head.now;
	struct sp_rec_place at;
	struct snapshot *s;
	bool is_inside;

	sp_rec_decoder_tell(x->head.d, &at);
	is_inside = at.off == x->head.seen_off;
	if (is_inside && (sp_rec_decoder_header(x->head.d)->version < 4 ||
	    x->head.next.at_us <= now->at_us))
		return SP_OK;
	x->head.seen_off = at.off;
	if (x->n_snaps > 0 &&
	    now->fed - x->snap[x->n_snaps - 1].fed < x->spacing)
		return SP_OK;
	while (x->n_snaps > 1 && (x->n_snaps >= SNAPSHOTS_MAX ||
	    x->bytes >= SNAPSHOTS_BYTES))
		thin_out(x);
	s = &x->snap[x->n_snaps];
	*s = (struct snapshot){.place = at, .at_us = now->at_us, .fed = now->fed,
	    .is_inside = is_inside};
	SP_TRY(stage_pack(now, &s->state));
	x->bytes += s->state.cap;
	x->n_snaps++;
	return SP_OK;
}

static enum sp_err
one(struct index *x)
{
	bool changed = false;

	if (!x->head.has_next) {
		SP_TRY(head_fetch(&x->head));
		if (!x->head.has_next)
			return SP_ERR_EOF;
		SP_TRY(maybe_snapshot(x));
	}
	marks_take(&x->marks, &x->head.next);
	SP_TRY(prove(x));
	SP_TRY(stage_feed(&x->head.now, &x->head.next, &changed));
	x->until_us = x->head.next.at_us;
	x->head.has_next = false;
	return SP_OK;
}

enum sp_err
index_work(struct index *x, int64_t us)
{
	int64_t until = sp_boot_us() + us;
	enum sp_err e;

	for (unsigned i = 1; !x->is_done; i++) {
		e = one(x);
		if (e == SP_ERR_EOF) {
			x->is_done = true;
			/* Its terminals are for nobody any more. */
			stage_free(&x->head.now);
		} else if (e != SP_OK) {
			return e;
		}
		if (i % LOOK_AT_CLOCK == 0 && sp_boot_us() >= until)
			break;
	}
	return SP_OK;
}

const struct snapshot *
index_at(const struct index *x, uint64_t at_us)
{
	size_t a = 0, b = x->n_snaps;

	while (a < b) {
		size_t mid = a + (b - a) / 2;

		if (x->snap[mid].at_us <= at_us)
			a = mid + 1;
		else
			b = mid;
	}
	return a > 0 ? &x->snap[a - 1] : x->n_snaps > 0 ? &x->snap[0] : NULL;
}
