/* SPDX-License-Identifier: Apache-2.0 */
/* The requests that wait for a reply, and the files that are open. */
#include <stdlib.h>
#include <string.h>

#include "recorder/sftp_int.h"

#define FIRST_CAP 64

static size_t
slot_of(const struct sp_sftp *x, uint32_t id)
{
	return (id * 2654435761u >> 8) & (x->cap_pend - 1);
}

struct sftp_pend *
sftp_find(struct sp_sftp *x, uint32_t id)
{
	if (x->cap_pend == 0)
		return NULL;
	for (size_t i = slot_of(x, id); x->pend[i].is_used;
	    i = (i + 1) & (x->cap_pend - 1))
		if (x->pend[i].id == id)
			return &x->pend[i];
	return NULL;
}

static void
put(struct sp_sftp *x, const struct sftp_pend *p)
{
	size_t i = slot_of(x, p->id);

	while (x->pend[i].is_used)
		i = (i + 1) & (x->cap_pend - 1);
	x->pend[i] = *p;
	x->pend[i].is_used = true;
}

static enum sp_err
grow(struct sp_sftp *x)
{
	size_t cap = x->cap_pend, new_cap = cap == 0 ? FIRST_CAP : cap * 2;
	struct sftp_pend *old = x->pend, *p = calloc(new_cap, sizeof(*p));

	if (p == NULL)
		return SP_ERR_NOMEM;
	x->pend = p;
	x->cap_pend = new_cap;
	for (size_t i = 0; i < cap; i++)
		if (old[i].is_used)
			put(x, &old[i]);
	free(old);
	return SP_OK;
}

enum sp_err
sftp_add(struct sp_sftp *x, const struct sftp_pend *p)
{
	/* Two places are kept for requests of our own. */
	if (x->n_pend >= SFTP_PENDING_MAX + (p->is_own ? 2 : 0))
		return SP_ERR_FULL;
	if (x->n_pend * 2 >= x->cap_pend)
		SP_TRY(grow(x));
	put(x, p);
	x->n_pend++;
	if (p->file != NULL)
		p->file->refs++;
	if (p->shape->reply == FXP_HANDLE)
		x->n_opening++;
	return SP_OK;
}

void
sftp_remove(struct sp_sftp *x, uint32_t id)
{
	struct sftp_pend *p = sftp_find(x, id);
	size_t mask = x->cap_pend - 1, hole, i;

	SP_ASSERT(p != NULL);
	if (p->shape->reply == FXP_HANDLE)
		x->n_opening--;
	hole = (size_t)(p - x->pend);
	for (i = (hole + 1) & mask; x->pend[i].is_used; i = (i + 1) & mask) {
		size_t home = slot_of(x, x->pend[i].id);

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			x->pend[hole] = x->pend[i];
			hole = i;
		}
	}
	x->pend[hole] = (struct sftp_pend){0};
	x->n_pend--;
}

void
sftp_forget(struct sp_sftp *x, struct sftp_pend *p)
{
	if (p->file != NULL)
		sftp_unref(x, p->file);
	if (p->ask != NULL)
		x->names -= p->ask->n_path + p->ask->n_path2;
	free(p->ask);
	p->file = NULL;
	p->ask = NULL;
}

struct sftp_ask *
sftp_ask_new(struct sp_sftp *x, const struct sftp_req *r)
{
	struct sp_span a = x->abs.len > 0 ? sp_buf_span(&x->abs) : r->path;
	struct sp_span b = x->abs2.len > 0 ? sp_buf_span(&x->abs2) : r->path2;
	struct sftp_ask *k;

	if (a.n > SP_XFER_PATH_MAX)
		a.n = SP_XFER_PATH_MAX;
	if (b.n > SP_XFER_PATH_MAX)
		b.n = SP_XFER_PATH_MAX;
	if ((k = calloc(1, sizeof(*k) + a.n + b.n)) == NULL)
		return NULL;
	k->n_path = a.n;
	k->n_path2 = b.n;
	x->names += a.n + b.n;
	if (a.n > 0)
		memcpy(k->bytes, a.p, a.n);
	if (b.n > 0)
		memcpy(k->bytes + a.n, b.p, b.n);
	return k;
}

/* ---------------------------------------------------------------- files */

struct sftp_file *
sftp_by_handle(struct sp_sftp *x, struct sp_span handle)
{
	for (struct sftp_file *f = x->files; f != NULL; f = f->next)
		if (f->is_mapped && f->n_handle == handle.n &&
		    memcmp(f->handle, handle.p, handle.n) == 0)
			return f;
	return NULL;
}

struct sftp_file *
sftp_file_new(struct sp_sftp *x, struct sp_span path, struct sp_span handle)
{
	struct sftp_file *f = calloc(1, sizeof(*f) + path.n);

	if (f == NULL)
		return NULL;
	f->refs = 1;
	f->set_size = UINT64_MAX;
	f->num = ++x->s->files;
	f->is_mapped = true;
	f->n_handle = (uint32_t)handle.n;
	memcpy(f->handle, handle.p, handle.n);
	f->n_path = path.n;
	if (path.n > 0)
		memcpy(f->path, path.p, path.n);
	f->next = x->files;
	x->files = f;
	x->n_files++;
	x->names += f->n_path;
	return f;
}

void
sftp_unref(struct sp_sftp *x, struct sftp_file *f)
{
	struct sftp_file **at = &x->files;

	if (--f->refs > 0)
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	x->n_files--;
	x->names -= f->n_path;
	sp_xfer_hash_fini(&f->up);
	sp_xfer_hash_fini(&f->down);
	free(f);
}

/* --------------------------------------------------------------- content */

static struct sp_xfer_note
note_of(const struct sftp_file *f, uint8_t op, bool up)
{
	return (struct sp_xfer_note){.op = op, .dir = SP_XFER_DIR(up ?
	    SP_RIGHT_UPLOAD : SP_RIGHT_DOWNLOAD), .file = f->num,
	    .path = sp_span_of(f->path, f->n_path)};
}

static enum sp_err
extent(struct sp_sftp *x, struct sftp_file *f, bool up, bool so_far)
{
	struct sp_xfer_hash *h = up ? &f->up : &f->down;
	struct sp_xfer_note n = note_of(f, SP_XFER_EXTENT, up);

	n.offset = h->start;
	n.bytes = h->next - h->start;
	n.flags = (uint8_t)(SP_XFER_HAS_HASH | (so_far ? SP_XFER_SO_FAR : 0));
	if (so_far)
		n.path.n = 0;	/* the number says it */
	SP_TRY(sp_xfer_hash_look(x->s, h, n.sha256));
	return x->out->note(x->out->arg, &n);
}

enum sp_err
sftp_content(struct sp_sftp *x, struct sftp_file *f, bool up, uint64_t off,
    struct sp_span s)
{
	struct sp_xfer_hash *h = up ? &f->up : &f->down;

	if (h->ctx != NULL && h->next != off) {
		SP_TRY(extent(x, f, up, false));
		sp_xfer_hash_fini(h);
		(*(up ? &f->n_up : &f->n_down))++;
	}
	SP_TRY(sp_xfer_hash_put(x->s, h, off, s));
	*(up ? &f->bytes_up : &f->bytes_down) += s.n;
	/* Where the content itself is not kept, what stands for it goes before
	 * it: the promise is "nothing unrecorded". */
	return x->s->rules->file_body == SP_BODY_DIGEST && s.n > 0 ?
	    extent(x, f, up, true) : SP_OK;
}

/* Is what passed all that the file now holds? */
static bool
is_all(const struct sftp_file *f, bool up)
{
	return up ? f->is_fresh || f->set_size == f->up.next : f->saw_end;
}

static enum sp_err
close_note(struct sp_sftp *x, struct sftp_file *f, bool up, uint32_t result)
{
	struct sp_xfer_hash *h = up ? &f->up : &f->down;
	struct sp_xfer_note n = note_of(f, SP_XFER_CLOSE, up);
	bool is_one = (up ? f->n_up : f->n_down) == 0;

	if (h->ctx != NULL)
		SP_TRY(extent(x, f, up, false));
	n.result = result;
	n.bytes = up ? f->bytes_up : f->bytes_down;
	n.offset = is_one ? h->start : 0;
	if (is_one && (h->ctx != NULL || is_all(f, up))) {
		n.flags |= SP_XFER_HAS_HASH;
		SP_TRY(sp_xfer_hash_look(x->s, h, n.sha256));
		if (h->start == 0 && result == SP_XFER_DONE && is_all(f, up))
			n.flags |= SP_XFER_WHOLE;
	}
	return x->out->note(x->out->arg, &n);
}

enum sp_err
sftp_close_notes(struct sp_sftp *x, struct sftp_file *f, uint32_t result)
{
	if (f->is_closed || f->is_dir)
		return SP_OK;
	f->is_closed = true;
	if (f->result != SP_XFER_DONE)
		result = f->result;
	if (f->may_write && (f->bytes_up > 0 || f->bytes_down == 0))
		SP_TRY(close_note(x, f, true, result));
	if (f->may_read && (f->bytes_down > 0 || !f->may_write))
		SP_TRY(close_note(x, f, false, result));
	return SP_OK;
}
