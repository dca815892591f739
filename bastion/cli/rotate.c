/* SPDX-License-Identifier: Apache-2.0 */
/* `vault rotate`: new keys, everything sealed anew with them, old keys gone. */
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

#define PASSES_MAX 20

enum step { BEGIN = 1, ASK = 2, DROP = 3 };

static int
say_step(const struct sp_cli *c, enum step step, struct sp_msg_vc_rotate_r *r)
{
	struct sp_msg_vc_rotate m = {.step = (uint8_t)step};
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_rotate(&l, 0, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_rotate_r, &p);
	if (rc == SP_EXIT_OK && sp_dec_vc_rotate_r(p.body, r) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault said something else");
	if (rc == SP_EXIT_OK && r->err != SP_OK)
		rc = sp_cli_fail(r->err == SP_ERR_SEALED ? SP_EXIT_LATER :
		    SP_EXIT_REFUSED, "%s", sp_vis_tmp(r->text));
	sp_link_fini(&l);
	r->text = (struct sp_span){0};
	return rc;
}

static int64_t
field(json_object *o, const char *name)
{
	json_object *v = NULL;

	return json_object_object_get_ex(o, name, &v) ?
	    json_object_get_int64(v) : -1;
}

/* One pass over all rows. -1: it could not be told; else rows made anew. */
static int64_t
quiet_pass(const struct sp_cli *c, int *rc)
{
	char seals[] = "seals", renew[] = "renew", json[] = "--json";
	char *argv[] = {seals, renew, json, NULL};
	json_object *o = sp_cli_ask_json(c, 3, argv, rc);
	int64_t n = o == NULL ? -1 : field(o, "renewed");

	json_object_put(o);
	return n;
}

/* The first pass shows how far it is; later ones until nothing is left, for
 * what was sealed before the new keys and stored after the pass went by. */
static int
renew_rows(const struct sp_cli *c, int64_t *renewed)
{
	char seals[] = "seals", renew[] = "renew";
	char *argv[] = {seals, renew, NULL};
	int rc = SP_EXIT_OK;
	int64_t n = 1;

	*renewed = 0;
	if (!c->json) {
		rc = sp_cli_verb(c, 2, argv, -1, NULL);
		if (rc != SP_EXIT_OK)
			return rc;
	}
	for (int i = 0; n > 0; i++) {
		n = quiet_pass(c, &rc);
		if (rc != SP_EXIT_OK)
			return rc;
		if (n < 0 || i == PASSES_MAX)
			return sp_cli_fail(SP_EXIT_LATER, "there is always more to "
			    "do: the old keys are kept; sallyport vault rotate");
		*renewed += n;
	}
	return SP_EXIT_OK;
}

int
sp_cmd_rotate(struct sp_cli *c, int argc, char **argv)
{
	struct sp_msg_vc_rotate_r r;
	int64_t renewed;
	int rc;

	(void)argv;
	if (argc != 2)
		return sp_cli_fail(SP_EXIT_USAGE,
		    "usage: sallyport vault rotate [--json]");
	if ((rc = say_step(c, BEGIN, &r)) != SP_EXIT_OK)
		return rc;
	if (!c->json)
		printf(r.is_resumed ? "epoch %u: a rotation goes on that was not "
		    "finished\n" : "epoch %u: new keys\n", r.epoch);
	(void)fflush(stdout);
	if ((rc = renew_rows(c, &renewed)) != SP_EXIT_OK)
		return sp_cli_fail(rc, "the older keys are kept; what is done is "
		    "done, and sallyport vault rotate goes on from there");
	if ((rc = say_step(c, DROP, &r)) != SP_EXIT_OK)
		return rc;
	if (c->json)
		printf("{\"id\": \"vault\", \"state\": \"rotated\", \"epoch\": %u, "
		    "\"renewed\": %lld}\n", r.epoch, (long long)renewed);
	else
		printf("epoch %u: all rows and secrets are sealed with it; older "
		    "keys are gone\n", r.epoch);
	return SP_EXIT_OK;
}
