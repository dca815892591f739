/* SPDX-License-Identifier: Apache-2.0 */
/* covers: bastion/ingress/proxy.c, bastion/supervisor/nets.c */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "bastion/ingress/proxy.h"
#include "bastion/supervisor/sup.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define HEX(s) {(s), sizeof(s) - 1}

/* As the reader does it: never more than is asked for. */
static enum sp_err
feed(struct sp_span all, struct sp_proxy_header *h, size_t *used)
{
	size_t n = 0, more = 0;
	enum sp_err e;

	while ((e = sp_proxy_wants(sp_span_of(all.p, n), &more)) == SP_OK &&
	    more > 0) {
		if (n + more > all.n)
			return SP_ERR_AGAIN;
		n += more;
	}
	*used = n;
	return e != SP_OK ? e : sp_proxy_parse(sp_span_of(all.p, n), h);
}

static const struct {
	struct { const char *p; size_t n; } in;
	const char *addr;	/* "": the proxy's own */
	uint16_t port;
} good[] = {
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\r\n"), "192.0.2.7", 40000},
    {HEX("PROXY TCP6 2001:DB8::7 ::1 1 65535\r\n"), "2001:db8::7", 1},
    {HEX("PROXY TCP6 ::ffff:192.0.2.7 ::1 5 6\r\n"), "192.0.2.7", 5},
    {HEX("PROXY UNKNOWN\r\n"), "", 0},
    {HEX("PROXY UNKNOWN ffff:: whatever 1 2\r\n"), "", 0},
    {HEX(V2 "\x20\x00\x00\x00"), "", 0},
    {HEX(V2 "\x20\x11\x00\x03" "abc"), "", 0},
    {HEX(V2 "\x21\x11\x00\x0c" "\xc0\x00\x02\x07" "\x7f\x00\x00\x01" "\x9c\x40" "\x00\x16"),
	"192.0.2.7", 40000},
    {HEX(V2 "\x21\x21\x00\x24" "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" "\x00\x01" "\x00\x16"), "2001:db8::7", 1},
    {HEX(V2 "\x21\x11\x00\x10" "\xc0\x00\x02\x07" "\x7f\x00\x00\x01" "\x9c\x40" "\x00\x16"
	"\x04\x00\x01\x00"), "192.0.2.7", 40000},
};

static const struct {
	struct { const char *p; size_t n; } in;
	enum sp_err e;
} bad[] = {
    {HEX("SSH-2.0-OpenSSH_9.2p1\r\n"), SP_ERR_SYNTAX},
    {HEX("GET / HTTP/1.1\r\n\r\n"), SP_ERR_SYNTAX},
    {HEX("proxy TCP4 192.0.2.7 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\n"), SP_ERR_SYNTAX},
    {HEX("PROXY  TCP4 192.0.2.7 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 40000 22 \r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 40000 22 x\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 040 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 65536 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 -1 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 2001:db8::7 ::1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP6 192.0.2.7 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP6 fe80::1%eth0 ::1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY UDP4 192.0.2.7 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 192.0.2.7\0 198.51.100.1 40000 22\r\n"), SP_ERR_SYNTAX},
    {HEX("PROXY TCP4 0.0.0.0 198.51.100.1 40000 22\r\n"), SP_ERR_UNSUPPORTED},
    {HEX("PROXY TCP4 224.0.0.1 198.51.100.1 40000 22\r\n"), SP_ERR_UNSUPPORTED},
    {HEX("PROXY TCP6 :: ::1 40000 22\r\n"), SP_ERR_UNSUPPORTED},
    {HEX("PROXY TCP4 192.0.2.7 198.51.100.1 0 22\r\n"), SP_ERR_UNSUPPORTED},
    {HEX("PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0000:0000:0000:0000:0002 "
	"65535 65535        \r\n"), SP_ERR_TOOBIG},
    {HEX(V2 "\x31\x11\x00\x0c" "aaaabbbbccdd"), SP_ERR_SYNTAX},	/* version 3 */
    {HEX(V2 "\x22\x11\x00\x0c" "aaaabbbbccdd"), SP_ERR_SYNTAX},	/* a command 2 */
    {HEX(V2 "\x21\x12\x00\x0c" "aaaabbbbccdd"), SP_ERR_UNSUPPORTED},	/* UDP */
    {HEX(V2 "\x21\x00\x00\x00"), SP_ERR_UNSUPPORTED},
    {HEX(V2 "\x21\x31\x00\x04" "abcd"), SP_ERR_UNSUPPORTED},	/* unix */
    {HEX(V2 "\x21\x11\x00\x0b" "aaaabbbbccd"), SP_ERR_SYNTAX},	/* too short */
    {HEX(V2 "\x21\x21\x00\x0c" "aaaabbbbccdd"), SP_ERR_SYNTAX},
    {HEX(V2 "\x21\x11\x00\x0e" "aaaabbbbccdd" "\x01\x00"), SP_ERR_SYNTAX},
    {HEX(V2 "\x21\x11\x00\x10" "aaaabbbbccdd" "\x01\x00\x02" "a"), SP_ERR_SYNTAX},
    {HEX(V2 "\x21\x11\x00\x13" "aaaabbbbccdd" "\x03\x00\x04" "\0\0\0\0"), SP_ERR_SYNTAX},
    {HEX(V2 "\x21\x11\xff\xff" "aaaabbbbccdd"), SP_ERR_TOOBIG},
    {HEX("\r\n\r\n\0\r\nQUIT\r\n"), SP_ERR_SYNTAX},
};

Test(proxy, headers_that_are_right)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct sp_proxy_header h;
		size_t used = 0;

		memset(&h, 0xff, sizeof(h));
		cr_assert_eq(feed(sp_span_of(good[i].in.p, good[i].in.n), &h, &used),
		    SP_OK, "good %zu", i);
		cr_expect_eq(used, good[i].in.n, "good %zu: %zu", i, used);
		cr_expect_eq(h.is_own, good[i].addr[0] == '\0', "good %zu", i);
		if (good[i].addr[0] != '\0') {
			cr_expect_str_eq(h.addr, good[i].addr);
			cr_expect_eq(h.port, good[i].port, "good %zu", i);
		}
	}
}

/* What is cut off is never whole, and no byte behind it is asked for. */
Test(proxy, headers_in_pieces)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		for (size_t n = 0; n < good[i].in.n; n++) {
			struct sp_proxy_header h;
			size_t used = 0;

			cr_assert_eq(feed(sp_span_of(good[i].in.p, n), &h, &used),
			    SP_ERR_AGAIN, "good %zu cut at %zu", i, n);
		}
}

Test(proxy, headers_that_are_none)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sp_proxy_header h = {.port = 77};
		size_t used = 0;
		enum sp_err e = feed(sp_span_of(bad[i].in.p, bad[i].in.n), &h, &used);

		cr_expect_eq(e, bad[i].e, "bad %zu: %s", i, sp_err_text(e));
		cr_expect_eq(h.port, 77);
	}
}

Test(proxy, a_checksum_must_be_right)
{
	/* CRC-32C over the header with the four bytes as 0 */
	uint8_t all[] = V2 "\x21\x11\x00\x13" "\xc0\x00\x02\x07" "\x7f\x00\x00\x01" "\x9c\x40" "\x00\x16"
	    "\x03\x00\x04" "\0\0\0\0";
	const size_t n = sizeof(all) - 1;
	struct sp_proxy_header h;
	size_t used;
	uint32_t c = ~0U;

	for (size_t i = 0; i < n; i++) {
		c ^= all[i];
		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ ((c & 1) != 0 ? 0x82f63b78U : 0);
	}
	c = ~c;
	cr_assert_eq(feed(sp_span_of(all, n), &h, &used), SP_ERR_SYNTAX);
	for (size_t i = 0; i < 4; i++)
		all[n - 4 + i] = (uint8_t)(c >> (24 - 8 * i));
	cr_assert_eq(feed(sp_span_of(all, n), &h, &used), SP_OK);
	all[17] ^= 1;
	cr_assert_eq(feed(sp_span_of(all, n), &h, &used), SP_ERR_SYNTAX);
}

/* ------------------------------------------------------- who is a proxy */

static bool
has(const char *nets, const char *addr)
{
	struct sp_nets all;
	union sp_address a = {0};
	char bad_word[64];

	cr_assert_eq(sp_nets_parse(&all, nets, bad_word, sizeof(bad_word)), SP_OK,
	    "%s: %s", nets, bad_word);
	if (inet_pton(AF_INET, addr, &a.in.sin_addr) == 1) {
		a.sa.sa_family = AF_INET;
	} else {
		cr_assert_eq(inet_pton(AF_INET6, addr, &a.in6.sin6_addr), 1);
		a.sa.sa_family = AF_INET6;
	}
	return sp_nets_have(&all, &a);
}

Test(proxy, networks)
{
	static const char *const wrong[] = {"10.0.0.1/8", "10.0.0.0/33", "x",
	    "10.0.0", "10.0.0.0/", "::/129", "2001:db8::1/64", "10.0.0.0/8,", "/8"};
	struct sp_nets all;
	char word[64];

	cr_expect(!has("", "127.0.0.1"));
	cr_expect(has("127.0.0.1", "127.0.0.1"));
	cr_expect(!has("127.0.0.1", "127.0.0.2"));
	cr_expect(has("10.0.0.0/8 192.0.2.128/25", "10.255.1.2"));
	cr_expect(has("10.0.0.0/8  192.0.2.128/25", "192.0.2.129"));
	cr_expect(!has("10.0.0.0/8 192.0.2.128/25", "192.0.2.127"));
	cr_expect(!has("10.0.0.0/8", "::1"));
	cr_expect(has("2001:db8:0:8000::/49", "2001:db8:0:ffff::1"));
	cr_expect(!has("2001:db8:0:8000::/49", "2001:db8:0:7fff::1"));
	cr_expect(has("0.0.0.0/0", "8.8.8.8"));
	cr_expect(!has("0.0.0.0/0", "::1"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_expect_eq(sp_nets_parse(&all, wrong[i], word, sizeof(word)),
		    SP_ERR_SYNTAX, "%s", wrong[i]);
}
