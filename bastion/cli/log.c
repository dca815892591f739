/* SPDX-License-Identifier: Apache-2.0 */
/* `verify FILE`, `verify --all`, `log ...`: sallyport-verify, with what this
 * instance knows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define ARGS_MAX 24
struct args {
	char *v[ARGS_MAX + 1];
	int n;
};

static void
add(struct args *a, const char *s)
{
	SP_ASSERT(a->n < ARGS_MAX);
	a->v[a->n++] = (char *)(uintptr_t)s;
	a->v[a->n] = NULL;
}

static int
run(struct args *a)
{
	static char exe[4096];

	if (!sp_cli_find("sallyport-verify", exe))
		return SP_EXIT_REFUSED;
	a->v[0] = exe;
	fflush(stdout);
	execv(exe, a->v);
	return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", exe, strerror(errno));
}

int
sp_cli_audit_key(const struct sp_cli *c, char hex[static 65])
{
	struct sp_msg_vc_status_r m;
	struct sp_packet p;
	struct sp_link l;
	enum sp_err e;

	if (sp_cli_connect(c, "vault.sock", SP_ROLE_VLT, SP_ST_READY, &l) != SP_OK)
		return sp_cli_fail(SP_EXIT_LATER, "the vault does not answer; give "
		    "its audit key: --key HEX|FILE");
	e = sp_send_vc_status(&l, 0, &(struct sp_msg_vc_status){}, NULL);
	if (e == SP_OK)
		e = sp_link_wait(&l, &p, 5000);
	if (e == SP_OK)
		e = sp_dec_vc_status_r(p.body, &m);
	if (e == SP_OK && m.sealed)
		e = SP_ERR_SEALED;
	if (e == SP_OK)
		sp_hex(hex, m.audit_key, 32);
	sp_link_fini(&l);
	return e == SP_OK ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_LATER, "the vault: %s; "
	    "give its audit key: --key HEX|FILE", sp_err_text(e));
}

int
sp_cmd_verify_file(struct sp_cli *c, int argc, char **argv)
{
	const char *key = sp_cli_value(&argc, argv, "--key");
	const char *log = sp_cli_value(&argc, argv, "--log");
	const char *expect = sp_cli_value(&argc, argv, "--expect");
	struct args a = {.n = 1};

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 2 || key == NULL || (expect != NULL && log == NULL))
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport verify FILE "
		    "--key HEX|FILE [--log DIR [--expect CHECKPOINT]] [--json]; the "
		    "key is the audit key that vault status shows");
	add(&a, "file");
	add(&a, argv[1]);
	add(&a, "--key");
	add(&a, key);
	if (log != NULL) {
		add(&a, "--log");
		add(&a, log);
	}
	if (expect != NULL) {
		add(&a, "--expect");
		add(&a, expect);
	}
	if (c->json)
		add(&a, "--json");
	return run(&a);
}

/* The database's side, as the broker reads it, becomes standard input. */
static int
rows(const struct sp_cli *c)
{
	SP_BUF_AUTO out = {.max = (size_t)1 << 30};
	char *argv[] = {(char[]){"log"}, (char[]){"rows"}, NULL};
	int rc = sp_cli_verb(c, 2, argv, -1, &out), fd;
	struct sp_span s = sp_buf_span(&out);

	if (rc != SP_EXIT_OK)
		return rc;
	fd = memfd_create("rows", MFD_CLOEXEC);
	while (fd >= 0 && s.n > 0) {
		ssize_t k = write(fd, s.p, s.n);

		if (k <= 0)
			break;
		s = sp_span_of(s.p + k, s.n - (size_t)k);
	}
	if (fd < 0 || s.n > 0 || lseek(fd, 0, SEEK_SET) != 0 ||
	    dup2(fd, STDIN_FILENO) < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "no room for the rows: %s",
		    strerror(errno));
	return SP_EXIT_OK;
}

/* How many leaves the log had before the rows were asked for: what came later is
 * not among them (C2SP tlog-checkpoint: the second line). */
static bool
size_of_log(const char *log, char size[static 24])
{
	char path[4200], line[512];
	uint64_t n;
	FILE *f;
	bool good;

	snprintf(path, sizeof(path), "%s/checkpoint", log);
	f = fopen(path, "re");
	good = f != NULL && fgets(line, sizeof(line), f) != NULL &&
	    fgets(line, sizeof(line), f) != NULL;
	if (f != NULL)
		fclose(f);
	if (!good)
		return false;
	line[strcspn(line, "\n")] = '\0';
	good = sp_u64_parse(sp_span_str(line), INT64_MAX, &n) == SP_OK;
	if (good)
		snprintf(size, 24, "%llu", (unsigned long long)n);
	return good;
}

int
sp_cmd_verify_all(struct sp_cli *c, int argc, char **argv)
{
	const char *key = sp_cli_value(&argc, argv, "--key");
	const char *expect = sp_cli_value(&argc, argv, "--expect");
	bool no_rows = sp_cli_flag(&argc, argv, "--no-rows");
	char log[4096], recordings[4096], hex[65], size[24];
	struct args a = {.n = 1};
	int rc;

	(void)sp_cli_flag(&argc, argv, "--all");
	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 1)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport verify --all "
		    "[--key HEX|FILE] [--expect CHECKPOINT] [--no-rows] [--json]");
	if (key == NULL && (rc = sp_cli_audit_key(c, hex)) != SP_EXIT_OK)
		return rc;
	sp_cli_path(c, log, "tlog");
	sp_cli_path(c, recordings, "recordings");
	add(&a, "all");
	add(&a, "--key");
	add(&a, key != NULL ? key : hex);
	add(&a, "--log");
	add(&a, log);
	add(&a, "--recordings");
	add(&a, recordings);
	if (expect != NULL) {
		add(&a, "--expect");
		add(&a, expect);
	}
	if (c->json)
		add(&a, "--json");
	if (!no_rows) {
		if (size_of_log(log, size)) {
			add(&a, "--rows-at");
			add(&a, size);
		}
		if ((rc = rows(c)) != SP_EXIT_OK)
			return rc;
		add(&a, "--rows");
		add(&a, "-");
	}
	return run(&a);
}

/* log checkpoint | consistency SIZE [SIZE] | prove SESSION */
int
sp_cmd_log(struct sp_cli *c, int argc, char **argv)
{
	const char *key = sp_cli_value(&argc, argv, "--key");
	const char *dir = sp_cli_value(&argc, argv, "--log");
	const char *tsa = sp_cli_value(&argc, argv, "--tsa");
	char log[4096], hex[65];
	struct args a = {.n = 1};
	int rc;

	(void)sp_cli_flag(&argc, argv, "--json");
	if (key == NULL && (rc = sp_cli_audit_key(c, hex)) != SP_EXIT_OK)
		return rc;
	sp_cli_path(c, log, "tlog");
	for (int i = 0; i < argc && i < 4; i++)
		add(&a, argv[i]);
	add(&a, "--key");
	add(&a, key != NULL ? key : hex);
	add(&a, "--log");
	add(&a, dir != NULL ? dir : log);
	if (tsa != NULL) {
		add(&a, "--tsa");
		add(&a, tsa);
	}
	if (c->json)
		add(&a, "--json");
	return run(&a);
}
