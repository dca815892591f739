/* SPDX-License-Identifier: Apache-2.0 */
/* The stream to the user: replies, and answers of our own between them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/sftp_int.h"

/* ------------------------------------------------------------ our answers */

enum sp_err
sftp_flush(struct sp_sftp *x)
{
	while (x->t_left == 0 && x->answers.len > 0) {
		struct sp_span all = sp_buf_span(&x->answers), p = all;
		uint32_t len = 0;

		SP_TRY(sp_get_ssh_u32(&p, &len));
		if (x->out->room(x->out->arg, false) < 4 + (size_t)len)
			return SP_OK;
		SP_TRY(x->out->say(x->out->arg, false,
		    sp_span_of(all.p, 4 + (size_t)len)));
		sp_buf_consume(&x->answers, 4 + (size_t)len);
	}
	return SP_OK;
}

enum sp_err
sftp_answer(struct sp_sftp *x, uint32_t id, uint32_t code, const char *text)
{
	struct sp_span t = sp_span_str(text);
	struct sp_buf *b = &x->answers;

	if (t.n > SFTP_ANSWER_MAX - 64)
		t.n = SFTP_ANSWER_MAX - 64;
	SP_TRY(sp_buf_put_ssh_u32(b, (uint32_t)(1 + 4 + 4 + 4 + t.n + 4)));
	SP_TRY(sp_buf_put_u8(b, FXP_STATUS));
	SP_TRY(sp_buf_put_ssh_u32(b, id));
	SP_TRY(sp_buf_put_ssh_u32(b, code));
	SP_TRY(sp_buf_put_ssh_string(b, t));
	SP_TRY(sp_buf_put_ssh_string(b, (struct sp_span){0}));
	return sftp_flush(x);
}

/* ---------------------------------------------------------------- replies */

static void
used(struct sp_sftp *x, struct sp_span *s, struct sp_span view)
{
	if (x->rep.len > 0)
		sp_buf_reset(&x->rep);
	else
		*s = sp_span_of(s->p + view.n, s->n - view.n);
}

/* The view goes on, and so does what is left of its packet. */
static enum sp_err
pass_on(struct sp_sftp *x, struct sp_span *s, struct sp_span view, uint32_t len)
{
	SP_TRY(x->out->pass(x->out->arg, false, view, NULL));
	x->t_state = T_REST;
	x->t_left = (uint32_t)(4 + (size_t)len - view.n);
	used(x, s, view);
	return sftp_flush(x);
}

static enum sp_err
note_done(struct sp_sftp *x, const struct sftp_pend *p, uint32_t result,
    uint32_t file)
{
	const struct sftp_ask *k = p->ask;
	struct sp_xfer_note n = {.op = p->shape->op, .result = result,
	    .file = file, .dir = SP_XFER_DIR(SP_RIGHT_UPLOAD)};

	if (p->shape->op == SP_XFER_OTHER || k == NULL)
		return SP_OK;
	n.path = sp_span_of(k->bytes, k->n_path);
	n.path2 = sp_span_of(k->bytes + k->n_path, k->n_path2);
	n.text = sp_span_str(k->text);
	if (p->shape->op == SP_XFER_OPEN)
		n.dir = (uint8_t)(((k->pflags & (FXF_ALL & ~FXF_READ)) != 0) |
		    ((k->pflags & FXF_READ) != 0 ? 2 : 0));
	else if (p->shape->op == SP_XFER_LIST)
		n.dir = 0;
	if (p->file != NULL) {
		n.file = p->file->num;
		n.path = sp_span_of(p->file->path, p->file->n_path);
	}
	return x->out->note(x->out->arg, &n);
}

static enum sp_err
on_status(struct sp_sftp *x, const struct sftp_pend *p, uint32_t code)
{
	struct sftp_file *f = p->file;

	switch (p->shape->way) {
	case WAY_READ:
		if (code == SP_XFER_EOF)
			f->saw_end |= f->n_down == 0 && p->off == f->down.next;
		else if (f->result == SP_XFER_DONE)
			f->result = code;
		return SP_OK;
	case WAY_WRITE:
		if (f->result == SP_XFER_DONE)
			f->result = code;
		return SP_OK;
	case WAY_CLOSE:
		SP_TRY(sftp_close_notes(x, f, code));
		sftp_unref(x, f);
		return SP_OK;
	default:
		if (code == SP_XFER_DONE && f != NULL && p->ask->has_size)
			f->set_size = p->ask->size;
		return note_done(x, p, code, 0);
	}
}

static enum sp_err
on_handle(struct sp_sftp *x, const struct sftp_pend *p, struct sp_span handle)
{
	uint32_t fl = p->ask->pflags;
	struct sftp_file *f;

	if (sftp_by_handle(x, handle) != NULL)
		return sftp_fault(x, "the target gave one handle to two files");
	f = sftp_file_new(x, sp_span_of(p->ask->bytes, p->ask->n_path), handle);
	if (f == NULL)
		return SP_ERR_NOMEM;
	f->is_dir = p->shape->type == FXP_OPENDIR;
	f->may_read = (fl & FXF_READ) != 0;
	f->may_write = (fl & (FXF_WRITE | FXF_APPEND)) != 0;
	f->is_append = (fl & FXF_APPEND) != 0;
	f->is_fresh = (fl & FXF_TRUNC) != 0 ||
	    (fl & (FXF_CREAT | FXF_EXCL)) == (FXF_CREAT | FXF_EXCL);
	return note_done(x, p, SP_XFER_DONE, f->num);
}

/* The name in the first entry of a NAME reply, its header cut off. */
static enum sp_err
first_name(struct sp_span s, struct sp_span *name)
{
	uint32_t n = 0;

	SP_TRY(sp_get_ssh_u32(&s, &n));
	return n == 0 ? SP_ERR_PROTO :
	    sp_get_ssh_string(&s, SP_XFER_PATH_MAX, name);
}

static void
learn_cwd(struct sp_sftp *x, struct sp_span body)
{
	struct sp_span name = {0};

	if (x->cwd.len == 0 && first_name(body, &name) == SP_OK &&
	    sp_xfer_abs(&x->cwd, (struct sp_span){0}, name) != SP_OK)
		x->cwd.off = x->cwd.len = 0;
}

/* The reply to a REALPATH of our own: nobody else hears of it. */
static enum sp_err
own_reply(struct sp_sftp *x, struct sp_span *s, struct sp_span view,
    uint8_t type, uint32_t id)
{
	struct sp_span body = sp_span_of(view.p + 9, view.n - 9), name = {0};
	struct sftp_check *k = &x->check;

	sftp_remove(x, id);
	if (k->state == CHECK_ASKED && k->id == id) {
		struct sp_buf *got = &k->got[k->i];

		k->state = CHECK_DONE;
		k->failed = type != FXP_NAME || first_name(body, &name) != SP_OK ||
		    sp_xfer_abs(got, (struct sp_span){0}, name) != SP_OK;
	} else {
		x->cwd_asked = false;
		if (type == FXP_NAME)
			learn_cwd(x, body);
	}
	SP_TRY(x->out->drop(x->out->arg, false, view.n));
	used(x, s, view);
	return SP_OK;
}

static enum sp_err
stop_reading(struct sp_sftp *x, struct sftp_file *f, uint32_t n, uint64_t off)
{
	struct sp_xfer_note note = {.op = SP_XFER_READ, .file = f->num,
	    .dir = SP_XFER_DIR(SP_RIGHT_DOWNLOAD), .result = SP_XFER_REFUSED,
	    .offset = off, .bytes = n, .text = sp_span_str(x->t_text),
	    .path = sp_span_of(f->path, f->n_path)};

	x->t_state = T_DROP;
	f->is_stopped = true;
	f->result = SP_XFER_REFUSED;
	if (f->was_refused)
		return SP_OK;
	f->was_refused = true;
	return x->out->note(x->out->arg, &note);
}

static enum sp_err
on_data(struct sp_sftp *x, struct sp_span *s, struct sp_span view,
    const struct sftp_pend *p, uint32_t len)
{
	struct sp_span b = sp_span_of(view.p + 9, 4);
	struct sftp_file *f = p->file;
	uint32_t n = 0;

	SP_TRY(sp_get_ssh_u32(&b, &n));
	if (len < 9 || n != len - 9 || n > p->len)
		return sftp_fault(x, "the target sent other data than was asked "
		    "for");
	x->t_off = p->off;
	x->t_id = p->id;
	x->t_left = n;
	x->t_state = T_BODY;
	x->t_file = f;
	f->refs++;
	if (f->is_stopped || !sp_xfer_within(x->s, p->off + n, n, x->t_text,
	    sizeof(x->t_text))) {
		SP_TRY(stop_reading(x, f, n, p->off));
		SP_TRY(x->out->drop(x->out->arg, false, view.n));
	} else {
		x->s->bytes += n;
		SP_TRY(x->out->pass(x->out->arg, false, view, NULL));
	}
	used(x, s, view);
	return SP_OK;
}

/* ---------------------------------------------------------------- framing */

static enum sp_err
content_over(struct sp_sftp *x)
{
	struct sftp_file *f = x->t_file;

	x->t_file = NULL;
	if (f == NULL)
		return sftp_flush(x);
	sftp_unref(x, f);
	return x->t_state == T_DROP ? sftp_answer(x, x->t_id, SP_XFER_DENIED,
	    x->t_text[0] == '\0' ? "the transfer was stopped" : x->t_text) :
	    sftp_flush(x);
}

static enum sp_err
target_content(struct sp_sftp *x, struct sp_span *s)
{
	size_t n = x->t_left < s->n ? x->t_left : s->n;
	struct sp_span now = sp_span_of(s->p, n);
	struct sp_xfer_at at = {x->t_file == NULL ? 0 : x->t_file->num, x->t_off};

	if (n == 0 && x->t_left > 0)
		return SP_ERR_AGAIN;
	if (n > 0 && x->t_state == T_DROP) {
		SP_TRY(x->out->drop(x->out->arg, false, n));
	} else if (n > 0) {
		if (x->t_state == T_BODY)
			SP_TRY(sftp_content(x, x->t_file, false, x->t_off, now));
		SP_TRY(x->out->pass(x->out->arg, false, now,
		    x->t_state == T_BODY ? &at : NULL));
	}
	*s = sp_span_of(s->p + n, s->n - n);
	x->t_off += n;
	x->t_left -= (uint32_t)n;
	return x->t_left > 0 ? SP_OK : content_over(x);
}

static enum sp_err
target_version(struct sp_sftp *x, struct sp_span *s, uint32_t len, uint8_t type)
{
	struct sp_span view, p;
	uint32_t version = 0, id;
	enum sp_err e;

	if (!x->is_begun || type != FXP_VERSION || len < 5 ||
	    len > SFTP_WHOLE_MAX)
		return sftp_fault(x, "the target does not begin as sftp does");
	SP_TRY(sp_xfer_peek(&x->rep, s, 4 + (size_t)len, &view));
	p = sp_span_of(view.p + 5, 4);
	SP_TRY(sp_get_ssh_u32(&p, &version));
	if (version != SFTP_VERSION)
		return sftp_fault(x, "the target speaks version %u of sftp; "
		    "version 3 is needed", version);
	x->is_ready = true;
	SP_TRY(x->out->pass(x->out->arg, false, view, NULL));
	used(x, s, view);
	e = sftp_ask_realpath(x, sp_span_str("."), &id);
	x->cwd_asked = e == SP_OK;
	return e == SP_ERR_AGAIN || e == SP_ERR_FULL ? SP_OK : e;
}

/* As much of a packet as must be seen before any of it goes on. */
static enum sp_err
target_view(struct sp_sftp *x, struct sp_span *s, const struct sftp_pend *p,
    uint8_t type, uint32_t len, struct sp_span *view)
{
	bool whole = p->is_own || type == FXP_HANDLE ||
	    (type == FXP_NAME && p->ask != NULL && p->ask->is_dot &&
	    len <= SFTP_WHOLE_MAX);
	size_t least = type == FXP_STATUS || type == FXP_DATA ? 13 : 9;

	if ((whole && len > SFTP_WHOLE_MAX) || 4 + (size_t)len < least)
		return sftp_fault(x, "the target sent a reply of %u bytes", len);
	return sp_xfer_peek(&x->rep, s, whole ? 4 + (size_t)len : least, view);
}

static enum sp_err
handle_of(struct sp_sftp *x, struct sp_span view, struct sp_span *handle)
{
	struct sp_span b = sp_span_of(view.p + 9, view.n - 9);

	if (sp_get_ssh_string(&b, SFTP_HANDLE_MAX, handle) != SP_OK || b.n != 0 ||
	    handle->n == 0)
		return sftp_fault(x, "the target sent a broken handle");
	return SP_OK;
}

static enum sp_err
target_reply(struct sp_sftp *x, struct sp_span *s, struct sp_span view,
    struct sftp_pend *p, uint8_t type, uint32_t len)
{
	struct sp_span body = sp_span_of(view.p + 9, view.n - 9), handle = {0};
	uint32_t code = 0;

	if (type == FXP_DATA)
		return on_data(x, s, view, p, len);
	if (type == FXP_STATUS) {
		SP_TRY(sp_get_ssh_u32(&body, &code));
		SP_TRY(on_status(x, p, code));
	} else if (type == FXP_HANDLE) {
		SP_TRY(handle_of(x, view, &handle));
		SP_TRY(on_handle(x, p, handle));
	} else if (type == FXP_NAME && p->ask != NULL && p->ask->is_dot) {
		learn_cwd(x, body);
	}
	return pass_on(x, s, view, len);
}

enum sp_err
sftp_from_target(struct sp_sftp *x, struct sp_span *s)
{
	struct sp_span view, b;
	struct sftp_pend *found, p;
	uint32_t len = 0, id = 0;
	enum sp_err e;
	uint8_t type;

	if (x->t_left > 0 || x->t_file != NULL)
		return target_content(x, s);
	SP_TRY(sp_xfer_peek(&x->rep, s, 5, &view));
	b = view;
	SP_TRY(sp_get_ssh_u32(&b, &len));
	type = view.p[4];
	if (!x->is_ready)
		return target_version(x, s, len, type);
	if (len < 5 || len > SFTP_PACKET_MAX)
		return sftp_fault(x, "the target sent a reply of %u bytes", len);
	SP_TRY(sp_xfer_peek(&x->rep, s, 9, &view));
	b = sp_span_of(view.p + 5, 4);
	SP_TRY(sp_get_ssh_u32(&b, &id));
	if ((found = sftp_find(x, id)) == NULL)
		return sftp_fault(x, "the target replied to what was not asked");
	p = *found;
	if (type != FXP_STATUS && type != p.shape->reply)
		return sftp_fault(x, "the target sent a reply of the wrong type "
		    "(%u)", type);
	SP_TRY(target_view(x, s, &p, type, len, &view));
	if (p.is_own)
		return own_reply(x, s, view, type, id);
	sftp_remove(x, id);
	e = target_reply(x, s, view, &p, type, len);
	sftp_forget(x, &p);
	return e;
}
