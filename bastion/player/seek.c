/* SPDX-License-Identifier: Apache-2.0 */
/* One recording of a search. What was derived while it was recorded (lane VIEW)
 * is looked through first; OUT is decoded where there is nothing derived, or
 * where files are asked for. */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/search.h"
#include "bastion/player/show.h"
#include "recorder/view.h"
#include "recorder/xfer.h"

#define KEYS_LINE_MAX 1024
#define SPANS_MAX 512
#define LANE(n) (UINT32_C(1) << (n))
/* What is looked for in OUT: names of files and commands; or what it drew. */
enum of_out { OUT_NOT, OUT_NAMES, OUT_COMMANDS, OUT_SCREEN };

struct typed {
	uint32_t chan;		/* 0: free */
	uint64_t first_us;
	uint8_t text[KEYS_LINE_MAX];
	size_t n;
	uint8_t esc;		/* 1 after ESC, 2 in a sequence */
	bool is_binary;		/* nobody types zeros: a protocol */
};

struct seeker {
	const struct match *match;
	uint8_t lanes;
	struct sp_rec_decoder *d;
	struct stage stage;
	struct lines lines;
	struct typed typed[STAGE_MAX];
	struct hits *to;
	struct sp_buf covered;
	uint64_t now_us;
	bool has_view, has_gap, has_exec, has_opened;
	enum of_out what;	/* of this pass */
	struct sp_rec_sieve sieve;
	size_t n_spans;
	struct span_of {
		uint32_t chan;
		uint64_t from_us, to_us;
	} span[SPANS_MAX];	/* typed unseen */
};

uint32_t
search_needs(uint8_t lanes)
{
	uint32_t m = 0;

	if ((lanes & (SP_SEARCH_SCREEN | SP_SEARCH_COMMANDS)) != 0)
		m |= LANE(SP_LANE_VIEW) | LANE(SP_LANE_OUT) |
		    LANE(SP_LANE_META);
	if ((lanes & SP_SEARCH_FILES) != 0)
		m |= LANE(SP_LANE_OUT);
	if ((lanes & SP_SEARCH_KEYS) != 0)
		m |= LANE(SP_LANE_IN) | LANE(SP_LANE_META);
	return m;
}

/* ------------------------------------------------------------------- hits */

/* The words with what stands around them, cut between characters. */
static void
snippet(char *dst, struct sp_span t, size_t at, size_t n)
{
	size_t from = 0, len = t.n;

	if (len > SEARCH_TEXT_MAX) {
		len = SEARCH_TEXT_MAX;
		from = at > SEARCH_TEXT_MAX / 4 ? at - SEARCH_TEXT_MAX / 4 : 0;
		if (n > SEARCH_TEXT_MAX / 2)
			from = at;
		if (from + len > t.n)
			from = t.n - len;
	}
	while (from < t.n && len > 0 && (t.p[from] & 0xc0) == 0x80) {
		from++;
		len--;
	}
	while (len > 0 && from + len < t.n && (t.p[from + len] & 0xc0) == 0x80)
		len--;
	for (size_t i = 0; i < len; i++)
		dst[i] = t.p[from + i] == 0 ? '?' : (char)t.p[from + i];
	dst[len] = '\0';
}

/* Those that are earliest stay. */
static void
keep(struct hits *h, const struct hit *new)
{
	size_t i = h->n;

	h->count++;
	if (i == SEARCH_SHOWN_MAX) {
		if (h->hit[i - 1].at_us <= new->at_us)
			return;
		i--;
	} else {
		h->n++;
	}
	for (; i > 0 && h->hit[i - 1].at_us > new->at_us; i--)
		h->hit[i] = h->hit[i - 1];
	h->hit[i] = *new;
}

static bool
look_at(struct seeker *s, uint8_t lane, uint32_t chan, uint64_t at_us,
    struct sp_span text)
{
	struct hit h = {.at_us = at_us, .lane = lane, .chan = chan};
	size_t at, n;

	if ((s->lanes & lane) == 0 || !match_find(s->match, text, &at, &n))
		return false;
	/* A line may be whole only here: drawn in pieces, typed with corrections. */
	if (cover_is_on()) {
		uint8_t *copy;

		sp_buf_reset(&s->covered);
		if (sp_buf_reserve(&s->covered, text.n, &copy) != SP_OK)
			return false;
		memcpy(copy, text.p, text.n);
		cover_text(copy, text.n);
		text = sp_span_of(copy, text.n);
		if (!match_find(s->match, text, &at, &n))
			return false;
	}
	snippet(h.text, text, at, n);
	keep(s->to, &h);
	return true;
}

/* ------------------------------------------------------------------- keys */

static bool
was_unseen(const struct seeker *s, uint32_t chan, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < s->n_spans; i++)
		if (s->span[i].chan == chan && s->span[i].from_us <= to &&
		    s->span[i].to_us >= from)
			return true;
	return false;
}

static struct typed *
typed_of(struct seeker *s, uint32_t chan)
{
	struct typed *t = NULL;

	for (size_t i = 0; i < STAGE_MAX; i++)
		if (s->typed[i].chan == chan)
			return &s->typed[i];
	for (size_t i = 0; i < STAGE_MAX && t == NULL; i++)
		if (s->typed[i].chan == 0)
			t = &s->typed[i];
	if (t == NULL)
		t = &s->typed[0];
	*t = (struct typed){.chan = chan};
	return t;
}

static void
end_line(struct seeker *s, struct typed *t, uint64_t at_us)
{
	if (t->n > 0 && !t->is_binary && !was_unseen(s, t->chan, t->first_us, at_us))
		look_at(s, SP_SEARCH_KEYS, t->chan, t->first_us,
		    sp_span_of(t->text, t->n));
	t->n = 0;
}

/* What was typed, with what was rubbed out gone; arrows and the like are no
 * text. */
static void
key(struct seeker *s, struct typed *t, uint64_t at_us, uint8_t c)
{
	t->is_binary |= c == 0;
	if (t->esc != 0) {
		t->esc = t->esc == 1 && (c == '[' || c == 'O') ? 2 :
		    t->esc == 2 && c >= 0x20 && c < 0x40 ? 2 : 0;
		return;
	}
	if (c == 0x1b) {
		t->esc = 1;
	} else if (c == '\r' || c == '\n' || c == 3 || c == 4) {
		end_line(s, t, at_us);
	} else if (c == 0x7f || c == 8) {
		while (t->n > 0 && (t->text[t->n - 1] & 0xc0) == 0x80)
			t->n--;
		if (t->n > 0)
			t->n--;
	} else if (c == 0x15) {
		t->n = 0;
	} else if (c >= 0x20) {
		if (t->n == KEYS_LINE_MAX)
			end_line(s, t, at_us);
		if (t->n == 0)
			t->first_us = at_us;
		t->text[t->n++] = c;
	}
}

static void
take_keys(struct seeker *s, const struct sp_rec_record *r)
{
	struct typed *t = typed_of(s, r->chan);

	for (size_t i = 0; i < r->data.n; i++)
		key(s, t, r->at_us, r->data.p[i]);
}

/* ------------------------------------------------------------- what is derived */

static uint64_t
ago(const struct sp_rec_record *r, uint64_t us)
{
	return r->at_us > us ? r->at_us - us : 0;
}

static void
take_view(struct seeker *s, const struct sp_rec_record *r)
{
	struct sp_view_command c;
	struct sp_view_line l;

	if (r->kind == SP_VIEW_LINE && sp_view_line_decode(r->data, &l) == SP_OK) {
		s->has_view = true;
		look_at(s, SP_SEARCH_SCREEN, r->chan, ago(r, l.ago_us), l.text);
	} else if (r->kind == SP_VIEW_COMMAND &&
	    sp_view_command_decode(r->data, &c) == SP_OK) {
		s->has_exec |= c.source == SP_VIEW_EXEC;
		look_at(s, SP_SEARCH_COMMANDS, r->chan, ago(r, c.ago_us),
		    c.text);
	}
}

static void
take_meta(struct seeker *s, const struct sp_rec_record *r)
{
	struct sp_view_span v;

	if ((r->kind != SP_VIEW_GAP && r->kind != SP_VIEW_SECRET) ||
	    sp_view_span_decode(r->data, &v) != SP_OK)
		return;
	if (r->kind == SP_VIEW_GAP) {
		s->has_gap = true;
	} else if (s->n_spans < SPANS_MAX) {
		s->span[s->n_spans++] = (struct span_of){.chan = r->chan,
		    .from_us = v.from_us, .to_us = v.to_us};
	}
}

/* -------------------------------------------------------------- what was sent */

static void
on_line(void *ctx, uint32_t chan, unsigned row, struct sp_span text)
{
	struct seeker *s = ctx;

	(void)row;
	look_at(s, SP_SEARCH_SCREEN, chan, s->now_us, text);
}

static void
take_file(struct seeker *s, const struct sp_rec_record *r)
{
	struct sp_xfer_note n;

	if (sp_xfer_note_decode(r->data, &n) != SP_OK ||
	    (n.flags & SP_XFER_SO_FAR) != 0)
		return;
	if (!look_at(s, SP_SEARCH_FILES, r->chan, r->at_us, n.path))
		look_at(s, SP_SEARCH_FILES, r->chan, r->at_us, n.path2);
}

static void
take_open(struct seeker *s, const struct sp_rec_record *r, bool is_named)
{
	struct sp_open o;

	if (sp_open_decode(r->data, &o) != SP_OK || o.kind != SP_OPEN_EXEC)
		return;
	s->has_opened = true;
	if (is_named)
		look_at(s, SP_SEARCH_COMMANDS, r->chan, r->at_us, o.command);
}

static enum sp_err
take_out(struct seeker *s, const struct sp_rec_record *r, enum of_out what)
{
	bool changed = false;

	if (what == OUT_NAMES && r->kind == SP_RECORD_FILE)
		take_file(s, r);
	if (r->kind == SP_RECORD_OPEN)
		take_open(s, r, what == OUT_COMMANDS);
	if (what != OUT_SCREEN || r->kind == SP_RECORD_FILE)
		return SP_OK;
	s->now_us = r->at_us;
	SP_TRY(stage_feed(&s->stage, r, &changed));
	return changed ? lines_look(&s->lines, r->chan) : SP_OK;
}

/* ------------------------------------------------------------------ passes */

/* Most of what is read is not looked at one by one: lines of which none can match,
 * and what was sent, where only names are asked for. */
static bool
wants(void *ctx, const struct sp_rec_record *r)
{
	struct seeker *s = ctx;
	bool is_line = r->kind == SP_VIEW_LINE || r->kind == SP_RECORD_LINES;

	if (r->lane == SP_LANE_OUT)
		return s->what == OUT_SCREEN || r->kind == SP_RECORD_OPEN ||
		    (s->what == OUT_NAMES && r->kind == SP_RECORD_FILE);
	if (r->lane != SP_LANE_VIEW)
		return true;
	s->has_view |= is_line;
	return is_line ? (s->lanes & SP_SEARCH_SCREEN) != 0 &&
	    match_may(s->match, r->data) : r->kind == SP_VIEW_COMMAND;
}

static enum sp_err
pass(struct seeker *s, int fd, const struct sp_rec_lane_keys *keys,
    uint32_t lanes, enum of_out what)
{
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(s->d == NULL ? sp_rec_decoder_new(fd, keys, &s->d) : SP_OK);
	SP_TRY(sp_rec_decoder_reopen(s->d, fd, keys, lanes));
	s->what = what;
	sp_rec_decoder_sieve(s->d, &s->sieve);
	while ((e = cover_next(s->d, &r)) == SP_OK) {
		if (r.lane == SP_LANE_VIEW)
			take_view(s, &r);
		else if (r.lane == SP_LANE_META)
			take_meta(s, &r);
		else if (r.lane == SP_LANE_IN && r.kind == SP_RECORD_IN)
			take_keys(s, &r);
		else if (r.lane == SP_LANE_OUT)
			SP_TRY(take_out(s, &r, what));
	}
	return e == SP_ERR_EOF ? SP_OK : e;
}

/* Without META nobody knows which keys were secrets. */
static bool
may_see_keys(const struct sp_rec_lane_keys *k)
{
	return k->has[SP_LANE_IN - 1] && k->has[SP_LANE_META - 1];
}

static enum sp_err
first(enum sp_err a, enum sp_err b)
{
	return a == SP_OK || b == SP_ERR_NOMEM ? b : a;
}

static enum sp_err
passes(struct seeker *s, int fd, const struct sp_rec_lane_keys *keys)
{
	bool screen = (s->lanes & SP_SEARCH_SCREEN) != 0;
	bool commands = (s->lanes & SP_SEARCH_COMMANDS) != 0;
	bool files = (s->lanes & SP_SEARCH_FILES) != 0;
	bool keyed = (s->lanes & SP_SEARCH_KEYS) != 0;
	enum sp_err e = SP_OK;
	bool alone;

	/* VIEW is packed behind OUT. Which keys were unseen is written after them. */
	if (screen || commands || files)
		e = pass(s, fd, keys, LANE(SP_LANE_VIEW) |
		    LANE(SP_LANE_META) | LANE(SP_LANE_OUT), OUT_NAMES);
	else if (keyed)
		e = pass(s, fd, keys, LANE(SP_LANE_META), OUT_NOT);
	/* Where META is damaged, nobody knows which keys were secrets. What stands
	 * before a damage is looked through all the same. */
	if (keyed && e == SP_OK && may_see_keys(keys))
		e = pass(s, fd, keys, LANE(SP_LANE_IN), OUT_NOT);
	alone = !s->has_view || s->has_gap;
	if (commands && s->has_opened && !s->has_exec)
		e = first(e, pass(s, fd, keys, LANE(SP_LANE_OUT), OUT_COMMANDS));
	if (screen && alone)
		e = first(e, pass(s, fd, keys, LANE(SP_LANE_OUT), OUT_SCREEN));
	return e;
}

enum sp_err
seeker_new(const struct match *m, uint8_t lanes, struct seeker **out)
{
	struct seeker *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return SP_ERR_NOMEM;
	s->match = m;
	s->lanes = lanes;
	s->sieve = (struct sp_rec_sieve){wants, s};
	sp_buf_init(&s->covered, SP_REC_RAW_MAX * 12);
	lines_init(&s->lines, &s->stage, on_line, s);
	s->stage.line = lines_scrolled;
	s->stage.ctx = &s->lines;
	*out = s;
	return SP_OK;
}

void
seeker_free(struct seeker *s)
{
	if (s == NULL)
		return;
	stage_free(&s->stage);
	lines_fini(&s->lines);
	sp_buf_fini(&s->covered);
	sp_rec_decoder_free(s->d);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

static bool
is_sealed(uint8_t lanes, const struct sp_rec_lane_keys *k)
{
	bool out = k->has[SP_LANE_OUT - 1];

	return ((lanes & SP_SEARCH_KEYS) != 0 && !may_see_keys(k)) ||
	    ((lanes & SP_SEARCH_FILES) != 0 && !out) ||
	    ((lanes & (SP_SEARCH_SCREEN | SP_SEARCH_COMMANDS)) != 0 && !out &&
	    !k->has[SP_LANE_VIEW - 1]);
}

enum sp_err
seeker_look(struct seeker *s, int fd, const struct sp_rec_lane_keys *keys,
    struct hits *found)
{
	enum sp_err e;

	found->n = found->count = 0;
	found->state = is_sealed(s->lanes, keys) ? SP_SEARCH_SEALED : 0;
	s->to = found;
	s->has_view = s->has_gap = s->has_exec = s->has_opened = false;
	s->n_spans = 0;
	for (size_t i = 0; i < STAGE_MAX; i++)
		s->typed[i].chan = 0;
	e = passes(s, fd, keys);
	stage_free(&s->stage);
	if (lines_forget(&s->lines) != SP_OK)
		return SP_ERR_NOMEM;
	if (e == SP_ERR_NOMEM)
		return e;
	if (e != SP_OK)
		found->state |= SP_SEARCH_UNREAD;
	return SP_OK;
}

/* --------------------------------------------------------------- as bytes */

enum sp_err
hits_encode(struct sp_buf *b, const struct hits *h)
{
	for (size_t i = 0; i < h->n; i++) {
		size_t n = strlen(h->hit[i].text);

		SP_TRY(sp_buf_put_u64(b, h->hit[i].at_us));
		SP_TRY(sp_buf_put_u8(b, h->hit[i].lane));
		SP_TRY(sp_buf_put_u32(b, h->hit[i].chan));
		SP_TRY(sp_buf_put_u16(b, (uint16_t)n));
		SP_TRY(sp_buf_put(b, h->hit[i].text, n));
	}
	return SP_OK;
}

enum sp_err
hits_decode(struct sp_span s, struct hits *h)
{
	const uint8_t *text;
	uint16_t n = 0;

	for (h->n = 0; s.n > 0; h->n++) {
		struct hit *k = &h->hit[h->n];

		if (h->n == SEARCH_SHOWN_MAX)
			return SP_ERR_TOOBIG;
		SP_TRY(sp_get_u64(&s, &k->at_us));
		SP_TRY(sp_get_u8(&s, &k->lane));
		SP_TRY(sp_get_u32(&s, &k->chan));
		SP_TRY(sp_get_u16(&s, &n));
		if (n > SEARCH_TEXT_MAX)
			return SP_ERR_TOOBIG;
		SP_TRY(sp_get(&s, n, &text));
		memcpy(k->text, text, n);
		k->text[n] = '\0';
	}
	return SP_OK;
}
