/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/policy/model.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc_messages.h"

#define NAMES 4	/* few, so that things meet */

static uint64_t state;

void
m_seed(uint64_t seed)
{
	state = seed * 0x9e3779b97f4a7c15ULL + 1;
}

uint64_t
m_random(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static int
pick(int below)
{
	return (int)m_random((uint64_t)below);
}

/* ----------------------------------------------------------------- making */

static void
make_addr(uint8_t *a, int family)
{
	memset(a, 0, 16);
	/* a few leading bits and a few trailing ones differ */
	a[0] = family == 4 ? 10 : 0x20;
	a[1] = (uint8_t)(pick(3) << 6);
	a[family == 4 ? 3 : 15] = (uint8_t)pick(4);
}

static void
make_net(struct m_net *n)
{
	n->n = 1 + pick(LIST_MAX);
	for (int i = 0; i < n->n; i++) {
		int most, b;

		n->family[i] = pick(2) == 0 ? 4 : 6;
		most = n->family[i] == 4 ? 32 : 128;
		make_addr(n->addr[i], n->family[i]);
		b = pick(4) == 0 ? pick(most + 1) : pick(2) == 0 ? most : most - 2;
		n->bits[i] = pick(3) == 0 ? 10 : b;
		for (int k = n->bits[i]; k < most; k++)
			n->addr[i][k / 8] &= (uint8_t)~(0x80 >> (k % 8));
	}
}

static void
make_hours(struct m_hours *h)
{
	h->n = 1 + pick(LIST_MAX);
	for (int i = 0; i < h->n; i++) {
		h->first[i] = pick(7);
		h->last[i] = pick(2) == 0 ? h->first[i] : pick(7);
		h->from[i] = pick(24) * 60 + pick(2) * 30;
		do
			h->to[i] = pick(25) * 60;
		while (h->to[i] == h->from[i]);
	}
}

static struct m_expr *
make_expr(int depth)
{
	struct m_expr *e = calloc(1, sizeof(*e));
	static const char ops[] = "ssttmmaoaon";

	SP_ASSERT(e != NULL);
	e->op = ops[pick(depth == 0 ? 6 : 11)];
	e->arg = e->op == 'm' ? 1 + pick(3) : pick(DEFS_MAX);
	if (e->op == 'a' || e->op == 'o' || e->op == 'n')
		e->l = make_expr(depth - 1);
	if (e->op == 'a' || e->op == 'o')
		e->r = make_expr(depth - 1);
	return e;
}

static void
make_list(struct m_list *l, bool may_lack, int kinds)
{
	l->absent = may_lack && pick(3) == 0;
	l->any = pick(3) == 0;
	l->n = 1 + pick(LIST_MAX);
	for (int i = 0; i < l->n; i++) {
		l->kind[i] = pick(kinds);
		l->name[i] = pick(NAMES);
	}
}

void
m_make_rule(struct m_rule *r, int id, bool forbid)
{
	*r = (struct m_rule){.id = id, .forbid = forbid};
	make_list(&r->who, forbid, 2);
	make_list(&r->on, forbid, 2);
	make_list(&r->as, forbid, 1);
	if (forbid && r->who.absent && r->on.absent && r->as.absent)
		r->who.absent = false;
	if (pick(4) != 0)
		r->when = make_expr(pick(4));
	if (forbid)
		return;
	r->approvals = pick(3);
	r->approvers = pick(NAMES);
	r->mfa = pick(4);
	r->minutes = pick(3) * 45;
	m_make_rights(&r->rights);
}

void
m_make_policy(struct m_policy *p)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < DEFS_MAX; i++) {
		make_net(&p->net[i]);
		make_hours(&p->hours[i]);
	}
	p->n_rules = 1 + pick(RULES_MAX);
	for (int i = 0; i < p->n_rules; i++)
		m_make_rule(&p->rule[i], i, pick(4) == 0);
}

void
m_make_facts(struct m_facts *f)
{
	static const int families[] = {0, 4, 4, 6, 6, 46};

	memset(f, 0, sizeof(*f));
	f->user = pick(NAMES + 1) - 1;
	f->target = pick(NAMES + 1) - 1;
	f->account = pick(NAMES + 1) - 1;
	f->n_groups = pick(LIST_MAX + 2) - 1;
	f->n_tags = pick(LIST_MAX + 2) - 1;
	for (int i = 0; i < LIST_MAX; i++) {
		f->groups[i] = pick(NAMES);
		f->tags[i] = pick(NAMES);
	}
	f->family = families[pick(6)];
	make_addr(f->addr, f->family == 6 ? 6 : 4);
	f->minute = pick(8) == 0 ? -1 : pick(24) * 60 + pick(3) * 29;
	f->weekday = pick(8) == 0 ? -1 : pick(7);
	f->mfa = pick(5) - 1;
}

static void
free_expr(struct m_expr *e)
{
	if (e == NULL)
		return;
	free_expr(e->l);
	free_expr(e->r);
	free(e);
}

void
m_free_policy(struct m_policy *p)
{
	for (int i = 0; i < p->n_rules; i++)
		free_expr(p->rule[i].when);
}

/* --------------------------------------------------------------- printing */

#define OUT(...) SP_ASSERT(sp_buf_printf(out, __VA_ARGS__) == SP_OK)

const char *
m_gap(void)
{
	static const char *const gaps[] = {" ", " ", "  ", "\n\t", " # 註\n", "\r\n"};

	return gaps[pick(6)];
}

static void
print_defs(const struct m_policy *p, struct sp_buf *out)
{
	static const char *const days[] = {"sun", "mon", "tue", "wed", "thu",
	    "fri", "sat"};
	char t[64];

	for (int i = 0; i < DEFS_MAX; i++) {
		const struct m_hours *h = &p->hours[i];

		OUT("network n%d", i);
		for (int k = 0; k < p->net[i].n; k++) {
			SP_ASSERT(inet_ntop(p->net[i].family[k] == 4 ? AF_INET :
			    AF_INET6, p->net[i].addr[k], t, sizeof(t)) != NULL);
			OUT("%s%s%s/%d", k > 0 ? "," : "", m_gap(), t,
			    p->net[i].bits[k]);
		}
		OUT("%shours h%d", m_gap(), i);
		for (int k = 0; k < h->n; k++) {
			OUT("%s%s%s", k > 0 ? "," : "", m_gap(), days[h->first[k]]);
			if (h->first[k] != h->last[k])
				OUT("-%s", days[h->last[k]]);
			OUT(" %02d:%02d-%02d:%02d", h->from[k] / 60, h->from[k] % 60,
			    h->to[k] / 60, h->to[k] % 60);
		}
		OUT("\n");
	}
}

static void
print_list(const struct m_list *l, const char *clause, const char *zero,
    const char *one, const char *any, struct sp_buf *out)
{
	if (l->absent)
		return;
	OUT("%s%s", m_gap(), clause);
	if (l->any) {
		OUT(" %s", any);
		return;
	}
	for (int i = 0; i < l->n; i++)
		OUT("%s%s%s%c%d", i > 0 ? "," : "", m_gap(),
		    l->kind[i] == 0 ? zero : one, 'a' + l->kind[i], l->name[i]);
}

/* Everything that could bind in two ways stands in parentheses; the rest does
 * by chance. */
static void
print_expr(const struct m_expr *e, int around, struct sp_buf *out)
{
	static const char *const levels[] = {"none", "totp", "sk", "sk+uv"};
	bool par = (e->op == 'o' && around != 'o') ||
	    (e->op == 'a' && around == 'n') || pick(4) == 0;

	if (par)
		OUT("(");
	if (e->op == 'a' || e->op == 'o') {
		print_expr(e->l, e->op, out);
		OUT("%s%s%s", m_gap(), e->op == 'a' ? "and" : "or", m_gap());
		print_expr(e->r, e->op, out);
	} else if (e->op == 'n') {
		OUT("not ");
		print_expr(e->l, 'n', out);
	} else if (e->op == 's') {
		OUT("source in n%d", e->arg);
	} else if (e->op == 't') {
		OUT("time in h%d", e->arg);
	} else {
		OUT("mfa >= %s", levels[e->arg]);
	}
	if (par)
		OUT(")");
}

static void
print_duties(const struct m_rule *r, struct sp_buf *out)
{
	static const char *const levels[] = {"none", "totp", "sk", "sk+uv"};

	if (r->approvals > 0 || r->mfa > 0)
		OUT("%srequire", m_gap());
	if (r->approvals > 0)
		OUT(" approval %d of b%d%s", r->approvals, r->approvers,
		    r->mfa > 0 ? "," : "");
	if (r->mfa > 0)
		OUT(" mfa %s", levels[r->mfa]);
	if (r->minutes > 0)
		OUT("%sfor %dm", m_gap(), r->minutes);
	m_print_rights(&r->rights, out);
}

void
m_print(const struct m_policy *p, struct sp_buf *out)
{
	print_defs(p, out);
	for (int i = 0; i < p->n_rules; i++) {
		const struct m_rule *r = &p->rule[i];

		OUT("%s \"r%d\"", r->forbid ? "forbid" : "permit", r->id);
		print_list(&r->who, "who", "user ", "group ", "anyone", out);
		print_list(&r->on, "on", "target ", "tag ", "any", out);
		print_list(&r->as, "as", "", "", "any", out);
		if (r->when != NULL) {
			OUT("%swhen%s", m_gap(), m_gap());
			print_expr(r->when, 'o', out);
		}
		if (!r->forbid)
			print_duties(r, out);
		OUT("%s", m_gap());
	}
}

/* -------------------------------------------------------------- reference */

static const int and_table[3][3] = {{NO, NO, NO}, {NO, MAYBE, MAYBE},
    {NO, MAYBE, YES}};
static const int or_table[3][3] = {{NO, MAYBE, YES}, {MAYBE, MAYBE, YES},
    {YES, YES, YES}};
static const int not_table[3] = {YES, MAYBE, NO};

static void
bits_of(const uint8_t *a, int n, char *bits)
{
	for (int i = 0; i < n; i++)
		bits[i] = (a[i / 8] >> (7 - i % 8) & 1) != 0 ? '1' : '0';
	bits[n] = '\0';
}

static int
ref_source(const struct m_net *n, const struct m_facts *f)
{
	int family = f->family == 46 ? 4 : f->family;
	char a[129], b[129];

	if (family == 0)
		return MAYBE;
	bits_of(f->addr, family == 4 ? 32 : 128, a);
	for (int i = 0; i < n->n; i++) {
		bits_of(n->addr[i], n->family[i] == 4 ? 32 : 128, b);
		if (n->family[i] == family &&
		    strncmp(a, b, (size_t)n->bits[i]) == 0)
			return YES;
	}
	return NO;
}

static int
ref_time(const struct m_hours *h, const struct m_facts *f)
{
	static bool week[7 * 1440];

	if (f->minute < 0 || f->weekday < 0)
		return MAYBE;
	memset(week, 0, sizeof(week));
	for (int i = 0; i < h->n; i++)
		for (int d = h->first[i];; d = (d + 1) % 7) {
			int length = (h->to[i] - h->from[i] + 1440) % 1440;

			if (length == 0)
				length = 1440;
			for (int m = 0; m < length; m++)
				week[(d * 1440 + h->from[i] + m) % (7 * 1440)] = true;
			if (d == h->last[i])
				break;
		}
	return week[f->weekday * 1440 + f->minute] ? YES : NO;
}

static int
ref_expr(const struct m_policy *p, const struct m_expr *e,
    const struct m_facts *f)
{
	switch (e->op) {
	case 'a':
		return and_table[ref_expr(p, e->l, f)][ref_expr(p, e->r, f)];
	case 'o':
		return or_table[ref_expr(p, e->l, f)][ref_expr(p, e->r, f)];
	case 'n':
		return not_table[ref_expr(p, e->l, f)];
	case 's':
		return ref_source(&p->net[e->arg], f);
	case 't':
		return ref_time(&p->hours[e->arg], f);
	default:
		return f->mfa < 0 ? MAYBE : f->mfa >= e->arg ? YES : NO;
	}
}

static int
ref_list(const struct m_list *l, int one, const int *many, int n_many)
{
	int v = NO;

	if (l->absent || l->any)
		return YES;
	for (int i = 0; i < l->n; i++) {
		int t = l->kind[i] == 0 ? (one < 0 ? MAYBE :
		    one == l->name[i] ? YES : NO) : n_many < 0 ? MAYBE : NO;

		for (int k = 0; l->kind[i] == 1 && k < n_many; k++)
			if (many[k] == l->name[i])
				t = YES;
		v = or_table[v][t];
	}
	return v;
}

static int
ref_rule(const struct m_policy *p, const struct m_rule *r,
    const struct m_facts *f)
{
	int v = ref_list(&r->who, f->user, f->groups, f->n_groups);

	v = and_table[v][ref_list(&r->on, f->target, f->tags, f->n_tags)];
	v = and_table[v][ref_list(&r->as, f->account, NULL, 0)];
	return r->when == NULL ? v : and_table[v][ref_expr(p, r->when, f)];
}

void
m_decide(const struct m_policy *p, const struct m_facts *f,
    struct sp_verdict *v)
{
	const struct m_rule *by = NULL;

	memset(v, 0, sizeof(*v));
	for (int i = p->n_rules - 1; i >= 0; i--)
		if (!p->rule[i].forbid && ref_rule(p, &p->rule[i], f) == YES)
			by = &p->rule[i];
	for (int i = p->n_rules - 1; i >= 0; i--)
		if (p->rule[i].forbid && ref_rule(p, &p->rule[i], f) != NO)
			by = &p->rule[i];
	if (by == NULL)
		return;
	snprintf(v->rule, sizeof(v->rule), "r%d", by->id);
	if (by->forbid)
		return;
	v->allow = true;
	v->approvals = (unsigned)by->approvals;
	if (by->approvals > 0)
		snprintf(v->approvers, sizeof(v->approvers), "b%d", by->approvers);
	v->mfa = (enum sp_mfa)by->mfa;
	v->longest_us = (int64_t)by->minutes * 60 * 1000000;
	m_decide_rights(&by->rights, v);
}
