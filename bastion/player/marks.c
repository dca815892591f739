/* SPDX-License-Identifier: Apache-2.0 */
/* What happened when: commands, files, resizes, approvals, freezes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/player/show.h"
#include "recorder/view.h"

#define MARKS_MAX 65536		/* what comes later is not marked */
#define TEXTS_MAX (8u << 20)
#define TEXT_BYTES 200

void
marks_init(struct marks *k)
{
	*k = (struct marks){0};
	sp_buf_init(&k->texts, TEXTS_MAX);
}

void
marks_fini(struct marks *k)
{
	free(k->m);
	sp_buf_fini(&k->texts);
	*k = (struct marks){0};
}

const char *
marks_text(const struct marks *k, const struct mark *m)
{
	return (const char *)sp_buf_span(&k->texts).p + m->text;
}

static bool
grow(struct marks *k)
{
	size_t cap = k->cap == 0 ? 256 : k->cap * 2;
	struct mark *m;

	if (k->n < k->cap)
		return true;
	if (cap > MARKS_MAX || (m = calloc(cap, sizeof(*m))) == NULL)
		return false;
	if (k->n > 0)
		memcpy(m, k->m, k->n * sizeof(*m));
	free(k->m);
	k->m = m;
	k->cap = cap;
	return true;
}

/* What was derived comes later than what it was derived from. */
static void
add(struct marks *k, uint64_t at_us, char kind, uint32_t chan, const char *text)
{
	size_t i, n = strlen(text) + 1;
	uint32_t at = (uint32_t)k->texts.len;

	if (!grow(k) || sp_buf_put(&k->texts, text, n) != SP_OK)
		return;
	for (i = k->n; i > 0 && k->m[i - 1].at_us > at_us; i--)
		k->m[i] = k->m[i - 1];
	k->m[i] = (struct mark){.at_us = at_us, .kind = kind, .chan = chan,
	    .text = at};
	k->n++;
}

/* Those that were made up from keys give way to those of lane VIEW. */
static void
drop_guesses(struct marks *k)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n; i++)
		if (k->m[i].kind != MARK_COMMAND ||
		    marks_text(k, &k->m[i])[0] != '\0')
			k->m[n++] = k->m[i];
	k->n = n;
	k->has_commands = true;
}

static void
take_command(struct marks *k, const struct sp_rec_record *r)
{
	struct sp_view_command c;
	char text[TEXT_BYTES];

	if (r->lane == SP_LANE_IN || r->lane == SP_LANE_OUT ||
	    sp_view_command_decode(r->data, &c) != SP_OK)
		return;
	if (!k->has_commands)
		drop_guesses(k);
	/* The OPEN of an exec has told already. */
	if (c.source == SP_VIEW_EXEC)
		return;
	add(k, c.ago_us < r->at_us ? r->at_us - c.ago_us : 0, MARK_COMMAND, r->chan, sp_vis(text, sizeof(text),
	    c.text));
}

static void
take_open(struct marks *k, const struct sp_rec_record *r)
{
	struct sp_open o;
	char text[TEXT_BYTES];

	if (sp_open_decode(r->data, &o) == SP_OK && o.kind == SP_OPEN_EXEC &&
	    o.command.n > 0)
		add(k, r->at_us, MARK_COMMAND, r->chan, sp_vis(text,
		    sizeof(text), o.command));
}

static void
take_resize(struct marks *k, const struct sp_rec_record *r)
{
	struct sp_span p = r->data;
	uint32_t cols = 0, rows = 0;
	char text[48];

	if (sp_get_u32(&p, &cols) != SP_OK || sp_get_u32(&p, &rows) != SP_OK)
		return;
	snprintf(text, sizeof(text), "%u columns, %u rows", cols, rows);
	add(k, r->at_us, MARK_RESIZE, r->chan, text);
}

static void
take_file(struct marks *k, const struct sp_rec_record *r)
{
	char line[1700], text[TEXT_BYTES];

	file_line(line, sizeof(line), r->data);
	snprintf(text, sizeof(text), "%.190s", line);
	if (text[0] != '\0')
		add(k, r->at_us, MARK_FILE, r->chan, text);
}

/* "Sallyport: NAME froze this session: WHY." A name has no colon, and what a
 * person says stands behind one. */
bool
is_of_freeze(struct sp_span notice)
{
	static const char by[] = "Sallyport: ";
	static const char *const deeds[] = {" froze this session",
	    " resumed this session"};
	const uint8_t *colon;
	size_t n;

	if (notice.n < sizeof(by) || memcmp(notice.p, by, sizeof(by) - 1) != 0)
		return false;
	notice = sp_span_of(notice.p + sizeof(by) - 1, notice.n - sizeof(by) + 1);
	colon = memchr(notice.p, ':', notice.n);
	n = colon == NULL ? notice.n : (size_t)(colon - notice.p);
	for (size_t i = 0; i < 2; i++)
		if (memmem(notice.p, n, deeds[i], strlen(deeds[i])) != NULL)
			return true;
	return false;
}

static void
take_notice(struct marks *k, const struct sp_rec_record *r)
{
	char text[TEXT_BYTES];

	add(k, r->at_us, is_of_freeze(r->data) ? MARK_FREEZE : MARK_NOTICE,
	    r->chan, sp_vis(text, sizeof(text), r->data));
}

/* Who let this session be stands in its first record. */
static void
take_meta(struct marks *k, const struct sp_rec_record *r)
{
	static const char key[] = "\"grant\":\"";
	const uint8_t *g = memmem(r->data.p, r->data.n, key, sizeof(key) - 1);
	char text[TEXT_BYTES], id[40];
	size_t left;

	if (g == NULL)
		return;
	g += sizeof(key) - 1;
	left = r->data.n - (size_t)(g - r->data.p);
	sp_vis(id, sizeof(id), sp_span_of(g, left < 36 ? left : 36));
	snprintf(text, sizeof(text), "approved: grant %s", id);
	add(k, r->at_us, MARK_APPROVAL, 0, text);
}

/* Enter, where nobody has derived what stood there. */
static void
take_keys(struct marks *k, const struct sp_rec_record *r)
{
	bool is_enter = r->data.n > 0 && (r->data.p[r->data.n - 1] == '\r' ||
	    r->data.p[r->data.n - 1] == '\n');

	if (!k->has_commands && is_enter && !k->is_enter)
		add(k, r->at_us, MARK_COMMAND, r->chan, "");
	k->is_enter = is_enter;
}

void
marks_take(struct marks *k, const struct sp_rec_record *r)
{
	struct sp_view_span t;

	switch (r->kind) {
	case SP_RECORD_OPEN:
		take_open(k, r);
		break;
	case SP_RECORD_IN:
		if (r->data.n <= 4096)
			take_keys(k, r);
		break;
	case SP_RECORD_RESIZE:
		take_resize(k, r);
		break;
	case SP_RECORD_FILE:
		take_file(k, r);
		break;
	case SP_RECORD_NOTICE:
		take_notice(k, r);
		break;
	case SP_RECORD_META:
		take_meta(k, r);
		break;
	case SP_VIEW_COMMAND:
		take_command(k, r);
		break;
	case SP_VIEW_SECRET:
		if (sp_view_span_decode(r->data, &t) == SP_OK)
			add(k, t.from_us, MARK_SECRET, r->chan,
			    "keys typed unseen: ********");
		break;
	default:
		break;
	}
}

void
marks_false(struct marks *k, const struct proof_false *f)
{
	char text[TEXT_BYTES];

	snprintf(text, sizeof(text), "the scribe's screen is FALSE: %s",
	    proof_why(f->why));
	add(k, f->at_us, MARK_FALSE, f->chan, text);
}

static bool
fits(const struct mark *m, char kind)
{
	return kind == 0 || m->kind == kind;
}

const struct mark *
marks_next(const struct marks *k, uint64_t at_us, char kind)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->m[i].at_us > at_us && fits(&k->m[i], kind))
			return &k->m[i];
	return NULL;
}

const struct mark *
marks_prev(const struct marks *k, uint64_t at_us, char kind)
{
	for (size_t i = k->n; i > 0; i--)
		if (k->m[i - 1].at_us < at_us && fits(&k->m[i - 1], kind))
			return &k->m[i - 1];
	return NULL;
}
