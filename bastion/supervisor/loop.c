/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSIONS_END_US (3 * SP_SECOND_US)
#define ROLES_END_US (2 * SP_SECOND_US)

static void
enter(struct sp_sup *s, enum sp_phase phase, int64_t lasts_us)
{
	s->phase = phase;
	s->phase_until_us = lasts_us == 0 ? 0 : sp_boot_us() + lasts_us;
}

/* The broker ends the sessions first (SP_END_SHUTDOWN reaches the users, the
 * recorders close their files); only then are the others told. */
static void
begin_stop(struct sp_sup *s)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_stop m = {.graceful = 1};

	if (s->phase >= SP_PHASE_SESSIONS_END)
		return;
	sp_log(SP_INFO, "stopping", NULL, "sessions=%zu connections=%zu",
	    s->n_sessions, s->n_conns);
	enter(s, SP_PHASE_SESSIONS_END, SESSIONS_END_US);
	sp_close_fds(s->in.listeners, s->in.n_listeners);
	s->in.n_listeners = 0;
	if (b != NULL)
		sp_proc_sent(s, b, sp_send_stop(&b->link, 0, &m, NULL));
}

static void
kill_all(struct sp_sup *s)
{
	sp_run_kill_all(s);
	for (struct sp_proc *p = s->procs; p != NULL; p = p->next)
		if (p->pid > 0)
			kill(p->pid, SIGKILL);
}

static void
advance_stop(struct sp_sup *s, int64_t now)
{
	bool late = s->phase_until_us != 0 && s->phase_until_us <= now;

	if (s->has_failed && s->phase < SP_PHASE_ROLES_END) {
		sp_proc_stop_all(s);
		enter(s, SP_PHASE_ROLES_END, ROLES_END_US);
	} else if (s->phase == SP_PHASE_SESSIONS_END &&
	    (late || s->sessions == NULL || s->slots[SP_RX_BROKER].cur == NULL)) {
		sp_proc_stop_all(s);
		enter(s, SP_PHASE_ROLES_END, ROLES_END_US);
	} else if (s->phase == SP_PHASE_ROLES_END && late) {
		kill_all(s);
		enter(s, SP_PHASE_KILL, 0);
	}
}

/* One role after the other, then the links between them, then the doors. */
static void
advance_start(struct sp_sup *s)
{
	char ok = '+';

	if (s->files.pid == 0 && !s->has_failed &&
	    sp_files_start(s) != SP_OK) {
		sp_say(&s->in, "cannot start " SP_FILES_EXE);
		s->has_failed = true;
	}
	for (enum sp_rx i = 0; i < SP_RX_COUNT && !s->has_failed; i++) {
		if (sp_proc_ready(s, i) != NULL || !sp_role_is_wanted(&s->in, i))
			continue;
		if (s->slots[i].cur == NULL && sp_proc_start(s, i) != SP_OK) {
			sp_say(&s->in, "cannot start %s", sp_role_rows[i].exe);
			s->has_failed = true;
		}
		return;
	}
	if (s->has_failed || !s->files.is_up)
		return;
	if (sp_accept_listen(s) != SP_OK) {
		s->has_failed = true;
		return;
	}
	enter(s, SP_PHASE_RUNNING, 0);
	sp_log(SP_INFO, "running", NULL, "node=%s", sp_vis_str(s->in.node));
	if (s->ready_fd >= 0 && write(s->ready_fd, &ok, 1) < 0)
		sp_log(SP_WARN, "nobody_waits", NULL, "");
	sp_close_fds(&s->ready_fd, 1);
	s->ready_fd = -1;
	sp_close_fds(&s->in.terminal, 1);
	s->in.terminal = -1;
}

static void
reap(struct sp_sup *s)
{
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(s->sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo == SIGHUP) {
			sp_reload(s);
		} else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT) {
			if (s->phase == SP_PHASE_STARTING)
				s->has_failed = true;
			begin_stop(s);
		}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct sp_proc *p = sp_run_reaped(s, pid) ||
		    sp_files_reaped(s, pid, status) ? NULL : s->procs;
		    p != NULL; p = p->next)
			if (p->pid == pid) {
				sp_proc_reaped(s, p, status);
				break;
			}
}

static int64_t
tick(struct sp_sup *s)
{
	int64_t now = sp_boot_us(), next = 0;

	if (s->phase == SP_PHASE_STARTING)
		advance_start(s);
	advance_stop(s, now);
	sp_kid_tick(s, now, &next);
	sp_dial_tick(s, now, &next);
	sp_auth_tick(s, now, &next);
	sp_run_tick(s, now, &next);
	sp_files_tick(s, now, &next);
	sp_proc_tick(s, now, &next);
	sp_ship_tick(s, now, &next);
	sp_reload_tick(s);
	sp_sooner(&next, s->phase_until_us);
	return next;
}

/* What is polled this turn, rebuilt each time: it is a handful. */
#define FIRST 2u			/* signals, sallyport-files */
struct turn {
	struct pollfd *pf;
	void **what;
	size_t n, n_procs, n_dials;	/* FIRST, procs, dials, listeners */
};

static void
add(struct turn *t, int fd, int events, void *what)
{
	t->pf[t->n] = (struct pollfd){.fd = fd, .events = (short)events};
	t->what[t->n++] = what;
}

static void
gather(struct sp_sup *s, struct turn *t, int64_t now, int64_t *next)
{
	t->n = 0;
	add(t, s->sigfd, POLLIN, NULL);
	add(t, s->files.link.fd, POLLIN | (s->files.link.fd >= 0 &&
	    sp_link_wants_write(&s->files.link) ? POLLOUT : 0), NULL);
	for (struct sp_proc *p = s->procs; p != NULL; p = p->next)
		if (p->state < SP_PROC_LOST)
			add(t, p->link.fd, POLLIN |
			    (sp_link_wants_write(&p->link) ? POLLOUT : 0), p);
	t->n_procs = t->n - FIRST;
	for (struct sp_dial *d = s->dials; d != NULL; d = d->next)
		if (d->fd >= 0)
			add(t, d->fd, POLLOUT, d);
	t->n_dials = t->n - FIRST - t->n_procs;
	if (sp_accept_may(s, now, next))
		for (size_t i = 0; i < s->in.n_listeners; i++)
			add(t, s->in.listeners[i], POLLIN, NULL);
}

static void
serve(struct sp_sup *s, const struct turn *t)
{
	size_t i = FIRST;

	if (t->pf[1].revents != 0)
		sp_files_read(s);
	for (; i < FIRST + t->n_procs; i++) {
		struct sp_proc *p = t->what[i];

		if ((t->pf[i].revents & POLLOUT) != 0 && p->state < SP_PROC_LOST) {
			enum sp_err e = sp_link_flush(&p->link);

			sp_proc_sent(s, p, e == SP_ERR_AGAIN ? SP_OK : e);
		}
		if (t->pf[i].revents != 0)
			sp_proc_read(s, p);
	}
	for (; i < FIRST + t->n_procs + t->n_dials; i++)
		if (t->pf[i].revents != 0)
			sp_dial_writable(s, t->what[i]);
	for (; i < t->n; i++)
		if (t->pf[i].revents != 0 && s->phase == SP_PHASE_RUNNING)
			sp_accept_some(s, t->pf[i].fd);
	/* Last: it is the ends of processes that free things. */
	if (t->pf[0].revents != 0)
		reap(s);
}

static bool
is_over(const struct sp_sup *s)
{
	return s->phase >= SP_PHASE_ROLES_END && s->n_procs == 0 &&
	    (s->files.n == 0 || s->phase == SP_PHASE_KILL);
}

int
sp_loop_run(struct sp_sup *s)
{
	size_t room = FIRST + SP_PROCS_MAX + SP_DIALS_MAX + SP_LISTEN_MAX;
	struct turn t = {.pf = calloc(room, sizeof(*t.pf)),
	    .what = calloc(room, sizeof(*t.what))};
	int rc = 1;

	while (t.pf != NULL && t.what != NULL) {
		int64_t next, now, ms = -1;

		sp_proc_sweep(s);
		sp_dial_sweep(s);
		next = tick(s);
		sp_proc_sweep(s);
		if (is_over(s)) {
			rc = s->has_failed ? 1 : 0;
			break;
		}
		now = sp_boot_us();
		gather(s, &t, now, &next);
		if (next != 0)
			ms = next <= now ? 0 : (next - now + 999) / 1000;
		if (poll(t.pf, t.n, ms > 60000 ? 60000 : (int)ms) < 0) {
			if (errno != EINTR && errno != ENOMEM)
				break;
			continue;
		}
		serve(s, &t);
	}
	free(t.pf);
	free(t.what);
	return rc;
}
