/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdlib.h>
#include <string.h>

struct scan {
	struct scan *next;
	struct sp_broker *b;
	uint64_t id;
	bool is_spawned, legacy;
	struct sp_peer *peer;
	struct event *deadline;
	sp_scan_cb cb;
	void *arg;
};

static void
scan_end(struct scan *v, enum sp_err e, struct sp_span key, const char *text)
{
	struct scan **at = &v->b->sessions->scans;

	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	event_free(v->deadline);
	v->cb(v->arg, e, key, text);
	if (v->peer != NULL)
		sp_peer_drop(v->peer);
	free(v);
}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct scan *v = arg;
	struct sp_msg_egr_scanned m;

	(void)p;
	sp_packet_close_fds(k);
	if (k->type != SP_MSG_egr_scanned ||
	    sp_dec_egr_scanned(k->body, &m) != SP_OK)
		scan_end(v, SP_ERR_PROTO, (struct sp_span){0},
		    "the scanning process broke the protocol");
	else if (m.host_key.n == 0)
		scan_end(v, SP_ERR_IO, (struct sp_span){0},
		    "the target speaks no SSH that is understood here");
	else
		scan_end(v, SP_OK, m.host_key, "");
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct scan *v = arg;

	(void)p;
	(void)fault;
	v->peer = NULL;
	scan_end(v, SP_ERR_IO, (struct sp_span){0},
	    "the target gave no host key");
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	scan_end(arg, SP_ERR_TIMEOUT, (struct sp_span){0},
	    "the target did not answer in time");
}

void
sp_session_scan(struct sp_broker *b, const char *addr, uint16_t port,
    bool legacy, sp_scan_cb cb, void *arg)
{
	struct scan *v = calloc(1, sizeof(*v));
	struct sp_msg_scan_key m = {.addr = sp_span_str(addr), .port = port,
	    .deadline_ms = (uint32_t)b->cfg.dial_timeout_ms};
	struct timeval tv = {.tv_sec = (time_t)(b->cfg.dial_timeout_ms / 1000 + 2)};

	if (v == NULL || m.addr.n > 64 ||
	    (v->deadline = event_new(b->ev, -1, 0, on_deadline, v)) == NULL) {
		free(v);
		cb(arg, SP_ERR_INVAL, (struct sp_span){0}, "that is no address");
		return;
	}
	v->b = b;
	v->legacy = legacy;
	v->cb = cb;
	v->arg = arg;
	m.id = v->id = sp_flow_next_id(b);
	v->next = b->sessions->scans;
	b->sessions->scans = v;
	event_add(v->deadline, &tv);
	sp_peer_sent(b->sup, sp_send_scan_key(&b->sup->link, v->id, &m, NULL));
}

static struct scan *
scan_find(struct sp_broker *b, uint64_t id)
{
	for (struct scan *v = b->sessions->scans; v != NULL; v = v->next)
		if (v->id == id && !v->is_spawned)
			return v;
	return NULL;
}

void
sp_session_on_scan_spawned(struct sp_broker *b,
    const struct sp_msg_scan_spawned *m, int fd)
{
	struct scan *v = scan_find(b, m->id);
	struct sp_msg_egr_scan q = {
	    .legacy = v != NULL && v->legacy,
	    .deadline_ms = (uint32_t)b->cfg.dial_timeout_ms};

	if (v == NULL) {
		sp_close_fds(&fd, 1);
		return;
	}
	v->is_spawned = true;
	v->peer = sp_peer_new(b, fd, SP_ROLE_EGR, SP_ST_READY, on_packet, on_end, v);
	if (v->peer == NULL) {
		scan_end(v, SP_ERR_NOMEM, (struct sp_span){0}, "out of memory");
		return;
	}
	sp_peer_sent(v->peer, sp_send_egr_scan(&v->peer->link, 0, &q, NULL));
}

bool
scan_spawn_failed(struct sp_broker *b, uint64_t id, const char *text)
{
	struct scan *v = scan_find(b, id);

	if (v != NULL)
		scan_end(v, SP_ERR_IO, (struct sp_span){0}, text);
	return v != NULL;
}
