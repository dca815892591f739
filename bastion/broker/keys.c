/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/keys.h"

#include "common/sealto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct sp_keys_ask *asks;
static uint64_t last_number;

bool
sp_keys_needs(const struct sp_broker *b)
{
	return b->cfg.keys_approvals > 0;
}

/* Does the vault open that lane alone? */
static bool
vault_opens(const struct sp_broker *b, unsigned lane)
{
	struct sp_sealto *o = calloc(1, sizeof(*o));
	char bad[256];
	bool yes = o != NULL && sp_sealto_parse(&b->cfg, o, bad, sizeof(bad)) ==
	    SP_OK && o->has_vault && (o->lane[lane - 1].who & 1) != 0 &&
	    o->lane[lane - 1].threshold == 1;

	free(o);
	return yes;
}

bool
sp_recordings_are_strict(const struct sp_broker *b)
{
	return !vault_opens(b, SP_LANE_OUT);
}

void
sp_recordings_text(const struct sp_broker *b, char *dst, size_t cap)
{
	if (sp_recordings_are_strict(b))
		snprintf(dst, cap, "sealed to auditors alone: this bastion cannot "
		    "open what it records");
	else if (!vault_opens(b, SP_LANE_IN))
		snprintf(dst, cap, "opened by the vault; what was typed is sealed to "
		    "auditors alone");
	else if (sp_keys_needs(b))
		snprintf(dst, cap, "opened by the vault; what was typed, when %llu "
		    "people have signed", (unsigned long long)
		    b->cfg.keys_approvals);
	else
		snprintf(dst, cap, "opened by the vault");
}

static void
ask_free(struct sp_keys_ask *k)
{
	sp_buf_fini(&k->rule);
	sp_buf_fini(&k->challenge);
	sp_buf_fini(&k->approvals);
	free(k);
}

void
sp_keys_drop(struct sp_keys_ask *k)
{
	struct sp_keys_ask **at = &asks;

	while (*at != NULL && *at != k)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	*at = k->next;
	ask_free(k);
}

/* Returns how many are left. */
static size_t
forget_old(void)
{
	int64_t now = sp_now_us();
	size_t n = 0;

	for (struct sp_keys_ask *k = asks, *next; k != NULL; k = next) {
		next = k->next;
		if (now >= k->until_us)
			sp_keys_drop(k);
		else
			n++;
	}
	return n;
}

struct sp_keys_ask *
sp_keys_new(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], char *bad, size_t cap)
{
	struct sp_keys_ask *k;

	if (forget_old() >= SP_KEYS_ASKS_MAX) {
		snprintf(bad, cap, "too many such requests wait");
		return NULL;
	}
	if ((k = calloc(1, sizeof(*k))) == NULL) {
		snprintf(bad, cap, "out of memory");
		return NULL;
	}
	sp_buf_init(&k->rule, SP_RULE_MAX);
	sp_buf_init(&k->challenge, SP_CHALLENGE_MAX);
	sp_buf_init(&k->approvals, SP_KEYS_SIGNATURES_MAX);
	if (sp_keys_rule(&b->cfg, session, &k->rule, bad, cap) != SP_OK) {
		ask_free(k);
		return NULL;
	}
	memcpy(k->session, session, 16);
	memcpy(k->person, who->person, 16);
	snprintf(k->name, sizeof(k->name), "%s", who->name);
	sp_uuid_make(k->id);
	k->number = ++last_number;
	k->until_us = sp_now_us() + (SP_KEYS_LIFE_S + SP_KEYS_SECONDS) *
	    INT64_C(1000000);
	k->next = asks;
	asks = k;
	return k;
}

struct sp_keys_ask *
sp_keys_numbered(uint64_t number)
{
	struct sp_keys_ask *k;

	(void)forget_old();
	for (k = asks; k != NULL && k->number != number; k = k->next)
		;
	return k;
}

struct sp_keys_ask *
sp_keys_find(uint64_t number)
{
	struct sp_keys_ask *k = sp_keys_numbered(number);

	return k != NULL && k->challenge.len > 0 ? k : NULL;
}

const struct sp_keys_ask *
sp_keys_first(void)
{
	(void)forget_old();
	return asks;
}

const struct sp_keys_ask *
sp_keys_approved(const struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16])
{
	const struct sp_keys_ask *k = sp_keys_first();

	while (k != NULL && (k->n < b->cfg.keys_approvals ||
	    memcmp(k->session, session, 16) != 0 ||
	    strcmp(k->name, who->name) != 0))
		k = k->next;
	return k;
}
