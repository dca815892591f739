/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_LOGIN_NAME_H
#define SP_BROKER_LOGIN_NAME_H

#include <stdbool.h>

#include "common/text.h"

/* A login name: USER, or USER+ACCOUNT+TARGET. */
struct sp_login_name {
	char user[SP_NAME_MAX + 1];
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	bool has_target;
};
/* SP_ERR_INVAL unless each part is a valid name. */
SP_MUST enum sp_err sp_login_name_parse(struct sp_span login,
    struct sp_login_name *out);

#endif
