/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/out.c, verb_key.c, verb_split.c, verb_facts.c. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/broker/control.h"
#include "bastion/broker/out.h"
#include "bastion/broker/verb.h"
#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_key.h"
#include "tests/support/tmp.h"

static const struct sp_col cols[] = {
	{"id", "ID", SP_COL_NUMBER}, {"who", "WHO", SP_COL_TEXT},
	{"at", "WHEN", SP_COL_TIME}, {"tags", "TAGS", SP_COL_WORDS},
	{"on", "ON", SP_COL_BOOL}, {"secret", NULL, SP_COL_TEXT},
};
#define NOW 1700000000000000LL
#define WANG "\xe7\x8e\x8b\xe5\xb0\x8f\xe6\x98\x8e" /* three wide characters */

static struct sp_list *
sample(void)
{
	struct sp_list *l = sp_list_new(cols, 6);

	sp_list_add(l, (const char *[]){"7", WANG, "1699999820000000", "core db",
	    "t", "x"});
	sp_list_add(l, (const char *[]){"1234", "bob\033[2J", NULL, "", "f", NULL});
	return l;
}

static char *
text_of(const struct sp_list *l, const struct sp_style *st)
{
	SP_BUF_AUTO b = {.max = 65536};

	cr_assert_eq(sp_list_print(l, st, "none", &b), SP_OK);
	return sp_span_dup(sp_buf_span(&b));
}

Test(verb_out, table_aligns_chinese_and_encodes)
{
	struct sp_list *l = sample();
	struct sp_style st = {.now_us = NOW};
	char *t = text_of(l, &st);

	cr_assert_str_eq(t, "  ID  WHO         WHEN    TAGS     ON\n"
	    "   7  " WANG "      3m ago  core db  yes\n"
	    "1234  bob\\x1b[2J  -       -        no\n");
	free(t);
	st.colour = true;
	t = text_of(l, &st);
	cr_assert_not_null(strstr(t, "\033[1mWHO"));
	cr_assert_null(strstr(t, "\033[2J"));
	free(t);
	sp_list_free(l);
}

Test(verb_out, json_has_types_and_no_control)
{
	struct sp_list *l = sample();
	struct sp_style st = {.json = true, .now_us = NOW};
	json_object *a, *o, *v = NULL;
	char *t;

	sp_list_add(l, (const char *[]){"1", "a\xc2\x9b" "1m\xe2\x80\xae\x7f", NULL,
	    "", "f", NULL});
	t = text_of(l, &st);
	cr_assert_not_null(strstr(t, "\\u009b1m\\u202e\\u007f"));
	for (const char *p = t; *p != '\0'; p++)
		cr_assert(*p == '\n' || (unsigned char)*p >= 32);
	a = json_tokener_parse(t);
	cr_assert_eq(json_object_array_length(a), 3);
	o = json_object_array_get_idx(a, 0);
	cr_assert(json_object_object_get_ex(o, "id", &v));
	cr_assert_eq(json_object_get_int64(v), 7);
	cr_assert(json_object_object_get_ex(o, "at", &v));
	cr_assert_str_eq(json_object_get_string(v), "2023-11-14T22:10:20.000000Z");
	cr_assert(json_object_object_get_ex(o, "tags", &v));
	cr_assert_eq(json_object_array_length(v), 2);
	cr_assert(json_object_object_get_ex(o, "on", &v));
	cr_assert(json_object_get_boolean(v));
	cr_assert(json_object_object_get_ex(o, "secret", &v));
	cr_assert_str_eq(json_object_get_string(v), "x");
	o = json_object_array_get_idx(a, 1);
	cr_assert(json_object_object_get_ex(o, "at", &v));
	cr_assert_null(v);
	json_object_put(a);
	free(t);
	sp_list_free(l);
}

Test(verb_out, empty_list_and_one_row)
{
	struct sp_list *l = sp_list_new(cols, 6);
	struct sp_style st = {.now_us = NOW};
	SP_BUF_AUTO b = {.max = 65536};
	char *t = text_of(l, &st);

	cr_assert_str_eq(t, "none\n");
	free(t);
	st.json = true;
	t = text_of(l, &st);
	cr_assert_str_eq(t, "[\n]\n");
	free(t);
	sp_list_free(l);
	l = sample();
	cr_assert_eq(sp_list_print_row(l, 0, &st, &b), SP_OK);
	cr_assert_eq(sp_buf_put_u8(&b, 0), SP_OK);
	cr_assert_not_null(strstr((const char *)sp_buf_span(&b).p,
	    "WHEN  2023-11-14T22:10:20Z (3m ago)\n"));
	sp_list_free(l);
}

Test(verb_out, ages)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {{0, "-"}, {NOW, "now"}, {NOW - 185000000, "3m ago"},
	    {NOW + 4800000000, "in 1h 20m"}, {NOW - 45000000, "45s ago"},
	    {NOW + 172800000000, "in 2d"}};
	char t[SP_TIME_TEXT];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sp_age_text(t, rows[i].us, NOW);
		cr_assert_str_eq(t, rows[i].text);
	}
}

/* ---------------------------------------------------------------- splitting */

Test(verb_split, words_and_quotes)
{
	char *block = NULL, *argv[SP_VERB_ARGS_MAX];
	size_t argc = 0;

	cr_assert_eq(sp_verb_split(sp_span_str("  request a@b --reason \"it's "
	    "\\\"on\\\" fire\" --ticket 'a b'c\\ d '' "), &block, argv, &argc),
	    SP_OK);
	cr_assert_eq(argc, 7);
	cr_assert_str_eq(argv[0], "request");
	cr_assert_str_eq(argv[3], "it's \"on\" fire");
	cr_assert_str_eq(argv[5], "a bc d");
	cr_assert_str_eq(argv[6], "");
	free(block);
	cr_assert_eq(sp_verb_split(sp_span_str(""), &block, argv, &argc), SP_OK);
	cr_assert_eq(argc, 0);
	free(block);
}

Test(verb_split, refuses)
{
	char *block = NULL, *argv[SP_VERB_ARGS_MAX], many[4 * SP_VERB_ARGS_MAX];
	size_t argc = 0;

	cr_assert_eq(sp_verb_split(sp_span_str("a 'b"), &block, argv, &argc),
	    SP_ERR_SYNTAX);
	cr_assert_eq(sp_verb_split(sp_span_of("a\0b", 3), &block, argv, &argc),
	    SP_ERR_INVAL);
	memset(many, ' ', sizeof(many));
	for (size_t i = 0; i < sizeof(many); i += 2)
		many[i] = 'x';
	cr_assert_eq(sp_verb_split(sp_span_of(many, sizeof(many)), &block, argv,
	    &argc), SP_ERR_TOOBIG);
	cr_assert_eq(sp_verb_split(sp_span_of(many, 2 * SP_VERB_ARGS_MAX), &block,
	    argv, &argc), SP_OK);
	cr_assert_eq(argc, SP_VERB_ARGS_MAX);
	free(block);
}

Test(verb_split, control_argv)
{
	SP_BUF_AUTO b = {.max = 65536};
	char *block = NULL, *argv[SP_VERB_ARGS_MAX];
	size_t argc = 0;

	cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("show")), SP_OK);
	cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("")), SP_OK);
	cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("42")), SP_OK);
	cr_assert_eq(sp_control_argv(sp_buf_span(&b), &block, argv, &argc), SP_OK);
	cr_assert_eq(argc, 3);
	cr_assert_str_eq(argv[0], "show");
	cr_assert_str_eq(argv[1], "");
	cr_assert_str_eq(argv[2], "42");
	free(block);
	cr_assert_eq(sp_buf_put_u8(&b, 1), SP_OK);
	cr_assert_eq(sp_control_argv(sp_buf_span(&b), &block, argv, &argc),
	    SP_ERR_PROTO);
	sp_buf_reset(&b);
	for (size_t i = 0; i <= SP_VERB_ARGS_MAX; i++)
		cr_assert_eq(sp_buf_put_bytes(&b, sp_span_str("x")), SP_OK);
	cr_assert_eq(sp_control_argv(sp_buf_span(&b), &block, argv, &argc),
	    SP_ERR_PROTO);
}

/* --------------------------------------------------------------------- keys */

/* Runs ssh-keygen with its output in a buffer; returns its exit status. */
static int
keygen(const char *const *args, char *out, size_t cap)
{
	int p[2], status = -1;
	size_t o = 0;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		execvp("ssh-keygen", (char *const *)(uintptr_t)args);
		_exit(127);
	}
	close(p[1]);
	while (o + 1 < cap && (n = read(p[0], out + o, cap - 1 - o)) > 0)
		o += (size_t)n;
	out[o] = '\0';
	close(p[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Makes a key; our fingerprint must be that of ssh-keygen -l. */
static void
check_key(const char *dir, const char *type, const char *bits, bool good)
{
	char path[64], pub[80], out[512], line[4096], fp[SP_FINGERPRINT_TEXT];
	struct sp_pubkey k;
	const char *why = "";
	enum sp_err e;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s%s", dir, type, bits);
	snprintf(pub, sizeof(pub), "%s.pub", path);
	cr_assert_eq(keygen((const char *[]){"ssh-keygen", "-q", "-t", type, "-b",
	    bits, "-N", "", "-C", WANG " me", "-f", path, NULL}, out,
	    sizeof(out)), 0);
	f = fopen(pub, "re");
	cr_assert_not_null(f);
	cr_assert_not_null(fgets(line, sizeof(line), f));
	fclose(f);
	e = sp_pubkey_parse(sp_span_str(line), &k, &why);
	cr_assert_eq(e, good ? SP_OK : SP_ERR_SYNTAX, "%s: %s", type, why);
	if (good) {
		cr_assert_str_eq(k.comment, WANG " me");
		sp_fingerprint(fp, sp_span_of(k.blob, k.n));
		cr_assert_eq(keygen((const char *[]){"ssh-keygen", "-l", "-f",
		    pub, NULL}, out, sizeof(out)), 0);
		cr_assert_not_null(strstr(out, fp), "%s not in %s", fp, out);
	}
	unlink(path);
	unlink(pub);
}

Test(verb_key, like_ssh_keygen)
{
	char dir[64] = "";

	cr_assert_not_null(mkdtemp(tmp_name(dir, sizeof(dir), "sp-key")));
	check_key(dir, "ed25519", "256", true);
	check_key(dir, "ecdsa", "256", true);
	check_key(dir, "ecdsa", "384", true);
	check_key(dir, "ecdsa", "521", true);
	check_key(dir, "rsa", "2048", true);
	check_key(dir, "rsa", "1024", false);
	rmdir(dir);
}

#define ED "AAAAC3NzaC1lZDI1NTE5AAAAI"
Test(verb_key, refuses_what_is_not_exact)
{
	static const char *const bad[] = {"", "ssh-ed25519", "ssh-ed25519 !!!!",
	    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAHwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4=",
	    "ssh-ed25519 " ED "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAA==",
	    "ssh-rsa " ED "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
	    "cert-authority ssh-ed25519 " ED "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
	    "ssh-dss AAAAB3NzaC1kc3MAAAAA",
	    "ssh-ed25519 " ED "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a\nb"};
	struct sp_pubkey k;
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		cr_assert_eq(sp_pubkey_parse(sp_span_str(bad[i]), &k, &why),
		    SP_ERR_SYNTAX, "row %zu", i);
		cr_assert_not_null(why);
	}
	cr_assert_eq(sp_pubkey_parse(sp_span_str("  ssh-ed25519  " ED
	    "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\t\n"), &k, &why), SP_OK);
	cr_assert_str_eq(k.comment, "");
}

/* -------------------------------------------------------------------- facts */

Test(verb_facts, times)
{
	static const struct {
		const char *text;
		int64_t s;	/* -1: refused */
	} rows[] = {{"2023-11-14T22:13:20Z", 1700000000},
	    {"2023-11-15T06:13:20+08:00", 1700000000},
	    {"2023-11-14T17:13:20.5-05:00", 1700000000},
	    {"2023-11-14", -1}, {"2023-11-14T22:13:20", -1},
	    {"2023-11-14T22:13:20+8", -1}, {"yesterday", -1}};
	int64_t us = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum sp_err e = sp_time_parse(rows[i].text, &us);

		cr_assert_eq(e, rows[i].s < 0 ? SP_ERR_SYNTAX : SP_OK, "%s",
		    rows[i].text);
		cr_assert(rows[i].s < 0 || us == rows[i].s * 1000000);
	}
}

Test(verb_facts, tags_and_groups)
{
	struct sp_known k;

	sp_known_set(&k, "alice", "core-01", "admin", "core  db");
	sp_known_group(&k, "dba");
	sp_known_when(&k, NOW, "10.0.0.1", 1);
	cr_assert_eq(k.f.n_tags, 2);
	cr_assert_str_eq(k.f.tags[1], "db");
	cr_assert_eq(k.f.n_groups, 1);
	cr_assert_eq(k.f.mfa, 1);
	cr_assert_geq(k.f.minute_of_day, 0);
}

/* What does not fit is not forgotten: the list ends with NULL. */
Test(verb_facts, lists_that_are_cut_say_so)
{
	struct sp_known k;
	struct sp_actor a = {.n_groups = 0};
	char text[2048] = "", name[16];

	for (size_t i = 0; i < 300; i++)
		memcpy(text + 2 * i, "a ", 3);
	sp_known_set(&k, "u", "t", "a", text);
	cr_assert_gt(k.f.n_tags, 0);
	cr_assert_null(k.f.tags[k.f.n_tags - 1]);
	memset(text, 'x', 600);
	text[600] = '\0';
	sp_known_set(&k, "u", "t", "a", text);
	cr_assert_eq(k.f.n_tags, 1);
	cr_assert_null(k.f.tags[0]);
	text[511] = '\0';
	sp_known_set(&k, "u", "t", "a", text);
	cr_assert_eq(k.f.n_tags, 1);
	cr_assert_str_eq(k.f.tags[0], text);
	for (int i = 0; i < SP_KNOWN_GROUPS; i++)
		sp_known_group(&k, "g");
	cr_assert_eq(k.f.n_groups, SP_KNOWN_GROUPS);
	cr_assert_not_null(k.f.groups[SP_KNOWN_GROUPS - 1]);
	sp_known_group(&k, "one-more");
	sp_known_group(&k, "and-another");
	cr_assert_eq(k.f.n_groups, SP_KNOWN_GROUPS + 1);
	cr_assert_null(k.f.groups[SP_KNOWN_GROUPS]);

	for (int i = 0; i < 32; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		sp_actor_add_group(&a, sp_span_str(name));
	}
	cr_assert_not(a.more_groups);
	sp_actor_add_group(&a, sp_span_str("guests"));
	cr_assert(a.more_groups);
	sp_known_set(&k, "u", "t", "a", "core");
	sp_known_actor(&k, &a);
	cr_assert_eq(k.f.n_groups, 33);
	cr_assert_null(k.f.groups[32]);
	sp_actor_no_groups(&a);
	cr_assert_not(a.more_groups);
	sp_actor_add_group(&a, sp_span_str("no name at all"));
	cr_assert(a.more_groups);
}
