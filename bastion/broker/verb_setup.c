/* SPDX-License-Identifier: Apache-2.0 */
/* target setup: what the administrator of a target puts into its sshd, so that
 * it takes the bastion's certificates; to read, as a script, or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_krl.h"
#include "bastion/broker/verb_sql.h"
#include "common/kinds.h"

enum { R_TARGET, R_ACCOUNTS, R_REVOKED, R_ENDED };

struct setup {
	struct sp_krl krl;
	char ca[600];
	const char *dir;
};

static void
setup_free(void *arg)
{
	struct setup *s = arg;

	sp_krl_fini(&s->krl);
	free(s);
}

/* The i-th account that logs in with a certificate; NULL past the end. */
static const char *
account(const struct sp_call *c, size_t i)
{
	const struct sp_rows *r = c->rows[R_ACCOUNTS];

	for (size_t k = 0; k < sp_rows_n(r); k++)
		if (sp_rows_i64(r, k, "kind") == SP_CRED_SSH_CERT && i-- == 0)
			return sp_rows_get(r, k, "name");
	return NULL;
}

static const char *
target(const struct sp_call *c)
{
	return sp_rows_get(c->rows[R_TARGET], 0, "name");
}

/* ------------------------------------------------------------------- a file */

enum { F_CA, F_KRL, F_CONFIG, F_PRINCIPALS };

static void
path_of(const struct sp_call *c, size_t i, char *dst, size_t cap)
{
	static const char *const names[] = {"sallyport_ca.pub", "sallyport_krl",
	    "sshd_config.d/50-sallyport.conf"};
	const struct setup *s = c->state;

	if (i < F_PRINCIPALS)
		snprintf(dst, cap, "%s/%s", s->dir, names[i]);
	else
		snprintf(dst, cap, "%s/sallyport_principals/%s", s->dir,
		    account(c, i - F_PRINCIPALS));
}

/* Of the list, which is no text: base64. */
static enum sp_err
content_of(const struct sp_call *c, size_t i, struct sp_buf *b)
{
	const struct setup *s = c->state;

	if (i == F_CA)
		return sp_buf_printf(b, "%s\n", s->ca);
	if (i == F_KRL)
		return sp_base64(b, sp_buf_span(&s->krl.bytes));
	if (i == F_CONFIG)
		return sp_buf_printf(b, "TrustedUserCAKeys %s/sallyport_ca.pub\n"
		    "AuthorizedPrincipalsFile %s/sallyport_principals/%%u\n"
		    "RevokedKeys %s/sallyport_krl\n", s->dir, s->dir, s->dir);
	return sp_buf_printf(b, "%s@%s\n", account(c, i - F_PRINCIPALS),
	    target(c));
}

static size_t
n_files(const struct sp_call *c)
{
	size_t n = 0;

	while (account(c, n) != NULL)
		n++;
	return F_PRINCIPALS + n;
}

/* ------------------------------------------------------------------- to read */

static void
print_text(struct sp_call *c)
{
	static const char *const why[] = {
	    "the bastion's certificate authority",
	    "revoked certificates; sshd lets nobody in by key while it is missing. "
	    "Fill it now and then: krl > FILE",
	    "a drop-in of sshd_config; sshd -t, then reload sshd"};
	char path[512];

	sp_call_say(c, "How %s takes the bastion's certificates. Files of root, mode "
	    "0644.\nTo do it in one go: target setup %s --shell | ssh root@%s sh\n",
	    target(c), target(c), target(c));
	for (size_t i = 0; i < n_files(c); i++) {
		SP_BUF_AUTO b = {.max = 131072};

		path_of(c, i, path, sizeof(path));
		sp_call_say(c, "\n%s\n    (%s)\n", path, i < F_PRINCIPALS ? why[i] :
		    "the one name that a certificate for this account holds");
		if (i != F_KRL && content_of(c, i, &b) == SP_OK)
			sp_call_out(c, sp_buf_span(&b));
	}
	if (n_files(c) == F_PRINCIPALS)
		sp_call_say(c, "\nNo account of %s logs in by certificate yet: "
		    "account add ACCOUNT@%s --kind cert\n", target(c), target(c));
	sp_call_end(c, SP_EXIT_OK);
}

static void
print_json(struct sp_call *c)
{
	json_object *o = json_object_new_object(), *files = json_object_new_array();
	const struct setup *s = c->state;
	char path[512];

	json_object_object_add(o, "id", sp_json_text(
	    sp_rows_get(c->rows[R_TARGET], 0, "id")));
	json_object_object_add(o, "target", sp_json_text(target(c)));
	json_object_object_add(o, "ca_key", sp_json_text(s->ca));
	for (size_t i = 0; i < n_files(c); i++) {
		json_object *f = json_object_new_object();
		SP_BUF_AUTO b = {.max = 131072};

		path_of(c, i, path, sizeof(path));
		json_object_object_add(f, "path", sp_json_text(path));
		if (i >= F_PRINCIPALS)
			json_object_object_add(f, "account",
			    sp_json_text(account(c, i - F_PRINCIPALS)));
		if (content_of(c, i, &b) == SP_OK && sp_buf_put_u8(&b, 0) == SP_OK)
			json_object_object_add(f, i == F_KRL ? "base64" : "content",
			    sp_json_text((const char *)sp_buf_span(&b).p));
		json_object_array_add(files, f);
	}
	json_object_object_add(o, "files", files);
	sp_call_json(c, o);
	sp_call_end(c, SP_EXIT_OK);
}

/* ---------------------------------------------------------------- as a script */

static const char script_head[] =
    "set -eu\n"
    "umask 022\n"
    "PATH=$PATH:/usr/sbin:/sbin\n"
    "put() { cat >\"$1.new\"; chmod 0644 \"$1.new\"; mv -f \"$1.new\" \"$1\"; }\n"
    "mkdir -p \"$etc/sallyport_principals\" \"$etc/sshd_config.d\"\n";

/* What sshd reads first is what holds: the drop-in has to be included, and
 * nothing before it may say otherwise. A configuration that sshd refuses is taken
 * back: nobody is locked out by this. */
static const char script_tail[] =
    "if ! grep -Eiq '^[[:space:]]*Include[[:space:]].*sshd_config\\.d/\\*' "
    "\"$etc/sshd_config\"; then\n"
    "\t{ echo \"Include $etc/sshd_config.d/*.conf\"; cat \"$etc/sshd_config\"; } "
    "| put \"$etc/sshd_config\"\n"
    "fi\n"
    "if ! sshd -t -f \"$etc/sshd_config\"; then\n"
    "\trm -f \"$etc/sshd_config.d/50-sallyport.conf\"\n"
    "\techo 'sshd refuses this configuration: it was taken back' >&2\n"
    "\texit 1\n"
    "fi\n"
    "holds=$(sshd -T -f \"$etc/sshd_config\")\n"
    "for want in \"trustedusercakeys $etc/sallyport_ca.pub\" "
    "\"authorizedprincipalsfile $etc/sallyport_principals/%u\" "
    "\"revokedkeys $etc/sallyport_krl\"; do\n"
    "\tcase \"$holds\" in\n"
    "\t*\"$want\"*) ;;\n"
    "\t*) echo \"another line comes before this one: $want\" >&2; exit 1;;\n"
    "\tesac\n"
    "done\n"
    "if [ \"$etc\" = /etc/ssh ]; then\n"
    "\tsystemctl reload ssh 2>/dev/null || systemctl reload sshd 2>/dev/null ||\n"
    "\t    service ssh reload 2>/dev/null || service sshd reload 2>/dev/null ||\n"
    "\t    { echo 'reload sshd yourself' >&2; exit 1; }\n"
    "fi\n";

static void
print_shell(struct sp_call *c)
{
	const struct setup *s = c->state;
	char path[512];

	sp_call_say(c, "# Run by root on %s: its sshd takes the bastion's "
	    "certificates afterwards.\netc='%s'\n", target(c), s->dir);
	sp_call_out(c, sp_span_str(script_head));
	for (size_t i = 0; i < n_files(c); i++) {
		SP_BUF_AUTO b = {.max = 131072};

		path_of(c, i, path, sizeof(path));
		if (content_of(c, i, &b) != SP_OK)
			break;
		sp_call_say(c, i == F_KRL ? "base64 -d <<'END' | put '%s'\n" :
		    "put '%s' <<'END'\n", path);
		sp_call_out(c, sp_buf_span(&b));
		sp_call_say(c, "%sEND\n", i == F_KRL ? "\n" : "");
	}
	sp_call_out(c, sp_span_str(script_tail));
	sp_call_say(c, "echo '%s takes certificates of the bastion'\n", target(c));
	sp_call_end(c, SP_EXIT_OK);
}

/* ----------------------------------------------------------------- gathering */

static void
print(struct sp_call *c)
{
	if (c->style.json)
		print_json(c);
	else if (sp_call_has(c, "shell"))
		print_shell(c);
	else
		print_text(c);
}

static void
got_status(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_call *c = arg;
	struct setup *s = c->state;
	struct sp_msg_v_status_r r;

	if (e != SP_OK || sp_dec_v_status_r(reply->body, &r) != SP_OK ||
	    r.sealed || sp_span_cstr(r.ca_key, s->ca, sizeof(s->ca)) != SP_OK ||
	    s->ca[0] == '\0') {
		sp_call_fail(c, SP_EXIT_LATER, "the vault is sealed or away: on the "
		    "host, sallyport status");
		return;
	}
	s->ca[strcspn(s->ca, "\n")] = '\0';
	sp_krl_make(&s->krl, c, c->rows[R_REVOKED], c->rows[R_ENDED], print);
}

static void
loaded(struct sp_call *c)
{
	if (sp_rows_n(c->rows[R_TARGET]) != 1)
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no target %s: targets "
		    "list shows them", sp_vis_str(c->pos[0]));
	else if (sp_rows_get(c->rows[R_TARGET], 0, "protocol") != NULL)
		sp_sql_setup(c, c->rows[R_TARGET], c->rows[R_ACCOUNTS]);
	else
		sp_vault_call(c->b->vault, SP_MSG_v_status, (struct sp_span){0},
		    SP_MSG_v_status_r, got_status, c);
}

/* It stands in a shell's quotes and in sshd_config. */
static bool
is_dir(const char *s)
{
	static const char may[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
	size_t n = strlen(s);

	return s[0] == '/' && n > 1 && n < 256 && s[n - 1] != '/' &&
	    strspn(s, may) == n;
}

void
sp_verb_target_setup(struct sp_call *c)
{
	struct setup *s = calloc(1, sizeof(*s));
	struct sp_need needs[4];
	char at[2][24];

	SP_ASSERT(s != NULL);
	sp_krl_init(&s->krl);
	c->state = s;
	c->free_state = setup_free;
	s->dir = sp_call_opt(c, "dir");
	if (s->dir == NULL)
		s->dir = "/etc/ssh";
	if (!is_dir(s->dir)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--dir wants a full path of letters, "
		    "digits, . _ and -");
		return;
	}
	needs[R_TARGET] = (struct sp_need){.t = SP_T_TARGETS,
	    .where = "WHERE name = $1", .p = {c->pos[0]}, .n = 1};
	needs[R_ACCOUNTS] = (struct sp_need){.t = SP_T_ACCOUNTS,
	    .where = "WHERE target_id IN (SELECT id FROM targets WHERE name = $1) "
	    "ORDER BY name", .p = {c->pos[0]}, .n = 1};
	sp_krl_needs(&needs[R_REVOKED], at);
	sp_call_load(c, 0, needs, 4, loaded);
}
