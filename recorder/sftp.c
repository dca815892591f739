/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/sftp.h"

#include <stdlib.h>

#include "recorder/sftp_int.h"

struct sp_sftp *
sp_sftp_new(const struct sp_xfer_out *out, struct sp_xfer_session *session)
{
	struct sp_sftp *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->out = out;
	x->s = session;
	x->own_id = UINT32_MAX - 15;
	sp_buf_init(&x->cwd, SP_XFER_PATH_MAX * 2);
	sp_buf_init(&x->abs, SP_XFER_PATH_MAX * 2 + 2);
	sp_buf_init(&x->abs2, SP_XFER_PATH_MAX * 2 + 2);
	sp_buf_init(&x->scratch, SP_XFER_PATH_MAX * 2 + 2);
	sp_buf_init(&x->check.got[0], SP_XFER_PATH_MAX * 2 + 2);
	sp_buf_init(&x->check.got[1], SP_XFER_PATH_MAX * 2 + 2);
	sp_buf_init(&x->req, SFTP_WHOLE_MAX + 4);
	sp_buf_init(&x->rep, SFTP_WHOLE_MAX + 4);
	sp_buf_init(&x->answers, SFTP_ANSWERS_MAX);
	return x;
}

void
sp_sftp_free(struct sp_sftp *x)
{
	if (x == NULL)
		return;
	for (size_t i = 0; i < x->cap_pend; i++)
		free(x->pend[i].ask);
	free(x->pend);
	while (x->files != NULL) {
		x->files->refs = 1;
		sftp_unref(x, x->files);
	}
	sp_buf_fini(&x->cwd);
	sp_buf_fini(&x->abs);
	sp_buf_fini(&x->abs2);
	sp_buf_fini(&x->scratch);
	sp_buf_fini(&x->check.got[0]);
	sp_buf_fini(&x->check.got[1]);
	sp_buf_fini(&x->req);
	sp_buf_fini(&x->rep);
	sp_buf_fini(&x->answers);
	free(x);
}

enum sp_err
sp_sftp_take(struct sp_sftp *x, bool from_user, struct sp_span *s)
{
	enum sp_err e;

	if (from_user)
		x->is_stalled = false;
	do
		e = from_user ? sftp_from_user(x, s) : sftp_from_target(x, s);
	while (e == SP_OK);
	if (e != SP_ERR_AGAIN)
		return e;
	return from_user && x->is_stalled ? SP_ERR_AGAIN : SP_OK;
}

enum sp_err
sp_sftp_poke(struct sp_sftp *x)
{
	return sftp_flush(x);
}

static enum sp_err
note_cut(struct sp_sftp *x, const struct sftp_pend *p)
{
	struct sp_xfer_note n = {.result = SP_XFER_CUT,
	    .dir = SP_XFER_DIR(SP_RIGHT_UPLOAD)};

	if (!p->is_used || p->ask == NULL || p->shape->op == SP_XFER_OTHER ||
	    p->shape->op == SP_XFER_LIST || p->shape->op == SP_XFER_OPEN)
		return SP_OK;
	n.op = p->shape->op;
	n.path = sp_span_of(p->ask->bytes, p->ask->n_path);
	n.path2 = sp_span_of(p->ask->bytes + p->ask->n_path, p->ask->n_path2);
	n.text = sp_span_str(p->ask->text);
	return x->out->note(x->out->arg, &n);
}

enum sp_err
sp_sftp_end(struct sp_sftp *x)
{
	for (size_t i = 0; i < x->cap_pend; i++)
		SP_TRY(note_cut(x, &x->pend[i]));
	for (struct sftp_file *f = x->files; f != NULL; f = f->next)
		SP_TRY(sftp_close_notes(x, f, SP_XFER_CUT));
	return SP_OK;
}

const char *
sp_sftp_why(const struct sp_sftp *x)
{
	return x->why;
}
