/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_PACK_H
#define SP_RECORDER_PACK_H

#include <stdbool.h>
#include <zstd.h>

#include "common/buf.h"

/*
 * One lane's compressor: a zstd stream for each segment, flushed for each
 * chunk, that leaves what does not shrink alone. No context until needed: while
 * bulk flows it is 5 MiB, touched as bytes go through it; else less than 1.
 */
struct sp_rec_pack {
	ZSTD_CCtx *z;
	/* Of the stream that begins next. */
	enum sp_rec_effort { SP_REC_QUICK, SP_REC_GOOD, SP_REC_BEST } effort;
	size_t cut[2];		/* of the next text: what is like noise begins, ends */
	unsigned skip, backoff;	/* chunks to leave alone */
	bool is_started;	/* something of this segment went through it */
	/* Nothing comes after so many bytes: a smaller context does. 0: not known. */
	size_t last;
};

/* All of a buffer's room but what it holds: what was in it is gone. */
void sp_rec_wipe(struct sp_buf *b);
void sp_rec_pack_fini(struct sp_rec_pack *k);
void sp_rec_pack_new_segment(struct sp_rec_pack *k);
/* out is emptied. *packed false: write `in` as it is, out holds nothing. */
SP_MUST enum sp_err sp_rec_pack(struct sp_rec_pack *k, struct sp_span in,
    struct sp_buf *out, bool *packed);

/* The other way; one for each lane. */
struct sp_rec_unpack {
	ZSTD_DCtx *z;
};
void sp_rec_unpack_fini(struct sp_rec_unpack *k);
SP_MUST enum sp_err sp_rec_unpack_new_segment(struct sp_rec_unpack *k);
/* Appends to out, never beyond out->max: SP_ERR_TOOBIG for a bomb, SP_ERR_PROTO
 * for what is not a stream of ours. */
SP_MUST enum sp_err sp_rec_unpack(struct sp_rec_unpack *k, struct sp_span in,
    struct sp_buf *out);

#endif
