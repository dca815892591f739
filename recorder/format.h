/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_FORMAT_H
#define SP_RECORDER_FORMAT_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/signed.h"
#include "recorder/header.h"

/*
 * The recording format SPREC1, byte by byte in doc/recording-format.md: a
 * header (header.h), then chunks. Here are its constants, its codecs and its
 * cryptography; writer.h writes it, read.h reads and judges it.
 */
#define SP_REC_CHUNK_HEADER 28
#define SP_REC_CHAIN 32
#define SP_REC_TAG 16
#define SP_REC_SIG 64
#define SP_REC_TOTALS 24	/* what a checkpoint begins with */
#define SP_REC_COMMIT 32
#define SP_REC_SEAL (SP_REC_TAG + SP_REC_COMMIT) /* chained for a body */
#define SP_REC_HASHES_MAX 1024	/* of one chunk */
#define SP_REC_OVERHEAD (SP_REC_CHUNK_HEADER + SP_REC_CHAIN)
#define SP_REC_RAW_MAX (512u << 10)	/* records of one chunk */
#define SP_REC_BODY_MAX (576u << 10)	/* what stands in the file for it */
#define SP_REC_SEGMENT_BYTES (8u << 20)
#define SP_REC_SEGMENT_US INT64_C(60000000)
#define SP_REC_CHECKPOINT_BYTES (1u << 20)
#define SP_REC_CHECKPOINT_US INT64_C(5000000)
#define SP_REC_WINDOW_LOG 22	/* in version 4: 21, before: 15 */
#define SP_REC_REASON_MAX 512
#define SP_REC_TIME_MAX (INT64_C(1) << 53) /* us; sums cannot overflow */

enum sp_rec_chunk_type {
	SP_REC_OPEN_CHUNK = 1,
	SP_REC_DATA_CHUNK = 2,
	SP_REC_CHECKPOINT_CHUNK = 3,
	SP_REC_CLOSE_CHUNK = 4,
	SP_REC_RECOVERED_CHUNK = 5,
	SP_REC_HASHES_CHUNK = 6,
};
#define SP_REC_F_ZSTD 1u
#define SP_REC_F_BEHIND 2u	/* the hash of the body comes behind */
#define SP_REC_F_KEYFRAME 4u	/* its first record is a KEYFRAME */
#define SP_REC_F_WITH_OUT 8u	/* VIEW: it is compressed behind lane OUT */
#define SP_REC_F_COLUMNS 16u	/* its records stand in columns */
/* A tail stands so far behind the end of the body; what is packed fits between. */
#define SP_REC_GAP (128u << 10)
#define SP_REC_HEAD 8	/* bytes that name a chain: found again, not proven */
#define SP_REC_HEAD_OLD 16	/* version 4, and the first writers of 5 */
#define SP_REC_HEADS_MAX 16	/* signed in a tail, named when it is packed */

/* Kinds of records inside a lane. The bytes of each are in the document. */
#define SP_REC_KINDS(K)                                                       \
	K(IN, 1, "in")                                                        \
	K(OUT, 2, "out")                                                      \
	K(ERR, 3, "err")                                                      \
	K(OPEN, 4, "open")                                                    \
	K(OPEN_OK, 5, "open_ok")                                              \
	K(OPEN_FAIL, 6, "open_fail")                                          \
	K(RESIZE, 7, "resize")                                                \
	K(SIGNAL, 8, "signal")                                                \
	K(BREAK, 9, "break")                                                  \
	K(EOF, 10, "eof")                                                     \
	K(EXIT, 11, "exit")                                                   \
	K(EXIT_SIGNAL, 12, "exit_signal")                                     \
	K(CLOSE, 13, "close")                                                 \
	K(NOTICE, 14, "notice")                                               \
	K(META, 15, "meta")                                                   \
	K(END, 16, "end")                                                     \
	K(FLOW, 17, "flow")                                                   \
	K(LISTEN, 18, "listen")                                               \
	K(LISTEN_OK, 19, "listen_ok")                                         \
	K(LISTEN_FAIL, 20, "listen_fail")                                     \
	K(UNLISTEN, 21, "unlisten")                                           \
	K(FILE, 24, "file")                                                   \
	K(SAID, 25, "said")                                                   \
	K(WANTS, 32, "wants")                                                 \
	K(SECRET, 33, "secret")                                               \
	K(KEYFRAME, 40, "keyframe")                                           \
	K(LINE, 41, "line")                                                   \
	K(COMMAND, 42, "command")                                             \
	K(NOECHO, 43, "noecho")                                               \
	K(GAP, 44, "gap")                                                     \
	K(BODY, 45, "body")                                                   \
	K(LINES, 46, "lines")

enum sp_rec_kind {
#define SP_REC_KIND_ENUM(name, num, text) SP_RECORD_##name = (num),
	SP_REC_KINDS(SP_REC_KIND_ENUM)
#undef SP_REC_KIND_ENUM
};
/* The flags of a DATA chunk that a version has. */
unsigned sp_rec_known_flags(uint8_t version);
const char *sp_rec_kind_name(uint8_t kind); /* "unknown" if unknown */

struct sp_rec_chunk_header {
	uint32_t len;		/* bytes of the body */
	uint8_t type, lane;
	uint16_t flags;
	uint32_t segment;
	uint64_t seq;
	uint64_t at_us;		/* since t0, boot-time clock */
};

void sp_rec_chunk_header_encode(uint8_t o[static SP_REC_CHUNK_HEADER],
    const struct sp_rec_chunk_header *h);
void sp_rec_chunk_header_decode(const uint8_t p[static SP_REC_CHUNK_HEADER],
    struct sp_rec_chunk_header *h);

/* Seven bits a byte, the lowest first; one encoding for each number. */
SP_MUST enum sp_err sp_rec_varint_put(struct sp_buf *b, uint64_t v);
SP_MUST enum sp_err sp_rec_varint_get(struct sp_span *s, uint64_t max,
    uint64_t *v);

/* A record: varint dt_us since the record before it in its chunk (the first, and
 * all before version 4: since the chunk's at_us), u8 kind, varint channel, varint
 * length, bytes. */
struct sp_rec_record {
	uint64_t at_us;		/* since t0 */
	uint8_t lane, kind;
	uint32_t chan;
	struct sp_span data;
};
#define SP_REC_RECORD_HEAD_MAX (10 + 1 + 5 + 5)
SP_MUST enum sp_err sp_rec_record_put(struct sp_buf *b, uint64_t dt_us,
    uint8_t kind, uint32_t chan, struct sp_span data);
/* Moves s forward; r->at_us is dt_us here. SP_ERR_EOF at the end. */
SP_MUST enum sp_err sp_rec_record_get(struct sp_span *s,
    struct sp_rec_record *r);

/* Who looks for something in many recordings says of each record whether it is
 * wanted; those that are not are not taken apart. at_us and chan say nothing. */
struct sp_rec_sieve {
	bool (*wants)(void *ctx, const struct sp_rec_record *r);
	void *ctx;
};

/* Whole records as columns, and back; out is emptied. SP_ERR_TOOBIG: a time that
 * does not fit, or out->max; SP_ERR_PROTO: no columns of ours. sieve: those that it
 * wants, of that lane; NULL: all. */
SP_MUST enum sp_err sp_rec_to_columns(struct sp_span records,
    struct sp_buf *out);
/* Where the two lower bytes of the times begin and end: they are like noise. */
void sp_rec_columns_cut(struct sp_span columns, size_t cut[static 2]);
SP_MUST enum sp_err sp_rec_from_columns(struct sp_span columns, uint8_t lane,
    const struct sp_rec_sieve *sieve, struct sp_buf *out);

/* ---------------------------------------------------------- cryptography */

/* Contexts that are made once and used for every chunk. */
struct sp_rec_crypto {
	EVP_MD *sha256;
	EVP_CIPHER *gcm;
	EVP_MD_CTX *md;
	EVP_CIPHER_CTX *cipher;
};
SP_MUST enum sp_err sp_rec_crypto_init(struct sp_rec_crypto *c);
void sp_rec_crypto_fini(struct sp_rec_crypto *c);
SP_MUST enum sp_err sp_rec_sha256(struct sp_rec_crypto *c, struct sp_span s,
    uint8_t out[static 32]);
/* What of a body the chain covers: all of it, or its seal where the hash comes
 * behind. */
struct sp_span sp_rec_chained(const struct sp_rec_chunk_header *h,
    struct sp_span body);
/* SHA-256(previous chain, chunk header, what of the body is chained). */
SP_MUST enum sp_err sp_rec_chain(struct sp_rec_crypto *c,
    const uint8_t prev[static 32],
    const uint8_t head[static SP_REC_CHUNK_HEADER], struct sp_span body,
    uint8_t out[static 32]);
/* AES-256-GCM; the additional data are the chunk header and the previous
 * chain; the nonce comes from the header. out has in.n + SP_REC_TAG bytes. */
SP_MUST enum sp_err sp_rec_seal(struct sp_rec_crypto *c,
    const uint8_t key[static 32], const uint8_t prev[static 32],
    const struct sp_rec_chunk_header *h, struct sp_span in, uint8_t *out);
/* The other way; out has in.n - SP_REC_TAG bytes. SP_ERR_CRYPTO. */
SP_MUST enum sp_err sp_rec_unseal(struct sp_rec_crypto *c,
    const uint8_t key[static 32], const uint8_t prev[static 32],
    const struct sp_rec_chunk_header *h, struct sp_span in, uint8_t *out);

/* What commits a chunk to its lane's state in a segment: AES-GCM alone lets one
 * text open under two keys. */
SP_MUST enum sp_err sp_rec_commitment(const uint8_t state[static 32],
    uint8_t lane, uint32_t segment, uint8_t out[static SP_REC_COMMIT]);
/* The key of a lane's chunks in a segment, from the lane's state there; and
 * the state of the next segment, which overwrites this one. */
SP_MUST enum sp_err sp_rec_chunk_key(const uint8_t state[static 32],
    uint8_t lane, uint32_t segment, uint8_t key[static 32]);
SP_MUST enum sp_err sp_rec_ratchet(uint8_t state[static 32], uint8_t lane,
    uint32_t segment);

/* What the recording's own key signs in a clear chunk. */
SP_MUST enum sp_err sp_rec_signed_chunk(struct sp_buf *b,
    const uint8_t prev[static 32],
    const uint8_t head[static SP_REC_CHUNK_HEADER], struct sp_span body);

/* Once in the parent of many: one of each operation, so that children share
 * the pages that it touches. */
SP_MUST enum sp_err sp_rec_warm_up(void);

#endif
