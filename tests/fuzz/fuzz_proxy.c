/* SPDX-License-Identifier: Apache-2.0 */
/* The header of the PROXY protocol, read as the ingress reads it: only as many bytes as belong to it for sure, then the whole. Whatever
 * comes, never a byte of the SSH behind it is taken, and an address is numeric. */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "bastion/ingress/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_header(const struct sp_proxy_header *h)
{
	uint8_t a[16];

	SP_ASSERT(memchr(h->addr, '\0', sizeof(h->addr)) != NULL);
	if (!h->is_own)
		SP_ASSERT(inet_pton(AF_INET, h->addr, a) == 1 ||
		    inet_pton(AF_INET6, h->addr, a) == 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_proxy_header h;
	size_t got = 0, more = 0;
	enum sp_err e;

	while ((e = sp_proxy_wants(sp_span_of(data, got), &more)) == SP_OK &&
	    more > 0) {
		SP_ASSERT(got + more <= SP_PROXY_MAX);
		if (got + more > size)
			return 0;	/* the rest never came */
		got += more;
	}
	/* Also what was never asked for must not break the parser. */
	if (sp_proxy_parse(sp_span_of(data, size < SP_PROXY_MAX ? size :
	    SP_PROXY_MAX), &h) == SP_OK)
		check_header(&h);
	if (e == SP_OK && sp_proxy_parse(sp_span_of(data, got), &h) == SP_OK)
		check_header(&h);
	return 0;
}
