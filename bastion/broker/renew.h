/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_RENEW_H
#define SP_BROKER_RENEW_H

#include "bastion/broker/store.h"

/*
 * After a rotation of the vault's keys: every sealed row, and every sealed
 * secret in one, is made anew with the newest epoch, while everything runs. Page
 * by page, a transaction each; a row that somebody changes meanwhile is left to
 * that change, which seals with the newest epoch anyway. Whoever stops in the
 * middle begins again at the front and finds what is done to be done.
 *
 * Only what the vault itself says is its own is made anew: a row whose seal does
 * not hold stays as it is and is counted.
 */
struct sp_renewal {
	uint64_t all, done;	/* rows */
	uint64_t renewed;	/* of them, with an older epoch until now */
	uint64_t broken;	/* whose seal does not hold */
	uint64_t closed;	/* whose secret does not open */
};
typedef void (*sp_renew_cb)(void *arg, enum sp_err e,
    const struct sp_renewal *now);
/* progress is called after each page, done once, with SP_OK or what stopped it;
 * both from the loop. */
void sp_renew(struct sp_store *s, sp_renew_cb progress, sp_renew_cb done,
    void *arg);

#endif
