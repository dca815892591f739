/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-scribe: the parent of all scribes. A child reads one session along:
 * it has a link to that session's recorder and nothing else.
 */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>

#include "common/log.h"
#include "common/parent.h"
#include "common/sandbox.h"
#include "recorder/scribe/scribe.h"

#define NICE 2			/* whoever forwards bytes goes first; little more */
#define HEAP_KEEP (256 << 10)

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	(void)ctx;
	if (p->type != SP_MSG_start_parent)
		return SP_ERR_PROTO;
	return sp_sandbox_prepare(sp_scribe_syscalls, sp_scribe_n_syscalls);
}

static enum sp_err
hear(struct sp_scribe *s, struct sp_link *l)
{
	struct sp_packet p;

	SP_TRY(sp_link_recv(l, &p));
	sp_packet_close_fds(&p);
	return sp_scribe_take(s, l, &p);
}

static int
wait_ms(int64_t again)
{
	int64_t left = again - sp_boot_us();

	if (again == INT64_MAX)
		return -1;
	return left <= 0 ? 0 : (int)(left / 1000 + 1);
}

/* Nothing more is read while something waits to be taken: the recorder takes,
 * or drops this process. */
static enum sp_err
turn(struct sp_scribe *s, struct sp_link *l)
{
	struct pollfd pf = {.fd = l->fd, .events = POLLIN};
	int64_t again = INT64_MAX;
	enum sp_err e;

	SP_TRY(sp_scribe_tick(s, l, sp_boot_us(), &again));
	e = sp_link_flush(l);
	if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	if (e == SP_ERR_AGAIN)
		pf.events = POLLOUT;
	else if (s->is_stopped)
		return SP_ERR_EOF;
	else if ((e = hear(s, l)) != SP_ERR_AGAIN)
		return e;
	return poll(&pf, 1, wait_ms(again)) < 0 && errno != EINTR ?
	    SP_ERR_IO : SP_OK;
}

static int
read_along(int fd)
{
	static struct sp_scribe s;	/* a child has one session */
	struct sp_link l;
	enum sp_err e = sp_link_init(&l, fd, SP_ROLE_SCR, SP_ROLE_REC,
	    SP_ST_NEW);

	sp_scribe_init(&s);
	while (e == SP_OK)
		e = turn(&s, &l);
	if (e != SP_ERR_EOF)
		sp_log(SP_WARN, "scribe_ends", s.session,
		    "error=\"%s\" fault=\"%s\"", sp_err_text(e), l.fault);
	sp_link_fini(&l);
	sp_scribe_fini(&s);
	return e == SP_ERR_EOF ? 0 : 1;
}

static int
child(void *ctx, struct sp_packet *p)
{
	struct sp_msg_spawn_scribe m;
	char level[64] = "";

	(void)ctx;
	if (setpriority(PRIO_PROCESS, 0, NICE) != 0)
		sp_log(SP_DEBUG, "no_nice", NULL, "errno=%d", errno);
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEEP);
	if (sp_sandbox_enter(sp_scribe_syscalls, sp_scribe_n_syscalls, level,
	    sizeof(level)) != SP_OK) {
		sp_log(SP_ERROR, "sandbox_failed", NULL, "type=%u", p->type);
		return 1;
	}
	if (p->type != SP_MSG_spawn_scribe || p->n_fds != 1 ||
	    sp_dec_spawn_scribe(p->body, &m) != SP_OK) {
		sp_packet_close_fds(p);
		return 1;
	}
	return read_along(p->fds[0]);
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_SCR,
	    .start = start, .child = child};

	sp_harden(NULL);
	sp_log_init("sallyport-scribe", false);
	return sp_parent_main(&ops, NULL);
}
