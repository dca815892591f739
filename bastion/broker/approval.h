/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_APPROVAL_H
#define SP_BROKER_APPROVAL_H

#include "bastion/broker/broker.h"
#include "policy/policy.h"

/* What a request and a grant are for, resolved from names. */
struct sp_ask {
	uint8_t person[16], target[16], account[16];
	char person_name[64], target_name[64], account_name[64];
	char addr[64];		/* of the target */
	uint16_t port;
	char more_addrs[601];	/* further ones, tried in turn (where.h) */
	uint8_t via[16];	/* the account that leads there; nil: nothing */
	uint8_t way[32];	/* digest of the whole way (approval_way.h) */
	bool legacy;		/* old algorithms may be used with it */
	bool rotates;		/* its secret is changed after each use */
	char host_keys[4096];	/* lines of "algo base64" */
	char tags[512];		/* separated by spaces */
	uint8_t protocol;	/* enum sp_protocol */
	char sql[1024];		/* of a database: its settings (sql.h) */
	char role[600];		/* of an account there: the same */
	uint8_t cred_kind;	/* enum sp_cred_kind */
	uint8_t secret[16];	/* nil for certificates */
	bool exclusive;		/* one lease at a time */
};

/* Encoded rules (common/rules.h); n 0: none are known. */
struct sp_rules_blob {
	uint16_t n;
	uint8_t b[SP_POLICY_RULES_MAX];
};

/* A decision of the policy on an ask, with what is owed and what there is. */
struct sp_judgement {
	/* Once there is a grant its rules and rights are what both the policy
	 * and the grant permit; those of the policy alone are in permits. */
	struct sp_verdict verdict;
	struct sp_rules_blob permits;
	bool has_grant;			/* a valid grant covers it now */
	bool has_rule;			/* its secret has a release rule */
	uint8_t grant[16];
	int64_t grant_ends_us;
	char reasons[1024];		/* for people and the audit */
};
typedef void (*sp_judge_cb)(void *arg, enum sp_err e,
    const struct sp_ask *ask, const struct sp_judgement *j);
/* Resolves person, account@target, loads groups and grants (all seals
 * checked), asks the policy. SP_ERR_NOTFOUND, SP_ERR_DENIED come with reasons;
 * everything else also means deny. Facts that policy cannot know are unknown. */
void sp_judge(struct sp_broker *b, const struct sp_actor *who,
    const char *account, const char *target, sp_judge_cb cb, void *arg);

/* What is asked for. reason must not be empty; ticket may be NULL; seconds 0:
 * the policy's longest; allow: the rights (policy/rules.h, sp_rules_wish), NULL
 * for all that the policy permits. */
struct sp_wish {
	const char *reason, *ticket, *allow;
	int64_t seconds;
	bool reveal;	/* to be shown the credential: never a grant */
};
/* Files a request; gives its number. An open request of the same person for
 * the same account that covers it is returned instead of a second one. */
typedef void (*sp_request_cb)(void *arg, enum sp_err e, uint64_t number,
    const char *text);
void sp_request_file(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_judgement *j,
    const struct sp_wish *wish, sp_request_cb cb, void *arg);
/* approve or deny, with checks in code and, again, in the database; the grant
 * is made in the same transaction when the last approval comes. */
void sp_request_decide(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, bool approve, const char *comment, sp_request_cb cb,
    void *arg);
/* Approves with an SSHSIG, without its armour, where the secret has a release
 * rule (common/release.h). */
void sp_request_approve_signed(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, const char *comment, struct sp_span signature,
    sp_request_cb cb, void *arg);
/* Takes back a request (its owner) or revokes its grant (approver, admin):
 * sessions under it end within two seconds. */
void sp_request_revoke(struct sp_broker *b, const struct sp_actor *who,
    uint64_t number, const char *why, sp_request_cb cb, void *arg);
/* Names of the people who may approve this request, never the requester. */
typedef void (*sp_names_cb)(void *arg, enum sp_err e, const char *const *names,
    size_t n);
void sp_request_approvers(struct sp_broker *b, const uint8_t requester[static 16],
    const char *group, sp_names_cb cb, void *arg);

/* A waiter is told at once what becomes of a request: state is "approved",
 * "denied", "revoked", "expired"; by and comment may be "". */
typedef void (*sp_wait_cb)(void *arg, uint64_t number, const char *state,
    const char *by, const char *comment);
void *sp_request_wait(struct sp_broker *b, uint64_t number, sp_wait_cb cb, void *arg);
void sp_request_unwait(struct sp_broker *b, void *handle);

/*
 * The conversation "approval owed": asks for a reason, files the request, shows
 * number, approvers and time left, waits. The same for keyboard-interactive
 * and for a terminal: the caller gives the mouth and the ears.
 */
struct sp_elevation_ops {
	void (*say)(void *arg, const char *text);	/* a line or more, no CR */
	void (*ask)(void *arg, const char *prompt);	/* answer by sp_elevation_answer */
	/* over: SP_OK when a grant is there now */
	void (*over)(void *arg, enum sp_err e, const char *text);
};
struct sp_elevation;
struct sp_elevation *sp_elevation_begin(struct sp_broker *b,
    const struct sp_actor *who, const struct sp_ask *ask,
    const struct sp_judgement *j, const struct sp_elevation_ops *ops, void *arg);
void sp_elevation_answer(struct sp_elevation *v, const char *text);
void sp_elevation_cancel(struct sp_elevation *v); /* no callback; frees */

#endif
