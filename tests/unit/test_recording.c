/* SPDX-License-Identifier: Apache-2.0 */
/* The format: what goes in comes out, and nothing can be changed unseen. */
#include "tests/unit/rec_support.h"

#include "common/text.h"
#include "recorder/pack.h"

struct item {
	uint8_t lane, kind;
	uint32_t chan;
	size_t off, n;
	uint8_t was_seen;
};

static uint32_t seed = 12345;
static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static const struct {
	uint8_t lane, kind;
} forms[] = {{1, SP_RECORD_OUT}, {1, SP_RECORD_ERR}, {2, SP_RECORD_IN},
    {1, SP_RECORD_RESIZE}, {1, SP_RECORD_CLOSE}, {3, SP_RECORD_NOTICE}};

static void
fill(uint8_t *p, size_t n, bool is_text)
{
	/* rnd() repeats itself within a window. */
	if (!is_text)
		randombytes_buf(p, n);
	for (size_t i = 0; is_text && i < n; i++)
		p[i] = (uint8_t)"the quick brown fox\r\n"[i % 21];
}

#define ROOM (24u << 20)
#define ITEMS 4000

static size_t
write_random(struct sp_rec_writer *w, struct item *it, uint8_t *room)
{
	size_t used = 0, n;

	for (n = 0; n < ITEMS && used < ROOM - 70000; n++) {
		size_t f = rnd(6), len = rnd(20) == 0 ? rnd(65536) : rnd(200);
		enum sp_err e;

		it[n] = (struct item){.lane = forms[f].lane,
		    .kind = forms[f].kind, .chan = rnd(5), .off = used, .n = len};
		fill(room + used, len, rnd(3) != 0);
		e = sp_rec_writer_put(w, it[n].lane, it[n].kind, it[n].chan,
		    sp_span_of(room + used, len));
		if (e == SP_ERR_TOOBIG) {
			cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
			n--;
			continue;
		}
		cr_assert_eq(e, SP_OK);
		used += len;
		if (rnd(3) == 0)
			cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	}
	cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	return n;
}

/* Each lane gives its records back in order, byte by byte. */
static void
check_random(struct sp_rec_decoder *d, const struct item *it, size_t n,
    const uint8_t *room)
{
	size_t next[4] = {0}, seen = 0;
	struct sp_rec_record r;
	uint64_t last = 0;
	enum sp_err e;

	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK) {
		size_t *k = &next[r.lane];

		if (r.kind == SP_RECORD_META || r.kind == SP_RECORD_END)
			continue;
		while (*k < n && it[*k].lane != r.lane)
			(*k)++;
		cr_assert(*k < n);
		cr_assert_eq(r.kind, it[*k].kind);
		cr_assert_eq(r.chan, it[*k].chan);
		cr_assert(sp_span_eq(r.data,
		    sp_span_of(room + it[*k].off, it[*k].n)));
		cr_assert(r.at_us + 60000000 > last);
		last = r.at_us;
		(*k)++;
		seen++;
	}
	cr_assert_eq(e, SP_ERR_EOF, "%s", sp_err_text(e));
	cr_assert_eq(seen, n);
}

Test(recording, random_frames_come_back)
{
	static struct item it[ITEMS];
	struct rec_vault v;
	uint8_t session[16] = {7}, *room = malloc(ROOM);
	struct sp_rec_lane_keys keys;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_report r;
	struct sp_rec_totals t;
	struct sp_rec_writer *w;
	int fd = rec_file();
	size_t n;

	cr_assert_not_null(room);
	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	n = write_random(w, it, room);
	cr_assert_eq(sp_rec_writer_close(w, SP_END_KILLED, sp_span_str("why")),
	    SP_OK);
	sp_rec_writer_totals(w, &t);
	sp_rec_writer_free(w);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, t.head, &r), SP_REC_INTACT,
	    "%s", r.text);
	cr_assert_eq(r.code, SP_END_KILLED);
	cr_assert_str_eq(r.reason, "why");
	cr_assert_eq(r.chunks, t.chunks);
	cr_assert_eq(r.file_bytes, t.file_bytes);
	cr_assert_eq(r.bytes_in, t.bytes_in);
	cr_assert(r.bytes_out > 100000 && r.bytes_out == t.bytes_out);
	keys = rec_keys(&v, fd);
	cr_assert_eq(sp_rec_decoder_new(fd, &keys, &d), SP_OK);
	check_random(d, it, n, room);
	cr_assert_eq(sp_rec_decoder_seek(d, 0), SP_OK);
	check_random(d, it, n, room);
	sp_rec_decoder_free(d);
	free(room);
	close(fd);
}

/* A small recording with every type of chunk but RECOVERED. */
static struct sp_buf
small(const struct rec_vault *v, const char *text, bool with_close,
    uint8_t head[static 32])
{
	uint8_t session[16];
	struct sp_rec_writer *w;
	struct sp_rec_totals t;
	struct sp_buf b;
	int64_t again;
	int fd = rec_file();

	randombytes_buf(session, 16);
	w = rec_begin(v, fd, session);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
		    sp_span_str(text)), SP_OK);
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_IN, SP_RECORD_IN, 1,
		    sp_span_str("key")), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		cr_assert_eq(sp_rec_writer_tick(w, INT64_MAX / 2, &again), SP_OK);
	}
	if (with_close)
		cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("bye")), SP_OK);
	sp_rec_writer_totals(w, &t);
	memcpy(head, t.head, 32);
	sp_rec_writer_free(w);
	cr_assert_eq(lseek(fd, 0, SEEK_END), (off_t)t.file_bytes);
	b = rec_slurp(fd);
	close(fd);
	return b;
}

static enum sp_rec_verdict
judge(const struct rec_vault *v, struct sp_span s, const uint8_t *known)
{
	struct sp_rec_report r;
	int fd = rec_memfd(s);
	enum sp_rec_verdict verdict = sp_rec_verify(fd, v->audit_pk, known, &r);

	close(fd);
	return verdict;
}

static bool
is_bad(enum sp_rec_verdict v)
{
	return v == SP_REC_CUT || v == SP_REC_FORGED || v == SP_REC_UNKNOWN;
}

static void
flip_all(const struct rec_vault *v, struct sp_buf *b, enum sp_rec_verdict good)
{
	int fd = rec_memfd(sp_buf_span(b));
	struct sp_rec_report r;

	cr_assert_eq(sp_rec_verify(fd, v->audit_pk, NULL, &r), good);
	for (size_t i = 0; i < b->len * 8; i++) {
		uint8_t was = b->p[b->off + i / 8], now = was;
		enum sp_rec_verdict got;

		now ^= (uint8_t)(1u << (i % 8));
		cr_assert_eq(pwrite(fd, &now, 1, (off_t)(i / 8)), 1);
		got = sp_rec_verify(fd, v->audit_pk, NULL, &r);
		cr_assert(is_bad(got), "bit %zu of byte %zu: %s", i % 8, i / 8,
		    sp_rec_verdict_name(got));
		cr_assert_eq(pwrite(fd, &was, 1, (off_t)(i / 8)), 1);
	}
	/* And each byte as something else altogether. */
	for (size_t i = 0; i < b->len; i++) {
		uint8_t was = b->p[b->off + i], now = (uint8_t)(was + 1 + rnd(255));
		enum sp_rec_verdict got;

		cr_assert_eq(pwrite(fd, &now, 1, (off_t)i), 1);
		got = sp_rec_verify(fd, v->audit_pk, NULL, &r);
		cr_assert(is_bad(got), "byte %zu as %u: %s", i, now,
		    sp_rec_verdict_name(got));
		cr_assert_eq(pwrite(fd, &was, 1, (off_t)i), 1);
	}
	close(fd);
}

Test(recording, every_bit_flip_is_seen)
{
	struct rec_vault v;
	uint8_t head[32];
	struct sp_buf b;

	rec_vault_make(&v);
	b = small(&v, "hello", true, head);
	flip_all(&v, &b, SP_REC_INTACT);
	sp_buf_fini(&b);
}

Test(recording, every_bit_flip_of_a_running_one_is_seen)
{
	struct rec_vault v;
	uint8_t head[32];
	struct sp_buf b;

	rec_vault_make(&v);
	b = small(&v, "hello", false, head);
	flip_all(&v, &b, SP_REC_OPEN);
	sp_buf_fini(&b);
}

Test(recording, every_cut_is_seen)
{
	struct rec_vault v;
	uint8_t head[32];
	struct sp_buf b;

	rec_vault_make(&v);
	b = small(&v, "hello", true, head);
	cr_assert_eq(judge(&v, sp_buf_span(&b), head), SP_REC_INTACT);
	for (size_t n = 0; n < b.len; n++) {
		enum sp_rec_verdict got = judge(&v, sp_span_of(b.p, n), NULL);

		/* Between two chunks only the audit log can tell. */
		cr_assert(got == SP_REC_CUT || got == SP_REC_OPEN);
		cr_assert_eq(judge(&v, sp_span_of(b.p, n), head), SP_REC_CUT);
	}
	sp_buf_fini(&b);
}

Test(recording, nothing_may_follow_the_end)
{
	struct rec_vault v;
	uint8_t head[32];
	struct sp_buf b;

	rec_vault_make(&v);
	b = small(&v, "hello", true, head);
	for (size_t n = 1; n < 200; n += 13) {
		uint8_t junk[200] = {0};
		SP_BUF_AUTO c = {.max = b.len + 256};

		cr_assert_eq(sp_buf_put(&c, b.p, b.len), SP_OK);
		cr_assert_eq(sp_buf_put(&c, junk, n), SP_OK);
		cr_assert_eq(judge(&v, sp_buf_span(&c), NULL), SP_REC_FORGED);
	}
	sp_buf_fini(&b);
}

/* Where the chunks of a file stand. */
struct cut {
	uint64_t off, size;
};
static size_t
chunks_of(struct sp_span s, struct cut *c, size_t max)
{
	struct sp_rec_file *f = NULL;
	struct sp_rec_chunk k;
	int fd = rec_memfd(s);
	size_t n = 0;

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	while (n < max && sp_rec_file_next(f, &k) == SP_REC_STEP_CHUNK)
		c[n++] = (struct cut){k.off, k.size};
	sp_rec_file_close(f);
	close(fd);
	return n;
}

static void
put_chunk(struct sp_buf *o, const struct sp_buf *b, struct cut c)
{
	cr_assert_eq(sp_buf_put(o, b->p + c.off, (size_t)c.size), SP_OK);
}

Test(recording, chunks_cannot_be_dropped_swapped_or_doubled)
{
	struct rec_vault v;
	struct cut c[64];
	uint8_t head[32];
	struct sp_buf b;
	size_t n;

	rec_vault_make(&v);
	b = small(&v, "hello", true, head);
	n = chunks_of(sp_buf_span(&b), c, 64);
	cr_assert(n >= 10, "%zu chunks", n);
	for (int what = 0; what < 3; what++)
		for (size_t i = 0; i < n; i++) {
			SP_BUF_AUTO o = {.max = 2 * b.len};
			enum sp_rec_verdict got;

			cr_assert_eq(sp_buf_put(&o, b.p, (size_t)c[0].off), SP_OK);
			for (size_t k = 0; k < n; k++) {
				size_t from = k;

				if (what == 0 && k == i)
					continue;
				if (what == 1 && (k == i || k == (i + 1) % n))
					from = k == i ? (i + 1) % n : i;
				put_chunk(&o, &b, c[from]);
				if (what == 2 && k == i)
					put_chunk(&o, &b, c[k]);
			}
			got = judge(&v, sp_buf_span(&o), head);
			cr_assert(is_bad(got), "%d at %zu of %zu: %s", what, i, n,
			    sp_rec_verdict_name(got));
		}
	sp_buf_fini(&b);
}

Test(recording, two_cannot_be_spliced)
{
	struct rec_vault v;
	struct cut c[64], d[64];
	uint8_t h1[32], h2[32];
	struct sp_buf a, b;
	size_t n;

	rec_vault_make(&v);
	a = small(&v, "hello", true, h1);
	b = small(&v, "hello", true, h2);
	n = chunks_of(sp_buf_span(&a), c, 64);
	cr_assert_eq(chunks_of(sp_buf_span(&b), d, 64), n);
	for (size_t i = 0; i < n; i++) {
		SP_BUF_AUTO o = {.max = 2 * b.len};

		cr_assert_eq(sp_buf_put(&o, a.p, (size_t)c[i].off), SP_OK);
		cr_assert_eq(sp_buf_put(&o, b.p + d[i].off,
		    (size_t)(b.len - d[i].off)), SP_OK);
		cr_assert_eq(judge(&v, sp_buf_span(&o), NULL), SP_REC_FORGED);
	}
	/* A whole other one in its place is what the audit log shows. */
	cr_assert_eq(judge(&v, sp_buf_span(&b), h1), SP_REC_FORGED);
	cr_assert_eq(judge(&v, sp_buf_span(&b), h2), SP_REC_INTACT);
	sp_buf_fini(&a);
	sp_buf_fini(&b);
}

Test(recording, another_vault_is_unknown)
{
	struct rec_vault v, other;
	uint8_t head[32];
	struct sp_buf b;

	rec_vault_make(&v);
	rec_vault_make(&other);
	b = small(&v, "hello", true, head);
	cr_assert_eq(judge(&other, sp_buf_span(&b), NULL), SP_REC_UNKNOWN);
	cr_assert_eq(judge(&v, sp_span_str("#!/bin/sh\necho not a recording\n"),
	    NULL), SP_REC_UNKNOWN);
	cr_assert_eq(judge(&v, sp_span_of("", 0), NULL), SP_REC_CUT);
	sp_buf_fini(&b);
}

/* Somebody without keys rebuilds the chain over what he changed. */
Test(recording, a_rebuilt_chain_is_forged)
{
	struct rec_vault v;
	struct sp_rec_crypto cr;
	struct cut c[64];
	uint8_t head[32], chain[32];
	struct sp_buf b;
	size_t n;

	rec_vault_make(&v);
	b = small(&v, "hello", true, head);
	n = chunks_of(sp_buf_span(&b), c, 64);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	b.p[c[2].off + SP_REC_OVERHEAD] ^= 1;
	cr_assert_eq(sp_rec_sha256(&cr, sp_span_of(b.p, (size_t)c[0].off), chain),
	    SP_OK);
	for (size_t i = 0; i < n; i++) {
		uint8_t *p = b.p + c[i].off;

		cr_assert_eq(sp_rec_chain(&cr, chain, p, sp_span_of(
		    p + SP_REC_OVERHEAD, (size_t)c[i].size - SP_REC_OVERHEAD),
		    p + SP_REC_CHUNK_HEADER), SP_OK);
		memcpy(chain, p + SP_REC_CHUNK_HEADER, 32);
	}
	cr_assert_eq(judge(&v, sp_buf_span(&b), NULL), SP_REC_FORGED);
	sp_rec_crypto_fini(&cr);
	sp_buf_fini(&b);
}

Test(recording, a_false_certificate_opens_nothing)
{
	struct rec_vault v, other;
	struct sp_rec_params p = {.fd = rec_file()};
	struct sp_rec_writer *w = NULL;
	uint8_t sig[64];

	rec_vault_make(&v);
	rec_vault_make(&other);
	p.recipients = sp_span_of(v.box_pk, 32);
	cr_assert_eq(sp_rec_writer_new(&p, &w), SP_OK);
	rec_vault_sign_recording(&other, p.session,
	    sp_rec_writer_header(w)->rec_key, sp_rec_writer_header_hash(w),
	    sp_rec_writer_header(w)->t0_wall_us, sig);
	cr_assert_eq(sp_rec_writer_certify(w, v.audit_pk, sig,
	    sp_span_str("{}")), SP_ERR_CRYPTO);
	cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
	    sp_span_str("x")), SP_ERR_STATE);
	sp_rec_writer_free(w);
	close(p.fd);
}

/* Nobody could read it: no recording. No room: no recording. */
Test(recording, refuses_to_begin)
{
	struct rec_vault v;
	struct sp_rec_params p = {.fd = rec_file()};
	struct sp_rec_writer *w = NULL;

	rec_vault_make(&v);
	cr_assert_eq(sp_rec_writer_new(&p, &w), SP_ERR_INVAL);
	p.recipients = sp_span_of(v.box_pk, 32);
	p.reserve_bytes = UINT64_MAX;
	cr_assert_eq(sp_rec_writer_new(&p, &w), SP_ERR_FULL);
	close(p.fd);
}

Test(recording, kinds_have_names)
{
	cr_assert_str_eq(sp_rec_kind_name(SP_RECORD_IN), "in");
	cr_assert_str_eq(sp_rec_kind_name(200), "unknown");
}

/* A few bytes that would become many: the reader stops at its limit. */
Test(recording, a_bomb_is_stopped)
{
	static uint8_t zeros[SP_REC_RAW_MAX];
	struct sp_rec_pack k = {0};
	struct sp_rec_unpack u = {0};
	SP_BUF_AUTO packed = {.max = SP_REC_BODY_MAX};
	SP_BUF_AUTO twice = {.max = SP_REC_BODY_MAX};
	SP_BUF_AUTO out = {.max = SP_REC_RAW_MAX + 1};
	bool is_packed;

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(sp_rec_pack(&k, sp_span_of(zeros, sizeof(zeros)),
		    &packed, &is_packed), SP_OK);
		cr_assert(is_packed && packed.len < 1000);
		cr_assert_eq(sp_buf_put(&twice, packed.p, packed.len), SP_OK);
	}
	cr_assert_eq(sp_rec_unpack(&u, sp_buf_span(&twice), &out),
	    SP_ERR_TOOBIG);
	cr_assert_eq(out.len, SP_REC_RAW_MAX + 1);
	sp_rec_pack_fini(&k);
	sp_rec_unpack_fini(&u);
}

/* Noise is left alone after a while, and text is taken up again. */
Test(recording, noise_is_not_compressed)
{
	static uint8_t noise[8192], text[8192];
	struct sp_rec_pack k = {0};
	SP_BUF_AUTO out = {.max = SP_REC_BODY_MAX};
	unsigned n_noise = 0, n_text = 0;
	bool is_packed;

	fill(text, sizeof(text), true);
	for (int i = 0; i < 100; i++) {
		fill(noise, sizeof(noise), false);
		cr_assert_eq(sp_rec_pack(&k, sp_span_of(noise, sizeof(noise)),
		    &out, &is_packed), SP_OK);
		n_noise += is_packed;
	}
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(sp_rec_pack(&k, sp_span_of(text, sizeof(text)),
		    &out, &is_packed), SP_OK);
		n_text += is_packed;
	}
	cr_assert(n_noise < 10, "%u of 100", n_noise);
	cr_assert(n_text > 120, "%u of 200", n_text);
	sp_rec_pack_fini(&k);
}

/* Times of keys are like noise: in a block of their own they do not spoil the code of
 * the text, and a reader sees one stream. */
Test(recording, times_do_not_spoil_the_text)
{
	struct sp_buf text = {.max = 1 << 20}, columns = text, out = text, back = text;
	const char *words = "ls -l /etc | head; cd /usr/share; grep -r root /etc";
	struct sp_rec_pack k[2] = {{.effort = SP_REC_BEST}, {.effort = SP_REC_BEST}};
	struct sp_rec_unpack u = {0};
	size_t size[2], cut[2];
	bool is_packed;

	for (size_t i = 0; i < 400; i++)
		cr_assert_eq(sp_rec_record_put(&text, 50000 + rnd(200000),
		    SP_RECORD_OUT, 1, sp_span_of(words + i % 50, 1)), SP_OK);
	cr_assert_eq(sp_rec_to_columns(sp_buf_span(&text), &columns), SP_OK);
	sp_rec_columns_cut(sp_buf_span(&columns), cut);
	cr_assert_eq(cut[0], 2u + 800u);
	cr_assert_eq(cut[1], cut[0] + 800u);
	memcpy(k[1].cut, cut, sizeof(cut));
	for (size_t i = 0; i < 2; i++) {
		cr_assert_eq(sp_rec_pack(&k[i], sp_buf_span(&columns), &out,
		    &is_packed), SP_OK);
		cr_assert(is_packed);
		size[i] = out.len;
		sp_rec_pack_fini(&k[i]);
	}
	cr_assert_lt(size[1], size[0]);
	cr_assert_eq(sp_rec_unpack_new_segment(&u), SP_OK);
	cr_assert_eq(sp_rec_unpack(&u, sp_buf_span(&out), &back), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&back), sp_buf_span(&columns)));
	sp_rec_unpack_fini(&u);
	sp_buf_fini(&text);
	sp_buf_fini(&columns);
	sp_buf_fini(&out);
	sp_buf_fini(&back);
}

/* Signed 5 s after the first byte that no signature covers, or after 1 MiB. */
Test(recording, a_checkpoint_each_5_s_or_mebibyte)
{
	static uint8_t block[60000];
	struct rec_vault v;
	uint8_t session[16] = {1};
	struct sp_rec_writer *w;
	int64_t again, at;
	int fd = rec_file();
	size_t since = 0;
	uint64_t n;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	cr_assert_eq(sp_rec_writer_tick(w, sp_boot_us() + 6000000, &again), SP_OK);
	n = sp_rec_writer_checkpoints(w);
	at = sp_boot_us();
	cr_assert_eq(sp_rec_writer_put(w, SP_LANE_IN, SP_RECORD_IN, 1,
	    sp_span_str("k")), SP_OK);
	cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	cr_assert_eq(sp_rec_writer_tick(w, at + 4900000, &again), SP_OK);
	cr_assert_eq(sp_rec_writer_checkpoints(w), n);
	cr_assert_leq(again, sp_boot_us() + 5000000);
	cr_assert_eq(sp_rec_writer_tick(w, sp_boot_us() + 5000000, &again), SP_OK);
	cr_assert_eq(sp_rec_writer_checkpoints(w), n + 1);
	for (int i = 0; i < 60; i++) {
		fill(block, sizeof(block), false);
		n = sp_rec_writer_checkpoints(w);
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
		    sp_span_of(block, sizeof(block))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		since = sp_rec_writer_checkpoints(w) > n ? 0 : since +
		    sizeof(block);
		cr_assert_lt(since, 1u << 20);
	}
	cr_assert_geq(sp_rec_writer_checkpoints(w), 3u);
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("")), SP_OK);
	sp_rec_writer_free(w);
	close(fd);
}

/* A record's time is the clock's, no two have the same, and each is read back as it
 * was told, whatever stands between: checkpoints, bulk, a packed tail. */
Test(recording, times_are_the_clocks, .timeout = 60)
{
	enum { N = 4000 };
	static uint8_t block[20000];
	static uint64_t told[N];
	uint8_t session[16] = {1};
	struct sp_rec_lane_keys keys;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct rec_vault v;
	struct sp_rec_writer *w;
	int64_t t0, again, wait;
	int fd = rec_file();
	size_t n = 0;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	t0 = sp_rec_writer_header(w)->t0_boot_us;
	for (size_t i = 0; i < N; i++) {
		size_t len = rnd(300) == 0 ? sizeof(block) : 1 + rnd(20);
		int64_t before, after;

		for (wait = sp_boot_us() + rnd(60); sp_boot_us() < wait;)
			;
		before = sp_boot_us();
		cr_assert_eq(sp_rec_writer_put(w, rnd(2) + 1, rnd(2) == 0 ?
		    SP_RECORD_OUT : SP_RECORD_ERR, 1, sp_span_of(block, len)), SP_OK);
		after = sp_boot_us();
		told[i] = sp_rec_writer_last_us(w);
		cr_assert_geq(t0 + (int64_t)told[i], before);
		cr_assert_lt(t0 + (int64_t)told[i], after + 16);
		cr_assert(i == 0 || told[i] > told[i - 1]);
		if (rnd(3) == 0)
			cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		if (rnd(20) == 0)
			cr_assert_eq(sp_rec_writer_tick(w, sp_boot_us() + (rnd(9) == 0 ?
			    61000000 : 5000000), &again), SP_OK);
	}
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("")), SP_OK);
	sp_rec_writer_free(w);
	keys = rec_keys(&v, fd);
	cr_assert_eq(sp_rec_decoder_new(fd, &keys, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK) {
		if (r.lane == SP_LANE_META)
			continue;
		cr_assert_lt(n, (size_t)N);
		cr_assert_eq(r.at_us, told[n], "record %zu", n);
		n++;
	}
	cr_assert_eq(n, (size_t)N);
	sp_rec_decoder_free(d);
	close(fd);
}

/* What is on the disk does not open with the key that is in memory later: the
 * state of a segment gives nothing of those before it. */
Test(recording, keys_do_not_go_back)
{
	struct rec_vault v;
	uint8_t session[16] = {1};
	struct sp_rec_lane_keys keys;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct sp_rec_writer *w;
	static uint8_t block[60000];
	int fd = rec_file();
	enum sp_err e = SP_OK;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
		    sp_span_of(block, sizeof(block))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	}
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("")), SP_OK);
	sp_rec_writer_free(w);
	keys = rec_keys(&v, fd);
	/* As if the first state were that of the second segment. */
	for (uint8_t l = 0; l < SP_REC_LANES; l++)
		cr_assert_eq(sp_rec_ratchet(keys.key[l], (uint8_t)(l + 1), 0),
		    SP_OK);
	cr_assert_eq(sp_rec_decoder_new(fd, &keys, &d), SP_OK);
	e = sp_rec_decoder_next(d, &r);
	cr_assert_eq(e, SP_ERR_CRYPTO, "%s", sp_err_text(e));
	sp_rec_decoder_free(d);
	close(fd);
}

/* Seeking gives the same records from there on as reading through. */
Test(recording, seeking_finds_the_same)
{
	static uint8_t block[60000];
	struct rec_vault v;
	uint8_t session[16] = {1};
	struct sp_rec_lane_keys keys;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct sp_rec_writer *w;
	uint64_t times[64], end = 0;
	int fd = rec_file();
	size_t n = 0;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	for (uint8_t i = 0; i < 40; i++) {
		fill(block, sizeof(block), i % 2 == 0);
		block[0] = i;
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
		    sp_span_of(block, sizeof(block))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
	}
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("")), SP_OK);
	sp_rec_writer_free(w);
	keys = rec_keys(&v, fd);
	cr_assert_eq(sp_rec_decoder_new(fd, &keys, &d), SP_OK);
	cr_assert_eq(sp_rec_decoder_scan(d, &end), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK)
		if (r.kind == SP_RECORD_OUT && n < 64)
			times[n++] = r.at_us;
	cr_assert_eq(n, 40);
	cr_assert(end >= times[39]);
	for (uint8_t i = 0; i < 40; i += 3) {
		cr_assert_eq(sp_rec_decoder_seek(d, times[i]), SP_OK);
		do
			cr_assert_eq(sp_rec_decoder_next(d, &r), SP_OK);
		while (r.kind != SP_RECORD_OUT || r.data.p[0] != i);
		cr_assert_eq(r.at_us, times[i]);
	}
	sp_rec_decoder_free(d);
	close(fd);
}
