/* SPDX-License-Identifier: Apache-2.0 */
#include "common/release.h"

#include <stdio.h>
#include <string.h>

#define FORMAT 1

/* ------------------------------------------------------------------- rules */

static bool
same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
	return sp_span_eq(sp_span_of(a, n), sp_span_of(b, n));
}

static bool
key_is_fine(const struct sp_rule *r, size_t i)
{
	const struct sp_rule_key *k = &r->key[i];
	struct sp_span name = sp_span_str(k->name);

	if (!sp_name_is_valid(name) || sp_uuid_is_nil(k->person) ||
	    k->key.n == 0 || k->key.n > SP_RULE_KEY_MAX)
		return false;
	for (size_t j = 0; j < i; j++)
		if (sp_span_eq(k->key, r->key[j].key) ||
		    same_bytes(k->person, r->key[j].person, 16) !=
		    sp_span_is(name, r->key[j].name))
			return false;
	return true;
}

static size_t
n_people(const struct sp_rule *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= same_bytes(r->key[i].person, r->key[j].person, 16);
		n += !again;
	}
	return n;
}

enum sp_err
sp_rule_check(const struct sp_rule *r)
{
	if (r->version == 0 || r->version > INT64_MAX || r->need == 0 ||
	    r->n == 0 || r->n > SP_RULE_KEYS_MAX || r->max_seconds <= 0 ||
	    r->max_seconds > SP_RULE_SECONDS_MAX || r->made_us <= 0 ||
	    sp_uuid_is_nil(r->secret) || !sp_name_is_valid(sp_span_str(r->group)))
		return SP_ERR_INVAL;
	for (size_t i = 0; i < r->n; i++)
		if (!key_is_fine(r, i))
			return SP_ERR_INVAL;
	return n_people(r) >= r->need ? SP_OK : SP_ERR_INVAL;
}

enum sp_err
sp_rule_encode(struct sp_buf *b, const struct sp_rule *r)
{
	SP_TRY(sp_rule_check(r));
	SP_TRY(sp_buf_put_u8(b, FORMAT));
	SP_TRY(sp_buf_put_u64(b, r->version));
	SP_TRY(sp_buf_put(b, r->secret, 16));
	SP_TRY(sp_buf_put_u8(b, r->need));
	SP_TRY(sp_buf_put_u8(b, r->touch));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)r->max_seconds));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)r->made_us));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(r->group)));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)r->n));
	for (size_t i = 0; i < r->n; i++) {
		SP_TRY(sp_buf_put(b, r->key[i].person, 16));
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(r->key[i].name)));
		SP_TRY(sp_buf_put_bytes(b, r->key[i].key));
	}
	return b->len > SP_RULE_MAX ? SP_ERR_TOOBIG : SP_OK;
}

static enum sp_err
decode_keys(struct sp_span *s, struct sp_rule *r)
{
	uint8_t n;

	SP_TRY(sp_get_u8(s, &n));
	if (n > SP_RULE_KEYS_MAX)
		return SP_ERR_TOOBIG;
	for (r->n = 0; r->n < n; r->n++) {
		struct sp_rule_key *k = &r->key[r->n];

		SP_TRY(sp_get_fixed(s, k->person, 16));
		SP_TRY(sp_get_text(s, k->name, sizeof(k->name)));
		SP_TRY(sp_get_bytes(s, SP_RULE_KEY_MAX, &k->key));
	}
	return SP_OK;
}

enum sp_err
sp_rule_decode(struct sp_span s, struct sp_rule *r)
{
	uint8_t format, touch;

	memset(r, 0, sizeof(*r));
	if (s.n > SP_RULE_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_get_u8(&s, &format));
	SP_TRY(sp_get_u64(&s, &r->version));
	SP_TRY(sp_get_fixed(&s, r->secret, 16));
	SP_TRY(sp_get_u8(&s, &r->need));
	SP_TRY(sp_get_u8(&s, &touch));
	SP_TRY(sp_get_time(&s, &r->max_seconds));
	SP_TRY(sp_get_time(&s, &r->made_us));
	SP_TRY(sp_get_text(&s, r->group, sizeof(r->group)));
	SP_TRY(decode_keys(&s, r));
	if (s.n != 0 || format != FORMAT || touch > 1)
		return SP_ERR_PROTO;
	r->touch = touch == 1;
	return sp_rule_check(r);
}

enum sp_err
sp_rule_show(struct sp_buf *out, const struct sp_rule *r)
{
	char t[SP_TIME_TEXT];

	SP_TRY(sp_buf_printf(out, "%u of ", r->need));
	for (size_t i = 0; i < r->n; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= same_bytes(r->key[i].person, r->key[j].person, 16);
		if (!again)
			SP_TRY(sp_buf_printf(out, "%s%s", i > 0 ? ", " : "",
			    r->key[i].name));
	}
	sp_duration_text(t, r->max_seconds * 1000000);
	return sp_buf_printf(out, " sign%s, for %s at most",
	    r->touch ? " with a security key that was touched" : "", t);
}

/* -------------------------------------------------------------- challenges */

enum sp_err
sp_challenge_body(struct sp_buf *b, const struct sp_challenge *c)
{
	SP_TRY(sp_buf_put_u8(b, FORMAT));
	SP_TRY(sp_buf_put_u8(b, c->kind));
	SP_TRY(sp_buf_put(b, c->request, 16));
	SP_TRY(sp_buf_put_u64(b, c->number));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(c->person)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(c->account)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(c->target_name)));
	SP_TRY(sp_buf_put(b, c->target, 16));
	SP_TRY(sp_buf_put(b, c->secret, 16));
	SP_TRY(sp_buf_put_u64(b, c->rule_version));
	SP_TRY(sp_buf_put(b, c->rule_digest, 32));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(c->reason)));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)c->seconds));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)c->made_us));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)c->until_us));
	SP_TRY(sp_buf_put(b, c->nonce, 16));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)c->n_own));
	return sp_buf_put(b, c->own, c->n_own * 32);
}

static enum sp_err
decode_what(struct sp_span *s, struct sp_challenge *c)
{
	uint8_t format;

	SP_TRY(sp_get_u8(s, &format));
	SP_TRY(sp_get_u8(s, &c->kind));
	SP_TRY(sp_get_fixed(s, c->request, 16));
	SP_TRY(sp_get_u64(s, &c->number));
	SP_TRY(sp_get_text(s, c->person, sizeof(c->person)));
	SP_TRY(sp_get_text(s, c->account, sizeof(c->account)));
	SP_TRY(sp_get_text(s, c->target_name, sizeof(c->target_name)));
	SP_TRY(sp_get_fixed(s, c->target, 16));
	SP_TRY(sp_get_fixed(s, c->secret, 16));
	SP_TRY(sp_get_u64(s, &c->rule_version));
	SP_TRY(sp_get_fixed(s, c->rule_digest, 32));
	SP_TRY(sp_get_text(s, c->reason, sizeof(c->reason)));
	return format == FORMAT && (c->kind == SP_CHALLENGE_SESSION ||
	    c->kind == SP_CHALLENGE_REVEAL || c->kind == SP_CHALLENGE_KEYS) &&
	    sp_name_is_valid(sp_span_str(c->person)) &&
	    sp_name_is_valid(sp_span_str(c->account)) &&
	    sp_name_is_valid(sp_span_str(c->target_name)) ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_challenge_decode(struct sp_span s, struct sp_challenge *c)
{
	uint8_t n;

	memset(c, 0, sizeof(*c));
	if (s.n > SP_CHALLENGE_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(decode_what(&s, c));
	SP_TRY(sp_get_time(&s, &c->seconds));
	SP_TRY(sp_get_time(&s, &c->made_us));
	SP_TRY(sp_get_time(&s, &c->until_us));
	SP_TRY(sp_get_fixed(&s, c->nonce, 16));
	SP_TRY(sp_get_u8(&s, &n));
	if (n > SP_CHALLENGE_OWN_MAX)
		return SP_ERR_TOOBIG;
	for (; c->n_own < n; c->n_own++)
		SP_TRY(sp_get_fixed(&s, c->own[c->n_own], 32));
	SP_TRY(sp_get_fixed(&s, c->mac, 32));
	return s.n == 0 && c->seconds > 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
put_own_keys(struct sp_buf *out, const struct sp_challenge *c)
{
	for (size_t i = 0; i < c->n_own; i++) {
		SP_BUF_AUTO b64 = {.max = 64};

		SP_TRY(sp_base64(&b64, sp_span_of(c->own[i], 32)));
		/* As ssh-keygen -l prints it: without the padding. */
		SP_TRY(sp_buf_printf(out, "%sSHA256:%.43s", i > 0 ?
		    "\n              " : " (keys ",
		    (const char *)sp_buf_span(&b64).p));
	}
	return c->n_own > 0 ? sp_buf_put(out, ")", 1) : SP_OK;
}

enum sp_err
sp_challenge_text(struct sp_buf *out, const struct sp_challenge *c,
    const struct sp_rule *r)
{
	char why[4200], id[SP_UUID_TEXT], len[SP_TIME_TEXT], nonce[33];
	char until[SP_TIME_TEXT], made[SP_TIME_TEXT], digest[65];
	char what[120] = "sessions as";

	sp_vis(why, sizeof(why), sp_span_str(c->reason));
	sp_uuid_text(id, c->target);
	if (c->kind == SP_CHALLENGE_REVEAL)
		snprintf(what, sizeof(what), "SHOW THE CREDENTIAL of");
	else if (c->kind == SP_CHALLENGE_KEYS)
		snprintf(what, sizeof(what), "SHOW WHAT WAS TYPED in session %s of",
		    id);
	sp_uuid_text(id, c->request);
	sp_duration_text(len, c->seconds * 1000000);
	sp_time_text(until, c->until_us, true);
	sp_time_text(made, c->made_us, true);
	sp_hex(nonce, c->nonce, 16);
	sp_hex(digest, c->rule_digest, 32);
	SP_TRY(sp_buf_printf(out, "Sallyport asks for your approval. Your signature "
	    "of this text is your approval.\n\n"
	    "request       %llu\nwho asks      %s", (unsigned long long)c->number,
	    c->person));
	SP_TRY(put_own_keys(out, c));
	SP_TRY(sp_buf_printf(out, "\nwhat          %s %s@%s\nwhy           %s\n"
	    "how long      %s from its first use, and never after %s\n"
	    "rule          version %llu: ", what, c->account,
	    c->target_name, why, len, until,
	    (unsigned long long)c->rule_version));
	SP_TRY(sp_rule_show(out, r));
	return sp_buf_printf(out, "\nnot counted   %s's own signature\n"
	    "made          %s\nrequest id    %s\nrule digest   %s\n"
	    "nonce         %s\n", c->person, made, id, digest, nonce);
}

/* ------------------------------------------------------------------ armour */

static struct sp_span
line_of(struct sp_span *s)
{
	const uint8_t *nl = s->n == 0 ? NULL : memchr(s->p, '\n', s->n);
	size_t n = nl == NULL ? s->n : (size_t)(nl - s->p);
	struct sp_span l = sp_span_of(s->p, n);

	*s = sp_span_of(s->p + n + (nl != NULL), s->n - n - (nl != NULL));
	while (l.n > 0 && (l.p[l.n - 1] == '\r' || l.p[l.n - 1] == ' ' ||
	    l.p[l.n - 1] == '\t'))
		l.n--;
	while (l.n > 0 && (l.p[0] == ' ' || l.p[0] == '\t'))
		l = sp_span_of(l.p + 1, l.n - 1);
	return l;
}

enum sp_err
sp_sshsig_dearmor(struct sp_span text, struct sp_buf *out)
{
	SP_BUF_AUTO b64 = {.max = 16384};
	struct sp_span l = {0};

	while (text.n > 0 && l.n == 0)
		l = line_of(&text);
	if (!sp_span_is(l, "-----BEGIN SSH SIGNATURE-----"))
		return SP_ERR_SYNTAX;
	for (;;) {
		if (text.n == 0)
			return SP_ERR_SYNTAX;
		l = line_of(&text);
		if (sp_span_is(l, "-----END SSH SIGNATURE-----"))
			break;
		SP_TRY(sp_buf_put(&b64, l.p, l.n));
	}
	while (text.n > 0)
		if (line_of(&text).n > 0)
			return SP_ERR_SYNTAX;
	return b64.len > 0 && sp_unbase64(out, sp_buf_span(&b64)) == SP_OK ?
	    SP_OK : SP_ERR_SYNTAX;
}
