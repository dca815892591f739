/* SPDX-License-Identifier: Apache-2.0 */
/* Databases in the inventory file: what a target speaks, its pins, and the
 * settings of targets and accounts there (sql.h). */
#include "bastion/broker/apply.h"

#include <stdio.h>
#include <string.h>

#include "bastion/broker/sql.h"
#include "bastion/broker/verb_sql.h"

#define WORDS_MAX 16

/* One more word of a setting; value NULL: the word alone. */
static bool
add(char dst[static AP_SQL_TEXT], const char *word, const char *value)
{
	size_t o = strlen(dst), more = strlen(word) + 2 +
	    (value == NULL ? 0 : strlen(value) + 1);

	if (o + more > AP_SQL_TEXT)
		return false;
	snprintf(dst + o, AP_SQL_TEXT - o, "%s%s%s%s", o > 0 ? " " : "", word,
	    value == NULL ? "" : "=", value == NULL ? "" : value);
	return true;
}

/* The list `key` of the input as words; what is not named stays. */
static bool
names(struct sp_apply *a, json_object *o, const char *key, const char *word,
    const char *was, char dst[static AP_SQL_TEXT], const char *path)
{
	json_object *l = ap_list(a, o, key, WORDS_MAX, path);
	char one[SP_SQL_NAME_MAX + 1];

	for (size_t i = 0; l == NULL && sp_sql_value(was, word, i, one,
	    sizeof(one)); i++)
		if (!add(dst, word, one))
			ap_error(a, path, "too many %s", key);
	for (size_t i = 0; l != NULL && i < json_object_array_length(l); i++) {
		const char *s = ap_text(a, json_object_array_get_idx(l, i),
		    SP_SQL_NAME_MAX, path);

		if (s != NULL && (!sp_sql_name_is_valid(sp_span_str(s)) ||
		    !add(dst, word, s)))
			ap_error(a, path, "%s are names of 1 to 63 bytes without "
			    "blanks", key);
	}
	return l != NULL;
}

/* The same of one text. */
static bool
text(struct sp_apply *a, json_object *o, const char *key, const char *word,
    const char *was, char dst[static AP_SQL_TEXT], const char *path)
{
	char one[SP_SQL_NAME_MAX + 1];
	json_object *v = NULL;
	const char *s = NULL;

	if (!json_object_object_get_ex(o, key, &v)) {
		if (sp_sql_value(was, word, 0, one, sizeof(one)) &&
		    !add(dst, word, one))
			ap_error(a, path, "too many settings");
		return false;
	}
	if ((s = ap_text(a, v, SP_SQL_NAME_MAX, path)) != NULL &&
	    (!sp_sql_name_is_valid(sp_span_str(s)) || !add(dst, word, s)))
		ap_error(a, path, "%s is a name without blanks", key);
	return true;
}

bool
ap_sql_target(struct sp_apply *a, json_object *o, const char *was,
    char dst[static AP_SQL_TEXT], const char *path)
{
	bool given = names(a, o, "databases", SP_SQL_DATABASE, was, dst, path);
	bool unbound = sp_sql_has(was, SP_SQL_UNBOUND);
	json_object *v = NULL;
	const char *s;

	if (json_object_object_get_ex(o, "channel_binding", &v)) {
		given = true;
		s = ap_text(a, v, 16, path);
		unbound = s != NULL && strcmp(s, "optional") == 0;
		if (s != NULL && !unbound && strcmp(s, "required") != 0)
			ap_error(a, path, "channel_binding is required or optional");
	}
	if (unbound && !add(dst, SP_SQL_UNBOUND, NULL))
		ap_error(a, path, "too many databases");
	return given;
}

bool
ap_sql_account(struct sp_apply *a, json_object *o, const char *was,
    char dst[static AP_SQL_TEXT], const char *path)
{
	bool given = text(a, o, "admin", SP_SQL_ADMIN, was, dst, path);
	char n[SP_SQL_NAME_MAX + 1];
	uint64_t limit = 0;

	given |= text(a, o, "limit", SP_SQL_LIMIT, was, dst, path);
	given |= names(a, o, "members", SP_SQL_MEMBER, was, dst, path);
	if (sp_sql_value(dst, SP_SQL_LIMIT, 0, n, sizeof(n)) && (sp_u64_parse(
	    sp_span_str(n), 1000, &limit) != SP_OK || limit == 0))
		ap_error(a, path, "limit is a number from 1 to 1000");
	if (strlen(dst) > 599)
		ap_error(a, path, "too many members");
	return given;
}

const char *
ap_sql_protocol(struct sp_apply *a, json_object *o, const char *was, bool is_new,
    const char *path)
{
	json_object *v = NULL;
	const char *s;

	if (!json_object_object_get_ex(o, "protocol", &v) ||
	    (s = ap_text(a, v, 16, path)) == NULL)
		return was;
	if (sp_sql_protocol(s) == UINT8_MAX)
		ap_error(a, path, "protocol is ssh, postgresql or mariadb");
	else if (!is_new && sp_sql_protocol(s) != sp_sql_protocol(was))
		ap_error(a, path, "what a target speaks stays what it was made for");
	return strcmp(s, "ssh") == 0 ? NULL : s;
}

/* ------------------------------------------------------------------- export */

static json_object *
all_of(const char *sql, const char *word)
{
	json_object *l = json_object_new_array();
	char one[SP_SQL_NAME_MAX + 1];

	for (size_t i = 0; sp_sql_value(sql, word, i, one, sizeof(one)); i++)
		json_object_array_add(l, json_object_new_string(one));
	return l;
}

void
ap_sql_export_target(json_object *o, const struct sp_rows *r, size_t i)
{
	const char *sql = sp_rows_get(r, i, "sql");
	const char *keys = sp_rows_get(r, i, "host_keys");
	const char *protocol = sp_rows_get(r, i, "protocol");
	json_object *l = json_object_new_array();
	char pin[SP_SQL_PIN_TEXT];

	if (protocol == NULL) {
		json_object_put(l);
		return;
	}
	for (size_t n; *keys != '\0'; keys += n, keys += *keys == '\n') {
		n = strcspn(keys, "\n");
		if (sp_sql_pin_text(sp_span_of(keys, n), pin) != NULL)
			json_object_array_add(l, json_object_new_string(pin));
	}
	json_object_object_add(o, "host_keys", l);
	json_object_object_add(o, "protocol", sp_json_text(protocol));
	sql = sql == NULL ? "" : sql;
	json_object_object_add(o, "databases", all_of(sql, SP_SQL_DATABASE));
	json_object_object_add(o, "channel_binding", sp_json_text(sp_sql_has(sql,
	    SP_SQL_UNBOUND) ? "optional" : "required"));
}

void
ap_sql_export_account(json_object *o, const char *sql)
{
	char one[SP_SQL_NAME_MAX + 1];

	if (sql == NULL)
		return;
	if (sp_sql_value(sql, SP_SQL_ADMIN, 0, one, sizeof(one)))
		json_object_object_add(o, "admin", sp_json_text(one));
	if (sp_sql_value(sql, SP_SQL_LIMIT, 0, one, sizeof(one)))
		json_object_object_add(o, "limit", sp_json_text(one));
	json_object_object_add(o, "members", all_of(sql, SP_SQL_MEMBER));
}
