/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/verb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/broker/verb_int.h"

#define READS_MAX 16384	/* bytes, of a verb that may read */

/* "users key add" is a sub of two words. */
#define ROW(n, s, w, o, lo, hi, r, a, h)                                      \
	{.name = (n), .sub = (s), .who = (w), .opts = (o), .min = (lo),       \
	    .max = (hi), .run = sp_verb_##r, .args = (a), .help = (h)}
#define PLAY(n, w, o, lo, hi, r, a, h)                                        \
	{.name = (n), .who = (w), .opts = (o), .min = (lo), .max = (hi),      \
	    .run = sp_verb_##r, .args = (a), .help = (h), .plays = true}
#define VIEW(n, s, w, o, lo, hi, r, a, h)                                     \
	{.name = (n), .sub = (s), .who = (w), .opts = (o), .min = (lo),       \
	    .max = (hi), .run = sp_verb_##r, .args = (a), .help = (h),        \
	    .plays = true}
#define READ(n, s, w, lo, hi, r, a, h)                                        \
	{.name = (n), .sub = (s), .who = (w), .opts = "quiet first",            \
	    .min = (lo), .max = (hi), .run = sp_verb_##r, .args = (a),        \
	    .help = (h), .input = 256 * 1024}
#define BIG(n, s, w, lo, hi, r, a)                                            \
	{.name = (n), .sub = (s), .who = (w), .opts = "", .min = (lo),        \
	    .max = (hi), .run = sp_verb_##r, .args = (a), .input = 8u << 20}
/* Runs at once, and may read; runs when all has come. */
#define TAKE(n, s, w, o, lo, hi, r, a, h)                                     \
	{.name = (n), .sub = (s), .who = (w), .opts = (o), .min = (lo),       \
	    .max = (hi), .run = sp_verb_##r, .args = (a), .help = (h),        \
	    .reads = true}
#define PIPE(n, s, w, o, lo, hi, r, a, h)                                     \
	{.name = (n), .sub = (s), .who = (w), .opts = (o), .min = (lo),       \
	    .max = (hi), .run = sp_verb_##r, .args = (a), .help = (h),        \
	    .input = READS_MAX}
const struct sp_verb sp_verbs[] = {
	ROW("help", NULL, SP_MAY_ANYONE, "", 0, 2, help, "[VERB]",
	    "what can be typed here"),
	ROW("whoami", NULL, SP_MAY_ANYONE, "", 0, 0, whoami, "",
	    "who you are to the bastion"),
	ROW("menu", NULL, SP_MAY_ANYONE, "", 0, 0, menu, "",
	    "what you can reach, and what it needs"),
	ROW("targets", NULL, SP_MAY_ANYONE, "", 0, 0, menu, "",
	    "the same; on the host: the inventory"),
	ROW("ssh-config", NULL, SP_MAY_ANYONE,
	    "name= identity= known-hosts= address= source= no-master all", 0, 1,
	    ssh_config, "[NAME] [--identity FILE] [--no-master] [--all]",
	    "what to put into ~/.ssh/config, so that ssh ACCOUNT@TARGET works"),
	ROW("hostkeys", NULL, SP_MAY_ANYONE, "art address=", 0, 0, hostkeys,
	    "[--art] [--address NAME:PORT]",
	    "the bastion's host key: fingerprint, known_hosts line, SSHFP record"),
	ROW("request", NULL, SP_MAY_ANYONE, "for= reason= ticket= allow=", 1, 1,
	    request, "ACCOUNT@TARGET --reason TEXT [--for 2h] [--ticket T] "
	    "[--allow shell,upload]",
	    "ask for access"),
	ROW("requests", NULL, SP_MAY_ANYONE, "all limit= before=", 0, 0, requests,
	    "[--all] [--limit N] [--before NUMBER]",
	    "requests: your own, and those that you may decide"),
	ROW("show", NULL, SP_MAY_ANYONE, "", 1, 1, show, "NUMBER|SESSION",
	    "everything about a request or a session"),
	TAKE("approve", NULL, SP_MAY_ANYONE, "comment=", 1, 1, approve,
	    "NUMBER [--comment TEXT] [< SIGNATURE]", "grant a request"),
	ROW("challenge", NULL, SP_MAY_ANYONE, "", 1, 1, challenge, "NUMBER",
	    "what to sign where a secret has a release rule"),
	ROW("deny", NULL, SP_MAY_ANYONE, "comment=", 1, 1, deny,
	    "NUMBER [--comment TEXT]", "refuse a request"),
	ROW("revoke", NULL, SP_MAY_ANYONE, "reason=", 1, 1, revoke,
	    "NUMBER [--reason TEXT]", "take a grant or your own request back"),
	ROW("grants", NULL, SP_MAY_ANYONE, "all limit= after=", 0, 0, grants,
	    "[--all] [--limit N] [--after ID]",
	    "what holds now: your own, and those of requests that you may decide"),
	VIEW("sessions", "show", SP_MAY_WATCH, "", 1, 1, sessions_show, "SESSION",
	    "what happened in a session, in one order"),
	ROW("sessions", NULL, SP_MAY_ANYONE, "all user= target= limit= before=",
	    0, 0, sessions, "[--all] [--user U] [--target T] [--limit N] "
	    "[--before SESSION]", "sessions; --all: ended ones too"),
	ROW("files", NULL, SP_MAY_ANYONE, "", 1, 1, files, "SESSION",
	    "files that a session moved, with size and SHA-256"),
	ROW("kill", NULL, SP_MAY_ANYONE, "reason=", 1, 1, kill,
	    "SESSION [--reason TEXT]", "end a session now"),
	ROW("held", NULL, SP_MAY_WATCH, "", 0, 0, held, "",
	    "lines, commands and files that wait for a second person"),
	ROW("release", NULL, SP_MAY_WATCH, "reason=", 1, 2, steer,
	    "SESSION [NUMBER] [--reason TEXT]", "let what waits there go on"),
	ROW("refuse", NULL, SP_MAY_WATCH, "reason=", 1, 2, steer,
	    "SESSION [NUMBER] [--reason TEXT]", "what waits there goes no further"),
	ROW("freeze", NULL, SP_MAY_WATCH, "reason=", 1, 1, steer,
	    "SESSION [--reason TEXT]", "nothing passes either way until it is resumed"),
	ROW("resume", NULL, SP_MAY_WATCH, "reason=", 1, 1, steer,
	    "SESSION [--reason TEXT]", "a frozen session goes on"),
	ROW("note", NULL, SP_MAY_WATCH, "", 2, 40, steer, "SESSION TEXT",
	    "a line onto the terminal of a session's user"),
	ROW("watch", NULL, SP_MAY_WATCH, "", 1, 1, watch, "SESSION",
	    "see a running session, and freeze, end or release it"),
	ROW("keys", "ask", SP_MAY_WATCH, "reason=", 1, 1, keys_ask,
	    "SESSION --reason TEXT",
	    "ask others to sign that you may see what was typed"),
	ROW("keys", "list", SP_MAY_WATCH, "", 0, 0, keys_list, "",
	    "who asks for that"),
	ROW("keys", NULL, SP_MAY_WATCH, "", 0, 0, keys_list, "", NULL),
	ROW("keys", "text", SP_MAY_WATCH, "", 1, 1, keys_text, "NUMBER",
	    "what to sign"),
	PIPE("keys", "approve", SP_MAY_WATCH, "", 1, 1, keys_approve,
	    "NUMBER < SIGNATURE", "your signature for it"),
	PLAY("replay", SP_MAY_WATCH, "speed= at= idle=", 1, 1, replay,
	    "SESSION [--speed 2] [--at 1m30s] [--idle 2s]", "watch a recording"),
	PLAY("search", SP_MAY_WATCH, "user= target= since= until= lane= limit= "
	    "regex", 1, 32, search, "WORDS [--user U] [--target T] [--since 2d] "
	    "[--until DATE] [--lane screen|keys|files|commands] [--regex] "
	    "[--limit N]", "words in all recordings: where and when"),
	PLAY("verify", SP_MAY_WATCH, "all screens", 0, 1, verify,
	    "SESSION [--screens] | --all",
	    "prove that a recording is whole and ours"),
	PLAY("export", SP_MAY_WATCH, "format= keys times", 1, 1, export,
	    "SESSION --format asciicast|asciicast-v3 [--keys] | text [--times] | "
	    "html | records | commands-csv | commands-json",
	    "a recording for other players and tools"),
	ROW("hold", "release", SP_MAY_WATCH, "reason=", 1, 1, hold_release,
	    "SESSION --reason TEXT", "a recording is held no more"),
	ROW("hold", "list", SP_MAY_AUDIT, "all", 0, 0, hold_list, "[--all]",
	    "recordings that are held; --all: that were"),
	ROW("hold", NULL, SP_MAY_WATCH, "reason=", 1, 1, hold,
	    "SESSION --reason TEXT", "a recording is not deleted while it is held"),
	ROW("retention", "plan", SP_MAY_AUDIT, "limit=", 0, 0, retention_plan,
	    "[--limit N]", "what the rules would delete now, and what is held"),
	ROW("recordings", "status", SP_MAY_AUDIT, "", 0, 0, recordings_status, "",
	    "what waits for the store of objects, and why"),
	ROW("recordings", "fetch", SP_MAY_WATCH, "", 1, 1, recordings_fetch,
	    "SESSION", "bring a recording back from the store"),
	ROW("recordings", NULL, SP_MAY_AUDIT, "unshipped limit= before=", 0, 0,
	    recordings, "[--unshipped] [--limit N] [--before SESSION]",
	    "where recordings are: here, in the store, deleted, held"),
	ROW("log", "status", SP_MAY_AUDIT, "", 0, 0, log_status, "",
	    "how the transparency log is"),
	ROW("log", "rows", SP_MAY_AUDIT, "", 0, 0, log_rows, "",
	    "sessions and audit events of the database, for sallyport-verify"),
	ROW("evidence", "rows", SP_MAY_WATCH, "", 1, 1, evidence_rows, "SESSION",
	    NULL),
	ROW("evidence", "seal", SP_MAY_WATCH, "", 2, 2, evidence_seal,
	    "SESSION SHA256", NULL),
	ROW("audit", "verify", SP_MAY_AUDIT, "", 0, 0, audit_verify, "",
	    "check the chain and its signatures"),
	ROW("audit", NULL, SP_MAY_AUDIT, "follow since= event= limit=", 0, 0,
	    audit, "[--follow] [--since 1h] [--event E] [--limit N]",
	    "what happened"),
	READ("policy", "check", SP_MAY_AUDIT, 0, 1, policy_check, "[FILE] < FILE",
	    "is a policy text right?"),
	READ("policy", "load", SP_MAY_ADMIN, 0, 1, policy_load, "[FILE] < FILE",
	    "make a policy text the one that holds"),
	ROW("policy", "show", SP_MAY_AUDIT, "", 0, 0, policy_show, "",
	    "the policy that holds"),
	ROW("policy", "explain", SP_MAY_AUDIT, "at= source=", 2, 2,
	    policy_explain, "USER ACCOUNT@TARGET [--at TIME] [--source ADDRESS]",
	    "what the policy says, rule by rule"),
	ROW("users", "list", SP_MAY_AUDIT, "group= after= limit=", 0, 0,
	    users_list, "[--group G] [--after NAME] [--limit N]", "people"),
	ROW("users", NULL, SP_MAY_AUDIT, "group= after= limit=", 0, 0,
	    users_list, "", NULL),
	ROW("users", "show", SP_MAY_AUDIT, "", 1, 1, users_show, "NAME",
	    "a person with groups and keys"),
	ROW("users", "add", SP_MAY_ADMIN, "display= group= key=", 1, 1,
	    users_add, "NAME --display TEXT --group A,B --key 'ssh-ed25519 ...'",
	    "a new person"),
	ROW("users", "disable", SP_MAY_ADMIN, "", 1, 1, users_disable, "NAME",
	    "shut a person out at once"),
	ROW("users", "enable", SP_MAY_ADMIN, "", 1, 1, users_enable, "NAME",
	    "let a person in again"),
	ROW("users", "key add", SP_MAY_ADMIN, "", 2, 4, users_key_add,
	    "NAME 'ssh-ed25519 ...'", "one more key"),
	ROW("users", "key remove", SP_MAY_ADMIN, "", 2, 2, users_key_remove,
	    "NAME SHA256:...", "a key that is not good any more"),
	ROW("users", "group add", SP_MAY_ADMIN, "", 2, 2, users_group_add,
	    "NAME GROUP", "into a group"),
	ROW("users", "group remove", SP_MAY_ADMIN, "", 2, 2,
	    users_group_remove, "NAME GROUP", "out of a group"),
	ROW("users", "totp-store", SP_MAY_ADMIN, "id= version= sealed=", 1, 1,
	    users_totp_store, "NAME --id UUID --version N --sealed HEX", NULL),
	ROW("targets", "list", SP_MAY_AUDIT, "tag= after= limit=", 0, 0,
	    targets_list, "[--tag T] [--after NAME] [--limit N]",
	    "the inventory"),
	ROW("target", "list", SP_MAY_AUDIT, "tag= after= limit=", 0, 0,
	    targets_list, "", NULL),
	ROW("target", NULL, SP_MAY_AUDIT, "tag= after= limit=", 0, 0,
	    targets_list, "", NULL),
	ROW("target", "show", SP_MAY_AUDIT, "", 1, 1, target_show, "NAME",
	    "everything about a target"),
	ROW("target", "add", SP_MAY_ADMIN, "addr= port= tag= host-key= scan via= "
	    "via-account= legacy= protocol= tls-pin= database= channel-binding=",
	    1, 1, target_add,
	    "NAME --addr A [--addr B] [--port P] [--tag A,B] [--via TARGET "
	    "--via-account A] --host-key 'ALGO KEY' | --scan",
	    "a new target with its pinned host key"),
	ROW("target", "set", SP_MAY_ADMIN, "addr= port= tag= host-key= via= "
	    "via-account= legacy= tls-pin= database= channel-binding=",
	    1, 1, target_set,
	    "NAME [--addr A]... [--port P] [--tag A,B] [--host-key 'ALGO KEY']... "
	    "[--via TARGET --via-account A | --via none] [--legacy on|off]",
	    "change what is named; it replaces what was"),
	ROW("target", "remove", SP_MAY_ADMIN, "", 1, 1, target_remove, "NAME",
	    "a target that was never used"),
	ROW("target", "disable", SP_MAY_ADMIN, "", 1, 1, target_switch, "NAME",
	    "shut a target for everybody at once"),
	ROW("target", "enable", SP_MAY_ADMIN, "", 1, 1, target_switch, "NAME",
	    "open it again"),
	ROW("target", "setup", SP_MAY_AUDIT, "shell dir=", 1, 1, target_setup,
	    "NAME [--shell] [--dir /etc/ssh]",
	    "what its administrator puts into its sshd; --shell: a script for it"),
	ROW("krl", NULL, SP_MAY_ANYONE, "", 0, 0, krl, "> FILE",
	    "the list of revoked certificates, for a target's sshd"),
	ROW("krl", "list", SP_MAY_AUDIT, "", 0, 0, krl_list, "",
	    "what was revoked by hand"),
	ROW("krl", "status", SP_MAY_AUDIT, "", 0, 0, krl_status, "",
	    "which targets were brought the list, and when (krl_push)"),
	ROW("krl", "push", SP_MAY_ADMIN, "", 0, 1, krl_push, "[ACCOUNT@TARGET]",
	    "bring the list to the targets of krl_push now"),
	ROW("krl", "revoke", SP_MAY_ADMIN, "serial= session= ca= reason=", 0, 0,
	    krl_revoke, "--serial N | --session SESSION | --ca 'ALGO KEY' "
	    "[--reason TEXT]", "a certificate, a session's, or a whole CA"),
	ROW("krl", "remove", SP_MAY_ADMIN, "", 1, 1, krl_remove, "ID",
	    "take one off the list again"),
	ROW("account", "list", SP_MAY_AUDIT, "target= after= limit=", 0, 0,
	    account_list, "[--target T] [--after ACCOUNT@TARGET] [--limit N]",
	    "accounts of targets"),
	ROW("account", NULL, SP_MAY_AUDIT, "target= after= limit=", 0, 0,
	    account_list, "", NULL),
	ROW("account", "show", SP_MAY_AUDIT, "", 1, 1, account_show,
	    "ACCOUNT@TARGET", "everything about an account but its secret"),
	ROW("account", "add", SP_MAY_ADMIN,
	    "kind= secret-id= secret-version= sealed= admin= member= limit=",
	    1, 1, account_add,
	    "ACCOUNT@TARGET --kind cert", "a new account"),
	ROW("account", "set", SP_MAY_ADMIN, "kind= exclusive= rotate= "
	    "password-rule=", 1, 1, account_set,
	    "ACCOUNT@TARGET --kind cert | --exclusive on|off | "
	    "[--rotate after-use|30d|\"after-use 12h\"|never] "
	    "[--password-rule RULE]",
	    "another kind (what has a secret: sallyport secret set, on the host); "
	    "one person at a time; when its secret is changed"),
	ROW("account", "disable", SP_MAY_ADMIN, "", 1, 1, account_switch,
	    "ACCOUNT@TARGET", "shut an account for everybody at once"),
	ROW("account", "enable", SP_MAY_ADMIN, "", 1, 1, account_switch,
	    "ACCOUNT@TARGET", "open it again"),
	ROW("account", "remove", SP_MAY_ADMIN, "", 1, 1, account_remove,
	    "ACCOUNT@TARGET", "an account that is gone"),
	ROW("secret", "list", SP_MAY_AUDIT, "target= after= limit=", 0, 0,
	    secret_list, "[--target T] [--after ID] [--limit N]",
	    "which secrets the vault has sealed, and for whom"),
	ROW("secret", NULL, SP_MAY_AUDIT, "target= after= limit=", 0, 0,
	    secret_list, "", NULL),
	ROW("secret", "show", SP_MAY_AUDIT, "", 1, 1, secret_show,
	    "ACCOUNT@TARGET", "the secret's kind and version, never itself"),
	ROW("secret", "store", SP_MAY_ADMIN, "id= version= sealed= kind=", 1, 1,
	    secret_store, "ACCOUNT@TARGET --id UUID --version N --sealed HEX "
	    "--kind KIND", NULL),
	ROW("secret", "reveal", SP_MAY_ANYONE, "reason= ticket=", 1, 1,
	    secret_reveal, "ACCOUNT@TARGET --reason TEXT [--ticket T]",
	    "ask to be shown a credential, for the day when nothing else works"),
	ROW("secret", "reveal-collect", SP_MAY_HOST, "", 1, 1, reveal_collect,
	    "NUMBER", NULL),
	ROW("secret", "rule-data", SP_MAY_HOST, "group=", 1, 1, rule_data,
	    "ACCOUNT@TARGET [--group G]", NULL),
	ROW("secret", "rule-store", SP_MAY_HOST, "id= sealed= rule= shown=", 1, 1,
	    rule_store, "ACCOUNT@TARGET --id UUID --sealed HEX [--rule HEX]",
	    NULL),
	ROW("secret", "remove", SP_MAY_ADMIN, "", 1, 1, secret_remove,
	    "ACCOUNT@TARGET", "forget it; nobody gets in until another is set"),
	ROW("leases", NULL, SP_MAY_ANYONE, "all limit=", 0, 0, leases, "[--all]",
	    "credentials that are in use, and by whom"),
	ROW("inventory", "export", SP_MAY_AUDIT, "", 0, 0, inventory_export, "",
	    NULL),
	BIG("inventory", "plan", SP_MAY_ADMIN, 0, 0, inventory_plan, "< JSON"),
	BIG("inventory", "apply", SP_MAY_ADMIN, 1, 1, inventory_apply,
	    "PLAN < JSON"),
	ROW("account", "rotate", SP_MAY_ADMIN, "force later", 1, 1, account_rotate,
	    "ACCOUNT@TARGET [--force | --later]",
	    "change its password or key now, at the target and here"),
	ROW("account", "rotation", SP_MAY_AUDIT, "failed owed after= limit=", 0, 0,
	    account_rotation, "[--failed] [--owed] [--after ACCOUNT@TARGET] "
	    "[--limit N]", "when secrets were changed, and what went wrong"),
	ROW("target", "reconcile", SP_MAY_ADMIN, "", 2, 2, target_reconcile,
	    "TARGET ACCOUNT|none",
	    "the account that sets a password there when its own login fails"),
	ROW("restored", NULL, SP_MAY_HOST, "", 4, 4, restored,
	    "BACKUP MADE NODE LEASES", NULL),
	ROW("break-glass", "list", SP_MAY_AUDIT, "", 0, 0, glass_list, "",
	    "break-glass kits: what they hold, what is stale, what was opened"),
	ROW("break-glass", NULL, SP_MAY_AUDIT, "", 0, 0, glass_list, "", NULL),
	PIPE("break-glass", "import", SP_MAY_ADMIN, "", 0, 0, glass_import,
	    "< RECEIPT", "a kit was opened: its receipt"),
	ROW("break-glass", "review", SP_MAY_AUDIT, "comment=", 1, 1, glass_review,
	    "KIT --comment TEXT", "close the review of an opened kit"),
	ROW("break-glass", "store", SP_MAY_HOST, "k= n= note= expires= "
	    "receipt-key= entries=", 1, 1, glass_store, "KIT", NULL),
	ROW("vault", "status", SP_MAY_AUDIT, "", 0, 0, vault_status, "",
	    "sealed or open, and the public keys"),
	ROW("status", NULL, SP_MAY_AUDIT, "", 0, 0, status, "",
	    "how the bastion is"),
	ROW("seals", "renew", SP_MAY_ADMIN, "", 0, 0, seals_renew, "",
	    "make every seal anew with the newest keys, after a rotation"),
	ROW("seals", NULL, SP_MAY_AUDIT, "", 0, 0, seals, "",
	    "is every sealed row as the vault sealed it?"),
	ROW("seals", "broken", SP_MAY_AUDIT, "", 0, 0, seals_broken, "",
	    "the rows that are not, and why"),
	ROW("seals", "accept", SP_MAY_HOST, "", 2, 2, seals_accept, "TABLE ID",
	    "take such a row as it stands, under a fresh seal"),
	ROW("seals", "drop", SP_MAY_HOST, "", 2, 2, seals_drop, "TABLE ID",
	    "delete such a row, or let one that is missing stay away"),
};
const size_t sp_verbs_n = sizeof(sp_verbs) / sizeof(sp_verbs[0]);

bool
sp_verb_is(const char *word)
{
	for (size_t i = 0; i < sp_verbs_n; i++)
		if (strcmp(sp_verbs[i].name, word) == 0)
			return true;
	return false;
}

static bool
may(const struct sp_actor *a, enum sp_verb_who who)
{
	switch (who) {
	case SP_MAY_ANYONE:
		return true;
	case SP_MAY_AUDIT:
		return sp_actor_may_audit(a) || sp_actor_may_admin(a);
	case SP_MAY_WATCH:
		return sp_actor_may_watch(a);
	case SP_MAY_ADMIN:
		return sp_actor_may_admin(a);
	case SP_MAY_HOST:
		return a->is_host;
	}
	return false;
}

static const char *
who_text(enum sp_verb_who who)
{
	switch (who) {
	case SP_MAY_AUDIT:
		return "members of " SP_GROUP_AUDITORS " or " SP_GROUP_ADMINS
		    " and the host";
	case SP_MAY_WATCH:
		return "members of " SP_GROUP_AUDITORS " and the host";
	case SP_MAY_ADMIN:
		return "members of " SP_GROUP_ADMINS " and the host";
	case SP_MAY_HOST:
		return "the host";
	case SP_MAY_ANYONE:
		break;
	}
	return "anyone";
}

/* ---------------------------------------------------------------- choosing */

/* How many words of argv this row names; 0 if it is another. */
static size_t
row_matches(const struct sp_verb *v, size_t argc, char *const *argv)
{
	char two[80];

	if (argc == 0 || strcmp(argv[0], v->name) != 0)
		return 0;
	if (v->sub == NULL)
		return 1;
	if (argc > 1 && strcmp(argv[1], v->sub) == 0)
		return 2;
	if (argc > 2 && strlen(argv[1]) < 32 && strlen(argv[2]) < 32) {
		snprintf(two, sizeof(two), "%s %s", argv[1], argv[2]);
		if (strcmp(two, v->sub) == 0)
			return 3;
	}
	return 0;
}

static size_t
choose(struct sp_call *c)
{
	size_t best = 0;

	for (size_t i = 0; i < sp_verbs_n; i++) {
		size_t n = row_matches(&sp_verbs[i], c->n_words, c->words);

		if (n > best) {
			best = n;
			c->verb = &sp_verbs[i];
		}
	}
	return best;
}

/* Does the row know this option; *takes: with a value. */
static bool
knows(const char *opts, const char *name, size_t n, bool *takes)
{
	if (n == 4 && memcmp(name, "json", 4) == 0) {
		*takes = false;
		return true;
	}
	while (*opts != '\0') {
		size_t len = strcspn(opts, " "), bare = len;

		*takes = len > 0 && opts[len - 1] == '=';
		bare -= *takes ? 1 : 0;
		if (bare == n && strncmp(opts, name, n) == 0)
			return true;
		opts += len;
		opts += strspn(opts, " ");
	}
	return false;
}

/* Sorts the words after the verb; false with a text when they do not fit. */
static bool
sort_words(struct sp_call *c, size_t from, char *why, size_t cap)
{
	for (size_t i = from; i < c->n_words; i++) {
		char *w = c->words[i], *eq;
		bool takes = false;
		size_t n;

		if (strncmp(w, "--", 2) != 0 || w[2] == '\0') {
			c->pos[c->n_pos++] = w;
			continue;
		}
		eq = strchr(w, '=');
		n = eq != NULL ? (size_t)(eq - w) - 2 : strlen(w) - 2;
		if (!knows(c->verb->opts, w + 2, n, &takes) ||
		    (!takes && eq != NULL)) {
			snprintf(why, cap, "unknown option %s", sp_vis_str(w));
			return false;
		}
		if (takes && eq == NULL && i + 1 == c->n_words) {
			snprintf(why, cap, "%s wants a value", w);
			return false;
		}
		c->opt[c->n_opt].value = !takes ? "" : eq != NULL ? eq + 1 :
		    c->words[++i];
		if (eq != NULL)
			*eq = '\0';
		c->opt[c->n_opt++].name = w + 2;
	}
	if (c->n_pos < c->verb->min || c->n_pos > c->verb->max) {
		snprintf(why, cap, c->n_pos < c->verb->min ?
		    "something is missing" : "too many words");
		return false;
	}
	return true;
}

/* Chooses the row, asks whether they may, sorts the words. */
static bool
prepare(struct sp_call *c, char *why, size_t cap, uint8_t *code)
{
	size_t n = choose(c);

	*code = SP_EXIT_USAGE;
	if (c->verb == NULL) {
		const char *w = sp_vis_str(c->words[0]);

		if (sp_verb_is(c->words[0]))
			snprintf(why, cap, "%s wants another word: try help %s",
			    w, w);
		else
			snprintf(why, cap, "there is no verb %s: try help", w);
		return false;
	}
	if (!may(&c->who, c->verb->who)) {
		*code = SP_EXIT_REFUSED;
		snprintf(why, cap, "%s%s%s is for %s; you are %s. "
		    "See help for what you may", c->verb->name,
		    c->verb->sub != NULL ? " " : "",
		    c->verb->sub != NULL ? c->verb->sub : "",
		    who_text(c->verb->who), c->who.name);
		return false;
	}
	if (!sort_words(c, n, why, cap)) {
		size_t at = strlen(why);

		snprintf(why + at, cap - at, "\nusage: %s%s%s %s", c->verb->name,
		    c->verb->sub != NULL ? " " : "",
		    c->verb->sub != NULL ? c->verb->sub : "", c->verb->args);
		return false;
	}
	c->style.json = sp_call_has(c, "json");
	sp_buf_init(&c->input, c->verb->reads ? READS_MAX : c->verb->input);
	return true;
}

/* ------------------------------------------------------------------ running */

static bool
copy_words(struct sp_call *c, size_t argc, char *const *argv)
{
	size_t n = 0;
	char *at;

	if (argc > SP_VERB_ARGS_MAX)
		return false;
	for (size_t i = 0; i < argc; i++)
		n += strlen(argv[i]) + 1;
	c->block = at = calloc(1, n + 8);
	SP_ASSERT(at != NULL);
	for (size_t i = 0; i < argc; i++) {
		size_t len = strlen(argv[i]) + 1;

		memcpy(at, argv[i], len);
		c->words[c->n_words++] = at;
		at += len;
	}
	if (argc == 0) {
		memcpy(at, "menu", 5);
		c->words[c->n_words++] = at;
	}
	return true;
}

static void
on_open(void *arg, uint32_t chan, const struct sp_open *o)
{
	struct sp_call *c = arg;

	if (chan != c->chan || c->started)
		return;
	c->started = true;
	c->cols = o->cols;	/* of this moment */
	c->lines = o->rows;
	if (c->verb->input == 0)
		c->verb->run(c);
}

static void
on_input(void *arg, uint32_t chan, struct sp_span bytes)
{
	struct sp_call *c = arg;

	if (chan != c->chan)
		return;
	if ((c->verb->input > 0 || c->verb->reads) && c->started) {
		if (sp_buf_put(&c->input, bytes.p, bytes.n) != SP_OK)
			sp_call_fail(c, SP_EXIT_USAGE,
			    "the text is longer than %zu bytes", c->input.max);
	} else if (c->on_key != NULL) {
		c->on_key(c, bytes);
	}
}

static void
on_eof(void *arg, uint32_t chan)
{
	struct sp_call *c = arg;

	if (chan != c->chan || !c->started)
		return;
	c->ended = true;
	if (c->verb->input > 0)
		c->verb->run(c);
	else if (c->on_eof != NULL)
		c->on_eof(c);
}

static void
on_end(void *arg)
{
	struct sp_call *c = arg;

	c->conduit = NULL;
	c->gone = true;
	if (c->on_gone != NULL)
		c->on_gone(c);
	else if (!c->started || c->verb->input > 0)
		sp_call_end(c, SP_EXIT_REFUSED);
}

static void
on_window(void *arg, uint32_t chan, uint32_t cols, uint32_t rows)
{
	struct sp_call *c = arg;

	if (chan == c->chan && c->on_window != NULL)
		c->on_window(c, cols, rows);
}

static const struct sp_conduit_ops conduit_ops = {.on_open = on_open,
    .on_input = on_input, .on_eof = on_eof, .on_window = on_window,
    .on_end = on_end};

static bool
wants_colour(const struct sp_open *open)
{
	struct sp_span env = open->env, name, value;

	if (!open->has_pty || sp_span_is(open->term, "dumb"))
		return false;
	while (sp_open_env_next(&env, &name, &value) == SP_OK)
		if (sp_span_is(name, "NO_COLOR") && value.n > 0)
			return false;
	return true;
}

void
sp_call_open(struct sp_call *c)
{
	int fds[2];

	if (sp_stream_pair(fds) != SP_OK) {
		sp_call_fail(c, SP_EXIT_LATER, "no descriptors left: try again");
		return;
	}
	c->conduit = sp_conduit_new(c->b, fds[0], &conduit_ops, c);
	if (c->conduit == NULL) {
		close(fds[1]);
		sp_call_fail(c, SP_EXIT_LATER, "no memory left: try again");
		return;
	}
	sp_conduit_set_owner(c->conduit, c->who.conn);
	c->stream(c->stream_arg, fds[1], 0, NULL);
	c->stream = NULL;
}

void
sp_verb_run(struct sp_broker *b, const struct sp_actor *who, size_t argc,
    char *const *argv, const struct sp_open *open, uint32_t chan,
    void (*stream)(void *arg, int fd, uint8_t exit_code, const char *text),
    void *arg)
{
	struct sp_call *c = calloc(1, sizeof(*c));
	char why[1024] = "";
	uint8_t code = SP_EXIT_REFUSED;

	SP_ASSERT(c != NULL);
	sp_audit_flush(b->store);
	c->b = b;
	c->who = *who;
	c->chan = chan;
	c->stream = stream;
	c->stream_arg = arg;
	c->pty = open->has_pty;
	c->style.colour = wants_colour(open);
	c->is_dumb = !open->has_pty || open->term.n == 0 ||
	    sp_span_is(open->term, "dumb") || sp_span_is(open->term, "unknown");
	c->style.now_us = sp_now_us();
	if (!copy_words(c, argc, argv)) {
		sp_call_fail(c, SP_EXIT_USAGE, "too many words");
		return;
	}
	if (!prepare(c, why, sizeof(why), &code))
		sp_call_fail(c, code, "%s", why);
	else if (c->verb->plays)
		c->verb->run(c);
	else
		sp_call_open(c);
}

/* -------------------------------------------------------------------- help */

static void
help_line(struct sp_call *c, const struct sp_verb *v)
{
	char usage[160];

	snprintf(usage, sizeof(usage), "%s%s%s %s", v->name,
	    v->sub != NULL ? " " : "", v->sub != NULL ? v->sub : "", v->args);
	if (strlen(usage) > 34)
		sp_call_say(c, "  %s\n  %-34s  %s\n", usage, "", v->help);
	else
		sp_call_say(c, "  %-34s  %s\n", usage, v->help);
}

static void
help_json(struct sp_call *c)
{
	json_object *a = json_object_new_array();

	for (size_t i = 0; i < sp_verbs_n; i++) {
		const struct sp_verb *v = &sp_verbs[i];
		char name[80];
		json_object *o;

		if (v->help == NULL || !may(&c->who, v->who))
			continue;
		o = json_object_new_object();
		snprintf(name, sizeof(name), "%s%s%s", v->name,
		    v->sub != NULL ? " " : "", v->sub != NULL ? v->sub : "");
		json_object_object_add(o, "verb", json_object_new_string(name));
		json_object_object_add(o, "usage", json_object_new_string(v->args));
		json_object_object_add(o, "help", json_object_new_string(v->help));
		json_object_array_add(a, o);
	}
	sp_call_json(c, a);
}

void
sp_verb_help(struct sp_call *c)
{
	size_t shown = 0;

	if (c->style.json) {
		help_json(c);
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	for (size_t i = 0; i < sp_verbs_n; i++) {
		const struct sp_verb *v = &sp_verbs[i];

		if (v->help == NULL || !may(&c->who, v->who) ||
		    (c->n_pos > 0 && strcmp(c->pos[0], v->name) != 0))
			continue;
		help_line(c, v);
		shown++;
	}
	if (shown == 0) {
		sp_call_fail(c, SP_EXIT_USAGE, "there is no verb %s: try help",
		    sp_vis_str(c->pos[0]));
		return;
	}
	if (c->n_pos == 0)
		sp_call_say(c, "\n  Every listing and action takes --json. "
		    "Exit status: 0 done, 1 refused, 2 usage, 75 try again later.\n"
		    "  To work on a target: ssh -J %s@BASTION ACCOUNT@TARGET\n",
		    c->who.is_host ? "NAME" : c->who.name);
	sp_call_end(c, SP_EXIT_OK);
}
