/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that a request asks for, a grant gives and a row keeps. */
#include "bastion/broker/approval_int.h"

#include <stdio.h>
#include <string.h>

#include "policy/rules.h"

struct sp_span
sp_blob_span(const struct sp_rules_blob *x)
{
	return sp_span_of(x->b, x->n);
}

bool
sp_blob_set(struct sp_rules_blob *x, struct sp_span s)
{
	x->n = 0;
	if (s.n > sizeof(x->b))
		return false;
	if (s.n > 0)
		memcpy(x->b, s.p, s.n);
	x->n = (uint16_t)s.n;
	return true;
}

enum sp_err
sp_blob_from(struct sp_rules_blob *x, const struct sp_rows *r, size_t row)
{
	SP_BUF_AUTO b = {.max = sizeof(x->b)};
	static struct sp_rules probe;

	x->n = 0;
	SP_TRY(sp_rows_bytes(r, row, "rules", &b));
	SP_TRY(sp_rules_decode(sp_buf_span(&b), &probe));
	return sp_blob_set(x, sp_buf_span(&b)) ? SP_OK : SP_ERR_TOOBIG;
}

enum sp_err
sp_blob_meet(struct sp_rules_blob *x, struct sp_span s)
{
	size_t n;

	SP_TRY(sp_rules_meet_encoded(sp_blob_span(x), s, x->b, sizeof(x->b), &n));
	x->n = (uint16_t)n;
	return SP_OK;
}

uint32_t
sp_blob_rights(const struct sp_rules_blob *x)
{
	struct sp_span s = sp_blob_span(x);
	uint32_t rights;

	return sp_get_u32(&s, &rights) == SP_OK ? rights : 0;
}

const char *
sp_blob_text(char *dst, const struct sp_rules_blob *x)
{
	if (x->n == 0)
		return NULL;
	dst[0] = '\\';
	dst[1] = 'x';
	sp_hex(dst + 2, x->b, x->n);
	return dst;
}

bool
sp_blob_wish(struct sp_rules_blob *x, const char *allow, char *why, size_t cap)
{
	SP_BUF_AUTO want = {.max = sizeof(x->b)};
	SP_BUF_AUTO lost = {.max = 256};
	uint32_t asked, missing;
	struct sp_span s;

	if (!sp_rules_wish(allow, &want, why, cap))
		return false;
	s = sp_buf_span(&want);
	if (sp_blob_meet(x, s) != SP_OK || sp_get_u32(&s, &asked) != SP_OK) {
		snprintf(why, cap, "The rights asked for could not be read.");
		return false;
	}
	missing = asked & ~sp_blob_rights(x);
	if (missing == 0)
		return true;
	if (sp_rights_text(&lost, missing) != SP_OK || sp_buf_put_u8(&lost, 0) !=
	    SP_OK)
		return false;
	snprintf(why, cap, "The policy does not allow %s here.",
	    (const char *)lost.p + lost.off);
	return false;
}
