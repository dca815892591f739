/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * sallyport-auth is executed for one login and ends with it: it says no hello,
 * its descriptor 3 is the link with the broker, 4 the directory of the PAM
 * service. One that outlives any login is killed.
 */
#define LIFE_US (660 * SP_SECOND_US)

static void
fail(struct sp_sup *s, uint64_t corr, uint64_t login, int err_no,
    const char *text)
{
	struct sp_failure f = {.corr = corr, .id = login, .err_no = err_no,
	    .text = text};

	sp_reply_failure(s, &f);
}

void
sp_auth_spawn(struct sp_sup *s, uint64_t corr, uint64_t login)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_auth_spawned m = {.login = login};
	struct sp_launch l = {.rx = SP_RX_AUTH, .n_fds = 2,
	    .arg = "/proc/self/fd/4"};
	struct sp_wires w;
	pid_t pid = 0;
	enum sp_err e;

	if (s->n_auths >= SP_AUTHS_MAX || b == NULL) {
		fail(s, corr, login, EAGAIN, "too many logins at once");
		return;
	}
	if ((e = sp_topology_wire(SP_KID_AUTH, -1, -1, &w)) != SP_OK) {
		fail(s, corr, login, EMFILE, sp_err_text(e));
		return;
	}
	l.fds[0] = w.child[0];
	l.fds[1] = s->in.pam;
	if ((e = sp_launch_exec(&s->in, &l, &pid)) != SP_OK) {
		sp_wires_close(&w);
		fail(s, corr, login, EAGAIN, sp_err_text(e));
		return;
	}
	s->auths[s->n_auths++] = (struct sp_auth){.pid = pid,
	    .deadline_us = sp_boot_us() + LIFE_US};
	e = sp_send_auth_spawned(&b->link, corr, &m, w.broker);
	w.n_broker = 0;
	sp_wires_close(&w);
	sp_proc_sent(s, b, e);
}

bool
sp_auth_reaped(struct sp_sup *s, pid_t pid, int status)
{
	char text[64];

	for (size_t i = 0; i < s->n_auths; i++) {
		if (s->auths[i].pid != pid)
			continue;
		s->auths[i] = s->auths[--s->n_auths];
		if (WIFSIGNALED(status)) {
			snprintf(text, sizeof(text), "sallyport-auth died by"
			    " signal %d", WTERMSIG(status));
			sp_sup_event(s, "child_died", NULL, text);
		}
		return true;
	}
	return false;
}

void
sp_auth_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	for (size_t i = 0; i < s->n_auths; i++) {
		if (s->auths[i].deadline_us <= now) {
			kill(s->auths[i].pid, SIGKILL);
			s->auths[i].deadline_us = now + SP_SECOND_US;
		}
		sp_sooner(next, s->auths[i].deadline_us);
	}
}

void
sp_auth_kill_all(struct sp_sup *s)
{
	for (size_t i = 0; i < s->n_auths; i++)
		kill(s->auths[i].pid, SIGKILL);
}
