/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_XFER_H
#define SP_RECORDER_XFER_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/rules.h"

/*
 * What the parsers of file transfers (sftp.h, scp.h) share. A parser is given
 * the bytes of one channel, both ways, in pieces of any size; it says through
 * the calls of struct sp_xfer_out what becomes of each of them. It does no I/O
 * and trusts neither side; its memory is bounded.
 */
#define SP_XFER_PATH_MAX 4096		/* bytes of a path that is judged */

/* What was done, in `file` records and in the audit log. */
#define SP_XFER_OPS(X)                                                        \
	X(OPEN, 1, "open")                                                    \
	X(EXTENT, 2, "extent")                                                \
	X(CLOSE, 3, "close")                                                  \
	X(LIST, 4, "list")                                                    \
	X(REMOVE, 5, "remove")                                                \
	X(RENAME, 6, "rename")                                                \
	X(MKDIR, 7, "mkdir")                                                  \
	X(RMDIR, 8, "rmdir")                                                  \
	X(SETSTAT, 9, "setstat")                                              \
	X(SYMLINK, 10, "symlink")                                             \
	X(HARDLINK, 11, "hardlink")                                           \
	X(COPY, 12, "copy")                                                   \
	X(READ, 13, "read")                                                   \
	X(WRITE, 14, "write")                                                 \
	X(OTHER, 15, "other")                                                 \
	X(PROTOCOL, 16, "protocol")                                           \
	X(TOTAL, 17, "total")

enum sp_xfer_op {
#define SP_XFER_OP_ENUM(name, num, text) SP_XFER_##name = (num),
	SP_XFER_OPS(SP_XFER_OP_ENUM)
#undef SP_XFER_OP_ENUM
};
const char *sp_xfer_op_name(uint8_t op);	/* "unknown" if unknown */

/* A result: below 256 the target's own word (SSH_FXP_STATUS; of scp 0 or 4),
 * else ours. */
enum sp_xfer_result {
	SP_XFER_DONE = 0,
	SP_XFER_EOF = 1,
	SP_XFER_NO_FILE = 2,
	SP_XFER_DENIED = 3,
	SP_XFER_FAILURE = 4,
	SP_XFER_BAD_MESSAGE = 5,
	SP_XFER_UNSUPPORTED = 8,
	SP_XFER_REFUSED = 256,	/* by the rules; the other side never saw it */
	SP_XFER_CUT = 257,	/* the channel ended before the answer came */
};
const char *sp_xfer_result_name(uint32_t result);

enum sp_xfer_flags {
	SP_XFER_HAS_HASH = 1 << 0,
	/* The hash is that of the file's content from its first byte to the last
	 * that passed, without a gap. */
	SP_XFER_WHOLE = 1 << 1,
	/* The extent goes on: offset, bytes and hash are those so far. */
	SP_XFER_SO_FAR = 1 << 2,
	SP_XFER_SCP = 1 << 3,
	SP_XFER_RSYNC = 1 << 4,
};

struct sp_xfer_note {
	uint8_t op;		/* enum sp_xfer_op */
	uint8_t dir;		/* SP_RIGHT_UPLOAD and/or SP_RIGHT_DOWNLOAD, >> 3 */
	uint8_t flags;
	uint32_t file;		/* one number for each open; 0: none */
	uint32_t result;
	uint64_t offset, bytes;
	uint8_t sha256[32];
	struct sp_span path, path2, text;
};
#define SP_XFER_DIR(right) ((uint8_t)((right) >> 3))
#define SP_XFER_BODY_HEAD 13	/* of a `body` record: u8 dir, u32 file, u64 offset */
/* The bytes of a `file` record: doc/recording-format.md. */
SP_MUST enum sp_err sp_xfer_note_encode(struct sp_buf *b,
    const struct sp_xfer_note *n);
SP_MUST enum sp_err sp_xfer_note_decode(struct sp_span s,
    struct sp_xfer_note *n);

struct sp_xfer_at {
	uint32_t file;		/* as in sp_xfer_note */
	uint64_t offset;
};

enum sp_xfer_leave { SP_XFER_WAITS = 0, SP_XFER_GOES, SP_XFER_STAYS };

/* What a parser says of its bytes. Errors are the caller's own and end it. */
struct sp_xfer_out {
	void *arg;
	/* They go on as they are. at: where they stand in a file whose content
	 * they are, or NULL. */
	enum sp_err (*pass)(void *arg, bool to_target, struct sp_span s,
	    const struct sp_xfer_at *at);
	/* They came from there and go no further. */
	enum sp_err (*drop)(void *arg, bool from_user, size_t n);
	/* Bytes of ours, no more than room() says. */
	enum sp_err (*say)(void *arg, bool to_target, struct sp_span s);
	size_t (*room)(void *arg, bool to_target);
	enum sp_err (*note)(void *arg, const struct sp_xfer_note *n);
	/* May it be opened, as far as a second person is concerned? WAITS: the
	 * parser is called again. */
	enum sp_xfer_leave (*leave)(void *arg, uint32_t ops, struct sp_span path);
};

/* What all channels of a session share. */
struct sp_xfer_session {
	const struct sp_rules *rules;
	EVP_MD *md;
	uint64_t bytes;		/* of files, both ways */
	uint32_t files;		/* the newest number */
};

/* May n bytes more of a file pass that then reaches `end`? Else why. */
bool sp_xfer_within(const struct sp_xfer_session *s, uint64_t end, uint64_t n,
    char *why, size_t n_why);
/* Is there any path pattern for these rights? */
bool sp_xfer_has_patterns(const struct sp_rules *r, uint32_t ops);

/* An absolute path without ".", ".." and doubled slashes, from what was said
 * and the directory that it starts in (empty: not known). SP_ERR_INVAL: it
 * cannot be made, SP_ERR_TOOBIG. out is emptied first. */
SP_MUST enum sp_err sp_xfer_abs(struct sp_buf *out, struct sp_span dir,
    struct sp_span path);
struct sp_span sp_xfer_dirname(struct sp_span path);
struct sp_span sp_xfer_basename(struct sp_span path);

/* One run of bytes without a gap, hashed as it passes. */
struct sp_xfer_hash {
	EVP_MD_CTX *ctx;	/* NULL: nothing since the last take */
	uint64_t start, next;
};
void sp_xfer_hash_fini(struct sp_xfer_hash *h);
SP_MUST enum sp_err sp_xfer_hash_put(const struct sp_xfer_session *s,
    struct sp_xfer_hash *h, uint64_t offset, struct sp_span bytes);
/* The hash so far; the run goes on. Of nothing: the hash of no bytes. */
SP_MUST enum sp_err sp_xfer_hash_look(const struct sp_xfer_session *s,
    const struct sp_xfer_hash *h, uint8_t out[static 32]);

/* Gathers the first `need` bytes of what `held` and then *s hold. SP_ERR_AGAIN:
 * there are fewer, and held has them all. Else *view is in held, if that holds
 * something, or at the front of *s, which is not moved. */
SP_MUST enum sp_err sp_xfer_peek(struct sp_buf *held, struct sp_span *s,
    size_t need, struct sp_span *view);

#endif
