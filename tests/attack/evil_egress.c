/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A captured sallyport-egress: it knows how to do the real login, because it is
 * made of the real parts, and does what a test says over the unix socket
 * `evil.sock` beside the program, before, instead of or after it.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bastion/egress/egress.h"
#include "bastion/egress/tap.h"
#include "common/config.h"
#include "common/parent.h"
#include "tests/attack/puppet.h"

enum { OP_START = 16, OP_KEX, OP_LOGIN };
enum { SLOT_TCP, SLOT_REC, SLOT_BROKER, SLOT_VAULT, SLOT_AGENT };

static struct sp_config cfg;

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_config_diag diag;
	struct sp_msg_start_parent m;

	(void)ctx;
	sp_packet_close_fds(p);
	SP_TRY(sp_dec_start_parent(p->body, &m));
	SP_TRY(sp_config_parse(&cfg, m.config, &diag));
	SP_TRY(sp_tap_init());
	SP_TRY(sp_glass_init());
	return ssh_init() == SSH_OK ? sp_egress_warm() : SP_ERR_CRYPTO;
}

static int
control(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char exe[80] = "", *slash;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0 ||
	    (slash = strrchr(exe, '/')) == NULL)
		return -1;
	*slash = '\0';
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/evil.sock", exe);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 ? fd : -1;
}

static void
counted(struct puppet *t, struct sp_span s)
{
	uint32_t n = (uint32_t)s.n;

	puppet_put(t, &n, 4);
	puppet_put(t, s.p, s.n);
}

/* egr_start is taken by hand; then a key exchange, and what it gave. */
static int
do_kex(struct puppet *t, struct sp_egress *g)
{
	struct sp_span key, sig, id;
	struct sp_msg_egr_start m;
	struct sp_packet p;
	char account[65];
	int rc;

	if (sp_link_wait(&g->broker, &p, 10000) != SP_OK ||
	    p.type != SP_MSG_egr_start ||
	    sp_dec_egr_start(p.body, &m) != SP_OK ||
	    sp_span_cstr(m.account, account, sizeof(account)) != SP_OK)
		return 3;
	sp_tap_begin(g->tcp);
	if (sp_egress_session(&g->ssh, g->tcp, account, false) != SP_OK)
		return 3;
	while ((rc = ssh_connect(g->ssh)) == SSH_AGAIN) {
		struct pollfd pf = {.fd = g->tcp, .events = POLLIN};

		if (poll(&pf, 1, 10000) <= 0)
			return 1;
	}
	if (rc != SSH_OK || sp_tap_host_proof(&key, &sig) != SP_OK ||
	    sp_tap_session_id(&id) != SP_OK)
		return 3;
	counted(t, m.account);
	counted(t, sp_span_of(g->session, 16));
	counted(t, key);
	counted(t, sig);
	counted(t, id);
	return 0;
}

static int
special(struct puppet *t, uint8_t op, const uint8_t *d, size_t n)
{
	struct sp_egress *g = t->arg;

	(void)d;
	(void)n;
	switch (op) {
	case OP_START:
		counted(t, sp_span_of(g->session, 16));
		return 0;
	case OP_KEX:
		return do_kex(t, g);
	case OP_LOGIN:
		counted(t, sp_span_of(g->session, 16));
		return sp_egress_login(g) == SP_OK ? 0 : 3;
	default:
		return 3;
	}
}

static enum sp_err
take(struct sp_egress *g, struct sp_packet *p, struct puppet *t)
{
	struct sp_msg_spawn_egress m;

	SP_TRY(sp_dec_spawn_egress(p->body, &m));
	memcpy(g->session, m.session, 16);
	g->cfg = &cfg;
	g->tcp = p->fds[0];
	g->agent = p->fds[4];
	/* Copies: the real login closes what it is done with. */
	for (int i = 0; i < 5; i++)
		t->slot[i] = fcntl(p->fds[i], F_DUPFD_CLOEXEC, 0);
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
	struct puppet t;
	char level[64];

	(void)ctx;
	puppet_init(&t, control());
	if (t.control < 0 || p->type != SP_MSG_spawn_egress ||
	    take(&g, p, &t) != SP_OK)
		return 1;
	t.special = special;
	t.arg = &g;
	if (sp_sandbox_enter(sp_egress_syscalls, sp_egress_n_syscalls, level,
	    sizeof(level)) != SP_OK)
		return 1;
	return puppet_run(&t);
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_EGR,
	    .start = start, .child = child};

	sp_harden(NULL);
	sp_log_init("evil-egress", false);
	return sp_parent_main(&ops, NULL);
}
