/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder as it runs: executed, confined, between two legs of ours. */
#include <sys/socket.h>

#include "tests/unit/rec_rig.h"

#define ALL_RIGHTS (SP_RIGHT_SHELL | SP_RIGHT_EXEC | SP_RIGHT_SUBSYSTEM)
static const struct rig_opt usual = {.rights = ALL_RIGHTS};
static const struct sp_span none = {0};

/* All bytes of one kind in the file, in order. */
static struct sp_buf
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

static void
check_recorded(struct rig *g, uint8_t kind, const char *want)
{
	SP_BUF_AUTO b = recorded(g, kind);

	cr_assert(sp_span_is(sp_buf_span(&b), want), "%s: \"%.*s\"",
	    sp_rec_kind_name(kind), (int)b.len, (const char *)b.p + b.off);
}

static void
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

Test(recorder, a_session_from_end_to_end, .timeout = 30)
{
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("ls\r"));
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("file\r\n"));
	rig_send_target(&g, SP_FRAME_DATA, 2, 1, sp_span_str("oops\r\n"));
	rig_send_target(&g, SP_FRAME_EXIT_STATUS, 0, 1, sp_span_of("\3\0\0\0", 4));
	rig_send_target(&g, SP_FRAME_EOF, 0, 1, none);
	rig_send_target(&g, SP_FRAME_CLOSE, 0, 1, none);
	rig_pump(&g, NULL, 300);
	cr_assert(sp_span_is(sp_buf_span(&g.at_target), "ls\r"));
	cr_assert(sp_span_is(sp_buf_span(&g.at_user), "file\r\noops\r\n"));
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	cr_assert_eq(g.closed.bytes_in, 3);
	cr_assert_eq(g.closed.bytes_out, 12);
	cr_assert(g.user_end && g.target_end && g.end_code == SP_END_NORMAL);
	cr_assert_not_null(strstr(g.events, "channel_open 1 shell (pty 80x24)"));
	check_recorded(&g, SP_RECORD_IN, "ls\r");
	check_recorded(&g, SP_RECORD_OUT, "file\r\n");
	check_recorded(&g, SP_RECORD_ERR, "oops\r\n");
	check_recorded(&g, SP_RECORD_META, "{\"user\":\"alice\"}");
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}
