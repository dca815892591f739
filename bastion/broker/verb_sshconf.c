/* SPDX-License-Identifier: Apache-2.0 */
/* ssh-config: what a person puts into ~/.ssh/config once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_hostkey.h"
#include "bastion/broker/verb_int.h"

#define MATCH_MAX 900		/* bytes of one list of patterns */

struct snippet {
	struct sp_address addr;
	struct sp_pubkey key;
	const char *person, *name, *identity, *known_hosts;
	bool master, everything;
	const char *source;	/* NULL: unknown */
	struct {
		const char *target, *account; /* NULL: several, or none */
	} *at;
	size_t n;
};
/* Rows that the verb loads. */
enum { R_TARGETS, R_ACCOUNTS, R_PEOPLE, R_GROUPS };

static void
snippet_free(void *arg)
{
	struct snippet *s = arg;

	free(s->at);
	free(s);
}

/* ------------------------------------------------------------ what is in it */

/* As if the best second factor had been given: a snippet outlives a login. */
static bool
may_reach(struct sp_call *c, const struct snippet *s, size_t t, size_t a)
{
	struct sp_known k;
	static struct sp_verdict v;

	sp_known_set(&k, s->person, sp_rows_get(c->rows[R_TARGETS], t, "name"),
	    sp_rows_get(c->rows[R_ACCOUNTS], a, "name"),
	    sp_rows_get(c->rows[R_TARGETS], t, "tags"));
	for (size_t i = 0; i < sp_rows_n(c->rows[R_GROUPS]); i++)
		sp_known_group(&k, sp_rows_get(c->rows[R_GROUPS], i, "group_name"));
	sp_known_when(&k, c->style.now_us, s->source, SP_MFA_SK_UV);
	v = (struct sp_verdict){0};
	sp_policy_decide(c->b->policy, &k.f, &v);
	return v.allow;
}

static void
add_target(struct sp_call *c, struct snippet *s, size_t t)
{
	const char *id = sp_rows_get(c->rows[R_TARGETS], t, "id"), *of, *one = NULL;
	size_t n = 0;

	for (size_t a = 0; a < sp_rows_n(c->rows[R_ACCOUNTS]); a++) {
		of = sp_rows_get(c->rows[R_ACCOUNTS], a, "target_id");
		if (of == NULL || id == NULL || strcmp(of, id) != 0 ||
		    !(s->everything || may_reach(c, s, t, a)))
			continue;
		one = n++ == 0 ? sp_rows_get(c->rows[R_ACCOUNTS], a, "name") : NULL;
	}
	if (n == 0 && !s->everything)
		return;
	if (sp_rows_get(c->rows[R_TARGETS], t, "protocol") != NULL)
		return;		/* no SSH there: ssh -L bastion */
	s->at[s->n].target = sp_rows_get(c->rows[R_TARGETS], t, "name");
	s->at[s->n++].account = one;
}

/* ----------------------------------------------------------------- printing */

static void
match_head(struct sp_call *c, const char *list)
{
	sp_call_say(c, "\nMatch originalhost %s\n", list);
}

static void
put_trust(struct sp_call *c, const struct snippet *s)
{
	char line[SP_HOST_KEY_LINE];

	sp_host_key_line(&s->key, line);
	sp_call_say(c, "    HostKeyAlias " SP_HOST_ALIAS "\n");
	if (s->known_hosts != NULL)
		sp_call_say(c, "    UserKnownHostsFile \"%s\"\n", s->known_hosts);
	else
		sp_call_say(c, "    KnownHostsCommand /bin/echo \"" SP_HOST_ALIAS
		    " %s\"\n", line);
	if (s->identity != NULL)
		sp_call_say(c, "    IdentityFile \"%s\"\n    IdentitiesOnly yes\n",
		    s->identity);
}

/* Blocks of targets whose account is this one; account NULL: of all targets. */
static void
put_targets(struct sp_call *c, const struct snippet *s, const char *account)
{
	char list[MATCH_MAX + SP_NAME_MAX + 2];
	size_t len = 0, i = 0;

	while (i < s->n) {
		len = 0;
		for (; i < s->n && len < MATCH_MAX; i++) {
			if (account != NULL && (s->at[i].account == NULL ||
			    strcmp(s->at[i].account, account) != 0))
				continue;
			len += (size_t)snprintf(list + len, sizeof(list) - len,
			    "%s%s", len > 0 ? "," : "", s->at[i].target);
		}
		if (len == 0)
			return;
		match_head(c, list);
		if (account != NULL) {
			sp_call_say(c, "    User %s\n", account);
			continue;
		}
		sp_call_say(c, "    ProxyJump %s\n    PreferredAuthentications "
		    "keyboard-interactive,publickey\n", s->name);
		put_trust(c, s);
	}
}

static void
put_bastion(struct sp_call *c, const struct snippet *s)
{
	if (s->master)
		sp_call_say(c, "\nMatch originalhost %s exec \"umask 077 && mkdir -p "
		    "~/.ssh/sp\"\n    ControlMaster auto\n    ControlPath "
		    "~/.ssh/sp/%%C\n    ControlPersist 10m\n", s->name);
	match_head(c, s->name);
	sp_call_say(c, "    HostName %s\n    Port %u\n    User %s\n"
	    "    PreferredAuthentications publickey,keyboard-interactive\n",
	    s->addr.host, s->addr.port, s->person);
	put_trust(c, s);
}

static void
put_head(struct sp_call *c, const struct snippet *s)
{
	char finger[SP_FINGERPRINT_TEXT];

	sp_fingerprint(finger, sp_span_of(s->key.blob, s->key.n));
	sp_call_say(c, "# %s's way through Sallyport: for ~/.ssh/config, or a file "
	    "that it includes at its top.\n# It names the targets of today; print "
	    "it again when there are others.\n", s->person);
	if (s->master)
		sp_call_say(c, "# One second factor opens a connection that all "
		    "share until ten minutes after\n# its last use; `ssh -O exit %s` "
		    "ends it.\n", s->name);
	sp_call_say(c, "# Host key (the verb `hostkeys`, asked on the bastion itself, "
	    "says the same):\n#   %s\n\nMatch all\n    IgnoreUnknown "
	    "KnownHostsCommand\n", finger);
}

static void
print_text(struct sp_call *c, const struct snippet *s)
{
	put_head(c, s);
	put_bastion(c, s);
	for (size_t i = 0; i < s->n; i++) {
		bool seen = s->at[i].account == NULL;

		for (size_t k = 0; k < i && !seen; k++)
			seen = s->at[k].account != NULL &&
			    strcmp(s->at[k].account, s->at[i].account) == 0;
		if (!seen)
			put_targets(c, s, s->at[i].account);
	}
	put_targets(c, s, NULL);
	/* What follows in their file is not ours. */
	sp_call_say(c, "\nMatch all\n");
}

static void
print_json(struct sp_call *c, const struct snippet *s)
{
	json_object *o = json_object_new_object(), *a = json_object_new_array();
	char line[SP_HOST_KEY_LINE];

	sp_host_key_line(&s->key, line);
	json_object_object_add(o, "id", sp_json_text(s->name));
	json_object_object_add(o, "person", sp_json_text(s->person));
	json_object_object_add(o, "host", sp_json_text(s->addr.host));
	json_object_object_add(o, "port", json_object_new_int(s->addr.port));
	json_object_object_add(o, "host_key_alias", sp_json_text(SP_HOST_ALIAS));
	json_object_object_add(o, "host_key", sp_json_text(line));
	for (size_t i = 0; i < s->n; i++) {
		json_object *t = json_object_new_object();

		json_object_object_add(t, "target", sp_json_text(s->at[i].target));
		json_object_object_add(t, "account", sp_json_text(s->at[i].account));
		json_object_array_add(a, t);
	}
	json_object_object_add(o, "targets", a);
	sp_call_json(c, o);
}

static void
print(struct sp_call *c)
{
	struct snippet *s = c->state;

	if (sp_rows_n(c->rows[R_PEOPLE]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no person %s",
		    sp_vis_str(s->person));
		return;
	}
	s->at = calloc(sp_rows_n(c->rows[R_TARGETS]) + 1, sizeof(*s->at));
	SP_ASSERT(s->at != NULL);
	for (size_t t = 0; t < sp_rows_n(c->rows[R_TARGETS]); t++)
		add_target(c, s, t);
	if (c->style.json)
		print_json(c, s);
	else
		print_text(c, s);
	sp_call_end(c, SP_EXIT_OK);
}

/* --------------------------------------------------------------------- asking */

/* It goes between quotes into a file that ssh reads. */
static bool
path_is_fine(const char *p)
{
	if (p == NULL)
		return true;
	for (const char *s = p; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == '"' || *s == '\\' || *s == 0x7f)
			return false;
	return *p != '\0';
}

static const char *
take_options(struct sp_call *c, struct snippet *s)
{
	bool self = !c->who.is_host && (c->n_pos == 0 ||
	    strcmp(c->pos[0], c->who.name) == 0);

	s->person = c->n_pos > 0 ? c->pos[0] : c->who.name;
	s->name = sp_call_opt(c, "name");
	s->identity = sp_call_opt(c, "identity");
	s->known_hosts = sp_call_opt(c, "known-hosts");
	s->master = !sp_call_has(c, "no-master");
	s->source = self ? c->who.addr : sp_call_opt(c, "source");
	s->everything = sp_call_has(c, "all") || s->source == NULL;
	if (s->name == NULL)
		s->name = "bastion";
	if (c->who.is_host && c->n_pos == 0)
		return "say for whom: ssh-config NAME";
	if (!sp_name_is_valid(sp_span_str(s->name)))
		return "--name wants a name of small letters, digits, ., _ and -";
	if (!path_is_fine(s->identity) || !path_is_fine(s->known_hosts))
		return "a path here holds no quotes, backslashes or control characters";
	if (sp_address_of(c->b, sp_call_opt(c, "address"), &s->addr) != SP_OK)
		return "an address is NAME, NAME:PORT or [IPV6]:PORT";
	return NULL;
}

void
sp_verb_ssh_config(struct sp_call *c)
{
	struct snippet *s = calloc(1, sizeof(*s));
	const char *why;

	SP_ASSERT(s != NULL);
	c->state = s;
	c->free_state = snippet_free;
	why = take_options(c, s);
	if (why != NULL) {
		sp_call_fail(c, SP_EXIT_USAGE, "%s", why);
		return;
	}
	if (!c->who.is_host && strcmp(s->person, c->who.name) != 0 &&
	    !sp_actor_may_admin(&c->who)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "somebody else's is for members of "
		    SP_GROUP_ADMINS " and the host");
		return;
	}
	if (sp_host_key(c->b, &s->key) != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "keys/ssh_host_ed25519_key.pub "
		    "could not be read when the bastion started");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_TARGETS, .where = "WHERE enabled ORDER BY name"},
	    {.t = SP_T_ACCOUNTS, .where = "ORDER BY name"},
	    {.t = SP_T_PEOPLE, .where = "WHERE name = $1", .p = {s->person}, .n = 1},
	    {.t = SP_T_MEMBERSHIPS, .where = "WHERE person_id IN (SELECT id "
	    "FROM people WHERE name = $1)", .p = {s->person}, .n = 1}}, 4, print);
}
