/* SPDX-License-Identifier: Apache-2.0 */
/* Release rules: what the host needs to make one, what approvers sign. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_release.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"

/* ------------------------------------------------- for the CLI on the host */

static json_object *
hex_json(const struct sp_rows *r, size_t row, const char *col)
{
	const char *v = sp_rows_get(r, row, col);

	return v == NULL || strlen(v) < 2 ? NULL : json_object_new_string(v + 2);
}

/* rows: 5 people, 6 their keys */
static json_object *
people_json(const struct sp_call *c)
{
	json_object *all = json_object_new_array();
	uint8_t id[16];

	for (size_t i = 0; i < sp_rows_n(c->rows[5]); i++) {
		json_object *o = json_object_new_object();
		json_object *keys = json_object_new_array();

		if (!sp_rows_uuid(c->rows[5], i, "id", id) ||
		    !sp_rows_bool(c->rows[5], i, "enabled")) {
			json_object_put(keys);
			json_object_put(o);
			continue;
		}
		for (size_t k = 0; k < sp_rows_n(c->rows[6]); k++)
			if (strcmp(sp_rows_get(c->rows[6], k, "person_id"),
			    sp_rows_get(c->rows[5], i, "id")) == 0 &&
			    sp_rows_bool(c->rows[6], k, "enabled"))
				json_object_array_add(keys,
				    hex_json(c->rows[6], k, "blob"));
		json_object_object_add(o, "id",
		    sp_json_text(sp_rows_get(c->rows[5], i, "id")));
		json_object_object_add(o, "name",
		    sp_json_text(sp_rows_get(c->rows[5], i, "name")));
		json_object_object_add(o, "keys", keys);
		json_object_array_add(all, o);
	}
	return all;
}

static void
rule_data_print(struct sp_call *c)
{
	const struct sp_rows *a = c->rows[1], *s = c->rows[2];
	json_object *o;
	size_t at;

	at = sp_rows_find(s, "id", sp_rows_get(a, 0, "secret_id"));
	if (at == SIZE_MAX) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s has no stored secret that a "
		    "rule could be for", c->pos[0]);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "id", sp_json_text(sp_rows_get(s, at, "id")));
	json_object_object_add(o, "kind",
	    json_object_new_int64(sp_rows_i64(s, at, "kind")));
	json_object_object_add(o, "version", json_object_new_int64(
	    (int64_t)sp_rows_secret_ver(s, at)));
	json_object_object_add(o, "owner",
	    sp_json_text(sp_rows_get(s, at, "owner_id")));
	json_object_object_add(o, "sealed", hex_json(s, at, "sealed"));
	json_object_object_add(o, "rule", hex_json(s, at, "rule"));
	json_object_object_add(o, "account",
	    sp_json_text(sp_rows_get(a, 0, "name")));
	json_object_object_add(o, "target",
	    sp_json_text(sp_rows_get(c->rows[0], 0, "name")));
	json_object_object_add(o, "addr",
	    sp_json_text(sp_rows_get(c->rows[0], 0, "addr")));
	json_object_object_add(o, "port",
	    json_object_new_int64(sp_rows_i64(c->rows[0], 0, "port")));
	json_object_object_add(o, "host_keys",
	    sp_json_text(sp_rows_get(c->rows[0], 0, "host_keys")));
	json_object_object_add(o, "people", people_json(c));
	sp_call_json(c, o);
	sp_call_end(c, SP_EXIT_OK);
}

#define MEMBERS "(SELECT person_id FROM memberships WHERE group_name = $1)"

static void
load_members(struct sp_call *c)
{
	const char *group = sp_call_opt(c, "group");
	uint8_t id[16];

	if (!sp_account_found(c, id))
		return;
	group = group == NULL ? "" : group;
	sp_call_load(c, 5, (struct sp_need[]){
	    {.t = SP_T_PEOPLE, .where = "WHERE id IN " MEMBERS " ORDER BY name",
	    .p = {group}, .n = 1},
	    {.t = SP_T_PERSON_KEYS, .where = "WHERE person_id IN " MEMBERS
	    " ORDER BY id", .p = {group}, .n = 1}}, 2, rule_data_print);
}

void
sp_verb_rule_data(struct sp_call *c)
{
	sp_account_load(c, load_members);
}

/* ------------------------------------------------------------------- store */

static void
rule_stored(struct sp_call *c)
{
	bool none = sp_call_opt(c, "rule") == NULL;

	sp_broker_changed(c->b);
	sp_call_did(c, sp_call_opt(c, "id"), none ? "removed" : "set", none ?
	    "%s has no release rule any more." : "%s is released by its rule alone "
	    "from now on.", c->pos[0]);
}

static char *
bytea_opt(const struct sp_call *c, const char *name, size_t most)
{
	const char *hex = sp_call_opt(c, name);
	size_t n = hex == NULL ? 0 : strlen(hex);
	char *t = NULL;

	if (n == 0 || n % 2 != 0 || n > 2 * most ||
	    strspn(hex, "0123456789abcdef") != n || (t = calloc(1, n + 3)) == NULL)
		return NULL;
	snprintf(t, n + 3, "\\x%s", hex);
	return t;
}

static void
rule_store(struct sp_call *c)
{
	const struct sp_rows *s = c->rows[2];
	const char *want = sp_call_opt(c, "id");
	char *sealed = bytea_opt(c, "sealed", 8192), *detail;
	char *rule = bytea_opt(c, "rule", SP_RULE_MAX);
	struct sp_change *ch;
	struct sp_vals v;
	uint8_t account[16], id[16];
	size_t at;

	if (!sp_account_found(c, account)) {
		free(sealed);
		free(rule);
		return;
	}
	at = sp_rows_find(s, "id", want);
	if (at == SIZE_MAX || sealed == NULL || !sp_rows_uuid(s, at, "id", id) ||
	    (rule == NULL) != (sp_call_opt(c, "rule") == NULL)) {
		free(sealed);
		free(rule);
		sp_call_fail(c, SP_EXIT_USAGE, "this is for the host: sallyport "
		    "secret rule %s", sp_vis_str(c->pos[0]));
		return;
	}
	sp_vals_from(&v, SP_T_SECRETS, s, at);
	sp_vals_set(&v, "sealed", sealed);
	sp_vals_set(&v, "rule", rule);
	detail = sp_call_detail("account", c->pos[0], "rule", rule == NULL ?
	    "none" : "set", "shown", sp_call_opt(c, "shown"), NULL);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_SECRETS, id, sp_rows_ver(s, at), v.v);
	sp_change_audit(ch, "release_rule", c->who.name, NULL, detail);
	free(detail);
	free(sealed);
	free(rule);
	sp_call_commit(c, ch, "secret rule", rule_stored);
}

void
sp_verb_rule_store(struct sp_call *c)
{
	sp_account_load(c, rule_store);
}

/* --------------------------------------------------------------- challenge */

/* rows: 0 requests, 1 accounts, 2 secrets */
static void
challenge_print(struct sp_call *c)
{
	SP_BUF_AUTO bytes = {.max = SP_CHALLENGE_MAX}, rule = {.max = SP_RULE_MAX};
	SP_BUF_AUTO text = {.max = SP_CHALLENGE_TEXT_MAX};
	static struct sp_challenge ch;
	static struct sp_rule r;
	json_object *o;

	if (sp_rows_bytes(c->rows[0], 0, "challenge", &bytes) != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "request %s needs no signature: "
		    "approve %s", c->pos[0], c->pos[0]);
		return;
	}
	if (sp_rows_n(c->rows[2]) != 1 ||
	    sp_rows_bytes(c->rows[2], 0, "rule", &rule) != SP_OK ||
	    sp_rule_decode(sp_buf_span(&rule), &r) != SP_OK ||
	    sp_challenge_decode(sp_buf_span(&bytes), &ch) != SP_OK ||
	    ch.rule_version != r.version ||
	    sp_challenge_text(&text, &ch, &r) != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "the release rule has changed since "
		    "request %s was made: it must be made anew", c->pos[0]);
		return;
	}
	if (c->style.json) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_int64(
		    (int64_t)ch.number));
		json_object_object_add(o, "namespace",
		    json_object_new_string(SP_APPROVE_NAMESPACE));
		json_object_object_add(o, "text", json_object_new_string_len(
		    (const char *)sp_buf_span(&text).p, (int)text.len));
		sp_call_json(c, o);
	} else {
		sp_call_out(c, sp_buf_span(&text));
	}
	sp_call_end(c, SP_EXIT_OK);
}

static bool
may_see(const struct sp_call *c)
{
	uint8_t person[16];

	return sp_rows_n(c->rows[0]) == 1 && (sp_actor_may_audit(&c->who) ||
	    sp_actor_in(&c->who, sp_rows_get(c->rows[0], 0, "approver_group")) ||
	    (sp_rows_uuid(c->rows[0], 0, "person_id", person) &&
	    memcmp(person, c->who.person, 16) == 0));
}

static void
challenge_secret(struct sp_call *c)
{
	if (!may_see(c))
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no request %s that you "
		    "may see; requests --all lists yours", c->pos[0]);
	else
		challenge_print(c);
}

#define OF_REQUEST(what) "(SELECT " what " FROM accounts WHERE id = (SELECT "    \
	"account_id FROM requests WHERE num = $1::bigint))"

static bool
number_arg(struct sp_call *c)
{
	uint64_t n;

	if (sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, &n) == SP_OK && n > 0)
		return true;
	sp_call_fail(c, SP_EXIT_USAGE,
	    "%s wants the number of a request; requests lists them",
	    c->verb->name);
	return false;
}

static void
load_request(struct sp_call *c, void (*then)(struct sp_call *))
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_REQUESTS, .where = "WHERE num = $1::bigint",
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " OF_REQUEST("id"),
	    .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN " OF_REQUEST("secret_id"),
	    .p = {c->pos[0]}, .n = 1}}, 3, then);
}

void
sp_verb_challenge(struct sp_call *c)
{
	if (number_arg(c))
		load_request(c, challenge_secret);
}

/* ----------------------------------------------------------------- approve */

static void
decided(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct sp_call *c = arg;
	char id[24];

	c->on_gone = NULL;
	snprintf(id, sizeof(id), "%llu", (unsigned long long)number);
	if (e == SP_OK)
		sp_call_did(c, id, "approved", "%s", text);
	else if (text == NULL || text[0] == '\0')
		sp_call_fail_err(c, e, c->verb->name);
	else
		sp_call_fail(c, e == SP_ERR_DB || e == SP_ERR_TIMEOUT ||
		    e == SP_ERR_SEALED || e == SP_ERR_EOF ? SP_EXIT_LATER :
		    SP_EXIT_REFUSED, "%s", text);
}

static void
decide(struct sp_call *c, struct sp_span signature)
{
	const char *comment = sp_call_opt(c, "comment");
	uint64_t n = 0;

	c->on_eof = NULL;
	c->on_gone = NULL;
	(void)!sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, &n);
	sp_request_approve_signed(c->b, &c->who, n, comment == NULL ? "" : comment,
	    signature, decided, c);
}

static void
signature_came(struct sp_call *c)
{
	SP_BUF_AUTO sig = {.max = 8192};

	if (c->input.len == 0)
		decide(c, (struct sp_span){0});		/* says what to do */
	else if (sp_sshsig_dearmor(sp_buf_span(&c->input), &sig) != SP_OK)
		sp_call_fail(c, SP_EXIT_USAGE, "what came is no signature: it begins "
		    "with -----BEGIN SSH SIGNATURE-----, as ssh-keygen -Y sign "
		    "writes it");
	else
		decide(c, sp_buf_span(&sig));
}

static void
went_away(struct sp_call *c)
{
	sp_call_end(c, SP_EXIT_REFUSED);
}

/* A request that owes no signature is decided without waiting for anything. */
static void
approve_loaded(struct sp_call *c)
{
	uint64_t n = 0;
	char text[700];

	if (sp_rows_n(c->rows[0]) != 1 ||
	    sp_rows_get(c->rows[0], 0, "challenge") == NULL) {
		decide(c, (struct sp_span){0});
	} else if (c->ended) {
		signature_came(c);
	} else if (c->pty) {
		(void)!sp_u64_parse(sp_span_str(c->pos[0]), INT64_MAX, &n);
		sp_release_howto(text, sizeof(text), n);
		sp_call_fail(c, SP_EXIT_REFUSED, "%s", text);
	} else {
		c->on_eof = signature_came;
		c->on_gone = went_away;
	}
}

void
sp_verb_approve(struct sp_call *c)
{
	if (number_arg(c))
		load_request(c, approve_loaded);
}
