/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define RELOAD_S 60

/* run/reload: "NUMBER ok" or "NUMBER failed: why"; "" before the first. */
static void
result(const struct sp_cli *c, char *text, size_t cap)
{
	SP_BUF_AUTO b = {.max = 2048};
	char path[4096];

	sp_cli_path(c, path, "run/reload");
	text[0] = '\0';
	if (sp_cli_read(path, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), text, cap) != SP_OK)
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

int
sp_cmd_reload(struct sp_cli *c, int argc, char **argv)
{
	const struct timespec nap = {.tv_nsec = 20000000};
	int64_t until = sp_boot_us() + RELOAD_S * 1000000LL;
	char before[1024], now[1024], *why;
	static struct sp_config cfg;
	struct pollfd pf = {.fd = -1, .events = POLLIN};

	(void)argv;
	if (argc > 1 + c->json)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport [-D DIR] reload");
	if (sp_cli_config(c, &cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	if (sp_cli_daemon(c, &pf.fd) == 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "sallyportd does not run: "
		    "sallyport start");
	result(c, before, sizeof(before));
	if (syscall(SYS_pidfd_send_signal, pf.fd, SIGHUP, NULL, 0) != 0) {
		close(pf.fd);
		return sp_cli_fail(SP_EXIT_REFUSED, "it cannot be told: %s",
		    strerror(errno));
	}
	do {
		(void)nanosleep(&nap, NULL);
		result(c, now, sizeof(now));
	} while (strcmp(before, now) == 0 && sp_boot_us() < until &&
	    poll(&pf, 1, 0) == 0);
	close(pf.fd);
	if (strcmp(before, now) == 0)
		return sp_cli_fail(SP_EXIT_LATER, "no answer; %s/log/sallyport.log "
		    "says more", c->dir);
	if ((why = strstr(now, " failed: ")) != NULL)
		return sp_cli_fail(SP_EXIT_REFUSED, "not reloaded, all goes on as "
		    "before: %s", why + strlen(" failed: "));
	sp_cli_step("%s has its new configuration and executables; what runs "
	    "goes on.", c->dir);
	return SP_EXIT_OK;
}
