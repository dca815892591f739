/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_TLOG_H
#define SP_COMMON_TLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * The tree of the transparency log: RFC 6962, 2.1 (SHA-256), kept as the files
 * of C2SP tlog-tiles with tiles of height 8. Here is what needs no key: hashes,
 * proofs made and checked, and the reader of tiles. All of it is pure but for
 * sp_tlog_dir, which reads files below one directory. Nothing in those files is
 * trusted: what they say becomes true by the signed root alone.
 */
#define SP_TLOG_TILE 256u		/* hashes of a full tile */
#define SP_TLOG_ENTRY_MAX 1024u		/* bytes of one entry of ours */
#define SP_TLOG_PROOF_MAX 64u		/* hashes of a proof */
#define SP_TLOG_SIZE_MAX (UINT64_C(1) << 40)
#define SP_TLOG_PATH_MAX 96u		/* of a tile, with its NUL */
#define SP_TLOG_BUNDLE_MAX (SP_TLOG_TILE * (2u + SP_TLOG_ENTRY_MAX))

void sp_tlog_leaf_hash(struct sp_span entry, uint8_t out[static 32]);
void sp_tlog_node_hash(const uint8_t left[static 32],
    const uint8_t right[static 32], uint8_t out[static 32]);

/* The roots of the complete subtrees that a tree of `size` leaves is made of:
 * all that is needed to append and to know the root. Zeroed: the empty tree. */
struct sp_tlog_tree {
	uint64_t size;
	uint8_t h[41][32];	/* [i]: of 2^i leaves, where bit i of size is set */
};
void sp_tlog_append(struct sp_tlog_tree *t, const uint8_t leaf[static 32]);
void sp_tlog_root(const struct sp_tlog_tree *t, uint8_t out[static 32]);

struct sp_tlog_proof {
	size_t n;
	uint8_t h[SP_TLOG_PROOF_MAX][32];
};
/* Is the leaf the one at `index` of the tree with this size and root? (RFC 9162,
 * 2.1.3.2) SP_ERR_CRYPTO: no. */
SP_MUST enum sp_err sp_tlog_check_inclusion(const struct sp_tlog_proof *p,
    uint64_t index, uint64_t size, const uint8_t leaf[static 32],
    const uint8_t root[static 32]);
/* Is the first tree the beginning of the second? (RFC 9162, 2.1.4.2) The empty
 * tree is the beginning of any; its root is not looked at. SP_ERR_CRYPTO: no. */
SP_MUST enum sp_err sp_tlog_check_consistency(const struct sp_tlog_proof *p,
    uint64_t size1, const uint8_t root1[static 32], uint64_t size2,
    const uint8_t root2[static 32]);

/* Where hashes come from: the first `width` of tile n of a level. */
struct sp_tlog_source {
	enum sp_err (*tile)(void *arg, unsigned level, uint64_t n, unsigned width,
	    uint8_t *out);
	void *arg;
};
/* The hash over the leaves lo..hi-1 (0 <= lo < hi) of a tree that has them. */
SP_MUST enum sp_err sp_tlog_range(const struct sp_tlog_source *s, uint64_t lo,
    uint64_t hi, uint8_t out[static 32]);
/* The root of the first `size` leaves; of none, SHA-256 of nothing. */
SP_MUST enum sp_err sp_tlog_root_at(const struct sp_tlog_source *s,
    uint64_t size, uint8_t out[static 32]);
/* SP_ERR_INVAL: no such leaf, or size1 > size2. */
SP_MUST enum sp_err sp_tlog_prove_inclusion(const struct sp_tlog_source *s,
    uint64_t index, uint64_t size, struct sp_tlog_proof *p);
SP_MUST enum sp_err sp_tlog_prove_consistency(const struct sp_tlog_source *s,
    uint64_t size1, uint64_t size2, struct sp_tlog_proof *p);

/* "tile/0/x001/234", "tile/entries/000.p/7": level -1 is entries; width 0 or
 * 256 a full tile. */
void sp_tlog_path(char path[static SP_TLOG_PATH_MAX], int level, uint64_t n,
    unsigned width);

/*
 * A directory of tiles, read as a tree of `size` leaves. Full tiles are looked
 * for first, then the partial ones of that size. The last tile of each level is
 * kept. SP_ERR_NOTFOUND: a tile is missing; SP_ERR_PROTO: of a wrong size.
 */
struct sp_tlog_dir {
	int fd;			/* borrowed */
	uint64_t size;
	struct {
		bool is_there;
		uint64_t n;
		unsigned width;
		uint8_t h[SP_TLOG_TILE * 32];
	} kept[5];
};
/* sizeof is 40 KB: not for the stack of a small process. NULL: no memory. */
struct sp_tlog_dir *sp_tlog_dir_new(int fd, uint64_t size);
struct sp_tlog_source sp_tlog_dir_source(struct sp_tlog_dir *d);
/* A file below fd, never through a symbolic link at its end, of at most max
 * bytes; appended to out. SP_ERR_NOTFOUND, SP_ERR_TOOBIG, SP_ERR_IO. */
SP_MUST enum sp_err sp_tlog_read(int fd, const char *path, size_t max,
    struct sp_buf *out);
/* The bundle that entry `n * 256` begins, of the entries of a tree of that size
 * as they stand in the file. SP_ERR_PROTO if it has not that many, exactly. */
SP_MUST enum sp_err sp_tlog_bundle(int fd, uint64_t n, uint64_t size,
    struct sp_buf *out);
/* The next entry of a bundle; SP_ERR_EOF at its end. */
SP_MUST enum sp_err sp_tlog_bundle_next(struct sp_span *bundle,
    struct sp_span *entry);

#endif
