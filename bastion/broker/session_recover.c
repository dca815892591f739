/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"
#include "bastion/broker/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A recording without its CLOSE: a fresh recorder cuts it at the last whole
 * chunk, the vault signs what is left, the recorder appends RECOVERED. */
#define DEADLINE_S 60
#define LOG_S 20	/* for the notary to take what it is owed */
#define BUSY_TRIES 20
#define BUSY_MS 250

enum recovery_state { RCV_ASKED, RCV_READING, RCV_SIGNING, RCV_SEALING, RCV_LOGGING,
	RCV_OVER };

struct recovery {
	struct recovery *next;
	struct sp_broker *b;
	uint8_t session[16];
	enum recovery_state state;
	unsigned refs, tries, n_points, n_unlogged;
	bool retry;
	struct sp_peer *peer;
	struct event *timer;
	struct recovered r;
	recovery_cb cb;
	void *arg;
};

static void
recovery_release(struct recovery *v)
{
	if (--v->refs > 0)
		return;
	event_free(v->timer);
	free(v);
}

/* Its points are in the transparency log before anybody is told that it is over:
 * once its row is closed nobody would bring them again. */
static bool
waits_for_log(struct recovery *v)
{
	struct timeval tv = {.tv_sec = LOG_S};

	if (v->n_unlogged == 0 || v->state == RCV_LOGGING)
		return false;
	v->state = RCV_LOGGING;
	event_add(v->timer, &tv);
	if (v->peer != NULL)
		sp_peer_drop(v->peer);
	v->peer = NULL;
	return true;
}

static void
recovery_end(struct recovery *v, enum sp_err e)
{
	struct recovery **at = &v->b->sessions->recoveries;

	if (v->state == RCV_OVER || (e == SP_OK && waits_for_log(v)))
		return;
	v->state = RCV_OVER;
	event_del(v->timer);
	if (v->peer != NULL)
		sp_peer_drop(v->peer);
	v->peer = NULL;
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	v->cb(v->arg, e, e == SP_OK ? &v->r : NULL);
	recovery_release(v);
}

static void
seal_signed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct recovery *v = arg;
	struct sp_msg_v_sign_r m = {.ok = 0};
	struct sp_msg_rec_seal seal = {.at_us = v->r.at_us};

	if (e == SP_OK)
		e = sp_dec_v_sign_r(reply->body, &m);
	if (v->state != RCV_SIGNING) {
		recovery_release(v);
		return;
	}
	if (e != SP_OK || m.ok != 1) {
		recovery_end(v, e == SP_OK ? SP_ERR_SEALED : e);
		recovery_release(v);
		return;
	}
	v->r.has_signature = true;
	memcpy(v->r.signature, m.signature, 64);
	if (v->r.is_closed) {
		recovery_end(v, SP_OK);
	} else {
		v->state = RCV_SEALING;
		memcpy(seal.signature, m.signature, 64);
		sp_peer_sent(v->peer,
		    sp_send_rec_seal(&v->peer->link, 0, &seal, NULL));
	}
	recovery_release(v);
}

static void
on_recovered(struct recovery *v, const struct sp_msg_rec_recovered *m)
{
	SP_BUF_AUTO body = {.max = 256};
	struct sp_msg_v_sign_close q = {.recovered = m->closed == 0,
	    .chunks = m->chunks, .at_us = sp_now_us()};

	if (v->state != RCV_READING || memcmp(m->session, v->session, 16) != 0) {
		recovery_end(v, SP_ERR_PROTO);
		return;
	}
	v->r.is_closed = m->closed != 0;
	memcpy(v->r.head, m->head, 32);
	v->r.chunks = m->chunks;
	v->r.cut_bytes = m->cut_bytes;
	v->r.file_bytes = m->file_bytes;
	v->r.at_us = q.at_us;
	memcpy(q.session, v->session, 16);
	memcpy(q.head, m->head, 32);
	v->state = RCV_SIGNING;
	v->peer->link.state = SP_ST_READY;
	v->refs++;
	if (sp_enc_v_sign_close(&body, &q) != SP_OK)
		seal_signed(v, SP_ERR_NOMEM, NULL);
	else
		sp_vault_call(v->b->vault, SP_MSG_v_sign_close, sp_buf_span(&body),
		    SP_MSG_v_sign_r, seal_signed, v);
}

static void
is_logged(void *arg, enum sp_err e)
{
	struct recovery *v = arg;

	if (e != SP_OK)
		sp_log(SP_WARN, "recovery_not_logged", v->session, "why=\"%s\"",
		    sp_err_text(e));
	if (--v->n_unlogged == 0 && v->state == RCV_LOGGING)
		recovery_end(v, SP_OK);
	recovery_release(v);
}

static void
log_point(struct recovery *v, const struct sp_msg_rec_point *m)
{
	if (v->b->ledger == NULL)
		return;
	v->refs++;
	v->n_unlogged++;
	sp_ledger_point(v->b->ledger, m, is_logged, v);
}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct recovery *v = arg;
	struct sp_msg_rec_recovered m;
	struct sp_msg_rec_point point;

	(void)p;
	sp_packet_close_fds(k);
	if (k->type == SP_MSG_rec_point && ++v->n_points <= 2 &&
	    sp_dec_rec_point(k->body, &point) == SP_OK &&
	    memcmp(point.session, v->session, 16) == 0)
		log_point(v, &point);
	else if (k->type == SP_MSG_rec_recovered &&
	    sp_dec_rec_recovered(k->body, &m) == SP_OK)
		on_recovered(v, &m);
	else
		recovery_end(v, SP_ERR_PROTO);
}

/* Its exit with 0 after the seal is the sign that RECOVERED is on disk: a link
 * that closes says only that the process is gone, and the kill -9 of a seal
 * half done looks the same. */
void
recovery_child_end(struct sp_broker *b, const uint8_t session[static 16],
    uint32_t status)
{
	struct recovery *v = b->sessions->recoveries;

	while (v != NULL && memcmp(v->session, session, 16) != 0)
		v = v->next;
	if (v == NULL || v->state != RCV_SEALING)
		return;
	/* Its last word is the seal, for the transparency log. */
	v->refs++;
	if (v->peer != NULL)
		sp_peer_drain(v->peer);
	recovery_end(v, status == 0 ? SP_OK : SP_ERR_IO);
	recovery_release(v);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct recovery *v = arg;

	(void)p;
	v->peer = NULL;
	/* A file that was whole needs no seal: it may leave at once. */
	if (v->state == RCV_SIGNING && v->r.is_closed && fault[0] == '\0')
		return;
	if (v->state == RCV_SEALING && fault[0] == '\0')
		return;
	recovery_end(v, SP_ERR_PROTO);
}

static void
ask(struct recovery *v)
{
	struct sp_msg_recover m;
	struct timeval tv = {.tv_sec = DEADLINE_S};

	memcpy(m.session, v->session, 16);
	event_add(v->timer, &tv);
	sp_peer_sent(v->b->sup, sp_send_recover(&v->b->sup->link, 0, &m, NULL));
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct recovery *v = arg;

	(void)fd;
	(void)what;
	if (v->retry) {
		v->retry = false;
		ask(v);
	} else if (v->state == RCV_LOGGING) {
		/* The points wait in the ledger; the session does not. */
		sp_log(SP_WARN, "recovery_not_logged", v->session, "why=late");
		recovery_end(v, SP_OK);
	} else {
		recovery_end(v, SP_ERR_TIMEOUT);
	}
}

struct recovery *
recovery_begin(struct sp_broker *b, const uint8_t session[static 16],
    recovery_cb cb, void *arg)
{
	struct recovery *v = calloc(1, sizeof(*v));

	if (v == NULL || (v->timer = event_new(b->ev, -1, 0, on_timer, v)) == NULL) {
		free(v);
		return NULL;
	}
	v->b = b;
	v->refs = 1;
	memcpy(v->session, session, 16);
	v->cb = cb;
	v->arg = arg;
	v->next = b->sessions->recoveries;
	b->sessions->recoveries = v;
	ask(v);
	return v;
}

static struct recovery *
recovery_find(struct sp_broker *b, const uint8_t session[static 16])
{
	for (struct recovery *v = b->sessions->recoveries; v != NULL; v = v->next)
		if (memcmp(v->session, session, 16) == 0 && v->state == RCV_ASKED)
			return v;
	return NULL;
}

void
sp_session_on_recover_spawned(struct sp_broker *b,
    const struct sp_msg_recover_spawned *m, int fd)
{
	struct recovery *v = recovery_find(b, m->session);

	if (v == NULL) {
		sp_close_fds(&fd, 1);
		return;
	}
	v->state = RCV_READING;
	v->peer = sp_peer_new(b, fd, SP_ROLE_REC, SP_ST_NEW, on_packet, on_end, v);
	if (v->peer == NULL)
		recovery_end(v, SP_ERR_NOMEM);
}

bool
recovery_spawn_failed(struct sp_broker *b, const uint8_t session[static 16],
    uint32_t err_no)
{
	struct recovery *v = recovery_find(b, session);
	struct timeval tv = {.tv_usec = BUSY_MS * 1000};

	if (v == NULL)
		return false;
	/* Its old recorder may not have left yet. */
	if (err_no != ENOENT && ++v->tries < BUSY_TRIES) {
		v->retry = true;
		event_add(v->timer, &tv);
	} else {
		recovery_end(v, err_no == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_IO);
	}
	return true;
}

/* A recorder that was killed between its CLOSE and its exit: all is written, but
 * the file still has the name of an unfinished one. */
struct late {
	struct sp_broker *b;
	uint8_t session[16];
	unsigned tries;
};

static void late_ask(evutil_socket_t fd, short what, void *arg);

static void
late_done(void *arg, enum sp_err e, const struct recovered *r)
{
	struct late *l = arg;
	struct timeval tv = {.tv_sec = 1};

	(void)r;
	if (e == SP_OK || e == SP_ERR_NOTFOUND || l->b->stopping ||
	    ++l->tries > 60 || event_base_once(l->b->ev, -1, EV_TIMEOUT,
	    late_ask, l, &tv) != 0)
		free(l);
}

static void
late_ask(evutil_socket_t fd, short what, void *arg)
{
	struct late *l = arg;

	(void)fd;
	(void)what;
	if (recovery_begin(l->b, l->session, late_done, l) == NULL)
		late_done(l, SP_ERR_NOMEM, NULL);
}

void
recovery_of_closed(struct sp_broker *b, const uint8_t session[static 16])
{
	struct late *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return;
	l->b = b;
	memcpy(l->session, session, 16);
	late_ask(-1, 0, l);
}

/* --------------------------------------------------------- rows of before us */

#define AT_ONCE 4

struct sweep {
	struct sp_broker *b;
	struct sp_rows *rows;
	size_t next, running, n_bad;
};
struct swept {
	struct sweep *w;
	uint8_t id[16];
	char person[64], account[64], target[64];
	bool has_result, is_missing;
	struct recovered r;
	struct event *timer;
};

static void sweep_more(struct sweep *w);

static void
swept_end(struct swept *o, bool ok)
{
	struct sweep *w = o->w;

	w->running--;
	w->n_bad += !ok;
	if (o->timer != NULL)
		event_free(o->timer);
	free(o);
	sweep_more(w);
}

static void write_swept(struct swept *o);

static void
on_swept_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	write_swept(arg);
}

static void
swept_written(void *arg, enum sp_err e)
{
	struct swept *o = arg;
	struct timeval tv = {.tv_sec = 1};

	if (e == SP_OK || e == SP_ERR_DENIED || e == SP_ERR_STATE) {
		swept_end(o, e == SP_OK);
		return;
	}
	if (o->timer == NULL)
		o->timer = event_new(o->w->b->ev, -1, 0, on_swept_timer, o);
	if (o->timer == NULL || event_add(o->timer, &tv) != 0)
		swept_end(o, false);
}

static struct json_object *
swept_detail(const struct swept *o)
{
	struct json_object *d = sp_detail();

	sp_detail_str(d, "person", o->person);
	sp_detail_str(d, "account", o->account);
	sp_detail_str(d, "target", o->target);
	sp_detail_str(d, "reason", o->is_missing ? "its recording is missing" :
	    "the bastion stopped while it ran");
	if (!o->has_result)
		return d;
	sp_detail_hex(d, "head", o->r.head, 32);
	sp_detail_i64(d, "chunks", (int64_t)(o->r.chunks & INT64_MAX));
	sp_detail_i64(d, "cut_bytes", (int64_t)(o->r.cut_bytes & INT64_MAX));
	sp_detail_i64(d, "file_bytes", (int64_t)(o->r.file_bytes & INT64_MAX));
	sp_detail_hex(d, "signature", o->r.signature, 64);
	sp_detail_i64(d, "signed_us", o->r.at_us);
	return d;
}

static void
write_swept(struct swept *o)
{
	struct sp_change *c = sp_change_new(o->w->b->store);
	char id[SP_UUID_TEXT], at[SP_NUM_TEXT], chunks[SP_NUM_TEXT], head[67];
	char code[SP_NUM_TEXT];
	bool whole = o->has_result && o->r.is_closed;
	const char *row[] = {id, sp_i64_text(at, sp_now_us()),
	    o->is_missing ? "missing" : whole ? "ended" : "recovered",
	    sp_i64_text(code, SP_END_BROKER), o->is_missing ?
	    "its recording is missing" : "the bastion stopped while it ran",
	    sp_i64_text(chunks, (int64_t)(o->r.chunks & INT64_MAX)),
	    o->has_result ? head : NULL, whole || o->is_missing ? "f" : "t"};

	sp_uuid_text(id, o->id);
	snprintf(head, sizeof(head), "\\x");
	sp_hex(head + 2, o->r.head, 32);
	sp_change_sql(c, "UPDATE sessions SET ended_us = $2::bigint, state = $3, "
	    "end_code = $4::int, reason = $5, chunks = $6::bigint, "
	    "head = $7::bytea, recovered = $8::boolean WHERE id = $1::uuid AND "
	    "ended_us IS NULL", row, 8, 0);
	sess_end_lease_rows(c, id, at, NULL, SP_END_BROKER);
	sp_flow_change_audit(c, o->is_missing ? "recording_missing" : whole ?
	    "session_close" : "session_recovered", o->w->b->node, o->id,
	    swept_detail(o));
	sp_change_commit(c, swept_written, o);
}

static void
swept_recovered(void *arg, enum sp_err e, const struct recovered *r)
{
	struct swept *o = arg;

	if (e == SP_OK) {
		o->has_result = true;
		o->r = *r;
	} else if (e == SP_ERR_NOTFOUND) {
		o->is_missing = true;
	} else {
		sp_log(SP_ERROR, "recovery_failed", o->id, "why=\"%s\"", sp_err_text(e));
		swept_end(o, false);	/* looked at again */
		return;
	}
	write_swept(o);
}

static void
on_sweep_again(evutil_socket_t fd, short what, void *arg)
{
	struct sp_broker *b = arg;

	(void)fd;
	(void)what;
	sp_session_recover_all(b);
}

static void
sweep_over(struct sweep *w)
{
	/* What fails again and again is looked at now and then. */
	struct sp_sessions *all = w->b->sessions;
	struct timeval tv = {.tv_sec = ++all->n_sweeps < 30 ? 2 : 60};

	all->is_recovering = false;
	if (all->recover_more && !w->b->stopping)
		sp_session_recover_all(w->b);
	else if (w->n_bad > 0 && !w->b->stopping)
		event_base_once(w->b->ev, -1, EV_TIMEOUT, on_sweep_again, w->b, &tv);
	else
		all->is_recovered = true;
	if (w->rows != NULL)
		sp_rows_free(w->rows);
	free(w);
}

static void
sweep_one(struct sweep *w, size_t row)
{
	struct swept *o = calloc(1, sizeof(*o));

	if (o == NULL || !sp_rows_uuid(w->rows, row, "id", o->id) ||
	    sp_session_find(w->b, o->id) != NULL) {
		free(o);	/* it is one of ours, and runs */
		return;
	}
	o->w = w;
	sp_vis(o->person, sizeof(o->person),
	    sp_span_str(sp_rows_get(w->rows, row, "person_name")));
	sp_vis(o->account, sizeof(o->account),
	    sp_span_str(sp_rows_get(w->rows, row, "account_name")));
	sp_vis(o->target, sizeof(o->target),
	    sp_span_str(sp_rows_get(w->rows, row, "target_name")));
	w->running++;
	if (recovery_begin(w->b, o->id, swept_recovered, o) == NULL) {
		w->running--;
		w->n_bad++;
		free(o);
	}
}

static void
sweep_more(struct sweep *w)
{
	while (w->running < AT_ONCE && w->next < sp_rows_n(w->rows))
		sweep_one(w, w->next++);
	if (w->running == 0 && w->next >= sp_rows_n(w->rows))
		sweep_over(w);
}

static void
got_unfinished(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sweep *w = arg;

	if (e != SP_OK) {
		w->n_bad++;
		sweep_over(w);
		return;
	}
	w->rows = sp_rows_ref(r);
	sweep_more(w);
}

void
sp_session_recover_all(struct sp_broker *b)
{
	const char *p[1] = {b->node};
	struct sweep *w;

	/* Each file has one recovery at a time. */
	b->sessions->recover_more = b->sessions->is_recovering;
	if (b->sessions->is_recovering || (w = calloc(1, sizeof(*w))) == NULL)
		return;
	b->sessions->is_recovering = true;
	w->b = b;
	sp_store_query(b->store, "SELECT id, person_name, account_name, "
	    "target_name FROM sessions WHERE node = $1 AND ended_us IS NULL "
	    "ORDER BY started_us LIMIT 1000", p, 1, got_unfinished, w);
}
