/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-recorder: the parent of all recorders. It warms the libraries up
 * once; a child takes its descriptors, enters the filter and lives one session.
 */
#include <linux/falloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/log.h"
#include "common/parent.h"
#include "common/sandbox.h"
#include "common/sealto.h"
#include "recorder/format.h"
#include "recorder/recover.h"
#include "recorder/relay.h"

/* Who opens what is recorded, from the supervisor: every child has it. */
static struct sp_sealto sealto;
static int64_t full_wait_us;

static enum sp_err
take_sealto(struct sp_span config)
{
	struct sp_config *c = calloc(1, sizeof(*c));
	struct sp_config_diag diag;
	char bad[256] = "";
	enum sp_err e;

	if (c == NULL)
		return SP_ERR_NOMEM;
	e = sp_config_parse(c, config, &diag);
	if (e == SP_OK)
		e = sp_sealto_parse(c, &sealto, bad, sizeof(bad));
	full_wait_us = (int64_t)c->recording_full_wait_s * 1000000;
	if (e != SP_OK)
		sp_log(SP_ERROR, "configuration", NULL, "error=\"%s\"", bad);
	free(c);
	return e;
}

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_msg_start_parent m;
	char when[SP_TIME_TEXT];

	(void)ctx;
	if (p->type != SP_MSG_start_parent)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_start_parent(p->body, &m));
	SP_TRY(take_sealto(m.config));
	/* The first use of calendar time reads the time zone from a file. */
	sp_time_text(when, sp_now_us(), true);
	SP_TRY(sp_sandbox_prepare(sp_recorder_syscalls, sp_recorder_n_syscalls));
	return sp_rec_warm_up();
}

static int
record(struct sp_packet *p)
{
	struct sp_msg_spawn_recorder m;
	static struct sp_relay r;	/* a child has one session */
	int status = 1, file = p->fds[0];

	if (sp_dec_spawn_recorder(p->body, &m) != SP_OK) {
		sp_packet_close_fds(p);
		return 1;
	}
	if (sp_relay_init(&r, p->fds[1], p->fds[2], p->fds[3]) == SP_OK) {
		memcpy(r.session, m.session, 16);
		r.sealto = &sealto;
		r.full_wait_us = full_wait_us;
		r.is_pinned = m.pinned == 1;
		memcpy(r.audit_key, m.audit_key, 32);
		memcpy(r.recording_key, m.recording_key, 32);
		status = sp_relay_run(&r, file);
	}
	sp_relay_fini(&r);
	sp_close_fds(&file, 1);
	return status;
}

static int
recover(struct sp_packet *p)
{
	struct sp_msg_spawn_recover m;
	int status, file = p->fds[0];

	if (sp_dec_spawn_recover(p->body, &m) != SP_OK) {
		sp_packet_close_fds(p);
		return 1;
	}
	status = sp_recover_run(file, p->fds[1], m.session);
	sp_close_fds(&file, 1);
	return status;
}

static int
child(void *ctx, struct sp_packet *p)
{
	char level[64] = "";

	(void)ctx;
	if (sp_sandbox_enter(sp_recorder_syscalls, sp_recorder_n_syscalls, level,
	    sizeof(level)) != SP_OK) {
		sp_log(SP_ERROR, "sandbox_failed", NULL, "type=%u", p->type);
		return 1;
	}
	if (p->type == SP_MSG_spawn_recorder && p->n_fds == 4)
		return record(p);
	if (p->type == SP_MSG_spawn_recover && p->n_fds == 2)
		return recover(p);
	return 1;
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_REC,
	    .start = start, .child = child};

	sp_harden(NULL);
	/* A file size limit is an error to report, not a reason to die. */
	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return 1;
	sp_log_init("sallyport-recorder", false);
	return sp_parent_main(&ops, NULL);
}
