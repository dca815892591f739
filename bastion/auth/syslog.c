/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpam and its modules log by syslog(3), which opens a socket: the filter of
 * this process ends who tries. These stand before libc's, so that the lines
 * reach the instance's log instead. libpam of Debian calls __syslog_chk; one
 * that was built without _FORTIFY_SOURCE calls syslog or vsyslog.
 */
#include <stdarg.h>
#include <stdio.h>

#include "common/log.h"

void __syslog_chk(int pri, int flag, const char *fmt, ...) SP_PRINTF(3, 4);
void __vsyslog_chk(int pri, int flag, const char *fmt, va_list ap)
    SP_PRINTF(3, 0);
void syslog(int pri, const char *fmt, ...) SP_PRINTF(2, 3);
void vsyslog(int pri, const char *fmt, va_list ap) SP_PRINTF(2, 0);

#define PRIORITY(p) ((p) & 7)
#define WARNING 4

void
vsyslog(int pri, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	sp_log(PRIORITY(pri) <= WARNING ? SP_WARN : SP_INFO, "pam_says", NULL,
	    "text=\"%s\"", sp_vis_str(text));
}

void
__vsyslog_chk(int pri, int flag, const char *fmt, va_list ap)
{
	(void)flag;
	vsyslog(pri, fmt, ap);
}

void
__syslog_chk(int pri, int flag, const char *fmt, ...)
{
	va_list ap;

	(void)flag;
	va_start(ap, fmt);
	vsyslog(pri, fmt, ap);
	va_end(ap);
}

void
syslog(int pri, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsyslog(pri, fmt, ap);
	va_end(ap);
}
