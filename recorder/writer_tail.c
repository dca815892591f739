/* SPDX-License-Identifier: Apache-2.0 */
/* The tail: small batches are written behind the end of the body, each safe at
 * once, and kept in memory; every few seconds they are packed into the body, where
 * they cost a tenth (doc/recording-format.md, "While it is written"). */
#include <string.h>

#include "common/text.h"
#include "recorder/writer_int.h"

#define KEPT_MAX (112u << 10)	/* records; packed they fit into the gap */
#define NEARLY (20u << 10)
#define CHUNKS_ROOM 1024	/* what the chunks of one batch add to it */
#define SLOW_BYTES (32u << 10)	/* few ms, however often */
#define SLOW_US INT64_C(5000000)

static size_t
kept_bytes(const struct sp_rec_writer *w)
{
	size_t n = 0;

	for (size_t l = 0; l < SP_REC_LANES; l++)
		n += w->kept[l].text.len;
	return n;
}

bool
sp_rec_tail_has_room(const struct sp_rec_writer *w)
{
	size_t n = sp_rec_writer_waiting(w);

	return w->n_heads < SP_REC_HEADS_MAX && kept_bytes(w) + n <= KEPT_MAX &&
	    w->disk.tail + n + CHUNKS_ROOM <= SP_REC_GAP;
}

bool
sp_rec_tail_is_nearly_full(const struct sp_rec_writer *w)
{
	return kept_bytes(w) > KEPT_MAX - NEARLY ||
	    w->disk.tail + CHUNKS_ROOM > SP_REC_GAP - NEARLY;
}

/* The record at the beginning of s was us after `from`: now it is after `base`. */
static enum sp_err
put_moved(struct sp_buf *b, struct sp_span s, int64_t from, int64_t base)
{
	uint64_t us = 0;

	if (s.n == 0)
		return SP_OK;
	SP_TRY(sp_rec_varint_get(&s, INT64_MAX, &us));
	SP_ASSERT(from + (int64_t)us >= base);
	SP_TRY(sp_rec_varint_put(b, us + (uint64_t)(from - base)));
	return sp_buf_put(b, s.p, s.n);
}

static enum sp_err
keep_lane(struct sp_rec_writer *w, size_t l)
{
	struct sp_span s = sp_buf_span(&w->raw[l]), frame = {0};
	struct sp_rec_kept *k = &w->kept[l];
	int64_t last = k->text.len > 0 ? k->last_us : w->kept_us;

	if (s.n == 0)
		return SP_OK;
	if (l == SP_LANE_VIEW - 1 && w->keyframe > 0) {
		frame = sp_span_of(s.p + w->keyframe - 1, s.n - (w->keyframe - 1));
		s.n = w->keyframe - 1;
	}
	k->text.max = SP_REC_RAW_MAX;
	SP_TRY(put_moved(&k->text, s, w->batch_us, last));
	if (frame.n > 0 && k->keyframe == 0) {
		k->keyframe = k->text.len + 1;
		last = w->kept_us;
	} else if (s.n > 0) {
		last = w->before_keyframe_us;
	}
	SP_TRY(put_moved(&k->text, frame, w->batch_us, last));
	k->last_us = w->lane_us[l];
	return SP_OK;
}

/* No memory to keep it in: it is safe where it stands, and can only be recovered. */
static enum sp_err
keep(struct sp_rec_writer *w)
{
	if (w->kept_us == 0)
		w->kept_us = w->batch_us;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		SP_TRY(keep_lane(w, l));
	return SP_OK;
}

enum sp_err
sp_rec_tail_commit(struct sp_rec_writer *w, bool with_checkpoint)
{
	struct sp_rec_cursor before = w->cur;
	enum sp_err e = SP_OK;

	for (size_t l = 0; e == SP_OK && l < SP_REC_LANES; l++)
		e = sp_rec_add_lane(w, l, sp_buf_span(&w->raw[l]),
		    l == SP_LANE_VIEW - 1 ? w->keyframe : 0, SP_REC_AS_IT_IS);
	if (e == SP_OK && with_checkpoint)
		e = sp_rec_add_checkpoint(w);
	SP_TRY(sp_rec_write_out(w, &before, SP_REC_TAIL, e));
	if (with_checkpoint)
		memcpy(w->heads[w->n_heads++], w->cur.chain, SP_REC_HEAD);
	if (w->batch_us != 0)
		e = keep(w);
	if (e != SP_OK)
		w->is_broken = true;
	return e;
}

enum sp_err
sp_rec_tail_put_end(struct sp_rec_writer *w, struct sp_span end)
{
	struct sp_rec_kept *k = &w->kept[SP_LANE_META - 1];
	int64_t last = k->text.len > 0 ? k->last_us : w->kept_us;
	int64_t now = sp_boot_us();

	if (now <= w->put_us)
		now = w->put_us + 1;
	w->put_us = k->last_us = now;
	k->text.max = SP_REC_RAW_MAX;
	return sp_rec_record_put(&k->text, (uint64_t)(now - last), SP_RECORD_END,
	    0, end);
}

void
sp_rec_tail_fini(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		sp_buf_fini(&w->kept[l].text);
		w->kept[l] = (struct sp_rec_kept){0};
	}
	w->kept_us = 0;
	w->n_heads = 0;
}

/* What a person brings about is packed as small as can be; who fills a tail in a
 * moment has no time for it. */
static enum sp_rec_how
effort(const struct sp_rec_writer *w)
{
	return kept_bytes(w) < SLOW_BYTES || sp_boot_us() - w->kept_us >= SLOW_US ?
	    SP_REC_SLOW : SP_REC_THOROUGH;
}

static enum sp_err
add_kept(struct sp_rec_writer *w)
{
	enum sp_rec_how how = effort(w);
	int64_t batch_us = w->batch_us;
	enum sp_err e = SP_OK;

	w->batch_us = w->kept_us;
	for (size_t l = 0; e == SP_OK && l < SP_REC_LANES; l++)
		e = sp_rec_add_lane(w, l, sp_buf_span(&w->kept[l].text),
		    w->kept[l].keyframe, how);
	w->batch_us = batch_us;
	SP_TRY(e);
	SP_TRY(sp_rec_add_packed(w));
	/* It would run into the tail that it replaces. */
	return w->out.len <= SP_REC_GAP ? SP_OK : SP_ERR_TOOBIG;
}

enum sp_err
sp_rec_tail_pack(struct sp_rec_writer *w, bool is_last)
{
	struct sp_rec_cursor before = w->cur;

	if (w->kept_us == 0)
		return SP_OK;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		w->pack[l].last = is_last ? kept_bytes(w) : 0;
	memcpy(w->cur.chain, w->body.chain, 32);
	w->cur.last_at_us = w->body.last_at_us;
	w->cur.chunks = w->body.chunks;
	SP_TRY(sp_rec_write_out(w, &before, SP_REC_PACKED, add_kept(w)));
	sp_rec_tail_fini(w);
	if (sp_rec_disk_drop_tail(&w->disk) == SP_OK)
		return SP_OK;
	w->is_broken = true;
	return SP_ERR_IO;
}
