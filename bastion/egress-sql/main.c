/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bastion/egress-sql/sqleg.h"
#include "common/parent.h"

#define START_WAIT_MS 60000	/* a role may be made meanwhile */

static struct sp_config cfg;

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_msg_start_parent m;
	struct sp_config_diag diag;

	(void)ctx;
	SP_TRY(sp_dec_start_parent(p->body, &m));
	SP_TRY(sp_config_parse(&cfg, m.config, &diag));
	sp_log_init("egress-sql", cfg.debug != 0);
	SP_TRY(sp_sandbox_prepare(sp_sql_syscalls, sp_sql_n_syscalls));
	return sp_tls_init();
}

static enum sp_err
take(struct sp_sqleg *g, struct sp_packet *p)
{
	struct sp_msg_spawn_egress m;
	int fl;

	SP_TRY(sp_dec_spawn_egress(p->body, &m));
	memcpy(g->session, m.session, 16);
	g->tcp = p->fds[0];
	sp_close_fds(&p->fds[4], 1);	/* no ssh-agent is asked here */
	g->cfg = &cfg;
	sp_buf_init(&g->pins, 2048);
	sp_buf_init(&g->far, SP_SQL_FAR_MAX);
	if ((fl = fcntl(g->tcp, F_GETFL)) < 0 ||
	    fcntl(g->tcp, F_SETFL, fl | O_NONBLOCK) != 0)
		return SP_ERR_IO;
	SP_TRY(sp_stream_init(&g->rec, p->fds[1], true));
	SP_TRY(sp_link_init(&g->broker, p->fds[2], SP_ROLE_EGR, SP_ROLE_BRK,
	    SP_ST_NEW));
	return sp_link_init(&g->vault, p->fds[3], SP_ROLE_EGR, SP_ROLE_VLT,
	    SP_ST_READY);
}

static enum sp_err
hear_start(struct sp_sqleg *g)
{
	struct sp_msg_sql_start m;
	struct sp_packet p;

	SP_TRY(sp_link_wait(&g->broker, &p, START_WAIT_MS));
	sp_packet_close_fds(&p);
	if (p.type != SP_MSG_sql_start)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_sql_start(p.body, &m));
	if (!sp_name_is_valid(m.user) || memcmp(m.session, g->session, 16) != 0 ||
	    (m.protocol != SP_PROTO_POSTGRESQL && m.protocol != SP_PROTO_MARIADB))
		return SP_ERR_PROTO;
	g->protocol = m.protocol;
	g->may_be_unbound = m.unbound == 1;
	g->deadline_ms = m.deadline_ms;
	SP_TRY(sp_span_cstr(m.user, g->user, sizeof(g->user)));
	SP_TRY(sp_span_cstr(m.databases, g->databases, sizeof(g->databases)));
	SP_TRY(sp_buf_put(&g->pins, m.pins.p, m.pins.n));
	g->broker.state = SP_ST_READY;
	return SP_OK;
}

static enum sp_err
say_ready(struct sp_sqleg *g)
{
	struct sp_msg_egr_ready m = {.old = 0, .algorithms = sp_span_str(
	    g->ssl == NULL ? "" : SSL_get_version(g->ssl))};

	memcpy(m.session, g->session, 16);
	SP_TRY(sp_send_egr_ready(&g->broker, 0, &m, NULL));
	g->broker.state = SP_ST_LIVE;
	return SP_OK;
}

/* Up to a server that waits for a login, and is the pinned one. */
static enum sp_err
reach(struct sp_sqleg *g)
{
	int64_t deadline = sp_boot_us() + (int64_t)g->deadline_ms * 1000;
	enum sp_err e;

	if (g->protocol == SP_PROTO_MARIADB)
		e = sp_my_reach(g, deadline);
	else if ((e = sp_pg_reach(g, deadline)) == SP_OK) {
		e = sp_tls_show_vault(g);
		if (e == SP_ERR_DENIED)
			sp_sql_failed(g, SP_EGR_HOSTKEY, "the server's certificate is "
			    "not the pinned one; no credential was used");
		else if (e != SP_OK)
			sp_sql_failed(g, SP_EGR_VAULT, "the vault did not accept the "
			    "server");
		return e;
	}
	if (e == SP_ERR_UNSUPPORTED)
		sp_sql_failed(g, SP_EGR_TRANSPORT, "the server speaks no TLS: without "
		    "it nobody can tell which server it is");
	else if (e != SP_OK)
		sp_sql_failed(g, e == SP_ERR_TIMEOUT ? SP_EGR_TIMEOUT :
		    SP_EGR_TRANSPORT, "no TLS connection with the server");
	return e;
}

static int
child(void *ctx, struct sp_packet *p)
{
	static struct sp_sqleg g;
	char level[64];
	enum sp_err e;

	(void)ctx;
	if (take(&g, p) != SP_OK || sp_sandbox_enter(sp_sql_syscalls,
	    sp_sql_n_syscalls, level, sizeof(level)) != SP_OK)
		return 1;
	e = hear_start(&g);
	if (e == SP_ERR_EOF)
		return 0;
	if (e != SP_OK)
		return 3;
	if (reach(&g) != SP_OK || say_ready(&g) != SP_OK)
		return 2;
	e = g.protocol == SP_PROTO_MARIADB ? sp_my_serve(&g) : sp_pg_serve(&g);
	sp_link_fini(&g.vault);	/* one login; nothing more to ask */
	if (e == SP_OK)
		return sp_sql_relay(&g);
	sp_far_close(&g);
	sp_user_close(&g);
	return 0;
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_EGR,
	    .start = start, .child = child};

	sp_harden(NULL);
	sp_log_init("egress-sql", false);
	return sp_parent_main(&ops, NULL);
}
