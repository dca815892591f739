/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_KRLPUSH_RUN_H
#define SP_BROKER_KRLPUSH_RUN_H

#include "bastion/broker/broker.h"

#define SP_KRLPUSH_SECOND 1000000LL

/* One push; cb once, from the loop. text: what went wrong, for people. */
typedef void (*sp_krlpush_cb)(void *arg, bool is_done, const char *text);
void sp_krlpush_run(struct sp_broker *b, const char *account, const char *target,
    const char *path, sp_krlpush_cb cb, void *arg);

#endif
