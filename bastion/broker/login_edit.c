/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_edit.h"

#include <string.h>

#include "common/text.h"

enum { ESC_NONE, ESC_SEEN, ESC_CSI, ESC_SS3 };

void
sp_edit_reset(struct sp_edit *e)
{
	bool cr = e->had_cr;

	explicit_bzero(e, sizeof(*e));
	e->had_cr = cr;
}

/* A full echo buffer only loses echo. */
static void
echo_bytes(struct sp_buf *echo, const void *p, size_t n)
{
	if (sp_buf_put(echo, p, n) != SP_OK)
		return;
}

static void
erase_one(struct sp_edit *e, struct sp_buf *echo)
{
	size_t k = e->n, w;

	if (k == 0)
		return;
	do
		k--;
	while (k > 0 && ((uint8_t)e->line[k] & 0xc0) == 0x80);
	w = sp_text_columns(sp_span_of(e->line + k, e->n - k));
	e->n = k;
	e->line[k] = '\0';
	while (w-- > 0)
		echo_bytes(echo, "\b \b", 3);
}

static size_t
char_len(uint8_t c)
{
	return c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 :
	    c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

static void
add_char(struct sp_edit *e, struct sp_buf *echo)
{
	struct sp_span s = sp_span_of(e->part, e->n_part);
	char vis[64];

	/* What sp_vis would change (controls, bidi) is not taken. */
	if (sp_utf8_is_valid(s) && e->n + s.n <= SP_EDIT_MAX &&
	    (sp_span_is(s, "\\") ||
	    sp_span_is(s, sp_vis(vis, sizeof(vis), s)))) {
		memcpy(e->line + e->n, s.p, s.n);
		e->n += s.n;
		e->line[e->n] = '\0';
		echo_bytes(echo, s.p, s.n);
	}
	e->n_part = 0;
}

static bool
in_escape(struct sp_edit *e, uint8_t c)
{
	switch (e->esc) {
	case ESC_SEEN:
		e->esc = c == '[' ? ESC_CSI : c == 'O' ? ESC_SS3 : ESC_NONE;
		return true;
	case ESC_CSI:
		if (c >= 0x40 && c <= 0x7e)
			e->esc = ESC_NONE;
		return true;
	case ESC_SS3:
		e->esc = ESC_NONE;
		return true;
	default:
		return false;
	}
}

static enum sp_edit_end
control(struct sp_edit *e, uint8_t c, struct sp_buf *echo)
{
	switch (c) {
	case 0x1b:
		e->esc = ESC_SEEN;
		break;
	case 0x03:
		return SP_EDIT_CANCEL;
	case 0x04:
		return e->n == 0 ? SP_EDIT_CANCEL : SP_EDIT_MORE;
	case 0x08:
	case 0x7f:
		erase_one(e, echo);
		break;
	case 0x15:
		while (e->n > 0)
			erase_one(e, echo);
		break;
	case '\r':
	case '\n':
		e->had_cr = c == '\r';
		echo_bytes(echo, "\r\n", 2);
		return SP_EDIT_LINE;
	default:
		break;
	}
	return SP_EDIT_MORE;
}

enum sp_edit_end
sp_edit_byte(struct sp_edit *e, uint8_t c, struct sp_buf *echo)
{
	bool after_cr = e->had_cr;

	e->had_cr = false;
	if (c == '\n' && after_cr)
		return SP_EDIT_MORE;
	if (c == 0x03) {
		e->esc = ESC_NONE;
		return SP_EDIT_CANCEL;
	}
	if (in_escape(e, c))
		return SP_EDIT_MORE;
	if (c < 0x20 || c == 0x7f) {
		e->n_part = 0;
		return control(e, c, echo);
	}
	if (e->n_part == 0 || (c & 0xc0) != 0x80) {
		e->n_part = 0;
		if (char_len(c) == 0)
			return SP_EDIT_MORE;
	}
	e->part[e->n_part++] = c;
	if (e->n_part == char_len(e->part[0]))
		add_char(e, echo);
	return SP_EDIT_MORE;
}
