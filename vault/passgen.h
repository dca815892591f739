/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_PASSGEN_H
#define SP_VAULT_PASSGEN_H

#include "common/passrule.h"
#include "vault/secret.h"

/* A number below n (1 to 256), each as likely as any other: bytes at or above
 * the largest multiple of n are thrown away, not folded back. next gives random
 * bytes. */
uint8_t sp_pass_pick(unsigned n, uint8_t (*next)(void *arg), void *arg);
/* A password by the rule: every one that the rule permits is as likely as any
 * other (one that lacks a class is thrown away as a whole). SP_ERR_INVAL: the
 * rule permits too few of what can be made. */
SP_MUST enum sp_err sp_pass_make(const struct sp_pass_rule *r,
    struct sp_secret *out);

#endif
