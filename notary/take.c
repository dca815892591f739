/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "notary/notaryd.h"

static enum sp_err
answer(struct sp_notary *n, uint64_t corr, enum sp_err e, uint64_t index)
{
	struct sp_msg_n_taken m = {.err = (uint8_t)e, .index = index};

	if (n->brk.fd < 0)
		return SP_OK;
	return sp_send_n_taken(&n->brk, corr, &m, NULL);
}

/* The first of a batch decides how long it may wait. */
static enum sp_err
put(struct sp_notary *n, uint64_t corr, bool urgent, const struct sp_leaf *l)
{
	SP_BUF_AUTO b = {.max = SP_TLOG_ENTRY_MAX};
	uint64_t index = 0;
	enum sp_err e = sp_leaf_encode(l, &b);

	if (n->n_waiting == SP_NOTARY_WAITING_MAX)
		SP_TRY(sp_notary_commit(n));
	if (e == SP_OK)
		e = sp_nstore_put(n->store, sp_buf_span(&b), &index);
	if (e != SP_OK)
		return answer(n, corr, e, 0);
	if (n->n_waiting == 0)
		n->oldest_us = sp_boot_us();
	n->waiting[n->n_waiting].corr = corr;
	n->waiting[n->n_waiting++].index = index;
	n->is_urgent = n->is_urgent || urgent;
	return SP_OK;
}

/* Does the vault vouch for the recording, and its key for the chunk? */
static enum sp_err
point_leaf(const struct sp_notary *n, const struct sp_msg_n_point *m,
    struct sp_leaf *l)
{
	static const uint8_t types[] = {[3] = SP_LEAF_CHECKPOINT,
	    [4] = SP_LEAF_CLOSE, [5] = SP_LEAF_RECOVERED};
	struct sp_leaf open = {.type = SP_LEAF_OPEN, .opened_us = m->opened_us};
	SP_BUF_AUTO again = {.max = SP_TLOG_ENTRY_MAX};

	open.at_us = l->at_us;
	memcpy(open.session, m->session, 16);
	memcpy(open.rec_key, m->rec_key, 32);
	memcpy(open.header_hash, m->header_hash, 32);
	memcpy(open.signature, m->certificate, 64);
	SP_TRY(sp_leaf_check_open(&open, n->key.pk));
	if (m->head.n == 0 && m->body.n == 0) {
		*l = open;
		return SP_OK;
	}
	if (m->head.n != 28 || m->head.p[4] >= sizeof(types) ||
	    types[m->head.p[4]] == 0)
		return SP_ERR_PROTO;
	*l = (struct sp_leaf){.type = types[m->head.p[4]], .at_us = open.at_us,
	    .body = m->body};
	memcpy(l->session, m->session, 16);
	memcpy(l->prev, m->prev, 32);
	memcpy(l->head, m->head.p, 28);
	/* By its own decoder: it must be a chunk as the document has it. */
	SP_TRY(sp_leaf_encode(l, &again));
	SP_TRY(sp_leaf_decode(sp_buf_span(&again), &open));
	l->seq = open.seq;
	return sp_leaf_check_chunk(l, m->rec_key, n->key.pk);
}

static enum sp_err
on_point(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_leaf l = {.at_us = sp_now_us()};
	struct sp_msg_n_point m;
	enum sp_err e = SP_ERR_SEALED;

	SP_TRY(sp_dec_n_point(p->body, &m));
	if (n->state == SP_LOG_GOOD)
		e = point_leaf(n, &m, &l);
	else if (n->state != SP_LOG_WAITS)
		e = SP_ERR_STATE;
	else
		n->ask_us = 0;	/* somebody waits: ask the vault at once */
	if (e == SP_ERR_CRYPTO || e == SP_ERR_PROTO)
		sp_notary_event(n, "log_leaf_refused", "a leaf about a recording "
		    "that neither its recorder nor the vault has signed");
	return e == SP_OK ? put(n, p->corr, m.urgent == 1, &l) :
	    answer(n, p->corr, e, 0);
}

/* A recording has one end, and none while it is held; what has ended is not held any
 * more. The leaves say so, whatever the database has. SP_ERR_EXISTS: its end stands at
 * `index`. */
static enum sp_err
check_act(struct sp_notary *n, const struct sp_leaf *l, uint64_t *index)
{
	struct sp_nacts a;

	if (l->type != SP_LEAF_ACT || (l->act != SP_ACT_HOLD &&
	    l->act != SP_ACT_DELETE))
		return SP_OK;
	if (n->n_waiting > 0)
		SP_TRY(sp_notary_commit(n));
	SP_TRY(sp_nacts_of(n->store, l->session, &a));
	*index = a.end;
	if (a.is_ended)
		return l->act == SP_ACT_DELETE ? SP_ERR_EXISTS : SP_ERR_DENIED;
	return l->act == SP_ACT_DELETE && a.is_held ? SP_ERR_DENIED : SP_OK;
}

static enum sp_err
put_act(struct sp_notary *n, uint64_t corr, bool urgent, const struct sp_leaf *l)
{
	uint64_t index = sp_nstore_next(n->store);
	enum sp_err e = check_act(n, l, &index);

	if (e == SP_OK && l->type == SP_LEAF_ACT) {
		index = sp_nstore_next(n->store);
		e = sp_nacts_put(n->store, l->act, l->session, index);
	}
	if (e == SP_ERR_EXISTS)
		return answer(n, corr, SP_OK, index);
	return e == SP_OK ? put(n, corr, urgent, l) : answer(n, corr, e, 0);
}

static enum sp_err
on_note(struct sp_notary *n, struct sp_packet *p)
{
	SP_BUF_AUTO again = {.max = SP_TLOG_ENTRY_MAX};
	struct sp_msg_n_note m;
	struct sp_leaf l;

	SP_TRY(sp_dec_n_note(p->body, &m));
	SP_TRY(sp_leaf_decode(m.leaf, &l));
	if (l.type != SP_LEAF_AUDIT && l.type != SP_LEAF_ACT)
		return SP_ERR_PROTO;
	if (n->state != SP_LOG_GOOD && n->state != SP_LOG_WAITS)
		return answer(n, p->corr, SP_ERR_STATE, 0);
	l.at_us = sp_now_us();
	return put_act(n, p->corr, m.urgent == 1, &l);
}

enum sp_err
sp_notary_take(struct sp_notary *n, struct sp_packet *p)
{
	switch (p->type) {
	case SP_MSG_n_point:
		return on_point(n, p);
	case SP_MSG_n_note:
		return on_note(n, p);
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
say_end(struct sp_notary *n, enum sp_err e)
{
	struct sp_msg_n_deleting m = {.err = (uint8_t)e};

	memcpy(m.session, n->ending.session, 16);
	n->ending.is_asked = false;
	return sp_send_n_deleting(&n->sup, n->ending.corr, &m, NULL);
}

/* A file may go when its end is under a signed head, and not before: who looks at
 * the directory then finds why. */
enum sp_err
sp_notary_end_signed(struct sp_notary *n)
{
	if (!n->ending.is_asked || !n->has_head ||
	    n->ending.index >= n->head.size)
		return SP_OK;
	return say_end(n, SP_OK);
}

/* The supervisor asks: may that recording's file be removed? */
enum sp_err
sp_notary_ends(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_msg_n_erase ask;
	struct sp_nacts a;
	enum sp_err e;

	SP_TRY(sp_dec_n_erase(p->body, &ask));
	n->ending.is_asked = true;
	n->ending.corr = p->corr;
	memcpy(n->ending.session, ask.session, 16);
	if (n->state != SP_LOG_GOOD && n->state != SP_LOG_WAITS)
		return say_end(n, SP_ERR_STATE);
	if (n->n_waiting > 0)
		SP_TRY(sp_notary_commit(n));
	e = sp_nacts_of(n->store, ask.session, &a);
	if (e != SP_OK || a.is_held || !a.is_ended)
		return say_end(n, e != SP_OK ? e : a.is_held ? SP_ERR_DENIED :
		    SP_ERR_NOTFOUND);
	n->ending.index = a.end;
	return sp_notary_end_signed(n);
}

enum sp_err
sp_notary_commit(struct sp_notary *n)
{
	enum sp_err e = sp_nstore_commit(n->store), sent = SP_OK;

	/* After a failed sync nobody knows what the disk has. */
	n->is_dead = e != SP_OK && e != SP_ERR_FULL;
	if (n->is_dead)
		return SP_ERR_IO;
	for (size_t i = 0; i < n->n_waiting && sent == SP_OK; i++)
		sent = answer(n, n->waiting[i].corr, e, n->waiting[i].index);
	if (e == SP_ERR_FULL)
		sp_log(SP_ERROR, "log_full", NULL, "lost=%zu", n->n_waiting);
	n->n_waiting = 0;
	n->is_urgent = false;
	if (sent != SP_OK)
		sp_link_fini(&n->brk);	/* it does not read: a new one may */
	return SP_OK;
}
