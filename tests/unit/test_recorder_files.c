/* SPDX-License-Identifier: Apache-2.0 */
/* File transfers through the recorder as it runs: a hostile side loses its
 * channel alone, credit comes out right, content that is not kept has its hash
 * in the file before it goes on. */
#include <poll.h>
#include <sys/socket.h>

#include "recorder/xfer.h"
#include "tests/unit/rec_check.h"
#include "tests/unit/xfer_kit.h"

#define OWN 0xfffffff0u

static const struct sp_rules both = {.rights = ALL_RIGHTS},
    download = {.rights = SP_RIGHT_DOWNLOAD | SP_RIGHT_EXEC},
    digest = {.rights = ALL_RIGHTS, .file_body = SP_BODY_DIGEST};

/* What one side was told. */
struct side {
	struct sp_buf data;
	uint64_t credit;
	unsigned closes, ends;
	char notice[2000];
};

static struct side user, target;

static bool
hear(struct sp_stream *s, struct side *d)
{
	struct sp_frame f;
	struct sp_span p;
	uint32_t n = 0;
	bool any = false;

	(void)!sp_stream_flush(s);
	while (sp_stream_fill(s) == SP_OK)
		;
	while (sp_stream_next(s, &f) == SP_OK) {
		any = true;
		p = f.payload;
		if (f.type == SP_FRAME_DATA)
			cr_assert_eq(sp_buf_put(&d->data, p.p, p.n), SP_OK);
		else if (f.type == SP_FRAME_CREDIT && sp_get_u32(&p, &n) == SP_OK)
			d->credit += n;
		else if (f.type == SP_FRAME_NOTICE &&
		    sp_get_bytes(&f.payload, 1020, &p) == SP_OK)
			snprintf(d->notice + strlen(d->notice),
			    sizeof(d->notice) - strlen(d->notice), "%.*s\n",
			    (int)p.n, (const char *)p.p);
		d->closes += f.type == SP_FRAME_CLOSE;
		d->ends += f.type == SP_FRAME_END;
	}
	return any;
}

/* Until `value` is what it should be; fails after a minute. */
#define UNTIL(g, condition)                                                   \
	for (int64_t end_ = sp_boot_us() + 60000000; !(condition);) {         \
		struct pollfd pf_[2] = {{.fd = (g)->user.fd, .events = POLLIN}, \
		    {.fd = (g)->target.fd, .events = POLLIN}};                \
		if (!hear(&(g)->user, &user) & !hear(&(g)->target, &target))  \
			(void)poll(pf_, 2, 20);                               \
		cr_assert_lt(sp_boot_us(), end_, "in vain: " #condition);     \
	}

static void
begin(struct rig *g, struct rig_opt *o, const struct sp_rules *rules)
{
	*o = (struct rig_opt){.rules = rules};
	user = target = (struct side){.data = {.max = 64u << 20}};
	rig_start(g, o);
	rig_session(g, o);
	rig_open(g, 1, SP_OPEN_SUBSYSTEM, "sftp");
}

static void
over(struct rig *g, enum sp_end_code code)
{
	rig_wait_closed(g);
	check_intact(g, code);
	cr_assert_eq(rig_wait_exit(g), 0);
	rig_stop(g);
	sp_buf_fini(&user.data);
	sp_buf_fini(&target.data);
}

static void
u(struct rig *g, struct sp_buf b)
{
	rig_send_user(g, SP_FRAME_DATA, 1, sp_buf_span(&b));
	sp_buf_fini(&b);
}

static void
t(struct rig *g, struct sp_buf b)
{
	rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_buf_span(&b));
	sp_buf_fini(&b);
}

#define PK(...)                                                               \
	({                                                                    \
		struct sp_buf pk_ = {0};                                      \
		(void)pk_make(&pk_, __VA_ARGS__);                             \
		pk_;                                                          \
	})

/* Up to the end of the recorder's own realpath. */
static void
hello(struct rig *g)
{
	u(g, PK(1, "u", 3));
	UNTIL(g, target.data.len == 9);
	t(g, PK(2, "u", 3));
	UNTIL(g, target.data.len == 9 + 14 && user.data.len == 9);
	t(g, PK(104, "uussa", OWN, 1, "/home/a", ""));
	/* The reply to it is nobody's: its credit comes back to the target. */
	UNTIL(g, target.credit == 4 + 1 + 8 + 11 + 4 + 4);
}

static size_t
notes(struct rig *g, uint8_t op, struct sp_xfer_note *last)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	static struct sp_buf keep;
	struct sp_rec_decoder *d = NULL;
	struct sp_xfer_note n;
	struct sp_rec_record r;
	size_t found = 0;

	sp_buf_fini(&keep);
	keep.max = 1u << 20;
	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK) {
		if (r.kind != SP_RECORD_FILE)
			continue;
		cr_assert_eq(sp_xfer_note_decode(r.data, &n), SP_OK);
		if (n.op != op)
			continue;
		found++;
		sp_buf_reset(&keep);
		cr_assert_eq(sp_buf_put(&keep, r.data.p, r.data.n), SP_OK);
	}
	sp_rec_decoder_free(d);
	if (found > 0)
		cr_assert_eq(sp_xfer_note_decode(sp_buf_span(&keep), last), SP_OK);
	return found;
}

Test(recorder_files, a_hostile_target_loses_its_channel_alone, .timeout = 120)
{
	struct sp_xfer_note n;
	struct rig_opt o;
	struct rig g;

	begin(&g, &o, &both);
	rig_open(&g, 2, SP_OPEN_EXEC, "cat");
	u(&g, PK(1, "u", 3));
	UNTIL(&g, target.data.len == 9);
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("Last login: x\n"));
	UNTIL(&g, user.closes == 1 && target.closes == 1);
	cr_assert_not_null(strstr(user.notice, "does not begin as sftp does"));
	cr_assert_eq(user.data.len, 0);
	/* What either side still says on it goes nowhere, and is no fault. */
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("more"));
	rig_send_target(&g, SP_FRAME_DATA, 1, 1, sp_span_str("more"));
	rig_send_target(&g, SP_FRAME_CLOSE, 0, 1, none);
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	rig_send_user(&g, SP_FRAME_DATA, 2, sp_span_str("on"));
	UNTIL(&g, target.data.len == 11);
	rig_send_target(&g, SP_FRAME_DATA, 1, 2, sp_span_str("and on"));
	UNTIL(&g, user.data.len == 6);
	cr_assert_eq(user.ends + target.ends, 0);
	rig_send_user(&g, SP_FRAME_CLOSE, 2, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	cr_assert_eq(notes(&g, SP_XFER_PROTOCOL, &n), 1);
	over(&g, SP_END_NORMAL);
}

/* Three megabytes of what is refused, through a window of one: all of it is
 * granted again, and the answers' grants never reach the target. */
Test(recorder_files, credit_of_what_is_refused, .timeout = 120)
{
	enum { EACH = 60000, TIMES = 50 };
	static uint8_t zeros[EACH];
	uint64_t sent = 9, credit, said;
	struct sp_xfer_note n;
	struct rig_opt o;
	struct rig g;

	begin(&g, &o, &download);
	hello(&g);
	credit = user.credit;
	for (uint32_t i = 0; i < TIMES; i++) {
		struct sp_buf b = PK(6, "usUb", i, "h", UINT64_C(0),
		    sp_span_of(zeros, EACH));
		size_t len = b.len;

		UNTIL(&g, SP_STREAM_WINDOW + user.credit - sent >= len);
		u(&g, b);
		sent += len;
	}
	UNTIL(&g, user.credit - credit == sent - 9);
	cr_assert_eq(target.data.len, 9 + 14);
	said = user.data.len - 9;
	cr_assert_gt(said, TIMES * 20);
	credit = target.credit;
	rig_send_user(&g, SP_FRAME_CREDIT, 1, sp_span_of(&(uint32_t){
	    (uint32_t)(said + 5)}, 4));
	UNTIL(&g, target.credit > credit);
	cr_assert_eq(target.credit - credit, 5);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	cr_assert_eq(notes(&g, SP_XFER_WRITE, &n), TIMES);
	cr_assert_eq(n.result, SP_XFER_REFUSED);
	over(&g, SP_END_LEG_DIED);
}

/* What is not kept: its hash so far stands in the file for each piece that the
 * target got, and an end in the middle says so. */
Test(recorder_files, content_that_is_not_kept, .timeout = 120)
{
	enum { EACH = 30000, TIMES = 20 };
	static uint8_t bytes[EACH * TIMES];
	struct sp_msg_rec_end end = {.code = SP_END_KILLED,
	    .text = sp_span_str("ended by bob")};
	SP_BUF_AUTO in = {0};
	struct sp_xfer_note n;
	struct rig_opt o;
	struct rig g;
	uint8_t md[32];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 9));
	begin(&g, &o, &digest);
	hello(&g);
	u(&g, PK(3, "usua", 1, "f", 0x1a));
	UNTIL(&g, target.data.len > 23);
	t(&g, PK(102, "us", 1, "h"));
	UNTIL(&g, user.data.len > 9);
	for (uint32_t i = 0; i < TIMES; i++)
		u(&g, PK(6, "usUb", i + 2, "h", (uint64_t)i * EACH,
		    sp_span_of(bytes + (size_t)i * EACH, EACH)));
	UNTIL(&g, target.data.len > sizeof(bytes));
	cr_assert_eq(sp_send_rec_end(&g.brk, 0, &end, NULL), SP_OK);
	rig_wait_closed(&g);
	cr_assert_geq(notes(&g, SP_XFER_EXTENT, &n), TIMES);
	cr_assert_eq(n.bytes, sizeof(bytes));
	cr_assert_eq(EVP_Digest(bytes, sizeof(bytes), md, NULL, EVP_sha256(),
	    NULL), 1);
	cr_assert_eq(memcmp(n.sha256, md, 32), 0);
	cr_assert_eq(notes(&g, SP_XFER_CLOSE, &n), 1);
	cr_assert_eq(n.result, SP_XFER_CUT);
	cr_assert_eq(n.bytes, sizeof(bytes));
	in = recorded(&g, SP_RECORD_IN);
	cr_assert_lt(in.len, EACH);
	cr_assert_eq(g.closed.bytes_in, in.len + sizeof(bytes));
	cr_assert_not_null(strstr(g.events, "op=close dir=upload result=cut "
	    "bytes=600000"));
	over(&g, SP_END_KILLED);
}

/* However much is done, the audit log gets a bounded number of events, and then
 * how many lines are missing. */
Test(recorder_files, more_than_the_audit_log_takes, .timeout = 120)
{
	enum { ROUNDS = 18, EACH = 1000 };
	struct sp_xfer_note n;
	uint64_t granted = 9;
	const char *total;
	struct rig_opt o;
	struct rig g;

	begin(&g, &o, &download);
	hello(&g);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct sp_buf b = {0};
		size_t want = user.data.len;
		uint32_t more;

		for (uint32_t k = 0; k < EACH; k++)
			(void)pk_make(&b, 13, "us", i * EACH + k, "/some/name");
		want = b.len;
		granted += want;
		u(&g, b);
		UNTIL(&g, user.credit >= granted - 9);
		UNTIL(&g, user.data.len >= 9 + (i + 1) * EACH * 30);
		more = (uint32_t)(want * 4);
		rig_send_user(&g, SP_FRAME_CREDIT, 1, sp_span_of(&more, 4));
		g.events[0] = '\0';
		rig_pump(&g, NULL, 0);
	}
	g.events[0] = '\0';
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	total = strstr(g.events, "op=total");
	cr_assert_not_null(total, "%s", g.events);
	cr_assert_not_null(strstr(total, "refused=18000 unlisted="), "%s", total);
	cr_assert_eq(notes(&g, SP_XFER_REMOVE, &n), ROUNDS * EACH);
	over(&g, SP_END_LEG_DIED);
}
