/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/config.h"
#include "common/log.h"
#include "common/parent.h"
#include "vault/hostsig.h"
#include "vault/setup.h"
#include "vault/sshkey.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

/* Everything that OpenSSL would load from files, while files can be read. */
static enum sp_err
warm_up(void)
{
	SP_SECRET_AUTO seed = {0};
	char code[7];

	SP_TRY(sp_secret_random(&seed, SP_TOTP_SEED_BYTES));
	SP_TRY(sp_totp_code(&seed, 1, code));
	SP_TRY(sp_host_sig_warm());
	return sp_sshkey_warm();
}

/* Two descriptors a lease. */
static void
raise_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &rl) != 0)
			sp_log(SP_WARN, "rlimit", NULL, "%s", "what=nofile");
	}
}

static enum sp_err
take_start(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_config_diag diag;
	struct sp_msg_start_vault m;
	static struct sp_config cfg;	/* too large for a stack */
	enum sp_err e;

	if (p->type != SP_MSG_start_vault) {
		sp_packet_close_fds(p);
		return SP_ERR_PROTO;
	}
	e = sp_dec_start_vault(p->body, &m);
	if (e == SP_OK)
		e = sp_config_parse(&cfg, m.config, &diag);
	if (e == SP_OK) {
		sp_log_init("vault", cfg.debug != 0);
		v->listen_fd = p->fds[1];
		p->fds[1] = -1;
		sp_fronts_key_file(v->fronts, p->fds[2]);
		p->fds[2] = -1;
		sp_vaultd_load(v, p->fds[0]);
		sp_plays_demand(v->plays, &cfg);
		sp_loghead_load(&v->loghead, p->fds[0], cfg.log_origin,
		    cfg.node);
	}
	sp_packet_close_fds(p);
	return e;
}

static enum sp_err
confine(const struct sp_vaultd *v, char *level, size_t cap)
{
	char seccomp[64];

	snprintf(level, cap, "mlock=%s", sp_secret_is_locked() ? "ok" : "none");
#ifndef SP_SANITIZED	/* the leak check reads /proc at the end */
	sp_landlock_restrict(&v->dir_fd, v->dir_fd >= 0, level, cap);
#endif
	SP_TRY(sp_sandbox_enter(sp_vault_syscalls, sp_vault_n_syscalls, seccomp,
	    sizeof(seccomp)));
	snprintf(level + strlen(level), cap - strlen(level), " %s", seccomp);
	return SP_OK;
}

static int
serve(void)
{
	static struct sp_vaultd v;
	char level[128];
	struct sp_packet p;
	enum sp_err e;

	raise_nofile();
	if ((e = sp_vaultd_init(&v)) == SP_OK && (e = warm_up()) == SP_OK &&
	    (e = sp_role_hello(&v.sup, SP_ROLE_VLT, &p)) == SP_OK &&
	    (e = take_start(&v, &p)) == SP_OK &&
	    (e = confine(&v, level, sizeof(level))) == SP_OK &&
	    (e = sp_role_started(&v.sup, level)) == SP_OK) {
		sp_log(SP_INFO, "started", NULL, "sealed=%d sandbox=\"%s\"",
		    !v.root.is_open, level);
		while ((e = sp_vaultd_turn(&v, -1)) == SP_OK)
			;
	}
	if (e != SP_ERR_EOF)
		sp_log(SP_ERROR, "vault_ends", NULL, "error=\"%s\" fault=\"%s\"",
		    sp_err_text(e), v.sup.fault);
	sp_vaultd_fini(&v);
	return e == SP_ERR_EOF ? 0 : 1;
}

static int
usage(void)
{
	fprintf(stderr, "usage: sallyport-vault init DIR [--demo]\n"
	    "       sallyport-vault pubkeys DIR\n"
	    "(without arguments it is started by sallyportd)\n");
	return 2;
}

static bool
is(const char *a, const char *b)
{
	return sp_span_is(sp_span_str(a), b);
}

int
main(int argc, char **argv)
{
	sp_harden(NULL);
	sp_log_init("vault", false);
	if (argc == 1)
		return serve();
	if (argc == 3 && is(argv[1], "pubkeys"))
		return sp_setup_pubkeys(argv[2]);
	if (argc >= 3 && argc <= 4 && is(argv[1], "init") &&
	    (argc == 3 || is(argv[3], "--demo")))
		return sp_setup_init(argv[2], argc == 4);
	return usage();
}
