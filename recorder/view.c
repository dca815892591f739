/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/view.h"

#include <string.h>

#include "common/text.h"
#include "recorder/format.h"
#include "recorder/term/term.h"

#define FORMAT_SURE 1
#define FORMAT_UNSURE 2
#define ROWS_MAX UINT16_MAX

bool
sp_view_is_text(struct sp_span s, size_t max)
{
	if (s.n > max || !sp_utf8_is_valid(s))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] == 0x7f ||
		    (s.p[i] == 0xc2 && i + 1 < s.n && s.p[i + 1] < 0xa0))
			return false;
	return true;
}

bool
sp_view_is_command(struct sp_span s)
{
	if (s.n > SP_VIEW_COMMAND_MAX)
		return false;
	while (s.n > 0) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl == NULL ? s.n : (size_t)(nl - s.p);

		if (!sp_view_is_text(sp_span_of(s.p, n), n))
			return false;
		n += nl != NULL;
		s = sp_span_of(s.p + n, s.n - n);
	}
	return true;
}

static enum sp_err
put_ago(struct sp_buf *b, uint64_t ago_us)
{
	uint64_t ms = (ago_us > SP_VIEW_AGO_MAX ? SP_VIEW_AGO_MAX : ago_us) /
	    1000;

	return sp_rec_varint_put(b, ms);
}

static enum sp_err
get_ago(struct sp_span *s, uint64_t *ago_us)
{
	uint64_t ms = 0;

	SP_TRY(sp_rec_varint_get(s, SP_VIEW_AGO_MAX / 1000, &ms));
	*ago_us = ms * 1000;
	return SP_OK;
}

enum sp_err
sp_view_keyframe_encode(struct sp_buf *b, const struct sp_view_keyframe *k)
{
	SP_TRY(sp_buf_put_u8(b, k->is_unsure ? FORMAT_UNSURE : FORMAT_SURE));
	SP_TRY(sp_buf_put_u32(b, k->cols));
	SP_TRY(sp_buf_put_u32(b, k->rows));
	SP_TRY(sp_buf_put_u64(b, k->at_us));
	return sp_buf_put(b, k->state.p, k->state.n);
}

enum sp_err
sp_view_keyframe_decode(struct sp_span s, struct sp_view_keyframe *k)
{
	uint8_t format = 0;

	SP_TRY(sp_get_u8(&s, &format));
	if (format != FORMAT_SURE && format != FORMAT_UNSURE)
		return SP_ERR_UNSUPPORTED;
	k->is_unsure = format == FORMAT_UNSURE;
	SP_TRY(sp_get_u32(&s, &k->cols));
	SP_TRY(sp_get_u32(&s, &k->rows));
	SP_TRY(sp_get_u64(&s, &k->at_us));
	k->state = s;
	return k->at_us > SP_REC_TIME_MAX || s.n == 0 ||
	    s.n > SP_VIEW_STATE_MAX || k->cols == 0 ||
	    k->cols > SP_TERM_COLS_MAX || k->rows == 0 ||
	    k->rows > SP_TERM_ROWS_MAX ? SP_ERR_PROTO : SP_OK;
}

enum sp_err
sp_view_line_encode(struct sp_buf *b, const struct sp_view_line *l)
{
	SP_TRY(put_ago(b, l->ago_us));
	SP_TRY(sp_rec_varint_put(b, l->row));
	return sp_buf_put(b, l->text.p, l->text.n);
}

enum sp_err
sp_view_line_decode(struct sp_span s, struct sp_view_line *l)
{
	uint64_t row = 0;

	SP_TRY(get_ago(&s, &l->ago_us));
	SP_TRY(sp_rec_varint_get(&s, ROWS_MAX, &row));
	l->row = (uint16_t)row;
	l->text = s;
	return sp_view_is_text(s, SP_VIEW_LINE_MAX) ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_view_command_encode(struct sp_buf *b, const struct sp_view_command *c)
{
	SP_TRY(sp_buf_put_u8(b, (uint8_t)c->source));
	SP_TRY(sp_buf_put_u8(b, c->percent));
	SP_TRY(put_ago(b, c->ago_us));
	SP_TRY(sp_rec_varint_put(b, c->row));
	return sp_buf_put(b, c->text.p, c->text.n);
}

enum sp_err
sp_view_command_decode(struct sp_span s, struct sp_view_command *c)
{
	uint8_t source = 0;
	uint64_t row = 0;

	SP_TRY(sp_get_u8(&s, &source));
	SP_TRY(sp_get_u8(&s, &c->percent));
	SP_TRY(get_ago(&s, &c->ago_us));
	SP_TRY(sp_rec_varint_get(&s, ROWS_MAX, &row));
	if (source < SP_VIEW_SCREEN || source > SP_VIEW_EXEC || c->percent > 100)
		return SP_ERR_PROTO;
	c->source = source;
	c->row = (uint16_t)row;
	c->text = s;
	return sp_view_is_command(s) ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_view_span_encode(struct sp_buf *b, const struct sp_view_span *v)
{
	SP_TRY(sp_buf_put_u64(b, v->from_us));
	SP_TRY(sp_buf_put_u64(b, v->to_us));
	return sp_buf_put(b, v->why.p, v->why.n);
}

enum sp_err
sp_view_span_decode(struct sp_span s, struct sp_view_span *v)
{
	SP_TRY(sp_get_u64(&s, &v->from_us));
	SP_TRY(sp_get_u64(&s, &v->to_us));
	v->why = s;
	return v->from_us <= v->to_us && v->to_us <= SP_REC_TIME_MAX &&
	    sp_view_is_text(s, SP_VIEW_WHY_MAX) ? SP_OK : SP_ERR_PROTO;
}
