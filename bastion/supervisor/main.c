/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_WANTED 65536u

/*
 * No system call filter here, unlike everywhere else: this process forks,
 * executes, binds, connects, changes users and opens recordings, so a filter
 * would allow nearly all that an attacker needs; what keeps it safe is that
 * no byte from the network and no text from a person is parsed here. Links
 * are judged by the message table, and descriptors of others never read.
 */
static enum sp_err
harden(void)
{
	struct rlimit none = {0, 0}, files;

	umask(077);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    setrlimit(RLIMIT_CORE, &none) != 0)
		return SP_ERR_IO;
#ifndef SP_SANITIZED
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return SP_ERR_IO;
#endif
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    signal(SIGHUP, SIG_IGN) == SIG_ERR)
		return SP_ERR_IO;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	    files.rlim_cur < FILES_WANTED) {
		files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max :
		    FILES_WANTED;
		if (setrlimit(RLIMIT_NOFILE, &files) != 0)
			return SP_ERR_IO;
	}
	return SP_OK;
}

static int
usage(void)
{
	fputs("usage: sallyportd DIR [--foreground]\n"
	    "Starts the bastion whose instance is DIR (`sallyport init DIR`"
	    " makes one).\n", stderr);
	return 2;
}

/* The first process waits until the daemon serves, or has said why not. */
static void
go_to_background(struct sp_sup *s)
{
	int p[2];
	char c = '-';
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		perror("sallyportd");
		exit(1);
	}
	if (pid > 0) {
		close(p[1]);
		while (read(p[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(c == '+' ? 0 : 1);
	}
	close(p[0]);
	s->ready_fd = p[1];
	setsid();
}

static enum sp_err
watch_signals(struct sp_sup *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return SP_ERR_IO;
	s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->sigfd < 0 ? SP_ERR_IO : SP_OK;
}

/* Descriptors 0 to 2 are always open: nothing of ours may land there. */
static void
fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd < 3);
	sp_close_fds(&fd, 1);
}

static struct sp_sup *
sup_new(void)
{
	struct sp_sup *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->in.host_key_fd = -1;
	s->in.dir = s->in.run = s->in.recordings = s->in.vault = s->in.keys = -1;
	s->in.pam = s->in.log = s->in.null = s->in.pidfile = s->in.control = -1;
	s->in.vault_sock = s->in.terminal = s->in.libexec = -1;
	s->in.credentials = s->in.tlog = -1;
	s->sigfd = s->ready_fd = s->files.link.fd = -1;
	if (getrandom(&s->source_seed, sizeof(s->source_seed), 0) !=
	    (ssize_t)sizeof(s->source_seed)) {
		free(s);
		return NULL;
	}
	return s;
}

static void
kid_free(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	(void)arg;
	sp_kid_free(s, k);
}

static void
sup_free(struct sp_sup *s)
{
	sp_kid_each(s, kid_free, NULL);
	sp_dial_drop_all(s);
	sp_dial_sweep(s);
	sp_session_free_all(s);
	sp_files_stop(s);
	sp_close_fds(&s->sigfd, 1);
	sp_close_fds(&s->ready_fd, 1);
	sp_instance_close(&s->in);
	sp_close_fds(&s->in.terminal, 1);
	free(s);
}

int
main(int argc, char **argv)
{
	bool foreground = argc == 3 && strcmp(argv[2], "--foreground") == 0;
	struct sp_sup *s;
	int rc = 1;

	if (argc < 2 || argc > 3 || argv[1][0] == '-' || (argc == 3 && !foreground))
		return usage();
	fill_standard_fds();
	sp_log_init("sallyportd", false);
	if ((s = sup_new()) != NULL)
		sp_instance_activate(&s->in);
	if (s != NULL)
		sp_credential_find(&s->in);
	if (s == NULL || harden() != SP_OK) {
		fputs("sallyportd: cannot begin: no memory or no rights\n", stderr);
		free(s);
		return 1;
	}
	if (!foreground)
		go_to_background(s);
	s->in.terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (sp_instance_open(&s->in, argv[1]) == SP_OK &&
	    sp_instance_bind(&s->in) == SP_OK && watch_signals(s) == SP_OK) {
		sp_log_init("sallyportd", s->in.cfg.debug == 1);
		rc = sp_loop_run(s);
		sp_log(SP_INFO, "stopped", NULL, "status=%d", rc);
	}
	sup_free(s);
	return rc;
}
