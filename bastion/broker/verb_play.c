/* SPDX-License-Identifier: Apache-2.0 */
/* What a player answers: replay, verify, export. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"
#include "common/play.h"

/* ------------------------------------------------------- one, to the viewer */

void
sp_call_played(struct sp_call *c, enum sp_err e, int stream, const char *text)
{
	if (e == SP_ERR_NOTFOUND)
		sp_call_fail(c, SP_EXIT_REFUSED, "the recording of %s is "
		    "missing: %s. verify --all looks for others", c->pos[0], text);
	else if (e != SP_OK && text != NULL && text[0] != '\0')
		sp_call_fail(c, e == SP_ERR_DENIED ? SP_EXIT_REFUSED :
		    SP_EXIT_LATER, "%s", text);
	else if (e != SP_OK)
		sp_call_fail_err(c, e, c->verb->name);
	else {
		c->stream(c->stream_arg, stream, 0, NULL);
		c->stream = NULL;
		sp_call_end(c, SP_EXIT_OK);
	}
}

static void
played(void *arg, enum sp_err e, int stream, const char *text)
{
	sp_call_played(arg, e, stream, text);
}

static void
play(struct sp_call *c)
{
	uint8_t id[16];

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_session_play(c->b, &c->who, id, c->state, played, c);
}

struct sp_msg_play_start *
sp_call_how(struct sp_call *c, uint8_t mode)
{
	struct sp_msg_play_start *m = calloc(1, sizeof(*m));

	SP_ASSERT(m != NULL);
	m->mode = mode;
	m->speed = 100;
	m->json = c->style.json;
	c->state = m;
	c->free_state = free;
	return m;
}

/* "2", "0.5", "1.25" to percent. */
static bool
parse_speed(const char *s, uint32_t *percent)
{
	uint64_t whole = 0, part = 0;
	const char *dot = strchr(s, '.');
	size_t n = dot != NULL ? (size_t)(dot - s) : strlen(s);
	size_t d = dot != NULL ? strlen(dot + 1) : 0;

	if (sp_u64_parse(sp_span_of(s, n), 1000, &whole) != SP_OK ||
	    (dot != NULL && (d > 2 ||
	    sp_u64_parse(sp_span_of(dot + 1, d), 99, &part) != SP_OK)))
		return false;
	*percent = (uint32_t)(whole * 100 + (d == 1 ? part * 10 : part));
	return *percent >= 1;
}

void
sp_verb_replay(struct sp_call *c)
{
	struct sp_msg_play_start *m = sp_call_how(c, SP_PLAY_REPLAY);
	const char *speed = sp_call_opt(c, "speed"), *at = sp_call_opt(c, "at");
	const char *idle = sp_call_opt(c, "idle");
	int64_t us = 0;

	if (speed != NULL && !parse_speed(speed, &m->speed)) {
		sp_call_fail(c, SP_EXIT_USAGE,
		    "--speed wants a factor such as 2 or 0.5");
		return;
	}
	if (at != NULL && sp_duration_parse(sp_span_str(at), &us) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--at wants a time such as 1m30s");
		return;
	}
	m->at_us = (uint64_t)us;
	us = 0;
	if (idle != NULL && sp_duration_parse(sp_span_str(idle), &us) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--idle wants a time such as 2s");
		return;
	}
	m->idle_us = (uint64_t)us;
	sp_session_resolve(c, c->pos[0], play);
}

static const struct format {
	const char *name;
	uint8_t mode, json, what; /* what: options that it takes */
} formats[] = {
    {"asciicast", SP_PLAY_ASCIICAST, 0, SP_PLAY_KEYS},
    {"asciicast-v2", SP_PLAY_ASCIICAST, 0, SP_PLAY_KEYS},
    {"asciicast-v3", SP_PLAY_ASCIICAST3, 0, SP_PLAY_KEYS},
    {"text", SP_PLAY_TEXT, 0, SP_PLAY_TIMES},
    {"html", SP_PLAY_HTML, 0, 0},
    {"records", SP_PLAY_RECORDS, 0, 0},
    {"commands-csv", SP_PLAY_COMMANDS, 0, 0},
    {"commands-json", SP_PLAY_COMMANDS, 1, 0},
};

void
sp_verb_export(struct sp_call *c)
{
	const char *format = sp_call_opt(c, "format");
	uint8_t what = (uint8_t)((sp_call_has(c, "keys") ? SP_PLAY_KEYS : 0) |
	    (sp_call_has(c, "times") ? SP_PLAY_TIMES : 0));
	struct sp_msg_play_start *m;

	for (size_t i = 0; format != NULL && i < sizeof(formats) /
	    sizeof(formats[0]); i++) {
		if (strcmp(format, formats[i].name) != 0)
			continue;
		if ((what & ~formats[i].what) != 0) {
			sp_call_fail(c, SP_EXIT_USAGE, "--keys is for asciicast, "
			    "--times for text");
			return;
		}
		m = sp_call_how(c, formats[i].mode);
		m->json = formats[i].json;
		m->what = what;
		sp_session_resolve(c, c->pos[0], play);
		return;
	}
	sp_call_fail(c, SP_EXIT_USAGE, "export knows --format asciicast, "
	    "asciicast-v3, text, html, records, commands-csv and commands-json");
}

/* ---------------------------------------------------------- all, by ourselves */

/* One walk over all sessions. Each player's stream is read here, as a viewer
 * would: its JSON, its exit status. */
struct walk {
	struct sp_call *c;
	struct sp_stream s;
	struct event *ev;
	struct sp_buf out;
	struct sp_list *list;
	size_t at, n, bad;
	uint32_t status;
};

static const struct sp_col walk_cols[] = {
	{"id", "SESSION", SP_COL_ID}, {"verdict", "RECORDING", SP_COL_STATE},
	{"person", "WHO", SP_COL_TEXT}, {"target", "TARGET", SP_COL_TEXT},
	{"started", "STARTED", SP_COL_TIME}, {"text", "WHAT", SP_COL_TEXT},
};

static void walk_next(struct walk *w);

static void
walk_close(struct walk *w)
{
	if (w->ev != NULL)
		event_free(w->ev);
	w->ev = NULL;
	sp_stream_fini(&w->s);
}

static void
walk_free(void *state)
{
	struct walk *w = state;

	walk_close(w);
	sp_buf_fini(&w->out);
	sp_list_free(w->list);
	free(w);
}

/* The player's words about one recording; how it ended counts as well. */
static void
walk_verdict(struct walk *w, const char *verdict, const char *text)
{
	const struct sp_rows *r = w->c->rows[0];
	json_object *o = NULL, *v = NULL, *t = NULL;

	if (verdict == NULL && sp_buf_put_u8(&w->out, 0) == SP_OK)
		o = json_tokener_parse((const char *)sp_buf_span(&w->out).p);
	if (o != NULL && json_object_is_type(o, json_type_object)) {
		(void)json_object_object_get_ex(o, "verdict", &v);
		(void)json_object_object_get_ex(o, "text", &t);
	}
	if (verdict == NULL)
		verdict = v != NULL ? json_object_get_string(v) : "unknown";
	if (text == NULL)
		text = t != NULL ? json_object_get_string(t) : "";
	if (w->status != 0)
		w->bad++;
	sp_list_add(w->list, (const char *[]){sp_rows_get(r, w->at, "id"),
	    verdict, sp_rows_get(r, w->at, "person_name"),
	    sp_rows_get(r, w->at, "target_name"),
	    sp_rows_get(r, w->at, "started_us"), text});
	if (o != NULL)
		json_object_put(o);
	walk_close(w);
	w->at++;
	walk_next(w);
}

/* false: the stream is over. */
static bool
walk_frame(struct walk *w, const struct sp_frame *f)
{
	struct sp_span s = f->payload;

	switch (f->type) {
	case SP_FRAME_DATA:
		if (f->lane == 1)
			(void)!sp_buf_put(&w->out, s.p, s.n);
		return sp_stream_put_u32(&w->s, SP_FRAME_CREDIT, 1,
		    (uint32_t)s.n) == SP_OK;
	case SP_FRAME_EXIT_STATUS:
		return sp_get_u32(&s, &w->status) == SP_OK;
	case SP_FRAME_CLOSE:
	case SP_FRAME_END:
	case SP_FRAME_OPEN_FAIL:
		return false;
	default:
		return true;
	}
}

static void
walk_read(evutil_socket_t fd, short what, void *arg)
{
	struct walk *w = arg;
	struct sp_frame f;
	enum sp_err e;
	bool goes_on = true;

	(void)fd;
	(void)what;
	e = sp_stream_fill(&w->s);
	while (goes_on && sp_stream_next(&w->s, &f) == SP_OK)
		goes_on = walk_frame(w, &f);
	if (goes_on && (e == SP_OK || e == SP_ERR_AGAIN)) {
		e = sp_stream_flush(&w->s);
		if (e == SP_OK || e == SP_ERR_AGAIN)
			return;
	}
	walk_verdict(w, NULL, NULL);
}

static void
walk_played(void *arg, enum sp_err e, int stream, const char *text)
{
	struct walk *w = arg;
	SP_BUF_AUTO open = {.max = 128};
	struct sp_open o = {.kind = SP_OPEN_SHELL};

	w->status = 1;
	if (e != SP_OK) {
		walk_verdict(w, e == SP_ERR_NOTFOUND ? "missing" : "unknown",
		    text == NULL ? sp_err_text(e) : text);
		return;
	}
	sp_buf_reset(&w->out);
	if (sp_stream_init(&w->s, stream, false) != SP_OK ||
	    sp_open_encode(&open, &o) != SP_OK ||
	    sp_stream_put(&w->s, SP_FRAME_OPEN, 0, 1, sp_buf_span(&open)) !=
	    SP_OK || sp_stream_flush(&w->s) != SP_OK ||
	    (w->ev = event_new(w->c->b->ev, stream, EV_READ | EV_PERSIST,
	    walk_read, w)) == NULL || event_add(w->ev, NULL) != 0)
		walk_verdict(w, "unknown", "the player could not be reached");
}

static void
walk_over(struct walk *w)
{
	struct sp_call *c = w->c;
	size_t bad = w->bad, n = w->n;

	if (c->pty)
		sp_call_err(c, sp_span_str("\r\033[K"));
	sp_call_list(c, w->list, "No recordings yet.");
	if (!c->style.json && n > 0)
		sp_call_say(c, "\n%zu recording%s, %zu not whole.\n", n,
		    n == 1 ? "" : "s", bad);
	sp_call_end(c, bad == 0 ? SP_EXIT_OK : SP_EXIT_REFUSED);
}

/* What is not on this disk, and is not missing. */
static void
walk_past(struct walk *w)
{
	const struct sp_rows *r = w->c->rows[0];

	for (; w->at < w->n; w->at++) {
		bool deleted = sp_rows_bool(r, w->at, "deleted");

		if (!deleted && !sp_rows_bool(r, w->at, "stored"))
			return;
		sp_list_add(w->list, (const char *[]){sp_rows_get(r, w->at, "id"),
		    deleted ? "deleted" : "stored",
		    sp_rows_get(r, w->at, "person_name"),
		    sp_rows_get(r, w->at, "target_name"),
		    sp_rows_get(r, w->at, "started_us"), deleted ?
		    "its end is in the transparency log" :
		    "in the store of objects: verify of it alone fetches it"});
	}
}

static void
walk_next(struct walk *w)
{
	struct sp_call *c = w->c;
	struct sp_msg_play_start m = {.mode = SP_PLAY_VERIFY, .speed = 100,
	    .json = 1};
	char line[80];
	uint8_t id[16];

	walk_past(w);
	if (c->gone || w->at >= w->n) {
		walk_over(w);
		return;
	}
	snprintf(line, sizeof(line), c->pty ? "\r\033[Kverifying %zu of %zu" :
	    "verifying %zu of %zu\n", w->at + 1, w->n);
	if (c->pty || w->at % 100 == 0)
		sp_call_err(c, sp_span_str(line));
	(void)sp_rows_uuid(c->rows[0], w->at, "id", id);
	sp_session_play(c->b, &c->who, id, &m, walk_played, w);
}

static void
walk_begin(struct sp_call *c)
{
	struct walk *w = calloc(1, sizeof(*w));

	SP_ASSERT(w != NULL);
	w->c = c;
	w->s.fd = -1;
	w->n = sp_rows_n(c->rows[0]);
	w->list = sp_list_new(walk_cols, sizeof(walk_cols) / sizeof(walk_cols[0]));
	sp_buf_init(&w->out, 65536);
	c->state = w;
	c->free_state = walk_free;
	walk_next(w);
}

void
sp_verb_verify(struct sp_call *c)
{
	bool all = sp_call_has(c, "all");

	if (c->started) {
		sp_call_load(c, 0, (struct sp_need[]){{.sql = "SELECT s.id, "
		    "s.person_name, s.target_name, s.started_us, d.session_id IS NOT "
		    "NULL AS deleted, h.shipped_us IS NOT NULL AND (NOT h.local OR "
		    "h.node <> $1) AS stored FROM sessions s LEFT JOIN shipments h ON "
		    "h.session_id = s.id LEFT JOIN deletions d ON d.session_id = s.id "
		    "WHERE s.ended_us IS NOT NULL ORDER BY s.started_us",
		    .p = {c->b->node}, .n = 1}}, 1, walk_begin);
		return;
	}
	if (all == (c->n_pos == 1) || (all && sp_call_has(c, "screens"))) {
		sp_call_fail(c, SP_EXIT_USAGE, "verify SESSION [--screens], or "
		    "verify --all");
		return;
	}
	if (all) {
		sp_call_open(c);
		return;
	}
	if (sp_call_has(c, "screens"))
		sp_call_how(c, SP_PLAY_VERIFY)->what |= SP_PLAY_SCREENS;
	else
		(void)sp_call_how(c, SP_PLAY_VERIFY);
	sp_session_resolve(c, c->pos[0], play);
}
