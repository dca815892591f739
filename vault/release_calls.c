/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "vault/secrets.h"
#include "vault/sshsig.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

/* ------------------------------------------------------------- the broker */

/* Nobody is asked to sign for what was typed by another rule than the
 * configuration's. */
static bool
is_our_rule(const struct sp_vaultd *v, const struct sp_msg_v_challenge *m)
{
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};

	if (m->kind != SP_CHALLENGE_KEYS)
		return true;
	return sp_plays_rule(v->plays, m->target, &rule) == SP_OK &&
	    sp_span_eq(sp_buf_span(&rule), m->rule);
}

enum sp_err
sp_on_challenge(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO out = {.max = SP_CHALLENGE_MAX};
	struct sp_msg_v_challenge m;
	struct sp_msg_v_challenge_r r;
	char text[256];

	SP_TRY(sp_dec_v_challenge(p->body, &m));
	if (!is_our_rule(v, &m)) {
		r.err = SP_ERR_DENIED;
		r.text = sp_span_str("that is not what keys_approvers says");
		r.challenge = (struct sp_span){0};
		return sp_send_v_challenge_r(&v->brk, p->corr, &r, NULL);
	}
	r.err = (uint8_t)sp_challenge_make(&v->root, &m, sp_now_us(), &out, text);
	r.text = sp_span_str(text);
	r.challenge = r.err == SP_OK ? sp_buf_span(&out) : (struct sp_span){0};
	return sp_send_v_challenge_r(&v->brk, p->corr, &r, NULL);
}

enum sp_err
sp_on_approval(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_approval m;
	struct sp_msg_v_approval_r r = {.err = SP_ERR_SEALED};
	struct sp_approval a = {.name = ""};
	char text[256] = "the vault is sealed";

	SP_TRY(sp_dec_v_approval(p->body, &m));
	if (v->root.is_open)
		r.err = (uint8_t)sp_approval_check(&v->root, m.rule, m.challenge,
		    m.signature, &a, text);
	if (r.err != SP_OK)
		sp_vaultd_event(v, "approval_refused", NULL, text);
	memcpy(r.person, a.person, 16);
	r.key = sp_span_str(a.key);
	r.text = sp_span_str(text);
	return sp_send_v_approval_r(&v->brk, p->corr, &r, NULL);
}

/* ------------------------------------------------------ the administrator */

/* A rule that demands touch wants as many people who have such keys. */
static bool
can_be_touched(const struct sp_rule *r)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->n; i++) {
		bool again = !sp_sshsig_key_is_sk(r->key[i].key);

		for (size_t j = 0; j < i; j++)
			again |= sp_sshsig_key_is_sk(r->key[j].key) &&
			    sodium_memcmp(r->key[i].person, r->key[j].person, 16) ==
			    0;
		n += !again;
	}
	return n >= r->need;
}

static const char *
rule_fault(const struct sp_msg_vc_rule_set *m)
{
	struct sp_rule old, r;
	uint64_t last = 0;

	if (m->kind == SP_CRED_TOTP_SEED)
		return "only accounts' credentials have release rules";
	if (m->old_rule.n > 0 && sp_rule_decode(m->old_rule, &old) != SP_OK)
		return "the release rule of before is broken";
	if (m->old_rule.n > 0)
		last = old.version;
	if (m->rule.n == 0)
		return NULL;
	if (sp_rule_decode(m->rule, &r) != SP_OK)
		return "the release rule is broken: it names as many people as must "
		    "sign, each with keys of their own, and at most 24 hours";
	if (sodium_memcmp(r.secret, m->id, 16) != 0 || r.version <= last)
		return "the release rule is for another secret, or not a newer one";
	for (size_t i = 0; i < r.n; i++)
		if (sp_sshsig_key_check(r.key[i].key) != SP_OK)
			return "a key of the release rule is of a type that cannot "
			    "sign (ssh-ed25519, ecdsa, RSA of 2048 bits, sk-*)";
	if (r.touch && !can_be_touched(&r))
		return "fewer people than must sign have a security key";
	return NULL;
}

static enum sp_err
set_rule(struct sp_vaultd *v, const struct sp_msg_vc_rule_set *m,
    struct sp_buf *sealed)
{
	struct sp_secret_row row = {.kind = m->kind, .version = m->version};
	struct sp_root root = v->root;
	SP_SECRET_AUTO clear = {0};

	/* The administrator may mend what stands between two writes. */
	root.releases = NULL;
	memcpy(row.id, m->id, 16);
	memcpy(row.owner, m->owner, 16);
	sp_rule_digest(m->old_rule, row.rule);
	SP_TRY(sp_secret_unseal(&root, &row, m->sealed, &clear));
	sp_rule_digest(m->rule, row.rule);
	SP_TRY(sp_secret_seal(&root, &row, sp_span_of(clear.p, clear.n), sealed));
	return sp_releases_set(v->releases, &v->root, row.id, row.rule);
}

enum sp_err
sp_on_rule_set(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO sealed = {.max = 8192};
	struct sp_msg_vc_rule_set m;
	struct sp_msg_vc_rule_set_r r = {.err = SP_ERR_SEALED};
	const char *fault;
	char detail[128];

	SP_TRY(sp_dec_vc_rule_set(p->body, &m));
	fault = rule_fault(&m);
	if (fault != NULL)
		r.err = SP_ERR_INVAL;
	else if (v->root.is_open)
		r.err = (uint8_t)set_rule(v, &m, &sealed);
	snprintf(detail, sizeof(detail), "uid=%ju %s: %s", (uintmax_t)c->uid,
	    m.rule.n == 0 ? "removed" : "set", sp_err_text(r.err));
	sp_vaultd_event(v, "release_rule_set", NULL, detail);
	r.text = sp_span_str(fault != NULL ? fault : r.err == SP_OK ? "" :
	    r.err == SP_ERR_CRYPTO ? "the secret does not open with the release "
	    "rule that it has" : sp_err_text(r.err));
	r.sealed = r.err == SP_OK ? sp_buf_span(&sealed) : (struct sp_span){0};
	return sp_send_vc_rule_set_r(&c->link, p->corr, &r, NULL);
}
