/* SPDX-License-Identifier: Apache-2.0 */
/* Targets and accounts. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"

/* ----------------------------------------------------------------- listing */

static const struct sp_col target_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"name", "TARGET", SP_COL_TEXT},
	{"addr", "ADDRESS", SP_COL_TEXT}, {"port", "PORT", SP_COL_NUMBER},
	{"tags", "TAGS", SP_COL_WORDS}, {"enabled", "ENABLED", SP_COL_BOOL},
	{"accounts", "ACCOUNTS", SP_COL_WORDS},
	{"fingerprints", "HOST KEY", SP_COL_WORDS},
};

/* The fingerprints of lines "algo base64", separated by spaces. */
static void
fingerprints(const char *lines, char *dst, size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	while (lines != NULL && *lines != '\0') {
		size_t n = strcspn(lines, "\n");
		struct sp_pubkey k;
		const char *why;
		char fp[SP_FINGERPRINT_TEXT];

		if (sp_pubkey_parse(sp_span_of(lines, n), &k, &why) == SP_OK &&
		    o + sizeof(fp) < cap) {
			sp_fingerprint(fp, sp_span_of(k.blob, k.n));
			o += (size_t)snprintf(dst + o, cap - o, "%s%s",
			    o > 0 ? " " : "", fp);
		}
		lines += n;
		lines += *lines == '\n';
	}
}

static void
account_names(const struct sp_rows *accounts, const char *target, char *dst,
    size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < sp_rows_n(accounts); i++) {
		const char *t = sp_rows_get(accounts, i, "target_id");

		if (t == NULL || strcmp(t, target) != 0 ||
		    o + SP_NAME_MAX + 2 >= cap)
			continue;
		o += (size_t)snprintf(dst + o, cap - o, "%s%.32s",
		    o > 0 ? " " : "", sp_rows_get(accounts, i, "name"));
	}
}

static void
targets_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(target_cols, 8);
	const struct sp_rows *t = c->rows[0];
	char fp[1024], names[2048];

	for (size_t i = 0; i < sp_rows_n(t); i++) {
		fingerprints(sp_rows_get(t, i, "host_keys"), fp, sizeof(fp));
		account_names(c->rows[1], sp_rows_get(t, i, "id"), names,
		    sizeof(names));
		sp_list_add(l, (const char *[]){sp_rows_get(t, i, "id"),
		    sp_rows_get(t, i, "name"), sp_rows_get(t, i, "addr"),
		    sp_rows_get(t, i, "port"), sp_rows_get(t, i, "tags"),
		    sp_rows_get(t, i, "enabled"), names, fp});
	}
	sp_call_end_list(c, l, "No targets yet. Add one: "
	    "target add NAME --addr ADDRESS --host-key 'ssh-ed25519 ...'");
}

void
sp_verb_targets_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"}}, 2, targets_print);
}

static const struct sp_col account_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"account", "ACCOUNT", SP_COL_TEXT},
	{"target", "TARGET", SP_COL_TEXT}, {"kind", "CREDENTIAL", SP_COL_TEXT},
	{"has_secret", "SECRET", SP_COL_BOOL},
};

static const char *
kind_name(int64_t kind)
{
	return kind == SP_CRED_SSH_CERT ? "cert" : kind == SP_CRED_SSH_KEY ?
	    "key" : kind == SP_CRED_SSH_PASSWORD ? "password" : "?";
}

static const char *
kind_number(const char *name)
{
	static const char one[] = {'0' + SP_CRED_SSH_CERT, 0};
	static const char two[] = {'0' + SP_CRED_SSH_KEY, 0};
	static const char three[] = {'0' + SP_CRED_SSH_PASSWORD, 0};

	return strcmp(name, "cert") == 0 ? one : strcmp(name, "key") == 0 ?
	    two : three;
}

static void
accounts_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(account_cols, 5);
	const struct sp_rows *a = c->rows[1];

	for (size_t i = 0; i < sp_rows_n(a); i++)
		sp_list_add(l, (const char *[]){sp_rows_get(a, i, "id"),
		    sp_rows_get(a, i, "name"), sp_rows_name(c->rows[0],
		    sp_rows_get(a, i, "target_id"), "name"),
		    kind_name(sp_rows_i64(a, i, "kind")),
		    sp_rows_get(a, i, "secret_id") != NULL ? "t" : "f"});
	sp_call_end_list(c, l,
	    "No accounts yet. Add one: account add ACCOUNT@TARGET --kind cert");
}

void
sp_verb_account_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY target_id, name"}}, 2,
	    accounts_print);
}

/* ------------------------------------------------------------------ target */

struct target {
	char name[SP_NAME_MAX + 1], addr[64], port[8], tags[512];
	char keys[4096], fp[1024];
	uint8_t id[16];
};

/* Names separated by commas or blanks, each valid, become one text. */
static bool
join_names(const char *in, char *dst, size_t cap, const char **bad)
{
	size_t o = strlen(dst);

	while (*in != '\0') {
		size_t n = strcspn(in, ", ");

		if (n > 0 && (!sp_name_is_valid(sp_span_of(in, n)) ||
		    o + n + 2 > cap)) {
			*bad = in;
			return false;
		}
		if (n > 0)
			o += (size_t)snprintf(dst + o, cap - o, "%s%.*s",
			    o > 0 ? " " : "", (int)n, in);
		in += n;
		in += strspn(in, ", ");
	}
	return true;
}

static bool
add_host_key(struct target *t, const char *line, const char **why)
{
	SP_BUF_AUTO b64 = {.max = 8192};
	struct sp_pubkey k;
	size_t o = strlen(t->keys);

	if (sp_pubkey_parse(sp_span_str(line), &k, why) != SP_OK)
		return false;
	*why = "too many host keys";
	if (strncmp(k.algo, "sk-", 3) == 0)
		*why = "a host has no security key";
	else if (sp_base64(&b64, sp_span_of(k.blob, k.n)) == SP_OK &&
	    o + strlen(k.algo) + b64.len + 3 < sizeof(t->keys)) {
		snprintf(t->keys + o, sizeof(t->keys) - o, "%s%s %.*s",
		    o > 0 ? "\n" : "", k.algo, (int)b64.len,
		    (const char *)sp_buf_span(&b64).p);
		return true;
	}
	return false;
}

static void
target_added(struct sp_call *c)
{
	struct target *t = c->state;
	char id[SP_UUID_TEXT];

	sp_broker_changed(c->b);
	sp_uuid_text(id, t->id);
	if (c->style.json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "id", sp_json_text(id));
		json_object_object_add(o, "state", sp_json_text("added"));
		json_object_object_add(o, "name", sp_json_text(t->name));
		json_object_object_add(o, "fingerprint", sp_json_text(t->fp));
		sp_call_json(c, o);
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	sp_call_did(c, id, "added", "Target %s (%s port %s) added.\n"
	    "Pinned host key %s%s\nNext: account add ACCOUNT@%s --kind cert",
	    t->name, t->addr, t->port, t->fp, sp_call_has(c, "scan") ?
	    "\nIt was read from the network: compare it at the target's console." :
	    "", t->name);
}

static void
target_insert(struct sp_call *c)
{
	struct target *t = c->state;
	struct sp_change *ch = sp_change_new(c->b->store);
	char *detail;

	fingerprints(t->keys, t->fp, sizeof(t->fp));
	detail = sp_call_detail("name", t->name, "addr", t->addr, "port", t->port,
	    "tags", t->tags, "host_key", t->fp, "scanned",
	    sp_call_has(c, "scan") ? "yes" : "no", NULL);
	sp_uuid_make(t->id);
	sp_change_insert(ch, SP_T_TARGETS, t->id, (const char *[]){t->name,
	    t->addr, t->port, t->keys, t->tags, "t", NULL, NULL, NULL});
	sp_change_audit(ch, "target_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "target add", target_added);
}

static void
on_scanned(void *arg, enum sp_err e, struct sp_span key, const char *text)
{
	struct sp_call *c = arg;
	struct target *t = c->state;
	SP_BUF_AUTO line = {.max = 8192};
	struct sp_pubkey k;
	const char *why = text;

	if (e == SP_OK && sp_pubkey_of_blob(key, &k, &why) == SP_OK &&
	    sp_buf_printf(&line, "%s ", k.algo) == SP_OK &&
	    sp_base64(&line, key) == SP_OK &&
	    sp_buf_put_u8(&line, 0) == SP_OK &&
	    add_host_key(t, (const char *)sp_buf_span(&line).p, &why))
		target_insert(c);
	else
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "could not read the host key of %s port %s: %s", t->addr,
		    t->port, sp_vis_str(why));
}

static bool
target_args(struct sp_call *c, struct target *t)
{
	const char *addr = sp_call_opt(c, "addr"), *port = sp_call_opt(c, "port");
	const char *bad = NULL, *v;
	struct in6_addr a6;
	uint64_t n = 22;

	if (!sp_name_is_valid(sp_span_str(c->pos[0])))
		bad = "a target's name is 1 to 32 of a-z 0-9 . _ -";
	else if (addr == NULL || strlen(addr) >= sizeof(t->addr) ||
	    (inet_pton(AF_INET, addr, &a6) != 1 &&
	    inet_pton(AF_INET6, addr, &a6) != 1))
		bad = "--addr wants a numeric address: names are not looked up, "
		    "so that nobody can move a target";
	else if (port != NULL && (sp_u64_parse(sp_span_str(port), 65535, &n) !=
	    SP_OK || n == 0))
		bad = "--port wants a number from 1 to 65535";
	if (bad != NULL) {
		sp_call_fail(c, SP_EXIT_USAGE, "%s", bad);
		return false;
	}
	snprintf(t->name, sizeof(t->name), "%s", c->pos[0]);
	snprintf(t->addr, sizeof(t->addr), "%s", addr);
	snprintf(t->port, sizeof(t->port), "%u", (unsigned)n);
	for (size_t i = 0; (v = sp_call_opt_n(c, "tag", i)) != NULL; i++)
		if (!join_names(v, t->tags, sizeof(t->tags), &bad)) {
			sp_call_fail(c, SP_EXIT_USAGE, "--tag %s: a tag is 1 to "
			    "32 of a-z 0-9 . _ -", sp_vis_str(bad));
			return false;
		}
	return true;
}

void
sp_verb_target_add(struct sp_call *c)
{
	struct target *t = calloc(1, sizeof(*t));
	const char *v, *why = "";

	SP_ASSERT(t != NULL);
	c->state = t;
	c->free_state = free;
	if (!target_args(c, t))
		return;
	for (size_t i = 0; (v = sp_call_opt_n(c, "host-key", i)) != NULL; i++)
		if (!add_host_key(t, v, &why)) {
			sp_call_fail(c, SP_EXIT_USAGE, "--host-key: %s", why);
			return;
		}
	if (t->keys[0] != '\0') {
		target_insert(c);
	} else if (sp_call_has(c, "scan")) {
		sp_session_scan(c->b, t->addr, (uint16_t)strtoul(t->port, NULL, 10),
		    on_scanned, c);
	} else {
		sp_call_fail(c, SP_EXIT_USAGE, "say which host key %s has: "
		    "--host-key 'ssh-ed25519 AAAA...' (a line of its "
		    "/etc/ssh/ssh_host_ed25519_key.pub), or --scan to read it "
		    "from the network and trust what answers", t->name);
	}
}

static void
removed(struct sp_call *c)
{
	uint8_t id[16];
	char text[SP_UUID_TEXT];

	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_uuid_text(text, id);
	if (strcmp(c->verb->name, "target") == 0)
		(void)sp_session_end_where(c->b, NULL, NULL, id, SP_END_POLICY,
		    "the target was removed");
	sp_broker_changed(c->b);
	sp_call_did(c, text, "removed", "%s removed.", c->pos[0]);
}

static void
target_drop(struct sp_call *c)
{
	struct sp_change *ch;
	uint8_t id[16];
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "there is no target %s: targets list shows them",
		    sp_vis_str(c->pos[0]));
		return;
	}
	if (sp_rows_n(c->rows[1]) > 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s still has %zu accounts; "
		    "remove them first: account remove %s@%s", c->pos[0],
		    sp_rows_n(c->rows[1]),
		    sp_rows_get(c->rows[1], 0, "name"), c->pos[0]);
		return;
	}
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	detail = sp_call_detail("name", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_TARGETS, id, sp_rows_ver(c->rows[0], 0));
	sp_change_audit(ch, "target_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "target remove", removed);
}

void
sp_verb_target_remove(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1", .p = {c->pos[0]},
	    .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE target_id IN (SELECT id FROM "
	    "targets WHERE name = $1)", .p = {c->pos[0]}, .n = 1}}, 2,
	    target_drop);
}

static void
target_is_set(struct sp_call *c)
{
	bool on = strcmp(c->verb->sub, "enable") == 0;
	uint8_t id[16];

	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	if (!on)
		(void)sp_session_end_where(c->b, NULL, NULL, id, SP_END_POLICY,
		    "the target was disabled");
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), on ? "enabled" :
	    "disabled", "Target %s %sd.", c->pos[0], c->verb->sub);
}

static void
target_write(struct sp_call *c)
{
	const struct sp_rows *r = c->rows[0];
	const char *on = strcmp(c->verb->sub, "enable") == 0 ? "t" : "f";
	struct sp_change *ch;
	uint8_t id[16];
	struct sp_vals v;
	char *detail;

	if (sp_rows_n(r) != 1 || !sp_rows_uuid(r, 0, "id", id)) {
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "there is no target %s: targets list shows them",
		    sp_vis_str(c->pos[0]));
		return;
	}
	detail = sp_call_detail("name", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_vals_from(&v, SP_T_TARGETS, r, 0);
	sp_vals_set(&v, "enabled", on);
	sp_change_update(ch, SP_T_TARGETS, id, sp_rows_ver(r, 0), v.v);
	sp_change_audit(ch, on[0] == 't' ? "target_enable" : "target_disable",
	    c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "target", target_is_set);
}

void
sp_verb_target_set(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_TARGETS,
	    .where = "WHERE name = $1", .p = {c->pos[0]}, .n = 1}}, 1,
	    target_write);
}

/* ----------------------------------------------------------------- account */

struct account {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	uint8_t id[16], secret[16];
	char secret_text[SP_UUID_TEXT];
	char *sealed;		/* "\x" and hex */
	char kind[16];
};

static void
account_free(void *state)
{
	struct account *a = state;

	free(a->sealed);
	free(a);
}

static void
account_added(struct sp_call *c)
{
	struct account *a = c->state;
	char id[SP_UUID_TEXT];

	sp_broker_changed(c->b);
	sp_uuid_text(id, a->id);
	sp_call_did(c, id, "added", "Account %s at %s added (%s).", a->account,
	    a->target, a->kind);
}

static void
account_insert(struct sp_call *c)
{
	struct account *a = c->state;
	struct sp_change *ch;
	const char *target;
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no target %s: "
		    "targets list shows them", a->target);
		return;
	}
	target = sp_rows_get(c->rows[0], 0, "id");
	detail = sp_call_detail("account", a->account, "target", a->target, "kind",
	    a->kind, NULL);
	ch = sp_change_new(c->b->store);
	sp_uuid_make(a->id);
	if (a->sealed != NULL)
		sp_change_insert(ch, SP_T_SECRETS, a->secret, (const char *[]){
		    target, kind_number(a->kind), a->sealed});
	sp_change_insert(ch, SP_T_ACCOUNTS, a->id, (const char *[]){target,
	    a->account, kind_number(a->kind), a->sealed != NULL ? a->secret_text : NULL});
	sp_change_audit(ch, "account_add", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account add", account_added);
}

/* The blob that the vault sealed for this row; the CLI brings it. */
static bool
take_sealed(struct sp_call *c, struct account *a)
{
	const char *id = sp_call_opt(c, "secret-id");
	const char *hex = sp_call_opt(c, "sealed");
	size_t n = hex == NULL ? 0 : strlen(hex);

	if (id == NULL || n == 0 || n % 2 != 0 || n > 16384 ||
	    strspn(hex, "0123456789abcdef") != n ||
	    sp_uuid_parse(a->secret, sp_span_str(id)) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "a %s is sealed by the vault on "
		    "the host: sallyport account add %s@%s --kind %s "
		    "--%s-stdin", a->kind, a->account, a->target, a->kind,
		    a->kind);
		return false;
	}
	sp_uuid_text(a->secret_text, a->secret);
	a->sealed = calloc(1, n + 3);
	SP_ASSERT(a->sealed != NULL);
	snprintf(a->sealed, n + 3, "\\x%s", hex);
	return true;
}

void
sp_verb_account_add(struct sp_call *c)
{
	struct account *a = calloc(1, sizeof(*a));
	const char *kind = sp_call_opt(c, "kind");

	SP_ASSERT(a != NULL);
	c->state = a;
	c->free_state = account_free;
	if (!sp_split_ask(c->pos[0], a->account, a->target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	if (kind == NULL || (strcmp(kind, "cert") != 0 &&
	    strcmp(kind, "key") != 0 && strcmp(kind, "password") != 0)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--kind is cert (made by the "
		    "vault for each session), key or password");
		return;
	}
	snprintf(a->kind, sizeof(a->kind), "%s", kind);
	if (strcmp(kind, "cert") != 0 && !take_sealed(c, a))
		return;
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_TARGETS,
	    .where = "WHERE name = $1", .p = {a->target}, .n = 1}}, 1,
	    account_insert);
}

static void
account_drop(struct sp_call *c)
{
	struct sp_change *ch;
	uint8_t id[16], secret[16];
	char *detail;

	if (sp_rows_n(c->rows[0]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "there is no account %s: account list shows them",
		    sp_vis_str(c->pos[0]));
		return;
	}
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	detail = sp_call_detail("account", c->pos[0], NULL);
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_ACCOUNTS, id, sp_rows_ver(c->rows[0], 0));
	if (sp_rows_n(c->rows[1]) == 1) {
		(void)sp_rows_uuid(c->rows[1], 0, "id", secret);
		sp_change_delete(ch, SP_T_SECRETS, secret,
		    sp_rows_ver(c->rows[1], 0));
	}
	sp_change_audit(ch, "account_remove", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account remove", removed);
}

#define ACCOUNT_OF "(SELECT a.id FROM accounts a JOIN targets t ON t.id = "     \
	"a.target_id WHERE a.name = $1 AND t.name = $2)"

void
sp_verb_account_remove(struct sp_call *c)
{
	struct account *a = calloc(1, sizeof(*a));

	SP_ASSERT(a != NULL);
	c->state = a;
	c->free_state = account_free;
	if (!sp_split_ask(c->pos[0], a->account, a->target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_ACCOUNTS, .where = "WHERE id IN " ACCOUNT_OF,
	    .p = {a->account, a->target}, .n = 2},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN (SELECT secret_id FROM "
	    "accounts WHERE id IN " ACCOUNT_OF ")",
	    .p = {a->account, a->target}, .n = 2}}, 2, account_drop);
}
