/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/match.h"

#include <string.h>

#include "common/text.h"

static uint8_t
fold(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static enum sp_err
compile(struct match *m, const char *words, char *why)
{
	int e = regcomp(&m->re, words, REG_EXTENDED | (m->folds ? REG_ICASE : 0));

	if (e == 0)
		return SP_OK;
	if (why != NULL)
		regerror(e, &m->re, why, 256);
	return SP_ERR_SYNTAX;
}

enum sp_err
match_init(struct match *m, struct sp_span words, bool is_regex, char *why)
{
	char text[MATCH_BYTES_MAX + 1];

	*m = (struct match){.folds = true, .n = words.n};
	if (words.n == 0 || words.n > MATCH_BYTES_MAX)
		return SP_ERR_INVAL;
	SP_TRY(sp_span_cstr(words, text, sizeof(text)));
	for (size_t i = 0; i < words.n; i++)
		if (words.p[i] >= 'A' && words.p[i] <= 'Z')
			m->folds = false;
	if (is_regex) {
		SP_TRY(compile(m, text, why));
		m->is_regex = true;
		return SP_OK;
	}
	for (size_t i = 0; i < words.n; i++)
		m->lit[i] = m->folds ? fold(words.p[i]) : words.p[i];
	for (size_t i = 0; i < 256; i++)
		m->skip[i] = (uint16_t)words.n;
	for (size_t i = 0; i + 1 < words.n; i++)
		m->skip[m->lit[i]] = (uint16_t)(words.n - 1 - i);
	return SP_OK;
}

void
match_fini(struct match *m)
{
	if (m->is_regex)
		regfree(&m->re);
	*m = (struct match){0};
}

static bool
find_regex(const struct match *m, struct sp_span t, size_t *at, size_t *n)
{
	regmatch_t r = {.rm_so = 0, .rm_eo = (regoff_t)t.n};

	if (t.n == 0 || t.n > INT32_MAX ||
	    regexec(&m->re, (const char *)t.p, 1, &r, REG_STARTEND) != 0)
		return false;
	*at = (size_t)r.rm_so;
	*n = (size_t)(r.rm_eo - r.rm_so);
	return true;
}

/* Horspool: the last byte of the window says how far it may move. */
bool
match_find(const struct match *m, struct sp_span t, size_t *at, size_t *n)
{
	size_t i = 0, k;

	if (m->is_regex)
		return find_regex(m, t, at, n);
	while (i + m->n <= t.n) {
		uint8_t last = t.p[i + m->n - 1];

		last = m->folds ? fold(last) : last;
		if (last == m->lit[m->n - 1]) {
			for (k = 0; k + 1 < m->n; k++)
				if ((m->folds ? fold(t.p[i + k]) : t.p[i + k]) !=
				    m->lit[k])
					break;
			if (k + 1 == m->n) {
				*at = i;
				*n = m->n;
				return true;
			}
		}
		i += m->skip[last];
	}
	return false;
}
