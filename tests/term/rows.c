/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a stream through the terminal engine and prints the screen at each of
 * its checkpoints, in the form of rows.js; tests/term/test_fidelity.py compares.
 *
 *   rows FILE          prints
 *   rows FILE N        dumps and loads the state after every Nth byte: what was
 *                      loaded, fed the next byte, must be the straight run's
 *
 * Either fails if the engine takes memory while it parses.
 *
 * FILE: 'f' u32 n, n bytes to feed; 'r' u16 cols, u16 rows; 'c' a checkpoint.
 * It begins with an 'r'. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recorder/term/term.h"

/* The linker has all calls of the engine come here (--wrap). */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool is_parsing;
static size_t n_allocated, n_while_parsing;

static void
count(void)
{
	n_allocated++;
	n_while_parsing += is_parsing;
}

void *
__wrap_malloc(size_t n)
{
	count();
	return __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	count();
	return __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	count();
	return __real_realloc(p, n);
}

static void
feed(struct sp_term *t, struct sp_span s)
{
	is_parsing = true;
	sp_term_feed(t, s);
	is_parsing = false;
}

static void
fail(const char *what, size_t at)
{
	fprintf(stderr, "rows: %s at %zu\n", what, at);
	exit(1);
}

static void
must(enum sp_err e, size_t at)
{
	if (e != SP_OK)
		fail(sp_err_text(e), at);
}

static void
colour(uint32_t c)
{
	if (c == 0)
		printf("-");
	else if (c >= SP_COLOUR_RGB)
		printf("#%06x", c & 0xffffff);
	else
		printf("%u", c & 0xff);
}

static void
row(const struct sp_term *t, unsigned y)
{
	SP_BUF_AUTO b = {.max = 1u << 16};
	const struct sp_cell *c = sp_term_row(t, y);
	unsigned n = sp_term_cols(t), run;

	must(sp_cells_text(c, n, false, &b), y);
	printf("|");
	fwrite(sp_buf_span(&b).p, 1, b.len, stdout);
	printf("\t");
	for (unsigned x = 0; x < n; x += run) {
		for (run = 1; x + run < n && c[x].fg == c[x + run].fg &&
		    c[x].bg == c[x + run].bg && c[x].attr == c[x + run].attr; run++)
			;
		printf("%u:", run);
		colour(c[x].fg);
		printf("/");
		colour(c[x].bg);
		printf("/%x ", c[x].attr);
	}
	printf("\n");
}

static void
show(const struct sp_term *t)
{
	unsigned x, y;
	bool is_visible;

	sp_term_cursor(t, &x, &y, &is_visible);
	printf("@ %ux%u %u,%u %d\n", sp_term_cols(t), sp_term_rows(t), x, y,
	    sp_term_is_alternate(t));
	for (y = 0; y < sp_term_rows(t); y++)
		row(t, y);
}

static struct sp_term *
reload(const struct sp_term *t, struct sp_buf *b, size_t at)
{
	struct sp_term *u = NULL;

	sp_buf_reset(b);
	must(sp_term_dump(t, b), at);
	must(sp_term_load(sp_buf_span(b), NULL, NULL, &u), at);
	return u;
}

static void
every(struct sp_term *t, struct sp_span s, size_t step, size_t at)
{
	SP_BUF_AUTO a = {.max = SP_TERM_DUMP_MAX};
	SP_BUF_AUTO b = {.max = SP_TERM_DUMP_MAX};

	for (size_t i = 0; i < s.n; i++) {
		struct sp_term *u;

		if ((at + i) % step != 0) {
			feed(t, sp_span_of(s.p + i, 1));
			continue;
		}
		u = reload(t, &a, at + i);
		feed(u, sp_span_of(s.p + i, 1));
		feed(t, sp_span_of(s.p + i, 1));
		sp_buf_reset(&a);
		sp_buf_reset(&b);
		must(sp_term_dump(t, &a), at + i);
		must(sp_term_dump(u, &b), at + i);
		sp_term_free(u);
		if (!sp_span_eq(sp_buf_span(&a), sp_buf_span(&b)))
			fail("a loaded state went another way", at + i);
	}
}

static void
event(struct sp_term **t, struct sp_span *s, size_t step, size_t at)
{
	struct sp_span f;
	uint16_t cols, rows;
	uint8_t what;

	must(sp_get_u8(s, &what), at);
	if (what == 'r') {
		must(sp_get_u16(s, &cols), at);
		must(sp_get_u16(s, &rows), at);
		must(*t == NULL ? sp_term_new(cols, rows, NULL, NULL, t) :
		    sp_term_resize(*t, cols, rows), at);
	} else if (*t == NULL) {
		fail("no size", at);
	} else if (what == 'f') {
		must(sp_get_bytes(s, 1u << 30, &f), at);
		if (step > 0)
			every(*t, f, step, at);
		else
			feed(*t, f);
	} else if (what == 'c') {
		if (step == 0)
			show(*t);
	} else {
		fail("an unknown event", at);
	}
}

int
main(int argc, char **argv)
{
	SP_BUF_AUTO in = {.max = 1u << 30};
	struct sp_term *t = NULL;
	struct sp_span s;
	uint8_t *p;
	size_t n = 0, step = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	FILE *f;

	if (argc < 2 || (f = fopen(argv[1], "rbe")) == NULL)
		return 2;
	do {
		must(sp_buf_reserve(&in, 1u << 20, &p), in.len);
		n = fread(p, 1, 1u << 20, f);
		sp_buf_commit(&in, n);
	} while (n > 0);
	fclose(f);
	s = sp_buf_span(&in);
	while (s.n > 0)
		event(&t, &s, step, in.len - s.n);
	sp_term_free(t);
	/* Two screens at least: else nothing was counted at all. */
	if (n_allocated < 4 || n_while_parsing > 0)
		fail("memory was taken while parsing", n_while_parsing);
	return 0;
}
