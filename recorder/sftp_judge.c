/* SPDX-License-Identifier: Apache-2.0 */
/* May this request go on? doc/files.md, "What is judged how". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/sftp_int.h"

static const struct sftp_shape own_realpath = {FXP_REALPATH, FXP_NAME,
    SP_XFER_OTHER, WAY_LOOK, "p", NULL};

enum sftp_verdict
sftp_no(struct sp_sftp *x, uint32_t code, const char *fmt, ...)
{
	va_list ap;

	x->no_code = code;
	va_start(ap, fmt);
	vsnprintf(x->no_text, sizeof(x->no_text), fmt, ap);
	va_end(ap);
	return SFTP_REFUSE;
}

/* ------------------------------------------------------------ resolving */

enum sp_err
sftp_ask_realpath(struct sp_sftp *x, struct sp_span path, uint32_t *id)
{
	SP_BUF_AUTO b = {.max = SP_XFER_PATH_MAX * 2 + 64};
	struct sftp_pend p = {.is_own = true, .shape = &own_realpath};

	while (sftp_find(x, x->own_id) != NULL)
		x->own_id--;
	p.id = x->own_id--;
	SP_TRY(sp_buf_put_ssh_u32(&b, (uint32_t)(1 + 4 + 4 + path.n)));
	SP_TRY(sp_buf_put_u8(&b, FXP_REALPATH));
	SP_TRY(sp_buf_put_ssh_u32(&b, p.id));
	SP_TRY(sp_buf_put_ssh_string(&b, path));
	if (x->out->room(x->out->arg, true) < b.len)
		return SP_ERR_AGAIN;
	SP_TRY(sftp_add(x, &p));
	*id = p.id;
	return x->out->say(x->out->arg, true, sp_buf_span(&b));
}

/* Asks the target what this name leads to; or, if the name itself is changed,
 * what the directory that holds it leads to. */
static enum sftp_verdict
ask(struct sp_sftp *x, struct sp_span path, bool follow)
{
	enum sp_err e = sftp_ask_realpath(x, follow ? path :
	    sp_xfer_dirname(path), &x->check.id);

	if (e == SP_OK)
		x->check.state = CHECK_ASKED;
	else if (e != SP_ERR_AGAIN && e != SP_ERR_FULL)
		return sftp_no(x, SP_XFER_FAILURE, "%s", sp_err_text(e));
	return SFTP_STALL;
}

/* PASS: x->check.got[0 .. n) hold what the names really are. */
static enum sftp_verdict
resolve(struct sp_sftp *x, struct sp_span *paths, unsigned n, bool follow)
{
	struct sftp_check *k = &x->check;

	if (k->state == CHECK_ASKED)
		return SFTP_STALL;
	if (k->state == CHECK_DONE) {
		struct sp_span base = sp_xfer_basename(paths[k->i]);
		struct sp_buf *got = &k->got[k->i];

		k->state = CHECK_NONE;
		if (k->failed || got->len == 0 || got->p[got->off] != '/')
			return sftp_no(x, SP_XFER_NO_FILE, "where the path leads "
			    "cannot be found out, and there are rules on paths");
		if (!follow && base.n > 0 && ((got->len > 1 &&
		    sp_buf_put_u8(got, '/') != SP_OK) ||
		    sp_buf_put(got, base.p, base.n) != SP_OK))
			return sftp_no(x, SP_XFER_FAILURE, "the path is too long");
		k->i++;
	}
	return k->i < n ? ask(x, paths[k->i], follow) : SFTP_PASS;
}

/* ---------------------------------------------------------------- paths */

static enum sftp_verdict
may(struct sp_sftp *x, uint32_t ops, struct sp_span path)
{
	char why[200];

	for (uint32_t op = SP_RIGHT_UPLOAD; op <= SP_RIGHT_DOWNLOAD; op <<= 1) {
		why[0] = '\0';
		if ((ops & op) != 0 && !sp_rules_path(x->s->rules, op, path, why,
		    sizeof(why)))
			return sftp_no(x, SP_XFER_DENIED, "%s", why);
	}
	return SFTP_PASS;
}

/* The name as said, made absolute. Relative to what is not yet known waits. */
static enum sftp_verdict
absolute(struct sp_sftp *x, struct sp_buf *out, struct sp_span path,
    bool matters)
{
	enum sp_err e = sp_xfer_abs(out, sp_buf_span(&x->cwd), path);

	if (e == SP_OK)
		return SFTP_PASS;
	out->off = out->len = 0;
	if (e == SP_ERR_TOOBIG || (path.n > 0 && memchr(path.p, 0, path.n)))
		return sftp_no(x, SP_XFER_BAD_MESSAGE, "not a path");
	return matters && x->cwd_asked ? SFTP_STALL : SFTP_PASS;
}

static enum sftp_verdict
both_names(struct sp_sftp *x, const struct sftp_req *r, bool matters)
{
	enum sftp_verdict v = absolute(x, &x->abs, r->path, matters);

	x->abs2.off = x->abs2.len = 0;
	if (v == SFTP_PASS && (r->shape->way == WAY_TWO ||
	    r->shape->way == WAY_LINK))
		v = absolute(x, &x->abs2, r->path2, matters);
	return v;
}

/* As said, and then, where patterns decide, as it really is. */
static enum sftp_verdict
one_name(struct sp_sftp *x, uint32_t ops, bool follow)
{
	struct sp_span path = sp_buf_span(&x->abs);
	enum sftp_verdict v = may(x, ops, path);

	if (v != SFTP_PASS || !sp_xfer_has_patterns(x->s->rules, ops))
		return v;
	v = resolve(x, &path, 1, follow);
	return v == SFTP_PASS ? may(x, ops, sp_buf_span(&x->check.got[0])) : v;
}

/* What is moved or linked must not become readable by its new name. */
static enum sftp_verdict
no_wider(struct sp_sftp *x, struct sp_span from, struct sp_span to)
{
	char why[200];

	if (!sp_rules_path(x->s->rules, SP_RIGHT_DOWNLOAD, to, why, sizeof(why)))
		return SFTP_PASS;
	return may(x, SP_RIGHT_DOWNLOAD, from);
}

static enum sftp_verdict
pair(struct sp_sftp *x, struct sp_span a, struct sp_span b)
{
	enum sftp_verdict v = may(x, SP_RIGHT_UPLOAD, a);

	if (v == SFTP_PASS)
		v = may(x, SP_RIGHT_UPLOAD, b);
	return v == SFTP_PASS ? no_wider(x, a, b) : v;
}

static enum sftp_verdict
two_names(struct sp_sftp *x)
{
	struct sp_span p[2] = {sp_buf_span(&x->abs), sp_buf_span(&x->abs2)};
	enum sftp_verdict v = pair(x, p[0], p[1]);

	if (v != SFTP_PASS || !sp_xfer_has_patterns(x->s->rules,
	    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD))
		return v;
	v = resolve(x, p, 2, false);
	return v == SFTP_PASS ? pair(x, sp_buf_span(&x->check.got[0]),
	    sp_buf_span(&x->check.got[1])) : v;
}

/* The draft says link, target; OpenSSH and every server since say target, link.
 * A relative target counts from the directory of the link. */
static enum sftp_verdict
link_names(struct sp_sftp *x, const struct sftp_req *r)
{
	struct sp_span link = sp_buf_span(&x->abs2), p[2];
	bool patterns = sp_xfer_has_patterns(x->s->rules, SP_RIGHT_UPLOAD);
	enum sftp_verdict v = may(x, SP_RIGHT_UPLOAD, link);

	if (v != SFTP_PASS || !patterns)
		return v;
	if (sp_xfer_abs(&x->scratch, sp_xfer_dirname(link), r->path) != SP_OK)
		return sftp_no(x, SP_XFER_BAD_MESSAGE, "not a path");
	p[0] = sp_buf_span(&x->scratch);
	p[1] = link;
	v = may(x, SP_RIGHT_UPLOAD, p[0]);
	if (v == SFTP_PASS)
		v = resolve(x, p, 2, true);
	if (v == SFTP_PASS)
		v = may(x, SP_RIGHT_UPLOAD, sp_buf_span(&x->check.got[0]));
	return v == SFTP_PASS ? may(x, SP_RIGHT_UPLOAD,
	    sp_buf_span(&x->check.got[1])) : v;
}

/* ------------------------------------------------------------ operations */

static uint32_t
open_ops(uint32_t pflags)
{
	return ((pflags & FXF_READ) != 0 ? SP_RIGHT_DOWNLOAD : 0u) |
	    ((pflags & (FXF_ALL & ~FXF_READ)) != 0 ? SP_RIGHT_UPLOAD : 0u);
}

static enum sftp_verdict
judge_open(struct sp_sftp *x, const struct sftp_req *r)
{
	enum sp_xfer_leave leave;
	enum sftp_verdict v;

	if ((r->pflags & ~(uint32_t)FXF_ALL) != 0 || open_ops(r->pflags) == 0)
		return sftp_no(x, SP_XFER_BAD_MESSAGE, "unknown flags of open");
	v = one_name(x, open_ops(r->pflags), true);
	if (v != SFTP_PASS)
		return v;
	leave = x->out->leave(x->out->arg, open_ops(r->pflags),
	    sp_buf_span(&x->abs).n > 0 ? sp_buf_span(&x->abs) : r->path);
	if (leave == SP_XFER_STAYS)
		return sftp_no(x, SP_XFER_DENIED, "a second person refused it");
	return leave == SP_XFER_GOES ? SFTP_PASS : SFTP_STALL;
}

static enum sftp_verdict
judge_size(struct sp_sftp *x, const struct sftp_req *r)
{
	uint64_t max = x->s->rules->file_max;

	if ((r->attrs.flags & 1) != 0 && max != 0 && r->attrs.size > max)
		return sftp_no(x, SP_XFER_DENIED, "more than the %llu bytes that "
		    "one file may have in this session",
		    (unsigned long long)max);
	return SFTP_PASS;
}

static enum sftp_verdict
judge_write(struct sp_sftp *x, const struct sftp_req *r)
{
	struct sftp_file *f = r->file;
	uint64_t at = f->is_append ? f->bytes_up : r->off;
	char why[200];

	if (!f->may_write)
		return sftp_no(x, SP_XFER_DENIED, "not open for writing");
	if (r->off > UINT64_MAX - r->len || at > UINT64_MAX - r->len)
		return sftp_no(x, SP_XFER_BAD_MESSAGE, "beyond any file's end");
	if (f->is_stopped)
		return sftp_no(x, SP_XFER_DENIED, "the transfer was stopped");
	if (sp_xfer_within(x->s, at + r->len, r->len, why, sizeof(why)))
		return SFTP_PASS;
	f->is_stopped = true;
	f->result = SP_XFER_REFUSED;
	return sftp_no(x, SP_XFER_DENIED, "%s", why);
}

static enum sftp_verdict
judge_read(struct sp_sftp *x, const struct sftp_req *r)
{
	if (!r->file->may_read)
		return sftp_no(x, SP_XFER_DENIED, "not open for reading");
	if (r->file->is_stopped)
		return sftp_no(x, SP_XFER_DENIED, "the transfer was stopped");
	if (r->off > UINT64_MAX - r->len)
		return sftp_no(x, SP_XFER_EOF, "beyond any file's end");
	return SFTP_PASS;
}

static enum sftp_verdict
judge_fd_change(struct sp_sftp *x, const struct sftp_req *r)
{
	enum sftp_verdict v = SFTP_PASS;

	if (!r->file->may_write) {
		if (sp_xfer_has_patterns(x->s->rules, SP_RIGHT_UPLOAD))
			return sftp_no(x, SP_XFER_DENIED, "not open for writing");
		v = may(x, SP_RIGHT_UPLOAD, sp_span_of(r->file->path,
		    r->file->n_path));
	}
	return v == SFTP_PASS ? judge_size(x, r) : v;
}

/* The bytes do not pass here: they cannot be counted. */
static enum sftp_verdict
judge_copy(struct sp_sftp *x, const struct sftp_req *r)
{
	const struct sp_rules *u = x->s->rules;

	if (!r->file->may_read || !r->file2->may_write)
		return sftp_no(x, SP_XFER_DENIED, "not open for that");
	if (u->file_max != 0 || u->session_max != 0)
		return sftp_no(x, SP_XFER_UNSUPPORTED, "copying at the target is "
		    "not possible where sizes are limited");
	return SFTP_PASS;
}

static enum sftp_verdict
judge_named(struct sp_sftp *x, struct sftp_req *r)
{
	enum sftp_verdict v;

	v = both_names(x, r, sp_xfer_has_patterns(x->s->rules,
	    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD));
	if (v != SFTP_PASS)
		return v;
	if (r->shape->reply == FXP_HANDLE &&
	    (x->n_files + x->n_opening >= SFTP_FILES_MAX ||
	    x->names >= SFTP_NAMES_MAX))
		return sftp_no(x, SP_XFER_FAILURE, "too many files are open");
	switch (r->shape->way) {
	case WAY_OPEN:
		return judge_open(x, r);
	case WAY_NAME:
		return one_name(x, SP_RIGHT_UPLOAD, false);
	case WAY_FOLLOW:
		v = judge_size(x, r);
		return v == SFTP_PASS ? one_name(x, SP_RIGHT_UPLOAD, true) : v;
	case WAY_TWO:
		return two_names(x);
	case WAY_LINK:
		return link_names(x, r);
	default:
		return SFTP_PASS;	/* WAY_LOOK: only looks */
	}
}

static bool
has_field(const struct sftp_shape *s, char c)
{
	return strchr(s->fields, c) != NULL;
}

enum sftp_verdict
sftp_judge(struct sp_sftp *x, struct sftp_req *r)
{
	if ((has_field(r->shape, 'h') &&
	    (r->file = sftp_by_handle(x, r->handle)) == NULL) ||
	    (has_field(r->shape, 'g') &&
	    (r->file2 = sftp_by_handle(x, r->handle2)) == NULL))
		return sftp_no(x, SP_XFER_FAILURE, "no such handle");
	switch (r->shape->way) {
	case WAY_CLOSE:
	case WAY_HANDLE:
		return SFTP_PASS;
	case WAY_READ:
		return judge_read(x, r);
	case WAY_WRITE:
		return judge_write(x, r);
	case WAY_DIR:
		return r->file->is_dir ? SFTP_PASS : sftp_no(x, SP_XFER_FAILURE,
		    "not a directory");
	case WAY_FD_CHANGE:
		return judge_fd_change(x, r);
	case WAY_COPY:
		return judge_copy(x, r);
	default:
		return has_field(r->shape, 'p') ? judge_named(x, r) : SFTP_PASS;
	}
}
