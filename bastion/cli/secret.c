/* SPDX-License-Identifier: Apache-2.0 */
/* `secret add` and `secret set`: the vault seals the next version, the broker
 * gets what is sealed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"
#include "common/kinds.h"

#define USAGE "usage: sallyport secret set ACCOUNT@TARGET --password-stdin | "   \
	"--key-file FILE [--passphrase-file FILE] | --key-stdin | --generate | "     \
	"--postgresql-stdin [--verifier-file FILE] | --kind postgresql --generate "  \
	"| --mariadb-stdin [--plugin ed25519|native] | --kind mariadb --generate"

/* What stands there now: the owner, and the version that the next one has. */
static int
look(const struct sp_cli *c, const char *where, bool is_add,
    struct sp_msg_vc_secret_new *m)
{
	char *argv[] = {(char[]){"secret"}, (char[]){"show"},
	    (char *)(uintptr_t)where, (char[]){"--json"}, NULL};
	int rc;
	json_object *o = sp_cli_ask_json(c, 4, argv, &rc), *v = NULL;
	const char *id = sp_cli_text_field(o, "id");
	const char *owner = sp_cli_text_field(o, "target_id");

	if (rc == SP_EXIT_OK && (owner == NULL ||
	    sp_uuid_parse(m->owner, sp_span_str(owner)) != SP_OK))
		rc = sp_cli_fail(SP_EXIT_LATER, "the broker said something else");
	m->version = 1;
	sp_uuid_make(m->id);
	if (rc == SP_EXIT_OK && id != NULL && is_add)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "%s has a secret already; to "
		    "replace it: sallyport secret set %s", where, where);
	else if (rc == SP_EXIT_OK && json_object_object_get_ex(o, "next_version", &v))
		m->version = (uint64_t)json_object_get_int64(v);
	json_object_put(o);
	return rc;
}

static int
store(const struct sp_cli *c, const char *where, const char *kind,
    const struct sp_msg_vc_secret_new *m, const struct sp_sealed *s)
{
	char id[SP_UUID_TEXT], version[24];
	char *argv[] = {(char[]){"secret"}, (char[]){"store"},
	    (char *)(uintptr_t)where, (char[]){"--kind"}, (char *)(uintptr_t)kind,
	    (char[]){"--id"}, id, (char[]){"--version"}, version,
	    (char[]){"--sealed"}, (char *)(uintptr_t)sp_buf_span(&s->hex).p,
	    c->json ? (char[]){"--json"} : NULL, NULL};

	sp_uuid_text(id, m->id);
	snprintf(version, sizeof(version), "%llu", (unsigned long long)m->version);
	return sp_cli_verb(c, c->json ? 12 : 11, argv, -1, NULL);
}

static int
set(const struct sp_cli *c, const char *where, const struct sp_new_secret *n,
    bool is_add)
{
	SP_BUF_AUTO clear = {.max = 8192};
	struct sp_sealed s = {.hex = {.max = 32768}, .public_key = {.max = 2048}};
	struct sp_msg_vc_secret_new m = {.generate = n->generate,
	    .kind = n->kind->number};
	int rc = look(c, where, is_add, &m);

	if (rc == SP_EXIT_OK)
		rc = sp_cli_read_secret(n, &clear);
	m.clear = sp_buf_span(&clear);
	if (rc == SP_EXIT_OK)
		rc = sp_cli_seal(c, n, &m, &s);
	if (rc == SP_EXIT_OK)
		rc = store(c, where, n->kind->name, &m, &s);
	if (rc == SP_EXIT_OK && s.public_key.len > 0)
		sp_cli_print_made(c, where, n->kind, sp_buf_span(&s.public_key));
	sp_buf_fini(&s.hex);
	sp_buf_fini(&s.public_key);
	return rc;
}

/* The kind whose --KIND-stdin is there, or the one that is named; NULL: two. */
static const struct sp_kind *
take_kind(struct sp_new_secret *n, int *argc, char **argv)
{
	const char *name = sp_cli_value(argc, argv, "--kind");
	const struct sp_kind *k, *found = name == NULL ? NULL :
	    sp_kind_named(name);
	char flag[64];

	if (name != NULL && (found == NULL || !sp_kind_is(found->number,
	    SP_KIND_ACCOUNT | SP_KIND_STORED)))
		return NULL;
	for (size_t i = 0; (k = sp_kind_nth(SP_KIND_ACCOUNT | SP_KIND_STORED, i)) !=
	    NULL; i++) {
		snprintf(flag, sizeof(flag), "--%s-stdin", k->name);
		if (!sp_cli_flag(argc, argv, flag))
			continue;
		if (n->from_stdin || (found != NULL && found != k))
			return NULL;
		n->from_stdin = true;
		found = k;
	}
	return found != NULL ? found : sp_kind_find(SP_CRED_SSH_KEY);
}

int
sp_cmd_secret(struct sp_cli *c, int argc, char **argv)
{
	struct sp_new_secret n = {
	    .generate = sp_cli_flag(&argc, argv, "--generate"),
	    .key_file = sp_cli_value(&argc, argv, "--key-file"),
	    .pass_file = sp_cli_value(&argc, argv, "--passphrase-file")};

	(void)sp_cli_flag(&argc, argv, "--json");
	n.kind = take_kind(&n, &argc, argv);
	if (n.kind != NULL)
		sp_cli_take_proof(&n, &argc, argv);
	if (n.kind == NULL || argc != 3 || argv[2][0] == '-' ||
	    n.from_stdin + n.generate + (n.key_file != NULL) != 1 ||
	    (n.key_file != NULL && n.kind->number != SP_CRED_SSH_KEY))
		return sp_cli_fail(SP_EXIT_USAGE, USAGE);
	return set(c, argv[2], &n, strcmp(argv[1], "add") == 0);
}
