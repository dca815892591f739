/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"
#include "common/mywire.h"
#include "common/pgwire.h"

/*
 * A database's client behind ssh -L. The channel of the outer connection is a
 * channel of the session itself: no inner SSH. What the bastion refuses, the
 * client is told in its own protocol; a closed port would say nothing.
 */
#define NO_TEXT_MAX 900

static bool
keep(char dst[static 256], const char *text)
{
	struct sp_span s = sp_span_str(text);

	return sp_utf8_is_valid(s) && sp_span_cstr(s, dst, 256) == SP_OK;
}

void
sp_sql_begin(struct sp_chan *ch, uint8_t protocol, const struct sp_span *refused)
{
	struct sp_ctx *x = ch->ctx;
	struct sp_msg_chan_open o = {.ctx = ch->jump_id};
	SP_BUF_AUTO b = {.max = 4096};
	ssh_message m = ch->open_msg;

	ch->is_jump = false;
	ch->is_forward = true;
	x->n_forwards++;
	ch->open_kind = SP_OPEN_SQL;
	ch->sql = protocol;
	ch->id = o.chan = ++x->next_chan;
	ch->port = (uint32_t)ssh_message_channel_request_open_destination_port(m);
	ch->origin_port = (uint16_t)
	    ssh_message_channel_request_open_originator_port(m);
	if (refused != NULL) {
		sp_forward_refuse(ch, 1, *refused);
		return;
	}
	if (!keep(ch->origin, ssh_message_channel_request_open_originator(m)))
		ch->origin[0] = '\0';
	if (!keep(ch->host, ssh_message_channel_request_open_destination(m)) ||
	    sp_chan_open_payload(ch, &b) != SP_OK) {
		sp_forward_refuse(ch, 1, sp_span_str("no such address"));
		return;
	}
	ch->state = SP_CHAN_ASKED;
	o.open = sp_buf_span(&b);
	sp_conn_sent(x->conn, sp_send_chan_open(&x->conn->brk, 0, &o, NULL));
}

struct sp_chan *
sp_sql_find(struct sp_conn *c, uint32_t ctx, uint32_t chan)
{
	struct sp_chan *ch = ctx == 0 ? NULL : c->outer.chans;

	while (ch != NULL && (ch->open_kind != SP_OPEN_SQL ||
	    ch->jump_id != ctx || ch->id != chan))
		ch = ch->next;
	return ch;
}

void
sp_sql_end(struct sp_chan *ch)
{
	struct sp_msg_target_close t = {.id = ch->jump_id};

	ch->sql = 0;		/* nobody is left to be told */
	free(ch->sql_no);
	free(ch->sql_why);
	ch->sql_no = ch->sql_why = NULL;
	sp_conn_sent(ch->ctx->conn,
	    sp_send_target_close(&ch->ctx->conn->brk, 0, &t, NULL));
}

/* ------------------------------------------------------------ what is refused */

static struct sp_span
words(const struct sp_chan *ch, struct sp_buf *b)
{
	struct sp_span s;

	if (strncmp(ch->sql_no, "Sallyport: ", 11) != 0 &&
	    sp_buf_printf(b, "Sallyport: ") != SP_OK)
		return sp_span_str("Sallyport: refused");
	sp_text_safe(b, sp_span_str(ch->sql_no), false);
	s = sp_buf_span(b);
	while (s.n > 0 && s.p[s.n - 1] == '\n')
		s.n--;
	if (s.n > NO_TEXT_MAX)
		s.n = NO_TEXT_MAX;
	return s;
}

static void
say(struct sp_chan *ch, const char *sqlstate)
{
	SP_BUF_AUTO text = {.max = 8192}, out = {.max = 8192};
	struct sp_span s = words(ch, &text);
	enum sp_err e;

	if (ch->sql == SP_PROTO_MARIADB)
		e = sp_my_error(&out, 0, 1045, NULL, s);
	else
		e = sp_pg_fatal(&out, sqlstate, s,
		    "`ssh bastion targets` lists what you may reach.");
	if (e == SP_OK)
		(void)!sp_queue_data(ch, 1, sp_buf_span(&out));
	sp_queue_close(ch);
	free(ch->sql_no);
	ch->sql_no = NULL;
}

bool
sp_sql_refuse(struct sp_chan *ch, struct sp_span why)
{
	ssh_message m = ch->open_msg;

	if (ch->sql == 0 || m == NULL || ch->ctx->state == SP_CTX_DEAD ||
	    (ch->sql_no = sp_span_dup(why)) == NULL)
		return false;
	ch->open_msg = NULL;
	sp_leg_leave(ch);
	sp_chan_accept(ch, m);
	ssh_message_free(m);
	ch->state = SP_CHAN_DRAIN;
	if (ch->ch == NULL) {
		ch->client_closed = true;
		return true;
	}
	if (ch->sql == SP_PROTO_MARIADB)
		say(ch, "");	/* there the server speaks first */
	return true;
}

/* The broker ends the session. Its stream says so, too, unless its recorder waits
 * for a disk: then the stream has no end. */
void
sp_sql_why(struct sp_conn *c, uint32_t ctx, struct sp_span why)
{
	struct sp_chan *ch = ctx == 0 ? NULL : c->outer.chans;

	while (ch != NULL && (ch->open_kind != SP_OPEN_SQL || ch->jump_id != ctx))
		ch = ch->next;
	if (ch == NULL || ch->leg == NULL || ch->sql_why != NULL)
		return;
	ch->sql_why = sp_span_dup(why);
	ch->sql_cut_us = sp_boot_us() + SP_CUT_US;
}

void
sp_sql_tick(struct sp_ctx *x, int64_t now)
{
	for (struct sp_chan *ch = x->chans, *next; ch != NULL; ch = next) {
		next = ch->next;
		if (ch->sql_cut_us == 0 || now < ch->sql_cut_us)
			continue;
		ch->sql_cut_us = 0;
		if (ch->leg != NULL)
			sp_leg_cut(ch->leg);
	}
}

/* The session ended with a reason: a client between two messages can read it. */
void
sp_sql_cut(struct sp_chan *ch, struct sp_span why)
{
	if (ch->sql == SP_PROTO_POSTGRESQL && why.n > 0 && ch->sql_no == NULL &&
	    !ch->close_queued && (ch->sql_no = sp_span_dup(why)) != NULL)
		say(ch, "57P01");
	sp_queue_close(ch);
}

/* A client asks for encryption first, twice perhaps: only its StartupMessage may
 * be answered with an error. */
bool
sp_sql_pump(struct sp_chan *ch)
{
	bool moved = false;

	if (ch->sql_no == NULL || ch->ch == NULL)
		return false;
	while (ch->has_data && ch->sql_no != NULL) {
		struct sp_pg_start s = {.what = SP_PG_STARTUP};
		size_t used;
		int k = ssh_channel_read_nonblocking(ch->ch,
		    ch->sql_head + ch->n_sql_head,
		    (uint32_t)(sizeof(ch->sql_head) - ch->n_sql_head), 0);

		if (k <= 0) {
			ch->has_data = false;
			break;
		}
		moved = true;
		ch->n_sql_head = (uint8_t)(ch->n_sql_head + k);
		if (ch->n_sql_head < sizeof(ch->sql_head))
			continue;
		ch->n_sql_head = 0;
		if (sp_pg_start_read(sp_span_of(ch->sql_head, 8), &s, &used) ==
		    SP_OK && (s.what == SP_PG_SSL || s.what == SP_PG_GSS))
			(void)!sp_queue_data(ch, 1, sp_span_str("N"));
		else
			say(ch, "28000");
	}
	if (ch->eof_seen && !ch->has_data)
		sp_queue_close(ch);
	return moved;
}
