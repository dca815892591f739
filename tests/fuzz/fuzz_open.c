/* SPDX-License-Identifier: Apache-2.0 */
/* The stream between the legs: the bytes as an OPEN payload, which encodes to
 * the same bytes again, and as frames from either side. */
#include <stdint.h>
#include <string.h>

#include "common/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
as_open(struct sp_span s)
{
	SP_BUF_AUTO out = {.max = 65536};
	struct sp_open o;

	if (sp_open_decode(s, &o) != SP_OK)
		return;
	SP_ASSERT(sp_open_encode(&out, &o) == SP_OK);
	SP_ASSERT(sp_span_eq(sp_buf_span(&out), s));
}

/* The reader without its socket: frames are taken from what is in rx. */
static void
as_frames(struct sp_span s, bool user)
{
	struct sp_stream st = {.fd = -1, .peer_is_user = user};
	size_t used = 0;
	struct sp_frame f;
	enum sp_err e;

	sp_buf_init(&st.rx, SP_STREAM_RX_MAX);
	if (s.n > 0 && sp_buf_put(&st.rx, s.p, s.n) != SP_OK)
		return;
	while ((e = sp_stream_next(&st, &f)) == SP_OK) {
		SP_ASSERT(sp_frame_may(f.type, user, f.payload.n));
		used += SP_FRAME_HEADER + f.payload.n;
		SP_ASSERT(used <= s.n);
		if (f.type == SP_FRAME_OPEN)
			as_open(f.payload);
	}
	SP_ASSERT(e == SP_ERR_AGAIN || (e == SP_ERR_PROTO && st.fault[0] != '\0'));
	sp_stream_fini(&st);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_span s = sp_span_of(data, size);

	as_open(s);
	as_frames(s, true);
	as_frames(s, false);
	return 0;
}
