/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_HOSTKEY_H
#define SP_BROKER_VERB_HOSTKEY_H

#include "bastion/broker/broker.h"
#include "bastion/broker/verb_key.h"

/* What a client pins: one key answers for the bastion and for every target
 * behind it, by this name whatever the address is. */
#define SP_HOST_ALIAS "sallyport"

/* By which name and port people reach this bastion. */
struct sp_address {
	char host[256];
	uint16_t port;
};
/* text: NAME, NAME:PORT or [ADDRESS]:PORT; NULL: the setting `address`, else
 * the first address of `listen`, or the node's name if that stands for all. */
SP_MUST enum sp_err sp_address_of(const struct sp_broker *b, const char *text,
    struct sp_address *a);
/* "name", or "[name]:port" unless the port is 22: as known_hosts has it. */
void sp_address_pattern(char t[static 280], const struct sp_address *a);
/* The front's host key, an Ed25519 one; SP_ERR_NOTFOUND if the supervisor could
 * not read it. */
SP_MUST enum sp_err sp_host_key(const struct sp_broker *b, struct sp_pubkey *k);
#define SP_HOST_KEY_LINE 128	/* "ALGO BASE64" of an Ed25519 key */
void sp_host_key_line(const struct sp_pubkey *k, char t[static SP_HOST_KEY_LINE]);

#endif
