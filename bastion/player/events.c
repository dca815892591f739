/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/cover.h"
#include "bastion/player/events.h"
#include "bastion/player/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder/flow.h"
#include "recorder/sense/follow.h"
#include "recorder/view.h"

void
events_init(struct events *v)
{
	*v = (struct events){0};
	sp_buf_init(&v->bytes, EVENTS_BYTES);
}

void
events_fini(struct events *v)
{
	free(v->e);
	sp_buf_fini(&v->bytes);
	*v = (struct events){0};
}

struct sp_span
event_span(const struct events *v, struct event_text t)
{
	return t.n == 0 ? (struct sp_span){0} :
	    sp_span_of(sp_buf_span(&v->bytes).p + t.off, t.n);
}

const char *
event_name(enum event_kind kind)
{
	static const char *const name[] = {"row", "open", "command", "secret",
	    "file", "flow", "notice", "freeze", "resize", "exit", "gap",
	    "session", "end"};

	return name[kind];
}

static struct event_text
keep(struct events *v, struct sp_span s)
{
	struct event_text t = {.off = v->bytes.len, .n = s.n};

	if (s.n > 0 && sp_buf_put(&v->bytes, s.p, s.n) != SP_OK) {
		v->is_full = true;
		t.n = 0;
	}
	return t;
}

/* A place for one more; NULL when there is none. */
static struct event *
add(struct events *v, int64_t at_us, enum event_kind kind, uint32_t chan,
    struct sp_span text)
{
	size_t cap = v->cap == 0 ? 256 : v->cap * 2;
	struct event *e;

	if (v->n == v->cap) {
		if (cap > EVENTS_MAX || (e = calloc(cap, sizeof(*e))) == NULL) {
			v->is_full = true;
			return NULL;
		}
		if (v->n > 0)
			memcpy(e, v->e, v->n * sizeof(*e));
		free(v->e);
		v->e = e;
		v->cap = cap;
	}
	e = &v->e[v->n];
	*e = (struct event){.at_us = at_us, .order = v->n++, .kind = kind,
	    .chan = chan};
	e->text = keep(v, text);
	return e;
}

static int64_t
wall(const struct events *v, uint64_t at_us)
{
	return v->t0_us + (int64_t)(at_us > INT64_MAX / 4 ? INT64_MAX / 4 : at_us);
}

static struct event *
add_record(struct events *v, const struct sp_rec_record *r,
    enum event_kind kind, const char *text)
{
	return add(v, wall(v, r->at_us), kind, r->chan, sp_span_str(text));
}

static void
add_command(struct events *v, uint64_t at_us, uint32_t chan, uint8_t source,
    uint8_t percent, struct sp_span text, bool is_cut)
{
	struct event *e = add(v, wall(v, at_us), EVENT_COMMAND, chan, text);

	if (e == NULL)
		return;
	e->source = source;
	e->percent = percent;
	e->is_cut = is_cut;
}

static void
add_secret(struct events *v, uint64_t from_us, uint64_t to_us, uint32_t chan)
{
	struct event *e = add(v, wall(v, from_us), EVENT_SECRET, chan,
	    sp_span_str("keys typed unseen: ********"));
	char json[80];

	snprintf(json, sizeof(json), ",\"seconds\":%.3f", to_us < from_us ? 0.0 :
	    (double)(to_us - from_us) / 1e6);
	if (e != NULL)
		e->json = keep(v, sp_span_str(json));
}

/* ------------------------------------------------------------- one record */

static void
take_open(struct events *v, const struct sp_rec_record *r)
{
	struct sp_open o;
	char text[1500];

	if (sp_open_decode(r->data, &o) != SP_OK)
		return;
	if (sp_open_is_forward(o.kind))
		sp_flow_describe(text, sizeof(text), &o);
	else if (o.kind == SP_OPEN_SUBSYSTEM)
		snprintf(text, sizeof(text), "subsystem %.*s", (int)(o.command.n <
		    64 ? o.command.n : 64), (const char *)o.command.p);
	else if (o.has_pty != 0)
		snprintf(text, sizeof(text), "%s on a terminal of %u columns, %u "
		    "rows", sp_open_kind_name(o.kind), o.cols, o.rows);
	else
		snprintf(text, sizeof(text), "%s", sp_open_kind_name(o.kind));
	add_record(v, r, EVENT_OPEN, text);
	if (o.kind == SP_OPEN_EXEC && o.command.n > 0)
		add_command(v, r->at_us, r->chan, SP_VIEW_EXEC, 100, o.command,
		    false);
}

static void
take_file(struct events *v, const struct sp_rec_record *r)
{
	SP_BUF_AUTO json = {.max = 16384};
	char line[1700];
	struct event *e;

	file_line(line, sizeof(line), r->data);
	if (line[0] == '\0' || (e = add_record(v, r, EVENT_FILE, line)) == NULL)
		return;
	if (file_json(&json, r->data) == SP_OK)
		e->json = keep(v, sp_buf_span(&json));
}

static void
take_flow(struct events *v, const struct sp_rec_record *r)
{
	char text[600], json[160];
	struct event *e;
	struct sp_span s = r->data;
	uint64_t n[SP_FLOW_WAYS] = {0}, us = 0;
	const uint8_t *hash;

	if (s.n != SP_FLOW_RECORD_BYTES || sp_get_u64(&s, &us) != SP_OK)
		return;
	for (size_t i = 0; i < SP_FLOW_WAYS; i++)
		if (sp_get_u64(&s, &n[i]) != SP_OK || sp_get(&s, 32, &hash) !=
		    SP_OK)
			return;
	sp_flow_text(text, sizeof(text), "carried", r->data.p);
	if ((e = add_record(v, r, EVENT_FLOW, text)) == NULL)
		return;
	snprintf(json, sizeof(json), ",\"bytes_to_target\":%llu,"
	    "\"bytes_to_user\":%llu", (unsigned long long)n[SP_FLOW_TO_TARGET],
	    (unsigned long long)(n[SP_FLOW_TO_USER] + n[SP_FLOW_ERR]));
	e->json = keep(v, sp_span_str(json));
}

static void
take_small(struct events *v, const struct sp_rec_record *r)
{
	struct sp_span s = r->data;
	uint32_t a = 0, b = 0;
	char text[80];

	if (r->kind == SP_RECORD_RESIZE && sp_get_u32(&s, &a) == SP_OK &&
	    sp_get_u32(&s, &b) == SP_OK) {
		snprintf(text, sizeof(text), "%u columns, %u rows", a, b);
		add_record(v, r, EVENT_RESIZE, text);
	} else if (r->kind == SP_RECORD_EXIT && sp_get_u32(&s, &a) == SP_OK) {
		snprintf(text, sizeof(text), "status %u", a);
		add_record(v, r, EVENT_EXIT, text);
	}
}

static void
take_notice(struct events *v, const struct sp_rec_record *r)
{
	add(v, wall(v, r->at_us), is_of_freeze(r->data) ? EVENT_FREEZE :
	    EVENT_NOTICE, r->chan, r->data);
}

static void
take_end(struct events *v, const struct sp_rec_record *r)
{
	struct sp_span s = r->data, why = {0};
	uint8_t code = 0;

	if (sp_get_u8(&s, &code) != SP_OK)
		return;
	if (sp_get_bytes(&s, 4096, &why) != SP_OK)
		why = s;
	add(v, wall(v, r->at_us), EVENT_END, r->chan, why);
}

static void
take_derived(struct events *v, const struct sp_rec_record *r)
{
	struct sp_view_command c;
	struct sp_view_span t;

	if (r->kind == SP_VIEW_COMMAND && r->lane == SP_LANE_VIEW &&
	    sp_view_command_decode(r->data, &c) == SP_OK) {
		v->has_commands = true;
		/* The OPEN of an exec has told already. */
		if (c.source != SP_VIEW_EXEC)
			add_command(v, c.ago_us < r->at_us ? r->at_us - c.ago_us : 0,
			    r->chan, (uint8_t)c.source, c.percent, c.text, false);
	} else if (r->kind == SP_VIEW_SECRET && r->lane == SP_LANE_META &&
	    sp_view_span_decode(r->data, &t) == SP_OK) {
		add_secret(v, t.from_us, t.to_us, r->chan);
	} else if (r->kind == SP_VIEW_GAP && r->lane == SP_LANE_META &&
	    sp_view_span_decode(r->data, &t) == SP_OK) {
		v->has_gap = true;
		add(v, wall(v, t.from_us), EVENT_GAP, r->chan, t.why);
	}
}

static void
take(struct events *v, const struct sp_rec_record *r)
{
	switch (r->kind) {
	case SP_RECORD_META:
		add(v, wall(v, r->at_us), EVENT_SESSION, 0, r->data);
		break;
	case SP_RECORD_OPEN:
		take_open(v, r);
		break;
	case SP_RECORD_FILE:
		take_file(v, r);
		break;
	case SP_RECORD_FLOW:
		take_flow(v, r);
		break;
	case SP_RECORD_NOTICE:
		take_notice(v, r);
		break;
	case SP_RECORD_END:
		take_end(v, r);
		break;
	case SP_RECORD_COMMAND:
	case SP_RECORD_NOECHO:
	case SP_RECORD_GAP:
		take_derived(v, r);
		break;
	default:
		take_small(v, r);
		break;
	}
}

/* ---------------------------------------------------------- the recording */

static void
sensed_command(void *ctx, uint32_t chan, const struct sp_sense_command *c)
{
	if (c->source != SP_SENSE_EXEC)
		add_command(ctx, c->at_us, chan, (uint8_t)c->source, c->confidence,
		    c->text, c->is_cut);
}

static void
sensed_secret(void *ctx, uint32_t chan, const struct sp_sense_secret *s)
{
	add_secret(ctx, s->first_us, s->to_us, chan);
}

/* What nobody wrote down, or not all of it, is read off the keys and the output
 * here; what was written down of it gives way. */
static enum sp_err
read_again(struct events *v, struct player *p)
{
	struct sp_follow_ops ops = {.ctx = v, .command = sensed_command,
	    .secret = sensed_secret};
	struct sp_rec_decoder *d = NULL;
	struct sp_follow *f = NULL;
	struct sp_rec_record r;
	enum sp_err e, end;
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		if (v->e[i].kind != EVENT_SECRET && (v->e[i].kind !=
		    EVENT_COMMAND || v->e[i].source == SP_VIEW_EXEC))
			v->e[n++] = v->e[i];
	v->n = n;
	SP_TRY(sp_follow_new(&ops, &f));
	if ((e = sp_rec_decoder_new(p->file, &p->keys, &d)) == SP_OK)
		while ((e = cover_next(d, &r)) == SP_OK &&
		    (e = sp_follow_take(f, &r)) == SP_OK)
			;
	end = sp_follow_end(f);
	sp_rec_decoder_free(d);
	sp_follow_free(f);
	v->is_read_again = true;
	return e != SP_ERR_EOF && e != SP_OK ? e : end;
}

enum sp_err
events_read(struct events *v, struct player *p)
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	bool has_terminal = false;
	enum sp_err e, again = SP_OK;
	struct sp_open o;

	SP_TRY(sp_rec_decoder_new(p->file, &p->keys, &d));
	v->t0_us = sp_rec_decoder_header(d)->t0_wall_us;
	while ((e = cover_next(d, &r)) == SP_OK) {
		take(v, &r);
		has_terminal |= r.kind == SP_RECORD_OPEN &&
		    sp_open_decode(r.data, &o) == SP_OK && o.has_pty != 0;
	}
	sp_rec_decoder_free(d);
	if (has_terminal && (!v->has_commands || v->has_gap)) {
		v->keys_missing = !p->keys.has[SP_LANE_IN - 1];
		if (!v->keys_missing)
			again = read_again(v, p);
	}
	return e != SP_ERR_EOF ? e : again;
}

enum sp_err
events_rows(struct events *v, struct sp_span rows)
{
	while (rows.n > 0) {
		struct sp_span what, who, text;
		struct event *e;
		int64_t at_us;

		SP_TRY(sp_get_time(&rows, &at_us));
		SP_TRY(sp_get_str(&rows, 4096, &what));
		SP_TRY(sp_get_str(&rows, 4096, &who));
		SP_TRY(sp_get_str(&rows, 4096, &text));
		if ((e = add(v, at_us, EVENT_ROW, 0, text)) == NULL)
			return SP_OK;
		e->what = keep(v, what);
		e->who = keep(v, who);
	}
	return SP_OK;
}

static bool
is_before(const struct event *x, const struct event *y)
{
	return x->at_us != y->at_us ? x->at_us < y->at_us : x->order < y->order;
}

/* Shell's; qsort() asks for the machine's memory, which the filter refuses. */
void
events_sort(struct events *v)
{
	for (size_t gap = v->n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
		for (size_t i = gap; i < v->n; i++) {
			struct event x = v->e[i];
			size_t k = i;

			for (; k >= gap && is_before(&x, &v->e[k - gap]); k -= gap)
				v->e[k] = v->e[k - gap];
			v->e[k] = x;
		}
}
