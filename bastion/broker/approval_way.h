/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_APPROVAL_WAY_H
#define SP_BROKER_APPROVAL_WAY_H

#include "bastion/broker/approval.h"
#include "bastion/broker/store.h"

/*
 * The way to a target that stands behind others: for each of them the account
 * that leads on, with its own pins and credential. Who may use the target is the
 * target's policy; the accounts on the way need only be declared for it
 * (`target add --via`). Ways are bounded and have no cycles, looked at when one
 * is declared and again for each session.
 */
#define SP_WAY_MAX 4
struct sp_way {
	struct sp_ask *hops;	/* the one that is connected to first */
	size_t n;
	uint8_t digest[32];	/* of all their rows: another one, another way */
};
/* cb is called once; way is borrowed, NULL on errors, and text says why.
 * SP_ERR_DENIED: a target on the way is disabled, missing, or a cycle. */
typedef void (*sp_way_cb)(void *arg, enum sp_err e, const struct sp_way *way,
    const char *text);
void sp_way_load(struct sp_broker *b, const struct sp_ask *ask, sp_way_cb cb,
    void *arg);
/* The target's row into an ask: address, pins, tags, way. SP_ERR_INVAL: it is
 * no row of ours; SP_ERR_TOOBIG. */
SP_MUST enum sp_err sp_ask_target(struct sp_ask *a, const struct sp_rows *r,
    size_t row);
SP_MUST enum sp_err sp_ask_account(struct sp_ask *a, const struct sp_rows *r,
    size_t row);
/* The i-th address; SP_ERR_NOTFOUND past the last. */
struct sp_where;
SP_MUST enum sp_err sp_ask_addr(const struct sp_ask *a, size_t i,
    struct sp_where *out);

#endif
