/* SPDX-License-Identifier: Apache-2.0 */
/* What is said in small pieces stands in a tail until it is packed
 * (doc/recording-format.md, "While it is written"): whole at every moment. */
#include <stdio.h>

#include "common/text.h"
#include "recorder/view.h"
#include "recorder/writer_int.h"
#include "tests/unit/rec_support.h"

#define ITEMS 400
#define LATER_US INT64_C(61000000)

static uint8_t session[16] = {7, 7};
static struct rec_vault v;
static uint64_t put_us[ITEMS];

/* Item i: on three lanes, with its number; the times are kept. */
static void
say(struct sp_rec_writer *w, int from, int to, int batch)
{
	static const enum sp_lane lanes[] = {SP_LANE_OUT, SP_LANE_IN,
	    SP_LANE_OUT, SP_LANE_META};
	static const uint8_t kinds[] = {SP_RECORD_OUT, SP_RECORD_IN,
	    SP_RECORD_ERR, SP_RECORD_NOTICE};
	char text[32];

	for (int i = from; i < to; i++) {
		snprintf(text, sizeof(text), "item %d of the session", i);
		cr_assert_eq(sp_rec_writer_put(w, lanes[i % 4], kinds[i % 4], 1,
		    sp_span_str(text)), SP_OK);
		put_us[i] = sp_rec_writer_last_us(w);
		if (i % batch == batch - 1)
			cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	}
	cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
}

/* How many items there are, in the order and with the times of their putting. */
static int
items(int fd, enum sp_err *end)
{
	struct sp_rec_lane_keys k = rec_keys(&v, fd);
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	char text[32];
	int n = 0;

	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	while ((*end = sp_rec_decoder_next(d, &r)) == SP_OK) {
		if (r.kind == SP_RECORD_META || r.kind == SP_RECORD_END)
			continue;
		snprintf(text, sizeof(text), "item %d of the session", n);
		cr_assert(sp_span_is(r.data, text), "%.*s for %s", (int)r.data.n,
		    (const char *)r.data.p, text);
		cr_assert_eq(r.at_us, put_us[n], "item %d", n);
		n++;
	}
	sp_rec_decoder_free(d);
	return n;
}

static void
check_all(struct sp_span file, int n, enum sp_rec_verdict want)
{
	int fd = rec_memfd(file);
	struct sp_rec_report r;
	enum sp_err end;

	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, NULL, &r), want, "%s: %s",
	    sp_rec_verdict_name(r.verdict), r.text);
	cr_assert_eq(items(fd, &end), n);
	cr_assert_eq(end, SP_ERR_EOF);
	close(fd);
}

static void
pass_time(struct sp_rec_writer *w, int64_t us)
{
	int64_t again;

	cr_assert_eq(sp_rec_writer_tick(w, sp_boot_us() + us, &again), SP_OK);
}

static uint64_t
body_end(struct sp_span s, uint64_t *tail)
{
	int fd = rec_memfd(s);
	struct sp_rec_file *f = NULL;
	struct sp_rec_chunk c;
	uint64_t end;

	*tail = 0;
	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	end = sp_rec_file_header_bytes(f);
	while (*tail == 0 && sp_rec_file_next(f, &c) == SP_REC_STEP_CHUNK)
		if (c.off == end)
			end = c.off + c.size;
		else
			*tail = c.off;
	sp_rec_file_close(f);
	close(fd);
	return end;
}

static uint32_t
last_segment(struct sp_span s)
{
	int fd = rec_memfd(s);
	struct sp_rec_file *f = NULL;
	struct sp_rec_chunk c;
	uint32_t segment = 0;

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	while (sp_rec_file_next(f, &c) == SP_REC_STEP_CHUNK)
		segment = c.h.segment;
	sp_rec_file_close(f);
	close(fd);
	return segment;
}

Test(recording_tail, small_pieces_cost_little_and_stay_whole)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	uint64_t tail;

	say(w, 0, 100, 1);
	{
		SP_BUF_AUTO b = rec_slurp(fd);
		uint64_t end = body_end(sp_buf_span(&b), &tail);

		cr_assert_eq(tail, end + SP_REC_GAP);
		check_all(sp_buf_span(&b), 100, SP_REC_OPEN);
	}
	pass_time(w, LATER_US);
	{
		SP_BUF_AUTO b = rec_slurp(fd);

		body_end(sp_buf_span(&b), &tail);
		cr_assert_eq(tail, 0);
		cr_assert_lt(b.len, 4096);	/* of 100 chunks in the tail: 10 KiB */
		check_all(sp_buf_span(&b), 100, SP_REC_OPEN);
	}
	say(w, 100, 200, 3);
	say(w, 200, ITEMS, 7);
	cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL, sp_span_str("over")),
	    SP_OK);
	sp_rec_writer_free(w);
	SP_BUF_AUTO b = rec_slurp(fd);
	check_all(sp_buf_span(&b), ITEMS, SP_REC_INTACT);
	close(fd);
}

/* The states that kill -9 leaves between the first byte that packs and the cut. */
Test(recording_tail, packing_is_whole_at_every_byte, .timeout = 300)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	uint64_t tail, none, end, from;

	say(w, 0, 50, 4);
	pass_time(w, LATER_US);
	say(w, 50, 90, 1);
	SP_BUF_AUTO before = rec_slurp(fd);
	end = body_end(sp_buf_span(&before), &tail);
	cr_assert_neq(tail, 0);
	pass_time(w, LATER_US);
	SP_BUF_AUTO after = rec_slurp(fd);
	cr_assert_gt(body_end(sp_buf_span(&after), &none), end);
	cr_assert_eq(none, 0);
	cr_assert_lt(after.len, tail);
	/* The first 28 bytes come last. */
	from = end + SP_REC_CHUNK_HEADER;
	for (size_t n = from; n <= after.len; n += n + 40 < after.len ? 13 : 1) {
		memcpy(before.p + before.off + from, after.p + after.off + from,
		    n - from);
		check_all(sp_buf_span(&before), 90, SP_REC_OPEN);
	}
	for (size_t n = end; n <= from; n++) {
		memcpy(before.p + before.off + end, after.p + after.off + end,
		    n - end);
		check_all(sp_buf_span(&before), 90, SP_REC_OPEN);
	}
	/* It is not what stands behind that says so. */
	before.p[before.off + tail + 70] ^= 1;
	check_all(sp_buf_span(&before), 90, SP_REC_OPEN);
	sp_rec_writer_free(w);
	close(fd);
}

Test(recording_tail, no_byte_of_a_tail_can_be_changed_or_cut, .timeout = 300)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	uint64_t tail, end;

	say(w, 0, 20, 3);
	SP_BUF_AUTO b = rec_slurp(fd);
	end = body_end(sp_buf_span(&b), &tail);
	for (size_t i = 0; i < b.len; i++) {
		struct sp_rec_report r;
		int copy;

		if (i == end)
			i = tail;
		b.p[b.off + i] ^= (uint8_t)(1u << (i % 8));
		copy = rec_memfd(sp_buf_span(&b));
		(void)sp_rec_verify(copy, v.audit_pk, NULL, &r);
		cr_assert(r.verdict == SP_REC_FORGED || r.verdict == SP_REC_CUT ||
		    r.verdict == SP_REC_UNKNOWN, "byte %zu: %s", i, r.text);
		b.p[b.off + i] ^= (uint8_t)(1u << (i % 8));
		close(copy);
	}
	for (size_t n = end + 1; n <= tail; n += 997) {
		int copy = rec_memfd(sp_span_of(b.p + b.off, n));
		struct sp_rec_report r;

		cr_assert_eq(sp_rec_verify(copy, v.audit_pk, NULL, &r),
		    SP_REC_CUT, "%zu of %zu: %s", n, b.len, r.text);
		close(copy);
	}
	sp_rec_writer_free(w);
	close(fd);
}

/* What the transparency log heard of a tail is proved by what took its place. */
Test(recording_tail, a_head_of_a_packed_tail_is_known)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	uint8_t head[2][32], other[32] = {1};
	struct sp_rec_totals t;
	struct sp_rec_report r;

	for (int i = 0; i < 2; i++) {
		say(w, 10 * i, 10 * i + 10, 1);
		pass_time(w, 6000000);	/* a checkpoint in the tail */
		sp_rec_writer_totals(w, &t);
		memcpy(head[i], t.head, 32);
		cr_assert_eq(sp_rec_verify(fd, v.audit_pk, head[i], &r),
		    SP_REC_OPEN, "%s", r.text);
	}
	SP_BUF_AUTO short_one = rec_slurp(fd);
	pass_time(w, LATER_US);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(sp_rec_verify(fd, v.audit_pk, head[i], &r),
		    SP_REC_OPEN, "%s", r.text);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, other, &r), SP_REC_CUT);
	say(w, 20, 30, 1);
	pass_time(w, 6000000);
	sp_rec_writer_totals(w, &t);
	cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL, sp_span_str("over")),
	    SP_OK);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, t.head, &r), SP_REC_INTACT,
	    "%s", r.text);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, other, &r), SP_REC_FORGED);
	/* An old state of the file lacks what was heard later. */
	{
		int old = rec_memfd(sp_buf_span(&short_one));

		cr_assert_eq(sp_rec_verify(old, v.audit_pk, t.head, &r),
		    SP_REC_CUT, "%s", r.text);
		close(old);
	}
	sp_rec_writer_free(w);
	close(fd);
}

/* Recordings of the first weeks of version 5 name chains by 16 bytes, up to 16 of
 * them: they stay what they were, and what they name is still known. */
Test(recording_tail, sixteen_long_names_are_good)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	struct sp_rec_cursor before;
	SP_BUF_AUTO body = {.max = 640};
	uint8_t names[16][16], known[32], other[32];
	struct sp_rec_report r;

	randombytes_buf(names, sizeof(names));
	randombytes_buf(known, sizeof(known));
	randombytes_buf(other, sizeof(other));
	memcpy(known, names[15], 16);
	say(w, 0, 10, 1);
	cr_assert_eq(sp_rec_tail_pack(w, false), SP_OK);
	before = w->cur;
	cr_assert_eq(sp_buf_put_u64(&body, (uint64_t)sp_now_us()), SP_OK);
	cr_assert_eq(sp_buf_put_u64(&body, w->cur.bytes_in), SP_OK);
	cr_assert_eq(sp_buf_put_u64(&body, w->cur.bytes_out), SP_OK);
	cr_assert_eq(sp_buf_put_u64(&body, w->disk.off + SP_REC_GAP), SP_OK);
	cr_assert_eq(sp_buf_put(&body, names, sizeof(names)), SP_OK);
	cr_assert_eq(sp_rec_write_out(w, &before, SP_REC_BODY,
	    sp_rec_add_signed(w, SP_REC_CHECKPOINT_CHUNK, &body)), SP_OK);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, known, &r), SP_REC_OPEN, "%s",
	    r.text);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, other, &r), SP_REC_CUT, "%s",
	    r.text);
	sp_rec_writer_free(w);
	close(fd);
}

Test(recording_tail, bulk_is_written_once)
{
	static uint8_t noise[200 << 10];
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	struct sp_rec_totals t;
	uint64_t tail;

	randombytes_buf(noise, sizeof(noise));
	say(w, 0, 10, 1);
	for (int i = 0; i < 8; i++) {
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_META, 1,
		    sp_span_of(noise, sizeof(noise))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		say(w, 10 + i, 11 + i, 1);
	}
	SP_BUF_AUTO b = rec_slurp(fd);
	body_end(sp_buf_span(&b), &tail);
	cr_assert_eq(tail, 0);
	cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL, sp_span_str("over")),
	    SP_OK);
	sp_rec_writer_totals(w, &t);
	cr_assert_lt(t.file_bytes, 8 * sizeof(noise) + 8192);
	SP_BUF_AUTO end = rec_slurp(fd);
	check_all(sp_buf_span(&end), 18, SP_REC_INTACT);
	sp_rec_writer_free(w);
	close(fd);
}

/* A screen of a few letters, as large as bulk: it is neither written at once nor does
 * what follows it stand in another segment. */
Test(recording_tail, a_large_keyframe_is_no_bulk)
{
	static const size_t sizes[] = {50u << 10, 100u << 10, 300u << 10};
	static uint8_t screen[300u << 10];
	uint64_t tail;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = (rec_vault_make(&v), rec_file());
		struct sp_rec_writer *w = rec_begin(&v, fd, session);

		say(w, 0, 10, 1);
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_VIEW, SP_RECORD_META, 1,
		    sp_span_of(screen, sizes[i])), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		say(w, 10, 20, 1);
		{
			SP_BUF_AUTO b = rec_slurp(fd);

			body_end(sp_buf_span(&b), &tail);
			cr_assert_gt(tail, 0);
		}
		cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL,
		    sp_span_str("over")), SP_OK);
		SP_BUF_AUTO end = rec_slurp(fd);
		cr_assert_lt(end.len, 8192);
		cr_assert_eq(last_segment(sp_buf_span(&end)), 0);
		check_all(sp_buf_span(&end), 20, SP_REC_INTACT);
		sp_rec_writer_free(w);
		close(fd);
	}
}

static uint64_t
tail_of(int fd)
{
	SP_BUF_AUTO b = rec_slurp(fd);
	uint64_t tail;

	body_end(sp_buf_span(&b), &tail);
	return tail;
}

/* 100 KiB in small pieces: less than a tail holds, more than it should hold when
 * the next key comes. */
static void
fill_most(struct sp_rec_writer *w)
{
	static const uint8_t page[10u << 10];

	for (int i = 0; i < 10; i++) {
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_META, 1,
		    sp_span_of(page, sizeof(page))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	}
}

/* What would hold up the next key is done before it comes, when nobody waits. */
Test(recording_tail, a_lull_is_used_for_packing)
{
	int fd = (rec_vault_make(&v), rec_file());
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	int64_t again;

	say(w, 0, 10, 1);
	pass_time(w, 100000);
	cr_assert_neq(tail_of(fd), 0, "it holds little: nothing is packed");
	fill_most(w);
	cr_assert_eq(sp_rec_writer_tick(w, sp_boot_us(), &again), SP_OK);
	cr_assert_neq(tail_of(fd), 0, "somebody is at it");
	cr_assert_leq(again, sp_boot_us() + 30000);
	pass_time(w, 30000);
	cr_assert_eq(tail_of(fd), 0);
	say(w, 10, 20, 1);
	cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL, sp_span_str("over")),
	    SP_OK);
	SP_BUF_AUTO end = rec_slurp(fd);
	check_all(sp_buf_span(&end), 20, SP_REC_INTACT);
	sp_rec_writer_free(w);
	close(fd);
}

/* Who follows a running one sees each record once, whatever is packed under it. */
Test(recording_tail, a_follower_sees_each_once)
{
	int fd = (rec_vault_make(&v), rec_file()), seen = 0;
	struct sp_rec_writer *w = rec_begin(&v, fd, session);
	struct sp_rec_lane_keys k = rec_keys(&v, fd);
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	char text[32];

	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	for (int i = 0; i < 240; i += 3) {
		enum sp_err e;

		say(w, i, i + 3, 2);
		if (i % 11 == 5)
			pass_time(w, 6000000);
		if (i % 7 == 3)
			pass_time(w, LATER_US);
		/* Now and then it is late. */
		while (i % 5 != 1 && (e = sp_rec_decoder_next(d, &r)) == SP_OK) {
			if (r.kind == SP_RECORD_META)
				continue;
			snprintf(text, sizeof(text), "item %d of the session", seen);
			cr_assert(sp_span_is(r.data, text), "%.*s for %s",
			    (int)r.data.n, (const char *)r.data.p, text);
			seen++;
		}
		if (i % 5 != 1) {
			cr_assert_eq(e, SP_ERR_EOF, "%d: %s", i, sp_err_text(e));
			cr_assert_eq(seen, i + 3);
		}
	}
	cr_assert_geq(seen, 230);
	sp_rec_decoder_free(d);
	sp_rec_writer_free(w);
	close(fd);
}

/* ------------------------------------------------------------------ lines */

Test(recording_tail, many_lines_are_one_record)
{
	static const char *const text[] = {"total 48", "drwxr-xr-x 2 root", "x"};
	struct sp_view_line l[3], got;
	struct sp_view_lines it;
	SP_BUF_AUTO b = {.max = 4096};

	for (size_t i = 0; i < 3; i++)
		l[i] = (struct sp_view_line){.ago_us = 9000 - i * 4000,
		    .row = (uint16_t)(i * 200), .text = sp_span_str(text[i])};
	cr_assert_eq(sp_view_lines_encode(&b, l, 3), SP_OK);
	cr_assert_eq(sp_view_lines_begin(sp_buf_span(&b), &it), SP_OK);
	for (size_t i = 0; i < 3; i++) {
		cr_assert(sp_view_lines_next(&it, &got));
		cr_assert_eq(got.ago_us, l[i].ago_us);
		cr_assert_eq(got.row, l[i].row);
		cr_assert(sp_span_is(got.text, text[i]));
	}
	cr_assert(!sp_view_lines_next(&it, &got));
	/* One that is later than the next is none of one record. */
	l[1].ago_us = 20000;
	sp_buf_reset(&b);
	cr_assert_eq(sp_view_lines_encode(&b, l, 3), SP_ERR_INVAL);
}

Test(recording_tail, lines_that_no_writer_makes_are_refused)
{
	static const char *const bad[] = {"", "\x00", "\x02\x05\x06\x01\x01" "a\r\nb",
	    "\x02\x05\x01\x01\x01" "a", "\x02\x05\x01\x01\x01" "a\r\nb\r\nc",
	    "\x02\x05\x01\x01\x01" "a\rb", "\x02\x05\x01\x01\x01" "\r\nb",
	    "\x01\x05\x01" "a\x1b[m", "\x01\x05\x01", "\xff\xff\x7f", "\x80\x00"};
	static const size_t n[] = {0, 1, 9, 6, 12, 8, 8, 7, 3, 3, 2};
	struct sp_view_lines it = {.n = 99};

	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
		cr_assert_neq(sp_view_lines_begin(sp_span_of(bad[i], n[i]), &it),
		    SP_OK, "%zu", i);
		cr_assert_eq(it.n, 0);
	}
}
