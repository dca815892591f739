/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_HELD_H
#define SP_CLI_HELD_H

#include "bastion/cli/cli.h"
#include "common/release.h"

/* An account's sealed secret as it stands in its row, fetched from the broker to
 * be handed to the vault: for release rules and break-glass kits. */
struct sp_held {
	uint8_t id[16], owner[16], kind;
	uint64_t version, rule_version;	/* rule_version 0: no rule */
	struct sp_buf sealed, rule;
	struct json_object *json;	/* all that the broker said */
};
/* group: whose people come with it; NULL: nobody's. */
int sp_held_load(const struct sp_cli *c, const char *where, const char *group,
    struct sp_held *h);
void sp_held_fini(struct sp_held *h);
SP_MUST enum sp_err sp_held_hex(struct sp_buf *out, struct sp_span bytes);
/* "SHA256:..." of a key blob. */
void sp_held_fingerprint(char t[static 64], struct sp_span blob);
/* Asks the vault; the sealed secret as hex with a NUL. */
int sp_held_rule_set(const struct sp_cli *c, const struct sp_msg_vc_rule_set *m,
    struct sp_buf *hex);
int sp_held_rule_json(const struct sp_rule *r);

#endif
