/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "bastion/player/player.h"

#define OPEN_MS 30000
#define END_US 5000000
#define FRAME_BYTES 32768u
#define KEYS_MAX 65536
#define COLS_MAX 1000		/* larger terminals are drawn at this size */
#define ROWS_MAX 500

static void
take_size(struct viewer *v, uint32_t cols, uint32_t rows)
{
	v->cols = cols < 1 ? 80 : cols > COLS_MAX ? COLS_MAX : cols;
	v->rows = rows < 1 ? 24 : rows > ROWS_MAX ? ROWS_MAX : rows;
}

static enum sp_err
take_open(struct viewer *v, const struct sp_frame *f)
{
	struct sp_open o;

	if (v->chan != 0 || f->chan == 0)
		return SP_ERR_PROTO;
	SP_TRY(sp_open_decode(f->payload, &o));
	v->chan = f->chan;
	v->credit = SP_STREAM_WINDOW;
	/* One that can only print lines gets lines. */
	v->has_pty = o.has_pty != 0;
	v->is_dumb = o.term.n == 0 || sp_span_is(o.term, "dumb");
	take_size(v, o.cols, o.rows);
	return sp_stream_put(&v->s, SP_FRAME_OPEN_OK, 0, v->chan,
	    (struct sp_span){0});
}

static enum sp_err
take_credit(struct viewer *v, struct sp_span p)
{
	uint32_t n = 0;

	SP_TRY(sp_get_u32(&p, &n));
	if (v->credit + n > UINT32_MAX)
		return SP_ERR_PROTO;
	v->credit += n;
	return SP_OK;
}

static enum sp_err
take_window(struct viewer *v, struct sp_span p)
{
	uint32_t cols = 0, rows = 0;

	SP_TRY(sp_get_u32(&p, &cols));
	SP_TRY(sp_get_u32(&p, &rows));
	take_size(v, cols, rows);
	v->is_resized = true;
	return SP_OK;
}

static enum sp_err
take_keys(struct viewer *v, struct sp_span p)
{
	/* Nobody types so much: the rest is dropped, and the credit given back. */
	if (v->keys.len + p.n <= KEYS_MAX)
		SP_TRY(sp_buf_put(&v->keys, p.p, p.n));
	v->owed += (uint32_t)p.n;
	if (v->owed < SP_STREAM_WINDOW / 4)
		return SP_OK;
	SP_TRY(sp_stream_put_u32(&v->s, SP_FRAME_CREDIT, v->chan, v->owed));
	v->owed = 0;
	return SP_OK;
}

static enum sp_err
one_frame(struct viewer *v, const struct sp_frame *f)
{
	if (f->type == SP_FRAME_OPEN)
		return take_open(v, f);
	if (f->chan != v->chan)
		return SP_OK;
	switch (f->type) {
	case SP_FRAME_DATA:
		return take_keys(v, f->payload);
	case SP_FRAME_CREDIT:
		return take_credit(v, f->payload);
	case SP_FRAME_WINDOW:
		return take_window(v, f->payload);
	case SP_FRAME_CLOSE:
		v->is_gone = true;
		return SP_OK;
	default:
		return SP_OK;	/* EOF, SIGNAL, BREAK mean nothing here */
	}
}

static enum sp_err
take_all(struct viewer *v)
{
	struct sp_frame f;
	enum sp_err e, filled;

	do {
		filled = sp_stream_fill(&v->s);
		while ((e = sp_stream_next(&v->s, &f)) == SP_OK)
			SP_TRY(one_frame(v, &f));
		if (e != SP_ERR_AGAIN)
			return e;
	} while (filled == SP_OK);
	if (filled != SP_ERR_AGAIN)
		v->is_gone = true;
	return SP_OK;
}

enum sp_err
viewer_poll(struct viewer *v, int ms)
{
	struct pollfd pf = {.fd = v->s.fd, .events = POLLIN};
	enum sp_err e;

	if (v->is_gone)
		return SP_ERR_EOF;
	e = sp_stream_flush(&v->s);
	if (e != SP_OK && e != SP_ERR_AGAIN) {
		v->is_gone = true;
		return SP_ERR_EOF;
	}
	if (e == SP_ERR_AGAIN)
		pf.events |= POLLOUT;
	if (poll(&pf, 1, ms) < 0 && errno != EINTR)
		return SP_ERR_IO;
	SP_TRY(take_all(v));
	e = sp_stream_flush(&v->s);
	if (v->is_gone || (e != SP_OK && e != SP_ERR_AGAIN)) {
		v->is_gone = true;
		return SP_ERR_EOF;
	}
	return SP_OK;
}

enum sp_err
viewer_open(struct viewer *v, int fd)
{
	int64_t until = sp_boot_us() + (int64_t)OPEN_MS * 1000;

	*v = (struct viewer){0};
	sp_buf_init(&v->keys, KEYS_MAX);
	SP_TRY(sp_stream_init(&v->s, fd, true));
	while (v->chan == 0) {
		int64_t left = (until - sp_boot_us()) / 1000;

		if (left <= 0)
			return SP_ERR_TIMEOUT;
		SP_TRY(viewer_poll(v, (int)left));
	}
	return SP_OK;
}

void
viewer_fini(struct viewer *v)
{
	sp_stream_fini(&v->s);
	sp_buf_fini(&v->keys);
}

static enum sp_err
write_raw(struct viewer *v, uint8_t lane, struct sp_span s)
{
	while (s.n > 0) {
		size_t n = s.n < FRAME_BYTES ? s.n : FRAME_BYTES;

		n = n < v->credit ? n : (size_t)v->credit;
		if (n == 0 || sp_stream_pending(&v->s) > SP_STREAM_WINDOW) {
			SP_TRY(viewer_poll(v, 1000));
			continue;
		}
		SP_TRY(sp_stream_put(&v->s, SP_FRAME_DATA, lane, v->chan,
		    sp_span_of(s.p, n)));
		v->credit -= n;
		s.p += n;
		s.n -= n;
	}
	return SP_OK;
}

enum sp_err
viewer_write(struct viewer *v, uint8_t lane, struct sp_span s)
{
	/* A terminal in raw mode: what a line discipline would do is ours. */
	while (v->has_pty && !v->is_raw && s.n > 0) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl == NULL ? s.n : (size_t)(nl - s.p);

		SP_TRY(write_raw(v, lane, sp_span_of(s.p, n)));
		if (nl == NULL)
			return viewer_poll(v, 0);
		SP_TRY(write_raw(v, lane, sp_span_of("\r\n", 2)));
		s.p += n + 1;
		s.n -= n + 1;
	}
	SP_TRY(write_raw(v, lane, s));
	return viewer_poll(v, 0);
}

enum sp_err
viewer_text(struct viewer *v, uint8_t lane, const char *text)
{
	return viewer_write(v, lane, sp_span_str(text));
}

bool
viewer_is_idle(const struct viewer *v)
{
	return sp_stream_pending(&v->s) == 0 &&
	    v->credit >= SP_STREAM_WINDOW / 4;
}

void
viewer_end(struct viewer *v, uint32_t status)
{
	int64_t until = sp_boot_us() + END_US;

	if (v->chan == 0 || v->is_gone)
		return;
	if (sp_stream_put_u32(&v->s, SP_FRAME_EXIT_STATUS, v->chan, status) !=
	    SP_OK || sp_stream_put(&v->s, SP_FRAME_EOF, 0, v->chan,
	    (struct sp_span){0}) != SP_OK || sp_stream_put(&v->s,
	    SP_FRAME_CLOSE, 0, v->chan, (struct sp_span){0}) != SP_OK)
		return;
	while (sp_boot_us() < until && sp_stream_pending(&v->s) > 0)
		if (viewer_poll(v, 200) != SP_OK)
			return;
}
