/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `files SESSION|FILE|- --extract DIR`: the bodies of a session's files, out of
 * an export of its records (of a bastion, of a recording that lies here, or of
 * standard input), written where they stood and compared with the SHA-256 that
 * the recorder made as they passed. What was recorded is hostile: a name becomes
 * a number and what of it is harmless.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/identity.h"
#include "common/text.h"

#define NOTES_MAX 4096		/* that wait for the bytes before them */
#define NAME_KEPT 80
#define PIECE 65536

struct note {
	uint64_t us, number, offset, bytes;
	bool is_up, is_close, is_whole, has_hash;
	char path[600], sha256[65];
};

struct extract {
	int dir;
	bool json;
	struct note *note;
	size_t n_notes, done, bad;
};

static const char *
text_of(json_object *o, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	    json_object_is_type(v, json_type_string) ?
	    json_object_get_string(v) : "";
}

static uint64_t
number_of(json_object *o, const char *key)
{
	json_object *v;
	int64_t n = json_object_object_get_ex(o, key, &v) &&
	    json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;

	return n < 0 ? 0 : (uint64_t)n;
}

static bool
is_set(json_object *o, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	    json_object_get_boolean(v) != 0;
}

/* ------------------------------------------------------------------ files */

static void
part_name(char dst[static 64], uint64_t number, bool is_up)
{
	snprintf(dst, 64, "%llu-%s.part", (unsigned long long)number,
	    is_up ? "up" : "down");
}

static enum sp_err
write_at(struct extract *x, const char *name, uint64_t at, struct sp_span s)
{
	int fd = openat(x->dir, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
	    0600);
	ssize_t n;

	if (fd < 0)
		return SP_ERR_IO;
	while (s.n > 0) {
		n = pwrite(fd, s.p, s.n, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += (uint64_t)n;
		s = sp_span_of(s.p + n, s.n - (size_t)n);
	}
	close(fd);
	return s.n == 0 ? SP_OK : SP_ERR_IO;
}

/* The SHA-256 of what now stands there; shorter is another one. */
static bool
hash_range(struct extract *x, const char *name, const struct note *n,
    char hex[static 65])
{
	static uint8_t piece[PIECE];
	crypto_hash_sha256_state st;
	uint8_t out[32];
	uint64_t at = n->offset, left = n->bytes;
	int fd = openat(x->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	crypto_hash_sha256_init(&st);
	while (left > 0 && fd >= 0) {
		ssize_t k = pread(fd, piece, left < PIECE ? (size_t)left : PIECE,
		    (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		crypto_hash_sha256_update(&st, piece, (unsigned long long)k);
		at += (uint64_t)k;
		left -= (uint64_t)k;
	}
	sp_close_fds(&fd, 1);
	crypto_hash_sha256_final(&st, out);
	sp_hex(hex, out, 32);
	return left == 0;
}

static void
final_name(char *dst, size_t cap, const struct note *n)
{
	const char *base = strrchr(n->path, '/');
	int at = snprintf(dst, cap, "%llu-%s-", (unsigned long long)n->number,
	    n->is_up ? "up" : "down");

	base = base == NULL ? n->path : base + 1;
	for (size_t i = 0; base[i] != '\0' && i < NAME_KEPT &&
	    (size_t)at + 1 < cap; i++) {
		char c = base[i];
		bool is_safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '_' || c == '-' ||
		    (c == '.' && i > 0);

		dst[at++] = is_safe ? c : '_';
	}
	dst[at] = '\0';
}

static void
say(struct extract *x, const struct note *n, const char *name, const char *what)
{
	char path[1200];
	json_object *o;

	if (!x->json) {
		printf("%s  %s  %llu bytes  %s  %s\n", what, n->has_hash ?
		    n->sha256 : "-", (unsigned long long)n->bytes, name,
		    sp_vis(path, sizeof(path), sp_span_str(n->path)));
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "result", json_object_new_string(what));
	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_object_add(o, "path", json_object_new_string(n->path));
	json_object_object_add(o, "sha256", n->has_hash ?
	    json_object_new_string(n->sha256) : NULL);
	json_object_object_add(o, "bytes", json_object_new_int64(
	    (int64_t)n->bytes));
	json_object_object_add(o, "whole", json_object_new_boolean(n->is_whole));
	printf("%s\n", json_object_to_json_string_ext(o,
	    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

/* An extent, or a file, is over: is it what passed? */
static enum sp_err
check(struct extract *x, const struct note *n)
{
	char part[64], name[200], hex[65];
	bool fits = true;

	part_name(part, n->number, n->is_up);
	if (n->bytes > 0 && faccessat(x->dir, part, F_OK,
	    AT_SYMLINK_NOFOLLOW) != 0) {
		if (n->is_close)
			say(x, n, "-", "not kept");
		return SP_OK;
	}
	if (n->has_hash)
		fits = (n->bytes == 0 || hash_range(x, part, n, hex)) &&
		    (n->bytes == 0 || strcmp(hex, n->sha256) == 0);
	if (!n->is_close) {
		x->bad += !fits;
		return SP_OK;
	}
	final_name(name, sizeof(name), n);
	if (n->bytes == 0)	/* none of it passed, or it was empty */
		SP_TRY(write_at(x, part, 0, (struct sp_span){0}));
	if (renameat(x->dir, part, x->dir, name) != 0) {
		say(x, n, "-", "not kept");
		return SP_OK;
	}
	x->done++;
	x->bad += !fits;
	say(x, n, name, fits ? n->has_hash ? "good" : "unhashed" : "DIFFERS");
	return SP_OK;
}

/* ---------------------------------------------------------------- records */

/* Lanes stand one behind the other in the file: a note waits until the bytes
 * that came before it are there. */
static enum sp_err
notes_until(struct extract *x, uint64_t us)
{
	size_t n = 0;

	while (n < x->n_notes && x->note[n].us < us)
		SP_TRY(check(x, &x->note[n++]));
	x->n_notes -= n;
	memmove(x->note, x->note + n, x->n_notes * sizeof(*x->note));
	return SP_OK;
}

static enum sp_err
on_note(struct extract *x, json_object *o, json_object *f)
{
	struct note *n = &x->note[x->n_notes];
	const char *op = text_of(f, "op"), *way = text_of(f, "way");

	if (is_set(f, "so_far") || (strcmp(op, "extent") != 0 &&
	    strcmp(op, "close") != 0) || (strcmp(way, "upload") != 0 &&
	    strcmp(way, "download") != 0))
		return SP_OK;
	if (x->n_notes == NOTES_MAX)
		SP_TRY(notes_until(x, x->note[0].us + 1));
	n = &x->note[x->n_notes++];
	*n = (struct note){.us = number_of(o, "us"), .number = number_of(f,
	    "number"), .offset = number_of(f, "offset"), .bytes = number_of(f,
	    "bytes"), .is_up = way[0] == 'u', .is_close = op[0] == 'c',
	    .is_whole = is_set(f, "whole")};
	snprintf(n->path, sizeof(n->path), "%s", text_of(f, "path"));
	snprintf(n->sha256, sizeof(n->sha256), "%s", text_of(f, "sha256"));
	n->has_hash = strlen(n->sha256) == 64;
	return SP_OK;
}

static enum sp_err
on_body(struct extract *x, json_object *o)
{
	const char *data = text_of(o, "data");
	size_t n = strlen(data), got = 0;
	uint8_t *raw = malloc(n + 1), dir = 0;
	struct sp_span s;
	uint32_t file = 0;
	uint64_t at = 0;
	char name[64];
	enum sp_err e = raw == NULL ? SP_ERR_NOMEM : notes_until(x,
	    number_of(o, "us"));

	if (e == SP_OK && sodium_base642bin(raw, n + 1, data, n, NULL, &got, NULL,
	    sodium_base64_VARIANT_ORIGINAL) != 0)
		e = SP_ERR_PROTO;
	s = sp_span_of(raw, got);
	if (e == SP_OK)
		e = sp_get_u8(&s, &dir);
	if (e == SP_OK)
		e = sp_get_u32(&s, &file);
	if (e == SP_OK)
		e = sp_get_u64(&s, &at);
	if (e == SP_OK && at > (UINT64_C(1) << 62))
		e = SP_ERR_PROTO;
	part_name(name, file, dir == 1);
	if (e == SP_OK)
		e = write_at(x, name, at, s);
	free(raw);
	return e;
}

static enum sp_err
on_line(struct extract *x, const char *line)
{
	json_object *o = json_tokener_parse(line), *f;
	enum sp_err e = SP_OK;

	if (o == NULL || !json_object_is_type(o, json_type_object))
		e = SP_ERR_PROTO;
	else if (strcmp(text_of(o, "kind"), "body") == 0)
		e = on_body(x, o);
	else if (json_object_object_get_ex(o, "file", &f) &&
	    json_object_is_type(f, json_type_object))
		e = on_note(x, o, f);
	json_object_put(o);
	return e;
}

static enum sp_err
read_all(struct extract *x, FILE *in)
{
	char *line = NULL;
	size_t cap = 0;
	enum sp_err e = SP_OK;

	if ((x->note = calloc(NOTES_MAX, sizeof(*x->note))) == NULL)
		return SP_ERR_NOMEM;
	while (e == SP_OK && getline(&line, &cap, in) > 0)
		e = on_line(x, line);
	if (e == SP_OK)
		e = notes_until(x, UINT64_MAX);
	free(line);
	free(x->note);
	return e;
}

/* -------------------------------------------------------------------- command */

/* The same program, exporting: whatever it asks of the user it asks itself. */
static FILE *
export_of(struct sp_cli *c, int argc, char **argv, pid_t *pid)
{
	char exe[] = "/proc/self/exe", name[] = "sallyport", d[] = "-D";
	char export[] = "export", format[] = "--format=records";
	char *args[40] = {name, d, c->dir, export};
	int pair[2], n = 4;

	for (int i = 1; i < argc && n < 38; i++)
		args[n++] = argv[i];
	args[n] = format;
	if (pipe2(pair, O_CLOEXEC) != 0)
		return NULL;
	*pid = fork();
	if (*pid == 0) {
		if (dup2(pair[1], STDOUT_FILENO) >= 0)
			execv(exe, args);
		_exit(126);
	}
	close(pair[1]);
	return *pid < 0 ? NULL : fdopen(pair[0], "r");
}

static int
judge(const struct extract *x, enum sp_err e, int status)
{
	if (e != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "these are no records of a "
		    "session, or they cannot be written: %s", sp_err_text(e));
	if (status != 0)
		return WIFEXITED(status) ? WEXITSTATUS(status) : SP_EXIT_REFUSED;
	if (x->bad > 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%zu of what was recorded is not "
		    "what passed", x->bad);
	if (x->done == 0)
		sp_cli_step("No body of a file is in it, or none that you may open.");
	return SP_EXIT_OK;
}

int
sp_cmd_extract(struct sp_cli *c, int argc, char **argv)
{
	struct extract x = {.dir = -1, .json = c->json};
	const char *dir = sp_cli_value(&argc, argv, "--extract");
	pid_t pid = -1;
	int status = 0;
	enum sp_err e;
	FILE *in;

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc < 2 || dir == NULL)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport files "
		    "SESSION|FILE|- --extract DIR [--identity FILE ...] [--json]");
	if (sodium_init() < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "no cryptography");
	if (mkdir(dir, 0700) != 0 || (x.dir = open(dir, O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC)) < 0)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s (it must not be there yet)",
		    dir, strerror(errno));
	in = strcmp(argv[1], "-") == 0 ? stdin : export_of(c, argc, argv, &pid);
	e = in == NULL ? SP_ERR_IO : read_all(&x, in);
	if (in != NULL && in != stdin)
		fclose(in);
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	close(x.dir);
	return judge(&x, e, status);
}
