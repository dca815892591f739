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

#include <json-c/json.h>

#include "bastion/cli/cli.h"

enum grade { OK, WARN, FAIL };

struct exam {
	struct sp_cli *c;
	struct sp_config cfg;
	json_object *list;	/* with --json */
	bool embedded, colour;
	pid_t daemon;
	size_t n_warn, n_fail;
};

/* One line: what was looked at, how it is, and how to mend it. */
static void SP_PRINTF(5, 6)
say(struct exam *x, enum grade g, const char *what, const char *mend,
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
		say(x, FAIL, "files", "restore it from a backup, or make a new "
		    "instance: sallyport init", "%s is missing or not what it "
		    "should be", path);
		return;
	}
	if (r->user >= 0 && sp_cli_user((enum sp_cli_user)r->user, &w) != SP_OK)
		return;		/* said by exam_users */
	if (st.st_uid != w.uid) {
		(*bad)++;
		snprintf(mend, sizeof(mend), "chown %u %s", (unsigned)w.uid, path);
		say(x, FAIL, "files", mend, "%s belongs to uid %u, not %u", path,
		    (unsigned)st.st_uid, (unsigned)w.uid);
	}
	if ((st.st_mode & 07777 & ~r->mode) != 0) {
		(*bad)++;
		snprintf(mend, sizeof(mend), "chmod %04o %s", (unsigned)r->mode, path);
		say(x, FAIL, "files", mend, "%s has mode %04o, at most %04o is safe",
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
		say(x, OK, "files", NULL, "owners and modes of %zu paths are right",
		    sp_layout_n);
}

static void
exam_users(struct exam *x)
{
	char bad[4096], mend[4200];
	struct sp_who w;
	size_t n = 0;

	if (geteuid() != 0) {
		say(x, WARN, "users", "make the instance as root for separate users",
		    "all processes have one user: one that is captured could signal "
		    "and trace the others");
		return;
	}
	for (int u = 0; u < SP_U_COUNT; u++) {
		if (sp_cli_user((enum sp_cli_user)u, &w) != SP_OK) {
			say(x, FAIL, "users", "useradd --system --user-group "
			    "--no-create-home --shell /usr/sbin/nologin NAME",
			    "the system user %s is missing",
			    sp_cli_user_name((enum sp_cli_user)u));
			n++;
		} else if ((u == SP_U_DB || u == SP_U_BROKER) && x->embedded &&
		    !sp_cli_can_reach(&w, x->c->dir, bad)) {
			snprintf(mend, sizeof(mend), "chmod o+x %s", bad);
			say(x, FAIL, "users", mend, "%s may not pass %s", w.name, bad);
			n++;
		}
	}
	if (n == 0)
		say(x, OK, "users", NULL, "one system user for each role");
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
		say(x, FAIL, "sandbox", mend, "%s (process %d) could gain "
		    "privileges", name, (int)pid);
	else if (is_parent(name))
		say(x, n == filtered ? OK : FAIL, "sandbox", mend,
		    "%s: no new privileges; %zu of %zu children under a seccomp "
		    "filter", name, filtered, n);
	else
		say(x, filter ? OK : FAIL, "sandbox", mend,
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
		say(x, FAIL, "processes", "sallyport start", "sallyportd does not run");
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
	say(x, seen >= 8 ? OK : FAIL, "processes", "look at log/sallyport.log",
	    "sallyportd and %zu roles run", seen);
}

static void
exam_kernel(struct exam *x)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);

	if (abi > 0)
		say(x, OK, "kernel", NULL, "Landlock ABI %ld", abi);
	else
		say(x, WARN, "kernel", "a kernel with Landlock (5.13 or later, lsm=)",
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
		say(x, FAIL, "clock", "set the clock, and see who sets it back",
		    "the clock went back: the log was written in the future");
	else if (state < 0 || state == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
		say(x, WARN, "clock", "apt-get install chrony (in a container: on its "
		    "host)", "the kernel's clock is not synchronised; codes and hours "
		    "of the policy depend on it");
	else
		say(x, OK, "clock", NULL, "synchronised, error below %ld ms",
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
		say(x, FAIL, "disk", "sallyport init made it; restore it",
		    "%s: %s", path, strerror(errno));
		return;
	}
	free_mb = (uint64_t)v.f_bavail * v.f_frsize / 1048576;
	say(x, free_mb < x->cfg.recording_reserve_mb ? FAIL :
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
		say(x, FAIL, "database", "sallyport start", "PostgreSQL does not run");
		return;
	}
	if (sp_pg_ask(x->c, conninfo, "SELECT max(version) FROM "
	    "sallyport.schema_version", v, sizeof(v)) != SP_OK) {
		say(x, FAIL, "database", "look at log/postgresql.log",
		    "it cannot be asked");
		return;
	}
	if (strtol(v, NULL, 10) != newest)
		say(x, FAIL, "database", "sallyport stop, sallyport start (applies "
		    "what is missing)", "its schema is version %s, this program "
		    "brings %d", v, newest);
	else
		say(x, OK, "database", NULL, "reachable, schema version %s", v);
	if (sp_pg_ask(x->c, conninfo, "SELECT count(*) FROM pg_roles WHERE "
	    "rolname = 'sallyport_broker' AND (rolsuper OR rolcreaterole OR "
	    "rolcreatedb OR rolbypassrls)", v, sizeof(v)) == SP_OK)
		say(x, strcmp(v, "0") == 0 ? OK : FAIL, "database",
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
		say(x, FAIL, "vault", "sallyport start", "it does not answer");
		return;
	}
	if (sp_send_vc_status(&l, 0, &(struct sp_msg_vc_status){}, NULL) != SP_OK ||
	    sp_link_wait(&l, &p, 5000) != SP_OK ||
	    sp_dec_vc_status_r(p.body, &m) != SP_OK)
		say(x, FAIL, "vault", "sallyport stop, sallyport start",
		    "it does not answer");
	else if (m.sealed)
		say(x, FAIL, "vault", "sallyport vault unseal",
		    "sealed: nobody can log in");
	else if (m.demo)
		say(x, WARN, "vault", "make an instance without --demo for anything "
		    "but a trial", "open, but its key lies in a file");
	else
		say(x, OK, "vault", NULL, "open, %u slots", m.slots);
	sp_link_fini(&l);
}

/* As a client sees it: what configure found is not what runs. */
static void
exam_front(struct exam *x)
{
	char names[4096] = "";

	if (!sp_cli_front_kex(&x->cfg, names, sizeof(names)))
		say(x, WARN, "ssh", "look at log/sallyport.log (behind a proxy of "
		    "proxy_peers, or with sockets of systemd, nothing is wrong)",
		    "the front did not say which algorithms it has");
	else if (strstr(names, "mlkem768") == NULL && strstr(names, "sntrup761") ==
	    NULL)
		say(x, WARN, "ssh", "build with libssh 0.12 or later",
		    "no post-quantum key exchange: who records the traffic today "
		    "may read it in some decades");
	else
		say(x, OK, "ssh", NULL, "post-quantum key exchange is offered");
	if (names[0] != '\0' && strstr(names, "kex-strict-s-v00") == NULL)
		say(x, FAIL, "ssh", "a libssh with the fix of CVE-2023-48795",
		    "no strict key exchange");
}

/* One line for each, so that a person sees what it is about. */
static void
exam_broken(struct exam *x)
{
	json_object *a = sp_cli_broken_rows(x->c);
	size_t n = a == NULL ? 0 : json_object_array_length(a);

	for (size_t i = 0; i < n; i++) {
		json_object *o = json_object_array_get_idx(a, i), *last;
		const char *table = sp_cli_text_field(o, "table");
		const char *id = sp_cli_text_field(o, "id");

		say(x, FAIL, "seals", NULL, "%s/%s: %s: %s", table, id,
		    sp_cli_text_field(o, "what"), sp_cli_text_field(o, "why"));
		if (!x->c->json)
			continue;
		last = json_object_array_get_idx(x->list,
		    json_object_array_length(x->list) - 1);
		json_object_object_add(last, "table", json_object_new_string(table));
		json_object_object_add(last, "row", json_object_new_string(id));
	}
	json_object_put(a);
}

/* The broker checks the vault's seal on every row that it holds. */
static void
exam_seals(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 1 << 20};
	char *argv[] = {(char[]){"seals"}, (char[]){"--json"}, NULL};
	int64_t rows = 0, broken = 0;
	json_object *a;
	int rc = sp_cli_verb(x->c, 2, argv, -1, &out);

	if ((rc != SP_EXIT_OK && rc != SP_EXIT_REFUSED) || out.len == 0 ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (a = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL) {
		say(x, FAIL, "seals", "mend what is said above first",
		    "the rows of the database could not be checked");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i), *v = NULL;

		if (json_object_object_get_ex(o, "rows", &v))
			rows += json_object_get_int64(v);
		if (json_object_object_get_ex(o, "broken", &v))
			broken += json_object_get_int64(v);
	}
	json_object_put(a);
	if (broken > 0) {
		say(x, FAIL, "seals", "somebody changed them without the bastion: "
		    "sallyport doctor --repair",
		    "%lld rows have a broken seal, or are not the version that the "
		    "audit chain says, and count as absent", (long long)broken);
		exam_broken(x);
	} else
		say(x, OK, "seals", NULL, "all %lld sealed rows are as the vault "
		    "sealed them", (long long)rows);
}

/* Old algorithms are a choice; it is to be seen. */
static void
exam_targets(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 1 << 24}, names = {.max = 1024};
	char *argv[] = {(char[]){"targets"}, (char[]){"list"},
	    (char[]){"--limit=10000"}, (char[]){"--json"}, NULL};
	json_object *a = NULL;
	size_t n = 0;

	if (sp_cli_verb(x->c, 4, argv, -1, &out) != SP_EXIT_OK ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (a = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL)
		return;		/* what is wrong has been said above */
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i), *v = NULL, *name;

		if (json_object_object_get_ex(o, "legacy", &v) &&
		    json_object_get_boolean(v) && n++ < 10 &&
		    json_object_object_get_ex(o, "name", &name) &&
		    sp_buf_printf(&names, " %.32s", json_object_get_string(name)) !=
		    SP_OK)
			break;
	}
	json_object_put(a);
	if (n > 0 && sp_buf_put_u8(&names, 0) == SP_OK)
		say(x, WARN, "targets", "when they can do better: sallyport target "
		    "set NAME --legacy off", "%zu may use old algorithms:%s%s", n,
		    (const char *)sp_buf_span(&names).p, n > 10 ? " ..." : "");
	else
		say(x, OK, "targets", NULL, "none may use old algorithms");
}

/* A log that was altered lets nobody in: here stands why. */
static void
exam_log(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 65536};
	char *argv[] = {(char[]){"log"}, (char[]){"status"}, (char[]){"--json"},
	    NULL};
	int rc = sp_cli_verb(x->c, 3, argv, -1, &out);
	json_object *o = NULL, *state = NULL, *text = NULL, *size = NULL;

	if (sp_buf_put_u8(&out, 0) != SP_OK ||
	    (o = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL)
		return;		/* what is wrong has been said above */
	json_object_object_get_ex(o, "state", &state);
	json_object_object_get_ex(o, "text", &text);
	json_object_object_get_ex(o, "size", &size);
	if (rc == SP_EXIT_OK)
		say(x, OK, "log", NULL, "transparency log: good, %lld leaves",
		    (long long)json_object_get_int64(size));
	else
		say(x, FAIL, "log", "no session begins; doc/transparency-log.md, "
		    "and keep D/tlog as it is: it is evidence",
		    "transparency log: %s %s", json_object_get_string(state),
		    json_object_get_string(text));
	json_object_put(o);
}

/* A stored secret that its target does not take is found out here, and not in
 * the night in which it is needed. */
static void
exam_rotation(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 1 << 24}, lost = {.max = 1024};
	char *argv[] = {(char[]){"account"}, (char[]){"rotation"},
	    (char[]){"--failed"}, (char[]){"--json"}, NULL};
	size_t n = 0, n_failed = 0;
	json_object *a = NULL;

	if (sp_cli_verb(x->c, 4, argv, -1, &out) != SP_EXIT_OK ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (a = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL)
		return;		/* what is wrong has been said above */
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i);
		const char *state = sp_cli_text_field(o, "state");

		if (state == NULL || strcmp(state, "out_of_sync") != 0)
			n_failed++;
		else if (n++ < 10 && sp_buf_printf(&lost, " %.32s@%.32s",
		    sp_cli_text_field(o, "account"),
		    sp_cli_text_field(o, "target")) != SP_OK)
			break;
	}
	json_object_put(a);
	if (n > 0 && sp_buf_put_u8(&lost, 0) == SP_OK)
		say(x, FAIL, "rotation", "set it at the target and with sallyport "
		    "secret set, or name an account that can: sallyport target "
		    "reconcile TARGET ACCOUNT", "%zu accounts are out of sync, their "
		    "targets take none of the stored secrets:%s%s", n,
		    (const char *)sp_buf_span(&lost).p, n > 10 ? " ..." : "");
	if (n_failed > 0)
		say(x, WARN, "rotation", "sallyport account rotation --failed",
		    "%zu rotations failed and are tried again", n_failed);
	if (n + n_failed == 0)
		say(x, OK, "rotation", NULL, "none has failed");
}

/* A target that still takes what was revoked. */
static void
exam_krl(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 1 << 20}, late = {.max = 1024};
	char *argv[] = {(char[]){"krl"}, (char[]){"status"}, (char[]){"--json"}, NULL};
	json_object *a = NULL;
	size_t n = 0, all;

	if (sp_cli_verb(x->c, 3, argv, -1, &out) != SP_EXIT_OK ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (a = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL)
		return;		/* what is wrong has been said above */
	all = json_object_array_length(a);
	for (size_t i = 0; i < all; i++) {
		json_object *o = json_object_array_get_idx(a, i);
		const char *state = sp_cli_text_field(o, "state");
		const char *name = sp_cli_text_field(o, "target");

		if (state != NULL && strcmp(state, "current") == 0)
			continue;
		if (n++ < 10 && sp_buf_printf(&late, " %.32s (%.16s)",
		    name == NULL ? "?" : name, state == NULL ? "?" : state) != SP_OK)
			break;
	}
	json_object_put(a);
	if (n > 0 && sp_buf_put_u8(&late, 0) == SP_OK)
		say(x, WARN, "krl", "sallyport krl status says why", "%zu of %zu "
		    "targets do not have the newest list of revoked certificates:%s%s",
		    n, all, (const char *)sp_buf_span(&late).p, n > 10 ? " ..." : "");
	else if (all > 0)
		say(x, OK, "krl", NULL, "%zu targets have the list of revoked "
		    "certificates", all);
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
		exam_seals(&x);
		exam_targets(&x);
		exam_rotation(&x);
		exam_krl(&x);
		exam_log(&x);
	}
	if (c->json)
		printf("%s\n", json_object_to_json_string_ext(x.list,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		printf("\n%zu warnings, %zu failures\n", x.n_warn, x.n_fail);
	json_object_put(x.list);
	return x.n_fail == 0 ? SP_EXIT_OK : SP_EXIT_REFUSED;
}
