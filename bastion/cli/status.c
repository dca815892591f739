/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

/* Name and parent of a process; false when it is gone. */
static bool
process(pid_t pid, char name[static 64], pid_t *parent)
{
	SP_BUF_AUTO b = {.max = 4096};
	char path[64], text[4096], *open, *close_;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (sp_cli_read(path, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), text, sizeof(text)) != SP_OK ||
	    (open = strchr(text, '(')) == NULL ||
	    (close_ = strrchr(text, ')')) == NULL || strlen(close_) < 4)
		return false;
	snprintf(name, 64, "%.*s", (int)(close_ - open - 1), open + 1);
	*parent = (pid_t)strtol(close_ + 4, NULL, 10);
	/* The kernel cuts names: what it was executed as says more. */
	sp_buf_reset(&b);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if (sp_cli_read(path, &b) == SP_OK && b.len > 1 && b.len < 4000 &&
	    sp_buf_put_u8(&b, 0) == SP_OK) {
		const char *p = (const char *)sp_buf_span(&b).p;
		const char *slash = strrchr(p, '/');

		snprintf(name, 64, "%.60s", slash != NULL ? slash + 1 : p);
	}
	return true;
}

struct role {
	char name[64];
	pid_t pid;
	size_t children;
};

static size_t
roles_of(pid_t daemon, struct role *roles, size_t max)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	size_t n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char name[64];
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10), parent = 0;

		if (pid > 1 && process(pid, name, &parent) && parent == daemon &&
		    n < max) {
			roles[n] = (struct role){.pid = pid};
			snprintf(roles[n++].name, 64, "%s", name);
		}
	}
	if (d != NULL)
		rewinddir(d);
	while (d != NULL && (e = readdir(d)) != NULL) {
		char name[64];
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10), parent = 0;

		if (pid > 1 && process(pid, name, &parent))
			for (size_t i = 0; i < n; i++)
				roles[i].children += roles[i].pid == parent;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

static json_object *
broker_says(const struct sp_cli *c)
{
	SP_BUF_AUTO out = {.max = 65536};
	char *argv[] = {(char[]){"status"}, (char[]){"--json"}, NULL};

	if (sp_cli_verb(c, 2, argv, -1, &out) != 0 ||
	    sp_buf_put_u8(&out, 0) != SP_OK)
		return NULL;
	return json_tokener_parse((const char *)sp_buf_span(&out).p);
}

static json_object *
processes_json(pid_t daemon, const struct role *roles, size_t n)
{
	json_object *a = json_object_new_array(), *o = json_object_new_object();

	json_object_object_add(o, "name", json_object_new_string("sallyportd"));
	json_object_object_add(o, "pid", json_object_new_int64(daemon));
	json_object_object_add(o, "children", json_object_new_int64((int64_t)n));
	json_object_array_add(a, o);
	for (size_t i = 0; i < n; i++) {
		o = json_object_new_object();
		json_object_object_add(o, "name",
		    json_object_new_string(roles[i].name));
		json_object_object_add(o, "pid", json_object_new_int64(roles[i].pid));
		json_object_object_add(o, "children",
		    json_object_new_int64((int64_t)roles[i].children));
		json_object_array_add(a, o);
	}
	return a;
}

static void
print_text(pid_t daemon, const struct role *roles, size_t n, json_object *says)
{
	printf("sallyportd           running, process %d\n", (int)daemon);
	for (size_t i = 0; i < n; i++)
		printf("%-20s process %d, %zu children\n", roles[i].name,
		    (int)roles[i].pid, roles[i].children);
	if (says == NULL)
		return;
	json_object_object_foreach(says, key, v)
		printf("%-20s %s\n", key, v == NULL ? "?" :
		    json_object_get_string(v));
}

int
sp_cmd_status(struct sp_cli *c, int argc, char **argv)
{
	struct role roles[128];
	static struct sp_config cfg;	/* one process, one command */
	json_object *says, *o;
	pid_t daemon;
	size_t n;

	(void)argv;
	if (argc > 1 + c->json)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport status [--json]");
	if (sp_cli_config(c, &cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	daemon = sp_cli_daemon(c, NULL);
	n = daemon == 0 ? 0 : roles_of(daemon, roles, 128);
	says = daemon == 0 ? NULL : broker_says(c);
	if (c->json) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_string(c->dir));
		json_object_object_add(o, "state", json_object_new_string(
		    daemon == 0 ? "stopped" : says == NULL ? "broken" : "running"));
		json_object_object_add(o, "listen",
		    json_object_new_string(cfg.listen));
		json_object_object_add(o, "one_user",
		    json_object_new_boolean(geteuid() != 0));
		json_object_object_add(o, "processes",
		    processes_json(daemon, roles, n));
		json_object_object_add(o, "broker", says);
		printf("%s\n", json_object_to_json_string_ext(o,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	} else if (daemon == 0) {
		printf("%s does not run: sallyport -D %s start\n", c->dir, c->dir);
	} else {
		print_text(daemon, roles, n, says);
		if (geteuid() != 0)
			printf("All processes run as one user: one that is captured "
			    "could signal and trace the others.\n");
		json_object_put(says);
	}
	return daemon == 0 ? SP_EXIT_REFUSED : SP_EXIT_OK;
}
