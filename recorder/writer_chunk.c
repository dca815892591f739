/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks: sealed or signed into the batch at hand, each behind the one before. */
#include <sodium.h>
#include <string.h>

#include "common/text.h"
#include "recorder/writer_int.h"

static void
wipe_all(struct sp_buf *b)
{
	b->off = b->len = 0;
	sp_rec_wipe(b);
}

/* The next key for every lane; the old ones cannot be had again, nor what they
 * sealed. */
enum sp_err
sp_rec_next_segment(struct sp_rec_writer *w)
{
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		SP_TRY(sp_rec_ratchet(w->keys->state[l], (uint8_t)(l + 1),
		    w->segment));
		sp_rec_pack_new_segment(&w->pack[l]);
	}
	wipe_all(&w->columns);
	wipe_all(&w->packed);
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
	w->cur.chunks++;
	return SP_OK;
}

/* Seals straight into the out buffer: no copy of what may be 512 KiB. What stands in
 * the tail does not stay there: it cannot be read back for its hash later. */
static enum sp_err
add_sealed(struct sp_rec_writer *w, struct sp_rec_chunk_header *h,
    struct sp_span text, bool stays)
{
	bool is_late = stays && text.n >= SP_REC_BEHIND_FROM &&
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
	w->cur.chunks++;
	return SP_OK;
}

/* VIEW repeats what OUT said: behind it, it costs next to nothing. */
static enum sp_err
squeeze(struct sp_rec_writer *w, size_t l, struct sp_span text,
    enum sp_rec_how how, uint16_t *flags, struct sp_span *out)
{
	bool with_out = l == SP_LANE_VIEW - 1 && w->is_shared, packed;
	struct sp_rec_pack *k = &w->pack[with_out ? SP_LANE_OUT - 1 : l];

	k->effort = how == SP_REC_SLOW ? SP_REC_BEST :
	    how == SP_REC_THOROUGH ? SP_REC_GOOD : SP_REC_QUICK;
	k->cut[0] = k->cut[1] = 0;
	if ((*flags & SP_REC_F_COLUMNS) != 0)
		sp_rec_columns_cut(text, k->cut);
	SP_TRY(sp_rec_pack(k, text, &w->packed, &packed));
	*out = packed ? sp_buf_span(&w->packed) : text;
	if (packed)
		*flags |= with_out ? SP_REC_F_ZSTD | SP_REC_F_WITH_OUT :
		    SP_REC_F_ZSTD;
	return SP_OK;
}

static enum sp_err
add_text(struct sp_rec_writer *w, size_t l, struct sp_span text, uint16_t flags,
    enum sp_rec_how how)
{
	struct sp_rec_chunk_header h;
	struct sp_span body;

	if (text.n == 0)
		return SP_OK;
	if (how >= SP_REC_THOROUGH && sp_rec_to_columns(text, &w->columns) ==
	    SP_OK) {
		text = sp_buf_span(&w->columns);
		flags |= SP_REC_F_COLUMNS;
	}
	body = text;
	sp_rec_next_header(w, SP_REC_DATA_CHUNK, (uint8_t)(l + 1), &h);
	if (how != SP_REC_AS_IT_IS)
		SP_TRY(squeeze(w, l, text, how, &flags, &body));
	h.flags = flags;
	return add_sealed(w, &h, body, how != SP_REC_AS_IT_IS);
}

enum sp_err
sp_rec_add_lane(struct sp_rec_writer *w, size_t l, struct sp_span text,
    size_t keyframe, enum sp_rec_how how)
{
	size_t n = keyframe > 0 ? keyframe - 1 : text.n;

	SP_TRY(add_text(w, l, sp_span_of(text.p, n), 0, how));
	return keyframe == 0 ? SP_OK : add_text(w, l, sp_span_of(text.p + n,
	    text.n - n), SP_REC_F_KEYFRAME, how);
}

/* A clear chunk: its body ends with our signature over all before it. */
enum sp_err
sp_rec_add_signed(struct sp_rec_writer *w, uint8_t type, struct sp_buf *body)
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

static enum sp_err
put_totals(const struct sp_rec_writer *w, struct sp_buf *body)
{
	SP_TRY(sp_buf_put_u64(body, (uint64_t)sp_now_us()));
	SP_TRY(sp_buf_put_u64(body, w->cur.bytes_in));
	return sp_buf_put_u64(body, w->cur.bytes_out);
}

enum sp_err
sp_rec_add_checkpoint(struct sp_rec_writer *w)
{
	SP_BUF_AUTO body = {.max = 256};

	SP_TRY(put_totals(w, &body));
	return sp_rec_add_signed(w, SP_REC_CHECKPOINT_CHUNK, &body);
}

/* It says what it takes the place of: where that stands, and what of it was
 * signed, which others may have heard of. */
enum sp_err
sp_rec_add_packed(struct sp_rec_writer *w)
{
	SP_BUF_AUTO body = {.max = 640};

	SP_TRY(put_totals(w, &body));
	SP_TRY(sp_buf_put_u64(&body, w->disk.off + SP_REC_GAP));
	SP_TRY(sp_buf_put(&body, w->heads, SP_REC_HEAD * w->n_heads));
	return sp_rec_add_signed(w, SP_REC_CHECKPOINT_CHUNK, &body);
}

enum sp_err
sp_rec_add_close(struct sp_rec_writer *w, uint8_t code, struct sp_span reason)
{
	SP_BUF_AUTO body = {.max = 1024};

	SP_TRY(put_totals(w, &body));
	SP_TRY(sp_buf_put_u8(&body, code));
	SP_TRY(sp_buf_put_bytes(&body, reason));
	return sp_rec_add_signed(w, SP_REC_CLOSE_CHUNK, &body);
}
