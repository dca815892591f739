/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/flow.h"
#include "policy/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct json_object *
sp_detail(void)
{
	return json_object_new_object();
}

void
sp_detail_span(struct json_object *d, const char *key, struct sp_span v)
{
	char safe[2048];
	struct json_object *s;

	if (d == NULL || v.n == 0)
		return;
	if (v.n > 1500 || !sp_utf8_is_valid(v) || memchr(v.p, 0, v.n) != NULL) {
		sp_vis(safe, sizeof(safe), v);
		v = sp_span_str(safe);
	}
	s = json_object_new_string_len((const char *)v.p, (int)v.n);
	if (s != NULL && json_object_object_add(d, key, s) != 0)
		json_object_put(s);
}

void
sp_detail_str(struct json_object *d, const char *key, const char *v)
{
	sp_detail_span(d, key, sp_span_str(v));
}

void
sp_detail_i64(struct json_object *d, const char *key, int64_t v)
{
	struct json_object *n = json_object_new_int64(v);

	if (d == NULL || n == NULL || json_object_object_add(d, key, n) != 0)
		json_object_put(n);
}

void
sp_detail_hex(struct json_object *d, const char *key, const uint8_t *p, size_t n)
{
	char t[129];

	SP_ASSERT(n <= 64);
	sp_hex(t, p, n);
	sp_detail_str(d, key, t);
}

void
sp_detail_rules(struct json_object *d, const char *key, struct sp_span rules)
{
	char t[2048];

	/* Safe already: encoded once, not twice. */
	json_object_object_add(d, key,
	    json_object_new_string(sp_rules_show(t, sizeof(t), rules)));
}

void
sp_detail_uuid(struct json_object *d, const char *key,
    const uint8_t u[static 16])
{
	char t[SP_UUID_TEXT];

	if (sp_uuid_is_nil(u))
		return;
	sp_uuid_text(t, u);
	sp_detail_str(d, key, t);
}

static const char *
plain(struct json_object *d)
{
	return d == NULL ? NULL :
	    json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN |
	    JSON_C_TO_STRING_NOSLASHESCAPE);
}

void
sp_flow_audit(struct sp_broker *b, const char *event, const char *actor,
    const uint8_t *session, struct json_object *d)
{
	sp_audit(b->store, event, actor, session, plain(d), NULL, NULL);
	json_object_put(d);
}

void
sp_flow_change_audit(struct sp_change *c, const char *event, const char *actor,
    const uint8_t *session, struct json_object *d)
{
	sp_change_audit(c, event, actor, session, plain(d));
	json_object_put(d);
}

void
sp_vals_init(struct sp_vals *v, enum sp_table t)
{
	SP_ASSERT(sp_tables[t].n_cols <= SP_VALS_MAX);
	*v = (struct sp_vals){.t = t};
}

void
sp_vals_set(struct sp_vals *v, const char *col, const char *text)
{
	const struct sp_table_def *d = &sp_tables[v->t];
	size_t i = 0;

	while (i < d->n_cols && strcmp(d->cols[i], col) != 0)
		i++;
	SP_ASSERT(i < d->n_cols);
	v->v[i] = text;
}

void
sp_vals_from(struct sp_vals *v, enum sp_table t, const struct sp_rows *r,
    size_t row)
{
	sp_vals_init(v, t);
	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		v->v[i] = sp_rows_get(r, row, sp_tables[t].cols[i]);
}

const char *
sp_i64_text(char t[static SP_NUM_TEXT], int64_t v)
{
	snprintf(t, SP_NUM_TEXT, "%lld", (long long)v);
	return t;
}

bool
sp_rows_bool(const struct sp_rows *r, size_t row, const char *col)
{
	const char *v = sp_rows_get(r, row, col);

	return v != NULL && strcmp(v, "t") == 0;
}

char *
sp_bytea_param(struct sp_span s)
{
	char *t = malloc(2 * s.n + 3);

	if (t == NULL)
		return NULL;
	t[0] = '\\';
	t[1] = 'x';
	sp_hex(t + 2, s.p, s.n);
	return t;
}

char *
sp_uuid_array(const uint8_t (*ids)[16], size_t n)
{
	char *t = malloc(n * SP_UUID_TEXT + 3), *at = t;

	if (t == NULL)
		return NULL;
	*at++ = '{';
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			*at++ = ',';
		sp_uuid_text(at, ids[i]);
		at += SP_UUID_TEXT - 1;
	}
	*at++ = '}';
	*at = '\0';
	return t;
}

void
sp_local_text(char t[static SP_LOCAL_TEXT], int64_t us)
{
	time_t at = (time_t)(us / 1000000), now = (time_t)(sp_now_us() / 1000000);
	struct tm a, b;

	if (localtime_r(&at, &a) == NULL || localtime_r(&now, &b) == NULL) {
		sp_time_text(t, us, false);
		return;
	}
	if (strftime(t, SP_LOCAL_TEXT,
	    a.tm_yday == b.tm_yday && a.tm_year == b.tm_year ? "%H:%M:%S %Z" :
	    "%a %Y-%m-%d %H:%M:%S %Z", &a) == 0)
		sp_time_text(t, us, false);
}

enum sp_err
sp_text_trim(char *dst, size_t cap, struct sp_span s)
{
	dst[0] = '\0';
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' ||
	    s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '\n'))
		s.n--;
	if (s.n == 0 || !sp_utf8_is_valid(s))
		return SP_ERR_INVAL;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] == 0x7f)
			return SP_ERR_INVAL;
	return sp_span_cstr(s, dst, cap);
}

const char *
sp_flow_why(enum sp_err e)
{
	switch ((int)e) {
	case SP_ERR_DB:
		return "the database does not answer";
	case SP_ERR_TIMEOUT:
		return "the database or the vault did not answer in time";
	case SP_ERR_SEALED:
		return "the vault is sealed";
	case SP_ERR_EOF:
		return "the vault is away";
	case SP_ERR_STATE:
		return "somebody else changed it at the same moment";
	default:
		return sp_err_text(e);
	}
}
