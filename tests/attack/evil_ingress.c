/* SPDX-License-Identifier: Apache-2.0 */
/* A captured sallyport-ingress: who connects to the bastion says what it does. */
#include "bastion/ingress/front.h"
#include "common/parent.h"
#include "tests/attack/puppet.h"

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	char landlock[64] = "";

	(void)ctx;
	sp_packet_close_fds(p);
	sp_landlock_restrict(NULL, 0, landlock, sizeof(landlock));
	return SP_OK;
}

static int
child(void *ctx, struct sp_packet *p)
{
	char level[64];
	struct puppet t;

	(void)ctx;
	if (p->type != SP_MSG_spawn_ingress)
		return 1;
	puppet_init(&t, p->fds[0]);
	t.slot[2] = p->fds[1];
	t.slot[3] = p->fds[2];
	if (sp_sandbox_enter(sp_front_syscalls, sp_front_n_syscalls, level,
	    sizeof(level)) != SP_OK)
		return 1;
	return puppet_run(&t);
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_ING,
	    .start = start, .child = child};

	sp_harden(NULL);
	sp_log_init("evil-ingress", false);
	return sp_parent_main(&ops, NULL);
}
