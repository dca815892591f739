/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/show.h"

struct actor *
stage_find(struct stage *s, uint32_t chan)
{
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (s->actor[i].chan == chan)
			return &s->actor[i];
	return NULL;
}

void
stage_free(struct stage *s)
{
	for (size_t i = 0; i < STAGE_MAX; i++)
		sp_term_free(s->actor[i].term);
	*s = (struct stage){.line = s->line, .ctx = s->ctx};
}

/* A free place, or that of a channel which is over, or the first. */
static struct actor *
place(struct stage *s)
{
	struct actor *a = stage_find(s, 0);

	for (size_t i = 0; a == NULL && i < STAGE_MAX; i++)
		if (!s->actor[i].is_open)
			a = &s->actor[i];
	if (a == NULL)
		a = &s->actor[0];
	sp_term_free(a->term);
	*a = (struct actor){0};
	return a;
}

static bool
focus_is_live(struct stage *s)
{
	struct actor *a = s->focus == 0 ? NULL : stage_find(s, s->focus);

	return a != NULL && a->is_open;
}

void
stage_cap(bool is_small, uint32_t *cols, uint32_t *rows)
{
	if (*cols == 0 || *rows == 0) {
		*cols = 80;
		*rows = 24;
	}
	if (is_small && *cols > 132)
		*cols = 132;
	if (is_small && *rows > 60)
		*rows = 60;
}

/* What is to be said of a channel in a list of them. */
static void
describe(struct actor *a, const struct sp_open *o)
{
	char text[WHAT_BYTES - 8] = "";

	sp_vis(text, sizeof(text), o->command);
	if (a->is_sftp || o->kind == SP_OPEN_SUBSYSTEM)
		snprintf(a->what, sizeof(a->what), "%s", a->is_sftp ? "sftp" : text);
	else if (o->kind == SP_OPEN_EXEC)
		snprintf(a->what, sizeof(a->what), "exec %s", text);
	else
		snprintf(a->what, sizeof(a->what), "shell");
}

static enum sp_err
enter(struct stage *s, const struct sp_rec_record *r)
{
	struct sp_open o;
	struct actor *a;

	if (r->chan == 0 || stage_find(s, r->chan) != NULL ||
	    sp_open_decode(r->data, &o) != SP_OK || sp_open_is_forward(o.kind))
		return SP_OK;
	if (o.has_pty == 0)
		o.cols = o.rows = 0;
	a = place(s);
	a->is_small = stage_n_channels(s) >= STAGE_LARGE;
	stage_cap(a->is_small, &o.cols, &o.rows);
	SP_TRY(sp_term_new(o.cols, o.rows, s->line, s->ctx, &a->term));
	a->chan = r->chan;
	a->is_pty = o.has_pty != 0;
	a->is_sftp = file_is_sftp(&o);
	describe(a, &o);
	a->is_open = true;
	if (!focus_is_live(s))
		s->focus = r->chan;
	return SP_OK;
}

/* Without a terminal a newline is all there is: no line discipline made it
 * return. */
static void
feed_lines(struct sp_term *t, struct sp_span s)
{
	while (s.n > 0) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl == NULL ? s.n : (size_t)(nl - s.p);

		sp_term_feed(t, sp_span_of(s.p, n));
		if (nl != NULL) {
			sp_term_feed(t, sp_span_of("\r\n", 2));
			n++;
		}
		s.p += n;
		s.n -= n;
	}
}

static enum sp_err
resize(struct actor *a, struct sp_span p)
{
	uint32_t cols = 0, rows = 0;

	if (sp_get_u32(&p, &cols) != SP_OK || sp_get_u32(&p, &rows) != SP_OK ||
	    cols == 0 || rows == 0)
		return SP_OK;
	stage_cap(a->is_small, &cols, &rows);
	return sp_term_resize(a->term, cols, rows);
}

static void
leave(struct stage *s, struct actor *a)
{
	a->is_open = false;
	if (s->focus != a->chan)
		return;
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (s->actor[i].chan != 0 && s->actor[i].is_open) {
			s->focus = s->actor[i].chan;
			return;
		}
}

static void
feed_file(struct sp_term *t, struct sp_span record)
{
	char text[1700];

	file_line(text, sizeof(text), record);
	if (text[0] == '\0')
		return;
	feed_lines(t, sp_span_str(text));
	feed_lines(t, sp_span_str("\n"));
}

enum sp_err
stage_feed(struct stage *s, const struct sp_rec_record *r, bool *changed)
{
	struct actor *a;

	s->at_us = r->at_us;
	if (r->lane != SP_LANE_OUT)
		return SP_OK;
	if (r->kind == SP_RECORD_OPEN) {
		*changed = true;
		return enter(s, r);
	}
	if (r->chan == 0 || (a = stage_find(s, r->chan)) == NULL)
		return SP_OK;
	if (r->at_us <= a->since_us && (r->kind == SP_RECORD_OUT ||
	    r->kind == SP_RECORD_ERR || r->kind == SP_RECORD_RESIZE))
		return SP_OK;
	*changed = true;
	s->feeding = r->chan;
	switch (r->kind) {
	case SP_RECORD_FILE:
		feed_file(a->term, r->data);
		return SP_OK;
	case SP_RECORD_OUT:
	case SP_RECORD_ERR:
		if (a->is_sftp && r->kind == SP_RECORD_OUT)
			return SP_OK;
		s->fed += r->data.n;
		if (a->is_pty)
			sp_term_feed(a->term, r->data);
		else
			feed_lines(a->term, r->data);
		cover_term(a->term);
		return SP_OK;
	case SP_RECORD_RESIZE:
		return resize(a, r->data);
	case SP_RECORD_CLOSE:
		if (r->data.n == 1 && r->data.p[0] == 1)
			leave(s, a);
		return SP_OK;
	default:
		return SP_OK;
	}
}

const struct actor *
stage_actor(const struct stage *s, uint32_t chan)
{
	if (chan == 0)
		chan = s->focus;
	for (size_t i = 0; chan != 0 && i < STAGE_MAX; i++)
		if (s->actor[i].chan == chan)
			return &s->actor[i];
	return NULL;
}

struct sp_term *
stage_shown(const struct stage *s, uint32_t chan)
{
	const struct actor *a = stage_actor(s, chan);

	return a == NULL ? NULL : a->term;
}

unsigned
stage_n_channels(const struct stage *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < STAGE_MAX; i++)
		n += s->actor[i].chan != 0;
	return n;
}
