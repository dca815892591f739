/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VERIFY_VERIFY_H
#define SP_VERIFY_VERIFY_H

#include <stdio.h>

#include "common/text.h"
#include "common/tlog_leaf.h"
#include "common/tlog_note.h"
#include "recorder/read.h"

/*
 * sallyport-verify: judges recordings and the transparency log with nothing but
 * files and the vault's public audit key.
 *
 *   main.c   what is asked
 *   book.c   the log read as a whole: every entry, every checkpoint, each session
 *   tiles.c  its tiles of hashes, against the entries
 *   file.c   one recording, against the log
 *   all.c    all recordings, leaves and rows
 *   prove.c  checkpoint, consistency, inclusion proofs
 *   stamp.c  RFC 3161 tokens
 */
struct book_session {
	uint8_t id[16];
	uint8_t rec_key[32], header_hash[32];
	uint8_t head[32];		/* of the newest point */
	uint64_t seq, open_index, last_index, n_points;
	int64_t opened_us;
	uint8_t end;			/* enum sp_leaf_type: CLOSE, RECOVERED; 0 */
	bool has_open, has_point, is_deleted, is_held, is_torn;
	bool has_row, has_file, is_shipped;
	uint8_t shipped[32];		/* SHA-256 of what the store has */
};
struct book_event {
	uint64_t seq, index;
	uint8_t hash[32];
	uint32_t node;
};
struct book {
	int dir;
	uint8_t key[32];
	struct sp_note_key log_key;
	struct sp_checkpoint head;
	size_t n_sessions, cap_sessions;	/* sorted by id when it is read */
	struct book_session *session;
	size_t n_events, cap_events;
	struct book_event *event;		/* in the order of the log */
	size_t n_nodes;
	char node[64][SP_LEAF_NODE_MAX + 1];
	uint64_t n_checkpoints, n_unknown, bytes;
	char why[400];
};
/* ---- tiles.c: every leaf's hash in turn. SP_ERR_CRYPTO: a tile below dir (borrowed)
 * is not of these leaves. One that is missing is none. NULL: no memory. */
struct tiles *tiles_new(int dir);
void tiles_free(struct tiles *t);
SP_MUST enum sp_err tiles_take(struct tiles *t, const uint8_t leaf[static 32]);
SP_MUST enum sp_err tiles_end(const struct tiles *t);
/* ---- book.c */
/* Reads the log at dir. SP_ERR_CRYPTO: forged, and why. progress may be NULL. */
SP_MUST enum sp_err book_open(struct book *b, const char *dir,
    const uint8_t key[static 32], void (*progress)(uint64_t, uint64_t));
void book_close(struct book *b);
/* The size of the newest signed head at dir. */
SP_MUST enum sp_err book_size(const char *dir, const uint8_t key[static 32],
    uint64_t *size);
/* How many leaves there are with those that no head covers yet; 0: unknown. */
uint64_t book_journal(const char *dir);
struct book_session *book_find(struct book *b, const uint8_t id[static 16]);
/* Another checkpoint, from elsewhere: is it of this log's past? */
SP_MUST enum sp_err book_expect(struct book *b, const char *file);

/* A recording with what the log says of it. dir of the log is not needed any more. */
enum sp_rec_verdict file_judge(struct book *b, int fd, struct sp_rec_report *r);

int verify_file(int argc, char **argv);
int verify_all(int argc, char **argv);
/* Tokens of a time stamp authority beside the checkpoints. */
int stamps(int log, const char *certificates, const uint8_t key[static 32],
    bool json);
int log_verbs(int argc, char **argv);

/* main.c */
SP_MUST enum sp_err key_read(const char *arg, uint8_t key[static 32]);
const char *option(int *argc, char **argv, const char *name);
bool flag(int *argc, char **argv, const char *name);
int fail(const char *fmt, ...) SP_PRINTF(1, 2);
void json_text(FILE *f, const char *name, const char *value);

#endif
