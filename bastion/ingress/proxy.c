/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/ingress/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/text.h"

#define V1_MAX 107		/* with its line's end */
#define V2_FIXED 16
#define V2_LOCAL 0x20
#define V2_PROXY 0x21
#define V2_TCP4 0x11
#define V2_TCP6 0x21
#define TLV_CRC32C 0x03

static const uint8_t sig1[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t sig2[] = {13, 10, 13, 10, 0, 13, 10, 'Q', 'U', 'I', 'T', 10};

static bool
begins(struct sp_span s, const uint8_t *sig, size_t n)
{
	return s.n > 0 && memcmp(s.p, sig, s.n < n ? s.n : n) == 0;
}

enum sp_err
sp_proxy_wants(struct sp_span got, size_t *more)
{
	size_t whole;

	*more = SP_PROXY_SHORTEST - got.n;
	if (got.n == 0)
		return SP_OK;
	if (begins(got, sig1, sizeof(sig1))) {
		if (got.n < SP_PROXY_SHORTEST)
			return SP_OK;
		*more = got.p[got.n - 1] == '\n' ? 0 : 1;
		return *more == 1 && got.n >= V1_MAX ? SP_ERR_TOOBIG : SP_OK;
	}
	if (!begins(got, sig2, sizeof(sig2)))
		return SP_ERR_SYNTAX;
	if (got.n < V2_FIXED) {
		*more = (got.n < SP_PROXY_SHORTEST ? SP_PROXY_SHORTEST : V2_FIXED) - got.n;
		return SP_OK;
	}
	whole = V2_FIXED + ((size_t)got.p[14] << 8 | got.p[15]);
	if (whole > SP_PROXY_MAX)
		return SP_ERR_TOOBIG;
	if (got.n > whole)
		return SP_ERR_SYNTAX;
	*more = whole - got.n;
	return SP_OK;
}

/* ------------------------------------------------------------- addresses */

static enum sp_err
name(struct sp_proxy_header *h, int family, const uint8_t *at, uint16_t port)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, none[16];

	if (family == AF_INET6 && memcmp(at, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		at += sizeof(mapped);
	}
	/* Nobody's, or everybody's: whose connection would it be? */
	if (memcmp(at, none, family == AF_INET ? 4 : 16) == 0 || port == 0 ||
	    (family == AF_INET ? at[0] >= 224 : at[0] == 0xff))
		return SP_ERR_UNSUPPORTED;
	if (inet_ntop(family, at, h->addr, sizeof(h->addr)) == NULL)
		return SP_ERR_SYNTAX;
	h->port = port;
	return SP_OK;
}

/* ------------------------------------------------------------- version 1 */

static bool
word(struct sp_span *s, struct sp_span *out)
{
	const uint8_t *sp = s->n == 0 ? NULL : memchr(s->p, ' ', s->n);
	size_t n = sp == NULL ? s->n : (size_t)(sp - s->p);

	*out = sp_span_of(s->p, n);
	s->p += n + (sp != NULL);
	s->n -= n + (sp != NULL);
	return n > 0;
}

static bool
port_of(struct sp_span s, uint16_t *port)
{
	uint64_t n;

	if (s.n == 0 || (s.n > 1 && s.p[0] == '0') ||
	    sp_u64_parse(s, 65535, &n) != SP_OK)
		return false;
	*port = (uint16_t)n;
	return true;
}

static enum sp_err
parse1(struct sp_span s, struct sp_proxy_header *h)
{
	struct sp_span f, from, to, ports[2];
	char a[64], b[64];
	uint8_t at[2][16];
	uint16_t port[2];
	int family;

	if (s.n < 2 || s.p[s.n - 2] != '\r' || s.p[s.n - 1] != '\n')
		return SP_ERR_SYNTAX;
	s = sp_span_of(s.p + sizeof(sig1), s.n - sizeof(sig1) - 2);
	if (s.n == 0 || s.p[s.n - 1] == ' ' || !word(&s, &f))
		return SP_ERR_SYNTAX;
	if (sp_span_is(f, "UNKNOWN")) {
		h->is_own = true;
		return SP_OK;
	}
	family = sp_span_is(f, "TCP4") ? AF_INET : AF_INET6;
	if ((family == AF_INET6 && !sp_span_is(f, "TCP6")) || !word(&s, &from) ||
	    !word(&s, &to) || !word(&s, &ports[0]) || !word(&s, &ports[1]) ||
	    s.n != 0 || !port_of(ports[0], &port[0]) ||
	    !port_of(ports[1], &port[1]) ||
	    sp_span_cstr(from, a, sizeof(a)) != SP_OK ||
	    sp_span_cstr(to, b, sizeof(b)) != SP_OK ||
	    inet_pton(family, a, at[0]) != 1 || inet_pton(family, b, at[1]) != 1)
		return SP_ERR_SYNTAX;
	return name(h, family, at[0], port[0]);
}

/* ------------------------------------------------------------- version 2 */

static uint32_t
crc32c(struct sp_span s, const uint8_t *hole)
{
	uint32_t c = ~0U;

	for (size_t i = 0; i < s.n; i++) {
		bool skip = s.p + i >= hole && s.p + i < hole + 4;

		c ^= skip ? 0 : s.p[i];
		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ ((c & 1) != 0 ? 0x82f63b78U : 0);
	}
	return ~c;
}

/* Extensions say nothing that we use; but they must be well formed, and a
 * checksum must be right. */
static enum sp_err
check_tlvs(struct sp_span all, struct sp_span s)
{
	while (s.n > 0) {
		size_t n;
		uint32_t told;

		if (s.n < 3)
			return SP_ERR_SYNTAX;
		n = (size_t)s.p[1] << 8 | s.p[2];
		if (n > s.n - 3)
			return SP_ERR_SYNTAX;
		if (s.p[0] == TLV_CRC32C) {
			if (n != 4)
				return SP_ERR_SYNTAX;
			told = (uint32_t)s.p[3] << 24 | (uint32_t)s.p[4] << 16 |
			    (uint32_t)s.p[5] << 8 | s.p[6];
			if (told != crc32c(all, s.p + 3))
				return SP_ERR_SYNTAX;
		}
		s.p += 3 + n;
		s.n -= 3 + n;
	}
	return SP_OK;
}

static enum sp_err
parse2(struct sp_span all, struct sp_proxy_header *h)
{
	const uint8_t *at = all.p + V2_FIXED;
	size_t n = all.n - V2_FIXED, need = 12;
	int family = AF_INET;
	uint16_t port;

	if (all.p[12] == V2_LOCAL) {
		h->is_own = true;
		return SP_OK;
	}
	if (all.p[12] != V2_PROXY)
		return SP_ERR_SYNTAX;
	if (all.p[13] == V2_TCP6) {
		family = AF_INET6;
		need = 36;
	} else if (all.p[13] != V2_TCP4) {
		return SP_ERR_UNSUPPORTED;
	}
	if (n < need)
		return SP_ERR_SYNTAX;
	port = (uint16_t)(at[need - 4] << 8 | at[need - 3]);
	SP_TRY(check_tlvs(all, sp_span_of(at + need, n - need)));
	return name(h, family, at, port);
}

enum sp_err
sp_proxy_parse(struct sp_span all, struct sp_proxy_header *h)
{
	struct sp_proxy_header t = {0};
	size_t more;

	SP_TRY(sp_proxy_wants(all, &more));
	if (all.n == 0 || more != 0)
		return SP_ERR_SYNTAX;
	if (begins(all, sig1, sizeof(sig1)))
		SP_TRY(parse1(all, &t));
	else
		SP_TRY(parse2(all, &t));
	*h = t;
	return SP_OK;
}
