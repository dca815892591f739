/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/writer.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "recorder/writer_int.h"

/* A full chunk of each lane, VIEW in two, and a checkpoint. */
#define OUT_MAX ((SP_REC_LANES + 1) * (SP_REC_BODY_MAX + SP_REC_OVERHEAD) + 4096)
#define PACKED_MAX SP_REC_BODY_MAX
#define HASH_ROOM 48	/* bytes kept for each hash that is owed */
#define KEEP_BYTES (64u << 10)	/* buffers larger than this go with a segment */
#define QUIET_US INT64_C(2000000)	/* then all that can be made again goes */
/* Packing takes up to 40 ms: rather between two keys than before one. */
#define LULL_US INT64_C(30000)
#define BULK_FROM (16u << 10)	/* a batch that goes into the body at once */
#define BULK_US INT64_C(1000000)	/* and so do those that come so soon after */

static enum sp_err
set_up(struct sp_rec_writer *w, const struct sp_rec_params *p)
{
	SP_TRY(sp_rec_crypto_init(&w->crypto));
	if ((w->keys = sodium_malloc(sizeof(*w->keys))) == NULL)
		return SP_ERR_NOMEM;
	memcpy(w->header.session, p->session, 16);
	w->header.t0_wall_us = sp_now_us();
	w->header.t0_boot_us = sp_boot_us();
	if (crypto_sign_keypair(w->header.rec_key, w->keys->sign) != 0)
		return SP_ERR_CRYPTO;
	if (lseek(p->fd, 0, SEEK_END) != 0)
		return SP_ERR_EXISTS;
	sp_rec_disk_init(&w->disk, p->fd, p->reserve_bytes);
	return sp_rec_writer_begin(w, p);
}

enum sp_err
sp_rec_writer_new(const struct sp_rec_params *p, struct sp_rec_writer **out)
{
	struct sp_rec_writer *w = calloc(1, sizeof(*w));
	enum sp_err e;

	if (w == NULL)
		return SP_ERR_NOMEM;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		sp_buf_init(&w->raw[l], SP_REC_RAW_MAX);
	sp_buf_init(&w->packed, PACKED_MAX);
	sp_buf_init(&w->columns, SP_REC_RAW_MAX);
	sp_buf_init(&w->out, OUT_MAX);
	if ((e = set_up(w, p)) != SP_OK) {
		sp_rec_writer_free(w);
		return e;
	}
	*out = w;
	return SP_OK;
}

void
sp_rec_writer_free(struct sp_rec_writer *w)
{
	if (w == NULL)
		return;
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		sp_buf_fini(&w->raw[l]);
		sp_rec_pack_fini(&w->pack[l]);
	}
	sp_rec_tail_fini(w);
	sp_buf_fini(&w->packed);
	sp_buf_fini(&w->columns);
	sp_buf_fini(&w->out);
	sp_rec_behind_fini(&w->behind);
	sodium_free(w->keys);
	sp_rec_crypto_fini(&w->crypto);
	explicit_bzero(w, sizeof(*w));
	free(w);
}

const struct sp_rec_origin *
sp_rec_writer_header(const struct sp_rec_writer *w)
{
	return &w->header;
}

const uint8_t *
sp_rec_writer_header_hash(const struct sp_rec_writer *w)
{
	return w->header_hash;
}

static bool
checkpoint_is_due(const struct sp_rec_writer *w, int64_t now)
{
	return w->unsigned_bytes >= SP_REC_CHECKPOINT_BYTES ||
	    (w->unsigned_us != 0 &&
	    now - w->unsigned_us >= SP_REC_CHECKPOINT_US);
}

static bool
segment_is_due(const struct sp_rec_writer *w, int64_t now)
{
	return w->segment_bytes >= SP_REC_SEGMENT_BYTES || (w->segment_us != 0 &&
	    now - w->segment_us >= SP_REC_SEGMENT_US);
}

static enum sp_err
end_segment(struct sp_rec_writer *w)
{
	SP_TRY(sp_rec_tail_pack(w, true));
	return sp_rec_next_segment(w);
}

enum sp_err
sp_rec_write_out(struct sp_rec_writer *w, const struct sp_rec_cursor *before,
    enum sp_rec_where where, enum sp_err e)
{
	if (e == SP_OK)
		e = sp_rec_disk_room(&w->disk, w->out.len + w->cur.n_behind *
		    HASH_ROOM);
	if (e == SP_OK)
		e = where == SP_REC_TAIL ? sp_rec_disk_append_tail(&w->disk,
		    sp_buf_span(&w->out)) : where == SP_REC_PACKED ?
		    sp_rec_disk_append_packed(&w->disk, sp_buf_span(&w->out)) :
		    sp_rec_disk_append(&w->disk, sp_buf_span(&w->out));
	w->out.off = w->out.len = 0;	/* ciphertext: nothing to wipe */
	if (e != SP_OK) {
		w->cur = *before;
		sp_rec_behind_cut(&w->behind, w->cur.n_behind);
		w->is_broken = true;
	} else if (where != SP_REC_TAIL) {
		w->body = w->cur;
	}
	return e;
}

/* A batch of its own in the body. */
static enum sp_err
commit_large(struct sp_rec_writer *w, bool with_checkpoint,
    enum sp_rec_how how)
{
	struct sp_rec_cursor before = w->cur;
	enum sp_err e = SP_OK;

	for (size_t l = 0; e == SP_OK && l < SP_REC_LANES; l++)
		e = sp_rec_add_lane(w, l, sp_buf_span(&w->raw[l]),
		    l == SP_LANE_VIEW - 1 ? w->keyframe : 0, how);
	if (e == SP_OK && with_checkpoint)
		e = sp_rec_add_checkpoint(w);
	return sp_rec_write_out(w, &before, SP_REC_BODY, e);
}

/* Bulk is not written twice; nor what comes between its batches. What was derived
 * is none, however much it is: a keyframe would begin a stream that packs quickly
 * and badly for a minute. */
static bool
is_bulk(struct sp_rec_writer *w, int64_t now, bool *begins)
{
	size_t n = sp_rec_writer_waiting(w) - w->raw[SP_LANE_VIEW - 1].len;
	bool was = w->bulk_us != 0 && now - w->bulk_us < BULK_US;

	if (n >= BULK_FROM)
		w->bulk_us = now;
	*begins = n >= BULK_FROM && !was;
	return n >= BULK_FROM || was;
}

static enum sp_err
build_batch(struct sp_rec_writer *w, int64_t now)
{
	size_t n = sp_rec_writer_waiting(w);
	bool begins = false, bulk = is_bulk(w, now, &begins), large, sign;

	if (segment_is_due(w, now) || (begins && w->segment_bytes > 0))
		SP_TRY(end_segment(w));
	if (bulk || !sp_rec_tail_has_room(w))
		SP_TRY(sp_rec_tail_pack(w, false));
	large = bulk || !sp_rec_tail_has_room(w);
	w->cur.bytes_in += w->put_in;
	w->cur.bytes_out += w->put_out;
	w->put_in = w->put_out = 0;
	if (w->segment_us == 0)
		w->segment_us = now;
	if (w->unsigned_us == 0)
		w->unsigned_us = now;
	w->segment_bytes += n;
	w->unsigned_bytes += n;
	sign = checkpoint_is_due(w, now);
	return large ? commit_large(w, sign, bulk ? SP_REC_FAST : SP_REC_THOROUGH) :
	    sp_rec_tail_commit(w, sign);
}

static void
begin_batch(struct sp_rec_writer *w, int64_t now)
{
	w->batch_us = now;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		w->lane_us[l] = now;
}

/* What is written, or will not be. */
static void
end_batch(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++)
		sp_buf_reset(&w->raw[l]);
	w->put_in = w->put_out = 0;
	w->batch_us = 0;
	w->keyframe = 0;
}

/* No two records of a recording have one time: "up to t" is exact. */
enum sp_err
sp_rec_writer_put(struct sp_rec_writer *w, enum sp_lane lane, uint8_t kind,
    uint32_t chan, struct sp_span data)
{
	struct sp_buf *b = &w->raw[lane - 1];
	int64_t now = sp_boot_us(), since;
	size_t before = b->len;
	bool begins_chunk;

	SP_ASSERT(lane >= SP_LANE_OUT && lane <= SP_LANE_VIEW);
	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_ERR_STATE;
	if (data.n > SP_REC_RAW_MAX - SP_REC_RECORD_HEAD_MAX ||
	    b->len > SP_REC_RAW_MAX - SP_REC_RECORD_HEAD_MAX - data.n)
		return SP_ERR_TOOBIG;
	if (now <= w->put_us)
		now = w->put_us + 1;
	if (w->batch_us == 0)
		begin_batch(w, now);
	begins_chunk = lane == SP_LANE_VIEW && kind == SP_RECORD_KEYFRAME &&
	    w->keyframe == 0;
	since = begins_chunk ? w->batch_us : w->lane_us[lane - 1];
	SP_TRY(sp_rec_record_put(b, (uint64_t)(now - since), kind, chan, data));
	if (begins_chunk) {
		w->keyframe = before + 1;
		w->before_keyframe_us = w->lane_us[lane - 1];
	}
	w->put_us = w->lane_us[lane - 1] = now;
	if (kind == SP_RECORD_IN)
		w->put_in += data.n;
	else if (kind == SP_RECORD_OUT || kind == SP_RECORD_ERR)
		w->put_out += data.n;
	return SP_OK;
}

uint64_t
sp_rec_writer_last_us(const struct sp_rec_writer *w)
{
	return w->put_us > w->header.t0_boot_us ?
	    (uint64_t)(w->put_us - w->header.t0_boot_us) : 0;
}

void
sp_rec_writer_count(struct sp_rec_writer *w, bool from_user, size_t n)
{
	*(from_user ? &w->put_in : &w->put_out) += n;
}

size_t
sp_rec_writer_waiting(const struct sp_rec_writer *w)
{
	size_t n = 0;

	for (size_t l = 0; l < SP_REC_LANES; l++)
		n += w->raw[l].len;
	return n;
}

enum sp_err
sp_rec_writer_commit(struct sp_rec_writer *w)
{
	uint64_t in = w->cur.bytes_in, out = w->cur.bytes_out;
	enum sp_err e;

	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_ERR_STATE;
	if (sp_rec_writer_waiting(w) == 0)
		return SP_OK;
	w->spoke_us = sp_boot_us();
	e = build_batch(w, w->spoke_us);
	if (e != SP_OK) {
		w->is_broken = true;
		w->cur.bytes_in = in;
		w->cur.bytes_out = out;
	}
	end_batch(w);
	return e;
}

bool
sp_rec_writer_is_short(struct sp_rec_writer *w)
{
	return sp_rec_disk_is_short(&w->disk);
}

bool
sp_rec_writer_is_dirty(const struct sp_rec_writer *w)
{
	return w->disk.is_dirty;
}

enum sp_err
sp_rec_writer_sync(struct sp_rec_writer *w)
{
	enum sp_err e = sp_rec_disk_sync(&w->disk);

	if (e != SP_OK)
		w->is_broken = true;
	return e;
}

const struct sp_rec_last *
sp_rec_writer_last(const struct sp_rec_writer *w)
{
	return &w->last;
}

uint64_t
sp_rec_writer_checkpoints(const struct sp_rec_writer *w)
{
	return w->checkpoints;
}

enum sp_err
sp_rec_writer_certify(struct sp_rec_writer *w,
    const uint8_t audit_key[static 32], const uint8_t sig[static 64],
    struct sp_span meta)
{
	struct sp_rec_cursor before = w->cur;
	SP_BUF_AUTO text = {.max = SP_SIGNED_MAX};
	SP_BUF_AUTO body = {.max = 256};
	enum sp_err e;

	if (w->is_certified || w->is_broken)
		return SP_ERR_STATE;
	SP_TRY(sp_signed_recording(&text, w->header.session, w->header.rec_key,
	    w->header_hash, w->header.t0_wall_us));
	if (crypto_sign_verify_detached(sig, text.p + text.off, text.len,
	    audit_key) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put(&body, audit_key, 32));
	SP_TRY(sp_buf_put(&body, sig, 64));
	e = sp_rec_add_signed(w, SP_REC_OPEN_CHUNK, &body);
	SP_TRY(sp_rec_write_out(w, &before, SP_REC_BODY, e));
	w->is_certified = true;
	SP_TRY(sp_rec_writer_put(w, SP_LANE_META, SP_RECORD_META, 0, meta));
	SP_TRY(sp_rec_writer_commit(w));
	return sp_rec_writer_sync(w);
}

static void
give_room_back(struct sp_rec_writer *w, size_t keep)
{
	for (size_t l = 0; l < SP_REC_LANES; l++)
		if (w->raw[l].cap > keep && w->raw[l].len == 0)
			sp_buf_fini(&w->raw[l]);
	if (w->columns.cap > keep)
		sp_buf_fini(&w->columns);
	if (w->packed.cap > keep)
		sp_buf_fini(&w->packed);
	if (w->out.cap > keep)
		sp_buf_fini(&w->out);
}

static void
drop_packers(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++)
		sp_rec_pack_fini(&w->pack[l]);
}

/* Nobody says anything: an idle session should cost little memory. What a
 * compressor has seen is of no use without it, so a new segment begins. */
static enum sp_err
rest(struct sp_rec_writer *w)
{
	bool has_begun = false;

	w->spoke_us = 0;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		has_begun |= w->pack[l].is_started;
	if (has_begun)
		SP_TRY(end_segment(w));
	drop_packers(w);
	give_room_back(w, 0);
	sp_rec_behind_trim();
	/* Nobody reads it soon: the kernel need not keep what is on the disk. */
	(void)!posix_fadvise(w->disk.fd, 0, 0, POSIX_FADV_DONTNEED);
	return SP_OK;
}

uint32_t
sp_rec_writer_segment(const struct sp_rec_writer *w)
{
	return w->segment;
}

bool
sp_rec_writer_is_resting(const struct sp_rec_writer *w)
{
	return w->spoke_us == 0;
}

/* A signature is due that no batch brings. */
static enum sp_err
sign(struct sp_rec_writer *w)
{
	struct sp_rec_cursor before = w->cur;

	if (w->kept_us == 0)
		return sp_rec_write_out(w, &before, SP_REC_BODY,
		    sp_rec_add_checkpoint(w));
	return w->n_heads < SP_REC_HEADS_MAX ? sp_rec_tail_commit(w, true) :
	    sp_rec_tail_pack(w, false);
}

static enum sp_err
old_segment(struct sp_rec_writer *w)
{
	bool has_tail = w->kept_us != 0;

	SP_TRY(end_segment(w));
	give_room_back(w, KEEP_BYTES);
	/* It was resting: what the packing took is given back soon. */
	if (has_tail && w->spoke_us == 0)
		w->spoke_us = sp_boot_us();
	return SP_OK;
}

/* When a lull is one: packing is not far, and nothing came for a moment. 0: never. */
static int64_t
lull_due(const struct sp_rec_writer *w)
{
	return w->spoke_us != 0 && w->kept_us != 0 &&
	    sp_rec_tail_is_nearly_full(w) ? w->spoke_us + LULL_US : 0;
}

static enum sp_err
do_what_is_due(struct sp_rec_writer *w, int64_t now)
{
	int64_t lull = lull_due(w);

	if (w->unsigned_us != 0 && checkpoint_is_due(w, now))
		SP_TRY(sign(w));
	if (w->segment_us != 0 && now - w->segment_us >= SP_REC_SEGMENT_US)
		SP_TRY(old_segment(w));
	else if (lull != 0 && now >= lull)
		SP_TRY(sp_rec_tail_pack(w, false));
	SP_TRY(sp_rec_writer_hash(w, now));
	return w->spoke_us != 0 && now - w->spoke_us >= QUIET_US ? rest(w) :
	    SP_OK;
}

static int64_t
earlier(int64_t a, int64_t from, int64_t after)
{
	return from != 0 && from + after < a ? from + after : a;
}

enum sp_err
sp_rec_writer_tick(struct sp_rec_writer *w, int64_t now, int64_t *again_us)
{
	int64_t again;
	enum sp_err e;

	*again_us = INT64_MAX;
	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_OK;
	/* A batch that waits brings what is due with it. */
	if (sp_rec_writer_waiting(w) == 0 && (e = do_what_is_due(w, now)) != SP_OK) {
		w->is_broken = true;
		return e;
	}
	again = sp_rec_writer_hash_due(w);
	again = earlier(again, w->spoke_us, QUIET_US);
	again = earlier(again, w->unsigned_us, SP_REC_CHECKPOINT_US);
	again = earlier(again, lull_due(w), 0);
	*again_us = earlier(again, w->segment_us, SP_REC_SEGMENT_US);
	return SP_OK;
}

/* What failed in a commit may stand on the disk in part, sealed with the
 * numbers that come next: a new key, so that no nonce is used twice. */
static enum sp_err
forget_batch(struct sp_rec_writer *w)
{
	end_batch(w);
	w->out.off = w->out.len = 0;
	return sp_rec_next_segment(w);
}

/* The END record goes with what is kept, if anything is: one chunk less. */
static enum sp_err
pack_end(struct sp_rec_writer *w, const struct sp_buf *end)
{
	if (w->kept_us == 0)
		return sp_rec_record_put(&w->raw[SP_LANE_META - 1], 0,
		    SP_RECORD_END, 0, sp_buf_span(end));
	SP_TRY(sp_rec_tail_put_end(w, sp_buf_span(end)));
	return sp_rec_tail_pack(w, true);
}

static enum sp_err
add_end(struct sp_rec_writer *w, uint8_t code, struct sp_span reason)
{
	SP_TRY(sp_rec_writer_hash_rest(w));
	SP_TRY(sp_rec_add_lane(w, SP_LANE_META - 1,
	    sp_buf_span(&w->raw[SP_LANE_META - 1]), 0, SP_REC_FAST));
	sp_buf_reset(&w->raw[SP_LANE_META - 1]);
	return sp_rec_add_close(w, code, reason);
}

enum sp_err
sp_rec_writer_close(struct sp_rec_writer *w, uint8_t code,
    struct sp_span reason)
{
	SP_BUF_AUTO end = {.max = 1024};
	struct sp_rec_cursor before;

	if (!w->is_certified || w->is_closed)
		return SP_ERR_STATE;
	if (reason.n > SP_REC_REASON_MAX)
		reason.n = SP_REC_REASON_MAX;
	SP_TRY(sp_buf_put_u8(&end, code));
	SP_TRY(sp_buf_put(&end, reason.p, reason.n));
	if (!w->is_broken && sp_rec_writer_commit(w) != SP_OK)
		w->is_broken = true;
	if (w->is_broken)
		SP_TRY(forget_batch(w));
	SP_TRY(pack_end(w, &end));
	/* Nothing may stand behind a CLOSE. */
	SP_TRY(sp_rec_disk_drop_tail(&w->disk));
	before = w->cur;
	SP_TRY(add_end(w, code, reason));
	if (sp_rec_disk_append(&w->disk, sp_buf_span(&w->out)) != SP_OK) {
		w->cur = before;
		return SP_ERR_IO;
	}
	w->is_closed = true;
	return sp_rec_disk_finish(&w->disk);
}

void
sp_rec_writer_totals(const struct sp_rec_writer *w, struct sp_rec_totals *t)
{
	*t = (struct sp_rec_totals){.chunks = w->cur.chunks,
	    .bytes_in = w->cur.bytes_in, .bytes_out = w->cur.bytes_out,
	    .file_bytes = w->disk.off + (w->disk.tail > 0 ? SP_REC_GAP +
	    w->disk.tail : 0)};
	memcpy(t->head, w->cur.chain, 32);
}
