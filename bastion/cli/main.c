/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/cli/backup.h"
#include "bastion/cli/identity.h"

#define DEFAULT_DIR "/var/lib/sallyport"

int
sp_cli_fail(int code, const char *fmt, ...)
{
	char t[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	fprintf(stderr, "sallyport: %s\n", t);
	return code;
}

void
sp_cli_step(const char *fmt, ...)
{
	char t[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s\n", t);
}

void
sp_cli_path(const struct sp_cli *c, char dst[static 4096], const char *rest)
{
	int n = snprintf(dst, 4096, "%s/%s", c->dir, rest);

	if (n < 0 || n >= 4096)
		exit(sp_cli_fail(SP_EXIT_USAGE, "the directory's name is too long"));
}

static void
drop_arg(int *argc, char **argv, int i)
{
	memmove(&argv[i], &argv[i + 1],
	    (size_t)(*argc - i) * sizeof(*argv));
	(*argc)--;
}

bool
sp_cli_flag(int *argc, char **argv, const char *name)
{
	for (int i = 0; i < *argc; i++)
		if (strcmp(argv[i], name) == 0) {
			drop_arg(argc, argv, i);
			return true;
		}
	return false;
}

const char *
sp_cli_value(int *argc, char **argv, const char *name)
{
	size_t n = strlen(name);

	for (int i = 0; i < *argc; i++) {
		const char *v = NULL;

		if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=') {
			v = argv[i] + n + 1;
		} else if (strcmp(argv[i], name) == 0 && i + 1 < *argc) {
			v = argv[i + 1];
			drop_arg(argc, argv, i);
		}
		if (v != NULL) {
			drop_arg(argc, argv, i);
			return v;
		}
	}
	return NULL;
}

enum sp_err
sp_cli_read_fd(int fd, struct sp_buf *out)
{
	for (;;) {
		uint8_t *at;
		ssize_t n;

		if (out->len + 1 > out->max)
			return SP_ERR_TOOBIG;
		SP_TRY(sp_buf_reserve(out, out->max - out->len < 65536 ?
		    out->max - out->len : 65536, &at));
		n = read(fd, at, out->max - out->len < 65536 ?
		    out->max - out->len : 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return SP_ERR_IO;
		if (n == 0)
			return SP_OK;
		sp_buf_commit(out, (size_t)n);
	}
}

enum sp_err
sp_cli_read(const char *path, struct sp_buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	enum sp_err e;

	if (fd < 0)
		return errno == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_IO;
	e = sp_cli_read_fd(fd, out);
	close(fd);
	return e;
}

enum sp_err
sp_cli_config(const struct sp_cli *c, struct sp_config *cfg)
{
	SP_BUF_AUTO text = {.max = 65536};
	struct sp_config_diag d = {0};
	char path[4096];
	enum sp_err e;

	sp_cli_path(c, path, "sallyport.conf");
	e = sp_cli_read(path, &text);
	if (e != SP_OK) {
		if (e == SP_ERR_NOTFOUND)
			(void)sp_cli_fail(0, "there is no instance in %s: "
			    "sallyport init %s, or name another with -D",
			    c->dir, c->dir);
		else
			(void)sp_cli_fail(0, "%s cannot be read: that is for "
			    "root or the owner of the instance", path);
		return e;
	}
	e = sp_config_parse(cfg, sp_buf_span(&text), &d);
	if (e != SP_OK)
		(void)sp_cli_fail(0, "%s, line %u: %s", path, d.line, d.text);
	return e;
}

/* ---------------------------------------------------------------- dispatch */

static const struct command {
	const char *name;
	int (*run)(struct sp_cli *c, int argc, char **argv);
	const char *usage;
} commands[] = {
	{"init", sp_cmd_init, "init [--embedded | --database CONNINFO] [--demo] "
	    "[--listen ADDRESS:PORT] DIR"},
	{"start", sp_cmd_start, "start [--foreground]"},
	{"reload", sp_cmd_reload, "reload"},
	{"stop", sp_cmd_stop, "stop"},
	{"status", sp_cmd_status, "status [--json]"},
	{"apply", sp_cmd_apply, "apply -f FILE [--plan | --yes] [--prune] "
	    "[--secret-dir DIR] [--json]"},
	{"backup", sp_cmd_backup, "backup FILE [--passphrase | --passphrase-only]"
	    "\n  backup --verify FILE"},
	{"restore", sp_cmd_restore, "restore FILE DIR [--database CONNINFO] "
	    "[--end-leases]"},
	{"evidence", sp_cmd_evidence, "evidence SESSION --out FILE "
	    "[--key HEX|FILE] [--json]"},
	{"identity", sp_cmd_identity, "identity new|show FILE"},
	{"doctor", sp_cmd_doctor, "doctor [--json | --repair "
	    "[TABLE/ID=accept|drop]...]"},
	{"vault", sp_cmd_vault, "vault status|unseal|seal|ca-key|slots|rotate|share|"
	    "store-key [--json]"},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int
usage(FILE *f)
{
	fprintf(f, "usage: sallyport [-D DIR] VERB ...\n\n"
	    "DIR is the instance: -D, or $SALLYPORT_DIR, or " DEFAULT_DIR ".\n\n"
	    "On the host alone:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(f, "  %s\n", commands[i].usage);
	fprintf(f, "  users add NAME ... --totp [--qr], users totp NAME [--qr]\n"
	    "  account add ACCOUNT@TARGET --kind password --password-stdin\n"
	    "  account add ACCOUNT@TARGET --kind key --key-file FILE\n"
	    "  secret reveal NUMBER\n"
	    "  break-glass kit --k 3 --n 5 --account ACCOUNT@TARGET --out FILE\n"
	    "  break-glass import RECEIPT\n"
	    "  secret rule ACCOUNT@TARGET [--group G --approvals N [--touch] "
	    "[--for 1h] | --none]\n"
	    "  secret add|set ACCOUNT@TARGET --password-stdin | --key-file FILE |\n"
	    "    --key-stdin | --generate\n"
	    "  export inventory [--policy FILE] [--json]\n"
	    "  verify FILE --key HEX|FILE [--log DIR [--expect CHECKPOINT]]\n"
	    "  verify FILE --identity FILE ... [--key HEX] [--json]\n"
	    "  verify --all [--key HEX|FILE] [--expect CHECKPOINT] [--no-rows]\n"
	    "  log checkpoint | log consistency SIZE [SIZE] | log prove SESSION |\n"
	    "    log stamps --tsa CERTIFICATES\n"
	    "  replay FILE --identity FILE ... [--key HEX]\n"
	    "  export FILE --identity FILE ... --format asciicast|asciicast-v3\n"
	    "    [--keys] | text [--times] | html | records | commands-csv |\n"
	    "    commands-json [--unmasked]\n"
	    "  files SESSION|FILE|- --extract DIR [--identity FILE ...]\n\n"
	    "Every other verb is the bastion's own: sallyport help\n");
	return SP_EXIT_USAGE;
}

/* `policy check FILE`: the file is read here, as the caller. */
static int
with_policy_file(struct sp_cli *c, int argc, char **argv)
{
	int fd = STDIN_FILENO, rc;

	if (argc >= 3 && argv[2][0] != '-') {
		fd = open(argv[2], O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", argv[2],
			    strerror(errno));
		drop_arg(&argc, argv, 2);
	}
	rc = sp_cli_verb(c, argc, argv, fd, NULL);
	if (fd != STDIN_FILENO)
		close(fd);
	return rc;
}

static bool
is_two(int argc, char **argv, const char *a, const char *b)
{
	return argc >= 2 && strcmp(argv[0], a) == 0 && strcmp(argv[1], b) == 0;
}

static bool
has_option(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], name, strlen(name)) == 0)
			return true;
	return false;
}

static int
dispatch(struct sp_cli *c, int argc, char **argv)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(c, argc, argv);
	if (is_two(argc, argv, "policy", "check") ||
	    is_two(argc, argv, "policy", "load"))
		return with_policy_file(c, argc, argv);
	if (is_two(argc, argv, "users", "add") || is_two(argc, argv, "users", "totp"))
		return sp_cmd_users(c, argc, argv);
	if (is_two(argc, argv, "account", "add"))
		return sp_cmd_account(c, argc, argv);
	if (is_two(argc, argv, "inventory", "plan") ||
	    is_two(argc, argv, "inventory", "apply"))
		return sp_cli_verb(c, argc, argv, STDIN_FILENO, NULL);
	if (is_two(argc, argv, "export", "inventory"))
		return sp_cmd_export_inventory(c, argc, argv);
	if (is_two(argc, argv, "break-glass", "kit") ||
	    (is_two(argc, argv, "break-glass", "import") && argc >= 3))
		return sp_cmd_glass(c, argc, argv);
	if (is_two(argc, argv, "secret", "reveal"))
		return sp_cmd_reveal(c, argc, argv);
	if (is_two(argc, argv, "secret", "rule"))
		return sp_cmd_rule(c, argc, argv);
	if (is_two(argc, argv, "secret", "add") || is_two(argc, argv, "secret", "set"))
		return sp_cmd_secret(c, argc, argv);
	if (strcmp(argv[0], "files") == 0 && has_option(argc, argv, "--extract"))
		return sp_cmd_extract(c, argc, argv);
	if (argc >= 2 && (strcmp(argv[0], "replay") == 0 ||
	    strcmp(argv[0], "export") == 0 || strcmp(argv[0], "verify") == 0) &&
	    has_option(argc, argv, "--identity"))
		return sp_cmd_offline(c, argc, argv);
	if (argc >= 2 && strcmp(argv[0], "verify") == 0 &&
	    (strchr(argv[1], '/') != NULL || access(argv[1], R_OK) == 0))
		return sp_cmd_verify_file(c, argc, argv);
	if (is_two(argc, argv, "verify", "--all"))
		return sp_cmd_verify_all(c, argc, argv);
	if (is_two(argc, argv, "log", "checkpoint") ||
	    is_two(argc, argv, "log", "consistency") ||
	    is_two(argc, argv, "log", "stamps") ||
	    is_two(argc, argv, "log", "prove"))
		return sp_cmd_log(c, argc, argv);
	return sp_cli_verb(c, argc, argv, strcmp(argv[0], "replay") == 0 ?
	    STDIN_FILENO : -1, NULL);
}

/* An instance that is there goes by its real name: its users may not be able to
 * pass where a link to it lies. */
static bool
absolute(const char *dir, char *dst, size_t cap)
{
	char here[PATH_MAX];
	int n;

	if (realpath(dir, here) != NULL)
		n = snprintf(dst, cap, "%s", here);
	else if (dir[0] == '/')
		n = snprintf(dst, cap, "%s", dir);
	else if (getcwd(here, sizeof(here)) != NULL)
		n = snprintf(dst, cap, "%s/%s", here, dir);
	else
		return false;
	for (; n > 1 && dst[n - 1] == '/'; n--)
		dst[n - 1] = '\0';
	return n > 0 && (size_t)n < cap;
}

/* Descriptors 0 to 2 are always open: no socket of ours may land there. */
static void
fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd < 3);
	if (fd >= 3)
		close(fd);
}

int
main(int argc, char **argv)
{
	static struct sp_cli c;
	const char *dir = getenv("SALLYPORT_DIR");

	fill_standard_fds();
	umask(077);
	(void)signal(SIGPIPE, SIG_IGN);
	argc--;
	argv++;
	while (argc >= 1 && argv[0][0] == '-') {
		if (strcmp(argv[0], "-D") == 0 && argc >= 2) {
			dir = argv[1];
			argc -= 2;
			argv += 2;
		} else if (strcmp(argv[0], "--help") == 0 ||
		    strcmp(argv[0], "-h") == 0) {
			(void)usage(stdout);
			return SP_EXIT_OK;
		} else {
			return usage(stderr);
		}
	}
	if (argc < 1)
		return usage(stderr);
	if (dir == NULL || dir[0] == '\0')
		dir = DEFAULT_DIR;
	if (!absolute(dir, c.dir, sizeof(c.dir)))
		return sp_cli_fail(SP_EXIT_USAGE, "the directory's name is too long");
	for (int i = 1; i < argc; i++)
		c.json |= strcmp(argv[i], "--json") == 0;
	return dispatch(&c, argc, argv);
}
