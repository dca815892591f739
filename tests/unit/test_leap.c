/* SPDX-License-Identifier: Apache-2.0 */
/* Any moment of a recording that nobody has gone through: where it stands in the
 * file, what is read to show it, and that it is the picture that was. */
#include "bastion/player/proof_lines.h"
#include "bastion/player/show.h"
#include "recorder/find.h"
#include "tests/perf/rec_make.h"
#include "tests/unit/rec_support.h"

#define MIB (1u << 20)

struct kit {
	struct rec_vault v;
	int fd;
	struct sp_rec_lane_keys keys;
	struct sp_rec_report report;
	uint64_t end_us;
};

/* What the reel uses of the rest of the player. */
bool
file_is_sftp(const struct sp_open *o)
{
	return o->kind == SP_OPEN_SUBSYSTEM;
}

void
file_line(char *dst, size_t cap, struct sp_span record)
{
	snprintf(dst, cap, "%zu", record.n);
}

/* A shell that says so many bytes, with a keyframe every 512 KiB; `last` puts its
 * own word before the end. */
static void
record(struct kit *k, size_t bytes, bool with_frames,
    void (*last)(struct sp_rec_writer *, struct make_scribe *))
{
	static char text[32768];
	struct make_scribe m = {0};
	struct sp_rec_writer *w;
	uint8_t session[16];

	rec_vault_make(&k->v);
	randombytes_buf(session, 16);
	k->fd = rec_file();
	w = rec_begin(&k->v, k->fd, session);
	make_shell(w);
	for (size_t at = 0; at < bytes;) {
		size_t n = 0, want = 1000 + rnd() % 30000;

		while (n + 200 < want)
			n += make_line(text + n, sizeof(text) - n);
		make_out(w, with_frames ? &m : NULL, sp_span_of(text, n));
		must(sp_rec_writer_commit(w), "commit");
		at += n;
	}
	if (last != NULL)
		last(w, &m);
	make_end(w);
	sp_term_free(m.t);
	k->keys = rec_keys(&k->v, k->fd);
	cr_assert_eq(sp_rec_verify(k->fd, k->v.audit_pk, NULL, &k->report),
	    SP_REC_INTACT);
	k->end_us = (uint64_t)(k->report.last_us - k->report.opened_us);
}

static uint64_t
seed(void)
{
	uint64_t s;

	randombytes_buf(&s, sizeof(s));
	cr_log_info("seed %016llx", (unsigned long long)s);
	fprintf(stderr, "seed %016llx\n", (unsigned long long)s);
	return s;
}

static uint64_t
some(uint64_t *s, uint64_t below)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (*s >> 16) % below;
}

static void
go(struct reel *r, uint64_t at_us)
{
	bool changed = false, there = false;

	while (!there)
		cr_assert_eq(reel_go(r, at_us, &changed, &there), SP_OK);
}

static void
index_all(struct reel *r)
{
	while (!r->index.is_done)
		cr_assert_eq(index_work(&r->index, 1000000), SP_OK);
}

static void
same_screen(struct reel *a, struct reel *b, uint64_t at_us)
{
	SP_BUF_AUTO x = {.max = SP_TERM_DUMP_MAX};
	SP_BUF_AUTO y = {.max = SP_TERM_DUMP_MAX};
	const struct sp_term *s = stage_shown(&a->head.now, 0);
	const struct sp_term *t = stage_shown(&b->head.now, 0);

	cr_assert_eq(s == NULL, t == NULL, "at %llu", (unsigned long long)at_us);
	if (s == NULL)
		return;
	cr_assert_eq(sp_term_dump(s, &x), SP_OK);
	cr_assert_eq(sp_term_dump(t, &y), SP_OK);
	cr_assert(x.len == y.len && memcmp(sp_buf_span(&x).p, sp_buf_span(&y).p,
	    x.len) == 0, "another screen at %llu", (unsigned long long)at_us);
}

static uint64_t
bytes_read(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "re");

	cr_assert(f != NULL && fscanf(f, "rchar: %llu", &n) == 1);
	fclose(f);
	return n;
}

/* ------------------------------------------------------------------- places */

Test(leap, places_are_those_that_walking_finds, .timeout = 120)
{
	static struct sp_rec_finder x;
	struct sp_rec_file *f = NULL, *g = NULL;
	struct sp_rec_place *at, p;
	struct sp_rec_chunk c;
	struct sp_rec_chunk_header h;
	size_t n = 0, i;
	uint64_t s = seed();
	uint32_t last = 0;
	struct kit k;

	record(&k, 24 * MIB, true, NULL);
	at = calloc(100000, sizeof(*at));
	cr_assert_eq(sp_rec_file_open(k.fd, &f), SP_OK);
	cr_assert_eq(sp_rec_file_open(k.fd, &g), SP_OK);
	sp_rec_file_tell(f, &at[n]);
	while (sp_rec_file_next(f, &c) == SP_REC_STEP_CHUNK) {
		last = c.h.segment;
		sp_rec_file_tell(f, &at[++n]);
	}
	cr_assert(n > 500 && last >= 2);
	cr_assert_eq(sp_rec_find_open(&x, k.fd, g), SP_OK);
	cr_assert_eq(sp_rec_find_last(&x, &p, &h), SP_OK);
	cr_assert_eq(memcmp(&p, &at[n - 1], sizeof(p)), 0);
	cr_assert_eq(h.type, SP_REC_CLOSE_CHUNK);
	for (int k2 = 0; k2 < 300; k2++) {
		uint64_t us = some(&s, at[n].at_us + 1000);

		cr_assert_eq(sp_rec_find_time(&x, us, &p), SP_OK);
		/* at[i] is before chunk i, and has the time of the one before. */
		for (i = 0; i < n && at[i + 1].at_us <= us; i++)
			;
		cr_assert_eq(memcmp(&p, &at[i], sizeof(p)), 0, "moment %llu",
		    (unsigned long long)us);
	}
	for (uint32_t want = 1; want <= last; want++) {
		cr_assert_eq(sp_rec_find_segment(&x, want, x.end, &p), SP_OK);
		for (i = 0; at[i + 1].segment < want; i++)
			;
		cr_assert_eq(memcmp(&p, &at[i], sizeof(p)), 0);
	}
	cr_assert_eq(sp_rec_find_segment(&x, last + 1, x.end, &p),
	    SP_ERR_NOTFOUND);
	sp_rec_file_close(f);
	sp_rec_file_close(g);
	free(at);
	close(k.fd);
}

Test(leap, its_two_ends_say_little_and_cost_nothing, .timeout = 120)
{
	struct sp_rec_report r;
	uint64_t before;
	struct kit k;
	uint8_t c;

	record(&k, 24 * MIB, true, NULL);
	before = bytes_read();
	cr_assert(sp_rec_peek(k.fd, k.v.audit_pk, &r));
	cr_assert(bytes_read() - before < MIB);
	cr_assert_eq(r.verdict, SP_REC_OPEN);
	cr_assert_eq(r.last_us, k.report.last_us);
	cr_assert_eq(r.opened_us, k.report.opened_us);
	cr_assert_eq(memcmp(r.session, k.report.session, 16), 0);
	/* Another vault's; a bit of CLOSE; cut; something behind it. */
	cr_assert_not(sp_rec_peek(k.fd, k.v.box_pk, &r));
	cr_assert_eq(pread(k.fd, &c, 1, (off_t)k.report.file_bytes - 3), 1);
	c ^= 1;
	cr_assert_eq(pwrite(k.fd, &c, 1, (off_t)k.report.file_bytes - 3), 1);
	cr_assert_not(sp_rec_peek(k.fd, k.v.audit_pk, &r));
	c ^= 1;
	cr_assert_eq(pwrite(k.fd, &c, 1, (off_t)k.report.file_bytes - 3), 1);
	cr_assert(sp_rec_peek(k.fd, k.v.audit_pk, &r));
	cr_assert_eq(pwrite(k.fd, "x", 1, (off_t)k.report.file_bytes), 1);
	cr_assert_not(sp_rec_peek(k.fd, k.v.audit_pk, &r));
	cr_assert_eq(ftruncate(k.fd, (off_t)k.report.file_bytes - 1), 0);
	cr_assert_not(sp_rec_peek(k.fd, k.v.audit_pk, &r));
	close(k.fd);
}

Test(leap, judged_bit_by_bit_is_judged, .timeout = 120)
{
	struct sp_rec_judge *j = NULL;
	struct sp_rec_report r;
	uint8_t c;
	struct kit k;
	int turns = 0;

	record(&k, 4 * MIB, true, NULL);
	for (int broken = 0; broken < 2; broken++) {
		cr_assert_eq(sp_rec_judge_new(k.fd, k.v.audit_pk, NULL, &r, &j),
		    SP_OK);
		for (turns = 1; !sp_rec_judge_work(j, 65536); turns++)
			cr_assert(r.good_bytes <= r.file_bytes);
		sp_rec_judge_free(j);
		cr_assert(broken || turns > 5);
		cr_assert_eq(r.verdict, broken ? SP_REC_FORGED : SP_REC_INTACT);
		cr_assert_eq(pread(k.fd, &c, 1, (off_t)r.file_bytes / 2), 1);
		c ^= 1;
		cr_assert_eq(pwrite(k.fd, &c, 1, (off_t)r.file_bytes / 2), 1);
	}
	close(k.fd);
}

/* ------------------------------------------------------------------ pictures */

/* So many moments, shown by keyframes alone and by the whole way. */
static unsigned
compare(struct kit *k, int n, uint64_t s)
{
	static struct reel a, b;
	unsigned framed = 0;

	cr_assert_eq(reel_open(&a, k->fd, &k->keys, k->end_us, true), SP_OK);
	cr_assert_eq(reel_open(&b, k->fd, &k->keys, k->end_us, false), SP_OK);
	index_all(&b);
	for (int i = 0; i < n; i++) {
		uint64_t at = some(&s, k->end_us + 1);

		go(&a, at);
		go(&b, at);
		framed += a.is_framed;
		same_screen(&a, &b, at);
		cr_assert_eq(a.head.now.focus, b.head.now.focus);
		cr_assert_eq(stage_n_channels(&a.head.now),
		    stage_n_channels(&b.head.now));
		/* From there it is played on. */
		go(&a, at + 5000);
		go(&b, at + 5000);
		same_screen(&a, &b, at + 5000);
	}
	reel_close(&a);
	reel_close(&b);
	return framed;
}

Test(leap, a_moment_from_a_keyframe_is_that_moment, .timeout = 240)
{
	struct kit k;

	record(&k, 40 * MIB, true, NULL);
	cr_assert(compare(&k, 60, seed()) > 45);
	close(k.fd);
}

Test(leap, where_the_scribe_left_none_it_is_the_long_way, .timeout = 240)
{
	struct kit k;

	record(&k, 10 * MIB, false, NULL);
	cr_assert_eq(compare(&k, 6, seed()), 0);
	close(k.fd);
}

static void
put_frame(struct sp_rec_writer *w, uint32_t chan, struct sp_view_keyframe k)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX + 64};

	must(sp_view_keyframe_encode(&b, &k), "keyframe");
	must(sp_rec_writer_put(w, SP_LANE_VIEW, SP_RECORD_KEYFRAME, chan,
	    sp_buf_span(&b)), "put");
	must(sp_rec_writer_commit(w), "commit");
}

/* Two terminals; the first, which is the one that is shown, says little. */
static void
record_two(struct kit *k, size_t bytes)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = 1, .cols = 80,
	    .rows = 24, .term = sp_span_str("xterm")};
	SP_BUF_AUTO open = {.max = 4096};
	struct sp_term *t[2] = {NULL, NULL};
	static char text[32768];
	struct sp_rec_writer *w;
	size_t since = 0;
	uint8_t id[16];

	rec_vault_make(&k->v);
	randombytes_buf(id, 16);
	k->fd = rec_file();
	w = rec_begin(&k->v, k->fd, id);
	must(sp_open_encode(&open, &o), "open");
	for (uint32_t c = 0; c < 2; c++) {
		must(sp_term_new(80, 24, NULL, NULL, &t[c]), "term");
		must(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OPEN, c + 1,
		    sp_buf_span(&open)), "put");
	}
	for (size_t at = 0, i = 0; at < bytes; i++) {
		uint32_t c = i % 50 == 0 ? 0 : 1;
		size_t n = 0;

		while (n < (c == 0 ? 1 : 20000))
			n += make_line(text + n, sizeof(text) - n);
		must(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, c + 1,
		    sp_span_of(text, n)), "put");
		sp_term_feed(t[c], sp_span_of(text, n));
		at += n;
		since += n;
		for (c = 0; since >= MAKE_FRAME_BYTES && c < 2; c++) {
			SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX};
			struct sp_view_keyframe f = {.cols = 80, .rows = 24,
			    .at_us = sp_rec_writer_last_us(w)};

			must(sp_term_dump(t[c], &b), "dump");
			f.state = sp_buf_span(&b);
			put_frame(w, c + 1, f);
			since = c == 1 ? 0 : since;
		}
		must(sp_rec_writer_commit(w), "commit");
	}
	make_end(w);
	sp_term_free(t[0]);
	sp_term_free(t[1]);
	k->keys = rec_keys(&k->v, k->fd);
	(void)sp_rec_verify(k->fd, k->v.audit_pk, NULL, &k->report);
	k->end_us = (uint64_t)(k->report.last_us - k->report.opened_us);
}

Test(leap, all_terminals_of_the_moment_are_there, .timeout = 240)
{
	struct proof_result r;
	struct kit k;

	record_two(&k, 12 * MIB);
	cr_assert_eq(proof_read(k.fd, &k.keys, &r, NULL), SP_OK);
	cr_assert_eq(r.same, r.frames);
	cr_assert(compare(&k, 25, seed()) > 12);
	close(k.fd);
}

/* The most that one of n jumps read, each with nothing known. */
static uint64_t
most_read(struct kit *k, int n, bool by_frames, uint64_t *s)
{
	static struct reel r;
	uint64_t most = 0;

	for (int i = 0; i < n; i++) {
		uint64_t before = bytes_read(), got;

		cr_assert_eq(reel_open(&r, k->fd, &k->keys, k->end_us,
		    by_frames), SP_OK);
		go(&r, k->end_us / 4 * 3 + some(s, k->end_us / 4));
		got = bytes_read() - before;
		most = got > most ? got : most;
		reel_close(&r);
	}
	return most;
}

Test(leap, what_is_read_does_not_grow_with_the_file, .timeout = 240)
{
	uint64_t s = seed(), small, large, whole;
	struct kit k, l;

	record(&k, 24 * MIB, true, NULL);
	record(&l, 64 * MIB, true, NULL);
	small = most_read(&k, 12, true, &s);
	large = most_read(&l, 12, true, &s);
	whole = most_read(&l, 1, false, &s);
	fprintf(stderr, "a jump reads %llu of %llu bytes, %llu of %llu; without "
	    "keyframes %llu\n", (unsigned long long)small,
	    (unsigned long long)k.report.file_bytes, (unsigned long long)large,
	    (unsigned long long)l.report.file_bytes, (unsigned long long)whole);
	/* At most three segments, and what the search looks at. */
	cr_assert(small < 10 * MIB);
	cr_assert(large < 10 * MIB);
	cr_assert(whole > 16 * MIB);
	close(k.fd);
	close(l.fd);
}

/* ------------------------------------------------------------------- hostile */

/* Keyframes as none may be: of the future, of another size, of noise, of a screen
 * that was long ago, of channels that there are not. */
static void
put_bad_frames(struct sp_rec_writer *w, struct make_scribe *m)
{
	SP_BUF_AUTO good = {.max = SP_VIEW_STATE_MAX};
	uint64_t now = sp_rec_writer_last_us(w);
	struct sp_view_keyframe k = {.at_us = now, .cols = 120, .rows = 40};
	uint8_t noise[5000];

	must(sp_term_dump(m->t, &good), "dump");
	randombytes_buf(noise, sizeof(noise));
	k.state = sp_buf_span(&good);
	k.at_us = now + 3600000000u;
	put_frame(w, 1, k);
	k.at_us = 1;
	put_frame(w, 1, k);
	k.at_us = now;
	k.cols = 7;
	put_frame(w, 1, k);
	k.cols = 120;
	k.state = sp_span_of(noise, sizeof(noise));
	put_frame(w, 1, k);
	k.state = sp_span_of(sp_buf_span(&good).p, good.len / 2);
	put_frame(w, 1, k);
	must(sp_rec_writer_put(w, SP_LANE_VIEW, SP_RECORD_KEYFRAME, 1,
	    sp_span_of(noise, 9)), "put");
	must(sp_rec_writer_commit(w), "commit");
	for (int i = 0; i < 30; i++) {
		make_put(w, SP_LANE_OUT, SP_RECORD_OUT, sp_span_str("later\r\n"));
		must(sp_rec_writer_commit(w), "commit");
	}
}

Test(leap, keyframes_that_cannot_be_are_passed_over, .timeout = 240)
{
	static struct reel a, b;
	struct kit k;

	record(&k, 10 * MIB, true, put_bad_frames);
	(void)compare(&k, 10, seed());
	cr_assert_eq(reel_open(&a, k.fd, &k.keys, k.end_us, true), SP_OK);
	cr_assert_eq(reel_open(&b, k.fd, &k.keys, k.end_us, false), SP_OK);
	go(&a, UINT64_MAX);
	go(&b, UINT64_MAX);
	same_screen(&a, &b, UINT64_MAX);
	reel_close(&a);
	reel_close(&b);
	close(k.fd);
}

/* The keyframes of a recording, compared with what was sent. */
static struct proof_result
prove(const struct kit *k)
{
	struct proof_result r;

	cr_assert_eq(proof_read(k->fd, &k->keys, &r, NULL), SP_OK);
	return r;
}

Test(leap, screens_of_an_honest_scribe_are_what_was_sent, .timeout = 120)
{
	struct proof_result r;
	struct kit k;

	record(&k, 6 * MIB, true, NULL);
	r = prove(&k);
	cr_assert_geq(r.frames, 10);
	cr_assert_eq(r.same, r.frames);
	cr_assert_eq(r.n_false + r.unsure, 0);
	close(k.fd);
}

Test(leap, each_false_screen_is_named, .timeout = 120)
{
	static const enum proof_why why[] = {PROOF_FUTURE, PROOF_PAST,
	    PROOF_DIFFERS, PROOF_DIFFERS, PROOF_DIFFERS, PROOF_BROKEN};
	SP_BUF_AUTO text = {.max = 8192};
	struct proof_result r;
	struct kit k;

	record(&k, 3 * MIB, true, put_bad_frames);
	r = prove(&k);
	cr_assert_eq(r.n_false, sizeof(why) / sizeof(why[0]));
	cr_assert_eq(r.same, r.frames - r.n_false);
	for (size_t i = 0; i < r.n_false; i++)
		cr_assert_eq(r.which[i].why, why[i], "%zu: %s", i,
		    proof_why(r.which[i].why));
	cr_assert_eq(proof_print(&r, true, &text), SP_OK);
	cr_assert_eq(sp_buf_put_u8(&text, 0), SP_OK);
	cr_assert_not_null(strstr((const char *)sp_buf_span(&text).p,
	    "\"false\":6,\"which\":[{\"at_us\":"));
	close(k.fd);
}

/* A screen that never was, by somebody who knows how they are made. */
static void
put_a_lie(struct sp_rec_writer *w, struct make_scribe *m)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX};
	struct sp_view_keyframe k = {.cols = 120, .rows = 40};
	struct sp_term *t = NULL;

	(void)m;
	must(sp_term_new(120, 40, NULL, NULL, &t), "term");
	sp_term_feed(t, sp_span_str("all was well\r\n"));
	must(sp_term_dump(t, &b), "dump");
	k.at_us = sp_rec_writer_last_us(w);
	k.state = sp_buf_span(&b);
	put_frame(w, 1, k);
	sp_term_free(t);
}

/* Two lies, one of which it admits to be unsure of: as a recorder would write it
 * after a gap. */
static void
put_two_lies(struct sp_rec_writer *w, struct make_scribe *m)
{
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX};
	struct sp_view_keyframe k = {.cols = 120, .rows = 40, .is_unsure = true};
	struct sp_term *t = NULL;

	put_a_lie(w, m);
	must(sp_term_new(120, 40, NULL, NULL, &t), "term");
	must(sp_term_dump(t, &b), "dump");
	k.at_us = sp_rec_writer_last_us(w);
	k.state = sp_buf_span(&b);
	put_frame(w, 1, k);
	sp_term_free(t);
}

Test(leap, the_index_marks_a_false_screen_with_its_time, .timeout = 120)
{
	static struct reel r;
	const struct mark *m = NULL;
	struct proof_result p;
	struct kit k;

	record(&k, 3 * MIB, true, put_two_lies);
	p = prove(&k);
	cr_assert_eq(p.n_false, 1);
	cr_assert_eq(p.unsure, 1);
	cr_assert_eq(p.which[0].why, PROOF_DIFFERS);
	cr_assert_eq(reel_open(&r, k.fd, &k.keys, k.end_us, true), SP_OK);
	cr_assert_eq(index_prove(&r.index), SP_OK);
	index_all(&r);
	cr_assert_eq(r.index.n_false, 1);
	m = marks_next(&r.index.marks, 0, MARK_FALSE);
	cr_assert_not_null(m);
	cr_assert_eq(m->at_us, p.which[0].at_us);
	cr_assert_not_null(strstr(marks_text(&r.index.marks, m), "FALSE"));
	reel_close(&r);
	close(k.fd);
}

Test(leap, a_lie_is_shown_no_longer_than_until_the_index_is_there, .timeout = 120)
{
	static struct reel a, b;
	struct kit k;

	record(&k, 10 * MIB, true, put_a_lie);
	cr_assert_eq(reel_open(&a, k.fd, &k.keys, k.end_us, true), SP_OK);
	cr_assert_eq(reel_open(&b, k.fd, &k.keys, k.end_us, false), SP_OK);
	go(&a, k.end_us);
	cr_assert(a.is_framed);
	index_all(&a);
	go(&a, k.end_us);
	cr_assert_not(a.is_framed);
	go(&b, k.end_us);
	same_screen(&a, &b, k.end_us);
	reel_close(&a);
	reel_close(&b);
	close(k.fd);
}

Test(leap, a_damaged_file_is_shown_as_far_as_it_is_whole, .timeout = 240)
{
	static struct reel a, b;
	uint64_t s = seed();
	struct kit k;

	record(&k, 12 * MIB, true, NULL);
	cr_assert_eq(reel_open(&b, k.fd, &k.keys, k.end_us, false), SP_OK);
	index_all(&b);
	for (int i = 0; i < 40; i++) {
		off_t off = (off_t)some(&s, k.report.file_bytes - 700) + 600;
		uint64_t at = some(&s, k.end_us);
		uint8_t was[64], noise[64];
		size_t n = i % 2 == 0 ? 1 : sizeof(noise);

		cr_assert_eq(pread(k.fd, was, n, off), (ssize_t)n);
		randombytes_buf(noise, n);
		noise[0] = (uint8_t)~was[0];
		go(&b, at);
		cr_assert_eq(pwrite(k.fd, noise, n, off), (ssize_t)n);
		if (reel_open(&a, k.fd, &k.keys, k.end_us, true) == SP_OK) {
			go(&a, at);
			/* What is shown is true, or ends early and says so. */
			if (a.head.why == SP_ERR_EOF)
				same_screen(&a, &b, at);
		}
		reel_close(&a);
		cr_assert_eq(pwrite(k.fd, was, n, off), (ssize_t)n);
	}
	reel_close(&b);
	close(k.fd);
}

static int
copy_of(int fd, size_t n)
{
	int to = rec_file();
	uint8_t *b = malloc(n);

	cr_assert(b != NULL && pread(fd, b, n, 0) == (ssize_t)n &&
	    pwrite(to, b, n, 0) == (ssize_t)n);
	free(b);
	return to;
}

/* Headers by somebody who knows how they look, over the middle of a body. */
Test(leap, forged_headers_lead_nowhere, .timeout = 240)
{
	static struct reel a, b;
	struct sp_rec_chunk_header h = {.type = SP_REC_DATA_CHUNK,
	    .lane = SP_LANE_OUT, .len = 200};
	uint8_t fake[10 * 260];
	uint64_t s = seed();
	unsigned framed = 0;
	struct kit k;
	int whole;

	record(&k, 20 * MIB, true, NULL);
	whole = copy_of(k.fd, k.report.file_bytes);
	cr_assert_eq(reel_open(&b, whole, &k.keys, k.end_us, false), SP_OK);
	index_all(&b);
	for (int i = 0; i < 30; i++) {
		uint64_t at = some(&s, k.end_us);

		randombytes_buf(fake, sizeof(fake));
		for (uint64_t n = 0; n < 10; n++) {
			h.seq = i % 3 == 0 ? n : 1000000 + n;
			h.segment = i % 2 == 0 ? 1 : 40000;
			h.at_us = i % 5 == 0 ? at : k.end_us * 3;
			sp_rec_chunk_header_encode(fake + n * 260, &h);
		}
		/* Where the halving looks first. */
		cr_assert_eq(pwrite(k.fd, fake, sizeof(fake),
		    (off_t)(k.report.file_bytes / 2)), (ssize_t)sizeof(fake));
		cr_assert_eq(reel_open(&a, k.fd, &k.keys, k.end_us, true), SP_OK);
		go(&a, at);
		go(&b, at);
		/* Led astray it is an earlier picture, or the way there; none that
		 * never was. */
		if (a.is_framed && a.head.now.at_us == b.head.now.at_us) {
			framed++;
			same_screen(&a, &b, at);
		}
		cr_assert(a.head.now.at_us <= at);
		reel_close(&a);
	}
	cr_assert(framed > 0);
	reel_close(&b);
	close(whole);
	close(k.fd);
}

/* -------------------------------------------------------------------- lines */

static void
tell(struct line_proof *p, uint64_t at_us, uint8_t lane, uint8_t kind,
    struct sp_span s)
{
	struct sp_rec_record r = {.at_us = at_us, .lane = lane, .kind = kind,
	    .chan = 1, .data = s};

	cr_assert_eq(line_proof_take(p, &r), SP_OK);
}

static void
say_line(struct line_proof *p, uint64_t at_us, struct sp_span text)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_view_line l = {.text = text};

	cr_assert_eq(sp_view_line_encode(&b, &l), SP_OK);
	tell(p, at_us, SP_LANE_VIEW, SP_RECORD_LINE, sp_buf_span(&b));
}

static struct line_proof *
open_lines(void)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = 1, .cols = 20,
	    .rows = 4, .term = sp_span_str("xterm")};
	SP_BUF_AUTO b = {.max = 4096};
	struct line_proof *p = NULL;

	cr_assert_eq(line_proof_new(&p), SP_OK);
	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	tell(p, 1, SP_LANE_OUT, SP_RECORD_OPEN, sp_buf_span(&b));
	return p;
}

static void
out(struct line_proof *p, uint64_t at_us, const char *s)
{
	tell(p, at_us, SP_LANE_OUT, SP_RECORD_OUT, sp_span_str(s));
}

/* One ends in the middle of a line of 200 characters, of which 120 have left the
 * screen; the next says the rest, and once more what still stood there. */
Test(leap, a_scribe_that_ends_and_goes_on_is_no_liar)
{
	struct line_proof *p = open_lines();
	struct line_proof_result r;
	char text[201];

	for (size_t i = 0; i < 200; i++)
		text[i] = (char)('a' + i % 23);
	text[200] = '\0';
	out(p, 10, "first\r\n");
	out(p, 20, text);
	say_line(p, 25, sp_span_str("first"));
	say_line(p, 30, sp_span_of(text, 120));
	out(p, 40, "\r\n1\r\n2\r\n3\r\n4\r\n5\r\n");
	say_line(p, 50, sp_span_of(text + 120, 80));
	say_line(p, 50, sp_span_str("1"));
	say_line(p, 50, sp_span_str("2"));
	say_line(p, 60, sp_span_str("2"));
	say_line(p, 60, sp_span_str("3"));
	say_line(p, 60, sp_span_str("4"));
	say_line(p, 60, sp_span_str("5"));
	line_proof_end(p, &r);
	line_proof_free(p);
	cr_assert_eq(r.invented + r.missing, 0, "%llu invented, %llu missing",
	    (unsigned long long)r.invented, (unsigned long long)r.missing);
	cr_assert_not(line_proof_is_false(&r));
}

Test(leap, what_is_hidden_or_made_up_is_named_with_its_time)
{
	SP_BUF_AUTO g = {.max = 4096};
	struct sp_view_span v = {.from_us = 60000000, .to_us = 61000000,
	    .why = sp_span_str("it ended")};

	for (int gap = 0; gap < 3; gap++) {
		struct line_proof *p = open_lines();
		struct line_proof_result r;

		out(p, 20000000, "rm -rf /srv\r\n");
		out(p, 20000010, "1\r\n2\r\n3\r\n4\r\n");
		say_line(p, 20000100, sp_span_str("ls /srv"));
		for (const char *k = "1234"; *k != '\0'; k++)
			say_line(p, 20000200, sp_span_of(k, 1));
		v.from_us = gap == 1 ? 60000000 : 5000000;
		cr_assert_eq(sp_view_span_encode(&g, &v), SP_OK);
		if (gap > 0)
			tell(p, 62000000, SP_LANE_META, SP_RECORD_GAP,
			    sp_buf_span(&g));
		sp_buf_reset(&g);
		line_proof_end(p, &r);
		line_proof_free(p);
		cr_assert_eq(r.invented, 1);
		cr_assert_eq(r.invented_us, 20000100);
		cr_assert_eq(r.missing, 1);
		cr_assert_eq(r.missing_us, 20000010);
		/* Behind a gap nobody can tell; before it, it is a lie. */
		cr_assert_eq(line_proof_is_false(&r), gap != 2);
	}
}
