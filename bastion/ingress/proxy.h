/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_INGRESS_PROXY_H
#define SP_INGRESS_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * The header of the PROXY protocol, versions 1 and 2 (HAProxy's
 * proxy-protocol.txt). Only connections of the configuration's proxy_peers have
 * one, and those must.
 */
#define SP_PROXY_SHORTEST 13	/* enough to know that it is one */
#define SP_PROXY_MAX 1024	/* bytes of a header that we take */

struct sp_proxy_header {
	bool is_own;		/* LOCAL, UNKNOWN: the proxy's own, no client's */
	char addr[64];		/* numeric; an IPv4 address never as ::ffff: */
	uint16_t port;
};

/* How many of the next bytes belong to the header for sure; 0: it is whole.
 * SP_ERR_SYNTAX: it is none. SP_ERR_TOOBIG. */
SP_MUST enum sp_err sp_proxy_wants(struct sp_span got, size_t *more);
/* A whole header. SP_ERR_SYNTAX; SP_ERR_UNSUPPORTED: no TCP, or no address. */
SP_MUST enum sp_err sp_proxy_parse(struct sp_span all,
    struct sp_proxy_header *h);

#endif
