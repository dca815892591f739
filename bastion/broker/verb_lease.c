/* SPDX-License-Identifier: Apache-2.0 */
/* Leases, and whether an account is one person's at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/verb_int.h"

static const struct sp_col lease_cols[] = {
	{"id", NULL, SP_COL_TEXT}, {"session", "SESSION", SP_COL_ID},
	{"state", "STATE", SP_COL_STATE}, {"person", "WHO", SP_COL_TEXT},
	{"account", NULL, SP_COL_TEXT}, {"target", NULL, SP_COL_TEXT},
	{"where", "ACCOUNT", SP_COL_TEXT},
	{"exclusive", "EXCLUSIVE", SP_COL_BOOL},
	{"granted", "SINCE", SP_COL_TIME}, {"used", NULL, SP_COL_TIME},
	{"expires", "DUE", SP_COL_TIME}, {"until", "UNTIL", SP_COL_TIME},
	{"ended", "ENDED", SP_COL_TIME}, {"serial", NULL, SP_COL_NUMBER},
	{"secret_version", NULL, SP_COL_NUMBER}, {"node", NULL, SP_COL_TEXT},
};
#define LEASE_COLS (sizeof(lease_cols) / sizeof(lease_cols[0]))

static void
leases_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(lease_cols, LEASE_COLS);
	const struct sp_rows *r = c->rows[0];
	char where[140];

	for (size_t i = 0; i < sp_rows_n(r); i++) {
		snprintf(where, sizeof(where), "%.64s@%.64s",
		    sp_rows_get(r, i, "account"), sp_rows_get(r, i, "target"));
		sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
		    sp_rows_get(r, i, "session_id"), sp_rows_get(r, i, "state"),
		    sp_rows_get(r, i, "person_name"), sp_rows_get(r, i, "account"),
		    sp_rows_get(r, i, "target"), where,
		    sp_rows_get(r, i, "exclusive"), sp_rows_get(r, i, "granted_us"),
		    sp_rows_get(r, i, "used_us"), sp_rows_get(r, i, "expires_us"),
		    sp_rows_get(r, i, "until_us"), sp_rows_get(r, i, "ended_us"),
		    sp_rows_get(r, i, "serial"), sp_rows_get(r, i, "secret_ver"),
		    sp_rows_get(r, i, "node")});
	}
	sp_call_end_list(c, l, sp_call_has(c, "all") ? "No leases." :
	    "No active leases. leases --all shows those that are over.");
}

void
sp_verb_leases(struct sp_call *c)
{
	char me[SP_UUID_TEXT] = "", limit[24];

	if (!sp_call_limit(c, limit))
		return;
	if (!sp_actor_may_audit(&c->who))
		sp_uuid_text(me, c->who.person);
	sp_call_load(c, 0, (struct sp_need[]){{.sql = sp_call_has(c, "all") ?
	    "SELECT * FROM leases WHERE ($1 = '' OR person_id::text = $1) "
	    "ORDER BY granted_us DESC LIMIT $2::bigint" :
	    "SELECT * FROM leases WHERE state = 'active' AND ($1 = '' OR "
	    "person_id::text = $1) ORDER BY expires_us LIMIT $2::bigint",
	    .p = {me, limit}, .n = 2}}, 1, leases_print);
}

/* ------------------------------------------------------------- account set */

static void
account_is_set(struct sp_call *c)
{
	sp_broker_changed(c->b);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "set", "%s: %s.",
	    c->pos[0], strcmp(sp_call_opt(c, "exclusive"), "on") == 0 ?
	    "one person's at a time from now on" :
	    "may be used by several at a time");
}

static void
account_write(struct sp_call *c)
{
	const struct sp_rows *r = c->rows[0];
	const char *on = sp_call_opt(c, "exclusive");
	struct sp_change *ch;
	struct sp_vals v;
	uint8_t id[16];
	char *detail;

	if (sp_rows_n(r) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no account %s: account "
		    "list shows them", sp_vis_str(c->pos[0]));
		return;
	}
	(void)sp_rows_uuid(r, 0, "id", id);
	sp_vals_from(&v, SP_T_ACCOUNTS, r, 0);
	sp_vals_set(&v, "exclusive", strcmp(on, "on") == 0 ? "t" : NULL);
	detail = sp_call_detail("account", c->pos[0], "exclusive", on, NULL);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_ACCOUNTS, id, sp_rows_ver(r, 0), v.v);
	sp_change_audit(ch, "account_set", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "account set", account_is_set);
}

void
sp_verb_account_exclusive(struct sp_call *c)
{
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	const char *on = sp_call_opt(c, "exclusive");

	if (!sp_split_ask(c->pos[0], account, target)) {
		sp_call_fail(c, SP_EXIT_USAGE, "say it as ACCOUNT@TARGET");
		return;
	}
	if (on == NULL || (strcmp(on, "on") != 0 && strcmp(on, "off") != 0)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--exclusive wants on (one person at a "
		    "time) or off");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_ACCOUNTS, .where =
	    "WHERE name = $1 AND target_id IN (SELECT id FROM targets WHERE "
	    "name = $2)", .p = {account, target}, .n = 2}}, 1, account_write);
}
