/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_PERF_REC_MAKE_H
#define SP_TESTS_PERF_REC_MAKE_H

/* Recordings for measurements, made by the recorder's own writer. */
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/stream.h"
#include "common/text.h"
#include "recorder/read.h"
#include "recorder/term/term.h"
#include "recorder/view.h"
#include "recorder/writer.h"

static inline void
must(enum sp_err e, const char *what)
{
	if (e == SP_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, sp_err_text(e));
	exit(1);
}

static inline uint32_t
rnd(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 16);
}

/* A writer that has its OPEN, certified by a key that nobody else knows. */
static inline struct sp_rec_writer *
make_begin_by(int fd, const uint8_t session[16], const uint8_t recipient[32],
    uint8_t pk[32])
{
	struct sp_rec_params p = {.fd = fd,
	    .recipients = sp_span_of(recipient, 32)};
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	struct sp_rec_writer *w = NULL;
	uint8_t sk[64], sig[64];

	memcpy(p.session, session, 16);
	crypto_sign_keypair(pk, sk);
	must(sp_rec_writer_new(&p, &w), "writer");
	must(sp_signed_recording(&b, session, sp_rec_writer_header(w)->rec_key,
	    sp_rec_writer_header_hash(w), sp_rec_writer_header(w)->t0_wall_us),
	    "sign");
	crypto_sign_detached(sig, NULL, b.p + b.off, b.len, sk);
	must(sp_rec_writer_certify(w, pk, sig, sp_span_str("{}")), "certify");
	return w;
}

static inline struct sp_rec_writer *
make_begin(int fd, const uint8_t session[16], const uint8_t recipient[32])
{
	uint8_t pk[32];

	return make_begin_by(fd, session, recipient, pk);
}

static inline void
make_put(struct sp_rec_writer *w, enum sp_lane lane, uint8_t kind,
    struct sp_span s)
{
	must(sp_rec_writer_put(w, lane, kind, 1, s), "put");
}

static inline void
make_shell(struct sp_rec_writer *w)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = 1, .cols = 120,
	    .rows = 40, .term = sp_span_str("xterm")};
	SP_BUF_AUTO b = {.max = 4096};

	must(sp_open_encode(&b, &o), "open");
	make_put(w, SP_LANE_OUT, SP_RECORD_OPEN, sp_buf_span(&b));
}

/* The screen, read along as a scribe does. */
struct make_scribe {
	struct sp_term *t;
	size_t since;
};
#define MAKE_FRAME_BYTES (512u << 10)

/* Output, and a keyframe when one is due. */
static inline void
make_out(struct sp_rec_writer *w, struct make_scribe *m, struct sp_span s)
{
	SP_BUF_AUTO state = {.max = SP_VIEW_STATE_MAX};
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX + 64};
	struct sp_view_keyframe k = {.cols = 120, .rows = 40};

	make_put(w, SP_LANE_OUT, SP_RECORD_OUT, s);
	if (m == NULL)
		return;
	if (m->t == NULL)
		must(sp_term_new(120, 40, NULL, NULL, &m->t), "term");
	sp_term_feed(m->t, s);
	m->since += s.n;
	if (m->since < MAKE_FRAME_BYTES)
		return;
	m->since = 0;
	must(sp_term_dump(m->t, &state), "dump");
	k.at_us = sp_rec_writer_last_us(w);
	k.state = sp_buf_span(&state);
	must(sp_view_keyframe_encode(&b, &k), "keyframe");
	make_put(w, SP_LANE_VIEW, SP_RECORD_KEYFRAME, sp_buf_span(&b));
}

static inline void
make_end(struct sp_rec_writer *w)
{
	must(sp_rec_writer_close(w, SP_END_NORMAL, sp_span_str("over")), "close");
	sp_rec_writer_free(w);
}

/* A line as a shell shows it: words, numbers, some colour. */
static inline size_t
make_line(char *o, size_t cap)
{
	static const char *const words[] = {"drwxr-xr-x", "root", "config", "error",
	    "GET /api/v1/orders", "kernel:", "Nov 23", "systemd[1]:", "SELECT id",
	    "connection", "from 10.20.30.40", "started", "postgres", "192.168.7.12"};
	int n = snprintf(o, cap, "\033[3%um%s\033[0m %08x %s %s %06u %08x%08x\r\n",
	    rnd() % 8, words[rnd() % 14], rnd(), words[rnd() % 14],
	    words[rnd() % 14], rnd() % 1000000, rnd(), rnd());

	return n < 0 ? 0 : (size_t)n;
}

#endif
