/* SPDX-License-Identifier: Apache-2.0 */
/* As much XML as a store's answers are made of: elements without attributes that
 * hold text or other elements. Whatever does not fit is not found. */
#include <stdio.h>
#include <string.h>

#include "ship/s3.h"

static bool
find(struct sp_span in, const char *what, size_t *at)
{
	size_t n = strlen(what);

	for (size_t i = 0; i + n <= in.n; i++)
		if (memcmp(in.p + i, what, n) == 0) {
			*at = i;
			return true;
		}
	return false;
}

bool
sp_xml_next(struct sp_span *rest, const char *tag, struct sp_span *inside)
{
	char open[64], close[64];
	struct sp_span after;
	size_t a, b;

	snprintf(open, sizeof(open), "<%s>", tag);
	snprintf(close, sizeof(close), "</%s>", tag);
	if (!find(*rest, open, &a))
		return false;
	a += strlen(open);
	after = sp_span_of(rest->p + a, rest->n - a);
	if (!find(after, close, &b))
		return false;
	*inside = sp_span_of(after.p, b);
	b += strlen(close);
	*rest = sp_span_of(after.p + b, after.n - b);
	return true;
}

static size_t
entity(struct sp_span s, char *c)
{
	static const struct {
		const char *name;
		char c;
	} all[] = {{"&quot;", '"'}, {"&#34;", '"'}, {"&amp;", '&'},
	    {"&lt;", '<'}, {"&gt;", '>'}, {"&apos;", '\''}, {"&#39;", '\''}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		size_t n = strlen(all[i].name);

		if (s.n >= n && memcmp(s.p, all[i].name, n) == 0) {
			*c = all[i].c;
			return n;
		}
	}
	*c = (char)s.p[0];
	return 1;
}

bool
sp_xml_text(struct sp_span in, const char *tag, char *out, size_t cap)
{
	struct sp_span s;
	size_t n = 0;

	if (!sp_xml_next(&in, tag, &s))
		return false;
	while (s.n > 0) {
		char c;
		size_t k = entity(s, &c);

		if (n + 1 >= cap || c == '\0')
			return false;
		out[n++] = c;
		s = sp_span_of(s.p + k, s.n - k);
	}
	out[n] = '\0';
	return true;
}
