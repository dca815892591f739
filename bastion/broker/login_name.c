/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_name.h"

#include <string.h>

static enum sp_err
part(struct sp_span *rest, char dst[static SP_NAME_MAX + 1])
{
	const uint8_t *plus = rest->n == 0 ? NULL : memchr(rest->p, '+', rest->n);
	struct sp_span one = *rest;

	if (plus != NULL) {
		one.n = (size_t)(plus - rest->p);
		*rest = sp_span_of(plus + 1, rest->n - one.n - 1);
	} else {
		*rest = sp_span_of(NULL, 0);
	}
	if (!sp_name_is_valid(one))
		return SP_ERR_INVAL;
	return sp_span_cstr(one, dst, SP_NAME_MAX + 1);
}

enum sp_err
sp_login_name_parse(struct sp_span login, struct sp_login_name *out)
{
	struct sp_login_name n = {.has_target = false};
	size_t plus = 0;

	for (size_t i = 0; i < login.n; i++)
		plus += login.p[i] == '+';
	if (plus != 0 && plus != 2)
		return SP_ERR_INVAL;
	SP_TRY(part(&login, n.user));
	if (plus == 2) {
		SP_TRY(part(&login, n.account));
		SP_TRY(part(&login, n.target));
		n.has_target = true;
	}
	*out = n;
	return SP_OK;
}
