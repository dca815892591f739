/* SPDX-License-Identifier: Apache-2.0 */
/* What a shell says of itself: OSC 633 (VS Code) and OSC 133 (FinalTerm).
 *   ESC ] 133 ; B ST                        the command begins here; also 633
 *   ESC ] 633 ; E ; command [; nonce] ST    backslashes as \\ and \xHH
 *   ESC ] 133 ; D [; status] ST             the command ended; also 633
 * Anybody who writes on the terminal can say it. A shell's integration repeats
 * one nonce, which the programs that it starts need not know: a command with
 * another nonce, or at which nobody pressed Enter, is told with little
 * confidence, and never in the place of what stood on the screen. */
#include <string.h>

#include "common/text.h"
#include "recorder/sense/internal.h"

enum {
	SURE_AGREED = 99,	/* the mark and the screen say the same */
	SURE_NONCE = 95,	/* the nonce of all marks so far */
	SURE_PLAIN = 70,	/* Enter was pressed, no nonce known */
	SURE_FORGED = 20,
};

static bool
unescape(struct sp_span s, struct sp_buf *out)
{
	sp_buf_reset(out);
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c == '\\' && i + 1 < s.n && s.p[i + 1] == '\\') {
			i++;
		} else if (c == '\\' && i + 3 < s.n && s.p[i + 1] == 'x') {
			if (sp_unhex(&c, 1, sp_span_of(s.p + i + 2, 2)) != SP_OK)
				return false;
			i += 3;
		}
		if (sp_buf_put_u8(out, c) != SP_OK)
			return false;
	}
	return out->len > 0;
}

/* Is it the nonce that the first mark had? */
static bool
is_known_nonce(struct sp_sense *s, struct sp_span n)
{
	if (n.n == 0 || n.n > sizeof(s->mark.nonce))
		return false;
	if (s->mark.n_nonce == 0) {
		memcpy(s->mark.nonce, n.p, n.n);
		s->mark.n_nonce = n.n;
		return true;
	}
	return sp_span_eq(n, sp_span_of(s->mark.nonce, s->mark.n_nonce));
}

static struct sp_span
blanks_off(struct sp_span s)
{
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\n'))
		s.n--;
	while (s.n > 0 && s.p[0] == ' ')
		s = sp_span_of(s.p + 1, s.n - 1);
	return s;
}

/* As it is where a screen could show it, encoded where not. */
static size_t
put_line(char *dst, size_t cap, struct sp_span line)
{
	size_t slashes = 0;

	sp_vis(dst, cap, line);
	for (size_t i = 0; i < line.n; i++)
		slashes += line.p[i] == '\\';
	if (strlen(dst) != line.n + slashes || line.n + slashes >= cap)
		return strlen(dst);
	memcpy(dst, line.p, line.n);
	return line.n;
}

static struct sp_span
shown(struct sp_sense *s, char dst[static SP_SENSE_LINE_MAX + 1])
{
	struct sp_span rest = blanks_off(sp_buf_span(&s->at));
	size_t n = 0;

	while (rest.n > 0 && n < SP_SENSE_LINE_MAX) {
		const uint8_t *nl = memchr(rest.p, '\n', rest.n);
		size_t k = nl == NULL ? rest.n : (size_t)(nl - rest.p);

		n += put_line(dst + n, SP_SENSE_LINE_MAX + 1 - n,
		    sp_span_of(rest.p, k));
		if (nl != NULL && n < SP_SENSE_LINE_MAX) {
			dst[n++] = '\n';
			k++;
		}
		rest = sp_span_of(rest.p + k, rest.n - k);
	}
	return sp_span_of(dst, n);
}

static void
command(struct sp_sense *s, struct sp_span rest)
{
	struct sp_sense_command c = {.first_us = s->now_us, .at_us = s->now_us,
	    .source = SP_SENSE_MARK, .confidence = SURE_FORGED};
	const uint8_t *end = rest.n > 0 ? memchr(rest.p, ';', rest.n) : NULL;
	struct sp_span nonce = {0};
	char vis[SP_SENSE_LINE_MAX + 1];
	bool had_nonce = s->mark.n_nonce > 0, is_known;

	if (end != NULL) {
		nonce = sp_span_of(end + 1, rest.n - (size_t)(end - rest.p) - 1);
		rest.n = (size_t)(end - rest.p);
	}
	if (!unescape(rest, &s->at))
		return;
	c.text = shown(s, vis);
	if (c.text.n == 0)
		return;
	/* Only where a line was entered can the shell have one. */
	is_known = s->mark.is_owed && is_known_nonce(s, nonce);
	if (s->mark.is_owed)
		c.first_us = c.at_us = s->mark.entered_us;
	if (s->mark.is_owed && (is_known || !had_nonce))
		c.confidence = is_known ? SURE_NONCE : SURE_PLAIN;
	if (s->is_held && s->mark.is_owed) {
		c.first_us = s->command.first_us;
		c.row = s->command.row;
		if (sp_span_eq(c.text, sp_buf_span(&s->held))) {
			c.confidence = c.confidence == SURE_FORGED ?
			    s->command.confidence : SURE_AGREED;
			s->is_held = false;
		} else if (is_known && had_nonce) {
			s->is_held = false;
		}
	}
	s->mark.is_owed = false;
	sp_sense_hold(s, &c);
	sp_sense_flush(s);
}

static void
begins_here(struct sp_sense *s)
{
	bool is_visible;
	unsigned y;

	/* The cursor stands there once all that came before it is on the screen,
	 * and it is: a string is fed after it is understood. */
	sp_term_cursor(s->term, &s->mark.col, &y, &is_visible);
	s->mark.row = sp_sense_row(s, y);
	s->mark.has_start = s->mark.col < sp_term_cols(s->term);
}

void
sp_sense_mark_end(struct sp_sense *s)
{
	struct sp_span t = sp_buf_span(&s->mark.text);
	bool is_633 = t.n > 4 && memcmp(t.p, "633;", 4) == 0;
	bool is_133 = t.n > 4 && memcmp(t.p, "133;", 4) == 0;
	uint64_t status = 0;

	if (s->mark.is_cut || (!is_633 && !is_133) ||
	    (t.n > 5 && t.p[5] != ';'))
		return;
	if (is_633 && t.p[4] == 'E' && t.n > 6)
		command(s, sp_span_of(t.p + 6, t.n - 6));
	else if (t.p[4] == 'B')
		begins_here(s);
	else if (t.p[4] == 'D' && t.n > 6 && s->ops.ended != NULL &&
	    sp_u64_parse(sp_span_of(t.p + 6, t.n - 6), 255, &status) == SP_OK) {
		sp_sense_flush(s);
		s->ops.ended(s->ops.ctx, s->now_us, (int)status);
	}
}
