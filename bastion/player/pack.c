/* SPDX-License-Identifier: Apache-2.0 */
/* The terminals of a moment as bytes in memory: what stands on a screen is
 * mostly blanks and text, a few KiB compressed. Never on a disk. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "bastion/player/show.h"

#define CLEAR_MAX ((size_t)64 << 20)

static enum sp_err
put_actor(const struct actor *a, struct sp_buf *b)
{
	SP_BUF_AUTO term = {.max = SP_TERM_DUMP_MAX};

	SP_TRY(sp_buf_put_u32(b, a->chan));
	if (a->chan == 0)
		return SP_OK;
	SP_TRY(sp_buf_put_u8(b, a->is_pty));
	SP_TRY(sp_buf_put_u8(b, a->is_open));
	SP_TRY(sp_buf_put_u8(b, a->is_small));
	SP_TRY(sp_buf_put_u8(b, a->is_sftp));
	SP_TRY(sp_buf_put(b, a->what, WHAT_BYTES));
	SP_TRY(sp_term_dump(a->term, &term));
	return sp_buf_put_bytes(b, sp_buf_span(&term));
}

enum sp_err
stage_pack(const struct stage *s, struct sp_buf *out)
{
	SP_BUF_AUTO clear = {.max = CLEAR_MAX};
	size_t bound, n;
	uint8_t *at;

	SP_TRY(sp_buf_put_u32(&clear, s->focus));
	SP_TRY(sp_buf_put_u64(&clear, s->fed));
	SP_TRY(sp_buf_put_u64(&clear, s->at_us));
	for (size_t i = 0; i < STAGE_MAX; i++)
		SP_TRY(put_actor(&s->actor[i], &clear));
	bound = ZSTD_compressBound(clear.len);
	at = malloc(bound);
	if (at == NULL)
		return SP_ERR_NOMEM;
	n = ZSTD_compress(at, bound, sp_buf_span(&clear).p, clear.len, 1);
	sp_buf_init(out, 8 + bound);
	if (ZSTD_isError(n) || sp_buf_put_u64(out, clear.len) != SP_OK ||
	    sp_buf_put(out, at, n) != SP_OK) {
		free(at);
		return SP_ERR_NOMEM;
	}
	free(at);
	return SP_OK;
}

static enum sp_err
get_actor(struct stage *s, struct actor *a, struct sp_span *p)
{
	const uint8_t *f, *what;
	struct sp_span term;

	SP_TRY(sp_get_u32(p, &a->chan));
	if (a->chan == 0)
		return SP_OK;
	SP_TRY(sp_get(p, 4, &f));
	SP_TRY(sp_get(p, WHAT_BYTES, &what));
	a->is_pty = f[0] != 0;
	a->is_open = f[1] != 0;
	a->is_small = f[2] != 0;
	a->is_sftp = f[3] != 0;
	memcpy(a->what, what, WHAT_BYTES);
	a->what[WHAT_BYTES - 1] = '\0';
	SP_TRY(sp_get_bytes(p, SP_TERM_DUMP_MAX, &term));
	return sp_term_load(term, s->line, s->ctx, &a->term);
}

static enum sp_err
get_stage(struct stage *s, struct sp_span p)
{
	SP_TRY(sp_get_u32(&p, &s->focus));
	SP_TRY(sp_get_u64(&p, &s->fed));
	SP_TRY(sp_get_u64(&p, &s->at_us));
	for (size_t i = 0; i < STAGE_MAX; i++)
		SP_TRY(get_actor(s, &s->actor[i], &p));
	return p.n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
stage_unpack(struct stage *s, struct sp_span packed)
{
	struct stage new = {.line = s->line, .ctx = s->ctx};
	uint64_t n = 0;
	uint8_t *clear;
	enum sp_err e;

	SP_TRY(sp_get_u64(&packed, &n));
	if (n > CLEAR_MAX)
		return SP_ERR_TOOBIG;
	clear = malloc(n + 1);
	if (clear == NULL)
		return SP_ERR_NOMEM;
	e = ZSTD_decompress(clear, n, packed.p, packed.n) == n ?
	    get_stage(&new, sp_span_of(clear, n)) : SP_ERR_PROTO;
	free(clear);
	if (e != SP_OK) {
		stage_free(&new);
		return e;
	}
	stage_free(s);
	*s = new;
	return SP_OK;
}
