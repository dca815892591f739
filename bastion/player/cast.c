/* SPDX-License-Identifier: Apache-2.0 */
/* Export as asciicast v2 (docs.asciinema.org/manual/asciicast/v2). One file is
 * one terminal: the first channel with a pty, or else the first channel. */
#include <stdio.h>
#include <string.h>

#include "bastion/player/player.h"

#define LINES_MAX (4u << 20)	/* the largest record, every byte escaped */

struct cast {
	struct player *p;
	uint32_t chan;		/* 0: none chosen yet */
	bool is_sure;		/* it has a pty */
	unsigned cols, rows;
	char term[65];
	uint64_t others;	/* channels that are not exported */
	struct sp_buf out, held; /* held: the beginning of a character */
};

static void
consider(struct cast *c, const struct sp_rec_record *r)
{
	struct sp_open o;

	if (sp_open_decode(r->data, &o) != SP_OK)
		return;
	if (sp_open_is_forward(o.kind)) {
		c->others++;	/* no terminal, whatever it carried */
		return;
	}
	if (c->chan != 0 && (c->is_sure || o.has_pty == 0)) {
		c->others++;
		return;
	}
	c->others += c->chan != 0;
	c->chan = r->chan;
	c->is_sure = o.has_pty != 0;
	c->cols = c->is_sure && o.cols > 0 && o.cols <= 65535 ? o.cols : 80;
	c->rows = c->is_sure && o.rows > 0 && o.rows <= 65535 ? o.rows : 24;
	sp_vis(c->term, sizeof(c->term), o.term);
}

static enum sp_err
each(struct cast *c, enum sp_err (*fn)(struct cast *, struct sp_rec_record *))
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(c->p->file, &c->p->keys, &d));
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK &&
	    (e = fn(c, &r)) == SP_OK)
		;
	sp_rec_decoder_free(d);
	return e == SP_ERR_EOF ? SP_OK : e;
}

static enum sp_err
look(struct cast *c, struct sp_rec_record *r)
{
	if (r->lane == SP_LANE_OUT && r->kind == SP_RECORD_OPEN)
		consider(c, r);
	return SP_OK;
}

static enum sp_err
head(struct cast *c)
{
	char title[160], id[SP_UUID_TEXT];

	sp_uuid_text(id, c->p->report.session);
	snprintf(title, sizeof(title), "sallyport %s, exported for %s", id,
	    c->p->name);
	SP_TRY(sp_buf_printf(&c->out,
	    "{\"version\":2,\"width\":%u,\"height\":%u,\"timestamp\":%lld,"
	    "\"title\":", c->cols == 0 ? 80 : c->cols,
	    c->rows == 0 ? 24 : c->rows,
	    (long long)(c->p->report.opened_us / 1000000)));
	SP_TRY(json_string(&c->out, sp_span_str(title)));
	SP_TRY(sp_buf_printf(&c->out, ",\"env\":{\"TERM\":"));
	SP_TRY(json_string(&c->out, sp_span_str(c->term)));
	return sp_buf_printf(&c->out, "}}\n");
}

static enum sp_err
flush(struct cast *c)
{
	enum sp_err e = viewer_write(&c->p->view, 1, sp_buf_span(&c->out));

	sp_buf_reset(&c->out);
	return e;
}

static enum sp_err
event(struct cast *c, uint64_t at_us, char code, struct sp_span s)
{
	SP_TRY(sp_buf_printf(&c->out, "[%llu.%06llu,\"%c\",",
	    (unsigned long long)(at_us / 1000000),
	    (unsigned long long)(at_us % 1000000), code));
	SP_TRY(json_string(&c->out, s));
	return sp_buf_put(&c->out, "]\n", 2);
}

static enum sp_err
output(struct cast *c, const struct sp_rec_record *r)
{
	struct sp_span s;
	size_t later;

	SP_TRY(sp_buf_put(&c->held, r->data.p, r->data.n));
	s = sp_buf_span(&c->held);
	later = json_unfinished(s);
	s.n -= later;
	if (s.n > 0)
		SP_TRY(event(c, r->at_us, 'o', s));
	sp_buf_consume(&c->held, s.n);
	return SP_OK;
}

static enum sp_err
resize(struct cast *c, const struct sp_rec_record *r)
{
	struct sp_span p = r->data;
	uint32_t cols = 0, rows = 0;
	char size[32];

	SP_TRY(sp_get_u32(&p, &cols));
	SP_TRY(sp_get_u32(&p, &rows));
	snprintf(size, sizeof(size), "%ux%u", cols, rows);
	return event(c, r->at_us, 'r', sp_span_str(size));
}

static enum sp_err
emit(struct cast *c, struct sp_rec_record *r)
{
	if (r->chan != c->chan || r->lane != SP_LANE_OUT)
		return SP_OK;
	if (r->kind == SP_RECORD_OUT || r->kind == SP_RECORD_ERR)
		SP_TRY(output(c, r));
	else if (r->kind == SP_RECORD_RESIZE)
		SP_TRY(resize(c, r));
	return c->out.len > 65536 ? flush(c) : SP_OK;
}

enum sp_err
play_cast(struct player *p)
{
	struct cast c = {.p = p};
	char text[128];
	enum sp_err e;

	sp_buf_init(&c.out, LINES_MAX);
	sp_buf_init(&c.held, SP_REC_RAW_MAX + 8);
	e = each(&c, look);
	if (e == SP_OK)
		e = head(&c);
	if (e == SP_OK)
		e = each(&c, emit);
	if (c.out.len > 0 && e != SP_ERR_EOF && flush(&c) != SP_OK)
		e = SP_ERR_EOF;
	if (e == SP_OK && c.others > 0) {
		snprintf(text, sizeof(text),
		    "%llu more channels of this session are not in this export\n",
		    (unsigned long long)c.others);
		e = viewer_text(&p->view, 2, text);
	}
	sp_buf_fini(&c.out);
	sp_buf_fini(&c.held);
	return e;
}
