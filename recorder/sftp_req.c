/* SPDX-License-Identifier: Apache-2.0 */
/* The stream from the user: requests. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/sftp_int.h"

static const struct sftp_shape shapes[] = {
    {FXP_OPEN, FXP_HANDLE, SP_XFER_OPEN, WAY_OPEN, "pfa", NULL},
    {FXP_CLOSE, 0, SP_XFER_CLOSE, WAY_CLOSE, "h", NULL},
    {FXP_READ, FXP_DATA, SP_XFER_READ, WAY_READ, "hol", NULL},
    {FXP_WRITE, 0, SP_XFER_WRITE, WAY_WRITE, "hol", NULL},
    {FXP_LSTAT, FXP_ATTRS, SP_XFER_OTHER, WAY_LOOK, "p", NULL},
    {FXP_FSTAT, FXP_ATTRS, SP_XFER_OTHER, WAY_HANDLE, "h", NULL},
    {FXP_SETSTAT, 0, SP_XFER_SETSTAT, WAY_FOLLOW, "pa", NULL},
    {FXP_FSETSTAT, 0, SP_XFER_SETSTAT, WAY_FD_CHANGE, "ha", NULL},
    {FXP_OPENDIR, FXP_HANDLE, SP_XFER_LIST, WAY_LOOK, "p", NULL},
    {FXP_READDIR, FXP_NAME, SP_XFER_OTHER, WAY_DIR, "h", NULL},
    {FXP_REMOVE, 0, SP_XFER_REMOVE, WAY_NAME, "p", NULL},
    {FXP_MKDIR, 0, SP_XFER_MKDIR, WAY_NAME, "pa", NULL},
    {FXP_RMDIR, 0, SP_XFER_RMDIR, WAY_NAME, "p", NULL},
    {FXP_REALPATH, FXP_NAME, SP_XFER_OTHER, WAY_LOOK, "p", NULL},
    {FXP_STAT, FXP_ATTRS, SP_XFER_OTHER, WAY_LOOK, "p", NULL},
    {FXP_RENAME, 0, SP_XFER_RENAME, WAY_TWO, "pq", NULL},
    {FXP_READLINK, FXP_NAME, SP_XFER_OTHER, WAY_LOOK, "p", NULL},
    {FXP_SYMLINK, 0, SP_XFER_SYMLINK, WAY_LINK, "pq", NULL},
    {FXP_EXTENDED, 0, SP_XFER_RENAME, WAY_TWO, "pq",
	"posix-rename@openssh.com"},
    {FXP_EXTENDED, FXP_EXTENDED_REPLY, SP_XFER_OTHER, WAY_LOOK, "p",
	"statvfs@openssh.com"},
    {FXP_EXTENDED, FXP_EXTENDED_REPLY, SP_XFER_OTHER, WAY_HANDLE, "h",
	"fstatvfs@openssh.com"},
    {FXP_EXTENDED, 0, SP_XFER_HARDLINK, WAY_TWO, "pq",
	"hardlink@openssh.com"},
    {FXP_EXTENDED, 0, SP_XFER_OTHER, WAY_FD_CHANGE, "h",
	"fsync@openssh.com"},
    {FXP_EXTENDED, 0, SP_XFER_SETSTAT, WAY_NAME, "pa",
	"lsetstat@openssh.com"},
    {FXP_EXTENDED, FXP_EXTENDED_REPLY, SP_XFER_OTHER, WAY_LOOK, "",
	"limits@openssh.com"},
    {FXP_EXTENDED, FXP_NAME, SP_XFER_OTHER, WAY_LOOK, "p",
	"expand-path@openssh.com"},
    {FXP_EXTENDED, 0, SP_XFER_COPY, WAY_COPY, "hoLgO", "copy-data"},
    {FXP_EXTENDED, FXP_NAME, SP_XFER_OTHER, WAY_LOOK, "s",
	"home-directory"},
    {FXP_EXTENDED, FXP_EXTENDED_REPLY, SP_XFER_OTHER, WAY_LOOK, "ss",
	"users-groups-by-id@openssh.com"},
};

enum sp_err
sftp_fault(struct sp_sftp *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->why, sizeof(x->why), fmt, ap);
	va_end(ap);
	return SP_ERR_PROTO;
}

/* ---------------------------------------------------------------- parsing */

static const struct sftp_shape *
shape_of(uint8_t type, struct sp_span ext)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].type == type && (type != FXP_EXTENDED ||
		    sp_span_is(ext, shapes[i].ext)))
			return &shapes[i];
	return NULL;
}

static enum sp_err
get_attrs(struct sp_span *s, struct sftp_attrs *a)
{
	uint32_t n = 0, skip;
	struct sp_span text;

	SP_TRY(sp_get_ssh_u32(s, &a->flags));
	if ((a->flags & ~0x8000000fu) != 0)
		return SP_ERR_PROTO;
	if ((a->flags & 1) != 0)
		SP_TRY(sp_get_ssh_u64(s, &a->size));
	if ((a->flags & 2) != 0) {
		SP_TRY(sp_get_ssh_u32(s, &a->uid));
		SP_TRY(sp_get_ssh_u32(s, &a->gid));
	}
	if ((a->flags & 4) != 0)
		SP_TRY(sp_get_ssh_u32(s, &a->perm));
	if ((a->flags & 8) != 0) {
		SP_TRY(sp_get_ssh_u32(s, &skip));
		SP_TRY(sp_get_ssh_u32(s, &skip));
	}
	if ((a->flags & 0x80000000u) != 0)
		SP_TRY(sp_get_ssh_u32(s, &n));
	for (uint32_t i = 0; i < n; i++) {
		SP_TRY(sp_get_ssh_string(s, SFTP_WHOLE_MAX, &text));
		SP_TRY(sp_get_ssh_string(s, SFTP_WHOLE_MAX, &text));
	}
	return SP_OK;
}

static enum sp_err
get_field(struct sp_span *s, char c, struct sftp_req *r)
{
	struct sp_span text;
	uint32_t n = 0;

	switch (c) {
	case 'p':
		return sp_get_ssh_string(s, SFTP_WHOLE_MAX, &r->path);
	case 'q':
		return sp_get_ssh_string(s, SFTP_WHOLE_MAX, &r->path2);
	case 's':
		return sp_get_ssh_string(s, SFTP_WHOLE_MAX, &text);
	case 'h':
		return sp_get_ssh_string(s, SFTP_HANDLE_MAX, &r->handle);
	case 'g':
		return sp_get_ssh_string(s, SFTP_HANDLE_MAX, &r->handle2);
	case 'o':
		return sp_get_ssh_u64(s, &r->off);
	case 'O':
		return sp_get_ssh_u64(s, &r->off2);
	case 'L':
		return sp_get_ssh_u64(s, &r->len);
	case 'l':
		SP_TRY(sp_get_ssh_u32(s, &n));
		r->len = n;
		return SP_OK;
	case 'f':
		return sp_get_ssh_u32(s, &r->pflags);
	default:
		return get_attrs(s, &r->attrs);
	}
}

/* SP_ERR_UNSUPPORTED: nothing that is known here. */
static enum sp_err
parse(struct sp_span s, uint8_t type, struct sftp_req *r)
{
	struct sp_span ext = {0};

	*r = (struct sftp_req){0};
	SP_TRY(sp_get_ssh_u32(&s, &r->id));
	if (type == FXP_EXTENDED)
		SP_TRY(sp_get_ssh_string(&s, SFTP_WHOLE_MAX, &ext));
	if ((r->shape = shape_of(type, ext)) == NULL)
		return SP_ERR_UNSUPPORTED;
	for (const char *f = r->shape->fields; *f != '\0'; f++)
		SP_TRY(get_field(&s, *f, r));
	return s.n == 0 ? SP_OK : SP_ERR_PROTO;
}

/* ------------------------------------------------------------- what happens */

static void
used(struct sp_sftp *x, struct sp_span *s, struct sp_span view)
{
	if (x->req.len > 0)
		sp_buf_reset(&x->req);
	else
		*s = sp_span_of(s->p + view.n, s->n - view.n);
}

static void
forget_check(struct sp_sftp *x)
{
	x->check.state = CHECK_NONE;
	x->check.i = 0;
	x->check.failed = false;
	sp_buf_reset(&x->check.got[0]);
	sp_buf_reset(&x->check.got[1]);
}

static uint8_t
dir_of(const struct sftp_req *r)
{
	switch (r->shape->way) {
	case WAY_OPEN:
		return (uint8_t)(((r->pflags & (FXF_ALL & ~FXF_READ)) != 0 ? 1 : 0) |
		    ((r->pflags & FXF_READ) != 0 ? 2 : 0));
	case WAY_READ:
		return 2;
	case WAY_LOOK:
	case WAY_DIR:
	case WAY_HANDLE:
		return 0;
	default:
		return 1;
	}
}

static struct sp_span
named(const struct sp_buf *abs, struct sp_span said)
{
	if (abs->len > 0)
		return sp_buf_span(abs);
	if (said.n > SP_XFER_PATH_MAX)
		said.n = SP_XFER_PATH_MAX;
	return said;
}

/* One note of what was refused; of the reads and writes of a file only the
 * first. */
static enum sp_err
note_refused(struct sp_sftp *x, const struct sftp_req *r)
{
	struct sp_xfer_note n = {.op = SP_XFER_OTHER, .result = SP_XFER_REFUSED,
	    .text = sp_span_str(x->no_text), .path = named(&x->abs, r->path),
	    .path2 = named(&x->abs2, r->path2)};

	if (r->shape != NULL) {
		n.op = r->shape->op;
		n.dir = dir_of(r);
	}
	n.offset = r->off;
	n.bytes = r->len;
	if (r->file != NULL) {
		if (r->file->was_refused)
			return SP_OK;
		r->file->was_refused = true;
		n.file = r->file->num;
		n.path = sp_span_of(r->file->path, r->file->n_path);
	}
	return x->out->note(x->out->arg, &n);
}

static enum sp_err
refuse(struct sp_sftp *x, struct sp_span *s, struct sp_span view,
    const struct sftp_req *r, uint32_t content)
{
	SP_TRY(note_refused(x, r));
	SP_TRY(x->out->drop(x->out->arg, true, view.n));
	x->u_id = r->id;
	used(x, s, view);
	forget_check(x);
	if (content == 0)
		return sftp_answer(x, x->u_id, x->no_code, x->no_text);
	x->u_left = content;
	x->u_file = NULL;
	return SP_OK;
}

static void
describe(struct sftp_ask *k, const struct sftp_req *r)
{
	static const char *const names[] = {"read", "write", "append", "create",
	    "truncate", "exclusive"};
	const struct sftp_attrs *a = &r->attrs;
	size_t at = 0;

	if (r->shape->way == WAY_OPEN) {
		for (size_t i = 0; i < 6; i++)
			if ((r->pflags >> i & 1) != 0)
				at += (size_t)snprintf(k->text + at,
				    sizeof(k->text) - at, "%s%s",
				    at == 0 ? "" : ",", names[i]);
		return;
	}
	if (r->shape->op != SP_XFER_SETSTAT && r->shape->op != SP_XFER_MKDIR)
		return;
	if ((a->flags & 1) != 0)
		at += (size_t)snprintf(k->text + at, sizeof(k->text) - at,
		    " size=%llu", (unsigned long long)a->size);
	if ((a->flags & 2) != 0)
		at += (size_t)snprintf(k->text + at, sizeof(k->text) - at,
		    " owner=%u:%u", a->uid, a->gid);
	if ((a->flags & 4) != 0)
		at += (size_t)snprintf(k->text + at, sizeof(k->text) - at,
		    " mode=%04o", a->perm & 07777);
	if ((a->flags & 8) != 0)
		snprintf(k->text + at, sizeof(k->text) - at, " times");
	memmove(k->text, k->text + (k->text[0] == ' '), strlen(k->text) +
	    (k->text[0] != ' '));
}

static enum sp_err
remember(struct sp_sftp *x, const struct sftp_req *r)
{
	struct sftp_pend p = {.id = r->id, .shape = r->shape, .off = r->off,
	    .len = r->len > UINT32_MAX ? UINT32_MAX : (uint32_t)r->len,
	    .file = r->shape->way == WAY_COPY ? r->file2 : r->file};
	enum sp_err e;

	if (r->shape->way != WAY_READ && r->shape->way != WAY_WRITE &&
	    r->shape->way != WAY_CLOSE) {
		if ((p.ask = sftp_ask_new(x, r)) == NULL)
			return SP_ERR_NOMEM;
		p.ask->pflags = r->pflags;
		p.ask->has_size = (r->attrs.flags & 1) != 0;
		p.ask->size = r->attrs.size;
		p.ask->is_dot = r->shape->type == FXP_REALPATH &&
		    (r->path.n == 0 || sp_span_is(r->path, "."));
		describe(p.ask, r);
	}
	e = sftp_add(x, &p);
	if (e != SP_OK) {
		p.file = NULL;
		sftp_forget(x, &p);
	}
	return e;
}

static enum sp_err
let_pass(struct sp_sftp *x, struct sp_span *s, struct sp_span view,
    const struct sftp_req *r, uint32_t content)
{
	SP_TRY(remember(x, r));
	if (r->shape->way == WAY_CLOSE)
		r->file->is_mapped = false;
	if (r->shape->way == WAY_WRITE) {
		x->s->bytes += content;
		x->u_left = content;
		x->u_off = r->off;
		x->u_file = content > 0 ? r->file : NULL;
		if (content > 0)
			r->file->refs++;
	}
	SP_TRY(x->out->pass(x->out->arg, true, view, NULL));
	used(x, s, view);
	forget_check(x);
	return SP_OK;
}

/* ------------------------------------------------------------------ framing */

static enum sp_err
user_content(struct sp_sftp *x, struct sp_span *s)
{
	size_t n = x->u_left < s->n ? x->u_left : s->n;
	struct sp_span now = sp_span_of(s->p, n);
	struct sp_xfer_at at = {.offset = x->u_off};

	if (n == 0)
		return SP_ERR_AGAIN;
	if (x->u_file != NULL) {
		SP_TRY(sftp_content(x, x->u_file, true, x->u_off, now));
		at.file = x->u_file->num;
		SP_TRY(x->out->pass(x->out->arg, true, now, &at));
	} else {
		SP_TRY(x->out->drop(x->out->arg, true, n));
	}
	*s = sp_span_of(s->p + n, s->n - n);
	x->u_off += n;
	x->u_left -= (uint32_t)n;
	if (x->u_left > 0)
		return SP_OK;
	if (x->u_file == NULL)
		return sftp_answer(x, x->u_id, x->no_code, x->no_text);
	sftp_unref(x, x->u_file);
	x->u_file = NULL;
	return SP_OK;
}

/* A client that speaks more than version 3 is answered as one that speaks 3:
 * no server then speaks what is not parsed here. */
static enum sp_err
user_init(struct sp_sftp *x, struct sp_span *s, uint32_t len, uint8_t type)
{
	static const uint8_t init3[] = {0, 0, 0, 5, FXP_INIT, 0, 0, 0, 3};
	struct sp_span view, p;
	uint32_t version = 0;

	if (type != FXP_INIT || len < 5 || len > SFTP_WHOLE_MAX)
		return sftp_fault(x, "the client does not begin as sftp does");
	SP_TRY(sp_xfer_peek(&x->req, s, 4 + (size_t)len, &view));
	p = sp_span_of(view.p + 5, 4);
	SP_TRY(sp_get_ssh_u32(&p, &version));
	if (version < SFTP_VERSION)
		return sftp_fault(x, "the client speaks version %u of sftp; "
		    "version 3 is needed", version);
	x->is_begun = true;
	if (version == SFTP_VERSION) {
		SP_TRY(x->out->pass(x->out->arg, true, view, NULL));
	} else {
		SP_TRY(x->out->drop(x->out->arg, true, view.n));
		SP_TRY(x->out->say(x->out->arg, true, sp_span_of(init3, 9)));
	}
	used(x, s, view);
	return SP_OK;
}

/* Of a WRITE all but its content, of all others the whole packet. */
static enum sp_err
user_view(struct sp_sftp *x, struct sp_span *s, uint32_t len, uint8_t type,
    struct sp_span *view, uint32_t *content)
{
	struct sp_span p;
	uint32_t n = 0, handle = 0;

	*content = 0;
	if (type != FXP_WRITE) {
		if (len > SFTP_WHOLE_MAX)
			return sftp_fault(x, "the client sent a request of %u "
			    "bytes", len);
		return sp_xfer_peek(&x->req, s, 4 + (size_t)len, view);
	}
	SP_TRY(sp_xfer_peek(&x->req, s, 13, view));
	p = sp_span_of(view->p + 9, 4);
	SP_TRY(sp_get_ssh_u32(&p, &handle));
	if (handle > SFTP_HANDLE_MAX || len < 1 + 4 + 4 + handle + 8 + 4)
		return sftp_fault(x, "the client sent a broken write");
	SP_TRY(sp_xfer_peek(&x->req, s, 13 + handle + 12, view));
	p = sp_span_of(view->p + 13 + handle + 8, 4);
	SP_TRY(sp_get_ssh_u32(&p, &n));
	if (n != len - (1 + 4 + 4 + handle + 8 + 4))
		return sftp_fault(x, "the client sent a write whose lengths do "
		    "not agree");
	*content = n;
	return SP_OK;
}

static enum sp_err
stall(struct sp_sftp *x)
{
	x->is_stalled = true;
	return SP_ERR_AGAIN;
}

static enum sp_err
user_request(struct sp_sftp *x, struct sp_span *s, uint32_t len, uint8_t type)
{
	enum sftp_verdict v = SFTP_FAULT;
	struct sp_span view;
	const struct sftp_pend *p;
	struct sftp_req r;
	uint32_t content;
	enum sp_err e;

	SP_TRY(user_view(x, s, len, type, &view, &content));
	if (!x->is_ready || x->n_pend >= SFTP_PENDING_MAX ||
	    (x->names >= SFTP_NAMES_MAX && x->n_pend > 0) ||
	    x->out->room(x->out->arg, false) < x->answers.len + SFTP_ANSWER_MAX)
		return stall(x);
	x->abs.off = x->abs.len = x->abs2.off = x->abs2.len = 0;
	e = parse(sp_span_of(view.p + 5, view.n - 5), type, &r);
	if ((p = sftp_find(x, r.id)) != NULL)
		return p->is_own ? stall(x) : sftp_fault(x,
		    "the client used the number %u for two requests", r.id);
	if (e == SP_ERR_UNSUPPORTED)
		v = sftp_no(x, SP_XFER_UNSUPPORTED, "an operation that is not "
		    "supported here");
	else if (e != SP_OK)
		v = sftp_no(x, SP_XFER_BAD_MESSAGE, "a broken request");
	else
		v = sftp_judge(x, &r);
	if (v == SFTP_STALL)
		return stall(x);
	return v == SFTP_PASS ? let_pass(x, s, view, &r, content) :
	    refuse(x, s, view, &r, content);
}

enum sp_err
sftp_from_user(struct sp_sftp *x, struct sp_span *s)
{
	struct sp_span view, p;
	uint32_t len = 0;
	uint8_t type;

	if (x->u_left > 0)
		return user_content(x, s);
	SP_TRY(sp_xfer_peek(&x->req, s, 5, &view));
	p = view;
	SP_TRY(sp_get_ssh_u32(&p, &len));
	type = view.p[4];
	if (!x->is_begun)
		return user_init(x, s, len, type);
	if (len < 5 || len > SFTP_PACKET_MAX)
		return sftp_fault(x, "the client sent a request of %u bytes", len);
	return user_request(x, s, len, type);
}
