/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <string.h>

static enum sp_err
send_spawned(struct sp_link *l, const struct sp_kid *k)
{
	struct sp_msg_conn_new conn = {.conn = k->id,
	    .peer_addr = sp_span_str(k->peer_addr), .peer_port = k->peer_port,
	    .local_addr = sp_span_str(k->local_addr),
	    .local_port = k->local_port, .proxied = k->is_proxied};
	struct sp_msg_session_spawned rec = {0};
	struct sp_msg_recover_spawned rcv = {0};
	struct sp_msg_session_dialed egr = {
	    .local_addr = sp_span_str(k->local_addr)};
	struct sp_msg_scan_spawned scan = {.id = k->ref};
	struct sp_msg_play_spawned ply = {.play = k->ref};
	struct sp_msg_auth_spawned aut = {.login = k->ref};
	struct sp_msg_scribe_spawned scr = {0};
	const int *fds = k->wires.broker;

	memcpy(rec.session, k->session, sizeof(rec.session));
	memcpy(rcv.session, k->session, sizeof(rcv.session));
	memcpy(egr.session, k->session, sizeof(egr.session));
	memcpy(egr.leg, k->leg, sizeof(egr.leg));
	memcpy(scr.session, k->session, sizeof(scr.session));
	switch (k->kind) {
	case SP_KID_INGRESS:
		return sp_send_conn_new(l, 0, &conn, fds);
	case SP_KID_RECORDER:
		return sp_send_session_spawned(l, k->corr, &rec, fds);
	case SP_KID_RECOVER:
		return sp_send_recover_spawned(l, k->corr, &rcv, fds);
	case SP_KID_EGRESS:
	case SP_KID_SQL:
	case SP_KID_HOP:
		return sp_send_session_dialed(l, k->corr, &egr, fds);
	case SP_KID_SCAN:
		return sp_send_scan_spawned(l, k->corr, &scan, fds);
	case SP_KID_PLAYER:
	case SP_KID_SEARCH:
		return sp_send_play_spawned(l, k->corr, &ply, fds);
	case SP_KID_SCRIBE:
		return sp_send_scribe_spawned(l, 0, &scr, fds);
	case SP_KID_AUTH:
		return sp_send_auth_spawned(l, k->corr, &aut, fds);
	case SP_KID_COUNT:
		break;
	}
	SP_ASSERT(0);
}

/* Who asked may have died since: then its ends are closed already, and the
 * new process sees that by itself. */
void
sp_reply_spawned(struct sp_sup *s, struct sp_kid *k)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	enum sp_err e;

	if (b == NULL || k->wires.n_broker == 0) {
		sp_close_fds(k->wires.broker, k->wires.n_broker);
		k->wires.n_broker = 0;
		return;
	}
	e = send_spawned(&b->link, k);
	k->wires.n_broker = 0;
	k->is_known = e == SP_OK;
	sp_proc_sent(s, b, e);
}

void
sp_reply_failure(struct sp_sup *s, const struct sp_failure *f)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_spawn_failed m = {.id = f->id,
	    .err_no = (uint32_t)f->err_no, .text = sp_span_str(f->text)};

	sp_log(SP_WARN, "spawn_failed", f->session, "id=%llu errno=%d why=\"%s\"",
	    (unsigned long long)f->id, f->err_no, sp_vis_str(f->text));
	if (f->session != NULL)
		memcpy(m.session, f->session, sizeof(m.session));
	if (m.text.n > 256)
		m.text.n = 256;
	if (b != NULL)
		sp_proc_sent(s, b, sp_send_spawn_failed(&b->link, f->corr, &m,
		    NULL));
}

void
sp_reply_failed(struct sp_sup *s, const struct sp_kid *k, int err_no,
    const char *text)
{
	struct sp_failure f = {.corr = k->corr, .id = k->ref,
	    .session = k->session, .err_no = err_no, .text = text};

	/* Connections were not asked for; without ends there is no asker; a
	 * recorder that waits for a scribe in vain asks again. */
	if (k->kind != SP_KID_INGRESS && k->kind != SP_KID_SCRIBE &&
	    k->wires.n_broker > 0)
		sp_reply_failure(s, &f);
}
