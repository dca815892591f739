/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, and whether the record of it is whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_int.h"

static const struct sp_col audit_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"at", "WHEN", SP_COL_TIME},
	{"node", NULL, SP_COL_TEXT}, {"seq", "SEQ", SP_COL_NUMBER},
	{"event", "EVENT", SP_COL_TEXT}, {"actor", "WHO", SP_COL_TEXT},
	{"session", "SESSION", SP_COL_ID}, {"detail", "DETAIL", SP_COL_JSON},
};
#define N_AUDIT_COLS (sizeof(audit_cols) / sizeof(audit_cols[0]))

static void
add_event(struct sp_list *l, const struct sp_rows *r, size_t i)
{
	char id[160];

	snprintf(id, sizeof(id), "%.100s:%.24s", sp_rows_get(r, i, "node"),
	    sp_rows_get(r, i, "seq"));
	sp_list_add(l, (const char *[]){id, sp_rows_get(r, i, "at_us"),
	    sp_rows_get(r, i, "node"), sp_rows_get(r, i, "seq"),
	    sp_rows_get(r, i, "event"), sp_rows_get(r, i, "actor"),
	    sp_rows_get(r, i, "session_id"), sp_rows_get(r, i, "detail")});
}

/* ------------------------------------------------------------------ follow */

/* A line for each event: JSON lines, or time, event, who, detail. */
static void
follow_print(struct sp_call *c, const struct sp_rows *r, size_t i)
{
	struct sp_list *l = sp_list_new(audit_cols, N_AUDIT_COLS);
	SP_BUF_AUTO out = {.max = 65536};
	char t[SP_TIME_TEXT];
	const char *detail = sp_rows_get(r, i, "detail");

	if (c->style.json) {
		json_object *o;

		add_event(l, r, i);
		o = sp_list_json_row(l, 0);
		if (sp_json_print(o, true, &out) == SP_OK)
			sp_call_out(c, sp_buf_span(&out));
		json_object_put(o);
	} else {
		sp_time_text(t, sp_rows_i64(r, i, "at_us"), false);
		sp_call_say(c, "%s  %-18s %-12s %s\n", t,
		    sp_vis_str(sp_rows_get(r, i, "event")),
		    sp_vis_str(sp_rows_get(r, i, "actor")),
		    detail == NULL ? "" : sp_vis_str(detail));
	}
	sp_list_free(l);
}

static void
followed(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_call *c = arg;
	const char *only = sp_call_opt(c, "event");

	if (e != SP_OK)
		return;		/* the store goes on when the database is back */
	for (size_t i = 0; i < sp_rows_n(rows); i++) {
		const char *ev = sp_rows_get(rows, i, "event");

		if (only == NULL || (ev != NULL && strcmp(ev, only) == 0))
			follow_print(c, rows, i);
	}
}

static void
follow_end(struct sp_call *c)
{
	sp_audit_unfollow(c->b->store, c->state);
	c->state = NULL;
	sp_call_end(c, SP_EXIT_OK);
}

/* A terminal in raw mode sends Ctrl-C as a byte. */
static void
follow_key(struct sp_call *c, struct sp_span bytes)
{
	for (size_t i = 0; i < bytes.n; i++)
		if (bytes.p[i] == 3 || bytes.p[i] == 4 || bytes.p[i] == 'q') {
			follow_end(c);
			return;
		}
}

/* ------------------------------------------------------------------- audit */

static void
audit_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(audit_cols, N_AUDIT_COLS);
	const struct sp_rows *r = c->rows[0];
	bool follow = sp_call_has(c, "follow");

	for (size_t i = sp_rows_n(r); i-- > 0;) {
		if (follow)
			follow_print(c, r, i);
		else
			add_event(l, r, i);
	}
	if (!follow) {
		sp_call_end_list(c, l, "Nothing happened in that time.");
		return;
	}
	sp_list_free(l);
	if (c->gone) {
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	c->state = sp_audit_follow(c->b->store, followed, c);
	c->on_gone = follow_end;
	c->on_key = follow_key;
}

void
sp_verb_audit(struct sp_call *c)
{
	const char *since = sp_call_opt(c, "since"), *limit = sp_call_opt(c, "limit");
	const char *event = sp_call_opt(c, "event");
	char from[24], max[24];
	uint64_t n = sp_call_has(c, "follow") ? 10 : since != NULL ? 10000 : 100;
	int64_t us = 0;

	if (since != NULL && sp_duration_parse(sp_span_str(since), &us) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "--since wants a time such as 1h");
		return;
	}
	if (limit != NULL && (sp_u64_parse(sp_span_str(limit), 10000, &n) != SP_OK ||
	    n == 0)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--limit wants 1 to 10000");
		return;
	}
	snprintf(from, sizeof(from), "%lld",
	    since == NULL ? 0LL : (long long)(c->style.now_us - us));
	snprintf(max, sizeof(max), "%llu", (unsigned long long)n);
	sp_call_load(c, 0, (struct sp_need[]){{.sql = "SELECT node, seq, at_us, "
	    "event, actor, session_id, detail FROM audit WHERE at_us >= "
	    "$1::bigint AND ($2::text = '' OR event = $2::text) ORDER BY at_us "
	    "DESC, node, seq DESC LIMIT $3::bigint", .p = {from,
	    event == NULL ? "" : event, max}, .n = 3}}, 1, audit_print);
}

/* ------------------------------------------------------------------ verify */

static void
verify_progress(void *arg, uint64_t done, uint64_t all)
{
	struct sp_call *c = arg;
	char line[80];

	if (!c->pty)
		return;
	snprintf(line, sizeof(line), "\r\033[K%llu of %llu events",
	    (unsigned long long)done, (unsigned long long)all);
	sp_call_err(c, sp_span_str(line));
}

static void
verify_result(void *arg, enum sp_err e, const char *text)
{
	struct sp_call *c = arg;
	bool later = e == SP_ERR_DB || e == SP_ERR_TIMEOUT || e == SP_ERR_SEALED;

	if (c->pty)
		sp_call_err(c, sp_span_str("\r\033[K"));
	if (later) {
		sp_call_fail_err(c, e, "audit verify");
		return;
	}
	if (e == SP_OK) {
		sp_call_did(c, "audit", "intact", "%s", text);
		return;
	}
	if (c->style.json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "id", sp_json_text("audit"));
		json_object_object_add(o, "state", sp_json_text("broken"));
		json_object_object_add(o, "text", sp_json_text(text));
		sp_call_json(c, o);
		sp_call_end(c, SP_EXIT_REFUSED);
		return;
	}
	sp_call_fail(c, SP_EXIT_REFUSED, "the audit log is NOT whole: %s", text);
}

void
sp_verb_audit_verify(struct sp_call *c)
{
	sp_audit_verify(c->b->store, verify_progress, verify_result, c);
}

/* ---------------------------------------------------------------- restored */

static void
entered(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;

	if (e != SP_OK)
		sp_call_fail_err(c, e, "restored");
	else
		sp_call_did(c, c->pos[0], "restored", "It is in the audit.");
}

/* After `sallyport restore`: the chain goes on from the backup's, and says so. */
void
sp_verb_restored(struct sp_call *c)
{
	char *detail = sp_call_detail("backup", c->pos[0], "made", c->pos[1],
	    "node", c->pos[2], "leases", c->pos[3], NULL);

	sp_audit(c->b->store, "restored", c->who.name, NULL, detail, entered, c);
	free(detail);
}
