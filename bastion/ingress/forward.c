/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"

/*
 * What goes through the target: connections that the client opens (-L, -D, -W),
 * listeners that it asks for (-R), and what comes to those. A listener is a
 * channel here too, one that the client has no number for: it gets its stream
 * from the broker in the same way.
 */
#define FAIL_PROHIBITED 1	/* RFC 4254, 5.1 */
#define FAIL_CONNECT 2
#define FAIL_SHORTAGE 4

static bool
copy(char dst[static 256], const char *text)
{
	struct sp_span s = sp_span_str(text);

	return sp_utf8_is_valid(s) && sp_span_cstr(s, dst, 256) == SP_OK;
}

static struct sp_chan *
new_forward(struct sp_ctx *x, uint8_t kind)
{
	struct sp_chan *ch;

	if (x->n_forwards >= SP_FORWARDS_MAX || x->conn->end_us != 0 ||
	    (ch = sp_chan_new(x)) == NULL)
		return NULL;
	ch->is_forward = true;
	ch->open_kind = kind;
	x->n_forwards++;
	return ch;
}

/* The channel has nothing more to do; the loop frees it. */
static void
done(struct sp_chan *ch)
{
	ch->client_closed = true;
	ch->state = SP_CHAN_DRAIN;
}

/* -------------------------------------------------------- from the client */

static void
fail(struct sp_ctx *x, ssh_message m, uint32_t code, struct sp_span why)
{
	SP_BUF_AUTO safe = {.max = 8192};

	sp_text_safe(&safe, why, false);
	while (safe.len > 0 && sp_buf_span(&safe).p[safe.len - 1] == '\n')
		safe.len--;
	sp_glass_open_failure(x->ssh, m, code, sp_buf_span(&safe));
}

bool
sp_forward_open(struct sp_ctx *x, ssh_message m)
{
	struct sp_chan *ch = new_forward(x, SP_OPEN_FORWARD);
	int port = ssh_message_channel_request_open_destination_port(m);

	if (ch == NULL) {
		fail(x, m, FAIL_SHORTAGE, sp_span_str(
		    "there are too many forwarded connections"));
		return false;
	}
	if (!copy(ch->host, ssh_message_channel_request_open_destination(m)) ||
	    ch->host[0] == '\0' || port < 1 || port > 65535) {
		fail(x, m, FAIL_PROHIBITED, sp_span_str("no such address"));
		sp_chan_free(ch);
		return false;
	}
	if (!copy(ch->origin, ssh_message_channel_request_open_originator(m)))
		ch->origin[0] = '\0';
	ch->port = (uint32_t)port;
	ch->origin_port = (uint16_t)
	    ssh_message_channel_request_open_originator_port(m);
	ch->id = ++x->next_chan;
	ch->open_msg = m;
	ch->state = SP_CHAN_WAIT;
	sp_chan_ask_next(x);
	return true;
}

void
sp_forward_accept(struct sp_chan *ch)
{
	if (ch->open_msg != NULL)
		sp_chan_accept(ch, ch->open_msg);
	SSH_MESSAGE_FREE(ch->open_msg);
	if (ch->ch == NULL)
		done(ch);
	else
		ch->state = SP_CHAN_LIVE;
}

/* --------------------------------------- global requests, answered in order */

static void
answer_globals(struct sp_ctx *x)
{
	while (x->n_globals > 0 && x->globals[0].is_answered &&
	    x->state != SP_CTX_DEAD) {
		struct sp_global g = x->globals[0];

		memmove(&x->globals[0], &x->globals[1],
		    --x->n_globals * sizeof(x->globals[0]));
		if (g.m != NULL && g.ok)
			ssh_message_global_request_reply_success(g.m, g.port);
		else if (g.m != NULL)
			ssh_message_reply_default(g.m);
		else if (x->last_global != NULL)
			ssh_message_reply_default(x->last_global);
		if (g.m != NULL) {
			SSH_MESSAGE_FREE(x->last_global);
			x->last_global = g.m;
		}
	}
}

static void
answer(struct sp_ctx *x, uint64_t number, bool ok, uint32_t port)
{
	for (uint32_t i = 0; i < x->n_globals; i++)
		if (x->globals[i].number == number) {
			x->globals[i].is_answered = true;
			x->globals[i].ok = ok;
			x->globals[i].port = (uint16_t)port;
		}
	answer_globals(x);
}

static struct sp_chan *
find_listener(struct sp_ctx *x, const char *host, uint32_t port)
{
	struct sp_chan *ch = x->chans;

	while (ch != NULL && (ch->open_kind != SP_OPEN_LISTEN ||
	    ch->client_closed || strcmp(ch->host, host) != 0 ||
	    (ch->bound_port != port && (ch->port != port || port == 0))))
		ch = ch->next;
	return ch;
}

static void
on_cancel(struct sp_ctx *x, ssh_message m, uint64_t number)
{
	const char *host = ssh_message_global_request_address(m);
	struct sp_chan *ch = find_listener(x, host == NULL ? "" : host,
	    (uint32_t)(uint16_t)ssh_message_global_request_port(m));

	if (ch != NULL) {
		sp_leg_leave(ch);
		done(ch);
	}
	answer(x, number, ch != NULL, 0);
}

static void
on_listen(struct sp_ctx *x, ssh_message m, uint64_t number)
{
	int port = ssh_message_global_request_port(m);
	const char *host = ssh_message_global_request_address(m);
	struct sp_chan *ch = x->has_target ? new_forward(x, SP_OPEN_LISTEN) : NULL;

	if (ch == NULL || !copy(ch->host, host == NULL ? "" : host) || port < 0 ||
	    port > 65535) {
		sp_conn_policy_refusal(x->conn, "tcpip-forward", host);
		if (ch != NULL)
			sp_chan_free(ch);
		answer(x, number, false, 0);
		return;
	}
	ch->port = (uint32_t)port;
	ch->global = number;
	ch->id = ++x->next_chan;
	ch->state = SP_CHAN_WAIT;
	sp_chan_ask_next(x);
}

bool
sp_forward_global(struct sp_ctx *x, ssh_message m)
{
	int type = ssh_message_subtype(m);
	uint64_t number = 0;

	for (uint32_t i = 0; i < x->n_globals && number == 0; i++)
		if (x->globals[i].is_listen && !x->globals[i].is_bound) {
			x->globals[i].is_bound = true;
			x->globals[i].m = m;
			number = x->globals[i].number;
		}
	/* Without a place among them it wanted no answer, or gets no more. */
	if (x->state == SP_CTX_IN && type == SSH_GLOBAL_REQUEST_TCPIP_FORWARD) {
		on_listen(x, m, number);
	} else if (x->state == SP_CTX_IN &&
	    type == SSH_GLOBAL_REQUEST_CANCEL_TCPIP_FORWARD) {
		on_cancel(x, m, number);
	} else if (number != 0) {
		answer(x, number, false, 0);
	} else {
		ssh_message_reply_default(m);
	}
	return number != 0;
}

enum sp_err
sp_forward_listening(struct sp_chan *ch, const struct sp_frame *f)
{
	struct sp_span p = f->payload, why = {0};

	if (ch->open_kind != SP_OPEN_LISTEN || ch->state != SP_CHAN_OPENING)
		return SP_ERR_PROTO;
	if (f->type == SP_FRAME_LISTEN_OK) {
		SP_TRY(sp_get_u32(&p, &ch->bound_port));
		ch->state = SP_CHAN_LIVE;
		answer(ch->ctx, ch->global, true, ch->bound_port);
		return SP_OK;
	}
	SP_TRY(sp_get_str(&p, 1020, &why));
	ch->state = SP_CHAN_NEW;	/* it owes the target nothing more */
	sp_forward_refuse(ch, FAIL_CONNECT, why);
	return SP_OK;
}

/* A client shows no reason for a listener: it stands on the terminals, and in
 * what `ssh -v` says. */
static void
tell_listener(struct sp_chan *ch, struct sp_span why)
{
	struct sp_ctx *x = ch->ctx;
	SP_BUF_AUTO safe = {.max = 8192};
	char text[1024];

	for (struct sp_chan *c = x->chans; c != NULL; c = c->next)
		if (c->has_pty && c->open_kind != 0)
			sp_queue_text(c, why, true);
	sp_text_safe(&safe, why, false);
	if (x->state != SP_CTX_DEAD && safe.len < sizeof(text) &&
	    sp_span_cstr(sp_buf_span(&safe), text, sizeof(text)) == SP_OK)
		ssh_send_debug(x->ssh, text, 1);
}

void
sp_forward_refuse(struct sp_chan *ch, uint32_t code, struct sp_span why)
{
	struct sp_ctx *x = ch->ctx;
	ssh_message m = ch->open_msg;

	if (ch->client_closed || sp_sql_refuse(ch, why))
		return;
	ch->open_msg = NULL;
	if (m != NULL && x->state != SP_CTX_DEAD)
		fail(x, m, code, why);
	if (m != NULL)
		ssh_message_free(m);
	if (ch->open_kind == SP_OPEN_LISTEN) {
		bool is_asked = ch->bound_port == 0;

		answer(x, ch->global, false, 0);
		if (is_asked)
			tell_listener(ch, why);
	}
	sp_leg_leave(ch);
	done(ch);
}

/* ------------------------------------------------ what came to a listener */

static enum sp_err
turn_away(struct sp_leg *l, uint32_t chan, const char *why)
{
	SP_TRY(sp_stream_put_text(&l->s, SP_FRAME_OPEN_FAIL, chan, why));
	return sp_stream_put(&l->s, SP_FRAME_CLOSE, 0, chan, sp_span_of(NULL, 0));
}

enum sp_err
sp_forward_called(struct sp_leg *l, const struct sp_frame *f)
{
	struct sp_ctx *x = l->ctx;
	struct sp_chan *ch, *listener;
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK ||
	    o.kind != SP_OPEN_REVERSE || f->chan <= l->last_reverse ||
	    f->chan <= SP_STREAM_REVERSE || !l->shared)
		return SP_ERR_PROTO;
	l->last_reverse = f->chan;
	listener = sp_chan_find(x, o.listen);
	if (listener == NULL || listener->open_kind != SP_OPEN_LISTEN ||
	    listener->state != SP_CHAN_LIVE)
		return turn_away(l, f->chan, "nobody listens any more");
	ch = new_forward(x, SP_OPEN_REVERSE);
	if (ch == NULL)
		return turn_away(l, f->chan, "there are too many forwarded "
		    "connections");
	ch->id = f->chan;
	ch->ch = ssh_channel_new(x->ssh);
	if (ch->ch == NULL || sp_span_cstr(o.origin, ch->origin, 256) != SP_OK) {
		sp_chan_free(ch);
		return turn_away(l, f->chan, "out of memory");
	}
	sp_chan_watch(ch);
	memcpy(ch->host, listener->host, sizeof(ch->host));
	ch->port = o.port;
	ch->origin_port = o.origin_port;
	ch->is_calling = true;
	sp_leg_take(l, ch);
	return SP_OK;
}

bool
sp_forward_call(struct sp_chan *ch)
{
	struct sp_leg *l = ch->leg;
	int rc = ssh_channel_open_reverse_forward(ch->ch, ch->host, (int)ch->port,
	    ch->origin, (int)ch->origin_port);

	if (rc == SSH_AGAIN)
		return false;
	if (rc == SSH_OK) {
		ch->is_calling = false;
		if (l == NULL)		/* it ended while the client thought */
			return true;
		ch->state = SP_CHAN_LIVE;
		if (sp_stream_put(&l->s, SP_FRAME_OPEN_OK, 0, ch->id,
		    sp_span_of(NULL, 0)) != SP_OK)
			l->over = true;
		return true;
	}
	if (l != NULL && sp_stream_put_text(&l->s, SP_FRAME_OPEN_FAIL, ch->id,
	    "the user's side refused the connection") != SP_OK)
		l->over = true;
	sp_leg_leave(ch);
	done(ch);
	return true;
}

/* -------------------------------------------------------------------- ends */

void
sp_forward_end(struct sp_chan *ch)
{
	if (ch->open_kind == SP_OPEN_SQL)
		sp_sql_end(ch);
	if (ch->open_msg != NULL || ch->open_kind == SP_OPEN_LISTEN)
		sp_forward_refuse(ch, FAIL_PROHIBITED, sp_span_str("the session "
		    "has ended"));
	ch->ctx->n_forwards--;
}

void
sp_forward_fini(struct sp_ctx *x)
{
	for (uint32_t i = 0; i < x->n_globals; i++)
		SSH_MESSAGE_FREE(x->globals[i].m);
	x->n_globals = 0;
	SSH_MESSAGE_FREE(x->last_global);
}
