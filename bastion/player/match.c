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

static void
take_literal(struct match *m, struct sp_span words)
{
	m->n = words.n;
	for (size_t i = 0; i < words.n; i++)
		m->lit[i] = m->folds ? fold(words.p[i]) : words.p[i];
	for (size_t i = 0; i < 256; i++)
		m->skip[i] = (uint16_t)words.n;
	for (size_t i = 0; i + 1 < words.n; i++)
		m->skip[m->lit[i]] = (uint16_t)(words.n - 1 - i);
}

/* Behind what begins there: a bracket expression, or a group. */
static size_t
behind_brackets(struct sp_span w, size_t i)
{
	i += i + 1 < w.n && w.p[i + 1] == '^' ? 2 : 1;
	if (i < w.n && w.p[i] == ']')
		i++;
	for (; i < w.n && w.p[i] != ']'; i++)
		if (w.p[i] == '[' && i + 1 < w.n && strchr(":.=", w.p[i + 1]) !=
		    NULL && w.p[i + 1] != 0)
			return w.n;	/* [:alpha:] and the like: no more is said */
	return i + 1;
}

static size_t
behind_group(struct sp_span w, size_t i)
{
	unsigned depth = 0;

	while (i < w.n) {
		uint8_t c = w.p[i];

		if (c == '[') {
			i = behind_brackets(w, i);
			continue;
		}
		depth += c == '(';
		i += c == '\\' ? 2 : 1;
		if (c == ')' && --depth == 0)
			break;
	}
	return i;
}

static size_t
behind_other(struct sp_span w, size_t i)
{
	const uint8_t *end;

	switch (w.p[i]) {
	case '[':
		return behind_brackets(w, i);
	case '(':
		return behind_group(w, i);
	case '\\':
		return i + 2;
	case '{':
		end = memchr(w.p + i, '}', w.n - i);
		return end == NULL ? w.n : (size_t)(end - w.p) + 1;
	default:
		return i + 1;
	}
}

/* The longest run of characters that every match of an expression must hold, as far
 * as that is plain: none where it says "or", none of what stands in a group. */
static void
find_run(struct match *m, struct sp_span w)
{
	uint8_t run[MATCH_BYTES_MAX], best[MATCH_BYTES_MAX];
	size_t n = 0, most = 0, i = 0;

	while (memchr(w.p, '|', w.n) == NULL && i <= w.n) {
		uint8_t c = i < w.n ? w.p[i] : '$';

		if (c == '\\' && i + 1 < w.n && strchr(".[(*+?{^$)]}\\/ -", w.p[i +
		    1]) != NULL) {
			run[n++] = w.p[i + 1];
			i += 2;
			continue;
		}
		if (strchr("\\.[(*+?{^$)", c) == NULL) {
			run[n++] = c;
			i++;
			continue;
		}
		while (c == '+' && i + 1 < w.n && strchr("*+?{", w.p[i + 1]) != NULL)
			c = w.p[++i];
		n -= strchr("*?{", c) != NULL && n > 0;
		if (n > most)
			memcpy(best, run, most = n);
		n = 0;
		i = i < w.n ? behind_other(w, i) : i + 1;
	}
	take_literal(m, sp_span_of(best, most));
}

enum sp_err
match_init(struct match *m, struct sp_span words, bool is_regex, char *why)
{
	char text[MATCH_BYTES_MAX + 1];

	*m = (struct match){.folds = true};
	if (words.n == 0 || words.n > MATCH_BYTES_MAX)
		return SP_ERR_INVAL;
	SP_TRY(sp_span_cstr(words, text, sizeof(text)));
	for (size_t i = 0; i < words.n; i++)
		if (words.p[i] >= 'A' && words.p[i] <= 'Z')
			m->folds = false;
	if (is_regex) {
		SP_TRY(compile(m, text, why));
		m->is_regex = true;
		find_run(m, words);
		return SP_OK;
	}
	take_literal(m, words);
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
static bool
find_literal(const struct match *m, struct sp_span t, size_t *at, size_t *n)
{
	size_t i = 0, k;

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

bool
match_find(const struct match *m, struct sp_span t, size_t *at, size_t *n)
{
	return m->is_regex ? find_regex(m, t, at, n) : find_literal(m, t, at, n);
}

bool
match_may(const struct match *m, struct sp_span t)
{
	size_t at, n;

	return m->n == 0 || find_literal(m, t, &at, &n);
}
