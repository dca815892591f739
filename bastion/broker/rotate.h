/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_ROTATE_H
#define SP_BROKER_ROTATE_H

#include "bastion/broker/broker.h"

/*
 * Rotation of the passwords and keys of accounts (doc/vault.md, "Rotation").
 * What is due stands in the database; nothing is loaded at the start.
 */
struct sp_rotations *sp_rotations_new(struct sp_broker *b);

/* This account's secret is due now: after a use, a reveal, an opened kit. It is
 * rotated when no session holds the account. why: words for people. Does nothing
 * for an account whose kind is not rotated. cb (may be NULL): it is in the
 * database. */
void sp_rotation_owe(struct sp_broker *b, const uint8_t account[static 16],
    const char *why, void (*cb)(void *arg, enum sp_err e), void *arg);
/* What is due is looked for now, and not a second later. */
void sp_rotation_poke(struct sp_broker *b);
/* Is its secret being changed on this node just now? */
bool sp_rotation_is_running(const struct sp_broker *b,
    const uint8_t account[static 16]);

/* By hand. step is called as it goes on; over once, and then the run is gone:
 * SP_OK; SP_ERR_STATE: it could not be done now; else text says what failed. */
struct sp_rotation_ops {
	void (*step)(void *arg, const char *step, const char *text);
	void (*over)(void *arg, enum sp_err e, const char *text);
};
struct sp_rotation_run;
struct sp_rotation_run *sp_rotation_begin(struct sp_broker *b,
    const uint8_t account[static 16], bool force, const char *why,
    const struct sp_rotation_ops *ops, void *arg);
void sp_rotation_forget(struct sp_rotation_run *r);	/* no more callbacks */

/* "after-use", "30d", "after-use 12h"; at least 5 s, at most 10 years.
 * seconds 0: no interval. SP_ERR_SYNTAX. */
SP_MUST enum sp_err sp_rotation_when(const char *text, bool *after_use,
    int64_t *seconds);

#endif
