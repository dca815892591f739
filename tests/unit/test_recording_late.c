/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes behind large chunks: with the public key alone every change shows, a
 * missing hash is no end, a crash leaves nothing unhashed, and another key
 * opens nothing.
 */
#include <sys/wait.h>

#include "recorder/behind.h"
#include "recorder/recover.h"
#include "tests/unit/rec_support.h"

#define BIG (SP_REC_BEHIND_FROM + 6000)	/* random: it stays larger */

static uint8_t noise[BIG];
static uint8_t session[16] = {3};

static void
put_big(struct sp_rec_writer *w)
{
	randombytes_buf(noise, sizeof(noise));
	cr_assert_eq(sp_rec_writer_put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
	    sp_span_of(noise, sizeof(noise))), SP_OK);
	cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
}

/* As time does when nothing happens: the hash is written. */
static void
let_it_hash(struct sp_rec_writer *w)
{
	int64_t again;

	cr_assert_eq(sp_rec_writer_tick(w, INT64_MAX / 2, &again), SP_OK);
}

static void
finish(struct sp_rec_writer *w)
{
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("bye")), SP_OK);
	sp_rec_writer_free(w);
}

static size_t
chunks(const struct sp_buf *b, struct sp_rec_chunk *c, size_t max)
{
	int fd = rec_memfd(sp_buf_span(b));
	struct sp_rec_file *f = NULL;
	size_t n = 0;

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	while (sp_rec_file_next(f, &c[n]) == SP_REC_STEP_CHUNK)
		cr_assert(++n < max);
	sp_rec_file_close(f);
	close(fd);
	return n;
}

static const struct sp_rec_chunk *
late_one(const struct sp_rec_chunk *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((c[i].h.flags & SP_REC_F_BEHIND) != 0)
			return &c[i];
	cr_assert_fail("no chunk is hashed behind");
	return NULL;
}

/* The chain over the whole file, made anew: what someone can do who has all but
 * the keys that sign. */
static void
rebuild_chain(struct sp_buf *b, const struct sp_rec_chunk *c, size_t n)
{
	struct sp_rec_crypto cr;
	uint8_t chain[32];

	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_sha256(&cr, sp_span_of(b->p, (size_t)c[0].off),
	    chain), SP_OK);
	for (size_t i = 0; i < n; i++) {
		uint8_t *p = b->p + c[i].off;

		cr_assert_eq(sp_rec_chain(&cr, chain, p, sp_rec_chained(&c[i].h,
		    sp_span_of(p + SP_REC_OVERHEAD, c[i].h.len)),
		    p + SP_REC_CHUNK_HEADER), SP_OK);
		memcpy(chain, p + SP_REC_CHUNK_HEADER, 32);
	}
	sp_rec_crypto_fini(&cr);
}

static enum sp_rec_verdict
judge(const struct rec_vault *v, const struct sp_buf *b,
    struct sp_rec_report *r)
{
	int fd = rec_memfd(sp_buf_span(b));
	enum sp_rec_verdict got = sp_rec_verify(fd, v->audit_pk, NULL, r);

	close(fd);
	return got;
}

static enum sp_err
decode_all(const struct rec_vault *v, const struct sp_buf *b, uint64_t *bytes)
{
	int fd = rec_memfd(sp_buf_span(b));
	struct sp_rec_lane_keys k = rec_keys(v, fd);
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	*bytes = 0;
	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK)
		if (r.kind == SP_RECORD_OUT) {
			*bytes += r.data.n;
			cr_assert(r.data.n != BIG ||
			    memcmp(r.data.p, noise, BIG) == 0 || *bytes < 3 * BIG);
		}
	sp_rec_decoder_free(d);
	close(fd);
	return e;
}

/* Two that were hashed in peace, a third that only the end hashes. */
static struct sp_buf
three(const struct rec_vault *v)
{
	int fd = rec_file();
	struct sp_rec_writer *w = rec_begin(v, fd, session);
	struct sp_buf b;

	put_big(w);
	put_big(w);
	let_it_hash(w);
	put_big(w);
	finish(w);
	b = rec_slurp(fd);
	close(fd);
	return b;
}

Test(recording_late, every_change_is_seen_without_a_key, .timeout = 300)
{
	struct sp_rec_chunk c[32];
	struct sp_rec_report r;
	struct rec_vault v;
	struct sp_buf b;
	uint64_t bytes;
	size_t n, late = 0;
	int fd;

	rec_vault_make(&v);
	b = three(&v);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_INTACT, "%s", r.text);
	cr_assert_eq(r.unhashed + r.late, 0);
	cr_assert_eq(decode_all(&v, &b, &bytes), SP_ERR_EOF);
	cr_assert_eq(bytes, 3 * BIG);
	n = chunks(&b, c, 32);
	for (size_t i = 0; i < n; i++)
		late += (c[i].h.flags & SP_REC_F_BEHIND) != 0;
	cr_assert_eq(late, 3);
	fd = rec_memfd(sp_buf_span(&b));
	for (size_t i = 0; i < b.len; i++) {
		size_t in = 0;	/* deep in a body one byte of many stands for all */
		uint8_t was = b.p[b.off + i], now;

		for (size_t k = 0; k < n; k++)
			if (c[k].h.len > BIG && i > c[k].off + 200 &&
			    i + 200 < c[k].off + c[k].size)
				in = 1;
		for (unsigned bit = 0; bit < 8; bit++) {
			if (in != 0 && (i % 509 != 0 || bit != i % 8))
				continue;
			now = was ^ (uint8_t)(1u << bit);
			cr_assert_eq(pwrite(fd, &now, 1, (off_t)i), 1);
			cr_assert_neq(sp_rec_verify(fd, v.audit_pk, NULL, &r),
			    SP_REC_INTACT, "byte %zu bit %u", i, bit);
		}
		cr_assert_eq(pwrite(fd, &was, 1, (off_t)i), 1);
	}
	close(fd);
	sp_buf_fini(&b);
}

/* A holder of the lane's key can make another text with the same tag: the hash
 * that was signed does not fit it. */
Test(recording_late, a_key_holder_cannot_forge)
{
	const struct sp_rec_chunk *one;
	struct sp_rec_chunk c[32];
	struct sp_rec_crypto cr;
	struct sp_rec_report r;
	struct rec_vault v;
	struct sp_buf b;
	size_t n;

	rec_vault_make(&v);
	b = three(&v);
	n = chunks(&b, c, 32);
	one = late_one(c, n);
	/* The tag stays as it is, so the chain fits. */
	b.p[one->off + SP_REC_OVERHEAD + 17] ^= 4;
	cr_assert_eq(judge(&v, &b, &r), SP_REC_FORGED);
	cr_assert_not_null(strstr(r.text, "not those that were hashed"));
	/* Nor does it help to hash it again: HASHES is signed by what follows. */
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	for (size_t i = 0; i < n; i++)
		if (c[i].h.type == SP_REC_HASHES_CHUNK) {
			cr_assert_eq(sp_rec_sha256(&cr, sp_span_of(b.p +
			    one->off + SP_REC_OVERHEAD, one->h.len),
			    b.p + c[i].off + SP_REC_OVERHEAD + 8), SP_OK);
			break;
		}
	rebuild_chain(&b, c, n);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_FORGED);
	cr_assert_not_null(strstr(r.text, "false signature"), "%s", r.text);
	sp_rec_crypto_fini(&cr);
	sp_buf_fini(&b);
}

static void
drop(struct sp_buf *b, const struct sp_rec_chunk *c)
{
	memmove(b->p + c->off, b->p + c->off + c->size,
	    b->len - (size_t)(c->off + c->size));
	b->len -= (size_t)c->size;
}

Test(recording_late, hashes_cannot_be_left_out_or_swapped)
{
	struct sp_rec_chunk c[32];
	struct sp_rec_report r;
	struct rec_vault v;
	struct sp_buf b;
	size_t n;

	rec_vault_make(&v);
	b = three(&v);
	n = chunks(&b, c, 32);
	for (size_t i = n; i-- > 0;)
		if (c[i].h.type == SP_REC_HASHES_CHUNK) {
			struct sp_buf t = rec_slurp(rec_memfd(sp_buf_span(&b)));

			drop(&t, &c[i]);
			cr_assert_eq(judge(&v, &t, &r), SP_REC_FORGED);
			sp_buf_fini(&t);
		}
	/* The hashes of the first and second in the other order. */
	for (size_t i = 0; i < n; i++)
		if (c[i].h.type == SP_REC_HASHES_CHUNK && c[i].h.len == 80) {
			uint8_t *p = b.p + c[i].off + SP_REC_OVERHEAD, t[40];

			memcpy(t, p, 40);
			memmove(p, p + 40, 40);
			memcpy(p + 40, t, 40);
		}
	rebuild_chain(&b, c, n);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_FORGED);
	sp_buf_fini(&b);
}

Test(recording_late, a_running_one_says_what_is_not_hashed_yet)
{
	struct sp_rec_chunk c[32];
	struct sp_rec_report r;
	struct rec_vault v;
	int fd = rec_file();
	struct sp_rec_writer *w;
	struct sp_buf b;
	uint64_t bytes;
	size_t n;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	put_big(w);
	b = rec_slurp(fd);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_OPEN);
	cr_assert_eq(r.unhashed, 1);
	cr_assert_not_null(strstr(r.text, "1 not yet hashed"));
	n = chunks(&b, c, 32);
	/* Until then the tag alone guards the bytes, and the key sees it. */
	b.p[late_one(c, n)->off + SP_REC_OVERHEAD + 5] ^= 1;
	cr_assert_eq(judge(&v, &b, &r), SP_REC_OPEN);
	cr_assert_eq(decode_all(&v, &b, &bytes), SP_ERR_CRYPTO);
	sp_buf_fini(&b);
	/* Then the signature covers them. */
	let_it_hash(w);
	b = rec_slurp(fd);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_OPEN);
	cr_assert_eq(r.unhashed, 0);
	cr_assert_eq(r.signed_chunks, r.chunks);
	sp_rec_writer_free(w);
	sp_buf_fini(&b);
	close(fd);
}

/* Another key than the one that was committed to opens nothing, even where the
 * tag of AES-GCM would fit. */
Test(recording_late, the_commitment_is_to_one_key)
{
	struct sp_rec_chunk c[32];
	const struct sp_rec_chunk *one;
	struct rec_vault v;
	int fd = rec_file();
	struct sp_rec_writer *w;
	struct sp_buf b;
	uint64_t bytes;
	size_t n;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	put_big(w);
	b = rec_slurp(fd);
	n = chunks(&b, c, 32);
	cr_assert_eq(decode_all(&v, &b, &bytes), SP_ERR_EOF);
	one = late_one(c, n);
	b.p[one->off + one->size - 1] ^= 1;
	rebuild_chain(&b, c, n);
	cr_assert_eq(decode_all(&v, &b, &bytes), SP_ERR_CRYPTO);
	cr_assert_eq(bytes, 0);
	sp_rec_writer_free(w);
	sp_buf_fini(&b);
	close(fd);
}

static void
recover(const struct rec_vault *v, int fd)
{
	struct sp_msg_rec_seal seal = {.at_us = sp_now_us()};
	struct sp_msg_rec_recovered m;
	struct sp_packet p;
	struct sp_link l;
	int fds[2], st;
	pid_t pid;

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	if ((pid = fork()) == 0) {
		close(fds[0]);
		_exit(sp_recover_run(fd, fds[1], session));
	}
	close(fds[1]);
	cr_assert_eq(sp_link_init(&l, fds[0], SP_ROLE_BRK, SP_ROLE_REC,
	    SP_ST_NEW), SP_OK);
	do	/* what of it is for the transparency log comes first */
		cr_assert_eq(sp_link_wait(&l, &p, 60000), SP_OK);
	while (p.type == SP_MSG_rec_point);
	cr_assert_eq(p.type, SP_MSG_rec_recovered);
	cr_assert_eq(sp_dec_rec_recovered(p.body, &m), SP_OK);
	l.state = SP_ST_READY;
	rec_vault_sign_recovered(v, session, m.head, m.chunks, seal.at_us,
	    seal.signature);
	cr_assert_eq(sp_send_rec_seal(&l, 0, &seal, NULL), SP_OK);
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert_eq(st, 0);
	sp_link_fini(&l);
}

Test(recording_late, a_crash_leaves_nothing_unhashed, .timeout = 120)
{
	struct sp_rec_chunk c[32];
	struct sp_rec_report r;
	struct rec_vault v;
	int fd = rec_file();
	struct sp_rec_writer *w;
	struct sp_buf b;
	size_t n;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	put_big(w);
	let_it_hash(w);
	put_big(w);
	put_big(w);
	sp_rec_writer_free(w);		/* dies here */
	recover(&v, fd);
	b = rec_slurp(fd);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_RECOVERED, "%s", r.text);
	cr_assert_eq(r.late, 2);
	cr_assert_not_null(strstr(r.text, "2 chunks were hashed only then"));
	n = chunks(&b, c, 32);
	for (size_t i = 0; i < n; i++) {
		size_t at = (size_t)(c[i].off + SP_REC_OVERHEAD + c[i].h.len / 2);

		b.p[at] ^= 0x10;
		cr_assert_eq(judge(&v, &b, &r), SP_REC_FORGED, "chunk %zu", i);
		b.p[at] ^= 0x10;
	}
	sp_buf_fini(&b);
	close(fd);
}

/* What stands in a tail is moved, so its hash never waits: also a screen of more than
 * 64 KiB, which is no bulk, and whoever dies behind it loses none of it. */
Test(recording_late, a_large_screen_in_a_tail_is_hashed_at_once, .timeout = 120)
{
	static uint8_t screen[100u << 10];
	struct rec_vault v;
	struct sp_rec_report r;
	struct sp_buf b;
	uint64_t bytes;

	randombytes_buf(screen, sizeof(screen));
	for (int dies = 0; dies < 2; dies++) {
		int fd = rec_file();
		struct sp_rec_writer *w = (rec_vault_make(&v),
		    rec_begin(&v, fd, session));

		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_VIEW, SP_RECORD_OUT, 1,
		    sp_span_of(screen, sizeof(screen))), SP_OK);
		cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
		cr_assert_eq(sp_rec_writer_owes(w), 0);
		if (dies == 0)
			cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL,
			    sp_span_str("over")), SP_OK);
		sp_rec_writer_free(w);
		if (dies != 0)
			recover(&v, fd);
		b = rec_slurp(fd);
		cr_assert_eq(judge(&v, &b, &r), dies != 0 ? SP_REC_RECOVERED :
		    SP_REC_INTACT, "%s", r.text);
		cr_assert_eq(r.late, 0);
		cr_assert_eq(decode_all(&v, &b, &bytes), SP_ERR_EOF);
		cr_assert_eq(bytes, sizeof(screen));
		sp_buf_fini(&b);
		close(fd);
	}
}

/* A file of the first version, made by hand: header, OPEN, CLOSE. */
Test(recording_late, the_first_version_is_still_read)
{
	static struct sp_rec_header h = {.version = 1, .t0_wall_us = 1,
	    .n_recipients = 1, .lane = {{.threshold = 1, .n = 1},
	    {.threshold = 1, .n = 1}, {.threshold = 1, .n = 1}}};
	SP_BUF_AUTO b = {.max = 8192};
	SP_BUF_AUTO body = {.max = 1024};
	uint8_t sk[64], chain[32], sig[64];
	struct sp_rec_report r;
	struct sp_rec_crypto cr;
	struct rec_vault v;

	rec_vault_make(&v);
	crypto_sign_keypair(h.rec_key, sk);
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(b.p[b.off + SP_REC_MAGIC_BYTES], 1);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_sha256(&cr, sp_buf_span(&b), chain), SP_OK);
	sp_rec_crypto_fini(&cr);
	rec_vault_sign_recording(&v, h.session, h.rec_key, chain, 1, sig);
	cr_assert_eq(sp_buf_put(&body, v.audit_pk, 32), SP_OK);
	cr_assert_eq(sp_buf_put(&body, sig, 64), SP_OK);
	rec_add_signed(&b, chain, sk, (struct sp_rec_chunk_header){
	    .type = SP_REC_OPEN_CHUNK}, &body);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(sp_buf_put_u64(&body, 0), SP_OK);
	cr_assert_eq(sp_buf_put_u8(&body, 0), SP_OK);
	cr_assert_eq(sp_buf_put_bytes(&body, sp_span_str("bye")), SP_OK);
	rec_add_signed(&b, chain, sk, (struct sp_rec_chunk_header){
	    .type = SP_REC_CLOSE_CHUNK, .seq = 1}, &body);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_INTACT, "%s", r.text);
}

/* Whoever makes a header of his own has its key, and needs the vault for OPEN
 * alone: numbers may be left out, OPEN may not. */
static void
judge_without_open(uint8_t type, uint64_t seq)
{
	static struct sp_rec_header h = {.version = 4, .t0_wall_us = 1,
	    .n_recipients = 1, .lane = {{.threshold = 1, .n = 1},
	    {.threshold = 1, .n = 1}, {.threshold = 1, .n = 1},
	    {.threshold = 1, .n = 1}, {.threshold = 1, .n = 1}}};
	SP_BUF_AUTO b = {.max = 8192};
	SP_BUF_AUTO body = {.max = 1024};
	uint8_t sk[64], chain[32];
	struct sp_rec_report r;
	struct sp_rec_crypto cr;
	struct rec_vault v;

	rec_vault_make(&v);
	crypto_sign_keypair(h.rec_key, sk);
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_sha256(&cr, sp_buf_span(&b), chain), SP_OK);
	sp_rec_crypto_fini(&cr);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(sp_buf_put_u64(&body, 0), SP_OK);
	if (type == SP_REC_CLOSE_CHUNK) {
		cr_assert_eq(sp_buf_put_u8(&body, 0), SP_OK);
		cr_assert_eq(sp_buf_put_bytes(&body, sp_span_str("bye")), SP_OK);
	}
	rec_add_signed(&b, chain, sk, (struct sp_rec_chunk_header){.type = type,
	    .seq = seq}, &body);
	cr_assert_eq(judge(&v, &b, &r), SP_REC_FORGED, "type %u, seq %llu: %s",
	    type, (unsigned long long)seq, r.text);
}

Test(recording_late, without_open_it_is_forged)
{
	for (uint64_t seq = 0; seq < 3; seq++) {
		judge_without_open(SP_REC_CLOSE_CHUNK, seq);
		judge_without_open(SP_REC_CHECKPOINT_CHUNK, seq);
		judge_without_open(99, seq);
	}
}
