/* SPDX-License-Identifier: Apache-2.0 */
/* The key of a backup: by its passphrase, by the vault of the instance, or by a
 * vault that is started for this alone on the state that the file carries, and
 * unsealed as any other: whatever opens the bank's vault opens its backup. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/backup.h"
#include "common/parent.h"

/* SP_EXIT_OK, or what went wrong; `quiet` for a try. */
static int
ask_vault(const struct sp_cli *c, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY], enum sp_err *why)
{
	struct sp_msg_vc_backup_key m = {.wrapped = sp_span_of(h->wrapped,
	    h->n_wrapped)};
	struct sp_msg_vc_backup_key_r r = {.err = SP_ERR_PROTO};
	struct sp_packet p;
	struct sp_link l;

	*why = sp_cli_connect(c, "vault.sock", SP_ROLE_VLT, SP_ST_READY, &l);
	if (*why != SP_OK)
		return SP_EXIT_LATER;
	*why = sp_send_vc_backup_key(&l, 0, &m, NULL);
	if (*why == SP_OK)
		*why = sp_link_wait(&l, &p, 60000);
	if (*why == SP_OK)
		*why = p.type != SP_MSG_vc_backup_key_r ? SP_ERR_PROTO :
		    sp_dec_vc_backup_key_r(p.body, &r);
	if (*why == SP_OK)
		*why = (enum sp_err)r.err;
	if (*why == SP_OK && (r.key.n != SP_BK_KEY ||
	    r.wrapped.n > sizeof(h->wrapped)))
		*why = SP_ERR_PROTO;
	if (*why == SP_OK) {
		memcpy(key, r.key.p, SP_BK_KEY);
		if (h->n_wrapped == 0) {
			memcpy(h->wrapped, r.wrapped.p, r.wrapped.n);
			h->n_wrapped = r.wrapped.n;
		}
	}
	sp_link_fini(&l);
	return *why == SP_OK ? SP_EXIT_OK : SP_EXIT_LATER;
}

int
sp_bk_key_of_vault(const struct sp_cli *c, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY])
{
	enum sp_err why;

	if (ask_vault(c, h, key, &why) == SP_EXIT_OK)
		return SP_EXIT_OK;
	if (why == SP_ERR_SEALED)
		return sp_cli_fail(SP_EXIT_LATER, "the vault is sealed: sallyport "
		    "vault unseal");
	if (why == SP_ERR_NOTFOUND)
		return sp_cli_fail(SP_EXIT_LATER, "the vault of %s does not run: "
		    "sallyport -D %s start", c->dir, c->dir);
	return sp_cli_fail(SP_EXIT_REFUSED, "the vault gives no key: %s",
	    sp_err_text(why));
}

/* ---------------------------------------------------- a vault for this alone */

struct lone {
	struct sp_cli c;	/* its directory */
	struct sp_link link;	/* we are its supervisor */
	pid_t pid;
};

static int
listen_at(const char *dir)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || snprintf(a.sun_path, sizeof(a.sun_path), "%s/run/vault.sock",
	    dir) >= (int)sizeof(a.sun_path) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 4) != 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static _Noreturn void
become_vault(const char *exe, int link)
{
	char *argv[] = {(char *)(uintptr_t)exe, NULL}, *env[] = {NULL};
	struct sp_who w;

	if (sp_cli_user(SP_U_VAULT, &w) != SP_OK ||
	    dup2(link, SP_SUPERVISOR_FD) < 0 ||
	    (geteuid() == 0 && (setresgid(w.gid, w.gid, w.gid) != 0 ||
	    setresuid(w.uid, w.uid, w.uid) != 0)))
		_exit(126);
	execve(exe, argv, env);
	_exit(127);
}

/* Hello, start, started: what sallyportd does. */
static enum sp_err
greet(struct lone *v, int dirfd, int sock, int no_key)
{
	struct sp_packet p;
	struct sp_msg_hello m;
	uint8_t ours[32];

	SP_TRY(sp_link_wait(&v->link, &p, 60000));
	if (p.type != SP_MSG_hello || sp_dec_hello(p.body, &m) != SP_OK)
		return SP_ERR_PROTO;
	sp_ipc_table_hash(ours);
	if (memcmp(ours, m.table, sizeof(ours)) != 0)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_send_start_vault(&v->link, 0, &(struct sp_msg_start_vault){0},
	    (int[]){dirfd, sock, no_key}));
	SP_TRY(sp_link_wait(&v->link, &p, 60000));
	return p.type == SP_MSG_started ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
start_lone(struct lone *v)
{
	int pair[2], dirfd, sock, no_key;
	char exe[4096], path[4096];
	enum sp_err e = SP_ERR_IO;

	if (!sp_cli_find("sallyport-vault", exe))
		return SP_ERR_NOTFOUND;
	sp_cli_path(&v->c, path, "vault");
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sock = listen_at(v->c.dir);
	no_key = open("/dev/null", O_RDONLY | O_CLOEXEC); /* nobody comes in */
	if (dirfd < 0 || sock < 0 || no_key < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET |
	    SOCK_CLOEXEC, 0, pair) != 0)
		return SP_ERR_IO;
	v->pid = fork();
	if (v->pid == 0)
		become_vault(exe, pair[1]);
	close(pair[1]);
	if (v->pid > 0)
		e = sp_link_init(&v->link, pair[0], SP_ROLE_SUP, SP_ROLE_VLT,
		    SP_ST_NEW);
	/* All descriptors are the message's from here on. */
	return e == SP_OK ? greet(v, dirfd, sock, no_key) : e;
}

static enum sp_err
lone_files(struct lone *v, const struct sp_bk_ask *a, const struct sp_bk_header *h)
{
	char dir[] = "/tmp/sallyport-vault.XXXXXX", path[4096];
	SP_BUF_AUTO demo = {.max = 4096};
	struct sp_who w;

	SP_TRY(sp_cli_user(SP_U_VAULT, &w));
	if (mkdtemp(dir) == NULL || chmod(dir, 0711) != 0)
		return SP_ERR_IO;
	snprintf(v->c.dir, sizeof(v->c.dir), "%s", dir);
	for (size_t i = 0; i < 2; i++) {
		sp_cli_path(&v->c, path, i == 0 ? "run" : "vault");
		if (mkdir(path, 0700) != 0 || (i == 1 && geteuid() == 0 &&
		    chown(path, w.uid, w.gid) != 0))
			return SP_ERR_IO;
	}
	SP_TRY(sp_cli_write(&v->c, "vault/state", sp_buf_span(&h->state)));
	sp_cli_path(&v->c, path, "vault/state");
	if (geteuid() == 0 && chown(path, w.uid, w.gid) != 0)
		return SP_ERR_IO;
	if (a->demo_key == NULL)
		return SP_OK;
	SP_TRY(sp_cli_read(a->demo_key, &demo));
	SP_TRY(sp_cli_write(&v->c, "vault/DEMONSTRATION-ONLY.key",
	    sp_buf_span(&demo)));
	sp_cli_path(&v->c, path, "vault/DEMONSTRATION-ONLY.key");
	return geteuid() != 0 || chown(path, w.uid, w.gid) == 0 ? SP_OK : SP_ERR_IO;
}

static void
end_lone(struct lone *v)
{
	if (v->pid > 0) {
		sp_link_fini(&v->link);	/* it ends with its supervisor */
		(void)kill(v->pid, SIGTERM);
		while (waitpid(v->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (v->c.dir[0] != '\0') {
		sp_cli_clear(&v->c);
		(void)!rmdir(v->c.dir);
	}
}

static int
by_lone_vault(const struct sp_bk_ask *a, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY])
{
	static struct lone v;
	enum sp_err e = lone_files(&v, a, h);
	int rc = SP_EXIT_REFUSED;

	if (e == SP_OK)
		e = start_lone(&v);
	if (e != SP_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "no vault can be started on the "
		    "backup's state: %s", sp_err_text(e));
	else if (ask_vault(&v.c, h, key, &e) == SP_EXIT_OK)
		rc = SP_EXIT_OK;	/* it opened by itself: a demonstration's */
	else if (e != SP_ERR_SEALED)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "the key in this backup is not of "
		    "the vault that it carries: it was changed");
	else
		rc = a->shares ? sp_cli_ceremony(&v.c, 0) :
		    sp_cli_unseal(&v.c, a->credential);
	if (rc == SP_EXIT_OK && e == SP_ERR_SEALED &&
	    ask_vault(&v.c, h, key, &e) != SP_EXIT_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "the key in this backup is not of "
		    "the vault that it carries: it was changed");
	end_lone(&v);
	return rc;
}

/* -------------------------------------------------------------------- which way */

static int
by_passphrase(const struct sp_bk_ask *a, const struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY])
{
	SP_BUF_AUTO pass = {.max = 1024};
	enum sp_err e;

	if (!h->has_pass)
		return sp_cli_fail(SP_EXIT_USAGE, "this backup has no passphrase of "
		    "its own: leave --passphrase away, and a slot of its vault "
		    "opens it");
	e = a->pass_file != NULL ? sp_cli_read(a->pass_file, &pass) :
	    sp_cli_secret_line("Passphrase of the backup: ", &pass);
	while (e == SP_OK && a->pass_file != NULL && pass.len > 0 &&
	    sp_buf_span(&pass).p[pass.len - 1] == '\n')
		pass.len--;
	if (e == SP_OK)
		e = sp_bk_from_pass(h, sp_buf_span(&pass), key);
	if (e == SP_OK)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_REFUSED, e == SP_ERR_DENIED ? "wrong passphrase, "
	    "or the file was changed" : "the passphrase cannot be used: %s",
	    sp_err_text(e));
}

int
sp_bk_key(const struct sp_bk_ask *a, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY])
{
	enum sp_err why;

	if (a->by_pass || a->pass_file != NULL || h->n_wrapped == 0)
		return by_passphrase(a, h, key);
	if (a->c != NULL && a->demo_key == NULL && a->credential == NULL &&
	    !a->shares && ask_vault(a->c, h, key, &why) == SP_EXIT_OK)
		return SP_EXIT_OK;
	return by_lone_vault(a, h, key);
}
