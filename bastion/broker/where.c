/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/where.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

static bool
is_host4(const char *host, char *norm, size_t cap)
{
	struct in_addr a;
	uint32_t v;

	if (inet_pton(AF_INET, host, &a) != 1)
		return false;
	v = ntohl(a.s_addr);
	/* "This host" and multicast are no target. */
	return v >> 24 != 0 && v < 0xe0000000U &&
	    inet_ntop(AF_INET, &a, norm, (socklen_t)cap) != NULL;
}

static bool
is_host6(const char *host, char *norm, size_t cap)
{
	struct in6_addr a;

	return inet_pton(AF_INET6, host, &a) == 1 &&
	    !IN6_IS_ADDR_UNSPECIFIED(&a) && !IN6_IS_ADDR_MULTICAST(&a) &&
	    !IN6_IS_ADDR_V4MAPPED(&a) && !IN6_IS_ADDR_LINKLOCAL(&a) &&
	    inet_ntop(AF_INET6, &a, norm, (socklen_t)cap) != NULL;
}

enum sp_err
sp_where_parse(struct sp_span s, uint16_t port_else, struct sp_where *a)
{
	char text[SP_WHERE_TEXT], *host = text, *end, *port = NULL;
	uint64_t n = port_else;
	bool ok;

	if (s.n >= sizeof(text) || sp_span_cstr(s, text, sizeof(text)) != SP_OK)
		return SP_ERR_SYNTAX;
	if (text[0] == '[') {
		host = text + 1;
		if ((end = strchr(host, ']')) == NULL)
			return SP_ERR_SYNTAX;
		*end++ = '\0';
		if (*end == ':')
			port = end + 1;
		else if (*end != '\0')
			return SP_ERR_SYNTAX;
		ok = is_host6(host, a->host, sizeof(a->host));
	} else {
		end = strchr(text, ':');
		if (end != NULL && strchr(end + 1, ':') == NULL) {
			*end = '\0';
			port = end + 1;
		}
		ok = is_host4(host, a->host, sizeof(a->host)) ||
		    (port == NULL && is_host6(host, a->host, sizeof(a->host)));
	}
	if (port != NULL && sp_u64_parse(sp_span_str(port), 65535, &n) != SP_OK)
		return SP_ERR_SYNTAX;
	a->port = (uint16_t)n;
	return ok && n != 0 ? SP_OK : SP_ERR_SYNTAX;
}

char *
sp_where_text(char t[static SP_WHERE_TEXT], const char *host, uint16_t port)
{
	bool v6 = strchr(host, ':') != NULL;

	snprintf(t, SP_WHERE_TEXT, "%s%.46s%s:%u", v6 ? "[" : "", host,
	    v6 ? "]" : "", port);
	return t;
}

enum sp_err
sp_where_nth(const char *list, size_t i, struct sp_where *a)
{
	for (;; i--) {
		size_t n;

		list += strspn(list, " ");
		n = strcspn(list, " ");
		if (n == 0)
			return SP_ERR_NOTFOUND;
		if (i == 0)
			return sp_where_parse(sp_span_of(list, n), 0, a);
		list += n;
	}
}
