/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "notary/store_int.h"

/* What the disk has: judged before anything is added to it. */

#define JOURNAL_MAGIC "SPTLJ1\r\n"
#define JOURNAL_MAX (16u + 4u * SP_TLOG_BUNDLE_MAX)

struct reason {
	char *text;
	size_t cap;
};

static enum sp_err SP_PRINTF(2, 3)
altered(const struct reason *y, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(y->text, y->cap, fmt, ap);
	va_end(ap);
	return SP_ERR_CRYPTO;
}

/* The root of a full tile; and, where it is wanted, the tile. */
static enum sp_err
look_at(struct sp_nstore *s, unsigned level, uint64_t n, uint8_t *tile,
    uint8_t root[static 32], const struct reason *y)
{
	SP_BUF_AUTO b = {.max = 2 * SP_TLOG_TILE * 32};
	struct sp_tlog_tree t = {.size = 0};
	char path[SP_TLOG_PATH_MAX];
	enum sp_err e;

	sp_tlog_path(path, (int)level, n, 0);
	e = sp_tlog_read(s->dir, path, SP_TLOG_TILE * 32, &b);
	if (e == SP_ERR_IO)
		return e;
	if (e != SP_OK || b.len != SP_TLOG_TILE * 32)
		return altered(y, "the tile %s is missing, or of a wrong size",
		    path);
	if (tile != NULL)
		memcpy(tile, b.p + b.off, b.len);
	for (size_t i = 0; i < SP_TLOG_TILE; i++)
		sp_tlog_append(&t, b.p + b.off + i * 32);
	sp_tlog_root(&t, root);
	return SP_OK;
}

/* The roots of a level's full tiles are what the level above says they are;
 * what is in no full tile there is that level's edge. */
static enum sp_err
check_level(struct sp_nstore *s, unsigned level, const struct reason *y)
{
	uint64_t all = s->first >> (8 * level), full = all / SP_TLOG_TILE;
	uint8_t above[SP_TLOG_TILE * 32], root[32], unused[32];

	for (uint64_t n = 0; n < full; n++) {
		unsigned at = (unsigned)(n % SP_TLOG_TILE);

		SP_TRY(look_at(s, level, n, NULL, root, y));
		if (n < full / SP_TLOG_TILE * SP_TLOG_TILE) {
			if (at == 0)
				SP_TRY(look_at(s, level + 1, n / SP_TLOG_TILE,
				    above, unused, y));
			if (memcmp(above + (size_t)at * 32, root, 32) != 0)
				return altered(y, "tile %" PRIu64 " of level %u "
				    "is not the one that was hashed", n, level);
		} else if (level + 1 < SP_NLEVELS) {
			memcpy(s->edge[level + 1] + (size_t)at * 32, root, 32);
			s->n_edge[level + 1] = at + 1;
		}
	}
	return SP_OK;
}

/* The roots of the complete subtrees that `first` leaves are made of: each is
 * within the edge of one level, from its beginning on. */
static enum sp_err
load_tree(struct sp_nstore *s)
{
	struct sp_tlog_tree t = {.size = 0};
	struct sp_tlog_source src = sp_nstore_source(s);
	uint64_t at = 0;

	/* The source asks this tree how large it is. */
	s->tree.size = s->first;
	for (unsigned i = 41; i-- > 0;) {
		if ((s->first >> i & 1) == 0)
			continue;
		SP_TRY(sp_tlog_range(&src, at, at + (UINT64_C(1) << i), t.h[i]));
		at += UINT64_C(1) << i;
	}
	t.size = s->first;
	s->tree = t;
	return SP_OK;
}

/* Each record in its turn; SP_ERR_EOF where they end or a half one stands. */
static enum sp_err
next_record(struct sp_span *j, struct sp_span *entry)
{
	struct sp_span rest = *j;
	uint8_t h[32];

	if (sp_tlog_bundle_next(&rest, entry) != SP_OK || rest.n < 8 ||
	    entry->n == 0 || entry->n > SP_TLOG_ENTRY_MAX)
		return SP_ERR_EOF;
	sp_tlog_leaf_hash(*entry, h);
	if (memcmp(h, rest.p, 8) != 0)
		return SP_ERR_EOF;
	*j = sp_span_of(rest.p + 8, rest.n - 8);
	return SP_OK;
}

static enum sp_err
read_journal(struct sp_nstore *s, struct sp_buf *b, const struct reason *y)
{
	enum sp_err e = sp_tlog_read(s->dir, "journal", JOURNAL_MAX, b);
	struct sp_span j = sp_buf_span(b);
	const uint8_t *magic = NULL;
	struct stat st;

	if (e == SP_ERR_NOTFOUND) {
		if (fstatat(s->dir, "checkpoint", &st, 0) == 0 ||
		    fstatat(s->dir, "tile/entries/000", &st, 0) == 0)
			return altered(y, "its journal is gone");
		return SP_ERR_NOTFOUND;	/* the first start */
	}
	SP_TRY(e);
	if (sp_get(&j, 8, &magic) != SP_OK || sp_get_u64(&j, &s->first) != SP_OK ||
	    memcmp(magic, JOURNAL_MAGIC, 8) != 0 || s->first % SP_TLOG_TILE != 0 ||
	    s->first > SP_TLOG_SIZE_MAX - SP_TLOG_TILE)
		return altered(y, "its journal is none");
	sp_buf_consume(b, 16);
	return SP_OK;
}

/* The journal once more, without what a power cut left half, and open. */
static enum sp_err
replay(struct sp_nstore *s, struct sp_buf *b)
{
	struct sp_span j = sp_buf_span(b), e;

	while (next_record(&j, &e) == SP_OK)
		SP_TRY(sp_nstore_take(s, e));
	return sp_nstore_rotate(s);
}

static enum sp_err
check_note(struct sp_nstore *s, const struct reason *y)
{
	enum sp_err e = sp_tlog_read(s->dir, "checkpoint", SP_NOTE_MAX, &s->note);
	struct sp_checkpoint c;
	struct sp_note n;
	uint8_t root[32];

	if (e == SP_ERR_NOTFOUND && s->tree.size < SP_TLOG_TILE)
		return SP_OK;	/* not signed yet: the vault knows if that is so */
	if (e == SP_ERR_NOTFOUND)
		return altered(y, "its checkpoint is gone");
	SP_TRY(e);
	if (sp_note_parse(sp_buf_span(&s->note), &n) != SP_OK ||
	    sp_checkpoint_parse(n.text, &c) != SP_OK)
		return altered(y, "its checkpoint is none");
	if (c.size > s->tree.size)
		return altered(y, "it has %" PRIu64 " leaves, and a checkpoint of %"
		    PRIu64 " is signed: leaves were taken away", s->tree.size,
		    c.size);
	SP_TRY(sp_nstore_root(s, c.size, root));
	if (memcmp(root, c.root, 32) != 0)
		return altered(y, "its first %" PRIu64 " leaves are not those that "
		    "were signed", c.size);
	return sp_nstore_partials(s, c.size);
}

static enum sp_err
load(struct sp_nstore *s, const struct reason *y)
{
	SP_BUF_AUTO journal = {.max = JOURNAL_MAX + 8192};
	enum sp_err e = read_journal(s, &journal, y);

	if (e == SP_ERR_NOTFOUND)
		return sp_nstore_rotate(s);
	SP_TRY(e);
	for (unsigned level = 0; level < SP_NLEVELS; level++)
		SP_TRY(check_level(s, level, y));
	SP_TRY(load_tree(s));
	SP_TRY(replay(s, &journal));
	return check_note(s, y);
}

enum sp_err
sp_nstore_open(int dirfd, struct sp_nstore **out, char *why, size_t cap)
{
	struct reason y = {.text = why, .cap = cap};
	struct sp_nstore *s = calloc(1, sizeof(*s));
	enum sp_err e;

	if (s == NULL)
		return SP_ERR_NOMEM;
	s->dir = dirfd;
	s->journal = s->acts = -1;
	s->bundle.max = SP_TLOG_BUNDLE_MAX + 8;
	s->put.max = 4u * SP_TLOG_BUNDLE_MAX;
	s->note.max = SP_NOTE_MAX + 8192;
	s->full = sp_tlog_dir_new(dirfd, 0);
	e = s->full == NULL ? SP_ERR_NOMEM : load(s, &y);
	if (e == SP_OK)
		e = sp_nacts_open(s);
	if (e != SP_OK) {
		if (e != SP_ERR_CRYPTO)
			snprintf(why, cap, "it cannot be read or written: %s",
			    sp_err_text(e));
		sp_nstore_close(s);
		return e;
	}
	*out = s;
	return SP_OK;
}
