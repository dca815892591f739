/* SPDX-License-Identifier: Apache-2.0 */
/* The key of the store that recordings go to: from here to the vault, and to nobody
 * else. */
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"

int
sp_cmd_store_key(const struct sp_cli *c, int argc, char **argv)
{
	SP_BUF_AUTO access = {.max = 256}, secret = {.max = 256};
	bool forget = sp_cli_flag(&argc, argv, "--forget");
	struct sp_msg_vc_store_key m = {.access = sp_span_str("")};
	struct sp_link l;
	int rc;

	if (argc != 2)
		return sp_cli_fail(SP_EXIT_USAGE,
		    "usage: sallyport vault store-key [--forget]");
	if ((rc = sp_cli_vault_reach(c, &l)) != SP_EXIT_OK)
		return rc;
	if (!forget && (sp_cli_secret_line("Access key of the store: ", &access) !=
	    SP_OK || sp_cli_secret_line("Secret key: ", &secret) != SP_OK ||
	    access.len == 0 || secret.len == 0)) {
		sp_link_fini(&l);
		return sp_cli_fail(SP_EXIT_USAGE, "two lines are read: the access "
		    "key and its secret, each of at most 256 bytes");
	}
	m.access = sp_buf_span(&access);
	m.secret = sp_buf_span(&secret);
	if (sp_send_vc_store_key(&l, 0, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_done(c, &l, forget ? "forgotten" : "set");
	sp_link_fini(&l);
	return rc;
}

/* 0: nothing to say; 1: well; 2: something waits; 3: it fails. */
int
sp_cli_store_health(const struct sp_cli *c, char *text, size_t cap)
{
	char *argv[] = {(char[]){"recordings"}, (char[]){"status"},
	    (char[]){"--json"}, NULL};
	json_object *on = NULL, *n = NULL, *f = NULL, *k = NULL;
	const char *oldest, *error;
	int rc, level;
	json_object *o = sp_cli_ask_json(c, 3, argv, &rc);

	json_object_object_get_ex(o, "on", &on);
	if (o == NULL || !json_object_get_boolean(on)) {
		json_object_put(o);
		return 0;
	}
	json_object_object_get_ex(o, "waiting", &n);
	json_object_object_get_ex(o, "failures", &f);
	json_object_object_get_ex(o, "shipped", &k);
	oldest = sp_cli_text_field(o, "oldest");
	error = sp_cli_text_field(o, "error");
	level = json_object_get_int(f) > 2 ? 3 : json_object_get_int(f) > 0 ? 2 : 1;
	snprintf(text, cap, "%lld recordings are in the store, %lld are not yet%s%s%s%s",
	    (long long)json_object_get_int64(k), (long long)json_object_get_int64(n),
	    oldest == NULL ? "" : ", the oldest ended ", oldest == NULL ? "" : oldest,
	    level == 1 || error == NULL ? "" : "; the last try failed: ",
	    level == 1 || error == NULL ? "" : error);
	json_object_put(o);
	return level;
}
