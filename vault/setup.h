/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SETUP_H
#define SP_VAULT_SETUP_H

/*
 * What `sallyport init` runs before any process does:
 *   sallyport-vault init DIR [--demo]   makes the keys; reads a passphrase from
 *                                       standard input, one line; prints JSON
 *   sallyport-vault pubkeys DIR         the public keys, without unsealing
 * Both return an exit status. DIR is made when it is not there; the files
 * belong to the owner of DIR.
 */
int sp_setup_init(const char *dir, int want_demo);
int sp_setup_pubkeys(const char *dir);

#endif
