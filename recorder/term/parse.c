/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to characters and control functions: the states of a VT500 parser,
 * with UTF-8 in the ground state. */
#include "recorder/term/internal.h"

static uint32_t
graphics(uint32_t cp)
{
	/* DEC Special Graphics, 0x5f to 0x7e (VT100 user guide, table 3-9). */
	static const uint16_t map[32] = {0x20, 0x25c6, 0x2592, 0x2409, 0x240c,
	    0x240d, 0x240a, 0xb0, 0xb1, 0x2424, 0x240b, 0x2518, 0x2510, 0x250c,
	    0x2514, 0x253c, 0x23ba, 0x23bb, 0x2500, 0x23bc, 0x23bd, 0x251c,
	    0x2524, 0x2534, 0x252c, 0x2502, 0x2264, 0x2265, 0x3c0, 0x2260, 0xa3,
	    0xb7};

	return cp >= 0x5f && cp <= 0x7e ? map[cp - 0x5f] : cp;
}

static void
print(struct sp_term *t, uint32_t cp)
{
	uint8_t set = t->charset[t->once != 0 ? t->once : t->gl];

	t->once = 0;
	sp_term_put(t, set == '0' ? graphics(cp) : cp);
}

static void
begin_csi(struct sp_term *t)
{
	t->state = ST_CSI;
	t->lead = t->inter = 0;
	t->n_params = 0;
}

static void
next_param(struct sp_term *t, bool by_colon)
{
	if (t->n_params == 0)
		t->param[t->n_params++] = 0;
	if (t->n_params == PARAMS_MAX) {
		t->state = ST_CSI_IGNORE;
		return;
	}
	t->param[t->n_params] = 0;
	t->colon[t->n_params++] = by_colon;
}

static void
digit(struct sp_term *t, unsigned d)
{
	unsigned *p;

	if (t->n_params == 0) {
		t->param[0] = 0;
		t->colon[0] = false;
		t->n_params = 1;
	}
	p = &t->param[t->n_params - 1];
	*p = *p * 10 + d;
	if (*p > PARAM_MAX)
		*p = PARAM_MAX;
}

static void
in_csi(struct sp_term *t, uint8_t c)
{
	if (c >= 0x40 && c <= 0x7e) {
		t->state = ST_GROUND;
		sp_term_csi(t, c);
	} else if (c >= '0' && c <= '9' && t->inter == 0) {
		digit(t, c - '0');
	} else if ((c == ';' || c == ':') && t->inter == 0) {
		next_param(t, c == ':');
	} else if (c >= 0x3c && c <= 0x3f && t->n_params == 0 && t->lead == 0 &&
	    t->inter == 0) {
		t->lead = c;
	} else if (c >= 0x20 && c <= 0x2f && t->inter == 0) {
		t->inter = c;
	} else {
		t->state = ST_CSI_IGNORE;
	}
}

static void
in_esc(struct sp_term *t, uint8_t c)
{
	if (c >= 0x20 && c <= 0x2f) {
		/* A second intermediate byte belongs to nothing that we know. */
		t->inter = t->state == ST_ESC ? c : 0x2f;
		t->state = ST_ESC_MORE;
		return;
	}
	if (t->state == ST_ESC && c == '[') {
		begin_csi(t);
		return;
	}
	if (t->state == ST_ESC && (c == ']' || c == 'P' || c == '_' ||
	    c == '^' || c == 'X')) {
		t->state = ST_STRING;
		return;
	}
	t->state = ST_GROUND;
	if (c >= 0x30 && c <= 0x7e)
		sp_term_esc(t, c);
}

/* Controls act in the middle of sequences too, as on the real thing. */
static bool
control(struct sp_term *t, uint8_t c)
{
	if (c == 0x1b) {
		t->state = t->state == ST_STRING ? ST_STRING_ESC : ST_ESC;
		t->inter = 0;
		return true;
	}
	if (c == 0x18 || c == 0x1a) {
		t->state = ST_GROUND;
		return true;
	}
	if (t->state == ST_STRING) {
		if (c == 0x07)
			t->state = ST_GROUND;
		return true;
	}
	if (c < 0x20) {
		sp_term_c0(t, c);
		return true;
	}
	return c == 0x7f;
}

static void
broken(struct sp_term *t)
{
	t->cp_left = 0;
	print(t, 0xfffd);
}

static void
utf8(struct sp_term *t, uint8_t c)
{
	if (t->cp_left > 0) {
		if ((c & 0xc0) == 0x80) {
			t->cp = t->cp << 6 | (c & 0x3f);
			if (--t->cp_left > 0)
				return;
			if (t->cp < t->cp_least || t->cp > 0x10ffff ||
			    (t->cp >= 0xd800 && t->cp <= 0xdfff))
				broken(t);
			else if (t->cp >= 0xa0)
				print(t, t->cp);
			/* C1 controls as characters: no program needs them. */
			return;
		}
		broken(t);
	}
	if (c < 0x80) {
		print(t, c);
		return;
	}
	if (c < 0xc2 || c > 0xf4) {
		broken(t);
		return;
	}
	t->cp_left = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	t->cp_least = c >= 0xf0 ? 0x10000 : c >= 0xe0 ? 0x800 : 0x80;
	t->cp = c & (0x3fu >> t->cp_left);
}

static void
one(struct sp_term *t, uint8_t c)
{
	if (t->state == ST_STRING_ESC) {
		/* ESC \ ends the string; any other ESC begins anew. */
		t->state = c == '\\' ? ST_GROUND : ST_ESC;
		if (c == '\\')
			return;
	}
	if (c < 0x20 || c == 0x7f) {
		if (t->cp_left > 0)
			broken(t);
		if (control(t, c))
			return;
	}
	switch (t->state) {
	case ST_GROUND:
		utf8(t, c);
		break;
	case ST_ESC:
	case ST_ESC_MORE:
		in_esc(t, c);
		break;
	case ST_CSI:
		in_csi(t, c);
		break;
	case ST_CSI_IGNORE:
		if (c >= 0x40 && c <= 0x7e)
			t->state = ST_GROUND;
		break;
	case ST_STRING:
	case ST_STRING_ESC:
	default:
		break;
	}
}

/* So many bytes at the front are printable ASCII and mean nothing else. */
static size_t
plain(const struct sp_term *t, struct sp_span s)
{
	size_t n = 0;

	if (t->state != ST_GROUND || t->cp_left > 0 || t->once != 0 ||
	    t->charset[t->gl] == '0')
		return 0;
	while (n < s.n && s.p[n] >= 0x20 && s.p[n] < 0x7f)
		n++;
	return n;
}

void
sp_term_feed(struct sp_term *t, struct sp_span s)
{
	while (s.n > 0) {
		size_t n = plain(t, s), m = 0;

		if (n > 0)
			m = sp_term_put_ascii(t, s.p, n);
		if (m == 0) {
			one(t, s.p[0]);
			m = 1;
		}
		s = sp_span_of(s.p + m, s.n - m);
	}
}
