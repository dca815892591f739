/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_OWED_H
#define SP_BROKER_OWED_H

#include "bastion/broker/store.h"

/* A rotation is owed from now on, in the same transaction as its cause: a person
 * saw the credential, or a break-glass kit was opened. `rows`: the account's row
 * of SP_T_ROTATIONS, or none. */
void sp_owe_rotation(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, const char *why);
/* The same with the row given by its place. SIZE_MAX: none. */
void sp_owe_rotation_at(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, size_t row, const char *why);
/* It is to be rotated each `seconds` (0: at no interval). The first time is an
 * interval from now: nothing is changed at a target because somebody typed a
 * number here. */
void sp_plan_rotation(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, size_t row, int64_t seconds, bool after_use);

#endif
