/* SPDX-License-Identifier: Apache-2.0 */
/* Any text: refused with words, or read; what was read is written and read back
 * the same, and every error has a place. */
#include <stdint.h>
#include <string.h>

#include "bastion/cli/inventory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *
plain(const struct sp_inv *i)
{
	return json_object_to_json_string_ext(sp_inv_json(i),
	    JSON_C_TO_STRING_PLAIN);
}

/* The broker's export has both parts and no nulls. */
static void
drop_nulls(json_object *o)
{
	if (!json_object_is_type(o, json_type_object))
		return;
	json_object_object_foreach(o, key, v) {
		drop_nulls(v);
		if (v == NULL)
			json_object_object_del(o, key);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SP_BUF_AUTO out = {.max = 16u << 20};
	struct sp_inv *a, *b;
	struct sp_inv_diag d;
	json_object *o;
	size_t line, column;

	if (sp_inv_parse(&a, sp_span_of(data, size), &d) != SP_OK) {
		SP_ASSERT(d.text[0] != '\0');
		return 0;
	}
	o = sp_inv_json(a);
	sp_inv_where(a, "/users/alice/keys/0", &line, &column);
	json_object_object_del(o, "policy");
	if (!json_object_object_get_ex(o, "users", NULL) ||
	    !json_object_object_get_ex(o, "targets", NULL)) {
		sp_inv_free(a);
		return 0;
	}
	drop_nulls(o);
	SP_ASSERT(sp_inv_write(&out, o, NULL) == SP_OK);
	SP_ASSERT(sp_inv_parse(&b, sp_buf_span(&out), &d) == SP_OK);
	SP_ASSERT(json_object_equal(o, sp_inv_json(b)));
	SP_ASSERT(strlen(plain(a)) == strlen(plain(b)));
	sp_inv_free(a);
	sp_inv_free(b);
	return 0;
}
