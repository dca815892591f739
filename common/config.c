/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

struct row {
	const char *name, *def, *help;
	bool is_number;
	uint64_t lo, hi;
	size_t offset, bytes;
};

static const struct row rows[] = {
#define IS_text false
#define IS_list false
#define IS_number true
#define ROW(kind, name_, def_, lo_, hi_, help_)                               \
	{.name = #name_, .def = (def_), .help = (help_),                      \
	    .is_number = IS_##kind, .lo = (lo_), .hi = (hi_),                 \
	    .offset = offsetof(struct sp_config, name_),                          \
	    .bytes = sizeof(((struct sp_config *)NULL)->name_)},
    SP_CONFIG_TABLE(ROW)
#undef ROW
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static enum sp_err
set(struct sp_config *c, const struct row *r, struct sp_span v,
    struct sp_config_diag *d)
{
	uint8_t *at = (uint8_t *)c + r->offset;
	uint64_t n;

	if (r->is_number) {
		if (sp_u64_parse(v, r->hi, &n) != SP_OK || n < r->lo) {
			snprintf(d->text, sizeof(d->text),
			    "%s wants a number from %llu to %llu", r->name,
			    (unsigned long long)r->lo, (unsigned long long)r->hi);
			return SP_ERR_SYNTAX;
		}
		memcpy(at, &n, sizeof(n));
		return SP_OK;
	}
	if (!sp_utf8_is_valid(v) || sp_span_cstr(v, (char *)at, r->bytes) != SP_OK) {
		snprintf(d->text, sizeof(d->text),
		    "%s wants a text of at most %zu bytes of UTF-8", r->name,
		    r->bytes - 1);
		return SP_ERR_SYNTAX;
	}
	return SP_OK;
}

static struct sp_span
trim(struct sp_span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' ||
	    s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

static enum sp_err
one_line(struct sp_config *c, struct sp_span line, bool *seen,
    struct sp_config_diag *d)
{
	struct sp_span name;
	const uint8_t *hash = line.n == 0 ? NULL : memchr(line.p, '#', line.n);

	if (hash != NULL)
		line.n = (size_t)(hash - line.p);
	line = trim(line);
	if (line.n == 0)
		return SP_OK;
	name = line;
	for (name.n = 0; name.n < line.n && line.p[name.n] != ' ' &&
	    line.p[name.n] != '\t';)
		name.n++;
	line.p += name.n;
	line.n -= name.n;
	for (size_t i = 0; i < N_ROWS; i++) {
		if (!sp_span_is(name, rows[i].name))
			continue;
		if (seen[i]) {
			snprintf(d->text, sizeof(d->text), "%s is given twice",
			    rows[i].name);
			return SP_ERR_SYNTAX;
		}
		seen[i] = true;
		return set(c, &rows[i], trim(line), d);
	}
	snprintf(d->text, sizeof(d->text),
	    "no setting is called \"%s\"; see sallyport.conf(5)",
	    sp_vis_tmp(name));
	return SP_ERR_SYNTAX;
}

enum sp_err
sp_config_parse(struct sp_config *c, struct sp_span text,
    struct sp_config_diag *diag)
{
	static struct sp_config t;
	bool seen[N_ROWS] = {false};

	memset(&t, 0, sizeof(t));
	*diag = (struct sp_config_diag){0};
	for (size_t i = 0; i < N_ROWS; i++)
		SP_TRY(set(&t, &rows[i], sp_span_str(rows[i].def), diag));
	while (text.n > 0) {
		const uint8_t *nl = memchr(text.p, '\n', text.n);
		size_t n = nl == NULL ? text.n : (size_t)(nl - text.p);

		diag->line++;
		SP_TRY(one_line(&t, sp_span_of(text.p, n), seen, diag));
		n += nl == NULL ? 0 : 1;
		text.p += n;
		text.n -= n;
	}
	memcpy(c, &t, sizeof(t));
	return SP_OK;
}

enum sp_err
sp_config_dump(const struct sp_config *c, struct sp_buf *out)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		const uint8_t *at = (const uint8_t *)c + rows[i].offset;
		uint64_t n;

		SP_TRY(sp_buf_printf(out, "# %s\n", rows[i].help));
		if (rows[i].is_number) {
			memcpy(&n, at, sizeof(n));
			SP_TRY(sp_buf_printf(out, "%s %llu\n\n", rows[i].name,
			    (unsigned long long)n));
		} else {
			SP_TRY(sp_buf_printf(out, "%s %s\n\n", rows[i].name,
			    (const char *)at));
		}
	}
	return SP_OK;
}
