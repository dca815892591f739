/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* "10.0.0.0/8": bits beyond the prefix are a mistake, not an address. */
static bool
parse_one(const char *word, struct sp_net *n)
{
	char host[64];
	size_t len = strcspn(word, "/");
	uint64_t bits;

	if (sp_span_cstr(sp_span_of(word, len), host, sizeof(host)) != SP_OK)
		return false;
	*n = (struct sp_net){0};
	if (inet_pton(AF_INET, host, n->at) == 1)
		n->bytes = 4;
	else if (inet_pton(AF_INET6, host, n->at) == 1)
		n->bytes = 16;
	else
		return false;
	bits = n->bytes * 8;
	if (word[len] == '/' && sp_u64_parse(sp_span_str(word + len + 1), bits,
	    &bits) != SP_OK)
		return false;
	n->bits = (unsigned)bits;
	for (size_t i = n->bits; i < n->bytes * 8; i++)
		if ((n->at[i / 8] & (0x80U >> (i % 8))) != 0)
			return false;
	return true;
}

enum sp_err
sp_nets_parse(struct sp_nets *all, const char *text, char *bad, size_t cap)
{
	char words[512], *save = NULL;

	*all = (struct sp_nets){0};
	snprintf(words, sizeof(words), "%s", text);
	for (char *w = strtok_r(words, " \t", &save); w != NULL;
	    w = strtok_r(NULL, " \t", &save)) {
		if (all->n == SP_NETS_MAX || !parse_one(w, &all->net[all->n])) {
			snprintf(bad, cap, "%s", w);
			return SP_ERR_SYNTAX;
		}
		all->n++;
	}
	return SP_OK;
}

bool
sp_nets_have(const struct sp_nets *all, const union sp_address *a)
{
	const uint8_t *at = a->sa.sa_family == AF_INET6 ?
	    (const uint8_t *)&a->in6.sin6_addr : (const uint8_t *)&a->in.sin_addr;
	size_t bytes = a->sa.sa_family == AF_INET6 ? 16 : 4;

	for (size_t i = 0; i < all->n; i++) {
		const struct sp_net *n = &all->net[i];
		unsigned left = n->bits % 8;

		if (n->bytes == bytes && memcmp(n->at, at, n->bits / 8) == 0 &&
		    (left == 0 || ((n->at[n->bits / 8] ^ at[n->bits / 8]) >>
		    (8 - left)) == 0))
			return true;
	}
	return false;
}
