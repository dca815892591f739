/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_IDENTITY_H
#define SP_CLI_IDENTITY_H

#include "bastion/cli/cli.h"

/*
 * An identity: an X25519 pair to which recordings are sealed (sallyport.conf(5),
 * recording_auditors), in a file of its own:
 *
 *   sallyport identity v1
 *   public spk1...
 *   argon2id OPS BYTES SALT
 *   secret NONCE_AND_SEALED_KEY
 *
 * in hexadecimal; the secret half is a libsodium secretbox under Argon2id of the
 * passphrase. It belongs to an auditor and never comes to a bastion.
 */
struct sp_identity {		/* wipe it */
	uint8_t pk[32], sk[32];
};
/* Asks for the passphrase. Says what is wrong: an exit status. */
int sp_identity_open(const char *path, struct sp_identity *id);
int sp_cmd_identity(struct sp_cli *c, int argc, char **argv);
/* `replay FILE --identity ...` and `export FILE ...`: a recording that lies here,
 * without a bastion. */
int sp_cmd_offline(struct sp_cli *c, int argc, char **argv);
/* `files SESSION|FILE|- --extract DIR`. */
int sp_cmd_extract(struct sp_cli *c, int argc, char **argv);

#endif
