/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/backup.h"

#define START_S 30
#define STOP_S 40

pid_t
sp_cli_daemon(const struct sp_cli *c, int *pidfd)
{
	SP_BUF_AUTO b = {.max = 64};
	char path[4096], text[64], comm[64] = "";
	uint64_t pid = 0;
	int fd, p;

	sp_cli_path(c, path, "run/sallyportd.pid");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0;
	/* It holds a lock on its pid file while it lives. */
	if (flock(fd, LOCK_SH | LOCK_NB) == 0 || sp_cli_read_fd(fd, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), text, sizeof(text)) != SP_OK) {
		close(fd);
		return 0;
	}
	close(fd);
	text[strcspn(text, "\r\n")] = '\0';
	if (sp_u64_parse(sp_span_str(text), 1 << 22, &pid) != SP_OK || pid < 2)
		return 0;
	p = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	snprintf(path, sizeof(path), "/proc/%u/comm", (unsigned)pid);
	sp_buf_reset(&b);
	if (p >= 0 && sp_cli_read(path, &b) == SP_OK)
		(void)!sp_span_cstr(sp_buf_span(&b), comm, sizeof(comm));
	if (p < 0 || strcmp(comm, "sallyportd\n") != 0) {
		if (p >= 0)
			close(p);
		return 0;
	}
	if (pidfd != NULL)
		*pidfd = p;
	else
		close(p);
	return (pid_t)pid;
}

/* ------------------------------------------------------------------- start */

/* What the broker says of itself, or NULL while it does not answer. */
static json_object *
ask_status(const struct sp_cli *c)
{
	SP_BUF_AUTO out = {.max = 65536};
	char *argv[] = {(char[]){"status"}, (char[]){"--json"}, NULL};
	struct sp_link l;

	/* Quietly first: it may not be there yet. */
	if (sp_cli_connect(c, "control.sock", SP_ROLE_BRK, SP_ST_READY, &l) != SP_OK)
		return NULL;
	sp_link_fini(&l);
	if (sp_cli_verb(c, 2, argv, -1, &out) != 0 ||
	    sp_buf_put_u8(&out, 0) != SP_OK)
		return NULL;
	return json_tokener_parse((const char *)sp_buf_span(&out).p);
}

static const char *
field(json_object *o, const char *key)
{
	json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && v != NULL ?
	    json_object_get_string(v) : "";
}

/* The policy of DIR/policy, if none has ever been loaded. */
static void
first_policy(const struct sp_cli *c, json_object *status)
{
	SP_BUF_AUTO out = {.max = 65536};
	char path[4096];
	char *argv[] = {(char[]){"policy"}, (char[]){"load"},
	    (char[]){"--quiet"}, (char[]){"--first"}, NULL};
	int fd, rc;

	if (strncmp(field(status, "policy_hash"), "none", 4) != 0 ||
	    strcmp(field(status, "vault"), "open") != 0 ||
	    strcmp(field(status, "database"), "ok") != 0)
		return;
	sp_cli_path(c, path, "policy");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	/* "none" may only mean that the broker has not read it yet: the broker
	 * decides by the table, and says "kept". */
	rc = sp_cli_verb(c, 4, argv, fd, &out);
	if (rc == 0 && sp_span_is(sp_buf_span(&out), "kept\n"))
		;
	else if (rc == 0)
		sp_cli_step("  policy loaded from %s", path);
	else
		sp_cli_step("  the policy in %s was not loaded: everything is "
		    "denied until sallyport policy load FILE", path);
	close(fd);
}

void
sp_cli_unsealed(const struct sp_cli *c)
{
	int64_t until = sp_boot_us() + 5000000;
	json_object *o = NULL;

	/* The broker notices within two seconds. */
	while (sp_boot_us() < until) {
		const struct timespec nap = {.tv_nsec = 50000000};

		o = ask_status(c);
		if (o != NULL && strcmp(field(o, "vault"), "open") == 0)
			first_policy(c, o);
		if (o == NULL || strcmp(field(o, "vault"), "open") == 0)
			break;
		json_object_put(o);
		o = NULL;
		(void)nanosleep(&nap, NULL);
	}
	json_object_put(o);
}

/* Until the broker and its database answer; the vault may be sealed. */
static int
wait_ready(const struct sp_cli *c)
{
	int64_t until = sp_boot_us() + START_S * 1000000LL;
	json_object *o = NULL;
	bool up = false;

	while (!up && sp_boot_us() < until) {
		const struct timespec nap = {.tv_nsec = 50000000};

		if (o != NULL)
			json_object_put(o);
		o = ask_status(c);
		up = o != NULL && strcmp(field(o, "database"), "ok") == 0 &&
		    strcmp(field(o, "vault"), "away") != 0;
		if (!up && sp_cli_daemon(c, NULL) == 0)
			break;
		if (!up)
			(void)nanosleep(&nap, NULL);
	}
	if (o == NULL)
		return sp_cli_fail(SP_EXIT_REFUSED, "it did not come up; "
		    "%s/log/sallyport.log says why", c->dir);
	if (!up)
		sp_cli_step("  the broker answers, but its database is %s and its "
		    "vault is %s: sallyport -D %s doctor", field(o, "database"),
		    field(o, "vault"), c->dir);
	first_policy(c, o);
	if (strcmp(field(o, "vault"), "sealed") == 0)
		sp_cli_step("  the vault is sealed, nobody can log in yet: "
		    "sallyport -D %s vault unseal", c->dir);
	json_object_put(o);
	return up ? SP_EXIT_OK : SP_EXIT_LATER;
}

/* The sockets of systemd (sd_listen_fds(3)) are sallyportd's alone. */
static void
sockets_pass(bool pass)
{
	const char *fds = getenv("LISTEN_FDS");
	uint64_t n = 0;

	if (fds == NULL || sp_u64_parse(sp_span_str(fds), 1024, &n) != SP_OK)
		return;
	for (uint64_t i = 0; i < n; i++)
		(void)fcntl(3 + (int)i, F_SETFD, pass ? 0 : FD_CLOEXEC);
}

/* In the place of this process: for systemd and containers. */
static int
become_daemon(char *exe, char *dir)
{
	char *const argv[] = {exe, dir, (char[]){"--foreground"}, NULL};

	sockets_pass(true);
	execv(exe, argv);
	return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", exe, strerror(errno));
}

int
sp_cmd_start(struct sp_cli *c, int argc, char **argv)
{
	char exe[4096];
	const char *const run[] = {exe, c->dir, NULL};
	bool foreground = argc == 2 && strcmp(argv[1], "--foreground") == 0;
	static struct sp_config cfg;
	int rc;

	if (argc > 1 + c->json + foreground)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport [-D DIR] start"
		    " [--foreground]");
	sockets_pass(false);
	if (sp_cli_config(c, &cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	if (sp_cli_daemon(c, NULL) != 0) {
		sp_cli_step("%s runs already.", c->dir);
		return wait_ready(c);
	}
	if (!sp_cli_find("sallyportd", exe))
		return SP_EXIT_REFUSED;
	if (strcmp(cfg.database, "embedded") == 0) {
		sp_cli_step("  database");
		if (sp_pg_start(c) != SP_OK || sp_pg_migrate(c, NULL) != SP_OK)
			return SP_EXIT_REFUSED;
	}
	if (foreground)
		return become_daemon(exe, c->dir);
	sp_cli_step("  sallyportd");
	if (sp_cli_run(&(struct sp_run){.argv = run}) != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "sallyportd did not start; "
		    "%s/log/sallyport.log says more", c->dir);
	rc = wait_ready(c);
	if (rc == SP_EXIT_OK)
		sp_cli_restored(c);
	if (rc == SP_EXIT_OK)
		sp_cli_step("%s runs and listens on %s.", c->dir, cfg.listen);
	return rc;
}

/* -------------------------------------------------------------------- stop */

static int
stop_daemon(const struct sp_cli *c)
{
	struct pollfd pf = {.fd = -1, .events = POLLIN};
	pid_t pid = sp_cli_daemon(c, &pf.fd);
	int rc = SP_EXIT_OK;

	if (pid == 0) {
		sp_cli_step("  sallyportd was not running");
		return SP_EXIT_OK;
	}
	if (syscall(SYS_pidfd_send_signal, pf.fd, SIGTERM, NULL, 0) != 0)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "process %d: %s", (int)pid,
		    strerror(errno));
	else if (poll(&pf, 1, STOP_S * 1000) <= 0)
		rc = sp_cli_fail(SP_EXIT_LATER, "process %d does not end; sessions "
		    "may still be closing their records. Look at %s/log/"
		    "sallyport.log and try again", (int)pid, c->dir);
	else
		sp_cli_step("  sallyportd ended");
	close(pf.fd);
	return rc;
}

int
sp_cmd_stop(struct sp_cli *c, int argc, char **argv)
{
	static struct sp_config cfg;
	int rc;

	(void)argv;
	if (argc > 1 + c->json)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport [-D DIR] stop");
	if (sp_cli_config(c, &cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	rc = stop_daemon(c);
	if (rc != SP_EXIT_OK)
		return rc;
	if (strcmp(cfg.database, "embedded") == 0) {
		bool ran = sp_pg_is_running(c);

		if (ran && sp_pg_stop(c) != SP_OK)
			return SP_EXIT_REFUSED;
		sp_cli_step(ran ? "  database ended" :
		    "  the database was not running");
	}
	return SP_EXIT_OK;
}
