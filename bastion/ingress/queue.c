/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/ingress/front.h"

/*
 * What waits for the client, in the order in which it came: u8 kind, u8
 * generation of the leg (credit goes back only to the one that sent), u32
 * bytes, payload. What a leg sends is bounded by the credit given to it.
 */
enum kind { K_OUT = 1, K_ERR, K_EOF, K_STATUS, K_SIGNAL, K_CLOSE };
#define HEAD 6
#define OURS 0			/* generation: no credit is owed */
#define NOTICES_MAX (64u << 10)
#define CREDIT_STEP (SP_STREAM_WINDOW / 8)
#define TEXT_MAX 2048

static enum sp_err
put(struct sp_chan *ch, enum kind k, uint8_t gen, struct sp_span s)
{
	if (ch->q.len + HEAD + s.n > ch->q.max)
		return SP_ERR_FULL;
	SP_TRY(sp_buf_put_u8(&ch->q, (uint8_t)k));
	SP_TRY(sp_buf_put_u8(&ch->q, gen));
	SP_TRY(sp_buf_put_u32(&ch->q, (uint32_t)s.n));
	return sp_buf_put(&ch->q, s.p, s.n);
}

bool
sp_queue_is_empty(const struct sp_chan *ch)
{
	return ch->q.len == 0;
}

void
sp_text_safe(struct sp_buf *out, struct sp_span text, bool crlf)
{
	char line[TEXT_MAX * 4];

	while (text.n > 0) {
		const uint8_t *nl = memchr(text.p, '\n', text.n);
		size_t n = nl == NULL ? text.n : (size_t)(nl - text.p), k = n;

		if (k > 0 && text.p[k - 1] == '\r')
			k--;
		sp_vis(line, sizeof(line), sp_span_of(text.p, k));
		/* Already visible text would be escaped a second time. */
		for (char *p = line; (p = strstr(p, "\\\\")) != NULL; p++)
			memmove(p, p + 1, strlen(p));
		if (sp_buf_printf(out, "%s%s", line, nl == NULL ? "" :
		    crlf ? "\r\n" : "\n") != SP_OK)
			return;
		n += nl == NULL ? 0 : 1;
		text.p += n;
		text.n -= n;
	}
}

void
sp_queue_text(struct sp_chan *ch, struct sp_span text, bool mark)
{
	SP_BUF_AUTO b = {.max = 65536};
	const char *nl = ch->has_pty ? "\r\n" : "\n";

	if (text.n == 0 || ch->close_queued || ch->is_jump || ch->is_forward)
		return;
	if (sp_buf_printf(&b, "%s%s", mark && ch->has_pty ? nl : "",
	    mark ? "[sallyport] " : "") != SP_OK)
		return;
	sp_text_safe(&b, text, ch->has_pty);
	if (text.p[text.n - 1] != '\n' && sp_buf_printf(&b, "%s", nl) != SP_OK)
		return;
	if (ch->notices + b.len > NOTICES_MAX)
		return;
	ch->notices += (uint32_t)b.len;
	/* exec output stays byte-clean: a text of ours is never on stdout. */
	if (put(ch, ch->has_pty ? K_OUT : K_ERR, OURS, sp_buf_span(&b)) != SP_OK)
		ch->notices = NOTICES_MAX;
}

void
sp_queue_eof(struct sp_chan *ch)
{
	if (!ch->close_queued)
		(void)!put(ch, K_EOF, OURS, sp_span_of(NULL, 0));
}

void
sp_queue_status(struct sp_chan *ch, uint32_t status)
{
	if (!ch->exit_sent && !ch->close_queued && !ch->is_forward &&
	    put(ch, K_STATUS, OURS, sp_span_of(&status, sizeof(status))) == SP_OK)
		ch->exit_sent = true;
}

void
sp_queue_signal(struct sp_chan *ch, struct sp_span payload)
{
	if (!ch->exit_sent && !ch->close_queued &&
	    put(ch, K_SIGNAL, OURS, payload) == SP_OK)
		ch->exit_sent = true;
}

void
sp_queue_close(struct sp_chan *ch)
{
	if (!ch->close_queued)
		(void)!put(ch, K_CLOSE, OURS, sp_span_of(NULL, 0));
	ch->close_queued = true;
}

void
sp_queue_cut(struct sp_chan *ch, struct sp_span text, uint32_t status)
{
	if (ch->is_jump || ch->close_queued || ch->open_kind == 0)
		return;
	if (ch->is_forward && ch->ch == NULL)
		sp_forward_refuse(ch, 1, text);
	else if (ch->open_kind == SP_OPEN_SQL)
		sp_sql_cut(ch, text);
	else if (ch->is_forward)
		sp_queue_close(ch);
	if (ch->is_forward)
		return;
	sp_chan_reply(ch, true);
	sp_queue_text(ch, text, true);
	sp_queue_status(ch, status);
	sp_queue_close(ch);
}

/* ------------------------------------------------------------ to the client */

static void
give_credit(struct sp_chan *ch, uint8_t gen, uint32_t n)
{
	if (gen == OURS) {
		ch->notices -= n < ch->notices ? n : ch->notices;
		return;
	}
	if (gen != ch->gen || ch->leg == NULL)
		return;
	ch->to_grant += n;
	if (ch->to_grant < CREDIT_STEP)
		return;
	if (sp_stream_put_u32(&ch->leg->s, SP_FRAME_CREDIT, ch->id,
	    ch->to_grant) != SP_OK) {
		ch->leg->over = true;
		return;
	}
	ch->rx_credit += ch->to_grant;
	ch->to_grant = 0;
}

/* As much as the client's window and libssh's buffer take now. */
static uint32_t
write_now(struct sp_chan *ch, bool is_err, struct sp_span s)
{
	uint32_t win = ssh_channel_window_size(ch->ch), n;
	int k;

	/* What the bastion says after the target's EOF has no way left; libssh
	 * would refuse it for ever, and the close behind it with it. */
	if (ch->out_over)
		return (uint32_t)s.n;
	n = s.n < win ? (uint32_t)s.n : win;
	if (n > SP_SSH_TX_TURN)
		n = SP_SSH_TX_TURN;
	if (n == 0 || ch->client_closed || sp_ctx_is_blocked(ch->ctx))
		return 0;
	k = is_err ? ssh_channel_write_stderr(ch->ch, s.p, n) :
	    ssh_channel_write(ch->ch, s.p, n);
	if (k <= 0)
		return 0;	/* a key exchange is on */
	ch->ctx->tx_turn += (uint32_t)k;
	return (uint32_t)k;
}

static bool
write_some(struct sp_chan *ch)
{
	struct sp_span s = sp_buf_span(&ch->q);
	uint32_t n = write_now(ch, ch->q_kind == K_ERR,
	    sp_span_of(s.p, ch->q_left));

	sp_buf_consume(&ch->q, n);
	ch->q_left -= n;
	give_credit(ch, ch->q_gen, n);
	return n > 0;
}

enum sp_err
sp_queue_data(struct sp_chan *ch, uint8_t lane, struct sp_span bytes)
{
	uint32_t n = 0;

	/* Most of the time nothing waits: one copy less. */
	if (ch->q.len == 0 && ch->state == SP_CHAN_LIVE)
		n = write_now(ch, lane == 2, bytes);
	give_credit(ch, ch->gen, n);
	bytes = sp_span_of(bytes.p + n, bytes.n - n);
	return bytes.n == 0 ? SP_OK :
	    put(ch, lane == 2 ? K_ERR : K_OUT, ch->gen, bytes);
}

static void
send_signal(struct sp_chan *ch, struct sp_span s)
{
	struct sp_span name, text;
	uint8_t core;
	char n[40], t[520];

	if (sp_get_str(&s, 36, &name) != SP_OK || sp_get_u8(&s, &core) != SP_OK ||
	    sp_get_str(&s, 512, &text) != SP_OK ||
	    sp_span_cstr(name, n, sizeof(n)) != SP_OK ||
	    sp_span_cstr(text, t, sizeof(t)) != SP_OK)
		return;
	ssh_channel_request_send_exit_signal(ch->ch, n, core != 0, t, "");
}

static void
do_close(struct sp_chan *ch)
{
	sp_leg_leave(ch);
	if (ssh_channel_close(ch->ch) == SSH_AGAIN)
		ssh_channel_close(ch->ch);
	ch->state = SP_CHAN_DONE;
	sp_buf_reset(&ch->q);
}

static void
event(struct sp_chan *ch, struct sp_span s)
{
	uint32_t status;

	switch (ch->q_kind) {
	case K_EOF:
		ssh_channel_send_eof(ch->ch);
		ch->out_over = true;
		break;
	case K_STATUS:
		memcpy(&status, s.p, sizeof(status));
		ssh_channel_request_send_exit_status(ch->ch, (int)status);
		break;
	case K_SIGNAL:
		send_signal(ch, s);
		break;
	default:
		break;
	}
}

/* Clients close as soon as both sides have said EOF (PuTTY and OpenSSH do),
 * and want the exit status all the same: a process may end its output long
 * before itself. As sshd does, the close waits for it. */
bool
sp_queue_owes_status(const struct sp_chan *ch)
{
	return ch->out_over && !ch->is_jump && ch->leg != NULL &&
	    !ch->leg->over && ch->state == SP_CHAN_LIVE;
}

bool
sp_queue_out(struct sp_chan *ch)
{
	bool moved = false;

	if (ch->state == SP_CHAN_DONE ||
	    (ch->client_closed && !sp_queue_owes_status(ch))) {
		sp_buf_reset(&ch->q);
		ch->q_left = 0;
		return false;
	}
	while (ch->q.len > 0 && !sp_ctx_is_blocked(ch->ctx)) {
		if (ch->q_left == 0) {
			struct sp_span s = sp_buf_span(&ch->q);

			ch->q_kind = s.p[0];
			ch->q_gen = s.p[1];
			s = sp_span_of(s.p + 2, s.n - 2);
			SP_ASSERT(sp_get_u32(&s, &ch->q_left) == SP_OK);
			sp_buf_consume(&ch->q, HEAD);
			moved = true;
			if (ch->q_kind == K_CLOSE) {
				do_close(ch);
				return true;
			}
			if (ch->q_kind >= K_EOF) {
				event(ch, sp_span_of(s.p, ch->q_left));
				sp_buf_consume(&ch->q, ch->q_left);
				ch->q_left = 0;
				continue;
			}
		}
		if (!write_some(ch))
			break;
		moved = true;
	}
	return moved;
}
