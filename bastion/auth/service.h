/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_AUTH_SERVICE_H
#define SP_AUTH_SERVICE_H

#include "common/buf.h"

/*
 * Is this text of a PAM service file (pam.conf(5), the form of /etc/pam.d) one
 * that cannot open by mistake? Refused are: a type with `-` before it (Linux-PAM
 * then skips a missing module silently), every control but required and
 * requisite (sufficient, optional, [...], include, substack), @include, and a
 * stack of auth or account without pam_sallyport. On SP_ERR_SYNTAX `line` is
 * the line's number, 0 for the whole file, and `why` a static text.
 */
SP_MUST enum sp_err sp_service_check(struct sp_span text, unsigned *line,
    const char **why);

#endif
