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

/* Characters that a terminal obeys or that turn the order of a line: C1, the
 * marks of direction, the separators of lines. 0: none of them. Escaped they
 * mean the same to a program and nothing to a terminal. */
static unsigned
drives_terminal(const uint8_t *p, size_t k)
{
	unsigned u = k == 2 ? (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu) :
	    k == 3 ? (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu) : 0;

	return (u >= 0x80 && u < 0xa0) || u == 0x61c || u == 0x200e ||
	    u == 0x200f || (u >= 0x2028 && u <= 0x202e) ||
	    (u >= 0x2066 && u <= 0x2069) || u == 0xfeff ? u : 0;
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
		else if (drives_terminal(s.p + i, k) != 0)
			SP_TRY(sp_buf_printf(out, "\\u%04x",
			    drives_terminal(s.p + i, k)));
		else
			SP_TRY(sp_buf_put(out, s.p + i, k));
		i += k;
	}
	return sp_buf_put_u8(out, '"');
}
