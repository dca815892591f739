/* SPDX-License-Identifier: Apache-2.0 */
/* keys ask, list, text, approve: what was typed opens for several people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/keys.h"
#include "bastion/broker/session.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

/* What a call waits for; the ask may have gone meanwhile. */
struct keys_call {
	uint64_t number;
	struct sp_buf signature;
};

static void
keys_call_free(void *state)
{
	struct keys_call *o = state;

	sp_buf_fini(&o->signature);
	free(o);
}

static struct keys_call *
begin(struct sp_call *c)
{
	struct keys_call *o = calloc(1, sizeof(*o));

	SP_ASSERT(o != NULL);
	sp_buf_init(&o->signature, 8192);
	c->state = o;
	c->free_state = keys_call_free;
	return o;
}

static bool
second_factor(struct sp_call *c)
{
	if (c->who.is_host || c->who.mfa >= SP_MFA_TOTP)
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED, "that needs a second factor: connect again "
	    "and give it");
	return false;
}

static struct sp_keys_ask *
ask_of(struct sp_call *c, const char *number)
{
	struct sp_keys_ask *k = NULL;
	uint64_t n = 0;

	if (sp_u64_parse(sp_span_str(number), INT64_MAX, &n) == SP_OK)
		k = sp_keys_find(n);
	if (k == NULL)
		sp_call_fail(c, SP_EXIT_REFUSED, "nobody asks for keys under number "
		    "%s (any more); keys list says who does",
		    sp_vis_str(number));
	return k;
}

/* -------------------------------------------------------------------- asking */

static void
asked(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_call *c = arg;
	struct keys_call *o = c->state;
	struct sp_msg_v_challenge_r m = {.err = SP_ERR_PROTO};
	struct sp_keys_ask *k = sp_keys_numbered(o->number);
	char n[24];

	if (e == SP_OK)
		e = sp_dec_v_challenge_r(reply->body, &m);
	if (e == SP_OK && k != NULL && m.err == SP_OK &&
	    sp_buf_put(&k->challenge, m.challenge.p, m.challenge.n) == SP_OK) {
		snprintf(n, sizeof(n), "%llu", (unsigned long long)k->number);
		sp_call_did(c, n, "pending", "Number %s: %llu other people must sign "
		    "that you may see what was typed in session %.8s. Each says: "
		    "ssh BASTION keys text %s | ssh-keygen -Y sign -n "
		    SP_APPROVE_NAMESPACE " -f KEY | ssh BASTION keys approve %s", n,
		    (unsigned long long)c->b->cfg.keys_approvals, c->pos[0], n, n);
		return;
	}
	if (k != NULL)
		sp_keys_drop(k);
	if (e == SP_OK && m.err != SP_OK)
		sp_call_fail(c, SP_EXIT_REFUSED, "the vault does not ask for that: "
		    "%s", sp_vis_tmp(m.text));
	else
		sp_call_fail_err(c, e, "keys ask");
}

static void
ask_vault(struct sp_call *c, struct sp_keys_ask *k)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sp_msg_v_challenge m = {.number = k->number,
	    .kind = SP_CHALLENGE_KEYS, .person_name = sp_span_str(k->name),
	    .account = sp_span_str(k->account),
	    .target_name = sp_span_str(k->target), .rule = sp_buf_span(&k->rule),
	    .reason = sp_span_str(k->reason), .seconds = SP_KEYS_SECONDS,
	    .life_us = SP_KEYS_LIFE_S * UINT64_C(1000000)};
	char *detail;

	memcpy(m.request, k->id, 16);
	memcpy(m.person, k->person, 16);
	memcpy(m.target, k->session, 16);
	if (sp_enc_v_challenge(&body, &m) != SP_OK) {
		sp_keys_drop(k);
		sp_call_fail_err(c, SP_ERR_TOOBIG, "keys ask");
		return;
	}
	detail = sp_call_detail("reason", k->reason, NULL);
	sp_audit(c->b->store, "keys_asked", c->who.name, k->session, detail, NULL,
	    NULL);
	free(detail);
	sp_vault_call(c->b->vault, SP_MSG_v_challenge, sp_buf_span(&body),
	    SP_MSG_v_challenge_r, asked, c);
}

static void
ask_found(struct sp_call *c)
{
	struct keys_call *o = c->state;
	struct sp_keys_ask *k;
	char bad[200] = "";
	uint8_t id[16];

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	if ((k = sp_keys_new(c->b, &c->who, id, bad, sizeof(bad))) == NULL) {
		sp_call_fail(c, SP_EXIT_LATER, "%s", bad);
		return;
	}
	o->number = k->number;
	snprintf(k->account, sizeof(k->account), "%.63s",
	    sp_rows_get(c->rows[0], 0, "account_name"));
	snprintf(k->target, sizeof(k->target), "%.63s",
	    sp_rows_get(c->rows[0], 0, "target_name"));
	snprintf(k->reason, sizeof(k->reason), "%.1024s",
	    sp_call_opt(c, "reason"));
	ask_vault(c, k);
}

void
sp_verb_keys_ask(struct sp_call *c)
{
	const char *why = sp_call_opt(c, "reason");

	(void)begin(c);
	if (!sp_keys_needs(c->b))
		sp_call_fail(c, SP_EXIT_REFUSED, "nobody has to be asked here: "
		    "keys_approvals of sallyport.conf is 0, and export --format "
		    "records shows what was typed");
	else if (why == NULL || why[strspn(why, " \t")] == '\0' ||
	    !sp_utf8_is_valid(sp_span_str(why)) || strlen(why) > 1024)
		sp_call_fail(c, SP_EXIT_USAGE, "say why: --reason TEXT");
	else if (second_factor(c))
		sp_session_resolve(c, c->pos[0], ask_found);
}

/* -------------------------------------------------------------- list and text */

static const struct sp_col cols[] = {
	{"number", "NUMBER", SP_COL_NUMBER}, {"session", "SESSION", SP_COL_ID},
	{"person", "WHO ASKS", SP_COL_TEXT}, {"where", "ACCOUNT", SP_COL_TEXT},
	{"signed", "SIGNED", SP_COL_NUMBER}, {"wants", "OF", SP_COL_NUMBER},
	{"by", "BY", SP_COL_TEXT}, {"until", "UNTIL", SP_COL_TIME},
	{"reason", "REASON", SP_COL_TEXT},
};

void
sp_verb_keys_list(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(cols, sizeof(cols) / sizeof(cols[0]));

	for (const struct sp_keys_ask *k = sp_keys_first(); k != NULL;
	    k = k->next) {
		char n[24], have[24], want[24], until[24], id[SP_UUID_TEXT];
		char where[160], by[320] = "";
		size_t at = 0;

		snprintf(n, sizeof(n), "%llu", (unsigned long long)k->number);
		snprintf(have, sizeof(have), "%zu", k->n);
		snprintf(want, sizeof(want), "%llu",
		    (unsigned long long)c->b->cfg.keys_approvals);
		snprintf(until, sizeof(until), "%lld", (long long)k->until_us);
		snprintf(where, sizeof(where), "%s@%s", k->account, k->target);
		sp_uuid_text(id, k->session);
		for (size_t i = 0; i < k->n && i < 8; i++)
			at += (size_t)snprintf(by + at, sizeof(by) - at, "%s%s",
			    i > 0 ? ", " : "", k->by[i]);
		sp_list_add(l, (const char *[]){n, id, k->name, where, have, want,
		    by, until, k->reason});
	}
	sp_call_end_list(c, l, "Nobody asks to see what was typed.");
}

void
sp_verb_keys_text(struct sp_call *c)
{
	SP_BUF_AUTO text = {.max = SP_CHALLENGE_TEXT_MAX};
	const struct sp_keys_ask *k = ask_of(c, c->pos[0]);
	struct sp_challenge ch;
	struct sp_rule r;

	if (k == NULL)
		return;
	if (sp_rule_decode(sp_buf_span(&k->rule), &r) != SP_OK ||
	    sp_challenge_decode(sp_buf_span(&k->challenge), &ch) != SP_OK ||
	    sp_challenge_text(&text, &ch, &r) != SP_OK) {
		sp_call_fail_err(c, SP_ERR_PROTO, "keys text");
		return;
	}
	sp_call_out(c, sp_buf_span(&text));
	sp_call_end(c, SP_EXIT_OK);
}

/* ------------------------------------------------------------------ approving */

static void
take_signature(struct sp_call *c, struct sp_keys_ask *k, const char *name)
{
	struct keys_call *o = c->state;
	char number[24], *detail;

	for (size_t i = 0; i < k->n && i < 8; i++)
		if (strcmp(k->by[i], name) == 0) {
			sp_call_fail(c, SP_EXIT_REFUSED, "you have signed it "
			    "already");
			return;
		}
	if (k->n == 8 || sp_buf_put_bytes(&k->approvals,
	    sp_buf_span(&o->signature)) != SP_OK) {
		sp_call_fail_err(c, SP_ERR_FULL, "keys approve");
		return;
	}
	snprintf(k->by[k->n++], sizeof(k->by[0]), "%.32s", name);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)k->number);
	detail = sp_call_detail("number", number, "for", k->name, NULL);
	sp_audit(c->b->store, "keys_approved", c->who.name, k->session, detail,
	    NULL, NULL);
	free(detail);
	sp_call_did(c, number, k->n >= c->b->cfg.keys_approvals ? "approved" :
	    "pending", "%zu of %llu have signed that %s may see what was typed.",
	    k->n, (unsigned long long)c->b->cfg.keys_approvals, k->name);
}

static void
judged(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_call *c = arg;
	struct keys_call *o = c->state;
	struct sp_msg_v_approval_r m = {.err = SP_ERR_PROTO};
	struct sp_keys_ask *k = sp_keys_find(o->number);
	const char *name = NULL;
	struct sp_rule r;

	if (e == SP_OK)
		e = sp_dec_v_approval_r(reply->body, &m);
	if (e != SP_OK || k == NULL) {
		sp_call_fail_err(c, e != SP_OK ? e : SP_ERR_NOTFOUND,
		    "keys approve");
		return;
	}
	if (m.err != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "your signature does not count: "
		    "%s", sp_vis_tmp(m.text));
		return;
	}
	if (sp_rule_decode(sp_buf_span(&k->rule), &r) == SP_OK)
		for (size_t i = 0; i < r.n; i++)
			if (memcmp(r.key[i].person, m.person, 16) == 0)
				name = r.key[i].name;
	if (name == NULL || strcmp(name, c->who.name) != 0)
		sp_call_fail(c, SP_EXIT_REFUSED, "that signature is another "
		    "person's: each signs for themselves");
	else
		take_signature(c, k, name);
}

void
sp_verb_keys_approve(struct sp_call *c)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct keys_call *o = begin(c);
	struct sp_msg_v_approval m;
	struct sp_keys_ask *k;

	if (!second_factor(c) || (k = ask_of(c, c->pos[0])) == NULL)
		return;
	o->number = k->number;
	if (sp_sshsig_dearmor(sp_buf_span(&c->input), &o->signature) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "what came is no signature: ssh "
		    "BASTION keys text %s | ssh-keygen -Y sign -n "
		    SP_APPROVE_NAMESPACE " -f KEY | ssh BASTION keys approve %s",
		    c->pos[0], c->pos[0]);
		return;
	}
	m = (struct sp_msg_v_approval){.rule = sp_buf_span(&k->rule),
	    .challenge = sp_buf_span(&k->challenge),
	    .signature = sp_buf_span(&o->signature)};
	if (sp_enc_v_approval(&body, &m) != SP_OK)
		sp_call_fail_err(c, SP_ERR_TOOBIG, "keys approve");
	else
		sp_vault_call(c->b->vault, SP_MSG_v_approval, sp_buf_span(&body),
		    SP_MSG_v_approval_r, judged, c);
}
