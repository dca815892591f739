/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_STOREURL_H
#define SP_COMMON_STOREURL_H

#include "common/config.h"

/*
 * ship_store of the configuration, taken apart:
 * https://HOST[:PORT]/BUCKET[/PREFIX]. A prefix is made of letters, digits and
 * /._- so that it is in a request as it is in its signature.
 */
struct sp_storeurl {
	char host[256];		/* a name, or a number without brackets */
	bool is_v6;
	uint16_t port;
	char bucket[64], prefix[256];	/* prefix: "" or "some/thing/" */
	char address[8][64];	/* numeric; at least one */
	size_t n_address;
};
/* SP_ERR_NOTFOUND: no store is configured. SP_ERR_SYNTAX: bad says why. */
SP_MUST enum sp_err sp_storeurl_parse(const struct sp_config *c,
    struct sp_storeurl *out, char *bad, size_t cap);
/* "PREFIX2026/11/23/UUID.spr": where the recording of that session is. */
void sp_storeurl_key(const struct sp_storeurl *u, const uint8_t session[static 16],
    int64_t started_us, char *out, size_t cap);
/* ship_lock: mode "" (none), "GOVERNANCE" or "COMPLIANCE". */
struct sp_storelock {
	char mode[16];
	unsigned days;
	bool hold;
};
SP_MUST enum sp_err sp_storelock_parse(const char *text,
    struct sp_storelock *out);

#endif
