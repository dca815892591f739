/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tmp.h"
#include "tests/unit/vault_proc.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vault/vaultd.h"

const char *vp_key_file;

static void
random_text(char *dst, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++)
		dst[i] = (char)('a' + randombytes_uniform(26));
	dst[n - 1] = '\0';
}

static const char *
program(void)
{
	static char path[4096];
	const char *top = getenv("top_builddir");

	snprintf(path, sizeof(path), "%s/sallyport-vault", top == NULL ? "." : top);
	return path;
}

static void
init(struct proc *p, bool demo)
{
	int in[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC), status;
	pid_t pid;

	cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (dup2(in[0], 0) < 0 || dup2(null, 1) < 0)
			_exit(126);
		execl(program(), "sallyport-vault", "init", p->vault,
		    demo ? "--demo" : (char *)NULL, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(null);
	if (!demo)	/* Argon2id takes its time */
		cr_assert_eq(write(in[1], p->passphrase, strlen(p->passphrase)),
		    (ssize_t)strlen(p->passphrase));
	close(in[1]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

static int
listen_control(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 4), 0);
	return fd;
}

/* In the forked child: what main.c does, without program and sandbox. */
static _Noreturn void
forked_vault(int sup_fd)
{
	static struct sp_vaultd v;
	struct sp_msg_hello hello = {.sandbox = sp_span_str("")};
	struct sp_msg_started started = {.sandbox = sp_span_str("none")};
	struct sp_packet k;

	if (sp_vaultd_init(&v) != SP_OK || sp_link_init(&v.sup, sup_fd,
	    SP_ROLE_VLT, SP_ROLE_SUP, SP_ST_NEW) != SP_OK)
		_exit(1);
	sp_ipc_table_hash(hello.table);
	if (sp_send_hello(&v.sup, 0, &hello, NULL) != SP_OK ||
	    sp_link_wait(&v.sup, &k, WAIT_MS) != SP_OK ||
	    k.type != SP_MSG_start_vault)
		_exit(1);
	v.listen_fd = k.fds[1];
	sp_fronts_key_file(v.fronts, k.fds[2]);
	sp_vaultd_load(&v, k.fds[0]);
	close(k.fds[0]);
	if (sp_send_started(&v.sup, 0, &started, NULL) != SP_OK)
		_exit(1);
	v.sup.state = SP_ST_READY;
	while (sp_vaultd_turn(&v, -1) == SP_OK)
		;
	sp_vaultd_fini(&v);
	_exit(0);
}

static void
launch(struct proc *p, bool fork_only)
{
	int l[2];

	OK(sp_link_pair(l));
	p->pid = fork();
	cr_assert_geq(p->pid, 0);
	if (p->pid == 0) {
		if (fork_only) {
			close(l[0]);
			forked_vault(l[1]);
		}
		if (dup2(l[1], 3) < 0)
			_exit(126);
		execl(program(), "sallyport-vault", (char *)NULL);
		_exit(127);
	}
	close(l[1]);
	OK(sp_link_init(&p->sup, l[0], SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_NEW));
}

void
vp_attach_broker(struct proc *p)
{
	struct sp_msg_peer_link m = {.role = SP_ROLE_BRK};
	int l[2];

	OK(sp_link_pair(l));
	OK(sp_send_peer_link(&p->sup, 0, &m, &l[1]));
	sp_link_fini(&p->brk);
	OK(sp_link_init(&p->brk, l[0], SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY));
}

void
vp_connect_control(struct proc *p)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", p->sock);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	sp_link_fini(&p->ctl);
	OK(sp_link_init(&p->ctl, fd, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY));
}

void
vp_begin(struct proc *p, bool demo, bool fork_only)
{
	struct sp_msg_start_vault start = {.config = sp_span_str("")};
	struct sp_msg_started started;
	struct sp_packet k;
	int fds[3];

	*p = (struct proc){.sup.fd = -1, .brk.fd = -1, .ctl.fd = -1};
	OK(sp_secret_init());
	launch(p, fork_only);	/* before any secret of this test exists */
	kit_host_make(&p->host, 3);
	tmp_name(p->dir, sizeof(p->dir), "sp-vproc");
	cr_assert_not_null(mkdtemp(p->dir));
	snprintf(p->vault, sizeof(p->vault), "%s/vault", p->dir);
	snprintf(p->sock, sizeof(p->sock), "%s/vault.sock", p->dir);
	random_text(p->passphrase, sizeof(p->passphrase));
	init(p, demo);
	fds[0] = open(p->vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[1] = listen_control(p->sock);
	fds[2] = open(vp_key_file == NULL ? "/dev/null" : vp_key_file,
	    O_RDONLY | O_CLOEXEC);
	OK(sp_link_wait(&p->sup, &k, WAIT_MS));
	cr_assert_eq(k.type, SP_MSG_hello);
	OK(sp_send_start_vault(&p->sup, 0, &start, fds));
	OK(sp_link_wait(&p->sup, &k, WAIT_MS));
	cr_assert_eq(k.type, SP_MSG_started);
	OK(sp_dec_started(k.body, &started));
	OK(sp_span_cstr(started.sandbox, p->level, sizeof(p->level)));
	p->sup.state = SP_ST_READY;
	vp_attach_broker(p);
	vp_connect_control(p);
}

static void
clean_up(struct proc *p)
{
	sp_link_fini(&p->sup);
	sp_link_fini(&p->brk);
	sp_link_fini(&p->ctl);
	kit_host_fini(&p->host);
	tmp_remove(p->dir);
}

void
vp_end(struct proc *p)
{
	struct sp_msg_stop m = {.graceful = 1};
	int status;

	OK(sp_send_stop(&p->sup, 0, &m, NULL));
	cr_assert_eq(waitpid(p->pid, &status, 0), p->pid);
	cr_assert_eq(status, 0, "the vault ended with 0x%x", (unsigned)status);
	clean_up(p);
}

void
vp_end_killed(struct proc *p)
{
	int status;

	cr_assert_eq(waitpid(p->pid, &status, 0), p->pid);
	cr_assert(WIFSIGNALED(status));
	clean_up(p);
}

struct sp_span
vp_reply(struct proc *p, uint16_t type)
{
	struct sp_msg_security_event ev;
	struct sp_packet k;

	for (;;) {
		OK(sp_link_wait(&p->brk, &k, WAIT_MS));
		if (k.type == SP_MSG_security_event) {
			OK(sp_dec_security_event(k.body, &ev));
			OK(sp_span_cstr(ev.what, p->what, sizeof(p->what)));
			p->n_events++;
		} else if (k.type == SP_MSG_v_lease_used) {
			p->n_used++;
		} else {
			cr_assert_eq(k.type, type, "got %s", sp_ipc_name(k.type));
			cr_assert_eq(k.corr, 9);
			return k.body;
		}
	}
}

struct sp_span
vp_control_reply(struct proc *p, uint16_t type)
{
	struct sp_packet k;

	OK(sp_link_wait(&p->ctl, &k, WAIT_MS));
	cr_assert_eq(k.type, type, "got %s", sp_ipc_name(k.type));
	return k.body;
}

enum sp_err
vp_unseal(struct proc *p, const char *passphrase)
{
	struct sp_msg_vc_unseal m = {.passphrase = sp_span_str(passphrase)};
	struct sp_msg_vc_done r;

	OK(sp_send_vc_unseal(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_done(vp_control_reply(p, SP_MSG_vc_done), &r));
	return (enum sp_err)r.err;
}

void
vp_seal(struct proc *p)
{
	struct sp_msg_vc_seal m;
	struct sp_msg_vc_done r;

	memset(&m, 0, sizeof(m));
	OK(sp_send_vc_seal(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_done(vp_control_reply(p, SP_MSG_vc_done), &r));
	cr_assert_eq(r.err, SP_OK);
}

struct sp_msg_v_status_r
vp_status(struct proc *p)
{
	struct sp_msg_v_status m;
	struct sp_msg_v_status_r r;

	memset(&m, 0, sizeof(m));
	OK(sp_send_v_status(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_status_r(vp_reply(p, SP_MSG_v_status_r), &r));
	return r;
}
