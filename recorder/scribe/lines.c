/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/scribe/lines.h"

#include <stdlib.h>
#include <string.h>

#define JOIN_MAX 6000		/* bytes of a line that goes on over rows */
#define ROW_BYTES 6144
#define SEEN 1024		/* lines of a full-screen program, remembered */
#define LOOKS 16		/* before wipes in one piece, and one more ... */
#define BYTES_A_LOOK 128	/* ... for each so many bytes */

struct row {
	char *text;
	uint16_t n, cap;
	uint64_t hash;		/* of text; 0: empty */
	bool is_told;
};

struct page {
	struct row *row;
	unsigned rows;
};

struct sp_lines {
	struct sp_term *t;
	struct page main, alt, next;	/* next: of one look */
	bool was_alt, is_short;		/* is_short: of memory */
	struct sp_buf join, text;
	uint64_t seen[SEEN];
	size_t looks;
	sp_lines_fn *fn;
	void *ctx;
};

static uint64_t
hash(struct sp_span s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ s.p[i]) * UINT64_C(0x100000001b3);
	return s.n == 0 ? 0 : h | 1;
}

static struct sp_span
text_of(const struct row *r)
{
	return sp_span_of(r->text, r->n);
}

static bool
is_text(struct sp_span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != ' ')
			return true;
	return false;
}

static bool
set(struct row *r, struct sp_span s)
{
	if (s.n > r->cap) {
		size_t cap = (s.n + 63) / 64 * 64;
		char *p = malloc(cap);

		if (p == NULL)
			return false;
		free(r->text);
		r->text = p;
		r->cap = (uint16_t)cap;
	}
	if (s.n > 0)
		memcpy(r->text, s.p, s.n);
	r->n = (uint16_t)s.n;
	r->hash = hash(s);
	r->is_told = false;
	return true;
}

static void
drop(struct page *p)
{
	for (unsigned y = 0; y < p->rows; y++)
		free(p->row[y].text);
	free(p->row);
	*p = (struct page){0};
}

/* Rows beyond the new number have been told by whoever calls. */
static bool
size(struct page *p, unsigned rows)
{
	struct row *r;

	if (rows == p->rows)
		return true;
	if ((r = calloc(rows, sizeof(*r))) == NULL)
		return false;
	for (unsigned y = 0; y < p->rows && y < rows; y++) {
		r[y] = p->row[y];
		p->row[y] = (struct row){0};
	}
	drop(p);
	p->row = r;
	p->rows = rows;
	return true;
}

/* A full-screen program shows a line again and again: told once. */
static bool
is_seen(struct sp_lines *l, uint64_t h)
{
	uint64_t *s = &l->seen[h / 2 % SEEN];

	if (*s == h)
		return true;
	*s = h;
	return false;
}

static void
tell(struct sp_lines *l, unsigned row, struct sp_span s, bool is_alt)
{
	if (is_text(s) && !(is_alt && is_seen(l, hash(s))))
		l->fn(l->ctx, (uint16_t)row, s);
}

static void
tell_row(struct sp_lines *l, const struct page *p, unsigned y, bool is_alt)
{
	if (!p->row[y].is_told)
		tell(l, y, text_of(&p->row[y]), is_alt);
}

static void
end_join(struct sp_lines *l)
{
	if (l->join.len > 0)
		tell(l, 0, sp_buf_span(&l->join), false);
	l->join.off = l->join.len = 0;
}

/* Most cells are ASCII and bear no marks. */
static size_t
plain(const struct sp_cell *c, size_t n, uint8_t *o)
{
	size_t i;

	for (i = 0; i < n && c[i].ch < 0x80 && c[i].width == 1 &&
	    c[i].mark[0] == 0; i++)
		o[i] = c[i].ch == 0 ? ' ' : (uint8_t)c[i].ch;
	return i;
}

static enum sp_err
read_cells(struct sp_lines *l, const struct sp_cell *c, size_t n, bool all,
    struct sp_span *s)
{
	struct sp_buf *b = &l->text;
	enum sp_err e = SP_OK;
	uint8_t *at;
	size_t m;

	b->off = b->len = 0;
	while (!all && n > 0 && (c[n - 1].ch == ' ' || c[n - 1].ch == 0) &&
	    c[n - 1].width == 1)
		n--;
	for (size_t i = 0; e == SP_OK && i < n; i += m) {
		if ((e = sp_buf_reserve(b, n - i, &at)) != SP_OK)
			break;
		m = plain(c + i, n - i, at);
		sp_buf_commit(b, m);
		if (m == 0) {
			e = sp_cells_text(c + i, 1, true, b);
			m = 1;
		}
	}
	*s = sp_buf_span(b);
	return e == SP_ERR_TOOBIG ? SP_OK : e;
}

/* Is what stood there only the beginning of what stands there now? */
static bool
goes_on(struct sp_span old, struct sp_span now)
{
	return old.n <= now.n && (old.n == 0 || memcmp(old.p, now.p, old.n) == 0);
}

/* ------------------------------------------- what leaves at the top */

static void
shift(struct page *p)
{
	struct row first;

	if (p->rows == 0)
		return;
	first = p->row[0];
	memmove(p->row, p->row + 1, (p->rows - 1) * sizeof(first));
	first.n = 0;
	first.hash = 0;
	first.is_told = false;
	p->row[p->rows - 1] = first;
}

static void
on_scroll(void *ctx, const struct sp_cell *cells, size_t n, bool is_wrapped)
{
	struct sp_lines *l = ctx;
	struct sp_span s;

	if (l->main.rows == 0)
		return;
	if (read_cells(l, cells, n, is_wrapped, &s) != SP_OK) {
		l->is_short = true;
		return;
	}
	if (!goes_on(text_of(&l->main.row[0]), s))
		tell_row(l, &l->main, 0, false);
	shift(&l->main);
	if (l->join.len + s.n > JOIN_MAX)
		end_join(l);
	if (sp_buf_put(&l->join, s.p, s.n) != SP_OK)
		l->is_short = true;
	if (!is_wrapped)
		end_join(l);
}

/* ---------------------------------------------------------- a look */

static const struct row *
find(const struct page *p, uint64_t h)
{
	for (unsigned y = 0; y < p->rows; y++)
		if (p->row[y].hash == h)
			return &p->row[y];
	return NULL;
}

/* What is in `next` becomes the page; what it no longer shows was final. */
static void
turn(struct sp_lines *l, struct page *p, bool is_alt)
{
	for (unsigned y = 0; y < p->rows; y++) {
		struct row *o = &p->row[y], *n = &l->next.row[y];
		const struct row *was;

		if (o->hash == n->hash) {
			n->is_told = o->is_told;
			continue;
		}
		was = n->hash == 0 ? NULL : find(p, n->hash);
		n->is_told = was != NULL && was->is_told;
		if (o->hash == 0 || goes_on(text_of(o), text_of(n)) ||
		    find(&l->next, o->hash) != NULL)
			continue;
		tell_row(l, p, y, is_alt);
	}
	for (unsigned y = 0; y < p->rows; y++) {
		struct row r = p->row[y];

		p->row[y] = l->next.row[y];
		l->next.row[y] = r;
	}
}

static void
leave_alternate(struct sp_lines *l)
{
	for (unsigned y = 0; y < l->alt.rows; y++)
		tell_row(l, &l->alt, y, true);
	drop(&l->alt);
	memset(l->seen, 0, sizeof(l->seen));
}

static void
look(struct sp_lines *l)
{
	bool is_alt = sp_term_is_alternate(l->t);
	struct page *p = is_alt ? &l->alt : &l->main;
	unsigned rows = sp_term_rows(l->t), cols = sp_term_cols(l->t);
	struct sp_span s;

	if (l->was_alt && !is_alt)
		leave_alternate(l);
	l->was_alt = is_alt;
	if (!size(p, rows) || !size(&l->next, rows)) {
		l->is_short = true;
		return;
	}
	for (unsigned y = 0; y < rows; y++)
		if (read_cells(l, sp_term_row(l->t, y), cols, false, &s) !=
		    SP_OK || !set(&l->next.row[y], s)) {
			l->is_short = true;
			return;
		}
	turn(l, p, is_alt);
}

static void
on_wipe(void *ctx)
{
	struct sp_lines *l = ctx;

	/* Wipes cost more than the bytes that ask for them. */
	if (l->looks == 0)
		return;
	l->looks--;
	look(l);
}

/* ------------------------------------------------------------ life */

static void
begin(struct sp_lines *l, sp_lines_fn *fn, void *ctx)
{
	l->fn = fn;
	l->ctx = ctx;
	sp_buf_init(&l->join, ROW_BYTES + JOIN_MAX);
	sp_buf_init(&l->text, ROW_BYTES);
	sp_term_on_wipe(l->t, on_wipe);
}

enum sp_err
sp_lines_new(unsigned cols, unsigned rows, sp_lines_fn *fn, void *ctx,
    struct sp_lines **out)
{
	struct sp_lines *l = calloc(1, sizeof(*l));
	enum sp_err e;

	if (l == NULL)
		return SP_ERR_NOMEM;
	e = sp_term_new(cols, rows, on_scroll, l, &l->t);
	if (e != SP_OK) {
		free(l);
		return e;
	}
	begin(l, fn, ctx);
	look(l);
	*out = l;
	return SP_OK;
}

enum sp_err
sp_lines_load(struct sp_span state, sp_lines_fn *fn, void *ctx,
    struct sp_lines **out)
{
	struct sp_lines *l = calloc(1, sizeof(*l));
	enum sp_err e;

	if (l == NULL)
		return SP_ERR_NOMEM;
	e = sp_term_load(state, on_scroll, l, &l->t);
	if (e != SP_OK) {
		free(l);
		return e;
	}
	begin(l, fn, ctx);
	look(l);
	*out = l;
	return SP_OK;
}

void
sp_lines_free(struct sp_lines *l)
{
	if (l == NULL)
		return;
	drop(&l->main);
	drop(&l->alt);
	drop(&l->next);
	sp_buf_fini(&l->join);
	sp_buf_fini(&l->text);
	sp_term_free(l->t);
	free(l);
}

static enum sp_err
how_it_went(struct sp_lines *l)
{
	bool is_short = l->is_short;

	l->is_short = false;
	return is_short ? SP_ERR_NOMEM : SP_OK;
}

enum sp_err
sp_lines_feed(struct sp_lines *l, struct sp_span s)
{
	l->looks = LOOKS + s.n / BYTES_A_LOOK;
	sp_term_feed(l->t, s);
	look(l);
	return how_it_went(l);
}

enum sp_err
sp_lines_resize(struct sp_lines *l, unsigned cols, unsigned rows)
{
	look(l);
	SP_TRY(sp_term_resize(l->t, cols, rows));
	/* A shorter window hides rows; what it cut off is not overwritten. */
	for (unsigned y = sp_term_rows(l->t); y < l->main.rows; y++)
		tell_row(l, &l->main, y, false);
	for (unsigned y = sp_term_rows(l->t); y < l->alt.rows; y++)
		tell_row(l, &l->alt, y, true);
	if (!size(&l->main, sp_term_rows(l->t)) || (l->alt.rows > 0 &&
	    !size(&l->alt, sp_term_rows(l->t))))
		l->is_short = true;
	look(l);
	return how_it_went(l);
}

void
sp_lines_flush(struct sp_lines *l)
{
	end_join(l);
}

void
sp_lines_end(struct sp_lines *l)
{
	look(l);
	end_join(l);
	for (unsigned y = 0; y < l->alt.rows; y++)
		tell_row(l, &l->alt, y, true);
	for (unsigned y = 0; y < l->main.rows; y++)
		tell_row(l, &l->main, y, false);
}

const struct sp_term *
sp_lines_term(const struct sp_lines *l)
{
	return l->t;
}
