/* SPDX-License-Identifier: Apache-2.0 */
/* Who opens which lane, what is derived, and what a reader skips. */
#include "tests/unit/rec_support.h"

#include "common/text.h"

#define PEOPLE 4

struct person {
	uint8_t pk[32], sk[32];
};

static struct person people[PEOPLE];
static uint8_t session[16] = {3, 1, 4};

static struct sp_rec_params
params_for_people(int fd, uint8_t keys[static PEOPLE * 32])
{
	struct sp_rec_params p = {.fd = fd};

	for (size_t i = 0; i < PEOPLE; i++) {
		cr_assert_eq(crypto_box_keypair(people[i].pk, people[i].sk), 0);
		memcpy(keys + 32 * i, people[i].pk, 32);
	}
	memcpy(p.session, session, 16);
	p.recipients = sp_span_of(keys, PEOPLE * 32);
	return p;
}

static struct sp_rec_writer *
certified(const struct rec_vault *v, const struct sp_rec_params *p)
{
	struct sp_rec_writer *w = NULL;
	uint8_t sig[64];

	cr_assert_eq(sp_rec_writer_new(p, &w), SP_OK);
	rec_vault_sign_recording(v, session, sp_rec_writer_header(w)->rec_key,
	    sp_rec_writer_header_hash(w), sp_rec_writer_header(w)->t0_wall_us, sig);
	cr_assert_eq(sp_rec_writer_certify(w, v->audit_pk, sig,
	    sp_span_str("{}")), SP_OK);
	return w;
}

static void
end(struct sp_rec_writer *w)
{
	cr_assert_eq(sp_rec_writer_close(w, 0, sp_span_str("bye")), SP_OK);
	sp_rec_writer_free(w);
}

/* The lane's key from these people, a bit each. */
static enum sp_err
key_of(int fd, uint8_t lane, unsigned who, uint8_t key[static 32])
{
	struct sp_rec_opened o[PEOPLE];
	struct sp_rec_file *f = NULL;
	enum sp_err e = SP_OK;
	size_t n = 0;

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	for (size_t i = 0; i < PEOPLE && e == SP_OK; i++)
		if ((who >> i & 1) != 0)
			e = sp_rec_lane_open(sp_rec_file_header(f), lane, i,
			    people[i].pk, people[i].sk, &o[n++]);
	if (e == SP_OK)
		e = sp_rec_lane_join(o, n, key);
	sp_rec_file_close(f);
	return e;
}

Test(recording_lanes, each_lane_has_its_people)
{
	struct rec_vault v;
	uint8_t keys[PEOPLE * 32], a[32], b[32];
	int fd = rec_file();
	struct sp_rec_params p = params_for_people(fd, keys);
	struct sp_rec_lane_keys k = {0};
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct sp_rec_report rep;
	struct sp_rec_writer *w;
	bool has_in = false;

	rec_vault_make(&v);
	p.openers[SP_LANE_OUT - 1] = (struct sp_rec_openers){1, 0x3};
	p.openers[SP_LANE_IN - 1] = (struct sp_rec_openers){2, 0xe};
	w = certified(&v, &p);
	cr_assert_eq(sp_rec_writer_put(w, SP_LANE_IN, SP_RECORD_IN, 1,
	    sp_span_str("typed")), SP_OK);
	end(w);
	cr_assert_eq(sp_rec_verify(fd, v.audit_pk, NULL, &rep), SP_REC_INTACT);

	/* One of two for the screen, two of three for the keys. */
	cr_assert_eq(key_of(fd, SP_LANE_OUT, 0x1, a), SP_OK);
	cr_assert_eq(key_of(fd, SP_LANE_OUT, 0x2, b), SP_OK);
	cr_assert_eq(memcmp(a, b, 32), 0);
	cr_assert_eq(key_of(fd, SP_LANE_OUT, 0x4, a), SP_ERR_NOTFOUND);
	cr_assert_eq(key_of(fd, SP_LANE_IN, 0x1, a), SP_ERR_NOTFOUND);
	cr_assert_eq(key_of(fd, SP_LANE_IN, 0x2, a), SP_ERR_AGAIN);
	cr_assert_eq(key_of(fd, SP_LANE_IN, 0x6, a), SP_OK);
	cr_assert_eq(key_of(fd, SP_LANE_IN, 0xc, b), SP_OK);
	cr_assert_eq(memcmp(a, b, 32), 0);
	cr_assert_eq(key_of(fd, SP_LANE_IN, 0xe, b), SP_OK);
	cr_assert_eq(memcmp(a, b, 32), 0);
	/* A lane of which nothing was said is for everybody. */
	cr_assert_eq(key_of(fd, SP_LANE_VIEW, 0x8, b), SP_OK);

	memcpy(k.key[SP_LANE_IN - 1], a, 32);
	k.has[SP_LANE_IN - 1] = true;
	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK)
		has_in |= r.kind == SP_RECORD_IN && sp_span_is(r.data, "typed");
	cr_assert(has_in);
	sp_rec_decoder_free(d);
	close(fd);
}

Test(recording_lanes, false_boxes_open_nothing)
{
	struct rec_vault v;
	uint8_t keys[PEOPLE * 32];
	int fd = rec_file();
	struct sp_rec_params p = params_for_people(fd, keys);
	struct sp_rec_opened o, q[2];
	struct sp_rec_file *f = NULL;
	struct sp_rec_header *h = malloc(sizeof(*h));
	SP_BUF_AUTO boxes = {.max = 4096};
	uint8_t key[32], n = 0;

	rec_vault_make(&v);
	cr_assert(h != NULL);
	p.openers[SP_LANE_IN - 1] = (struct sp_rec_openers){2, 0x3};
	end(certified(&v, &p));
	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	*h = *sp_rec_file_header(f);
	sp_rec_file_close(f);
	cr_assert_eq(sp_rec_lane_open(h, 1, 0, people[1].pk, people[1].sk, &o),
	    SP_ERR_CRYPTO, "another's box");
	cr_assert_eq(sp_rec_lane_open(h, 0, 0, people[0].pk, people[0].sk, &o),
	    SP_ERR_NOTFOUND);
	/* The box of one group in the place of another's, or said to be of more. */
	h->lane[2].group = SP_GROUP_BIT(3);
	cr_assert_eq(sp_rec_lane_open(h, 3, 0, people[0].pk, people[0].sk, &o),
	    SP_ERR_DENIED);
	h->lane[2].group = 0x1f;
	cr_assert_eq(sp_rec_lane_open(h, 3, 0, people[0].pk, people[0].sk, &o),
	    SP_ERR_DENIED);
	cr_assert_eq(h->lane[0].group, 0x1d);
	h->lane[2].group = 0x1d;
	/* One share given twice is one share. */
	cr_assert_eq(sp_rec_lane_open(h, 2, 0, people[0].pk, people[0].sk, &q[0]),
	    SP_OK);
	q[1] = q[0];
	cr_assert_eq(sp_rec_lane_join(q, 2, key), SP_ERR_EXISTS);
	/* What the vault is asked for never holds a lane that takes two. */
	cr_assert_eq(sp_rec_sealed_keys(h, 0, UINT32_MAX, &boxes, &n), SP_OK);
	cr_assert_eq(n, 1, "the others are one group");
	cr_assert_eq(boxes.len, 1 + SP_GROUP_SEALED_BYTES);
	h->session[0] ^= 1;
	cr_assert_eq(sp_rec_lane_open(h, 1, 0, people[0].pk, people[0].sk, &o),
	    SP_ERR_DENIED);
	free(h);
	close(fd);
}

Test(recording_lanes, openers_that_cannot_be)
{
	static const struct sp_rec_openers bad[] = {{1, 0}, {2, 0x1}, {1, 0x10},
	    {5, 0xf}};
	uint8_t keys[PEOPLE * 32];

	cr_assert(sodium_init() >= 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = rec_file();
		struct sp_rec_params p = params_for_people(fd, keys);
		struct sp_rec_writer *w = NULL;

		p.openers[3] = bad[i];
		cr_assert_eq(sp_rec_writer_new(&p, &w), SP_ERR_INVAL, "%zu", i);
		close(fd);
	}
}

/* A chunk that begins with a keyframe is found by its header alone. */
Test(recording_lanes, a_keyframe_is_found_without_a_key)
{
	static const uint8_t kinds[] = {SP_RECORD_LINE, SP_RECORD_KEYFRAME,
	    SP_RECORD_LINE, SP_RECORD_KEYFRAME};
	struct rec_vault v;
	int fd = rec_file();
	struct sp_rec_lane_keys k;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_file *f = NULL;
	struct sp_rec_writer *w;
	struct sp_rec_record r;
	struct sp_rec_chunk c;
	uint64_t at[4];
	unsigned plain = 0, marked = 0, seen = 0;

	rec_vault_make(&v);
	w = rec_begin(&v, fd, session);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(sp_rec_writer_put(w, SP_LANE_VIEW, kinds[i], 1,
		    sp_span_str("x")), SP_OK);
		at[i] = sp_rec_writer_last_us(w);
		cr_assert(i == 0 || at[i] > at[i - 1], "no two have one time");
	}
	end(w);

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	while (sp_rec_file_next(f, &c) == SP_REC_STEP_CHUNK)
		if (c.h.type == SP_REC_DATA_CHUNK && c.h.lane == SP_LANE_VIEW)
			*((c.h.flags & SP_REC_F_KEYFRAME) != 0 ? &marked : &plain) += 1;
	sp_rec_file_close(f);
	cr_assert_eq(plain, 1);
	cr_assert_eq(marked, 1);

	k = rec_keys(&v, fd);
	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK) {
		if (r.lane != SP_LANE_VIEW)
			continue;
		cr_assert_eq(r.kind, kinds[seen]);
		cr_assert_eq(r.at_us, at[seen]);
		seen++;
	}
	cr_assert_eq(seen, 4);
	sp_rec_decoder_free(d);
	close(fd);
}

/* Lanes that the same people open have one box for each of them, and keys of their
 * own. */
Test(recording_lanes, a_group_is_sealed_once)
{
	static struct sp_rec_header h;
	struct sp_rec_opened o;
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};
	uint8_t group[32], keys[SP_REC_LANES][32], is[32], pk[32], sk[32];

	cr_assert(sodium_init() >= 0);
	cr_assert_eq(crypto_box_keypair(pk, sk), 0);
	randombytes_buf(group, sizeof(group));
	memcpy(h.recipient[0], pk, 32);
	h.n_recipients = 1;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		h.lane[l].n = h.lane[l].threshold = 1;
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_ERR_INVAL, "no group yet");
	cr_assert_eq(sp_rec_group_of(&h, 1), 0x1f);
	cr_assert_eq(sp_rec_group_seal(&h, 0x1f, group), SP_OK);
	sp_buf_reset(&b);
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(b.len, 84 + 32 + 2 + 2 + 1 + 98);
	for (uint8_t l = 1; l <= SP_REC_LANES; l++) {
		cr_assert_eq(sp_rec_lane_open(&h, l, 0, pk, sk, &o), SP_OK);
		cr_assert_eq(sp_rec_lane_join(&o, 1, keys[l - 1]), SP_OK);
		cr_assert_eq(sp_lane_of_group(group, l, is), SP_OK);
		cr_assert_eq(memcmp(is, keys[l - 1], 32), 0);
		cr_assert_neq(memcmp(is, group, 32), 0);
		cr_assert(l == 1 || memcmp(is, keys[l - 2], 32) != 0);
	}
}

struct bad_group {
	size_t at;
	uint8_t to;
};

/* A later version of us may name more lanes: they are passed over. */
Test(recording_lanes, unknown_lanes_are_skipped)
{
	/* The same lane twice, none, an order that is not theirs, a recipient that is
	 * none, more than there are. */
	static const struct bad_group bad[] = {{1, 0}, {0, 1}, {2, 2}, {3, 2},
	    {4, 1}, {2, 0}};
	static struct sp_rec_header h, got;
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};
	uint8_t more[4 + 1 + SP_GROUP_SEALED_BYTES] = {0, 1, 1, 1, 0}, key[32] = {0};
	struct sp_span s;

	h.n_recipients = 1;
	cr_assert_eq(crypto_scalarmult_base(h.recipient[0], key), 0);
	for (size_t l = 0; l < SP_REC_LANES; l++)
		h.lane[l].n = h.lane[l].threshold = 1;
	cr_assert_eq(sp_rec_group_seal(&h, 0x1f, key), SP_OK);
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(sp_buf_put(&b, more, sizeof(more)), SP_OK);
	s = sp_buf_span(&b);
	b.p[b.off + 80]++;
	cr_assert_eq(sp_rec_header_decode(s, &got), SP_ERR_PROTO);
	b.p[b.off + 12] = (uint8_t)s.n;
	b.p[b.off + 13] = (uint8_t)(s.n >> 8);
	cr_assert_eq(sp_rec_header_decode(s, &got), SP_OK);
	cr_assert_eq(got.lanes, 0x23eu);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t *p = b.p + b.off + s.n - sizeof(more) + bad[i].at, was = *p;

		*p = bad[i].to;
		cr_assert_eq(sp_rec_header_decode(s, &got), SP_ERR_PROTO, "%zu", i);
		*p = was;
	}
	/* Lane 6 alone would stand behind 1 to 5, lane 5 and 9 share one with them. */
	b.p[b.off + s.n - sizeof(more)] = 0x10;
	cr_assert_eq(sp_rec_header_decode(s, &got), SP_ERR_PROTO);
	b.p[b.off + s.n - sizeof(more)] = 0x20;
	cr_assert_eq(sp_rec_header_decode(s, &got), SP_OK);
	cr_assert_eq(got.lanes, 0x27eu);
}

/* Version 3 and 4 had a box for each lane. */
Test(recording_lanes, a_header_of_version_4_is_read)
{
	static struct sp_rec_header h, got;
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};
	SP_BUF_AUTO boxes = {.max = 4096};
	struct sp_rec_opened o;
	uint8_t plain[49], pk[32], sk[32], key[32], n = 0;

	cr_assert(sodium_init() >= 0);
	cr_assert_eq(crypto_box_keypair(pk, sk), 0);
	h.version = 4;
	h.n_recipients = 1;
	memcpy(h.recipient[0], pk, 32);
	for (uint8_t l = 1; l <= SP_REC_LANES; l++) {
		h.lane[l - 1].n = h.lane[l - 1].threshold = 1;
		memset(plain, l, 32);
		memcpy(plain + 32, h.session, 16);
		plain[48] = l;
		cr_assert_eq(crypto_box_seal(h.lane[l - 1].box[0], plain,
		    sizeof(plain), pk), 0);
	}
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(b.len, 84 + 32 + 5 * (3 + 1 + 97));
	cr_assert_eq(sp_rec_header_decode(sp_buf_span(&b), &got), SP_OK);
	cr_assert_eq(got.version, 4);
	cr_assert_eq(got.lanes, 0x3eu);
	for (uint8_t l = 1; l <= SP_REC_LANES; l++) {
		cr_assert_eq(sp_rec_lane_open(&got, l, 0, pk, sk, &o), SP_OK);
		cr_assert_eq(sp_rec_lane_join(&o, 1, key), SP_OK);
		cr_assert(key[0] == l && key[31] == l);
	}
	cr_assert_eq(sp_rec_sealed_keys(&got, 0, 1u << 1 | 1u << 5, &boxes, &n),
	    SP_OK);
	cr_assert_eq(n, 2);
	cr_assert_eq(boxes.len, 2 * 98);
	cr_assert_eq(boxes.p[boxes.off + 98], 5);
}

/* A clear or sealed chunk as it is. */
static void
add_chunk(struct sp_buf *b, uint8_t chain[static 32], struct sp_rec_chunk_header h,
    struct sp_span body)
{
	uint8_t head[SP_REC_CHUNK_HEADER];
	struct sp_rec_crypto cr;

	h.len = (uint32_t)body.n;
	sp_rec_chunk_header_encode(head, &h);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_chain(&cr, chain, head, body, chain), SP_OK);
	sp_rec_crypto_fini(&cr);
	cr_assert_eq(sp_buf_put(b, head, sizeof(head)), SP_OK);
	cr_assert_eq(sp_buf_put(b, chain, 32), SP_OK);
	cr_assert_eq(sp_buf_put(b, body.p, body.n), SP_OK);
}

/* A record of a kind that is not known, and behind it one that is. */
static void
add_records(struct sp_buf *b, uint8_t chain[static 32],
    const uint8_t state[static 32], struct sp_rec_chunk_header h)
{
	SP_BUF_AUTO text = {.max = 200};
	uint8_t key[32], body[200];
	struct sp_rec_crypto cr;

	cr_assert_eq(sp_rec_record_put(&text, 0, 200, 1, sp_span_str("new")), SP_OK);
	cr_assert_eq(sp_rec_record_put(&text, 1, SP_RECORD_OUT, 1,
	    sp_span_str("known")), SP_OK);
	h.len = (uint32_t)text.len + SP_REC_TAG;
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_chunk_key(state, h.lane, h.segment, key), SP_OK);
	cr_assert_eq(sp_rec_seal(&cr, key, chain, &h, sp_buf_span(&text), body),
	    SP_OK);
	sp_rec_crypto_fini(&cr);
	add_chunk(b, chain, h, sp_span_of(body, h.len));
}

/* As a later version of us may write it: a lane, a type of chunk and a kind of
 * record that this one does not know. */
static struct sp_buf
from_the_future(const struct rec_vault *v, const uint8_t state[static 32])
{
	static struct sp_rec_header h = {.version = 4, .t0_wall_us = 1,
	    .n_recipients = 1, .lane = {{.threshold = 1, .n = 1},
	    {.threshold = 1, .n = 1}, {.threshold = 1, .n = 1},
	    {.threshold = 1, .n = 1}, {.threshold = 1, .n = 1}}};
	static const uint8_t lane[3 + 1 + SP_LANE_SEALED_BYTES] = {9, 1, 1, 0};
	uint8_t sk[64], chain[32], sig[64], unread[40];
	struct sp_buf b = {.max = 8192};
	SP_BUF_AUTO body = {.max = 1024};
	struct sp_rec_crypto cr;

	crypto_sign_keypair(h.rec_key, sk);
	randombytes_buf(unread, sizeof(unread));
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(sp_buf_put(&b, lane, sizeof(lane)), SP_OK);
	b.p[b.off + 80]++;
	b.p[b.off + 12] = (uint8_t)b.len;
	b.p[b.off + 13] = (uint8_t)(b.len >> 8);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_sha256(&cr, sp_buf_span(&b), chain), SP_OK);
	sp_rec_crypto_fini(&cr);
	rec_vault_sign_recording(v, h.session, h.rec_key, chain, 1, sig);
	cr_assert_eq(sp_buf_put(&body, v->audit_pk, 32), SP_OK);
	cr_assert_eq(sp_buf_put(&body, sig, 64), SP_OK);
	rec_add_signed(&b, chain, sk, (struct sp_rec_chunk_header){
	    .type = SP_REC_OPEN_CHUNK}, &body);
	add_chunk(&b, chain, (struct sp_rec_chunk_header){.lane = 9, .seq = 1,
	    .type = SP_REC_DATA_CHUNK}, sp_span_of(unread, sizeof(unread)));
	add_chunk(&b, chain, (struct sp_rec_chunk_header){.type = 77, .lane = 4,
	    .flags = 0xfff0, .seq = 2}, sp_span_of(unread, 7));
	add_records(&b, chain, state, (struct sp_rec_chunk_header){.seq = 3,
	    .lane = SP_LANE_OUT, .type = SP_REC_DATA_CHUNK});
	for (int i = 0; i < 3; i++)
		cr_assert_eq(sp_buf_put_u64(&body, 0), SP_OK);
	cr_assert_eq(sp_buf_put_u8(&body, 0), SP_OK);
	cr_assert_eq(sp_buf_put_bytes(&body, sp_span_str("bye")), SP_OK);
	rec_add_signed(&b, chain, sk, (struct sp_rec_chunk_header){
	    .type = SP_REC_CLOSE_CHUNK, .seq = 4}, &body);
	return b;
}

static enum sp_rec_verdict
judged(const struct rec_vault *v, const struct sp_buf *b)
{
	int fd = rec_memfd(sp_buf_span(b));
	struct sp_rec_report r;
	enum sp_rec_verdict got = sp_rec_verify(fd, v->audit_pk, NULL, &r);

	close(fd);
	return got;
}

Test(recording_lanes, what_is_not_known_is_passed_over)
{
	struct sp_rec_lane_keys k = {0};
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct sp_rec_file *f = NULL;
	struct rec_vault v;
	struct sp_buf b;
	int fd;

	rec_vault_make(&v);
	randombytes_buf(k.key[0], 32);
	k.has[0] = true;
	b = from_the_future(&v, k.key[0]);
	cr_assert_eq(judged(&v, &b), SP_REC_INTACT);
	fd = rec_memfd(sp_buf_span(&b));
	cr_assert_eq(sp_rec_decoder_new(fd, &k, &d), SP_OK);
	cr_assert_eq(sp_rec_decoder_next(d, &r), SP_OK);
	cr_assert_str_eq(sp_rec_kind_name(r.kind), "unknown");
	cr_assert_eq(sp_rec_decoder_next(d, &r), SP_OK);
	cr_assert(r.kind == SP_RECORD_OUT && sp_span_is(r.data, "known"));
	cr_assert_eq(sp_rec_decoder_next(d, &r), SP_ERR_EOF);
	sp_rec_decoder_free(d);
	close(fd);
	/* No byte of it is free for that. */
	for (size_t i = 0; i < b.len; i++) {
		b.p[b.off + i] ^= 0x20;
		cr_assert_neq(judged(&v, &b), SP_REC_INTACT, "byte %zu", i);
		b.p[b.off + i] ^= 0x20;
	}
	/* Other algorithms: nothing of it is guessed at. */
	b.p[b.off + SP_REC_MAGIC_BYTES + 1] = 2;
	cr_assert_eq(judged(&v, &b), SP_REC_UNKNOWN);
	fd = rec_memfd(sp_buf_span(&b));
	cr_assert_neq(sp_rec_file_open(fd, &f), SP_OK);
	close(fd);
	sp_buf_fini(&b);
}

/* Version 2 had three lanes, each for all: a header of it is read. */
Test(recording_lanes, a_header_of_version_2_is_read)
{
	static struct sp_rec_header h, got;
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};

	h.version = 2;
	h.n_recipients = 2;
	for (size_t l = 0; l < SP_REC_LANES_OLD; l++)
		h.lane[l] = (struct sp_rec_lane_seal){.threshold = 1, .n = 2,
		    .who = {0, 1}};
	h.lane[2].box[1][96] = 77;
	cr_assert_eq(sp_rec_header_encode(&b, &h), SP_OK);
	cr_assert_eq(b.len, 84 + 64 + 3 * (1 + 2 * 97));
	cr_assert_eq(sp_rec_header_decode(sp_buf_span(&b), &got), SP_OK);
	cr_assert_eq(got.version, 2);
	cr_assert_eq(got.lanes, 0xeu);
	cr_assert_eq(got.lane[2].box[1][96], 77);
	cr_assert_eq(got.lane[3].n, 0);
}
