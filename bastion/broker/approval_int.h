/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_APPROVAL_INT_H
#define SP_BROKER_APPROVAL_INT_H

#include "bastion/broker/approval.h"
#include "bastion/broker/flow.h"

struct waiter;
struct sp_approvals {
	struct waiter *waiters;
	struct event *tick;	/* requests that expire while somebody waits */
	bool polling, poll_again;
	uintptr_t last_handle;
};
struct sp_approvals *sp_approvals_new(struct sp_broker *b);
/* Looks what became of the requests that somebody waits for. */
void sp_approvals_poll(struct sp_broker *b);

/* Groups of a person, fresh from the store; SP_ERR_NOTFOUND for a person who
 * is unknown, disabled, or has another name than who->name. */
void sp_actor_load(struct sp_broker *b, const struct sp_actor *who,
    void (*cb)(void *arg, enum sp_err e, const struct sp_actor *fresh),
    void *arg);

/* Everything of a request's row. */
struct sp_request {
	uint8_t id[16], person[16], account[16], target[16];
	uint64_t ver, num;
	char group[SP_NAME_MAX + 1], state[16], rule[64];
	bool is_reveal;
	bool has_challenge;	/* signatures are owed */
	struct sp_rules_blob rules;	/* none in rows of before */
	char reason[1100];
	int64_t seconds, approvals, expires_us;
};
/* false: the row is not what it should be */
bool sp_request_from(struct sp_request *q, const struct sp_rows *r, size_t row);

struct sp_span sp_blob_span(const struct sp_rules_blob *x);
bool sp_blob_set(struct sp_rules_blob *x, struct sp_span s);
/* The rules that stand in a row; SP_ERR_NOTFOUND and none for NULL. */
SP_MUST enum sp_err sp_blob_from(struct sp_rules_blob *x,
    const struct sp_rows *r, size_t row);
/* Cuts x to what s permits too. */
SP_MUST enum sp_err sp_blob_meet(struct sp_rules_blob *x, struct sp_span s);
uint32_t sp_blob_rights(const struct sp_rules_blob *x);
/* As a bytea of PostgreSQL; NULL for none. dst needs SP_BLOB_TEXT bytes. */
#define SP_BLOB_TEXT (2 * SP_POLICY_RULES_MAX + 3)
const char *sp_blob_text(char *dst, const struct sp_rules_blob *x);
/* Cuts the policy's rules to a wish; false and why not. */
bool sp_blob_wish(struct sp_rules_blob *x, const char *allow, char *why,
    size_t cap);

/* "8h" for people, from seconds */
const char *sp_seconds_text(char t[static SP_TIME_TEXT], int64_t seconds);
#define SP_LONGEST_CAP_US (8LL * 3600 * 1000000)

/* approval_ahead.c: the questions of a judgement, in one message. The texts are
 * those that it uses. */
#define SP_WHERE_ID "WHERE id = $1"
#define SP_WHERE_NAME "WHERE name = $1"
#define SP_WHERE_MEMBER "WHERE person_id = $1 ORDER BY group_name"
#define SP_WHERE_ACCOUNT "WHERE target_id = $1 AND name = $2"
#define SP_WHERE_GRANTS \
    "WHERE person_id = $1 AND account_id = $2 AND state = 'active' "              \
    "AND ends_us > $3::bigint ORDER BY ends_us DESC LIMIT 8"
void sp_judge_ahead(struct sp_broker *b, const struct sp_ask *a, int64_t now);
void sp_actor_ahead(struct sp_ahead *h, const char *person);
/* What this judgement found; request: of the grant, all zero where none was
 * needed. */
void sp_judge_learn(const struct sp_ask *a, const uint8_t request[static 16]);

#endif
