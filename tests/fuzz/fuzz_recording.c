/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of recordings. First byte even: the rest is a file. Odd: the rest are
 * the chunks of a file, each u8 type, u8 lane, u8 flags, u8 segments more,
 * u16 length, text, which are sealed and chained with a known key, so that what
 * stands behind the cryptography is reached. */
#include <sodium.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder/find.h"
#include "recorder/read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORDS_MAX 20000

/* Places that nobody walked to: within the file, and found in bounded time. */
static void
find_all(int fd)
{
	static struct sp_rec_finder x;
	struct sp_rec_chunk_header h;
	struct sp_rec_file *f = NULL;
	struct sp_rec_place p;
	struct sp_rec_report r;
	uint8_t audit_key[32] = {1};
	uint32_t segment;

	SP_ASSERT(!sp_rec_peek(fd, audit_key, &r));
	if (sp_rec_file_open(fd, &f) != SP_OK)
		return;
	if (sp_rec_find_open(&x, fd, f) == SP_OK) {
		if (sp_rec_find_last(&x, &p, &h) == SP_OK)
			SP_ASSERT(p.off >= x.start && p.off < x.end);
		for (uint64_t us = 0; us < 1u << 20; us = us * 3 + 1000) {
			if (sp_rec_find_time(&x, us, &p) != SP_OK)
				continue;
			SP_ASSERT(p.off >= x.start && p.off <= x.end);
			if (sp_rec_find_keyframe(&x, p.off, 1u << 20, 1000,
			    &segment) == SP_OK && sp_rec_find_segment(&x,
			    segment, x.end, &p) == SP_OK)
				SP_ASSERT(p.off >= x.start && p.off < x.end);
		}
	}
	sp_rec_file_close(f);
}

static void
read_all(int fd)
{
	struct sp_rec_lane_keys keys = {.has = {true, true, true, true, true}};
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_report r;
	struct sp_rec_record rec;
	uint8_t audit_key[32] = {1};
	uint64_t end;

	find_all(fd);
	sp_rec_verify(fd, audit_key, audit_key, &r);
	/* Nobody signed it. */
	SP_ASSERT(r.verdict == SP_REC_CUT || r.verdict == SP_REC_FORGED ||
	    r.verdict == SP_REC_UNKNOWN);
	SP_ASSERT(r.good_bytes <= r.file_bytes);
	if (sp_rec_decoder_new(fd, &keys, &d) != SP_OK)
		return;
	for (int i = 0; i < RECORDS_MAX &&
	    sp_rec_decoder_next(d, &rec) == SP_OK; i++)
		SP_ASSERT(rec.lane >= 1 && rec.lane <= SP_REC_LANES &&
		    rec.data.n <= SP_REC_RAW_MAX);
	if (sp_rec_decoder_seek(d, 1000) == SP_OK)
		(void)!sp_rec_decoder_next(d, &rec);
	(void)!sp_rec_decoder_scan(d, &end);
	sp_rec_decoder_free(d);
}

static enum sp_err
put_chunk(struct sp_buf *out, struct sp_rec_crypto *c, uint8_t chain[static 32],
    struct sp_rec_chunk_header *h, struct sp_span text)
{
	uint8_t state[32] = {0}, key[32], head[SP_REC_CHUNK_HEADER];
	SP_BUF_AUTO body = {.max = 70000};
	uint8_t *at;

	SP_TRY(sp_buf_reserve(&body, text.n + SP_REC_TAG, &at));
	if (h->type == SP_REC_DATA_CHUNK) {
		h->len = (uint32_t)(text.n + SP_REC_TAG);
		for (uint32_t s = 0; s < h->segment; s++)
			SP_TRY(sp_rec_ratchet(state, h->lane, s));
		SP_TRY(sp_rec_chunk_key(state, h->lane, h->segment, key));
		SP_TRY(sp_rec_seal(c, key, chain, h, text, at));
	} else {
		h->len = (uint32_t)text.n;
		if (text.n > 0)
			memcpy(at, text.p, text.n);
	}
	sp_buf_commit(&body, h->len);
	sp_rec_chunk_header_encode(head, h);
	SP_TRY(sp_rec_chain(c, chain, head, sp_buf_span(&body), chain));
	SP_TRY(sp_buf_put(out, head, sizeof(head)));
	SP_TRY(sp_buf_put(out, chain, 32));
	return sp_buf_put(out, body.p, body.len);
}

static enum sp_err
build(struct sp_span in, struct sp_buf *out)
{
	static struct sp_rec_header h;
	struct sp_rec_chunk_header k = {0};
	struct sp_rec_crypto c;
	uint8_t chain[32], more = 0, flags = 0;
	uint16_t len = 0;
	const uint8_t *p;
	enum sp_err e;

	h.n_recipients = 1;
	for (size_t l = 0; l < SP_REC_LANES; l++)
		h.lane[l].n = h.lane[l].threshold = 1;
	SP_TRY(sp_rec_crypto_init(&c));
	e = sp_rec_header_encode(out, &h);
	if (e == SP_OK)
		e = sp_rec_sha256(&c, sp_buf_span(out), chain);
	while (e == SP_OK && sp_get_u8(&in, &k.type) == SP_OK &&
	    sp_get_u8(&in, &k.lane) == SP_OK &&
	    sp_get_u8(&in, &flags) == SP_OK && sp_get_u8(&in, &more) == SP_OK &&
	    sp_get_u16(&in, &len) == SP_OK && sp_get(&in, len, &p) == SP_OK) {
		k.flags = flags;
		k.segment += more % 20;
		k.at_us += 1000;
		e = put_chunk(out, &c, chain, &k, sp_span_of(p, len));
		k.seq++;
	}
	sp_rec_crypto_fini(&c);
	return e;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	SP_BUF_AUTO file = {.max = 1u << 20};
	int fd;

	if (n < 1 || n > 65536 || sodium_init() < 0)
		return 0;
	if ((p[0] & 1) == 0) {
		if (sp_buf_put(&file, p + 1, n - 1) != SP_OK)
			return 0;
	} else if (build(sp_span_of(p + 1, n - 1), &file) != SP_OK) {
		return 0;
	}
	if ((fd = memfd_create("fuzz", MFD_CLOEXEC)) < 0)
		return 0;
	if (pwrite(fd, file.p + file.off, file.len, 0) == (ssize_t)file.len)
		read_all(fd);
	close(fd);
	return 0;
}
