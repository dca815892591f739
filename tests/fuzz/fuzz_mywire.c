/* SPDX-License-Identifier: Apache-2.0 */
/* MariaDB's packets. The first byte says what the rest is: 0 packets of a login, each read as whatever it could be; else a client's
 * commands, which are judged the same in whatever pieces they come. */
#include <stdint.h>
#include <string.h>

#include "common/mywire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
inside(struct sp_span in, struct sp_span part)
{
	SP_ASSERT(part.n == 0 || (part.p >= in.p && part.p + part.n <= in.p + in.n));
}

static void
greeting(struct sp_span body)
{
	SP_BUF_AUTO out = {.max = 600};
	struct sp_my_greeting g, again;
	struct sp_span back;
	size_t need;
	uint8_t seq;

	if (sp_my_greeting_read(body, &g) != SP_OK)
		return;
	SP_ASSERT(memchr(g.version, 0, sizeof(g.version)) != NULL);
	SP_ASSERT(sp_my_greeting_put(&out, &g, g.caps) == SP_OK);
	SP_ASSERT(sp_my_packet(sp_buf_span(&out), &seq, &back, &need) == SP_OK);
	SP_ASSERT(need == out.len && sp_my_greeting_read(back, &again) == SP_OK);
	SP_ASSERT(again.thread == g.thread && again.caps == g.caps &&
	    again.more == g.more && strcmp(again.version, g.version) == 0);
}

static void
login(struct sp_span in)
{
	struct sp_span body, plugin, nonce;
	struct sp_my_wish w;
	size_t need = 0;
	uint8_t seq;

	while (sp_my_packet(in, &seq, &body, &need) == SP_OK) {
		SP_ASSERT(need > 4 && need <= in.n);
		inside(in, body);
		greeting(body);
		if (sp_my_wish_read(body, 0x81bff7feu, &w) == SP_OK) {
			inside(body, w.user);
			inside(body, w.db);
		}
		if (sp_my_switch_read(body, &plugin, &nonce) == SP_OK) {
			inside(body, plugin);
			inside(body, nonce);
		}
		in = sp_span_of(in.p + need, in.n - need);
	}
}

static bool
judged(struct sp_span in, size_t piece)
{
	struct sp_my_watch w = {.left = 0};

	while (in.n > 0) {
		size_t n = in.n < piece ? in.n : piece;

		if (!sp_my_watch(&w, sp_span_of(in.p, n))) {
			SP_ASSERT(w.why != NULL);
			return false;
		}
		in = sp_span_of(in.p + n, in.n - n);
	}
	return true;
}

/* A second reader, the plainest: whole packets, one after the other. */
static bool
plain(struct sp_span in)
{
	bool more = false;
	uint8_t last = 0;

	while (in.n >= 4) {
		size_t n = (size_t)in.p[0] | (size_t)in.p[1] << 8 |
		    (size_t)in.p[2] << 16;
		uint8_t seq = in.p[3];

		if (n > 0 && (more ? seq != (uint8_t)(last + 1) : seq != 0))
			return false;
		in = sp_span_of(in.p + 4, in.n - 4);
		if (n > 0 && !more && in.n > 0 && (in.p[0] == 0x11 ||
		    in.p[0] == 0x12 || in.p[0] == 0x13 || in.p[0] == 0x15 ||
		    in.p[0] == 0x1e))
			return false;
		more = n == 0xffffff;
		last = seq;
		n = n < in.n ? n : in.n;
		in = sp_span_of(in.p + n, in.n - n);
	}
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_span in = {.p = data + 1, .n = size == 0 ? 0 : size - 1};
	bool want;

	if (size == 0)
		return 0;
	if (data[0] == 0) {
		login(in);
		return 0;
	}
	want = plain(in);
	SP_ASSERT(judged(in, size) == want);
	SP_ASSERT(judged(in, 1) == want);
	SP_ASSERT(judged(in, 1 + data[0] % 7) == want);
	return 0;
}
