/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: where they are, the way to them, their pinned keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/where.h"
#include "bastion/broker/approval_way.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"
#include "bastion/broker/verb_sql.h"

struct target {
	char name[SP_NAME_MAX + 1], tags[512];
	char more[SP_MORE_ADDRS];	/* the addresses after the first */
	char keys[4096], fp[1024];
	struct sp_where first;		/* port 0: not given */
	uint8_t id[16];
	const char *legacy;		/* "t", "f", or NULL: not given */
	bool has_tags, no_via;
	const char *via_target, *via_account;
	char via[SP_UUID_TEXT];		/* or "" */
	struct sp_sql_target db;
};

static char *
where(const struct target *t, char at[static SP_WHERE_TEXT])
{
	return sp_where_text(at, t->first.host, t->first.port);
}

static bool
is_legacy(const struct target *t)
{
	return t->legacy != NULL && t->legacy[0] == 't';
}

/* --------------------------------------------------------------- arguments */

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

	if (sp_host_key_parse(sp_span_str(line), is_legacy(t), &k, why) != SP_OK)
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

static const char *
take_addrs(struct sp_call *c, struct target *t)
{
	const char *v, *port = sp_call_opt(c, "port");
	char one[SP_WHERE_TEXT];
	struct sp_where a;
	const char *proto = sp_call_opt(c, "protocol");
	uint64_t n = proto == NULL ? 22 : strcmp(proto, "postgresql") == 0 ? 5432 :
	    strcmp(proto, "mariadb") == 0 ? 3306 : 22;
	size_t i, o = 0;

	if (port != NULL && (sp_u64_parse(sp_span_str(port), 65535, &n) != SP_OK ||
	    n == 0))
		return "--port wants a number from 1 to 65535";
	for (i = 0; (v = sp_call_opt_n(c, "addr", i)) != NULL; i++) {
		if (i == SP_WHERE_MAX)
			return "a target has at most eight addresses";
		if (sp_where_parse(sp_span_str(v), (uint16_t)n, &a) != SP_OK)
			return "--addr wants a numeric address, 192.0.2.7, ::1 or "
			    "[::1]:2222: names are not looked up, so that nobody "
			    "can move a target";
		if (i == 0)
			t->first = a;
		else
			o += (size_t)snprintf(t->more + o, sizeof(t->more) - o,
			    "%s%s", o > 0 ? " " : "",
			    sp_where_text(one, a.host, a.port));
	}
	return port != NULL && i == 0 ? "--port goes with --addr" : NULL;
}

static const char *
take_way(struct sp_call *c, struct target *t)
{
	const char *legacy = sp_call_opt(c, "legacy");

	t->via_target = sp_call_opt(c, "via");
	t->via_account = sp_call_opt(c, "via-account");
	if (legacy != NULL && strcmp(legacy, "on") != 0 &&
	    strcmp(legacy, "off") != 0)
		return "--legacy wants on or off";
	if (legacy != NULL)
		t->legacy = strcmp(legacy, "on") == 0 ? "t" : "f";
	if (t->via_target != NULL && t->via_account == NULL &&
	    strcmp(t->via_target, "none") == 0) {
		t->via_target = NULL;
		t->no_via = true;
	}
	if ((t->via_target == NULL) != (t->via_account == NULL))
		return "--via TARGET and --via-account ACCOUNT go together";
	if (t->via_target != NULL && sp_call_has(c, "scan"))
		return "a target behind another cannot be scanned: give its "
		    "--host-key";
	return NULL;
}

/* false: the call has ended. */
static bool
target_args(struct sp_call *c, struct target *t)
{
	const char *bad = NULL, *v;

	if (!sp_name_is_valid(sp_span_str(c->pos[0])))
		bad = "a target's name is 1 to 32 of a-z 0-9 . _ -";
	if (bad == NULL)
		bad = take_addrs(c, t);
	if (bad == NULL)
		bad = take_way(c, t);
	if (bad == NULL)
		bad = sp_sql_target_args(c, &t->db);
	for (size_t i = 0; bad == NULL && (v = sp_call_opt_n(c, "tls-pin", i)) !=
	    NULL; i++)
		bad = sp_sql_add_pin(v, t->keys, sizeof(t->keys));
	if (bad != NULL) {
		sp_call_fail(c, SP_EXIT_USAGE, "%s", bad);
		return false;
	}
	snprintf(t->name, sizeof(t->name), "%s", c->pos[0]);
	for (size_t i = 0; (v = sp_call_opt_n(c, "tag", i)) != NULL; i++) {
		t->has_tags = true;
		if (!join_names(v, t->tags, sizeof(t->tags), &bad)) {
			sp_call_fail(c, SP_EXIT_USAGE, "--tag %s: a tag is 1 to "
			    "32 of a-z 0-9 . _ -", sp_vis_str(bad));
			return false;
		}
	}
	for (size_t i = 0; (v = sp_call_opt_n(c, "host-key", i)) != NULL; i++)
		if (!add_host_key(t, v, &bad)) {
			sp_call_fail(c, SP_EXIT_USAGE, "--host-key: %s", bad);
			return false;
		}
	return true;
}

/* ----------------------------------------------------- the way to a target */

/* Rows of a call that names a way: the target itself, all targets, all
 * accounts. */
enum { ROW_SELF, ROW_TARGETS, ROW_ACCOUNTS };

/* Walks from the account to the target that is connected to directly. */
static const char *
walk(const struct sp_call *c, const char *self, const char *via)
{
	const struct sp_rows *t = c->rows[ROW_TARGETS], *a = c->rows[ROW_ACCOUNTS];

	for (size_t n = 1; via != NULL; n++) {
		size_t i = sp_rows_find(a, "id", via), k;

		if (i == SIZE_MAX || (k = sp_rows_find(t, "id",
		    sp_rows_get(a, i, "target_id"))) == SIZE_MAX)
			return "a target on the way is missing";
		if (self != NULL && strcmp(sp_rows_get(t, k, "id"), self) == 0)
			return "that way would lead back to the target itself";
		if (n > SP_WAY_MAX)
			return "a way has at most four targets";
		via = sp_rows_get(t, k, "via");
	}
	return NULL;
}

static bool
resolve_way(struct sp_call *c, struct target *t, const char *self)
{
	const struct sp_rows *a = c->rows[ROW_ACCOUNTS];
	size_t k = sp_rows_find(c->rows[ROW_TARGETS], "name", t->via_target);
	const char *id = k == SIZE_MAX ? NULL :
	    sp_rows_get(c->rows[ROW_TARGETS], k, "id");
	const char *bad;

	for (size_t i = 0; id != NULL && i < sp_rows_n(a); i++)
		if (strcmp(sp_rows_get(a, i, "target_id"), id) == 0 &&
		    strcmp(sp_rows_get(a, i, "name"), t->via_account) == 0)
			snprintf(t->via, sizeof(t->via), "%s",
			    sp_rows_get(a, i, "id"));
	if (t->via[0] == '\0') {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no account %s@%s to go "
		    "over: account list shows them", sp_vis_str(t->via_account),
		    sp_vis_str(t->via_target));
		return false;
	}
	if ((bad = walk(c, self, t->via)) == NULL)
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED, "%s cannot stand behind %s: %s", t->name,
	    sp_vis_str(t->via_target), bad);
	return false;
}

static void
load_then(struct sp_call *c, const struct target *t, void (*then)(struct sp_call *))
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE name = $1", .p = {c->pos[0]}, .n = 1},
	    {.t = SP_T_TARGETS, .where = ""}, {.t = SP_T_ACCOUNTS, .where = ""}},
	    t->via_target != NULL ? 3 : 1, then);
}

static char *
detail_of(const struct sp_call *c, const struct target *t)
{
	char at[SP_WHERE_TEXT], way[2 * SP_NAME_MAX + 2] = "none";

	if (t->via_target != NULL)
		snprintf(way, sizeof(way), "%.32s@%.32s", t->via_account,
		    t->via_target);
	/* What was not named is null. */
	return sp_call_detail("name", t->name, "addr",
	    t->first.port == 0 ? NULL : where(t, at), "more_addrs",
	    t->more[0] == '\0' ? NULL : t->more,
	    "tags", t->has_tags ? t->tags : NULL, "host_key",
	    t->fp[0] == '\0' ? NULL : t->fp, "via",
	    t->via[0] == '\0' && !t->no_via ? NULL : way, "legacy", t->legacy == NULL ?
	    NULL : t->legacy[0] == 't' ? "on" : "off", "protocol",
	    t->db.protocol, "sql", t->db.is_given ? t->db.sql : NULL, "scanned",
	    sp_call_has(c, "scan") ? "yes" : "no", NULL);
}

static void
set_values(struct sp_vals *v, const struct target *t, char port[static 8])
{
	snprintf(port, 8, "%u", (unsigned)t->first.port);
	if (t->first.port != 0) {
		sp_vals_set(v, "addr", t->first.host);
		sp_vals_set(v, "port", port);
		sp_vals_set(v, "more_addrs", t->more[0] == '\0' ? NULL : t->more);
	}
	if (t->keys[0] != '\0')
		sp_vals_set(v, "host_keys", t->keys);
	if (t->has_tags)
		sp_vals_set(v, "tags", t->tags);
	if (t->via[0] != '\0' || t->no_via)
		sp_vals_set(v, "via", t->via[0] == '\0' ? NULL : t->via);
	if (t->legacy != NULL)
		sp_vals_set(v, "legacy", t->legacy);
	if (t->db.protocol != NULL)
		sp_vals_set(v, "protocol", t->db.protocol);
	if (t->db.is_given)
		sp_vals_set(v, "sql", t->db.sql[0] == '\0' ? NULL : t->db.sql);
}

/* --------------------------------------------------------------------- add */

static void
target_added(struct sp_call *c)
{
	struct target *t = c->state;
	char id[SP_UUID_TEXT], at[SP_WHERE_TEXT];

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
	sp_call_did(c, id, "added", "Target %s (%s%s%s) added.\n"
	    "Pinned host key %s%s\nNext: account add ACCOUNT@%s --kind %s",
	    t->name, where(t, at), t->more[0] == '\0' ? "" : " ", t->more, t->fp,
	    sp_call_has(c, "scan") ?
	    "\nIt was read from the network: compare it at the target's console." :
	    "", t->name, t->db.protocol == NULL ? "cert" : t->db.protocol);
}

static void
target_insert(struct sp_call *c)
{
	struct target *t = c->state;
	struct sp_change *ch = sp_change_new(c->b->store);
	struct sp_vals v;
	char *detail, port[8];

	sp_target_fingerprints(t->keys, t->fp, sizeof(t->fp));
	detail = detail_of(c, t);
	sp_uuid_make(t->id);
	sp_vals_init(&v, SP_T_TARGETS);
	set_values(&v, t, port);
	sp_vals_set(&v, "name", t->name);
	sp_vals_set(&v, "tags", t->tags);
	sp_vals_set(&v, "enabled", "t");
	sp_change_insert(ch, SP_T_TARGETS, t->id, v.v);
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
	char at[SP_WHERE_TEXT];

	if (e == SP_OK && sp_host_key_of_blob(key, is_legacy(t), &k, &why) ==
	    SP_OK &&
	    sp_buf_printf(&line, "%s ", k.algo) == SP_OK &&
	    sp_base64(&line, key) == SP_OK &&
	    sp_buf_put_u8(&line, 0) == SP_OK &&
	    add_host_key(t, (const char *)sp_buf_span(&line).p, &why))
		target_insert(c);
	else
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "could not read the host key of %s: %s", where(t, at),
		    sp_vis_str(why));
}

static void
add_on_way(struct sp_call *c)
{
	struct target *t = c->state;

	if (resolve_way(c, t, NULL))
		target_insert(c);
}

void
sp_verb_target_add(struct sp_call *c)
{
	struct target *t = calloc(1, sizeof(*t));

	SP_ASSERT(t != NULL);
	c->state = t;
	c->free_state = free;
	if (!target_args(c, t))
		return;
	if (t->db.protocol != NULL && sp_call_opt(c, "tls-pin") == NULL)
		sp_call_fail(c, SP_EXIT_USAGE, "say which certificate %s has: "
		    "--tls-pin sha256:HEX (openssl x509 -noout -fingerprint -sha256 "
		    "-in server.crt)", t->name);
	else if (t->first.port == 0)
		sp_call_fail(c, SP_EXIT_USAGE, "say where %s is: --addr 192.0.2.7 "
		    "(often: each is tried in turn)", t->name);
	else if (t->keys[0] != '\0' && t->via_target != NULL)
		load_then(c, t, add_on_way);
	else if (t->keys[0] != '\0')
		target_insert(c);
	else if (sp_call_has(c, "scan"))
		sp_session_scan(c->b, t->first.host, t->first.port, is_legacy(t),
		    on_scanned, c);
	else
		sp_call_fail(c, SP_EXIT_USAGE, "say which host key %s has: "
		    "--host-key 'ssh-ed25519 AAAA...' (a line of its "
		    "/etc/ssh/ssh_host_ed25519_key.pub), or --scan to read it "
		    "from the network and trust what answers", t->name);
}

/* --------------------------------------------------------------------- set */

static void
target_is_set(struct sp_call *c)
{
	/* Sessions under way are judged again, and end where it matters. */
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[ROW_SELF], 0, "id"), "set",
	    "Target %s changed.", c->pos[0]);
}

static void
target_write(struct sp_call *c)
{
	const struct sp_rows *r = c->rows[ROW_SELF];
	struct target *t = c->state;
	struct sp_change *ch;
	struct sp_vals v;
	char *detail, port[8];

	if (sp_rows_n(r) != 1 || !sp_rows_uuid(r, 0, "id", t->id)) {
		sp_call_fail(c, SP_EXIT_REFUSED,
		    "there is no target %s: targets list shows them",
		    sp_vis_str(c->pos[0]));
		return;
	}
	if (t->via_target != NULL && !resolve_way(c, t, sp_rows_get(r, 0, "id")))
		return;
	sp_target_fingerprints(t->keys, t->fp, sizeof(t->fp));
	detail = detail_of(c, t);
	sp_vals_from(&v, SP_T_TARGETS, r, 0);
	set_values(&v, t, port);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_TARGETS, t->id, sp_rows_ver(r, 0), v.v);
	sp_change_audit(ch, "target_set", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "target set", target_is_set);
}

void
sp_verb_target_set(struct sp_call *c)
{
	struct target *t = calloc(1, sizeof(*t));

	SP_ASSERT(t != NULL);
	c->state = t;
	c->free_state = free;
	if (!target_args(c, t))
		return;
	if (t->first.port == 0 && t->keys[0] == '\0' && !t->has_tags &&
	    t->via_target == NULL && !t->no_via && t->legacy == NULL &&
	    !t->db.is_given)
		sp_call_fail(c, SP_EXIT_USAGE, "say what is to change: help target "
		    "set");
	else
		load_then(c, t, target_write);
}

/* ------------------------------------------------------- remove and switch */

static void
removed(struct sp_call *c)
{
	uint8_t id[16];
	char text[SP_UUID_TEXT];

	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_uuid_text(text, id);
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
target_is_switched(struct sp_call *c)
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
switch_write(struct sp_call *c)
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
	sp_call_commit(c, ch, "target", target_is_switched);
}

void
sp_verb_target_switch(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_TARGETS,
	    .where = "WHERE name = $1", .p = {c->pos[0]}, .n = 1}}, 1,
	    switch_write);
}

