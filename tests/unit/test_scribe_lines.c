/* SPDX-License-Identifier: Apache-2.0 */
/* The lines that a terminal showed (recorder/scribe/lines.h): each once for each
 * change, when nobody sees it any more as it was. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "recorder/scribe/lines.h"

struct told {
	char text[65536];
	size_t n;
};

static void
on_line(void *ctx, uint16_t row, struct sp_span s)
{
	struct told *t = ctx;

	cr_assert(s.n > 0 && t->n + s.n + 16 < sizeof(t->text));
	t->n += (size_t)snprintf(t->text + t->n, sizeof(t->text) - t->n,
	    "%u:%.*s|", row, (int)s.n,
	    (const char *)s.p);
}

static struct sp_lines *
begin(struct told *t, unsigned cols, unsigned rows)
{
	struct sp_lines *l = NULL;

	*t = (struct told){0};
	cr_assert_eq(sp_lines_new(cols, rows, on_line, t, &l), SP_OK);
	return l;
}

static void
feed(struct sp_lines *l, const char *text)
{
	cr_assert_eq(sp_lines_feed(l, sp_span_str(text)), SP_OK);
}

/* Pieces, divided by \001 as the target's writes were, and what was told; after
 * '!' what the end added. */
static const struct {
	const char *what, *in, *out;
} cases[] = {
    {"what scrolls away", "a\r\nb\r\nc\r\nd\r\ne", "0:a|0:b|!0:c|1:d|2:e|"},
    {"blank lines are none", "\r\n\r\n\r\n  \r\n\r\na", "!2:a|"},
    {"typing goes on", "a\001b\001c", "!0:abc|"},
    {"overwritten", "50 %\001\r60 %\001\rdone", "0:50 %|0:60 %|!0:done|"},
    {"in one piece nobody saw it", "50 %\r60 %\rdone", "!0:done|"},
    {"wiped in one piece", "secret\033[2J\033[Hclean", "0:secret|!0:clean|"},
    {"wiped by a reset", "secret\033cclean", "0:secret|!0:clean|"},
    {"a long line is one", "0123456789abcdefghijXY\r\nq\r\nr\r\n",
	"0:0123456789abcdefghijXY|!0:q|1:r|"},
    {"wide characters", "\xe4\xb8\xad\xe6\x96\x87\r\n\r\n\r\n",
	"0:\xe4\xb8\xad\xe6\x96\x87|!"},
    {"alternate screen", "main\001\033[?1049h\033[2J\033[Hvim\001\033[?1049l",
	"0:vim|!0:main|"},
    {"alternate screen in one piece", "main\033[?1049h\033[Hvim\033[?1049l",
	"0:vim|!0:main|"},
    {"what moves is not gone", "a\r\nb\r\nc\001\033[1;1H\033[L\001", "2:c|!1:a|2:b|"},
    {"in a full-screen program once", "\033[?1049h\033[Hx\001\033[Hy\001\033[Hx\001"
	"\033[Hy\001", "0:x|0:y|!"},
};

Test(scribe_lines, are_told_once_for_each_change)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char in[512], *at = in, *piece, got[4096];
		static struct told t;
		struct sp_lines *l = begin(&t, 10, 3);
		const char *want = strchr(cases[i].out, '!');

		snprintf(in, sizeof(in), "%s", cases[i].in);
		while ((piece = strsep(&at, "\001")) != NULL)
			feed(l, piece);
		snprintf(got, sizeof(got), "%.2000s!", t.text);
		t.n = 0;
		t.text[0] = '\0';
		sp_lines_end(l);
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.2000s",
		    t.text);
		cr_expect_str_eq(got, cases[i].out, "%s: \"%s\", not \"%s\"",
		    cases[i].what, got, cases[i].out);
		cr_assert_not_null(want);
		sp_lines_free(l);
	}
}

Test(scribe_lines, survive_resizes)
{
	static struct told t;
	struct sp_lines *l = begin(&t, 20, 4);

	feed(l, "one\r\ntwo\r\nthree\r\nfour");
	cr_assert_eq(sp_lines_resize(l, 20, 2), SP_OK);
	cr_assert_str_eq(t.text, "0:one|0:two|");
	cr_assert_eq(sp_lines_resize(l, 3, 2), SP_OK);
	cr_assert_str_eq(t.text, "0:one|0:two|0:three|1:four|");
	sp_lines_end(l);
	sp_lines_free(l);
}

/* A scribe that takes over goes on where the last one was. */
Test(scribe_lines, go_on_from_a_state)
{
	SP_BUF_AUTO state = {.max = SP_TERM_DUMP_MAX}, a = {.max = SP_TERM_DUMP_MAX},
	    b = {.max = SP_TERM_DUMP_MAX};
	static struct told t, u;
	struct sp_lines *l = begin(&t, 20, 3), *m = NULL;

	feed(l, "one\r\ntwo\033[1");
	cr_assert_eq(sp_term_dump(sp_lines_term(l), &state), SP_OK);
	u = (struct told){0};
	cr_assert_eq(sp_lines_load(sp_buf_span(&state), on_line, &u, &m), SP_OK);
	feed(l, ";1Hnew\r\n\n\n\n");
	feed(m, ";1Hnew\r\n\n\n\n");
	cr_assert_str_eq(t.text, u.text);
	cr_assert_str_eq(u.text, "0:one|0:new|0:two|");
	cr_assert_eq(sp_term_dump(sp_lines_term(l), &a), SP_OK);
	cr_assert_eq(sp_term_dump(sp_lines_term(m), &b), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&a), sp_buf_span(&b)));
	sp_lines_free(l);
	sp_lines_free(m);
	cr_assert_neq(sp_lines_load(sp_span_str("nonsense"), on_line, &u, &m),
	    SP_OK);
}

/* Whatever a target sends: no line that no view may have, and bounded work. */
Test(scribe_lines, of_hostile_targets_are_text)
{
	static struct told t;
	uint32_t x = 12345;

	for (int i = 0; i < 200; i++) {
		struct sp_lines *l = begin(&t, 1 + (unsigned)i % 40, 1 + (unsigned)i %
		    7);
		static char in[2048];

		for (size_t k = 0; k < sizeof(in); k++) {
			static const char *const some = "\033[];?0123456789hlHJKLMmrST"
			    "\r\n\t \xe4\xb8\xad\xff\x9b\x07xyz";

			x = x * 1664525 + 1013904223;
			in[k] = (x >> 28) < 12 ? some[(x >> 8) % strlen(some)] :
			    (char)(x >> 16);
		}
		for (size_t k = 0; k < sizeof(in); k += 64) {
			t.n = 0;
			cr_assert_eq(sp_lines_feed(l, sp_span_of(in + k, 64)), SP_OK);
			for (size_t c = 0; c < t.n; c++)
				cr_assert((unsigned char)t.text[c] >= ' ' &&
				    t.text[c] != 0x7f);
			if (k % 512 == 0)
				cr_assert_eq(sp_lines_resize(l, 1 + x % 50, 1 + x %
				    9), SP_OK);
		}
		t.n = 0;
		sp_lines_end(l);
		sp_lines_free(l);
	}
}
