/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a reading, where a line begins on the screen, and what is told. */
#include <stdlib.h>
#include <string.h>

#include "recorder/sense/internal.h"

const char *
sp_sense_source_name(uint8_t source)
{
	static const char *const name[] = {"?", "screen", "mark", "exec"};

	return name[source <= SP_SENSE_EXEC ? source : 0];
}

static void
scrolled(void *ctx, const struct sp_cell *cells, size_t n, bool is_wrapped)
{
	struct sp_sense *s = ctx;

	s->scrolled++;
	if (s->ops.line != NULL)
		s->ops.line(s->ops.ctx, cells, n, is_wrapped);
}

/* All the room that parsing will ever want. */
static enum sp_err
make_room(struct sp_sense *s)
{
	uint8_t *p;

	sp_buf_init(&s->held, SP_SENSE_LINE_MAX);
	sp_buf_init(&s->mark.text, OSC_MAX);
	sp_buf_init(&s->at, SCREEN_TEXT_MAX);
	sp_buf_init(&s->whole, SCREEN_TEXT_MAX);
	SP_TRY(sp_buf_reserve(&s->held, SP_SENSE_LINE_MAX, &p));
	SP_TRY(sp_buf_reserve(&s->mark.text, OSC_MAX, &p));
	SP_TRY(sp_buf_reserve(&s->at, SCREEN_TEXT_MAX, &p));
	return sp_buf_reserve(&s->whole, SCREEN_TEXT_MAX, &p);
}

enum sp_err
sp_sense_new(unsigned cols, unsigned rows, const struct sp_sense_ops *ops,
    struct sp_sense **out)
{
	struct sp_sense *s = calloc(1, sizeof(*s));
	enum sp_err e;

	if (s == NULL)
		return SP_ERR_NOMEM;
	s->ops = *ops;
	e = make_room(s);
	if (e == SP_OK)
		e = sp_term_new(cols, rows, scrolled, s, &s->term);
	if (e != SP_OK) {
		sp_sense_free(s);
		return e;
	}
	*out = s;
	return SP_OK;
}

void
sp_sense_free(struct sp_sense *s)
{
	if (s == NULL)
		return;
	if (s->term != NULL)
		sp_term_free(s->term);
	sp_buf_fini(&s->held);
	sp_buf_fini(&s->mark.text);
	sp_buf_fini(&s->at);
	sp_buf_fini(&s->whole);
	explicit_bzero(s, sizeof(*s));	/* what was typed */
	free(s);
}

const struct sp_term *
sp_sense_term(const struct sp_sense *s)
{
	return s->term;
}

enum sp_err
sp_sense_load(struct sp_sense *s, struct sp_span keyframe)
{
	struct sp_term *t = NULL;

	SP_TRY(sp_term_load(keyframe, scrolled, s, &t));
	sp_term_free(s->term);
	s->term = t;
	sp_sense_flush(s);
	s->n = 0;
	s->key = KEY_PLAIN;
	s->out = OUT_GROUND;
	s->in_paste = s->has_motion = s->mark.has_start = s->mark.is_owed = false;
	s->n_text = s->n_last = 0;
	return SP_OK;
}

enum sp_err
sp_sense_resize(struct sp_sense *s, unsigned cols, unsigned rows)
{
	/* Rows move: a line is found by its prompt again. */
	for (size_t i = 0; i < s->n; i++)
		s->line[i].has_start = false;
	s->mark.has_start = false;
	return sp_term_resize(s->term, cols, rows);
}

void
sp_sense_start(struct sp_sense *s, struct line *l)
{
	bool is_visible;
	unsigned x, y;

	sp_term_cursor(s->term, &x, &y, &is_visible);
	l->in_alternate = sp_term_is_alternate(s->term);
	l->row = sp_sense_row(s, y);
	l->col = x;
	sp_buf_reset(&s->at);
	if (x >= sp_term_cols(s->term) || sp_cells_text(sp_term_row(s->term, y),
	    x, true, &s->at) != SP_OK || s->at.len > PROMPT_MAX)
		return;
	/* Behind another line that has no answer yet, nothing is known. */
	l->has_start = !l->is_behind;
	l->n_prompt = s->at.len;
	if (l->n_prompt > 0)
		memcpy(l->prompt, sp_buf_span(&s->at).p, l->n_prompt);
}

/* Its keys went to what ran on the other screen, all that can have arrived. */
void
sp_sense_switched(struct sp_sense *s)
{
	struct line *l;
	size_t n = 0;

	while (n < s->n && s->line[n].is_entered &&
	    !sp_sense_is_early(s, &s->line[n]))
		n++;
	sp_sense_judge(s, n);
	for (size_t i = 0; i < s->n; i++)
		s->line[i].has_start = false;
	s->mark.has_start = false;
	if ((l = sp_sense_open_line(s)) == NULL)
		return;
	if (s->n == 1 && l->last_us + s->rtt_us < s->now_us &&
	    !sp_sense_is_silent(l))
		s->n = 0;
	else
		l->is_plain = false;
}

/* ------------------------------------------------------------------ telling */

void
sp_sense_flush(struct sp_sense *s)
{
	if (!s->is_held)
		return;
	s->is_held = false;
	s->command.text = sp_buf_span(&s->held);
	s->ops.command(s->ops.ctx, &s->command);
}

void
sp_sense_hold(struct sp_sense *s, const struct sp_sense_command *c)
{
	struct sp_span t = c->text;
	bool is_cut = t.n > SP_SENSE_LINE_MAX;

	sp_sense_flush(s);
	while (t.n > SP_SENSE_LINE_MAX || (is_cut && t.n > 0 &&
	    (t.p[t.n] & 0xc0) == 0x80))
		t.n--;
	sp_buf_reset(&s->held);
	if (sp_buf_put(&s->held, t.p, t.n) != SP_OK)
		return;
	s->command = *c;
	s->command.is_cut |= is_cut;
	s->is_held = true;
}
