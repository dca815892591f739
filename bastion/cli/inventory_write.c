/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/cli/inventory.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

/* Plain where every reader of YAML takes it for the same text; else quoted. */
static bool
is_plain(const char *s)
{
	static const char *const words[] = {"true", "false", "yes", "no", "on",
	    "off", "null", "y", "n"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(s, words[i]) == 0)
			return false;
	return s[0] >= 'a' && s[0] <= 'z' &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(s);
}

/* The next character of valid UTF-8. */
static uint32_t
take(const uint8_t **p)
{
	uint32_t c = *(*p)++;
	unsigned more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

	if (more > 0)
		c &= 0x3fu >> more;
	for (; more > 0; more--)
		c = c << 6 | (*(*p)++ & 0x3fu);
	return c;
}

static enum sp_err
put_text(struct sp_buf *b, const char *s)
{
	const uint8_t *p = (const uint8_t *)s, *from;

	if (is_plain(s))
		return sp_buf_put(b, s, strlen(s));
	if (!sp_utf8_is_valid(sp_span_str(s)))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_buf_put_u8(b, '"'));
	while (from = p, *p != '\0') {
		uint32_t c = take(&p);

		if (c == '"' || c == '\\')
			SP_TRY(sp_buf_printf(b, "\\%c", (char)c));
		else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
			SP_TRY(sp_buf_printf(b, "\\x%02x", c));
		else if (c == 0x2028 || c == 0x2029 || c == 0xfeff || c >= 0xfffe)
			SP_TRY(sp_buf_printf(b, "\\U%08x", c));
		else
			SP_TRY(sp_buf_put(b, from, (size_t)(p - from)));
	}
	return sp_buf_put_u8(b, '"');
}

static enum sp_err put_value(struct sp_buf *b, json_object *v, int depth);

static enum sp_err
put_list(struct sp_buf *b, json_object *v, int depth)
{
	if (json_object_array_length(v) == 0)
		return sp_buf_printf(b, " []\n");
	SP_TRY(sp_buf_printf(b, "\n"));
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		SP_TRY(sp_buf_printf(b, "%*s- ", depth, ""));
		SP_TRY(put_text(b, json_object_get_string(
		    json_object_array_get_idx(v, i))));
		SP_TRY(sp_buf_printf(b, "\n"));
	}
	return SP_OK;
}

static enum sp_err
put_mapping(struct sp_buf *b, json_object *v, int depth)
{
	json_object_object_foreach(v, key, x) {
		if (x == NULL)
			continue;
		SP_TRY(sp_buf_printf(b, "%*s", depth, ""));
		SP_TRY(put_text(b, key));
		SP_TRY(sp_buf_printf(b, ":"));
		SP_TRY(put_value(b, x, depth + 2));
	}
	return SP_OK;
}

static enum sp_err
put_value(struct sp_buf *b, json_object *v, int depth)
{
	switch (json_object_get_type(v)) {
	case json_type_array:
		return put_list(b, v, depth);
	case json_type_object:
		if (json_object_object_length(v) == 0)
			return sp_buf_printf(b, " {}\n");
		SP_TRY(sp_buf_printf(b, "\n"));
		return put_mapping(b, v, depth);
	case json_type_boolean:
		return sp_buf_printf(b, " %s\n", json_object_get_boolean(v) ?
		    "true" : "false");
	case json_type_string:
		SP_TRY(sp_buf_printf(b, " "));
		SP_TRY(put_text(b, json_object_get_string(v)));
		return sp_buf_printf(b, "\n");
	case json_type_null:
	case json_type_double:
	case json_type_int:
		break;
	}
	return SP_ERR_SYNTAX;
}

enum sp_err
sp_inv_write(struct sp_buf *out, json_object *o, const char *policy)
{
	json_object *users = NULL, *targets = NULL;

	SP_TRY(sp_buf_printf(out, "# sallyport export inventory; sallyport-"
	    "inventory(5)\nversion: 1\n"));
	if (policy != NULL) {
		SP_TRY(sp_buf_printf(out, "policy: "));
		SP_TRY(put_text(out, policy));
		SP_TRY(sp_buf_printf(out, "\n"));
	}
	if (!json_object_object_get_ex(o, "users", &users) ||
	    !json_object_object_get_ex(o, "targets", &targets))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_buf_printf(out, "users:"));
	SP_TRY(put_value(out, users, 2));
	SP_TRY(sp_buf_printf(out, "targets:"));
	return put_value(out, targets, 2);
}
