/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/signed.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/signed.h"

Test(signed, the_forms_are_as_written)
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	uint8_t id[16], key[32], head[32], want[SP_SIGNED_MAX];
	size_t n = 0;

	memset(id, 1, 16);
	memset(key, 2, 32);
	memset(head, 3, 32);
	cr_assert(sp_signed_recording(&b, id, key, head, 0x0102) == SP_OK);
	memcpy(want, "sallyport recording v1", 23);
	n = 23;
	memcpy(want + n, id, 16);
	memcpy(want + n + 16, key, 32);
	memcpy(want + n + 48, head, 32);
	memcpy(want + n + 80, "\2\1\0\0\0\0\0\0", 8);
	cr_assert(sp_span_eq(sp_buf_span(&b), sp_span_of(want, n + 88)));
}

Test(signed, no_form_is_the_beginning_of_another)
{
	struct sp_buf b[4] = {{.max = SP_SIGNED_MAX}, {.max = SP_SIGNED_MAX},
	    {.max = SP_SIGNED_MAX}, {.max = SP_SIGNED_MAX}};
	uint8_t z[32] = {0};

	cr_assert(sp_signed_recording(&b[0], z, z, z, 0) == SP_OK);
	cr_assert(sp_signed_close(&b[1], false, z, z, 0, 0) == SP_OK);
	cr_assert(sp_signed_close(&b[2], true, z, z, 0, 0) == SP_OK);
	cr_assert(sp_signed_audit(&b[3], 0, z, 0) == SP_OK);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++) {
			size_t n = b[i].len < b[k].len ? b[i].len : b[k].len;

			cr_assert(i == k || memcmp(sp_buf_span(&b[i]).p,
			    sp_buf_span(&b[k]).p, n) != 0);
		}
	for (int i = 0; i < 4; i++)
		sp_buf_fini(&b[i]);
}
