/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of recordings is touched by sallyport-files alone: a disk that does
 * not answer holds that process, in the kernel, where no signal reaches it. What is
 * asked meanwhile is refused in time; what must be done (a recording's name when it
 * is closed) waits until the disk answers.
 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_US (30 * SP_SECOND_US)
#define WAIT_US (5 * SP_SECOND_US)
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 2000u
#define JOBS_MAX 32768u		/* two for each session that there may be */

/* ------------------------------------------------------------------ the process */

enum sp_err
sp_files_start(struct sp_sup *s)
{
	struct sp_files *f = &s->files;
	struct sp_launch l = {.is_files = true};
	int pair[2];
	enum sp_err e;

	if (f->tail == NULL)
		f->tail = &f->first;
	f->restart_us = 0;
	SP_TRY(sp_link_pair(pair));
	l.link = pair[1];
	e = sp_launch_exec(&s->in, &l, &f->pid);
	close(pair[1]);
	if (e == SP_OK)
		e = sp_link_init(&f->link, pair[0], SP_ROLE_SUP, SP_ROLE_FIL,
		    SP_ST_NEW);
	else
		close(pair[0]);
	if (e != SP_OK)
		return e;
	f->deadline_us = sp_boot_us() + START_US;
	return SP_OK;
}

/* One that waits for its disk does not end now, but it ends. */
static void
drop(struct sp_sup *s, const char *why)
{
	struct sp_files *f = &s->files;

	sp_log(SP_ERROR, "files_killed", NULL, "role_pid=%d why=\"%s\"",
	    (int)f->pid, sp_vis_str(why));
	f->is_up = false;
	f->deadline_us = 0;
	if (f->link.is_open)
		sp_link_fini(&f->link);
	f->link.fd = -1;
	if (f->pid > 0)
		kill(f->pid, SIGKILL);
}

static void
send_first(struct sp_sup *s)
{
	struct sp_files *f = &s->files;
	struct sp_file_job *j = f->first;
	struct sp_msg_file_ask m;
	enum sp_err e;

	if (!f->is_up || j == NULL || j->is_sent)
		return;
	m = (struct sp_msg_file_ask){.op = j->op,
	    .sessions = sp_span_of(j->ids, j->n_ids)};
	j->is_sent = true;
	e = sp_send_file_ask(&f->link, j->no, &m, NULL);
	if (e != SP_OK)
		drop(s, sp_err_text(e));
}

static void
answer(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds, size_t n)
{
	if (!j->is_answered && j->done != NULL)
		j->done(s, j, err_no, fds, n);
	j->is_answered = true;
}

/* What the one that ended was at. A new file may have been made, or not: none is. */
static void
ask_again(struct sp_sup *s)
{
	struct sp_file_job *j = s->files.first;

	if (j == NULL || !j->is_sent)
		return;
	if (j->op == SP_FILE_NEW) {
		answer(s, j, EIO, NULL, 0);
		j->op = SP_FILE_DROP;
	}
	j->is_sent = false;
}

bool
sp_files_reaped(struct sp_sup *s, pid_t pid, int status)
{
	struct sp_files *f = &s->files;

	if (pid != f->pid || pid == 0)
		return false;
	if (s->phase <= SP_PHASE_RUNNING)
		sp_log(SP_ERROR, "files_ended", NULL, "status=%d", status);
	f->pid = 0;
	drop(s, "it ended");
	if (s->phase == SP_PHASE_STARTING && !s->has_failed) {
		s->has_failed = true;
		sp_say(&s->in, SP_FILES_EXE " ended during the start");
	}
	ask_again(s);
	f->backoff_ms = f->backoff_ms == 0 ? BACKOFF_MIN_MS :
	    f->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS :
	    f->backoff_ms * 2;
	f->restart_us = sp_boot_us() + (int64_t)f->backoff_ms * 1000;
	if (WIFSIGNALED(status) && s->phase <= SP_PHASE_RUNNING)
		sp_sup_event(s, "role_died", NULL, SP_FILES_EXE);
	return true;
}

void
sp_files_stop(struct sp_sup *s)
{
	struct sp_files *f = &s->files;
	struct sp_file_job *j;

	if (f->link.is_open)
		sp_link_fini(&f->link);
	f->link.fd = -1;
	while ((j = f->first) != NULL) {
		f->first = j->next;
		free(j);
	}
	if (f->pid > 0)
		kill(f->pid, SIGKILL);
}

/* -------------------------------------------------------------------- the queue */

struct sp_file_job *
sp_files_job(struct sp_sup *s, uint8_t op, struct sp_span ids)
{
	struct sp_file_job *j;

	if (s->files.n >= JOBS_MAX || ids.n > sizeof(j->ids) ||
	    (j = calloc(1, sizeof(*j))) == NULL)
		return NULL;
	j->op = op;
	j->n_ids = ids.n;
	if (ids.n > 0)
		memcpy(j->ids, ids.p, ids.n);
	return j;
}

void
sp_files_ask(struct sp_sup *s, struct sp_file_job *j, bool is_waited_for)
{
	struct sp_files *f = &s->files;

	j->no = ++f->next_no;
	j->due_us = is_waited_for ? sp_boot_us() + WAIT_US : 0;
	*f->tail = j;
	f->tail = &j->next;
	f->n++;
	send_first(s);
}

static void
unlink_job(struct sp_files *f, struct sp_file_job **at)
{
	struct sp_file_job *j = *at;

	*at = j->next;
	if (f->tail == &j->next)
		f->tail = at;
	f->n--;
	free(j);
}

static bool
is_question(const struct sp_file_job *j)
{
	return j->op <= SP_FILE_READ_MANY || j->op == SP_FILE_FINISHED ||
	    j->op == SP_FILE_FETCH;
}

static void
settle(struct sp_sup *s, int err_no, int *fds, size_t n)
{
	struct sp_files *f = &s->files;
	struct sp_file_job *j = f->first, *undo;

	if (f->is_stuck)
		sp_sup_event(s, "recordings_disk_answers", NULL, "");
	f->is_stuck = false;
	f->backoff_ms = 0;
	/* Nobody waits for the new file any more. */
	if (j->is_answered && j->op == SP_FILE_NEW && err_no == 0 &&
	    (undo = sp_files_job(s, SP_FILE_DROP, sp_span_of(j->ids, 16))) != NULL)
		sp_files_ask(s, undo, false);
	answer(s, j, err_no, fds, n);
	unlink_job(f, &f->first);
	send_first(s);
}

/* ------------------------------------------------------------- what it answers */

static enum sp_err
hello(struct sp_sup *s, const struct sp_packet *k)
{
	struct sp_files *f = &s->files;
	struct sp_msg_start_files m = {};
	struct sp_msg_hello h;
	uint8_t ours[32];
	int fd;

	SP_TRY(sp_dec_hello(k->body, &h));
	sp_ipc_table_hash(ours);
	if (memcmp(ours, h.table, sizeof(ours)) != 0) {
		sp_say(&s->in, "%s/" SP_FILES_EXE " is of another build",
		    s->in.libexec_path);
		return SP_ERR_UNSUPPORTED;
	}
	if ((fd = fcntl(s->in.recordings, F_DUPFD_CLOEXEC, 3)) < 0)
		return SP_ERR_IO;
	return sp_send_start_files(&f->link, 0, &m, &fd);
}

static enum sp_err
started(struct sp_sup *s, const struct sp_packet *k)
{
	struct sp_files *f = &s->files;
	struct sp_msg_started m;

	SP_TRY(sp_dec_started(k->body, &m));
	sp_log(SP_INFO, "role_started", NULL, "role=" SP_FILES_EXE
	    " role_pid=%d sandbox=\"%s\"", (int)f->pid, sp_vis_tmp(m.sandbox));
	f->is_up = true;
	f->deadline_us = 0;
	f->link.state = SP_ST_READY;
	send_first(s);
	return SP_OK;
}

static enum sp_err
take(struct sp_sup *s, struct sp_packet *k)
{
	struct sp_file_job *j = s->files.first;
	struct sp_msg_files_opened many;
	struct sp_msg_files_found found;
	struct sp_msg_file_done d;

	if (k->type == SP_MSG_hello)
		return hello(s, k);
	if (k->type == SP_MSG_started)
		return started(s, k);
	if (j == NULL || !j->is_sent || k->corr != j->no)
		return SP_ERR_PROTO;
	switch (k->type) {
	case SP_MSG_file_done:
		SP_TRY(sp_dec_file_done(k->body, &d));
		settle(s, is_question(j) && d.err_no == 0 ? EPROTO :
		    (int)d.err_no, NULL, 0);
		return SP_OK;
	case SP_MSG_file_opened:
		if (!is_question(j) || j->op == SP_FILE_READ_MANY)
			return SP_ERR_PROTO;
		settle(s, 0, k->fds, 1);
		return SP_OK;
	case SP_MSG_files_opened:
		SP_TRY(sp_dec_files_opened(k->body, &many));
		if (j->op != SP_FILE_READ_MANY || many.n > SP_SEARCH_BATCH ||
		    many.sessions.n != 16u * many.n)
			return SP_ERR_PROTO;
		j->n_ids = many.sessions.n;
		memcpy(j->ids, many.sessions.p, many.sessions.n);
		settle(s, 0, k->fds, k->n_fds);
		return SP_OK;
	case SP_MSG_files_found:
		SP_TRY(sp_dec_files_found(k->body, &found));
		if (j->found == NULL || found.sessions.n % 16 != 0)
			return SP_ERR_PROTO;
		j->found(s, j, found.sessions);
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}

void
sp_files_read(struct sp_sup *s)
{
	struct sp_files *f = &s->files;
	struct sp_packet k;
	enum sp_err e = SP_OK;

	for (int i = 0; i < 64 && e == SP_OK && f->link.fd >= 0; i++) {
		if (sp_link_wants_write(&f->link) &&
		    (e = sp_link_flush(&f->link)) != SP_OK && e != SP_ERR_AGAIN)
			break;
		if ((e = sp_link_recv(&f->link, &k)) != SP_OK)
			break;
		e = take(s, &k);
		sp_packet_close_fds(&k);
	}
	if (e != SP_OK && e != SP_ERR_AGAIN && f->link.fd >= 0)
		drop(s, e == SP_ERR_PROTO && f->link.fault[0] != '\0' ?
		    f->link.fault : sp_err_text(e));
}

/* ------------------------------------------------------------------- deadlines */

static void
stuck(struct sp_sup *s)
{
	if (!s->files.is_stuck)
		sp_sup_event(s, "recordings_disk_stuck", NULL, "no answer about the "
		    "directory of recordings: no session begins, and no recording "
		    "is opened");
	s->files.is_stuck = true;
}

/* What was not begun and is a question is forgotten; the rest waits for its turn. */
static void
give_up(struct sp_sup *s, int64_t now, int64_t *next)
{
	struct sp_files *f = &s->files;
	struct sp_file_job **at = &f->first, *j;

	while ((j = *at) != NULL) {
		if (j->due_us != 0 && j->due_us <= now) {
			j->due_us = 0;
			stuck(s);
			answer(s, j, ETIMEDOUT, NULL, 0);
			if (!j->is_sent && is_question(j)) {
				unlink_job(f, at);
				continue;
			}
		}
		sp_sooner(next, j->due_us);
		at = &j->next;
	}
}

void
sp_files_broker_gone(struct sp_sup *s)
{
	for (struct sp_file_job *j = s->files.first; j != NULL; j = j->next)
		if (is_question(j) || j->op == SP_FILE_LIST)
			j->is_answered = true;
}

void
sp_files_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	struct sp_files *f = &s->files;

	if (f->tail == NULL)
		return;
	if (f->deadline_us != 0 && f->deadline_us <= now)
		drop(s, "not started in time");
	if (s->phase <= SP_PHASE_SESSIONS_END && f->restart_us != 0 &&
	    f->restart_us <= now && sp_files_start(s) != SP_OK)
		f->restart_us = now + (int64_t)BACKOFF_MAX_MS * 1000;
	give_up(s, now, next);
	sp_sooner(next, f->deadline_us);
	sp_sooner(next, f->restart_us);
}
