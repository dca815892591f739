/* SPDX-License-Identifier: Apache-2.0 */
#include "common/text.h"
#include "recorder/writer_int.h"

#define HASH_SLICE (1u << 20)	/* bytes hashed between two looks at the streams */

enum sp_err
sp_rec_writer_behind(struct sp_rec_writer *w, const struct sp_rec_chunk_header *h,
    uint8_t *commitment)
{
	int64_t now = sp_boot_us();

	SP_TRY(sp_rec_commitment(w->keys->state[h->lane - 1], h->lane,
	    h->segment, commitment));
	SP_TRY(sp_rec_behind_add(&w->behind, h->seq, w->disk.off + w->out.len +
	    SP_REC_OVERHEAD, h->len));
	if (w->cur.n_behind == 0)
		w->oldest_us = now;
	w->behind_us = now;
	w->cur.n_behind++;
	return SP_OK;
}

/* HASHES of what has been hashed, into the batch; *n of them. */
static enum sp_err
add_hashes(struct sp_rec_writer *w, size_t *n)
{
	SP_BUF_AUTO body = {.max = SP_REC_HASHES_MAX * 40};
	struct sp_rec_chunk_header h;

	SP_TRY(sp_rec_behind_body(&w->behind, &body, n));
	sp_rec_next_header(w, SP_REC_HASHES_CHUNK, 0, &h);
	h.len = (uint32_t)body.len;
	return sp_rec_add_chunk(w, &h, sp_buf_span(&body));
}

enum sp_err
sp_rec_writer_hash(struct sp_rec_writer *w, int64_t now)
{
	struct sp_rec_cursor before;
	size_t n = 0;
	enum sp_err e;

	if (w->behind.n == 0 || (now - w->behind_us < SP_REC_BEHIND_IDLE_US &&
	    now - w->oldest_us < SP_REC_BEHIND_US))
		return SP_OK;
	SP_TRY(sp_rec_behind_hash(&w->behind, &w->crypto, w->disk.fd,
	    HASH_SLICE));
	if (w->behind.n_hashed < w->behind.n &&
	    w->behind.n_hashed < SP_REC_HASHES_MAX)
		return SP_OK;
	SP_TRY(sp_rec_tail_pack(w, false));
	before = w->cur;
	e = add_hashes(w, &n);
	if (e == SP_OK)
		e = sp_rec_add_checkpoint(w);
	SP_TRY(sp_rec_write_out(w, &before, SP_REC_BODY, e));
	sp_rec_behind_drop(&w->behind, n);
	w->cur.n_behind = w->behind.n;
	w->oldest_us = now;
	return SP_OK;
}

enum sp_err
sp_rec_writer_hash_rest(struct sp_rec_writer *w)
{
	size_t n = 0;

	SP_TRY(sp_rec_behind_hash(&w->behind, &w->crypto, w->disk.fd,
	    UINT64_MAX));
	while (w->behind.n > 0) {
		SP_TRY(add_hashes(w, &n));
		sp_rec_behind_drop(&w->behind, n);
	}
	w->cur.n_behind = 0;
	return SP_OK;
}

int64_t
sp_rec_writer_hash_due(const struct sp_rec_writer *w)
{
	int64_t idle = w->behind_us + SP_REC_BEHIND_IDLE_US;
	int64_t old = w->oldest_us + SP_REC_BEHIND_US;

	return w->behind.n == 0 ? INT64_MAX : idle < old ? idle : old;
}

uint64_t
sp_rec_writer_owes(const struct sp_rec_writer *w)
{
	return w->behind.bytes;
}
