/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/sense/follow.h"

#include <stdlib.h>
#include <string.h>

#include "common/stream.h"

#define HELD_MAX 4096

struct term {
	struct sp_follow *f;
	uint32_t chan;		/* 0: free */
	struct sp_sense *sense;
};

struct held {
	uint64_t at_us, order;
	uint32_t chan;
	uint8_t kind;
	size_t off, n;		/* in bytes */
};

struct sp_follow {
	struct sp_follow_ops ops;
	struct term term[SP_FOLLOW_TERMS];
	uint64_t newest_us, order;
	size_t n;
	struct held held[HELD_MAX];
	struct sp_buf bytes;
};

enum sp_err
sp_follow_new(const struct sp_follow_ops *ops, struct sp_follow **f)
{
	*f = calloc(1, sizeof(**f));
	if (*f == NULL)
		return SP_ERR_NOMEM;
	(*f)->ops = *ops;
	sp_buf_init(&(*f)->bytes, SP_FOLLOW_BYTES + SP_REC_RAW_MAX);
	return SP_OK;
}

void
sp_follow_free(struct sp_follow *f)
{
	for (size_t i = 0; f != NULL && i < SP_FOLLOW_TERMS; i++)
		sp_sense_free(f->term[i].sense);
	if (f != NULL)
		sp_buf_fini(&f->bytes);
	free(f);
}

static void
command(void *ctx, const struct sp_sense_command *c)
{
	struct term *t = ctx;

	t->f->ops.command(t->f->ops.ctx, t->chan, c);
}

static void
secret(void *ctx, const struct sp_sense_secret *s)
{
	struct term *t = ctx;

	t->f->ops.secret(t->f->ops.ctx, t->chan, s);
}

static struct term *
find(struct sp_follow *f, uint32_t chan)
{
	for (size_t i = 0; i < SP_FOLLOW_TERMS; i++)
		if (f->term[i].chan == chan)
			return &f->term[i];
	return NULL;
}

static void
tell_exec(struct sp_follow *f, const struct held *h, struct sp_span text)
{
	struct sp_sense_command c = {.first_us = h->at_us, .at_us = h->at_us,
	    .source = SP_SENSE_EXEC, .confidence = 100, .text = text};

	f->ops.command(f->ops.ctx, h->chan, &c);
}

static enum sp_err
open_term(struct sp_follow *f, const struct held *h, struct sp_span payload)
{
	struct sp_sense_ops ops = {.command = command, .secret = secret};
	struct sp_open o;
	struct term *t;

	if (h->chan == 0 || sp_open_decode(payload, &o) != SP_OK)
		return SP_OK;
	if (o.kind == SP_OPEN_EXEC && o.command.n > 0)
		tell_exec(f, h, o.command);
	if (o.has_pty == 0 || find(f, h->chan) != NULL ||
	    (t = find(f, 0)) == NULL)
		return SP_OK;
	ops.ctx = t;
	/* A client without a terminal of its own may not say. */
	SP_TRY(sp_sense_new(o.cols == 0 ? 80 : o.cols, o.rows == 0 ? 24 :
	    o.rows, &ops, &t->sense));
	t->f = f;
	t->chan = h->chan;
	return SP_OK;
}

static void
close_term(struct term *t, uint64_t at_us)
{
	sp_sense_end(t->sense, at_us);
	sp_sense_free(t->sense);
	*t = (struct term){0};
}

static enum sp_err
resize(struct term *t, struct sp_span p)
{
	uint32_t cols = 0, rows = 0;

	if (sp_get_u32(&p, &cols) != SP_OK || sp_get_u32(&p, &rows) != SP_OK ||
	    cols == 0 || rows == 0)
		return SP_OK;
	return sp_sense_resize(t->sense, cols, rows);
}

static enum sp_err
give(struct sp_follow *f, const struct held *h)
{
	struct sp_span b = sp_span_of(sp_buf_span(&f->bytes).p + h->off, h->n);
	struct term *t;

	if (h->kind == SP_RECORD_OPEN)
		return open_term(f, h, b);
	if (h->chan == 0 || (t = find(f, h->chan)) == NULL)
		return SP_OK;
	if (h->kind == SP_RECORD_IN)
		sp_sense_in(t->sense, h->at_us, b);
	else if (h->kind == SP_RECORD_RESIZE)
		return resize(t, b);
	else if (h->kind == SP_RECORD_CLOSE && b.n == 1 && b.p[0] == 1)
		close_term(t, h->at_us);
	else if (h->kind != SP_RECORD_CLOSE)
		sp_sense_out(t->sense, h->at_us, b);
	return SP_OK;
}

static bool
is_before(const struct held *x, const struct held *y)
{
	return x->at_us != y->at_us ? x->at_us < y->at_us : x->order < y->order;
}

/* Shell's: nearly in order already. qsort() asks for the machine's memory, which
 * no filter allows. */
static void
sort(struct held *h, size_t n)
{
	for (size_t gap = n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
		for (size_t i = gap; i < n; i++) {
			struct held x = h[i];
			size_t k = i;

			for (; k >= gap && is_before(&x, &h[k - gap]); k -= gap)
				h[k] = h[k - gap];
			h[k] = x;
		}
}

/* Gives those up to that time, in order; the others stay. */
static enum sp_err
give_until(struct sp_follow *f, uint64_t until_us)
{
	SP_BUF_AUTO rest = {.max = f->bytes.max};
	enum sp_err e = SP_OK;
	size_t i = 0, n = 0;

	sort(f->held, f->n);
	for (; i < f->n && f->held[i].at_us <= until_us && e == SP_OK; i++)
		e = give(f, &f->held[i]);
	for (; i < f->n && e == SP_OK; i++) {
		struct held h = f->held[i];
		const uint8_t *p = sp_buf_span(&f->bytes).p;

		f->held[n] = h;
		f->held[n++].off = rest.len;
		if (h.n > 0)
			e = sp_buf_put(&rest, p + h.off, h.n);
	}
	f->n = n;
	sp_buf_reset(&f->bytes);
	return e == SP_OK && rest.len > 0 ? sp_buf_put(&f->bytes,
	    sp_buf_span(&rest).p, rest.len) : e;
}

enum sp_err
sp_follow_take(struct sp_follow *f, const struct sp_rec_record *r)
{
	struct held *h;

	if (r->kind != SP_RECORD_OPEN && r->kind != SP_RECORD_IN &&
	    r->kind != SP_RECORD_OUT && r->kind != SP_RECORD_ERR &&
	    r->kind != SP_RECORD_RESIZE && r->kind != SP_RECORD_CLOSE)
		return SP_OK;
	if (r->at_us > f->newest_us)
		f->newest_us = r->at_us;
	if (f->n == HELD_MAX || f->bytes.len >= SP_FOLLOW_BYTES)
		SP_TRY(give_until(f, UINT64_MAX));
	else if (f->n > 0 && f->newest_us > f->held[0].at_us +
	    2 * SP_FOLLOW_WAIT_US)
		SP_TRY(give_until(f, f->newest_us - SP_FOLLOW_WAIT_US));
	h = &f->held[f->n];
	*h = (struct held){.at_us = r->at_us, .order = f->order++,
	    .chan = r->chan, .kind = r->kind, .off = f->bytes.len,
	    .n = r->data.n};
	if (r->data.n > 0)
		SP_TRY(sp_buf_put(&f->bytes, r->data.p, r->data.n));
	f->n++;
	return SP_OK;
}

enum sp_err
sp_follow_end(struct sp_follow *f)
{
	enum sp_err e = give_until(f, UINT64_MAX);

	for (size_t i = 0; i < SP_FOLLOW_TERMS; i++)
		if (f->term[i].chan != 0)
			close_term(&f->term[i], f->newest_us);
	return e;
}
