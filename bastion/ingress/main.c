/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-ingress: the parent loads the host key and warms libssh; a child
 * per connection enters its sandbox before the first byte of the network.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#ifdef SP_SANITIZED
#include <sanitizer/lsan_interface.h>
#endif
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/ingress/front.h"
#include "common/nogss.h"
#include "common/parent.h"

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct sp_front *f = ctx;
	struct sp_msg_start_ingress m;
	enum sp_err e = SP_ERR_PROTO;
#ifndef SP_SANITIZED
	char landlock[64] = "";
#endif

	if (p->type == SP_MSG_start_ingress &&
	    (e = sp_dec_start_ingress(p->body, &m)) == SP_OK)
		e = sp_front_start(f, m.config, m.host_key);
	if (e == SP_OK)
		e = sp_sandbox_prepare(sp_front_syscalls, sp_front_n_syscalls);
	sp_packet_close_fds(p);
	/* Inherited by every child: from here on nobody opens a file. */
#ifndef SP_SANITIZED
	if (e == SP_OK)
		sp_landlock_restrict(NULL, 0, landlock, sizeof(landlock));
#endif
	return e;
}

static void
set_options(int tcp)
{
	const int on = 1, idle = 60, every = 15, count = 4;

	/* A socket that is none (tests use a pair) has no such options. */
	(void)!setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)!setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)!setsockopt(tcp, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)!setsockopt(tcp, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	(void)!setsockopt(tcp, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int
child(void *ctx, struct sp_packet *p)
{
	struct sp_front *f = ctx;
	struct sp_msg_spawn_ingress m;
	int status;

	if (p->type != SP_MSG_spawn_ingress ||
	    sp_dec_spawn_ingress(p->body, &m) != SP_OK)
		return 1;
	set_options(p->fds[0]);
	if (sp_sandbox_enter(sp_front_syscalls, sp_front_n_syscalls, f->sandbox,
	    sizeof(f->sandbox)) != SP_OK) {
		sp_log(SP_ERROR, "no_sandbox", NULL, "");
		return 1;
	}
	status = sp_conn_run(f, &m, p->fds[0], p->fds[1], p->fds[2]);
#ifdef SP_SANITIZED
	/* The parent's code leaves with _exit: nobody would count the leaks. */
	__lsan_do_leak_check();
#endif
	return status;
}

int
main(void)
{
	static struct sp_front f;
	static const struct sp_parent ops = {.role = SP_ROLE_ING,
	    .start = start, .child = child,
	    .without = sp_nogss_libraries};

	sp_harden(NULL);
	sp_log_init("ingress", false);
	return sp_parent_main(&ops, &f);
}
