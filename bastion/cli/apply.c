/* SPDX-License-Identifier: Apache-2.0 */
/* `apply -f`: reads the file, has the broker plan, shows it, asks, has the
 * vault seal what is missing, has the broker apply. `export inventory`. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"
#include "bastion/cli/inventory.h"
#include "common/kinds.h"

#define USAGE "usage: sallyport apply -f FILE [--plan | --yes] [--prune] "       \
	"[--secret-dir DIR] [--json]"
#define POLICY_MAX (1u << 20)

struct apply {
	struct sp_cli *c;
	const char *file, *secret_dir;
	bool prune, yes, plan_only, colour;
	struct sp_inv *inv;
	json_object *plan;
	const char *digest;
};

/* ------------------------------------------------------------------ the file */

static int
at_place(const struct apply *a, size_t line, size_t column, const char *text)
{
	if (line == 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", a->file, text);
	return sp_cli_fail(SP_EXIT_REFUSED, "%s:%zu:%zu: %s", a->file, line, column,
	    text);
}

/* The policy is a file beside this one. */
static int
read_policy(const struct apply *a)
{
	json_object *o = sp_inv_json(a->inv), *v = NULL;
	char dir[4096], path[8192];
	SP_BUF_AUTO text = {.max = POLICY_MAX};
	const char *name;
	size_t line, column;
	enum sp_err e;

	if (!json_object_object_get_ex(o, "policy", &v))
		return SP_EXIT_OK;
	name = json_object_get_string(v);
	snprintf(dir, sizeof(dir), "%s", a->file);
	snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ||
	    strcmp(a->file, "-") == 0 ? "" : dirname(dir), name[0] == '/' ||
	    strcmp(a->file, "-") == 0 ? "" : "/", name);
	sp_inv_where(a->inv, "/policy", &line, &column);
	if ((e = sp_cli_read(path, &text)) != SP_OK) {
		snprintf(dir, sizeof(dir), "the policy %.2000s cannot be read: %s",
		    path, sp_err_text(e));
		return at_place(a, line, column, dir);
	}
	if (text.len == 0 || !sp_utf8_is_valid(sp_buf_span(&text)))
		return at_place(a, line, column, "the policy is empty, or no UTF-8");
	json_object_object_add(o, "policy", json_object_new_string_len(
	    (const char *)sp_buf_span(&text).p, (int)text.len));
	return SP_EXIT_OK;
}

static int
read_file(struct apply *a)
{
	SP_BUF_AUTO text = {.max = SP_INV_BYTES_MAX};
	struct sp_inv_diag d;
	enum sp_err e = strcmp(a->file, "-") == 0 ?
	    sp_cli_read_fd(STDIN_FILENO, &text) : sp_cli_read(a->file, &text);

	if (e != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", a->file,
		    e == SP_ERR_TOOBIG ? "at most 8 MiB" : strerror(errno));
	e = sp_inv_parse(&a->inv, sp_buf_span(&text), &d);
	if (e != SP_OK)
		return at_place(a, d.line, d.column, e == SP_ERR_SYNTAX ? d.text :
		    sp_err_text(e));
	json_object_object_add(sp_inv_json(a->inv), "prune",
	    json_object_new_boolean(a->prune));
	return read_policy(a);
}

/* ---------------------------------------------------------------- the broker */

/* Runs an inventory verb with the inventory on its input; what it says as JSON,
 * or NULL with *rc. */
static json_object *
ask(const struct apply *a, int argc, char *const *argv, int *rc)
{
	const char *text = json_object_to_json_string_ext(sp_inv_json(a->inv),
	    JSON_C_TO_STRING_PLAIN);
	SP_BUF_AUTO out = {.max = 32u << 20};
	int fd = memfd_create("inventory", MFD_CLOEXEC);
	size_t n = strlen(text);
	json_object *o = NULL;

	*rc = SP_EXIT_REFUSED;
	if (fd < 0 || write(fd, text, n) != (ssize_t)n ||
	    lseek(fd, 0, SEEK_SET) != 0) {
		(void)sp_cli_fail(0, "no memory left");
	} else {
		*rc = sp_cli_verb(a->c, argc, argv, fd, &out);
		if (out.len > 0 && sp_buf_put_u8(&out, 0) == SP_OK)
			o = json_tokener_parse((const char *)sp_buf_span(&out).p);
	}
	if (fd >= 0)
		close(fd);
	return o;
}

static void
say_errors(const struct apply *a)
{
	json_object *l = json_object_object_get(a->plan, "errors");
	size_t n = l == NULL ? 0 : json_object_array_length(l);

	for (size_t i = 0; i < n; i++) {
		json_object *e = json_object_array_get_idx(l, i);
		const char *path = sp_cli_text_field(e, "path");
		size_t line, column;
		char text[800];

		sp_inv_where(a->inv, path == NULL ? "" : path, &line, &column);
		snprintf(text, sizeof(text), "%s: %s", path == NULL ? "" : path + 1,
		    sp_cli_text_field(e, "text"));
		(void)at_place(a, line, column, text);
	}
}

static int
make_plan(struct apply *a)
{
	char *argv[] = {(char[]){"inventory"}, (char[]){"plan"}, NULL};
	int rc;

	a->plan = ask(a, 2, argv, &rc);
	if (a->plan == NULL)
		return rc == SP_EXIT_OK ? SP_EXIT_LATER : rc;
	if (rc != SP_EXIT_OK) {
		if (a->c->json)
			printf("%s\n", json_object_to_json_string_ext(a->plan,
			    JSON_C_TO_STRING_PRETTY));
		say_errors(a);
		return rc;
	}
	a->digest = sp_cli_text_field(a->plan, "id");
	return a->digest == NULL ? SP_EXIT_LATER : SP_EXIT_OK;
}

/* -------------------------------------------------------------------- showing */

static const char *
colour_of(const struct apply *a, char mark)
{
	if (!a->colour)
		return "";
	return mark == '+' ? "\x1b[32m" : mark == '-' ? "\x1b[31m" : "\x1b[33m";
}

static char
mark_of(const char *action)
{
	return strcmp(action, "add") == 0 ? '+' :
	    strcmp(action, "disable") == 0 ? '-' : '~';
}

static void
show_change(const struct apply *a, json_object *o, size_t count[static 3])
{
	const char *action = sp_cli_text_field(o, "action");
	json_object *l = json_object_object_get(o, "lines");
	const char *end = a->colour ? "\x1b[0m" : "";
	char mark = mark_of(action == NULL ? "" : action);

	count[mark == '+' ? 0 : mark == '~' ? 1 : 2]++;
	printf("%s%c %s %s%s\n", colour_of(a, mark), mark,
	    sp_vis_str(sp_cli_text_field(o, "object")),
	    sp_vis_str(sp_cli_text_field(o, "name")), end);
	for (size_t i = 0; l != NULL && i < json_object_array_length(l); i++) {
		const char *s = json_object_get_string(
		    json_object_array_get_idx(l, i));
		char safe[2600];

		printf("    %s%s%s\n", colour_of(a, s[0]),
		    sp_vis(safe, sizeof(safe), sp_span_str(s)), end);
	}
}

/* How many changes it has. */
static size_t
show_plan(const struct apply *a)
{
	json_object *l = json_object_object_get(a->plan, "changes");
	json_object *notes = json_object_object_get(a->plan, "notes");
	size_t n = json_object_array_length(l), count[3] = {0};

	if (a->c->json)
		return n;
	for (size_t i = 0; i < n; i++)
		show_change(a, json_object_array_get_idx(l, i), count);
	for (size_t i = 0; n > 0 && i < json_object_array_length(notes); i++)
		printf("note: %s\n", sp_vis_str(json_object_get_string(
		    json_object_array_get_idx(notes, i))));
	if (n > 0)
		printf("%zu to add, %zu to change, %zu to disable.\n", count[0],
		    count[1], count[2]);
	else
		printf("Nothing to do: all is as the inventory says.\n");
	return n;
}

static bool
agreed(void)
{
	char line[16] = "";

	fprintf(stderr, "Apply this? [y/N] ");
	return fgets(line, sizeof(line), stdin) != NULL &&
	    (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0);
}

/* -------------------------------------------------------------------- secrets */

static int
read_one(const struct apply *a, const char *where, struct sp_new_secret *n,
    struct sp_buf *clear)
{
	char path[4096], prompt[120];
	enum sp_err e;

	if (n->generate)
		return SP_EXIT_OK;
	if (a->secret_dir != NULL) {
		snprintf(path, sizeof(path), "%s/%s", a->secret_dir, where);
		if ((e = sp_cli_read(path, clear)) != SP_OK)
			return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", path,
			    sp_err_text(e));
		while ((n->kind->flags & SP_KIND_FILE) == 0 && clear->len > 0 &&
		    sp_buf_span(clear).p[clear->len - 1] == '\n')
			clear->len--;
		return SP_EXIT_OK;
	}
	if (!isatty(STDIN_FILENO) || (n->kind->flags & SP_KIND_FILE) != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "the %s of %s is to be asked for: "
		    "put it into DIR/%s and say --secret-dir DIR, or say secret: "
		    "keep and set it later: sallyport secret set", n->kind->name,
		    where, where);
	snprintf(prompt, sizeof(prompt), "%s of %s: ", n->kind->name, where);
	return sp_cli_secret_line(prompt, clear) == SP_OK && clear->len > 0 ?
	    SP_EXIT_OK : sp_cli_fail(SP_EXIT_USAGE, "nothing was given");
}

static int
seal_one(struct apply *a, json_object *want, json_object *into)
{
	const char *where = sp_cli_text_field(want, "account");
	const char *how = sp_cli_text_field(want, "how");
	const char *owner = sp_cli_text_field(want, "target_id");
	struct sp_new_secret n = {.kind = sp_kind_named(sp_cli_text_field(want,
	    "kind")), .generate = how != NULL && strcmp(how, "generate") == 0};
	struct sp_sealed s = {.hex = {.max = 32768}, .public_key = {.max = 2048}};
	SP_BUF_AUTO clear = {.max = 8192};
	struct sp_msg_vc_secret_new m = {.generate = n.generate};
	char id[SP_UUID_TEXT];
	json_object *o;
	int rc;

	if (where == NULL || owner == NULL || n.kind == NULL || strchr(where, '/') !=
	    NULL || sp_uuid_parse(m.owner, sp_span_str(owner)) != SP_OK)
		return sp_cli_fail(SP_EXIT_LATER, "the broker said something else");
	if ((rc = read_one(a, where, &n, &clear)) != SP_EXIT_OK)
		return rc;
	m.kind = n.kind->number;
	m.version = (uint64_t)json_object_get_int64(
	    json_object_object_get(want, "version"));
	m.clear = sp_buf_span(&clear);
	sp_uuid_make(m.id);
	sp_uuid_text(id, m.id);
	rc = sp_cli_seal(a->c, &n, &m, &s);
	if (rc == SP_EXIT_OK) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_string(id));
		json_object_object_add(o, "version",
		    json_object_new_int64((int64_t)m.version));
		json_object_object_add(o, "sealed", json_object_new_string(
		    (const char *)sp_buf_span(&s.hex).p));
		json_object_object_add(into, where, o);
		if (s.public_key.len > 0)
			sp_cli_print_made(a->c, where, n.kind,
			    sp_buf_span(&s.public_key));
	}
	sp_buf_fini(&s.hex);
	sp_buf_fini(&s.public_key);
	return rc;
}

static int
seal_all(struct apply *a)
{
	json_object *l = json_object_object_get(a->plan, "secrets");
	json_object *sealed = json_object_new_object();
	int rc = SP_EXIT_OK;

	for (size_t i = 0; rc == SP_EXIT_OK && i < json_object_array_length(l); i++)
		rc = seal_one(a, json_object_array_get_idx(l, i), sealed);
	json_object_object_add(sp_inv_json(a->inv), "sealed", sealed);
	json_object_object_add(sp_inv_json(a->inv), "ids",
	    json_object_get(json_object_object_get(a->plan, "ids")));
	return rc;
}

/* --------------------------------------------------------------------- applying */

/* One transaction after the other, each of whole objects: one for up to some
 * hundred rows. What was done is done; an interrupted apply goes on where it
 * was, by applying again. */
static int
run(struct apply *a)
{
	char digest[80];
	int rc;

	snprintf(digest, sizeof(digest), "%s", a->digest);
	for (size_t all = 0;;) {
		char *argv[] = {(char[]){"inventory"}, (char[]){"apply"}, digest,
		    NULL};
		json_object *o = ask(a, 3, argv, &rc);
		int64_t left;

		if (o == NULL || rc != SP_EXIT_OK) {
			json_object_put(o);
			return rc == SP_EXIT_OK ? SP_EXIT_LATER : rc;
		}
		left = json_object_get_int64(json_object_object_get(o, "left"));
		all += (size_t)json_object_get_int64(
		    json_object_object_get(o, "done"));
		snprintf(digest, sizeof(digest), "%s", sp_cli_text_field(o, "id"));
		json_object_put(o);
		if (left == 0) {
			if (!a->c->json)
				printf("%zu applied.\n", all);
			return SP_EXIT_OK;
		}
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "%zu applied, %lld to go\n", all,
			    (long long)left);
	}
}

static int
finish(struct apply *a, size_t n)
{
	int rc = SP_EXIT_OK;
	const char *state = "unchanged";

	if (n > 0 && a->plan_only) {
		state = "planned";
	} else if (n > 0) {
		state = "applied";
		if (!a->yes && (a->c->json || !isatty(STDIN_FILENO)))
			return sp_cli_fail(SP_EXIT_USAGE, "nothing was applied: say "
			    "--yes to apply this, or --plan to look only");
		if (!a->yes && !agreed())
			return sp_cli_fail(SP_EXIT_REFUSED, "nothing was applied");
		rc = seal_all(a);
		if (rc == SP_EXIT_OK)
			rc = run(a);
	}
	if (rc == SP_EXIT_OK && a->c->json) {
		json_object_object_del(a->plan, "ids");
		json_object_object_add(a->plan, "state",
		    json_object_new_string(state));
		printf("%s\n", json_object_to_json_string_ext(a->plan,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	}
	return rc;
}

int
sp_cmd_apply(struct sp_cli *c, int argc, char **argv)
{
	struct apply a = {.c = c, .file = sp_cli_value(&argc, argv, "-f"),
	    .secret_dir = sp_cli_value(&argc, argv, "--secret-dir"),
	    .prune = sp_cli_flag(&argc, argv, "--prune"),
	    .yes = sp_cli_flag(&argc, argv, "--yes"),
	    .plan_only = sp_cli_flag(&argc, argv, "--plan")};
	const char *no_color = getenv("NO_COLOR");
	int rc;

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 1 || a.file == NULL || (a.yes && a.plan_only))
		return sp_cli_fail(SP_EXIT_USAGE, USAGE);
	a.colour = isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0');
	rc = read_file(&a);
	if (rc == SP_EXIT_OK)
		rc = make_plan(&a);
	if (rc == SP_EXIT_OK)
		rc = finish(&a, show_plan(&a));
	json_object_put(a.plan);
	sp_inv_free(a.inv);
	return rc;
}

/* ---------------------------------------------------------------------- export */

/* Beside the inventory; what is there is not written over unless it is that. */
static int
write_policy(const char *file, const char *body)
{
	SP_BUF_AUTO old = {.max = POLICY_MAX};
	size_t n = strlen(body);
	int fd;

	if (sp_cli_read(file, &old) == SP_OK)
		return sp_span_is(sp_buf_span(&old), body) ? SP_EXIT_OK :
		    sp_cli_fail(SP_EXIT_REFUSED, "%s is there already, and is another "
		    "text", file);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, body, n) != (ssize_t)n || close(fd) != 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", file, strerror(errno));
	return SP_EXIT_OK;
}

int
sp_cmd_export_inventory(struct sp_cli *c, int argc, char **argv)
{
	const char *policy = sp_cli_value(&argc, argv, "--policy");
	char *verb[] = {(char[]){"inventory"}, (char[]){"export"}, (char[]){"--json"},
	    NULL};
	SP_BUF_AUTO out = {.max = 32u << 20}, yaml = {.max = 32u << 20};
	json_object *o = NULL;
	const char *body;
	int rc;

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 2)
		return sp_cli_fail(SP_EXIT_USAGE,
		    "usage: sallyport export inventory [--policy FILE] [--json]");
	rc = sp_cli_verb(c, 3, verb, -1, &out);
	if (rc == SP_EXIT_OK && (sp_buf_put_u8(&out, 0) != SP_OK || (o =
	    json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL))
		rc = SP_EXIT_LATER;
	body = sp_cli_text_field(o, "policy");
	if (rc == SP_EXIT_OK && policy != NULL && body == NULL)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "no policy holds");
	else if (rc == SP_EXIT_OK && policy != NULL)
		rc = write_policy(policy, body);
	if (rc == SP_EXIT_OK && c->json) {
		printf("%s\n", json_object_to_json_string_ext(o,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	} else if (rc == SP_EXIT_OK) {
		const char *base = policy == NULL ? NULL : strrchr(policy, '/');

		if (sp_inv_write(&yaml, o, base == NULL ? policy : base + 1) != SP_OK)
			rc = sp_cli_fail(SP_EXIT_REFUSED, "it is too large");
		else
			(void)!fwrite(sp_buf_span(&yaml).p, 1, yaml.len, stdout);
	}
	json_object_put(o);
	return rc;
}
