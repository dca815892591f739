/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/heads.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"

/*
 * The file: a page of its own, then records of 64 bytes in the order of the
 * chain. Records behind the page's count were being written when we died; they
 * are read from the chain again. Nothing waits for the disk: what a power cut
 * takes is told by the checks, and made anew from the chain.
 */
#define MAGIC 0x3153444145485053ULL	/* SPHEADS1 */
#define PAGE 4096
struct record {
	uint8_t t, is_gone, zero[6];
	uint64_t ver;
	uint8_t id[16], owner[8], seal[16];
	uint64_t check;
};
_Static_assert(sizeof(struct record) == 64, "a record of the heads file");
struct page_node {
	char name[65];
	uint8_t zero[7];
	uint64_t seq;
	uint8_t hash[32];
};
struct page {
	uint64_t magic, tables, n_records;
	uint32_t n_nodes, has_begun;
	struct page_node nodes[SP_HEADS_NODES];
	uint64_t check;
};
_Static_assert(sizeof(struct page) <= PAGE, "the first page of the heads file");

struct sp_heads {
	struct sp_head *all;
	size_t n, cap;
	uint32_t *slots, *owners;	/* index + 1, open addressing */
	size_t n_slots;
	uint32_t policy;		/* index + 1 */
	struct sp_heads_node nodes[SP_HEADS_NODES];
	size_t n_nodes;
	bool has_begun, was_cold;
	int fd;
	uint64_t n_records;
};

const char *
sp_head_words(enum sp_head_verdict v)
{
	switch (v) {
	case SP_HEAD_GOOD:
		return "as the audit chain says";
	case SP_HEAD_OLD:
		return "an older version was put back";
	case SP_HEAD_OTHER:
		return "a version that never came to be was put in its place";
	case SP_HEAD_GONE:
		return "it was deleted, and was put back";
	case SP_HEAD_AHEAD:
		return "the audit chain knows no such version";
	case SP_HEAD_MISSING:
		return "it was deleted without the bastion";
	}
	return "?";
}

/* ----------------------------------------------------------------- the index */

static uint64_t
mix(const void *p, size_t n, uint8_t t)
{
	static const uint8_t key[crypto_shorthash_KEYBYTES] = "sallyport heads";
	uint8_t in[17], out[crypto_shorthash_BYTES];
	uint64_t v;

	in[0] = t;
	memcpy(in + 1, p, n);
	crypto_shorthash(out, in, n + 1, key);
	memcpy(&v, out, sizeof(v));
	return v;
}

static size_t
slot_of(const struct sp_heads *h, uint8_t t, const uint8_t id[static 16])
{
	size_t at = (size_t)mix(id, 16, t) & (h->n_slots - 1);

	while (h->slots[at] != 0) {
		const struct sp_head *x = &h->all[h->slots[at] - 1];

		if (x->t == t && memcmp(x->id, id, 16) == 0)
			break;
		at = (at + 1) & (h->n_slots - 1);
	}
	return at;
}

static size_t
owner_slot(const struct sp_heads *h, uint8_t t, const uint8_t owner[static 8])
{
	size_t at = (size_t)mix(owner, 8, t) & (h->n_slots - 1);

	while (h->owners[at] != 0) {
		const struct sp_head *x = &h->all[h->owners[at] - 1];

		if (x->t == t && memcmp(x->owner, owner, 8) == 0)
			break;
		at = (at + 1) & (h->n_slots - 1);
	}
	return at;
}

static bool
has_owner(const struct sp_head *x)
{
	return !sodium_is_zero(x->owner, sizeof(x->owner));
}

static void
index_one(struct sp_heads *h, size_t i)
{
	struct sp_head *x = &h->all[i];
	size_t at;

	h->slots[slot_of(h, x->t, x->id)] = (uint32_t)i + 1;
	x->next_owned = 0;
	if (has_owner(x)) {
		at = owner_slot(h, x->t, x->owner);
		x->next_owned = h->owners[at];
		h->owners[at] = (uint32_t)i + 1;
	}
}

static void
grow(struct sp_heads *h)
{
	h->cap = h->cap == 0 ? 1024 : 2 * h->cap;
	h->n_slots = 2 * h->cap;
	h->all = reallocarray(h->all, h->cap, sizeof(*h->all));
	free(h->slots);
	free(h->owners);
	h->slots = calloc(h->n_slots, sizeof(*h->slots));
	h->owners = calloc(h->n_slots, sizeof(*h->owners));
	SP_ASSERT(h->all != NULL && h->slots != NULL && h->owners != NULL &&
	    h->cap < UINT32_MAX / 4);
	for (size_t i = 0; i < h->n; i++)
		index_one(h, i);
}

/* false: nothing new. */
static bool
keep(struct sp_heads *h, const struct sp_head *x)
{
	size_t at;
	struct sp_head *had;

	if (h->n == h->cap)
		grow(h);
	at = slot_of(h, x->t, x->id);
	if (h->slots[at] != 0) {
		had = &h->all[h->slots[at] - 1];
		if (x->ver <= had->ver)
			return false;
		had->ver = x->ver;
		had->is_gone = x->is_gone;
		memcpy(had->seal, x->seal, sizeof(had->seal));
		return true;
	}
	h->all[h->n] = *x;
	index_one(h, h->n++);
	if (x->t == SP_T_POLICIES && !x->is_gone)
		h->policy = (uint32_t)h->n;
	return true;
}

/* ------------------------------------------------------------------ the file */

static uint64_t
check_of(const void *p, size_t n)
{
	static const uint8_t key[crypto_shorthash_KEYBYTES] = "heads file check";
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t v;

	crypto_shorthash(out, p, n, key);
	memcpy(&v, out, sizeof(v));
	return v;
}

/* Numbers of tables are this program's own. */
static uint64_t
tables_print(void)
{
	uint64_t v = 0;

	for (size_t i = 0; i < SP_T_COUNT_; i++)
		v = v * 31 + check_of(sp_tables[i].name, strlen(sp_tables[i].name));
	return v;
}

static void
stop_writing(struct sp_heads *h)
{
	sp_log(SP_WARN, "heads_file", NULL, "why=\"it cannot be written\" errno=%d",
	    errno);
	close(h->fd);
	h->fd = -1;	/* the next start reads the rest from the chain */
}

static void
write_record(struct sp_heads *h, const struct sp_head *x)
{
	struct record r = {.t = x->t, .is_gone = x->is_gone, .ver = x->ver};
	off_t at = PAGE + (off_t)(h->n_records * sizeof(r));

	if (h->fd < 0)
		return;
	memcpy(r.id, x->id, 16);
	memcpy(r.owner, x->owner, 8);
	memcpy(r.seal, x->seal, 16);
	r.check = check_of(&r, offsetof(struct record, check));
	if (pwrite(h->fd, &r, sizeof(r), at) != (ssize_t)sizeof(r))
		stop_writing(h);
	else
		h->n_records++;
}

void
sp_heads_save(struct sp_heads *h)
{
	static struct page p;

	if (h->fd < 0)
		return;
	memset(&p, 0, sizeof(p));
	p.magic = MAGIC;
	p.tables = tables_print();
	p.n_records = h->n_records;
	p.has_begun = h->has_begun;
	for (size_t i = 0; i < h->n_nodes; i++) {
		struct page_node *n = &p.nodes[p.n_nodes++];

		memcpy(n->name, h->nodes[i].name, sizeof(n->name));
		n->seq = h->nodes[i].seq;
		memcpy(n->hash, h->nodes[i].hash, 32);
	}
	p.check = check_of(&p, offsetof(struct page, check));
	if (pwrite(h->fd, &p, sizeof(p), 0) != (ssize_t)sizeof(p))
		stop_writing(h);
}

static bool
read_record(struct sp_heads *h, const struct record *r)
{
	struct sp_head x = {.ver = r->ver, .t = r->t, .is_gone = r->is_gone == 1};

	if (r->check != check_of(r, offsetof(struct record, check)) ||
	    r->t >= SP_T_COUNT_)
		return false;
	memcpy(x.id, r->id, 16);
	memcpy(x.owner, r->owner, 8);
	memcpy(x.seal, r->seal, 16);
	(void)keep(h, &x);
	return true;
}

static bool
read_records(struct sp_heads *h, uint64_t n)
{
	static struct record some[1024];
	uint64_t done = 0;

	while (done < n) {
		size_t want = n - done < 1024 ? (size_t)(n - done) : 1024;
		ssize_t got = pread(h->fd, some, want * sizeof(some[0]),
		    PAGE + (off_t)(done * sizeof(some[0])));

		if (got != (ssize_t)(want * sizeof(some[0])))
			return false;
		for (size_t i = 0; i < want; i++)
			if (!read_record(h, &some[i]))
				return false;
		done += want;
	}
	return true;
}

static bool
read_file(struct sp_heads *h)
{
	static struct page p;

	if (h->fd < 0 || pread(h->fd, &p, sizeof(p), 0) != (ssize_t)sizeof(p) ||
	    p.magic != MAGIC || p.tables != tables_print() ||
	    p.check != check_of(&p, offsetof(struct page, check)) ||
	    p.n_nodes > SP_HEADS_NODES || !read_records(h, p.n_records))
		return false;
	for (uint32_t i = 0; i < p.n_nodes; i++) {
		struct sp_heads_node *n = &h->nodes[h->n_nodes++];

		memcpy(n->name, p.nodes[i].name, sizeof(n->name));
		n->name[64] = '\0';
		n->seq = p.nodes[i].seq;
		memcpy(n->hash, p.nodes[i].hash, 32);
	}
	h->has_begun = p.has_begun == 1;
	h->n_records = p.n_records;
	return true;
}

/* Versions that have newer ones take no room for ever. */
static void
rewrite_file(struct sp_heads *h)
{
	static const uint8_t no_page[PAGE];

	if (h->fd < 0)
		return;
	if (pwrite(h->fd, no_page, PAGE, 0) != PAGE ||
	    ftruncate(h->fd, PAGE) != 0) {
		stop_writing(h);
		return;
	}
	h->n_records = 0;
	for (size_t i = 0; i < h->n; i++)
		if (h->policy == 0 || i != h->policy - 1)
			write_record(h, &h->all[i]);
	if (h->policy != 0)
		write_record(h, &h->all[h->policy - 1]);
	sp_heads_save(h);
}

/* ------------------------------------------------------------------- public */

struct sp_heads *
sp_heads_new(int fd)
{
	struct sp_heads *h = calloc(1, sizeof(*h));

	SP_ASSERT(h != NULL);
	h->fd = fd;
	grow(h);
	if (read_file(h)) {
		if (h->n_records > 2 * h->n + 4096)
			rewrite_file(h);
		return h;
	}
	h->n = h->n_nodes = h->cap = 0;
	h->policy = 0;
	h->has_begun = false;
	h->was_cold = true;
	grow(h);
	rewrite_file(h);
	return h;
}

void
sp_heads_free(struct sp_heads *h)
{
	if (h == NULL)
		return;
	if (h->fd >= 0)
		close(h->fd);
	free(h->all);
	free(h->slots);
	free(h->owners);
	free(h);
}

void
sp_heads_put(struct sp_heads *h, enum sp_table t, const uint8_t id[static 16],
    uint64_t ver, const uint8_t *seal, const uint8_t *owner, bool is_gone)
{
	struct sp_head x = {.ver = ver, .t = (uint8_t)t, .is_gone = is_gone};

	memcpy(x.id, id, 16);
	if (seal != NULL)
		memcpy(x.seal, seal, sizeof(x.seal));
	if (owner != NULL)
		memcpy(x.owner, owner, sizeof(x.owner));
	if (keep(h, &x))
		write_record(h, &x);
}

const struct sp_head *
sp_heads_find(const struct sp_heads *h, enum sp_table t,
    const uint8_t id[static 16])
{
	uint32_t i = h->slots[slot_of(h, (uint8_t)t, id)];

	return i == 0 ? NULL : &h->all[i - 1];
}

enum sp_head_verdict
sp_heads_judge(const struct sp_heads *h, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver, const uint8_t seal[static 32])
{
	const struct sp_head *x = sp_heads_find(h, t, id);

	if (x == NULL || ver > x->ver)
		return SP_HEAD_AHEAD;
	if (x->is_gone)
		return SP_HEAD_GONE;
	if (ver < x->ver)
		return SP_HEAD_OLD;
	return memcmp(seal, x->seal, sizeof(x->seal)) == 0 ? SP_HEAD_GOOD :
	    SP_HEAD_OTHER;
}

size_t
sp_heads_each(const struct sp_heads *h, enum sp_table t, const uint8_t *owner,
    void (*cb)(void *arg, const struct sp_head *x), void *arg)
{
	size_t n = 0;
	uint32_t i = owner == NULL ? 0 :
	    h->owners[owner_slot(h, (uint8_t)t, owner)];

	for (; i != 0; i = h->all[i - 1].next_owned)
		if (!h->all[i - 1].is_gone && h->all[i - 1].t == t) {
			n++;
			if (cb != NULL)
				cb(arg, &h->all[i - 1]);
		}
	for (size_t k = 0; owner == NULL && k < h->n; k++)
		if (h->all[k].t == t && !h->all[k].is_gone) {
			n++;
			if (cb != NULL)
				cb(arg, &h->all[k]);
		}
	return n;
}

const struct sp_head *
sp_heads_policy(const struct sp_heads *h)
{
	return h->policy == 0 ? NULL : &h->all[h->policy - 1];
}

struct sp_heads_node *
sp_heads_node(struct sp_heads *h, const char *name)
{
	struct sp_heads_node *n;

	for (size_t i = 0; i < h->n_nodes; i++)
		if (strcmp(h->nodes[i].name, name) == 0)
			return &h->nodes[i];
	if (h->n_nodes == SP_HEADS_NODES || strlen(name) > 64)
		return NULL;
	n = &h->nodes[h->n_nodes++];
	memset(n, 0, sizeof(*n));
	memcpy(n->name, name, strlen(name));
	return n;
}

bool
sp_heads_has_begun(const struct sp_heads *h)
{
	return h->has_begun;
}

void
sp_heads_begin(struct sp_heads *h)
{
	h->has_begun = true;
}

bool
sp_heads_was_cold(const struct sp_heads *h)
{
	return h->was_cold;
}
