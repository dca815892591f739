/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

/*
 * Witnesses and the time stamp authority are commands of the configuration. The
 * notary asks for them by number and gets two pipes; nothing that goes through
 * them is read here. A command runs as sallyport-witness, which owns nothing, with
 * no descriptor but its three and no environment, for at most RUN_US.
 */
#define USER "sallyport-witness"
#define RUN_US (30 * SP_SECOND_US)
#define ARGS_MAX 32
#define RUN_WITNESS 1
#define RUN_STAMP 2

/* Entry `index` of "KEY COMMAND; KEY COMMAND", without its key. */
static struct sp_span
witness_command(const char *text, unsigned index)
{
	struct sp_span all = sp_span_str(text), one;

	while (all.n > 0) {
		const uint8_t *semi = memchr(all.p, ';', all.n);

		one = sp_span_of(all.p, semi == NULL ? all.n :
		    (size_t)(semi - all.p));
		all = sp_span_of(one.p + one.n + (semi != NULL), all.n - one.n -
		    (semi != NULL));
		while (one.n > 0 && one.p[0] == ' ')
			one = sp_span_of(one.p + 1, one.n - 1);
		if (one.n == 0 || index-- > 0)
			continue;
		while (one.n > 0 && one.p[0] != ' ')
			one = sp_span_of(one.p + 1, one.n - 1);
		return one;
	}
	return (struct sp_span){0};
}

/* Words between spaces, into buf; no quoting. 0: no absolute path. */
static size_t
split(struct sp_span s, char *buf, size_t cap, char *argv[static ARGS_MAX + 1])
{
	size_t n = 0;

	if (sp_span_cstr(s, buf, cap) != SP_OK)
		return 0;
	for (char *p = buf; n < ARGS_MAX;) {
		p += strspn(p, " ");
		if (*p == '\0')
			break;
		argv[n++] = p;
		p += strcspn(p, " ");
		if (*p == '\0')
			break;
		*p++ = '\0';
	}
	argv[n] = NULL;
	return n > 0 && argv[0][0] == '/' ? n : 0;
}

static void
limit(int what, rlim_t n)
{
	struct rlimit r = {n, n};

	if (setrlimit(what, &r) != 0)
		_exit(126);
}

static _Noreturn void
child(const struct sp_instance *in, const struct passwd *pw, int from, int to,
    char **argv)
{
	char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", *envp[] = {path, NULL};
	sigset_t none;

	setsid();
	if (dup2(from, 0) < 0 || dup2(to, 1) < 0 || dup2(in->null, 2) < 0 ||
	    close_range(3, ~0U, 0) != 0 || chdir("/") != 0)
		_exit(126);
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	limit(RLIMIT_CPU, 30);
	limit(RLIMIT_NOFILE, 64);
	limit(RLIMIT_FSIZE, 1 << 20);
	if (pw != NULL && (setgroups(0, NULL) != 0 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0 ||
	    setuid(0) == 0))
		_exit(126);
	execve(argv[0], argv, envp);
	_exit(127);
}

static const char *
start(struct sp_sup *s, struct sp_span command, int ours[static 2])
{
	const struct passwd *pw = NULL;
	char buf[sizeof(s->in.cfg.log_witness)], *argv[ARGS_MAX + 1];
	int in[2] = {-1, -1}, out[2] = {-1, -1};
	size_t slot = 0;
	pid_t pid = -1;

	while (slot < SP_RUNS_MAX && s->runs[slot].pid != 0)
		slot++;
	if (slot == SP_RUNS_MAX)
		return "too many commands run at once";
	if (split(command, buf, sizeof(buf), argv) == 0)
		return "the command has no absolute path";
	if (s->in.as_root && ((pw = getpwnam(USER)) == NULL || pw->pw_uid == 0 ||
	    pw->pw_gid == 0))
		return "there is no user " USER ": `sallyport init` makes it";
	if (pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
	    fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 &&
	    fcntl(out[0], F_SETFL, O_NONBLOCK) == 0)
		pid = fork();
	if (pid == 0)
		child(&s->in, pw, in[0], out[1], argv);
	sp_close_fds(&in[0], 1);
	sp_close_fds(&out[1], 1);
	if (pid < 0) {
		sp_close_fds(&in[1], 1);
		sp_close_fds(&out[0], 1);
		return "it cannot be started";
	}
	s->runs[slot] = (struct sp_command){.pid = pid,
	    .deadline_us = sp_boot_us() + RUN_US};
	ours[0] = in[1];
	ours[1] = out[0];
	return NULL;
}

enum sp_err
sp_run_ask(struct sp_sup *s, struct sp_proc *p, const struct sp_msg_n_run *m)
{
	struct sp_msg_n_run_r r = {.id = m->id};
	struct sp_msg_n_run_failed f = {.id = m->id};
	struct sp_span command = {0};
	const char *why;
	int fds[2];

	if (p->rx != SP_RX_NOTARY)
		return SP_ERR_PROTO;
	if (m->what == RUN_WITNESS)
		command = witness_command(s->in.cfg.log_witness, m->index);
	else if (m->what == RUN_STAMP)
		command = sp_span_str(s->in.cfg.log_timestamp);
	why = start(s, command, fds);
	if (why == NULL)
		return sp_send_n_run_r(&p->link, 0, &r, fds);
	f.text = sp_span_str(why);
	return sp_send_n_run_failed(&p->link, 0, &f, NULL);
}

bool
sp_run_reaped(struct sp_sup *s, pid_t pid)
{
	for (size_t i = 0; i < SP_RUNS_MAX; i++)
		if (s->runs[i].pid == pid) {
			kill(-pid, SIGKILL);	/* what it left behind */
			s->runs[i].pid = 0;
			return true;
		}
	return false;
}

void
sp_run_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	for (size_t i = 0; i < SP_RUNS_MAX; i++) {
		if (s->runs[i].pid == 0)
			continue;
		if (s->runs[i].deadline_us <= now) {
			kill(-s->runs[i].pid, SIGKILL);
			s->runs[i].deadline_us = now + SP_SECOND_US;
		}
		sp_sooner(next, s->runs[i].deadline_us);
	}
}

void
sp_run_kill_all(struct sp_sup *s)
{
	for (size_t i = 0; i < SP_RUNS_MAX; i++)
		if (s->runs[i].pid != 0)
			kill(-s->runs[i].pid, SIGKILL);
}

/* Whoever reads it there finds all that a checkpoint is made of. */
void
sp_run_syslog(struct sp_span line)
{
	char text[1100];

	openlog("sallyport", LOG_PID, LOG_AUTHPRIV);
	syslog(LOG_NOTICE, "checkpoint %s", sp_vis(text, sizeof(text), line));
}
