/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/vault.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define DEADLINE_US 2000000
#define ASK_AGAIN_S 2
/* Requests that wait for an answer; each caller has its own bounds, this is
 * the last one. */
#define CALLS_MAX 16384

struct call {
	TAILQ_ENTRY(call) link;
	uint64_t corr;
	uint16_t reply_type;
	int64_t deadline_us;	/* boot clock */
	enum sp_err failed;	/* in `over`: what to say */
	sp_vault_cb cb;
	void *arg;
};
TAILQ_HEAD(calls, call);

/* `waiting` is in the order of sending: corr grows and deadlines too, so the
 * head is the next to be late and most answers are for the head. */
struct sp_vault {
	struct sp_broker *b;
	struct sp_peer *peer;
	struct calls waiting, over;
	size_t n_waiting;
	uint64_t next_corr;
	struct event *ev_deadline, *ev_over, *ev_ask;
	bool has_status, asks;
	struct sp_msg_v_status_r status;
	uint8_t ca_key[256];
	void (*on_event)(void *arg, struct sp_packet *p);
	void *on_event_arg;
};

static void ask_status(struct sp_vault *v);

static void
fail_later(struct sp_vault *v, struct call *c, enum sp_err e)
{
	c->failed = e;
	TAILQ_INSERT_TAIL(&v->over, c, link);
	event_active(v->ev_over, EV_TIMEOUT, 0);
}

static void
on_over(evutil_socket_t fd, short what, void *arg)
{
	struct sp_vault *v = arg;
	struct calls now = TAILQ_HEAD_INITIALIZER(now);
	struct call *c;

	(void)fd;
	(void)what;
	TAILQ_CONCAT(&now, &v->over, link);
	while ((c = TAILQ_FIRST(&now)) != NULL) {
		TAILQ_REMOVE(&now, c, link);
		c->cb(c->arg, c->failed, NULL);
		free(c);
	}
}

static void
arm_deadline(struct sp_vault *v)
{
	const struct call *c = TAILQ_FIRST(&v->waiting);
	int64_t left;

	if (c == NULL) {
		event_del(v->ev_deadline);
		return;
	}
	left = c->deadline_us - sp_boot_us();
	if (left < 0)
		left = 0;
	event_add(v->ev_deadline, &(struct timeval){
	    .tv_sec = (time_t)(left / 1000000),
	    .tv_usec = (suseconds_t)(left % 1000000)});
}

static void
forget(struct sp_vault *v, struct call *c)
{
	TAILQ_REMOVE(&v->waiting, c, link);
	v->n_waiting--;
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct sp_vault *v = arg;
	int64_t now = sp_boot_us();
	struct call *c;

	(void)fd;
	(void)what;
	while ((c = TAILQ_FIRST(&v->waiting)) != NULL && c->deadline_us <= now) {
		forget(v, c);
		fail_later(v, c, SP_ERR_TIMEOUT);
	}
	arm_deadline(v);
}

static void
keep_status(struct sp_vault *v, struct sp_packet *k)
{
	struct sp_msg_v_status_r m;

	if (sp_dec_v_status_r(k->body, &m) != SP_OK)
		return;
	if (!v->has_status || v->status.sealed != m.sealed)
		sp_log(m.sealed ? SP_WARN : SP_INFO,
		    m.sealed ? "vault_sealed" : "vault_open", NULL, "");
	v->status = m;
	memcpy(v->ca_key, m.ca_key.p, m.ca_key.n);
	v->status.ca_key = sp_span_of(v->ca_key, m.ca_key.n);
	v->has_status = true;
	if (m.sealed)
		event_add(v->ev_ask, &(struct timeval){.tv_sec = ASK_AGAIN_S});
}

/* An answer in its turn, an answer too late (ignored), or a lie. */
static bool
match(struct sp_vault *v, struct sp_packet *k)
{
	struct call *c;

	TAILQ_FOREACH(c, &v->waiting, link)
		if (c->corr >= k->corr)
			break;
	if (c == NULL || c->corr != k->corr)
		return k->corr != 0 && k->corr < v->next_corr;
	if (c->reply_type != k->type)
		return false;
	forget(v, c);
	arm_deadline(v);
	c->cb(c->arg, SP_OK, k);
	free(c);
	return true;
}

static void
lose(struct sp_vault *v)
{
	struct call *c;

	v->peer = NULL;
	v->has_status = false;
	while ((c = TAILQ_FIRST(&v->waiting)) != NULL) {
		forget(v, c);
		fail_later(v, c, SP_ERR_EOF);
	}
	event_del(v->ev_deadline);
}

/* What the vault says of itself counts at once, and not when it is asked next:
 * between, a row verified a moment ago would still let a key pass. */
static void
heed(struct sp_vault *v, const struct sp_packet *k)
{
	struct sp_msg_security_event m;

	if (k->type != SP_MSG_security_event ||
	    sp_dec_security_event(k->body, &m) != SP_OK)
		return;
	if (sp_span_is(m.what, "vault_sealed"))
		v->status.sealed = true;
	else if (!sp_span_is(m.what, "vault_unsealed"))
		return;
	ask_status(v);
}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_vault *v = arg;

	if (v->peer == p)
		heed(v, k);
	if (k->type == SP_MSG_v_lease_used || k->type == SP_MSG_security_event) {
		if (v->on_event != NULL)
			v->on_event(v->on_event_arg, k);
		return;
	}
	if (k->type == SP_MSG_v_status_r)
		keep_status(v, k);
	if (match(v, k) || v->peer != p)
		return;
	sp_log(SP_ERROR, "vault_protocol", NULL, "fault=\"%s was not asked for\"",
	    sp_ipc_name(k->type));
	sp_peer_drop(p);
	lose(v);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_vault *v = arg;

	if (v->peer != p)
		return;
	sp_log(SP_ERROR, "vault_lost", NULL, "fault=\"%s\"", sp_vis_str(fault));
	lose(v);
}

static void
on_status(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_vault *v = arg;

	(void)reply;	/* keep_status has it */
	v->asks = false;
	if (e != SP_OK && v->peer != NULL)
		event_add(v->ev_ask, &(struct timeval){.tv_sec = ASK_AGAIN_S});
}

static void
ask_status(struct sp_vault *v)
{
	if (v->asks)
		return;
	v->asks = true;
	sp_vault_call(v, SP_MSG_v_status, (struct sp_span){0},
	    SP_MSG_v_status_r, on_status, v);
}

static void
on_ask(evutil_socket_t fd, short what, void *arg)
{
	struct sp_vault *v = arg;

	(void)fd;
	(void)what;
	if (v->peer != NULL)
		ask_status(v);
}

struct sp_vault *
sp_vault_new(struct sp_broker *b)
{
	struct sp_vault *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->b = b;
	v->next_corr = 1;
	TAILQ_INIT(&v->waiting);
	TAILQ_INIT(&v->over);
	v->ev_deadline = evtimer_new(b->ev, on_deadline, v);
	v->ev_over = event_new(b->ev, -1, 0, on_over, v);
	v->ev_ask = evtimer_new(b->ev, on_ask, v);
	SP_ASSERT(v->ev_deadline != NULL && v->ev_over != NULL &&
	    v->ev_ask != NULL);
	return v;
}

void
sp_vault_attach(struct sp_vault *v, int fd)
{
	if (v->peer != NULL) {
		sp_peer_drop(v->peer);
		lose(v);
	}
	v->peer = sp_peer_new(v->b, fd, SP_ROLE_VLT, SP_ST_READY, on_packet,
	    on_end, v);
	if (v->peer == NULL) {
		sp_log(SP_ERROR, "vault_lost", NULL, "fault=\"no link\"");
		return;
	}
	v->asks = false;	/* an older question went with its link */
	ask_status(v);
}

void
sp_vault_call(struct sp_vault *v, uint16_t type, struct sp_span body,
    uint16_t reply_type, sp_vault_cb cb, void *arg)
{
	struct call *c = calloc(1, sizeof(*c));

	SP_ASSERT(c != NULL && cb != NULL);
	*c = (struct call){.reply_type = reply_type, .cb = cb, .arg = arg};
	if (v->peer == NULL) {
		fail_later(v, c, SP_ERR_EOF);
		return;
	}
	if (v->has_status && v->status.sealed && type != SP_MSG_v_status) {
		fail_later(v, c, SP_ERR_SEALED);
		return;
	}
	/* A vault that does not read must not lose its link to our haste. */
	if (v->n_waiting >= CALLS_MAX ||
	    v->peer->link.tx_bytes + body.n > SP_LINK_TX_MAX - SP_IPC_BODY_MAX) {
		fail_later(v, c, SP_ERR_TIMEOUT);
		return;
	}
	c->corr = v->next_corr++;
	c->deadline_us = sp_boot_us() + DEADLINE_US;
	TAILQ_INSERT_TAIL(&v->waiting, c, link);
	if (v->n_waiting++ == 0)
		arm_deadline(v);
	sp_peer_sent(v->peer, sp_link_send(&v->peer->link, type, c->corr, body,
	    NULL, 0));
}

bool
sp_vault_is_open(const struct sp_vault *v)
{
	return v->peer != NULL && v->has_status && !v->status.sealed;
}

const struct sp_msg_v_status_r *
sp_vault_status(const struct sp_vault *v)
{
	return v->has_status ? &v->status : NULL;
}

void
sp_vault_on_event(struct sp_vault *v,
    void (*cb)(void *arg, struct sp_packet *p), void *arg)
{
	v->on_event = cb;
	v->on_event_arg = arg;
}
