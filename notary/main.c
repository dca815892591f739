/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/parent.h"
#include "notary/notaryd.h"

/* What the disk has is judged before the sandbox says that we are up: a process
 * that may open nothing else does it. */
static enum sp_err
take_start(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_config_diag diag;
	struct sp_msg_start_notary m;
	enum sp_err e = SP_ERR_PROTO;

	if (p->type == SP_MSG_start_notary)
		e = sp_dec_start_notary(p->body, &m);
	if (e == SP_OK)
		e = sp_config_parse(&n->cfg, m.config, &diag);
	if (e != SP_OK) {
		sp_packet_close_fds(p);
		return e;
	}
	sp_log_init("notary", n->cfg.debug != 0);
	n->dir = p->fds[0];
	p->n_fds = 0;
	if (sp_notary_witnesses(n) != SP_OK) {
		sp_log(SP_ERROR, "log_witness", NULL, "error=\"not KEY COMMAND, "
		    "separated by ;\"");
		n->n_witnesses = 0;
	}
	return SP_OK;
}

static enum sp_err
confine(const struct sp_notary *n, char *level, size_t cap)
{
	char seccomp[64];

	level[0] = '\0';
#ifndef SP_SANITIZED
	sp_landlock_restrict(&n->dir, 1, level, cap);
#endif
	SP_TRY(sp_sandbox_enter(sp_notary_syscalls, sp_notary_n_syscalls, seccomp,
	    sizeof(seccomp)));
	snprintf(level + strlen(level), cap - strlen(level), "%s%s",
	    level[0] == '\0' ? "" : " ", seccomp);
	return SP_OK;
}

/* A log that is not ours is no reason to be away: whoever asks hears why. */
static void
open_store(struct sp_notary *n)
{
	enum sp_err e = sp_nstore_open(n->dir, &n->store, n->why, sizeof(n->why));

	n->state = e == SP_OK ? SP_LOG_WAITS : e == SP_ERR_CRYPTO ?
	    SP_LOG_ALTERED : SP_LOG_BROKEN;
	if (e == SP_OK)
		n->why[0] = '\0';
	sp_log(e == SP_OK ? SP_INFO : SP_ERROR, "log_opened", NULL,
	    "size=%llu why=\"%s\"", e == SP_OK ?
	    (unsigned long long)sp_nstore_size(n->store) : 0ULL,
	    sp_vis_str(n->why));
}

int
main(int argc, char **argv)
{
	static struct sp_notary n = {.dir = -1};
	char level[128];
	struct sp_packet p;
	enum sp_err e;

	(void)argv;
	sp_harden(NULL);
	sp_log_init("notary", false);
	n.sup.fd = n.brk.fd = n.vlt.fd = -1;
	if (argc != 1 || sodium_init() < 0) {
		fputs("sallyport-notary is started by sallyportd\n", stderr);
		return 2;
	}
	if ((e = sp_role_hello(&n.sup, SP_ROLE_NTY, &p)) == SP_OK &&
	    (e = take_start(&n, &p)) == SP_OK &&
	    (e = confine(&n, level, sizeof(level))) == SP_OK) {
		open_store(&n);
		e = sp_role_started(&n.sup, level);
	}
	if (e == SP_OK)
		e = sp_notary_loop(&n);
	if (e != SP_ERR_EOF)
		sp_log(SP_ERROR, "notary_ends", NULL, "error=\"%s\" fault=\"%s\"",
		    sp_err_text(e), n.sup.fault);
	sp_nstore_close(n.store);
	return e == SP_ERR_EOF ? 0 : 1;
}
