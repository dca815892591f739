/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "bastion/egress/egress.h"
#include "bastion/egress/rotate.h"
#include "bastion/egress/tap.h"
#include "common/config.h"
#include "common/nogss.h"
#include "common/parent.h"

static struct sp_config cfg;

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_msg_start_parent m;
	struct sp_config_diag diag;

	(void)ctx;
	SP_TRY(sp_dec_start_parent(p->body, &m));
	SP_TRY(sp_config_parse(&cfg, m.config, &diag));
	sp_log_init("egress", cfg.debug != 0);
	SP_TRY(sp_tap_init());
	SP_TRY(sp_glass_init());
	SP_TRY(sp_sandbox_prepare(sp_egress_syscalls, sp_egress_n_syscalls));
	if (ssh_init() != SSH_OK)
		return SP_ERR_CRYPTO;
	return sp_egress_warm();
}

static enum sp_err
take(struct sp_egress *g, struct sp_packet *p)
{
	struct sp_msg_spawn_egress m;

	SP_TRY(sp_dec_spawn_egress(p->body, &m));
	memcpy(g->session, m.session, 16);
	g->tcp = p->fds[0];
	g->agent = p->fds[4];
	g->cfg = &cfg;
	SP_TRY(sp_stream_init(&g->rec, p->fds[1], true));
	SP_TRY(sp_link_init(&g->broker, p->fds[2], SP_ROLE_EGR, SP_ROLE_BRK,
	    SP_ST_NEW));
	return sp_link_init(&g->vault, p->fds[3], SP_ROLE_EGR, SP_ROLE_VLT,
	    SP_ST_READY);
}

static int
child(void *ctx, struct sp_packet *p)
{
	static struct sp_egress g;
	char level[64];
	enum sp_err e;

	(void)ctx;
	if (take(&g, p) != SP_OK ||
	    sp_sandbox_enter(sp_egress_syscalls, sp_egress_n_syscalls, level,
	    sizeof(level)) != SP_OK)
		return 1;
	e = sp_egress_login(&g);
	if (e == SP_ERR_EOF)
		return 0;
	if (e != SP_OK)
		return e == SP_ERR_PROTO ? 3 : 2;
	if (g.rotates)
		return sp_rotate_relay(&g);
	return g.is_hop ? sp_hop_relay(&g) : sp_egress_relay(&g);
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_EGR,
	    .start = start, .child = child,
	    .without = sp_nogss_libraries};

	sp_harden(NULL);
	sp_log_init("egress", false);
	return sp_parent_main(&ops, NULL);
}
