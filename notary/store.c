/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notary/store_int.h"

#define JOURNAL_MAGIC "SPTLJ1\r\n"
#define JOURNAL_HEAD 16u
#define RECORD_CHECK 8u

/* Full tiles at a level. */
static uint64_t
n_full(const struct sp_nstore *s, unsigned level)
{
	return s->tree.size >> (8 * (level + 1));
}

static enum sp_err
store_tile(void *arg, unsigned level, uint64_t n, unsigned width, uint8_t *out)
{
	struct sp_nstore *s = arg;

	if (level >= SP_NLEVELS || width > SP_TLOG_TILE)
		return SP_ERR_INVAL;
	if (n < n_full(s, level)) {
		struct sp_tlog_source d = sp_tlog_dir_source(s->full);

		s->full->size = s->tree.size;
		return d.tile(d.arg, level, n, width, out);
	}
	if (n > n_full(s, level) || width > s->n_edge[level])
		return SP_ERR_INVAL;
	memcpy(out, s->edge[level], (size_t)width * 32);
	return SP_OK;
}

struct sp_tlog_source
sp_nstore_source(struct sp_nstore *s)
{
	return (struct sp_tlog_source){.tile = store_tile, .arg = s};
}

static void
tile_root(const uint8_t tile[static SP_TLOG_TILE * 32], uint8_t out[static 32])
{
	struct sp_tlog_tree t = {.size = 0};

	for (size_t i = 0; i < SP_TLOG_TILE; i++)
		sp_tlog_append(&t, tile + i * 32);
	sp_tlog_root(&t, out);
}

/* The tile of a level is full: onto the disk, and its root one level up. */
static enum sp_err
raise(struct sp_nstore *s, unsigned level)
{
	char path[SP_TLOG_PATH_MAX];
	uint8_t root[32];

	/* The tree has grown already: this tile is the last full one. */
	sp_tlog_path(path, (int)level, n_full(s, level) - 1, 0);
	SP_TRY(sp_nfile_write(s->dir, path, sp_span_of(s->edge[level],
	    SP_TLOG_TILE * 32), true));
	sp_nfile_drop_partials(s->dir, (int)level, n_full(s, level) - 1);
	tile_root(s->edge[level], root);
	s->n_edge[level] = 0;
	if (level + 1 >= SP_NLEVELS)
		return SP_ERR_FULL;
	memcpy(s->edge[level + 1] + (size_t)s->n_edge[level + 1] * 32, root, 32);
	if (++s->n_edge[level + 1] == SP_TLOG_TILE)
		return raise(s, level + 1);
	return SP_OK;
}

enum sp_err
sp_nstore_take(struct sp_nstore *s, struct sp_span entry)
{
	uint8_t h[32], n[2] = {(uint8_t)(entry.n >> 8), (uint8_t)entry.n};
	char path[SP_TLOG_PATH_MAX];

	sp_tlog_leaf_hash(entry, h);
	SP_TRY(sp_buf_put(&s->bundle, n, 2));
	SP_TRY(sp_buf_put(&s->bundle, entry.p, entry.n));
	sp_tlog_append(&s->tree, h);
	memcpy(s->edge[0] + (size_t)s->n_edge[0] * 32, h, 32);
	if (++s->n_edge[0] < SP_TLOG_TILE)
		return SP_OK;
	sp_tlog_path(path, -1, n_full(s, 0) - 1, 0);
	SP_TRY(sp_nfile_write(s->dir, path, sp_buf_span(&s->bundle), true));
	sp_nfile_drop_partials(s->dir, -1, n_full(s, 0) - 1);
	sp_buf_reset(&s->bundle);
	return raise(s, 0);
}

/* ------------------------------------------------------------------ journal */

static enum sp_err
put_record(struct sp_buf *b, struct sp_span entry)
{
	uint8_t h[32], n[2] = {(uint8_t)(entry.n >> 8), (uint8_t)entry.n};

	sp_tlog_leaf_hash(entry, h);
	SP_TRY(sp_buf_put(b, n, 2));
	SP_TRY(sp_buf_put(b, entry.p, entry.n));
	return sp_buf_put(b, h, RECORD_CHECK);
}

enum sp_err
sp_nstore_rotate(struct sp_nstore *s)
{
	SP_BUF_AUTO b = {.max = JOURNAL_HEAD + SP_TLOG_BUNDLE_MAX +
	    SP_TLOG_TILE * RECORD_CHECK};
	struct sp_span rest = sp_buf_span(&s->bundle), e;
	uint64_t first = s->tree.size - s->n_edge[0];
	int fd;

	SP_TRY(sp_buf_put(&b, JOURNAL_MAGIC, 8));
	SP_TRY(sp_buf_put_u64(&b, first));
	while (sp_tlog_bundle_next(&rest, &e) == SP_OK)
		SP_TRY(put_record(&b, e));
	SP_TRY(sp_nfile_write(s->dir, "journal", sp_buf_span(&b), true));
	fd = openat(s->dir, "journal", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return SP_ERR_IO;
	if (s->journal >= 0)
		close(s->journal);
	s->journal = fd;
	s->first = first;
	s->journal_end = b.len;
	return SP_OK;
}

enum sp_err
sp_nstore_put(struct sp_nstore *s, struct sp_span entry, uint64_t *index)
{
	if (entry.n == 0 || entry.n > SP_TLOG_ENTRY_MAX)
		return SP_ERR_TOOBIG;
	if (s->tree.size + s->n_put >= SP_TLOG_SIZE_MAX - SP_TLOG_TILE)
		return SP_ERR_FULL;
	SP_TRY(put_record(&s->put, entry));
	*index = s->tree.size + s->n_put++;
	return SP_OK;
}

static enum sp_err
no_room(struct sp_nstore *s)
{
	sp_buf_reset(&s->put);
	s->n_put = 0;
	/* What got there in part must not stand before what comes next. */
	return ftruncate(s->journal, (off_t)s->journal_end) == 0 &&
	    fdatasync(s->journal) == 0 ? SP_ERR_FULL : SP_ERR_IO;
}

enum sp_err
sp_nstore_commit(struct sp_nstore *s)
{
	uint64_t full = n_full(s, 0);
	struct sp_span all = sp_buf_span(&s->put), e;
	enum sp_err err;

	if (s->n_put == 0)
		return SP_OK;
	err = sp_nfile_append(s->journal, s->journal_end, all);
	if (err == SP_ERR_FULL)
		return no_room(s);
	SP_TRY(err);
	if (fdatasync(s->journal) != 0)
		return SP_ERR_IO;
	s->journal_end += all.n;
	while (sp_tlog_bundle_next(&all, &e) == SP_OK) {
		/* A tile that does not fit is no loss: the journal has it all. */
		if (sp_nstore_take(s, e) != SP_OK)
			return SP_ERR_IO;
		all = sp_span_of(all.p + RECORD_CHECK, all.n - RECORD_CHECK);
	}
	sp_buf_reset(&s->put);
	s->n_put = 0;
	return n_full(s, 0) > full ? sp_nstore_rotate(s) : SP_OK;
}

/* ------------------------------------------------------------ what is asked */

uint64_t
sp_nstore_size(const struct sp_nstore *s)
{
	return s->tree.size;
}

uint64_t
sp_nstore_next(const struct sp_nstore *s)
{
	return s->tree.size + s->n_put;
}

enum sp_err
sp_nstore_root(struct sp_nstore *s, uint64_t size, uint8_t root[static 32])
{
	struct sp_tlog_source src = sp_nstore_source(s);

	if (size > s->tree.size)
		return SP_ERR_INVAL;
	return sp_tlog_root_at(&src, size, root);
}

enum sp_err
sp_nstore_consistency(struct sp_nstore *s, uint64_t size1, uint64_t size2,
    struct sp_tlog_proof *p)
{
	struct sp_tlog_source src = sp_nstore_source(s);

	if (size2 > s->tree.size)
		return SP_ERR_INVAL;
	return sp_tlog_prove_consistency(&src, size1, size2, p);
}

enum sp_err
sp_nstore_bundle(struct sp_nstore *s, uint64_t n, struct sp_buf *out)
{
	struct sp_span mine = sp_buf_span(&s->bundle);

	if (n < n_full(s, 0))
		return sp_tlog_bundle(s->dir, n, s->tree.size, out);
	return n > n_full(s, 0) ? SP_ERR_INVAL : sp_buf_put(out, mine.p, mine.n);
}

enum sp_err
sp_nstore_entry(struct sp_nstore *s, uint64_t index, struct sp_buf *out)
{
	SP_BUF_AUTO b = {.max = SP_TLOG_BUNDLE_MAX + 8};
	struct sp_span rest, e = sp_span_of(NULL, 0);

	if (index >= s->tree.size)
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_nstore_bundle(s, index / SP_TLOG_TILE, &b));
	rest = sp_buf_span(&b);
	for (uint64_t i = 0; i <= index % SP_TLOG_TILE; i++)
		SP_TRY(sp_tlog_bundle_next(&rest, &e));
	return sp_buf_put(out, e.p, e.n);
}

/* Of the bundle, the first n entries. */
static struct sp_span
some_of(const struct sp_nstore *s, unsigned n)
{
	struct sp_span all = sp_buf_span(&s->bundle), rest = all, e;

	while (n-- > 0 && sp_tlog_bundle_next(&rest, &e) == SP_OK)
		;
	return sp_span_of(all.p, all.n - rest.n);
}

enum sp_err
sp_nstore_partials(struct sp_nstore *s, uint64_t size)
{
	char path[SP_TLOG_PATH_MAX];

	for (unsigned level = 0; level < SP_NLEVELS; level++) {
		uint64_t all = size >> (8 * level);
		unsigned w = (unsigned)(all % SP_TLOG_TILE);

		/* What is full by now is read instead. */
		if (w == 0 || all / SP_TLOG_TILE < n_full(s, level))
			continue;
		if (level == 0) {
			sp_tlog_path(path, -1, all / SP_TLOG_TILE, w);
			SP_TRY(sp_nfile_write(s->dir, path, some_of(s, w), false));
		}
		sp_tlog_path(path, (int)level, all / SP_TLOG_TILE, w);
		SP_TRY(sp_nfile_write(s->dir, path, sp_span_of(s->edge[level],
		    (size_t)w * 32), false));
	}
	return SP_OK;
}

enum sp_err
sp_nstore_tiles(struct sp_nstore *s)
{
	return sp_nstore_partials(s, s->tree.size);
}

struct sp_span
sp_nstore_note(const struct sp_nstore *s)
{
	return sp_buf_span(&s->note);
}

enum sp_err
sp_nstore_set_note(struct sp_nstore *s, struct sp_span note)
{
	SP_TRY(sp_nfile_write(s->dir, "checkpoint", note, true));
	sp_buf_reset(&s->note);
	return sp_buf_put(&s->note, note.p, note.n);
}

enum sp_err
sp_nstore_keep(struct sp_nstore *s, uint64_t size, const char *suffix,
    struct sp_span bytes)
{
	char path[SP_TLOG_PATH_MAX];

	snprintf(path, sizeof(path), "checkpoints/%013" PRIu64 "%s%s", size,
	    suffix == NULL ? "" : ".", suffix == NULL ? "" : suffix);
	return sp_nfile_write(s->dir, path, bytes, true);
}

enum sp_err
sp_nstore_write(struct sp_nstore *s, const char *path, struct sp_span bytes)
{
	return sp_nfile_write(s->dir, path, bytes, true);
}

void
sp_nstore_close(struct sp_nstore *s)
{
	if (s == NULL)
		return;
	if (s->journal >= 0)
		close(s->journal);
	if (s->acts >= 0)
		close(s->acts);
	sp_buf_fini(&s->bundle);
	sp_buf_fini(&s->put);
	sp_buf_fini(&s->note);
	free(s->full);
	free(s);
}
