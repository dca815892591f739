/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/scp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "recorder/scp_line.h"

#define DIRS_MAX 64		/* directories inside each other */
#define UNSURE_MAX 65536	/* bytes of the user that are held for a look */

enum mode { UNKNOWN = 0, UPLOAD, DOWNLOAD, OTHER };
enum state { S_LINE = 0, S_WAIT, S_BODY, S_END };
/* What the sink's next word answers. */
enum wait { W_OTHER = 0, W_DIR, W_FILE, W_DONE };

struct sp_scp {
	const struct sp_xfer_out *out;
	struct sp_xfer_session *s;
	enum mode mode;
	enum state state;
	enum wait wait;
	bool is_stalled;
	bool user_began, target_began;	/* the zero byte of a sink went by */
	bool is_impatient;	/* the sink said more than zeros before a line */
	unsigned ahead;		/* answers that it gave before it was asked */
	struct sp_buf user, target;	/* a line, in parts */
	/* the directories that the source is in */
	struct sp_buf dir;
	uint16_t cut[DIRS_MAX];		/* the length of dir before each */
	unsigned depth;
	/* the file at hand */
	struct sp_buf path;
	struct sp_xfer_hash hash;
	uint64_t size, done;
	uint32_t num, result;
	bool is_open;
	/* rsync's greeting */
	uint8_t first[2][4];		/* [0] of the user, [1] of the target */
	size_t n_first[2];
	bool not_rsync;
	struct sp_xfer_hash all[2];
	char why[200];
};

struct sp_scp *
sp_scp_new(const struct sp_xfer_out *out, struct sp_xfer_session *session)
{
	struct sp_scp *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->out = out;
	x->s = session;
	sp_buf_init(&x->user, SCP_LINE_MAX);
	sp_buf_init(&x->target, SCP_LINE_MAX);
	sp_buf_init(&x->dir, SP_XFER_PATH_MAX);
	sp_buf_init(&x->path, SP_XFER_PATH_MAX + SCP_LINE_MAX);
	return x;
}

void
sp_scp_free(struct sp_scp *x)
{
	if (x == NULL)
		return;
	sp_buf_fini(&x->user);
	sp_buf_fini(&x->target);
	sp_buf_fini(&x->dir);
	sp_buf_fini(&x->path);
	sp_xfer_hash_fini(&x->hash);
	sp_xfer_hash_fini(&x->all[0]);
	sp_xfer_hash_fini(&x->all[1]);
	free(x);
}

const char *
sp_scp_why(const struct sp_scp *x)
{
	return x->why;
}

static bool
is_rsync(const struct sp_scp *x)
{
	return x->mode == OTHER && !x->not_rsync && x->n_first[0] == 4 &&
	    x->n_first[1] == 4;
}

bool
sp_scp_is_other(const struct sp_scp *x)
{
	return x->mode == OTHER && x->not_rsync && x->user.len == 0 &&
	    x->target.len == 0;
}

static enum sp_err
fault(struct sp_scp *x, const char *fmt, ...) SP_PRINTF(2, 3);

static enum sp_err
fault(struct sp_scp *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->why, sizeof(x->why), fmt, ap);
	va_end(ap);
	return SP_ERR_PROTO;
}

static uint32_t
right_of(const struct sp_scp *x)
{
	return x->mode == UPLOAD ? SP_RIGHT_UPLOAD : SP_RIGHT_DOWNLOAD;
}

static struct sp_xfer_note
note_of(const struct sp_scp *x, uint8_t op, uint32_t result)
{
	return (struct sp_xfer_note){.op = op, .result = result,
	    .dir = SP_XFER_DIR(right_of(x)), .flags = SP_XFER_SCP,
	    .file = x->num, .path = sp_buf_span(&x->path)};
}

/* ---------------------------------------------------- neither scp nor known */

static enum sp_err
plain(struct sp_scp *x, bool from_user, struct sp_span s)
{
	struct sp_xfer_hash *h = &x->all[from_user ? 0 : 1];

	if (s.n == 0)
		return SP_OK;
	if (!scp_may_be_rsync(x->first[from_user ? 0 : 1],
	    &x->n_first[from_user ? 0 : 1], s))
		x->not_rsync = true;
	if (!x->not_rsync)
		SP_TRY(sp_xfer_hash_put(x->s, h, h->next, s));
	return x->out->pass(x->out->arg, from_user, s, NULL);
}

/* It was not scp after all: what was held for a look goes on. */
static enum sp_err
give_up(struct sp_scp *x)
{
	x->mode = OTHER;
	SP_TRY(plain(x, true, sp_buf_span(&x->user)));
	sp_buf_fini(&x->user);
	SP_TRY(plain(x, false, sp_buf_span(&x->target)));
	sp_buf_fini(&x->target);
	return SP_OK;
}

static void
skip(struct sp_span *s, size_t n)
{
	*s = sp_span_of(s->p + n, s->n - n);
}

/* Moves bytes up to the end of a line into held. */
static enum scp_look
gather(struct sp_buf *held, struct sp_span *s, struct scp_line *l)
{
	const uint8_t *nl = s->n == 0 ? NULL : memchr(s->p, '\n', s->n);
	size_t n = nl == NULL ? s->n : (size_t)(nl - s->p) + 1;

	if (n > SCP_LINE_MAX - held->len)
		return SCP_NO;
	if (n > 0 && sp_buf_put(held, s->p, n) != SP_OK)
		return SCP_NO;
	skip(s, n);
	return scp_look(sp_buf_span(held), l);
}

/* --------------------------------------------------------------- operations */

static enum sp_err
set_path(struct sp_scp *x, struct sp_span name)
{
	x->path.off = x->path.len = 0;
	if (x->dir.len > 0) {
		SP_TRY(sp_buf_put(&x->path, x->dir.p + x->dir.off, x->dir.len));
		SP_TRY(sp_buf_put_u8(&x->path, '/'));
	}
	return sp_buf_put(&x->path, name.p, name.n);
}

static bool
permitted(struct sp_scp *x, const struct scp_line *l, char *why, size_t n)
{
	uint32_t op = right_of(x);

	why[0] = '\0';
	/* The protocol names no directory to start in: the path cannot be made
	 * absolute, and where patterns decide it matches no permit. */
	if (!sp_rules_path(x->s->rules, op, sp_buf_span(&x->path), why, n)) {
		if ((x->s->rules->rights & op) != 0)
			snprintf(why, n, "there are rules on paths, and the old "
			    "protocol of scp does not say them: use sftp, or scp "
			    "without -O");
		return false;
	}
	if (l->type == 'C')
		return sp_xfer_within(x->s, l->size, l->size, why, n);
	snprintf(why, n, "directories too deep inside each other");
	return x->depth < DIRS_MAX && x->path.len < SP_XFER_PATH_MAX;
}

/* Both ends hear of it as they would from each other, and go on. */
static enum sp_err
refuse(struct sp_scp *x, struct sp_buf *held, const struct scp_line *l,
    const char *why)
{
	struct sp_xfer_note n = note_of(x, l->type == 'D' ? x->mode == UPLOAD ?
	    SP_XFER_MKDIR : SP_XFER_LIST : SP_XFER_OPEN, SP_XFER_REFUSED);
	SP_BUF_AUTO b = {.max = 1024};
	char name[300];
	bool up = x->mode == UPLOAD;

	n.file = 0;
	n.bytes = l->size;
	n.text = sp_span_str(why);
	SP_TRY(x->out->note(x->out->arg, &n));
	sp_vis(name, sizeof(name), sp_buf_span(&x->path));
	SP_TRY(sp_buf_printf(&b, "\001scp: %s: %s\n", name, why));
	SP_TRY(x->out->drop(x->out->arg, up, held->len));
	sp_buf_reset(held);
	if (x->ahead > 0)
		return fault(x, "%s", why);
	if (x->out->room(x->out->arg, false) < b.len ||
	    x->out->room(x->out->arg, true) < b.len)
		return fault(x, "too many refusals wait to be read");
	SP_TRY(x->out->say(x->out->arg, false, sp_buf_span(&b)));
	return up ? SP_OK : x->out->say(x->out->arg, true, sp_buf_span(&b));
}

static enum sp_err
go_on(struct sp_scp *x, struct sp_buf *held, enum wait wait)
{
	SP_TRY(x->out->pass(x->out->arg, x->mode == UPLOAD, sp_buf_span(held),
	    NULL));
	sp_buf_reset(held);
	x->state = S_WAIT;
	x->wait = wait;
	return SP_OK;
}

static enum sp_err
on_file_or_dir(struct sp_scp *x, struct sp_buf *held, const struct scp_line *l)
{
	char why[200], text[80];
	struct sp_xfer_note n;

	SP_TRY(set_path(x, l->name));
	if (!permitted(x, l, why, sizeof(why)))
		return refuse(x, held, l, why);
	x->size = l->size;
	x->done = 0;
	x->result = SP_XFER_DONE;
	if (l->type == 'D') {
		x->num = 0;
		n = note_of(x, x->mode == UPLOAD ? SP_XFER_MKDIR : SP_XFER_LIST,
		    SP_XFER_DONE);
		SP_TRY(x->out->note(x->out->arg, &n));
		return go_on(x, held, W_DIR);
	}
	x->num = ++x->s->files;
	n = note_of(x, SP_XFER_OPEN, SP_XFER_DONE);
	snprintf(text, sizeof(text), "mode=%04o size=%llu", l->mode,
	    (unsigned long long)l->size);
	n.text = sp_span_str(text);
	SP_TRY(x->out->note(x->out->arg, &n));
	x->is_open = true;
	x->s->bytes += l->size;
	return go_on(x, held, W_FILE);
}

static enum sp_err
on_line(struct sp_scp *x, struct sp_buf *held, const struct scp_line *l)
{
	switch (l->type) {
	case 'C':
	case 'D':
		return on_file_or_dir(x, held, l);
	case 'E':
		if (x->depth == 0)
			return fault(x, "scp left a directory that it is not in");
		x->dir.len = x->cut[--x->depth];
		return go_on(x, held, W_OTHER);
	case 'T':
		return go_on(x, held, W_OTHER);
	default:	/* an error of the source: nobody answers it */
		SP_TRY(go_on(x, held, W_OTHER));
		x->state = S_LINE;
		return SP_OK;
	}
}

static enum sp_err
close_file(struct sp_scp *x, uint32_t result)
{
	struct sp_xfer_note n = note_of(x, SP_XFER_CLOSE, result);

	x->is_open = false;
	n.bytes = x->done;
	n.flags |= SP_XFER_HAS_HASH;
	if (result == SP_XFER_DONE && x->done == x->size)
		n.flags |= SP_XFER_WHOLE;
	SP_TRY(sp_xfer_hash_look(x->s, &x->hash, n.sha256));
	sp_xfer_hash_fini(&x->hash);
	return x->out->note(x->out->arg, &n);
}

static enum sp_err
push_dir(struct sp_scp *x)
{
	x->cut[x->depth++] = (uint16_t)x->dir.len;
	x->dir.off = x->dir.len = 0;
	return sp_buf_put(&x->dir, x->path.p + x->path.off, x->path.len);
}

/* The sink has answered. */
static enum sp_err
answered(struct sp_scp *x, bool ok)
{
	enum wait w = x->wait;

	x->state = S_LINE;
	if (w == W_DIR && ok)
		return push_dir(x);
	if (w == W_DONE)
		return close_file(x, ok ? x->result : SP_XFER_FAILURE);
	if (w != W_FILE)
		return SP_OK;
	if (!ok) {
		x->s->bytes -= x->size;
		return close_file(x, SP_XFER_FAILURE);
	}
	x->state = x->size == 0 ? S_END : S_BODY;
	return SP_OK;
}

static enum sp_err
use_ahead(struct sp_scp *x)
{
	if (x->state != S_WAIT || x->ahead == 0)
		return SP_OK;
	x->ahead--;
	return answered(x, true);
}

/* -------------------------------------------------------------- both streams */

static enum sp_err
content(struct sp_scp *x, struct sp_span *s)
{
	uint64_t left = x->size - x->done;
	struct sp_span now = sp_span_of(s->p, left < s->n ? (size_t)left : s->n);
	struct sp_xfer_note n = note_of(x, SP_XFER_EXTENT, SP_XFER_DONE);
	struct sp_xfer_at at = {.offset = x->done};

	SP_TRY(sp_xfer_hash_put(x->s, &x->hash, x->done, now));
	x->done += now.n;
	if (x->s->rules->file_body == SP_BODY_DIGEST) {
		n.bytes = x->done;
		n.path.n = 0;
		n.flags |= SP_XFER_HAS_HASH | SP_XFER_SO_FAR;
		SP_TRY(sp_xfer_hash_look(x->s, &x->hash, n.sha256));
		SP_TRY(x->out->note(x->out->arg, &n));
	}
	at.file = n.file;
	SP_TRY(x->out->pass(x->out->arg, x->mode == UPLOAD, now, &at));
	skip(s, now.n);
	if (x->done == x->size)
		x->state = S_END;
	return SP_OK;
}

static enum sp_err
out_of_turn(struct sp_scp *x, bool from_user)
{
	if (!from_user)
		return fault(x, "the target did not wait for scp's answer");
	x->is_stalled = true;
	return SP_ERR_AGAIN;
}

static enum sp_err
from_source_line(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	struct sp_buf *held = from_user ? &x->user : &x->target;
	struct scp_line l = {0};
	enum scp_look look;

	if (x->state == S_END && held->len == 0 && s->p[0] == '\0') {
		SP_TRY(x->out->pass(x->out->arg, from_user, sp_span_of(s->p, 1),
		    NULL));
		skip(s, 1);
		x->state = S_WAIT;
		x->wait = W_DONE;
		return SP_OK;
	}
	look = gather(held, s, &l);
	if (look == SCP_NO || (x->state == S_END && look == SCP_LINE &&
	    l.type > 2))
		return fault(x, "the %s does not speak scp",
		    from_user ? "client" : "target");
	if (look == SCP_PART)
		return SP_OK;
	if (x->state == S_LINE)
		return on_line(x, held, &l);
	x->result = SP_XFER_FAILURE;
	return go_on(x, held, W_DONE);
}

static enum sp_err
from_source(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	if (x->state == S_WAIT)
		return out_of_turn(x, from_user);
	if (x->state == S_BODY)
		return content(x, s);
	SP_TRY(from_source_line(x, from_user, s));
	return use_ahead(x);
}

static enum sp_err
from_sink(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	struct sp_buf *held = from_user ? &x->user : &x->target;
	const uint8_t *nl;
	size_t n;
	bool ok;

	if (x->state != S_WAIT)
		return out_of_turn(x, from_user);
	ok = held->len == 0 && s->p[0] == '\0';
	nl = ok ? s->p : memchr(s->p, '\n', s->n);
	n = nl == NULL ? s->n : (size_t)(nl - s->p) + 1;
	if (n > SCP_LINE_MAX - held->len)
		return fault(x, "the %s does not speak scp",
		    from_user ? "client" : "target");
	SP_TRY(sp_buf_put(held, s->p, n));
	skip(s, n);
	if (nl == NULL)
		return SP_OK;
	SP_TRY(x->out->pass(x->out->arg, from_user, sp_buf_span(held), NULL));
	sp_buf_reset(held);
	return answered(x, ok);
}

/* --------------------------------------------------------- what is it at all */

static enum sp_err
pass_zero(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	*(from_user ? &x->user_began : &x->target_began) = true;
	SP_TRY(plain(x, from_user, sp_span_of(s->p, 1)));
	skip(s, 1);
	return SP_OK;
}

/* A line that only a source says, where a sink has begun at the other side. */
static enum sp_err
first_line(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	struct sp_buf *held = from_user ? &x->user : &x->target;
	struct scp_line l = {0};
	enum scp_look look = gather(held, s, &l);

	if (look == SCP_PART)
		return SP_OK;
	if (look == SCP_NO || l.type == 'E')
		return give_up(x);
	if (l.type <= 2) {	/* its first word may be that there is no file */
		SP_TRY(plain(x, from_user, sp_buf_span(held)));
		sp_buf_reset(held);
		return SP_OK;
	}
	if (from_user && !x->target_began) {
		/* It may be scp: its other end has not yet said a word. */
		x->is_stalled = true;
		return s->n > UNSURE_MAX ? give_up(x) : SP_ERR_AGAIN;
	}
	if (x->is_impatient)
		return fault(x, "the client does not wait for scp's lines");
	x->mode = from_user ? UPLOAD : DOWNLOAD;
	x->state = S_LINE;
	SP_TRY(on_line(x, held, &l));
	return use_ahead(x);
}

/* More of a sink before the source's first line: some clients say all their
 * zeros at once, and D-Bus begins with one zero, too. */
static enum sp_err
too_early(struct sp_scp *x, struct sp_span *s)
{
	struct sp_span all = *s;

	for (size_t i = 0; i < all.n; i++)
		x->is_impatient |= all.p[i] != '\0' || ++x->ahead > 1000;
	skip(s, s->n);
	return plain(x, true, all);
}

static enum sp_err
unknown(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	if (from_user) {
		if (x->user_began)
			return too_early(x, s);
		if (x->user.len == 0 && !x->target_began && s->p[0] == '\0')
			return pass_zero(x, true, s);
		return first_line(x, true, s);
	}
	if (x->user_began)
		return first_line(x, false, s);
	if (x->target_began || s->p[0] != '\0' || s->n > 1)
		return give_up(x);
	return pass_zero(x, false, s);
}

static enum sp_err
step(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	switch (x->mode) {
	case UNKNOWN:
		return unknown(x, from_user, s);
	case UPLOAD:
		return from_user ? from_source(x, true, s) :
		    from_sink(x, false, s);
	case DOWNLOAD:
		return from_user ? from_sink(x, true, s) :
		    from_source(x, false, s);
	case OTHER:
	default: {
		struct sp_span all = *s;

		skip(s, s->n);
		return plain(x, from_user, all);
	}
	}
}

/* A line of the user's that was whole waited for the target's first word. */
static enum sp_err
retry(struct sp_scp *x, struct sp_span *s)
{
	if (x->mode == UNKNOWN && x->user.len > 0 && (x->target_began ||
	    s->n > UNSURE_MAX) && x->user.p[x->user.off + x->user.len - 1] ==
	    '\n') {
		struct sp_span none = {0};

		return first_line(x, true, s->n > UNSURE_MAX ? s : &none);
	}
	return x->mode == UNKNOWN && x->user.len > 0 && x->is_stalled ?
	    SP_ERR_AGAIN : SP_OK;
}

enum sp_err
sp_scp_take(struct sp_scp *x, bool from_user, struct sp_span *s)
{
	enum sp_err e = SP_OK;

	if (from_user && x->is_stalled) {
		e = retry(x, s);
		x->is_stalled = e == SP_ERR_AGAIN;
	}
	while (e == SP_OK && s->n > 0)
		e = step(x, from_user, s);
	return e;
}

enum sp_err
sp_scp_eof(struct sp_scp *x, bool from_user)
{
	struct sp_buf *held = from_user ? &x->user : &x->target;

	if (x->mode == UNKNOWN)
		return give_up(x);
	if (x->mode == OTHER || held->len == 0)
		return SP_OK;
	SP_TRY(x->out->pass(x->out->arg, from_user, sp_buf_span(held), NULL));
	sp_buf_reset(held);
	return SP_OK;
}

enum sp_err
sp_scp_end(struct sp_scp *x)
{
	if (x->is_open)
		SP_TRY(close_file(x, SP_XFER_CUT));
	if (!is_rsync(x))
		return SP_OK;
	for (size_t i = 0; i < 2; i++) {
		struct sp_xfer_note n = {.op = SP_XFER_TOTAL,
		    .dir = SP_XFER_DIR(i == 0 ? SP_RIGHT_UPLOAD :
		    SP_RIGHT_DOWNLOAD), .bytes = x->all[i].next,
		    .flags = SP_XFER_RSYNC | SP_XFER_HAS_HASH};

		SP_TRY(sp_xfer_hash_look(x->s, &x->all[i], n.sha256));
		SP_TRY(x->out->note(x->out->arg, &n));
	}
	return SP_OK;
}
