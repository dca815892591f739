/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <linux/landlock.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <unistd.h>

#include "bastion/cli/doctor.h"

/* One line: what was looked at, how it is, and how to mend it. */
void
dr_say(struct exam *x, enum grade g, const char *what, const char *mend,
    const char *fmt, ...)
{
	static const char *const words[] = {"ok", "warn", "fail"};
	static const char *const colours[] = {"32", "33", "31"};
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	x->n_warn += g == WARN;
	x->n_fail += g == FAIL;
	if (x->c->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "check", json_object_new_string(what));
		json_object_object_add(o, "state", json_object_new_string(words[g]));
		json_object_object_add(o, "text", json_object_new_string(text));
		json_object_object_add(o, "mend", g == OK || mend == NULL ? NULL :
		    json_object_new_string(mend));
		json_object_array_add(x->list, o);
		return;
	}
	if (x->colour)
		printf("\033[%sm%-4s\033[0m  %-12s %s\n", colours[g], words[g], what,
		    text);
	else
		printf("%-4s  %-12s %s\n", words[g], what, text);
	if (g != OK && mend != NULL)
		printf("%19s-> %s\n", "", mend);
}

/* ------------------------------------------------------------------- files */

static void
exam_one_path(struct exam *x, const struct sp_layout_row *r, size_t *bad)
{
	struct sp_who w = {.uid = geteuid(), .gid = getegid()};
	char path[4096], mend[4400];
	struct stat st;

	sp_cli_path(x->c, path, r->path);
	if (lstat(path, &st) != 0 || S_ISDIR(st.st_mode) != r->is_dir ||
	    S_ISLNK(st.st_mode)) {
		(*bad)++;
		dr_say(x, FAIL, "files", "restore it from a backup, or make a new "
		    "instance: sallyport init", "%s is missing or not what it "
		    "should be", path);
		return;
	}
	if (r->user >= 0 && sp_cli_user((enum sp_cli_user)r->user, &w) != SP_OK)
		return;		/* said by exam_users */
	if (st.st_uid != w.uid) {
		(*bad)++;
		snprintf(mend, sizeof(mend), "chown %u %s", (unsigned)w.uid, path);
		dr_say(x, FAIL, "files", mend, "%s belongs to uid %u, not %u", path,
		    (unsigned)st.st_uid, (unsigned)w.uid);
	}
	if ((st.st_mode & 07777 & ~r->mode) != 0) {
		(*bad)++;
		snprintf(mend, sizeof(mend), "chmod %04o %s", (unsigned)r->mode, path);
		dr_say(x, FAIL, "files", mend, "%s has mode %04o, at most %04o is safe",
		    path, (unsigned)(st.st_mode & 07777), (unsigned)r->mode);
	}
}

static void
exam_files(struct exam *x)
{
	size_t bad = 0;

	for (size_t i = 0; i < sp_layout_n; i++)
		if (x->embedded || !sp_layout[i].embedded_only)
			exam_one_path(x, &sp_layout[i], &bad);
	if (bad == 0)
		dr_say(x, OK, "files", NULL, "owners and modes of %zu paths are right",
		    sp_layout_n);
}

static void
exam_users(struct exam *x)
{
	char bad[4096], mend[4200];
	struct sp_who w;
	size_t n = 0;

	if (geteuid() != 0) {
		dr_say(x, WARN, "users", "make the instance as root for separate users",
		    "all processes have one user: one that is captured could signal "
		    "and trace the others");
		return;
	}
	for (int u = 0; u < SP_U_COUNT; u++) {
		if (sp_cli_user((enum sp_cli_user)u, &w) != SP_OK) {
			dr_say(x, FAIL, "users", "useradd --system --user-group "
			    "--no-create-home --shell /usr/sbin/nologin NAME",
			    "the system user %s is missing",
			    sp_cli_user_name((enum sp_cli_user)u));
			n++;
		} else if ((u == SP_U_DB || u == SP_U_BROKER) && x->embedded &&
		    !sp_cli_can_reach(&w, x->c->dir, bad)) {
			snprintf(mend, sizeof(mend), "chmod o+x %s", bad);
			dr_say(x, FAIL, "users", mend, "%s may not pass %s", w.name, bad);
			n++;
		}
	}
	if (n == 0)
		dr_say(x, OK, "users", NULL, "one system user for each role");
}

/* --------------------------------------------------------------- processes */

static long
status_field(pid_t pid, const char *name)
{
	SP_BUF_AUTO b = {.max = 8000};
	char path[64], text[8192], *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (sp_cli_read(path, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), text, sizeof(text)) != SP_OK ||
	    (at = strstr(text, name)) == NULL)
		return -1;
	return strtol(at + strlen(name), NULL, 10);
}

/* Of the children of a parent: how many there are, how many have a filter. */
static void
count_children(pid_t parent, size_t *n, size_t *filtered)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	*n = *filtered = 0;
	while (d != NULL && (e = readdir(d)) != NULL) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid <= 1 || status_field(pid, "\nPPid:\t") != parent)
			continue;
		(*n)++;
		*filtered += status_field(pid, "\nSeccomp:\t") == 2;
	}
	if (d != NULL)
		closedir(d);
}

/* A parent only forks; its children enter their filter before they read a
 * byte of anybody's. */
static bool
is_parent(const char *name)
{
	static const char *const names[] = {"sallyport-ingress",
	    "sallyport-egress", "sallyport-egress-sql", "sallyport-recorder",
	    "sallyport-player", "sallyport-auth", "sallyport-scribe"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static void
exam_role(struct exam *x, pid_t pid, size_t *seen)
{
	SP_BUF_AUTO b = {.max = 4096};
	char path[64], exe[256] = "";
	const char *name, *mend = "a build with sanitizers has no filter; else: "
	    "sallyport stop, sallyport start, and look at log/sallyport.log";
	bool filter = status_field(pid, "\nSeccomp:\t") == 2;
	size_t n, filtered;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if (sp_cli_read(path, &b) != SP_OK || b.len == 0)
		return;
	(void)snprintf(exe, sizeof(exe), "%.*s", (int)strnlen(
	    (const char *)sp_buf_span(&b).p, b.len), sp_buf_span(&b).p);
	name = strrchr(exe, '/') != NULL ? strrchr(exe, '/') + 1 : exe;
	(*seen)++;
	count_children(pid, &n, &filtered);
	if (status_field(pid, "\nNoNewPrivs:\t") != 1)
		dr_say(x, FAIL, "sandbox", mend, "%s (process %d) could gain "
		    "privileges", name, (int)pid);
	else if (is_parent(name))
		dr_say(x, n == filtered ? OK : FAIL, "sandbox", mend,
		    "%s: no new privileges; %zu of %zu children under a seccomp "
		    "filter", name, filtered, n);
	else
		dr_say(x, filter ? OK : FAIL, "sandbox", mend,
		    "%s: no new privileges; %s", name, filter ? "seccomp filter" :
		    "no seccomp filter");
}

static void
exam_processes(struct exam *x)
{
	DIR *d;
	struct dirent *e;
	size_t seen = 0;

	if (x->daemon == 0) {
		dr_say(x, FAIL, "processes", "sallyport start", "sallyportd does not run");
		return;
	}
	d = opendir("/proc");
	while (d != NULL && (e = readdir(d)) != NULL) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 1 && status_field(pid, "\nPPid:\t") == x->daemon)
			exam_role(x, pid, &seen);
	}
	if (d != NULL)
		closedir(d);
	dr_say(x, seen >= 8 ? OK : FAIL, "processes", "look at log/sallyport.log",
	    "sallyportd and %zu roles run", seen);
}

static void
exam_kernel(struct exam *x)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);

	if (abi > 0)
		dr_say(x, OK, "kernel", NULL, "Landlock ABI %ld", abi);
	else
		dr_say(x, WARN, "kernel", "a kernel with Landlock (5.13 or later, lsm=)",
		    "no Landlock: files are kept away by users and seccomp alone");
}

/* -------------------------------------------------------------- the rest */

static void
exam_clock(struct exam *x)
{
	struct timex t = {0};
	char path[4096];
	struct stat st;
	int state = adjtimex(&t);

	sp_cli_path(x->c, path, "log/sallyport.log");
	if (stat(path, &st) == 0 && st.st_mtim.tv_sec >
	    (time_t)(sp_now_us() / 1000000) + 5)
		dr_say(x, FAIL, "clock", "set the clock, and see who sets it back",
		    "the clock went back: the log was written in the future");
	else if (state < 0 || state == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
		dr_say(x, WARN, "clock", "apt-get install chrony (in a container: on its "
		    "host)", "the kernel's clock is not synchronised; codes and hours "
		    "of the policy depend on it");
	else
		dr_say(x, OK, "clock", NULL, "synchronised, error below %ld ms",
		    t.maxerror / 1000);
}

static void
exam_disk(struct exam *x)
{
	char path[4096];
	struct statvfs v;
	uint64_t free_mb;

	sp_cli_path(x->c, path, "recordings");
	if (statvfs(path, &v) != 0) {
		dr_say(x, FAIL, "disk", "sallyport init made it; restore it",
		    "%s: %s", path, strerror(errno));
		return;
	}
	free_mb = (uint64_t)v.f_bavail * v.f_frsize / 1048576;
	dr_say(x, free_mb < x->cfg.recording_reserve_mb ? FAIL :
	    free_mb < 4 * x->cfg.recording_reserve_mb ? WARN : OK, "disk",
	    "make room: sessions end when the reserve is reached",
	    "%llu MB free for recordings, reserve %llu MB",
	    (unsigned long long)free_mb,
	    (unsigned long long)x->cfg.recording_reserve_mb);
}

static void
exam_database(struct exam *x)
{
	const char *conninfo = x->embedded ? NULL : x->cfg.database;
	char v[128];
	int newest = sp_pg_newest();

	if (x->embedded && !sp_pg_is_running(x->c)) {
		dr_say(x, FAIL, "database", "sallyport start", "PostgreSQL does not run");
		return;
	}
	if (sp_pg_ask(x->c, conninfo, "SELECT max(version) FROM "
	    "sallyport.schema_version", v, sizeof(v)) != SP_OK) {
		dr_say(x, FAIL, "database", "look at log/postgresql.log",
		    "it cannot be asked");
		return;
	}
	if (strtol(v, NULL, 10) != newest)
		dr_say(x, FAIL, "database", "sallyport stop, sallyport start (applies "
		    "what is missing)", "its schema is version %s, this program "
		    "brings %d", v, newest);
	else
		dr_say(x, OK, "database", NULL, "reachable, schema version %s", v);
	if (sp_pg_ask(x->c, conninfo, "SELECT count(*) FROM pg_roles WHERE "
	    "rolname = 'sallyport_broker' AND (rolsuper OR rolcreaterole OR "
	    "rolcreatedb OR rolbypassrls)", v, sizeof(v)) == SP_OK)
		dr_say(x, strcmp(v, "0") == 0 ? OK : FAIL, "database",
		    "ALTER ROLE sallyport_broker NOSUPERUSER NOCREATEROLE NOCREATEDB",
		    strcmp(v, "0") == 0 ? "the broker's role has no more rights than "
		    "it needs" : "the broker's role has too many rights");
}

static void
exam_vault(struct exam *x)
{
	struct sp_msg_vc_status_r m;
	struct sp_packet p;
	struct sp_link l;

	if (sp_cli_connect(x->c, "vault.sock", SP_ROLE_VLT, SP_ST_READY, &l) !=
	    SP_OK) {
		dr_say(x, FAIL, "vault", "sallyport start", "it does not answer");
		return;
	}
	if (sp_send_vc_status(&l, 0, &(struct sp_msg_vc_status){}, NULL) != SP_OK ||
	    sp_link_wait(&l, &p, 5000) != SP_OK ||
	    sp_dec_vc_status_r(p.body, &m) != SP_OK)
		dr_say(x, FAIL, "vault", "sallyport stop, sallyport start",
		    "it does not answer");
	else if (m.sealed)
		dr_say(x, FAIL, "vault", "sallyport vault unseal",
		    "sealed: nobody can log in");
	else if (m.demo)
		dr_say(x, WARN, "vault", "make an instance without --demo for anything "
		    "but a trial", "open, but its key lies in a file");
	else
		dr_say(x, OK, "vault", NULL, "open, %u slots", m.slots);
	sp_link_fini(&l);
}

/* As a client sees it: what configure found is not what runs. */
static void
exam_front(struct exam *x)
{
	char names[4096] = "";

	if (!sp_cli_front_kex(&x->cfg, names, sizeof(names)))
		dr_say(x, WARN, "ssh", "look at log/sallyport.log (behind a proxy of "
		    "proxy_peers, or with sockets of systemd, nothing is wrong)",
		    "the front did not say which algorithms it has");
	else if (strstr(names, "mlkem768") == NULL && strstr(names, "sntrup761") ==
	    NULL)
		dr_say(x, WARN, "ssh", "build with libssh 0.12 or later",
		    "no post-quantum key exchange: who records the traffic today "
		    "may read it in some decades");
	else
		dr_say(x, OK, "ssh", NULL, "post-quantum key exchange is offered");
	if (names[0] != '\0' && strstr(names, "kex-strict-s-v00") == NULL)
		dr_say(x, FAIL, "ssh", "a libssh with the fix of CVE-2023-48795",
		    "no strict key exchange");
}

int
sp_cmd_doctor(struct sp_cli *c, int argc, char **argv)
{
	static struct exam x;
	const char *no_color = getenv("NO_COLOR");

	if (sp_cli_flag(&argc, argv, "--repair"))
		return sp_cmd_repair(c, argc - 1, argv + 1);
	if (argc > 1 + c->json)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport doctor [--json | "
		    "--repair [TABLE/ID=accept|drop]...]");
	x.c = c;
	x.colour = isatty(STDOUT_FILENO) &&
	    (no_color == NULL || no_color[0] == '\0');
	x.list = json_object_new_array();
	if (sp_cli_config(c, &x.cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	x.embedded = strcmp(x.cfg.database, "embedded") == 0;
	x.daemon = sp_cli_daemon(c, NULL);
	exam_files(&x);
	exam_users(&x);
	exam_kernel(&x);
	exam_clock(&x);
	exam_disk(&x);
	exam_processes(&x);
	exam_database(&x);
	if (x.daemon != 0) {
		exam_front(&x);
		exam_vault(&x);
		dr_host_key(&x);
		dr_seals(&x);
		dr_targets(&x);
		dr_rotation(&x);
		dr_krl(&x);
		dr_log(&x);
		dr_store(&x);
		dr_owed(&x);
	}
	if (c->json)
		printf("%s\n", json_object_to_json_string_ext(x.list,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		printf("\n%zu warnings, %zu failures\n", x.n_warn, x.n_fail);
	json_object_put(x.list);
	return x.n_fail == 0 ? SP_EXIT_OK : SP_EXIT_REFUSED;
}
