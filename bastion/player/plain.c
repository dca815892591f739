/* SPDX-License-Identifier: Apache-2.0 */
/* A recording as text: what scrolled off each terminal and what stood on it at
 * the end, or as an export each line that stood there, once; the output of
 * commands without a terminal, line by line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/show.h"
#include "recorder/flow.h"
#include "recorder/scribe/lines.h"

#define LINE_MAX_BYTES 65536
#define SHOWN_MAX (LINE_MAX_BYTES * 12)

struct track {
	uint32_t chan;		/* 0: free */
	struct plain *in;
	struct sp_term *term;	/* with a pty, else NULL ... */
	struct sp_lines *lines;	/* ... or this one, for an export */
	struct sp_buf line[2];	/* stdout, stderr: what has no newline yet */
	bool is_small;
	bool is_mid_line;	/* the last line of the screen goes on */
};

struct plain {
	struct player *p;
	struct track track[SP_STREAM_CHANNELS_MAX];
	uint64_t channels;	/* seen in all: more than one are labelled */
	struct sp_buf out;
	enum sp_err e;		/* of a write inside a callback */
	int64_t at_us;		/* wall clock of the record */
	bool is_export, has_times;
};

static void
emit(struct plain *k, struct sp_span s)
{
	if (k->e == SP_OK)
		k->e = sp_buf_put(&k->out, s.p, s.n);
	if (k->e == SP_OK && k->out.len > 32768) {
		k->e = viewer_write(&k->p->view, 1, sp_buf_span(&k->out));
		sp_buf_reset(&k->out);
	}
}

static void
stamp(struct plain *k)
{
	char when[SP_TIME_TEXT];

	if (!k->has_times)
		return;
	sp_time_text(when, k->at_us, true);
	emit(k, sp_span_str(when));
	emit(k, sp_span_str("  "));
}

static void
label(struct plain *k, const struct track *t, bool is_err)
{
	char text[32];

	stamp(k);
	if (k->channels < 2 && !is_err)
		return;
	snprintf(text, sizeof(text), "[%u%s] ", t->chan, is_err ? " err" : "");
	emit(k, sp_span_str(text));
}

/* A line that scrolled off a terminal: cells are printable by construction. */
static void
screen_line(void *ctx, const struct sp_cell *cells, size_t n, bool is_wrapped)
{
	struct track *t = ctx;
	SP_BUF_AUTO b = {.max = SP_TERM_COLS_MAX * 16};

	if (sp_cells_text(cells, n, is_wrapped, &b) != SP_OK)
		return;
	if (!t->is_mid_line)
		label(t->in, t, false);
	emit(t->in, sp_buf_span(&b));
	t->is_mid_line = is_wrapped;
	if (!is_wrapped)
		emit(t->in, sp_span_str("\n"));
}

static void
dump_screen(struct track *t)
{
	unsigned rows = sp_term_rows(t->term), cols = sp_term_cols(t->term);
	unsigned last = 0;

	for (unsigned y = 0; y < rows; y++) {
		const struct sp_cell *c = sp_term_row(t->term, y);

		for (unsigned x = 0; x < cols; x++)
			if (c[x].ch != ' ' && c[x].ch != 0)
				last = y + 1;
	}
	for (unsigned y = 0; y < last; y++)
		screen_line(t, sp_term_row(t->term, y), cols,
		    sp_term_row_is_wrapped(t->term, y) && y + 1 < last);
	if (t->is_mid_line)
		emit(t->in, sp_span_str("\n"));
}

static void
whole_line(void *ctx, uint16_t row, struct sp_span text)
{
	struct track *t = ctx;
	SP_BUF_AUTO b = {.max = SHOWN_MAX};

	(void)row;
	if (sp_buf_put(&b, text.p, text.n) != SP_OK) {
		t->in->e = SP_ERR_NOMEM;
		return;
	}
	cover_text(b.p + b.off, b.len);
	label(t->in, t, false);
	emit(t->in, sp_buf_span(&b));
	emit(t->in, sp_span_str("\n"));
}

/* Text without a terminal: tabs and newlines stay, all else goes through
 * sp_vis. */
static void
text_line(struct plain *k, struct track *t, struct sp_span s, bool is_err,
    bool newline)
{
	char *vis = malloc(SHOWN_MAX);

	if (vis == NULL) {
		k->e = SP_ERR_NOMEM;
		return;
	}
	label(k, t, is_err);
	if (newline && s.n > 0 && s.p[s.n - 1] == '\r')
		s.n--;
	while (s.n > 0) {
		const uint8_t *tab = memchr(s.p, '\t', s.n);
		size_t n = tab == NULL ? s.n : (size_t)(tab - s.p);

		sp_vis(vis, SHOWN_MAX, sp_span_of(s.p, n));
		emit(k, sp_span_str(vis));
		if (tab != NULL) {
			emit(k, sp_span_str("\t"));
			n++;
		}
		s.p += n;
		s.n -= n;
	}
	emit(k, sp_span_str("\n"));
	free(vis);
}

static void
text(struct plain *k, struct track *t, struct sp_span s, bool is_err)
{
	struct sp_buf *b = &t->line[is_err];

	while (s.n > 0 && k->e == SP_OK) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl == NULL ? s.n : (size_t)(nl - s.p);
		size_t room = LINE_MAX_BYTES - b->len;
		bool is_cut = n > room;

		n = is_cut ? room : n;
		k->e = sp_buf_put(b, s.p, n);
		s.p += n;
		s.n -= n;
		if (nl == NULL && !is_cut)
			return;
		if (!is_cut) {
			s.p++;
			s.n--;
		}
		text_line(k, t, sp_buf_span(b), is_err, !is_cut);
		sp_buf_reset(b);
	}
}

static struct track *
find(struct plain *k, uint32_t chan)
{
	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		if (k->track[i].chan == chan)
			return &k->track[i];
	return NULL;
}

static void
end_track(struct track *t)
{
	if (t->term != NULL)
		dump_screen(t);
	if (t->lines != NULL)
		sp_lines_end(t->lines);
	for (int i = 0; i < 2; i++) {
		if (t->line[i].len > 0)
			text_line(t->in, t, sp_buf_span(&t->line[i]), i == 1, true);
		sp_buf_fini(&t->line[i]);
	}
	sp_term_free(t->term);
	sp_lines_free(t->lines);
	*t = (struct track){0};
}

static unsigned
n_terms(const struct plain *k)
{
	unsigned n = 0;

	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		n += k->track[i].term != NULL || k->track[i].lines != NULL;
	return n;
}

/* A forwarded connection is bytes of any protocol: what it was and what it
 * carried is said, in a line of its own. */
static void
say(struct plain *k, uint32_t chan, const char *what)
{
	char text[1700];

	stamp(k);
	snprintf(text, sizeof(text), "[%u] %s\n", chan & ~SP_STREAM_REVERSE, what);
	emit(k, sp_span_str(text));
}

static void
say_flow(struct plain *k, const struct sp_rec_record *r)
{
	char text[600];

	if (r->data.n != SP_FLOW_RECORD_BYTES)
		return;
	sp_flow_text(text, sizeof(text), "carried", r->data.p);
	say(k, r->chan, text);
}

static void
say_file(struct plain *k, const struct sp_rec_record *r)
{
	char text[1680];

	file_line(text, sizeof(text), r->data);
	if (text[0] != '\0')
		say(k, r->chan, text);
}

static void
begin_track(struct plain *k, const struct sp_rec_record *r)
{
	struct track *t = find(k, 0);
	struct sp_open o;
	char text[1500];

	if (r->chan == 0 || find(k, r->chan) != NULL ||
	    sp_open_decode(r->data, &o) != SP_OK)
		return;
	if (sp_open_is_forward(o.kind)) {
		sp_flow_describe(text, sizeof(text), &o);
		say(k, r->chan, text);
		return;
	}
	if (file_is_sftp(&o)) {
		say(k, r->chan, "sftp");
		return;
	}
	if (t == NULL) {
		/* Only a file that our recorder did not write has so many. */
		t = &k->track[0];
		end_track(t);
	}
	*t = (struct track){.chan = r->chan, .in = k};
	sp_buf_init(&t->line[0], LINE_MAX_BYTES);
	sp_buf_init(&t->line[1], LINE_MAX_BYTES);
	if (o.has_pty == 0)
		return;
	t->is_small = n_terms(k) >= STAGE_LARGE;
	stage_cap(t->is_small, &o.cols, &o.rows);
	k->e = k->is_export ? sp_lines_new(o.cols, o.rows, whole_line, t,
	    &t->lines) : sp_term_new(o.cols, o.rows, screen_line, t, &t->term);
}

static void
output(struct plain *k, const struct sp_rec_record *r)
{
	struct track *t = r->chan == 0 ? NULL : find(k, r->chan);

	if (t == NULL)
		return;
	if (t->lines != NULL)
		k->e = sp_lines_feed(t->lines, r->data);
	else if (t->term != NULL) {
		sp_term_feed(t->term, r->data);
		cover_term(t->term);
	} else
		text(k, t, r->data, r->kind == SP_RECORD_ERR);
}

static void
resize(struct plain *k, const struct sp_rec_record *r)
{
	struct track *t = r->chan == 0 ? NULL : find(k, r->chan);
	struct sp_span p = r->data;
	uint32_t cols = 0, rows = 0;

	if (t != NULL && (t->term != NULL || t->lines != NULL) &&
	    sp_get_u32(&p, &cols) == SP_OK && sp_get_u32(&p, &rows) == SP_OK &&
	    cols > 0 && rows > 0) {
		stage_cap(t->is_small, &cols, &rows);
		k->e = t->lines != NULL ? sp_lines_resize(t->lines, cols, rows) :
		    sp_term_resize(t->term, cols, rows);
	}
}

static void
one_record(struct plain *k, const struct sp_rec_record *r)
{
	struct track *t;

	if (r->lane != SP_LANE_OUT)
		return;
	k->at_us = k->p->report.opened_us + (int64_t)r->at_us;
	switch (r->kind) {
	case SP_RECORD_OPEN:
		begin_track(k, r);
		break;
	case SP_RECORD_OUT:
	case SP_RECORD_ERR:
		output(k, r);
		break;
	case SP_RECORD_FLOW:
		say_flow(k, r);
		break;
	case SP_RECORD_FILE:
		say_file(k, r);
		break;
	case SP_RECORD_RESIZE:
		resize(k, r);
		break;
	case SP_RECORD_CLOSE:
		/* The target's: after it nothing more can come out. */
		if (r->data.n == 1 && r->data.p[0] == 1 && r->chan != 0 &&
		    (t = find(k, r->chan)) != NULL)
			end_track(t);
		break;
	default:
		break;
	}
}

static enum sp_err
walk(struct plain *k, bool is_count)
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(k->p->file, &k->p->keys, &d));
	while (k->e == SP_OK && (e = cover_next(d, &r)) == SP_OK) {
		if (!is_count)
			one_record(k, &r);
		else if (r.lane == SP_LANE_OUT && r.kind == SP_RECORD_OPEN)
			k->channels++;
	}
	sp_rec_decoder_free(d);
	return k->e != SP_OK ? k->e : e == SP_ERR_EOF ? SP_OK : e;
}

enum sp_err
play_plain(struct player *p)
{
	struct plain *k = calloc(1, sizeof(*k));
	enum sp_err e;

	if (k == NULL)
		return SP_ERR_NOMEM;
	k->p = p;
	k->is_export = p->start.mode == SP_PLAY_TEXT;
	k->has_times = k->is_export && (p->start.what & SP_PLAY_TIMES) != 0;
	sp_buf_init(&k->out, 4u << 20);
	e = walk(k, true);
	/* What stands before a damaged place is shown all the same. */
	if (e != SP_ERR_NOMEM && e != SP_ERR_IO)
		e = walk(k, false);
	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		if (k->track[i].chan != 0)
			end_track(&k->track[i]);
	if (k->e == SP_OK)
		k->e = viewer_write(&p->view, 1, sp_buf_span(&k->out));
	if (e == SP_OK)
		e = k->e;
	sp_buf_fini(&k->out);
	free(k);
	return e;
}
