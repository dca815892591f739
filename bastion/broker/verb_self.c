/* SPDX-License-Identifier: Apache-2.0 */
/* What one is, what one can reach, how the bastion is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/keys.h"
#include "bastion/broker/login.h"
#include "bastion/broker/session.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/ship.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_key.h"

const char *
sp_mfa_name(uint8_t mfa)
{
	static const char *const names[] = {"none", "totp", "sk", "sk-uv"};

	return mfa < 4 ? names[mfa] : "?";
}

/* One object, or its lines; frees the list and ends the call. */
static void
print_one(struct sp_call *c, struct sp_list *l)
{
	SP_BUF_AUTO out = {.max = 65536};

	if (c->style.json)
		sp_call_json(c, sp_list_json_row(l, 0));
	else if (sp_list_print_row(l, 0, &c->style, &out) == SP_OK)
		sp_call_out(c, sp_buf_span(&out));
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_whoami(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", NULL, SP_COL_TEXT}, {"name", "name", SP_COL_TEXT},
		{"from", "from", SP_COL_TEXT}, {"groups", "groups", SP_COL_WORDS},
		{"mfa", "second factor", SP_COL_TEXT},
		{"host", NULL, SP_COL_BOOL}, {"node", "bastion", SP_COL_TEXT},
		{"recordings", "recordings", SP_COL_TEXT},
	};
	struct sp_list *l = sp_list_new(cols, 8);
	char recordings[160];
	SP_BUF_AUTO groups = {.max = 4096};
	char id[SP_UUID_TEXT];

	for (size_t i = 0; i < c->who.n_groups; i++)
		(void)!sp_buf_printf(&groups, "%s%s", i > 0 ? " " : "",
		    c->who.groups[i]);
	(void)!sp_buf_put_u8(&groups, 0);
	sp_uuid_text(id, c->who.person);
	sp_recordings_text(c->b, recordings, sizeof(recordings));
	sp_list_add(l, (const char *[]){c->who.is_host ? NULL : id, c->who.name,
	    c->who.addr, (const char *)sp_buf_span(&groups).p,
	    c->who.is_host ? "uid of the control socket" : sp_mfa_name(c->who.mfa),
	    c->who.is_host ? "t" : "f", c->b->node, recordings});
	print_one(c, l);
}

/* ------------------------------------------------------------------- vault */

/* The vault says it as a line of an authorized_keys file. */
static void
ca_line(const struct sp_msg_v_status_r *v, char *dst, size_t cap, char *fp)
{
	struct sp_pubkey k;
	const char *why;

	dst[0] = fp[0] = '\0';
	if (sp_pubkey_parse(v->ca_key, &k, &why) == SP_OK &&
	    sp_span_cstr(v->ca_key, dst, cap) == SP_OK)
		sp_fingerprint(fp, sp_span_of(k.blob, k.n));
}

static void
vault_print(void *arg, enum sp_err e, struct sp_packet *reply)
{
	static const struct sp_col cols[] = {
		{"state", "vault", SP_COL_STATE}, {"demo", "demonstration key", SP_COL_BOOL},
		{"audit_key", "audit key (Ed25519)", SP_COL_TEXT},
		{"recording_key", "recording key (X25519)", SP_COL_TEXT},
		{"ca_key", "user CA", SP_COL_TEXT},
		{"ca_fingerprint", "user CA fingerprint", SP_COL_TEXT},
	};
	struct sp_call *c = arg;
	struct sp_msg_v_status_r v;
	struct sp_list *l;
	char audit[65], rec[65], ca[600], fp[SP_FINGERPRINT_TEXT];

	if (e != SP_OK || sp_dec_v_status_r(reply->body, &v) != SP_OK) {
		sp_call_fail(c, SP_EXIT_LATER,
		    "the vault is away; on the host: sallyport status");
		return;
	}
	sp_hex(audit, v.audit_key, 32);
	sp_hex(rec, v.recording_key, 32);
	ca_line(&v, ca, sizeof(ca), fp);
	l = sp_list_new(cols, 6);
	sp_list_add(l, (const char *[]){v.sealed ? "sealed" : "open",
	    v.demo ? "t" : "f", v.sealed ? NULL : audit, v.sealed ? NULL : rec,
	    ca[0] != '\0' ? ca : NULL, fp[0] != '\0' ? fp : NULL});
	print_one(c, l);
}

/* Asked now: what was true a while ago is not what they want to know. */
void
sp_verb_vault_status(struct sp_call *c)
{
	sp_vault_call(c->b->vault, SP_MSG_v_status, (struct sp_span){0},
	    SP_MSG_v_status_r, vault_print, c);
}

/* ------------------------------------------------------------------ status */

struct status {
	struct sp_call *c;
	char running[24];	/* sessions; "" while the database is away */
	char failed[24];	/* accounts whose rotation did, or is out of sync */
};

static void
status_print(void *arg, enum sp_err e, struct sp_packet *reply)
{
	static const struct sp_col cols[] = {
		{"node", "bastion", SP_COL_TEXT},
		{"database", "database", SP_COL_STATE},
		{"vault", "vault", SP_COL_STATE},
		{"demo", "demonstration key", SP_COL_BOOL},
		{"connections", "connections", SP_COL_NUMBER},
		{"sessions", "running sessions", SP_COL_NUMBER},
		{"rotations_failed", "rotations failed", SP_COL_NUMBER},
		{"unshipped", "recordings to ship", SP_COL_NUMBER},
		{"policy_rules", "rules of the policy", SP_COL_NUMBER},
		{"policy_hash", "policy", SP_COL_TEXT},
	};
	struct status *s = arg;
	struct sp_call *c = s->c;
	struct sp_msg_v_status_r v = {0};
	struct sp_list *l = sp_list_new(cols, sizeof(cols) / sizeof(cols[0]));
	char conns[24], rules[24], waiting[24];
	const struct sp_ship_status *ship = sp_ship_status(c->b);
	bool known = e == SP_OK && sp_dec_v_status_r(reply->body, &v) == SP_OK;

	snprintf(conns, sizeof(conns), "%zu", sp_login_count(c->b));
	snprintf(waiting, sizeof(waiting), "%llu",
	    (unsigned long long)ship->waiting);
	snprintf(rules, sizeof(rules), "%zu", c->b->policy == NULL ? 0 :
	    sp_policy_n_rules(c->b->policy));
	sp_list_add(l, (const char *[]){c->b->node,
	    sp_store_is_up(c->b->store) ? "ok" : "away",
	    !known ? "away" : v.sealed ? "sealed" : "open",
	    v.demo ? "t" : "f", conns, s->running[0] != '\0' ? s->running : NULL,
	    s->failed[0] != '\0' ? s->failed : NULL, ship->is_on ? waiting : NULL, rules,
	    c->b->policy == NULL ? "none: everything is denied" :
	    c->b->policy_hash});
	print_one(c, l);
}

/* Status answers also while the database or the vault is away: it says so. */
static void
status_counted(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct status *s = arg;

	if (e == SP_OK && sp_rows_n(rows) == 1)
		snprintf(s->running, sizeof(s->running), "%s",
		    sp_rows_get(rows, 0, "n"));
	if (e == SP_OK && sp_rows_n(rows) == 1)
		snprintf(s->failed, sizeof(s->failed), "%s",
		    sp_rows_get(rows, 0, "failed"));
	sp_vault_call(s->c->b->vault, SP_MSG_v_status, (struct sp_span){0},
	    SP_MSG_v_status_r, status_print, s);
}

void
sp_verb_status(struct sp_call *c)
{
	struct status *s = calloc(1, sizeof(*s));

	SP_ASSERT(s != NULL);
	s->c = c;
	c->state = s;
	c->free_state = free;
	sp_store_query(c->b->store, "SELECT count(*) AS n, (SELECT "
	    "count(*) FROM rotations WHERE state IN ('failed', 'out_of_sync')) "
	    "AS failed FROM sessions WHERE ended_us IS NULL", NULL, 0, status_counted, s);
}
