/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_POLICY_COMPILE_H
#define SP_POLICY_COMPILE_H

#include "common/ipc_messages.h"
#include "common/rules.h"
#include "policy/policy.h"

/*
 * The compiled form of a policy, and what the grammar calls to build it. Inner
 * header of policy/: nobody else includes it. Everything hangs on one arena
 * that belongs to the policy, so that an error anywhere frees all.
 */
struct sp_pos {
	unsigned line, column;
};
struct sp_word {
	const char *s;
	struct sp_pos at;
};

/* Kleene's three values, ordered so that `and` is the least, `or` the most. */
enum sp_tri { SP_TRI_NO = 0, SP_TRI_UNSURE = 1, SP_TRI_YES = 2 };

struct sp_addr {
	bool is_v4;		/* also for IPv4-mapped IPv6 */
	uint8_t b[16];
};
struct sp_cidr {
	struct sp_cidr *next;
	struct sp_addr addr;
	unsigned bits;
	const char *text;
};
struct sp_span_of_week {
	struct sp_span_of_week *next;
	uint8_t days;		/* bit 0: Sunday; the days on which it begins */
	int from, to;		/* minutes; from > to: until the next day */
	const char *text;
};

/* A network or hours: evaluated at most once in a decision. */
struct sp_def {
	struct sp_def *next;
	const char *name;
	bool is_hours;
	size_t index;		/* into the memo of a decision */
	struct sp_cidr *cidrs, **cidr_tail;
	struct sp_span_of_week *spans, **span_tail;
};
#define SP_POL_DEFS_MAX 4096
#define SP_POL_DEPTH_MAX 64

enum sp_node_kind { SP_NODE_AND, SP_NODE_OR, SP_NODE_NOT, SP_NODE_SOURCE,
	SP_NODE_TIME, SP_NODE_MFA };
struct sp_node {
	struct sp_node *next;		/* sibling */
	struct sp_node *child, **tail;
	struct sp_node *next_ref;	/* all that name a definition */
	enum sp_node_kind kind;
	enum sp_mfa level;
	struct sp_word ref;
	const struct sp_def *def;
};

enum sp_item_kind { SP_ITEM_USER, SP_ITEM_GROUP, SP_ITEM_TARGET, SP_ITEM_TAG,
	SP_ITEM_ACCOUNT };
struct sp_item {
	struct sp_item *next;
	enum sp_item_kind kind;
	const char *name;
};
struct sp_select {
	bool is_given, is_any;
	struct sp_item *items, **tail;
};

enum sp_clause { SP_CLAUSE_WHO = 1, SP_CLAUSE_ON = 2, SP_CLAUSE_AS = 4,
	SP_CLAUSE_WHEN = 8, SP_CLAUSE_REQUIRE = 16, SP_CLAUSE_FOR = 32,
	SP_CLAUSE_ALLOW = 64, SP_CLAUSE_APPROVAL = 128, SP_CLAUSE_MFA = 256,
	SP_CLAUSE_LIMIT = 512, SP_CLAUSE_PATH = 1024, SP_CLAUSE_RECORD = 2048,
	SP_CLAUSE_ENV = 4096, SP_CLAUSE_HOLD = 8192 };
struct sp_rule {
	struct sp_rule *next;
	const char *name;
	struct sp_pos at;
	bool is_forbid;
	unsigned seen;		/* enum sp_clause */
	struct sp_select who, on, as;
	struct sp_node *when;
	unsigned approvals;
	const char *approvers;
	enum sp_mfa mfa;
	int64_t longest_us;
	uint32_t rights;
	struct sp_span rules;	/* encoded, of the arena; permits only */
};

struct sp_names {
	const char **v;
	size_t n, room;
};
struct sp_policy {
	struct sp_pol_block *blocks;
	struct sp_rule *rules, **rule_tail;
	size_t n_rules;
	struct sp_def *defs, **def_tail;
	size_t n_defs;
	struct sp_names groups, tags;
};

#define SP_POL_BUCKETS 2048
struct sp_policy_ctx {
	struct sp_policy *p;
	struct sp_policy_diag *diag;
	enum sp_err err;		/* the first error wins */
	/* of the token in hand, of what follows, behind the last token */
	struct sp_pos now, next, after;
	char token[64];			/* its text, for messages */
	struct sp_rule *rule;
	struct sp_rules rules;		/* of the rule in hand */
	bool path_forbids;
	uint32_t path_ops;
	unsigned recorded;		/* which subjects `record` named */
	struct sp_def *def;
	struct sp_select *select;
	enum sp_item_kind kind;
	struct sp_node *refs, **ref_tail;
	unsigned depth;
	struct sp_pol_name *names[SP_POL_BUCKETS];
};

/* Says what is wrong, once; always false. */
bool sp_pol_fail(struct sp_policy_ctx *c, struct sp_pos at, const char *fmt,
    ...) SP_PRINTF(3, 4);
/* Zeroed memory of the policy; NULL after noting SP_ERR_NOMEM. */
void *sp_pol_alloc(struct sp_policy_ctx *c, size_t n);
const char *sp_pol_copy(struct sp_policy_ctx *c, const char *s, size_t n);
/* The nearest of the offered words, for "did you mean"; NULL if none is. */
struct sp_near {
	const char *word, *best;
	size_t best_distance;
};
void sp_pol_near_offer(struct sp_near *n, const char *candidate);

/* scan.l: scans and parses the text, calling the builders below. */
bool sp_pol_scan(struct sp_policy_ctx *c, struct sp_span text);

/* What the grammar calls, in the order of the text; false ends the parse. */
bool sp_pol_def_begin(struct sp_policy_ctx *c, bool is_hours,
    const struct sp_word *name);
bool sp_pol_cidr(struct sp_policy_ctx *c, const struct sp_word *w);
bool sp_pol_hours(struct sp_policy_ctx *c, const struct sp_word *days,
    const struct sp_word *times);
bool sp_pol_rule_begin(struct sp_policy_ctx *c, bool is_forbid,
    const struct sp_word *name);
bool sp_pol_rule_end(struct sp_policy_ctx *c);
bool sp_pol_clause(struct sp_policy_ctx *c, enum sp_clause which,
    struct sp_pos at);
void sp_pol_any(struct sp_policy_ctx *c);
bool sp_pol_item(struct sp_policy_ctx *c, enum sp_item_kind kind,
    const struct sp_word *name);
struct sp_node *sp_pol_node(struct sp_policy_ctx *c, enum sp_node_kind kind,
    struct sp_node *a, struct sp_node *b);
struct sp_node *sp_pol_ref(struct sp_policy_ctx *c, enum sp_node_kind kind,
    const struct sp_word *name);
struct sp_node *sp_pol_mfa_atom(struct sp_policy_ctx *c,
    const struct sp_word *level);
bool sp_pol_deeper(struct sp_policy_ctx *c);
bool sp_pol_approval(struct sp_policy_ctx *c, const struct sp_word *n,
    const struct sp_word *group);
bool sp_pol_mfa(struct sp_policy_ctx *c, const struct sp_word *level);
bool sp_pol_longest(struct sp_policy_ctx *c, const struct sp_word *w);

/* rights.c: what a permit's channels may do. */
void sp_pol_rights_begin(struct sp_policy_ctx *c);
bool sp_pol_rights_end(struct sp_policy_ctx *c);
void sp_pol_rights_clause(struct sp_policy_ctx *c, enum sp_clause which);
bool sp_pol_right(struct sp_policy_ctx *c, const struct sp_word *w);
/* forward to "db-01:5432", listen at "localhost:8080", and more of the last */
bool sp_pol_right_at(struct sp_policy_ctx *c, const struct sp_word *w,
    const char *how, const struct sp_word *place);
bool sp_pol_right_more(struct sp_policy_ctx *c, const struct sp_word *place);
bool sp_pol_hold(struct sp_policy_ctx *c, const struct sp_word *w);
bool sp_pol_limit(struct sp_policy_ctx *c, const struct sp_word *what,
    const struct sp_word *value);
bool sp_pol_path_op(struct sp_policy_ctx *c, const struct sp_word *w);
bool sp_pol_path(struct sp_policy_ctx *c, const struct sp_word *pattern);
bool sp_pol_record(struct sp_policy_ctx *c, const struct sp_word *what,
    const struct sp_word *how);
bool sp_pol_env(struct sp_policy_ctx *c, const struct sp_word *w);

/* After the parse: names that were used are looked up. */
bool sp_pol_resolve(struct sp_policy_ctx *c);

/* words.c: the small forms. */
bool sp_pol_name_ok(struct sp_policy_ctx *c, const struct sp_word *w,
    const char *what);
bool sp_pol_level(struct sp_policy_ctx *c, const struct sp_word *w,
    enum sp_mfa *level);
bool sp_addr_parse(const char *text, struct sp_addr *a);
bool sp_cidr_has(const struct sp_cidr *c, const struct sp_addr *a);

/* decide.c: one decision in the making. */
struct sp_eval {
	const struct sp_policy *p;
	const struct sp_facts *f;
	bool source_known;
	struct sp_addr source;
	int minute, weekday, mfa;	/* -1: unknown or out of range */
	uint8_t memo[SP_POL_DEFS_MAX];
};
void sp_eval_init(struct sp_eval *e, const struct sp_policy *p,
    const struct sp_facts *f);
enum sp_tri sp_eval_node(struct sp_eval *e, const struct sp_node *n);
enum sp_tri sp_eval_select(const struct sp_eval *e, const struct sp_select *s);
enum sp_tri sp_eval_rule(struct sp_eval *e, const struct sp_rule *r);
/* explain.c: the first piece of the rule that is not `want`, and what would
 * have to be different. */
void sp_eval_blame(struct sp_eval *e, const struct sp_rule *r, enum sp_tri want,
    char *out, size_t cap);
const char *sp_mfa_text(int level);

#endif
