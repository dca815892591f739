/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_NOTARY_STORE_H
#define SP_NOTARY_STORE_H

#include "common/tlog_note.h"

/*
 * The log's directory (doc/transparency-log.md):
 *
 *   tile/...        C2SP tlog-tiles: hashes and entries
 *   checkpoint      the last signed checkpoint
 *   checkpoints/    those that were published: SIZE with its cosignatures,
 *                   SIZE.tsr what the time stamp authority said of it
 *   journal         entries that are in no full tile yet
 *   acts            which entries are holds and ends of recordings (acts.c)
 *
 * An entry is safe when it is in the journal and fdatasync(2) has returned.
 * Everything else can be made again from full tiles and journal:
 *
 *   "SPTLJ1\r\n" u64 number of its first entry (a multiple of 256), then
 *   u16 length (big-endian), entry, the first 8 bytes of its leaf hash; ...
 *
 * A record that a power cut left half is the last one and was acknowledged to
 * nobody: it is cut off. When 256 entries are together their tiles are written
 * and synced, and then a journal without them takes the old one's place.
 */
struct sp_nstore;

/* Reads everything: each full tile against the one above it, then the journal,
 * then the last checkpoint against both. SP_ERR_CRYPTO, with `why` for people:
 * it is not the tree that was signed. SP_ERR_IO. */
SP_MUST enum sp_err sp_nstore_open(int dirfd, struct sp_nstore **s, char *why,
    size_t cap);
void sp_nstore_close(struct sp_nstore *s);
uint64_t sp_nstore_size(const struct sp_nstore *s);	/* safe entries */
uint64_t sp_nstore_next(const struct sp_nstore *s);	/* the number of what is put */
/* Of the first `size` of them. */
SP_MUST enum sp_err sp_nstore_root(struct sp_nstore *s, uint64_t size,
    uint8_t root[static 32]);
SP_MUST enum sp_err sp_nstore_consistency(struct sp_nstore *s, uint64_t size1,
    uint64_t size2, struct sp_tlog_proof *p);
/* Puts an entry behind the others; its number. It is safe when commit returns
 * SP_OK. SP_ERR_FULL (of commit): there is no room, and all that was put since
 * the last commit is forgotten. Any other error of it: this process must end,
 * what the disk has is read anew by the next. */
SP_MUST enum sp_err sp_nstore_put(struct sp_nstore *s, struct sp_span entry,
    uint64_t *index);
SP_MUST enum sp_err sp_nstore_commit(struct sp_nstore *s);
/* Partial tiles of the present size, for whoever reads the directory. */
SP_MUST enum sp_err sp_nstore_tiles(struct sp_nstore *s);
/* The checkpoint as it stands in its file; n 0: there is none yet. */
struct sp_span sp_nstore_note(const struct sp_nstore *s);
SP_MUST enum sp_err sp_nstore_set_note(struct sp_nstore *s, struct sp_span note);
/* checkpoints/SIZE and, with suffix, checkpoints/SIZE.suffix. */
SP_MUST enum sp_err sp_nstore_keep(struct sp_nstore *s, uint64_t size,
    const char *suffix, struct sp_span bytes);
/* What the log says of a recording's holds and end (acts.c), of entries that are safe.
 * put: before the commit of that entry; of acts that are neither it does nothing.
 * SP_ERR_FULL, SP_ERR_IO: the entry must not be committed. */
struct sp_nacts {
	bool is_held, is_ended;
	uint64_t end;		/* the number of that leaf */
};
SP_MUST enum sp_err sp_nacts_put(struct sp_nstore *s, uint8_t act,
    const uint8_t session[static 16], uint64_t index);
SP_MUST enum sp_err sp_nacts_of(struct sp_nstore *s,
    const uint8_t session[static 16], struct sp_nacts *out);
/* Any other file below the directory, in the place of what was there. */
SP_MUST enum sp_err sp_nstore_write(struct sp_nstore *s, const char *path,
    struct sp_span bytes);

#endif
