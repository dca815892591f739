/* SPDX-License-Identifier: Apache-2.0 */
/* The header: new keys for every lane, sealed to who may open it. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/writer_int.h"

/* Who opens a lane, as asked for; without a word everybody who opens any. */
static enum sp_err
take_openers(const struct sp_rec_openers *o, struct sp_rec_header *h,
    struct sp_rec_lane_seal *l)
{
	uint32_t all = UINT32_MAX >> (32 - h->n_recipients);
	uint32_t who = o->threshold == 0 ? all : o->who;

	if ((who & ~all) != 0)
		return SP_ERR_INVAL;
	l->threshold = o->threshold == 0 ? 1 : o->threshold;
	for (uint8_t i = 0; i < h->n_recipients; i++)
		if ((who >> i & 1) != 0)
			l->who[l->n++] = i;
	return SP_OK;
}

/* One secret for those lanes. It is gone when their keys are made: it would open
 * what the ratchet has left behind. */
static enum sp_err
seal_group(struct sp_rec_writer *w, struct sp_rec_header *h, uint16_t lanes)
{
	uint8_t *key = w->keys->group;
	enum sp_err e;

	randombytes_buf(key, 32);
	e = sp_rec_group_seal(h, lanes, key);
	for (uint8_t lane = 1; e == SP_OK && lane <= SP_REC_LANES; lane++)
		if ((lanes & SP_GROUP_BIT(lane)) != 0)
			e = sp_lane_of_group(key, lane, w->keys->state[lane - 1]);
	sodium_memzero(key, 32);
	return e;
}

static enum sp_err
seal_lane_keys(struct sp_rec_writer *w, const struct sp_rec_params *p,
    struct sp_rec_header *h)
{
	struct sp_span to = p->recipients;

	if (to.n == 0 || to.n % 32 != 0 || to.n / 32 > SP_REC_RECIPIENTS_MAX)
		return SP_ERR_INVAL;
	h->n_recipients = (uint8_t)(to.n / 32);
	memcpy(h->recipient, to.p, to.n);
	for (uint8_t l = 0; l < SP_REC_LANES; l++)
		SP_TRY(take_openers(&p->openers[l], h, &h->lane[l]));
	for (uint8_t lane = 1; lane <= SP_REC_LANES; lane++)
		if (h->lane[lane - 1].group == 0)
			SP_TRY(seal_group(w, h, sp_rec_group_of(h, lane)));
	return SP_OK;
}

/* The boxes are needed once: they are not kept in memory. */
enum sp_err
sp_rec_writer_begin(struct sp_rec_writer *w, const struct sp_rec_params *p)
{
	struct sp_rec_header *h = calloc(1, sizeof(*h));
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};
	enum sp_err e;

	if (h == NULL)
		return SP_ERR_NOMEM;
	memcpy(h->session, w->header.session, 16);
	memcpy(h->rec_key, w->header.rec_key, 32);
	h->t0_wall_us = w->header.t0_wall_us;
	h->t0_boot_us = w->header.t0_boot_us;
	w->is_shared = p->openers[SP_LANE_OUT - 1].threshold ==
	    p->openers[SP_LANE_VIEW - 1].threshold &&
	    p->openers[SP_LANE_OUT - 1].who == p->openers[SP_LANE_VIEW - 1].who;
	e = seal_lane_keys(w, p, h);
	if (e == SP_OK)
		e = sp_rec_header_encode(&b, h);
	free(h);
	SP_TRY(e);
	SP_TRY(sp_rec_sha256(&w->crypto, sp_buf_span(&b), w->header_hash));
	memcpy(w->cur.chain, w->header_hash, 32);
	w->body = w->cur;
	SP_TRY(sp_rec_disk_room(&w->disk, b.len));
	/* It reaches the disk with OPEN: nothing happens in between. */
	return sp_rec_disk_append(&w->disk, sp_buf_span(&b));
}
