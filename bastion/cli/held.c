/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/cli/held.h"

#include <stdio.h>
#include <string.h>

#include <json-c/json.h>
#include <sodium.h>

static enum sp_err
take_hex(struct json_object *o, const char *key, struct sp_buf *out)
{
	const char *hex = sp_cli_text_field(o, key);
	size_t n = hex == NULL ? 0 : strlen(hex) / 2;
	uint8_t *at;

	if (n == 0)
		return SP_OK;
	SP_TRY(sp_buf_reserve(out, n, &at));
	SP_TRY(sp_unhex(at, n, sp_span_str(hex)));
	sp_buf_commit(out, n);
	return SP_OK;
}

static int64_t
number(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

static bool
fill(struct sp_held *h)
{
	const char *id = sp_cli_text_field(h->json, "id");
	const char *owner = sp_cli_text_field(h->json, "owner");
	struct sp_rule r;

	h->kind = (uint8_t)number(h->json, "kind");
	h->version = (uint64_t)number(h->json, "version");
	if (id == NULL || owner == NULL ||
	    sp_uuid_parse(h->id, sp_span_str(id)) != SP_OK ||
	    sp_uuid_parse(h->owner, sp_span_str(owner)) != SP_OK ||
	    take_hex(h->json, "sealed", &h->sealed) != SP_OK ||
	    h->sealed.len == 0 || take_hex(h->json, "rule", &h->rule) != SP_OK)
		return false;
	if (h->rule.len > 0 && sp_rule_decode(sp_buf_span(&h->rule), &r) == SP_OK)
		h->rule_version = r.version;
	return true;
}

int
sp_held_load(const struct sp_cli *c, const char *where, const char *group,
    struct sp_held *h)
{
	char *argv[] = {(char[]){"secret"}, (char[]){"rule-data"},
	    (char *)(uintptr_t)where, (char[]){"--json"},
	    group != NULL ? (char[]){"--group"} : NULL,
	    (char *)(uintptr_t)group, NULL};
	int rc;

	*h = (struct sp_held){.sealed = {.max = 8192}, .rule = {.max = SP_RULE_MAX}};
	h->json = sp_cli_ask_json(c, group != NULL ? 6 : 4, argv, &rc);
	if (h->json == NULL)
		return rc == SP_EXIT_OK ? SP_EXIT_REFUSED : rc;
	return fill(h) ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_REFUSED, "the broker "
	    "says of %s what cannot be read", where);
}

void
sp_held_fini(struct sp_held *h)
{
	sp_buf_fini(&h->sealed);
	sp_buf_fini(&h->rule);
	json_object_put(h->json);
	h->json = NULL;
}

enum sp_err
sp_held_hex(struct sp_buf *out, struct sp_span bytes)
{
	uint8_t *at;

	SP_TRY(sp_buf_reserve(out, 2 * bytes.n + 1, &at));
	sp_hex((char *)at, bytes.p, bytes.n);
	sp_buf_commit(out, 2 * bytes.n + 1);
	return SP_OK;
}

void
sp_held_fingerprint(char t[static 64], struct sp_span blob)
{
	SP_BUF_AUTO b64 = {.max = 64};
	uint8_t h[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(h, blob.p, blob.n);
	if (sp_base64(&b64, sp_span_of(h, sizeof(h))) != SP_OK)
		t[0] = '\0';
	else
		snprintf(t, 64, "SHA256:%.43s", (const char *)sp_buf_span(&b64).p);
}

int
sp_held_rule_set(const struct sp_cli *c, const struct sp_msg_vc_rule_set *m,
    struct sp_buf *hex)
{
	struct sp_msg_vc_rule_set_r r = {.err = SP_ERR_PROTO};
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_rule_set(&l, 0, m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_rule_set_r, &p);
	if (rc == SP_EXIT_OK && sp_dec_vc_rule_set_r(p.body, &r) != SP_OK)
		rc = SP_EXIT_LATER;
	else if (rc == SP_EXIT_OK && r.err != SP_OK)
		rc = sp_cli_fail(r.err == SP_ERR_SEALED ? SP_EXIT_LATER :
		    SP_EXIT_REFUSED, "the vault does not take that rule: %s",
		    sp_vis_tmp(r.text));
	else if (rc == SP_EXIT_OK && sp_held_hex(hex, r.sealed) != SP_OK)
		rc = SP_EXIT_LATER;
	sp_link_fini(&l);
	return rc;
}

int
sp_held_rule_json(const struct sp_rule *r)
{
	json_object *o = json_object_new_object(), *keys = json_object_new_array();
	char t[SP_TIME_TEXT];

	sp_time_text(t, r->made_us, false);
	json_object_object_add(o, "version",
	    json_object_new_int64((int64_t)r->version));
	json_object_object_add(o, "approvals", json_object_new_int(r->need));
	json_object_object_add(o, "touch", json_object_new_boolean(r->touch));
	json_object_object_add(o, "seconds", json_object_new_int64(r->max_seconds));
	json_object_object_add(o, "group", json_object_new_string(r->group));
	json_object_object_add(o, "made", json_object_new_string(t));
	for (size_t i = 0; i < r->n; i++) {
		json_object *k = json_object_new_object();
		char fp[64];

		sp_held_fingerprint(fp, r->key[i].key);
		json_object_object_add(k, "person",
		    json_object_new_string(r->key[i].name));
		json_object_object_add(k, "key", json_object_new_string(fp));
		json_object_array_add(keys, k);
	}
	json_object_object_add(o, "keys", keys);
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
	    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return SP_EXIT_OK;
}
