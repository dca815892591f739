/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/cli/doctor.h"

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

		dr_say(x, FAIL, "seals", NULL, "%s/%s: %s: %s", table, id,
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
void
dr_seals(struct exam *x)
{
	SP_BUF_AUTO out = {.max = 1 << 20};
	char *argv[] = {(char[]){"seals"}, (char[]){"--json"}, NULL};
	int64_t rows = 0, broken = 0;
	json_object *a;
	int rc = sp_cli_verb(x->c, 2, argv, -1, &out);

	if ((rc != SP_EXIT_OK && rc != SP_EXIT_REFUSED) || out.len == 0 ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (a = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL) {
		dr_say(x, FAIL, "seals", "mend what is said above first",
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
		dr_say(x, FAIL, "seals", "somebody changed them without the bastion: "
		    "sallyport doctor --repair",
		    "%lld rows have a broken seal, or are not the version that the "
		    "audit chain says, and count as absent", (long long)broken);
		exam_broken(x);
	} else
		dr_say(x, OK, "seals", NULL, "all %lld sealed rows are as the vault "
		    "sealed them", (long long)rows);
}

/* Old algorithms are a choice; it is to be seen. */
void
dr_targets(struct exam *x)
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
		dr_say(x, WARN, "targets", "when they can do better: sallyport target "
		    "set NAME --legacy off", "%zu may use old algorithms:%s%s", n,
		    (const char *)sp_buf_span(&names).p, n > 10 ? " ..." : "");
	else
		dr_say(x, OK, "targets", NULL, "none may use old algorithms");
}

/* A log that was altered lets nobody in: here stands why. */
void
dr_log(struct exam *x)
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
		dr_say(x, OK, "log", NULL, "transparency log: good, %lld leaves",
		    (long long)json_object_get_int64(size));
	else
		dr_say(x, FAIL, "log", "no session begins; doc/transparency-log.md, "
		    "and keep D/tlog as it is: it is evidence",
		    "transparency log: %s %s", json_object_get_string(state),
		    json_object_get_string(text));
	json_object_put(o);
}

/* A target that still takes what was revoked. */
void
dr_krl(struct exam *x)
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
		dr_say(x, WARN, "krl", "sallyport krl status says why", "%zu of %zu "
		    "targets do not have the newest list of revoked certificates:%s%s",
		    n, all, (const char *)sp_buf_span(&late).p, n > 10 ? " ..." : "");
	else if (all > 0)
		dr_say(x, OK, "krl", NULL, "%zu targets have the list of revoked "
		    "certificates", all);
}


/* What is not in the store of objects yet, and why. */
void
dr_store(struct exam *x)
{
	char text[600];
	int level = sp_cli_store_health(x->c, text, sizeof(text));

	if (level > 0)
		dr_say(x, level == 1 ? OK : level == 2 ? WARN : FAIL, "store",
		    "recordings stay on this disk meanwhile; sallyport recordings "
		    "--unshipped, sallyport vault store-key", "%s", text);
}
