/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/release.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "vault/release_int.h"
#include "vault/rows.h"
#include "vault/sshsig.h"
#include "vault/poison.h"

#define MAC_LABEL "sallyport challenge v1"
/* Longer than any request waits. */
#define LIFE_MAX_US (7LL * 24 * 3600 * 1000000)

static enum sp_err
no(char text[static 256], enum sp_err e, const char *why)
{
	snprintf(text, 256, "%s", why);
	return e;
}

static bool
same(const uint8_t *a, const uint8_t *b, size_t n)
{
	return sodium_memcmp(a, b, n) == 0;
}

/* ------------------------------------------------------------ challenges */

/* The audit key outlives every rotation of the KEKs. */
static enum sp_err
challenge_mac(const struct sp_root *r, struct sp_span body,
    uint8_t mac[static 32])
{
	SP_SECRET_AUTO key = {0};

	if (!r->is_open)
		return SP_ERR_SEALED;
	SP_TRY(sp_key_derive(r->audit.p, MAC_LABEL, sp_span_str(""), &key));
	return crypto_generichash(mac, 32, body.p, body.n, key.p, key.n) == 0 ?
	    SP_OK : SP_ERR_CRYPTO;
}

/* A column of a sealed row's canonical bytes; NULL columns are not taken. */
static enum sp_err
column(struct sp_span *canon, struct sp_span *out)
{
	return sp_get_str(canon, SP_SSHSIG_KEY_MAX * 2 + 2, out);
}

/* The row's own seal says that it is a key of that person. */
static enum sp_err
own_key(const struct sp_root *r, const uint8_t person[static 16],
    struct sp_span *s, uint8_t sha256[static 32])
{
	struct sp_span canon, who, algo, hex;
	uint8_t owner[16], blob[SP_SSHSIG_KEY_MAX];
	const uint8_t *id, *mac;
	uint64_t version;

	SP_TRY(sp_get(s, 16, &id));
	SP_TRY(sp_get_u64(s, &version));
	SP_TRY(sp_get(s, 32, &mac));
	SP_TRY(sp_get_bytes(s, 16384, &canon));
	if (!sp_row_is_sealed(r, sp_span_str("person_keys"), id, version, canon,
	    mac))
		return SP_ERR_CRYPTO;
	SP_TRY(column(&canon, &who));
	SP_TRY(column(&canon, &algo));
	SP_TRY(column(&canon, &hex));
	SP_TRY(sp_uuid_parse(owner, who));
	if (!same(owner, person, 16) || hex.n < 4 || hex.n % 2 != 0)
		return SP_ERR_DENIED;
	hex = sp_span_of(hex.p + 2, hex.n - 2);		/* \x */
	SP_TRY(sp_unhex(blob, hex.n / 2, hex));
	crypto_hash_sha256(sha256, blob, hex.n / 2);
	return SP_OK;
}

static enum sp_err
fill(const struct sp_root *r, const struct sp_msg_v_challenge *m,
    const struct sp_rule *rule, int64_t now_us, struct sp_challenge *c)
{
	struct sp_span own = m->own_keys;

	*c = (struct sp_challenge){.kind = m->kind, .number = m->number,
	    .rule_version = rule->version, .seconds = (int64_t)m->seconds,
	    .made_us = now_us,
	    .until_us = now_us + (int64_t)m->life_us +
	    (int64_t)m->seconds * 1000000};
	memcpy(c->request, m->request, 16);
	memcpy(c->target, m->target, 16);
	memcpy(c->secret, rule->secret, 16);
	sp_rule_digest(m->rule, c->rule_digest);
	randombytes_buf(c->nonce, sizeof(c->nonce));
	SP_TRY(sp_span_cstr(m->person_name, c->person, sizeof(c->person)));
	SP_TRY(sp_span_cstr(m->account, c->account, sizeof(c->account)));
	SP_TRY(sp_span_cstr(m->target_name, c->target_name,
	    sizeof(c->target_name)));
	SP_TRY(sp_span_cstr(m->reason, c->reason, sizeof(c->reason)));
	while (own.n > 0 && c->n_own < SP_CHALLENGE_OWN_MAX) {
		SP_TRY(own_key(r, m->person, &own, c->own[c->n_own]));
		c->n_own++;
	}
	return own.n == 0 ? SP_OK : SP_ERR_TOOBIG;
}

enum sp_err
sp_challenge_make(const struct sp_root *r, const struct sp_msg_v_challenge *m,
    int64_t now_us, struct sp_buf *out, char text[static 256])
{
	SP_BUF_AUTO body = {.max = SP_CHALLENGE_MAX};
	struct sp_challenge c, again;
	struct sp_rule rule;
	uint8_t digest[32];

	text[0] = '\0';
	if (!r->is_open)
		return no(text, SP_ERR_SEALED, "the vault is sealed");
	if (sp_rule_decode(m->rule, &rule) != SP_OK)
		return no(text, SP_ERR_INVAL, "the release rule is broken");
	sp_rule_digest(m->rule, digest);
	if (!sp_releases_is_last(r->releases, rule.secret, digest))
		return no(text, SP_ERR_DENIED, "that is not the secret's last "
		    "release rule");
	if (m->seconds == 0 || m->seconds > (uint64_t)rule.max_seconds)
		return no(text, SP_ERR_DENIED, "that is longer than the secret's "
		    "release rule allows");
	if (m->life_us > LIFE_MAX_US)
		return no(text, SP_ERR_INVAL, "no request waits that long");
	if (fill(r, m, &rule, now_us, &c) != SP_OK)
		return no(text, SP_ERR_INVAL, "what is asked for has a broken name, "
		    "or its person a key whose seal does not hold");
	SP_TRY(sp_challenge_body(&body, &c));
	SP_TRY(challenge_mac(r, sp_buf_span(&body), c.mac));
	SP_TRY(sp_buf_put(&body, c.mac, 32));
	if (sp_challenge_decode(sp_buf_span(&body), &again) != SP_OK)
		return no(text, SP_ERR_INVAL, "what is asked for has a broken name");
	return sp_buf_put(out, sp_buf_span(&body).p, body.len);
}

/* ----------------------------------------------------------- verifying */

struct check {
	const struct sp_root *r;
	struct sp_rule rule;
	struct sp_challenge c;
	struct sp_buf text;	/* what was signed */
};

/* Rule and challenge, and that they belong together. */
static enum sp_err
begin(struct check *k, const struct sp_root *r, struct sp_span rule,
    struct sp_span challenge, char text[static 256])
{
	uint8_t digest[32], mac[32];

	*k = (struct check){.r = r};
	sp_buf_init(&k->text, SP_CHALLENGE_TEXT_MAX);
	if (sp_rule_decode(rule, &k->rule) != SP_OK)
		return no(text, SP_ERR_DENIED, "the release rule is broken");
	if (challenge.n == 0)
		return no(text, SP_ERR_DENIED, "this secret has a release rule, and "
		    "nobody has signed for its release");
	if (sp_challenge_decode(challenge, &k->c) != SP_OK || challenge_mac(r,
	    sp_span_of(challenge.p, challenge.n - 32), mac) != SP_OK ||
	    !same(mac, k->c.mac, 32))
		return no(text, SP_ERR_DENIED, "the text that was signed is not of "
		    "this vault");
	sp_rule_digest(rule, digest);
	if (!same(digest, k->c.rule_digest, 32) ||
	    !same(k->rule.secret, k->c.secret, 16))
		return no(text, SP_ERR_DENIED, "the release rule has changed since: "
		    "ask anew");
	return sp_challenge_text(&k->text, &k->c, &k->rule);
}

static bool
is_own(const struct check *k, size_t i)
{
	uint8_t h[32];

	if (sp_span_is(sp_span_str(k->rule.key[i].name), k->c.person))
		return true;
	crypto_hash_sha256(h, k->rule.key[i].key.p, k->rule.key[i].key.n);
	for (size_t j = 0; j < k->c.n_own; j++)
		if (same(h, k->c.own[j], 32))
			return true;
	return false;
}

/* Whose signature it is: the key's place in the rule. */
static enum sp_err
one(const struct check *k, struct sp_span signature, size_t *at,
    char text[static 256])
{
	struct sp_sshsig s;
	enum sp_err e = sp_sshsig_verify(signature, SP_APPROVE_NAMESPACE,
	    sp_buf_span(&k->text), &s);
	size_t i = 0;

	if (e == SP_ERR_DENIED)
		return no(text, SP_ERR_DENIED, "that signature is for something "
		    "else: sign with -n " SP_APPROVE_NAMESPACE);
	if (e == SP_ERR_CRYPTO)
		return no(text, SP_ERR_DENIED, "that is not a signature of this "
		    "request's challenge");
	if (e != SP_OK)
		return no(text, SP_ERR_DENIED, "that is no SSH signature that is "
		    "taken (PROTOCOL.sshsig)");
	while (i < k->rule.n && !sp_span_eq(k->rule.key[i].key, s.key))
		i++;
	if (i == k->rule.n)
		return no(text, SP_ERR_DENIED, "the release rule does not name that "
		    "key");
	if (is_own(k, i))
		return no(text, SP_ERR_DENIED, "nobody approves their own request");
	if (s.is_sk && (s.flags & SP_SSHSIG_TOUCHED) == 0)
		return no(text, SP_ERR_DENIED, "the security key was not touched");
	if (k->rule.touch && !s.is_sk)
		return no(text, SP_ERR_DENIED, "the release rule wants a security "
		    "key that is touched");
	*at = i;
	return SP_OK;
}

enum sp_err
sp_approval_check(const struct sp_root *r, struct sp_span rule,
    struct sp_span challenge, struct sp_span signature,
    struct sp_approval *out, char text[static 256])
{
	SP_BUF_AUTO b64 = {.max = 64};
	struct check k;
	uint8_t h[32];
	enum sp_err e;
	size_t i = 0;

	text[0] = '\0';
	e = begin(&k, r, rule, challenge, text);
	if (e == SP_OK && !sp_releases_is_last(r->releases, k.rule.secret,
	    k.c.rule_digest))
		e = no(text, SP_ERR_DENIED, "that is not the secret's last release "
		    "rule");
	if (e == SP_OK)
		e = one(&k, signature, &i, text);
	if (e == SP_OK) {
		memcpy(out->person, k.rule.key[i].person, 16);
		snprintf(out->name, sizeof(out->name), "%s", k.rule.key[i].name);
		crypto_hash_sha256(h, k.rule.key[i].key.p, k.rule.key[i].key.n);
		e = sp_base64(&b64, sp_span_of(h, 32));
		snprintf(out->key, sizeof(out->key), "SHA256:%.43s",
		    e == SP_OK ? (const char *)sp_buf_span(&b64).p : "");
	}
	sp_buf_fini(&k.text);
	return e;
}

/* Every signature that is shown must be good: one that is not is no mistake of
 * an honest broker, which asked before it kept it. */
static enum sp_err
count(const struct check *k, struct sp_span approvals, unsigned least,
    char by[static 256], char text[static 256])
{
	size_t seen[SP_RULE_KEYS_MAX], n = 0, at = 0;
	struct sp_span s;

	by[0] = '\0';
	while (approvals.n > 0) {
		bool again = false;

		if (n == SP_RULE_KEYS_MAX ||
		    sp_get_bytes(&approvals, SP_SSHSIG_MAX, &s) != SP_OK)
			return no(text, SP_ERR_DENIED, "the approvals are broken");
		SP_TRY(one(k, s, &seen[n], text));
		for (size_t i = 0; i < n; i++)
			again |= same(k->rule.key[seen[i]].person,
			    k->rule.key[seen[n]].person, 16);
		if (again)
			continue;
		at += (size_t)snprintf(by + at, 256 - at, "%s%.32s",
		    n > 0 ? ", " : "", k->rule.key[seen[n]].name);
		if (at > 200)
			at = 200;
		n++;
	}
	if (n >= k->rule.need && n >= least)
		return SP_OK;
	snprintf(text, 256, "the secret's release rule wants %u people's "
	    "signatures, and there are %zu", k->rule.need > least ?
	    k->rule.need : least, n);
	return SP_ERR_DENIED;
}

static enum sp_err
is_for(const struct check *k, const struct sp_release_wish *w,
    char text[static 256])
{
	if (k->c.kind != w->kind || !same(k->c.secret, w->secret, 16) ||
	    !same(k->c.target, w->target, 16) ||
	    (w->request != NULL && !same(k->c.request, w->request, 16)) ||
	    !sp_span_is(w->account, k->c.account) ||
	    !sp_span_is(w->target_name, k->c.target_name))
		return no(text, SP_ERR_DENIED, "the approvals are for something "
		    "else");
	return SP_OK;
}

enum sp_err
sp_release_check(const struct sp_root *r, const struct sp_release_wish *w,
    int64_t now_us, char by[static 256], char text[static 256])
{
	int64_t end = 0;
	struct check k;
	enum sp_err e;

	text[0] = '\0';
	e = begin(&k, r, w->rule, w->challenge, text);
	if (e == SP_OK)
		e = is_for(&k, w, text);
	if (e == SP_OK && !sp_releases_is_last(r->releases, w->secret,
	    k.c.rule_digest))
		e = no(text, SP_ERR_DENIED, "that is not the secret's last release "
		    "rule");
	if (e == SP_OK)
		e = count(&k, w->approvals, w->least, by, text);
	if (e == SP_OK && (now_us < k.c.made_us - 60000000 ||
	    now_us >= k.c.until_us))
		e = no(text, SP_ERR_DENIED, "the approvals have expired");
	if (e == SP_OK && (e = sp_releases_use(r->releases, &k.c, now_us, &end)) !=
	    SP_OK)
		(void)no(text, e, e == SP_ERR_EXISTS ? "it was shown already: ask "
		    "anew" : "too many releases at once");
	if (e == SP_OK && (now_us >= end || w->not_after > end))
		e = no(text, SP_ERR_DENIED, "the window that was approved is over, "
		    "or shorter than what is asked for");
	sp_buf_fini(&k.text);
	return e;
}
