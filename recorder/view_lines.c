/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "recorder/format.h"
#include "recorder/view.h"

#define AGO_MS_MAX (SP_VIEW_AGO_MAX / 1000)
#define ROWS_MAX UINT16_MAX

/* Text has no control characters, so that this stands between lines only. */
static const uint8_t between[2] = {'\r', '\n'};

static uint64_t
ms(const struct sp_view_line *l)
{
	return (l->ago_us > SP_VIEW_AGO_MAX ? SP_VIEW_AGO_MAX : l->ago_us) / 1000;
}

enum sp_err
sp_view_lines_encode(struct sp_buf *b, const struct sp_view_line *l, size_t n)
{
	if (n == 0 || n > SP_VIEW_LINES_MAX)
		return SP_ERR_INVAL;
	SP_TRY(sp_rec_varint_put(b, n));
	for (size_t i = 0; i < n; i++) {
		uint64_t before = i == 0 ? ms(&l[0]) : ms(&l[i - 1]);

		if (ms(&l[i]) > before)
			return SP_ERR_INVAL;
		SP_TRY(sp_rec_varint_put(b, i == 0 ? before : before - ms(&l[i])));
	}
	for (size_t i = 0; i < n; i++)
		SP_TRY(sp_rec_varint_put(b, l[i].row));
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			SP_TRY(sp_buf_put(b, between, sizeof(between)));
		SP_TRY(sp_buf_put(b, l[i].text.p, l[i].text.n));
	}
	return SP_OK;
}

static const uint8_t *
line_end(struct sp_span s)
{
	return s.n == 0 ? NULL : memchr(s.p, between[0], s.n);
}

/* The next one's text; false: it is none that a line may have. */
static bool
cut_line(struct sp_span *s, struct sp_span *text)
{
	const uint8_t *end = line_end(*s);
	size_t n = end == NULL ? s->n : (size_t)(end - s->p);

	*text = sp_span_of(s->p, n);
	if (end != NULL && (s->n - n < sizeof(between) || end[1] != between[1]))
		return false;
	n += end == NULL ? 0 : sizeof(between);
	*s = sp_span_of(s->p + n, s->n - n);
	return text->n > 0 && sp_view_is_text(*text, SP_VIEW_LINE_MAX);
}

static enum sp_err
check(struct sp_view_lines it)
{
	struct sp_view_line l;
	struct sp_span text = it.text, one;
	uint64_t n = it.n;

	for (uint64_t i = 0; i < n; i++) {
		bool is_last = i + 1 == n;

		if ((line_end(text) == NULL) != is_last || !cut_line(&text, &one) ||
		    !sp_view_lines_next(&it, &l))
			return SP_ERR_PROTO;
	}
	return SP_OK;
}

enum sp_err
sp_view_lines_begin(struct sp_span s, struct sp_view_lines *it)
{
	struct sp_view_lines x = {.ago_ms = UINT64_MAX};
	uint64_t v = 0, sum = 0, first = 0;

	it->n = 0;
	SP_TRY(sp_rec_varint_get(&s, SP_VIEW_LINES_MAX, &x.n));
	x.agos = s;
	for (uint64_t i = 0; i < x.n; i++) {
		SP_TRY(sp_rec_varint_get(&s, AGO_MS_MAX, &v));
		first = i == 0 ? v : first;
		sum += i == 0 ? 0 : v;
		if (sum > first)
			return SP_ERR_PROTO;
	}
	x.agos.n -= s.n;
	x.rows = s;
	for (uint64_t i = 0; i < x.n; i++)
		SP_TRY(sp_rec_varint_get(&s, ROWS_MAX, &v));
	x.rows.n -= s.n;
	x.text = s;
	if (x.n == 0)
		return SP_ERR_PROTO;
	SP_TRY(check(x));
	*it = x;
	return SP_OK;
}

bool
sp_view_lines_next(struct sp_view_lines *it, struct sp_view_line *l)
{
	bool is_first = it->ago_ms == UINT64_MAX;
	uint64_t v = 0, row = 0;

	if (it->n == 0 || sp_rec_varint_get(&it->agos, AGO_MS_MAX, &v) != SP_OK ||
	    sp_rec_varint_get(&it->rows, ROWS_MAX, &row) != SP_OK ||
	    !cut_line(&it->text, &l->text))
		return false;
	it->n--;
	it->ago_ms = is_first ? v : it->ago_ms - v;
	l->ago_us = it->ago_ms * 1000;
	l->row = (uint16_t)row;
	return true;
}
