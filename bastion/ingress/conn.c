/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bastion/ingress/front.h"
#include "common/area.h"

#define ACKS_MAX 60		/* set-up is answered without delayed ACKs */
#define END_US 1500000		/* for what the user should still read */
#define LINGER_US 2000000	/* for what the target should still get */
#define LEGS_MAX 256
#define QUIET_US INT64_C(2000000)	/* then large buffers are given back */
#define TURNS_MAX 16		/* then the sockets are looked at again */

void
sp_conn_sent(struct sp_conn *c, enum sp_err e)
{
	if (e != SP_OK)
		c->brk_gone = true;
}

struct sp_ctx *
sp_conn_ctx(struct sp_conn *c, uint32_t id)
{
	if (id == 0)
		return &c->outer;
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL && c->inner[i]->id == id)
			return c->inner[i];
	return NULL;
}

void
sp_conn_policy_refusal(struct sp_conn *c, const char *what, const char *detail)
{
	char text[512];
	struct sp_msg_policy_refusal m = {.what = sp_span_str(what)};

	if (c == NULL || c->brk_gone || ++c->reports > SP_REPORTS_MAX)
		return;
	m.detail = sp_span_str(sp_vis(text, sizeof(text), sp_span_str(detail)));
	sp_conn_sent(c, sp_send_policy_refusal(&c->brk, 0, &m, NULL));
}

void
sp_conn_refused(struct sp_conn *c, const char *why, struct sp_span detail)
{
	struct sp_msg_auth_refused m = {.why = sp_span_str(why),
	    .detail = detail};

	sp_log(SP_INFO, "auth_refused", NULL, "conn=%llu peer=%s why=\"%s\" detail=\"%s\"",
	    (unsigned long long)c->id, c->peer, why, sp_vis_tmp(detail));
	if (m.detail.n > 512)
		m.detail.n = 512;
	/* From the second factor on the broker may know us as logged in. */
	if (c->outer.state >= SP_CTX_IN || c->outer.auth.wait == SP_WAIT_DIALOG) {
		sp_conn_policy_refusal(c, "login", why);
		return;
	}
	if (!c->brk_gone && ++c->reports <= SP_REPORTS_MAX)
		sp_conn_sent(c, sp_send_auth_refused(&c->brk, 0, &m, NULL));
}

static void
cut_all(struct sp_ctx *x, const char *text)
{
	if (x->state < SP_CTX_IN)
		sp_ctx_disconnect(x, text);
	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next)
		sp_queue_cut(ch, sp_span_str(text), 255);
}

void
sp_conn_end(struct sp_conn *c, const char *text)
{
	SP_BUF_AUTO safe = {.max = 8192};

	if (c->end_us != 0)
		return;
	c->end_us = sp_boot_us() + END_US;
	sp_text_safe(&safe, sp_span_str(text), false);
	snprintf(c->end_text, sizeof(c->end_text), "%.*s", (int)safe.len,
	    safe.len == 0 ? "" : (const char *)sp_buf_span(&safe).p);
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			cut_all(c->inner[i], c->end_text);
	cut_all(&c->outer, c->end_text);
}

/* ------------------------------------------------------------------ a turn */

static void
say_bye(struct sp_ctx *x)
{
	if (x->state == SP_CTX_DEAD)
		return;
	sp_ctx_flush(x);
	while (x->chans != NULL)
		sp_chan_free(x->chans);
	sp_auth_fini(x);
	sp_ctx_flush(x);
	if (x->state == SP_CTX_DEAD)
		return;
	ssh_session_set_disconnect_message(x->ssh, x->bye);
	/* libssh sends at once only what it knows to be writable. */
	x->wire.may_write = true;
	ssh_message_free(ssh_message_get(x->ssh));
	ssh_disconnect(x->ssh);
	x->wire.may_write = false;
	sp_ctx_died(x);
}

static bool
one_chan(struct sp_chan *ch)
{
	bool moved = false;

	if (ch->is_calling)
		moved |= sp_forward_call(ch);
	if (ch->is_jump)
		moved |= sp_jump_pump(ch);
	else
		moved |= sp_leg_in(ch);
	if (ch->sql_no != NULL)
		moved |= sp_sql_pump(ch);
	if (ch->ch != NULL && !ch->is_calling)
		moved |= sp_queue_out(ch);
	if (ch->client_closed && (ch->is_jump ? ch->inner == NULL :
	    ch->leg == NULL || ch->state != SP_CHAN_LIVE ||
	    (ch->eof_sent && !sp_queue_owes_status(ch)))) {
		struct sp_ctx *x = ch->ctx;

		sp_chan_free(ch);
		sp_chan_ask_next(x);
		return true;
	}
	return moved;
}

static bool
one_ctx(struct sp_ctx *x)
{
	bool moved = false;

	if (x->state == SP_CTX_DEAD)
		return false;
	if (sp_ctx_may_read(x)) {
		moved = sp_hello_step(x) && sp_ctx_step(x);
	} else if (x->wire.failed != 0) {
		sp_ctx_died(x);
		return true;
	}
	for (struct sp_chan *ch = x->chans, *next; ch != NULL; ch = next) {
		next = ch->next;
		moved |= one_chan(ch);
	}
	if (x->bye != NULL)
		say_bye(x);
	moved |= sp_ctx_flush(x);
	/* Only when all that came before has been passed on. */
	if (!moved && x->wire.eof && x->wire.rx_len == 0 && !x->wire.tell_eof)
		moved = x->wire.tell_eof = true;
	return moved;
}

static void
turn(struct sp_conn *c)
{
	bool moved = true;

	for (int i = 0; moved && i < TURNS_MAX; i++) {
		moved = one_ctx(&c->outer);
		for (size_t k = 0; k < SP_INNER_MAX; k++)
			if (c->inner[k] != NULL)
				moved |= one_ctx(c->inner[k]);
		sp_leg_sweep(c);
	}
}

/* A client that has gone without a word is not waited for: nor one of an inner
 * connection, while the outer one lives. */
static void
look_alive(struct sp_ctx *x, int64_t now)
{
	struct sp_conn *c = x->conn;

	if (x->state != SP_CTX_IN)
		return;
	switch (sp_alive_look(&x->alive, x->wire.bytes_in, sp_ctx_may_read(x) &&
	    sp_ctx_may_read(&c->outer), now)) {
	case SP_ALIVE_ASK:
		if (sp_glass_keepalive(x->ssh) != SP_OK)
			sp_log(SP_DEBUG, "no_keepalive", NULL, "");
		break;
	case SP_ALIVE_DEAD:
		sp_log(SP_INFO, "client_silent", NULL, "conn=%llu peer=%s ctx=%u",
		    (unsigned long long)c->id, c->peer, x->id);
		x->wire.failed = ETIMEDOUT;
		break;
	case SP_ALIVE_FINE:
	default:
		break;
	}
}

static void
tick_ctx(struct sp_ctx *x, int64_t now)
{
	look_alive(x, now);
	sp_auth_tick(x, now);
	if (x->cut_us != 0 && now >= x->cut_us) {
		x->cut_us = 0;
		if (x->shared != NULL)
			sp_leg_cut(x->shared);
	}
	sp_sql_tick(x, now);
}

static void
tick(struct sp_conn *c, int64_t now)
{
	tick_ctx(&c->outer, now);
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			tick_ctx(c->inner[i], now);
}

/* ---------------------------------------------------------------- the loop */

struct waits {
	struct pollfd pf[2 + LEGS_MAX];
	struct sp_leg *legs[LEGS_MAX];
	size_t n_legs;
	int timeout_ms;
};

static void
nearer(const struct sp_ctx *x, int64_t *at)
{
	int64_t d = sp_auth_deadline(x);

	if (d != 0 && d < *at)
		*at = d;
	if (x->cut_us != 0 && x->cut_us < *at)
		*at = x->cut_us;
	for (const struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next)
		if (ch->sql_cut_us != 0 && ch->sql_cut_us < *at)
			*at = ch->sql_cut_us;
	if (x->alive.every_us != 0 && x->alive.next_us != 0 &&
	    x->state == SP_CTX_IN && x->alive.next_us < *at)
		*at = x->alive.next_us;
}

static void
prepare(struct sp_conn *c, struct waits *w)
{
	int64_t now = sp_boot_us(), at = now + 600 * (int64_t)1000000;
	const struct sp_wire *t = &c->outer.wire;

	w->pf[0] = (struct pollfd){.fd = t->fd, .events = POLLRDHUP};
	if (t->eof || t->failed != 0)
		w->pf[0].fd = -1;
	else if (sp_ctx_may_read(&c->outer) && sp_wire_room(t) > 0)
		w->pf[0].events = POLLIN;
	if (!t->is_writable)
		w->pf[0].events |= POLLOUT;
	w->pf[1] = (struct pollfd){.fd = c->brk.fd, .events = POLLIN};
	if (sp_link_wants_write(&c->brk))
		w->pf[1].events |= POLLOUT;
	w->n_legs = 0;
	for (struct sp_leg *l = c->legs; l != NULL && w->n_legs < LEGS_MAX;
	    l = l->next) {
		struct pollfd *p = &w->pf[2 + w->n_legs];

		*p = (struct pollfd){.fd = l->s.fd};
		if (l->ctx != NULL)
			p->events |= POLLIN;
		if (sp_stream_pending(&l->s) > 0)
			p->events |= POLLOUT;
		w->legs[w->n_legs++] = l;
	}
	nearer(&c->outer, &at);
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			nearer(c->inner[i], &at);
	if (c->end_us != 0 && c->end_us < at)
		at = c->end_us;
	if (c->quiet_us != 0 && c->quiet_us < at)
		at = c->quiet_us;
	w->timeout_ms = at <= now ? 0 : (int)((at - now + 999) / 1000);
}

static void
read_broker(struct sp_conn *c)
{
	struct sp_packet p;
	enum sp_err e;

	while (!c->brk_gone && (e = sp_link_recv(&c->brk, &p)) != SP_ERR_AGAIN) {
		if (e == SP_OK) {
			sp_conn_packet(c, &p);
			continue;
		}
		if (e == SP_ERR_PROTO)
			sp_log(SP_ERROR, "broker_fault", NULL, "fault=\"%s\"",
			    c->brk.fault);
		c->brk_gone = true;
	}
	if (!c->brk_gone && (e = sp_link_flush(&c->brk)) != SP_OK &&
	    e != SP_ERR_AGAIN)
		c->brk_gone = true;
}

static void
take_events(struct sp_conn *c, struct waits *w)
{
	const int on = 1;
	struct sp_wire *t = &c->outer.wire;

	if ((w->pf[0].revents & POLLOUT) != 0)
		t->is_writable = true;
	if ((w->pf[0].revents & (POLLIN | POLLERR | POLLHUP)) != 0 &&
	    sp_wire_room(t) > 0) {
		sp_wire_fill(t);
		if (c->acks++ < ACKS_MAX)
			(void)!setsockopt(t->fd, IPPROTO_TCP, TCP_QUICKACK, &on,
			    sizeof(on));
	} else if ((w->pf[0].revents & (POLLRDHUP | POLLERR | POLLHUP)) != 0) {
		/* Nothing more is read while all is stuck; the user is gone. */
		t->failed = ECONNRESET;
	}
	if (w->pf[1].revents != 0)
		read_broker(c);
	/* Nothing between prepare() and here frees a leg. */
	for (size_t i = 0; i < w->n_legs; i++)
		if ((w->pf[2 + i].revents & (POLLIN | POLLERR | POLLHUP)) != 0 &&
		    w->legs[i]->ctx != NULL)
			sp_leg_read(w->legs[i]);
}

/* A client that gets a disconnect drops what it has not shown yet: so it closes
 * its channels first, and the time is limited. */
static bool
is_done(const struct sp_conn *c)
{
	if (c->outer.state == SP_CTX_DEAD)
		return true;
	if (c->end_us == 0)
		return false;
	if (sp_boot_us() >= c->end_us)
		return true;
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			return false;
	return c->outer.n_chans == 0;
}

static void
rest_ctx(struct sp_ctx *x)
{
	if (x->state == SP_CTX_DEAD)
		return;
	if ((ssh_get_status(x->ssh) & SSH_WRITE_PENDING) == 0)
		sp_wire_trim(&x->wire);
	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next) {
		sp_area_drop(&ch->held);
		if (ch->q.len == 0)
			sp_buf_fini(&ch->q);
	}
}

/* Nobody says anything: an idle session should cost little memory. */
static void
rest(struct sp_conn *c, bool heard)
{
	int64_t now = sp_boot_us();

	if (heard)
		c->quiet_us = now + QUIET_US;
	if (heard || c->quiet_us == 0 || now < c->quiet_us)
		return;
	c->quiet_us = 0;
	for (struct sp_leg *l = c->legs; l != NULL; l = l->next)
		sp_stream_trim(&l->s);
	rest_ctx(&c->outer);
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			rest_ctx(c->inner[i]);
	sp_leg_trim();
	malloc_trim(0);
	sp_stack_drop();
}

static void
loop(struct sp_conn *c)
{
	static struct waits w;
	int n;

	while (!is_done(c)) {
		prepare(c, &w);
		n = ppoll(w.pf, 2 + w.n_legs, &(struct timespec){
		    .tv_sec = w.timeout_ms / 1000,
		    .tv_nsec = (long)(w.timeout_ms % 1000) * 1000000L}, NULL);
		if (n < 0 && errno != EINTR)
			return;
		rest(c, n > 0);
		take_events(c, &w);
		tick(c, sp_boot_us());
		if (c->brk_gone)
			sp_conn_end(c, "the bastion is restarting, this connection ends");
		turn(c);
	}
}

/* What users sent and we have taken still reaches the recorder. */
static void
linger(struct sp_conn *c)
{
	int64_t end = sp_boot_us() + LINGER_US, now;

	sp_leg_sweep(c);
	while (c->legs != NULL && (now = sp_boot_us()) < end) {
		struct pollfd pf[LEGS_MAX];
		nfds_t n = 0;
		struct timespec ts = {.tv_sec = (end - now) / 1000000,
		    .tv_nsec = (long)((end - now) % 1000000) * 1000};

		for (struct sp_leg *l = c->legs; l != NULL && n < LEGS_MAX;
		    l = l->next)
			pf[n++] = (struct pollfd){.fd = l->s.fd,
			    .events = POLLOUT};
		if (ppoll(pf, n, &ts, NULL) < 0 && errno != EINTR)
			return;
		sp_leg_sweep(c);
	}
	if (!c->brk_gone)
		(void)!sp_link_flush(&c->brk);
}

int
sp_conn_run(const struct sp_front *f, const struct sp_msg_spawn_ingress *m,
    int tcp, int broker, int vault)
{
	static struct sp_conn c;
	int fl = fcntl(tcp, F_GETFL);

	c = (struct sp_conn){.cfg = &f->cfg, .bind = f->bind, .id = m->id, .tcp = tcp};
	sp_glass_watch(sp_heard, NULL);
	if (sp_span_cstr(m->peer_addr, c.peer, sizeof(c.peer)) != SP_OK || fl < 0 ||
	    fcntl(tcp, F_SETFL, fl | O_NONBLOCK) < 0 ||
	    sp_link_init(&c.brk, broker, SP_ROLE_ING, SP_ROLE_BRK,
	    SP_ST_READY) != SP_OK || sp_link_init(&c.vlt, vault, SP_ROLE_ING,
	    SP_ROLE_VLT, SP_ST_READY) != SP_OK)
		return 1;
	sp_hostsign_use(&c.vlt, m->id);
	if (m->proxied != 0 && !sp_hello_proxied(&c)) {
		linger(&c);
		return 0;
	}
	if (sp_ctx_init(&c.outer, &c, 0, tcp, NULL) != SP_OK)
		return 1;
	turn(&c);
	loop(&c);
	c.outer.bye = c.end_us != 0 ? c.end_text : "the connection ends";
	say_bye(&c.outer);
	sp_ctx_fini(&c.outer);
	linger(&c);
	sp_link_fini(&c.brk);
	sp_link_fini(&c.vlt);
	return 0;
}
