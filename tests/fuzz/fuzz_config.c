/* SPDX-License-Identifier: Apache-2.0 */
/* Any text: refused with a line, or accepted; what was accepted is written out
 * by the dump and read back the same. */
#include <stdint.h>
#include <string.h>

#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_same(const struct sp_config *a, const struct sp_config *b)
{
#define SAME_text(name) SP_ASSERT(strcmp(a->name, b->name) == 0);
#define SAME_list(name) SAME_text(name)
#define SAME_number(name) SP_ASSERT(a->name == b->name);
#define SAME(kind, name, def, lo, hi, help) SAME_##kind(name)
	SP_CONFIG_TABLE(SAME)
#undef SAME
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sp_config c, again;
	SP_BUF_AUTO out = {.max = 65536};
	struct sp_config_diag d;

	if (sp_config_parse(&c, sp_span_of(data, size), &d) != SP_OK) {
		SP_ASSERT(d.line >= 1 && d.text[0] != '\0');
		return 0;
	}
	SP_ASSERT(sp_config_dump(&c, &out) == SP_OK);
	SP_ASSERT(sp_config_parse(&again, sp_buf_span(&out), &d) == SP_OK);
	check_same(&c, &again);
	return 0;
}
