/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/menu.h"

#include <string.h>

enum { AT_REST, ESC_SEEN, IN_CSI, IN_SS3 };

static struct sp_key
key(enum sp_key_kind kind)
{
	return (struct sp_key){.kind = kind};
}

static size_t
char_len(uint8_t c)
{
	return c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 :
	    c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* Only what a terminal shows as itself: no control, no turn of direction. */
static struct sp_key
character(struct sp_keys *k)
{
	struct sp_span s = sp_span_of(k->part, k->n_part);
	struct sp_key r = key(SP_KEY_CHAR);
	char vis[64];

	k->n_part = 0;
	if (!sp_utf8_is_valid(s) || (!sp_span_is(s, "\\") &&
	    !sp_span_is(s, sp_vis(vis, sizeof(vis), s))))
		return key(SP_KEY_NONE);
	memcpy(r.text, s.p, s.n);
	return r;
}

static struct sp_key
of_letter(uint8_t c)
{
	switch (c) {
	case 'A': return key(SP_KEY_UP);
	case 'B': return key(SP_KEY_DOWN);
	case 'H': return key(SP_KEY_HOME);
	case 'F': return key(SP_KEY_END);
	default: return key(SP_KEY_NONE);
	}
}

static struct sp_key
of_number(unsigned n)
{
	return n == 1 || n == 7 ? key(SP_KEY_HOME) :
	    n == 4 || n == 8 ? key(SP_KEY_END) : n == 5 ? key(SP_KEY_PAGE_UP) :
	    n == 6 ? key(SP_KEY_PAGE_DOWN) : key(SP_KEY_NONE);
}

static struct sp_key
in_escape(struct sp_keys *k, uint8_t c)
{
	unsigned n = k->number;

	if (k->state == ESC_SEEN) {
		k->state = c == '[' ? IN_CSI : c == 'O' ? IN_SS3 :
		    c == 0x1b ? ESC_SEEN : AT_REST;
		k->number = 0;
		return key(c == 0x1b ? SP_KEY_ESCAPE : SP_KEY_NONE);
	}
	if (k->state == IN_SS3) {
		k->state = AT_REST;
		return of_letter(c);
	}
	if (c >= '0' && c <= '9') {
		k->number = (uint8_t)(n > 20 ? 255 : n * 10 + (unsigned)(c - '0'));
		return key(SP_KEY_NONE);
	}
	if (c >= 0x40 && c <= 0x7e) {
		k->state = AT_REST;
		return c == '~' ? of_number(n) : of_letter(c);
	}
	/* Further parameters and what stands between: of no use here. */
	if (c < 0x20)
		k->state = AT_REST;
	return key(SP_KEY_NONE);
}

static struct sp_key
control(struct sp_keys *k, uint8_t c)
{
	struct sp_key r = key(SP_KEY_CTRL);

	switch (c) {
	case 0x1b:
		k->state = ESC_SEEN;
		return key(SP_KEY_NONE);
	case '\r':
	case '\n':
		k->had_cr = c == '\r';
		return key(SP_KEY_ENTER);
	case 0x08:
	case 0x7f:
		return key(SP_KEY_BACKSPACE);
	default:
		if (c == 0 || c > 26)
			return key(SP_KEY_NONE);
		r.text[0] = (char)('A' + c - 1);
		return r;
	}
}

struct sp_key
sp_keys_byte(struct sp_keys *k, uint8_t c)
{
	bool after_cr = k->had_cr;

	k->had_cr = false;
	if (c == '\n' && after_cr)
		return key(SP_KEY_NONE);
	if (c == 0x03)		/* whatever was begun */
		k->state = AT_REST;
	else if (k->state != AT_REST)
		return in_escape(k, c);
	if (c < 0x20 || c == 0x7f) {
		k->n_part = 0;
		return control(k, c);
	}
	if (k->n_part == 0 || (c & 0xc0) != 0x80) {
		k->n_part = 0;
		if (char_len(c) == 0)
			return key(SP_KEY_NONE);
	}
	k->part[k->n_part++] = c;
	return k->n_part == char_len(k->part[0]) ? character(k) :
	    key(SP_KEY_NONE);
}

bool
sp_keys_is_escape(const struct sp_keys *k)
{
	return k->state == ESC_SEEN;
}

struct sp_key
sp_keys_escape(struct sp_keys *k)
{
	k->state = AT_REST;
	return key(SP_KEY_ESCAPE);
}
