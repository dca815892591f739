/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_KRL_H
#define SP_BROKER_VERB_KRL_H

#include "bastion/broker/verb_int.h"

/* The list of revoked certificates, as the vault encodes it (vault/krl.h). */
struct sp_krl {
	struct sp_call *call;
	void (*then)(struct sp_call *c);
	struct sp_buf bytes;
	uint64_t version;
};
void sp_krl_init(struct sp_krl *k);
void sp_krl_fini(struct sp_krl *k);
/* What it is made from: two needs of sp_call_load(). at holds a text that they
 * point to. */
void sp_krl_needs(struct sp_need needs[static 2], char at[static 2][24]);
/* The body of v_krl. SP_ERR_FULL, SP_ERR_TOOBIG: more than a list holds. */
SP_MUST enum sp_err sp_krl_request(struct sp_buf *body,
    const struct sp_rows *revoked, const struct sp_rows *ended,
    uint64_t *version);
/* Has the vault make it from these rows; then runs `then`, or ends the call with
 * what went wrong. */
void sp_krl_make(struct sp_krl *k, struct sp_call *c,
    const struct sp_rows *revoked, const struct sp_rows *ended,
    void (*then)(struct sp_call *c));

#endif
