/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_POLICY_POLICY_H
#define SP_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/rules.h"

/*
 * The decision engine: facts in, verdict and reasons out. No I/O, no clock, no
 * database. The language is described in doc/policy.md and sallyport-policy(5).
 *
 *   group-less example
 *   network office 10.0.0.0/8, 127.0.0.0/8, ::1
 *   hours worktime mon-fri 08:00-19:00
 *   permit "dba-change" who group dba on tag core as admin, legacy
 *     when source in office and time in worktime
 *     require approval 1 of approvers, mfa totp for 2h
 *     allow shell, exec, upload, download
 *   forbid "vendor-night" who group vendor when not time in worktime
 *
 * Deny is the default. forbid overrides permit. An unknown fact makes a permit
 * not apply and a forbid apply. Of several permits that apply, the first in the
 * text decides the obligations of its own; every rule has a unique name.
 */
enum sp_mfa { SP_MFA_NONE = 0, SP_MFA_TOTP = 1, SP_MFA_SK = 2, SP_MFA_SK_UV = 3 };

#define SP_POLICY_TEXT_MAX 65536
#define SP_POLICY_RULES_MAX 4096	/* encoded rules of one permit, in bytes */

struct sp_policy_diag {
	unsigned line, column;	/* from 1; columns count characters */
	char text[256];		/* what is wrong and what would be right */
};

struct sp_facts {
	/* NULL or "" is unknown, for every name */
	const char *user;
	/* groups, tags: NULL with a count of 0 is none, with more unknown. A
	 * NULL element: there are more that did not fit or could not be read;
	 * they may be any. Never cut a list without it: a forbid would miss. */
	const char *const *groups;
	size_t n_groups;
	const char *target, *account;
	const char *const *tags;
	size_t n_tags;
	const char *source;	/* numeric address; NULL: unknown */
	int minute_of_day;	/* local time of the bastion; -1: unknown */
	int weekday;		/* 0 = Sunday; -1: unknown */
	int mfa;		/* enum sp_mfa; -1: unknown */
};

struct sp_verdict {
	bool allow;		/* false until proven otherwise */
	char rule[64];		/* the rule that decided; "" for the default */
	unsigned approvals;	/* how many */
	char approvers[64];	/* group; "" when approvals is 0 */
	enum sp_mfa mfa;	/* level demanded */
	int64_t longest_us;	/* 0: none given: the engine's cap of 8 h holds */
	uint32_t rights;	/* enum sp_rights, also in rules */
	/* struct sp_rules, encoded: what the channels may do; none when denied */
	uint16_t n_rules;
	uint8_t rules[SP_POLICY_RULES_MAX];
	char reasons[1024];	/* which rules applied, which atom failed */
};

struct sp_policy;
/* Parses and compiles; text is UTF-8. The result is immutable. */
SP_MUST enum sp_err sp_policy_parse(struct sp_span text, struct sp_policy **out,
    struct sp_policy_diag *diag);
void sp_policy_free(struct sp_policy *p);	/* NULL is fine */
/* Never fails: what cannot be decided is denied. policy NULL denies. */
void sp_policy_decide(const struct sp_policy *p, const struct sp_facts *f,
    struct sp_verdict *v);
/* The names of things that the text mentions, for checks against the
 * inventory; i from 0; NULL past the end. */
const char *sp_policy_group(const struct sp_policy *p, size_t i);
const char *sp_policy_tag(const struct sp_policy *p, size_t i);
/* The encoded rules of the permit of this name, or an empty span. */
struct sp_span sp_policy_rules(const struct sp_policy *p, const char *name);
size_t sp_policy_n_rules(const struct sp_policy *p);
/* A line for each rule: name, kind, what would apply for these facts, and the
 * first atom that fails: what `policy explain` prints. */
SP_MUST enum sp_err sp_policy_explain(const struct sp_policy *p,
    const struct sp_facts *f, struct sp_buf *out);

#endif
