/* SPDX-License-Identifier: Apache-2.0 */
#include "common/signed.h"

#include <string.h>

static enum sp_err
label(struct sp_buf *b, const char *s)
{
	return sp_buf_put(b, s, strlen(s) + 1);
}

enum sp_err
sp_signed_recording(struct sp_buf *b, const uint8_t session[static 16],
    const uint8_t rec_key[static 32], const uint8_t header_hash[static 32],
    int64_t opened_us)
{
	SP_TRY(label(b, "sallyport recording v1"));
	SP_TRY(sp_buf_put(b, session, 16));
	SP_TRY(sp_buf_put(b, rec_key, 32));
	SP_TRY(sp_buf_put(b, header_hash, 32));
	return sp_buf_put_u64(b, (uint64_t)opened_us);
}

enum sp_err
sp_signed_close(struct sp_buf *b, bool recovered,
    const uint8_t session[static 16], const uint8_t head[static 32],
    uint64_t chunks, int64_t at_us)
{
	SP_TRY(label(b, recovered ? "sallyport recovered v1" :
	    "sallyport close v1"));
	SP_TRY(sp_buf_put(b, session, 16));
	SP_TRY(sp_buf_put(b, head, 32));
	SP_TRY(sp_buf_put_u64(b, chunks));
	return sp_buf_put_u64(b, (uint64_t)at_us);
}

enum sp_err
sp_signed_audit(struct sp_buf *b, uint64_t seq, const uint8_t head[static 32],
    int64_t at_us)
{
	SP_TRY(label(b, "sallyport audit v1"));
	SP_TRY(sp_buf_put_u64(b, seq));
	SP_TRY(sp_buf_put(b, head, 32));
	return sp_buf_put_u64(b, (uint64_t)at_us);
}

enum sp_err
sp_signed_chunk(struct sp_buf *b, const uint8_t prev[static 32],
    const uint8_t head[static 28], struct sp_span body)
{
	SP_TRY(label(b, "sallyport chunk v1"));
	SP_TRY(sp_buf_put(b, prev, 32));
	SP_TRY(sp_buf_put(b, head, 28));
	return sp_buf_put(b, body.p, body.n);
}
