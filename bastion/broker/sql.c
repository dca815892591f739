/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/sql.h"

#include <string.h>

#include "bastion/broker/store.h"
#include "common/text.h"

static const char *const names[] = {"ssh", "postgresql", "mariadb"};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

uint8_t
sp_sql_protocol(const char *name)
{
	if (name == NULL)
		return SP_PROTO_SSH;
	for (uint8_t i = 0; i < N_NAMES; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	return UINT8_MAX;
}

const char *
sp_sql_protocol_name(uint8_t protocol)
{
	return protocol < N_NAMES ? names[protocol] : "?";
}

enum sp_err
sp_sql_copy(char *dst, size_t cap, const char *text)
{
	return sp_span_cstr(sp_span_str(text == NULL ? "" : text), dst, cap);
}

/* The next word; false at the end. */
static bool
word(const char **at, struct sp_span *out)
{
	size_t n;

	*at += strspn(*at, " ");
	n = strcspn(*at, " ");
	*out = sp_span_of(*at, n);
	*at += n;
	return n > 0;
}

bool
sp_sql_has(const char *settings, const char *want)
{
	struct sp_span w;

	while (word(&settings, &w))
		if (sp_span_is(w, want))
			return true;
	return false;
}

bool
sp_sql_value(const char *settings, const char *key, size_t i, char *dst,
    size_t cap)
{
	size_t n = strlen(key);
	struct sp_span w;

	while (word(&settings, &w))
		if (w.n > n + 1 && memcmp(w.p, key, n) == 0 && w.p[n] == '=' &&
		    i-- == 0)
			return sp_span_cstr(sp_span_of(w.p + n + 1, w.n - n - 1),
			    dst, cap) == SP_OK;
	return false;
}

bool
sp_sql_is_maker(const struct sp_rows *accounts, const char *name)
{
	char admin[SP_NAME_MAX + 1];

	for (size_t i = 0; i < sp_rows_n(accounts); i++) {
		const char *sql = sp_rows_get(accounts, i, "sql");

		if (sql != NULL && sp_sql_value(sql, SP_SQL_ADMIN, 0, admin,
		    sizeof(admin)) && strcmp(admin, name) == 0)
			return true;
	}
	return false;
}

bool
sp_sql_name_is_valid(struct sp_span name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= 0x20 || name.p[i] == 0x7f)
			return false;
	return name.n > 0 && name.n <= SP_SQL_NAME_MAX && sp_utf8_is_valid(name);
}

bool
sp_sql_kind_fits(uint8_t protocol, uint8_t kind)
{
	bool pg = kind == SP_CRED_PG_SCRAM || kind == SP_CRED_PG_ROLE;

	switch (protocol) {
	case SP_PROTO_SSH:
		return !pg && kind != SP_CRED_MARIADB;
	case SP_PROTO_POSTGRESQL:
		return pg;
	case SP_PROTO_MARIADB:
		return kind == SP_CRED_MARIADB;
	default:
		return false;
	}
}
