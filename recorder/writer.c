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
	sp_buf_fini(&w->packed);
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

/* The next key for every lane; the old ones cannot be had again. */
static enum sp_err
next_segment(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		SP_TRY(sp_rec_ratchet(w->keys->state[l], (uint8_t)(l + 1),
		    w->segment));
		sp_rec_pack_new_segment(&w->pack[l]);
	}
	w->segment++;
	w->segment_bytes = 0;
	w->segment_us = 0;
	return SP_OK;
}

void
sp_rec_next_header(struct sp_rec_writer *w, uint8_t type, uint8_t lane,
    struct sp_rec_chunk_header *h)
{
	int64_t now = w->batch_us != 0 ? w->batch_us : sp_boot_us();
	uint64_t at = now > w->header.t0_boot_us ?
	    (uint64_t)(now - w->header.t0_boot_us) : 0;

	if (at < w->cur.last_at_us)
		at = w->cur.last_at_us;
	*h = (struct sp_rec_chunk_header){.type = type, .lane = lane,
	    .segment = w->segment, .seq = w->cur.seq, .at_us = at};
}

/* The chunk is whole in memory: counts it and moves the chain. */
enum sp_err
sp_rec_add_chunk(struct sp_rec_writer *w, const struct sp_rec_chunk_header *h,
    struct sp_span body)
{
	uint8_t head[SP_REC_CHUNK_HEADER], chain[32];

	sp_rec_chunk_header_encode(head, h);
	SP_TRY(sp_rec_chain(&w->crypto, w->cur.chain, head, body, chain));
	SP_TRY(sp_buf_put(&w->out, head, sizeof(head)));
	SP_TRY(sp_buf_put(&w->out, chain, sizeof(chain)));
	SP_TRY(sp_buf_put(&w->out, body.p, body.n));
	memcpy(w->cur.chain, chain, 32);
	w->cur.last_at_us = h->at_us;
	w->cur.seq++;
	return SP_OK;
}

/* Seals straight into the out buffer: no copy of what may be 512 KiB. */
static enum sp_err
add_sealed(struct sp_rec_writer *w, struct sp_rec_chunk_header *h,
    struct sp_span text)
{
	bool is_late = text.n >= SP_REC_BEHIND_FROM &&
	    sp_rec_behind_has_room(&w->behind, text.n + SP_REC_SEAL);
	uint8_t *at, key[32], chain[32];
	enum sp_err e;

	h->len = (uint32_t)(text.n + (is_late ? SP_REC_SEAL : SP_REC_TAG));
	if (is_late)
		h->flags |= SP_REC_F_BEHIND;
	SP_TRY(sp_buf_reserve(&w->out, SP_REC_OVERHEAD + h->len, &at));
	SP_TRY(sp_rec_chunk_key(w->keys->state[h->lane - 1], h->lane, h->segment,
	    key));
	sp_rec_chunk_header_encode(at, h);
	e = sp_rec_seal(&w->crypto, key, w->cur.chain, h, text,
	    at + SP_REC_OVERHEAD);
	sodium_memzero(key, sizeof(key));
	if (e == SP_OK && is_late)
		e = sp_rec_writer_behind(w, h, at + SP_REC_OVERHEAD + text.n + SP_REC_TAG);
	SP_TRY(e);
	SP_TRY(sp_rec_chain(&w->crypto, w->cur.chain, at, sp_rec_chained(h,
	    sp_span_of(at + SP_REC_OVERHEAD, h->len)), chain));
	memcpy(at + SP_REC_CHUNK_HEADER, chain, 32);
	sp_buf_commit(&w->out, SP_REC_OVERHEAD + h->len);
	memcpy(w->cur.chain, chain, 32);
	w->cur.last_at_us = h->at_us;
	w->cur.seq++;
	return SP_OK;
}

static enum sp_err
add_text(struct sp_rec_writer *w, size_t l, struct sp_span text, uint16_t flags)
{
	struct sp_rec_chunk_header h;
	bool packed;

	if (text.n == 0)
		return SP_OK;
	sp_rec_next_header(w, SP_REC_DATA_CHUNK, (uint8_t)(l + 1), &h);
	SP_TRY(sp_rec_pack(&w->pack[l], text, &w->packed, &packed));
	w->segment_bytes += text.n;
	w->unsigned_bytes += text.n;
	h.flags = packed ? flags | SP_REC_F_ZSTD : flags;
	return add_sealed(w, &h, packed ? sp_buf_span(&w->packed) : text);
}

static enum sp_err
add_lane(struct sp_rec_writer *w, size_t l)
{
	struct sp_span text = sp_buf_span(&w->raw[l]), after = {0};
	enum sp_err e;

	if (l == SP_LANE_VIEW - 1 && w->keyframe > 0) {
		after = sp_span_of(text.p + w->keyframe - 1,
		    text.n - (w->keyframe - 1));
		text.n = w->keyframe - 1;
		w->keyframe = 0;
	}
	e = add_text(w, l, text, 0);
	if (e == SP_OK)
		e = add_text(w, l, after, SP_REC_F_KEYFRAME);
	sp_buf_reset(&w->raw[l]);
	return e;
}

/* A clear chunk: its body ends with our signature over all before it. */
static enum sp_err
add_signed(struct sp_rec_writer *w, uint8_t type, struct sp_buf *body)
{
	SP_BUF_AUTO text = {.max = 2048};
	uint8_t head[SP_REC_CHUNK_HEADER], sig[SP_REC_SIG];
	struct sp_rec_chunk_header h;

	sp_rec_next_header(w, type, 0, &h);
	h.len = (uint32_t)(body->len + SP_REC_SIG);
	sp_rec_chunk_header_encode(head, &h);
	SP_TRY(sp_rec_signed_chunk(&text, w->cur.chain, head, sp_buf_span(body)));
	if (crypto_sign_detached(sig, NULL, text.p + text.off, text.len,
	    w->keys->sign) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put(body, sig, sizeof(sig)));
	SP_ASSERT(body->len <= sizeof(w->last.body));
	memcpy(w->last.prev, w->cur.chain, 32);
	memcpy(w->last.head, head, sizeof(head));
	memcpy(w->last.body, body->p + body->off, body->len);
	w->last.n = (uint16_t)body->len;
	SP_TRY(sp_rec_add_chunk(w, &h, sp_buf_span(body)));
	w->unsigned_us = 0;
	w->unsigned_bytes = 0;
	w->checkpoints++;
	return SP_OK;
}

enum sp_err
sp_rec_add_checkpoint(struct sp_rec_writer *w)
{
	SP_BUF_AUTO body = {.max = 256};

	SP_TRY(sp_buf_put_u64(&body, (uint64_t)sp_now_us()));
	SP_TRY(sp_buf_put_u64(&body, w->cur.bytes_in));
	SP_TRY(sp_buf_put_u64(&body, w->cur.bytes_out));
	return add_signed(w, SP_REC_CHECKPOINT_CHUNK, &body);
}

static bool
checkpoint_is_due(const struct sp_rec_writer *w, int64_t now)
{
	return w->unsigned_bytes >= SP_REC_CHECKPOINT_BYTES ||
	    (w->unsigned_us != 0 &&
	    now - w->unsigned_us >= SP_REC_CHECKPOINT_US);
}

static enum sp_err
build_batch(struct sp_rec_writer *w, int64_t now)
{
	w->cur.bytes_in += w->put_in;
	w->cur.bytes_out += w->put_out;
	w->put_in = w->put_out = 0;
	if (w->segment_bytes >= SP_REC_SEGMENT_BYTES || (w->segment_us != 0 &&
	    now - w->segment_us >= SP_REC_SEGMENT_US))
		SP_TRY(next_segment(w));
	if (w->segment_us == 0)
		w->segment_us = now;
	if (w->unsigned_us == 0)
		w->unsigned_us = now;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		SP_TRY(add_lane(w, l));
	return checkpoint_is_due(w, now) ? sp_rec_add_checkpoint(w) : SP_OK;
}

/* Puts what stands in `out` into the file, or forgets it and breaks. */
enum sp_err
sp_rec_write_out(struct sp_rec_writer *w, const struct sp_rec_cursor *before, enum sp_err e)
{
	if (e == SP_OK)
		e = sp_rec_disk_room(&w->disk, w->out.len + w->cur.n_behind *
		    HASH_ROOM);
	if (e == SP_OK)
		e = sp_rec_disk_append(&w->disk, sp_buf_span(&w->out));
	w->out.off = w->out.len = 0;	/* ciphertext: nothing to wipe */
	w->batch_us = 0;
	if (e != SP_OK) {
		w->cur = *before;
		sp_rec_behind_cut(&w->behind, w->cur.n_behind);
		w->is_broken = true;
	}
	return e;
}

/* No two records of a recording have one time: "up to t" is exact. */
enum sp_err
sp_rec_writer_put(struct sp_rec_writer *w, enum sp_lane lane, uint8_t kind,
    uint32_t chan, struct sp_span data)
{
	struct sp_buf *b = &w->raw[lane - 1];
	int64_t now = sp_boot_us();
	size_t before = b->len;

	SP_ASSERT(lane >= SP_LANE_OUT && lane <= SP_LANE_VIEW);
	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_ERR_STATE;
	if (data.n > SP_REC_RAW_MAX - SP_REC_RECORD_HEAD_MAX ||
	    b->len > SP_REC_RAW_MAX - SP_REC_RECORD_HEAD_MAX - data.n)
		return SP_ERR_TOOBIG;
	if (now <= w->put_us)
		now = w->put_us + 1;
	if (w->batch_us == 0)
		w->batch_us = now;
	SP_TRY(sp_rec_record_put(b, (uint64_t)(now - w->batch_us), kind, chan,
	    data));
	w->put_us = now;
	if (lane == SP_LANE_VIEW && kind == SP_RECORD_KEYFRAME && w->keyframe == 0)
		w->keyframe = before + 1;
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
	struct sp_rec_cursor before = w->cur;

	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_ERR_STATE;
	if (sp_rec_writer_waiting(w) == 0)
		return SP_OK;
	w->spoke_us = sp_boot_us();
	return sp_rec_write_out(w, &before, build_batch(w, w->spoke_us));
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
	e = add_signed(w, SP_REC_OPEN_CHUNK, &body);
	SP_TRY(sp_rec_write_out(w, &before, e));
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
	if (w->packed.cap > keep)
		sp_buf_fini(&w->packed);
	if (w->out.cap > keep)
		sp_buf_fini(&w->out);
}

/* Nobody says anything: an idle session should cost little memory. What a
 * compressor has seen is of no use without it, so a new segment begins. */
static enum sp_err
rest(struct sp_rec_writer *w)
{
	bool has_packers = false;

	w->spoke_us = 0;
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		has_packers |= w->pack[l].z != NULL;
		sp_rec_pack_fini(&w->pack[l]);
	}
	if (has_packers)
		SP_TRY(next_segment(w));
	give_room_back(w, 0);
	sp_rec_behind_trim();
	/* Nobody reads it soon: the kernel need not keep what is on the disk. */
	(void)!posix_fadvise(w->disk.fd, 0, 0, POSIX_FADV_DONTNEED);
	return SP_OK;
}

bool
sp_rec_writer_is_resting(const struct sp_rec_writer *w)
{
	return w->spoke_us == 0;
}

enum sp_err
sp_rec_writer_tick(struct sp_rec_writer *w, int64_t now, int64_t *again_us)
{
	struct sp_rec_cursor before = w->cur;
	int64_t again = INT64_MAX;

	*again_us = again;
	if (!w->is_certified || w->is_broken || w->is_closed)
		return SP_OK;
	if (w->unsigned_us != 0 && checkpoint_is_due(w, now))
		SP_TRY(sp_rec_write_out(w, &before, sp_rec_add_checkpoint(w)));
	if (w->segment_us != 0 && now - w->segment_us >= SP_REC_SEGMENT_US) {
		SP_TRY(next_segment(w));
		give_room_back(w, KEEP_BYTES);
	}
	SP_TRY(sp_rec_writer_hash(w, now));
	if (w->spoke_us != 0 && now - w->spoke_us >= QUIET_US)
		SP_TRY(rest(w));
	again = sp_rec_writer_hash_due(w);
	if (w->spoke_us != 0 && w->spoke_us + QUIET_US < again)
		again = w->spoke_us + QUIET_US;
	if (w->unsigned_us != 0 && w->unsigned_us + SP_REC_CHECKPOINT_US < again)
		again = w->unsigned_us + SP_REC_CHECKPOINT_US;
	if (w->segment_us != 0 && w->segment_us + SP_REC_SEGMENT_US < again)
		again = w->segment_us + SP_REC_SEGMENT_US;
	*again_us = again;
	return SP_OK;
}

/* What failed in a commit may stand on the disk in part, sealed with the
 * numbers that come next: a new key, so that no nonce is used twice. */
static enum sp_err
forget_batch(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++)
		sp_buf_reset(&w->raw[l]);
	w->put_in = w->put_out = 0;
	w->out.off = w->out.len = 0;
	w->batch_us = 0;
	w->keyframe = 0;
	return next_segment(w);
}

static enum sp_err
add_end(struct sp_rec_writer *w, uint8_t code, struct sp_span reason)
{
	SP_BUF_AUTO body = {.max = 1024};
	SP_BUF_AUTO end = {.max = 1024};

	SP_TRY(sp_buf_put_u8(&end, code));
	SP_TRY(sp_buf_put(&end, reason.p, reason.n));
	SP_TRY(sp_rec_record_put(&w->raw[SP_LANE_META - 1], 0, SP_RECORD_END, 0,
	    sp_buf_span(&end)));
	SP_TRY(add_lane(w, SP_LANE_META - 1));
	SP_TRY(sp_buf_put_u64(&body, (uint64_t)sp_now_us()));
	SP_TRY(sp_buf_put_u64(&body, w->cur.bytes_in));
	SP_TRY(sp_buf_put_u64(&body, w->cur.bytes_out));
	SP_TRY(sp_buf_put_u8(&body, code));
	SP_TRY(sp_buf_put_bytes(&body, reason));
	return add_signed(w, SP_REC_CLOSE_CHUNK, &body);
}

enum sp_err
sp_rec_writer_close(struct sp_rec_writer *w, uint8_t code,
    struct sp_span reason)
{
	struct sp_rec_cursor before;

	if (!w->is_certified || w->is_closed)
		return SP_ERR_STATE;
	if (reason.n > SP_REC_REASON_MAX)
		reason.n = SP_REC_REASON_MAX;
	if (!w->is_broken && sp_rec_writer_commit(w) != SP_OK)
		w->is_broken = true;
	if (w->is_broken)
		SP_TRY(forget_batch(w));
	before = w->cur;
	SP_TRY(sp_rec_writer_hash_rest(w));
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
	*t = (struct sp_rec_totals){.chunks = w->cur.seq,
	    .bytes_in = w->cur.bytes_in, .bytes_out = w->cur.bytes_out,
	    .file_bytes = w->disk.off};
	memcpy(t->head, w->cur.chain, 32);
}
