/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGHUP: the configuration is read again, and every parent gets a successor of
 * the executables that are there now. The old parent lives until its last
 * child ends, so no connection and no session notices. Whatever is wrong with
 * the new, the old goes on. What came of it stands in run/reload.
 */
#include "bastion/supervisor/sup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RESULT "reload"
#define RESULT_NEW "reload.new"

static void
say_result(struct sp_sup *s, const char *why)
{
	char text[700];
	int fd, n;

	n = snprintf(text, sizeof(text), "%llu %s%.512s\n",
	    (unsigned long long)++s->n_reloads, why[0] == '\0' ? "ok" :
	    "failed: ", why);
	if (why[0] == '\0')
		sp_log(SP_INFO, "reloaded", NULL, "");
	else
		sp_sup_event(s, "reload_failed", NULL, why);
	fd = openat(s->in.run, RESULT_NEW, O_WRONLY | O_CREAT | O_TRUNC |
	    O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, text, (size_t)n) != n ||
	    renameat(s->in.run, RESULT_NEW, s->in.run, RESULT) != 0)
		sp_log(SP_WARN, "reload_result_lost", NULL, "");
	sp_close_fds(&fd, 1);
}

static void
tell_broker(struct sp_sup *s)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_reconfig m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len)};

	if (b != NULL)
		sp_proc_sent(s, b, sp_send_reconfig(&b->link, 0, &m, NULL));
}

void
sp_reload(struct sp_sup *s)
{
	if (s->phase != SP_PHASE_RUNNING)
		return;
	s->in.said[0] = '\0';
	if (sp_instance_reread(&s->in) != SP_OK || sp_accept_listen(s) != SP_OK) {
		say_result(s, s->in.said[0] == '\0' ? "no memory" : s->in.said);
		return;
	}
	sp_log_init("sallyportd", s->in.cfg.debug == 1);
	tell_broker(s);
	for (enum sp_rx i = 0; i < SP_RX_COUNT; i++) {
		struct sp_proc *n = s->slots[i].next;

		if (i == SP_RX_SHIP)
			sp_ship_reread(s);
		if (!sp_role_rows[i].is_parent)
			continue;
		s->slots[i].next = NULL;
		if (n != NULL)	/* it was told the old configuration */
			sp_proc_kill(s, n, "the configuration has changed");
		sp_proc_succeed(s, i);
	}
	s->is_reloading = true;
}

void
sp_reload_tick(struct sp_sup *s)
{
	if (!s->is_reloading)
		return;
	for (enum sp_rx i = 0; i < SP_RX_COUNT; i++)
		if (s->slots[i].next != NULL)
			return;
	s->is_reloading = false;
	say_result(s, s->in.said);
}
