/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_FIND_H
#define SP_RECORDER_FIND_H

#include "recorder/read.h"

/*
 * Places in a recording that nobody has walked through yet. A chunk's header is
 * clear, so one can be found from any byte of the file: by two headers that stand
 * one behind the other as only chunks do. Times and segments never fall, so a
 * moment is found by halving. What is found is where to read, and nothing more:
 * the file may be anybody's, and whoever reads there checks tags and chain.
 */
#define SP_REC_FIND_BYTES (96u << 10)

struct sp_rec_finder {
	int fd;
	const struct sp_rec_file *f; /* its header */
	uint64_t start, end;	/* of the chunks; of the file */
	uint64_t at;		/* of what is in `in` */
	size_t n;
	uint8_t in[SP_REC_FIND_BYTES];
	uint64_t bytes;		/* that were read */
};

/* The file stays the caller's; both must be there as long as this one. SP_ERR_IO. */
SP_MUST enum sp_err sp_rec_find_open(struct sp_rec_finder *x, int fd,
    const struct sp_rec_file *f);

/* All of these: SP_ERR_NOTFOUND, SP_ERR_IO; a damage is where they stop looking. */

/* The last chunk of the file, and the place before it. SP_ERR_PROTO: something
 * stands behind it that is none. */
SP_MUST enum sp_err sp_rec_find_last(struct sp_rec_finder *x,
    struct sp_rec_place *before, struct sp_rec_chunk_header *h);
/* The place before the first chunk that is later than at_us; where there is none,
 * the end. */
SP_MUST enum sp_err sp_rec_find_time(struct sp_rec_finder *x, uint64_t at_us,
    struct sp_rec_place *p);
/* The place before the first chunk of that segment or of the next that there is,
 * among those before `until`. */
SP_MUST enum sp_err sp_rec_find_segment(struct sp_rec_finder *x,
    uint32_t segment, uint64_t until, struct sp_rec_place *p);
/* The segment of the last chunk of VIEW before `until` that begins with a
 * keyframe, if it is not further back than so many bytes and headers. */
SP_MUST enum sp_err sp_rec_find_keyframe(struct sp_rec_finder *x,
    uint64_t until, uint64_t bytes, unsigned headers, uint32_t *segment);

#endif
