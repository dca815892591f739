/* SPDX-License-Identifier: Apache-2.0 */
/* `secret reveal NUMBER`: the broker says that it is approved and notes that it
 * was shown; the vault hands the clear text to this terminal, and to nobody
 * else. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <sodium.h>

#include "bastion/cli/cli.h"

/* A password may hold anything but line ends: what would steer a terminal is
 * shown encoded, and said to be so. */
static void
print_clear(const struct sp_msg_vc_reveal_r *r)
{
	char vis[4 * 1024 + 8];
	bool plain;

	if (r->kind == SP_CRED_SSH_KEY) {
		(void)!fwrite(r->clear.p, 1, r->clear.n, stdout);
		return;
	}
	sp_vis(vis, sizeof(vis), r->clear);
	plain = sp_span_is(r->clear, vis);
	printf("%s\n", vis);
	if (!plain)
		fputs("(shown encoded: a backslash stands for what cannot be "
		    "printed, two for one)\n", stderr);
	sodium_memzero(vis, sizeof(vis));
}

static int
ask_vault(const struct sp_cli *c, const uint8_t request[static 16],
    const char *person)
{
	struct sp_msg_vc_reveal m;
	struct sp_msg_vc_reveal_r r = {.err = SP_ERR_PROTO};
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	memcpy(m.request, request, 16);
	if (sp_send_vc_reveal(&l, 0, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_reveal_r, &p);
	if (rc == SP_EXIT_OK && sp_dec_vc_reveal_r(p.body, &r) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault does not answer");
	if (rc == SP_EXIT_OK && r.err != SP_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "the vault does not show it: %s",
		    sp_vis_tmp(r.text));
	if (rc == SP_EXIT_OK) {
		fprintf(stderr, "The credential of %s, for %s. It is shown once, and "
		    "will be rotated.\n", sp_vis_tmp(r.what), sp_vis_str(person));
		print_clear(&r);
		sodium_memzero((uint8_t *)(uintptr_t)r.clear.p, r.clear.n);
	}
	sp_link_fini(&l);
	return rc;
}

int
sp_cmd_reveal(struct sp_cli *c, int argc, char **argv)
{
	char json_opt[] = "--json", verb[] = "secret", sub[] = "reveal-collect";
	char *ask[] = {verb, sub, argc > 2 ? argv[2] : NULL, json_opt, NULL};
	const char *id, *person;
	uint8_t request[16];
	json_object *o;
	int rc;

	if (argc != 3)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport secret reveal "
		    "NUMBER (people ask for one: ssh NAME@BASTION secret reveal "
		    "ACCOUNT@TARGET --reason TEXT)");
	/* Not into a file or a log by accident. */
	if (!isatty(STDOUT_FILENO))
		return sp_cli_fail(SP_EXIT_USAGE, "a credential is shown on a "
		    "terminal alone");
	o = sp_cli_ask_json(c, 4, ask, &rc);
	id = sp_cli_text_field(o, "id");
	person = sp_cli_text_field(o, "person");
	if (rc == SP_EXIT_OK && (id == NULL || person == NULL ||
	    sp_uuid_parse(request, sp_span_str(id)) != SP_OK))
		rc = sp_cli_fail(SP_EXIT_REFUSED, "the broker does not answer");
	if (rc == SP_EXIT_OK)
		rc = ask_vault(c, request, person);
	json_object_put(o);
	return rc;
}
