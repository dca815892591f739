/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "policy/compile.h"

#define APPROVALS_MAX 16
#define LONGEST_US (8LL * 3600 * 1000000)	/* the engine's cap */

struct sp_pol_block {
	struct sp_pol_block *next;
	_Alignas(16) uint8_t bytes[];
};

/* What a name in the text stands for, for look-ups in constant time. */
enum space { SPACE_NETWORK, SPACE_HOURS, SPACE_RULE, SPACE_GROUP, SPACE_TAG };
struct sp_pol_name {
	struct sp_pol_name *next;
	enum space space;
	const char *name;
	struct sp_pos at;
	struct sp_def *def;
};

void *
sp_pol_alloc(struct sp_policy_ctx *c, size_t n)
{
	struct sp_pol_block *b = calloc(1, sizeof(*b) + n);

	if (b == NULL) {
		sp_pol_fail(c, c->now, "out of memory");
		c->err = SP_ERR_NOMEM;
		return NULL;
	}
	b->next = c->p->blocks;
	c->p->blocks = b;
	return b->bytes;
}

const char *
sp_pol_copy(struct sp_policy_ctx *c, const char *s, size_t n)
{
	char *d = sp_pol_alloc(c, n + 1);

	if (d != NULL && n > 0)
		memcpy(d, s, n);
	return d;
}

bool
sp_pol_fail(struct sp_policy_ctx *c, struct sp_pos at, const char *fmt, ...)
{
	char raw[sizeof(c->diag->text)];
	va_list ap;

	if (c->err != SP_OK)
		return false;
	c->err = SP_ERR_SYNTAX;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	c->diag->line = at.line;
	c->diag->column = at.column;
	sp_vis(c->diag->text, sizeof(c->diag->text), sp_span_str(raw));
	return false;
}

static struct sp_pol_name **
bucket(struct sp_policy_ctx *c, enum space space, const char *name)
{
	uint32_t h = 2166136261U ^ (uint32_t)space;

	for (; *name != '\0'; name++)
		h = (h ^ (uint8_t)*name) * 16777619U;
	return &c->names[h % SP_POL_BUCKETS];
}

static struct sp_pol_name *
find(struct sp_policy_ctx *c, enum space space, const char *name)
{
	struct sp_pol_name *k = *bucket(c, space, name);

	while (k != NULL && (k->space != space || strcmp(k->name, name) != 0))
		k = k->next;
	return k;
}

static struct sp_pol_name *
add(struct sp_policy_ctx *c, enum space space, const char *name,
    struct sp_pos at)
{
	struct sp_pol_name **b = bucket(c, space, name);
	struct sp_pol_name *k = sp_pol_alloc(c, sizeof(*k));

	if (k == NULL)
		return NULL;
	*k = (struct sp_pol_name){.next = *b, .space = space, .name = name,
	    .at = at};
	*b = k;
	return k;
}

static const char *
space_text(enum space space)
{
	return space == SPACE_NETWORK ? "network" :
	    space == SPACE_HOURS ? "hours" : "rule";
}

static struct sp_pol_name *
define(struct sp_policy_ctx *c, enum space space, const struct sp_word *w)
{
	struct sp_pol_name *k = find(c, space, w->s);

	if (k != NULL) {
		sp_pol_fail(c, w->at,
		    "%s \"%s\" is defined a second time; the first is in line %u",
		    space_text(space), w->s, k->at.line);
		return NULL;
	}
	return add(c, space, w->s, w->at);
}

/* Remembers a group or tag that the text mentions, once. */
static bool
mention(struct sp_policy_ctx *c, enum space space, struct sp_names *to,
    const struct sp_word *w)
{
	if (find(c, space, w->s) != NULL)
		return true;
	if (to->n == to->room) {
		size_t room = to->room == 0 ? 16 : 2 * to->room;
		const char **v = sp_pol_alloc(c, room * sizeof(*v));

		if (v == NULL)
			return false;
		if (to->n > 0)
			memcpy(v, to->v, to->n * sizeof(*v));
		to->v = v;
		to->room = room;
	}
	to->v[to->n++] = w->s;
	return add(c, space, w->s, w->at) != NULL;
}

bool
sp_pol_def_begin(struct sp_policy_ctx *c, bool is_hours,
    const struct sp_word *name)
{
	enum space space = is_hours ? SPACE_HOURS : SPACE_NETWORK;
	struct sp_pol_name *k;
	struct sp_def *d;

	if (!sp_pol_name_ok(c, name, space_text(space)))
		return false;
	if (c->p->n_defs == SP_POL_DEFS_MAX)
		return sp_pol_fail(c, name->at,
		    "more than %d networks and hours", SP_POL_DEFS_MAX);
	if ((k = define(c, space, name)) == NULL ||
	    (d = sp_pol_alloc(c, sizeof(*d))) == NULL)
		return false;
	d->name = name->s;
	d->is_hours = is_hours;
	d->index = c->p->n_defs++;
	d->cidr_tail = &d->cidrs;
	d->span_tail = &d->spans;
	*c->p->def_tail = d;
	c->p->def_tail = &d->next;
	k->def = c->def = d;
	return true;
}

bool
sp_pol_rule_begin(struct sp_policy_ctx *c, bool is_forbid,
    const struct sp_word *name)
{
	struct sp_rule *r;

	if (name->s[0] == '\0' || strlen(name->s) > 63)
		return sp_pol_fail(c, name->at,
		    "a rule's name has 1 to 63 bytes; this one has %zu",
		    strlen(name->s));
	if (define(c, SPACE_RULE, name) == NULL ||
	    (r = sp_pol_alloc(c, sizeof(*r))) == NULL)
		return false;
	r->name = name->s;
	r->at = name->at;
	r->is_forbid = is_forbid;
	sp_pol_rights_begin(c);
	r->who.tail = &r->who.items;
	r->on.tail = &r->on.items;
	r->as.tail = &r->as.items;
	*c->p->rule_tail = r;
	c->p->rule_tail = &r->next;
	c->p->n_rules++;
	c->rule = r;
	return true;
}

bool
sp_pol_rule_end(struct sp_policy_ctx *c)
{
	struct sp_rule *r = c->rule;
	const char *lacks = NULL;

	if (r->is_forbid) {
		if (r->seen == 0)
			return sp_pol_fail(c, r->at, "forbid \"%s\" has no clause "
			    "and would refuse everybody; to mean that, write: "
			    "who anyone", r->name);
		return true;
	}
	if ((r->seen & SP_CLAUSE_WHO) == 0)
		lacks = "who user NAME, who group NAME or who anyone";
	else if ((r->seen & SP_CLAUSE_ON) == 0)
		lacks = "on target NAME, on tag NAME or on any";
	else if ((r->seen & SP_CLAUSE_AS) == 0)
		lacks = "as ACCOUNT or as any";
	if (lacks != NULL)
		return sp_pol_fail(c, r->at, "permit \"%s\" lacks: %s", r->name,
		    lacks);
	return sp_pol_rights_end(c);
}

static const char *
clause_text(enum sp_clause which)
{
	switch (which) {
	case SP_CLAUSE_WHO: return "who";
	case SP_CLAUSE_ON: return "on";
	case SP_CLAUSE_AS: return "as";
	case SP_CLAUSE_WHEN: return "when";
	case SP_CLAUSE_REQUIRE: return "require";
	case SP_CLAUSE_FOR: return "for";
	case SP_CLAUSE_ALLOW: return "allow";
	case SP_CLAUSE_APPROVAL: return "approval";
	case SP_CLAUSE_MFA: return "mfa";
	case SP_CLAUSE_LIMIT: return "limit";
	case SP_CLAUSE_PATH: return "path";
	case SP_CLAUSE_RECORD: return "record";
	case SP_CLAUSE_ENV: return "env";
	case SP_CLAUSE_HOLD: return "hold";
	}
	return "?";
}

bool
sp_pol_clause(struct sp_policy_ctx *c, enum sp_clause which, struct sp_pos at)
{
	struct sp_rule *r = c->rule;
	unsigned forbids = SP_CLAUSE_WHO | SP_CLAUSE_ON | SP_CLAUSE_AS |
	    SP_CLAUSE_WHEN;

	if (r->is_forbid && (which & forbids) == 0)
		return sp_pol_fail(c, at, "forbid takes who, on, as and when; "
		    "\"%s\" belongs to a permit", clause_text(which));
	if ((r->seen & which & ~(unsigned)(SP_CLAUSE_PATH | SP_CLAUSE_LIMIT |
	    SP_CLAUSE_RECORD)) != 0)
		return sp_pol_fail(c, at, "\"%s\" is given twice in rule \"%s\"; "
		    "several values stand in one list", clause_text(which),
		    r->name);
	r->seen |= which;
	sp_pol_rights_clause(c, which);
	c->select = which == SP_CLAUSE_WHO ? &r->who :
	    which == SP_CLAUSE_ON ? &r->on : which == SP_CLAUSE_AS ? &r->as :
	    NULL;
	if (c->select != NULL)
		c->select->is_given = true;
	return true;
}

void
sp_pol_any(struct sp_policy_ctx *c)
{
	c->select->is_any = true;
}

bool
sp_pol_item(struct sp_policy_ctx *c, enum sp_item_kind kind,
    const struct sp_word *name)
{
	static const char *const what[] = {[SP_ITEM_USER] = "user",
	    [SP_ITEM_GROUP] = "group", [SP_ITEM_TARGET] = "target",
	    [SP_ITEM_TAG] = "tag", [SP_ITEM_ACCOUNT] = "account"};
	struct sp_item *i;

	if (!sp_pol_name_ok(c, name, what[kind]))
		return false;
	if (kind == SP_ITEM_GROUP &&
	    !mention(c, SPACE_GROUP, &c->p->groups, name))
		return false;
	if (kind == SP_ITEM_TAG && !mention(c, SPACE_TAG, &c->p->tags, name))
		return false;
	if ((i = sp_pol_alloc(c, sizeof(*i))) == NULL)
		return false;
	i->kind = c->kind = kind;
	i->name = name->s;
	*c->select->tail = i;
	c->select->tail = &i->next;
	return true;
}

static struct sp_node *
new_node(struct sp_policy_ctx *c, enum sp_node_kind kind)
{
	struct sp_node *n = sp_pol_alloc(c, sizeof(*n));

	if (n != NULL) {
		n->kind = kind;
		n->tail = &n->child;
	}
	return n;
}

/* `a and b and c` becomes one node of three: depth comes only from what the
 * writer nested, and that is capped. */
struct sp_node *
sp_pol_node(struct sp_policy_ctx *c, enum sp_node_kind kind, struct sp_node *a,
    struct sp_node *b)
{
	struct sp_node *n = a;

	if (a->kind != kind || kind == SP_NODE_NOT) {
		if ((n = new_node(c, kind)) == NULL)
			return NULL;
		*n->tail = a;
		n->tail = &a->next;
	}
	if (b != NULL) {
		*n->tail = b;
		n->tail = &b->next;
	}
	return n;
}

struct sp_node *
sp_pol_ref(struct sp_policy_ctx *c, enum sp_node_kind kind,
    const struct sp_word *name)
{
	struct sp_node *n = new_node(c, kind);

	if (n == NULL)
		return NULL;
	n->ref = *name;
	*c->ref_tail = n;
	c->ref_tail = &n->next_ref;
	return n;
}

struct sp_node *
sp_pol_mfa_atom(struct sp_policy_ctx *c, const struct sp_word *level)
{
	struct sp_node *n = new_node(c, SP_NODE_MFA);

	if (n == NULL || !sp_pol_level(c, level, &n->level))
		return NULL;
	n->ref = *level;
	return n;
}

bool
sp_pol_deeper(struct sp_policy_ctx *c)
{
	if (++c->depth > SP_POL_DEPTH_MAX)
		return sp_pol_fail(c, c->now,
		    "nested deeper than %d; split the rule", SP_POL_DEPTH_MAX);
	return true;
}

bool
sp_pol_approval(struct sp_policy_ctx *c, const struct sp_word *n,
    const struct sp_word *group)
{
	uint64_t v;

	if (sp_u64_parse(sp_span_str(n->s), APPROVALS_MAX, &v) != SP_OK || v == 0)
		return sp_pol_fail(c, n->at, "approval wants a number from 1 to "
		    "%d, like: approval 1 of approvers", APPROVALS_MAX);
	if (!sp_pol_name_ok(c, group, "group") ||
	    !mention(c, SPACE_GROUP, &c->p->groups, group))
		return false;
	c->rule->approvals = (unsigned)v;
	c->rule->approvers = group->s;
	return true;
}

bool
sp_pol_mfa(struct sp_policy_ctx *c, const struct sp_word *level)
{
	return sp_pol_level(c, level, &c->rule->mfa);
}

bool
sp_pol_longest(struct sp_policy_ctx *c, const struct sp_word *w)
{
	int64_t us;

	if (sp_duration_parse(sp_span_str(w->s), &us) != SP_OK || us <= 0 ||
	    us > LONGEST_US)
		return sp_pol_fail(c, w->at, "\"%s\" is no length of time from 1s "
		    "to 8h, like 90s, 15m, 2h or 1h30m", w->s);
	c->rule->longest_us = us;
	return true;
}

bool
sp_pol_resolve(struct sp_policy_ctx *c)
{
	for (struct sp_node *n = c->refs; n != NULL; n = n->next_ref) {
		bool hours = n->kind == SP_NODE_TIME;
		enum space space = hours ? SPACE_HOURS : SPACE_NETWORK;
		struct sp_pol_name *k = find(c, space, n->ref.s);
		struct sp_near near = {.word = n->ref.s};

		if (k != NULL) {
			n->def = k->def;
			continue;
		}
		for (struct sp_def *d = c->p->defs; d != NULL; d = d->next)
			if (d->is_hours == hours)
				sp_pol_near_offer(&near, d->name);
		if (near.best != NULL)
			return sp_pol_fail(c, n->ref.at,
			    "unknown %s \"%s\": did you mean \"%s\"?",
			    space_text(space), n->ref.s, near.best);
		return sp_pol_fail(c, n->ref.at, hours ?
		    "unknown hours \"%s\"; define them: hours NAME mon-fri 08:00-19:00" :
		    "unknown network \"%s\"; define it: network NAME 192.0.2.0/24",
		    n->ref.s);
	}
	return true;
}

void
sp_policy_free(struct sp_policy *p)
{
	struct sp_pol_block *b;

	if (p == NULL)
		return;
	while ((b = p->blocks) != NULL) {
		p->blocks = b->next;
		free(b);
	}
	free(p);
}
