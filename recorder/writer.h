/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_WRITER_H
#define SP_RECORDER_WRITER_H

#include "recorder/format.h"

/*
 * Writes one recording (doc/recording-format.md). Records are put into lanes
 * and become chunks at a commit, which is one write; what a commit could not
 * write is not in the file and the writer takes nothing more but its end.
 */
struct sp_rec_writer;

struct sp_rec_params {
	int fd;			/* empty file, read-write; stays the caller's */
	uint8_t session[16];
	struct sp_span recipients; /* X25519 keys, 32 bytes each, at least one */
	/* [lane - 1]: who of them opens it; threshold 0: any one of them all. */
	struct sp_rec_openers {
		uint8_t threshold;
		uint32_t who;	/* bit i: recipient i */
	} openers[SP_REC_LANES];
	uint64_t reserve_bytes;	/* free space below which nothing is written */
};

/* What of its header a writer keeps. */
struct sp_rec_origin {
	uint8_t session[16];
	int64_t t0_wall_us, t0_boot_us;
	uint8_t rec_key[32];
};

struct sp_rec_totals {
	uint64_t chunks, bytes_in, bytes_out, file_bytes;
	uint8_t head[32];
};

/* Makes the keys and writes the header, which reaches the disk with OPEN. SP_ERR_FULL
 * when the reserve is gone already. */
SP_MUST enum sp_err sp_rec_writer_new(const struct sp_rec_params *p,
    struct sp_rec_writer **w);
void sp_rec_writer_free(struct sp_rec_writer *w); /* wipes; NULL is fine */
const struct sp_rec_origin *sp_rec_writer_header(const struct sp_rec_writer *w);
const uint8_t *sp_rec_writer_header_hash(const struct sp_rec_writer *w);

/* Checks the vault's signature over key and header (common/signed.h), writes
 * OPEN and, in the META lane, meta; both are on the disk when it returns. */
SP_MUST enum sp_err sp_rec_writer_certify(struct sp_rec_writer *w,
    const uint8_t audit_key[static 32], const uint8_t sig[static 64],
    struct sp_span meta);

/* Adds a record to its lane, to be written by the next commit, at a time that no
 * record before it has. Of lane VIEW a chunk that begins with a KEYFRAME says so,
 * and a KEYFRAME that is put begins one. SP_ERR_TOOBIG: commit first. SP_ERR_STATE
 * after a failure or before certify. */
SP_MUST enum sp_err sp_rec_writer_put(struct sp_rec_writer *w,
    enum sp_lane lane, uint8_t kind, uint32_t chan, struct sp_span data);
/* The time of the last record that was put, us since t0. */
uint64_t sp_rec_writer_last_us(const struct sp_rec_writer *w);
/* n bytes of the user's (else the target's) for which another record stands. */
void sp_rec_writer_count(struct sp_rec_writer *w, bool from_user, size_t n);
size_t sp_rec_writer_waiting(const struct sp_rec_writer *w); /* bytes put */
/* Seals and writes what was put, with a checkpoint where one is due. When it
 * returns SP_OK the kernel has every byte. SP_ERR_FULL, SP_ERR_IO: nothing of
 * it counts. */
SP_MUST enum sp_err sp_rec_writer_commit(struct sp_rec_writer *w);
/* There may be no room for another batch: take nothing that would need it. */
bool sp_rec_writer_is_short(struct sp_rec_writer *w);
bool sp_rec_writer_is_dirty(const struct sp_rec_writer *w); /* since sync */
SP_MUST enum sp_err sp_rec_writer_sync(struct sp_rec_writer *w); /* fdatasync */
/* What time asks for: a checkpoint, a new key, room given back. The boot time
 * in us when it wants to be called again, INT64_MAX for never. */
SP_MUST enum sp_err sp_rec_writer_tick(struct sp_rec_writer *w, int64_t boot_us,
    int64_t *again_us);
/* The one that is being written: nothing of those before can be read with what is
 * in memory. */
uint32_t sp_rec_writer_segment(const struct sp_rec_writer *w);
/* Nothing came for some seconds, and what can be made again was given back. */
bool sp_rec_writer_is_resting(const struct sp_rec_writer *w);
/* The last signed checkpoint, for whoever keeps heads elsewhere. */
uint64_t sp_rec_writer_checkpoints(const struct sp_rec_writer *w);
/* The last chunk that it signed, as the transparency log has it: the chain before
 * it, its header and body. */
struct sp_rec_last {
	uint8_t prev[32], head[SP_REC_CHUNK_HEADER];
	uint16_t n;
	uint8_t body[640];
};
const struct sp_rec_last *sp_rec_writer_last(const struct sp_rec_writer *w);
/* Bytes that the end has to read back and hash first. */
uint64_t sp_rec_writer_owes(const struct sp_rec_writer *w);
/* Writes the END record and CLOSE into room that was kept for it, cuts the
 * file there and brings it to the disk. Also after a failed commit. */
SP_MUST enum sp_err sp_rec_writer_close(struct sp_rec_writer *w, uint8_t code,
    struct sp_span reason);
void sp_rec_writer_totals(const struct sp_rec_writer *w,
    struct sp_rec_totals *t);

#endif
