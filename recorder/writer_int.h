/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_WRITER_INT_H
#define SP_RECORDER_WRITER_INT_H

#include "recorder/behind.h"
#include "recorder/disk.h"
#include "recorder/pack.h"
#include "recorder/writer.h"

/* What the two files of the writer share: writer.c, and writer_late.c for the
 * hashes that come behind large chunks. */
struct sp_rec_keys {
	uint8_t state[SP_REC_LANES][32];	/* the ratchet, of this segment */
	uint8_t sign[64];
};

/* What a failed commit must not change. */
struct sp_rec_cursor {
	uint8_t chain[32];
	uint64_t seq, last_at_us, bytes_in, bytes_out;
	size_t n_behind;
};

struct sp_rec_writer {
	struct sp_rec_crypto crypto;
	struct sp_rec_disk disk;
	struct sp_rec_origin header;
	uint8_t header_hash[32];
	struct sp_rec_keys *keys;		/* sodium memory */
	struct sp_rec_cursor cur;
	uint64_t put_in, put_out;	/* of the batch that waits */
	uint32_t segment;
	int64_t batch_us, segment_us, unsigned_us; /* boot time; 0: none */
	int64_t put_us;			/* boot time of the last record */
	size_t keyframe;		/* where the first that waits begins, + 1 */
	int64_t spoke_us;		/* the last commit; 0: nothing to give back */
	uint64_t segment_bytes, unsigned_bytes, checkpoints;
	bool is_certified, is_broken, is_closed;
	struct sp_buf raw[SP_REC_LANES], packed, out;
	struct sp_rec_pack pack[SP_REC_LANES];
	struct sp_rec_behind behind;
	struct sp_rec_last last;
	int64_t behind_us, oldest_us;	/* boot time: the last one, the first */
};

/* ---- writer.c */
void sp_rec_next_header(struct sp_rec_writer *w, uint8_t type, uint8_t lane,
    struct sp_rec_chunk_header *h);
SP_MUST enum sp_err sp_rec_add_chunk(struct sp_rec_writer *w,
    const struct sp_rec_chunk_header *h, struct sp_span body);
SP_MUST enum sp_err sp_rec_add_checkpoint(struct sp_rec_writer *w);
SP_MUST enum sp_err sp_rec_write_out(struct sp_rec_writer *w,
    const struct sp_rec_cursor *before, enum sp_err e);

/* ---- writer_open.c */
/* Makes the lanes' keys and writes the header. */
SP_MUST enum sp_err sp_rec_writer_begin(struct sp_rec_writer *w,
    const struct sp_rec_params *p);

/* ---- writer_late.c */
/* Notes a chunk that is about to stand at the end of the batch; its commitment
 * goes into 32 bytes at commitment. */
SP_MUST enum sp_err sp_rec_writer_behind(struct sp_rec_writer *w,
    const struct sp_rec_chunk_header *h, uint8_t *commitment);
/* When it is time: a slice of the hashes that are owed; written when it is
 * whole. */
SP_MUST enum sp_err sp_rec_writer_hash(struct sp_rec_writer *w, int64_t now);
/* All of them, into the batch that ends the recording. */
SP_MUST enum sp_err sp_rec_writer_hash_rest(struct sp_rec_writer *w);
int64_t sp_rec_writer_hash_due(const struct sp_rec_writer *w); /* boot us */

#endif
