/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_REC_CHECK_H
#define SP_TESTS_REC_CHECK_H

#include "tests/unit/rec_rig.h"

#define ALL_RIGHTS                                                            \
	(SP_RIGHT_SHELL | SP_RIGHT_EXEC | SP_RIGHT_SUBSYSTEM |                \
	    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD)
static const struct rig_opt usual = {.rights = ALL_RIGHTS};
static const struct sp_span none = {0};

/* All bytes of one kind in the file, in order. */
static inline struct sp_buf
recorded(struct rig *g, uint8_t kind)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct sp_buf b = {.max = 64u << 20};
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK)
		if (r.kind == kind)
			cr_assert_eq(sp_buf_put(&b, r.data.p, r.data.n), SP_OK);
	cr_assert_eq(e, SP_ERR_EOF, "%s", sp_err_text(e));
	sp_rec_decoder_free(d);
	return b;
}

static inline void
check_recorded(struct rig *g, uint8_t kind, const char *want)
{
	SP_BUF_AUTO b = recorded(g, kind);

	cr_assert(sp_span_is(sp_buf_span(&b), want), "%s: \"%.*s\"",
	    sp_rec_kind_name(kind), (int)b.len, (const char *)b.p + b.off);
}

/* No byte came out that the file does not hold. */
static inline void
check_nothing_unrecorded(struct rig *g)
{
	SP_BUF_AUTO in = recorded(g, SP_RECORD_IN);
	SP_BUF_AUTO out = recorded(g, SP_RECORD_OUT);

	cr_assert(g->at_target.len <= in.len, "%zu bytes at the target, %zu "
	    "recorded", g->at_target.len, in.len);
	cr_assert(g->at_user.len <= out.len, "%zu bytes at the user, %zu "
	    "recorded", g->at_user.len, out.len);
	cr_assert(sp_span_eq(sp_buf_span(&g->at_target),
	    sp_span_of(in.p + in.off, g->at_target.len)));
	cr_assert(sp_span_eq(sp_buf_span(&g->at_user),
	    sp_span_of(out.p + out.off, g->at_user.len)));
}

static inline void
check_intact(struct rig *g, enum sp_end_code code)
{
	struct sp_rec_report r;

	cr_assert_eq(g->closed.code, code, "code %u: %s", g->closed.code,
	    g->reason);
	cr_assert_eq(sp_rec_verify(g->file, g->v.audit_pk, g->closed.head, &r),
	    SP_REC_INTACT, "%s", r.text);
	cr_assert_eq(r.code, code);
	cr_assert_eq(r.chunks, g->closed.chunks);
	cr_assert_eq(r.file_bytes, g->closed.file_bytes);
	cr_assert_eq(memcmp(r.head, g->closed.head, 32), 0);
}

#endif
