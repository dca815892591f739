/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/player.h"

/* Length of the well-formed character at p, 0 if there is none (RFC 3629). */
static size_t
utf8_length(const uint8_t *p, size_t n)
{
	size_t k = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 :
	    p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (k == 0 || k > n || !sp_utf8_is_valid(sp_span_of(p, k)))
		return 0;
	return k;
}

size_t
json_unfinished(struct sp_span s)
{
	for (size_t back = 1; back <= 3 && back <= s.n; back++) {
		uint8_t c = s.p[s.n - back];
		size_t want = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 :
		    c >= 0xc2 ? 2 : 1;

		if ((c & 0xc0) == 0x80)
			continue;
		return c >= 0xc2 && c < 0xf5 && want > back ? back : 0;
	}
	return 0;
}

static enum sp_err
escaped(struct sp_buf *out, uint8_t c)
{
	switch (c) {
	case '"':
		return sp_buf_put(out, "\\\"", 2);
	case '\\':
		return sp_buf_put(out, "\\\\", 2);
	case '\n':
		return sp_buf_put(out, "\\n", 2);
	case '\r':
		return sp_buf_put(out, "\\r", 2);
	case '\t':
		return sp_buf_put(out, "\\t", 2);
	default:
		return sp_buf_printf(out, "\\u%04x", c);
	}
}

enum sp_err
json_string(struct sp_buf *out, struct sp_span s)
{
	SP_TRY(sp_buf_put_u8(out, '"'));
	for (size_t i = 0; i < s.n;) {
		uint8_t c = s.p[i];
		size_t k = utf8_length(s.p + i, s.n - i);

		if (k == 0) {
			SP_TRY(sp_buf_put(out, "\xef\xbf\xbd", 3));
			i++;
			continue;
		}
		if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
			SP_TRY(escaped(out, c));
		else
			SP_TRY(sp_buf_put(out, s.p + i, k));
		i += k;
	}
	return sp_buf_put_u8(out, '"');
}
