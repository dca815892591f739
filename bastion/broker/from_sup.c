/* SPDX-License-Identifier: Apache-2.0 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/krlpush.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/login_int.h"
#include "bastion/broker/main.h"
#include "bastion/broker/retain.h"
#include "bastion/broker/ship.h"
#include "bastion/broker/search.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"

/* What the supervisor and the vault say by themselves, and the end. */

#define STOP_S 4	/* for sessions to end, before we leave anyway */

void
sp_broker_changed(struct sp_broker *b)
{
	sp_broker_policy_load(b);
	sp_session_judge_all(b);
	sp_logins_check(b);
	sp_approvals_poll(b);
	sp_menus_changed(b);
}

void
sp_broker_on_change(void *arg)
{
	sp_broker_changed(arg);
}

/* --------------------------------------------------------------- the vault */

void
sp_broker_on_vault_event(void *arg, struct sp_packet *p)
{
	struct sp_broker *b = arg;
	struct sp_msg_v_lease_used used;
	struct sp_msg_security_event ev;

	if (p->type == SP_MSG_v_lease_used &&
	    sp_dec_v_lease_used(p->body, &used) == SP_OK)
		sp_session_on_lease_used(b, &used);
	else if (p->type == SP_MSG_security_event &&
	    sp_dec_security_event(p->body, &ev) == SP_OK)
		sp_session_on_security_event(b, "vault", &ev);
	else
		sp_log(SP_WARN, "vault_event_unknown", NULL, "type=%u", p->type);
}

/* ---------------------------------------------------------------- the end */

struct stopping {
	struct sp_broker *b;
	int64_t until_us;
	struct event *tick;
	bool is_signing;
};

static void
signed_head(void *arg, enum sp_err e)
{
	struct stopping *s = arg;

	sp_log(SP_INFO, "stopped", NULL, "head=%s", e == SP_OK ? "signed" :
	    "unsigned");
	event_base_loopbreak(s->b->ev);
}

static void
wrote_stop(void *arg, enum sp_err e)
{
	struct stopping *s = arg;

	if (e != SP_OK)
		sp_log(SP_WARN, "stop_not_written", NULL, "why=\"%s\"", sp_err_text(e));
	sp_audit_sign(s->b->store, signed_head, s);
}

static void
on_stop_tick(evutil_socket_t fd, short what, void *arg)
{
	struct stopping *s = arg;
	bool late = sp_boot_us() >= s->until_us;

	(void)fd;
	(void)what;
	if (s->is_signing && late)
		event_base_loopbreak(s->b->ev);
	if (s->is_signing || (sp_session_count(s->b) > 0 && !late))
		return;
	s->is_signing = true;
	s->until_us = sp_boot_us() + 2000000;
	sp_audit(s->b->store, "broker_stop", s->b->node, NULL, NULL, wrote_stop, s);
}

static void
stop(struct sp_broker *b, bool graceful)
{
	static struct stopping s;
	struct timeval tv = {.tv_usec = 50000};

	if (b->stopping)
		return;
	b->stopping = true;
	if (!graceful) {
		event_base_loopbreak(b->ev);
		return;
	}
	s = (struct stopping){.b = b, .until_us = sp_boot_us() + STOP_S * 1000000LL};
	sp_session_end_where(b, NULL, NULL, NULL, SP_END_SHUTDOWN,
	    "The bastion is being stopped by its administrator.");
	s.tick = event_new(b->ev, -1, EV_PERSIST, on_stop_tick, &s);
	if (s.tick == NULL || event_add(s.tick, &tv) != 0)
		event_base_loopbreak(b->ev);
}

/* -------------------------------------------------------------- the supervisor */

static void
on_peer_link(struct sp_broker *b, const struct sp_msg_peer_link *m, int fd)
{
	if (m->role == SP_ROLE_VLT)
		sp_vault_attach(b->vault, fd);
	else if (m->role == SP_ROLE_NTY)
		sp_ledger_attach(b->ledger, fd);
	else
		sp_close_fds(&fd, 1);
}

/* What was decided with the old one stays decided. */
static void
reconfig(struct sp_broker *b, const struct sp_msg_reconfig *m)
{
	struct sp_config_diag diag;
	static struct sp_config fresh;	/* too large for a stack */

	/* The supervisor has parsed it: of another build, if that fails here. */
	if (sp_config_parse(&fresh, m->config, &diag) != SP_OK) {
		sp_log(SP_ERROR, "reconfig_refused", NULL, "line=%u text=\"%s\"",
		    diag.line, sp_vis_str(diag.text));
		return;
	}
	b->cfg = fresh;
	sp_krlpushes_reread(b);
	sp_retention_reread(b);
	sp_log_init("broker", fresh.debug != 0);
	sp_log(SP_INFO, "reconfigured", NULL, "");
}

static void
on_spawn_failed(struct sp_broker *b, const struct sp_msg_spawn_failed *m)
{
	char text[300];

	sp_vis(text, sizeof(text), m->text);
	sp_log(SP_WARN, "spawn_failed", m->session, "id=%llu errno=%u why=\"%s\"",
	    (unsigned long long)m->id, m->err_no, text);
	if (!sp_session_on_spawn_failed(b, m, text))
		sp_login_spawn_failed(b, m->id, text);
}

/* A supervisor that breaks the contract cannot be dropped: the broker ends,
 * and everything with it. */
#define TAKE(name, call)                                                      \
	case SP_MSG_##name: {                                                 \
		struct sp_msg_##name m;                                       \
                                                                              \
		if (sp_dec_##name(k->body, &m) != SP_OK) {                    \
			sp_packet_close_fds(k);                               \
			event_base_loopbreak(b->ev);                          \
		} else {                                                      \
			call;                                                 \
		}                                                             \
		break;                                                        \
	}

void
sp_broker_on_sup_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_broker *b = arg;

	(void)p;
	switch (k->type) {
	TAKE(peer_link, on_peer_link(b, &m, k->fds[0]))
	TAKE(conn_new, sp_login_conn_new(b, &m, k->fds[0]))
	TAKE(conn_end, sp_login_conn_end(b, &m))
	TAKE(auth_spawned, sp_login_auth_spawned(b, m.login, k->fds[0]))
	TAKE(session_spawned, sp_session_on_spawned(b, &m, k->fds))
	TAKE(scribe_spawned, sp_session_on_scribe(b, &m, k->fds[0]))
	TAKE(session_dialed, sp_session_on_dialed(b, &m, k->fds[0]))
	TAKE(session_child_end, sp_session_on_child_end(b, &m))
	TAKE(open_file, sp_session_on_open_file(b, &m))
	TAKE(recover_spawned, sp_session_on_recover_spawned(b, &m, k->fds[0]))
	TAKE(play_spawned, sp_session_on_play_spawned(b, &m, k->fds))
	TAKE(search_opened, sp_search_on_opened(b, &m, k->fds))
	TAKE(scan_spawned, sp_session_on_scan_spawned(b, &m, k->fds[0]))
	TAKE(ship_result, sp_ship_on_result(b, &m))
	TAKE(spawn_failed, on_spawn_failed(b, &m))
	TAKE(security_event, sp_session_on_security_event(b, "supervisor", &m))
	TAKE(reconfig, reconfig(b, &m))
	TAKE(stop, stop(b, m.graceful != 0))
	default:
		sp_packet_close_fds(k);
		sp_log(SP_ERROR, "supervisor_protocol", NULL, "type=%s",
		    sp_ipc_name(k->type));
	}
}

void
sp_broker_on_sup_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_broker *b = arg;

	(void)p;
	sp_log(SP_ERROR, "supervisor_gone", NULL, "fault=\"%s\"", sp_vis_str(fault));
	b->sup = NULL;
	event_base_loopbreak(b->ev);
}
