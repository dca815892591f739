/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

struct snippet {
	char host[256], port[8];
	const char *name, *identity, *known_hosts;
};

/* The first address that it listens on; what stands for all becomes loopback. */
static bool
first_listen(const char *listen, struct snippet *s)
{
	const char *colon;
	size_t n = strcspn(listen, " ");
	char one[300];

	if (n == 0 || n >= sizeof(one))
		return false;
	memcpy(one, listen, n);
	one[n] = '\0';
	colon = strrchr(one, ':');
	if (colon == NULL || strlen(colon + 1) >= sizeof(s->port))
		return false;
	snprintf(s->port, sizeof(s->port), "%s", colon + 1);
	n = (size_t)(colon - one);
	if (one[0] == '[' && n > 2)
		snprintf(s->host, sizeof(s->host), "%.*s", (int)(n - 2), one + 1);
	else
		snprintf(s->host, sizeof(s->host), "%.*s", (int)n, one);
	if (strcmp(s->host, "0.0.0.0") == 0)
		snprintf(s->host, sizeof(s->host), "127.0.0.1");
	else if (strcmp(s->host, "::") == 0)
		snprintf(s->host, sizeof(s->host), "::1");
	return true;
}

static void
print_common(const struct snippet *s)
{
	if (s->identity != NULL)
		printf("  IdentityFile \"%s\"\n  IdentitiesOnly yes\n", s->identity);
	if (s->known_hosts != NULL)
		printf("  UserKnownHostsFile \"%s\"\n", s->known_hosts);
	/* One key answers for the bastion and for every target behind it. */
	printf("  HostKeyAlias sallyport\n");
}

static void
print_targets(const struct snippet *s, json_object *targets)
{
	for (size_t i = 0; i < json_object_array_length(targets); i++) {
		json_object *o = json_object_array_get_idx(targets, i), *v = NULL;

		if (!json_object_object_get_ex(o, "name", &v) || v == NULL)
			continue;
		printf("\nHost %s\n  HostName %s\n  ProxyJump bastion\n"
		    "  PreferredAuthentications keyboard-interactive,publickey\n",
		    json_object_get_string(v), json_object_get_string(v));
		print_common(s);
	}
}

int
sp_cmd_ssh_config(struct sp_cli *c, int argc, char **argv)
{
	SP_BUF_AUTO out = {.max = 8u << 20}, pub = {.max = 4096};
	char *list[] = {(char[]){"targets"}, (char[]){"list"}, (char[]){"--json"},
	    NULL};
	struct sp_config cfg;
	struct snippet s = {.identity = sp_cli_value(&argc, argv, "--identity"),
	    .known_hosts = sp_cli_value(&argc, argv, "--known-hosts")};
	json_object *targets;
	char path[4096];
	int rc;

	if (argc != 2 || !sp_name_is_valid(sp_span_str(argv[1])))
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport ssh-config NAME "
		    "[--identity FILE] [--known-hosts FILE]");
	s.name = argv[1];
	if (sp_cli_config(c, &cfg) != SP_OK || !first_listen(cfg.listen, &s))
		return SP_EXIT_REFUSED;
	sp_cli_path(c, path, "keys/ssh_host_ed25519_key.pub");
	if (sp_cli_read(path, &pub) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s cannot be read", path);
	rc = sp_cli_verb(c, 3, list, -1, &out);
	if (rc != SP_EXIT_OK || sp_buf_put_u8(&out, 0) != SP_OK)
		return rc;
	targets = json_tokener_parse((const char *)sp_buf_span(&out).p);
	printf("# For ~/.ssh/config of %s. The bastion's key, for a known_hosts "
	    "file:\n#   sallyport %.*s\n\nHost bastion\n  HostName %s\n"
	    "  Port %s\n  User %s\n"
	    "  PreferredAuthentications publickey,keyboard-interactive\n",
	    s.name, (int)strcspn((const char *)sp_buf_span(&pub).p, "\n"),
	    (const char *)sp_buf_span(&pub).p, s.host, s.port, s.name);
	print_common(&s);
	if (targets != NULL)
		print_targets(&s, targets);
	json_object_put(targets);
	return SP_EXIT_OK;
}
