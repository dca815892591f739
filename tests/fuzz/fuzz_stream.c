/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder's judgement on frames. Each frame of the input: u8 side and
 * flags, u8 type, u8 lane, u8 channel, u16 length, payload; flag 2 opens the
 * channel properly, so that the fuzzer need not find an OPEN by itself. */
#include <stdint.h>
#include <string.h>

#include "recorder/channels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever was said: credit is bounded, places are few. */
static void
check(const struct sp_channels *s)
{
	SP_ASSERT(sp_channels_n_open(s) <= 2 * SP_STREAM_CHANNELS_MAX);
	for (size_t i = s->high; i < SP_CHANNELS_PLACES; i++)
		SP_ASSERT(s->c[i].num == 0);
	for (size_t i = 0; i < s->high; i++) {
		const struct sp_channel *c = &s->c[i];

		SP_ASSERT(c->num == 0 ||
		    c->by_target == ((c->num & SP_STREAM_REVERSE) != 0));

		SP_ASSERT(c->to_target <= (UINT64_C(1) << 32));
		SP_ASSERT(c->to_user <= (UINT64_C(1) << 32));
		SP_ASSERT(c->num == 0 || !c->user_closed || !c->target_closed ||
		    c->is_failed);
		for (size_t k = 0; k < i; k++)
			SP_ASSERT(c->num == 0 || s->c[k].num != c->num);
	}
}

/* To what is allowed and to what is not, by kind. */
static enum sp_frame_verdict
open_channel(struct sp_channels *s, uint32_t chan, uint8_t kind)
{
	struct sp_open o = {.kind = (uint8_t)(1 + kind % 7)};
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_frame f = {.type = SP_FRAME_OPEN, .chan = chan};

	if (o.kind > SP_OPEN_LISTEN) {
		o.kind = SP_OPEN_ROTATE;
		o.command = sp_span_str("passwd");
	}
	if (sp_open_is_forward(o.kind)) {
		o.host = sp_span_str(kind < 128 ? "db" : "other");
		o.port = 5432;
	}
	if (o.kind == SP_OPEN_LISTEN) {
		f.type = SP_FRAME_LISTEN;
		if (sp_buf_put_bytes(&b, o.host) != SP_OK ||
		    sp_buf_put_u32(&b, o.port) != SP_OK)
			return SP_FRAME_FAULT;
	} else {
		if (o.kind == SP_OPEN_REVERSE) {
			o.listen = chan & 15;
			f.chan |= SP_STREAM_REVERSE;
		}
		if (sp_open_encode(&b, &o) != SP_OK)
			return SP_FRAME_FAULT;
	}
	f.payload = sp_buf_span(&b);
	return sp_channels_judge(s, &f, o.kind != SP_OPEN_REVERSE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct sp_span in = sp_span_of(p, n);
	static const struct sp_rules rules = {.rights = SP_RIGHT_SHELL |
	    SP_RIGHT_EXEC | SP_RIGHT_FORWARD | SP_RIGHT_LISTEN, .n_forward = 1,
	    .n_listen = 1, .forward = {{.host = "db", .low = 5432, .high = 5432}},
	    .listen = {{.host = "db", .low = 0, .high = 65535}}};
	/* Of an odd input: a rotation's. */
	static const struct sp_rules rotation = {.rights = SP_RIGHT_ROTATE};
	static struct sp_channels s;
	bool rotates = (n & 1) != 0;

	sp_channels_init(&s, rotates ? &rotation : &rules);
	while (in.n > 0) {
		struct sp_frame f = {0};
		uint8_t side = 0, chan = 0;
		uint16_t len = 0;
		const uint8_t *bytes;
		bool from_user;
		enum sp_frame_verdict v;

		if (sp_get_u8(&in, &side) != SP_OK ||
		    sp_get_u8(&in, &f.type) != SP_OK ||
		    sp_get_u8(&in, &f.lane) != SP_OK ||
		    sp_get_u8(&in, &chan) != SP_OK ||
		    sp_get_u16(&in, &len) != SP_OK ||
		    sp_get(&in, len, &bytes) != SP_OK)
			break;
		from_user = (side & 1) != 0;
		f.chan = (uint32_t)chan * ((side & 4) != 0 ? 16843009u : 1u);
		f.chan ^= (side & 8) != 0 ? SP_STREAM_REVERSE : 0;
		f.payload = sp_span_of(bytes, len);
		if (!sp_frame_may(f.type, from_user, len) && (side & 2) == 0)
			continue;
		v = (side & 2) != 0 ? open_channel(&s, f.chan, f.type) :
		    sp_channels_judge(&s, &f, from_user);
		SP_ASSERT((v != SP_FRAME_FAULT && v != SP_FRAME_REFUSE) ||
		    (side & 2) != 0 || s.why[0] != '\0');
		/* Nothing that somebody says goes to the target there. */
		SP_ASSERT(!rotates || v != SP_FRAME_PASS || !from_user ||
		    (side & 2) != 0 || f.type == SP_FRAME_OPEN ||
		    f.type == SP_FRAME_SECRET || f.type == SP_FRAME_CREDIT ||
		    f.type == SP_FRAME_CLOSE);
		SP_ASSERT(rotates || v != SP_FRAME_PASS || (side & 2) != 0 ||
		    (f.type != SP_FRAME_SECRET && f.type != SP_FRAME_WANTS));
		check(&s);
		if (v == SP_FRAME_FAULT)
			break;
	}
	return 0;
}
