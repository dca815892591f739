/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/proof.h"
#include "bastion/player/proof_lines.h"

#include <stdlib.h>
#include <string.h>

#include "common/stream.h"
#include "common/text.h"
#include "recorder/term/term.h"
#include "recorder/view.h"

#define TERMS 16		/* a recorder has keyframes of 8 at once */
#define TAPE_MAX (4u << 20)	/* no scribe is so far behind */
#define COLS 80			/* where the client does not say, as the scribe */
#define ROWS 24

struct screen {
	uint32_t chan;		/* 0: free */
	bool is_closed;
	struct sp_term *t;
	uint64_t fed_us;	/* what it shows */
	struct sp_buf tape;	/* later than that: u64 us, u8 kind, bytes */
};

struct proof {
	struct screen s[TERMS];
	struct sp_buf state;
	struct proof_result r;
};

enum sp_err
proof_new(struct proof **out)
{
	struct proof *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return SP_ERR_NOMEM;
	sp_buf_init(&p->state, SP_TERM_DUMP_MAX);
	*out = p;
	return SP_OK;
}

static void
drop(struct screen *s)
{
	sp_term_free(s->t);
	sp_buf_fini(&s->tape);
	*s = (struct screen){0};
}

void
proof_free(struct proof *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < TERMS; i++)
		drop(&p->s[i]);
	sp_buf_fini(&p->state);
	free(p);
}

const struct proof_result *
proof_result(const struct proof *p)
{
	return &p->r;
}

static struct screen *
find(struct proof *p, uint32_t chan)
{
	for (size_t i = 0; i < TERMS; i++)
		if (p->s[i].chan == chan)
			return &p->s[i];
	return NULL;
}

/* A free one, or one whose channel is over. */
static struct screen *
place(struct proof *p)
{
	struct screen *s = find(p, 0);

	for (size_t i = 0; s == NULL && i < TERMS; i++)
		if (p->s[i].is_closed)
			s = &p->s[i];
	if (s != NULL)
		drop(s);
	return s;
}

static enum sp_err
enter(struct proof *p, const struct sp_rec_record *r)
{
	struct screen *s;
	struct sp_open o;

	if (r->chan == 0 || sp_open_decode(r->data, &o) != SP_OK ||
	    o.has_pty == 0 || find(p, r->chan) != NULL || (s = place(p)) == NULL)
		return SP_OK;
	SP_TRY(sp_term_new(o.cols == 0 ? COLS : o.cols, o.rows == 0 ? ROWS :
	    o.rows, NULL, NULL, &s->t));
	sp_buf_init(&s->tape, TAPE_MAX);
	s->chan = r->chan;
	s->fed_us = r->at_us;
	return SP_OK;
}

/* ------------------------------------------------------------------- the tape */

static enum sp_err
show(struct screen *s, uint8_t kind, struct sp_span d)
{
	uint32_t cols = 0, rows = 0;

	if (kind != SP_RECORD_RESIZE) {
		sp_term_feed(s->t, d);
		return SP_OK;
	}
	if (sp_get_u32(&d, &cols) != SP_OK || sp_get_u32(&d, &rows) != SP_OK)
		return SP_OK;
	return sp_term_resize(s->t, cols == 0 ? COLS : cols,
	    rows == 0 ? ROWS : rows);
}

/* Shows what is not later than that, or until so little is left. */
static enum sp_err
wind(struct screen *s, uint64_t at_us, size_t left)
{
	struct sp_span d, t = sp_buf_span(&s->tape);
	size_t had = t.n, rest = t.n;
	uint64_t us = 0;
	uint8_t kind = 0;

	while (t.n > left) {
		SP_TRY(sp_get_u64(&t, &us));
		if (us > at_us)
			break;
		SP_TRY(sp_get_u8(&t, &kind));
		SP_TRY(sp_get_bytes(&t, SP_REC_RAW_MAX, &d));
		SP_TRY(show(s, kind, d));
		s->fed_us = us;
		rest = t.n;
	}
	sp_buf_consume(&s->tape, had - rest);
	return SP_OK;
}

static enum sp_err
keep(struct proof *p, const struct sp_rec_record *r)
{
	struct screen *s = r->chan == 0 ? NULL : find(p, r->chan);

	if (s == NULL)
		return SP_OK;
	if (s->tape.len + r->data.n + 16 > TAPE_MAX)
		SP_TRY(wind(s, UINT64_MAX, TAPE_MAX / 2));
	SP_TRY(sp_buf_put_u64(&s->tape, r->at_us));
	SP_TRY(sp_buf_put_u8(&s->tape, r->kind));
	return sp_buf_put_bytes(&s->tape, r->data);
}

/* --------------------------------------------------------------- a keyframe */

static void
say_false(struct proof *p, const struct sp_rec_record *r, uint64_t at_us,
    enum proof_why why)
{
	if (p->r.n_false < PROOF_FALSE_MAX)
		p->r.which[p->r.n_false] = (struct proof_false){.at_us = at_us,
		    .told_us = r->at_us, .chan = r->chan, .why = why};
	p->r.n_false++;
}

static enum sp_err
compare(struct proof *p, const struct sp_rec_record *r)
{
	struct screen *s = r->chan == 0 ? NULL : find(p, r->chan);
	struct sp_view_keyframe k;
	struct sp_span is;

	p->r.frames++;
	if (sp_view_keyframe_decode(r->data, &k) != SP_OK)
		say_false(p, r, r->at_us, PROOF_BROKEN);
	else if (s == NULL)
		say_false(p, r, k.at_us, PROOF_NOWHERE);
	else if (k.at_us > r->at_us)
		say_false(p, r, k.at_us, PROOF_FUTURE);
	else if (k.at_us < s->fed_us)
		say_false(p, r, k.at_us, PROOF_PAST);
	else {
		SP_TRY(wind(s, k.at_us, 0));
		sp_buf_reset(&p->state);
		SP_TRY(sp_term_dump(s->t, &p->state));
		is = sp_buf_span(&p->state);
		if (k.cols == sp_term_cols(s->t) &&
		    k.rows == sp_term_rows(s->t) && is.n == k.state.n &&
		    memcmp(is.p, k.state.p, is.n) == 0)
			p->r.same++;
		else if (k.is_unsure)
			p->r.unsure++;
		else
			say_false(p, r, k.at_us, PROOF_DIFFERS);
	}
	return SP_OK;
}

enum sp_err
proof_take(struct proof *p, const struct sp_rec_record *r)
{
	struct screen *s;

	if (r->lane == SP_LANE_VIEW)
		return r->kind == SP_RECORD_KEYFRAME ? compare(p, r) : SP_OK;
	if (r->lane != SP_LANE_OUT)
		return SP_OK;
	switch (r->kind) {
	case SP_RECORD_OPEN:
		return enter(p, r);
	case SP_RECORD_OPEN_FAIL:
		if (r->chan != 0 && (s = find(p, r->chan)) != NULL)
			drop(s);
		return SP_OK;
	case SP_RECORD_OUT:
	case SP_RECORD_ERR:
	case SP_RECORD_RESIZE:
		return keep(p, r);
	case SP_RECORD_CLOSE:
		s = r->chan == 0 ? NULL : find(p, r->chan);
		if (s != NULL && r->data.n == 1 && r->data.p[0] == 1)
			s->is_closed = true;
		return SP_OK;
	default:
		return SP_OK;
	}
}

enum sp_err
proof_read(int file, const struct sp_rec_lane_keys *keys,
    struct proof_result *out, struct line_proof_result *lines)
{
	struct sp_rec_decoder *d = NULL;
	struct line_proof *l = NULL;
	struct proof *p = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(proof_new(&p));
	e = lines == NULL ? SP_OK : line_proof_new(&l);
	if (e == SP_OK)
		e = sp_rec_decoder_new(file, keys, &d);
	while (e == SP_OK && (e = sp_rec_decoder_next(d, &r)) == SP_OK) {
		e = proof_take(p, &r);
		if (e == SP_OK && l != NULL)
			e = line_proof_take(l, &r);
	}
	sp_rec_decoder_free(d);
	*out = *proof_result(p);
	proof_free(p);
	if (l != NULL)
		line_proof_end(l, lines);
	line_proof_free(l);
	return e == SP_ERR_EOF ? SP_OK : e;
}

/* ------------------------------------------------------------------- in words */

const char *
proof_why(enum proof_why why)
{
	switch (why) {
	case PROOF_DIFFERS:
		return "it is not the screen that the output makes";
	case PROOF_BROKEN:
		return "it is no screen at all";
	case PROOF_FUTURE:
		return "it claims to be of a moment that had not come";
	case PROOF_PAST:
		return "it claims to be of a moment long past";
	case PROOF_NOWHERE:
	default:
		return "there is no terminal on that channel";
	}
}

static enum sp_err
one(const struct proof_false *f, bool json, bool is_first, struct sp_buf *o)
{
	unsigned long long ms = f->at_us / 1000;

	if (json)
		return sp_buf_printf(o, "%s{\"at_us\":%llu,\"told_us\":%llu,"
		    "\"channel\":%u,\"why\":\"%s\"}", is_first ? "" : ",",
		    (unsigned long long)f->at_us, (unsigned long long)f->told_us,
		    f->chan, proof_why(f->why));
	return sp_buf_printf(o, "         FALSE at %llu:%02llu:%02llu.%03llu, "
	    "channel %u: %s\n", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60,
	    ms % 1000, f->chan, proof_why(f->why));
}

enum sp_err
proof_print(const struct proof_result *r, bool json, struct sp_buf *o)
{
	SP_TRY(sp_buf_printf(o, json ? ",\"screens\":{\"count\":%llu,"
	    "\"same\":%llu,\"unsure\":%llu,\"false\":%llu,\"which\":[" :
	    "screens  %llu by the scribe, %llu the same as the output makes, "
	    "%llu unsure, %llu false\n", (unsigned long long)r->frames,
	    (unsigned long long)r->same, (unsigned long long)r->unsure,
	    (unsigned long long)r->n_false));
	for (size_t i = 0; i < r->n_false && i < PROOF_FALSE_MAX; i++)
		SP_TRY(one(&r->which[i], json, i == 0, o));
	return json ? sp_buf_put(o, "]}", 2) : SP_OK;
}
