/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 4096

struct sp_list {
	const struct sp_col *cols;
	size_t n_cols, n_rows, cap;
	char **cells;		/* n_rows * n_cols, NULL for null */
};

void
sp_age_text(char t[static SP_TIME_TEXT], int64_t us, int64_t now_us)
{
	int64_t d = us - now_us;
	char span[SP_TIME_TEXT];

	if (us == 0) {
		snprintf(t, SP_TIME_TEXT, "-");
		return;
	}
	if (d > -1000000 && d < 1000000) {
		snprintf(t, SP_TIME_TEXT, "now");
		return;
	}
	us = d < 0 ? -d : d;
	if (us >= 60000000)
		us -= us % 60000000;	/* nobody needs "5m 2s ago" */
	sp_duration_text(span, us);
	if (d < 0)
		snprintf(t, SP_TIME_TEXT, "%.34s ago", span);
	else
		snprintf(t, SP_TIME_TEXT, "in %.34s", span);
}

struct sp_list *
sp_list_new(const struct sp_col *cols, size_t n)
{
	struct sp_list *l = calloc(1, sizeof(*l));

	SP_ASSERT(l != NULL);
	l->cols = cols;
	l->n_cols = n;
	return l;
}

void
sp_list_free(struct sp_list *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->n_rows * l->n_cols; i++)
		free(l->cells[i]);
	free(l->cells);
	free(l);
}

void
sp_list_add(struct sp_list *l, const char *const *values)
{
	if (l->n_rows == l->cap) {
		size_t cap = l->cap == 0 ? 16 : l->cap * 2;
		char **more = calloc(cap * l->n_cols, sizeof(*more));

		SP_ASSERT(more != NULL);
		if (l->n_rows > 0)
			memcpy(more, l->cells,
			    l->n_rows * l->n_cols * sizeof(*more));
		free(l->cells);
		l->cells = more;
		l->cap = cap;
	}
	for (size_t i = 0; i < l->n_cols; i++) {
		char **at = &l->cells[l->n_rows * l->n_cols + i];

		*at = values[i] == NULL ? NULL : strdup(values[i]);
		SP_ASSERT(values[i] == NULL || *at != NULL);
	}
	l->n_rows++;
}

size_t
sp_list_n(const struct sp_list *l)
{
	return l->n_rows;
}

static const char *
cell(const struct sp_list *l, size_t row, size_t col)
{
	return l->cells[row * l->n_cols + col];
}

/* ------------------------------------------------------------------- JSON */

json_object *
sp_json_text(const char *s)
{
	char safe[CELL_MAX];

	if (s == NULL)
		return NULL;
	if (sp_utf8_is_valid(sp_span_str(s)))
		return json_object_new_string(s);
	return json_object_new_string(sp_vis(safe, sizeof(safe), sp_span_str(s)));
}

static json_object *
words_json(const char *v)
{
	json_object *a = json_object_new_array();

	while (*v != '\0') {
		size_t n = strcspn(v, " ");

		if (n > 0 && sp_utf8_is_valid(sp_span_of(v, n)))
			json_object_array_add(a,
			    json_object_new_string_len(v, (int)n));
		v += n;
		v += strspn(v, " ");
	}
	return a;
}

static json_object *
time_json(const char *v)
{
	int64_t us = strtoll(v, NULL, 10);
	char t[SP_TIME_TEXT];

	if (us == 0)
		return NULL;
	sp_time_text(t, us, true);
	return json_object_new_string(t);
}

static json_object *
cell_json(enum sp_col_kind kind, const char *v)
{
	if (v == NULL)
		return NULL;
	switch (kind) {
	case SP_COL_NUMBER:
	case SP_COL_BYTES:
		return json_object_new_int64(strtoll(v, NULL, 10));
	case SP_COL_SPAN:
		return json_object_new_int64(strtoll(v, NULL, 10) / 1000000);
	case SP_COL_TIME:
		return time_json(v);
	case SP_COL_BOOL:
		return json_object_new_boolean(v[0] == 't');
	case SP_COL_WORDS:
		return words_json(v);
	case SP_COL_JSON: {
		json_object *o = json_tokener_parse(v);

		return o != NULL ? o : sp_json_text(v);
	}
	case SP_COL_TEXT:
	case SP_COL_ID:
	case SP_COL_STATE:
		break;
	}
	return sp_json_text(v);
}

json_object *
sp_list_json_row(const struct sp_list *l, size_t row)
{
	json_object *o = json_object_new_object();

	for (size_t i = 0; i < l->n_cols; i++)
		json_object_object_add(o, l->cols[i].key,
		    cell_json(l->cols[i].kind, cell(l, row, i)));
	return o;
}

json_object *
sp_list_json(const struct sp_list *l)
{
	json_object *a = json_object_new_array();

	for (size_t r = 0; r < l->n_rows; r++)
		json_object_array_add(a, sp_list_json_row(l, r));
	return a;
}

/* One character of two or three bytes: escaped when sp_vis would not show it
 * as it is. Such characters stand in strings only, so the text stays JSON. */
static enum sp_err
put_json_char(struct sp_buf *out, const uint8_t *p, size_t n)
{
	char safe[16];
	uint32_t c;

	(void)sp_vis(safe, sizeof(safe), sp_span_of(p, n));
	if (safe[0] != '\\' || n > 3)
		return sp_buf_put(out, p, n);
	c = n == 1 ? p[0] : n == 2 ? (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f) :
	    (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 |
	    (p[2] & 0x3f);
	return sp_buf_printf(out, "\\u%04x", c);
}

enum sp_err
sp_json_print(json_object *o, bool compact, struct sp_buf *out)
{
	const char *s = json_object_to_json_string_ext(o,
	    JSON_C_TO_STRING_NOSLASHESCAPE |
	    (compact ? JSON_C_TO_STRING_PLAIN : JSON_C_TO_STRING_PRETTY));

	if (s == NULL)
		return SP_ERR_NOMEM;
	while (*s != '\0') {
		const uint8_t *p = (const uint8_t *)s;
		size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

		n = strnlen(s, n);
		if (n == 1 && p[0] != 0x7f)
			SP_TRY(sp_buf_put(out, s, 1));
		else
			SP_TRY(put_json_char(out, p, n));
		s += n;
	}
	return sp_buf_put(out, "\n", 1);
}

/* ------------------------------------------------------------------ tables */

static void
bytes_text(char *dst, size_t cap, int64_t n)
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
	double v = (double)n;
	size_t u = 0;

	while (v >= 1000 && u < 4) {
		v /= 1000;
		u++;
	}
	if (u == 0)
		snprintf(dst, cap, "%lld B", (long long)n);
	else
		snprintf(dst, cap, "%.1f %s", v, unit[u]);
}

/* What a table shows for a cell. */
static const char *
shown(const struct sp_col *c, const char *v, const struct sp_style *st,
    char dst[static CELL_MAX])
{
	if (v == NULL || v[0] == '\0')
		return "-";
	switch (c->kind) {
	case SP_COL_TIME:
		sp_age_text(dst, strtoll(v, NULL, 10), st->now_us);
		return dst;
	case SP_COL_SPAN:
		sp_duration_text(dst, strtoll(v, NULL, 10));
		return dst;
	case SP_COL_BYTES:
		bytes_text(dst, CELL_MAX, strtoll(v, NULL, 10));
		return dst;
	case SP_COL_BOOL:
		return v[0] == 't' ? "yes" : "no";
	case SP_COL_ID:
		(void)sp_vis(dst, CELL_MAX, sp_span_of(v, strnlen(v, 8)));
		return dst;
	case SP_COL_TEXT:
	case SP_COL_NUMBER:
	case SP_COL_WORDS:
	case SP_COL_STATE:
	case SP_COL_JSON:
		break;
	}
	return sp_vis(dst, CELL_MAX, sp_span_str(v));
}

static const char *
state_colour(const char *s)
{
	static const struct {
		const char *word, *code;
	} map[] = {{"open", "33"}, {"pending", "33"}, {"waiting", "33"},
	    {"approval", "33"}, {"running", "32"}, {"active", "32"},
	    {"approved", "32"}, {"granted", "32"}, {"allowed", "32"},
	    {"ok", "32"}, {"yes", "32"}, {"intact", "32"}, {"warn", "33"},
	    {"denied", "31"}, {"revoked", "31"}, {"fail", "31"},
	    {"killed", "31"}, {"forged", "31"}, {"missing", "31"},
	    {"disabled", "31"}, {"expired", "2"}, {"ended", "2"},
	    {"closed", "2"}};

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (strncmp(s, map[i].word, strlen(map[i].word)) == 0)
			return map[i].code;
	return NULL;
}

static enum sp_err
put_cell(struct sp_buf *out, const struct sp_style *st, const char *text,
    const char *code, size_t width, bool right, bool last)
{
	size_t cols = sp_text_columns(sp_span_str(text));
	size_t pad = cols < width ? width - cols : 0;

	if (!st->colour)
		code = NULL;
	if (right)
		SP_TRY(sp_buf_printf(out, "%*s", (int)pad, ""));
	if (code != NULL)
		SP_TRY(sp_buf_printf(out, "\033[%sm%s\033[0m", code, text));
	else
		SP_TRY(sp_buf_put(out, text, strlen(text)));
	if (last)
		return sp_buf_put(out, "\n", 1);
	return sp_buf_printf(out, "%*s", (int)(right ? 2 : pad + 2), "");
}

static bool
is_right(const struct sp_col *c)
{
	return c->kind == SP_COL_NUMBER || c->kind == SP_COL_BYTES;
}

static size_t
column_width(const struct sp_list *l, size_t col, const struct sp_style *st)
{
	size_t w = sp_text_columns(sp_span_str(l->cols[col].head));
	char t[CELL_MAX];

	for (size_t r = 0; r < l->n_rows; r++) {
		size_t n = sp_text_columns(sp_span_str(
		    shown(&l->cols[col], cell(l, r, col), st, t)));

		w = n > w ? n : w;
	}
	return w;
}

static enum sp_err
print_line(const struct sp_list *l, size_t row, const struct sp_style *st,
    const size_t *width, size_t last, struct sp_buf *out)
{
	char t[CELL_MAX];

	for (size_t i = 0; i <= last; i++) {
		const struct sp_col *c = &l->cols[i];
		const char *s = c->head, *code = "1";

		if (c->head == NULL)
			continue;
		if (row != SIZE_MAX) {
			s = shown(c, cell(l, row, i), st, t);
			code = c->kind == SP_COL_STATE ? state_colour(s) : NULL;
		}
		SP_TRY(put_cell(out, st, s, code, width[i], is_right(c),
		    i == last));
	}
	return SP_OK;
}

enum sp_err
sp_list_print(const struct sp_list *l, const struct sp_style *st,
    const char *none, struct sp_buf *out)
{
	size_t width[32] = {0}, last = 0;

	if (st->json) {
		json_object *a = sp_list_json(l);
		enum sp_err e = sp_json_print(a, false, out);

		json_object_put(a);
		return e;
	}
	if (l->n_rows == 0)
		return sp_buf_printf(out, "%s\n", none);
	SP_ASSERT(l->n_cols <= 32);
	for (size_t i = 0; i < l->n_cols; i++) {
		if (l->cols[i].head == NULL)
			continue;
		width[i] = column_width(l, i, st);
		last = i;
	}
	SP_TRY(print_line(l, SIZE_MAX, st, width, last, out));
	for (size_t r = 0; r < l->n_rows; r++)
		SP_TRY(print_line(l, r, st, width, last, out));
	return SP_OK;
}

/* Where one thing is shown there is room for the whole id and the moment. */
static const char *
shown_whole(const struct sp_col *c, const char *v, const struct sp_style *st,
    char dst[static CELL_MAX])
{
	char age[SP_TIME_TEXT], t[SP_TIME_TEXT];

	if (v != NULL && c->kind == SP_COL_ID)
		return sp_vis(dst, CELL_MAX, sp_span_str(v));
	if (v == NULL || c->kind != SP_COL_TIME || strtoll(v, NULL, 10) == 0)
		return shown(c, v, st, dst);
	sp_age_text(age, strtoll(v, NULL, 10), st->now_us);
	sp_time_text(t, strtoll(v, NULL, 10), false);
	snprintf(dst, CELL_MAX, "%s (%s)", t, age);
	return dst;
}

enum sp_err
sp_list_print_row(const struct sp_list *l, size_t row,
    const struct sp_style *st, struct sp_buf *out)
{
	size_t w = 0;
	char t[CELL_MAX];

	for (size_t i = 0; i < l->n_cols; i++) {
		size_t n = l->cols[i].head == NULL ? 0 :
		    sp_text_columns(sp_span_str(l->cols[i].head));

		w = n > w ? n : w;
	}
	for (size_t i = 0; i < l->n_cols; i++) {
		const struct sp_col *c = &l->cols[i];
		const char *s;

		if (c->head == NULL)
			continue;
		s = shown_whole(c, cell(l, row, i), st, t);
		SP_TRY(put_cell(out, st, c->head, "1", w, false, false));
		SP_TRY(put_cell(out, st, s, c->kind == SP_COL_STATE ?
		    state_colour(s) : NULL, 0, false, true));
	}
	return SP_OK;
}
