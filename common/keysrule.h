/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_KEYSRULE_H
#define SP_COMMON_KEYSRULE_H

#include "common/config.h"
#include "common/release.h"

/*
 * What was typed opens for two people: keys_approvals and keys_approvers of
 * sallyport.conf as a release rule (common/release.h) of one session. The vault
 * has the configuration from sallyportd, so that no broker can say another one;
 * the broker makes the same bytes, for the text that is signed.
 */
#define SP_KEYS_SECONDS 900	/* from the first use */
#define SP_KEYS_LIFE_S 3600	/* for the signatures to come */

/* SP_ERR_NOTFOUND: nobody is asked (keys_approvals 0). SP_ERR_SYNTAX: bad says
 * what is wrong, for people. */
SP_MUST enum sp_err sp_keys_rule(const struct sp_config *c,
    const uint8_t session[static 16], struct sp_buf *rule, char *bad,
    size_t cap);

#endif
