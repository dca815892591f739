/* SPDX-License-Identifier: Apache-2.0 */
#include <libssh/server.h>
#include <stdio.h>
#include <string.h>

#include "bastion/egress/egress.h"

/*
 * Listeners at the target (tcpip-forward, RFC 4254, 7), and whether the target
 * lives: both are global requests, which have no number and are answered in
 * their order. libssh knows one at a time; here they are sent and heard through
 * common/glass.h.
 */
#define MSG_GLOBAL_REQUEST 80
#define MSG_REQUEST_SUCCESS 81
#define MSG_REQUEST_FAILURE 82

static void
seen(void *arg, uint8_t *p, size_t n)
{
	struct sp_listens *s = &((struct sp_egress *)arg)->listens;
	struct sp_span port = sp_span_of(p + 1, n - 1);
	bool ok = p[0] == MSG_REQUEST_SUCCESS;

	if (ok || p[0] == MSG_REQUEST_FAILURE) {
		if (s->n_heard >= s->n_asked)
			return;		/* nobody asked */
		s->heard[s->n_heard].ok = ok;
		s->heard[s->n_heard].port = 0;
		if (ok)
			(void)!sp_get_ssh_u32(&port, &s->heard[s->n_heard].port);
		s->n_heard++;
	} else if (p[0] != MSG_GLOBAL_REQUEST) {
		s->has_messages = true;
	}
	((struct sp_egress *)arg)->progress = true;
}

void
sp_listen_init(struct sp_egress *g)
{
	sp_glass_watch(seen, g);
}

static struct sp_listener *
find(struct sp_listens *s, uint32_t id)
{
	for (size_t i = 0; i < SP_STREAM_LISTENS_MAX; i++)
		if (s->l[i].state != LSN_FREE && s->l[i].id == id)
			return &s->l[i];
	return NULL;
}

static bool
note(struct sp_listens *s, enum sp_asked what, uint32_t id)
{
	if (s->n_asked >= SP_EGRESS_ASKED)
		return false;
	s->asked[s->n_asked].what = what;
	s->asked[s->n_asked++].id = id;
	return true;
}

static enum sp_err
ask(struct sp_egress *g, enum sp_asked what, const struct sp_listener *l,
    uint32_t port)
{
	SP_BUF_AUTO b = {.max = 1024};

	SP_TRY(sp_buf_put_u8(&b, MSG_GLOBAL_REQUEST));
	SP_TRY(sp_buf_put_ssh_string(&b, sp_span_str(what == SP_ASKED_LISTEN ?
	    "tcpip-forward" : "cancel-tcpip-forward")));
	SP_TRY(sp_buf_put_u8(&b, 1));
	SP_TRY(sp_buf_put_ssh_string(&b, sp_span_str(l->host)));
	SP_TRY(sp_buf_put_ssh_u32(&b, port));
	if (!note(&g->listens, what, l->id))
		return SP_ERR_FULL;
	g->progress = true;
	return sp_glass_send(g->ssh, sp_buf_span(&b));
}

static enum sp_err
on_listen(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_listens *s = &g->listens;
	struct sp_listener *l = NULL;
	struct sp_span p = f->payload, host;

	for (size_t i = 0; i < SP_STREAM_LISTENS_MAX && l == NULL; i++)
		if (s->l[i].state == LSN_FREE)
			l = &s->l[i];
	if (l == NULL || s->n_asked >= SP_EGRESS_ASKED - 1)
		return sp_stream_put_text(&g->rec, SP_FRAME_LISTEN_FAIL, f->chan,
		    "there are too many listeners");
	*l = (struct sp_listener){.id = f->chan};
	SP_TRY(sp_get_str(&p, 255, &host));
	SP_TRY(sp_span_cstr(host, l->host, sizeof(l->host)));
	SP_TRY(sp_get_u32(&p, &l->asked));
	l->state = LSN_ASKED;
	return ask(g, SP_ASKED_LISTEN, l, l->asked);
}

enum sp_err
sp_listen_frame(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_listener *l;
	enum sp_err e = SP_OK;

	if (f->type == SP_FRAME_LISTEN)
		return on_listen(g, f);
	if ((l = find(&g->listens, f->chan)) == NULL)
		return SP_OK;	/* it had failed */
	if (l->state == LSN_LIVE) {
		e = ask(g, SP_ASKED_CANCEL, l, l->port);
		*l = (struct sp_listener){0};
	} else {
		l->state = LSN_LEFT;
	}
	return e == SP_ERR_FULL ? SP_OK : e;
}

static enum sp_err
answered(struct sp_egress *g, struct sp_listener *l, bool ok, uint32_t port)
{
	uint32_t id = l->id;

	if (l->asked != 0)
		port = l->asked;
	ok = ok && port > 0 && port <= 65535;
	if (ok && l->state == LSN_ASKED) {
		l->state = LSN_LIVE;
		l->port = port;
	} else {
		enum sp_err e = ok ? ask(g, SP_ASKED_CANCEL, l, port) : SP_OK;

		*l = (struct sp_listener){0};
		if (e != SP_OK && e != SP_ERR_FULL)
			return e;
	}
	if (ok)
		return sp_stream_put_u32(&g->rec, SP_FRAME_LISTEN_OK, id, port);
	return sp_stream_put_text(&g->rec, SP_FRAME_LISTEN_FAIL, id,
	    "the target refused to listen there");
}

/* ------------------------------------------------- what came to a listener */

static struct sp_listener *
by_port(struct sp_listens *s, const char *host, uint32_t port)
{
	struct sp_listener *some = NULL;

	for (size_t i = 0; i < SP_STREAM_LISTENS_MAX; i++) {
		struct sp_listener *l = &s->l[i];

		if (l->state != LSN_LIVE || l->port != port)
			continue;
		if (host != NULL && strcmp(l->host, host) == 0)
			return l;
		some = l;	/* a server may say what it made of the name */
	}
	return some;
}

static enum sp_err
tell_open(struct sp_egress *g, const struct sp_listener *l, uint32_t id,
    ssh_message m)
{
	SP_BUF_AUTO b = {.max = 2048};
	struct sp_span origin = sp_span_str(
	    ssh_message_channel_request_open_originator(m));
	struct sp_open o = {.kind = SP_OPEN_REVERSE,
	    .host = sp_span_str(l->host), .port = l->port, .listen = l->id,
	    .origin_port = (uint32_t)(uint16_t)
	    ssh_message_channel_request_open_originator_port(m)};

	if (origin.n <= 255 && sp_utf8_is_valid(origin))
		o.origin = origin;
	SP_TRY(sp_open_encode(&b, &o));
	return sp_stream_put(&g->rec, SP_FRAME_OPEN, 0, id, sp_buf_span(&b));
}

static enum sp_err
called(struct sp_egress *g, ssh_message m, bool *is_kept)
{
	struct sp_listener *l = by_port(&g->listens,
	    ssh_message_channel_request_open_destination(m), (uint32_t)(uint16_t)
	    ssh_message_channel_request_open_destination_port(m));
	uint32_t id = SP_STREAM_REVERSE + g->listens.last + 1;
	size_t slot = 0;

	*is_kept = false;
	while (slot < SP_EGRESS_CHANS && g->chans[slot] != NULL)
		slot++;
	if (l == NULL || slot == SP_EGRESS_CHANS ||
	    g->listens.last >= SP_STREAM_REVERSE - 2) {
		sp_glass_open_failure(g->ssh, m, 1, sp_span_str(l == NULL ?
		    "nobody asked to listen there" : "too many channels"));
		return SP_OK;
	}
	if ((g->chans[slot] = sp_chan_called(g, id, m)) == NULL)
		return SP_ERR_NOMEM;
	*is_kept = true;
	g->listens.last++;
	return tell_open(g, l, id, m);
}

static enum sp_err
take_message(struct sp_egress *g, ssh_message m)
{
	bool is_kept = false;
	enum sp_err e = SP_OK;

	if (ssh_message_type(m) == SSH_REQUEST_CHANNEL_OPEN &&
	    ssh_message_subtype(m) == SSH_CHANNEL_FORWARDED_TCPIP)
		e = called(g, m, &is_kept);
	else if (ssh_message_type(m) == SSH_REQUEST_CHANNEL_OPEN)
		sp_glass_open_failure(g->ssh, m, 1, sp_span_str("not permitted"));
	else
		ssh_message_reply_default(m);
	if (!is_kept)
		ssh_message_free(m);
	return e;
}

enum sp_err
sp_listen_step(struct sp_egress *g)
{
	struct sp_listens *s = &g->listens;
	ssh_message m;

	while (s->n_heard > 0) {
		enum sp_asked what = s->asked[0].what;
		struct sp_listener *l = find(s, s->asked[0].id);
		uint32_t port = s->heard[0].port;
		bool ok = s->heard[0].ok;

		memmove(&s->asked[0], &s->asked[1],
		    --s->n_asked * sizeof(s->asked[0]));
		memmove(&s->heard[0], &s->heard[1],
		    --s->n_heard * sizeof(s->heard[0]));
		if (what == SP_ASKED_LISTEN && l != NULL)
			SP_TRY(answered(g, l, ok, port));
	}
	while (s->has_messages) {
		s->has_messages = false;
		while ((m = ssh_message_get(g->ssh)) != NULL)
			SP_TRY(take_message(g, m));
	}
	return SP_OK;
}

/* ------------------------------------------------------------ is it there? */

enum sp_err
sp_listen_alive(struct sp_egress *g, bool is_reading)
{
	switch (sp_alive_look(&g->alive, sp_glass_heard(), is_reading,
	    sp_boot_us())) {
	case SP_ALIVE_FINE:
		return SP_OK;
	case SP_ALIVE_ASK:
		return !note(&g->listens, SP_ASKED_ALIVE, 0) ? SP_OK :
		    sp_glass_keepalive(g->ssh);
	case SP_ALIVE_DEAD:
	default:
		return SP_ERR_EOF;
	}
}
