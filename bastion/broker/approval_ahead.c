/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_int.h"

#include <string.h>

/*
 * What a judgement will ask, from what the last one about the same person,
 * account and target found. A guess only: what it asks ahead is used where the
 * judgement asks the very same, and judged as anything else.
 */
#define ROUTES 256

struct route {
	uint8_t person[16], target[16], account[16], request[16];
	char target_name[SP_NAME_MAX + 1], account_name[SP_NAME_MAX + 1];
};
static struct route routes[ROUTES];

static struct route *
place(const struct sp_ask *a)
{
	size_t h = a->person[0] | (size_t)a->person[1] << 8;

	for (const char *s = a->target_name; *s != '\0'; s++)
		h = h * 31 + (uint8_t)*s;
	for (const char *s = a->account_name; *s != '\0'; s++)
		h = h * 31 + (uint8_t)*s;
	return &routes[h % ROUTES];
}

static bool
is_of(const struct route *r, const struct sp_ask *a)
{
	return memcmp(r->person, a->person, 16) == 0 &&
	    strcmp(r->target_name, a->target_name) == 0 &&
	    strcmp(r->account_name, a->account_name) == 0;
}

void
sp_judge_learn(const struct sp_ask *a, const uint8_t request[static 16])
{
	struct route *r = place(a);

	memcpy(r->person, a->person, 16);
	memcpy(r->target, a->target, 16);
	memcpy(r->account, a->account, 16);
	memcpy(r->request, request, 16);
	memcpy(r->target_name, a->target_name, sizeof(r->target_name));
	memcpy(r->account_name, a->account_name, sizeof(r->account_name));
}

static void
add_route(struct sp_ahead *h, const struct route *r, const char *person,
    int64_t now)
{
	char target[SP_UUID_TEXT], account[SP_UUID_TEXT], request[SP_UUID_TEXT];
	char at[SP_NUM_TEXT];
	const char *acc[] = {target, r->account_name};
	const char *gra[] = {person, account, sp_i64_text(at, now)};
	const char *req[] = {request};

	sp_uuid_text(target, r->target);
	sp_uuid_text(account, r->account);
	sp_uuid_text(request, r->request);
	sp_ahead_add(h, SP_T_ACCOUNTS, SP_WHERE_ACCOUNT, acc, 2);
	if (sp_uuid_is_nil(r->request))
		return;		/* the last one needed no grant */
	sp_ahead_add(h, SP_T_GRANTS, SP_WHERE_GRANTS, gra, 3);
	sp_ahead_add(h, SP_T_REQUESTS, SP_WHERE_ID, req, 1);
}

void
sp_actor_ahead(struct sp_ahead *h, const char *person)
{
	const char *p[] = {person};

	sp_ahead_add(h, SP_T_PEOPLE, SP_WHERE_ID, p, 1);
	sp_ahead_add(h, SP_T_MEMBERSHIPS, SP_WHERE_MEMBER, p, 1);
}

void
sp_judge_ahead(struct sp_broker *b, const struct sp_ask *a, int64_t now)
{
	struct sp_ahead *h = sp_ahead_new(b->store);
	const struct route *r = place(a);
	char person[SP_UUID_TEXT];
	const char *name[] = {a->target_name};

	sp_uuid_text(person, a->person);
	sp_actor_ahead(h, person);
	sp_ahead_add(h, SP_T_TARGETS, SP_WHERE_NAME, name, 1);
	if (is_of(r, a))
		add_route(h, r, person, now);
	sp_ahead_go(h);
}
