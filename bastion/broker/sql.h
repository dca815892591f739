/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SQL_H
#define SP_BROKER_SQL_H

#include "common/ipc.h"

/*
 * What the inventory says of databases, in the sealed columns `sql` of targets
 * and accounts: words separated by blanks, each WORD or KEY=VALUE.
 *   target:  database=NAME (often; the first is the default; none: any),
 *            unbound (a login without channel binding is allowed)
 *   account: admin=ACCOUNT (who makes its roles), member=ROLE (often),
 *            limit=N (connections of one role)
 */
#define SP_SQL_ADMIN "admin"
#define SP_SQL_MEMBER "member"
#define SP_SQL_LIMIT "limit"
#define SP_SQL_DATABASE "database"
#define SP_SQL_UNBOUND "unbound"
#define SP_SQL_NAME_MAX 63	/* bytes of an identifier of PostgreSQL */

/* enum sp_protocol; NULL is SSH; 255 for one that we do not know. */
uint8_t sp_sql_protocol(const char *name);
const char *sp_sql_protocol_name(uint8_t protocol);	/* "?" */
/* NULL becomes "". */
SP_MUST enum sp_err sp_sql_copy(char *dst, size_t cap, const char *text);
bool sp_sql_has(const char *settings, const char *word);
/* The i-th value of this key; false: there is none, or it does not fit. */
bool sp_sql_value(const char *settings, const char *key, size_t i, char *dst,
    size_t cap);
/* Does another of these accounts have its roles made by this one? It is not for
 * people. */
struct sp_rows;
bool sp_sql_is_maker(const struct sp_rows *accounts, const char *name);
/* A name that may stand in a setting: 1 to 63 printable bytes, no blank. */
bool sp_sql_name_is_valid(struct sp_span name);
/* May this kind of credential be used with this protocol? */
bool sp_sql_kind_fits(uint8_t protocol, uint8_t kind);

#endif
