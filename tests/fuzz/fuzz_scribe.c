/* SPDX-License-Identifier: Apache-2.0 */
/* A recorder and its scribe: the first byte says who is being lied to (odd: the
 * recorder). Then messages: u8 which, u16 length, body. */
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recorder/relay.h"
#include "recorder/scribe/scribe.h"
#include "recorder/term/term.h"

#define FILE_MAX (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sp_relay relay;

static void
new_writer(void)
{
	uint8_t pk[32], sk[64], box[32], box_sk[32], sig[64];
	SP_BUF_AUTO text = {.max = SP_SIGNED_MAX};
	char name[] = "/tmp/sp-fuzz-XXXXXX";
	struct sp_rec_params p = {.session = {1},
	    .fd = mkostemp(name, O_CLOEXEC)};
	const struct sp_rec_origin *o;

	SP_ASSERT(sodium_init() >= 0 && p.fd >= 0 && unlink(name) == 0);
	SP_ASSERT(crypto_sign_keypair(pk, sk) == 0);
	SP_ASSERT(crypto_box_keypair(box, box_sk) == 0);
	p.recipients = sp_span_of(box, 32);
	SP_ASSERT(sp_rec_writer_new(&p, &relay.w) == SP_OK);
	o = sp_rec_writer_header(relay.w);
	SP_ASSERT(sp_signed_recording(&text, o->session, o->rec_key,
	    sp_rec_writer_header_hash(relay.w), o->t0_wall_us) == SP_OK);
	SP_ASSERT(crypto_sign_detached(sig, NULL, text.p + text.off, text.len,
	    sk) == 0);
	SP_ASSERT(sp_rec_writer_certify(relay.w, pk, sig, sp_span_str("{}")) ==
	    SP_OK);
}

static bool
next(struct sp_span *in, uint8_t *which, struct sp_span *body)
{
	const uint8_t *p;
	uint16_t n = 0;

	if (sp_get_u8(in, which) != SP_OK || sp_get_u16(in, &n) != SP_OK ||
	    sp_get(in, n, &p) != SP_OK)
		return false;
	*body = sp_span_of(p, n);
	return true;
}

static void
to_recorder(struct sp_span in)
{
	static const uint16_t types[] = {SP_MSG_scribe_derived,
	    SP_MSG_scribe_keyframe, SP_MSG_scribe_copy};
	struct sp_rec_totals t;
	const char *fault;
	uint8_t which;
	struct sp_packet p = {0};

	if (relay.w == NULL)
		new_writer();
	relay.aside.t[0] = (struct sp_aside_term){.chan = 1, .cols = 80,
	    .rows = 24};
	relay.aside.sent_us = 1000;
	relay.aside.allowed = 1 << 20;
	while (next(&in, &which, &p.body)) {
		p.type = types[which % 3];
		if (sp_aside_take(&relay, &p, &fault) != SP_OK)
			break;
	}
	SP_ASSERT(relay.aside.t[0].state.len <= SP_TERM_DUMP_MAX);
	sp_aside_forget(&relay.aside.t[0]);
	/* It can spoil none of what is recorded. */
	SP_ASSERT(sp_rec_writer_commit(relay.w) == SP_OK);
	sp_rec_writer_totals(relay.w, &t);
	if (t.file_bytes > FILE_MAX)
		exit(0);	/* the fuzzer begins anew */
}

static void
to_scribe(struct sp_span in)
{
	static const uint16_t types[] = {SP_MSG_scribe_begin,
	    SP_MSG_scribe_screen, SP_MSG_scribe_load, SP_MSG_scribe_copy,
	    SP_MSG_scribe_stop, SP_MSG_scribe_derived};
	struct sp_packet p = {0}, said;
	struct sp_link l, back;
	struct sp_scribe s;
	uint8_t which;
	int pair[2];

	SP_ASSERT(sp_link_pair(pair) == SP_OK);
	SP_ASSERT(sp_link_init(&l, pair[0], SP_ROLE_SCR, SP_ROLE_REC,
	    SP_ST_READY) == SP_OK);
	SP_ASSERT(sp_link_init(&back, pair[1], SP_ROLE_REC, SP_ROLE_SCR,
	    SP_ST_READY) == SP_OK);
	sp_scribe_init(&s);
	while (next(&in, &which, &p.body)) {
		p.type = types[which % 6];
		if (sp_scribe_take(&s, &l, &p) != SP_OK)
			break;
		while (sp_link_recv(&back, &said) == SP_OK)
			SP_ASSERT(said.type == SP_MSG_scribe_derived ||
			    said.type == SP_MSG_scribe_keyframe);
	}
	sp_scribe_fini(&s);
	sp_link_fini(&l);
	sp_link_fini(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1 || n > 65536)
		return 0;
	if ((p[0] & 1) != 0)
		to_recorder(sp_span_of(p + 1, n - 1));
	else
		to_scribe(sp_span_of(p + 1, n - 1));
	return 0;
}
