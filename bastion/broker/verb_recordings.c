/* SPDX-License-Identifier: Apache-2.0 */
/* Where recordings are: on this disk, in the store, held, deleted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ship.h"
#include "bastion/broker/verb_session.h"

static const struct sp_col cols[] = {
	{"id", "SESSION", SP_COL_ID}, {"where", "WHERE", SP_COL_STATE},
	{"person", "WHO", SP_COL_TEXT}, {"account", NULL, SP_COL_TEXT},
	{"target", "TARGET", SP_COL_TEXT}, {"ended", "ENDED", SP_COL_TIME},
	{"size", "SIZE", SP_COL_BYTES}, {"sha256", NULL, SP_COL_TEXT},
	{"shipped", "SHIPPED", SP_COL_TIME}, {"compared", NULL, SP_COL_TEXT},
	{"holds", "HOLDS", SP_COL_NUMBER}, {"deleted", "DELETED", SP_COL_TIME},
	{"rule", NULL, SP_COL_TEXT}, {"node", NULL, SP_COL_TEXT},
	{"tries", NULL, SP_COL_NUMBER}, {"error", "LAST ERROR", SP_COL_TEXT},
};

static const char *
where_is(const struct sp_rows *r, size_t i, const char *here)
{
	const char *node = sp_rows_get(r, i, "node");
	bool local = sp_rows_get(r, i, "local") == NULL ||
	    sp_rows_bool(r, i, "local");

	if (sp_rows_get(r, i, "decided_us") != NULL)
		return sp_rows_get(r, i, "done_us") != NULL ? "deleted" :
		    "being deleted";
	if (sp_rows_get(r, i, "shipped_us") != NULL)
		return local ? "here and store" : "store";
	return node != NULL && strcmp(node, here) == 0 ? "here" : "its bastion";
}

static void
print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(cols, sizeof(cols) / sizeof(cols[0]));
	const struct sp_rows *r = c->rows[0];
	char limit[24];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const char *sha = sp_rows_get(r, i, "sha256");
		int64_t how = sp_rows_i64(r, i, "how");

		sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
		    where_is(r, i, c->b->node), sp_rows_get(r, i, "person_name"),
		    sp_rows_get(r, i, "account_name"),
		    sp_rows_get(r, i, "target_name"),
		    sp_rows_get(r, i, "ended_us"), sp_rows_get(r, i, "size"),
		    sha != NULL && sha[0] == '\\' ? sha + 2 : sha,
		    sp_rows_get(r, i, "shipped_us"), how == SP_SHIP_BY_DIGEST ?
		    "digest" : how == SP_SHIP_BY_READING ? "read back" : NULL,
		    sp_rows_get(r, i, "holds"), sp_rows_get(r, i, "decided_us"),
		    sp_rows_get(r, i, "rule"), sp_rows_get(r, i, "node"),
		    sp_rows_get(r, i, "tries"), sp_rows_get(r, i, "error")});
	}
	sp_call_list(c, l, "No recordings.");
	sp_list_free(l);
	if (sp_call_limit(c, limit) && !c->style.json && sp_rows_n(r) > 0 &&
	    sp_rows_n(r) >= strtoul(limit, NULL, 10))
		sp_call_say(c, "\nThere may be more: recordings --before %.8s\n",
		    sp_rows_get(r, sp_rows_n(r) - 1, "id"));
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_recordings(struct sp_call *c)
{
	const char *before = sp_call_opt(c, "before");
	char limit[24];

	if (!sp_call_limit(c, limit))
		return;
	if (before != NULL && (strlen(before) < 4 || strlen(before) > 36 ||
	    before[strspn(before, "0123456789abcdef-")] != '\0')) {
		sp_call_fail(c, SP_EXIT_USAGE, "--before wants a session: the first "
		    "four or more characters of its id");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){{.sql = "SELECT s.id, s.person_name, "
	    "s.account_name, s.target_name, s.ended_us, s.node, h.size, h.sha256, "
	    "h.how, h.shipped_us, h.local, h.tries, coalesce(d.error, h.error) AS "
	    "error, d.decided_us, d.done_us, d.rule, (SELECT count(*) FROM holds o "
	    "WHERE o.session_id = s.id AND o.released_us IS NULL) AS holds FROM "
	    "sessions s LEFT JOIN shipments h ON h.session_id = s.id LEFT JOIN "
	    "deletions d ON d.session_id = s.id WHERE s.ended_us IS NOT NULL AND "
	    "s.head IS NOT NULL AND ($1 = '' OR s.ship_us IS NOT NULL) AND "
	    "($2 = '' OR s.started_us < (SELECT min(started_us) FROM sessions "
	    "WHERE starts_with(id::text, $2::text))) ORDER BY s.started_us DESC "
	    "LIMIT $3::bigint", .p = {sp_call_has(c, "unshipped") ? "t" : "",
	    before == NULL ? "" : before, limit}, .n = 3}}, 1, print);
}

void
sp_verb_recordings_status(struct sp_call *c)
{
	const struct sp_ship_status *s = sp_ship_status(c->b);
	char when[SP_TIME_TEXT] = "";

	if (s->oldest_us != 0)
		sp_age_text(when, s->oldest_us, c->style.now_us);
	if (c->style.json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "id", json_object_new_string("store"));
		json_object_object_add(o, "on", json_object_new_boolean(s->is_on));
		json_object_object_add(o, "waiting",
		    json_object_new_int64((int64_t)s->waiting));
		json_object_object_add(o, "shipped",
		    json_object_new_int64((int64_t)s->shipped));
		json_object_object_add(o, "local",
		    json_object_new_int64((int64_t)s->local));
		json_object_object_add(o, "oldest", s->oldest_us == 0 ? NULL :
		    json_object_new_string(when));
		json_object_object_add(o, "failures",
		    json_object_new_int64(s->failures));
		json_object_object_add(o, "error", json_object_new_string(s->error));
		sp_call_json(c, o);
	} else if (!s->is_on) {
		sp_call_say(c, "No store is configured (ship_store): recordings stay "
		    "on this disk.\n");
	} else {
		sp_call_say(c, "%llu in the store, %llu of them here too; %llu wait to "
		    "be sent%s%s\n%s%s%s", (unsigned long long)s->shipped,
		    (unsigned long long)s->local, (unsigned long long)s->waiting,
		    when[0] == '\0' ? "" : ", the oldest ended ", when,
		    s->error[0] == '\0' ? "" : "the last try failed: ", s->error,
		    s->error[0] == '\0' ? "" : "\n");
	}
	sp_call_end(c, SP_EXIT_OK);
}

/* -------------------------------------------------------------------- fetching */

static void
fetched(void *arg, enum sp_err e, const char *text)
{
	struct sp_call *c = arg;

	if (e != SP_OK)
		sp_call_fail(c, SP_EXIT_LATER, "it cannot be fetched: %s", text);
	else
		sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "here", "The "
		    "recording of %s is back on this disk: verify and replay take "
		    "it.", c->pos[0]);
}

static void
left(struct sp_call *c)
{
	sp_ship_forget(c->b, c);
	sp_call_end(c, SP_EXIT_OK);
}

static void
fetch_row(struct sp_call *c)
{
	const struct sp_rows *r = c->rows[1];
	struct sp_ship_wish w = {.what = SP_SHIP_FETCH};
	SP_BUF_AUTO sha = {.max = 64};

	if (sp_rows_n(r) != 1 || sp_rows_get(r, 0, "decided_us") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s", sp_rows_n(r) != 1 ?
		    "the store does not have it: recordings shows where it is" :
		    "it was deleted");
		return;
	}
	(void)sp_rows_uuid(r, 0, "session_id", w.session);
	w.started_us = sp_rows_i64(r, 0, "started_us");
	w.size = (uint64_t)sp_rows_i64(r, 0, "size");
	if (sp_rows_bytes(r, 0, "sha256", &sha) == SP_OK && sha.len == 32)
		memcpy(w.sha256, sp_buf_span(&sha).p, 32);
	c->on_gone = left;
	sp_ship_wish(c->b, &w, fetched, c);
}

static void
fetch(struct sp_call *c)
{
	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	sp_call_load(c, 1, (struct sp_need[]){{.sql = "SELECT h.session_id, h.size, "
	    "h.sha256, s.started_us, d.decided_us FROM shipments h JOIN sessions s "
	    "ON s.id = h.session_id LEFT JOIN deletions d ON d.session_id = s.id "
	    "WHERE h.session_id = $1::uuid AND h.shipped_us IS NOT NULL",
	    .p = {sp_rows_get(c->rows[0], 0, "id")}, .n = 1}}, 1, fetch_row);
}

void
sp_verb_recordings_fetch(struct sp_call *c)
{
	sp_session_resolve(c, c->pos[0], fetch);
}
