/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings that the broker wants made, opened or closed: each in two halves, with
 * sallyport-files between them. */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *
reason(int err_no)
{
	return err_no == ETIMEDOUT ? "the disk of the recordings does not answer" :
	    strerror(err_no);
}

static void
refuse(struct sp_sup *s, const struct sp_file_job *j, int err_no,
    const char *text)
{
	struct sp_failure f = {.corr = j->corr, .id = j->ref, .session = j->ids,
	    .err_no = err_no, .text = text};

	sp_reply_failure(s, &f);
}

/* Takes the question over from the broker's message. */
static void
ask(struct sp_sup *s, const struct sp_packet *p, const struct sp_file_job *like)
{
	struct sp_file_job *j = sp_files_job(s, like->op, sp_span_of(like->ids,
	    like->n_ids));

	if (j == NULL) {
		refuse(s, like, EAGAIN, "too much is asked of the recordings");
		return;
	}
	j->done = like->done;
	j->corr = p->corr;
	j->ref = like->ref;
	sp_files_ask(s, j, true);
}

/* ------------------------------------------------------------------- recorders */

static void
file_is_there(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds,
    size_t n)
{
	struct sp_file_job *undo;

	if (err_no != 0 || n != 1) {
		refuse(s, j, err_no, err_no == EEXIST ?
		    "this session exists already" : reason(err_no));
		return;
	}
	if (sp_session_find(s, j->ids) != NULL) {
		refuse(s, j, EBUSY, "its recorder still runs");
		return;
	}
	sp_session_record(s, j->op == SP_FILE_NEW ? SP_KID_RECORDER :
	    SP_KID_RECOVER, j->corr, j->ids, fds[0]);
	fds[0] = -1;
	/* A new one that nobody writes is empty, and nobody's. */
	if (j->op == SP_FILE_NEW && sp_session_find(s, j->ids) == NULL &&
	    (undo = sp_files_job(s, SP_FILE_DROP, sp_span_of(j->ids, 16))) != NULL)
		sp_files_ask(s, undo, false);
}

static enum sp_err
on_session_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_file_job j = {.op = SP_FILE_NEW, .n_ids = 16,
	    .corr = p->corr, .done = file_is_there};
	struct sp_msg_session_spawn m;

	SP_TRY(sp_dec_session_spawn(p->body, &m));
	memcpy(j.ids, m.session, 16);
	if (sp_uuid_is_nil(m.session) || sp_session_find(s, m.session) != NULL)
		refuse(s, &j, EEXIST, "this session exists already");
	else
		ask(s, p, &j);
	return SP_OK;
}

static enum sp_err
on_recover(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_file_job j = {.op = SP_FILE_RECOVER, .n_ids = 16,
	    .corr = p->corr, .done = file_is_there};
	struct sp_msg_recover m;

	SP_TRY(sp_dec_recover(p->body, &m));
	memcpy(j.ids, m.session, 16);
	if (sp_session_find(s, m.session) != NULL)
		refuse(s, &j, EBUSY, "its recorder still runs");
	else
		ask(s, p, &j);
	return SP_OK;
}

static void
recorder_is_told(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds,
    size_t n)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	uint8_t id[16];

	(void)fds;
	(void)n;
	memcpy(id, j->ended.session, 16);
	if (b != NULL && j->ended.role != 0)
		sp_proc_sent(s, b, sp_send_session_child_end(&b->link, 0, &j->ended,
		    NULL));
	if (j->is_unnamed && j->op != SP_FILE_REMOVE && (j->op != SP_FILE_DROP ||
	    err_no == ENOTEMPTY))
		sp_unnamed_tell(s, id);
	sp_session_closed(s, id);
}

void
sp_recording_ended(struct sp_sup *s, uint8_t op,
    const struct sp_msg_session_child_end *m, bool is_unnamed)
{
	struct sp_file_job none = {.ended = *m}, *j = op == 0 ? NULL :
	    sp_files_job(s, op, sp_span_of(m->session, 16));

	if (j == NULL) {
		recorder_is_told(s, &none, 0, NULL, 0);
		return;
	}
	j->ended = *m;
	j->is_unnamed = is_unnamed;
	j->done = recorder_is_told;
	sp_files_ask(s, j, true);
}

/* --------------------------------------------------------------------- viewers */

static void
view(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds, size_t n)
{
	struct sp_kid *k;
	enum sp_err e;

	if (err_no != 0 || n != 1) {
		refuse(s, j, err_no, err_no == ENOENT ? "the recording is missing" :
		    reason(err_no));
		return;
	}
	if ((k = sp_kid_new(s, SP_KID_PLAYER, j->ids)) == NULL) {
		refuse(s, j, EAGAIN, "too many viewers");
		return;
	}
	k->corr = j->corr;
	k->ref = j->ref;
	e = sp_kid_spawn(s, k, fds[0], -1);
	fds[0] = -1;
	if (e != SP_OK)
		refuse(s, j, EAGAIN, e == SP_ERR_EOF ? "the vault is away" :
		    sp_err_text(e));
}

static enum sp_err
on_play_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_file_job j = {.op = SP_FILE_READ, .n_ids = 16,
	    .corr = p->corr, .done = view};
	struct sp_msg_play_spawn m;

	SP_TRY(sp_dec_play_spawn(p->body, &m));
	memcpy(j.ids, m.session, 16);
	j.ref = m.play;
	ask(s, p, &j);
	return SP_OK;
}

static void
batch(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds, size_t n)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_search_opened r = {.play = j->ref,
	    .n = (uint8_t)(j->n_ids / 16),
	    .sessions = sp_span_of(j->ids, j->n_ids)};
	struct sp_failure f = {.corr = j->corr, .id = j->ref,
	    .err_no = err_no, .text = reason(err_no)};
	int own[SP_SEARCH_BATCH];

	if (err_no != 0 || n != SP_SEARCH_BATCH) {
		sp_reply_failure(s, &f);
		return;
	}
	if (b == NULL)
		return;
	memcpy(own, fds, sizeof(own));
	for (size_t i = 0; i < n; i++)
		fds[i] = -1;
	sp_proc_sent(s, b, sp_send_search_opened(&b->link, j->corr, &r, own));
}

static enum sp_err
on_search_open(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_file_job j = {.op = SP_FILE_READ_MANY, .corr = p->corr,
	    .done = batch};
	struct sp_msg_search_open m;

	SP_TRY(sp_dec_search_open(p->body, &m));
	if (m.sessions.n == 0 || m.sessions.n % 16 != 0)
		return SP_ERR_PROTO;
	memcpy(j.ids, m.sessions.p, m.sessions.n);
	j.n_ids = m.sessions.n;
	j.ref = m.play;
	ask(s, p, &j);
	return SP_OK;
}

enum sp_err
sp_recording_packet(struct sp_sup *s, struct sp_packet *p)
{
	switch (p->type) {
	case SP_MSG_session_spawn:
		return on_session_spawn(s, p);
	case SP_MSG_recover:
		return on_recover(s, p);
	case SP_MSG_play_spawn:
		return on_play_spawn(s, p);
	case SP_MSG_search_open:
		return on_search_open(s, p);
	default:
		return SP_ERR_PROTO;
	}
}
