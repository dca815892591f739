/* SPDX-License-Identifier: Apache-2.0 */
#include "common/parent.h"

#include <errno.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

#define CHILDREN_MAX 65536
#define PACKETS_A_TURN 8
#define PAGE 4096UL

struct child {
	pid_t pid;
	uint64_t id;
};

struct life {
	const struct sp_parent *ops;
	void *ctx;
	struct sp_link sup;
	struct child *kids;
	size_t n_kids, room;
	bool stopping;
	int sigfd;
};

static enum sp_err
remember(struct life *f, pid_t pid, uint64_t id)
{
	if (f->n_kids == f->room) {
		size_t room = f->room == 0 ? 64 : f->room * 2;
		struct child *k = calloc(room, sizeof(*k));

		if (k == NULL)
			return SP_ERR_NOMEM;
		if (f->n_kids > 0)
			memcpy(k, f->kids, f->n_kids * sizeof(*k));
		free(f->kids);
		f->kids = k;
		f->room = room;
	}
	f->kids[f->n_kids++] = (struct child){.pid = pid, .id = id};
	return SP_OK;
}

static enum sp_err
reap(struct life *f)
{
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(f->sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < f->n_kids; i++) {
			struct sp_msg_exited m;

			if (f->kids[i].pid != pid)
				continue;
			m = (struct sp_msg_exited){.id = f->kids[i].id,
			    .pid = (uint32_t)pid, .status = (uint32_t)status};
			f->kids[i] = f->kids[--f->n_kids];
			SP_TRY(sp_send_exited(&f->sup, 0, &m, NULL));
			break;
		}
	return SP_OK;
}

static _Noreturn void
become_child(struct life *f, struct sp_packet *p, pid_t parent)
{
	sigset_t none;
	uint8_t *rx = f->sup.rx;	/* the packet's body lives here */

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(f->sigfd);
	close(f->sup.fd);
	f->sup.fd = -1;
	f->sup.rx = NULL;
	/* A child never outlives the parent that could report its end. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
	    getppid() != parent)
		_exit(1);
	(void)rx;
	_exit(f->ops->child(f->ctx, p));
}

/* Every spawn message begins with the id. */
static enum sp_err
spawn(struct life *f, struct sp_packet *p)
{
	struct sp_msg_spawned m = {0};
	struct sp_span body = p->body;
	pid_t me = getpid(), pid = -1;

	if (sp_get_u64(&body, &m.id) != SP_OK) {
		sp_packet_close_fds(p);
		return SP_ERR_PROTO;
	}
	if (!f->stopping && f->n_kids < CHILDREN_MAX)
		pid = fork();
	if (pid == 0)
		become_child(f, p, me);
	sp_packet_close_fds(p);
	if (pid < 0) {
		struct sp_msg_exited x = {.id = m.id, .status = 1U << 8};

		sp_log(SP_ERROR, "fork_failed", NULL, "errno=%d", errno);
		return sp_send_exited(&f->sup, p->corr, &x, NULL);
	}
	m.pid = (uint32_t)pid;
	SP_TRY(remember(f, pid, m.id));
	return sp_send_spawned(&f->sup, p->corr, &m, NULL);
}

static enum sp_err
one_packet(struct life *f)
{
	struct sp_packet p;
	enum sp_err e = sp_link_recv(&f->sup, &p);

	if (e != SP_OK)
		return e;
	switch (p.type) {
	case SP_MSG_spawn_ingress:
	case SP_MSG_spawn_recorder:
	case SP_MSG_spawn_recover:
	case SP_MSG_spawn_egress:
	case SP_MSG_spawn_player:
	case SP_MSG_spawn_search:
	case SP_MSG_spawn_auth:
	case SP_MSG_spawn_scribe:
		return spawn(f, &p);
	case SP_MSG_stop:
		f->stopping = true;
		return SP_OK;
	default:
		sp_packet_close_fds(&p);
		return SP_ERR_PROTO;
	}
}

static int
loop(struct life *f)
{
	for (;;) {
		struct pollfd pf[2] = {{.fd = f->sup.fd, .events = POLLIN},
		    {.fd = f->sigfd, .events = POLLIN}};
		enum sp_err e;

		if (sp_link_wants_write(&f->sup))
			pf[0].events |= POLLOUT;
		if (f->stopping && f->n_kids == 0)
			return 0;
		if (poll(pf, 2, -1) < 0 && errno != EINTR)
			return 1;
		if ((e = reap(f)) == SP_OK)
			e = sp_link_flush(&f->sup);
		if (e != SP_OK && e != SP_ERR_AGAIN)
			return e == SP_ERR_EOF ? 0 : 1;	/* it is gone */
		/* A flood of spawns does not hide who has ended. */
		e = SP_OK;
		for (int i = 0; i < PACKETS_A_TURN && e == SP_OK; i++)
			e = one_packet(f);
		if (e == SP_OK)
			continue;
		if (e == SP_ERR_EOF)
			return 0;
		if (e != SP_ERR_AGAIN) {
			sp_log(SP_ERROR, "parent_ends", NULL, "error=\"%s\" fault=\"%s\"",
			    sp_err_text(e), f->sup.fault);
			return 1;
		}
	}
}

/* A fork copies what describes each mapping, and the end of the child takes it
 * apart: 35 of 80 were those of Kerberos' libraries (a tenth to a quarter of a
 * fork, and some 20 KiB of the kernel's memory a child). */
static int
leave_behind(struct dl_phdr_info *o, size_t size, void *arg)
{
	const char *const *name = arg;
	const char *base = strrchr(o->dlpi_name, '/');

	(void)size;
	base = base == NULL ? o->dlpi_name : base + 1;
	while (*name != NULL && strncmp(base, *name, strlen(*name)) != 0)
		name++;
	for (size_t i = 0; *name != NULL && i < o->dlpi_phnum; i++) {
		uintptr_t from = o->dlpi_addr + o->dlpi_phdr[i].p_vaddr;
		uintptr_t to = from + o->dlpi_phdr[i].p_memsz;
		void *at;

		if (o->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		from -= from % PAGE;
		to += (PAGE - to % PAGE) % PAGE;
		memcpy(&at, &from, sizeof(at));
		/* Where the kernel does not want to, a child has it. */
		(void)!madvise(at, to - from, MADV_DONTFORK);
	}
	return 0;
}

int
sp_parent_main(const struct sp_parent *ops, void *ctx)
{
	struct life f = {.ops = ops, .ctx = ctx, .sigfd = -1};
	struct sp_packet p;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
	    (f.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return 1;
	if (sp_role_hello(&f.sup, ops->role, &p) != SP_OK)
		return 1;
	if (ops->start(ctx, &p) != SP_OK) {
		sp_log(SP_ERROR, "start_failed", NULL, "role=%s",
		    sp_role_name(ops->role));
		return 1;
	}
#ifndef SP_SANITIZED	/* it looks at all that is loaded */
	if (ops->without != NULL) {
		const void *names = ops->without;
		void *arg;

		memcpy(&arg, &names, sizeof(arg));
		dl_iterate_phdr(leave_behind, arg);
	}
#endif
	if (sp_role_started(&f.sup, "") != SP_OK)
		return 1;
	status = loop(&f);
	sp_link_fini(&f.sup);
	close(f.sigfd);
	free(f.kids);
	return status;
}
