/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"

#define STDIO_PORT 65535	/* what OpenSSH says is the origin of -J and -W */
#define REASON_MAX 400

bool
sp_jump_open(struct sp_ctx *x, ssh_message m)
{
	struct sp_conn *c = x->conn;
	struct sp_span host = sp_span_str(
	    ssh_message_channel_request_open_destination(m));
	int port = ssh_message_channel_request_open_destination_port(m);
	struct sp_msg_target_open o = {.host = host, .port = (uint16_t)port};
	struct sp_chan *ch;

	if (host.n == 0 || host.n > 255 || !sp_utf8_is_valid(host) ||
	    port < 1 || port > 65535 || c->end_us != 0 ||
	    (ch = sp_chan_new(x)) == NULL) {
		sp_conn_policy_refusal(c, "direct-tcpip", "");
		ssh_message_reply_default(m);
		return false;
	}
	ch->is_jump = true;
	ch->jump_id = o.id = ++c->next_inner;
	ch->open_msg = m;
	ch->is_stdio = (uint16_t)ssh_message_channel_request_open_originator_port(m)
	    == STDIO_PORT;
	ch->state = SP_CHAN_ASKED;
	sp_conn_sent(c, sp_send_target_open(&c->brk, 0, &o, NULL));
	return true;
}

/*
 * libssh cannot say why it refuses a channel. With ssh -J the other end of the
 * channel is an ssh client: it gets an SSH disconnect message with the reason
 * (RFC 4253, 11.1, allowed before any key exchange) and prints it.
 */
static void
tell_reason(struct sp_chan *ch, struct sp_span text)
{
	SP_BUF_AUTO safe = {.max = 8192};
	SP_BUF_AUTO pay = {.max = 8192};
	SP_BUF_AUTO out = {.max = 8192};
	static const uint8_t zero[32];
	struct sp_span why;
	size_t pad;

	sp_text_safe(&safe, text, false);
	why = sp_buf_span(&safe);
	if (why.n > REASON_MAX)
		why.n = REASON_MAX;
	/* 1: SSH_MSG_DISCONNECT, reason 1: host not allowed to connect */
	if (sp_buf_put_u8(&pay, 1) != SP_OK || sp_buf_put_ssh_u32(&pay, 1) != SP_OK ||
	    sp_buf_put_ssh_string(&pay, why) != SP_OK ||
	    sp_buf_put_ssh_string(&pay, sp_span_str("")) != SP_OK)
		return;
	pad = 8 - (5 + pay.len) % 8;
	pad += pad < 4 ? 8 : 0;
	if (sp_buf_printf(&out, "SSH-2.0-Sallyport\r\n") != SP_OK ||
	    sp_buf_put_ssh_u32(&out, (uint32_t)(1 + pay.len + pad)) != SP_OK ||
	    sp_buf_put_u8(&out, (uint8_t)pad) != SP_OK ||
	    sp_buf_put(&out, pay.p + pay.off, pay.len) != SP_OK ||
	    sp_buf_put(&out, zero, pad) != SP_OK)
		return;
	(void)!sp_queue_data(ch, 1, sp_buf_span(&out));
}

static void
refuse(struct sp_chan *ch, struct sp_span text)
{
	ssh_message m = ch->open_msg;

	ch->open_msg = NULL;
	if (ch->is_stdio && text.n > 0)
		sp_chan_accept(ch, m);
	else
		ssh_message_reply_default(m);
	ssh_message_free(m);
	if (ch->ch == NULL) {
		sp_chan_free(ch);
		return;
	}
	/* The client closes when it has read this: closed by us, it would find
	 * a broken pipe before it reads. */
	tell_reason(ch, text);
	ch->state = SP_CHAN_DRAIN;
}

static bool
begin_inner(struct sp_chan *ch)
{
	struct sp_conn *c = ch->ctx->conn;
	struct sp_ctx **slot = c->inner;
	struct sp_ctx *x;

	while (slot < c->inner + SP_INNER_MAX && *slot != NULL)
		slot++;
	if (slot == c->inner + SP_INNER_MAX ||
	    (x = calloc(1, sizeof(*x))) == NULL)
		return false;
	/* libssh wants a number; nothing is ever read from this descriptor. */
	if (sp_ctx_init(x, c, ch->jump_id,
	    fcntl(c->brk.fd, F_DUPFD_CLOEXEC, 3), ch) != SP_OK) {
		sp_ctx_fini(x);
		free(x);
		return false;
	}
	*slot = ch->inner = x;
	return true;
}

void
sp_jump_result(struct sp_conn *c, const struct sp_msg_target_open_result *m)
{
	struct sp_chan *ch = c->outer.chans;

	while (ch != NULL && (!ch->is_jump || ch->jump_id != m->id ||
	    ch->open_msg == NULL))
		ch = ch->next;
	if (ch == NULL)
		return;
	if (m->protocol != SP_PROTO_SSH && m->ok != 1) {
		sp_sql_begin(ch, m->protocol, m->ok == 2 ? NULL : &m->text);
		return;
	}
	if (m->ok != 1) {
		refuse(ch, m->text);
		return;
	}
	if (!begin_inner(ch)) {
		struct sp_msg_target_close t = {.id = m->id};

		sp_conn_sent(c, sp_send_target_close(&c->brk, 0, &t, NULL));
		refuse(ch, sp_span_str("too many targets in one connection"));
		return;
	}
	sp_chan_accept(ch, ch->open_msg);
	SSH_MESSAGE_FREE(ch->open_msg);
	ch->state = SP_CHAN_LIVE;
	if (ch->ch == NULL)
		sp_chan_free(ch);
}

/* The inner session goes, and the broker learns it, before the channel. */
void
sp_jump_end(struct sp_chan *ch)
{
	struct sp_conn *c = ch->ctx->conn;
	struct sp_msg_target_close t = {.id = ch->jump_id};

	if (ch->inner == NULL)
		return;
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] == ch->inner)
			c->inner[i] = NULL;
	sp_ctx_fini(ch->inner);
	free(ch->inner);
	ch->inner = NULL;
	sp_conn_sent(c, sp_send_target_close(&c->brk, 0, &t, NULL));
}

static bool
pump_in(struct sp_chan *ch)
{
	struct sp_wire *w = &ch->inner->wire;
	bool moved = false;

	while (ch->has_data && sp_wire_room(w) > 0 && !w->eof) {
		int k = ssh_channel_read_nonblocking(ch->ch, sp_wire_at(w),
		    (uint32_t)sp_wire_room(w), 0);

		if (k <= 0) {
			ch->has_data = false;
			break;
		}
		sp_wire_put(w, (size_t)k);
		moved = true;
	}
	if (ch->eof_seen && !ch->has_data && !w->eof) {
		w->eof = true;
		moved = true;
	}
	return moved;
}

static bool
pump_out(struct sp_chan *ch)
{
	struct sp_wire *w = &ch->inner->wire;
	bool moved = false;

	while (w->tx.len > 0 && !sp_ctx_is_blocked(ch->ctx)) {
		uint32_t win = ssh_channel_window_size(ch->ch);
		struct sp_span s = sp_buf_span(&w->tx);
		uint32_t n = s.n < win ? (uint32_t)s.n : win;
		int k = n == 0 ? 0 : ssh_channel_write(ch->ch, s.p, n);

		if (k <= 0)
			break;
		ch->ctx->tx_turn += (uint32_t)k;
		sp_wire_took(w, (size_t)k);
		moved = true;
	}
	return moved;
}

bool
sp_jump_pump(struct sp_chan *ch)
{
	bool moved;

	if (ch->inner == NULL && ch->eof_seen && ch->state == SP_CHAN_DRAIN)
		sp_queue_close(ch);
	if (ch->inner == NULL || ch->ch == NULL || ch->state != SP_CHAN_LIVE)
		return false;
	moved = pump_in(ch);
	if (!ch->client_closed)
		moved |= pump_out(ch);
	if (ch->inner->state == SP_CTX_DEAD &&
	    (ch->client_closed || ch->inner->wire.tx.len == 0)) {
		sp_jump_end(ch);
		sp_queue_close(ch);
		ch->state = SP_CHAN_DRAIN;
		moved = true;
	}
	return moved;
}
