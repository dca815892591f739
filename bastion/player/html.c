/* SPDX-License-Identifier: Apache-2.0 */
/* Export as one file of HTML: a player, and the screens as the engine drew them.
 * What was recorded stands in it as data and reaches the page as text nodes. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/page.h"

#define OUT_MAX (64u << 20)
#define FLUSH_BYTES 65536u
#define TOTAL_MAX (UINT64_C(512) << 20) /* what a browser may still open */
#define PAUSE_US 16000		/* a picture where the target paused so long, */
#define FRAME_US 33000		/* and at least so often */

struct html {
	struct player *p;
	struct stage stage;
	struct marks marks;
	struct pages *pages;
	struct sp_buf out;
	uint64_t written, from_us, last_us;
	uint32_t dirty[STAGE_MAX];
	size_t n_dirty;
	bool is_cut;
};

static enum sp_err
flush(struct html *h, size_t least)
{
	enum sp_err e;

	if (h->out.len < least)
		return SP_OK;
	h->written += h->out.len;
	e = viewer_write(&h->p->view, 1, sp_buf_span(&h->out));
	sp_buf_reset(&h->out);
	return e;
}

static enum sp_err
put(struct html *h, const char *text)
{
	return sp_buf_put(&h->out, text, strlen(text));
}

static enum sp_err
put_span(struct html *h, struct sp_span s)
{
	return sp_buf_put(&h->out, s.p, s.n);
}

/* --------------------------------------------------------------------- head */

/* 'sha256-...': this element runs and no other. */
static enum sp_err
source_of(struct html *h, const char *directive, struct sp_span s)
{
	uint8_t hash[32];

	if (EVP_Digest(s.p, s.n, hash, NULL, EVP_sha256(), NULL) != 1)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_printf(&h->out, "; %s 'sha256-", directive));
	SP_TRY(sp_base64(&h->out, sp_span_of(hash, sizeof(hash))));
	return put(h, "'");
}

static enum sp_err
head(struct html *h)
{
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, h->p->report.session);
	SP_TRY(put(h, "<!doctype html>\n<html lang=\"en\">\n<head>\n"
	    "<meta charset=\"utf-8\">\n"
	    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src "
	    "'none'"));
	SP_TRY(source_of(h, "script-src", page_js()));
	SP_TRY(source_of(h, "style-src", page_css()));
	SP_TRY(sp_buf_printf(&h->out, "; base-uri 'none'; form-action 'none'\">\n"
	    "<meta name=\"referrer\" content=\"no-referrer\">\n"
	    "<meta name=\"viewport\" content=\"width=device-width\">\n"
	    "<meta name=\"color-scheme\" content=\"dark light\">\n"
	    "<title>Recording %s</title>\n<style>", id));
	SP_TRY(put_span(h, page_css()));
	SP_TRY(put(h, "</style>\n</head>\n"));
	SP_TRY(put_span(h, page_body()));
	return put(h, "<script type=\"application/json\" id=\"data\">\n");
}

static enum sp_err
tail(struct html *h)
{
	SP_TRY(put(h, "</script>\n<script>"));
	SP_TRY(put_span(h, page_js()));
	return put(h, "</script>\n</body>\n</html>\n");
}

static enum sp_err
member(struct html *h, const char *name, const char *value)
{
	SP_TRY(sp_buf_printf(&h->out, ",\"%s\":", name));
	return pages_string(&h->out, sp_span_str(value));
}

static enum sp_err
what(struct html *h, struct sp_span meta)
{
	const struct sp_rec_report *r = &h->p->report;
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, r->session);
	SP_TRY(sp_buf_printf(&h->out, "{\"format\":1,\"session\":\"%s\","
	    "\"opened_us\":%lld,\"end_ms\":%llu", id, (long long)r->opened_us,
	    (unsigned long long)(r->last_us - r->opened_us) / 1000));
	SP_TRY(member(h, "verdict", sp_rec_verdict_name(r->verdict)));
	SP_TRY(member(h, "why", r->text));
	SP_TRY(member(h, "exported_for", h->p->name));
	SP_TRY(put(h, ",\"meta\":"));
	SP_TRY(pages_string(&h->out, meta));
	return put(h, "}\n");
}

/* ------------------------------------------------------------------- passes */

static enum sp_err
marks(struct html *h)
{
	for (size_t i = 0; i < h->marks.n; i++) {
		const struct mark *m = &h->marks.m[i];

		SP_TRY(sp_buf_printf(&h->out, "[\"m\",%llu,\"%c\",%u,",
		    (unsigned long long)(m->at_us / 1000), m->kind, m->chan));
		SP_TRY(pages_string(&h->out, sp_span_str(marks_text(&h->marks,
		    m))));
		SP_TRY(put(h, "]\n"));
		SP_TRY(flush(h, FLUSH_BYTES));
	}
	return SP_OK;
}

/* What happened when, and what it was all about. */
static enum sp_err
first_pass(struct html *h)
{
	struct sp_rec_decoder *d = NULL;
	SP_BUF_AUTO meta = {.max = 65536};
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(h->p->file, &h->p->keys, &d));
	while ((e = cover_next(d, &r)) == SP_OK) {
		marks_take(&h->marks, &r);
		if (r.kind == SP_RECORD_META && meta.len == 0)
			(void)!sp_buf_put(&meta, r.data.p, r.data.n);
	}
	sp_rec_decoder_free(d);
	if (e == SP_ERR_NOMEM || e == SP_ERR_IO)
		return e;
	SP_TRY(what(h, sp_buf_span(&meta)));
	return marks(h);
}

static enum sp_err
draw(struct html *h)
{
	for (size_t i = 0; i < h->n_dirty; i++) {
		const struct sp_term *t = stage_shown(&h->stage, h->dirty[i]);

		if (t != NULL)
			SP_TRY(pages_frame(h->pages, h->last_us, h->dirty[i], t));
	}
	h->n_dirty = 0;
	return SP_OK;
}

/* A channel: what it was. */
static enum sp_err
name(struct html *h, uint32_t chan)
{
	const struct actor *a = stage_find(&h->stage, chan);

	if (a == NULL)
		return SP_OK;
	SP_TRY(sp_buf_printf(&h->out, "[\"c\",%u,%d,", chan, a->is_pty));
	SP_TRY(pages_string(&h->out, sp_span_str(a->what)));
	return put(h, "]\n");
}

static enum sp_err
take(struct html *h, const struct sp_rec_record *r)
{
	bool is_changed = false, is_there = false;

	if (r->lane != SP_LANE_OUT || r->chan == 0)
		return SP_OK;
	if (h->n_dirty > 0 && (r->at_us - h->last_us > PAUSE_US ||
	    r->at_us - h->from_us > FRAME_US || h->n_dirty == STAGE_MAX))
		SP_TRY(draw(h));
	SP_TRY(stage_feed(&h->stage, r, &is_changed));
	if (r->kind == SP_RECORD_OPEN)
		SP_TRY(name(h, r->chan));
	if (!is_changed)
		return SP_OK;
	if (h->n_dirty == 0)
		h->from_us = r->at_us;
	h->last_us = r->at_us;
	for (size_t i = 0; i < h->n_dirty; i++)
		is_there |= h->dirty[i] == r->chan;
	if (!is_there)
		h->dirty[h->n_dirty++] = r->chan;
	return flush(h, FLUSH_BYTES);
}

static enum sp_err
second_pass(struct html *h)
{
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	enum sp_err e;

	SP_TRY(sp_rec_decoder_new(h->p->file, &h->p->keys, &d));
	while ((e = cover_next(d, &r)) == SP_OK &&
	    (e = take(h, &r)) == SP_OK) {
		if (h->written > TOTAL_MAX) {
			e = SP_ERR_FULL;
			break;
		}
	}
	sp_rec_decoder_free(d);
	if (e == SP_ERR_NOMEM || e == SP_ERR_IO)
		return e;
	h->is_cut = e == SP_ERR_FULL;
	if (!h->is_cut)
		SP_TRY(draw(h));
	return sp_buf_printf(&h->out, "[\"e\",%llu,%d]\n",
	    (unsigned long long)(h->last_us / 1000), h->is_cut);
}

static enum sp_err
run(struct html *h)
{
	SP_TRY(pages_new(&h->out, &h->pages));
	SP_TRY(head(h));
	SP_TRY(first_pass(h));
	SP_TRY(second_pass(h));
	SP_TRY(tail(h));
	return flush(h, 0);
}

enum sp_err
play_html(struct player *p)
{
	struct html h = {.p = p};
	enum sp_err e;

	sp_buf_init(&h.out, OUT_MAX);
	marks_init(&h.marks);
	e = run(&h);
	if (e == SP_OK && h.is_cut)
		e = viewer_text(&p->view, 2, "The recording is larger than a page "
		    "can be; its end is not in this export\n");
	pages_free(h.pages);
	stage_free(&h.stage);
	marks_fini(&h.marks);
	sp_buf_fini(&h.out);
	return e;
}
