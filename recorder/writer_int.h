/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_WRITER_INT_H
#define SP_RECORDER_WRITER_INT_H

#include "recorder/behind.h"
#include "recorder/disk.h"
#include "recorder/pack.h"
#include "recorder/writer.h"

/* What the files of the writer share. */
struct sp_rec_keys {
	uint8_t state[SP_REC_LANES][32];	/* the ratchet, of this segment */
	uint8_t group[32];	/* while the header is made */
	uint8_t sign[64];
};

/* What a failed commit must not change. */
struct sp_rec_cursor {
	uint8_t chain[32];
	uint64_t seq, chunks, last_at_us, bytes_in, bytes_out;
	size_t n_behind;
};

/* Records of one lane that stand in the tail, to be packed. */
struct sp_rec_kept {
	struct sp_buf text;
	int64_t last_us;	/* boot time of its last record */
	size_t keyframe;	/* where the first begins, + 1 */
};

struct sp_rec_writer {
	struct sp_rec_crypto crypto;
	struct sp_rec_disk disk;
	struct sp_rec_origin header;
	uint8_t header_hash[32];
	struct sp_rec_keys *keys;		/* sodium memory */
	struct sp_rec_cursor cur;
	struct sp_rec_cursor body;	/* the chain at the end of the body */
	struct sp_rec_kept kept[SP_REC_LANES];
	int64_t kept_us;	/* boot time of the first of them; 0: none */
	size_t n_heads;		/* signed in the tail */
	uint8_t heads[SP_REC_HEADS_MAX][SP_REC_HEAD];
	int64_t bulk_us;	/* boot time of the last large batch */
	bool is_shared;		/* who opens OUT opens VIEW */
	uint64_t put_in, put_out;	/* of the batch that waits */
	uint32_t segment;
	int64_t batch_us, segment_us, unsigned_us; /* boot time; 0: none */
	int64_t put_us;			/* boot time of the last record */
	int64_t lane_us[SP_REC_LANES];	/* of each lane's last */
	size_t keyframe;		/* where the first that waits begins, + 1 */
	int64_t before_keyframe_us;	/* what its lane_us was */
	int64_t spoke_us;		/* the last commit; 0: nothing to give back */
	uint64_t segment_bytes, unsigned_bytes, checkpoints;
	bool is_certified, is_broken, is_closed;
	struct sp_buf raw[SP_REC_LANES], columns, packed, out;
	struct sp_rec_pack pack[SP_REC_LANES];
	struct sp_rec_behind behind;
	struct sp_rec_last last;
	int64_t behind_us, oldest_us;	/* boot time: the last one, the first */
};

enum sp_rec_how { SP_REC_AS_IT_IS, SP_REC_FAST, SP_REC_THOROUGH, SP_REC_SLOW };

/* ---- writer_chunk.c */
SP_MUST enum sp_err sp_rec_next_segment(struct sp_rec_writer *w);
void sp_rec_next_header(struct sp_rec_writer *w, uint8_t type, uint8_t lane,
    struct sp_rec_chunk_header *h);
SP_MUST enum sp_err sp_rec_add_chunk(struct sp_rec_writer *w,
    const struct sp_rec_chunk_header *h, struct sp_span body);
/* The text of a lane, in two if it has a keyframe (at keyframe - 1). */
SP_MUST enum sp_err sp_rec_add_lane(struct sp_rec_writer *w, size_t l,
    struct sp_span text, size_t keyframe, enum sp_rec_how how);
/* A clear chunk, whose signature is put behind body. */
SP_MUST enum sp_err sp_rec_add_signed(struct sp_rec_writer *w, uint8_t type,
    struct sp_buf *body);
SP_MUST enum sp_err sp_rec_add_checkpoint(struct sp_rec_writer *w);
SP_MUST enum sp_err sp_rec_add_packed(struct sp_rec_writer *w);
SP_MUST enum sp_err sp_rec_add_close(struct sp_rec_writer *w, uint8_t code,
    struct sp_span reason);

/* ---- writer.c */
/* Puts what stands in `out` there; or forgets it, and breaks. */
enum sp_rec_where { SP_REC_BODY, SP_REC_TAIL, SP_REC_PACKED };
SP_MUST enum sp_err sp_rec_write_out(struct sp_rec_writer *w,
    const struct sp_rec_cursor *before, enum sp_rec_where where, enum sp_err e);

/* ---- writer_tail.c */
bool sp_rec_tail_has_room(const struct sp_rec_writer *w);
/* One more screen and it has none. */
bool sp_rec_tail_is_nearly_full(const struct sp_rec_writer *w);
/* The batch at hand goes to the end of the tail. */
SP_MUST enum sp_err sp_rec_tail_commit(struct sp_rec_writer *w,
    bool with_checkpoint);
/* Into META of what is kept. */
SP_MUST enum sp_err sp_rec_tail_put_end(struct sp_rec_writer *w,
    struct sp_span end);
/* Moves what is kept into the body: packed, signed, on the disk. is_last: no more
 * comes in this segment. */
SP_MUST enum sp_err sp_rec_tail_pack(struct sp_rec_writer *w, bool is_last);
void sp_rec_tail_fini(struct sp_rec_writer *w);

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
