/* SPDX-License-Identifier: Apache-2.0 */
#include "common/pgwire.h"

#include <string.h>

#include "common/text.h"

#define TEXT_MAX 1000

/* A text with a NUL behind it. */
static enum sp_err
get_text(struct sp_span *s, struct sp_span *out)
{
	const uint8_t *end = s->n == 0 ? NULL : memchr(s->p, 0, s->n);

	if (end == NULL)
		return SP_ERR_PROTO;
	*out = sp_span_of(s->p, (size_t)(end - s->p));
	*s = sp_span_of(end + 1, s->n - out->n - 1);
	return SP_OK;
}

static enum sp_err
check_params(struct sp_span params)
{
	struct sp_span name, value;
	enum sp_err e;

	while ((e = sp_pg_param_next(&params, &name, &value)) == SP_OK)
		;
	return e == SP_ERR_EOF ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_pg_start_read(struct sp_span in, struct sp_pg_start *s, size_t *used)
{
	uint32_t n, code;
	struct sp_span rest = in;

	if (in.n < 8)
		return SP_ERR_AGAIN;
	SP_TRY(sp_get_ssh_u32(&rest, &n));
	SP_TRY(sp_get_ssh_u32(&rest, &code));
	if (n < 8 || n > SP_PG_START_MAX)
		return SP_ERR_PROTO;
	*s = (struct sp_pg_start){.what = SP_PG_STARTUP};
	if (code == SP_PG_SSL || code == SP_PG_GSS) {
		if (n != 8)
			return SP_ERR_PROTO;
		s->what = (enum sp_pg_first)code;
	} else if (code == SP_PG_CANCEL) {
		if (n != 16)
			return SP_ERR_PROTO;
		s->what = SP_PG_CANCEL;
	} else if (code >> 16 != 3) {
		return SP_ERR_PROTO;
	}
	if (in.n < n)
		return SP_ERR_AGAIN;
	*used = n;
	if (s->what == SP_PG_CANCEL) {
		SP_TRY(sp_get_ssh_u32(&rest, &s->pid));
		return sp_get_ssh_u32(&rest, &s->key);
	}
	if (s->what != SP_PG_STARTUP)
		return SP_OK;
	s->minor = code & 0xffff;
	s->params = sp_span_of(rest.p, n - 8);
	return check_params(s->params);
}

enum sp_err
sp_pg_param_next(struct sp_span *params, struct sp_span *name,
    struct sp_span *value)
{
	SP_TRY(get_text(params, name));
	if (name->n == 0)
		return params->n == 0 ? SP_ERR_EOF : SP_ERR_PROTO;
	return get_text(params, value);
}

enum sp_err
sp_pg_msg_read(struct sp_span in, struct sp_pg_msg *m, size_t *used)
{
	struct sp_span rest = in;
	uint32_t n;

	if (in.n < 5)
		return SP_ERR_AGAIN;
	SP_TRY(sp_get_u8(&rest, &m->type));
	SP_TRY(sp_get_ssh_u32(&rest, &n));
	if (n < 4 || n > SP_PG_MSG_MAX)
		return SP_ERR_PROTO;
	if (in.n < 1 + (size_t)n)
		return SP_ERR_AGAIN;
	m->body = sp_span_of(rest.p, n - 4);
	*used = 1 + (size_t)n;
	return SP_OK;
}

enum sp_err
sp_pg_put(struct sp_buf *out, uint8_t type, struct sp_span body)
{
	SP_TRY(sp_buf_put_u8(out, type));
	SP_TRY(sp_buf_put_ssh_u32(out, (uint32_t)body.n + 4));
	return sp_buf_put(out, body.p, body.n);
}

const char *
sp_pg_field(struct sp_span body, char letter, char *dst, size_t cap)
{
	struct sp_span text;
	uint8_t c;

	dst[0] = '\0';
	while (sp_get_u8(&body, &c) == SP_OK && c != 0 &&
	    get_text(&body, &text) == SP_OK)
		if (c == (uint8_t)letter)
			return sp_vis(dst, cap, text);
	return dst;
}

static enum sp_err
put_field(struct sp_buf *b, char letter, struct sp_span text)
{
	SP_TRY(sp_buf_put_u8(b, (uint8_t)letter));
	/* A NUL would end it, and what follows be read as another field. */
	for (size_t i = 0; i < text.n && i < TEXT_MAX; i++)
		SP_TRY(sp_buf_put_u8(b, text.p[i] == 0 ? '?' : text.p[i]));
	return sp_buf_put_u8(b, 0);
}

enum sp_err
sp_pg_fatal(struct sp_buf *out, const char *sqlstate, struct sp_span text,
    const char *hint)
{
	SP_BUF_AUTO b = {.max = 4 * TEXT_MAX};

	SP_TRY(put_field(&b, 'S', sp_span_str("FATAL")));
	SP_TRY(put_field(&b, 'V', sp_span_str("FATAL")));
	SP_TRY(put_field(&b, 'C', sp_span_str(sqlstate)));
	SP_TRY(put_field(&b, 'M', text));
	if (hint[0] != '\0')
		SP_TRY(put_field(&b, 'H', sp_span_str(hint)));
	SP_TRY(sp_buf_put_u8(&b, 0));
	return sp_pg_put(out, 'E', sp_buf_span(&b));
}
