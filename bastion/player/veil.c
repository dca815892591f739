/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/player/veil.h"

#include <stdlib.h>
#include <string.h>

#include "recorder/sense/follow.h"
#include "recorder/view.h"

#define SPANS_MAX 65536

static void
add(struct veil *v, uint32_t chan, uint64_t from_us, uint64_t to_us)
{
	size_t cap = v->cap == 0 ? 64 : v->cap * 2;
	struct veil_span *s;

	if (v->n == v->cap) {
		if (cap > SPANS_MAX || (s = calloc(cap, sizeof(*s))) == NULL) {
			v->is_blind = true;
			return;
		}
		if (v->n > 0)
			memcpy(s, v->span, v->n * sizeof(*s));
		free(v->span);
		v->span = s;
		v->cap = cap;
	}
	v->span[v->n++] = (struct veil_span){chan, from_us, to_us};
}

static void
sensed(void *ctx, uint32_t chan, const struct sp_sense_secret *s)
{
	add(ctx, chan, s->first_us, s->to_us);
}

static void
no_command(void *ctx, uint32_t chan, const struct sp_sense_command *c)
{
	(void)ctx;
	(void)chan;
	(void)c;
}

/* What the recording's scribe did not see is read off keys and output here. */
static enum sp_err
sense(struct veil *v, struct player *p)
{
	struct sp_follow_ops ops = {.ctx = v, .command = no_command,
	    .secret = sensed};
	struct sp_rec_decoder *d = NULL;
	struct sp_follow *f = NULL;
	struct sp_rec_record r;
	enum sp_err e, end;

	SP_TRY(sp_follow_new(&ops, &f));
	if ((e = sp_rec_decoder_new(p->file, &p->keys, &d)) == SP_OK)
		while ((e = sp_rec_decoder_next(d, &r)) == SP_OK &&
		    (e = sp_follow_take(f, &r)) == SP_OK)
			;
	end = sp_follow_end(f);
	sp_rec_decoder_free(d);
	sp_follow_free(f);
	return e == SP_ERR_NOMEM || e == SP_ERR_IO ? e : end;
}

static enum sp_err
look(struct veil *v, struct player *p, bool *is_whole)
{
	bool has_terminal = false, has_view = false, has_gap = false;
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct sp_view_span t;
	struct sp_open o;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(p->file, &p->keys, &d));
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK) {
		if (r.kind == SP_RECORD_OPEN && sp_open_decode(r.data, &o) == SP_OK)
			has_terminal |= o.has_pty != 0;
		has_view |= r.kind == SP_VIEW_COMMAND || r.kind == SP_VIEW_LINE ||
		    r.kind == SP_VIEW_KEYFRAME;
		has_gap |= r.kind == SP_VIEW_GAP && r.lane == SP_LANE_META;
		if (r.kind == SP_VIEW_SECRET && r.lane == SP_LANE_META &&
		    sp_view_span_decode(r.data, &t) == SP_OK)
			add(v, r.chan, t.from_us, t.to_us);
	}
	sp_rec_decoder_free(d);
	*is_whole = !has_terminal || (has_view && !has_gap);
	return e == SP_ERR_NOMEM || e == SP_ERR_IO ? e : SP_OK;
}

enum sp_err
veil_open(struct veil *v, struct player *p)
{
	bool is_whole = true;

	*v = (struct veil){.is_off = (p->start.what & SP_PLAY_UNMASKED) != 0};
	sp_buf_init(&v->shown, SP_REC_RAW_MAX);
	if (v->is_off || !p->keys.has[SP_LANE_IN - 1])
		return SP_OK;
	v->is_blind = !p->keys.has[SP_LANE_META - 1];
	SP_TRY(look(v, p, &is_whole));
	return is_whole ? SP_OK : sense(v, p);
}

void
veil_close(struct veil *v)
{
	free(v->span);
	sp_buf_fini(&v->shown);
	*v = (struct veil){0};
}

static bool
is_unseen(const struct veil *v, const struct sp_rec_record *r)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->span[i].chan == r->chan && r->at_us >= v->span[i].from_us &&
		    r->at_us <= v->span[i].to_us)
			return true;
	return v->is_blind;
}

enum sp_err
veil_record(struct veil *v, struct sp_rec_record *r)
{
	uint8_t *at;

	if (v->is_off || r->lane != SP_LANE_IN || r->kind != SP_RECORD_IN ||
	    !is_unseen(v, r))
		return SP_OK;
	sp_buf_reset(&v->shown);
	SP_TRY(sp_buf_reserve(&v->shown, r->data.n, &at));
	for (size_t i = 0; i < r->data.n; i++)
		at[i] = r->data.p[i] == '\r' || r->data.p[i] == '\n' ?
		    r->data.p[i] : '*';
	sp_buf_commit(&v->shown, r->data.n);
	r->data = sp_buf_span(&v->shown);
	return SP_OK;
}
