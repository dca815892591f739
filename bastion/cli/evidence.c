/* SPDX-License-Identifier: Apache-2.0 */
/* `evidence SESSION --out FILE`: the broker gives the rows and puts the bundle's
 * digest into the transparency log; sallyport-verify makes the bundle. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/cli.h"
#include "common/text.h"

struct making {
	const struct sp_cli *c;
	const char *out;
	char session[SP_UUID_TEXT], hex[65];
	int rows;		/* what the broker said */
	int said, go;		/* of the child */
	pid_t pid;
};

static int
broker_says(struct making *m, const char *sub, const char *what,
    const char *digest, struct sp_buf *out)
{
	char *argv[5] = {(char *)(uintptr_t)"evidence", (char *)(uintptr_t)sub,
	    (char *)(uintptr_t)what, (char *)(uintptr_t)digest, NULL};

	return sp_cli_verb(m->c, digest == NULL ? 3 : 4, argv, -1, out);
}

/* "session ID" is the first line. */
static int
take_rows(struct making *m, const char *what)
{
	SP_BUF_AUTO out = {.max = 64u << 20};
	int rc = broker_says(m, "rows", what, NULL, &out);
	struct sp_span s = sp_buf_span(&out);
	uint8_t id[16];

	if (rc != SP_EXIT_OK)
		return rc;
	if (s.n < 9 + SP_UUID_TEXT - 1 || memcmp(s.p, "session ", 8) != 0 ||
	    sp_uuid_parse(id, sp_span_of(s.p + 8, SP_UUID_TEXT - 1)) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "the broker says something else");
	sp_uuid_text(m->session, id);
	m->rows = memfd_create("rows", 0);	/* the child opens it by its name */
	while (m->rows >= 0 && s.n > 0) {
		ssize_t k = write(m->rows, s.p, s.n);

		if (k <= 0)
			break;
		s = sp_span_of(s.p + k, s.n - (size_t)k);
	}
	return m->rows >= 0 && s.n == 0 ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_REFUSED,
	    "no room for the rows: %s", strerror(errno));
}

static _Noreturn void
become_verifier(struct making *m, char *exe, char *key, const int in[static 2],
    const int from[static 2])
{
	char log[4096], recording[4096], rows[40], file[64];
	char *argv[] = {exe, (char *)(uintptr_t)"collect", m->session,
	    (char *)(uintptr_t)"--key", key, (char *)(uintptr_t)"--log", log,
	    (char *)(uintptr_t)"--recording", recording,
	    (char *)(uintptr_t)"--rows", rows, (char *)(uintptr_t)"--out",
	    (char *)(uintptr_t)m->out, NULL};

	sp_cli_path(m->c, log, "tlog");
	snprintf(file, sizeof(file), "recordings/%s.spr", m->session);
	sp_cli_path(m->c, recording, file);
	if (access(recording, R_OK) != 0) {
		snprintf(file, sizeof(file), "recordings/%s.open", m->session);
		sp_cli_path(m->c, recording, file);
	}
	snprintf(rows, sizeof(rows), "/proc/self/fd/%d", m->rows);
	if (dup2(in[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0)
		_exit(126);
	execv(exe, argv);
	_exit(127);
}

static int
begin(struct making *m, char *key)
{
	static char exe[4096];
	int in[2], from[2];

	if (!sp_cli_find("sallyport-verify", exe))
		return SP_EXIT_REFUSED;
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0 ||
	    (m->pid = fork()) < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", strerror(errno));
	if (m->pid == 0)
		become_verifier(m, exe, key, in, from);
	close(in[0]);
	close(from[1]);
	m->go = in[1];
	m->said = from[0];
	return SP_EXIT_OK;
}

/* Its digest, into the log, and the word to go on. */
static int
seal(struct making *m)
{
	SP_BUF_AUTO none = {.max = 4096};
	size_t n = 0;
	uint8_t digest[32];
	ssize_t k;
	int rc;

	while (n < 65 && (k = read(m->said, m->hex + n, 65 - n)) > 0)
		n += (size_t)k;
	m->hex[64] = '\0';
	if (n != 65 || sp_unhex(digest, 32, sp_span_of(m->hex, 64)) != SP_OK)
		return SP_EXIT_REFUSED;	/* it has said why */
	rc = broker_says(m, "seal", m->session, m->hex, &none);
	if (rc == SP_EXIT_OK && write(m->go, "\n", 1) != 1)
		rc = SP_EXIT_REFUSED;
	return rc;
}

static int
end(struct making *m, int rc)
{
	int status = 0;

	close(m->go);
	close(m->said);
	while (waitpid(m->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc != SP_EXIT_OK)
		return rc;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? SP_EXIT_OK :
	    SP_EXIT_REFUSED;
}

int
sp_cmd_evidence(struct sp_cli *c, int argc, char **argv)
{
	struct making m = {.c = c, .rows = -1, .pid = -1,
	    .out = sp_cli_value(&argc, argv, "--out")};
	const char *given = sp_cli_value(&argc, argv, "--key");
	char key[4096];
	int rc;

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 2 || m.out == NULL)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport evidence SESSION "
		    "--out FILE.tar [--key HEX|FILE]");
	if (access(m.out, F_OK) == 0)
		return sp_cli_fail(SP_EXIT_USAGE, "%s is there already", m.out);
	if (given != NULL)
		snprintf(key, sizeof(key), "%s", given);
	else if ((rc = sp_cli_audit_key(c, key)) != SP_EXIT_OK)
		return rc;
	if ((rc = take_rows(&m, argv[1])) != SP_EXIT_OK ||
	    (rc = begin(&m, key)) != SP_EXIT_OK)
		return rc;
	rc = end(&m, seal(&m));
	close(m.rows);
	if (rc != SP_EXIT_OK)
		return rc;
	if (c->json)
		printf("{\"id\":\"%s\",\"state\":\"made\",\"manifest\":\"%s\"}\n",
		    m.session, m.hex);
	else
		sp_cli_step("%s: evidence of session %s.\nIts manifest is in the "
		    "transparency log: %s\nAnywhere: sallyport-verify bundle %s --key "
		    "KEY", m.out, m.session, m.hex, m.out);
	return rc;
}
