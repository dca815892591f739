/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define WAITING_MAX 20000	/* about 10 MB */
#define AGAIN_MS 50		/* the vault was not asked yet, the disk is full */

struct item {
	TAILQ_ENTRY(item) link;
	uint64_t corr;
	uint16_t type;
	bool is_sent;
	sp_done_cb cb;
	void *arg;
	size_t n;
	uint8_t body[];
};
TAILQ_HEAD(items, item);

struct sp_ledger {
	struct sp_broker *b;
	struct sp_peer *peer;
	struct items items;
	size_t n_items;
	uint64_t next_corr;
	struct event *again;
	struct sp_ledger_status st;
	void (*on_event)(void *arg, const struct sp_msg_security_event *m);
	void *on_event_arg;
};

static void
end_item(struct sp_ledger *l, struct item *it, enum sp_err e)
{
	TAILQ_REMOVE(&l->items, it, link);
	l->n_items--;
	if (it->cb != NULL)
		it->cb(it->arg, e);
	free(it);
}

static void
send_item(struct sp_ledger *l, struct item *it)
{
	if (l->peer == NULL || l->peer->link.tx_bytes > SP_LINK_TX_MAX / 2)
		return;
	it->is_sent = true;
	sp_peer_sent(l->peer, sp_link_send(&l->peer->link, it->type, it->corr,
	    sp_span_of(it->body, it->n), NULL, 0));
}

static void
again_soon(struct sp_ledger *l)
{
	struct timeval tv = {.tv_usec = AGAIN_MS * 1000};

	if (!event_pending(l->again, EV_TIMEOUT, NULL))
		event_add(l->again, &tv);
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	struct sp_ledger *l = arg;
	struct item *it;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(it, &l->items, link) {
		if (!it->is_sent)
			send_item(l, it);
		if (!it->is_sent && l->peer != NULL) {
			again_soon(l);
			return;
		}
	}
}

static void
on_taken(struct sp_ledger *l, uint64_t corr, const struct sp_msg_n_taken *m)
{
	struct item *it;

	TAILQ_FOREACH(it, &l->items, link)
		if (it->corr >= corr)
			break;
	if (it == NULL || it->corr != corr || !it->is_sent)
		return;
	switch (m->err) {
	case SP_OK:
		if (m->index >= l->st.size)
			l->st.size = m->index + 1;
		end_item(l, it, SP_OK);
		break;
	case SP_ERR_SEALED:
	case SP_ERR_FULL:
	case SP_ERR_IO:
		it->is_sent = false;
		again_soon(l);
		break;
	default:
		sp_log(SP_ERROR, "log_leaf_refused", NULL, "why=\"%s\"",
		    sp_err_text(m->err < SP_ERR_COUNT_ ? m->err : SP_ERR_PROTO));
		end_item(l, it, m->err < SP_ERR_COUNT_ ? (enum sp_err)m->err :
		    SP_ERR_PROTO);
	}
}

static void
on_status(struct sp_ledger *l, const struct sp_msg_n_status *m)
{
	if (m->state != l->st.state)
		sp_log(m->state == SP_LOG_GOOD ? SP_INFO : SP_WARN, "log_state",
		    NULL, "state=%u size=%llu", m->state,
		    (unsigned long long)m->size);
	l->st.is_there = true;
	l->st.state = m->state;
	l->st.size = m->size;
	l->st.signed_size = m->signed_size;
	sp_vis(l->st.origin, sizeof(l->st.origin), m->origin);
	sp_vis(l->st.text, sizeof(l->st.text), m->text);
}

static void
report(struct sp_ledger *l, const struct sp_msg_security_event *ev)
{
	if (l->on_event != NULL)
		l->on_event(l->on_event_arg, ev);
}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_ledger *l = arg;
	struct sp_msg_security_event ev;
	struct sp_msg_n_status st;
	struct sp_msg_n_taken t;

	sp_packet_close_fds(k);
	if (l->peer != p)
		return;
	if (k->type == SP_MSG_n_taken && sp_dec_n_taken(k->body, &t) == SP_OK)
		on_taken(l, k->corr, &t);
	else if (k->type == SP_MSG_n_status &&
	    sp_dec_n_status(k->body, &st) == SP_OK)
		on_status(l, &st);
	else if (k->type == SP_MSG_security_event &&
	    sp_dec_security_event(k->body, &ev) == SP_OK)
		report(l, &ev);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_ledger *l = arg;
	struct item *it;

	if (l->peer != p)
		return;
	sp_log(SP_ERROR, "notary_lost", NULL, "fault=\"%s\"", sp_vis_str(fault));
	l->peer = NULL;
	l->st.is_there = false;
	TAILQ_FOREACH(it, &l->items, link)
		it->is_sent = false;
}

struct sp_ledger *
sp_ledger_new(struct sp_broker *b)
{
	struct sp_ledger *l = calloc(1, sizeof(*l));

	if (l == NULL || (l->again = evtimer_new(b->ev, on_again, l)) == NULL) {
		free(l);
		return NULL;
	}
	l->b = b;
	TAILQ_INIT(&l->items);
	return l;
}

void
sp_ledger_on_event(struct sp_ledger *l,
    void (*cb)(void *arg, const struct sp_msg_security_event *m), void *arg)
{
	l->on_event = cb;
	l->on_event_arg = arg;
}

void
sp_ledger_attach(struct sp_ledger *l, int fd)
{
	struct item *it;

	if (l->peer != NULL)
		sp_peer_drop(l->peer);
	l->peer = sp_peer_new(l->b, fd, SP_ROLE_NTY, SP_ST_READY, on_packet, on_end,
	    l);
	TAILQ_FOREACH(it, &l->items, link)
		it->is_sent = false;
	on_again(-1, 0, l);
}

const struct sp_ledger_status *
sp_ledger_status(struct sp_ledger *l)
{
	l->st.waiting = l->n_items;
	return &l->st;
}

/* The oldest that nobody waits for makes room: the log is late, not wrong. */
static void
make_room(struct sp_ledger *l)
{
	struct item *it;

	TAILQ_FOREACH(it, &l->items, link)
		if (it->cb == NULL)
			break;
	if (it == NULL)
		it = TAILQ_FIRST(&l->items);
	sp_log(SP_ERROR, "log_leaf_lost", NULL, "waiting=%zu", l->n_items);
	end_item(l, it, SP_ERR_FULL);
}

static void
add(struct sp_ledger *l, uint16_t type, const struct sp_buf *body, sp_done_cb cb,
    void *arg)
{
	struct sp_span s = sp_buf_span(body);
	struct item *it = calloc(1, sizeof(*it) + s.n);

	SP_ASSERT(it != NULL);
	if (l->n_items >= WAITING_MAX)
		make_room(l);
	it->corr = ++l->next_corr;
	it->type = type;
	it->cb = cb;
	it->arg = arg;
	it->n = s.n;
	memcpy(it->body, s.p, s.n);
	TAILQ_INSERT_TAIL(&l->items, it, link);
	l->n_items++;
	send_item(l, it);
	if (!it->is_sent && l->peer != NULL)
		again_soon(l);
}

void
sp_ledger_point(struct sp_ledger *l, const struct sp_msg_rec_point *m,
    sp_done_cb cb, void *arg)
{
	struct sp_msg_n_point p = {.urgent = cb != NULL,
	    .opened_us = m->opened_us, .head = m->head, .body = m->body};
	SP_BUF_AUTO b = {.max = 2048};

	memcpy(p.session, m->session, 16);
	memcpy(p.rec_key, m->rec_key, 32);
	memcpy(p.header_hash, m->header_hash, 32);
	memcpy(p.certificate, m->certificate, 64);
	memcpy(p.prev, m->prev, 32);
	SP_ASSERT(sp_enc_n_point(&b, &p) == SP_OK);
	add(l, SP_MSG_n_point, &b, cb, arg);
}

static void
note(struct sp_ledger *l, const struct sp_leaf *leaf, sp_done_cb cb, void *arg)
{
	struct sp_msg_n_note m = {.urgent = cb != NULL};
	SP_BUF_AUTO entry = {.max = SP_TLOG_ENTRY_MAX};
	SP_BUF_AUTO b = {.max = 2048};

	SP_ASSERT(sp_leaf_encode(leaf, &entry) == SP_OK);
	m.leaf = sp_buf_span(&entry);
	SP_ASSERT(sp_enc_n_note(&b, &m) == SP_OK);
	add(l, SP_MSG_n_note, &b, cb, arg);
}

void
sp_ledger_audit(struct sp_ledger *l, uint64_t seq, const uint8_t hash[static 32])
{
	struct sp_leaf leaf = {.type = SP_LEAF_AUDIT, .seq = seq,
	    .node = sp_span_str(l->b->node)};

	memcpy(leaf.hash, hash, 32);
	note(l, &leaf, NULL, NULL);
}

void
sp_ledger_act(struct sp_ledger *l, enum sp_leaf_act act, const char *actor,
    const uint8_t session[static 16], const uint8_t *object,
    const char *detail, sp_done_cb cb, void *arg)
{
	struct sp_leaf leaf = {.type = SP_LEAF_ACT, .act = (uint8_t)act};
	char who[SP_LEAF_ACTOR_MAX + 1], text[SP_LEAF_DETAIL_MAX + 1];

	/* Plain text of our own: cut to what fits, never in a character. */
	sp_vis(who, sizeof(who), sp_span_str(actor));
	sp_vis(text, sizeof(text), sp_span_str(detail));
	leaf.actor = sp_span_str(who);
	leaf.detail = sp_span_str(text);
	memcpy(leaf.session, session, 16);
	if (object != NULL)
		memcpy(leaf.hash, object, 32);
	note(l, &leaf, cb, arg);
}

void
sp_ledger_forget(struct sp_ledger *l, const void *arg)
{
	struct item *it;

	TAILQ_FOREACH(it, &l->items, link)
		if (it->cb != NULL && it->arg == arg)
			it->cb = NULL;
}
