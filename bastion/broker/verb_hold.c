/* SPDX-License-Identifier: Apache-2.0 */
/* Legal holds, and what the rules of retention would delete. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/retain.h"
#include "bastion/broker/verb_session.h"
#include "policy/policy.h"

#define REASON_MAX 400
#define DAY_US (86400LL * 1000000)

/* A reason, a second factor: else the call has ended. */
static const char *
reason_of(struct sp_call *c)
{
	const char *s = sp_call_opt(c, "reason");

	if (s == NULL || s[0] == '\0' || strlen(s) > REASON_MAX ||
	    !sp_utf8_is_valid(sp_span_str(s)))
		sp_call_fail(c, SP_EXIT_USAGE, "--reason TEXT says why, in at most "
		    "%d bytes", REASON_MAX);
	else if (!c->who.is_host && c->who.mfa < SP_MFA_TOTP)
		sp_call_fail(c, SP_EXIT_REFUSED, "that needs a second factor: "
		    "connect again and give it");
	else
		return s;
	return NULL;
}

/* -------------------------------------------------------------------- holding */

static void
hold_logged(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;
	const char *id = sp_rows_get(c->rows[0], 0, "id");

	if (e == SP_ERR_DENIED) {
		sp_call_fail(c, SP_EXIT_REFUSED, "the transparency log has the end "
		    "of that recording, and the database has not: sallyport "
		    "verify --all");
		return;
	}
	if (e != SP_OK) {
		sp_call_fail(c, SP_EXIT_LATER, "it is held, and the transparency log "
		    "does not have that yet: sallyport doctor says why");
		return;
	}
	sp_hold_logged(c->b, id, false);
	sp_call_did(c, id, "held", "The recording of %.8s is held: no rule deletes it "
	    "until the hold is released.", id);
}

static void
hold_written(struct sp_call *c)
{
	uint8_t id[16];

	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_ledger_act(c->b->ledger, SP_ACT_HOLD, c->who.name, id, NULL,
	    sp_call_opt(c, "reason"), hold_logged, c);
}

static void
hold_it(struct sp_call *c)
{
	char hold[SP_UUID_TEXT], now[SP_NUM_TEXT];
	uint8_t id[16], made[16];
	struct sp_change *ch;
	struct json_object *d;

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_uuid_make(made);
	sp_uuid_text(hold, made);
	sp_i64_text(now, sp_now_us());
	ch = sp_change_new(c->b->store);
	sp_change_sql(ch, "INSERT INTO holds (id, session_id, reason, by_name, "
	    "made_us) VALUES ($1::uuid, $2::uuid, $3, $4, $5::bigint)",
	    (const char *[]){hold, sp_rows_get(c->rows[0], 0, "id"),
	    sp_call_opt(c, "reason"), c->who.name, now}, 5, 1);
	d = sp_detail();
	sp_detail_str(d, "reason", sp_call_opt(c, "reason"));
	sp_detail_str(d, "addr", c->who.addr);
	sp_flow_change_audit(ch, "recording_held", c->who.name, id, d);
	sp_call_commit(c, ch, "The hold (of a recording that is not deleted)",
	    hold_written);
}

void
sp_verb_hold(struct sp_call *c)
{
	if (reason_of(c) != NULL)
		sp_session_resolve(c, c->pos[0], hold_it);
}

/* ------------------------------------------------------------------- releasing */

static void
release_logged(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;
	const char *id = sp_rows_get(c->rows[0], 0, "id");

	if (e != SP_OK) {
		sp_call_fail(c, SP_EXIT_LATER, "it is released, and the transparency "
		    "log does not have that yet: sallyport doctor says why");
		return;
	}
	sp_hold_logged(c->b, id, true);
	sp_call_did(c, id, "released", "The recording of %.8s is held no more.", id);
}

static void
release_written(struct sp_call *c)
{
	uint8_t id[16];

	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_ledger_act(c->b->ledger, SP_ACT_RELEASE, c->who.name, id, NULL,
	    sp_call_opt(c, "reason"), release_logged, c);
}

static void
release_asked(struct sp_call *c)
{
	const char *id = sp_rows_get(c->rows[0], 0, "id");

	sp_call_did(c, id, "waits", "The recording of %.8s stays held until a second "
	    "person releases it too.", id);
}

static void
write_release(struct sp_call *c, bool is_last)
{
	struct sp_change *ch = sp_change_new(c->b->store);
	struct json_object *d = sp_detail();
	const char *id = sp_rows_get(c->rows[0], 0, "id");
	char now[SP_NUM_TEXT], n[SP_NUM_TEXT];
	uint8_t session[16];

	(void)sp_rows_uuid(c->rows[0], 0, "id", session);
	sp_i64_text(now, sp_now_us());
	sp_i64_text(n, (int64_t)sp_rows_n(c->rows[1]));
	if (is_last)
		sp_change_sql(ch, "UPDATE holds SET released_by = $2, released_us = "
		    "$3::bigint WHERE session_id = $1::uuid AND released_us IS NULL "
		    "AND ($4 = '1' OR (asked_by IS NOT NULL AND asked_by <> $2))",
		    (const char *[]){id, c->who.name, now,
		    c->b->cfg.hold_release_people == 1 ? "1" : "2"}, 4,
		    (uint64_t)sp_rows_n(c->rows[1]));
	else
		sp_change_sql(ch, "UPDATE holds SET asked_by = $2, asked_us = "
		    "$3::bigint WHERE session_id = $1::uuid AND released_us IS NULL",
		    (const char *[]){id, c->who.name, now}, 3, 0);
	sp_detail_str(d, "reason", sp_call_opt(c, "reason"));
	sp_detail_str(d, "addr", c->who.addr);
	sp_flow_change_audit(ch, is_last ? "recording_released" :
	    "recording_release_asked", c->who.name, session, d);
	sp_call_commit(c, ch, "The release of the hold", is_last ? release_written :
	    release_asked);
}

/* Of two people each is another one, and the first has said so for all its holds. */
static void
release_holds(struct sp_call *c)
{
	const struct sp_rows *h = c->rows[1];
	bool is_last = true;

	if (sp_rows_n(h) == 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "it is not held");
		return;
	}
	for (size_t i = 0; c->b->cfg.hold_release_people > 1 && i < sp_rows_n(h);
	    i++) {
		const char *by = sp_rows_get(h, i, "asked_by");

		is_last = is_last && by != NULL && strcmp(by, c->who.name) != 0;
	}
	write_release(c, is_last);
}

static void
release_it(struct sp_call *c)
{
	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	sp_call_load(c, 1, (struct sp_need[]){{.sql = "SELECT id, asked_by FROM holds "
	    "WHERE session_id = $1::uuid AND released_us IS NULL", .p =
	    {sp_rows_get(c->rows[0], 0, "id")}, .n = 1}}, 1, release_holds);
}

void
sp_verb_hold_release(struct sp_call *c)
{
	if (reason_of(c) != NULL)
		sp_session_resolve(c, c->pos[0], release_it);
}

/* --------------------------------------------------------------------- listing */

static const struct sp_col hold_cols[] = {
	{"id", NULL, SP_COL_ID}, {"session", "SESSION", SP_COL_ID},
	{"person", "WHO", SP_COL_TEXT}, {"target", "TARGET", SP_COL_TEXT},
	{"by", "HELD BY", SP_COL_TEXT}, {"since", "SINCE", SP_COL_TIME},
	{"reason", "REASON", SP_COL_TEXT},
	{"release_asked_by", "RELEASE ASKED BY", SP_COL_TEXT},
	{"released_by", "RELEASED BY", SP_COL_TEXT},
	{"released", "RELEASED", SP_COL_TIME},
};

static void
holds_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(hold_cols,
	    sizeof(hold_cols) / sizeof(hold_cols[0]));
	const struct sp_rows *r = c->rows[0];

	for (size_t i = 0; i < sp_rows_n(r); i++)
		sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
		    sp_rows_get(r, i, "session_id"),
		    sp_rows_get(r, i, "person_name"),
		    sp_rows_get(r, i, "target_name"), sp_rows_get(r, i, "by_name"),
		    sp_rows_get(r, i, "made_us"), sp_rows_get(r, i, "reason"),
		    sp_rows_get(r, i, "asked_by"), sp_rows_get(r, i, "released_by"),
		    sp_rows_get(r, i, "released_us")});
	sp_call_end_list(c, l, "No recording is held.");
}

void
sp_verb_hold_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){{.sql = "SELECT h.*, s.person_name, "
	    "s.target_name FROM holds h JOIN sessions s ON s.id = h.session_id "
	    "WHERE $1 = 't' OR h.released_us IS NULL ORDER BY h.made_us DESC LIMIT "
	    "10000", .p = {sp_call_has(c, "all") ? "t" : "f"}, .n = 1}}, 1,
	    holds_print);
}

/* ---------------------------------------------------------------------- the plan */

static const struct sp_col plan_cols[] = {
	{"id", "SESSION", SP_COL_ID}, {"verdict", "WHAT", SP_COL_STATE},
	{"person", "WHO", SP_COL_TEXT}, {"target", "TARGET", SP_COL_TEXT},
	{"ended", "ENDED", SP_COL_TIME}, {"rule", "RULE", SP_COL_TEXT},
	{"days", NULL, SP_COL_NUMBER},
};

static void
plan_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(plan_cols,
	    sizeof(plan_cols) / sizeof(plan_cols[0]));
	const struct sp_rows *r = c->rows[0];
	struct sp_retain_rules *rules = c->state;

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		const struct sp_retain_rule *k = sp_retain_match(rules,
		    sp_rows_get(r, i, "target_name"), sp_rows_get(r, i, "tags"),
		    sp_rows_get(r, i, "kind"));
		char rule[120], days[SP_NUM_TEXT];

		if (k == NULL || sp_rows_i64(r, i, "ended_us") + k->days * DAY_US >
		    c->style.now_us)
			continue;
		snprintf(rule, sizeof(rule), "%s%s%s", k->what, k->what[0] == '*' ?
		    "" : "=", k->pattern);
		sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
		    sp_rows_i64(r, i, "holds") > 0 ? "held" :
		    c->b->cfg.ship_store[0] != '\0' &&
		    sp_rows_get(r, i, "shipped_us") == NULL ? "not shipped" :
		    "delete", sp_rows_get(r, i, "person_name"),
		    sp_rows_get(r, i, "target_name"), sp_rows_get(r, i, "ended_us"),
		    rule, sp_i64_text(days, k->days)});
	}
	sp_call_end_list(c, l, "Nothing: no rule names a recording as old.");
}

void
sp_verb_retention_plan(struct sp_call *c)
{
	struct sp_retain_rules *rules = calloc(1, sizeof(*rules));
	char limit[24], old[SP_NUM_TEXT];

	SP_ASSERT(rules != NULL);
	c->state = rules;
	c->free_state = free;
	if (!sp_call_limit(c, limit))
		return;
	if (sp_retain_parse(c->b->cfg.retention, rules) != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "retention of the configuration is "
		    "no list of rules (target=PATTERN DAYS; tag=NAME DAYS; kind=NAME "
		    "DAYS; * DAYS): nothing is deleted");
		return;
	}
	sp_i64_text(old, sp_now_us() -
	    (int64_t)c->b->cfg.retention_least_days * DAY_US);
	sp_call_load(c, 0, (struct sp_need[]){{.sql = SP_RETAIN_SELECT, .p =
	    {c->b->node, old, "0", "00000000-0000-0000-0000-000000000000", limit},
	    .n = 5}}, 1, plan_print);
}
