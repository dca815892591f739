/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <string.h>

/* The registry: every sealed table with its columns in canonical order, how
 * PostgreSQL prints them, and which of them ever change (sql/ grants UPDATE on
 * exactly those). C(name, kind, may change) */
#define PEOPLE(C) C(name, TEXT, 0) C(display, TEXT, 1) C(enabled, BOOL, 1)
#define PERSON_KEYS(C)                                                        \
	C(person_id, UUID, 0) C(algo, TEXT, 0) C(blob, BYTES, 0)              \
	C(comment, TEXT, 1) C(enabled, BOOL, 1)
#define MEMBERSHIPS(C) C(person_id, UUID, 0) C(group_name, TEXT, 0)
#define TOTP(C) C(person_id, UUID, 0) C(sealed, BYTES, 1)
#define TARGETS(C)                                                            \
	C(name, TEXT, 0) C(addr, TEXT, 1) C(port, INT, 1)                     \
	C(host_keys, TEXT, 1) C(tags, TEXT, 1) C(enabled, BOOL, 1)            \
	C(more_addrs, TEXT, LATER) C(via, UUID, LATER) C(legacy, BOOL, LATER) \
	C(reconcile, UUID, LATER) C(protocol, TEXT, ONCE) C(sql, TEXT, LATER)
#define ACCOUNTS(C)                                                           \
	C(target_id, UUID, 0) C(name, TEXT, 0) C(kind, INT, 1)                \
	C(secret_id, UUID, 1) C(rotate, TEXT, LATER)                          \
	C(password_rule, TEXT, LATER) C(disabled, BOOL, LATER)                \
	C(exclusive, BOOL, LATER) C(sql, TEXT, LATER)
#define SECRETS(C)                                                            \
	C(owner_id, UUID, 0) C(kind, INT, 1) C(sealed, BYTES, 1)              \
	C(account_id, UUID, LATER) C(version, INT, LATER)                     \
	C(state, TEXT, LATER) C(made_us, INT, LATER) C(tag, BYTES, LATER)     \
	C(rule, BYTES, LATER)
#define POLICIES(C)                                                           \
	C(seq, INT, 0) C(body, TEXT, 0) C(hash, TEXT, 0)                      \
	C(loaded_by, TEXT, 0) C(loaded_us, INT, 0)
#define REQUESTS(C)                                                           \
	C(num, INT, 0) C(person_id, UUID, 0) C(account_id, UUID, 0)           \
	C(target_id, UUID, 0) C(reason, TEXT, 0) C(ticket, TEXT, 0)           \
	C(seconds, INT, 0) C(approvals, INT, 0) C(approver_group, TEXT, 0)    \
	C(rule, TEXT, 0) C(policy_hash, TEXT, 0) C(state, TEXT, 1)            \
	C(created_us, INT, 0) C(expires_us, INT, 0) C(rules, BYTES, ONCE) \
	C(purpose, TEXT, ONCE) C(challenge, BYTES, ONCE)                      \
	C(shown_us, INT, LATER)
#define DECISIONS(C)                                                          \
	C(request_id, UUID, 0) C(requester_id, UUID, 0)                       \
	C(approver_id, UUID, 0) C(verdict, TEXT, 0) C(comment, TEXT, 0)       \
	C(at_us, INT, 0) C(signature, BYTES, ONCE)
#define GRANTS(C)                                                             \
	C(request_id, UUID, 0) C(person_id, UUID, 0) C(account_id, UUID, 0)   \
	C(target_id, UUID, 0) C(starts_us, INT, 0) C(ends_us, INT, 1)         \
	C(rights, INT, 0) C(state, TEXT, 1) C(ended_by, TEXT, 1)              \
	C(rules, BYTES, ONCE)
#define ROTATIONS(C)                                                          \
	C(state, TEXT, 1) C(why, TEXT, 1) C(due_us, INT, 1)                   \
	C(last_us, INT, 1) C(failures, INT, 1) C(node, TEXT, 1)               \
	C(claimed_us, INT, 1)
#define REVOKED(C)                                                            \
	C(what, TEXT, 0) C(value, TEXT, 0) C(reason, TEXT, 0)                 \
	C(made_by, TEXT, 0) C(made_us, INT, 0) C(until_us, INT, 0)
#define KITS(C)                                                               \
	C(k, INT, 0) C(n, INT, 0) C(note, TEXT, 0) C(made_by, TEXT, 0)        \
	C(made_us, INT, 0) C(expires_us, INT, 0) C(receipt_key, BYTES, 0)     \
	C(entries, TEXT, 0) C(opened_at, TEXT, 1) C(opened_by, TEXT, 1)       \
	C(opened_why, TEXT, 1) C(imported_by, TEXT, 1) C(imported_us, INT, 1) \
	C(reviewed_by, TEXT, 1) C(reviewed_us, INT, 1) C(review, TEXT, 1)
#define TABLES(T)                                                             \
	T(PEOPLE, people) T(PERSON_KEYS, person_keys)                         \
	T(MEMBERSHIPS, memberships) T(TOTP, totp) T(TARGETS, targets)         \
	T(ACCOUNTS, accounts) T(SECRETS, secrets) T(POLICIES, policies)       \
	T(REQUESTS, requests) T(DECISIONS, decisions) T(GRANTS, grants)  \
	T(ROTATIONS, rotations) T(KITS, break_glass_kits) T(REVOKED, revoked)

#define LATER 2	/* may change, and came after rows had been sealed without it */
#define ONCE 3	/* the same, and never changes */
#define NAME(name, kind, may) #name,
#define COL(name, kind_, may)                                                 \
	{.kind = SP_K_##kind_, .may_change = (may) == 1 || (may) == LATER,      \
	    .is_later = (may) >= LATER},
#define ARRAYS(T, t)                                                          \
	static const char *const t##_names[] = {T(NAME)};                     \
	static const struct sp_col t##_cols[] = {T(COL)};
TABLES(ARRAYS)

#define DEF(T, t)                                                             \
	[SP_T_##T] = {.name = #t, .cols = t##_names,                          \
	    .n_cols = sizeof(t##_names) / sizeof(t##_names[0])},
const struct sp_table_def sp_tables[SP_T_COUNT_] = {TABLES(DEF)};

#define COLS(T, t) [SP_T_##T] = t##_cols,
const struct sp_col *const sp_table_cols[SP_T_COUNT_] = {TABLES(COLS)};

enum sp_err
sp_canon(struct sp_buf *b, enum sp_table t, const char *const *values)
{
	size_t n = sp_tables[t].n_cols;

	/* Later columns are the last ones; those that say nothing are as if they
	 * were not there, so that seals of before hold. Each value has its length
	 * in front: a row with fewer cannot be read as one with more. */
	while (n > 0 && sp_table_cols[t][n - 1].is_later && values[n - 1] == NULL)
		n--;
	for (size_t i = 0; i < n; i++)
		if (values[i] == NULL)
			SP_TRY(sp_buf_put_u32(b, UINT32_MAX));
		else
			SP_TRY(sp_buf_put_bytes(b, sp_span_str(values[i])));
	return b->len > SP_CANON_MAX ? SP_ERR_TOOBIG : SP_OK;
}

int
sp_table_owner(enum sp_table t)
{
	if (t != SP_T_PERSON_KEYS && t != SP_T_MEMBERSHIPS && t != SP_T_TOTP)
		return -1;
	for (size_t i = 0; i < sp_tables[t].n_cols; i++)
		if (strcmp(sp_tables[t].cols[i], "person_id") == 0)
			return (int)i;
	return -1;
}

static bool
is_decimal(const char *s)
{
	size_t n;

	if (*s == '-' && s[1] != '0')
		s++;
	n = strspn(s, "0123456789");
	return n > 0 && n < 20 && s[n] == '\0' && (s[0] != '0' || n == 1);
}

static bool
is_uuid(const char *s)
{
	uint8_t u[16];
	char again[SP_UUID_TEXT];

	if (sp_uuid_parse(u, sp_span_str(s)) != SP_OK)
		return false;
	sp_uuid_text(again, u);
	return strcmp(s, again) == 0;
}

static bool
is_bytea(const char *s)
{
	size_t n;

	if (s[0] != '\\' || s[1] != 'x')
		return false;
	n = strspn(s + 2, "0123456789abcdef");
	return s[2 + n] == '\0' && n % 2 == 0;
}

bool
sp_is_canonical(enum sp_col_kind kind, const char *value)
{
	switch (kind) {
	case SP_K_TEXT:
		return sp_utf8_is_valid(sp_span_str(value));
	case SP_K_UUID:
		return is_uuid(value);
	case SP_K_BOOL:
		return strcmp(value, "t") == 0 || strcmp(value, "f") == 0;
	case SP_K_INT:
		return is_decimal(value);
	case SP_K_BYTES:
		return is_bytea(value);
	}
	return false;
}

void
sp_bytea_text(char *out, const uint8_t *p, size_t n)
{
	out[0] = '\\';
	out[1] = 'x';
	sp_hex(out + 2, p, n);
}

enum sp_err
sp_bytea_parse(const char *text, uint8_t *out, size_t n)
{
	if (text == NULL || text[0] != '\\' || text[1] != 'x')
		return SP_ERR_SYNTAX;
	return sp_unhex(out, n, sp_span_str(text + 2));
}
