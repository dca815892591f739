/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_REC_SUPPORT_H
#define SP_TESTS_REC_SUPPORT_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder/format.h"
#include "recorder/read.h"
#include "recorder/writer.h"

/* A vault for tests: the audit key and one recipient. */
struct rec_vault {
	uint8_t audit_pk[32], audit_sk[64], box_pk[32], box_sk[32];
};

static inline void
rec_vault_make(struct rec_vault *v)
{
	cr_assert(sodium_init() >= 0);
	cr_assert_eq(crypto_sign_keypair(v->audit_pk, v->audit_sk), 0);
	cr_assert_eq(crypto_box_keypair(v->box_pk, v->box_sk), 0);
}

static inline void
rec_vault_sign_recording(const struct rec_vault *v, const uint8_t *session,
    const uint8_t *rec_key, const uint8_t *header_hash, int64_t opened_us,
    uint8_t sig[static 64])
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};

	cr_assert_eq(sp_signed_recording(&b, session, rec_key, header_hash,
	    opened_us), SP_OK);
	cr_assert_eq(crypto_sign_detached(sig, NULL, b.p + b.off, b.len,
	    v->audit_sk), 0);
}

static inline void
rec_vault_sign_recovered(const struct rec_vault *v, const uint8_t *session,
    const uint8_t *head, uint64_t chunks, int64_t at_us, uint8_t sig[static 64])
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};

	cr_assert_eq(sp_signed_close(&b, true, session, head, chunks, at_us),
	    SP_OK);
	cr_assert_eq(crypto_sign_detached(sig, NULL, b.p + b.off, b.len,
	    v->audit_sk), 0);
}

static inline int
rec_file(void)
{
	char name[] = "/tmp/sp-rec-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	cr_assert(fd >= 0);
	cr_assert_eq(unlink(name), 0);
	return fd;
}

/* A writer that has its OPEN record. */
static inline struct sp_rec_writer *
rec_begin(const struct rec_vault *v, int fd, const uint8_t session[static 16])
{
	struct sp_rec_params p = {.fd = fd,
	    .recipients = sp_span_of(v->box_pk, 32)};
	struct sp_rec_writer *w = NULL;
	uint8_t sig[64];

	memcpy(p.session, session, 16);
	cr_assert_eq(sp_rec_writer_new(&p, &w), SP_OK);
	rec_vault_sign_recording(v, session, sp_rec_writer_header(w)->rec_key,
	    sp_rec_writer_header_hash(w), sp_rec_writer_header(w)->t0_wall_us, sig);
	cr_assert_eq(sp_rec_writer_certify(w, v->audit_pk, sig,
	    sp_span_str("{\"user\":\"alice\"}")), SP_OK);
	return w;
}

static inline struct sp_rec_lane_keys
rec_keys(const struct rec_vault *v, int fd)
{
	struct sp_rec_lane_keys k = {0};
	struct sp_rec_file *f = NULL;

	cr_assert_eq(sp_rec_file_open(fd, &f), SP_OK);
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		struct sp_rec_opened o;

		if (sp_rec_file_header(f)->lane[l].n == 0)
			continue;
		cr_assert_eq(sp_rec_lane_open(sp_rec_file_header(f),
		    (uint8_t)(l + 1), 0, v->box_pk, v->box_sk, &o), SP_OK);
		cr_assert_eq(sp_rec_lane_join(&o, 1, k.key[l]), SP_OK);
		k.has[l] = true;
	}
	sp_rec_file_close(f);
	return k;
}

static inline struct sp_buf
rec_slurp(int fd)
{
	off_t n = lseek(fd, 0, SEEK_END);
	struct sp_buf b = {.max = (size_t)n + 1};
	uint8_t *at;

	cr_assert_eq(sp_buf_reserve(&b, (size_t)n + 1, &at), SP_OK);
	cr_assert_eq(pread(fd, at, (size_t)n, 0), n);
	sp_buf_commit(&b, (size_t)n);
	return b;
}

static inline int
rec_memfd(struct sp_span s)
{
	int fd = memfd_create("rec", MFD_CLOEXEC);

	cr_assert(fd >= 0);
	cr_assert_eq(pwrite(fd, s.p, s.n, 0), (ssize_t)s.n);
	return fd;
}

/* A chunk with its signature, behind those that stand in b. */
static inline void
rec_add_signed(struct sp_buf *b, uint8_t chain[static 32], const uint8_t *sk,
    struct sp_rec_chunk_header h, struct sp_buf *body)
{
	SP_BUF_AUTO text = {.max = 2048};
	uint8_t head[SP_REC_CHUNK_HEADER], sig[64];
	struct sp_rec_crypto cr;

	h.len = (uint32_t)body->len + SP_REC_SIG;
	sp_rec_chunk_header_encode(head, &h);
	cr_assert_eq(sp_rec_signed_chunk(&text, chain, head, sp_buf_span(body)),
	    SP_OK);
	crypto_sign_detached(sig, NULL, text.p + text.off, text.len, sk);
	cr_assert_eq(sp_buf_put(body, sig, 64), SP_OK);
	cr_assert_eq(sp_rec_crypto_init(&cr), SP_OK);
	cr_assert_eq(sp_rec_chain(&cr, chain, head, sp_buf_span(body), chain),
	    SP_OK);
	sp_rec_crypto_fini(&cr);
	cr_assert_eq(sp_buf_put(b, head, sizeof(head)), SP_OK);
	cr_assert_eq(sp_buf_put(b, chain, 32), SP_OK);
	cr_assert_eq(sp_buf_put(b, body->p + body->off, body->len), SP_OK);
	sp_buf_reset(body);
}

#endif
