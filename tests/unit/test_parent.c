/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/parent.c */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/parent.h"

#define WAIT_MS 60000

/* The test is the supervisor; the parent of recorders is its child. */
static struct sp_link sup;
static pid_t parent;

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_msg_start_parent m;

	*(int *)ctx = 41;
	SP_TRY(sp_dec_start_parent(p->body, &m));
	return sp_span_is(m.config, "refuse\n") ? SP_ERR_INVAL : SP_OK;
}

/* id 1: ends with 42; 2: kills itself; 3: waits for the end of fds[0]; else
 * says a byte on fds[0] when only its own descriptors are open. */
static int
child(void *ctx, struct sp_packet *p)
{
	struct sp_msg_spawn_recover m;
	char c = 'x';

	if (sp_dec_spawn_recover(p->body, &m) != SP_OK || p->n_fds != 2)
		return 1;
	if (m.id == 1)
		return *(int *)ctx + 1;
	if (m.id == 2)
		raise(SIGKILL);
	if (m.id == 3 && read(p->fds[0], &c, 1) == 0)
		return 3;
	return fcntl(SP_SUPERVISOR_FD, F_GETFD) < 0 &&
	    write(p->fds[0], &c, 1) == 1 ? 0 : 2;
}

static int
live(int fd)
{
	static const struct sp_parent ops = {.role = SP_ROLE_REC, .start = start,
	    .child = child};
	int ctx = 0;

	if (fd != SP_SUPERVISOR_FD) {
		if (dup2(fd, SP_SUPERVISOR_FD) < 0)
			return 90;
		close(fd);
	}
	for (int i = SP_SUPERVISOR_FD + 1; i < 256; i++)
		close(i);
	return sp_parent_main(&ops, &ctx);
}

static void
begin(void)
{
	uint8_t h[32];
	struct sp_msg_hello hello;
	struct sp_packet p;
	int fds[2];

	cr_assert(sp_link_pair(fds) == SP_OK);
	parent = fork();
	cr_assert(parent >= 0);
	if (parent == 0)
		_exit(live(fds[1]));
	close(fds[1]);
	cr_assert(sp_link_init(&sup, fds[0], SP_ROLE_SUP, SP_ROLE_REC, SP_ST_NEW) ==
	    SP_OK);
	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_OK);
	cr_assert(p.type == SP_MSG_hello);
	cr_assert(sp_dec_hello(p.body, &hello) == SP_OK);
	sp_ipc_table_hash(h);
	cr_assert(memcmp(h, hello.table, 32) == 0);
}

static void
give_start(const char *config)
{
	struct sp_msg_start_parent m = {.config = sp_span_str(config)};

	cr_assert(sp_send_start_parent(&sup, 0, &m, NULL) == SP_OK);
}

static void
begin_ready(void)
{
	struct sp_packet p;

	begin();
	give_start("");
	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_OK);
	cr_assert(p.type == SP_MSG_started);
	sup.state = SP_ST_READY;
}

static int
end_of_parent(void)
{
	int st = -1;

	cr_assert(waitpid(parent, &st, 0) == parent);
	sp_link_fini(&sup);
	return st;
}

/* Spawns a child; gives our end of its first descriptor. */
static int
spawn(uint64_t id, uint32_t *pid)
{
	struct sp_msg_spawn_recover m = {.id = id};
	struct sp_msg_spawned s;
	struct sp_packet p;
	int a[2], fds[2];

	cr_assert(sp_stream_pair(a) == SP_OK);
	fcntl(a[1], F_SETFL, 0);
	fds[0] = a[1];
	fds[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert(sp_send_spawn_recover(&sup, 77, &m, fds) == SP_OK);
	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_OK);
	cr_assert(p.type == SP_MSG_spawned && p.corr == 77);
	cr_assert(sp_dec_spawned(p.body, &s) == SP_OK && s.id == id);
	*pid = s.pid;
	return a[0];
}

static uint32_t
exit_of(uint64_t id, uint32_t pid)
{
	struct sp_msg_exited x;
	struct sp_packet p;

	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_OK);
	cr_assert(p.type == SP_MSG_exited);
	cr_assert(sp_dec_exited(p.body, &x) == SP_OK);
	cr_assert(x.id == id && x.pid == pid);
	return x.status;
}

static void
stop(void)
{
	struct sp_msg_stop m = {.graceful = 1};

	cr_assert(sp_send_stop(&sup, 0, &m, NULL) == SP_OK);
}

Test(parent, forks_and_reports_exit_and_signal)
{
	uint32_t pid, st;
	int fd;

	begin_ready();
	fd = spawn(1, &pid);
	st = exit_of(1, pid);
	cr_assert(WIFEXITED((int)st) && WEXITSTATUS((int)st) == 42,
	    "what the parent prepared is the child's too");
	close(fd);
	fd = spawn(2, &pid);
	st = exit_of(2, pid);
	cr_assert(WIFSIGNALED((int)st) && WTERMSIG((int)st) == SIGKILL);
	close(fd);
	stop();
	cr_assert(end_of_parent() == 0);
}

Test(parent, a_child_has_its_own_descriptors_only)
{
	struct pollfd pf;
	uint32_t pid;
	char c = 0;

	begin_ready();
	pf = (struct pollfd){.fd = spawn(9, &pid), .events = POLLIN};
	cr_assert(poll(&pf, 1, WAIT_MS) == 1);
	cr_assert(read(pf.fd, &c, 1) == 1 && c == 'x');
	cr_assert(exit_of(9, pid) == 0);
	cr_assert(poll(&pf, 1, WAIT_MS) == 1 && read(pf.fd, &c, 1) == 0,
	    "the parent kept no copy");
	close(pf.fd);
	stop();
	cr_assert(end_of_parent() == 0);
}

Test(parent, stop_waits_for_the_last_child_and_forks_no_more)
{
	struct sp_msg_spawn_recover m = {.id = 5};
	uint32_t pid, st;
	int fd, fds[2];

	begin_ready();
	fd = spawn(3, &pid);
	stop();
	fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fds[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert(sp_send_spawn_recover(&sup, 0, &m, fds) == SP_OK);
	st = exit_of(5, 0);
	cr_assert(WIFEXITED((int)st) && WEXITSTATUS((int)st) != 0);
	close(fd);
	st = exit_of(3, pid);
	cr_assert(WEXITSTATUS((int)st) == 3);
	cr_assert(end_of_parent() == 0);
}

Test(parent, without_supervisor_all_end)
{
	struct pollfd pf;
	uint32_t pid;
	char c;
	int st;

	begin_ready();
	pf = (struct pollfd){.fd = spawn(3, &pid), .events = POLLIN};
	st = (sp_link_fini(&sup), 0);
	cr_assert(waitpid(parent, &st, 0) == parent && WIFEXITED(st));
	cr_assert(poll(&pf, 1, WAIT_MS) == 1 && read(pf.fd, &c, 1) <= 0,
	    "the child goes with its parent");
	close(pf.fd);
}

/* Is that process a zombie, or stopped? */
static bool
is_in_state(uint32_t pid, char state)
{
	char path[64], text[256] = "", *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	if ((f = fopen(path, "r")) == NULL)
		return false;
	at = fgets(text, sizeof(text), f) == NULL ? NULL : strrchr(text, ')');
	fclose(f);
	return at != NULL && at[2] == state;
}

/* A child's end cannot be told to a supervisor that is gone: no failure of ours. */
Test(parent, a_child_that_ends_with_the_supervisor)
{
	uint32_t pid;
	int st, fd;

	begin_ready();
	fd = spawn(3, &pid);
	kill(parent, SIGSTOP);
	while (!is_in_state((uint32_t)parent, 'T'))
		sched_yield();
	close(fd);
	while (!is_in_state(pid, 'Z'))
		sched_yield();
	sp_link_fini(&sup);
	kill(parent, SIGCONT);
	cr_assert(waitpid(parent, &st, 0) == parent);
	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0, "status 0x%x", st);
}

Test(parent, a_start_that_fails_ends_it)
{
	struct sp_packet p;
	int st;

	begin();
	give_start("refuse\n");
	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_ERR_EOF);
	st = end_of_parent();
	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 1);
}

Test(parent, a_message_that_is_not_for_it_ends_it)
{
	struct sp_packet p;
	uint8_t none = 0;
	int st;

	begin_ready();
	cr_assert(sp_link_send(&sup, SP_MSG_conn_new, 0, sp_span_of(&none, 1), NULL,
	    0) == SP_OK);
	cr_assert(sp_link_wait(&sup, &p, WAIT_MS) == SP_ERR_EOF);
	st = end_of_parent();
	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 1);
}
