/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "notary/notaryd.h"

/* The DER of RFC 3161, 2.4: what little of it is needed here. */

enum sp_err
sp_stamp_request(const uint8_t digest[static 32], const uint8_t nonce[static 8],
    struct sp_buf *out)
{
	/* SEQUENCE { 1, { { sha256, NULL }, OCTET STRING }, nonce, TRUE } */
	static const uint8_t head[] = {0x30, 0x43, 0x02, 0x01, 0x01, 0x30, 0x31,
	    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
	    0x01, 0x05, 0x00, 0x04, 0x20};
	static const uint8_t integer[] = {0x02, 0x08}, with_cert[] = {0x01, 0x01,
	    0xff};

	if (nonce[0] == 0 || nonce[0] >= 0x80)
		return SP_ERR_INVAL;	/* not its shortest form, or negative */
	SP_TRY(sp_buf_put(out, head, sizeof(head)));
	SP_TRY(sp_buf_put(out, digest, 32));
	SP_TRY(sp_buf_put(out, integer, sizeof(integer)));
	SP_TRY(sp_buf_put(out, nonce, 8));
	return sp_buf_put(out, with_cert, sizeof(with_cert));
}

/* One element: its content; s is what follows it. */
static enum sp_err
element(struct sp_span *s, uint8_t tag, struct sp_span *content)
{
	size_t n, head = 2;

	if (s->n < 2 || s->p[0] != tag)
		return SP_ERR_PROTO;
	n = s->p[1];
	if (n > 0x80) {
		size_t k = n & 0x7f;

		if (k > 3 || s->n < 2 + k)
			return SP_ERR_PROTO;
		for (n = 0, head = 2; head < 2 + k; head++)
			n = n << 8 | s->p[head];
	} else if (n == 0x80) {
		return SP_ERR_PROTO;
	}
	if (s->n - head < n)
		return SP_ERR_PROTO;
	*content = sp_span_of(s->p + head, n);
	*s = sp_span_of(s->p + head + n, s->n - head - n);
	return SP_OK;
}

static bool
holds(struct sp_span s, uint8_t tag, const uint8_t *p, uint8_t n)
{
	for (size_t i = 0; i + n + 2 <= s.n; i++)
		if (s.p[i] == tag && s.p[i + 1] == n &&
		    memcmp(s.p + i + 2, p, n) == 0)
			return true;
	return false;
}

enum sp_err
sp_stamp_look(struct sp_span answer, const uint8_t digest[static 32],
    const uint8_t nonce[static 8])
{
	struct sp_span all, info, status, token;

	SP_TRY(element(&answer, 0x30, &all));
	SP_TRY(element(&all, 0x30, &info));
	SP_TRY(element(&info, 0x02, &status));
	if (answer.n != 0 || status.n != 1 || status.p[0] > 1)
		return SP_ERR_DENIED;	/* not granted */
	SP_TRY(element(&all, 0x30, &token));
	if (all.n != 0)
		return SP_ERR_PROTO;
	return holds(token, 0x04, digest, 32) && holds(token, 0x02, nonce, 8) ?
	    SP_OK : SP_ERR_CRYPTO;
}
