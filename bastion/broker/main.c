/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/broker/control.h"
#include "bastion/broker/login_int.h"
#include "bastion/broker/main.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"
#include "common/parent.h"
#include "common/sandbox.h"

#define STOP_S 4	/* for sessions to end, before we leave anyway */

void
sp_broker_changed(struct sp_broker *b)
{
	sp_broker_policy_load(b);
	sp_session_judge_all(b);
	sp_logins_check(b);
	sp_approvals_poll(b);
}

static void
on_change(void *arg)
{
	sp_broker_changed(arg);
}

/* --------------------------------------------------------------- the vault */

static void
on_vault_event(void *arg, struct sp_packet *p)
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
	else
		sp_close_fds(&fd, 1);
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

static void
on_sup_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_broker *b = arg;

	(void)p;
	switch (k->type) {
	TAKE(peer_link, on_peer_link(b, &m, k->fds[0]))
	TAKE(conn_new, sp_login_conn_new(b, &m, k->fds[0]))
	TAKE(conn_end, sp_login_conn_end(b, &m))
	TAKE(auth_spawned, sp_login_auth_spawned(b, m.login, k->fds[0]))
	TAKE(session_spawned, sp_session_on_spawned(b, &m, k->fds))
	TAKE(session_dialed, sp_session_on_dialed(b, &m, k->fds[0]))
	TAKE(session_child_end, sp_session_on_child_end(b, &m))
	TAKE(recover_spawned, sp_session_on_recover_spawned(b, &m, k->fds[0]))
	TAKE(play_spawned, sp_session_on_play_spawned(b, &m, k->fds))
	TAKE(scan_spawned, sp_session_on_scan_spawned(b, &m, k->fds[0]))
	TAKE(spawn_failed, on_spawn_failed(b, &m))
	TAKE(security_event, sp_session_on_security_event(b, "supervisor", &m))
	TAKE(stop, stop(b, m.graceful != 0))
	default:
		sp_packet_close_fds(k);
		sp_log(SP_ERROR, "supervisor_protocol", NULL, "type=%s",
		    sp_ipc_name(k->type));
	}
}

static void
on_sup_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_broker *b = arg;

	(void)p;
	sp_log(SP_ERROR, "supervisor_gone", NULL, "fault=\"%s\"", sp_vis_str(fault));
	b->sup = NULL;
	event_base_loopbreak(b->ev);
}

/* ----------------------------------------------------------------- the start */

static void
on_recover_time(evutil_socket_t fd, short what, void *arg)
{
	struct sp_broker *b = arg;
	struct timeval again = {.tv_usec = 200000};

	(void)fd;
	(void)what;
	/* The seal of a recovered recording needs the vault. */
	if (sp_store_is_up(b->store) && sp_vault_is_open(b->vault))
		sp_session_recover_all(b);
	else
		event_base_once(b->ev, -1, EV_TIMEOUT, on_recover_time, b, &again);
}

static enum sp_err
take_start(struct sp_broker *b, const struct sp_packet *k, char *db, size_t cap)
{
	struct sp_msg_start_broker m;
	struct sp_config_diag diag = {.line = 0};

	if (k->type != SP_MSG_start_broker || k->n_fds != 1)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_start_broker(k->body, &m));
	SP_TRY(sp_span_cstr(m.db, db, cap));
	SP_TRY(sp_span_cstr(m.node, b->node, sizeof(b->node)));
	if (sp_config_parse(&b->cfg, m.config, &diag) != SP_OK) {
		sp_log(SP_ERROR, "config", NULL, "line=%u why=\"%s\"", diag.line,
		    sp_vis_str(diag.text));
		return SP_ERR_SYNTAX;
	}
	return b->node[0] == '\0' ? SP_ERR_INVAL : SP_OK;
}

static enum sp_err
make_rooms(struct sp_broker *b, const char *db, int control)
{
	struct event_config *cfg = event_config_new();

	if (cfg != NULL)
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	b->ev = cfg == NULL ? NULL : event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (b->ev == NULL || (b->vault = sp_vault_new(b)) == NULL ||
	    (b->store = sp_store_new(b, db)) == NULL ||
	    (b->approvals = sp_approvals_new(b)) == NULL ||
	    (b->sessions = sp_sessions_new(b)) == NULL ||
	    (b->logins = sp_logins_new(b)) == NULL ||
	    sp_control_new(b, control) == NULL)
		return SP_ERR_NOMEM;
	sp_store_on_change(b->store, on_change, b);
	sp_vault_on_event(b->vault, on_vault_event, b);
	return SP_OK;
}

/* The supervisor's link, from the blocking form of the start to the loop. */
static enum sp_err
attach_supervisor(struct sp_broker *b, struct sp_link *first)
{
	int fd = fcntl(first->fd, F_DUPFD_CLOEXEC, 4);

	sp_link_fini(first);
	b->sup = fd < 0 ? NULL : sp_peer_new(b, fd, SP_ROLE_SUP, SP_ST_READY,
	    on_sup_packet, on_sup_end, b);
	return b->sup == NULL ? SP_ERR_IO : SP_OK;
}

static enum sp_err
begin(struct sp_broker *b)
{
	struct sp_link first;
	struct sp_packet k;
	char db[1025], level[160] = "";
	enum sp_err e = sp_role_hello(&first, SP_ROLE_BRK, &k);

	if (e == SP_OK)
		e = take_start(b, &k, db, sizeof(db));
	if (e != SP_OK)
		return e;
	sp_log_init("broker", b->cfg.debug != 0);
	SP_TRY(make_rooms(b, db, k.fds[0]));
	SP_TRY(sp_broker_confine(level, sizeof(level)));
	SP_TRY(sp_role_started(&first, level));
	return attach_supervisor(b, &first);
}

int
main(void)
{
	static const char *const keep[] = {"TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", NULL};
	static struct sp_broker b;
	struct timeval now = {0};
	enum sp_err e;

	sp_harden(keep);
	sp_log_init("broker", false);
	sp_broker_environment();
	if (sodium_init() < 0)
		return 1;
	e = begin(&b);
	if (e != SP_OK) {
		sp_log(SP_ERROR, "start", NULL, "why=\"%s\"", sp_err_text(e));
		return 1;
	}
	sp_audit(b.store, "broker_start", b.node, NULL, NULL, NULL, NULL);
	sp_broker_policy_load(&b);
	event_base_once(b.ev, -1, EV_TIMEOUT, on_recover_time, &b, &now);
	event_base_dispatch(b.ev);
	return b.stopping ? 0 : 1;
}
