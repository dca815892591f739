/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to the vault itself: no other process hears a passphrase, a
 * password or a seed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

#define ARGON2_MS 60000

enum sp_err
sp_cli_secret_line(const char *prompt, struct sp_buf *out)
{
	struct termios old, t;
	bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	enum sp_err e = SP_OK;

	if (tty) {
		t = old;
		t.c_lflag &= ~(tcflag_t)ECHO;
		(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
		fputs(prompt, stderr);
	}
	for (;;) {
		uint8_t ch;
		ssize_t n = read(STDIN_FILENO, &ch, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || ch == '\n')
			break;
		if ((e = sp_buf_put(out, &ch, 1)) != SP_OK)
			break;
	}
	if (tty) {
		(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	return e;
}

int
sp_cli_vault_reach(const struct sp_cli *c, struct sp_link *l)
{
	enum sp_err e = sp_cli_connect(c, "vault.sock", SP_ROLE_VLT,
	    SP_ST_READY, l);

	if (e == SP_OK)
		return SP_EXIT_OK;
	if (e == SP_ERR_DENIED)
		return sp_cli_fail(SP_EXIT_REFUSED, "you may not control the vault "
		    "of %s: that is for root or its owner", c->dir);
	return sp_cli_fail(SP_EXIT_LATER, "the vault of %s does not run: "
	    "sallyport -D %s start", c->dir, c->dir);
}

/* Waits for the answer of that type; says what went wrong otherwise. */
int
sp_cli_vault_answer(struct sp_link *l, uint16_t type, struct sp_packet *p)
{
	enum sp_err e = sp_link_wait(l, p, ARGON2_MS);

	if (e == SP_OK)
		sp_packet_close_fds(p);
	if (e == SP_OK && p->type == type)
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_LATER, "the vault does not answer: %s",
	    e == SP_OK ? "it said something else" : sp_err_text(e));
}

/* ------------------------------------------------------- status and unseal */

static void
status_json(const struct sp_msg_vc_status_r *m)
{
	json_object *o = json_object_new_object();
	char audit[65], rec[65];

	sp_hex(audit, m->audit_key, 32);
	sp_hex(rec, m->recording_key, 32);
	json_object_object_add(o, "state",
	    json_object_new_string(m->sealed ? "sealed" : "open"));
	json_object_object_add(o, "demo", json_object_new_boolean(m->demo));
	json_object_object_add(o, "slots", json_object_new_int64(m->slots));
	json_object_object_add(o, "audit_key", m->sealed ? NULL :
	    json_object_new_string(audit));
	json_object_object_add(o, "recording_key", m->sealed ? NULL :
	    json_object_new_string(rec));
	json_object_object_add(o, "ca_key", m->sealed ? NULL :
	    json_object_new_string_len((const char *)m->ca_key.p,
	    (int)m->ca_key.n));
	printf("%s\n", json_object_to_json_string_ext(o,
	    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static int
vault_status(const struct sp_cli *c, bool ca_only)
{
	struct sp_link l;
	struct sp_packet p;
	struct sp_msg_vc_status_r m;
	char audit[65], rec[65];
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_status(&l, 0, &(struct sp_msg_vc_status){}, NULL) != SP_OK ||
	    (rc = sp_cli_vault_answer(&l, SP_MSG_vc_status_r, &p)) != SP_EXIT_OK ||
	    sp_dec_vc_status_r(p.body, &m) != SP_OK) {
		sp_link_fini(&l);
		return rc == SP_EXIT_OK ? SP_EXIT_LATER : rc;
	}
	sp_hex(audit, m.audit_key, 32);
	sp_hex(rec, m.recording_key, 32);
	if (ca_only && m.sealed)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault is sealed: "
		    "sallyport vault unseal");
	else if (ca_only)
		printf(c->json ? "{\"id\": \"ca\", \"ca_key\": \"%s\"}\n" : "%s\n",
		    sp_vis_tmp(m.ca_key));
	else if (c->json)
		status_json(&m);
	else {
		printf("vault          %s\nslots          %u%s\n",
		    m.sealed ? "sealed" : "open", m.slots,
		    m.demo ? " (one in a file, for demonstration only)" : "");
		if (!m.sealed)
			printf("audit key      %s\nrecording key  %s\nuser CA        "
			    "%.*s\n", audit, rec, (int)m.ca_key.n,
			    (const char *)m.ca_key.p);
	}
	sp_link_fini(&l);
	return rc;
}

int
sp_cli_vault_done(const struct sp_cli *c, struct sp_link *l, const char *state)
{
	struct sp_packet p;
	struct sp_msg_vc_done m;
	int rc = sp_cli_vault_answer(l, SP_MSG_vc_done, &p);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_dec_vc_done(p.body, &m) != SP_OK)
		return SP_EXIT_LATER;
	if (m.err != SP_OK && m.err != SP_ERR_STATE)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", sp_vis_tmp(m.text));
	if (c->json)
		printf("{\"id\": \"vault\", \"state\": \"%s\"}\n", state);
	else
		printf("%s\n", sp_vis_tmp(m.text));
	return SP_EXIT_OK;
}

/* credential: a file with its bytes; else the token is asked, or a passphrase. */
static int
unseal(const struct sp_cli *c, const char *credential, bool token)
{
	SP_BUF_AUTO pass = {.max = 1024};
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (credential != NULL && sp_cli_read(credential, &pass) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_USAGE, "%s cannot be read, or has more "
		    "than 1024 bytes", credential);
	else if (token)
		rc = sp_cli_token_open(c, &pass);
	else if (credential == NULL &&
	    sp_cli_secret_line("Passphrase of the vault: ", &pass) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_USAGE,
		    "a passphrase has at most 1024 bytes");
	if (rc == SP_EXIT_OK && sp_send_vc_unseal(&l, 0, &(struct sp_msg_vc_unseal){
	    .passphrase = sp_buf_span(&pass), .type = token ? SP_CLI_SLOT_PKCS11 :
	    credential == NULL ? 0 : SP_CLI_SLOT_CREDENTIAL}, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else if (rc == SP_EXIT_OK)
		rc = sp_cli_vault_done(c, &l, "open");
	sp_link_fini(&l);
	if (rc == SP_EXIT_OK)
		sp_cli_unsealed(c);
	return rc;
}

int
sp_cli_unseal(const struct sp_cli *c, const char *credential)
{
	return unseal(c, credential, false);
}

static int
seal(const struct sp_cli *c)
{
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_seal(&l, 0, &(struct sp_msg_vc_seal){}, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_done(c, &l, "sealed");
	sp_link_fini(&l);
	return rc;
}

int
sp_cmd_vault(struct sp_cli *c, int argc, char **argv)
{
	const char *credential = sp_cli_value(&argc, argv, "--credential");
	bool shares = sp_cli_flag(&argc, argv, "--shares");
	bool token = argc == 3 && strcmp(argv[1], "unseal") == 0 &&
	    sp_cli_flag(&argc, argv, "--token");

	(void)sp_cli_flag(&argc, argv, "--json");
	if (argc == 2 && strcmp(argv[1], "unseal") == 0)
		return shares ? sp_cli_ceremony(c, 0) :
		    unseal(c, credential, token);
	if (argc >= 2 && strcmp(argv[1], "slots") == 0)
		return sp_cmd_slots(c, argc, argv);
	if (argc >= 2 && strcmp(argv[1], "rotate") == 0)
		return sp_cmd_rotate(c, argc, argv);
	if (argc >= 2 && strcmp(argv[1], "store-key") == 0)
		return sp_cmd_store_key(c, argc, argv);
	if (argc >= 2 && strcmp(argv[1], "share") == 0)
		return sp_cmd_share(c, argc, argv);
	if (argc == 2 && strcmp(argv[1], "status") == 0)
		return vault_status(c, false);
	if (argc == 2 && strcmp(argv[1], "ca-key") == 0)
		return vault_status(c, true);
	if (argc == 2 && strcmp(argv[1], "seal") == 0)
		return seal(c);
	return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport vault status|seal|"
	    "ca-key [--json]\n"
	    "       sallyport vault unseal [--shares | --credential FILE | --token]\n"
	    "       sallyport vault slots [add|verify|remove ...]\n"
	    "       sallyport vault rotate [--json]\n"
	    "       sallyport vault share\n"
	    "       sallyport vault store-key [--forget]");
}

/* -------------------------------------------------------------------- totp */

json_object *
sp_cli_ask_json(const struct sp_cli *c, int argc, char *const *argv, int *rc)
{
	SP_BUF_AUTO out = {.max = 8u << 20};

	*rc = sp_cli_verb(c, argc, argv, -1, &out);
	if (*rc != SP_EXIT_OK || sp_buf_put_u8(&out, 0) != SP_OK)
		return NULL;
	return json_tokener_parse((const char *)sp_buf_span(&out).p);
}

const char *
sp_cli_text_field(json_object *o, const char *key)
{
	json_object *v = NULL;

	return o != NULL && json_object_object_get_ex(o, key, &v) && v != NULL ?
	    json_object_get_string(v) : NULL;
}

struct totp {
	char name[SP_NAME_MAX + 1];
	uint8_t person[16], id[16];
	uint64_t version;
	char secret[128], uri[512], sealed[2049];
};

/* Who it is and which row it will be: the next version of theirs, or a new one. */
static int
who_is(const struct sp_cli *c, struct totp *t)
{
	char *argv[] = {(char[]){"users"}, (char[]){"show"}, t->name,
	    (char[]){"--json"}, NULL};
	int rc;
	json_object *o = sp_cli_ask_json(c, 4, argv, &rc), *v = NULL;
	const char *id = sp_cli_text_field(o, "id"), *row = sp_cli_text_field(o, "totp_id");

	if (rc != SP_EXIT_OK || id == NULL ||
	    sp_uuid_parse(t->person, sp_span_str(id)) != SP_OK) {
		json_object_put(o);
		return rc != SP_EXIT_OK ? rc : SP_EXIT_REFUSED;
	}
	t->version = 1;
	sp_uuid_make(t->id);
	if (row != NULL && sp_uuid_parse(t->id, sp_span_str(row)) == SP_OK &&
	    json_object_object_get_ex(o, "totp_version", &v))
		t->version = (uint64_t)json_object_get_int64(v) + 1;
	json_object_put(o);
	return SP_EXIT_OK;
}

static enum sp_err
note_seed(struct totp *t, const struct sp_msg_vc_totp_new_r *m)
{
	SP_BUF_AUTO b32 = {.max = 120};

	if (m->sealed.n > 1024)
		return SP_ERR_TOOBIG;
	sp_hex(t->sealed, m->sealed.p, m->sealed.n);
	SP_TRY(sp_base32(&b32, m->seed));
	SP_TRY(sp_span_cstr(sp_buf_span(&b32), t->secret, sizeof(t->secret)));
	snprintf(t->uri, sizeof(t->uri), "otpauth://totp/Sallyport:%s?secret=%s"
	    "&issuer=Sallyport&algorithm=SHA1&digits=6&period=30", t->name,
	    t->secret);
	return SP_OK;
}

static int
make_seed(const struct sp_cli *c, struct totp *t)
{
	struct sp_msg_vc_totp_new m = {.version = t->version};
	struct sp_msg_vc_totp_new_r r;
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	memcpy(m.id, t->id, 16);
	memcpy(m.owner, t->person, 16);
	if (sp_send_vc_totp_new(&l, 0, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_totp_new_r, &p);
	if (rc == SP_EXIT_OK && (sp_dec_vc_totp_new_r(p.body, &r) != SP_OK ||
	    r.err != SP_OK || note_seed(t, &r) != SP_OK))
		rc = sp_cli_fail(SP_EXIT_LATER,
		    "the vault is sealed: sallyport vault unseal");
	sp_link_fini(&l);
	return rc;
}

static int
store_seed(const struct sp_cli *c, struct totp *t)
{
	SP_BUF_AUTO out = {.max = 65536};
	char id[SP_UUID_TEXT], version[24];
	char *argv[] = {(char[]){"users"}, (char[]){"totp-store"}, t->name,
	    (char[]){"--id"}, id, (char[]){"--version"}, version,
	    (char[]){"--sealed"}, t->sealed, NULL};

	sp_uuid_text(id, t->id);
	snprintf(version, sizeof(version), "%llu", (unsigned long long)t->version);
	return sp_cli_verb(c, 9, argv, -1, &out);
}

static void
print_seed(const struct sp_cli *c, const struct totp *t, bool qr)
{
	char id[SP_UUID_TEXT];

	if (c->json) {
		sp_uuid_text(id, t->person);
		printf("{\"id\": \"%s\", \"name\": \"%s\", \"state\": \"stored\", "
		    "\"secret\": \"%s\",\n \"uri\": \"%s\"}\n", id, t->name,
		    t->secret, t->uri);
		return;
	}
	printf("The second factor of %s, shown once:\n\n  secret  %s\n  %s\n\n",
	    t->name, t->secret, t->uri);
	if ((qr || isatty(STDOUT_FILENO)) && sp_cli_qr(t->uri) != SP_OK)
		(void)sp_cli_fail(0, "no QR code could be made");
}

static int
totp(const struct sp_cli *c, const char *name, bool qr)
{
	struct totp t = {0};
	int rc;

	if (!sp_name_is_valid(sp_span_str(name)) ||
	    sp_span_cstr(sp_span_str(name), t.name, sizeof(t.name)) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "that is no name");
	if ((rc = who_is(c, &t)) == SP_EXIT_OK &&
	    (rc = make_seed(c, &t)) == SP_EXIT_OK &&
	    (rc = store_seed(c, &t)) == SP_EXIT_OK)
		print_seed(c, &t, qr);
	explicit_bzero(&t, sizeof(t));
	return rc;
}

int
sp_cmd_users(struct sp_cli *c, int argc, char **argv)
{
	bool wants = sp_cli_flag(&argc, argv, "--totp");
	bool qr = sp_cli_flag(&argc, argv, "--qr");
	SP_BUF_AUTO out = {.max = 65536};
	int rc;

	if (strcmp(argv[1], "totp") == 0) {
		(void)sp_cli_flag(&argc, argv, "--json");
		if (argc != 3)
			return sp_cli_fail(SP_EXIT_USAGE,
			    "usage: sallyport users totp NAME [--qr] [--json]");
		return totp(c, argv[2], qr);
	}
	if (!wants)
		return sp_cli_verb(c, argc, argv, -1, NULL);
	if (argc < 3 || argv[2][0] == '-')
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport users add NAME "
		    "--display TEXT --group A,B --key 'ssh-ed25519 ...' --totp");
	rc = sp_cli_verb(c, argc, argv, -1, c->json ? &out : NULL);
	return rc == SP_EXIT_OK ? totp(c, argv[2], qr) : rc;
}
