/* SPDX-License-Identifier: Apache-2.0 */
/* Export as asciicast v2 and v3 (docs.asciinema.org/manual/asciicast/v2, /v3).
 * One file is one terminal: the first channel with a pty, or else the first
 * channel. Markers are what the marks of a replay are. */
#include <stdio.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/show.h"
#include "bastion/player/veil.h"

#define LINES_MAX (4u << 20)	/* the largest record, every byte escaped */

struct held {
	struct sp_buf b;	/* the beginning of a character */
	uint64_t at_us;
};

struct cast {
	struct player *p;
	bool is_3;
	uint32_t chan;		/* 0: none chosen yet */
	bool is_sure;		/* it has a pty */
	unsigned cols, rows;
	char term[65], command[1024];
	uint64_t others;	/* channels that are not exported */
	uint64_t at_us;		/* of the last event */
	struct marks marks;
	size_t mark;		/* the next one */
	struct veil veil;
	struct sp_buf out;
	struct held held[2];	/* of output, of input */
	bool has_exit;
	uint32_t exit;
	uint64_t exit_us;
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
	sp_vis(c->command, sizeof(c->command), o.command);
}

static enum sp_err
each(struct cast *c, enum sp_err (*fn)(struct cast *, struct sp_rec_record *))
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(c->p->file, &c->p->keys, &d));
	while ((e = cover_next(d, &r)) == SP_OK &&
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
	/* A resize is an event of its own. */
	if (r->kind != SP_RECORD_RESIZE)
		marks_take(&c->marks, r);
	return SP_OK;
}

/* -------------------------------------------------------------------- head */

static enum sp_err
string_of(struct cast *c, const char *key, const char *value)
{
	SP_TRY(sp_buf_printf(&c->out, ",\"%s\":", key));
	return json_string(&c->out, sp_span_str(value));
}

static enum sp_err
head(struct cast *c)
{
	unsigned cols = c->cols == 0 ? 80 : c->cols, rows = c->rows == 0 ? 24 : c->rows;
	long long opened_s = (long long)(c->p->report.opened_us / 1000000);
	char title[160], id[SP_UUID_TEXT];

	sp_uuid_text(id, c->p->report.session);
	snprintf(title, sizeof(title), "sallyport %s, exported for %s", id,
	    c->p->name);
	if (c->is_3) {
		SP_TRY(sp_buf_printf(&c->out, "{\"version\":3,\"term\":{\"cols\":%u,"
		    "\"rows\":%u", cols, rows));
		if (c->term[0] != '\0')
			SP_TRY(string_of(c, "type", c->term));
		SP_TRY(sp_buf_printf(&c->out, "},\"timestamp\":%lld", opened_s));
	} else {
		SP_TRY(sp_buf_printf(&c->out, "{\"version\":2,\"width\":%u,"
		    "\"height\":%u,\"timestamp\":%lld", cols, rows, opened_s));
	}
	if (c->command[0] != '\0')
		SP_TRY(string_of(c, "command", c->command));
	SP_TRY(string_of(c, "title", title));
	if (!c->is_3) {
		SP_TRY(sp_buf_printf(&c->out, ",\"env\":{\"TERM\":"));
		SP_TRY(json_string(&c->out, sp_span_str(c->term)));
		SP_TRY(sp_buf_put_u8(&c->out, '}'));
	}
	return sp_buf_put(&c->out, "}\n", 2);
}

/* ------------------------------------------------------------------ events */

static enum sp_err
flush(struct cast *c)
{
	enum sp_err e = viewer_write(&c->p->view, 1, sp_buf_span(&c->out));

	sp_buf_reset(&c->out);
	return e;
}

/* v2 counts from the beginning, v3 from the event before. */
static enum sp_err
event(struct cast *c, uint64_t at_us, char code, struct sp_span s)
{
	uint64_t us;

	if (at_us < c->at_us)
		at_us = c->at_us;
	us = c->is_3 ? at_us - c->at_us : at_us;
	c->at_us = at_us;
	SP_TRY(sp_buf_printf(&c->out, "[%llu.%06llu,\"%c\",",
	    (unsigned long long)(us / 1000000),
	    (unsigned long long)(us % 1000000), code));
	SP_TRY(json_string(&c->out, s));
	return sp_buf_put(&c->out, "]\n", 2);
}

static enum sp_err
marks_before(struct cast *c, uint64_t at_us)
{
	while (c->mark < c->marks.n && c->marks.m[c->mark].at_us <= at_us) {
		const struct mark *m = &c->marks.m[c->mark++];
		const char *text = marks_text(&c->marks, m);

		/* An Enter that nobody read, what another channel did. */
		if (text[0] == '\0' || (m->chan != 0 && m->chan != c->chan &&
		    m->kind == MARK_COMMAND))
			continue;
		SP_TRY(event(c, m->at_us, 'm', sp_span_str(text)));
	}
	return SP_OK;
}

static enum sp_err
bytes(struct cast *c, const struct sp_rec_record *r, char code)
{
	struct held *h = &c->held[code == 'i'];
	struct sp_span s;

	SP_TRY(sp_buf_put(&h->b, r->data.p, r->data.n));
	h->at_us = r->at_us;
	s = sp_buf_span(&h->b);
	s.n -= json_unfinished(s);
	if (s.n > 0)
		SP_TRY(event(c, r->at_us, code, s));
	sp_buf_consume(&h->b, s.n);
	return SP_OK;
}

/* A character that never ended. */
static enum sp_err
leftover(struct cast *c)
{
	for (int i = 0; i < 2; i++) {
		struct sp_span s = sp_buf_span(&c->held[i].b);

		if (s.n > 0)
			SP_TRY(event(c, c->held[i].at_us, i == 0 ? 'o' : 'i', s));
		sp_buf_reset(&c->held[i].b);
	}
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

/* v3: the last event, though output may follow it. */
static void
take_exit(struct cast *c, const struct sp_rec_record *r)
{
	struct sp_span p = r->data;

	c->has_exit = sp_get_u32(&p, &c->exit) == SP_OK;
	c->exit_us = r->at_us;
}

static enum sp_err
end(struct cast *c)
{
	char text[16];

	SP_TRY(marks_before(c, UINT64_MAX));
	SP_TRY(leftover(c));
	if (!c->is_3 || !c->has_exit)
		return SP_OK;
	snprintf(text, sizeof(text), "%u", c->exit);
	return event(c, c->exit_us, 'x', sp_span_str(text));
}

static enum sp_err
emit(struct cast *c, struct sp_rec_record *r)
{
	SP_TRY(marks_before(c, r->at_us));
	if (r->chan != c->chan)
		return SP_OK;
	SP_TRY(veil_record(&c->veil, r));
	if (r->lane == SP_LANE_IN && r->kind == SP_RECORD_IN)
		SP_TRY(bytes(c, r, 'i'));
	if (r->lane == SP_LANE_OUT && (r->kind == SP_RECORD_OUT ||
	    r->kind == SP_RECORD_ERR))
		SP_TRY(bytes(c, r, 'o'));
	else if (r->lane == SP_LANE_OUT && r->kind == SP_RECORD_RESIZE)
		SP_TRY(resize(c, r));
	else if (r->lane == SP_LANE_OUT && r->kind == SP_RECORD_EXIT)
		take_exit(c, r);
	return c->out.len > 65536 ? flush(c) : SP_OK;
}

/* Chunks of different lanes follow each other in the file as they were sealed:
 * keys and output are read side by side and put into one order. */
static enum sp_err
merge(struct cast *c)
{
	struct sp_rec_lane_keys keys[2] = {{.has = {0}}, {.has = {0}}};
	struct sp_rec_decoder *d[2] = {NULL, NULL};
	struct sp_rec_record r[2];
	enum sp_err e[2];

	keys[0] = c->p->keys;
	keys[0].has[SP_LANE_IN - 1] = false;
	if (c->p->keys.has[SP_LANE_IN - 1]) {
		keys[1].has[SP_LANE_IN - 1] = true;
		memcpy(keys[1].key[SP_LANE_IN - 1], c->p->keys.key[SP_LANE_IN - 1],
		    32);
	}
	for (int i = 0; i < 2; i++) {
		e[i] = i == 1 && !keys[1].has[SP_LANE_IN - 1] ? SP_ERR_EOF :
		    sp_rec_decoder_new(c->p->file, &keys[i], &d[i]);
		if (e[i] == SP_OK)
			e[i] = cover_next(d[i], &r[i]);
	}
	while (e[0] == SP_OK || e[1] == SP_OK) {
		int i = e[0] != SP_OK || (e[1] == SP_OK &&
		    r[1].at_us < r[0].at_us);

		if ((e[i] = emit(c, &r[i])) != SP_OK)
			break;
		e[i] = cover_next(d[i], &r[i]);
	}
	sp_rec_decoder_free(d[0]);
	sp_rec_decoder_free(d[1]);
	explicit_bzero(keys, sizeof(keys));
	return e[0] != SP_OK && e[0] != SP_ERR_EOF ? e[0] :
	    e[1] == SP_ERR_EOF ? SP_OK : e[1];
}

static enum sp_err
run(struct cast *c)
{
	enum sp_err e = veil_open(&c->veil, c->p);

	if (e == SP_OK)
		e = each(c, look);
	if (e == SP_OK)
		e = head(c);
	if (e == SP_OK)
		e = merge(c);
	if (e == SP_OK)
		e = end(c);
	if (c->out.len > 0 && e != SP_ERR_EOF && flush(c) != SP_OK)
		e = SP_ERR_EOF;
	return e;
}

enum sp_err
play_cast(struct player *p)
{
	struct cast c = {.p = p, .is_3 = p->start.mode == SP_PLAY_ASCIICAST3};
	char text[128];
	enum sp_err e;

	sp_buf_init(&c.out, LINES_MAX);
	sp_buf_init(&c.held[0].b, SP_REC_RAW_MAX + 8);
	sp_buf_init(&c.held[1].b, SP_REC_RAW_MAX + 8);
	marks_init(&c.marks);
	e = run(&c);
	if (e == SP_OK && c.others > 0) {
		snprintf(text, sizeof(text),
		    "%llu more channels of this session are not in this export\n",
		    (unsigned long long)c.others);
		e = viewer_text(&p->view, 2, text);
	}
	veil_close(&c.veil);
	marks_fini(&c.marks);
	sp_buf_fini(&c.out);
	sp_buf_fini(&c.held[0].b);
	sp_buf_fini(&c.held[1].b);
	return e;
}
