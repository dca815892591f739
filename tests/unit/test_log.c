/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/log.c */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static int out;

static void
catch_stderr(void)
{
	int fds[2];

	cr_assert(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
	cr_assert(dup2(fds[1], STDERR_FILENO) == STDERR_FILENO);
	close(fds[1]);
	out = fds[0];
}

static const char *
caught(void)
{
	static char t[8192];
	ssize_t n = read(out, t, sizeof(t) - 1);

	t[n < 0 ? 0 : n] = '\0';
	return t;
}

Test(log, one_line_of_key_and_value, .init = catch_stderr)
{
	const uint8_t sid[16] = {0x12, 0x34};
	const char *t;

	sp_log_init("sallyport-test", false);
	sp_log(SP_WARN, "thing_happened", sid, "user=%s n=%d", "alice", 3);
	t = caught();
	cr_assert(strncmp(t, "time=20", 7) == 0);
	cr_assert(strstr(t, " level=warn process=sallyport-test pid=") != NULL);
	cr_assert(strstr(t, " session=12340000-0000-0000-0000-000000000000 "
	    "event=thing_happened user=alice n=3\n") != NULL, "%s", t);
	cr_assert(strchr(t, '\n') == t + strlen(t) - 1);
	sp_log(SP_ERROR, "bare", NULL, "%s", "");
	cr_assert(strstr(caught(), " session=- event=bare") != NULL);
}

Test(log, controls_are_replaced, .init = catch_stderr)
{
	const char *t;

	sp_log(SP_INFO, "x", NULL, "a=%s", "1\n2\r3\x1b[31m4\x7f");
	t = caught();
	cr_assert(strstr(t, "a=1?2?3?[31m4?\n") != NULL, "%s", t);
	for (size_t i = 0; i + 1 < strlen(t); i++)
		cr_assert((unsigned char)t[i] >= 0x20);
}

Test(log, long_lines_are_cut_and_stay_one_line, .init = catch_stderr)
{
	const char *t;

	sp_log(SP_INFO, "x", NULL, "a=%04000d", 0);
	t = caught();
	cr_assert(strlen(t) < 2048 && t[strlen(t) - 1] == '\n');
	cr_assert(strchr(t, '\n') == t + strlen(t) - 1);
}

Test(log, debug_lines_only_when_asked_for, .init = catch_stderr)
{
	sp_log_init("t", false);
	sp_log(SP_DEBUG, "x", NULL, "%s", "");
	cr_assert(caught()[0] == '\0');
	sp_log_init("t", true);
	sp_log(SP_DEBUG, "x", NULL, "%s", "");
	cr_assert(strstr(caught(), "level=debug") != NULL);
}
