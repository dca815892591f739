/* SPDX-License-Identifier: Apache-2.0 */
/* Databases in the inventory: the words of `target add|set` and `account add`. */
#include <stdio.h>
#include <string.h>

#include "bastion/broker/sql.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_sql.h"
#include "common/kinds.h"

/* "sha256:HEX", or what `openssl x509 -fingerprint -sha256` prints. */
static bool
read_pin(const char *text, uint8_t pin[static 32])
{
	const char *eq = strchr(text, '=');
	char hex[65];
	size_t n = 0;

	if (strncasecmp(text, "sha256:", 7) == 0)
		text += 7;
	else if (eq != NULL)
		text = eq + 1;
	for (; *text != '\0'; text++) {
		if (*text == ':')
			continue;
		if (n == 64)
			return false;
		hex[n++] = (char)(*text >= 'A' && *text <= 'F' ? *text + 32 :
		    *text);
	}
	return n == 64 && sp_unhex(pin, 32, sp_span_of(hex, 64)) == SP_OK;
}

const char *
sp_sql_add_pin(const char *text, char *keys, size_t cap)
{
	SP_BUF_AUTO b64 = {.max = 64};
	size_t o = strlen(keys);
	uint8_t pin[32];

	if (!read_pin(text, pin) ||
	    sp_base64(&b64, sp_span_of(pin, 32)) != SP_OK)
		return "--tls-pin wants the SHA-256 of the server's certificate: "
		    "sha256:HEX, or what openssl x509 -noout -fingerprint -sha256 "
		    "prints";
	if (o + sizeof(SP_SQL_PIN) + b64.len + 2 > cap)
		return "too many pins";
	snprintf(keys + o, cap - o, "%s" SP_SQL_PIN " %.*s", o > 0 ? "\n" : "",
	    (int)b64.len, (const char *)sp_buf_span(&b64).p);
	return NULL;
}

const char *
sp_sql_pin_text(struct sp_span line, char dst[static SP_SQL_PIN_TEXT])
{
	SP_BUF_AUTO raw = {.max = 64};
	size_t n = sizeof(SP_SQL_PIN);	/* with the blank */

	if (line.n <= n || memcmp(line.p, SP_SQL_PIN " ", n) != 0 ||
	    sp_unbase64(&raw, sp_span_of(line.p + n, line.n - n)) != SP_OK ||
	    raw.len != 32)
		return NULL;
	snprintf(dst, SP_SQL_PIN_TEXT, "sha256:");
	sp_hex(dst + 7, sp_buf_span(&raw).p, 32);
	return dst;
}

bool
sp_sql_kind_goes(struct sp_call *c, const struct sp_rows *target, uint8_t kind)
{
	if (sp_sql_kind_fits(sp_sql_protocol(sp_rows_get(target, 0, "protocol")),
	    kind))
		return true;
	sp_call_fail(c, SP_EXIT_REFUSED, "%s has no accounts of --kind %s: a "
	    "database has postgresql, pg-role or mariadb, a host cert, key or "
	    "password", sp_rows_get(target, 0, "name"), sp_kind_name(kind));
	return false;
}

/* KEY=VALUE for each of the option's values. */
static const char *
add_names(struct sp_call *c, const char *option, const char *key, char *sql,
    size_t cap)
{
	const char *v;

	for (size_t i = 0; (v = sp_call_opt_n(c, option, i)) != NULL; i++) {
		size_t o = strlen(sql);

		if (!sp_sql_name_is_valid(sp_span_str(v)))
			return "a name in a database is 1 to 63 bytes without blanks";
		if (o + strlen(key) + strlen(v) + 3 > cap)
			return "too many names";
		snprintf(sql + o, cap - o, "%s%s=%s", o > 0 ? " " : "", key, v);
	}
	return NULL;
}

const char *
sp_sql_target_args(struct sp_call *c, struct sp_sql_target *t)
{
	const char *binding = sp_call_opt(c, "channel-binding"), *bad;

	t->protocol = sp_call_opt(c, "protocol");
	t->is_given = binding != NULL || sp_call_opt(c, "database") != NULL;
	if (t->protocol != NULL && sp_sql_protocol(t->protocol) == UINT8_MAX)
		return "--protocol is ssh, postgresql or mariadb";
	if (t->protocol != NULL && strcmp(t->protocol, "ssh") == 0)
		t->protocol = NULL;
	if (binding != NULL && strcmp(binding, "required") != 0 &&
	    strcmp(binding, "optional") != 0)
		return "--channel-binding wants required or optional";
	if ((bad = add_names(c, "database", SP_SQL_DATABASE, t->sql,
	    sizeof(t->sql))) != NULL)
		return bad;
	if (binding != NULL && strcmp(binding, "optional") == 0 &&
	    strlen(t->sql) + sizeof(SP_SQL_UNBOUND) + 1 < sizeof(t->sql))
		snprintf(t->sql + strlen(t->sql), sizeof(t->sql) - strlen(t->sql),
		    "%s" SP_SQL_UNBOUND, t->sql[0] == '\0' ? "" : " ");
	return NULL;
}

const char *
sp_sql_account_args(struct sp_call *c, uint8_t kind, char *sql, size_t cap)
{
	const char *admin = sp_call_opt(c, "admin");
	const char *limit = sp_call_opt(c, "limit");
	const char *bad;
	uint64_t n;

	if (kind != SP_CRED_PG_ROLE)
		return admin == NULL && limit == NULL &&
		    sp_call_opt(c, "member") == NULL ? NULL : "--admin, --member and "
		    "--limit are for accounts of --kind pg-role";
	if (admin == NULL || !sp_name_is_valid(sp_span_str(admin)) ||
	    sp_call_opt(c, "member") == NULL)
		return "a role for each session wants --admin ACCOUNT (an account of "
		    "--kind postgresql on the same target that may create roles) and "
		    "--member ROLE (what its sessions may do)";
	if (limit != NULL && (sp_u64_parse(sp_span_str(limit), 1000, &n) != SP_OK ||
	    n == 0))
		return "--limit wants a number from 1 to 1000";
	snprintf(sql, cap, SP_SQL_ADMIN "=%s%s%s", admin, limit == NULL ? "" :
	    " " SP_SQL_LIMIT "=", limit == NULL ? "" : limit);
	bad = add_names(c, "member", SP_SQL_MEMBER, sql, cap);
	return bad;
}
