/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char process[32] = "sallyport";
static bool debug;

void
sp_log_init(const char *name, bool with_debug)
{
	snprintf(process, sizeof(process), "%s", name);
	debug = with_debug;
}

void
sp_log(enum sp_level level, const char *event, const uint8_t *session,
    const char *fmt, ...)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	char line[2048], when[SP_TIME_TEXT], sid[SP_UUID_TEXT] = "-";
	va_list ap;
	size_t n;
	int k;

	if (level == SP_DEBUG && !debug)
		return;
	sp_time_text(when, sp_now_us(), true);
	if (session != NULL)
		sp_uuid_text(sid, session);
	n = (size_t)snprintf(line, sizeof(line),
	    "time=%s level=%s process=%s pid=%d session=%s event=%s%s", when,
	    names[level], process, (int)getpid(), sid, event,
	    fmt[0] == '\0' ? "" : " ");
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	n += k < 0 ? 0 : (size_t)k;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return;	/* nowhere left to say so */
}
