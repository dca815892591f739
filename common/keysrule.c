/* SPDX-License-Identifier: Apache-2.0 */
#include "common/keysrule.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

#define BLOBS_MAX 3072		/* no more than the list's text */

static enum sp_err
no(char *bad, size_t cap, const char *what, struct sp_span name)
{
	snprintf(bad, cap, "keys_approvers: %s%s%s", what, name.n > 0 ? ": " : "",
	    name.n > 0 ? sp_vis_tmp(name) : "");
	return SP_ERR_SYNTAX;
}

/* NAME=BASE64. Who is whose is the place of the name: the rule counts people. */
static enum sp_err
take_one(struct sp_rule *r, struct sp_span w, struct sp_buf *blobs, char *bad,
    size_t cap)
{
	const uint8_t *eq = memchr(w.p, '=', w.n);
	struct sp_span name = sp_span_of(w.p, eq == NULL ? w.n :
	    (size_t)(eq - w.p));
	struct sp_rule_key *k = &r->key[r->n];
	size_t at = blobs->len, i = 0;

	if (eq == NULL || !sp_name_is_valid(name))
		return no(bad, cap, "not NAME=KEY", w);
	if (r->n == SP_RULE_KEYS_MAX)
		return no(bad, cap, "too many keys", name);
	SP_TRY(sp_span_cstr(name, k->name, sizeof(k->name)));
	if (sp_unbase64(blobs, sp_span_of(eq + 1, w.n - name.n - 1)) != SP_OK ||
	    blobs->len == at)
		return no(bad, cap, "the key is not the second word of an SSH "
		    "public key", name);
	k->key = sp_span_of(sp_buf_span(blobs).p + at, blobs->len - at);
	while (i < r->n && strcmp(r->key[i].name, k->name) != 0)
		i++;
	memset(k->person, 0, sizeof(k->person));
	k->person[0] = (uint8_t)(i + 1);
	r->n++;
	return SP_OK;
}

enum sp_err
sp_keys_rule(const struct sp_config *c, const uint8_t session[static 16],
    struct sp_buf *rule, char *bad, size_t cap)
{
	struct sp_rule r = {.version = 1, .need = (uint8_t)c->keys_approvals,
	    .max_seconds = SP_KEYS_SECONDS, .made_us = 1, .group = "auditors"};
	SP_BUF_AUTO blobs = {.max = BLOBS_MAX};
	struct sp_span s = sp_span_str(c->keys_approvers), w;
	uint8_t *room;

	if (c->keys_approvals == 0)
		return SP_ERR_NOTFOUND;
	/* The keys are pointed into: no growing from here on. */
	SP_TRY(sp_buf_reserve(&blobs, BLOBS_MAX, &room));
	memcpy(r.secret, session, 16);
	while (sp_span_word(&s, &w))
		SP_TRY(take_one(&r, w, &blobs, bad, cap));
	if (sp_rule_check(&r) != SP_OK)
		return no(bad, cap, "fewer people than keys_approvals, or a key "
		    "that stands there twice", (struct sp_span){0});
	return sp_rule_encode(rule, &r);
}
