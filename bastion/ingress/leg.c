/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bastion/ingress/front.h"

#define READ_MAX 65536
#define WINDOW_WIDE (2u << 20)	/* for links with much in flight */
#define GROW_EVERY (256u << 10)

static uint8_t at[READ_MAX];	/* on its way, within a turn */

void
sp_leg_trim(void)
{
	sp_pages_drop(at, sizeof(at));
}

struct sp_leg *
sp_leg_new(struct sp_ctx *x, int fd, bool shared)
{
	const int room = 1 << 20;
	struct sp_leg *l = calloc(1, sizeof(*l));

	if (l == NULL || sp_stream_init(&l->s, fd, false) != SP_OK) {
		sp_close_fds(&fd, 1);
		free(l);
		return NULL;
	}
	(void)!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	l->ctx = x;
	l->shared = shared;
	l->next = x->conn->legs;
	x->conn->legs = l;
	return l;
}

static enum sp_err
put_open(struct sp_leg *l, const struct sp_chan *ch)
{
	SP_BUF_AUTO b = {.max = 36864};

	if (ch->open_kind == SP_OPEN_LISTEN) {
		SP_TRY(sp_buf_put_bytes(&b, sp_span_str(ch->host)));
		SP_TRY(sp_buf_put_u32(&b, ch->port));
		return sp_stream_put(&l->s, SP_FRAME_LISTEN, 0, ch->id,
		    sp_buf_span(&b));
	}
	SP_TRY(sp_chan_open_payload(ch, &b));
	return sp_stream_put(&l->s, SP_FRAME_OPEN, 0, ch->id, sp_buf_span(&b));
}

void
sp_leg_take(struct sp_leg *l, struct sp_chan *ch)
{
	l->n_chans++;
	ch->leg = l;
	ch->gen = ch->gen == 255 ? 1 : (uint8_t)(ch->gen + 1);
	ch->tx_credit = SP_STREAM_WINDOW;
	ch->rx_credit = SP_STREAM_WINDOW + SP_STREAM_SLACK;
	ch->to_grant = 0;
	ch->eof_sent = false;
	ch->state = SP_CHAN_OPENING;
}

void
sp_leg_join(struct sp_leg *l, struct sp_chan *ch)
{
	if (l->n_chans >= SP_STREAM_CHANNELS_MAX || put_open(l, ch) != SP_OK) {
		ch->state = SP_CHAN_DRAIN;
		sp_queue_cut(ch, sp_span_str("too many channels"), 255);
		return;
	}
	if (ch->id > l->last_chan)
		l->last_chan = ch->id;
	sp_leg_take(l, ch);
}

static void
let_go(struct sp_chan *ch)
{
	struct sp_leg *l = ch->leg;

	ch->leg = NULL;
	l->n_chans--;
	if (!l->shared)
		sp_leg_release(l);
}

void
sp_leg_leave(struct sp_chan *ch)
{
	bool is_listen = ch->open_kind == SP_OPEN_LISTEN;

	if (ch->leg == NULL)
		return;
	if (!ch->leg->over && (!is_listen || ch->state != SP_CHAN_NEW) &&
	    sp_stream_put(&ch->leg->s, is_listen ? SP_FRAME_UNLISTEN :
	    SP_FRAME_CLOSE, 0, ch->id, sp_span_of(NULL, 0)) != SP_OK)
		ch->leg->over = true;
	let_go(ch);
}

void
sp_leg_release(struct sp_leg *l)
{
	struct sp_ctx *x = l->ctx;

	if (x == NULL)
		return;
	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next)
		if (ch->leg == l && l->shared) {
			sp_leg_leave(ch);
			ch->state = SP_CHAN_DRAIN;
			if (ch->is_forward)
				sp_queue_cut(ch, sp_span_str("the session has "
				    "ended"), 255);
		}
	if (x->shared == l)
		x->shared = NULL;
	l->ctx = NULL;
}

/* A stream is over: what its channels still have to say goes out first. */
static void
end_leg(struct sp_leg *l, struct sp_span text)
{
	struct sp_ctx *x = l->ctx;

	l->over = true;
	if (x == NULL)
		return;
	for (struct sp_chan *ch = x->chans, *next; ch != NULL; ch = next) {
		next = ch->next;
		if (ch->leg != l)
			continue;
		ch->leg = NULL;
		l->n_chans--;
		ch->state = SP_CHAN_DRAIN;
		sp_queue_cut(ch, text, 255);
	}
	if (x->shared == l) {
		x->shared = NULL;
		x->cut_us = 0;
	}
	l->ctx = NULL;
	sp_chan_ask_next(x);
}

/* ------------------------------------------------------- target to the user */

static void
to_all(struct sp_leg *l, struct sp_span text)
{
	for (struct sp_chan *ch = l->ctx->chans; ch != NULL; ch = ch->next)
		if (ch->leg == l)
			sp_queue_text(ch, text, true);
}

static void
handover(struct sp_leg *l, struct sp_chan *ch)
{
	ch->leg = NULL;
	l->n_chans--;
	l->ctx = NULL;
	ch->state = SP_CHAN_ASKED;
	if (ch->next_fd >= 0) {
		int fd = ch->next_fd;

		ch->next_fd = -1;
		sp_chan_stream(ch, fd, ch->next_shared);
	} else if (ch->next_text != NULL) {
		sp_chan_refused(ch, ch->next_code, sp_span_str(ch->next_text));
	}
}

static enum sp_err
on_credit(struct sp_chan *ch, struct sp_span s)
{
	uint32_t n;

	SP_TRY(sp_get_u32(&s, &n));
	if (n > SP_STREAM_WINDOW * 16 - ch->tx_credit)
		return SP_ERR_PROTO;
	ch->tx_credit += n;
	return SP_OK;
}

static enum sp_err
on_data(struct sp_chan *ch, const struct sp_frame *f)
{
	if (f->payload.n > ch->rx_credit)
		return SP_ERR_PROTO;
	ch->rx_credit -= (uint32_t)f->payload.n;
	return sp_queue_data(ch, f->lane, f->payload);
}

static enum sp_err
on_status(struct sp_chan *ch, struct sp_span s)
{
	uint32_t status;

	SP_TRY(sp_get_u32(&s, &status));
	sp_queue_status(ch, status);
	return SP_OK;
}

static enum sp_err
on_open_fail(struct sp_chan *ch, struct sp_span s)
{
	struct sp_span why = {0};

	SP_TRY(sp_get_str(&s, 1020, &why));
	if (ch->is_forward) {
		sp_forward_refuse(ch, 2, why);
		return SP_OK;
	}
	/* A request that fails ends OpenSSH before it shows what came with it. */
	sp_chan_reply(ch, true);
	sp_queue_text(ch, why, true);
	sp_queue_status(ch, 255);
	sp_queue_close(ch);
	return SP_OK;
}

static enum sp_err
on_text(struct sp_leg *l, struct sp_chan *ch, struct sp_span s)
{
	struct sp_span text;

	SP_TRY(sp_get_str(&s, 1020, &text));
	if (ch != NULL)
		sp_queue_text(ch, text, true);
	else
		to_all(l, text);
	return SP_OK;
}

static enum sp_err
on_end(struct sp_leg *l, struct sp_span s)
{
	struct sp_span text;
	uint8_t code;

	SP_TRY(sp_get_u8(&s, &code));
	SP_TRY(sp_get_str(&s, 1019, &text));
	end_leg(l, code == SP_END_NORMAL ? sp_span_str("") : text);
	return SP_OK;
}

static enum sp_err
chan_frame(struct sp_leg *l, struct sp_chan *ch, const struct sp_frame *f)
{
	if (ch->open_kind == SP_OPEN_LISTEN)
		return sp_forward_listening(ch, f);
	if (ch->state == SP_CHAN_OPENING && !ch->is_calling &&
	    f->type != SP_FRAME_OPEN_OK && f->type != SP_FRAME_OPEN_FAIL && f->type != SP_FRAME_NOTICE &&
	    f->type != SP_FRAME_CLOSE)
		return SP_ERR_PROTO;
	switch ((enum sp_frame_type)f->type) {
	case SP_FRAME_OPEN_OK:
		if (ch->state != SP_CHAN_OPENING || ch->is_calling)
			return SP_ERR_PROTO;
		if (ch->is_forward) {
			sp_forward_accept(ch);
			return SP_OK;
		}
		ch->state = SP_CHAN_LIVE;
		sp_chan_reply(ch, true);
		return SP_OK;
	case SP_FRAME_OPEN_FAIL:
		return ch->state == SP_CHAN_OPENING && !ch->is_calling ?
		    on_open_fail(ch, f->payload) : SP_ERR_PROTO;
	case SP_FRAME_DATA:
		return on_data(ch, f);
	case SP_FRAME_CREDIT:
		return on_credit(ch, f->payload);
	case SP_FRAME_EOF:
		sp_queue_eof(ch);
		return SP_OK;
	case SP_FRAME_EXIT_STATUS:
		return on_status(ch, f->payload);
	case SP_FRAME_EXIT_SIGNAL:
		sp_queue_signal(ch, f->payload);
		return SP_OK;
	case SP_FRAME_CLOSE:
		if (ch->is_forward && ch->ch == NULL) {
			sp_forward_refuse(ch, 2, sp_span_str("the target closed "
			    "it"));
			return SP_OK;
		}
		sp_chan_reply(ch, false);
		sp_queue_close(ch);
		return SP_OK;
	case SP_FRAME_HANDOVER:
		if (l->shared)
			return SP_ERR_PROTO;
		handover(l, ch);
		return SP_OK;
	case SP_FRAME_NOTICE:
		return on_text(l, ch, f->payload);
	case SP_FRAME_LISTEN:
	case SP_FRAME_LISTEN_OK:
	case SP_FRAME_LISTEN_FAIL:
	case SP_FRAME_UNLISTEN:
	case SP_FRAME_WANTS:
	case SP_FRAME_SECRET:
	case SP_FRAME_OPEN:
	case SP_FRAME_WINDOW:
	case SP_FRAME_SIGNAL:
	case SP_FRAME_BREAK:
	case SP_FRAME_END:
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
take_frame(struct sp_leg *l, const struct sp_frame *f)
{
	struct sp_chan *ch;

	if (l->ctx == NULL)
		return SP_OK;	/* nobody listens any more */
	if (f->type == SP_FRAME_END)
		return on_end(l, f->payload);
	if (f->type == SP_FRAME_NOTICE && f->chan == 0)
		return on_text(l, NULL, f->payload);
	if (f->type == SP_FRAME_OPEN)
		return sp_forward_called(l, f);
	ch = sp_chan_find(l->ctx, f->chan);
	if (ch != NULL && ch->leg == l)
		return chan_frame(l, ch, f);
	/* It was closed here while this was on its way. */
	return f->chan > 0 && (f->chan <= l->last_chan ||
	    (f->chan > SP_STREAM_REVERSE && f->chan <= l->last_reverse)) ? SP_OK :
	    SP_ERR_PROTO;
}

/* As the broker said it. */
static struct sp_span
why_of(const struct sp_leg *l)
{
	const char *why = "the session ended without a word";

	if (l->ctx != NULL && l->shared && l->ctx->why[0] != '\0')
		why = l->ctx->why;
	for (const struct sp_chan *ch = l->ctx == NULL ? NULL : l->ctx->chans;
	    ch != NULL; ch = ch->next)
		if (ch->leg == l && ch->sql_why != NULL)
			why = ch->sql_why;
	return sp_span_str(why);
}

void
sp_leg_read(struct sp_leg *l)
{
	enum sp_err fill = sp_stream_fill(&l->s), e = SP_OK;
	struct sp_frame f;

	while (!l->over && (e = sp_stream_next(&l->s, &f)) == SP_OK)
		if ((e = take_frame(l, &f)) != SP_OK)
			break;
	if (l->over)
		return;
	if (e != SP_OK && e != SP_ERR_AGAIN) {
		sp_log(SP_WARN, "stream_fault", NULL, "fault=\"%s\" error=\"%s\"",
		    l->s.fault, sp_err_text(e));
		sp_conn_policy_refusal(l->ctx == NULL ? NULL : l->ctx->conn,
		    "stream-protocol", l->s.fault);
		end_leg(l, sp_span_str("the session broke off"));
	} else if (fill == SP_ERR_EOF || fill == SP_ERR_IO) {
		end_leg(l, why_of(l));
	}
}

/* What has come is read; a stream whose recorder waits for its disk has no end. */
void
sp_leg_cut(struct sp_leg *l)
{
	sp_leg_read(l);
	if (l->ctx != NULL)
		end_leg(l, why_of(l));
}

/* ------------------------------------------------------- user to the target */

/* libssh refreshes the client's window late and makes it 1.28 MB: at 40 ms
 * that is 14 MB/s. Asking to read more than is there makes it wider (53). The
 * buffer is never filled: nothing is waiting when this is called. */
static void
widen(struct sp_chan *ch)
{
	static uint8_t nowhere[WINDOW_WIDE];

	if (ch->since_grow < GROW_EVERY || ch->bytes_in < (1u << 20) ||
	    ssh_channel_poll(ch->ch, 0) != 0)
		return;
	ch->since_grow = 0;
	(void)!ssh_channel_read_timeout(ch->ch, nowhere, sizeof(nowhere), 0, 0);
}

static bool
move_in(struct sp_chan *ch)
{
	bool moved = false;

	while (ch->tx_credit > 0 && sp_stream_pending(&ch->leg->s) < SP_LEG_TX_LOW) {
		uint32_t n = ch->tx_credit < READ_MAX ? ch->tx_credit : READ_MAX;
		int k = ssh_channel_read_nonblocking(ch->ch, at, n, 0);

		if (k <= 0) {
			ch->has_data = false;
			sp_area_emptied(&ch->held);
			widen(ch);
			break;
		}
		if (sp_stream_put(&ch->leg->s, SP_FRAME_DATA, 0, ch->id,
		    sp_span_of(at, (size_t)k)) != SP_OK) {
			ch->leg->over = true;
			break;
		}
		ch->tx_credit -= (uint32_t)k;
		ch->bytes_in += (uint32_t)k;
		ch->since_grow += (uint32_t)k;
		moved = true;
	}
	return moved;
}

bool
sp_leg_in(struct sp_chan *ch)
{
	bool moved = false;

	if (ch->leg == NULL || ch->leg->over || ch->state != SP_CHAN_LIVE)
		return false;
	if (ch->has_data)
		moved = move_in(ch);
	if (ch->eof_seen && !ch->has_data && !ch->eof_sent) {
		ch->eof_sent = true;
		moved = true;
		if (sp_stream_put(&ch->leg->s, SP_FRAME_EOF, 0, ch->id,
		    sp_span_of(NULL, 0)) != SP_OK)
			ch->leg->over = true;
	}
	return moved;
}

void
sp_leg_sweep(struct sp_conn *c)
{
	for (struct sp_leg **p = &c->legs; *p != NULL;) {
		struct sp_leg *l = *p;
		enum sp_err e = sp_stream_flush(&l->s);

		if (e != SP_OK && e != SP_ERR_AGAIN)
			e = SP_OK;	/* nobody is there to read it */
		if (l->over && l->ctx != NULL)
			end_leg(l, sp_span_str("the session broke off"));
		if (l->ctx == NULL && e == SP_OK) {
			*p = l->next;
			sp_stream_fini(&l->s);
			free(l);
			continue;
		}
		p = &l->next;
	}
}
