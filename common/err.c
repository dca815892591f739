/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const texts[] = {
#define SP_ERR_ROW(name, text) [SP_ERR_##name] = text,
    SP_ERR_LIST(SP_ERR_ROW)
#undef SP_ERR_ROW
};

const char *
sp_err_text(enum sp_err e)
{
	if ((unsigned)e >= SP_ERR_COUNT_)
		return "unknown error";
	return texts[e];
}

_Noreturn void
sp_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "level=fatal event=assertion place=%s:%d what=\"%s\"\n",
	    file, line, what);
	abort();
}
