/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_TLOG_NOTE_H
#define SP_COMMON_TLOG_NOTE_H

#include "common/tlog.h"

/*
 * Signed notes (C2SP signed-note), the checkpoints of logs (tlog-checkpoint)
 * and the cosignatures of witnesses (tlog-cosignature), with Ed25519.
 *
 *   text = origin "\n" size "\n" base64(root) "\n" (further lines)*
 *   note = text "\n" ("— " name " " base64(key id[4] signature) "\n")+
 *
 * What the log signs is the text; it begins with an origin, so it is none of the
 * forms of common/signed.h, which all have a NUL in their first 30 bytes and
 * begin with "sallyport " (an origin has no space).
 */
#define SP_NOTE_MAX 16384u		/* bytes of one note that is read */
#define SP_NOTE_NAME_MAX 128u		/* bytes of a name or origin */
#define SP_NOTE_SIGS_MAX 32u

enum sp_note_alg {
	SP_NOTE_ED25519 = 1,	/* of a log */
	SP_NOTE_COSIGN = 4,	/* of a witness: with a time */
};

struct sp_note_key {
	char name[SP_NOTE_NAME_MAX + 1];
	enum sp_note_alg alg;
	uint8_t pk[32];
	uint8_t id[4];
};
/* A name that may stand in a note: UTF-8, not empty, no white space, no `+`, no
 * control characters. */
bool sp_note_name_is_valid(struct sp_span name);
SP_MUST enum sp_err sp_note_key_make(struct sp_note_key *k, struct sp_span name,
    enum sp_note_alg alg, const uint8_t pk[static 32]);
/* "name+hex id+base64(alg, key)"; SP_ERR_SYNTAX. */
SP_MUST enum sp_err sp_note_key_parse(struct sp_note_key *k, struct sp_span text);
SP_MUST enum sp_err sp_note_key_text(const struct sp_note_key *k,
    struct sp_buf *out);

struct sp_checkpoint {
	char origin[SP_NOTE_NAME_MAX + 1];
	uint64_t size;
	uint8_t root[32];
};
/* The text that is signed. */
SP_MUST enum sp_err sp_checkpoint_text(const struct sp_checkpoint *c,
    struct sp_buf *out);
/* The first three lines; more of them are passed over. SP_ERR_SYNTAX. */
SP_MUST enum sp_err sp_checkpoint_parse(struct sp_span text,
    struct sp_checkpoint *c);

struct sp_note {
	struct sp_span text;	/* with its last newline; borrowed */
	size_t n;
	struct {
		struct sp_span name, line;	/* line: with its newline */
		uint8_t id[4];
		uint8_t blob[72];	/* what follows the id */
		size_t blob_n;		/* 0: of a kind that we do not know */
	} sig[SP_NOTE_SIGS_MAX];
};
SP_MUST enum sp_err sp_note_parse(struct sp_span note, struct sp_note *n);
/* Which signature line is the key's and good: its index. SP_ERR_NOTFOUND: none
 * is its; SP_ERR_CRYPTO: one claims to be, and is not. */
SP_MUST enum sp_err sp_note_check(const struct sp_note *n,
    const struct sp_note_key *k, size_t *at, int64_t *cosigned_s);
/* The line of a signature, with its newline. */
SP_MUST enum sp_err sp_note_line(const struct sp_note_key *k,
    struct sp_span blob, struct sp_buf *out);
/* A note of one signature of the log. */
SP_MUST enum sp_err sp_note_signed(struct sp_span text,
    const struct sp_note_key *k, const uint8_t sig[static 64],
    struct sp_buf *out);
/* What a witness signs at that time (seconds since 1970). */
SP_MUST enum sp_err sp_cosign_text(struct sp_span text, uint64_t time_s,
    struct sp_buf *out);

#endif
