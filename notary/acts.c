/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/tlog_leaf.h"
#include "notary/store_int.h"

/*
 * "acts": where in the log the holds and ends of recordings stand, one record each:
 * u8 act, seven zero bytes, the session, u64 number of the leaf. It is written before
 * the leaf is safe, so that no such leaf lacks its record; a record whose leaf never
 * came is seen by the leaf that stands there instead. What counts is the leaf.
 */
#define RECORD 32u
#define PAGE (128u * RECORD)

struct act {
	uint8_t act, session[16];
	uint64_t index;
};

static bool
is_kept(uint8_t act)
{
	return act == SP_ACT_HOLD || act == SP_ACT_RELEASE || act == SP_ACT_DELETE;
}

static void
take(const uint8_t r[static RECORD], struct act *a)
{
	struct sp_span s = sp_span_of(r + 24, 8);

	a->act = r[0];
	memcpy(a->session, r + 8, 16);
	if (sp_get_u64(&s, &a->index) != SP_OK)
		a->act = 0;
}

enum sp_err
sp_nacts_put(struct sp_nstore *s, uint8_t act, const uint8_t session[static 16],
    uint64_t index)
{
	SP_BUF_AUTO b = {.max = RECORD};
	uint8_t head[8] = {act};

	if (!is_kept(act))
		return SP_OK;
	SP_TRY(sp_buf_put(&b, head, 8));
	SP_TRY(sp_buf_put(&b, session, 16));
	SP_TRY(sp_buf_put_u64(&b, index));
	SP_TRY(sp_nfile_append(s->acts, s->acts_end, sp_buf_span(&b)));
	if (fdatasync(s->acts) != 0)
		return SP_ERR_IO;
	s->acts_end += RECORD;
	return SP_OK;
}

/* Is that leaf what the record says? */
static bool
stands(struct sp_nstore *s, const struct act *a)
{
	SP_BUF_AUTO b = {.max = SP_TLOG_ENTRY_MAX};
	struct sp_leaf l;

	return sp_nstore_entry(s, a->index, &b) == SP_OK &&
	    sp_leaf_decode(sp_buf_span(&b), &l) == SP_OK &&
	    l.type == SP_LEAF_ACT && l.act == a->act &&
	    memcmp(l.session, a->session, 16) == 0;
}

enum sp_err
sp_nacts_of(struct sp_nstore *s, const uint8_t session[static 16],
    struct sp_nacts *out)
{
	uint8_t page[PAGE];

	*out = (struct sp_nacts){.is_held = false};
	for (uint64_t at = 0; at < s->acts_end; at += PAGE) {
		size_t n = s->acts_end - at < PAGE ? (size_t)(s->acts_end - at) : PAGE;

		if (sp_nfile_read(s->acts, at, page, n) != SP_OK)
			return SP_ERR_IO;
		for (size_t i = 0; i < n; i += RECORD) {
			struct act a;

			take(page + i, &a);
			if (memcmp(a.session, session, 16) != 0 || !stands(s, &a))
				continue;
			if (a.act == SP_ACT_DELETE) {
				out->is_ended = true;
				out->end = a.index;
			} else {
				out->is_held = a.act == SP_ACT_HOLD;
			}
		}
	}
	return SP_OK;
}

/* From the leaves: a log of before, or somebody took the file away. */
static enum sp_err
make_anew(struct sp_nstore *s)
{
	SP_BUF_AUTO b = {.max = SP_TLOG_BUNDLE_MAX + 8};
	SP_BUF_AUTO all = {.max = UINT32_MAX};
	uint64_t at = 0;

	while (at < s->tree.size) {
		struct sp_span rest, e;

		sp_buf_reset(&b);
		SP_TRY(sp_nstore_bundle(s, at / SP_TLOG_TILE, &b));
		for (rest = sp_buf_span(&b); at < s->tree.size &&
		    sp_tlog_bundle_next(&rest, &e) == SP_OK; at++) {
			uint8_t head[8] = {0};
			struct sp_leaf l;

			if (sp_leaf_decode(e, &l) != SP_OK ||
			    l.type != SP_LEAF_ACT || !is_kept(l.act))
				continue;
			head[0] = l.act;
			SP_TRY(sp_buf_put(&all, head, 8));
			SP_TRY(sp_buf_put(&all, l.session, 16));
			SP_TRY(sp_buf_put_u64(&all, at));
		}
		if (at < s->tree.size && at % SP_TLOG_TILE != 0)
			return SP_ERR_PROTO;
	}
	return sp_nfile_write(s->dir, "acts", sp_buf_span(&all), true);
}

enum sp_err
sp_nacts_open(struct sp_nstore *s)
{
	int fd = openat(s->dir, "acts", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	off_t end;

	if (fd < 0 && errno == ENOENT) {
		SP_TRY(make_anew(s));
		fd = openat(s->dir, "acts", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0)
		return SP_ERR_IO;
	s->acts = fd;
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return SP_ERR_IO;
	/* What a power cut left half is written over. */
	s->acts_end = (uint64_t)end / RECORD * RECORD;
	return SP_OK;
}
