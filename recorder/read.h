/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_READ_H
#define SP_RECORDER_READ_H

#include "common/ipc_messages.h"
#include "recorder/format.h"

/*
 * Reads recordings: a walk over the chunks that needs no key, the verifier,
 * and the decoder that needs the lane keys. Nothing in a file is trusted;
 * memory is bounded by the format's own limits.
 */

/* ---------------------------------------------------------------- walk */

struct sp_rec_file;

enum sp_rec_step {
	SP_REC_STEP_CHUNK,	/* a whole chunk whose chain fits */
	SP_REC_STEP_END,	/* the file ends where a chunk ends */
	SP_REC_STEP_PARTIAL,	/* the file ends inside a chunk */
	SP_REC_STEP_BROKEN,	/* the chain or a number does not fit */
	SP_REC_STEP_IO,
};

struct sp_rec_chunk {
	struct sp_rec_chunk_header h;
	uint8_t head[SP_REC_CHUNK_HEADER]; /* as it stands in the file */
	uint8_t prev[32], chain[32];
	struct sp_span body;	/* until the next step */
	uint64_t off, size;	/* where the chunk stands, all of it */
};

/* Reads and decodes the header; the descriptor stays the caller's and its
 * offset is not used. SP_ERR_PROTO: not a recording. SP_ERR_EOF: shorter than
 * its header. SP_ERR_IO. */
SP_MUST enum sp_err sp_rec_file_open(int fd, struct sp_rec_file **f);
/* The same for the next one of many, with what this one has made already. */
SP_MUST enum sp_err sp_rec_file_reopen(struct sp_rec_file *f, int fd);
/* From now on the bodies of these lanes (bit n: lane n) are read and no others,
 * and the chain is taken from the file as it stands there: what is left to vouch
 * for a chunk is its tag. For who looks for something in many recordings. */
void sp_rec_file_skim(struct sp_rec_file *f, uint32_t lanes);
void sp_rec_file_close(struct sp_rec_file *f); /* NULL is fine */
const struct sp_rec_header *sp_rec_file_header(const struct sp_rec_file *f);
const uint8_t *sp_rec_file_header_hash(const struct sp_rec_file *f);
uint64_t sp_rec_file_header_bytes(const struct sp_rec_file *f);
enum sp_rec_step sp_rec_file_next(struct sp_rec_file *f,
    struct sp_rec_chunk *c);
/* The file is running, and the tail that was being read has been packed: the last
 * step was what took its place. Says so once. */
bool sp_rec_file_went_back(struct sp_rec_file *f);
/* Why the last step was BROKEN; a static string. */
const char *sp_rec_file_why(const struct sp_rec_file *f);

/* A place to come back to: before the chunk that would be next. */
struct sp_rec_place {
	uint64_t off, seq, at_us;
	uint32_t segment;
	uint8_t chain[32];
};
void sp_rec_file_tell(const struct sp_rec_file *f, struct sp_rec_place *p);
void sp_rec_file_seek(struct sp_rec_file *f, const struct sp_rec_place *p);

/* -------------------------------------------------------------- verify */

struct sp_rec_report {
	enum sp_rec_verdict verdict;
	char text[320];		/* why, for people */
	uint8_t session[16];
	int64_t opened_us, last_us;	/* wall clock: OPEN; the last good chunk */
	uint64_t chunks;	/* good ones */
	uint64_t signed_chunks;	/* of them, covered by a signature */
	uint64_t good_bytes, file_bytes;
	uint64_t bytes_in, bytes_out;	/* as last signed */
	uint64_t unhashed;	/* chunks whose hash has not come yet */
	uint64_t late;		/* chunks that a recovery had to hash */
	uint8_t head[32];	/* after the last good chunk */
	/* Who opens which lane, of the header; [lane - 1]. */
	uint8_t n_recipients, recipient[SP_REC_RECIPIENTS_MAX][32];
	struct {
		uint8_t threshold;	/* 0: the file has no such lane */
		uint32_t who;		/* bit i: recipient i */
	} lane[SP_REC_LANES];
	bool has_header, is_closed, is_recovered;
	uint8_t code;		/* of CLOSE */
	char reason[SP_REC_REASON_MAX + 1]; /* of CLOSE, untrusted */
};
/* Judges a recording with the vault's public audit key alone. known_head: a
 * head that the audit log has for it, or NULL. */
enum sp_rec_verdict sp_rec_verify(int fd, const uint8_t audit_key[static 32],
    const uint8_t *known_head, struct sp_rec_report *r);
const char *sp_rec_verdict_name(enum sp_rec_verdict v);

/* The same, bit by bit: r is filled as it goes on (good_bytes of file_bytes), its
 * verdict holds at the end. Key, head and report stay the caller's. */
struct sp_rec_judge;
SP_MUST enum sp_err sp_rec_judge_new(int fd,
    const uint8_t audit_key[static 32], const uint8_t *known_head,
    struct sp_rec_report *r, struct sp_rec_judge **k);
/* About so many bytes more; true: there is a verdict. */
bool sp_rec_judge_work(struct sp_rec_judge *k, uint64_t bytes);
void sp_rec_judge_free(struct sp_rec_judge *k); /* NULL is fine */
/* Reads the two ends of the file alone. True: it has a header, an OPEN that the
 * vault signed, and its last chunk is a CLOSE or RECOVERED whose signature is
 * good; r says whose it is and when it began and ended, and no more. */
bool sp_rec_peek(int fd, const uint8_t audit_key[static 32],
    struct sp_rec_report *r);

/* -------------------------------------------------------------- decode */

struct sp_rec_decoder;

struct sp_rec_lane_keys {
	bool has[SP_REC_LANES];
	uint8_t key[SP_REC_LANES][32];
};
/* The bodies of play_keys and play_keys_r (common/signed.h): the boxes of those of
 * these lanes (bit n: lane n) that this recipient (index) opens alone, and how many
 * boxes that is. SP_ERR_NOTFOUND: none. */
SP_MUST enum sp_err sp_rec_sealed_keys(const struct sp_rec_header *h,
    size_t recipient, uint32_t lanes, struct sp_buf *out, uint8_t *n);
SP_MUST enum sp_err sp_rec_parse_keys(struct sp_span keys,
    struct sp_rec_lane_keys *k);

/* Records with their times, of the lanes that have a key. Opens at the start. */
SP_MUST enum sp_err sp_rec_decoder_new(int fd,
    const struct sp_rec_lane_keys *keys, struct sp_rec_decoder **d);
/* The same for the next one of many. With `lanes` not 0 it skims: only those are
 * read (sp_rec_file_skim), and no place is kept to come back to. */
SP_MUST enum sp_err sp_rec_decoder_reopen(struct sp_rec_decoder *d, int fd,
    const struct sp_rec_lane_keys *keys, uint32_t lanes);
/* From now on only what it wants is handed out; NULL: all. It is asked about lines
 * that were written as one record (46) as they are. */
void sp_rec_decoder_sieve(struct sp_rec_decoder *d,
    const struct sp_rec_sieve *sieve);
void sp_rec_decoder_free(struct sp_rec_decoder *d);
/* The next record; its data live until the next call. SP_ERR_EOF: no more
 * whole chunks. SP_ERR_CRYPTO, SP_ERR_PROTO, SP_ERR_TOOBIG: not decodable from
 * here. Clear chunks are passed over. */
SP_MUST enum sp_err sp_rec_decoder_next(struct sp_rec_decoder *d,
    struct sp_rec_record *r);
/* Goes to the beginning of the last segment that begins at or before at_us, or
 * of the first. Only places that next() or scan() has passed are known. */
SP_MUST enum sp_err sp_rec_decoder_seek(struct sp_rec_decoder *d,
    uint64_t at_us);
/* The beginning of the segment that the last record came from, and the way back
 * to it: a caller that keeps its own state of that moment goes on from there. */
void sp_rec_decoder_tell(const struct sp_rec_decoder *d,
    struct sp_rec_place *p);
void sp_rec_decoder_go(struct sp_rec_decoder *d, const struct sp_rec_place *p);
/* Before its first record. */
void sp_rec_decoder_rewind(struct sp_rec_decoder *d);
/* Reads the chunk headers of the whole file; the time of the last chunk. */
SP_MUST enum sp_err sp_rec_decoder_scan(struct sp_rec_decoder *d,
    uint64_t *end_us);
const struct sp_rec_header *sp_rec_decoder_header(
    const struct sp_rec_decoder *d);

#endif
