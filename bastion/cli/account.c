/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts with a secret: the vault seals it, the broker gets what is sealed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"
#include "common/kinds.h"

static int
target_id(const struct sp_cli *c, const char *name, uint8_t id[static 16])
{
	char *argv[] = {(char[]){"target"}, (char[]){"show"},
	    (char *)(uintptr_t)name, (char[]){"--json"}, NULL};
	int rc;
	json_object *o = sp_cli_ask_json(c, 4, argv, &rc);
	const char *t = sp_cli_text_field(o, "id");

	if (rc == SP_EXIT_OK &&
	    (t == NULL || sp_uuid_parse(id, sp_span_str(t)) != SP_OK))
		rc = sp_cli_fail(SP_EXIT_LATER, "the broker said something else");
	json_object_put(o);
	return rc;
}

/* The passphrase of a key file that turned out to be encrypted. */
static int
key_passphrase(const char *file, bool key_is_stdin, struct sp_buf *pass)
{
	enum sp_err e;

	if (pass->len > 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "that is not the passphrase of "
		    "the key");
	if (file != NULL) {
		e = sp_cli_read(file, pass);
		while (e == SP_OK && pass->len > 0 &&
		    sp_buf_span(pass).p[pass->len - 1] == '\n')
			pass->len--;
	} else if (key_is_stdin) {
		return sp_cli_fail(SP_EXIT_USAGE, "the key is encrypted: give its "
		    "passphrase with --passphrase-file FILE, or the key with "
		    "--key-file FILE to be asked for it");
	} else {
		e = sp_cli_secret_line("Passphrase of the key: ", pass);
	}
	if (e == SP_OK && pass->len > 0)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_USAGE, "the key is encrypted, and no passphrase "
	    "was given");
}

static int
seal_failed(enum sp_err e)
{
	if (e == SP_ERR_SEALED)
		return sp_cli_fail(SP_EXIT_LATER, "the vault is sealed: sallyport "
		    "vault unseal");
	return sp_cli_fail(SP_EXIT_REFUSED, "the vault does not take that secret: "
	    "%s (a key is an OpenSSH or PEM private key: Ed25519, ECDSA on P-256, "
	    "P-384 or P-521, or RSA of 2048 to 4096 bits)", sp_err_text(e));
}

static int
seal_once(const struct sp_cli *c, struct sp_msg_vc_secret_new *m,
    struct sp_sealed *out, enum sp_err *err)
{
	struct sp_msg_vc_secret_new_r r = {.err = SP_ERR_PROTO};
	struct sp_packet p;
	struct sp_link l;
	uint8_t *at;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_secret_new(&l, 0, m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_secret_new_r, &p);
	if (rc == SP_EXIT_OK && sp_dec_vc_secret_new_r(p.body, &r) != SP_OK)
		rc = SP_EXIT_LATER;
	*err = (enum sp_err)r.err;
	if (rc == SP_EXIT_OK && r.err == SP_OK &&
	    sp_buf_reserve(&out->hex, 2 * r.sealed.n + 1, &at) == SP_OK) {
		sp_hex((char *)at, r.sealed.p, r.sealed.n);
		sp_buf_commit(&out->hex, 2 * r.sealed.n + 1);
		if (sp_buf_put(&out->public_key, r.public_key.p, r.public_key.n) !=
		    SP_OK)
			rc = SP_EXIT_LATER;
	}
	sp_link_fini(&l);
	return rc;
}

/* What the server has of a password already: its salt is taken over. */
static int
read_verifier(const char *file, struct sp_buf *text)
{
	enum sp_err e = sp_cli_read(file, text);

	while (e == SP_OK && text->len > 0 &&
	    sp_buf_span(text).p[text->len - 1] == '\n')
		text->len--;
	return e == SP_OK ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_USAGE,
	    "the verifier could not be read: %s", sp_err_text(e));
}

int
sp_cli_seal(const struct sp_cli *c, const struct sp_new_secret *n,
    struct sp_msg_vc_secret_new *m, struct sp_sealed *out)
{
	SP_BUF_AUTO pass = {.max = 1024};
	enum sp_err e = SP_OK;
	int rc;

	if (n->kind->gives == SP_GIVES_PROOF && n->pass_file != NULL &&
	    (rc = read_verifier(n->pass_file, &pass)) != SP_EXIT_OK)
		return rc;
	if (n->plugin != NULL && sp_buf_put(&pass, n->plugin,
	    strlen(n->plugin)) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "--plugin is ed25519 or native");
	for (;;) {
		m->passphrase = sp_buf_span(&pass);
		rc = seal_once(c, m, out, &e);
		if (rc != SP_EXIT_OK || e == SP_OK)
			return rc;
		if (e != SP_ERR_DENIED || !sp_kind_is(m->kind, SP_KIND_FILE))
			return seal_failed(e);
		rc = key_passphrase(n->pass_file, n->from_stdin, &pass);
		if (rc != SP_EXIT_OK)
			return rc;
	}
}

/* What an administrator of the database runs there: there is no password in it,
 * and none to be read in any log. */
static void
print_statement(const char *where, struct sp_span text)
{
	int n = (int)strcspn(where, "@");
	/* "ed25519 TEXT" of MariaDB; a verifier of PostgreSQL has no blank. */
	const uint8_t *blank = memchr(text.p, ' ', text.n);

	if (blank == NULL)
		printf("ALTER ROLE \"%.*s\" PASSWORD '%.*s';\n", n, where,
		    (int)text.n, (const char *)text.p);
	else
		printf("ALTER USER '%.*s' IDENTIFIED VIA %.*s USING '%.*s';\n", n,
		    where, (int)(blank - text.p), (const char *)text.p,
		    (int)(text.n - (size_t)(blank - text.p) - 1),
		    (const char *)blank + 1);
}

/* The line for the target's authorized_keys. */
static void
print_public(const struct sp_cli *c, const char *where, struct sp_span blob)
{
	SP_BUF_AUTO b64 = {.max = 8192};
	struct sp_span rest = blob, type;

	if (c->json || sp_get_ssh_string(&rest, 64, &type) != SP_OK ||
	    sp_base64(&b64, blob) != SP_OK)
		return;
	printf("%.*s %.*s %s\n", (int)type.n, (const char *)type.p, (int)b64.len,
	    (const char *)sp_buf_span(&b64).p, where);
}

void
sp_cli_print_made(const struct sp_cli *c, const char *where,
    const struct sp_kind *kind, struct sp_span made)
{
	if (kind->gives != SP_GIVES_PROOF)
		print_public(c, where, made);
	else if (!c->json)
		print_statement(where, made);
}

int
sp_cli_read_secret(const struct sp_new_secret *n, struct sp_buf *clear)
{
	bool is_file = (n->kind->flags & SP_KIND_FILE) != 0;
	const char *kind = n->kind->name;
	enum sp_err e;

	if (n->generate)
		return SP_EXIT_OK;
	if (n->key_file != NULL)
		e = sp_cli_read(n->key_file, clear);
	else if (!n->from_stdin)
		return sp_cli_fail(SP_EXIT_USAGE, "give it with --%s-stdin%s: an "
		    "argument would be seen by everybody on this host", kind,
		    is_file ? ", --key-file FILE or --generate" : "");
	else if (is_file)
		e = sp_cli_read_fd(STDIN_FILENO, clear);
	else
		e = sp_cli_secret_line("Password of the account: ", clear);
	if (e == SP_OK && clear->len > 0)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_USAGE, "the %s could not be read: %s", kind,
	    e == SP_OK ? "it is empty" : sp_err_text(e));
}

static int
add_with_secret(const struct sp_cli *c, const char *where,
    const struct sp_new_secret *n, struct sp_span clear)
{
	struct sp_sealed s = {.hex = {.max = 32768}, .public_key = {.max = 2048}};
	struct sp_msg_vc_secret_new m = {.version = 1, .clear = clear,
	    .generate = n->generate, .kind = n->kind->number};
	const char *at = strchr(where, '@');
	char id[SP_UUID_TEXT];
	int rc;

	if (at == NULL)
		return sp_cli_fail(SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
	if ((rc = target_id(c, at + 1, m.owner)) != SP_EXIT_OK)
		return rc;
	sp_uuid_make(m.id);
	sp_uuid_text(id, m.id);
	rc = sp_cli_seal(c, n, &m, &s);
	if (rc == SP_EXIT_OK) {
		char *argv[] = {(char[]){"account"}, (char[]){"add"},
		    (char *)(uintptr_t)where, (char[]){"--kind"},
		    (char *)(uintptr_t)n->kind->name, (char[]){"--secret-id"}, id,
		    (char[]){"--sealed"},
		    (char *)(uintptr_t)sp_buf_span(&s.hex).p,
		    c->json ? (char[]){"--json"} : NULL, NULL};

		rc = sp_cli_verb(c, c->json ? 10 : 9, argv, -1, NULL);
	}
	if (rc == SP_EXIT_OK && s.public_key.len > 0)
		sp_cli_print_made(c, where, n->kind, sp_buf_span(&s.public_key));
	sp_buf_fini(&s.hex);
	sp_buf_fini(&s.public_key);
	return rc;
}

static int
usage(void)
{
	return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport account add "
	    "ACCOUNT@TARGET --kind cert | --kind password --password-stdin | "
	    "--kind key --key-file FILE [--passphrase-file FILE] | --kind key "
	    "--generate | --kind postgresql --generate | --kind postgresql "
	    "--postgresql-stdin [--verifier-file FILE] | --kind pg-role --admin "
	    "ACCOUNT --member ROLE | --kind mariadb --generate | "
	    "--mariadb-stdin [--plugin ed25519|native]");
}

void
sp_cli_take_proof(struct sp_new_secret *n, int *argc, char **argv)
{
	if (n->kind->number == SP_CRED_PG_SCRAM)
		n->pass_file = sp_cli_value(argc, argv, "--verifier-file");
	if (n->kind->number == SP_CRED_MARIADB)
		n->plugin = sp_cli_value(argc, argv, "--plugin");
}

/* Of each kind its own: --password-stdin, --key-stdin. */
static bool
take_stdin_flag(int *argc, char **argv, const struct sp_kind *kind)
{
	const struct sp_kind *k;
	bool is_given = false;
	char flag[64];

	for (size_t i = 0; (k = sp_kind_nth(SP_KIND_ACCOUNT | SP_KIND_STORED, i)) !=
	    NULL; i++) {
		snprintf(flag, sizeof(flag), "--%s-stdin", k->name);
		if (sp_cli_flag(argc, argv, flag) && k == kind)
			is_given = true;
	}
	return is_given;
}

/* Nothing to seal: the verb as it was said. */
static int
made_later(const struct sp_cli *c, int argc, char **argv,
    const struct sp_kind *kind)
{
	char *said[32] = {NULL};

	if (argc < 0 || argc > 28)
		return usage();
	for (int i = 0; i < argc; i++)
		said[i] = argv[i];
	said[argc] = (char[]){"--kind"};
	said[argc + 1] = (char *)(uintptr_t)kind->name;
	return sp_cli_verb(c, argc + 2, said, -1, NULL);
}

int
sp_cmd_account(struct sp_cli *c, int argc, char **argv)
{
	SP_BUF_AUTO clear = {.max = 8192};
	struct sp_new_secret n = {
	    .kind = sp_kind_named(sp_cli_value(&argc, argv, "--kind"))};
	int rc;

	if (n.kind == NULL || (n.kind->flags & SP_KIND_ACCOUNT) == 0)
		return usage();
	if ((n.kind->flags & SP_KIND_STORED) == 0)
		return made_later(c, argc, argv, n.kind);
	n.from_stdin = take_stdin_flag(&argc, argv, n.kind);
	n.generate = sp_cli_flag(&argc, argv, "--generate") &&
	    (n.kind->flags & SP_KIND_MADE) != 0;
	n.key_file = sp_cli_value(&argc, argv, "--key-file");
	n.pass_file = sp_cli_value(&argc, argv, "--passphrase-file");
	sp_cli_take_proof(&n, &argc, argv);
	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc != 3)
		return usage();
	rc = sp_cli_read_secret(&n, &clear);
	return rc == SP_EXIT_OK ?
	    add_with_secret(c, argv[2], &n, sp_buf_span(&clear)) : rc;
}
