/* SPDX-License-Identifier: Apache-2.0 */
/* doctor --repair: what could be done about rows that do not verify. A seal says
 * that the bastion wrote a row; giving one to a row that somebody else wrote is a
 * person's choice, for each row, by its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

json_object *
sp_cli_broken_rows(const struct sp_cli *c)
{
	char *argv[] = {(char[]){"seals"}, (char[]){"broken"}, (char[]){"--json"},
	    NULL};
	int rc;

	return sp_cli_ask_json(c, 3, argv, &rc);
}

static const char *
field(json_object *o, const char *key)
{
	const char *s = sp_cli_text_field(o, key);

	return s == NULL ? "?" : s;
}

static int
do_it(const struct sp_cli *c, const char *how, const char *table, const char *id)
{
	char *argv[] = {(char[]){"seals"}, (char *)(uintptr_t)how,
	    (char *)(uintptr_t)table, (char *)(uintptr_t)id, NULL};

	return sp_cli_verb(c, 4, argv, -1, NULL);
}

/* "targets/ID=accept" */
static int
by_argument(const struct sp_cli *c, const char *arg)
{
	char table[64], id[40];
	const char *slash = strchr(arg, '/'), *eq = strchr(arg, '=');

	if (slash == NULL || eq == NULL || eq < slash ||
	    (size_t)(slash - arg) >= sizeof(table) ||
	    (size_t)(eq - slash) > sizeof(id) ||
	    (strcmp(eq, "=accept") != 0 && strcmp(eq, "=drop") != 0))
		return sp_cli_fail(SP_EXIT_USAGE, "say it as TABLE/ID=accept or "
		    "TABLE/ID=drop");
	snprintf(table, sizeof(table), "%.*s", (int)(slash - arg), arg);
	snprintf(id, sizeof(id), "%.*s", (int)(eq - slash - 1), slash + 1);
	return do_it(c, eq + 1, table, id);
}

static void
show(json_object *o)
{
	printf("%s/%s\n    %s\n    %s (version %s)\n", field(o, "table"),
	    field(o, "id"), field(o, "what"), field(o, "why"),
	    json_object_to_json_string(json_object_object_get(o, "version")));
}

/* At a terminal: the operator is asked for each; silence changes nothing. */
static int
ask(const struct sp_cli *c, json_object *o)
{
	char line[64] = "";

	printf("    accept: it stays as it stands, under a fresh seal.  drop: it is "
	    "deleted, or stays away.\n    Type accept, drop, or nothing to leave it: ");
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		return SP_EXIT_REFUSED;
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "accept") != 0 && strcmp(line, "drop") != 0) {
		printf("    left as it is\n");
		return SP_EXIT_REFUSED;
	}
	return do_it(c, line, field(o, "table"), field(o, "id"));
}

int
sp_cmd_repair(const struct sp_cli *c, int argc, char **argv)
{
	json_object *a;
	bool asks = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	int rc = SP_EXIT_OK;

	for (int i = 0; i < argc && rc == SP_EXIT_OK; i++)
		rc = by_argument(c, argv[i]);
	if (argc > 0)
		return rc;
	a = sp_cli_broken_rows(c);
	if (a == NULL)
		return sp_cli_fail(SP_EXIT_LATER, "the rows cannot be checked: "
		    "sallyport doctor says why");
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i);

		show(o);
		if (!asks)
			rc = SP_EXIT_REFUSED;
		else if (ask(c, o) != SP_EXIT_OK)
			rc = SP_EXIT_REFUSED;
	}
	if (json_object_array_length(a) == 0)
		printf("Nothing is to be repaired.\n");
	else if (!asks)
		printf("\nNothing was changed. Choose for each: sallyport doctor --repair "
		    "TABLE/ID=accept (it stays\nas it stands, under a fresh seal) or "
		    "TABLE/ID=drop (it is deleted, or stays away).\n");
	json_object_put(a);
	return rc;
}
