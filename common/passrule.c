/* SPDX-License-Identifier: Apache-2.0 */
#include "common/passrule.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

#define BITS_MIN 64
/* No quotes, no backslash, no space: what shells and old programs stumble over
 * is not needed. */
static const char *const members[SP_PASS_CLASSES] = {
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789",
    "!#$%&()*+,-./:;<=>?@[]^_{|}~"};

struct words {
	struct sp_span forbid;
	bool seen[4];
};

static enum sp_err
no(char why[static 128], enum sp_err e, const char *text)
{
	snprintf(why, 128, "%s", text);
	return e;
}

static enum sp_err
number(struct sp_span v, uint64_t low, uint64_t high, unsigned *out)
{
	uint64_t n;

	if (sp_u64_parse(v, high, &n) != SP_OK || n < low)
		return SP_ERR_SYNTAX;
	*out = (unsigned)n;
	return SP_OK;
}

static enum sp_err
classes(struct sp_span v, unsigned *out)
{
	unsigned bits = 0;

	for (size_t i = 0; i < v.n; i++) {
		const char *at = v.p[i] == 0 ? NULL : strchr("luds", v.p[i]);
		unsigned bit = at == NULL ? 0 : 1U << (at - "luds");

		if (bit == 0 || (bits & bit) != 0)
			return SP_ERR_SYNTAX;
		bits |= bit;
	}
	*out = bits;
	return bits != 0 ? SP_OK : SP_ERR_SYNTAX;
}

static bool
is_printable(struct sp_span v)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] <= ' ' || v.p[i] > '~')
			return false;
	return v.n > 0;
}

static enum sp_err
one_word(struct sp_pass_rule *r, struct words *w, struct sp_span word,
    char why[static 128])
{
	static const char *const names[] = {"length=", "classes=", "least=",
	    "forbid="};

	for (size_t i = 0; i < 4; i++) {
		size_t n = strlen(names[i]);
		struct sp_span v = {0};

		if (word.n < n || !sp_span_eq(sp_span_of(word.p, n),
		    sp_span_str(names[i])))
			continue;
		if (w->seen[i])
			return no(why, SP_ERR_SYNTAX, "a word of it stands twice");
		w->seen[i] = true;
		v = sp_span_of(word.p + n, word.n - n);
		if (i == 0 && number(v, 12, SP_PASS_LENGTH_MAX, &r->length) != SP_OK)
			return no(why, SP_ERR_SYNTAX, "length is a number from 12 to "
			    "128");
		if (i == 1 && classes(v, &r->classes) != SP_OK)
			return no(why, SP_ERR_SYNTAX, "classes are some of l u d s: "
			    "lower, upper, digits, symbols");
		if (i == 2 && number(v, 0, 8, &r->least) != SP_OK)
			return no(why, SP_ERR_SYNTAX, "least is a number from 0 to 8");
		if (i == 3 && !is_printable(v))
			return no(why, SP_ERR_SYNTAX, "forbid has printable ASCII "
			    "characters");
		if (i == 3)
			w->forbid = v;
		return SP_OK;
	}
	return no(why, SP_ERR_SYNTAX, "its words are length=24 classes=luds least=1 "
	    "forbid=CHARACTERS");
}

/* What is left of the classes; false: one of them is empty. */
static bool
fill_set(struct sp_pass_rule *r, struct sp_span forbid)
{
	r->n = 0;
	for (uint8_t k = 0; k < SP_PASS_CLASSES; k++) {
		size_t before = r->n;

		if ((r->classes & (1U << k)) == 0)
			continue;
		for (const char *c = members[k]; *c != '\0'; c++) {
			if (forbid.n > 0 && memchr(forbid.p, *c, forbid.n) != NULL)
				continue;
			r->class_of[r->n] = k;
			r->set[r->n++] = *c;
		}
		if (r->n == before)
			return false;
	}
	return true;
}

enum sp_err
sp_pass_rule_parse(struct sp_span text, struct sp_pass_rule *r,
    char why[static 128])
{
	struct sp_pass_rule t = {.length = 24, .least = 1, .classes = 15};
	struct words w = {.forbid = {0}};
	unsigned bits = 0, n_classes = 0;

	why[0] = '\0';
	if (text.n > SP_PASS_RULE_MAX)
		return no(why, SP_ERR_SYNTAX, "it is longer than 256 bytes");
	while (text.n > 0) {
		const uint8_t *end = memchr(text.p, ' ', text.n);
		size_t n = end == NULL ? text.n : (size_t)(end - text.p);

		SP_TRY(one_word(&t, &w, sp_span_of(text.p, n), why));
		n += end != NULL;
		text = sp_span_of(text.p + n, text.n - n);
		if (text.n == 0 && end != NULL)
			return no(why, SP_ERR_SYNTAX, "a space at its end");
	}
	if (!fill_set(&t, w.forbid))
		return no(why, SP_ERR_INVAL, "of one class nothing is left");
	for (unsigned k = 0; k < SP_PASS_CLASSES; k++)
		n_classes += (t.classes >> k) & 1;
	while ((t.n >> (bits + 1)) != 0)
		bits++;
	if (bits * t.length < BITS_MIN)
		return no(why, SP_ERR_INVAL, "less than 64 bits are left to guess: "
		    "more characters, or more classes");
	if (2 * t.least * n_classes > t.length)
		return no(why, SP_ERR_INVAL, "least asks for more than half of its "
		    "characters");
	*r = t;
	return SP_OK;
}
