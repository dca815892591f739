/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_NOTARY_STORE_INT_H
#define SP_NOTARY_STORE_INT_H

#include "notary/store.h"

#define SP_NLEVELS 5

struct sp_nstore {
	int dir, journal, acts;
	uint64_t acts_end;
	struct sp_tlog_tree tree;
	struct sp_tlog_dir *full;	/* full tiles, by their files */
	/* of the tile that is not full yet, at each level */
	uint8_t edge[SP_NLEVELS][SP_TLOG_TILE * 32];
	unsigned n_edge[SP_NLEVELS];
	struct sp_buf bundle;		/* the entries of edge[0], as in a file */
	struct sp_buf put;		/* journal records that are not safe yet */
	unsigned n_put;
	uint64_t first, journal_end;	/* of the journal */
	struct sp_buf note;
};

/* Where hashes of this tree come from. */
struct sp_tlog_source sp_nstore_source(struct sp_nstore *s);
/* Into the tree and the edges; full tiles are written when there are some. */
SP_MUST enum sp_err sp_nstore_take(struct sp_nstore *s, struct sp_span entry);
/* A journal that begins at the first entry of no full tile. */
SP_MUST enum sp_err sp_nstore_rotate(struct sp_nstore *s);
SP_MUST enum sp_err sp_nstore_partials(struct sp_nstore *s, uint64_t size);

/* acts.c */
SP_MUST enum sp_err sp_nacts_open(struct sp_nstore *s);
/* The entries of piece n, as in a file; those that are safe. */
SP_MUST enum sp_err sp_nstore_bundle(struct sp_nstore *s, uint64_t n,
    struct sp_buf *out);
SP_MUST enum sp_err sp_nstore_entry(struct sp_nstore *s, uint64_t index,
    struct sp_buf *out);

/* files.c: a whole file in the place of what was there. synced: it and its name
 * are on the disk when this returns. SP_ERR_FULL, SP_ERR_IO. */
SP_MUST enum sp_err sp_nfile_write(int dir, const char *path, struct sp_span b,
    bool synced);
SP_MUST enum sp_err sp_nfile_append(int fd, uint64_t off, struct sp_span b);
SP_MUST enum sp_err sp_nfile_read(int fd, uint64_t off, uint8_t *out, size_t n);
/* The partial tiles of what is full now: nobody needs them. */
void sp_nfile_drop_partials(int dir, int level, uint64_t n);
SP_MUST enum sp_err sp_nfile_mkdirs(int dir, const char *path);

#endif
