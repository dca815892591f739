/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: list, show, kill. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/keys.h"
#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

static const struct sp_col session_cols[] = {
	{"id", "SESSION", SP_COL_ID}, {"state", "STATE", SP_COL_STATE},
	{"person", "WHO", SP_COL_TEXT}, {"account", NULL, SP_COL_TEXT},
	{"target", NULL, SP_COL_TEXT}, {"where", "ACCOUNT", SP_COL_TEXT},
	{"source", "FROM", SP_COL_TEXT}, {"started", "STARTED", SP_COL_TIME},
	{"ended", "ENDED", SP_COL_TIME}, {"bytes_in", "IN", SP_COL_BYTES},
	{"bytes_out", "OUT", SP_COL_BYTES}, {"chunks", NULL, SP_COL_NUMBER},
	{"end_code", NULL, SP_COL_NUMBER}, {"recovered", NULL, SP_COL_BOOL},
	{"rule", NULL, SP_COL_TEXT}, {"policy_hash", NULL, SP_COL_TEXT},
	{"grant", NULL, SP_COL_TEXT}, {"node", NULL, SP_COL_TEXT},
	{"head", NULL, SP_COL_TEXT}, {"allows", "ALLOWS", SP_COL_TEXT},
	{"kind", NULL, SP_COL_TEXT}, {"reason", "ENDED BECAUSE", SP_COL_TEXT},
	{"watched_by", "WATCHED BY", SP_COL_TEXT},
};
#define N_SESSION_COLS (sizeof(session_cols) / sizeof(session_cols[0]))

static void
add_session(const struct sp_call *c, struct sp_list *l, const struct sp_rows *r,
    size_t i)
{
	const char *head = sp_rows_get(r, i, "head");
	const char *account = sp_rows_get(r, i, "account_name");
	const char *target = sp_rows_get(r, i, "target_name");
	const char *state = sp_rows_get(r, i, "state");
	const struct sp_session *s = NULL;
	uint8_t id[16];
	char where[160], watchers[400] = "";

	if (sp_rows_get(r, i, "ended_us") == NULL && sp_rows_uuid(r, i, "id", id))
		s = sp_session_find(c->b, id);
	if (s != NULL && (c->b->cfg.watch_told == 1 ||
	    sp_actor_may_audit(&c->who)))
		sp_watchers_of(id, watchers, sizeof(watchers));
	if (s != NULL && sp_session_is_frozen(s))
		state = "frozen";
	else if (s != NULL && (sp_session_held(s, 0)->number != 0 ||
	    sp_session_held(s, 1)->number != 0))
		state = "held";

	snprintf(where, sizeof(where), "%.64s@%.64s", account == NULL ? "?" :
	    account, target == NULL ? "?" : target);
	sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
	    state, sp_rows_get(r, i, "person_name"),
	    account, target, where, sp_rows_get(r, i, "peer_addr"),
	    sp_rows_get(r, i, "started_us"), sp_rows_get(r, i, "ended_us"),
	    sp_rows_get(r, i, "bytes_in"), sp_rows_get(r, i, "bytes_out"),
	    sp_rows_get(r, i, "chunks"), sp_rows_get(r, i, "end_code"),
	    sp_rows_get(r, i, "recovered"), sp_rows_get(r, i, "rule"),
	    sp_rows_get(r, i, "policy_hash"), sp_rows_get(r, i, "grant_id"),
	    sp_rows_get(r, i, "node"), head != NULL && head[0] == '\\' ?
	    head + 2 : head, sp_rows_get(r, i, "rules"),
	    sp_rows_get(r, i, "kind"), sp_rows_get(r, i, "reason"),
	    watchers[0] == '\0' ? NULL : watchers});
}

static void
sessions_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(session_cols, N_SESSION_COLS);

	size_t n = sp_rows_n(c->rows[0]);
	char limit[24];

	for (size_t i = 0; i < n; i++)
		add_session(c, l, c->rows[0], i);
	sp_call_list(c, l, sp_call_has(c, "all") ? "No sessions." :
	    "No running sessions. sessions --all shows those that are over.");
	sp_list_free(l);
	if (!sp_call_limit(c, limit))
		return;
	if (n > 0 && !c->style.json && n >= strtoul(limit, NULL, 10))
		sp_call_say(c, "\nThere may be more: sessions%s --before %.8s\n",
		    sp_call_has(c, "all") ? " --all" : "",
		    sp_rows_get(c->rows[0], n - 1, "id"));
	if (!c->style.json && sp_recordings_are_strict(c->b))
		sp_call_say(c, "\nRecordings are sealed to auditors alone: this "
		    "bastion cannot open them, watch and replay do not work here.\n");
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_sessions(struct sp_call *c)
{
	const char *user = sp_call_opt(c, "user"), *target = sp_call_opt(c, "target");
	const char *before = sp_call_opt(c, "before");
	char me[SP_UUID_TEXT] = "", limit[24];

	if (!sp_call_limit(c, limit))
		return;
	if (before != NULL && (strlen(before) < 4 || strlen(before) > 36 ||
	    before[strspn(before, "0123456789abcdef-")] != '\0')) {
		sp_call_fail(c, SP_EXIT_USAGE, "--before wants a session: the first "
		    "four or more characters of its id");
		return;
	}
	if (!sp_actor_may_audit(&c->who))
		sp_uuid_text(me, c->who.person);
	sp_call_load(c, 0, (struct sp_need[]){{.sql = SP_SESSION_SELECT
	    " WHERE ($1 = '' OR person_id::text = $1) AND ($2 = '' OR "
	    "person_name = $2) AND ($3 = '' OR target_name = $3) AND "
	    "($4 = 'all' OR ended_us IS NULL) AND ($5 = '' OR started_us < "
	    "(SELECT min(started_us) FROM sessions WHERE starts_with(id::text, "
	    "$5::text))) ORDER BY started_us DESC LIMIT $6::bigint",
	    .p = {me, user == NULL ? "" : user, target == NULL ? "" : target,
	    sp_call_has(c, "all") ? "all" : "", before == NULL ? "" : before,
	    limit}, .n = 6}}, 1, sessions_print);
}

/* ------------------------------------------------------------ one of them */

bool
sp_session_is_mine(const struct sp_call *c, size_t row)
{
	uint8_t person[16];

	return !c->who.is_host &&
	    sp_rows_uuid(c->rows[0], row, "person_id", person) &&
	    memcmp(person, c->who.person, 16) == 0;
}

void
sp_session_resolve(struct sp_call *c, const char *prefix,
    void (*then)(struct sp_call *c))
{
	size_t n = strlen(prefix);

	if (n < 4 || n > 36 || strspn(prefix, "0123456789abcdef-") != n) {
		sp_call_fail(c, SP_EXIT_USAGE, "say which session: the first four "
		    "or more characters of its id; sessions --all lists them");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){{.sql = SP_SESSION_SELECT
	    " WHERE starts_with(id::text, $1::text) ORDER BY started_us DESC LIMIT 2",
	    .p = {prefix}, .n = 1}}, 1, then);
}

bool
sp_session_found(struct sp_call *c, bool allowed)
{
	size_t n = sp_rows_n(c->rows[0]);
	uint8_t id[16];

	if (n == 1 && allowed && sp_rows_uuid(c->rows[0], 0, "id", id))
		return true;
	if (n > 1 && sp_actor_may_audit(&c->who))
		sp_call_fail(c, SP_EXIT_USAGE, "%s could be %.8s or %.8s: "
		    "say more of it", c->pos[0], sp_rows_get(c->rows[0], 0, "id"),
		    sp_rows_get(c->rows[0], 1, "id"));
	else
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no session %s that "
		    "you may see; sessions --all lists yours", c->pos[0]);
	return false;
}

static void
session_print(struct sp_call *c)
{
	struct sp_list *l;
	SP_BUF_AUTO out = {.max = 65536};
	char allows[3000];

	if (!sp_session_found(c, sp_actor_may_audit(&c->who) ||
	    (sp_rows_n(c->rows[0]) == 1 && sp_session_is_mine(c, 0))))
		return;
	l = sp_list_new(session_cols, N_SESSION_COLS);
	add_session(c, l, c->rows[0], 0);
	if (c->style.json)
		sp_call_json(c, sp_list_json_row(l, 0));
	else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK)
		sp_call_out(c, sp_buf_span(&out));
	if (!c->style.json && sp_rows_get(c->rows[0], 0, "rules") != NULL)
		sp_call_say(c, "ALLOWS  %s\n", sp_vis(allows, sizeof(allows),
		    sp_span_str(sp_rows_get(c->rows[0], 0, "rules"))));
	if (!c->style.json && sp_actor_may_watch(&c->who))
		sp_call_say(c, "\nSee it: replay %.8s   Prove it: verify %.8s   "
		    "Its files: files %.8s\n", sp_rows_get(c->rows[0], 0, "id"),
		    sp_rows_get(c->rows[0], 0, "id"),
		    sp_rows_get(c->rows[0], 0, "id"));
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_show_session(struct sp_call *c, const char *prefix)
{
	sp_session_resolve(c, prefix, session_print);
}

/* -------------------------------------------------------------------- kill */

static void
kill_it(struct sp_call *c)
{
	const char *why = sp_call_opt(c, "reason");
	struct sp_session *s;
	uint8_t id[16];
	char text[512], *detail;

	if (!sp_session_found(c, sp_actor_may_admin(&c->who) ||
	    (sp_actor_may_watch(&c->who) && c->who.mfa >= SP_MFA_TOTP) ||
	    (sp_rows_n(c->rows[0]) == 1 && sp_session_is_mine(c, 0))))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	s = sp_session_find(c->b, id);
	if (s == NULL) {
		if (sp_rows_get(c->rows[0], 0, "ended_us") != NULL)
			sp_call_fail(c, SP_EXIT_REFUSED, "session %.8s is over "
			    "already", sp_rows_get(c->rows[0], 0, "id"));
		else
			sp_call_fail(c, SP_EXIT_LATER, "session %.8s runs on %s: "
			    "kill it there", sp_rows_get(c->rows[0], 0, "id"),
			    sp_vis_str(sp_rows_get(c->rows[0], 0, "node")));
		return;
	}
	snprintf(text, sizeof(text), "killed by %s%s%.300s", c->who.name,
	    why != NULL && why[0] != '\0' ? ": " : "", why == NULL ? "" : why);
	detail = sp_call_detail("reason", why, "person",
	    sp_rows_get(c->rows[0], 0, "person_name"), "target",
	    sp_rows_get(c->rows[0], 0, "target_name"), NULL);
	sp_audit(c->b->store, "session_kill", c->who.name, id, detail, NULL, NULL);
	free(detail);
	sp_session_end(s, SP_END_KILLED, text);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "killed",
	    "Session %.8s of %s is being ended.",
	    sp_rows_get(c->rows[0], 0, "id"),
	    sp_vis_str(sp_rows_get(c->rows[0], 0, "person_name")));
}

/* The database is away: what runs here is known without it. */
static void
kill_by_heart(struct sp_call *c)
{
	struct sp_session *s = sp_session_find_prefix(c->b, c->pos[0]);
	const char *why = sp_call_opt(c, "reason");
	char text[512], id[SP_UUID_TEXT], *detail;

	if (s == NULL || (!sp_actor_may_admin(&c->who) && (c->who.is_host ||
	    memcmp(sp_session_person_id(s), c->who.person, 16) != 0))) {
		sp_call_fail(c, SP_EXIT_LATER, "the database is away; of those that "
		    "run here none begins with %s", sp_vis_str(c->pos[0]));
		return;
	}
	sp_uuid_text(id, sp_session_id(s));
	snprintf(text, sizeof(text), "killed by %s%s%.300s", c->who.name,
	    why != NULL && why[0] != '\0' ? ": " : "", why == NULL ? "" : why);
	detail = sp_call_detail("reason", why, "database", "away", NULL);
	sp_audit(c->b->store, "session_kill", c->who.name, sp_session_id(s), detail,
	    NULL, NULL);
	free(detail);
	sp_session_end(s, SP_END_KILLED, text);
	sp_call_did(c, id, "killed", "Session %.8s is being ended.", id);
}

void
sp_verb_kill(struct sp_call *c)
{
	const char *why = sp_call_opt(c, "reason");

	if (why != NULL && !sp_utf8_is_valid(sp_span_str(why)))
		sp_call_fail(c, SP_EXIT_USAGE, "the reason is not UTF-8");
	else if (!sp_store_is_up(c->b->store))
		kill_by_heart(c);
	else
		sp_session_resolve(c, c->pos[0], kill_it);
}
