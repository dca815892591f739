/* SPDX-License-Identifier: Apache-2.0 */
/* The files that a session moved, from the audit log alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

static const struct sp_col files_cols[] = {
	{"at", "WHEN", SP_COL_TIME}, {"channel", NULL, SP_COL_NUMBER},
	{"via", "BY", SP_COL_TEXT}, {"op", "WHAT", SP_COL_TEXT},
	{"direction", "WAY", SP_COL_TEXT}, {"result", "RESULT", SP_COL_TEXT},
	{"bytes", "SIZE", SP_COL_BYTES}, {"path", "PATH", SP_COL_TEXT},
	{"to", "TO", SP_COL_TEXT}, {"text", "NOTE", SP_COL_TEXT},
	{"whole", NULL, SP_COL_BOOL}, {"sha256", "SHA-256", SP_COL_TEXT},
};
/* As a line of a recorder's event says it (recorder/files_note.c). */
static const char *const keys[] = {"via", "op", "dir", "result", "bytes",
    "path", "to", "text", "whole", "sha256", "unlisted"};
enum { VIA, OP, DIR, RESULT, BYTES, PATH, TO, TEXT, WHOLE, SHA256, UNLISTED,
	N_KEYS };

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ?
	    c - 'a' + 10 : -1;
}

/* Takes the escapes of sp_vis back that stand for one byte, in place: the list
 * escapes for itself, for a terminal or for JSON. */
static void
unvis(char *s)
{
	char *to = s;

	while (*s != '\0') {
		if (s[0] == '\\' && s[1] == '\\') {
			*to++ = '\\';
			s += 2;
		} else if (s[0] == '\\' && s[1] == 'x' && hex_digit(s[2]) >= 0 &&
		    hex_digit(s[3]) >= 0 && (s[2] != '0' || s[3] != '0')) {
			*to++ = (char)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* One `key=value` or `key="value"`; *s moves behind it. */
static bool
next_pair(char **s, char **key, char **value)
{
	char *p = *s + strspn(*s, " "), *end;

	*key = p;
	if ((p = strchr(p, '=')) == NULL)
		return false;
	*p++ = '\0';
	if (*p == '"') {
		*value = ++p;
		end = strchr(p, '"');
	} else {
		*value = p;
		end = strchr(p, ' ');
	}
	if (end == NULL) {
		*s = p + strlen(p);
	} else {
		*end = '\0';
		*s = end + 1;
	}
	return true;
}

struct at {
	const char *us, *channel;
	uint64_t unlisted;
};

static void
add_line(struct sp_list *l, struct at *at, char *line)
{
	char *v[N_KEYS] = {0}, *key, *value;
	uint64_t n = 0;

	while (next_pair(&line, &key, &value))
		for (size_t i = 0; i < N_KEYS; i++)
			if (strcmp(key, keys[i]) == 0)
				v[i] = value;
	if (v[UNLISTED] != NULL && sp_u64_parse(sp_span_str(v[UNLISTED]),
	    UINT64_MAX, &n) == SP_OK)
		at->unlisted = n;
	if (v[OP] == NULL || strcmp(v[OP], "total") == 0)
		return;
	if (v[BYTES] != NULL && sp_u64_parse(sp_span_str(v[BYTES]), INT64_MAX,
	    &n) != SP_OK)
		v[BYTES] = NULL;
	for (size_t i = PATH; i <= TEXT; i++)
		if (v[i] != NULL)
			unvis(v[i]);
	sp_list_add(l, (const char *[]){at->us, at->channel, v[VIA], v[OP],
	    v[DIR] != NULL && strcmp(v[DIR], "none") == 0 ? NULL : v[DIR],
	    v[RESULT], v[BYTES], v[PATH], v[TO], v[TEXT],
	    v[WHOLE] == NULL ? NULL : strcmp(v[WHOLE], "yes") == 0 ? "t" : "f",
	    v[SHA256]});
}

static void
add_event(struct sp_list *l, const struct sp_rows *r, size_t i,
    uint64_t *unlisted)
{
	const char *json = sp_rows_get(r, i, "detail");
	json_object *o = json == NULL ? NULL : json_tokener_parse(json);
	json_object *d = NULL, *c = NULL, *w = NULL;
	struct at at = {.us = sp_rows_get(r, i, "at_us")};
	char *copy, *line, *rest;

	if (o != NULL && json_object_is_type(o, json_type_object) &&
	    json_object_object_get_ex(o, "what", &w) &&
	    strcmp(json_object_get_string(w), "file") == 0 &&
	    json_object_object_get_ex(o, "detail", &d) &&
	    json_object_is_type(d, json_type_string) &&
	    (copy = strdup(json_object_get_string(d))) != NULL) {
		if (json_object_object_get_ex(o, "channel", &c))
			at.channel = json_object_get_string(c);
		for (line = copy; line != NULL; line = rest) {
			if ((rest = strchr(line, '\n')) != NULL)
				*rest++ = '\0';
			add_line(l, &at, line);
		}
		free(copy);
	}
	*unlisted += at.unlisted;
	if (o != NULL)
		json_object_put(o);
}

static void
files_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(files_cols,
	    sizeof(files_cols) / sizeof(files_cols[0]));
	char more[100];
	uint64_t unlisted = 0;

	for (size_t i = 0; i < sp_rows_n(c->rows[1]); i++)
		add_event(l, c->rows[1], i, &unlisted);
	snprintf(more, sizeof(more), "%llu more, in the recording alone: export "
	    "%.8s --format records", (unsigned long long)unlisted,
	    sp_rows_get(c->rows[0], 0, "id"));
	if (unlisted > 0)
		sp_list_add(l, (const char *[]){NULL, NULL, NULL, "unlisted", NULL,
		    NULL, NULL, NULL, NULL, more, NULL, NULL});
	sp_call_end_list(c, l, "No files were transferred by sftp or scp.");
}

static void
files_load(struct sp_call *c)
{
	if (!sp_session_found(c, sp_actor_may_audit(&c->who) ||
	    (sp_rows_n(c->rows[0]) == 1 && sp_session_is_mine(c, 0))))
		return;
	sp_call_load(c, 1, (struct sp_need[]){{.sql = "SELECT at_us, detail FROM "
	    "audit WHERE session_id = $1::uuid AND event = 'session_event' AND "
	    "detail LIKE '%\"what\":\"file\"%' ORDER BY node, seq LIMIT 5000",
	    .p = {sp_rows_get(c->rows[0], 0, "id")}, .n = 1}}, 1, files_print);
}

void
sp_verb_files(struct sp_call *c)
{
	sp_session_resolve(c, c->pos[0], files_load);
}
