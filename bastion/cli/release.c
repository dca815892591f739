/* SPDX-License-Identifier: Apache-2.0 */
/* Release rules. They are made here, on the host: the vault takes them over its
 * own socket, and the broker only keeps what comes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"
#include "bastion/cli/held.h"
#include "common/release.h"

struct ruling {
	const struct sp_cli *c;
	const char *where, *group, *length, *need;
	bool touch, yes, none;
	struct sp_held held;
	struct sp_rule rule;
	uint8_t blobs[SP_RULE_KEYS_MAX][SP_RULE_KEY_MAX];
	struct sp_buf encoded;
};

/* ------------------------------------------------------- who and which keys */

static int
add_key(struct ruling *o, const char *name, const uint8_t person[static 16],
    const char *hex)
{
	struct sp_rule_key *k = &o->rule.key[o->rule.n];
	size_t n = hex == NULL ? 0 : strlen(hex) / 2;

	if (o->rule.n == SP_RULE_KEYS_MAX)
		return sp_cli_fail(SP_EXIT_REFUSED, "a rule names at most %d keys; "
		    "make a smaller group", SP_RULE_KEYS_MAX);
	if (n == 0 || n > SP_RULE_KEY_MAX ||
	    sp_unhex(o->blobs[o->rule.n], n, sp_span_str(hex)) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "a key of %s cannot be read",
		    name);
	memcpy(k->person, person, 16);
	snprintf(k->name, sizeof(k->name), "%s", name);
	k->key = sp_span_of(o->blobs[o->rule.n], n);
	o->rule.n++;
	return SP_EXIT_OK;
}

static bool
is_sk(const char *hex)
{
	/* u32 length, "sk-" */
	return hex != NULL && strlen(hex) > 14 && strncmp(hex + 8, "736b2d", 6) == 0;
}

static int
add_people(struct ruling *o)
{
	json_object *people = NULL;
	int rc = SP_EXIT_OK;

	(void)json_object_object_get_ex(o->held.json, "people", &people);
	for (size_t i = 0; people != NULL && rc == SP_EXIT_OK &&
	    i < json_object_array_length(people); i++) {
		json_object *p = json_object_array_get_idx(people, i), *keys = NULL;
		const char *name = sp_cli_text_field(p, "name");
		const char *id = sp_cli_text_field(p, "id");
		uint8_t person[16];

		if (name == NULL || id == NULL ||
		    sp_uuid_parse(person, sp_span_str(id)) != SP_OK ||
		    !json_object_object_get_ex(p, "keys", &keys))
			continue;
		for (size_t k = 0; rc == SP_EXIT_OK &&
		    k < json_object_array_length(keys); k++) {
			const char *hex = json_object_get_string(
			    json_object_array_get_idx(keys, k));

			/* Another kind of key could never fulfil such a rule. */
			if (!o->touch || is_sk(hex))
				rc = add_key(o, name, person, hex);
		}
	}
	return rc;
}

/* ----------------------------------------------------------------- the rule */

/* What the administrator must see: which keys will count. */
static int
confirm(const struct ruling *o, struct sp_buf *shown)
{
	SP_BUF_AUTO text = {.max = 4096};
	char answer[8] = "";

	if (sp_rule_show(&text, &o->rule) != SP_OK)
		return SP_EXIT_REFUSED;
	fprintf(stderr, "%s will be released only if %.*s. Their keys:\n", o->where,
	    (int)text.len, (const char *)sp_buf_span(&text).p);
	for (size_t i = 0; i < o->rule.n; i++) {
		char fp[64];

		sp_held_fingerprint(fp, o->rule.key[i].key);
		fprintf(stderr, "  %-16s %s\n", o->rule.key[i].name, fp);
		if (sp_buf_printf(shown, "%s%s %s", i > 0 ? ", " : "",
		    o->rule.key[i].name, fp) != SP_OK)
			return SP_EXIT_REFUSED;
	}
	if (o->yes)
		return SP_EXIT_OK;
	if (!isatty(STDIN_FILENO))
		return sp_cli_fail(SP_EXIT_USAGE, "compare the keys with what their "
		    "owners say, and repeat with --yes");
	fputs("Are these the right keys? [y/N] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) == NULL ||
	    (answer[0] != 'y' && answer[0] != 'Y'))
		return sp_cli_fail(SP_EXIT_REFUSED, "nothing was changed");
	return SP_EXIT_OK;
}

static int
make_rule(struct ruling *o, struct sp_buf *shown)
{
	struct sp_rule *r = &o->rule;
	int64_t us = 3600LL * 1000000;
	uint64_t need = 2;
	int rc;

	if (o->none)
		return SP_EXIT_OK;
	if (o->length != NULL && (sp_duration_parse(sp_span_str(o->length), &us) !=
	    SP_OK || us < 1000000 || us > SP_RULE_SECONDS_MAX * 1000000LL))
		return sp_cli_fail(SP_EXIT_USAGE, "--for wants a length of time up "
		    "to 24h");
	if (o->need != NULL && (sp_u64_parse(sp_span_str(o->need), 32, &need) !=
	    SP_OK || need == 0))
		return sp_cli_fail(SP_EXIT_USAGE, "--approvals wants a number from 1 "
		    "to 32");
	r->version = o->held.rule_version + 1;
	memcpy(r->secret, o->held.id, 16);
	r->need = (uint8_t)need;
	r->touch = o->touch;
	r->max_seconds = us / 1000000;
	r->made_us = sp_now_us();
	snprintf(r->group, sizeof(r->group), "%s", o->group);
	if ((rc = add_people(o)) != SP_EXIT_OK)
		return rc;
	if (sp_rule_encode(&o->encoded, r) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "group %s cannot fulfil that: "
		    "%llu different people%s must be able to sign, and no key may "
		    "be two people's", o->group, (unsigned long long)need,
		    o->touch ? " with security keys" : "");
	return confirm(o, shown);
}

/* The vault first: it notes which rule is the last one, then the row follows. */
static int
seal_and_store(struct ruling *o, struct sp_span shown)
{
	SP_BUF_AUTO sealed = {.max = 32768}, rule = {.max = 32768};
	char id[SP_UUID_TEXT], note[2048];
	struct sp_msg_vc_rule_set m = {.kind = o->held.kind,
	    .version = o->held.version, .sealed = sp_buf_span(&o->held.sealed),
	    .old_rule = sp_buf_span(&o->held.rule),
	    .rule = sp_buf_span(&o->encoded)};
	/* A literal of its own lives only as long as its block. */
	char rule_opt[] = "--rule", shown_opt[] = "--shown", json_opt[] = "--json";
	char *argv[14] = {(char[]){"secret"}, (char[]){"rule-store"},
	    (char *)(uintptr_t)o->where, (char[]){"--id"}, id, (char[]){"--sealed"}};
	int rc, n = 7;

	memcpy(m.id, o->held.id, 16);
	memcpy(m.owner, o->held.owner, 16);
	sp_uuid_text(id, o->held.id);
	if ((rc = sp_held_rule_set(o->c, &m, &sealed)) != SP_EXIT_OK)
		return rc;
	argv[6] = (char *)(uintptr_t)sp_buf_span(&sealed).p;
	if (!o->none) {
		if (sp_held_hex(&rule, sp_buf_span(&o->encoded)) != SP_OK)
			return SP_EXIT_REFUSED;
		snprintf(note, sizeof(note), "%.*s", (int)shown.n,
		    (const char *)shown.p);
		argv[n++] = rule_opt;
		argv[n++] = (char *)(uintptr_t)sp_buf_span(&rule).p;
		argv[n++] = shown_opt;
		argv[n++] = note;
	}
	if (o->c->json)
		argv[n++] = json_opt;
	rc = sp_cli_verb(o->c, n, argv, -1, NULL);
	if (rc != SP_EXIT_OK)
		(void)sp_cli_fail(0, "the vault knows the new rule and the row does "
		    "not yet: the secret stays closed until this is run again");
	return rc;
}

static int
show_rule(const struct ruling *o)
{
	SP_BUF_AUTO text = {.max = 4096};
	struct sp_rule r;

	if (o->held.rule.len == 0) {
		if (o->c->json)
			printf("null\n");
		else
			printf("%s has no release rule.\n", o->where);
		return SP_EXIT_OK;
	}
	if (sp_rule_decode(sp_buf_span(&o->held.rule), &r) != SP_OK ||
	    sp_rule_show(&text, &r) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "its release rule is broken");
	if (o->c->json)
		return sp_held_rule_json(&r);
	printf("%s is released only if %.*s (rule %llu, group %s).\n", o->where,
	    (int)text.len, (const char *)sp_buf_span(&text).p,
	    (unsigned long long)r.version, r.group);
	return SP_EXIT_OK;
}

static int
run(struct ruling *o, bool changes)
{
	SP_BUF_AUTO shown = {.max = 2048};
	int rc = sp_held_load(o->c, o->where, changes ? o->group : NULL, &o->held);

	if (rc != SP_EXIT_OK)
		return rc;
	if (!changes)
		return show_rule(o);
	if ((rc = make_rule(o, &shown)) != SP_EXIT_OK)
		return rc;
	return seal_and_store(o, sp_buf_span(&shown));
}

int
sp_cmd_rule(struct sp_cli *c, int argc, char **argv)
{
	static struct ruling o;
	bool changes;
	int rc;

	o = (struct ruling){.c = c, .encoded = {.max = SP_RULE_MAX},
	    .need = sp_cli_value(&argc, argv, "--approvals"),
	    .group = sp_cli_value(&argc, argv, "--group"),
	    .length = sp_cli_value(&argc, argv, "--for"),
	    .touch = sp_cli_flag(&argc, argv, "--touch"),
	    .yes = sp_cli_flag(&argc, argv, "--yes"),
	    .none = sp_cli_flag(&argc, argv, "--none")};
	(void)sp_cli_flag(&argc, argv, "--json");
	changes = o.none || o.group != NULL;
	if (argc != 3 || (o.none && o.group != NULL) || (!changes &&
	    (o.need != NULL || o.length != NULL || o.touch || o.yes)))
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport secret rule "
		    "ACCOUNT@TARGET [--group GROUP [--approvals N] [--touch] "
		    "[--for 1h] [--yes] | --none]");
	o.where = argv[2];
	rc = run(&o, changes);
	sp_held_fini(&o.held);
	sp_buf_fini(&o.encoded);
	return rc;
}
