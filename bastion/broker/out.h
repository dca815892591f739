/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_OUT_H
#define SP_BROKER_OUT_H

#include <json-c/json.h>

#include "common/buf.h"
#include "common/text.h"

/*
 * What verbs print: one list of rows, shown as an aligned table for people or
 * as JSON for programs. Cells are untrusted: a table shows them through
 * sp_vis, JSON escapes what could change a terminal.
 */
struct sp_style {
	bool json, colour;
	int64_t now_us;		/* ages count from here */
};

/* "3m ago", "in 1h 20m", "now", "-" for 0. */
void sp_age_text(char t[static SP_TIME_TEXT], int64_t us, int64_t now_us);

enum sp_col_kind {
	SP_COL_TEXT,
	SP_COL_NUMBER,
	SP_COL_BYTES,	/* 1.2 MB in a table, a number in JSON */
	SP_COL_TIME,	/* microseconds: an age in a table, RFC 3339 in JSON */
	SP_COL_SPAN,	/* microseconds: a length of time; seconds in JSON */
	SP_COL_BOOL,	/* "t" is yes */
	SP_COL_WORDS,	/* separated by spaces; an array in JSON */
	SP_COL_ID,	/* a uuid; its first eight characters in a table */
	SP_COL_STATE,	/* a text that has a colour */
	SP_COL_JSON,	/* JSON text; compact in a table */
};
struct sp_col {
	const char *key;	/* in JSON */
	const char *head;	/* in a table; NULL: only in JSON */
	enum sp_col_kind kind;
};

struct sp_list;
/* cols is borrowed for the life of the list. */
struct sp_list *sp_list_new(const struct sp_col *cols, size_t n);
void sp_list_free(struct sp_list *l);
/* One text for each column, copied; NULL is null. */
void sp_list_add(struct sp_list *l, const char *const *values);
size_t sp_list_n(const struct sp_list *l);
/* A table, or an array of objects. `none` is what a table says when empty. */
SP_MUST enum sp_err sp_list_print(const struct sp_list *l,
    const struct sp_style *st, const char *none, struct sp_buf *out);
/* One row as lines of "head  value". */
SP_MUST enum sp_err sp_list_print_row(const struct sp_list *l, size_t row,
    const struct sp_style *st, struct sp_buf *out);
/* Rows as JSON; the caller puts them. */
json_object *sp_list_json(const struct sp_list *l);
json_object *sp_list_json_row(const struct sp_list *l, size_t row);
/* A string for JSON: what is not UTF-8 goes through sp_vis. NULL is null. */
json_object *sp_json_text(const char *s);
/* Encoded rules as an object; NULL for none. */
json_object *sp_rules_json(struct sp_span encoded);
/* JSON text and a newline; characters that change a terminal are \u-escaped. */
SP_MUST enum sp_err sp_json_print(json_object *o, bool compact,
    struct sp_buf *out);

#endif
