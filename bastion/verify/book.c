/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/verify/verify.h"

/*
 * Every entry is read and hashed; the tree that comes of it must have the root
 * that is signed. Tiles of hashes need not be believed, then. Every checkpoint
 * that was kept must be a root on the way: two that do not fit are a fork.
 */

static enum sp_err SP_PRINTF(2, 3)
forged(struct book *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->why, sizeof(b->why), fmt, ap);
	va_end(ap);
	return SP_ERR_CRYPTO;
}

static enum sp_err
grow(void **p, size_t *cap, size_t n, size_t each)
{
	size_t want = *cap == 0 ? 256 : *cap * 2;
	void *q;

	if (n < *cap)
		return SP_OK;
	q = calloc(want, each);
	if (q == NULL)
		return SP_ERR_NOMEM;
	if (*p != NULL)
		memcpy(q, *p, n * each);
	free(*p);
	*p = q;
	*cap = want;
	return SP_OK;
}

/* ----------------------------------------------------------------- sessions */

/* Sorted at all times: sessions come in the order of time, their ids in none. */
static size_t
place_of(const struct book *b, const uint8_t id[static 16], bool *is_there)
{
	size_t lo = 0, hi = b->n_sessions;

	*is_there = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = memcmp(b->session[mid].id, id, 16);

		if (c == 0) {
			*is_there = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct book_session *
book_find(struct book *b, const uint8_t id[static 16])
{
	bool is_there;
	size_t at = place_of(b, id, &is_there);

	return is_there ? &b->session[at] : NULL;
}

static enum sp_err
session_of(struct book *b, const uint8_t id[static 16], struct book_session **s)
{
	bool is_there;
	size_t at = place_of(b, id, &is_there);
	void *p = b->session;

	if (!is_there) {
		SP_TRY(grow(&p, &b->cap_sessions, b->n_sessions, sizeof(**s)));
		b->session = p;
		memmove(&b->session[at + 1], &b->session[at],
		    (b->n_sessions - at) * sizeof(**s));
		memset(&b->session[at], 0, sizeof(**s));
		memcpy(b->session[at].id, id, 16);
		b->n_sessions++;
	}
	*s = &b->session[at];
	return SP_OK;
}

static enum sp_err
take_open(struct book *b, struct book_session *s, const struct sp_leaf *l,
    uint64_t index)
{
	if (sp_leaf_check_open(l, b->key) != SP_OK)
		return forged(b, "leaf %" PRIu64 " opens a recording that the vault "
		    "did not certify", index);
	if (s->has_open && (memcmp(s->rec_key, l->rec_key, 32) != 0 ||
	    memcmp(s->header_hash, l->header_hash, 32) != 0))
		s->is_torn = true;	/* two recordings under one name */
	if (s->has_open)
		return SP_OK;
	s->has_open = true;
	s->open_index = index;
	s->opened_us = l->opened_us;
	memcpy(s->rec_key, l->rec_key, 32);
	memcpy(s->header_hash, l->header_hash, 32);
	return SP_OK;
}

static enum sp_err
take_chunk(struct book *b, struct book_session *s, const struct sp_leaf *l,
    uint64_t index)
{
	if (!s->has_open || sp_leaf_check_chunk(l, s->rec_key, b->key) != SP_OK)
		return forged(b, "leaf %" PRIu64 " is a point of a recording that "
		    "its recorder did not sign", index);
	s->n_points++;
	s->last_index = index;
	if (s->has_point && l->seq == s->seq &&
	    memcmp(s->head, l->hash, 32) != 0)
		s->is_torn = true;
	if (l->type != SP_LEAF_CHECKPOINT)
		s->end = l->type;
	if (s->has_point && l->seq <= s->seq)
		return SP_OK;
	s->has_point = true;
	s->seq = l->seq;
	memcpy(s->head, l->hash, 32);
	return SP_OK;
}

static enum sp_err
take_event(struct book *b, const struct sp_leaf *l, uint64_t index)
{
	struct book_event *e;
	void *p = b->event;
	uint32_t n = 0;

	while (n < b->n_nodes && !sp_span_is(l->node, b->node[n]))
		n++;
	if (n == sizeof(b->node) / sizeof(b->node[0]))
		return forged(b, "leaf %" PRIu64 ": too many nodes", index);
	if (n == b->n_nodes)
		SP_TRY(sp_span_cstr(l->node, b->node[b->n_nodes++],
		    sizeof(b->node[0])));
	SP_TRY(grow(&p, &b->cap_events, b->n_events, sizeof(*e)));
	b->event = p;
	e = &b->event[b->n_events++];
	e->node = n;
	e->seq = l->seq;
	e->index = index;
	memcpy(e->hash, l->hash, 32);
	return SP_OK;
}

static enum sp_err
take(struct book *b, struct sp_span entry, uint64_t index)
{
	struct book_session *s = NULL;
	struct sp_leaf l;
	enum sp_err e = sp_leaf_decode(entry, &l);

	if (e == SP_ERR_UNSUPPORTED) {
		b->n_unknown++;
		return SP_OK;
	}
	if (e != SP_OK)
		return forged(b, "leaf %" PRIu64 " is none of ours", index);
	if (l.type == SP_LEAF_AUDIT)
		return take_event(b, &l, index);
	SP_TRY(session_of(b, l.session, &s));
	if (l.type == SP_LEAF_OPEN)
		return take_open(b, s, &l, index);
	if (l.type != SP_LEAF_ACT)
		return take_chunk(b, s, &l, index);
	s->is_deleted = s->is_deleted || l.act == SP_ACT_DELETE;
	if (l.act == SP_ACT_SHIP) {
		s->is_shipped = true;
		memcpy(s->shipped, l.hash, 32);
	}
	s->is_held = l.act == SP_ACT_HOLD || (s->is_held && l.act != SP_ACT_RELEASE);
	return SP_OK;
}

/* -------------------------------------------------------------- checkpoints */

static enum sp_err
read_note(struct book *b, int dir, const char *path, struct sp_checkpoint *c)
{
	SP_BUF_AUTO text = {.max = SP_NOTE_MAX + 8192};
	struct sp_note_key k;
	struct sp_note n;

	SP_TRY(sp_tlog_read(dir, path, SP_NOTE_MAX, &text));
	if (sp_note_parse(sp_buf_span(&text), &n) != SP_OK ||
	    sp_checkpoint_parse(n.text, c) != SP_OK)
		return forged(b, "%s is no checkpoint", path);
	SP_TRY(sp_note_key_make(&k, sp_span_str(c->origin), SP_NOTE_ED25519, b->key));
	if (sp_note_check(&n, &k, NULL, NULL) != SP_OK)
		return forged(b, "%s is not signed by this vault", path);
	return SP_OK;
}

struct kept {
	size_t n, cap;
	struct sp_checkpoint *c;
};

static int
by_size(const void *a, const void *b)
{
	uint64_t x = ((const struct sp_checkpoint *)a)->size;
	uint64_t y = ((const struct sp_checkpoint *)b)->size;

	return x < y ? -1 : x > y;
}

static enum sp_err
read_kept(struct book *b, struct kept *k)
{
	int fd = openat(b->dir, "checkpoints", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	enum sp_err e = SP_OK;
	struct dirent *n;

	while (d != NULL && e == SP_OK && (n = readdir(d)) != NULL) {
		struct sp_checkpoint c;
		void *p = k->c;

		if (strspn(n->d_name, "0123456789") != strlen(n->d_name))
			continue;
		e = read_note(b, dirfd(d), n->d_name, &c);
		if (e == SP_OK)
			e = grow(&p, &k->cap, k->n, sizeof(c));
		k->c = p;
		if (e == SP_OK && strcmp(c.origin, b->head.origin) == 0)
			k->c[k->n++] = c;
	}
	if (d != NULL)
		closedir(d);
	if (k->n > 0)
		qsort(k->c, k->n, sizeof(k->c[0]), by_size);
	return e;
}

/* ---------------------------------------------------------------- the whole */

static enum sp_err
check_way(struct book *b, const struct kept *k, size_t *at,
    const struct sp_tlog_tree *t)
{
	uint8_t root[32];

	for (; *at < k->n && k->c[*at].size == t->size; ++*at) {
		sp_tlog_root(t, root);
		if (memcmp(root, k->c[*at].root, 32) != 0)
			return forged(b, "a checkpoint of %" PRIu64 " leaves is "
			    "signed, and the log's first %" PRIu64 " are others: "
			    "a fork, or a tree that was built anew", t->size,
			    t->size);
		b->n_checkpoints++;
	}
	return SP_OK;
}

static enum sp_err
wrong_tile(struct book *b, uint64_t leaf)
{
	return forged(b, "a tile of hashes over leaf %" PRIu64 " is not that of the "
	    "log's entries", leaf);
}

static enum sp_err
read_entries(struct book *b, const struct kept *k, struct sp_tlog_tree *t,
    struct tiles *tiles, void (*progress)(uint64_t, uint64_t))
{
	size_t at = 0;

	for (uint64_t n = 0; n * SP_TLOG_TILE < b->head.size; n++) {
		SP_BUF_AUTO text = {.max = SP_TLOG_BUNDLE_MAX + 8192};
		struct sp_span s, e;
		uint8_t h[32];

		if (sp_tlog_bundle(b->dir, n, b->head.size, &text) != SP_OK)
			return forged(b, "entries from %" PRIu64 " on are missing, or "
			    "cut", n * SP_TLOG_TILE);
		b->bytes += text.len;
		s = sp_buf_span(&text);
		while (sp_tlog_bundle_next(&s, &e) == SP_OK) {
			SP_TRY(check_way(b, k, &at, t));
			SP_TRY(take(b, e, t->size));
			sp_tlog_leaf_hash(e, h);
			if (tiles_take(tiles, h) != SP_OK)
				return wrong_tile(b, t->size);
			sp_tlog_append(t, h);
		}
		if (progress != NULL)
			progress(t->size, b->head.size);
	}
	SP_TRY(check_way(b, k, &at, t));
	if (tiles_end(tiles) != SP_OK)
		return wrong_tile(b, t->size - 1);
	if (at < k->n)
		return forged(b, "a checkpoint of %" PRIu64 " leaves was published, "
		    "and the log has %" PRIu64 ": leaves were taken away",
		    k->c[k->n - 1].size, b->head.size);
	return SP_OK;
}

enum sp_err
book_open(struct book *b, const char *dir, const uint8_t key[static 32],
    void (*progress)(uint64_t, uint64_t))
{
	struct sp_tlog_tree t = {.size = 0};
	struct kept k = {.n = 0};
	struct tiles *tiles = NULL;
	uint8_t root[32];
	enum sp_err e;

	*b = (struct book){.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	memcpy(b->key, key, 32);
	if (b->dir < 0) {
		snprintf(b->why, sizeof(b->why), "%s: %s", dir, strerror(errno));
		return SP_ERR_NOTFOUND;
	}
	e = read_note(b, b->dir, "checkpoint", &b->head);
	if (e == SP_ERR_NOTFOUND)
		e = forged(b, "the log has no checkpoint");
	if (e == SP_OK)
		e = read_kept(b, &k);
	if (e == SP_OK && (tiles = tiles_new(b->dir)) == NULL)
		e = SP_ERR_NOMEM;
	if (e == SP_OK)
		e = read_entries(b, &k, &t, tiles, progress);
	if (e == SP_OK) {
		sp_tlog_root(&t, root);
		if (memcmp(root, b->head.root, 32) != 0)
			e = forged(b, "the log's %" PRIu64 " leaves are not those that "
			    "were signed", t.size);
	}
	free(k.c);
	tiles_free(tiles);
	if (e != SP_OK && b->why[0] == '\0')
		snprintf(b->why, sizeof(b->why), "%s", sp_err_text(e));
	return e;
}

enum sp_err
book_size(const char *dir, const uint8_t key[static 32], uint64_t *size)
{
	struct book b = {.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	enum sp_err e = SP_ERR_NOTFOUND;

	memcpy(b.key, key, 32);
	if (b.dir >= 0)
		e = read_note(&b, b.dir, "checkpoint", &b.head);
	if (b.dir >= 0)
		close(b.dir);
	if (e == SP_OK)
		*size = b.head.size;
	return e;
}

/* 16 bytes, then entries with their length before and a check after them
 * (doc/transparency-log.md). */
uint64_t
book_journal(const char *dir)
{
	SP_BUF_AUTO text = {.max = (size_t)8 << 20};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct sp_span j, e;
	const uint8_t *p = NULL;
	uint64_t n = 0;
	enum sp_err err = SP_ERR_NOTFOUND;

	if (fd >= 0) {
		err = sp_tlog_read(fd, "journal", (size_t)4 << 20, &text);
		close(fd);
	}
	j = sp_buf_span(&text);
	if (err != SP_OK || sp_get(&j, 8, &p) != SP_OK ||
	    sp_get_u64(&j, &n) != SP_OK)
		return 0;
	while (sp_tlog_bundle_next(&j, &e) == SP_OK && sp_get(&j, 8, &p) == SP_OK)
		n++;
	return n;
}

enum sp_err
book_expect(struct book *b, const char *file)
{
	struct sp_tlog_dir *d = sp_tlog_dir_new(b->dir, b->head.size);
	struct sp_tlog_source s;
	struct sp_checkpoint c;
	uint8_t root[32];
	enum sp_err e;

	if (d == NULL)
		return SP_ERR_NOMEM;
	s = sp_tlog_dir_source(d);
	e = read_note(b, AT_FDCWD, file, &c);
	if (e == SP_ERR_NOTFOUND)
		snprintf(b->why, sizeof(b->why), "%s cannot be read", file);
	if (e == SP_OK && strcmp(c.origin, b->head.origin) != 0)
		e = forged(b, "%s is of another log, %s", file, c.origin);
	if (e == SP_OK && c.size > b->head.size)
		e = forged(b, "%s is of %" PRIu64 " leaves, and the log has %" PRIu64
		    ": it went back", file, c.size, b->head.size);
	if (e == SP_OK)
		e = sp_tlog_root_at(&s, c.size, root);
	if (e == SP_OK && memcmp(root, c.root, 32) != 0)
		e = forged(b, "%s: the log's first %" PRIu64 " leaves are others: "
		    "a fork", file, c.size);
	free(d);
	return e;
}

void
book_close(struct book *b)
{
	if (b->dir >= 0)
		close(b->dir);
	free(b->session);
	free(b->event);
	b->session = NULL;
	b->event = NULL;
}
