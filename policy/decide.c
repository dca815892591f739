/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "policy/compile.h"

#define NOT_YET 0xff
#define DAY_MINUTES (24 * 60)

/* Characters that show something else than is there (controls, bidirectional
 * marks) are refused even in comments: an auditor must read what is parsed. */
static bool
check_text(struct sp_policy_ctx *c, struct sp_span s)
{
	struct sp_pos at = {1, 1};
	char shown[32];

	while (s.n > 0) {
		bool plain = (s.p[0] >= 0x20 && s.p[0] < 0x7f) ||
		    s.p[0] == '\n' || s.p[0] == '\r' || s.p[0] == '\t';
		size_t n = 1;

		while (n < s.n && n < 4 && (s.p[n] & 0xc0) == 0x80)
			n++;
		if (!sp_utf8_is_valid(sp_span_of(s.p, n)))
			return sp_pol_fail(c, at, "byte 0x%02x is not UTF-8; save the "
			    "text as UTF-8", s.p[0]);
		if (!plain && sp_vis(shown, sizeof(shown),
		    sp_span_of(s.p, n))[0] == '\\')
			return sp_pol_fail(c, at, "the character %s cannot be seen "
			    "and is not allowed; delete it", shown + 1);
		at.column = s.p[0] == '\n' ? 1 : at.column + 1;
		at.line += s.p[0] == '\n' ? 1 : 0;
		s.p += n;
		s.n -= n;
	}
	return true;
}

static enum sp_err
parse(struct sp_policy_ctx *c, struct sp_span text)
{
	if (text.n > SP_POLICY_TEXT_MAX)
		sp_pol_fail(c, (struct sp_pos){1, 1}, "the text has %zu bytes; at "
		    "most %d are read", text.n, SP_POLICY_TEXT_MAX);
	else if (check_text(c, text) && sp_pol_scan(c, text))
		(void)sp_pol_resolve(c);
	else if (c->err == SP_OK)
		sp_pol_fail(c, c->now, "this cannot be read");
	return c->err;
}

enum sp_err
sp_policy_parse(struct sp_span text, struct sp_policy **out,
    struct sp_policy_diag *diag)
{
	struct sp_policy_ctx *c = calloc(1, sizeof(*c));
	struct sp_policy *p = calloc(1, sizeof(*p));
	enum sp_err e = SP_ERR_NOMEM;

	*diag = (struct sp_policy_diag){0};
	if (c != NULL && p != NULL) {
		p->rule_tail = &p->rules;
		p->def_tail = &p->defs;
		c->p = p;
		c->diag = diag;
		c->now = c->next = c->after = (struct sp_pos){1, 1};
		c->ref_tail = &c->refs;
		e = parse(c, text);
	}
	free(c);
	if (e != SP_OK) {
		sp_policy_free(p);
		return e;
	}
	*out = p;
	return SP_OK;
}

const char *
sp_policy_group(const struct sp_policy *p, size_t i)
{
	return p == NULL || i >= p->groups.n ? NULL : p->groups.v[i];
}

const char *
sp_policy_tag(const struct sp_policy *p, size_t i)
{
	return p == NULL || i >= p->tags.n ? NULL : p->tags.v[i];
}

size_t
sp_policy_n_rules(const struct sp_policy *p)
{
	return p == NULL ? 0 : p->n_rules;
}

struct sp_span
sp_policy_rules(const struct sp_policy *p, const char *name)
{
	for (const struct sp_rule *r = p == NULL ? NULL : p->rules; r != NULL;
	    r = r->next)
		if (!r->is_forbid && strcmp(r->name, name) == 0)
			return r->rules;
	return (struct sp_span){0};
}

/* ------------------------------------------------------------- evaluation */

void
sp_eval_init(struct sp_eval *e, const struct sp_policy *p,
    const struct sp_facts *f)
{
	e->p = p;
	e->f = f;
	e->source_known = f->source != NULL && sp_addr_parse(f->source, &e->source);
	e->minute = f->minute_of_day < 0 || f->minute_of_day >= DAY_MINUTES ? -1 :
	    f->minute_of_day;
	e->weekday = f->weekday < 0 || f->weekday > 6 ? -1 : f->weekday;
	e->mfa = f->mfa < SP_MFA_NONE || f->mfa > SP_MFA_SK_UV ? -1 : f->mfa;
	memset(e->memo, NOT_YET, p->n_defs);
}

static enum sp_tri
in_network(const struct sp_eval *e, const struct sp_def *d)
{
	if (!e->source_known)
		return SP_TRI_UNSURE;
	for (const struct sp_cidr *k = d->cidrs; k != NULL; k = k->next)
		if (sp_cidr_has(k, &e->source))
			return SP_TRI_YES;
	return SP_TRI_NO;
}

static enum sp_tri
in_hours(const struct sp_eval *e, const struct sp_def *d)
{
	int m = e->minute;
	unsigned today, yesterday;

	if (m < 0 || e->weekday < 0)
		return SP_TRI_UNSURE;
	today = 1U << e->weekday;
	yesterday = 1U << ((e->weekday + 6) % 7);
	for (const struct sp_span_of_week *k = d->spans; k != NULL; k = k->next) {
		if (k->from < k->to) {
			if ((k->days & today) != 0 && m >= k->from && m < k->to)
				return SP_TRI_YES;
		} else if (((k->days & today) != 0 && m >= k->from) ||
		    ((k->days & yesterday) != 0 && m < k->to)) {
			return SP_TRI_YES;
		}
	}
	return SP_TRI_NO;
}

static enum sp_tri
in_def(struct sp_eval *e, const struct sp_def *d)
{
	uint8_t *memo = &e->memo[d->index];

	if (*memo == NOT_YET)
		*memo = (uint8_t)(d->is_hours ? in_hours(e, d) : in_network(e, d));
	return (enum sp_tri)*memo;
}

static enum sp_tri
least_or_most(struct sp_eval *e, const struct sp_node *n, bool least)
{
	enum sp_tri v = least ? SP_TRI_YES : SP_TRI_NO;

	for (const struct sp_node *k = n->child; k != NULL; k = k->next) {
		enum sp_tri t = sp_eval_node(e, k);

		if (least ? t < v : t > v)
			v = t;
	}
	return v;
}

enum sp_tri
sp_eval_node(struct sp_eval *e, const struct sp_node *n)
{
	switch (n->kind) {
	case SP_NODE_AND:
		return least_or_most(e, n, true);
	case SP_NODE_OR:
		return least_or_most(e, n, false);
	case SP_NODE_NOT:
		return (enum sp_tri)(SP_TRI_YES - sp_eval_node(e, n->child));
	case SP_NODE_SOURCE:
	case SP_NODE_TIME:
		return in_def(e, n->def);
	case SP_NODE_MFA:
		return e->mfa < 0 ? SP_TRI_UNSURE :
		    e->mfa >= (int)n->level ? SP_TRI_YES : SP_TRI_NO;
	}
	return SP_TRI_UNSURE;
}

static enum sp_tri
is_name(const char *fact, const char *name)
{
	if (fact == NULL || fact[0] == '\0')
		return SP_TRI_UNSURE;
	return strcmp(fact, name) == 0 ? SP_TRI_YES : SP_TRI_NO;
}

static enum sp_tri
has_name(const char *const *facts, size_t n, const char *name)
{
	enum sp_tri v = SP_TRI_NO;

	if (facts == NULL)
		return n == 0 ? SP_TRI_NO : SP_TRI_UNSURE;
	for (size_t i = 0; i < n; i++) {
		enum sp_tri t = is_name(facts[i], name);

		if (t == SP_TRI_YES)
			return t;
		v = t > v ? t : v;
	}
	return v;
}

static enum sp_tri
item(const struct sp_facts *f, const struct sp_item *i)
{
	switch (i->kind) {
	case SP_ITEM_USER:
		return is_name(f->user, i->name);
	case SP_ITEM_GROUP:
		return has_name(f->groups, f->n_groups, i->name);
	case SP_ITEM_TARGET:
		return is_name(f->target, i->name);
	case SP_ITEM_TAG:
		return has_name(f->tags, f->n_tags, i->name);
	case SP_ITEM_ACCOUNT:
		return is_name(f->account, i->name);
	}
	return SP_TRI_UNSURE;
}

/* A clause that is not there selects everything: only a forbid can lack one. */
enum sp_tri
sp_eval_select(const struct sp_eval *e, const struct sp_select *s)
{
	enum sp_tri v = SP_TRI_NO;

	if (!s->is_given || s->is_any)
		return SP_TRI_YES;
	for (const struct sp_item *i = s->items; i != NULL; i = i->next) {
		enum sp_tri t = item(e->f, i);

		if (t == SP_TRI_YES)
			return t;
		v = t > v ? t : v;
	}
	return v;
}

enum sp_tri
sp_eval_rule(struct sp_eval *e, const struct sp_rule *r)
{
	const struct sp_select *s[] = {&r->who, &r->on, &r->as};
	enum sp_tri v = SP_TRI_YES;

	for (size_t i = 0; i < 3 && v != SP_TRI_NO; i++) {
		enum sp_tri t = sp_eval_select(e, s[i]);

		v = t < v ? t : v;
	}
	if (v != SP_TRI_NO && r->when != NULL) {
		enum sp_tri t = sp_eval_node(e, r->when);

		v = t < v ? t : v;
	}
	return v;
}

/* ---------------------------------------------------------------- verdict */

/* Appends to the reasons; false once there is no room. */
static bool SP_PRINTF(2, 3)
say(struct sp_verdict *v, const char *fmt, ...)
{
	size_t at = strlen(v->reasons), room = sizeof(v->reasons) - at;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(v->reasons + at, room, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n + 4 < room)
		return true;
	snprintf(v->reasons + at, room, room > 4 ? " ..." : "");
	return false;
}

/* Did the rule choose these people, this target and account, so that only its
 * conditions stand in the way? */
static bool
is_near(const struct sp_eval *e, const struct sp_rule *r)
{
	return sp_eval_select(e, &r->who) == SP_TRI_YES &&
	    sp_eval_select(e, &r->on) == SP_TRI_YES &&
	    sp_eval_select(e, &r->as) == SP_TRI_YES;
}

static void
say_why_denied(struct sp_eval *e, struct sp_verdict *v)
{
	char why[256];

	say(v, "no permit applies");
	for (int near = 1; near >= 0; near--)
		for (const struct sp_rule *r = e->p->rules; r != NULL; r = r->next) {
			if (r->is_forbid || is_near(e, r) != (near == 1))
				continue;
			sp_eval_blame(e, r, SP_TRI_YES, why, sizeof(why));
			if (!say(v, "; permit \"%s\": %s", r->name, why))
				return;
		}
}

static void
say_others(struct sp_eval *e, struct sp_verdict *v, const struct sp_rule *first)
{
	for (const struct sp_rule *r = first->next; r != NULL; r = r->next) {
		enum sp_tri t;

		if (r->is_forbid != first->is_forbid)
			continue;
		t = sp_eval_rule(e, r);
		if (r->is_forbid ? t == SP_TRI_NO : t != SP_TRI_YES)
			continue;
		if (!say(v, "; %s \"%s\" applies too",
		    r->is_forbid ? "forbid" : "permit", r->name))
			return;
	}
}

static void
take(struct sp_verdict *v, const struct sp_rule *r)
{
	v->allow = true;
	v->approvals = r->approvals;
	snprintf(v->approvers, sizeof(v->approvers), "%s",
	    r->approvals == 0 ? "" : r->approvers);
	v->mfa = r->mfa;
	v->longest_us = r->longest_us;
	v->rights = r->rights;
	v->n_rules = (uint16_t)r->rules.n;
	memcpy(v->rules, r->rules.p, r->rules.n);
}

void
sp_policy_decide(const struct sp_policy *p, const struct sp_facts *f,
    struct sp_verdict *v)
{
	const struct sp_rule *permit = NULL, *forbid = NULL, *r;
	struct sp_eval e;
	char why[256];

	*v = (struct sp_verdict){0};
	if (p == NULL || f == NULL) {
		say(v, p == NULL ? "no policy is loaded" : "nothing is known");
		return;
	}
	sp_eval_init(&e, p, f);
	for (r = p->rules; r != NULL && forbid == NULL; r = r->next) {
		enum sp_tri t = r->is_forbid || permit == NULL ?
		    sp_eval_rule(&e, r) : SP_TRI_NO;

		if (r->is_forbid && t != SP_TRI_NO)
			forbid = r;
		else if (!r->is_forbid && t == SP_TRI_YES)
			permit = r;
	}
	r = forbid != NULL ? forbid : permit;
	if (r == NULL) {
		say_why_denied(&e, v);
		return;
	}
	snprintf(v->rule, sizeof(v->rule), "%s", r->name);
	if (forbid != NULL) {
		sp_eval_blame(&e, forbid, SP_TRI_NO, why, sizeof(why));
		say(v, "forbid \"%s\" applies: %s", forbid->name, why);
	} else {
		take(v, permit);
		say(v, "permit \"%s\" applies", permit->name);
	}
	say_others(&e, v, r);
}
