/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "policy/compile.h"
#include "policy/rules.h"

#define LIST_MAX 6	/* names that are listed before "..." */

struct text {
	char *p;
	size_t cap;
};

static void SP_PRINTF(2, 3)
put(struct text *t, const char *fmt, ...)
{
	size_t n = strlen(t->p);
	va_list ap;
	int k;

	va_start(ap, fmt);
	k = vsnprintf(t->p + n, t->cap - n, fmt, ap);
	va_end(ap);
	/* What does not fit is cut, but never within a character. */
	for (n = strlen(t->p); k > 0 && n > 0 &&
	    !sp_utf8_is_valid(sp_span_of(t->p, n)); n--)
		t->p[n - 1] = '\0';
}

/* A fact, shown: names of people and places come from outside. */
static void
put_fact(struct text *t, const char *label, const char *fact)
{
	char shown[64];

	if (fact == NULL || fact[0] == '\0')
		put(t, "%s is unknown", label);
	else
		put(t, "%s is %s", label,
		    sp_vis(shown, sizeof(shown), sp_span_str(fact)));
}

static void
put_facts(struct text *t, const char *label, const char *const *facts, size_t n)
{
	char shown[64];

	if (n == 0) {
		put(t, "%s: none", label);
		return;
	}
	if (facts == NULL) {
		put(t, "%s unknown", label);
		return;
	}
	put(t, "%s ", label);
	for (size_t i = 0; i < n; i++) {
		if (i == LIST_MAX) {
			put(t, ", ...");
			return;
		}
		put(t, "%s%s", i > 0 ? ", " : "", facts[i] == NULL ? "?" :
		    sp_vis(shown, sizeof(shown), sp_span_str(facts[i])));
	}
}

static void
put_select(struct text *t, const struct sp_select *s)
{
	static const char *const kinds[] = {[SP_ITEM_USER] = "user ",
	    [SP_ITEM_GROUP] = "group ", [SP_ITEM_TARGET] = "target ",
	    [SP_ITEM_TAG] = "tag ", [SP_ITEM_ACCOUNT] = ""};
	int n = 0;

	for (const struct sp_item *i = s->items; i != NULL; i = i->next, n++) {
		if (n == LIST_MAX) {
			put(t, ", ...");
			return;
		}
		put(t, "%s%s%s", n > 0 ? ", " : "", kinds[i->kind], i->name);
	}
}

static void
blame_select(struct sp_eval *e, const struct sp_rule *r,
    const struct sp_select *s, bool want, struct text *t)
{
	const struct sp_facts *f = e->f;

	if (s == &r->who) {
		put_fact(t, "user", f->user);
		put_facts(t, ", groups", f->groups, f->n_groups);
	} else if (s == &r->on) {
		put_fact(t, "target", f->target);
		put_facts(t, ", tags", f->tags, f->n_tags);
	} else {
		put_fact(t, "account", f->account);
	}
	put(t, want ? "; would have to be " : "; would have to be other than ");
	put_select(t, s);
}

static void
put_def(struct text *t, const struct sp_def *d)
{
	int n = 0;

	put(t, "%s %s (", d->is_hours ? "hours" : "network", d->name);
	for (const struct sp_cidr *k = d->cidrs; k != NULL; k = k->next, n++) {
		if (n == LIST_MAX) {
			put(t, ", ...");
			break;
		}
		put(t, "%s%s", n > 0 ? ", " : "", k->text);
	}
	n = 0;
	for (const struct sp_span_of_week *k = d->spans; k != NULL;
	    k = k->next, n++) {
		if (n == LIST_MAX) {
			put(t, ", ...");
			break;
		}
		put(t, "%s%s", n > 0 ? ", " : "", k->text);
	}
	put(t, ")");
}

static void
blame_atom(struct sp_eval *e, const struct sp_node *n, bool want,
    struct text *t)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri",
	    "Sat"};

	if (n->kind == SP_NODE_SOURCE) {
		put_fact(t, "source", e->source_known ? e->f->source : NULL);
	} else if (n->kind == SP_NODE_TIME) {
		if (e->minute < 0 || e->weekday < 0)
			put(t, "time is unknown");
		else
			put(t, "time is %s %02d:%02d", days[e->weekday],
			    e->minute / 60, e->minute % 60);
	} else {
		put(t, "mfa is %s; would have to be %s %s", sp_mfa_text(e->mfa),
		    want ? "at least" : "less than", sp_mfa_text((int)n->level));
		return;
	}
	put(t, "; would have to be %s ", want ? "in" : "known and outside");
	put_def(t, n->def);
}

/* The first atom on the way to why n is not surely `want`. */
static void
blame_node(struct sp_eval *e, const struct sp_node *n, bool want,
    struct text *t)
{
	for (;;) {
		enum sp_tri goal = want ? SP_TRI_YES : SP_TRI_NO;
		const struct sp_node *k;

		if (n->kind == SP_NODE_NOT) {
			want = !want;
			n = n->child;
			continue;
		}
		if (n->kind != SP_NODE_AND && n->kind != SP_NODE_OR)
			break;
		k = n->child;
		while (k->next != NULL && sp_eval_node(e, k) == goal)
			k = k->next;
		n = k;
	}
	blame_atom(e, n, want, t);
}

void
sp_eval_blame(struct sp_eval *e, const struct sp_rule *r, enum sp_tri want,
    char *out, size_t cap)
{
	const struct sp_select *s[] = {&r->who, &r->on, &r->as};
	struct text t = {out, cap};
	bool yes = want == SP_TRI_YES;

	out[0] = '\0';
	/* To escape a forbid, the conditions are what a person can change. */
	if (!yes && r->when != NULL) {
		blame_node(e, r->when, false, &t);
		return;
	}
	for (size_t i = 0; i < 3; i++)
		if (s[i]->items != NULL && (!yes ||
		    sp_eval_select(e, s[i]) != SP_TRI_YES)) {
			blame_select(e, r, s[i], yes, &t);
			return;
		}
	if (r->when != NULL)
		blame_node(e, r->when, true, &t);
	else
		put(&t, "it applies to everything");
}

static enum sp_err
duties(struct sp_buf *out, const struct sp_rule *r)
{
	static struct sp_rules rules;
	char length[SP_TIME_TEXT];

	SP_TRY(sp_rules_decode(r->rules, &rules));
	SP_TRY(sp_buf_printf(out, "; allows "));
	SP_TRY(sp_rules_text(out, &rules));
	if (r->approvals > 0)
		SP_TRY(sp_buf_printf(out, "; requires approval %u of %s",
		    r->approvals, r->approvers));
	if (r->mfa != SP_MFA_NONE)
		SP_TRY(sp_buf_printf(out, "; requires mfa %s",
		    sp_mfa_text((int)r->mfa)));
	if (r->longest_us > 0) {
		sp_duration_text(length, r->longest_us);
		SP_TRY(sp_buf_printf(out, "; for at most %s", length));
	}
	return SP_OK;
}

enum sp_err
sp_policy_explain(const struct sp_policy *p, const struct sp_facts *f,
    struct sp_buf *out)
{
	struct sp_eval e;
	char why[512];

	if (p == NULL || f == NULL)
		return sp_buf_printf(out, "no policy is loaded: all is denied\n");
	sp_eval_init(&e, p, f);
	for (const struct sp_rule *r = p->rules; r != NULL; r = r->next) {
		enum sp_tri t = sp_eval_rule(&e, r);
		bool applies = r->is_forbid ? t != SP_TRI_NO : t == SP_TRI_YES;

		SP_TRY(sp_buf_printf(out, "%s \"%s\" %s",
		    r->is_forbid ? "forbid" : "permit", r->name,
		    applies ? "applies" : "does not apply"));
		if (applies && !r->is_forbid) {
			SP_TRY(duties(out, r));
		} else {
			sp_eval_blame(&e, r, applies ? SP_TRI_NO : SP_TRI_YES, why,
			    sizeof(why));
			SP_TRY(sp_buf_printf(out, ": %s", why));
		}
		SP_TRY(sp_buf_printf(out, "\n"));
	}
	if (p->n_rules == 0)
		return sp_buf_printf(out, "the policy has no rules: all is denied\n");
	return SP_OK;
}
