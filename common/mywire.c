/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mywire.h"

#include <string.h>

#include "common/text.h"

#define TEXT_MAX 1000
#define WHOLE 0xffffffu		/* a packet of this length goes on in the next */

enum {
	COM_CHANGE_USER = 0x11,
	COM_BINLOG_DUMP = 0x12,
	COM_TABLE_DUMP = 0x13,
	COM_REGISTER_REPLICA = 0x15,
	COM_BINLOG_DUMP_GTID = 0x1e,
};

/* ----------------------------------------------------------------- packets */

static uint32_t
length_of(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

enum sp_err
sp_my_put(struct sp_buf *out, uint8_t seq, struct sp_span body)
{
	if (body.n > SP_MY_PACKET_MAX)
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_put_u16(out, (uint16_t)body.n));
	SP_TRY(sp_buf_put_u8(out, 0));
	SP_TRY(sp_buf_put_u8(out, seq));
	return sp_buf_put(out, body.p, body.n);
}

enum sp_err
sp_my_packet(struct sp_span in, uint8_t *seq, struct sp_span *body,
    size_t *need)
{
	size_t n;

	*need = 4;
	if (in.n < 4)
		return SP_ERR_AGAIN;
	n = length_of(in.p);
	if (n == 0 || n > SP_MY_PACKET_MAX)
		return SP_ERR_PROTO;
	*need = 4 + n;
	if (in.n < *need)
		return SP_ERR_AGAIN;
	*seq = in.p[3];
	*body = sp_span_of(in.p + 4, n);
	return SP_OK;
}

static enum sp_err
text_of(struct sp_span *s, struct sp_span *out)
{
	const uint8_t *end = s->n == 0 ? NULL : memchr(s->p, 0, s->n);

	if (end == NULL)
		return SP_ERR_PROTO;
	*out = sp_span_of(s->p, (size_t)(end - s->p));
	*s = sp_span_of(end + 1, s->n - out->n - 1);
	return SP_OK;
}

enum sp_err
sp_my_error(struct sp_buf *out, uint8_t seq, uint16_t code,
    const char *sqlstate, struct sp_span text)
{
	SP_BUF_AUTO b = {.max = TEXT_MAX + 16};

	SP_TRY(sp_buf_put_u8(&b, 0xff));
	SP_TRY(sp_buf_put_u16(&b, code));
	if (sqlstate != NULL)
		SP_TRY(sp_buf_printf(&b, "#%.5s", sqlstate));
	SP_TRY(sp_buf_put(&b, text.p, text.n < TEXT_MAX ? text.n : TEXT_MAX));
	return sp_my_put(out, seq, sp_buf_span(&b));
}

/* ---------------------------------------------------------------- greeting */

enum sp_err
sp_my_greeting_read(struct sp_span s, struct sp_my_greeting *g)
{
	const uint8_t *skip, *more;
	struct sp_span version, m;
	uint16_t low, high;
	uint8_t v;

	SP_TRY(sp_get_u8(&s, &v));
	if (v != 10)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(text_of(&s, &version));
	if (sp_span_cstr(version, g->version, sizeof(g->version)) != SP_OK)
		return SP_ERR_PROTO;
	SP_TRY(sp_get_u32(&s, &g->thread));
	SP_TRY(sp_get(&s, 9, &skip));
	SP_TRY(sp_get_u16(&s, &low));
	SP_TRY(sp_get_u8(&s, &g->charset));
	SP_TRY(sp_get_u16(&s, &g->status));
	SP_TRY(sp_get_u16(&s, &high));
	SP_TRY(sp_get(&s, 7, &skip));
	SP_TRY(sp_get(&s, 4, &more));
	g->caps = (uint32_t)high << 16 | low;
	m = sp_span_of(more, 4);
	SP_TRY(sp_get_u32(&m, &g->more));
	if ((g->caps & SP_MY_CAP_MYSQL) != 0)
		g->more = 0;
	return (g->caps & SP_MY_CAP_SSL) != 0 &&
	    (g->caps & SP_MY_CAP_PLUGIN) != 0 ? SP_OK : SP_ERR_UNSUPPORTED;
}

enum sp_err
sp_my_greeting_put(struct sp_buf *out, const struct sp_my_greeting *g,
    uint32_t caps)
{
	/* 8 and 12 bytes and a NUL: nobody is asked for a password here. */
	static const char nonce[] = "no-password-is-asked";
	SP_BUF_AUTO b = {.max = 512};

	SP_TRY(sp_buf_put_u8(&b, 10));
	SP_TRY(sp_buf_put(&b, g->version, strlen(g->version) + 1));
	SP_TRY(sp_buf_put_u32(&b, g->thread));
	SP_TRY(sp_buf_put(&b, nonce, 8));
	SP_TRY(sp_buf_put_u8(&b, 0));
	SP_TRY(sp_buf_put_u16(&b, (uint16_t)caps));
	SP_TRY(sp_buf_put_u8(&b, g->charset));
	SP_TRY(sp_buf_put_u16(&b, g->status));
	SP_TRY(sp_buf_put_u16(&b, (uint16_t)(caps >> 16)));
	SP_TRY(sp_buf_put_u8(&b, 21));
	SP_TRY(sp_buf_put(&b, "\0\0\0\0\0\0", 6));
	SP_TRY(sp_buf_put_u32(&b, g->more));
	SP_TRY(sp_buf_put(&b, nonce + 8, 13));
	SP_TRY(sp_buf_put(&b, "mysql_native_password", 22));
	return sp_my_put(out, 0, sp_buf_span(&b));
}

enum sp_err
sp_my_wish_read(struct sp_span s, uint32_t offered, struct sp_my_wish *w)
{
	const uint8_t *skip;
	uint8_t n;

	SP_TRY(sp_get_u32(&s, &w->caps));
	SP_TRY(sp_get_u32(&s, &w->packet_max));
	SP_TRY(sp_get_u8(&s, &w->charset));
	SP_TRY(sp_get(&s, 19, &skip));
	SP_TRY(sp_get_u32(&s, &w->more));
	if ((w->caps & SP_MY_CAP_MYSQL) != 0)
		w->more = 0;
	w->caps &= offered | SP_MY_CAP_MYSQL;
	if ((w->caps & SP_MY_CAP_41) == 0 || (w->caps & SP_MY_CAP_SECURE) == 0 ||
	    (w->caps & SP_MY_CAP_SSL) != 0)
		return SP_ERR_PROTO;
	SP_TRY(text_of(&s, &w->user));
	SP_TRY(sp_get_u8(&s, &n));
	SP_TRY(sp_get(&s, n, &skip));
	w->db = sp_span_of(NULL, 0);
	return (w->caps & SP_MY_CAP_DB) != 0 ? text_of(&s, &w->db) : SP_OK;
}

enum sp_err
sp_my_switch_read(struct sp_span body, struct sp_span *plugin,
    struct sp_span *nonce)
{
	uint8_t first;

	SP_TRY(sp_get_u8(&body, &first));
	if (first != 0xfe)
		return SP_ERR_PROTO;
	SP_TRY(text_of(&body, plugin));
	*nonce = body;
	if (nonce->n == 21 || nonce->n == 33)
		nonce->n--;
	return SP_OK;
}

/* ---------------------------------------------------------------- commands */

static bool
no(struct sp_my_watch *w, const char *why)
{
	w->why = why;
	return false;
}

static bool
head(struct sp_my_watch *w)
{
	bool follows = w->continues && w->head[3] == (uint8_t)(w->last_seq + 1);

	w->left = length_of(w->head);
	w->is_first = w->head[3] == 0 && !w->continues;
	w->last_seq = w->head[3];
	w->continues = w->left == WHOLE;
	if (w->left == 0)
		w->n_head = 0;
	if (!w->is_first && !follows && w->left > 0)
		return no(w, "the server asked for a file of yours (LOCAL INFILE), "
		    "or the client answers out of turn: nothing of it was sent");
	return true;
}

static bool
command(struct sp_my_watch *w, uint8_t c)
{
	switch (c) {
	case COM_CHANGE_USER:
		return no(w, "to change the user is not permitted: connect again");
	case COM_BINLOG_DUMP:
	case COM_TABLE_DUMP:
	case COM_REGISTER_REPLICA:
	case COM_BINLOG_DUMP_GTID:
		return no(w, "replication does not pass the bastion");
	default:
		return true;
	}
}

bool
sp_my_watch(struct sp_my_watch *w, struct sp_span s)
{
	while (s.n > 0) {
		size_t n;

		if (w->n_head < sizeof(w->head)) {
			w->head[w->n_head++] = s.p[0];
			s = sp_span_of(s.p + 1, s.n - 1);
			if (w->n_head == sizeof(w->head) && !head(w))
				return false;
			continue;
		}
		if (w->is_first && !command(w, s.p[0]))
			return false;
		w->is_first = false;
		n = s.n < w->left ? s.n : w->left;
		w->left -= (uint32_t)n;
		s = sp_span_of(s.p + n, s.n - n);
		if (w->left == 0)
			w->n_head = 0;
	}
	return true;
}
