/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody owes: rotations, reviews, approvals; and the front's host key. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bastion/cli/doctor.h"

#define NAMED 10	/* so many are named in a line */

json_object *
dr_ask(struct exam *x, const char *const *words, size_t n)
{
	SP_BUF_AUTO out = {.max = 1 << 24};
	char copy[8][64], *argv[9] = {NULL};

	SP_ASSERT(n < 8);
	for (size_t i = 0; i <= n; i++) {
		snprintf(copy[i], sizeof(copy[i]), "%s", i < n ? words[i] : "--json");
		argv[i] = copy[i];
	}
	if (sp_cli_verb(x->c, (int)n + 1, argv, -1, &out) != SP_EXIT_OK ||
	    sp_buf_put_u8(&out, 0) != SP_OK)
		return NULL;
	return json_tokener_parse((const char *)sp_buf_span(&out).p);
}

/* Some of them by name, as many as a line bears. */
struct some {
	size_t n;
	char names[NAMED * 140];
};

static void
some_add(struct some *s, const char *a, const char *b)
{
	size_t at = strlen(s->names);

	if (s->n++ < NAMED)
		snprintf(s->names + at, sizeof(s->names) - at, " %.64s%s%.64s",
		    a == NULL ? "?" : a, b == NULL ? "" : "@", b == NULL ? "" : b);
}

static const char *
some_more(const struct some *s)
{
	return s->n > NAMED ? " ..." : "";
}

static bool
is_true(json_object *o, const char *key)
{
	json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static bool
text_is(json_object *o, const char *key, const char *want)
{
	const char *s = sp_cli_text_field(o, key);

	return s != NULL && strcmp(s, want) == 0;
}

/* ------------------------------------------------------------------ rotations */

struct owed {
	struct some lost, held, ruled, waiting;
	size_t n_failed;
};

static void
sort_failed(json_object *a, struct owed *w)
{
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i);

		if (text_is(o, "state", "out_of_sync"))
			some_add(&w->lost, sp_cli_text_field(o, "account"),
			    sp_cli_text_field(o, "target"));
		else
			w->n_failed++;
	}
}

static void
sort_owed(json_object *a, struct owed *w)
{
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i);

		some_add(text_is(o, "waits_for", "release rule") ? &w->ruled :
		    text_is(o, "waits_for", "rotations_held") ? &w->held :
		    &w->waiting, sp_cli_text_field(o, "account"),
		    sp_cli_text_field(o, "target"));
	}
}

static void
say_owed(struct exam *x, const struct owed *w)
{
	if (w->ruled.n > 0)
		dr_say(x, WARN, "rotation", "nobody has signed for it: sallyport "
		    "secret rule ACCOUNT@TARGET --none, account rotate, and the rule "
		    "again", "%zu are due and cannot be rotated, as their secret has "
		    "a release rule:%s%s", w->ruled.n, w->ruled.names,
		    some_more(&w->ruled));
	if (w->held.n > 0)
		dr_say(x, WARN, "rotation", "when no other bastion has these accounts "
		    "any more: rotations_held 0 in sallyport.conf, and sallyport "
		    "reload", "%zu are owed and held since the restore:%s%s",
		    w->held.n, w->held.names, some_more(&w->held));
	else if (x->cfg.rotations_held != 0)
		dr_say(x, WARN, "rotation", "rotations_held 0 in sallyport.conf, and "
		    "sallyport reload", "none begins by itself");
	if (w->waiting.n > 0)
		dr_say(x, OK, "rotation", NULL, "%zu are owed, and begin when no "
		    "session holds the account:%s%s", w->waiting.n,
		    w->waiting.names, some_more(&w->waiting));
}

/* A stored secret that its target does not take is found out here, and not in
 * the night in which it is needed. */
void
dr_rotation(struct exam *x)
{
	static const char *const failed[] = {"account", "rotation", "--failed",
	    "--limit=10000"};
	static const char *const due[] = {"account", "rotation", "--owed",
	    "--limit=10000"};
	static struct owed w;
	json_object *a = dr_ask(x, failed, 4), *b = dr_ask(x, due, 4);

	if (a == NULL || b == NULL) {
		json_object_put(a);
		json_object_put(b);
		return;		/* what is wrong has been said above */
	}
	sort_failed(a, &w);
	sort_owed(b, &w);
	json_object_put(a);
	json_object_put(b);
	if (w.lost.n > 0)
		dr_say(x, FAIL, "rotation", "set it at the target and with sallyport "
		    "secret set, or name an account that can: sallyport target "
		    "reconcile TARGET ACCOUNT", "%zu accounts are out of sync, their "
		    "targets take none of the stored secrets:%s%s", w.lost.n,
		    w.lost.names, some_more(&w.lost));
	if (w.n_failed > 0)
		dr_say(x, WARN, "rotation", "sallyport account rotation --failed",
		    "%zu rotations failed and are tried again", w.n_failed);
	say_owed(x, &w);
	if (w.lost.n + w.n_failed == 0)
		dr_say(x, OK, "rotation", NULL, "none has failed");
}

/* ------------------------------------------------- break-glass kits and reveals */

static void
exam_kits(struct exam *x)
{
	static const char *const words[] = {"break-glass", "list"};
	static struct some review, stale, expired;
	json_object *a = dr_ask(x, words, 2);
	size_t n = a == NULL ? 0 : json_object_array_length(a);

	for (size_t i = 0; i < n; i++) {
		json_object *o = json_object_array_get_idx(a, i);
		const char *id = sp_cli_text_field(o, "id");

		if (is_true(o, "review_owed"))
			some_add(&review, id, NULL);
		else if (text_is(o, "state", "stale"))
			some_add(&stale, id, NULL);
		else if (text_is(o, "state", "expired"))
			some_add(&expired, id, NULL);
	}
	json_object_put(a);
	if (review.n > 0)
		dr_say(x, WARN, "break-glass", "somebody who neither opened nor "
		    "imported it: ssh BASTION break-glass review KIT --comment TEXT",
		    "%zu opened, and nobody has reviewed that:%s%s", review.n,
		    review.names, some_more(&review));
	if (stale.n + expired.n > 0)
		dr_say(x, WARN, "break-glass", "make a new one: sallyport break-glass "
		    "kit", "%zu past their time or with a credential that was changed "
		    "since:%s%s%s", stale.n + expired.n, stale.names, expired.names,
		    some_more(&stale));
	if (n > 0 && review.n + stale.n + expired.n == 0)
		dr_say(x, OK, "break-glass", NULL, "%zu kits, no review is owed", n);
}

/* Approved, and not looked at yet: a credential that can be read on this host. */
static void
exam_reveals(struct exam *x)
{
	static const char *const words[] = {"requests", "--all",
	    "--limit=2000"};
	static struct some asked, approved;
	json_object *a = dr_ask(x, words, 3);

	for (size_t i = 0; a != NULL && i < json_object_array_length(a); i++) {
		json_object *o = json_object_array_get_idx(a, i), *id = NULL;

		if (!text_is(o, "purpose", "reveal") ||
		    !json_object_object_get_ex(o, "id", &id))
			continue;
		if (text_is(o, "state", "approved"))
			some_add(&approved, json_object_get_string(id), NULL);
		else if (text_is(o, "state", "pending"))
			some_add(&asked, json_object_get_string(id), NULL);
	}
	json_object_put(a);
	if (asked.n > 0)
		dr_say(x, WARN, "reveal", "ssh BASTION show NUMBER, and approve or "
		    "deny NUMBER", "%zu wait for the approval of two:%s%s", asked.n,
		    asked.names, some_more(&asked));
	if (approved.n > 0)
		dr_say(x, WARN, "reveal", "sallyport secret reveal NUMBER on this "
		    "host, or let it pass", "%zu are approved and not shown yet:%s%s",
		    approved.n, approved.names, some_more(&approved));
}

void
dr_owed(struct exam *x)
{
	exam_kits(x);
	exam_reveals(x);
}

/* ---------------------------------------------------------------- the host key */

/* The public half that the vault's state has; false: it has none. */
static bool
own_key(struct exam *x, char key[static 256])
{
	SP_BUF_AUTO out = {.max = 8192};
	char exe[4096], dir[4096];
	const char *const argv[] = {exe, "pubkeys", dir, NULL};
	json_object *o = NULL, *v = NULL;

	key[0] = '\0';
	sp_cli_path(x->c, dir, "vault");
	if (!sp_cli_find("sallyport-vault", exe) ||
	    sp_cli_run(&(struct sp_run){.argv = argv, .out = &out}) != 0 ||
	    sp_buf_put_u8(&out, 0) != SP_OK ||
	    (o = json_tokener_parse((const char *)sp_buf_span(&out).p)) == NULL)
		return false;
	if (json_object_object_get_ex(o, "host_key", &v))
		snprintf(key, 256, "%s", json_object_get_string(v));
	json_object_put(o);
	return key[0] != '\0';
}

/* Type and blob, without the comment. */
static size_t
key_length(const char *line)
{
	size_t n = strcspn(line, " ");

	return line[n] == '\0' ? n : n + 1 + strcspn(line + n + 1, " \r\n");
}

void
dr_host_key(struct exam *x)
{
	SP_BUF_AUTO b = {.max = 1024};
	char path[4096], shown[1025] = "", own[256];
	struct stat st;
	bool has = own_key(x, own), is_file;

	sp_cli_path(x->c, path, "keys/ssh_host_ed25519_key");
	is_file = lstat(path, &st) == 0;
	sp_cli_path(x->c, path, "keys/ssh_host_ed25519_key.pub");
	if (sp_cli_read(path, &b) != SP_OK ||
	    sp_span_cstr(sp_buf_span(&b), shown, sizeof(shown)) != SP_OK)
		shown[0] = '\0';
	if (!has)
		dr_say(x, FAIL, "host key", "put the key in keys/, stop, start, and "
		    "unseal the vault: it takes it", "the vault has none%s", is_file ?
		    "; it takes that of keys/ when it opens" : ": nobody can log in");
	else if (key_length(own) != key_length(shown) ||
	    strncmp(own, shown, key_length(own)) != 0)
		dr_say(x, FAIL, "host key", "write what sallyport-vault pubkeys "
		    "DIR/vault says into it, stop, and start", "%s is the public half "
		    "of another key than the vault's: nobody can log in", path);
	else if (is_file)
		dr_say(x, WARN, "host key", "look at log/sallyport.log", "it is in the "
		    "vault, and keys/ssh_host_ed25519_key is there still");
	else
		dr_say(x, OK, "host key", NULL, "the vault has it, and no file does");
}
