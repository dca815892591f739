/* SPDX-License-Identifier: Apache-2.0 */
/* A service file of PAM: refused with a reason, or plain. What was accepted
 * stays so after another line that only denies. */
#include <stdint.h>
#include <string.h>

#include "bastion/auth/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SP_BUF_AUTO more = {.max = 1 << 20};
	const char *why = NULL;
	unsigned line = ~0U;

	if (sp_service_check(sp_span_of(data, size), &line, &why) != SP_OK) {
		SP_ASSERT(why != NULL && line <= size + 1);
		return 0;
	}
	if (sp_buf_put(&more, data, size) != SP_OK)
		return 0;
	SP_ASSERT(sp_buf_printf(&more, "\nauth required pam_deny.so\n") == SP_OK);
	SP_ASSERT(sp_service_check(sp_buf_span(&more), &line, &why) == SP_OK);
	SP_ASSERT(sp_buf_printf(&more, "auth sufficient pam_permit.so\n") == SP_OK);
	SP_ASSERT(sp_service_check(sp_buf_span(&more), &line, &why) != SP_OK);
	return 0;
}
