/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/broker/retain.h"

#define DAYS_MAX 36500

/* "*" stands for anything, at the end alone. */
static bool
fits(const char *pattern, const char *text)
{
	size_t n = strlen(pattern);

	if (n > 0 && pattern[n - 1] == '*')
		return strncmp(pattern, text, n - 1) == 0;
	return strcmp(pattern, text) == 0;
}

static bool
has_word(const char *words, const char *pattern)
{
	char one[130];

	for (size_t n; *(words += strspn(words, " ")) != '\0'; words += n) {
		n = strcspn(words, " ");
		snprintf(one, sizeof(one), "%.*s", (int)(n < 128 ? n : 128), words);
		if (fits(pattern, one))
			return true;
	}
	return false;
}

static enum sp_err
take(struct sp_span s, struct sp_retain_rule *r)
{
	char text[160], what[80], days[16], rest[2] = "", *eq;
	uint64_t n;

	SP_TRY(sp_span_cstr(s, text, sizeof(text)));
	if (sscanf(text, "%79s %15s %1s", what, days, rest) != 2 ||
	    sp_u64_parse(sp_span_str(days), DAYS_MAX, &n) != SP_OK || n == 0)
		return SP_ERR_SYNTAX;
	*r = (struct sp_retain_rule){.days = (int64_t)n};
	if (strcmp(what, "*") == 0) {
		snprintf(r->what, sizeof(r->what), "*");
		return SP_OK;
	}
	if ((eq = strchr(what, '=')) == NULL || eq[1] == '\0' ||
	    strlen(eq + 1) >= sizeof(r->pattern))
		return SP_ERR_SYNTAX;
	*eq = '\0';
	if (strcmp(what, "target") != 0 && strcmp(what, "tag") != 0 &&
	    strcmp(what, "kind") != 0)
		return SP_ERR_SYNTAX;
	snprintf(r->what, sizeof(r->what), "%.7s", what);
	memcpy(r->pattern, eq + 1, strlen(eq + 1) + 1);
	return SP_OK;
}

enum sp_err
sp_retain_parse(const char *text, struct sp_retain_rules *out)
{
	struct sp_retain_rules r = {.n = 0};

	while (*(text += strspn(text, "; ")) != '\0') {
		size_t n = strcspn(text, ";");

		if (r.n == SP_RETAIN_RULES_MAX)
			return SP_ERR_FULL;
		SP_TRY(take(sp_span_of(text, n), &r.rule[r.n++]));
		text += n;
	}
	*out = r;
	return SP_OK;
}

const struct sp_retain_rule *
sp_retain_match(const struct sp_retain_rules *r, const char *target,
    const char *tags, const char *kind)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct sp_retain_rule *k = &r->rule[i];

		if (k->what[0] == '*' ||
		    (strcmp(k->what, "target") == 0 && target != NULL &&
		    fits(k->pattern, target)) ||
		    (strcmp(k->what, "tag") == 0 && tags != NULL &&
		    has_word(tags, k->pattern)) ||
		    (strcmp(k->what, "kind") == 0 && kind != NULL &&
		    fits(k->pattern, kind)))
			return k;
	}
	return NULL;
}
