/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/proof_lines.h"

#include <stdlib.h>
#include <string.h>

#include "common/stream.h"
#include "common/text.h"
#include "recorder/scribe/lines.h"
#include "recorder/view.h"

#define TERMS 8			/* that a scribe reads along */
#define QUEUE 65536u		/* lines that were derived and not said yet */
#define NEAR 512u		/* of them a line is looked for at first */
#define KNOWN 65536u		/* recent lines, by their hash */
#define EARLY 256u		/* said, and not derived yet */
#define TEXT 6145u		/* bytes of such a one; one more than there can be */
#define PART_MIN 8u		/* of what may be a beginning */
#define LATE_US 10000000u	/* a scribe keeps what it says for 5 s */
#define COLS 80
#define ROWS 24

struct screen {
	struct line_proof *p;
	uint32_t chan;		/* 0: free */
	struct sp_lines *l;
};

struct line_proof {
	struct screen s[TERMS];
	struct derived {
		uint64_t hash, at_us; /* hash 0: it was said */
		uint32_t chan;
	} *q;			/* QUEUE of them, a ring */
	uint64_t head, tail;
	uint64_t *known;
	struct early {
		uint64_t hash, at_us;
		uint32_t chan;	/* 0: free */
		size_t n;
		uint8_t text[TEXT];
	} early[EARLY];
	uint64_t at_us;		/* of the record at hand */
	struct line_proof_result r;
};

enum sp_err
line_proof_new(struct line_proof **out)
{
	struct line_proof *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return SP_ERR_NOMEM;
	p->q = calloc(QUEUE, sizeof(*p->q));
	p->known = calloc(KNOWN, sizeof(*p->known));
	if (p->q == NULL || p->known == NULL) {
		line_proof_free(p);
		return SP_ERR_NOMEM;
	}
	*out = p;
	return SP_OK;
}

void
line_proof_free(struct line_proof *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < TERMS; i++)
		sp_lines_free(p->s[i].l);
	free(p->q);
	free(p->known);
	free(p);
}

static uint64_t
hash(uint32_t chan, struct sp_span s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ chan;

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ s.p[i]) * UINT64_C(0x100000001b3);
	return h | 1;
}

static void
know(struct line_proof *p, uint64_t h)
{
	p->known[h / 2 % KNOWN] = h;
}

static bool
is_known(const struct line_proof *p, uint64_t h)
{
	return p->known[h / 2 % KNOWN] == h;
}

/* ------------------------------------------------------------------ verdicts */

static void
missing(struct line_proof *p, const struct derived *d)
{
	if (d->hash == 0)
		return;
	if (p->r.missing++ == 0 || d->at_us < p->r.missing_us) {
		p->r.missing_us = d->at_us;
		p->r.missing_chan = d->chan;
	}
}

static void
invented(struct line_proof *p, struct early *e)
{
	if (p->r.invented++ == 0 || e->at_us < p->r.invented_us) {
		p->r.invented_us = e->at_us;
		p->r.invented_chan = e->chan;
	}
	e->chan = 0;
}

static bool
has_invented(const struct line_proof_result *r)
{
	return r->invented > 0 && (!r->has_gap || r->invented_us < r->gap_us);
}

/* What it had not said yet when it died went with it. */
static bool
has_missing(const struct line_proof_result *r)
{
	return r->missing > 0 && (!r->has_gap ||
	    r->missing_us + LATE_US < r->gap_us);
}

bool
line_proof_is_false(const struct line_proof_result *r)
{
	return has_invented(r) || has_missing(r);
}

/* --------------------------------------------------------------------- lines */

/* It was said before: as it is, or, by a scribe that ended then, its beginning. */
static bool
was_early(struct line_proof *p, uint32_t chan, struct sp_span text)
{
	uint64_t h = hash(chan, text);

	for (size_t i = 0; i < EARLY; i++)
		if (p->early[i].chan == chan && p->early[i].hash == h) {
			p->early[i].chan = 0;
			return true;
		}
	for (size_t i = 0; i < EARLY; i++) {
		struct early *e = &p->early[i];

		if (e->chan != chan || e->n < PART_MIN || e->n == TEXT ||
		    e->n > text.n || memcmp(e->text, text.p, e->n) != 0)
			continue;
		know(p, hash(chan, sp_span_of(text.p + e->n, text.n - e->n)));
		e->chan = 0;
		return true;
	}
	return false;
}

static void
on_line(void *ctx, uint16_t row, struct sp_span text)
{
	struct screen *s = ctx;
	struct line_proof *p = s->p;
	struct derived *d = &p->q[p->tail % QUEUE];
	uint64_t h = hash(s->chan, text);

	(void)row;
	p->r.derived++;
	know(p, h);
	if (was_early(p, s->chan, text))
		return;
	if (p->tail - p->head == QUEUE)
		missing(p, &p->q[p->head++ % QUEUE]);
	*d = (struct derived){.hash = h, .at_us = p->at_us, .chan = s->chan};
	p->tail++;
}

static bool
take_away(struct line_proof *p, uint64_t h, uint64_t most)
{
	for (uint64_t i = p->head; i < p->tail && i - p->head < most; i++)
		if (p->q[i % QUEUE].hash == h) {
			p->q[i % QUEUE].hash = 0;
			while (p->head < p->tail &&
			    p->q[p->head % QUEUE].hash == 0)
				p->head++;
			return true;
		}
	return false;
}

static void
said(struct line_proof *p, const struct sp_rec_record *r)
{
	struct sp_view_line v;
	struct early *e = NULL;
	uint64_t h;

	p->r.said++;
	if (sp_view_line_decode(r->data, &v) != SP_OK)
		v.text = r->data;
	h = hash(r->chan, v.text);
	if (take_away(p, h, NEAR) || (is_known(p, h) &&
	    (take_away(p, h, QUEUE) || true)))
		return;
	for (size_t i = 0; e == NULL && i < EARLY; i++)
		if (p->early[i].chan == 0)
			e = &p->early[i];
	if (e == NULL)
		invented(p, e = &p->early[p->r.invented % EARLY]);
	*e = (struct early){.hash = h, .at_us = r->at_us - (v.ago_us < r->at_us ?
	    v.ago_us : r->at_us), .chan = r->chan == 0 ? UINT32_MAX : r->chan,
	    .n = v.text.n < TEXT ? v.text.n : TEXT};
	if (e->n > 0)
		memcpy(e->text, v.text.p, e->n);
}

/* ------------------------------------------------------------------- records */

static void
gap(struct line_proof *p, const struct sp_rec_record *r)
{
	struct sp_view_span v;

	if (sp_view_span_decode(r->data, &v) != SP_OK)
		return;
	if (!p->r.has_gap || v.from_us < p->r.gap_us)
		p->r.gap_us = v.from_us;
	p->r.has_gap = true;
}

static struct screen *
find(struct line_proof *p, uint32_t chan)
{
	for (size_t i = 0; i < TERMS; i++)
		if (p->s[i].chan == chan)
			return &p->s[i];
	return NULL;
}

static void
leave(struct screen *s)
{
	sp_lines_end(s->l);
	sp_lines_free(s->l);
	*s = (struct screen){0};
}

static enum sp_err
enter(struct line_proof *p, const struct sp_rec_record *r)
{
	struct screen *s = find(p, 0);
	struct sp_open o;

	if (r->chan == 0 || sp_open_decode(r->data, &o) != SP_OK ||
	    o.has_pty == 0 || find(p, r->chan) != NULL || s == NULL)
		return SP_OK;
	*s = (struct screen){.p = p, .chan = r->chan};
	return sp_lines_new(o.cols == 0 ? COLS : o.cols, o.rows == 0 ? ROWS :
	    o.rows, on_line, s, &s->l);
}

static enum sp_err
resize(struct screen *s, struct sp_span d)
{
	uint32_t cols = 0, rows = 0;

	if (sp_get_u32(&d, &cols) != SP_OK || sp_get_u32(&d, &rows) != SP_OK)
		return SP_OK;
	return sp_lines_resize(s->l, cols == 0 ? COLS : cols, rows == 0 ? ROWS :
	    rows);
}

enum sp_err
line_proof_take(struct line_proof *p, const struct sp_rec_record *r)
{
	struct screen *s = r->chan == 0 ? NULL : find(p, r->chan);

	p->at_us = r->at_us;
	if (r->lane == SP_LANE_VIEW && r->kind == SP_RECORD_LINE)
		said(p, r);
	if (r->lane == SP_LANE_META && r->kind == SP_RECORD_GAP)
		gap(p, r);
	if (r->lane != SP_LANE_OUT)
		return SP_OK;
	if (r->kind == SP_RECORD_OPEN)
		return enter(p, r);
	if (s == NULL)
		return SP_OK;
	switch (r->kind) {
	case SP_RECORD_OUT:
	case SP_RECORD_ERR:
		return sp_lines_feed(s->l, r->data);
	case SP_RECORD_RESIZE:
		return resize(s, r->data);
	case SP_RECORD_OPEN_FAIL:
		sp_lines_free(s->l);
		*s = (struct screen){0};
		return SP_OK;
	case SP_RECORD_CLOSE:
		if (r->data.n == 1 && r->data.p[0] == 1)
			leave(s);
		return SP_OK;
	default:
		return SP_OK;
	}
}

void
line_proof_end(struct line_proof *p, struct line_proof_result *out)
{
	for (size_t i = 0; i < TERMS; i++)
		if (p->s[i].chan != 0)
			leave(&p->s[i]);
	/* What was derived only now may have been said before. */
	for (; p->head < p->tail; p->head++)
		missing(p, &p->q[p->head % QUEUE]);
	for (size_t i = 0; i < EARLY; i++)
		if (p->early[i].chan != 0)
			invented(p, &p->early[i]);
	*out = p->r;
}

static enum sp_err
moment(struct sp_buf *o, const char *what, uint64_t us, uint32_t chan,
    const char *why)
{
	unsigned long long ms = us / 1000;

	SP_TRY(sp_buf_printf(o, "         %s %llu:%02llu:%02llu.%03llu on", what,
	    ms / 3600000, ms / 60000 % 60, ms / 1000 % 60, ms % 1000));
	if (chan != 0)
		SP_TRY(sp_buf_printf(o, ", channel %u", chan));
	return sp_buf_printf(o, ": %s\n", why);
}

enum sp_err
line_proof_print(const struct line_proof_result *r, bool json, struct sp_buf *o)
{
	SP_TRY(sp_buf_printf(o, json ? ",\"lines\":{\"said\":%llu,"
	    "\"derived\":%llu,\"invented\":%llu,\"missing\":%llu" :
	    "lines    %llu by the scribe, %llu made by the output, %llu invented, "
	    "%llu missing", (unsigned long long)r->said,
	    (unsigned long long)r->derived, (unsigned long long)r->invented,
	    (unsigned long long)r->missing));
	if (json)
		return sp_buf_printf(o, ",\"false\":%s,\"gap\":%s,\"gap_us\":%llu,"
		    "\"invented_us\":%llu,\"missing_us\":%llu}",
		    line_proof_is_false(r) ? "true" : "false",
		    r->has_gap ? "true" : "false", (unsigned long long)r->gap_us,
		    (unsigned long long)r->invented_us,
		    (unsigned long long)r->missing_us);
	SP_TRY(sp_buf_put_u8(o, '\n'));
	if (has_invented(r))
		SP_TRY(moment(o, "FALSE from", r->invented_us, r->invented_chan,
		    "lines that no output made"));
	if (has_missing(r))
		SP_TRY(moment(o, "FALSE from", r->missing_us, r->missing_chan,
		    "lines that the output made are missing"));
	return r->has_gap ? moment(o, "unproven from", r->gap_us, 0,
	    "it was away for a while") : SP_OK;
}
