/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/term/internal.h"

/* 38 and 48: "5;index" or "2;r;g;b", also with colons and then perhaps with a
 * colour space before the red. Returns how many parameters it took. */
static unsigned
colour(const struct sp_term *t, unsigned i, uint32_t *c)
{
	unsigned left = t->n_params - i - 1, k = i + 2, end;
	const unsigned *p = t->param;

	if (left < 1)
		return 0;
	if (p[i + 1] == 5) {
		if (left < 2)
			return left;
		*c = SP_COLOUR_INDEX | (p[i + 2] & 0xff);
		return 2;
	}
	if (p[i + 1] != 2)
		return 1;
	for (end = k; end < t->n_params && t->colon[end]; end++)
		;
	if (t->colon[i + 1] && end - k >= 4)
		k++;
	if (k + 3 > t->n_params)
		return left;
	*c = SP_COLOUR_RGB | (p[k] & 0xff) << 16 | (p[k + 1] & 0xff) << 8 |
	    (p[k + 2] & 0xff);
	return t->colon[i + 1] ? end - i - 1 : k + 2 - i;
}

static void
attribute(struct pen *p, unsigned n)
{
	static const uint8_t on[10] = {0, SP_ATTR_BOLD, SP_ATTR_FAINT,
	    SP_ATTR_ITALIC, SP_ATTR_UNDERLINE, SP_ATTR_BLINK, SP_ATTR_BLINK,
	    SP_ATTR_INVERSE, SP_ATTR_HIDDEN, SP_ATTR_STRIKE};
	static const uint8_t off[10] = {0, SP_ATTR_UNDERLINE,
	    SP_ATTR_BOLD | SP_ATTR_FAINT, SP_ATTR_ITALIC, SP_ATTR_UNDERLINE,
	    SP_ATTR_BLINK, 0, SP_ATTR_INVERSE, SP_ATTR_HIDDEN, SP_ATTR_STRIKE};

	if (n == 0)
		*p = (struct pen){0};
	else if (n < 10)
		p->attr |= on[n];
	else if (n == 21)
		p->attr |= SP_ATTR_UNDERLINE;
	else if (n >= 22 && n < 30)
		p->attr &= (uint8_t)~off[n - 20];
	else if (n >= 30 && n < 38)
		p->fg = SP_COLOUR_INDEX | (n - 30);
	else if (n == 39)
		p->fg = 0;
	else if (n >= 40 && n < 48)
		p->bg = SP_COLOUR_INDEX | (n - 40);
	else if (n == 49)
		p->bg = 0;
	else if (n >= 90 && n < 98)
		p->fg = SP_COLOUR_INDEX | (n - 90 + 8);
	else if (n >= 100 && n < 108)
		p->bg = SP_COLOUR_INDEX | (n - 100 + 8);
}

void
sp_term_sgr(struct sp_term *t)
{
	if (t->n_params == 0)
		t->pen = (struct pen){0};
	for (unsigned i = 0; i < t->n_params; i++) {
		unsigned n = t->param[i];
		uint32_t unused;

		if (n == 38)
			i += colour(t, i, &t->pen.fg);
		else if (n == 48)
			i += colour(t, i, &t->pen.bg);
		else if (n == 58)
			i += colour(t, i, &unused);
		else if (n == 4 && i + 1 < t->n_params && t->colon[i + 1]) {
			attribute(&t->pen, t->param[i + 1] == 0 ? 24 : 4);
			i++;
		} else
			attribute(&t->pen, n);
	}
}
