/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_APPROVAL_RELEASE_H
#define SP_BROKER_APPROVAL_RELEASE_H

#include "bastion/broker/approval_int.h"
#include "common/release.h"

/*
 * Secrets that have a release rule (common/release.h). The broker carries the
 * rule, the challenge and the signatures between the rows and the vault, asks
 * the policy for no less than the rule, and refuses early what the vault would
 * refuse late; what it says counts for nothing there.
 */

/* What the judgement of a password or key account learns from its secret: no
 * fewer approvals and no longer window than its rule; a group to ask where the
 * policy names none. SP_ERR_DENIED: the rule cannot be read. */
SP_MUST enum sp_err sp_release_judge(struct sp_judgement *j,
    const struct sp_rows *secrets);

/* Has the vault make the challenge of a request. cb: its bytes, or what went
 * wrong; nothing (SP_OK, n 0) for a secret without a rule. */
typedef void (*sp_challenge_cb)(void *arg, enum sp_err e, const char *text,
    struct sp_span challenge);
struct sp_challenge_wish {
	uint8_t kind;			/* enum sp_challenge_kind */
	const uint8_t *request;		/* 16 bytes */
	uint64_t number;
	const char *reason;
	int64_t seconds, life_us;
};
void sp_release_challenge(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_challenge_wish *w,
    sp_challenge_cb cb, void *arg);

/* Asks the vault whether this is that person's approval. */
void sp_release_approval(struct sp_broker *b, const uint8_t secret[static 16],
    struct sp_span challenge, struct sp_span signature,
    const uint8_t person[static 16],
    void (*cb)(void *arg, enum sp_err e, const char *text), void *arg);

/* What to do where a signature is owed. */
void sp_release_howto(char *dst, size_t cap, uint64_t number);

/* What the vault wants to see of a request that was approved: its challenge, and
 * the signatures of its approvals, each as bytes. SP_ERR_NOTFOUND: the request
 * has none. */
typedef void (*sp_signed_cb)(void *arg, enum sp_err e, struct sp_span challenge,
    struct sp_span approvals);
void sp_release_signed(struct sp_broker *b, const uint8_t request[static 16],
    sp_signed_cb cb, void *arg);
/* The same for the request of a grant. */
void sp_release_signed_of(struct sp_broker *b, const uint8_t grant[static 16],
    sp_signed_cb cb, void *arg);

#endif
