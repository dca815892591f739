/* SPDX-License-Identifier: Apache-2.0 */
/* A session's events as one timeline; its commands as CSV or JSON. */
#include <stdio.h>
#include <string.h>

#include "bastion/player/events.h"
#include "recorder/sense/sense.h"

#define WORD_MS 30000
#define FLUSH_BYTES 32768
#define SHOWN_MAX 16384		/* of one text, encoded */

struct page {
	struct player *p;
	struct events *v;
	struct sp_buf out;
	char shown[SHOWN_MAX];
};

static enum sp_err
flush(struct page *g, size_t least)
{
	if (g->out.len < least)
		return SP_OK;
	SP_TRY(viewer_write(&g->p->view, 1, sp_buf_span(&g->out)));
	sp_buf_reset(&g->out);
	return SP_OK;
}

/* ------------------------------------------------------------- for people */

static const char *
colour_of(const struct page *g, const struct event *e)
{
	static const char *const colours[] = {[EVENT_COMMAND] = "\033[1m",
	    [EVENT_SECRET] = "\033[35m", [EVENT_FILE] = "\033[36m",
	    [EVENT_FLOW] = "\033[36m", [EVENT_NOTICE] = "\033[33m",
	    [EVENT_FREEZE] = "\033[31m", [EVENT_GAP] = "\033[31m",
	    [EVENT_ROW] = "\033[2m", [EVENT_END] = "\033[1m"};
	const char *c = (size_t)e->kind < sizeof(colours) / sizeof(colours[0]) ?
	    colours[e->kind] : NULL;

	return g->p->view.has_pty && !g->p->view.is_dumb && c != NULL ? c : "";
}

/* The end of the string that begins at i, behind its quote; the escapes stay. */
static size_t
string_end(struct sp_span s, size_t i)
{
	for (i++; i < s.n && s.p[i] != '"'; i++)
		if (s.p[i] == '\\')
			i++;
	return i < s.n ? i + 1 : s.n;
}

/* Members that say nothing that other lines don't, or nothing to people. */
static bool
is_known(struct sp_span key)
{
	static const char *const known[] = {"person", "account", "target",
	    "session", "policy", "header", "recording_key", "head", "key"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (sp_span_is(key, known[i]))
			return true;
	return false;
}

/* The members of an object, `key=value` one after the other; what is no object
 * stays as it is. */
static enum sp_err
flat(struct sp_span s, struct sp_buf *out)
{
	size_t i = 1, key, at;

	if (s.n < 2 || s.p[0] != '{' || s.p[1] != '"')
		return sp_buf_put(out, s.p, s.n);
	while (i < s.n && s.p[i] == '"') {
		struct sp_span name, value;

		key = i;
		i = string_end(s, i);
		name = sp_span_of(s.p + key + 1, i - key - 2);
		at = ++i;		/* behind the colon */
		while (i < s.n && s.p[i] != ',' && s.p[i] != '}')
			i = s.p[i] == '"' ? string_end(s, i) : i + 1;
		if (i > s.n || at >= i)
			break;
		value = s.p[at] == '"' && i - at >= 2 ?
		    sp_span_of(s.p + at + 1, i - at - 2) :
		    sp_span_of(s.p + at, i - at);
		if (!is_known(name) && value.n > 0) {
			SP_TRY(sp_buf_printf(out, "%s", out->len > 0 ? ", " : ""));
			SP_TRY(sp_buf_put(out, name.p, name.n));
			SP_TRY(sp_buf_put_u8(out, '='));
			SP_TRY(sp_buf_put(out, value.p, value.n));
		}
		i++;			/* behind the comma */
	}
	return SP_OK;
}

static enum sp_err
put_line(struct page *g, const struct event *e)
{
	const char *colour = colour_of(g, e);
	struct sp_span what = event_span(g->v, e->what);
	SP_BUF_AUTO text = {.max = 65536};
	char when[SP_TIME_TEXT], sure[8] = "", name[40], who[160];

	sp_time_text(when, e->at_us, false);
	if (e->kind == EVENT_COMMAND)
		snprintf(sure, sizeof(sure), "%u%%", e->percent);
	if (what.n > 0)
		sp_vis(name, sizeof(name), what);
	else
		snprintf(name, sizeof(name), "%s", event_name(e->kind));
	sp_vis(who, sizeof(who), event_span(g->v, e->who));
	if (e->kind == EVENT_ROW || e->kind == EVENT_SESSION)
		SP_TRY(flat(event_span(g->v, e->text), &text));
	sp_vis(g->shown, sizeof(g->shown), text.len > 0 ? sp_buf_span(&text) :
	    event_span(g->v, e->text));
	return sp_buf_printf(&g->out, "%s  %s%-14s%s%4s  %s%s%s%s\n", when, colour,
	    name, colour[0] != '\0' ? "\033[0m" : "", sure, who,
	    who[0] != '\0' ? ": " : "", g->shown, e->is_cut ? " [cut]" : "");
}

static enum sp_err
people(struct page *g)
{
	for (size_t i = 0; i < g->v->n; i++) {
		/* Those who look for what was done don't look for these. */
		if (g->v->e[i].kind == EVENT_RESIZE)
			continue;
		SP_TRY(put_line(g, &g->v->e[i]));
		SP_TRY(flush(g, FLUSH_BYTES));
	}
	if (g->v->is_full)
		SP_TRY(sp_buf_printf(&g->out, "There is more than is listed.\n"));
	if (g->v->keys_missing)
		SP_TRY(sp_buf_printf(&g->out, "Commands were not written down with "
		    "this recording, and its keys take two people to open.\n"));
	return sp_buf_printf(&g->out, "\nTimes are UTC. Commands as they stood on "
	    "the screen, with a confidence: a reading, no proof of what ran.\n");
}

/* ----------------------------------------------------------- for programs */

static enum sp_err
put_string(struct page *g, const char *key, struct sp_span s)
{
	SP_TRY(sp_buf_printf(&g->out, ",\"%s\":", key));
	return json_string(&g->out, s);
}

static enum sp_err
put_event(struct page *g, const struct event *e, bool is_first)
{
	struct sp_span json = event_span(g->v, e->json);
	char when[SP_TIME_TEXT];

	sp_time_text(when, e->at_us, true);
	SP_TRY(sp_buf_printf(&g->out, "%s\n {\"at\":\"%s\",\"from\":\"%s\",\"event\":",
	    is_first ? "" : ",", when, e->kind == EVENT_ROW ? "rows" :
	    "recording"));
	SP_TRY(json_string(&g->out, e->what.n > 0 ? event_span(g->v, e->what) :
	    sp_span_str(event_name(e->kind))));
	if (e->chan != 0)
		SP_TRY(sp_buf_printf(&g->out, ",\"channel\":%u", e->chan));
	if (e->who.n > 0)
		SP_TRY(put_string(g, "who", event_span(g->v, e->who)));
	if (e->kind == EVENT_COMMAND)
		SP_TRY(sp_buf_printf(&g->out, ",\"source\":\"%s\",\"percent\":%u%s",
		    sp_sense_source_name(e->source), e->percent,
		    e->is_cut ? ",\"cut\":true" : ""));
	SP_TRY(put_string(g, "text", event_span(g->v, e->text)));
	if (json.n > 0)
		SP_TRY(sp_buf_put(&g->out, json.p, json.n));
	return sp_buf_put_u8(&g->out, '}');
}

static enum sp_err
programs(struct page *g, bool commands_only)
{
	bool is_first = true;

	SP_TRY(sp_buf_put_u8(&g->out, '['));
	for (size_t i = 0; i < g->v->n; i++) {
		if (commands_only && g->v->e[i].kind != EVENT_COMMAND)
			continue;
		SP_TRY(put_event(g, &g->v->e[i], is_first));
		SP_TRY(flush(g, FLUSH_BYTES));
		is_first = false;
	}
	return sp_buf_put(&g->out, "\n]\n", 3);
}

/* RFC 4180. A spreadsheet would run what begins like a formula: an apostrophe
 * stands before it. */
static enum sp_err
put_field(struct sp_buf *b, struct sp_span s)
{
	SP_TRY(sp_buf_put_u8(b, '"'));
	if (s.n > 0 && strchr("=+-@\t\r", s.p[0]) != NULL && s.p[0] != '\0')
		SP_TRY(sp_buf_put_u8(b, '\''));
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"')
			SP_TRY(sp_buf_put_u8(b, '"'));
		SP_TRY(sp_buf_put_u8(b, s.p[i]));
	}
	return sp_buf_put_u8(b, '"');
}

static enum sp_err
put_row(struct page *g, const struct event *e)
{
	char when[SP_TIME_TEXT], id[SP_UUID_TEXT];
	struct sp_span text = event_span(g->v, e->text);

	sp_time_text(when, e->at_us, true);
	sp_uuid_text(id, g->p->start.session);
	SP_TRY(sp_buf_printf(&g->out, "%s,%s,%u,%s,%u,", id, when, e->chan,
	    sp_sense_source_name(e->source), e->percent));
	/* An exec's may be any bytes. */
	sp_vis(g->shown, sizeof(g->shown), text);
	SP_TRY(put_field(&g->out, e->source == SP_SENSE_EXEC ?
	    sp_span_str(g->shown) : text));
	return sp_buf_put(&g->out, "\r\n", 2);
}

static enum sp_err
csv(struct page *g)
{
	SP_TRY(sp_buf_printf(&g->out,
	    "session,time,channel,source,percent,command\r\n"));
	for (size_t i = 0; i < g->v->n; i++) {
		if (g->v->e[i].kind != EVENT_COMMAND)
			continue;
		SP_TRY(put_row(g, &g->v->e[i]));
		SP_TRY(flush(g, FLUSH_BYTES));
	}
	return SP_OK;
}

/* ------------------------------------------------------------------- both */

static enum sp_err
hear_rows(struct player *p, struct events *v)
{
	struct sp_packet k;
	struct sp_msg_play_rows m;

	SP_TRY(sp_link_wait(&p->broker, &k, WORD_MS));
	if (k.type != SP_MSG_play_rows)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_play_rows(k.body, &m));
	v->is_full |= m.more != 0;
	return events_rows(v, m.rows);
}

static enum sp_err
play_events(struct player *p, bool is_timeline)
{
	static struct page g;
	struct events v;
	enum sp_err e, damage;

	events_init(&v);
	g = (struct page){.p = p, .v = &v, .out = {.max = 4u << 20}};
	damage = events_read(&v, p);
	e = damage == SP_ERR_NOMEM || damage == SP_ERR_IO ? damage : SP_OK;
	if (e == SP_OK && is_timeline)
		e = hear_rows(p, &v);
	if (e == SP_OK) {
		events_sort(&v);
		e = p->start.json != 0 ? programs(&g, !is_timeline) :
		    is_timeline ? people(&g) : csv(&g);
	}
	if (e == SP_OK)
		e = flush(&g, 0);
	sp_buf_fini(&g.out);
	events_fini(&v);
	return e != SP_OK ? e : damage;
}

enum sp_err
play_timeline(struct player *p)
{
	return play_events(p, true);
}

enum sp_err
play_commands(struct player *p)
{
	return play_events(p, false);
}
