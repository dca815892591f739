/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_WHERE_H
#define SP_BROKER_WHERE_H

#include "common/buf.h"

/*
 * Where a target is: numeric addresses only, so that nobody who can change a
 * name moves a target. As text "192.0.2.7", "192.0.2.7:2222", "::1",
 * "[::1]:2222"; written back in one form, with the port.
 */
#define SP_WHERE_MAX 8		/* of one target */
#define SP_WHERE_TEXT 72
#define SP_MORE_ADDRS 601	/* the further ones as they stand in a row */
struct sp_where {
	char host[46];
	uint16_t port;
};
/* SP_ERR_SYNTAX for names, scopes, port 0, anything that is no one host. */
SP_MUST enum sp_err sp_where_parse(struct sp_span s, uint16_t port_else,
    struct sp_where *a);
char *sp_where_text(char t[static SP_WHERE_TEXT], const char *host, uint16_t port);
/* The i-th of a text of addresses separated by blanks; SP_ERR_NOTFOUND past the
 * end. */
SP_MUST enum sp_err sp_where_nth(const char *list, size_t i, struct sp_where *a);

#endif
