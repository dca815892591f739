/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_POLICY_MODEL_H
#define SP_TESTS_POLICY_MODEL_H

#include "common/buf.h"
#include "policy/policy.h"

/*
 * The slow reference: random policies as plain structs, printed as text for
 * the engine, and evaluated here in another way. Addresses are strings of bits,
 * hours are a map of the week's minutes, and the three values are looked up in
 * the truth tables of Kleene's logic. It shares no code with policy/.
 */
enum { NO, MAYBE, YES };	/* what a truth table is indexed by */
#define ATOMS_MAX 6
#define LIST_MAX 3
#define RULES_MAX 8
#define DEFS_MAX 4
#define PATHS_MAX 3

struct m_net {
	int n;
	int family[LIST_MAX];	/* 4 or 6 */
	uint8_t addr[LIST_MAX][16];
	int bits[LIST_MAX];
};
struct m_hours {
	int n;
	int first[LIST_MAX], last[LIST_MAX], from[LIST_MAX], to[LIST_MAX];
};
struct m_expr {
	int op;			/* 'a' and, 'o' or, 'n' not, 's' 't' 'm' atoms */
	int arg;
	struct m_expr *l, *r;
};
struct m_list {
	bool absent, any;
	int n;
	int kind[LIST_MAX];	/* 0: user, target, account; 1: group, tag */
	int name[LIST_MAX];
};
/* What the channels may do: numbers into tables of texts; -1: not written. */
struct m_rights {
	int plain;			/* bits of the first five rights */
	int n_forward, n_listen, forward[LIST_MAX], listen[LIST_MAX];
	int file, session, idle, hold;
	int n_path, path[PATHS_MAX], ops[PATHS_MAX];
	bool path_forbids[PATHS_MAX];
	int files, exec;		/* 0: full, 1: digest */
	int env;			/* bits; 0: none */
};
struct m_rule {
	int id;
	bool forbid;
	struct m_list who, on, as;
	struct m_expr *when;
	int approvals, approvers, mfa, minutes;
	struct m_rights rights;
};
struct m_policy {
	struct m_net net[DEFS_MAX];
	struct m_hours hours[DEFS_MAX];
	struct m_rule rule[RULES_MAX + 1];
	int n_rules;
};
struct m_facts {
	int user, target, account;	/* -1: unknown */
	int groups[LIST_MAX], n_groups;	/* n -1: unknown */
	int tags[LIST_MAX], n_tags;
	int family;			/* 0: unknown; 46: IPv4-mapped */
	uint8_t addr[16];
	int minute, weekday, mfa;
};

/* model_rights.c */
void m_make_rights(struct m_rights *r);
void m_print_rights(const struct m_rights *r, struct sp_buf *out);
void m_decide_rights(const struct m_rights *r, struct sp_verdict *v);
const char *m_gap(void);

uint64_t m_random(uint64_t below);
void m_seed(uint64_t seed);
void m_make_policy(struct m_policy *p);
void m_make_rule(struct m_rule *r, int id, bool forbid);
void m_make_facts(struct m_facts *f);
void m_free_policy(struct m_policy *p);
/* The text that the engine parses: same meaning, random looks. */
void m_print(const struct m_policy *p, struct sp_buf *out);
/* Writes allow, rule and what is owed. */
void m_decide(const struct m_policy *p, const struct m_facts *f,
    struct sp_verdict *v);

#endif
