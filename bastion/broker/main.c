/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bastion/broker/control.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/login_int.h"
#include "bastion/broker/main.h"
#include "bastion/broker/krlpush.h"
#include "bastion/broker/retain.h"
#include "bastion/broker/rotate.h"
#include "bastion/broker/ship.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"
#include "common/parent.h"
#include "common/sandbox.h"

/* ----------------------------------------------------------------- the start */

static enum sp_err
take_start(struct sp_broker *b, const struct sp_packet *k, char *db, size_t cap)
{
	struct sp_msg_start_broker m;
	struct sp_config_diag diag = {.line = 0};

	if (k->type != SP_MSG_start_broker || k->n_fds != 3)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_start_broker(k->body, &m));
	SP_TRY(sp_span_cstr(m.db, db, cap));
	SP_TRY(sp_span_cstr(m.node, b->node, sizeof(b->node)));
	SP_TRY(sp_span_cstr(m.host_key, b->host_key, sizeof(b->host_key)));
	if (sp_config_parse(&b->cfg, m.config, &diag) != SP_OK) {
		sp_log(SP_ERROR, "config", NULL, "line=%u why=\"%s\"", diag.line,
		    sp_vis_str(diag.text));
		return SP_ERR_SYNTAX;
	}
	return b->node[0] == '\0' ? SP_ERR_INVAL : SP_OK;
}

static void
on_notary_event(void *arg, const struct sp_msg_security_event *m)
{
	sp_session_on_security_event(arg, "notary", m);
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
	    (b->ledger = sp_ledger_new(b)) == NULL ||
	    (b->store = sp_store_new(b, db)) == NULL ||
	    (b->approvals = sp_approvals_new(b)) == NULL ||
	    (b->sessions = sp_sessions_new(b)) == NULL ||
	    (b->rotations = sp_rotations_new(b)) == NULL ||
	    sp_krlpushes_new(b) == NULL || sp_shipping_new(b) == NULL ||
	    sp_retention_new(b) == NULL ||
	    (b->logins = sp_logins_new(b)) == NULL ||
	    sp_control_new(b, control) == NULL)
		return SP_ERR_NOMEM;
	sp_store_on_change(b->store, sp_broker_on_change, b);
	sp_vault_on_event(b->vault, sp_broker_on_vault_event, b);
	sp_ledger_on_event(b->ledger, on_notary_event, b);
	return SP_OK;
}

/* The supervisor's link, from the blocking form of the start to the loop. */
static enum sp_err
attach_supervisor(struct sp_broker *b, struct sp_link *first)
{
	int fd = fcntl(first->fd, F_DUPFD_CLOEXEC, 4);

	sp_link_fini(first);
	b->sup = fd < 0 ? NULL : sp_peer_new(b, fd, SP_ROLE_SUP, SP_ST_READY,
	    sp_broker_on_sup_packet, sp_broker_on_sup_end, b);
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
	b->heads_fd = k.fds[1];
	b->reserve_fd = k.fds[2];
	SP_TRY(make_rooms(b, db, k.fds[0]));
	SP_TRY(sp_broker_confine(level, sizeof(level)));
	SP_TRY(sp_role_started(&first, level));
	return attach_supervisor(b, &first);
}

/* Two or three descriptors a session: all that the system allows. */
static void
more_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) != 0)
		sp_log(SP_WARN, "file_limit", NULL, "errno=%d", errno);
}

int
main(void)
{
	static const char *const keep[] = {"TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", NULL};
	static struct sp_broker b;
	enum sp_err e;

	sp_harden(keep);
	sp_log_init("broker", false);
	more_files();
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
	sp_session_adopt(&b);
	event_base_dispatch(b.ev);
	return b.stopping ? 0 : 1;
}
