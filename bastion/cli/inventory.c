/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/cli/inventory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/text.h"

/* ----------------------------------------------------------------- the form */

enum shape { TEXT, BOOL, LIST, NAMES, FIELDS };
struct form {
	const char *key;	/* NULL: the end */
	enum shape shape;
	const struct form *of;	/* NAMES and FIELDS: what is in it */
	bool may_be_null;
};
static const struct form account_form[] = {
	{"kind", TEXT, NULL, false}, {"secret", TEXT, NULL, false},
	{"enabled", BOOL, NULL, false}, {"exclusive", BOOL, NULL, false},
	{"admin", TEXT, NULL, false}, {"limit", TEXT, NULL, false},
	{"members", LIST, NULL, false}, {"rotate", TEXT, NULL, false},
	{"password_rule", TEXT, NULL, true}, {"release", TEXT, NULL, true},
	{NULL, TEXT, NULL, false}};
static const struct form target_form[] = {
	{"addresses", LIST, NULL, false}, {"host_keys", LIST, NULL, false},
	{"tags", LIST, NULL, false}, {"via", TEXT, NULL, true},
	{"legacy", BOOL, NULL, false}, {"enabled", BOOL, NULL, false},
	{"protocol", TEXT, NULL, false}, {"databases", LIST, NULL, false},
	{"channel_binding", TEXT, NULL, false}, {"reconcile", TEXT, NULL, true},
	{"accounts", NAMES, account_form, false}, {NULL, TEXT, NULL, false}};
static const struct form user_form[] = {
	{"display", TEXT, NULL, false}, {"enabled", BOOL, NULL, false},
	{"groups", LIST, NULL, false}, {"keys", LIST, NULL, false},
	{NULL, TEXT, NULL, false}};
static const struct form top_form[] = {
	{"version", TEXT, NULL, false}, {"policy", TEXT, NULL, false},
	{"users", NAMES, user_form, false}, {"targets", NAMES, target_form, false},
	{NULL, TEXT, NULL, false}};

struct place {
	char *path;
	size_t line, column;
};
struct sp_inv {
	json_object *o;
	struct place *places;
	size_t n, cap;
};
struct reader {
	yaml_parser_t p;
	yaml_event_t e;
	struct sp_inv *inv;
	struct sp_inv_diag *d;
	size_t nodes;
	char path[512];
};

/* --------------------------------------------------------------------- events */

static enum sp_err
wrong(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	r->d->line = r->e.start_mark.line + 1;
	r->d->column = r->e.start_mark.column + 1;
	va_start(ap, fmt);
	vsnprintf(r->d->text, sizeof(r->d->text), fmt, ap);
	va_end(ap);
	return SP_ERR_SYNTAX;
}

static struct sp_span
scalar(const struct reader *r)
{
	return sp_span_of(r->e.data.scalar.value, r->e.data.scalar.length);
}

static enum sp_err
check_event(struct reader *r)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch ((int)r->e.type) {
	case YAML_SCALAR_EVENT:
		anchor = r->e.data.scalar.anchor;
		tag = r->e.data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = r->e.data.sequence_start.anchor;
		tag = r->e.data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = r->e.data.mapping_start.anchor;
		tag = r->e.data.mapping_start.tag;
		break;
	case YAML_ALIAS_EVENT:
		return wrong(r, "aliases are not taken: write it out");
	default:
		return SP_OK;
	}
	if (anchor != NULL)
		return wrong(r, "anchors are not taken: write it out");
	if (tag != NULL)
		return wrong(r, "tags are not taken");
	if (++r->nodes > SP_INV_NODES_MAX)
		return wrong(r, "that is more than one file can hold: split it");
	return SP_OK;
}

static enum sp_err
next(struct reader *r)
{
	yaml_event_delete(&r->e);
	memset(&r->e, 0, sizeof(r->e));
	if (!yaml_parser_parse(&r->p, &r->e)) {
		r->d->line = r->p.problem_mark.line + 1;
		r->d->column = r->p.problem_mark.column + 1;
		snprintf(r->d->text, sizeof(r->d->text), "this is no YAML: %s",
		    r->p.problem == NULL ? "unknown" : r->p.problem);
		return SP_ERR_SYNTAX;
	}
	return check_event(r);
}

/* Remembers where the thing at r->path stands. */
static enum sp_err
note(struct reader *r)
{
	struct sp_inv *v = r->inv;

	if (v->n == v->cap) {
		size_t cap = v->cap == 0 ? 64 : 2 * v->cap;
		struct place *p = reallocarray(v->places, cap, sizeof(*p));

		if (p == NULL)
			return SP_ERR_NOMEM;
		v->places = p;
		v->cap = cap;
	}
	v->places[v->n].path = strdup(r->path);
	if (v->places[v->n].path == NULL)
		return SP_ERR_NOMEM;
	v->places[v->n].line = r->e.start_mark.line + 1;
	v->places[v->n++].column = r->e.start_mark.column + 1;
	return SP_OK;
}

/* ---------------------------------------------------------------- nearest name */

static size_t
distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), row[40], diag, up;

	if (n > 30 || m > 30)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		diag = row[0];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = diag + (a[i - 1] != b[j - 1]);

			up = row[j];
			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diag = up;
			row[j] = best;
		}
	}
	return row[m];
}

static enum sp_err
unknown(struct reader *r, const struct form *f, const char *key)
{
	const struct form *best = f;

	for (const struct form *x = f; x->key != NULL; x++)
		if (distance(key, x->key) < distance(key, best->key))
			best = x;
	return wrong(r, "nobody knows %s here: did you mean %s?", sp_vis_str(key),
	    best->key);
}

/* --------------------------------------------------------------------- values */

static bool
is_null(const struct reader *r)
{
	struct sp_span s = scalar(r);

	return r->e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (s.n == 0 ||
	    sp_span_is(s, "~") || sp_span_is(s, "null"));
}

static enum sp_err
text(struct reader *r, json_object **o)
{
	struct sp_span s = scalar(r);

	if (r->e.type != YAML_SCALAR_EVENT || is_null(r))
		return wrong(r, "a text belongs here");
	if (memchr(s.p, '\0', s.n) != NULL || !sp_utf8_is_valid(s))
		return wrong(r, "this text is no UTF-8");
	if (s.n > 16384)
		return wrong(r, "this text is too long");
	*o = json_object_new_string_len((const char *)s.p, (int)s.n);
	return *o == NULL ? SP_ERR_NOMEM : SP_OK;
}

static enum sp_err
truth(struct reader *r, json_object **o)
{
	static const char *const yes[] = {"true", "yes", "on"};
	static const char *const no[] = {"false", "no", "off"};

	if (r->e.type == YAML_SCALAR_EVENT)
		for (size_t i = 0; i < 3; i++)
			if (sp_span_is(scalar(r), yes[i]) ||
			    sp_span_is(scalar(r), no[i])) {
				*o = json_object_new_boolean(
				    sp_span_is(scalar(r), yes[i]));
				return *o == NULL ? SP_ERR_NOMEM : SP_OK;
			}
	return wrong(r, "true or false belongs here");
}

static enum sp_err
list(struct reader *r, json_object **o)
{
	size_t at = strlen(r->path);

	if (r->e.type != YAML_SEQUENCE_START_EVENT)
		return wrong(r, "a list belongs here: [a, b], or lines with -");
	*o = json_object_new_array();
	for (size_t i = 0;; i++) {
		json_object *v = NULL;
		enum sp_err e;

		SP_TRY(next(r));
		if (r->e.type == YAML_SEQUENCE_END_EVENT)
			return SP_OK;
		snprintf(r->path + at, sizeof(r->path) - at, "/%zu", i);
		if ((e = note(r)) == SP_OK && (e = text(r, &v)) == SP_OK)
			json_object_array_add(*o, v);
		r->path[at] = '\0';
		SP_TRY(e);
	}
}

static enum sp_err mapping(struct reader *r, const struct form *f, bool is_names,
    json_object **o);

static enum sp_err
value(struct reader *r, const struct form *f, json_object **o)
{
	*o = NULL;
	if (f->may_be_null && r->e.type == YAML_SCALAR_EVENT && is_null(r))
		return SP_OK;
	switch (f->shape) {
	case TEXT:
		return text(r, o);
	case BOOL:
		return truth(r, o);
	case LIST:
		return list(r, o);
	case NAMES:
	case FIELDS:
		break;
	}
	/* "users:" and nothing after it is a mapping of nobody. */
	if (r->e.type == YAML_SCALAR_EVENT && is_null(r)) {
		*o = json_object_new_object();
		return SP_OK;
	}
	return mapping(r, f->of, f->shape == NAMES, o);
}

static enum sp_err
entry(struct reader *r, const struct form *f, bool is_names, const char *key,
    json_object *into)
{
	const struct form any = {key, FIELDS, f, false}, *x = &any;
	json_object *v = NULL;
	enum sp_err e;

	if (json_object_object_get_ex(into, key, NULL))
		return wrong(r, "%s stands here twice", sp_vis_str(key));
	if (!is_names) {
		for (x = f; x->key != NULL && strcmp(x->key, key) != 0; x++)
			;
		if (x->key == NULL)
			return unknown(r, f, key);
	}
	SP_TRY(note(r));
	SP_TRY(next(r));
	e = value(r, x, &v);
	if (e != SP_OK) {
		json_object_put(v);
		return e;
	}
	return json_object_object_add(into, key, v) == 0 ? SP_OK : SP_ERR_NOMEM;
}

static enum sp_err
mapping(struct reader *r, const struct form *f, bool is_names, json_object **o)
{
	size_t at = strlen(r->path);

	if (r->e.type != YAML_MAPPING_START_EVENT)
		return wrong(r, "a mapping belongs here: lines of `name: value`");
	*o = json_object_new_object();
	for (;;) {
		char key[100];
		enum sp_err e;

		SP_TRY(next(r));
		if (r->e.type == YAML_MAPPING_END_EVENT)
			return SP_OK;
		if (r->e.type != YAML_SCALAR_EVENT ||
		    sp_span_cstr(scalar(r), key, sizeof(key)) != SP_OK ||
		    key[0] == '\0' || !sp_utf8_is_valid(scalar(r)))
			return wrong(r, "this is no name");
		snprintf(r->path + at, sizeof(r->path) - at, "/%s", key);
		e = entry(r, f, is_names, key, *o);
		r->path[at] = '\0';
		SP_TRY(e);
	}
}

/* ----------------------------------------------------------------------- whole */

static enum sp_err
whole(struct reader *r)
{
	const char *v;

	do {
		SP_TRY(next(r));
	} while (r->e.type == YAML_STREAM_START_EVENT ||
	    r->e.type == YAML_DOCUMENT_START_EVENT);
	SP_TRY(mapping(r, top_form, false, &r->inv->o));
	do {
		SP_TRY(next(r));
	} while (r->e.type == YAML_DOCUMENT_END_EVENT);
	if (r->e.type != YAML_STREAM_END_EVENT)
		return wrong(r, "one document is one inventory");
	v = json_object_get_string(json_object_object_get(r->inv->o, "version"));
	if (v == NULL || strcmp(v, "1") != 0) {
		*r->d = (struct sp_inv_diag){0};
		snprintf(r->d->text, sizeof(r->d->text), "say which form it has: "
		    "version: 1");
		return SP_ERR_SYNTAX;
	}
	json_object_object_del(r->inv->o, "version");
	return SP_OK;
}

enum sp_err
sp_inv_parse(struct sp_inv **out, struct sp_span s, struct sp_inv_diag *d)
{
	struct reader r = {.d = d};
	enum sp_err e;

	*d = (struct sp_inv_diag){0};
	if (s.n > SP_INV_BYTES_MAX) {
		snprintf(d->text, sizeof(d->text), "at most 8 MiB");
		return SP_ERR_SYNTAX;
	}
	r.inv = calloc(1, sizeof(*r.inv));
	if (r.inv == NULL)
		return SP_ERR_NOMEM;
	if (!yaml_parser_initialize(&r.p)) {
		sp_inv_free(r.inv);
		return SP_ERR_NOMEM;
	}
	yaml_parser_set_encoding(&r.p, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.p, s.p == NULL ? (const uint8_t *)"" : s.p,
	    s.n);
	e = whole(&r);
	yaml_event_delete(&r.e);
	yaml_parser_delete(&r.p);
	if (e != SP_OK)
		sp_inv_free(r.inv);
	else
		*out = r.inv;
	return e;
}

void
sp_inv_free(struct sp_inv *i)
{
	if (i == NULL)
		return;
	json_object_put(i->o);
	for (size_t k = 0; k < i->n; k++)
		free(i->places[k].path);
	free(i->places);
	free(i);
}

json_object *
sp_inv_json(const struct sp_inv *i)
{
	return i->o;
}

void
sp_inv_where(const struct sp_inv *i, const char *path, size_t *line, size_t *column)
{
	size_t best = 0;

	*line = *column = 0;
	for (size_t k = 0; k < i->n; k++) {
		size_t n = strlen(i->places[k].path);

		if (n < best || strncmp(i->places[k].path, path, n) != 0 ||
		    (path[n] != '\0' && path[n] != '/'))
			continue;
		best = n;
		*line = i->places[k].line;
		*column = i->places[k].column;
	}
}
